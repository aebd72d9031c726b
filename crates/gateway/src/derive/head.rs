//! What a single viewer gets before shared bytes.
//!
//! Owns: when a head is due: at the start, and whenever the epoch is another than that of the bytes before, be it that
//! the stream changed or that the viewer skipped over the change.

use std::sync::Arc;

use bytes::Bytes;
use weir_media::Epoch;

use super::Shared;

/// The epoch that a viewer knows the head of.
#[derive(Debug, Default)]
pub(crate) struct Head {
    known: Option<Arc<Epoch>>,
}

impl Head {
    /// The epoch of what was written last; none at the start.
    pub(crate) fn known(&self) -> Option<&Arc<Epoch>> {
        self.known.as_ref()
    }

    /// Appends to `out` what to write for `ready`: each run of one epoch with its head before it, unless the viewer has
    /// it. `make` makes the head for the first bytes behind it; its flag says that the viewer has had none yet.
    pub(crate) fn before_each(
        &mut self,
        ready: impl Iterator<Item = Shared>,
        out: &mut impl Extend<Bytes>,
        make: impl Fn(&Shared, bool) -> Bytes,
    ) {
        for shared in ready {
            if !self
                .known
                .as_ref()
                .is_some_and(|known| Epoch::same(known, &shared.epoch))
            {
                out.extend([make(&shared, self.known.is_none())]);
                self.known = Some(Arc::clone(&shared.epoch));
            }
            out.extend([shared.bytes]);
        }
    }
}
