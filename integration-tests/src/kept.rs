//! The memory that outlives the agent, seen by whoever holds its descriptor, as
//! `spec/kept-memory.md` lays it out.

use std::os::fd::OwnedFd;

use kes_wire::sys::region::{NotARegion, Region};

/// The name under which the service manager keeps it.
pub const NAME: &str = "kes-agent-slots";
/// Where the version of the layout stands, a big endian u32.
pub const VERSION_AT: usize = 8;
/// Where the number of the record in force stands, a big endian u64.
pub const COMMIT_WORD_AT: usize = 16;
/// Where the two records begin.
pub const RECORDS_AT: usize = 64;

const HEAD_BYTES: usize = 1856;
const CELL_BYTES: usize = 608;
const CELLS: usize = 3;

/// The whole of it.
pub type KeptMemory = Region<HEAD_BYTES, CELL_BYTES, CELLS>;

/// Maps it.
///
/// # Errors
/// Where the descriptor is of something else.
pub fn map(descriptor: &OwnedFd) -> Result<KeptMemory, NotARegion> {
    KeptMemory::adopt(descriptor)
}

/// How many of its cells hold anything but zeros.
#[must_use]
pub fn cells_in_use(memory: &KeptMemory) -> usize {
    let in_use = |cell: &&_| {
        let cell: &kes_wire::sys::region::RegionBytes<CELL_BYTES> = cell;
        cell.expose().iter().any(|&byte| byte != 0)
    };
    memory.cells.iter().filter(in_use).count()
}
