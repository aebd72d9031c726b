//! Players over RTMP.
//!
//! Owns: one connection that plays one stream, from its request to its end (CONFORMANCE M6).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_hub::{KillReason, Read, Role, Session};
use weir_package::flv;
use weir_proto::rtmp::{Event, PlayRequest, Refusal};

use crate::{
    Gateway,
    derive::{Format, Framing, Head, Link, Reader, Shared, put_message},
    net::rtmp::{Connection, Error, Listened},
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
    let reader = gateway.derived.join(
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
    let player = Player {
        connection,
        stream_id: request.stream_id,
        reader,
        session: &session,
        head: Head::default(),
    };
    player.play().await
}

/// A connection that plays.
struct Player<'a> {
    connection: &'a mut Connection,
    stream_id: u32,
    reader: Reader,
    session: &'a Session,
    head: Head,
}

/// What ends a stretch of playing.
enum Next {
    /// There is more to write.
    More,
    /// What the client wants; nothing when it has closed.
    Event(Option<Event>),
    /// The stream.
    End,
    /// The session.
    Killed(KillReason),
}

impl Player<'_> {
    async fn play(mut self) -> Result<(), Error> {
        let link = self.connection.share();
        let link = link.map(|shared| Link::new(shared, Framing::Bare, self.session.meter()));
        loop {
            let next = match self.catch_up().await? {
                Next::More => self.follow(link.as_ref()).await?,
                next => next,
            };
            match next {
                Next::More => {}
                Next::Event(None | Some(Event::PlayEnded { .. })) => return Ok(()),
                Next::Event(Some(event)) => self.refuse(event),
                Next::End => break,
                Next::Killed(reason) => {
                    tracing::info!(%reason, "viewer ended");
                    break;
                }
            }
        }
        self.connection.session().end_play(self.stream_id);
        self.connection.write([]).await
    }

    /// Writes until there is nothing new: then there will be more.
    async fn catch_up(&mut self) -> Result<Next, Error> {
        let (mut ready, mut burst) = (Vec::new(), Vec::new());
        loop {
            let skipped = match self.reader.cursor.read(&mut ready) {
                Read::Items { skipped } => skipped,
                Read::Empty => return Ok(Next::More),
                Read::Closed => return Ok(Next::End),
            };
            self.session.add_skipped(skipped);
            self.head
                .before_each(ready.drain(..), &mut burst, head_messages);
            self.session
                .add_bytes(burst.iter().map(|bytes| bytes.len() as u64).sum());
            self.connection.write(burst.drain(..)).await?;
        }
    }

    /// Is served with all others until something happens that concerns this player alone.
    async fn follow(&mut self, link: Option<&Arc<Link>>) -> Result<Next, Error> {
        let cursor = &mut self.reader.cursor;
        let (Some(link), Some(place), Some(epoch)) = (link, cursor.place(), self.head.known())
        else {
            return tokio::select! {
                () = cursor.changed() => Ok(Next::More),
                event = self.connection.next_event() => Ok(Next::Event(event?)),
                reason = self.session.killed() => Ok(Next::Killed(reason)),
            };
        };
        let served = self.reader.enter(link, place, Arc::clone(epoch));
        let (returned, next) = tokio::select! {
            returned = served.returned() => (returned?, Next::More),
            heard = self.connection.listen() => {
                let next = match heard? {
                    Listened::Event(event) => Next::Event(Some(event)),
                    Listened::Output => Next::More,
                    Listened::Closed => Next::Event(None),
                };
                (served.leave().await?, next)
            }
            reason = self.session.killed() => (served.leave().await?, Next::Killed(reason)),
        };
        self.reader.cursor.go_on_at(returned.place);
        self.connection.resume(returned.rest).await?;
        Ok(next)
    }

    fn refuse(&mut self, event: Event) {
        let session = self.connection.session();
        match event {
            Event::Publish(request) => {
                let reason = "this connection plays; open another one to publish";
                session.reject_publish(request.stream_id, Refusal::Rejected, reason);
            }
            Event::Play(request) => {
                let reason = "this connection plays already";
                session.reject_play(request.stream_id, Refusal::Failed, reason);
            }
            _ => {}
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
