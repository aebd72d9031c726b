//! The client side of one RTMP connection, without the connection: it plays one stream or publishes one.
//!
//! Owns: order of the conversation up to media, what the server's answers mean, the end.
//! Does not own: the socket and its TLS, the clock, the deadline until [`Client::has_role`], trying again.
//! Specification: RTMP 7.2 and the habits of FMLE, FFmpeg, librtmp, nginx-rtmp, SRS and Wowza.
//!
//! How to drive a [`Client`]:
//!
//! 1. Write what [`Client::poll_output`] returns, from the start: the client speaks first.
//! 2. Hand bytes from the socket to [`Client::handle_input`], then call [`Client::poll_event`] until it returns `None`.
//! 3. After [`Event::Publishing`], write media. Output that waits is not bounded here: write it to the socket before
//!    handing in more.
//! 4. Call [`Client::handle_timeout`] when [`Client::next_timeout_ms`] is reached.
//! 5. When [`Client::should_close`], write the remaining output, shut down and close within a second.
//!
//! Answers that clients can do without may be missing: nothing waits for those to `releaseStream` and `FCPublish`,
//! statuses count on any message stream and without a level, media counts without a status. What is hostile is bounded
//! as for a server's clients.

mod dispatch;
mod event;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use weir_media::container::amf0::Value;

pub use event::{EndReason, Event};

use super::{
    Error,
    chunk::{self, CHUNK_SIZE_OUT, CSID_AUDIO, CSID_CONTROL, CSID_DATA, CSID_VIDEO},
    command,
    link::Link,
    message::{self, TYPE_AUDIO, TYPE_COMMAND, TYPE_DATA, TYPE_USER_CONTROL, TYPE_VIDEO},
    url::Url,
};

/// What a player says it holds: as much as FFmpeg does.
const BUFFER_MS: u32 = 3000;
/// The start argument of `play`: the live stream if there is one, else a recorded one.
const START_LIVE_OR_RECORDED: f64 = -2000.0;
/// What players and publishers call themselves. Servers look for these, and for little else.
const FLASH_VERSION_PLAY: &str = "LNX 9,0,124,2";
const FLASH_VERSION_PUBLISH: &str = "FMLE/3.0 (compatible; Weir)";

/// Transaction ids. A client makes each call once, so they are fixed.
const TRANSACTION_CONNECT: f64 = 1.0;
const TRANSACTION_RELEASE_STREAM: f64 = 2.0;
const TRANSACTION_FC_PUBLISH: f64 = 3.0;
const TRANSACTION_CREATE_STREAM: f64 = 4.0;
const TRANSACTION_ROLE: f64 = 5.0;
const TRANSACTION_FC_UNPUBLISH: f64 = 6.0;
/// Wants no answer.
const TRANSACTION_NONE: f64 = 0.0;

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Take a stream from the server.
    Play,
    /// Bring a stream to the server.
    Publish,
}

/// What to ask of which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The server, the application and the name.
    pub url: Url,
    /// Play or publish.
    pub role: Role,
    /// `flashVer` of the `connect` command.
    pub flash_version: String,
    /// The chunk size that a publisher announces, in bytes. Whoever hands in encoded media must use the same.
    pub chunk_size_out: usize,
    /// How much a player says it holds, in milliseconds.
    pub buffer_ms: u32,
    /// What the server may send.
    pub limits: chunk::Limits,
}

impl Config {
    /// The usual settings.
    #[must_use]
    pub fn new(url: Url, role: Role) -> Self {
        let flash_version = match role {
            Role::Play => FLASH_VERSION_PLAY,
            Role::Publish => FLASH_VERSION_PUBLISH,
        };
        Self {
            url,
            role,
            flash_version: flash_version.to_owned(),
            chunk_size_out: CHUNK_SIZE_OUT,
            buffer_ms: BUFFER_MS,
            limits: chunk::Limits::default(),
        }
    }
}

/// One connection. See the module for how to drive it. `Debug` shows no bytes: they hold keys.
pub struct Client {
    config: Arc<Config>,
    link: Link,
    state: State,
}

/// How far the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    /// `connect` is sent.
    Connecting,
    /// `createStream` is sent.
    Creating,
    /// `play` or `publish` is sent, on this message stream.
    Requested(u32),
    /// Media flows on this message stream.
    Active(u32),
}

impl Client {
    /// A client for a connection made at `now_ms`, on a clock that only goes up. `seed` fills the random bytes of the
    /// handshake; it should differ between connections.
    #[must_use]
    pub fn new(config: Arc<Config>, seed: u64, now_ms: u64) -> Self {
        Self {
            link: Link::client(seed, config.limits, now_ms),
            config,
            state: State::Handshake,
        }
    }

    /// Hands in bytes of the server, cut anywhere. Message bodies become slices of `input` where they can. If earlier
    /// input has not been used up, both are joined, which copies.
    pub fn handle_input(&mut self, input: Bytes) {
        self.link.handle_input(input);
    }

