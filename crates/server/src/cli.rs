//! The command line: which command, which file, which flags.
//!
//! Owns: parsing of arguments, and what is printed before a server runs. The flags come from the table of settings.
//! Does not own: what a setting means ([`crate::config`]) and what a command does ([`crate::app`]).

mod bench;

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Arg, ArgMatches, error::ErrorKind, value_parser};

use crate::{
    app,
    config::{self, Mode, SETTINGS, Sources},
};

/// The exit code of everything that the operator has to correct: arguments, settings, a port in use.
pub const EXIT_USAGE: u8 = 2;

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    command: Command,
    /// `--config`; without it `config.toml` of the working directory is read if there is one.
    config_path: Option<PathBuf>,
    /// Settings given as flags: key and value.
    flags: Vec<(&'static str, String)>,
}

/// The commands; `serve` when none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Run(Mode),
    Check,
}

/// Does what the arguments ask for (the first one is the name of the program).
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    let program = args.next();
    // It is no server, so it takes none of a server's settings.
    if args.peek().is_some_and(|arg| arg == bench::NAME) {
        return bench::run(args);
    }
    let invocation = match Invocation::parse(program.into_iter().chain(args)) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Where even this cannot be written, there is nobody left to tell.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE).into();
        }
    };
    let mode = match invocation.command {
        Command::Run(mode) => mode,
        Command::Check => Mode::Serve,
    };
    let loaded = Sources::gather(invocation.config_path.as_deref(), invocation.flags)
        .and_then(|sources| config::load(mode, &sources));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| complain("error", problem));
            return EXIT_USAGE.into();
        }
    };
    match invocation.command {
        Command::Check => {
            loaded
                .config
                .warnings
                .iter()
                .for_each(|warning| complain("warning", warning));
            let _ = io::stdout().write_all(loaded.to_toml().as_bytes());
            ExitCode::SUCCESS
        }
        Command::Run(mode) => app::run(loaded.config, mode).unwrap_or_else(|error| {
            complain("error", format_args!("{error:#}"));
            ExitCode::FAILURE
        }),
    }
}

impl Invocation {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let root = grammar().try_get_matches_from(args)?;
        let (command, matches) = match root.subcommand() {
            Some(("dev", matches)) => (Command::Run(Mode::Dev), matches),
            Some(("check", matches)) => (Command::Check, matches),
            Some((bench::NAME, _)) => {
                let what = "`bench` comes first: it takes none of a server's settings";
                return Err(grammar().error(ErrorKind::ArgumentConflict, what));
            }
            Some((_, matches)) => (Command::Run(Mode::Serve), matches),
            None => (Command::Run(Mode::Serve), &root),
        };
        let config_path = matches.get_one::<PathBuf>("config").cloned();
        Ok(Self {
            command,
            config_path,
            flags: flags(matches),
        })
    }
}

/// The commands and flags that clap accepts.
fn grammar() -> clap::Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file [default: config.toml, if there is one]");
    let settings = SETTINGS.iter().filter_map(|setting| {
        let arg = Arg::new(setting.key)
            .long(setting.flag?)
            .value_name("VALUE")
            .help(setting.why);
        // `--gop-cache`, `--gop-cache false` and `--gop-cache=false` are all in use.
        Some(if setting.switch {
            arg.num_args(0..=1).default_missing_value("true")
        } else {
            arg
        })
    });
    let flags = std::iter::once(config)
        .chain(settings)
        .map(|arg| arg.global(true));
    clap::Command::new("weir")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Live media server: takes a stream in once and hands it out to every kind of player")
        .after_help("Without a command, weir serves. Every setting: config.toml.example.")
        .args(flags)
        .subcommand(clap::Command::new("serve").about("Serve securely: publishing needs a key"))
        .subcommand(
            clap::Command::new("dev").about("Serve openly, on loopback only, with a stream `demo`"),
        )
        .subcommand(
            clap::Command::new("check")
                .about("Check the configuration and print the settings in effect"),
        )
        .subcommand(clap::Command::new(bench::NAME).about(bench::ABOUT))
}

fn flags(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = |key| matches.get_one::<String>(key).cloned();
    SETTINGS
        .iter()
        .filter(|setting| setting.flag.is_some())
        .filter_map(|setting| Some((setting.key, given(setting.key)?)))
        .collect()
}

fn complain(level: &str, what: impl Display) {
    let _ = writeln!(io::stderr(), "{level}: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_without_a_command() {
        check("weir", Command::Run(Mode::Serve), None, &[]);
        check("weir serve", Command::Run(Mode::Serve), None, &[]);
        check("weir dev", Command::Run(Mode::Dev), None, &[]);
        check(
            "weir check --config a.toml",
            Command::Check,
            Some("a.toml"),
            &[],
        );
        check(
            "weir --config a.toml check",
            Command::Check,
            Some("a.toml"),
            &[],
        );
        let rtmp = [("rtmp.addr", "127.0.0.1:1")];
        check(
            "weir --rtmp-addr 127.0.0.1:1",
            Command::Run(Mode::Serve),
            None,
            &rtmp,
        );
        check(
            "weir serve --rtmp-addr 127.0.0.1:1",
            Command::Run(Mode::Serve),
            None,
            &rtmp,
        );
        check(
            "weir dev --rtmp-addr=127.0.0.1:1",
            Command::Run(Mode::Dev),
            None,
            &rtmp,
        );
    }

    #[test]
    fn every_flag_of_the_contract_takes_its_value() {
        for (flag, key) in [
            ("--httpflv-addr", "server.httpflv_addr"),
            ("--hls-addr", "hls.addr"),
            ("--max-gops", "gop_cache.max_gops"),
            ("--max-gop-cache-size-mb", "gop_cache.max_size_mb"),
            ("--node-id", "server.node_id"),
            ("--data-dir", "server.data_dir"),
        ] {
            check(
                &format!("weir dev {flag} x"),
                Command::Run(Mode::Dev),
                None,
                &[(key, "x")],
            );
        }
    }

    #[test]
    fn a_switch_needs_no_value() {
        for (args, value) in [
            ("weir --gop-cache", "true"),
            ("weir --gop-cache false", "false"),
            ("weir --gop-cache=false", "false"),
            ("weir --gop-cache --node-id", "true"),
        ] {
            let args = if args.ends_with("id") {
                format!("{args} a")
            } else {
                args.to_owned()
            };
            let flags = parse(&args)
                .map(|invocation| invocation.flags)
                .expect("accepted");
            assert!(
                flags.contains(&("gop_cache.enabled", value.to_owned())),
                "{args}: {flags:?}"
            );
        }
    }

    #[test]
    fn flags_without_a_meaning_are_refused() {
        for args in [
            "weir --redis-url x",
            "weir --nonsense",
            "weir fly",
            "weir --node-id a bench",
        ] {
            let error = parse(args).expect_err(args);
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{args}");
        }
    }

    fn check(args: &str, command: Command, config: Option<&str>, flags: &[(&'static str, &str)]) {
        let flags = flags
            .iter()
            .map(|&(key, value)| (key, value.to_owned()))
            .collect();
        let expected = Invocation {
            command,
            config_path: config.map(PathBuf::from),
            flags,
        };
        assert_eq!(parse(args).expect(args), expected, "{args}");
    }

    fn parse(args: &str) -> Result<Invocation, clap::Error> {
        Invocation::parse(args.split(' ').map(OsString::from))
    }
}
