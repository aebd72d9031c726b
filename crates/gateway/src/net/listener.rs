//! Accepting connections.
//!
//! Owns: binding, the limits on connections (of all clients, and of one), and what happens when the process runs out of
//! descriptors.
//! A permit is taken before `accept`, so that a full server leaves new connections in the kernel's queue.

mod per_address;
mod reserve;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use self::{
    per_address::{Counted, PerAddress},
    reserve::Reserve,
};
use crate::net::{Throttle, client::TrustedProxies, tasks::Tasks};

/// Connections the kernel holds for us between two accepts: a thousand viewers may arrive in the same instant.
const BACKLOG: i32 = 4_096;
/// After a failed accept (no descriptors left) the next try waits, so that it does not spin (FAULTS F34).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The limits on connections, shared by all listeners, and how many there are.
#[derive(Debug, Clone)]
pub struct Connections {
    permits: Arc<Semaphore>,
    max: usize,
    per_address: Arc<PerAddress>,
    reserve: Arc<Reserve>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    refused_per_ip: AtomicU64,
    refused_no_descriptor: AtomicU64,
    accept_errors: AtomicU64,
}

/// Connections that were accepted only to be closed.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// Their address had as many as one may have.
    pub per_ip: u64,
    /// The process had no descriptor for them.
    pub no_descriptor: u64,
}

impl Connections {
    /// Allows `max` connections at once (`max_connections`), and `max_per_ip` of one address unless that is 0; `exempt`
    /// may have any number.
    #[must_use]
    pub fn new(max: usize, max_per_ip: usize, exempt: TrustedProxies) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max)),
            max,
            per_address: Arc::new(PerAddress::new(max_per_ip, exempt)),
            reserve: Arc::new(Reserve::new()),
            counters: Arc::default(),
        }
    }

    /// How many are open. A permit alone is none: every listener holds one for its next connection.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::Relaxed)
    }

    /// How many may be open.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> Refused {
        Refused {
            per_ip: self.counters.refused_per_ip.load(Ordering::Relaxed),
            no_descriptor: self.counters.refused_no_descriptor.load(Ordering::Relaxed),
        }
    }

    /// How many times the system could not hand over a connection.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.counters.accept_errors.load(Ordering::Relaxed)
    }
}

/// One open connection.
struct OpenConnection {
    counters: Arc<Counters>,
    _permit: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

impl OpenConnection {
    fn new(
        connections: &Connections,
        permit: OwnedSemaphorePermit,
        counted: Option<Counted>,
    ) -> Self {
        connections.counters.open.fetch_add(1, Ordering::Relaxed);
        Self {
            counters: Arc::clone(&connections.counters),
            _permit: permit,
            _counted: counted,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Binds a TCP listener. IPv6 sockets take IPv6 only, so that both families can be bound to one port.
///
/// # Errors
/// What the system says, for example that the port is taken.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the process drains; each connection is a task of its own that holds a permit. One that is refused hears
/// `busy` first, in the protocol of the listener.
pub async fn accept<F, W>(
    listener: TcpListener,
    connections: Connections,
    tasks: Tasks,
    busy: &'static [u8],
    serve: F,
) where
    F: Fn(TcpStream) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let draining = tasks.draining().clone();
    let (mut failures, mut refusals) = (Throttle::default(), Throttle::default());
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&connections.permits)
                .acquire_owned()
                .await
                .ok()?;
            Some((permit, listener.accept().await))
        };
        let Some(Some((permit, accepted))) = draining.run_until_cancelled(next).await else {
            return;
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(counted) = connections.per_address.admit(peer.ip()) else {
                    connections.refuse(&stream, busy, &mut refusals);
                    continue;
                };
                // Boxed before the block below, which would have room for it twice.
                let work = Box::pin(serve(stream));
                let open = OpenConnection::new(&connections, permit, counted);
                tasks.spawn(async move {
                    let _open = open;
                    work.await;
                });
            }
            // The peer was gone before it was accepted: its fault alone, and the next one may be there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                connections.accept_failed(&listener, busy, &error, &mut failures);
                // Without a descriptor `accept` fails at once, whether somebody waits there or not.
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Connections {
    /// Closes a connection whose address has enough of them.
    fn refuse(&self, stream: &TcpStream, busy: &[u8], refusals: &mut Throttle) {
        self.counters.refused_per_ip.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = refusals.count(Instant::now()) {
            tracing::warn!(
                times,
                "refused a connection: its address has as many as limits.max_connections_per_ip allows"
            );
        }
        reserve::say(&SockRef::from(stream), busy);
    }

    /// Turns away who waits, when the reason is that there is no descriptor for them.
    fn accept_failed(
        &self,
        listener: &TcpListener,
        busy: &[u8],
        error: &io::Error,
        failures: &mut Throttle,
    ) {
        self.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
        let refused = if is_out_of_descriptors(error) {
            self.reserve.turn_away(listener, busy)
        } else {
            0
        };
        self.counters
            .refused_no_descriptor
            .fetch_add(refused, Ordering::Relaxed);
        if let Some(times) = failures.count(Instant::now()) {
            tracing::warn!(%error, times, "cannot accept a connection; see ulimit -n, LimitNOFILE of systemd");
        }
    }
}

/// Whether the process, or the whole system, has as many descriptors open as it may have.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(
        errno,
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The next connection, and what is said on it before it closes or stays silent.
    async fn connect(addr: SocketAddr) -> (TcpStream, Vec<u8>) {
        let mut stream = TcpStream::connect(addr).await.expect("it listens");
        let mut said = [0; 4];
        let len = stream.read(&mut said).await.expect("an answer");
        (stream, said[..len].to_vec())
    }

    #[tokio::test]
    async fn an_address_gets_as_many_connections_as_it_may_have() {
        let listener = bind(([127, 0, 0, 1], 0).into()).expect("there is a port");
        let addr = listener.local_addr().expect("it is bound");
        let (connections, tasks) = (
            Connections::new(10, 2, TrustedProxies::default()),
            Tasks::default(),
        );
        let serve = |mut stream: TcpStream| async move {
            let _ = stream.write_all(b"in").await;
            let _ = stream.read(&mut [0]).await;
        };
        let accepting = accept(listener, connections.clone(), tasks.clone(), b"busy", serve);
        tasks.spawn(accepting);
        let (first, said) = connect(addr).await;
        assert_eq!(said, b"in");
        let (_second, said) = connect(addr).await;
        assert_eq!(said, b"in");
        let (mut third, said) = connect(addr).await;
        assert_eq!(said, b"busy");
        assert_eq!(third.read(&mut [0]).await.ok(), Some(0), "it is closed");
        assert_eq!((connections.refused().per_ip, connections.open()), (1, 2));
        drop(first);
        while connections.open() > 1 {
            tokio::task::yield_now().await;
        }
        let (_fourth, said) = connect(addr).await;
        assert_eq!(said, b"in");
        assert_eq!(connections.refused().per_ip, 1);
        tasks.stop().await;
        assert_eq!(connections.open(), 0);
    }
}
