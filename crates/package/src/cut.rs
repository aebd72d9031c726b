//! Where a run is cut into segments and parts.
//!
//! Owns: the one decision per cut ([`Mark`]), taken on the lead track (video when there is one), and the target
//! duration, which never changes within a run (CONFORMANCE H3, H4). Every track is cut at the marks.
//! A replica of the run follows the marks of its owner instead ([`follow`]).
//! Does not own: the bytes of the pieces ([`crate::cmaf`]).

pub mod follow;

use std::{collections::VecDeque, sync::Arc};

use weir_media::{Epoch, Kind, codec::Codec};

/// How far a key frame may come before the wanted duration and still end the segment: RTMP rounds to milliseconds and
/// encoders place key frames a frame early or late.
const CUT_TOLERANCE_US: i64 = 100_000;
/// How short a segment that a forced cut began may be when a key frame ends it: a shorter one is hardly worth a request.
const AFTER_FORCED_US_MIN: i64 = 250_000;
/// How long the second key frame is awaited before the target duration is chosen (H4).
const GOP_WAIT_US: i64 = 3_000_000;
/// The target duration when the key frames are too far apart to wait for (H4), in seconds.
const TARGET_S_LONG_GOP: i64 = 10;
/// How much longer than the target a segment may get when the lead track pauses; together with the pause of another
/// track at the same cut it stays below the half second that H3 leaves.
pub(crate) const HOLE_US_MAX: i64 = 250_000;
/// What a frame is taken to last until two have shown it.
const FRAME_US_DEFAULT: i64 = 40_000;
/// How far the durations of two parts may differ because RTMP rounds times to milliseconds.
const PART_JITTER_US: i64 = 2_000;
/// A part is at least this part of PART-TARGET, in percent: the 85 that L1 asks for, and one to spare.
const PART_PERCENT_MIN: i64 = 86;

const US_PER_S: i64 = 1_000_000;

/// What ends at a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Only the part.
    Part,
    /// The part and its segment.
    Segment,
    /// The part, its segment and everything that held for it: a discontinuity.
    Epoch,
}

/// One cut: what begins there. Marks travel with relayed frames, so that a replica packages the same bytes.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Presentation time on the output clock, microseconds. What is presented from here on belongs behind the mark.
    pub at_us: i64,
    /// Where the output before the mark ends: at the mark, or before the gap between two epochs.
    pub ends_us: i64,
    /// Where the epoch of what comes behind the mark begins, microseconds.
    pub epoch_us: i64,
    /// What ends here.
    pub cut: Cut,
    /// Media sequence number of the segment that begins, or goes on, here.
    pub msn: u64,
    /// Discontinuity sequence number of that segment.
    pub discontinuity: u64,
    /// Counts the marks of the run: the number of the chunk that begins here (C4).
    pub chunk: u32,
    /// The composition offset of the lead track's first frame in the epoch, ticks; none before that frame.
    pub composition: Option<i64>,
    /// What the playlists of the run promise, once it is known.
    pub targets: Option<Targets>,
    /// The epoch of that segment.
    pub epoch: Arc<Epoch>,
}

/// Sequence numbers of playlists. Those of a name only ever go up (CONFORMANCE H5, H6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Media sequence number.
    pub msn: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
}

/// What playlists promise of every segment and part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// EXT-X-TARGETDURATION, seconds.
    pub target_s: i64,
    /// PART-TARGET, microseconds.
    pub part_us: i64,
}

/// A frame of the lead track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// When it is presented on the output clock, by its decode time, microseconds.
    pub at_us: i64,
    /// Whether decoding can start at it.
    pub sync: bool,
    /// The composition offset of the first frame of its epoch, ticks; none if this is not a frame but the time from
    /// which one has been missing.
    pub composition: Option<i64>,
}

