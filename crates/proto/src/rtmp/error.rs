//! Why a connection ends by itself.

use weir_media::container::amf0;

use super::chunk::ReadError;

/// A fault of the peer that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cause}, at byte {offset} of the connection")]
pub struct Error {
    /// How many bytes of the peer had been read when it showed.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub cause: Cause,
}

/// What is wrong, in words for the operator of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The first byte is not RTMP version 3.
    #[error("not RTMP: the first byte is {0:#04x}, not 0x03")]
    Version(u8),
    /// The chunks make no sense or break a limit.
    #[error(transparent)]
    Chunk(#[from] ReadError),
    /// A command is not valid AMF0.
    #[error("unreadable command: {0}")]
    Command(#[from] amf0::Error),
    /// A command without a name.
    #[error("a command without a name")]
    CommandName,
    /// A protocol control message that is too short.
    #[error("a protocol control message of type {0} is too short")]
    Control(u8),
    /// A client that sends a command before `connect`.
    #[error("a command before connect")]
    NotConnected,
    /// A client that calls `connect` a second time.
    #[error("connect was called twice")]
    ConnectedTwice,
    /// A server that answers `createStream` without a message stream of its own.
    #[error("the answer to createStream holds no message stream id")]
    StreamId,
    /// Nothing came within the time allowed after a ping.
    #[error("no answer to a ping")]
    PingTimeout,
}
