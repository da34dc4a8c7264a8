//! Text envelopes: the JSON files of cardano-cli, with the keys `type`, `description`, `cborHex`.
//!
//! They are written as cardano-cli writes them, to the byte. In reading, descriptions are free
//! text and ignored, the type decides, and the CBOR must be exactly what the type says.

use std::path::{Path, PathBuf};

use minicbor::{Decoder, Encoder};
use serde::Deserialize;

use crate::cold::{ColdSignKey, ColdVerificationKey};
use crate::files::{self, FileError};
use crate::opcert::{ColdSignature, OpCert};
use crate::period::KesPeriod;
use crate::sum6kes::VerificationKey;
use crate::sys::memory::{LockError, LockedBytes};

/// Bytes that an envelope may have. Real ones have under 600.
pub const MOST_BYTES: usize = 4096;

const KES_VKEY: &str = "KesVerificationKey_ed25519_kes_2^6";
const COLD_VKEY: &str = "StakePoolVerificationKey_ed25519";
const COLD_VKEY_EXTENDED: &str = "StakePoolExtendedVerificationKey_ed25519_bip32";
const COLD_SKEY: &str = "StakePoolSigningKey_ed25519";
const COLD_SKEY_EXTENDED: &str = "StakePoolExtendedSigningKey_ed25519_bip32";
const OPCERT: &str = "NodeOperationalCertificate";
const OPCERT_COUNTER: &str = "NodeOperationalCertificateIssueCounter";

/// Why a file is not the envelope that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is empty.
    #[error("the file is empty: was it copied whole?")]
    Empty,
    /// It is not a JSON object with the three keys.
    #[error(
        "this is not a text envelope as cardano-cli writes them (JSON with type, description \
             and cborHex); was it copied whole?"
    )]
    NotAnEnvelope,
    /// It is an envelope of something else.
    #[error("this is {found}, and {wanted} is wanted")]
    OtherType {
        /// What the file holds, in words.
        found: String,
        /// What was wanted, in words.
        wanted: &'static str,
    },
    /// The content is not what the type says.
    #[error("this says that it is {0}, but its cborHex is not one; was it copied whole?")]
    Content(&'static str),
    /// A sign key of a kind that this program cannot sign with.
    #[error(
        "this is an extended cold sign key, which this program cannot sign with; issue the \
             certificate with cardano-cli"
    )]
    ExtendedSignKey,
}

/// Why an envelope cannot be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error("{path}: {reason}", path = path.display())]
    Envelope {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: EnvelopeError,
    },
    /// Memory cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Reads an envelope's file (`-` is standard input) with one of the readers below.
///
/// Whatever it should be, it is read into locked memory: it may be a sign key that was given by
/// mistake.
///
/// # Errors
/// [`EnvelopeFileError`], with the file's name.
pub fn read_file<T>(
    path: &Path,
    reader: impl FnOnce(&[u8]) -> Result<T, EnvelopeError>,
) -> Result<T, EnvelopeFileError> {
    let (file, length) = files::read_locked::<{ MOST_BYTES + 1 }>(path)?;
    reader(&file.expose()[..length]).map_err(|reason| EnvelopeFileError::Envelope {
        path: path.to_owned(),
        reason,
    })
}

/// What a type is in words.
fn in_words(envelope_type: &str) -> &'static str {
    match envelope_type {
        KES_VKEY => "a KES verification key (kes.vkey)",
        COLD_VKEY | COLD_VKEY_EXTENDED => "a cold verification key (cold.vkey)",
        COLD_SKEY | COLD_SKEY_EXTENDED => "a cold sign key (cold.skey)",
        OPCERT => "an operational certificate (opcert.cert)",
        OPCERT_COUNTER => "a certificate counter (opcert.counter)",
        _ => "something else",
    }
}

/// An envelope whose strings are borrowed from the file's bytes.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    envelope_type: &'a str,
    #[serde(rename = "cborHex")]
    cbor_hex: &'a str,
}

/// Finds type and content. Nothing is copied: strings with escapes, which would have to be, stand
/// in no envelope. What the parser says is not passed on, because it may quote the content.
fn open(bytes: &[u8]) -> Result<Envelope<'_>, EnvelopeError> {
    if bytes.trim_ascii().is_empty() {
        return Err(EnvelopeError::Empty);
    }
    // Descriptions alone may have escapes, and only in files that are not secret.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(EnvelopeError::NotAnEnvelope);
    }
    serde_json::from_slice(bytes).map_err(|_| EnvelopeError::NotAnEnvelope)
}