/// Decides the cuts of a run.
#[derive(Debug)]
pub struct Cutter {
    segment_us: i64,
    part: PartLength,
    target: Target,
    msn: u64,
    discontinuity: u64,
    chunk: u32,
    composition: Option<i64>,
    epoch: Option<Arc<Epoch>>,
    epoch_us: i64,
    segment_start_us: i64,
    part_start_us: i64,
    last_us: i64,
    frame_us: i64,
    begun: bool,
    /// Whether the open segment begins with a key frame. If not, the next key frame ends it early: otherwise key frames
    /// as far apart as the target would never meet a cut again.
    begun_by_key: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The first key frame of this epoch came at this time; the second decides. An epoch before may have left a
    /// segment this long.
    Measuring {
        first_key_us: i64,
        longest_us: i64,
    },
    Fixed {
        target_s: i64,
    },
}

/// How long parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartLength {
    /// The first part will show what a multiple of the frame duration near to this is.
    Measuring {
        wanted_us: i64,
    },
    Fixed {
        part_us: i64,
        target_us: i64,
    },
}

impl PartLength {
    /// Whether a part of the lead track that is `elapsed_us` long ends at a frame of `frame_us`. The others have frames
    /// of up to `grain_us` and are cut between two of them, so their parts are that much longer or shorter.
    fn ends(&mut self, elapsed_us: i64, frame_us: i64, grain_us: i64) -> bool {
        match *self {
            Self::Measuring { wanted_us } => {
                // Shorter ones could not differ by a grain and still be as alike as L1 asks for.
                let shortest_us = grain_us * 27 / 2;
                let ends = elapsed_us + frame_us / 2 > wanted_us && elapsed_us >= shortest_us;
                if ends {
                    let shortest_us = elapsed_us - grain_us - PART_JITTER_US;
                    let longest_us = elapsed_us + grain_us + PART_JITTER_US;
                    *self = Self::Fixed {
                        part_us: elapsed_us,
                        target_us: ceil_ms(longest_us.max(shortest_us * 100 / PART_PERCENT_MIN)),
                    };
                }
                ends
            }
            Self::Fixed { part_us, .. } => elapsed_us + frame_us / 2 > part_us,
        }
    }
}

/// The longest frame of a track that is not the lead, as far as its codec tells, microseconds.
fn grain_us(epoch: &Epoch) -> i64 {
    let lead = epoch.lead().map(|lead| lead.id);
    let others = epoch.tracks.iter().filter(|track| Some(track.id) != lead);
    let frames = others.map(|track| match &track.codec {
        Codec::Aac(config) => i64::from(config.frame_len) * US_PER_S / i64::from(track.timescale),
        Codec::H264(_) => 0,
    });
    frames.max().unwrap_or(0)
}

impl Cutter {
    /// A cutter for a run that counts from `first`; `segment_ms` and `part_ms` are what is wanted.
    #[must_use]
    pub fn new(first: Numbers, segment_ms: u32, part_ms: u32) -> Self {
        Self {
            segment_us: i64::from(segment_ms) * 1_000,
            part: PartLength::Measuring {
                wanted_us: i64::from(part_ms) * 1_000,
            },
            target: Target::Measuring {
                first_key_us: 0,
                longest_us: 0,
            },
            msn: first.msn,
            discontinuity: first.discontinuity,
            chunk: 0,
            composition: None,
            epoch: None,
            epoch_us: 0,
            segment_start_us: 0,
            part_start_us: 0,
            last_us: 0,
            frame_us: FRAME_US_DEFAULT,
            begun: false,
            begun_by_key: true,
        }
    }

    /// The first numbers that this run has not used.
    #[must_use]
    pub fn next_numbers(&self) -> Numbers {
        Numbers {
            msn: self.msn + 1,
            discontinuity: self.discontinuity + 1,
        }
    }

    fn target_s(&self) -> Option<i64> {
        match self.target {
            Target::Measuring { .. } => None,
            Target::Fixed { target_s } => Some(target_s),
        }
    }

    /// What the playlists promise, once it is known; from then on it never changes.
    #[must_use]
    pub fn targets(&self) -> Option<Targets> {
        match (self.target, self.part) {
            (Target::Fixed { target_s }, PartLength::Fixed { target_us, .. }) => Some(Targets {
                target_s,
                part_us: target_us,
            }),
            _ => None,
        }
    }

    /// Presentation time that the lead track has reached.
    #[must_use]
    pub fn reached_us(&self) -> i64 {
        self.last_us
    }

