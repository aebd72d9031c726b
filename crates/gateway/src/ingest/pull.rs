//! Streams fetched over RTMP from another server.
//!
//! Owns: one pull: connecting, playing, feeding the stream, and trying again when the source fails.
//! Does not own: when a pull begins and when nobody wants it any more ([`crate::on_demand`]); the protocol
//! ([`weir_proto::rtmp::client`]); the socket ([`crate::net::rtmp`]).

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use weir_hub::{KillReason, Moment, PublishError, Publisher, Stream};
use weir_media::{Input, Kind, SessionClock, StreamName, container::flv};
use weir_proto::rtmp::{
    Url, UrlError,
    client::{Client, Config, EndReason, Event, Role},
};

use crate::{
    Gateway,
    ingest::flv::{BodyReader, declared},
    net::{
        Throttle,
        dial::{self, CONNECT_TIMEOUT, Dialer},
        retry_wait,
        rtmp::{self, Connection},
    },
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "rtmp-pull";

/// From the start of an attempt until media comes: a little less than viewers wait, so that they hear the reason.
const FIRST_MEDIA_TIMEOUT: Duration = Duration::from_millis(7_500);

/// The server that streams are fetched from.
#[derive(Debug, Clone)]
pub struct Source {
    /// A host name or an address, without brackets.
    pub host: String,
    /// Its RTMP port, or that of RTMPS.
    pub port: u16,
    /// Whether it speaks RTMPS there.
    pub is_tls: bool,
    /// The application that its streams are in.
    pub app: String,
    /// How it is reached.
    pub dialer: Dialer,
}

/// How far a pull is.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Nothing has come yet.
    Connecting,
    /// The run has begun; none of its frames is out.
    Begun(Arc<Stream>),
    /// Frames are out. It stays so while a source that has failed is tried again.
    Flowing(Arc<Stream>),
}

