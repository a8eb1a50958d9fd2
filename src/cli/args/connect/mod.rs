//! Parses the arguments of `wsloop connect`: a URL, messages and options. Flags that wscat also has have the same name.

pub(super) mod flags;

use super::url::Url;
use super::{Command, UsageError, flag, handshake, help, reject_value, utf8};
use flags::FLAGS;
use lexopt::{Arg, Parser};
use std::time::Duration;
use wsloop::proto::{ClientOpening, RequestError};

/// Parameters of a connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) url: Url,
    /// Names and values of additional headers, including Origin.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    /// Messages to send instead of the lines of stdin.
    pub(crate) execute: Vec<String>,
    /// When the Close is sent after the last message.
    pub(crate) stay: Stay,
    /// Interval of pings. `None`: no pings.
    pub(crate) ping: Option<Duration>,
    /// Whether sent messages are binary, and received binary messages are written as raw bytes.
    pub(crate) is_binary: bool,
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
    /// Immediately. With `-x`: when as many messages have arrived as were sent, or after 2 s.
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
        handshake::opening(
            &self.url.host,
            &self.url.target,
            &self.headers,
            &self.subprotocols,
            key,
        )
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
                connect.url = url(&utf8(word)?)?;
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
    Ok(Command::Connect(Box::new(connect)))
}

/// Parses a URL. As in wscat, the scheme is ws if there is none.
fn url(word: &str) -> Result<Url, UsageError> {
    let full = match word.split_once("://") {
        Some(_) => word.to_owned(),
        None => format!("ws://{word}"),
    };
    Url::parse(&full).map_err(|reason| UsageError(format!("the URL {word:?} {reason}")))
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            url: Url::default(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            execute: Vec::new(),
            stay: Stay::Answered,
            ping: None,
            is_binary: false,
            message_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
        }
    }
}
