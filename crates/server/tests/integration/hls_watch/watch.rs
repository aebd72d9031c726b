//! Follows a stream as players do: one that polls, and one that blocks for every part.
//!
//! Owns: what only requests and time show: H1, H4, H7–H10, H14–H17, H20, H21, H23–H26, L4, L6–L10 and, with
//! `cmaf-check`, the bytes. Does not own: the rules for texts ([`super::rules`], [`super::succession`]).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{follower::Follower, multivariant::Multivariant};
use crate::{
    cmaf_check::Init,
    support::http::{Response, request},
};

/// How a stream is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Also as a player of LL-HLS; else no part is asked for.
    pub(crate) low_latency: bool,
    pub(crate) lasts: Duration,
}

/// What was seen, of all playlists together.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) versions: usize,
    pub(crate) segments: usize,
    pub(crate) parts: usize,
    pub(crate) deltas: usize,
    /// Hints that were asked for and became a part, and those that their segment's end left behind.
    pub(crate) hints: usize,
    pub(crate) abandoned: usize,
    /// What is wrong, each once; each begins with its row.
    pub(crate) problems: Vec<String>,
}

/// What one playlist has shown.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) target_s: i64,
    /// When each segment begins, and whether a discontinuity comes before it.
    pub(super) begins: BTreeMap<u64, (Option<i64>, bool)>,
    /// Bytes and microseconds of each segment.
    pub(super) sizes: BTreeMap<u64, (usize, i64)>,
    pub(super) samples: u64,
    /// Whether every segment began with a sync sample, and whether the playlist says so.
    pub(super) sync: bool,
    pub(super) independent: bool,
    pub(super) init: Option<Init>,
    /// The first segment that is still listed.
    pub(super) first: u64,
}

/// What the followers of one stream share.
pub(super) struct Shared {
    pub(super) addr: SocketAddr,
    pub(super) until: Instant,
    report: Mutex<Report>,
    /// The last segment and part that each playlist has shown, by its path.
    shown: Mutex<BTreeMap<String, (u64, u64)>>,
}

/// How far apart two tracks may be cut: a picture at 30 fps.
const FRAME_MS: i64 = 34;
/// BANDWIDTH belongs to a slightly older window than the one that is measured (H16).
const BANDWIDTH_RANGE: (f64, f64) = (0.9, 1.5);
/// FRAME-RATE is measured over the newest segment, this over all.
const FRAME_RATE_RANGE: (f64, f64) = (0.9, 1.1);

/// Watches the stream of a multivariant playlist, such as `/live/demo/index.m3u8`.
pub(crate) fn watch(addr: SocketAddr, playlist: &str, options: Options) -> Report {
    let shared = Shared {
        addr,
        until: Instant::now() + options.lasts,
        report: Mutex::default(),
        shown: Mutex::default(),
    };
    let Some(multivariant) = shared.multivariant(playlist) else {
        return shared.into_report();
    };
    let paths: Vec<_> = multivariant
        .playlists()
        .iter()
        .map(|uri| resolve(playlist, uri))
        .collect();
    let siblings = paths.len() - 1;
    let seen = thread::scope(|scope| {
        let mut classic = Vec::new();
        for path in &paths {
            let follower = || Follower::new(&shared, path, siblings);
            classic.push(scope.spawn(move || follower().poll()));
            if options.low_latency {
                scope.spawn(move || follower().block());
            }
        }
        let join = |follower: thread::ScopedJoinHandle<'_, Seen>| follower.join();
        let seen = classic.into_iter().map(join).collect::<Result<Vec<_>, _>>();
        seen.expect("followers do not panic")
    });
    // What the newest segments are is compared with what is said now.
    let Some(multivariant) = shared.multivariant(playlist) else {
        return shared.into_report();
    };
    let seen: BTreeMap<_, _> = multivariant.playlists().into_iter().zip(seen).collect();
    together(&shared, &multivariant, &seen);
    media(&shared, &multivariant, &seen);
    shared.into_report()
}

impl Shared {
    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn problem(&self, problem: String) {
        let mut report = self.report();
        if !report.problems.contains(&problem) {
            report.problems.push(problem);
        }
    }

