//! Reads the password of the broker from a file.

use super::args::RedisSettings;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use wsloop::redis::Settings;

/// Returns the settings of the broker, with the password from the file of `--redis-password-file`.
///
/// # Errors
/// The file cannot be read, or its first line is empty, too long or not UTF-8. The message names the file.
pub(super) fn with_password(redis: &RedisSettings) -> io::Result<Settings> {
    let settings = redis.settings.clone();
    let Some(path) = &redis.password_file else {
        return Ok(settings);
    };
    match read_password(path) {
        Ok(password) => Ok(settings.password(password)),
        Err(error) => Err(io::Error::other(format!(
            "cannot use the password file {path:?}: {error}"
        ))),
    }
}

/// Reads the first line of a file, at most the maximum and a line break. The limit prevents an endless file, such as a device,
/// from filling the memory.
fn read_password(path: &str) -> io::Result<String> {
    let mut line = String::new();
    let file = File::open(path)?.take(PASSWORD_BYTES_MAX as u64 + 2);
    BufReader::new(file).read_line(&mut line)?;
    let password = line.lines().next().unwrap_or_default();
    match password.len() {
        0 => Err(io::Error::other("its first line is empty")),
        1..=PASSWORD_BYTES_MAX => Ok(password.to_owned()),
        _ => Err(io::Error::other(format!(
            "its first line is longer than {PASSWORD_BYTES_MAX} bytes"
        ))),
    }
}

/// Maximum length of a password. Generated passwords have some tens of characters, and access tokens of cloud providers up to
/// some thousand.
const PASSWORD_BYTES_MAX: usize = 4096;

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn an_endless_password_file_is_an_error_and_does_not_fill_the_memory() {
        let error = read_password("/dev/zero").unwrap_err().to_string();
        assert_eq!(error, "its first line is longer than 4096 bytes");
    }
}
