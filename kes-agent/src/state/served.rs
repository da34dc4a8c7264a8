//! **No node is given a key that is early, expired, or at another evolution than the period's**:
//! it would take it unchecked and make invalid blocks, or none.

use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;

use super::certificate::Phase;
use super::{Active, Now, Rules, State};

/// What a node may be given at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Served {
    /// Nothing: there has been no key.
    Nothing,
    /// The key at this evolution, with its certificate.
    Bundle {
        /// The certificate.
        opcert: OpCert,
        /// The key's evolution, which is the period's.
        evolution: Evolution,
        /// Its stamp.
        stamp: Stamp,
    },
    /// The word that the key was dropped.
    Tombstone {
        /// The key that was dropped, where it is known.
        vkey: Option<VerificationKey>,
        /// The drop's stamp.
        stamp: Stamp,
    },
    /// There is or was a key, but not for this moment. Nobody is told when that changes, since the
    /// state does not: after a tick the executor asks again for every node that waits.
    Withheld(Withheld),
}

/// Why a key is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// The period is before the certificate's start: the clock was set back after the activation.
    Early {
        /// The certificate's first period.
        start: KesPeriod,
    },
    /// The key is evolved past the period: the clock was ahead before, or is behind now. It is
    /// served again when the period arrives.
    Ahead {
        /// The key's evolution.
        held: Evolution,
        /// The period's.
        wanted: Evolution,
    },
    /// The key is not yet evolved to the period: a tick is due.
    Behind {
        /// The key's evolution.
        held: Evolution,
        /// The period's.
        wanted: Evolution,
    },
    /// The certificate's last period has passed.
    Expired,
    /// No time is trusted yet, so it cannot be said whether the key is right for this period.
    TimeNotTrusted,
}

impl State {
    /// What a node may be given now.
    #[must_use]
    pub fn served(&self, rules: &Rules, now: Now) -> Served {
        match self.active {
            Active::Empty => Served::Nothing,
            Active::Dropped { vkey, stamp } => Served::Tombstone { vkey, stamp },
            Active::Expired { .. } => Served::Withheld(Withheld::Expired),
            Active::Bundle { .. } if !now.is_trusted => Served::Withheld(Withheld::TimeNotTrusted),
            Active::Bundle {
                opcert,
                evolution: held,
                stamp,
            } => match rules.phase(&opcert, now.period) {
                Phase::Early { .. } => Served::Withheld(Withheld::Early {
                    start: opcert.start_period,
                }),
                Phase::Expired => Served::Withheld(Withheld::Expired),
                Phase::Signing { evolution: wanted } if held > wanted => {
                    Served::Withheld(Withheld::Ahead { held, wanted })
                }
                Phase::Signing { evolution: wanted } if held < wanted => {
                    Served::Withheld(Withheld::Behind { held, wanted })
                }
                Phase::Signing { evolution } => Served::Bundle {
                    opcert,
                    evolution,
                    stamp,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bundle, now, opcert, pendings, rules, vkey};
    use super::*;

    fn served(active: Active, period: u64) -> Served {
        let [.., pending] = pendings();
        let state = State {
            pending,
            active,
            ..State::new()
        };
        state.served(&rules(), now(1, period))
    }

    #[test]
    fn a_bundle_only_in_its_own_period() {
        let at = |period| served(bundle(1, 5, 100, 3), period);
        let held = Evolution(3);
        let opcert = opcert(0, 1, 5, 100);
        let start = opcert.start_period;
        let stamp = Stamp(900);
        let wanted = Evolution;
        for (period, expected) in [
            (0, Served::Withheld(Withheld::Early { start })),
            (99, Served::Withheld(Withheld::Early { start })),
            (
                100,
                Served::Withheld(Withheld::Ahead {
                    held,
                    wanted: wanted(0),
                }),
            ),
            (
                102,
                Served::Withheld(Withheld::Ahead {
                    held,
                    wanted: wanted(2),
                }),
            ),
            (
                103,
                Served::Bundle {
                    opcert,
                    evolution: held,
                    stamp,
                },
            ),
            (
                104,
                Served::Withheld(Withheld::Behind {
                    held,
                    wanted: wanted(4),
                }),
            ),
            (162, Served::Withheld(Withheld::Expired)),
        ] {
            assert_eq!(at(period), expected, "in period {period}");
        }
    }

    #[test]
    fn no_key_by_an_untrusted_time() {
        let state = State {
            active: bundle(1, 5, 100, 3),
            ..State::new()
        };
        for period in [99, 103, 200] {
            let untrusted = Now {
                is_trusted: false,
                ..now(1, period)
            };
            let served = state.served(&rules(), untrusted);
            assert_eq!(served, Served::Withheld(Withheld::TimeNotTrusted));
        }
    }

    #[test]
    fn what_is_no_bundle() {
        let stamp = Stamp(1);
        let vkey = Some(vkey(1));
        let expired = Active::Expired {
            opcert: opcert(0, 1, 5, 100),
            stamp,
            since: stamp,
        };
        assert_eq!(served(Active::Empty, 100), Served::Nothing);
        assert_eq!(
            served(Active::Dropped { vkey, stamp }, 100),
            Served::Tombstone { vkey, stamp }
        );
        // Even where the clock says that its time has not passed: the secret is gone.
        assert_eq!(served(expired, 100), Served::Withheld(Withheld::Expired));
    }
}
