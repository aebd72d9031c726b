//! A child process whose output is collected, and that never outlives its test.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::wait_for;

/// A running child process.
pub(crate) struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    stdout: Collected,
    stderr: Collected,
}

/// What a stream of the child has said so far.
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Process {
    /// Starts a program; `make test` installs those that tests need.
    pub(crate) fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {name}: {error}; `make test` installs it")
            });
        let stdout = Collected::from(child.stdout.take().expect("it is piped"));
        let stderr = Collected::from(child.stderr.take().expect("it is piped"));
        Self {
            name,
            pid: child.id(),
            child: Mutex::new(child),
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn is_running(&self) -> bool {
        self.exited().is_none()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stdout.text)).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stderr.text)).into_owned()
    }

    /// Sends a signal by its short name, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let mut child = lock(&self.child);
        let running = child.try_wait().expect("a child can be waited for");
        assert!(
            running.is_none(),
            "{} has ended: {}",
            self.name,
            self.stderr()
        );
        // Nobody waits for it while it is locked, so the id is still its own.
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid.to_string()])
            .status();
        assert!(
            kill.is_ok_and(|status| status.success()),
            "cannot signal {}",
            self.name
        );
    }

    /// Waits for the exit, and until all output is read.
    pub(crate) fn wait(&self, timeout: Duration) -> ExitStatus {
        let status = wait_for(&format!("{} ends", self.name), timeout, || self.exited());
        self.stdout.finish();
        self.stderr.finish();
        status
    }

    /// Waits for a successful exit; returns what stdout said.
    pub(crate) fn output(&self, timeout: Duration) -> String {
        let status = self.wait(timeout);
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.name,
            self.stderr()
        );
        self.stdout()
    }

    fn exited(&self) -> Option<ExitStatus> {
        lock(&self.child)
            .try_wait()
            .expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Fails when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            let text = format!("--- {} said:\n{}", self.name, self.stderr());
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Collected {
    fn from(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let written = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                lock(&written).append(&mut line);
            }
        });
        Self {
            text,
            reader: Mutex::new(Some(reader)),
        }
    }

    fn finish(&self) {
        if let Some(reader) = lock(&self.reader).take() {
            reader.join().expect("the reader does not panic");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
