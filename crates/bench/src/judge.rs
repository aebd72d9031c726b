//! What one viewer gets: is it whole and in order, does it come in time, would anybody have seen it stop.
//!
//! Owns: the rules for audio and video bodies as FLV tags and RTMP messages carry them, and the measures taken of them.
//! Does not own: framing ([`crate::flv`]), the sums over all viewers ([`crate::tally`]).

use std::time::{Duration, Instant};

use weir_media::container::flv::TagKind;

use crate::{
    stall,
    tally::{Counters, Tally},
    time_code::{self, TimeCode},
};

/// How long a picture lasts to the model of stalls when nothing says so: one at 25 fps.
const PICTURE: Duration = Duration::from_millis(40);

/// First byte of an H.264 body: frame type and codec.
const AVC_KEY: u8 = 0x17;
const AVC_INTER: u8 = 0x27;
/// Upper half of the first byte of an AAC body.
const AAC: u8 = 0xA0;
/// Second byte of a body.
const SEQUENCE_HEADER: u8 = 0;
const FRAME: u8 = 1;

/// When something has arrived, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// For durations.
    pub at: Instant,
    /// For time codes: microseconds since 1970.
    pub wall_us: u64,
}

impl Arrival {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            wall_us: time_code::wall_us(),
        }
    }
}

/// The judge of one viewer.
#[derive(Debug)]
pub struct Judge {
    /// When the viewer set out.
    asked: Arrival,
    video: Track,
    audio: Track,
    /// Whether it is read as soon as it comes, so that times can be taken.
    is_timed: bool,
    has_picture: bool,
    player: stall::Player,
    /// Media time without wraps, of the track that leads.
    clock_ms: Option<(u32, u64)>,
    /// Least arrival minus media time so far, milliseconds since [`Self::asked`].
    best_ms: f64,
    next_number: Option<u64>,
}

#[derive(Debug, Default)]
struct Track {
    has_header: bool,
    newest_ms: Option<u32>,
}

impl Judge {
    /// A judge of a viewer that sets out now and plays once it holds `buffer`. If it `is_timed`, latency and lateness are
    /// measured too.
    #[must_use]
    pub fn new(asked: Arrival, buffer: Duration, is_timed: bool) -> Self {
        Self {
            asked,
            video: Track::default(),
            audio: Track::default(),
            is_timed,
            has_picture: false,
            player: stall::Player::new(buffer),
            clock_ms: None,
            best_ms: f64::INFINITY,
            next_number: None,
        }
    }

    /// Judges a body, of which `head` holds the first bytes.
    pub fn receive(
        &mut self,
        now: Arrival,
        kind: TagKind,
        timestamp_ms: u32,
        head: &[u8],
        tally: &mut Tally,
    ) {
        let problem = match (kind, head) {
            (TagKind::Script, _) => None,
            (TagKind::Video, [AVC_KEY, SEQUENCE_HEADER, ..]) => {
                self.video.has_header = true;
                None
            }
            (TagKind::Audio, [first, SEQUENCE_HEADER, ..]) if first & 0xF0 == AAC => {
                self.audio.has_header = true;
                None
            }
            (TagKind::Video, [first @ (AVC_KEY | AVC_INTER), FRAME, ..]) => {
                self.picture(now, timestamp_ms, *first == AVC_KEY, head, tally)
            }
            (TagKind::Audio, [first, FRAME, ..]) if first & 0xF0 == AAC => {
                tally.counters.frames += 1;
                self.audio.next(timestamp_ms)
            }
            // The end of a sequence, empty bodies, other codecs: nothing that this judge knows.
            _ => {
                tally.counters.unknown_bodies += 1;
                None
            }
        };
        if let Some(problem) = problem {
            tally.error(problem);
        }
    }

    /// Whether a picture has come.
    pub(crate) fn is_served(&self) -> bool {
        self.has_picture
    }

    /// The watching is over at `now`.
    pub fn finish(&mut self, now: Instant, counters: &mut Counters) {
        self.player
            .finish(now.saturating_duration_since(self.asked.at));
        counters.played(&self.player);
    }

