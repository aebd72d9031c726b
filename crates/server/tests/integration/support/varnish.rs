//! A foreign caching proxy: Varnish.

use std::{fs, net::SocketAddr, process::Command};

use super::{Dir, PATIENCE, accepts, free_addr, process::Process, wait_until};

/// What its log says of each request.
const LOG_FORMAT: &str = "%{Varnish:hitmiss}x %s %U%q";

/// A running Varnish, and the reader of its log.
pub(crate) struct Varnish {
    addr: SocketAddr,
    log: Process,
    _process: Process,
    _dir: Dir,
}

impl Varnish {
    /// Starts it with this configuration, and waits until it listens.
    pub(crate) fn start(vcl: &str) -> Self {
        let addr = free_addr();
        let dir = Dir::new("varnish");
        let file = dir.path().join("default.vcl");
        fs::write(&file, vcl).expect("the folder can be written");
        let work = dir.path().join("work");
        let mut command = Command::new("varnishd");
        // In the foreground, as whoever we are, in a folder of its own.
        command.args(["-F", "-j", "none", "-s", "malloc,64m", "-a"]);
        command.arg(addr.to_string()).arg("-f").arg(&file);
        command.arg("-n").arg(&work);
        let process = Process::start(command);
        wait_until("Varnish listens", PATIENCE, || {
            assert!(process.is_running(), "{}", process.stderr());
            accepts(addr)
        });
        let mut command = Command::new("varnishncsa");
        command.arg("-n").arg(&work).args(["-F", LOG_FORMAT]);
        Self {
            addr,
            log: Process::start(command),
            _process: process,
            _dir: dir,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has logged of requests so far.
    pub(crate) fn requests(&self) -> String {
        self.log.stdout()
    }
}
