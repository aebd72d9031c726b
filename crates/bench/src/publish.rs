//! Publishing many streams over RTMP in real time.
//!
//! Owns: one task per stream that sends each frame when it is due, and how late they were. Does not own: what is sent
//! ([`crate::source`]), the protocol ([`weir_proto::rtmp::client`]).

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use weir_media::container::flv::TagKind;
use weir_proto::rtmp::client::{Client, Config, Event, Role};

use crate::{
    crew::Crew,
    histogram::{Histogram, Percentiles},
    load::{Error, NUMBER, rtmp_config},
    progress::Progress,
    socket::{self, Route, raise_descriptor_limit},
    source::{Play, Source},
    time_code,
};

/// How long a server may take to grant a stream.
const GRANT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often progress is shown.
const SECOND: Duration = Duration::from_secs(1);

/// What is published, and where to.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stream; with [`NUMBER`] in it there can be several.
    pub url: String,
    /// How many streams.
    pub streams: usize,
    /// For how long; none until Ctrl-C.
    pub duration: Option<Duration>,
    /// Threads; none for one on each core that we may use.
    pub threads: Option<usize>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Streams that were to be published.
    pub streams: usize,
    /// Streams that the server granted.
    pub granted: u64,
    /// Frames sent.
    pub frames: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// How late frames were handed to the system, milliseconds; more than some says that this side or the server was too
    /// slow.
    pub lateness_ms: Option<Percentiles>,
    /// Why streams failed, one line each.
    pub failures: Vec<String>,
}

/// What all streams of a thread add up to.
#[derive(Debug, Default)]
struct Sent {
    granted: u64,
    frames: u64,
    bytes: u64,
    lateness: Histogram,
    failures: Vec<String>,
}

/// Why a stream failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server did not grant the stream within {} s", GRANT_TIMEOUT.as_secs())]
    NoGrant,
    #[error("the server refused: {0} {1}")]
    Refused(String, String),
    #[error("the server ended the stream: {0}")]
    Ended(String),
    #[error("RTMP: {0}")]
    Rtmp(String),
}

/// Publishes as planned. Ctrl-C ends it.
///
/// # Errors
/// It cannot begin.
pub fn run(plan: &Plan, source: &Arc<Source>) -> Result<Summary, Error> {
    raise_descriptor_limit(plan.streams).map_err(Error::Descriptors)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    runtime.block_on(async {
        let configs = configs(plan)?;
        let Some(url) = configs.first().map(|config| config.url.clone()) else {
            return Err(weir_proto::rtmp::UrlError::Path.into());
        };
        let route = Route::new((url.host(), url.port()), configs.len(), &[]).await;
        let route = Arc::new(route.map_err(Error::Resolve)?);
        let count = plan
            .threads
            .unwrap_or(Crew::cores())
            .clamp(1, configs.len());
        let (mut crew, mut sent) = (Crew::new(), Vec::new());
        for index in 0..count {
            let mine = Arc::<Mutex<Sent>>::default();
            sent.push(Arc::clone(&mine));
            let configs = configs.iter().enumerate().skip(index).step_by(count);
            let publishers = configs.map(|(number, config)| Publisher {
                number,
                config: Arc::clone(config),
                route: Arc::clone(&route),
                play: source.play(),
                source: Arc::clone(source),
                sent: Arc::clone(&mine),
            });
            let work = publish_all(publishers.collect(), plan.streams, crew.over());
            crew.spawn(work).map_err(Error::Start)?;
        }
        wait(plan, &sent, &crew).await;
        let panicked = crew.end();
        Ok(sum(plan, &sent, panicked))
    })
}

fn configs(plan: &Plan) -> Result<Vec<Arc<Config>>, Error> {
    let is_numbered = plan.url.contains(NUMBER);
    let count = if is_numbered { plan.streams } else { 1 };
    (0..count)
        .map(|number| {
            let url = plan.url.replace(NUMBER, &number.to_string());
            rtmp_config(&url, Role::Publish).map(Arc::new)
        })
        .collect()
}

