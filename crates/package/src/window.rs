//! The sliding window of a run: what is listed, what is still served, what is open.
//!
//! Owns: segments, parts and init objects of each rendition, their names, and when they leave (CONFORMANCE H7–H9).
//! A [`Snapshot`] is immutable and shared. Does not own: how the objects are made ([`crate::cmaf`]) or listed
//! ([`crate::hls`]), or what is kept beyond the live window ([`rewind`]).

pub mod rewind;

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use bytes::Bytes;
use weir_media::{Anchor, Kind, Track};

use crate::{Config, keep::Content};

use rewind::Past;

/// An init object: what a player needs before any segment of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Init {
    /// Discontinuity sequence number of the first segment it is for; names it.
    pub discontinuity: u64,
    /// Where its epoch begins, the same for all tracks, and the wall time of that.
    pub begins: Anchor,
    /// How many tracks its epoch has.
    pub tracks: usize,
    /// The track it describes.
    pub track: Track,
    /// ftyp and moov.
    pub bytes: Bytes,
}

/// A part: one CMAF chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Media time, microseconds.
    pub duration_us: i64,
    /// Whether it starts with a sync sample.
    pub independent: bool,
    /// How many samples it holds.
    pub samples: u32,
    /// moof and mdat; the first part of a segment begins with styp.
    pub content: Content,
}

/// A complete segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
    /// Whether it comes after a discontinuity: its tag stays with it as long as it is listed (H7).
    pub after_discontinuity: bool,
    /// The init object it needs; none when it is MPEG-TS, which describes itself.
    pub init: Option<Arc<Init>>,
    /// Media time, microseconds.
    pub duration_us: i64,
    /// When its samples are presented, on the track's timescale; none when it has none, or is MPEG-TS.
    pub span: Option<Span>,
    /// The wall time of its first sample.
    pub program_date_time: SystemTime,
    /// Whether its pictures carry closed captions.
    pub captions: bool,
    /// Its parts, in order. None when the track was silent: then it is a gap. None either when it is archived.
    pub parts: Vec<Part>,
    /// What its parts were, once their bytes have left memory; then only a file holds them.
    pub archived: Option<Archived>,
}

/// What is known of the parts of a segment that memory no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// Whether it starts with a sync sample.
    pub independent: bool,
    /// Size in bytes.
    pub len: usize,
}

/// Presentation times on a track's timescale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where the first sample begins, ticks: its decode time plus the composition offset of the first sample of its
    /// epoch, so that spans without a hole between them follow each other exactly.
    pub start: i64,
    /// How long the samples last, ticks.
    pub duration: i64,
}

impl Span {
    /// Where the last sample ends, ticks.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.duration)
    }
}

impl Segment {
    /// Whether it starts with a sync sample.
    #[must_use]
    pub fn independent(&self) -> bool {
        match self.archived {
            Some(archived) => archived.independent,
            None => self.parts.first().is_some_and(|part| part.independent),
        }
    }

    /// Whether the track was silent, so that there is nothing to fetch.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.parts.is_empty() && self.archived.is_none()
    }

    /// Size in bytes, in memory or in a file.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.archived {
            Some(archived) => archived.len,
            None => self.parts.iter().map(|part| part.content.len()).sum(),
        }
    }

    /// Whether it holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One rendition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Its path element.
    name: &'static str,
    /// What it carries; video when it carries both.
    pub kind: Kind,
    /// What can be rewound to: segments before [`Self::segments`].
    past: Past,
    /// Segments of the live window; the first `unlisted` of them are no longer in the live playlist.
    pub segments: VecDeque<Arc<Segment>>,
    /// See `segments`.
    pub unlisted: usize,
    /// How long the longest playlist was, microseconds.
    longest_us: i64,
    /// What there is of the segment that is being made.
    pub open: Option<Open>,
}

/// The segment that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Media sequence number.
    pub msn: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
    /// Whether it comes after a discontinuity.
    pub after_discontinuity: bool,
    /// The init object it needs.
    pub init: Arc<Init>,
    /// When the samples of its parts are presented; none before its first part.
    pub span: Option<Span>,
    /// The wall time of its first sample; of the cut before it as long as it has none.
    pub program_date_time: SystemTime,
    /// Its parts so far.
    pub parts: Vec<Part>,
}

impl Rendition {
    /// The rendition of one track.
    pub(crate) fn of(kind: Kind) -> Self {
        let name = match kind {
            Kind::Video => "video",
            Kind::Audio => "audio",
        };
        Self::new(name, kind)
    }

