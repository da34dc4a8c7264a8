//! Verification for those who receive: a KES signature with its certificate, the pool's cold key
//! and a period, and every reason for refusal told apart.
//!
//! This is what the ledger checks of a block header's signature (rule `OCERT`), but for the
//! counter, which only who follows the chain can judge. Nothing here is secret, and it needs none
//! of this crate's features.

use crate::cold::ColdVerificationKey;
use crate::opcert::{OpCert, OutOfPeriod};
use crate::period::{Evolution, KesPeriod};
use crate::sum6kes::{self, DEPTH, EVOLUTIONS, Signature, VerifyError};
use crate::sys::sodium;

/// A claim to be verified: this pool signed this message in this period.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// What is said to be signed, such as a block header's body.
    pub message: &'a [u8],
    /// The KES signature, 448 bytes.
    pub signature: &'a Signature,
    /// The certificate that came with it.
    pub opcert: &'a OpCert,
    /// The pool's cold verification key (a block header's issuer).
    pub cold_vkey: &'a ColdVerificationKey,
    /// The KES period: the slot divided by `slotsPerKESPeriod`.
    pub period: KesPeriod,
}

/// Why a claim does not hold. The first rule that is broken, in the order in which they stand
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate is not signed by the cold key.
    #[error("the certificate is not signed by this cold key: it is another pool's, or forged")]
    CertificateOfAnotherPool,
    /// The period lies before the certificate's first.
    #[error("the certificate starts in period {start}, after period {period}")]
    CertificateStartsLater {
        /// The certificate's first period.
        start: KesPeriod,
        /// The period of the claim.
        period: KesPeriod,
    },
    /// The period lies after the certificate's last.
    #[error("the certificate expired with the start of period {expiry}, before period {period}")]
    CertificateExpired {
        /// The first period in which the certificate is not valid any more.
        expiry: KesPeriod,
        /// The period of the claim.
        period: KesPeriod,
    },
    /// The network allows more evolutions than a KES key has.
    #[error("evolution {0} is beyond the last one of any KES key, 63")]
    NoSuchEvolution(Evolution),
    /// The signature is not one of the key that the certificate names.
    #[error("the signature was not made by the KES key that the certificate names")]
    AnotherKesKey,
    /// The signature is of the right key, but a verification key inside it is damaged.
    #[error("the signature is damaged: the path breaks off at level {level}")]
    DamagedPath {
        /// The level, 1 (leaves) to 5.
        level: usize,
    },
    /// The signature is genuine, over this message, and of the right key, but at the evolution of
    /// another period: the signer's clock or key was wrong, or this side's idea of the slot is.
    #[error(
        "the signature was made at evolution {found}, which is that of period {period}, and not \
         at evolution {wanted}"
    )]
    AnotherPeriod {
        /// The evolution that signed.
        found: Evolution,
        /// The period that it belongs to.
        period: KesPeriod,
        /// The evolution that belongs to the period of the claim.
        wanted: Evolution,
    },
    /// The path is right, but the signature is not over this message.
    #[error("the signature is not over this message: one of the two was changed")]
    AnotherMessage,
}

impl Claim<'_> {
    /// Checks the claim. `max_evolutions` is the network's
    /// ([`crate::genesis::Network::max_evolutions`], 62 on the public ones). Gives the evolution
    /// that signed.
    ///
    /// ```
    /// use kes_wire::cold::ColdSignKey;
    /// use kes_wire::period::{Evolution, KesPeriod};
    /// use kes_wire::sum6kes::SignKey;
    /// use kes_wire::verification::{Claim, Refusal};
    ///
    /// let cold = ColdSignKey::generate()?;
    /// let key = SignKey::generate()?;
    /// let opcert = cold.issue(&key.verification_key(), 0, KesPeriod(1572))?;
    /// let claim = Claim {
    ///     message: b"a block header's body",
    ///     signature: &key.sign(b"a block header's body")?,
    ///     opcert: &opcert,
    ///     cold_vkey: &cold.verification_key(),
    ///     period: KesPeriod(1572),
    /// };
    /// assert_eq!(claim.verify(62), Ok(Evolution(0)));
    /// let other = Claim { message: b"another body", ..claim };
    /// assert_eq!(other.verify(62), Err(Refusal::AnotherMessage));
    /// # Ok::<(), kes_wire::sys::memory::LockError>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal`], by reason.
    pub fn verify(&self, max_evolutions: u32) -> Result<Evolution, Refusal> {
        if !self.opcert.is_signed_by(self.cold_vkey) {
            return Err(Refusal::CertificateOfAnotherPool);
        }
        let evolution = self.opcert.evolution_at(self.period, max_evolutions)?;
        let root = &self.opcert.kes_vkey;
        match sum6kes::verify(root, evolution, self.message, self.signature) {
            Ok(()) => Ok(evolution),
            Err(VerifyError::EvolutionTooHigh(evolution)) => {
                Err(Refusal::NoSuchEvolution(evolution))
            }
            Err(VerifyError::WrongKey { level: DEPTH }) => Err(Refusal::AnotherKesKey),
            Err(VerifyError::WrongKey { level }) => {
                Err(self.another_period(evolution, Refusal::DamagedPath { level }))
            }
            Err(VerifyError::WrongSignature) => {
                Err(self.another_period(evolution, Refusal::AnotherMessage))
            }
        }
    }

    /// Whether the signature holds at another evolution; `otherwise` where it holds at none.
    fn another_period(&self, wanted: Evolution, otherwise: Refusal) -> Refusal {
        let root = &self.opcert.kes_vkey;
        let found = (0..EVOLUTIONS).map(Evolution).find(|&evolution| {
            // The path leads to two leaves at the most: the others cost hashes alone.
            sum6kes::verify(root, evolution, self.message, self.signature).is_ok()
        });
        found.map_or(otherwise, |found| Refusal::AnotherPeriod {
            found,
            period: KesPeriod(
                self.opcert
                    .start_period
                    .0
                    .saturating_add(u64::from(found.0)),
            ),
            wanted,
        })
    }
}

