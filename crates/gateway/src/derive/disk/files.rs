//! Which objects of which streams are on the disk.
//!
//! Owns: the list that the thread which writes keeps and everybody else reads. No lock is held while the disk works.
//! Does not own: writing and removing ([`super::writer`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use weir_media::StreamName;
use weir_package::name::ObjectName;

/// Where an object of a run is: the folder of its rendition, if it has one, and what it is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) rendition: Option<&'static str>,
    pub(super) object: Object,
}

/// An object of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    /// By its discontinuity sequence number.
    Init(u64),
    /// By its media sequence number.
    Segment(u64),
    /// By its media sequence number.
    TsSegment(u64),
}

impl Place {
    pub(super) fn init(rendition: &'static str, discontinuity: u64) -> Self {
        Self {
            rendition: Some(rendition),
            object: Object::Init(discontinuity),
        }
    }

    pub(super) fn segment(rendition: &'static str, msn: u64) -> Self {
        Self {
            rendition: Some(rendition),
            object: Object::Segment(msn),
        }
    }

    pub(super) fn ts_segment(msn: u64) -> Self {
        Self {
            rendition: None,
            object: Object::TsSegment(msn),
        }
    }

    /// The name of the file.
    pub(super) fn file(self, run: &str) -> String {
        let name = match self.object {
            Object::Init(discontinuity) => ObjectName::Init { run, discontinuity },
            Object::Segment(msn) => ObjectName::Segment { run, msn },
            Object::TsSegment(msn) => ObjectName::TsSegment { run, msn },
        };
        name.to_string()
    }
}

/// The objects of all streams, by run.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<HashMap<StreamName, BTreeMap<String, Shelf>>>);

/// The objects of one run.
#[derive(Debug, Default)]
struct Shelf {
    places: BTreeSet<Place>,
    /// Segments before this one were given up, and are not written again.
    from_msn: u64,
}

impl Files {
    /// Whether an object is on the disk.
    pub(super) fn holds(&self, stream: &StreamName, run: &str, place: Place) -> bool {
        let streams = self.0.lock();
        let shelf = streams.get(stream).and_then(|runs| runs.get(run));
        shelf.is_some_and(|shelf| shelf.places.contains(&place))
    }

    /// Whether an object is to be written: it is not there yet, and was not given up.
    pub(super) fn wants(&self, stream: &StreamName, run: &str, place: Place) -> bool {
        let streams = self.0.lock();
        let shelf = streams.get(stream).and_then(|runs| runs.get(run));
        shelf.is_none_or(|shelf| {
            let given_up = matches!(place.object, Object::Segment(msn) if msn < shelf.from_msn);
            !given_up && !shelf.places.contains(&place)
        })
    }

    /// Notes that an object is on the disk.
    pub(super) fn add(&self, stream: &StreamName, run: &str, place: Place) {
        let mut streams = self.0.lock();
        let runs = streams.entry(stream.clone()).or_default();
        let shelf = runs.entry(run.to_owned()).or_default();
        shelf.places.insert(place);
    }

    /// Notes that an object is no longer on the disk.
    pub(super) fn remove(&self, stream: &StreamName, run: &str, place: Place) {
        let mut streams = self.0.lock();
        let shelf = streams.get_mut(stream).and_then(|runs| runs.get_mut(run));
        if let Some(shelf) = shelf {
            shelf.places.remove(&place);
        }
    }

    /// Forgets the runs of a stream of which nothing is left, but this one.
    pub(super) fn forget_other_runs(&self, stream: &StreamName, run: &str) {
        if let Some(runs) = self.0.lock().get_mut(stream) {
            runs.retain(|known, shelf| known == run || !shelf.places.is_empty());
        }
    }

    /// Notes that nothing of a stream is on the disk any more.
    pub(super) fn forget(&self, stream: &StreamName) {
        self.0.lock().remove(stream);
    }

    /// Gives up the oldest segment of a run, in every rendition, if it comes before `live_msn`: the files that are to go.
    pub(super) fn give_up_oldest(
        &self,
        stream: &StreamName,
        run: &str,
        live_msn: u64,
    ) -> Vec<Place> {
        let mut streams = self.0.lock();
        let shelf = streams.get_mut(stream).and_then(|runs| runs.get_mut(run));
        let Some(shelf) = shelf else {
            return Vec::new();
        };
        let numbered = |place: &Place| match place.object {
            Object::Segment(msn) if msn < live_msn => Some(msn),
            _ => None,
        };
        let Some(oldest) = shelf.places.iter().filter_map(numbered).min() else {
            return Vec::new();
        };
        shelf.from_msn = oldest + 1;
        let is_oldest = |place: &&Place| place.object == Object::Segment(oldest);
        shelf.places.iter().filter(is_oldest).copied().collect()
    }

    /// The files of a stream that are not `current`: runs and places.
    pub(super) fn old(
        &self,
        stream: &StreamName,
        is_current: impl Fn(&str, Place) -> bool,
    ) -> Vec<(String, Place)> {
        let streams = self.0.lock();
        let runs = streams.get(stream).into_iter().flatten();
        let places = runs.flat_map(|(run, shelf)| shelf.places.iter().map(move |&at| (run, at)));
        let old = places.filter(|(run, place)| !is_current(run, *place));
        old.map(|(run, place)| (run.clone(), place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_segment_is_given_up_in_every_rendition_and_for_good() {
        let (files, room) = (Files::default(), StreamName::parse("room").expect("valid"));
        for msn in 5..9 {
            files.add(&room, "1", Place::segment("video", msn));
            files.add(&room, "1", Place::segment("audio", msn));
        }
        files.add(&room, "1", Place::init("video", 5));
        files.add(&room, "1", Place::ts_segment(5));
        for oldest in [5, 6] {
            let gone = files.give_up_oldest(&room, "1", 7);
            let expected = ["audio", "video"].map(|name| Place::segment(name, oldest));
            assert_eq!(gone, expected);
            for place in gone {
                assert!(files.holds(&room, "1", place));
                files.remove(&room, "1", place);
                assert!(!files.holds(&room, "1", place) && !files.wants(&room, "1", place));
            }
        }
        assert!(files.give_up_oldest(&room, "1", 7).is_empty());
        assert!(files.wants(&room, "1", Place::segment("video", 9)));
        assert!(files.wants(&room, "2", Place::segment("video", 5)));
    }

    #[test]
    fn what_is_old_is_named_by_run() {
        let (files, room) = (Files::default(), StreamName::parse("room").expect("valid"));
        let place = Place::segment("video", 5);
        files.add(&room, "1", place);
        files.add(&room, "2", place);
        let old = files.old(&room, |run, _| run == "2");
        assert_eq!(old, [("1".to_owned(), place)]);
        let runs = || files.0.lock()[&room].len();
        files.forget_other_runs(&room, "2");
        assert_eq!(runs(), 2, "it has a file still");
        files.remove(&room, "1", place);
        assert!(files.old(&room, |run, _| run == "2").is_empty());
        files.forget_other_runs(&room, "2");
        assert_eq!(runs(), 1);
        files.forget(&room);
        assert!(!files.holds(&room, "2", place));
    }
}
