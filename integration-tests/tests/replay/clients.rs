//! Our clients with an agent that says what the reference said, in pieces of every size; and
//! `kes-agent-control` as a whole program.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};

use integration_tests::pool::{PATIENCE, program};
use integration_tests::scripted_peer::write_in_pieces;
use integration_tests::session::{Session, next, recorded};
use integration_tests::shared;
use kes_wire::net::{DeployedControlClient, ServiceClient};
use kes_wire::protocol::control::deployed::{
    AnswerReader, DeployedAnswer, DeployedRequest, RequestReader, v3_0,
};
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;

use super::split_offer;

/// Every recording of this kind, by name.
fn recordings(part: &str) -> Vec<String> {
    let Some(folder) = shared::vectors("transcripts") else {
        return Vec::new();
    };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|file| file.unwrap().file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".jsonl").map(str::to_owned))
        .filter(|name| name.contains(part))
        .collect();
    names.sort();
    assert!(names.len() > 3, "{names:?}");
    names
}

/// Serves one recorded control session in pieces, and gives what the client said.
fn serve_control(listener: &UnixListener, session: &Session, piece: usize) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (offer, answer) = split_offer(&session.from_agent);
    write_in_pieces(&mut stream, offer, piece);
    let mut said = vec![0; session.from_client.len()];
    stream.read_exact(&mut said).unwrap();
    write_in_pieces(&mut stream, answer, piece);
    stream.read_to_end(&mut said).unwrap();
    said
}

fn request_and_answer(session: &Session) -> (DeployedRequest, DeployedAnswer) {
    let mut request = &session.from_client[1 + 32 + 32..];
    let request = next(&mut RequestReader::new(v3_0::LAYOUT), &mut request, 999).unwrap();
    let (_, mut answer) = split_offer(&session.from_agent);
    let mut reader = AnswerReader::new(v3_0::LAYOUT, request);
    (request, next(&mut reader, &mut answer, 999).unwrap())
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn our_control_client_speaks_as_recorded_and_reads_pieces_of_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for name in recordings("control") {
        let session = recorded(&name).unwrap();
        let (request, expected) = request_and_answer(&session);
        for piece in 1..=session.from_agent.len() {
            std::thread::scope(|scope| {
                let server = scope.spawn(|| serve_control(&listener, &session, piece));
                let answer = run(async {
                    let mut client = DeployedControlClient::connect(&path).await.unwrap();
                    client.call(request).await.unwrap()
                });
                assert_eq!(answer, expected, "{name} in pieces of {piece}");
                assert_eq!(server.join().unwrap(), session.from_client, "{name}");
            });
        }
    }
}

/// Serves one recorded service session in pieces, and checks each of the client's words.
fn serve_service(listener: &UnixListener, session: &Session, piece: usize) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let expect = |stream: &mut UnixStream, words: &[u8]| {
        let mut said = vec![0; words.len()];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(said, words);
    };
    let (offer, rest) = split_offer(&session.from_agent);
    write_in_pieces(&mut stream, offer, piece);
    let (choice, answers) = session.from_client.split_at(33);
    expect(&mut stream, choice);
    let (repeated, mut rest) = rest.split_at(32);
    write_in_pieces(&mut stream, repeated, piece);
    for answer in answers.chunks(4) {
        let (message, further) = rest.split_at(if rest[0] == 0 { 733 } else { 9 });
        write_in_pieces(&mut stream, message, piece);
        expect(&mut stream, answer);
        rest = further;
    }
    assert!(rest.is_empty());
}

#[test]
fn our_service_client_speaks_as_recorded_and_reads_pieces_of_every_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for name in recordings("")
        .into_iter()
        .filter(|n| !n.contains("control"))
    {
        let session = recorded(&name).unwrap();
        let most = session.from_agent.len().min(740);
        for piece in (1..=most).chain([usize::MAX]) {
            std::thread::scope(|scope| {
                let server = scope.spawn(|| serve_service(&listener, &session, piece));
                run(async {
                    let mut client = ServiceClient::connect(&path).await.unwrap();
                    let mut newest = Stamp(0);
                    // By the node's rule: what is not newer is outdated.
                    while let Ok(message) = client.next().await {
                        let stamp = match message {
                            ServiceMessage::Key(key) => key.stamp.unwrap(),
                            ServiceMessage::Dropped { stamp } => stamp,
                        };
                        let answer = if stamp > newest {
                            ServiceResult::Ok
                        } else {
                            ServiceResult::KeyOutdated
                        };
                        newest = newest.max(stamp);
                        client.answer(answer).await.unwrap();
                    }
                });
                server.join().unwrap();
            });
        }
    }
}

