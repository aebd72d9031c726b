//! Tests of the `weir` binary from outside: what an operator, an encoder and a player see.

mod cli;
mod matrix;
mod support;
