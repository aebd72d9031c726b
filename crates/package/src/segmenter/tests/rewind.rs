//! The rewind window over whole runs: what it lists, what memory holds of it, and what becomes of segments that no file
//! took (FAULTS F32).

use std::collections::BTreeSet;

use super::*;
use crate::window::{Rendition, rewind::Rewind};

const TWO_MINUTES: Rewind = Rewind {
    window_us: 120 * S,
    memory_bytes: usize::MAX,
};

fn rewinding(rewind: Rewind) -> Packaged {
    let config = Config { rewind, ..CONFIG };
    Packaged::new(config, Source::Whole)
}

fn rendition<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Rendition {
    snapshot.rendition(name).expect("it is there")
}

/// The numbers of the segments that can be rewound to, and of those whose bytes memory holds.
fn listed(rendition: &Rendition) -> (Vec<u64>, Vec<u64>) {
    let listed = rendition.rewindable();
    let held = listed.clone().filter(|segment| !segment.parts.is_empty());
    let msn = |segment: &Arc<Segment>| segment.msn;
    (listed.map(msn).collect(), held.map(msn).collect())
}

#[test]
fn the_window_is_as_long_as_was_asked_for() {
    let mut packaged = rewinding(TWO_MINUTES);
    packaged.push_all(&ordinary(300 * S, 50));
    let snapshot = packaged.snapshot();
    for name in ["video", "audio"] {
        let rendition = rendition(&snapshot, name);
        let (all, held) = listed(rendition);
        assert_eq!(all.len(), 60, "segments of 2 s");
        assert_eq!(all, held, "memory holds all of them");
        assert_eq!(packaged.rewinds[name].entries.len(), 60);
        assert_eq!(packaged.playlists[name].entries.len(), 6);
        let long_us: i64 = rendition
            .rewindable()
            .map(|listed| listed.duration_us)
            .sum();
        assert_eq!(rendition.rewindable_us(), long_us);
        // What has just left the playlist may still be asked for (H9).
        let served: Vec<u64> = rendition.served().map(|segment| segment.msn).collect();
        assert!(
            served.len() > 60 + 5 && served.len() < 60 + 10,
            "{served:?}"
        );
        assert!(rendition.segment(served[0]).is_some());
        assert!(rendition.segment(served[0] - 1).is_none());
    }
    packaged.finish();
    assert!(packaged.rewinds["video"].ended);
}

#[test]
fn without_a_window_the_live_playlist_is_all_there_is() {
    let mut packaged = rewinding(Rewind::default());
    packaged.push_all(&ordinary(60 * S, 50));
    let snapshot = packaged.snapshot();
    let video = rendition(&snapshot, "video");
    assert!(video.rewindable().eq(video.listed()));
    assert!(video.served().eq(&video.segments));
    assert_eq!(video.rewindable_us(), 12 * S);
}

/// Windows around the length of the live one, where segments leave the rewind playlist while they are live.
#[test]
fn every_length_of_the_window() {
    for window_s in [0, 1, 5, 11, 12, 13, 14, 20, 25, 26, 27, 28, 40] {
        let mut packaged = rewinding(Rewind {
            window_us: window_s * S,
            memory_bytes: usize::MAX,
        });
        packaged.push_all(&ordinary(100 * S, 50));
        let snapshot = packaged.snapshot();
        for name in ["video", "audio"] {
            let long_us = rendition(&snapshot, name).rewindable_us();
            // To a segment, and that to a frame.
            let shortest_us = window_s.max(12) * S - 22_000;
            assert!(
                (shortest_us..shortest_us + 2_100_000).contains(&long_us),
                "{name} {window_s}: {long_us}"
            );
        }
    }
}

#[test]
fn memory_holds_the_newest_up_to_the_cap() {
    let memory_bytes = 100_000;
    let mut packaged = rewinding(Rewind {
        memory_bytes,
        ..TWO_MINUTES
    });
    packaged.push_all(&ordinary(300 * S, 50));
    let snapshot = packaged.snapshot();
    let beyond_live = |name| {
        let rendition = rendition(&snapshot, name);
        let live = rendition.segments.len();
        let (all, held) = listed(rendition);
        assert_eq!(all.len(), 60);
        assert!(held.len() > live && held.len() < 60, "{} held", held.len());
        assert!(all.ends_with(&held), "the newest are held");
        let past = rendition.served().rev().skip(live);
        let bytes = past.filter(|segment| segment.archived.is_none());
        bytes.map(|segment| segment.len()).sum::<usize>()
    };
    let bytes = beyond_live("video") + beyond_live("audio");
    assert!(
        bytes <= memory_bytes && bytes > memory_bytes * 9 / 10,
        "{bytes}"
    );
}

