//! The words after `wsloop bench`: a URL and what to load it with, in wrk's flags where it has them.

use super::url::Url;
use super::{Command, UsageError, help, no_value, units, unknown_flag, utf8, value};
use lexopt::{Arg, Parser};
use std::fmt::Display;
use std::time::Duration;

/// A load to put on a server, and what to tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bench {
    pub(crate) url: Url,
    pub(crate) connections: usize,
    /// Connections begun in a second; `None`: as fast as they come.
    pub(crate) connect_rate: Option<u64>,
    /// Of what is measured, after the warm-up.
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    /// How long a connection may owe an answer and say nothing.
    pub(crate) timeout: Duration,
    /// Bytes of payload in a message.
    pub(crate) size: usize,
    pub(crate) is_binary: bool,
    pub(crate) load: Load,
    /// Compare what comes back with what was sent.
    pub(crate) verify: bool,
    pub(crate) show_percentiles: bool,
    pub(crate) json: bool,
    /// The server's process.
    pub(crate) pid: Option<u32>,
}

/// When messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each answer is followed by the next message, so that this many are under way on each connection.
    InFlight(u64),
    /// Messages a second over all connections, sent when it is time, whatever is under way.
    Rate(u64),
    /// Rounds: each of the first `senders` connections sends `burst` messages, and all connections receive all.
    Broadcast { senders: usize, burst: u64 },
}

/// What was read so far: what depends on two flags is decided at the end.
struct Words {
    url: Option<Url>,
    bench: Bench,
    mode: Mode,
    in_flight: Option<u64>,
    rate: Option<u64>,
    senders: Option<usize>,
    burst: Option<u64>,
    /// Flags that were given, each of which may be given once.
    given: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Echo,
    Broadcast,
}

/// Reads what follows `bench`.
///
/// # Errors
/// The first word that is wrong; or, when none is, flags that do not go together.
pub(super) fn parse(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut words = Words::default();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) => {
                words.url(&utf8(word)?)?;
                continue;
            }
        };
        match flag.as_str() {
            "-h" | "--help" => {
                no_value(parser, &flag)?;
                return Ok(Command::Help(help::BENCH));
            }
            "-V" | "--version" => {
                no_value(parser, &flag)?;
                return Ok(Command::Version);
            }
            "-t" | "--threads" => {
                return Err(UsageError(format!(
                    "{flag} is not taken: bench has one thread, which is enough to load a server of one thread; \
                     for more, run several of it"
                )));
            }
            _ => words.flag(parser, &flag)?,
        }
    }
    words.finish().map(|bench| Command::Bench(Box::new(bench)))
}

impl Words {
    fn url(&mut self, word: &str) -> Result<(), UsageError> {
        if self.url.is_some() {
            return Err(UsageError(format!(
                "unexpected word {word:?} (bench takes one URL)"
            )));
        }
        let url =
            Url::parse(word).map_err(|reason| UsageError(format!("the URL {word:?} {reason}")))?;
        self.url = Some(url);
        Ok(())
    }

    fn flag(&mut self, parser: &mut Parser, flag: &str) -> Result<(), UsageError> {
        let row = FLAGS
            .iter()
            .find(|row| row.long == flag || row.short == Some(flag));
        let row = row.ok_or_else(|| unknown_flag(flag, FLAGS.iter().map(|row| row.long)))?;
        if self.given.contains(&row.long) {
            return Err(UsageError(format!("{} is given twice", row.long)));
        }
        self.given.push(row.long);
        match row.kind {
            Kind::Switch(set) => {
                no_value(parser, flag)?;
                set(self);
                Ok(())
            }
            Kind::Value(set) => {
                let text = value(parser, flag)?;
                set(self, &text).map_err(|reason| UsageError::of_value(flag, &text, reason))
            }
        }
    }

    fn finish(self) -> Result<Bench, UsageError> {
        let Self {
            url,
            mut bench,
            mode,
            in_flight,
            rate,
            senders,
            burst,
            given,
        } = self;
        let has = |flag: &str| given.contains(&flag);
        let clash = |flag: &str, reason: &str| {
            if has(flag) {
                Err(UsageError(format!("{flag} does not go with {reason}")))
            } else {
                Ok(())
            }
        };
        if has("--text") && has("--binary") {
            clash("--text", "--binary")?;
        }
        bench.load = match mode {
            Mode::Echo => {
                clash("--senders", "--mode echo, in which every connection sends")?;
                clash("--burst", "--mode echo; use -p")?;
                match rate {
                    Some(rate) => {
                        let reason = "--rate, which sends when it is time, whatever is under way";
                        clash("--in-flight", reason)?;
                        Load::Rate(rate)
                    }
                    None => Load::InFlight(in_flight.unwrap_or(IN_FLIGHT_DEFAULT)),
                }
            }
            Mode::Broadcast => {
                clash("--in-flight", "--mode broadcast; use --burst")?;
                clash(
                    "--rate",
                    "--mode broadcast, in which a round follows the other",
                )?;
                let senders = senders.unwrap_or(bench.connections);
                if senders > bench.connections {
                    return Err(UsageError(format!(
                        "--senders must be at most the {} connections",
                        bench.connections
                    )));
                }
                Load::Broadcast {
                    senders,
                    burst: burst.unwrap_or(BURST_DEFAULT),
                }
            }
        };
        bench.url = url.ok_or_else(|| {
            UsageError("bench needs a URL, such as ws://127.0.0.1:8080/".to_owned())
        })?;
        Ok(bench)
    }
}

impl Default for Words {
    fn default() -> Self {
        Self {
            url: None,
            bench: Bench {
                url: Url::default(),
                connections: 100,
                connect_rate: None,
                duration: Duration::from_secs(10),
                warmup: Duration::from_secs(1),
                timeout: Duration::from_secs(10),
                size: 20,
                is_binary: false,
                load: Load::InFlight(IN_FLIGHT_DEFAULT),
                verify: false,
                show_percentiles: false,
                json: false,
                pid: None,
            },
            mode: Mode::Echo,
            in_flight: None,
            rate: None,
            senders: None,
            burst: None,
            given: Vec::new(),
        }
    }
}

/// A flag, and what it does.
pub(super) struct Flag {
    pub(super) short: Option<&'static str>,
    pub(super) long: &'static str,
    kind: Kind,
}

enum Kind {
    Switch(fn(&mut Words)),
    Value(fn(&mut Words, &str) -> Result<(), String>),
}

impl Flag {
    #[cfg(test)]
    pub(super) fn takes_value(&self) -> bool {
        matches!(self.kind, Kind::Value(_))
    }
}

pub(super) static FLAGS: [Flag; 17] = [
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

const IN_FLIGHT_DEFAULT: u64 = 1;
const BURST_DEFAULT: u64 = 1;

/// More than the descriptors and ports of any host.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Messages on their way on one connection.
const MESSAGES_MAX: u64 = 1_000_000;
/// A second; one thread does not come near.
const RATE_MAX: u64 = 1_000_000_000;
const SIZE_MAX: usize = 1 << 30;
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