    fn picture(
        &mut self,
        now: Arrival,
        timestamp_ms: u32,
        key: bool,
        head: &[u8],
        tally: &mut Tally,
    ) -> Option<&'static str> {
        let mut problem = self.video.next(timestamp_ms);
        tally.counters.frames += 1;
        let since_asked = now.at.saturating_duration_since(self.asked.at);
        if !self.has_picture {
            self.has_picture = true;
            if key {
                tally.first_key.record(since_asked);
                tally.counters.viewers_served += 1;
            } else {
                problem = problem.or(Some("the first picture is no key frame"));
            }
        }
        let media = self.media_time(timestamp_ms);
        self.player.receive(since_asked, media, media + PICTURE);
        let behind_ms = (since_asked.as_secs_f64() - media.as_secs_f64()) * 1_000.0;
        self.best_ms = self.best_ms.min(behind_ms);
        if self.is_timed {
            tally.late(Duration::from_secs_f64(
                (behind_ms - self.best_ms) / 1_000.0,
            ));
        }
        if let Some(code) = TimeCode::find(head) {
            problem = problem.or(self.time_code(now, code, tally));
        }
        problem
    }

    fn time_code(
        &mut self,
        now: Arrival,
        code: TimeCode,
        tally: &mut Tally,
    ) -> Option<&'static str> {
        let expected = self.next_number.replace(code.number.saturating_add(1));
        // What was sent before the viewer asked comes from a cache; its age says nothing of the server.
        if self.is_timed && code.sent_us >= self.asked.wall_us {
            tally.latency(Duration::from_micros(
                now.wall_us.saturating_sub(code.sent_us),
            ));
        }
        match expected {
            Some(expected) if code.number < expected => {
                Some("a picture came twice or out of order")
            }
            Some(expected) => {
                tally.counters.skipped_pictures += code.number - expected;
                None
            }
            None => None,
        }
    }

    /// Timestamps of 32 bits as a clock that does not wrap.
    fn media_time(&mut self, timestamp_ms: u32) -> Duration {
        let ms = match self.clock_ms {
            None => u64::from(timestamp_ms),
            Some((last, ms)) => {
                let step = timestamp_ms.wrapping_sub(last).cast_signed();
                ms.saturating_add_signed(step.into())
            }
        };
        self.clock_ms = Some((timestamp_ms, ms));
        Duration::from_millis(ms)
    }
}

impl Track {
    /// A frame of the track; what is wrong with it.
    fn next(&mut self, timestamp_ms: u32) -> Option<&'static str> {
        let before = self.newest_ms.replace(timestamp_ms);
        if !self.has_header {
            return Some("a frame before its sequence header");
        }
        // Timestamps may wrap, so order is that of the nearer way round.
        let back = before.is_some_and(|before| timestamp_ms.wrapping_sub(before).cast_signed() < 0);
        back.then_some("a timestamp went back")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: (TagKind, &[u8]) = (TagKind::Video, &[0x17, 0, 0, 0, 0, 1]);
    const ASC: (TagKind, &[u8]) = (TagKind::Audio, &[0xAF, 0, 0x12, 0x10]);
    const KEY: (TagKind, &[u8]) = (TagKind::Video, &[0x17, 1, 0, 0, 0]);
    const INTER: (TagKind, &[u8]) = (TagKind::Video, &[0x27, 1, 0, 0, 0]);
    const SOUND: (TagKind, &[u8]) = (TagKind::Audio, &[0xAF, 1, 0x21]);

    /// Judges bodies that arrive when their timestamps say.
    fn judge(bodies: &[((TagKind, &[u8]), u32)]) -> (Tally, Vec<&'static str>) {
        let asked = Arrival::now();
        let (mut judge, mut tally) = (
            Judge::new(asked, Duration::from_millis(100), true),
            Tally::new(),
        );
        tally.measuring = true;
        for ((kind, head), ms) in bodies {
            let now = Arrival {
                at: asked.at + Duration::from_millis((*ms).into()),
                wall_us: asked.wall_us + u64::from(*ms) * 1_000,
            };
            judge.receive(now, *kind, *ms, head, &mut tally);
        }
        let problems = tally
            .errors
            .keys()
            .map(|text| &*text.clone().leak())
            .collect();
        (tally, problems)
    }