    /// A frame of the lead track; appends the marks that lie at or before it.
    pub fn lead(&mut self, epoch: &Arc<Epoch>, lead: Lead, marks: &mut VecDeque<Mark>) {
        let Lead { at_us, sync, .. } = lead;
        if !self
            .epoch
            .as_ref()
            .is_some_and(|current| Epoch::same(current, epoch))
        {
            self.composition = lead.composition;
            self.begin_epoch(epoch, at_us, marks);
            self.begun_by_key = sync;
            return;
        }
        self.composition = self.composition.or(lead.composition);
        let delta_us = at_us.saturating_sub(self.last_us);
        if (1..=US_PER_S).contains(&delta_us) {
            self.frame_us = delta_us;
        }
        self.last_us = self.last_us.max(at_us);
        self.measure(at_us, sync);
        self.skip_hole(at_us, sync, marks);
        let elapsed_us = at_us - self.segment_start_us;
        let shortest_us = if self.begun_by_key {
            self.segment_us - CUT_TOLERANCE_US
        } else {
            AFTER_FORCED_US_MIN
        };
        let wanted = sync && elapsed_us >= shortest_us;
        let forced = self.target_s().is_some_and(|target_s| {
            elapsed_us + self.frame_us > target_s * US_PER_S + CUT_TOLERANCE_US
        });
        if self.target_s().is_some() && (wanted || forced) {
            self.cut_segment(at_us, marks);
            self.begun_by_key = sync;
        } else if self
            .part
            .ends(at_us - self.part_start_us, self.frame_us, grain_us(epoch))
        {
            self.cut(at_us, Cut::Part, marks);
        }
    }

    /// The lead track is silent and the others have gone on to `at_us`: segments go on without it.
    pub fn without_lead(&mut self, at_us: i64, marks: &mut VecDeque<Mark>) {
        self.measure(at_us, false);
        self.last_us = self.last_us.max(at_us);
        let Some(target_s) = self.target_s() else {
            return;
        };
        while at_us - self.segment_start_us >= target_s * US_PER_S {
            let end_us = self.segment_start_us + target_s * US_PER_S;
            self.cut_parts_until(end_us, marks);
            self.cut_segment(end_us, marks);
            self.begun_by_key = false;
        }
        self.cut_parts_until(at_us, marks);
    }

    /// Cuts parts where the lead track has no frames to cut between. The last one is not shorter than half a part.
    fn cut_parts_until(&mut self, end_us: i64, marks: &mut VecDeque<Mark>) {
        let PartLength::Fixed { part_us, .. } = self.part else {
            return;
        };
        while end_us - self.part_start_us >= part_us + part_us / 2 {
            self.cut(self.part_start_us + part_us, Cut::Part, marks);
        }
    }

    /// The run is over. A target duration that is still unknown becomes what its segments need.
    pub fn finish(&mut self) {
        if let Target::Measuring { .. } = self.target {
            self.fix_target(self.segment_us_until(self.ends_us()));
        }
        self.fix_part();
    }

    fn begin_epoch(&mut self, epoch: &Arc<Epoch>, at_us: i64, marks: &mut VecDeque<Mark>) {
        if self.epoch.replace(Arc::clone(epoch)).is_some() {
            self.msn += 1;
            self.discontinuity += 1;
        }
        let ends_us = self.ends_us();
        match self.target {
            // Every audio frame is a sync point, so any duration can be kept.
            Target::Measuring { longest_us, .. } => {
                let longest_us = longest_us.max(self.segment_us_until(ends_us));
                self.target = Target::Measuring {
                    first_key_us: at_us,
                    longest_us,
                };
                if epoch.lead().is_some_and(|lead| lead.kind() == Kind::Audio) {
                    self.fix_target(self.segment_us);
                }
            }
            Target::Fixed { .. } => {}
        }
        self.last_us = at_us;
        self.segment_start_us = at_us;
        self.epoch_us = at_us;
        self.push_mark(at_us, ends_us, Cut::Epoch, marks);
    }

    /// Where the output ends if nothing more comes.
    fn ends_us(&self) -> i64 {
        self.last_us
            .saturating_add(self.frame_us.min(FRAME_US_DEFAULT))
    }