#[test]
fn what_left_memory_keeps_all_that_is_known_of_it() {
    let mut packaged = rewinding(Rewind {
        memory_bytes: 0,
        ..TWO_MINUTES
    });
    packaged.push_all(&ordinary(100 * S, 50));
    let snapshot = packaged.snapshot();
    for name in ["video", "audio"] {
        let mut archived = 0;
        for segment in rendition(&snapshot, name).served() {
            let before = &packaged.segments[name][&segment.msn];
            archived += usize::from(segment.archived.is_some());
            assert_eq!(segment.len(), before.len());
            assert_eq!(segment.independent(), before.independent());
            assert_eq!(segment.is_gap(), before.is_gap());
            let with_bytes = Segment {
                parts: before.parts.clone(),
                archived: None,
                ..Segment::clone(segment)
            };
            assert_eq!(with_bytes, **before);
        }
        assert!(archived > 30, "{archived}");
    }
}

/// A disk that does not take anything for a while: what memory could not hold so long ends the window.
#[test]
fn f32_what_is_lost_ends_the_window_in_every_rendition() {
    let lost = BEGINS_S + 20..BEGINS_S + 25;
    let mut packaged = rewinding(Rewind {
        memory_bytes: 10_000,
        ..TWO_MINUTES
    });
    packaged.is_stored = |msn| !(BEGINS_S + 20..BEGINS_S + 25).contains(&msn);
    packaged.push_all(&ordinary(100 * S, 50));
    let snapshot = packaged.snapshot();
    let firsts: BTreeSet<u64> = ["video", "audio"]
        .map(|name| {
            let (all, _) = listed(rendition(&snapshot, name));
            assert!(!all.iter().any(|msn| lost.contains(msn)));
            all[0]
        })
        .into();
    assert_eq!(firsts, [lost.end].into());
}

/// Without a folder nothing is ever stored, and the window ends where memory does.
#[test]
fn without_files_the_window_ends_with_memory() {
    let mut packaged = rewinding(Rewind {
        memory_bytes: 50_000,
        ..TWO_MINUTES
    });
    packaged.is_stored = |_| false;
    packaged.push_all(&ordinary(300 * S, 50));
    let snapshot = packaged.snapshot();
    for name in ["video", "audio"] {
        let (all, held) = listed(rendition(&snapshot, name));
        assert_eq!(all, held);
        assert!(all.len() > 12 && all.len() < 60, "{}", all.len());
    }
}

/// A disk that gives up its oldest files.
#[test]
fn f32_files_that_are_gone_end_the_window() {
    let mut packaged = rewinding(Rewind {
        memory_bytes: 0,
        ..TWO_MINUTES
    });
    let frames = ordinary(130 * S, 50);
    packaged.push_all(&frames);
    packaged.is_stored = |msn| msn >= BEGINS_S + 40;
    let epoch = Arc::clone(&frames[0].0);
    packaged.push_all(&interleave(
        vec![
            video_gop(&epoch, 130 * S, 134 * S, 50),
            audio(&epoch, 130 * S, 134 * S),
        ],
        0,
    ));
    let snapshot = packaged.snapshot();
    for name in ["video", "audio"] {
        let (all, _) = listed(rendition(&snapshot, name));
        assert_eq!(all[0], BEGINS_S + 40, "{name}");
    }
}

/// An init object stays as long as a segment needs it, however many came after it.
#[test]
fn init_objects_stay_with_their_segments() {
    let mut packaged = rewinding(Rewind {
        memory_bytes: 0,
        ..TWO_MINUTES
    });
    packaged.source = Source::WithHoles;
    for index in 0..12_u32 {
        let start_us = i64::from(index) * 20 * S;
        let epoch = epoch(index, start_us, &VIDEO);
        packaged.push_all(&video_gop(&epoch, start_us, start_us + 19 * S, 50));
    }
    let snapshot = packaged.snapshot();
    let video = rendition(&snapshot, "video");
    let inits: BTreeSet<u64> = video
        .served()
        .filter_map(|segment| segment.init.as_ref())
        .map(|init| init.discontinuity)
        .collect();
    assert!(inits.len() >= 6, "{inits:?}");
    for discontinuity in BEGINS_S..BEGINS_S + 13 {
        let served = video.init(discontinuity).is_some();
        assert_eq!(served, inits.contains(&discontinuity), "{discontinuity}");
    }
}

/// A part is published many times a second: that must not touch, let alone copy, what lies in the window.
#[test]
fn snapshots_of_parts_share_the_window() {
    let mut packaged = rewinding(TWO_MINUTES);
    let frames = ordinary(101 * S, 50);
    let (before, after) = frames.split_at(frames.len() - 40);
    packaged.push_all(before);
    let one = packaged.snapshot();
    let made = packaged.segmenter.segments_made();
    packaged.push_all(after);
    assert_eq!(packaged.segmenter.segments_made(), made, "only parts");
    let two = packaged.snapshot();
    for name in ["video", "audio"] {
        let (one, two) = (rendition(&one, name), rendition(&two, name));
        let oldest =
            |rendition: &Rendition| std::ptr::from_ref(rendition.served().next().expect("some"));
        assert!(one.open != two.open && oldest(one) == oldest(two));
    }
}
