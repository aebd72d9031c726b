//! Which files a stream has, and bringing the disk to that state.
//!
//! Owns: the layout below `{path}/{name}/`, which is that of the URLs; the order of writing (objects, what lists them,
//! then removing what nobody lists); which folders are ours. Does not own: system calls ([`super::folder`]).

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use weir_media::StreamName;
use weir_package::{
    hls::{self, Form},
    name::{self, ObjectName},
    window::{Rendition, Snapshot},
};

use super::{
    Counts, State,
    folder::{Folder, UNFINISHED},
};
use crate::{
    derive::hls::{INDEX, Published, TS_INDEX, TS_VARIANT},
    net::throttle::Throttle,
};

/// Marks a stream's folder as ours: only in such folders is anything overwritten or removed.
const MARKER: &str = ".weir";
/// The folders that renditions are in.
const RENDITIONS: [&str; 2] = ["video", "audio"];

/// A file of a stream: the rendition's folder it is in, if any, and its name.
type Place = (Option<&'static str>, String);

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Writer {
    root: Folder,
    /// The objects that are on the disk, by stream.
    written: HashMap<StreamName, HashSet<Place>>,
    counts: Arc<Counts>,
    failures: Throttle,
}

impl Writer {
    pub(super) fn open(path: &Path, counts: Arc<Counts>) -> io::Result<Self> {
        Ok(Self {
            root: Folder::root(path)?,
            written: HashMap::new(),
            counts,
            failures: Throttle::default(),
        })
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
                self.written.remove(name);
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

    fn write_stream(&mut self, name: &StreamName, published: &Published) -> io::Result<()> {
        let is_new = self.root.make(name.as_str())?;
        let folder = self.root.open(name.as_str())?;
        if is_new || folder.entries()?.is_empty() {
            folder.write(MARKER, &[])?;
            self.written.remove(name);
        } else if !is_ours(&folder)? {
            let what = "the folder is there already and holds something else";
            return Err(io::Error::other(what));
        }
        let written = self.written.entry(name.clone()).or_default();
        let objects = objects(&published.snapshot);
        let complete = write_new(&folder, &objects, written, &self.counts)
            .and_then(|()| write_playlists(&folder, &published.snapshot, &self.counts));
        // On a full disk too, and there above all. A playlist that could not be written lists what is long gone.
        let current: HashSet<&Place> = objects.iter().map(|(place, _)| place).collect();
        let old: Vec<Place> = written
            .iter()
            .filter(|place| !current.contains(place))
            .cloned()
            .collect();
        for place in old {
            remove_file(&folder, &place)?;
            written.remove(&place);
        }
        if published.snapshot.ts.is_none() {
            folder.remove(TS_INDEX)?;
            folder.remove(TS_VARIANT)?;
        }
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

/// Every object of a run that is served now.
fn objects(snapshot: &Snapshot) -> Vec<(Place, Vec<Bytes>)> {
    let run = &snapshot.run;
    let mut found = Vec::new();
    for rendition in &snapshot.renditions {
        let folder = Some(rendition.name());
        let mut init = None;
        for segment in rendition
            .segments
            .iter()
            .filter(|segment| !segment.is_gap())
        {
            if let Some(needed) = segment.init.as_ref().filter(|needed| init != Some(*needed)) {
                let place = (folder, name::init_name(run, needed));
                found.push((place, vec![needed.bytes.clone()]));
                init = Some(needed);
            }
            let place = (folder, name::segment_name(run, segment.msn));
            found.push((place, bytes_of(segment)));
        }
    }
    let ts = snapshot.ts.iter().flat_map(|ts: &Rendition| &ts.segments);
    for segment in ts.filter(|segment| !segment.is_gap()) {
        let place = (None, name::ts_segment_name(run, segment.msn));
        found.push((place, bytes_of(segment)));
    }
    found
}

fn bytes_of(segment: &weir_package::window::Segment) -> Vec<Bytes> {
    let parts = segment.parts.iter();
    parts.map(|part| part.bytes.clone()).collect()
}

fn write_new(
    folder: &Folder,
    objects: &[(Place, Vec<Bytes>)],
    written: &mut HashSet<Place>,
    counts: &Counts,
) -> io::Result<()> {
    for (place, parts) in objects {
        if written.contains(place) {
            continue;
        }
        if !folder.has_room()? {
            let what = "the disk is almost full; writing goes on when there is room";
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        write_file(folder, place, parts, counts)?;
        written.insert(place.clone());
    }
    Ok(())
}

/// Writes what lists the objects, which are there by now: media playlists before those that name them. Files cannot be
/// waited for, so they tell whole segments only.
fn write_playlists(folder: &Folder, snapshot: &Snapshot, counts: &Counts) -> io::Result<()> {
    let write = |place: Place, text: String| write_file(folder, &place, &[text.into()], counts);
    for rendition in &snapshot.renditions {
        let place = (Some(rendition.name()), INDEX.to_owned());
        write(place, hls::media(snapshot, rendition, Form::Classic))?;
    }
    write((None, INDEX.to_owned()), hls::multivariant(snapshot, ""))?;
    let multivariant = hls::ts_multivariant(snapshot, TS_VARIANT, "");
    if let (Some(ts), Some(multivariant)) = (&snapshot.ts, multivariant) {
        let media = hls::media(snapshot, ts, Form::Classic);
        write((None, TS_VARIANT.to_owned()), media)?;
        write((None, TS_INDEX.to_owned()), multivariant)?;
    }
    Ok(())
}

fn write_file(folder: &Folder, place: &Place, parts: &[Bytes], counts: &Counts) -> io::Result<()> {
    let (rendition, name) = place;
    match rendition {
        Some(rendition) => {
            folder.make(rendition)?;
            folder.open(rendition)?.write(name, parts)?;
        }
        None => folder.write(name, parts)?,
    }
    let len = parts.iter().map(|part| part.len() as u64).sum();
    counts.written_bytes.fetch_add(len, Ordering::Relaxed);
    Ok(())
}

fn remove_file(folder: &Folder, (rendition, name): &Place) -> io::Result<()> {
    match rendition {
        Some(rendition) => folder.open(rendition)?.remove(name),
        None => folder.remove(name),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf, sync::atomic::AtomicU32};

    use super::*;
    use crate::derive::hls::Packaging;

    /// A writer into a new folder, which is removed with it.
    struct Case {
        path: PathBuf,
        writer: Writer,
    }

    impl Case {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let unique = format!("weir-disk-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(unique);
            let writer = Writer::open(&path, Arc::default()).expect("a new folder");
            Self { path, writer }
        }

        /// Brings the stream `room` to its playlists without a segment, or to nothing; whether that went well.
        fn apply(&mut self, state: &State) -> bool {
            let room = StreamName::parse("room").expect("valid");
            let failed = self.writer.counts.failed();
            self.writer.apply(&room, state);
            self.writer.counts.failed() == failed
        }

        fn write(&self, path: &str) {
            fs::write(self.path.join(path), "keep").expect("the disk takes it");
        }

        fn has(&self, path: &str) -> bool {
            self.path.join(path).exists()
        }
    }

    impl Drop for Case {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
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
        fs::create_dir(case.path.join("room")).expect("the disk takes it");
        case.write("room/index.m3u8");
        for state in [published(), State::Gone] {
            case.apply(&state);
            let text = fs::read_to_string(case.path.join("room/index.m3u8"));
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
        symlink(&outside.path, case.path.join("room")).expect("the disk takes it");
        assert!(!case.apply(&published()) && !outside.has("index.m3u8"));
        fs::remove_file(case.path.join("room")).expect("it is a link");
        assert!(case.apply(&published()));
        let secret = outside.path.join("secret");
        for link in ["room/index.m3u8", "room/.unfinished"] {
            let _ = fs::remove_file(case.path.join(link));
            symlink(&secret, case.path.join(link)).expect("the disk takes it");
        }
        assert!(case.apply(&published()));
        assert_eq!(fs::read_to_string(secret).expect("it is there"), "keep");
    }

    #[test]
    fn one_server_a_folder() {
        let case = Case::new();
        let second = Writer::open(&case.path, Arc::default());
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
