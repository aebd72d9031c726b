//! As much of an HTTP/1.1 client as a player needs, taking bodies apart where they lie.
//!
//! Owns: URLs, requests, the head of a response, and the framing of its body (RFC 9112, 6). Does not own: sockets, TLS,
//! or what a body holds.

use std::fmt;

/// Longest head of a response: servers send some hundred bytes.
const HEAD_LEN_MAX: usize = 16 << 10;
/// Longest line of a chunk's size or of a trailer.
const CHUNK_LINE_LEN_MAX: usize = 256;
/// What the client calls itself.
const USER_AGENT: &str = concat!("weir-bench/", env!("CARGO_PKG_VERSION"));

/// `http://host[:port]/path[?query]`, or the same with `ws`. `Debug` and `Display` leave out the query, which may hold a
/// key.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// `host` or `host:port`, as the `Host` header has it.
    authority: String,
    host: String,
    port: u16,
    /// From the first slash on.
    target: String,
}

/// Why something is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a URL of HTTP without TLS.
    #[error("the URL must be http://host[:port]/path (or ws://); TLS is not spoken")]
    Url,
    /// The head of the response is not one, or too long.
    #[error("the head of the response is damaged")]
    Head,
    /// Another status than what was hoped for.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The size of a chunk, or what should end one.
    #[error("a chunk of the response is damaged")]
    Chunk,
}

impl Url {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// It is not such a URL.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("ws://"))
            .ok_or(Error::Url)?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Url);
        }
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| Error::Url)?)
            }
            _ => (authority, 80),
        };
        let host = host
            .strip_prefix('[')
            .map_or(host, |host| host.trim_end_matches(']'));
        if host.is_empty() || authority.contains('@') {
            return Err(Error::Url);
        }
        Ok(Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            target: if target.is_empty() { "/" } else { target }.to_owned(),
        })
    }

    /// The URL that `reference` means on the page of this one (RFC 3986, 5.2, without dot segments in the middle).
    ///
    /// # Errors
    /// It leads to something that is not HTTP.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        if reference.contains("://") {
            return Self::parse(reference);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = if reference.starts_with('/') {
            reference.to_owned()
        } else {
            let mut folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut reference = reference;
            while let Some(rest) = reference.strip_prefix("../") {
                reference = rest;
                folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
            }
            format!("{folder}/{}", reference.trim_start_matches("./"))
        };
        Self::parse(&format!("http://{}{target}", self.authority))
    }

    /// The same with further parameters in the query, if there are any.
    #[must_use]
    pub fn with_query(&self, parameters: &str) -> Self {
        let mut url = self.clone();
        if !parameters.is_empty() {
            url.target
                .push(if url.target.contains('?') { '&' } else { '?' });
            url.target.push_str(parameters);
        }
        url
    }

    /// A host name or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 80 if none is given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// A GET for it, with further header lines, each with its line end.
    #[must_use]
    pub fn get(&self, headers: &str) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n{headers}\r\n",
            self.target, self.authority
        )
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "http://{}{path}", self.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// How the body is framed.
    pub body: Body,
    /// Whether the server closes the connection behind it.
    pub closes: bool,
}

impl Head {
    /// Collects a head in `head` from the front of `input`; `None` while it is not whole.
    ///
    /// # Errors
    /// It is not the head of a response.
    pub fn read(head: &mut Vec<u8>, input: &mut &[u8]) -> Result<Option<Self>, Error> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            head.push(*byte);
            if head.ends_with(b"\r\n\r\n") {
                let parsed = Self::parse(head);
                head.clear();
                return parsed.map(Some);
            }
            if head.len() >= HEAD_LEN_MAX {
                return Err(Error::Head);
            }
        }
        Ok(None)
    }

    fn parse(head: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(head).map_err(|_| Error::Head)?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.get(2..5)?.parse().ok())
            .ok_or(Error::Head)?;
        let (mut location, mut body) = (None, Body::UntilClose);
        let mut closes = text.starts_with("HTTP/1.0");
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("location") {
                location = Some(value.to_owned());
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Body::Chunked(Chunk::Size(0, 0));
            } else if name.eq_ignore_ascii_case("content-length") && body == Body::UntilClose {
                body = Body::Length(value.parse().map_err(|_| Error::Head)?);
            }
        }
        if status == 204 || status == 304 {
            body = Body::Length(0);
        }
        Ok(Self {
            status,
            location,
            body,
            closes,
        })
    }
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It ends with the connection.
    UntilClose,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Nothing.
    Ended,
}

