//! A small HTTP/1.1 server for tests of what looks at servers: it serves whatever a function answers.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A request; its body is not read.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// What stands in If-None-Match.
    pub(crate) known: Option<String>,
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// A body that is known, or one that comes in pieces.
pub(crate) enum Body {
    Whole(Vec<u8>),
    Pieces(Box<dyn Iterator<Item = Vec<u8>>>),
}

/// A running server; it ends with the test.
pub(crate) struct Origin {
    addr: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let addr = listener.local_addr().expect("it is bound");
        let stopped = Arc::<AtomicBool>::default();
        let (ended, answer) = (Arc::clone(&stopped), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let answer = Arc::clone(&answer);
                // A client that goes away is no concern of the server's.
                thread::spawn(move || serve(stream, &*answer).ok());
            }
        });
        Self { addr, stopped }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Whole(body.into()),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// An answer whose text is another.
pub(crate) fn edited(answer: Answer, edit: impl Fn(String) -> String) -> Answer {
    match answer.body {
        Body::Whole(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Answer {
                body: Body::Whole(edit(text).into()),
                ..answer
            },
            Err(error) => Answer {
                body: Body::Whole(error.into_bytes()),
                ..answer
            },
        },
        body => Answer { body, ..answer },
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Request) -> Answer) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            head.push(std::mem::take(&mut line));
        }
        let Some(first) = head.first() else {
            return Ok(());
        };
        let mut words = first.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let request = Request {
            method: word(),
            target: word(),
            known: head.iter().find_map(|line| {
                let tag = line.strip_prefix("If-None-Match: ")?;
                Some(tag.trim_end().to_owned())
            }),
        };
        write(stream.get_mut(), &request, answer(&request))?;
    }
}

fn write(stream: &mut TcpStream, request: &Request, answer: Answer) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match answer.body {
        Body::Whole(body) => {
            let head = format!("{head}content-length: {}\r\n\r\n", body.len());
            let body = if request.method == "HEAD" {
                vec![]
            } else {
                body
            };
            stream.write_all(&[head.into_bytes(), body].concat())
        }
        Body::Pieces(pieces) => {
            stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
            for piece in pieces {
                let size = format!("{:x}\r\n", piece.len());
                stream.write_all(&[size.as_bytes(), &piece, b"\r\n"].concat())?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
    }
}
