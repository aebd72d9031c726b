//! HLS as a strict player and a strict cache see it: playlists over time, objects, headers (CONFORMANCE section 1).

mod fragment;
mod playlist;

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{
    PATIENCE, Weir, hls,
    http::{Connection, Response, request},
    process::Process,
    wait_for, wait_until,
};
use fragment::Media;
use playlist::{Playlist, Segment};

/// Segments that a playlist lists here: few, so that some leave soon.
const PLAYLIST_SIZE: usize = 3;
/// How long a stream is watched.
const WATCH: Duration = Duration::from_secs(14);
/// What a frame of either track lasts at most: a picture at 30 fps.
const FRAME_US: i64 = 34_000;
/// How much later than it should a new version may be seen here: the machine is busy.
const LATE: Duration = Duration::from_secs(1);
const RENDITIONS: [&str; 2] = ["video", "audio"];

/// Everything that was seen of one rendition.
#[derive(Default)]
struct Watched {
    versions: Vec<(Instant, Playlist)>,
    texts: Vec<String>,
    /// Every segment, and since when it is no longer listed.
    segments: BTreeMap<u64, (Segment, Option<Instant>)>,
}

#[test]
fn e2e_hls_holds_over_time() {
    let weir = Weir::start("dev", &[("PLAYLIST_SIZE", &PLAYLIST_SIZE.to_string())]);
    let mut player = Connection::open(weir.http_addr()).expect("weir accepts");
    wait_until("there is a playlist", PATIENCE, || {
        player
            .get("/live/demo/video/index.m3u8")
            .is_ok_and(|answer| answer.status == 200)
    });
    let mut renditions = RENDITIONS.map(|_| Watched::default());
    let begun = Instant::now();
    wait_until("the stream is watched", WATCH + PATIENCE, || {
        for (rendition, watched) in RENDITIONS.iter().zip(&mut renditions) {
            let path = format!("/live/demo/{rendition}/index.m3u8");
            watched.look(&player.get(&path).expect("weir answers").text());
        }
        begun.elapsed() >= WATCH
    });
    for (rendition, watched) in RENDITIONS.iter().zip(&renditions) {
        check_versions(watched, rendition);
        check_objects(watched, &mut player, rendition);
    }
    check_together(&renditions);
    let multivariant = player
        .get("/live/demo/index.m3u8")
        .expect("weir answers")
        .text();
    check_multivariant(&multivariant, &renditions, &mut player);
}

#[test]
fn e2e_hls_headers_suit_players_and_caches() {
    let weir = Weir::start("dev", &[]);
    let mut player = Connection::open(weir.http_addr()).expect("weir accepts");
    let [video, audio] = RENDITIONS.map(|rendition| {
        let path = format!("/live/demo/{rendition}/index.m3u8");
        let text = wait_for("there is a playlist", PATIENCE, || {
            let answer = player.get(&path).expect("weir answers");
            (answer.status == 200).then(|| answer.text())
        });
        playlist::read(&text)
            .expect("it is good")
            .segments
            .remove(0)
    });
    let playlists = ["/live/demo/index.m3u8", "/live/demo/video/index.m3u8"];
    let objects = [
        (
            format!("/live/demo/video/{}", video.uri),
            "video/iso.segment",
        ),
        (format!("/live/demo/video/{}", video.map), "video/mp4"),
        (format!("/live/demo/audio/{}", audio.uri), "audio/mp4"),
        (format!("/live/demo/audio/{}", audio.map), "audio/mp4"),
    ];
    for path in playlists {
        check_playlist_headers(&weir, path);
        check_cors(&weir, path);
    }
    for (path, media_type) in &objects {
        check_object_headers(&weir, path, media_type);
        check_cors(&weir, path);
    }
}

/// H19, H23, H26.
fn check_playlist_headers(weir: &Weir, path: &str) {
    let answer = get(weir, path, &[("Range", "bytes=0-3")]);
    assert_eq!(
        answer.status, 200,
        "nothing is gained by a range of a playlist: {path}"
    );
    let plain = [
        ("content-type", Some("application/vnd.apple.mpegurl")),
        ("cache-control", Some("no-cache")),
        ("vary", Some("Accept-Encoding")),
        ("content-encoding", None),
        ("last-modified", None),
    ];
    assert_headers(path, &answer, &plain);
    let answer = get(weir, path, &[("Accept-Encoding", "gzip")]);
    let compressed = [
        ("content-encoding", Some("gzip")),
        ("vary", Some("Accept-Encoding")),
    ];
    assert_headers(path, &answer, &compressed);
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--compressed",
        &weir.http_url(path),
    ]);
    let text = Process::start(curl).output(PATIENCE);
    assert!(text.starts_with("#EXTM3U\n"), "{text}");
}

