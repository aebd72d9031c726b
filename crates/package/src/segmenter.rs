//! A run's frames to its window of CMAF objects.
//!
//! Owns: the order in which frames meet cut marks: the lead track is cut as its frames come; the others wait until the
//! lead has reached their time, so that all are cut at the same instants (CONFORMANCE H17) however the encoder
//! interleaves. A track that falls silent does not hold the others up (FAULTS F10).

mod transport;

use std::{collections::VecDeque, sync::Arc};

use weir_media::{Epoch, Frame, Kind, Track, TrackId, rescale};

use crate::{
    cmaf::{self, Packager},
    cut::{
        Cut, Cutter, HOLE_US_MAX, Lead, Mark, Numbers,
        follow::{Cuts, Follower},
    },
    keep::{InMemory, Keep},
    window::{
        Fits, Rendition, Segment, Snapshot,
        rewind::{self, Rewind},
    },
};
use transport::{Passed, Recent, Transport};

/// How far one track may be behind the others before they go on without it (F10).
pub(crate) const SILENCE_US_MAX: i64 = 3_000_000;
/// Frames of other tracks that may wait for the lead: [`SILENCE_US_MAX`] of the shortest AAC frames, and some.
const WAITING_FRAMES_MAX: usize = 1_024;
/// A live playlist is never shorter than this many target durations (H8).
const LISTED_TARGETS_MIN: i64 = 3;

const US: u32 = 1_000_000;

/// How a run is packaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Wanted segment duration (`SEGMENT_DURATION`), milliseconds; at least 1000.
    pub segment_ms: u32,
    /// Wanted part duration, milliseconds.
    pub part_ms: u32,
    /// Segments in a playlist (`PLAYLIST_SIZE`).
    pub playlist_segments: usize,
    /// What is kept beyond the live window.
    pub rewind: Rewind,
}

/// Packages one run.
#[derive(Debug)]
pub struct Segmenter {
    config: Config,
    run: String,
    /// Keeps the bytes of parts.
    keep: Arc<dyn Keep>,
    cuts: Cuts,
    /// What the last push decided.
    marks: Vec<Mark>,
    epoch: Option<Arc<Epoch>>,
    lanes: Vec<Lane>,
    waiting: VecDeque<(Arc<Epoch>, Frame)>,
    /// Every track of the first epoch has a segment.
    playable: bool,
    ended: bool,
    ts: Option<Transport>,
}

/// One track on its way to its rendition.
#[derive(Debug)]
struct Lane {
    track: TrackId,
    packager: Packager,
    rendition: Rendition,
    marks: VecDeque<Mark>,
    segments_made: u64,
    /// What MPEG-TS begins with when somebody wants it.
    recent: Recent,
    /// What went by since MPEG-TS was last fed; none while nobody wants it.
    passed: Option<Vec<Passed>>,
}

impl Segmenter {
    /// A segmenter for the run that object names call `run`, which counts from `first`.
    #[must_use]
    pub fn new(config: Config, run: String, first: Numbers) -> Self {
        let cutter = Cutter::new(first, config.segment_ms, config.part_ms);
        Self::with(config, run, Cuts::Own(Box::new(cutter)))
    }

    /// A replica's segmenter, which cuts where the owner of the run did: it makes the same objects from the first whole
    /// segment on, whenever it joins.
    #[must_use]
    pub fn following(config: Config, run: String) -> Self {
        Self::with(config, run, Cuts::Followed(Follower::default()))
    }

    fn with(config: Config, run: String, cuts: Cuts) -> Self {
        Self {
            config,
            run,
            keep: Arc::new(InMemory),
            cuts,
            marks: Vec::new(),
            epoch: None,
            lanes: Vec::new(),
            waiting: VecDeque::new(),
            playable: false,
            ended: false,
            ts: None,
        }
    }

    /// Has `keep` keep the bytes of parts, instead of memory. To be called before the first frame.
    #[must_use]
    pub fn kept_by(self, keep: Arc<dyn Keep>) -> Self {
        Self { keep, ..self }
    }

    /// Makes MPEG-TS segments as well, at the same cuts, from the newest few on; or no longer.
    pub fn want_ts(&mut self, wanted: bool) {
        if wanted != self.ts.is_some() {
            let next_msn = self.cuts.next_numbers().msn;
            let begins = self.lanes.iter().map(|lane| lane.recent.first_msn());
            // The first segment of which no track has forgotten anything.
            let from_msn = begins.map(|msn| msn.unwrap_or(next_msn)).max();
            self.ts = wanted
                .then(|| Transport::new(from_msn.unwrap_or(next_msn), Arc::clone(&self.keep)));
            for lane in &mut self.lanes {
                lane.passed = wanted.then(|| lane.recent.replay());
            }
        }
    }

