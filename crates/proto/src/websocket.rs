//! WebSocket, the server side, as far as a stream of binary messages needs it (RFC 6455).
//!
//! Owns: the accept key, the header before each message of ours, and reading what a client sends: pings, the close,
//! and data, which is passed over. Does not own: the HTTP upgrade, and what the messages carry. The payload of a
//! message is never copied: a server's frames are not masked, so all viewers share it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest, Sha1};

/// What the key is joined with (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Length of the nonce that a client's key encodes (section 4.1).
const NONCE_LEN: usize = 16;
/// Longest payload of a control frame (section 5.5).
const CONTROL_LEN_MAX: usize = 125;
/// Data that a client may send in one frame. We need none; players send none.
const DATA_LEN_MAX: u64 = 64 << 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xA;

/// Status codes of a close frame (section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// The stream is over.
    Normal,
    /// The server goes away.
    GoingAway,
    /// The client broke the protocol.
    ProtocolError,
    /// The client sent more than a player has to say.
    TooBig,
}

impl CloseCode {
    const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::TooBig => 1009,
        }
    }
}

/// How a client breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A client must mask every frame (section 5.1).
    #[error("a WebSocket frame of the client is not masked")]
    Unmasked,
    /// Reserved bits or an unknown opcode, without an extension that gives them a meaning.
    #[error("a WebSocket frame starts with {0:#04x}, which has no meaning here")]
    Opcode(u8),
    /// A control frame that is fragmented or longer than 125 bytes (section 5.5).
    #[error("a WebSocket control frame is fragmented or too long")]
    Control,
    /// A data frame longer than a player has any use for.
    #[error("a WebSocket frame claims {0} bytes, more than {DATA_LEN_MAX}")]
    TooBig(u64),
}

impl Error {
    /// What to close with.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::TooBig(_) => CloseCode::TooBig,
            Self::Unmasked | Self::Opcode(_) | Self::Control => CloseCode::ProtocolError,
        }
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// To be answered with [`pong`] of the same payload.
    Ping(Bytes),
    /// To be answered with [`close`]; then the connection ends.
    Close,
}

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; none when the key is not 16 bytes in base64 (section 4.2.1).
#[must_use]
pub fn accept_key(key: &str) -> Option<String> {
    STANDARD
        .decode(key)
        .ok()
        .filter(|nonce| nonce.len() == NONCE_LEN)?;
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    Some(STANDARD.encode(digest))
}

/// The header before a binary message of `len` bytes (section 5.2).
#[must_use]
pub fn binary_header(len: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    put_header(&mut out, OPCODE_BINARY, len);
    out.freeze()
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    control(OPCODE_PONG, payload)
}

/// A close frame.
#[must_use]
pub fn close(code: CloseCode) -> Bytes {
    control(OPCODE_CLOSE, &code.number().to_be_bytes())
}

fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = payload.get(..CONTROL_LEN_MAX).unwrap_or(payload);
    let mut out = BytesMut::with_capacity(2 + payload.len());
    put_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

