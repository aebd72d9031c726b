//! `cmaf-check`: fMP4 as the strictest player reads it (CONFORMANCE section 4).
//!
//! Owns: C1 to C8 over an init object and the segments or parts behind it, with no code of the server. Each problem
//! begins with its row.
//! Does not own: what a playlist says of them (`hls-watch`, `mpd-watch`).
//!
//! Of C6 it checks that no track has negative offsets and an edit list: ARCHITECTURE.md says why ours has neither.

mod boxes;
mod init;
mod tests;

use boxes::{Atom, Fields, all, boxes, find};
pub(crate) use init::Init;

/// What some bytes of a track hold, in its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Media {
    /// Decode time of the first sample.
    pub(crate) start: u64,
    /// Decode time of whatever comes next.
    pub(crate) end: u64,
    /// The earliest time at which a sample is shown.
    pub(crate) shown: i64,
    /// The longest sample.
    pub(crate) sample: u64,
    pub(crate) samples: u64,
    /// Whether it starts with a sync sample.
    pub(crate) sync: bool,
    pub(crate) fragments: usize,
    /// How many fragments have a producer reference time (`prft`) before them.
    pub(crate) timed: usize,
}

/// A track as its bytes come: one init object, then segments or parts in order.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) init: Init,
    sequence: Option<u32>,
    end: Option<u64>,
}

/// Flags of `tfhd` and `trun` that say which fields follow (ISO/IEC 14496-12 8.8.7, 8.8.8).
const TFHD_BASE_DATA_OFFSET: u32 = 0x01;
const TFHD_DESCRIPTION: u32 = 0x02;
const TFHD_DEFAULTS: [u32; 3] = [0x08, 0x10, 0x20];
const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;
const TRUN_DATA_OFFSET: u32 = 0x01;
const TRUN_FIRST_FLAGS: u32 = 0x04;
const TRUN_SAMPLE: [u32; 3] = [0x100, 0x200, 0x400];
const TRUN_COMPOSITION: u32 = 0x800;
/// Of sample flags: "no sync sample", and what it depends on; 2 is nothing.
const NON_SYNC: u32 = 0x1_0000;
const DEPENDS_ON_NOTHING: u32 = 2;

/// One `moof`.
struct Fragment {
    sequence: u32,
    media: Media,
    /// Where the payload begins, from the first byte of the `moof`, and its length.
    payload: (usize, usize),
}

impl Track {
    /// A track of which nothing but the init object is known.
    pub(crate) fn new(init: &[u8], problems: &mut Vec<String>) -> Result<Self, String> {
        Ok(Self {
            init: Init::read(init, problems)?,
            sequence: None,
            end: None,
        })
    }

    /// Reads the next segment or part. Where it is not `continuous`, time may jump.
    pub(crate) fn next(
        &mut self,
        bytes: &[u8],
        continuous: bool,
        problems: &mut Vec<String>,
    ) -> Result<Media, String> {
        let atoms = boxes(bytes)?;
        let mut rest = &atoms[..];
        if let [Atom { kind, .. }, behind @ ..] = rest
            && kind == b"styp"
        {
            rest = behind;
        }
        let mut media: Option<Media> = None;
        while !rest.is_empty() {
            if let [Atom { kind, .. }, behind @ ..] = rest
                && kind == b"sidx"
            {
                problems.push("C2: an index before a fragment".into());
                rest = behind;
                continue;
            }
            let timed = rest[0].kind == *b"prft";
            let pair = &rest[usize::from(timed)..];
            let [moof, mdat, behind @ ..] = pair else {
                return Err("C2: no whole fragment at the end".into());
            };
            if (&moof.kind, &mdat.kind) != (b"moof", b"mdat") {
                let kinds = [moof.kind, mdat.kind].concat();
                return Err(format!(
                    "C2: boxes {} are no fragment",
                    kinds.escape_ascii()
                ));
            }
            let continuous = continuous || media.is_some();
            let mut fragment = self.fragment(*moof, *mdat, continuous, problems)?;
            fragment.timed = usize::from(timed);
            media = Some(media.map_or(fragment, |media| media.joined(fragment)));
            rest = behind;
        }
        media.ok_or("C2: no fragment".into())
    }

    fn fragment(
        &mut self,
        moof: Atom<'_>,
        mdat: Atom<'_>,
        continuous: bool,
        problems: &mut Vec<String>,
    ) -> Result<Media, String> {
        let Fragment {
            sequence,
            media,
            payload: (offset, len),
        } = read_moof(moof.body, &self.init, problems)?;
        let from = moof.at + offset;
        let (begin, end) = (mdat.at + 8, mdat.at + 8 + mdat.body.len());
        if (from, from + len) != (begin, end) {
            problems.push(format!(
                "C2: samples at {from}..{} where the mdat is at {begin}..{end}",
                from + len
            ));
        }
        if self.sequence.is_some_and(|last| last >= sequence) {
            problems.push(format!("C4: fragment {sequence} after {:?}", self.sequence));
        }
        if let Some(end) = self.end.filter(|end| continuous && *end != media.start) {
            problems.push(format!("C3: {} where {end} is to follow", media.start));
        }
        self.sequence = Some(sequence);
        self.end = Some(media.end);
        Ok(media)
    }
}

