//! Answers that hold an object: a segment or an init object, whole or in part (CONFORMANCE A1, A2, H21, H23).
//!
//! Owns: headers. Does not own: bodies ([`crate::derive::Pieces`]), which part is asked for ([`crate::deliver::conditions`])
//! or which objects there are ([`crate::derive::hls`]).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use weir_package::{
    keep::Content,
    window::{Init, Part, Segment},
};

use super::Asker;
use crate::{
    deliver::{
        conditions::{self, Selection},
        cors, refuse,
    },
    derive::Pieces,
};

/// Objects never change, because no name is ever used again.
pub(in crate::deliver) const CACHE: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");
const RANGES: HeaderValue = HeaderValue::from_static("bytes");

/// An object that can be sent.
pub(in crate::deliver) struct Object {
    etag: String,
    media_type: &'static str,
    parts: Vec<Content>,
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
                .map(|part| part.content.clone())
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
            parts: vec![Content::Memory(bytes)],
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
            parts: vec![part.content.clone()],
        }
    }

    /// An init object of a rendition.
    pub(super) fn init(run: &str, rendition: &str, init: &Init, media_type: &'static str) -> Self {
        Self {
            etag: format!("\"{run}-{rendition}-init-{}\"", init.discontinuity),
            media_type,
            parts: vec![Content::Memory(init.bytes.clone())],
        }
    }

    /// The answer to a request for it.
    pub(in crate::deliver) fn respond(self, method: &Method, asker: Asker) -> Response {
        let len: u64 = self.parts.iter().map(|part| part.len() as u64).sum();
        let (range, status) = match conditions::select(method, &asker.headers, &self.etag, len) {
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
        let mut pieces = Pieces::new(asker.outbox);
        for part in &self.parts {
            pieces.push(part);
        }
        pieces.select(&range);
        (status, headers, cors(), Body::new(pieces)).into_response()
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

#[cfg(test)]
mod tests;
