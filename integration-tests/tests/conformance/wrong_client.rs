//! A client of the service socket that is right in everything but one fault.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use integration_tests::conformance::broken;
use integration_tests::conformance::keys::{Certificate, Served, array};
use integration_tests::conformance::pool::Periods;
use integration_tests::conformance::wire::id;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    TakesAnyCount,
    TakesTheFirstOffered,
    ChoosesWhatWasNotOffered,
    LeavesWithoutAWord,
    TakesAnyRepetition,
    TakesAnyTag,
    SaysMore,
    TakesReadsForMessages,
    AnswersParts,
    IsImpatient,
    TakesItTwice,
    IgnoresStamps,
    StaysAway,
    GivesUp,
    HasNothingToDrop,
    TakesForeign,
    LooksAtTheRootAlone,
    HasItsOwnCodes,
    TakesNoneWithoutStamp,
    TakesOneAlone,
    /// As the nodes that are deployed: stamps are looked at, keys are not.
    LooksAtStampsAlone,
}

/// Each fault and the requirements that it breaks; what it SHOULD have done, marked.
pub(crate) const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::TakesAnyCount, &["HS-2"]),
    (Fault::TakesTheFirstOffered, &["HS-3 not followed"]),
    (Fault::ChoosesWhatWasNotOffered, &["HS-3"]),
    (Fault::LeavesWithoutAWord, &["HS-4"]),
    (Fault::TakesAnyRepetition, &["HS-6"]),
    (Fault::TakesAnyTag, &["SVC-1"]),
    (Fault::SaysMore, &["SVC-5"]),
    (Fault::TakesReadsForMessages, &["TR-3"]),
    (Fault::AnswersParts, &["TR-4"]),
    (Fault::IsImpatient, &["CLI-1"]),
    (Fault::TakesItTwice, &["CLI-2"]),
    (Fault::IgnoresStamps, &["CLI-3"]),
    (Fault::StaysAway, &["CLI-4 not followed"]),
    (Fault::GivesUp, &["CLI-5"]),
    (Fault::HasNothingToDrop, &["CLI-6"]),
    (Fault::TakesForeign, &["CLI-7 not followed"]),
    (Fault::LooksAtTheRootAlone, &["KEY-5"]),
    (Fault::HasItsOwnCodes, &["CLI-7 not followed", "DEP-3"]),
    (Fault::TakesNoneWithoutStamp, &["DEP-4"]),
    (Fault::TakesOneAlone, &["DEP-6"]),
    (Fault::LooksAtStampsAlone, &["CLI-7 not followed"]),
];

const SERVICE: [&str; 3] = ["Service:2.0", "Service:1.0", "Service:StandardCrypto:0.4"];

pub(crate) struct Client {
    pub(crate) socket: PathBuf,
    pub(crate) cold: VerifyingKey,
    pub(crate) periods: Periods,
    pub(crate) fault: Fault,
}

/// Why a connection ends; nothing is made of it.
type Ended = Option<()>;