impl Media {
    /// How long it lasts, and its longest sample, in microseconds.
    pub(crate) fn lasts_us(&self, init: &Init) -> (i64, i64) {
        let us = |ticks: u64| (ticks * 1_000_000 / u64::from(init.timescale.max(1))) as i64;
        (us(self.end - self.start), us(self.sample))
    }

    fn joined(self, next: Self) -> Self {
        Self {
            end: next.end,
            shown: self.shown.min(next.shown),
            sample: self.sample.max(next.sample),
            samples: self.samples + next.samples,
            fragments: self.fragments + next.fragments,
            timed: self.timed + next.timed,
            ..self
        }
    }
}

fn read_moof(moof: &[u8], init: &Init, problems: &mut Vec<String>) -> Result<Fragment, String> {
    let mut need = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    let sequence = Fields::full(find(moof, &[b"mfhd"])?)?.u32()?;
    let trafs = all(moof, b"traf");
    let [traf] = trafs[..] else {
        return Err(format!("C2: {} traf", trafs.len()));
    };
    let mut tfhd = Fields::full(find(traf, &[b"tfhd"])?)?;
    need(
        tfhd.flags & TFHD_BASE_IS_MOOF != 0,
        "C2: no default-base-is-moof",
    );
    if tfhd.flags & TFHD_BASE_DATA_OFFSET != 0 {
        return Err("C2: a base-data-offset".into());
    }
    need(
        tfhd.u32()? == init.track_id,
        "C2: another track than in the init object",
    );
    tfhd.optional(TFHD_DESCRIPTION)?;
    let mut defaults = init.defaults;
    for (default, flag) in defaults.iter_mut().zip(TFHD_DEFAULTS) {
        *default = tfhd.optional(flag)?.unwrap_or(*default);
    }
    let mut tfdt = Fields::full(find(traf, &[b"tfdt"])?)?;
    need(tfdt.version == 1, "C3: tfdt of 32 bits");
    let start = tfdt.sized()?;
    let truns = all(traf, b"trun");
    let [trun] = truns[..] else {
        return Err(format!("C2: {} trun", truns.len()));
    };
    let (media, payload) = read_trun(trun, start, defaults, init, &mut need)?;
    Ok(Fragment {
        sequence,
        media,
        payload,
    })
}

type Payload = (usize, usize);

fn read_trun(
    trun: &[u8],
    start: u64,
    defaults: [u32; 3],
    init: &Init,
    need: &mut impl FnMut(bool, &str),
) -> Result<(Media, Payload), String> {
    let mut trun = Fields::full(trun)?;
    let count = trun.u32()?;
    let offset = trun
        .optional(TRUN_DATA_OFFSET)?
        .ok_or("C2: trun without data_offset")?;
    let first_flags = trun.optional(TRUN_FIRST_FLAGS)?;
    let mut media = Media {
        start,
        end: start,
        shown: i64::MAX,
        sample: 0,
        samples: count.into(),
        sync: false,
        fragments: 1,
        timed: 0,
    };
    let mut len = 0;
    for at in 0..count {
        let mut sample = defaults;
        for (value, flag) in sample.iter_mut().zip(TRUN_SAMPLE) {
            *value = trun.optional(flag)?.unwrap_or(*value);
        }
        let [duration, size, mut flags] = sample;
        if at == 0 {
            flags = first_flags.unwrap_or(flags);
            media.sync = flags & NON_SYNC == 0;
        }
        need(
            flags & NON_SYNC != 0 || flags >> 24 & 3 == DEPENDS_ON_NOTHING,
            "C5: a sync sample that depends",
        );
        need(
            flags & NON_SYNC == 0 || flags >> 24 & 3 != DEPENDS_ON_NOTHING,
            "C5: no sync sample, and depends on nothing",
        );
        let composition = trun.optional(TRUN_COMPOSITION)?.unwrap_or(0);
        let composition = match trun.version {
            0 => i64::from(composition),
            _ => i64::from(composition.cast_signed()),
        };
        need(
            composition >= 0 || !init.edited,
            "C6: a negative offset and an edit list",
        );
        need(duration > 0, "C3: a sample that takes no time");
        media.shown = media.shown.min(media.end.cast_signed() + composition);
        media.end += u64::from(duration);
        media.sample = media.sample.max(duration.into());
        len += size as usize;
    }
    need(count > 0, "C2: a fragment without samples");
    need(trun.is_empty(), "C2: more in trun than its samples");
    Ok((media, (offset as usize, len)))
}
