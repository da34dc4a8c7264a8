//! The rules, said once more and independently: what may become of a state by an input.

use std::collections::BTreeSet;

use kes_agent::state::{
    Active, FUTURE_TOLERANCE, Input, Now, Outcome, PeerAnswer, Pending, Rules, State,
};
use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::IfPending;

use super::agent::Seen;
use super::certificates::{Cold, Key, is_of};

/// A rule of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    FailureLosesNothing,
    PendingIsKept,
    ActiveIsKept,
    DroppedStaysAway,
    CountersDoNotRegress,
    StampsGrow,
    OnlyOfThisPool,
    UntrustedTimeDoesNothing,
    KeysFollowThePeriod,
    PeersBringNoStepBack,
    FutureIsDeclined,
}

/// What happened to an agent.
pub struct Happened<'a> {
    pub cold: Cold,
    pub rules: &'a Rules,
    pub now: Now,
    pub before: &'a State,
    pub input: &'a Input,
    pub outcome: Option<&'a Outcome>,
    pub after: &'a State,
    /// Which keys a peer's drop is of.
    pub dropped: &'a BTreeSet<Key>,
}

/// Judges what happened, and remembers it.
pub fn judge(it: &Happened<'_>, seen: &mut Seen, broken: &mut BTreeSet<Broken>) {
    let mut rule = |broken_rule, holds: bool| {
        if !holds {
            broken.insert(broken_rule);
        }
    };
    if it.outcome.is_none() {
        rule(Broken::FailureLosesNothing, it.before == it.after);
        return;
    }
    rule(Broken::PendingIsKept, pending_is_kept(it));
    rule(Broken::ActiveIsKept, active_is_kept(it));
    rule(Broken::CountersDoNotRegress, counters_are_right(it, seen));
    rule(Broken::StampsGrow, stamps_grow(it));
    rule(
        Broken::OnlyOfThisPool,
        it.after
            .active
            .certificate()
            .is_none_or(|opcert| is_of(it.cold, opcert)),
    );
    rule(
        Broken::UntrustedTimeDoesNothing,
        it.now.is_trusted || does_nothing(it),
    );
    rule(Broken::KeysFollowThePeriod, follows_the_period(it));
    rule(Broken::PeersBringNoStepBack, is_no_step_back(it));
    rule(Broken::FutureIsDeclined, future_is_declined(it));
    remember(it, seen);
    let comes_back = bundle(&it.after.active)
        .is_some_and(|opcert| seen.drops.contains(&Key::of(&opcert.kes_vkey)));
    rule(Broken::DroppedStaysAway, !comes_back);
}

fn bundle(active: &Active) -> Option<&OpCert> {
    match active {
        Active::Bundle { opcert, .. } => Some(opcert),
        Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => None,
    }
}

fn is_vacant(state: &State) -> bool {
    matches!(state.active, Active::Empty | Active::Dropped { .. })
}

/// The pending key was installed by this.
fn installed<'a>(it: &Happened<'a>) -> Option<&'a OpCert> {
    let opcert = bundle(&it.after.active)?;
    let own = matches!(it.input, Input::Activate { .. } | Input::Tick);
    (own && it.before.pending.vkey() == Some(&opcert.kes_vkey)).then_some(opcert)
}

fn was_taken(it: &Happened<'_>) -> bool {
    it.outcome
        .is_some_and(|outcome| outcome.answer == Some(PeerAnswer::Taken))
}

fn pending_is_kept(it: &Happened<'_>) -> bool {
    let (before, after) = (&it.before.pending, &it.after.pending);
    let is_scheduled = matches!(before, Pending::Scheduled { .. });
    if let Some(vkey) = before.vkey()
        && after.vkey() != Some(vkey)
    {
        return match it.input {
            Input::DropPending => true,
            Input::Generated { if_pending, .. } => {
                *if_pending == IfPending::Replace && !is_scheduled
            }
            _ => installed(it).is_some(),
        };
    }
    if let (Some(held), Some(now)) = (before.certificate(), after.certificate())
        && held != now
    {
        return !is_scheduled
            && match it.input {
                Input::ImportOpcert { import, .. }
                | Input::Activate {
                    import: Some(import),
                    ..
                } => import.replace && import.opcert == *now,
                _ => false,
            };
    }
    true
}

fn active_is_kept(it: &Happened<'_>) -> bool {
    let Active::Bundle {
        opcert: held,
        evolution,
        ..
    } = &it.before.active
    else {
        return true;
    };
    match &it.after.active {
        Active::Empty => false,
        Active::Dropped { .. } => {
            *it.input == Input::DropActive
                || matches!(it.input, Input::PeerDropped { .. }) && was_taken(it)
        }
        Active::Expired { opcert, .. } => {
            let first_not = held.start_period.0 + u64::from(it.rules.max_evolutions);
            opcert == held && *it.input == Input::Tick && it.now.period.0 >= first_not
        }
        Active::Bundle {
            opcert,
            evolution: now,
            ..
        } => {
            opcert == held && now >= evolution
                || installed(it).is_some()
                || matches!(it.input, Input::PeerKey { .. }) && was_taken(it)
        }
    }
}