/// Where in a chunked body the next byte lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In the line of a size: the size so far, and the characters of the line.
    Size(u64, usize),
    /// In the rest of that line.
    Extension(u64, usize),
    /// In the data, with so much to come.
    Data(u64),
    /// In the line end behind it.
    End,
    /// In the lines behind the last chunk: the characters of this one.
    Trailer(usize),
}

impl Body {
    /// The next piece of the body at the front of `input`; `None` when all of `input` is used or the body has ended.
    ///
    /// # Errors
    /// The framing is damaged.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
        while !input.is_empty() {
            match self {
                Self::Ended => return Ok(None),
                Self::UntilClose => return Ok(Some(std::mem::take(input))),
                Self::Length(left) => {
                    let piece = split(input, left);
                    if *left == 0 {
                        *self = Self::Ended;
                    }
                    return Ok(Some(piece).filter(|piece| !piece.is_empty()));
                }
                Self::Chunked(Chunk::Data(left)) => {
                    let piece = split(input, left);
                    if *left == 0 {
                        *self = Self::Chunked(Chunk::End);
                    }
                    return Ok(Some(piece));
                }
                Self::Chunked(chunk) => {
                    let Some((byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    match chunk.step(*byte)? {
                        Some(next) => *chunk = next,
                        None => *self = Self::Ended,
                    }
                }
            }
        }
        // A body of no bytes ends without any.
        if *self == Self::Length(0) {
            *self = Self::Ended;
        }
        Ok(None)
    }

    /// Whether the connection may be used for the next request.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Ended | Self::Length(0))
    }
}

impl Chunk {
    /// What follows `byte`, which is not data; nothing behind the last trailer.
    fn step(self, byte: u8) -> Result<Option<Self>, Error> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Ok(Some(match (self, byte) {
            (Self::Size(_, CHUNK_LINE_LEN_MAX) | Self::Extension(_, CHUNK_LINE_LEN_MAX), _)
            | (Self::Trailer(CHUNK_LINE_LEN_MAX), _) => return Err(Error::Chunk),
            (Self::Size(size, 1..) | Self::Extension(size, _), b'\n') => match size {
                0 => Self::Trailer(0),
                size => Self::Data(size),
            },
            (Self::Size(size, len @ 1..), b';' | b'\r' | b' ') => Self::Extension(size, len + 1),
            (Self::Size(size, len), _) => {
                let digit = digit.ok_or(Error::Chunk)?;
                let size = size.checked_mul(16).ok_or(Error::Chunk)?;
                Self::Size(size | digit, len + 1)
            }
            (Self::Extension(size, len), _) => Self::Extension(size, len + 1),
            (Self::End, b'\r') => Self::End,
            (Self::End, b'\n') => Self::Size(0, 0),
            (Self::Trailer(0), b'\n') => return Ok(None),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(len), b'\r') => Self::Trailer(len),
            (Self::Trailer(len), _) => Self::Trailer(len + 1),
            (Self::End | Self::Data(_), _) => return Err(Error::Chunk),
        }))
    }
}