/// The content of an envelope that must have one of these types.
fn content(bytes: &[u8], wanted: &'static [&'static str]) -> Result<Vec<u8>, EnvelopeError> {
    let envelope = open(bytes)?;
    if !wanted.contains(&envelope.envelope_type) {
        let found = match in_words(envelope.envelope_type) {
            "something else" => {
                format!("of the type {:?}", shortened(envelope.envelope_type))
            }
            known => known.to_owned(),
        };
        return Err(EnvelopeError::OtherType {
            found,
            wanted: in_words(wanted[0]),
        });
    }
    hex::decode(envelope.cbor_hex).map_err(|_| EnvelopeError::Content(in_words(wanted[0])))
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads CBOR to its end; anything left over is an error.
fn parse<'a, T>(
    cbor: &'a [u8],
    what: &'static str,
    read: impl FnOnce(&mut Decoder<'a>) -> Result<T, minicbor::decode::Error>,
) -> Result<T, EnvelopeError> {
    let mut decoder = Decoder::new(cbor);
    match read(&mut decoder) {
        Ok(value) if decoder.position() == cbor.len() => Ok(value),
        Ok(_) | Err(_) => Err(EnvelopeError::Content(in_words(what))),
    }
}

/// Reads the head of an array that must have `length` items.
fn array(decoder: &mut Decoder<'_>, length: u64) -> Result<(), minicbor::decode::Error> {
    match decoder.array()? {
        Some(found) if found == length => Ok(()),
        _ => Err(minicbor::decode::Error::message(
            "an array of another length",
        )),
    }
}

/// Reads a byte string of exactly `N` bytes.
fn exactly<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], minicbor::decode::Error> {
    let bytes = decoder.bytes()?;
    bytes
        .try_into()
        .map_err(|_| minicbor::decode::Error::message("a string of another length"))
}

/// Reads `kes.vkey`.
///
/// # Errors
/// [`EnvelopeError`]
pub fn read_kes_vkey(file: &[u8]) -> Result<VerificationKey, EnvelopeError> {
    let cbor = content(file, &[KES_VKEY])?;
    parse(&cbor, KES_VKEY, |d| exactly(d).map(VerificationKey))
}

/// Reads `cold.vkey`, also an extended one, of which the first 32 bytes are the key.
///
/// # Errors
/// [`EnvelopeError`]
pub fn read_cold_vkey(file: &[u8]) -> Result<ColdVerificationKey, EnvelopeError> {
    let cbor = content(file, &[COLD_VKEY, COLD_VKEY_EXTENDED])?;
    let extended = open(file)?.envelope_type == COLD_VKEY_EXTENDED;
    parse(&cbor, COLD_VKEY, |d| {
        let key = if extended {
            let whole: [u8; 64] = exactly(d)?;
            *whole.first_chunk().expect("64 bytes")
        } else {
            exactly(d)?
        };
        Ok(ColdVerificationKey(key))
    })
}

/// Reads `opcert.cert`: the certificate and the cold key it names.
///
/// # Errors
/// [`EnvelopeError`]
pub fn read_opcert(file: &[u8]) -> Result<(OpCert, ColdVerificationKey), EnvelopeError> {
    let cbor = content(file, &[OPCERT])?;
    parse(&cbor, OPCERT, |d| {
        array(d, 2)?;
        array(d, 4)?;
        let opcert = OpCert {
            kes_vkey: VerificationKey(exactly(d)?),
            counter: d.u64()?,
            start_period: KesPeriod(d.u64()?),
            cold_signature: ColdSignature(exactly(d)?),
        };
        Ok((opcert, ColdVerificationKey(exactly(d)?)))
    })
}

/// Reads `opcert.counter`: the next certificate's number and the cold key it belongs to.
///
/// # Errors
/// [`EnvelopeError`]
pub fn read_opcert_counter(file: &[u8]) -> Result<(u64, ColdVerificationKey), EnvelopeError> {
    let cbor = content(file, &[OPCERT_COUNTER])?;
    parse(&cbor, OPCERT_COUNTER, |d| {
        array(d, 2)?;
        Ok((d.u64()?, ColdVerificationKey(exactly(d)?)))
    })
}

/// Reads `cold.skey` from its file straight into locked memory; no other copy is made.
///
/// # Errors
/// [`EnvelopeFileError`]
pub fn read_cold_skey_file(path: &Path) -> Result<ColdSignKey, EnvelopeFileError> {
    let mut seed = LockedBytes::zeroed()?;
    read_file(path, |file| parse_cold_skey(file, &mut seed))?;
    Ok(ColdSignKey::from_seed(seed)?)
}

