//! Shows the message rate and the 99th percentile of the latency on stderr each second while the load runs, if stderr is
//! a terminal.

use super::report::{amount, time};
use super::schedule::SECOND;
use super::tally::Tally;
use super::timeline::{Differences, Interval};
use crate::cli::stderr;
use std::io::{self, IsTerminal};

/// What the line shows beside the figures.
pub(super) enum Stage {
    WarmUp,
    /// Seconds since the start of the measurement, and its length in seconds.
    Measure(f64, f64),
    /// Waiting for this number of answers.
    Drain(u64),
}

/// A line on stderr that is overwritten in place.
pub(super) struct Progress {
    /// `None` if the line is not shown.
    differences: Option<Differences>,
    has_line: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        // A dumb terminal cannot erase a line.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_shown = io::stderr().is_terminal() && !is_dumb;
        Self {
            differences: is_shown.then(Differences::new),
            has_line: false,
        }
    }

    /// Updates the line, at most once a second.
    pub(super) fn show(&mut self, now: u64, tally: &Tally, stage: impl FnOnce() -> Stage) {
        let Some(differences) = &mut self.differences else {
            return;
        };
        if differences.elapsed(now, tally) < INTERVAL {
            return;
        }
        let interval = differences.next(now, tally);
        // The queue of `stderr` does not wait for a terminal that has stopped.
        stderr::print(&format!("{ERASE}{}", line(&interval, &stage())));
        self.has_line = true;
    }

    /// Erases the line.
    pub(super) fn clear(&mut self) {
        if self.has_line {
            stderr::print(ERASE);
            // The report follows, on stdout.
            stderr::flush();
            self.has_line = false;
        }
    }
}

/// Returns the text of the line.
fn line(interval: &Interval, stage: &Stage) -> String {
    let name = match stage {
        Stage::WarmUp => "warm-up".to_owned(),
        Stage::Measure(elapsed, all) => format!("{elapsed:.0}s of {all}s"),
        Stage::Drain(awaited) => return format!("waiting for {awaited} answers"),
    };
    let rate = amount(interval.messages_per_second());
    let p99 = match interval.latencies {
        Some([_, _, p99, _, _]) => time(p99),
        None => "-".to_owned(),
    };
    format!("{name}: {rate} messages/s, p99 {p99}")
}

/// Minimum time between two updates in nanoseconds: less than a second, because [`Progress::show`] is called each half
/// second.
const INTERVAL: u64 = SECOND * 9 / 10;

/// Returns to the start of the line and erases it.
const ERASE: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_stage_the_rate_and_the_percentile() {
        let interval = |latencies| Interval {
            start: 1.0,
            end: 3.0,
            messages: 90_000,
            latencies,
        };
        let some = interval(Some([1.0, 2.0, 3456.0, 4.0, 5.0]));
        let table = [
            (Stage::WarmUp, "warm-up: 45.00k messages/s, p99 3.46ms"),
            (
                Stage::Measure(2.96, 10.0),
                "3s of 10s: 45.00k messages/s, p99 3.46ms",
            ),
            (Stage::Drain(7), "waiting for 7 answers"),
        ];
        for (stage, expected) in table {
            assert_eq!(line(&some, &stage), expected);
        }
        assert_eq!(
            line(&interval(None), &Stage::WarmUp),
            "warm-up: 45.00k messages/s, p99 -"
        );
    }
}
