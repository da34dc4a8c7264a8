//! Two clients of one live agent: an operator's frames and a peer agent's messages, in any order,
//! with time that passes and jumps. The vault is the agent's own, with real keys.

use kes_agent::kept::{Found, Kept};
use kes_agent::state::{Active, Input, Now, Rules};
use kes_agent::vault::{Newest, Vault};
use kes_wire::cold::ColdSignKey;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::frame;
use kes_wire::protocol::control::rotation::{IfPending, ImportedOpCert, Request};
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::{SignKey, VerificationKey};
use kes_wire::sys::memory::LockedBytes;

/// No more steps than this: one input is to take milliseconds.
const MOST_STEPS: usize = 24;

struct Live {
    vault: Vault,
    cold: ColdSignKey,
    now: Now,
}

pub(super) fn live_state(bytes: &[u8]) {
    let cold = ColdSignKey::from_seed(seed(1)).expect("memory can be locked");
    let rules = Rules {
        cold_vkey: cold.verification_key(),
        max_evolutions: 62,
    };
    let kept = Kept::guarded(kes_wire::genesis::Network::MAINNET).expect("memory can be locked");
    let mut live = Live {
        vault: Vault::new(rules, kept, Found::nothing()),
        cold,
        now: Now {
            stamp: Stamp(1_000_000_000),
            period: KesPeriod(100),
            is_trusted: true,
        },
    };
    for step in bytes.chunks_exact(4).take(MOST_STEPS) {
        live.step([step[0], step[1], step[2], step[3]]);
        live.holds_what_it_says();
    }
}

fn seed(n: u8) -> LockedBytes<32> {
    let mut seed = LockedBytes::zeroed().expect("memory can be locked");
    seed.expose_mut().fill(n);
    seed
}

impl Live {
    fn step(&mut self, [what, a, b, c]: [u8; 4]) {
        if what >= 0xc0 {
            return self.peer(what, a, b, c);
        }
        if what >= 0xa0 {
            // Time passes, or the clock is set; it may not be trusted.
            let periods = i64::from(a.cast_signed()) % 70;
            self.now.period = KesPeriod(self.now.period.0.saturating_add_signed(periods));
            self.now.stamp.0 = self.now.stamp.0.saturating_add_signed(i64::from(b) - 5);
            self.now.is_trusted = !c.is_multiple_of(8);
            return;
        }
        let request = self.request(what, a, b, c);
        // As it goes over the socket.
        let framed = frame::frame(&request).expect("a request fits");
        let request = frame::parse::<Request>(&framed[4..]).expect("what was written is read");
        let _ = self.vault.submit(self.now, &Input::Tick);
        let before = self.vault.state().clone();
        let done = match request {
            Request::Keygen { if_pending } => self.vault.keygen(self.now, if_pending),
            Request::ImportOpcert {
                import,
                allow_lower_counter,
            } => self.vault.submit(
                self.now,
                &Input::ImportOpcert {
                    import,
                    allow_lower_counter,
                },
            ),
            Request::Activate {
                import,
                allow_lower_counter,
            } => self.vault.submit(
                self.now,
                &Input::Activate {
                    import,
                    allow_lower_counter,
                },
            ),
            Request::DropPending {} => self.vault.submit(self.now, &Input::DropPending),
            Request::DropActive {} => self.vault.submit(self.now, &Input::DropActive),
            Request::ExportVkey {} | Request::Status {} | Request::ConfirmClock { .. } => {
                self.vault.exported()
            }
        };
        match done {
            Ok(done) => assert_eq!(done.changed, before != *self.vault.state()),
            Err(refusal) => {
                assert_eq!(before, *self.vault.state(), "a refusal changed something");
                assert_ne!(refusal.code.name(), "internal", "{}", refusal.sentence);
                assert!(!refusal.next_step.is_empty());
            }
        }
    }

