//! The sign key: generate, receive and check, sign, evolve. All in place in locked memory.

use super::layout::{self, LEAF_SEED, at, at_mut};
use super::tree::{Node, Tree, concat};
use super::{DEPTH, EVOLUTIONS, SIGN_KEY_BYTES, Signature, VerificationKey};
use crate::period::Evolution;
use crate::sys::memory::{LockError, LockedBytes, SecretBytes};
use crate::sys::{sodium, stack};

/// A KES sign key at one evolution, in locked memory, with the public verification keys of its
/// tree. Its 608 secret bytes stand in memory of kind `S`: memsec's, unless another is named.
///
/// Secrets have no `Clone`, `Debug`, `PartialEq` or serde:
///
/// ```compile_fail
/// fn copy(key: &kes_wire::sum6kes::SignKey) -> kes_wire::sum6kes::SignKey { key.clone() }
/// ```
/// ```compile_fail
/// fn show(key: &kes_wire::sum6kes::SignKey) -> String { format!("{key:?}") }
/// ```
pub struct SignKey<S = LockedBytes<SIGN_KEY_BYTES>> {
    secret: S,
    evolution: Evolution,
    tree: Tree,
}

/// Why a key cannot evolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvolveError {
    /// The key is past the evolution that was asked for; that one is gone.
    #[error("the key is at evolution {at}: evolution {wanted} is gone")]
    Past {
        /// Where the key is.
        at: Evolution,
        /// What was asked for.
        wanted: Evolution,
    },
    /// There is no such evolution.
    #[error("a KES key ends at evolution 63: it has no evolution {0}")]
    Spent(Evolution),
    /// The secret stack could not be locked. The key did not change.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why 608 received bytes are not a whole key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedKey {
    /// The evolution beside the key is 64 or more.
    #[error("evolution {0} is beyond the last one of any KES key, 63")]
    EvolutionTooHigh(Evolution),
    /// A level that has moved to its right half still has its seed: the past could be had.
    #[error("the key is not evolved as it says: level {level} still holds a spent seed")]
    SpentSeedPresent {
        /// The level, 1 (leaves) to 6.
        level: usize,
    },
    /// A stored verification key is not the one of its seed.
    #[error("the key is damaged: a verification key of level {level} is not that of its seed")]
    WrongVerificationKey {
        /// The level, 1 (leaves) to 6.
        level: usize,
    },
    /// The whole key is sound but belongs to another verification key.
    #[error("the key's verification key is {found}, not {wanted}")]
    OtherKey {
        /// What the bytes amount to.
        found: VerificationKey,
        /// What the certificate names.
        wanted: VerificationKey,
    },
    /// The secret stack could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl SignKey {
    /// Generates a key at evolution 0 from the system's randomness.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn generate() -> Result<Self, LockError> {
        Self::from_seed(LockedBytes::random()?)
    }

    /// Derives the key at evolution 0 from a 32-byte seed. The seed is wiped.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn from_seed(seed: LockedBytes<32>) -> Result<Self, LockError> {
        let mut secret = LockedBytes::zeroed()?;
        let mut tree = Tree::unknown();
        stack::run(|| {
            grow(Node::ROOT, DEPTH, seed.expose(), &mut tree);
            plant(secret.expose_mut(), 0, DEPTH, seed.expose(), &tree);
        })?;
        Ok(Self {
            secret,
            evolution: Evolution(0),
            tree,
        })
    }

    /// Takes a key that came from outside and checks it whole: every verification key in it is
    /// recomputed from the seed it stands for, seeds of the past are zero, and the root is
    /// `expected`.
    ///
    /// # Errors
    /// [`DamagedKey`], by reason; the bytes are wiped then.
    pub fn from_bytes(
        secret: LockedBytes<SIGN_KEY_BYTES>,
        evolution: Evolution,
        expected: &VerificationKey,
    ) -> Result<Self, DamagedKey> {
        Self::checked(secret, evolution, expected).map_err(|(damaged, _)| damaged)
    }
}

