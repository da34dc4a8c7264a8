//! What Sum6KES, locked memory and the secret stack add to libsodium's own work.

use kes_wire::period::Evolution;
use kes_wire::sum6kes::{EVOLUTIONS, SignKey, verify};
use kes_wire::sys::sodium;

use super::measure::in_turns;
use super::report::{Goal, Report, Row};

/// Bytes of messages: a hash, and the body of a real block header (403 to 556 bytes).
const MESSAGES: [usize; 2] = [32, 556];

pub(crate) fn measure(report: &mut Report) {
    let seed = [7; 32];
    let (mut secret, mut public, mut signature) = ([0; 64], [0; 32], [0; 64]);
    let pair = in_turns(
        600,
        1,
        || SignKey::generate().unwrap(),
        || {
            for _ in 0..EVOLUTIONS {
                sodium::ed25519_keypair(&seed, &mut secret, &mut public);
            }
        },
    );
    let goal = Goal::AtMostTimes(1.05);
    report.add(Row::of(
        "key generation, locked pages at hand",
        pair,
        "64 Ed25519 key pairs",
        goal,
    ));

    let key = SignKey::generate().unwrap();
    for length in MESSAGES {
        let message = vec![0x5a; length];
        let pair = in_turns(
            2000,
            16,
            || key.sign(&message).unwrap(),
            || {
                sodium::ed25519_sign(&secret, &message, &mut signature);
            },
        );
        let name = format!("sign {length} bytes");
        report.add(Row::of(
            name,
            pair,
            "one Ed25519 signature",
            Goal::AtMostTimes(1.05),
        ));
    }
    for length in MESSAGES {
        let message = vec![0x5a; length];
        sodium::ed25519_sign(&secret, &message, &mut signature);
        let kes = key.sign(&message).unwrap();
        let root = key.verification_key();
        let pair = in_turns(
            2000,
            8,
            || verify(&root, Evolution(0), &message, &kes).unwrap(),
            || assert!(sodium::ed25519_verify(&public, &message, &signature)),
        );
        let name = format!("verify {length} bytes");
        report.add(Row::of(
            name,
            pair,
            "one Ed25519 verification",
            Goal::AtMostTimes(1.10),
        ));
    }
}
