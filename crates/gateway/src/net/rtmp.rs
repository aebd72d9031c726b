//! One RTMP connection: a sans-IO machine of crate `proto` on a socket, that of a server or that of a client.
//!
//! Owns: reading, writing, the deadline until a client of ours has a role, pings, and the last flush before closing.
//! Does not own: what is done with the events of a connection ([`crate::ingest`], [`crate::deliver::rtmp`]).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use weir_proto::rtmp::{self, Config, Event, Session, client};

use crate::{
    Limits,
    net::{Burst, Deadline, Socket, tls::TlsAcceptor},
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

/// What [`Connection::listen`] has found.
pub(crate) enum Listened<E> {
    /// What the peer does or wants.
    Event(E),
    /// Something to be written.
    Output,
    /// The peer has closed, or the machine is done.
    Closed,
}

/// What both sides of the protocol have in common.
pub trait Machine {
    /// What the peer does or wants.
    type Event;

    /// Takes bytes of the peer.
    fn handle_input(&mut self, input: Bytes);

    /// The next event in what was taken.
    ///
    /// # Errors
    /// A fault of the peer.
    fn poll_event(&mut self) -> Result<Option<Self::Event>, rtmp::Error>;

    /// The next bytes to send.
    fn poll_output(&mut self) -> Option<Bytes>;

    /// Does what is due at `now_ms` since the connection began.
    ///
    /// # Errors
    /// The peer is gone.
    fn handle_timeout(&mut self, now_ms: u64) -> Result<(), rtmp::Error>;

    /// When [`Self::handle_timeout`] is due.
    fn next_timeout_ms(&self) -> Option<u64>;

    /// Whether to close once all output is sent.
    fn should_close(&self) -> bool;
}

impl Machine for Session {
    type Event = Event;

    fn handle_input(&mut self, input: Bytes) {
        self.handle_input(input);
    }

    fn poll_event(&mut self) -> Result<Option<Event>, rtmp::Error> {
        self.poll_event()
    }

    fn poll_output(&mut self) -> Option<Bytes> {
        self.poll_output()
    }

    fn handle_timeout(&mut self, now_ms: u64) -> Result<(), rtmp::Error> {
        self.handle_timeout(now_ms)
    }

    fn next_timeout_ms(&self) -> Option<u64> {
        Some(self.next_timeout_ms())
    }

    fn should_close(&self) -> bool {
        self.should_close()
    }
}

impl Machine for client::Client {
    type Event = client::Event;

    fn handle_input(&mut self, input: Bytes) {
        self.handle_input(input);
    }

    fn poll_event(&mut self) -> Result<Option<client::Event>, rtmp::Error> {
        self.poll_event()
    }

    fn poll_output(&mut self) -> Option<Bytes> {
        self.poll_output()
    }

    fn handle_timeout(&mut self, now_ms: u64) -> Result<(), rtmp::Error> {
        self.handle_timeout(now_ms)
    }

    fn next_timeout_ms(&self) -> Option<u64> {
        self.next_timeout_ms()
    }

    fn should_close(&self) -> bool {
        self.should_close()
    }
}

/// A connection on its way to being a publisher or a player, and afterwards.
#[derive(Debug)]
pub struct Connection<M = Session> {
    id: u64,
    socket: Socket,
    machine: M,
    buffer: BytesMut,
    /// Between [`READ_LEN_MIN`] and [`READ_LEN_MAX`].
    read_len: usize,
    /// What is not written yet. It stays here when a write is cancelled, so that no message is ever cut.
    outgoing: Burst,
    began: Instant,
    /// When the machine has something to do by itself.
    timer: Option<Deadline>,
    closed_by_peer: bool,
}

impl Connection {
    /// Takes over an accepted socket.
    ///
    /// # Errors
    /// The socket refuses its options, or the peer does not manage a TLS handshake where `tls` asks for one.
    pub async fn accept(
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
        config: Arc<Config>,
        limits: Limits,
    ) -> io::Result<Self> {
        let socket = Socket::accept(stream, tls, limits.write_stall_timeout).await?;
        Self::with(socket, |seed| Session::new(config, seed, 0))
    }

    /// The state machine, for answers.
    pub fn session(&mut self) -> &mut Session {
        &mut self.machine
    }

    /// As [`Self::next_event`], for a client that has no role yet.
    ///
    /// # Errors
    /// As above, and when `limit` since the accept is over.
    pub async fn first_event(&mut self, limit: Duration) -> Result<Option<Event>, Error> {
        let deadline = self.began + limit;
        tokio::time::timeout_at(deadline, self.next_event())
            .await
            .unwrap_or(Err(Error::NoRole(limit)))
    }
}

impl Connection<client::Client> {
    /// Speaks to a server on a socket that is connected to it.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn client(socket: Socket, config: Arc<client::Config>) -> io::Result<Self> {
        Self::with(socket, |seed| client::Client::new(config, seed, 0))
    }

    /// The state machine, for media.
    pub fn machine(&mut self) -> &mut client::Client {
        &mut self.machine
    }

    /// Bytes of the server so far: the place of a fault.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.machine.received_bytes()
    }
}

