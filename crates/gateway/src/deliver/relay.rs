//! Streams pushed on to other servers over RTMP.
//!
//! Owns: one relay for each run and target, from the start of the run to its end: connecting, publishing, trying again
//! for ever, and what `/status` shows of it. A relay reads the frames of its run through a cursor, as viewers do: one
//! that is too slow skips to the newest key frame, and the source never waits.
//! Does not own: the protocol ([`weir_proto::rtmp::client`]) or the socket ([`crate::net::rtmp`]).
//!
//! A relay is no viewer: it has no row in the table of sessions, so that it neither counts as an audience nor keeps a
//! stream that was fetched on demand.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use weir_hub::{Feed, Hub, MediaItem, RunId, Stream};
use weir_media::{Epoch, StreamName, container::flv::TagKind};
use weir_package::flv;
use weir_proto::rtmp::{
    Url, UrlError,
    client::{Client, Config, EndReason, Event, Role},
};

use crate::{
    Gateway,
    net::{
        RETRY_MAX,
        dial::{self, CONNECT_TIMEOUT, Dialer},
        retry_wait,
        rtmp::{self, Connection},
    },
};

/// What stands for the stream's name in the URL of a target.
const NAME: &str = "{name}";

/// Where streams are pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `None` for every stream.
    stream: Option<StreamName>,
    /// With [`NAME`] in it.
    url: Url,
}

/// Why there cannot be such a target. The text never repeats the URL: it may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL of RTMP.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Every stream would be published under one name.
    #[error("the URL needs {NAME} in its path or query to take every stream")]
    OneName,
}

/// How far a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The target has not granted it yet.
    Connecting,
    /// Frames go out.
    Publishing,
    /// The last attempt failed; the next one comes.
    Failed,
}

/// One relay at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// What is pushed.
    pub stream: StreamName,
    /// Where to, without the name and the query, which may be keys.
    pub target: String,
    /// How far it is.
    pub state: State,
    /// Why the last attempt failed, if it did.
    pub reason: Option<String>,
    /// Bytes of media sent.
    pub bytes_out: u64,
    /// Frames that the target was too slow for.
    pub skipped: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// The relays of all streams.
#[derive(Debug, Clone)]
pub struct Relays {
    targets: Arc<[Target]>,
    dialer: Dialer,
    rows: Arc<Mutex<Rows>>,
}

/// By stream and index of the target.
type Rows = BTreeMap<(StreamName, usize), (RunId, Status)>;

/// Why an attempt fails, in words for the operator. None holds more of the URL than the log may show.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the target has no valid address: {0}")]
    Url(#[from] UrlError),
    #[error("cannot connect to the target: {0}")]
    Connect(io::Error),
    #[error("the target did not accept a connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("no TLS with the target: {0}")]
    Tls(String),
    #[error("the target is this server itself")]
    Itself,
    #[error("the target did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    #[error("the target refused: {0}")]
    Refused(String),
    #[error("the target ended the stream: {0}")]
    Ended(EndReason),
    #[error("the target closed the connection")]
    Closed,
    #[error("the connection to the target failed: {0}")]
    Connection(#[from] rtmp::Error),
}

impl From<dial::Failure> for Error {
    fn from(failure: dial::Failure) -> Self {
        match failure {
            dial::Failure::Socket(error) => Self::Connect(error),
            dial::Failure::Timeout => Self::ConnectTimeout,
            dial::Failure::Itself => Self::Itself,
            dial::Failure::Tls(refusal) => Self::Tls(refusal.to_string()),
        }
    }
}

impl Target {
    /// Pushes `stream`, or every stream if there is none, to `url`, in which `{name}` stands for the stream's name.
    ///
    /// # Errors
    /// The URL is none of RTMP, or gives every stream the same name.
    pub fn new(stream: Option<StreamName>, url: &str) -> Result<Self, TargetError> {
        let url = Url::parse(url)?;
        let has_name = url.app().contains(NAME) || url.name().expose().contains(NAME);
        if stream.is_none() && !has_name {
            return Err(TargetError::OneName);
        }
        Ok(Self { stream, url })
    }

    /// The stream that is pushed; `None` for every one.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamName> {
        self.stream.as_ref()
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.is_tls()
    }

    /// The URL without its name and query.
    #[must_use]
    pub fn tc_url(&self) -> String {
        self.url.tc_url()
    }

    fn takes(&self, name: &StreamName) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream == name)
    }

    fn url(&self, name: &StreamName) -> Result<Url, UrlError> {
        let url = format!("{}/{}", self.url.tc_url(), self.url.name().expose());
        Url::parse(&url.replace(NAME, name.as_str()))
    }
}

impl State {
    /// The word `/status` shows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Publishing => "publishing",
            Self::Failed => "failed",
        }
    }
}

