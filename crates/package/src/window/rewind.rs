//! The rewind window: segments before the live window, in memory up to a cap, then in files.
//!
//! Owns: which of them are listed, which are still served, whose bytes memory holds, and when they go. Snapshots share
//! the list: publishing a part costs the same whether it holds a minute or a day; only a new segment copies it.
//! Does not own: the files. Whoever does tells which segments they hold ([`settle`]).

use std::{collections::VecDeque, sync::Arc};

use super::{Archived, Init, Rendition, Segment, find};

/// How far back viewers can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewind {
    /// How long the rewind playlist is, to a segment, microseconds; 0 keeps nothing beyond the live window.
    pub window_us: i64,
    /// Bytes of a run beyond the live window that memory holds; older ones are only in files, or gone.
    pub memory_bytes: usize,
}

/// The segments of one rendition before its live window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Past {
    /// Oldest first; their numbers go up by one, and those of the live window go on from them.
    segments: Arc<VecDeque<Arc<Segment>>>,
    /// The first segment of the rewind playlist, which may still be one of the live window. None before any.
    from_msn: Option<u64>,
    /// How long the rewind playlist is, the live one with it, microseconds.
    listed_us: i64,
    /// How many of the first segments have left memory.
    archived: usize,
    /// Bytes of the others.
    held_bytes: usize,
}

impl Past {
    pub(super) fn segments(&self) -> &VecDeque<Arc<Segment>> {
        &self.segments
    }

