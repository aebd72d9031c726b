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

/// fMP4 in ordinary playlists needs 6 (EXT-X-MAP, H2); EXT-X-GAP needs 8.
const VERSION: u32 = 6;
const VERSION_WITH_GAP: u32 = 8;

/// The name of a segment within its rendition. The run is part of it, so it is never used for other bytes.
#[must_use]
pub fn segment_name(run: &str, msn: u64) -> String {
    format!("{run}-{msn}.m4s")
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
    /// The init object of a discontinuity sequence number.
    Init {
        /// The run.
        run: &'a str,
        /// Discontinuity sequence number.
        discontinuity: u64,
    },
}

impl<'a> ObjectName<'a> {
    /// Reads a name that [`segment_name`] or [`init_name`] made; none for any other text.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("init-") {
            let (run, discontinuity) = rest.strip_suffix(".mp4")?.split_once('-')?;
            return Some(Self::Init { run, discontinuity: decimal(discontinuity)? });
        }
        let (run, msn) = name.strip_suffix(".m4s")?.split_once('-')?;
        Some(Self::Segment { run, msn: decimal(msn)? })
    }
}

/// A number as we print it: no sign, no leading zero, so that an object has one name only.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// The multivariant playlist. `query` is appended to every URI: it carries the viewer's session.
#[must_use]
pub fn multivariant(snapshot: &Snapshot, query: &str) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    if snapshot.renditions.iter().all(independent) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let video = snapshot.renditions.iter().find(|rendition| rendition.kind == Kind::Video);
    let audio = snapshot.renditions.iter().find(|rendition| rendition.kind == Kind::Audio);
    if let (Some(_), Some(audio)) = (video, audio) {
        let channels = match newest(audio).map(|segment| &segment.init.track.codec) {
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
        stream_inf(&mut text, lead, audio.filter(|_| video.is_some()), snapshot.target_s);
        let _ = writeln!(text, "{}/index.m3u8{query}", lead.name());
    }
    text
}

/// The media playlist of one rendition.
#[must_use]
pub fn media(snapshot: &Snapshot, rendition: &Rendition) -> String {
    let mut text = String::with_capacity(256 + rendition.segments.len() * 128);
    let gaps = rendition.listed().any(|segment| segment.is_gap());
    let version = if gaps { VERSION_WITH_GAP } else { VERSION };
    let first = rendition.listed().next();
    // The number belongs to what comes before the first DISCONTINUITY tag in the playlist.
    let discontinuity = first.map_or(0, |segment| segment.discontinuity - u64::from(segment.after_discontinuity));
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
        if map != Some(segment.init.discontinuity) {
            let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", init_name(&snapshot.run, &segment.init));
            map = Some(segment.init.discontinuity);
        }
        listed_segment(&mut text, &snapshot.run, segment);
    }
    if snapshot.ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

fn listed_segment(text: &mut String, run: &str, segment: &Segment) {
    let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", iso8601(segment.program_date_time));
    if segment.is_gap() {
        text.push_str("#EXT-X-GAP\n");
    }
    let (seconds, micros) = (segment.duration_us / 1_000_000, segment.duration_us % 1_000_000);
    let _ = writeln!(text, "#EXTINF:{seconds}.{micros:06},\n{}", segment_name(run, segment.msn));
}

fn stream_inf(text: &mut String, lead: &Rendition, audio: Option<&Rendition>, target_s: i64) {
    let rates: Vec<Rates> = std::iter::once(lead).chain(audio).map(|rendition| rates(rendition, target_s)).collect();
    let peak: u64 = rates.iter().map(|rates| rates.peak_bps).sum();
    let average: u64 = rates.iter().map(|rates| rates.average_bps).sum();
    let codecs: Vec<String> = std::iter::once(lead)
        .chain(audio)
        .filter_map(newest)
        .map(|segment| segment.init.track.codec.rfc6381())
        .collect();
    let _ = write!(
        text,
        "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{}\"",
        codecs.join(",")
    );
    if let Some(Codec::H264(config)) = newest(lead).map(|segment| &segment.init.track.codec) {
        if let Some(picture) = &config.picture {
            let _ = write!(text, ",RESOLUTION={}x{}", picture.width, picture.height);
        }
        if let Some(rate) = frame_rate(lead) {
            let _ = write!(text, ",FRAME-RATE={rate:.3}");
        }
    }
    if audio.is_some() {
        text.push_str(",AUDIO=\"audio\"");
    }
    text.push('\n');
}

struct Rates {
    peak_bps: u64,
    average_bps: u64,
}

/// Peak and average over what is served (H16). A segment shorter than half the target says nothing about the peak.
fn rates(rendition: &Rendition, target_s: i64) -> Rates {
    let bps = |bytes: usize, us: i64| {
        let us = u64::try_from(us).unwrap_or(0);
        (bytes as u64).saturating_mul(8_000_000).checked_div(us).unwrap_or(0)
    };
    let long_enough = target_s * 1_000_000 / 2;
    let peak = rendition.segments.iter().filter(|segment| segment.duration_us >= long_enough);
    let peak_bps = peak.map(|segment| bps(segment.len(), segment.duration_us)).max();
    let bytes = rendition.segments.iter().map(|segment| segment.len()).sum();
    let us = rendition.segments.iter().map(|segment| segment.duration_us).sum();
    let average_bps = bps(bytes, us);
    Rates { peak_bps: peak_bps.unwrap_or(average_bps).max(average_bps).max(1), average_bps: average_bps.max(1) }
}

/// Frames a second, measured over the newest segment.
fn frame_rate(rendition: &Rendition) -> Option<f64> {
    let segment = newest(rendition)?;
    let samples: u32 = segment.parts.iter().map(|part| part.samples).sum();
    let seconds = segment.duration_us as f64 / 1e6;
    (samples > 0 && seconds > 0.0).then(|| f64::from(samples) / seconds)
}

fn newest(rendition: &Rendition) -> Option<&Segment> {
    rendition.segments.iter().rev().find(|segment| !segment.is_gap()).map(|segment| &**segment)
}

fn independent(rendition: &Rendition) -> bool {
    rendition.segments.iter().all(|segment| segment.is_gap() || segment.independent())
}

/// ISO 8601 with milliseconds and zone (H12), as `2026-03-01T12:00:00.250Z`. Days to civil date after Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn iso8601(wall: SystemTime) -> String {
    let ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let ms = i64::try_from(ms).unwrap_or(0);
    let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, milli) = (ms_of_day / 1_000 % 60, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}
