//! Puts messages together from chunks that arrive in pieces of any size.
//!
//! Owns: header state of each chunk stream, unfinished messages, the limits that keep both small.
//! Does not own: protocol control messages; the session hands Set Chunk Size and Abort back to the reader.

use bytes::{Buf, Bytes};

use super::{CHUNK_SIZE_DEFAULT, CHUNK_SIZE_MAX, TIMESTAMP_EXTENDED};
use crate::rtmp::message::Message;

/// Default for the longest message in bytes: several times the largest key frame of a 4K stream.
pub const MESSAGE_LEN_MAX: usize = 8 * 1024 * 1024;
/// Chunk streams of one connection. Encoders use three to six.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Bytes of unfinished messages of one connection: a large video message with a few others inside it.
pub const UNFINISHED_LEN_MAX: usize = 16 * 1024 * 1024;

/// Basic header, message header and extended timestamp at their longest.
const HEADER_LEN_MAX: usize = 3 + 11 + 4;

/// What a peer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes.
    pub message_len_max: usize,
    /// Accept chunk sizes below [`CHUNK_SIZE_DEFAULT`].
    pub allow_small_chunks: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_len_max: MESSAGE_LEN_MAX,
            allow_small_chunks: false,
        }
    }
}

/// Why chunks cannot be read. The connection is lost: where the next chunk begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Set Chunk Size to zero or with the reserved bit.
    #[error("chunk size {0} is not valid")]
    ChunkSize(u32),
    /// Set Chunk Size to less than is accepted.
    #[error("chunk size {0} is below {CHUNK_SIZE_DEFAULT}")]
    ChunkSizeSmall(u32),
    /// A message longer than [`Limits::message_len_max`].
    #[error("a message of {len} bytes is longer than the limit of {max}")]
    MessageLength {
        /// The declared length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More than [`CHUNK_STREAMS_MAX`] chunk stream ids.
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    ChunkStreams,
    /// More than [`UNFINISHED_LEN_MAX`] bytes of messages that have not ended.
    #[error("more than {UNFINISHED_LEN_MAX} bytes of unfinished messages")]
    Unfinished,
    /// A header that begins a message where the last one of its chunk stream has not ended.
    #[error("a type {format} chunk interrupts an unfinished message on chunk stream {csid}")]
    Interrupted {
        /// The chunk header format, 0 to 2.
        format: u8,
        /// The chunk stream.
        csid: u32,
    },
    /// A header that refers to an earlier one where there is none.
    #[error("a type {format} chunk on chunk stream {csid} has no chunk before it")]
    NoPredecessor {
        /// The chunk header format, 2 or 3.
        format: u8,
        /// The chunk stream.
        csid: u32,
    },
}

/// Reads chunks. It holds what the peer has really sent of unfinished messages, and nothing for what it announces.
/// Not `Debug`: the bytes may hold keys.
pub struct Reader {
    limits: Limits,
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    /// The beginning of a header that the input so far does not complete.
    head: [u8; HEADER_LEN_MAX],
    head_len: usize,
    /// The chunk whose payload is being read: index of its stream, bytes left.
    chunk: Option<(usize, usize)>,
    /// Sum of the unfinished payloads.
    unfinished: usize,
}

/// What a chunk stream remembers (RTMP 5.3.1.2), and its unfinished message.
struct ChunkStream {
    csid: u32,
    timestamp_ms: u32,
    delta_ms: u32,
    /// The extended timestamp field of the last header that had one in place of its 24 bits.
    extended: Option<u32>,
    len: usize,
    type_id: u8,
    stream_id: u32,
    /// Bytes that the current message still lacks; 0 between messages.
    missing: usize,
    partial: Vec<u8>,
}

/// A chunk header as it is on the wire.
#[derive(Debug, Clone, Copy)]
struct Header {
    csid: u32,
    format: u8,
    /// Timestamp or delta of types 0 to 2, from the extended field if there is one.
    time: u32,
    extended: Option<u32>,
    len: usize,
    type_id: u8,
    stream_id: u32,
}

