//! The MPEG-TS rendition of a run, made only while somebody asks for it.
//!
//! Owns: when it begins (at a whole segment) and its window. Does not own: the bytes ([`crate::ts`]) or the order in
//! which tracks reach the marks (the lanes of the segmenter, which pass on what they take).

use std::sync::Arc;

use weir_media::{Kind, TrackId};

use super::{Config, Passed, live_window};
use crate::{
    cut::Cut,
    ts,
    window::{Part, Rendition, Segment},
};

/// The name of the rendition; it is not a path element, because its segments stand beside the playlists.
const NAME: &str = "ts";

#[derive(Debug)]
pub(super) struct Transport {
    packager: ts::Packager,
    /// The first media sequence number that is whole.
    from_msn: u64,
    pub(super) rendition: Rendition,
    pub(super) segments_made: u64,
}

impl Transport {
    pub(super) fn new(from_msn: u64) -> Self {
        let rendition = Rendition::new(NAME, Kind::Video);
        Self {
            packager: ts::Packager::new(),
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
            self.rendition.append(Arc::new(listed(segment)), &fits);
        }
    }
}

fn listed(segment: ts::Segment) -> Segment {
    let part = Part {
        duration_us: segment.duration_us,
        independent: segment.independent,
        samples: 0,
        bytes: segment.bytes,
    };
    Segment {
        msn: segment.msn,
        discontinuity: segment.discontinuity,
        after_discontinuity: segment.after_discontinuity,
        init: None,
        duration_us: segment.duration_us,
        span: None,
        program_date_time: segment.epoch.anchor.wall_at(segment.at_us),
        parts: if part.bytes.is_empty() {
            Vec::new()
        } else {
            vec![part]
        },
        archived: None,
    }
}
