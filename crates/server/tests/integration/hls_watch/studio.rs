//! A stream of LL-HLS as it is to be, made by hand, in fast motion: what the watchers must let pass, and what tests break.
//!
//! Owns: playlists of [`super::sample`] with objects behind them and the answers of CONFORMANCE 2.2. Media time runs
//! faster than the clock, which breaks no rule.

use std::{
    thread,
    time::{Duration, Instant},
};

use weir_media::{
    Track, TrackId,
    codec::{Codec, aac, h264},
    container::fmp4::{self, Sample as MediaSample},
};

pub(crate) use super::sample::PARTS;
use super::sample::Sample;
use crate::support::origin::{Answer, Origin, Request};

/// A part of half a second each; a playlist with a segment more for each look of a player that polls.
const PART_EVERY: Duration = Duration::from_millis(60);
const FIRST_OPEN: u64 = 108;
/// Long in real time too, so that a player that stands still for seconds finds what it knows.
const WINDOW: u64 = 24;
/// Segments that a delta may leave out: the rest lasts CAN-SKIP-UNTIL.
const SKIPPED: u64 = 2;
/// What may be asked for ahead of the open segment, and ahead of its last part.
const SEGMENTS_AHEAD: u64 = 1;
const PARTS_AHEAD: u64 = 6;
/// How long a request is held.
const HELD_MAX: Duration = Duration::from_secs(8);

const RECORD: &str =
    "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
const ASC: &str = "1190";

/// Serves the stream at `/live/demo/index.m3u8`; `change` may break each answer.
pub(super) fn start(change: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Origin {
    let begun = Instant::now();
    Origin::start(move |request| {
        let answer = Stream { begun }.answer(request);
        change(request, answer.with("access-control-allow-origin", "*"))
    })
}

struct Stream {
    begun: Instant,
}

impl Stream {
    fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        let names: Vec<_> = path.trim_start_matches("/live/demo/").split('/').collect();
        match names[..] {
            ["index.m3u8"] => playlist(multivariant()),
            [rendition @ ("video" | "audio"), "index.m3u8"] => self.media(rendition, query),
            [rendition @ ("video" | "audio"), name] => self.object(rendition, name),
            _ => missing(),
        }
    }

    /// The open segment, and how many parts of it there are.
    fn position(&self) -> (u64, usize) {
        let parts = self.begun.elapsed().as_millis() / PART_EVERY.as_millis();
        let parts = usize::try_from(parts).expect("a short test");
        (FIRST_OPEN + (parts / PARTS) as u64, parts % PARTS)
    }

    fn wait_for(&self, position: (u64, usize)) -> bool {
        let asked = Instant::now();
        while self.position() < position {
            if asked.elapsed() > HELD_MAX {
                return false;
            }
            thread::park_timeout(PART_EVERY / 8);
        }
        true
    }

    /// CONFORMANCE 2.2.
    fn media(&self, rendition: &str, query: &str) -> Answer {
        let mut keys: Vec<(&str, &str)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return refused();
        }
        let value = |name| {
            keys.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        };
        let number = |name| value(name).map(|text| super::syntax::integer(text).ok_or(()));
        match (number("_HLS_msn"), number("_HLS_part")) {
            (None, None) => {}
            (Some(Ok(msn)), None) => {
                if msn > self.position().0 + SEGMENTS_AHEAD {
                    return refused();
                }
                self.wait_for((msn + 1, 0));
            }
            (Some(Ok(msn)), Some(Ok(part))) => {
                let (open, parts) = self.position();
                let ahead = part > parts as u64 + PARTS_AHEAD;
                if msn > open + SEGMENTS_AHEAD || (msn >= open && ahead) {
                    return refused();
                }
                let part = part as usize;
                // Beyond the last part of a segment stands the first one of the next.
                let wanted = if part < PARTS {
                    (msn, part + 1)
                } else {
                    (msn + 1, 1)
                };
                self.wait_for(wanted);
            }
            _ => return refused(),
        }
        let open = self.position();
        let skips = ["YES", "v2"].map(Some).contains(&value("_HLS_skip"));
        let sample = Sample {
            first: open.0 - WINDOW,
            open,
            skipped: if skips { SKIPPED } else { 0 },
            sibling: if rendition == "video" {
                "audio"
            } else {
                "video"
            },
            ..Sample::default()
        };
        playlist(sample.text())
    }

    fn object(&self, rendition: &str, name: &str) -> Answer {
        let kind = if rendition == "video" {
            "video/mp4"
        } else {
            "audio/mp4"
        };
        if name == "init-0.mp4" {
            return object(kind, fmp4::init(&track(rendition)).to_vec());
        }
        let Some(numbers) = name.strip_suffix(".m4s") else {
            return missing();
        };
        let (msn, part) = numbers.split_once('.').unwrap_or((numbers, ""));
        let (open, parts) = self.position();
        match (msn.parse::<u64>(), part.parse::<usize>()) {
            (Ok(msn), Err(_)) if part.is_empty() && msn < open => {
                object(kind, segment(rendition, msn))
            }
            // What is hinted is waited for.
            (Ok(msn), Ok(number)) if number < PARTS && (msn, number) <= (open, parts) => {
                self.wait_for((msn, number + 1));
                object(kind, self::part(rendition, msn, number))
            }
            (Ok(msn), Ok(0)) if (msn, parts) == (open + 1, PARTS - 1) => {
                self.wait_for((msn, 1));
                object(kind, self::part(rendition, msn, 0))
            }
            _ => missing(),
        }
    }
}

