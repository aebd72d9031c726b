//! Pages in a headless Chromium: the player page, through `web/test/player.mjs`; players of DASH alone, through
//! `web/test/dash.mjs`; the examples of `docs/players.md`, through `web/test/snippets.mjs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{process::Process, wait_for};

/// A browser starts, opens a page and gets its first picture within this, however busy the machine is.
const BROWSER_PATIENCE: Duration = Duration::from_secs(60);

/// Of so many pictures that are looked at in a row, [`MOVED_MIN`] differ from the one before while a stream plays: a
/// busy machine shows one twice now and then.
const LOOKS: usize = 12;
/// See [`LOOKS`].
const MOVED_MIN: usize = 8;

/// Opens a page, watches it for some seconds and returns what `player.mjs` says of it.
pub(crate) fn measure(url: &str, arguments: &[&str]) -> Value {
    let mut command = script("player.mjs", &["--url", url]);
    command.args(arguments);
    let output = Process::start(command).output(BROWSER_PATIENCE + Duration::from_secs(30));
    serde_json::from_str(&output).expect("player.mjs prints JSON")
}

/// Plays a manifest and returns what `dash.mjs` says of it.
pub(crate) fn play_dash(url: &str, arguments: &[&str]) -> Value {
    let mut command = script("dash.mjs", &["--url", url]);
    command.args(arguments);
    let output = Process::start(command).output(BROWSER_PATIENCE + Duration::from_secs(60));
    serde_json::from_str(&output).expect("dash.mjs prints JSON")
}

/// Plays examples of `docs/players.md` at the same time and returns what `snippets.mjs` says of each, by its heading.
pub(crate) fn play_examples(origin: &str, seconds: u32, examples: &[&str]) -> Value {
    let mut command = script("snippets.mjs", &["--origin", origin]);
    command.args(["--seconds", &seconds.to_string()]);
    command.args(examples);
    let played = Duration::from_secs(seconds.into());
    let output = Process::start(command).output(BROWSER_PATIENCE + played);
    serde_json::from_str(&output).expect("snippets.mjs prints JSON")
}

/// A file that is kept from this run of the tests: `test-results/` at the root of the repository.
pub(crate) fn kept_file(name: &str) -> PathBuf {
    let folder = root().join("test-results");
    fs::create_dir_all(&folder).expect("the repository can be written");
    folder.join(name)
}

/// Now, in milliseconds since the Unix epoch, as the page counts.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is set");
    i64::try_from(since.as_millis()).expect("milliseconds fit")
}

/// A page that is open and plays.
pub(crate) struct Player {
    process: Process,
}

/// What the page showed at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) wall_ms: i64,
    /// A hash of the picture.
    pub(crate) picture: Option<String>,
    /// When the server received what the picture shows.
    pub(crate) received_ms: Option<i64>,
    /// Everything `window.weir.state()` says.
    pub(crate) state: Value,
}

impl Player {
    /// Opens a page.
    pub(crate) fn open(url: &str) -> Self {
        let mut command = script("player.mjs", &["--url", url]);
        command.arg("--watch");
        Self {
            process: Process::start_with_input(command),
        }
    }

    /// Everything seen so far, four times a second.
    pub(crate) fn looks(&self) -> Vec<Look> {
        assert!(
            self.process.is_running(),
            "the browser ended: {}",
            self.process.stderr()
        );
        let output = self.process.stdout();
        let whole_lines = output.rfind('\n').map_or("", |end| &output[..end]);
        whole_lines.lines().map(look).collect()
    }

    /// Waits until the picture moves and shows what the server received at `since_ms` or later; returns the first such
    /// look once the picture has been seen to go on moving.
    pub(crate) fn wait_until_moving(&self, since_ms: i64, timeout: Duration) -> Look {
        wait_for("the picture moves", timeout, || {
            let looks = self.looks();
            // A single step may be the last picture before a wait: then a later one counts.
            (1..looks.len()).find_map(|at| {
                let steps = looks[at].received_ms.is_some_and(|at_ms| at_ms >= since_ms)
                    && moved(&looks[at - 1..=at]);
                let after = looks.get(at..at + LOOKS).filter(|_| steps)?;
                let pairs = after.windows(2);
                let goes_on = pairs.filter(|pair| moved(pair)).count() >= MOVED_MIN;
                goes_on.then(|| after[0].clone())
            })
        })
    }

    /// Closes the browser.
    pub(crate) fn close(self) {
        self.process.end_input();
        self.process.wait(BROWSER_PATIENCE);
    }
}

fn moved(pair: &[Look]) -> bool {
    pair[0].picture.is_some() && pair[1].picture.is_some() && pair[0].picture != pair[1].picture
}

fn look(line: &str) -> Look {
    let state: Value = serde_json::from_str(line).expect("player.mjs prints JSON");
    let wall_ms = state["wallMs"].as_i64().expect("wallMs");
    Look {
        wall_ms,
        picture: state["picture"].as_str().map(str::to_owned),
        received_ms: state["latencyMs"]
            .as_i64()
            .map(|latency_ms| wall_ms - latency_ms),
        state,
    }
}

fn script(name: &str, target: &[&str]) -> Command {
    let web = root().join("web");
    let needed = [
        "dist/player.html",
        "node_modules/playwright-core",
        "node_modules/dashjs",
        "node_modules/shaka-player",
    ];
    for built in needed {
        assert!(
            web.join(built).exists(),
            "web/{built} is missing; `make test` or `make ui` makes it"
        );
    }
    let mut command = Command::new("node");
    command.arg(web.join("test").join(name)).args(target);
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
