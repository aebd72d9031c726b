//! F25: connections that say nothing, at every listener.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::finish;
use crate::support::{PATIENCE, tls::Server, wait_until};

/// So many at each listener in turn; `make figures` measures ten thousand.
const EACH: u64 = 300;
/// Connections of our own that were still closing when descriptors were counted.
const CLOSING: usize = 5;
/// What each may cost (FAULTS F25), with the book-keeping of a debug build.
const GROWTH_MAX_KIB: u64 = 20 * EACH;

#[test]
fn e2e_f25_idle_connections_cost_little_and_are_gone_in_time() {
    let server = Server::start(&[("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "10")]);
    let weir = &server.weir;
    weir.wait_until_live("demo");
    for protocol in ["http", "https", "rtmp", "rtmps"] {
        let addr: SocketAddr = weir.addr_of(protocol);
        let (memory, files) = (weir.rss_kib(), weir.open_files());
        let mut idle: Vec<_> = (0..EACH)
            .map(|_| TcpStream::connect_timeout(&addr, PATIENCE).expect("connects"))
            .collect();
        wait_until("all are accepted", PATIENCE, || {
            weir.open_files() + CLOSING >= files + idle.len()
        });
        let grown = weir.rss_kib().saturating_sub(memory);
        println!("{EACH} idle connections of {protocol}: {grown} KiB");
        assert!(grown < GROWTH_MAX_KIB, "{protocol}: {grown} KiB");
        // A publisher gets in while they are there.
        finish(weir);
        assert!(
            weir.open_files() + CLOSING >= files + idle.len(),
            "they are still there"
        );
        for socket in &mut idle {
            socket
                .set_read_timeout(Some(Duration::from_secs(30)))
                .expect("a socket option");
            assert_eq!(
                socket.read(&mut [0]).ok(),
                Some(0),
                "{protocol} closes in good order"
            );
        }
        wait_until("descriptors are given back", PATIENCE, || {
            weir.open_files() <= files + 2
        });
    }
}
