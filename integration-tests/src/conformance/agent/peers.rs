//! The rules among agents: what the agent under test makes of a peer's states.

use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::Scene;
use super::peer::{COMES_BACK, Follower, drop_message};
use super::periods::{next_period, soon};
use super::take;
use crate::conformance::keys::{Certificate, Message, Served};
use crate::conformance::rotation::{activate, field, pending, plain};
use crate::conformance::wire::QUIET;
use crate::conformance::{Check, Found, broken, hold};

/// A stamp that is further ahead is not taken.
const AHEAD_MICROS: u64 = 6 * 60 * 1_000_000;

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "PEER-1",
            what: "a damaged, foreign, expired, early, evolved or ahead key is not taken; one that \
                   is behind is, and evolved",
            run: gate,
        },
        Check {
            id: "PEER-2",
            what: "a key is replaced by one with a newer stamp and no lower counter, and no other",
            run: order,
        },
        Check {
            id: "PEER-3",
            what: "a drop wins a tie, and is not taken where it is older or far ahead",
            run: drops,
        },
        Check {
            id: "PEER-4",
            what: "after a drop no older key with a lower counter is taken (no slot was emptied)",
            run: lower_after_drop,
        },
        Check {
            id: "PEER-5",
            what: "0 for what was taken, 1 for the same and for stamp and counter, 2 for the rest",
            run: answers,
        },
        Check {
            id: "PEER-6",
            what: "what was taken is sent on with its stamp, what was declined is not",
            run: sent_on,
        },
        Check {
            id: "TOMB-2",
            what: "a dropped key, and one stamped no later, never comes back (no restart)",
            run: tombstone,
        },
        Check {
            id: "PEER-8",
            what: "two states that refuse each other stay, and the operator is told",
            run: each_refuses,
        },
        Check {
            id: "PEER-7",
            what: "an early key is come back for when its period begins",
            run: comes_back_for,
        },
        Check {
            id: "SCH-3",
            what: "a scheduled key whose counter is too low by now stays, certified, and the \
                   operator is told",
            run: rule_broken_by_now,
        },
        Check {
            id: "PEER-9",
            what: "a peer that was away, or hangs up, is tried again within 10 seconds",
            run: tried_again,
        },
    ]
}

/// A certificate that goes with the key, by this cold key.
fn certified_anew(key: &Served, cold: &SigningKey, counter: u64) -> Certificate {
    let certificate = key.certificate;
    Certificate::issue(cold, certificate.vkey, counter, certificate.start)
}

/// A good key with one byte of its message changed.
fn changed(scene: &Scene, at: usize) -> Found<Vec<u8>> {
    let mut message = scene.peer_key(3)?.bytes_2_0();
    message[at] ^= 1;
    Ok(message)
}

/// Keys that are refused for what they are: the answer is 2.
fn refused_keys(scene: &Scene) -> Found<Vec<(&'static str, Vec<u8>)>> {
    let (cold, periods) = (scene.cold()?, scene.periods()?);
    let key = |ago| scene.peer_key(ago);
    let with_start = |start: u64, evolution: u32| -> Found<Vec<u8>> {
        let good = key(0)?;
        let (stamp, counter) = (good.stamp, good.certificate.counter);
        Ok(Served::new(cold, stamp, counter, start, evolution).bytes_2_0())
    };
    let foreign = SigningKey::from_bytes(&[7; 32]);
    let mut foreign_key = key(3)?;
    foreign_key.certificate =
        certified_anew(&foreign_key, &foreign, foreign_key.certificate.counter);
    let mut another_key = key(3)?;
    another_key.key = key(3)?.key;
    let now = periods.now();
    let lived = u32::try_from(periods.most_evolutions).unwrap_or(64);
    Ok(vec![
        ("a key with a damaged leaf", changed(scene, 9)?),
        ("a key with a damaged end", changed(scene, 9 + 607)?),
        (
            "a key at another evolution than it says",
            changed(scene, 620)?,
        ),
        (
            "a certificate whose signature is damaged",
            changed(scene, 732)?,
        ),
        (
            "another key than the certificate's",
            another_key.bytes_2_0(),
        ),
        ("another pool's key", foreign_key.bytes_2_0()),
        (
            "an expired key",
            with_start(now.saturating_sub(lived.into()), lived - 1)?,
        ),
        ("an early key", with_start(now + 1, 0)?),
        ("a key evolved past the current period", with_start(now, 1)?),
    ])
}

