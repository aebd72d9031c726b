//! The rewind window (`[hls] dvr_window`): playlists that reach back, segments that have left memory, and disks that do
//! not keep them (FAULTS F32).

mod dash;
mod hung_disk;

use std::time::Duration;

use crate::{
    hls_watch::{Media, Options, watch},
    range_check,
    storage::{SmallDisk, files, listed, metric},
    support::{
        Dir, PATIENCE, Weir,
        ffmpeg::{self, AUDIO, VIDEO, quiet},
        http,
        process::Process,
        wait_for, wait_until,
    },
};

const REWIND: &str = "/live/demo/video/rewind.m3u8";
const HITS: &str = "streaming_cache_hits_total ";
const MISSES: &str = "streaming_cache_misses_total ";
const KEPT: &str = "streaming_cache_bytes ";

/// Three segments are live, each as long as two seconds; a minute can be rewound to, and nothing of it is in memory.
fn start(more: &[(&str, &str)]) -> Weir {
    let settings = [
        ("SEGMENT_DURATION", "1"),
        ("PLAYLIST_SIZE", "3"),
        ("WEIR_HLS_DVR_WINDOW", "60"),
        ("WEIR_HLS_DVR_MEMORY_MB", "0"),
    ];
    let weir = Weir::start("dev", &[&settings[..], more].concat());
    weir.wait_until_live("demo");
    wait_until("there is a playlist", PATIENCE, || {
        weir.get(REWIND).status == 200
    });
    weir
}

fn start_in(dir: &Dir) -> Weir {
    start(&[("HLS_PATH", dir.path().to_str().expect("UTF-8"))])
}

fn media(weir: &Weir, path: &str) -> Media {
    Media::parse(&weir.get(path).text()).expect("a playlist")
}

fn rewind_seconds(weir: &Weir, name: &str) -> u64 {
    let row = weir.stream(name).expect("it runs");
    row["rewind_seconds"].as_u64().expect("a number")
}

fn wait_for_seconds(weir: &Weir, seconds: u64) {
    wait_until("there is so much to rewind to", 2 * PATIENCE, || {
        rewind_seconds(weir, "demo") >= seconds
    });
}

#[test]
fn segments_stay_what_they_were_when_they_leave_memory() {
    let dir = Dir::new("rewind");
    let weir = start_in(&dir);
    let first = media(&weir, REWIND).segments.remove(0).uri;
    let path = format!("/live/demo/video/{first}");
    let before = weir.get(&path);
    assert_eq!((before.status, metric(&weir, MISSES)), (200, 0));
    wait_for("it leaves memory", PATIENCE, || {
        let _ = weir.get(&path);
        (metric(&weir, MISSES) > 0).then_some(())
    });
    assert_eq!(metric(&weir, KEPT), before.body.len() as u64);
    let hits = metric(&weir, HITS);
    let after = weir.get(&path);
    assert_eq!(after.body, before.body);
    for header in ["etag", "content-type", "cache-control", "content-length"] {
        assert_eq!(after.header(header), before.header(header), "{header}");
    }
    assert_eq!(
        range_check::check(weir.http_addr(), &path),
        Vec::<String>::new()
    );
    // It was read once and kept for all these requests.
    assert_eq!(metric(&weir, MISSES), 1);
    assert!(metric(&weir, HITS) > hits);
    // A file that is gone is a segment that is gone.
    let second = media(&weir, REWIND).segments.remove(1).uri;
    wait_until("the file is there", PATIENCE, || {
        dir.path().join("demo/video").join(&second).exists()
    });
    std::fs::remove_file(dir.path().join("demo/video").join(&second)).expect("it is there");
    wait_until("the segment is gone", PATIENCE, || {
        weir.get(&format!("/live/demo/video/{second}")).status == 404
    });
}

