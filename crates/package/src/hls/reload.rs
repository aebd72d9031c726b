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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        fixture::{BEGINS_S, Packaged, S, Source, ordinary},
        hls::{Form, media},
        name::part_name,
    };

    fn at(msn: u64, part: Option<u64>) -> At {
        At { msn, part }
    }

    #[test]
    fn directives_are_read_or_refused() {
        use ReloadError::{NotANumber, PartWithoutSegment, Repeated};
        let ok = |at, skip| Ok(Reload { at, skip });
        for (query, expected) in [
            ("", ok(None, false)),
            ("hls_ctx=5", ok(None, false)),
            ("_HLS_msn=5", ok(Some(at(5, None)), false)),
            ("_HLS_msn=5&_HLS_part=0", ok(Some(at(5, Some(0))), false)),
            (
                "_HLS_part=2&a=b&_HLS_msn=5",
                ok(Some(at(5, Some(2))), false),
            ),
            ("_HLS_skip=YES", ok(None, true)),
            ("_HLS_skip=v2&_HLS_msn=5", ok(Some(at(5, None)), true)),
            ("_HLS_skip=no", ok(None, false)),
            ("_HLS_skip", ok(None, false)),
            ("_HLS_later=1&_HLS_later=2", ok(None, false)),
            (
                "_HLS_msn=9007199254740992",
                ok(Some(at(1 << 53, None)), false),
            ),
            ("_HLS_msn=9007199254740993", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=99999999999999999999", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=-1", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=+1", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=0x1", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=1.5", Err(NotANumber("_HLS_msn"))),
            ("_HLS_msn=5&_HLS_part=a", Err(NotANumber("_HLS_part"))),
            ("_HLS_msn=5&_HLS_msn=5", Err(Repeated("_HLS_msn"))),
            (
                "_HLS_msn=5&_HLS_part=1&_HLS_part=2",
                Err(Repeated("_HLS_part")),
            ),
            ("_HLS_skip=YES&_HLS_skip=YES", Err(Repeated("_HLS_skip"))),
            ("_HLS_part=1", Err(PartWithoutSegment)),
        ] {
            assert_eq!(Reload::parse(query), expected, "{query}");
        }
    }

    /// The table of CONFORMANCE 2.2, where M is the newest complete segment, of six parts, and of the next one the
    /// parts 0 and 1 are there.
    #[test]
    fn l_requests_are_answered_now_later_or_never() {
        use Answer::{Later, Now, TooFar};
        let packaged = Packaged::of(&ordinary(20 * S + 800_000, 50), Source::Whole);
        let snapshot = packaged.snapshot();
        let video = snapshot.rendition("video").expect("it is there");
        let newest = video.segments.back().expect("a segment").msn;
        let open = video.open.as_ref().expect("an open segment");
        assert_eq!((open.msn, open.parts.len()), (newest + 1, 2));
        assert_eq!(video.segments.back().map(|last| last.parts.len()), Some(7));
        for (msn, part, expected) in [
            (0, None, Now),
            (0, Some(0), Now),
            (BEGINS_S, Some(99), Now),
            (newest, None, Now),
            (newest, Some(6), Now),
            // Beyond its last part: the first one of the segment after it.
            (newest, Some(7), Now),
            (newest + 1, None, Later),
            (newest + 1, Some(0), Now),
            (newest + 1, Some(1), Now),
            (newest + 1, Some(2), Later),
            (newest + 1, Some(10), Later),
            (newest + 1, Some(11), TooFar),
            (newest + 2, None, Later),
            (newest + 2, Some(0), Later),
            (newest + 2, Some(9), TooFar),
            (newest + 3, None, TooFar),
            (newest + 3, Some(0), TooFar),
            (1 << 53, None, TooFar),
        ] {
            let answer = at(msn, part).answer(&snapshot, video);
            assert_eq!(answer, expected, "{msn} {part:?} of {newest}");
        }
        let announced = |msn, part| at(msn, Some(part)).is_announced(video);
        assert!(announced(newest + 1, 2));
        assert!(!announced(newest + 1, 1) && !announced(newest + 1, 3));
        assert!(!announced(newest + 2, 0) && !announced(newest, 7));
    }

    #[test]
    fn l_first_part_of_the_next_segment_is_waited_for_beyond_the_last_part() {
        let packaged = Packaged::of(&ordinary(20 * S + 100_000, 50), Source::Whole);
        let snapshot = packaged.snapshot();
        let video = snapshot.rendition("video").expect("it is there");
        let newest = video.segments.back().expect("a segment").msn;
        assert!(
            video
                .open
                .as_ref()
                .is_some_and(|open| open.parts.is_empty())
        );
        assert_eq!(at(newest, Some(7)).answer(&snapshot, video), Answer::Later);
        assert_eq!(at(newest, Some(6)).answer(&snapshot, video), Answer::Now);
    }

    #[test]
    fn l_nothing_is_waited_for_when_the_run_has_ended() {
        let mut packaged = Packaged::of(&ordinary(9 * S, 50), Source::Whole);
        packaged.finish();
        let snapshot = packaged.snapshot();
        let video = snapshot.rendition("video").expect("it is there");
        for msn in [0, BEGINS_S + 4, BEGINS_S + 5, 1 << 53] {
            assert_eq!(at(msn, None).answer(&snapshot, video), Answer::Now);
        }
    }

    proptest! {
        /// What the playlist lists or announces is what requests find there.
        #[test]
        fn l_what_is_listed_is_answered_now(length_us in 5 * S..16 * S) {
            let packaged = Packaged::of(&ordinary(length_us, 50), Source::Whole);
            let snapshot = packaged.snapshot();
            for rendition in &snapshot.renditions {
                let text = media(&snapshot, rendition, Form::LowLatency);
                let newest = rendition.segments.back().expect("a segment").msn;
                for msn in newest - 1..newest + 3 {
                    for part in 0..9 {
                        let name = part_name(&snapshot.run, msn, part);
                        let listed = text
                            .lines()
                            .any(|line| line.starts_with("#EXT-X-PART:") && line.contains(&name));
                        let hinted = text.contains(&format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}\""));
                        let place = at(msn, Some(part));
                        if listed {
                            prop_assert_eq!(place.answer(&snapshot, rendition), Answer::Now);
                        }
                        prop_assert_eq!(hinted, place.is_announced(rendition));
                    }
                }
            }
        }
    }
}
