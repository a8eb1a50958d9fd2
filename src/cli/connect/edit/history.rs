//! The lines that were sent before, in memory only: messages may contain passwords, and wscat keeps no file either.

use std::collections::VecDeque;

/// The history of an editor, and the position of the line that is shown.
#[derive(Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    /// Total length of `lines`.
    bytes: usize,
    /// The index of the line that is shown. `None`: the line that was typed.
    shown: Option<usize>,
    /// The line that was typed, while another one is shown.
    typed: String,
}

impl History {
    /// Adds a line that was entered, unless it is empty or equals the last one. Drops the oldest lines if the limits are
    /// exceeded.
    pub(super) fn add(&mut self, line: &str) {
        self.shown = None;
        self.typed = String::new();
        if line.is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let oldest = self.lines.pop_front();
            self.bytes -= oldest.map_or(0, |line| line.len());
        }
    }

    /// Returns the line before the one that is shown, which is `current`. `None` if that is the oldest.
    pub(super) fn older(&mut self, current: &str) -> Option<&str> {
        let index = self.shown.unwrap_or(self.lines.len()).checked_sub(1)?;
        if self.shown.is_none() {
            self.typed = current.to_owned();
        }
        self.shown = Some(index);
        Some(&self.lines[index])
    }

    /// Returns the line after the one that is shown: at last, the line that was typed. `None` if that is shown.
    pub(super) fn newer(&mut self) -> Option<&str> {
        let index = self.shown? + 1;
        self.shown = (index < self.lines.len()).then_some(index);
        Some(self.lines.get(index).unwrap_or(&self.typed))
    }
}

/// Maximum number of lines.
const LINES_MAX: usize = 1000;

/// Maximum total length of the lines. A longer line is not retained.
const BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_lines_are_shown_and_the_typed_line_is_not_lost() {
        let mut history = History::default();
        assert_eq!(history.older("typed"), None);
        assert_eq!(history.newer(), None);
        for line in ["a", "b", "b", ""] {
            history.add(line);
        }
        assert_eq!(history.older("typed"), Some("b"));
        assert_eq!(history.older("b, edited"), Some("a"));
        assert_eq!(history.older("a"), None);
        assert_eq!(history.newer(), Some("b"));
        assert_eq!(history.newer(), Some("typed"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn the_history_is_bounded_in_lines_and_bytes() {
        let mut history = History::default();
        for line in 0..=LINES_MAX {
            history.add(&line.to_string());
        }
        assert_eq!(history.lines.len(), LINES_MAX);
        assert_eq!(history.lines[0], "1");
        history.add(&"x".repeat(BYTES_MAX - 3));
        assert_eq!((history.lines.len(), history.bytes), (1, BYTES_MAX - 3));
        history.add(&"x".repeat(BYTES_MAX + 1));
        assert_eq!((history.lines.len(), history.bytes), (0, 0));
    }
}
