//! The receiving side as a tokio task.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::receiving::Receiving;
use super::session::{HANDSHAKE_DEADLINE, Reply, Session, TOO_SLOW, not_connected};
use crate::net::read_some;

/// No handle is left.
struct Over;

struct Task {
    receiving: Receiving,
    ear: UnixStream,
}

impl Receiving {
    /// Runs as a future, to be spawned on a tokio runtime with I/O and time enabled, until the
    /// last handle is dropped. Abandoning it wipes every key.
    ///
    /// Checking a key that comes takes about a millisecond, in which the task does not yield.
    pub async fn run(self) {
        let Ok(ear) = self.ear.try_clone().and_then(UnixStream::from_std) else {
            return;
        };
        let mut task = Task {
            receiving: self,
            ear,
        };
        while task.connect_once().await.is_ok() {}
    }
}

impl Task {
    /// One connection, from the attempt to its end and the delay after it.
    async fn connect_once(&mut self) -> Result<(), Over> {
        let receiving = &mut self.receiving;
        let delay = match UnixStream::connect(&receiving.socket).await {
            Err(error) => receiving.failed(not_connected(&error)),
            Ok(stream) => {
                let mut session = Session::new(&receiving.socket);
                let reason = self.serve(&stream, &mut session).await?;
                self.receiving.over(&session, reason)
            }
        };
        let until = Instant::now() + delay;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            let wait = self.receiving.settle().min(left);
            tokio::select! {
                heard = hear(&self.ear) => heard?,
                () = sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Serves a connection; gives why it ended.
    async fn serve(&mut self, stream: &UnixStream, session: &mut Session) -> Result<String, Over> {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        loop {
            let wait = self.receiving.settle();
            if let Some(reason) = self.receiving.asks_again() {
                return Ok(reason);
            }
            if !session.is_settled() && Instant::now() > deadline {
                return Ok(TOO_SLOW.to_owned());
            }
            tokio::select! {
                heard = hear(&self.ear) => heard?,
                () = sleep(wait + Duration::from_micros(1)) => {}
                read = read_some(stream, session.wants()) => {
                    match self.take(read, stream, session).await {
                        Ok(None) => {}
                        Ok(Some(reason)) => return Ok(reason),
                        Err(error) => return Ok(error.to_string()),
                    }
                }
            }
        }
    }

    /// Takes what was read, and answers. `Some` with the reason where the connection is over.
    async fn take(
        &mut self,
        read: io::Result<usize>,
        stream: &UnixStream,
        session: &mut Session,
    ) -> io::Result<Option<String>> {
        let count = read?;
        if count == 0 {
            return Ok(Some(session.at_the_end().to_owned()));
        }
        let now = self.receiving.now();
        match session.advance(count, &mut self.receiving.keeper, now) {
            Ok(None) => Ok(None),
            Ok(Some(Reply::Bytes(bytes))) => send(stream, &bytes).await.map(|()| None),
            Ok(Some(Reply::Last(bytes, error))) => {
                send(stream, &bytes).await?;
                Ok(Some(error.to_string()))
            }
            Err(ended) => Ok(Some(ended.to_string())),
        }
    }
}

/// Sends a few bytes, for which there is room: the agent reads every answer before it sends
/// anything more.
async fn send(stream: &UnixStream, bytes: &[u8]) -> io::Result<()> {
    stream.writable().await?;
    match stream.try_write(bytes)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Waits for the bell and empties it.
async fn hear(ear: &UnixStream) -> Result<(), Over> {
    let mut rings = [0; 64];
    match read_some(ear, &mut rings).await {
        Ok(0) | Err(_) => Err(Over),
        Ok(_) => Ok(()),
    }
}