fn parse_cold_skey(file: &[u8], seed: &mut LockedBytes<32>) -> Result<(), EnvelopeError> {
    let wrong = EnvelopeError::Content(in_words(COLD_SKEY));
    if file.contains(&b'\\') {
        // A string with an escape would be copied by the parser to unescape it.
        return Err(EnvelopeError::NotAnEnvelope);
    }
    let envelope = open(file)?;
    match envelope.envelope_type {
        COLD_SKEY => {}
        COLD_SKEY_EXTENDED => return Err(EnvelopeError::ExtendedSignKey),
        other => {
            let found = in_words(other).to_owned();
            return Err(EnvelopeError::OtherType {
                found,
                wanted: in_words(COLD_SKEY),
            });
        }
    }
    let digits = envelope
        .cbor_hex
        .strip_prefix(CBOR_32_BYTES)
        .ok_or(wrong.clone())?;
    hex::decode_to_slice(digits, seed.expose_mut()).map_err(|_| wrong)
}

/// The head of a CBOR byte string of 32 bytes, in hex.
const CBOR_32_BYTES: &str = "5820";

/// An envelope as cardano-cli writes it.
fn seal(envelope_type: &str, description: &str, cbor: &[u8]) -> String {
    format!(
        "{{\n    \"type\": \"{envelope_type}\",\n    \"description\": \"{description}\",\n    \
         \"cborHex\": \"{}\"\n}}\n",
        hex::encode(cbor)
    )
}