fn declined(peer: &Follower<'_>, what: &str, message: &[u8]) -> Found {
    let answer = peer.says(message)?;
    hold(answer != 0, format!("{what} is taken"))
}

fn gate(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        for (what, message) in refused_keys(scene)? {
            declined(peer, what, &message)?;
            scene.serves(&held, &format!("{what} was declined"))?;
        }
        let mut ahead = scene.peer_key(3)?;
        ahead.stamp += AHEAD_MICROS;
        declined(peer, "a key stamped 6 minutes ahead", &ahead.bytes_2_0())?;
        scene.serves(&held, "a key stamped 6 minutes ahead was declined")?;

        let mut behind = scene.peer_key(3)?;
        let (stamp, counter) = (behind.stamp, behind.certificate.counter);
        behind = Served::new(scene.cold()?, stamp, counter, behind.certificate.start, 1);
        let answer = peer.says_key(&behind)?;
        hold(
            answer == 0,
            format!("a key that is behind has the answer {answer}"),
        )?;
        scene.serves(&behind, "a key that is behind was taken")?;
        let Message::Key(served) = scene.told()? else {
            return broken("a drop, where a key was taken");
        };
        served.layout()?;
        let period = behind.certificate.start + u64::from(served.evolution);
        let now = scene.periods()?.now();
        hold(
            period == now || period + 1 == now,
            format!("a key that was behind is served as of period {period}, in {now}"),
        )
    })
}

/// Keys that are right and refused for stamp or counter: the answer is 1.
fn outdated_keys(scene: &Scene, held: &Served) -> Found<Vec<(&'static str, Vec<u8>)>> {
    let with = |stamp: u64, counter: u64| -> Found<Vec<u8>> {
        let mut key = scene.peer_key(3)?;
        key.stamp = stamp;
        key.certificate = certified_anew(&key, scene.cold()?, counter);
        Ok(key.bytes_2_0())
    };
    let (stamp, counter) = (held.stamp, held.certificate.counter);
    let newer = scene.peer_socket()?.next_stamp();
    Ok(vec![
        (
            "an older key with the same counter",
            with(stamp - 1, counter)?,
        ),
        (
            "an older key with a higher counter",
            with(stamp - 1, counter + 1)?,
        ),
        (
            "a newer key with a lower counter",
            with(newer, counter - 1)?,
        ),
        ("another key with the same stamp", with(stamp, counter)?),
    ])
}

fn order(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        for (what, message) in outdated_keys(scene, &held)? {
            declined(peer, what, &message)?;
            scene.serves(&held, &format!("{what} was declined"))?;
        }
        let mut equal = scene.peer_key(3)?;
        equal.certificate = certified_anew(&equal, scene.cold()?, held.certificate.counter);
        let answer = peer.says_key(&equal)?;
        hold(
            answer == 0,
            format!("a newer key with the same counter is answered with {answer}"),
        )?;
        scene.serves(&equal, "a newer key with the same counter was taken")
    })
}

fn drops(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        let far = peer.stamp() + AHEAD_MICROS;
        for (what, stamp) in [("an older drop", held.stamp - 1), ("a drop far ahead", far)] {
            declined(peer, what, &drop_message(stamp))?;
            scene.serves(&held, &format!("{what} was declined"))?;
        }
        let answer = peer.says_drop(held.stamp)?;
        hold(
            answer == 0,
            format!("a drop with the key's own stamp is answered with {answer}"),
        )?;
        is_dropped(scene, held.stamp)
    })
}

