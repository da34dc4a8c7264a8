//! The recorded service sessions with our running agent: as the client of a peer that says what
//! the reference said, and as the server of a node that says what the reference's node said.
//!
//! What a peer sends keeps its stamp, so that our agent hands the recorded keys on with every byte
//! as it was recorded.

use std::io::Read;
use std::os::unix::net::UnixStream;

use integration_tests::pool::{Agent, PATIENCE, Pool, until};
use integration_tests::scripted_peer::{Conversation, ScriptedPeer, offer, write_in_pieces};
use integration_tests::session::{next, recorded};
use integration_tests::shared;
use kes_wire::protocol::control::deployed::{
    AgentInfo, AnswerReader, DeployedAnswer, DeployedRequest, Layout, PeerConnection, v1_0, v2_0,
    v3_0,
};
use kes_wire::protocol::version::{
    CONTROL_0_5, CONTROL_2_0, CONTROL_3_0, SERVICE_0_4, SERVICE_1_0, VersionId,
};
use kes_wire::unix_time::UnixTime;

use super::differences::Seen;
use super::{PIECES, pool, split_offer};

/// Bytes of the messages of Service:2.0.
const KEY: usize = 733;
const DROPPED: usize = 9;

/// A recorded session, by what was said.
struct Recorded {
    offer: Vec<u8>,
    choice: Vec<u8>,
    repeated: Vec<u8>,
    messages: Vec<Vec<u8>>,
    /// The client's, one to each message.
    answers: Vec<u32>,
}

/// Reads a recording. Its stamps are of November 2026; where this machine's clock is not there
/// yet they are moved back before it, or our agent would decline them.
fn session(name: &str) -> Option<Recorded> {
    let session = recorded(name)?;
    let (offer, rest) = split_offer(&session.from_agent);
    let (repeated, mut rest) = rest.split_at(32);
    let mut messages = Vec::new();
    while let Some(tag) = rest.first() {
        let (message, further) = rest.split_at(if *tag == 0 { KEY } else { DROPPED });
        messages.push(message.to_vec());
        rest = further;
    }
    let newest = messages.iter().map(|m| stamp(m)).max().unwrap_or_default();
    let back = newest.saturating_sub(UnixTime::now().0);
    for message in &mut messages {
        let moved = stamp(message) - back;
        message[1..DROPPED].copy_from_slice(&moved.to_be_bytes());
    }
    let (choice, answers) = session.from_client.split_at(33);
    let answers = answers
        .chunks(4)
        .map(|a| u32::from_be_bytes(a.try_into().unwrap()));
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers.len(), messages.len());
    Some(Recorded {
        offer: offer.to_vec(),
        choice: choice.to_vec(),
        repeated: repeated.to_vec(),
        messages,
        answers,
    })
}

fn stamp(message: &[u8]) -> u64 {
    u64::from_be_bytes(message[1..DROPPED].try_into().unwrap())
}

/// Our agent, which follows a scripted peer.
struct Fed {
    pool: Pool,
    _agent: Agent,
    peer: ScriptedPeer,
}

impl Fed {
    fn new() -> Option<Self> {
        let pool = pool()?;
        let peer = ScriptedPeer::listen(&pool.path("peer.socket"));
        let agent = Agent::start(&pool, &["--bootstrap-address", &pool.text("peer.socket")]);
        Some(Self {
            pool,
            _agent: agent,
            peer,
        })
    }

