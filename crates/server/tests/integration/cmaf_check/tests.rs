//! Good samples as the server's writer makes them, and every rule broken once.

use weir_media::{
    Track as MediaTrack, TrackId,
    codec::{Codec, aac, h264},
    container::fmp4::{self, Sample},
};

use super::*;

const RECORD: &str =
    "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
const ASC: &str = "1190";

fn hex(text: &str) -> bytes::Bytes {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(pair).collect()
}

fn init(codec: Codec) -> Vec<u8> {
    fmp4::init(&MediaTrack::new(TrackId::VIDEO, codec)).to_vec()
}

fn video() -> Vec<u8> {
    init(Codec::H264(
        h264::Config::parse(hex(RECORD)).expect("a record"),
    ))
}

/// Two fragments of three samples.
fn segment() -> Vec<u8> {
    let sample = |duration, sync| Sample {
        duration,
        composition: 80,
        sync,
        payload: vec![1; 5].into(),
    };
    let samples = [sample(40, true), sample(40, false), sample(41, false)];
    [
        fmp4::segment_type(),
        fmp4::fragment(7, 1_000, &samples),
        fmp4::fragment(8, 1_121, &samples),
    ]
    .concat()
}

fn problems(init: &[u8], segment: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let read =
        |problems: &mut Vec<String>| Track::new(init, problems)?.next(segment, true, problems);
    if let Err(problem) = read(&mut problems) {
        problems.push(problem);
    }
    problems
}

