//! Names of objects.
//!
//! Owns: how a segment, a part or an init object is called in playlists, manifests, URLs and files. The run is part of
//! every name, so that none is ever used for other bytes (CONTRACT 1.7).
//! Does not own: which objects there are ([`crate::window`]).

use std::fmt::{self, Display};

use crate::window::Init;

/// The name of a segment within its rendition. The run is part of it, so it is never used for other bytes.
#[must_use]
pub fn segment_name(run: &str, msn: u64) -> String {
    ObjectName::Segment { run, msn }.to_string()
}

/// The name of a segment within its rendition for those who know when it is presented: `time` is where its
/// [`Span`](crate::window::Span) starts. That alone would not do: another sample rate counts other ticks.
#[must_use]
pub fn timed_segment_name(run: &str, discontinuity: u64, time: impl Display) -> String {
    format!("{run}-{discontinuity}-{time}.m4s")
}

/// The name of an MPEG-TS segment beside the playlists of its stream.
#[must_use]
pub fn ts_segment_name(run: &str, msn: u64) -> String {
    ObjectName::TsSegment { run, msn }.to_string()
}

/// The name of an init object within its rendition.
#[must_use]
pub fn init_name(run: &str, init: &Init) -> String {
    let discontinuity = init.discontinuity;
    ObjectName::Init { run, discontinuity }.to_string()
}

/// The name of a part within its rendition: that of its segment with the part's number in it, from 0.
#[must_use]
pub fn part_name(run: &str, msn: u64, part: u64) -> String {
    ObjectName::Part { run, msn, part }.to_string()
}

/// What an object name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectName<'a> {
    /// The segment of a media sequence number.
    Segment {
        /// The run.
        run: &'a str,
        /// Media sequence number.
        msn: u64,
    },
    /// The segment that is presented at a time.
    TimedSegment {
        /// The run.
        run: &'a str,
        /// Discontinuity sequence number.
        discontinuity: u64,
        /// Where it starts, ticks.
        time: u64,
    },
    /// A part of the segment of a media sequence number.
    Part {
        /// The run.
        run: &'a str,
        /// Media sequence number.
        msn: u64,
        /// Number within the segment, from 0.
        part: u64,
    },
    /// The MPEG-TS segment of a media sequence number.
    TsSegment {
        /// The run.
        run: &'a str,
        /// Media sequence number.
        msn: u64,
    },
    /// The init object of a discontinuity sequence number.
    Init {
        /// The run.
        run: &'a str,
        /// Discontinuity sequence number.
        discontinuity: u64,
    },
}

impl<'a> ObjectName<'a> {
    /// Reads a name that one of the functions beside made; none for any other text.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("init-") {
            let (run, discontinuity) = rest.strip_suffix(".mp4")?.split_once('-')?;
            return Some(Self::Init {
                run,
                discontinuity: decimal(discontinuity)?,
            });
        }
        if let Some(rest) = name.strip_suffix(".ts") {
            let (run, msn) = rest.split_once('-')?;
            return Some(Self::TsSegment {
                run,
                msn: decimal(msn)?,
            });
        }
        let (run, msn) = name.strip_suffix(".m4s")?.split_once('-')?;
        if let Some((msn, part)) = msn.split_once('.') {
            return Some(Self::Part {
                run,
                msn: decimal(msn)?,
                part: decimal(part)?,
            });
        }
        if let Some((discontinuity, time)) = msn.split_once('-') {
            return Some(Self::TimedSegment {
                run,
                discontinuity: decimal(discontinuity)?,
                time: decimal(time)?,
            });
        }
        Some(Self::Segment {
            run,
            msn: decimal(msn)?,
        })
    }
}

/// The name as it stands in playlists, URLs and files.
impl Display for ObjectName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { run, msn } => write!(f, "{run}-{msn}.m4s"),
            Self::TimedSegment {
                run,
                discontinuity,
                time,
            } => f.write_str(&timed_segment_name(run, *discontinuity, time)),
            Self::Part { run, msn, part } => write!(f, "{run}-{msn}.{part}.m4s"),
            Self::TsSegment { run, msn } => write!(f, "{run}-{msn}.ts"),
            Self::Init { run, discontinuity } => write!(f, "init-{run}-{discontinuity}.mp4"),
        }
    }
}

