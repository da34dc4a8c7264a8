//! The requirements on a client of the control socket: the kit starts its commands one by one, and
//! is the agent for them.

mod answers;
mod deployed;
mod handshake;
mod rotation;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ciborium::Value;
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::keys::Certificate;
use super::report::{Report, row};
use super::wire::{PATIENCE, Wire, accept, id, offer};
use super::{Check, Found, broken, does_not_apply, hold};

/// What stands in a command for the file with a certificate.
const OPCERT: &str = "OPCERT";

/// Every control version, the best first.
const VERSIONS: [&str; 5] = [
    ROTATION,
    "Control:3.0",
    "Control:2.0",
    "Control:1.0",
    "Control:StandardCrypto:0.5",
];
const ROTATION: &str = "Control:Rotation:1.0";

/// The commands of the client under test, for a shell.
pub struct Options {
    /// The socket that the commands connect to.
    pub listen: PathBuf,
    /// Asks for the state: status, info.
    pub status: String,
    /// Generates a key.
    pub generate: Option<String>,
    /// Installs the generated key with the certificate in the file OPCERT.
    pub install: Option<String>,
    /// Drops the active key.
    pub drop_active: Option<String>,
    /// These requirements alone, where there are any.
    pub only: Vec<String>,
}

/// A client under test.
pub struct Scene {
    options: Options,
    listener: UnixListener,
    folder: TempDir,
    certificate: Certificate,
}

/// A command that has ended.
struct Ended {
    is_success: bool,
    /// What it has said, on standard output and standard error.
    said: String,
}

impl Ended {
    fn succeeds(&self, what: &str) -> Found {
        hold(self.is_success, format!("{what}: the command fails"))
    }

    fn fails(&self, what: &str) -> Found {
        hold(!self.is_success, format!("{what}: the command succeeds"))
    }
}

/// A command that runs.
struct Running {
    child: Child,
    said: File,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scene {
    fn start(&self, command: &str) -> Found<Running> {
        let command = command.replace(OPCERT, &self.opcert_file().display().to_string());
        let said = tempfile::tempfile()?;
        // What is killed is the command, not a shell around it, where it is one command.
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said.try_clone()?)
            .spawn()?;
        Ok(Running { child, said })
    }

    fn opcert_file(&self) -> PathBuf {
        self.folder.path().join("opcert.cert")
    }

    /// Waits until the command ends. Attempts to connect again come to nothing.
    fn ends(&self, mut running: Running) -> Found<Ended> {
        let end = Instant::now() + 2 * PATIENCE;
        let status = loop {
            if let Some(status) = running.child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                return broken("the command does not end");
            }
            drop(self.listener.accept());
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        running.said.rewind()?;
        running.said.read_to_string(&mut said)?;
        Ok(Ended {
            is_success: status.success(),
            said,
        })
    }

    /// Runs a command, and does this on its connection, before any handshake.
    fn connected(&self, command: &str, play: impl FnOnce(&Wire) -> Found) -> Found<Ended> {
        let running = self.start(command)?;
        let wire = accept(&self.listener, PATIENCE, "the command does not connect")?;
        play(&wire)?;
        drop(wire);
        self.ends(running)
    }

    /// Runs a command, and does this after the handshake in the one version that is offered.
    fn settled(
        &self,
        command: &str,
        version: &str,
        play: impl FnOnce(&Wire) -> Found,
    ) -> Found<Ended> {
        self.connected(command, |wire| {
            wire.send(&offer(&[id(version)]))?;
            if wire.read(1)?[0] != 1 {
                return does_not_apply(format!("the client does not speak {version}"));
            }
            // Which id it repeats is the check of HS-6.
            wire.read(32 + 32)?;
            play(wire)
        })
    }

    fn status(&self) -> &str {
        &self.options.status
    }

    fn generate(&self) -> Found<&str> {
        given(self.options.generate.as_deref(), "--generate")
    }

    fn install(&self) -> Found<&str> {
        given(self.options.install.as_deref(), "--install")
    }

    fn drop_active(&self) -> Found<&str> {
        given(self.options.drop_active.as_deref(), "--drop-active")
    }
}

fn given<'a>(command: Option<&'a str>, name: &str) -> Found<&'a str> {
    let missing = || does_not_apply(format!("no {name} was given"));
    command.map_or_else(missing, Ok)
}

/// The checks, in the order in which they are tried.
#[must_use]
pub fn checks() -> Vec<Check<Scene>> {
    [handshake::checks(), rotation::checks(), deployed::checks()]
        .into_iter()
        .flatten()
        .collect()
}

/// Tries every requirement on a client of the control socket.
///
/// # Errors
/// Where the kit cannot listen or write the certificate's file.
pub fn run(options: Options) -> io::Result<Report> {
    let cold = SigningKey::from_bytes(&[9; 32]);
    let certificate = Certificate::issue(&cold, answers::VKEY, 5, answers::PERIOD);
    let listener = UnixListener::bind(&options.listen)?;
    listener.set_nonblocking(true)?;
    let scene = Scene {
        options,
        listener,
        folder: tempfile::tempdir()?,
        certificate,
    };
    let file = opcert_text(&certificate, &cold);
    std::fs::write(scene.opcert_file(), file)?;
    let only = &scene.options.only;
    let rows = checks()
        .iter()
        .filter(|check| only.is_empty() || only.iter().any(|id| id == check.id))
        .map(|check| row(check, &scene))
        .collect();
    let _ = std::fs::remove_file(&scene.options.listen);
    Ok(Report::complete("control client", rows))
}

/// A certificate's file, as cardano-cli writes it.
fn opcert_text(certificate: &Certificate, cold: &SigningKey) -> String {
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let content = Value::Array(vec![
        Value::Array(vec![
            bytes(&certificate.vkey),
            Value::Integer(certificate.counter.into()),
            Value::Integer(certificate.start.into()),
            bytes(&certificate.signature),
        ]),
        bytes(cold.verifying_key().as_bytes()),
    ]);
    let mut cbor = Vec::new();
    let _ = ciborium::into_writer(&content, &mut cbor);
    serde_json::json!({
        "type": "NodeOperationalCertificate", "description": "", "cborHex": hex::encode(cbor),
    })
    .to_string()
}
