//! A minimal HTTP/1.1 client: one request per connection, every byte of the answer in sight.

use std::{
    io::{self, BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

/// Names in lower case, and values.
type Headers = Vec<(String, String)>;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) status: u16,
    headers: Headers,
    pub(crate) body: Body,
}

/// A body as its framing delivers it.
#[derive(Debug)]
pub(crate) struct Body<S = BufReader<TcpStream>> {
    stream: S,
    framing: Framing,
}

/// A request that was sent and whose answer nobody has read yet.
#[derive(Debug)]
pub(crate) struct Pending {
    stream: BufReader<TcpStream>,
}

/// A connection for several requests, one after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked { left: u64, ended: bool },
    UntilClose,
}

/// `GET` of a path.
pub(crate) fn try_get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    request(addr, "GET", path, &[])
}

/// A request with further header lines.
pub(crate) fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Response> {
    let mut streaming = open(addr, method, path, headers)?;
    if method == "HEAD" {
        // Its headers describe the body of a GET. Whatever does follow them is in sight here.
        streaming.body.framing = Framing::UntilClose;
    }
    streaming.read_all()
}

/// A request whose answer may be endless.
pub(crate) fn open(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Streaming> {
    send(addr, method, path, headers)?.open()
}

/// A request whose answer may take its time.
pub(crate) fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Pending> {
    let mut stream = connect(addr)?;
    let headers = [&[("Connection", "close")], headers].concat();
    write_head(&mut stream, method, path, &headers)?;
    Ok(Pending { stream })
}

impl Pending {
    /// Whether anything of the answer is there, or the connection is closed.
    pub(crate) fn is_answered(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).expect("a socket option");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket option");
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The answer, read to its end.
    pub(crate) fn answer(self) -> io::Result<Response> {
        self.open()?.read_all()
    }

    fn open(mut self) -> io::Result<Streaming> {
        let (status, headers, framing) = read_head(&mut self.stream)?;
        let body = Body {
            stream: self.stream,
            framing,
        };
        Ok(Streaming {
            status,
            headers,
            body,
        })
    }
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: connect(addr)?,
        })
    }

    /// `GET` of a path; the connection stays open.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Response> {
        self.ask(path)?;
        self.answer()
    }

    /// `GET` of a path, without waiting for the answer.
    pub(crate) fn ask(&mut self, path: &str) -> io::Result<()> {
        write_head(&mut self.stream, "GET", path, &[])
    }

    /// The answer to what was asked.
    pub(crate) fn answer(&mut self) -> io::Result<Response> {
        let (status, headers, framing) = read_head(&mut self.stream)?;
        let mut body = Vec::new();
        Body {
            stream: &mut self.stream,
            framing,
        }
        .read_to_end(&mut body)?;
        Ok(Response {
            status,
            headers,
            body,
        })
    }
}

fn connect(addr: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

fn write_head(
    stream: &mut BufReader<TcpStream>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<()> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if headers.iter().all(|(name, _)| *name != "Host") {
        head.push_str("Host: weir\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.get_mut().write_all((head + "\r\n").as_bytes())
}

fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<(u16, Headers, Framing)> {
    let status = line(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| broken("no status line"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| broken("no header line"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let framing = if find(&headers, "transfer-encoding") == Some("chunked") {
        Framing::Chunked {
            left: 0,
            ended: false,
        }
    } else if let Some(length) = find(&headers, "content-length") {
        Framing::Length(length.parse().map_err(|_| broken("no content length"))?)
    } else {
        Framing::UntilClose
    };
    Ok((status, headers, framing))
}

impl Response {
    /// An answer that no server gave.
    pub(crate) fn new(status: u16, headers: Vec<(&str, String)>, body: Vec<u8>) -> Self {
        let owned = |(name, value): (&str, String)| (name.to_owned(), value);
        Self {
            status,
            headers: headers.into_iter().map(owned).collect(),
            body,
        }
    }

    /// The same with another value of a header, where it has one or not.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        let mut changed = self.without(name);
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    /// The same without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

impl Streaming {
    fn read_all(mut self) -> io::Result<Response> {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body)?;
        Ok(Response {
            status: self.status,
            headers: self.headers,
            body,
        })
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl<S: BufRead> Read for Body<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match &mut self.framing {
            Framing::UntilClose => return self.stream.read(buffer),
            Framing::Length(0) | Framing::Chunked { ended: true, .. } => return Ok(0),
            Framing::Chunked { left: 0, .. } => return self.next_chunk(buffer),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
        };
        let wanted = buffer
            .len()
            .min(usize::try_from(*left).unwrap_or(usize::MAX));
        let len = self.stream.read(&mut buffer[..wanted])?;
        if len == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= len as u64;
        if *left == 0 && matches!(self.framing, Framing::Chunked { .. }) {
            line(&mut self.stream)?;
        }
        Ok(len)
    }
}

impl<S: BufRead> Body<S> {
    fn next_chunk(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = line(&mut self.stream)?;
        let size = u64::from_str_radix(&size, 16).map_err(|_| broken("no chunk size"))?;
        if size == 0 {
            // No trailers follow ours: an empty line, then the end.
            line(&mut self.stream)?;
        }
        self.framing = Framing::Chunked {
            left: size,
            ended: size == 0,
        };
        self.read(buffer)
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.strip_suffix("\r\n")
        .map(str::to_owned)
        .ok_or_else(|| broken("no line end"))
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut matching = headers.iter().filter(|(known, _)| known == name);
    matching.next().map(|(_, value)| value.as_str())
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
