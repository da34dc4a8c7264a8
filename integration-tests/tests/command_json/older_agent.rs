//! Our agent as one that does not have our control version.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use integration_tests::conformance::wire::{id, offer};

/// Listens at `path` and hands every byte on to and from the agent at `target`, but for the offer:
/// of that nothing is left but `version`.
pub(crate) fn stand_in_front(path: &Path, target: &Path, version: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    let target = target.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let target = target.clone();
            // A client that goes away in the middle is none of the relay's business.
            thread::spawn(move || relay(client, target, version));
        }
    });
}

fn relay(mut client: UnixStream, target: PathBuf, version: &str) -> io::Result<()> {
    let mut agent = UnixStream::connect(target)?;
    let mut count = [0; 4];
    agent.read_exact(&mut count)?;
    let mut ids = vec![0; 32 * u32::from_be_bytes(count) as usize];
    agent.read_exact(&mut ids)?;
    client.write_all(&offer(&[id(version)]))?;
    let (mut from_client, mut to_agent) = (client.try_clone()?, agent.try_clone()?);
    thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_agent);
        // The other direction ends with the connection.
        let _ = to_agent.shutdown(Shutdown::Write);
        copied
    });
    io::copy(&mut agent, &mut client)?;
    client.shutdown(Shutdown::Both)
}
