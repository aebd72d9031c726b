//! FFmpeg's demuxers as a player: which packets it gets, with which times.

use serde_json::Value;

use super::{ffmpeg::quiet, process::Process};

/// One packet of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    /// Microseconds.
    pub(crate) pts_us: i64,
    /// Microseconds.
    pub(crate) dts_us: i64,
    pub(crate) key: bool,
    /// A hash of the payload.
    pub(crate) hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// Starts to read a file or URL to its end.
pub(crate) fn start(input: &str) -> Process {
    start_within(input, "%")
}

/// Starts to read a part of a file or URL; `interval` is as `-read_intervals` takes it.
pub(crate) fn start_within(input: &str, interval: &str) -> Process {
    let mut command = quiet("ffprobe");
    command.args(["-read_intervals", interval]);
    command.args([
        "-show_packets",
        "-show_data_hash",
        "md5",
        "-of",
        "json",
        input,
    ]);
    Process::start(command)
}

/// The packets in what [`start`] printed, in the order of their arrival. Other tracks are left out.
pub(crate) fn packets(output: &str) -> Vec<Packet> {
    let output: Value = serde_json::from_str(output).expect("ffprobe prints JSON");
    let packets = output["packets"].as_array().expect("ffprobe lists packets");
    packets.iter().filter_map(packet).collect()
}

fn packet(packet: &Value) -> Option<Packet> {
    let text = |key: &str| packet[key].as_str();
    let micros = |key: &str| {
        let seconds: f64 = text(key)?.parse().ok()?;
        Some((seconds * 1e6).round() as i64)
    };
    Some(Packet {
        kind: match text("codec_type")? {
            "video" => Kind::Video,
            "audio" => Kind::Audio,
            _ => return None,
        },
        pts_us: micros("pts_time").expect("every packet has a pts"),
        dts_us: micros("dts_time").expect("every packet has a dts"),
        key: text("flags")?.starts_with('K'),
        hash: text("data_hash")?.to_owned(),
    })
}
