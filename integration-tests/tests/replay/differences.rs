//! Where our agent says something else than the reference said in the recordings, and why.

use std::collections::BTreeSet;

/// One difference on purpose.
pub(crate) struct Difference {
    /// The recording.
    pub(crate) recording: &'static str,
    /// What differs: a field of the answer, or a message.
    pub(crate) what: &'static str,
    /// The rule of ours that makes it so.
    pub(crate) rule: &'static str,
}

const fn difference(recording: &'static str, what: &'static str, rule: &'static str) -> Difference {
    Difference {
        recording,
        what,
        rule,
    }
}

/// Stands for each recording of the control socket.
pub(crate) const EVERY_CONTROL: &str = "every recording of the control socket";

/// All of them. One that is not here fails a test, and so does an entry that no longer differs.
pub(crate) const DIFFERENCES: &[Difference] = &[
    difference(
        EVERY_CONTROL,
        "offer",
        "our own control version is offered before the deployed ones",
    ),
    difference(
        "control-15-export-staged-vkey-after-failed-install",
        "staged",
        "a failed install leaves the staged key",
    ),
    difference(
        "control-22-info-future",
        "installed",
        "a certificate that starts later is scheduled: the key before it stays and forges",
    ),
    difference(
        "control-22-info-future",
        "staged",
        "the scheduled key stays pending until its first period begins",
    ),
    difference(
        "control-23-install-key-start-63-periods-ago",
        "result",
        "the ledger accepts 62 evolutions of a key, not 64: this one makes no valid block",
    ),
    difference(
        "control-25-install-key-expired",
        "result",
        "an expired certificate is refused",
    ),
    difference(
        "control-26-info-after-expired-install",
        "installed",
        "an expired certificate is refused, and the installed key stays",
    ),
    difference(
        "control-26-info-after-expired-install",
        "staged",
        "a failed install leaves the staged key",
    ),
    difference(
        "control-30-install-key-low-counter-after-drop",
        "result",
        "the counter's high-water mark outlives a drop",
    ),
    difference(
        "bootstrap-03-control-info-peer-lost",
        "peer",
        "a peer that was up and is lost is down until it is back; one that is connecting was \
         never up",
    ),
    difference(
        "service-02-first-key-second-key-drop",
        "a state is sent again",
        "a state is sent once on a connection",
    ),
    difference(
        "service-03-connect-after-drop",
        "a drop is sent on connect",
        "a tombstone is sent on connect like a key: a node that missed the drop hears of it",
    ),
];

/// Differences that a replay came upon.
#[derive(Default)]
pub(crate) struct Seen(BTreeSet<(String, &'static str)>);

impl Seen {
    /// Notes one.
    pub(crate) fn note(&mut self, recording: &str, what: &'static str) {
        self.0.insert((recording.to_owned(), what));
    }

    /// Checks that they are those of the table whose recording begins so, no more and no fewer.
    pub(crate) fn are_those_on_purpose(&self, prefixes: &[&str]) {
        let on_purpose: BTreeSet<_> = DIFFERENCES
            .iter()
            .filter(|d| {
                prefixes
                    .iter()
                    .any(|prefix| d.recording.starts_with(prefix))
            })
            .map(|d| (d.recording.to_owned(), d.what))
            .collect();
        let unexplained: Vec<_> = self.0.difference(&on_purpose).collect();
        let gone: Vec<_> = on_purpose.difference(&self.0).collect();
        assert!(
            unexplained.is_empty(),
            "not on purpose, or missing from the table: {unexplained:?}"
        );
        assert!(gone.is_empty(), "in the table, but not different: {gone:?}");
    }
}

#[test]
fn each_difference_is_named_once_and_has_its_rule() {
    let named: BTreeSet<_> = DIFFERENCES.iter().map(|d| (d.recording, d.what)).collect();
    assert_eq!(named.len(), DIFFERENCES.len());
    assert!(DIFFERENCES.iter().all(|d| d.rule.len() > 20));
}
