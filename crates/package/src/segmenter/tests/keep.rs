//! Bytes that somebody else keeps.

use std::{any::Any, sync::Mutex};

use bytes::Bytes;

use super::*;
use crate::{
    keep::{Content, Kept},
    window::Part,
};

/// Keeps everything, in a room for each segment.
#[derive(Debug, Default)]
struct Rooms(Mutex<Vec<(&'static str, u64, Arc<Room>)>>);

type Room = Mutex<Vec<u8>>;

impl Keep for Rooms {
    fn keep(&self, rendition: &'static str, msn: u64, bytes: Bytes) -> Content {
        let mut rooms = self.0.lock().expect("not poisoned");
        let known = rooms
            .iter()
            .find(|room| (room.0, room.1) == (rendition, msn));
        let room = known.map_or_else(Arc::default, |(_, _, room)| Arc::clone(room));
        rooms.push((rendition, msn, Arc::clone(&room)));
        let mut kept = room.lock().expect("not poisoned");
        let at = kept.len() as u64;
        kept.extend_from_slice(&bytes);
        drop(kept);
        Content::Kept(Kept {
            room,
            at,
            len: bytes.len(),
        })
    }
}

fn segmenter() -> Segmenter {
    let first = Numbers {
        msn: 100,
        discontinuity: 7,
    };
    Segmenter::new(CONFIG, "run".to_owned(), first)
}

fn room_of(part: &Part) -> (Arc<Room>, usize) {
    let Content::Kept(kept) = &part.content else {
        panic!("in memory")
    };
    let room: Arc<dyn Any + Send + Sync> = Arc::clone(&kept.room);
    let room = room.downcast().expect("a room of ours");
    (room, usize::try_from(kept.at).expect("small"))
}

/// Parts that make one range of one room, from its beginning: the same bytes as in `memory`.
fn check_parts(parts: &[Part], memory: &[Part]) {
    assert_eq!(parts.len(), memory.len());
    let mut end = 0;
    for (part, twin) in parts.iter().zip(memory) {
        let (room, at) = room_of(part);
        assert!(Arc::ptr_eq(&room, &room_of(&parts[0]).0), "one room");
        assert_eq!(at, end, "one behind the other");
        end += part.content.len();
        assert!(room.lock().expect("not poisoned")[at..end] == bytes_of(twin)[..]);
    }
}

#[test]
fn a_segment_is_one_range_of_one_room() {
    let rooms = Arc::new(Rooms::default());
    let mut memory = segmenter();
    let mut kept = segmenter().kept_by(Arc::<Rooms>::clone(&rooms));
    for (epoch, frame) in &ordinary(15 * S, 50) {
        for segmenter in [&mut memory, &mut kept] {
            segmenter.want_ts(true);
            segmenter.push(epoch, frame);
        }
    }
    let (memory, kept) = (memory.snapshot(), kept.snapshot());
    let (memory, kept) = memory.zip(kept).expect("a playable run");
    let renditions = |snapshot: &Snapshot| {
        let all = snapshot.renditions.iter().chain(&snapshot.ts);
        all.cloned().collect::<Vec<_>>()
    };
    let mut first_parts = Vec::new();
    for (kept, memory) in renditions(&kept).iter().zip(renditions(&memory)) {
        assert!(kept.segments.len() > 3 && kept.segments.len() == memory.segments.len());
        for (segment, twin) in kept.segments.iter().zip(&memory.segments) {
            assert_eq!(segment.len(), twin.len());
            check_parts(&segment.parts, &twin.parts);
            first_parts.push(segment.parts[0].clone());
        }
        if let Some((open, twin)) = kept.open.as_ref().zip(memory.open.as_ref()) {
            check_parts(&open.parts, &twin.parts);
        }
    }
    let rooms: Vec<_> = first_parts.iter().map(|part| room_of(part).0).collect();
    for (at, room) in rooms.iter().enumerate() {
        let is_same = |other: &&Arc<Room>| Arc::ptr_eq(room, other);
        assert_eq!(rooms.iter().position(|other| is_same(&other)), Some(at));
    }
}
