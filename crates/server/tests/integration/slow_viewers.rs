//! Viewers that are slow or never read: they cost others not one frame, and the server a bounded amount of memory
//! (FAULTS R3, F23, F24).

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{
    PATIENCE, Weir, http,
    rtmp::{Client, FlvNumbers},
    wait_until,
};

/// What is published: 4 Mbit/s in groups of a second.
const FRAME_MS: u32 = 40;
const GROUP_FRAMES: u32 = 25;
const FRAME_LEN: usize = 20_000;
/// What a viewer at half speed takes in [`SIP_INTERVAL`].
const SIP_LEN: usize = FRAME_LEN * 5 / 4;
const SIP_INTERVAL: Duration = Duration::from_millis(100);
/// Viewers that never read, half of them over each protocol.
const STUCK: usize = 200;
/// What the slow and the stuck may cost together beyond what the stream itself keeps (F24): each reads from shared
/// memory, so it is far below 200 times anything.
const GROWTH_MAX_KIB: u64 = 32 << 10;
/// How far behind the publisher a viewer may fall, in seconds (ten by default, which takes longer to show).
const LAG_LIMIT_S: &str = "3";
/// How far behind a viewer at half speed may be (F23): that, and what lies in the buffers of both ends.
const LATENESS_MAX: Duration = Duration::from_secs(3 + 3);

#[test]
fn e2e_r3_f23_f24_slow_and_stuck_viewers_cost_others_nothing() {
    let weir = Weir::start(
        "dev",
        &[
            ("WEIR_LIMITS_PUBLISHER_GRACE", "1"),
            ("WEIR_LIMITS_WRITE_STALL_TIMEOUT", "3"),
            ("WEIR_LIMITS_VIEWER_LAG", LAG_LIMIT_S),
            ("WEIR_HLS_PLAYLIST_SIZE", "3"),
        ],
    );
    let publisher = Publisher::start(&weir);
    weir.wait_until_live("numbers");
    let flv = watch_flv(weir.http_addr());
    let rtmp = watch_rtmp(weir.rtmp_addr());
    wait_until("the windows are full", PATIENCE, || {
        publisher.sent() > 12 * GROUP_FRAMES
    });
    let (memory, files) = (weir.rss_kib(), weir.open_files());

    let stuck: Vec<_> = (0..STUCK).map(|at| stuck_viewer(&weir, at)).collect();
    let slow: Vec<_> = (0..4)
        .map(|_| SlowViewer::start(weir.http_addr(), &publisher))
        .collect();
    wait_until("they watch", PATIENCE, || {
        viewers(&weir) == (STUCK + slow.len() + 2) as u64
    });
    let mut most = 0;
    let start = Instant::now();
    wait_until("those that never read are closed", PATIENCE, || {
        most = most.max(weir.rss_kib());
        viewers(&weir) == (slow.len() + 2) as u64 && start.elapsed() > Duration::from_secs(15)
    });
    let grown = most.saturating_sub(memory);
    println!(
        "{STUCK} viewers that never read and {} slow ones: {grown} KiB",
        slow.len()
    );
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    drop(stuck);

    for viewer in slow {
        println!(
            "a viewer at half speed: {:?} behind at most",
            viewer.judge()
        );
    }
    let sent = publisher.stop();
    for (protocol, seen) in [("HTTP-FLV", flv), ("RTMP", rtmp)] {
        let seen = seen
            .join()
            .expect("the viewer does not panic")
            .expect("the stream goes on to its end");
        let first = *seen.first().expect("frames");
        assert_eq!(first % GROUP_FRAMES, 0, "{protocol} starts at a key frame");
        let expected: Vec<_> = (first..sent).collect();
        assert!(
            seen == expected,
            "{protocol} lost frames: {} of {}",
            expected.len() - seen.len(),
            expected.len()
        );
    }
    wait_until("nobody watches", PATIENCE, || {
        weir.get("/health").text().contains("\"total_viewers\":0")
    });
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files
    });
    let log = weir.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.lines().count() < 60, "the log is flooded: {log}");
}

fn viewers(weir: &Weir) -> u64 {
    weir.stream("numbers")
        .map_or(0, |row| row["viewers"].as_u64().expect("a number"))
}