    #[test]
    fn order_is_judged() {
        let check = |bodies: &[((TagKind, &[u8]), u32)], expected: &[&str]| {
            assert_eq!(judge(bodies).1, expected, "{bodies:?}");
        };
        check(
            &[
                (AVCC, 0),
                (ASC, 0),
                (KEY, 0),
                (SOUND, 0),
                (INTER, 40),
                (SOUND, 23),
            ],
            &[],
        );
        check(
            &[(AVCC, 0), (INTER, 0)],
            &["the first picture is no key frame"],
        );
        check(&[(KEY, 0)], &["a frame before its sequence header"]);
        check(&[(SOUND, 0)], &["a frame before its sequence header"]);
        check(
            &[(AVCC, 0), (KEY, 40), (INTER, 39)],
            &["a timestamp went back"],
        );
        check(
            &[(ASC, 0), (SOUND, 40), (SOUND, 39)],
            &["a timestamp went back"],
        );
        // Tracks are interleaved as they come, and a wrap is no step back.
        check(&[(AVCC, 0), (ASC, 0), (KEY, 40), (SOUND, 0)], &[]);
        check(&[(AVCC, 0), (KEY, u32::MAX), (INTER, 5)], &[]);
    }

    fn coded(number: u64, sent_us: u64) -> Vec<u8> {
        let code = TimeCode { sent_us, number };
        [&[0x17, 1, 0, 0, 0, 0, 0, 0, 52][..], &code.nal()].concat()
    }

    #[test]
    fn numbers_show_what_is_missing_and_what_is_twice() {
        let check = |numbers: &[u64], skipped: u64, problems: &[&str]| {
            let bodies: Vec<_> = numbers.iter().map(|number| coded(*number, 0)).collect();
            let mut all = vec![(AVCC, 0)];
            all.extend(
                (0..)
                    .zip(&bodies)
                    .map(|(at, body)| ((TagKind::Video, &body[..]), at)),
            );
            let (tally, found) = judge(&all);
            assert_eq!(
                (tally.counters.skipped_pictures, &found[..]),
                (skipped, problems)
            );
        };
        check(&[4, 5, 6], 0, &[]);
        check(&[4, 5, 9, 10], 3, &[]);
        check(&[4, 5, 5], 0, &["a picture came twice or out of order"]);
        check(&[4, 6, 5], 1, &["a picture came twice or out of order"]);
    }

    #[test]
    fn latency_counts_what_was_sent_since_the_viewer_asked() {
        let asked = Arrival::now();
        let (mut judge, mut tally) = (Judge::new(asked, Duration::ZERO, true), Tally::new());
        tally.measuring = true;
        judge.receive(asked, AVCC.0, 0, AVCC.1, &mut tally);
        for (number, sent, arrived) in [
            (0, -900_000, 10_000),
            (1, 20_000, 50_000),
            (2, 60_000, 80_000),
        ] {
            let now = Arrival {
                at: asked.at + Duration::from_micros(arrived),
                wall_us: asked.wall_us + arrived,
            };
            let body = coded(number, asked.wall_us.saturating_add_signed(sent));
            judge.receive(now, TagKind::Video, 0, &body, &mut tally);
        }
        let latency = tally.latency.percentiles().expect("two count");
        assert_eq!(latency.count, 2);
        assert!((latency.max - 30.0).abs() < 1e-9, "{latency:?}");
    }

    #[test]
    fn lateness_is_measured_from_the_best_picture() {
        let asked = Arrival::now();
        let (mut judge, mut tally) = (Judge::new(asked, Duration::ZERO, true), Tally::new());
        tally.measuring = true;
        judge.receive(asked, AVCC.0, 0, AVCC.1, &mut tally);
        // A burst of two seconds, then one picture in time and one 300 ms late.
        for (media, arrived) in [(0, 5), (1_000, 5), (2_000, 5), (2_040, 45), (2_080, 385)] {
            let now = Arrival {
                at: asked.at + Duration::from_millis(arrived),
                wall_us: asked.wall_us,
            };
            judge.receive(now, KEY.0, media, KEY.1, &mut tally);
        }
        let lateness = tally.lateness.percentiles().expect("all count");
        assert!(
            (lateness.max - 300.0).abs() < 1.0 && lateness.p50 < 1.0,
            "{lateness:?}"
        );
        let mut counters = Counters::default();
        judge.finish(asked.at + Duration::from_secs(4), &mut counters);
        assert_eq!((counters.stalls, counters.viewers_played), (1, 1));
    }
}
