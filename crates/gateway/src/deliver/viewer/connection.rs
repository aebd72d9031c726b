//! A viewer with a connection of its own.
//!
//! Owns: catching up with the stream, being served with all others that are up to date ([`Fanout`](crate::derive)), what
//! the client says meanwhile, and the end. Does not own: what a protocol says ([`Peer`]).

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use weir_hub::{KillReason, Read};

use super::{Source, Viewer};
use crate::{
    derive::{Framing, Link},
    net::{Burst, Socket},
};

/// The client's side of a protocol that carries a stream.
pub(in crate::deliver) trait Peer: Send {
    /// How shared bytes are wrapped.
    const FRAMING: Framing;

    /// Waits for something that is to be answered, or for the end. Cancel-safe.
    fn listen(&mut self, socket: &mut Socket) -> impl Future<Output = Heard> + Send;

    /// What is said at the end of the stream.
    fn farewell(&self) -> Bytes;
}

/// What a client has said.
pub(in crate::deliver) enum Heard {
    /// It is gone.
    Gone,
    /// Something to answer.
    Answer(Bytes),
    /// Something to answer before the connection ends.
    LastAnswer(Bytes),
}

/// What ends a stretch of watching.
enum Next {
    /// There is more to write.
    More,
    Heard(Heard),
    /// The stream, or the session.
    End,
}

type Killed<'a> = Pin<&'a mut (dyn Future<Output = KillReason> + Send)>;

impl Viewer {
    /// Writes the stream to its connection until either side ends it.
    ///
    /// # Errors
    /// The socket failed, or the client has stopped reading.
    pub(in crate::deliver) async fn watch<P: Peer>(
        self,
        mut socket: Socket,
        mut peer: P,
    ) -> io::Result<()> {
        let Self {
            mut source,
            session,
        } = self;
        let link = socket.share();
        let link = link.map(|shared| Link::new(shared, P::FRAMING, session.meter()));
        let mut killed = pin!(session.killed());
        loop {
            let next = source
                .catch_up(&mut socket, P::FRAMING, killed.as_mut())
                .await?;
            let next = match (next, &link) {
                (Next::More, Some(link)) => {
                    source
                        .follow(link, &mut socket, &mut peer, killed.as_mut())
                        .await?
                }
                (Next::More, None) => source.wait(&mut socket, &mut peer, killed.as_mut()).await,
                (next, _) => next,
            };
            match next {
                Next::More => {}
                Next::Heard(Heard::Answer(answer)) => socket.write_all(&answer).await?,
                Next::Heard(Heard::LastAnswer(answer)) => {
                    socket.write_all(&answer).await?;
                    break;
                }
                Next::Heard(Heard::Gone) => {
                    tracing::debug!("the viewer has left");
                    return Ok(());
                }
                Next::End => {
                    socket.write_all(&peer.farewell()).await?;
                    break;
                }
            }
        }
        socket.shutdown().await
    }
}

impl Source {
    /// Writes until there is nothing new: then there will be more.
    async fn catch_up(
        &mut self,
        socket: &mut Socket,
        framing: Framing,
        mut killed: Killed<'_>,
    ) -> io::Result<Next> {
        loop {
            let mut burst = self.burst(framing);
            tokio::select! {
                biased;
                written = write(socket, &mut burst) => written?,
                _ = killed.as_mut() => return Ok(Next::End),
            }
            match self.read() {
                Read::Items { .. } => {}
                Read::Empty => return Ok(Next::More),
                Read::Closed => return Ok(Next::End),
            }
        }
    }

    /// Lets itself be served with all others until something happens that concerns this viewer alone.
    async fn follow(
        &mut self,
        link: &Arc<Link>,
        socket: &mut Socket,
        peer: &mut impl Peer,
        mut killed: Killed<'_>,
    ) -> io::Result<Next> {
        let (Some(place), Some(epoch)) = (self.reader.cursor.place(), self.head.known()) else {
            return Ok(self.wait(socket, peer, killed).await);
        };
        let served = self.reader.enter(link, place, Arc::clone(epoch));
        let (returned, next) = tokio::select! {
            returned = served.returned() => (returned?, Next::More),
            heard = peer.listen(socket) => match heard {
                Heard::Gone => return Ok(Next::Heard(Heard::Gone)),
                heard => (served.leave().await?, Next::Heard(heard)),
            },
            _ = killed.as_mut() => (served.leave().await?, Next::End),
        };
        self.reader.cursor.go_on_at(returned.place);
        let mut rest = returned.rest;
        write(socket, &mut rest).await?;
        Ok(next)
    }

    /// Waits for what is new, without help: over TLS, or while there is nothing to begin with.
    async fn wait(
        &mut self,
        socket: &mut Socket,
        peer: &mut impl Peer,
        mut killed: Killed<'_>,
    ) -> Next {
        tokio::select! {
            more = self.next() => if more { Next::More } else { Next::End },
            heard = peer.listen(socket) => Next::Heard(heard),
            _ = killed.as_mut() => Next::End,
        }
    }
}

async fn write(socket: &mut Socket, burst: &mut Burst) -> io::Result<()> {
    socket.write_all_buf(burst).await?;
    socket.flush().await
}
