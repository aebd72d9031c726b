//! The work that is done for each frame, viewer or playlist, so that its instructions can be counted.
//!
//! Owns: one case for each piece of that work. With a name it runs that case once, without one it lists them. Does not
//! own: counting, and what the counts may be: `scripts/bench_check.py` runs this under valgrind, which counts inside
//! [`measured`] only.

mod fan_out;
mod media;

use std::{
    env,
    hint::black_box,
    io::{self, Write as _},
    process::ExitCode,
};

use bytes::BytesMut;
use weir_hub::{Feed, Join, LagLimit, MediaItem, Retention};
use weir_media::{Kind, container::fmp4};
use weir_package::{Config, Numbers, Segmenter, dash, flv, hls, window, window::rewind::Rewind};
use weir_proto::rtmp::chunk;

/// Readers of one feed, or viewers of one stream.
const MANY: usize = 100;
/// How often a playlist is rendered.
const RENDERINGS: usize = 20;
/// Pictures of a part at 30 a second.
const PART_SAMPLES: usize = 10;
/// The defaults of `config.toml`.
const CONFIG: Config = Config {
    segment_ms: 2_000,
    part_ms: 333,
    playlist_segments: 10,
    rewind: Rewind {
        window_us: 0,
        memory_bytes: 0,
    },
};

type Case = fn();

const CASES: [(&str, Case); 9] = [
    ("flv-tags-10s", flv_tags),
    ("flv-fan-out-100-viewers", fan_out::flv),
    ("rtmp-chunks-10s", rtmp_chunks),
    ("feed-10s-100-cursors", feed),
    ("segmenter-10s", segmenter),
    ("cmaf-fragment", cmaf_fragment),
    ("hls-media-playlist", hls_media),
    ("hls-multivariant", hls_multivariant),
    ("dash-manifest", dash_manifest),
];

fn main() -> ExitCode {
    // Cargo adds an argument of its own.
    let wanted = env::args().skip(1).find(|argument| argument != "--bench");
    let Some(wanted) = wanted else {
        let names = CASES.map(|(name, _)| name).join("\n");
        let listed = writeln!(io::stdout(), "{names}");
        return listed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    };
    match CASES.iter().find(|(name, _)| *name == wanted) {
        Some((_, case)) => {
            case();
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

/// Runs what is counted. Its name is what valgrind looks for, so it must not be inlined.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

fn flv_tags() {
    let frames = media::frames(10);
    measured(&mut || {
        for MediaItem { epoch, frame } in &frames {
            let track = epoch.track(frame.track).expect("it is of the epoch");
            let mut out = BytesMut::new();
            flv::put_frame(&mut out, epoch, track, frame);
            black_box(out.freeze());
        }
    });
}

fn rtmp_chunks() {
    let frames = media::frames(10);
    measured(&mut || {
        for item in &frames {
            let track = item.track().expect("it is of the epoch");
            let at_ms = flv::collapsed_ms(&item.epoch, track, &item.frame);
            let body = flv::Body::of(track, &item.frame);
            let mut out = BytesMut::new();
            chunk::write_message(
                &mut out,
                chunk::CSID_VIDEO,
                flv::timestamp(at_ms),
                body.kind.number(),
                chunk::PLAY_STREAM_ID,
                &body.pieces(),
                chunk::CHUNK_SIZE_OUT,
            );
            black_box(out.freeze());
        }
    });
}

fn feed() {
    let frames = media::frames(10);
    let feed = Feed::new(Retention {
        groups_max: 1,
        floor_ms: 10_000,
        span_ms_max: 20_000,
        bytes_max: 8 << 20,
    });
    let cursor = || feed.cursor(Join::NewestSync, LagLimit::RING);
    let mut cursors: Vec<_> = (0..MANY).map(|_| cursor()).collect();
    let mut items = Vec::new();
    measured(&mut || {
        for item in &frames {
            feed.push([item.clone()]);
            for cursor in &mut cursors {
                black_box(cursor.read(&mut items));
                items.clear();
            }
        }
    });
}

fn segmenter() {
    let frames = media::frames(10);
    measured(&mut || {
        black_box(packaged(&frames));
    });
}

fn cmaf_fragment() {
    let sample = |item: &MediaItem| fmp4::Sample {
        duration: media::PICTURE_TICKS,
        composition: 0,
        sync: item.frame.sync,
        payload: item.frame.payload.clone(),
    };
    let frames = media::frames(1);
    let of_video = |item: &&MediaItem| {
        item.track()
            .is_some_and(|track| track.kind() == Kind::Video)
    };
    let pictures = frames.iter().filter(of_video);
    let samples: Vec<_> = pictures.take(PART_SAMPLES).map(sample).collect();
    measured(&mut || {
        black_box(fmp4::fragment(1, 90_000, &samples));
    });
}

fn hls_media() {
    rendered(|snapshot| {
        let lead = snapshot.renditions.first().expect("there is video");
        hls::media(snapshot, lead, hls::Form::LowLatency)
    });
}

fn hls_multivariant() {
    rendered(|snapshot| hls::multivariant(snapshot, "?hls_ctx=0123456789abcdef"));
}

fn dash_manifest() {
    rendered(|snapshot| dash::manifest(snapshot, true));
}

/// Renders a text of a full live window again and again.
fn rendered(render: impl Fn(&window::Snapshot) -> String) {
    let snapshot = packaged(&media::frames(30)).snapshot();
    let snapshot = snapshot.expect("there are segments");
    measured(&mut || {
        for _ in 0..RENDERINGS {
            black_box(render(&snapshot));
        }
    });
}

fn packaged(frames: &[MediaItem]) -> Segmenter {
    let first = Numbers {
        msn: 1_800_000_000,
        discontinuity: 1,
    };
    let mut segmenter = Segmenter::new(CONFIG, "6b49d200".to_owned(), first);
    for item in frames {
        segmenter.push(&item.epoch, &item.frame);
    }
    segmenter
}
