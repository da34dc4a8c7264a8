//! The fields that deployed messages are made of.

use super::{DeployedError, ReadError};

/// Bytes that a text may have.
pub const MOST_TEXT_BYTES: u32 = 4096;

/// So many bytes are missing for the next field.
pub(super) struct Short {
    pub(super) missing: usize,
}

/// Reads fields from what has arrived.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let missing = count.saturating_sub(self.rest.len());
        let (field, rest) = self.rest.split_at_checked(count).ok_or(Short { missing })?;
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Short> {
        Ok(self.bytes(N)?.first_chunk().expect("N bytes"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|&[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Short> {
        self.array().map(|bytes| i64::from_be_bytes(*bytes))
    }

    pub(super) fn bool(&mut self) -> Result<bool, ReadError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DeployedError::NotABool(other).into()),
        }
    }

    pub(super) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn text(&mut self) -> Result<String, ReadError> {
        let length = self.u32()?;
        if length > MOST_TEXT_BYTES {
            return Err(DeployedError::Text.into());
        }
        let bytes = self.bytes(usize::try_from(length).expect("bounded"))?;
        Ok(str::from_utf8(bytes)
            .map_err(|_| DeployedError::Text)?
            .to_owned())
    }
}

pub(super) fn put_maybe<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put(out, value);
        }
    }
}

/// A text; what is longer than a reader takes is cut at a character.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let most = usize::try_from(MOST_TEXT_BYTES).expect("small");
    let text = &text[..text.floor_char_boundary(most)];
    out.extend(u32::try_from(text.len()).expect("bounded").to_be_bytes());
    out.extend(text.as_bytes());
}
