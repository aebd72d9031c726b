//! A viewer of DASH, as dash.js plays it: with low latency where the manifest offers that.
//!
//! Owns: asking for the manifest as often as it says, and every segment once, from when it may be asked for, read as it
//! grows. Pictures, sound and the manifest each have a connection. Does not own: reading manifests ([`crate::dash`]).
//! The clock is the machine's own.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use super::{Error, Seat, connection::Connection, patience::Patience, screen::Screen};
use crate::{
    dash::{self, Manifest, Period, Segment, Track},
    http::Url,
    judge::Arrival,
    shared::{Digest, Shared},
    tally::Tally,
    time_code,
};

/// Shortest pause between two requests for the manifest, whatever it says.
const UPDATE_MIN: Duration = Duration::from_millis(100);
/// How far behind the present to play where the manifest does not say it: three segments of two seconds.
const LATENCY: Duration = Duration::from_secs(6);

/// One viewer.
pub(super) struct Viewer {
    manifest: Refresh,
    pictures: Media,
    sound: Media,
}

/// Who asks for the manifest.
struct Refresh {
    connection: Connection,
    shared: Arc<Shared>,
    patience: Patience,
}

/// The manifest as it is known.
struct Known {
    manifest: Arc<Manifest>,
    /// How often it could not be had.
    outages: u32,
}

/// Who fetches pictures, or sound.
struct Media {
    connection: Connection,
    tally: Arc<Mutex<Tally>>,
    shared: Arc<Shared>,
    patience: Patience,
    /// What shows the media, if that is what the player plays.
    screen: Option<Screen>,
    track: fn(&Period) -> Option<&Track>,
    /// The start of the Period and the time in it of the segment that came last.
    last: Option<(Duration, u64)>,
    init: Option<String>,
    is_witness: bool,
    /// Whether requests have failed, so that it may be far behind.
    is_lost: bool,
    /// Outages of the manifest so far.
    outages: u32,
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        let media = |screen, track| Media {
            connection: Connection::new(seat),
            tally: Arc::clone(&seat.tally),
            shared: Arc::clone(&seat.shared),
            patience: Patience::new(&seat.tally),
            screen,
            track,
            last: None,
            init: None,
            is_witness: seat.is_witness(),
            is_lost: false,
            outages: 0,
        };
        Self {
            manifest: Refresh {
                connection: Connection::new(seat),
                shared: Arc::clone(&seat.shared),
                patience: Patience::new(&seat.tally),
            },
            pictures: media(Some(Screen::new(seat, asked)), |period| {
                period.video.as_ref()
            }),
            sound: media(None, |period| period.audio.as_ref()),
        }
    }

    /// Plays until it goes wrong.
    pub(super) async fn watch(&mut self, url: &Url) -> Result<(), Error> {
        let (url, manifest) = self.manifest.load(url).await?;
        let (current, known) = watch::channel(Known {
            manifest,
            outages: 0,
        });
        let playing = async {
            tokio::try_join!(
                self.pictures.follow(&url, known.clone()),
                self.sound.follow(&url, known)
            )
        };
        tokio::select! {
            played = playing => played.map(|_| ()),
            error = self.manifest.refresh(&url, &current) => Err(error),
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let error = error
            .or(self.manifest.patience.last())
            .or(self.pictures.patience.last())
            .or(self.sound.patience.last());
        if let Some(screen) = &mut self.pictures.screen {
            screen.finish(error);
        }
    }
}

impl Refresh {
    async fn load(&mut self, url: &Url) -> Result<(Url, Arc<Manifest>), Error> {
        let (url, text) = self.connection.text(url).await?;
        let manifest = self.shared.manifests.read(&text, Manifest::parse)?;
        Ok((url, manifest.content))
    }

    /// Keeps `current` what it is, until that cannot be done.
    async fn refresh(&mut self, url: &Url, current: &watch::Sender<Known>) -> Error {
        let available = current.borrow().manifest.available;
        loop {
            let pause = current.borrow().manifest.update;
            // Nothing more comes of a manifest that does not say when; who plays it ends by itself.
            let Some(pause) = pause else {
                return std::future::pending().await;
            };
            sleep(pause.max(UPDATE_MIN)).await;
            match self.load(url).await {
                Ok((_, manifest)) if manifest.available != available => {
                    return dash::Error::Moved.into();
                }
                Ok((_, manifest)) => {
                    self.patience.recover();
                    current.send_modify(|known| known.manifest = manifest);
                }
                Err(error) => {
                    if let Err(error) = self.patience.bear(error).await {
                        return error;
                    }
                    current.send_modify(|known| known.outages += 1);
                }
            }
        }
    }
}