    /// How long the open segment is if it ends at `ends_us`; 0 before the first segment.
    fn segment_us_until(&self, ends_us: i64) -> i64 {
        if self.begun {
            ends_us.saturating_sub(self.segment_start_us)
        } else {
            0
        }
    }

    fn fix_target(&mut self, wanted_us: i64) {
        let Target::Measuring { longest_us, .. } = self.target else {
            return;
        };
        let target_s = [wanted_us, longest_us]
            .map(|us| ceil_s(us - CUT_TOLERANCE_US))
            .into_iter()
            .max();
        self.target = Target::Fixed {
            target_s: target_s.unwrap_or(0).max(ceil_s(self.segment_us)),
        };
    }

    /// Segments of one frame have no parts to measure: a part may be as long as a segment.
    fn fix_part(&mut self) {
        if let (PartLength::Measuring { .. }, Some(target_s)) = (self.part, self.target_s()) {
            let target_us = target_s * US_PER_S;
            self.part = PartLength::Fixed {
                part_us: target_us,
                target_us,
            };
        }
    }

    /// Chooses the target duration: from the distance of the first two key frames, or without it after a while.
    fn measure(&mut self, at_us: i64, sync: bool) {
        let Target::Measuring { first_key_us, .. } = self.target else {
            return;
        };
        let gop_us = at_us.saturating_sub(first_key_us);
        if sync && (1..=GOP_WAIT_US + CUT_TOLERANCE_US).contains(&gop_us) {
            let gops = (self.segment_us - CUT_TOLERANCE_US)
                .max(1)
                .div_ceil_positive(gop_us);
            self.fix_target(gops * gop_us);
        } else if gop_us >= GOP_WAIT_US + CUT_TOLERANCE_US {
            self.fix_target(TARGET_S_LONG_GOP * US_PER_S);
        }
    }

    /// The lead track paused for longer than a segment may last: the hole becomes segments without it. What would
    /// last less than a second stays with the segment that follows, so that sequence numbers do not outrun the clock.
    fn skip_hole(&mut self, at_us: i64, sync: bool, marks: &mut VecDeque<Mark>) {
        let Some(target_s) = self.target_s() else {
            return;
        };
        if at_us - self.segment_start_us > target_s * US_PER_S + HOLE_US_MAX {
            self.without_lead(at_us - 1, marks);
            if at_us - self.segment_start_us >= US_PER_S {
                self.cut_segment(at_us, marks);
                self.begun_by_key = sync;
            }
        }
    }

    fn cut_segment(&mut self, at_us: i64, marks: &mut VecDeque<Mark>) {
        self.fix_part();
        self.msn += 1;
        self.segment_start_us = at_us;
        self.cut(at_us, Cut::Segment, marks);
    }

    fn cut(&mut self, at_us: i64, cut: Cut, marks: &mut VecDeque<Mark>) {
        self.push_mark(at_us, at_us, cut, marks);
    }

    fn push_mark(&mut self, at_us: i64, ends_us: i64, cut: Cut, marks: &mut VecDeque<Mark>) {
        let Some(epoch) = self.epoch.clone() else {
            return;
        };
        self.begun = true;
        self.part_start_us = at_us;
        self.chunk = self.chunk.wrapping_add(1);
        marks.push_back(Mark {
            at_us,
            ends_us,
            epoch_us: self.epoch_us,
            cut,
            msn: self.msn,
            discontinuity: self.discontinuity,
            chunk: self.chunk,
            composition: self.composition,
            targets: self.targets(),
            epoch,
        });
    }
}

/// Whole milliseconds, rounded up; microseconds.
fn ceil_ms(us: i64) -> i64 {
    us.div_ceil_positive(1_000) * 1_000
}

/// Whole seconds, rounded up.
fn ceil_s(us: i64) -> i64 {
    us.div_ceil_positive(US_PER_S)
}

trait DivCeil {
    fn div_ceil_positive(self, by: i64) -> i64;
}

impl DivCeil for i64 {
    fn div_ceil_positive(self, by: i64) -> i64 {
        (self + by - 1).div_euclid(by)
    }
}
