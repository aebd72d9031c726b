//! Reads FLV byte by byte, with no code of the server, and accepts nothing that a strict player would not.

/// Which tracks a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tracks {
    pub(super) video: bool,
    pub(super) audio: bool,
}

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;
const TAG_HEADER_LEN: usize = 11;
/// How far a tag may lie behind the newest one of another track: sound and picture are interleaved.
const INTERLEAVE_MS_MAX: u32 = 500;
/// The AMF0 string `onMetaData` and the marker of an ECMA array behind it.
const ON_METADATA: &[u8] = b"\x02\0\x0aonMetaData\x08";

struct Tag<'a> {
    kind: u8,
    ms: u32,
    body: &'a [u8],
}

/// Checks a stream from its first to its last byte.
pub(super) fn check_whole(bytes: &[u8]) -> Result<Tracks, String> {
    let (tracks, rest) = check(bytes)?;
    if rest.is_empty() {
        Ok(tracks)
    } else {
        Err(format!("ends with {} bytes of a tag", rest.len()))
    }
}

/// Checks a stream from its first byte to wherever it was left.
pub(super) fn check_start(bytes: &[u8]) -> Result<Tracks, String> {
    check(bytes).map(|(tracks, _)| tracks)
}

fn check(bytes: &[u8]) -> Result<(Tracks, &[u8]), String> {
    let (header, mut rest) = bytes.split_at_checked(13).ok_or("no header")?;
    let flags = header[4];
    if header[..4] != *b"FLV\x01" || flags & !0b101 != 0 || header[5..] != [0, 0, 0, 9, 0, 0, 0, 0]
    {
        return Err(format!("header {header:?}"));
    }
    let named = Tracks {
        video: flags & 1 != 0,
        audio: flags & 4 != 0,
    };
    let mut order = Order::default();
    while let Some((tag, behind)) = next_tag(rest)? {
        let at = bytes.len() - rest.len();
        order
            .check(&tag, named)
            .map_err(|problem| format!("tag at byte {at}: {problem}"))?;
        rest = behind;
    }
    if order.seen != named {
        return Err(format!(
            "the header names {named:?}, there are {:?}",
            order.seen
        ));
    }
    Ok((named, rest))
}