/// The command line of the reference's control client that made a request.
fn command_line(request: DeployedRequest, folder: &Path, cert: &str) -> Vec<String> {
    match request {
        DeployedRequest::InstallKey(_) => {
            std::fs::write(folder.join("opcert.cert"), cert).unwrap();
            ["install-key", "--opcert-file", "opcert.cert"]
                .map(str::to_owned)
                .to_vec()
        }
        other => vec![other.name().to_owned()],
    }
}

/// The certificate file of this certificate among those beside the recordings.
fn certificate_file(request: DeployedRequest) -> String {
    let DeployedRequest::InstallKey(opcert) = request else {
        return String::new();
    };
    let folder = shared::vectors("transcripts").unwrap();
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "cert"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .find(|text| kes_wire::envelope::read_opcert(text.as_bytes()).unwrap().0 == opcert)
        .expect("a file of the certificate")
}

/// What the reference's client printed and how it ended, by the facts; but never 0 on a failure.
fn expected_ending(request: DeployedRequest, answer: &DeployedAnswer) -> (i32, &'static str) {
    match (request, answer) {
        (DeployedRequest::InstallKey(_), DeployedAnswer::Result(code)) => match code.to_u16() {
            0 => (0, "KES key installed.\n"),
            1 => (1, "Error: KES key outdated\n"),
            2 => (2, "Error: OpCert validation failed\n"),
            3 => (3, "Error: No KES key found\n"),
            other => panic!("{other}"),
        },
        (DeployedRequest::DropKey, _) => (0, "KES key dropped.\n"),
        (DeployedRequest::DropStagedKey, _) => (0, "Staged key dropped.\n"),
        (DeployedRequest::QueryStagedKey, DeployedAnswer::StagedKey(None)) => {
            (3, "Error: No key available.\n")
        }
        (DeployedRequest::QueryStagedKey, _) => (0, "KES VerKey written to kes.vkey\n"),
        (DeployedRequest::GenStagedKey, _) => (
            0,
            "Asking agent to generate a key...\nKES SignKey generated.\nKES VerKey written to \
             kes.vkey\n",
        ),
        (DeployedRequest::Info, _) => (0, "--- Agent ---\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn kes_agent_control_speaks_as_the_recorded_client_and_ends_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kes-agent-control");
    symlink(program("kes-cli"), &link).unwrap();
    let socket = folder.path().join("control.socket");
    let listener = UnixListener::bind(&socket).unwrap();
    for name in recordings("control") {
        let session = recorded(&name).unwrap();
        let (request, answer) = request_and_answer(&session);
        let line = command_line(request, folder.path(), &certificate_file(request));
        for piece in [1, 5, usize::MAX] {
            let output: Output = std::thread::scope(|scope| {
                let server = scope.spawn(|| serve_control(&listener, &session, piece));
                let mut command = Command::new(&link);
                command.args(&line).arg("--control-address").arg(&socket);
                let output = command.current_dir(folder.path()).output().unwrap();
                assert_eq!(server.join().unwrap(), session.from_client, "{name}");
                output
            });
            let (code, words) = expected_ending(request, &answer);
            assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
            let (said, silent) = if code == 0 {
                (&output.stdout, &output.stderr)
            } else {
                (&output.stderr, &output.stdout)
            };
            assert!(silent.is_empty(), "{name}: {output:?}");
            let said = String::from_utf8_lossy(said);
            if request == DeployedRequest::Info {
                assert!(said.starts_with(words), "{name}: {said}");
            } else {
                assert_eq!(said, words, "{name}");
            }
        }
    }
}

/// What the reference's client prints of the recorded states: the lines of the facts, with the
/// recorded numbers written out by hand and by another language's calendar.
const INFO: [(&str, &str); 2] = [
    (
        "control-13-info-installed-and-staged",
        "--- Agent ---
Agent version: 1.3.0.0-git-19ffbb01d4a6514b67af62d59b3cd4e0b4682beb
Connected via: Control:3.0
Current time: 2026-11-23 00:18:53 UTC
Current KES period: 2231
Current KES period started: 2026-11-22 09:44:51 UTC
Next KES period starts: 2026-11-23 21:44:51 UTC
--- Installed KES SignKey ---
Timestamp: 2026-11-23 00:18:53 UTC
VerKey: c724d9a2185e792308a25494d58ae2ab2578b57a8ae9fb11757fa72f8929e2db
Valid from period: 2231
Current evolution: 0 / 64
OpCert number: 5
OpCert signature: 1276f7996eae25ac6aad9d964a00315aa67f66f83ddb481e480d3fdcff95e939ea4da7e06114fcbc\
        21787523431157ae4c83535460f8b276e86de210ba763f09
--- Staged KES SignKey ---
VerKey: 31283eae57b084e8ddc50cbc139fcff68f2b6204113adae99d2e7bc9a3be4c44
--- Bootstrap Peers ---
",
    ),
    (
        "bootstrap-03-control-info-peer-lost",
        "--- Agent ---
Agent version: 1.3.0.0-git-19ffbb01d4a6514b67af62d59b3cd4e0b4682beb
Connected via: Control:3.0
Current time: 2026-11-23 00:19:05 UTC
Current KES period: 2231
Current KES period started: 2026-11-22 09:44:51 UTC
Next KES period starts: 2026-11-23 21:44:51 UTC
--- Installed KES SignKey ---
Timestamp: 2026-11-23 00:19:04 UTC
VerKey: 649f0382e60a0dfe808b03bb2b29d33d062b67a2c94e498b25e623caed902099
Valid from period: 2231
Current evolution: 0 / 64
OpCert number: 4
OpCert signature: a1bcc71b70fc18c2502987df50287ac25166789ff52276644ef4cb3dd256ae82e07a635754cb4a24\
        82609dcbc408b1a2afa7841bf796a678337ccbd6f3fd940d
--- Bootstrap Peers ---
B-relay.S: connecting...
",
    ),
];

#[test]
fn info_is_printed_line_by_line_as_the_reference_prints_it() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kes-agent-control");
    symlink(program("kes-cli"), &link).unwrap();
    let socket = folder.path().join("control.socket");
    let listener = UnixListener::bind(&socket).unwrap();
    for (name, lines) in INFO {
        let Some(session) = recorded(name) else {
            return;
        };
        std::thread::scope(|scope| {
            scope.spawn(|| serve_control(&listener, &session, 7));
            let mut command = Command::new(&link);
            command.args(["info", "-c"]).arg(&socket);
            let output = command.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), lines);
            assert!(output.status.success() && output.stderr.is_empty());
        });
    }
}

#[test]
fn kes_cli_as_a_node_proves_the_recorded_keys() {
    for (name, evolution) in [
        ("service-01-connect-with-installed-key", 0),
        ("service-02-first-key-second-key-drop", 0),
        ("service-04-connect-with-key-at-evolution-3", 3),
    ] {
        let Some(session) = recorded(name) else {
            return;
        };
        for piece in [1, 26, usize::MAX] {
            let pool = super::pool().unwrap();
            let listener = UnixListener::bind(pool.path("service.socket")).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let (offer, rest) = split_offer(&session.from_agent);
                    // The choice has nothing that the reference would wait for.
                    write_in_pieces(&mut stream, &[offer, &rest[..32 + 733]].concat(), piece);
                    stream.read_exact(&mut [0; 33 + 4]).unwrap();
                });
                let probed = pool.cli(&["probe"]).succeeded();
                assert_eq!(probed["signature_verifies"], true, "{name}");
                assert_eq!(probed["certificate_verifies"], true, "{name}");
                assert_eq!(probed["served_evolution"], evolution, "{name}");
            });
        }
    }
}
