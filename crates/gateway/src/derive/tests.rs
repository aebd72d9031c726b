//! Sharing: what viewers of one stream and format have in common is made once, and what each lacks comes first.

use std::time::{Duration, Instant, SystemTime};

use weir_hub::{Hub, Limits, Moment, Publisher};
use weir_media::{
    Input, Kind, SessionClock,
    codec::{Codec, aac, h264},
    container::flv::{Reader, file_header},
};
use weir_package::hls::Start;

use super::*;
use crate::read_cache::{self, ReadCache};

/// Baseline 640x360, made by x264.
const AVCC: &[u8] = &[
    0x01, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf,
    0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x58, 0xba,
    0x80, 0x01, 0x00, 0x04, 0x68, 0xce, 0x0f, 0xc8,
];

/// A publisher of video only, on a clock of its own.
struct Source {
    publisher: Publisher,
    start: Instant,
    at_ms: u64,
}

impl Source {
    fn new(name: &StreamName) -> Self {
        let gop_cache = Retention {
            groups_max: 2,
            floor_ms: 3_000,
            span_ms_max: 20_000,
            bytes_max: 1 << 20,
        };
        let hub = Hub::new(Limits {
            streams_max: 1,
            publisher_grace: Duration::ZERO,
            gop_cache,
        });
        let start = Instant::now();
        let now = Moment {
            at: start,
            wall: SystemTime::UNIX_EPOCH,
        };
        let publisher = hub
            .publish(name, None, "test", SessionClock::MS_32_BIT, now)
            .unwrap();
        let source = Self {
            publisher,
            start,
            at_ms: 0,
        };
        source.push(Input::Declared {
            video: true,
            audio: false,
        });
        source.push(Input::Config(Codec::H264(
            h264::Config::parse(Bytes::from_static(AVCC)).unwrap(),
        )));
        source
    }

    fn push(&self, input: Input) {
        let at = self.start + Duration::from_millis(self.at_ms);
        self.publisher.push(
            Moment {
                at,
                wall: SystemTime::UNIX_EPOCH,
            },
            input,
        );
    }

    fn frame(&mut self, sync: bool) {
        let payload = Bytes::from(self.at_ms.to_be_bytes().to_vec());
        self.push(Input::Frame {
            kind: Kind::Video,
            dts: self.at_ms,
            composition: 0,
            sync,
            payload,
        });
        self.at_ms += 40;
    }

    /// Sound beside the next picture.
    fn sound(&self) {
        self.push(Input::Frame {
            kind: Kind::Audio,
            dts: self.at_ms,
            composition: 0,
            sync: true,
            payload: Bytes::from_static(&[0; 8]),
        });
    }

    fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }
}

#[tokio::test]
async fn what_comes_within_the_interval_is_one_buffer() {
    let interval = Duration::from_secs(1);
    let names = ["held", "prompt"].map(|name| StreamName::parse(name).unwrap());
    let derived = Derived::new(Coalescing {
        interval,
        except: [names[1].clone()].into(),
    });
    let tasks = Tasks::default();
    for (name, buffers) in names.iter().zip([1, 3]) {
        let mut source = Source::new(name);
        let mut cursor = derived
            .join(
                source.stream(),
                Format::Flv,
                Join::NewestSync,
                LagLimit::RING,
                &tasks,
            )
            .cursor;
        source.frame(true);
        cursor.next(&mut Vec::new()).await.unwrap();
        let mut items = Vec::new();
        for _ in 0..3 {
            source.frame(false);
            if buffers > 1 {
                cursor.next(&mut items).await.unwrap();
            }
        }
        if buffers == 1 {
            cursor.next(&mut items).await.unwrap();
        }
        assert_eq!(items.len(), buffers, "{name}");
        let bytes: Vec<u8> = items.iter().flat_map(|item| item.bytes.clone()).collect();
        let mut tags = Reader::new();
        tags.push(Bytes::copy_from_slice(&file_header(true, false)));
        tags.push(bytes.into());
        let mut count = 0;
        while tags.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3, "{name}");
    }
}

#[tokio::test]
async fn viewers_share_the_very_same_bytes() {
    let name = StreamName::parse("shared").unwrap();
    let mut source = Source::new(&name);
    let (derived, tasks) = (Derived::default(), Tasks::default());
    let join = || {
        derived
            .join(
                source.stream(),
                Format::Flv,
                Join::NewestSync,
                LagLimit::RING,
                &tasks,
            )
            .cursor
    };
    let (mut first, mut second) = (join(), join());
    source.frame(true);
    source.frame(false);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    first.next(&mut a).await.unwrap();
    second.next(&mut b).await.unwrap();
    assert_eq!(a[0].bytes.as_ptr(), b[0].bytes.as_ptr());
    assert_eq!(tasks.running(), 1, "one task for both");
}

