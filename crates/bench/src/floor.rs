//! The bare write loop: what it costs at least to hand the same bytes to as many sockets at the same cadence.
//!
//! Owns: one thread that answers viewers over HTTP-FLV and then does nothing but write, and the measurement of it with
//! the viewers of [`crate::load`] on the other cores. A server cannot do better without fewer or larger writes. Does not
//! own: what is written ([`crate::source`]).

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    net::listen,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use weir_media::container::flv::{TagKind, file_header, put_tag};

use crate::{
    load::{self, Error, Outcome, Plan},
    process::Meter,
    socket::raise_descriptor_limit,
    source::{Play, Source},
    time_code,
    viewer::Protocol,
};

/// What is sent before the stream.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n";
/// The end of a request's head.
const REQUEST_END: &[u8] = b"\r\n\r\n";
/// What a viewer that reads too slowly may be behind before it is dropped.
const BEHIND_LEN_MAX: usize = 8 << 20;
/// Viewers that may knock between two looks; Linux grants 4096 unless told otherwise.
const BACKLOG: i32 = 4_096;
/// Longest pause between two looks for new viewers.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How the bytes are written.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many viewers.
    pub viewers: usize,
    /// The time between two writes; zero for one write for each frame.
    pub cadence: Duration,
    /// How often viewers read; see [`Plan::round`].
    pub round: Option<Duration>,
    /// The time over which viewers set out.
    pub ramp: Duration,
    /// How long is measured behind it.
    pub duration: Duration,
}

/// Measures the loop: it gets the first core that we may use, the viewers get the others. The plan that was carried out
/// comes with the outcome.
///
/// # Errors
/// It cannot begin.
pub fn run(options: &Options, source: &Arc<Source>) -> Result<(Plan, Outcome), Error> {
    // Both ends of each connection are ours.
    raise_descriptor_limit(options.viewers.saturating_mul(2)).map_err(Error::Descriptors)?;
    let (first, others) = split_cores().map_err(Error::Start)?;
    let server = Server::start(Arc::clone(source), options.cadence, first).map_err(Error::Start)?;
    if let Some(others) = others {
        sched_setaffinity(None, &others).map_err(|errno| Error::Start(errno.into()))?;
    }
    let plan = Plan {
        protocol: Protocol::Flv,
        url: format!("http://{}/floor.flv", server.addr),
        streams: 1,
        viewers: options.viewers,
        ramp: options.ramp,
        duration: options.duration,
        buffer: Some(Protocol::Flv.usual_buffer() + options.cadence),
        round: options.round,
        fetches: true,
        threads: None,
        sources: Vec::new(),
    };
    let mut outcome = load::run(&plan, Some(&server.meter))?;
    // The loop is a thread of ours; what the viewers cost is the rest.
    if let Some(server) = outcome.server {
        outcome.own.cpu_seconds -= server.cpu_seconds;
    }
    Ok((plan, outcome))
}

/// The first core that we may use, and the others if there are any.
fn split_cores() -> io::Result<(CpuSet, Option<CpuSet>)> {
    let mut others = sched_getaffinity(None)?;
    let mut first = CpuSet::new();
    if let Some(core) = (0..CpuSet::MAX_CPU).find(|core| others.is_set(*core)) {
        first.set(core);
        others.unset(core);
    }
    Ok((first, Some(others).filter(|others| others.count() > 0)))
}

/// The loop on its thread, until it is dropped.
struct Server {
    addr: SocketAddr,
    meter: Meter,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(source: Arc<Source>, cadence: Duration, core: CpuSet) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // The library asks for fewer places than viewers may knock at once.
        listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let (metered, meter) = mpsc::sync_channel(1);
        let run = move || {
            let pinned = sched_setaffinity(None, &core);
            let meter = pinned
                .map(|()| Meter::of_this_thread())
                .map_err(io::Error::from);
            if metered.send(meter).is_ok() {
                Loop::new(listener, &source, cadence).run(&is_over);
            }
        };
        let thread = thread::Builder::new().name("floor".to_owned()).spawn(run)?;
        let meter = meter.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self {
            addr,
            meter,
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic has been reported on standard error.
            let _ = thread.join();
        }
    }
}

