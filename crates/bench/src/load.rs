//! Running many viewers: when each sets out, on which thread, and what is measured while they watch.
//!
//! Owns: threads with a runtime each (so that a viewer is never moved and its tally is never contended), the ramp, the
//! measured time, and one line of progress a second. Does not own: what a viewer does ([`crate::viewer`]) or how the
//! result is shown ([`crate::report`]).

use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime,
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep_until},
};
use weir_proto::rtmp::client::{Config, Role};

use crate::{
    crew::Crew,
    http,
    process::{Meter, Usage, machine_cpu_seconds},
    progress::Progress,
    shared::Shared,
    socket::{Route, raise_descriptor_limit},
    tally::Tally,
    viewer::{self, Address, Protocol, Seat},
};

/// What stands for the number of a stream in a URL.
pub const NUMBER: &str = "{n}";
/// How often the lag of a thread is measured.
const LAG_INTERVAL: Duration = Duration::from_millis(10);
/// How often progress is shown, and throughput noted.
const SECOND: Duration = Duration::from_secs(1);

/// What is to be watched, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What viewers speak.
    pub protocol: Protocol,
    /// The stream; with [`NUMBER`] in it, viewers take [`Self::streams`] streams in turn.
    pub url: String,
    /// How many streams there are.
    pub streams: usize,
    /// How many viewers.
    pub viewers: usize,
    /// The time over which they set out, one after the other.
    pub ramp: Duration,
    /// How long is measured behind the ramp.
    pub duration: Duration,
    /// Media that a viewer holds before it plays; none for what is usual with the protocol.
    pub buffer: Option<Duration>,
    /// How often viewers of RTMP and FLV read, but for a tenth of them that read at once and take the times; none if all
    /// read at once.
    pub round: Option<Duration>,
    /// Whether viewers of LL-HLS fetch media, and not only the playlist of pictures.
    pub fetches: bool,
    /// Threads; none for one on each core that we may use.
    pub threads: Option<usize>,
    /// Addresses that connections come from, in turn; none for the system's choice.
    pub sources: Vec<IpAddr>,
}

impl Plan {
    /// Connections at most.
    fn connections(&self) -> usize {
        let each = self.protocol.connections(self.fetches);
        self.viewers.saturating_mul(each)
    }
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of the protocol.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The URL is not one of RTMP.
    #[error(transparent)]
    Rtmp(#[from] weir_proto::rtmp::UrlError),
    /// RTMPS.
    #[error("rtmps:// is not spoken; use rtmp://")]
    Tls,
    /// The host has no address.
    #[error("cannot resolve the host: {0}")]
    Resolve(io::Error),
    /// The system does not allow so many connections.
    #[error("the system allows this process {0} connections (ulimit -Hn)")]
    Descriptors(usize),
    /// A process cannot be measured.
    #[error("cannot read the costs of the server from /proc: {0}")]
    Meter(io::Error),
    /// Threads or runtimes cannot be made.
    #[error("cannot start: {0}")]
    Start(io::Error),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What all viewers add up to.
    pub tally: Tally,
    /// The measured time, if the ramp came to its end.
    pub measured: Duration,
    /// Bytes of each second from the start.
    pub per_second: Vec<u64>,
    /// What the server cost in the measured time, and its greatest memory.
    pub server: Option<Usage>,
    /// What we cost ourselves.
    pub own: Usage,
    /// Cores that we may use.
    pub cores: usize,
    /// Processor time that the whole machine used in the measured time.
    pub machine_cpu_seconds: f64,
}

/// Watches as planned, and meters the server meanwhile. Ctrl-C ends it early.
///
/// # Errors
/// It cannot begin.
pub fn run(plan: &Plan, server: Option<&Meter>) -> Result<Outcome, Error> {
    raise_descriptor_limit(plan.connections()).map_err(Error::Descriptors)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    runtime.block_on(async {
        let crowd = Crowd::start(plan).await?;
        let mut watcher = Watcher::new(&crowd, plan, server)?;
        watcher.watch().await?;
        let (from, until) = watcher.marks()?;
        let (per_second, rss_max) = (watcher.per_second, watcher.rss_max);
        let server = from.server.zip(until.server);
        Ok(Outcome {
            measured: until.at - from.at,
            per_second,
            server: server.map(|(from, until)| until.since(from, rss_max)),
            own: until.own.since(from.own, until.own.rss_bytes),
            cores: crowd.cores,
            machine_cpu_seconds: until.machine_cpu_seconds - from.machine_cpu_seconds,
            tally: crowd.end(),
        })
    })
}

/// All threads with their viewers.
struct Crowd {
    begin: Instant,
    cores: usize,
    tallies: Vec<Arc<Mutex<Tally>>>,
    crew: Crew,
}

impl Crowd {
    async fn start(plan: &Plan) -> Result<Self, Error> {
        let addresses = addresses(plan)?;
        let Some((host, port)) = addresses.first().map(|address| address.host()) else {
            return Err(http::Error::Url.into());
        };
        let route = Route::new((&host, port), plan.connections(), &plan.sources).await;
        let route = Arc::new(route.map_err(Error::Resolve)?);
        let cores = Crew::cores();
        let shared = Arc::new(Shared::default());
        let mut crowd = Self {
            begin: Instant::now(),
            cores,
            tallies: Vec::new(),
            crew: Crew::new(),
        };
        let count = plan.threads.unwrap_or(cores).clamp(1, plan.viewers.max(1));
        for index in 0..count {
            let tally = Arc::new(Mutex::new(Tally::new()));
            let seats: Vec<_> = (index..plan.viewers)
                .step_by(count)
                .filter_map(|number| {
                    let round = plan.round.filter(|_| !viewer::is_witness(number));
                    let buffer = plan.buffer.unwrap_or(plan.protocol.usual_buffer());
                    Some(Seat {
                        number,
                        protocol: plan.protocol,
                        address: Arc::clone(addresses.get(number % addresses.len())?),
                        route: Arc::clone(&route),
                        // What waits for its round is there already.
                        buffer: buffer + round.unwrap_or_default(),
                        round,
                        fetches: plan.fetches,
                        tally: Arc::clone(&tally),
                        shared: Arc::clone(&shared),
                        over: crowd.crew.over(),
                    })
                })
                .collect();
            let pace = plan.ramp.div_f64(plan.viewers.max(1) as f64);
            crowd.tallies.push(Arc::clone(&tally));
            let work = seat_all(seats, crowd.begin, pace, tally, crowd.crew.over());
            crowd.crew.spawn(work).map_err(Error::Start)?;
        }
        Ok(crowd)
    }

