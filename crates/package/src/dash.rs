//! The DASH manifest as text (ISO/IEC 23009-1; CONFORMANCE section 3).
//!
//! Owns: what a manifest says, and the names of the segments that its template makes. Pure text from an immutable
//! [`Snapshot`]. Does not own: when a manifest is rendered ([`manifest`] is told its publication time), which time a
//! segment has ([`timeline`]), or the objects, which are those of HLS.
//!
//! The zero of all times is the unix epoch. A discontinuity begins a Period, which starts at the wall time of its first
//! sample. Times of a Period are those of the run's clock; `presentationTimeOffset` takes them to the Period's start.

mod timeline;

use std::{
    fmt::{self, Display, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_media::{Kind, codec::Codec};

use crate::{
    Config,
    hls::{self, decimal, iso8601},
    window::{Rendition, Segment, Snapshot},
};
use timeline::{Entry, Period, Track, segment_time};

/// The media type of manifests (ISO/IEC 23009-1, annex C).
pub const MEDIA_TYPE: &str = "application/dash+xml";
/// Where the server tells its time, as a path on it.
pub const TIME_PATH: &str = "/time";

/// How often players are to ask for the manifest, milliseconds: as often as dash.js does at most. A segment lasts longer
/// (CONFORMANCE D2), and a new one is known soon enough to be fetched while it is made.
const UPDATE_MS: u32 = 1_000;
/// What the latency that players aim at leaves beyond [`UPDATE_MS`], in parts: one until the segment is announced, one
/// until its chunk is there, one for the network.
const LATENCY_PARTS: u32 = 3;
/// Players that fall further back than so many target durations start anew at the live edge.
const LATENCY_TARGETS_MAX: i64 = 3;
/// How far players that do not fetch segments while they are made stay behind, in target durations: one is being made,
/// one is being fetched, one is played.
const DELAY_TARGETS: i64 = 3;
/// How much longer than the target a segment may be (CONFORMANCE H3).
const OVER_TARGET_MS: i64 = 500;
/// A manifest reaches back at least as many target durations as a playlist (CONFORMANCE H8).
const DEPTH_TARGETS_MIN: i64 = 3;

const PROFILE: &str = "urn:mpeg:dash:profile:isoff-live:2011";
const PROFILE_LOW_LATENCY: &str = "http://www.dashif.org/guidelines/low-latency-live-v5";
/// Identifies the clock at [`TIME_PATH`] (CONFORMANCE D5).
const CLOCK: &str = "urn:mpeg:dash:utc:http-xsdate:2014";
const CLOCK_BY_DATE: &str = "urn:mpeg:dash:utc:http-head:2014";
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";

/// The name of a segment within its rendition, as the manifest's template makes it. The time alone would not do: another
/// sample rate counts other ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentName<'a> {
    /// The run.
    pub run: &'a str,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
    /// S@t: when its first sample is presented, ticks of its track.
    pub time: u64,
}

/// What a name stands for at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A complete segment.
    Complete(&'a Segment),
    /// The segment that is being made.
    Open {
        /// Media sequence number.
        msn: u64,
    },
}

impl<'a> SegmentName<'a> {
    /// Reads a name that the template made; none for any other text.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let (run, numbers) = name.strip_suffix(".m4s")?.split_once('-')?;
        let (discontinuity, time) = numbers.split_once('-')?;
        Some(Self {
            run,
            discontinuity: decimal(discontinuity)?,
            time: decimal(time)?,
        })
    }

    /// What it stands for among the segments of `rendition`, which are of the same run. The open segment without a part
    /// is taken for the one that follows the last complete segment: players may ask for it by then.
    #[must_use]
    pub fn find(self, rendition: &Rendition) -> Option<Named<'_>> {
        let own = |segment: &&Segment| segment.discontinuity == self.discontinuity;
        let mut segments = rendition.segments.iter().map(|segment| &**segment);
        let time = |segment: &Segment| segment_time(segment.decode_time, segment.composition_ticks);
        let complete = segments
            .clone()
            .filter(own)
            .find(|segment| !segment.is_gap() && time(segment) == self.time);
        if let Some(segment) = complete {
            return Some(Named::Complete(segment));
        }
        let open = rendition.open.as_ref()?;
        let expected = if open.parts.is_empty() {
            let last = segments.next_back().filter(own)?;
            time(last).checked_add_signed(last.duration_ticks)?
        } else {
            Some(open)
                .filter(|open| open.init.discontinuity == self.discontinuity)
                .map(|open| segment_time(open.decode_time, open.composition_ticks))?
        };
        (expected == self.time).then_some(Named::Open { msn: open.msn })
    }
}

