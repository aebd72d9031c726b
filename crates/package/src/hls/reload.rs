//! Delivery directives: what a player that reloads a media playlist asks for, and when it is answered
//! (draft-pantos-hls-rfc8216bis, section 6.2.5; CONFORMANCE 2.2).
//!
//! Owns: reading `_HLS_msn`, `_HLS_part` and `_HLS_skip`, and whether what they ask for is there, will come, or is too
//! far away to wait for. Does not own: waiting.

use crate::window::{Rendition, Snapshot};

/// The greatest number that players can hold: they may be written in JavaScript.
const NUMBER_MAX: u64 = 1 << 53;
/// How far ahead of the newest complete segment a request may be (section 6.2.5.2).
const SEGMENTS_AHEAD_MAX: u64 = 2;
/// How much media beyond the newest part may be asked for, microseconds, and how many parts at least: the Advance Part
/// Limit (section 6.2.5.2).
const PARTS_AHEAD_US: i64 = 3_000_000;
const PARTS_AHEAD_MIN: u64 = 3;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reload {
    /// A playlist that holds this, or the present one.
    pub at: Option<At>,
    /// A delta update will do.
    pub skip: bool,
}

/// A place in a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Media sequence number.
    pub msn: u64,
    /// A part of that segment; the whole segment without.
    pub part: Option<u64>,
}

/// Why a request makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// Not a decimal number up to 2^53.
    #[error("{0} is not a decimal number")]
    NotANumber(&'static str),
    /// The same directive twice.
    #[error("{0} stands there twice")]
    Repeated(&'static str),
    /// A part of no segment.
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutSegment,
}

/// When a request is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With the present playlist.
    Now,
    /// When there is more.
    Later,
    /// Never: it lies too far in the future, so the player and the server do not mean the same stream.
    TooFar,
}

impl Reload {
    /// Reads the directives in a query. Others that begin with `_HLS_` and values of `_HLS_skip` that are not known are
    /// left to later versions of the protocol.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn parse(query: &str) -> Result<Self, ReloadError> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "_HLS_msn" => set(&mut msn, "_HLS_msn", number("_HLS_msn", value)?)?,
                "_HLS_part" => set(&mut part, "_HLS_part", number("_HLS_part", value)?)?,
                "_HLS_skip" => set(&mut skip, "_HLS_skip", matches!(value, "YES" | "v2"))?,
                _ => {}
            }
        }
        let at = match (msn, part) {
            (Some(msn), part) => Some(At { msn, part }),
            (None, None) => None,
            (None, Some(_)) => return Err(ReloadError::PartWithoutSegment),
        };
        Ok(Self {
            at,
            skip: skip.unwrap_or(false),
        })
    }
}

fn set<T>(known: &mut Option<T>, key: &'static str, value: T) -> Result<(), ReloadError> {
    match known.replace(value) {
        None => Ok(()),
        Some(_) => Err(ReloadError::Repeated(key)),
    }
}

fn number(key: &'static str, digits: &str) -> Result<u64, ReloadError> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok()).flatten();
    number
        .filter(|&number| number <= NUMBER_MAX)
        .ok_or(ReloadError::NotANumber(key))
}

impl At {
    /// When a request for this place in a rendition is to be answered.
    #[must_use]
    pub fn answer(self, snapshot: &Snapshot, rendition: &Rendition) -> Answer {
        let newest = rendition.segments.back().map(|segment| segment.msn);
        let (Some(newest), false) = (newest, snapshot.ended) else {
            return Answer::Now;
        };
        let Self { msn, part } = self.normal(rendition);
        if msn <= newest {
            return Answer::Now;
        }
        let open = rendition.open.as_ref().filter(|open| open.msn == msn);
        let parts = open.map_or(0, |open| open.parts.len() as u64);
        match part {
            _ if msn > newest + SEGMENTS_AHEAD_MAX => Answer::TooFar,
            Some(part) if part < parts => Answer::Now,
            Some(part) if part >= parts + parts_ahead(snapshot.part_target_us) => Answer::TooFar,
            Some(_) | None => Answer::Later,
        }
    }

    /// A part beyond the last one of a complete segment is the first one of the segment after it.
    fn normal(self, rendition: &Rendition) -> Self {
        let complete = rendition.segment(self.msn);
        match (self.part, complete) {
            (Some(part), Some(segment)) if part >= segment.parts.len() as u64 => Self {
                msn: self.msn + 1,
                part: Some(0),
            },
            _ => self,
        }
    }

    /// Whether a request for the part of this place itself, which a playlist has announced, waits for it.
    #[must_use]
    pub fn is_announced(self, rendition: &Rendition) -> bool {
        rendition
            .open
            .as_ref()
            .is_some_and(|open| open.msn == self.msn && self.part == Some(open.parts.len() as u64))
    }
}

fn parts_ahead(part_target_us: i64) -> u64 {
    let parts = (PARTS_AHEAD_US + part_target_us - 1) / part_target_us.max(1);
    u64::try_from(parts).unwrap_or(0).max(PARTS_AHEAD_MIN)
}
