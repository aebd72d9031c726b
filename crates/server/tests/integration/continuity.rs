//! What viewers notice when a publisher dies and returns, and when the server does: their picture moves again, by
//! itself, and nothing that they count on goes back.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    flv::{self, Kind, Tag},
    hls,
    player::{Player, wall_ms},
    process::Process,
    wait_for, wait_until,
};

/// How long the publisher stays away.
const AWAY: Duration = Duration::from_secs(5);
/// The picture moves again within this after the return.
const RETURN_MS_MAX: i64 = 4_000;
/// FLV has no word for a gap: the outage is left out of its timestamps, but for a moment.
const FLV_STEP_MS_MAX: u32 = 1_000;
/// A browser takes this long to start and to come back after the server, however busy the machine is.
const BROWSER_PATIENCE: Duration = Duration::from_secs(60);

/// A moving picture as OBS sends it: a key frame every two seconds, no B-frames.
const MOVING: &str =
    "-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -t 8 -c:a aac";

#[test]
fn e2e_the_picture_of_hls_js_moves_again() {
    check_picture("hls");
}

#[test]
fn e2e_the_picture_of_low_latency_hls_js_moves_again() {
    check_picture("ll-hls");
}

#[test]
fn e2e_the_picture_of_dash_js_moves_again() {
    check_picture("dash");
}

#[test]
fn e2e_the_picture_of_mpegts_js_moves_again() {
    check_picture("http-flv");
}

/// Watches the page while the publisher is killed and returns, and while the server is.
fn check_picture(protocol: &str) {
    let source = Source::new();
    let weir = Weir::start("dev", &[]);
    let publisher = source.publish(&weir);
    let page = weir.http_url(&format!("/player?stream=moving&protocol={protocol}"));
    let player = Player::open(&page);
    player.wait_until_moving(0, BROWSER_PATIENCE);

    lose(&weir, publisher);
    let returned_ms = wall_ms();
    let _publisher = source.publish(&weir);
    let live_ms = wall_ms();
    let moves = player.wait_until_moving(returned_ms, BROWSER_PATIENCE);
    let after_ms = moves.wall_ms - live_ms;
    assert!(
        after_ms <= RETURN_MS_MAX,
        "{protocol}: {after_ms} ms; {}",
        moves.state
    );
    assert_eq!(moves.state["fatalErrors"], 0, "{}", moves.state);
    assert_eq!(moves.state["reconnects"], 0, "{}", moves.state);

    let weir = restart(weir);
    let restarted_ms = wall_ms();
    let _publisher = source.publish(&weir);
    player.wait_until_moving(restarted_ms, BROWSER_PATIENCE);
    player.close();
}

#[test]
fn e2e_numbers_and_times_only_go_up() {
    let source = Source::new();
    let weir = Weir::start("dev", &[]);
    let publisher = source.publish(&weir);
    let flv = flv::Viewer::open(weir.http_addr(), "/live/moving.flv");
    let playlists = ["video", "audio"].map(|rendition| {
        hls::Viewer::open(
            weir.http_addr(),
            &format!("/live/moving/{rendition}/index.m3u8"),
        )
    });
    wait_for_segments(&playlists[0], 3);

    lose(&weir, publisher);
    let tags_before = flv.tags().len();
    let _publisher = source.publish(&weir);
    wait_until("both play on", PATIENCE, || {
        let keys = flv.tags()[tags_before..]
            .iter()
            .filter(|tag| tag.kind == Kind::KeyFrame)
            .count();
        keys >= 2
            && playlists
                .each_ref()
                .iter()
                .all(|viewer| listed_after_discontinuity(viewer) >= 4)
    });
    assert_eq!(flv.end(), None, "the HTTP-FLV viewer kept its connection");
    check_timestamps(&flv.tags());
    let first_run = playlists.each_ref().map(|viewer| {
        let versions = viewer.versions();
        assert_eq!(hls::problems(&versions), Vec::<String>::new());
        assert_eq!(hls::discontinuities(&versions).len(), 1, "{versions:?}");
        versions
    });

    let weir = restart(weir);
    let _publisher = source.publish(&weir);
    for (viewer, before) in playlists.iter().zip(&first_run) {
        let last = before.last().expect("it has versions");
        let versions = wait_for("playlists of the new run", PATIENCE, || {
            let versions = viewer.versions();
            let newest = versions.last()?;
            (newest.media_sequence > last.media_sequence + last.segments.len() as u64)
                .then_some(versions)
        });
        assert_eq!(hls::problems(&versions), Vec::<String>::new());
        let newest = versions.last().expect("it has versions");
        assert!(
            newest.discontinuity_sequence > last.discontinuity_sequence.map(|last| last + 1),
            "{:?} is not above {:?} and 1",
            newest.discontinuity_sequence,
            last.discontinuity_sequence
        );
        let old = hls::objects(before);
        let new = hls::objects(std::slice::from_ref(newest));
        let again: BTreeSet<_> = old.intersection(&new).collect();
        assert!(again.is_empty(), "names used again: {again:?}");
    }
}

