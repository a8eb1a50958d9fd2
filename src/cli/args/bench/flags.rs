//! The flags of `wsloop bench`: one row for each, with what it sets and what its value may be.

use super::super::units;
use super::{Mode, Words};
use std::fmt::Display;
use std::time::Duration;

/// A flag, and what it does.
pub(in super::super) struct Flag {
    pub(in super::super) short: Option<&'static str>,
    pub(in super::super) long: &'static str,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Switch(fn(&mut Words)),
    Value(fn(&mut Words, &str) -> Result<(), String>),
}

impl Flag {
    #[cfg(test)]
    pub(in super::super) fn takes_value(&self) -> bool {
        matches!(self.kind, Kind::Value(_))
    }
}

pub(in super::super) static FLAGS: [Flag; 17] = [
    value_of(Some("-c"), "--connections", |words, text| {
        words.bench.connections = within(units::count(text)?, 1, CONNECTIONS_MAX)?;
        Ok(())
    }),
    value_of(Some("-d"), "--duration", |words, text| {
        words.bench.duration = time(text)?;
        Ok(())
    }),
    value_of(Some("-s"), "--size", |words, text| {
        words.bench.size = units::bytes(text)?;
        if words.bench.size > SIZE_MAX {
            return Err("is above 1G".to_owned());
        }
        Ok(())
    }),
    value_of(Some("-p"), "--in-flight", |words, text| {
        words.in_flight = Some(within(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    value_of(None, "--rate", |words, text| {
        words.rate = Some(within(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    value_of(None, "--connect-rate", |words, text| {
        words.bench.connect_rate = Some(within(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    value_of(None, "--warmup", |words, text| {
        words.bench.warmup = match units::duration(text)? {
            Duration::ZERO => Duration::ZERO,
            _ => time(text)?,
        };
        Ok(())
    }),
    value_of(None, "--timeout", |words, text| {
        words.bench.timeout = time(text)?;
        Ok(())
    }),
    value_of(None, "--mode", |words, text| {
        words.mode = match text {
            "echo" => Mode::Echo,
            "broadcast" => Mode::Broadcast,
            _ => return Err("is neither echo nor broadcast".to_owned()),
        };
        Ok(())
    }),
    value_of(None, "--senders", |words, text| {
        words.senders = Some(within(units::count(text)?, 1, CONNECTIONS_MAX)?);
        Ok(())
    }),
    value_of(None, "--burst", |words, text| {
        words.burst = Some(within(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    value_of(None, "--pid", |words, text| {
        words.bench.pid = Some(within(units::count(text)?, 1, u32::MAX)?);
        Ok(())
    }),
    switch("--text", |words| words.bench.is_binary = false),
    switch("--binary", |words| words.bench.is_binary = true),
    switch("--latency", |words| words.bench.show_percentiles = true),
    switch("--verify", |words| words.bench.verify = true),
    switch("--json", |words| words.bench.json = true),
];

const fn value_of(
    short: Option<&'static str>,
    long: &'static str,
    set: fn(&mut Words, &str) -> Result<(), String>,
) -> Flag {
    Flag {
        short,
        long,
        kind: Kind::Value(set),
    }
}

const fn switch(long: &'static str, set: fn(&mut Words)) -> Flag {
    Flag {
        short: None,
        long,
        kind: Kind::Switch(set),
    }
}

fn within<T: PartialOrd + Display>(number: T, min: T, max: T) -> Result<T, String> {
    if number < min || number > max {
        return Err(format!("is not from {min} to {max}"));
    }
    Ok(number)
}

/// A length of time that something is done for.
fn time(text: &str) -> Result<Duration, String> {
    let time = units::duration(text)?;
    if time < Duration::from_millis(1) || time > TIME_MAX {
        return Err("is not from 1ms to 24h".to_owned());
    }
    Ok(time)
}

/// More than the descriptors and ports of any host.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Messages on their way on one connection.
const MESSAGES_MAX: u64 = 1_000_000;
/// A second; one thread does not come near.
const RATE_MAX: u64 = 1_000_000_000;
const SIZE_MAX: usize = 1 << 30;
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
