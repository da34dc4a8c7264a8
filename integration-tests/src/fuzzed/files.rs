//! Files that operators bring.

use std::io::Write;

use kes_agent::config::{Config, RunArguments};
use kes_wire::envelope;
use kes_wire::genesis::{self, ShelleyStart};
use kes_wire::period::KesPeriod;

pub(super) fn envelopes(bytes: &[u8]) {
    let _ = envelope::read_kes_vkey(bytes);
    let _ = envelope::read_cold_vkey(bytes);
    let _ = envelope::read_opcert_counter(bytes);
    cold_sign_key(bytes);
    let Ok((opcert, cold_vkey)) = envelope::read_opcert(bytes) else {
        return;
    };
    // Read once more with independent JSON, hex and CBOR.
    // A text that is skipped there may be no Unicode; here it is refused.
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    let cbor = hex::decode(json["cborHex"].as_str().expect("text")).expect("it is hex");
    let value: ciborium::Value = ciborium::from_reader(&cbor[..]).expect("it is CBOR");
    let whole = value.as_array().expect("a list");
    let fields = whole[0].as_array().expect("a list");
    let bytes_of = |value: &ciborium::Value| value.as_bytes().cloned().expect("bytes");
    let number_of = |value: &ciborium::Value| {
        u64::try_from(value.as_integer().expect("a number")).expect("u64")
    };
    assert_eq!(bytes_of(&fields[0]), opcert.kes_vkey.0);
    assert_eq!(number_of(&fields[1]), opcert.counter);
    assert_eq!(number_of(&fields[2]), opcert.start_period.0);
    assert_eq!(bytes_of(&fields[3]), opcert.cold_signature.0);
    assert_eq!(bytes_of(&whole[1]), cold_vkey.0);
    let again = envelope::opcert(&opcert, &cold_vkey);
    assert_eq!(
        envelope::read_opcert(again.as_bytes()).ok(),
        Some((opcert, cold_vkey))
    );
}

/// A cold sign key is read from a file alone. Only what could be one is written to one.
fn cold_sign_key(bytes: &[u8]) {
    let sign_key = b"SigningKey";
    if !bytes.windows(sign_key.len()).any(|part| part == sign_key) {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    if let Err(error) = envelope::read_cold_skey_file(file.path()) {
        assert!(!error.to_string().is_empty(), "a refusal says why");
    }
}

pub(super) fn genesis(bytes: &[u8]) {
    let Ok((network, _)) = genesis::network(bytes, ShelleyStart::default()) else {
        return;
    };
    for period in [0, 1, 1_000, u64::MAX] {
        let period = KesPeriod(period);
        let (start, end) = (network.period_start(period), network.period_end(period));
        assert!(start <= end, "a period ends after it begins");
    }
    for time in [0, 1_500_000_000_000_000, u64::MAX] {
        let _ = network.period_at(kes_wire::unix_time::UnixTime(time));
    }
}

pub(super) fn configuration(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    let arguments = RunArguments {
        config_file: Some(file.path().to_owned()),
        ..RunArguments::default()
    };
    if let Err(error) = Config::resolve(arguments) {
        assert!(!error.to_string().is_empty(), "a refusal says why");
    }
}
