//! Reads fMP4 with no code of the server: is a segment what its playlist says, and does it go on where the last ended?
//!
//! Owns: CONFORMANCE H11, H13 and what of C2, C3 and C5 one segment shows.

/// What one segment holds, in ticks of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Whether it starts with a sync sample.
    pub(super) sync: bool,
}

/// Flags of `tfhd` and `trun` that say which fields follow (ISO/IEC 14496-12 8.8.7, 8.8.8).
const TFHD_DEFAULT_DURATION: u32 = 0x08;
const TFHD_DEFAULT_SIZE: u32 = 0x10;
const TFHD_DEFAULT_FLAGS: u32 = 0x20;
const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;
const TRUN_DATA_OFFSET: u32 = 0x01;
const TRUN_FIRST_FLAGS: u32 = 0x04;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;
/// The bit of sample flags that says "no sync sample".
const NON_SYNC: u32 = 0x1_0000;

/// The ticks a second of the one track of an init object.
pub(super) fn timescale(init: &[u8]) -> Option<u32> {
    let mdhd = find(
        find(find(find(init, b"moov")?, b"trak")?, b"mdia")?,
        b"mdhd",
    )?;
    let at = if mdhd.first()? == &1 { 20 } else { 12 };
    Some(u32::from_be_bytes(*mdhd.get(at..)?.first_chunk()?))
}

/// Reads a segment.
pub(super) fn read(segment: &[u8]) -> Result<Media, String> {
    let mut media: Option<Media> = None;
    let mut payload_len = None;
    for (kind, body) in boxes(segment).ok_or("a box is cut off")? {
        match &kind {
            b"moof" => {
                let fragment = read_moof(body).ok_or("a moof cannot be read")?;
                let (start, end, sync, len) = fragment;
                if media.is_some_and(|media| media.end != start) {
                    return Err(format!("{media:?} is followed by {start}"));
                }
                let before = media.unwrap_or(Media { start, end, sync });
                media = Some(Media { end, ..before });
                payload_len = Some(len);
            }
            b"mdat" => {
                if payload_len.take() != Some(body.len()) {
                    return Err(format!(
                        "an mdat of {} bytes does not fit its moof",
                        body.len()
                    ));
                }
            }
            b"styp" => {}
            _ => return Err(format!("a box {}", kind.escape_ascii())),
        }
    }
    media
        .filter(|_| payload_len.is_none())
        .ok_or("no whole fragment".into())
}

/// Decode time, end, whether the first sample is sync, and the bytes of all samples.
fn read_moof(moof: &[u8]) -> Option<(u64, u64, bool, usize)> {
    let traf = find(moof, b"traf")?;
    let [1, _, _, _, tfdt @ ..] = find(traf, b"tfdt")? else {
        return None;
    };
    let start = u64::from_be_bytes(tfdt.try_into().ok()?);
    let mut tfhd = Fields::new(find(traf, b"tfhd")?)?;
    let flags = tfhd.flags;
    if flags & !(TFHD_DEFAULT_DURATION | TFHD_DEFAULT_SIZE | TFHD_DEFAULT_FLAGS)
        != TFHD_BASE_IS_MOOF
    {
        return None;
    }
    let _track = tfhd.next()?;
    let duration = tfhd.next_if(TFHD_DEFAULT_DURATION)?;
    let size = tfhd.next_if(TFHD_DEFAULT_SIZE)?;
    let sample_flags = tfhd.next_if(TFHD_DEFAULT_FLAGS)?;
    let mut trun = Fields::new(find(traf, b"trun")?)?;
    let count = trun.next()?;
    trun.next_if(TRUN_DATA_OFFSET)?;
    let first_flags = trun.next_if(TRUN_FIRST_FLAGS)?;
    let (mut end, mut len, mut sync) = (start, 0, None);
    for _ in 0..count {
        end += u64::from(trun.next_if(TRUN_DURATION)?.or(duration)?);
        len += trun.next_if(TRUN_SIZE)?.or(size)? as usize;
        let flags = trun.next_if(TRUN_FLAGS)?;
        trun.next_if(TRUN_COMPOSITION)?;
        sync = sync.or(first_flags
            .or(flags)
            .or(sample_flags)
            .map(|flags| flags & NON_SYNC == 0));
    }
    trun.rest.is_empty().then_some((start, end, sync?, len))
}

