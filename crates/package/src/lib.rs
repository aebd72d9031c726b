//! Frames to deliverable bytes: where a stream is cut, what the pieces look like, what the playlists say.
//!
//! Owns: cut marks ([`cut`]), CMAF objects ([`cmaf`]), the sliding window of them ([`window`]) and their names
//! ([`name`]), HLS playlists ([`hls`]), DASH manifests ([`dash`]), FLV tags ([`flv`]) and MPEG-TS, continuous or in
//! segments ([`ts`]). Their bytes are kept by whom the outside chooses ([`keep`]). All of it is a pure function of the run, its frames and its cut marks, so that any node makes the same bytes (DESIGN 4).
//! Does not own: sockets, tasks, clocks. It must not come to depend on tokio, nor on how bytes travel.

pub mod cmaf;
pub mod cut;
pub mod dash;
#[cfg(test)]
mod fixture;
pub mod flv;
pub mod hls;
pub mod keep;
pub mod name;
mod segmenter;
pub mod ts;
pub mod wall;
pub mod window;

pub use cut::Numbers;
pub use segmenter::{Config, Segmenter};
