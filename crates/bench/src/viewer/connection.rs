//! A connection that fetches what a playlist or a manifest names, one after the other.
//!
//! Owns: requests over one kept connection, redirects, how long a document may be, and what a fetched object is judged
//! by. Does not own: what is fetched when.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

use super::{Error, Seat};
use crate::{
    http::{self, Head, Url},
    segment,
    shared::Digest,
    socket::{self, Route},
    tally::Tally,
};

/// Longest playlist or manifest: a day of two-second segments has 2 MB.
const TEXT_LEN_MAX: usize = 4 << 20;
/// Most redirects in a row.
const REDIRECTS_MAX: usize = 5;
/// What went well.
const OK: u16 = 200;

/// One connection that is used for all requests, and made again when the server has closed it.
pub(super) struct Connection {
    number: usize,
    route: Arc<Route>,
    tally: Arc<Mutex<Tally>>,
    socket: Option<TcpStream>,
}

impl Connection {
    /// Of this viewer; nothing is connected yet.
    pub(super) fn new(seat: &Seat) -> Self {
        Self {
            number: seat.number,
            route: Arc::clone(&seat.route),
            tally: Arc::clone(&seat.tally),
            socket: None,
        }
    }

    /// A playlist or a manifest, and where it was found in the end.
    pub(super) async fn text(&mut self, url: &Url) -> Result<(Url, Vec<u8>), Error> {
        let mut url = url.clone();
        for _ in 0..REDIRECTS_MAX {
            let mut text = Vec::new();
            let (head, _) = self
                .get(&url, |bytes| {
                    if text.len() + bytes.len() > TEXT_LEN_MAX {
                        return Err(Error::Refused("the playlist is too long".to_owned()));
                    }
                    text.extend_from_slice(bytes);
                    Ok(())
                })
                .await?;
            match (head.status, head.location) {
                (OK, _) => {
                    self.tally.lock().counters.playlists += 1;
                    return Ok((url, text));
                }
                (300..400, Some(location)) => url = url.join(&location)?,
                (status, _) => return Err(http::Error::Status(status).into()),
            }
        }
        Err(Error::Refused("too many redirects".to_owned()))
    }

    /// Fetches an object, whose bytes go to `digest` too if there is one, and judges its framing. `grown` is told of it
    /// whenever more has come.
    pub(super) async fn object(
        &mut self,
        url: &Url,
        mut digest: Option<&mut Digest>,
        mut grown: impl FnMut(&mut segment::Checker),
    ) -> Result<segment::Checker, Error> {
        let asked = Instant::now();
        let mut checker = segment::Checker::default();
        let (head, answered) = self
            .get(url, |bytes| {
                checker.read(bytes);
                if let Some(digest) = &mut digest {
                    digest.read(bytes);
                }
                grown(&mut checker);
                Ok(())
            })
            .await?;
        if head.status != OK {
            return Err(http::Error::Status(head.status).into());
        }
        let mut tally = self.tally.lock();
        tally.fetched(answered.saturating_duration_since(asked), asked.elapsed());
        if let Err(problem) = checker.finish() {
            tally.error(problem);
        }
        Ok(checker)
    }

    /// Makes a request; `take` gets the body of the answer, whose first byte came when the result says.
    async fn get(
        &mut self,
        url: &Url,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(Head, Instant), Error> {
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
        take: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(Head, Instant), (Error, bool)> {
        let request = url.get("");
        let sent = socket.write_all(request.as_bytes()).await;
        sent.map_err(|error| (error.into(), false))?;
        let (mut collected, mut head, mut answered) = (Vec::new(), None::<Head>, None);
        loop {
            let tally = &self.tally;
            let read = socket::read(&mut socket, |bytes| {
                answered.get_or_insert_with(Instant::now);
                tally.lock().read(bytes.len());
                receive(bytes, &mut collected, &mut head, take)
            });
            let has_begun = |head: &Option<Head>| head.is_some();
            let read = read.await.map_err(Error::from).and_then(|taken| taken);
            match read {
                Err(error) => return Err((error, has_begun(&head))),
                Ok(false) => {}
                Ok(true) => match head.zip(answered) {
                    Some((head, answered)) => {
                        if head.body.has_ended() && !head.closes {
                            self.socket = Some(socket);
                        }
                        return Ok((head, answered));
                    }
                    None => return Err((Error::Closed, false)),
                },
            }
        }
    }
}

/// Takes bytes of a response; whether that is all of it. No bytes are its end. The body of an answer that refuses is
/// nobody's.
fn receive(
    mut input: &[u8],
    collected: &mut Vec<u8>,
    head: &mut Option<Head>,
    take: &mut impl FnMut(&[u8]) -> Result<(), Error>,
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
        if head.status == OK {
            take(bytes)?;
        }
    }
    match head.body {
        http::Body::UntilClose => Ok(is_end),
        body if is_end && !body.has_ended() => Err(Error::Closed),
        body => Ok(body.has_ended()),
    }
}
