//! Objects and playlists as HTTP resources: validators, conditions, ranges, methods (CONFORMANCE A1–A3, H19, H21, H23).

use std::{ops::Range, process::Command};

use crate::support::{Dir, PATIENCE, Weir, http, process::Process, wait_for};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// One object of each type: its path and its media type.
fn objects(weir: &Weir) -> Vec<(String, &'static str)> {
    weir.wait_until_live("demo");
    let mut found = Vec::new();
    for (playlist, segment_type, init_type) in [
        ("video/index.m3u8", "video/iso.segment", "video/mp4"),
        ("audio/index.m3u8", "audio/mp4", "audio/mp4"),
        ("ts.m3u8", "video/mp2t", ""),
    ] {
        let path = format!("/live/demo/{playlist}");
        let folder = path.rsplit_once('/').expect("a folder").0;
        let media = wait_for("a playlist with segments", PATIENCE, || {
            let answer = weir.get(&path);
            (answer.status == 200).then(|| answer.text())
        });
        let segment = media.lines().rfind(|line| !line.starts_with('#'));
        found.push((
            format!("{folder}/{}", segment.expect("a segment")),
            segment_type,
        ));
        let map = media
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MAP:URI="));
        if let Some(map) = map {
            found.push((format!("{folder}/{}", map.trim_matches('"')), init_type));
        }
    }
    assert_eq!(found.len(), 5, "{found:?}");
    found
}

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)]) -> http::Response {
    http::request(weir.http_addr(), method, path, headers).expect("weir answers")
}

/// The range, the rest of the headers, the status that is to come, and the bytes, where there are any.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, Option<Range<usize>>);

/// Breaks of A1 in the answers to ranges of an object whose bytes are known.
fn range_problems(
    whole: &[u8],
    etag: &str,
    mut ask: impl FnMut(&[(&str, &str)]) -> http::Response,
) -> Vec<String> {
    let len = whole.len();
    let past = format!("bytes={len}-");
    let over = format!("bytes=5-{}", len * 2);
    let suffix = format!("bytes=-{}", len * 2);
    let middle = format!("bytes={}-{}", len / 3, len / 2);
    let weak = format!("W/{etag}");
    let cases: [Case<'_>; 16] = [
        ("bytes=0-0", &[], 206, Some(0..1)),
        (&middle, &[], 206, Some(len / 3..len / 2 + 1)),
        ("bytes=10-", &[], 206, Some(10..len)),
        ("bytes=-10", &[], 206, Some(len - 10..len)),
        (&over, &[], 206, Some(5..len)),
        (&suffix, &[], 206, Some(0..len)),
        (&past, &[], 416, None),
        ("bytes=-0", &[], 416, None),
        ("bytes=0-1,4-5", &[], 200, Some(0..len)),
        ("bytes=5-4", &[], 200, Some(0..len)),
        ("bytes=x", &[], 200, Some(0..len)),
        ("pages=1-2", &[], 200, Some(0..len)),
        ("bytes=1-2", &[("If-Range", etag)], 206, Some(1..3)),
        ("bytes=1-2", &[("If-Range", &weak)], 200, Some(0..len)),
        ("bytes=1-2", &[("If-Range", "\"other\"")], 200, Some(0..len)),
        ("bytes=1-2", &[("If-None-Match", etag)], 304, None),
    ];
    let mut problems = Vec::new();
    for (range, further, status, bytes) in cases {
        let answer = ask(&[&[("Range", range)], further].concat());
        let content_range = match (status, &bytes) {
            (206, Some(bytes)) => Some(format!("bytes {}-{}/{len}", bytes.start, bytes.end - 1)),
            (416, _) => Some(format!("bytes */{len}")),
            _ => None,
        };
        let body_fits = match bytes {
            Some(bytes) => answer.body == whole[bytes],
            None => status == 416 || answer.body.is_empty(),
        };
        if answer.status != status
            || answer.header("content-range") != content_range.as_deref()
            || !body_fits
        {
            problems.push(format!(
                "{range} {further:?}: {} with {:?} and {} bytes",
                answer.status,
                answer.header("content-range"),
                answer.body.len()
            ));
        }
    }
    problems
}

