//! The bytes of parts on their way to somebody, wherever they are.
//!
//! Owns: joining parts that lie one behind the other, ranges of them, and whether the kernel sends what is in a file or
//! it is read. Does not own: the files ([`super::memory_file`]) or the sending ([`crate::net`]).

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use weir_package::keep::Content;

use super::memory_file::range_of;
use crate::net::{FileRange, Outbox, STAND_IN_LEN_MAX};

/// Bytes that are read at once: what a connection has room for.
const READ_LEN_MAX: u64 = 64 << 10;
/// From so many bytes on a file is sent; below, reading it and writing what was read costs the same or less.
const SEND_LEN_MIN: u64 = 16 << 10;

/// Bytes in their order.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Piece>,
    /// Of the connection that they go to, where it sends files.
    outbox: Option<Outbox>,
}

#[derive(Debug)]
enum Piece {
    Memory(Bytes),
    File(FileRange),
}

impl Pieces {
    /// None yet; `outbox` is that of the connection that they go to, if it sends files.
    pub(crate) fn new(outbox: Option<Outbox>) -> Self {
        Self {
            pieces: VecDeque::new(),
            outbox,
        }
    }

    /// Appends a part.
    pub(crate) fn push(&mut self, part: &Content) {
        let piece = match part {
            Content::Memory(bytes) => Piece::Memory(bytes.clone()),
            Content::Kept(kept) => {
                let range = range_of(kept);
                if let Some(Piece::File(last)) = self.pieces.back_mut()
                    && last.join(&range)
                {
                    return;
                }
                Piece::File(range)
            }
        };
        self.pieces.push_back(piece);
    }

    pub(crate) fn len(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.iter().all(|piece| piece.len() == 0)
    }

    /// Drops what is not in that range.
    pub(crate) fn select(&mut self, range: &Range<u64>) {
        let (mut skipped, mut left) = (range.start, range.end.saturating_sub(range.start));
        self.pieces.retain_mut(|piece| {
            skipped -= piece.split_to(skipped).len();
            *piece = piece.split_to(left);
            left -= piece.len();
            piece.len() > 0
        });
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(range) => range.len(),
        }
    }

    /// Takes off the first `len` bytes; all if it has fewer.
    fn split_to(&mut self, len: u64) -> Self {
        match self {
            Self::Memory(bytes) => {
                let len = usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()));
                Self::Memory(bytes.split_to(len))
            }
            Self::File(range) => Self::File(range.split_to(len)),
        }
    }
}

/// What is to be written: the bytes themselves, or without a copy what stands for them, if the connection sends files.
impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let first = self.pieces.front_mut()?;
            let next = match (&mut *first, &self.outbox) {
                (Piece::Memory(bytes), _) => Ok(std::mem::take(bytes)),
                (Piece::File(range), Some(outbox)) if range.len() >= SEND_LEN_MIN => {
                    Ok(outbox.put(range.split_to(STAND_IN_LEN_MAX as u64)))
                }
                (Piece::File(range), _) => range.split_to(READ_LEN_MAX).read(),
            };
            if first.len() == 0 {
                self.pieces.pop_front();
            }
            if !matches!(&next, Ok(bytes) if bytes.is_empty()) {
                return Some(next);
            }
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.next().map(|bytes| bytes.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}

#[cfg(test)]
mod tests {
    use weir_media::StreamName;
    use weir_package::keep::Keep as _;

    use super::{super::memory_file::MemoryFiles, *};

    #[test]
    fn every_range_of_several_parts() {
        let files = MemoryFiles::new(StreamName::parse("room").expect("valid"));
        let keep = |bytes| files.keep("video", 1, Bytes::from_static(bytes));
        let memory = |bytes| Content::Memory(Bytes::from_static(bytes));
        for (parts, expected) in [
            (
                [memory(b"abc"), memory(b""), memory(b"d"), memory(b"efgh")],
                3,
            ),
            ([keep(b"abc"), keep(b""), keep(b"d"), keep(b"efgh")], 1),
            ([keep(b"ab"), memory(b"cde"), keep(b"f"), keep(b"gh")], 3),
        ] {
            let mut whole = Pieces::new(None);
            parts.iter().for_each(|part| whole.push(part));
            assert_eq!(whole.len(), 8);
            for start in 0..=8 {
                for end in start..=8 {
                    let mut pieces = Pieces::new(None);
                    parts.iter().for_each(|part| pieces.push(part));
                    pieces.select(&(start as u64..end as u64));
                    assert_eq!(pieces.len(), (end - start) as u64);
                    assert_eq!(pieces.is_empty(), start == end);
                    let read: io::Result<Vec<_>> = pieces.collect();
                    let read = read.expect("it is there");
                    assert!(read.len() <= expected, "{start}..{end}: {read:?}");
                    assert_eq!(read.concat(), b"abcdefgh"[start..end], "{start}..{end}");
                }
            }
        }
    }

    #[test]
    fn what_is_long_is_read_bit_by_bit() {
        let files = MemoryFiles::new(StreamName::parse("room").expect("valid"));
        let part: Bytes = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
        let mut pieces = Pieces::new(None);
        for _ in 0..2 {
            pieces.push(&files.keep("video", 1, part.clone()));
        }
        let read: io::Result<Vec<_>> = pieces.collect();
        let read = read.expect("it is there");
        assert!(read.iter().all(|bytes| bytes.len() as u64 <= READ_LEN_MAX));
        assert!(read.concat() == [&part[..], &part].concat());
    }

    #[test]
    fn the_kernel_sends_what_is_long_and_in_a_file() {
        let files = MemoryFiles::new(StreamName::parse("room").expect("valid"));
        let (outbox, long) = (
            Outbox::default(),
            Bytes::from(vec![1; SEND_LEN_MIN as usize]),
        );
        for (part, is_sent) in [
            (files.keep("video", 1, long.clone()), true),
            (files.keep("video", 2, long.slice(1..)), false),
            (Content::Memory(long), false),
        ] {
            let mut pieces = Pieces::new(Some(outbox.clone()));
            pieces.push(&part);
            let bytes = pieces.next().expect("bytes").expect("they are there");
            assert_eq!(bytes.len(), part.len());
            assert_eq!(bytes[0] == 0, is_sent, "zeros stand for it");
            assert!(pieces.next().is_none());
        }
    }
}
