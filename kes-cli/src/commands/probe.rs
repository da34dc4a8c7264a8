//! `kes-cli probe`: stands in for a node.
//!
//! It takes the served key into locked memory, checks it as a careful node would, signs a message
//! at the current period, verifies the signature, says what it saw, and wipes the key.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use kes_wire::cold::ColdVerificationKey;
use kes_wire::envelope;
use kes_wire::genesis::Network;
use kes_wire::net::{ServiceClient, ServiceClientError};
use kes_wire::opcert::{OpCert, OutOfPeriod};
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::{self, SignKey};
use kes_wire::unix_time::UnixTime;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::{block_on, network, refused_connection};
use crate::arguments::Probe;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Report};
use crate::words::fingerprint;

const MESSAGE: &[u8] = b"kes-cli probe: signed to prove that the served key signs";

/// Receives, checks, signs, and with `--follow` goes on doing so.
pub(crate) fn probe(args: &Probe, json: bool) -> Result<Report, Failure> {
    let checks = Checks::new(args)?;
    if args.follow {
        block_on(follow(args, &checks, json))?
    } else {
        block_on(once(args, &checks))?
    }
}

/// What a served key is held against.
struct Checks {
    network: Network,
    cold_vkey: Option<ColdVerificationKey>,
}

/// A checked key as a node would hold it.
struct Held {
    key: SignKey,
    opcert: OpCert,
    /// When the agent installed it, where its protocol version says so.
    stamp: Option<Stamp>,
}

/// What a node knows from one message to the next.
#[derive(Default)]
struct Node {
    held: Option<Held>,
    /// The certificate number of the newest key that was taken. A drop forgets it.
    newest: Option<u64>,
    /// The stamp that was taken last on this connection.
    last_stamp: Option<Stamp>,
}

impl Checks {
    fn new(args: &Probe) -> Result<Self, Failure> {
        let cold_vkey = match &args.cold_verification_key {
            Some(path) => Some(envelope::read_file(path, envelope::read_cold_vkey)?),
            None => None,
        };
        Ok(Self {
            network: network(&args.network)?.unwrap_or(Network::MAINNET),
            cold_vkey,
        })
    }

    /// Checks a received key whole. What is wrong with it is also answered to the agent.
    fn check(&self, received: ReceivedKey) -> Result<Held, String> {
        let ReceivedKey {
            stamp,
            secret,
            evolution,
            opcert,
        } = received;
        if let Some(cold_vkey) = &self.cold_vkey
            && !opcert.is_signed_by(cold_vkey)
        {
            return Err("its certificate is not signed by the given cold key".to_owned());
        }
        let (max, period) = (self.network.max_evolutions, self.current_period());
        if let Err(expired @ OutOfPeriod::Expired { .. }) = opcert.evolution_at(period, max) {
            return Err(expired.to_string());
        }
        let key = SignKey::from_bytes(secret, evolution, &opcert.kes_vkey)
            .map_err(|error| error.to_string())?;
        Ok(Held { key, opcert, stamp })
    }

    fn current_period(&self) -> KesPeriod {
        self.network.period_at(UnixTime::now())
    }
}

impl Held {
    /// Evolves to `period`, signs, verifies. Gives the evolution that signed.
    fn prove(&mut self, period: KesPeriod, checks: &Checks) -> Result<Evolution, String> {
        let evolution = self
            .opcert
            .evolution_at(period, checks.network.max_evolutions)
            .map_err(|error| error.to_string())?;
        self.key
            .evolve_to(evolution)
            .map_err(|error| error.to_string())?;
        let signature = self.key.sign(MESSAGE).map_err(|error| error.to_string())?;
        sum6kes::verify(&self.opcert.kes_vkey, evolution, MESSAGE, &signature)
            .map_err(|error| error.to_string())?;
        Ok(evolution)
    }
}

