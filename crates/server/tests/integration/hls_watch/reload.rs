//! Delivery directives: the table of CONFORMANCE 2.2, asked of a live low-latency media playlist.
//!
//! Owns: what each request is answered with, whatever the state of the stream is when it is asked. It needs a playlist
//! at `/live/{name}/{rendition}/index.m3u8` that lists complete segments and parts, and goes on for some segments.
//! Does not own: waiting for players that are lost or too many ([`super::watch`] and the tests of the gateway).

use std::net::SocketAddr;

use super::{media::Media, succession::expand};
use crate::support::http::{Response, request};

/// The stream goes on between two requests; a row that depends on its state is asked again this often.
const TRIES: usize = 12;
/// And one that waits this often.
const WAITS: usize = 3;

/// How far the playlist goes when a row is asked.
struct State {
    media: Media,
    /// The segment that is open, and how many of its parts are listed.
    open: u64,
    parts: usize,
    /// How many parts the last complete segment has.
    last_parts: usize,
    can_skip: bool,
}

#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The full playlist as it is: nothing is waited for.
    AtOnce,
    /// The full playlist, once it goes that far: a segment, and how many of its parts.
    Until(u64, usize),
    /// A delta, at once.
    Delta,
    Refused,
}

/// One row: what it shows, the query, and the answer.
type Row = (&'static str, String, Expected);

/// Everything that breaks the table.
pub(crate) fn reload_table(addr: SocketAddr, path: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let rows = State::ask(addr, path).map(|state| state.rows().len());
    let Ok(rows) = rows else {
        return rows.err().into_iter().collect();
    };
    for row in 0..rows {
        problems.extend(lasting_problem(addr, path, row));
    }
    let name = path.split('/').nth(2).unwrap_or_default();
    let unknown = format!(
        "{}?_HLS_msn=9&_HLS_part=0",
        path.replacen(name, "nobody", 1)
    );
    match request(addr, "GET", &unknown, &[]) {
        Ok(answer) if answer.status == 404 => {}
        answer => problems.push(format!(
            "2.2: a stream that is not there: {:?}",
            status(answer)
        )),
    }
    problems
}

/// The same for a playlist that has ended: directives are ignored.
pub(crate) fn ended_table(addr: SocketAddr, path: &str) -> Vec<String> {
    let queries = [
        "",
        "_HLS_msn=9999999999&_HLS_part=0",
        "_HLS_part=1",
        "_HLS_msn=x",
        "_HLS_skip=YES",
    ];
    let ask = |query: &str| match get(addr, path, query) {
        Ok(answer) if answer.status == 200 => match Media::parse(&answer.text()) {
            Ok(media) if media.ended && media.skipped.is_none() => None,
            media => Some(format!(
                "2.2: {query} of a stream that has ended: {media:?}"
            )),
        },
        answer => Some(format!(
            "2.2: {query} of a stream that has ended: {:?}",
            status(answer)
        )),
    };
    queries.into_iter().filter_map(ask).collect()
}

/// What is wrong with the answer to a row; `None` when nothing is.
fn problem(addr: SocketAddr, path: &str, row: usize) -> Option<String> {
    let state = match State::ask(addr, path) {
        Ok(state) => state,
        Err(problem) => return Some(problem),
    };
    let (what, query, expected) = state.rows().swap_remove(row);
    let answer = match get(addr, path, &query) {
        Ok(answer) => answer,
        Err(error) => return Some(format!("2.2: {what}: {error}")),
    };
    let problem = state.judge(&answer, expected)?;
    Some(format!(
        "2.2: {what} (?{query}, {:?}): {problem}",
        (state.open, state.parts)
    ))
}

/// The same, asked again. What is waited for must be there each time: a server that does not wait is lucky at times. What
/// comes at once is missed when the stream goes on between two requests, so that one good answer will do.
fn lasting_problem(addr: SocketAddr, path: &str, row: usize) -> Option<String> {
    let waits = State::ask(addr, path)
        .is_ok_and(|state| matches!(state.rows()[row].2, Expected::Until(..)));
    if waits {
        return (0..WAITS).find_map(|_| problem(addr, path, row));
    }
    let mut last = None;
    for _ in 0..TRIES {
        last = Some(problem(addr, path, row)?);
    }
    last
}

impl State {
    fn ask(addr: SocketAddr, path: &str) -> Result<Self, String> {
        let answer = get(addr, path, "").map_err(|error| format!("2.2: {path}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("2.2: {path}: {}", answer.status));
        }
        let media = Media::parse(&answer.text())?;
        let last_parts = media
            .segments
            .last()
            .map_or(0, |segment| segment.parts.len());
        if last_parts == 0 || media.part_target_us.is_none() || media.ended {
            return Err(format!("2.2: {path} is no live low-latency playlist"));
        }
        let (open, parts) = media.position();
        let control = media.control.unwrap_or_default();
        Ok(Self {
            can_skip: control.skip_until_us.is_some(),
            media,
            open,
            parts,
            last_parts,
        })
    }

    fn rows(&self) -> Vec<Row> {
        use Expected::{AtOnce, Delta, Refused, Until};
        let Self {
            open,
            parts,
            last_parts,
            ..
        } = *self;
        let at = |msn: u64, part: usize| format!("_HLS_msn={msn}&_HLS_part={part}");
        let delta = if self.can_skip { Delta } else { AtOnce };
        let (known_msn, known_part) = match parts {
            0 => (open - 1, 0),
            _ => (open, parts - 1),
        };
        vec![
            ("no directives", String::new(), AtOnce),
            (
                "a complete segment",
                format!("_HLS_msn={}", open - 1),
                AtOnce,
            ),
            ("a segment that has left", "_HLS_msn=0".into(), AtOnce),
            ("a part of a segment that has left", at(0, 3), AtOnce),
            (
                "the open segment",
                format!("_HLS_msn={open}"),
                Until(open + 1, 0),
            ),
            ("a part that is there", at(known_msn, known_part), AtOnce),
            ("the next part", at(open, parts), Until(open, parts + 1)),
            (
                "beyond the last part",
                at(open - 1, last_parts),
                Until(open, 1),
            ),
            (
                "the segment after the open one",
                at(open + 1, 0),
                Until(open + 1, 1),
            ),
            (
                "a segment too far ahead",
                format!("_HLS_msn={}", open + 4),
                Refused,
            ),
            ("a part too far ahead", at(open, parts + 100), Refused),
            ("a part of no segment", "_HLS_part=0".into(), Refused),
            ("no number", "_HLS_msn=x".into(), Refused),
            ("an empty number", "_HLS_msn=".into(), Refused),
            ("a negative number", "_HLS_msn=-1".into(), Refused),
            ("a number with a sign", "_HLS_msn=%2B1".into(), Refused),
            ("a fraction", "_HLS_msn=1.5".into(), Refused),
            ("above 2^53", "_HLS_msn=9007199254740993".into(), Refused),
            (
                "no number of a part",
                format!("_HLS_msn={open}&_HLS_part=x"),
                Refused,
            ),
            (
                "a key twice",
                format!("_HLS_msn={open}&_HLS_msn={open}"),
                Refused,
            ),
            ("a delta", "_HLS_skip=YES".into(), delta),
            ("a delta without date ranges", "_HLS_skip=v2".into(), delta),
            ("no delta", "_HLS_skip=NO".into(), AtOnce),
            ("what is not known", "_HLS_other=1".into(), AtOnce),
        ]
    }

    fn judge(&self, answer: &Response, expected: Expected) -> Option<String> {
        if let Expected::Refused = expected {
            let cached = answer.header("cache-control").unwrap_or_default();
            let refused = answer.status == 400 && cached.contains("no-store");
            return (!refused).then(|| format!("{} with Cache-Control: {cached}", answer.status));
        }
        if answer.status != 200 {
            return Some(answer.status.to_string());
        }
        let delta = match Media::parse(&answer.text()) {
            Ok(media) => media,
            Err(problem) => return Some(problem),
        };
        let wants_delta = matches!(expected, Expected::Delta);
        if delta.skipped.is_some() != wants_delta {
            return Some(format!("EXT-X-SKIP {:?}", delta.skipped));
        }
        let media = match expand(&delta, &self.media) {
            Ok(media) => media,
            Err(problem) => return Some(problem),
        };
        let (now, then) = (media.position(), (self.open, self.parts));
        let good = match expected {
            Expected::Until(msn, parts) => now >= (msn, parts),
            _ => now == then,
        };
        (!good).then(|| format!("it goes to {now:?}, expected {expected:?}"))
    }
}

fn get(addr: SocketAddr, path: &str, query: &str) -> std::io::Result<Response> {
    let mark = if path.contains('?') { '&' } else { '?' };
    let url = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}{mark}{query}")
    };
    request(addr, "GET", &url, &[])
}

