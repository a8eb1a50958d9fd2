//! Parses the arguments of `wsloop connect`: an endpoint, messages and options. Flags that wscat also has have the same name.

mod endpoint;
pub(super) mod flags;

pub(crate) use endpoint::{Endpoint, Place};

use super::handshake::Destination;
use super::{
    ClientTls, Command, UsageError, credentials, flag, handshake, help, reject_value, utf8,
};
use flags::FLAGS;
use lexopt::{Arg, Parser};
use std::time::Duration;
use wsloop::proto::{ClientOpening, RequestError};

/// Parameters of a connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) endpoint: Endpoint,
    /// Names and values of additional headers, including Origin. A Host replaces that of `endpoint`.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) tls: ClientTls,
    /// Messages to send instead of the lines of stdin.
    pub(crate) execute: Vec<String>,
    /// When the Close is sent after the last message.
    pub(crate) stay: Stay,
    /// Interval of pings. `None`: no pings.
    pub(crate) ping: Option<Duration>,
    /// Whether sent messages are binary, and received binary messages are written as raw bytes.
    pub(crate) is_binary: bool,
    /// Whether lines of a terminal are read as the terminal edits them, without line editing by this program.
    pub(crate) is_plain: bool,
    /// Whether the heads of the request and of the response are printed.
    pub(crate) is_verbose: bool,
    /// Maximum payload of a message, in either direction.
    pub(crate) message_bytes_max: usize,
    /// Maximum time until the end of the opening handshake.
    pub(crate) connect_timeout: Duration,
    /// Maximum time without a message or a Close from the server after this client's Close.
    pub(crate) close_timeout: Duration,
}

/// When this client sends its Close after the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// When as many messages have arrived as were sent, or when none has arrived for 2 s.
    Answered,
    /// After this time.
    For(Duration),
    /// Never, unless a signal arrives.
    Forever,
}

impl Connect {
    /// Returns the opening handshake with `key`, 16 random bytes, as `Sec-WebSocket-Key`.
    ///
    /// # Errors
    /// A header or a subprotocol is invalid. Parsed arguments are valid.
    pub(crate) fn opening(&self, key: [u8; 16]) -> Result<ClientOpening, RequestError> {
        let Endpoint {
            host,
            target,
            authorization,
            ..
        } = &self.endpoint;
        let destination = Destination {
            host,
            target,
            authorization: authorization.as_deref(),
        };
        handshake::opening(&destination, &self.headers, &self.subprotocols, key)
    }
}

/// Parses the arguments after `connect`.
///
/// # Errors
/// The first invalid argument. If all are valid: a missing URL, or flags that contradict each other.
pub(super) fn parse(parser: &mut Parser) -> Result<Command, UsageError> {
    let mut connect = Connect::default();
    let mut has_url = false;
    let mut given = Vec::new();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) if !has_url => {
                connect.endpoint = endpoint(&utf8(word)?)?;
                has_url = true;
                continue;
            }
            Arg::Value(word) => {
                return Err(UsageError(format!(
                    "unexpected argument {:?} (connect takes one URL; use -x to send a message)",
                    utf8(word)?
                )));
            }
        };
        match flag.as_str() {
            "-h" | "--help" => {
                reject_value(parser, &flag)?;
                return Ok(Command::Help(help::CONNECT));
            }
            "-V" | "--version" => {
                reject_value(parser, &flag)?;
                return Ok(Command::Version);
            }
            _ => flag::set(&FLAGS, &flag, parser, &mut given, &mut connect)?,
        }
    }
    if !has_url {
        let reason = "connect needs a URL, such as ws://127.0.0.1:8080/";
        return Err(UsageError(reason.to_owned()));
    }
    if given.contains(&"--wait") && given.contains(&"--no-close") {
        let reason = "--wait cannot be used with --no-close, which sends no Close";
        return Err(UsageError(reason.to_owned()));
    }
    let is_wss = connect.endpoint.tls_name.is_some();
    connect.tls.check(&given, is_wss)?;
    if given.contains(&"--plain") && given.contains(&"--execute") {
        let reason = "--plain cannot be used with --execute, with which no line is read";
        return Err(UsageError(reason.to_owned()));
    }
    handshake::check_origin(&connect.headers, &given)?;
    Ok(Command::Connect(Box::new(connect)))
}

fn endpoint(word: &str) -> Result<Endpoint, UsageError> {
    Endpoint::parse(word).map_err(|reason| credentials::invalid_url(word, &reason))
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            endpoint: Endpoint::default(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            tls: ClientTls::default(),
            execute: Vec::new(),
            stay: Stay::Answered,
            ping: None,
            is_binary: false,
            is_plain: false,
            is_verbose: false,
            message_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
        }
    }
}