impl Media {
    /// Fetches one segment after the other.
    async fn follow(&mut self, url: &Url, mut known: watch::Receiver<Known>) -> Result<(), Error> {
        loop {
            let manifest = {
                let known = known.borrow_and_update();
                self.is_lost |= known.outages > self.outages;
                self.outages = known.outages;
                Arc::clone(&known.manifest)
            };
            let Some((period, track, segment)) = self.next(&manifest) else {
                if !manifest.is_live || known.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            };
            let starts = manifest.available + period.start;
            let end = segment.time + segment.duration;
            let ends = starts + track.time(end.saturating_sub(track.offset));
            sleep(until(ends.saturating_sub(track.early))).await;
            match self.fetch(url, track, segment).await {
                Ok(()) => {
                    self.patience.recover();
                    self.last = Some((period.start, segment.time));
                    self.is_lost = false;
                }
                Err(error) if self.last.is_some() => {
                    self.patience.bear(error).await?;
                    self.is_lost = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The segment to fetch next, if it is announced.
    fn next<'a>(&mut self, manifest: &'a Manifest) -> Option<(&'a Period, &'a Track, &'a Segment)> {
        let track = self.track;
        let announced = manifest.periods.iter().flat_map(|period| {
            let tracks = track(period).into_iter();
            tracks.flat_map(move |track| {
                let segments = track.segments.iter();
                segments.map(move |segment| (period, track, segment))
            })
        });
        let key = |(period, _, segment): &(&Period, &Track, &Segment)| (period.start, segment.time);
        let Some(last) = self.last else {
            return self.first(manifest, announced);
        };
        let mut is_known = false;
        let mut new = announced.skip_while(|it| {
            is_known |= key(it) == last;
            key(it) <= last
        });
        let next = new.next();
        drop(new);
        if is_known || next.is_none() {
            return next;
        }
        // What came last has gone from the manifest, and so may have what came after it.
        if !self.is_lost {
            self.tally.lock().counters.skipped_segments += 1;
        }
        self.last = None;
        self.next(manifest)
    }

    /// The segment to begin with: the one that plays as far behind the present as the manifest wants.
    fn first<'a>(
        &mut self,
        manifest: &Manifest,
        announced: impl Iterator<Item = (&'a Period, &'a Track, &'a Segment)>,
    ) -> Option<(&'a Period, &'a Track, &'a Segment)> {
        let wanted = Duration::from_micros(time_code::wall_us())
            .saturating_sub(manifest.latency.unwrap_or(LATENCY));
        let starts = |(period, track, segment): &(&Period, &Track, &Segment)| {
            let time = track.time(segment.time.saturating_sub(track.offset));
            manifest.available + period.start + time
        };
        let announced: Vec<_> = announced.collect();
        let before = announced.iter().rev().find(|it| starts(it) <= wanted);
        let first = *before.or(announced.first())?;
        if let Some(screen) = &mut self.screen {
            screen.begin(wanted.saturating_sub(starts(&first)), screen.buffer());
        }
        Some(first)
    }

    async fn fetch(&mut self, url: &Url, track: &Track, segment: &Segment) -> Result<(), Error> {
        if track.init != self.init {
            if let Some(init) = &track.init {
                self.connection
                    .object(&url.join(init)?, None, |_| {})
                    .await?;
            }
            self.init.clone_from(&track.init);
        }
        let url = url.join(&segment.uri)?;
        let mut digest = self.is_witness.then(Digest::default);
        let (screen, tally) = (&mut self.screen, &self.tally);
        let mut come = 0;
        let fetched = self
            .connection
            .object(&url, digest.as_mut(), |checker| {
                while let Some(chunk) = checker.next_chunk() {
                    tally.lock().counters.parts += 1;
                    let duration = chunk.duration.unwrap_or(0);
                    come += duration;
                    if let Some(screen) = screen.as_mut().filter(|_| duration > 0) {
                        screen.receive(track.time(duration), chunk.code);
                    }
                }
            })
            .await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                // What has come before comes again and is not shown twice.
                if let Some(screen) = &mut self.screen {
                    screen.begin(track.time(come), screen.buffer());
                }
                return Err(error);
            }
        };
        self.tally.lock().counters.segments += 1;
        // Where chunks do not say how long they play, the segment is one.
        if let Some(screen) = self.screen.as_mut().filter(|_| come == 0) {
            screen.receive(track.time(segment.duration), fetched.time_code());
        }
        if let Some(digest) = digest
            && !self.shared.ledger.agrees(&url.to_string(), &digest)
        {
            self.tally
                .lock()
                .error("a segment has other bytes than before");
        }
        Ok(())
    }
}

/// How long it is until that time of the wall clock.
fn until(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_micros(time_code::wall_us()))
}
