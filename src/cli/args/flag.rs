//! A table of flags: one row for each, with what it sets and what its value may be.

use super::units;
#[cfg(any(feature = "bench", feature = "connect"))]
use super::unknown_flag;
use super::{UsageError, reject_value, value};
use lexopt::Parser;
#[cfg(any(feature = "bench", feature = "connect"))]
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
    pub(super) const fn with_value(
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
        self.spec().takes_value
    }

    pub(super) fn spec(&self) -> FlagSpec {
        FlagSpec {
            long: self.long,
            takes_value: matches!(self.kind, Kind::Value(_)),
            is_repeatable: self.is_repeatable,
        }
    }

    /// `text` is empty for a flag without a value.
    ///
    /// # Errors
    /// The end of a sentence that begins with the flag and `text`.
    pub(super) fn set(&self, args: &mut W, text: &str) -> Result<(), String> {
        match self.kind {
            Kind::Switch(set) => {
                set(args);
                Ok(())
            }
            Kind::Value(set) => set(args, text),
        }
    }
}

/// The row of a flag, by either of its names.
pub(super) fn find<W>(rows: &'static [Flag<W>], flag: &str) -> Option<&'static Flag<W>> {
    rows.iter()
        .find(|row| row.long == flag || row.short == Some(flag))
}

#[cfg(any(feature = "bench", feature = "connect"))]
/// Reads the value of `flag`, if it takes one, and sets what it sets. `given` has the flags until then.
///
/// # Errors
/// There is no such flag, it is given twice, or its value is wrong.
pub(super) fn set<W>(
    rows: &'static [Flag<W>],
    flag: &str,
    parser: &mut Parser,
    given: &mut Vec<&'static str>,
    args: &mut W,
) -> Result<(), UsageError> {
    let row =
        find(rows, flag).ok_or_else(|| unknown_flag(flag, rows.iter().map(|row| row.long)))?;
    let text = row.spec().read(flag, parser, given)?;
    row.set(args, &text)
        .map_err(|reason| UsageError::invalid_value(flag, &text, reason))
}

/// What must be known of a flag to read it.
#[derive(Clone, Copy)]
pub(super) struct FlagSpec {
    pub(super) long: &'static str,
    pub(super) takes_value: bool,
    /// Whether it may be given again.
    pub(super) is_repeatable: bool,
}

impl FlagSpec {
    /// Notes that the flag, as it was written, is given, and reads its value; empty if it takes none.
    ///
    /// # Errors
    /// It is given twice, has no value and needs one, or has one and takes none.
    pub(super) fn read(
        self,
        flag: &str,
        parser: &mut Parser,
        given: &mut Vec<&'static str>,
    ) -> Result<String, UsageError> {
        if !self.is_repeatable && given.contains(&self.long) {
            return Err(UsageError(format!("{} is given twice", self.long)));
        }
        given.push(self.long);
        if self.takes_value {
            return value(parser, flag);
        }
        reject_value(parser, flag)?;
        Ok(String::new())
    }
}

#[cfg(any(feature = "bench", feature = "connect"))]
pub(super) fn in_range<T: PartialOrd + Display>(number: T, min: T, max: T) -> Result<T, String> {
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

#[cfg(any(feature = "bench", feature = "connect"))]
/// As [`time`], or 0 to do it not at all.
pub(super) fn time_or_zero(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => time(text),
    }
}

const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
