//! The table.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Prints rows as they come, and remembers whether one failed.
pub(crate) struct Report {
    name: &'static str,
    is_retry: bool,
    failed_now: usize,
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

    /// The scenario is run a second time; its first rows do not count.
    pub(crate) fn begin_retry(&mut self) {
        self.is_retry = true;
        self.failed_now = 0;
    }

    pub(crate) fn end(&mut self) {
        self.failed += self.failed_now;
    }

    /// Whether a row of this scenario failed.
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
        // The rows are for people who wait.
        let _ = io::stdout().flush();
    }

    /// A figure that nothing is demanded of.
    pub(crate) fn note(&mut self, what: impl Display, measured: impl Display) {
        self.row(what, measured, "-", true);
    }

    /// A row that is ok if the time is within the limit.
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

/// Bytes in MB of 10^6.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
