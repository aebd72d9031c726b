//! Where the bytes of parts are kept: in memory, or wherever the outside puts them.
//!
//! Owns: how a segmenter hands them over, and what it gets for them. Whoever keeps them gives a room to each segment, in
//! which its parts lie one behind the other; the room lives as long as any part, snapshot or reader refers to it.
//! Does not own: what a room is, and how bytes are read from one. Nothing here ever looks into them again.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;

/// The bytes of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// Where the outside keeps them.
    Kept(Kept),
}

/// Bytes that the outside keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The room of the segment: of a type that only the one who keeps it knows.
    pub room: Arc<dyn Any + Send + Sync>,
    /// Where they begin, bytes from the beginning of the room.
    pub at: u64,
    /// How many they are.
    pub len: usize,
}

/// Keeps the bytes of a run's parts.
pub trait Keep: fmt::Debug + Send + Sync {
    /// Takes the bytes of a part of the segment `msn`. Those of a rendition come in their order.
    fn keep(&self, rendition: &'static str, msn: u64, bytes: Bytes) -> Content;
}

/// Keeps bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct InMemory;

impl Keep for InMemory {
    fn keep(&self, _: &'static str, _: u64, bytes: Bytes) -> Content {
        Content::Memory(bytes)
    }
}

impl Content {
    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Kept(kept) => kept.len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The same bytes at the same place.
impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.room, &other.room) && (self.at, self.len) == (other.at, other.len)
    }
}

impl Eq for Kept {}
