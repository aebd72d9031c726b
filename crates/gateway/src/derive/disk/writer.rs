//! Which files a stream has, and bringing the disk to that state.
//!
//! Owns: the layout below `{path}/{name}/`, which is that of the URLs; the order of writing (objects, what lists them,
//! then removing what nobody lists); which folders are ours. Does not own: system calls ([`super::folder`]).

use std::{
    io, iter,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use weir_media::StreamName;
use weir_package::{
    hls::{self, Form},
    keep::Content,
    name::ObjectName,
    window::{Rendition, Segment, Snapshot},
};

use super::{
    Counts, State,
    files::{Files, Object, Place},
    folder::{Folder, UNFINISHED},
};
use crate::{
    derive::{
        Pieces,
        hls::{INDEX, Published, TS_INDEX, TS_VARIANT},
    },
    net::throttle::Throttle,
};

/// Marks a stream's folder as ours: only in such folders is anything overwritten or removed.
const MARKER: &str = ".weir";
/// The folders that renditions are in.
const RENDITIONS: [&str; 2] = ["video", "audio"];

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Writer {
    root: Arc<Folder>,
    files: Arc<Files>,
    counts: Arc<Counts>,
    failures: Throttle,
}

impl Writer {
    pub(super) fn new(root: Arc<Folder>, files: Arc<Files>, counts: Arc<Counts>) -> Self {
        Self {
            root,
            files,
            counts,
            failures: Throttle::default(),
        }
    }

    /// Removes the files of streams that an earlier process has left.
    pub(super) fn remove_leftovers(&mut self) {
        let entries = self.root.entries().unwrap_or_default();
        let folders = entries.into_iter().filter(|(_, is_folder)| *is_folder);
        for name in folders.filter_map(|(name, _)| StreamName::parse(&name).ok()) {
            let removed = self.remove_stream(&name);
            self.note(&name, removed);
        }
    }

    /// Brings the files of a stream to a state, as far as the disk allows.
    pub(super) fn apply(&mut self, name: &StreamName, state: &State) {
        let done = match state {
            State::Published(published) => self.write_stream(name, published),
            State::Gone => {
                self.files.forget(name);
                self.remove_stream(name)
            }
        };
        self.note(name, done);
    }

    fn note(&mut self, name: &StreamName, done: io::Result<()>) {
        if let Err(error) = done {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            if let Some(times) = self.failures.count(Instant::now()) {
                tracing::warn!(stream = %name, %error, times, "HLS is not on the disk as it should be");
            }
        }
    }

    fn write_stream(&self, name: &StreamName, published: &Published) -> io::Result<()> {
        let is_new = self.root.make(name.as_str())?;
        let folder = self.root.open(name.as_str())?;
        if is_new || folder.entries()?.is_empty() {
            folder.write(MARKER, iter::empty())?;
            self.files.forget(name);
        } else if !is_ours(&folder)? {
            let what = "the folder is there already and holds something else";
            return Err(io::Error::other(what));
        }
        let output = Output {
            name,
            folder,
            snapshot: &published.snapshot,
            files: &self.files,
            counts: &self.counts,
        };
        let complete = output
            .write_objects()
            .and_then(|()| output.write_playlists());
        // On a full disk too, and there above all. A playlist that could not be written lists what is long gone.
        output.remove_old()?;
        complete
    }

    /// Removes everything of ours in a stream's folder, and the folder if nothing else is in it.
    fn remove_stream(&self, name: &StreamName) -> io::Result<()> {
        let folder = match self.root.open(name.as_str()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if !is_ours(&folder)? {
            return Ok(());
        }
        for (entry, is_folder) in folder.entries()? {
            if is_folder && RENDITIONS.contains(&entry.as_str()) {
                let rendition = folder.open(&entry)?;
                for (file, _) in rendition
                    .entries()?
                    .iter()
                    .filter(|(file, _)| is_file(file))
                {
                    rendition.remove(file)?;
                }
                folder.remove_folder(&entry)?;
            } else if !is_folder && is_file(&entry) {
                folder.remove(&entry)?;
            }
        }
        // Last, so that what stays of a removal that was cut short is still ours, as is a folder that others use too.
        if folder.entries()?.len() > 1 {
            return Ok(());
        }
        folder.remove(MARKER)?;
        self.root.remove_folder(name.as_str())
    }
}

fn is_ours(folder: &Folder) -> io::Result<bool> {
    let entries = folder.entries()?;
    Ok(entries
        .iter()
        .any(|(name, is_folder)| name == MARKER && !is_folder))
}

/// Whether we give files such a name.
fn is_file(name: &str) -> bool {
    let Some(
        ObjectName::Segment { run, .. }
        | ObjectName::TsSegment { run, .. }
        | ObjectName::Init { run, .. },
    ) = ObjectName::parse(name)
    else {
        return [INDEX, TS_INDEX, TS_VARIANT, UNFINISHED].contains(&name);
    };
    // A run is printed in hexadecimal.
    !run.is_empty()
        && run
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a stream's folder is to hold.
struct Output<'a> {
    name: &'a StreamName,
    folder: Folder,
    snapshot: &'a Snapshot,
    files: &'a Files,
    counts: &'a Counts,
}

impl Output<'_> {
    /// Writes what is served and not there yet: the oldest first, because memory loses it first.
    fn write_objects(&self) -> io::Result<()> {
        for rendition in &self.snapshot.renditions {
            for segment in rendition.served() {
                let place = Place::segment(rendition.name(), segment.msn);
                if segment.parts.is_empty() || !self.wants(place) {
                    continue;
                }
                if let Some(init) = &segment.init {
                    let place = Place::init(rendition.name(), init.discontinuity);
                    if self.wants(place) {
                        self.write_object(place, in_memory(init.bytes.clone()))?;
                    }
                }
                self.write_object(place, pieces_of(segment))?;
            }
        }
        let ts = self.snapshot.ts.iter().flat_map(Rendition::served);
        for segment in ts.filter(|segment| !segment.is_gap()) {
            let place = Place::ts_segment(segment.msn);
            if self.wants(place) {
                self.write_object(place, pieces_of(segment))?;
            }
        }
        Ok(())
    }

    fn wants(&self, place: Place) -> bool {
        self.files.wants(self.name, &self.snapshot.run, place)
    }

    fn write_object(&self, place: Place, pieces: Pieces) -> io::Result<()> {
        self.make_room(pieces.len())?;
        let run = &self.snapshot.run;
        self.write_file(place.rendition, &place.file(run), pieces)?;
        self.files.add(self.name, run, place);
        Ok(())
    }

    /// Where the disk is full, gives up the oldest segments that no live playlist lists: the rewind window gets shorter.
    fn make_room(&self, len: u64) -> io::Result<()> {
        let renditions = self.snapshot.renditions.iter();
        let live = renditions.filter_map(|rendition| rendition.listed().next());
        let live_msn = live.map(|segment| segment.msn).min().unwrap_or(0);
        let run = &self.snapshot.run;
        while !self.folder.has_room(len)? {
            let oldest = self.files.give_up_oldest(self.name, run, live_msn);
            if oldest.is_empty() {
                let what = "the disk is almost full; writing goes on when there is room";
                return Err(io::Error::new(io::ErrorKind::StorageFull, what));
            }
            for place in oldest {
                self.remove_object(run, place)?;
            }
        }
        Ok(())
    }

    /// Writes what lists the live objects, which are there by now: media playlists before those that name them. Files
    /// cannot be waited for, so they tell whole segments only.
    fn write_playlists(&self) -> io::Result<()> {
        let snapshot = self.snapshot;
        for rendition in &snapshot.renditions {
            let text = hls::media(snapshot, rendition, Form::Classic);
            self.write_file(Some(rendition.name()), INDEX, in_memory(text))?;
        }
        let text = hls::multivariant(snapshot, "");
        self.write_file(None, INDEX, in_memory(text))?;
        let multivariant = hls::ts_multivariant(snapshot, TS_VARIANT, "");
        if let (Some(ts), Some(multivariant)) = (&snapshot.ts, multivariant) {
            let media = hls::media(snapshot, ts, Form::Classic);
            self.write_file(None, TS_VARIANT, in_memory(media))?;
            self.write_file(None, TS_INDEX, in_memory(multivariant))?;
        }
        Ok(())
    }

    fn write_file(
        &self,
        rendition: Option<&'static str>,
        file: &str,
        pieces: Pieces,
    ) -> io::Result<()> {
        let len = pieces.len();
        match rendition {
            Some(rendition) => {
                self.folder.make(rendition)?;
                self.folder.open(rendition)?.write(file, pieces)?;
            }
            None => self.folder.write(file, pieces)?,
        }
        self.counts.written_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is no longer served.
    fn remove_old(&self) -> io::Result<()> {
        let is_current =
            |run: &str, place| run == self.snapshot.run && is_served(self.snapshot, place);
        for (run, place) in self.files.old(self.name, is_current) {
            self.remove_object(&run, place)?;
        }
        self.files.forget_other_runs(self.name, &self.snapshot.run);
        if self.snapshot.ts.is_none() {
            self.folder.remove(TS_INDEX)?;
            self.folder.remove(TS_VARIANT)?;
        }
        Ok(())
    }

    fn remove_object(&self, run: &str, place: Place) -> io::Result<()> {
        let file = place.file(run);
        match place.rendition {
            Some(rendition) => self.folder.open(rendition)?.remove(&file)?,
            None => self.folder.remove(&file)?,
        }
        self.files.remove(self.name, run, place);
        Ok(())
    }
}

fn is_served(snapshot: &Snapshot, place: Place) -> bool {
    let rendition = match place.rendition {
        Some(rendition) => snapshot.rendition(rendition),
        None => snapshot.ts.as_ref(),
    };
    rendition.is_some_and(|rendition| match place.object {
        Object::Init(discontinuity) => rendition.init(discontinuity).is_some(),
        Object::Segment(msn) | Object::TsSegment(msn) => rendition.segment(msn).is_some(),
    })
}

fn pieces_of(segment: &Segment) -> Pieces {
    let mut pieces = Pieces::new(None);
    for part in &segment.parts {
        pieces.push(&part.content);
    }
    pieces
}

fn in_memory(bytes: impl Into<Bytes>) -> Pieces {
    let mut pieces = Pieces::new(None);
    pieces.push(&Content::Memory(bytes.into()));
    pieces
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{super::folder::TestDir, *};
    use crate::derive::hls::{Packaging, Rewind};

    /// A writer into a new folder, which is removed with it.
    struct Case {
        dir: TestDir,
        writer: Writer,
    }

    impl Case {
        fn new() -> Self {
            let dir = TestDir::new();
            let root = Folder::root(&dir.0).expect("a new folder");
            let writer = Writer::new(Arc::new(root), Arc::default(), Arc::default());
            Self { dir, writer }
        }

        /// Brings the stream `room` to its playlists without a segment, or to nothing; whether that went well.
        fn apply(&mut self, state: &State) -> bool {
            let room = StreamName::parse("room").expect("valid");
            let failed = self.writer.counts.failed();
            self.writer.apply(&room, state);
            self.writer.counts.failed() == failed
        }

        fn write(&self, path: &str) {
            fs::write(self.dir.0.join(path), "keep").expect("the disk takes it");
        }

        fn has(&self, path: &str) -> bool {
            self.dir.0.join(path).exists()
        }
    }

    fn published() -> State {
        let snapshot = Snapshot {
            run: "1".to_owned(),
            target_s: 1,
            part_target_us: 1,
            renditions: Vec::new(),
            ts: None,
            ended: false,
            config: Packaging {
                segment_ms: 1_000,
                part_ms: 333,
                playlist_segments: 6,
                rewind: Rewind::default(),
            },
        };
        State::Published(Published::new(Arc::new(snapshot), false))
    }

    #[test]
    fn a_stream_that_is_gone_leaves_nothing() {
        let mut case = Case::new();
        assert!(case.apply(&published()) && case.has("room/index.m3u8"));
        assert!(case.apply(&State::Gone) && !case.has("room"));
        assert!(case.apply(&State::Gone), "nothing to remove is no failure");
        assert!(case.apply(&published()) && case.has("room/index.m3u8"));
        case.write("room/notes.txt");
        assert!(case.apply(&State::Gone) && !case.has("room/index.m3u8"));
        assert!(case.has("room/notes.txt"));
        assert!(case.apply(&published()) && case.has("room/index.m3u8"));
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let mut case = Case::new();
        fs::create_dir(case.dir.0.join("room")).expect("the disk takes it");
        case.write("room/index.m3u8");
        for state in [published(), State::Gone] {
            case.apply(&state);
            let text = fs::read_to_string(case.dir.0.join("room/index.m3u8"));
            assert_eq!(text.expect("it is there"), "keep", "{state:?}");
        }
        case.writer.remove_leftovers();
        assert!(case.has("room/index.m3u8"));
    }

    #[test]
    fn links_are_not_followed() {
        let mut case = Case::new();
        let outside = Case::new();
        outside.write("secret");
        symlink(&outside.dir.0, case.dir.0.join("room")).expect("the disk takes it");
        assert!(!case.apply(&published()) && !outside.has("index.m3u8"));
        fs::remove_file(case.dir.0.join("room")).expect("it is a link");
        assert!(case.apply(&published()));
        let secret = outside.dir.0.join("secret");
        for link in ["room/index.m3u8", "room/.unfinished"] {
            let _ = fs::remove_file(case.dir.0.join(link));
            symlink(&secret, case.dir.0.join(link)).expect("the disk takes it");
        }
        assert!(case.apply(&published()));
        assert_eq!(fs::read_to_string(secret).expect("it is there"), "keep");
    }

    #[test]
    fn one_server_a_folder() {
        let case = Case::new();
        let second = Folder::root(&case.dir.0);
        assert!(second.is_err_and(|error| error.to_string() == "another server writes there"));
    }

    #[test]
    fn names_of_ours() {
        for (name, expected) in [
            ("19a0c3f-5.m4s", true),
            ("19a0c3f-5.ts", true),
            ("init-19a0c3f-5.mp4", true),
            ("index.m3u8", true),
            ("playlist.m3u8", true),
            ("ts.m3u8", true),
            (".unfinished", true),
            ("x-5.ts", false),
            ("-5.ts", false),
            ("1763-05.ts", false),
            ("holiday.mp4", false),
            ("index.html", false),
            (".weir", false),
        ] {
            assert_eq!(is_file(name), expected, "{name}");
        }
    }
}
