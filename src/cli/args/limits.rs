//! The flags that set limits: each row has the name of a flag and its field in [`Config`].
//!
//! The name of a flag is that of its field with dashes, except for `--lag`. `config.rs` and `help.rs`
//! document the limits and their defaults.

use super::flag::FlagSpec;
use super::variables;
use super::{UsageError, units};
use std::time::Duration;
use wsloop::{Config, LagPolicy};

/// A flag that sets a limit, and the type of its value.
pub(super) struct Limit {
    pub(super) flag: &'static str,
    kind: Kind,
}

type Field<T> = fn(&mut Config) -> &mut T;

enum Kind {
    Bytes(Field<usize>),
    /// 0 and `off` are parsed as `None`.
    BytesOrOff(Field<Option<u32>>),
    Count(Field<usize>),
    CountU32(Field<u32>),
    /// 0 and `off` are parsed as `None`.
    CountOrOff(Field<Option<usize>>),
    /// 0 and `off` are parsed as `None`.
    CountU32OrOff(Field<Option<u32>>),
    Duration(Field<Duration>),
    /// 0 and `off` are parsed as `None`.
    DurationOrOff(Field<Option<Duration>>),
    Lag(Field<LagPolicy>),
}

pub(super) static LIMITS: [Limit; 22] = [
    limit(
        "--message-bytes-max",
        Kind::Bytes(|config| &mut config.message_bytes_max),
    ),
    limit(
        "--fragments-max",
        Kind::CountU32(|config| &mut config.fragments_max),
    ),
    limit(
        "--head-bytes-max",
        Kind::Bytes(|config| &mut config.head_bytes_max),
    ),
    limit(
        "--headers-max",
        Kind::Count(|config| &mut config.headers_max),
    ),
    limit(
        "--handshake-timeout",
        Kind::Duration(|config| &mut config.handshake_timeout),
    ),
    limit(
        "--idle-timeout",
        Kind::DurationOrOff(|config| &mut config.idle_timeout),
    ),
    limit(
        "--ping-interval",
        Kind::DurationOrOff(|config| &mut config.ping_interval),
    ),
    limit(
        "--close-timeout",
        Kind::Duration(|config| &mut config.close_timeout),
    ),
    limit(
        "--write-timeout",
        Kind::Duration(|config| &mut config.write_timeout),
    ),
    limit(
        HIGH_WATER,
        Kind::Bytes(|config| &mut config.high_water_bytes),
    ),
    limit(LOW_WATER, Kind::Bytes(|config| &mut config.low_water_bytes)),
    limit(BACKLOG, Kind::Bytes(|config| &mut config.backlog_bytes_max)),
    limit(
        LAG_BYTES_MAX,
        Kind::Bytes(|config| &mut config.lag_bytes_max),
    ),
    limit(LAG, Kind::Lag(|config| &mut config.lag_policy)),
    limit(
        KERNEL_UNSENT,
        Kind::BytesOrOff(|config| &mut config.kernel_unsent_bytes_max),
    ),
    limit(
        REPLAY_BYTES_MAX,
        Kind::Bytes(|config| &mut config.replay_bytes_max),
    ),
    limit(
        CONNECTIONS_MAX,
        Kind::Count(|config| &mut config.connections_max),
    ),
    limit(
        "--handshakes-max",
        Kind::Count(|config| &mut config.handshakes_max),
    ),
    limit(
        CONNECTIONS_PER_ADDRESS_MAX,
        Kind::CountOrOff(|config| &mut config.connections_per_address_max),
    ),
    limit(
        HANDSHAKES_PER_ADDRESS_MAX,
        Kind::CountU32OrOff(|config| &mut config.handshakes_per_address_max),
    ),
    limit(
        "--stop-spread",
        Kind::Duration(|config| &mut config.stop_spread),
    ),
    limit(
        "--shutdown-grace",
        Kind::Duration(|config| &mut config.shutdown_grace),
    ),
];