impl Relays {
    /// To these targets, reached by `dialer`.
    #[must_use]
    pub fn new(targets: Vec<Target>, dialer: Dialer) -> Self {
        Self {
            targets: targets.into(),
            dialer,
            rows: Arc::default(),
        }
    }

    /// Every relay, in order of streams and of targets.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        let rows = self.rows.lock();
        rows.values().map(|(_, status)| status.clone()).collect()
    }

    /// Keeps one relay for each run in the hub and each of its targets, until the process stops.
    pub async fn reconcile(self, gateway: Gateway) {
        let mut changes = gateway.hub.changes();
        loop {
            for stream in gateway.hub.streams() {
                self.start(&stream, &gateway);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Starts the relays of a run that has none yet.
    fn start(&self, stream: &Stream, gateway: &Gateway) {
        for (index, target) in self.targets.iter().enumerate() {
            let key = (stream.name().clone(), index);
            let mut rows = self.rows.lock();
            let is_known = rows.get(&key).is_some_and(|(run, _)| *run >= stream.run());
            if is_known || !target.takes(stream.name()) {
                continue;
            }
            let tc_url = target.tc_url().replace(NAME, stream.name().as_str());
            let status = Status {
                stream: stream.name().clone(),
                target: format!("{tc_url}/…"),
                state: State::Connecting,
                reason: None,
                bytes_out: 0,
                skipped: 0,
                failures: 0,
            };
            let relay = Relay {
                relays: self.clone(),
                key: key.clone(),
                label: status.target.clone(),
                run: stream.run(),
                target: target.clone(),
                feed: Arc::clone(stream.feed()),
                gateway: gateway.clone(),
            };
            rows.insert(key, (stream.run(), status));
            drop(rows);
            gateway.tasks.spawn(relay.run());
        }
    }
}

/// One run on its way to one target. Its row goes away with it.
struct Relay {
    relays: Relays,
    key: (StreamName, usize),
    /// The target as logs may show it.
    label: String,
    run: RunId,
    target: Target,
    feed: Arc<Feed<MediaItem>>,
    gateway: Gateway,
}

impl Relay {
    async fn run(self) {
        let (name, to) = (&self.key.0, &self.label);
        let mut over = pin!(run_over(&self.gateway.hub, name, self.run));
        let mut failures = 0_u32;
        let mut logged = String::new();
        loop {
            let began = Instant::now();
            let Err(error) = self.attempt(over.as_mut()).await else {
                break;
            };
            // One that grants and then fails at once is no better than one that refuses.
            if began.elapsed() > RETRY_MAX {
                (failures, logged) = (0, String::new());
            }
            failures = failures.saturating_add(1);
            let wait = retry_wait(failures);
            let reason = error.to_string();
            // Attempts go on for ever, so what repeats is said once.
            if reason != logged {
                let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(stream = %name, to, reason, retry_in_ms, "relay failed");
                logged.clone_from(&reason);
            }
            self.update(|status| {
                status.state = State::Failed;
                status.reason = Some(reason);
                status.failures += 1;
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = over.as_mut() => break,
            }
        }
        tracing::info!(stream = %name, to, "relay stopped: the stream is over");
    }

    /// Connects and publishes until the run is over, or until it fails.
    async fn attempt(&self, over: Pin<&mut impl Future<Output = ()>>) -> Result<(), Error> {
        let connection = tokio::select! {
            connection = self.connect() => connection?,
            () = over => return Ok(()),
        };
        tracing::info!(stream = %self.key.0, to = self.label, "relay started");
        self.update(|status| {
            status.state = State::Publishing;
            status.reason = None;
        });
        self.publish(connection).await
    }

    /// A connection on which the target has granted to publish.
    async fn connect(&self) -> Result<Connection<Client>, Error> {
        let url = self.target.url(&self.key.0)?;
        let limits = self.gateway.limits;
        let dialer = &self.relays.dialer;
        let socket = dialer.dial(&url, limits.write_stall_timeout).await?;
        let config = Arc::new(Config::new(url, Role::Publish));
        let mut connection = Connection::client(socket, config).map_err(Error::Connect)?;
        let granted = async {
            while !grants(connection.next_event().await?)? {}
            Ok(())
        };
        timeout(limits.handshake_timeout, granted)
            .await
            .unwrap_or(Err(Error::NoAnswer(limits.handshake_timeout)))?;
        Ok(connection)
    }

    /// Sends frames until the run is over.
    async fn publish(&self, mut connection: Connection<Client>) -> Result<(), Error> {
        let limits = self.gateway.limits;
        let mut cursor = self.feed.cursor(limits.join, limits.viewer_lag);
        let (mut items, mut known) = (Vec::new(), None);
        loop {
            tokio::select! {
                more = cursor.next(&mut items) => {
                    let Some(skipped) = more else {
                        connection.machine().finish();
                        connection.close().await;
                        return Ok(());
                    };
                    let bytes = write(connection.machine(), items.drain(..), &mut known);
                    self.update(|status| {
                        status.bytes_out += bytes;
                        status.skipped += skipped;
                    });
                    connection.write([]).await?;
                }
                event = connection.next_event() => {
                    grants(event?)?;
                }
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        // A later run of the name may have the row already.
        if let Some((run, status)) = self.relays.rows.lock().get_mut(&self.key)
            && *run == self.run
        {
            change(status);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut rows = self.relays.rows.lock();
        if rows.get(&self.key).is_some_and(|(run, _)| *run == self.run) {
            rows.remove(&self.key);
        }
    }
}

/// Waits until the hub has that run no more.
async fn run_over(hub: &Hub, name: &StreamName, run: RunId) {
    let mut changes = hub.changes();
    while hub.get(name).is_some_and(|stream| stream.run() == run) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whether the target grants to publish; what ends the connection is an error.
fn grants(event: Option<Event>) -> Result<bool, Error> {
    match event.ok_or(Error::Closed)? {
        Event::Publishing => Ok(true),
        Event::Refused { code, description } => {
            let words = [description, code];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            Err(Error::Refused(words.join(", ")))
        }
        Event::Ended { reason } => Err(Error::Ended(reason)),
        Event::Playing
        | Event::Media { .. }
        | Event::Metadata { .. }
        | Event::BadMetadata { .. } => Ok(false),
    }
}

/// Hands frames to the client, each epoch with its metadata and sequence headers before it unless the target knows
/// them; says how many bytes.
fn write(
    client: &mut Client,
    items: impl Iterator<Item = MediaItem>,
    known: &mut Option<Arc<Epoch>>,
) -> u64 {
    let mut bytes = 0;
    for item in items {
        let Some(track) = item.track() else { continue };
        let at_ms = flv::collapsed_ms(&item.epoch, track, &item.frame);
        let is_known = known
            .as_ref()
            .is_some_and(|known| Epoch::same(known, &item.epoch));
        if !is_known {
            for (kind, body) in flv::head(&item.epoch, true) {
                bytes += write_message(client, kind, flv::head_ms(kind, at_ms), &[&body]);
            }
            *known = Some(Arc::clone(&item.epoch));
        }
        let body = flv::Body::of(track, &item.frame);
        bytes += write_message(client, body.kind, at_ms, &body.pieces());
    }
    bytes
}

fn write_message(client: &mut Client, kind: TagKind, at_ms: i64, pieces: &[&[u8]]) -> u64 {
    let timestamp_ms = flv::timestamp(at_ms);
    match kind {
        TagKind::Audio => client.write_audio(timestamp_ms, pieces),
        TagKind::Video => client.write_video(timestamp_ms, pieces),
        TagKind::Script => client.write_metadata(timestamp_ms, pieces),
    }
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked() {
        check("room", "rtmp://host/app/key", Ok("rtmp://host/app"));
        check(
            "*",
            "rtmp://host:1936/app/{name}?key=k",
            Ok("rtmp://host:1936/app"),
        );
        check("*", "rtmp://host/{name}/key", Ok("rtmp://host/{name}"));
        check("*", "rtmp://host/app/x?key={name}", Ok("rtmp://host/app"));
        check("*", "rtmp://host/app/key", Err(TargetError::OneName));
        check("*", "rtmps://host/app/{name}", Ok("rtmps://host/app"));
        check(
            "*",
            "rtmp://{name}/app/x",
            Err(TargetError::Url(UrlError::Host)),
        );
        check(
            "room",
            "http://host/app/x",
            Err(TargetError::Url(UrlError::Scheme)),
        );
        check(
            "room",
            "rtmp://host/x",
            Err(TargetError::Url(UrlError::Path)),
        );
    }

    #[test]
    fn the_name_stands_wherever_it_is_wanted() {
        let target = Target::new(None, "rtmp://host/{name}/a/x-{name}?key={name}-1");
        let url = target.expect("valid").url(&name("room")).expect("valid");
        assert_eq!(url.tc_url(), "rtmp://host/room/a");
        assert_eq!(url.name().expose(), "x-room?key=room-1");
    }

    #[test]
    fn a_target_takes_its_stream() {
        let target = Target::new(Some(name("room")), "rtmp://host/app/key").expect("valid");
        assert!(target.takes(&name("room")) && !target.takes(&name("other")));
        assert_eq!(
            format!("{target:?}"),
            "Target { stream: Some(\"room\"), url: Url(rtmp://host/app/***) }"
        );
    }

    fn check(stream: &str, url: &str, expected: Result<&str, TargetError>) {
        let target = Target::new(StreamName::parse(stream).ok(), url);
        let tc_url = target.map(|target| target.tc_url());
        assert_eq!(tc_url, expected.map(str::to_owned), "{stream} {url}");
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }
}
