//! A liar between the kit and our agent: what goes through it is right but for one fault.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ciborium::Value;
use integration_tests::conformance::rotation;
use integration_tests::conformance::wire::{big_endian, id, offer};

/// What is done to what the agent says, or is told.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// To the versions offered.
    Offer(fn(&mut Vec<[u8; 32]>)),
    /// To the id that is repeated on the service socket.
    Repetition(fn(&mut Vec<u8>)),
    /// To a message of Service:2.0.
    Message(fn(&mut Vec<u8>)),
    /// To a message of Service:2.0 that is not the first on its connection.
    Later(fn(&mut Vec<u8>)),
    /// To a key of the older versions.
    OlderKey(fn(&mut Vec<u8>)),
    /// To an answer of Control:Rotation:1.0.
    Answer(fn(&mut Value)),
    /// To its bytes with the length.
    Frame(fn(&mut Vec<u8>)),
    /// To an answer of a deployed control version.
    Deployed(u64, fn(&mut Vec<u8>)),
    /// To what the client says, by a chunk; the number of bytes that it has said before.
    Told(fn(usize, &mut Vec<u8>)),
    /// A client's end is not handed on as it is: first these bytes.
    CompletedBy(&'static [u8]),
    /// A connection that the agent closes stays open.
    KeepsOpen,
    /// A connection that the agent closes stays open for 10 seconds.
    ClosesLate,
    /// Old messages of Service:2.0 are sent again in place of new ones.
    ServesTheFirst,
    /// Nobody is let in while so many are connected.
    LetsIn(usize),
    /// After a refusal the pending slot is emptied.
    EmptiesAfterRefusals,
    /// Nobody is let in after so many bytes at once.
    DiesOf(usize),
    /// An answer of Control:Rotation:1.0 that does not come in one read is none.
    TakesReadsForMessages,
    /// A client that takes nothing is waited for.
    WaitsForRoom,
    /// A key is served with the certificate that came last, whoever has issued it.
    ServesAnyCertificate,
    /// Our control version is not offered, a failed install loses the staged key, and a drop leaves
    /// no tombstone.
    AsTheReference,
    /// To an answer to a peer.
    PeerAnswer(fn(u32) -> u32),
    /// A connection to a peer that the agent ends stays open.
    StaysWithThePeer,
    /// A peer that has hung up is given up.
    FollowsOnce,
}

/// What both of an agent's sockets have seen.
pub(crate) type LastCertificate = Arc<Mutex<Option<Vec<u8>>>>;

/// Listens at `path` and hands on to `target`, on a thread that ends with the test.
pub(crate) fn listen(path: &Path, target: &Path, fault: Fault, last: &LastCertificate) {
    let listener = UnixListener::bind(path).unwrap();
    let shared = Arc::new(Shared {
        target: target.to_owned(),
        is_service: path.ends_with("kit-service.socket"),
        fault,
        first: Mutex::default(),
        is_dead: Mutex::default(),
        open: Arc::default(),
        last: Arc::clone(last),
    });
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if *shared.is_dead.lock().unwrap() {
                return;
            }
            if let Fault::LetsIn(most) = fault
                && Arc::strong_count(&shared.open) > most
            {
                // Held, and never spoken to.
                std::mem::drop(thread::spawn(move || until_end(client)));
                continue;
            }
            let Ok(agent) = UnixStream::connect(&shared.target) else {
                return;
            };
            pair(client, agent, &shared);
        }
    });
}

fn until_end(mut client: UnixStream) {
    let _ = client.read_to_end(&mut Vec::new());
}

struct Shared {
    target: PathBuf,
    is_service: bool,
    fault: Fault,
    first: Mutex<Option<Vec<u8>>>,
    is_dead: Mutex<bool>,
    open: Arc<()>,
    last: LastCertificate,
}

/// What the client has said on one connection, as far as the other direction has to know it.
#[derive(Default)]
struct Said {
    before: usize,
    version: Vec<u8>,
    request: u64,
}

