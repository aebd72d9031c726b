//! A foreign RTMP server: nginx with its RTMP module.

use std::{fs, net::SocketAddr, process::Command};

use super::{Dir, PATIENCE, accepts, free_addr, process::Process, wait_until};

/// A running nginx with the application `live`, open to everybody.
pub(crate) struct Nginx {
    addr: SocketAddr,
    _process: Process,
    _dir: Dir,
}

impl Nginx {
    /// Starts it, and waits until it listens.
    pub(crate) fn start() -> Self {
        let addr = free_addr();
        let dir = Dir::new("nginx");
        // One process: the worker of a master that is killed would outlive the test.
        let conf = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n\
             events {{ worker_connections 64; }}\n\
             rtmp {{ server {{ listen {addr}; application live {{ live on; }} }} }}\n"
        );
        let path = dir.path().join("nginx.conf");
        fs::write(&path, conf).expect("the folder can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-c").arg(&path);
        let process = Process::start(command);
        wait_until("nginx listens", PATIENCE, || {
            assert!(process.is_running(), "{}", process.stderr());
            accepts(addr)
        });
        Self {
            addr,
            _process: process,
            _dir: dir,
        }
    }

    /// Where it takes RTMP.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}
