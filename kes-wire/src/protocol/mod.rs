//! The protocols of the agent's sockets, without I/O.
//!
//! Readers here are machines that lend the next slice to fill ([`Reader::wants`]) and are told how
//! much arrived ([`Reader::advance`]): bytes land where they belong, in locked memory where they
//! are secret, whatever pieces they come in. A machine never asks for more than the field it is
//! reading needs.

pub mod control;
pub mod handshake;
pub mod result;
pub mod service;
pub mod stamp;
pub mod version;

/// A machine that reads from a connection.
pub trait Reader {
    /// What it has read once it is complete.
    type Item;
    /// Why what it reads cannot be.
    type Error;

    /// The next slice to fill, never empty. Filling less than all of it is fine.
    fn wants(&mut self) -> &mut [u8];

    /// Takes note that the first `count` bytes of that slice were filled.
    ///
    /// # Errors
    /// Where the bytes are not what they must be; the connection is of no use then.
    fn advance(&mut self, count: usize) -> Result<Option<Self::Item>, Self::Error>;

    /// Whether it stands between two items: a connection that ends here ends cleanly.
    fn is_between_items(&self) -> bool;
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Reader;

    /// Feeds `bytes` to a reader in pieces of at most `piece` bytes and collects what it gives.
    pub(crate) fn feed<R: Reader>(
        reader: &mut R,
        mut bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<R::Item>, R::Error> {
        let mut items = Vec::new();
        while !bytes.is_empty() {
            let slice = reader.wants();
            assert!(!slice.is_empty(), "a reader always wants something");
            let count = slice.len().min(piece).min(bytes.len());
            slice[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            items.extend(reader.advance(count)?);
        }
        Ok(items)
    }
}
