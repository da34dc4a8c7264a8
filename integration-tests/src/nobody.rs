//! Programs run by another user than root, who may lock so much memory and no more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pool::{Pool, TestNetwork, program};

/// The user's and the group's number.
const NOBODY: u32 = 65_534;
/// Programs that are put where another user finds them.
const PROGRAMS: [&str; 4] = [
    "kes-agent",
    "kes-agent-for-tests",
    "kes-cli",
    "without-calls",
];

/// Whether this process may become another user: root may.
#[must_use]
pub fn may_become() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        crate::shared::skipped("only root can become another user");
    }
    is_root
}

/// A pool whose folder, files and programs another user can use.
///
/// # Panics
/// Where its files cannot be made or handed over.
#[must_use]
pub fn pool() -> Pool {
    let pool = Pool::new(TestNetwork::default());
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
    };
    for name in PROGRAMS {
        fs::copy(program(name), pool.path(name)).expect("a copy of a program");
        open(&pool.path(name), 0o755);
    }
    for name in ["genesis.json", "cold.vkey"] {
        open(&pool.path(name), 0o644);
    }
    std::os::unix::fs::chown(pool.path("."), Some(NOBODY), Some(NOBODY)).expect("root gives away");
    open(&pool.path("."), 0o755);
    pool
}

/// The command as another user.
#[must_use]
pub fn by(mut command: Command) -> Command {
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// The command, which runs a program of the project, as another user who may lock so much memory.
///
/// # Panics
/// Where the command runs something else.
#[must_use]
pub fn by_limited(pool: &Pool, lock_kib: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit -l {lock_kib} && exec \"$@\""))
        .arg("sh");
    // The program, and the one that it is to run.
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        let name = Path::new(word).file_name().and_then(|name| name.to_str());
        match name.filter(|name| PROGRAMS.contains(name)) {
            Some(name) => limited.arg(pool.path(name)),
            None => limited.arg(word),
        };
    }
    limited.current_dir(pool.path(".")).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        limited.env(name, value.expect("a value"));
    }
    by(limited)
}
