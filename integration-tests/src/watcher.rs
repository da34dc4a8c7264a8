//! A node that notes what it is sent, by the protocol alone: a second opinion beside `status`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kes_wire::opcert::OpCert;
use kes_wire::period::Evolution;
use kes_wire::protocol::Reader;
use kes_wire::protocol::service::v2_0::MessageReader;
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage};
use kes_wire::protocol::version::SERVICE_2_0;
use kes_wire::sum6kes::SignKey;

/// What an agent served at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// A key, found to be whole and the certificate's.
    Key {
        /// When it was installed.
        stamp: u64,
        /// Its certificate.
        opcert: OpCert,
        /// Where it stood.
        evolution: Evolution,
    },
    /// Word of a drop.
    Dropped {
        /// When.
        stamp: u64,
    },
}

/// A node that connects again and again.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Vec<Served>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches the service socket at this path, as often as an agent is there.
    #[must_use]
    pub fn start(path: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watch = Watch {
            path: path.to_owned(),
            stop: Arc::clone(&stop),
            seen: Arc::clone(&seen),
        };
        Self {
            stop,
            seen,
            thread: Some(thread::spawn(move || watch.run())),
        }
    }

    /// What it was sent, connection by connection.
    ///
    /// # Panics
    /// Where watching has.
    #[must_use]
    pub fn seen(&self) -> Vec<Vec<Served>> {
        self.seen.lock().expect("no panic while watching").clone()
    }

    /// What it was sent last on the connection that stands.
    #[must_use]
    pub fn newest(&self) -> Option<Served> {
        self.seen().last()?.last().copied()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

struct Watch {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Vec<Served>>>>,
}

impl Watch {
    fn run(&self) {
        while !self.is_stopped() {
            // An agent that is away or ends is connected to again.
            let _ = self.connection();
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connection(&self) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut count = [0; 4];
        self.read(&mut stream, &mut count)?;
        let versions = usize::try_from(u32::from_be_bytes(count)).expect("a small number");
        let mut ids = vec![0; 32 * versions];
        self.read(&mut stream, &mut ids)?;
        stream.write_all(&[&[1][..], SERVICE_2_0.as_bytes()].concat())?;
        let mut settled = [0; 32];
        self.read(&mut stream, &mut settled)?;
        assert_eq!(&settled, SERVICE_2_0.as_bytes());
        self.note(Vec::push, Vec::new());
        let mut reader = MessageReader::new().expect("locked memory");
        loop {
            let count = self.read_some(&mut stream, reader.wants())?;
            let Some(message) = reader.advance(count).expect("a message") else {
                continue;
            };
            let served = check(message);
            self.note(
                |all, served| all.last_mut().expect("begun").push(served),
                served,
            );
            stream.write_all(&[0; 4])?;
        }
    }

    fn note<T>(&self, how: impl FnOnce(&mut Vec<Vec<Served>>, T), what: T) {
        how(&mut self.seen.lock().expect("no panic"), what);
    }

    fn read(&self, stream: &mut UnixStream, mut into: &mut [u8]) -> std::io::Result<()> {
        while !into.is_empty() {
            let count = self.read_some(stream, into)?;
            into = &mut into[count..];
        }
        Ok(())
    }

    /// Waits for bytes, as long as it is not stopped.
    fn read_some(&self, stream: &mut UnixStream, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match stream.read(into) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.is_stopped() => {}
                other => return other,
            }
        }
    }
}

fn check(message: ServiceMessage) -> Served {
    match message {
        ServiceMessage::Dropped { stamp } => Served::Dropped { stamp: stamp.0 },
        ServiceMessage::Key(ReceivedKey {
            stamp,
            secret,
            evolution,
            opcert,
        }) => {
            SignKey::from_bytes(secret, evolution, &opcert.kes_vkey).expect("a whole key");
            Served::Key {
                stamp: stamp.expect("a stamp in this version").0,
                opcert,
                evolution,
            }
        }
    }
}
