//! Regions: locked memory that holds several secrets at fixed places and, where the kernel offers
//! it, outlives the process.
//!
//! A region of the strong kind is a mapping of `memfd_secret(2)`: it is not in the kernel's direct
//! map, so neither `ptrace` nor `/proc/PID/mem` reads it; it is never swapped, and while any exists
//! the kernel refuses to hibernate. It is not protected from root, and whoever holds its
//! descriptor can map it. Where there is none of that, a region is guarded memory of memsec with a
//! checked lock, which ends with the process.
//!
//! A region is taken apart once, when it is made, into a head and cells, each owned by one handle.
//! **A cell is not wiped when its handle is dropped**: what a region holds is to outlive the
//! process. Its owner wipes it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{fstat, fstatfs, ftruncate};
use rustix::mm::{MapFlags, ProtFlags};

use super::memory::{LockError, SecretBytes};
use super::sodium;

/// `SECRETMEM_MAGIC` of `linux/magic.h`: the file system of memfd_secret's descriptors.
const SECRETMEM_MAGIC: u64 = 0x5345_434d;

/// Which kind of memory a region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionKind {
    /// `memfd_secret(2)`.
    Secret,
    /// Guarded pages of this process, locked.
    Guarded,
}

/// Why a descriptor is not a region of the wanted size.
#[derive(Debug, thiserror::Error)]
pub enum NotARegion {
    /// It is not one of memfd_secret's.
    #[error("the descriptor is not memory of memfd_secret")]
    OtherKind,
    /// It has another size.
    #[error("the memory has {found} bytes instead of {wanted}")]
    OtherSize {
        /// Its size.
        found: u64,
        /// The size that was wanted.
        wanted: usize,
    },
    /// The system refuses to look at it or to map it.
    #[error("the memory cannot be mapped: {0}")]
    System(#[from] io::Error),
}

/// A region whole, before it is taken apart: a head of `HEAD` bytes at its start, then `CELLS`
/// cells of `CELL` bytes.
pub struct Region<const HEAD: usize, const CELL: usize, const CELLS: usize> {
    /// The bytes before the cells. Nothing in them is secret.
    pub head: RegionBytes<HEAD>,
    /// The cells.
    pub cells: [RegionBytes<CELL>; CELLS],
    /// Which kind of memory it is.
    pub kind: RegionKind,
}

impl<const HEAD: usize, const CELL: usize, const CELLS: usize> Region<HEAD, CELL, CELLS> {
    /// Bytes that all of it takes, before it is rounded up to pages.
    pub const BYTES: usize = HEAD + CELL * CELLS;

    /// Makes a region of memfd_secret, all zero, and its descriptor, which is to be handed to whom
    /// shall keep it and then closed.
    ///
    /// # Errors
    /// What the system says: `ENOSYS` where the kernel has it not or was told not to
    /// (`secretmem.enable`), `EPERM` where a filter forbids it, `EAGAIN` where the limit for locked
    /// memory is too small.
    pub fn secret() -> io::Result<(Self, OwnedFd)> {
        let fd = memfd_secret()?;
        ftruncate(&fd, Self::BYTES as u64)?;
        let mut region = Self::map(&fd)?;
        // Every page is touched, so that what is missing is missing now.
        region.head.wipe();
        region.cells.iter_mut().for_each(RegionBytes::wipe);
        Ok((region, fd))
    }

    /// Maps a region that was kept by somebody else.
    ///
    /// # Errors
    /// [`NotARegion`]; what it is said to hold has not been looked at.
    pub fn adopt(fd: &OwnedFd) -> Result<Self, NotARegion> {
        #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)] // its type differs by platform
        let kind = fstatfs(fd).map_err(io::Error::from)?.f_type as u64;
        if kind != SECRETMEM_MAGIC {
            return Err(NotARegion::OtherKind);
        }
        let found = fstat(fd).map_err(io::Error::from)?.st_size;
        let found = u64::try_from(found).unwrap_or(0);
        if found != Self::BYTES as u64 {
            let wanted = Self::BYTES;
            return Err(NotARegion::OtherSize { found, wanted });
        }
        Ok(Self::map(fd)?)
    }

