//! One RTMP connection: the sans-IO session of crate `proto` on a socket.
//!
//! Owns: reading, writing, the deadline until a client has a role, pings, and the last flush before closing.
//! Does not own: what a publisher or player does with its events ([`crate::ingest::rtmp`], [`crate::deliver::rtmp`]).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use weir_proto::rtmp::{self, Config, Event, Session};

use crate::{
    Limits,
    net::{Burst, Socket},
};

/// What reads ask the socket for: little at first, since most connections send little; twice as much whenever that was
/// not enough, up to several frames at the usual bit rates.
const READ_LEN_MIN: usize = 4 << 10;
/// See [`READ_LEN_MIN`].
const READ_LEN_MAX: usize = 64 << 10;
/// How long the last bytes may take before the connection is closed (CONFORMANCE M5).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Why a connection ended that neither side closed in good order.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] rtmp::Error),
    /// The socket failed, or the peer stopped reading.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The client neither published nor played in time.
    #[error("the client neither published nor played within {} s of connecting", .0.as_secs())]
    NoRole(Duration),
    /// The publisher sent nothing for too long.
    #[error("the publisher sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
}

/// A connection on its way to being a publisher or a player, and afterwards.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    socket: Socket,
    session: Session,
    buffer: BytesMut,
    /// Between [`READ_LEN_MIN`] and [`READ_LEN_MAX`].
    read_len: usize,
    /// What is not written yet. It stays here when a write is cancelled, so that no message is ever cut.
    outgoing: Burst,
    accepted: Instant,
    closed_by_peer: bool,
}

impl Connection {
    /// Takes over an accepted socket.
    ///
    /// # Errors
    /// The socket refuses its options.
    pub fn new(stream: TcpStream, config: Arc<Config>, limits: Limits) -> io::Result<Self> {
        let seed = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            socket: Socket::new(stream, limits.write_stall_timeout)?,
            session: Session::new(config, seed, 0),
            buffer: BytesMut::new(),
            read_len: READ_LEN_MIN,
            outgoing: Burst::default(),
            accepted: Instant::now(),
            closed_by_peer: false,
        })
    }

    /// Tells connections apart in logs.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The state machine, for answers.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Waits for the next event; `None` when the peer has closed or the session is to be closed. Cancel-safe: what was
    /// read is kept.
    ///
    /// # Errors
    /// A fault of the peer or of the socket.
    pub async fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let event = self.session.poll_event()?;
            self.flush().await?;
            if event.is_some() {
                return Ok(event);
            }
            if self.session.should_close() || self.closed_by_peer {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// As [`Self::next_event`], for a client that has no role yet.
    ///
    /// # Errors
    /// As above, and when `limit` since the accept is over.
    pub async fn first_event(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        let deadline = self.accepted + limit;
        tokio::time::timeout_at(deadline, self.next_event())
            .await
            .unwrap_or(Err(Error::NoRole(limit)))
    }

    /// Reads once, or handles the timer of the session.
    async fn read(&mut self) -> Result<(), Error> {
        let due = self.accepted + Duration::from_millis(self.session.next_timeout_ms());
        // A frame keeps its whole block alive, so a block is filled by many reads before the next one is begun.
        if self.buffer.capacity() < self.read_len / 4 {
            self.buffer.reserve(self.read_len);
        }
        tokio::select! {
            read = self.socket.read_buf(&mut self.buffer) => {
                self.closed_by_peer = read? == 0;
                if self.buffer.len() == self.buffer.capacity() {
                    self.read_len = READ_LEN_MAX.min(self.read_len * 2);
                }
                self.session.handle_input(self.buffer.split().freeze());
            }
            () = tokio::time::sleep_until(due) => {
                let now_ms = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.session.handle_timeout(now_ms)?;
            }
        }
        Ok(())
    }

    /// Writes shared buffers behind what the session has to say, all of them in as few calls as the socket takes.
    /// Cancel-safe: what is not written stays queued.
    ///
    /// # Errors
    /// The socket failed, or the peer has stopped reading.
    pub async fn write(&mut self, buffers: impl IntoIterator<Item = Bytes>) -> Result<(), Error> {
        self.queue_output();
        for bytes in buffers {
            self.outgoing.push(bytes);
        }
        Ok(self.socket.write_all_buf(&mut self.outgoing).await?)
    }

    /// Writes what the session has to say.
    async fn flush(&mut self) -> Result<(), Error> {
        self.queue_output();
        Ok(self.socket.write_all_buf(&mut self.outgoing).await?)
    }

    fn queue_output(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.outgoing.push(output);
        }
    }

    /// Sends what is left and closes. What the peer still sends is read and dropped for a moment: closing on unread
    /// bytes would reset the connection and take our last message with it.
    pub async fn close(mut self) {
        let farewell = async {
            self.flush().await?;
            self.socket.shutdown().await?;
            while !self.closed_by_peer {
                self.buffer.clear();
                self.buffer.reserve(READ_LEN_MIN);
                self.closed_by_peer = self.socket.read_buf(&mut self.buffer).await? == 0;
            }
            Ok::<(), Error>(())
        };
        // Whatever fails here, the connection ends all the same.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
    }
}