impl<M: Machine> Connection<M> {
    fn with(socket: Socket, machine: impl FnOnce(u64) -> M) -> io::Result<Self> {
        let seed = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            machine: machine(seed),
            buffer: BytesMut::new(),
            read_len: READ_LEN_MIN,
            outgoing: Burst::default(),
            began: socket.opened(),
            timer: None,
            socket,
            closed_by_peer: false,
        })
    }

    /// Tells connections apart in logs.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Waits for the next event; `None` when the peer has closed or the machine is done. Cancel-safe: what was
    /// read is kept.
    ///
    /// # Errors
    /// A fault of the peer or of the socket.
    pub async fn next_event(&mut self) -> Result<Option<M::Event>, Error> {
        loop {
            let event = self.machine.poll_event()?;
            self.flush().await?;
            if event.is_some() {
                return Ok(event);
            }
            if self.machine.should_close() || self.closed_by_peer {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// Lets others write to the socket between [`Self::listen`] and [`Self::resume`]; none with TLS.
    pub(crate) fn share(&self) -> Option<Arc<TcpStream>> {
        self.socket.share()
    }

    /// As [`Self::next_event`], but writes nothing: also returns, without an event, when the machine has something to say
    /// or the connection is done.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn listen(&mut self) -> Result<Listened<M::Event>, Error> {
        loop {
            let event = self.machine.poll_event()?;
            self.queue_output();
            if let Some(event) = event {
                return Ok(Listened::Event(event));
            }
            if self.machine.should_close() || self.closed_by_peer {
                return Ok(Listened::Closed);
            }
            if self.outgoing.has_remaining() {
                return Ok(Listened::Output);
            }
            self.read().await?;
        }
    }

    /// Writes what others have left, then what the machine has to say.
    ///
    /// # Errors
    /// The socket failed, or the peer has stopped reading.
    pub(crate) async fn resume(&mut self, mut rest: Burst) -> Result<(), Error> {
        self.socket.write_all_buf(&mut rest).await?;
        self.flush().await
    }

    /// Reads once, or handles the timer of the machine.
    async fn read(&mut self) -> Result<(), Error> {
        match (self.machine.next_timeout_ms(), &mut self.timer) {
            (Some(ms), Some(timer)) => timer.move_to(self.began + Duration::from_millis(ms)),
            (Some(ms), None) => {
                self.timer = Some(Deadline::new(self.began + Duration::from_millis(ms)));
            }
            (None, timer) => *timer = None,
        }
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
                self.machine.handle_input(self.buffer.split().freeze());
            }
            () = passed(self.timer.as_mut()) => {
                let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.machine.handle_timeout(now_ms)?;
            }
        }
        Ok(())
    }

    /// Writes shared buffers behind what the machine has to say, all of them in as few calls as the socket takes.
    /// Cancel-safe: what is not written stays queued.
    ///
    /// # Errors
    /// The socket failed, or the peer has stopped reading.
    pub async fn write(&mut self, buffers: impl IntoIterator<Item = Bytes>) -> Result<(), Error> {
        self.queue_output();
        for bytes in buffers {
            self.outgoing.push(bytes);
        }
        self.write_out().await
    }

    /// Writes what the machine has to say.
    async fn flush(&mut self) -> Result<(), Error> {
        self.queue_output();
        self.write_out().await
    }

    async fn write_out(&mut self) -> Result<(), Error> {
        self.socket.write_all_buf(&mut self.outgoing).await?;
        Ok(self.socket.flush().await?)
    }

    fn queue_output(&mut self) {
        while let Some(output) = self.machine.poll_output() {
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

/// Never returns when there is no such time.
async fn passed(timer: Option<&mut Deadline>) {
    match timer {
        Some(timer) => timer.passed().await,
        None => std::future::pending().await,
    }
}
