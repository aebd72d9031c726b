//! One line that is written again and again while a measurement runs.
//!
//! Owns: that it is only on terminals. Does not own: what it says.

use std::io::{self, IsTerminal as _, Write as _};

/// The line.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
}

impl Progress {
    /// A line on standard error, if that is a terminal.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Writes `text` over what was there.
    pub fn show(&self, text: &str) {
        self.write(&format!("\r\x1b[2K{text}"));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.write("\r\x1b[2K");
    }

    fn write(&self, text: &str) {
        if self.is_terminal {
            // Progress that cannot be shown is no reason to stop.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
