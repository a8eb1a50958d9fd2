//! Lines for people: `[2026-11-21T17:32:09Z INFO ] what happened`. The fields of a record are in its message, too, and
//! are left out.

use super::timestamp;
use crate::cli::escape::Printable;
use log::{Level, Record};
use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::SystemTime;

/// Whether lines have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    No,
    Ansi,
}

impl Colours {
    /// What suits stderr, unless variables decide: `RUST_LOG_STYLE`, `NO_COLOR` (no-color.org), `CLICOLOR` and
    /// `CLICOLOR_FORCE` (bixense.com/clicolors).
    pub(super) fn detect() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is =
            |name: &str, expected: &str| env::var_os(name).is_some_and(|value| value == expected);
        let has_colours = if is("RUST_LOG_STYLE", "always") {
            true
        } else if is("RUST_LOG_STYLE", "never") || is_set("NO_COLOR") {
            false
        } else if is_set("CLICOLOR_FORCE") {
            true
        } else {
            let is_capable = is_set("TERM") && !is("TERM", "dumb");
            is_capable && !is("CLICOLOR", "0") && io::stderr().is_terminal()
        };
        if has_colours { Self::Ansi } else { Self::No }
    }
}

/// The line of a record, with its line end.
pub(super) fn line(now: SystemTime, record: &Record<'_>, colours: Colours) -> String {
    let level = record.level();
    let (grey, colour, plain) = match colours {
        Colours::No => ("", "", ""),
        Colours::Ansi => (GREY, colour(level), PLAIN),
    };
    let mut line = String::with_capacity(LINE_BYTES);
    for part in [grey, "[", plain] {
        line.push_str(part);
    }
    timestamp::push_seconds(now, &mut line);
    let padding = &"     "[level.as_str().len()..];
    for part in [
        " ",
        colour,
        level.as_str(),
        padding,
        plain,
        grey,
        "]",
        plain,
        " ",
    ] {
        line.push_str(part);
    }
    // A String takes everything.
    let _ = write!(line, "{}", Printable(record.args()));
    line.push('\n');
    line
}

fn colour(level: Level) -> &'static str {
    match level {
        // Bold red, yellow, green, blue, cyan.
        Level::Error => "\x1b[1m\x1b[31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug => "\x1b[34m",
        Level::Trace => "\x1b[36m",
    }
}

/// More than most lines have.
const LINE_BYTES: usize = 256;

const GREY: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn line(level: Level, message: &str, colours: Colours) -> String {
        let mut record = Record::builder();
        let args = format_args!("{message}");
        super::line(UNIX_EPOCH, &record.level(level).args(args).build(), colours)
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let message = "\"a\\n\"\n[1970-01-01T00:00:00Z ERROR] forged\u{2028}\x1b[2J";
        let expected = "[1970-01-01T00:00:00Z INFO ] \"a\\n\"\\n[1970-01-01T00:00:00Z ERROR] \
                        forged\\u{2028}\\u{1b}[2J\n";
        assert_eq!(line(Level::Info, message, Colours::No), expected);
    }

    #[test]
    fn colours_are_around_the_brackets_and_the_level() {
        let expected =
            "\x1b[90m[\x1b[0m1970-01-01T00:00:00Z \x1b[33mWARN \x1b[0m\x1b[90m]\x1b[0m x\n";
        assert_eq!(line(Level::Warn, "x", Colours::Ansi), expected);
    }
}
