//! `range-check`: an object as an HTTP resource (CONFORMANCE A1–A3).
//!
//! Owns: ranges, validators, conditions and methods of any URL whose bytes never change: segments, parts, init objects,
//! on every listener. Each problem begins with its row.

use std::{net::SocketAddr, ops::Range};

use crate::support::http::{Response, request};

/// Headers that describe the object: HEAD and, but for the first two, 304 say the same as GET (A2).
const DESCRIBING: [&str; 6] = [
    "content-type",
    "content-length",
    "etag",
    "cache-control",
    "accept-ranges",
    "access-control-allow-origin",
];

/// The range, the rest of the headers, the status that is to come, and the bytes, where there are any.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, Option<Range<usize>>);

/// Everything that is wrong with the object at a path. It has more than 20 bytes.
pub(crate) fn check(addr: SocketAddr, path: &str) -> Vec<String> {
    problems(|method, headers| request(addr, method, path, headers).expect("it answers"))
}

/// The same, of whatever answers a method and headers.
pub(crate) fn problems(ask: impl Fn(&str, &[(&str, &str)]) -> Response) -> Vec<String> {
    let whole = ask("GET", &[]);
    let etag = whole.header("etag").unwrap_or_default();
    if whole.status != 200 || whole.body.len() <= 20 {
        return vec![format!(
            "A1: {} and {} bytes",
            whole.status,
            whole.body.len()
        )];
    }
    let mut problems = Vec::new();
    let strong = etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"');
    if !strong {
        problems.push(format!("A2: no strong ETag: {etag:?}"));
    }
    if whole.header("accept-ranges") != Some("bytes") {
        problems.push("A1: no Accept-Ranges: bytes".into());
    }
    if whole.header("content-length") != Some(&whole.body.len().to_string()) {
        problems.push("A1: no Content-Length".into());
    }
    if whole.header("date").is_none() {
        problems.push("A3: no Date".into());
    }
    ranges(&mut problems, &whole.body, etag, |headers| {
        ask("GET", headers)
    });
    conditions(&mut problems, &whole, etag, &ask);
    methods(&mut problems, &whole, &ask);
    problems
}

/// A1.
fn ranges(
    problems: &mut Vec<String>,
    whole: &[u8],
    etag: &str,
    ask: impl Fn(&[(&str, &str)]) -> Response,
) {
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
        let said = answer.header("content-range");
        if answer.status != status || said != content_range.as_deref() || !body_fits {
            let (got, len) = (answer.status, answer.body.len());
            problems.push(format!(
                "A1: {range} {further:?}: {got} with {said:?} and {len} bytes"
            ));
        }
    }
}

/// A2.
fn conditions(
    problems: &mut Vec<String>,
    whole: &Response,
    etag: &str,
    ask: impl Fn(&str, &[(&str, &str)]) -> Response,
) {
    let weak = format!("W/{etag}");
    for (name, value, status) in [
        ("If-None-Match", etag, 304),
        ("If-None-Match", &weak, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"other\"", 200),
        ("If-Match", etag, 200),
        ("If-Match", "\"other\"", 412),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(method, &[(name, value)]);
            if answer.status != status || (status == 304 && !answer.body.is_empty()) {
                problems.push(format!("A2: {method} {name}: {value}: {}", answer.status));
            }
            if status == 304 {
                same(problems, whole, &answer, &DESCRIBING[2..], "304");
            }
        }
    }
}

/// A2 and A3.
fn methods(
    problems: &mut Vec<String>,
    whole: &Response,
    ask: impl Fn(&str, &[(&str, &str)]) -> Response,
) {
    for headers in [&[][..], &[("Range", "bytes=0-1")]] {
        let head = ask("HEAD", headers);
        if head.status != 200 || !head.body.is_empty() {
            let len = head.body.len();
            problems.push(format!(
                "A2: HEAD {headers:?}: {} and {len} bytes",
                head.status
            ));
        }
        same(problems, whole, &head, &DESCRIBING, "HEAD");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = ask(method, &[]);
        let allow = answer.header("allow").unwrap_or_default();
        let allowed: Vec<_> = allow.split(',').map(str::trim).collect();
        let told = ["GET", "HEAD", "OPTIONS"]
            .iter()
            .all(|known| allowed.contains(known));
        if answer.status != 405 || !told {
            problems.push(format!(
                "A2: {method}: {} with Allow: {allow:?}",
                answer.status
            ));
        }
    }
    let origin = [("Origin", "https://a.example")];
    let preflight = ask("OPTIONS", &origin);
    if preflight.status != 204 || preflight.header("access-control-max-age").is_none() {
        problems.push(format!(
            "A3: OPTIONS: {}, or no Access-Control-Max-Age",
            preflight.status
        ));
    }
    for answer in [preflight, ask("GET", &origin)] {
        let allowed = answer.header("access-control-allow-origin");
        let credentials = answer.header("access-control-allow-credentials");
        let varies = answer
            .header("vary")
            .is_some_and(|vary| vary.contains("Origin"));
        if allowed.is_none() || (allowed != Some("*") && !varies) {
            problems.push(format!(
                "A3: Access-Control-Allow-Origin is {allowed:?}, Vary: Origin {varies}"
            ));
        }
        if credentials.is_some() && allowed == Some("*") {
            problems.push("A3: credentials for everybody".into());
        }
    }
}