impl Reader {
    /// A reader at the first byte after the handshake.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_DEFAULT,
            streams: Vec::new(),
            head: [0; HEADER_LEN_MAX],
            head_len: 0,
            chunk: None,
            unfinished: 0,
        }
    }

    /// Consumes `input` up to the end of the next message; `None` means that all of it is consumed. The payload of a
    /// message that lies in one piece in `input` is a slice of it.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Message>, ReadError> {
        loop {
            let (index, left) = match self.chunk {
                Some(chunk) => chunk,
                None => match self.read_header(input)? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                },
            };
            let taken = left.min(input.len());
            let payload = input.split_to(taken);
            let left = left.saturating_sub(taken);
            self.chunk = (left > 0).then_some((index, left));
            if let Some(message) = self.append(index, payload)? {
                return Ok(Some(message));
            }
            if left > 0 {
                return Ok(None);
            }
        }
    }

    /// Applies Set Chunk Size. The size is only compared with; no memory depends on it.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), ReadError> {
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if size == 0 || size >> 31 == 1 {
            return Err(ReadError::ChunkSize(size));
        }
        if bytes < CHUNK_SIZE_DEFAULT && !self.limits.allow_small_chunks {
            return Err(ReadError::ChunkSizeSmall(size));
        }
        self.chunk_size = bytes.min(CHUNK_SIZE_MAX);
        Ok(())
    }

    /// Applies Abort: drops the unfinished message of `csid`.
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.csid == csid) {
            self.unfinished = self.unfinished.saturating_sub(stream.partial.len());
            stream.partial = Vec::new();
            stream.missing = 0;
        }
    }

    /// Bytes held for messages and headers that are not complete.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.streams
            .iter()
            .fold(self.head_len, |sum, stream| sum + stream.partial.capacity())
    }

    /// Reads a header and applies it; returns the chunk it begins.
    fn read_header(&mut self, input: &mut Bytes) -> Result<Option<(usize, usize)>, ReadError> {
        let known = self.head_len;
        let filled = HEADER_LEN_MAX.min(known.saturating_add(input.len()));
        for (slot, byte) in self.head.iter_mut().skip(known).zip(input.iter()) {
            *slot = *byte;
        }
        let head = self.head.get(..filled).unwrap_or_default();
        let Some((header, len)) = self.parse_header(head) else {
            input.advance(filled.saturating_sub(known));
            self.head_len = filled;
            return Ok(None);
        };
        input.advance(len.saturating_sub(known));
        self.head_len = 0;
        let index = self.apply(&header)?;
        let missing = self.streams.get(index).map_or(0, |stream| stream.missing);
        Ok(Some((index, missing.min(self.chunk_size))))
    }

    /// The header at the start of `head` and its length, or `None` if it is not complete.
    fn parse_header(&self, head: &[u8]) -> Option<(Header, usize)> {
        let mut rest = head;
        let [first] = take(&mut rest)?;
        let csid = match first & 0x3F {
            0 => u32::from(u8::from_be_bytes(take(&mut rest)?)) + 64,
            1 => u32::from(u16::from_le_bytes(take(&mut rest)?)) + 64,
            id => u32::from(id),
        };
        let mut header = Header {
            csid,
            format: first >> 6,
            time: 0,
            extended: None,
            len: 0,
            type_id: 0,
            stream_id: 0,
        };
        if header.format == 3 {
            header.extended = self.repeated_timestamp(csid, rest);
            if header.extended.is_some() {
                rest = rest.get(4..)?;
            }
            return Some((header, head.len() - rest.len()));
        }
        let [t0, t1, t2] = take(&mut rest)?;
        header.time = u32::from_be_bytes([0, t0, t1, t2]);
        if header.format < 2 {
            let [l0, l1, l2, type_id] = take(&mut rest)?;
            header.len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).ok()?;
            header.type_id = type_id;
        }
        if header.format == 0 {
            header.stream_id = u32::from_le_bytes(take(&mut rest)?);
        }
        if header.time == TIMESTAMP_EXTENDED {
            header.time = u32::from_be_bytes(take(&mut rest)?);
            header.extended = Some(header.time);
        }
        Some((header, head.len() - rest.len()))
    }

    /// The extended timestamp that follows a type 3 header on `csid`, if `rest` begins with it, or with as much of it
    /// as has arrived. Most senders repeat it, some do not: it is there if the bytes say what is expected.
    fn repeated_timestamp(&self, csid: u32, rest: &[u8]) -> Option<u32> {
        let stream = self.streams.iter().find(|stream| stream.csid == csid)?;
        // The field of the header before, or the absolute time, which some write after a delta.
        [stream.extended?, stream.timestamp_ms]
            .into_iter()
            .find(|value| {
                let shown = rest.len().min(4);
                rest.get(..shown) == value.to_be_bytes().get(..shown)
            })
    }

    /// Brings the chunk stream up to date with a header; returns its index.
    fn apply(&mut self, header: &Header) -> Result<usize, ReadError> {
        let Header { csid, format, .. } = *header;
        let found = self.streams.iter().position(|stream| stream.csid == csid);
        let index = match found {
            Some(index) => index,
            // librtmp begins its ping answers with type 1 on a fresh chunk stream.
            None if format >= 2 => return Err(ReadError::NoPredecessor { format, csid }),
            None if self.streams.len() >= CHUNK_STREAMS_MAX => return Err(ReadError::ChunkStreams),
            None => {
                self.streams.push(ChunkStream::new(csid));
                self.streams.len() - 1
            }
        };
        let max = self.limits.message_len_max;
        match self.streams.get_mut(index) {
            Some(stream) if stream.missing > 0 && format == 3 => {}
            Some(stream) if stream.missing > 0 => {
                return Err(ReadError::Interrupted { format, csid });
            }
            Some(stream) => stream.begin_message(header, max)?,
            None => {}
        }
        Ok(index)
    }

    /// Adds payload to the message of a stream; returns the message if that completes it.
    fn append(&mut self, index: usize, payload: Bytes) -> Result<Option<Message>, ReadError> {
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        stream.missing = stream.missing.saturating_sub(payload.len());
        let whole = if stream.partial.is_empty() && stream.missing == 0 {
            payload
        } else {
            self.unfinished = self.unfinished.saturating_add(payload.len());
            if self.unfinished > UNFINISHED_LEN_MAX {
                return Err(ReadError::Unfinished);
            }
            stream.grow(payload.len());
            stream.partial.extend_from_slice(&payload);
            if stream.missing > 0 {
                return Ok(None);
            }
            self.unfinished = self.unfinished.saturating_sub(stream.partial.len());
            Bytes::from(std::mem::take(&mut stream.partial))
        };
        Ok(Some(Message {
            timestamp_ms: stream.timestamp_ms,
            type_id: stream.type_id,
            stream_id: stream.stream_id,
            payload: whole,
        }))
    }
}