    fn request(&self, what: u8, a: u8, b: u8, c: u8) -> Request {
        let allow_lower_counter = c & 1 == 1;
        let if_pending = match a % 3 {
            0 => IfPending::Refuse,
            1 => IfPending::Replace,
            _ => IfPending::Keep,
        };
        match what % 8 {
            0 | 1 => Request::Keygen { if_pending },
            2 => Request::ImportOpcert {
                import: self.import(a, b, c),
                allow_lower_counter,
            },
            3 | 4 => Request::Activate {
                import: (c & 2 == 2).then(|| self.import(a, b, c)),
                allow_lower_counter,
            },
            5 => Request::DropPending {},
            6 => Request::DropActive {},
            _ => Request::ExportVkey {},
        }
    }

    fn import(&self, counter: u8, start: u8, flags: u8) -> ImportedOpCert {
        let state = self.vault.state();
        let pending = state.pending.vkey().copied();
        let vkey = pending.unwrap_or(VerificationKey([9; 32]));
        let mut opcert = self
            .cold
            .issue(&vkey, u64::from(counter % 4), self.start(start))
            .expect("memory can be locked");
        if flags & 12 == 12 {
            opcert.cold_signature.0[usize::from(start) % 64] ^= 1 << (counter % 8);
        }
        ImportedOpCert {
            opcert,
            cold_vkey: None,
            replace: flags & 16 == 16,
        }
    }

    fn start(&self, start: u8) -> KesPeriod {
        let offset = i64::from(start.cast_signed()) % 66;
        KesPeriod(self.now.period.0.saturating_add_signed(offset))
    }

    fn peer(&mut self, what: u8, a: u8, b: u8, c: u8) {
        let newest = self.vault.state().newest_stamp.0;
        let stamp = Stamp(newest.saturating_add_signed(i64::from(c % 4) - 1));
        let message = if what >= 0xf0 {
            ServiceMessage::Dropped { stamp }
        } else {
            let mut key = SignKey::from_seed(seed(a % 3)).expect("memory can be locked");
            let start = self.start(b);
            let counter = u64::from(what % 4);
            let opcert = self
                .cold
                .issue(&key.verification_key(), counter, start)
                .expect("memory can be locked");
            let behind = u64::from(c >> 6);
            let wanted = (self.now.period.0.saturating_sub(start.0)).saturating_sub(behind);
            let to = Evolution(u32::try_from(wanted.min(63)).expect("below 64"));
            if to.0 > 0 {
                key.evolve_to(to).expect("it is ahead");
            }
            let evolution = key.evolution();
            let mut secret = key.into_secret();
            if what & 8 == 8 {
                secret.expose_mut()[usize::from(a) * 2] ^= 1;
            }
            ServiceMessage::Key(ReceivedKey {
                stamp: Some(stamp),
                secret,
                evolution,
                opcert,
            })
        };
        let before = self.vault.state().clone();
        let heard = self.vault.hear(self.now, message);
        assert_ne!(heard.name, "internal", "{}", heard.sentence);
        if heard.name != "taken" {
            assert_eq!(
                before,
                *self.vault.state(),
                "{} changed something",
                heard.name
            );
        }
    }

    /// What would be sent to a node is the active key, at the period's evolution.
    fn holds_what_it_says(&mut self) {
        self.vault
            .submit(self.now, &Input::Tick)
            .unwrap_or_else(|refusal| panic!("a tick was refused: {}", refusal.sentence));
        let state = self.vault.state();
        match (self.vault.newest(self.now), &state.active) {
            (
                Newest::Key { key, opcert, stamp },
                Active::Bundle {
                    opcert: held,
                    stamp: installed,
                    ..
                },
            ) => {
                assert!(self.now.is_trusted, "served by an untrusted time");
                assert_eq!((opcert, stamp), (*held, *installed));
                assert_eq!(key.verification_key(), opcert.kes_vkey);
                let evolution = self.now.period.0 - opcert.start_period.0;
                assert_eq!(u64::from(key.evolution().0), evolution);
            }
            (Newest::Dropped { stamp }, Active::Dropped { stamp: held, .. }) => {
                assert_eq!(stamp, *held);
            }
            (Newest::Nothing, _) => {}
            (Newest::Key { .. } | Newest::Dropped { .. }, held) => panic!("not what is {held:?}"),
        }
    }
}
