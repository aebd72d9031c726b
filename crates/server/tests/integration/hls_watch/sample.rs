//! A good low-latency media playlist, made by hand: what the rules must let pass, and what tests break.
//!
//! Owns: playlists of segments of 2 s with four parts each. Segment `n` begins `n` times 2 s after the Unix epoch.

use std::fmt::Write as _;

pub(super) const TARGET_S: u64 = 2;
pub(crate) const PARTS: usize = 4;
/// Segments whose parts are still listed.
const WITH_PARTS: u64 = 3;

/// What one version of the playlist shows.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// The first segment.
    pub(super) first: u64,
    /// The segment that is not complete, and how many parts of it there are.
    pub(super) open: (u64, usize),
    /// The segment that begins after a discontinuity.
    pub(super) discontinuity: Option<u64>,
    /// How many segments a delta leaves out.
    pub(super) skipped: u64,
    pub(super) sibling: &'static str,
    pub(super) ended: bool,
}

impl Default for Sample {
    /// Segments 100 to 107 and two parts of 108.
    fn default() -> Self {
        Self {
            first: 100,
            open: (108, 2),
            discontinuity: None,
            skipped: 0,
            sibling: "audio",
            ended: false,
        }
    }
}

impl Sample {
    pub(super) fn text(&self) -> String {
        let (open, parts) = self.open;
        let gone = self.discontinuity.is_some_and(|msn| msn < self.first);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{TARGET_S}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.50000\n\
             #EXT-X-PART-INF:PART-TARGET=0.50000\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
            self.first,
            7 + u64::from(gone)
        );
        if self.skipped > 0 {
            let _ = writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={}", self.skipped);
        }
        let first = self.first + self.skipped;
        let end = open + u64::from(parts > 0 && !self.ended);
        for msn in first..end {
            if self.discontinuity == Some(msn) {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if msn == first || self.discontinuity == Some(msn) {
                let _ = writeln!(text, "#EXT-X-MAP:URI=\"init-{}.mp4\"", self.init(msn));
            }
            let (minutes, seconds) = (msn * TARGET_S / 60, msn * TARGET_S % 60);
            let _ = writeln!(
                text,
                "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:{minutes:02}:{seconds:02}.000Z"
            );
            let count = if msn == open { parts } else { PARTS };
            let listed = if msn + WITH_PARTS < open { 0 } else { count };
            for part in 0..listed {
                let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                let uri = format!("{msn}.{part}.m4s");
                let _ = writeln!(
                    text,
                    "#EXT-X-PART:DURATION=0.50000,URI=\"{uri}\"{independent}"
                );
            }
            if msn < open {
                let _ = writeln!(text, "#EXTINF:2.000000,\n{msn}.m4s");
            }
        }
        if self.ended {
            return text + "#EXT-X-ENDLIST\n";
        }
        let _ = writeln!(
            text,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{open}.{parts}.m4s\""
        );
        let (last_msn, last_part) = match parts {
            0 => (open - 1, PARTS - 1),
            parts => (open, parts - 1),
        };
        let _ = writeln!(
            text,
            "#EXT-X-RENDITION-REPORT:URI=\"../{}/index.m3u8\",LAST-MSN={last_msn},LAST-PART={last_part}",
            self.sibling
        );
        text
    }

    /// Which init object is in force.
    pub(super) fn init(&self, msn: u64) -> u64 {
        u64::from(self.discontinuity.is_some_and(|at| at <= msn))
    }
}
