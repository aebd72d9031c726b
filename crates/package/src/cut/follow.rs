//! Cuts that somebody else has decided.
//!
//! Owns: handing out the marks of the run's owner at the frames that they were decided at, so that a replica packages the
//! same bytes (DESIGN 4). Does not own: how marks travel.

use std::{collections::VecDeque, sync::Arc};

use weir_media::{Epoch, TrackId};

use super::{Cut, Cutter, Lead, Mark, Numbers, Targets};
use crate::segmenter::SILENCE_US_MAX;

/// Marks that may wait for their frames: those of ten minutes.
const WAITING_MAX: usize = 2_048;

/// Follows the marks of a run's owner, from anywhere in the run on.
#[derive(Debug, Default)]
pub struct Follower {
    waiting: VecDeque<Mark>,
    /// The first frame of each track, microseconds.
    joined: Vec<(TrackId, i64)>,
    /// What the newest mark said.
    targets: Option<Targets>,
    newest: Option<Numbers>,
    reached_us: i64,
}

impl Follower {
    /// Notes a frame, presented at `at_us`, whether it can be packaged yet or not.
    pub fn note(&mut self, track: TrackId, at_us: i64) {
        if self.newest.is_none() && !self.joined.iter().any(|(known, _)| *known == track) {
            self.joined.push((track, at_us));
        }
    }

    /// Takes the next marks. Those before the first segment that is whole here are for others.
    pub fn take(&mut self, marks: &[Mark]) {
        for mark in marks {
            if self.newest.is_none() && !self.begins_whole(mark) {
                continue;
            }
            self.newest = Some(Numbers {
                msn: mark.msn,
                discontinuity: mark.discontinuity,
            });
            self.waiting.push_back(mark.clone());
            if self.waiting.len() > WAITING_MAX {
                self.waiting.pop_front();
            }
        }
    }

    /// Whether no frame of the segment that begins here can have gone by before we joined: the frames of a track come in
    /// order, and one before the mark has been here. A track that is silent for long has none.
    fn begins_whole(&self, mark: &Mark) -> bool {
        let first_us = self.joined.iter().map(|(_, at_us)| *at_us).min();
        let was_here = |track: TrackId| {
            let mut joined = self.joined.iter();
            joined.any(|&(known, at_us)| known == track && at_us < mark.at_us)
        };
        mark.cut != Cut::Part
            && (mark.epoch.tracks.iter().all(|track| was_here(track.id))
                || first_us.is_some_and(|first_us| mark.at_us - first_us > SILENCE_US_MAX))
    }

    fn until(&mut self, epoch: Option<&Arc<Epoch>>, at_us: i64, marks: &mut VecDeque<Mark>) {
        self.reached_us = self.reached_us.max(at_us);
        let is_due = |mark: &Mark| match epoch {
            Some(epoch) if mark.epoch.index != epoch.index => mark.epoch.index < epoch.index,
            _ => mark.at_us <= at_us,
        };
        while let Some(mark) = self.waiting.pop_front_if(|mark| is_due(mark)) {
            self.targets = mark.targets.or(self.targets);
            marks.push_back(mark);
        }
    }
}

/// Where the cuts of a run come from.
#[derive(Debug)]
pub(crate) enum Cuts {
    /// They are decided here.
    Own(Box<Cutter>),
    /// They come from the run's owner.
    Followed(Follower),
}

impl Cuts {
    /// A frame of the lead track; appends the marks that lie at or before it.
    pub(crate) fn lead(&mut self, epoch: &Arc<Epoch>, lead: Lead, marks: &mut VecDeque<Mark>) {
        match self {
            Self::Own(cutter) => cutter.lead(epoch, lead, marks),
            Self::Followed(follower) => follower.until(Some(epoch), lead.at_us, marks),
        }
    }

    /// The lead track is silent and the others have gone on to `at_us`.
    pub(crate) fn without_lead(&mut self, at_us: i64, marks: &mut VecDeque<Mark>) {
        match self {
            Self::Own(cutter) => cutter.without_lead(at_us, marks),
            Self::Followed(follower) => follower.until(None, at_us, marks),
        }
    }

    /// The run is over.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Own(cutter) => cutter.finish(),
            Self::Followed(_) => {}
        }
    }

    /// What the run's playlists promise, once it is known.
    pub(crate) fn targets(&self) -> Option<Targets> {
        match self {
            Self::Own(cutter) => cutter.targets(),
            Self::Followed(follower) => follower.targets,
        }
    }

    /// The target duration in seconds, once it is known.
    pub(crate) fn target_s(&self) -> Option<i64> {
        self.targets().map(|targets| targets.target_s)
    }

    /// Presentation time that the lead track has reached.
    pub(crate) fn reached_us(&self) -> i64 {
        match self {
            Self::Own(cutter) => cutter.reached_us(),
            Self::Followed(follower) => follower.reached_us,
        }
    }

    /// The first numbers that this run has not used, as far as is known here.
    pub(crate) fn next_numbers(&self) -> Numbers {
        match self {
            Self::Own(cutter) => cutter.next_numbers(),
            Self::Followed(follower) => {
                let newest = follower.newest.unwrap_or(Numbers {
                    msn: 0,
                    discontinuity: 0,
                });
                Numbers {
                    msn: newest.msn + 1,
                    discontinuity: newest.discontinuity + 1,
                }
            }
        }
    }
}
