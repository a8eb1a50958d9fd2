//! Tables of flags: each row has the names of a flag and the function that parses its value and applies it.

use super::units;
#[cfg(any(feature = "bench", feature = "connect"))]
use super::unknown_flag;
use super::{UsageError, reject_value, value};
use lexopt::Parser;
#[cfg(feature = "bench")]
use std::fmt::Display;
use std::time::Duration;

/// A flag that changes a value of type `W`, which collects the arguments.
pub(super) struct Flag<W: 'static> {
    pub(super) short: Option<&'static str>,
    pub(super) long: &'static str,
    kind: Kind<W>,
    /// Whether the flag can be given more than once.
    is_repeatable: bool,
}

enum Kind<W: 'static> {
    Switch(fn(&mut W)),
    Value(fn(&mut W, &str) -> Result<(), String>),
}

impl<W> Flag<W> {
    /// Returns a flag that takes a value. `set` parses and stores it, or returns the reason for a usage error.
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

    /// Returns a flag without a value.
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

    /// Allows the flag to be given more than once.
    pub(super) const fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    #[cfg(all(test, feature = "bench", feature = "connect"))]
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

    /// Applies the flag with the value `text`, which is empty for a flag without a value.
    ///
    /// # Errors
    /// The reason for a [`UsageError::invalid_value`].
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

/// Finds a flag by its short or long name.
pub(super) fn find<W>(rows: &'static [Flag<W>], flag: &str) -> Option<&'static Flag<W>> {
    rows.iter()
        .find(|row| row.long == flag || row.short == Some(flag))
}

#[cfg(any(feature = "bench", feature = "connect"))]
/// Parses `flag`, and its value if it takes one, and applies it to `args`. Appends its long name to `given`, the
/// flags of the command line so far.
///
/// # Errors
/// The flag is unknown, is given twice, or has an invalid value.
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

/// The properties of a flag that the parser needs.
#[derive(Clone, Copy)]
pub(super) struct FlagSpec {
    pub(super) long: &'static str,
    pub(super) takes_value: bool,
    /// Whether the flag can be given more than once.
    pub(super) is_repeatable: bool,
}

impl FlagSpec {
    /// Returns the value of the flag, or an empty string if it takes none. Appends its long name to `given`. `flag`
    /// is the name as written, for error messages.
    ///
    /// # Errors
    /// The flag is given twice, lacks a value, or has a value although it takes none.
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

#[cfg(feature = "bench")]
/// Returns `number` if it is from `min` to `max`.
pub(super) fn in_range<T: PartialOrd + Display>(number: T, min: T, max: T) -> Result<T, String> {
    if number < min || number > max {
        return Err(format!("is not from {min} to {max}"));
    }
    Ok(number)
}

/// Parses a duration from 1 ms to 24 h.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    if time < Duration::from_millis(1) || time > TIME_MAX {
        return Err("is not from 1ms to 24h".to_owned());
    }
    Ok(time)
}

#[cfg(any(feature = "bench", feature = "connect"))]
/// Parses a duration of 0, or as [`time`] does.
pub(super) fn time_or_zero(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => time(text),
    }
}

const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