    /// Makes a region of guarded memory, all zero, that ends with this process.
    ///
    /// # Errors
    /// [`LockError`] where it cannot be had or cannot be locked.
    pub fn guarded() -> Result<Self, LockError> {
        // SAFETY: memsec's allocator has no precondition but a size that fits the address space.
        let allocated = unsafe { memsec::malloc_sized(Self::BYTES) };
        let slice = allocated.ok_or_else(|| LockError::new(Self::BYTES))?;
        let memory = Arc::new(Memory {
            start: slice.cast(),
            bytes: Self::BYTES,
            kind: RegionKind::Guarded,
        });
        // SAFETY: the range was just allocated and belongs to `memory`.
        let is_locked = unsafe { memsec::mlock(slice.as_ptr().cast(), Self::BYTES) };
        if !is_locked {
            return Err(LockError::new(Self::BYTES));
        }
        let mut region = Self::take_apart(&memory);
        sodium::wipe(region.head.expose_mut());
        region.cells.iter_mut().for_each(RegionBytes::wipe);
        Ok(region)
    }

    fn map(fd: impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at a place that the kernel chooses replaces no other.
        let start = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                Self::BYTES,
                protection,
                MapFlags::SHARED,
                fd.as_fd(),
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Arc::new(Memory {
            start,
            bytes: Self::BYTES,
            kind: RegionKind::Secret,
        });
        // SAFETY: the range was just mapped and belongs to `memory`.
        unsafe {
            rustix::mm::madvise(
                start.as_ptr().cast(),
                Self::BYTES,
                rustix::mm::Advice::LinuxDontDump,
            )
        }?;
        Ok(Self::take_apart(&memory))
    }

    /// Hands each part of fresh memory to one owner.
    fn take_apart(memory: &Arc<Memory>) -> Self {
        debug_assert_eq!(memory.bytes, Self::BYTES);
        Self {
            head: RegionBytes::at(memory, 0),
            cells: core::array::from_fn(|n| RegionBytes::at(memory, HEAD + n * CELL)),
            kind: memory.kind,
        }
    }
}

/// The memory of a region. It is given back when the last part of it is dropped.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    kind: RegionKind,
}

// SAFETY: the memory is owned by this value and is not tied to a thread.
unsafe impl Send for Memory {}
// SAFETY: a shared reference gives no access to the bytes.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.kind {
            // SAFETY: the range was mapped by `map`, and no part of it is left that could be used.
            // It cannot fail for a range that is mapped; were it to, the memory stays, locked.
            RegionKind::Secret => unsafe {
                let _ = rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes);
            },
            // SAFETY: the pointer came from memsec's allocator and is freed once. memsec wipes it.
            RegionKind::Guarded => unsafe { memsec::free(self.start) },
        }
    }
}

/// `N` bytes of a region, owned by this handle alone. Not wiped when dropped.
///
/// Secrets have no `Clone`, `Debug`, `PartialEq` or serde:
///
/// ```compile_fail
/// fn copy(cell: &kes_wire::sys::region::RegionBytes<8>) -> kes_wire::sys::region::RegionBytes<8> {
///     cell.clone()
/// }
/// ```
pub struct RegionBytes<const N: usize> {
    bytes: NonNull<[u8; N]>,
    /// Keeps the memory.
    _memory: Arc<Memory>,
}

// SAFETY: the bytes are owned by this handle alone and are not tied to a thread.
unsafe impl<const N: usize> Send for RegionBytes<N> {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl<const N: usize> Sync for RegionBytes<N> {}

impl<const N: usize> RegionBytes<N> {
    /// The part of fresh memory from `offset` on. Called by `take_apart` alone, which gives no two
    /// parts a byte in common.
    fn at(memory: &Arc<Memory>, offset: usize) -> Self {
        assert!(offset + N <= memory.bytes, "a part lies inside its region");
        // SAFETY: the offset lies within the memory, as just checked.
        let bytes = unsafe { memory.start.add(offset) };
        Self {
            bytes: bytes.cast(),
            _memory: Arc::clone(memory),
        }
    }

