//! What viewers were granted a moment ago.
//!
//! Owns: how long a decision that a stream may be played holds for everybody. Does not own: the decision
//! ([`weir_hub::Requests`]).
//!
//! A player reloads its playlists several times a second, and a crowd does so at once. What is decided about is a protocol
//! and a name, and nothing that one viewer has and another one has not, so one answer serves all of them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use weir_media::StreamName;

/// How long a grant holds: less than anybody notices who takes it back.
const KEPT: Duration = Duration::from_secs(1);
/// Grants that are kept at most; streams beyond are asked about each time. More than a server runs.
const KEPT_MAX: usize = 4_096;

/// The grants that hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants(Arc<Mutex<HashMap<Asked, Granted>>>);

/// The protocol and the name that was asked for.
type Asked = (&'static str, StreamName);

#[derive(Debug)]
struct Granted {
    /// The public name of the stream.
    name: StreamName,
    until: Instant,
}

impl Grants {
    /// The public name of the stream that may be played, if that was granted a moment ago.
    pub(super) fn get(&self, asked: &Asked, now: Instant) -> Option<StreamName> {
        let grants = self.0.lock();
        let granted = grants.get(asked).filter(|granted| now < granted.until);
        granted.map(|granted| granted.name.clone())
    }

    /// Notes that the stream of that public name may be played.
    pub(super) fn keep(&self, asked: Asked, name: StreamName, now: Instant) {
        let mut grants = self.0.lock();
        if grants.len() >= KEPT_MAX {
            grants.retain(|_, granted| now < granted.until);
        }
        if grants.len() < KEPT_MAX {
            let until = now + KEPT;
            grants.insert(asked, Granted { name, until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }

    #[test]
    fn a_grant_holds_for_a_moment_and_for_what_was_asked() {
        let (grants, now) = (Grants::default(), Instant::now());
        let asked = ("hls", name("alias"));
        assert_eq!(grants.get(&asked, now), None);
        grants.keep(asked.clone(), name("public"), now);
        let last = now + KEPT - Duration::from_millis(1);
        assert_eq!(grants.get(&asked, last), Some(name("public")));
        assert_eq!(grants.get(&("dash", name("alias")), now), None);
        assert_eq!(grants.get(&("hls", name("public")), now), None);
        assert_eq!(grants.get(&asked, now + KEPT), None, "it is asked again");
    }

    #[test]
    fn grants_are_bounded() {
        let (grants, now) = (Grants::default(), Instant::now());
        let asked = |number: usize| ("hls", name(&format!("s{number}")));
        for number in 0..=KEPT_MAX {
            grants.keep(asked(number), name("public"), now);
        }
        assert_eq!(grants.0.lock().len(), KEPT_MAX);
        assert_eq!(grants.get(&asked(KEPT_MAX), now), None);
        grants.keep(asked(KEPT_MAX), name("public"), now + KEPT);
        assert_eq!(grants.0.lock().len(), 1, "what is over goes");
    }
}
