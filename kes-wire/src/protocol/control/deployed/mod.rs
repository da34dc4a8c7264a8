//! The deployed control versions: 3.0, 2.0, 1.0 and StandardCrypto:0.5.
//!
//! Fields without frames, big endian. The versions differ in what `info` tells and in whether
//! there is a command to drop the key; each says so in a module of its own, as a [`Layout`].

mod fields;
mod info;
pub mod v1_0;
pub mod v2_0;
pub mod v3_0;

pub use fields::MOST_TEXT_BYTES;
pub use info::{AgentInfo, BundleInfo, InstalledInfo, MOST_PEERS, PeerConnection, PeerInfo};

use super::super::Reader;
use super::super::result::ResultCode;
use super::super::version::{CONTROL_0_5, CONTROL_1_0, CONTROL_2_0, CONTROL_3_0, VersionId};
use crate::opcert::OpCert;
use crate::sum6kes::VerificationKey;
use fields::{Cursor, Short};

/// What a version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// `info` begins with the agent's version, and tells when the period began and ends.
    pub info_has_version_and_period_times: bool,
    /// `info` tells when a key was installed or dropped.
    pub info_has_bundle_time: bool,
    /// There is a command to drop the installed key.
    pub has_drop_key: bool,
}

/// The layout of a version, if it is a deployed one.
#[must_use]
pub fn layout(id: VersionId) -> Option<Layout> {
    match id {
        CONTROL_3_0 => Some(v3_0::LAYOUT),
        CONTROL_2_0 => Some(v2_0::LAYOUT),
        CONTROL_1_0 | CONTROL_0_5 => Some(v1_0::LAYOUT),
        _ => None,
    }
}

/// A command: a u16 number and, for one of them, a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployedRequest {
    /// Generate a staged key.
    GenStagedKey,
    /// Tell the staged key's verification key.
    QueryStagedKey,
    /// Drop the staged key.
    DropStagedKey,
    /// Install the staged key with this certificate.
    InstallKey(OpCert),
    /// Tell the agent's state.
    Info,
    /// Drop the installed key.
    DropKey,
}

impl DeployedRequest {
    /// The command's name, as the reference's control client has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::GenStagedKey => "gen-staged-key",
            Self::QueryStagedKey => "export-staged-vkey",
            Self::DropStagedKey => "drop-staged-key",
            Self::InstallKey(_) => "install-key",
            Self::Info => "info",
            Self::DropKey => "drop-key",
        }
    }

    fn number(&self) -> u16 {
        match self {
            Self::GenStagedKey => 0,
            Self::QueryStagedKey => 1,
            Self::DropStagedKey => 2,
            Self::InstallKey(_) => 3,
            Self::Info => 4,
            Self::DropKey => 5,
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes = self.number().to_be_bytes().to_vec();
        if let Self::InstallKey(opcert) = self {
            bytes.extend(opcert.to_wire());
        }
        bytes
    }

    fn parse(cursor: &mut Cursor<'_>, layout: Layout) -> Result<Self, ReadError> {
        Ok(match cursor.u16()? {
            0 => Self::GenStagedKey,
            1 => Self::QueryStagedKey,
            2 => Self::DropStagedKey,
            3 => Self::InstallKey(OpCert::from_wire(cursor.array()?)),
            4 => Self::Info,
            5 if layout.has_drop_key => Self::DropKey,
            other => return Err(DeployedError::UnknownCommand(other).into()),
        })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeployedAnswer {
    /// To the commands about the staged key: its verification key, if there is one.
    StagedKey(Option<VerificationKey>),
    /// To install and drop.
    Result(ResultCode),
    /// To `info`.
    Info(Box<AgentInfo>),
}

impl DeployedAnswer {
    /// The bytes on the wire.
    #[must_use]
    pub fn to_wire(&self, layout: Layout) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::StagedKey(vkey) => fields::put_maybe(&mut bytes, vkey.as_ref(), |out, vkey| {
                out.extend(vkey.0);
            }),
            Self::Result(code) => bytes.extend(code.to_u16().to_be_bytes()),
            Self::Info(info) => info.put(&mut bytes, layout),
        }
        bytes
    }

    fn parse(
        cursor: &mut Cursor<'_>,
        layout: Layout,
        to: &DeployedRequest,
    ) -> Result<Self, ReadError> {
        Ok(match to {
            DeployedRequest::GenStagedKey
            | DeployedRequest::QueryStagedKey
            | DeployedRequest::DropStagedKey => {
                Self::StagedKey(cursor.maybe(|c| Ok(VerificationKey(*c.array()?)))?)
            }
            DeployedRequest::InstallKey(_) | DeployedRequest::DropKey => {
                Self::Result(ResultCode::from_number(cursor.u16()?.into()))
            }
            DeployedRequest::Info => Self::Info(Box::new(AgentInfo::parse(cursor, layout)?)),
        })
    }
}

