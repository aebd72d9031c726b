//! Answers that hold an object: a segment or an init object, whole or in part (CONFORMANCE A1, A2, H21, H23).
//!
//! Owns: headers, and bodies made of shared bytes. Does not own: which part is asked for ([`crate::deliver::conditions`])
//! or which objects there are ([`crate::derive::hls`]).

use std::{
    convert::Infallible,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use weir_package::window::{Init, Part, Segment};

use crate::deliver::{
    conditions::{self, Selection},
    cors, refuse,
};

/// Objects never change, because no name is ever used again.
pub(in crate::deliver) const CACHE: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");
const RANGES: HeaderValue = HeaderValue::from_static("bytes");

/// An object that can be sent.
pub(in crate::deliver) struct Object {
    etag: String,
    media_type: &'static str,
    parts: Vec<Bytes>,
}

impl Object {
    /// A segment of a rendition.
    pub(in crate::deliver) fn segment(
        run: &str,
        rendition: &str,
        segment: &Segment,
        media_type: &'static str,
    ) -> Self {
        Self {
            etag: format!("\"{run}-{rendition}-{}\"", segment.msn),
            media_type,
            parts: segment
                .parts
                .iter()
                .map(|part| part.bytes.clone())
                .collect(),
        }
    }

    /// A segment of a rendition whose bytes were read back.
    pub(super) fn archived(
        run: &str,
        rendition: &str,
        segment: &Segment,
        bytes: Bytes,
        media_type: &'static str,
    ) -> Self {
        Self {
            parts: vec![bytes],
            ..Self::segment(run, rendition, segment, media_type)
        }
    }

    /// A part of a rendition; `number` tells its segment and its place in it.
    pub(super) fn part(
        run: &str,
        rendition: &str,
        number: &str,
        part: &Part,
        media_type: &'static str,
    ) -> Self {
        Self {
            etag: format!("\"{run}-{rendition}-{number}\""),
            media_type,
            parts: vec![part.bytes.clone()],
        }
    }

    /// An init object of a rendition.
    pub(super) fn init(run: &str, rendition: &str, init: &Init, media_type: &'static str) -> Self {
        Self {
            etag: format!("\"{run}-{rendition}-init-{}\"", init.discontinuity),
            media_type,
            parts: vec![init.bytes.clone()],
        }
    }

    /// The answer to a request for it.
    pub(in crate::deliver) fn respond(self, method: &Method, request: &HeaderMap) -> Response {
        let len: u64 = self.parts.iter().map(|part| part.len() as u64).sum();
        let (range, status) = match conditions::select(method, request, &self.etag, len) {
            Selection::Whole => (0..len, StatusCode::OK),
            Selection::Part(range) => (range, StatusCode::PARTIAL_CONTENT),
            Selection::NotModified => {
                return (StatusCode::NOT_MODIFIED, self.validators(), cors()).into_response();
            }
            Selection::PreconditionFailed => {
                let reason = "the object of this name is another one";
                return refuse(StatusCode::PRECONDITION_FAILED, reason);
            }
            Selection::Unsatisfiable => return unsatisfiable(len),
        };
        let mut headers = self.validators();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(self.media_type),
        );
        if status == StatusCode::PARTIAL_CONTENT {
            let last = range.end.saturating_sub(1);
            insert(
                &mut headers,
                header::CONTENT_RANGE,
                &format!("bytes {}-{last}/{len}", range.start),
            );
        }
        let body = Body::new(Slices::new(self.parts, range));
        (status, headers, cors(), body).into_response()
    }

    /// What a 304 repeats.
    fn validators(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CACHE_CONTROL, CACHE);
        headers.insert(header::ACCEPT_RANGES, RANGES);
        insert(&mut headers, header::ETAG, &self.etag);
        headers
    }
}

fn unsatisfiable(len: u64) -> Response {
    let reason = "the range begins after the end of the object";
    let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, reason);
    let size = format!("bytes */{len}");
    insert(response.headers_mut(), header::CONTENT_RANGE, &size);
    response
}

/// Sets a header whose value we made of names and numbers.
fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A range of shared bytes, none of them copied.
struct Slices {
    parts: vec::IntoIter<Bytes>,
    /// Bytes before the range.
    skipped: u64,
    left: u64,
}

impl Slices {
    fn new(parts: Vec<Bytes>, range: Range<u64>) -> Self {
        Self {
            parts: parts.into_iter(),
            skipped: range.start,
            left: range.end.saturating_sub(range.start),
        }
    }
}

impl Iterator for Slices {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.left > 0 {
            let part = self.parts.next()?;
            let len = part.len() as u64;
            let start = self.skipped.min(len);
            let end = start.saturating_add(self.left).min(len);
            self.skipped -= start;
            self.left -= end - start;
            // Both fit: neither is beyond the length of bytes in memory.
            let slice = part.slice(
                usize::try_from(start).unwrap_or(part.len())
                    ..usize::try_from(end).unwrap_or(part.len()),
            );
            if !slice.is_empty() {
                return Some(slice);
            }
        }
        None
    }
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_several_parts() {
        let parts = [&b"abc"[..], b"", b"d", b"efgh"].map(Bytes::from_static);
        let whole = b"abcdefgh";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let slices: Vec<_> =
                    Slices::new(parts.to_vec(), start as u64..end as u64).collect();
                assert_eq!(slices.concat(), whole[start..end], "{start}..{end}");
                for slice in slices {
                    let shared = |part: &Bytes| part.as_ptr_range().contains(&slice.as_ptr());
                    assert!(parts.iter().any(shared), "{start}..{end} is not copied");
                }
            }
        }
    }
}
