//! Shows the message rate on stderr while the load runs, if stderr is a terminal.

use super::schedule::SECOND;
use super::tally::Tally;
use std::io::{self, IsTerminal, Write};

/// A line on stderr that is overwritten in place.
pub(super) struct Progress {
    is_shown: bool,
    /// Time of the last update in nanoseconds, and the number of messages at that time.
    last: (u64, u64),
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            last: (0, 0),
        }
    }

    /// Updates the line, at most once a second.
    pub(super) fn show(&mut self, now: u64, tally: &Tally, is_measured: bool) {
        // A tally that started after the last update counts from zero.
        let (then, messages) = self.last.max((tally.started(), 0));
        let elapsed = now.saturating_sub(then);
        if !self.is_shown || elapsed < SECOND {
            return;
        }
        self.last = (now, tally.messages);
        let new = tally.messages.saturating_sub(messages);
        let rate = new as f64 * 1e9 / elapsed as f64;
        let note = if is_measured { "" } else { " (not measured)" };
        let line = format!("\r\x1b[K{}s: {rate:.0} messages/s{note}", now / SECOND);
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Erases the line.
    pub(super) fn clear(&self) {
        if self.is_shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
