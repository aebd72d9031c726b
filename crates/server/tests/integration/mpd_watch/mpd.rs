//! A manifest, read strictly (ISO/IEC 23009-1 section 5).
//!
//! Owns: the elements and attributes that live streams need, what is inherited, and segment timelines written out.
//! Does not own: what the values must be ([`super::rules`]). It is no validation by the schema of the standard.

use std::fmt::Debug;

use roxmltree::{Document, Node};

use crate::hls_watch::date_ms;

const NAMESPACE: &str = "urn:mpeg:dash:schema:mpd:2011";

/// One version of a manifest. Durations are in microseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Mpd {
    pub(crate) dynamic: bool,
    pub(crate) profiles: String,
    pub(crate) available_ms: Option<i64>,
    pub(crate) published_ms: Option<i64>,
    pub(crate) update_us: Option<i64>,
    pub(crate) buffer_us: Option<i64>,
    pub(crate) depth_us: Option<i64>,
    pub(crate) longest_us: Option<i64>,
    pub(crate) delay_us: Option<i64>,
    pub(crate) presentation_us: Option<i64>,
    /// Scheme and value of each UTCTiming.
    pub(crate) clocks: Vec<(String, String)>,
    /// `Latency@target`, milliseconds, and whether there is a PlaybackRate.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) playback_rate: bool,
    pub(crate) periods: Vec<Period>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Period {
    pub(crate) id: Option<String>,
    pub(crate) start_us: Option<i64>,
    pub(crate) sets: Vec<AdaptationSet>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AdaptationSet {
    pub(crate) kind: Option<String>,
    pub(crate) aligned: bool,
    pub(crate) begins_with_sap: bool,
    pub(crate) largest: bool,
    pub(crate) references: Vec<ProducerReference>,
    pub(crate) representations: Vec<Representation>,
}

/// ProducerReferenceTime.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProducerReference {
    pub(crate) id: Option<String>,
    pub(crate) kind: String,
    pub(crate) wall_ms: Option<i64>,
    pub(crate) presentation: Option<u64>,
    pub(crate) clock: bool,
}

/// A representation, with all that its set says for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Representation {
    pub(crate) id: String,
    pub(crate) bandwidth: Option<u64>,
    pub(crate) mime: Option<String>,
    pub(crate) codecs: Option<String>,
    pub(crate) size: Option<(u64, u64)>,
    pub(crate) frame_rate: bool,
    pub(crate) sampling_rate: Option<u64>,
    pub(crate) channels: bool,
    pub(crate) template: Template,
}

/// SegmentTemplate with its timeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Template {
    pub(crate) timescale: u64,
    pub(crate) offset: u64,
    pub(crate) initialization: String,
    pub(crate) media: String,
    pub(crate) start_number: u64,
    /// availabilityTimeOffset.
    pub(crate) early_us: Option<i64>,
    /// availabilityTimeComplete is not `false`.
    pub(crate) complete: bool,
    /// Start and duration of each segment, in ticks.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl Mpd {
    /// Reads one; the first break of its form ends the reading.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text).map_err(|error| format!("D1: {error}"))?;
        let root = document.root_element();
        if !root.has_tag_name((NAMESPACE, "MPD")) {
            return Err("D1: the root is no MPD of its namespace".into());
        }
        known(
            root,
            &[
                "ServiceDescription",
                "Period",
                "UTCTiming",
                "Location",
                "ProgramInformation",
                "BaseURL",
            ],
        )?;
        let latency = children(root, "ServiceDescription").next();
        let within = |name| latency.and_then(|description| children(description, name).next());
        Ok(Self {
            dynamic: match root.attribute("type") {
                Some("dynamic") => true,
                None | Some("static") => false,
                Some(other) => return Err(format!("D1: type={other}")),
            },
            profiles: read(root, "profiles", text_of)?.ok_or("D1: no profiles")?,
            available_ms: read(root, "availabilityStartTime", date)?,
            published_ms: read(root, "publishTime", date)?,
            update_us: read(root, "minimumUpdatePeriod", duration_us)?,
            buffer_us: read(root, "minBufferTime", duration_us)?,
            depth_us: read(root, "timeShiftBufferDepth", duration_us)?,
            longest_us: read(root, "maxSegmentDuration", duration_us)?,
            delay_us: read(root, "suggestedPresentationDelay", duration_us)?,
            presentation_us: read(root, "mediaPresentationDuration", duration_us)?,
            clocks: children(root, "UTCTiming")
                .map(|clock| (attribute(clock, "schemeIdUri"), attribute(clock, "value")))
                .collect(),
            latency_ms: match within("Latency") {
                Some(latency) => read(latency, "target", integer)?,
                None => None,
            },
            playback_rate: within("PlaybackRate").is_some(),
            periods: children(root, "Period")
                .map(period)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether segments are announced while they are made.
    pub(crate) fn is_low_latency(&self) -> bool {
        self.templates().any(|template| !template.complete)
    }

    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        let sets = self.periods.iter().flat_map(|period| &period.sets);
        let representations = sets.flat_map(|set| &set.representations);
        representations.map(|representation| &representation.template)
    }
}

