//! What the viewers of one run share, so that ten thousand of them do not each do the same, and so that they can be
//! compared.
//!
//! Owns: documents that are taken apart once for all who get the same bytes, and a ledger of which bytes go by which
//! name. Does not own: what documents say.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

use crate::{dash::Manifest, playlist::Playlist};

/// How many documents are remembered: all that viewers of some dozen streams get within a second.
const DOCUMENTS_MAX: usize = 512;
/// How many names the ledger holds: those of several minutes, of some dozen streams.
const NAMES_MAX: usize = 1 << 16;

/// What the viewers of one run share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Playlists of HLS.
    pub(crate) playlists: Documents<Playlist>,
    /// Manifests of DASH.
    pub(crate) manifests: Documents<Manifest>,
    /// What the bytes of objects were.
    pub(crate) ledger: Ledger,
}

/// Documents, each taken apart once.
#[derive(Debug)]
pub(crate) struct Documents<T>(Mutex<Recent<Document<T>>>);

/// A document.
#[derive(Debug)]
pub(crate) struct Document<T> {
    /// What it says.
    pub(crate) content: Arc<T>,
    /// When the first viewer got it.
    pub(crate) first_at: Instant,
}

impl<T> Documents<T> {
    /// The document with these bytes; `parse` takes it apart if nobody has had it.
    pub(crate) fn read<E>(
        &self,
        bytes: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Document<T>, E> {
        let digest = Digest::of(bytes);
        let mut known = self.0.lock();
        if let Some(document) = known.get(digest) {
            return Ok(document.clone());
        }
        let document = Document {
            content: Arc::new(parse(bytes)?),
            first_at: Instant::now(),
        };
        known.put(digest, document.clone(), DOCUMENTS_MAX);
        Ok(document)
    }
}

impl<T> Default for Documents<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Clone for Document<T> {
    fn clone(&self) -> Self {
        Self {
            content: Arc::clone(&self.content),
            first_at: self.first_at,
        }
    }
}

/// Which bytes go by which name.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Recent<u64>>);

impl Ledger {
    /// Whether the object has the same bytes for everybody who has told so far, now and whenever it was fetched.
    pub(crate) fn agrees(&self, name: &impl Hash, digest: &Digest) -> bool {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let (name, digest) = (hasher.finish(), digest.0.finish());
        let mut known = self.0.lock();
        match known.get(name) {
            Some(known) => *known == digest,
            None => {
                known.put(name, digest, NAMES_MAX);
                true
            }
        }
    }
}

/// What tells one sequence of bytes from another, however it is cut into pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    /// Takes the next bytes.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.read(bytes);
        digest.0.finish()
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.finish() == other.0.finish()
    }
}

/// A map that forgets what it has known longest.
#[derive(Debug)]
struct Recent<T> {
    known: HashMap<u64, T>,
    order: VecDeque<u64>,
}

impl<T> Recent<T> {
    fn get(&self, key: u64) -> Option<&T> {
        self.known.get(&key)
    }

    fn put(&mut self, key: u64, value: T, max: usize) {
        if self.known.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_taken_apart_once() {
        let documents = Documents::default();
        let mut times = 0;
        for _ in 0..3 {
            let read = documents.read(b"a", |bytes| {
                times += 1;
                Ok::<_, ()>(bytes.len())
            });
            assert_eq!(read.map(|document| *document.content), Ok(1));
        }
        assert_eq!(times, 1);
        let refused = documents.read(b"b", |_| Err("no"));
        assert_eq!(refused.err(), Some("no"));
        assert_eq!(
            documents
                .read(b"b", |_| Ok::<_, ()>(7))
                .map(|it| *it.content),
            Ok(7)
        );
    }

    #[test]
    fn a_name_has_one_content() {
        let ledger = Ledger::default();
        let digest = |bytes: &[u8], piece_len| {
            let mut digest = Digest::default();
            bytes.chunks(piece_len).for_each(|piece| digest.read(piece));
            digest
        };
        assert!(ledger.agrees(&("video", 7), &digest(b"some bytes", 3)));
        assert!(ledger.agrees(&("video", 7), &digest(b"some bytes", 10)));
        assert!(ledger.agrees(&("video", 8), &digest(b"other bytes", 3)));
        assert!(!ledger.agrees(&("video", 7), &digest(b"other bytes", 3)));
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut recent = Recent::default();
        for key in 0..10 {
            recent.put(key, (), 3);
            recent.put(key, (), 3);
        }
        assert_eq!((recent.known.len(), recent.order.len()), (3, 3));
        assert!(recent.get(9).is_some() && recent.get(6).is_none());
    }
}