    /// Takes the marks that the owner decided when it took its next frame; that frame is to be pushed next.
    pub fn follow(&mut self, marks: &[Mark]) {
        if let Cuts::Followed(follower) = &mut self.cuts {
            follower.take(marks);
        }
    }

    /// The marks that the last push, or the end of the run, has decided: a replica has to follow them.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Takes the next frame of the run.
    pub fn push(&mut self, epoch: &Arc<Epoch>, frame: &Frame) {
        self.marks.clear();
        let Some((lead, track)) = epoch.lead().zip(epoch.track(frame.track)) else {
            return;
        };
        if let Cuts::Followed(follower) = &mut self.cuts {
            follower.note(track.id, rescale(frame.pts, track.timescale, US));
        }
        if lead.id == track.id {
            self.push_lead(epoch, track, frame);
        } else {
            self.waiting.push_back((Arc::clone(epoch), frame.clone()));
            let at_us = rescale(frame.pts, track.timescale, US);
            if !self.is_current(epoch) {
                self.begin_without_lead(epoch, at_us);
            } else if at_us - self.cuts.reached_us() > SILENCE_US_MAX {
                self.go_on_without_lead(at_us - SILENCE_US_MAX);
            }
            if self.waiting.len() > WAITING_FRAMES_MAX {
                self.waiting.pop_front();
            }
        }
        self.drain(false);
        self.feed_ts();
    }

    /// The run is over: what is open becomes complete.
    pub fn finish(&mut self) {
        self.marks.clear();
        self.flush();
        self.cuts.finish();
        let at_us = self.cuts.reached_us();
        for lane in &mut self.lanes {
            if let Some(segment) = lane.packager.finish(at_us) {
                lane.append(segment, self.config, self.cuts.target_s());
            }
        }
        self.feed_ts();
        if let Some(ts) = &mut self.ts {
            ts.finish(self.config, self.cuts.target_s());
        }
        self.ended = true;
        self.playable = true;
    }

    /// Hands what the lanes passed to the MPEG-TS output.
    fn feed_ts(&mut self) {
        let Some(ts) = &mut self.ts else { return };
        for lane in &mut self.lanes {
            for passed in lane.passed.iter_mut().flat_map(|passed| passed.drain(..)) {
                ts.take(passed, lane.track, self.config, self.cuts.target_s());
            }
        }
    }

    /// What a later run of the same name has to count from, so that its numbers never go back.
    #[must_use]
    pub fn next_numbers(&self) -> Numbers {
        self.cuts.next_numbers()
    }

    /// Lets bytes of the rewind window leave memory where they are too many; to be called after segments became complete.
    /// `is_stored` says whether the segment of a rendition and number is in a file, so that it stays listed.
    pub fn settle_rewind(&mut self, is_stored: impl Fn(&'static str, u64) -> bool) {
        let lanes = self.lanes.iter_mut();
        let mut renditions: Vec<_> = lanes.map(|lane| &mut lane.rendition).collect();
        rewind::settle(&mut renditions, self.config.rewind.memory_bytes, is_stored);
    }

    /// Counts the segments that became complete: a playlist of segments changes with it.
    #[must_use]
    pub fn segments_made(&self) -> u64 {
        let ts = self.ts.as_ref().map_or(0, |ts| ts.segments_made);
        self.lanes
            .iter()
            .map(|lane| lane.segments_made)
            .sum::<u64>()
            + ts
    }

    /// Counts the parts that became complete: a playlist of parts changes with it, or with [`Self::segments_made`].
    #[must_use]
    pub fn parts_made(&self) -> u64 {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.packager.parts_made()).sum()
    }

