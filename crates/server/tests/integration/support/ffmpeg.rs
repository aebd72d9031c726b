//! FFmpeg as an encoder and as a publisher.

use std::{path::Path, process::Command};

use super::{PATIENCE, process::Process};

/// A picture that changes with every frame, so that no two packets are alike; small, so that it costs little. A rate
/// may follow, as `:rate=30`.
pub(crate) const VIDEO: &str = "-f lavfi -i testsrc2=size=160x90";
/// A sound that changes all the time, for the same reason.
pub(crate) const AUDIO: &str = "-f lavfi -i aevalsrc=exprs=0.3*sin(400*t*t)+0.1*random(0)";

/// Encodes a file; `arguments` stand between the program and the file.
pub(crate) fn encode(arguments: &str, file: &Path) {
    let mut command = quiet("ffmpeg");
    command
        .args(arguments.split_whitespace())
        .arg("-y")
        .arg(file);
    Process::start(command).output(PATIENCE);
}

/// Publishes a file in real time, once, as it is.
pub(crate) fn push(file: &Path, url: &str) -> Process {
    let mut command = quiet("ffmpeg");
    command.args(["-re", "-i"]).arg(file);
    command.args(["-c", "copy", "-f", "flv", url]);
    Process::start(command)
}

/// Publishes a file in real time, again and again.
pub(crate) fn push_forever(file: &Path, url: &str) -> Process {
    let mut command = quiet("ffmpeg");
    command.args(["-re", "-stream_loop", "-1", "-i"]).arg(file);
    command.args(["-c", "copy", "-f", "flv", url]);
    Process::start(command)
}

/// A program of FFmpeg that says nothing but errors.
pub(crate) fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "error"]);
    command
}