fn pair(client: UnixStream, agent: UnixStream, shared: &Arc<Shared>) {
    let said = Arc::new(Mutex::new(Said::default()));
    let (client_too, agent_too) = (client.try_clone().unwrap(), agent.try_clone().unwrap());
    let (both, told) = (Arc::clone(shared), Arc::clone(&said));
    thread::spawn(move || hand_to_agent(client_too, agent_too, &both, &told));
    let (both, open) = (Arc::clone(shared), Arc::clone(&shared.open));
    thread::spawn(move || {
        hand_to_client(agent, client, &both, &said);
        drop(open);
    });
}

fn hand_to_agent(
    mut client: UnixStream,
    mut agent: UnixStream,
    shared: &Shared,
    said: &Mutex<Said>,
) {
    let mut buffer = vec![0; 70_000];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let mut bytes = buffer[..count].to_vec();
        if let Fault::DiesOf(most) = shared.fault
            && count >= most
        {
            *shared.is_dead.lock().unwrap() = true;
        }
        {
            let mut said = said.lock().unwrap();
            if let Fault::Told(edit) = shared.fault {
                edit(said.before, &mut bytes);
            }
            let missing = (33 - said.version.len()).min(count);
            said.version.extend(&buffer[..missing]);
            // A request may come with the repeated id before it.
            let at = 65usize.saturating_sub(said.before);
            if count >= at + 2 {
                said.request = big_endian(&buffer[at..at + 2]);
            }
            said.before += count;
            // A byte string of 112 bytes in CBOR.
            if let Some(at) = bytes.windows(2).position(|head| head == [0x58, 112])
                && let Some(certificate) = bytes.get(at + 2..at + 114)
            {
                *shared.last.lock().unwrap() = Some(certificate.to_vec());
            }
        }
        let is_gone = agent.write_all(&bytes).is_err();
        if is_gone && !matches!(shared.fault, Fault::KeepsOpen | Fault::ClosesLate) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
    if let Fault::CompletedBy(bytes) = shared.fault {
        let _ = agent.write_all(bytes);
    }
    let _ = agent.shutdown(Shutdown::Write);
}

