//! A liar between our agent and the kit as the peer that it follows.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use crate::wrong_agent::Fault;

/// Listens at `path` for the agent and hands on to the peer at `target`, once there is one.
pub(crate) fn listen(path: &Path, target: &Path, fault: Fault) {
    let listener = UnixListener::bind(path).unwrap();
    let target = target.to_owned();
    thread::spawn(move || {
        let mut has_followed = false;
        for agent in listener.incoming().map_while(Result::ok) {
            let gives_up = has_followed && matches!(fault, Fault::FollowsOnce);
            // The agent comes back for what is not there yet.
            if !gives_up && let Ok(peer) = UnixStream::connect(&target) {
                has_followed = true;
                pair(agent, peer, fault);
            }
        }
    });
}

fn pair(mut agent: UnixStream, mut peer: UnixStream, fault: Fault) {
    let (mut from_peer, mut to_agent) = (peer.try_clone().unwrap(), agent.try_clone().unwrap());
    thread::spawn(move || {
        // Whoever ends it, it has ended.
        let _ = io::copy(&mut from_peer, &mut to_agent);
        let _ = to_agent.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = answers(&mut agent, &mut peer, fault);
        if matches!(fault, Fault::StaysWithThePeer) {
            let _ = peer.read_to_end(&mut Vec::new());
        }
        let _ = peer.shutdown(Shutdown::Both);
    });
}

/// Hands on the choice of a version and then each answer.
fn answers(agent: &mut UnixStream, peer: &mut UnixStream, fault: Fault) -> io::Result<()> {
    let mut choice = [0; 33];
    agent.read_exact(&mut choice)?;
    peer.write_all(&choice)?;
    loop {
        let mut answer = [0; 4];
        agent.read_exact(&mut answer)?;
        if let Fault::PeerAnswer(edit) = fault {
            answer = edit(u32::from_be_bytes(answer)).to_be_bytes();
        }
        peer.write_all(&answer)?;
    }
}
