//! What a manifest must say, and what one version may do to the one before (CONFORMANCE D2–D5, D7–D10, D13, D15). Each
//! problem begins with its row.

use std::collections::BTreeSet;

use super::mpd::{AdaptationSet, Mpd, Period, Representation, Template};

const PROFILE: &str = "urn:mpeg:dash:profile:isoff-live:2011";
const PROFILE_LOW_LATENCY: &str = "http://www.dashif.org/guidelines/low-latency-live-v5";
/// Clocks that browsers can ask (D5).
const CLOCKS: [&str; 4] = [
    "urn:mpeg:dash:utc:http-xsdate:2014",
    "urn:mpeg:dash:utc:http-iso:2014",
    "urn:mpeg:dash:utc:http-head:2014",
    "urn:mpeg:dash:utc:direct:2014",
];
/// How far a Period may reach into the next one: an AAC frame at 8 kHz, which no cut can divide.
const OVERLAP_US_MAX: i64 = 128_000;

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn need(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }
}

/// Everything that is wrong with a manifest by itself.
pub(crate) fn problems(mpd: &Mpd) -> Vec<String> {
    let mut found = Found::default();
    found.need(
        mpd.profiles.split(',').any(|profile| profile == PROFILE),
        || format!("D8: profiles {}", mpd.profiles),
    );
    found.need(mpd.buffer_us.is_some(), || "D2: no minBufferTime".into());
    if mpd.dynamic {
        dynamic(&mut found, mpd);
    } else {
        found.need(mpd.presentation_us.is_some(), || {
            "D13: static without mediaPresentationDuration".into()
        });
        found.need(mpd.update_us.is_none(), || {
            "D13: static with minimumUpdatePeriod".into()
        });
    }
    periods(&mut found, mpd);
    if mpd.is_low_latency() {
        low_latency(&mut found, mpd);
    }
    found.0
}

fn dynamic(found: &mut Found, mpd: &Mpd) {
    found.need(mpd.available_ms == Some(0), || {
        "D2: availabilityStartTime is not the unix epoch".into()
    });
    for (there, name) in [
        (mpd.published_ms.is_some(), "publishTime"),
        (mpd.update_us.is_some(), "minimumUpdatePeriod"),
        (mpd.depth_us.is_some(), "timeShiftBufferDepth"),
        (mpd.longest_us.is_some(), "maxSegmentDuration"),
        (mpd.delay_us.is_some(), "suggestedPresentationDelay"),
    ] {
        found.need(there, || format!("D2: no {name}"));
    }
    found.need(mpd.presentation_us.is_none(), || {
        "D13: dynamic with mediaPresentationDuration".into()
    });
    let durations = mpd.templates().flat_map(|template| {
        template
            .segments
            .iter()
            .map(|(_, duration)| template.us(*duration))
    });
    let longest_us = durations.max().unwrap_or(0);
    found.need(mpd.longest_us.is_none_or(|said| said >= longest_us), || {
        format!(
            "D2: maxSegmentDuration is {:?}, a segment lasts {longest_us} us",
            mpd.longest_us
        )
    });
    found.need(
        mpd.update_us.is_none_or(|update| update <= longest_us),
        || {
            format!(
                "D2: minimumUpdatePeriod is {:?}, segments last {longest_us} us",
                mpd.update_us
            )
        },
    );
    found.need(!mpd.clocks.is_empty(), || "D5: no UTCTiming".into());
    let usable = mpd
        .clocks
        .iter()
        .any(|(scheme, value)| CLOCKS.contains(&&**scheme) && !value.is_empty());
    found.need(usable || mpd.clocks.is_empty(), || {
        format!("D5: no clock for browsers: {:?}", mpd.clocks)
    });
}

fn periods(found: &mut Found, mpd: &Mpd) {
    found.need(!mpd.periods.is_empty(), || "D4: no Period".into());
    let mut ids = BTreeSet::new();
    for period in &mpd.periods {
        found.need(period.id.as_ref().is_some_and(|id| ids.insert(id)), || {
            format!("D4: Period id {:?} is missing or there twice", period.id)
        });
        found.need(period.start_us.is_some(), || {
            format!("D4: no start of Period {:?}", period.id)
        });
        let mut ids = BTreeSet::new();
        for set in &period.sets {
            check_set(found, set);
            for representation in &set.representations {
                found.need(ids.insert(&representation.id), || {
                    format!("D7: Representation {} twice", representation.id)
                });
            }
        }
    }
    for pair in mpd.periods.windows(2) {
        let (Some(start_us), Some(end_us)) = (pair[1].start_us, end_us(&pair[0])) else {
            continue;
        };
        found.need(end_us <= start_us + OVERLAP_US_MAX, || {
            format!(
                "D4: Period {:?} goes to {end_us} us, the next starts at {start_us} us",
                pair[0].id
            )
        });
    }
}