#[test]
fn good_samples_are_read() {
    let mut found = Vec::new();
    let mut track = Track::new(&video(), &mut found).expect("it is good");
    assert_eq!(track.init.codec, "avc1.42C01E");
    assert_eq!(
        (track.init.timescale, track.init.picture),
        (90_000, Some((640, 360)))
    );
    let media = track
        .next(&segment(), true, &mut found)
        .expect("it is good");
    assert_eq!(
        media,
        Media {
            start: 1_000,
            end: 1_242,
            shown: 1_080,
            sample: 41,
            samples: 6,
            sync: true,
            fragments: 2,
            timed: 0
        }
    );
    assert_eq!(found, Vec::<String>::new());
    let audio = init(Codec::Aac(
        aac::Config::parse(hex(ASC)).expect("a configuration"),
    ));
    let audio = Init::read(&audio, &mut found).expect("it is good");
    assert_eq!(
        (&*audio.codec, audio.timescale, audio.picture),
        ("mp4a.40.2", 48_000, None)
    );
    let prft = b"\0\0\0\x20prft\x01\0\0\x18\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let timed = [&prft[..], &segment()[28..]].concat();
    let mut again = Track::new(&video(), &mut found).expect("it is good");
    let media = again
        .next(&timed, true, &mut found)
        .expect("a prft may stand before");
    assert_eq!((media.timed, media.fragments), (1, 2));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_does_not_follow_is_found() {
    let mut found = Vec::new();
    let mut track = Track::new(&video(), &mut found).expect("it is good");
    track
        .next(&segment(), true, &mut found)
        .expect("it is good");
    track
        .next(&segment(), false, &mut found)
        .expect("it is read");
    assert_eq!(found, ["C4: fragment 7 after Some(8)"]);
    found.clear();
    track
        .next(&segment(), true, &mut found)
        .expect("it is read");
    assert_eq!(
        found,
        [
            "C4: fragment 7 after Some(8)",
            "C3: 1000 where 1242 is to follow"
        ]
    );
}

/// A change of the byte at an offset from the first box of a kind.
type Change = (&'static [u8; 4], usize, u8, &'static str);

fn changed(mut bytes: Vec<u8>, (kind, at, to, _): Change) -> Vec<u8> {
    let found = bytes.windows(4).position(|window| window == kind);
    let at = found.unwrap_or_else(|| panic!("{}", kind.escape_ascii())) + at;
    assert_ne!(bytes[at], to, "{} {at}", kind.escape_ascii());
    bytes[at] = to;
    bytes
}

#[test]
fn a_broken_init_object_is_found() {
    let changes: &[Change] = &[
        (b"ftyp", 0, b'x', "C1: boxes"),
        (b"cmfc", 0, b'x', "C1: no brand cmfc"),
        (b"trak", 0, b'x', "C1: not one track"),
        (b"trex", 0, b'x', "C1: no box trex"),
        (b"trex", 11, 9, "C1: trex is of another track"),
        (b"stts", 11, 1, "C1: samples in stts"),
        (b"stsc", 11, 1, "C1: samples in stsc"),
        (b"stco", 11, 1, "C1: samples in stco"),
        (b"stsz", 15, 1, "C1: samples in stsz"),
        (b"stbl", 0, b'x', "C1: no box stbl"),
        (b"stsd", 0, b'x', "C1: no box stsd"),
        (b"avc1", 0, b'x', "C7: a sample entry xvc1"),
        (b"avcC", 0, b'x', "C1: no box avcC"),
        (b"avcC", 4, 0, "C7: no avcC"),
        (b"avcC", 9, 0xE0, "C7: no SPS"),
        (b"moov", 0, b'x', "C1: no box moov"),
    ];
    for change in changes {
        let mut init = changed(video(), *change);
        if change.3.contains("no brand") {
            // One of the two is enough.
            for _ in 0..2 {
                let at = init.windows(4).position(|window| window == b"cmf2");
                init[at.expect("it is there")] = b'x';
            }
        }
        let found = problems(&init, &segment());
        assert!(
            found.iter().any(|problem| problem.starts_with(change.3)),
            "{change:?}: {found:?}"
        );
    }
    for kind in [b"mvhd", b"tkhd", b"mdhd"] {
        let mut init = video();
        let at = init
            .windows(4)
            .position(|window| window == kind)
            .expect("it is there");
        let wide = init[at + 4] == 1;
        let duration = match (kind, wide) {
            (b"tkhd", true) => at + 8 + 16 + 8,
            (b"tkhd", false) => at + 8 + 8 + 8,
            (_, true) => at + 8 + 16 + 4,
            (_, false) => at + 8 + 8 + 4,
        };
        init[duration + 3] = 1;
        assert_eq!(
            problems(&init, &segment()),
            ["C1: a duration that is not 0"]
        );
    }
    let audio = init(Codec::Aac(
        aac::Config::parse(hex(ASC)).expect("a configuration"),
    ));
    let esds: Change = (b"esds", 8, 9, "C8: no configuration in esds");
    assert_eq!(problems(&changed(audio, esds), &segment()), [esds.3]);
}

#[test]
fn a_broken_segment_is_found() {
    let changes: &[Change] = &[
        (b"moof", 0, b'x', "C2: boxes xoofmdat"),
        (b"mdat", 0, b'x', "C2: boxes moofxdat"),
        (b"traf", 0, b'x', "C2: 0 traf"),
        (b"trun", 0, b'x', "C2: 0 trun"),
        (b"tfdt", 0, b'x', "C1: no box tfdt"),
        (b"tfhd", 5, 0, "C2: no default-base-is-moof"),
        (b"tfhd", 7, 1, "C2: a base-data-offset"),
        (b"tfhd", 11, 7, "C2: another track"),
        (b"tfdt", 15, 0xE9, "C3: 1121 where 1122 is to follow"),
        (b"tfdt", 4, 0, "C3: tfdt of 32 bits"),
        (b"trun", 7, 0, "C2: trun without data_offset"),
        (b"trun", 11, 2, "C2: more in trun"),
        (b"trun", 11, 4, "C2: a box is too short"),
        (b"trun", 15, 1, "C2: samples at"),
        (b"mfhd", 11, 8, "C4: fragment 8 after Some(8)"),
    ];
    for change in changes {
        let found = problems(&video(), &changed(segment(), *change));
        assert!(
            found.iter().any(|problem| problem.starts_with(change.3)),
            "{change:?}: {found:?}"
        );
    }
    let whole = segment();
    let (styp, fragments) = whole.split_at(28);
    let indexed = [styp, b"\0\0\0\x08sidx", fragments].concat();
    let found = problems(&video(), &indexed);
    assert_eq!(found, ["C2: an index before a fragment"]);
    for (bytes, expected) in [
        (&whole[..whole.len() - 1], "C2: a box is cut off"),
        (&whole[..28], "C2: no fragment"),
        (&whole[..whole.len() - 23], "C2: no whole fragment"),
        (&[][..], "C2: no fragment"),
    ] {
        assert!(
            problems(&video(), bytes)[0].starts_with(expected),
            "{expected}"
        );
    }
}

#[test]
fn broken_samples_are_found() {
    let sample = |duration, composition, sync| Sample {
        duration,
        composition,
        sync,
        payload: vec![1; 5].into(),
    };
    let none = problems(&video(), &fmp4::fragment(1, 0, &[]));
    assert!(
        none.contains(&"C2: a fragment without samples".to_owned()),
        "{none:?}"
    );
    let still = problems(&video(), &fmp4::fragment(1, 0, &[sample(0, 0, true)]));
    assert_eq!(still, ["C3: a sample that takes no time"]);
    // Flags as the writer has them, and with what they depend on turned round.
    for (sync, written, broken, expected) in [
        (
            true,
            [2, 0, 0, 0],
            [1, 0, 0, 0],
            "C5: a sync sample that depends",
        ),
        (
            false,
            [1, 1, 0, 0],
            [2, 1, 0, 0],
            "C5: no sync sample, and depends on nothing",
        ),
    ] {
        let mut bytes = fmp4::fragment(1, 0, &[sample(1, 0, sync)]).to_vec();
        let at = bytes.windows(4).position(|window| window == written);
        let at = at.expect("the flags");
        bytes[at..at + 4].copy_from_slice(&broken);
        assert_eq!(problems(&video(), &bytes), [expected]);
    }
    let mut found = Vec::new();
    let mut track = Track::new(&video(), &mut found).expect("it is good");
    track.init.edited = true;
    let early = fmp4::fragment(1, 0, &[sample(1, -1, true)]);
    track.next(&early, true, &mut found).expect("it is read");
    assert_eq!(found, ["C6: a negative offset and an edit list"]);
}
