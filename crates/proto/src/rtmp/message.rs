//! Messages above the chunk layer: their type ids, protocol control, user control, aggregates.
//!
//! Owns: how the bodies of these look. Does not own: commands and media.
//! Specification: RTMP 5.4, 6.2, 7.1.

use bytes::{Buf, Bytes};

/// Set Chunk Size (RTMP 5.4.1).
pub const TYPE_SET_CHUNK_SIZE: u8 = 1;
/// Abort Message (RTMP 5.4.2).
pub const TYPE_ABORT: u8 = 2;
/// Acknowledgement (RTMP 5.4.3).
pub const TYPE_ACKNOWLEDGEMENT: u8 = 3;
/// User Control (RTMP 6.2).
pub const TYPE_USER_CONTROL: u8 = 4;
/// Window Acknowledgement Size (RTMP 5.4.4).
pub const TYPE_WINDOW_ACK_SIZE: u8 = 5;
/// Set Peer Bandwidth (RTMP 5.4.5).
pub const TYPE_SET_PEER_BANDWIDTH: u8 = 6;
/// Audio (RTMP 7.1.4).
pub const TYPE_AUDIO: u8 = 8;
/// Video (RTMP 7.1.5).
pub const TYPE_VIDEO: u8 = 9;
/// Data, AMF3: one more byte, then AMF0 in practice (RTMP 7.1.2).
pub const TYPE_DATA_AMF3: u8 = 15;
/// Command, AMF3: one more byte, then AMF0 in practice (RTMP 7.1.1).
pub const TYPE_COMMAND_AMF3: u8 = 17;
/// Data, AMF0 (RTMP 7.1.2).
pub const TYPE_DATA: u8 = 18;
/// Command, AMF0 (RTMP 7.1.1).
pub const TYPE_COMMAND: u8 = 20;
/// Aggregate (RTMP 7.1.6).
pub const TYPE_AGGREGATE: u8 = 22;

const EVENT_STREAM_BEGIN: u16 = 0;
const EVENT_STREAM_EOF: u16 = 1;
const EVENT_SET_BUFFER_LENGTH: u16 = 3;
const EVENT_PING_REQUEST: u16 = 6;
const EVENT_PING_RESPONSE: u16 = 7;

/// One message of the peer, put together from its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
    /// What the payload is.
    pub type_id: u8,
    /// The message stream; 0 is the connection itself.
    pub stream_id: u32,
    /// The body.
    pub payload: Bytes,
}

/// The AMF0 in the body of an AMF3 message, which begins with a format selector.
pub(super) fn without_format(body: &[u8]) -> &[u8] {
    body.get(1..).unwrap_or_default()
}

/// The user control events with one value that are sent or heeded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserControl {
    StreamBegin(u32),
    StreamEof(u32),
    PingRequest(u32),
    PingResponse(u32),
}

impl UserControl {
    /// The event in `body`; `None` for those that need no answer, such as Set Buffer Length.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let (kind, body) = body.split_first_chunk()?;
        let value = u32::from_be_bytes(*body.first_chunk()?);
        match u16::from_be_bytes(*kind) {
            EVENT_STREAM_BEGIN => Some(Self::StreamBegin(value)),
            EVENT_STREAM_EOF => Some(Self::StreamEof(value)),
            EVENT_PING_REQUEST => Some(Self::PingRequest(value)),
            EVENT_PING_RESPONSE => Some(Self::PingResponse(value)),
            _ => None,
        }
    }

    /// The body of the message.
    pub(super) fn encode(self) -> [u8; 6] {
        let (kind, value) = match self {
            Self::StreamBegin(id) => (EVENT_STREAM_BEGIN, id),
            Self::StreamEof(id) => (EVENT_STREAM_EOF, id),
            Self::PingRequest(time) => (EVENT_PING_REQUEST, time),
            Self::PingResponse(time) => (EVENT_PING_RESPONSE, time),
        };
        let ([k0, k1], [v0, v1, v2, v3]) = (kind.to_be_bytes(), value.to_be_bytes());
        [k0, k1, v0, v1, v2, v3]
    }
}

