//! Exit codes: part of the interface, documented in `kes-cli --help` and in the operators' guide.

use kes_wire::protocol::control::rotation::RefusalCode;

/// What the exit status of a command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or found done already.
    Success = 0,
    /// A fault that has no code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The agent cannot be reached.
    NotReachable = 3,
    /// The agent's socket, or a file, may not be used by this user.
    NotPermitted = 4,
    /// There is nothing pending, imported or active to act on.
    NothingThere = 5,
    /// A key or certificate waits already, and replacing it was not asked for.
    AlreadyPending = 6,
    /// The certificate is not valid for this pool and key.
    CertificateInvalid = 7,
    /// The certificate's counter is too low.
    CounterTooLow = 8,
    /// The certificate, or the served key, is out of its period.
    OutOfPeriod = 9,
    /// The agent or this program does not support it.
    NotSupported = 10,
    /// A file cannot be read or written, or is not what was wanted.
    File = 11,
    /// The probe found no key, or one that does not sign as it should.
    ProbeFailed = 12,
    /// The agent leaves alone what it kept over a restart, and does nothing.
    KeptUnread = 13,
}

/// The table that `--help` shows.
pub(crate) const HELP: &str = "\
Exit codes:
   0  done, or found done already
   1  failed in a way that has no code of its own
   2  the command line is wrong
   3  the agent cannot be reached
   4  not permitted (socket or file)
   5  nothing is pending, imported or active
   6  a key or certificate is pending already
   7  the certificate is not valid for this pool and key
   8  the certificate's counter is too low
   9  out of its period (expired)
  10  not supported
  11  a file cannot be read or written, or is not what was wanted
  12  the probe found no key, or one that does not sign
  13  the agent leaves alone what it kept over a restart (a newer version's, or another pool's)";

/// The table that `check --help` shows.
pub(crate) const CHECK_HELP: &str = "\
Exit codes, as Nagios and the monitors like it have them:
   0  OK: a key is served and does not expire soon, nodes and peers are connected
   1  WARNING: expires within --warn; no node, or one that has not confirmed; a peer is down; a
      protection is not in force; the agent wants something attended to
   2  CRITICAL: expires within --crit; expired, dropped or no key; the agent cannot be reached or
      does not answer
   3  UNKNOWN: the agent may not be asked, is not understood, or the command line is wrong

A key that is scheduled counts as the end of what is served, unless it begins too late.";

impl From<&RefusalCode> for Exit {
    fn from(code: &RefusalCode) -> Self {
        match code {
            RefusalCode::AlreadyPending | RefusalCode::AlreadyImported | RefusalCode::Scheduled => {
                Self::AlreadyPending
            }
            RefusalCode::NothingPending
            | RefusalCode::NothingImported
            | RefusalCode::NothingActive => Self::NothingThere,
            RefusalCode::OtherKesKey | RefusalCode::OtherColdKey | RefusalCode::BadSignature => {
                Self::CertificateInvalid
            }
            RefusalCode::CounterTooLow => Self::CounterTooLow,
            RefusalCode::Expired => Self::OutOfPeriod,
            RefusalCode::NotUnderstood => Self::NotSupported,
            RefusalCode::KeptUnread => Self::KeptUnread,
            RefusalCode::NoLockedMemory | RefusalCode::Internal | RefusalCode::Other(_) => {
                Self::Failure
            }
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFICATION: &str = include_str!("../../spec/commands.md");

    /// The rows of the table below this head.
    fn rows(head: &str) -> Vec<(&'static str, &'static str)> {
        let (_, table) = SPECIFICATION.split_once(head).expect("the table");
        table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
            .map(|row| row.split_once(" | ").expect("two columns"))
            .collect()
    }

    #[test]
    fn the_specification_has_the_codes_of_the_help() {
        let specified: Vec<String> = rows("| code | meaning |")
            .iter()
            .map(|(code, meaning)| format!("{code:>4}  {meaning}"))
            .collect();
        let shown: Vec<&str> = HELP.lines().skip(1).collect();
        assert_eq!(specified, shown);
        assert_eq!(Exit::KeptUnread as usize + 1, shown.len());
    }

    #[test]
    fn every_refusal_ends_with_the_specified_code() {
        let rows = rows("| name of the failure | code |");
        for code in RefusalCode::ALL {
            let name = format!("`{code}`");
            let specified: Vec<&str> = rows
                .iter()
                .filter(|(names, _)| names.split(", ").any(|one| one == name))
                .map(|(_, exit)| *exit)
                .collect();
            assert_eq!(specified, [(Exit::from(code) as u8).to_string()], "{name}");
        }
        let of_a_later_agent = RefusalCode::from_name("moon-is-full");
        assert_eq!(Exit::from(&of_a_later_agent), Exit::Failure);
    }
}
