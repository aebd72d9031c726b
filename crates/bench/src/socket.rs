//! Sockets of the load generator, many thousands of them.
//!
//! Owns: connecting, source addresses (each has some 28 000 ports), the limit on descriptors, one read buffer for all
//! sockets of a thread, and when a stream is read. Does not own: protocols.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::{self, IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    task::ready,
    time::Duration,
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::{Interval, MissedTickBehavior, interval, timeout},
};

/// How long a connection may take to be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections from one source address: Linux has 28 232 ports for them unless told otherwise, and others are in use.
const PER_SOURCE_MAX: usize = 20_000;
/// Descriptors besides connections: the binary's own, event queues, files.
const DESCRIPTORS_SPARE: usize = 64;
/// What one read takes at most: several frames, and small enough to stay in the cache of a core.
const BUFFER_LEN: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_LEN]);
}

/// Where connections go, and from where.
#[derive(Debug, Clone)]
pub struct Route {
    to: SocketAddr,
    sources: Vec<IpAddr>,
}

impl Route {
    /// To `host`, for so many connections, from these addresses. Without any, the system chooses; on loopback further
    /// addresses are used as soon as one has not ports enough.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub async fn new(
        host: (&str, u16),
        connections: usize,
        sources: &[IpAddr],
    ) -> io::Result<Self> {
        let to = tokio::net::lookup_host(host)
            .await?
            .next()
            .ok_or(io::ErrorKind::NotFound)?;
        let mut sources = sources.to_vec();
        if sources.is_empty() && connections > PER_SOURCE_MAX && to.ip() == Ipv4Addr::LOCALHOST {
            let count = connections.div_ceil(PER_SOURCE_MAX);
            let addr = |index| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + index);
            sources.extend((0..).map(addr).map(IpAddr::from).take(count));
        }
        Ok(Self { to, sources })
    }

    /// Makes the connection with that number.
    ///
    /// # Errors
    /// It is refused or not accepted in time.
    pub async fn connect(&self, number: usize) -> io::Result<TcpStream> {
        let socket = if self.to.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = self.sources.get(number % self.sources.len().max(1)) {
            socket.bind((*source, 0).into())?;
        }
        let stream = timeout(CONNECT_TIMEOUT, socket.connect(self.to))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Waits for bytes and shows them to `take`, in a buffer that all sockets of this thread share; none at the end.
///
/// # Errors
/// The connection is broken.
pub async fn read<T>(socket: &mut TcpStream, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T> {
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
            Ok(take(buffer.filled())).into()
        })
    })
    .await
}

/// Where a stream comes from.
#[derive(Debug)]
pub(crate) enum Inlet {
    /// What comes is read at once.
    Eager(TcpStream),
    /// What has gathered is read now and then. No event queue knows of the socket, so that what arrives wakes nobody: that
    /// costs the most, where there are many thousands.
    InRounds {
        socket: net::TcpStream,
        rounds: Interval,
    },
}

impl Inlet {
    /// From now on it is read once in `every`.
    pub(crate) fn slow_down(self, every: Duration) -> io::Result<Self> {
        let Self::Eager(socket) = self else {
            return Ok(self);
        };
        // It stays non-blocking.
        let socket = socket.into_std()?;
        let mut rounds = interval(every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self::InRounds { socket, rounds })
    }

    /// As [`read`], when it is time.
    pub(crate) async fn read<T>(&mut self, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T> {
        let (socket, rounds) = match self {
            Self::Eager(socket) => return read(socket, take).await,
            Self::InRounds { socket, rounds } => (socket, rounds),
        };
        loop {
            rounds.tick().await;
            let taken: io::Result<T> = BUFFER.with_borrow_mut(|buffer| {
                let len = socket.read(buffer)?;
                if len == buffer.len() {
                    // There may be more.
                    rounds.reset_immediately();
                }
                Ok(take(buffer.get(..len).unwrap_or_default()))
            });
            match taken {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return taken,
            }
        }
    }

    /// Sends an answer; in rounds it has to fit into the socket, as what viewers have to say does.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Eager(socket) => socket.write_all(bytes).await,
            Self::InRounds { socket, .. } => socket.write_all(bytes),
        }
    }
}

/// Asks the system for as many descriptors as it grants.
///
/// # Errors
/// They are too few for so many connections; how many there may be.
pub fn raise_descriptor_limit(connections: usize) -> Result<(), usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What counts is what is granted in the end.
    let _ = setrlimit(Resource::Nofile, limit);
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(granted)
        .unwrap_or(usize::MAX)
        .saturating_sub(DESCRIPTORS_SPARE);
    if connections > most {
        Err(most)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(connections: usize, sources: &[IpAddr]) -> Vec<IpAddr> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let route = Route::new(("127.0.0.1", 1), connections, sources);
        runtime
            .and_then(|runtime| runtime.block_on(route))
            .expect("an address needs no resolving")
            .sources
    }

    #[test]
    fn many_connections_have_many_sources() {
        let addr = |last| IpAddr::from([127, 0, 0, last]);
        assert!(route(20_000, &[]).is_empty());
        assert_eq!(route(20_001, &[]), [addr(1), addr(2)]);
        assert_eq!(route(60_001, &[]), [addr(1), addr(2), addr(3), addr(4)]);
        assert_eq!(route(60_001, &[addr(9)]), [addr(9)]);
    }

    #[test]
    fn more_than_the_system_grants_is_refused() {
        assert_eq!(raise_descriptor_limit(10), Ok(()));
        assert!(raise_descriptor_limit(usize::MAX).is_err());
    }
}
