//! Searches a process's memory for secrets.
//!
//! Each secret is looked for in pieces of eight bytes, as registers hold and spill them, so that
//! a copy is found that is half overwritten. One pass over the memory looks for all pieces of all
//! secrets. The process is stopped meanwhile.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use aho_corasick::AhoCorasick;
use rustix::process::{Pid, Signal, kill_process};

use crate::pool::until;

/// Bytes of a piece.
const PIECE: usize = 8;
/// How many sightings are shown where there should be none.
const MOST_SHOWN: usize = 20;
/// Mappings of the kernel's, alike in every process, which cannot be read.
const KERNELS: [&str; 3] = ["[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// Something that is looked for.
pub struct Secret {
    name: String,
    bytes: Vec<u8>,
}

impl Secret {
    /// `bytes`, reported by `name`.
    #[must_use]
    pub fn new(name: String, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { name, bytes }
    }
}

/// Looks for secrets.
pub struct Scanner {
    pieces: AhoCorasick,
    /// The name of each piece's secret.
    names: Vec<String>,
}

/// Where a piece of a secret was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The secret's name.
    pub secret: String,
    /// At which address.
    pub address: u64,
    /// In which mapping.
    pub mapping: String,
    /// Whether that mapping is locked and left out of dumps, as memsec's are.
    pub is_protected: bool,
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {:x} in {}",
            self.secret, self.address, self.mapping
        )
    }
}

/// What was seen in a process.
#[derive(Debug)]
pub struct Seen {
    /// Where secrets are.
    pub sightings: Vec<Sighting>,
    /// Mappings with content that could not be read.
    pub unreadable: Vec<String>,
    /// How many bytes were.
    pub bytes_read: usize,
}

impl Seen {
    /// The names of what was found in protected mappings. Panics with what stands elsewhere.
    ///
    /// # Panics
    /// Where anything was found outside protected mappings.
    #[must_use]
    pub fn only_protected(&self, when: &str) -> BTreeSet<String> {
        let elsewhere: Vec<_> = self
            .sightings
            .iter()
            .filter(|sighting| !sighting.is_protected)
            .take(MOST_SHOWN)
            .map(ToString::to_string)
            .collect();
        assert_eq!(elsewhere, [""; 0], "{when}: in unprotected memory");
        self.names()
    }

    /// The names of what was found.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.sightings.iter().map(|s| s.secret.clone()).collect()
    }
}

impl Scanner {
    /// A scanner for these.
    ///
    /// # Panics
    /// Where there are more than a search can hold.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut names = Vec::new();
        let mut pieces: Vec<[u8; PIECE]> = Vec::new();
        for secret in secrets {
            for piece in secret.bytes.as_chunks().0 {
                names.push(secret.name.clone());
                pieces.push(*piece);
            }
        }
        let pieces = AhoCorasick::new(pieces).expect("a search for thousands of pieces");
        Self { pieces, names }
    }

    /// Looks through a process, which is stopped meanwhile: everything that it has in memory, also
    /// what it cannot read itself.
    ///
    /// # Panics
    /// Where this process may not do that; see [`may_look`].
    #[must_use]
    pub fn look_into(&self, pid: u32) -> Seen {
        let _stopped = Stopped::stop(pid);
        let memory = File::open(format!("/proc/{pid}/mem")).expect("the process's memory");
        let mut seen = Seen {
            sightings: Vec::new(),
            unreadable: Vec::new(),
            bytes_read: 0,
        };
        for mapping in mappings(pid) {
            let mut bytes = vec![0; mapping.length];
            if memory.read_exact_at(&mut bytes, mapping.start).is_err() {
                seen.unreadable.push(mapping.name);
                continue;
            }
            seen.bytes_read += bytes.len();
            let found = self.pieces.find_overlapping_iter(&bytes);
            seen.sightings.extend(found.map(|found| Sighting {
                secret: self.names[found.pattern().as_usize()].clone(),
                address: mapping.start + found.start() as u64,
                mapping: mapping.name.clone(),
                is_protected: mapping.is_protected,
            }));
        }
        seen
    }

    /// The names of those whose pieces are in `bytes`.
    #[must_use]
    pub fn names_in(&self, bytes: &[u8]) -> BTreeSet<String> {
        self.pieces
            .find_overlapping_iter(bytes)
            .map(|found| self.names[found.pattern().as_usize()].clone())
            .collect()
    }
}

/// Whether this process may read the memory of others that are closed to it: root may.
#[must_use]
pub fn may_look() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        crate::shared::skipped(
            "only root can read the memory of a process that is closed to others",
        );
    }
    is_root
}

struct Mapping {
    start: u64,
    length: usize,
    name: String,
    is_protected: bool,
}

/// The mappings of a process that have anything in memory or in swap, by its smaps.
fn mappings(pid: u32) -> Vec<Mapping> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process's mappings");
    let mut all = Vec::new();
    let mut pages = 0;
    let mut head: Option<(u64, usize, String)> = None;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Rss:" | "Swap:", kilobytes, ..] => {
                pages += kilobytes.parse::<u64>().expect("a number");
            }
            ["VmFlags:", ref flags @ ..] => {
                let (start, length, name) = head.take().expect("a mapping before its flags");
                let is_memfd_secret = name.contains("secretmem");
                let is_kernels = KERNELS.iter().any(|kernels| name.ends_with(kernels));
                if (pages > 0 || is_memfd_secret) && !is_kernels {
                    all.push(Mapping {
                        start,
                        length,
                        name,
                        is_protected: flags.contains(&"lo") && flags.contains(&"dd"),
                    });
                }
                pages = 0;
            }
            [range, permissions, _, _, _, ref path @ ..] if range.contains('-') => {
                let (from, to) = range.split_once('-').expect("two addresses");
                let address = |text| u64::from_str_radix(text, 16).expect("an address");
                let (from, to) = (address(from), address(to));
                let length = usize::try_from(to - from).expect("a mapping of this machine");
                let name = format!("{permissions} {}", path.join(" "));
                head = Some((from, length, name));
            }
            _ => {}
        }
    }
    assert!(!all.is_empty(), "the process runs");
    all
}

/// A process that does nothing until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: u32) -> Self {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = number.expect("a process's number");
        kill_process(process, Signal::STOP).expect("the process can be stopped");
        let stopped = Self(process);
        until("every thread to stop", || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let mut states = threads.map(|thread| {
                let stat = thread.ok()?.path().join("stat");
                let stat = fs::read_to_string(stat).ok()?;
                // The state follows the name, which is in parentheses.
                stat.rsplit_once(") ")?.1.chars().next()
            });
            states.all(|state| state == Some('T')).then_some(())
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that has ended does not go on.
        let _ = kill_process(self.0, Signal::CONT);
    }
}
