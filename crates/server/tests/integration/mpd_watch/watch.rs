//! Follows a stream as a player of DASH does, and fetches every segment.
//!
//! Owns: what only requests and time show: D3 (`t` is `tfdt`), D6, D7 (codecs), D9, D11, D14 and, with `cmaf-check`, the
//! bytes. Does not own: the rules for texts ([`super::rules`]).

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    mpd::{Mpd, Representation, Template},
    rules,
};
use crate::{
    cmaf_check::{Media, Track},
    hls_watch::{date_ms, resolve},
    support::http::{Response, open, request},
};

/// Four looks for each segment of a second, the shortest there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How a stream is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Segments must be announced while they are made.
    pub(crate) low_latency: bool,
    pub(crate) lasts: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) versions: usize,
    pub(crate) segments: usize,
    /// Segments that came in pieces, and those of them whose first piece was there before their end.
    pub(crate) open: usize,
    pub(crate) early: usize,
    /// Fragments, and how many of them tell their producer's time (D12).
    pub(crate) fragments: usize,
    pub(crate) timed: usize,
    /// What is wrong, each once; each begins with its row.
    pub(crate) problems: Vec<String>,
}

struct Shared<'a> {
    addr: SocketAddr,
    path: &'a str,
    until: Instant,
    options: Options,
    report: Mutex<Report>,
}

/// Watches the stream of a manifest, such as `/live/demo/manifest.mpd`.
pub(crate) fn watch(addr: SocketAddr, path: &str, options: Options) -> Report {
    let shared = Shared {
        addr,
        path,
        until: Instant::now() + options.lasts,
        options,
        report: Mutex::default(),
    };
    if let Some(first) = shared.manifest() {
        let sets = first.periods.iter().flat_map(|period| &period.sets);
        let mut ids: Vec<_> = sets
            .flat_map(|set| &set.representations)
            .map(|representation| representation.id.clone())
            .collect();
        ids.sort();
        ids.dedup();
        thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| Follower::new(&shared, id).run());
            }
            clocks(&shared, &first);
            versions(&shared, first);
        });
    }
    conditions(&shared);
    let mut report = shared
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if options.low_latency && report.early == 0 {
        report
            .problems
            .push("D11: no segment came before its end".into());
    }
    report
}