impl From<OutOfPeriod> for Refusal {
    fn from(error: OutOfPeriod) -> Self {
        match error {
            OutOfPeriod::NotYet { start, period } => Self::CertificateStartsLater { start, period },
            OutOfPeriod::Expired { expiry, period } => Self::CertificateExpired { expiry, period },
        }
    }
}

/// The root of the key that made a signature, by the outermost pair of verification keys in it:
/// the key that a certificate has to name. Says nothing about whether the signature holds.
#[must_use]
pub fn signer_of(signature: &Signature) -> sum6kes::VerificationKey {
    let outermost = signature.0.last_chunk::<64>().expect("448 bytes");
    let mut root = [0; 32];
    sodium::blake2b(outermost, &mut root);
    sum6kes::VerificationKey(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cold::ColdSignKey;
    use crate::sum6kes::SignKey;
    use proptest::prelude::*;

    const START: u64 = 100;
    const MESSAGE: &[u8] = b"a block header's body";

    struct Sample {
        cold_vkey: ColdVerificationKey,
        opcert: OpCert,
        signature: Signature,
        at: Evolution,
    }

    fn sample(at: Evolution) -> Sample {
        let cold = ColdSignKey::generate().unwrap();
        let mut key = SignKey::generate().unwrap();
        key.evolve_to(at).unwrap();
        let vkey = key.verification_key();
        Sample {
            cold_vkey: cold.verification_key(),
            opcert: cold.issue(&vkey, 3, KesPeriod(START)).unwrap(),
            signature: key.sign(MESSAGE).unwrap(),
            at,
        }
    }

    impl Sample {
        fn claim(&self, period: u64) -> Claim<'_> {
            Claim {
                message: MESSAGE,
                signature: &self.signature,
                opcert: &self.opcert,
                cold_vkey: &self.cold_vkey,
                period: KesPeriod(period),
            }
        }
    }

    #[test]
    fn every_reason_is_told_apart() {
        let sample = sample(Evolution(5));
        let claim = sample.claim(105);
        assert_eq!(claim.verify(62), Ok(Evolution(5)));
        assert_eq!(signer_of(&sample.signature), sample.opcert.kes_vkey);

        let stranger = ColdSignKey::generate().unwrap().verification_key();
        let other = Claim {
            cold_vkey: &stranger,
            ..claim
        };
        assert_eq!(other.verify(62), Err(Refusal::CertificateOfAnotherPool));
        assert_eq!(
            sample.claim(99).verify(62),
            Err(Refusal::CertificateStartsLater {
                start: KesPeriod(100),
                period: KesPeriod(99),
            })
        );
        assert_eq!(
            sample.claim(162).verify(62),
            Err(Refusal::CertificateExpired {
                expiry: KesPeriod(162),
                period: KesPeriod(162),
            })
        );
        let no_such = Err(Refusal::NoSuchEvolution(Evolution(64)));
        assert_eq!(sample.claim(164).verify(65), no_such);

        let another = self::sample(Evolution(5));
        let other = Claim {
            signature: &another.signature,
            ..claim
        };
        assert_eq!(other.verify(62), Err(Refusal::AnotherKesKey));
        let other = Claim {
            message: b"another body",
            ..claim
        };
        assert_eq!(other.verify(62), Err(Refusal::AnotherMessage));
    }

    #[test]
    fn a_signature_of_another_period_is_told_with_that_period() {
        for at in [0, 4, 5, 31, 32, 61] {
            let sample = sample(Evolution(at));
            for wanted in (0..62).filter(|&wanted| wanted != at) {
                let expected = Refusal::AnotherPeriod {
                    found: Evolution(at),
                    period: KesPeriod(START + u64::from(at)),
                    wanted: Evolution(wanted),
                };
                let verified = sample.claim(START + u64::from(wanted)).verify(62);
                assert_eq!(verified, Err(expected));
            }
        }
    }

    #[test]
    fn a_damaged_byte_is_told_by_where_it_stands() {
        let sample = sample(Evolution(37));
        for byte in 0..Signature::BYTES {
            let mut signature = sample.signature;
            signature.0[byte] ^= 0x10;
            let claim = Claim {
                signature: &signature,
                ..sample.claim(START + 37)
            };
            let expected = match byte {
                0..64 => Refusal::AnotherMessage,
                64..384 => Refusal::DamagedPath {
                    level: (byte - 64) / 64 + 1,
                },
                _ => Refusal::AnotherKesKey,
            };
            assert_eq!(claim.verify(62), Err(expected), "byte {byte}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_verified_was_signed(
            at in 0u32..62, period in 95u64..170, message: Vec<u8>, max in 1u32..70,
        ) {
            let sample = sample(Evolution(at));
            let claim = Claim { message: &message, ..sample.claim(period) };
            let holds = message == MESSAGE && period == START + u64::from(at) && at < max;
            prop_assert_eq!(claim.verify(max), claim.verify(max));
            prop_assert_eq!(claim.verify(max).is_ok(), holds);
            let genuine = sample.claim(START + u64::from(sample.at.0));
            prop_assert_eq!(genuine.verify(62), Ok(sample.at));
        }
    }
}