#[test]
fn the_window_holds_over_time() {
    let dir = Dir::new("rewind-watch");
    let weir = start_in(&dir);
    wait_for_seconds(&weir, 15);
    let options = Options {
        low_latency: false,
        lasts: Duration::from_secs(10),
    };
    let playlist = "/live/demo/index.m3u8?start=-15";
    let report = watch(weir.http_addr(), playlist, options);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.segments >= 2 * 12, "{report:?}");
    // Whoever reloads is told what is new.
    let delta = media(&weir, &format!("{REWIND}?_HLS_skip=YES"));
    let (skipped, _) = delta.skipped.expect("a delta update");
    let whole = media(&weir, REWIND);
    assert!(whole.segments.len() as u64 >= skipped + delta.segments.len() as u64);
    assert!(skipped > 0);
}

/// The decode time of the first packet that FFmpeg gets, seconds.
fn first_packet_s(url: &str, arguments: &[&str]) -> f64 {
    let mut command = quiet("ffprobe");
    command.args(arguments);
    command.args(["-select_streams", "v", "-read_intervals", "%+#1"]);
    command.args(["-show_entries", "packet=dts_time", "-of", "csv=p=0", url]);
    let output = Process::start(command).output(PATIENCE);
    let first = output.lines().next().expect("a packet");
    first.trim_end_matches(',').parse().expect("seconds")
}

#[test]
fn ffmpeg_seeks_back() {
    let dir = Dir::new("rewind-ffmpeg");
    let weir = start_in(&dir);
    wait_for_seconds(&weir, 24);
    let live = weir.http_url("/live/demo/index.m3u8");
    let back = weir.http_url("/live/demo/index.m3u8?start=-20");
    let earlier_s = first_packet_s(&back, &["-live_start_index", "-20"]);
    let live_s = first_packet_s(&live, &["-live_start_index", "-1"]);
    // It is 19 s, and what the machine took between the two.
    assert!(live_s - earlier_s > 17.0, "{earlier_s} s, then {live_s} s");
    assert!(metric(&weir, MISSES) > 0, "it was read from the disk");
}

#[test]
fn where_playback_starts_is_asked_for() {
    let cdn_addr = crate::support::free_addr().to_string();
    let weir = start(&[("CDN_ADDR", &cdn_addr)]);
    let cdn = weir.addr_of("cdn");
    for bad in ["120", "-0", "-", "", "-1e3", "now", "-5&start=-6"] {
        for path in ["/live/demo/index.m3u8", "/live/demo.m3u8"] {
            let answer = weir.get(&format!("{path}?start={bad}"));
            assert_eq!(answer.status, 400, "{path} {bad:?}");
        }
        let path = format!("/demo/index.m3u8?start={bad}");
        let answer = http::try_get(cdn, &path).expect("weir answers");
        assert_eq!(answer.status, 400, "{bad:?}");
    }
    wait_for_seconds(&weir, 4);
    let redirect = weir.get("/live/demo.m3u8?start=-2.50");
    let location = redirect.header("location").expect("a redirect");
    assert!(location.ends_with("&start=-2.5"), "{location}");
    let text = weir.get(location).text();
    assert!(
        text.contains("#EXT-X-START:TIME-OFFSET=-2.5,PRECISE=YES\n"),
        "{text}"
    );
    let session = location.split(['?', '&']).nth(1).expect("a session");
    let variant = format!("\nvideo/rewind.m3u8?{session}\n");
    assert!(text.contains(&variant), "{text}");
    let audio = format!("URI=\"audio/rewind.m3u8?{session}\"");
    assert!(text.contains(&audio), "{text}");
    // Who rewinds watches. Another one has looked already.
    for (path, viewers) in [(REWIND.to_owned(), 1), (format!("{REWIND}?{session}"), 2)] {
        assert_eq!(weir.get(&path).status, 200);
        let row = weir.stream("demo").expect("it runs");
        assert_eq!(row["viewers_by_protocol"]["hls"], viewers, "{row}");
    }
    // No earlier than there is something.
    let path = "/demo/playlist.m3u8?start=-100000";
    let answer = http::try_get(cdn, path).expect("weir answers");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
    let text = answer.text();
    let start = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-START:TIME-OFFSET=-"));
    let offset = start.and_then(|start| start.strip_suffix(",PRECISE=YES"));
    let offset: f64 = offset
        .and_then(|offset| offset.parse().ok())
        .expect("a number");
    assert!((4.0..60.0).contains(&offset), "{text}");
    assert!(text.contains("\nvideo/rewind.m3u8\n"), "{text}");
    let warning = "without HLS_PATH, viewers can rewind only as far";
    assert_eq!(weir.log().matches(warning).count(), 1);
    assert_eq!(weir.get("/live/demo/smell/rewind.m3u8").status, 404);
    assert_eq!(weir.get("/live/nobody/video/rewind.m3u8").status, 404);
}

