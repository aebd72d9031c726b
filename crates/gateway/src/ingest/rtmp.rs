//! Publishers over RTMP.
//!
//! Owns: one connection that publishes one stream or several, from its first request to its end. Does not own: the
//! protocol ([`weir_proto::rtmp`]) or the stream ([`weir_hub::Publisher`]).

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use weir_hub::{KillReason, Moment, PublishError, Publisher, Role, Secret};
use weir_media::{Kind, SessionClock, container::flv};
use weir_proto::rtmp::{Event, PublishRequest, Refusal};

use crate::{
    Gateway,
    ingest::flv::{BodyReader, declared},
    net::{
        Deadline, STRANGERS, Throttle,
        rtmp::{Connection, Error},
    },
    rtmp::PROTOCOL,
};

/// The streams that one connection publishes, by message stream.
type Published = BTreeMap<u32, Stream>;

struct Stream {
    publisher: Publisher,
    /// Ends when the server ends the publisher.
    killed: Pin<Box<dyn Future<Output = KillReason> + Send>>,
    bodies: BodyReader,
    damage: Throttle,
}

/// Serves a connection whose first request is `request`, until it ends.
///
/// # Errors
/// A fault of the peer or of the socket.
pub async fn run(
    connection: &mut Connection,
    request: PublishRequest,
    gateway: &Gateway,
) -> Result<(), Error> {
    let mut published = Published::new();
    publish(connection, request, gateway, &mut published).await;
    let ended = take_in(connection, gateway, &mut published).await;
    if published.is_empty() {
        return ended;
    }
    let reason = ended.err().map(|error| error.to_string());
    let reason = reason
        .as_deref()
        .unwrap_or("the publisher closed the connection");
    for stream in published.values() {
        tracing::info!(stream = %stream.publisher.stream().name(), reason, "publisher lost");
    }
    Ok(())
}

/// Handles what the publisher sends, until the connection ends.
async fn take_in(
    connection: &mut Connection,
    gateway: &Gateway,
    published: &mut Published,
) -> Result<(), Error> {
    let silence = gateway.limits.input_timeout;
    let mut silent = Deadline::new(tokio::time::Instant::now() + silence);
    loop {
        let event = tokio::select! {
            event = connection.next_event() => event?,
            (stream_id, reason) = first_killed(published) => {
                end(connection, stream_id, reason, published);
                continue;
            }
            () = silent.passed() => return Err(Error::Silent(silence)),
        };
        silent.move_to(tokio::time::Instant::now() + silence);
        match event {
            Some(Event::Media {
                stream_id,
                kind,
                timestamp_ms,
                payload,
            }) => {
                media(
                    connection,
                    stream_id,
                    kind,
                    timestamp_ms,
                    payload,
                    published,
                );
            }
            Some(Event::Metadata { stream_id, values }) => {
                if let (Some(stream), Some(input)) = (published.get(&stream_id), declared(&values))
                {
                    stream.publisher.push(Moment::now(), input);
                }
            }
            Some(Event::BadMetadata { stream_id, error }) => {
                if let Some(stream) = published.get_mut(&stream_id)
                    && let Some(times) = stream.damage.count(Instant::now())
                {
                    let name = stream.publisher.stream().name();
                    tracing::warn!(stream = %name, %error, times, "metadata skipped");
                }
            }
            Some(Event::Publish(request)) => {
                publish(connection, request, gateway, published).await;
            }
            Some(Event::Play(request)) => {
                let reason = "this connection publishes; open another one to play";
                connection
                    .session()
                    .reject_play(request.stream_id, Refusal::Failed, reason);
            }
            Some(Event::PublishEnded { stream_id }) => {
                if let Some(stream) = published.remove(&stream_id) {
                    tracing::info!(stream = %stream.publisher.stream().name(), "publisher stopped");
                }
            }
            Some(Event::PlayEnded { .. }) => {}
            Some(Event::Refused { code, reason }) => tracing::info!(code, reason, "refused"),
            None => return Ok(()),
        }
    }
}

async fn publish(
    connection: &mut Connection,
    request: PublishRequest,
    gateway: &Gateway,
    published: &mut Published,
) {
    let key = request.key.as_ref().map(|key| Secret::new(key.expose()));
    let decision = gateway
        .requests
        .ask(Role::Publish, PROTOCOL, request.name, key)
        .await;
    let session = connection.session();
    let grant = match decision {
        Ok(grant) => grant,
        Err(refusal) => {
            if let Some(times) = STRANGERS.lock().count(Instant::now()) {
                tracing::info!(reason = %refusal, times, "publisher refused");
            }
            let code = match refusal {
                weir_hub::Refusal::Busy => Refusal::Rejected,
                _ => Refusal::Denied,
            };
            return session.reject_publish(request.stream_id, code, &refusal.to_string());
        }
    };
    match gateway.hub.publish(
        &grant.name,
        grant.key,
        PROTOCOL,
        SessionClock::MS_32_BIT,
        Moment::now(),
    ) {
        Ok(publisher) => {
            tracing::info!(stream = %grant.name, "publishing");
            session.accept_publish(request.stream_id);
            let stream = Stream {
                killed: Box::pin(publisher.session().killed()),
                publisher,
                bodies: BodyReader::default(),
                damage: Throttle::default(),
            };
            published.insert(request.stream_id, stream);
        }
        Err(error) => {
            tracing::info!(stream = %grant.name, reason = %error, "publisher refused");
            let code = match error {
                PublishError::NameTaken | PublishError::TakeOversTooFast => Refusal::BadName,
                PublishError::StreamLimit(_) | PublishError::Ended => Refusal::Rejected,
            };
            session.reject_publish(request.stream_id, code, &error.to_string());
        }
    }
}

/// Hands one message on. A codec that is not carried ends the publisher, with a reason; damage is dropped and counted.
fn media(
    connection: &mut Connection,
    stream_id: u32,
    kind: Kind,
    timestamp_ms: u32,
    payload: Bytes,
    published: &mut Published,
) {
    let Some(stream) = published.get_mut(&stream_id) else {
        return;
    };
    match stream.bodies.read(kind, timestamp_ms, payload) {
        Ok(Some(input)) => stream.publisher.push(Moment::now(), input),
        Ok(None) => {}
        Err(error @ flv::Error::UnsupportedCodec(_)) => {
            let name = stream.publisher.stream().name().clone();
            tracing::info!(stream = %name, reason = %error, "publisher refused");
            published.remove(&stream_id);
            connection
                .session()
                .end_publish(stream_id, Refusal::Rejected, &error.to_string());
        }
        Err(error) => {
            if let Some(times) = stream.damage.count(Instant::now()) {
                let at_byte = connection.session().received_bytes();
                let name = stream.publisher.stream().name();
                tracing::warn!(stream = %name, %error, at_byte, timestamp_ms, times, "damaged message dropped");
            }
        }
    }
}

fn end(connection: &mut Connection, stream_id: u32, reason: KillReason, published: &mut Published) {
    if let Some(stream) = published.remove(&stream_id) {
        tracing::info!(stream = %stream.publisher.stream().name(), %reason, "publisher ended");
        connection
            .session()
            .end_publish(stream_id, Refusal::Rejected, &reason.to_string());
    }
}

/// Waits until the server ends one of the publishers.
fn first_killed(published: &mut Published) -> impl Future<Output = (u32, KillReason)> {
    poll_fn(|cx| {
        for (&id, stream) in &mut *published {
            if let Poll::Ready(reason) = stream.killed.as_mut().poll(cx) {
                return Poll::Ready((id, reason));
            }
        }
        Poll::Pending
    })
}
