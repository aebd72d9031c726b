//! The one validator of stream names (CONTRACT 1.1).
//!
//! Owns: what a public stream name may be. Every protocol passes names through here, at its edge, after one
//! percent-decoding; nothing is ever cleaned up, only accepted or refused.

use std::{borrow::Borrow, fmt, sync::Arc};

/// Longest name in bytes. It bounds URLs, metric labels and registry keys.
const NAME_LEN_MAX: usize = 128;

/// A public stream name: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// Why a name was refused. The text never repeats the name: it may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the stream name is empty")]
    Empty,
    /// Longer than [`NAME_LEN_MAX`].
    #[error("the stream name is longer than {NAME_LEN_MAX} bytes")]
    TooLong,
    /// A byte outside the allowed set, or a leading one that is not a letter or digit.
    #[error(
        "the stream name may hold only A-Z a-z 0-9 . _ - and starts with a letter or digit; position {0} does not"
    )]
    Forbidden(usize),
}

impl StreamName {
    /// Accepts `name` when it is a valid stream name. `name` is already percent-decoded.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong);
        }
        let allowed = |(at, byte): (usize, u8)| {
            byte.is_ascii_alphanumeric() || (at > 0 && matches!(byte, b'.' | b'_' | b'-'))
        };
        match name.bytes().enumerate().find(|&pair| !allowed(pair)) {
            Some((at, _)) => Err(NameError::Forbidden(at)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_slugs() {
        for name in [
            "demo",
            "room_test123",
            "A",
            "0",
            "a.b-c_d",
            "a..b",
            &"x".repeat(128),
        ] {
            assert_eq!(
                StreamName::parse(name).map(|n| n.to_string()),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn refuses_everything_that_could_be_a_path_or_markup() {
        check("", NameError::Empty);
        check(&"x".repeat(129), NameError::TooLong);
        check(&"x".repeat(4096), NameError::TooLong);
        for name in ["..", ".hidden", "-rf", "_x", "/abs", "~root"] {
            check(name, NameError::Forbidden(0));
        }
        for name in [
            "a/b",
            "a\\b",
            "a%2e",
            "a\0",
            "a\n",
            "a b",
            "a:b",
            "a?b",
            "a#b",
            "a<b",
            "a\u{2024}",
        ] {
            check(name, NameError::Forbidden(1));
        }
    }

    fn check(name: &str, expected: NameError) {
        assert_eq!(StreamName::parse(name), Err(expected), "{name:?}");
    }
}