#[test]
fn e2e_a_viewer_joins_at_the_key_frame_in_the_cache() {
    let (newest_key, tags) = join_within_a_group(&[]);
    let (at, picture) = first_picture(&tags);
    assert_eq!(picture, newest_key);
    let config = tags[..at]
        .iter()
        .filter(|tag| tag.kind == Kind::Config)
        .count();
    assert_eq!(config, 2, "the sequence headers come first");
}

#[test]
fn e2e_without_a_cache_a_viewer_joins_at_the_next_key_frame() {
    let (newest_key, tags) = join_within_a_group(&[("ENABLE_GOP_CACHE", "false")]);
    let (_, picture) = first_picture(&tags);
    assert_eq!(picture.kind, Kind::KeyFrame);
    assert!(
        picture.timestamp_ms > newest_key.timestamp_ms,
        "{picture:?} {newest_key:?}"
    );
}

/// Joins a stream with a key frame every 8 s, in the middle between two. Returns the newest key frame at that moment,
/// and what the viewer has got up to its first picture.
fn join_within_a_group(environment: &[(&str, &str)]) -> (Tag, Vec<Tag>) {
    let source = Source::of(&format!("{MOVING} -t 24 -g 240 -sc_threshold 0"));
    let weir = Weir::start("dev", environment);
    let _publisher = source.publish(&weir);
    let witness = flv::Viewer::open(weir.http_addr(), "/live/moving.flv");
    let newest_key = wait_for("the middle of a group", PATIENCE, || {
        let tags = witness.tags();
        let key = *tags.iter().rfind(|tag| tag.kind == Kind::KeyFrame)?;
        (tags.last()?.timestamp_ms >= key.timestamp_ms + 3_000).then_some(key)
    });
    let joined = flv::Viewer::open(weir.http_addr(), "/live/moving.flv");
    let tags = wait_for("a picture", PATIENCE, || {
        let tags = joined.tags();
        tags.iter().any(is_picture).then_some(tags)
    });
    (newest_key, tags)
}

/// The first picture, and how many tags come before it.
fn first_picture(tags: &[Tag]) -> (usize, Tag) {
    let at = tags
        .iter()
        .position(is_picture)
        .expect("there is a picture");
    (at, tags[at])
}

fn is_picture(tag: &Tag) -> bool {
    matches!(tag.kind, Kind::KeyFrame | Kind::InterFrame)
}

/// Frames of each track never go back, and never jump.
fn check_timestamps(tags: &[Tag]) {
    for sound in [false, true] {
        let frames = tags.iter().filter(|tag| {
            if sound {
                tag.kind == Kind::Sound
            } else {
                is_picture(tag)
            }
        });
        let times: Vec<u32> = frames.map(|tag| tag.timestamp_ms).collect();
        for pair in times.windows(2) {
            let step_ms = pair[1].checked_sub(pair[0]);
            assert!(
                step_ms.is_some_and(|step_ms| step_ms <= FLV_STEP_MS_MAX),
                "timestamps go from {} to {}",
                pair[0],
                pair[1]
            );
        }
    }
}

fn wait_for_segments(viewer: &hls::Viewer, segments: usize) {
    wait_until("segments", PATIENCE, || {
        viewer
            .versions()
            .last()
            .is_some_and(|playlist| playlist.segments.len() >= segments)
    });
}

/// How many segments the newest version lists from its discontinuity on.
fn listed_after_discontinuity(viewer: &hls::Viewer) -> usize {
    let versions = viewer.versions();
    let segments = versions
        .last()
        .map_or(&[][..], |playlist| &playlist.segments);
    let at = segments.iter().position(|segment| segment.discontinuity);
    at.map_or(0, |at| segments.len() - at)
}

/// Kills the publisher as a power cut would, and waits until it has been away for [`AWAY`].
fn lose(weir: &Weir, publisher: Process) {
    publisher.signal("KILL");
    publisher.wait(PATIENCE);
    let lost = Instant::now();
    wait_until("weir notices", PATIENCE, || {
        weir.stream("moving")
            .is_some_and(|row| row["state"] == "waiting")
    });
    wait_until("the publisher is away", 2 * AWAY, || lost.elapsed() >= AWAY);
}

/// Kills the server as a power cut would and starts it again at the same addresses.
fn restart(weir: Weir) -> Weir {
    weir.kill();
    let (http, rtmp) = (weir.http_addr().to_string(), weir.rtmp_addr().to_string());
    drop(weir);
    Weir::start("dev", &[("HTTPFLV_ADDR", &http), ("RTMP_ADDR", &rtmp)])
}

/// What the publisher sends, again and again.
struct Source {
    file: PathBuf,
    _dir: Dir,
}

impl Source {
    fn new() -> Self {
        Self::of(MOVING)
    }

    fn of(encoding: &str) -> Self {
        let dir = Dir::new("continuity");
        let file: &Path = &dir.path().join("moving.flv");
        ffmpeg::encode(&format!("{VIDEO}:rate=30 {AUDIO}:s=48000 {encoding}"), file);
        Self {
            file: file.to_owned(),
            _dir: dir,
        }
    }

    /// Publishes it, with timestamps from 0 on, and waits until the stream is live.
    fn publish(&self, weir: &Weir) -> Process {
        let publisher = ffmpeg::push_forever(&self.file, &weir.rtmp_url("moving"));
        weir.wait_until_live("moving");
        publisher
    }
}
