//! The log on stderr: text lines for people, or one JSON object per line for programs. env_logger filters, formats and
//! colours the records, and writes them to the bounded queue of [`stderr`].
//!
//! `RUST_LOG` filters both formats: a level or `TARGET=LEVEL` pairs, optionally followed by `/TEXT` for lines that
//! contain TEXT. The default is `info`. `RUST_LOG_STYLE` (`always`, `never`) selects colours in text lines. Without
//! it, lines have colours if stderr is a terminal.
//!
//! A line never contains a character that a terminal would execute or hide, even if a peer sent it: see `escape`.

mod filter;
mod limit;
mod object;

use super::args::LogFormat;
use super::escape::Printable;
use super::{stderr, thread};
use env_logger::fmt::{ConfigurableFormat, Formatter};
use env_logger::{Builder, Target, WriteStyle};
use log::{Level, LevelFilter, Log, Record};
use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::mem;
use std::sync::{Arc, Mutex, OnceLock};

/// Sets the logger of the process. Called once. Logs a warning if a part of `RUST_LOG` is invalid.
pub(super) fn init(format: LogFormat) {
    let layout = LAYOUT.get_or_init(|| Layout {
        format,
        style: write_style(),
    });
    let (filters, error) = filter::parse(env::var("RUST_LOG").ok().as_deref());
    let write_record = layout.writer();
    let logger = Builder::new()
        .parse_filters(&filters)
        .write_style(layout.style)
        .target(Target::Pipe(Box::new(stderr::Log)))
        .format(move |out, record| {
            // After an error env_logger prints nothing. The line is dropped before it is formatted.
            if !stderr::accepts_log_line() {
                return Err(ErrorKind::WouldBlock.into());
            }
            write_record(out, record)
        })
        .try_init();
    debug_assert!(logger.is_ok(), "init is called once");
    stderr::set_drop_report_format(|text| {
        let layout = LAYOUT.get().expect("LAYOUT is set before the logger");
        layout.line(Level::Warn, text)
    });
    stderr::flush_before_panic_message();
    if let Some(error) = error {
        log::warn!("{error}");
    }
}

/// Prints the error that ends the server: as a JSON line if that is the format of the log, otherwise as `wsloop:
/// ERROR`. `RUST_LOG` does not filter it.
pub(super) fn print_failure(error: &dyn Display) {
    stderr::print(&match LAYOUT.get() {
        Some(layout) if layout.format == LogFormat::Json => {
            layout.line(Level::Error, &error.to_string())
        }
        _ => format!("wsloop: {error}\n"),
    });
}

/// Format and colours of the log.
#[derive(Clone, Copy)]
struct Layout {
    format: LogFormat,
    style: WriteStyle,
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

type WriteRecord = Box<dyn Fn(&mut Formatter, &Record<'_>) -> io::Result<()> + Send + Sync>;

impl Layout {
    /// Returns the function that writes a record as a line, for `Builder::format`.
    fn writer(self) -> WriteRecord {
        match self.format {
            LogFormat::Text => text(),
            LogFormat::Json => Box::new(object::write),
        }
    }

    /// Formats a message as a line. `RUST_LOG` does not filter it.
    ///
    /// env_logger formats only what it writes to a target. A second logger, with a target in memory, is therefore
    /// built for each line. Such lines are rare: reports of dropped lines, and the error that ends the server.
    fn line(self, level: Level, message: &str) -> String {
        let memory = Memory::default();
        let logger = Builder::new()
            .filter_level(LevelFilter::Trace)
            .write_style(self.style)
            .target(Target::Pipe(Box::new(memory.clone())))
            .format(self.writer())
            .build();
        let mut record = Record::builder();
        let record = record.level(level);
        logger.log(&record.args(format_args!("{message}")).build());
        drop(logger);
        memory.into_text()
    }
}

/// Returns a function that writes text lines in env_logger's own format, with the message escaped. The fields of a
/// record are omitted, because its message contains them.
fn text() -> WriteRecord {
    let mut format = ConfigurableFormat::default();
    // A message is one line, so no further lines need indentation.
    format.target(false).indent(None);
    Box::new(move |out, record| {
        let message = limit::with_flag(record.args().to_string());
        let message = Printable(message);
        let mut printable = Record::builder();
        let printable = printable.level(record.level());
        format.format(out, &printable.args(format_args!("{message}")).build())
    })
}

/// Returns whether lines have colours, by the rules that env_logger applies to stderr. It does not apply them here,
/// because its target is a pipe. The rules depend on whether stderr is a terminal and on `RUST_LOG_STYLE`, `NO_COLOR`
/// (no-color.org), `CLICOLOR` and `CLICOLOR_FORCE` (bixense.com/clicolors).
fn write_style() -> WriteStyle {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is = |name: &str, expected: &str| env::var_os(name).is_some_and(|value| value == expected);
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
    if has_colours {
        WriteStyle::Always
    } else {
        WriteStyle::Never
    }
}

/// A logger's target in memory. Clones share the bytes, so that they can be read after the logger was given a clone.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn into_text(self) -> String {
        let bytes = mem::take(&mut *thread::lock(&self.0));
        String::from_utf8(bytes).expect("env_logger writes the strings of a record")
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the line of a message, without the time.
    fn line(level: Level, message: &str, style: WriteStyle) -> String {
        let format = LogFormat::Text;
        let line = Layout { format, style }.line(level, message);
        let time = line.find("20").expect("a year");
        line[..time].to_owned() + &line[time + "2026-11-21T17:32:09Z".len()..]
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let message = "\"a\\n\"\n[1970-01-01T00:00:00Z ERROR] forged\u{2028}\x1b[2J";
        let expected = "[ INFO ] \"a\\n\"\\n[1970-01-01T00:00:00Z ERROR] \
                        forged\\u{2028}\\u{1b}[2J\n";
        assert_eq!(line(Level::Info, message, WriteStyle::Never), expected);
    }

    #[test]
    fn colours_are_around_the_brackets_and_the_level() {
        let expected = "\x1b[90m[\x1b[0m \x1b[33mWARN \x1b[0m\x1b[90m]\x1b[0m x\\u{1b}[1m\n";
        assert_eq!(line(Level::Warn, "x\x1b[1m", WriteStyle::Always), expected);
    }

    #[test]
    fn a_json_line_is_the_same_with_and_without_colours() {
        for style in [WriteStyle::Always, WriteStyle::Never] {
            let format = LogFormat::Json;
            let line = Layout { format, style }.line(Level::Error, "\u{fc}\x1b[1m\n");
            let (time, rest) = line.split_at(r#"{"time":"2026-11-21T17:32:09.250Z""#.len());
            assert!(time.ends_with("Z\""), "{time}");
            let expected = ",\"level\":\"ERROR\",\"message\":\"\u{fc}\\u001b[1m\\u000a\"}\n";
            assert_eq!(rest, expected);
        }
    }
}
