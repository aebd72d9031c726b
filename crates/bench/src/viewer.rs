//! Viewers: each plays one stream over one protocol, and judges what it gets.
//!
//! Owns: what viewers of all protocols have in common. Each protocol is a module with a `watch` that ends only with an
//! error; a new one needs its own module and a row in [`Protocol`]. Does not own: how many there are and when they begin
//! ([`crate::load`]).

mod connection;
mod dash;
mod flv;
mod hls;
mod ll_hls;
mod patience;
mod rtmp;
mod screen;

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;
use weir_proto::rtmp as rtmp_proto;

use crate::{
    flv as flv_checker, http,
    judge::{Arrival, Judge},
    shared::Shared,
    socket::Route,
    tally::Tally,
    websocket,
};

/// One viewer in so many keeps digests of all that it gets, fetches segments as a whole beside their parts, and reads a
/// stream at once when others do in rounds: all of them would spend more on that than on their sockets.
pub(crate) const WITNESS_EVERY: usize = 10;

/// Whether the viewer with that number is a witness.
pub(crate) fn is_witness(number: usize) -> bool {
    number.is_multiple_of(WITNESS_EVERY)
}

/// What viewers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// FLV over HTTP.
    Flv,
    /// FLV over WebSocket.
    WsFlv,
    /// HLS with whole segments.
    Hls,
    /// HLS with parts: low latency.
    LlHls,
    /// DASH; with low latency if the manifest has that.
    Dash,
}

impl Protocol {
    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Flv => "flv",
            Self::WsFlv => "ws-flv",
            Self::Hls => "hls",
            Self::LlHls => "ll-hls",
            Self::Dash => "dash",
        }
    }

    /// What a player of it holds before it begins, unless told otherwise. Players of HLS begin three segments behind the
    /// end, so they hold all that they fetch at first and begin at once. Players of parts hold what the server tells
    /// them to (PART-HOLD-BACK), and no less.
    #[must_use]
    pub const fn usual_buffer(self) -> Duration {
        match self {
            Self::Rtmp | Self::Flv | Self::WsFlv => Duration::from_millis(500),
            Self::Hls => Duration::from_millis(2_000),
            Self::LlHls => Duration::ZERO,
            Self::Dash => Duration::from_millis(1_000),
        }
    }

    /// Connections that a viewer of it has at most, if it `fetches` media.
    #[must_use]
    pub const fn connections(self, fetches: bool) -> usize {
        match self {
            Self::Rtmp | Self::Flv | Self::WsFlv | Self::Hls => 1,
            Self::LlHls if !fetches => 1,
            // Pictures and sound.
            Self::LlHls => 2,
            // And the manifest.
            Self::Dash => 3,
        }
    }
}

/// Where viewers find a stream.
#[derive(Debug)]
pub(crate) enum Address {
    Http(http::Url),
    Rtmp(Arc<rtmp_proto::client::Config>),
}

/// All that one viewer needs to know.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) number: usize,
    pub(crate) protocol: Protocol,
    pub(crate) address: Arc<Address>,
    pub(crate) route: Arc<Route>,
    /// What its model of a player holds before it begins.
    pub(crate) buffer: Duration,
    /// How often it reads, once it has a picture; whenever something comes if none. Players of segments ask for what
    /// they get, and read at once.
    pub(crate) round: Option<Duration>,
    /// Whether it fetches media, and not only the playlist of pictures.
    pub(crate) fetches: bool,
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) shared: Arc<Shared>,
    /// Changes when all is over.
    pub(crate) over: watch::Receiver<bool>,
}

impl Seat {
    /// Whether it is one of those that look at every byte. What they find is found for all.
    fn is_witness(&self) -> bool {
        is_witness(self.number)
    }

    /// The judge of a stream; what is not read at once says nothing of when it came.
    fn judge(&self, asked: Arrival) -> Judge {
        Judge::new(asked, self.buffer, self.round.is_none())
    }
}

/// Why a viewer has stopped before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server ended the stream")]
    Closed,
    #[error("the server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Flv(#[from] flv_checker::Error),
    #[error(transparent)]
    WebSocket(#[from] websocket::Error),
    #[error("RTMP: {0}")]
    Rtmp(String),
    #[error(transparent)]
    Playlist(#[from] crate::playlist::Error),
    #[error(transparent)]
    Manifest(#[from] crate::dash::Error),
}

impl Error {
    /// Whether it may be gone when the same is asked for again.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Connect(_) | Self::Io(_) | Self::Closed | Self::Http(http::Error::Status(_))
        )
    }
}

/// Watches until all is over, or until it goes wrong.
pub(crate) async fn watch(mut seat: Seat) {
    seat.tally.lock().counters.viewers_started += 1;
    let asked = Arrival::now();
    match (seat.protocol, Arc::clone(&seat.address).as_ref()) {
        (Protocol::Flv | Protocol::WsFlv, Address::Http(url)) => {
            let mut viewer = flv::Viewer::new(&seat, asked);
            let error = until_over(&mut seat.over, viewer.watch(url)).await;
            viewer.finish(error);
        }
        (Protocol::Rtmp, Address::Rtmp(config)) => {
            let mut viewer = rtmp::Viewer::new(&seat, asked);
            let error = until_over(&mut seat.over, viewer.watch(config)).await;
            viewer.finish(error);
        }
        (Protocol::Hls, Address::Http(url)) => {
            let mut viewer = hls::Viewer::new(&seat, asked);
            let error = until_over(&mut seat.over, viewer.watch(url)).await;
            viewer.finish(error);
        }
        (Protocol::LlHls, Address::Http(url)) => {
            let mut viewer = ll_hls::Viewer::new(&seat, asked);
            let error = until_over(&mut seat.over, viewer.watch(url)).await;
            viewer.finish(error);
        }
        (Protocol::Dash, Address::Http(url)) => {
            let mut viewer = dash::Viewer::new(&seat, asked);
            let error = until_over(&mut seat.over, viewer.watch(url)).await;
            viewer.finish(error);
        }
        _ => seat.tally.lock().error("the URL is of another protocol"),
    }
}

/// The error that ends `watching`; none if it lasts until all is over.
async fn until_over(
    over: &mut watch::Receiver<bool>,
    watching: impl Future<Output = Result<(), Error>>,
) -> Option<Error> {
    tokio::select! {
        biased;
        watched = watching => Some(watched.err().unwrap_or(Error::Closed)),
        _ = over.changed() => None,
    }
}
