//! Viewers: each plays one stream over one protocol, and judges what it gets.
//!
//! Owns: what viewers of all protocols have in common. Each protocol is a module with a `watch` that ends only with an
//! error; a new one needs its own module and a row in [`Protocol`]. Does not own: how many there are and when they begin
//! ([`crate::load`]).

mod flv;
mod hls;
mod rtmp;

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;
use weir_proto::rtmp as rtmp_proto;

use crate::{flv as flv_checker, http, judge::Arrival, socket::Route, tally::Tally, websocket};

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
        }
    }

    /// What a player of it holds before it begins, unless told otherwise. Players of HLS begin three segments behind the
    /// end, so they hold all that they fetch at first and begin at once.
    #[must_use]
    pub const fn usual_buffer(self) -> Duration {
        match self {
            Self::Rtmp | Self::Flv | Self::WsFlv => Duration::from_millis(500),
            Self::Hls => Duration::from_millis(2_000),
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
    pub(crate) tally: Arc<Mutex<Tally>>,
    /// Changes when all is over.
    pub(crate) over: watch::Receiver<bool>,
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
