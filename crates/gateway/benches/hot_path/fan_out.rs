//! A picture's way from the publisher to the sockets of many viewers over HTTP-FLV.
//!
//! Owns: a gateway on one thread, so that the order of what happens is the same in every run, and viewers that keep their
//! connections open and never read: what is sent fits into the buffers of their sockets. Does not own: the cost of a
//! viewer that joins; all have joined before anything is counted.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream as ClientStream,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{net::TcpListener, runtime, sync::mpsc};
use weir_gateway::{
    Gateway, Limits,
    deliver::{
        self,
        hls::{Identity, Viewers},
    },
    derive::{
        Coalescing, Derived,
        hls::{Config, Outputs},
    },
    net::{client::TrustedProxies, http, tasks::Tasks},
    on_demand::OnDemand,
    read_cache::{self, ReadCache},
};
use weir_hub::{Grant, Hub, Join, LagLimit, Moment, Publisher, Request, Requests, Retention, Role};
use weir_media::{Input, Kind, SessionClock, StreamName};

use crate::{CONFIG, MANY, measured, media};

/// Pictures that are counted: with those before, half of what the sockets of a connection hold unread.
const PICTURES: i64 = 10;
/// Pictures before, from the key frame on: viewers join in the midst of them.
const PICTURES_BEFORE: i64 = 5;
/// Turns of the runtime in which a picture has come to everybody: three tasks, one after the other, of which the last
/// makes a pause after 64 viewers.
const TURNS: usize = 16;
/// Turns in which somebody who asks is answered, and has caught up.
const TURNS_TO_JOIN: usize = 256;
/// Nothing in here takes that long.
const NEVER: Duration = Duration::from_secs(3_600);
/// Bytes of an FLV tag around a picture: its header, the head of its body, its length again.
const TAG_LEN_AROUND: usize = 11 + 5 + 4;

/// Pictures to viewers who have caught up.
pub(crate) fn flv() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let stage = runtime.block_on(Stage::set());
    let sent_before = stage.sent();
    measured(&mut || {
        runtime.block_on(async {
            for n in PICTURES_BEFORE..PICTURES_BEFORE + PICTURES {
                stage.publish(n);
                turns(TURNS).await;
            }
        });
    });
    let sent = stage.sent() - sent_before;
    let tag_len = media::PICTURE_LEN + TAG_LEN_AROUND;
    let pictures = usize::try_from(PICTURES).expect("few");
    assert_eq!(
        sent,
        (tag_len * pictures * MANY) as u64,
        "all viewers have got all pictures"
    );
}

/// A stream and its viewers.
struct Stage {
    gateway: Gateway,
    publisher: Publisher,
    begun: Instant,
    /// Kept open.
    _clients: Vec<ClientStream>,
}

impl Stage {
    async fn set() -> Self {
        let (requests, pending) = Requests::channel();
        let gateway = gateway(requests);
        gateway.tasks.spawn(grant(pending));
        let begun = Instant::now();
        let name = StreamName::parse("demo").expect("a valid name");
        let clock = SessionClock::MS_32_BIT;
        let moment = Moment {
            at: begun,
            wall: media::wall(),
        };
        let publisher = gateway.hub.publish(&name, None, "bench", clock, moment);
        let mut stage = Self {
            publisher: publisher.expect("nobody else has the name"),
            gateway,
            begun,
            _clients: Vec::new(),
        };
        stage.push(
            0,
            Input::Declared {
                video: true,
                audio: false,
            },
        );
        stage.push(0, Input::Config(media::codec(Kind::Video)));
        stage.publish(0);
        stage._clients = stage.viewers().await;
        for n in 1..PICTURES_BEFORE {
            stage.publish(n);
            turns(TURNS_TO_JOIN).await;
        }
        stage
    }

    async fn viewers(&self) -> Vec<ClientStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let router = router(&self.gateway);
        let mut clients = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            let mut client = ClientStream::connect(addr).expect("it listens");
            let request = b"GET /live/demo.flv HTTP/1.1\r\nHost: weir\r\n\r\n";
            client.write_all(request).expect("it fits");
            let (socket, _) = listener.accept().await.expect("a connection");
            let (limits, tasks) = (self.gateway.limits, self.gateway.tasks.clone());
            let served = http::serve(socket, None, router.clone(), limits, tasks);
            self.gateway.tasks.spawn(served);
            client.set_nonblocking(true).expect("it is a socket");
            while client.read(&mut [0; 64]).is_err() {
                turns(1).await;
            }
            clients.push(client);
        }
        clients
    }

    fn publish(&self, n: i64) {
        let picture = media::picture(n);
        let input = Input::Frame {
            kind: Kind::Video,
            dts: self.at_ms(n),
            composition: 0,
            sync: picture.sync,
            payload: picture.payload,
        };
        self.push(n, input);
    }

    /// What happens when the nth picture is due.
    fn push(&self, n: i64, input: Input) {
        let run = Duration::from_millis(self.at_ms(n));
        let moment = Moment {
            at: self.begun + run,
            wall: media::wall() + run,
        };
        self.publisher.push(moment, input);
    }

    fn at_ms(&self, n: i64) -> u64 {
        n.unsigned_abs() * 1_000 / 30
    }

    /// Bytes that all viewers have got.
    fn sent(&self) -> u64 {
        let traffic = self.gateway.hub.sessions().traffic();
        let key = (Role::Play, deliver::progressive::FLV);
        traffic.get(&key).map_or(0, |sum| sum.bytes)
    }
}

/// Lets everybody else go on, so many times.
async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Lets everybody in.
async fn grant(mut pending: mpsc::Receiver<Request>) {
    while let Some(request) = pending.recv().await {
        let name = request.name.clone();
        request.decide(Ok(Grant { name, key: None }));
    }
}

fn gateway(requests: Requests) -> Gateway {
    let gop_cache = Retention {
        groups_max: 1,
        floor_ms: 3_000,
        span_ms_max: 20_000,
        bytes_max: 50 << 20,
    };
    Gateway {
        hub: Hub::new(weir_hub::Limits {
            streams_max: 1,
            publisher_grace: NEVER,
            gop_cache,
        }),
        requests,
        tasks: Tasks::default(),
        derived: Derived::new(Coalescing::default()),
        on_demand: OnDemand::new(None, NEVER),
        limits: Limits {
            handshake_timeout: NEVER,
            input_timeout: NEVER,
            write_stall_timeout: NEVER,
            keep_alive_timeout: NEVER,
            viewer_lag: LagLimit::RING,
            join: Join::NewestSync,
        },
    }
}

fn router(gateway: &Gateway) -> Router {
    let packaging = Config {
        packaging: CONFIG,
        low_latency: true,
        low_latency_except: Arc::default(),
    };
    let cache = ReadCache::new(read_cache::Limits {
        entries_max: 1,
        bytes_max: 0,
    });
    let outputs = Outputs::new(packaging, gateway.tasks.clone(), None, cache);
    let viewers = Viewers::new(Identity::Off, NEVER, TrustedProxies::default());
    deliver::router(deliver::hls::Context::new(
        gateway.clone(),
        outputs,
        viewers,
        0,
    ))
}
