//! Reads the paths (`a::b::c`) out of Rust source text: the least lexer that the arrows need.
//!
//! It knows comments, literals, identifiers and `use` trees, not the grammar. It expands
//! `use a::{b, c::d}` to `a::b` and `a::c::d`, so that no way of writing a path hides it.

use std::{iter::Peekable, slice::Iter};

/// A path as written (no name is resolved) and the line it begins on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CodePath {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl CodePath {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(a, b)| a == b)
    }

    pub(crate) fn ends_with(&self, suffix: &[&str]) -> bool {
        let skipped = self.segments.len().checked_sub(suffix.len());
        skipped.is_some_and(|n| self.segments[n..].iter().zip(suffix).all(|(a, b)| a == b))
    }
}

/// Every path in `text` outside comments and literals, in order. A lone identifier is a path too.
pub(crate) fn paths(text: &str) -> Vec<CodePath> {
    let code = blank_comments_and_literals(text);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    let mut rest = tokens.iter().peekable();
    while let Some(&&(line, ref token)) = rest.peek() {
        match token {
            Token::Name(name) if name == "use" => {
                rest.next();
                use_tree(&mut rest, &[], &mut found);
            }
            Token::Name(_) => {
                let segments = names_joined_by_colons(&mut rest);
                found.push(CodePath { line, segments });
            }
            _ => {
                rest.next();
            }
        }
    }
    found
}

enum Token {
    Name(String),
    PathSep,
    Mark(char),
}

type Tokens<'t> = Peekable<Iter<'t, (usize, Token)>>;

fn tokens(code: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            let token = if is_name_char(c) {
                let mut name = String::from(c);
                while let Some(c) = chars.next_if(|&c| is_name_char(c)) {
                    name.push(c);
                }
                Token::Name(name)
            } else if c == ':' && chars.next_if_eq(&':').is_some() {
                Token::PathSep
            } else if c.is_whitespace() {
                continue;
            } else {
                Token::Mark(c)
            };
            tokens.push((number + 1, token));
        }
    }
    tokens
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Takes `a::b::c`; a `::` that no name follows (`a::<T>`, `a::{`) is taken too and ends the path.
fn names_joined_by_colons(rest: &mut Tokens<'_>) -> Vec<String> {
    let mut segments = Vec::new();
    while let Some((_, Token::Name(name))) = rest.next_if(|(_, t)| matches!(t, Token::Name(_))) {
        segments.push(name.clone());
        if rest.next_if(|(_, t)| matches!(t, Token::PathSep)).is_none() {
            break;
        }
    }
    segments
}

/// Takes one tree of a `use` declaration, with the group it may end in.
fn use_tree(rest: &mut Tokens<'_>, prefix: &[String], found: &mut Vec<CodePath>) {
    rest.next_if(|(_, t)| matches!(t, Token::PathSep));
    let line = rest.peek().map_or(0, |(line, _)| *line);
    let mut segments = prefix.to_vec();
    segments.extend(names_joined_by_colons(rest));
    if rest
        .next_if(|(_, t)| matches!(t, Token::Mark('{')))
        .is_none()
    {
        found.push(CodePath { line, segments });
        return;
    }
    while rest
        .peek()
        .is_some_and(|(_, t)| !matches!(t, Token::Mark('}')))
    {
        use_tree(rest, &segments, found);
        // The rest of this branch: `as name`, `*`, and the comma.
        while rest
            .next_if(|(_, t)| !matches!(t, Token::Mark(',' | '}' | ';')))
            .is_some()
        {}
        if rest
            .next_if(|(_, t)| matches!(t, Token::Mark(',')))
            .is_none()
        {
            break;
        }
    }
    rest.next_if(|(_, t)| matches!(t, Token::Mark('}')));
}

/// The same text with every comment and the inside of every literal turned to spaces; lines stay.
fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let after_name = at > 0 && is_name_char(chars[at - 1]);
        let end = skipped_to(&chars, at, after_name);
        if end > at {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends, or `at` if none begins there.
fn skipped_to(chars: &[char], at: usize, after_name: bool) -> usize {
    let rest = &chars[at..];
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
        ['r', '"' | '#', ..] if !after_name => raw_string(&rest[1..]).map_or(0, |n| n + 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !after_name => {
            raw_string(&rest[2..]).map_or(0, |n| n + 2)
        }
        _ => 0,
    };
    at + length
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match rest.get(at..) {
            Some(['/', '*', ..]) => (depth, at) = (depth + 1, at + 2),
            Some(['*', '/', ..]) if depth == 1 => return at + 2,
            Some(['*', '/', ..]) => (depth, at) = (depth - 1, at + 2),
            Some([_, ..]) => at += 1,
            _ => return rest.len(),
        }
    }
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of `##"…"##`; `None` if no quote follows the hashes, as in `r#type`.
fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    if rest.get(hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = &rest[hashes + 1..];
    let end = body
        .windows(closing.len())
        .position(|window| window == closing);
    Some(end.map_or(rest.len(), |n| hashes + 1 + n + closing.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = paths(text)
            .iter()
            .map(|path| path.segments.join("::"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn paths_are_read_as_written() {
        check("a::b(c)", &["a::b", "c"]);
        check(
            "let x: Vec<std::net::IpAddr>;",
            &["let", "x", "Vec", "std::net::IpAddr"],
        );
        check("::std::f::<u8>()", &["std::f", "u8"]);
    }

    #[test]
    fn use_trees_are_expanded() {
        check("use a;", &["a"]);
        check("pub use a::b as c;", &["pub", "a::b", "as", "c"]);
        check(
            "use a::{b, c::{d, e as f}, self}; g",
            &["a::b", "a::c::d", "a::c::e", "a::self", "g"],
        );
        check("use {a::b,\n c::*,\n}; d", &["a::b", "c", "d"]);
    }

    #[test]
    fn comments_and_literals_hold_no_paths() {
        check("a // b::c\nd /* e /* f */ g */ h", &["a", "d", "h"]);
        check(r#"a("b // c\" d", 'e', '\'', '"') f"#, &["a", "f"]);
        check("r#\"a\" b\"# br\"c\" bar\"d\" e", &["bar", "e"]);
        check(
            "fn f<'a>(r#type: &'a str)",
            &["fn", "f", "a", "r", "type", "a", "str"],
        );
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let found = paths("/* 1\n2 */\n\"3\n4\"\na");
        assert_eq!(
            found,
            [CodePath {
                line: 5,
                segments: vec!["a".to_owned()]
            }]
        );
    }
}