/// H20, H21, H23.
fn check_object_headers(weir: &Weir, path: &str, media_type: &str) {
    let answer = get(weir, path, &[("Accept-Encoding", "gzip")]);
    assert_eq!(answer.status, 200, "{path}");
    let length = answer.body.len().to_string();
    let expected = [
        ("content-type", Some(media_type)),
        ("cache-control", Some("public, max-age=31536000, immutable")),
        ("content-encoding", None),
        ("content-length", Some(&*length)),
    ];
    assert_headers(path, &answer, &expected);
}

/// H24.
fn check_cors(weir: &Weir, path: &str) {
    let answer = get(weir, path, &[("Origin", "http://example.com")]);
    assert_headers(path, &answer, &[("access-control-allow-origin", Some("*"))]);
    let exposed = answer
        .header("access-control-expose-headers")
        .unwrap_or_default();
    for name in [
        "Date",
        "Age",
        "ETag",
        "Content-Length",
        "Content-Range",
        "Accept-Ranges",
    ] {
        assert!(
            exposed.split(", ").any(|known| known == name),
            "{path}: {exposed}"
        );
    }
    let answer = request(weir.http_addr(), "OPTIONS", path, &[]).expect("weir answers");
    assert_eq!(answer.status, 204, "{path}");
    assert_headers(path, &answer, &[("access-control-allow-origin", Some("*"))]);
    assert!(answer.header("access-control-max-age").is_some(), "{path}");
}

fn get(weir: &Weir, path: &str, headers: &[(&str, &str)]) -> Response {
    request(weir.http_addr(), "GET", path, headers).expect("weir answers")
}

#[track_caller]
fn assert_headers(path: &str, answer: &Response, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{path}: {name}");
    }
}

impl Watched {
    fn look(&mut self, text: &str) {
        if self.texts.last().is_some_and(|newest| newest == text) {
            return;
        }
        let now = Instant::now();
        let playlist = playlist::read(text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
        for (number, (_, gone)) in &mut self.segments {
            if *number < playlist.media_sequence {
                gone.get_or_insert(now);
            }
        }
        for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            self.segments
                .entry(number)
                .or_insert_with(|| (segment.clone(), None));
        }
        self.texts.push(text.to_owned());
        self.versions.push((now, playlist));
    }
}

/// H3, H5–H8, H10.
fn check_versions(watched: &Watched, rendition: &str) {
    let versions: Vec<_> = watched.texts.iter().map(|text| hls::parse(text)).collect();
    assert_eq!(
        hls::problems(&versions),
        Vec::<String>::new(),
        "{rendition}"
    );
    let (_, first) = &watched.versions[0];
    for (_, version) in &watched.versions {
        let removed = version.media_sequence > first.media_sequence;
        let enough = version.duration_us() >= 3 * version.target_s * 1_000_000 - FRAME_US;
        assert!(!removed || enough, "{rendition} is too short: {version:?}");
    }
    let (_, last) = &watched.versions[watched.versions.len() - 1];
    assert!(
        last.media_sequence >= first.media_sequence + 3,
        "{rendition}: segments leave"
    );
    let longest = Duration::from_secs(first.target_s.unsigned_abs()) * 3 / 2 + LATE;
    for pair in watched.versions.windows(2) {
        let waited = pair[1].0 - pair[0].0;
        assert!(
            waited <= longest,
            "{rendition}: no new version for {waited:?}"
        );
    }
}

