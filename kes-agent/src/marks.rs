//! What outlives even a restart of the machine: the highest counter that was active and the newest
//! drop, in the state directory. None of it is secret.
//!
//! Rule: **a command is answered when its marks are on the disk**, and nothing else waits for the
//! disk: the file is written, whole and flushed, by a thread of its own, the newest last. A file
//! that is missing, damaged or cannot be written is told and stops nothing.
//!
//! The marks belong to one cold key: each has a file of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kes_wire::cold::{ColdVerificationKey, PoolId};
use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::watch;

use crate::state::{State, Tombstone};

/// Bytes that a file of marks may have.
pub const MOST_BYTES: usize = 4096;

/// The marks of one cold key.
///
/// What a later version adds is skipped: who goes back to this one keeps the mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marks {
    /// Whose they are.
    pub cold_verification_key: ColdVerificationKey,
    /// The counter of the last certificate that was active.
    #[serde(deserialize_with = "present")]
    pub counter_high_water_mark: Option<u64>,
    /// The newest stamp that was given to an install or a drop, in microseconds since 1970.
    pub newest_stamp: u64,
    /// The newest drop.
    #[serde(deserialize_with = "present")]
    pub tombstone: Option<KeptTombstone>,
}

/// A field that may be null and may not be missing.
fn present<'de, D, T>(field: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(field)
}

/// A drop, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeptTombstone {
    /// When, in microseconds since 1970.
    pub stamp: u64,
    /// The key that was dropped, where it is known.
    #[serde(deserialize_with = "present")]
    pub verification_key: Option<VerificationKey>,
}

impl Marks {
    /// The marks of a state.
    #[must_use]
    pub fn of(cold_verification_key: ColdVerificationKey, state: &State) -> Self {
        Self {
            cold_verification_key,
            counter_high_water_mark: state.high_water_mark,
            newest_stamp: state.newest_stamp.0,
            tombstone: state.tombstone.map(|tombstone| KeptTombstone {
                stamp: tombstone.stamp.0,
                verification_key: tombstone.vkey,
            }),
        }
    }

    /// The state of an agent that has nothing else.
    #[must_use]
    pub fn state(&self) -> State {
        let tombstone = self.tombstone.as_ref().map(|kept| Tombstone {
            stamp: Stamp(kept.stamp),
            vkey: kept.verification_key,
        });
        State::from_marks(
            self.counter_high_water_mark,
            Stamp(self.newest_stamp),
            tombstone,
        )
    }
}

/// The file of a pool's marks.
#[must_use]
pub fn path(state_dir: &Path, cold_vkey: &ColdVerificationKey) -> PathBuf {
    state_dir.join(format!("marks-{}.json", PoolId::of(cold_vkey)))
}

/// Reads a pool's marks; `None` where there is no file.
///
/// # Errors
/// A sentence that says what is wrong with it and what follows.
pub fn read(path: &Path, cold_vkey: &ColdVerificationKey) -> Result<Option<Marks>, String> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        format!(
            "{}: the counter's high-water mark and the last drop cannot be read ({reason}): compare \
             with the chain (`cardano-cli query kes-period-info`) before the next activation; the \
             file is replaced then",
            path.display()
        )
    };
    match path.try_exists() {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(error) => return Err(unreadable(&error)),
    }
    let bytes = files::read_limited(path, MOST_BYTES).map_err(|error| unreadable(&error))?;
    let marks: Marks = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    if marks.cold_verification_key != *cold_vkey {
        return Err(unreadable(&"it is another pool's"));
    }
    Ok(Some(marks))
}

/// How long after a writing that failed it is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Writes the marks as they change, on a thread of its own.
pub struct Keeper {
    last: Option<Marks>,
    ordered: u64,
    ordered_at: Instant,
    orders: mpsc::Sender<(u64, Marks)>,
    done: watch::Receiver<(u64, Result<(), String>)>,
}