#[test]
fn e2e_objects_have_validators_and_ranges() {
    let weir = Weir::start("dev", &[]);
    let mut tags = Vec::new();
    for (path, media_type) in objects(&weir) {
        let whole = weir.get(&path);
        assert_eq!(whole.status, 200, "{path}");
        let etag = whole.header("etag").expect("a tag").to_owned();
        assert!(etag.starts_with('"'), "{path} has a strong tag, not {etag}");
        for (name, value) in [
            ("content-type", media_type),
            ("cache-control", IMMUTABLE),
            ("accept-ranges", "bytes"),
            ("access-control-allow-origin", "*"),
            ("x-content-type-options", "nosniff"),
            ("content-length", &whole.body.len().to_string()),
        ] {
            assert_eq!(whole.header(name), Some(value), "{path} {name}");
        }
        assert!(whole.header("date").is_some(), "{path}");
        let problems = range_problems(&whole.body, &etag, |headers| {
            ask(&weir, "GET", &path, headers)
        });
        assert!(problems.is_empty(), "{path}: {problems:#?}");
        let known = ask(&weir, "GET", &path, &[("If-None-Match", &etag)]);
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        for name in ["etag", "cache-control", "accept-ranges"] {
            assert_eq!(known.header(name), whole.header(name), "{path} {name}");
        }
        let other = ask(&weir, "GET", &path, &[("If-Match", "\"other\"")]);
        assert_eq!(other.status, 412, "{path}");
        tags.push(etag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 5, "each object has a tag of its own: {tags:?}");
}

#[test]
fn e2e_range_check_finds_a_server_that_breaks_the_rules() {
    let whole: Vec<u8> = (0..=255).collect();
    let weir = Weir::start("dev", &[]);
    // A server without ranges, and one that has them but answers every request with the first ten bytes.
    let (path, _) = objects(&weir).swap_remove(0);
    let without = range_problems(&whole, "\"x\"", |_| weir.get("/health/live"));
    assert_eq!(without.len(), 16);
    let first = [("Range", "bytes=0-9")];
    let stuck = range_problems(&whole, "\"x\"", |_| ask(&weir, "GET", &path, &first));
    assert_eq!(stuck.len(), 16);
}

#[test]
fn e2e_playlists_are_validated_and_never_in_ranges() {
    let dir = Dir::new("objects-gzip");
    let weir = Weir::start("dev", &[("VIEWER_TRACKING_ENABLED", "false")]);
    weir.wait_until_live("demo");
    for path in [
        "/live/demo/index.m3u8",
        "/live/demo/video/index.m3u8",
        "/live/demo/playlist.m3u8",
        "/live/demo/ts.m3u8",
    ] {
        // A playlist that changes between two requests is asked for again.
        wait_for("an unchanged playlist", PATIENCE, || {
            let whole = ask(&weir, "GET", path, &[("Range", "bytes=0-1")]);
            assert_eq!(whole.status, 200, "{path}");
            assert!(whole.text().starts_with("#EXTM3U\n"), "{path}");
            assert_eq!(whole.header("accept-ranges"), Some("none"), "{path}");
            assert_eq!(whole.header("content-range"), None, "{path}");
            assert_eq!(whole.header("vary"), Some("Accept-Encoding"), "{path}");
            let etag = whole.header("etag").expect("a tag").to_owned();
            let known = ask(&weir, "GET", path, &[("If-None-Match", &etag)]);
            assert!(matches!(known.status, 200 | 304), "{path}");
            (known.status == 304).then(|| {
                assert!(known.body.is_empty(), "{path}");
                for name in ["etag", "cache-control", "vary", "accept-ranges"] {
                    assert_eq!(known.header(name), whole.header(name), "{path} {name}");
                }
            })
        });
        let other = ask(&weir, "GET", path, &[("If-None-Match", "\"other\"")]);
        assert_eq!(other.status, 200, "{path}");
    }
    let (headers, body) = (dir.path().join("headers"), dir.path().join("body"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--compressed", "-D"]).arg(&headers);
    curl.arg("-o").arg(&body);
    curl.arg(weir.http_url("/live/demo/video/index.m3u8"));
    let curl = Process::start(curl);
    assert!(curl.wait(PATIENCE).success(), "{}", curl.stderr());
    let read = |path| std::fs::read_to_string(path).expect("curl wrote it");
    assert!(read(&headers).contains("content-encoding: gzip\r\n"));
    assert!(read(&body).starts_with("#EXTM3U\n"));
}

#[test]
fn e2e_curl_resumes_a_segment() {
    let dir = Dir::new("objects-resume");
    let weir = Weir::start("dev", &[]);
    let (path, _) = objects(&weir).swap_remove(0);
    let whole = weir.get(&path).body;
    let file = dir.path().join("segment.m4s");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("the disk takes it");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-f", "-C", "-", "-o"]).arg(&file);
    curl.arg(weir.http_url(&path));
    let curl = Process::start(curl);
    assert!(curl.wait(PATIENCE).success(), "{}", curl.stderr());
    assert!(std::fs::read(&file).expect("curl wrote it") == whole);
}

#[test]
fn e2e_methods() {
    let weir = Weir::start("dev", &[]);
    let mut paths: Vec<_> = objects(&weir).into_iter().map(|(path, _)| path).collect();
    paths.push("/live/demo/video/index.m3u8".to_owned());
    for path in &paths {
        let head = ask(&weir, "HEAD", path, &[("Range", "bytes=0-1")]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let is_object = !path.ends_with(".m3u8");
        if is_object {
            let get = weir.get(path);
            for name in [
                "content-type",
                "content-length",
                "etag",
                "cache-control",
                "accept-ranges",
                "access-control-allow-origin",
            ] {
                assert_eq!(head.header(name), get.header(name), "{path} {name}");
            }
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let refused = ask(&weir, method, path, &[]);
            assert_eq!(refused.status, 405, "{method} {path}");
            let allow = refused.header("allow").expect("what is allowed");
            for allowed in ["GET", "HEAD", "OPTIONS"] {
                assert!(allow.contains(allowed), "{path}: {allow}");
            }
        }
        let preflight = ask(&weir, "OPTIONS", path, &[("Origin", "https://a.example")]);
        assert_eq!(preflight.status, 204, "{path}");
        assert_eq!(
            preflight.header("access-control-max-age"),
            Some("86400"),
            "{path}"
        );
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
    }
    for path in ["/live/demo/video/1-1.m4s", "/live/nobody/video/1-1.m4s"] {
        let missing = weir.get(path);
        assert_eq!(missing.status, 404, "{path}");
        assert_eq!(missing.header("cache-control"), Some("no-store"), "{path}");
    }
}
