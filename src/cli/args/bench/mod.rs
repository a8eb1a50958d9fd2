//! The words after `wsloop bench`: a URL and what to load it with, in wrk's flags where it has them.

pub(super) mod flags;

use super::url::Url;
use super::{Command, UsageError, flag, help, reject_value, utf8};
use flags::FLAGS;
use lexopt::{Arg, Parser};
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
pub(in super::super) struct BenchArgs {
    url: Option<Url>,
    bench: Bench,
    mode: Mode,
    in_flight: Option<u64>,
    rate: Option<u64>,
    senders: Option<usize>,
    burst: Option<u64>,
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
    let mut args = BenchArgs::default();
    let mut given = Vec::new();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) => {
                args.url(&utf8(word)?)?;
                continue;
            }
        };
        match flag.as_str() {
            "-h" | "--help" => {
                reject_value(parser, &flag)?;
                return Ok(Command::Help(help::BENCH));
            }
            "-V" | "--version" => {
                reject_value(parser, &flag)?;
                return Ok(Command::Version);
            }
            "-t" | "--threads" => {
                return Err(UsageError(format!(
                    "{flag} is not taken: bench has one thread, which is enough to load a server of one thread; \
                     for more, run several of it"
                )));
            }
            _ => flag::set(&FLAGS, &flag, parser, &mut given, &mut args)?,
        }
    }
    args.finish(&given)
        .map(|bench| Command::Bench(Box::new(bench)))
}

impl BenchArgs {
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

    fn finish(self, given: &[&str]) -> Result<Bench, UsageError> {
        let Self {
            url,
            mut bench,
            mode,
            in_flight,
            rate,
            senders,
            burst,
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

impl Default for BenchArgs {
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
        }
    }
}

const IN_FLIGHT_DEFAULT: u64 = 1;
const BURST_DEFAULT: u64 = 1;
