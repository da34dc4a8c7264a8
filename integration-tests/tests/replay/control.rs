//! The recorded control sessions with our running agent, in their order.

use std::io::Read;
use std::os::unix::net::UnixStream;

use integration_tests::pool::{Agent, PATIENCE, Pool};
use integration_tests::scripted_peer::write_in_pieces;
use integration_tests::session::{next, recorded};
use integration_tests::shared;
use kes_wire::cold::ColdSignKey;
use kes_wire::envelope;
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::Reader;
use kes_wire::protocol::control::deployed::{
    AgentInfo, AnswerReader, DeployedAnswer, DeployedRequest, InstalledInfo, RequestReader, v3_0,
};
use kes_wire::sum6kes::VerificationKey;

use super::differences::{EVERY_CONTROL, Seen};
use super::{PERIOD, PIECES, pool, split_offer};

/// The client's choice and its repetition.
const CHOICE: usize = 1 + 32 + 32;

/// What happens, in the order of the recordings.
enum Step {
    /// A recorded session is replayed.
    Replay(&'static str),
    /// A key is generated where none is staged. It was in the recorded agent too, unrecorded.
    Stage,
    /// What is staged is dropped, as it was when the next session was recorded.
    Unstage,
}

use Step::{Replay, Stage, Unstage};

/// 16, 19, 20, 24 and 27 were never recorded.
const STEPS: [Step; 36] = [
    Replay("control-01-info-empty"),
    Replay("control-02-export-staged-vkey-none"),
    Replay("control-03-drop-staged-key-none"),
    Replay("control-04-gen-staged-key"),
    Replay("control-05-export-staged-vkey"),
    Replay("control-06-info-staged-only"),
    Replay("control-07-drop-staged-key"),
    Replay("control-08-install-key-no-staged-key"),
    Replay("control-09-drop-key-none"),
    Replay("control-10-info-after-drop-key-none"),
    Stage,
    Replay("control-11-install-key-ok"),
    Replay("control-12-info-installed"),
    Stage,
    Replay("control-13-info-installed-and-staged"),
    Replay("control-14-install-key-wrong-cold-key"),
    Replay("control-15-export-staged-vkey-after-failed-install"),
    Stage,
    Replay("control-17-install-key-outdated-counter"),
    Stage,
    Replay("control-18-install-key-equal-counter"),
    Stage,
    Replay("control-21-install-key-start-5-periods-ahead"),
    Replay("control-22-info-future"),
    Unstage,
    Stage,
    Replay("control-23-install-key-start-63-periods-ago"),
    Stage,
    Replay("control-25-install-key-expired"),
    Replay("control-26-info-after-expired-install"),
    Unstage,
    Replay("control-28-drop-key"),
    Replay("control-29-info-after-drop-key"),
    Stage,
    Replay("control-30-install-key-low-counter-after-drop"),
    Unstage,
];

/// One agent that lives through the recordings.
struct Replayed {
    pool: Pool,
    _agent: Agent,
    cold: ColdSignKey,
    wrong_cold: ColdSignKey,
    piece: usize,
    /// The certificate of the last install that was answered OK.
    installed: Option<OpCert>,
}

impl Replayed {
    fn new(piece: usize) -> Option<Self> {
        let pool = pool()?;
        let cold = |name| {
            let path = shared::vectors(name).unwrap();
            envelope::read_cold_skey_file(&path).unwrap()
        };
        Some(Self {
            _agent: pool.agent(),
            pool,
            cold: cold("files/cold.skey"),
            wrong_cold: cold("transcripts/wrongcold.skey"),
            piece,
            installed: None,
        })
    }

    fn staged(&self) -> Option<VerificationKey> {
        let status = self.pool.status();
        let vkey = status["pending"]["vkey"].as_str()?;
        let bytes = hex::decode(vkey).unwrap();
        Some(VerificationKey(bytes.try_into().unwrap()))
    }

    /// The recorded bytes of a request. A certificate names a key, which is the agent's own: it is
    /// issued again for the key that is staged here, with the same counter and start and by the
    /// same cold key. No other byte differs, and none where nothing is staged.
    fn request(&self, recorded: &[u8]) -> (Vec<u8>, DeployedRequest) {
        let mut rest = recorded;
        let request = next(&mut RequestReader::new(v3_0::LAYOUT), &mut rest, usize::MAX).unwrap();
        assert!(rest.is_empty(), "one request a session");
        let (DeployedRequest::InstallKey(opcert), Some(vkey)) = (request, self.staged()) else {
            return (recorded.to_vec(), request);
        };
        let by_right_key = opcert.is_signed_by(&self.cold.verification_key());
        let by_wrong_key = opcert.is_signed_by(&self.wrong_cold.verification_key());
        assert!(by_right_key != by_wrong_key);
        let cold = if by_right_key {
            &self.cold
        } else {
            &self.wrong_cold
        };
        let issued = cold
            .issue(&vkey, opcert.counter, opcert.start_period)
            .unwrap();
        let request = DeployedRequest::InstallKey(issued);
        let bytes = request.to_wire();
        assert_eq!(bytes.len(), recorded.len());
        // The command, and counter and start between the key and the signature.
        assert_eq!(bytes[..2], recorded[..2]);
        assert_eq!(bytes[34..50], recorded[34..50]);
        (bytes, request)
    }