struct Loop {
    listener: TcpListener,
    cadence: Duration,
    play: Play,
    begin: Instant,
    begin_wall_us: u64,
    /// The response and all that stands before the first frame.
    head: Vec<u8>,
    viewers: Vec<Viewer>,
}

struct Viewer {
    socket: TcpStream,
    /// The request until it is whole; then nothing.
    request: Option<Vec<u8>>,
    /// Whether a key frame has come, so that it gets everything from there on.
    has_joined: bool,
    /// What the socket did not take.
    behind: Vec<u8>,
}

impl Loop {
    fn new(listener: TcpListener, source: &Arc<Source>, cadence: Duration) -> Self {
        let mut head = BytesMut::from(RESPONSE);
        head.extend_from_slice(&file_header(source.has_sound(), true));
        for (kind, body) in source.head() {
            put_tag(&mut head, kind, 0, &[body]);
        }
        Self {
            listener,
            cadence,
            play: source.play(),
            begin: Instant::now(),
            begin_wall_us: time_code::wall_us(),
            head: head.to_vec(),
            viewers: Vec::new(),
        }
    }

    fn run(mut self, over: &AtomicBool) {
        let mut next = self.next_write(Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            self.admit();
            let now = self.begin.elapsed();
            if now < next {
                thread::park_timeout((next - now).min(LOOK_INTERVAL));
            } else {
                self.write();
                next = self.next_write(next);
            }
        }
    }

    /// When to write after `last`.
    fn next_write(&self, last: Duration) -> Duration {
        if self.cadence.is_zero() {
            Duration::from_micros(self.play.next_due_us())
        } else {
            last + self.cadence
        }
    }

    /// Takes new viewers and reads requests.
    fn admit(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() && socket.set_nodelay(true).is_ok() {
                self.viewers.push(Viewer {
                    socket,
                    request: Some(Vec::new()),
                    has_joined: false,
                    behind: Vec::new(),
                });
            }
        }
        for viewer in &mut self.viewers {
            viewer.read_request();
        }
    }

    /// Writes everything that is due to everybody. Who joins gets the head and then all from a key frame on.
    fn write(&mut self) {
        let (mut before_key, mut from_key, mut has_key) = (BytesMut::new(), BytesMut::new(), false);
        let now_us = time_code::micros(self.begin.elapsed());
        while self.play.next_due_us() <= now_us {
            let sent_us = self.begin_wall_us + self.play.next_due_us();
            let Some(due) = self.play.next(sent_us) else {
                break;
            };
            has_key |= due.sync && due.kind == TagKind::Video;
            let out = if has_key {
                &mut from_key
            } else {
                &mut before_key
            };
            put_tag(out, due.kind, due.timestamp_ms, &due.pieces);
        }
        let joining = has_key.then(|| [&self.head[..], &from_key].concat());
        before_key.extend_from_slice(&from_key);
        self.viewers.retain_mut(|viewer| {
            if viewer.has_joined {
                return viewer.write(&before_key).is_ok();
            }
            match &joining {
                Some(bytes) if viewer.request.is_none() => {
                    viewer.has_joined = true;
                    viewer.write(bytes).is_ok()
                }
                _ => true,
            }
        });
    }
}

impl Viewer {
    fn read_request(&mut self) {
        let Some(request) = &mut self.request else {
            return;
        };
        let mut buffer = [0; 1_024];
        if let Ok(len) = self.socket.read(&mut buffer) {
            request.extend_from_slice(buffer.get(..len).unwrap_or_default());
            if request.ends_with(REQUEST_END) {
                self.request = None;
            }
        }
    }

    /// Writes what is left and then `bytes`, as far as the socket takes them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.behind.is_empty() {
            self.behind.extend_from_slice(bytes);
            let behind = std::mem::take(&mut self.behind);
            let taken = self.try_write(&behind)?;
            self.behind = behind.get(taken..).unwrap_or_default().to_vec();
        } else {
            let taken = self.try_write(bytes)?;
            self.behind
                .extend_from_slice(bytes.get(taken..).unwrap_or_default());
        }
        if self.behind.len() > BEHIND_LEN_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }
}
