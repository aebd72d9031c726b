//! Tables of what breaks a good sample.

/// One change of a text, and what a checker is to say of it.
pub(crate) struct Change {
    from: String,
    to: String,
    pub(crate) expected: &'static str,
}

/// The rows `from => to => expected` of a table. `\n`, `\r` and `\u{feff}` stand for what cannot be seen.
pub(crate) fn rows(table: &'static str) -> impl Iterator<Item = Change> {
    let lines = table.lines().filter(|line| !line.is_empty());
    lines.map(|line| {
        let [from, to, expected] = line.split(" => ").collect::<Vec<_>>()[..] else {
            panic!("no row: {line}")
        };
        let text = |text: &str| {
            let text = text.replace("\\n", "\n").replace("\\r", "\r");
            text.replace("\\u{feff}", "\u{feff}")
        };
        Change {
            from: text(from),
            to: text(to),
            expected,
        }
    })
}

impl Change {
    /// The good text, changed at the first place there is.
    pub(crate) fn apply(&self, good: &str) -> String {
        assert!(good.contains(&self.from), "{:?} in:\n{good}", self.from);
        good.replacen(&self.from, &self.to, 1)
    }

    /// Panics unless one of the problems begins as expected.
    #[track_caller]
    pub(crate) fn assert_found(&self, problems: &[String]) {
        assert!(
            problems
                .iter()
                .any(|problem| problem.starts_with(self.expected)),
            "{:?} -> {:?}: {}, not {problems:?}",
            self.from,
            self.to,
            self.expected
        );
    }
}
