//! Where settings come from: the file, the environment, the flags.
//!
//! Owns: finding what was given for which setting, with its place, and refusing unknown names. Does not own: what a
//! value means ([`super::value`]).

use std::{collections::HashMap, fmt, fs, io, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    Problem, SETTINGS,
    setting::{ENV_PREFIX, Setting},
};

/// The file that is read when none is named, if it is there.
const CONFIG_PATH: &str = "config.toml";

/// Variables of the servers that Weir takes the place of which mean nothing in this version.
const VARIABLES_WITHOUT_EFFECT: [&str; 4] = [
    "DATABASE_URL",
    "CLEANUP_INTERVAL",
    "STALE_THRESHOLD",
    "REDIS_URL",
];

/// Everything that the operator said, unread. It may hold secrets, so it cannot be printed.
#[derive(Default)]
pub struct Sources {
    /// The configuration file: the name that messages give it, and its text.
    pub file: Option<(String, String)>,
    /// All environment variables. An empty one counts as unset, which is what compose files make of a missing one.
    pub environment: HashMap<String, String>,
    /// Settings given as flags: key and value.
    pub flags: Vec<(&'static str, String)>,
}

/// Where a value was given. Later variants win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the configuration file; the line counts from 1 and is absent when the file could not be read.
    File(String, Option<usize>),
    /// In the environment variable of this name.
    Environment(String),
    /// As the flag of this name, without dashes.
    Flag(&'static str),
}

/// A value as it was given, with its place. It may be a secret; only the type of its setting knows.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) origin: Origin,
    pub(super) raw: Raw,
}

/// A value before the type of its setting is known to fit.
#[derive(Clone)]
pub(super) enum Raw {
    /// From the environment or a flag, where everything is text.
    Word(String),
    Integer(i64),
    Boolean(bool),
    Text(String),
    List(Vec<Given>),
    Table(Vec<(String, Given)>),
    /// A float, a date, or an integer beyond 64 bits: no setting takes one.
    Other(String),
}

/// What was found in the sources, weakest first, and what was wrong on the way.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) given: Vec<(&'static Setting, Given)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Sources {
    /// Reads the environment and the file: `config_path`, or `config.toml` of the working directory if it exists.
    pub fn gather(
        config_path: Option<&Path>,
        flags: Vec<(&'static str, String)>,
    ) -> Result<Self, Vec<Problem>> {
        let path = config_path.unwrap_or(Path::new(CONFIG_PATH));
        let name = path.display().to_string();
        let file = match fs::read_to_string(path) {
            Ok(text) => Some((name, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && config_path.is_none() => None,
            Err(error) => {
                let text = format!("cannot read the configuration: {error}");
                return Err(vec![Problem::new(Origin::File(name, None), text)]);
            }
        };
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        Ok(Self {
            file,
            environment: environment.collect(),
            flags,
        })
    }

    /// What these sources give for which setting.
    pub(super) fn read(&self) -> Findings {
        let mut findings = Findings::default();
        if let Some((name, text)) = &self.file {
            findings.read_file(name, text);
        }
        findings.read_environment(&self.environment);
        for (key, value) in &self.flags {
            if let Some((setting, flag)) = Setting::find(key).and_then(|s| Some((s, s.flag?))) {
                findings
                    .given
                    .push((setting, Given::word(Origin::Flag(flag), value)));
            }
        }
        findings
    }
}

impl Findings {
    fn read_file(&mut self, name: &str, text: &str) {
        let file = File { name, text };
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            self.read_table(&file, "", table.get_ref());
        }
        for error in errors {
            let message = error.message().replace('\n', ", ");
            let origin = file.origin(error.span().unwrap_or_default());
            self.problems
                .push(Problem::new(origin, format!("not valid TOML: {message}")));
        }
    }

    fn read_table(&mut self, file: &File<'_>, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if section.is_empty() {
                name.to_string()
            } else {
                format!("{section}.{name}")
            };
            if let Some(setting) = Setting::find(&path) {
                self.given
                    .push((setting, file.given(value.span(), value.get_ref())));
            } else if let Some(inner) = value
                .get_ref()
                .as_table()
                .filter(|_| Setting::is_section(&path))
            {
                self.read_table(file, &path, inner);
            } else {
                let text = refuse_name(&path, value.get_ref().is_table() && section.is_empty());
                self.problems
                    .push(Problem::new(file.origin(key.span()), text));
            }
        }
    }

    fn read_environment(&mut self, environment: &HashMap<String, String>) {
        let given = |name: &str| {
            let value = environment.get(name).filter(|value| !value.is_empty());
            value.filter(|value| !is_service_link(name, value))
        };
        for setting in SETTINGS {
            let names = setting
                .known_env()
                .map(str::to_owned)
                .chain([setting.weir_env()]);
            for name in names {
                if let Some(value) = given(&name) {
                    self.given
                        .push((setting, Given::word(Origin::Environment(name), value)));
                }
            }
        }
        for name in VARIABLES_WITHOUT_EFFECT {
            if given(name).is_some() {
                self.warnings
                    .push(format!("{name} is set, but has no effect in this version"));
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let known = SETTINGS.iter().any(|setting| setting.weir_env() == *name);
            if !known && !is_service_link(name, value) {
                let nearest = Setting::nearest(rest).weir_env();
                let text = format!("unknown variable; the nearest is {nearest}");
                self.problems
                    .push(Problem::new(Origin::Environment(name.clone()), text));
            }
        }
    }
}

