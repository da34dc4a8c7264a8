//! Frames of our own control versions: u32 length, then so many bytes of CBOR.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;

use super::super::Reader;

/// Bytes that a frame's content may have.
pub const MOST_BYTES: usize = 64 * 1024;

/// Why a frame cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length of nothing, or of too much.
    #[error("a message of {0} bytes: it must have 1 to {MOST_BYTES}")]
    Length(u32),
}

/// A message too large for a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes does not fit a frame")]
pub struct TooLarge(pub usize);

/// Reads frames one after the other. What they carry is not secret.
#[derive(Default)]
pub struct FrameReader {
    length: [u8; 4],
    content: BytesMut,
    /// How much of the length and the content has arrived.
    filled: usize,
}

impl Reader for FrameReader {
    type Item = Bytes;
    type Error = FrameError;

    fn wants(&mut self) -> &mut [u8] {
        match self.filled {
            at @ 0..4 => &mut self.length[at..],
            at => &mut self.content[at - 4..],
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<Bytes>, FrameError> {
        self.filled += count;
        if self.filled < 4 {
            return Ok(None);
        }
        if self.filled == 4 && self.content.is_empty() {
            let length = u32::from_be_bytes(self.length);
            match usize::try_from(length) {
                Ok(bytes @ 1..=MOST_BYTES) => self.content = BytesMut::zeroed(bytes),
                Ok(_) | Err(_) => return Err(FrameError::Length(length)),
            }
        }
        if self.filled < 4 + self.content.len() {
            return Ok(None);
        }
        self.filled = 0;
        Ok(Some(core::mem::take(&mut self.content).freeze()))
    }

    fn is_between_items(&self) -> bool {
        self.filled == 0
    }
}

/// A frame around an encoded message.
///
/// # Errors
/// [`TooLarge`]
pub fn frame<T: minicbor::Encode<()>>(message: &T) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).expect("writing to memory does not fail");
    let length = bytes.len() - 4;
    if length > MOST_BYTES {
        return Err(TooLarge(length));
    }
    let prefix = u32::try_from(length).expect("checked above").to_be_bytes();
    bytes[..4].copy_from_slice(&prefix);
    Ok(bytes)
}

/// Reads a message from a frame's content, to its end.
///
/// # Errors
/// Where it is not one.
pub fn parse<T: for<'b> minicbor::Decode<'b, ()>>(content: &[u8]) -> Result<T, Error> {
    check_keys(content, &mut Decoder::new(content), DEPTH)?;
    let mut decoder = Decoder::new(content);
    let message = decoder.decode()?;
    if decoder.position() < content.len() {
        return Err(Error::message("there is more after the message"));
    }
    Ok(message)
}

/// How deep the messages of this version are nested at the most.
const DEPTH: u32 = 8;

