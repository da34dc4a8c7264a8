//! An operator's end of a control connection, on a plain socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use kes_wire::opcert::OpCert;
use kes_wire::protocol::Reader;
use kes_wire::protocol::control::deployed::{
    AgentInfo, AnswerReader, DeployedAnswer, DeployedRequest, v3_0,
};
use kes_wire::protocol::result::ResultCode;
use kes_wire::protocol::version::CONTROL_3_0;
use kes_wire::sum6kes::VerificationKey;

use super::node;
use super::site::PATIENCE;

/// A control connection that has settled Control 3.0.
pub(crate) struct Operator {
    stream: UnixStream,
}

impl Operator {
    /// Connects and settles the version.
    pub(crate) fn connect(path: &Path) -> Self {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        node::choose(&mut stream, CONTROL_3_0).unwrap();
        stream.write_all(CONTROL_3_0.as_bytes()).unwrap();
        Self { stream }
    }

    pub(crate) fn info(&mut self) -> AgentInfo {
        match self.call(DeployedRequest::Info) {
            DeployedAnswer::Info(info) => *info,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn gen_staged_key(&mut self) -> VerificationKey {
        match self.call(DeployedRequest::GenStagedKey) {
            DeployedAnswer::StagedKey(Some(vkey)) => vkey,
            other => panic!("{other:?}"),
        }
    }

    /// Sends the command to install the staged key. The answer is read on its own.
    pub(crate) fn send_install(&mut self, opcert: OpCert) {
        self.send(DeployedRequest::InstallKey(opcert));
    }

    pub(crate) fn read_installed(&mut self, opcert: OpCert) {
        let answer = self.read(DeployedRequest::InstallKey(opcert));
        assert_eq!(answer, DeployedAnswer::Result(ResultCode::Ok));
    }

    fn call(&mut self, request: DeployedRequest) -> DeployedAnswer {
        self.send(request);
        self.read(request)
    }

    fn send(&mut self, request: DeployedRequest) {
        self.stream.write_all(&request.to_wire()).unwrap();
    }

    fn read(&mut self, to: DeployedRequest) -> DeployedAnswer {
        let mut reader = AnswerReader::new(v3_0::LAYOUT, to);
        loop {
            let count = self.stream.read(reader.wants()).unwrap();
            assert!(count > 0, "{} is not answered", to.name());
            if let Some(answer) = reader.advance(count).unwrap() {
                return answer;
            }
        }
    }
}
