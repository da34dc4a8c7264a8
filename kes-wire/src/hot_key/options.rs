//! What a hot key is made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use crate::cold::ColdVerificationKey;
use crate::genesis::Network;
use crate::unix_time::UnixTime;

/// How long after a turn the old period's evolution is kept, unless it is set: 5 s.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// What a [`super::HotKey`] is made from.
pub struct HotKeyOptions {
    pub(super) service_socket: PathBuf,
    pub(super) network: Network,
    pub(super) cold_vkey: ColdVerificationKey,
    pub(super) grace: Duration,
    pub(super) clock: Clock,
    pub(super) observer: Option<Observer>,
}

/// Tells the time.
pub(super) type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;
/// Is told what happens.
pub(super) type Observer = Box<dyn FnMut(&Event) + Send>;

impl HotKeyOptions {
    /// A hot key of the pool with this cold key, served by the agent behind `service_socket`
    /// (the agent's default is `/tmp/kes-agent-service.socket`), on this network.
    pub fn new(
        service_socket: impl Into<PathBuf>,
        network: Network,
        cold_vkey: ColdVerificationKey,
    ) -> Self {
        Self {
            service_socket: service_socket.into(),
            network,
            cold_vkey,
            grace: DEFAULT_GRACE,
            clock: Arc::new(UnixTime::now),
            observer: None,
        }
    }

    /// How long after a turn the old period's evolution is kept for a block of its last slots, if
    /// no request for the new period comes before. [`DEFAULT_GRACE`] unless set.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Another clock than the machine's, for tests and simulations. It only decides when the
    /// receiving side prepares, lets go and takes over; which evolution signs follows from the
    /// period that is asked for.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Is called for everything that happens, on the receiving side. It must not block, nor
    /// subscribe to the hot key: while it runs, nothing is received and no turn is prepared.
    #[must_use]
    pub fn observer(mut self, observer: impl FnMut(&Event) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }
}
