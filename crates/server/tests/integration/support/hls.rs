//! An HLS viewer that keeps every version of a media playlist.

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
use crate::hls_watch::{Media, succession};

/// Four looks for each segment of a second, the shortest there is.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Polls a media playlist until it is dropped; what does not answer is asked again.
pub(crate) struct Viewer {
    versions: Arc<Mutex<Vec<Media>>>,
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
                    let playlist = media(&response.text());
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
    pub(crate) fn versions(&self) -> Vec<Media> {
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

/// Everything that a version does to the one before it and must not.
pub(crate) fn problems(versions: &[Media]) -> Vec<String> {
    versions
        .windows(2)
        .flat_map(|pair| succession::problems(&pair[0], &pair[1]))
        .collect()
}

/// The segments of which the playlist said that a discontinuity comes before them, each once.
pub(crate) fn discontinuities(versions: &[Media]) -> BTreeSet<String> {
    let segments = versions.iter().flat_map(|playlist| &playlist.segments);
    segments
        .filter(|segment| segment.discontinuity)
        .map(|segment| segment.uri.clone())
        .collect()
}

/// The names of every object that was listed.
pub(crate) fn objects(versions: &[Media]) -> BTreeSet<String> {
    let segments = versions.iter().flat_map(|playlist| &playlist.segments);
    segments
        .flat_map(|segment| std::iter::once(segment.uri.clone()).chain(segment.map.clone()))
        .collect()
}

fn media(text: &str) -> Media {
    Media::parse(text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}
