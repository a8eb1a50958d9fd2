//! Environment variables `WSLOOP_*`: each flag of a server has one, such as `WSLOOP_IDLE_TIMEOUT` for `--idle-timeout`.
//!
//! A flag on the command line overrides its variable, and an empty variable is ignored. A variable that belongs to no
//! flag is collected for a warning and is no error: in a pod of a namespace with a service named `wsloop`, Kubernetes
//! sets `WSLOOP_SERVICE_HOST`, `WSLOOP_PORT` and others.

use super::flag::FlagSpec;
use super::{ServeArgs, ServerFlag, UsageError, redis, tls};
use std::ffi::OsString;

/// Applies the variables of all flags that the command line does not contain.
///
/// # Errors
/// The first invalid variable, in the order of the tables of flags.
pub(super) fn apply(
    serve: &mut ServeArgs,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), UsageError> {
    let mut ours = Vec::new();
    for (name, value) in variables {
        #[cfg(feature = "tls")]
        if name == "LISTEN_FDS" {
            serve.tls.is_socket_passed = true;
        }
        let Ok(name) = name.into_string() else {
            continue;
        };
        if name.starts_with(PREFIX) {
            ours.push((name, value));
        } else if name == "LISTEN_FDS" {
            serve.may_inherit = true;
        }
    }
    for (name, value) in &ours {
        let flag = FLAG_PREFIX.to_owned() + &name[PREFIX.len()..];
        if !value.is_empty() {
            let flag = flag.to_ascii_lowercase().replace('_', "-");
            tls::check_feature(&flag, name)?;
            redis::check_feature(&flag, name)?;
        }
    }
    for row in ServerFlag::all() {
        if ours.is_empty() {
            break;
        }
        let name = name_of(row.spec().long);
        if let Some(index) = ours.iter().position(|(other, _)| *other == name) {
            let (_, value) = ours.swap_remove(index);
            set(serve, row, &name, value)?;
        }
    }
    for (name, _) in ours {
        let sentence = name + " belongs to no flag; see 'wsloop serve --help'";
        serve.ignored_variables.push(sentence);
    }
    Ok(())
}

/// Applies a variable, unless it is empty or its flag is on the command line.
fn set(
    serve: &mut ServeArgs,
    row: ServerFlag,
    name: &str,
    value: OsString,
) -> Result<(), UsageError> {
    let spec = row.spec();
    if serve.given.contains(&spec.long) || value.is_empty() {
        return Ok(());
    }
    let value = value
        .into_string()
        .map_err(|value| UsageError::invalid_value(name, &value.to_string_lossy(), NOT_UTF8))?;
    if !spec.takes_value
        && !switch(&value).map_err(|why| UsageError::invalid_value(name, &value, why))?
    {
        return Ok(());
    }
    serve.by_variable.push(spec.long);
    for text in texts(&value, row) {
        row.set(serve, text)
            .map_err(|reason| UsageError::invalid_value(name, text, reason))?;
    }
    Ok(())
}

/// Splits the value of a variable into the values of its flag: one, or several if the flag is repeatable.
fn texts(value: &str, row: ServerFlag) -> Vec<&str> {
    let FlagSpec {
        long,
        is_repeatable,
        ..
    } = row.spec();
    if !is_repeatable {
        vec![value]
    } else if long == "--route" {
        // A line end is the only separator, because the text of a route can contain any other character.
        let lines = value.lines().map(str::trim_start);
        lines.filter(|line| !line.is_empty()).collect()
    } else {
        value.split_whitespace().collect()
    }
}

/// Parses the value of the variable of a flag without a value.
fn switch(value: &str) -> Result<bool, &'static str> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("is neither on (1, true, yes, on) nor off (0, false, no, off)"),
    }
}

/// Returns the name for error messages: the flag, or its variable if that was given.
pub(super) fn flag_or_variable(flag: &str, by_variable: &[&str]) -> String {
    if by_variable.contains(&flag) {
        name_of(flag)
    } else {
        flag.to_owned()
    }
}

/// Returns the name of the variable of a flag.
pub(super) fn name_of(flag: &str) -> String {
    PREFIX.to_owned()
        + &flag[FLAG_PREFIX.len()..]
            .to_ascii_uppercase()
            .replace('-', "_")
}

const PREFIX: &str = "WSLOOP_";
const FLAG_PREFIX: &str = "--";
const NOT_UTF8: &str = "is not valid UTF-8";
