//! Every rule of one playlist and of two, broken once.

use super::{
    media::Media,
    rules,
    sample::Sample,
    succession::{self, expand},
};
use crate::support::changes::rows;

/// Changes of the form of a playlist, and how each problem begins.
const BROKEN_FORM: &str = r#"
#EXTM3U => \u{feff}#EXTM3U => H1: the first line
#EXTM3U\n => #EXTM3U\r\n => H1: the first line
105.m4s\n => 105.m4s \n => H1: "105.m4s "
LAST-PART=1\n => LAST-PART=1 => H1: the last line has no end
#EXT-X-INDEPENDENT-SEGMENTS => #EXT-X-OTHER => H1: #EXT-X-OTHER is not known
#EXT-X-VERSION:9\n => #EXT-X-VERSION:9\n#EXT-X-VERSION:9\n => H2: #EXT-X-VERSION twice
#EXT-X-TARGETDURATION:2\n =>  => H3: no #EXT-X-TARGETDURATION
#EXT-X-TARGETDURATION:2 => #EXT-X-TARGETDURATION:2.5 => H3: #EXT-X-TARGETDURATION:2.5
#EXT-X-MEDIA-SEQUENCE:100\n =>  => H5: no #EXT-X-MEDIA-SEQUENCE
104.m4s\n => 104.m4s\n#EXT-X-MEDIA-SEQUENCE:100\n => H5: #EXT-X-MEDIA-SEQUENCE twice
104.m4s\n => 104.m4s\n#EXT-X-START:TIME-OFFSET=1\n => H5: #EXT-X-START among
SEQUENCE:7\n => SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:7\n => H6: #EXT-X-DISCONTINUITY-SEQUENCE twice
#EXT-X-PRELOAD => #EXT-X-ENDLIST\n#EXT-X-PRELOAD => H7: #EXT-X-PRELOAD
#EXTINF:2.000000,\n =>  => H1: no EXTINF for 100.m4s
#EXTINF:2.000000,\n => #EXTINF:2.000000,\n#EXTINF:2.000000,\n => H1: EXTINF twice
#EXTINF:2.000000 => #EXTINF:x => H1: EXTINF x
#EXT-X-PRELOAD => #EXTINF:2.000000,\n#EXT-X-PRELOAD => H1: EXTINF without
20.000Z => 20Z => H12: 1970-01-01T00:03:20Z has no
20.000Z => 20.000 => H12: 1970-01-01T00:03:20.000 has no
#EXT-X-PROGRAM => #EXT-X-MAP:URI="a.mp4"\n#EXT-X-PROGRAM => H1: #EXT-X-MAP twice
URI="init-0.mp4" => URI=init => H1: #EXT-X-MAP: URI=init has no quotes
PART-TARGET=0.50000 => PART-TARGET="0.5" => H1: #EXT-X-PART-INF: PART-TARGET="0.5" is quoted
PART-TARGET=0.50000 => TARGET=0.50000 => H1: #EXT-X-PART-INF: no PART-TARGET
#EXT-X-PART-INF => #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-PART-INF => L1: #EXT-X-PART-INF twice
RELOAD=YES => RELOAD=TRUE => H1: #EXT-X-SERVER-CONTROL: CAN-BLOCK-RELOAD is TRUE
RELOAD=YES => RELOAD=YES,CAN-FLY=YES => H1: #EXT-X-SERVER-CONTROL: CAN-FLY is not known
URI="107.1 => DURATION=0.5,URI="107.1 => H1: #EXT-X-PART: DURATION twice
URI="107.1.m4s" => BYTERANGE="5@0",URI="107.1.m4s" => L12: #EXT-X-PART: BYTERANGE is not
107.0.m4s",INDEPENDENT=YES\n => 107.0.m4s",INDEPENDENT=YES\n#EXT-X-DISCONTINUITY\n => L5: #EXT-X-DISCONTINUITY behind
107.0.m4s",INDEPENDENT=YES\n => 107.0.m4s",INDEPENDENT=YES\n#EXT-X-MAP:URI="b.mp4"\n => L5: #EXT-X-MAP behind
107.m4s\n => #EXT-X-PART:DURATION=0.5,URI="107.4.m4s"\n107.m4s\n => L5: EXT-X-PART between
TYPE=PART => TYPE=FILE => L9: a hint of TYPE=FILE
TYPE=PART, =>  => H1: #EXT-X-PRELOAD-HINT: no TYPE
LAST-PART=1\n => LAST-PART=1\n#EXTINF:2.000000,\n108.m4s\n => L9: #EXTINF:2.000000, behind
"#;

