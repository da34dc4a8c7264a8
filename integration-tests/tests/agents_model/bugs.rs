//! The agent's own rules, or the same with one of them broken: what the checker must find.

use kes_agent::state::{
    Active, Declined, FUTURE_TOLERANCE, Input, Now, Outcome, PeerAnswer, Pending, Phase, Rules,
    Served, State,
};
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::{IfPending, Refusal};
use kes_wire::protocol::stamp::Stamp;

use super::certificates::{Cold, cold_vkey};
use super::scenes::{CLOCKS, FUTURE, LIFE, OPERATORS, RESTARTS, STRANGER};

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A command that is refused wipes the pending key all the same.
    FailureLosesPending,
    /// `keygen` replaces what waits without being asked to.
    KeygenReplacesUnasked,
    /// An imported certificate replaces another one without being asked to.
    ImportReplacesUnasked,
    /// The gate does not ask the high-water mark.
    GateIgnoresMark,
    /// A peer's key with a lower counter replaces a key.
    PeerLowersCounter,
    /// A peer's key of before a drop is taken.
    TombstoneIgnored,
    /// A restart of the machine does not find the tombstone.
    TombstoneNotOnDisk,
    /// A restart of the machine does not find the mark.
    MarkNotOnDisk,
    /// A peer's older state replaces a newer one.
    OlderIsTaken,
    /// A stamp of the far future is taken.
    FutureIsTaken,
    /// Another pool's key is taken.
    ForeignIsTaken,
    /// An install or a drop is stamped by the clock alone.
    StampedByClockAlone,
    /// What was taken is passed on with a stamp of its own.
    TakenIsStampedAnew,
    /// What was declined for the time being is never asked for again.
    NeverAsksAgain,
    /// A time that is not trusted evolves keys.
    EveryTimeIsTrusted,
    /// A node is served by a time that is not trusted.
    ServesByUntrustedTime,
    /// A node is served whatever is held.
    ServesWhatIsHeld,
    /// A scheduled key is active at once.
    ScheduledBeginsAtOnce,
    /// The key is evolved one too far.
    EvolvesTooFar,
    /// The key is not evolved.
    DoesNotEvolve,
    /// The key does not expire.
    DoesNotExpire,
}

/// All of them, and the scene that finds each.
pub const BUGS: &[(Bug, &str)] = &[
    (Bug::FailureLosesPending, OPERATORS),
    (Bug::KeygenReplacesUnasked, OPERATORS),
    (Bug::ImportReplacesUnasked, OPERATORS),
    (Bug::GateIgnoresMark, OPERATORS),
    (Bug::MarkNotOnDisk, OPERATORS),
    (Bug::StampedByClockAlone, OPERATORS),
    (Bug::ScheduledBeginsAtOnce, OPERATORS),
    (Bug::EveryTimeIsTrusted, LIFE),
    (Bug::ServesByUntrustedTime, CLOCKS),
    (Bug::ServesWhatIsHeld, LIFE),
    (Bug::EvolvesTooFar, LIFE),
    (Bug::DoesNotEvolve, LIFE),
    (Bug::DoesNotExpire, LIFE),
    (Bug::PeerLowersCounter, RESTARTS),
    (Bug::TombstoneIgnored, RESTARTS),
    (Bug::TombstoneNotOnDisk, RESTARTS),
    (Bug::OlderIsTaken, RESTARTS),
    (Bug::TakenIsStampedAnew, RESTARTS),
    (Bug::FutureIsTaken, FUTURE),
    (Bug::NeverAsksAgain, CLOCKS),
    (Bug::ForeignIsTaken, STRANGER),
];

/// Applies an input as the agent does, but for the bug. `state` becomes the next one; where the
/// input is refused it stays as it is.
pub fn apply(
    bug: Option<Bug>,
    state: &mut State,
    rules: &Rules,
    now: Now,
    input: &Input,
) -> Result<Outcome, Refusal> {
    let (asked, rules, now, input) = tampered(bug, state, rules, now, input);
    let result = asked.apply(&rules, now, &input);
    match result {
        Ok(mut outcome) => {
            spoil(bug, state, &rules, now, &input, &mut outcome);
            *state = outcome.state.clone();
            Ok(outcome)
        }
        Err(refusal) => {
            if bug == Some(Bug::FailureLosesPending) {
                state.pending = Pending::Empty;
            }
            Err(refusal)
        }
    }
}