impl Template {
    pub(crate) fn us(&self, ticks: u64) -> i64 {
        let us = u128::from(ticks) * 1_000_000 / u128::from(self.timescale.max(1));
        i64::try_from(us).unwrap_or(i64::MAX)
    }
}

impl Representation {
    /// The URI of the init object.
    pub(crate) fn initialization(&self) -> String {
        self.fill(&self.template.initialization, 0, 0)
    }

    /// The URI of the segment at a place of the timeline.
    pub(crate) fn media(&self, at: usize) -> String {
        let (time, _) = self.template.segments[at];
        self.fill(
            &self.template.media,
            time,
            self.template.start_number + at as u64,
        )
    }

    /// A template with its identifiers replaced (section 5.3.9.4.4); `%0Nd` pads with zeros.
    fn fill(&self, template: &str, time: u64, number: u64) -> String {
        let mut filled = String::new();
        for (at, word) in template.split('$').enumerate() {
            let (name, width) = word.split_once("%0").unwrap_or((word, "1d"));
            let width = width.trim_end_matches('d').parse().unwrap_or(1);
            match name {
                _ if at % 2 == 0 => filled.push_str(word),
                "RepresentationID" => filled.push_str(&self.id),
                "Time" => filled.push_str(&format!("{time:0width$}")),
                "Number" => filled.push_str(&format!("{number:0width$}")),
                "Bandwidth" => filled.push_str(&self.bandwidth.unwrap_or(0).to_string()),
                _ => filled.push('$'),
            }
        }
        filled
    }
}

fn period(node: Node<'_, '_>) -> Result<Period, String> {
    known(node, &["AdaptationSet", "BaseURL"])?;
    Ok(Period {
        id: node.attribute("id").map(str::to_owned),
        start_us: read(node, "start", duration_us)?,
        sets: children(node, "AdaptationSet")
            .map(set)
            .collect::<Result<_, _>>()?,
    })
}

fn set(node: Node<'_, '_>) -> Result<AdaptationSet, String> {
    known(
        node,
        &[
            "AudioChannelConfiguration",
            "ProducerReferenceTime",
            "SegmentTemplate",
            "Representation",
            "Role",
            "Resync",
            "Label",
            "EssentialProperty",
            "SupplementalProperty",
        ],
    )?;
    let true_or_false = |name| read(node, name, |text| text.parse::<bool>().ok());
    let sap = |node: &Node<'_, '_>| read(*node, "startWithSAP", integer);
    let mut begins_with_sap = sap(&node)? == Some(1);
    for representation in children(node, "Representation") {
        begins_with_sap |= sap(&representation)? == Some(1);
    }
    let largest = ["maxWidth", "maxHeight"]
        .iter()
        .all(|name| node.has_attribute(*name));
    let references = children(node, "ProducerReferenceTime").map(|reference| {
        Ok(ProducerReference {
            id: reference.attribute("id").map(str::to_owned),
            kind: attribute(reference, "type"),
            wall_ms: read(reference, "wallClockTime", date)?,
            presentation: read(reference, "presentationTime", integer)?,
            clock: children(reference, "UTCTiming").next().is_some(),
        })
    });
    Ok(AdaptationSet {
        kind: node.attribute("contentType").map(str::to_owned),
        aligned: true_or_false("segmentAlignment")? == Some(true)
            || true_or_false("subsegmentAlignment")? == Some(true),
        begins_with_sap,
        largest,
        references: references.collect::<Result<_, String>>()?,
        representations: children(node, "Representation")
            .map(|representation| self::representation(node, representation))
            .collect::<Result<_, _>>()?,
    })
}