    fn sum(&self) -> Tally {
        let mut sum = Tally::new();
        for tally in &self.tallies {
            sum.merge(&tally.lock());
        }
        sum
    }

    /// Bytes, viewers served and errors so far.
    fn glance(&self) -> (u64, u64, u64) {
        self.tallies
            .iter()
            .fold((0, 0, 0), |(bytes, served, errors), tally| {
                let tally = tally.lock();
                (
                    bytes + tally.counters.bytes,
                    served + tally.counters.viewers_served,
                    errors + tally.errors.values().sum::<u64>(),
                )
            })
    }

    fn measure(&self, measuring: bool) {
        for tally in &self.tallies {
            tally.lock().measuring = measuring;
        }
    }

    fn end(mut self) -> Tally {
        let panicked = self.crew.end();
        let mut sum = self.sum();
        for _ in 0..panicked {
            sum.error("a thread of the load generator panicked");
        }
        sum
    }
}

/// The addresses of the streams, in turn.
fn addresses(plan: &Plan) -> Result<Vec<Arc<Address>>, Error> {
    let count = if plan.url.contains(NUMBER) {
        plan.streams.max(1)
    } else {
        1
    };
    (0..count)
        .map(|number| {
            let url = plan.url.replace(NUMBER, &number.to_string());
            Address::parse(plan.protocol, &url).map(Arc::new)
        })
        .collect()
}

impl Address {
    fn parse(protocol: Protocol, url: &str) -> Result<Self, Error> {
        match protocol {
            Protocol::Rtmp => Ok(Self::Rtmp(Arc::new(rtmp_config(url, Role::Play)?))),
            Protocol::Flv | Protocol::WsFlv | Protocol::Hls | Protocol::LlHls | Protocol::Dash => {
                Ok(Self::Http(http::Url::parse(url)?))
            }
        }
    }

