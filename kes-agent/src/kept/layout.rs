//! Where things stand in the region, and the one way to change what it says.
//!
//! The head has two places for a record and one number, the commit word, which says which of the
//! two counts. A change writes the other place, whole, and then the number, in one store: a
//! process that dies at any instruction leaves either the old record in force or the new one.
//! Cells that the record in force does not name hold nothing that counts, and are wiped.
//!
//! ```text
//!    0  "KESAGENT"
//!    8  u32  version of the layout: 1
//!   16  u64  the commit word: number of the record in force; its place is its lowest bit
//!   64  place 0, 896 bytes: u64 number, u32 length, 32 bytes Blake2b-256 of number, length and
//!       body, body
//!  960  place 1, the same
//! 1856  three cells of 608 bytes
//! ```
//! Numbers are big endian. All that is not named is zero.

use kes_wire::sum6kes::SIGN_KEY_BYTES;
use kes_wire::sys::region::{Region, RegionBytes, written};
use kes_wire::sys::sodium;

/// Bytes of the head.
pub const HEAD_BYTES: usize = RECORDS + 2 * RECORD_BYTES;
/// How many cells there are: for the pending and the active key, and for one that comes.
pub const CELLS: usize = 3;

/// The region that holds the slots.
pub type SlotsRegion = Region<HEAD_BYTES, SIGN_KEY_BYTES, CELLS>;

const MAGIC: &[u8; 8] = b"KESAGENT";
const VERSION: u32 = 1;
const VERSION_AT: usize = 8;
const COMMIT_WORD: usize = 16;
const RECORDS: usize = 64;
const RECORD_BYTES: usize = 896;
const BODY: usize = 44;
/// Bytes that a record's body may have.
pub const MOST_BODY_BYTES: usize = RECORD_BYTES - BODY;

/// Why a head cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not one of ours.
    #[error("it does not begin as this agent's memory does")]
    Foreign,
    /// It is of another version.
    #[error("it has version {0} of the layout, and this agent knows version {VERSION}")]
    OtherVersion(u32),
    /// Its record is damaged.
    #[error("its record is damaged")]
    Damaged,
}

/// The head of a region, through which it is changed.
pub struct Head {
    bytes: RegionBytes<HEAD_BYTES>,
    number: u64,
}

impl Head {
    /// Makes the head of a fresh region, with no record in force.
    #[must_use]
    pub fn format(mut bytes: RegionBytes<HEAD_BYTES>) -> Self {
        let head = bytes.expose_mut();
        head.fill(0);
        head[..8].copy_from_slice(MAGIC);
        head[VERSION_AT..][..4].copy_from_slice(&VERSION.to_be_bytes());
        Self { bytes, number: 0 }
    }

    /// Reads the head of a region, and the body of the record in force, if any is.
    ///
    /// # Errors
    /// [`Unreadable`]; nothing is changed then.
    pub fn read(bytes: RegionBytes<HEAD_BYTES>) -> Result<(Self, Option<Vec<u8>>), Unreadable> {
        let in_force = in_force(bytes.expose())?;
        let number = in_force.map_or(0, |(number, _)| number);
        let body = in_force.map(|(_, body)| body.to_vec());
        Ok((Self { bytes, number }, body))
    }

    /// Puts a record into force. From the moment it is done it alone counts.
    ///
    /// # Panics
    /// Where the body is longer than any record is.
    pub fn commit(&mut self, body: &[u8]) {
        assert!(body.len() <= MOST_BODY_BYTES, "a record fits its place");
        let number = self.number + 1;
        let head = self.bytes.expose_mut();
        let place = &mut head[place_of(number)..][..RECORD_BYTES];
        place.fill(0);
        crash_point!();
        place[..8].copy_from_slice(&number.to_be_bytes());
        let length = u32::try_from(body.len()).expect("under a place");
        place[8..12].copy_from_slice(&length.to_be_bytes());
        let (first, second) = body.split_at(body.len() / 2);
        place[BODY..][..first.len()].copy_from_slice(first);
        crash_point!();
        place[BODY + first.len()..][..second.len()].copy_from_slice(second);
        let sum = checksum(place, body.len());
        place[12..BODY].copy_from_slice(&sum);
        written();
        crash_point!();
        self.bytes.publish(COMMIT_WORD, number);
        self.number = number;
        crash_point!();
    }
}