/// Checks that no map has a key twice: two readers might take different ones for the right one.
/// What is nested deeper than this version's messages is skipped, as all that is not known.
fn check_keys(content: &[u8], decoder: &mut Decoder<'_>, depth: u32) -> Result<(), Error> {
    let is_map = match decoder.datatype()? {
        Type::Map | Type::MapIndef if depth > 0 => true,
        Type::Array | Type::ArrayIndef if depth > 0 => false,
        _ => return decoder.skip(),
    };
    let mut left = if is_map {
        decoder.map()?
    } else {
        decoder.array()?
    };
    // A number may be written in several ways, and is the same key.
    let (mut numbers, mut others) = (BTreeSet::new(), BTreeSet::new());
    loop {
        match &mut left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None if decoder.datatype()? == Type::Break => return decoder.skip(),
            None => {}
        }
        if is_map {
            let begin = decoder.position();
            let is_new = match decoder.probe().int() {
                Ok(number) => {
                    decoder.skip()?;
                    numbers.insert(i128::from(number))
                }
                Err(_) => {
                    decoder.skip()?;
                    others.insert(&content[begin..decoder.position()])
                }
            };
            if !is_new {
                return Err(Error::message("a key comes twice").at(begin));
            }
        }
        check_keys(content, decoder, depth - 1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::feed;
    use super::super::rotation::{IfPending, ImportedOpCert, Request};
    use super::*;
    use crate::cold::ColdVerificationKey;
    use crate::opcert::{ColdSignature, OpCert};
    use crate::period::KesPeriod;
    use crate::sum6kes::VerificationKey;
    use proptest::prelude::*;

    fn requests() -> Vec<Request> {
        let opcert = OpCert {
            kes_vkey: VerificationKey([1; 32]),
            counter: u64::MAX,
            start_period: KesPeriod(3),
            cold_signature: ColdSignature([4; 64]),
        };
        let cold_vkey = Some(ColdVerificationKey([5; 32]));
        let import = ImportedOpCert {
            opcert,
            cold_vkey,
            replace: true,
        };
        vec![
            Request::Keygen {
                if_pending: IfPending::Replace,
            },
            Request::ExportVkey {},
            Request::ImportOpcert {
                import,
                allow_lower_counter: true,
            },
            Request::Activate {
                import: Some(import),
                allow_lower_counter: false,
            },
            Request::Activate {
                import: None,
                allow_lower_counter: false,
            },
            Request::Status {},
            Request::DropPending {},
            Request::DropActive {},
        ]
    }

    #[test]
    fn requests_survive_frames_of_every_chunking() {
        let all: Vec<u8> = requests().iter().flat_map(|r| frame(r).unwrap()).collect();
        for piece in 1..=300 {
            let frames = feed(&mut FrameReader::default(), &all, piece).unwrap();
            let read: Vec<Request> = frames.iter().map(|f| parse(f).unwrap()).collect();
            assert_eq!(read, requests());
        }
    }

    #[test]
    fn a_cut_or_lengthened_request_is_refused() {
        for request in requests() {
            let whole = frame(&request).unwrap().split_off(4);
            for cut in 0..whole.len() {
                assert!(parse::<Request>(&whole[..cut]).is_err());
            }
            let longer = [&whole[..], &[0]].concat();
            assert!(parse::<Request>(&longer).is_err());
        }
    }

    #[test]
    fn fields_of_a_later_version_are_skipped_and_missing_ones_have_defaults() {
        // [0, {0: 1, 9: [1, "x"]}] and [0, {}], by hand from RFC 8949.
        let later = [0x82, 0x00, 0xa2, 0x00, 0x01, 0x09, 0x82, 0x01, 0x61, b'x'];
        let replace = Request::Keygen {
            if_pending: IfPending::Replace,
        };
        assert_eq!(parse::<Request>(&later).unwrap(), replace);
        let refuse = Request::Keygen {
            if_pending: IfPending::Refuse,
        };
        assert_eq!(parse::<Request>(&[0x82, 0x00, 0xa0]).unwrap(), refuse);
        assert!(
            parse::<Request>(&[0x82, 0x18, 99, 0xa0]).is_err(),
            "an unknown command"
        );
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_anything_is_allocated() {
        for length in [0, 65_537, u32::MAX] {
            let mut reader = FrameReader::default();
            let refused = feed(&mut reader, &length.to_be_bytes(), 4).unwrap_err();
            assert_eq!(refused, FrameError::Length(length));
            assert!(reader.content.is_empty());
        }
    }

    #[test]
    fn deep_nesting_is_survived() {
        let mut deep = vec![0x82, 0x00, 0xa1, 0x09];
        deep.extend(vec![0x81; 60_000]);
        deep.push(0);
        let _ = parse::<Request>(&deep);
        deep.truncate(30_000);
        assert!(parse::<Request>(&deep).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, piece in 1usize..100) {
            let _ = parse::<Request>(&bytes);
            let _ = parse::<super::super::rotation::Answer>(&bytes);
            for content in feed(&mut FrameReader::default(), &bytes, piece).unwrap_or_default() {
                let _ = parse::<Request>(&content);
            }
        }
    }
}