/// The fields of a full box, each of 32 bits.
struct Fields<'a> {
    flags: u32,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(body: &'a [u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<4>()?;
        Some(Self {
            flags: u32::from_be_bytes(*head) & 0xff_ffff,
            rest,
        })
    }

    fn next(&mut self) -> Option<u32> {
        let (field, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*field))
    }

    /// The next field, if `flag` says that it is there; none when the box is cut off.
    fn next_if(&mut self, flag: u32) -> Option<Option<u32>> {
        if self.flags & flag == 0 {
            Some(None)
        } else {
            self.next().map(Some)
        }
    }
}

/// The body of the first box of a kind.
fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes)?
        .into_iter()
        .find(|(known, _)| known == kind)
        .map(|(_, body)| body)
}

/// Kind and body of each box; none when the last is cut off.
fn boxes(mut bytes: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    let mut boxes = Vec::new();
    while !bytes.is_empty() {
        let (size, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let (this, behind) = bytes.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        boxes.push((*kind, this.get(8..)?));
        bytes = behind;
    }
    Some(boxes)
}

#[cfg(test)]
mod tests {
    use weir_media::container::fmp4::{self, Sample};

    use super::*;

    fn sample(duration: u32, sync: bool) -> Sample {
        Sample {
            duration,
            composition: 0,
            sync,
            payload: vec![1; 5].into(),
        }
    }

    /// Two fragments of three samples.
    fn segment() -> Vec<u8> {
        let samples = [sample(40, true), sample(40, false), sample(41, false)];
        [
            fmp4::segment_type(),
            fmp4::fragment(1, 1_000, &samples),
            fmp4::fragment(2, 1_121, &samples),
        ]
        .concat()
    }

    #[test]
    fn a_good_segment_is_read() {
        assert_eq!(
            read(&segment()),
            Ok(Media {
                start: 1_000,
                end: 1_242,
                sync: true
            })
        );
        let late = fmp4::fragment(1, 7, &[sample(1, false), sample(1, true)]);
        assert_eq!(
            read(&late),
            Ok(Media {
                start: 7,
                end: 9,
                sync: false
            })
        );
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut bytes = segment();
        change(&mut bytes);
        let problem = read(&bytes).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn broken_segments_are_found() {
        let at = |bytes: &[u8], kind: &[u8]| {
            bytes
                .windows(4)
                .position(|window| window == kind)
                .expect("it is there")
        };
        check(|bytes| _ = bytes.pop(), "a box is cut off");
        check(|bytes| bytes.truncate(28), "no whole fragment");
        check(
            |bytes| {
                let tfdt = at(bytes, b"tfdt");
                bytes[tfdt + 15] += 1;
            },
            "is followed by 1121",
        );
        check(
            |bytes| {
                let tfdt = at(bytes, b"tfdt");
                bytes[tfdt + 4] = 0;
            },
            "a moof cannot be read",
        );
        check(
            |bytes| {
                let trun = at(bytes, b"trun");
                bytes[trun + 11] -= 1;
            },
            "a moof cannot be read",
        );
        check(
            |bytes| {
                let mdat = at(bytes, b"mdat");
                bytes[mdat] = b'x';
            },
            "a box xdat",
        );
        check(
            |bytes| {
                let mdat = at(bytes, b"mdat");
                bytes.remove(mdat + 4);
                bytes[mdat - 1] -= 1;
            },
            "does not fit its moof",
        );
    }
}
