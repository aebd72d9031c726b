//! Viewers served together over real sockets: what each gets, and when it gets itself back.

use std::time::{Duration, Instant, SystemTime};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use weir_hub::{Feed, Join, Retention, Role, Sessions};
use weir_media::{Anchor, StreamName};

use super::*;

/// More than the sockets of a connection over loopback hold.
const TOO_MUCH: usize = 16 << 20;

struct Bench {
    feed: Arc<Feed<Shared>>,
    fanout: Arc<Fanout>,
    tasks: Tasks,
    sessions: Arc<Sessions>,
    epoch: Arc<Epoch>,
}

/// A viewer, and the other end of its connection.
struct Viewer {
    link: Arc<Link>,
    session: weir_hub::Session,
    cursor: Cursor<Shared>,
    client: TcpStream,
}

impl Bench {
    fn new() -> Self {
        let retention = Retention {
            groups_max: 100,
            floor_ms: 60_000,
            span_ms_max: 60_000,
            bytes_max: 256 << 20,
        };
        let tasks = Tasks::default();
        Self {
            feed: Feed::new(retention),
            fanout: Fanout::new(tasks.clone()),
            tasks,
            sessions: Arc::default(),
            epoch: epoch(0),
        }
    }

    fn push(&self, epoch: &Arc<Epoch>, bytes: &[u8]) {
        self.feed.push([Shared {
            bytes: Bytes::copy_from_slice(bytes),
            at_ms: 0,
            sync: true,
            epoch: Arc::clone(epoch),
        }]);
    }

