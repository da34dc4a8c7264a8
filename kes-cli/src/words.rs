//! Moments and lengths of time in words.

use kes_wire::sum6kes::VerificationKey;
use kes_wire::sys::sodium;
use kes_wire::unix_time::UnixTime;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `in 5 days`, `3 h 20 min ago`.
pub(crate) fn relative(moment: UnixTime, now: UnixTime) -> String {
    if moment >= now {
        format!("in {}", length((moment.0 - now.0) / 1_000_000))
    } else {
        format!("{} ago", length((now.0 - moment.0) / 1_000_000))
    }
}

/// A length of time, to two places.
fn length(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!(
            "{} {} h",
            several(seconds / DAY, "day"),
            seconds % DAY / HOUR
        ),
    }
}

/// `1 node`, `2 nodes`.
pub(crate) fn several(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A short form of a verification key, to compare by eye between two machines: the first 80 bits
/// of its Blake2b-256 hash.
pub(crate) fn fingerprint(vkey: &VerificationKey) -> String {
    let mut hash = [0; 32];
    sodium::blake2b(&vkey.0, &mut hash);
    let groups = hash[..10]
        .chunks(2)
        .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]));
    groups.collect::<Vec<_>>().join("-")
}

/// `cardano (1000)`: a user by name, where this machine's list of users has one.
pub(crate) fn user(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    match name_in(&users, uid) {
        Some(name) => format!("{name} ({uid})"),
        None => uid.to_string(),
    }
}

/// The name beside a number in the form of passwd(5).
fn name_in(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\ncardano:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_in(users, 1000), Some("cardano"));
        assert_eq!(name_in(users, 7), None);
    }

    #[test]
    fn lengths_read_well() {
        let at = |seconds: u64| UnixTime(seconds * 1_000_000);
        assert_eq!(relative(at(59), at(0)), "in 59 s");
        assert_eq!(relative(at(0), at(3_725)), "1 h 2 min ago");
        assert_eq!(relative(at(88 * 86_400 + 7_200), at(0)), "in 88 days 2 h");
        assert_eq!(relative(at(86_400), at(0)), "in 1 day 0 h");
    }

    #[test]
    fn fingerprints_are_the_start_of_the_hash() {
        // head -c32 /dev/zero | b2sum -l 256 (GNU coreutils).
        assert_eq!(
            fingerprint(&VerificationKey([0; 32])),
            "89eb-0d6a-8a69-1dae-2cd1"
        );
    }
}