    /// A node that has said what the recorded one said in its handshake, and was told the same.
    fn node(&self, recorded: &Recorded, piece: usize) -> UnixStream {
        let mut node = UnixStream::connect(self.pool.path("service.socket")).unwrap();
        node.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read(&mut node, recorded.offer.len()), recorded.offer);
        write_in_pieces(&mut node, &recorded.choice, piece);
        assert_eq!(read(&mut node, 32), recorded.repeated);
        node
    }

    /// What `info` says in a deployed version.
    fn info(&self, version: VersionId, layout: Layout) -> (AgentInfo, Vec<u8>) {
        let mut stream = UnixStream::connect(self.pool.path("control.socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bytes = [&[1][..], version.as_bytes(), version.as_bytes(), &[0, 4]].concat();
        write_in_pieces(&mut stream, &bytes, usize::MAX);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        let (_, answer) = split_offer(&said);
        (parse_info(answer, layout), answer.to_vec())
    }
}

fn read(stream: &mut UnixStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn parse_info(mut bytes: &[u8], layout: Layout) -> AgentInfo {
    let mut reader = AnswerReader::new(layout, DeployedRequest::Info);
    let Some(DeployedAnswer::Info(info)) = next(&mut reader, &mut bytes, usize::MAX) else {
        panic!("an info")
    };
    assert!(bytes.is_empty());
    *info
}

/// Plays a recorded session to our agent, which says what the recorded client said.
fn feed(peer: &ScriptedPeer, recorded: &Recorded, piece: usize) -> Conversation {
    let mut conversation = peer.accept_in_pieces(&recorded.offer, piece);
    assert_eq!(conversation.choice[..], recorded.choice[..]);
    for (message, answer) in recorded.messages.iter().zip(&recorded.answers) {
        conversation.send_in_pieces(message, piece);
        assert_eq!(conversation.answer(), *answer);
    }
    conversation
}

const SESSIONS: [&str; 5] = [
    "service-01-connect-with-installed-key",
    "service-02-first-key-second-key-drop",
    "service-03-connect-after-drop",
    "service-04-connect-with-key-at-evolution-3",
    "bootstrap-01-agent-D-from-agent-B",
];

#[test]
fn our_agent_as_a_client_says_what_the_recorded_clients_said() {
    for piece in PIECES {
        for name in SESSIONS {
            let Some(recorded) = session(name) else {
                return;
            };
            let fed = Fed::new().unwrap();
            let _conversation = feed(&fed.peer, &recorded, piece);
        }
    }
}

#[test]
fn our_agent_as_a_server_says_what_the_reference_said_or_differs_on_purpose() {
    for piece in PIECES {
        let mut seen = Seen::default();
        for name in SESSIONS {
            let Some(recorded) = session(name) else {
                return;
            };
            serve(name, &recorded, piece, &mut seen);
        }
        seen.are_those_on_purpose(&["service-", "bootstrap-01"]);
    }
}

/// Brings our agent into the recorded agent's states one after the other, and compares what a node
/// is sent that answers in the recorded words.
fn serve(name: &str, recorded: &Recorded, piece: usize, seen: &mut Seen) {
    let fed = Fed::new().unwrap();
    let mut peer = fed.peer.accept();
    let mut tell = |message: &[u8]| {
        peer.send(message);
        let _ = peer.answer();
    };
    // Two nodes were recorded as they connected to an agent that was in its state already.
    let before_connecting = match name {
        "service-03-connect-after-drop" => {
            let before = session("service-02-first-key-second-key-drop").unwrap();
            before.messages.iter().for_each(|message| tell(message));
            before.messages.len()
        }
        "service-02-first-key-second-key-drop" => 0,
        _ => {
            tell(&recorded.messages[0]);
            1
        }
    };
    let mut node = fed.node(recorded, piece);
    let mut sent = Vec::new();
    for (at, (message, answer)) in recorded.messages.iter().zip(&recorded.answers).enumerate() {
        if at >= before_connecting {
            tell(message);
        }
        if sent.last() == Some(message) {
            // Recorded twice in a row. Were it sent twice here, the next one would not be the next.
            seen.note(name, "a state is sent again");
            continue;
        }
        sent.push(read(&mut node, message.len()));
        assert!(sent.last() == Some(message), "{name}: message {at}");
        write_in_pieces(&mut node, &answer.to_be_bytes(), piece);
    }
    if name == "service-03-connect-after-drop" {
        let newest = session("service-02-first-key-second-key-drop").unwrap();
        assert_eq!(read(&mut node, DROPPED), *newest.messages.last().unwrap());
        seen.note(name, "a drop is sent on connect");
    }
    // Both ended it without a word.
    node.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    node.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{name}");
}

/// The recorded `info` with the times, version and addresses of ours: what is left must be equal,
/// to the byte, but for the state of a peer, which is noted where it is another.
fn compare_info(
    name: &str,
    recorded: &[u8],
    (ours, bytes): (AgentInfo, Vec<u8>),
    layout: Layout,
    seen: &mut Seen,
) {
    let mut theirs = parse_info(recorded, layout);
    theirs.version.clone_from(&ours.version);
    theirs.now = ours.now;
    theirs.period_times = ours.period_times;
    for (there, here) in theirs.peers.iter_mut().zip(&ours.peers) {
        there.address.clone_from(&here.address);
        if there.connection != here.connection {
            there.connection = here.connection;
            seen.note(name, "peer");
        }
    }
    if let (Some(there), Some(here)) = (&mut theirs.installed, &ours.installed) {
        assert_eq!(there.time.is_some(), here.time.is_some());
        there.time = here.time;
    }
    let expected = DeployedAnswer::Info(Box::new(theirs));
    assert_eq!(expected, DeployedAnswer::Info(Box::new(ours)));
    assert_eq!(expected.to_wire(layout), bytes);
}

#[test]
fn info_of_an_agent_that_another_feeds_is_the_recorded_one() {
    let name = "bootstrap-01-agent-D-from-agent-B";
    let Some(recorded_feed) = session(name) else {
        return;
    };
    let mut seen = Seen::default();
    let mut compare = |name, told| {
        let session = recorded(name).unwrap();
        let (_, info) = split_offer(&session.from_agent);
        compare_info(name, info, told, v3_0::LAYOUT, &mut seen);
    };
    let fed = Fed::new().unwrap();
    let mut peer = fed.peer.accept();
    peer.send(&recorded_feed.messages[0]);
    assert_eq!(peer.answer(), 0);
    let told = || fed.info(CONTROL_3_0, v3_0::LAYOUT);
    compare("bootstrap-02-control-info-peer-up", told());
    for message in &recorded_feed.messages[1..] {
        peer.send(message);
        assert_eq!(peer.answer(), 0);
    }
    // The peer goes away for good.
    drop(peer);
    std::fs::remove_file(fed.pool.path("peer.socket")).unwrap();
    let lost = until("the loss to be seen", || {
        let told = told();
        (told.0.peers[0].connection != PeerConnection::Up).then_some(told)
    });
    compare("bootstrap-03-control-info-peer-lost", lost);
    seen.are_those_on_purpose(&["bootstrap-02", "bootstrap-03"]);
}

#[test]
fn over_the_older_versions_the_bytes_are_the_recorded_ones() {
    let extra = |name: &str| {
        let json = shared::json(&format!("transcripts/extra-{name}.json"))?;
        Some(hex::decode(json[0]["hex"].as_str().unwrap()).unwrap())
    };
    let Some(bytes) = extra("Service_1.0") else {
        return;
    };
    let (repeated, message) = bytes.split_at(32);
    let mut seen = Seen::default();
    for piece in PIECES {
        for version in [SERVICE_1_0, SERVICE_0_4] {
            let fed = Fed::new().unwrap();
            // A peer of that version, in the recorded bytes; both versions have the same.
            let mut peer = fed.peer.accept_in_pieces(&offer(&[version]), piece);
            assert_eq!(peer.choice[1..], version.as_bytes()[..]);
            peer.send_in_pieces(message, piece);
            assert_eq!(peer.answer(), 0);
            // A node of that version.
            let mut node = UnixStream::connect(fed.pool.path("service.socket")).unwrap();
            node.set_read_timeout(Some(PATIENCE)).unwrap();
            let choice = [&[1][..], version.as_bytes()].concat();
            write_in_pieces(&mut node, &choice, piece);
            let _offer = read(&mut node, 4 + 3 * 32);
            let settled = read(&mut node, 32);
            assert_eq!(settled, version.as_bytes());
            if version == SERVICE_1_0 {
                assert_eq!(settled, repeated);
            }
            assert!(read(&mut node, message.len()) == message);
            for (name, control, layout) in [
                ("Control_2.0-info", CONTROL_2_0, v2_0::LAYOUT),
                ("Control_StandardCrypto_0.5-info", CONTROL_0_5, v1_0::LAYOUT),
            ] {
                let mut told = fed.info(control, layout);
                // The recorded agent was fed by none.
                assert_eq!(told.0.peers.pop().unwrap().connection, PeerConnection::Up);
                let bytes = DeployedAnswer::Info(Box::new(told.0.clone())).to_wire(layout);
                let recorded = extra(name).unwrap();
                compare_info(name, &recorded, (told.0, bytes), layout, &mut seen);
            }
        }
    }
    seen.are_those_on_purpose(&["extra-"]);
}