impl ChunkStream {
    fn new(csid: u32) -> Self {
        Self {
            csid,
            timestamp_ms: 0,
            delta_ms: 0,
            extended: None,
            len: 0,
            type_id: 0,
            stream_id: 0,
            missing: 0,
            partial: Vec::new(),
        }
    }

    /// RTMP 5.3.1.2: what each header type carries and what it takes over.
    fn begin_message(&mut self, header: &Header, message_len_max: usize) -> Result<(), ReadError> {
        if header.format == 0 {
            self.stream_id = header.stream_id;
        }
        if header.format < 2 {
            self.len = header.len;
            self.type_id = header.type_id;
        }
        if header.format < 3 {
            self.extended = header.extended;
            self.delta_ms = header.time;
        }
        if header.format == 0 {
            self.timestamp_ms = header.time;
            // A type 3 chunk after this takes the timestamp for its delta (RTMP 5.3.1.2.4), and FFmpeg relies on
            // that. With an extended timestamp it would be a jump of hours; senders mean "the same time".
            if header.extended.is_some() {
                self.delta_ms = 0;
            }
        } else {
            self.timestamp_ms = self.timestamp_ms.wrapping_add(self.delta_ms);
        }
        if self.len > message_len_max {
            return Err(ReadError::MessageLength {
                len: self.len,
                max: message_len_max,
            });
        }
        self.missing = self.len;
        Ok(())
    }

