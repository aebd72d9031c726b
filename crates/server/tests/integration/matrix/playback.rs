//! Compares what a player got with what was pushed: from some key frame on to the end, every packet once, in order,
//! at its time.

use crate::support::ffprobe::{Kind, Packet};

/// How far sound and picture may move against each other.
const AV_SHIFT_US_MAX: i64 = 40_000;
/// How far one packet may be from where the others of its track put it: every hop of RTMP rounds to milliseconds.
const JITTER_US_MAX: i64 = 3_000;
/// A player that joins gets sound from where its picture begins, give or take a few packets.
const JOIN_SKEW_US_MAX: i64 = 100_000;

/// What one track of a playback shows when nothing is wrong with it.
struct Played {
    /// Where in the source it began.
    start_us: i64,
    /// How much later than in the source everything is presented.
    shift_us: i64,
}

/// Everything that is not as it has to be.
pub(super) fn problems(source: &[Packet], played: &[Packet]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut tracks = Vec::new();
    for kind in [Kind::Video, Kind::Audio] {
        match track(&of_kind(source, kind), &of_kind(played, kind)) {
            Ok(track) => tracks.extend(track),
            Err(problem) => problems.push(format!("{kind:?}: {problem}")),
        }
    }
    if let [video, audio] = &tracks[..] {
        let shift_us = video.shift_us - audio.shift_us;
        if shift_us.abs() > AV_SHIFT_US_MAX {
            problems.push(format!(
                "the picture is {shift_us} us later against the sound"
            ));
        }
        let skew_us = audio.start_us - video.start_us;
        if skew_us.abs() > JOIN_SKEW_US_MAX {
            problems.push(format!("the sound begins {skew_us} us after the picture"));
        }
    }
    problems
}

fn of_kind(packets: &[Packet], kind: Kind) -> Vec<&Packet> {
    packets
        .iter()
        .filter(|packet| packet.kind == kind)
        .collect()
}

/// None for a track that there is none of.
fn track(source: &[&Packet], played: &[&Packet]) -> Result<Option<Played>, String> {
    let Some(first) = played.first() else {
        let problem = "nothing played".to_owned();
        return if source.is_empty() {
            Ok(None)
        } else {
            Err(problem)
        };
    };
    if !first.key {
        return Err("does not begin with a key frame".into());
    }
    let start = source.iter().position(|pushed| pushed.hash == first.hash);
    let pushed = start.map_or(&[][..], |start| &source[start..]);
    let mut pairs = pushed.iter().zip(played);
    if let Some(at) = pairs.position(|(pushed, played)| pushed.hash != played.hash) {
        let at_us = pushed[at].dts_us;
        return Err(format!("packet {at}, pushed at {at_us} us, is another one"));
    }
    if pushed.len() != played.len() {
        let (pushed, played) = (pushed.len(), played.len());
        return Err(format!(
            "{pushed} packets pushed from its first on, {played} played"
        ));
    }
    if let Some(pair) = played
        .windows(2)
        .find(|pair| pair[1].dts_us <= pair[0].dts_us)
    {
        return Err(format!(
            "dts goes from {} to {} us",
            pair[0].dts_us, pair[1].dts_us
        ));
    }
    let pairs = pushed.iter().zip(played);
    let shifts: Vec<i64> = pairs
        .map(|(pushed, played)| played.pts_us - pushed.pts_us)
        .collect();
    let shift_us = median(&shifts);
    let off = |shift: &i64| (shift - shift_us).abs() > JITTER_US_MAX;
    if let Some(at) = shifts.iter().position(off) {
        return Err(format!(
            "packet {at} is presented {} us off",
            shifts[at] - shift_us
        ));
    }
    Ok(Some(Played {
        start_us: pushed[0].pts_us,
        shift_us,
    }))
}

fn median(values: &[i64]) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two groups of ten pictures and their sound, 40 ms each.
    fn source() -> Vec<Packet> {
        let packet = |at: i64, kind| Packet {
            kind,
            pts_us: at * 40_000,
            dts_us: at * 40_000,
            key: kind == Kind::Audio || at % 10 == 0,
            hash: format!("{kind:?} {at}"),
        };
        (0..20)
            .flat_map(|at| [packet(at, Kind::Video), packet(at, Kind::Audio)])
            .collect()
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Vec<Packet>), expected: &[&str]) {
        let source = source();
        let mut played = source.clone();
        change(&mut played);
        assert_eq!(problems(&source, &played), expected);
    }

    #[test]
    fn a_whole_playback_has_no_problems() {
        check(|_| (), &[]);
        check(|played| _ = played.drain(..20), &[]);
        check(
            |played| {
                played
                    .iter_mut()
                    .for_each(|packet| packet.pts_us += 7_000_000)
            },
            &[],
        );
        check(|played| played[7].pts_us += 2_000, &[]);
    }

    #[test]
    fn broken_playbacks_are_found() {
        check(
            Vec::clear,
            &["Video: nothing played", "Audio: nothing played"],
        );
        check(
            |played| _ = played.drain(..2),
            &["Video: does not begin with a key frame"],
        );
        check(
            |played| _ = played.remove(5),
            &["Audio: packet 2, pushed at 80000 us, is another one"],
        );
        check(
            |played| played[8].hash.push('x'),
            &["Video: packet 4, pushed at 160000 us, is another one"],
        );
        check(
            |played| played.insert(6, played[4].clone()),
            &["Video: packet 3, pushed at 120000 us, is another one"],
        );
        check(
            |played| _ = played.pop(),
            &["Audio: 20 packets pushed from its first on, 19 played"],
        );
        check(
            |played| played[0].hash.clear(),
            &["Video: 0 packets pushed from its first on, 20 played"],
        );
        check(
            |played| played[4].dts_us = 40_000,
            &["Video: dts goes from 40000 to 40000 us"],
        );
        check(
            |played| played[4].pts_us += 4_000,
            &["Video: packet 2 is presented 4000 us off"],
        );
    }

    #[test]
    fn sound_and_picture_belong_together() {
        let late = |played: &mut Vec<Packet>, late_us| {
            let pictures = played
                .iter_mut()
                .filter(|packet| packet.kind == Kind::Video);
            pictures.for_each(|packet| packet.pts_us += late_us);
        };
        check(|played| late(played, 40_000), &[]);
        check(
            |played| late(played, -41_000),
            &["the picture is -41000 us later against the sound"],
        );
        let without_sound = |played: &mut Vec<Packet>| {
            let mut at = 0;
            played.retain(|packet| {
                at += 1;
                packet.kind == Kind::Video || at > 8
            });
        };
        check(
            without_sound,
            &["the sound begins 160000 us after the picture"],
        );
    }
}