    /// Parses on to the next event. `None`: more input is needed, or the client closes. After an error it is over.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        while !self.link.is_closing() {
            let message = self.link.next_message()?;
            if self.state == State::Handshake && self.link.is_handshake_complete() {
                self.connect();
            }
            let Some(message) = message else {
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
        match self.config.role {
            Role::Play => self.link.handle_timeout(now_ms),
            Role::Publish => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] is due. `None` for publishers: servers may leave their pings unanswered, and a
    /// dead connection shows in what is not sent.
    #[must_use]
    pub fn next_timeout_ms(&self) -> Option<u64> {
        (self.config.role == Role::Play).then(|| self.link.next_timeout_ms())
    }

    /// Whether the server has granted `play` or `publish`, or sends media. Until then, the owner's deadline runs.
    #[must_use]
    pub fn has_role(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// Whether to close once the output is written.
    #[must_use]
    pub fn should_close(&self) -> bool {
        self.link.is_closing()
    }

    /// The message stream that the server made; `None` until it has. Usually 1, which is
    /// [`chunk::PLAY_STREAM_ID`]: then an encoding for players can be sent to this server as it is.
    #[must_use]
    pub fn stream_id(&self) -> Option<u32> {
        match self.state {
            State::Requested(stream_id) | State::Active(stream_id) => Some(stream_id),
            State::Handshake | State::Connecting | State::Creating => None,
        }
    }

    /// Bytes handed in so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.link.received
    }

    /// Bytes held for the server: input that waits, unfinished messages, output that waits.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.link.buffered_bytes()
    }

    /// Sends an audio message: the parts of an FLV tag body in turn. Does nothing unless publishing, as the others.
    pub fn write_audio(&mut self, timestamp_ms: u32, body: &[&[u8]]) {
        self.write(timestamp_ms, CSID_AUDIO, TYPE_AUDIO, body);
    }

    /// Sends a video message: the parts of an FLV tag body in turn.
    pub fn write_video(&mut self, timestamp_ms: u32, body: &[&[u8]]) {
        self.write(timestamp_ms, CSID_VIDEO, TYPE_VIDEO, body);
    }

    /// Sends a data message for the server to keep: `body` is that of an FLV script tag, `onMetaData` and its
    /// properties.
    pub fn write_metadata(&mut self, timestamp_ms: u32, body: &[&[u8]]) {
        let head = command::set_data_frame();
        let body = [&[&head[..]], body].concat();
        self.write(timestamp_ms, CSID_DATA, TYPE_DATA, &body);
    }

    /// Ends the stream from this side, whatever has been reached; the client then closes.
    pub fn finish(&mut self) {
        if let Some(stream_id) = self.stream_id()
            && !self.link.is_closing()
        {
            if self.config.role == Role::Publish {
                self.call("FCUnpublish", TRANSACTION_FC_UNPUBLISH, &[self.name()]);
            }
            let id = f64::from(stream_id).into();
            self.call("deleteStream", TRANSACTION_NONE, &[id]);
        }
        self.link.close();
    }

    fn write(&mut self, timestamp_ms: u32, csid: u32, type_id: u8, body: &[&[u8]]) {
        if let State::Active(stream_id) = self.state
            && self.config.role == Role::Publish
            && !self.link.is_closing()
        {
            self.link
                .send_at(timestamp_ms, csid, type_id, stream_id, body);
        }
    }

    fn connect(&mut self) {
        let url = &self.config.url;
        let mut properties: Vec<(&str, Value)> = vec![
            ("app", url.app().into()),
            ("flashVer", self.config.flash_version.as_str().into()),
            ("tcUrl", url.tc_url().as_str().into()),
        ];
        match self.config.role {
            Role::Publish => properties.push(("type", "nonprivate".into())),
            // What FFmpeg claims: no proxy, every codec there was.
            Role::Play => properties.extend([
                ("fpad", false.into()),
                ("capabilities", 15.0.into()),
                ("audioCodecs", 4071.0.into()),
                ("videoCodecs", 252.0.into()),
                ("videoFunction", 1.0.into()),
            ]),
        }
        let properties = properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        self.link.send_command(&command::connect(
            TRANSACTION_CONNECT,
            Value::Object(properties),
        ));
        self.state = State::Connecting;
    }

    /// Asks for a message stream, as FMLE does when publishing.
    fn create_stream(&mut self) {
        self.link.connected();
        if self.config.role == Role::Publish {
            self.link.send_chunk_size(self.config.chunk_size_out);
            let name = self.name();
            self.call(
                "releaseStream",
                TRANSACTION_RELEASE_STREAM,
                std::slice::from_ref(&name),
            );
            self.call("FCPublish", TRANSACTION_FC_PUBLISH, &[name]);
        }
        self.call("createStream", TRANSACTION_CREATE_STREAM, &[]);
        self.state = State::Creating;
    }

    /// Asks for the role on the message stream that the server made.
    fn request(&mut self, stream_id: u32) {
        let (name, arguments) = match self.config.role {
            Role::Publish => ("publish", [self.name(), "live".into()]),
            Role::Play => ("play", [self.name(), START_LIVE_OR_RECORDED.into()]),
        };
        let body = command::call(name, TRANSACTION_ROLE, &arguments);
        self.link.send(CSID_DATA, TYPE_COMMAND, stream_id, &body);
        if self.config.role == Role::Play {
            let buffer = message::set_buffer_length(stream_id, self.config.buffer_ms);
            self.link.send(CSID_CONTROL, TYPE_USER_CONTROL, 0, &buffer);
        }
        self.state = State::Requested(stream_id);
    }

    fn call(&mut self, name: &str, transaction: f64, arguments: &[Value]) {
        self.link
            .send_command(&command::call(name, transaction, arguments));
    }

    fn name(&self) -> Value {
        self.config.url.name().expose().into()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.config.url)
            .field("role", &self.config.role)
            .field("state", &self.state)
            .field("received", &self.link.received)
            .field("is_closing", &self.link.is_closing())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