/// Changes of what a playlist says.
const WRONG: &str = r#"
#EXT-X-VERSION:9\n =>  => H2: no EXT-X-VERSION
#EXT-X-VERSION:9 => #EXT-X-VERSION:5 => H2: version 5 below 6
#EXT-X-DISCONTINUITY-SEQUENCE:7\n =>  => H6: no
#EXTINF:2.000000 => #EXTINF:2.500000 => H3: 2500000 us for a target of 2 s (segment 100)
#EXTINF:2.000000 => #EXTINF:2.000 => H11: EXTINF with 3 decimals
#EXTINF:2.000000 => #EXTINF:0.000000 => H11: it lasts no time
\n105.m4s => \n105 => H22: 105 has
\n105.m4s => \n105.cmfx?a=.m4s => H22: 105.cmfx?a=.m4s has
107.1.m4s => 107.1 => H22: 107.1 has
init-0.mp4 => init-0 => H22: init-0 has
#EXT-X-MAP:URI="init-0.mp4"\n =>  => H15: no EXT-X-MAP before it (segment 100)
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:03:22.000Z\n =>  => L11: no EXT-X-PROGRAM-DATE-TIME (segment 101)
22.000Z => 22.003Z => H12: segment 101 is dated 202003 ms, expected 202000 ms
22.000Z => 19.000Z => H12: the date goes back at segment 101
#EXT-X-PART-INF:PART-TARGET=0.50000\n =>  => L1: EXT-X-PART without
#EXT-X-PART-INF:PART-TARGET=0.50000\n =>  => L9: a hint without
0.50000,URI="107.1 => 0.50001,URI="107.1 => L1: part 1 of segment 107 lasts 500010 us, above
0.50000,URI="107.1 => 0.42499,URI="107.1 => L1: part 1 of segment 107 lasts 424990 us, below
0.50000,URI="107.3 => 0.40000,URI="107.3 => L6: the parts of segment 107 last 1900000 us, it 2000000 us
,PART-HOLD-BACK=1.50000 =>  => L2: no PART-HOLD-BACK
PART-HOLD-BACK=1.50000 => PART-HOLD-BACK=1.49999 => L2: PART-HOLD-BACK of 1499990 us
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.50000\n =>  => L2: no PART-HOLD-BACK
,HOLD-BACK=6.0 => ,HOLD-BACK=5.9 => L3: HOLD-BACK of
CAN-SKIP-UNTIL=12.0 => CAN-SKIP-UNTIL=11.9 => L3: CAN-SKIP-UNTIL of
CAN-SKIP-UNTIL=12.0 => CAN-SKIP-DATERANGES=YES => L3: CAN-SKIP-DATERANGES without
107.0.m4s",INDEPENDENT=YES => 107.0.m4s" => L7: the first part of segment 107
#EXTINF:2.000000,\n103 => #EXT-X-PART:DURATION=2.0,URI="103.0.m4s"\n#EXTINF:2.000000,\n103 => L8: segment 103, 9000000 us
CAN-BLOCK-RELOAD=YES, =>  => L9: no CAN-BLOCK-RELOAD
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="108.2.m4s"\n =>  => L9: 0 hints
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="108.2.m4s"\n => #EXT-X-PRELOAD-HINT:TYPE=PART,URI="108.2.m4s"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="108.2.m4s"\n => L9: 2 hints
URI="108.2.m4s" => URI="108.1.m4s" => L9: 108.1.m4s is hinted and listed
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n =>  => L10: 0 reports of 1
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n => #EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n => L10: two reports
../audio => /live/audio => L10: /live/audio/index.m3u8 is not relative
../audio => http://a/audio => L10: http://a/audio/index.m3u8 is not relative
LAST-MSN=108 => LAST-MSN=106 => L10: LAST-MSN of ../audio/index.m3u8 is Some(106)
LAST-MSN=108, =>  => L10: LAST-MSN of ../audio/index.m3u8 is None
,LAST-PART=1 =>  => L10: no LAST-PART
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n => #EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n#EXT-X-ENDLIST\n => L9: a hint beside
#EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n => #EXT-X-RENDITION-REPORT:URI="../audio/index.m3u8",LAST-MSN=108,LAST-PART=1\n#EXT-X-ENDLIST\n => H25: it ends within
"#;

