//! One descriptor in reserve, so that a process that has no other can still turn somebody away (FAULTS rule 16).
//!
//! Owns: giving it up and taking it back. Without it, clients would wait in the queue of the kernel until they give up,
//! and no one would tell them why.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpListener;

/// Of a request that is not answered, what is read before the connection is closed: closing on unread bytes would reset
/// it and take our answer with it.
const REQUEST_LEN_MAX: usize = 4 << 10;
/// Connections turned away in one go; the rest has its turn after a pause.
const TURN_MAX: u64 = 1_000;

/// The descriptor, while it is there.
#[derive(Debug)]
pub(super) struct Reserve(Mutex<Option<File>>);

impl Reserve {
    pub(super) fn new() -> Self {
        Self(Mutex::new(open()))
    }

    /// Turns away who waits at a listener, with `busy` as the last words; says how many.
    pub(super) fn turn_away(&self, listener: &TcpListener, busy: &[u8]) -> u64 {
        // Held all the time: another listener would take what is given up here.
        let mut reserve = self.0.lock();
        let mut count = 0;
        while count < TURN_MAX {
            drop(reserve.take());
            let accepted = SockRef::from(listener).accept();
            if let Ok((socket, _)) = &accepted {
                say(socket, busy);
                count += 1;
            }
            let is_last = accepted.is_err();
            drop(accepted);
            *reserve = open();
            if is_last || reserve.is_none() {
                break;
            }
        }
        count
    }
}

/// Says a few bytes to a new connection, without waiting for anything.
pub(super) fn say(socket: &socket2::Socket, bytes: &[u8]) {
    let mut socket = socket;
    let said = (|| {
        socket.set_nonblocking(true)?;
        // Nothing may have come yet.
        let _ = socket.read(&mut [0; REQUEST_LEN_MAX]);
        socket.write_all(bytes)?;
        socket.shutdown(std::net::Shutdown::Write)
    })();
    // Whoever does not hear it sees the connection close.
    drop::<io::Result<()>>(said);
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}
