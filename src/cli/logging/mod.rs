//! The log on stderr: lines for people, or one JSON object a line for programs.
//!
//! `RUST_LOG` filters both: a level, or `TARGET=LEVEL` pairs, and `/TEXT` for lines that contain it; default `info`.
//! `RUST_LOG_STYLE` (`always`, `never`) decides on colours in lines for people; without it a terminal has them.
//!
//! A line never holds a character that a terminal would obey or hide, whoever wrote it: see `escape`.

mod object;
mod text;
mod timestamp;

use super::args::LogFormat;
use super::stderr;
use env_filter::{Builder, Filter};
use log::{Level, Log, Metadata, Record};
use std::env;
use std::fmt::Display;
use std::sync::OnceLock;
use std::time::SystemTime;
use text::Colours;

/// Sets the process's logger up.
pub(super) fn init(format: LogFormat) {
    let (filter, error) = filter(env::var("RUST_LOG").ok().as_deref());
    let logger = LOGGER.get_or_init(|| Logger {
        filter,
        format,
        colours: Colours::detect(),
    });
    log::set_max_level(logger.filter.filter());
    // Fails if there is a logger, which is then this one.
    let _ = log::set_logger(logger);
    stderr::report_drops_with(|text| unfiltered(Level::Warn, text));
    stderr::flush_at_panics();
    if let Some(error) = error {
        log::warn!("ignored a part of RUST_LOG: {error}");
    }
}

/// Prints why the server ends, whatever `RUST_LOG` says.
pub(super) fn print_failure(error: &dyn Display) {
    stderr::print(&match LOGGER.get() {
        Some(logger) if logger.format == LogFormat::Json => {
            unfiltered(Level::Error, &error.to_string())
        }
        _ => format!("wsloop: {error}\n"),
    });
}

/// The line of a message that `RUST_LOG` does not filter.
fn unfiltered(level: Level, message: &str) -> String {
    let logger = LOGGER.get().expect("set by init, before there is a line");
    let mut record = Record::builder();
    let args = format_args!("{message}");
    logger.line(&record.level(level).args(args).build())
}

/// The filter that `RUST_LOG` describes, and what is wrong with the variable. Wrong directives are ignored. Without a
/// right one the level is info.
fn filter(variable: Option<&str>) -> (Filter, Option<String>) {
    let parse = |spec: &str| {
        let mut builder = Builder::new();
        let error = builder.try_parse(spec).err();
        (builder.build(), error.map(|error| error.to_string()))
    };
    let is_right = |spec: &&str| !spec.trim().is_empty() && parse(spec).1.is_none();
    let spec = variable.filter(|spec| !spec.trim().is_empty());
    match parse(spec.unwrap_or(DEFAULT_FILTER)) {
        (_, error @ Some(_)) => {
            let directives = spec.unwrap_or_default().split(',');
            let right: Vec<&str> = directives.filter(is_right).collect();
            let right = if right.is_empty() {
                DEFAULT_FILTER.to_owned()
            } else {
                right.join(",")
            };
            (parse(&right).0, error)
        }
        right => right,
    }
}

struct Logger {
    filter: Filter,
    format: LogFormat,
    colours: Colours,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

impl Logger {
    /// A line of the log, with its line end.
    fn line(&self, record: &Record<'_>) -> String {
        let now = SystemTime::now();
        match self.format {
            LogFormat::Text => text::line(now, record, self.colours),
            LogFormat::Json => object::line(now, record),
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            stderr::print_log_line(|| self.line(record));
        }
    }

    fn flush(&self) {
        stderr::flush();
    }
}

const DEFAULT_FILTER: &str = "info";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_filters_by_level_and_target_and_is_followed_where_it_is_right() {
        // What wsloop and others may say, and whether there is something to complain about.
        let table = [
            (None, "INFO", "INFO", false),
            (Some(""), "INFO", "INFO", false),
            (Some("off"), "OFF", "OFF", false),
            (Some("debug"), "DEBUG", "DEBUG", false),
            (Some("warn,wsloop=trace"), "TRACE", "WARN", false),
            (Some("wsloop=debug"), "DEBUG", "OFF", false),
            (Some("a=b=c"), "INFO", "INFO", true),
            (Some("a=b=c,debug"), "DEBUG", "DEBUG", true),
            (Some("wsloop=loud,other=debug"), "OFF", "DEBUG", true),
            (Some("info/a/b"), "INFO", "INFO", true),
        ];
        for (variable, wsloop, other, is_wrong) in table {
            let (filter, error) = filter(variable);
            let level = |target: &str| {
                let levels = Level::iter().filter(|&level| {
                    let metadata = Metadata::builder().level(level).target(target).build();
                    filter.enabled(&metadata)
                });
                levels.last().map_or("OFF", |level| level.as_str())
            };
            assert_eq!(
                (level("wsloop::server"), level("other")),
                (wsloop, other),
                "{variable:?}"
            );
            assert_eq!(error.is_some(), is_wrong, "{variable:?}: {error:?}");
        }
    }
}
