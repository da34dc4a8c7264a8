//! A block header's body as the Praos eras (Babbage and later) have it.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use minicbor::Encoder;

/// What a block producer signs. Its CBOR is an array of ten (ledger: `BHBody`, `babbage.cddl`:
/// `header_body`), a little over 400 bytes in practice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderBody {
    pub(crate) block_number: u64,
    pub(crate) slot: u64,
    /// Hash of the header before, Blake2b-256.
    pub(crate) previous: Option<[u8; 32]>,
    /// The pool.
    pub(crate) issuer: ColdVerificationKey,
    pub(crate) vrf_vkey: [u8; 32],
    /// What the VRF gave for this slot, and the proof of it.
    pub(crate) vrf_output: [u8; 64],
    pub(crate) vrf_proof: [u8; 80],
    pub(crate) body_size: u64,
    /// Hash of the block's body, Blake2b-256.
    pub(crate) body_hash: [u8; 32],
    /// The certificate of the key that signs this header.
    pub(crate) opcert: OpCert,
    /// Major and minor.
    pub(crate) protocol_version: (u64, u64),
}

impl HeaderBody {
    /// The bytes that are signed.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(600);
        self.encode(&mut Encoder::new(&mut bytes))
            .expect("a vector takes all that is written to it");
        bytes
    }

    fn encode(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<core::convert::Infallible>> {
        e.array(10)?.u64(self.block_number)?.u64(self.slot)?;
        match &self.previous {
            Some(hash) => e.bytes(hash)?,
            None => e.null()?,
        };
        e.bytes(&self.issuer.0)?.bytes(&self.vrf_vkey)?;
        e.array(2)?
            .bytes(&self.vrf_output)?
            .bytes(&self.vrf_proof)?;
        e.u64(self.body_size)?.bytes(&self.body_hash)?;
        e.array(4)?
            .bytes(&self.opcert.kes_vkey.0)?
            .u64(self.opcert.counter)?
            .u64(self.opcert.start_period.0)?
            .bytes(&self.opcert.cold_signature.0)?;
        let (major, minor) = self.protocol_version;
        e.array(2)?.u64(major)?.u64(minor)?.ok()
    }
}
