//! The public verification keys of the whole tree.
//!
//! They are kept beside a key once they are known: evolving then costs hashes and no curve work,
//! and libsodium is given public halves from here alone, which were all derived in this process.

use super::{DEPTH, EVOLUTIONS};
use crate::sys::sodium;

const LEAVES: usize = EVOLUTIONS as usize;

/// The verification keys of all 127 nodes, as a heap: the root is node 1, the children of `n` are
/// `2n` and `2n + 1`, leaf `t` is node `64 + t`. Node 0 is not used.
///
/// Leaves and inner nodes that lie wholly in the past of a received key are unknown and zero; no
/// later evolution reads them, because the pair above them is in the key itself.
pub(super) struct Tree {
    nodes: Box<[[u8; 32]; 2 * LEAVES]>,
}

/// A node's place in the heap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(usize);

impl Node {
    pub(super) const ROOT: Self = Self(1);

    /// The leaf of evolution `t` (0 to 63).
    pub(super) fn leaf(t: u32) -> Self {
        debug_assert!(t < EVOLUTIONS);
        Self(LEAVES + t as usize)
    }

    /// The node at `level` (0, a leaf, to 6, the root) over the leaf of evolution `t`.
    pub(super) fn over(t: u32, level: usize) -> Self {
        debug_assert!(level <= DEPTH);
        Self(Self::leaf(t).0 >> level)
    }

    pub(super) fn left(self) -> Self {
        Self(2 * self.0)
    }

    pub(super) fn right(self) -> Self {
        Self(2 * self.0 + 1)
    }
}

impl Tree {
    pub(super) fn unknown() -> Self {
        Self {
            nodes: Box::new([[0; 32]; 2 * LEAVES]),
        }
    }

    /// Another of the same; it is public.
    pub(super) fn copied(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
        }
    }

    pub(super) fn get(&self, node: Node) -> &[u8; 32] {
        &self.nodes[node.0]
    }

    pub(super) fn get_mut(&mut self, node: Node) -> &mut [u8; 32] {
        &mut self.nodes[node.0]
    }

    /// Sets `node` to the hash of its two children.
    pub(super) fn join(&mut self, node: Node) {
        let pair = concat(self.get(node.left()), self.get(node.right()));
        sodium::blake2b(&pair, self.get_mut(node));
    }
}

/// `left || right`.
pub(super) fn concat(left: &[u8; 32], right: &[u8; 32]) -> [u8; 64] {
    let mut pair = [0; 64];
    pair[..32].copy_from_slice(left);
    pair[32..].copy_from_slice(right);
    pair
}
