//! Keys, signatures, certificates and the files that carry them.

use kes_wire::envelope;
use kes_wire::opcert::OpCert;

use super::{Kind, Made, OTHER_COLD_SEED, START, cold_key, cold_vkey, kes_vkey, key_at, opcert};

const MESSAGE: &str = "74657374206d657373616765"; // "test message"

fn sign_key(evolution: u32) -> Kind {
    Kind::of("sign-key")
        .given("verification_key", kes_vkey().to_string())
        .given("evolution", evolution)
}

pub(super) fn keys(made: &mut Made) {
    for (evolution, shows) in [
        (0, "a new key: every level has its right seed"),
        (1, "the first level has moved to its right half"),
        (
            31,
            "the last leaf of the left half: only the outermost seed is left",
        ),
        (32, "the outermost level has moved to its right half"),
        (62, "the last evolution but one"),
        (63, "the last evolution: nothing but a leaf's seed is left"),
    ] {
        let name = format!("keys/sign-key-evolution-{evolution}");
        let key = key_at(evolution);
        let ids = ["KEY-1", "KEY-2", "KEY-4"];
        made.add(&name, shows, &ids, sign_key(evolution), key.expose());
    }
    let key = *key_at(1).expose();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = key;
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    // The seed of the first level's right half, as it stands at evolution 0.
    let spent = &key_at(0).expose()[32..64].to_vec();
    made.refused(
        "spent-seed",
        "keys/spent-seed",
        "at evolution 1 with the seed that was used for it: the past could be had",
        &["KEY-4", "KEY-5"],
        sign_key(1),
        &with(32, spent),
    );
    made.refused(
        "wrong-verification-key",
        "keys/changed-verification-key",
        "one bit of the third level's left verification key is another",
        &["KEY-5"],
        sign_key(1),
        &with(32 + 2 * 96 + 32, &[key[32 + 2 * 96 + 32] ^ 1]),
    );
    made.refused(
        "wrong-verification-key",
        "keys/changed-seed",
        "one bit of the second level's right seed is another",
        &["KEY-2", "KEY-5"],
        sign_key(1),
        &with(32 + 96, &[key[32 + 96] ^ 1]),
    );
    made.refused(
        "wrong-verification-key",
        "keys/behind-its-evolution",
        "a key at evolution 1 that is said to be at evolution 0",
        &["KEY-5"],
        sign_key(0),
        &key,
    );
    made.refused(
        "evolution-too-high",
        "keys/evolution-64",
        "no key has a 65th evolution",
        &["KEY-2", "KEY-5"],
        sign_key(64),
        &key,
    );
    made.refused(
        "other-key",
        "keys/other-key",
        "a whole key that is not the certificate's",
        &["KEY-5"],
        sign_key(1).given("verification_key", cold_vkey().to_string()),
        &key,
    );
    signatures(made);
}

fn signatures(made: &mut Made) {
    let signature = |evolution: u32, message: &str| {
        Kind::of("signature")
            .given("verification_key", kes_vkey().to_string())
            .given("evolution", evolution)
            .given("message", message)
    };
    let message = hex::decode(MESSAGE).unwrap();
    for evolution in [0, 33, 63] {
        let signed = key_at(evolution).sign(&message).unwrap();
        made.add(
            &format!("keys/signature-evolution-{evolution}"),
            &format!("a signature at evolution {evolution}"),
            &["KEY-3"],
            signature(evolution, MESSAGE),
            &signed.0,
        );
    }
    let signed = key_at(33).sign(&message).unwrap().0;
    made.refused(
        "bad-signature",
        "keys/signature-other-message",
        "a signature of another message",
        &["KEY-3"],
        signature(33, "00"),
        &signed,
    );
    made.refused(
        "bad-signature",
        "keys/signature-other-evolution",
        "a signature at evolution 33 that is said to be at 32",
        &["KEY-3"],
        signature(32, MESSAGE),
        &signed,
    );
    let mut changed = signed;
    changed[447] ^= 1;
    made.refused(
        "other-key",
        "keys/signature-changed-path",
        "one bit of the outermost right verification key is another",
        &["KEY-3"],
        signature(33, MESSAGE),
        &changed,
    );
}

fn certificate() -> Kind {
    Kind::of("certificate").given("cold_verification_key", cold_vkey().to_string())
}