/// When the last segment of a Period ends.
fn end_us(period: &Period) -> Option<i64> {
    let start_us = period.start_us?;
    let templates = period.sets.iter().flat_map(|set| &set.representations);
    let ends = templates.filter_map(|representation| {
        let template = &representation.template;
        let (start, duration) = template.segments.last()?;
        Some(start_us + template.us(start + duration) - template.us(template.offset))
    });
    ends.max()
}

fn check_set(found: &mut Found, set: &AdaptationSet) {
    let kind = set.kind.as_deref().unwrap_or_default();
    found.need(!kind.is_empty(), || "D7: no contentType".into());
    found.need(set.aligned, || format!("D7: {kind}: no segmentAlignment"));
    found.need(set.begins_with_sap, || {
        format!("D7: {kind}: no startWithSAP=1")
    });
    found.need(kind != "video" || set.largest, || {
        "D7: video: no maxWidth and maxHeight".into()
    });
    found.need(!set.representations.is_empty(), || {
        format!("D7: {kind}: no Representation")
    });
    for representation in &set.representations {
        check_representation(found, kind, representation);
        check_template(found, &representation.id, &representation.template);
    }
}

fn check_representation(found: &mut Found, kind: &str, representation: &Representation) {
    let id = &representation.id;
    let video = kind == "video";
    let mime = representation.mime.as_deref().unwrap_or_default();
    found.need(mime == format!("{kind}/mp4"), || {
        format!("D7: {id}: mimeType {mime}")
    });
    for (there, name) in [
        (representation.bandwidth.is_some(), "bandwidth"),
        (representation.codecs.is_some(), "codecs"),
        (!video || representation.size.is_some(), "width and height"),
        (!video || representation.frame_rate, "frameRate"),
        (
            video || representation.sampling_rate.is_some(),
            "audioSamplingRate",
        ),
        (
            video || representation.channels,
            "AudioChannelConfiguration",
        ),
    ] {
        found.need(there, || format!("D7: {id}: no {name}"));
    }
}

fn check_template(found: &mut Found, id: &str, template: &Template) {
    found.need(template.media.contains("$Time$"), || {
        format!("D3: {id}: {} has no $Time$", template.media)
    });
    found.need(!template.initialization.is_empty(), || {
        format!("D3: {id}: no initialization")
    });
    for pair in template.segments.windows(2) {
        let ((start, duration), (next, _)) = (pair[0], pair[1]);
        found.need(start + duration == next, || {
            format!("D3: {id}: {next} follows {start} and {duration}")
        });
    }
    let zero = template.segments.iter().any(|(_, duration)| *duration == 0);
    found.need(!zero, || format!("D3: {id}: a segment that takes no time"));
    let early = template
        .segments
        .iter()
        .any(|(start, duration)| start + duration <= template.offset);
    found.need(!early, || format!("D4: {id}: a segment before its Period"));
}

/// D8 to D10.
fn low_latency(found: &mut Found, mpd: &Mpd) {
    let profile = mpd
        .profiles
        .split(',')
        .any(|profile| profile == PROFILE_LOW_LATENCY);
    found.need(profile, || "D8: no low-latency profile".into());
    for template in mpd.templates() {
        found.need(!template.complete, || {
            "D9: availabilityTimeComplete in some templates only".into()
        });
        let last_us = template
            .segments
            .last()
            .map(|(_, duration)| template.us(*duration));
        let early_us = template.early_us;
        let sensible = early_us
            .is_some_and(|early| early > 0 && last_us.is_none_or(|_| Some(early) < mpd.longest_us));
        found.need(sensible, || {
            format!("D9: availabilityTimeOffset is {early_us:?} us")
        });
    }
    if !mpd.dynamic {
        return;
    }
    found.need(mpd.latency_ms.is_some_and(|target| target > 0), || {
        "D10: no Latency@target".into()
    });
    found.need(mpd.playback_rate, || "D10: no PlaybackRate".into());
    for set in mpd.periods.iter().flat_map(|period| &period.sets) {
        found.need(!set.references.is_empty(), || {
            "D10: no ProducerReferenceTime".into()
        });
        let mut ids = BTreeSet::new();
        for reference in &set.references {
            let kind = ["encoder", "captured"].contains(&&*reference.kind);
            let times = reference.wall_ms.is_some() && reference.presentation.is_some();
            let id = reference.id.as_ref().is_some_and(|id| ids.insert(id));
            found.need(kind && times && id && reference.clock, || {
                format!("D10: ProducerReferenceTime {reference:?}")
            });
        }
    }
}

