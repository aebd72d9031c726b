//! Checking an FLV stream as it arrives, without keeping it.
//!
//! Owns: that every byte is where the format wants it (Adobe Flash Video File Format 10.1, annex E: file header, tag
//! headers, `PreviousTagSize`). It keeps the first bytes of a tag's body and passes over the rest, so that a viewer
//! costs some hundred bytes whatever the bit rate. Does not own: what the tags mean ([`crate::judge`]).

use weir_media::container::flv::{
    PREVIOUS_TAG_SIZE_LEN, TAG_BODY_LEN_MAX, TAG_HEADER_LEN, TagKind,
};

use crate::time_code;

/// Bytes of the file header with the `PreviousTagSize` behind it.
const FILE_HEADER_LEN: usize = 13;
/// Bytes kept of each body: the FLV header of a picture, a delimiter and the time code behind their lengths, and room
/// for a short unit that a server may have put before them.
pub const BODY_HEAD_LEN: usize = 5 + 4 + 2 + 4 + time_code::NAL_LEN + 61;
/// Bit of a tag's first byte that says its body is encrypted.
const FILTER: u8 = 0x20;

/// What is wrong with the bytes. Nothing behind it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a file header of version 1.
    #[error("the FLV header is damaged")]
    FileHeader,
    /// A tag of a type that is not defined, encrypted or with a stream id.
    #[error("a tag header is damaged")]
    TagHeader,
    /// A body longer than any picture.
    #[error("a tag claims {0} bytes")]
    TagTooLong(usize),
    /// `PreviousTagSize` is not that of the tag before it.
    #[error("a PreviousTagSize is wrong")]
    PreviousTagSize,
}

/// A tag that has arrived whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// What it holds.
    pub kind: TagKind,
    /// Decoding time in milliseconds, all 32 bits.
    pub timestamp_ms: u32,
    /// The first bytes of the body, at most [`BODY_HEAD_LEN`].
    pub head: &'a [u8],
}

/// Takes the stream apart.
#[derive(Debug)]
pub struct Checker {
    part: Part,
    /// The bytes of the part that have come, as far as they are kept.
    kept: [u8; BODY_HEAD_LEN],
    kept_len: usize,
    kind: TagKind,
    timestamp_ms: u32,
    body_len: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    FileHeader,
    TagHeader,
    /// With the bytes of the body that are still to come.
    Body(usize),
    /// With the first of its bytes, as many as have come.
    PreviousTagSize([u8; PREVIOUS_TAG_SIZE_LEN], usize),
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            part: Part::FileHeader,
            kept: [0; BODY_HEAD_LEN],
            kept_len: 0,
            kind: TagKind::Script,
            timestamp_ms: 0,
            body_len: 0,
        }
    }
}

