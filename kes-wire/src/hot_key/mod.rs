//! A node's hot key: received from the agent, kept evolving, swapped under forging threads that
//! never wait for it.
//!
//! A [`HotKey`] is the forging side. [`HotKey::sign`] gives a signature and the certificate it
//! belongs to from one and the same bundle, and [`HotKey::sign_with`] lets the message be made of
//! that certificate, as a block header is; both read one pointer, take no lock and need no
//! runtime. A [`Receiving`] is the other side, the one owner of everything that can evolve: it
//! connects, checks what the agent sends, prepares the next evolution ahead and lets go of the past
//! one. It runs on a plain thread ([`Receiving::on_thread`]) or as a tokio task
//! (`Receiving::run`, feature `net`).
//!
//! # Which evolution signs
//!
//! The period that is asked for decides, not the clock: a block for the last slot of a period may
//! be signed after the turn. The present period's evolution and the next one stand ready. The
//! first request for the next period turns to it, which is the swap of a pointer; without a
//! request that happens a grace after the turn ([`DEFAULT_GRACE`]). From then on the old evolution
//! is refused, and it is wiped when the last signature that uses it is done. A request never gets
//! a signature of another period than it asked for, and one for a period that the key cannot reach
//! lets nothing go.
//!
//! A key whose first period lies ahead waits while the old one still signs, and takes over with
//! its first period.
//!
//! # What is held, and where
//!
//! The present and the next evolution's Ed25519 keys (64 bytes each) in one locked page; the
//! 608-byte sign key, already evolved to the next period, in another. After a turn nothing in the
//! process can sign for the period before, or derive what could. Dropping the last [`HotKey`], or
//! ending the [`Receiving`], wipes all of it.
//!
//! # What is accepted
//!
//! | what is wrong with a key that came | answer to the agent |
//! | --- | --- |
//! | its stamp is not newer than the last on the connection | 1, outdated |
//! | its certificate's number is lower than that of the newest key accepted, and no drop came since | 1, outdated |
//! | its certificate is not signed by the pool's cold key | 2, invalid certificate |
//! | its certificate has expired | 2, invalid certificate |
//! | the 608 bytes are damaged, or not the key that the certificate names | 2, invalid certificate |
//! | nothing, or it is the key that is held already | 0, taken |
//!
//! Every refusal is an [`Event::DeclinedKey`] with its [`Decline`]; what is held stays.

mod content;
mod event;
mod keeper;
#[cfg(test)]
mod model;
mod options;
mod receiving;
mod retry;
mod session;
mod stage;
mod state;
mod sync;
#[cfg(feature = "net")]
mod task;
mod thread;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use arc_swap::ArcSwapOption;

pub use event::{Decline, EXPIRY_WARNING_PERIODS, Event};
pub use options::{DEFAULT_GRACE, HotKeyOptions};
pub use receiving::{Receiving, StartError};
pub use retry::{FIRST_DELAY, LONGEST_DELAY};
pub use session::HANDSHAKE_DEADLINE;
pub use state::{ForgingState, KesInfo, Status};

use crate::genesis::Network;
use crate::opcert::OpCert;
use crate::period::{Evolution, KesPeriod};
use crate::sum6kes::Signature;
use crate::sys::memory::LockError;
use crate::sys::stack;
use content::{Absence, Content};
use options::Observer;
use stage::{Stage, Turnstile};

/// The forging side of a hot key. Cloning it gives another handle to the same key; when the last
/// one is dropped, the receiving side ends and every key is wiped.
///
/// It has no `Debug`: it leads to a secret.
///
/// ```compile_fail
/// fn show(key: &kes_wire::hot_key::HotKey) -> String { format!("{key:?}") }
/// ```
#[derive(Clone)]
pub struct HotKey {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

/// A signature with the certificate that belongs into the same block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The KES signature, 448 bytes.
    pub signature: Signature,
    /// The certificate of the key that signed.
    pub opcert: OpCert,
    /// The evolution that signed: the period that was asked for minus the certificate's start.
    pub evolution: Evolution,
}

