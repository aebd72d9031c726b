//! As much of a manifest as these tests need, read from the text that we write.

/// A manifest: its first Period stands for all of them.
#[derive(Debug)]
pub(super) struct Manifest {
    head: String,
    pub(super) tracks: Vec<Track>,
}

/// A track, and the names of its segments.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) init: String,
    pub(super) segments: Vec<String>,
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Self {
        let head = text
            .split_once("<MPD ")
            .and_then(|(_, rest)| rest.split_once('>'));
        let (head, rest) = head.unwrap_or_else(|| panic!("not a manifest: {text}"));
        Self {
            head: format!(" {head}"),
            tracks: rest.split("<AdaptationSet").skip(1).map(track).collect(),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        attribute(&self.head, name).is_some()
    }

    pub(super) fn attribute(&self, name: &str) -> &str {
        attribute(&self.head, name).unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

fn track(text: &str) -> Track {
    let media = attribute(text, "media").expect("a template");
    let mut time = 0;
    let mut segments = Vec::new();
    for element in text.split("<S ").skip(1) {
        let element = format!(" {}", element.split_once('>').expect("an end").0);
        let number = |name| attribute(&element, name).map(|text| text.parse().expect("a number"));
        time = number("t").unwrap_or(time);
        for _ in 0..=number("r").unwrap_or(0) {
            segments.push(media.replace("$Time$", &time.to_string()));
            time += number("d").expect("a duration");
        }
    }
    let init = attribute(text, "initialization").expect("a template");
    Track {
        init: init.to_owned(),
        segments,
    }
}

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!(" {name}=\""))?;
    Some(rest.split_once('"')?.0)
}