/// Own commands bring no lower counter than was active last, unless the operator says so where
/// nothing is active; a peer none over a key.
fn counters_are_right(it: &Happened<'_>, seen: &Seen) -> bool {
    let allowed = match it.input {
        Input::Activate {
            allow_lower_counter,
            ..
        } => *allow_lower_counter && is_vacant(it.before),
        _ => false,
    };
    if let Some(opcert) = installed(it) {
        return allowed || Some(opcert.counter) >= seen.counter;
    }
    if matches!(it.input, Input::PeerKey { .. }) && was_taken(it) {
        let ours = it.before.active.certificate().map(|opcert| opcert.counter);
        let theirs = bundle(&it.after.active).map(|opcert| opcert.counter);
        return theirs >= ours;
    }
    true
}

/// An own install or drop is newer than all that was known.
fn stamps_grow(it: &Happened<'_>) -> bool {
    let newest_known = it.before.active.stamp().max(Some(it.before.newest_stamp));
    let own_drop = *it.input == Input::DropActive;
    if installed(it).is_some() || own_drop {
        return it.after.active.stamp() > newest_known;
    }
    match it.input {
        // What is taken keeps its stamp.
        Input::PeerKey { stamp, .. } | Input::PeerDropped { stamp } if was_taken(it) => {
            it.after.active.stamp() == Some(*stamp)
        }
        _ => it.after.active.stamp() == it.before.active.stamp(),
    }
}

/// By a time that is not trusted no key is evolved, expired or begun.
fn does_nothing(it: &Happened<'_>) -> bool {
    match (it.input, &it.after.active) {
        (Input::Tick, _) => it.before == it.after,
        (
            Input::PeerKey {
                evolution: came, ..
            },
            Active::Bundle { evolution, .. },
        ) => !was_taken(it) || evolution == came,
        _ => true,
    }
}

/// After a tick of trusted time the key is at its period's evolution, unless it was past it
/// before, and no key is past its last period or begun before its first.
fn follows_the_period(it: &Happened<'_>) -> bool {
    if !it.now.is_trusted {
        return true;
    }
    let Active::Bundle {
        opcert, evolution, ..
    } = &it.after.active
    else {
        return true;
    };
    let (period, start) = (it.now.period.0, opcert.start_period.0);
    let last = start + u64::from(it.rules.max_evolutions) - 1;
    let held_before = bundle(&it.before.active) == Some(opcert);
    match (it.input, &it.before.active) {
        (
            Input::Tick,
            Active::Bundle {
                evolution: before, ..
            },
        ) if held_before => {
            let wanted = period.saturating_sub(start);
            period <= last && u64::from(evolution.0) == wanted.max(before.0.into())
        }
        _ if held_before => true,
        _ => (start..=last).contains(&period) && u64::from(evolution.0) == period - start,
    }
}

fn is_no_step_back(it: &Happened<'_>) -> bool {
    if !was_taken(it) {
        return true;
    }
    match (it.input, it.before.active.stamp()) {
        (Input::PeerKey { stamp, .. }, Some(ours)) => *stamp > ours,
        (Input::PeerDropped { stamp }, Some(ours)) => *stamp >= ours,
        _ => true,
    }
}

fn future_is_declined(it: &Happened<'_>) -> bool {
    match it.input {
        Input::PeerKey { stamp, .. } | Input::PeerDropped { stamp } => {
            !was_taken(it) || stamp.0 <= it.now.stamp.0 + FUTURE_TOLERANCE
        }
        _ => true,
    }
}

fn remember(it: &Happened<'_>, seen: &mut Seen) {
    let lost = bundle(&it.before.active)
        .or(it.before.active.certificate())
        .map(|opcert| Key::of(&opcert.kes_vkey));
    if *it.input == Input::DropActive {
        seen.last_drop = lost.into_iter().collect();
        seen.drops.extend(lost);
    }
    if matches!(it.input, Input::PeerDropped { .. }) && was_taken(it) {
        seen.last_drop = it.dropped.iter().copied().chain(lost).collect();
        seen.drops.extend(seen.last_drop.iter().copied());
    }
    if let Some(opcert) = installed(it) {
        seen.counter = Some(opcert.counter);
    }
    if matches!(it.input, Input::PeerKey { .. }) && was_taken(it) {
        let counter = bundle(&it.after.active).map(|opcert| opcert.counter);
        seen.counter = seen.counter.max(counter);
    }
    if let (
        Input::Activate {
            allow_lower_counter: true,
            ..
        },
        Pending::Scheduled { opcert },
    ) = (it.input, &it.after.pending)
        && it.before.pending != it.after.pending
        && Some(opcert.counter) < seen.counter
    {
        // The operator's word, for the day when the period begins.
        seen.counter = Some(opcert.counter);
    }
}
