//! A foreign server: nginx, with its RTMP module or as a caching proxy.

use std::{fs, net::SocketAddr, process::Command};

use super::{Dir, PATIENCE, accepts, free_addr, process::Process, wait_until};

/// Its log of requests, in its folder.
const ACCESS_LOG: &str = "access.log";

/// A running nginx.
pub(crate) struct Nginx {
    addr: SocketAddr,
    _process: Process,
    dir: Dir,
}

impl Nginx {
    /// Starts it with the application `live`, open to everybody, and waits until it listens.
    pub(crate) fn start() -> Self {
        let addr = free_addr();
        Self::run(
            addr,
            &format!(
                "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
                 events {{ worker_connections 64; }}\n\
                 rtmp {{ server {{ listen {addr}; application live {{ live on; }} }} }}\n"
            ),
        )
    }

    /// Starts it with these directives of the context `http`, which have it listen at `addr`. The log tells whether a
    /// request was answered from the cache, and with which status.
    pub(crate) fn proxy(addr: SocketAddr, directives: &str) -> Self {
        // Its own folders are only for a server that was installed as one.
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        Self::run(
            addr,
            &format!(
                "events {{ worker_connections 1024; }}\n\
                 http {{\n{temporary}\
                 log_format cache '$upstream_cache_status $status $request_uri';\n\
                 access_log {ACCESS_LOG} cache;\n\
                 {directives}\n}}\n"
            ),
        )
    }

    fn run(addr: SocketAddr, directives: &str) -> Self {
        let dir = Dir::new("nginx");
        // One process: the worker of a master that is killed would outlive the test. Modules are loaded first.
        let conf = format!(
            "{directives}daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n"
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
            dir,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the proxy has logged of requests so far.
    pub(crate) fn requests(&self) -> String {
        fs::read_to_string(self.dir.path().join(ACCESS_LOG)).expect("it logs")
    }
}