/// The manifest, published at `published`. It is constant but for that time until a segment is announced or complete.
#[must_use]
pub fn manifest(snapshot: &Snapshot, config: Config, published: SystemTime) -> String {
    let periods = timeline::periods(snapshot, config);
    let mut text = String::with_capacity(4_096);
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = presentation(&mut text, snapshot, config, &periods, published);
    text
}

fn presentation(
    text: &mut String,
    snapshot: &Snapshot,
    config: Config,
    periods: &[Period<'_>],
    published: SystemTime,
) -> fmt::Result {
    let profiles = format!("{PROFILE},{PROFILE_LOW_LATENCY}");
    write!(
        text,
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"{profiles}\" \
         availabilityStartTime=\"{}\" publishTime=\"{}\" minBufferTime=\"{}\" maxSegmentDuration=\"{}\" ",
        iso8601(UNIX_EPOCH),
        iso8601(published),
        Seconds(i64::from(config.segment_ms)),
        Seconds(longest_ms(snapshot, periods)),
    )?;
    let target_ms = snapshot.target_s * 1_000;
    if snapshot.ended {
        let end_ms = periods.last().map_or(0, Period::end_ms);
        writeln!(
            text,
            "type=\"static\" mediaPresentationDuration=\"{}\">",
            Seconds(end_ms)
        )?;
    } else {
        let listed_ms = config.playlist_segments as i64 * i64::from(config.segment_ms);
        writeln!(
            text,
            "type=\"dynamic\" minimumUpdatePeriod=\"{}\" timeShiftBufferDepth=\"{}\" \
             suggestedPresentationDelay=\"{}\">",
            Seconds(i64::from(UPDATE_MS)),
            Seconds(listed_ms.max(DEPTH_TARGETS_MIN * target_ms)),
            Seconds(DELAY_TARGETS * target_ms),
        )?;
        let latency_ms = UPDATE_MS + LATENCY_PARTS * config.part_ms;
        writeln!(
            text,
            "  <ServiceDescription id=\"0\">\n    \
               <Latency target=\"{latency_ms}\" min=\"{UPDATE_MS}\" max=\"{}\"/>\n    \
               <PlaybackRate min=\"0.96\" max=\"1.04\"/>\n  \
             </ServiceDescription>",
            LATENCY_TARGETS_MAX * target_ms.max(i64::from(latency_ms)),
        )?;
    }
    for period in periods {
        period_element(text, snapshot, config, period)?;
    }
    write!(
        text,
        "  <UTCTiming schemeIdUri=\"{CLOCK}\" value=\"{TIME_PATH}\"/>\n  \
           <UTCTiming schemeIdUri=\"{CLOCK_BY_DATE}\" value=\"{TIME_PATH}\"/>\n\
         </MPD>\n"
    )
}

/// No segment is longer.
fn longest_ms(snapshot: &Snapshot, periods: &[Period<'_>]) -> i64 {
    let usual_ms = snapshot.target_s * 1_000 + OVER_TARGET_MS;
    let tracks = periods.iter().flat_map(|period| &period.tracks);
    let longest_ms = tracks.map(Track::longest_ms).max();
    usual_ms.max(longest_ms.unwrap_or(0))
}

/// A Period without `duration`: it ends where the next one starts, so a hole between the two is nobody's.
fn period_element(
    text: &mut String,
    snapshot: &Snapshot,
    config: Config,
    period: &Period<'_>,
) -> fmt::Result {
    writeln!(
        text,
        "  <Period id=\"{}-{}\" start=\"{}\">",
        snapshot.run,
        period.discontinuity,
        Seconds(period.start_ms)
    )?;
    for track in &period.tracks {
        adaptation_set(text, snapshot, config, period, track)?;
    }
    writeln!(text, "  </Period>")
}

fn adaptation_set(
    text: &mut String,
    snapshot: &Snapshot,
    config: Config,
    period: &Period<'_>,
    track: &Track<'_>,
) -> fmt::Result {
    let codec = &track.init.track.codec;
    // Kinds have the same identifiers in all Periods: players go on with the track that they have.
    let (id, kind) = match codec.kind() {
        Kind::Video => (1, "video"),
        Kind::Audio => (2, "audio"),
    };
    write!(
        text,
        "    <AdaptationSet id=\"{id}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" segmentAlignment=\"true\""
    )?;
    if track.independent {
        text.push_str(" startWithSAP=\"1\"");
    }
    match codec {
        Codec::H264(config) => {
            if let Some(picture) = &config.picture {
                write!(
                    text,
                    " maxWidth=\"{}\" maxHeight=\"{}\"",
                    picture.width, picture.height
                )?;
            }
            text.push_str(">\n");
        }
        Codec::Aac(config) => writeln!(
            text,
            " lang=\"und\">\n      \
             <AudioChannelConfiguration schemeIdUri=\"{CHANNELS}\" value=\"{}\"/>",
            config.channels
        )?,
    }
    let offset = track.presentation_time_offset();
    let start = UNIX_EPOCH + Duration::from_millis(u64::try_from(period.start_ms).unwrap_or(0));
    writeln!(
        text,
        "      <ProducerReferenceTime id=\"{id}\" type=\"encoder\" wallClockTime=\"{}\" presentationTime=\"{offset}\">\n        \
                 <UTCTiming schemeIdUri=\"{CLOCK}\" value=\"{TIME_PATH}\"/>\n      \
               </ProducerReferenceTime>",
        iso8601(start),
    )?;
    segment_template(text, snapshot, config, period, track)?;
    representation(text, snapshot, track)?;
    writeln!(text, "    </AdaptationSet>")
}

fn segment_template(
    text: &mut String,
    snapshot: &Snapshot,
    config: Config,
    period: &Period<'_>,
    track: &Track<'_>,
) -> fmt::Result {
    let name = track.rendition.name();
    write!(
        text,
        "      <SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" \
         initialization=\"{name}/{}\" media=\"{name}/{}-{}-$Time$.m4s\"",
        track.timescale(),
        track.presentation_time_offset(),
        hls::init_name(&snapshot.run, track.init),
        snapshot.run,
        period.discontinuity,
    )?;
    if !snapshot.ended {
        let early_ms = (period.usual_ms - i64::from(config.part_ms)).max(0);
        write!(
            text,
            " availabilityTimeOffset=\"{}.{:03}\" availabilityTimeComplete=\"false\"",
            early_ms / 1_000,
            early_ms % 1_000
        )?;
    }
    text.push_str(">\n        <SegmentTimeline>\n");
    timeline_entries(text, &track.entries)?;
    text.push_str("        </SegmentTimeline>\n      </SegmentTemplate>\n");
    Ok(())
}

/// Equal durations without a hole between them are one element.
fn timeline_entries(text: &mut String, entries: &[Entry]) -> fmt::Result {
    let mut expected = None;
    let same = |a: &Entry, b: &Entry| a.end() == b.time && a.duration == b.duration;
    for run in entries.chunk_by(same) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        text.push_str("          <S");
        if expected != Some(first.time) {
            write!(text, " t=\"{}\"", first.time)?;
        }
        write!(text, " d=\"{}\"", first.duration)?;
        if run.len() > 1 {
            write!(text, " r=\"{}\"", run.len() - 1)?;
        }
        text.push_str("/>\n");
        expected = Some(last.end());
    }
    Ok(())
}

fn representation(text: &mut String, snapshot: &Snapshot, track: &Track<'_>) -> fmt::Result {
    let codec = &track.init.track.codec;
    write!(
        text,
        "      <Representation id=\"{}\" bandwidth=\"{}\" codecs=\"{}\"",
        track.rendition.name(),
        hls::peak_bps(track.rendition, snapshot.target_s),
        codec.rfc6381(),
    )?;
    match codec {
        Codec::H264(config) => {
            if let Some(picture) = &config.picture {
                write!(
                    text,
                    " width=\"{}\" height=\"{}\"",
                    picture.width, picture.height
                )?;
                match picture.frame_rate {
                    Some((frames, 1)) => write!(text, " frameRate=\"{frames}\"")?,
                    Some((frames, seconds)) => {
                        write!(text, " frameRate=\"{frames}/{seconds}\"")?;
                    }
                    None => {}
                }
            }
        }
        Codec::Aac(config) => {
            write!(
                text,
                " audioSamplingRate=\"{}\"",
                config.output_sample_rate
            )?;
        }
    }
    text.push_str("/>\n");
    Ok(())
}

/// Milliseconds as `xs:duration`. Periods start at whole ones: what players read into floating point stays exact.
struct Seconds(i64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        if ms == 0 {
            write!(f, "PT{seconds}S")
        } else {
            write!(f, "PT{seconds}.{ms:03}S")
        }
    }
}

#[cfg(test)]
mod tests;
