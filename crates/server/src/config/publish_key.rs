//! Publish keys: who may publish which stream.
//!
//! Owns: what a key may be, and comparing one that a publisher shows. Only digests are kept, so nothing that is
//! printed can leak a key. Does not own: how a key travels in a protocol, and what a refusal costs there.

use std::{collections::BTreeMap, fmt};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use weir_media::StreamName;

/// Shortest key: below it, trying all of them is too cheap.
const KEY_LEN_MIN: usize = 8;

/// Longest key: it has to fit a stream name field of an encoder.
const KEY_LEN_MAX: usize = 128;

/// What documentation prints in place of a key, without digits and punctuation.
const PLACEHOLDERS: [&str; 10] = [
    "secret",
    "password",
    "placeholder",
    "example",
    "streamkey",
    "publishkey",
    "secretkey",
    "token",
    "apitoken",
    "secrettoken",
];

/// As [`PLACEHOLDERS`], whatever follows.
const PLACEHOLDER_PREFIXES: [&str; 7] = [
    "changeme",
    "yoursecret",
    "yourpassword",
    "yourkey",
    "yourstreamkey",
    "yourtoken",
    "yourapitoken",
];

/// The digest of one publish key. Printing it prints `***`.
#[derive(Clone)]
pub struct PublishKey([u8; 32]);

/// The publish keys by the stream that each one may publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishKeys(BTreeMap<StreamName, PublishKey>);

/// Why a key was refused. The text never repeats the key; it continues a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishKeyError {
    /// Shorter or longer than a key may be, or not text at all.
    #[error(
        "has to be {KEY_LEN_MIN} to {KEY_LEN_MAX} characters long; openssl rand -hex 16 makes one"
    )]
    Length,
    /// A character that does not survive in `name?key=<key>`.
    #[error("may hold only A-Z a-z 0-9 . _ ~ and -, which need no escape in a URL")]
    Forbidden,
    /// A text that documentation shows in place of a key, so that everybody knows it.
    #[error("is a placeholder; openssl rand -hex 16 makes a key that nobody knows")]
    Placeholder,
}

/// Two streams have the same key, so that the key alone could not find its stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} and {1:?} have the same key; the key alone has to find its stream")]
pub struct SharedKey(StreamName, StreamName);

