//! Accepting connections.
//!
//! Owns: binding, the limit on connections, and what happens when the process runs out of descriptors.
//! A permit is taken before `accept`, so that a full server leaves new connections in the kernel's queue.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::net::{Throttle, tasks::Tasks};

/// Connections the kernel holds for us between two accepts: a thousand viewers may arrive in the same instant.
const BACKLOG: i32 = 4_096;
/// After a failed accept (no descriptors left) the next try waits, so that it does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The limit on connections, shared by all listeners, and how many there are.
#[derive(Debug, Clone)]
pub struct Connections {
    permits: Arc<Semaphore>,
    max: usize,
    open: Arc<AtomicUsize>,
}

impl Connections {
    /// Allows `max` connections at once (`max_connections`).
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max)),
            max,
            open: Arc::default(),
        }
    }

    /// How many are open. A permit alone is none: every listener holds one for its next connection.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many may be open.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }
}

/// One open connection.
struct OpenConnection {
    open: Arc<AtomicUsize>,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(connections: &Connections, permit: OwnedSemaphorePermit) -> Self {
        connections.open.fetch_add(1, Ordering::Relaxed);
        Self {
            open: Arc::clone(&connections.open),
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
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

/// Accepts until the process drains; each connection is a task of its own that holds a permit.
pub async fn accept<F, W>(listener: TcpListener, connections: Connections, tasks: Tasks, serve: F)
where
    F: Fn(TcpStream) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let draining = tasks.draining().clone();
    let mut failures = Throttle::default();
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
            Ok((stream, _)) => {
                // Boxed before the block below, which would have room for it twice.
                let work = Box::pin(serve(stream));
                let open = OpenConnection::new(&connections, permit);
                tasks.spawn(async move {
                    let _open = open;
                    work.await;
                });
            }
            // The peer was gone before it was accepted: its fault alone, and the next one may be there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(times) = failures.count(Instant::now()) {
                    tracing::warn!(%error, times, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
