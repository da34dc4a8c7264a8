//! `kes-cli status --watch`: the agent's state, drawn anew every second until Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use kes_wire::protocol::control::rotation::Request;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{Signal as Incoming, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::status::lines;
use super::{block_on, call_async};
use crate::arguments::Agent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Report};
use crate::screen::{self, ENTER, LEAVE, Size};

const EVERY: Duration = Duration::from_secs(1);

/// Shows the state until it is told to stop, which is no failure.
pub(crate) fn watch(agent: &Agent) -> Result<Report, Failure> {
    block_on(follow(agent))??;
    Ok(Report::new(false))
}

async fn follow(agent: &Agent) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| {
        Failure::new(
            Exit::Failure,
            "no-signals",
            format!("signals cannot be waited for: {error}"),
            "check the limits on open files and try again",
        )
    })?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let view = View::new();
    let mut shown = Vec::new();
    loop {
        let event = tokio::select! {
            _ = ticks.tick() => {
                tokio::select! {
                    answer = now_lines(agent) => {
                        shown = answer;
                        Event::Draw
                    }
                    event = signals.next() => event,
                }
            }
            event = signals.next() => event,
        };
        let drawn = match event {
            Event::Draw => view.draw(&shown),
            Event::Suspend => view.suspend(),
            Event::End => break,
        };
        match drawn {
            Ok(()) => {}
            // Nobody reads any more, as after `| head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(output::unwritable(&error)),
        }
    }
    Ok(())
}

/// What is to be seen now: the state, or why there is none.
async fn now_lines(agent: &Agent) -> Vec<String> {
    match call_async(agent, &Request::Status {}).await {
        Ok(outcome) => lines(outcome).unwrap_or_else(|failure| of_failure(&failure)),
        Err(failure) => of_failure(&failure),
    }
}

fn of_failure(failure: &Failure) -> Vec<String> {
    vec![
        format!("Error     {}", failure.sentence),
        format!("Next      {}", failure.next_step),
        "          (asked again every second)".to_owned(),
    ]
}

/// What is to be done now.
enum Event {
    Draw,
    Suspend,
    End,
}

struct Signals {
    interrupt: Incoming,
    terminate: Incoming,
    hangup: Incoming,
    suspend: Incoming,
    resized: Incoming,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.interrupt.recv() => Event::End,
            _ = self.terminate.recv() => Event::End,
            _ = self.hangup.recv() => Event::End,
            _ = self.suspend.recv() => Event::Suspend,
            _ = self.resized.recv() => Event::Draw,
        }
    }
}

/// Where the lines go. A terminal is given back as it was, on every way out.
enum View {
    /// A terminal, drawn over in place.
    Terminal,
    /// A file or a pipe: one status after the other.
    Plain,
}

impl View {
    fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if !io::stdout().is_terminal() || is_dumb {
            return Self::Plain;
        }
        // Where this fails, so does the first drawing.
        let _ = put(ENTER);
        Self::Terminal
    }

    fn draw(&self, lines: &[String]) -> io::Result<()> {
        match self {
            Self::Terminal => put(&screen::frame(lines, size())),
            Self::Plain => put(&format!("{}\n\n", lines.join("\n"))),
        }
    }

    /// Stops the program as Ctrl-Z does, with the terminal given back meanwhile.
    fn suspend(&self) -> io::Result<()> {
        if matches!(self, Self::Terminal) {
            put(LEAVE)?;
        }
        kill_process(getpid(), Signal::STOP)?;
        // Here it has been continued.
        match self {
            Self::Terminal => put(ENTER),
            Self::Plain => Ok(()),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if matches!(self, Self::Terminal) {
            // Where the terminal is gone there is nothing to give back.
            let _ = put(LEAVE);
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn size() -> Size {
    let known = rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(
        Size {
            columns: 80,
            rows: 24,
        },
        |size| Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        },
    )
}
