//! Parses the arguments of `wsloop bench`: a URL and the parameters of the load. Flags that wrk also has have the
//! same name.

pub(super) mod flags;

use super::handshake::Destination;
use super::url::Url;
use super::{
    ClientTls, Command, UsageError, credentials, flag, handshake, help, reject_value, utf8,
};
use flags::FLAGS;
use lexopt::{Arg, Parser};
use std::time::Duration;
use wsloop::proto::{ClientOpening, RequestError};

/// Parameters of a load and of its report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bench {
    pub(crate) url: Url,
    /// Names and values of additional headers of each opening handshake, including Origin.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) tls: ClientTls,
    /// Whether all connections are opened twice, so that the TLS handshakes of the second time resume sessions.
    pub(crate) is_tls_resumed: bool,
    pub(crate) connections: usize,
    /// Connections to start per second. `None`: as many as the server accepts.
    pub(crate) connect_rate: Option<u64>,
    /// Length of the measurement, which follows the warm-up.
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    /// Maximum time for which a connection with a pending answer can receive nothing.
    pub(crate) timeout: Duration,
    /// Payload bytes of a message.
    pub(crate) size: usize,
    pub(crate) is_binary: bool,
    pub(crate) load: Load,
    /// Number of greetings: the first messages of each connection, which answer nothing. `None`: greetings are found
    /// by their content.
    pub(crate) skip_greeting: Option<u64>,
    /// Whether the content of received messages is compared with that of sent ones.
    pub(crate) verify: bool,
    pub(crate) show_percentiles: bool,
    pub(crate) json: bool,
    /// File for a chart as SVG.
    pub(crate) chart: Option<String>,
    /// Process id of the server, for the report of its CPU time and memory.
    pub(crate) pid: Option<u32>,
}

impl Bench {
    /// Returns an opening handshake with `key`, 16 random bytes, as `Sec-WebSocket-Key`.
    ///
    /// # Errors
    /// A header or a subprotocol is invalid. Parsed arguments are valid.
    pub(crate) fn opening(&self, key: [u8; 16]) -> Result<ClientOpening, RequestError> {
        let Url {
            host,
            target,
            authorization,
            ..
        } = &self.url;
        let destination = Destination {
            host,
            target,
            authorization: authorization.as_deref(),
        };
        handshake::opening(&destination, &self.headers, &self.subprotocols, key)
    }
}

/// When messages are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Sends the next message when an answer arrives. This many messages are unanswered on each connection.
    InFlight(u64),
    /// Sends this many messages per second over all connections, on schedule even if answers are pending.
    Rate(u64),
    /// Runs rounds: each of the first `senders` connections sends `burst` messages, and every connection receives all
    /// of them.
    Broadcast { senders: usize, burst: u64 },
}

/// The arguments parsed so far. [`BenchArgs::finish`] decides what depends on several flags.
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

/// Parses the arguments after `bench`.
///
/// # Errors
/// The first invalid argument. If all are valid: flags that contradict each other, or a missing URL.
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
                    "{flag} is not supported: bench uses one thread, which can saturate a server of one thread; \
                     for more load, run several processes"
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
                "unexpected argument {word:?} (bench takes one URL)"
            )));
        }
        let url = Url::parse(word).map_err(|reason| credentials::invalid_url(word, &reason))?;
        self.url = Some(url);
        Ok(())
    }

    /// Checks the arguments together and fills in defaults.
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
        let forbid = |flag: &str, with: &str| {
            if has(flag) {
                Err(UsageError(format!("{flag} cannot be used with {with}")))
            } else {
                Ok(())
            }
        };
        handshake::check_origin(&bench.headers, given)?;
        if has("--text") && has("--binary") {
            forbid("--text", "--binary")?;
        }
        bench.load = match mode {
            Mode::Echo => {
                forbid("--senders", "--mode echo, in which every connection sends")?;
                forbid("--burst", "--mode echo; use --in-flight")?;
                match rate {
                    Some(rate) => {
                        let reason = "--rate, which sends on schedule even if answers are pending";
                        forbid("--in-flight", reason)?;
                        Load::Rate(rate)
                    }
                    None => Load::InFlight(in_flight.unwrap_or(IN_FLIGHT_DEFAULT)),
                }
            }
            Mode::Broadcast => {
                forbid("--in-flight", "--mode broadcast; use --burst")?;
                forbid(
                    "--rate",
                    "--mode broadcast, in which a round starts when the previous one ends",
                )?;
                let senders = senders.unwrap_or(bench.connections);
                if senders > bench.connections {
                    return Err(UsageError(format!(
                        "--senders {senders} is more than the {} connections of --connections",
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
        bench.tls.check(given, bench.url.tls_name.is_some())?;
        Ok(bench)
    }
}

impl Default for BenchArgs {
    fn default() -> Self {
        Self {
            url: None,
            bench: Bench {
                url: Url::default(),
                headers: Vec::new(),
                subprotocols: Vec::new(),
                tls: ClientTls::default(),
                is_tls_resumed: false,
                connections: 100,
                connect_rate: None,
                duration: Duration::from_secs(10),
                warmup: Duration::from_secs(1),
                timeout: Duration::from_secs(10),
                size: 20,
                is_binary: false,
                load: Load::InFlight(IN_FLIGHT_DEFAULT),
                skip_greeting: None,
                verify: false,
                show_percentiles: false,
                json: false,
                chart: None,
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
