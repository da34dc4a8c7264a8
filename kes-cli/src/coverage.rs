//! Until when nodes have a key: the active one, then the scheduled one.

use kes_wire::protocol::control::rotation::{ActiveStatus, OpCertStatus, PendingStatus, Status};

/// What is served, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coverage<'a> {
    /// The certificate with which it ends.
    pub(crate) last: &'a OpCertStatus,
    /// Whether that is the scheduled one.
    pub(crate) is_scheduled: bool,
    /// KES periods until then, the current one counted.
    pub(crate) periods: u64,
}

/// Until when nodes have a key without a gap; `None` where they have none now.
pub(crate) fn coverage(status: &Status) -> Option<Coverage<'_>> {
    let ActiveStatus::Serving { opcert: active, .. } = &status.active else {
        return None;
    };
    let (last, is_scheduled) = match &status.pending {
        PendingStatus::Scheduled { opcert, .. } if gap(status).is_none() => (opcert, true),
        PendingStatus::Scheduled { .. }
        | PendingStatus::Empty {}
        | PendingStatus::Key { .. }
        | PendingStatus::Certified { .. } => (active, false),
    };
    Some(Coverage {
        last,
        is_scheduled,
        periods: periods_left(last, status),
    })
}

/// KES periods until a certificate's end, the current one counted.
pub(crate) fn periods_left(opcert: &OpCertStatus, status: &Status) -> u64 {
    opcert
        .expiry_period
        .0
        .saturating_sub(status.current_period.0)
}

/// How many periods nodes cannot forge before the scheduled key begins; `None` where no key is
/// scheduled or there is no such gap.
pub(crate) fn gap(status: &Status) -> Option<u64> {
    let PendingStatus::Scheduled { opcert: next, .. } = &status.pending else {
        return None;
    };
    let from = match &status.active {
        ActiveStatus::Serving { opcert, .. } => opcert.expiry_period,
        ActiveStatus::Empty {} | ActiveStatus::Expired { .. } | ActiveStatus::Dropped { .. } => {
            status.current_period
        }
    };
    let gap = next.start_period.0.checked_sub(from.0);
    gap.filter(|periods| *periods > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PERIOD, certified, dropped, scheduled, serving, well};

    #[test]
    fn a_schedule_counts_unless_it_leaves_a_gap() {
        // Active until 1642, the other from its start for 62 periods.
        for (pending, is_scheduled, periods, without_key) in [
            (PendingStatus::Empty {}, false, 42, None),
            (certified(PERIOD), false, 42, None),
            (scheduled(PERIOD + 1), true, 63, None),
            (scheduled(PERIOD + 42), true, 104, None),
            (scheduled(PERIOD + 43), false, 42, Some(1)),
        ] {
            let mut status = well();
            status.active = serving(PERIOD - 20);
            status.pending = pending;
            let coverage = coverage(&status).unwrap();
            assert_eq!(
                (coverage.is_scheduled, coverage.periods),
                (is_scheduled, periods)
            );
            assert_eq!(gap(&status), without_key);
        }
        let mut status = well();
        status.active = dropped();
        assert_eq!(coverage(&status), None);
        status.pending = scheduled(PERIOD + 3);
        assert_eq!((coverage(&status), gap(&status)), (None, Some(3)));
    }
}