/// Why there is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No key has come yet.
    #[error(
        "there is no key: the agent has not served one (is it running, and is a key active? See \
         `kes-cli status`)"
    )]
    NoKey,
    /// The agent has dropped the key.
    #[error("there is no key: it was dropped at the agent; activate a new one there")]
    Dropped,
    /// The receiving side has ended.
    #[error("there is no key: the receiving side of the hot key has ended")]
    Stopped,
    /// The key starts in a later period.
    #[error("the key starts in period {start}, and period {period} was asked for: wait")]
    StartsLater {
        /// The first period in which it may sign.
        start: KesPeriod,
        /// What was asked for.
        period: KesPeriod,
    },
    /// The key's last period is over.
    #[error(
        "the key is spent: its certificate expired with the start of period {expiry}, and period \
         {period} was asked for; rotate the key"
    )]
    Spent {
        /// The first period in which the certificate is not valid any more.
        expiry: KesPeriod,
        /// What was asked for.
        period: KesPeriod,
    },
    /// The evolution for that period is gone.
    #[error(
        "the evolution for period {period} was let go when period {present} was asked for or had \
         begun: the block comes too late, or a clock was ahead; then set it and restart the node, \
         which is served the key anew"
    )]
    LetGo {
        /// What the key signs for now.
        present: KesPeriod,
        /// What was asked for.
        period: KesPeriod,
    },
    /// The key covers that period, but has not evolved so far.
    #[error(
        "the key is prepared up to period {prepared}, and period {period} was asked for: the \
         clocks of forging and this key disagree, or this machine has just woken up; ask again"
    )]
    NotYet {
        /// The last period that it is prepared for.
        prepared: KesPeriod,
        /// What was asked for.
        period: KesPeriod,
    },
    /// This thread's secret stack (16 KiB) could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// What both sides reach.
struct Shared {
    stages: Turnstile<Content>,
    network: Network,
    is_connected: AtomicBool,
    /// A key that has come and is in no stage yet.
    waiting: ArcSwapOption<KesInfo>,
    refused: ArcSwapOption<Decline>,
    listeners: Mutex<Listeners>,
}

/// Who is told of events. Forging threads never come here.
struct Listeners {
    observer: Option<Observer>,
    subscribers: Vec<SyncSender<Event>>,
}

/// Wakes the receiving side: a byte means "look at the clock", the end of the stream that no
/// handle is left.
struct Bell(UnixStream);

impl HotKey {
    /// A hot key and its receiving side, which is yet to be started. Until then, and until a key
    /// has come, there is nothing to sign with.
    ///
    /// # Errors
    /// [`StartError`] where memory cannot be locked or the system gives no socket pair.
    pub fn new(options: HotKeyOptions) -> Result<(Self, Receiving), StartError> {
        let nothing = Stage {
            period: KesPeriod(0),
            content: Content::Nothing(Absence::NeverHad),
            next: None,
        };
        let shared = Arc::new(Shared {
            stages: Turnstile::new(nothing),
            network: options.network,
            is_connected: AtomicBool::new(false),
            waiting: ArcSwapOption::empty(),
            refused: ArcSwapOption::empty(),
            listeners: Mutex::new(Listeners {
                observer: options.observer,
                subscribers: Vec::new(),
            }),
        });
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let keeper = keeper::Keeper::new(Arc::clone(&shared), options.cold_vkey, options.grace)?;
        let receiving = Receiving::new(keeper, options.service_socket, options.clock, ear);
        let hot_key = Self {
            shared,
            bell: Arc::new(Bell(bell)),
        };
        Ok((hot_key, receiving))
    }

    /// Signs `message` at `period`.
    ///
    /// For a message that has the certificate in it, as a block header's body does, use
    /// [`Self::sign_with`].
    ///
    /// Costs what an Ed25519 signature costs. It takes no lock: not while a key is swapped, and
    /// not at a turn. The first call on a thread locks 16 KiB for its secret stack; see
    /// [`Self::prepare_this_thread`].
    ///
    /// # Errors
    /// [`SignError`], by reason.
    pub fn sign(&self, period: KesPeriod, message: &[u8]) -> Result<Signed, SignError> {
        self.sign_with(period, |_| message)
            .map(|(signed, _)| signed)
    }

