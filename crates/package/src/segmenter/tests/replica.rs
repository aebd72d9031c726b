//! Two packagers of one run: its owner, which decides the cuts, and a replica that follows them from somewhere in the
//! middle. What both have is the same, byte for byte, however it is delivered (DESIGN 4).

use proptest::prelude::*;

use super::*;
use crate::{
    dash,
    hls::{self, Form},
    window::Rendition,
};

/// The owner, and a replica that gets what comes after the frame `joins_at`.
struct Pair {
    owner: Segmenter,
    replica: Segmenter,
    joins_at: usize,
    pushed: usize,
}

impl Pair {
    fn new(joins_at: usize) -> Self {
        let first = Numbers {
            msn: BEGINS_S,
            discontinuity: 7,
        };
        Self {
            owner: Segmenter::new(CONFIG, "run".to_owned(), first),
            replica: Segmenter::following(CONFIG, "run".to_owned()),
            joins_at,
            pushed: 0,
        }
    }

    fn push(&mut self, (epoch, frame): &Timed) {
        self.owner.push(epoch, frame);
        if self.pushed >= self.joins_at {
            self.replica.follow(self.owner.marks());
            self.replica.push(epoch, frame);
        }
        self.pushed += 1;
    }

    /// Compares everything that both have.
    fn compare(&self) -> usize {
        let (Some(owned), Some(copied)) = (self.owner.snapshot(), self.replica.snapshot()) else {
            return 0;
        };
        assert_eq!(owned.target_s, copied.target_s);
        assert_eq!(owned.part_target_us, copied.part_target_us);
        let mut compared = 0;
        for copy in &copied.renditions {
            let original = owned.rendition(copy.name()).expect("the owner has it");
            for segment in &copy.segments {
                let known = original.segment(segment.msn).expect("the owner has it");
                assert_eq!(known, segment, "{}", copy.name());
                compared += 1;
            }
            assert_eq!(original.open, copy.open, "{}", copy.name());
        }
        compared
    }

    fn texts(&self, form: Form) -> [Vec<String>; 2] {
        [&self.owner, &self.replica].map(|segmenter| {
            let snapshot = segmenter.snapshot().expect("it can be played");
            let text = |rendition: &Rendition| hls::media(&snapshot, rendition, form);
            snapshot.renditions.iter().map(text).collect()
        })
    }
}

/// Two epochs of both tracks, pictures with B-frames, a stretch without pictures.
fn frames() -> Vec<Timed> {
    let (first, second) = (epoch(0, 0, &BOTH), epoch(1, 25 * S, &BOTH));
    let pictures = |epoch: &Arc<Epoch>, from_us, to_us| {
        let mut frames = video_gop(epoch, from_us, to_us, 50);
        for (at, (_, frame)) in frames.iter_mut().enumerate() {
            frame.pts += [7_200, 14_400, 0, 3_600][at % 4];
            if frame.sync {
                frame.pts = frame.dts + 7_200;
            }
        }
        frames
    };
    let tracks = vec![
        pictures(&first, 0, 8 * S),
        // Key frames come in order again after the pause.
        pictures(&first, 16 * S, 22 * S),
        audio(&first, 0, 22 * S),
        pictures(&second, 25 * S, 60 * S),
        audio(&second, 25 * S, 60 * S),
    ];
    interleave(tracks, 0)
}

#[test]
fn a_replica_that_joins_late_makes_the_same_objects_and_in_time_the_same_playlists() {
    let frames = frames();
    // From the start, in the first epoch, while pictures are missing, and in the second one.
    for joins_s in [0, 5, 9, 30] {
        // Viewers of a feed join at a key frame.
        let key = |(epoch, frame): &Timed| frame.sync && time_us(epoch, frame) >= joins_s * S;
        let joins_at = frames.iter().position(key).expect("the run is longer");
        let mut pair = Pair::new(joins_at);
        let mut compared = 0;
        for frame in &frames {
            pair.push(frame);
            compared = compared.max(pair.compare());
        }
        // The windows of both tracks, whole.
        assert!(compared >= 2 * CONFIG.playlist_segments, "{compared}");
        for form in [Form::Classic, Form::LowLatency, Form::Delta] {
            let [owned, copied] = pair.texts(form);
            assert_eq!(owned.len(), 2);
            assert_eq!(owned, copied);
        }
        let [owned, copied] = [&pair.owner, &pair.replica].map(|segmenter| {
            dash::manifest(&segmenter.snapshot().expect("it can be played"), true)
        });
        assert_eq!(owned, copied);
    }
}

proptest! {
    // Each case packages a minute twice.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whenever_it_joins(joins_s in 0..40_i64, gop in 10..120_i64, late_us in -900_000..900_000_i64) {
        let epoch = epoch(0, 0, &BOTH);
        let tracks = vec![video_gop(&epoch, 0, 60 * S, gop), audio(&epoch, 0, 60 * S)];
        let frames = interleave(tracks, late_us);
        let key = |(epoch, frame): &Timed| {
            frame.sync && frame.track == TrackId::VIDEO && time_us(epoch, frame) >= joins_s * S
        };
        let mut pair = Pair::new(frames.iter().position(key).expect("the run is longer"));
        for frame in &frames {
            pair.push(frame);
        }
        prop_assert!(pair.compare() >= 4);
    }
}
