//! What a client tells its owner.

use bytes::Bytes;
use weir_media::{Kind, container::amf0};

/// What the server does or says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The server grants `play`. Some servers send media without it.
    Playing,
    /// The server grants `publish`: media may be written.
    Publishing,
    /// An audio or video message.
    Media {
        /// Audio or video.
        kind: Kind,
        /// Milliseconds; wraps at 2^32 and is not to be trusted.
        timestamp_ms: u32,
        /// The body of an FLV audio or video tag. Never empty.
        payload: Bytes,
    },
    /// A data message: usually `onMetaData` and its properties.
    Metadata {
        /// The handler name and its arguments.
        values: Vec<amf0::Value>,
    },
    /// A data message that cannot be decoded; it is skipped.
    BadMetadata {
        /// Why.
        error: amf0::Error,
    },
    /// The stream is over. The client closes.
    Ended {
        /// How the server put it.
        reason: EndReason,
    },
    /// The server refuses, at the start or later. The client closes.
    Refused {
        /// The status code, such as `NetStream.Play.StreamNotFound`. Empty if the server gave none.
        code: String,
        /// The server's words for people, shortened, without control characters, our name and query blanked out.
        description: String,
    },
}

/// How a server says that a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// `NetStream.Play.UnpublishNotify`, or to a publisher `NetStream.Unpublish.Success`.
    #[error("the stream was unpublished")]
    Unpublished,
    /// The user control event.
    #[error("the server signalled the end of the stream")]
    StreamEof,
    /// `NetStream.Play.Complete`, at the end of what is recorded.
    #[error("the stream is complete")]
    Complete,
    /// `NetStream.Play.Stop`.
    #[error("the server stopped the stream")]
    Stopped,
    /// The call `close`.
    #[error("the server closed the connection")]
    Closed,
}