/// Who connects is served no key. Whether it is told of the drop is the check of TOMB-1.
pub(super) fn is_dropped(scene: &Scene, stamp: u64) -> Found {
    if scene.service("Service:2.0")?.is_quiet(QUIET).is_ok() {
        return Ok(());
    }
    match scene.told()? {
        Message::Drop(told) => hold(told == stamp, "nodes are told of a drop with another stamp"),
        Message::Key(_) => broken("a peer's drop was taken, and nodes are served a key"),
    }
}

/// The agent holds a key of this peer, and takes its drop.
fn dropped(peer: &Follower<'_>) -> Found<(Served, u64)> {
    let (held, stamp) = (peer.holds_a_key()?, peer.stamp());
    let answer = peer.says_drop(stamp)?;
    hold(
        answer == 0,
        format!("a newer drop is answered with {answer}"),
    )?;
    Ok((held, stamp))
}

fn lower_after_drop(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let (held, drop) = dropped(peer)?;
        let mut key = scene.peer_key(3)?;
        key.stamp = drop - 1;
        key.certificate = certified_anew(&key, scene.cold()?, held.certificate.counter - 1);
        declined(peer, "an older key with a lower counter", &key.bytes_2_0())?;
        is_dropped(scene, drop)?;
        peer.holds_a_key().map(std::mem::drop)
    })
}

fn tombstone(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let (held, drop) = dropped(peer)?;
        let again = |counter: u64| -> Found<Vec<u8>> {
            let mut again = held.clone();
            again.stamp = peer.stamp();
            again.certificate = certified_anew(&held, scene.cold()?, counter);
            Ok(again.bytes_2_0())
        };
        let mut no_later = scene.peer_key(3)?;
        no_later.stamp = drop;
        let what = "the dropped key, stamped and certified anew,";
        declined(peer, what, &again(scene.next_counter())?)?;
        let what = "another key with the drop's stamp";
        declined(peer, what, &no_later.bytes_2_0())?;
        is_dropped(scene, drop)?;
        let next = peer.holds_a_key()?;
        let what = "the dropped key, after another was installed,";
        declined(peer, what, &again(scene.next_counter())?)?;
        scene.serves(&next, &format!("{what} was declined"))
    })
}

fn answered(peer: &Follower<'_>, what: &str, message: &[u8], expected: u64) -> Found {
    let answer = peer.says(message)?;
    hold(
        answer == expected,
        format!("{what} is answered with {answer}, not {expected}"),
    )
}

fn answers(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        answered(peer, "the same key", &held.bytes_2_0(), 1)?;
        for (what, message) in outdated_keys(scene, &held)? {
            answered(peer, what, &message, 1)?;
        }
        for (what, message) in refused_keys(scene)? {
            answered(peer, what, &message, 2)?;
        }
        let mut ahead = scene.peer_key(3)?;
        ahead.stamp += AHEAD_MICROS;
        let what = "a key stamped 6 minutes ahead";
        answered(peer, what, &ahead.bytes_2_0(), 1)?;
        let what = "an older drop";
        answered(peer, what, &drop_message(held.stamp - 1), 1)?;
        let drop = drop_message(peer.stamp());
        answered(peer, "a newer drop", &drop, 0)?;
        answered(peer, "the same drop", &drop, 1)?;
        peer.holds_a_key().map(std::mem::drop)
    })
}

fn sent_on(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        let node = scene.service("Service:2.0")?;
        let is_told = |expected: &Served| match Message::read(&node)? {
            Message::Key(told) => hold(
                told.stamp == expected.stamp && told.certificate == expected.certificate,
                "a peer's key is sent on with another stamp or certificate",
            ),
            Message::Drop(_) => broken("a drop is sent on, where there was none"),
        };
        is_told(&held)?;
        take(&node)?;
        for (what, message) in outdated_keys(scene, &held)? {
            declined(peer, what, &message)?;
        }
        node.is_quiet(QUIET)?;
        is_sent_on_at_once(peer, &node, is_told)
    })
}

