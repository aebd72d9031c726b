//! The chunk layer: messages cut into chunks and put together again.
//!
//! Owns: [`write_message`], which keeps no state, so that one encoding serves every player; the [`Reader`] with its
//! limits; the chunk stream ids this server sends on.
//! Does not own: what messages mean.
//! Specification: RTMP 5.3.

mod reader;

use bytes::{BufMut, BytesMut};

pub use reader::{
    CHUNK_STREAMS_MAX, Limits, MESSAGE_LEN_MAX, ReadError, Reader, UNFINISHED_LEN_MAX,
};

/// The chunk size before Set Chunk Size (RTMP 5.4.1), and the least that is sent or, by default, accepted: every
/// chunk costs a header, so tiny chunks are an attack on the CPU.
pub const CHUNK_SIZE_DEFAULT: usize = 128;
/// No message is longer than its 24-bit length, so no larger chunk size means anything.
pub const CHUNK_SIZE_MAX: usize = 0xFF_FFFF;
/// The chunk size this server announces to everyone: nearly every message is one chunk, and clients that keep the
/// size in 16 bits still work. All players share it, because they share the encoded bytes.
pub const CHUNK_SIZE_OUT: usize = 60_000;

/// Chunk stream of protocol control messages, fixed by RTMP 5.4.
pub const CSID_CONTROL: u32 = 2;
/// Chunk stream of commands and their results.
pub const CSID_COMMAND: u32 = 3;
/// Chunk stream of audio messages.
pub const CSID_AUDIO: u32 = 4;
/// Chunk stream of `onStatus` and data messages.
pub const CSID_DATA: u32 = 5;
/// Chunk stream of video messages.
pub const CSID_VIDEO: u32 = 6;

/// The message stream that every player plays on. It is part of the shared encoding.
pub const PLAY_STREAM_ID: u32 = 1;

/// In a timestamp field: the real value follows the header (RTMP 5.3.1.3).
const TIMESTAMP_EXTENDED: u32 = 0xFF_FFFF;

/// Appends one message whose body is the parts of `body` in turn. It begins with a type 0 header, so it depends on no
/// earlier message; an extended timestamp is repeated on every type 3 chunk, which FFmpeg insists on. `chunk_size`
/// below [`CHUNK_SIZE_DEFAULT`] counts as that. A body longer than [`CHUNK_SIZE_MAX`] cannot be expressed and writes
/// nothing.
pub fn write_message(
    out: &mut BytesMut,
    csid: u32,
    timestamp_ms: u32,
    type_id: u8,
    message_stream_id: u32,
    body: &[&[u8]],
    chunk_size: usize,
) {
    let len = body
        .iter()
        .fold(0usize, |len, part| len.saturating_add(part.len()));
    let Some(len_field) = u32::try_from(len).ok().filter(|_| len <= CHUNK_SIZE_MAX) else {
        return;
    };
    let chunk_size = chunk_size.max(CHUNK_SIZE_DEFAULT);
    let extended = (timestamp_ms >= TIMESTAMP_EXTENDED).then_some(timestamp_ms);
    out.reserve(len + 18 + len / chunk_size * 7);
    put_basic_header(out, 0, csid);
    out.put_uint(u64::from(timestamp_ms.min(TIMESTAMP_EXTENDED)), 3);
    out.put_uint(u64::from(len_field), 3);
    out.put_u8(type_id);
    out.put_u32_le(message_stream_id);
    put_extended(out, extended);
    let mut room = chunk_size;
    for part in body {
        let mut part = *part;
        while !part.is_empty() {
            if room == 0 {
                put_basic_header(out, 3, csid);
                put_extended(out, extended);
                room = chunk_size;
            }
            let (head, tail) = part.split_at(room.min(part.len()));
            out.put_slice(head);
            room -= head.len();
            part = tail;
        }
    }
}

