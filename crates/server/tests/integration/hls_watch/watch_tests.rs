//! The watchers against a good stream, against the same one broken, and against FFmpeg's.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    media::Media,
    studio::{part, start},
    watch::{Options, Report, watch},
};
use crate::support::{
    Dir, PATIENCE,
    ffmpeg::{AUDIO, VIDEO, quiet},
    http,
    origin::{Answer, Body, Origin, Request, edited},
    process::Process,
    wait_until,
};

const OPTIONS: Options = Options {
    low_latency: true,
    lasts: Duration::from_millis(1_500),
};

#[test]
fn e2e_a_good_stream_passes() {
    let origin = start(|_, answer| answer);
    let report = watch(origin.addr(), "/live/demo/index.m3u8", OPTIONS);
    assert_eq!(report.problems, Vec::<String>::new());
    let Report {
        versions,
        segments,
        parts,
        deltas,
        hints,
        ..
    } = report;
    assert!(versions > 30 && segments > 40 && parts > 30, "{report:?}");
    assert!(deltas > 5 && hints > 20, "{report:?}");
}

/// What is found once `change` has broken every answer.
#[track_caller]
fn check(change: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static, expected: &str) {
    let origin = start(change);
    let report = watch(origin.addr(), "/live/demo/index.m3u8", OPTIONS);
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.starts_with(expected)),
        "{expected}, not {:#?}",
        report.problems
    );
}

fn is_text(request: &Request) -> bool {
    request.target.contains(".m3u8")
}

/// Another text of every playlist that has the words.
fn edit(from: &'static str, to: &'static str) -> impl Fn(&Request, Answer) -> Answer {
    move |_, answer| edited(answer, |text| text.replace(from, to))
}

#[test]
fn e2e_broken_playlists_are_found() {
    check(
        edit("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.2"),
        "L2: PART-HOLD-BACK",
    );
    check(
        edit("INDEPENDENT-SEGMENTS", "INDEPENDENT"),
        "H1: #EXT-X-INDEPENDENT is not",
    );
    check(
        edit("CODECS=\"avc1.42C01E", "CODECS=\"avc1.640028"),
        "H16: video/index.m3u8: CODECS",
    );
    check(
        edit("640x360", "1280x720"),
        "H16: video/index.m3u8: RESOLUTION",
    );
    check(
        edit("FRAME-RATE=10", "FRAME-RATE=30"),
        "H16: video/index.m3u8: FRAME-RATE",
    );
    check(
        edit("STREAM-INF:BANDWIDTH=", "STREAM-INF:BANDWIDTH=9"),
        "H16: video/index.m3u8: BANDWIDTH",
    );
    check(
        edit("DURATION=0.50000", "DURATION=0.40000"),
        "L6: the parts",
    );
    check(
        edit("#EXTINF:2.000000", "#EXTINF:1.800000"),
        "H11: it lasts",
    );
    let of_audio = |request: &Request, answer| match request.target.contains("audio/index") {
        true => edited(answer, |text| text.replace(".000Z", ".100Z")),
        false => answer,
    };
    check(of_audio, "H17: segment");
    let of_audio = |request: &Request, answer| match request.target.contains("audio/index") {
        true => edited(answer, |text| text.replace("DURATION:2", "DURATION:3")),
        false => answer,
    };
    check(of_audio, "H17: target durations");
    let no_delta = |request: &Request, answer| match request.target.contains("_HLS_skip") {
        true => edited(answer, |text| text.replace("SEGMENTS=2", "SEGMENTS=3")),
        false => answer,
    };
    check(no_delta, "H7: ");
    let old_reports = |request: &Request, answer| match is_text(request) {
        true => edited(answer, |text| text.replace("LAST-PART=3", "LAST-PART=0")),
        false => answer,
    };
    check(old_reports, "L10: ");
}

