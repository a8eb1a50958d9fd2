//! The command line: words in, a [`Command`] or one line that says which word is wrong and why.
//!
//! Nothing is printed and nothing is opened here; the only question to the outside is that for a host name's address.

mod address;
mod bench;
mod connect;
mod flag;
mod limits;
mod origin;
mod route;
mod units;
mod url;

pub(crate) use address::Address;
pub(crate) use bench::{Bench, Load};
pub(crate) use connect::{Connect, Stay};
pub(crate) use route::Route;

use super::help;
use lexopt::{Arg, Parser};
use limits::{LIMITS, Limit};
use std::ffi::OsString;
use std::fmt;
use wsloop::Config;

/// What the command line asks for.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it lives as long as the process"
)]
pub(crate) enum Command {
    Serve(Serve),
    Bench(Box<Bench>),
    Connect(Box<Connect>),
    /// Print this on stdout.
    Help(&'static str),
    Version,
}

/// A server to run.
#[derive(Debug)]
pub(crate) struct Serve {
    /// At least one, none twice.
    pub(crate) listen: Vec<Address>,
    /// At least one, no path twice.
    pub(crate) routes: Vec<(String, Route)>,
    /// Lower case, as browsers send them; empty if every origin is let in.
    pub(crate) origins: Vec<String>,
    /// Where the counts are told; none of the routes' paths.
    pub(crate) metrics: Option<String>,
    pub(crate) log_format: LogFormat,
    /// Whether a plain GET of / is answered with the page.
    pub(crate) page: bool,
    pub(crate) config: Config,
}

/// How the log is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// One line that names the word which is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl UsageError {
    /// Values are quoted and escaped, so that the message stays one line whatever they hold.
    fn of_value(flag: &str, text: &str, reason: impl fmt::Display) -> Self {
        Self(format!("{flag} {text:?} {reason}"))
    }
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// The first word that is wrong; or, when none is, limits that make no sense together.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(args.into_iter().collect::<Vec<_>>());
    let mut line = Line::default();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) if line.words == 0 && word == "bench" => {
                return bench::parse(&mut parser);
            }
            Arg::Value(word) if line.words == 0 && word == "connect" => {
                return connect::parse(&mut parser);
            }
            Arg::Value(word) => {
                line.word(&utf8(word)?)?;
                continue;
            }
        };
        line.words += 1;
        match flag.as_str() {
            "-h" | "--help" => {
                no_value(&mut parser, &flag)?;
                return Ok(Command::Help(line.verb.help()));
            }
            "-V" | "--version" => {
                no_value(&mut parser, &flag)?;
                return Ok(Command::Version);
            }
            "-l" | "--listen" => line.listen(&flag, &value(&mut parser, &flag)?)?,
            "-r" | "--route" => line.route(&flag, &value(&mut parser, &flag)?)?,
            "--origin" => line.origin(&flag, &value(&mut parser, &flag)?)?,
            "--metrics" => line.metrics(&flag, &value(&mut parser, &flag)?)?,
            "--log-format" => line.log_format(&flag, &value(&mut parser, &flag)?)?,
            NO_PAGE => {
                no_value(&mut parser, &flag)?;
                line.no_page()?;
            }
            _ => {
                let limit = Limit::find(&flag).ok_or_else(|| {
                    let limits = LIMITS.iter().map(|limit| limit.flag);
                    unknown_flag(&flag, limits.chain(["--metrics", "--log-format"]))
                })?;
                let text = if limit.takes_value() {
                    value(&mut parser, &flag)?
                } else {
                    no_value(&mut parser, &flag)?;
                    String::new()
                };
                line.limit(limit, &text)?;
            }
        }
    }
    line.finish().map(Command::Serve)
}

/// What was read so far.
#[derive(Default)]
struct Line {
    verb: Verb,
    /// Flags and other words, values not counted.
    words: usize,
    listen: Vec<Address>,
    routes: Vec<(String, Route)>,
    origins: Vec<String>,
    metrics: Option<String>,
    log_format: Option<LogFormat>,
    no_page: bool,
    config: Config,
    /// The limits' flags, each of which may be given once.
    given: Vec<&'static str>,
}

impl Line {
    fn word(&mut self, word: &str) -> Result<(), UsageError> {
        if self.words > 0 {
            return Err(UsageError(format!(
                "unexpected word {word:?} (a command stands first, an address after -l)"
            )));
        }
        self.words += 1;
        self.verb = match word {
            "serve" => Verb::Serve,
            "echo" => Verb::Echo,
            "broadcast" => Verb::Broadcast,
            _ => {
                return Err(UsageError(format!(
                    "unknown command {word:?} (there are serve, echo, broadcast, bench and connect)"
                )));
            }
        };
        Ok(())
    }

    fn listen(&mut self, flag: &str, text: &str) -> Result<(), UsageError> {
        let address =
            Address::parse(text).map_err(|reason| UsageError::of_value(flag, text, reason))?;
        // Port 0 is another free port each time.
        let is_same = |other: &Address| other.socket == address.socket;
        if address.socket.port() != 0 && self.listen.iter().any(is_same) {
            return Err(UsageError::of_value(flag, text, "is given twice"));
        }
        self.listen.push(address);
        Ok(())
    }