    /// The bytes, for reading. What is read must not be copied into ordinary memory.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        // SAFETY: the pointer is to N bytes of mapped memory, always initialised, that live as
        // long as `self` and overlap no other handle's; arrays of bytes need no alignment. Nobody
        // else writes there: the descriptor's other holder, the service manager, only keeps it.
        unsafe { self.bytes.as_ref() }
    }

    /// The bytes, for writing in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference.
        unsafe { self.bytes.as_mut() }
    }

    /// Writes a big endian number at `offset` in one store, after all that was written before: what
    /// dies at any instruction has written all of it or nothing.
    ///
    /// # Panics
    /// Where the offset is not one of a whole, aligned number.
    pub fn publish(&mut self, offset: usize, number: u64) {
        assert!(offset + 8 <= N, "the number lies inside");
        let at = self.expose_mut()[offset..].as_mut_ptr().cast::<u64>();
        assert!(at.is_aligned(), "one store needs an aligned place");
        // SAFETY: the eight bytes lie inside, are aligned, live as long as `self`, and `&mut self`
        // keeps every other access away.
        let place = unsafe { AtomicU64::from_ptr(at) };
        place.store(number.to_be(), Ordering::Release);
    }

    /// Overwrites all of it with zeros, in a way the compiler does not leave out.
    pub fn wipe(&mut self) {
        sodium::wipe(self.expose_mut());
    }
}

impl<const N: usize> SecretBytes<N> for RegionBytes<N> {
    fn expose(&self) -> &[u8; N] {
        self.expose()
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        self.expose_mut()
    }
}

/// Everything that was written to memory before is written, in the order of the program, before
/// anything that is written after: what a process leaves behind that dies at any instruction is
/// then a beginning of that order.
pub fn written() {
    fence(Ordering::SeqCst);
}

/// Whether the kernel gives out memory of memfd_secret now.
///
/// # Errors
/// What it says where it does not.
pub fn probe() -> io::Result<()> {
    memfd_secret().map(drop)
}

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: the call takes one number, and makes a new descriptor or fails.
    let answer = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(answer).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Small = Region<64, 32, 4>;

    fn fill(region: &mut Small) {
        region.head.expose_mut().fill(9);
        for (n, cell) in (1..).zip(&mut region.cells) {
            cell.expose_mut().fill(n);
        }
    }

    fn is_filled(region: &Small) {
        assert!(region.head.expose().iter().all(|&b| b == 9));
        for (n, cell) in (1..).zip(&region.cells) {
            assert!(cell.expose().iter().all(|&b| b == n));
        }
    }

    #[test]
    fn parts_do_not_overlap_and_start_zeroed() {
        let mut region = Small::guarded().unwrap();
        assert_eq!(region.kind, RegionKind::Guarded);
        assert!(region.cells.iter().all(|c| c.expose() == &[0; 32]));
        fill(&mut region);
        is_filled(&region);
        region.cells[1].wipe();
        assert_eq!(region.cells[1].expose(), &[0; 32]);
        assert_eq!(region.cells[2].expose(), &[3; 32]);
    }

    #[test]
    fn what_is_kept_is_found_again_by_its_descriptor() {
        let Ok((mut region, fd)) = Small::secret() else {
            eprintln!("SKIPPED: this kernel gives out no memory of memfd_secret");
            return;
        };
        assert_eq!(region.head.expose(), &[0; 64]);
        fill(&mut region);
        drop(region);
        is_filled(&Small::adopt(&fd).unwrap());
        let other = Region::<64, 32, 5>::adopt(&fd).err().unwrap();
        assert!(matches!(other, NotARegion::OtherSize { found: 192, .. }));
        assert!(
            rustix::io::fcntl_getfd(&fd)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
    }

    #[test]
    fn a_foreign_descriptor_is_not_a_region() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(Small::BYTES as u64).unwrap();
        let foreign = Small::adopt(&file.into()).err().unwrap();
        assert!(matches!(foreign, NotARegion::OtherKind));
    }
}
