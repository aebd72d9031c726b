//! What one version of a media playlist may do to the one before, and what a delta stands for.
//!
//! Owns: CONFORMANCE H3, H5–H8, H25, L1, L8, L9 and L10 over two versions. Each problem begins with its row.

use super::media::{Media, Segment};

/// The full playlist that a delta (EXT-X-SKIP) stands for, to whoever knows `known`.
pub(crate) fn expand(delta: &Media, known: &Media) -> Result<Media, String> {
    let Some((skipped, dateranges)) = delta.skipped else {
        return Ok(delta.clone());
    };
    let (floor, version) = (if dateranges { 10 } else { 9 }, delta.version);
    if version.unwrap_or_default() < floor {
        return Err(format!(
            "H2: version {version:?} with EXT-X-SKIP, which needs {floor}"
        ));
    }
    let until_us = delta.control.and_then(|control| control.skip_until_us);
    let until_us = until_us.ok_or("L3: EXT-X-SKIP without CAN-SKIP-UNTIL")?;
    if skipped == 0 {
        return Err("L3: EXT-X-SKIP of no segment".into());
    }
    let open = delta.open.iter().flat_map(|open| &open.parts);
    let kept_us = delta.duration_us() + open.map(|part| part.duration_us).sum::<i64>();
    if kept_us < until_us {
        return Err(format!(
            "L3: {kept_us} us are left, CAN-SKIP-UNTIL is {until_us} us"
        ));
    }
    let mut segments = Vec::new();
    for msn in delta.media_sequence..delta.media_sequence + skipped {
        let segment = known.segment(msn).filter(|segment| !segment.uri.is_empty());
        // Whoever was so far behind must not ask for a delta.
        let mut segment = segment
            .ok_or(format!("L3: segment {msn} is skipped and not known"))?
            .clone();
        segment.parts.clear();
        segments.push(segment);
    }
    let map = segments.last().and_then(|segment| segment.map.clone());
    let mut full = delta.clone();
    for segment in full.segments.iter_mut().chain(&mut full.open) {
        // Up to the first EXT-X-MAP that the delta repeats, the one before it is in force.
        if segment.map.is_none() {
            segment.map.clone_from(&map);
        }
    }
    segments.append(&mut full.segments);
    full.segments = segments;
    full.skipped = None;
    Ok(full)
}

/// Everything that a version does to the one before it and must not. Versions of two runs, which have no segment in
/// common, may only go up.
pub(crate) fn problems(before: &Media, after: &Media) -> Vec<String> {
    let (first, second) = (before.media_sequence, after.media_sequence);
    if second < first {
        return vec![format!(
            "H5: the media sequence goes back from {first} to {second}"
        )];
    }
    if second > before.open_msn() {
        return new_run(before, after);
    }
    let mut problems = Vec::new();
    if before.target_s != after.target_s {
        let (first, second) = (before.target_s, after.target_s);
        problems.push(format!(
            "H3: the target duration goes from {first} to {second}"
        ));
    }
    if before.part_target_us != after.part_target_us {
        problems.push("L1: PART-TARGET changes".into());
    }
    if before.ended && before != after {
        problems.push("H25: it changes after its end".into());
    }
    discontinuities(&mut problems, before, after);
    if second > first && after.duration_us() < after.target_s.saturating_mul(3_000_000) {
        let left_us = after.duration_us();
        problems.push(format!(
            "H8: a segment is removed and only {left_us} us are left"
        ));
    }
    if after.position() < before.position() {
        let (first, second) = (before.position(), after.position());
        problems.push(format!(
            "H7: it went to {first:?}, now it goes to {second:?} only"
        ));
    }
    for (msn, old) in before.numbered().filter(|(msn, _)| *msn >= second) {
        let Some(new) = after.segment(msn) else {
            // What was open and has no part yet is only a promise.
            if !old.uri.is_empty() || !old.parts.is_empty() {
                problems.push(format!("H7: segment {msn} is no longer listed"));
            }
            continue;
        };
        problems.extend(changed(old, new).map(|problem| format!("{problem} (segment {msn})")));
    }
    hint(&mut problems, before, after);
    reports(&mut problems, before, after);
    problems
}

fn new_run(before: &Media, after: &Media) -> Vec<String> {
    let (first, second) = (before.discontinuity_sequence, after.discontinuity_sequence);
    if second > first {
        return Vec::new();
    }
    vec![format!(
        "H6: the discontinuity sequence goes from {first:?} to {second:?} with a new run"
    )]
}

fn discontinuities(problems: &mut Vec<String>, before: &Media, after: &Media) {
    let gone = before
        .numbered()
        .take_while(|(msn, _)| *msn < after.media_sequence);
    let passed = gone.filter(|(_, segment)| segment.discontinuity).count() as u64;
    let (first, second) = (before.discontinuity_sequence, after.discontinuity_sequence);
    if second != first.map(|first| first + passed) {
        problems.push(format!(
            "H6: the discontinuity sequence goes from {first:?} to {second:?} while {passed} leave"
        ));
    }
}

/// What changed of a segment and must not.
fn changed(old: &Segment, new: &Segment) -> Option<String> {
    let tags = |segment: &Segment| {
        let map = segment.map.clone();
        (map, segment.date_ms, segment.discontinuity)
    };
    if tags(old) != tags(new) {
        return Some(format!("H7: {old:?} became {new:?}"));
    }
    let complete = !old.uri.is_empty();
    let said = |segment: &Segment| (segment.uri.clone(), segment.duration_us, segment.gap);
    if complete && said(old) != said(new) {
        return Some(format!("H7: {old:?} became {new:?}"));
    }
    // Parts leave all at once, when their segment is old.
    let left = complete && new.parts.is_empty();
    if !left && !new.parts.starts_with(&old.parts) {
        return Some(format!(
            "L8: its parts {:?} became {:?}",
            old.parts, new.parts
        ));
    }
    (complete && !left && new.parts.len() != old.parts.len())
        .then(|| "H7: a complete segment gets another part".into())
}

/// L9: what was hinted is what came.
fn hint(problems: &mut Vec<String>, before: &Media, after: &Media) {
    let [hint] = &before.hints[..] else { return };
    let Some(came) = next_part(before, after) else {
        if after.position() == before.position() && !after.ended && after.hints != before.hints {
            problems.push(format!("L9: the hint {hint} became {:?}", after.hints));
        }
        return;
    };
    let (open_msn, _) = before.position();
    let same_segment = came.0 == open_msn;
    // A segment that ended where a part had been promised leaves its hint behind.
    if came.1 != hint && same_segment {
        problems.push(format!("L9: {hint} was hinted, {} came", came.1));
    }
}

/// The segment and the URI of the part that followed the last one of `before`.
pub(crate) fn next_part<'a>(before: &Media, after: &'a Media) -> Option<(u64, &'a str)> {
    let (msn, parts) = before.position();
    let of = |msn, at: usize| {
        let part = after.segment(msn)?.parts.get(at)?;
        Some((msn, part.uri.as_str()))
    };
    of(msn, parts).or_else(|| of(msn + 1, 0))
}

fn reports(problems: &mut Vec<String>, before: &Media, after: &Media) {
    for report in &after.reports {
        let older = before.reports.iter().find(|older| older.uri == report.uri);
        let at = (report.last_msn, report.last_part);
        if let Some(older) = older.filter(|older| (older.last_msn, older.last_part) > at) {
            problems.push(format!(
                "L10: the report of {} goes back from {older:?} to {at:?}",
                report.uri
            ));
        }
    }
}
