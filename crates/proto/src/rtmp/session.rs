//! The server side of one RTMP connection, without the connection.
//!
//! Owns: order of the conversation, message streams, requests and their answers, acknowledgements, pings.
//! Does not own: the socket, the clock, the deadline until a client has a role, and the decision over requests.
//! Specification: RTMP 7.2 and what FFmpeg, OBS, GStreamer, librtmp and Flash make of it.
//!
//! How to drive a [`Session`]:
//!
//! 1. Read from the socket only while [`Session::wants_input`]; hand the bytes to [`Session::handle_input`].
//! 2. Call [`Session::poll_event`] until it returns `None`, and write what [`Session::poll_output`] returns.
//! 3. Answer each request. Until then nothing further is parsed: no byte of media is looked at before the publisher
//!    is accepted, and none of it is lost if the client does not wait.
//! 4. Call [`Session::handle_timeout`] when [`Session::next_timeout_ms`] is reached.
//! 5. When [`Session::should_close`], write the remaining output, shut down and close within a second.
//!
//! Memory is bounded: events are made when they are asked for, the input that waits is what one call handed in, and
//! unfinished messages have the limits of [`chunk::Reader`]. Output is a small multiple of the input; an owner that
//! writes it before it reads on holds one round of it.

mod dispatch;
mod event;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use weir_media::StreamName;

pub use event::{Event, PlayRequest, PublishRequest, Refusal};

use super::{
    Error,
    address::Application,
    chunk::{self, CHUNK_SIZE_OUT, CSID_DATA},
    command,
    link::{Link, WINDOW_ACK_SIZE},
    message::{TYPE_DATA, UserControl},
};

/// Message streams of one connection. Clients use one, some two.
pub const STREAMS_MAX: usize = 8;

/// What an operator may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Applications that clients may name. An entry with a slash, such as `live/room`, accepts that instance.
    pub apps: Vec<String>,
    /// The chunk size announced, in bytes. Whoever encodes for players must use the same.
    pub chunk_size_out: usize,
    /// The acknowledgement window announced, in bytes.
    pub window_ack_size: u32,
    /// What the peer may send.
    pub limits: chunk::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            apps: vec!["live".to_owned()],
            chunk_size_out: CHUNK_SIZE_OUT,
            window_ack_size: WINDOW_ACK_SIZE,
            limits: chunk::Limits::default(),
        }
    }
}

/// One connection. See the module for how to drive it. `Debug` shows no bytes: they hold keys.
pub struct Session {
    config: Arc<Config>,
    link: Link,
    /// `None` until `connect`.
    application: Option<Application>,
    /// Message stream `n` is at index `n - 1`.
    streams: [StreamState; STREAMS_MAX],
}

/// What a message stream is used for.
#[derive(Default, PartialEq, Eq)]
enum StreamState {
    /// The id is not in use.
    #[default]
    Free,
    /// Created; nothing asked for.
    Idle,
    PublishRequested(StreamName),
    Publishing(StreamName),
    PlayRequested,
    Playing,
}