async fn once(args: &Probe, checks: &Checks) -> Result<Report, Failure> {
    let path = &args.service_address;
    let mut client = ServiceClient::connect(path)
        .await
        .map_err(|error| unreachable(path, &error))?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let message = match timeout_at(deadline, client.next()).await {
        Err(_) => {
            return Err(no_key(format!(
                "The agent served no key within {} s.",
                args.wait
            )));
        }
        Ok(message) => message.map_err(|error| unreachable(path, &error))?,
    };
    let received = match message {
        ServiceMessage::Dropped { .. } => {
            let _ = client.answer(ServiceResult::Ok).await;
            return Err(no_key("the agent says that its key was dropped".to_owned()));
        }
        ServiceMessage::Key(received) => received,
    };
    let served_at = received.evolution;
    let mut held = match checks.check(received) {
        Ok(held) => held,
        Err(reason) => {
            let _ = client.answer(ServiceResult::InvalidOpCert).await;
            return Err(bad_key(&reason));
        }
    };
    // The key has arrived whole: that the agent may not hear so is not the key's fault.
    let _ = client.answer(ServiceResult::Ok).await;
    let period = checks.current_period();
    let evolution = held
        .prove(period, checks)
        .map_err(|reason| bad_key(&reason))?;
    let mut report = Report::new(false)
        .line(format!(
            "Served: key {}, certificate number {}, evolution {served_at}.",
            fingerprint(&held.opcert.kes_vkey),
            held.opcert.counter
        ))
        .line(format!(
            "Signed at period {period}, evolution {evolution}: the signature verifies."
        ))
        .field("kes_verification_key", held.opcert.kes_vkey)
        .field("fingerprint", fingerprint(&held.opcert.kes_vkey))
        .field("counter", held.opcert.counter)
        .field("start_period", held.opcert.start_period)
        .field("current_period", period)
        .field("served_evolution", served_at)
        .field("signed_evolution", evolution)
        .field("stamp", held.stamp.map(|stamp| stamp.0))
        .field("signature_verifies", true)
        .field("certificate_verifies", checks.cold_vkey.map(|_| true));
    if checks.cold_vkey.is_none() {
        report = report.line(
            "The certificate was not checked against a cold key: give --cold-verification-key.",
        );
    }
    Ok(report)
}

/// Stays connected as a node does, until it is stopped.
async fn follow(args: &Probe, checks: &Checks, json: bool) -> Result<Report, Failure> {
    let diary = Diary { json };
    let mut stop = stop_signals()?;
    let mut node = Node::default();
    let mut retry = Duration::from_millis(100);
    loop {
        let mut client = tokio::select! {
            () = stop.wait() => return Ok(diary.end()),
            connected = ServiceClient::connect(&args.service_address) => match connected {
                Ok(client) => client,
                Err(error) => {
                    diary.tell("not-connected", &format!("not connected: {error}"))?;
                    tokio::select! {
                        () = stop.wait() => return Ok(diary.end()),
                        () = sleep(retry) => {}
                    }
                    retry = (retry * 2).min(Duration::from_secs(10));
                    continue;
                }
            },
        };
        retry = Duration::from_millis(100);
        diary.tell("connected", "connected to the agent")?;
        // Another agent, or another clock, may count otherwise.
        node.last_stamp = None;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.wait() => return Ok(diary.end()),
                message = client.next() => match message {
                    Ok(message) => {
                        let answer = node.take(message, checks, &diary)?;
                        if client.answer(answer).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        diary.tell("disconnected", &format!("disconnected: {error}"))?;
                        break;
                    }
                },
                _ = seconds.tick() => if let Some(held) = &mut node.held {
                    sign(held, checks, &diary)?;
                },
            }
        }
    }
}

impl Node {
    /// Takes what the agent sent and gives the answer to it.
    fn take(
        &mut self,
        message: ServiceMessage,
        checks: &Checks,
        diary: &Diary,
    ) -> Result<ServiceResult, Failure> {
        let (what, stamp) = match &message {
            ServiceMessage::Key(received) => ("key", received.stamp),
            ServiceMessage::Dropped { stamp } => ("drop", Some(*stamp)),
        };
        if let (Some(stamp), Some(last)) = (stamp, self.last_stamp)
            && stamp <= last
        {
            let sentence = format!(
                "{what} declined: its stamp, {stamp}, is not newer than {last}, which was taken \
                 before on this connection"
            );
            diary.tell("outdated", &sentence)?;
            return Ok(ServiceResult::KeyOutdated);
        }
        let answer = match message {
            ServiceMessage::Dropped { .. } => {
                (self.held, self.newest) = (None, None);
                diary.tell("dropped", "the key was dropped: not signing any more")?;
                ServiceResult::Ok
            }
            ServiceMessage::Key(received) => self.take_key(received, checks, diary)?,
        };
        if answer == ServiceResult::Ok {
            self.last_stamp = stamp;
        }
        Ok(answer)
    }

