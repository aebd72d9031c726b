//! `weir bench`: arguments in, a report out.
//!
//! Owns: the arguments of the load generator and where its report goes. Does not own: measuring ([`weir_bench`]).

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use weir_bench::{
    floor, load,
    process::Meter,
    publish,
    report::Report,
    source::{self, Source},
    viewer::Protocol,
};

use super::{EXIT_USAGE, complain};
use crate::app::DEMO_SAMPLE;

/// The name of the command.
pub(super) const NAME: &str = "bench";
/// The exit code when viewers were not served whole and without a stop.
const EXIT_NOT_GOOD: u8 = 3;
/// What it is for.
pub(super) const ABOUT: &str = "Put load on a live server, any server, and judge what arrives";

/// Longest measurement, in seconds: a month.
const SECONDS_MAX: f64 = 31.0 * 86_400.0;

#[derive(Debug, Parser)]
#[command(name = "weir bench", about = ABOUT, version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish streams over RTMP, in real time and with a time code in each picture
    Publish {
        /// `rtmp://host[:port]/app/name`; {n} stands for the number of the stream
        url: String,
        #[command(flatten)]
        source: SourceArguments,
        /// Streams to publish, if the URL has {n} in it
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = count)]
        streams: usize,
        /// End after so many seconds [default: at Ctrl-C]
        #[arg(long, value_name = "S", value_parser = seconds)]
        duration: Option<Duration>,
        /// Threads [default: one for each core]
        #[arg(long, value_name = "N", value_parser = count)]
        threads: Option<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// Play RTMP
    Rtmp(Viewers),
    /// Play FLV over HTTP
    Flv(Viewers),
    /// Play FLV over WebSocket
    WsFlv(Viewers),
    /// Play HLS, whole segments
    Hls(Viewers),
    /// Play LL-HLS, parts as they come
    LlHls {
        #[command(flatten)]
        viewers: Viewers,
        /// Wait for the playlist of pictures, and fetch nothing
        #[arg(long)]
        playlists_only: bool,
    },
    /// Play DASH, segments as they are made
    Dash(Viewers),
    /// Measure the least that fan-out of FLV can cost: a bare loop of writes, on a core of its own
    Floor {
        /// Viewers
        #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = count)]
        viewers: usize,
        /// Milliseconds between two writes; 0 writes each frame when it is due
        #[arg(long, default_value_t = 0, value_name = "MS")]
        cadence_ms: u32,
        #[command(flatten)]
        source: SourceArguments,
        #[command(flatten)]
        rounds: Rounds,
        #[command(flatten)]
        time: Time,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct Viewers {
    /// The stream; {n} stands for a number below --streams
    url: String,
    /// Viewers
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count)]
    viewers: usize,
    /// Streams that viewers take in turn, if the URL has {n} in it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count)]
    streams: usize,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    time: Time,
    /// Process of the server, to measure its processor time and memory; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Milliseconds of media that a viewer holds before it plays [default: 500; HLS 2000, DASH 1000, LL-HLS PART-HOLD-BACK]
    #[arg(long, value_name = "MS")]
    buffer_ms: Option<u32>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = count)]
    threads: Option<usize>,
    /// Address that connections come from; may be repeated, each has some 28 000 ports
    #[arg(long = "source-addr", value_name = "ADDR")]
    sources: Vec<IpAddr>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct SourceArguments {
    /// FLV file of H.264 and AAC, looped [default: a built-in one of 0.4 Mbit/s]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Pad pictures up to this bit rate of the whole stream, such as 600k or 2.65M
    #[arg(long, value_name = "BITS", value_parser = bits)]
    bitrate: Option<u64>,
    /// Pictures a second [default: as in the file]
    #[arg(long, value_name = "N")]
    fps: Option<f64>,
    /// Leave the sound out
    #[arg(long)]
    mute: bool,
}

#[derive(Debug, Args)]
struct Rounds {
    /// Milliseconds between two reads of a viewer of FLV or RTMP; a tenth read at once and take the times [default: all read at once]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    round_ms: Option<Duration>,
}

#[derive(Debug, Args)]
struct Time {
    /// Seconds over which viewers set out
    #[arg(long, default_value = "5", value_name = "S", value_parser = seconds)]
    ramp: Duration,
    /// Seconds to measure behind the ramp
    #[arg(long, default_value = "30", value_name = "S", value_parser = seconds)]
    duration: Duration,
}