impl<S: SecretBytes<SIGN_KEY_BYTES>> SignKey<S> {
    /// Takes a key that stands in memory of some kind, and checks it whole, as
    /// [`from_bytes`](SignKey::from_bytes) does.
    ///
    /// # Errors
    /// [`DamagedKey`], by reason, with the memory as it is.
    pub fn checked(
        secret: S,
        evolution: Evolution,
        expected: &VerificationKey,
    ) -> Result<Self, (DamagedKey, S)> {
        match Self::check(&secret, evolution, expected) {
            Ok(tree) => Ok(Self {
                secret,
                evolution,
                tree,
            }),
            Err(damaged) => Err((damaged, secret)),
        }
    }

    fn check(
        secret: &S,
        evolution: Evolution,
        expected: &VerificationKey,
    ) -> Result<Tree, DamagedKey> {
        if evolution.0 >= EVOLUTIONS {
            return Err(DamagedKey::EvolutionTooHigh(evolution));
        }
        let mut tree = Tree::unknown();
        stack::run(|| regrow(secret.expose(), evolution.0, &mut tree))??;
        let found = VerificationKey(*tree.get(Node::ROOT));
        if found != *expected {
            return Err(DamagedKey::OtherKey {
                found,
                wanted: *expected,
            });
        }
        Ok(tree)
    }

    /// The same key in other memory, at evolution `wanted`, which may be the same or later. The
    /// key itself stays as it is until its owner wipes it: so that a change that counts only when
    /// it is complete can be made.
    ///
    /// # Errors
    /// [`EvolveError`]; `into` is given back then, and may hold what is to be wiped.
    pub fn evolved_into<T: SecretBytes<SIGN_KEY_BYTES>>(
        &self,
        mut into: T,
        wanted: Evolution,
    ) -> Result<SignKey<T>, (EvolveError, T)> {
        into.expose_mut().copy_from_slice(self.secret.expose());
        let mut key = SignKey {
            secret: into,
            evolution: self.evolution,
            tree: self.tree.copied(),
        };
        match key.evolve_to(wanted) {
            Ok(()) => Ok(key),
            Err(error) => Err((error, key.secret)),
        }
    }

    /// Gives the memory back, as it is: the key's owner wipes it.
    #[must_use]
    pub fn into_secret(self) -> S {
        self.secret
    }

    /// The verification key: the root of the tree, the same at every evolution.
    #[must_use]
    pub fn verification_key(&self) -> VerificationKey {
        VerificationKey(*self.tree.get(Node::ROOT))
    }

    /// How often the key has evolved.
    #[must_use]
    pub fn evolution(&self) -> Evolution {
        self.evolution
    }

    /// The 608 secret bytes, to be sent straight to a socket.
    #[must_use]
    pub fn expose(&self) -> &[u8; SIGN_KEY_BYTES] {
        self.secret.expose()
    }

    /// Signs `message` at the key's evolution: one Ed25519 signature and a copy of the public
    /// path.
    ///
    /// # Errors
    /// [`LockError`] where this thread's secret stack cannot be locked.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, LockError> {
        let mut signature = Signature([0; Signature::BYTES]);
        let (leaf, pairs) = signature
            .0
            .split_first_chunk_mut::<64>()
            .expect("448 bytes");
        let key = self.secret.expose();
        stack::run(|| {
            // The public half comes from the tree, which this process derived itself.
            let public = self.tree.get(Node::leaf(self.evolution.0));
            let secret = concat(at(key, LEAF_SEED), public);
            sodium::ed25519_sign(&secret, message, leaf);
        })?;
        for (level, pair) in (1..=DEPTH).zip(pairs.as_chunks_mut::<64>().0) {
            let from = layout::verification_keys(level);
            pair.copy_from_slice(&key[from..from + 64]);
        }
        Ok(signature)
    }

    /// Copies what signs at the key's evolution: the leaf's seed with its public half into locked
    /// memory, and the public path.
    pub(super) fn copy_leaf(
        &self,
        leaf: &mut [u8; sodium::ED25519_SECRET_BYTES],
        path: &mut [u8; DEPTH * 64],
    ) -> Result<(), LockError> {
        let key = self.secret.expose();
        stack::run(|| {
            leaf[..32].copy_from_slice(at(key, LEAF_SEED));
            leaf[32..].copy_from_slice(self.tree.get(Node::leaf(self.evolution.0)));
        })?;
        for (level, pair) in (1..=DEPTH).zip(path.as_chunks_mut::<64>().0) {
            let from = layout::verification_keys(level);
            pair.copy_from_slice(&key[from..from + 64]);
        }
        Ok(())
    }

    /// Evolves up to `wanted`, in place; the leaf and the seeds of every evolution before it are
    /// overwritten. Does nothing where the key is there already.
    ///
    /// # Errors
    /// [`EvolveError`]; the key is unchanged then.
    pub fn evolve_to(&mut self, wanted: Evolution) -> Result<(), EvolveError> {
        if wanted < self.evolution {
            return Err(EvolveError::Past {
                at: self.evolution,
                wanted,
            });
        }
        if wanted.0 >= EVOLUTIONS {
            return Err(EvolveError::Spent(wanted));
        }
        let Self {
            secret,
            evolution,
            tree,
        } = self;
        stack::run(|| {
            for next in evolution.0 + 1..=wanted.0 {
                step(secret.expose_mut(), next, tree);
            }
        })?;
        self.evolution = wanted;
        Ok(())
    }
}