    fn take_key(
        &mut self,
        received: ReceivedKey,
        checks: &Checks,
        diary: &Diary,
    ) -> Result<ServiceResult, Failure> {
        let new = match checks.check(received) {
            Ok(new) => new,
            Err(reason) => {
                diary.tell("declined", &format!("key declined: {reason}"))?;
                return Ok(ServiceResult::InvalidOpCert);
            }
        };
        let counter = new.opcert.counter;
        if let Some(newest) = self.newest
            && counter < newest
        {
            let sentence = format!(
                "key declined: it is older, of certificate number {counter}; {newest} was taken \
                 before"
            );
            diary.tell("declined", &sentence)?;
            return Ok(ServiceResult::InvalidOpCert);
        }
        let what = match &self.held {
            Some(held) if held.opcert == new.opcert => "received again:",
            Some(_) => "replaced by",
            None => "received",
        };
        diary.tell(
            "key",
            &format!(
                "key {what} {}, certificate number {counter}, evolution {}",
                fingerprint(&new.opcert.kes_vkey),
                new.key.evolution()
            ),
        )?;
        self.held = Some(new);
        self.newest = Some(counter);
        Ok(ServiceResult::Ok)
    }
}

fn sign(held: &mut Held, checks: &Checks, diary: &Diary) -> Result<(), Failure> {
    let before = held.key.evolution();
    let period = checks.current_period();
    match held.prove(period, checks) {
        Ok(evolution) => {
            if evolution != before {
                diary.tell("evolved", &format!("evolved from {before} to {evolution}"))?;
            }
            diary.tell(
                "signed",
                &format!(
                    "signed with {} at period {period}, evolution {evolution}: verifies",
                    fingerprint(&held.opcert.kes_vkey)
                ),
            )
        }
        Err(reason) => diary.tell("not-signed", &format!("not signed: {reason}")),
    }
}

/// Lines about what happens, for a person or one JSON object a line.
struct Diary {
    json: bool,
}

impl Diary {
    fn tell(&self, event: &str, sentence: &str) -> Result<(), Failure> {
        let now = UnixTime::now();
        let line = if self.json {
            json!({ "time": now, "event": event, "sentence": sentence }).to_string()
        } else {
            format!("{now}  {sentence}")
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")
            .and_then(|()| stdout.flush())
            .map_err(|error| output::unwritable(&error))
    }

    /// What is left to report when the command is stopped: nothing but success.
    fn end(&self) -> Report {
        Report::default()
    }
}

/// SIGINT and SIGTERM: the ways to stop following.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

fn stop_signals() -> Result<StopSignals, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: io::Error| {
        Failure::new(
            Exit::Failure,
            "signals",
            format!("signals cannot be waited for: {error}"),
            "try again",
        )
    };
    Ok(StopSignals {
        interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        terminate: signal(SignalKind::terminate()).map_err(failed)?,
    })
}

impl StopSignals {
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn no_key(sentence: String) -> Failure {
    Failure::new(
        Exit::ProbeFailed,
        "no-key",
        sentence,
        "see `kes-cli status`: a key must be generated, certified and activated",
    )
}

fn bad_key(reason: &str) -> Failure {
    Failure::new(
        Exit::ProbeFailed,
        "bad-key",
        format!("the served key cannot be used: {reason}"),
        "compare the clocks and the genesis files of this program and the agent; see the agent's \
         log",
    )
}

fn unreachable(path: &Path, error: &ServiceClientError) -> Failure {
    let shown = path.display();
    match error {
        ServiceClientError::Connect(connect) => refused_connection(
            &shown,
            connect,
            "start the agent (systemctl start kes-agent), or name its service socket with \
             --service-address or KES_AGENT_SERVICE_PATH",
        ),
        other => Failure::new(
            Exit::ProbeFailed,
            "connection-lost",
            format!("{shown}: {other}"),
            "see the agent's log for why",
        ),
    }
}
