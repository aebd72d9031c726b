//! Taking an FLV stream apart as it arrives.
//!
//! Owns: the file header and tag framing of input in pieces of any size. Does not own: tag bodies (see
//! [`super::parse_video`]) or time: timestamps are handed on as they are.

use bytes::{Buf, Bytes, BytesMut};

use super::{Error, FILE_HEADER_LEN, PREVIOUS_TAG_SIZE_LEN, TAG_HEADER_LEN, TagKind};

/// Longest tag body in bytes: the cap on an access unit, which a key frame of 8K does not reach.
pub const TAG_BODY_LEN_MAX: usize = 8 * 1024 * 1024;

/// How every stream starts: the letters and the version.
const SIGNATURE: &[u8] = b"FLV\x01";
/// Bit of a tag's first byte that says its body is encrypted.
const FILTER: u8 = 0x20;
/// Bits of a tag's first byte that hold its type.
const TAG_TYPE_MASK: u8 = 0x1F;

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it holds.
    pub kind: TagKind,
    /// Decoding time in milliseconds, all 32 bits of it; it may wrap.
    pub timestamp_ms: u32,
    /// The body, without headers.
    pub body: Bytes,
}

/// Reads tags from bytes as they arrive.
///
/// It buffers what was pushed and not yet returned, never more: call [`Self::next`] until it gives `None`
/// after each [`Self::push`], and at most one unfinished tag is kept.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    past_header: bool,
}

