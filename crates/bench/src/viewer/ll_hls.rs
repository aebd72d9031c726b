//! A viewer of HLS with parts (draft-pantos-hls-rfc8216bis, 6.3.7), as hls.js plays them.
//!
//! Owns: reloads that wait for the next part, delta updates, and every part once, as soon as it is listed. Pictures and
//! sound each have a connection and go on by themselves. Does not own: reading playlists ([`crate::playlist`]). Hints of
//! parts to come are not followed: hls.js does not either.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{
    Error, Seat,
    connection::Connection,
    hls::{OTHER_BYTES, media_playlists},
    patience::Patience,
    screen::Screen,
};
use crate::{
    http::Url,
    judge::Arrival,
    playlist::{self, Continuity, Media, Part, Playlist},
    shared::{Digest, Shared},
    tally::Tally,
};

/// What is held back, in parts, where the server does not tell it (rfc8216bis, 4.4.3.8: three at least).
const HOLD_BACK_PARTS: u32 = 3;

/// One viewer.
pub(super) struct Viewer {
    pictures: Rendition,
    sound: Rendition,
}

/// One media playlist and what has been fetched of it.
struct Rendition {
    connection: Connection,
    tally: Arc<Mutex<Tally>>,
    shared: Arc<Shared>,
    /// What shows its media, if that is what the player plays.
    screen: Option<Screen>,
    patience: Patience,
    continuity: Continuity,
    /// Whether media is fetched, and not only the playlist.
    fetches: bool,
    is_served: bool,
    /// The part that comes next, once the first is chosen.
    next: Option<(u64, u32)>,
    /// The directives of the next request; empty for a request that does not wait.
    directives: String,
    map: Option<String>,
    witness: Option<Witness>,
}

/// What is remembered to compare a segment with its parts.
#[derive(Default)]
struct Witness {
    number: u64,
    digest: Digest,
    /// How many parts it has had, from the first on.
    parts: u32,
}

impl Viewer {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        let rendition = |screen| Rendition {
            connection: Connection::new(seat),
            tally: Arc::clone(&seat.tally),
            shared: Arc::clone(&seat.shared),
            screen,
            patience: Patience::new(&seat.tally),
            continuity: Continuity::default(),
            fetches: seat.fetches,
            is_served: false,
            next: None,
            directives: String::new(),
            map: None,
            witness: seat.is_witness().then(Witness::default),
        };
        Self {
            pictures: rendition(Some(Screen::new(seat, asked))),
            sound: rendition(None),
        }
    }

    /// Plays until it goes wrong.
    pub(super) async fn watch(&mut self, url: &Url) -> Result<(), Error> {
        let Self { pictures, sound } = self;
        let urls = media_playlists(&mut pictures.connection, &pictures.shared, url).await?;
        match &urls[..] {
            [url] => pictures.follow(url).await,
            [url, ..] if !pictures.fetches => pictures.follow(url).await,
            [of_pictures, of_sound, ..] => {
                tokio::try_join!(pictures.follow(of_pictures), sound.follow(of_sound))?;
                Ok(())
            }
            [] => Err(playlist::Error::Empty.into()),
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let last = self.pictures.patience.last();
        let error = error.or(last).or(self.sound.patience.last());
        if let Some(screen) = &mut self.pictures.screen {
            screen.finish(error);
        }
    }
}

