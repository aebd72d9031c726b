//! Conditional and range requests (RFC 9110, sections 13 and 14): which bytes of an object a request asks for.
//!
//! Owns: reading `If-Match`, `If-None-Match`, `If-Range` and `Range`, and their order. Does not own: the bytes, or the
//! headers of the answer ([`super::hls`]). Nothing here has a modification date, so conditions on dates never hold.

use std::ops::Range;

use http::{HeaderMap, HeaderName, Method, header};

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// Everything: 200.
    Whole,
    /// These bytes, at least one and all inside the object: 206.
    Part(Range<u64>),
    /// The client has it already: 304.
    NotModified,
    /// The client wants something else under this name: 412.
    PreconditionFailed,
    /// The range begins after the end: 416.
    Unsatisfiable,
}

/// Decides about an object of `len` bytes whose strong entity tag is `etag`, in its quotes.
pub(super) fn select(method: &Method, headers: &HeaderMap, etag: &str, len: u64) -> Selection {
    if headers.contains_key(header::IF_MATCH) && !names(headers, &header::IF_MATCH, etag, false) {
        return Selection::PreconditionFailed;
    }
    if is_known(headers, etag) {
        return Selection::NotModified;
    }
    if *method != Method::GET || !still_same(headers, etag) {
        return Selection::Whole;
    }
    only(headers, &header::RANGE).map_or(Selection::Whole, |range| select_range(range, len))
}

/// Whether `If-None-Match` names `etag`, as strong or weak: the client has the body already.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    names(headers, &header::IF_NONE_MATCH, etag, true)
}

/// Whether `If-Range` allows a range: it is absent, or names exactly this tag, which is strong.
fn still_same(headers: &HeaderMap, etag: &str) -> bool {
    !headers.contains_key(header::IF_RANGE)
        || only(headers, &header::IF_RANGE).is_some_and(|tag| tag.trim_ascii() == etag)
}

/// One range of `bytes` selects a part. What is malformed, or in another unit, is as if it were not there; several
/// ranges are allowed to be answered with everything, and no player asks for them.
fn select_range(range: &str, len: u64) -> Selection {
    let bytes = range
        .split_once('=')
        .filter(|(unit, _)| unit.trim_ascii().eq_ignore_ascii_case("bytes"))
        .and_then(|(_, ranges)| ranges.trim_ascii().split_once('-'));
    let selected = match bytes {
        Some(("", suffix)) => position(suffix).map(|suffix| len.saturating_sub(suffix)..len),
        Some((first, "")) => position(first).map(|first| first..len),
        Some((first, last)) => match (position(first), position(last)) {
            (Some(first), Some(last)) if first <= last => {
                Some(first..last.saturating_add(1).min(len))
            }
            _ => None,
        },
        None => None,
    };
    match selected {
        Some(range) if range.is_empty() => Selection::Unsatisfiable,
        Some(range) => Selection::Part(range),
        None => Selection::Whole,
    }
}

/// A number of bytes; one too large for the type is past every end.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether a list of entity tags holds `etag`, or is `*`. Weak tags count where `weak` is set.
fn names(headers: &HeaderMap, list: &HeaderName, etag: &str, weak: bool) -> bool {
    let lists = headers
        .get_all(list)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut lists = lists.map(str::trim_ascii);
    lists.any(|list| {
        list == "*"
            || tags(list).any(|tag| {
                if weak {
                    bare(tag) == bare(etag)
                } else {
                    tag == etag
                }
            })
    })
}