#[test]
fn e2e_broken_objects_are_found() {
    let gone = |request: &Request, answer| match request.target.ends_with(".2.m4s") {
        true => Answer::new(404, ""),
        false => answer,
    };
    check(gone, "H7: /live/demo/video/");
    check(gone, "L9: the hint");
    let longer = |request: &Request, mut answer: Answer| {
        let name = request.target.rsplit('/').next().unwrap_or_default();
        if let ("m4s", Body::Whole(bytes)) = (
            name.split_once('.').map_or("", |(_, rest)| rest),
            &mut answer.body,
        ) {
            bytes.extend(b"\0\0\0\x08free");
        }
        answer
    };
    check(longer, "L6: /live/demo/");
    check(longer, "C2: no whole fragment");
    let typed = |request: &Request, answer: Answer| match is_text(request) {
        true => answer,
        false => Answer {
            headers: vec![],
            ..answer
        },
    };
    check(typed, "H21: ");
    check(typed, "H23: ");
    check(typed, "H24: ");
    let typed = |request: &Request, answer: Answer| match is_text(request) {
        true => Answer {
            headers: vec![],
            ..answer
        }
        .with("last-modified", "now"),
        false => answer,
    };
    check(typed, "H1: /live/demo/index.m3u8 is ");
    check(typed, "H26: ");
    let redirected = |request: &Request, answer: Answer| match is_text(request) {
        true => answer,
        false => Answer {
            status: 302,
            ..answer
        },
    };
    check(redirected, "H7: ");
}

#[test]
fn e2e_what_only_time_shows_is_found() {
    // What has left the playlist is gone at once.
    let first = AtomicU64::new(0);
    let forgets = move |request: &Request, answer: Answer| {
        if let Body::Whole(bytes) = &answer.body
            && let Ok(text) = str::from_utf8(bytes)
            && let Ok(media) = Media::parse(text)
        {
            first.fetch_max(media.media_sequence, Ordering::Relaxed);
        }
        let name = request.target.rsplit('/').next().unwrap_or_default();
        let msn = name
            .split('.')
            .next()
            .and_then(|msn| msn.parse::<u64>().ok());
        match msn.is_some_and(|msn| msn < first.load(Ordering::Relaxed)) {
            true => Answer::new(404, ""),
            false => answer,
        }
    };
    check(forgets, "H9: /live/demo/");
    // Nothing new for longer than a target duration and a half, and than a part.
    let held = |request: &Request, answer| {
        if request.target.contains("video/index.m3u8?_HLS") {
            thread::park_timeout(Duration::from_millis(4_500));
        }
        answer
    };
    let origin = start(held);
    let report = watch(origin.addr(), "/live/demo/index.m3u8", OPTIONS);
    for row in ["H10: no new version for", "L4: no new part for"] {
        let found = report
            .problems
            .iter()
            .any(|problem| problem.starts_with(row));
        assert!(found, "{row}: {:#?}", report.problems);
    }
    // The part that was hinted is another one when it is listed.
    let asked = Mutex::new(BTreeSet::new());
    let other = move |request: &Request, answer: Answer| {
        let mut asked = asked.lock().expect("no panic");
        let new = asked.insert(request.target.clone());
        match (new && request.target.contains(".2.m4s"), answer.body) {
            (true, Body::Whole(mut bytes)) => {
                bytes.pop();
                Answer {
                    body: Body::Whole(bytes),
                    ..answer
                }
            }
            (_, body) => Answer { body, ..answer },
        }
    };
    check(other, "L9: ");
}

#[test]
fn e2e_renditions_that_do_not_fit_together_are_found() {
    check(
        edit("#EXT-X-INDEPENDENT-SEGMENTS\n", ""),
        "H15: EXT-X-INDEPENDENT-SEGMENTS false",
    );
    // A discontinuity before segment 110 in one of them.
    let date = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:03:40";
    let of_audio = move |request: &Request, answer| match request.target.contains("audio/index") {
        true => edited(answer, |text| {
            text.replace(date, &format!("#EXT-X-DISCONTINUITY\n{date}"))
        }),
        false => answer,
    };
    check(of_audio, "H14: a discontinuity before segment 110");
    // Reports that are always a segment behind.
    let behind = |_: &Request, answer| {
        edited(answer, |text| match text.split_once("LAST-MSN=") {
            Some((before, after)) => {
                let (msn, rest) = after.split_once(',').expect("LAST-PART");
                let msn: u64 = msn.parse().expect("a number");
                format!("{before}LAST-MSN={},{rest}", msn - 1)
            }
            None => text,
        })
    };
    check(behind, "L10: /live/demo/");
    // Media that do not begin with a key frame.
    let late = |request: &Request, answer: Answer| {
        let name = request.target.rsplit('/').next().unwrap_or_default();
        let number = name.strip_suffix(".0.m4s").or(name.strip_suffix(".m4s"));
        match number.and_then(|number| number.parse().ok()) {
            Some(msn) if answer.status == 200 => Answer {
                body: Body::Whole(part("video", msn, 1)),
                ..answer
            },
            _ => answer,
        }
    };
    check(late, "L7: /live/demo/video/");
    check(late, "C5: it begins with no sync sample");
    check(late, "C3: ");
    let moved = |request: &Request, answer: Answer| match is_text(request) {
        true => Answer {
            status: 302,
            ..answer
        },
        false => answer,
    };
    check(moved, "H20: /live/demo/index.m3u8: 302");
}