    pub(super) fn need(&self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problem(problem());
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<Response> {
        let answer = request(self.addr, "GET", path, &[("Origin", "http://example.com")]);
        match answer {
            Ok(answer) => {
                let origin = answer.header("access-control-allow-origin");
                self.need(origin.is_some(), || format!("H24: no CORS of {path}"));
                Some(answer)
            }
            Err(error) => {
                self.problem(format!("H20: {path}: {error}"));
                None
            }
        }
    }

    /// A playlist that must be there.
    pub(super) fn playlist(&self, path: &str) -> Option<String> {
        let answer = self.get(path)?;
        let status = answer.status;
        self.need(status == 200, || format!("H20: {path}: {status}"));
        let kind = answer.header("content-type").unwrap_or_default();
        let known = ["application/vnd.apple.mpegurl", "audio/mpegurl"];
        self.need(status != 200 || known.contains(&kind), || {
            format!("H1: {path} is {kind}")
        });
        let cached = answer.header("cache-control");
        self.need(cached.is_some(), || {
            format!("H23: {path} has no Cache-Control")
        });
        let dated = answer.header("last-modified");
        self.need(dated.is_none(), || format!("H26: {path} has Last-Modified"));
        (status == 200).then(|| answer.text())
    }

    /// An object that must be there.
    pub(super) fn object(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.get(path)?;
        let status = answer.status;
        if status != 200 {
            self.problem(format!("H7: {path} is listed: {status}"));
            return None;
        }
        let name = path.split('?').next().unwrap_or_default();
        let (_, extension) = name.rsplit_once('.').unwrap_or_default();
        let kinds: &[&str] = match extension {
            "ts" => &["video/mp2t"],
            "m4s" => &["video/iso.segment", "video/mp4", "audio/mp4"],
            _ => &["video/mp4", "audio/mp4"],
        };
        let kind = answer.header("content-type").unwrap_or_default();
        self.need(kinds.contains(&kind), || format!("H21: {path} is {kind}"));
        let cached = answer.header("cache-control").unwrap_or_default();
        let mut words = cached.split(',').map(str::trim);
        let age = words.find_map(|word| word.strip_prefix("max-age=")?.parse().ok());
        self.need(age.is_some_and(|age: u64| age >= 60), || {
            format!("H23: {path} has Cache-Control: {cached}")
        });
        Some(answer.body)
    }

    /// What each playlist has shown by now.
    pub(super) fn shown(&self) -> BTreeMap<String, (u64, u64)> {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn show(&self, path: &str, last: (u64, u64)) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shown.entry(without_query(path)).or_insert(last);
        *known = last.max(*known);
    }

    fn multivariant(&self, path: &str) -> Option<Multivariant> {
        match Multivariant::parse(&self.playlist(path)?) {
            Ok(multivariant) => {
                for problem in multivariant.problems() {
                    self.problem(problem);
                }
                Some(multivariant)
            }
            Err(problem) => {
                self.problem(problem);
                None
            }
        }
    }

    fn into_report(self) -> Report {
        self.report
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// H14, H15, H17: what all playlists of a stream have in common.
fn together(shared: &Shared, multivariant: &Multivariant, seen: &BTreeMap<String, Seen>) {
    let all_say = seen.values().all(|seen| seen.independent);
    let said = multivariant.independent || all_say;
    let sync = seen.values().all(|seen| seen.sync);
    shared.need(said == sync, || {
        format!("H15: EXT-X-INDEPENDENT-SEGMENTS {said}, segments begin with sync samples {sync}")
    });
    let Some((first, others)) = seen
        .values()
        .collect::<Vec<_>>()
        .split_first()
        .map(|(first, others)| (*first, others.to_vec()))
    else {
        return;
    };
    for other in others {
        let (one, two) = (first.target_s, other.target_s);
        shared.need(one == two, || {
            format!("H17: target durations {one} and {two}")
        });
        for (msn, (date_ms, discontinuity)) in &first.begins {
            let Some((other_ms, other_discontinuity)) = other.begins.get(msn) else {
                continue;
            };
            let apart_ms = date_ms.zip(*other_ms).map(|(one, two)| (one - two).abs());
            shared.need(apart_ms.is_none_or(|apart| apart <= FRAME_MS), || {
                format!("H17: segment {msn} begins {apart_ms:?} ms apart")
            });
            shared.need(discontinuity == other_discontinuity, || {
                format!("H14: a discontinuity before segment {msn} in one rendition only")
            });
        }
    }
}

/// H16: what the media really are.
fn media(shared: &Shared, multivariant: &Multivariant, seen: &BTreeMap<String, Seen>) {
    for variant in &multivariant.variants {
        let group = multivariant.renditions.iter().filter(|rendition| {
            rendition.kind == "AUDIO" && Some(&rendition.group) == variant.audio.as_ref()
        });
        let group: Vec<_> = group
            .filter_map(|rendition| seen.get(rendition.uri.as_ref()?))
            .collect();
        let Some(lead) = seen.get(&variant.uri) else {
            continue;
        };
        let carried: Vec<_> = std::iter::once(lead).chain(group).collect();
        let codecs: Vec<_> = carried
            .iter()
            .filter_map(|seen| Some(seen.init.as_ref()?.codec.to_lowercase()))
            .collect();
        // Without init objects the media are MPEG-TS.
        if codecs.is_empty() {
            continue;
        }
        let uri = &variant.uri;
        let said: Vec<_> = variant
            .codecs
            .iter()
            .map(|codec| codec.to_lowercase())
            .collect();
        shared.need(said == codecs, || {
            format!("H16: {uri}: CODECS {said:?} of {codecs:?}")
        });
        let picture = lead.init.as_ref().and_then(|init| init.picture);
        let picture = picture.map(|(width, height)| (width.into(), height.into()));
        shared.need(variant.resolution == picture, || {
            format!(
                "H16: {uri}: RESOLUTION {:?} of {picture:?}",
                variant.resolution
            )
        });
        let bandwidth = variant.bandwidth as f64;
        let peak: f64 = carried.iter().map(|seen| seen.peak_bps()).sum();
        let (low, high) = (peak * BANDWIDTH_RANGE.0, peak * BANDWIDTH_RANGE.1);
        shared.need((low..=high).contains(&bandwidth), || {
            format!("H16: {uri}: BANDWIDTH {bandwidth}, the peak is {peak}")
        });
        let seconds = lead
            .sizes
            .values()
            .map(|(_, us)| *us as f64 / 1e6)
            .sum::<f64>();
        let rate = lead.samples as f64 / seconds;
        let within =
            |said: f64| (rate * FRAME_RATE_RANGE.0..=rate * FRAME_RATE_RANGE.1).contains(&said);
        let said = variant.frame_rate.map(|millionths| millionths as f64 / 1e6);
        shared.need(said.is_none_or(within), || {
            format!("H16: {uri}: FRAME-RATE {said:?} of {rate}")
        });
    }
}

impl Seen {
    /// The peak of what is listed, over segments that are long enough to say something.
    fn peak_bps(&self) -> f64 {
        let listed = self.sizes.range(self.first..);
        let long = listed.filter(|(_, (_, us))| *us >= self.target_s * 500_000);
        let rates = long.map(|(_, (bytes, us))| *bytes as f64 * 8e6 / *us as f64);
        rates.fold(0.0, f64::max)
    }
}

/// The path of a URI in the document at a path.
pub(crate) fn resolve(base: &str, uri: &str) -> String {
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let base = without_query(base);
    let (mut folder, mut uri) = (base.rsplit_once('/').map_or("", |(folder, _)| folder), uri);
    while let Some(rest) = uri.strip_prefix("../") {
        folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
        uri = rest;
    }
    format!("{folder}/{uri}")
}

pub(super) fn without_query(path: &str) -> String {
    path.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_resolved() {
        for (base, uri, expected) in [
            (
                "/live/a/index.m3u8?x=/y",
                "video/index.m3u8",
                "/live/a/video/index.m3u8",
            ),
            (
                "/live/a/video/index.m3u8",
                "../audio/b.m4s?c=d",
                "/live/a/audio/b.m4s?c=d",
            ),
            ("/live/a/video/index.m3u8", "/e", "/e"),
        ] {
            assert_eq!(resolve(base, uri), expected);
        }
    }
}
