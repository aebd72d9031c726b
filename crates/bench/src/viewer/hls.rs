//! A viewer of HLS with whole segments.
//!
//! Owns: loading playlists as often as RFC 8216 (6.3.4) wants it, and every segment once, one after the other over one
//! connection. Does not own: reading playlists ([`crate::playlist`]).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{Error, Seat};
use crate::{
    http::{self, Head, Url},
    judge::Arrival,
    playlist::{self, Continuity, Media, Playlist},
    segment, socket,
    socket::Route,
    stall,
    tally::Tally,
};

/// Longest playlist: a day of two-second segments has 2 MB.
const PLAYLIST_LEN_MAX: usize = 4 << 20;
/// Most redirects in a row.
const REDIRECTS_MAX: usize = 5;
/// How many segments before the end a player begins (RFC 8216, 6.3.3).
const BEHIND_END: usize = 3;
/// Shortest pause between two loads of a playlist, whatever it says.
const RELOAD_MIN: Duration = Duration::from_millis(100);
/// What went well.
const OK: u16 = 200;

/// One viewer.
pub(super) struct Viewer {
    connection: Connection,
    asked: Arrival,
    player: stall::Player,
    /// Media time that has come.
    media: Duration,
}

/// One connection that is used for all requests, and made again when the server has closed it.
struct Connection {
    number: usize,
    route: Arc<Route>,
    tally: Arc<Mutex<Tally>>,
    socket: Option<TcpStream>,
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
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        Self {
            connection: Connection {
                number: seat.number,
                route: Arc::clone(&seat.route),
                tally: Arc::clone(&seat.tally),
                socket: None,
            },
            asked,
            player: stall::Player::new(seat.buffer),
            media: Duration::ZERO,
        }
    }

    /// Plays until it goes wrong.
    pub(super) async fn watch(&mut self, url: &Url) -> Result<(), Error> {
        let mut renditions = self.renditions(url).await?;
        loop {
            let next = renditions
                .iter_mut()
                .min_by_key(|rendition| rendition.reload_at);
            let rendition = next.ok_or(playlist::Error::Empty)?;
            sleep_until(rendition.reload_at).await;
            if !self.load(rendition).await? {
                return Ok(());
            }
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let now = Arrival::now().at.saturating_duration_since(self.asked.at);
        self.player.finish(now);
        let mut tally = self.connection.tally.lock();
        tally.counters.played(&self.player);
        if let Some(error) = error {
            tally.error(&error.to_string());
        }
    }

    /// The media playlists behind a URL, of either kind.
    async fn renditions(&mut self, url: &Url) -> Result<Vec<Rendition>, Error> {
        let (url, text) = self.connection.playlist(url).await?;
        let urls = match Playlist::parse(&text)? {
            Playlist::Media(_) => vec![url],
            Playlist::Multivariant(multivariant) => {
                let uris = multivariant.first()?;
                let joined = uris.into_iter().map(|uri| url.join(uri));
                joined.collect::<Result<_, _>>()?
            }
        };
        let rendition = |(index, url)| Rendition {
            url,
            continuity: Continuity::default(),
            next: None,
            map: None,
            reload_at: Instant::now(),
            leads: index == 0,
        };
        Ok(urls.into_iter().enumerate().map(rendition).collect())
    }

    /// Loads a playlist and every segment that is new in it; whether more can come.
    async fn load(&mut self, rendition: &mut Rendition) -> Result<bool, Error> {
        let loaded_at = Instant::now();
        let (_, text) = self.connection.playlist(&rendition.url).await?;
        let Playlist::Media(media) = Playlist::parse(&text)? else {
            return Err(playlist::Error::Empty.into());
        };
        let is_new = rendition.continuity.check(&media)?;
        rendition.reload_at = loaded_at + pause(&media, is_new);
        let from = first_wanted(&media, rendition.next);
        if let Some(next) = rendition.next
            && from > next
        {
            self.connection.tally.lock().counters.skipped_segments += from - next;
        }
        for (number, segment) in media.numbered().filter(|(number, _)| *number >= from) {
            if segment.map != rendition.map {
                if let Some(map) = &segment.map {
                    self.connection.segment(&rendition.url.join(map)?).await?;
                }
                rendition.map.clone_from(&segment.map);
            }
            let fetched = self
                .connection
                .segment(&rendition.url.join(&segment.uri)?)
                .await?;
            rendition.next = Some(number + 1);
            if rendition.leads {
                self.receive(segment.duration, fetched);
            }
        }
        Ok(!media.has_ended)
    }

    /// A segment of the leading rendition is there.
    fn receive(&mut self, duration: Duration, sent_us: Option<u64>) {
        let now = Arrival::now();
        let since_asked = now.at.saturating_duration_since(self.asked.at);
        let mut tally = self.connection.tally.lock();
        if self.media.is_zero() {
            tally.first_key.record(since_asked);
            tally.counters.viewers_served += 1;
        }
        let from = self.media;
        self.media += duration;
        self.player.receive(since_asked, from, self.media);
        // What was there before the viewer says nothing of how fast the server is.
        if let Some(sent_us) = sent_us.filter(|sent_us| *sent_us >= self.asked.wall_us) {
            tally.latency(Duration::from_micros(now.wall_us.saturating_sub(sent_us)));
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

/// The number of the first segment to fetch.
fn first_wanted(media: &Media, next: Option<u64>) -> u64 {
    match next {
        Some(next) => next.max(media.sequence),
        None => {
            let skipped = media.segments.len().saturating_sub(BEHIND_END);
            media.sequence.saturating_add(skipped as u64)
        }
    }
}

impl Connection {
    /// A playlist, and where it was found in the end.
    async fn playlist(&mut self, url: &Url) -> Result<(Url, String), Error> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut text = Vec::new();
            let head = self
                .get(&url, |bytes| {
                    let is_short = text.len() + bytes.len() <= PLAYLIST_LEN_MAX;
                    if is_short {
                        text.extend_from_slice(bytes);
                    }
                    is_short
                })
                .await?;
            match (head.status, head.location) {
                (OK, _) => {
                    self.tally.lock().counters.playlists += 1;
                    let text = String::from_utf8(text).map_err(|_| playlist::Error::NotOne)?;
                    return Ok((url, text));
                }
                (300..400, Some(location)) => url = url.join(&location)?,
                (status, _) => return Err(http::Error::Status(status).into()),
            }
        }
        Err(Error::Refused("too many redirects".to_owned()))
    }

    /// Fetches a segment and judges it; when its first picture was sent.
    async fn segment(&mut self, url: &Url) -> Result<Option<u64>, Error> {
        let asked = Instant::now();
        let mut checker = segment::Checker::default();
        let head = self
            .get(url, |bytes| {
                checker.read(bytes);
                true
            })
            .await?;
        if head.status != OK {
            return Err(http::Error::Status(head.status).into());
        }
        let mut tally = self.tally.lock();
        tally.counters.segments += 1;
        tally.fetched(asked.elapsed());
        match checker.finish() {
            Ok(code) => Ok(code.map(|code| code.sent_us)),
            Err(problem) => {
                tally.error(problem);
                Ok(None)
            }
        }
    }

    /// Makes a request; `take` gets the body, and says whether it wants more of it.
    async fn get(&mut self, url: &Url, mut take: impl FnMut(&[u8]) -> bool) -> Result<Head, Error> {
        // A server may close an idle connection at any time; then the request is made once more.
        if let Some(socket) = self.socket.take() {
            match self.exchange(socket, url, &mut take).await {
                Err((Error::Io(_) | Error::Closed, false)) => {}
                done => return done.map_err(|(error, _)| error),
            }
        }
        let socket = self
            .route
            .connect(self.number)
            .await
            .map_err(Error::Connect)?;
        let done = self.exchange(socket, url, &mut take).await;
        done.map_err(|(error, _)| error)
    }

    /// One request on a connection, which is kept if it can be used again. An error comes with whether the server had
    /// begun to answer.
    async fn exchange(
        &mut self,
        mut socket: TcpStream,
        url: &Url,
        take: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<Head, (Error, bool)> {
        let request = url.get("");
        let sent = socket.write_all(request.as_bytes()).await;
        sent.map_err(|error| (error.into(), false))?;
        let (mut collected, mut head) = (Vec::new(), None::<Head>);
        loop {
            let tally = &self.tally;
            let read = socket::read(&mut socket, |bytes| {
                tally.lock().read(bytes.len());
                receive(bytes, &mut collected, &mut head, take)
            });
            let has_begun = |head: &Option<Head>| head.is_some();
            let read = read.await.map_err(Error::from).and_then(|taken| taken);
            match read {
                Err(error) => return Err((error, has_begun(&head))),
                Ok(false) => {}
                Ok(true) => match head {
                    Some(head) => {
                        if head.body.has_ended() && !head.closes {
                            self.socket = Some(socket);
                        }
                        return Ok(head);
                    }
                    None => return Err((Error::Closed, false)),
                },
            }
        }
    }
}

/// Takes bytes of a response; whether that is all of it. No bytes are its end.
fn receive(
    mut input: &[u8],
    collected: &mut Vec<u8>,
    head: &mut Option<Head>,
    take: &mut impl FnMut(&[u8]) -> bool,
) -> Result<bool, Error> {
    let is_end = input.is_empty();
    if head.is_none() {
        *head = Head::read(collected, &mut input)?;
    }
    let Some(head) = head else {
        return if is_end {
            Err(Error::Closed)
        } else {
            Ok(false)
        };
    };
    while let Some(bytes) = head.body.next(&mut input)? {
        if !take(bytes) {
            return Err(Error::Refused("the playlist is too long".to_owned()));
        }
    }
    match head.body {
        http::Body::UntilClose => Ok(is_end),
        body if is_end && !body.has_ended() => Err(Error::Closed),
        body => Ok(body.has_ended()),
    }
}
