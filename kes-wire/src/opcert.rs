//! Operational certificates: a cold key's word that a KES key may sign for its pool.

use crate::cold::ColdVerificationKey;
use crate::period::KesPeriod;
use crate::public_bytes::public_bytes;
use crate::sum6kes::VerificationKey;
use crate::sys::sodium;

public_bytes! {
    /// An Ed25519 signature of a cold key, 64 bytes.
    ColdSignature, 64
}

/// An operational certificate (OpCert). It is public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct OpCert {
    /// The KES verification key that it certifies.
    pub kes_vkey: VerificationKey,
    /// The issue number. The chain accepts the last one it saw for the pool, or that plus one.
    pub counter: u64,
    /// The first KES period in which the key may sign: its evolution 0.
    pub start_period: KesPeriod,
    /// The cold key's signature over the three fields before.
    pub cold_signature: ColdSignature,
}

/// Bytes that a cold key signs: KES verification key, counter, start period (both big endian).
pub const SIGNED_BYTES: usize = 48;

impl OpCert {
    /// Bytes of a certificate on the wire: key (32), counter (8), start period (8), signature (64).
    pub const WIRE_BYTES: usize = 112;

    /// The bytes that the cold key signs (ledger: `OCertSignable`).
    #[must_use]
    pub fn signed_bytes(
        kes_vkey: &VerificationKey,
        counter: u64,
        start_period: KesPeriod,
    ) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        bytes[..32].copy_from_slice(&kes_vkey.0);
        bytes[32..40].copy_from_slice(&counter.to_be_bytes());
        bytes[40..].copy_from_slice(&start_period.0.to_be_bytes());
        bytes
    }

    /// Whether the cold signature is `cold_vkey`'s over this certificate.
    #[must_use]
    pub fn is_signed_by(&self, cold_vkey: &ColdVerificationKey) -> bool {
        let signed = Self::signed_bytes(&self.kes_vkey, self.counter, self.start_period);
        sodium::ed25519_verify(&cold_vkey.0, &signed, &self.cold_signature.0)
    }

    /// The 112 bytes on the wire: the signed bytes, then the signature.
    #[must_use]
    pub fn to_wire(&self) -> [u8; Self::WIRE_BYTES] {
        let mut bytes = [0; Self::WIRE_BYTES];
        let signed = Self::signed_bytes(&self.kes_vkey, self.counter, self.start_period);
        bytes[..SIGNED_BYTES].copy_from_slice(&signed);
        bytes[SIGNED_BYTES..].copy_from_slice(&self.cold_signature.0);
        bytes
    }

    /// Reads the 112 bytes of the wire. Every value is a certificate; whether it is a valid one is
    /// another question.
    #[must_use]
    pub fn from_wire(bytes: &[u8; Self::WIRE_BYTES]) -> Self {
        let u64_at =
            |at: usize| u64::from_be_bytes(*bytes[at..].first_chunk().expect("inside 112 bytes"));
        Self {
            kes_vkey: VerificationKey(*bytes.first_chunk().expect("inside 112 bytes")),
            counter: u64_at(32),
            start_period: KesPeriod(u64_at(40)),
            cold_signature: ColdSignature(*bytes.last_chunk().expect("inside 112 bytes")),
        }
    }
}

/// In CBOR a certificate is the byte string of its 112 bytes on the wire.
impl<C> minicbor::Encode<C> for OpCert {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_wire())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for OpCert {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.bytes()?.try_into().map(Self::from_wire).map_err(|_| {
            minicbor::decode::Error::message("a certificate that is not 112 bytes long")
        })
    }
}
