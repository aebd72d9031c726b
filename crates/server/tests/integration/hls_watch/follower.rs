//! One player of one media playlist.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use super::{
    media::{Media, Part, Segment},
    rules,
    succession::{self, next_part},
    watch::{Seen, Shared, resolve, without_query},
};
use crate::cmaf_check::Track;

/// Four looks for each segment of a second, the shortest there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How much later than it should something may be seen: the machine is busy.
const LATE: Duration = Duration::from_secs(1);

/// A player, with all that it remembers.
pub(super) struct Follower<'a> {
    shared: &'a Shared,
    path: &'a str,
    siblings: usize,
    newest: Option<(Instant, Media)>,
    seen: Seen,
    track: Option<(String, Track)>,
    last_msn: Option<u64>,
    /// The bytes of parts whose segment is not complete, by segment and number.
    parts: BTreeMap<(u64, usize), Vec<u8>>,
    longest: Duration,
    /// What was listed and is no longer: its path, since when, and how long it must stay (H9, L8).
    gone: Vec<(String, Instant, Duration)>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(shared: &'a Shared, path: &'a str, siblings: usize) -> Self {
        let seen = Seen {
            sync: true,
            ..Seen::default()
        };
        Self {
            shared,
            path,
            siblings,
            newest: None,
            seen,
            track: None,
            last_msn: None,
            parts: BTreeMap::new(),
            longest: Duration::ZERO,
            gone: Vec::new(),
        }
    }

    /// Looks again and again, like a player of classic HLS.
    pub(super) fn poll(mut self) -> Seen {
        loop {
            let before = self.shared.shown();
            if let Some(text) = self.shared.playlist(self.path) {
                self.look(&text, &before, false);
            }
            if self.is_over() {
                break;
            }
            thread::park_timeout(POLL_INTERVAL);
        }
        self.check_gone();
        self.seen
    }

    /// Blocks for each part, and fetches what is hinted before it is there.
    pub(super) fn block(mut self) {
        if let Some(text) = self.shared.playlist(self.path) {
            self.look(&text, &BTreeMap::new(), true);
        }
        let mut delta = false;
        while !self.is_over() {
            let Some((_, before)) = self.newest.clone() else {
                break;
            };
            delta = !delta
                && before
                    .control
                    .is_some_and(|control| control.skip_until_us.is_some());
            let position = before.position();
            let url = self.blocking_url(position, delta);
            let hint = before.hints.first().map(|hint| resolve(self.path, hint));
            let shown = self.shared.shown();
            let shared = self.shared;
            let (text, hinted) = thread::scope(|scope| {
                let hinted = scope.spawn(|| hint.as_ref().and_then(|hint| shared.get(hint)));
                let text = shared.playlist(&url);
                (text, hinted.join().expect("a request does not panic"))
            });
            let Some(text) = text else { break };
            if !self.look(&text, &shown, true) {
                break;
            }
            let Some((_, after)) = &self.newest else {
                break;
            };
            shared.need(after.position() > position || after.ended, || {
                format!("2.2: {url} answered with {:?}", after.position())
            });
            self.check_hint(&before, hinted.map(|answer| (answer.status, answer.body)));
        }
        self.check_gone();
    }

    fn blocking_url(&self, (msn, part): (u64, usize), delta: bool) -> String {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let skip = if delta { "&_HLS_skip=YES" } else { "" };
        format!("{}{mark}_HLS_msn={msn}&_HLS_part={part}{skip}", self.path)
    }

    fn is_over(&self) -> bool {
        let ended = self.newest.as_ref().is_some_and(|(_, media)| media.ended);
        ended || Instant::now() >= self.shared.until
    }

    /// Takes a version; `shown` is what other playlists had shown when it was asked for. False when it cannot be read.
    fn look(&mut self, text: &str, shown: &BTreeMap<String, (u64, u64)>, parts: bool) -> bool {
        let now = Instant::now();
        let read = Media::parse(text).and_then(|media| match &self.newest {
            Some((_, known)) => {
                self.shared.report().deltas += usize::from(media.skipped.is_some());
                succession::expand(&media, known)
            }
            None if media.skipped.is_some() => Err("L3: a delta for whoever knows nothing".into()),
            None => Ok(media),
        });
        let media = match read {
            Ok(media) => media,
            Err(problem) => {
                self.shared.problem(format!("{problem} ({})", self.path));
                return false;
            }
        };
        let mut problems = rules::problems(&media, self.siblings);
        let changed = self
            .newest
            .as_ref()
            .is_none_or(|(_, known)| *known != media);
        if let Some((_, known)) = &self.newest {
            problems.extend(succession::problems(known, &media));
        }
        for problem in problems {
            self.shared.problem(format!("{problem} ({})", self.path));
        }
        self.check_reports(&media, shown);
        if changed {
            self.shared.report().versions += 1;
            self.check_pace(&media, now);
            self.take(&media, now, parts);
            self.newest = Some((now, media));
        }
        true
    }

    /// H10, L4.
    fn check_pace(&self, media: &Media, now: Instant) {
        let Some((since, known)) = &self.newest else {
            return;
        };
        let waited = now - *since;
        let longest = Duration::from_secs(media.target_s.unsigned_abs()) * 3 / 2 + LATE;
        self.shared.need(waited <= longest || media.ended, || {
            format!("H10: no new version for {waited:?} ({})", self.path)
        });
        if let Some(part_us) = media
            .part_target_us
            .filter(|_| known.part_target_us.is_some())
        {
            let longest = Duration::from_micros(part_us.unsigned_abs()) + LATE;
            self.shared.need(waited <= longest || media.ended, || {
                format!("L4: no new part for {waited:?} ({})", self.path)
            });
        }
    }

    /// L10: no report is older than what its playlist had shown before.
    fn check_reports(&self, media: &Media, shown: &BTreeMap<String, (u64, u64)>) {
        for report in &media.reports {
            let path = without_query(&resolve(self.path, &report.uri));
            let said = report.last_msn.zip(report.last_part);
            let known = shown.get(&path);
            self.shared
                .need(known.is_none_or(|known| said >= Some(*known)), || {
                    format!("L10: {path} had shown {known:?}, its report says {said:?}")
                });
        }
        let (open, count) = media.position();
        let last = match count.checked_sub(1) {
            Some(part) => Some((open, part)),
            None => media
                .segments
                .last()
                .and_then(|segment| Some((open - 1, segment.parts.len().checked_sub(1)?))),
        };
        if let Some((msn, part)) = last {
            self.shared.show(self.path, (msn, part as u64));
        }
    }

    /// Fetches what is new, and remembers what has left.
    fn take(&mut self, media: &Media, now: Instant, parts: bool) {
        self.longest = self.longest.max(micros(media.duration_us()));
        self.seen.target_s = media.target_s;
        self.seen.independent = media.independent;
        self.seen.first = media.media_sequence;
        self.forget(media, now);
        for (msn, segment) in media.numbered() {
            if segment.gap || self.last_msn.is_some_and(|last| msn <= last) {
                continue;
            }
            self.open_track(segment);
            if parts {
                for (number, part) in segment.parts.iter().enumerate() {
                    self.part((msn, number), part);
                }
            }
            if !segment.uri.is_empty() {
                self.segment(msn, segment, media.independent);
            }
        }
    }

    fn forget(&mut self, media: &Media, now: Instant) {
        let Some((_, known)) = &self.newest else {
            return;
        };
        for (msn, segment) in known.numbered() {
            let new = media.segment(msn);
            if new.is_none() && !segment.uri.is_empty() {
                let kept = self.longest + micros(segment.duration_us);
                self.gone
                    .push((resolve(self.path, &segment.uri), now, kept));
            }
            if new.is_none_or(|new| new.parts.is_empty()) {
                let kept = Duration::from_secs(3 * media.target_s.unsigned_abs());
                for part in segment.parts.iter().filter(|part| !part.gap) {
                    self.gone.push((resolve(self.path, &part.uri), now, kept));
                }
            }
        }
    }

    fn open_track(&mut self, segment: &Segment) {
        let Some(map) = &segment.map else { return };
        if self.track.as_ref().is_some_and(|(known, _)| known == map) {
            return;
        }
        let mut problems = Vec::new();
        let bytes = self.shared.object(&resolve(self.path, map));
        match bytes.map(|bytes| Track::new(&bytes, &mut problems)) {
            Some(Ok(track)) => {
                self.seen.init = Some(track.init.clone());
                self.track = Some((map.clone(), track));
            }
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        for problem in problems {
            self.shared.problem(format!("{problem} ({map})"));
        }
    }

    fn part(&mut self, at: (u64, usize), part: &Part) {
        if part.gap || self.parts.contains_key(&at) {
            return;
        }
        let path = resolve(self.path, &part.uri);
        let Some(bytes) = self.shared.object(&path) else {
            return;
        };
        self.shared.report().parts += 1;
        if let Some((_, track)) = &self.track {
            let mut problems = Vec::new();
            // Whether it goes on where the last one ended is seen with its segment.
            match track.clone().next(&bytes, false, &mut problems) {
                Ok(read) => {
                    let (lasts_us, sample_us) = read.lasts_us(&track.init);
                    let said_us = part.duration_us;
                    self.shared
                        .need((lasts_us - said_us).abs() <= sample_us, || {
                            format!("L1: {path} lasts {lasts_us} us, not {said_us} us")
                        });
                    self.shared.need(read.sync || !part.independent, || {
                        format!("L7: {path} is INDEPENDENT and begins with no sync sample")
                    });
                }
                Err(problem) => self.shared.problem(format!("{problem} ({path})")),
            }
        }
        self.parts.insert(at, bytes);
    }

    fn segment(&mut self, msn: u64, segment: &Segment, independent: bool) {
        let path = resolve(self.path, &segment.uri);
        let continuous =
            self.last_msn.is_some_and(|last| last + 1 == msn) && !segment.discontinuity;
        self.last_msn = Some(msn);
        let Some(bytes) = self.shared.object(&path) else {
            return;
        };
        self.shared.report().segments += 1;
        self.seen
            .begins
            .insert(msn, (segment.date_ms, segment.discontinuity));
        self.seen
            .sizes
            .insert(msn, (bytes.len(), segment.duration_us));
        let later = self.parts.split_off(&(msn + 1, 0));
        let of_segment = self.parts.split_off(&(msn, 0));
        self.parts = later;
        if !of_segment.is_empty() && of_segment.len() == segment.parts.len() {
            let joined: Vec<u8> = of_segment.into_values().flatten().collect();
            self.shared.need(joined == bytes, || {
                format!("L6: {path} is not its parts (C10)")
            });
        }
        let Some((_, track)) = self.track.as_mut().filter(|_| segment.map.is_some()) else {
            return;
        };
        let mut problems = Vec::new();
        match track.next(&bytes, continuous, &mut problems) {
            Ok(read) => {
                self.seen.samples += read.samples;
                self.seen.sync &= read.sync;
                let (lasts_us, sample_us) = read.lasts_us(&track.init);
                let said_us = segment.duration_us;
                if (lasts_us - said_us).abs() > sample_us {
                    problems.push(format!("H11: it lasts {lasts_us} us, not {said_us} us"));
                }
                if independent && !read.sync {
                    problems.push("C5: it begins with no sync sample".into());
                }
            }
            Err(problem) => problems.push(problem),
        }
        for problem in problems {
            self.shared.problem(format!("{problem} ({path})"));
        }
    }

    /// L9: what was hinted is there from then on, and is the part that came.
    fn check_hint(&self, before: &Media, hinted: Option<(u16, Vec<u8>)>) {
        let (Some((_, after)), Some((status, bytes))) = (&self.newest, hinted) else {
            return;
        };
        let Some(hint) = before.hints.first() else {
            return;
        };
        match next_part(before, after) {
            Some((msn, uri)) if uri == hint => {
                self.shared.report().hints += 1;
                self.shared
                    .need(status == 200, || format!("L9: the hint {hint}: {status}"));
                let (open, parts) = before.position();
                let number = if msn == open { parts } else { 0 };
                let listed = self.parts.get(&(msn, number));
                self.shared.need(
                    status != 200 || listed.is_none_or(|part| *part == bytes),
                    || format!("L9: {hint} was hinted with other bytes"),
                );
            }
            _ => {
                self.shared.report().abandoned += 1;
                self.shared.need(status == 404, || {
                    format!("L9: the hint {hint}, which was left behind: {status}")
                });
            }
        }
    }

    /// H9, L8: what has left the playlist can be fetched for a while.
    fn check_gone(&self) {
        for (path, since, kept) in &self.gone {
            let Some(answer) = self.shared.get(path) else {
                continue;
            };
            let late = since.elapsed() >= *kept;
            self.shared.need(late || answer.status == 200, || {
                format!("H9: {path} has left and is gone already: {}", answer.status)
            });
        }
    }
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}