#[test]
fn f32_a_full_disk_shortens_the_window() {
    let disk = SmallDisk::mount();
    let weir = start_in(&disk.0);
    let oldest = |path: &str| media(&weir, path).media_sequence;
    let first = oldest(REWIND);
    wait_until(
        "the disk is full, and the oldest goes",
        2 * PATIENCE,
        || oldest(REWIND) > first,
    );
    let seconds = rewind_seconds(&weir, "demo");
    assert!((8..50).contains(&seconds), "{seconds} s");
    // The stream goes on, the live files are written, and what is listed is there.
    let live = oldest("/live/demo/video/index.m3u8");
    wait_until("the stream goes on", PATIENCE, || {
        oldest("/live/demo/video/index.m3u8") >= live + 5
    });
    let file = disk.0.path().join("demo/video/index.m3u8");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let written = Media::parse(&text).expect("a playlist").media_sequence;
    assert!(written >= live, "{written} after {live}");
    wait_until("all that is listed is there", PATIENCE, || {
        let all = media(&weir, REWIND).segments;
        all.iter().all(|segment| {
            let path = format!("/live/demo/video/{}", segment.uri);
            weir.get(&path).status == 200
        })
    });
    assert_eq!(metric(&weir, "streaming_hls_disk_failures_total "), 0);
}

#[test]
fn nothing_is_left_of_a_stream_that_ended() {
    let dir = Dir::new("rewind-end");
    let weir = start(&[
        ("HLS_PATH", dir.path().to_str().expect("UTF-8")),
        ("WEIR_LIMITS_PUBLISHER_GRACE", "0"),
    ]);
    let source = Dir::new("rewind-end-source");
    let source = source.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac";
    ffmpeg::encode(&format!("{VIDEO}:rate=25 {AUDIO} {x264} -t 16"), &source);
    let _push = ffmpeg::push(&source, &weir.rtmp_url("room"));
    let playlist = "/live/room/video/rewind.m3u8";
    let ended = wait_for("the run ends", 2 * PATIENCE, || {
        let text = weir.get(playlist).text();
        text.contains("#EXT-X-ENDLIST").then_some(text)
    });
    let room = dir.path().join("room");
    let names = listed(&ended);
    assert!(names.len() > 12, "{ended}");
    // What is published is on its way to the disk.
    wait_until("all of it is on the disk", PATIENCE, || {
        let kept = files(&room.join("video"));
        names
            .iter()
            .all(|name| kept.iter().any(|file| file == name))
    });
    for name in names {
        assert_eq!(weir.get(&format!("/live/room/video/{name}")).status, 200);
    }
    assert!(metric(&weir, KEPT) > 0);
    wait_until("the files are gone", 2 * PATIENCE, || !room.exists());
    wait_until("the cache is empty", PATIENCE, || metric(&weir, KEPT) == 0);
    assert_eq!(weir.get(playlist).status, 404);
}

#[test]
fn segments_of_the_process_before_are_not_served() {
    let dir = Dir::new("rewind-kill");
    let old = {
        let weir = start_in(&dir);
        wait_for_seconds(&weir, 12);
        let old = media(&weir, REWIND).segments;
        weir.kill();
        old
    };
    let weir = start_in(&dir);
    let now = media(&weir, REWIND);
    for segment in old {
        assert!(!now.segments.iter().any(|known| known.uri == segment.uri));
        assert_eq!(
            weir.get(&format!("/live/demo/video/{}", segment.uri))
                .status,
            404
        );
        let file = dir.path().join("demo/video").join(&segment.uri);
        wait_until("the old file is gone", PATIENCE, || !file.exists());
    }
}