impl Keeper {
    /// Starts the thread that writes to `path`. `on_disk` is what stands there.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(path: PathBuf, on_disk: Option<Marks>) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (tell, done) = watch::channel((0, Ok(())));
        std::thread::Builder::new()
            .name("marks".to_owned())
            .spawn(move || write_as_ordered(&path, &received, &tell))?;
        Ok(Self {
            last: on_disk,
            ordered: 0,
            ordered_at: Instant::now(),
            orders,
            done,
        })
    }

    /// Orders these marks to be written, unless they were the last.
    pub fn keep(&mut self, marks: Marks) {
        if self.last.as_ref() == Some(&marks) && !self.is_to_be_tried_again() {
            return;
        }
        self.ordered_at = Instant::now();
        self.ordered += 1;
        self.last = Some(marks.clone());
        // The thread ends only with the process.
        let _ = self.orders.send((self.ordered, marks));
    }

    /// A wait until what was ordered so far is on the disk. It borrows nothing.
    ///
    /// # Errors
    /// The wait ends in the reason why it is not there.
    pub fn settled(&self) -> impl Future<Output = Result<(), String>> + use<> {
        let (ordered, mut done) = (self.ordered, self.done.clone());
        async move {
            match done.wait_for(|(written, _)| *written >= ordered).await {
                Ok(told) => told.1.clone(),
                Err(_) => Err("the thread that writes them has ended".to_owned()),
            }
        }
    }

    /// Whether the last writing has failed, a while ago.
    fn is_to_be_tried_again(&self) -> bool {
        let done = self.done.borrow();
        done.0 == self.ordered && done.1.is_err() && self.ordered_at.elapsed() >= TRY_AGAIN
    }

    /// How the last writing ended.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.done.borrow().1.clone().err()
    }
}

fn write_as_ordered(
    path: &Path,
    orders: &mpsc::Receiver<(u64, Marks)>,
    tell: &watch::Sender<(u64, Result<(), String>)>,
) {
    while let Ok(mut newest) = orders.recv() {
        while let Ok(newer) = orders.try_recv() {
            newest = newer;
        }
        let (number, marks) = newest;
        let mut text = serde_json::to_vec_pretty(&marks).unwrap_or_default();
        text.push(b'\n');
        let written = files::write(path, &text, Overwrite::OrLink, Visibility::Public)
            .map(drop)
            .map_err(|error| error.to_string());
        if let Err(error) = &written {
            tracing::error!("the counter's high-water mark is not on the disk: {error}");
        }
        drop(tell.send_replace((number, written)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD: ColdVerificationKey = ColdVerificationKey([7; 32]);

    fn marks(counter: u64) -> Marks {
        Marks {
            cold_verification_key: COLD,
            counter_high_water_mark: Some(counter),
            newest_stamp: 900,
            tombstone: Some(KeptTombstone {
                stamp: 700,
                verification_key: None,
            }),
        }
    }

    #[test]
    fn a_state_is_found_again_by_its_marks() {
        for marks in [
            marks(5),
            Marks {
                tombstone: None,
                ..marks(u64::MAX)
            },
        ] {
            assert_eq!(Marks::of(COLD, &marks.state()), marks);
        }
    }

    #[test]
    fn what_a_later_version_adds_is_skipped_and_what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &COLD);
        let whole = serde_json::to_value(marks(5)).unwrap();
        let mut later = whole.clone();
        later["added"] = 1.into();
        later["tombstone"]["added"] = 1.into();
        std::fs::write(&path, later.to_string()).unwrap();
        assert_eq!(read(&path, &COLD), Ok(Some(marks(5))));
        for field in whole.as_object().unwrap().keys() {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(field);
            std::fs::write(&path, less.to_string()).unwrap();
            let why = read(&path, &COLD).unwrap_err();
            assert!(why.contains(field), "{field}: {why}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_newest_is_on_the_disk_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &COLD);
        assert_eq!(read(&path, &COLD), Ok(None));
        let mut keeper = Keeper::start(path.clone(), None).unwrap();
        for counter in 0..50 {
            keeper.keep(marks(counter));
        }
        keeper.settled().await.unwrap();
        assert_eq!(read(&path, &COLD), Ok(Some(marks(49))));
        keeper.keep(marks(49));
        keeper.settled().await.unwrap();
        assert_eq!(keeper.failure(), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_disk_that_does_not_take_it_is_told_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("missing");
        let path = path(&below, &COLD);
        let mut keeper = Keeper::start(path.clone(), None).unwrap();
        keeper.keep(marks(1));
        assert!(keeper.settled().await.is_err());
        assert!(keeper.failure().is_some());
        std::fs::create_dir(&below).unwrap();
        keeper.keep(marks(2));
        keeper.settled().await.unwrap();
        assert_eq!(read(&path, &COLD), Ok(Some(marks(2))));
    }

    #[test]
    fn a_file_that_is_damaged_or_anothers_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), &COLD);
        let whole = serde_json::to_vec(&marks(5)).unwrap();
        let other = String::from_utf8(whole.clone())
            .unwrap()
            .replace("0707", "0808");
        for content in [
            &b""[..],
            b"{}",
            &whole[..whole.len() - 1],
            other.as_bytes(),
            &[b' '; MOST_BYTES + 1],
        ] {
            std::fs::write(&path, content).unwrap();
            let told = read(&path, &COLD).unwrap_err();
            assert!(told.contains("kes-period-info"), "{told}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path, &COLD), Ok(Some(marks(5))));
    }
}