#[derive(Debug, Args)]
struct Output {
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as Markdown to this file; standard output has it anyway
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Measures what the arguments ask for (the first one is the name of the command).
pub(super) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where even this cannot be written, there is nobody left to tell.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE).into();
        }
    };
    match arguments.command.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => EXIT_NOT_GOOD.into(),
        Err(error) => {
            complain("error", format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// Does what is asked; whether all was whole and in time.
    fn run(self) -> anyhow::Result<bool> {
        match self {
            Self::Rtmp(viewers) => viewers.run(Protocol::Rtmp, true),
            Self::Flv(viewers) => viewers.run(Protocol::Flv, true),
            Self::WsFlv(viewers) => viewers.run(Protocol::WsFlv, true),
            Self::Hls(viewers) => viewers.run(Protocol::Hls, true),
            Self::LlHls {
                viewers,
                playlists_only,
            } => viewers.run(Protocol::LlHls, !playlists_only),
            Self::Dash(viewers) => viewers.run(Protocol::Dash, true),
            Self::Publish {
                url,
                source,
                streams,
                duration,
                threads,
                output,
            } => {
                let plan = publish::Plan {
                    url,
                    streams,
                    duration,
                    threads,
                };
                let summary = publish::run(&plan, &source.read()?)?;
                output.write(&summary.to_json(), &summary.to_markdown())?;
                Ok(summary.failures.is_empty())
            }
            Self::Floor {
                viewers,
                cadence_ms,
                source,
                rounds,
                time,
                output,
            } => {
                let options = floor::Options {
                    viewers,
                    cadence: Duration::from_millis(cadence_ms.into()),
                    round: rounds.round_ms,
                    ramp: time.ramp,
                    duration: time.duration,
                };
                let (plan, outcome) = floor::run(&options, &source.read()?)?;
                let report = Report::new("floor", &plan, &outcome);
                output.write(&report.to_json(), &report.to_markdown())?;
                Ok(report.is_good())
            }
        }
    }
}

impl Viewers {
    fn run(self, protocol: Protocol, fetches: bool) -> anyhow::Result<bool> {
        let plan = load::Plan {
            protocol,
            url: self.url,
            streams: self.streams,
            viewers: self.viewers,
            ramp: self.time.ramp,
            duration: self.time.duration,
            buffer: self.buffer_ms.map(|ms| Duration::from_millis(ms.into())),
            round: self.rounds.round_ms,
            fetches,
            threads: self.threads,
            sources: self.sources,
        };
        let server = (!self.pids.is_empty()).then(|| Meter::of_processes(&self.pids));
        let server = server.transpose().map_err(load::Error::Meter)?;
        let outcome = load::run(&plan, server.as_ref())?;
        let report = Report::new(protocol.name(), &plan, &outcome);
        self.output
            .write(&report.to_json(), &report.to_markdown())?;
        Ok(report.is_good())
    }
}

impl SourceArguments {
    fn read(&self) -> anyhow::Result<Arc<Source>> {
        let file = match &self.file {
            Some(path) => fs::read(path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .into(),
            None => Bytes::from_static(DEMO_SAMPLE),
        };
        let options = source::Options {
            bitrate: self.bitrate,
            fps: self.fps,
            mute: self.mute,
        };
        Ok(Arc::new(Source::read(file, options)?))
    }
}

impl Output {
    fn write(&self, json: &str, markdown: &str) -> anyhow::Result<()> {
        let _ = io::stdout().write_all(markdown.as_bytes());
        for (path, text) in [(&self.json, json), (&self.markdown, markdown)] {
            if let Some(path) = path {
                write_file(path, text)?;
            }
        }
        Ok(())
    }
}

fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "a whole number above 0".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("seconds from 0 to {SECONDS_MAX}"))
}

/// A time that is not none at all.
fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse::<u32>()
        .ok()
        .filter(|ms| *ms > 0)
        .map(|ms| Duration::from_millis(ms.into()))
        .ok_or_else(|| "whole milliseconds above 0".to_owned())
}

/// Bits a second, with `k` or `M` for thousands and millions.
fn bits(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => match text.strip_suffix('M') {
            Some(number) => (number, 1e6),
            None => (text, 1.0),
        },
    };
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        .filter(|bits| (1.0..1e12).contains(bits))
        .map(|bits| bits.round() as u64)
        .ok_or_else(|| "bits a second, such as 600k or 2.65M".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bit_rates_have_units() {
        for (text, expected) in [
            ("600000", Some(600_000)),
            ("600k", Some(600_000)),
            ("2.65M", Some(2_650_000)),
            ("0", None),
            ("-1k", None),
            ("1G", None),
            ("", None),
            ("nan", None),
        ] {
            assert_eq!(bits(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn arguments_are_checked() {
        for (args, is_valid) in [
            ("flv http://h/a.flv", true),
            (
                "ws-flv http://h/a.flv --viewers 10 --ramp 0.5 --pid 1 --pid 2",
                true,
            ),
            (
                "publish rtmp://h/live/{n} --streams 5 --bitrate 1M --fps 25 --mute",
                true,
            ),
            ("floor --viewers 1000 --cadence-ms 100 --round-ms 50", true),
            ("rtmp rtmp://h/live/a --round-ms 100", true),
            ("rtmp rtmp://h/live/a --round-ms 0", false),
            ("", false),
            ("flv", false),
            ("flv http://h/a.flv --viewers 0", false),
            ("flv http://h/a.flv --duration inf", false),
            ("flv http://h/a.flv --source-addr localhost", false),
            ("dance http://h/a.flv", false),
        ] {
            let args = std::iter::once("bench").chain(args.split_whitespace());
            assert_eq!(
                Arguments::try_parse_from(args.clone()).is_ok(),
                is_valid,
                "{args:?}"
            );
        }
    }
}