fn hand_to_client(
    mut agent: UnixStream,
    mut client: UnixStream,
    shared: &Shared,
    said: &Mutex<Said>,
) {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 70_000];
    let (mut stage, mut messages) = (0, 0);
    while let Ok(count @ 1..) = agent.read(&mut buffer) {
        pending.extend(&buffer[..count]);
        loop {
            let (version, request) = {
                let said = said.lock().unwrap();
                (
                    said.version.get(1..).unwrap_or_default().to_vec(),
                    said.request,
                )
            };
            let Some(length) = next_length(&pending, stage, &version, shared.is_service) else {
                let is_part = stage > 0 && !pending.is_empty();
                if is_part && matches!(shared.fault, Fault::TakesReadsForMessages) {
                    let _ = client.shutdown(Shutdown::Both);
                }
                break;
            };
            let mut item: Vec<u8> = pending.drain(..length).collect();
            match stage {
                0 => edit_offer(shared, &mut item),
                1 if shared.is_service => {
                    if let Fault::Repetition(edit) = shared.fault {
                        edit(&mut item);
                    }
                }
                _ => {
                    messages += 1;
                    edit_message(shared, &version, request, messages, &mut item);
                }
            }
            stage += 1;
            let _ = client.write_all(&item);
        }
    }
    if matches!(shared.fault, Fault::KeepsOpen) {
        return until_end(client);
    }
    if matches!(shared.fault, Fault::ClosesLate) {
        thread::sleep(Duration::from_secs(10));
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// How long the next item is, if it is there whole.
fn next_length(pending: &[u8], stage: usize, version: &[u8], is_service: bool) -> Option<usize> {
    let number = |bytes: &[u8]| usize::try_from(big_endian(bytes)).unwrap();
    let length = match stage {
        _ if pending.is_empty() => return None,
        0 => 4 + 32 * number(pending.get(..4)?),
        1 if is_service => 32,
        _ if version == id("Service:2.0") => [733, 9][usize::from(pending[0])],
        _ if is_service => 724,
        _ if version == id("Control:Rotation:1.0") => 4 + number(pending.get(..4)?),
        // One request, one answer, one write.
        _ => pending.len(),
    };
    (pending.len() >= length).then_some(length)
}

fn edit_offer(shared: &Shared, item: &mut Vec<u8>) {
    if let Fault::Offer(edit) = shared.fault {
        let mut ids = item[4..].as_chunks().0.to_vec();
        edit(&mut ids);
        *item = offer(&ids);
    }
    if matches!(shared.fault, Fault::AsTheReference) {
        let mut ids: Vec<[u8; 32]> = item[4..].as_chunks().0.to_vec();
        ids.retain(|offered| *offered != id("Control:Rotation:1.0"));
        *item = offer(&ids);
    }
}

fn edit_message(shared: &Shared, version: &[u8], request: u64, count: usize, item: &mut Vec<u8>) {
    let is_2_0 = version == id("Service:2.0");
    let is_rotation = version == id("Control:Rotation:1.0");
    match shared.fault {
        Fault::Message(edit) if is_2_0 => edit(item),
        Fault::Later(edit) if is_2_0 && count > 1 => edit(item),
        Fault::OlderKey(edit) if shared.is_service && !is_2_0 => edit(item),
        Fault::Frame(edit) if is_rotation => edit(item),
        Fault::Answer(edit) if is_rotation => {
            let mut answer = ciborium::from_reader(&item[4..]).unwrap();
            edit(&mut answer);
            *item = rotation::frame(&answer);
        }
        Fault::Deployed(to, edit) if !shared.is_service && !is_rotation && to == request => {
            edit(item);
        }
        Fault::ServesTheFirst if is_2_0 && item[0] == 0 => {
            let mut first = shared.first.lock().unwrap();
            *item = first.get_or_insert_with(|| item.clone()).clone();
        }
        Fault::ServesAnyCertificate if is_2_0 && item[0] == 0 => {
            if let Some(last) = &*shared.last.lock().unwrap() {
                item[621..].copy_from_slice(last);
            }
        }
        Fault::EmptiesAfterRefusals if is_rotation && item.get(4..6) == Some(&[0x82, 1]) => {
            drop_pending(shared);
        }
        Fault::AsTheReference if !shared.is_service && request == 3 && *item != [0, 0] => {
            drop_pending(shared);
        }
        Fault::AsTheReference if is_2_0 && count == 1 && item[0] == 1 => item.clear(),
        _ => {}
    }
}

fn drop_pending(shared: &Shared) {
    let mut agent = UnixStream::connect(&shared.target).unwrap();
    let chosen = id("Control:Rotation:1.0");
    let said = [&[1][..], &chosen, &chosen, &[0, 0, 0, 3, 0x82, 5, 0xa0]].concat();
    agent.write_all(&said).unwrap();
    agent.shutdown(Shutdown::Write).unwrap();
    until_end(agent);
}

/// A field of an answer's status, for a fault that changes it.
pub(crate) fn in_status(answer: &mut Value, key: u64) -> Option<&mut Value> {
    let [kind, fields] = &mut answer.as_array_mut()?[..] else {
        return None;
    };
    (*kind == rotation::number(0)).then_some(())?;
    field(field(fields, 2)?, key)
}

/// A structure's field.
pub(crate) fn field(map: &mut Value, key: u64) -> Option<&mut Value> {
    let fields = map.as_map_mut()?.iter_mut();
    let mut found = fields.filter(|(name, _)| *name == rotation::number(key));
    found.next().map(|(_, value)| value)
}
