//! An HLS viewer that keeps every version of a media playlist, and what versions must not do to each other.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::http;

/// Four looks for each segment of a second, the shortest there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// One version of a media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Playlist {
    pub(crate) target_s: u64,
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) ended: bool,
}

/// One segment with all that is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) uri: String,
    /// The init object in force.
    pub(crate) map: String,
    pub(crate) discontinuity: bool,
    program_date_time: String,
    duration: String,
}

/// Polls a media playlist until it is dropped; what does not answer is asked again.
pub(crate) struct Viewer {
    versions: Arc<Mutex<Vec<Playlist>>>,
    stopped: Arc<AtomicBool>,
}

impl Viewer {
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        let viewer = Self {
            versions: Arc::default(),
            stopped: Arc::default(),
        };
        let (versions, stopped) = (Arc::clone(&viewer.versions), Arc::clone(&viewer.stopped));
        let path = path.to_owned();
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(response) = http::try_get(addr, &path)
                    && response.status == 200
                {
                    let playlist = parse(&response.text());
                    let mut versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
                    if versions.last() != Some(&playlist) {
                        versions.push(playlist);
                    }
                }
                thread::park_timeout(POLL_INTERVAL);
            }
        });
        viewer
    }

    /// Every version so far, oldest first.
    pub(crate) fn versions(&self) -> Vec<Playlist> {
        self.versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Everything that a version does to the one before it and must not (CONFORMANCE H3, H5, H6, H7). Versions without a
/// segment in common may only go up.
pub(crate) fn problems(versions: &[Playlist]) -> Vec<String> {
    versions
        .windows(2)
        .filter_map(|pair| problem(&pair[0], &pair[1]))
        .collect()
}

/// The segments of which the playlist said that a discontinuity comes before them, each once.
pub(crate) fn discontinuities(versions: &[Playlist]) -> BTreeSet<String> {
    let segments = versions.iter().flat_map(|playlist| &playlist.segments);
    segments
        .filter(|segment| segment.discontinuity)
        .map(|segment| segment.uri.clone())
        .collect()
}

/// The names of every object that was listed.
pub(crate) fn objects(versions: &[Playlist]) -> BTreeSet<String> {
    let segments = versions.iter().flat_map(|playlist| &playlist.segments);
    segments
        .flat_map(|segment| [segment.uri.clone(), segment.map.clone()])
        .collect()
}

fn problem(before: &Playlist, after: &Playlist) -> Option<String> {
    let (first, second) = (before.media_sequence, after.media_sequence);
    let Some(removed) = second.checked_sub(first) else {
        return Some(format!("media sequence goes back from {first} to {second}"));
    };
    let removed = usize::try_from(removed).unwrap_or(usize::MAX);
    if removed >= before.segments.len() {
        let (first, second) = (before.discontinuity_sequence, after.discontinuity_sequence);
        return (second <= first).then(|| {
            format!("discontinuity sequence goes from {first} to {second} with a new run")
        });
    }
    let (gone, kept) = before.segments.split_at(removed);
    let passed = gone.iter().filter(|segment| segment.discontinuity).count() as u64;
    if after.discontinuity_sequence != before.discontinuity_sequence + passed {
        return Some(format!(
            "discontinuity sequence goes from {} to {} while {passed} discontinuities leave",
            before.discontinuity_sequence, after.discontinuity_sequence
        ));
    }
    if before.target_s != after.target_s {
        return Some(format!(
            "target duration goes from {} to {}",
            before.target_s, after.target_s
        ));
    }
    (!after.segments.starts_with(kept)).then(|| format!("{kept:?} became {:?}", after.segments))
}

pub(crate) fn parse(text: &str) -> Playlist {
    let number = |tag: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(tag));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{tag} in:\n{text}"))
    };
    let mut playlist = Playlist {
        target_s: number("#EXT-X-TARGETDURATION:"),
        media_sequence: number("#EXT-X-MEDIA-SEQUENCE:"),
        discontinuity_sequence: number("#EXT-X-DISCONTINUITY-SEQUENCE:"),
        segments: Vec::new(),
        ended: text.contains("#EXT-X-ENDLIST"),
    };
    let mut next = Segment {
        uri: String::new(),
        map: String::new(),
        discontinuity: false,
        program_date_time: String::new(),
        duration: String::new(),
    };
    for line in text.lines() {
        if let Some(uri) = line.strip_prefix("#EXT-X-MAP:URI=") {
            next.map = uri.trim_matches('"').to_owned();
        } else if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            next.program_date_time = date.to_owned();
        } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
            next.duration = duration.to_owned();
        } else if line == "#EXT-X-DISCONTINUITY" {
            next.discontinuity = true;
        } else if !line.starts_with('#') && !line.is_empty() {
            next.uri = line.to_owned();
            playlist.segments.push(next.clone());
            next.discontinuity = false;
        }
    }
    playlist
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments 5 to 8; a discontinuity before 6.
    fn playlist() -> Playlist {
        let mut text = String::from(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:5\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXT-X-MAP:URI=\"init.mp4\"\n",
        );
        for segment in 5..9 {
            if segment == 6 {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            text.push_str(&format!(
                "#EXT-X-PROGRAM-DATE-TIME:{segment}\n#EXTINF:2.0,\n{segment}.m4s\n"
            ));
        }
        parse(&text)
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Playlist), expected: Option<&str>) {
        let before = playlist();
        let mut after = before.clone();
        change(&mut after);
        let problem = problem(&before, &after);
        assert_eq!(problem.is_some(), expected.is_some(), "{problem:?}");
        assert!(
            problem
                .unwrap_or_default()
                .starts_with(expected.unwrap_or_default())
        );
    }

    fn remove(playlist: &mut Playlist, segments: usize) {
        playlist.segments.drain(..segments);
        playlist.media_sequence += segments as u64;
    }

    #[test]
    fn what_versions_may_and_may_not_do() {
        assert_eq!(
            discontinuities(&[playlist(), playlist()]),
            BTreeSet::from(["6.m4s".to_owned()])
        );
        check(|_| (), None);
        check(|after| after.ended = true, None);
        check(|after| remove(after, 1), None);
        check(|after| remove(after, 2), Some("discontinuity sequence"));
        check(
            |after| {
                remove(after, 2);
                after.discontinuity_sequence += 1;
            },
            None,
        );
        check(|after| after.media_sequence -= 1, Some("media sequence"));
        check(|after| after.target_s = 3, Some("target duration"));
        check(|after| after.segments[1].discontinuity = false, Some("["));
        check(|after| _ = after.segments.pop(), Some("["));
        check(
            |after| after.media_sequence += 100,
            Some("discontinuity sequence"),
        );
    }
}