impl PublishKey {
    /// The key that `text` is.
    pub fn new(text: &str) -> Result<Self, PublishKeyError> {
        if !(KEY_LEN_MIN..=KEY_LEN_MAX).contains(&text.len()) {
            return Err(PublishKeyError::Length);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if !text.bytes().all(plain) {
            return Err(PublishKeyError::Forbidden);
        }
        if is_placeholder(text) {
            return Err(PublishKeyError::Placeholder);
        }
        Ok(Self::digest(text))
    }

    /// Whether `shown` is this key. Takes the same time for every wrong one.
    #[must_use]
    pub fn matches(&self, shown: &str) -> bool {
        *self == Self::digest(shown)
    }

    /// The digest under which a key is kept; it tells publishers apart without being the key.
    #[must_use]
    pub fn id(shown: &str) -> [u8; 32] {
        Self::digest(shown).0
    }

    fn digest(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// In constant time, as the digests of guesses are compared here.
impl PartialEq for PublishKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PublishKey {}

impl fmt::Debug for PublishKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for PublishKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PublishKeys {
    /// Lets `key` publish `name`, in place of the key it had.
    pub fn insert(&mut self, name: StreamName, key: PublishKey) -> Result<(), SharedKey> {
        if let Some((other, _)) = self
            .0
            .iter()
            .find(|(other, held)| **other != name && **held == key)
        {
            return Err(SharedKey(other.clone(), name));
        }
        self.0.insert(name, key);
        Ok(())
    }

    /// Whether nobody may publish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The streams that have a key.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(StreamName::as_str)
    }

    /// Whether `shown` lets a publisher publish `name` (`<name>?key=<secret>`). An unknown name takes as long as a
    /// wrong key.
    #[must_use]
    pub fn allow(&self, name: &StreamName, shown: &str) -> bool {
        let shown = PublishKey::digest(shown);
        self.0.get(name).is_some_and(|key| *key == shown)
    }

    /// The stream whose key `shown` is (the bare secret in place of a name). Looks at every key, so that the time
    /// tells nothing.
    #[must_use]
    pub fn find(&self, shown: &str) -> Option<&StreamName> {
        let shown = PublishKey::digest(shown);
        let keys = self.0.iter();
        keys.fold(
            None,
            |found, (name, key)| if *key == shown { Some(name) } else { found },
        )
    }
}

fn is_placeholder(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    let letters = letters.to_ascii_lowercase();
    let repeated = text.bytes().all(|byte| text.bytes().next() == Some(byte));
    repeated
        || PLACEHOLDERS.contains(&letters.as_str())
        || PLACEHOLDER_PREFIXES
            .iter()
            .any(|prefix| letters.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_weak_keys() {
        for (text, expected) in [
            ("", PublishKeyError::Length),
            ("short-7", PublishKeyError::Length),
            ("secret", PublishKeyError::Length),
            (&"x".repeat(129), PublishKeyError::Length),
            ("with space", PublishKeyError::Forbidden),
            ("a&b=c+d%41", PublishKeyError::Forbidden),
            ("changeme", PublishKeyError::Placeholder),
            ("Change-Me-Please", PublishKeyError::Placeholder),
            ("password", PublishKeyError::Placeholder),
            ("password123", PublishKeyError::Placeholder),
            ("secret_1", PublishKeyError::Placeholder),
            ("your-secret-key", PublishKeyError::Placeholder),
            ("your-secret-key-here", PublishKeyError::Placeholder),
            ("xxxxxxxxxxxx", PublishKeyError::Placeholder),
        ] {
            assert_eq!(PublishKey::new(text), Err(expected), "{text}");
        }
        for text in [
            "0123abcd",
            "secret-garden-41",
            &"xy".repeat(64),
            "e4d909c290d0fb1ca068ffaddf22cbd0",
        ] {
            assert!(PublishKey::new(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_key_opens_its_stream_only() {
        let keys = keys(&[("demo", "demo-key-1"), ("other", "other-key-2")]);
        assert!(keys.allow(&stream("demo"), "demo-key-1"));
        for (name, shown) in [
            ("demo", "other-key-2"),
            ("demo", "demo-key-"),
            ("demo", "demo-key-11"),
            ("demo", ""),
            ("third", "demo-key-1"),
        ] {
            assert!(!keys.allow(&stream(name), shown), "{name} {shown}");
        }
        assert_eq!(keys.find("other-key-2"), Some(&stream("other")));
        assert_eq!(keys.find("nobody-has-it"), None);
    }

    #[test]
    fn two_streams_may_not_share_a_key() {
        let mut keys = keys(&[("demo", "demo-key-1")]);
        let key = PublishKey::new("demo-key-1").expect("valid");
        assert!(keys.insert(stream("other"), key.clone()).is_err());
        assert_eq!(keys.insert(stream("demo"), key), Ok(()));
    }

    #[test]
    fn printing_masks() {
        let keys = keys(&[("demo", "demo-key-1")]);
        assert_eq!(format!("{keys:?}"), "PublishKeys({\"demo\": ***})");
        assert_eq!(
            PublishKey::new("demo-key-1").expect("valid").to_string(),
            "***"
        );
    }

    fn keys(pairs: &[(&str, &str)]) -> PublishKeys {
        let mut keys = PublishKeys::default();
        for (name, key) in pairs {
            keys.insert(stream(name), PublishKey::new(key).expect("valid"))
                .expect("distinct");
        }
        keys
    }

    fn stream(name: &str) -> StreamName {
        StreamName::parse(name).expect("valid")
    }
}
