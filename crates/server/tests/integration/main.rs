//! Tests of the `weir` binary from outside: what an operator, an encoder and a player see.

mod access;
mod browser;
mod cdn;
mod cli;
mod cmaf_check;
mod continuity;
mod crowd;
mod deploy;
mod e2e_bench;
mod e2e_rewind;
mod flv;
mod hls;
mod hls_watch;
mod hostile;
mod matrix;
mod metrics;
mod objects;
mod pull;
mod range_check;
mod relay;
mod shutdown;
mod slow_viewers;
mod storage;
mod support;
mod tls;
mod transport;
