//! A viewer of FLV, over HTTP or in WebSocket messages.
//!
//! Owns: the request, and leading bytes from the socket to the judge without copying them. Does not own: the framings.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Error, Protocol, Seat};
use crate::{
    flv::{self, Checker},
    http::{self, Body, Head},
    judge::{Arrival, Judge},
    socket::{Inlet, Route},
    tally::Tally,
    websocket::{self, Piece},
};

/// The only statuses that begin a stream.
const OK: u16 = 200;
const SWITCHING_PROTOCOLS: u16 = 101;

/// One viewer.
pub(super) struct Viewer {
    number: usize,
    is_websocket: bool,
    route: Arc<Route>,
    round: Option<Duration>,
    tally: Arc<Mutex<Tally>>,
    state: State,
}

/// What is kept between two reads.
struct State {
    /// The head of the response, until it is whole.
    head: Vec<u8>,
    framing: Option<Framing>,
    checker: Checker,
    judge: Judge,
    /// What has to be sent.
    answer: Vec<u8>,
}

/// What the FLV bytes are packed in.
enum Framing {
    Http(Body),
    WebSocket(websocket::Reader),
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        Self {
            number: seat.number,
            is_websocket: seat.protocol == Protocol::WsFlv,
            route: Arc::clone(&seat.route),
            round: seat.round,
            tally: Arc::clone(&seat.tally),
            state: State::new(seat.judge(asked)),
        }
    }

    /// Plays until the server ends it.
    pub(super) async fn watch(&mut self, url: &http::Url) -> Result<(), Error> {
        let connected = self.route.connect(self.number).await;
        let mut inlet = Inlet::Eager(connected.map_err(Error::Connect)?);
        let headers = if self.is_websocket {
            websocket::UPGRADE
        } else {
            ""
        };
        inlet.write_all(url.get(headers).as_bytes()).await?;
        loop {
            let (state, tally, is_websocket) = (&mut self.state, &self.tally, self.is_websocket);
            let read = inlet.read(|bytes| {
                let mut tally = tally.lock();
                tally.read(bytes.len());
                let taken = state.receive(bytes, is_websocket, &mut tally);
                taken.map(|goes_on| bytes.is_empty() || !goes_on)
            });
            let is_end = read.await??;
            if !self.state.answer.is_empty() {
                let answer = std::mem::take(&mut self.state.answer);
                inlet.write_all(&answer).await?;
            }
            if is_end {
                return Ok(());
            }
            if self.state.judge.is_served()
                && let Some(every) = self.round.take()
            {
                inlet = inlet.slow_down(every)?;
            }
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let mut tally = self.tally.lock();
        self.state
            .judge
            .finish(Arrival::now().at, &mut tally.counters);
        if let Some(error) = error {
            tally.error(&error.to_string());
        }
    }
}

impl State {
    fn new(judge: Judge) -> Self {
        Self {
            head: Vec::new(),
            framing: None,
            checker: Checker::default(),
            judge,
            answer: Vec::new(),
        }
    }

    /// Takes bytes from the socket; whether more are to come.
    fn receive(
        &mut self,
        mut input: &[u8],
        is_websocket: bool,
        tally: &mut Tally,
    ) -> Result<bool, Error> {
        let now = Arrival::now();
        let framing = match &mut self.framing {
            Some(framing) => framing,
            None => {
                let Some(head) = Head::read(&mut self.head, &mut input)? else {
                    return Ok(true);
                };
                self.head = Vec::new();
                self.framing.insert(Framing::of(&head, is_websocket)?)
            }
        };
        let (checker, judge) = (&mut self.checker, &mut self.judge);
        let mut check = |bytes: &[u8]| {
            checker.read(bytes, |tag: flv::Tag<'_>| {
                judge.receive(now, tag.kind, tag.timestamp_ms, tag.head, tally);
            })
        };
        match framing {
            Framing::Http(body) => {
                while let Some(bytes) = body.next(&mut input)? {
                    check(bytes)?;
                }
                Ok(!body.has_ended())
            }
            Framing::WebSocket(reader) => {
                while let Some(piece) = reader.next(&mut input)? {
                    match piece {
                        Piece::Data(bytes) => check(bytes)?,
                        Piece::Ping(pong) => self.answer.extend_from_slice(&pong),
                        Piece::Close => return Ok(false),
                    }
                }
                Ok(true)
            }
        }
    }
}