fn put_header(out: &mut BytesMut, opcode: u8, len: usize) {
    out.put_u8(FIN | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.put_u8(short),
        (_, Ok(medium)) => {
            out.put_u8(126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
}

/// Reads a client's frames, cut anywhere.
#[derive(Debug, Default)]
pub struct Reader {
    /// At most one header and one control payload.
    buffer: BytesMut,
    /// Bytes of a data frame still to be passed over.
    skip: u64,
}

/// The header of a client's frame: what it is, and where its payload begins.
struct Header {
    opcode: u8,
    mask: [u8; 4],
    len: u64,
    header_len: usize,
}

impl Reader {
    /// Takes the next bytes of the client and appends what they complete to `received`. After an error the connection
    /// is over.
    ///
    /// # Errors
    /// The client broke the protocol.
    pub fn read(&mut self, mut input: &[u8], received: &mut Vec<Received>) -> Result<(), Error> {
        while !input.is_empty() {
            let passed = usize::try_from(self.skip)
                .unwrap_or(usize::MAX)
                .min(input.len());
            self.skip -= passed as u64;
            input = input.get(passed..).unwrap_or_default();
            let Some((&byte, rest)) = input.split_first() else {
                break;
            };
            input = rest;
            self.buffer.put_u8(byte);
            self.step(received)?;
        }
        Ok(())
    }

    /// Looks whether the buffer holds a whole control frame, or the whole header of a data frame.
    fn step(&mut self, received: &mut Vec<Received>) -> Result<(), Error> {
        let Some(header) = parse_header(&self.buffer)? else {
            return Ok(());
        };
        if header.opcode < OPCODE_CLOSE {
            self.skip = header.len;
            self.buffer.clear();
            return Ok(());
        }
        let payload = self.buffer.get(header.header_len..).unwrap_or_default();
        if (payload.len() as u64) < header.len {
            return Ok(());
        }
        let payload: Vec<u8> = payload
            .iter()
            .zip(header.mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        match header.opcode {
            OPCODE_CLOSE => received.push(Received::Close),
            OPCODE_PING => received.push(Received::Ping(payload.into())),
            _ => {}
        }
        self.buffer.clear();
        Ok(())
    }
}

/// The header at the start of `bytes`; none while it is not whole.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Error> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let opcode = first & 0x0F;
    let known = matches!(opcode, 0..=OPCODE_BINARY | OPCODE_CLOSE..=OPCODE_PONG);
    if first & RESERVED != 0 || !known {
        return Err(Error::Opcode(first));
    }
    if second & MASKED == 0 {
        return Err(Error::Unmasked);
    }
    let short = second & !MASKED;
    let is_control = opcode >= OPCODE_CLOSE;
    if is_control && (first & FIN == 0 || usize::from(short) > CONTROL_LEN_MAX) {
        return Err(Error::Control);
    }
    let (len, len_bytes) = match (short, rest) {
        (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
        (127, rest) => match rest.first_chunk::<8>() {
            Some(&len) => (u64::from_be_bytes(len), 8),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (short, _) => (u64::from(short), 0),
    };
    if len > DATA_LEN_MAX {
        return Err(Error::TooBig(len));
    }
    let Some(&mask) = rest
        .get(len_bytes..)
        .and_then(|rest| rest.first_chunk::<4>())
    else {
        return Ok(None);
    };
    Ok(Some(Header {
        opcode,
        mask,
        len,
        header_len: 2 + len_bytes + mask.len(),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned())
        );
        for key in [
            "",
            "c2hvcnQ=",
            "not base64!",
            "dGhlIHNhbXBsZSBub25jZQ==\r\nX: y",
        ] {
            assert_eq!(accept_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn lengths_take_one_three_or_nine_bytes() {
        for (len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(binary_header(len)[..], *expected, "{len}");
        }
        assert_eq!(close(CloseCode::GoingAway)[..], [0x88, 2, 0x03, 0xE9]);
        assert_eq!(pong(b"abc")[..], *b"\x8A\x03abc");
    }

    #[test]
    fn a_client_is_understood_however_its_frames_are_cut() {
        let mut bytes = Vec::new();
        bytes.extend(frame(0x81, b"a text that is passed over"));
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x82, &[7; 300]));
        bytes.extend(frame(0x8A, b"pong"));
        bytes.extend(frame(0x88, &[0x03, 0xE8]));
        let expected = [Received::Ping(Bytes::from_static(b"ping")), Received::Close];
        for cut in 0..=bytes.len() {
            let (mut reader, mut received) = (Reader::default(), Vec::new());
            let (before, after) = bytes.split_at(cut);
            reader.read(before, &mut received).unwrap();
            reader.read(after, &mut received).unwrap();
            assert_eq!(received, expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let check = |bytes: &[u8], expected: Error| {
            assert_eq!(
                Reader::default().read(bytes, &mut Vec::new()),
                Err(expected),
                "{bytes:02x?}"
            );
        };
        check(&[0x82, 0x01], Error::Unmasked);
        check(&[0xC2, 0x81], Error::Opcode(0xC2));
        check(&[0x83, 0x81], Error::Opcode(0x83));
        check(&[0x09, 0x81], Error::Control);
        check(&[0x89, 0xFE], Error::Control);
        check(&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1], Error::TooBig(65_537));
        check(
            &[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            Error::TooBig(u64::MAX),
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_neither_panic_nor_pile_up(bytes: Vec<u8>, cut in 0_usize..64) {
            let (mut reader, mut received) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(cut + 1) {
                if reader.read(piece, &mut received).is_err() {
                    break;
                }
                prop_assert!(reader.buffer.len() <= 14 + CONTROL_LEN_MAX);
            }
        }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut out = BytesMut::new();
        put_header(&mut out, first & 0x0F, payload.len());
        let mut bytes = out.to_vec();
        bytes[0] = first;
        bytes[1] |= MASKED;
        bytes.extend(mask);
        bytes.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }
}