fn representation(set: Node<'_, '_>, node: Node<'_, '_>) -> Result<Representation, String> {
    known(
        node,
        &[
            "AudioChannelConfiguration",
            "SegmentTemplate",
            "Resync",
            "ProducerReferenceTime",
        ],
    )?;
    let both = [node, set];
    let inherited = |name: &str| {
        both.iter()
            .find_map(|node| node.attribute(name))
            .map(str::to_owned)
    };
    let number = |name: &str| {
        inherited(name)
            .map(|text| integer(&text).ok_or(format!("D1: {name}={text}")))
            .transpose()
    };
    let template = both
        .iter()
        .find_map(|node| children(*node, "SegmentTemplate").next());
    Ok(Representation {
        id: node
            .attribute("id")
            .ok_or("D1: a Representation without id")?
            .to_owned(),
        bandwidth: number("bandwidth")?,
        mime: inherited("mimeType"),
        codecs: inherited("codecs"),
        size: number("width")?.zip(number("height")?),
        frame_rate: inherited("frameRate").is_some(),
        sampling_rate: number("audioSamplingRate")?,
        channels: both.iter().any(|node| {
            children(*node, "AudioChannelConfiguration")
                .next()
                .is_some()
        }),
        template: self::template(template.ok_or("D3: no SegmentTemplate")?)?,
    })
}

fn template(node: Node<'_, '_>) -> Result<Template, String> {
    known(node, &["SegmentTimeline"])?;
    let early = |text: &str| text.parse().ok().map(|seconds: f64| (seconds * 1e6) as i64);
    let timeline = children(node, "SegmentTimeline").next();
    let timeline = timeline.ok_or("D3: no SegmentTimeline")?;
    known(timeline, &["S"])?;
    let mut segments: Vec<(u64, u64)> = Vec::new();
    for entry in children(timeline, "S") {
        let next = segments.last().map(|(start, duration)| start + duration);
        let start = read(entry, "t", integer)?.or(next).unwrap_or(0);
        let duration = read(entry, "d", integer)?.ok_or("D3: S without d")?;
        let more = read(entry, "r", integer)?.unwrap_or(0);
        segments.extend((0..=more).map(|at| (start + at * duration, duration)));
    }
    Ok(Template {
        timescale: read(node, "timescale", integer)?.unwrap_or(1),
        offset: read(node, "presentationTimeOffset", integer)?.unwrap_or(0),
        initialization: attribute(node, "initialization"),
        media: attribute(node, "media"),
        start_number: read(node, "startNumber", integer)?.unwrap_or(1),
        early_us: read(node, "availabilityTimeOffset", early)?,
        complete: read(node, "availabilityTimeComplete", |text| text.parse().ok())?.unwrap_or(true),
        segments,
    })
}

fn children<'a, 'b>(node: Node<'a, 'b>, name: &'static str) -> impl Iterator<Item = Node<'a, 'b>> {
    node.children()
        .filter(move |child| child.has_tag_name((NAMESPACE, name)))
}

/// Refuses elements that do not belong here.
fn known(node: Node<'_, '_>, names: &[&str]) -> Result<(), String> {
    let mut elements = node.children().filter(Node::is_element);
    let odd = elements.find(|child| !names.contains(&child.tag_name().name()));
    match odd {
        Some(odd) => Err(format!(
            "D1: {} in {}",
            odd.tag_name().name(),
            node.tag_name().name()
        )),
        None => Ok(()),
    }
}

fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

fn read<T: Debug>(
    node: Node<'_, '_>,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    let value = node.attribute(name);
    value
        .map(|text| read(text).ok_or(format!("D1: {name}={text}")))
        .transpose()
}

fn text_of(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn integer(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// With milliseconds or without.
fn date(text: &str) -> Option<i64> {
    date_ms(text).or_else(|| date_ms(&text.replace('Z', ".000Z")))
}

/// Microseconds of `P1DT2H3M4.5S`.
fn duration_us(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P')?;
    let (days, time) = rest.split_once('T').unwrap_or((rest, ""));
    let mut total_us = 0.0;
    for (mut part, units) in [
        (days, &[('D', 86_400.0)][..]),
        (time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)]),
    ] {
        for (unit, seconds) in units {
            if let Some((number, rest)) = part.split_once(*unit) {
                total_us += number.parse::<f64>().ok()? * seconds * 1e6;
                part = rest;
            }
        }
        if !part.is_empty() {
            return None;
        }
    }
    Some(total_us.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("PT2S", Some(2_000_000)),
            ("PT1M2.5S", Some(62_500_000)),
            ("P1DT1H", Some(90_000_000_000)),
            ("PT1763000000.123S", Some(1_763_000_000_123_000)),
            ("2S", None),
            ("PT2", None),
            ("PTxS", None),
        ] {
            assert_eq!(duration_us(text), expected, "{text}");
        }
    }

    #[test]
    fn templates_are_filled() {
        let representation = Representation {
            id: "v".into(),
            bandwidth: Some(7),
            template: Template {
                media: "a/$RepresentationID$-$Time$-$Number%05d$-$Bandwidth$$$.m4s".into(),
                start_number: 3,
                segments: vec![(10, 5), (15, 5)],
                ..Template::default()
            },
            ..Representation::default()
        };
        assert_eq!(representation.media(1), "a/v-15-00004-7$.m4s");
    }
}
