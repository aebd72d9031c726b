//! The log: human text or JSON on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Opens the log. A second call in one process (tests) leaves the first in force.
pub(super) fn init(config: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(config.level.as_str()))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let opened = match config.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Fails only when a log is open already.
    drop(opened);
}
