//! A service socket whose every byte the test decides: a peer agent that says what it is told to.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use kes_wire::opcert::OpCert;
use kes_wire::protocol::service::v2_0;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::{SERVICE_2_0, VersionId};
use kes_wire::sum6kes::SignKey;

use crate::pool::{PATIENCE, until};

/// A service socket that waits to be connected to.
pub struct ScriptedPeer {
    listener: UnixListener,
}

/// A client that has connected and said which version it wants.
pub struct Conversation {
    stream: UnixStream,
    /// What the client said in the handshake.
    pub choice: [u8; 1 + VersionId::BYTES],
}

/// The offer of these versions.
#[must_use]
pub fn offer(versions: &[VersionId]) -> Vec<u8> {
    let count = u32::try_from(versions.len()).unwrap_or(u32::MAX);
    let mut bytes = count.to_be_bytes().to_vec();
    for version in versions {
        bytes.extend(version.as_bytes());
    }
    bytes
}

/// The message of Service:2.0 for a key.
#[must_use]
pub fn key_message(stamp: u64, key: &SignKey, opcert: &OpCert) -> Vec<u8> {
    v2_0::key_message(Stamp(stamp), key, opcert)
        .pieces()
        .concat()
}

/// The message of Service:2.0 for a drop.
#[must_use]
pub fn drop_message(stamp: u64) -> Vec<u8> {
    v2_0::dropped(Stamp(stamp)).to_vec()
}

/// Writes bytes in pieces of at most this size, and lets the other side run in between.
///
/// # Panics
/// Where the other side does not take them.
pub fn write_in_pieces(stream: &mut UnixStream, bytes: &[u8], piece: usize) {
    for part in bytes.chunks(piece) {
        stream.write_all(part).expect("bytes are taken");
        std::thread::yield_now();
    }
}

impl ScriptedPeer {
    /// Listens at a path.
    ///
    /// # Panics
    /// Where that cannot be done.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        listener.set_nonblocking(true).expect("a socket");
        Self { listener }
    }

    /// Waits for a client and offers it Service:2.0.
    #[must_use]
    pub fn accept(&self) -> Conversation {
        self.accept_in_pieces(&offer(&[SERVICE_2_0]), usize::MAX)
    }

    /// Waits for a client, makes it this offer in pieces, and settles on what it chooses.
    ///
    /// # Panics
    /// Where it does not choose.
    #[must_use]
    pub fn accept_in_pieces(&self, offer: &[u8], piece: usize) -> Conversation {
        let (mut stream, _) = until("a client to connect", || self.listener.accept().ok());
        stream.set_nonblocking(false).expect("a socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not zero");
        write_in_pieces(&mut stream, offer, piece);
        let mut choice = [0; 1 + VersionId::BYTES];
        stream.read_exact(&mut choice).expect("a choice");
        write_in_pieces(&mut stream, &choice[1..], piece);
        Conversation { stream, choice }
    }
}

impl Conversation {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.send_in_pieces(bytes, usize::MAX);
    }

    /// Sends bytes in pieces of at most this size.
    pub fn send_in_pieces(&mut self, bytes: &[u8], piece: usize) {
        write_in_pieces(&mut self.stream, bytes, piece);
    }

    /// The client's answer to one message.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn answer(&mut self) -> u32 {
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer).expect("an answer");
        u32::from_be_bytes(answer)
    }

    /// Waits until the client closes, without another word.
    ///
    /// # Panics
    /// Where it says something.
    pub fn until_closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is a close too.
        let _ = self.stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:x?}");
    }
}
