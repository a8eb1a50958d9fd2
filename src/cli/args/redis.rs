//! The flags of the broker: `--redis`, and the flags that need it.

use super::UsageError;
#[cfg(feature = "redis")]
use super::{ServeArgs, units, variables};
#[cfg(feature = "redis")]
use wsloop::backplane::BackplaneOptions;
#[cfg(feature = "redis")]
use wsloop::redis::Settings;

/// Returns an error if `flag` needs a cargo feature that this binary lacks. `name` is the name of the flag, or of the variable
/// that sets it.
#[cfg(not(feature = "redis"))]
pub(super) fn check_feature(flag: &str, name: &str) -> Result<(), UsageError> {
    if flag.starts_with("--redis") || flag.starts_with("--broker-") {
        let text = " needs Redis; rebuild the binary with the cargo feature \"redis\"";
        return Err(UsageError(name.to_owned() + text));
    }
    Ok(())
}

#[cfg(feature = "redis")]
pub(super) fn check_feature(_: &str, _: &str) -> Result<(), UsageError> {
    Ok(())
}

/// The arguments of the broker parsed so far.
#[cfg(feature = "redis")]
#[derive(Default)]
pub(super) struct RedisArgs {
    /// Parsed in [`finish`], because the error of a single flag shows the value, and the URL can contain a password.
    url: Option<String>,
    prefix: Option<String>,
    password_file: Option<String>,
    options: BackplaneOptions,
}

/// The settings of the broker, from all flags.
#[cfg(feature = "redis")]
#[derive(Debug)]
pub(crate) struct RedisSettings {
    pub(crate) settings: Settings,
    /// File whose first line is the password.
    pub(crate) password_file: Option<String>,
    pub(crate) options: BackplaneOptions,
}

#[cfg(feature = "redis")]
impl ServeArgs {
    /// Applies `--redis`. The functions that apply a flag return the reason for a usage error.
    pub(super) fn redis(&mut self, text: &str) -> Result<(), String> {
        // A variable that a container's platform fills from a file often ends with a line break.
        let text = text.trim_end_matches(['\r', '\n']);
        self.redis.url = Some(text.to_owned());
        Ok(())
    }

    /// Applies `--redis-prefix`.
    pub(super) fn redis_prefix(&mut self, text: &str) -> Result<(), String> {
        if text.len() > PREFIX_BYTES_MAX {
            return Err(format!("is longer than {PREFIX_BYTES_MAX} bytes"));
        }
        self.redis.prefix = Some(text.to_owned());
        Ok(())
    }

    /// Applies `--redis-password-file`.
    pub(super) fn redis_password_file(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Err("is not the path of a file".to_owned());
        }
        self.redis.password_file = Some(text.to_owned());
        Ok(())
    }

    /// Applies `--broker-grace`.
    pub(super) fn broker_grace(&mut self, text: &str) -> Result<(), String> {
        self.redis.options.grace = units::duration(text)?;
        Ok(())
    }

    /// Applies `--broker-outbox`.
    pub(super) fn broker_outbox(&mut self, text: &str) -> Result<(), String> {
        self.redis.options.outbox_bytes_max = units::bytes(text)?;
        Ok(())
    }

    /// Applies `--broker-message-bytes-max`.
    pub(super) fn broker_message_bytes_max(&mut self, text: &str) -> Result<(), String> {
        self.redis.options.message_bytes_max = units::bytes(text)?;
        Ok(())
    }

    /// Returns whether `--redis` is set.
    pub(super) fn has_redis(&self) -> bool {
        self.redis.url.is_some()
    }
}

/// Parses the URL and checks the flags of the broker together. Returns `None` without `--redis`. Also without a broadcast: the
/// URL then came from a variable, which is ignored with a warning (a flag would be an error).
///
/// # Errors
/// The URL is invalid, or the sizes contradict each other. The message names the flag or its variable, never the URL.
#[cfg(feature = "redis")]
pub(super) fn finish(serve: &ServeArgs) -> Result<Option<RedisSettings>, UsageError> {
    let RedisArgs {
        url: Some(url),
        prefix,
        password_file,
        options,
    } = &serve.redis
    else {
        return Ok(None);
    };
    if !serve.has_broadcast() {
        return Ok(None);
    }
    let name = |flag| variables::flag_or_variable(flag, &serve.by_variable);
    let mut settings: Settings = url
        .parse()
        .map_err(|error| UsageError(format!("{} {error}", name(REDIS))))?;
    if let Some(prefix) = prefix {
        settings = settings.prefix(prefix);
    }
    options.check().map_err(|text| {
        let text = text.replace("outbox_bytes_max", &name(OUTBOX));
        UsageError(text.replace("message_bytes_max", &name(MESSAGE_BYTES_MAX)))
    })?;
    Ok(Some(RedisSettings {
        settings,
        password_file: password_file.clone(),
        options: options.clone(),
    }))
}

#[cfg(feature = "redis")]
pub(super) const REDIS: &str = "--redis";
#[cfg(feature = "redis")]
pub(super) const PREFIX: &str = "--redis-prefix";
#[cfg(feature = "redis")]
pub(super) const PASSWORD_FILE: &str = "--redis-password-file";
#[cfg(feature = "redis")]
pub(super) const GRACE: &str = "--broker-grace";
#[cfg(feature = "redis")]
pub(super) const OUTBOX: &str = "--broker-outbox";
#[cfg(feature = "redis")]
pub(super) const MESSAGE_BYTES_MAX: &str = "--broker-message-bytes-max";

/// Maximum length of `--redis-prefix`. The prefix is in each message to and from Redis.
#[cfg(feature = "redis")]
const PREFIX_BYTES_MAX: usize = 1024;