    async fn viewer(&self, framing: Framing) -> Viewer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(addr).await.expect("it listens");
        let (socket, _) = listener.accept().await.expect("a connection");
        let name = StreamName::parse("demo").expect("valid");
        let session = self.sessions.open(Role::Play, "test", name, Instant::now());
        Viewer {
            link: Link::new(Arc::new(socket), framing, session.meter()),
            session,
            cursor: self.feed.cursor(Join::NewestSync, LagLimit::RING),
            client,
        }
    }

    /// Lets a viewer be served from `place` on.
    fn enter(&self, viewer: &Viewer, place: u64) -> Served {
        let epoch = Arc::clone(&self.epoch);
        let (link, cursor) = (&viewer.link, &viewer.cursor);
        self.fanout
            .enter(link, cursor, place, epoch, LagLimit::RING)
    }

    /// Waits until no shard has a task.
    async fn rests(&self) {
        while self.tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Viewer {
    async fn receives(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        self.client
            .read_exact(&mut received)
            .await
            .expect("it comes");
        assert_eq!(received, expected);
    }
}

fn epoch(index: u32) -> Arc<Epoch> {
    let anchor = Anchor {
        media_us: 0,
        wall: SystemTime::UNIX_EPOCH,
    };
    Arc::new(Epoch {
        index,
        anchor,
        gap_us: 0,
        tracks: Vec::new(),
    })
}

#[tokio::test]
async fn everybody_gets_everything_once_wherever_it_joins() {
    let bench = Bench::new();
    bench.push(&bench.epoch, b"zero ");
    let (mut first, mut second) = (
        bench.viewer(Framing::Bare).await,
        bench.viewer(Framing::Bare).await,
    );
    let _first = bench.enter(&first, 1);
    bench.push(&bench.epoch, b"one ");
    first.receives(b"one ").await;
    // It has read more than the shard by itself, as when the two race.
    let _second = bench.enter(&second, 3);
    bench.push(&bench.epoch, b"two ");
    first.receives(b"two ").await;
    bench.push(&bench.epoch, b"three");
    first.receives(b"three").await;
    second.receives(b"three").await;
    assert_eq!(bench.tasks.running(), 1, "few viewers are one shard");
    let sent = bench.sessions.traffic().into_values().map(|sum| sum.bytes);
    assert_eq!(sent.sum::<u64>(), 13 + 5);
}

#[tokio::test]
async fn who_joins_with_less_than_the_shard_has_read_catches_up_first() {
    let bench = Bench::new();
    let (mut first, second) = (
        bench.viewer(Framing::Bare).await,
        bench.viewer(Framing::Bare).await,
    );
    let _first = bench.enter(&first, 0);
    for item in [b"one", b"two"] {
        bench.push(&bench.epoch, item);
        first.receives(item).await;
    }
    let late = bench.enter(&second, 1);
    let returned = late.returned().await.expect("its socket is whole");
    assert_eq!((returned.place, returned.rest.remaining()), (1, 0));
}

#[tokio::test]
async fn who_takes_less_gets_itself_back_with_the_rest() {
    let bench = Bench::new();
    let mut viewer = bench.viewer(Framing::Bare).await;
    let served = bench.enter(&viewer, 0);
    let much: Vec<u8> = (0..TOO_MUCH).map(|at| (at / 251) as u8).collect();
    bench.push(&bench.epoch, &much);
    let returned = served.returned().await.expect("its socket is whole");
    assert_eq!(returned.place, 1);
    let left = returned.rest.remaining();
    assert!(left > 0 && left < TOO_MUCH, "{left}");
    viewer.receives(&much[..TOO_MUCH - left]).await;
    let mut rest = returned.rest;
    let rest = rest.copy_to_bytes(left);
    assert_eq!(rest, much[TOO_MUCH - left..]);
    bench.rests().await;
}

#[tokio::test]
async fn messages_are_framed_and_cut_anywhere() {
    let bench = Bench::new();
    let mut viewer = bench.viewer(Framing::WebSocket).await;
    let served = bench.enter(&viewer, 0);
    bench.push(&bench.epoch, b"media");
    viewer.receives(b"\x82\x05media").await;
    let much = vec![7; TOO_MUCH];
    bench.push(&bench.epoch, &much);
    let mut returned = served.returned().await.expect("its socket is whole");
    let left = returned.rest.remaining();
    let mut whole = websocket::binary_header(TOO_MUCH).to_vec();
    whole.extend_from_slice(&much);
    viewer.receives(&whole[..whole.len() - left]).await;
    assert_eq!(
        returned.rest.copy_to_bytes(left),
        whole[whole.len() - left..]
    );
}

#[tokio::test]
async fn another_epoch_and_the_end_are_for_each_alone() {
    let bench = Bench::new();
    let viewer = bench.viewer(Framing::Bare).await;
    let served = bench.enter(&viewer, 0);
    bench.push(&epoch(1), b"of another epoch");
    let returned = served.returned().await.expect("its socket is whole");
    assert_eq!(returned.place, 0, "nothing of it is written");
    let served = bench.enter(&viewer, 1);
    bench.feed.close();
    assert_eq!(served.returned().await.expect("as before").place, 1);
    bench.rests().await;
}

#[tokio::test]
async fn who_leaves_is_let_go() {
    let bench = Bench::new();
    let (viewer, other) = (
        bench.viewer(Framing::Bare).await,
        bench.viewer(Framing::Bare).await,
    );
    let served = bench.enter(&viewer, 0);
    assert_eq!(served.leave().await.expect("its socket is whole").place, 0);
    drop(bench.enter(&other, 0));
    bench.rests().await;
    assert_eq!(Arc::strong_count(&other.link), 1, "nobody writes to it");
    assert_eq!(
        bench
            .fanout
            .shards
            .iter()
            .map(|shard| shard.len.load(Ordering::Relaxed))
            .sum::<usize>(),
        0
    );
    assert!(!viewer.session.is_killed());
}

#[tokio::test]
async fn a_broken_connection_is_said() {
    let bench = Bench::new();
    let viewer = bench.viewer(Framing::Bare).await;
    let served = bench.enter(&viewer, 0);
    drop(viewer.client);
    let failed = async {
        loop {
            bench.push(&bench.epoch, b"media");
            let wait = tokio::time::timeout(Duration::from_millis(1), served.returned());
            if let Ok(returned) = wait.await {
                return returned;
            }
        }
    };
    assert!(failed.await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_viewers_are_spread_over_shards() {
    let bench = Bench::new();
    let mut viewers = Vec::new();
    for _ in 0..2 * SHARD_LEN_MIN {
        let viewer = bench.viewer(Framing::Bare).await;
        let served = bench.enter(&viewer, 0);
        viewers.push((viewer, served));
    }
    let lens = bench.fanout.shards.iter();
    let lens: Vec<usize> = lens
        .map(|shard| shard.len.load(Ordering::Relaxed))
        .collect();
    assert_eq!(lens.len(), 2);
    assert!(lens.iter().all(|&len| len >= SHARD_LEN_MIN / 2), "{lens:?}");
    bench.push(&bench.epoch, b"media");
    for (viewer, _) in &mut viewers {
        viewer.receives(b"media").await;
    }
}
