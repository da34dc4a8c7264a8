//! Locked memory: guarded, never swapped, left out of dumps, wiped when dropped.
//!
//! A [`LockedBytes`] is allocated by memsec between two inaccessible pages and behind a canary.
//! memsec ignores the result of `mlock`, so it is asked for once more here and a failure is an
//! error: there is no `LockedBytes` whose pages can be swapped.

use core::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::mm::{MprotectFlags, mprotect};

use super::sodium;

/// Memory could not be allocated or could not be locked; nothing secret was written to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot lock {wanted} bytes of memory: the limit for locked memory (RLIMIT_MEMLOCK, \
     LimitMEMLOCK= in systemd, ulimit -l) is {limit}; raise it to 1M or more and start again"
)]
pub struct LockError {
    /// How many bytes were asked for.
    pub wanted: usize,
    /// The soft limit in force, in words.
    pub limit: String,
}

impl LockError {
    pub(super) fn new(wanted: usize) -> Self {
        let limit = match super::os::locked_memory_limit() {
            Some(bytes) => format!("{bytes} bytes"),
            None => "unlimited, so the machine itself is out of memory".to_owned(),
        };
        Self { wanted, limit }
    }
}

/// `N` secret bytes in locked memory of one kind or another, with one owner.
pub trait SecretBytes<const N: usize> {
    /// The secret, for reading. What is read must not be copied into ordinary memory.
    fn expose(&self) -> &[u8; N];
    /// The secret, for writing in place.
    fn expose_mut(&mut self) -> &mut [u8; N];
}

impl<const N: usize> SecretBytes<N> for LockedBytes<N> {
    fn expose(&self) -> &[u8; N] {
        self.expose()
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        self.expose_mut()
    }
}

/// `N` secret bytes in guarded, locked memory. Wiped when dropped.
///
/// It has no `Clone`, `Debug`, `PartialEq` or serde: what it holds is read through
/// [`expose`](Self::expose) alone, so that every reader can be found.
///
/// ```
/// use kes_wire::sys::memory::LockedBytes;
/// let mut seed = LockedBytes::<32>::zeroed()?;
/// seed.expose_mut()[0] = 1;
/// assert_eq!(seed.expose()[0], 1);
/// # Ok::<(), kes_wire::sys::memory::LockError>(())
/// ```
///
/// It cannot be copied or printed:
///
/// ```compile_fail
/// let seed = kes_wire::sys::memory::LockedBytes::<32>::zeroed().unwrap();
/// let copy = seed.clone();
/// ```
/// ```compile_fail
/// let seed = kes_wire::sys::memory::LockedBytes::<32>::zeroed().unwrap();
/// println!("{seed:?}");
/// ```
/// ```compile_fail
/// let seed = kes_wire::sys::memory::LockedBytes::<32>::zeroed().unwrap();
/// assert!(seed == seed);
/// ```
pub struct LockedBytes<const N: usize> {
    bytes: NonNull<[u8; N]>,
}

// SAFETY: the allocation is owned by this value alone and is not tied to a thread.
unsafe impl<const N: usize> Send for LockedBytes<N> {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl<const N: usize> Sync for LockedBytes<N> {}

impl<const N: usize> LockedBytes<N> {
    /// Allocates and locks `N` bytes, all zero.
    ///
    /// # Errors
    /// [`LockError`] where the memory cannot be had or cannot be locked.
    pub fn zeroed() -> Result<Self, LockError> {
        if let Some(bytes) = Idle::take(N) {
            return Ok(Self {
                bytes: bytes.cast(),
            });
        }
        Self::allocate().or_else(|error| {
            // What lies idle may be what is missing.
            if Idle::free_all() {
                Self::allocate()
            } else {
                Err(error)
            }
        })
    }

    fn allocate() -> Result<Self, LockError> {
        // SAFETY: memsec's allocator has no precondition but a size that fits the address space,
        // and it answers None to one that does not.
        let allocated = unsafe { memsec::malloc_sized(N) };
        let slice = allocated.ok_or_else(|| LockError::new(N))?;
        let fresh = Idle {
            size: N,
            bytes: slice.cast(),
        };
        // SAFETY: the range was just allocated and belongs to `fresh`.
        let is_locked = unsafe { memsec::mlock(slice.as_ptr().cast(), N) };
        if !is_locked {
            // Not kept for the next secret: it would not be locked then either.
            fresh.free();
            return Err(LockError::new(N));
        }
        let mut locked = Self {
            bytes: fresh.bytes.cast(),
        };
        locked.wipe();
        Ok(locked)
    }

    /// Allocates and locks `N` bytes of the system's randomness.
    ///
    /// # Errors
    /// [`LockError`] where the memory cannot be had or cannot be locked.
    pub fn random() -> Result<Self, LockError> {
        let mut locked = Self::zeroed()?;
        sodium::fill_random(locked.expose_mut());
        Ok(locked)
    }

    /// The secret, for reading. What is read must not be copied into ordinary memory.
    pub fn expose(&self) -> &[u8; N] {
        // SAFETY: the pointer is to N initialised bytes (memsec fills them) that live as long as
        // `self`; arrays of bytes have no alignment to respect.
        unsafe { self.bytes.as_ref() }
    }

    /// The secret, for writing in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference.
        unsafe { self.bytes.as_mut() }
    }

    /// Where the bytes are, for a type that lends parts of them itself ([`super::cells`]).
    pub(super) fn as_ptr(&self) -> NonNull<[u8; N]> {
        self.bytes
    }

    /// Overwrites all of it with zeros, in a way the compiler does not leave out.
    pub fn wipe(&mut self) {
        sodium::wipe(self.expose_mut());
    }
}

