//! Reads the password of the broker from a file.

use super::args::RedisSettings;
use std::fs;
use std::io;
use wsloop::redis::Settings;

/// Returns the settings of the broker, with the password from the file of `--redis-password-file`.
///
/// # Errors
/// The file cannot be read, is not UTF-8 or has an empty first line. The message names the file.
pub(super) fn with_password(redis: &RedisSettings) -> io::Result<Settings> {
    let settings = redis.settings.clone();
    let Some(path) = &redis.password_file else {
        return Ok(settings);
    };
    let fail = |reason: &dyn std::fmt::Display| {
        io::Error::other(format!("cannot use the password file {path:?}: {reason}"))
    };
    let text = fs::read_to_string(path).map_err(|error| fail(&error))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(settings.password(password)),
        Some(_) | None => Err(fail(&"its first line is empty")),
    }
}