/// RTMP 5.3.1.1: ids from 2 in one byte, from 64 in two, from 320 in three.
fn put_basic_header(out: &mut BytesMut, format: u8, csid: u32) {
    let format = format << 6;
    match (u8::try_from(csid), csid.checked_sub(64)) {
        (Ok(id), None) => out.put_u8(format | id),
        (_, Some(above)) => match u8::try_from(above) {
            Ok(above) => out.put_slice(&[format, above]),
            Err(_) => {
                out.put_u8(format | 1);
                out.put_u16_le(u16::try_from(above).unwrap_or(u16::MAX));
            }
        },
        // Below 64 always fits a byte.
        (Err(_), None) => {}
    }
}

fn put_extended(out: &mut BytesMut, extended: Option<u32>) {
    if let Some(timestamp) = extended {
        out.put_u32(timestamp);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::rtmp::message::Message;

    #[test]
    fn basic_headers_take_one_two_or_three_bytes() {
        for (csid, expected) in [
            (2, &[0x02][..]),
            (63, &[0x3F]),
            (64, &[0, 0]),
            (319, &[0, 255]),
            (320, &[1, 0, 1]),
            (65_599, &[1, 255, 255]),
        ] {
            let mut out = BytesMut::new();
            put_basic_header(&mut out, 0, csid);
            assert_eq!(out, expected, "{csid}");
        }
    }

    #[test]
    fn extended_timestamps_are_on_every_chunk() {
        let mut out = BytesMut::new();
        write_message(&mut out, 6, 0x0100_0000, 9, 1, &[&[7; 100], &[7; 200]], 128);
        let extended = [1, 0, 0, 0];
        let head = [6, 0xFF, 0xFF, 0xFF, 0, 1, 44, 9, 1, 0, 0, 0];
        let expected = [
            &head[..],
            &extended,
            &[7; 128],
            &[0xC6],
            &extended,
            &[7; 128],
            &[0xC6],
            &extended,
            &[7; 44],
        ];
        assert_eq!(out, expected.concat());

        // One millisecond earlier it fits the header.
        let mut out = BytesMut::new();
        write_message(&mut out, 6, 0xFF_FFFE, 9, 1, &[&[7; 129]], 128);
        assert_eq!(out.len(), 12 + 128 + 1 + 1);
    }

    #[test]
    fn never_sends_chunks_below_128_nor_impossible_messages() {
        let mut out = BytesMut::new();
        write_message(&mut out, 3, 0, 20, 0, &[&[0; 128]], 0);
        assert_eq!(out.len(), 12 + 128);
        let mut out = BytesMut::new();
        write_message(&mut out, 3, 0, 20, 0, &[&vec![0; CHUNK_SIZE_MAX + 1]], 0);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            messages in prop::collection::vec(
                (2u32..65_600, any::<u32>(), any::<u8>(), any::<u32>(), 0usize..700, 0usize..700),
                0..8,
            ),
            chunk_size in 128usize..400,
            step in 1usize..2000,
        ) {
            let mut out = BytesMut::new();
            let mut expected = Vec::new();
            for (csid, timestamp_ms, type_id, stream_id, first, second) in messages {
                let parts = [vec![1u8; first], vec![2; second]];
                write_message(
                    &mut out, csid, timestamp_ms, type_id, stream_id, &[&parts[0], &parts[1]], chunk_size,
                );
                let payload = Bytes::from(parts.concat());
                expected.push(Message { timestamp_ms, type_id, stream_id, payload });
            }
            let mut reader = Reader::new(Limits::default());
            reader.set_chunk_size(u32::try_from(chunk_size).unwrap()).unwrap();
            let mut found = Vec::new();
            let mut rest = out.freeze();
            while !rest.is_empty() {
                let mut piece = rest.split_to(step.min(rest.len()));
                while let Some(message) = reader.read(&mut piece).unwrap() {
                    found.push(message);
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(reader.buffered(), 0);
        }
    }
}
