//! The types that settings have: how each is read from what was given, and written back as TOML.
//!
//! Owns: the syntax of values and the words that say what is allowed. Does not own: which setting has which type
//! ([`super::setting`]), where a value came from ([`super::source`]).

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use tracing_subscriber::EnvFilter;
use weir_gateway::{
    deliver::hls::Identity,
    net::client::{Network, NetworkError},
};
use weir_media::StreamName;

use super::{
    LogFilter, LogFormat, Problem, PublishKeys,
    publish_key::PublishKey,
    source::{Given, Raw},
};

/// A field of the configuration that a setting can set.
pub(super) trait Value {
    /// Takes over what was given, or leaves the field as it is and says what is allowed.
    fn read(&mut self, given: &Given, range: &RangeInclusive<u64>) -> Result<(), Vec<Problem>>;

    /// The value in TOML; secrets masked.
    fn write(&self) -> String;
}

impl Value for bool {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = match &given.raw {
            Raw::Boolean(value) => *value,
            Raw::Word(word) if matches!(word.as_str(), "true" | "1") => true,
            Raw::Word(word) if matches!(word.as_str(), "false" | "0") => false,
            _ => return Err(given.refuse("true or false")),
        };
        Ok(())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for u16 {
    fn read(&mut self, given: &Given, range: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = number(given, range)?;
        Ok(())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn read(&mut self, given: &Given, range: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = number(given, range)?;
        Ok(())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Whole seconds.
impl Value for Duration {
    fn read(&mut self, given: &Given, range: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = Self::from_secs(number(given, range)?);
        Ok(())
    }

    fn write(&self) -> String {
        self.as_secs().to_string()
    }
}

impl Value for IpAddr {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let address = given.text().and_then(|text| text.parse().ok());
        *self = address.ok_or_else(|| given.refuse("an IP address, such as 0.0.0.0"))?;
        Ok(())
    }

    fn write(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for SocketAddr {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let allowed = "an IP address and a port, such as 0.0.0.0:8080 or [::1]:8080";
        let address = given.text().and_then(|text| text.parse().ok());
        *self = address.ok_or_else(|| given.refuse(allowed))?;
        Ok(())
    }

    fn write(&self) -> String {
        quote(&self.to_string())
    }
}

/// A name of the same form as stream names, or nothing.
impl Value for String {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = match given.text() {
            Some("") => Self::new(),
            _ => name(given)?,
        };
        Ok(())
    }

    fn write(&self) -> String {
        quote(self)
    }
}

/// One or more names; separated by commas where a value is a word.
impl Value for Vec<String> {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let allowed = "a list of names, such as [\"live\"]";
        let items = given.items().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| given.refuse(allowed))?;
        let (names, problems) = partition(items.iter().map(name));
        if !problems.is_empty() {
            return Err(problems);
        }
        *self = names;
        Ok(())
    }

    fn write(&self) -> String {
        let names: Vec<_> = self.iter().map(|name| quote(name)).collect();
        format!("[{}]", names.join(", "))
    }
}

/// Addresses and networks, or none.
impl Value for Vec<StreamName> {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let allowed = "a list of streams, such as [\"stage\"]";
        let items = given.items().ok_or_else(|| given.refuse(allowed))?;
        let stream = |item: &Given| {
            let text = item.text().ok_or_else(|| item.refuse(allowed))?;
            StreamName::parse(text).map_err(|error| item.refuse(error))
        };
        let (streams, problems) = partition(items.iter().map(stream));
        if !problems.is_empty() {
            return Err(problems);
        }
        *self = streams;
        Ok(())
    }

    fn write(&self) -> String {
        let names: Vec<String> = self.iter().map(|name| quote(name.as_str())).collect();
        format!("[{}]", names.join(", "))
    }
}

impl Value for Vec<Network> {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let allowed = "a list of addresses and networks, such as [\"10.0.0.0/8\"]";
        let items = given.items().ok_or_else(|| given.refuse(allowed))?;
        let network = |item: &Given| {
            let network = item.text().and_then(|text| text.parse().ok());
            network.ok_or_else(|| item.refuse(NetworkError))
        };
        let (networks, problems) = partition(items.iter().map(network));
        if !problems.is_empty() {
            return Err(problems);
        }
        *self = networks;
        Ok(())
    }

    fn write(&self) -> String {
        let networks: Vec<_> = self
            .iter()
            .map(|network| quote(&network.to_string()))
            .collect();
        format!("[{}]", networks.join(", "))
    }
}