pub(super) fn certificates(made: &mut Made) {
    let ids = &["KEY-6"];
    for (name, counter, shows) in [
        ("first", 0, "a pool's first certificate"),
        ("eighth", 7, "a later one"),
        ("last-counter", u64::MAX, "the highest counter there is"),
    ] {
        let name = format!("certificates/{name}");
        made.add(&name, shows, ids, certificate(), &opcert(counter).to_wire());
    }
    let whole = opcert(7);
    let of_another_pool = cold_key(OTHER_COLD_SEED).issue(&whole.kes_vkey, 7, whole.start_period);
    let changed = |change: &dyn Fn(&mut OpCert)| {
        let mut changed = whole;
        change(&mut changed);
        changed.to_wire()
    };
    for (name, shows, bytes) in [
        (
            "other-cold-key",
            "signed by another pool's cold key",
            of_another_pool.unwrap().to_wire(),
        ),
        (
            "changed-counter",
            "the counter is another than the one that was signed",
            changed(&|opcert| opcert.counter += 1),
        ),
        (
            "changed-start",
            "the start period is another than the one that was signed",
            changed(&|opcert| opcert.start_period.0 += 1),
        ),
        (
            "changed-key",
            "the KES verification key is another than the one that was signed",
            changed(&|opcert| opcert.kes_vkey.0[0] ^= 1),
        ),
        (
            "changed-signature",
            "one bit of the cold signature is another",
            changed(&|opcert| opcert.cold_signature.0[63] ^= 1),
        ),
    ] {
        let name = format!("certificates/{name}");
        made.refused("bad-signature", &name, shows, ids, certificate(), &bytes);
    }
    let in_period = |period: u64, most: u32| {
        Kind::of("certificate-in-period")
            .given("period", period)
            .given("max_evolutions", most)
    };
    let (ids, bytes) = (&["KEY-7"], whole.to_wire());
    for (name, shows, period, most) in [
        (
            "first-period",
            "signs in its start period at evolution 0",
            START,
            62,
        ),
        (
            "last-period",
            "signs in the last of 62 periods",
            START + 61,
            62,
        ),
        (
            "last-of-64",
            "a network that accepts all 64",
            START + 63,
            64,
        ),
    ] {
        let name = format!("certificates/{name}");
        made.add(&name, shows, ids, in_period(period, most), &bytes);
    }
    made.refused(
        "before-its-start",
        "certificates/before-its-start",
        "the period before its start",
        ids,
        in_period(START - 1, 62),
        &bytes,
    );
    made.refused(
        "expired",
        "certificates/expired",
        "the period after its last",
        ids,
        in_period(START + 62, 62),
        &bytes,
    );
}

fn envelope_of(wanted: &str) -> Kind {
    Kind::of("text-envelope").given("wanted", wanted)
}

pub(super) fn envelopes(made: &mut Made) {
    let ids = &["FILE-1"];
    let kes = envelope::kes_vkey(&kes_vkey());
    let certificate = envelope::opcert(&opcert(7), &cold_vkey());
    let extended = format!(
        "{{\"type\": \"StakePoolExtendedVerificationKey_ed25519_bip32\", \"description\": \"\", \
         \"cborHex\": \"5840{}{}\"}}",
        cold_vkey(),
        "00".repeat(32)
    );
    for (name, shows, wanted, text) in [
        (
            "kes-vkey",
            "a KES verification key",
            "kes.vkey",
            kes.clone(),
        ),
        (
            "cold-vkey",
            "a cold verification key",
            "cold.vkey",
            envelope::cold_vkey(&cold_vkey()),
        ),
        (
            "cold-vkey-extended",
            "an extended one: its first 32 bytes are the key",
            "cold.vkey",
            extended,
        ),
        (
            "opcert",
            "a certificate",
            "opcert.cert",
            certificate.clone(),
        ),
        (
            "opcert-counter",
            "a certificate counter",
            "opcert.counter",
            envelope::opcert_counter(8, &cold_vkey()),
        ),
        (
            "other-description",
            "the description is free text, and spaces do not matter",
            "kes.vkey",
            kes.replace("KES Verification Key", "of our pool")
                .replace("    ", "\t"),
        ),
    ] {
        let name = format!("envelopes/{name}");
        made.add(&name, shows, ids, envelope_of(wanted), text.as_bytes());
    }
    let ids = &["FILE-2"];
    let cut = &certificate[..certificate.len() / 2];
    for (reason, name, shows, wanted, text) in [
        (
            "empty",
            "empty",
            "nothing but white space",
            "kes.vkey",
            " \n",
        ),
        (
            "no-envelope",
            "cut",
            "a file that was not copied whole",
            "opcert.cert",
            cut,
        ),
        (
            "no-envelope",
            "no-object",
            "JSON that is no object",
            "kes.vkey",
            "[]",
        ),
        (
            "no-envelope",
            "no-content",
            "an object without cborHex",
            "kes.vkey",
            "{\"type\": \"KesVerificationKey_ed25519_kes_2^6\"}",
        ),
        (
            "other-type",
            "other-type",
            "a key where a certificate is wanted",
            "opcert.cert",
            &kes,
        ),
        (
            "content",
            "short-key",
            "a key of 31 bytes",
            "kes.vkey",
            &kes.replace("5820", "581f")
                .replacen(&kes_vkey().to_string()[..2], "", 1),
        ),
        (
            "content",
            "more-after-it",
            "a byte after the CBOR item",
            "kes.vkey",
            &kes.replace("\"\n}", "00\"\n}"),
        ),
        (
            "content",
            "odd-hex",
            "an odd number of hexadecimal digits",
            "kes.vkey",
            &kes.replace("\"\n}", "0\"\n}"),
        ),
    ] {
        let name = format!("envelopes/{name}");
        made.refused(
            reason,
            &name,
            shows,
            ids,
            envelope_of(wanted),
            text.as_bytes(),
        );
    }
}