pub(super) const CONNECTIONS_MAX: &str = "--connections-max";
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: &str = "--connections-per-address-max";
pub(super) const HANDSHAKES_PER_ADDRESS_MAX: &str = "--handshakes-per-address-max";
pub(super) const KERNEL_UNSENT: &str = "--kernel-unsent-bytes-max";
pub(super) const LAG: &str = "--lag";
pub(super) const LAG_BYTES_MAX: &str = "--lag-bytes-max";
pub(super) const REPLAY_BYTES_MAX: &str = "--replay-bytes-max";
const HIGH_WATER: &str = "--high-water-bytes";
const LOW_WATER: &str = "--low-water-bytes";
const BACKLOG: &str = "--backlog-bytes-max";

const fn limit(flag: &'static str, kind: Kind) -> Limit {
    Limit { flag, kind }
}

impl Limit {
    pub(super) fn find(flag: &str) -> Option<&'static Self> {
        LIMITS.iter().find(|limit| limit.flag == flag)
    }

    /// Finds the flag of a field of [`Config`] by the field's name.
    pub(super) fn of_field(name: &str) -> Option<&'static Self> {
        // Without an underscore, it could be any word: `lag`.
        if !name.contains('_') {
            return None;
        }
        Self::find(&format!("--{}", name.replace('_', "-")))
    }

    pub(super) fn spec(&self) -> FlagSpec {
        FlagSpec {
            long: self.flag,
            takes_value: true,
            is_repeatable: false,
        }
    }

    /// Parses `text` and sets the field in `config`.
    ///
    /// # Errors
    /// The reason for a [`UsageError`].
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), &'static str> {
        match self.kind {
            Kind::Bytes(field) => *field(config) = units::bytes(text)?,
            Kind::BytesOrOff(field) => *field(config) = units::bytes_or_off(text)?,
            Kind::Count(field) => *field(config) = units::count(text)?,
            Kind::CountU32(field) => *field(config) = units::count(text)?,
            Kind::CountOrOff(field) => *field(config) = units::count_or_off(text)?,
            Kind::CountU32OrOff(field) => *field(config) = units::count_u32_or_off(text)?,
            Kind::Duration(field) => *field(config) = units::duration(text)?,
            Kind::DurationOrOff(field) => *field(config) = units::duration_or_off(text)?,
            Kind::Lag(field) => *field(config) = lag(text)?,
        }
        Ok(())
    }
}

fn lag(text: &str) -> Result<LagPolicy, &'static str> {
    match text {
        "disconnect" => Ok(LagPolicy::Disconnect),
        "skip" => Ok(LagPolicy::Skip),
        _ => Err("is neither disconnect nor skip"),
    }
}

/// Derives limits that were not given from those that were given by flag or by variable. Then checks all limits
/// together.
///
/// # Errors
/// The first rule of [`Config::check`] that is broken, with the names of flags or variables.
pub(super) fn finish(
    mut config: Config,
    by_flag: &[&str],
    by_variable: &[&str],
) -> Result<Config, UsageError> {
    let is_given = |flag| by_flag.contains(&flag) || by_variable.contains(&flag);
    let Config {
        high_water_bytes,
        message_bytes_max,
        ..
    } = Config::default();
    let is_raised =
        config.high_water_bytes > high_water_bytes || config.message_bytes_max > message_bytes_max;
    if is_raised && !is_given(BACKLOG) {
        // The same sum as the default: while no more than the high-water mark is unsent, the server reads one more
        // message. Its answer can have the maximum size, plus 1 MiB, for example for the prefix of an echo.
        config.backlog_bytes_max = config
            .high_water_bytes
            .saturating_add(config.message_bytes_max)
            .saturating_add(1024 * 1024);
    }
    if config.low_water_bytes >= config.high_water_bytes && !is_given(LOW_WATER) {
        config.low_water_bytes = config.high_water_bytes / 4;
    }
    match config.check() {
        Ok(()) => Ok(config),
        Err(error) => Err(UsageError(with_flag_names(&error.to_string(), by_variable))),
    }
}

/// Replaces each field name in an error message of `Config` by the name of its flag, or of its variable if that was
/// given.
fn with_flag_names(rule: &str, by_variable: &[&str]) -> String {
    let words = rule.split(' ').map(|word| match Limit::of_field(word) {
        Some(limit) => variables::flag_or_variable(limit.flag, by_variable),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}
