//! The `weir` server as a library: configuration, command line and wiring.
//!
//! Owns: what the operator says ([`config`], [`cli`], [`api`]), who may publish ([`auth`]), what the server says of
//! itself ([`status`], [`metrics`], [`ui`]), and how the parts are put together ([`app`]).
//! Does not own: media, protocols, sockets; those live in the crates below.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod status;
pub mod ui;

#[cfg(test)]
mod ask;
