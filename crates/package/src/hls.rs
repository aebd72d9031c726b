//! HLS playlists as text (draft-pantos-hls-rfc8216bis; CONFORMANCE section 1).
//!
//! Owns: what a playlist says, and the names of the objects it lists. Pure text from an immutable [`Snapshot`].
//! Does not own: when a playlist is rendered, or how a viewer's session is carried (the caller hands in the query).

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use weir_media::{Kind, codec::Codec};

use crate::window::{Init, Rendition, Segment, Snapshot};

/// The media type of playlists (RFC 8216, section 4).
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

/// fMP4 in ordinary playlists needs 6 (EXT-X-MAP, H2), MPEG-TS 3 (durations with a fraction); EXT-X-GAP needs 8.
const VERSION: u32 = 6;
const VERSION_TS: u32 = 3;
const VERSION_WITH_GAP: u32 = 8;

/// The name of a segment within its rendition. The run is part of it, so it is never used for other bytes.
#[must_use]
pub fn segment_name(run: &str, msn: u64) -> String {
    format!("{run}-{msn}.m4s")
}

/// The name of an MPEG-TS segment beside the playlists of its stream.
#[must_use]
pub fn ts_segment_name(run: &str, msn: u64) -> String {
    format!("{run}-{msn}.ts")
}

/// The name of an init object within its rendition.
#[must_use]
pub fn init_name(run: &str, init: &Init) -> String {
    format!("init-{run}-{}.mp4", init.discontinuity)
}

/// What an object name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectName<'a> {
    /// The segment of a media sequence number.
    Segment {
        /// The run.
        run: &'a str,
        /// Media sequence number.
        msn: u64,
    },
    /// The MPEG-TS segment of a media sequence number.
    TsSegment {
        /// The run.
        run: &'a str,
        /// Media sequence number.
        msn: u64,
    },
    /// The init object of a discontinuity sequence number.
    Init {
        /// The run.
        run: &'a str,
        /// Discontinuity sequence number.
        discontinuity: u64,
    },
}

impl<'a> ObjectName<'a> {
    /// Reads a name that [`segment_name`], [`ts_segment_name`] or [`init_name`] made; none for any other text.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("init-") {
            let (run, discontinuity) = rest.strip_suffix(".mp4")?.split_once('-')?;
            return Some(Self::Init {
                run,
                discontinuity: decimal(discontinuity)?,
            });
        }
        if let Some(rest) = name.strip_suffix(".ts") {
            let (run, msn) = rest.split_once('-')?;
            return Some(Self::TsSegment {
                run,
                msn: decimal(msn)?,
            });
        }
        let (run, msn) = name.strip_suffix(".m4s")?.split_once('-')?;
        Some(Self::Segment {
            run,
            msn: decimal(msn)?,
        })
    }
}

/// A number as we print it: no sign, no leading zero, so that an object has one name only.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// The multivariant playlist. `query` is appended to every URI: it carries the viewer's session.
#[must_use]
pub fn multivariant(snapshot: &Snapshot, query: &str) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    if snapshot.renditions.iter().all(independent) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let video = snapshot
        .renditions
        .iter()
        .find(|rendition| rendition.kind == Kind::Video);
    let audio = snapshot
        .renditions
        .iter()
        .find(|rendition| rendition.kind == Kind::Audio);
    if let (Some(_), Some(audio)) = (video, audio) {
        let channels = match codec(audio) {
            Some(Codec::Aac(config)) => config.channels,
            _ => 2,
        };
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Default\",LANGUAGE=\"und\",DEFAULT=YES,AUTOSELECT=YES,\
             CHANNELS=\"{channels}\",URI=\"{}/index.m3u8{query}\"",
            audio.name()
        );
    }
    if let Some(lead) = video.or(audio) {
        let audio = audio.filter(|_| video.is_some());
        let carried: Vec<&Rendition> = std::iter::once(lead).chain(audio).collect();
        stream_inf(&mut text, &carried, &carried, snapshot.target_s);
        let group = if audio.is_some() {
            ",AUDIO=\"audio\""
        } else {
            ""
        };
        let _ = writeln!(text, "{group}\n{}/index.m3u8{query}", lead.name());
    }
    text
}

/// The multivariant playlist of the MPEG-TS rendition, whose media playlist is named `variant`; none while there is no
/// such rendition.
#[must_use]
pub fn ts_multivariant(snapshot: &Snapshot, variant: &str, query: &str) -> Option<String> {
    let ts = snapshot.ts.as_ref()?;
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
    if independent(ts) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let tracks: Vec<&Rendition> = snapshot.renditions.iter().collect();
    stream_inf(&mut text, &[ts], &tracks, snapshot.target_s);
    let _ = writeln!(text, "\n{variant}{query}");
    Some(text)
}