    /// What can be asked for now; none until the target duration is known and each track has a complete segment. A track
    /// that joins later is there once it has one.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let targets = self.cuts.targets()?;
        let begun: Vec<&Lane> = self
            .lanes
            .iter()
            .filter(|lane| !lane.rendition.segments.is_empty())
            .collect();
        if begun.is_empty() || !self.playable {
            return None;
        }
        let mut renditions: Vec<Rendition> = begun
            .iter()
            .map(|lane| lane.rendition.with_open(lane.packager.open()))
            .collect();
        renditions.sort_by_key(|rendition| rendition.kind == Kind::Audio);
        Some(Arc::new(Snapshot {
            run: self.run.clone(),
            target_s: targets.target_s,
            part_target_us: targets.part_us,
            renditions,
            ts: self
                .ts
                .as_ref()
                .map(|ts| ts.rendition.clone())
                .filter(|ts| !ts.segments.is_empty()),
            ended: self.ended,
            config: self.config,
        }))
    }

    fn push_lead(&mut self, epoch: &Arc<Epoch>, track: &Track, frame: &Frame) {
        let shift = match self.lane(track.id).filter(|_| self.is_current(epoch)) {
            Some(lane) => lane.packager.shift(),
            None => None,
        };
        let shift = shift.unwrap_or_else(|| cmaf::shift_of(frame));
        let at_us = rescale(frame.dts + shift, track.timescale, US);
        if !self.is_current(epoch) {
            self.open_lanes(epoch, track.id);
        }
        let mut marks = VecDeque::new();
        let lead = Lead {
            at_us,
            sync: frame.sync,
            composition: Some(shift),
        };
        self.cuts.lead(epoch, lead, &mut marks);
        self.announce(track.id, &marks);
        let (config, target_s) = (self.config, self.cuts.target_s());
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == track.id) else {
            return;
        };
        if let Some(mark) = marks.front().filter(|mark| mark.cut != Cut::Epoch) {
            lane.packager.settle_before(frame, mark.at_us);
        }
        for mark in &marks {
            lane.cut(mark, config, target_s);
        }
        lane.take(frame);
    }

    /// An epoch whose lead track has not come although another has been there for long, until `at_us`.
    fn begin_without_lead(&mut self, epoch: &Arc<Epoch>, at_us: i64) {
        let newer = |(waiting, frame): &(Arc<Epoch>, Frame)| {
            let track = waiting
                .track(frame.track)
                .filter(|_| Epoch::same(waiting, epoch))?;
            Some(rescale(frame.pts, track.timescale, US))
        };
        let Some(begins_us) = self.waiting.iter().find_map(newer) else {
            return;
        };
        let Some(lead) = epoch
            .lead()
            .filter(|_| at_us - begins_us > SILENCE_US_MAX)
            .map(|track| track.id)
        else {
            return;
        };
        self.open_lanes(epoch, lead);
        let mut marks = VecDeque::new();
        let missing = Lead {
            at_us: begins_us,
            sync: false,
            composition: None,
        };
        self.cuts.lead(epoch, missing, &mut marks);
        self.cut_all(lead, &marks);
    }

    fn go_on_without_lead(&mut self, at_us: i64) {
        let mut marks = VecDeque::new();
        self.cuts.without_lead(at_us, &mut marks);
        let Some(lead) = self
            .epoch
            .as_ref()
            .and_then(|epoch| epoch.lead())
            .map(|track| track.id)
        else {
            return;
        };
        self.cut_all(lead, &marks);
    }

    /// Cuts the lead track, which has no frame there, and announces the marks to the others.
    fn cut_all(&mut self, lead: TrackId, marks: &VecDeque<Mark>) {
        self.announce(lead, marks);
        let (config, target_s) = (self.config, self.cuts.target_s());
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == lead) {
            for mark in marks {
                lane.cut(mark, config, target_s);
            }
        }
    }

    /// Hands new marks to every track but the lead.
    fn announce(&mut self, lead: TrackId, marks: &VecDeque<Mark>) {
        self.marks.extend(marks.iter().cloned());
        for lane in self.lanes.iter_mut().filter(|lane| lane.track != lead) {
            lane.marks.extend(marks.iter().cloned());
        }
    }

    /// Packages the waiting frames whose time the lead has reached; all of them if `force`.
    fn drain(&mut self, force: bool) {
        let reached_us = self.cuts.reached_us();
        let (config, target_s) = (self.config, self.cuts.target_s());
        while let Some((epoch, frame)) = self.waiting.front() {
            let Some(track) = epoch.track(frame.track) else {
                self.waiting.pop_front();
                continue;
            };
            let at_us = rescale(frame.pts, track.timescale, US);
            let begun = self
                .epoch
                .as_ref()
                .is_some_and(|current| epoch.index <= current.index);
            if !begun || (!force && at_us > reached_us) {
                break;
            }
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == frame.track) {
                lane.push(epoch, frame, at_us, config, target_s);
            }
            self.waiting.pop_front();
        }
        for lane in &mut self.lanes {
            lane.cut_silent(reached_us.saturating_sub(SILENCE_US_MAX), config, target_s);
        }
        self.playable |= !self.lanes.is_empty()
            && self
                .lanes
                .iter()
                .all(|lane| !lane.rendition.segments.is_empty());
    }

    /// Packages all that waits for the current epoch: its lead will not come any more. Where the others are ahead of it,
    /// their segments must not outgrow the target.
    fn flush(&mut self) {
        let ahead = self
            .waiting
            .iter()
            .filter(|(epoch, _)| self.is_current(epoch))
            .filter_map(|(epoch, frame)| {
                epoch
                    .track(frame.track)
                    .map(|track| rescale(frame.pts, track.timescale, US) - HOLE_US_MAX)
            });
        if let Some(at_us) = ahead.max().filter(|&at_us| at_us > self.cuts.reached_us()) {
            self.go_on_without_lead(at_us);
        }
        self.drain(true);
    }

    /// Makes a lane for every track of a new epoch. The rendition of a track that the epoch lacks goes on with gaps.
    fn open_lanes(&mut self, epoch: &Arc<Epoch>, lead: TrackId) {
        self.flush();
        // An epoch that ended before its lead came is left out: it was too short to wait for.
        self.waiting
            .retain(|(waiting, _)| waiting.index >= epoch.index);
        let (config, target_s) = (self.config, self.cuts.target_s());
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == lead) {
            // It may have followed another lead, whose marks come before its own.
            lane.cut_silent(i64::MAX, config, target_s);
        }
        for track in &epoch.tracks {
            if self.lane(track.id).is_none() {
                let rendition = Rendition::of(track.kind());
                self.lanes.push(Lane {
                    track: track.id,
                    packager: Packager::new(rendition.name(), Arc::clone(&self.keep)),
                    rendition,
                    marks: VecDeque::new(),
                    segments_made: 0,
                    recent: Recent::default(),
                    passed: self.ts.as_ref().map(|_| Vec::new()),
                });
            }
        }
        self.epoch = Some(Arc::clone(epoch));
    }

    fn lane(&self, track: TrackId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.track == track)
    }

    fn is_current(&self, epoch: &Arc<Epoch>) -> bool {
        self.epoch
            .as_ref()
            .is_some_and(|current| Epoch::same(current, epoch))
    }
}

