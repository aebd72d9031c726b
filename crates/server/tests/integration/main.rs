//! Tests of the `weir` binary from outside: what an operator, an encoder and a player see.

mod access;
mod browser;
mod cli;
mod continuity;
mod crowd;
mod deploy;
mod flv;
mod hls;
mod hostile;
mod kick;
mod matrix;
mod metrics;
mod objects;
mod pull;
mod relay;
mod rtmps;
mod shutdown;
mod slow_viewers;
mod storage;
mod support;
mod tls;
mod transport;
mod vlc;