/// Why a pull fails, in words for the operator. None holds more of the address than the log may show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Host, port, application and name make no URL.
    #[error("the source has no valid address: {0}")]
    Url(#[from] UrlError),
    /// No connection.
    #[error("cannot connect to the source: {0}")]
    Connect(io::Error),
    /// No connection in time.
    #[error("the source did not accept a connection within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    /// A connection, but no TLS on it.
    #[error("no TLS with the source: {0}")]
    Tls(String),
    /// The address of the source is one of our own.
    #[error(
        "the source is this server itself; SOURCE_HOST and SOURCE_PORT have to name another one"
    )]
    Itself,
    /// It accepted, and then sent no media.
    #[error("the source sent no media within {:.1} s", FIRST_MEDIA_TIMEOUT.as_secs_f32())]
    NoMedia,
    /// It sent nothing any more.
    #[error("the source sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// It closed without a word.
    #[error("the source closed the connection")]
    Closed,
    /// It refused.
    #[error("the source refused: {0}")]
    Refused(String),
    /// It said that the stream is over.
    #[error("the source ended the stream: {0}")]
    Ended(EndReason),
    /// It sends what is not carried here.
    #[error("the stream of the source cannot be carried: {0}")]
    Codec(flv::Error),
    /// The protocol was broken, or the socket.
    #[error("the connection to the source failed: {0}")]
    Connection(#[from] rtmp::Error),
    /// The stream cannot run here.
    #[error("the stream cannot run here: {0}")]
    Publish(#[from] PublishError),
    /// The server ends the pull.
    #[error("{0}")]
    Killed(KillReason),
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

/// Fetches a stream until it fails before its first frame or is killed; the error says which. After the first frame, a
/// source that fails is tried again, and the run goes on. Who drops the future ends the pull.
pub async fn run(
    name: &StreamName,
    source: &Source,
    gateway: &Gateway,
    progress: &watch::Sender<Progress>,
) -> Error {
    let config = match source.config(name) {
        Ok(config) => config,
        Err(error) => return error.into(),
    };
    let mut pull = Pull {
        name,
        source,
        config,
        gateway,
        progress,
        publisher: None,
        failures: 0,
        damage: Throttle::default(),
    };
    loop {
        let Err(error) = pull.attempt().await;
        let is_flowing = matches!(*progress.borrow(), Progress::Flowing(_));
        if !is_flowing || matches!(error, Error::Killed(_)) {
            return error;
        }
        let Err(reason) = pull.wait_to_retry(&error).await else {
            continue;
        };
        return Error::Killed(reason);
    }
}

impl Error {
    /// From a status code and words for people; either may be missing.
    fn refused(code: String, description: String) -> Self {
        Self::Refused(match (description.as_str(), code.as_str()) {
            ("", _) => code,
            (_, "") => description,
            _ => format!("{description} ({code})"),
        })
    }
}

impl Progress {
    /// The run, once it has begun.
    #[must_use]
    pub fn stream(&self) -> Option<&Arc<Stream>> {
        match self {
            Self::Connecting => None,
            Self::Begun(stream) | Self::Flowing(stream) => Some(stream),
        }
    }
}

impl Source {
    fn config(&self, name: &StreamName) -> Result<Arc<Config>, UrlError> {
        let (host, port, app) = (&self.host, self.port, &self.app);
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let scheme = if self.is_tls { "rtmps" } else { "rtmp" };
        let url = Url::parse(&format!("{scheme}://{host}:{port}/{app}/{name}"))?;
        Ok(Arc::new(Config::new(url, Role::Play)))
    }
}

/// One stream that is being fetched.
struct Pull<'a> {
    name: &'a StreamName,
    source: &'a Source,
    config: Arc<Config>,
    gateway: &'a Gateway,
    progress: &'a watch::Sender<Progress>,
    /// Held from the first media on, over all attempts: this is what keeps the run.
    publisher: Option<Publisher>,
    /// Attempts that brought no frame since one did.
    failures: u32,
    damage: Throttle,
}

/// What one attempt has read.
#[derive(Default)]
struct Reading {
    bodies: BodyReader,
    /// Metadata that came before the media.
    declared: Option<Input>,
    /// Whether media has come.
    begun: bool,
    /// Whether one of its frames is out.
    flows: bool,
}

impl Pull<'_> {
    /// Connects, plays and feeds the stream until the source fails.
    async fn attempt(&mut self) -> Result<Infallible, Error> {
        let deadline = Instant::now() + FIRST_MEDIA_TIMEOUT;
        let silence = self.gateway.limits.input_timeout;
        let mut connection = self.connect().await?;
        let mut reading = Reading::default();
        loop {
            let begun = reading.begun;
            let next = async {
                if begun {
                    let next = timeout(silence, connection.next_event()).await;
                    next.map_err(|_| Error::Silent(silence))
                } else {
                    let next = timeout_at(deadline, connection.next_event()).await;
                    next.map_err(|_| Error::NoMedia)
                }
            };
            let event = tokio::select! {
                event = next => event??,
                reason = self.killed() => return Err(Error::Killed(reason)),
            };
            match event.ok_or(Error::Closed)? {
                Event::Media {
                    kind,
                    timestamp_ms,
                    payload,
                } => {
                    let at_byte = connection.received_bytes();
                    self.media(&mut reading, kind, timestamp_ms, payload, at_byte)?;
                }
                Event::Metadata { values } => {
                    reading.declared = declared(&values).or(reading.declared);
                }
                Event::Refused { code, description } => {
                    return Err(Error::refused(code, description));
                }
                Event::Ended { reason } => return Err(Error::Ended(reason)),
                Event::Playing | Event::Publishing | Event::BadMetadata { .. } => {}
            }
        }
    }

    async fn connect(&self) -> Result<Connection<Client>, Error> {
        let stall_limit = self.gateway.limits.write_stall_timeout;
        let dialer = &self.source.dialer;
        let socket = dialer.dial(&self.config.url, stall_limit).await?;
        Connection::client(socket, Arc::clone(&self.config)).map_err(Error::Connect)
    }

    fn media(
        &mut self,
        reading: &mut Reading,
        kind: Kind,
        timestamp_ms: u32,
        payload: Bytes,
        at_byte: u64,
    ) -> Result<(), Error> {
        let input = match reading.bodies.read(kind, timestamp_ms, payload) {
            Ok(Some(input)) => input,
            Ok(None) => return Ok(()),
            Err(error @ flv::Error::UnsupportedCodec(_)) => return Err(Error::Codec(error)),
            Err(error) => {
                if let Some(times) = self.damage.count(Instant::now().into_std()) {
                    tracing::warn!(stream = %self.name, %error, at_byte, timestamp_ms, times, "damaged message dropped");
                }
                return Ok(());
            }
        };
        if !reading.begun {
            self.begin()?;
            reading.begun = true;
        }
        let Some(publisher) = &self.publisher else {
            return Ok(());
        };
        for input in reading.declared.take().into_iter().chain([input]) {
            publisher.push(Moment::now(), input);
        }
        if !reading.flows && publisher.flows() {
            reading.flows = true;
            self.failures = 0;
            let stream = Arc::clone(publisher.stream());
            self.progress.send_replace(Progress::Flowing(stream));
        }
        Ok(())
    }

    /// The first media of an attempt: begins the run, or continues it.
    fn begin(&mut self) -> Result<(), Error> {
        let source = self.config.url.tc_url();
        let clock = SessionClock::MS_32_BIT;
        if let Some(publisher) = &self.publisher {
            tracing::info!(stream = %self.name, source, "pull continued");
            publisher.restart(clock);
            return Ok(());
        }
        let hub = &self.gateway.hub;
        let publisher = hub.publish(self.name, None, PROTOCOL, clock, Moment::now())?;
        tracing::info!(stream = %self.name, source, "pull started");
        let stream = Arc::clone(publisher.stream());
        self.publisher = Some(publisher);
        self.progress.send_replace(Progress::Begun(stream));
        Ok(())
    }

    /// Waits before the next attempt, unless the pull is killed.
    async fn wait_to_retry(&mut self, error: &Error) -> Result<(), KillReason> {
        self.failures = self.failures.saturating_add(1);
        let wait = retry_wait(self.failures);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(stream = %self.name, reason = %error, retry_in_ms, "pull failed");
        if let Some(publisher) = &self.publisher {
            publisher.fail(error.to_string());
        }
        tokio::select! {
            () = sleep(wait) => Ok(()),
            reason = self.killed() => Err(reason),
        }
    }

    async fn killed(&self) -> KillReason {
        match &self.publisher {
            Some(publisher) => publisher.session().killed().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_makes_a_url() {
        let name = StreamName::parse("demo").expect("a valid name");
        for (host, is_tls, expected) in [
            ("origin.example", false, "rtmp://origin.example:1936/live"),
            ("::1", false, "rtmp://[::1]:1936/live"),
            ("origin.example", true, "rtmps://origin.example:1936/live"),
        ] {
            let source = Source {
                host: host.to_owned(),
                port: 1936,
                is_tls,
                app: "live".to_owned(),
                dialer: Dialer::new(Vec::new(), None),
            };
            let config = source.config(&name).expect("a valid URL");
            assert_eq!(config.url.tc_url(), expected);
            assert_eq!(config.url.name().expose(), "demo");
        }
    }
}