fn place_of(number: u64) -> usize {
    if number.is_multiple_of(2) {
        RECORDS
    } else {
        RECORDS + RECORD_BYTES
    }
}

fn checksum(place: &[u8], length: usize) -> [u8; 32] {
    let mut sum = [0; 32];
    let said = [&place[..12], &place[BODY..][..length]].concat();
    sodium::blake2b(&said, &mut sum);
    sum
}

/// The number and the body of the record in force.
fn in_force(head: &[u8; HEAD_BYTES]) -> Result<Option<(u64, &[u8])>, Unreadable> {
    let u32_at = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().expect("in the head"));
    let u64_at = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().expect("in the head"));
    if head[..8] != *MAGIC {
        return Err(Unreadable::Foreign);
    }
    match u32_at(VERSION_AT) {
        VERSION => {}
        other => return Err(Unreadable::OtherVersion(other)),
    }
    let number = u64_at(COMMIT_WORD);
    if number == 0 {
        return Ok(None);
    }
    if number == u64::MAX {
        // No agent lives so long, and there would be no number for the next.
        return Err(Unreadable::Damaged);
    }
    let place = &head[place_of(number)..][..RECORD_BYTES];
    let length = u32_at(place_of(number) + 8) as usize;
    if u64_at(place_of(number)) != number
        || length > MOST_BODY_BYTES
        || place[12..BODY] != checksum(place, length)
    {
        return Err(Unreadable::Damaged);
    }
    Ok(Some((number, &place[BODY..][..length])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> RegionBytes<HEAD_BYTES> {
        SlotsRegion::guarded().unwrap().head
    }

    #[test]
    fn the_last_record_counts() {
        let mut head = Head::format(fresh());
        for number in 0..=5u8 {
            if number > 0 {
                head.commit(&[number; MOST_BODY_BYTES]);
            }
            let (again, body) = Head::read(head.bytes).unwrap();
            let expected = (number > 0).then(|| vec![number; MOST_BODY_BYTES]);
            assert_eq!((again.number, body), (number.into(), expected));
            head = again;
        }
    }

    /// A head with two records, after a change.
    fn with(change: impl FnOnce(&mut [u8; HEAD_BYTES])) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut head = Head::format(fresh());
        head.commit(b"an older one");
        head.commit(b"a record");
        change(head.bytes.expose_mut());
        Head::read(head.bytes).map(|(_, body)| body)
    }

    #[test]
    fn a_change_in_the_record_in_force_is_seen_and_one_elsewhere_does_not_matter() {
        let body = b"a record";
        for at in 0..HEAD_BYTES {
            let place = place_of(2);
            let counts = (0..12).contains(&at)
                || (COMMIT_WORD..COMMIT_WORD + 8).contains(&at)
                || (place..place + BODY + body.len()).contains(&at);
            let read = with(|head| head[at] ^= 1);
            if at == COMMIT_WORD + 7 {
                assert_eq!(read, Err(Unreadable::Damaged), "number 3 was never written");
            } else if counts {
                assert!(read.is_err(), "at {at}");
            } else {
                assert_eq!(read, Ok(Some(body.to_vec())), "at {at}");
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_told_apart() {
        let other = with(|head| head[VERSION_AT + 3] = 2);
        assert_eq!(other, Err(Unreadable::OtherVersion(2)));
        assert_eq!(with(|head| head[0] = b'X'), Err(Unreadable::Foreign));
        assert_eq!(with(|head| head.fill(0)), Err(Unreadable::Foreign));
        assert_eq!(with(|head| head.fill(0xff)), Err(Unreadable::Foreign));
        let huge = with(|head| head[place_of(2) + 8..][..4].fill(0xff));
        assert_eq!(huge, Err(Unreadable::Damaged));
    }
}
