//! An agent's service socket, pretended in the test's own process: it sends what the test says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use kes_wire::opcert::OpCert;
use kes_wire::protocol::Reader;
use kes_wire::protocol::handshake::{Kind, ServerHandshake, Step};
use kes_wire::protocol::service::{ResultReader, ServiceResult, v2_0};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::SERVICE_2_0;
use kes_wire::sum6kes::SignKey;

/// Serves one node at a time, in Service:2.0.
pub struct PretendedAgent {
    listener: UnixListener,
    node: Option<UnixStream>,
    stamp: u64,
}

impl PretendedAgent {
    /// Listens at `path`.
    ///
    /// # Panics
    /// Where that fails.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            listener: UnixListener::bind(path).expect("a socket"),
            node: None,
            stamp: 0,
        }
    }

    /// Waits for a node and settles the version with it.
    ///
    /// # Panics
    /// Where the node does not speak the protocol.
    pub fn accept(&mut self) {
        let (mut node, _) = self.listener.accept().expect("a node");
        let (mut handshake, offer) = ServerHandshake::begin(Kind::Service, &[SERVICE_2_0]);
        node.write_all(&offer).expect("a node that listens");
        match read(&mut node, &mut handshake) {
            Step::Finish(_, bytes) => node.write_all(&bytes).expect("a node that listens"),
            other => panic!("{other:?}"),
        }
        self.node = Some(node);
    }

    /// Waits for a node and says nothing to it.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn accept_raw(&mut self) -> UnixStream {
        self.node = None;
        self.listener.accept().expect("a node").0
    }

    /// The connected node, for what no agent would do.
    ///
    /// # Panics
    /// Where no node is connected.
    pub fn node(&mut self) -> &mut UnixStream {
        self.node.as_mut().expect("a node is connected")
    }

    /// Closes the connection.
    pub fn hang_up(&mut self) {
        self.node = None;
    }

    /// Sends a key with the next stamp, from where it stands, and waits for the answer.
    ///
    /// # Panics
    /// Where no node is connected.
    pub fn send(&mut self, key: &SignKey, opcert: &OpCert) -> ServiceResult {
        self.stamp += 1;
        let message = v2_0::key_message(Stamp(self.stamp), key, opcert);
        let node = self.node.as_mut().expect("a node is connected");
        for piece in message.pieces() {
            node.write_all(piece).expect("a node that listens");
        }
        self.answer()
    }

    /// Says that the key was dropped, and waits for the answer.
    ///
    /// # Panics
    /// Where no node is connected.
    pub fn send_drop(&mut self) -> ServiceResult {
        self.stamp += 1;
        let node = self.node.as_mut().expect("a node is connected");
        node.write_all(&v2_0::dropped(Stamp(self.stamp)))
            .expect("a node that listens");
        self.answer()
    }

    fn answer(&mut self) -> ServiceResult {
        let node = self.node.as_mut().expect("a node is connected");
        read(node, &mut ResultReader::default())
    }
}

fn read<R: Reader<Error: std::fmt::Debug>>(node: &mut UnixStream, reader: &mut R) -> R::Item {
    loop {
        let count = node.read(reader.wants()).expect("a node that speaks");
        assert_ne!(count, 0, "the node went away");
        if let Some(item) = reader.advance(count).expect("what a node says") {
            return item;
        }
    }
}