/// Publishes numbered frames at their pace, until it is stopped.
struct Publisher {
    sent: Arc<AtomicU32>,
    stopped: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Publisher {
    fn start(weir: &Weir) -> Self {
        let mut client = Client::publish(weir.rtmp_addr(), "numbers").expect("publish");
        let (sent, stopped) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (counter, stop) = (Arc::clone(&sent), Arc::clone(&stopped));
        let thread = thread::spawn(move || {
            client.video_config(1).expect("sent");
            let start = Instant::now();
            for number in 0.. {
                let at_ms = number * FRAME_MS;
                while let Some(early) =
                    Duration::from_millis(at_ms.into()).checked_sub(start.elapsed())
                    && !early.is_zero()
                {
                    thread::park_timeout(early);
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let sync = number % GROUP_FRAMES == 0;
                client
                    .video_frame(1, at_ms, sync, number, FRAME_LEN)
                    .expect("publishers never wait");
                counter.store(number + 1, Ordering::Relaxed);
            }
            client.half_close().expect("the server is there");
            client.until_closed().expect("the server takes everything");
        });
        Self {
            sent,
            stopped,
            thread,
        }
    }

    /// Frames sent so far.
    fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) -> u32 {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the publisher does not panic");
        self.sent.load(Ordering::Relaxed)
    }
}

type Seen = thread::JoinHandle<io::Result<Vec<u32>>>;

/// A good viewer: the numbers of all it gets.
fn watch_flv(addr: SocketAddr) -> Seen {
    let mut body = http::open(addr, "GET", "/live/numbers.flv", &[])
        .expect("an answer")
        .body;
    thread::spawn(move || {
        let (mut reader, mut seen) = (FlvNumbers::default(), Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            match body.read(&mut buffer)? {
                0 => return Ok(seen),
                len => seen.extend(reader.read(&buffer[..len])),
            }
        }
    })
}

fn watch_rtmp(addr: SocketAddr) -> Seen {
    let socket = TcpStream::connect_timeout(&addr, PATIENCE).expect("connects");
    let mut player = Client::play(socket, "numbers").expect("plays");
    thread::spawn(move || {
        let mut seen = Vec::new();
        while let Some(number) = player.next_number()? {
            seen.push(number);
        }
        Ok(seen)
    })
}

/// Connects with a small receive buffer, so that it is the server that has to wait.
fn narrow(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))
        .expect("a socket");
    socket
        .set_recv_buffer_size(32 << 10)
        .expect("a socket option");
    socket.connect(&addr.into()).expect("connects");
    socket.into()
}

/// Asks for the stream and never reads it.
fn stuck_viewer(weir: &Weir, at: usize) -> TcpStream {
    if at.is_multiple_of(2) {
        let player = Client::play(narrow(weir.rtmp_addr()), "numbers").expect("plays");
        player.socket().try_clone().expect("a descriptor")
    } else {
        let mut socket = narrow(weir.http_addr());
        socket
            .write_all(b"GET /live/numbers.flv HTTP/1.0\r\n\r\n")
            .expect("sent");
        socket
    }
}

/// Reads at half the bit rate.
struct SlowViewer {
    stopped: Arc<AtomicBool>,
    /// Each number, and how far behind the publisher it was.
    seen: Arc<Mutex<Vec<(u32, Duration)>>>,
    thread: thread::JoinHandle<()>,
}

impl SlowViewer {
    fn start(addr: SocketAddr, publisher: &Publisher) -> Self {
        let (stopped, seen) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let (stop, all, sent) = (
            Arc::clone(&stopped),
            Arc::clone(&seen),
            Arc::clone(&publisher.sent),
        );
        let mut socket = narrow(addr);
        // No chunks, so that the body is FLV as it is.
        socket
            .write_all(b"GET /live/numbers.flv HTTP/1.0\r\n\r\n")
            .expect("sent");
        let thread = thread::spawn(move || {
            let mut reader = FlvNumbers::default();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("a head");
                head.push(byte[0]);
            }
            let mut sip = vec![0; SIP_LEN];
            while !stop.load(Ordering::Relaxed) {
                socket.read_exact(&mut sip).expect("it is slow, not gone");
                for number in reader.read(&sip) {
                    let behind = sent.load(Ordering::Relaxed).saturating_sub(number);
                    let behind = Duration::from_millis((behind * FRAME_MS).into());
                    all.lock().expect("no panic").push((number, behind));
                }
                thread::park_timeout(SIP_INTERVAL);
            }
        });
        Self {
            stopped,
            seen,
            thread,
        }
    }

    /// It skipped, to key frames only, and was never too late; returns how late.
    fn judge(self) -> Duration {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the viewer does not panic");
        let seen = self.seen.lock().expect("no panic");
        let gaps: Vec<_> = seen
            .windows(2)
            .filter(|pair| pair[1].0 != pair[0].0 + 1)
            .collect();
        let latest = seen
            .iter()
            .map(|(_, behind)| *behind)
            .max()
            .expect("frames");
        assert!(!gaps.is_empty(), "half the bit rate cannot be enough");
        for gap in gaps {
            assert!(gap[1].0 > gap[0].0, "frames come twice: {gap:?}");
            assert_eq!(
                gap[1].0 % GROUP_FRAMES,
                0,
                "a gap ends at a key frame: {gap:?}"
            );
        }
        assert!(latest < LATENESS_MAX, "{latest:?} behind");
        latest
    }
}