#[test]
fn e2e_a_server_that_answers_too_early_is_found() {
    // It does not know what blocking is.
    let origin = start(|_, answer| answer);
    let behind = origin.addr();
    let deaf = Origin::start(move |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        let inner = http::try_get(behind, path).expect("it answers");
        let kind = inner.header("content-type").unwrap_or_default().to_owned();
        let status = inner.status;
        let answer = Answer {
            body: Body::Pieces(Box::new([inner.body].into_iter())),
            ..Answer::new(status, "")
        };
        answer
            .with("content-type", &kind)
            .with("cache-control", "max-age=60")
            .with("access-control-allow-origin", "*")
    });
    let report = watch(deaf.addr(), "/live/demo/index.m3u8", OPTIONS);
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.starts_with("2.2: ")),
        "{report:#?}"
    );
}

/// The rows that FFmpeg's own muxer breaks; it has no wish to keep them.
fn rows_of_ffmpeg(muxer: &str) -> BTreeSet<String> {
    let dir = Dir::new("hls-watch-ffmpeg");
    let mut ffmpeg = quiet("ffmpeg");
    let encode = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac";
    let arguments = format!("-re {VIDEO}:rate=25 -re {AUDIO}:s=48000 {encode} -t 60 {muxer}");
    ffmpeg
        .args(arguments.split_whitespace())
        .current_dir(dir.path());
    let ffmpeg = Process::start(ffmpeg);
    wait_until("FFmpeg writes", PATIENCE, || {
        assert!(ffmpeg.is_running(), "{}", ffmpeg.stderr());
        dir.path().join("index.m3u8").exists()
    });
    let folder = dir.path().to_owned();
    let origin = Origin::start(move |request| {
        let path = request.target.split('?').next().unwrap_or_default();
        let kind = match path.rsplit_once('.') {
            Some((_, "m3u8")) => "application/vnd.apple.mpegurl",
            Some((_, "ts")) => "video/mp2t",
            _ => "video/mp4",
        };
        match fs::read(folder.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Answer::new(200, bytes),
            Err(_) => Answer::new(404, ""),
        }
        .with("content-type", kind)
        .with("cache-control", "max-age=60")
        .with("access-control-allow-origin", "*")
    });
    let options = Options {
        low_latency: false,
        lasts: Duration::from_secs(8),
    };
    let report = watch(origin.addr(), "/index.m3u8", options);
    assert!(report.segments >= 6, "{report:#?}");
    let rows = report
        .problems
        .iter()
        .filter_map(|problem| problem.split(':').next());
    rows.map(str::to_owned).collect()
}

#[test]
fn e2e_playlists_of_ffmpeg_break_few_rules() {
    let common = "-f hls -hls_time 1 -hls_list_size 7 -hls_delete_threshold 9 -master_pl_name index.m3u8 \
                  -hls_flags program_date_time+independent_segments+delete_segments";
    let ts = rows_of_ffmpeg(&format!("{common} media.m3u8"));
    assert_eq!(ts, BTreeSet::from(["H6", "H16"].map(str::to_owned)));
    let fragments = rows_of_ffmpeg(&format!("{common} -hls_segment_type fmp4 media.m3u8"));
    // It puts all tracks into one file (C2).
    assert_eq!(
        fragments,
        BTreeSet::from(["C1", "C2", "H6", "H16"].map(str::to_owned))
    );
}