    fn host(&self) -> (String, u16) {
        match self {
            Self::Http(url) => (url.host().to_owned(), url.port()),
            Self::Rtmp(config) => (config.url.host().to_owned(), config.url.port()),
        }
    }
}

/// What a client of RTMP asks for.
pub(crate) fn rtmp_config(url: &str, role: Role) -> Result<Config, Error> {
    let url = weir_proto::rtmp::Url::parse(url)?;
    if url.is_tls() {
        return Err(Error::Tls);
    }
    Ok(Config::new(url, role))
}

/// Lets the viewers of one thread set out, each at its time, and waits for all of them.
async fn seat_all(
    seats: Vec<Seat>,
    begin: Instant,
    pace: Duration,
    tally: Arc<Mutex<Tally>>,
    mut over: watch::Receiver<bool>,
) {
    let watching = async {
        let mut tasks = JoinSet::new();
        for seat in seats {
            let at = begin + pace.mul_f64(seat.number as f64);
            tokio::select! {
                () = sleep_until(at.into()) => {}
                _ = over.changed() => break,
            }
            tasks.spawn(viewer::watch(seat));
            while let Some(ended) = tasks.try_join_next() {
                count_panic(&ended, &tally);
            }
        }
        while let Some(ended) = tasks.join_next().await {
            count_panic(&ended, &tally);
        }
    };
    tokio::select! {
        () = watching => {}
        () = probe_lag(&tally) => {}
    }
}

fn count_panic(ended: &Result<(), tokio::task::JoinError>, tally: &Mutex<Tally>) {
    if ended.is_err() {
        tally
            .lock()
            .error("a viewer of the load generator panicked");
    }
}

/// Measures for ever how late timers are: a thread that has too much to do comes to them late.
async fn probe_lag(tally: &Mutex<Tally>) {
    loop {
        let due = Instant::now() + LAG_INTERVAL;
        sleep_until(due.into()).await;
        tally.lock().lagged(due.elapsed());
    }
}

/// What is noted while viewers watch.
struct Watcher<'a> {
    crowd: &'a Crowd,
    plan: &'a Plan,
    server: Option<&'a Meter>,
    progress: Progress,
    per_second: Vec<u64>,
    rss_max: u64,
    /// When measuring began, and what had been used then.
    from: Option<Mark>,
    until: Option<Mark>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    server: Option<Usage>,
    own: Usage,
    machine_cpu_seconds: f64,
}

impl<'a> Watcher<'a> {
    fn new(crowd: &'a Crowd, plan: &'a Plan, server: Option<&'a Meter>) -> Result<Self, Error> {
        let mut watcher = Self {
            crowd,
            plan,
            server,
            progress: Progress::new(),
            per_second: Vec::new(),
            rss_max: 0,
            from: None,
            until: None,
        };
        watcher.mark()?;
        Ok(watcher)
    }

    fn mark(&mut self) -> Result<Mark, Error> {
        let server = self
            .server
            .map(Meter::read)
            .transpose()
            .map_err(Error::Meter)?;
        self.rss_max = server.map_or(0, |usage| usage.rss_bytes).max(self.rss_max);
        Ok(Mark {
            at: Instant::now(),
            server,
            own: Meter::of_ourselves().read().map_err(Error::Meter)?,
            machine_cpu_seconds: machine_cpu_seconds().map_err(Error::Meter)?,
        })
    }

    /// Looks once a second until the time is over, no viewer is left, or Ctrl-C.
    async fn watch(&mut self) -> Result<(), Error> {
        let begin = self.crowd.begin;
        let (ramped, over) = (
            begin + self.plan.ramp,
            begin + self.plan.ramp + self.plan.duration,
        );
        let mut seconds = interval_at((begin + SECOND).into(), SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bytes_before = 0;
        loop {
            let has_ramped = self.from.is_some();
            tokio::select! {
                () = sleep_until(ramped.into()), if !has_ramped => {
                    self.crowd.measure(true);
                    self.from = Some(self.mark()?);
                }
                () = sleep_until(over.into()) => break,
                _ = tokio::signal::ctrl_c() => break,
                _ = seconds.tick() => {
                    let (bytes, served, errors) = self.crowd.glance();
                    self.per_second.push(bytes - bytes_before);
                    let mark = self.mark()?;
                    self.progress.show(&format!(
                        "{:>4.0} s  {served} of {} viewers served  {:>7.1} Mbit/s  {errors} errors  server {} MB",
                        begin.elapsed().as_secs_f64(),
                        self.plan.viewers,
                        (bytes - bytes_before) as f64 * 8.0 / 1e6,
                        mark.server.map_or(0, |usage| usage.rss_bytes >> 20),
                    ));
                    bytes_before = bytes;
                    if self.crowd.crew.has_ended() {
                        break;
                    }
                }
            }
        }
        self.crowd.measure(false);
        self.until = Some(self.mark()?);
        self.progress.clear();
        Ok(())
    }

    /// The beginning and the end of the measured time, which are the same if it never began.
    fn marks(&mut self) -> Result<(Mark, Mark), Error> {
        let until = match self.until {
            Some(until) => until,
            None => self.mark()?,
        };
        Ok((self.from.unwrap_or(until), until))
    }
}