/// Derives the two children's seeds of a node.
fn expand(seed: &[u8; 32], left: &mut [u8; 32], right: &mut [u8; 32]) {
    let mut prefixed = [0; 33];
    prefixed[1..].copy_from_slice(seed);
    prefixed[0] = 1;
    sodium::blake2b(&prefixed, left);
    prefixed[0] = 2;
    sodium::blake2b(&prefixed, right);
}

/// Computes the verification keys of the subtree under `node`, which stands at `level`.
fn grow(node: Node, level: usize, seed: &[u8; 32], tree: &mut Tree) {
    if level == 0 {
        let mut secret = [0; 64];
        sodium::ed25519_keypair(seed, &mut secret, tree.get_mut(node));
        return;
    }
    let (mut left, mut right) = ([0; 32], [0; 32]);
    expand(seed, &mut left, &mut right);
    grow(node.left(), level - 1, &left, tree);
    grow(node.right(), level - 1, &right, tree);
    tree.join(node);
}

/// Writes the part of a key below `level` as it is when it enters the leaf of evolution `t`, the
/// leftmost of a subtree of that height with seed `seed`.
fn plant(key: &mut [u8; SIGN_KEY_BYTES], t: u32, level: usize, seed: &[u8; 32], tree: &Tree) {
    let mut seed = *seed;
    for level in (1..=level).rev() {
        let mut left = [0; 32];
        expand(&seed, &mut left, at_mut(key, layout::right_seed(level)));
        let node = Node::over(t, level);
        let pair = layout::verification_keys(level);
        at_mut(key, pair).copy_from_slice(tree.get(node.left()));
        at_mut(key, pair + 32).copy_from_slice(tree.get(node.right()));
        seed = left;
    }
    at_mut(key, LEAF_SEED).copy_from_slice(&seed);
}

/// One evolution, to `next`: the lowest level that enters its right half there gives up its right
/// seed, and everything below it is planted anew from that seed.
fn step(key: &mut [u8; SIGN_KEY_BYTES], next: u32, tree: &Tree) {
    let turning = next.trailing_zeros() as usize + 1;
    let seed = *at(key, layout::right_seed(turning));
    sodium::wipe(at_mut(key, layout::right_seed(turning)));
    plant(key, next, turning - 1, &seed, tree);
}

/// Computes what can be known of the tree of a received key at evolution `t`, from the leaf up,
/// and checks what the key says against it.
fn regrow(key: &[u8; SIGN_KEY_BYTES], t: u32, tree: &mut Tree) -> Result<(), DamagedKey> {
    grow(Node::leaf(t), 0, at(key, LEAF_SEED), tree);
    for level in 1..=DEPTH {
        let node = Node::over(t, level);
        let stored = layout::verification_keys(level);
        let (stored_left, stored_right) = (at(key, stored), at(key, stored + 32));
        let right_seed = at(key, layout::right_seed(level));
        let moved_right = t >> (level - 1) & 1 == 1;
        if moved_right {
            if right_seed != &[0; 32] {
                return Err(DamagedKey::SpentSeedPresent { level });
            }
            // The left child is past: its seed is gone, and the root vouches for its key.
            tree.get_mut(node.left()).copy_from_slice(stored_left);
        } else {
            grow(node.right(), level - 1, right_seed, tree);
        }
        if tree.get(node.left()) != stored_left || tree.get(node.right()) != stored_right {
            return Err(DamagedKey::WrongVerificationKey { level });
        }
        tree.join(node);
    }
    Ok(())
}
