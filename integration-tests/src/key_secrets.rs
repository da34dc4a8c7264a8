//! Every secret that a KES key has in its life, derived from its seed beside the project's own
//! code: the seeds of all 127 nodes of the tree, and what Ed25519 makes of the leaves' seeds.

use std::collections::BTreeSet;

use kes_wire::sys::sodium;
use sha2::{Digest, Sha512};

use crate::memory_scan::Secret;

const LEAVES: usize = 64;

/// The seeds of a key's tree, as a heap: the root is node 1, the children of `n` are `2n` and
/// `2n + 1`, the leaf of evolution `t` is node `64 + t`.
pub struct KeySecrets {
    name: String,
    seeds: Vec<[u8; 32]>,
}

impl KeySecrets {
    /// Derives them. `name` is the key's in what the scanner reports.
    #[must_use]
    pub fn of(name: &str, seed: &[u8; 32]) -> Self {
        let mut seeds = vec![[0; 32]; 2 * LEAVES];
        seeds[1] = *seed;
        for node in 1..LEAVES {
            for (prefix, child) in [(1, 2 * node), (2, 2 * node + 1)] {
                let prefixed = [&[prefix][..], &seeds[node]].concat();
                let mut hash = [0; 32];
                sodium::blake2b(&prefixed, &mut hash);
                seeds[child] = hash;
            }
        }
        Self {
            name: name.to_owned(),
            seeds,
        }
    }

    /// All of them: 127 seeds, and what Ed25519 makes of the 64 leaves'.
    #[must_use]
    pub fn all(&self) -> Vec<Secret> {
        let mut all: Vec<Secret> = (1..2 * LEAVES)
            .map(|node| Secret::new(self.node(node), &self.seeds[node]))
            .collect();
        for t in 0..LEAVES {
            all.extend(expanded(&format!("{} leaf {t}", self.name), self.leaf(t)));
        }
        all
    }

    /// The names of those that the key has at evolution `t`: the leaf's seed, and the seed of every
    /// right half that is still to come.
    #[must_use]
    pub fn held_at(&self, t: usize) -> BTreeSet<String> {
        let mut node = LEAVES + t;
        let mut held = BTreeSet::from([self.node(node)]);
        while node > 1 {
            if node.is_multiple_of(2) {
                held.insert(self.node(node + 1));
            }
            node /= 2;
        }
        held
    }

    /// The seed of the leaf of evolution `t`.
    #[must_use]
    pub fn leaf(&self, t: usize) -> &[u8; 32] {
        &self.seeds[LEAVES + t]
    }

    fn node(&self, node: usize) -> String {
        match node.checked_sub(LEAVES) {
            Some(t) => format!("{}: seed of leaf {t}", self.name),
            None => format!("{}: seed of node {node}", self.name),
        }
    }
}

/// The secrets of an Ed25519 key: its seed and what is made of it.
#[must_use]
pub fn of_ed25519(name: &str, seed: &[u8; 32]) -> Vec<Secret> {
    let mut all = expanded(name, seed);
    all.push(Secret::new(format!("{name}: seed"), seed));
    all
}

/// The two halves of the SHA-512 of a seed (RFC 8032, 5.1.5), the first also clamped.
fn expanded(name: &str, seed: &[u8; 32]) -> Vec<Secret> {
    let hash = Sha512::digest(seed);
    let (scalar, prefix) = hash.split_at(32);
    let mut clamped = scalar.to_vec();
    clamped[0] &= 248;
    clamped[31] = clamped[31] & 127 | 64;
    vec![
        Secret::new(format!("{name}: unclamped scalar"), scalar),
        Secret::new(format!("{name}: scalar"), &clamped),
        Secret::new(format!("{name}: prefix"), prefix),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kes_wire::period::Evolution;
    use kes_wire::sum6kes::SignKey;
    use kes_wire::sys::memory::LockedBytes;

    use crate::memory_scan::Scanner;

    /// What is derived here is what the project's keys hold: the scan looks for the right bytes.
    #[test]
    fn a_key_holds_what_is_derived_and_nothing_else() {
        let mut seed = LockedBytes::random().unwrap();
        let secrets = KeySecrets::of("key", seed.expose());
        let scanner = Scanner::new(secrets.all());
        let mut key = SignKey::from_seed(core::mem::replace(
            &mut seed,
            LockedBytes::zeroed().unwrap(),
        ))
        .unwrap();
        for t in 0..64 {
            key.evolve_to(Evolution(u32::try_from(t).unwrap())).unwrap();
            assert_eq!(scanner.names_in(key.expose()), secrets.held_at(t), "{t}");
        }
    }

    #[test]
    fn the_expanded_forms_are_those_of_ed25519() {
        let secrets = KeySecrets::of("key", &[7; 32]);
        let dalek = ed25519_dalek::SigningKey::from_bytes(secrets.leaf(5));
        let scanner = Scanner::new(secrets.all());
        let found = scanner.names_in(&dalek.to_scalar_bytes());
        assert!(found.contains("key leaf 5: unclamped scalar"), "{found:?}");
    }
}