impl Framing {
    fn of(head: &Head, is_websocket: bool) -> Result<Self, Error> {
        match (head.status, is_websocket) {
            (OK, false) => Ok(Self::Http(head.body)),
            (SWITCHING_PROTOCOLS, true) => Ok(Self::WebSocket(websocket::Reader::default())),
            (status, _) => Err(http::Error::Status(status).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    use bytes::BytesMut;
    use weir_media::container::flv::{TagKind, file_header, put_tag};

    use super::*;
    use crate::{
        shared::Shared,
        viewer::{self, Address},
    };

    /// More than two reads take, so that rounds have begun before the end.
    const PICTURES: u32 = 200;
    const PICTURE_LEN: usize = 4_000;
    const ROUND: Duration = Duration::from_millis(5);

    fn stream() -> Vec<u8> {
        let mut out = BytesMut::from(&file_header(true, true)[..]);
        put_tag(&mut out, TagKind::Video, 0, &[&[0x17, 0, 0, 0, 0, 1]]);
        for number in 0..PICTURES {
            let body = [&[0x17, 1, 0, 0, 0][..], &[7; PICTURE_LEN]].concat();
            put_tag(&mut out, TagKind::Video, 40 * number, &[&body]);
        }
        out.to_vec()
    }

    fn serve(listener: &TcpListener, stream: &[u8]) {
        let (mut socket, _) = listener.accept().expect("the viewer connects");
        let requests = BufReader::new(socket.try_clone().expect("it can be cloned"));
        let mut lines = requests.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.is_empty()), "a request has an end");
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        // A viewer that has found something wrong does not read on.
        let _ = socket.write_all(&[head, stream].concat());
    }

    /// What a viewer adds up of a stream.
    fn watch(stream: Vec<u8>, round: Option<Duration>) -> Tally {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = thread::spawn(move || serve(&listener, &stream));
        let url = format!("http://127.0.0.1:{port}/a.flv");
        let tally = Arc::new(Mutex::new(Tally::new()));
        tally.lock().measuring = true;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("it can be built");
        let (_over, is_over) = tokio::sync::watch::channel(false);
        runtime.block_on(async {
            let route = Route::new(("127.0.0.1", port), 1, &[]).await;
            viewer::watch(Seat {
                number: 1,
                protocol: Protocol::Flv,
                address: Arc::new(Address::Http(http::Url::parse(&url).expect("it is one"))),
                route: Arc::new(route.expect("an address needs no resolving")),
                buffer: Duration::ZERO,
                round,
                fetches: true,
                tally: Arc::clone(&tally),
                shared: Arc::new(Shared::default()),
                over: is_over,
            })
            .await;
        });
        server.join().expect("the server does not panic");
        tally.lock().clone()
    }

    #[test]
    fn a_stream_is_judged_alike_at_once_and_in_rounds() {
        for round in [None, Some(ROUND)] {
            let whole = watch(stream(), round);
            assert_eq!(whole.counters.frames, u64::from(PICTURES), "{round:?}");
            let errors: Vec<_> = whole.errors.keys().collect();
            assert_eq!(errors, ["the server ended the stream"], "{round:?}");

            let mut damaged = stream();
            let last = damaged.last_mut().expect("it is not empty");
            *last ^= 1;
            let seen = watch(damaged, round);
            assert_eq!(seen.counters.frames, u64::from(PICTURES) - 1, "{round:?}");
            let errors: Vec<_> = seen.errors.keys().collect();
            assert_eq!(errors, ["a PreviousTagSize is wrong"], "{round:?}");
        }
    }

    #[test]
    fn who_reads_in_rounds_takes_no_times() {
        let times = |round| watch(stream(), round).lateness.percentiles();
        let at_once = times(None).map(|lateness| lateness.count);
        assert_eq!(at_once, Some(PICTURES.into()));
        assert!(times(Some(ROUND)).is_none());
    }
}