    pub(crate) fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            past: Past::default(),
            segments: VecDeque::new(),
            unlisted: 0,
            longest_us: 0,
            open: None,
        }
    }

    /// The rendition at this moment; its segments are shared.
    pub(crate) fn with_open(&self, open: Option<Open>) -> Self {
        Self {
            open,
            ..self.clone()
        }
    }

    /// The path element of the rendition.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The segments in the live playlist.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + Clone {
        self.segments.iter().skip(self.unlisted)
    }

    /// The segments in the rewind playlist, those of the live playlist among them. Bytes of the first ones may have left
    /// memory.
    pub fn rewindable(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + Clone {
        let live = self.past.unlisted_of(&self.segments);
        self.past.listed().chain(self.segments.iter().skip(live))
    }

    /// How long the rewind playlist is, microseconds.
    #[must_use]
    pub fn rewindable_us(&self) -> i64 {
        self.past.listed_us()
    }

    /// Every segment that is served, listed or not.
    pub fn served(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + Clone {
        self.past.segments().iter().chain(&self.segments)
    }

    /// The segment of that number, if it is still served.
    #[must_use]
    pub fn segment(&self, msn: u64) -> Option<&Arc<Segment>> {
        find(&self.segments, msn).or_else(|| find(self.past.segments(), msn))
    }

    /// The init object of that discontinuity sequence number, if a segment still needs it.
    #[must_use]
    pub fn init(&self, discontinuity: u64) -> Option<&Arc<Init>> {
        let open = self.open.iter().map(|open| &open.init);
        let mut inits = self
            .segments
            .iter()
            .filter_map(|segment| segment.init.as_ref())
            .chain(open);
        inits
            .find(|init| init.discontinuity == discontinuity)
            .or_else(|| self.past.init(discontinuity))
    }

    /// Appends a segment, takes what no longer fits out of the playlists, and drops what nobody may still ask for: an
    /// unlisted segment stays for its own duration and that of the longest live playlist that listed it (H9).
    pub(crate) fn append(&mut self, segment: Arc<Segment>, fits: &Fits) {
        self.past.extend(&segment);
        self.segments.push_back(segment);
        self.longest_us = self.longest_us.max(self.listed_us());
        while self.segments.len() - self.unlisted > fits.listed_max
            && self.listed_us() - self.front_us() >= fits.listed_us_min
        {
            self.unlisted += 1;
        }
        self.past
            .unlist(&self.segments, self.unlisted, fits.rewind_us);
        while self.unlisted > 0
            && self.unlisted_us() - self.oldest_us() >= self.oldest_us() + self.longest_us
        {
            self.past.keep(self.segments.pop_front());
            self.unlisted -= 1;
        }
        self.past.expire(self.longest_us);
    }

    fn unlisted_us(&self) -> i64 {
        self.segments
            .iter()
            .take(self.unlisted)
            .map(|segment| segment.duration_us)
            .sum()
    }

    fn oldest_us(&self) -> i64 {
        self.segments
            .front()
            .map_or(0, |segment| segment.duration_us)
    }

    fn listed_us(&self) -> i64 {
        self.listed().map(|segment| segment.duration_us).sum()
    }

    fn front_us(&self) -> i64 {
        self.segments
            .get(self.unlisted)
            .map_or(0, |segment| segment.duration_us)
    }
}

/// How much fits into a rendition's playlists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fits {
    /// Segments in the live playlist.
    pub(crate) listed_max: usize,
    /// How long the live playlist is at least, microseconds, whatever `listed_max` says.
    pub(crate) listed_us_min: i64,
    /// How long the rewind playlist is, to a segment, microseconds; it is never shorter than the live one.
    pub(crate) rewind_us: i64,
}

/// The segment of that number, where numbers go up by one.
fn find(segments: &VecDeque<Arc<Segment>>, msn: u64) -> Option<&Arc<Segment>> {
    let at = msn.checked_sub(segments.front()?.msn)?;
    segments.get(usize::try_from(at).ok()?)
}

/// Everything of a run that can be asked for at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The run as it stands in object names.
    pub run: String,
    /// EXT-X-TARGETDURATION, seconds; constant for the run.
    pub target_s: i64,
    /// The longest a part may be (PART-TARGET), microseconds; constant for the run.
    pub part_target_us: i64,
    /// Video before audio.
    pub renditions: Vec<Rendition>,
    /// Every track in one MPEG-TS rendition, while somebody asks for it.
    pub ts: Option<Rendition>,
    /// The run is over: the playlist ends.
    pub ended: bool,
    /// How it is packaged.
    pub config: Config,
}

impl Snapshot {
    /// The rendition with that path element.
    #[must_use]
    pub fn rendition(&self, name: &str) -> Option<&Rendition> {
        self.renditions
            .iter()
            .find(|rendition| rendition.name() == name)
    }

    /// How far back every rendition goes, microseconds.
    #[must_use]
    pub fn rewindable_us(&self) -> i64 {
        let renditions = self.renditions.iter();
        renditions.map(Rendition::rewindable_us).min().unwrap_or(0)
    }
}
