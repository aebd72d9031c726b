//! What one version of a media playlist must say.
//!
//! Owns: CONFORMANCE H2, H3, H6, H11, H12, H15, H22, H25, L1–L3 and L6–L11 as far as one playlist shows them. Each
//! problem begins with its row.

use super::media::{Media, Segment};

/// How far a date may be from the one before plus a duration: it is rounded to milliseconds.
const DATE_MS_MAX: i64 = 2;
/// How much longer than the target duration a segment may be (Apple).
const OVER_TARGET_US_MAX: i64 = 500_000;
/// A duration has five decimals or more (H11); what one may be off.
const DECIMALS_MIN: usize = 5;
const ROUNDED_US_MAX: i64 = 10;
/// What players take for a segment or a part, and for an init object (H22).
const SEGMENT_EXTENSIONS: [&str; 6] = [".m4s", ".ts", ".mp4", ".aac", ".cmfv", ".cmfa"];
const MAP_EXTENSION: &str = ".mp4";

/// Everything that is wrong with a playlist by itself, which is no delta. `siblings` is how many other media playlists
/// the stream has.
pub(crate) fn problems(media: &Media, siblings: usize) -> Vec<String> {
    let mut found = Found::default();
    version(&mut found, media);
    found.need(media.discontinuity_sequence.is_some(), || {
        "H6: no EXT-X-DISCONTINUITY-SEQUENCE".into()
    });
    for (msn, segment) in media.numbered() {
        let mut of_segment = Found::default();
        check_segment(&mut of_segment, media, segment);
        let named = |problem: String| format!("{problem} (segment {msn})");
        found.0.extend(of_segment.0.into_iter().map(named));
    }
    dates(&mut found, media);
    control(&mut found, media);
    if media.part_target_us.is_some() {
        low_latency(&mut found, media, siblings);
    } else {
        let parts = media
            .numbered()
            .any(|(_, segment)| !segment.parts.is_empty());
        found.need(!parts, || "L1: EXT-X-PART without EXT-X-PART-INF".into());
        found.need(media.hints.is_empty(), || {
            "L9: a hint without EXT-X-PART-INF".into()
        });
    }
    if media.ended {
        found.need(media.hints.is_empty(), || {
            "L9: a hint beside EXT-X-ENDLIST".into()
        });
        found.need(media.open.is_none(), || {
            "H25: it ends within a segment".into()
        });
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn need(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }
}

fn version(found: &mut Found, media: &Media) {
    let any = |says: fn(&Segment) -> bool| media.numbered().any(|(_, segment)| says(segment));
    let floor = if any(|segment| segment.gap) {
        8
    } else if any(|segment| segment.map.is_some()) {
        6
    } else {
        3
    };
    let version = media.version.unwrap_or_default();
    found.need(media.version.is_some(), || "H2: no EXT-X-VERSION".into());
    found.need(version >= floor, || {
        format!("H2: version {version} below {floor}")
    });
}

fn check_segment(found: &mut Found, media: &Media, segment: &Segment) {
    let target_us = media.target_s.saturating_mul(1_000_000);
    let complete = !segment.uri.is_empty();
    let duration_us = segment.duration_us;
    if complete {
        found.need(duration_us > 0, || "H11: it lasts no time".into());
        let rounded_s = (duration_us + 500_000) / 1_000_000;
        found.need(
            rounded_s <= media.target_s && duration_us <= target_us + OVER_TARGET_US_MAX,
            || format!("H3: {duration_us} us for a target of {} s", media.target_s),
        );
        found.need(segment.decimals >= DECIMALS_MIN, || {
            format!("H11: EXTINF with {} decimals", segment.decimals)
        });
        found.need(extension(&segment.uri, &SEGMENT_EXTENSIONS), || {
            format!("H22: {} has an extension that players refuse", segment.uri)
        });
    }
    if let Some(map) = &segment.map {
        found.need(extension(map, &[MAP_EXTENSION]), || {
            format!("H22: {map} has an extension that players refuse")
        });
    } else {
        let packed = extension(&segment.uri, &[".ts", ".aac"]);
        let fragments = if complete {
            !packed
        } else {
            !segment.parts.is_empty()
        };
        found.need(!fragments, || "H15: no EXT-X-MAP before it".into());
    }
    let row = if media.part_target_us.is_some() {
        "L11"
    } else {
        "H12"
    };
    found.need(segment.date_ms.is_some(), || {
        format!("{row}: no EXT-X-PROGRAM-DATE-TIME")
    });
}

fn extension(uri: &str, known: &[&str]) -> bool {
    let path = uri.split('?').next().unwrap_or_default();
    known.iter().any(|extension| path.ends_with(extension))
}

fn dates(found: &mut Found, media: &Media) {
    let dated: Vec<_> = media.numbered().collect();
    for pair in dated.windows(2) {
        let [(_, before), (msn, after)] = pair else {
            continue;
        };
        let (Some(first_ms), Some(date_ms)) = (before.date_ms, after.date_ms) else {
            continue;
        };
        let expected_ms = first_ms + before.duration_us / 1_000;
        let apart_ms = (date_ms - expected_ms).abs();
        found.need(after.discontinuity || apart_ms <= DATE_MS_MAX, || {
            format!("H12: segment {msn} is dated {date_ms} ms, expected {expected_ms} ms")
        });
        found.need(date_ms >= first_ms, || {
            format!("H12: the date goes back at segment {msn}")
        });
    }
}

fn control(found: &mut Found, media: &Media) {
    let Some(control) = media.control else { return };
    let target_us = media.target_s.saturating_mul(1_000_000);
    if let Some(hold_back_us) = control.hold_back_us {
        found.need(hold_back_us >= 3 * target_us, || {
            format!("L3: HOLD-BACK of {hold_back_us} us below 3 target durations")
        });
    }
    if let Some(skip_until_us) = control.skip_until_us {
        found.need(skip_until_us >= 6 * target_us, || {
            format!("L3: CAN-SKIP-UNTIL of {skip_until_us} us below 6 target durations")
        });
    }
    found.need(
        !control.skip_dateranges || control.skip_until_us.is_some(),
        || "L3: CAN-SKIP-DATERANGES without CAN-SKIP-UNTIL".into(),
    );
}

fn low_latency(found: &mut Found, media: &Media, siblings: usize) {
    let part_target_us = media.part_target_us.unwrap_or_default();
    let control = media.control.unwrap_or_default();
    found.need(control.can_block || media.ended, || {
        "L9: no CAN-BLOCK-RELOAD=YES".into()
    });
    match control.part_hold_back_us {
        Some(hold_back_us) => found.need(hold_back_us >= 3 * part_target_us, || {
            format!("L2: PART-HOLD-BACK of {hold_back_us} us below 3 part targets")
        }),
        None => found.need(false, || "L2: no PART-HOLD-BACK".into()),
    }
    for (msn, segment) in media.numbered() {
        part_durations(found, part_target_us, msn, segment);
        let first = segment.parts.first();
        let decodable = first.is_none_or(|part| part.independent || part.gap);
        found.need(!media.independent || decodable, || {
            format!("L7: the first part of segment {msn} is not INDEPENDENT")
        });
    }
    old_parts(found, media);
    if media.ended {
        return;
    }
    found.need(media.hints.len() == 1, || {
        format!("L9: {} hints of parts", media.hints.len())
    });
    let parts = media.numbered().flat_map(|(_, segment)| &segment.parts);
    for part in parts.filter(|part| media.hints.contains(&part.uri)) {
        found.need(false, || format!("L9: {} is hinted and listed", part.uri));
    }
    reports(found, media, siblings);
}

/// L1, and L6 of the durations.
fn part_durations(found: &mut Found, part_target_us: i64, msn: u64, segment: &Segment) {
    let mut total_us = 0;
    for (at, part) in segment.parts.iter().enumerate() {
        let duration_us = part.duration_us;
        total_us += duration_us;
        found.need(duration_us <= part_target_us, || {
            format!("L1: part {at} of segment {msn} lasts {duration_us} us, above PART-TARGET")
        });
        // The last part of a segment may be short; so may the newest, which can turn out to be the last.
        let next = segment.parts.get(at + 1);
        let exempt = part.independent || part.gap || next.is_none_or(|next| next.gap);
        found.need(exempt || duration_us * 100 >= part_target_us * 85, || {
            format!(
                "L1: part {at} of segment {msn} lasts {duration_us} us, below 85 % of PART-TARGET"
            )
        });
        found.need(extension(&part.uri, &SEGMENT_EXTENSIONS), || {
            format!("H22: {} has an extension that players refuse", part.uri)
        });
    }
    let whole = !segment.uri.is_empty() && !segment.parts.is_empty();
    let rounded_us = ROUNDED_US_MAX * (1 + segment.parts.len() as i64);
    found.need(
        !whole || (total_us - segment.duration_us).abs() <= rounded_us,
        || {
            format!(
                "L6: the parts of segment {msn} last {total_us} us, it {} us",
                segment.duration_us
            )
        },
    );
}

/// L8: no parts far from the end.
fn old_parts(found: &mut Found, media: &Media) {
    let open = media.open.iter().flat_map(|open| &open.parts);
    let mut behind_us: i64 = open.map(|part| part.duration_us).sum();
    for (msn, segment) in media.numbered().collect::<Vec<_>>().into_iter().rev() {
        if segment.uri.is_empty() {
            continue;
        }
        let old = behind_us > media.target_s.saturating_mul(3_000_000);
        found.need(!old || segment.parts.is_empty(), || {
            format!("L8: segment {msn}, {behind_us} us from the end, still lists parts")
        });
        behind_us += segment.duration_us;
    }
}

/// L10.
fn reports(found: &mut Found, media: &Media, siblings: usize) {
    found.need(media.reports.len() == siblings, || {
        format!(
            "L10: {} reports of {siblings} renditions",
            media.reports.len()
        )
    });
    let last_msn = match media.position() {
        (open_msn, 0) => open_msn.saturating_sub(1),
        (open_msn, _) => open_msn,
    };
    for (at, report) in media.reports.iter().enumerate() {
        let uri = &report.uri;
        let relative = !uri.is_empty() && !uri.starts_with('/') && !uri.contains("://");
        found.need(relative, || format!("L10: {uri} is not relative"));
        let twice = media.reports[..at].iter().any(|other| other.uri == *uri);
        found.need(!twice, || format!("L10: two reports of {uri}"));
        found.need(report.last_part.is_some(), || {
            format!("L10: no LAST-PART of {uri}")
        });
        let near = report
            .last_msn
            .is_some_and(|msn| msn.abs_diff(last_msn) <= 1);
        found.need(near, || {
            let said = report.last_msn;
            format!("L10: LAST-MSN of {uri} is {said:?} while this goes to {last_msn}")
        });
    }
}