/// Changes of a version after the sample.
const WRONG_AFTER: &str = r#"
TARGETDURATION:2 => TARGETDURATION:3 => H3: the target duration goes from 2 to 3
PART-TARGET=0.5 => PART-TARGET=0.6 => L1: PART-TARGET changes
DISCONTINUITY-SEQUENCE:7 => DISCONTINUITY-SEQUENCE:8 => H6: the discontinuity sequence goes from Some(7) to Some(8) while 0 leave
#EXT-X-DISCONTINUITY\n =>  => H7: Segment
#EXTINF:2.000000 => #EXTINF:1.900000 => H7: Segment
\n103.m4s => \n103.b.m4s => H7: Segment
22.000Z => 22.001Z => H7: Segment
init-1 => init-2 => H7: Segment
#EXTINF => #EXT-X-GAP\n#EXTINF => H7: Segment
URI="107.1.m4s => URI="107.b.m4s => L8: its parts
URI="108.1.m4s => URI="108.b.m4s => L8: its parts
DURATION=0.50000,URI="107.1 => DURATION=0.40000,URI="107.1 => L8: its parts
#EXTINF:2.000000,\n107 => #EXT-X-PART:DURATION=0.5,URI="107.4.m4s"\n#EXTINF:2.000000,\n107 => H7: a complete segment gets
108.2.m4s => 108.c.m4s => L9: 108.2.m4s was hinted, 108.c.m4s came
LAST-MSN=108 => LAST-MSN=107 => L10: the report of ../audio/index.m3u8 goes back
"#;

/// Changes of the same version.
const WRONG_SAME: &str = r#"
URI="108.2.m4s" => URI="109.0.m4s" => L9: the hint 108.2.m4s became
"#;

/// Changes of a version from which the discontinuity has left.
const WRONG_WITHOUT_DISCONTINUITY: &str = r#"
SEQUENCE:8 => SEQUENCE:7 => H6: the discontinuity sequence goes from Some(7) to Some(7) while 1 leave
"#;

/// Changes of a version of another run.
const WRONG_RUN: &str = r#"
SEQUENCE:8 => SEQUENCE:7 => H6: the discontinuity sequence goes from Some(7) to Some(7) with a new run
"#;

/// Short parts that are allowed.
const SHORT_PARTS: &str = r#"
0.50000,URI="107.1.m4s" => 0.10000,URI="107.1.m4s",GAP=YES => L1
0.50000,URI="107.1.m4s" => 0.10000,URI="107.1.m4s",INDEPENDENT=YES => L1
0.50000,URI="108.1 => 0.10000,URI="108.1 => L1
"#;

/// Changes of a delta.
const WRONG_DELTA: &str = r#"
VERSION:9 => VERSION:8 => H2: version Some(8) with EXT-X-SKIP, which needs 9
SKIPPED-SEGMENTS=2 => SKIPPED-SEGMENTS=2,RECENTLY-REMOVED-DATERANGES="" => H2: version Some(9) with EXT-X-SKIP, which needs 10
CAN-SKIP-UNTIL=12.0, =>  => L3: EXT-X-SKIP without CAN-SKIP-UNTIL
CAN-SKIP-UNTIL=12.0 => CAN-SKIP-UNTIL=14.0 => L3: 13000000 us are left
SKIPPED-SEGMENTS=2 => SKIPPED-SEGMENTS=0 => L3: EXT-X-SKIP of no segment
SEQUENCE:100 => SEQUENCE:98 => L3: segment 98 is skipped and not known
"#;

