//! What a session tells its owner, and what the owner may answer.

use std::fmt;

use bytes::Bytes;
use weir_media::{Kind, StreamName, container::amf0};

use crate::rtmp::address::{Params, Secret};

/// What the peer wants or does. Requests wait for an answer: see [`super::Session::poll_event`].
#[derive(Debug)]
pub enum Event {
    /// The peer wants to publish; answer with `accept_publish` or `reject_publish`.
    Publish(PublishRequest),
    /// The peer wants to play; answer with `accept_play` or `reject_play`.
    Play(PlayRequest),
    /// An audio or video message of an accepted publisher.
    Media {
        /// The message stream it arrived on.
        stream_id: u32,
        /// Audio or video.
        kind: Kind,
        /// Milliseconds; wraps at 2^32 and is not to be trusted.
        timestamp_ms: u32,
        /// The body of an FLV audio or video tag. Never empty.
        payload: Bytes,
    },
    /// A data message of an accepted publisher, `@setDataFrame` stripped: usually `onMetaData` and its properties.
    Metadata {
        /// The message stream it arrived on.
        stream_id: u32,
        /// The handler name and its arguments.
        values: Vec<amf0::Value>,
    },
    /// A data message of an accepted publisher that cannot be decoded; it is skipped.
    BadMetadata {
        /// The message stream it arrived on.
        stream_id: u32,
        /// Why.
        error: amf0::Error,
    },
    /// The peer stopped publishing.
    PublishEnded {
        /// The message stream that was published on.
        stream_id: u32,
    },
    /// The peer stopped playing.
    PlayEnded {
        /// The message stream that was played on.
        stream_id: u32,
    },
    /// The session itself refused the peer (an application or a name it does not accept), has told it why, and
    /// closes. This is for the log.
    Refused {
        /// The status code sent, such as `NetStream.Publish.BadName`.
        code: &'static str,
        /// The reason sent. It never repeats what the peer sent.
        reason: String,
    },
}

/// A request to publish. `Debug` hides whatever may be a secret.
pub struct PublishRequest {
    /// The message stream to answer on.
    pub stream_id: u32,
    /// The application, one of [`super::Config::apps`].
    pub app: String,
    /// The name published. It is a secret when [`Self::bare_key`] is.
    pub name: StreamName,
    /// The query parameter `key`.
    pub key: Option<Secret>,
    /// The published name as a possible stream key, present when no `key` was given: encoders that have a single field
    /// put the bare key there.
    pub bare_key: Option<Secret>,
    /// All query parameters of the name, the application and the URL, in this order.
    pub params: Params,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PublishRequest");
        out.field("stream_id", &self.stream_id)
            .field("app", &self.app);
        match &self.bare_key {
            Some(secret) => out.field("name", secret),
            None => out.field("name", &self.name),
        };
        out.field("key", &self.key)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// A request to play.
#[derive(Debug)]
pub struct PlayRequest {
    /// The message stream to answer on; always [`crate::rtmp::chunk::PLAY_STREAM_ID`].
    pub stream_id: u32,
    /// The application, one of [`super::Config::apps`].
    pub app: String,
    /// The stream asked for.
    pub name: StreamName,
    /// All query parameters of the name, the application and the URL, in this order.
    pub params: Params,
}

/// Why a request is refused or a stream is ended; it chooses the status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not allowed: no key, a wrong key, a wrong token.
    Denied,
    /// The name is not acceptable or another publisher has it.
    BadName,
    /// Allowed, but not now: a limit is reached, the server shuts down, an operator ended it.
    Rejected,
    /// There is no such stream to play.
    StreamNotFound,
    /// Anything else.
    Failed,
}

impl Refusal {
    /// The code of the `onStatus` that answers `publish`.
    #[must_use]
    pub fn publish_code(self) -> &'static str {
        match self {
            Self::Denied => "NetStream.Publish.Denied",
            Self::BadName => "NetStream.Publish.BadName",
            Self::Rejected => "NetStream.Publish.Rejected",
            Self::StreamNotFound | Self::Failed => "NetStream.Failed",
        }
    }

    /// The code of the `onStatus` that answers `play`.
    #[must_use]
    pub fn play_code(self) -> &'static str {
        match self {
            Self::StreamNotFound => "NetStream.Play.StreamNotFound",
            Self::Denied | Self::BadName | Self::Rejected | Self::Failed => "NetStream.Play.Failed",
        }
    }
}
