//! `kes-cli` with an agent of another make: a stand-in that says what the reference agent said in
//! the recordings.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use integration_tests::pool::{Pool, TestNetwork};
use integration_tests::session::recorded;
use integration_tests::shared;

/// Bytes of the offer of four versions, and of the client's choice and repetition.
const OFFER: usize = 4 + 4 * 32;
const CHOICE: usize = 1 + 32 + 32;

/// The recorded offer, and for each command's number the recorded answer.
struct Script {
    offer: Vec<u8>,
    answers: HashMap<u16, Vec<u8>>,
}

impl Script {
    /// Answers taken from these recordings.
    fn of(names: &[&str]) -> Option<Self> {
        let mut script = Self {
            offer: Vec::new(),
            answers: HashMap::new(),
        };
        for name in names {
            let session = recorded(name)?;
            let (offer, answer) = session.from_agent.split_at(OFFER);
            let command = &session.from_client[CHOICE..CHOICE + 2];
            script.offer = offer.to_vec();
            script.answers.insert(
                u16::from_be_bytes([command[0], command[1]]),
                answer.to_vec(),
            );
        }
        Some(script)
    }

    fn serve(&self, mut stream: UnixStream) -> std::io::Result<()> {
        // Field by field, as the reference does.
        for byte in &self.offer {
            stream.write_all(&[*byte])?;
        }
        stream.read_exact(&mut [0; CHOICE])?;
        loop {
            let mut command = [0; 2];
            stream.read_exact(&mut command)?;
            let command = u16::from_be_bytes(command);
            if command == 3 {
                stream.read_exact(&mut [0; 112])?;
            }
            let Some(answer) = self.answers.get(&command) else {
                return Ok(());
            };
            for byte in answer {
                stream.write_all(&[*byte])?;
            }
        }
    }
}

/// A pool whose agent is the stand-in.
fn pool(names: &[&str]) -> Option<Pool> {
    let script = Script::of(names)?;
    let pool = Pool::new(TestNetwork::default());
    let listener = UnixListener::bind(pool.path("control.socket")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that leaves ends the conversation.
            let _ = script.serve(stream);
        }
    });
    Some(pool)
}

fn copy(pool: &Pool, from: &str, to: &str) {
    let text = shared::text(&format!("transcripts/{from}")).unwrap();
    std::fs::write(pool.path(to), text).unwrap();
}

#[test]
fn what_can_be_done_there_is_done() {
    let names = [
        "control-04-gen-staged-key",
        "control-02-export-staged-vkey-none",
        "control-11-install-key-ok",
        "control-12-info-installed",
        "control-28-drop-key",
        "control-07-drop-staged-key",
    ];
    let Some(pool) = pool(&names) else { return };
    let expected = shared::json("transcripts/kes1.vkey").unwrap();
    let vkey = expected["cborHex"]
        .as_str()
        .unwrap()
        .trim_start_matches("5820")
        .to_owned();
    let generated = pool.cli(&["keygen"]).succeeded();
    assert_eq!(generated["kes_verification_key"], *vkey);
    pool.cli(&["export-verkey"]).refused(5, "nothing-pending");
    copy(&pool, "opcert2.cert", "opcert.cert");
    let active = pool
        .cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    assert_eq!(active["result"], "active");
    let status = pool.status();
    assert_eq!(status["active"]["state"], "serving");
    assert_eq!(status["active"]["opcert"]["counter"], 5);
    assert_eq!(status["current_period"], 2231);
    pool.cli(&["drop-active"]).succeeded();
    // That agent would say that nothing is staged now, whatever was before.
    pool.cli(&["drop-pending"]).refused(5, "nothing-pending");
}

#[test]
fn what_cannot_is_said_with_the_way_to_do_it_instead() {
    let names = [
        "control-04-gen-staged-key",
        "control-05-export-staged-vkey",
        "control-17-install-key-outdated-counter",
        "control-07-drop-staged-key",
    ];
    let Some(pool) = pool(&names) else { return };
    copy(&pool, "opcert5-outdated.cert", "opcert.cert");
    let import = ["import-opcert", "--opcert-file", "opcert.cert"];
    let refused = pool.cli(&import).refused(10, "not-supported");
    let next = refused["error"]["next_step"].as_str().unwrap();
    assert!(next.contains("activate --opcert-file"), "{next}");
    pool.cli(&["activate"]).refused(10, "not-supported");
    // It would replace the staged key without a word: we do not let it.
    pool.cli(&["keygen"]).refused(6, "already-pending");
    assert_eq!(
        pool.cli(&["keygen", "--if-absent"]).succeeded()["changed"],
        false
    );
    assert_eq!(
        pool.cli(&["keygen", "--replace"]).succeeded()["changed"],
        true
    );
    assert_eq!(pool.cli(&["export-verkey"]).succeeded()["changed"], true);
    let low = pool.cli(&["activate", "--opcert-file", "opcert.cert"]);
    low.refused(8, "counter-too-low");
    pool.cli(&["drop-pending"]).succeeded();
    // A command that it has no answer to: it closes without a word.
    let gone = pool.cli(&["status"]);
    gone.refused(3, "connection-lost");
}
