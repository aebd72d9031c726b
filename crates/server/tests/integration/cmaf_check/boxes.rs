//! Boxes and their fields (ISO/IEC 14496-12 section 4.2).

/// One box: its kind, what it holds, and where that begins in the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Atom<'a> {
    pub(super) kind: [u8; 4],
    pub(super) body: &'a [u8],
    /// Offset of the box header from where the boxes were read.
    pub(super) at: usize,
}

/// The boxes one after the other; an error when the last one is cut off.
pub(super) fn boxes(bytes: &[u8]) -> Result<Vec<Atom<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let cut = || format!("C2: a box is cut off at byte {at}");
        let (size, behind) = rest.split_first_chunk().ok_or_else(cut)?;
        let (kind, _) = behind.split_first_chunk().ok_or_else(cut)?;
        let len = u32::from_be_bytes(*size) as usize;
        let (this, behind) = rest.split_at_checked(len).ok_or_else(cut)?;
        let body = this.get(8..).ok_or_else(cut)?;
        found.push(Atom {
            kind: *kind,
            body,
            at,
        });
        rest = behind;
    }
    Ok(found)
}

/// The bodies of all boxes of a kind that stand directly in `body`.
pub(super) fn all<'a>(body: &'a [u8], kind: &[u8; 4]) -> Vec<&'a [u8]> {
    let found = boxes(body).unwrap_or_default();
    found
        .iter()
        .filter(|atom| atom.kind == *kind)
        .map(|atom| atom.body)
        .collect()
}

/// The body of the box at the end of a path; an error when it is not there.
pub(super) fn find<'a>(mut body: &'a [u8], path: &[&[u8; 4]]) -> Result<&'a [u8], String> {
    for kind in path {
        let kinds = || format!("C1: no box {}", kind.escape_ascii());
        body = all(body, kind).first().copied().ok_or_else(kinds)?;
    }
    Ok(body)
}

/// The fields of a box, read one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) version: u8,
    pub(super) flags: u32,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a full box, which begins with version and flags.
    pub(super) fn full(body: &'a [u8]) -> Result<Self, String> {
        let mut fields = Self::plain(body);
        let head = fields.u32()?;
        fields.version = (head >> 24) as u8;
        fields.flags = head & 0xFF_FFFF;
        Ok(fields)
    }

    pub(super) fn plain(body: &'a [u8]) -> Self {
        Self {
            version: 0,
            flags: 0,
            rest: body,
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(*self.chunk()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_be_bytes(*self.chunk()?))
    }

    /// 32 or, in version 1, 64 bits.
    pub(super) fn sized(&mut self) -> Result<u64, String> {
        if self.version == 1 {
            self.u64()
        } else {
            Ok(self.u32()?.into())
        }
    }

    /// The next 32 bits, if `flag` says that they are there.
    pub(super) fn optional(&mut self, flag: u32) -> Result<Option<u32>, String> {
        (self.flags & flag != 0).then(|| self.u32()).transpose()
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<(), String> {
        self.rest = self.rest.get(len..).ok_or("C2: a box is too short")?;
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], String> {
        let (chunk, rest) = self
            .rest
            .split_first_chunk()
            .ok_or("C2: a box is too short")?;
        self.rest = rest;
        Ok(chunk)
    }
}
