//! Validates `RUST_LOG` before env_logger parses it. env_logger reports invalid directives with `eprintln!`, which
//! panics if stderr cannot be written, and a panic ends the process.
//!
//! `env_filter::Builder::try_parse` returns errors instead, but env_logger neither exports env_filter nor has such a
//! function. This module therefore repeats its grammar: `DIRECTIVE,DIRECTIVE.../TEXT`, where a directive is `LEVEL`,
//! `TARGET` or `TARGET=LEVEL`.

use log::LevelFilter;

/// Returns the valid part of `RUST_LOG`, and a message about the invalid part if there is one. Invalid directives are
/// ignored. Without a valid directive the level is info.
pub(super) fn parse(variable: Option<&str>) -> (String, Option<String>) {
    let spec = variable.unwrap_or_default();
    let (directives, text) = spec.split_at(spec.find('/').unwrap_or(spec.len()));
    if text.matches('/').count() > 1 {
        let error =
            format!("ignored RUST_LOG: {spec:?} has more than one '/'; the level is {DEFAULT}");
        return (DEFAULT.to_owned(), Some(error));
    }
    let directives = directives.split(',').map(str::trim);
    let (valid, invalid): (Vec<_>, Vec<_>) = directives
        .filter(|directive| !directive.is_empty())
        .partition(|directive| is_valid(directive));
    let valid = match valid[..] {
        [] => DEFAULT.to_owned(),
        _ => valid.join(","),
    };
    let error = (!invalid.is_empty()).then(|| {
        let invalid = invalid.join(",");
        format!(
            "ignored {invalid:?} in RUST_LOG: expected LEVEL (off, error, warn, info, debug or trace), TARGET (wsloop or mio) \
             or TARGET=LEVEL"
        )
    });
    (valid + text, error)
}

fn is_valid(directive: &str) -> bool {
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    match directive.split_once('=') {
        Some((_, level)) => level.trim().is_empty() || is_level(level.trim()),
        // env_logger takes every other word for a target, so a misspelt level would turn the log off.
        None => is_level(directive) || TARGETS.iter().any(|target| directive.starts_with(target)),
    }
}

/// What the targets of the binary's log records begin with.
const TARGETS: [&str; 2] = ["wsloop", "mio"];

const DEFAULT: &str = "info";

#[cfg(test)]
mod tests {
    use super::*;
    use env_logger::Builder;
    use log::{Level, Log, Metadata};

    #[test]
    fn valid_directives_of_rust_log_apply_beside_invalid_ones() {
        // RUST_LOG; the levels of wsloop and of other targets; whether a part is invalid.
        let table = [
            (None, "INFO", "INFO", false),
            (Some(""), "INFO", "INFO", false),
            (Some(" , "), "INFO", "INFO", false),
            (Some("off"), "OFF", "OFF", false),
            (Some("debug"), "DEBUG", "DEBUG", false),
            (Some("warn,wsloop=trace"), "TRACE", "WARN", false),
            (Some("wsloop=debug"), "DEBUG", "OFF", false),
            (Some("wsloop= DEBUG , warn"), "DEBUG", "WARN", false),
            (Some("wsloop="), "TRACE", "OFF", false),
            (Some("wsloop::server"), "TRACE", "OFF", false),
            (Some("inof"), "INFO", "INFO", true),
            (Some("verbose,warn"), "WARN", "WARN", true),
            (Some("a=b=c"), "INFO", "INFO", true),
            (Some("a=b=c,debug"), "DEBUG", "DEBUG", true),
            (Some("wsloop=loud,other=debug"), "OFF", "DEBUG", true),
            (Some("info/a/b"), "INFO", "INFO", true),
            (Some("warn/a,debug/b"), "INFO", "INFO", true),
        ];
        for (variable, wsloop, other, is_invalid) in table {
            let (filters, error) = parse(variable);
            let logger = Builder::new().parse_filters(&filters).build();
            let level = |target: &str| {
                let levels = Level::iter().filter(|&level| {
                    let metadata = Metadata::builder().level(level).target(target).build();
                    logger.enabled(&metadata)
                });
                levels.last().map_or("OFF", |level| level.as_str())
            };
            assert_eq!(
                (level("wsloop::server"), level("other")),
                (wsloop, other),
                "{variable:?}"
            );
            assert_eq!(error.is_some(), is_invalid, "{variable:?}: {error:?}");
        }
    }

    #[test]
    fn invalid_directives_are_removed_and_named() {
        let table = [
            ("a=b=c,wsloop=debug/x,y", "wsloop=debug/x,y", "\"a=b=c\""),
            ("a=loud,b==,warn", "warn", "\"a=loud,b==\""),
            ("a==/x", "info/x", "\"a==\""),
            ("debug/a/b", "info", "\"debug/a/b\""),
        ];
        for (variable, expected, named) in table {
            let (filters, error) = parse(Some(variable));
            assert_eq!(filters, expected);
            let error = error.unwrap();
            assert!(error.contains(named), "{error}");
        }
    }
}
