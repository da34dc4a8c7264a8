//! Operational certificates: a cold key's word that a KES key may sign for its pool.

use crate::cold::ColdVerificationKey;
use crate::period::{Evolution, KesPeriod};
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

/// Why a period is not one in which a certificate lets its key sign.
///
/// The ledger's rule: `start <= period < start + maxKESEvolutions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfPeriod {
    /// The period lies before the certificate's start.
    #[error("the certificate starts in period {start}, and it is period {period}")]
    NotYet {
        /// The certificate's first period.
        start: KesPeriod,
        /// The period in question.
        period: KesPeriod,
    },
    /// The period lies after the certificate's last.
    #[error("the certificate expired with the start of period {expiry}, and it is period {period}")]
    Expired {
        /// The first period in which the certificate is not valid any more.
        expiry: KesPeriod,
        /// The period in question.
        period: KesPeriod,
    },
}

impl OpCert {
    /// The first period in which the certificate is not valid any more. `max_evolutions` is the
    /// network's ([`crate::genesis::Network::max_evolutions`]).
    #[must_use]
    pub fn expiry_period(&self, max_evolutions: u32) -> KesPeriod {
        KesPeriod(
            self.start_period
                .0
                .saturating_add(u64::from(max_evolutions)),
        )
    }

    /// The evolution at which the key signs in `period`.
    ///
    /// # Errors
    /// [`OutOfPeriod`] where it may not sign then.
    pub fn evolution_at(
        &self,
        period: KesPeriod,
        max_evolutions: u32,
    ) -> Result<Evolution, OutOfPeriod> {
        let start = self.start_period;
        let passed = period
            .0
            .checked_sub(start.0)
            .ok_or(OutOfPeriod::NotYet { start, period })?;
        match u32::try_from(passed) {
            Ok(evolution) if evolution < max_evolutions => Ok(Evolution(evolution)),
            _ => {
                let expiry = self.expiry_period(max_evolutions);
                Err(OutOfPeriod::Expired { expiry, period })
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn starting_at(start: u64) -> OpCert {
        OpCert {
            kes_vkey: VerificationKey([1; 32]),
            counter: 7,
            start_period: KesPeriod(start),
            cold_signature: ColdSignature([2; 64]),
        }
    }

    #[test]
    fn periods_follow_the_ledgers_rule() {
        let opcert = starting_at(100);
        let at = |period| opcert.evolution_at(KesPeriod(period), 62);
        assert!(matches!(at(99), Err(OutOfPeriod::NotYet { .. })));
        assert_eq!(at(100), Ok(Evolution(0)));
        assert_eq!(at(161), Ok(Evolution(61)));
        assert!(matches!(
            at(162),
            Err(OutOfPeriod::Expired {
                expiry: KesPeriod(162),
                ..
            })
        ));
        assert!(matches!(at(u64::MAX), Err(OutOfPeriod::Expired { .. })));
        let hostile = starting_at(u64::MAX);
        assert_eq!(
            hostile.evolution_at(KesPeriod(u64::MAX), 62),
            Ok(Evolution(0))
        );
        assert!(hostile.evolution_at(KesPeriod(0), 62).is_err());
        assert_eq!(hostile.expiry_period(62), KesPeriod(u64::MAX));
    }

    #[test]
    fn the_wire_has_the_fields_in_order() {
        let wire = starting_at(0x0102).to_wire();
        assert_eq!(wire[..32], [1; 32]);
        assert_eq!(wire[32..40], [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(wire[40..48], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(wire[48..], [2; 64]);
        assert_eq!(OpCert::from_wire(&wire), starting_at(0x0102));
    }
}