#[tokio::test]
async fn a_late_viewer_starts_at_the_cached_key_frame() {
    let name = StreamName::parse("cached").unwrap();
    let mut source = Source::new(&name);
    for at in 0..100 {
        source.frame(at % 50 == 0);
    }
    let (derived, tasks) = (Derived::default(), Tasks::default());
    let cursor = |join| {
        derived
            .join(source.stream(), Format::Flv, join, LagLimit::RING, &tasks)
            .cursor
    };
    for _ in 0..2 {
        let mut late = cursor(Join::NewestSync);
        let mut items = Vec::new();
        late.next(&mut items).await.unwrap();
        assert!(items[0].sync);
        assert_eq!(items[0].at_ms, 2_000);
    }
    let mut patient = cursor(Join::NextSync);
    assert_eq!(patient.read(&mut Vec::new()), Read::Empty);
}

#[tokio::test]
async fn deriving_stops_with_its_last_reader_and_starts_again() {
    let name = StreamName::parse("again").unwrap();
    let mut source = Source::new(&name);
    source.frame(true);
    let (derived, tasks) = (Derived::default(), Tasks::default());
    for _ in 0..3 {
        let mut cursor = derived
            .join(
                source.stream(),
                Format::Rtmp,
                Join::NewestSync,
                LagLimit::RING,
                &tasks,
            )
            .cursor;
        cursor.next(&mut Vec::new()).await.unwrap();
        assert_eq!(tasks.running(), 1);
        drop(cursor);
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(derived.feeds.lock().is_empty());
    }
}

#[tokio::test]
async fn the_end_of_the_run_reaches_viewers_behind_everything_else() {
    let name = StreamName::parse("ends").unwrap();
    let mut source = Source::new(&name);
    let (derived, tasks) = (Derived::default(), Tasks::default());
    let mut cursor = derived
        .join(
            source.stream(),
            Format::Flv,
            Join::NewestSync,
            LagLimit::RING,
            &tasks,
        )
        .cursor;
    source.frame(true);
    source.frame(false);
    source.stream().feed().close();
    let (mut items, mut tags) = (Vec::new(), Reader::new());
    tags.push(Bytes::from_owner(file_header(false, true)));
    while cursor.next(&mut items).await.is_some() {}
    for item in &items {
        tags.push(item.bytes.clone());
    }
    let mut count = 0;
    while tags.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 2);
    drop(cursor);
    while tasks.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(derived.feeds.lock().is_empty(), "an ended feed is not kept");
}

#[test]
fn a_head_comes_first_and_again_with_each_epoch() {
    let name = StreamName::parse("heads").unwrap();
    let mut source = Source::new(&name);
    let mut frames = source
        .stream()
        .feed()
        .cursor(Join::NewestSync, LagLimit::RING);
    source.frame(true);
    source.frame(false);
    let mut changed = AVCC.to_vec();
    changed[3] = 0x1f; // another level
    source.push(Input::Config(Codec::H264(
        h264::Config::parse(changed.into()).unwrap(),
    )));
    source.frame(false);
    source.frame(true);
    let mut items = Vec::new();
    frames.read(&mut items);
    let shared = Encoder::Flv.bursts(items.into_iter());
    assert_eq!(shared.len(), 2, "a buffer for each epoch");
    let marker = |joins| Bytes::from_static(if joins { b"join" } else { b"head" });
    let mut head = Head::default();
    let mut out: Vec<Bytes> = Vec::new();
    head.before_each(shared.clone().into_iter(), &mut out, |_, joins| {
        marker(joins)
    });
    assert_eq!(
        out,
        [
            marker(true),
            shared[0].bytes.clone(),
            marker(false),
            shared[1].bytes.clone()
        ]
    );
    // A viewer that skipped over the change still gets the head of what it reads next.
    let mut out: Vec<Bytes> = Vec::new();
    head.before_each(shared[..1].iter().cloned(), &mut out, |_, joins| {
        marker(joins)
    });
    assert_eq!(out[0], marker(false));
}

/// Pushes pictures until something is published of which `wanted` holds.
async fn push_until(
    source: &mut Source,
    updates: &hls::Updates,
    wanted: impl Fn(&hls::Published) -> bool,
) -> Arc<hls::Published> {
    for _ in 0..1_000 {
        let sync = source.at_ms.is_multiple_of(1_000);
        source.frame(sync);
        // The packager runs before the next picture comes.
        tokio::task::yield_now().await;
        if let Some(published) = updates.borrow().clone().filter(|new| wanted(new)) {
            return published;
        }
    }
    panic!("nothing of that kind is published");
}

/// The rewind playlist of the video, and how many parts there are of the segment after it.
fn rewind(published: &hls::Published) -> (&hls::Playlist, usize) {
    let video = published.snapshot.rendition("video").unwrap();
    let parts = video.open.as_ref().map_or(0, |open| open.parts.len());
    (published.rewind_playlist(video, false).unwrap(), parts)
}

