//! The words after `wsloop connect`: a URL and what to say there, in wscat's flags where it has them.

pub(super) mod flags;

use super::url::Url;
use super::{Command, UsageError, flag, help, reject_value, utf8};
use flags::FLAGS;
use lexopt::{Arg, Parser};
use std::time::Duration;
use wsloop::proto::{ClientOpening, RequestError};

/// A conversation with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) url: Url,
    /// Names and values, Origin among them.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    /// Messages to send instead of what is on stdin.
    pub(crate) execute: Vec<String>,
    /// How long to stay when all is sent.
    pub(crate) stay: Stay,
    /// Between two pings.
    pub(crate) ping: Option<Duration>,
    /// What is sent is binary, and what comes binary is written as it is.
    pub(crate) is_binary: bool,
    /// Of a message, in either direction.
    pub(crate) message_bytes_max: usize,
    /// Up to the end of the opening handshake.
    pub(crate) connect_timeout: Duration,
    /// For the server's Close after ours.
    pub(crate) close_timeout: Duration,
}

/// What follows the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// Our Close at once, behind the last message; but messages of `-x` are answered first, or have had their time.
    Answered,
    /// Our Close after a time.
    For(Duration),
    /// No Close of ours.
    Forever,
}

impl Connect {
    /// The request, with a `key` of 16 random bytes.
    ///
    /// # Errors
    /// A header or a subprotocol is none.
    pub(crate) fn opening(&self, key: [u8; 16]) -> Result<ClientOpening, RequestError> {
        let mut opening = ClientOpening::new(&self.url.host, &self.url.target, key)?;
        for (name, value) in &self.headers {
            opening = opening.with_header(name, value)?;
        }
        for name in &self.subprotocols {
            opening = opening.with_subprotocol(name)?;
        }
        Ok(opening)
    }
}

/// Reads what follows `connect`.
///
/// # Errors
/// The first word that is wrong; or, when none is, flags that do not go together.
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
                    "unexpected word {:?} (connect takes one URL; a message stands after -x)",
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
        let reason = "--wait does not go with --no-close, which stays for ever";
        return Err(UsageError(reason.to_owned()));
    }
    Ok(Command::Connect(Box::new(connect)))
}

/// As wscat takes it: without a scheme it is ws.
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
