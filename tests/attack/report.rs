//! Output of the results as one table, row by row.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Prints each row at once, and counts the rows that failed.
pub(crate) struct Report {
    /// Name of the current scenario.
    name: &'static str,
    /// The current scenario runs a second time.
    is_retry: bool,
    /// Failed rows of the current run of the scenario.
    failed_now: usize,
    /// Failed rows of all earlier scenarios.
    failed: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        println!(
            "{:90} | {:>48} | {:>14} |",
            "scenario", "measured", "wanted"
        );
        Self {
            name: "",
            is_retry: false,
            failed_now: 0,
            failed: 0,
        }
    }

    pub(crate) fn begin(&mut self, name: &'static str) {
        self.name = name;
        self.is_retry = false;
        self.failed_now = 0;
    }

    /// Begins the second run of the scenario. Failures of its first run do not count.
    pub(crate) fn begin_retry(&mut self) {
        self.is_retry = true;
        self.failed_now = 0;
    }

    pub(crate) fn end(&mut self) {
        self.failed += self.failed_now;
    }

    /// Returns whether a row of the current run of the scenario has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed_now > 0
    }

    pub(crate) fn row(
        &mut self,
        what: impl Display,
        measured: impl Display,
        wanted: impl Display,
        is_ok: bool,
    ) {
        self.failed_now += usize::from(!is_ok);
        let retry = if self.is_retry { ", again" } else { "" };
        let title = format!("{}: {what}{retry}", self.name);
        let verdict = if is_ok { "ok" } else { "FAILED" };
        let measured = measured.to_string();
        let wanted = wanted.to_string();
        println!("{title:90} | {measured:>48} | {wanted:>14} | {verdict}");
        // Shows each row at once, even if stdout is a pipe.
        let _ = io::stdout().flush();
    }

    /// Adds a row without a wanted value, which never fails.
    pub(crate) fn note(&mut self, what: impl Display, measured: impl Display) {
        self.row(what, measured, "-", true);
    }

    /// Adds a row that is ok if `time` is at most `max`.
    pub(crate) fn time(&mut self, what: impl Display, time: Duration, max: Duration) {
        let wanted = format!("<= {}", millis(max));
        self.row(what, millis(time), wanted, time <= max);
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.failed {
            0 => println!("all as wanted"),
            failed => println!("{failed} FAILED"),
        }
        ExitCode::from(u8::from(self.failed > 0))
    }
}

pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

/// Formats bytes in MB of 10^6.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
