//! Players over RTMP.
//!
//! Owns: one connection that plays one stream, from its request to its end (CONFORMANCE M6).

use bytes::{Bytes, BytesMut};
use weir_hub::{Cursor, Role, Session};
use weir_package::flv;
use weir_proto::rtmp::{Event, PlayRequest, Refusal};

use crate::{
    Gateway,
    derive::{Format, Head, Shared, put_message},
    net::rtmp::{Connection, Error},
    on_demand::Missing,
    rtmp::PROTOCOL,
};

/// Serves a connection whose first request is `request`, until it ends.
///
/// # Errors
/// A fault of the peer or of the socket.
pub async fn run(
    connection: &mut Connection,
    request: PlayRequest,
    gateway: &Gateway,
) -> Result<(), Error> {
    let decision = gateway
        .requests
        .ask(Role::Play, PROTOCOL, request.name, None)
        .await;
    let found = match decision {
        Ok(grant) => gateway.stream(&grant.name).await.map_err(|missing| {
            let code = match missing {
                Missing::NotFound => Refusal::StreamNotFound,
                Missing::Full(_) => Refusal::Failed,
            };
            (code, missing.to_string())
        }),
        Err(refusal) => Err((Refusal::Denied, refusal.to_string())),
    };
    let stream = match found {
        Ok(stream) => stream,
        Err((code, reason)) => {
            let session = connection.session();
            session.reject_play(request.stream_id, code, &reason);
            return connection.write([]).await;
        }
    };
    let limits = gateway.limits;
    let cursor = gateway.derived.join(
        &stream,
        Format::Rtmp,
        limits.join,
        limits.viewer_lag,
        &gateway.tasks,
    );
    let name = stream.name().clone();
    drop(stream);
    tracing::debug!(stream = %name, "playing");
    let session =
        gateway
            .hub
            .sessions()
            .open(Role::Play, PROTOCOL, name, std::time::Instant::now());
    connection.session().accept_play(request.stream_id);
    play(connection, request.stream_id, cursor, &session).await
}

async fn play(
    connection: &mut Connection,
    stream_id: u32,
    mut cursor: Cursor<Shared>,
    session: &Session,
) -> Result<(), Error> {
    let (mut ready, mut burst) = (Vec::new(), Vec::new());
    let mut head = Head::default();
    loop {
        tokio::select! {
            more = cursor.next(&mut ready) => {
                let Some(skipped) = more else {
                    connection.session().end_play(stream_id);
                    return connection.write([]).await;
                };
                session.add_skipped(skipped);
                head.before_each(ready.drain(..), &mut burst, head_messages);
                session.add_bytes(burst.iter().map(|bytes| bytes.len() as u64).sum());
                connection.write(burst.drain(..)).await?;
            }
            event = connection.next_event() => match event? {
                None | Some(Event::PlayEnded { .. }) => return Ok(()),
                Some(Event::Publish(request)) => {
                    let reason = "this connection plays; open another one to publish";
                    connection.session().reject_publish(request.stream_id, Refusal::Rejected, reason);
                }
                Some(Event::Play(request)) => {
                    let reason = "this connection plays already";
                    connection.session().reject_play(request.stream_id, Refusal::Failed, reason);
                }
                Some(_) => {}
            },
            reason = session.killed() => {
                tracing::info!(%reason, "viewer ended");
                connection.session().end_play(stream_id);
                return connection.write([]).await;
            }
        }
    }
}

/// Metadata and sequence headers as messages.
fn head_messages(first: &Shared, joins: bool) -> Bytes {
    let mut out = BytesMut::new();
    for (kind, body) in flv::head(&first.epoch, joins) {
        put_message(&mut out, kind, flv::head_ms(kind, first.at_ms), &[&body]);
    }
    out.freeze()
}