/// The body of Set Buffer Length: how much a player means to hold. Servers may send that much at once.
pub(super) fn set_buffer_length(stream_id: u32, buffer_ms: u32) -> [u8; 10] {
    let ([k0, k1], [s0, s1, s2, s3], [b0, b1, b2, b3]) = (
        EVENT_SET_BUFFER_LENGTH.to_be_bytes(),
        stream_id.to_be_bytes(),
        buffer_ms.to_be_bytes(),
    );
    [k0, k1, s0, s1, s2, s3, b0, b1, b2, b3]
}

/// The messages inside an aggregate, taken out one at a time.
#[derive(Debug)]
pub(super) struct Aggregate {
    stream_id: u32,
    timestamp_ms: u32,
    first_ms: Option<u32>,
    rest: Bytes,
}

/// Header of a message inside an aggregate: type, length, timestamp, message stream.
const SUB_HEADER_LEN: usize = 11;
/// The back pointer that follows each.
const BACK_POINTER_LEN: usize = 4;

impl Aggregate {
    pub(super) fn new(message: Message) -> Self {
        Self {
            stream_id: message.stream_id,
            timestamp_ms: message.timestamp_ms,
            first_ms: None,
            rest: message.payload,
        }
    }

    /// The next message; `None` at the end, or where the rest is cut short.
    pub(super) fn next_message(&mut self) -> Option<Message> {
        let &[type_id, l0, l1, l2, t0, t1, t2, t3, _, _, _] =
            self.rest.first_chunk::<SUB_HEADER_LEN>()?;
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
        if self.rest.len() < SUB_HEADER_LEN.checked_add(len)? {
            self.rest = Bytes::new();
            return None;
        }
        self.rest.advance(SUB_HEADER_LEN);
        let payload = self.rest.split_to(len);
        self.rest.advance(BACK_POINTER_LEN.min(self.rest.len()));
        // The first one stands for the time of the aggregate, the others keep their distance to it (RTMP 7.1.6).
        let time = u32::from_be_bytes([t3, t0, t1, t2]);
        let first = *self.first_ms.get_or_insert(time);
        let timestamp_ms = self.timestamp_ms.wrapping_add(time.wrapping_sub(first));
        Some(Message {
            timestamp_ms,
            type_id,
            stream_id: self.stream_id,
            payload,
        })
    }

    /// Bytes held.
    pub(super) fn buffered(&self) -> usize {
        self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_control_round_trip() {
        use UserControl::{PingRequest, PingResponse, StreamBegin, StreamEof};
        for event in [
            StreamBegin(1),
            StreamEof(2),
            PingRequest(3),
            PingResponse(u32::MAX),
        ] {
            assert_eq!(UserControl::decode(&event.encode()), Some(event));
        }
        let buffer = set_buffer_length(1, 100);
        assert_eq!(buffer, [0, 3, 0, 0, 0, 1, 0, 0, 0, 100]);
        assert_eq!(UserControl::decode(&buffer), None);
        for len in 0..6 {
            assert_eq!(UserControl::decode(&PingRequest(1).encode()[..len]), None);
        }
    }

    #[test]
    fn aggregates_are_split() {
        let sub = |type_id: u8, time: u32, body: &[u8]| {
            let [t3, t0, t1, t2] = time.to_be_bytes();
            let len = u8::try_from(body.len()).unwrap();
            [
                &[type_id, 0, 0, len, t0, t1, t2, t3, 0, 0, 0][..],
                body,
                &[0, 0, 0, len + 11],
            ]
            .concat()
        };
        let payload = [
            sub(8, 0x0100_0005, b"a"),
            sub(9, 0x0100_0007, b"bc"),
            sub(8, 0, b""),
        ]
        .concat();
        for len in 0..=payload.len() {
            let mut aggregate = Aggregate::new(Message {
                timestamp_ms: 100,
                type_id: TYPE_AGGREGATE,
                stream_id: 1,
                payload: Bytes::copy_from_slice(&payload[..len]),
            });
            let mut found = Vec::new();
            while let Some(message) = aggregate.next_message() {
                found.push((
                    message.type_id,
                    message.timestamp_ms,
                    message.payload.to_vec(),
                ));
            }
            let all = [
                (8, 100, b"a".to_vec()),
                (9, 102, b"bc".to_vec()),
                (8, 100u32.wrapping_sub(0x0100_0005), Vec::new()),
            ];
            let whole = [12, 16 + 13, 33 + 11]
                .iter()
                .filter(|&&end| end <= len)
                .count();
            assert_eq!(found, all[..whole], "{len}");
        }
    }
}