fn same(
    problems: &mut Vec<String>,
    whole: &Response,
    answer: &Response,
    names: &[&str],
    what: &str,
) {
    for name in names {
        let (said, expected) = (answer.header(name), whole.header(name));
        if said != expected {
            problems.push(format!("A2: {what} has {name} {said:?}, GET {expected:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"x\"";

    /// An object of 256 bytes, served as it is to be.
    fn good(method: &str, headers: &[(&str, &str)]) -> Response {
        let find = |name| {
            let mut named = headers.iter().filter(|(known, _)| *known == name);
            named.next().map(|(_, value)| *value)
        };
        let whole: Vec<u8> = (0..=255).collect();
        let mut said = vec![
            ("etag", ETAG.to_owned()),
            ("date", "Wed, 25 Nov 2026 12:00:00 GMT".to_owned()),
            ("cache-control", "public".to_owned()),
            ("accept-ranges", "bytes".to_owned()),
            ("access-control-allow-origin", "*".to_owned()),
        ];
        let (status, body) = match (method, find("If-None-Match"), find("If-Match")) {
            ("OPTIONS", ..) => {
                said.push(("access-control-max-age", "86400".to_owned()));
                (204, vec![])
            }
            ("GET" | "HEAD", Some(ETAG | "W/\"x\"" | "*"), _) => (304, vec![]),
            ("GET" | "HEAD", _, Some("\"other\"")) => (412, vec![]),
            ("GET", ..) if find("If-Range").is_none_or(|tag| tag == ETAG) => {
                match range(find("Range").unwrap_or_default(), 256) {
                    Some(Ok(range)) => {
                        let (first, last) = (range.start, range.end - 1);
                        said.push(("content-range", format!("bytes {first}-{last}/256")));
                        (206, whole[range].to_vec())
                    }
                    Some(Err(())) => {
                        said.push(("content-range", "bytes */256".to_owned()));
                        (416, vec![])
                    }
                    None => (200, whole),
                }
            }
            ("GET" | "HEAD", ..) => (200, whole),
            _ => {
                said.push(("allow", "GET, HEAD, OPTIONS".to_owned()));
                (405, vec![])
            }
        };
        if [200, 206].contains(&status) {
            said.push(("content-type", "video/mp4".to_owned()));
            said.push(("content-length", body.len().to_string()));
        }
        let body = if method == "HEAD" { vec![] } else { body };
        Response::new(status, said, body)
    }

    /// The bytes of a range, if it is one that is to be served as one.
    fn range(text: &str, len: usize) -> Option<Result<Range<usize>, ()>> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.min(len - 1)),
            (Ok(first), Err(_)) if last.is_empty() => (first, len - 1),
            (Err(_), Ok(suffix)) if first.is_empty() => (len.saturating_sub(suffix), len - 1),
            _ => return None,
        };
        Some(if first < len {
            Ok(first..last + 1)
        } else {
            Err(())
        })
    }

    #[test]
    fn a_good_object_passes() {
        assert_eq!(problems(good), Vec::<String>::new());
    }

    #[track_caller]
    fn check(change: impl Fn(&str, &[(&str, &str)], Response) -> Response, expected: &str) {
        let found = problems(|method, headers| change(method, headers, good(method, headers)));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected}: {found:?}"
        );
    }

    #[test]
    fn broken_objects_are_found() {
        check(|_, _, _| Response::new(404, vec![], vec![]), "A1: 404");
        check(
            |_, _, answer| answer.with("etag", "W/\"x\""),
            "A2: no strong ETag",
        );
        check(
            |_, _, answer| answer.with("accept-ranges", "none"),
            "A1: no Accept-Ranges",
        );
        check(
            |_, _, answer| answer.with("content-length", "1"),
            "A1: no Content-Length",
        );
        check(|_, _, answer| answer.without("date"), "A3: no Date");
        check(
            |_, _, answer| answer.without("access-control-max-age"),
            "A3: OPTIONS",
        );
        check(
            |_, _, answer| answer.with("access-control-allow-origin", "https://a.example"),
            "A3: Access-Control-Allow-Origin",
        );
        check(
            |_, _, answer| answer.with("access-control-allow-credentials", "true"),
            "A3: credentials",
        );
        check(|_, _, answer| answer.with("allow", "GET"), "A2: POST: 405");
        check(
            |method, headers, answer| match method {
                "PUT" => good("GET", headers),
                _ => answer,
            },
            "A2: PUT: 200",
        );
        check(
            |method, headers, answer| match method {
                "HEAD" => good("GET", headers),
                _ => answer,
            },
            "A2: HEAD []: 200 and 256",
        );
    }

    #[test]
    fn broken_ranges_and_conditions_are_found() {
        // A server without ranges, one that always sends the first ten bytes, one without conditions.
        let without = problems(|method, _| good(method, &[]));
        let count = |row: &str| {
            without
                .iter()
                .filter(|problem| problem.starts_with(row))
                .count()
        };
        assert_eq!((count("A1"), count("A2")), (10, 8), "{without:#?}");
        let stuck = problems(|method, headers| match (method, headers) {
            ("GET", [("Range", _), ..]) => good("GET", &[("Range", "bytes=0-9")]),
            _ => good(method, headers),
        });
        assert_eq!(stuck.len(), 16, "{stuck:#?}");
        check(
            |method, headers, answer| match (method, answer.status) {
                ("HEAD", 200) => good("HEAD", headers).with("content-type", "video/mp2t"),
                _ => answer,
            },
            "A2: HEAD has content-type",
        );
        check(
            |_, _, answer| match answer.status {
                304 => answer.without("cache-control"),
                _ => answer,
            },
            "A2: 304 has cache-control None",
        );
    }
}
