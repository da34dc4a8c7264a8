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
        _ => format!("{} days {} h", seconds / DAY, seconds % DAY / HOUR),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_well() {
        let at = |seconds: u64| UnixTime(seconds * 1_000_000);
        assert_eq!(relative(at(59), at(0)), "in 59 s");
        assert_eq!(relative(at(0), at(3_725)), "1 h 2 min ago");
        assert_eq!(relative(at(88 * 86_400 + 7_200), at(0)), "in 88 days 2 h");
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
