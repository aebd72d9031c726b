//! The shape of source files: where documentation begins, how long a file may be, what it may be
//! called.

use crate::{Finding, Rule};

pub(crate) const RULES: [Rule; 4] = [
    rust_files_say_what_they_own,
    modules_are_named_files,
    files_are_short,
    files_are_named_for_what_they_hold,
];

/// Lines before a file's tests: more than that and a concept is missing.
const FILE_LINES_MAX: usize = 800;

/// Words that say nothing of what a file holds.
const EMPTY_WORDS: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

fn rust_files_say_what_they_own(path: &str, text: &str) -> Vec<Finding> {
    if !path.ends_with(".rs") || text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding::new(
        path,
        1,
        "does not begin with `//!` and what the file owns",
    )]
}

fn modules_are_named_files(path: &str, _text: &str) -> Vec<Finding> {
    if path != "mod.rs" && !path.ends_with("/mod.rs") {
        return Vec::new();
    }
    vec![Finding::new(
        path,
        1,
        "is a mod.rs: write `foo.rs` beside `foo/`",
    )]
}

fn files_are_short(path: &str, text: &str) -> Vec<Finding> {
    if !is_source(path) {
        return Vec::new();
    }
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let what = format!("has {lines} lines before its tests, more than {FILE_LINES_MAX}");
    vec![Finding::new(path, 1, what)]
}

fn files_are_named_for_what_they_hold(path: &str, _text: &str) -> Vec<Finding> {
    let word = path
        .split(['/', '.', '_', '-'])
        .find(|word| EMPTY_WORDS.contains(word));
    match word {
        Some(word) if is_source(path) => {
            let what = format!("`{word}` in a file name says nothing of what the file holds");
            vec![Finding::new(path, 1, what)]
        }
        _ => Vec::new(),
    }
}

fn is_source(path: &str) -> bool {
    [".rs", ".ts", ".tsx", ".js", ".mjs", ".css", ".sh", ".py"]
        .iter()
        .any(|extension| path.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn a_rust_file_without_its_first_line_is_found() {
        check(rust_files_say_what_they_own, "a.rs", "// no\n", &[1]);
        check(rust_files_say_what_they_own, "a.rs", "", &[1]);
        check(rust_files_say_what_they_own, "a.rs", "//! Owns a.\n", &[]);
        check(rust_files_say_what_they_own, "a.ts", "", &[]);
    }

    #[test]
    fn a_mod_rs_is_found() {
        check(modules_are_named_files, "crates/a/src/b/mod.rs", "", &[1]);
        check(modules_are_named_files, "crates/a/src/b/commod.rs", "", &[]);
    }

    #[test]
    fn a_long_file_is_found() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        let with_tests = format!("{}#[cfg(test)]\n{long}", "x\n".repeat(FILE_LINES_MAX));
        check(files_are_short, "a.rs", &long, &[1]);
        check(files_are_short, "a.ts", &long, &[1]);
        check(files_are_short, "a.rs", &with_tests, &[]);
        check(files_are_short, "a.md", &long, &[]);
    }

    #[test]
    fn a_file_name_without_meaning_is_found() {
        check(
            files_are_named_for_what_they_hold,
            "crates/a/src/utils.rs",
            "",
            &[1],
        );
        check(
            files_are_named_for_what_they_hold,
            "crates/a/src/common/b.rs",
            "",
            &[1],
        );
        check(
            files_are_named_for_what_they_hold,
            "web/src/stream_manager.ts",
            "",
            &[1],
        );
        check(
            files_are_named_for_what_they_hold,
            "crates/a/src/uncommon.rs",
            "",
            &[],
        );
    }
}