/// A tag without the mark of a weak one.
fn bare(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The entity tags of a list up to what is none. A tag may hold commas, so its quotes are what ends it.
fn tags(mut list: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let opening = if list.starts_with("W/\"") { 3 } else { 1 };
        let closing = list
            .get(opening..)
            .filter(|_| list.starts_with('"') || opening == 3)?
            .find('"')?;
        let (tag, rest) = list.split_at_checked(opening + closing + 1)?;
        list = rest;
        Some(tag)
    })
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const LEN: u64 = 1000;
    const ETAG: &str = "\"run-7\"";

    #[track_caller]
    fn check(method: &Method, lines: &[(HeaderName, &str)], expected: &Selection) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        assert_eq!(
            select(method, &headers, ETAG, LEN),
            *expected,
            "{method} {lines:?}"
        );
    }

    #[test]
    fn ranges() {
        use Selection::{Part, Unsatisfiable, Whole};
        for (range, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-999", Part(0..1000)),
            ("bytes=10-19", Part(10..20)),
            ("BYTES = 10-19 ", Part(10..20)),
            ("bytes=999-", Part(999..1000)),
            ("bytes=0-", Part(0..1000)),
            ("bytes=990-2000", Part(990..1000)),
            ("bytes=990-99999999999999999999999", Part(990..1000)),
            ("bytes=-1", Part(999..1000)),
            ("bytes=-5000", Part(0..1000)),
            ("bytes=-99999999999999999999999", Part(0..1000)),
            ("bytes=-0", Unsatisfiable),
            ("bytes=1000-", Unsatisfiable),
            ("bytes=1000-1001", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-1,5-6", Whole),
            ("bytes=5-4", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1--2", Whole),
            ("bytes=1 - 2", Whole),
            ("seconds=0-1", Whole),
            ("", Whole),
        ] {
            check(&Method::GET, &[(header::RANGE, range)], &expected);
            check(&Method::HEAD, &[(header::RANGE, range)], &Whole);
        }
        let twice = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=0-1")];
        check(&Method::GET, &twice, &Whole);
        assert_eq!(select_range("bytes=0-", 0), Unsatisfiable);
        assert_eq!(select_range("bytes=-1", 0), Unsatisfiable);
    }

    #[test]
    fn conditions() {
        use Selection::{NotModified, Part, PreconditionFailed, Whole};
        for (name, value, expected) in [
            (header::IF_NONE_MATCH, ETAG, NotModified),
            (header::IF_NONE_MATCH, "W/\"run-7\"", NotModified),
            (header::IF_NONE_MATCH, "*", NotModified),
            (
                header::IF_NONE_MATCH,
                "\"a,b\" ,, W/\"c\",\"run-7\"",
                NotModified,
            ),
            (header::IF_NONE_MATCH, "\"run-8\"", Whole),
            (header::IF_NONE_MATCH, "run-7", Whole),
            (header::IF_NONE_MATCH, "\"a,\"run-7\"", Whole),
            (header::IF_NONE_MATCH, "\"run-7", Whole),
            (header::IF_NONE_MATCH, "", Whole),
            (header::IF_MATCH, ETAG, Whole),
            (header::IF_MATCH, "*", Whole),
            (header::IF_MATCH, "\"a\", \"run-7\"", Whole),
            (header::IF_MATCH, "W/\"run-7\"", PreconditionFailed),
            (header::IF_MATCH, "\"run-8\"", PreconditionFailed),
            (header::IF_MATCH, "", PreconditionFailed),
            (
                header::IF_MODIFIED_SINCE,
                "Sat, 21 Nov 2026 11:00:00 GMT",
                Whole,
            ),
        ] {
            for method in [Method::GET, Method::HEAD] {
                check(&method, &[(name.clone(), value)], &expected);
            }
        }
        for (if_range, expected) in [
            (ETAG, Part(1..3)),
            ("W/\"run-7\"", Whole),
            ("\"run-8\"", Whole),
            ("*", Whole),
            ("Sat, 21 Nov 2026 11:00:00 GMT", Whole),
        ] {
            let lines = [(header::RANGE, "bytes=1-2"), (header::IF_RANGE, if_range)];
            check(&Method::GET, &lines, &expected);
        }
        let known = [(header::RANGE, "bytes=1-2"), (header::IF_NONE_MATCH, ETAG)];
        check(&Method::GET, &known, &NotModified);
    }

    proptest! {
        #[test]
        fn no_header_leads_outside_the_object(
            lines in prop::collection::vec(
                (0..4_usize, prop_oneof![
                    "(bytes)?=?[0-9]{0,22}-?[0-9]{0,22},?[0-9-]{0,3}",
                    "[\"W/*a, \t-]{0,12}",
                    "\\PC{0,24}",
                ]),
                0..4,
            ),
            len in prop_oneof![0..20_u64, any::<u64>()],
        ) {
            let fields = [header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_NONE_MATCH];
            let mut headers = HeaderMap::new();
            for (field, value) in &lines {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    headers.append(&fields[*field], value);
                }
            }
            if let Selection::Part(range) = select(&Method::GET, &headers, ETAG, len) {
                prop_assert!(range.start < range.end && range.end <= len, "{range:?} of {len}");
            }
        }
    }
}