/// HLS with parts of a third of a second, and a minute to rewind.
fn outputs() -> hls::Outputs {
    let config = hls::Config {
        packaging: hls::Packaging {
            segment_ms: 1_000,
            part_ms: 333,
            playlist_segments: 3,
            rewind: hls::Rewind {
                window_us: 60_000_000,
                memory_bytes: 1 << 20,
            },
        },
        low_latency: true,
        low_latency_except: Arc::new([]),
    };
    let cache = ReadCache::new(read_cache::Limits {
        entries_max: 1,
        bytes_max: 1,
    });
    hls::Outputs::new(config, Tasks::default(), None, cache)
}

/// The newest segment of a rendition, and how many parts there are of the one after it.
fn newest(published: &hls::Published, kind: Kind) -> (Option<u64>, usize) {
    let mut renditions = published.snapshot.renditions.iter();
    let rendition = renditions.find(|known| known.kind == kind).unwrap();
    let parts = rendition.open.as_ref().map_or(0, |open| open.parts.len());
    (rendition.segments.back().map(|last| last.msn), parts)
}

#[tokio::test]
async fn who_waits_for_a_rendition_hears_of_it_alone_and_of_the_end() {
    const KINDS: [Kind; 2] = [Kind::Video, Kind::Audio];
    let name = StreamName::parse("both").unwrap();
    let mut source = Source::new(&name);
    let declared = Input::Declared {
        video: true,
        audio: true,
    };
    source.push(declared);
    let sound = aac::Config::parse(Bytes::from_static(&[0x11, 0x90])).unwrap();
    source.push(Input::Config(Codec::Aac(sound)));
    let outputs = outputs();
    let mut updates = outputs.of(source.stream());
    let mut of_kind = KINDS.map(|kind| outputs.rendition(&name, kind).unwrap());
    let mut alone = [0, 0];
    let mut before: Option<Arc<hls::Published>> = None;
    for number in 0..400 {
        if number % 2 == 0 {
            source.sound();
        } else {
            source.frame(number % 50 == 1);
        }
        // The packager runs before the next frame comes.
        tokio::task::yield_now().await;
        let heard = of_kind.each_mut().map(|updates| {
            let heard = updates.has_changed().unwrap();
            let _ = updates.borrow_and_update();
            heard
        });
        let published = updates.borrow_and_update().clone();
        if let (Some(before), Some(now)) = (&before, &published) {
            let is_new = KINDS.map(|kind| newest(before, kind) != newest(now, kind));
            assert_eq!(heard, is_new, "after frame {number}");
            for (alone, one) in alone.iter_mut().zip([[true, false], [false, true]]) {
                *alone += usize::from(is_new == one);
            }
        }
        before = published;
    }
    assert!(alone.iter().all(|&times| times > 5), "{alone:?}");
    source.stream().feed().close();
    for mut updates in of_kind {
        let ended =
            |now: &Option<Arc<hls::Published>>| now.as_ref().is_some_and(|now| now.snapshot.ended);
        updates.wait_for(ended).await.unwrap();
    }
}

#[tokio::test]
async fn rewind_playlists_and_manifests_are_rendered_once_a_segment() {
    let name = StreamName::parse("rewound").unwrap();
    let mut source = Source::new(&name);
    let outputs = outputs();
    let updates = outputs.of(source.stream());
    let segments = |published: &hls::Published| {
        let video = published.snapshot.rendition("video").unwrap();
        video.rewindable().count()
    };
    let first = push_until(&mut source, &updates, |new| segments(new) >= 10).await;
    let (playlist, parts) = rewind(&first);
    let second = push_until(&mut source, &updates, |new| rewind(new).1 > parts).await;
    assert_eq!(segments(&second), segments(&first));
    assert!(std::ptr::eq(playlist, rewind(&second).0), "rendered again");
    let start = |seconds: &str| Start::parse(seconds).unwrap();
    let manifest = first.rewind_manifest(start("-5"));
    assert!(!manifest.gzip.is_empty());
    let again = second.rewind_manifest(start("-5"));
    assert!(Arc::ptr_eq(&manifest, &again), "rendered again");
    // Whoever asks for every moment there is gets each, but keeps none.
    for at in 10..100 {
        let start = start(&format!("-{at}.5"));
        let (one, other) = (second.rewind_manifest(start), first.rewind_manifest(start));
        assert_eq!(one.plain, other.plain);
        assert_eq!(Arc::ptr_eq(&one, &other), at < 17, "{at}");
    }
    let third = push_until(&mut source, &updates, |new| {
        segments(new) > segments(&first)
    })
    .await;
    assert!(third.snapshot.renditions[0].listed().count() < segments(&third));
    assert_ne!(third.rewind_manifest(start("-5")).plain, manifest.plain);
    let text = &rewind(&third).0.plain;
    assert_ne!(text, &playlist.plain);
    assert_eq!(
        outputs.rewindable(&name),
        Duration::from_secs(segments(&third) as u64)
    );
}