impl Session {
    /// A session for a connection accepted at `now_ms`, on a clock that only goes up. `seed` fills the random bytes of
    /// the handshake; it should differ between connections.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: u64, now_ms: u64) -> Self {
        Self {
            link: Link::server(seed, config.limits, config.window_ack_size, now_ms),
            config,
            application: None,
            streams: Default::default(),
        }
    }

    /// Hands in bytes of the peer, cut anywhere. Message bodies become slices of `input` where they can. If earlier
    /// input has not been used up, both are joined, which copies.
    pub fn handle_input(&mut self, input: Bytes) {
        self.link.handle_input(input);
    }

    /// Whether more input is useful: not while a request waits for its answer, nor at the end.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.link.is_closing() && !self.awaits_answer()
    }

    /// Parses on to the next event. `None`: more input or an answer is needed. After an error the session is over.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        while self.wants_input() {
            let Some(message) = self.link.next_message()? else {
                return Ok(None);
            };
            match self.handle_message(message) {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(cause) => return Err(self.link.fail(cause)),
            }
        }
        Ok(None)
    }

    /// All bytes to send so far, in one piece.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.link.poll_output()
    }

    /// Sends a ping when one is due; fails when the last one was not answered. Any input counts as an answer.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), Error> {
        self.link.handle_timeout(now_ms)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout_ms(&self) -> u64 {
        self.link.next_timeout_ms()
    }

    /// Whether the client publishes or plays something. Until it does, the I/O layer's deadline runs.
    #[must_use]
    pub fn has_role(&self) -> bool {
        self.streams
            .iter()
            .any(|stream| matches!(stream, StreamState::Publishing(_) | StreamState::Playing))
    }

    /// Whether to close once the output is written.
    #[must_use]
    pub fn should_close(&self) -> bool {
        self.link.is_closing()
    }

    /// Bytes handed in so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.link.received
    }

    /// Bytes held for the peer: input that waits, unfinished messages, output that waits.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.link.buffered_bytes()
    }

    /// Grants a publish request. Without one on `stream_id` this does nothing, as do the other answers.
    pub fn accept_publish(&mut self, stream_id: u32) {
        if let Some(stream) = self.stream_mut(stream_id)
            && let StreamState::PublishRequested(name) = stream
        {
            *stream = StreamState::Publishing(name.clone());
            let body =
                command::on_status("status", "NetStream.Publish.Start", "Publishing started.");
            self.link.send_status(stream_id, &body);
        }
    }

    /// Refuses a publish request with a reason for people; the session then closes.
    pub fn reject_publish(&mut self, stream_id: u32, refusal: Refusal, reason: &str) {
        if let Some(stream) = self.stream_mut(stream_id)
            && matches!(stream, StreamState::PublishRequested(_))
        {
            *stream = StreamState::Idle;
            self.refuse(stream_id, refusal.publish_code(), reason);
        }
    }

    /// Ends an accepted publisher from this side with a reason for people; the session then closes.
    pub fn end_publish(&mut self, stream_id: u32, refusal: Refusal, reason: &str) {
        if let Some(stream) = self.stream_mut(stream_id)
            && matches!(stream, StreamState::Publishing(_))
        {
            *stream = StreamState::Idle;
            self.refuse(stream_id, refusal.publish_code(), reason);
        }
    }

    /// Grants a play request. Metadata, sequence headers and media follow from the caller, on the same message stream.
    /// Metadata should carry timestamp 0: FFmpeg makes a text stream of a later one.
    pub fn accept_play(&mut self, stream_id: u32) {
        if let Some(stream) = self.stream_mut(stream_id)
            && matches!(stream, StreamState::PlayRequested)
        {
            *stream = StreamState::Playing;
            self.link
                .send_user_control(UserControl::StreamBegin(stream_id));
            for (code, description) in [
                ("NetStream.Play.Reset", "Resetting the playlist."),
                ("NetStream.Play.Start", "Playback started."),
            ] {
                self.link
                    .send_status(stream_id, &command::on_status("status", code, description));
            }
            // No NetStream.Data.Start: FFmpeg makes a data stream of it.
            self.link
                .send(CSID_DATA, TYPE_DATA, stream_id, &command::sample_access());
        }
    }

    /// Refuses a play request with a reason for people; the session then closes.
    pub fn reject_play(&mut self, stream_id: u32, refusal: Refusal, reason: &str) {
        if let Some(stream) = self.stream_mut(stream_id)
            && matches!(stream, StreamState::PlayRequested)
        {
            *stream = StreamState::Idle;
            self.refuse(stream_id, refusal.play_code(), reason);
        }
    }

    /// Tells a player that the stream is over. Media must not follow.
    pub fn end_play(&mut self, stream_id: u32) {
        if let Some(stream) = self.stream_mut(stream_id)
            && matches!(stream, StreamState::Playing)
        {
            *stream = StreamState::Idle;
            let code = "NetStream.Play.UnpublishNotify";
            self.link.send_status(
                stream_id,
                &command::on_status("status", code, "The stream has ended."),
            );
            self.link
                .send_user_control(UserControl::StreamEof(stream_id));
        }
    }

    fn awaits_answer(&self) -> bool {
        self.streams.iter().any(|stream| {
            matches!(
                stream,
                StreamState::PublishRequested(_) | StreamState::PlayRequested
            )
        })
    }

    fn stream_mut(&mut self, stream_id: u32) -> Option<&mut StreamState> {
        let index = usize::try_from(stream_id.checked_sub(1)?).ok()?;
        self.streams.get_mut(index)
    }

    /// Says why, and closes.
    fn refuse(&mut self, stream_id: u32, code: &'static str, reason: &str) {
        self.link
            .send_status(stream_id, &command::on_status("error", code, reason));
        self.link.close();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("received", &self.link.received)
            .field("has_role", &self.has_role())
            .field("is_closing", &self.link.is_closing())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