/// H9, H11, H13: what was listed can be fetched for long enough, is what the playlist says, and has no seam.
fn check_objects(watched: &Watched, player: &mut Connection, rendition: &str) {
    let longest = watched
        .versions
        .iter()
        .map(|(_, version)| version.duration_us())
        .max();
    let mut before: Option<(u64, Media)> = None;
    for (&number, (segment, gone)) in &watched.segments {
        let kept_us = longest.unwrap_or_default() + segment.duration_us;
        let kept = Duration::from_micros(kept_us.unsigned_abs());
        let path = format!("/live/demo/{rendition}/{}", segment.uri);
        let answer = player.get(&path).expect("weir answers");
        if gone.is_some_and(|gone| gone.elapsed() >= kept) {
            continue;
        }
        assert_eq!(
            answer.status,
            200,
            "{path} was listed until {:?} ago",
            gone.map(|gone| gone.elapsed())
        );
        let media =
            fragment::read(&answer.body).unwrap_or_else(|problem| panic!("{path}: {problem}"));
        assert!(media.sync, "{path} begins with no key frame");
        let init = player
            .get(&format!("/live/demo/{rendition}/{}", segment.map))
            .expect("weir answers");
        let timescale = i64::from(fragment::timescale(&init.body).expect("an init object"));
        let lasts_us = (media.end - media.start) as i64 * 1_000_000 / timescale;
        assert!(
            (lasts_us - segment.duration_us).abs() <= FRAME_US,
            "{path} lasts {lasts_us} us, not {segment:?}"
        );
        if let Some((_, before)) = before.filter(|(before, _)| before + 1 == number) {
            assert_eq!(
                media.start, before.end,
                "{path} goes on where the one before ended"
            );
        }
        before = Some((number, media));
    }
}

/// H17: sound and picture are cut at the same instants.
fn check_together([video, audio]: &[Watched; 2]) {
    assert_eq!(video.versions[0].1.target_s, audio.versions[0].1.target_s);
    let mut common = 0;
    for (number, (picture, _)) in &video.segments {
        if let Some((sound, _)) = audio.segments.get(number) {
            let apart_us = (picture.date_ms - sound.date_ms).abs() * 1_000;
            assert!(apart_us <= FRAME_US, "{picture:?} {sound:?}");
            common += 1;
        }
    }
    assert!(common > PLAYLIST_SIZE, "{common} segments in common");
}

/// H16: the multivariant playlist says what the media are.
fn check_multivariant(text: &str, renditions: &[Watched; 2], player: &mut Connection) {
    assert!(
        text.starts_with("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n"),
        "{text}"
    );
    let inf = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:"))
        .expect(text);
    let attribute = |name: &str| {
        let (_, value) = inf
            .split_once(&format!("{name}="))
            .unwrap_or_else(|| panic!("{name} in {inf}"));
        match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split(',').next(),
        }
    };
    assert_eq!(attribute("RESOLUTION"), Some("640x360"));
    assert_eq!(attribute("FRAME-RATE"), Some("30.000"));
    assert_eq!(attribute("AUDIO"), Some("audio"));
    let map = &renditions[0].versions[0].1.segments[0].map;
    let init = player
        .get(&format!("/live/demo/video/{map}"))
        .expect("weir answers")
        .body;
    let avcc = init
        .windows(4)
        .position(|window| window == b"avcC")
        .expect("H.264");
    let profile: String = init[avcc + 5..avcc + 8]
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    assert_eq!(
        attribute("CODECS"),
        Some(&*format!("avc1.{profile},mp4a.40.2"))
    );
    let number = |name| -> f64 {
        attribute(name)
            .and_then(|text| text.parse().ok())
            .expect(inf)
    };
    let mut peak_bps = 0.0;
    for (rendition, watched) in RENDITIONS.iter().zip(renditions) {
        let (_, newest) = watched.versions.last().expect("a version");
        let bit_rates = newest.segments.iter().map(|segment| {
            let path = format!("/live/demo/{rendition}/{}", segment.uri);
            let len = player.get(&path).expect("weir answers").body.len();
            len as f64 * 8e6 / segment.duration_us as f64
        });
        peak_bps += bit_rates.fold(0.0, f64::max);
    }
    // The next segment may have come meanwhile, with a little more or less in it.
    let bandwidth = number("BANDWIDTH");
    assert!(
        (peak_bps * 0.9..peak_bps * 1.5).contains(&bandwidth),
        "{bandwidth} for {peak_bps}"
    );
    assert!(number("AVERAGE-BANDWIDTH") <= bandwidth);
    let sound = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",";
    assert!(
        text.lines()
            .any(|line| line.starts_with(sound) && line.contains("LANGUAGE=\"")),
        "{text}"
    );
}