impl Rendition {
    /// Loads the playlist again and again, and fetches what is new in it.
    async fn follow(&mut self, url: &Url) -> Result<(), Error> {
        loop {
            match self.load(url).await {
                Ok(true) => self.patience.recover(),
                Ok(false) => return Ok(()),
                Err(error) if self.is_served => {
                    self.patience.bear(error).await?;
                    self.directives.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Loads the playlist and every part that is new in it; whether more can come.
    async fn load(&mut self, url: &Url) -> Result<bool, Error> {
        let waits = !self.directives.is_empty();
        let (_, text) = self
            .connection
            .text(&url.with_query(&self.directives))
            .await?;
        let playlist = self.shared.playlists.read(&text, Playlist::parse)?;
        if waits {
            let mut tally = self.tally.lock();
            tally.released(playlist.first_at.elapsed());
        }
        let Playlist::Media(media) = &*playlist.content else {
            return Err(playlist::Error::Empty.into());
        };
        self.continuity.check(media)?;
        let target = media.part_target;
        let target = target.ok_or(playlist::Error::Missing("EXT-X-PART-INF"))?;
        self.take(url, media).await?;
        self.directives.clear();
        if media.control.blocks {
            let (number, part) = media.next_part();
            self.directives = format!("_HLS_msn={number}&_HLS_part={part}");
            if media.control.skips {
                self.directives.push_str("&_HLS_skip=YES");
            }
        } else {
            sleep(target).await;
        }
        Ok(!media.has_ended)
    }

    /// Fetches what is new in a playlist.
    async fn take(&mut self, url: &Url, media: &Media) -> Result<(), Error> {
        let first = self.first_wanted(media);
        for part in &media.parts {
            if (part.number, part.index) < first {
                continue;
            }
            if self.fetches {
                self.fetch(url, part).await?;
            }
            self.next = Some((part.number, part.index + 1));
            self.is_served = true;
            if let Some(screen) = self.screen.as_mut().filter(|_| !self.fetches) {
                screen.receive(part.duration, None);
            }
        }
        if self.witness.is_some() && self.fetches {
            self.compare(url, media).await?;
        }
        Ok(())
    }

    async fn fetch(&mut self, url: &Url, part: &Part) -> Result<(), Error> {
        if part.map.is_some() && part.map != self.map {
            if let Some(map) = &part.map {
                let map = url.join(map)?;
                self.connection.object(&map, None, |_| {}).await?;
            }
            self.map.clone_from(&part.map);
        }
        let mut digest = self
            .witness
            .as_ref()
            .and_then(|seen| seen.digest_before(part));
        let fetched = self
            .connection
            .object(&url.join(&part.uri)?, digest.as_mut(), |_| {})
            .await?;
        self.tally.lock().counters.parts += 1;
        if let (Some(seen), Some(digest)) = (&mut self.witness, digest) {
            let name = (url.to_string(), part.number, Some(part.index));
            if !self.shared.ledger.agrees(&name, &digest) {
                self.tally.lock().error(OTHER_BYTES);
            }
            *seen = Witness {
                number: part.number,
                digest,
                parts: part.index + 1,
            };
        }
        if let Some(screen) = &mut self.screen {
            screen.receive(part.duration, fetched.time_code());
        }
        Ok(())
    }

    /// Fetches the segment of which all parts have come, and compares it with them.
    async fn compare(&mut self, url: &Url, media: &Media) -> Result<(), Error> {
        let Some(seen) = self.witness.as_ref().filter(|seen| seen.is_whole(media)) else {
            return Ok(());
        };
        let number = seen.number;
        let Some((_, segment)) = media.numbered().find(|(of, _)| *of == number) else {
            return Ok(());
        };
        let mut digest = Digest::default();
        self.connection
            .object(&url.join(&segment.uri)?, Some(&mut digest), |_| {})
            .await?;
        let mut tally = self.tally.lock();
        tally.counters.compared_segments += 1;
        if self.witness.take().is_none_or(|seen| seen.digest != digest) {
            tally.error("a segment is not its parts put together");
        }
        let name = (url.to_string(), number, None::<u32>);
        if !self.shared.ledger.agrees(&name, &digest) {
            tally.error(OTHER_BYTES);
        }
        self.witness = Some(Witness::default());
        Ok(())
    }

    /// The first part to fetch. Who has fallen out of the playlist begins anew.
    fn first_wanted(&mut self, media: &Media) -> (u64, u32) {
        let listed = media.parts.first().map_or(0, |part| part.number);
        let Some(next) = self.next else {
            return self.begin(media);
        };
        // Parts go from the list a segment at a time.
        if listed <= next.0 + 1 {
            return next;
        }
        // After an outage it is the player that was away.
        if !self.directives.is_empty() {
            self.tally.lock().counters.skipped_segments += listed - next.0;
        }
        self.begin(media)
    }

    /// The part to begin with: a key frame, from which on there is as much as the server wants to be held back.
    fn begin(&mut self, media: &Media) -> (u64, u32) {
        let target = media.part_target.unwrap_or(media.target_duration);
        let told = media.control.part_hold_back;
        let wanted = self.screen.as_ref().map_or(Duration::ZERO, Screen::buffer);
        let hold_back = told.unwrap_or(target * HOLD_BACK_PARTS).max(wanted);
        let mut behind = Duration::ZERO;
        let mut first = media.next_part();
        let mut before = Duration::ZERO;
        for part in media.parts.iter().rev() {
            behind += part.duration;
            if part.independent {
                first = (part.number, part.index);
                before = behind.saturating_sub(hold_back);
                if behind >= hold_back {
                    break;
                }
            }
        }
        if let Some(screen) = &mut self.screen {
            screen.begin(before, hold_back);
        }
        first
    }
}

impl Witness {
    /// The digest of all parts of the segment before this one, if they have come.
    fn digest_before(&self, part: &Part) -> Option<Digest> {
        match part.index {
            0 => Some(Digest::default()),
            index if self.number == part.number && self.parts == index => Some(self.digest.clone()),
            _ => None,
        }
    }

    /// Whether all parts of a complete segment have come.
    fn is_whole(&self, media: &Media) -> bool {
        let parts = media.parts.iter().filter(|part| part.number == self.number);
        let count = parts.count();
        count > 0 && count == self.parts as usize && media.next_part().0 > self.number
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        io::{BufRead as _, BufReader, Write as _},
        net::{Ipv4Addr, SocketAddr, TcpListener},
        thread,
    };

    use super::*;
    use crate::{
        socket::Route,
        viewer::{self, Address, Protocol},
    };

    const ENDED: &str = "the server ended the stream";
    const NOT_ITS_PARTS: &str = "a segment is not its parts put together";

    /// A box that holds one byte.
    fn one(byte: u8) -> Vec<u8> {
        [&[0, 0, 0, 9], &b"free"[..], &[byte]].concat()
    }

    /// A segment of two parts, and how it is as a whole; nothing follows it.
    fn objects(parts: [u8; 2], whole: [u8; 2]) -> HashMap<String, Vec<u8>> {
        let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=1\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3\n#EXT-X-MEDIA-SEQUENCE:7\n\
            #EXT-X-PART:DURATION=1,URI=\"7.0\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=1,URI=\"7.1\"\n\
            #EXTINF:2,\n7\n#EXT-X-ENDLIST\n";
        let both = whole.map(one).concat();
        [
            ("a.m3u8", playlist.as_bytes().to_vec()),
            ("7.0", one(parts[0])),
            ("7.1", one(parts[1])),
            ("7", both),
        ]
        .map(|(name, bytes)| (format!("/{name}"), bytes))
        .into()
    }

    /// Answers the requests of one connection.
    fn serve(listener: &TcpListener, objects: &HashMap<String, Vec<u8>>) {
        let (mut socket, _) = listener.accept().expect("the viewer connects");
        let requests = BufReader::new(socket.try_clone().expect("it can be cloned"));
        let lines = requests.lines().map_while(Result::ok);
        for line in lines.filter(|line| line.starts_with("GET ")) {
            let path = line.split(' ').nth(1).expect("a request has a path");
            let body = objects.get(path).expect("there is such an object");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let answer = [head.as_bytes(), body].concat();
            socket.write_all(&answer).expect("the viewer reads");
        }
    }

    /// What a witness finds wrong.
    fn watch(objects: HashMap<String, Vec<u8>>, shared: &Arc<Shared>) -> Vec<String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a port");
        // The ledger knows the place by its address, so it is the same for all.
        let addr: SocketAddr = listener.local_addr().expect("it is bound");
        let server = thread::spawn(move || serve(&listener, &objects));
        let url = Url::parse("http://place/a.m3u8").expect("it is one");
        let tally = Arc::new(Mutex::new(Tally::new()));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("it can be built");
        let (_over, is_over) = tokio::sync::watch::channel(false);
        runtime.block_on(async {
            let host = (Ipv4Addr::LOCALHOST.to_string(), addr.port());
            let route = Route::new((&host.0, host.1), 1, &[]).await;
            viewer::watch(Seat {
                number: 0,
                protocol: Protocol::LlHls,
                address: Arc::new(Address::Http(url)),
                route: Arc::new(route.expect("an address needs no resolving")),
                buffer: Duration::ZERO,
                round: None,
                fetches: true,
                tally: Arc::clone(&tally),
                shared: Arc::clone(shared),
                over: is_over,
            })
            .await;
        });
        server.join().expect("the server does not panic");
        let tally = tally.lock();
        assert_eq!(
            (tally.counters.parts, tally.counters.compared_segments),
            (2, 1)
        );
        tally.errors.keys().cloned().collect()
    }

    #[test]
    fn a_segment_is_compared_with_its_parts() {
        let watch = |parts, whole| watch(objects(parts, whole), &Arc::default());
        assert_eq!(watch([1, 2], [1, 2]), [ENDED]);
        assert_eq!(watch([1, 2], [1, 3]), [NOT_ITS_PARTS, ENDED]);
    }

    #[test]
    fn an_object_stays_what_it_was() {
        let shared = Arc::default();
        assert_eq!(watch(objects([1, 2], [1, 2]), &shared), [ENDED]);
        assert_eq!(watch(objects([1, 2], [1, 2]), &shared), [ENDED]);
        assert_eq!(
            watch(objects([1, 3], [1, 3]), &shared),
            [OTHER_BYTES, ENDED]
        );
    }
}
