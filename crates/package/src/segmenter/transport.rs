//! The MPEG-TS rendition of a run, made only while somebody asks for it.
//!
//! Owns: when it begins (at a whole segment, a few before the newest), what that takes, and its window. Does not own: the
//! bytes ([`crate::ts`]) or the order in which tracks reach the marks (the lanes of the segmenter, which pass on what they
//! take).

use std::{collections::VecDeque, sync::Arc};

use weir_media::{Frame, Kind, TrackId};

use super::{Config, live_window};
use crate::{
    cut::{Cut, Mark},
    keep::Keep,
    ts,
    window::{Part, Rendition, Segment},
};

/// The name of the rendition; it is not a path element, because its segments stand beside the playlists.
const NAME: &str = "ts";

/// Whole segments that can be made at once for the first who asks: players begin three target durations before the end,
/// and GStreamer 1.22 does not get beyond a playlist that listed a single one. Their frames are mostly those that the hub
/// still holds as well, so they are kept where nobody asks, too.
const RECENT_SEGMENTS: usize = 3;

/// A frame or a mark of one track, in the track's order.
#[derive(Debug, Clone)]
pub(super) enum Passed {
    Frame(Frame),
    Mark(Mark),
}

impl Passed {
    /// The number of the segment that begins here, if one does.
    fn begins(&self) -> Option<u64> {
        match self {
            Self::Mark(mark) if mark.cut != Cut::Part => Some(mark.msn),
            Self::Mark(_) | Self::Frame(_) => None,
        }
    }
}

/// The newest whole segments of one track and the open one, within one epoch; it begins with a segment's mark.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Passed>);

impl Recent {
    pub(super) fn push(&mut self, passed: Passed) {
        match &passed {
            // An epoch completes the segments before it, whether all tracks have passed them or not.
            Passed::Mark(mark) if mark.cut == Cut::Epoch => self.0.clear(),
            Passed::Mark(mark) if mark.cut == Cut::Segment => {}
            Passed::Mark(_) => return,
            Passed::Frame(_) if self.0.is_empty() => return,
            Passed::Frame(_) => {}
        }
        let begins = passed.begins().is_some();
        self.0.push_back(passed);
        if begins && self.begun() > RECENT_SEGMENTS + 1 {
            self.forget_oldest();
        }
    }

    /// The number of the first segment that is there from its beginning.
    pub(super) fn first_msn(&self) -> Option<u64> {
        self.0.front()?.begins()
    }

    pub(super) fn replay(&self) -> Vec<Passed> {
        self.0.iter().cloned().collect()
    }

    fn begun(&self) -> usize {
        self.0
            .iter()
            .filter(|passed| passed.begins().is_some())
            .count()
    }

    fn forget_oldest(&mut self) {
        self.0.pop_front();
        while self
            .0
            .front()
            .is_some_and(|passed| passed.begins().is_none())
        {
            self.0.pop_front();
        }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    packager: ts::Packager,
    keep: Arc<dyn Keep>,
    /// The first media sequence number that is whole.
    from_msn: u64,
    pub(super) rendition: Rendition,
    pub(super) segments_made: u64,
}

impl Transport {
    pub(super) fn new(from_msn: u64, keep: Arc<dyn Keep>) -> Self {
        let rendition = Rendition::new(NAME, Kind::Video);
        Self {
            packager: ts::Packager::new(),
            keep,
            from_msn,
            rendition,
            segments_made: 0,
        }
    }

    /// Takes what `track` has passed. Before the first whole segment the packager knows no mark and takes no frame.
    pub(super) fn take(
        &mut self,
        passed: Passed,
        track: TrackId,
        config: Config,
        target_s: Option<i64>,
    ) {
        match passed {
            Passed::Frame(frame) => self.packager.push(frame),
            Passed::Mark(mark) if mark.cut != Cut::Part && mark.msn >= self.from_msn => {
                let complete = self.packager.cut(&mark, track);
                self.append(complete, config, target_s);
            }
            Passed::Mark(_) => {}
        }
    }

    pub(super) fn finish(&mut self, config: Config, target_s: Option<i64>) {
        let complete = self.packager.finish();
        self.append(complete, config, target_s);
    }

    fn append(&mut self, complete: Vec<ts::Segment>, config: Config, target_s: Option<i64>) {
        for segment in complete {
            self.segments_made += 1;
            let fits = live_window(config, target_s);
            let listed = listed(segment, &*self.keep);
            self.rendition.append(Arc::new(listed), &fits);
        }
    }
}

fn listed(segment: ts::Segment, keep: &dyn Keep) -> Segment {
    let part = (!segment.is_gap()).then(|| Part {
        duration_us: segment.duration_us,
        independent: segment.independent,
        samples: 0,
        content: keep.keep(NAME, segment.msn, segment.bytes),
    });
    Segment {
        msn: segment.msn,
        discontinuity: segment.discontinuity,
        after_discontinuity: segment.after_discontinuity,
        init: None,
        duration_us: segment.duration_us,
        span: None,
        program_date_time: segment.epoch.anchor.wall_at(segment.at_us),
        captions: false,
        parts: part.into_iter().collect(),
        archived: None,
    }
}