impl Value for PathBuf {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let path = given
            .text()
            .filter(|text| !text.is_empty() && !text.contains('\0'));
        *self = path.ok_or_else(|| given.refuse("a path"))?.into();
        Ok(())
    }

    fn write(&self) -> String {
        quote(&self.to_string_lossy())
    }
}

/// A path, or nothing.
impl Value for Option<PathBuf> {
    fn read(&mut self, given: &Given, range: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        if given.text() == Some("") {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().read(given, range)
    }

    fn write(&self) -> String {
        self.clone().unwrap_or_default().write()
    }
}

impl Value for LogFilter {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let allowed = "error, warn, info, debug, trace or a list such as info,weir_gateway=debug";
        let text = given.text().filter(|text| EnvFilter::try_new(text).is_ok());
        *self = Self(text.ok_or_else(|| given.refuse(allowed))?.to_owned());
        Ok(())
    }

    fn write(&self) -> String {
        quote(self.as_str())
    }
}

impl Value for LogFormat {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = match given.text() {
            Some("text") => Self::Text,
            Some("json") => Self::Json,
            _ => return Err(given.refuse("text or json")),
        };
        Ok(())
    }

    fn write(&self) -> String {
        match self {
            Self::Text => quote("text"),
            Self::Json => quote("json"),
        }
    }
}

impl Value for Identity {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        *self = match given.text() {
            Some("session") => Self::Session,
            Some("hash") => Self::Hash,
            Some("off") => Self::Off,
            _ => return Err(given.refuse("session, hash or off")),
        };
        Ok(())
    }

    fn write(&self) -> String {
        quote(match self {
            Self::Session => "session",
            Self::Hash => "hash",
            Self::Off => "off",
        })
    }
}

/// A table `name = "key"`; `name=key` separated by commas where a value is a word. No message repeats a key.
impl Value for PublishKeys {
    fn read(&mut self, given: &Given, _: &RangeInclusive<u64>) -> Result<(), Vec<Problem>> {
        let Some(pairs) = given.pairs() else {
            let text =
                "*** is not a table such as { name = \"key\" }, in a variable name=key,other=key";
            return Err(vec![Problem::new(given.origin.clone(), text)]);
        };
        let mut keys = Self::default();
        let mut problems = Vec::new();
        for (name, key) in pairs {
            let problem = |text: String| Problem::new(key.origin.clone(), text);
            let entry = StreamName::parse(&name)
                .map_err(|error| problem(format!("{name:?}: {error}")))
                .and_then(|name| {
                    let text = key.text().unwrap_or_default();
                    let key = PublishKey::new(text)
                        .map_err(|error| problem(format!("the key *** of {name:?} {error}")))?;
                    keys.insert(name, key)
                        .map_err(|error| problem(error.to_string()))
                });
            problems.extend(entry.err());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        *self = keys;
        Ok(())
    }

    fn write(&self) -> String {
        let pairs: Vec<_> = self
            .names()
            .map(|name| format!("{} = \"***\"", quote(name)))
            .collect();
        if pairs.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn number<T: TryFrom<u64>>(given: &Given, range: &RangeInclusive<u64>) -> Result<T, Vec<Problem>> {
    let number = match &given.raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Word(word) => word.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| range.contains(number));
    number
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| {
            given.refuse(format_args!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            ))
        })
}

fn name(given: &Given) -> Result<String, Vec<Problem>> {
    let text = given.text().filter(|text| StreamName::parse(text).is_ok());
    let allowed = "a name of letters, digits, . _ and -, at most 128, the first a letter or digit";
    text.map(str::to_owned).ok_or_else(|| given.refuse(allowed))
}

fn partition<T>(results: impl Iterator<Item = Result<T, Vec<Problem>>>) -> (Vec<T>, Vec<Problem>) {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(more) => problems.extend(more),
        }
    }
    (values, problems)
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_toml() {
        for text in [
            "plain",
            "a\"b",
            "C:\\x",
            "line\nbreak",
            "\u{7f}\u{85}",
            "ümlaut",
        ] {
            let document = format!("key = {}", quote(text));
            let table = toml::de::DeTable::parse(&document).expect("valid TOML");
            let value = table
                .get_ref()
                .get("key")
                .and_then(|value| value.get_ref().as_str());
            assert_eq!(value, Some(text));
        }
    }
}