fn media(text: &str) -> Media {
    Media::parse(text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn problems(text: &str) -> Vec<String> {
    match Media::parse(text) {
        Ok(media) => rules::problems(&media, 1),
        Err(problem) => vec![problem],
    }
}

#[track_caller]
fn check(good: &str, table: &'static str) {
    for change in rows(table) {
        change.assert_found(&problems(&change.apply(good)));
    }
}

#[test]
fn good_playlists_pass() {
    for (open, ended, discontinuity) in [
        ((108, 2), false, None),
        ((108, 0), false, None),
        ((108, 4), false, None),
        ((108, 0), true, None),
        ((108, 2), false, Some(104)),
    ] {
        let text = Sample {
            open,
            ended,
            discontinuity,
            ..Sample::default()
        }
        .text();
        assert_eq!(problems(&text), Vec::<String>::new(), "{text}");
    }
    let playlist = media(&Sample::default().text());
    assert_eq!(playlist.position(), (108, 2));
    assert_eq!(playlist.duration_us(), 16_000_000);
    assert_eq!(playlist.hints, ["108.2.m4s"]);
}

#[test]
fn a_playlist_of_broken_form_is_found() {
    let good = Sample::default().text();
    let start = "#EXT-X-START:TIME-OFFSET=-6.0,PRECISE=YES\n#EXT-X-MEDIA-SEQUENCE";
    let also_good = good.replacen("#EXT-X-MEDIA-SEQUENCE", start, 1);
    assert_eq!(problems(&also_good), Vec::<String>::new());
    check(&good, BROKEN_FORM);
}

#[test]
fn a_playlist_that_says_wrong_things_is_found() {
    let good = Sample::default().text();
    check(&good, WRONG);
    let old = good.replacen("VERSION:9", "VERSION:7", 1);
    let gap = "#EXTINF => #EXT-X-GAP\\n#EXTINF => H2: version 7 below 8";
    check(&old, gap);
    // A short part is allowed where the draft says so.
    for change in rows(SHORT_PARTS) {
        let problems = problems(&change.apply(&good));
        let short = problems.iter().any(|problem| problem.starts_with("L1"));
        assert!(!short, "{problems:?}");
    }
}

fn before() -> Sample {
    Sample {
        discontinuity: Some(101),
        ..Sample::default()
    }
}

fn after(first: u64, open: (u64, usize)) -> Sample {
    Sample {
        first,
        open,
        ..before()
    }
}

#[track_caller]
fn follows(before: &Sample, after: &str, expected: &str) {
    let problems = succession::problems(&media(&before.text()), &media(after));
    if expected.is_empty() {
        assert_eq!(problems, Vec::<String>::new(), "{after}");
    } else {
        let found = problems.iter().any(|problem| problem.starts_with(expected));
        assert!(found, "{expected}, not {problems:?}\n{after}");
    }
}

#[test]
fn versions_may_only_go_on() {
    for (first, open, expected) in [
        (100, (108, 2), ""),
        (100, (108, 3), ""),
        (100, (109, 0), ""),
        (101, (110, 1), ""),
        (102, (110, 0), ""),
        (104, (109, 0), ""),
        (
            99,
            (108, 2),
            "H5: the media sequence goes back from 100 to 99",
        ),
        (
            100,
            (108, 1),
            "H7: it went to (108, 2), now it goes to (108, 1)",
        ),
        (
            107,
            (109, 0),
            "H8: a segment is removed and only 4000000 us",
        ),
        // Another run: nothing in common but that numbers go up.
        (200, (208, 0), ""),
    ] {
        follows(&before(), &after(first, open).text(), expected);
    }
    let ended = Sample {
        ended: true,
        ..after(100, (109, 0))
    };
    follows(&before(), &ended.text(), "");
    follows(&ended, &ended.text(), "");
    let more = after(100, (110, 0)).text();
    follows(&ended, &more, "H25: it changes after its end");
}

#[test]
fn versions_that_change_what_was_said_are_found() {
    for (version, table) in [
        (after(100, (108, 3)), WRONG_AFTER),
        (before(), WRONG_SAME),
        (after(102, (109, 0)), WRONG_WITHOUT_DISCONTINUITY),
        (after(200, (208, 0)), WRONG_RUN),
    ] {
        for change in rows(table) {
            follows(&before(), &change.apply(&version.text()), change.expected);
        }
    }
    let text = before().text();
    let open = text.find("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:03:36");
    let gone = &text[..open.expect("segment 108")];
    follows(&before(), gone, "H7: segment 108 is no longer listed");
}

#[test]
fn deltas_stand_for_the_full_playlist() {
    for discontinuity in [None, Some(101), Some(104), Some(107)] {
        let known = Sample {
            discontinuity,
            ..Sample::default()
        };
        let next = Sample {
            first: 101,
            open: (109, 1),
            ..known.clone()
        };
        let delta = Sample {
            skipped: 1,
            ..next.clone()
        };
        let known = media(&known.text());
        let full = expand(&media(&delta.text()), &known).expect("it is good");
        assert_eq!(full, media(&next.text()), "{discontinuity:?}");
        assert_eq!(succession::problems(&known, &full), Vec::<String>::new());
    }
    let known = media(&Sample::default().text());
    let delta = Sample {
        skipped: 2,
        ..Sample::default()
    };
    for change in rows(WRONG_DELTA) {
        let delta = media(&change.apply(&delta.text()));
        let problem = expand(&delta, &known).expect_err(change.expected);
        change.assert_found(&[problem]);
    }
}
