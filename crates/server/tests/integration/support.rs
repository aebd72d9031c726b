//! What the tests that run the real binary share.
//!
//! Owns: a running server ([`Weir`]), waiting for a condition, and, in its modules, child processes, HTTP and FFmpeg.
//! Does not own: what is asserted of it all.

pub(crate) mod changes;
pub(crate) mod ffmpeg;
pub(crate) mod ffprobe;
pub(crate) mod flv;
pub(crate) mod hls;
pub(crate) mod http;
pub(crate) mod nginx;
pub(crate) mod origin;
pub(crate) mod player;
pub(crate) mod process;
pub(crate) mod rtmp;
pub(crate) mod tls;
pub(crate) mod varnish;

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use process::Process;
use serde_json::Value;

/// How long anything on this machine may take to start or to stop, however busy it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics with `what` when it does not within `timeout`.
pub(crate) fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}

/// Waits until `look` finds something; panics with `what` when it does not within `timeout`.
pub(crate) fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {timeout:?}");
        std::thread::park_timeout(LOOK_INTERVAL);
    }
}

/// A new empty folder for one test, removed with it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server of its own: on loopback ports that the system chose, in a folder of its own.
pub(crate) struct Weir {
    process: Process,
    http: SocketAddr,
    rtmp: SocketAddr,
    dir: Dir,
}

impl Weir {
    /// Starts `weir <mode>` (`serve` or `dev`) with these variables, and waits until it is ready.
    pub(crate) fn start(mode: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg(mode);
        Self::run(command, environment)
    }

    /// As [`Self::start`], as a process that may have no more than so many descriptors.
    pub(crate) fn start_with_descriptors(
        max: usize,
        mode: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        // Both limits, or the server would raise the one to the other; it takes the place of the shell.
        command.args(["-c", &format!("ulimit -n {max} && exec \"$0\" \"$1\"")]);
        command.args([env!("CARGO_BIN_EXE_weir"), mode]);
        Self::run(command, environment)
    }

    fn run(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let dir = Dir::new("weir");
        command
            .current_dir(dir.path())
            .env_clear()
            .envs([
                ("RTMP_ADDR", "127.0.0.1:0"),
                ("HTTPFLV_ADDR", "127.0.0.1:0"),
                ("HLS_ADDR", "127.0.0.1:0"),
                ("WEIR_LOG_FORMAT", "json"),
            ])
            .envs(environment.iter().copied());
        let process = Process::start(command);
        let address = |protocol| {
            wait_for("weir listens", PATIENCE, || {
                assert!(process.is_running(), "weir ended:\n{}", process.stderr());
                listening(&process.stderr(), protocol)
            })
        };
        let (http, rtmp) = (address("http"), address("rtmp"));
        let weir = Self {
            process,
            http,
            rtmp,
            dir,
        };
        wait_until("weir is ready", PATIENCE, || {
            http::try_get(weir.http, "/health/ready").is_ok_and(|response| response.status == 200)
        });
        weir
    }

    pub(crate) fn http_addr(&self) -> SocketAddr {
        self.http
    }

    pub(crate) fn rtmp_addr(&self) -> SocketAddr {
        self.rtmp
    }

    /// Where the log says that `protocol` is served.
    pub(crate) fn addr_of(&self, protocol: &str) -> SocketAddr {
        listening(&self.log(), protocol).expect("there is such a listener")
    }

    /// The URL of a path that begins with `/`.
    pub(crate) fn http_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// The URL of a stream, `name` or `name?key=…`, in both directions.
    pub(crate) fn rtmp_url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp)
    }

    pub(crate) fn get(&self, path: &str) -> http::Response {
        http::try_get(self.http, path).expect("weir answers")
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/status").body).expect("/status is JSON")
    }

    /// The row of a stream in `/status`.
    pub(crate) fn stream(&self, name: &str) -> Option<Value> {
        let status = self.status();
        let mut rows = status["streams"].as_array()?.iter();
        rows.find(|row| row["name"] == name).cloned()
    }

    /// Waits until frames of the stream flow.
    pub(crate) fn wait_until_live(&self, name: &str) {
        let live = || {
            self.stream(name)
                .is_some_and(|row| row["state"] == "live" && row["frames"] != 0)
        };
        wait_until(&format!("{name} is live"), PATIENCE, live);
    }

    /// The log so far: one JSON object a line.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn stdout(&self) -> String {
        self.process.stdout()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Memory in use (resident set), KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|kib| kib.parse().ok())
            .expect("VmRSS is in KiB")
    }

    /// How many descriptors are open, but for those of memory files, which a stream opens with its first parts.
    pub(crate) fn open_files(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        // Whatever is closed meanwhile has no target any more.
        let targets = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets
            .filter(|target| !target.to_string_lossy().starts_with("/memfd:"))
            .count()
    }

    /// The folder it runs in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops the process where it is (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn freeze(&self, frozen: bool) {
        self.process.signal(if frozen { "STOP" } else { "CONT" });
    }

    /// Sends SIGTERM, without waiting.
    pub(crate) fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Ends it as a power cut would (SIGKILL).
    pub(crate) fn kill(&self) {
        self.process.signal("KILL");
        self.process.wait(PATIENCE);
    }

    /// Waits for the exit.
    pub(crate) fn wait(&self, timeout: Duration) -> ExitStatus {
        self.process.wait(timeout)
    }
}

/// The first address that the log says `protocol` is served at.
fn listening(log: &str, protocol: &str) -> Option<SocketAddr> {
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = |line: Value| line["fields"].clone();
    let line = lines.find(|line| {
        let fields = fields(line.clone());
        fields["message"] == "listening" && fields["protocol"] == protocol
    })?;
    fields(line)["addr"].as_str()?.parse().ok()
}

/// A running `weir bench` with these arguments, which contain no blanks.
pub(crate) fn bench(arguments: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("bench").args(arguments.split(' ')).env_clear();
    Process::start(command)
}

/// Whether something accepts connections there.
pub(crate) fn accepts(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

/// A loopback address that nothing listens on.
pub(crate) fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    listener.local_addr().expect("it is bound")
}
