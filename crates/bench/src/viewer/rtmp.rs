//! A viewer of RTMP.
//!
//! Owns: driving the client of [`weir_proto`] with a socket. Messages are put together from chunks, so this viewer
//! copies what it gets, as every player of RTMP does. Does not own: the protocol.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use weir_media::{Kind, container::flv::TagKind};
use weir_proto::rtmp::client::{Client, Config, Event};

use super::{Error, Seat};
use crate::{
    flv::BODY_HEAD_LEN,
    judge::{Arrival, Judge},
    socket::{Inlet, Route},
    tally::Tally,
};

/// One viewer.
pub(super) struct Viewer {
    number: usize,
    route: Arc<Route>,
    round: Option<Duration>,
    tally: Arc<Mutex<Tally>>,
    judge: Judge,
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        Self {
            number: seat.number,
            route: Arc::clone(&seat.route),
            round: seat.round,
            tally: Arc::clone(&seat.tally),
            judge: seat.judge(asked),
        }
    }

    /// Plays until the server ends it.
    pub(super) async fn watch(&mut self, config: &Arc<Config>) -> Result<(), Error> {
        let connected = self.route.connect(self.number).await;
        let mut inlet = Inlet::Eager(connected.map_err(Error::Connect)?);
        // Nothing is pinged: what a viewer gets shows whether the server lives.
        let mut client = Client::new(Arc::clone(config), self.number as u64, 0);
        loop {
            if let Some(output) = client.poll_output() {
                inlet.write_all(&output).await?;
            }
            if client.should_close() {
                return Ok(());
            }
            let input = inlet.read(Bytes::copy_from_slice).await?;
            if input.is_empty() {
                return Ok(());
            }
            self.take(&mut client, input)?;
            if self.judge.is_served()
                && let Some(every) = self.round.take()
            {
                inlet = inlet.slow_down(every)?;
            }
        }
    }

    /// Takes bytes from the socket.
    fn take(&mut self, client: &mut Client, input: Bytes) -> Result<(), Error> {
        let mut tally = self.tally.lock();
        tally.read(input.len());
        client.handle_input(input);
        let now = Arrival::now();
        let next = |client: &mut Client| {
            let event = client.poll_event();
            event.map_err(|error| Error::Rtmp(error.to_string()))
        };
        while let Some(event) = next(client)? {
            receive(now, &event, &mut self.judge, &mut tally)?;
        }
        Ok(())
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let mut tally = self.tally.lock();
        self.judge.finish(Arrival::now().at, &mut tally.counters);
        if let Some(error) = error {
            tally.error(&error.to_string());
        }
    }
}

fn receive(now: Arrival, event: &Event, judge: &mut Judge, tally: &mut Tally) -> Result<(), Error> {
    match event {
        Event::Media {
            kind,
            timestamp_ms,
            payload,
        } => {
            let kind = match kind {
                Kind::Video => TagKind::Video,
                Kind::Audio => TagKind::Audio,
            };
            let head = payload.get(..BODY_HEAD_LEN).unwrap_or(payload);
            judge.receive(now, kind, *timestamp_ms, head, tally);
            Ok(())
        }
        Event::Refused { code, .. } => Err(Error::Refused(code.clone())),
        Event::Ended { .. } => Err(Error::Closed),
        Event::Playing | Event::Publishing | Event::Metadata { .. } | Event::BadMetadata { .. } => {
            Ok(())
        }
    }
}
