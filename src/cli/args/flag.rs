//! A table of flags: one row for each, with what it sets and what its value may be.

use super::units;
use super::{UsageError, no_value, unknown_flag, value};
use lexopt::Parser;
use std::fmt::Display;
use std::time::Duration;

/// A flag, and what it does to the words read so far.
pub(super) struct Flag<W: 'static> {
    pub(super) short: Option<&'static str>,
    pub(super) long: &'static str,
    kind: Kind<W>,
    /// Whether it may be given again.
    is_repeatable: bool,
}

enum Kind<W: 'static> {
    Switch(fn(&mut W)),
    Value(fn(&mut W, &str) -> Result<(), String>),
}

impl<W> Flag<W> {
    pub(super) const fn value_of(
        short: Option<&'static str>,
        long: &'static str,
        set: fn(&mut W, &str) -> Result<(), String>,
    ) -> Self {
        Self {
            short,
            long,
            kind: Kind::Value(set),
            is_repeatable: false,
        }
    }

    pub(super) const fn switch(
        short: Option<&'static str>,
        long: &'static str,
        set: fn(&mut W),
    ) -> Self {
        Self {
            short,
            long,
            kind: Kind::Switch(set),
            is_repeatable: false,
        }
    }

    pub(super) const fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    #[cfg(test)]
    pub(super) fn takes_value(&self) -> bool {
        matches!(self.kind, Kind::Value(_))
    }
}

/// Reads the value of `flag`, if it takes one, and sets what it sets. `given` has the flags until then.
///
/// # Errors
/// There is no such flag, it is given twice, or its value is wrong.
pub(super) fn set<W>(
    rows: &'static [Flag<W>],
    flag: &str,
    parser: &mut Parser,
    given: &mut Vec<&'static str>,
    words: &mut W,
) -> Result<(), UsageError> {
    let row = rows
        .iter()
        .find(|row| row.long == flag || row.short == Some(flag));
    let row = row.ok_or_else(|| unknown_flag(flag, rows.iter().map(|row| row.long)))?;
    if !row.is_repeatable && given.contains(&row.long) {
        return Err(UsageError(format!("{} is given twice", row.long)));
    }
    given.push(row.long);
    match row.kind {
        Kind::Switch(set) => {
            no_value(parser, flag)?;
            set(words);
            Ok(())
        }
        Kind::Value(set) => {
            let text = value(parser, flag)?;
            set(words, &text).map_err(|reason| UsageError::of_value(flag, &text, reason))
        }
    }
}

pub(super) fn within<T: PartialOrd + Display>(number: T, min: T, max: T) -> Result<T, String> {
    if number < min || number > max {
        return Err(format!("is not from {min} to {max}"));
    }
    Ok(number)
}

/// A length of time that something is done for.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    if time < Duration::from_millis(1) || time > TIME_MAX {
        return Err("is not from 1ms to 24h".to_owned());
    }
    Ok(time)
}

/// As [`time`], or 0 to do it not at all.
pub(super) fn time_or_zero(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => time(text),
    }
}

const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
