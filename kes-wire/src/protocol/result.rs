//! Results: what a node says to a key, and a deployed agent to a command.
//!
//! The same codes on both sockets, but a u32 on the service socket and a u16 on the control
//! socket, and another number for "unknown".

use core::fmt;

/// What became of a key or a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultCode {
    /// Taken.
    Ok,
    /// Not newer than what is there, or a counter below it.
    KeyOutdated,
    /// The certificate is not valid.
    InvalidOpCert,
    /// There is no key.
    NoKey,
    /// This is not done there.
    UnsupportedOperation,
    /// Anything else.
    Unknown,
}

impl ResultCode {
    /// The number on the service socket.
    #[must_use]
    pub fn to_u32(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::KeyOutdated => 1,
            Self::InvalidOpCert => 2,
            Self::NoKey => 3,
            Self::UnsupportedOperation => 4,
            Self::Unknown => 0xffff,
        }
    }

    /// The number on the control socket.
    #[must_use]
    pub fn to_u16(self) -> u16 {
        match self {
            Self::Ok => 0,
            Self::KeyOutdated => 1,
            Self::InvalidOpCert => 2,
            Self::NoKey => 3,
            Self::UnsupportedOperation => 4,
            Self::Unknown => 5,
        }
    }

    /// The result of a number of either socket; an unassigned one is unknown.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::KeyOutdated,
            2 => Self::InvalidOpCert,
            3 => Self::NoKey,
            4 => Self::UnsupportedOperation,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::KeyOutdated => "key outdated",
            Self::InvalidOpCert => "invalid certificate",
            Self::NoKey => "no key",
            Self::UnsupportedOperation => "unsupported operation",
            Self::Unknown => "unknown result",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_same_on_both_sockets_but_for_the_unknown_one() {
        for number in 0..=4 {
            let code = ResultCode::from_number(number);
            assert_eq!(code.to_u32(), number);
            assert_eq!(u32::from(code.to_u16()), number);
        }
        assert_eq!(ResultCode::Unknown.to_u32(), 0xffff);
        assert_eq!(ResultCode::Unknown.to_u16(), 5);
        for number in [5, 0xffff, u32::MAX] {
            assert_eq!(ResultCode::from_number(number), ResultCode::Unknown);
        }
    }
}