impl<const N: usize> Drop for LockedBytes<N> {
    fn drop(&mut self) {
        self.wipe();
        Idle {
            size: N,
            bytes: self.bytes.cast(),
        }
        .keep();
    }
}

/// A wiped allocation that nobody uses. Small ones are kept, locked, for the next secret of their
/// size: guarding and locking a page takes ten system calls.
struct Idle {
    size: usize,
    bytes: NonNull<u8>,
}

// SAFETY: an idle allocation is owned by this value alone and is not tied to a thread.
unsafe impl Send for Idle {}

/// Sizes up to this, which take one locked page, are kept.
const MOST_KEPT_BYTES: usize = 1024;
/// How many allocations are kept at the most.
const MOST_KEPT: usize = 8;

static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

impl Idle {
    /// An idle allocation of `size`, all zero.
    fn take(size: usize) -> Option<NonNull<u8>> {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|kept| kept.size == size)?;
        Some(idle.swap_remove(at).bytes)
    }

    /// Keeps this wiped allocation, or frees it.
    fn keep(self) {
        if self.size <= MOST_KEPT_BYTES {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MOST_KEPT {
                idle.push(self);
                return;
            }
        }
        self.free();
    }

    /// Frees all that is kept; whether there was anything.
    fn free_all() -> bool {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let any = !idle.is_empty();
        idle.drain(..).for_each(Self::free);
        any
    }

    /// Gives it back to the allocator. memsec would do so also where the system does not lift the
    /// guards (it is out of memory for mappings), and the allocator would run into them later: such
    /// an allocation stays where it is, wiped, and is never used again.
    fn free(self) {
        if !self.lift_guards() {
            return;
        }
        // SAFETY: the pointer came from memsec's allocator and is freed once: this value, its only
        // owner, ends here. memsec wipes the whole region, and aborts where the canary was
        // overwritten.
        unsafe { memsec::free(self.bytes) }
    }
}

/// Bytes of memsec's canary, just before the secret.
const CANARY_BYTES: usize = 16;

impl Idle {
    /// Makes all pages of the allocation writable, as they were before memsec guarded them: two
    /// before those with canary and secret, and one after them, where the secret ends. Whether it
    /// is so.
    fn lift_guards(&self) -> bool {
        let page = rustix::param::page_size();
        let (secret, after) = (self.bytes.addr().get(), self.bytes.addr().get() + self.size);
        if !after.is_multiple_of(page) {
            // Laid out by another memsec than the one that is known here.
            return false;
        }
        let begin = (secret - CANARY_BYTES) / page * page - 2 * page;
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        let pages = self.bytes.as_ptr().wrapping_sub(secret - begin).cast();
        // SAFETY: the range is this allocation, which nobody but this value has, and it becomes
        // what the allocator gave it as.
        unsafe { mprotect(pages, after + page - begin, writable) }.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_can_be_used_by_anybody() {
        for size in [1, 15, 16, 600] {
            // SAFETY: no precondition but a size that fits the address space.
            let slice = unsafe { memsec::malloc_sized(size) }.unwrap();
            let idle = Idle {
                size,
                bytes: slice.cast(),
            };
            let page = rustix::param::page_size();
            let secret = idle.bytes.as_ptr().addr();
            let (begin, end) = (
                (secret - CANARY_BYTES) / page * page - 2 * page,
                secret + size + page,
            );
            assert_eq!(end - begin, 4 * page, "two guards before and one after");
            assert!(!is_writable(begin) && !is_writable(end - 1), "guarded");
            assert!(idle.lift_guards());
            for at in (begin..end).step_by(page) {
                assert!(is_writable(at), "page {at:x} of {begin:x} to {end:x}");
            }
            idle.free();
        }
    }

    /// Whether the system lists the page at this address as writable.
    fn is_writable(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(from)..number(to)).contains(&address)
        });
        line.is_some_and(|line| line.split_whitespace().nth(1).unwrap().starts_with("rw"))
    }

    #[test]
    fn starts_zeroed_and_holds_what_is_written() {
        let mut bytes = LockedBytes::<608>::zeroed().unwrap();
        assert!(bytes.expose().iter().all(|&b| b == 0));
        bytes.expose_mut().fill(7);
        assert!(bytes.expose().iter().all(|&b| b == 7));
        bytes.wipe();
        assert!(bytes.expose().iter().all(|&b| b == 0));
    }

    #[test]
    fn what_is_reused_is_wiped() {
        for byte in 1..20 {
            let mut bytes = LockedBytes::<40>::zeroed().unwrap();
            assert!(bytes.expose().iter().all(|&b| b == 0));
            bytes.expose_mut().fill(byte);
        }
    }

    #[test]
    fn random_values_differ() {
        let one = LockedBytes::<32>::random().unwrap();
        let two = LockedBytes::<32>::random().unwrap();
        assert!(one.expose() != two.expose());
    }

    #[test]
    fn pages_are_locked_and_left_out_of_dumps() {
        let bytes = LockedBytes::<608>::zeroed().unwrap();
        let address = bytes.expose().as_ptr() as usize;
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut seen = None;
        for line in smaps.lines() {
            let first = line.split_whitespace().next().unwrap_or("");
            if let Some((from, to)) = first.split_once('-')
                && let (Ok(from), Ok(to)) = (
                    usize::from_str_radix(from, 16),
                    usize::from_str_radix(to, 16),
                )
            {
                inside = (from..to).contains(&address);
            } else if inside && line.starts_with("VmFlags:") {
                seen = Some(line.to_owned());
            }
        }
        let flags = seen.expect("the mapping is listed");
        assert!(flags.contains(" lo"), "locked: {flags}");
        assert!(flags.contains(" dd"), "not dumped: {flags}");
    }
}
