//! The flags of `wsloop bench`.

use super::super::flag::{Flag, time, time_or_zero, within};
use super::super::units;
use super::{Mode, Words};

pub(in super::super) static FLAGS: [Flag<Words>; 17] = [
    Flag::value_of(Some("-c"), "--connections", |words, text| {
        words.bench.connections = within(units::count(text)?, 1, CONNECTIONS_MAX)?;
        Ok(())
    }),
    Flag::value_of(Some("-d"), "--duration", |words, text| {
        words.bench.duration = time(text)?;
        Ok(())
    }),
    Flag::value_of(Some("-s"), "--size", |words, text| {
        words.bench.size = units::bytes(text)?;
        if words.bench.size > SIZE_MAX {
            return Err("is above 1G".to_owned());
        }
        Ok(())
    }),
    Flag::value_of(Some("-p"), "--in-flight", |words, text| {
        words.in_flight = Some(within(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    Flag::value_of(None, "--rate", |words, text| {
        words.rate = Some(within(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    Flag::value_of(None, "--connect-rate", |words, text| {
        words.bench.connect_rate = Some(within(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    Flag::value_of(None, "--warmup", |words, text| {
        words.bench.warmup = time_or_zero(text)?;
        Ok(())
    }),
    Flag::value_of(None, "--timeout", |words, text| {
        words.bench.timeout = time(text)?;
        Ok(())
    }),
    Flag::value_of(None, "--mode", |words, text| {
        words.mode = match text {
            "echo" => Mode::Echo,
            "broadcast" => Mode::Broadcast,
            _ => return Err("is neither echo nor broadcast".to_owned()),
        };
        Ok(())
    }),
    Flag::value_of(None, "--senders", |words, text| {
        words.senders = Some(within(units::count(text)?, 1, CONNECTIONS_MAX)?);
        Ok(())
    }),
    Flag::value_of(None, "--burst", |words, text| {
        words.burst = Some(within(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    Flag::value_of(None, "--pid", |words, text| {
        words.bench.pid = Some(within(units::count(text)?, 1, u32::MAX)?);
        Ok(())
    }),
    Flag::switch(None, "--text", |words| words.bench.is_binary = false),
    Flag::switch(None, "--binary", |words| words.bench.is_binary = true),
    Flag::switch(None, "--latency", |words| {
        words.bench.show_percentiles = true
    }),
    Flag::switch(None, "--verify", |words| words.bench.verify = true),
    Flag::switch(None, "--json", |words| words.bench.json = true),
];

/// More than the descriptors and ports of any host.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Messages on their way on one connection.
const MESSAGES_MAX: u64 = 1_000_000;
/// A second; one thread does not come near.
const RATE_MAX: u64 = 1_000_000_000;
const SIZE_MAX: usize = 1 << 30;