    /// Puts a recorded session to the agent and compares what it says.
    fn replay(&mut self, name: &str, seen: &mut Seen) {
        let session = recorded(name).unwrap();
        let (offered, answered) = split_offer(&session.from_agent);
        let (choice, request) = session.from_client.split_at(CHOICE);
        let (bytes, request) = self.request(request);

        let mut stream = UnixStream::connect(self.pool.path("control.socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut count = [0; 4];
        stream.read_exact(&mut count).unwrap();
        let versions = usize::try_from(u32::from_be_bytes(count)).unwrap();
        let mut offer = vec![0; 32 * versions];
        stream.read_exact(&mut offer).unwrap();
        if [&count[..], &offer].concat() != offered {
            seen.note(EVERY_CONTROL, "offer");
        }
        // What was offered there is offered here, in the same order.
        assert!(offer.ends_with(&offered[4..]), "{name}");

        write_in_pieces(&mut stream, &[choice, &bytes].concat(), self.piece);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut ours = Vec::new();
        stream.read_to_end(&mut ours).unwrap();
        self.compare(name, request, answered, &ours, seen);
    }

    /// Compares an answer with the recorded one: byte for byte, after the agent's own values (keys,
    /// signatures, times, its version) were put into the recorded one.
    fn compare(
        &mut self,
        name: &str,
        request: DeployedRequest,
        recorded: &[u8],
        ours: &[u8],
        seen: &mut Seen,
    ) {
        let read = |mut bytes: &[u8]| {
            let mut reader = AnswerReader::new(v3_0::LAYOUT, request);
            let answer = next(&mut reader, &mut bytes, usize::MAX)
                .unwrap_or_else(|| panic!("{name}: no whole answer in {bytes:x?}"));
            assert!(bytes.is_empty() && reader.is_between_items());
            answer
        };
        let mut expected = read(recorded);
        let differing = match (&mut expected, read(ours)) {
            (DeployedAnswer::Result(theirs), DeployedAnswer::Result(code)) => {
                if let (DeployedRequest::InstallKey(opcert), [0, 0]) = (request, ours) {
                    // One that starts later is not the installed one yet.
                    if opcert.start_period <= KesPeriod(PERIOD) {
                        self.installed = Some(opcert);
                    }
                }
                if *theirs == code {
                    vec![]
                } else {
                    vec!["result"]
                }
            }
            (DeployedAnswer::StagedKey(theirs), DeployedAnswer::StagedKey(vkey)) => {
                assert_eq!(vkey, self.staged(), "{name}");
                put_own(theirs, vkey)
                    .then_some("staged")
                    .into_iter()
                    .collect()
            }
            (DeployedAnswer::Info(theirs), DeployedAnswer::Info(info)) => {
                assert_eq!(info.staged, self.staged(), "{name}");
                self.put_own_info(theirs, &info)
            }
            (expected, other) => panic!("{name}: {other:?} instead of {expected:?}"),
        };
        if differing.is_empty() {
            assert_eq!(expected.to_wire(v3_0::LAYOUT), ours, "{name}");
        }
        for what in differing {
            seen.note(name, what);
        }
    }

    /// Puts our agent's own values into a recorded `info`, and says which fields differ beside.
    fn put_own_info(&self, theirs: &mut AgentInfo, ours: &AgentInfo) -> Vec<&'static str> {
        let mut differing = Vec::new();
        assert!(ours.version.is_some());
        theirs.version.clone_from(&ours.version);
        let (start, end) = ours.period_times.unwrap();
        assert!((start..end).contains(&ours.now));
        theirs.now = ours.now;
        theirs.period_times = ours.period_times;
        assert_eq!(
            (theirs.period, ours.period),
            (KesPeriod(PERIOD), KesPeriod(PERIOD))
        );
        if put_own(&mut theirs.staged, ours.staged) {
            differing.push("staged");
        }
        if self.put_own_installed(&mut theirs.installed, ours) {
            differing.push("installed");
        }
        assert_eq!(theirs.peers, ours.peers);
        differing
    }

    fn put_own_installed(&self, theirs: &mut Option<InstalledInfo>, info: &AgentInfo) -> bool {
        let bundle = |info: &Option<InstalledInfo>| info.as_ref().and_then(|i| i.bundle);
        let ours = bundle(&info.installed);
        if let Some(ours) = ours {
            assert_eq!(Some(ours.opcert), self.installed);
            let time = info.installed.as_ref().unwrap().time.unwrap();
            assert!((0..60).contains(&(info.now - time)), "installed at {time}");
        }
        match (bundle(theirs), ours) {
            (None, None) => *theirs != info.installed,
            (Some(there), Some(here)) => {
                let numbers = |b: kes_wire::protocol::control::deployed::BundleInfo| {
                    (b.evolution, b.opcert.counter, b.opcert.start_period)
                };
                theirs.clone_from(&info.installed);
                numbers(there) != numbers(here)
            }
            (Some(_), None) | (None, Some(_)) => true,
        }
    }
}

/// Puts our agent's key into the recorded answer where both have one, and says whether only one
/// has.
fn put_own(theirs: &mut Option<VerificationKey>, ours: Option<VerificationKey>) -> bool {
    if theirs.is_some() && ours.is_some() {
        *theirs = ours;
    }
    *theirs != ours
}

#[test]
fn our_agent_answers_as_recorded_or_differs_on_purpose() {
    for piece in PIECES {
        let Some(mut replayed) = Replayed::new(piece) else {
            return;
        };
        let mut seen = Seen::default();
        for step in STEPS {
            match step {
                Replay(name) => replayed.replay(name, &mut seen),
                Stage => {
                    let keygen = replayed.pool.cli(&["keygen", "--if-absent"]);
                    keygen.succeeded();
                }
                Unstage => {
                    let _ = replayed.pool.cli(&["drop-pending"]);
                }
            }
        }
        seen.are_those_on_purpose(&["control-", EVERY_CONTROL]);
    }
}
