//! The agent that is deployed, as far as it was recorded: its bytes hold what can be seen in them,
//! and the kit finds what it is known to do otherwise.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use integration_tests::conformance::agent::{self, Options};
use integration_tests::conformance::wire::{big_endian, id};
use integration_tests::pool::TestNetwork;
use integration_tests::session::recorded;
use integration_tests::shared;

use crate::wrong_agent::Fault;
use crate::{agent_report, broken};

/// What the agent said after the offer, in the versions that `extra-*.json` are of.
fn extra(name: &str) -> Option<Vec<u8>> {
    let text = shared::text(&format!("transcripts/extra-{name}.json"))?;
    let pieces: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let bytes = |piece: &serde_json::Value| hex::decode(piece["hex"].as_str().unwrap()).unwrap();
    Some(pieces.iter().flat_map(bytes).collect())
}

/// The recorded offers and answers.
struct Recorded {
    service_offer: Vec<u8>,
    key_2_0: Vec<u8>,
    key_1_0: Vec<u8>,
    control_offer: Vec<u8>,
    staged: Vec<u8>,
    infos: [Vec<u8>; 3],
}

impl Recorded {
    fn read() -> Option<Self> {
        let after = |name: &str, length: usize| {
            let mut offer = recorded(name)?.from_agent;
            let rest = offer.split_off(length);
            Some((offer, rest))
        };
        let (service_offer, after_choice) =
            after("service-01-connect-with-installed-key", 4 + 3 * 32)?;
        let (control_offer, info_3_0) = after("control-12-info-installed", 4 + 4 * 32)?;
        let (_, staged) = after("control-05-export-staged-vkey", 4 + 4 * 32)?;
        Some(Self {
            service_offer,
            key_2_0: after_choice[32..].to_vec(),
            key_1_0: extra("Service_1.0")?[32..].to_vec(),
            control_offer,
            staged,
            infos: [
                info_3_0,
                extra("Control_2.0-info")?,
                extra("Control_StandardCrypto_0.5-info")?,
            ],
        })
    }

    fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        client.write_all(&self.service_offer)?;
        let mut choice = [0; 33];
        client.read_exact(&mut choice)?;
        let is_2_0 = choice[1..] == id("Service:2.0");
        client.write_all(&choice[1..])?;
        client.write_all(if is_2_0 { &self.key_2_0 } else { &self.key_1_0 })?;
        client.read_to_end(&mut Vec::new()).map(drop)
    }

    fn obey(&self, mut client: UnixStream) -> io::Result<()> {
        client.write_all(&self.control_offer)?;
        let mut choice = [0; 65];
        client.read_exact(&mut choice)?;
        let info = match &choice[1..33] {
            version if version == id("Control:3.0") => &self.infos[0],
            version if version == id("Control:2.0") => &self.infos[1],
            _ => &self.infos[2],
        };
        loop {
            let mut request = [0; 2];
            client.read_exact(&mut request)?;
            match big_endian(&request) {
                1 => client.write_all(&self.staged)?,
                4 => client.write_all(info)?,
                // What was not recorded beside these.
                _ => return Ok(()),
            }
        }
    }

    fn listen(&'static self, path: &Path, each: fn(&Self, UnixStream) -> io::Result<()>) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // However it ends.
                thread::spawn(move || each(self, client).is_ok());
            }
        });
    }
}

/// What is in the recorded bytes, and nothing that is the stand-in's own. DEP-11 compares a clock,
/// which is the recording's here.
const IN_THE_BYTES: [&str; 15] = [
    "TR-1", "TR-2", "HS-1", "HS-2", "KEY-1", "KEY-2", "KEY-3", "KEY-4", "SVC-1", "SVC-2", "VER-3",
    "DEP-1", "DEP-2", "DEP-4", "DEP-7",
];

#[test]
fn the_recorded_bytes_hold_what_can_be_seen_in_them() {
    let Some(recorded) = Recorded::read() else {
        return;
    };
    let recorded = Box::leak(Box::new(recorded));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    recorded.listen(&path("service.socket"), Recorded::serve);
    recorded.listen(&path("control.socket"), Recorded::obey);
    let report = agent::run(Options {
        service: Some(path("service.socket")),
        control: Some(path("control.socket")),
        only: IN_THE_BYTES.map(str::to_owned).to_vec(),
        ..Options::default()
    });
    let report = report.unwrap();
    let holds = report.with("holds");
    assert_eq!(holds, IN_THE_BYTES, "{}", report.table());
}

/// A failed install loses the staged key (recordings control-14 and -15), and who connects after a
/// drop is not told of it (service-03).
#[test]
fn what_the_deployed_agent_is_known_to_do_is_found() {
    let report = agent_report(TestNetwork::default(), Fault::AsTheReference, &[]);
    // The certificate that is tried next finds no key. SVC-7 is the stand-in's own.
    let expected = ["DEP-10", "DEP-9", "SVC-7", "TOMB-1"];
    assert_eq!(broken(&report), expected, "{}", report.table());
}
