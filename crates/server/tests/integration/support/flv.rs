//! An HTTP-FLV viewer that looks at every tag.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::http;

/// FLV: kinds of tags (E.4.1).
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// One tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    pub(crate) timestamp_ms: u32,
    /// A hash of its body.
    pub(crate) hash: u64,
}

/// What a tag carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    KeyFrame,
    InterFrame,
    Sound,
    /// What decoders need before frames: sequence headers.
    Config,
    Script,
}

/// A viewer that reads as fast as tags come.
pub(crate) struct Viewer {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    tags: Vec<Tag>,
    /// How the answer ended.
    end: Option<String>,
}

impl Viewer {
    /// Opens `path`.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        let streaming = http::open(addr, "GET", path, &[]).expect("weir answers");
        assert_eq!(streaming.status, 200, "{path}");
        let seen = Arc::<Mutex<Seen>>::default();
        let writing = Arc::clone(&seen);
        thread::spawn(move || {
            let end = read(streaming.body, &writing);
            writing.lock().unwrap_or_else(PoisonError::into_inner).end = Some(match end {
                Ok(()) => "closed".to_owned(),
                Err(error) => error.to_string(),
            });
        });
        Self { seen }
    }

    /// Every tag so far.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tags
            .clone()
    }

    /// How the answer ended, if it has.
    pub(crate) fn end(&self) -> Option<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .end
            .clone()
    }
}

fn read(mut body: impl Read, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut header = [0; 13];
    body.read_exact(&mut header)?;
    assert_eq!(&header[..3], b"FLV");
    loop {
        let mut head = [0; 11];
        match body.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let [kind, l0, l1, l2, t0, t1, t2, t3, stream @ ..] = head;
        assert_eq!(stream, [0; 3], "the stream id of a tag");
        let len = u32::from_be_bytes([0, l0, l1, l2]);
        let mut data = vec![0; len as usize + 4];
        body.read_exact(&mut data)?;
        let (data, previous_size) = data.split_at(len as usize);
        assert_eq!(
            previous_size,
            (len + 11).to_be_bytes(),
            "the size after a tag"
        );
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let tag = Tag {
            kind: kind_of(kind, data),
            timestamp_ms: u32::from_be_bytes([t3, t0, t1, t2]),
            hash: hasher.finish(),
        };
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tags
            .push(tag);
    }
}

fn kind_of(kind: u8, data: &[u8]) -> Kind {
    match (kind, data.first(), data.get(1)) {
        (AUDIO | VIDEO, Some(_), Some(0)) => Kind::Config,
        (VIDEO, Some(0x17), _) => Kind::KeyFrame,
        (VIDEO, ..) => Kind::InterFrame,
        (AUDIO, ..) => Kind::Sound,
        _ => Kind::Script,
    }
}
