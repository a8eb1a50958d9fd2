//! The command line: words in, a [`Command`] or one line that says which word is wrong and why.
//!
//! Nothing is printed and nothing is opened here; the only question to the outside is that for a host name's address.

mod address;
#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "connect")]
mod connect;
mod flag;
mod limits;
mod listen;
mod origin;
mod route;
mod units;
#[cfg(any(feature = "bench", feature = "connect"))]
mod url;
mod variables;

pub(crate) use address::Address;
#[cfg(feature = "bench")]
pub(crate) use bench::{Bench, Load};
#[cfg(feature = "connect")]
pub(crate) use connect::{Connect, Stay};
pub(crate) use listen::{Listen, SocketOptions};
pub(crate) use route::Route;

use super::help;
use flag::{Flag, FlagSpec};
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
    #[cfg(feature = "bench")]
    Bench(Box<Bench>),
    #[cfg(feature = "connect")]
    Connect(Box<Connect>),
    /// Print this on stdout.
    Help(&'static str),
    Version,
}

/// A server to run.
#[derive(Debug)]
pub(crate) struct Serve {
    /// None twice; if there is none, where to listen is for the environment to say, or [`Listen::default_address`].
    pub(crate) listen: Vec<Listen>,
    pub(crate) sockets: SocketOptions,
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
    /// Whether `connections_max` was given, and does not follow the descriptors' limit.
    pub(crate) has_connections_max: bool,
    /// Variables that look like ours and are no flag's.
    pub(crate) unknown_variables: Vec<String>,
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
    fn invalid_value(flag: &str, text: &str, reason: impl fmt::Display) -> Self {
        Self(format!("{flag} {text:?} {reason}"))
    }
}

/// Reads the command line, without the program's name, and for a server the variables.
///
/// # Errors
/// The first word that is wrong; or, when none is, a variable; or limits that make no sense together.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(args.into_iter().collect::<Vec<_>>());
    let mut serve = ServeArgs::default();
    while let Some(arg) = parser.next()? {
        let flag = match arg {
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(word) if serve.args_read == 0 && word == "bench" => {
                #[cfg(feature = "bench")]
                return bench::parse(&mut parser);
                #[cfg(not(feature = "bench"))]
                return Err(built_without("bench"));
            }
            Arg::Value(word) if serve.args_read == 0 && word == "connect" => {
                #[cfg(feature = "connect")]
                return connect::parse(&mut parser);
                #[cfg(not(feature = "connect"))]
                return Err(built_without("connect"));
            }
            Arg::Value(word) if serve.args_read == 0 && word == "help" => {
                return help_command(parser.raw_args()?.collect());
            }
            Arg::Value(word) => {
                serve.read_command(&utf8(word)?)?;
                continue;
            }
        };
        serve.args_read += 1;
        match flag.as_str() {
            "-h" | "--help" => {
                reject_value(&mut parser, &flag)?;
                return Ok(Command::Help(serve.command.help()));
            }
            "-V" | "--version" => {
                reject_value(&mut parser, &flag)?;
                return Ok(Command::Version);
            }
            _ => serve.read_flag(&flag, &mut parser)?,
        }
    }
    variables::apply(&mut serve, variables)?;
    serve.finish().map(Command::Serve)
}

/// The answer to a command that this binary was built without.
#[cfg(not(all(feature = "bench", feature = "connect")))]
fn built_without(feature: &str) -> UsageError {
    UsageError(format!(
        "this wsloop was built without the command {feature} (cargo feature {feature:?})"
    ))
}

/// `wsloop help`, alone or with a command.
fn help_command(args: Vec<OsString>) -> Result<Command, UsageError> {
    match &args[..] {
        [] => Ok(Command::Help(help::WSLOOP)),
        [command] => parse([command.clone(), "--help".into()], []),
        [_, word, ..] => Err(UsageError(format!(
            "unexpected word {word:?} (help takes one command)"
        ))),
    }
}

/// The command that a line with a mistake is about, if it begins with one that has a help of its own.
pub(crate) fn command_of(first: Option<&OsString>) -> Option<&str> {
    let commands = ["serve", "echo", "broadcast", "bench", "connect"];
    first?.to_str().filter(|word| commands.contains(word))
}