/// None when the bytes end before the tag does.
fn next_tag(bytes: &[u8]) -> Result<Option<(Tag<'_>, &[u8])>, String> {
    let Some((header, rest)) = bytes.split_at_checked(TAG_HEADER_LEN) else {
        return Ok(None);
    };
    let [kind, l2, l1, l0, t2, t1, t0, t3, ref stream_id @ ..] = *header else {
        return Ok(None);
    };
    if *stream_id != [0; 3] {
        return Err(format!("StreamID {stream_id:?}"));
    }
    let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
    let Some((body, rest)) = rest.split_at_checked(len) else {
        return Ok(None);
    };
    let Some((size, rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size != TAG_HEADER_LEN + len {
        return Err(format!(
            "PreviousTagSize {size} behind a body of {len} bytes"
        ));
    }
    Ok(Some((
        Tag {
            kind,
            ms: u32::from_be_bytes([t3, t2, t1, t0]),
            body,
        },
        rest,
    )))
}

/// What has been seen so far: which tag may come next depends on it.
#[derive(Default)]
struct Order {
    metadata: bool,
    /// When the sequence header of each track was.
    configured: [Option<u32>; 2],
    newest: [Option<u32>; 2],
    seen: Tracks,
}

impl Order {
    fn check(&mut self, tag: &Tag, named: Tracks) -> Result<(), String> {
        match (tag.kind, tag.body) {
            (SCRIPT, body) if body.starts_with(ON_METADATA) && !self.metadata => {
                self.metadata = true;
                Ok(())
            }
            (SCRIPT, _) => Err("a script tag that is not the first onMetaData".into()),
            _ if !self.metadata => Err("media before onMetaData".into()),
            (VIDEO, [0x17, 0, ..]) => self.configure(0, tag.ms),
            (VIDEO, [frame @ (0x17 | 0x27), 1, ..]) => {
                if !self.seen.video && *frame != 0x17 {
                    return Err("the first picture is no key frame".into());
                }
                self.seen.video = true;
                self.frame(0, tag.ms)
            }
            (AUDIO, [0xaf, 0, ..]) => self.configure(1, tag.ms),
            (AUDIO, [0xaf, 1, ..]) => {
                if named.video && !self.seen.video {
                    return Err("sound before the first picture".into());
                }
                self.seen.audio = true;
                self.frame(1, tag.ms)
            }
            (kind, body) => Err(format!(
                "kind {kind}, body {:?}",
                &body[..body.len().min(2)]
            )),
        }
    }

    fn configure(&mut self, track: usize, ms: u32) -> Result<(), String> {
        if self.seen != Tracks::default() {
            return Err("a sequence header in the middle of a source that does not change".into());
        }
        if track == 0 && self.configured[1].is_some() {
            return Err("the sequence header of sound stands before that of the picture".into());
        }
        self.configured[track] = Some(ms);
        Ok(())
    }

    fn frame(&mut self, track: usize, ms: u32) -> Result<(), String> {
        let configured = self.configured[track].ok_or("no sequence header before")?;
        let lead = self.newest == [None; 2];
        if lead && configured != ms {
            return Err(format!(
                "at {ms} ms, its sequence header at {configured} ms"
            ));
        }
        if let Some(newest) = self.newest[track].filter(|&newest| newest > ms) {
            return Err(format!("at {ms} ms, behind {newest} ms of its track"));
        }
        let newest = self.newest.iter().flatten().max().copied().unwrap_or(ms);
        if newest.abs_diff(ms) > INTERLEAVE_MS_MAX {
            return Err(format!("at {ms} ms, far from {newest} ms"));
        }
        self.newest[track] = Some(ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: u8 = 5;
    const METADATA: &[u8] = b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\0\x09";
    const AVCC: &[u8] = &[0x17, 0, 0, 0, 0, 1];
    const ASC: &[u8] = &[0xaf, 0, 0x11, 0x90];
    const KEY: &[u8] = &[0x17, 1, 0, 0, 0, 9];
    const PICTURE: &[u8] = &[0x27, 1, 0, 0, 0, 8];
    const SOUND: &[u8] = &[0xaf, 1, 7];
    const GOOD: [(u8, u32, &[u8]); 7] = [
        (SCRIPT, 0, METADATA),
        (VIDEO, 20_000_000, AVCC),
        (AUDIO, 20_000_000, ASC),
        (VIDEO, 20_000_000, KEY),
        (AUDIO, 20_000_000, SOUND),
        (VIDEO, 20_000_040, PICTURE),
        (AUDIO, 20_000_021, SOUND),
    ];

    fn flv(flags: u8, tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"FLV\x01".to_vec();
        bytes.extend([flags, 0, 0, 0, 9, 0, 0, 0, 0]);
        for &(kind, ms, body) in tags {
            let [_, len @ ..] = (body.len() as u32).to_be_bytes();
            let [high, low @ ..] = ms.to_be_bytes();
            bytes.push(kind);
            bytes.extend(len);
            bytes.extend(low);
            bytes.extend([high, 0, 0, 0]);
            bytes.extend(body);
            bytes.extend((body.len() as u32 + 11).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn good_streams_pass() {
        let (video, audio) = (true, true);
        assert_eq!(check_whole(&flv(BOTH, &GOOD)), Ok(Tracks { video, audio }));
        let pictures = [GOOD[0], GOOD[1], GOOD[3], GOOD[5]];
        assert_eq!(
            check_whole(&flv(1, &pictures)),
            Ok(Tracks {
                video,
                audio: false
            })
        );
        let sound = [GOOD[0], GOOD[2], GOOD[4], GOOD[6]];
        assert_eq!(
            check_whole(&flv(4, &sound)),
            Ok(Tracks {
                video: false,
                audio
            })
        );
    }

    /// A change of the good stream's bytes, at a tag or within one, is found with this problem.
    #[track_caller]
    fn check_bytes(change: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut bytes = flv(BOTH, &GOOD);
        change(&mut bytes);
        let problem = check_whole(&bytes).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn broken_bytes_are_found() {
        check_bytes(|bytes| bytes[0] = b'f', "header");
        check_bytes(|bytes| bytes[4] = 0b111, "header");
        check_bytes(|bytes| bytes[8] = 10, "header");
        check_bytes(|bytes| bytes[12] = 1, "header");
        check_bytes(|bytes| bytes[23] = 1, "StreamID [0, 0, 1]");
        check_bytes(
            |bytes| *bytes.last_mut().expect("a size") += 1,
            "PreviousTagSize 15",
        );
        check_bytes(|bytes| _ = bytes.pop(), "ends with 17 bytes of a tag");
        check_bytes(|bytes| bytes.truncate(12), "no header");
    }

    #[track_caller]
    fn check_tags(flags: u8, change: impl Fn(&mut Vec<(u8, u32, &'static [u8])>), expected: &str) {
        let mut tags = GOOD.to_vec();
        change(&mut tags);
        let problem = check_whole(&flv(flags, &tags)).expect_err(expected);
        assert!(problem.contains(expected), "{problem}");
    }

    #[test]
    fn broken_orders_are_found() {
        let names = "the header names";
        check_tags(BOTH, |tags| tags.retain(|tag| tag.0 != AUDIO), names);
        check_tags(1, |_| (), names);
        check_tags(BOTH, |tags| _ = tags.remove(0), "media before onMetaData");
        check_tags(
            BOTH,
            |tags| tags.insert(5, GOOD[0]),
            "not the first onMetaData",
        );
        check_tags(
            BOTH,
            |tags| tags[0].2 = b"\x02\0\x0donSomethingElse",
            "not the first onMetaData",
        );
        check_tags(
            BOTH,
            |tags| tags.swap(1, 2),
            "stands before that of the picture",
        );
        check_tags(BOTH, |tags| _ = tags.remove(1), "no sequence header");
        check_tags(
            BOTH,
            |tags| tags.swap(2, 4),
            "sound before the first picture",
        );
        check_tags(
            BOTH,
            |tags| tags[3].2 = PICTURE,
            "the first picture is no key frame",
        );
        check_tags(
            BOTH,
            |tags| tags.push(GOOD[1]),
            "a sequence header in the middle",
        );
        check_tags(BOTH, |tags| tags[1].1 = 0, "its sequence header at 0 ms");
        check_tags(
            BOTH,
            |tags| tags[5].1 = 19_999_999,
            "behind 20000000 ms of its track",
        );
        check_tags(BOTH, |tags| tags[6].1 = 20_000_541, "far from 20000040 ms");
        check_tags(BOTH, |tags| tags[5].0 = 10, "kind 10");
        check_tags(BOTH, |tags| tags[6].2 = &[0x2f, 1], "kind 8, body [47, 1]");
    }
}