/// CBOR in memory.
fn cbor(
    write: impl FnOnce(
        &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("writing to memory does not fail");
    bytes
}

/// The text of `kes.vkey`.
#[must_use]
pub fn kes_vkey(vkey: &VerificationKey) -> String {
    seal(
        KES_VKEY,
        "KES Verification Key",
        &cbor(|e| e.bytes(&vkey.0)?.ok()),
    )
}

/// The text of `cold.vkey`.
#[must_use]
pub fn cold_vkey(vkey: &ColdVerificationKey) -> String {
    seal(
        COLD_VKEY,
        "Stake Pool Operator Verification Key",
        &cbor(|e| e.bytes(&vkey.0)?.ok()),
    )
}

/// The text of `opcert.cert`.
#[must_use]
pub fn opcert(opcert: &OpCert, cold_vkey: &ColdVerificationKey) -> String {
    let content = cbor(|e| {
        e.array(2)?.array(4)?;
        e.bytes(&opcert.kes_vkey.0)?.u64(opcert.counter)?;
        e.u64(opcert.start_period.0)?
            .bytes(&opcert.cold_signature.0)?;
        e.bytes(&cold_vkey.0)?.ok()
    });
    seal(OPCERT, "", &content)
}

/// The text of `opcert.counter` with the next certificate's number.
#[must_use]
pub fn opcert_counter(next: u64, cold_vkey: &ColdVerificationKey) -> String {
    let content = cbor(|e| e.array(2)?.u64(next)?.bytes(&cold_vkey.0)?.ok());
    seal(
        OPCERT_COUNTER,
        &format!("Next certificate issue number: {next}"),
        &content,
    )
}

const COLD_SKEY_HEAD: &str = "{\n    \"type\": \"StakePoolSigningKey_ed25519\",\n    \
     \"description\": \"Stake Pool Operator Signing Key\",\n    \"cborHex\": \"5820";
const COLD_SKEY_TAIL: &str = "\"\n}\n";

/// Bytes of the text of `cold.skey`.
pub const COLD_SKEY_FILE_BYTES: usize = COLD_SKEY_HEAD.len() + 64 + COLD_SKEY_TAIL.len();

/// The text of `cold.skey`, in locked memory.
///
/// # Errors
/// [`LockError`] where memory cannot be locked.
pub fn cold_skey(key: &ColdSignKey) -> Result<LockedBytes<COLD_SKEY_FILE_BYTES>, LockError> {
    let mut file = LockedBytes::<COLD_SKEY_FILE_BYTES>::zeroed()?;
    let (head, rest) = file.expose_mut().split_at_mut(COLD_SKEY_HEAD.len());
    let (digits, tail) = rest.split_at_mut(64);
    head.copy_from_slice(COLD_SKEY_HEAD.as_bytes());
    hex::encode_to_slice(key.expose(), digits).expect("64 digits for 32 bytes");
    tail.copy_from_slice(COLD_SKEY_TAIL.as_bytes());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vkey(byte: u8) -> ColdVerificationKey {
        ColdVerificationKey([byte; 32])
    }

    #[test]
    fn what_is_written_is_read() {
        let key = VerificationKey([5; 32]);
        assert_eq!(read_kes_vkey(kes_vkey(&key).as_bytes()), Ok(key));
        assert_eq!(read_cold_vkey(cold_vkey(&vkey(6)).as_bytes()), Ok(vkey(6)));
        for next in [0, 23, 24, 255, 256, u64::MAX] {
            let text = opcert_counter(next, &vkey(7));
            assert_eq!(read_opcert_counter(text.as_bytes()), Ok((next, vkey(7))));
        }
        let cert = OpCert {
            kes_vkey: key,
            counter: 300,
            start_period: KesPeriod(1572),
            cold_signature: ColdSignature([8; 64]),
        };
        assert_eq!(
            read_opcert(opcert(&cert, &vkey(9)).as_bytes()),
            Ok((cert, vkey(9)))
        );
    }

    #[test]
    fn a_secret_envelope_goes_through_locked_memory_both_ways() {
        let key = ColdSignKey::generate().unwrap();
        let file = cold_skey(&key).unwrap();
        let mut seed = LockedBytes::zeroed().unwrap();
        parse_cold_skey(file.expose(), &mut seed).unwrap();
        assert!(seed.expose() == key.expose());
        for length in 0..file.expose().len() - 2 {
            assert!(
                parse_cold_skey(&file.expose()[..length], &mut seed).is_err(),
                "{length}"
            );
        }
        let extended = seal(COLD_SKEY_EXTENDED, "", &[0; 130]);
        let refused = parse_cold_skey(extended.as_bytes(), &mut seed);
        assert_eq!(refused, Err(EnvelopeError::ExtendedSignKey));
        let escaped = br#"{"type":"StakePoolSigningKey_ed25519","cborHex":"\u0035820"}"#;
        assert_eq!(
            parse_cold_skey(escaped, &mut seed),
            Err(EnvelopeError::NotAnEnvelope)
        );
    }

    #[test]
    fn an_extended_cold_key_is_its_first_half() {
        let mut content = vec![0x58, 64];
        content.extend([1; 32]);
        content.extend([2; 32]);
        let text = seal(COLD_VKEY_EXTENDED, "whatever", &content);
        assert_eq!(read_cold_vkey(text.as_bytes()), Ok(vkey(1)));
        // The short form under the extended type is neither.
        let mut short = vec![0x58, 32];
        short.extend([1; 32]);
        assert!(read_cold_vkey(seal(COLD_VKEY_EXTENDED, "", &short).as_bytes()).is_err());
    }

    #[test]
    fn a_wrong_file_is_named() {
        let kes = kes_vkey(&VerificationKey([5; 32]));
        let refused = read_opcert(kes.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refused,
            "this is a KES verification key (kes.vkey), and an operational certificate \
             (opcert.cert) is wanted"
        );
        assert_eq!(read_opcert(b""), Err(EnvelopeError::Empty));
        assert_eq!(read_opcert(b" \n"), Err(EnvelopeError::Empty));
        for text in [
            "null",
            "[]",
            "{}",
            "\"x\"",
            "{\"type\":1}",
            "\u{feff}{}",
            "\0\0\0",
        ] {
            assert_eq!(
                read_opcert(text.as_bytes()),
                Err(EnvelopeError::NotAnEnvelope),
                "{text}"
            );
        }
        let odd = seal("TxBody", "", &[]);
        assert!(
            read_opcert(odd.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("TxBody")
        );
    }

    #[test]
    fn content_must_be_exact() {
        let wrong = [
            vec![],
            vec![0x58, 31],
            [vec![0x58, 31], vec![0; 31]].concat(),
            [vec![0x58, 33], vec![0; 33]].concat(),
            [vec![0x58, 32], vec![0; 33]].concat(),
            [vec![0x5b], vec![0xff; 8]].concat(),
        ];
        for content in wrong {
            let text = seal(KES_VKEY, "", &content);
            let refused = read_kes_vkey(text.as_bytes());
            assert!(
                matches!(refused, Err(EnvelopeError::Content(_))),
                "{content:?}"
            );
        }
        let not_hex = "{\"type\":\"KesVerificationKey_ed25519_kes_2^6\",\"cborHex\":\"zz\"}";
        assert!(matches!(
            read_kes_vkey(not_hex.as_bytes()),
            Err(EnvelopeError::Content(_))
        ));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_survived(bytes: Vec<u8>, content: Vec<u8>) {
            prop_assert!(read_kes_vkey(&bytes).is_err());
            for kind in [KES_VKEY, COLD_VKEY, COLD_VKEY_EXTENDED, OPCERT, OPCERT_COUNTER] {
                let text = seal(kind, "", &content);
                let _ = read_kes_vkey(text.as_bytes());
                let _ = read_cold_vkey(text.as_bytes());
                let _ = read_opcert(text.as_bytes());
                let _ = read_opcert_counter(text.as_bytes());
            }
        }

        #[test]
        fn a_truncated_file_is_refused(cut in 0usize..340) {
            let cert = OpCert {
                kes_vkey: VerificationKey([5; 32]),
                counter: 3,
                start_period: KesPeriod(4),
                cold_signature: ColdSignature([8; 64]),
            };
            let text = opcert(&cert, &vkey(9));
            prop_assert!(read_opcert(&text.as_bytes()[..cut]).is_err());
        }
    }
}