impl Checker {
    /// Takes the next bytes, cut anywhere, and shows each tag once it is whole.
    ///
    /// # Errors
    /// The stream is damaged.
    pub fn read(&mut self, mut input: &[u8], mut on_tag: impl FnMut(Tag<'_>)) -> Result<(), Error> {
        while !input.is_empty() {
            match self.part {
                Part::FileHeader => {
                    if self.keep(&mut input, FILE_HEADER_LEN) {
                        self.check_file_header()?;
                        self.begin(Part::TagHeader);
                    }
                }
                Part::TagHeader => {
                    if self.keep(&mut input, TAG_HEADER_LEN) {
                        self.check_tag_header()?;
                        self.begin(Part::Body(self.body_len));
                    }
                }
                Part::Body(left) => {
                    let taken = left.min(input.len());
                    let mut body = take(&mut input, taken);
                    self.keep(&mut body, self.body_len.min(BODY_HEAD_LEN));
                    self.part = Part::Body(left - taken);
                }
                Part::PreviousTagSize(mut bytes, len) => {
                    let taken = input.len().min(bytes.len() - len);
                    let more = take(&mut input, taken);
                    for (slot, byte) in bytes.iter_mut().skip(len).zip(more) {
                        *slot = *byte;
                    }
                    self.part = Part::PreviousTagSize(bytes, len + taken);
                }
            }
            match self.part {
                Part::Body(0) => self.part = Part::PreviousTagSize([0; 4], 0),
                Part::PreviousTagSize(bytes, PREVIOUS_TAG_SIZE_LEN) => {
                    self.finish_tag(bytes, &mut on_tag)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the stream ends here without a torn tag.
    #[must_use]
    pub fn is_between_tags(&self) -> bool {
        self.part == Part::TagHeader && self.kept_len == 0
    }

    fn begin(&mut self, part: Part) {
        self.part = part;
        self.kept_len = 0;
    }

    /// Keeps bytes up to `len` of the part; whether they are all there.
    fn keep(&mut self, input: &mut &[u8], len: usize) -> bool {
        let taken = input.len().min(len - self.kept_len);
        let bytes = take(input, taken);
        if let Some(room) = self.kept.get_mut(self.kept_len..self.kept_len + taken) {
            room.copy_from_slice(bytes);
        }
        self.kept_len += taken;
        self.kept_len == len
    }

    fn check_file_header(&self) -> Result<(), Error> {
        match self.kept {
            [b'F', b'L', b'V', 1, _, 0, 0, 0, 9, 0, 0, 0, 0, ..] => Ok(()),
            _ => Err(Error::FileHeader),
        }
    }

    fn check_tag_header(&mut self) -> Result<(), Error> {
        let [first, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0, ..] = self.kept else {
            return Err(Error::TagHeader);
        };
        let known = TagKind::from_number(first).filter(|_| first & FILTER == 0);
        self.kind = known.ok_or(Error::TagHeader)?;
        self.timestamp_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        self.body_len = usize::from(l2) << 16 | usize::from(l1) << 8 | usize::from(l0);
        if self.body_len > TAG_BODY_LEN_MAX {
            return Err(Error::TagTooLong(self.body_len));
        }
        Ok(())
    }

    fn finish_tag(
        &mut self,
        size: [u8; PREVIOUS_TAG_SIZE_LEN],
        on_tag: &mut impl FnMut(Tag<'_>),
    ) -> Result<(), Error> {
        if u32::from_be_bytes(size) as usize != TAG_HEADER_LEN + self.body_len {
            return Err(Error::PreviousTagSize);
        }
        on_tag(Tag {
            kind: self.kind,
            timestamp_ms: self.timestamp_ms,
            head: self.kept.get(..self.kept_len).unwrap_or_default(),
        });
        self.begin(Part::TagHeader);
        Ok(())
    }
}

/// Takes bytes off the front of `input`, which has as many.
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(len).unwrap_or((*input, &[]));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use weir_media::container::flv::{file_header, put_tag};

    use super::*;

    type Seen = Vec<(TagKind, u32, Vec<u8>)>;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Seen, Error> {
        let (mut checker, mut seen) = (Checker::default(), Vec::new());
        for piece in pieces {
            checker.read(piece, |tag| {
                seen.push((tag.kind, tag.timestamp_ms, tag.head.to_vec()));
            })?;
        }
        Ok(seen)
    }

    fn sample() -> Vec<u8> {
        let mut out = BytesMut::from(&file_header(true, true)[..]);
        put_tag(&mut out, TagKind::Script, 0, &[b"meta"]);
        put_tag(&mut out, TagKind::Audio, 7, &[]);
        put_tag(&mut out, TagKind::Video, 0xFF00_0001, &[&[0x17; 1_000]]);
        out.to_vec()
    }

    fn expected() -> Seen {
        vec![
            (TagKind::Script, 0, b"meta".to_vec()),
            (TagKind::Audio, 7, Vec::new()),
            (TagKind::Video, 0xFF00_0001, vec![0x17; BODY_HEAD_LEN]),
        ]
    }

    #[test]
    fn sees_the_same_tags_however_the_stream_is_cut() {
        let whole = sample();
        for at in 0..=whole.len() {
            assert_eq!(read([&whole[..at], &whole[at..]]), Ok(expected()), "{at}");
        }
        assert_eq!(read(whole.chunks(1)), Ok(expected()));
    }

    #[test]
    fn knows_whether_a_tag_is_torn() {
        let whole = sample();
        let ends = [13, 13 + 19, 13 + 19 + 15, whole.len()];
        for at in 0..=whole.len() {
            let mut checker = Checker::default();
            checker
                .read(&whole[..at], |_| {})
                .expect("it is whole so far");
            assert_eq!(checker.is_between_tags(), ends.contains(&at), "{at}");
        }
    }

    #[test]
    fn every_damaged_length_is_found() {
        let check = |at: usize, byte: u8, expected: Error| {
            let mut bytes = sample();
            assert_ne!(bytes[at], byte);
            bytes[at] = byte;
            assert_eq!(read([&bytes[..]]), Err(expected), "{at}");
        };
        check(0, b'f', Error::FileHeader);
        check(3, 2, Error::FileHeader);
        check(8, 8, Error::FileHeader);
        check(12, 1, Error::FileHeader);
        check(13, 17, Error::TagHeader);
        check(13, 18 | FILTER, Error::TagHeader);
        check(23, 1, Error::TagHeader);
        check(16, 3, Error::PreviousTagSize);
        check(31, 14, Error::PreviousTagSize);
        check(14, 0x81, Error::TagTooLong(0x81_0004));
        // A byte that is lost moves everything behind it.
        let mut bytes = sample();
        bytes.remove(28);
        assert!(read([&bytes[..]]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, len in 1usize..64) {
            let behind_header = [&file_header(true, true)[..], &bytes].concat();
            prop_assert_eq!(read(behind_header.chunks(len)), read([&behind_header[..]]));
            let _ = read(bytes.chunks(len));
        }
    }
}
