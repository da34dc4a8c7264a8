//! The handshake, the same on both sockets but for who says the last word.
//!
//! 1. The agent offers: u32 count, then so many version ids, the best first.
//! 2. The client answers `01` and one of them, or `00`: none will do.
//! 3. The chosen id is sent once more: by the agent on the service socket, by the client on the
//!    control socket.

use super::Reader;
use super::version::VersionId;

/// Which socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For nodes and peer agents: the agent repeats the chosen version.
    Service,
    /// For commands: the client repeats the chosen version.
    Control,
}

/// Versions that an offer may have at the most. The deployed agents offer up to four.
pub const MOST_VERSIONS: u32 = 64;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The offer's count is out of bounds: this is no agent.
    #[error("the other side offers {0} versions: it does not speak this protocol")]
    OfferCount(u32),
    /// The answer is neither `00` nor `01`.
    #[error("the client's answer is byte {0}: it does not speak this protocol")]
    Answer(u8),
    /// The client chose something that was not offered.
    #[error("the client chose {0}, which was not offered")]
    NotOffered(VersionId),
    /// The repeated id is not the chosen one.
    #[error("{chosen} was chosen, then {repeated} repeated")]
    Mismatch {
        /// What was chosen.
        chosen: VersionId,
        /// What came instead.
        repeated: VersionId,
    },
    /// The two sides have no version in common.
    #[error("no version in common: {}", offered.iter().map(VersionId::to_string).collect::<Vec<_>>().join(", "))]
    NothingInCommon {
        /// What the agent offers.
        offered: Vec<VersionId>,
    },
}

/// What a handshake needs next, beside further bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These bytes are to be sent; then it goes on.
    Send(Vec<u8>),
    /// These bytes are to be sent, and it is over: the version is settled.
    Finish(VersionId, Vec<u8>),
    /// These bytes are to be sent, and it is over without a version in common.
    GiveUp(HandshakeError, Vec<u8>),
}

/// A small field that is being filled.
struct Field<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Field<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            filled: 0,
        }
    }

    fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// The whole field, once it is filled; it then starts anew.
    fn advance(&mut self, count: usize) -> Option<[u8; N]> {
        self.filled += count;
        (self.filled == N).then(|| {
            self.filled = 0;
            self.bytes
        })
    }
}

/// The agent's side.
pub struct ServerHandshake {
    kind: Kind,
    offered: &'static [VersionId],
    state: ServerState,
    byte: Field<1>,
    id: Field<{ VersionId::BYTES }>,
}

#[derive(Clone, Copy)]
enum ServerState {
    Answer,
    Choice,
    Repetition { chosen: VersionId },
}

impl ServerHandshake {
    /// Begins: the bytes are to be sent first.
    #[must_use]
    pub fn begin(kind: Kind, offered: &'static [VersionId]) -> (Self, Vec<u8>) {
        let count = u32::try_from(offered.len()).expect("a handful of versions");
        let mut offer = count.to_be_bytes().to_vec();
        offer.extend(offered.iter().flat_map(VersionId::as_bytes));
        let (byte, id) = (Field::new(), Field::new());
        (
            Self {
                kind,
                offered,
                state: ServerState::Answer,
                byte,
                id,
            },
            offer,
        )
    }

    fn chosen(&mut self, chosen: VersionId) -> Result<Option<Step>, HandshakeError> {
        if !self.offered.contains(&chosen) {
            return Err(HandshakeError::NotOffered(chosen));
        }
        match self.kind {
            Kind::Service => Ok(Some(Step::Finish(chosen, chosen.as_bytes().to_vec()))),
            Kind::Control => {
                self.state = ServerState::Repetition { chosen };
                Ok(None)
            }
        }
    }
}

impl Reader for ServerHandshake {
    type Item = Step;
    type Error = HandshakeError;