/// Why what was said cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployedError {
    /// There is no such command in this version.
    #[error("there is no command {0} in this version")]
    UnknownCommand(u16),
    /// A byte that must be 00 or 01 is not.
    #[error("a yes or no is byte {0}")]
    NotABool(u8),
    /// A text is too long or not UTF-8.
    #[error("a text is too long or not UTF-8")]
    Text,
    /// A list is too long.
    #[error("a list of {0} entries is too long")]
    List(u32),
    /// A peer's connection is in no known state.
    #[error("a peer's connection is in state {0}")]
    PeerConnection(u8),
}

/// Why parsing stopped: bytes are missing, or wrong.
enum ReadError {
    Short(Short),
    Wrong(DeployedError),
}

impl From<Short> for ReadError {
    fn from(short: Short) -> Self {
        Self::Short(short)
    }
}

impl From<DeployedError> for ReadError {
    fn from(error: DeployedError) -> Self {
        Self::Wrong(error)
    }
}

/// Bytes that are parsed from the start whenever a field has arrived. What is read here is small,
/// bounded and not secret.
struct Growing {
    bytes: Vec<u8>,
    filled: usize,
}

impl Growing {
    /// Begins with a first field of this many bytes.
    fn new(first: usize) -> Self {
        Self {
            bytes: vec![0; first],
            filled: 0,
        }
    }

    fn advance<T>(
        &mut self,
        count: usize,
        first: usize,
        parse: impl FnOnce(&mut Cursor<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, DeployedError> {
        self.filled += count;
        if self.filled < self.bytes.len() {
            return Ok(None);
        }
        match parse(&mut Cursor::new(&self.bytes)) {
            Ok(item) => {
                *self = Self::new(first);
                Ok(Some(item))
            }
            Err(ReadError::Short(Short { missing })) => {
                self.bytes.resize(self.filled + missing, 0);
                Ok(None)
            }
            Err(ReadError::Wrong(error)) => Err(error),
        }
    }
}

/// Reads requests, one after the other: the agent's side.
pub struct RequestReader {
    layout: Layout,
    growing: Growing,
}

const COMMAND_BYTES: usize = 2;

impl RequestReader {
    /// A reader for a version.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            growing: Growing::new(COMMAND_BYTES),
        }
    }
}

impl Reader for RequestReader {
    type Item = DeployedRequest;
    type Error = DeployedError;

    fn wants(&mut self) -> &mut [u8] {
        &mut self.growing.bytes[self.growing.filled..]
    }

    fn advance(&mut self, count: usize) -> Result<Option<DeployedRequest>, DeployedError> {
        let layout = self.layout;
        self.growing
            .advance(count, COMMAND_BYTES, |c| DeployedRequest::parse(c, layout))
    }

    fn is_between_items(&self) -> bool {
        self.growing.filled == 0
    }
}

/// Reads the answer to one request: the client's side.
pub struct AnswerReader {
    layout: Layout,
    to: DeployedRequest,
    growing: Growing,
}

impl AnswerReader {
    /// A reader for the answer to `to`.
    #[must_use]
    pub fn new(layout: Layout, to: DeployedRequest) -> Self {
        Self {
            layout,
            to,
            growing: Growing::new(1),
        }
    }
}

impl Reader for AnswerReader {
    type Item = DeployedAnswer;
    type Error = DeployedError;

    fn wants(&mut self) -> &mut [u8] {
        &mut self.growing.bytes[self.growing.filled..]
    }

    fn advance(&mut self, count: usize) -> Result<Option<DeployedAnswer>, DeployedError> {
        let (layout, to) = (self.layout, self.to);
        self.growing
            .advance(count, 1, |c| DeployedAnswer::parse(c, layout, &to))
    }