    pub(super) fn listed(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + Clone {
        self.segments.iter().skip(self.unlisted_of(&self.segments))
    }

    /// How many of these come before the rewind playlist.
    pub(super) fn unlisted_of(&self, segments: &VecDeque<Arc<Segment>>) -> usize {
        let unlisted = self
            .from_msn
            .zip(segments.front())
            .map(|(from, front)| from.saturating_sub(front.msn));
        usize::try_from(unlisted.unwrap_or(0)).unwrap_or(usize::MAX)
    }

    pub(super) fn listed_us(&self) -> i64 {
        self.listed_us
    }

    /// The init object of that discontinuity sequence number. Those of a rendition only go up.
    pub(super) fn init(&self, discontinuity: u64) -> Option<&Arc<Init>> {
        let number = |segment: &Arc<Segment>| {
            let init = segment.init.as_ref();
            init.map_or(0, |init| init.discontinuity)
        };
        let at = self
            .segments
            .partition_point(|segment| number(segment) < discontinuity);
        let init = self.segments.get(at)?.init.as_ref();
        init.filter(|init| init.discontinuity == discontinuity)
    }

    /// A segment was appended to the live window.
    pub(super) fn extend(&mut self, segment: &Segment) {
        self.from_msn.get_or_insert(segment.msn);
        self.listed_us += segment.duration_us;
    }

    /// Takes out of the rewind playlist what makes it longer than `window_us` and is not in the `live` one, whose first
    /// segments are `unlisted`.
    pub(super) fn unlist(
        &mut self,
        live: &VecDeque<Arc<Segment>>,
        unlisted: usize,
        window_us: i64,
    ) {
        let Some(live_msn) = live.get(unlisted).map(|segment| segment.msn) else {
            return;
        };
        while let Some(from) = self.from_msn.filter(|&from| from < live_msn) {
            let oldest = find(&self.segments, from).or_else(|| find(live, from));
            let shorter_us = self.listed_us - oldest.map_or(0, |segment| segment.duration_us);
            if shorter_us < window_us {
                return;
            }
            self.listed_us = shorter_us;
            self.from_msn = Some(from + 1);
        }
    }

    /// Keeps a segment that leaves the live window, if the rewind playlist lists it.
    pub(super) fn keep(&mut self, segment: Option<Arc<Segment>>) {
        let listed =
            segment.filter(|segment| self.from_msn.is_some_and(|from| segment.msn >= from));
        if let Some(segment) = listed {
            self.held_bytes += segment.len();
            Arc::make_mut(&mut self.segments).push_back(segment);
        }
    }

    /// Drops what left the rewind playlist its own duration and `linger_us` ago.
    pub(super) fn expire(&mut self, linger_us: i64) {
        let unlisted = self.segments.iter().take(self.unlisted_of(&self.segments));
        let mut unlisted_us: i64 = unlisted.map(|segment| segment.duration_us).sum();
        while let Some(oldest_us) = self.segments.front().map(|segment| segment.duration_us)
            && self.unlisted_of(&self.segments) > 0
            && unlisted_us - oldest_us >= oldest_us + linger_us
        {
            unlisted_us -= oldest_us;
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = Arc::make_mut(&mut self.segments).pop_front() else {
            return;
        };
        if self.archived > 0 {
            self.archived -= 1;
        } else {
            self.held_bytes -= oldest.len();
        }
        if self.from_msn.is_some_and(|from| from <= oldest.msn) {
            self.listed_us -= oldest.duration_us;
            self.from_msn = Some(oldest.msn + 1);
        }
    }

    fn drop_through(&mut self, msn: u64) {
        while self
            .segments
            .front()
            .is_some_and(|oldest| oldest.msn <= msn)
        {
            self.drop_oldest();
        }
    }

    /// The oldest segment whose bytes memory holds.
    fn oldest_held(&self) -> Option<&Arc<Segment>> {
        self.segments.get(self.archived)
    }

    /// Lets the bytes of the oldest segment that memory holds go.
    fn archive_oldest(&mut self) {
        let segments = Arc::make_mut(&mut self.segments);
        let Some(oldest) = segments.get_mut(self.archived) else {
            return;
        };
        self.held_bytes -= oldest.len();
        self.archived += 1;
        if !oldest.is_gap() {
            *oldest = Arc::new(oldest.without_bytes());
        }
    }

    /// The oldest segment that is in a file alone.
    fn oldest_archived(&self) -> Option<&Arc<Segment>> {
        let mut archived = self.segments.iter().take(self.archived);
        archived.find(|segment| segment.archived.is_some())
    }
}

impl Segment {
    fn without_bytes(&self) -> Self {
        let archived = Archived {
            independent: self.independent(),
            len: self.len(),
        };
        Self {
            parts: Vec::new(),
            archived: Some(archived),
            ..self.clone()
        }
    }
}

/// Lets the oldest bytes of a run leave memory where `memory_bytes` are not enough. `is_stored` says whether the segment
/// of that rendition and number is in a file; one that is neither there nor in memory ends the window, in all renditions:
/// a segment that was listed can be taken out at the front only (H7).
pub(crate) fn settle(
    renditions: &mut [&mut Rendition],
    memory_bytes: usize,
    is_stored: impl Fn(&'static str, u64) -> bool,
) {
    let mut lost = None;
    while held_bytes(renditions) > memory_bytes {
        let oldest = |rendition: &&mut Rendition| {
            let held = rendition.past.oldest_held();
            held.map_or(u64::MAX, |segment| segment.msn)
        };
        let Some(rendition) = renditions
            .iter_mut()
            .min_by_key(|rendition| oldest(rendition))
        else {
            break;
        };
        let Some(segment) = rendition.past.oldest_held() else {
            break;
        };
        if !segment.is_gap() && !is_stored(rendition.name, segment.msn) {
            lost = lost.max(Some(segment.msn));
        }
        rendition.past.archive_oldest();
    }
    // A full disk gives up the oldest files.
    let gone = |rendition: &&mut Rendition| {
        let oldest = rendition.past.oldest_archived();
        let gone = oldest.filter(|segment| !is_stored(rendition.name, segment.msn));
        gone.map(|segment| segment.msn)
    };
    lost = lost.max(renditions.iter().filter_map(gone).max());
    while let Some(msn) = lost {
        for rendition in renditions.iter_mut() {
            rendition.past.drop_through(msn);
        }
        lost = renditions.iter().filter_map(gone).max();
    }
}

fn held_bytes(renditions: &[&mut Rendition]) -> usize {
    renditions
        .iter()
        .map(|rendition| rendition.past.held_bytes)
        .sum()
}
