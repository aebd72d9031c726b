//! What must not be written into the repository: the author's machine, a package registry's host,
//! and work left for later.

use crate::{Finding, Rule};

pub(crate) const RULES: [Rule; 4] = [
    no_machine_paths,
    no_registry_hosts,
    npm_lock_names_no_host,
    nothing_is_left_for_later,
];

/// Where this file's own samples are: they break its rules on purpose.
const THIS_FILE: &str = "crates/server/tests/tidy/wording.rs";

/// Folders that exist only on the machine of whoever wrote them down.
const MACHINE_FOLDERS: &[&str] = &["/work/", "/root/", "/home/"];

/// First labels of hosts that serve packages; a mirror of one differs from machine to machine.
const REGISTRY_LABELS: &[&str] = &[
    "registry", "index", "npm", "pypi", "deb", "mirror", "mirrors", "proxy",
];

/// Words that promise work instead of doing it.
const LEFTOVER_WORDS: &[&str] = &["TODO", "FIXME", "XXX", "todo!", "unimplemented!"];

/// The attribute that switches a test off, with or without a reason.
const IGNORED_TEST: &str = "#[ignore";

fn no_machine_paths(path: &str, text: &str) -> Vec<Finding> {
    per_line(path, text, |line| {
        let folder = MACHINE_FOLDERS
            .iter()
            .find(|folder| begins_a_path(line, folder))?;
        Some(format!("`{folder}` is a path of one machine"))
    })
}

fn no_registry_hosts(path: &str, text: &str) -> Vec<Finding> {
    per_line(path, text, |line| {
        let label = line.split("://").skip(1).find_map(|url| {
            let host = url.split(['/', ':', '"', ' ', ')']).next()?;
            let (label, _) = host.split_once('.')?;
            REGISTRY_LABELS.contains(&label).then_some(label)
        })?;
        Some(format!(
            "`{label}.…` is a registry's host: the package client knows it"
        ))
    })
}

fn npm_lock_names_no_host(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with("package-lock.json") {
        return Vec::new();
    }
    per_line(path, text, |line| {
        line.contains("\"resolved\"")
            .then(|| "`resolved` ties the lock to one registry".to_owned())
    })
}

fn nothing_is_left_for_later(path: &str, text: &str) -> Vec<Finding> {
    if path.ends_with("package-lock.json") || path == "Cargo.lock" {
        return Vec::new();
    }
    per_line(path, text, |line| {
        let word = LEFTOVER_WORDS
            .iter()
            .find(|word| is_a_word(line, word))
            .or_else(|| line.contains(IGNORED_TEST).then_some(&IGNORED_TEST))?;
        Some(format!("`{word}`: do it, or file an issue"))
    })
}

fn per_line(path: &str, text: &str, complaint: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    if path == THIS_FILE {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| Some(Finding::new(path, number + 1, complaint(line)?)))
        .collect()
}

/// Whether `folder` stands in `line` as the start of a path, not inside one or inside a URL.
fn begins_a_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}>*".contains(c))
    })
}

fn is_a_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_machine_path_is_found() {
        check(no_machine_paths, "a.md", "\nsee /work/main/x\n", &[2]);
        check(no_machine_paths, "a.rs", "\"/home/ann/weir\"", &[1]);
        check(
            no_machine_paths,
            "a.md",
            "docs/home/x https://host/work/y ./root/",
            &[],
        );
    }

    #[test]
    fn a_registry_host_is_found() {
        check(
            no_registry_hosts,
            "a.md",
            "from https://registry.example.org/x",
            &[1],
        );
        check(
            no_registry_hosts,
            "pip.conf",
            "url = http://pypi.example:8080/simple",
            &[1],
        );
        let standard = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
        check(no_registry_hosts, "Cargo.lock", standard, &[]);
        check(
            no_registry_hosts,
            "a.md",
            "the registry. https://indexed.example.org",
            &[],
        );
    }

    #[test]
    fn an_npm_lock_with_addresses_is_found() {
        let lock = "{\n\"resolved\": \"x\"\n}";
        check(npm_lock_names_no_host, "web/package-lock.json", lock, &[2]);
        check(npm_lock_names_no_host, "web/package.json", lock, &[]);
    }

    #[test]
    fn work_left_for_later_is_found() {
        let rule = nothing_is_left_for_later;
        check(
            rule,
            "a.rs",
            "// TODO: later\n// FIXME\n/* XXX */",
            &[1, 2, 3],
        );
        check(rule, "a.rs", "todo!()\nunimplemented!(\"x\")", &[1, 2]);
        check(rule, "a.rs", "#[ignore]\n#[ignore = \"slow\"]", &[1, 2]);
        check(rule, "a.rs", "let todos = 1; mktemp x.XXXXXX", &[]);
        check(rule, "Cargo.lock", "TODO", &[]);
    }
}
