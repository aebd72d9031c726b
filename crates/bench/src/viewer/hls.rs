//! A viewer of HLS with whole segments.
//!
//! Owns: loading playlists as often as RFC 8216 (6.3.4) wants it, and every segment once, one after the other over one
//! connection. Does not own: reading playlists ([`crate::playlist`]).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{Error, Seat, connection::Connection, patience::Patience, screen::Screen};
use crate::{
    http::Url,
    judge::Arrival,
    playlist::{self, Continuity, Media, Playlist, Segment},
    shared::{Digest, Shared},
    tally::Tally,
};

/// How many segments before the end a player begins (RFC 8216, 6.3.3).
const BEHIND_END: usize = 3;
/// Shortest pause between two loads of a playlist, whatever it says.
const RELOAD_MIN: Duration = Duration::from_millis(100);

/// One viewer.
pub(super) struct Viewer {
    connection: Connection,
    tally: Arc<Mutex<Tally>>,
    shared: Arc<Shared>,
    is_witness: bool,
    screen: Screen,
    patience: Patience,
}

/// One media playlist and what has been fetched of it.
struct Rendition {
    url: Url,
    continuity: Continuity,
    /// The number of the next segment, once the first is chosen.
    next: Option<u64>,
    map: Option<String>,
    reload_at: Instant,
    /// Whether its media time is what the player plays.
    leads: bool,
    /// Whether requests have failed, so that it may be far behind.
    is_lost: bool,
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        Self {
            connection: Connection::new(seat),
            tally: Arc::clone(&seat.tally),
            shared: Arc::clone(&seat.shared),
            is_witness: seat.is_witness(),
            screen: Screen::new(seat, asked),
            patience: Patience::new(&seat.tally),
        }
    }

    /// Plays until it goes wrong.
    pub(super) async fn watch(&mut self, url: &Url) -> Result<(), Error> {
        let urls = media_playlists(&mut self.connection, &self.shared, url).await?;
        let rendition = |(index, url)| Rendition {
            url,
            continuity: Continuity::default(),
            next: None,
            map: None,
            reload_at: Instant::now(),
            leads: index == 0,
            is_lost: false,
        };
        let mut renditions: Vec<_> = urls.into_iter().enumerate().map(rendition).collect();
        loop {
            let next = renditions
                .iter_mut()
                .min_by_key(|rendition| rendition.reload_at);
            let rendition = next.ok_or(playlist::Error::Empty)?;
            sleep_until(rendition.reload_at).await;
            match self.load(rendition).await {
                Ok(true) => self.patience.recover(),
                Ok(false) => return Ok(()),
                Err(error) if self.screen.is_served() => {
                    self.patience.bear(error).await?;
                    for rendition in &mut renditions {
                        rendition.is_lost = true;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        self.screen.finish(error.or(self.patience.last()));
    }

    /// Loads a playlist and every segment that is new in it; whether more can come.
    async fn load(&mut self, rendition: &mut Rendition) -> Result<bool, Error> {
        let loaded_at = Instant::now();
        let (_, text) = self.connection.text(&rendition.url).await?;
        let playlist = self.shared.playlists.read(&text, Playlist::parse)?;
        let Playlist::Media(media) = &*playlist.content else {
            return Err(playlist::Error::Empty.into());
        };
        let is_new = rendition.continuity.check(media)?;
        rendition.reload_at = loaded_at + pause(media, is_new);
        let from = rendition.first_wanted(media);
        if let Some(next) = rendition.next
            && from > next
            && !rendition.is_lost
        {
            self.tally.lock().counters.skipped_segments += from - next;
        }
        rendition.is_lost = false;
        for (number, segment) in media.numbered().filter(|(number, _)| *number >= from) {
            self.fetch(rendition, number, segment).await?;
        }
        Ok(!media.has_ended)
    }

    async fn fetch(
        &mut self,
        rendition: &mut Rendition,
        number: u64,
        segment: &Segment,
    ) -> Result<(), Error> {
        if segment.map != rendition.map {
            if let Some(map) = &segment.map {
                let url = rendition.url.join(map)?;
                self.connection.object(&url, None, |_| {}).await?;
            }
            rendition.map.clone_from(&segment.map);
        }
        let mut digest = self.is_witness.then(Digest::default);
        let url = rendition.url.join(&segment.uri)?;
        let fetched = self
            .connection
            .object(&url, digest.as_mut(), |_| {})
            .await?;
        rendition.next = Some(number + 1);
        self.tally.lock().counters.segments += 1;
        if let Some(digest) = digest {
            let name = (rendition.url.to_string(), number);
            if !self.shared.ledger.agrees(&name, &digest) {
                self.tally.lock().error(OTHER_BYTES);
            }
        }
        if rendition.leads {
            self.screen.receive(segment.duration, fetched.time_code());
        }
        Ok(())
    }
}

/// What is wrong when an object is not what it was.
pub(super) const OTHER_BYTES: &str = "a media sequence number has other bytes than before";

/// The media playlists behind a URL, of either kind.
pub(super) async fn media_playlists(
    connection: &mut Connection,
    shared: &Shared,
    url: &Url,
) -> Result<Vec<Url>, Error> {
    let (url, text) = connection.text(url).await?;
    match &*shared.playlists.read(&text, Playlist::parse)?.content {
        Playlist::Media(_) => Ok(vec![url]),
        Playlist::Multivariant(multivariant) => {
            let uris = multivariant.first()?.into_iter();
            let joined = uris.map(|uri| url.join(uri));
            Ok(joined.collect::<Result<_, _>>()?)
        }
    }
}

/// How long to wait before the playlist is loaded again, from the last time on.
fn pause(media: &Media, is_new: bool) -> Duration {
    let last = media.segments.last().map(|segment| segment.duration);
    let whole = last
        .unwrap_or(media.target_duration)
        .min(media.target_duration);
    let pause = if is_new { whole } else { whole / 2 };
    pause.max(RELOAD_MIN)
}

impl Rendition {
    /// The number of the first segment to fetch. Who has lost touch begins anew.
    fn first_wanted(&self, media: &Media) -> u64 {
        match self.next {
            Some(next) if next >= media.sequence || !self.is_lost => next.max(media.sequence),
            _ => {
                let skipped = media.segments.len().saturating_sub(BEHIND_END);
                media.sequence.saturating_add(skipped as u64)
            }
        }
    }
}