    fn route(&mut self, flag: &str, text: &str) -> Result<(), UsageError> {
        if let Verb::Echo | Verb::Broadcast = self.verb {
            let reason = "does not go with this command, which routes every path; use wsloop serve";
            return Err(UsageError::of_value(flag, text, reason));
        }
        let (path, route) =
            route::parse(text).map_err(|reason| UsageError::of_value(flag, text, reason))?;
        if self.routes.iter().any(|(other, _)| *other == path) {
            let reason = format!("has the path {path:?}, which is given twice");
            return Err(UsageError::of_value(flag, text, reason));
        }
        if self.routes.len() == ROUTES_MAX {
            let reason = format!("is one route more than {ROUTES_MAX}");
            return Err(UsageError::of_value(flag, text, reason));
        }
        self.routes.push((path, route));
        Ok(())
    }

    fn origin(&mut self, flag: &str, text: &str) -> Result<(), UsageError> {
        let origin =
            origin::parse(text).map_err(|reason| UsageError::of_value(flag, text, reason))?;
        self.origins.push(origin);
        Ok(())
    }

    fn metrics(&mut self, flag: &str, text: &str) -> Result<(), UsageError> {
        if self.metrics.is_some() {
            return Err(UsageError(format!("{flag} is given twice")));
        }
        if text.contains('*') {
            return Err(UsageError::of_value(
                flag,
                text,
                "must be one path, without *",
            ));
        }
        route::check_path(text).map_err(|reason| {
            UsageError::of_value(flag, text, format_args!("is a path {reason}"))
        })?;
        self.metrics = Some(text.to_owned());
        Ok(())
    }

    fn log_format(&mut self, flag: &str, text: &str) -> Result<(), UsageError> {
        if self.log_format.is_some() {
            return Err(UsageError(format!("{flag} is given twice")));
        }
        self.log_format = Some(match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(UsageError::of_value(flag, text, "must be text or json")),
        });
        Ok(())
    }

    fn no_page(&mut self) -> Result<(), UsageError> {
        if self.no_page {
            return Err(UsageError(format!("{NO_PAGE} is given twice")));
        }
        self.no_page = true;
        Ok(())
    }

    fn limit(&mut self, limit: &Limit, text: &str) -> Result<(), UsageError> {
        if self.given.contains(&limit.flag) {
            return Err(UsageError(format!("{} is given twice", limit.flag)));
        }
        self.given.push(limit.flag);
        let set = limit.set(&mut self.config, text);
        set.map_err(|reason| UsageError::of_value(limit.flag, text, reason))
    }

    fn finish(self) -> Result<Serve, UsageError> {
        let Self {
            verb,
            words: _,
            mut listen,
            mut routes,
            origins,
            metrics,
            log_format,
            no_page,
            config,
            given,
        } = self;
        if listen.is_empty() {
            listen.push(Address::parse(LISTEN_DEFAULT).map_err(UsageError)?);
        }
        if routes.is_empty() {
            routes = verb.routes();
        }
        if let Some(path) = &metrics
            && routes.iter().any(|(other, _)| other == path)
        {
            let reason = "is the path of a route, too";
            return Err(UsageError::of_value("--metrics", path, reason));
        }
        if !no_page && metrics.as_deref() == Some("/") {
            let reason = "is the path of the page; with --no-page it can be";
            return Err(UsageError::of_value("--metrics", "/", reason));
        }
        Ok(Serve {
            listen,
            routes,
            origins,
            metrics,
            log_format: log_format.unwrap_or_default(),
            page: !no_page,
            config: limits::finish(config, &given)?,
        })
    }
}

/// The command; without one, `serve`, but its help is the short one.
#[derive(Clone, Copy, Default)]
enum Verb {
    #[default]
    Bare,
    Serve,
    Echo,
    Broadcast,
}

impl Verb {
    fn help(self) -> &'static str {
        match self {
            Self::Bare => help::WSLOOP,
            Self::Serve => help::SERVE,
            Self::Echo => help::ECHO,
            Self::Broadcast => help::BROADCAST,
        }
    }

    /// The routes when none is given.
    fn routes(self) -> Vec<(String, Route)> {
        match self {
            Self::Bare | Self::Serve => vec![
                ("/echo".to_owned(), Route::echo()),
                ("/broadcast".to_owned(), Route::Broadcast),
                ("/".to_owned(), Route::echo()),
            ],
            Self::Echo => vec![("/*".to_owned(), Route::echo())],
            Self::Broadcast => vec![("/*".to_owned(), Route::Broadcast)],
        }
    }
}

/// A request is matched against one route after the other.
const ROUTES_MAX: usize = 1000;

fn value(parser: &mut Parser, flag: &str) -> Result<String, UsageError> {
    let value = parser
        .value()
        .map_err(|_| UsageError(format!("{flag} needs a value")))?;
    value
        .into_string()
        .map_err(|value| UsageError::of_value(flag, &value.to_string_lossy(), "is not valid UTF-8"))
}

fn no_value(parser: &mut Parser, flag: &str) -> Result<(), UsageError> {
    match parser.optional_value() {
        None => Ok(()),
        Some(value) => {
            let text = value.to_string_lossy();
            Err(UsageError(format!(
                "{flag} takes no value, but has {text:?}"
            )))
        }
    }
}

fn utf8(word: OsString) -> Result<String, UsageError> {
    word.into_string()
        .map_err(|word| UsageError(format!("{:?} is not valid UTF-8", word.to_string_lossy())))
}

fn unknown_flag(flag: &str, mut known: impl Iterator<Item = &'static str>) -> UsageError {
    let meant = known.find(|known| flag.len() > "--x".len() && known.starts_with(flag));
    let meant = meant.map_or(String::new(), |known| format!(" (did you mean {known}?)"));
    UsageError(format!("unknown flag {flag:?}{meant}"))
}

const NO_PAGE: &str = "--no-page";

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

#[cfg(test)]
mod tests;
