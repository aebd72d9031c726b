//! The tidy test: what the compiler does not say about this repository, said by a test.
//!
//! It owns the list of files and of rules. A rule is a pure function from a path and the text of
//! that file to findings; [`layers`] holds the arrows between crates, [`files`] the shape of files,
//! [`wording`] what must not be written. Function length and naming style are clippy's.

mod files;
mod layers;
mod rust_code;
mod wording;

use std::{fmt, fs, path::Path, process::Command};

/// A rule over one file: its path from the root of the repository, with `/`, and its text.
type Rule = fn(&str, &str) -> Vec<Finding>;

/// One thing that is not tidy.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; 1 also stands for the file as a whole.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Every text file that git tracks or would track, with its path from the root.
fn repository() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listing = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .expect("git is installed");
    let complaint = String::from_utf8_lossy(&listing.stderr);
    assert!(listing.status.success(), "git ls-files: {complaint}");
    String::from_utf8(listing.stdout)
        .expect("paths are UTF-8")
        .split_terminator('\0')
        // What is not there was deleted and not committed yet; what is not UTF-8 is not text.
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?)))
        .collect()
}

fn assert_tidy(rules: &[Rule]) {
    let repository = repository();
    assert!(
        repository
            .iter()
            .any(|(path, _)| path == "crates/server/tests/tidy/main.rs"),
        "the list of files lacks this one",
    );
    let findings: Vec<String> = repository
        .iter()
        .flat_map(|(path, text)| rules.iter().flat_map(move |rule| rule(path, text)))
        .map(|finding| finding.to_string())
        .collect();
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn arrows_between_crates_point_down() {
    assert_tidy(&layers::RULES);
}

#[test]
fn files_have_the_house_shape() {
    assert_tidy(&files::RULES);
}

#[test]
fn nothing_unwanted_is_written() {
    assert_tidy(&wording::RULES);
}

/// Runs `rule` on a sample and compares the lines it complains of: the way every rule is tested.
#[cfg(test)]
#[track_caller]
fn check(rule: Rule, path: &str, text: &str, lines: &[usize]) {
    let found = rule(path, text);
    let found_lines: Vec<usize> = found.iter().map(|finding| finding.line).collect();
    assert_eq!(found_lines, lines, "{path}: {found:?}");
}
