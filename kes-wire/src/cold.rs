//! Cold keys: the pool's identity. The verification key is configured in the agent; the sign key
//! lives on the air-gapped machine.

use crate::public_bytes::public_bytes;

public_bytes! {
    /// A pool's cold verification key (Ed25519), 32 bytes.
    ColdVerificationKey, 32
}
