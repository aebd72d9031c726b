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
mod error;
mod event;

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use weir_media::StreamName;

pub use error::{Cause, Error};
pub use event::{Event, PlayRequest, PublishRequest, Refusal};

use super::{
    address::Application,
    chunk::{self, CHUNK_SIZE_DEFAULT, CHUNK_SIZE_OUT, CSID_COMMAND, CSID_CONTROL, CSID_DATA},
    command,
    handshake::Handshake,
    message::{
        Aggregate, TYPE_ACKNOWLEDGEMENT, TYPE_COMMAND, TYPE_DATA, TYPE_USER_CONTROL, UserControl,
    },
};

/// Message streams of one connection. Clients use one, some two.
pub const STREAMS_MAX: usize = 8;
/// How often a client is pinged.
const PING_INTERVAL_MS: u64 = 30_000;
/// How long a client may be silent after a ping.
const PONG_TIMEOUT_MS: u64 = 15_000;
/// Bytes between acknowledgements, both ways, until the peer says otherwise: what Flash Media Server uses.
const WINDOW_ACK_SIZE: u32 = 2_500_000;

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
    /// `None` once it is complete.
    handshake: Option<Handshake>,
    reader: chunk::Reader,
    input: Bytes,
    output: BytesMut,
    /// Bytes handed in, and how many of them the peer has been told of.
    received: u64,
    acknowledged: u64,
    window_in: u32,
    chunk_size_out: usize,
    /// `None` until `connect`.
    application: Option<Application>,
    /// Message stream `n` is at index `n - 1`.
    streams: [StreamState; STREAMS_MAX],
    aggregate: Option<Aggregate>,
    is_closing: bool,
    next_ping_ms: u64,
    pong_deadline_ms: Option<u64>,
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
            handshake: Some(Handshake::new(seed)),
            reader: chunk::Reader::new(config.limits),
            config,
            input: Bytes::new(),
            output: BytesMut::new(),
            received: 0,
            acknowledged: 0,
            window_in: WINDOW_ACK_SIZE,
            chunk_size_out: CHUNK_SIZE_DEFAULT,
            application: None,
            streams: Default::default(),
            aggregate: None,
            is_closing: false,
            next_ping_ms: now_ms.saturating_add(PING_INTERVAL_MS),
            pong_deadline_ms: None,
        }
    }

    /// Hands in bytes of the peer, cut anywhere. Message bodies become slices of `input` where they can. If earlier
    /// input has not been used up, both are joined, which copies.
    pub fn handle_input(&mut self, input: Bytes) {
        self.received = self.received.saturating_add(len_u64(input.len()));
        self.pong_deadline_ms = None;
        self.input = if self.input.is_empty() {
            input
        } else {
            let mut joined = BytesMut::with_capacity(self.input.len().saturating_add(input.len()));
            joined.extend_from_slice(&self.input);
            joined.extend_from_slice(&input);
            joined.freeze()
        };
        self.acknowledge();
    }

    /// Whether more input is useful: not while a request waits for its answer, nor at the end.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.is_closing && !self.awaits_answer()
    }

    /// Parses on to the next event. `None`: more input or an answer is needed. After an error the session is over.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        while self.wants_input() {
            match self.step() {
                Ok(Progress::Event(event)) => return Ok(Some(event)),
                Ok(Progress::Made) => {}
                Ok(Progress::NeedsInput) => return Ok(None),
                Err(cause) => return Err(self.fail(cause)),
            }
        }
        Ok(None)
    }

    /// All bytes to send so far, in one piece.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// Sends a ping when one is due; fails when the last one was not answered. Any input counts as an answer.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Result<(), Error> {
        if self
            .pong_deadline_ms
            .is_some_and(|deadline| now_ms >= deadline)
        {
            return Err(self.fail(Cause::PingTimeout));
        }
        if now_ms >= self.next_ping_ms {
            self.next_ping_ms = now_ms.saturating_add(PING_INTERVAL_MS);
            if self.application.is_some() && !self.is_closing {
                self.pong_deadline_ms = Some(now_ms.saturating_add(PONG_TIMEOUT_MS));
                // The field is a 32-bit clock that the peer echoes.
                let time = u32::try_from(now_ms & u64::from(u32::MAX)).unwrap_or(u32::MAX);
                self.send_user_control(UserControl::PingRequest(time));
            }
        }
        Ok(())
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout_ms(&self) -> u64 {
        self.pong_deadline_ms
            .map_or(self.next_ping_ms, |pong| pong.min(self.next_ping_ms))
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
        self.is_closing
    }

    /// Bytes handed in so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Bytes held for the peer: input that waits, unfinished messages, output that waits.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.handshake.as_ref().map_or(0, Handshake::buffered)
            + self.input.len()
            + self.reader.buffered()
            + self.aggregate.as_ref().map_or(0, Aggregate::buffered)
            + self.output.capacity()
    }

    /// Grants a publish request. Without one on `stream_id` this does nothing, as do the other answers.
    pub fn accept_publish(&mut self, stream_id: u32) {
        if let Some(stream) = self.stream_mut(stream_id)
            && let StreamState::PublishRequested(name) = stream
        {
            *stream = StreamState::Publishing(name.clone());
            let body =
                command::on_status("status", "NetStream.Publish.Start", "Publishing started.");
            self.send_status(stream_id, &body);
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
            self.send_user_control(UserControl::StreamBegin(stream_id));
            for (code, description) in [
                ("NetStream.Play.Reset", "Resetting the playlist."),
                ("NetStream.Play.Start", "Playback started."),
            ] {
                self.send_status(stream_id, &command::on_status("status", code, description));
            }
            // No NetStream.Data.Start: FFmpeg makes a data stream of it.
            self.send(CSID_DATA, TYPE_DATA, stream_id, &command::sample_access());
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
            self.send_status(
                stream_id,
                &command::on_status("status", code, "The stream has ended."),
            );
            self.send_user_control(UserControl::StreamEof(stream_id));
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

    fn fail(&mut self, cause: Cause) -> Error {
        self.is_closing = true;
        Error {
            offset: self.received.saturating_sub(len_u64(self.input.len())),
            cause,
        }
    }

    /// Says why, and closes.
    fn refuse(&mut self, stream_id: u32, code: &'static str, reason: &str) {
        self.send_status(stream_id, &command::on_status("error", code, reason));
        self.is_closing = true;
    }

    /// Acknowledges what was received once it is a window full. The sequence number wraps at 2^32 (RTMP 5.4.3).
    fn acknowledge(&mut self) {
        let window = u64::from(self.window_in);
        if self.application.is_some()
            && window > 0
            && self.received.saturating_sub(self.acknowledged) >= window
        {
            self.acknowledged = self.received;
            let sequence = u32::try_from(self.received & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            self.send(
                CSID_CONTROL,
                TYPE_ACKNOWLEDGEMENT,
                0,
                &sequence.to_be_bytes(),
            );
        }
    }

    fn send_status(&mut self, stream_id: u32, body: &[u8]) {
        self.send(CSID_DATA, TYPE_COMMAND, stream_id, body);
    }

    fn send_command(&mut self, body: &[u8]) {
        self.send(CSID_COMMAND, TYPE_COMMAND, 0, body);
    }

    fn send_user_control(&mut self, event: UserControl) {
        self.send(CSID_CONTROL, TYPE_USER_CONTROL, 0, &event.encode());
    }

    fn send(&mut self, csid: u32, type_id: u8, stream_id: u32, body: &[u8]) {
        let chunk_size = self.chunk_size_out;
        chunk::write_message(
            &mut self.output,
            csid,
            0,
            type_id,
            stream_id,
            &[body],
            chunk_size,
        );
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("received", &self.received)
            .field("has_role", &self.has_role())
            .field("is_closing", &self.is_closing)
            .finish_non_exhaustive()
    }
}

/// What one step of parsing came to.
enum Progress {
    Event(Event),
    Made,
    NeedsInput,
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