/// Takes as much of `left` off the front of `input` as is there.
fn split<'a>(input: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let len = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(input.len());
    let (piece, rest) = input.split_at(len);
    *input = rest;
    *left -= len as u64;
    piece
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_urls_apart() {
        for (url, host, port, target) in [
            ("http://h/live/a.flv", "h", 80, "/live/a.flv"),
            ("http://127.0.0.1:8080/a?k=s", "127.0.0.1", 8080, "/a?k=s"),
            ("ws://[::1]:8080/a", "::1", 8080, "/a"),
            ("http://[::1]/a", "::1", 80, "/a"),
            ("http://h", "h", 80, "/"),
        ] {
            let parsed = Url::parse(url).expect(url);
            assert_eq!(
                (parsed.host(), parsed.port(), parsed.target()),
                (host, port, target)
            );
        }
        for url in [
            "",
            "https://h/",
            "h/a",
            "http:///a",
            "http://h:x/",
            "http://u:p@h/",
            "http://h/a b",
        ] {
            assert_eq!(Url::parse(url), Err(Error::Url), "{url}");
        }
        let secret = Url::parse("http://h/a?key=secret").expect("valid");
        assert_eq!(format!("{secret} {secret:?}"), "http://h/a Url(http://h/a)");
    }

    #[test]
    fn references_are_resolved() {
        let base = Url::parse("http://h:1/live/demo/index.m3u8?s=1").expect("valid");
        for (reference, expected) in [
            ("video/a.m4s", "/live/demo/video/a.m4s"),
            ("./a?b=/c", "/live/demo/a?b=/c"),
            ("../a", "/live/a"),
            ("../../../a", "/a"),
            ("/a", "/a"),
            ("http://other/a", "/a"),
        ] {
            assert_eq!(base.join(reference).expect(reference).target(), expected);
        }
    }

    /// The head, the body, and how many bytes lie behind it.
    fn read(bytes: &[u8], piece_len: usize) -> Result<(Head, Vec<u8>, usize), Error> {
        let (mut collected, mut head, mut out) = (Vec::new(), None::<Head>, Vec::new());
        let mut behind = 0;
        for mut piece in bytes.chunks(piece_len) {
            if head.is_none() {
                head = Head::read(&mut collected, &mut piece)?;
            }
            if let Some(head) = &mut head {
                while let Some(piece) = head.body.next(&mut piece)? {
                    out.extend_from_slice(piece);
                }
            }
            behind += piece.len();
        }
        Ok((head.ok_or(Error::Head)?, out, behind))
    }

    #[test]
    fn reads_bodies_however_they_are_framed_and_cut() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n";
        for (rest, body, ended) in [
            ("Content-Length: 5\r\n\r\nhello", "hello", true),
            ("content-length: 5\r\n\r\nhell", "hell", false),
            ("Content-Length: 0\r\n\r\n", "", true),
            ("\r\nhello", "hello", false),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
                "hello",
                true,
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n0a\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
                "0123456789",
                true,
            ),
            ("Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "hel", false),
        ] {
            let bytes = format!("{head}{rest}");
            for piece_len in 1..=bytes.len() {
                let (head, out, behind) = read(bytes.as_bytes(), piece_len).expect(rest);
                assert_eq!(
                    (&out[..], behind),
                    (body.as_bytes(), 0),
                    "{rest:?} {piece_len}"
                );
                assert_eq!(
                    (head.status, head.body.has_ended()),
                    (200, ended),
                    "{rest:?}"
                );
            }
        }
        let redirect = b"HTTP/1.0 302 Found\r\nLOCATION: /x?y\r\nContent-Length: 0\r\n\r\n";
        let (head, ..) = read(redirect, 7).expect("valid");
        assert_eq!((head.status, head.location.as_deref()), (302, Some("/x?y")));
    }

    #[test]
    fn what_is_not_a_response_is_refused() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (bytes, expected) in [
            ("SSH-2.0-x\r\n\r\n".to_owned(), Error::Head),
            ("HTTP/1.1 2\r\n\r\n".to_owned(), Error::Head),
            (
                "HTTP/1.1 200\r\nContent-Length: x\r\n\r\n".to_owned(),
                Error::Head,
            ),
            (
                format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_LEN_MAX)),
                Error::Head,
            ),
            (format!("{chunked}x\r\n"), Error::Chunk),
            (format!("{chunked}\r\n"), Error::Chunk),
            (format!("{chunked}2\r\nabc"), Error::Chunk),
            (format!("{chunked}fffffffffffffffff\r\n"), Error::Chunk),
            (
                format!("{chunked}1;{}", "x".repeat(CHUNK_LINE_LEN_MAX)),
                Error::Chunk,
            ),
        ] {
            assert_eq!(read(bytes.as_bytes(), 5), Err(expected), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece_len in 1usize..64) {
            let _ = read(&bytes, piece_len);
            let chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat();
            let _ = read(&chunked, piece_len);
        }
    }
}