impl Given {
    fn word(origin: Origin, value: &str) -> Self {
        Self {
            origin,
            raw: Raw::Word(value.to_owned()),
        }
    }

    /// The value if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.raw {
            Raw::Word(text) | Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a list; a word is split at commas.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match &self.raw {
            Raw::List(items) => Some(items.clone()),
            Raw::Word(word) => {
                let items = word
                    .split(',')
                    .map(|item| Self::word(self.origin.clone(), item.trim()));
                Some(items.collect())
            }
            _ => None,
        }
    }

    /// The value as a table; a word is split at commas, then at the first equals sign.
    pub(super) fn pairs(&self) -> Option<Vec<(String, Self)>> {
        match &self.raw {
            Raw::Table(pairs) => Some(pairs.clone()),
            Raw::Word(word) => {
                let pair = |pair: &str| {
                    let (name, value) = pair.trim().split_once('=')?;
                    Some((name.to_owned(), Self::word(self.origin.clone(), value)))
                };
                word.split(',').map(pair).collect()
            }
            _ => None,
        }
    }

    /// The problem that the value is not what is allowed.
    pub(super) fn refuse(&self, allowed: impl fmt::Display) -> Vec<Problem> {
        vec![Problem::new(
            self.origin.clone(),
            format!("{self} is not {allowed}"),
        )]
    }
}

/// What an error message shows. Not for values of settings that hold secrets.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.raw {
            Raw::Word(text) | Raw::Text(text) => write!(f, "{text:?}"),
            Raw::Integer(number) => write!(f, "{number}"),
            Raw::Boolean(value) => write!(f, "{value}"),
            Raw::List(items) if items.is_empty() => f.write_str("an empty list"),
            Raw::List(_) => f.write_str("a list"),
            Raw::Table(_) => f.write_str("a table"),
            Raw::Other(text) => f.write_str(text),
        }
    }
}

/// The name as messages show it: `config.toml:3`, `PORT`, `--rtmp-addr`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name, None) => f.write_str(name),
            Self::File(name, Some(line)) => write!(f, "{name}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The file being read, for the places of what is in it.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.bytes().take(span.start);
        let line = before.filter(|&byte| byte == b'\n').count() + 1;
        Origin::File(self.name.to_owned(), Some(line))
    }

    /// The depth of `value` is bounded by the TOML parser.
    fn given(&self, span: Range<usize>, value: &DeValue<'_>) -> Given {
        let raw = match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Boolean(value) => Raw::Boolean(*value),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Raw::Other(number.to_string()), Raw::Integer),
            DeValue::Float(number) => Raw::Other(number.to_string()),
            DeValue::Datetime(date) => Raw::Other(date.to_string()),
            DeValue::Array(items) => Raw::List(
                items
                    .iter()
                    .map(|item| self.given(item.span(), item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => {
                let pair = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                    (
                        key.get_ref().to_string(),
                        self.given(value.span(), value.get_ref()),
                    )
                };
                Raw::Table(table.iter().map(pair).collect())
            }
        };
        Given {
            origin: self.origin(span),
            raw,
        }
    }
}

/// What is wrong with a name of the file that is no setting, or a section where a value stands.
fn refuse_name(path: &str, is_section: bool) -> String {
    if Setting::is_section(path) {
        return format!("{path:?} is a section: write [{path}]");
    }
    let (what, nearest) = if is_section {
        ("section", Setting::nearest_section(path))
    } else {
        ("key", Setting::nearest(path).key)
    };
    format!("unknown {what} {path:?}; the nearest is {nearest:?}")
}

/// Whether Kubernetes made the variable for a service that happens to be called `weir` or `weir-something`: it
/// gives every pod `WEIR_SERVICE_HOST`, `WEIR_PORT=tcp://…` and the like, which no operator chose.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let parts = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_"];
    is_url || parts.iter().any(|part| name.contains(part))
}