    fn is_between_items(&self) -> bool {
        self.growing.filled == 0
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::super::super::testing::feed;
    use super::*;
    use crate::opcert::ColdSignature;
    use crate::period::{Evolution, KesPeriod};
    use proptest::prelude::*;

    const LAYOUTS: [Layout; 3] = [v3_0::LAYOUT, v2_0::LAYOUT, v1_0::LAYOUT];

    fn opcert() -> OpCert {
        OpCert {
            kes_vkey: VerificationKey([1; 32]),
            counter: 2,
            start_period: KesPeriod(3),
            cold_signature: ColdSignature([4; 64]),
        }
    }

    fn info(layout: Layout) -> AgentInfo {
        let full = layout.info_has_version_and_period_times;
        AgentInfo {
            version: full.then(|| "1.2.3".to_owned()),
            installed: Some(InstalledInfo {
                bundle: Some(BundleInfo {
                    evolution: Evolution(5),
                    opcert: opcert(),
                }),
                time: layout.info_has_bundle_time.then_some(77),
            }),
            staged: Some(VerificationKey([6; 32])),
            now: 100,
            period: KesPeriod(8),
            period_times: full.then_some((90, 110)),
            peers: vec![
                PeerInfo {
                    address: "/a".to_owned(),
                    connection: PeerConnection::Up,
                },
                PeerInfo {
                    address: "/b".to_owned(),
                    connection: PeerConnection::Down,
                },
            ],
        }
    }

    fn requests(layout: Layout) -> Vec<DeployedRequest> {
        let mut all = vec![
            DeployedRequest::GenStagedKey,
            DeployedRequest::QueryStagedKey,
            DeployedRequest::DropStagedKey,
            DeployedRequest::InstallKey(opcert()),
            DeployedRequest::Info,
        ];
        if layout.has_drop_key {
            all.push(DeployedRequest::DropKey);
        }
        all
    }

    #[test]
    fn requests_are_read_in_pieces_of_every_size() {
        for layout in LAYOUTS {
            let bytes: Vec<u8> = requests(layout)
                .iter()
                .flat_map(DeployedRequest::to_wire)
                .collect();
            for piece in 1..=bytes.len() {
                let read = feed(&mut RequestReader::new(layout), &bytes, piece).unwrap();
                assert_eq!(read, requests(layout));
            }
        }
    }

    #[test]
    fn a_command_of_another_version_is_an_error() {
        let mut reader = RequestReader::new(v1_0::LAYOUT);
        assert_eq!(
            feed(&mut reader, &[0, 5], 1),
            Err(DeployedError::UnknownCommand(5))
        );
        let mut reader = RequestReader::new(v3_0::LAYOUT);
        assert_eq!(
            feed(&mut reader, &[0, 6], 1),
            Err(DeployedError::UnknownCommand(6))
        );
    }

    #[test]
    fn answers_are_read_in_pieces_of_every_size_and_cut_anywhere_are_none() {
        for layout in LAYOUTS {
            let answers = [
                (
                    DeployedRequest::GenStagedKey,
                    DeployedAnswer::StagedKey(None),
                ),
                (
                    DeployedRequest::QueryStagedKey,
                    DeployedAnswer::StagedKey(Some(VerificationKey([9; 32]))),
                ),
                (
                    DeployedRequest::InstallKey(opcert()),
                    DeployedAnswer::Result(ResultCode::KeyOutdated),
                ),
                (
                    DeployedRequest::Info,
                    DeployedAnswer::Info(Box::new(info(layout))),
                ),
            ];
            for (request, answer) in answers {
                let bytes = answer.to_wire(layout);
                for piece in 1..=bytes.len() {
                    let mut reader = AnswerReader::new(layout, request);
                    let read = feed(&mut reader, &bytes, piece).unwrap();
                    assert_eq!(read, std::slice::from_ref(&answer));
                }
                for cut in 0..bytes.len() {
                    let mut reader = AnswerReader::new(layout, request);
                    assert_eq!(feed(&mut reader, &bytes[..cut], 50).unwrap(), []);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_is_bounded_and_never_panics(bytes: Vec<u8>, piece in 1usize..100) {
            for layout in LAYOUTS {
                let _ = feed(&mut RequestReader::new(layout), &bytes, piece);
                for request in requests(layout) {
                    let mut reader = AnswerReader::new(layout, request);
                    let _ = feed(&mut reader, &bytes, piece);
                    prop_assert!(reader.growing.bytes.len() < 1 << 20);
                }
            }
        }
    }
}