/// Everything that a version does to the one before and must not.
pub(crate) fn changes(before: &Mpd, after: &Mpd) -> Vec<String> {
    let mut found = Found::default();
    found.need(before.available_ms == after.available_ms, || {
        "D2: availabilityStartTime changes".into()
    });
    let silent = |mpd: &Mpd| Mpd {
        published_ms: None,
        ..mpd.clone()
    };
    let changed = silent(before) != silent(after);
    found.need(
        (before.published_ms != after.published_ms) == changed,
        || {
            format!(
                "D2: publishTime {:?} and {:?}, changed {changed}",
                before.published_ms, after.published_ms
            )
        },
    );
    found.need(before.published_ms <= after.published_ms, || {
        "D2: publishTime goes back".into()
    });
    found.need(before.dynamic || !changed, || {
        "D13: it changes after its end".into()
    });
    found.need(before.clocks == after.clocks, || {
        "D5: UTCTiming changes".into()
    });
    let kept: Vec<_> = after
        .periods
        .iter()
        .filter(|period| find(before, period).is_some())
        .collect();
    let mut behind = after
        .periods
        .iter()
        .skip_while(|period| find(before, period).is_some());
    found.need(behind.all(|period| find(before, period).is_none()), || {
        "D15: a Period comes before one that was there".into()
    });
    if let (Some(last), false) = (before.periods.last(), kept.is_empty()) {
        found.need(find(after, last).is_some(), || {
            format!("D15: Period {:?} is gone from the middle", last.id)
        });
    }
    for period in kept {
        if let Some(known) = find(before, period) {
            same_period(
                &mut found,
                known,
                period,
                after.is_low_latency() || before.is_low_latency(),
            );
        }
    }
    found.0
}

fn find<'a>(mpd: &'a Mpd, period: &Period) -> Option<&'a Period> {
    mpd.periods.iter().find(|known| known.id == period.id)
}

fn same_period(found: &mut Found, before: &Period, after: &Period, low_latency: bool) {
    found.need(before.start_us == after.start_us, || {
        format!("D4: the start of Period {:?} changes", before.id)
    });
    for (old, new) in before.sets.iter().zip(&after.sets) {
        for old in &old.representations {
            let mut others = new.representations.iter();
            match others.find(|other| other.id == old.id) {
                Some(new) => same_representation(found, old, new, low_latency),
                None => found.need(false, || format!("D15: Representation {} is gone", old.id)),
            }
        }
    }
    found.need(before.sets.len() <= after.sets.len(), || {
        "D15: an AdaptationSet is gone".into()
    });
}

fn same_representation(
    found: &mut Found,
    old: &Representation,
    new: &Representation,
    low_latency: bool,
) {
    let id = &old.id;
    let naming = |representation: &Representation| {
        let template = &representation.template;
        let names = (template.media.clone(), template.initialization.clone());
        (
            names,
            template.timescale,
            template.offset,
            representation.codecs.clone(),
        )
    };
    found.need(naming(old) == naming(new), || {
        format!("D15: {id}: its template changes")
    });
    let (known, listed) = (&old.template.segments, &new.template.segments);
    let Some((first, _)) = listed.first() else {
        return found.need(known.is_empty(), || {
            format!("D15: {id}: no segment is left")
        });
    };
    let removed = known.iter().take_while(|(start, _)| start < first).count();
    let kept = &known[removed..];
    // How long the segment that is being made will last is a guess.
    let guessed = usize::from(low_latency && !kept.is_empty());
    let (sure, open) = kept.split_at(kept.len() - guessed);
    found.need(listed.starts_with(sure), || {
        format!("D15: {id}: {sure:?} became {listed:?}")
    });
    let begins = listed.get(sure.len()).map(|(start, _)| *start);
    found.need(
        open.is_empty() || begins == open.first().map(|(start, _)| *start),
        || format!("D15: {id}: the open segment of {:?} is gone", open.first()),
    );
    let front = new.template.start_number == old.template.start_number + removed as u64;
    let numbered = new.template.media.contains("$Number");
    found.need(front || !numbered, || {
        format!(
            "D15: {id}: startNumber {} after {}",
            new.template.start_number, old.template.start_number
        )
    });
}
