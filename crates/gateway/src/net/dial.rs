//! Connecting to another server.
//!
//! Owns: the time that may take, and that a server never reaches itself. Does not own: what is spoken then, or how a
//! failure is worded ([`crate::ingest::pull`], [`crate::deliver::relay`]).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use weir_proto::rtmp::Url;

use crate::net::{
    Socket,
    tls::{Trust, trust::Refusal},
};

/// How long the other server may take to accept a connection, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How this server connects to others.
#[derive(Debug, Clone)]
pub struct Dialer {
    own_addrs: Arc<[SocketAddr]>,
    trust: Option<Trust>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The system says so.
    Socket(io::Error),
    /// [`CONNECT_TIMEOUT`] is over.
    Timeout,
    /// The other server is this one.
    Itself,
    /// There is a connection, but no TLS on it.
    Tls(Refusal),
}

impl Dialer {
    /// Never connects to one of our own listeners, `own_addrs`. Without `trust`, no server that wants TLS is reached.
    #[must_use]
    pub fn new(own_addrs: Vec<SocketAddr>, trust: Option<Trust>) -> Self {
        Self {
            own_addrs: own_addrs.into(),
            trust,
        }
    }

    /// Connects to the server of `url`, over TLS if it says so.
    pub(crate) async fn dial(&self, url: &Url, stall_limit: Duration) -> Result<Socket, Failure> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let connected = TcpStream::connect((url.host(), url.port()));
        let stream = timeout_at(deadline, connected)
            .await
            .map_err(|_| Failure::Timeout)??;
        if is_own(
            &self.own_addrs,
            stream.peer_addr()?,
            stream.local_addr()?.ip(),
        ) {
            return Err(Failure::Itself);
        }
        if !url.is_tls() {
            return Ok(Socket::plain(stream, stall_limit)?);
        }
        let trust = self
            .trust
            .as_ref()
            .ok_or(Failure::Tls(Refusal::UnknownAuthority))?;
        let connected = Socket::connect_tls(stream, trust, url.host(), stall_limit);
        // A server that waits for a handshake of RTMP says nothing to one of TLS.
        timeout_at(deadline, connected)
            .await
            .map_err(|_| Failure::Tls(Refusal::NotTls))?
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Tls(refusal)
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