    fn wants(&mut self) -> &mut [u8] {
        match self.state {
            ServerState::Answer => self.byte.rest(),
            ServerState::Choice | ServerState::Repetition { .. } => self.id.rest(),
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<Step>, HandshakeError> {
        match self.state {
            ServerState::Answer => match self.byte.advance(count) {
                None => Ok(None),
                Some([0]) => {
                    let offered = self.offered.to_vec();
                    let error = HandshakeError::NothingInCommon { offered };
                    Ok(Some(Step::GiveUp(error, Vec::new())))
                }
                Some([1]) => {
                    self.state = ServerState::Choice;
                    Ok(None)
                }
                Some([other]) => Err(HandshakeError::Answer(other)),
            },
            ServerState::Choice => match self.id.advance(count) {
                None => Ok(None),
                Some(id) => self.chosen(VersionId::from_bytes(id)),
            },
            ServerState::Repetition { chosen } => match self.id.advance(count) {
                None => Ok(None),
                Some(id) if id == *chosen.as_bytes() => Ok(Some(Step::Finish(chosen, Vec::new()))),
                Some(id) => {
                    let repeated = VersionId::from_bytes(id);
                    Err(HandshakeError::Mismatch { chosen, repeated })
                }
            },
        }
    }

    fn is_between_items(&self) -> bool {
        matches!(self.state, ServerState::Answer) && self.byte.filled == 0
    }
}

/// The client's side: a node or a command.
pub struct ClientHandshake {
    kind: Kind,
    /// What this side speaks, the best first.
    spoken: &'static [VersionId],
    state: ClientState,
    count: Field<4>,
    id: Field<{ VersionId::BYTES }>,
    offered: Vec<VersionId>,
}

#[derive(Clone, Copy)]
enum ClientState {
    Count,
    Offer { left: u32 },
    Repetition { chosen: VersionId },
}

impl ClientHandshake {
    /// Begins: the agent speaks first.
    #[must_use]
    pub fn begin(kind: Kind, spoken: &'static [VersionId]) -> Self {
        Self {
            kind,
            spoken,
            state: ClientState::Count,
            count: Field::new(),
            id: Field::new(),
            offered: Vec::new(),
        }
    }

    /// The offer is complete: chooses the best of what both speak, by this side's order.
    fn choose(&mut self) -> Step {
        let offered = core::mem::take(&mut self.offered);
        let Some(&chosen) = self.spoken.iter().find(|spoken| offered.contains(spoken)) else {
            return Step::GiveUp(HandshakeError::NothingInCommon { offered }, vec![0]);
        };
        let mut answer = vec![1];
        answer.extend(chosen.as_bytes());
        match self.kind {
            Kind::Service => {
                self.state = ClientState::Repetition { chosen };
                Step::Send(answer)
            }
            Kind::Control => {
                answer.extend(chosen.as_bytes());
                Step::Finish(chosen, answer)
            }
        }
    }
}

impl Reader for ClientHandshake {
    type Item = Step;
    type Error = HandshakeError;

    fn wants(&mut self) -> &mut [u8] {
        match self.state {
            ClientState::Count => self.count.rest(),
            ClientState::Offer { .. } | ClientState::Repetition { .. } => self.id.rest(),
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<Step>, HandshakeError> {
        match self.state {
            ClientState::Count => {
                let Some(bytes) = self.count.advance(count) else {
                    return Ok(None);
                };
                let left = u32::from_be_bytes(bytes);
                if left == 0 || left > MOST_VERSIONS {
                    return Err(HandshakeError::OfferCount(left));
                }
                self.state = ClientState::Offer { left };
                Ok(None)
            }
            ClientState::Offer { left } => {
                let Some(id) = self.id.advance(count) else {
                    return Ok(None);
                };
                self.offered.push(VersionId::from_bytes(id));
                if left > 1 {
                    self.state = ClientState::Offer { left: left - 1 };
                    return Ok(None);
                }
                Ok(Some(self.choose()))
            }
            ClientState::Repetition { chosen } => match self.id.advance(count) {
                None => Ok(None),
                Some(id) if id == *chosen.as_bytes() => Ok(Some(Step::Finish(chosen, Vec::new()))),
                Some(id) => {
                    let repeated = VersionId::from_bytes(id);
                    Err(HandshakeError::Mismatch { chosen, repeated })
                }
            },
        }
    }

    fn is_between_items(&self) -> bool {
        matches!(self.state, ClientState::Count) && self.count.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::feed;
    use super::super::version::{CONTROL_VERSIONS, SERVICE_2_0, SERVICE_VERSIONS};
    use super::*;
    use proptest::prelude::*;

    fn versions(kind: Kind) -> &'static [VersionId] {
        match kind {
            Kind::Service => SERVICE_VERSIONS,
            Kind::Control => CONTROL_VERSIONS,
        }
    }

    fn settle(kind: Kind, piece: usize) -> (VersionId, VersionId) {
        let (mut server, offer) = ServerHandshake::begin(kind, versions(kind));
        let mut client = ClientHandshake::begin(kind, versions(kind));
        let mut to_client = offer;
        let (mut at_server, mut at_client) = (None, None);
        for _ in 0..4 {
            let mut to_server = Vec::new();
            for step in feed(&mut client, &to_client, piece).unwrap() {
                match step {
                    Step::Send(bytes) => to_server.extend(bytes),
                    Step::Finish(version, bytes) => {
                        at_client = Some(version);
                        to_server.extend(bytes);
                    }
                    Step::GiveUp(error, _) => panic!("{error}"),
                }
            }
            to_client.clear();
            for step in feed(&mut server, &to_server, piece).unwrap() {
                match step {
                    Step::Send(bytes) => to_client.extend(bytes),
                    Step::Finish(version, bytes) => {
                        at_server = Some(version);
                        to_client.extend(bytes);
                    }
                    Step::GiveUp(error, _) => panic!("{error}"),
                }
            }
        }
        (
            at_server.expect("the server is done"),
            at_client.expect("the client is done"),
        )
    }

    #[test]
    fn both_sides_settle_on_the_best_version_in_pieces_of_every_size() {
        for piece in 1..=140 {
            for kind in [Kind::Service, Kind::Control] {
                let best = versions(kind)[0];
                assert_eq!(settle(kind, piece), (best, best));
            }
        }
    }

    #[test]
    fn a_client_that_speaks_nothing_offered_says_so() {
        let mut client = ClientHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        let mut offer = 1u32.to_be_bytes().to_vec();
        offer.extend(VersionId::new("Service:9.0").as_bytes());
        let steps = feed(&mut client, &offer, 7).unwrap();
        let [Step::GiveUp(error, bytes)] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!(bytes, &[0]);
        assert_eq!(error.to_string(), "no version in common: Service:9.0");
        let (mut server, _) = ServerHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        let steps = feed(&mut server, &[0], 1).unwrap();
        assert!(matches!(
            &steps[..],
            [Step::GiveUp(HandshakeError::NothingInCommon { .. }, _)]
        ));
    }

    #[test]
    fn misbehaviour_is_told_apart() {
        let server = |bytes: &[u8], kind: Kind| {
            let (mut server, _) = ServerHandshake::begin(kind, versions(kind));
            feed(&mut server, bytes, 999).unwrap_err()
        };
        assert_eq!(server(&[2], Kind::Service), HandshakeError::Answer(2));
        let mut unknown = vec![1];
        unknown.extend([7; 32]);
        assert!(matches!(
            server(&unknown, Kind::Service),
            HandshakeError::NotOffered(_)
        ));
        let mut mismatch = vec![1];
        mismatch.extend(CONTROL_VERSIONS[0].as_bytes());
        mismatch.extend(SERVICE_2_0.as_bytes());
        assert!(matches!(
            server(&mismatch, Kind::Control),
            HandshakeError::Mismatch { .. }
        ));
        for count in [0, MOST_VERSIONS + 1, u32::MAX] {
            let mut client = ClientHandshake::begin(Kind::Control, CONTROL_VERSIONS);
            let refused = feed(&mut client, &count.to_be_bytes(), 4).unwrap_err();
            assert_eq!(refused, HandshakeError::OfferCount(count));
        }
        let mut client = ClientHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        let (_, mut bytes) = ServerHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        bytes.extend([9; 32]);
        assert!(matches!(
            feed(&mut client, &bytes, 5).unwrap_err(),
            HandshakeError::Mismatch { .. }
        ));
    }

    proptest! {
        #[test]
        fn garbage_never_settles_a_version(bytes: Vec<u8>, piece in 1usize..50) {
            for kind in [Kind::Service, Kind::Control] {
                let (mut server, _) = ServerHandshake::begin(kind, versions(kind));
                for step in feed(&mut server, &bytes, piece).unwrap_or_default() {
                    prop_assert!(matches!(step, Step::GiveUp(..)));
                }
                let mut client = ClientHandshake::begin(kind, versions(kind));
                for step in feed(&mut client, &bytes, piece).unwrap_or_default() {
                    prop_assert!(matches!(step, Step::GiveUp(..)));
                }
            }
        }
    }
}