    /// Signs a message that is made with the certificate of the key that signs it, and gives both.
    ///
    /// A block header's body names the certificate, and the signature over that body is by the
    /// certificate's key: a swap between reading the one and signing with the other would make an
    /// invalid block. Here both come from one bundle. `period` is that of the block's slot.
    ///
    /// `message` should be quick: as long as it runs, a key that was let go meanwhile stays in
    /// memory.
    ///
    /// # Errors
    /// [`SignError`], by reason; `message` was not called then, unless it is
    /// [`SignError::Lock`].
    pub fn sign_with<M: AsRef<[u8]>>(
        &self,
        period: KesPeriod,
        message: impl FnOnce(&OpCert) -> M,
    ) -> Result<(Signed, M), SignError> {
        let stage = self.shared.stages.at(period);
        match &stage.content {
            Content::Key(signing) if stage.period == period => {
                let message = message(&signing.opcert);
                let signed = Signed {
                    signature: signing.signer.sign(message.as_ref())?,
                    opcert: signing.opcert,
                    evolution: signing.signer.evolution(),
                };
                Ok((signed, message))
            }
            content => Err(self.refuse(content, stage.period, period)),
        }
    }

    /// Why what stands at `present` does not sign at `period`.
    #[cold]
    fn refuse(&self, content: &Content, present: KesPeriod, period: KesPeriod) -> SignError {
        let refusal = match content {
            Content::Nothing(absence) => absence.refuse(period),
            Content::Key(signing) => signing.refuse(present, period, &self.shared.network),
        };
        if let SignError::NotYet { .. } = refusal {
            // After a suspension the receiving side may not have seen the new time yet.
            self.look_at_the_clock();
        }
        refusal
    }

    /// Locks the memory that signing on the calling thread needs, so that its first signature does
    /// not have to.
    ///
    /// # Errors
    /// [`LockError`] where it cannot be locked.
    pub fn prepare_this_thread(&self) -> Result<(), LockError> {
        stack::run(|| ())
    }

    /// What is held now.
    #[must_use]
    pub fn status(&self) -> Status {
        let stage = self.shared.stages.present();
        let network = &self.shared.network;
        let signing = match &stage.content {
            Content::Key(signing) => Some(signing),
            Content::Nothing(_) => None,
        };
        // A key that takes over at the next turn stands in the next stage already.
        let next = stage.next.as_ref().and_then(|next| match &next.content {
            Content::Key(next) if signing.is_none_or(|now| now.opcert != next.opcert) => {
                Some(next.info(network))
            }
            Content::Key(_) | Content::Nothing(_) => None,
        });
        Status {
            state: self.shared.state(&stage.content),
            key: signing.map(|signing| signing.info(network)),
            waiting: next.or_else(|| self.shared.waiting.load().as_deref().copied()),
            refused: self.shared.refused.load().as_deref().cloned(),
        }
    }

    /// The events from now on, [`Event::State`] among them. A subscriber that falls 1024 events behind is let go: its channel
    /// ends.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = sync_channel(1024);
        self.shared.listeners().subscribers.push(sender);
        receiver
    }

    /// Has the receiving side look at its clock at once. It does so at every turn and each second
    /// anyway; this is for clocks that jump ([`HotKeyOptions::clock`]).
    pub fn look_at_the_clock(&self) {
        // Where the socket is full the bell rings already; where it is closed nobody is left.
        let _ = (&self.bell.0).write(&[0]);
    }

    /// The network's parameters.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.shared.network
    }
}

impl Shared {
    fn state(&self, content: &Content) -> ForgingState {
        let is_connected = self.is_connected.load(Ordering::Relaxed);
        ForgingState::new(is_connected, matches!(content, Content::Key(_)))
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        let mut listeners = self.listeners();
        // An observer that has panicked is not called once more while the thread unwinds.
        if let Some(observer) = &mut listeners.observer
            && !std::thread::panicking()
        {
            observer(&event);
        }
        listeners
            .subscribers
            .retain(|subscriber| match subscriber.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            });
    }
}