impl Reader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() {
            // Whole tags in one piece are then cut out of it without a copy.
            self.buffer = bytes.into();
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// The next whole tag, or `None` when more bytes are needed. Tags of unknown types are passed over, and so
    /// is every `PreviousTagSize`: writers get it wrong and it is needed only to read backwards.
    ///
    /// # Errors
    /// Every later call gives the same error: behind a broken tag no other can be found.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator ends, this waits for more bytes"
    )]
    pub fn next(&mut self) -> Result<Option<Tag>, Error> {
        if !self.past_header && !self.read_file_header()? {
            return Ok(None);
        }
        while let Some((tag_type, timestamp_ms, body)) = self.read_tag()? {
            if let Some(kind) = TagKind::from_number(tag_type) {
                return Ok(Some(Tag {
                    kind,
                    timestamp_ms,
                    body,
                }));
            }
        }
        Ok(None)
    }

    /// Whether the file header is behind the reader.
    fn read_file_header(&mut self) -> Result<bool, Error> {
        if self
            .buffer
            .iter()
            .zip(SIGNATURE)
            .any(|(byte, expected)| byte != expected)
        {
            return Err(Error::Signature);
        }
        let Some(&[_, _, _, _, _, a, b, c, d]) = self.buffer.first_chunk() else {
            return Ok(false);
        };
        let header_len = u32::from_be_bytes([a, b, c, d]);
        if header_len != u32::from(FILE_HEADER_LEN) {
            return Err(Error::HeaderLen(header_len));
        }
        let len = usize::from(FILE_HEADER_LEN) + PREVIOUS_TAG_SIZE_LEN;
        if self.buffer.len() < len {
            return Ok(false);
        }
        self.buffer.advance(len);
        self.past_header = true;
        Ok(true)
    }

    /// Type, timestamp and body of the next whole tag.
    fn read_tag(&mut self) -> Result<Option<(u8, u32, Bytes)>, Error> {
        let Some(&[first, l0, l1, l2, t0, t1, t2, t3, ..]) =
            self.buffer.first_chunk::<TAG_HEADER_LEN>()
        else {
            return Ok(None);
        };
        if first & FILTER != 0 {
            return Err(Error::Encrypted);
        }
        let len = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if len > TAG_BODY_LEN_MAX {
            return Err(Error::TagTooLong(len));
        }
        if self.buffer.len() < TAG_HEADER_LEN + len + PREVIOUS_TAG_SIZE_LEN {
            return Ok(None);
        }
        self.buffer.advance(TAG_HEADER_LEN);
        let body = self.buffer.split_to(len).freeze();
        self.buffer.advance(PREVIOUS_TAG_SIZE_LEN);
        Ok(Some((
            first & TAG_TYPE_MASK,
            u32::from_be_bytes([t3, t0, t1, t2]),
            body,
        )))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{file_header, put_tag},
        *,
    };

    fn stream(tags: &[Tag]) -> Bytes {
        let mut out = BytesMut::from(&file_header(true, true)[..]);
        for tag in tags {
            put_tag(&mut out, tag.kind, tag.timestamp_ms, &[&tag.body]);
        }
        out.freeze()
    }

    fn sample() -> Vec<Tag> {
        let tag = |kind, timestamp_ms, body: &'static [u8]| Tag {
            kind,
            timestamp_ms,
            body: body.into(),
        };
        vec![
            tag(TagKind::Script, 0, b"meta"),
            tag(TagKind::Video, 0x00FF_FFFF, &[0x17; 300]),
            tag(TagKind::Audio, 0x0100_0000, b""),
            tag(TagKind::Video, u32::MAX, b"last"),
        ]
    }

    fn read_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Tag>, Error> {
        let mut reader = Reader::new();
        let mut tags = Vec::new();
        for piece in pieces {
            reader.push(Bytes::copy_from_slice(piece));
            while let Some(tag) = reader.next()? {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    #[test]
    fn reads_the_same_tags_however_the_stream_is_split() {
        let whole = stream(&sample());
        assert_eq!(read_in_pieces([&whole[..]]), Ok(sample()));
        assert_eq!(read_in_pieces(whole.chunks(1)), Ok(sample()));
        for at in 0..=whole.len() {
            assert_eq!(
                read_in_pieces([&whole[..at], &whole[at..]]),
                Ok(sample()),
                "{at}"
            );
        }
    }

    #[test]
    fn unknown_tags_and_wrong_back_pointers_are_passed_over() {
        let mut bytes = stream(&sample()[..1]).to_vec();
        bytes.extend([15, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xAA, 9, 9, 9, 9]);
        bytes.extend(&stream(&sample()[1..])[13..]);
        assert_eq!(read_in_pieces([&bytes[..]]), Ok(sample()));
    }

    #[test]
    fn refuses_at_the_first_byte_that_is_wrong() {
        let check = |bytes: &[u8], expected: Error| {
            let mut reader = Reader::new();
            reader.push(Bytes::copy_from_slice(bytes));
            assert_eq!(reader.next(), Err(expected.clone()), "{bytes:?}");
            reader.push(Bytes::from_static(b"more"));
            assert_eq!(reader.next(), Err(expected), "{bytes:?}");
        };
        check(b"G", Error::Signature);
        check(b"FLV\x02", Error::Signature);
        check(b"FLV\x01\x05\xff\xff\xff\xff", Error::HeaderLen(u32::MAX));
        let header = file_header(true, true);
        check(
            &[&header[..], &[0x29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat(),
            Error::Encrypted,
        );
        let too_long = [9, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        check(
            &[&header[..], &too_long].concat(),
            Error::TagTooLong(TAG_BODY_LEN_MAX + 1),
        );
    }

    #[test]
    fn a_lying_length_takes_no_memory_until_the_bytes_come() {
        let mut reader = Reader::new();
        reader.push(Bytes::copy_from_slice(&file_header(true, true)));
        reader.push(Bytes::from_static(&[9, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        for _ in 0..100 {
            reader.push(Bytes::from_static(&[0; 10]));
            assert_eq!(reader.next(), Ok(None));
        }
        assert!(
            reader.buffer.capacity() < 8 * 1024,
            "{}",
            reader.buffer.capacity()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece_len in 1usize..64) {
            let _ = read_in_pieces(bytes.chunks(piece_len));
            let behind_header = [&file_header(true, true)[..], &bytes].concat();
            let in_pieces = read_in_pieces(behind_header.chunks(piece_len));
            prop_assert_eq!(in_pieces, read_in_pieces([&behind_header[..]]));
        }

        #[test]
        fn what_is_written_reads_back(
            tags in prop::collection::vec((0usize..3, any::<u32>(), any::<Vec<u8>>()), 0..6),
            piece_len in 1usize..200,
        ) {
            let kinds = [TagKind::Audio, TagKind::Video, TagKind::Script];
            let tags: Vec<_> = tags
                .into_iter()
                .map(|(kind, timestamp_ms, body)| Tag { kind: kinds[kind], timestamp_ms, body: body.into() })
                .collect();
            prop_assert_eq!(read_in_pieces(stream(&tags).chunks(piece_len)), Ok(tags));
        }
    }
}
