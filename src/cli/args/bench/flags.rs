//! The flags of `wsloop bench`.

use super::super::flag::{Flag, in_range, time, time_or_zero};
use super::super::{handshake, units};
use super::{BenchArgs, Mode};

pub(in super::super) static FLAGS: [Flag<BenchArgs>; 27] = [
    Flag::with_value(Some("-c"), "--connections", |args, text| {
        args.bench.connections = in_range(units::count(text)?, 1, CONNECTIONS_MAX)?;
        Ok(())
    }),
    Flag::with_value(Some("-d"), "--duration", |args, text| {
        args.bench.duration = time(text)?;
        Ok(())
    }),
    Flag::with_value(Some("-s"), "--size", |args, text| {
        args.bench.size = units::bytes(text)?;
        if args.bench.size > SIZE_MAX {
            return Err("is above 1G".to_owned());
        }
        Ok(())
    }),
    Flag::with_value(Some("-p"), "--in-flight", |args, text| {
        args.in_flight = Some(in_range(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--rate", |args, text| {
        args.rate = Some(in_range(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--connect-rate", |args, text| {
        args.bench.connect_rate = Some(in_range(units::count(text)?, 1, RATE_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--warmup", |args, text| {
        args.bench.warmup = time_or_zero(text)?;
        Ok(())
    }),
    Flag::<BenchArgs>::with_value(Some("-H"), "--header", |args, text| {
        handshake::header(&mut args.bench.headers, text)
    })
    .repeatable(),
    // -s is the size.
    Flag::<BenchArgs>::with_value(None, "--subprotocol", |args, text| {
        handshake::subprotocol(&mut args.bench.subprotocols, text)
    })
    .repeatable(),
    Flag::with_value(Some("-o"), "--origin", |args, text| {
        handshake::origin(&mut args.bench.headers, text)
    }),
    Flag::<BenchArgs>::with_value(None, "--ca", |args, text| args.bench.tls.set_ca(text)),
    Flag::<BenchArgs>::with_value(None, "--cert", |args, text| args.bench.tls.set_cert(text)),
    Flag::<BenchArgs>::with_value(None, "--key", |args, text| args.bench.tls.set_key(text)),
    Flag::<BenchArgs>::switch(None, "--insecure", |args| args.bench.tls.is_insecure = true),
    Flag::switch(None, "--tls-resume", |args| {
        args.bench.is_tls_resumed = true
    }),
    Flag::with_value(None, "--skip-greeting", |args, text| {
        args.bench.skip_greeting = Some(in_range(units::count(text)?, 0, MESSAGES_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--timeout", |args, text| {
        args.bench.timeout = time(text)?;
        Ok(())
    }),
    Flag::with_value(None, "--mode", |args, text| {
        args.mode = match text {
            "echo" => Mode::Echo,
            "broadcast" => Mode::Broadcast,
            _ => return Err("is neither echo nor broadcast".to_owned()),
        };
        Ok(())
    }),
    Flag::with_value(None, "--senders", |args, text| {
        args.senders = Some(in_range(units::count(text)?, 1, CONNECTIONS_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--burst", |args, text| {
        args.burst = Some(in_range(units::count(text)?, 1, MESSAGES_MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--pid", |args, text| {
        args.bench.pid = Some(in_range(units::count(text)?, 1, u32::MAX)?);
        Ok(())
    }),
    Flag::with_value(None, "--chart", |args, text| {
        if text.is_empty() {
            return Err("is not the name of a file".to_owned());
        }
        args.bench.chart = Some(text.to_owned());
        Ok(())
    }),
    Flag::switch(None, "--text", |args| args.bench.is_binary = false),
    Flag::switch(None, "--binary", |args| args.bench.is_binary = true),
    Flag::switch(None, "--latency", |args| args.bench.show_percentiles = true),
    Flag::switch(None, "--verify", |args| args.bench.verify = true),
    Flag::switch(None, "--json", |args| args.bench.json = true),
];

/// Maximum of `--connections` and `--senders`; exceeds the descriptors and ports of any host.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Maximum of `--in-flight`, `--burst` and `--skip-greeting`.
const MESSAGES_MAX: u64 = 1_000_000;
/// Maximum of `--rate` and `--connect-rate`, per second; far above what one thread can reach.
const RATE_MAX: u64 = 1_000_000_000;
/// Maximum of `--size`, in bytes.
const SIZE_MAX: usize = 1 << 30;