    /// Makes room for `more` bytes: at least twice what is there, never beyond the end of the message.
    fn grow(&mut self, more: usize) {
        let needed = self.partial.len().saturating_add(more);
        if needed > self.partial.capacity() {
            let whole = needed.saturating_add(self.missing);
            let target = self
                .partial
                .capacity()
                .saturating_mul(2)
                .clamp(needed, whole);
            self.partial
                .reserve_exact(target.saturating_sub(self.partial.len()));
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type 0 on chunk stream 6: video of `len` bytes on message stream 1.
    fn head(time: [u8; 3], len: u8) -> Vec<u8> {
        [&[6], &time[..], &[0, 0, len, 9, 1, 0, 0, 0]].concat()
    }

    #[test]
    fn timestamps_follow_the_header_types() {
        // Type 0 at 1000, type 2 with delta 40, type 3 with the same delta, type 1 with delta 20.
        let input = [
            &head([0, 3, 0xE8], 1)[..],
            b"a\x86\0\0\x28b\xC6c\x46\0\0\x14\0\0\x02\x08de",
        ];
        check(
            &input.concat(),
            &[(1000, "a"), (1040, "b"), (1080, "c"), (1100, "de")],
        );
        // Type 3 after type 0 takes the timestamp for its delta.
        check(
            &[&head([0, 0, 40], 1)[..], b"a\xC6b"].concat(),
            &[(40, "a"), (80, "b")],
        );
        // Type 1 on a fresh chunk stream.
        check(b"\x46\0\0\x28\0\0\x01\x09a", &[(40, "a")]);
    }

    #[test]
    fn nms25_ext_timestamp_5h() {
        let extended = [0xFF, 0xFF, 0xFF];
        let time = 0x0112_A880u32.to_be_bytes();
        let (first, second) = ("x".repeat(128), "y".repeat(10));
        let both = first.clone() + &second;
        let message = [&head(extended, 138)[..], &time, first.as_bytes(), b"\xC6"].concat();
        // With and without repetition on type 3 chunks.
        let expected = [(0x0112_A880, both.as_str())];
        check(
            &[&message[..], &time, second.as_bytes()].concat(),
            &expected,
        );
        check(&[&message[..], second.as_bytes()].concat(), &expected);
        // Without repetition, and the payload begins like the timestamp.
        let alike = [&time[..3], b"yyyyyyy"].concat();
        let mut reader = Reader::new(Limits::default());
        let mut input = Bytes::from([&message[..], &alike].concat());
        let payload = reader.read(&mut input).unwrap().unwrap().payload;
        assert_eq!(payload[128..], alike);
        // An extended field in type 1 is a delta, however large.
        let delta = [&[0x46], &extended[..], &[0, 0, 1, 9, 1, 0, 0, 1], b"b"].concat();
        let first = [&head(extended, 1)[..], &time, b"a"].concat();
        check(
            &[first.clone(), delta].concat(),
            &[(0x0112_A880, "a"), (0x0212_A881, "b")],
        );
        // Type 3 that begins a message after an extended type 0: the same time, repeated or not.
        let expected = [(0x0112_A880, "a"), (0x0112_A880, "b")];
        check(&[&first[..], b"\xC6", &time, b"b"].concat(), &expected);
        check(&[&first[..], b"\xC6b"].concat(), &expected);
    }

    #[test]
    fn timestamps_wrap() {
        let almost = [
            &head([0xFF, 0xFF, 0xFF], 1)[..],
            &[0xFF; 4],
            b"a\x86\0\0\x02b",
        ]
        .concat();
        check(&almost, &[(u32::MAX, "a"), (1, "b")]);
    }

    #[test]
    fn p4_headers_inside_a_message() {
        let unfinished = [&head([0; 3], 200)[..], &[0; 128]].concat();
        for (format, header) in [
            (0, head([0; 3], 200)),
            (0, head([0; 3], 100)),
            (1, vec![0x46, 0, 0, 0, 0, 0, 100, 9]),
            (2, vec![0x86, 0, 0, 0]),
        ] {
            let input = [&unfinished[..], &header].concat();
            check_error(&input, ReadError::Interrupted { format, csid: 6 });
        }
        check_error(
            b"\x86\0\0\0",
            ReadError::NoPredecessor { format: 2, csid: 6 },
        );
        check_error(
            b"\xC0\x01",
            ReadError::NoPredecessor {
                format: 3,
                csid: 65,
            },
        );
    }

    #[test]
    fn messages_interleave_between_chunk_streams() {
        let video = [&head([0; 3], 130)[..], &[b'v'; 128]].concat();
        let input = [
            &video[..],
            b"\x04\0\0\x01\0\0\x01\x08\x01\0\0\0a",
            b"\xC6vv",
        ]
        .concat();
        check(&input, &[(1, "a"), (0, &"v".repeat(130))]);
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let bytes = Bytes::from([&head([0; 3], 100)[..], &[7; 100]].concat());
        let mut input = bytes.clone();
        let message = Reader::new(Limits::default())
            .read(&mut input)
            .unwrap()
            .unwrap();
        assert_eq!(message.payload.as_ptr(), bytes[12..].as_ptr());
    }

    #[test]
    fn unfinished_messages_are_bounded_in_sum() {
        let mut reader = Reader::new(Limits::default());
        reader.set_chunk_size(u32::MAX >> 8).unwrap();
        let mut result = Ok(None);
        for csid in [4, 5, 6] {
            let mut chunk = vec![csid, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0];
            chunk.resize(12 + MESSAGE_LEN_MAX - 1, 0);
            // Smaller chunks, so that the next one can begin.
            reader.chunk_size = MESSAGE_LEN_MAX - 1;
            result = reader.read(&mut Bytes::from(chunk));
            assert!(reader.buffered() <= UNFINISHED_LEN_MAX + HEADER_LEN_MAX);
        }
        assert_eq!(result, Err(ReadError::Unfinished));
        // Abort gives the room back.
        reader.abort(4);
        assert!(reader.unfinished <= MESSAGE_LEN_MAX + MESSAGE_LEN_MAX);
        reader.abort(5);
        reader.abort(6);
        assert_eq!(reader.buffered(), 0);
    }

    #[track_caller]
    fn check(input: &[u8], expected: &[(u32, &str)]) {
        for step in [1, 2, 3, 7, input.len()] {
            let mut reader = Reader::new(Limits::default());
            let mut found = Vec::new();
            for piece in input.chunks(step) {
                let mut piece = Bytes::copy_from_slice(piece);
                while let Some(message) = reader.read(&mut piece).unwrap() {
                    found.push((
                        message.timestamp_ms,
                        String::from_utf8_lossy(&message.payload).into_owned(),
                    ));
                }
            }
            let found: Vec<_> = found
                .iter()
                .map(|(time, text)| (*time, text.as_str()))
                .collect();
            assert_eq!(found, expected, "in steps of {step}");
            assert_eq!(reader.buffered(), 0);
        }
    }

    #[track_caller]
    fn check_error(input: &[u8], expected: ReadError) {
        let mut reader = Reader::new(Limits::default());
        assert_eq!(
            reader.read(&mut Bytes::copy_from_slice(input)),
            Err(expected)
        );
    }
}