/// A number as we print it: no sign, no leading zero, so that an object has one name only.
fn decimal(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn object_names_have_one_spelling() {
        let segment = |run, msn| Some(ObjectName::Segment { run, msn });
        let part = |run, msn, part| Some(ObjectName::Part { run, msn, part });
        let init = |run, discontinuity| Some(ObjectName::Init { run, discontinuity });
        let check = |name, expected| assert_eq!(ObjectName::parse(name), expected, "{name:?}");
        check("a1-0.m4s", segment("a1", 0));
        check("a1-18446744073709551615.m4s", segment("a1", u64::MAX));
        check("init-a1-7.mp4", init("a1", 7));
        check("a1-5.0.m4s", part("a1", 5, 0));
        check("a1-5.17.m4s", part("a1", 5, 17));
        let timed = |run, discontinuity, time| {
            Some(ObjectName::TimedSegment {
                run,
                discontinuity,
                time,
            })
        };
        check("a1-7-0.m4s", timed("a1", 7, 0));
        check("a1-7-180000.m4s", timed("a1", 7, 180_000));
        for name in [
            "",
            ".m4s",
            "-.m4s",
            "a1.m4s",
            "a1-.m4s",
            "a1-01.m4s",
            "a1-+1.m4s",
            "a1--1.m4s",
            "a1-1.mp4",
            "a1-1",
            "a1-18446744073709551616.m4s",
            "a1-1.m4s ",
            "init-a1-.mp4",
            "init-a1-1.m4s",
            "init-1.mp4",
            "init-a1-00.mp4",
            "a1-\u{664}.m4s",
            "a-b-1.m4s",
            "a1-7-.m4s",
            "a1--7.m4s",
            "a1-7-08.m4s",
            "a1-7-1-1.m4s",
            "a1-7-1.0.m4s",
            "a1-7-1.ts",
            "a1-5..m4s",
            "a1-5.00.m4s",
            "a1-5.1.2.m4s",
            "a1-.1.m4s",
            "a1-5.1.ts",
        ] {
            check(name, None);
        }
    }

    proptest! {
        #[test]
        fn object_names_read_back(run in "[0-9a-z]{1,16}", number: u64, part: u64) {
            prop_assume!(run != "init");
            let name = segment_name(&run, number);
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::Segment { run: &run, msn: number }));
            let name = part_name(&run, number, part);
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::Part { run: &run, msn: number, part }));
            let name = timed_segment_name(&run, part, number);
            let timed = ObjectName::TimedSegment { run: &run, discontinuity: part, time: number };
            prop_assert_eq!(ObjectName::parse(&name), Some(timed));
            let name = ts_segment_name(&run, number);
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::TsSegment { run: &run, msn: number }));
            let name = format!("init-{run}-{number}.mp4");
            prop_assert_eq!(ObjectName::parse(&name), Some(ObjectName::Init { run: &run, discontinuity: number }));
        }

        #[test]
        fn other_names_are_refused_or_canonical(name in "(init-)?[0-9a-z-]{0,6}-?[0-9]{0,22}\\.?([0-9]{0,3}\\.)?(m4s|mp4|ts)?|\\PC*") {
            match ObjectName::parse(&name) {
                Some(ObjectName::Segment { run, msn }) => prop_assert_eq!(segment_name(run, msn), name),
                Some(ObjectName::Part { run, msn, part }) => prop_assert_eq!(part_name(run, msn, part), name),
                Some(ObjectName::TimedSegment { run, discontinuity, time }) => {
                    prop_assert_eq!(timed_segment_name(run, discontinuity, time), name);
                }
                Some(ObjectName::TsSegment { run, msn }) => prop_assert_eq!(ts_segment_name(run, msn), name),
                Some(ObjectName::Init { run, discontinuity }) => {
                    prop_assert_eq!(format!("init-{run}-{discontinuity}.mp4"), name);
                }
                None => {}
            }
        }
    }
}