impl Shared<'_> {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn need(&self, holds: bool, problem: impl FnOnce() -> String) {
        if holds {
            return;
        }
        let (problem, mut report) = (problem(), self.report());
        if !report.problems.contains(&problem) {
            report.problems.push(problem);
        }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Response> {
        let origin = [("Origin", "http://example.com")];
        match request(self.addr, "GET", path, &[&origin, headers].concat()) {
            Ok(answer) => {
                let allowed = answer.header("access-control-allow-origin");
                self.need(allowed.is_some(), || format!("D14: no CORS of {path}"));
                Some(answer)
            }
            Err(error) => {
                self.need(false, || format!("D6: {path}: {error}"));
                None
            }
        }
    }

    /// The manifest that is served now.
    fn manifest(&self) -> Option<Mpd> {
        let answer = self.get(self.path, &[])?;
        self.need(answer.status == 200, || {
            format!("D6: {}: {}", self.path, answer.status)
        });
        let kind = answer.header("content-type").unwrap_or_default();
        self.need(kind == "application/dash+xml", || {
            format!("D14: the manifest is {kind}")
        });
        self.need(answer.header("etag").is_some(), || {
            "D14: no ETag of the manifest".into()
        });
        match Mpd::parse(&answer.text()) {
            Ok(mpd) => Some(mpd),
            Err(problem) => {
                self.need(false, || problem);
                None
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// The rules for each version and from each to the next.
fn versions(shared: &Shared<'_>, first: Mpd) {
    let mut newest: Option<Mpd> = None;
    let mut next = Some(first);
    loop {
        if let Some(mpd) = next {
            let mut problems = Vec::new();
            if newest.as_ref() != Some(&mpd) {
                shared.report().versions += 1;
                problems = rules::problems(&mpd);
                let wanted = shared.options.low_latency && mpd.dynamic;
                if wanted && !mpd.is_low_latency() {
                    problems.push("D9: no availabilityTimeComplete=false".into());
                }
            }
            problems.extend(newest.iter().flat_map(|known| rules::changes(known, &mpd)));
            for problem in problems {
                shared.need(false, || problem);
            }
            newest = Some(mpd);
        }
        if shared.is_over() {
            return;
        }
        thread::park_timeout(POLL_INTERVAL);
        next = shared.manifest();
    }
}

/// D5: each clock tells the time, to the millisecond where it can, and nobody keeps the answer.
fn clocks(shared: &Shared<'_>, mpd: &Mpd) {
    for (scheme, value) in &mpd.clocks {
        if scheme.ends_with(":direct:2014") {
            continue;
        }
        let path = resolve(shared.path, value);
        let Some(answer) = shared.get(&path, &[]) else {
            continue;
        };
        let told = scheme.contains("http-head") || date_ms(answer.text().trim()).is_some();
        let dated = answer.header("date").is_some();
        let kept = answer.header("cache-control") != Some("no-store");
        shared.need(answer.status == 200 && told && dated && !kept, || {
            let status = answer.status;
            format!("D5: {path}: {status}, tells the time {told}, Date {dated}, is kept {kept}")
        });
    }
}

/// D14: whoever has this version is not sent it again; it may change between two requests.
fn conditions(shared: &Shared<'_>) {
    let known = (0..3).any(|_| {
        let etag = shared
            .get(shared.path, &[])
            .and_then(|answer| answer.header("etag").map(str::to_owned));
        let etag = etag.unwrap_or_default();
        let again = shared.get(shared.path, &[("If-None-Match", &etag)]);
        again.is_some_and(|answer| answer.status == 304 && answer.body.is_empty())
    });
    shared.need(known, || {
        "D14: If-None-Match is not answered with 304".into()
    });
}

/// What a segment holds, and its bytes if they came while it was made.
type Read = (Media, Option<Vec<u8>>);

/// The player of one representation.
struct Follower<'a> {
    shared: &'a Shared<'a>,
    id: &'a str,
    track: Option<(String, Track)>,
    /// Each segment that was read, by Period and start.
    read: BTreeMap<(String, u64), Read>,
    /// Period and end of the segment before.
    last: Option<(String, u64)>,
}

impl<'a> Follower<'a> {
    fn new(shared: &'a Shared<'a>, id: &'a str) -> Self {
        Self {
            shared,
            id,
            track: None,
            read: BTreeMap::new(),
            last: None,
        }
    }

    fn run(mut self) {
        let own = self.id;
        while !self.shared.is_over() {
            if let Some(mpd) = self.shared.manifest() {
                for period in &mpd.periods {
                    let id = period.id.clone().unwrap_or_default();
                    let representations = period.sets.iter().flat_map(|set| &set.representations);
                    for representation in representations.filter(|known| known.id == own) {
                        self.take(&mpd, &id, representation);
                    }
                }
            }
            thread::park_timeout(POLL_INTERVAL);
        }
    }

    fn take(&mut self, mpd: &Mpd, period: &str, representation: &Representation) {
        let template = &representation.template;
        self.open_track(representation);
        for (at, (start, duration)) in template.segments.iter().enumerate() {
            let newest = at + 1 == template.segments.len();
            let open = newest && mpd.dynamic && !template.complete;
            let path = resolve(self.shared.path, &representation.media(at));
            let key = (period.to_owned(), *start);
            match self.read.get_mut(&key) {
                None => {
                    if let Some((bytes, early)) = self.fetch(&path, open, *start) {
                        self.check(&path, key, &bytes, early);
                    }
                }
                Some((_, early)) if !open => {
                    // It was read while it was made: now it is whole.
                    if let Some(known) = early.take() {
                        let whole = self.shared.get(&path, &[]).map(|answer| answer.body);
                        let same = whole.is_none_or(|whole| whole == known);
                        self.shared
                            .need(same, || format!("D11: {path} was sent otherwise (C10)"));
                    }
                }
                Some(_) => {}
            }
            if let Some((media, _)) = self.read.get(&(period.to_owned(), *start))
                && !open
            {
                let lasts = media.end - media.start;
                self.shared.need(lasts == *duration, || {
                    format!("D3: {path} lasts {lasts} ticks, not {duration}")
                });
            }
        }
    }

    fn open_track(&mut self, representation: &Representation) {
        let initialization = representation.initialization();
        if self
            .track
            .as_ref()
            .is_some_and(|(known, _)| *known == initialization)
        {
            return;
        }
        let path = resolve(self.shared.path, &initialization);
        let Some((bytes, _)) = self.fetch(&path, false, 0) else {
            return;
        };
        let mut problems = Vec::new();
        match Track::new(&bytes, &mut problems) {
            Ok(track) => {
                let said = representation
                    .codecs
                    .clone()
                    .unwrap_or_default()
                    .to_lowercase();
                let codec = track.init.codec.to_lowercase();
                self.shared.need(said == codec, || {
                    format!("D7: {}: codecs {said} of {codec}", self.id)
                });
                let size = track
                    .init
                    .picture
                    .map(|(width, height)| (width.into(), height.into()));
                self.shared.need(size == representation.size, || {
                    format!("D7: {}: {:?} of {size:?}", self.id, representation.size)
                });
                let Template { timescale, .. } = representation.template;
                let ticks = u64::from(track.init.timescale);
                self.shared.need(ticks == timescale, || {
                    format!("D3: {}: timescale {timescale} of {ticks}", self.id)
                });
                self.track = Some((initialization, track));
            }
            Err(problem) => problems.push(problem),
        }
        for problem in problems {
            self.shared.need(false, || format!("{problem} ({path})"));
        }
    }

    /// The bytes of an object, and whether they came while it was made.
    fn fetch(&self, path: &str, open_segment: bool, start: u64) -> Option<(Vec<u8>, bool)> {
        let origin = [("Origin", "http://example.com")];
        let mut answer = match open(self.shared.addr, "GET", path, &origin) {
            Ok(answer) if answer.status == 200 => answer,
            answer => {
                let status = answer.map(|answer| answer.status);
                self.shared
                    .need(false, || format!("D6: {path} is listed: {status:?}"));
                return None;
            }
        };
        for name in [
            "access-control-allow-origin",
            "content-type",
            "cache-control",
        ] {
            let there = answer.header(name).is_some();
            self.shared
                .need(there, || format!("D6: {path} has no {name}"));
        }
        let in_pieces = open_segment && answer.header("content-length").is_none();
        let mut bytes = vec![0; 1];
        let mut first = answer.body.read_exact(&mut bytes);
        if in_pieces {
            self.shared.report().open += 1;
            // Its first byte is there. Is it still the last one that is announced?
            let newest = self.shared.manifest().and_then(|mpd| self.newest(&mpd));
            self.shared.report().early += usize::from(newest == Some(start));
        }
        first = first.and_then(|()| answer.body.read_to_end(&mut bytes).map(|_| ()));
        self.shared.need(first.is_ok(), || {
            format!("D11: {path} breaks off: {first:?}")
        });
        first.ok().map(|()| (bytes, in_pieces))
    }

    /// When the last segment begins that a manifest announces.
    fn newest(&self, mpd: &Mpd) -> Option<u64> {
        let sets = &mpd.periods.last()?.sets;
        let mut representations = sets.iter().flat_map(|set| &set.representations);
        let representation = representations.find(|known| known.id == self.id)?;
        let (start, _) = representation.template.segments.last()?;
        Some(*start)
    }

    fn check(&mut self, path: &str, key: (String, u64), bytes: &[u8], early: bool) {
        let Some((_, track)) = &mut self.track else {
            return;
        };
        let (period, start) = &key;
        let continuous = self
            .last
            .as_ref()
            .is_some_and(|(known, end)| (known, end) == (period, start));
        let mut problems = Vec::new();
        match track.next(bytes, continuous, &mut problems) {
            Ok(media) => {
                if media.start != *start {
                    problems.push(format!("D3: t is {start}, tfdt is {}", media.start));
                }
                if !media.sync {
                    problems.push("C5: it begins with no sync sample".into());
                }
                if early && media.fragments < 2 {
                    problems.push("D11: it is one chunk".into());
                }
                let mut report = self.shared.report();
                report.segments += 1;
                report.fragments += media.fragments;
                report.timed += media.timed;
                self.last = Some((period.clone(), media.end));
                self.read
                    .insert(key, (media, early.then(|| bytes.to_vec())));
            }
            Err(problem) => problems.push(problem),
        }
        for problem in problems {
            self.shared.need(false, || format!("{problem} ({path})"));
        }
    }
}