/// A server's flags, but for those that set limits.
static FLAGS: [Flag<ServeArgs>; 10] = [
    Flag::with_value(Some("-l"), "--listen", ServeArgs::listen).repeatable(),
    Flag::with_value(Some("-r"), "--route", ServeArgs::route).repeatable(),
    Flag::with_value(None, "--origin", ServeArgs::origin).repeatable(),
    Flag::switch(None, "--no-page", |serve| serve.no_page = true),
    Flag::with_value(None, "--metrics", ServeArgs::metrics),
    Flag::with_value(None, "--log-format", ServeArgs::log_format),
    Flag::with_value(None, "--unix-mode", |serve, text| {
        serve.sockets.unix_mode = Some(listen::mode(text)?);
        Ok(())
    }),
    Flag::switch(None, "--reuse-port", |serve| {
        serve.sockets.is_port_shared = true
    }),
    Flag::with_value(None, "--tcp-keepalive", |serve, text| {
        serve.sockets.tcp_keepalive = listen::seconds_or_off(text)?;
        Ok(())
    }),
    Flag::with_value(None, "--tcp-user-timeout", |serve, text| {
        serve.sockets.tcp_user_timeout = listen::time_or_off(text)?;
        Ok(())
    }),
];

/// The row of a server's flag, in either table.
#[derive(Clone, Copy)]
enum ServerFlag {
    Flag(&'static Flag<ServeArgs>),
    Limit(&'static Limit),
}

impl ServerFlag {
    /// Every flag of a server, but for those that end it at once.
    fn all() -> impl Iterator<Item = Self> {
        let flags = FLAGS.iter().map(Self::Flag);
        flags.chain(LIMITS.iter().map(Self::Limit))
    }

    fn find(flag: &str) -> Option<Self> {
        let row = flag::find(&FLAGS, flag).map(Self::Flag);
        row.or_else(|| Limit::find(flag).map(Self::Limit))
    }

    fn spec(self) -> FlagSpec {
        match self {
            Self::Flag(flag) => flag.spec(),
            Self::Limit(limit) => limit.spec(),
        }
    }

    /// `text` is empty for a flag without a value.
    fn set(self, serve: &mut ServeArgs, text: &str) -> Result<(), String> {
        match self {
            Self::Flag(flag) => flag.set(serve, text),
            Self::Limit(limit) => Ok(limit.set(&mut serve.config, text)?),
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct ServeArgs {
    command: ServerCommand,
    /// Flags and other words, values not counted.
    args_read: usize,
    listen: Vec<Listen>,
    sockets: SocketOptions,
    routes: Vec<(String, Route)>,
    origins: Vec<String>,
    metrics: Option<String>,
    log_format: LogFormat,
    no_page: bool,
    config: Config,
    /// The flags that were given, by their long names.
    given: Vec<&'static str>,
    /// Those that a variable was given for.
    by_variable: Vec<&'static str>,
    unknown_variables: Vec<String>,
}

impl ServeArgs {
    fn read_command(&mut self, word: &str) -> Result<(), UsageError> {
        if self.args_read > 0 {
            return Err(UsageError(format!(
                "unexpected word {word:?} (a command stands first, an address after -l)"
            )));
        }
        self.args_read += 1;
        self.command = match word {
            "serve" => ServerCommand::Serve,
            "echo" => ServerCommand::Echo,
            "broadcast" => ServerCommand::Broadcast,
            _ => {
                return Err(UsageError(format!(
                    "unknown command {word:?} (there are serve, echo, broadcast, bench and connect)"
                )));
            }
        };
        Ok(())
    }

    fn read_flag(&mut self, flag: &str, parser: &mut Parser) -> Result<(), UsageError> {
        let row = ServerFlag::find(flag)
            .ok_or_else(|| unknown_flag(flag, ServerFlag::all().map(|row| row.spec().long)))?;
        let text = row.spec().read(flag, parser, &mut self.given)?;
        row.set(self, &text)
            .map_err(|reason| UsageError::invalid_value(flag, &text, reason))
    }

    fn listen(&mut self, text: &str) -> Result<(), String> {
        let listen = Listen::parse(text)?;
        if self
            .listen
            .iter()
            .any(|other| other.conflicts_with(&listen))
        {
            return Err("is given twice".to_owned());
        }
        self.listen.push(listen);
        Ok(())
    }

    fn route(&mut self, text: &str) -> Result<(), String> {
        if let ServerCommand::Echo | ServerCommand::Broadcast = self.command {
            let reason = "does not go with this command, which routes every path; use wsloop serve";
            return Err(reason.to_owned());
        }
        let (path, route) = route::parse(text)?;
        if self.routes.iter().any(|(other, _)| *other == path) {
            return Err(format!("has the path {path:?}, which is given twice"));
        }
        if self.routes.len() == ROUTES_MAX {
            return Err(format!("is one route more than {ROUTES_MAX}"));
        }
        self.routes.push((path, route));
        Ok(())
    }

    fn origin(&mut self, text: &str) -> Result<(), String> {
        self.origins.push(origin::parse(text)?);
        Ok(())
    }

    fn metrics(&mut self, text: &str) -> Result<(), String> {
        if text.contains('*') {
            return Err("must be one path, without *".to_owned());
        }
        route::check_path(text).map_err(|reason| format!("is a path {reason}"))?;
        self.metrics = Some(text.to_owned());
        Ok(())
    }

    fn log_format(&mut self, text: &str) -> Result<(), String> {
        self.log_format = match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("must be text or json".to_owned()),
        };
        Ok(())
    }

    fn finish(self) -> Result<Serve, UsageError> {
        let Self {
            command,
            args_read: _,
            listen,
            sockets,
            mut routes,
            origins,
            metrics,
            log_format,
            no_page,
            config,
            given,
            by_variable,
            unknown_variables,
        } = self;
        let has_nothing = |flag: &str, what| {
            let is_by_variable = by_variable.contains(&flag);
            let name = if is_by_variable {
                variables::name_of(flag)
            } else {
                flag.to_owned()
            };
            Err(UsageError(format!(
                "{name} goes with {what}, and there is none"
            )))
        };
        if sockets.unix_mode.is_some() && !listen.iter().any(Listen::is_unix) {
            return has_nothing("--unix-mode", "a socket at unix:PATH");
        }
        if sockets.is_port_shared && !listen.is_empty() && listen.iter().all(Listen::is_unix) {
            return has_nothing("--reuse-port", "a TCP port");
        }
        if routes.is_empty() {
            routes = command.routes();
        }
        if let Some(path) = &metrics
            && routes.iter().any(|(other, _)| other == path)
        {
            let reason = "is the path of a route, too";
            return Err(UsageError::invalid_value("--metrics", path, reason));
        }
        if !no_page && metrics.as_deref() == Some("/") {
            let reason = "is the path of the page; with --no-page it can be";
            return Err(UsageError::invalid_value("--metrics", "/", reason));
        }
        let config = limits::finish(config, &given, &by_variable)?;
        let has_connections_max = [given, by_variable]
            .concat()
            .contains(&limits::CONNECTIONS_MAX);
        Ok(Serve {
            listen,
            sockets,
            routes,
            origins,
            metrics,
            log_format,
            page: !no_page,
            config,
            has_connections_max,
            unknown_variables,
        })
    }
}

/// The command; without one, `serve`, but its help is the short one.
#[derive(Clone, Copy, Default)]
enum ServerCommand {
    #[default]
    Unnamed,
    Serve,
    Echo,
    Broadcast,
}

impl ServerCommand {
    fn help(self) -> &'static str {
        match self {
            Self::Unnamed => help::WSLOOP,
            Self::Serve => help::SERVE,
            Self::Echo => help::ECHO,
            Self::Broadcast => help::BROADCAST,
        }
    }

    /// The routes when none is given.
    fn routes(self) -> Vec<(String, Route)> {
        match self {
            Self::Unnamed | Self::Serve => vec![
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
    value.into_string().map_err(|value| {
        UsageError::invalid_value(flag, &value.to_string_lossy(), "is not valid UTF-8")
    })
}

fn reject_value(parser: &mut Parser, flag: &str) -> Result<(), UsageError> {
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

#[cfg(test)]
mod tests;