impl Client {
    /// Connects again and again, until the socket's folder is gone.
    pub(crate) fn run(&self) {
        while self.socket.parent().is_some_and(Path::exists) {
            match UnixStream::connect(&self.socket) {
                Ok(mut stream) => {
                    let _ = self.connection(&mut stream);
                }
                Err(_) if self.fault == Fault::GivesUp => return,
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(&self, stream: &mut UnixStream, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        if self.fault == Fault::TakesReadsForMessages {
            let read = stream.read(&mut bytes).ok()?;
            return (read == count).then_some(bytes);
        }
        stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn connection(&self, stream: &mut UnixStream) -> Ended {
        let Some(chosen) = self.handshake(stream)? else {
            if self.fault == Fault::StaysAway {
                std::thread::sleep(Duration::from_secs(17));
            }
            return None;
        };
        if self.fault == Fault::IsImpatient {
            stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        }
        if chosen == SERVICE[0] {
            self.messages(stream)
        } else {
            self.older_messages(stream)
        }
    }

    /// The version; `Some(None)` where the offer was cut short.
    fn handshake(&self, stream: &mut UnixStream) -> Option<Option<&'static str>> {
        let Some(count) = self.read(stream, 4) else {
            return Some(None);
        };
        let count = u32::from_be_bytes(array(&count));
        if !(1..=64).contains(&count) && self.fault != Fault::TakesAnyCount {
            return None;
        }
        let offer = match count {
            0 => Vec::new(),
            count => self.read(stream, 32 * usize::try_from(count).ok()?)?,
        };
        let offer: &[[u8; 32]] = offer.as_chunks().0;
        let mut chosen = SERVICE.into_iter().find(|name| offer.contains(&id(name)));
        if self.fault == Fault::TakesTheFirstOffered {
            let name = |offered: &[u8; 32]| SERVICE.into_iter().find(|name| id(name) == *offered);
            chosen = offer.iter().find_map(name);
        }
        if count > 1 && self.fault == Fault::ChoosesWhatWasNotOffered {
            chosen = chosen.map(|_| "Service:9.9");
        }
        if count == 0 && self.fault == Fault::TakesAnyCount {
            chosen = Some(SERVICE[0]);
        }
        let Some(chosen) = chosen else {
            if self.fault != Fault::LeavesWithoutAWord {
                stream.write_all(&[0]).ok()?;
            }
            return None;
        };
        stream.write_all(&[&[1][..], &id(chosen)].concat()).ok()?;
        let repeated = self.read(stream, 32)?;
        let is_settled = repeated == id(chosen) || self.fault == Fault::TakesAnyRepetition;
        is_settled.then_some(Some(chosen))
    }

    fn messages(&self, stream: &mut UnixStream) -> Ended {
        let mut last: Option<(u64, Option<Certificate>)> = None;
        loop {
            let tag = self.read(stream, 1)?[0];
            if tag > 1 && self.fault != Fault::TakesAnyTag {
                return None;
            }
            let length = if tag == 1 { 8 } else { 732 };
            let Some(rest) = self.read(stream, length) else {
                if self.fault == Fault::AnswersParts {
                    stream.write_all(&[0; 4]).ok()?;
                }
                return None;
            };
            let stamp = u64::from_be_bytes(array(&rest[..8]));
            let key = (tag != 1).then(|| read_key(&rest[8..]));
            let answer = self.answer(stamp, key.as_ref(), last);
            let mut said = answer.to_be_bytes().to_vec();
            let is_dropped = key.is_none() && last.is_some_and(|(_, held)| held.is_some());
            if is_dropped && answer == 0 && self.fault == Fault::SaysMore {
                said.push(0);
            }
            if answer == 0 {
                last = Some((stamp, key.map(|key| key.certificate)));
            }
            stream.write_all(&said).ok()?;
        }
    }

    fn answer(
        &self,
        stamp: u64,
        key: Option<&Served>,
        last: Option<(u64, Option<Certificate>)>,
    ) -> u32 {
        let is_held = last.is_some_and(|(_, held)| held == key.map(|key| key.certificate));
        let is_newer = last.is_none_or(|(last, _)| stamp > last);
        match key {
            Some(_) if is_held => u32::from(self.fault != Fault::TakesItTwice),
            _ if !is_newer && self.fault != Fault::IgnoresStamps => 1,
            None if last.is_none() && self.fault == Fault::HasNothingToDrop => 3,
            None => 0,
            Some(_) if self.fault == Fault::LooksAtStampsAlone => 0,
            Some(key) if self.is_right(key) => 0,
            Some(_) if self.fault == Fault::HasItsOwnCodes => 9,
            Some(_) => 2,
        }
    }

    fn is_right(&self, key: &Served) -> bool {
        let start = key.certificate.start;
        let lives = self.periods.now() < start + self.periods.most_evolutions;
        let is_the_pools =
            key.certificate.is_signed_by(&self.cold) || self.fault == Fault::TakesForeign;
        let is_whole = if self.fault == Fault::LooksAtTheRootAlone {
            // The certificate's key against what stands at the top; nothing is computed below.
            let above_the_certificate = key.layout();
            above_the_certificate
                != broken("the root is not the certificate's KES verification key")
        } else {
            key.layout().is_ok() && key.seeds().is_ok() && key.forgets().is_ok()
        };
        lives && is_the_pools && is_whole
    }

    fn older_messages(&self, stream: &mut UnixStream) -> Ended {
        let mut count = 0;
        loop {
            self.read(stream, 724)?;
            count += 1;
            if count > 1 && self.fault == Fault::TakesOneAlone {
                return None;
            }
            // As the deployed client: without stamps every second key is outdated.
            let is_refused = count > 1 || self.fault == Fault::TakesNoneWithoutStamp;
            stream
                .write_all(&u32::from(is_refused).to_be_bytes())
                .ok()?;
        }
    }
}

fn read_key(bytes: &[u8]) -> Served {
    Served {
        tag: 0,
        stamp: 0,
        key: bytes[..608].to_vec(),
        evolution: u32::from_be_bytes(array(&bytes[608..612])),
        certificate: Certificate::read(&bytes[612..]),
    }
}
