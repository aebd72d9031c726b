//! Compares what a player got with what was pushed.

use crate::support::ffprobe::{Kind, Packet};

/// How far sound and picture may move against each other (issue of lip-sync: nobody sees less).
const AV_SHIFT_US_MAX: i64 = 40_000;
/// How far a packet's time may be from where the others put it: RTMP rounds to milliseconds, and so do its peers.
const JITTER_US_MAX: i64 = 3_000;
/// A player that joins gets sound from where its picture begins, give or take the packets around it.
const JOIN_SKEW_US_MAX: i64 = 100_000;

/// Everything that is not as it has to be.
pub(super) fn problems(source: &[Packet], played: &[Packet]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut shifts = Vec::new();
    let mut starts = Vec::new();
    for kind in [Kind::Video, Kind::Audio] {
        let of_kind = |packets: &[Packet]| -> Vec<Packet> {
            packets.iter().filter(|packet| packet.kind == kind).cloned().collect()
        };
        let (source, played) = (of_kind(source), of_kind(played));
        match track(&source, &played) {
            Ok(Some((start_us, shift_us))) => {
                starts.push(start_us);
                shifts.push(shift_us);
            }
            Ok(None) => {}
            Err(problem) => problems.push(format!("{kind:?}: {problem}")),
        }
    }
    if let [video, audio] = shifts[..]
        && (video - audio).abs() > AV_SHIFT_US_MAX
    {
        problems.push(format!("the picture is {} us later against the sound than pushed", video - audio));
    }
    if let [video, audio] = starts[..]
        && (video - audio).abs() > JOIN_SKEW_US_MAX
    {
        problems.push(format!("the sound starts {} us after the picture", audio - video));
    }
    problems
}

/// Where in the source the playback of one track began, and how much later everything was presented than there.
/// None for a track that the source lacks.
fn track(source: &[Packet], played: &[Packet]) -> Result<Option<(i64, i64)>, String> {
    let (Some(first), Some(last)) = (played.first(), source.last()) else {
        return if source.is_empty() && played.is_empty() {
            Ok(None)
        } else {
            Err(format!("{} packets pushed, {} played", source.len(), played.len()))
        };
    };
    let start = source.iter().position(|pushed| pushed.hash == first.hash);
    let start = start.ok_or("begins with a packet that was not pushed")?;
    if !first.key {
        return Err("does not begin with a key frame".into());
    }
    let pushed = &source[start..];
    for (at, (pushed, played)) in pushed.iter().zip(played).enumerate() {
        if pushed.hash != played.hash {
            return Err(format!("packet {at} of {}, pushed at {} us, is another one", played_len(pushed, at), pushed.dts_us));
        }
    }
    if pushed.len() != played.len() {
        return Err(format!("{} packets pushed from there on, {} played; last at {}", pushed.len(), played.len(), last.dts_us));
    }
    if let Some(pair) = played.windows(2).find(|pair| pair[1].dts_us <= pair[0].dts_us) {
        return Err(format!("dts goes from {} to {} us", pair[0].dts_us, pair[1].dts_us));
    }
    let shifts: Vec<i64> = pushed.iter().zip(played).map(|(pushed, played)| played.pts_us - pushed.pts_us).collect();
    let shift = median(&shifts);
    if let Some(at) = shifts.iter().position(|own| (own - shift).abs() > JITTER_US_MAX) {
        let off = shifts[at] - shift;
        return Err(format!("packet {at} of {} is presented {off} us off", shifts.len()));
    }
    Ok(Some((pushed[0].pts_us, shift)))
}

fn played_len(_: &Packet, at: usize) -> usize {
    at
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
