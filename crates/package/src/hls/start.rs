//! Where a viewer wants to begin: `start` in the query of a multivariant playlist or manifest, EXT-X-START in the playlist
//! (draft-pantos-hls-rfc8216bis, section 4.4.2.2).
//!
//! Owns: reading the offset. Does not own: how far back there is something to see ([`crate::window`]).

use std::fmt;

const US_PER_S: i64 = 1_000_000;
/// Decimals of a microsecond; more say nothing.
const DECIMALS: usize = 6;
/// Digits of whole seconds: more are beyond every window, and are as good as the greatest.
const DIGITS_MAX: usize = 9;

/// How long before the end of the stream playback begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Start {
    /// Microseconds, more than 0.
    pub back_us: i64,
}

/// Not a negative decimal number, such as `-120` or `-7.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("start is not a negative decimal number of seconds, such as -120")]
pub struct StartError;

impl Start {
    /// Reads an offset in seconds from the end of the stream.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn parse(text: &str) -> Result<Self, StartError> {
        let seconds = text.strip_prefix('-').ok_or(StartError)?;
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(StartError);
        }
        let whole = whole.trim_start_matches('0');
        let micros: String = fraction
            .chars()
            .chain("000000".chars())
            .take(DECIMALS)
            .collect();
        let number = |digits: &str| digits.parse::<i64>().unwrap_or(0);
        let back_us = match whole.len() {
            0..=DIGITS_MAX => number(whole) * US_PER_S + number(&micros),
            _ => i64::MAX,
        };
        if back_us == 0 {
            return Err(StartError);
        }
        Ok(Self { back_us })
    }

    /// The same, but no earlier than a window of that length begins.
    #[must_use]
    pub fn within(self, window_us: i64) -> Self {
        Self {
            back_us: self.back_us.min(window_us),
        }
    }
}

/// The offset as it was asked for, in seconds.
impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-{}", self.back_us / US_PER_S)?;
        match self.back_us % US_PER_S {
            0 => Ok(()),
            micros => f.write_str(format!(".{micros:06}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_negative_decimals() {
        for (text, expected) in [
            ("-120", Some(120_000_000)),
            ("-7.5", Some(7_500_000)),
            ("-0.000001", Some(1)),
            ("-0007.1234567", Some(7_123_456)),
            ("-999999999", Some(999_999_999_000_000)),
            ("-1000000000", Some(i64::MAX)),
            ("-99999999999999999999999", Some(i64::MAX)),
            ("", None),
            ("-", None),
            ("-0", None),
            ("-0.0000001", None),
            ("120", None),
            ("+120", None),
            ("--1", None),
            ("-1.", None),
            ("-.5", None),
            ("-1.5.2", None),
            ("-1e3", None),
            ("-inf", None),
            ("-1 ", None),
            ("-\u{664}", None),
        ] {
            let parsed = Start::parse(text).ok().map(|start| start.back_us);
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn offsets_are_written_as_they_are_read() {
        for text in ["-120", "-7.5", "-0.000001", "-20.05", "-1000"] {
            let start = Start::parse(text).expect("valid");
            assert_eq!(start.to_string(), text);
        }
    }

    #[test]
    fn no_earlier_than_the_window() {
        let start = Start::parse("-120").expect("valid");
        assert_eq!(start.within(50_000_000).back_us, 50_000_000);
        assert_eq!(start.within(500_000_000), start);
    }
}
