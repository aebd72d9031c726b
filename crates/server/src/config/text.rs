//! The configuration as text: `config.toml.example` and what `weir check` prints.
//!
//! Owns: the layout of both. Does not own: what is in them ([`super::setting`]).

use super::{Config, Loaded, Origin, Purpose, SETTINGS};

/// How the example begins.
const EXAMPLE_HEAD: &str = "\
# Configuration of Weir. Copy it to config.toml, which `weir` reads from its working directory
# (or name a file: `weir serve --config FILE`), and check it with `weir check`.
#
# Every line shows its default; take the # away to change one. A flag beats an environment
# variable, which beats this file. Every setting is also the variable WEIR_<SECTION>_<KEY>, such
# as WEIR_SERVER_PORT, with lists and tables as `a,b` and `name=value,other=value`; further names
# stand in brackets.
";

/// The text of `config.toml.example`: every key with its default and the reason for it.
#[must_use]
pub fn example() -> String {
    let mut config = Config::default();
    let mut text = EXAMPLE_HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section() != section {
            section = setting.section();
            text += &format!("\n[{section}]\n");
        }
        let flag = setting.flag.map(|flag| format!("--{flag}"));
        let names: Vec<_> = setting.known_env().map(str::to_owned).chain(flag).collect();
        let names = if names.is_empty() {
            String::new()
        } else {
            format!(" [{}]", names.join(", "))
        };
        let value = (setting.field)(&mut config).write();
        text += &format!("# {}{names}\n#{} = {value}\n", setting.why, setting.name());
    }
    text
}

impl Loaded {
    /// The settings in effect as TOML, each with where it comes from, secrets masked.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut config = self.config.clone();
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            if setting.section() != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = setting.section();
                text += &format!("{gap}[{section}]\n");
            }
            let value = (setting.field)(&mut config).write();
            let from = match self.origins.get(setting.key) {
                None | Some(Origin::Default) => "default".to_owned(),
                Some(origin @ Origin::File(..)) => format!("file {origin}"),
                Some(origin @ Origin::Environment(_)) => format!("environment {origin}"),
                Some(origin @ Origin::Flag(_)) => format!("flag {origin}"),
            };
            text += &format!("{} = {value} # {from}\n", setting.name());
        }
        for (name, purpose) in [("HTTP", Purpose::Http), ("RTMP", Purpose::Rtmp)] {
            let listeners = self.config.listeners.iter();
            let addrs = listeners.filter(|listener| listener.purpose == purpose);
            let addrs: Vec<_> = addrs.map(|listener| listener.addr.to_string()).collect();
            text += &format!("\n# {name} on {}", addrs.join(", "));
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, path::Path};

    use super::super::{Mode, Sources, load};
    use super::*;

    /// Set to write the committed files anew.
    const UPDATE: &str = "UPDATE_EXPECT";

    #[test]
    fn the_committed_example_is_generated() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config.toml.example");
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&path, example()).expect("the checkout can be written");
        }
        let committed =
            fs::read_to_string(&path).expect("config.toml.example is in the repository");
        assert!(
            committed == example(),
            "config.toml.example is stale; run this test with {UPDATE}=1"
        );
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let text: String = example()
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let sources = Sources {
            file: Some(("example".to_owned(), text)),
            ..Sources::default()
        };
        let mut from_example = load(Mode::Serve, &sources).expect("the example is valid");
        for setting in SETTINGS {
            assert!(
                from_example.origins.contains_key(setting.key),
                "{}",
                setting.key
            );
        }
        let mut defaults = load(Mode::Serve, &Sources::default())
            .expect("the defaults are valid")
            .config;
        // That addresses are configured shows here, and is all that differs.
        from_example.config.listeners.clear();
        defaults.listeners.clear();
        assert_eq!(from_example.config, defaults);
    }

    #[test]
    fn settings_in_effect() {
        let file = "[server]\nport = 9000\n[auth]\npublish_keys = { demo = \"marker-4711\" }\n";
        let environment = [
            ("MAX_GOPS", "3"),
            ("NODE_ID", "node-1"),
            ("WEIR_SERVER_WORKERS", "2"),
        ];
        let sources = Sources {
            file: Some(("config.toml".to_owned(), file.to_owned())),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            flags: vec![("hls.addr", "127.0.0.1:9001".to_owned())],
        };
        let text = load(Mode::Serve, &sources).expect("valid").to_toml();
        for line in [
            "[server]",
            "port = 9000 # file config.toml:2",
            "httpflv_addr = \"0.0.0.0:9000\" # default",
            "node_id = \"node-1\" # environment NODE_ID",
            "workers = 2 # environment WEIR_SERVER_WORKERS",
            "addr = \"127.0.0.1:9001\" # flag --hls-addr",
            "publish_keys = { \"demo\" = \"***\" } # file config.toml:4",
            "apps = [\"live\"] # default",
            "# HTTP on 0.0.0.0:9000, 127.0.0.1:9001",
            "# RTMP on 0.0.0.0:1935",
        ] {
            assert!(
                text.lines().any(|printed| printed == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(!text.contains("marker"), "{text}");
        let document = toml::de::DeTable::parse(&text).expect("what is printed is TOML");
        let keys = document
            .get_ref()
            .values()
            .filter_map(|section| section.get_ref().as_table());
        assert_eq!(
            keys.map(|section| section.len()).sum::<usize>(),
            SETTINGS.len()
        );
    }

    #[test]
    fn every_setting_is_read_back_as_written() {
        let printed = load(Mode::Serve, &Sources::default())
            .expect("valid")
            .to_toml();
        let sources = Sources {
            file: Some(("printed".to_owned(), printed)),
            environment: HashMap::new(),
            flags: Vec::new(),
        };
        assert!(load(Mode::Serve, &sources).is_ok());
    }
}