/// Shows progress until the time is over, every stream has failed, or Ctrl-C.
async fn wait(plan: &Plan, sent: &[Arc<Mutex<Sent>>], crew: &Crew) {
    let begin = Instant::now();
    let over = plan.duration.map(|duration| begin + duration);
    let progress = Progress::new();
    let mut bytes_before = 0;
    while !crew.has_ended() && over.is_none_or(|over| Instant::now() < over) {
        let second = Instant::now() + SECOND;
        tokio::select! {
            () = sleep_until(over.unwrap_or(second).min(second).into()) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        let (mut granted, mut bytes, mut failures) = (0, 0, 0);
        for sent in sent {
            let sent = sent.lock();
            granted += sent.granted;
            bytes += sent.bytes;
            failures += sent.failures.len();
        }
        progress.show(&format!(
            "{:>4.0} s  {granted} of {} streams granted  {:>7.1} Mbit/s  {failures} failed",
            begin.elapsed().as_secs_f64(),
            plan.streams,
            (bytes - bytes_before) as f64 * 8.0 / 1e6,
        ));
        bytes_before = bytes;
    }
    progress.clear();
}

fn sum(plan: &Plan, sent: &[Arc<Mutex<Sent>>], panicked: usize) -> Summary {
    let mut all = Sent::default();
    for sent in sent {
        let sent = sent.lock();
        all.granted += sent.granted;
        all.frames += sent.frames;
        all.bytes += sent.bytes;
        all.lateness.merge(&sent.lateness);
        all.failures.extend_from_slice(&sent.failures);
    }
    let panics = std::iter::repeat_n(
        "a thread of the load generator panicked".to_owned(),
        panicked,
    );
    all.failures.extend(panics);
    Summary {
        streams: plan.streams,
        granted: all.granted,
        frames: all.frames,
        bytes: all.bytes,
        lateness_ms: all.lateness.percentiles(),
        failures: all.failures,
    }
}

/// Runs the publishers of one thread, their beginnings spread over a second so that key frames do not coincide.
async fn publish_all(
    publishers: Vec<Publisher>,
    streams: usize,
    mut over: tokio::sync::watch::Receiver<bool>,
) {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for publisher in publishers {
        let share = publisher.number as f64 / streams.max(1) as f64;
        tasks.spawn(publisher.run(begin + SECOND.mul_f64(share)));
    }
    tokio::select! {
        () = async { while tasks.join_next().await.is_some() {} } => {}
        _ = over.changed() => {}
    }
}

/// One stream on its way.
struct Publisher {
    number: usize,
    config: Arc<Config>,
    route: Arc<Route>,
    source: Arc<Source>,
    play: Play,
    sent: Arc<Mutex<Sent>>,
}

impl Publisher {
    async fn run(mut self, at: Instant) {
        sleep_until(at.into()).await;
        if let Err(failure) = self.publish().await {
            let mut sent = self.sent.lock();
            sent.failures
                .push(format!("stream {}: {failure}", self.number));
        }
    }

    async fn publish(&mut self) -> Result<(), Failure> {
        let connected = self.route.connect(self.number).await;
        let mut socket = connected.map_err(Failure::Connect)?;
        let mut client = Client::new(Arc::clone(&self.config), self.number as u64, 0);
        let granted = async {
            while !client.has_role() {
                write(&mut client, &mut socket).await?;
                read(&mut client, &mut socket).await?;
            }
            Ok(())
        };
        timeout(GRANT_TIMEOUT, granted)
            .await
            .unwrap_or(Err(Failure::NoGrant))?;
        self.sent.lock().granted += 1;
        for (kind, body) in self.source.head() {
            match kind {
                TagKind::Script => client.write_metadata(0, &[body]),
                TagKind::Video => client.write_video(0, &[body]),
                TagKind::Audio => client.write_audio(0, &[body]),
            }
        }
        let begin = Instant::now();
        loop {
            let due = begin + Duration::from_micros(self.play.next_due_us());
            tokio::select! {
                biased;
                read = read(&mut client, &mut socket) => read?,
                () = sleep_until(due.into()) => self.send_due(&mut client, begin),
            }
            write(&mut client, &mut socket).await?;
        }
    }

    /// Hands everything that is due to the client.
    fn send_due(&mut self, client: &mut Client, begin: Instant) {
        let (now_us, wall_us) = (time_code::micros(begin.elapsed()), time_code::wall_us());
        let mut sent = self.sent.lock();
        while self.play.next_due_us() <= now_us {
            let late_us = now_us - self.play.next_due_us();
            let Some(due) = self.play.next(wall_us) else {
                return;
            };
            sent.lateness.record(Duration::from_micros(late_us));
            sent.frames += 1;
            sent.bytes += due
                .pieces
                .iter()
                .map(|piece| piece.len() as u64)
                .sum::<u64>();
            match due.kind {
                TagKind::Audio => client.write_audio(due.timestamp_ms, &due.pieces),
                TagKind::Video => client.write_video(due.timestamp_ms, &due.pieces),
                TagKind::Script => {}
            }
        }
    }
}

async fn write(client: &mut Client, socket: &mut TcpStream) -> Result<(), Failure> {
    if let Some(output) = client.poll_output() {
        socket.write_all(&output).await?;
    }
    Ok(())
}

/// Takes what the server has to say, which is nothing as long as all is well.
async fn read(client: &mut Client, socket: &mut TcpStream) -> Result<(), Failure> {
    let input = socket::read(socket, Bytes::copy_from_slice).await?;
    if input.is_empty() {
        return Err(Failure::Ended("it closed the connection".to_owned()));
    }
    client.handle_input(input);
    while let Some(event) = client
        .poll_event()
        .map_err(|error| Failure::Rtmp(error.to_string()))?
    {
        match event {
            Event::Refused { code, description } => {
                return Err(Failure::Refused(code, description));
            }
            Event::Ended { reason } => return Err(Failure::Ended(reason.to_string())),
            Event::Publishing
            | Event::Playing
            | Event::Media { .. }
            | Event::Metadata { .. }
            | Event::BadMetadata { .. } => {}
        }
    }
    Ok(())
}
