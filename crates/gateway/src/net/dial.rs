//! Connecting to another server.
//!
//! Owns: the time that may take, and that a server never reaches itself. Does not own: what is spoken then, or how a
//! failure is worded ([`crate::ingest::pull`], [`crate::deliver::relay`]).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

/// How long the other server may take to accept a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The system says so.
    Socket(io::Error),
    /// [`CONNECT_TIMEOUT`] is over.
    Timeout,
    /// The other server is this one.
    Itself,
}

/// Connects to a host by name or address, unless one of our own listeners, `own_addrs`, answers there.
pub(crate) async fn dial(
    addr: (&str, u16),
    own_addrs: &[SocketAddr],
) -> Result<TcpStream, Failure> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await;
    let socket = connected.map_err(|_| Failure::Timeout)??;
    if is_own(own_addrs, socket.peer_addr()?, socket.local_addr()?.ip()) {
        return Err(Failure::Itself);
    }
    Ok(socket)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// Whether `peer`, reached from `local`, is one of our own listeners: a server neither fetches from itself nor pushes
/// to itself.
fn is_own(own_addrs: &[SocketAddr], peer: SocketAddr, local: IpAddr) -> bool {
    own_addrs.iter().any(|own| {
        // To reach one of its own addresses, a machine sends from that address.
        let is_here = own.ip().is_unspecified() && peer.ip() == local;
        own.port() == peer.port() && (own.ip() == peer.ip() || is_here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_listeners() {
        for (own, peer, local, expected) in [
            ("0.0.0.0:1935", "127.0.0.1:1935", "127.0.0.1", true),
            ("0.0.0.0:1935", "10.0.0.1:1935", "10.0.0.1", true),
            ("[::]:1935", "10.0.0.1:1935", "10.0.0.1", true),
            ("127.0.0.1:1935", "127.0.0.1:1935", "127.0.0.1", true),
            ("127.0.0.1:1936", "127.0.0.1:1935", "127.0.0.1", false),
            ("0.0.0.0:1935", "10.0.0.2:1935", "10.0.0.1", false),
            ("127.0.0.1:1935", "10.0.0.1:1935", "10.0.0.1", false),
        ] {
            let own_addrs = [own.parse().expect("an address")];
            let (peer, local) = (peer.parse(), local.parse());
            let (peer, local) = (peer.expect("an address"), local.expect("an address"));
            assert_eq!(is_own(&own_addrs, peer, local), expected, "{own} {peer}");
        }
    }
}