/// The media playlist of one rendition.
#[must_use]
pub fn media(snapshot: &Snapshot, rendition: &Rendition) -> String {
    let mut text = String::with_capacity(256 + rendition.segments.len() * 128);
    let gaps = rendition.listed().any(|segment| segment.is_gap());
    let first = rendition.listed().next();
    let version = match first {
        _ if gaps => VERSION_WITH_GAP,
        Some(segment) if segment.init.is_none() => VERSION_TS,
        _ => VERSION,
    };
    // The number belongs to what comes before the first DISCONTINUITY tag in the playlist.
    let discontinuity = first.map_or(0, |segment| {
        segment
            .discontinuity
            .saturating_sub(u64::from(segment.after_discontinuity))
    });
    let _ = write!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}\n",
        snapshot.target_s,
        first.map_or(0, |segment| segment.msn),
    );
    if independent(rendition) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let mut map = None;
    for segment in rendition.listed() {
        if segment.after_discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(init) = segment
            .init
            .as_ref()
            .filter(|init| map != Some(init.discontinuity))
        {
            let _ = writeln!(
                text,
                "#EXT-X-MAP:URI=\"{}\"",
                init_name(&snapshot.run, init)
            );
            map = Some(init.discontinuity);
        }
        listed_segment(&mut text, &snapshot.run, segment);
    }
    if snapshot.ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

fn listed_segment(text: &mut String, run: &str, segment: &Segment) {
    let _ = writeln!(
        text,
        "#EXT-X-PROGRAM-DATE-TIME:{}",
        iso8601(segment.program_date_time)
    );
    if segment.is_gap() {
        text.push_str("#EXT-X-GAP\n");
    }
    let (seconds, micros) = (
        segment.duration_us / 1_000_000,
        segment.duration_us % 1_000_000,
    );
    let name = match segment.init {
        Some(_) => segment_name(run, segment.msn),
        None => ts_segment_name(run, segment.msn),
    };
    let _ = writeln!(text, "#EXTINF:{seconds}.{micros:06},\n{name}");
}

/// EXT-X-STREAM-INF without its end of line: the rates of what is `sent`, the properties of its `tracks`, of which the
/// first leads.
fn stream_inf(text: &mut String, sent: &[&Rendition], tracks: &[&Rendition], target_s: i64) {
    let rates: Vec<Rates> = sent
        .iter()
        .map(|rendition| rates(rendition, target_s))
        .collect();
    let peak: u64 = rates.iter().map(|rates| rates.peak_bps).sum();
    let average: u64 = rates.iter().map(|rates| rates.average_bps).sum();
    let codecs: Vec<String> = tracks
        .iter()
        .copied()
        .filter_map(codec)
        .map(Codec::rfc6381)
        .collect();
    let _ = write!(
        text,
        "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}\"",
        codecs.join(",")
    );
    let Some(&lead) = tracks.first() else { return };
    if let Some(Codec::H264(config)) = codec(lead) {
        if let Some(picture) = &config.picture {
            let _ = write!(text, ",RESOLUTION={}x{}", picture.width, picture.height);
        }
        if let Some(rate) = frame_rate(lead) {
            let _ = write!(text, ",FRAME-RATE={rate:.3}");
        }
    }
}

/// Peak of what is served, bits a second (H16).
pub(crate) fn peak_bps(rendition: &Rendition, target_s: i64) -> u64 {
    rates(rendition, target_s).peak_bps
}

struct Rates {
    peak_bps: u64,
    average_bps: u64,
}

/// Peak and average over what is served (H16). A segment shorter than half the target says nothing about the peak.
fn rates(rendition: &Rendition, target_s: i64) -> Rates {
    let bps = |bytes: usize, us: i64| {
        let us = u64::try_from(us).unwrap_or(0);
        (bytes as u64)
            .saturating_mul(8_000_000)
            .checked_div(us)
            .unwrap_or(0)
    };
    let long_enough = target_s * 1_000_000 / 2;
    let peak = rendition
        .segments
        .iter()
        .filter(|segment| segment.duration_us >= long_enough);
    let peak_bps = peak
        .map(|segment| bps(segment.len(), segment.duration_us))
        .max();
    let bytes = rendition.segments.iter().map(|segment| segment.len()).sum();
    let us = rendition
        .segments
        .iter()
        .map(|segment| segment.duration_us)
        .sum();
    let average_bps = bps(bytes, us);
    Rates {
        peak_bps: peak_bps.unwrap_or(average_bps).max(average_bps).max(1),
        average_bps: average_bps.max(1),
    }
}

