//! The client's side of a WebSocket, taking a server's messages apart where they lie.
//!
//! Owns: the upgrade request, the frames of a server (RFC 6455, 5.2), and the answers to its pings. Does not own: what
//! messages hold; the server's side is `weir_proto::websocket`.

/// Header lines that ask for an upgrade. The key is that of the RFC: it only proves that the server has understood.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Longest header of a server's frame, which has no mask.
const HEADER_LEN_MAX: usize = 10;
/// Longest payload of a control frame.
const CONTROL_LEN_MAX: u64 = 125;
/// Bits and codes of a header.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

/// The server broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket frame is damaged")]
pub struct Error;

/// What the front of the input holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of a data message.
    Data(&'a [u8]),
    /// A ping, and the pong to send for it.
    Ping(Vec<u8>),
    /// The server closes.
    Close,
}

/// Reads a server's frames, cut anywhere.
#[derive(Debug, Default)]
pub struct Reader {
    header: [u8; HEADER_LEN_MAX],
    header_len: usize,
    part: Part,
    /// Payload of the frame that is still to come.
    left: u64,
}

/// What the next byte belongs to.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Header,
    Data,
    /// With what has come of it.
    Ping(Vec<u8>),
    Pong,
    /// Nothing counts any more.
    Closed,
}

impl Reader {
    /// The next piece at the front of `input`; `None` when all of it is used.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Error> {
        while !input.is_empty() {
            if matches!(self.part, Part::Header) {
                self.read_header(input)?;
                if matches!(self.part, Part::Closed) {
                    return Ok(Some(Piece::Close));
                }
            }
            let payload = match self.part {
                Part::Header => continue,
                Part::Closed => std::mem::take(input),
                Part::Data | Part::Ping(_) | Part::Pong => self.split(input),
            };
            if let Part::Ping(ping) = &mut self.part {
                ping.extend_from_slice(payload);
            }
            let piece = match &self.part {
                Part::Data if !payload.is_empty() => Some(Piece::Data(payload)),
                Part::Ping(ping) if self.left == 0 => Some(Piece::Ping(pong(ping))),
                _ => None,
            };
            if self.left == 0 && !matches!(self.part, Part::Closed) {
                self.part = Part::Header;
            }
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// As much of the payload as is there.
    fn split<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let len = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let (piece, rest) = input.split_at(len);
        *input = rest;
        self.left -= len as u64;
        piece
    }

    /// Takes a byte of a header; once that is whole, the part is that of its payload.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        let Some((byte, rest)) = input.split_first() else {
            return Ok(());
        };
        *input = rest;
        let slot = self.header.get_mut(self.header_len).ok_or(Error)?;
        *slot = *byte;
        self.header_len += 1;
        let header = self.header.get(..self.header_len).unwrap_or_default();
        let &[first, second, ref len @ ..] = header else {
            return Ok(());
        };
        if first & RESERVED != 0 || second & MASKED != 0 {
            return Err(Error);
        }
        self.left = match (second, len) {
            (126, &[a, b]) => u16::from_be_bytes([a, b]).into(),
            (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            (126 | 127, _) => return Ok(()),
            (short, _) => short.into(),
        };
        self.header_len = 0;
        let is_control = first & FIN != 0 && self.left <= CONTROL_LEN_MAX;
        self.part = match first & 0x0F {
            0..=2 => Part::Data,
            OPCODE_PING if is_control => Part::Ping(Vec::new()),
            OPCODE_PONG if is_control => Part::Pong,
            OPCODE_CLOSE if is_control => Part::Closed,
            _ => return Err(Error),
        };
        Ok(())
    }
}

/// A client's frame has to be masked; a mask of zeros leaves the payload as it is.
fn pong(payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap_or(u8::MAX >> 1);
    [&[FIN | OPCODE_PONG, MASKED | len, 0, 0, 0, 0], payload].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_proto::websocket::{CloseCode, binary_header, close};

    use super::*;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        data: Vec<u8>,
        pongs: Vec<Vec<u8>>,
        closed: bool,
    }

    fn read(bytes: &[u8], piece_len: usize) -> Result<Seen, Error> {
        let (mut reader, mut seen) = (Reader::default(), Seen::default());
        for mut input in bytes.chunks(piece_len.max(1)) {
            while let Some(piece) = reader.next(&mut input)? {
                match piece {
                    Piece::Data(data) => seen.data.extend_from_slice(data),
                    Piece::Ping(pong) => seen.pongs.push(pong),
                    Piece::Close => seen.closed = true,
                }
            }
        }
        Ok(seen)
    }

    #[test]
    fn a_server_is_understood_however_its_frames_are_cut() {
        let mut bytes = Vec::new();
        let mut data = Vec::new();
        for len in [0, 5, 200, 70_000] {
            bytes.extend_from_slice(&binary_header(len));
            bytes.extend(vec![7; len]);
            data.extend(vec![7; len]);
        }
        bytes.extend([0x89, 2, b'h', b'i', 0x8A, 1, b'x', 0x89, 0]);
        bytes.extend_from_slice(&close(CloseCode::Normal));
        let pongs = vec![
            vec![0x8A, 0x82, 0, 0, 0, 0, b'h', b'i'],
            vec![0x8A, 0x80, 0, 0, 0, 0],
        ];
        for piece_len in [1, 2, 3, 7, 1_000, bytes.len()] {
            let seen = read(&bytes, piece_len).expect("it is whole");
            assert!(seen.data == data && seen.closed, "{piece_len}");
            assert_eq!(seen.pongs, pongs, "{piece_len}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        for bytes in [
            &[0xC2, 1, 0][..],
            &[0x82, 0x81, 0, 0, 0, 0, 0],
            &[0x83, 0],
            &[0x89, 126, 0, 126],
            &[0x09, 0],
        ] {
            assert_eq!(read(bytes, bytes.len()), Err(Error), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece_len in 1usize..64) {
            let _ = read(&bytes, piece_len);
        }
    }
}
