//! Relay targets: the tables `[[relay]]` of the file, or `stream=url,stream=url` in a variable.
//!
//! Owns: how targets are read and written. No message repeats a URL: it may hold a key. Does not own: what a target may
//! be ([`Target`]).

use std::ops::RangeInclusive;

use weir_gateway::deliver::relay::Target;
use weir_media::StreamName;

use super::{
    Problem,
    setting::nearest,
    source::{Given, Raw},
    value::{Value, quote},
};

/// The keys of a table.
const KEYS: [&str; 2] = ["stream", "url"];
/// In place of a stream's name.
const EVERY_STREAM: &str = "*";

impl Value for Vec<Target> {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let read: Vec<_> = match &given.raw {
            Raw::List(tables) => tables.iter().map(read_table).collect(),
            Raw::Word(_) => {
                let pairs = given.pairs().ok_or_else(|| not_targets(given))?;
                let pairs = pairs.iter().map(|(stream, url)| target(stream, url));
                pairs
                    .map(|read| read.map_err(|problem| vec![problem]))
                    .collect()
            }
            _ => return Err(not_targets(given)),
        };
        let (mut targets, mut problems) = (Self::new(), Vec::new());
        for one in read {
            match one {
                Ok(target) => targets.push(target),
                Err(refused) => problems.extend(refused),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        *self = targets;
        Ok(())
    }

    fn write(&self) -> String {
        let targets = self.iter().map(|target| {
            let stream = target.stream().map_or(EVERY_STREAM, StreamName::as_str);
            let url = quote(&format!("{}/***", target.tc_url()));
            format!("{{ stream = \"{stream}\", url = {url} }}")
        });
        format!("[{}]", targets.collect::<Vec<_>>().join(", "))
    }
}

fn read_table(given: &Given) -> Result<Target, Vec<Problem>> {
    let Raw::Table(pairs) = &given.raw else {
        return Err(not_targets(given));
    };
    let unknown = pairs.iter().filter(|(key, _)| !KEYS.contains(&&**key));
    let mut problems: Vec<_> = unknown
        .map(|(key, value)| {
            let nearest = nearest(key, KEYS);
            let text = format!("unknown key {key:?}; the nearest is {nearest:?}");
            Problem::new(value.origin.clone(), text)
        })
        .collect();
    let [stream, url] = KEYS.map(|key| {
        let value = pairs.iter().find(|(known, _)| known == key);
        value.map(|(_, value)| value)
    });
    match (stream, url) {
        (Some(stream), Some(url)) => match target(stream.text().unwrap_or_default(), url) {
            Ok(target) if problems.is_empty() => return Ok(target),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        },
        // An unknown key is the likely reason why another one is missing.
        _ if !problems.is_empty() => {}
        _ => problems.push(Problem::new(
            given.origin.clone(),
            "a target needs stream (a name or \"*\") and url",
        )),
    }
    Err(problems)
}

fn target(stream: &str, url: &Given) -> Result<Target, Problem> {
    let problem = |text: String| Problem::new(url.origin.clone(), text);
    let name = (stream != EVERY_STREAM).then(|| StreamName::parse(stream));
    let name = name
        .transpose()
        .map_err(|error| problem(format!("stream {stream:?}: {error}")))?;
    Target::new(name, url.text().unwrap_or_default())
        .map_err(|error| problem(format!("url of {stream:?}: {error}")))
}

fn not_targets(given: &Given) -> Vec<Problem> {
    let text = "*** is not a list of targets; write [[relay]] with stream and url below it, in a variable \
                stream=url,stream=url";
    vec![Problem::new(given.origin.clone(), text)]
}

#[cfg(test)]
mod tests {
    use super::super::{Mode, Sources, load};

    #[test]
    fn targets_in_a_file() {
        check(
            "[[relay]]\nstream = \"*\"\nurl = \"rtmp://host/app/{name}\"\n\
             [[relay]]\nurl = \"rtmp://host/app/marker?k=marker\"\nstream = \"room\"\n",
            "relay = [{ stream = \"*\", url = \"rtmp://host/app/***\" }, \
             { stream = \"room\", url = \"rtmp://host/app/***\" }] # file c.toml:1",
        );
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        const WAY: &str = "*** is not a list of targets; write [[relay]] with stream and url below it, in a variable \
                           stream=url,stream=url";
        for (file, expected) in [
            (
                "[[relay]]\nsteam = \"a\"\nurl = \"marker\"\n",
                "c.toml:2: relay: unknown key \"steam\"; the nearest is \"stream\"",
            ),
            (
                "[[relay]]\nstream = \"a\"\n",
                "c.toml:1: relay: a target needs stream (a name or \"*\") and url",
            ),
            (
                "[[relay]]\nstream = \"*\"\nurl = \"rtmp://host/app/marker\"\n",
                "c.toml:3: relay: url of \"*\": the URL needs {name} in its path or query to take every stream",
            ),
            (
                "[[relay]]\nstream = \"a\"\nurl = \"http://host/app/marker\"\n",
                "c.toml:3: relay: url of \"a\": the URL must begin with rtmp:// or rtmps://",
            ),
            (
                "[[realy]]\nstream = \"a\"\n",
                "c.toml:1: unknown key \"realy\"; the nearest is \"relay\"",
            ),
            ("relay = \"marker\"\n", &format!("c.toml:1: relay: {WAY}")),
            (
                "[relay]\nurl = \"marker\"\n",
                &format!("c.toml:1: relay: {WAY}"),
            ),
        ] {
            check(file, expected);
        }
    }

    /// `expected` is the row in `weir check`, or every problem.
    fn check(file: &str, expected: &str) {
        let sources = Sources {
            file: Some(("c.toml".to_owned(), file.to_owned())),
            ..Sources::default()
        };
        let text = match load(Mode::Serve, &sources) {
            Ok(loaded) => loaded.to_toml().lines().take(1).collect(),
            Err(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }
        };
        assert_eq!(text, expected, "{file}");
    }
}
