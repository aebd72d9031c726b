//! The multivariant playlist: which renditions there are, and what they need (CONFORMANCE H15–H18).

use std::fmt::Write as _;

use weir_media::{Kind, codec::Codec};

use super::{LIVE, REWIND, Start, independent};
use crate::window::{Rendition, Segment, Snapshot};

/// The multivariant playlist. `query` is appended to every URI: it carries the viewer's session.
#[must_use]
pub fn multivariant(snapshot: &Snapshot, query: &str) -> String {
    playlist(snapshot, LIVE, None, query)
}

/// The multivariant playlist for a viewer who begins in the rewind window; `start` must lie within it.
#[must_use]
pub fn rewind_multivariant(snapshot: &Snapshot, start: Start, query: &str) -> String {
    playlist(snapshot, REWIND, Some(start), query)
}

/// `media` is what the media playlists are called.
fn playlist(snapshot: &Snapshot, media: &str, start: Option<Start>, query: &str) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    let renditions = snapshot.renditions.iter();
    let is_independent = |rendition: &Rendition| match start {
        Some(_) => independent(rendition.rewindable()),
        None => independent(rendition.listed()),
    };
    if renditions.clone().all(is_independent) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    if let Some(start) = start {
        let _ = writeln!(text, "#EXT-X-START:TIME-OFFSET={start},PRECISE=YES");
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
             CHANNELS=\"{channels}\",URI=\"{}/{media}{query}\"",
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
        let _ = writeln!(text, "{group}\n{}/{media}{query}", lead.name());
    }
    text
}

/// The multivariant playlist of the MPEG-TS rendition, whose media playlist is named `variant`; none while there is no
/// such rendition.
#[must_use]
pub fn ts_multivariant(snapshot: &Snapshot, variant: &str, query: &str) -> Option<String> {
    let ts = snapshot.ts.as_ref()?;
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
    if independent(ts.listed()) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let tracks: Vec<&Rendition> = snapshot.renditions.iter().collect();
    stream_inf(&mut text, &[ts], &tracks, snapshot.target_s);
    let _ = writeln!(text, "\n{variant}{query}");
    Some(text)
}

/// EXT-X-STREAM-INF without its end of line: the rates of what is `sent`, the properties of its `tracks`, of which the
/// first leads.
fn stream_inf(text: &mut String, sent: &[&Rendition], tracks: &[&Rendition], target_s: i64) {
    let rates: Vec<Rates> = sent
        .iter()
        .map(|rendition| {
            let segments = rendition.segments.iter().map(|segment| &**segment);
            rates(segments, target_s)
        })
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
        // Players need not look for any then. Where there are some, they find by themselves which.
        if !lead.segments.iter().any(|segment| segment.captions) {
            text.push_str(",CLOSED-CAPTIONS=NONE");
        }
    }
}

/// The highest bit rate of some segments, bits a second (H16).
pub(crate) fn peak_bps<'a>(
    segments: impl Iterator<Item = &'a Segment> + Clone,
    target_s: i64,
) -> u64 {
    rates(segments, target_s).peak_bps
}

struct Rates {
    peak_bps: u64,
    average_bps: u64,
}

/// Peak and average over some segments (H16). A segment shorter than half the target says nothing about the peak.
fn rates<'a>(segments: impl Iterator<Item = &'a Segment> + Clone, target_s: i64) -> Rates {
    let bps = |bytes: usize, us: i64| {
        let us = u64::try_from(us).unwrap_or(0);
        (bytes as u64)
            .saturating_mul(8_000_000)
            .checked_div(us)
            .unwrap_or(0)
    };
    let long_enough = target_s * 1_000_000 / 2;
    let peak = segments
        .clone()
        .filter(|segment| segment.duration_us >= long_enough);
    let peak_bps = peak
        .map(|segment| bps(segment.len(), segment.duration_us))
        .max();
    let bytes = segments.clone().map(Segment::len).sum();
    let us = segments.map(|segment| segment.duration_us).sum();
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
