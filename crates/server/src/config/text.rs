//! The configuration as text: `config.toml.example`, `.env.example` and what `weir check` prints.
//!
//! Owns: the layout of all three. Does not own: what is in them ([`super::setting`]).

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

/// How the example of variables begins.
const ENV_EXAMPLE_HEAD: &str = "\
# Variables that Weir reads. Copy this to .env for docker-compose.yml, or to /etc/weir/weir.env for
# the systemd unit.
#
# Every line shows its default; take the # away to change one. Every other setting is a variable
# too: WEIR_<SECTION>_<KEY>, for the sections and keys of config.toml.example.

# Who may publish: name=key,other=key with keys of 8 or more characters (openssl rand -hex 16
# makes one); without any, nobody may.
#WEIR_AUTH_PUBLISH_KEYS=
";

/// The text of `.env.example`: every setting with a variable of its own, with its default and the reason for it.
#[must_use]
pub fn env_example() -> String {
    let mut config = Config::default();
    let mut text = ENV_EXAMPLE_HEAD.to_owned();
    for setting in SETTINGS {
        let Some(name) = setting.env else { continue };
        let value = (setting.field)(&mut config).write();
        let value = value.trim_matches('"');
        text += &format!("\n# {}\n#{name}={value}\n", setting.why);
    }
    text
}

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
        let gap = if section.is_empty() { "\n" } else { "" };
        text += &format!(
            "{gap}# {}{names}\n#{} = {value}\n",
            setting.why,
            setting.name()
        );
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
                section = setting.section();
                text += &format!("\n[{section}]\n");
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
        for (name, purpose) in [
            ("HTTP", Purpose::Http),
            ("HTTP for a CDN", Purpose::Cdn),
            ("HTTPS", Purpose::Https),
            ("RTMP", Purpose::Rtmp),
            ("RTMPS", Purpose::Rtmps),
        ] {
            let listeners = self.config.listeners.iter();
            let addrs = listeners.filter(|listener| listener.purpose == purpose);
            let addrs: Vec<_> = addrs.map(|listener| listener.addr.to_string()).collect();
            if !addrs.is_empty() {
                text += &format!("\n# {name} on {}", addrs.join(", "));
            }
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
    fn the_committed_examples_are_generated() {
        for (name, text) in [
            ("config.toml.example", example()),
            (".env.example", env_example()),
        ] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let path = root.join(name);
            if std::env::var_os(UPDATE).is_some() {
                fs::write(&path, &text).expect("the checkout can be written");
            }
            let committed = fs::read_to_string(&path).expect("it is in the repository");
            assert!(
                committed == text,
                "{name} is stale; run this test with {UPDATE}=1"
            );
        }
    }

    #[test]
    fn the_example_of_variables_shows_the_defaults() {
        let text = env_example();
        let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(' '));
        let environment = lines.map(|line| {
            let (name, value) = line.split_once('=').expect("a variable has a value");
            (name.to_owned(), value.to_owned())
        });
        let sources = Sources {
            environment: environment.collect(),
            ..Sources::default()
        };
        for name in SETTINGS.iter().filter_map(|setting| setting.env) {
            assert!(sources.environment.contains_key(name), "{name}");
        }
        let mut shown = load(Mode::Serve, &sources)
            .expect("the example is valid")
            .config;
        let mut defaults = load(Mode::Serve, &Sources::default())
            .expect("the defaults are valid")
            .config;
        // That addresses are configured shows here, and is all that differs.
        shown.listeners.clear();
        defaults.listeners.clear();
        assert_eq!(shown, defaults);
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
            ("WEIR_RELAY", "demo=rtmp://host/app/marker?key=marker"),
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
            "relay = [{ stream = \"demo\", url = \"rtmp://host/app/***\" }] # environment WEIR_RELAY",
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
        let entries = document.get_ref().values();
        let keys = entries.map(|entry| {
            entry
                .get_ref()
                .as_table()
                .map_or(1, |section| section.len())
        });
        assert_eq!(keys.sum::<usize>(), SETTINGS.len());
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
