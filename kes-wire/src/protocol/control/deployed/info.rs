//! What `info` tells.

use super::fields::{Cursor, put_maybe, put_text};
use super::{DeployedError, Layout, ReadError};
use crate::opcert::{ColdSignature, OpCert};
use crate::period::{Evolution, KesPeriod};
use crate::sum6kes::VerificationKey;

/// Peers that may be listed.
pub const MOST_PEERS: u32 = 256;

/// The agent's state. Times are whole seconds since 1970-01-01T00:00:00Z. What a version does not
/// have is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// The agent's version.
    pub version: Option<String>,
    /// The installed key, or the word that one was dropped.
    pub installed: Option<InstalledInfo>,
    /// The staged key.
    pub staged: Option<VerificationKey>,
    /// The time.
    pub now: i64,
    /// The current KES period.
    pub period: KesPeriod,
    /// When it began and when it ends.
    pub period_times: Option<(i64, i64)>,
    /// The peer agents.
    pub peers: Vec<PeerInfo>,
}

/// The installed key, or the word that one was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledInfo {
    /// The key; `None` where it was dropped.
    pub bundle: Option<BundleInfo>,
    /// When it was installed or dropped.
    pub time: Option<i64>,
}

/// An installed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleInfo {
    /// Its evolution.
    pub evolution: Evolution,
    /// Its certificate, which names it.
    pub opcert: OpCert,
}

/// A peer agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its address.
    pub address: String,
    /// How the connection is.
    pub connection: PeerConnection,
}

/// How the connection to a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerConnection {
    /// It stands.
    Up,
    /// It is being made.
    Connecting,
    /// It does not stand.
    Down,
}

impl PeerConnection {
    fn number(self) -> u8 {
        match self {
            Self::Up => 0,
            Self::Connecting => 1,
            Self::Down => 2,
        }
    }

    fn from_number(number: u8) -> Result<Self, DeployedError> {
        match number {
            0 => Ok(Self::Up),
            1 => Ok(Self::Connecting),
            2 => Ok(Self::Down),
            other => Err(DeployedError::PeerConnection(other)),
        }
    }
}

impl BundleInfo {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.evolution.0.to_be_bytes());
        out.extend(self.opcert.start_period.0.to_be_bytes());
        out.extend(self.opcert.counter.to_be_bytes());
        out.extend(self.opcert.kes_vkey.0);
        out.extend(self.opcert.cold_signature.0);
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let evolution = Evolution(cursor.u32()?);
        let start_period = KesPeriod(cursor.u64()?);
        let counter = cursor.u64()?;
        let kes_vkey = VerificationKey(*cursor.array()?);
        let cold_signature = ColdSignature(*cursor.array()?);
        let opcert = OpCert {
            kes_vkey,
            counter,
            start_period,
            cold_signature,
        };
        Ok(Self { evolution, opcert })
    }
}

impl InstalledInfo {
    fn put(&self, out: &mut Vec<u8>) {
        put_maybe(out, self.bundle, |out, bundle| bundle.put(out));
        put_maybe(out, self.time, |out, time| out.extend(time.to_be_bytes()));
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let bundle = cursor.maybe(BundleInfo::parse)?;
        let time = cursor.maybe(|c| Ok(c.i64()?))?;
        Ok(Self { bundle, time })
    }
}

impl AgentInfo {
    pub(super) fn put(&self, out: &mut Vec<u8>, layout: Layout) {
        if layout.info_has_version_and_period_times {
            put_text(out, self.version.as_deref().unwrap_or_default());
        }
        if layout.info_has_bundle_time {
            put_maybe(out, self.installed.as_ref(), |out, installed| {
                installed.put(out)
            });
        } else {
            let bundle = self
                .installed
                .as_ref()
                .and_then(|installed| installed.bundle);
            put_maybe(out, bundle, |out, bundle| bundle.put(out));
        }
        put_maybe(out, self.staged, |out, vkey| out.extend(vkey.0));
        out.extend(self.now.to_be_bytes());
        out.extend(self.period.0.to_be_bytes());
        if layout.info_has_version_and_period_times {
            let (start, end) = self.period_times.unwrap_or_default();
            out.extend(start.to_be_bytes());
            out.extend(end.to_be_bytes());
        }
        let most = usize::try_from(MOST_PEERS).expect("small");
        let listed = self.peers.len().min(most);
        out.extend(u32::try_from(listed).expect("bounded").to_be_bytes());
        for peer in &self.peers[..listed] {
            put_text(out, &peer.address);
            out.push(peer.connection.number());
        }
    }

    pub(super) fn parse(cursor: &mut Cursor<'_>, layout: Layout) -> Result<Self, ReadError> {
        let full = layout.info_has_version_and_period_times;
        let version = if full { Some(cursor.text()?) } else { None };
        let installed = if layout.info_has_bundle_time {
            cursor.maybe(InstalledInfo::parse)?
        } else {
            let bundle = cursor.maybe(BundleInfo::parse)?;
            bundle.map(|bundle| InstalledInfo {
                bundle: Some(bundle),
                time: None,
            })
        };
        let staged = cursor.maybe(|c| Ok(VerificationKey(*c.array()?)))?;
        let now = cursor.i64()?;
        let period = KesPeriod(cursor.u64()?);
        let period_times = if full {
            Some((cursor.i64()?, cursor.i64()?))
        } else {
            None
        };
        let count = cursor.u32()?;
        if count > MOST_PEERS {
            return Err(DeployedError::List(count).into());
        }
        let mut peers = Vec::new();
        for _ in 0..count {
            let address = cursor.text()?;
            let connection = PeerConnection::from_number(cursor.u8()?)?;
            peers.push(PeerInfo {
                address,
                connection,
            });
        }
        Ok(Self {
            version,
            installed,
            staged,
            now,
            period,
            period_times,
            peers,
        })
    }
}