fn is_sent_on_at_once(
    peer: &Follower<'_>,
    node: &crate::conformance::wire::Wire,
    is_told: impl Fn(&Served) -> Found,
) -> Found {
    let next = peer.holds_a_key()?;
    is_told(&next)?;
    take(node)?;
    let stamp = peer.stamp();
    peer.says_drop(stamp)?;
    match Message::read(node)? {
        Message::Drop(told) => hold(told == stamp, "a drop is sent on with another stamp"),
        Message::Key(_) => broken("a key, where a drop was to be sent on"),
    }
}

fn each_refuses(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        let mut other = scene.peer_key(3)?;
        let lower = held.certificate.counter - 1;
        other.certificate = certified_anew(&other, scene.cold()?, lower);
        let what = "a newer key with a lower counter";
        declined(peer, what, &other.bytes_2_0())?;
        scene.serves(&held, &format!("{what} was declined"))?;
        let operator = scene.operator()?;
        if operator.rotation().is_err() {
            return Ok(());
        }
        let status = operator.status()?;
        let peers = field(&status, 15).and_then(|peers| peers.as_array().cloned());
        let told = peers.unwrap_or_default().into_iter().any(|peer| {
            let note = field(&peer, 5).and_then(|hint| field(hint, 1)?.as_text());
            note.is_some_and(|sentence| !sentence.is_empty())
        });
        hold(told, "the status has no hint for the operator")
    })
}

fn comes_back_for(scene: &Scene) -> Found {
    scene.peer_socket()?;
    let periods = soon(scene)?;
    scene.as_peer(|peer| {
        let mut early = scene.peer_key(0)?;
        let (stamp, counter) = (early.stamp, early.certificate.counter);
        let start = periods.now() + 1;
        early = Served::new(scene.cold()?, stamp, counter, start, 0);
        declined(peer, "an early key", &early.bytes_2_0())?;
        peer.until_it_comes_back(periods.until_next() + COMES_BACK)?;
        let now = periods.now();
        hold(
            now >= start,
            format!("it is come back for in period {now}, before {start}"),
        )?;
        let answer = peer.says_key(&early)?;
        hold(
            answer == 0,
            format!("in its time the key is answered with {answer}"),
        )
    })
}

fn rule_broken_by_now(scene: &Scene) -> Found {
    scene.peer_socket()?;
    soon(scene)?;
    let operator = scene.operator()?;
    operator.rotation()?;
    let vkey = operator.generate()?;
    let scheduled = operator.certify(vkey, operator.period()? + 1)?;
    let status = operator.call(&activate(&scheduled, false))?.done()?;
    hold(pending(&status)?.0 == 3, "the key is not scheduled")?;
    // Its counter is one higher: the mark is above the scheduled key's then.
    scene.as_peer(|peer| peer.holds_a_key().map(drop))?;
    let Message::Key(before) = scene.told()? else {
        return broken("a drop, where a peer's key was taken");
    };
    drop(operator);
    let operator = next_period(scene)?;
    let status = operator.status()?;
    let (state, kept) = pending(&status)?;
    hold(
        state == 2 && kept == Some(vkey.to_vec()),
        format!("the pending slot is in state {state}, not certified with the scheduled key"),
    )?;
    let warnings = field(&status, 14).and_then(|warnings| warnings.as_array().cloned());
    let told = warnings
        .unwrap_or_default()
        .into_iter()
        .any(|warning| field(&warning, 0).and_then(|code| code.as_text()) == Some("not-activated"));
    hold(told, "the status does not warn of it (not-activated)")?;
    scene.serves(&before, "a scheduled key with a lower counter was due")?;
    operator.call(&plain(5))?.changed(true).map(drop)
}

fn tried_again(scene: &Scene) -> Found {
    let socket = scene.peer_socket()?;
    scene.as_peer(|peer| peer.holds_a_key().map(drop))?;
    socket.away(Duration::from_secs(1))?;
    for _ in 0..3 {
        // Connected, and hung up at once.
        let (_, waited) = socket.accept()?;
        let seconds = waited.as_secs();
        let in_time = waited < Duration::from_secs(12);
        hold(in_time, format!("it is tried again after {seconds} s"))?;
    }
    // And it goes on as before.
    scene.as_peer(|peer| peer.holds_a_key().map(drop))
}
