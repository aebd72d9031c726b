//! The command line of the binary: exit codes, and what goes to which stream.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[test]
fn check_prints_the_settings_in_effect() {
    let dir = Dir::new("check_prints");
    let keys = "[auth]\npublish_keys = { demo = \"marker-4711\" }\n";
    let file = dir.file("own.toml", &format!("[server]\nport = 9000\n{keys}"));
    let args = [
        "check",
        "--config",
        file.to_str().expect("UTF-8"),
        "--max-gops",
        "7",
    ];
    let output = dir.run(
        &args,
        &[("PLAYLIST_SIZE", "12"), ("REDIS_URL", "redis://marker")],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (stdout, stderr) = texts(&output);
    assert!(stdout.contains("\nport = 9000 # file "), "{stdout}");
    assert!(stdout.contains("own.toml:2\n"), "{stdout}");
    assert!(
        stdout.contains("\nplaylist_size = 12 # environment PLAYLIST_SIZE\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("\nmax_gops = 7 # flag --max-gops\n"),
        "{stdout}"
    );
    assert_eq!(
        stderr,
        "warning: REDIS_URL is set, but has no effect in this version\n"
    );
    assert!(!stdout.contains("marker"), "{stdout}");
}

#[test]
fn check_reads_config_toml_of_the_working_directory() {
    let dir = Dir::new("check_reads");
    dir.file("config.toml", "[log]\nformat = \"json\"\n");
    let (stdout, _) = texts(&dir.run(&["check"], &[]));
    assert!(
        stdout.contains("\nformat = \"json\" # file config.toml:2\n"),
        "{stdout}"
    );
}

#[test]
fn every_command_refuses_a_bad_configuration() {
    let dir = Dir::new("every_command");
    dir.file("config.toml", "[server]\nprot = 1\nport = \"http\"\n");
    for args in [
        &["check"][..],
        &["serve"],
        &["dev"],
        &[],
        &["--node-id", "a"],
    ] {
        let output = dir.run(args, &[("WEIR_HSL_ADDR", "x")]);
        assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
        let (stdout, stderr) = texts(&output);
        assert_eq!(stdout, "");
        assert_eq!(
            stderr,
            "error: config.toml:2: unknown key \"server.prot\"; the nearest is \"server.port\"\n\
             error: config.toml:3: server.port: \"http\" is not a whole number from 0 to 65535\n\
             error: WEIR_HSL_ADDR: unknown variable; the nearest is WEIR_HLS_ADDR\n",
            "{args:?}"
        );
    }
}

#[test]
fn arguments_that_do_not_exist_are_refused() {
    let dir = Dir::new("arguments");
    for (args, expected) in [
        (
            &["check", "--config", "missing.toml"][..],
            "error: missing.toml: cannot read the configuration: ",
        ),
        (&["check", "--rtmp-adr", "x"], "'--rtmp-addr'"),
        (
            &["check", "--rtmp-addr", "x"],
            "error: --rtmp-addr: rtmp.addr: \"x\" is not an IP address and a port",
        ),
        (&["chekc"], "'check'"),
    ] {
        let output = dir.run(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?} {output:?}");
        let (_, stderr) = texts(&output);
        assert!(stderr.contains(expected), "{args:?} {stderr}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let dir = Dir::new("help");
    for (args, expected) in [
        (&["--help"][..], "--max-gop-cache-size-mb"),
        (&["dev", "--help"], "--rtmp-addr"),
        (&["--version"], concat!("weir ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = dir.run(args, &[]);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(texts(&output).0.contains(expected), "{args:?}");
    }
}

/// A working directory of one test, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}"));
        fs::create_dir_all(&path).expect("the target directory can be written");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the target directory can be written");
        path
    }

    /// Runs `weir` with no other variables than these.
    fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .envs(environment.iter().copied());
        command.output().expect("weir starts")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}