fn status(answer: std::io::Result<Response>) -> std::io::Result<u16> {
    answer.map(|answer| answer.status)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{sample::Sample, studio::start},
        *,
    };
    use crate::support::origin::{Answer, Origin, Request};

    const VIDEO: &str = "/live/demo/video/index.m3u8";

    #[test]
    fn e2e_a_good_server_keeps_to_the_table() {
        let origin = start(|_, answer| answer);
        assert_eq!(reload_table(origin.addr(), VIDEO), Vec::<String>::new());
    }

    /// Which rows are broken once `change` has its way.
    fn broken(change: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Vec<String> {
        let origin = start(change);
        let problems = reload_table(origin.addr(), VIDEO);
        let what = |problem: String| {
            let (_, what) = problem.split_once(": ").expect("a row");
            what.split([' ', ':']).take(3).collect::<Vec<_>>().join(" ")
        };
        problems.into_iter().map(what).collect()
    }

    #[test]
    fn e2e_servers_that_break_the_table_are_found() {
        let old = broken(
            |request, answer| match request.target.contains("_HLS_msn=0") {
                true => Answer::new(400, ""),
                false => answer,
            },
        );
        assert_eq!(old, ["a segment that", "a part of"]);
        let cached = broken(|_, answer| match answer.status {
            400 => Answer::new(400, ""),
            _ => answer,
        });
        assert_eq!(cached.len(), 11, "{cached:?}");
        let lost = broken(|request, answer| match request.target.contains("nobody") {
            true => Answer::new(503, ""),
            false => answer,
        });
        assert_eq!(lost, ["a stream that"]);
        let full = broken(
            |request, answer| match request.target.contains("skip=YES") {
                true => Answer::new(200, Sample::default().text()),
                false => answer,
            },
        );
        assert_eq!(full, ["a delta (?_HLS_skip=YES,"]);
    }

    #[test]
    fn e2e_a_server_that_never_blocks_is_found() {
        let origin = start(|_, answer| answer);
        let behind = origin.addr();
        let deaf = Origin::start(move |request| {
            let path = request.target.split('?').next().unwrap_or_default();
            let inner = crate::support::http::try_get(behind, path).expect("it answers");
            Answer::new(inner.status, inner.body)
        });
        let problems = reload_table(deaf.addr(), VIDEO);
        for row in [
            "the open segment",
            "the next part",
            "the segment after",
            "no number",
            "a delta",
        ] {
            let found = problems
                .iter()
                .any(|problem| problem.starts_with(&format!("2.2: {row}")));
            assert!(found, "{row}: {problems:#?}");
        }
    }

    #[test]
    fn e2e_directives_are_ignored_after_the_end() {
        let ended = |request: &Request| {
            let sample = Sample {
                ended: true,
                open: (108, 0),
                ..Sample::default()
            };
            let part = request.target.contains("_HLS_part=1");
            Answer::new(if part { 400 } else { 200 }, sample.text())
        };
        let origin = Origin::start(ended);
        let problems = ended_table(origin.addr(), VIDEO);
        assert_eq!(
            problems,
            ["2.2: _HLS_part=1 of a stream that has ended: Ok(400)"]
        );
        let live = start(|_, answer| answer);
        assert_eq!(ended_table(live.addr(), VIDEO).len(), 5);
    }
}
