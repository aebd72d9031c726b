//! Watching a stream from earlier on.
//!
//! Owns: where a viewer begins (`start` in the query of a multivariant playlist), rewind playlists, and segments that
//! have left memory. Does not own: what can be rewound to ([`weir_package::window`]) or reading it back
//! ([`crate::derive::disk`]).

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use weir_media::StreamName;
use weir_package::{
    hls::{self, Start, reload::Reload},
    name::ObjectName,
    window::{Rendition, Snapshot},
};

use super::{
    Answer, Asker, Context, Freshness, Object, Refused, media_type, not_found, refuse,
    refuse_for_now,
};
use crate::derive::disk::ReadError;

/// Where the viewer wants to begin; none for the live edge.
pub(super) fn start(asker: &Asker) -> Result<Option<Start>, Refused> {
    let start = asker.start.as_deref().map(Start::parse).transpose();
    Ok(start.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?)
}

/// The multivariant playlist for a viewer who begins there.
pub(super) fn multivariant(snapshot: &Snapshot, start: Option<Start>, query: &str) -> String {
    let Some(start) = start else {
        return hls::multivariant(snapshot, query);
    };
    hls::rewind_multivariant(snapshot, start.within(snapshot.rewindable_us()), query)
}

/// The media playlist of everything that can be rewound to. It is never waited for: who reloads it is not at the live edge.
pub(super) async fn media(
    State(context): State<Context>,
    Path((name, rendition)): Path<(String, String)>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published(&name).await?;
    context.watch(&name, &asker)?;
    let reload = Reload::parse(asker.query.as_deref().unwrap_or(""))
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let rendition = published.snapshot.rendition(&rendition);
    let found = rendition.and_then(|known| published.rewind_playlist(known, reload.skip));
    Ok(context.playlist(found.ok_or_else(not_found)?, Freshness::Present, &asker))
}

impl Context {
    /// A segment whose bytes have left memory; none when it is another object that is asked for.
    pub(super) async fn archived(
        &self,
        name: &StreamName,
        run: &str,
        rendition: &Rendition,
        asked: &ObjectName<'_>,
    ) -> Result<Option<Object>, Refused> {
        let segment = match *asked {
            ObjectName::Segment { run: asked, msn } if asked == run => rendition.segment(msn),
            _ => None,
        };
        let Some(segment) = segment.filter(|segment| segment.archived.is_some()) else {
            return Ok(None);
        };
        let read = self.outputs.archived(name, run, rendition, segment).await;
        let bytes = read.map_err(|error| {
            tracing::debug!(stream = %name, %error, "a segment cannot be read back");
            refuse_read(&error)
        })?;
        let media_type = media_type(rendition);
        let object = Object::archived(run, rendition.name(), segment, bytes, media_type);
        Ok(Some(object))
    }
}

fn refuse_read(error: &ReadError) -> Response {
    match error {
        ReadError::Gone => not_found(),
        ReadError::TooSlow | ReadError::Disk(_) => refuse_for_now("the disk does not answer now"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::http::header;

    use super::*;

    #[test]
    fn f33_a_disk_that_fails_is_asked_again_later() {
        let broken = ReadError::Disk(io::ErrorKind::Other.into());
        for (error, status, again) in [
            (ReadError::Gone, StatusCode::NOT_FOUND, false),
            (ReadError::TooSlow, StatusCode::SERVICE_UNAVAILABLE, true),
            (broken, StatusCode::SERVICE_UNAVAILABLE, true),
        ] {
            let answer = refuse_read(&error);
            let headers = answer.headers();
            assert_eq!(answer.status(), status, "{error}");
            assert_eq!(headers.contains_key(header::RETRY_AFTER), again, "{error}");
            assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{error}");
        }
    }
}