impl Lane {
    /// A frame of a track that is not the lead, with every mark before it.
    fn push(
        &mut self,
        epoch: &Arc<Epoch>,
        frame: &Frame,
        at_us: i64,
        config: Config,
        target_s: Option<i64>,
    ) {
        while let Some(mark) = self.marks.front() {
            let begins_epoch = mark.cut == Cut::Epoch;
            if mark.epoch.index > epoch.index || (!begins_epoch && mark.at_us > at_us) {
                break;
            }
            if begins_epoch && at_us < mark.at_us {
                // Sound before the first picture of an epoch.
                return;
            }
            if !begins_epoch && mark.epoch.index == epoch.index {
                self.packager.settle_before(frame, mark.at_us);
            }
            if let Some(mark) = self.marks.pop_front() {
                self.cut(&mark, config, target_s);
            }
        }
        self.take(frame);
    }

    /// Packages a frame behind every mark before it.
    fn take(&mut self, frame: &Frame) {
        self.pass(Passed::Frame(frame.clone()));
        self.packager.push(frame.clone());
    }

    /// Keeps for MPEG-TS what went by.
    fn pass(&mut self, passed: Passed) {
        if let Some(waiting) = &mut self.passed {
            waiting.push(passed.clone());
        }
        self.recent.push(passed);
    }

    /// Applies marks that the track should long have passed.
    fn cut_silent(&mut self, until_us: i64, config: Config, target_s: Option<i64>) {
        while self.marks.front().is_some_and(|mark| mark.at_us < until_us) {
            if let Some(mark) = self.marks.pop_front() {
                self.cut(&mark, config, target_s);
            }
        }
    }

    fn cut(&mut self, mark: &Mark, config: Config, target_s: Option<i64>) {
        let track = mark.epoch.track(self.track);
        let first = mark.epoch.index == 0;
        self.pass(Passed::Mark(mark.clone()));
        if let Some(segment) = self.packager.cut(mark, track, first) {
            self.append(segment, config, target_s);
        }
    }

    fn append(&mut self, segment: Segment, config: Config, target_s: Option<i64>) {
        self.segments_made += 1;
        let fits = Fits {
            rewind_us: config.rewind.window_us,
            ..live_window(config, target_s)
        };
        self.rendition.append(Arc::new(segment), &fits);
    }
}

/// What fits into the playlists of a rendition that does not rewind.
fn live_window(config: Config, target_s: Option<i64>) -> Fits {
    Fits {
        listed_max: config.playlist_segments,
        listed_us_min: target_s.unwrap_or(0) * LISTED_TARGETS_MIN * i64::from(US),
        rewind_us: 0,
    }
}

#[cfg(test)]
mod tests;