/// Frames a second, measured over the newest segment.
fn frame_rate(rendition: &Rendition) -> Option<f64> {
    let segment = newest(rendition)?;
    let samples: u32 = segment.parts.iter().map(|part| part.samples).sum();
    let seconds = segment.duration_us as f64 / 1e6;
    (samples > 0 && seconds > 0.0).then(|| f64::from(samples) / seconds)
}

fn codec(rendition: &Rendition) -> Option<&Codec> {
    rendition
        .segments
        .back()
        .and_then(|segment| segment.init.as_ref())
        .map(|init| &init.track.codec)
}

fn newest(rendition: &Rendition) -> Option<&Segment> {
    rendition
        .segments
        .iter()
        .rev()
        .find(|segment| !segment.is_gap())
        .map(|segment| &**segment)
}

fn independent(rendition: &Rendition) -> bool {
    rendition
        .listed()
        .all(|segment| segment.is_gap() || segment.independent())
}

/// ISO 8601 with milliseconds and zone (H12), as `2026-03-01T12:00:00.250Z`. Days to civil date after Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
#[must_use]
pub fn iso8601(wall: SystemTime) -> String {
    let ms = wall
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let ms = i64::try_from(ms).unwrap_or(0);
    let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, milli) = (ms_of_day / 1_000 % 60, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wall_time_is_iso_8601_in_utc_with_milliseconds() {
        let check = |ms: u64, expected| {
            assert_eq!(iso8601(UNIX_EPOCH + Duration::from_millis(ms)), expected)
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_709_210_096_007, "2024-02-29T12:34:56.007Z");
        check(1_767_225_599_999, "2025-12-31T23:59:59.999Z");
        check(1_767_225_600_000, "2026-01-01T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z"); // 2100 has no 29 February.
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn wall_time_before_the_unix_epoch_is_its_start() {
        assert_eq!(
            iso8601(UNIX_EPOCH - Duration::from_secs(1)),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn object_names_have_one_spelling() {
        let segment = |run, msn| Some(ObjectName::Segment { run, msn });
        let init = |run, discontinuity| Some(ObjectName::Init { run, discontinuity });
        let check = |name, expected| assert_eq!(ObjectName::parse(name), expected, "{name:?}");
        check("a1-0.m4s", segment("a1", 0));
        check("a1-18446744073709551615.m4s", segment("a1", u64::MAX));
        check("init-a1-7.mp4", init("a1", 7));
        for name in [
            "",
            ".m4s",
            "-.m4s",
            "a1.m4s",
            "a1-.m4s",
            "a1-01.m4s",
            "a1-+1.m4s",
            "a1--1.m4s",
            "a1-1.mp4",
            "a1-1",
            "a1-18446744073709551616.m4s",
            "a1-1.m4s ",
            "init-a1-.mp4",
            "init-a1-1.m4s",
            "init-1.mp4",
            "init-a1-00.mp4",
            "a1-\u{664}.m4s",
            "a-1-1.m4s",
        ] {
            check(name, None);
        }
    }

    proptest! {
        #[test]
        fn object_names_read_back(run in "[0-9a-z]{1,16}", number: u64) {
            prop_assume!(run != "init");
            let name = segment_name(&run, number);
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::Segment { run: &run, msn: number }));
            let name = ts_segment_name(&run, number);
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::TsSegment { run: &run, msn: number }));
            let name = format!("init-{run}-{number}.mp4");
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::Init { run: &run, discontinuity: number }));
        }

        #[test]
        fn other_names_are_refused_or_canonical(name in "(init-)?[0-9a-z-]{0,6}-?[0-9]{0,22}\\.?(m4s|mp4|ts)?|\\PC*") {
            match ObjectName::parse(&name) {
                Some(ObjectName::Segment { run, msn }) => prop_assert_eq!(segment_name(run, msn), name),
                Some(ObjectName::TsSegment { run, msn }) => prop_assert_eq!(ts_segment_name(run, msn), name),
                Some(ObjectName::Init { run, discontinuity }) => {
                    prop_assert_eq!(format!("init-{run}-{discontinuity}.mp4"), name);
                }
                None => {}
            }
        }
    }
}