/// What is asked instead.
fn tampered(
    bug: Option<Bug>,
    state: &State,
    rules: &Rules,
    mut now: Now,
    input: &Input,
) -> (State, Rules, Now, Input) {
    let (mut asked, mut rules, mut input) = (state.clone(), rules.clone(), input.clone());
    match (bug, &mut input) {
        (
            Some(Bug::KeygenReplacesUnasked),
            Input::Keygen { if_pending } | Input::Generated { if_pending, .. },
        ) => *if_pending = IfPending::Replace,
        (Some(Bug::ImportReplacesUnasked), Input::ImportOpcert { import, .. }) => {
            import.replace = true;
        }
        (Some(Bug::GateIgnoresMark), Input::ImportOpcert { .. } | Input::Activate { .. }) => {
            asked.high_water_mark = None;
        }
        (Some(Bug::TombstoneIgnored), Input::PeerKey { .. }) => asked.tombstone = None,
        (Some(Bug::ForeignIsTaken), Input::PeerKey { opcert, .. }) => {
            let foreign = cold_vkey(Cold::Foreign);
            if opcert.is_signed_by(&foreign) {
                rules.cold_vkey = foreign;
            }
        }
        (Some(Bug::FutureIsTaken), Input::PeerKey { stamp, .. } | Input::PeerDropped { stamp }) => {
            now.stamp = now
                .stamp
                .max(Stamp(stamp.0.saturating_sub(FUTURE_TOLERANCE)));
        }
        (Some(Bug::StampedByClockAlone), Input::Activate { .. } | Input::DropActive) => {
            asked.newest_stamp = Stamp(0);
        }
        (Some(Bug::EveryTimeIsTrusted), _) => now.is_trusted = true,
        (
            Some(Bug::ScheduledBeginsAtOnce),
            Input::Activate {
                import: Some(import),
                ..
            },
        ) => now.period = now.period.max(import.opcert.start_period),
        (Some(Bug::EvolvesTooFar), Input::Tick) => {
            if let Active::Bundle { opcert, .. } = &state.active {
                let next = KesPeriod(now.period.0 + 1);
                if matches!(rules.phase(opcert, next), Phase::Signing { .. }) {
                    now.period = next;
                }
            }
        }
        _ => {}
    }
    (asked, rules, now, input)
}

/// What comes of it instead.
fn spoil(
    bug: Option<Bug>,
    before: &State,
    rules: &Rules,
    now: Now,
    input: &Input,
    outcome: &mut Outcome,
) {
    let declined = match outcome.answer {
        Some(PeerAnswer::Declined(declined)) => Some(declined),
        Some(PeerAnswer::Taken | PeerAnswer::Equal) | None => None,
    };
    let mut without = before.clone();
    match (bug, declined, input) {
        (Some(Bug::PeerLowersCounter), Some(Declined::EachRefuses { theirs, ours, .. }), _)
            if theirs > ours =>
        {
            without.active = Active::Empty;
            without.high_water_mark = None;
        }
        (Some(Bug::OlderIsTaken), Some(Declined::Older { .. }), _) => {
            without.active = Active::Empty;
            without.newest_stamp = Stamp(0);
        }
        (Some(Bug::TakenIsStampedAnew), ..) if outcome.answer == Some(PeerAnswer::Taken) => {
            let anew = Stamp(outcome.state.newest_stamp.0 + 1);
            outcome.state.newest_stamp = anew;
            if let Active::Bundle { stamp, .. } | Active::Dropped { stamp, .. } =
                &mut outcome.state.active
            {
                *stamp = anew;
            }
            return;
        }
        (Some(Bug::DoesNotEvolve), _, Input::Tick) => {
            if let (
                Active::Bundle { evolution, .. },
                Active::Bundle {
                    evolution: held, ..
                },
            ) = (&mut outcome.state.active, &before.active)
            {
                *evolution = *held;
            }
            return;
        }
        (Some(Bug::DoesNotExpire), _, Input::Tick) => {
            if matches!(outcome.state.active, Active::Expired { .. }) {
                outcome.state.active = before.active.clone();
            }
            return;
        }
        _ => return,
    }
    if let Ok(taken) = without.apply(rules, now, input) {
        *outcome = taken;
    }
}

/// What a node may be given, but for the bug.
pub fn served(bug: Option<Bug>, state: &State, rules: &Rules, mut now: Now) -> Served {
    match bug {
        Some(Bug::ServesByUntrustedTime) => now.is_trusted = true,
        Some(Bug::ServesWhatIsHeld) => {
            if let Active::Bundle {
                opcert,
                evolution,
                stamp,
            } = state.active
            {
                return Served::Bundle {
                    opcert,
                    evolution,
                    stamp,
                };
            }
        }
        _ => {}
    }
    state.served(rules, now)
}
