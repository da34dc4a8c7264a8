//! Secrets of 64 bytes, many to a locked page.
//!
//! [`LockedBytes`] gives every secret pages of its own, and giving one back may take system calls
//! or a lock. A cell is for a secret that is let go on a path that must not wait: dropping it
//! wipes 64 bytes and sets one flag, on whatever thread the last user happens to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::memory::{LockError, LockedBytes};
use super::sodium;

/// Bytes of a cell.
pub const CELL_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const CELLS: usize = PAGE_BYTES / CELL_BYTES;

/// Gives out cells. It has one owner; the cells may go to any thread.
pub struct CellPool {
    /// The first stays as long as the pool; further ones come and go with need.
    pages: Vec<Arc<Page>>,
}

/// A locked page and which of its cells are in use.
struct Page {
    bytes: LockedBytes<PAGE_BYTES>,
    in_use: [AtomicBool; CELLS],
}

/// 64 secret bytes in locked memory. Wiped when dropped.
///
/// ```compile_fail
/// fn copy(cell: &kes_wire::sys::cells::SecretCell) -> kes_wire::sys::cells::SecretCell {
///     cell.clone()
/// }
/// ```
/// ```compile_fail
/// fn show(cell: &kes_wire::sys::cells::SecretCell) -> String { format!("{cell:?}") }
/// ```
pub struct SecretCell {
    page: Arc<Page>,
    index: usize,
}

impl CellPool {
    /// A pool with one locked page: 64 cells.
    ///
    /// # Errors
    /// [`LockError`] where the page cannot be locked.
    pub fn new() -> Result<Self, LockError> {
        Ok(Self {
            pages: vec![Page::new()?],
        })
    }

    /// A cell, all zero. Where every cell is in use a further page is locked; one that has become
    /// idle is given back.
    ///
    /// # Errors
    /// [`LockError`] where a further page is needed and cannot be locked.
    pub fn take(&mut self) -> Result<SecretCell, LockError> {
        if let Some(cell) = self.pages.iter().find_map(Page::take) {
            let mut at = 0;
            self.pages.retain(|page| {
                at += 1;
                // Only this pool and the page's cells count references to it.
                at == 1 || Arc::strong_count(page) > 1
            });
            return Ok(cell);
        }
        let page = Page::new()?;
        let cell = Page::take(&page).expect("all cells of a new page are free");
        self.pages.push(page);
        Ok(cell)
    }
}

impl Page {
    fn new() -> Result<Arc<Self>, LockError> {
        Ok(Arc::new(Self {
            bytes: LockedBytes::zeroed()?,
            in_use: [const { AtomicBool::new(false) }; CELLS],
        }))
    }

    /// A free cell. Only the pool takes cells, and it is borrowed exclusively then.
    fn take(self: &Arc<Self>) -> Option<SecretCell> {
        // Acquire: the wipe by whoever had the cell before is done (Release in its drop).
        let index = self
            .in_use
            .iter()
            .position(|in_use| !in_use.load(Ordering::Acquire))?;
        self.in_use[index].store(true, Ordering::Relaxed);
        Some(SecretCell {
            page: Arc::clone(self),
            index,
        })
    }
}

impl SecretCell {
    fn as_ptr(&self) -> *mut [u8; CELL_BYTES] {
        let page = self.page.bytes.as_ptr().as_ptr().cast::<[u8; CELL_BYTES]>();
        page.wrapping_add(self.index)
    }

    /// The secret, for reading. What is read must not be copied into ordinary memory.
    #[must_use]
    pub fn expose(&self) -> &[u8; CELL_BYTES] {
        // SAFETY: the index is below CELLS, so the pointer is to 64 initialised bytes inside the
        // page, which lives as long as `self`. A cell's bytes are reached through the one
        // SecretCell that has its index (`in_use`), and the page lends no reference of its own.
        unsafe { &*self.as_ptr() }
    }

    /// The secret, for writing in place.
    pub fn expose_mut(&mut self) -> &mut [u8; CELL_BYTES] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference.
        unsafe { &mut *self.as_ptr() }
    }
}

impl Drop for SecretCell {
    fn drop(&mut self) {
        sodium::wipe(self.expose_mut());
        self.page.in_use[self.index].store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_do_not_overlap_and_come_back_wiped() {
        let mut pool = CellPool::new().unwrap();
        let mut cells: Vec<_> = (0..3 * CELLS).map(|_| pool.take().unwrap()).collect();
        for (number, cell) in cells.iter_mut().enumerate() {
            assert!(cell.expose().iter().all(|&b| b == 0));
            cell.expose_mut().fill(u8::try_from(number).unwrap() | 1);
        }
        for (number, cell) in cells.iter().enumerate() {
            let byte = u8::try_from(number).unwrap() | 1;
            assert!(cell.expose().iter().all(|&b| b == byte));
        }
        assert_eq!(pool.pages.len(), 3);
        cells.truncate(1);
        let again: Vec<_> = (0..CELLS - 1).map(|_| pool.take().unwrap()).collect();
        for cell in &again {
            assert!(cell.expose().iter().all(|&b| b == 0), "wiped");
        }
        assert_eq!(pool.pages.len(), 1, "idle pages are given back");
    }

    #[test]
    fn a_cell_outlives_its_pool_and_may_be_dropped_by_another_thread() {
        let mut pool = CellPool::new().unwrap();
        let mut cell = pool.take().unwrap();
        cell.expose_mut().fill(9);
        drop(pool);
        std::thread::spawn(move || assert!(cell.expose().iter().all(|&b| b == 9)))
            .join()
            .unwrap();
    }
}
