//! Objects and playlists as HTTP resources: validators, conditions, ranges, methods (CONFORMANCE A1–A3, H19, H21, H23).

use std::process::Command;

use crate::{
    hls_watch::Media,
    range_check,
    support::{Dir, PATIENCE, Weir, http, process::Process, wait_for},
};

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
        let playlist = Media::parse(&media).expect("it is good");
        let mut parts = playlist.segments.iter().flat_map(|segment| &segment.parts);
        if let Some(part) = parts.next_back() {
            found.push((format!("{folder}/{}", part.uri), segment_type));
        }
    }
    assert_eq!(found.len(), 7, "{found:?}");
    found
}

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)]) -> http::Response {
    http::request(weir.http_addr(), method, path, headers).expect("weir answers")
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
        let problems = range_check::check(weir.http_addr(), &path);
        assert_eq!(problems, Vec::<String>::new(), "{path}");
        tags.push(etag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 7, "each object has a tag of its own: {tags:?}");
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
fn e2e_methods_of_playlists_and_of_what_is_not_there() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let path = "/live/demo/video/index.m3u8";
    let head = ask(&weir, "HEAD", path, &[("Range", "bytes=0-1")]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let refused = ask(&weir, method, path, &[]);
        assert_eq!(refused.status, 405, "{method}");
        let allow = refused.header("allow").expect("what is allowed");
        for allowed in ["GET", "HEAD", "OPTIONS"] {
            assert!(allow.contains(allowed), "{allow}");
        }
    }
    let preflight = ask(&weir, "OPTIONS", path, &[("Origin", "https://a.example")]);
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-max-age"), Some("86400"));
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    for path in ["/live/demo/video/1-1.m4s", "/live/nobody/video/1-1.m4s"] {
        let missing = weir.get(path);
        assert_eq!(missing.status, 404, "{path}");
        assert_eq!(missing.header("cache-control"), Some("no-store"), "{path}");
    }
}
