//! Watching a stream from earlier on.
//!
//! Owns: where a viewer begins (`start` in the query of a multivariant playlist or manifest), rewind playlists, and
//! segments that have left memory. Does not own: what can be rewound to ([`weir_package::window`]) or reading it back
//! ([`crate::derive::disk`]).

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use weir_media::StreamName;
use weir_package::{
    hls::{self, Start},
    window::{Rendition, Segment, Snapshot},
};

use super::{
    Answer, Asker, Context, Freshness, Object, PROTOCOL, Refused, media_type, not_found, refuse,
    refuse_for_now, reload,
};
use crate::derive::disk::ReadError;

impl Asker {
    /// Where the viewer wants to begin; none for the live edge.
    pub(in crate::deliver) fn start(&self) -> Result<Option<Start>, Refused> {
        let start = self.start.as_deref().map(Start::parse).transpose();
        Ok(start.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?)
    }
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
    State(context): State<Arc<Context>>,
    Path((name, rendition)): Path<(String, String)>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published(PROTOCOL, &name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let reload = reload(&published, &asker)?;
    let rendition = published.snapshot.rendition(&rendition);
    let found = rendition.and_then(|known| published.rewind_playlist(known, reload.skip));
    Ok(context.playlist(
        found.ok_or_else(not_found)?,
        Freshness::Present,
        &asker.terms(),
    ))
}

impl Context {
    /// A segment of a run, wherever its bytes are.
    pub(in crate::deliver) async fn segment(
        &self,
        name: &StreamName,
        run: &str,
        rendition: &Rendition,
        segment: &Segment,
    ) -> Result<Object, Refused> {
        let (folder, media_type) = (rendition.name(), media_type(rendition));
        if segment.archived.is_none() {
            return Ok(Object::segment(run, folder, segment, media_type));
        }
        let read = self.outputs.archived(name, run, rendition, segment).await;
        let bytes = read.map_err(|error| {
            tracing::debug!(stream = %name, %error, "a segment cannot be read back");
            refuse_read(&error)
        })?;
        Ok(Object::archived(run, folder, segment, bytes, media_type))
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
