//! The load generator and judge behind `weir bench`: it publishes streams and watches them, thousands of times, on any
//! server, and says whether what arrives is whole, in order and in time.
//!
//! Owns: what is published ([`source`], [`publish`]), viewers of each protocol ([`viewer`]), what they judge, what it
//! costs the server and the load generator itself ([`process`]), and the [`report`] of it all. Does not own: the command
//! line. It knows nothing of Weir: any server will do.

mod crew;
pub mod dash;
pub mod floor;
pub mod flv;
pub mod histogram;
pub mod http;
pub mod judge;
pub mod load;
pub mod playlist;
pub mod process;
pub mod progress;
pub mod publish;
pub mod report;
pub mod segment;
mod shared;
pub mod socket;
pub mod source;
pub mod stall;
pub mod tally;
pub mod time_code;
pub mod viewer;
pub mod websocket;
