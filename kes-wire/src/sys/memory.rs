//! Locked memory: guarded, never swapped, left out of dumps, wiped when dropped.
//!
//! A [`LockedBytes`] is allocated by memsec between two inaccessible pages and behind a canary.
//! memsec ignores the result of `mlock`, so it is asked for once more here and a failure is an
//! error: there is no `LockedBytes` whose pages can be swapped.

use core::ptr::NonNull;

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
    fn new(wanted: usize) -> Self {
        let limit = match super::os::locked_memory_limit() {
            Some(bytes) => format!("{bytes} bytes"),
            None => "unlimited, so the machine itself is out of memory".to_owned(),
        };
        Self { wanted, limit }
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
        // SAFETY: memsec's allocator has no precondition but a size that fits the address space,
        // and it answers None to one that does not.
        let allocated = unsafe { memsec::malloc_sized(N) };
        let slice = allocated.ok_or_else(|| LockError::new(N))?;
        let mut locked = Self {
            bytes: slice.cast(),
        };
        // SAFETY: the range was just allocated and belongs to `locked`.
        let is_locked = unsafe { memsec::mlock(slice.as_ptr().cast(), N) };
        if !is_locked {
            return Err(LockError::new(N));
        }
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

    /// Overwrites all of it with zeros, in a way the compiler does not leave out.
    pub fn wipe(&mut self) {
        sodium::wipe(self.expose_mut());
    }
}

impl<const N: usize> Drop for LockedBytes<N> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from memsec's allocator, is freed once, and memsec wipes the
        // whole region before it is returned. It aborts where the canary was overwritten.
        unsafe { memsec::free(self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