fn multivariant() -> String {
    let bits = |rendition| segment(rendition, FIRST_OPEN).len() * 8 / 2;
    let peak = bits("video") + bits("audio");
    format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"A\",LANGUAGE=\"und\",URI=\"audio/index.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={peak},CODECS=\"avc1.42C01E,mp4a.40.2\",\
         RESOLUTION=640x360,FRAME-RATE=10.000,AUDIO=\"a\"\nvideo/index.m3u8\n"
    )
}

fn playlist(text: String) -> Answer {
    Answer::new(200, text)
        .with("content-type", "application/vnd.apple.mpegurl")
        .with("cache-control", "no-cache")
}

fn object(kind: &str, bytes: Vec<u8>) -> Answer {
    Answer::new(200, bytes)
        .with("content-type", kind)
        .with("cache-control", "public, max-age=31536000, immutable")
}

fn missing() -> Answer {
    Answer::new(404, "").with("cache-control", "no-store")
}

fn refused() -> Answer {
    Answer::new(400, "").with("cache-control", "no-store")
}

pub(crate) fn track(rendition: &str) -> Track {
    let hex = |text: &str| -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
        (0..text.len()).step_by(2).map(pair).collect()
    };
    let (id, codec) = match rendition {
        "video" => {
            let config = h264::Config::parse(hex(RECORD).into()).expect("a record");
            (TrackId::VIDEO, Codec::H264(config))
        }
        _ => {
            let config = aac::Config::parse(hex(ASC).into()).expect("a configuration");
            (TrackId::AUDIO, Codec::Aac(config))
        }
    };
    Track::new(id, codec)
}

/// Half a second: five pictures, or 24 frames of sound.
pub(crate) fn part(rendition: &str, msn: u64, number: usize) -> Vec<u8> {
    let (count, duration) = match rendition {
        "video" => (5, 9_000),
        _ => (24, 1_000),
    };
    let sample = |at| MediaSample {
        duration,
        composition: 0,
        sync: rendition == "audio" || (number == 0 && at == 0),
        payload: vec![number as u8; 50].into(),
    };
    let samples: Vec<_> = (0..count).map(sample).collect();
    let at = msn * PARTS as u64 + number as u64;
    let time = at * u64::from(duration) * count as u64;
    let fragment = fmp4::fragment(at as u32, time, &samples);
    match number {
        0 => [fmp4::segment_type(), fragment].concat(),
        _ => fragment.to_vec(),
    }
}

pub(crate) fn segment(rendition: &str, msn: u64) -> Vec<u8> {
    let parts = (0..PARTS).map(|number| part(rendition, msn, number));
    parts.collect::<Vec<_>>().concat()
}
