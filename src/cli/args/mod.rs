//! Parses arguments and environment variables into a [`Command`], or returns a [`UsageError`]: one line that names the
//! invalid argument and the reason.
//!
//! Prints nothing, opens nothing and resolves no host names.

mod address;
#[cfg(feature = "bench")]
mod bench;
#[cfg(any(feature = "bench", feature = "connect"))]
mod client_tls;
#[cfg(feature = "connect")]
mod connect;
#[cfg(any(feature = "bench", feature = "connect"))]
mod credentials;
mod effect;
mod flag;
#[cfg(any(feature = "bench", feature = "connect"))]
mod handshake;
mod host;
mod limits;
mod listen;
mod origin;
mod redis;
mod route;
mod tls;
mod units;
#[cfg(any(feature = "bench", feature = "connect"))]
mod url;
mod variables;

pub(crate) use address::Address;
#[cfg(feature = "bench")]
pub(crate) use bench::{Bench, Load};
#[cfg(any(feature = "bench", feature = "connect"))]
pub(crate) use client_tls::ClientTls;
#[cfg(feature = "connect")]
pub(crate) use connect::{Connect, Place, Stay};
pub(crate) use host::Host;
pub(crate) use listen::{Listen, ListenAddress, NO_PROXY_PROTOCOL, NO_TLS, SocketOptions};
pub(crate) use origin::Origin;
#[cfg(feature = "redis")]
pub(crate) use redis::RedisSettings;
pub(crate) use route::Route;
#[cfg(feature = "tls")]
pub(crate) use tls::{Certificates, TlsSettings};
#[cfg(any(feature = "bench", feature = "connect"))]
pub(crate) use url::resolve;

use super::help;
use flag::{Flag, FlagSpec};
use lexopt::{Arg, Parser};
use limits::{LIMITS, Limit};
use std::ffi::OsString;
use std::fmt;
use tungstenite::http::HeaderName;
use wsloop::{Config, ForwardedHeader, Network, Replay};

/// A command with its arguments.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one value, which exists as long as the process"
)]
pub(crate) enum Command {
    Serve(Serve),
    #[cfg(feature = "bench")]
    Bench(Box<Bench>),
    #[cfg(feature = "connect")]
    Connect(Box<Connect>),
    /// Print this text on stdout.
    Help(&'static str),
    Version,
}

/// Configuration of a server to run.
#[derive(Debug)]
pub(crate) struct Serve {
    /// Addresses to listen on in addition to inherited sockets, without duplicates. If none of all these is for
    /// WebSockets, the server also listens on [`Listen::default_address`].
    pub(crate) listen: Vec<Listen>,
    pub(crate) sockets: SocketOptions,
    /// Certificates and settings of listeners with TLS.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsSettings>,
    /// The broker that shares broadcasts with other servers.
    #[cfg(feature = "redis")]
    pub(crate) redis: Option<RedisSettings>,
    /// Paths and their handlers: at least one, without duplicate paths.
    pub(crate) routes: Vec<(String, Route)>,
    /// What each path of a broadcast retains for clients that connect later.
    pub(crate) replay: Option<Replay>,
    /// Allowed hosts. If empty, the listeners determine them.
    pub(crate) hosts: Vec<Host>,
    /// Allowed origins. If empty, the allowed hosts determine them.
    pub(crate) origins: Vec<Origin>,
    /// Allowed subprotocols. If empty, each client's first offer is selected.
    pub(crate) subprotocols: Vec<String>,
    /// Path of the metrics. If `listen` has a listener for metrics, the metrics are there and not on the others. If not,
    /// the path differs from those of all routes.
    pub(crate) metrics: Option<String>,
    pub(crate) log_format: LogFormat,
    /// Whether a GET of `/` that requests no WebSocket is answered with the built-in page.
    pub(crate) page: bool,
    pub(crate) config: Config,
    /// Whether `connections_max` was given. If not, it is derived from the limit on open files.
    pub(crate) has_connections_max: bool,
    /// Sentences about environment variables that start with `WSLOOP_` and belong to no flag, or whose flag has no
    /// effect. Each begins with the name of the variable.
    pub(crate) ignored_variables: Vec<String>,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// An invalid argument or environment variable: a message of one line that names it.
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
    /// Returns the message `FLAG "VALUE" REASON`. The value is quoted and escaped, so that the message is always one
    /// line.
    fn invalid_value(flag: &str, text: &str, reason: impl fmt::Display) -> Self {
        Self(format!("{flag} {text:?} {reason}"))
    }
}

/// Parses the arguments, without the program's name. For a server, also parses the environment variables.
///
/// # Errors
/// The first invalid argument. If all are valid: an invalid variable, or flags that contradict each other.
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

/// Returns the error for a command that this binary does not contain.
#[cfg(not(all(feature = "bench", feature = "connect")))]
fn built_without(feature: &str) -> UsageError {
    UsageError(format!(
        "this binary was built without the command {feature:?}; rebuild it with the cargo feature {feature:?}"
    ))
}

/// Parses the arguments after `help`: none, or one command.
fn help_command(args: Vec<OsString>) -> Result<Command, UsageError> {
    match &args[..] {
        [] => Ok(Command::Help(help::WSLOOP)),
        [command] => parse([command.clone(), "--help".into()], []),
        [_, word, ..] => Err(UsageError(format!(
            "unexpected argument {word:?} (help takes one command)"
        ))),
    }
}

/// Returns the first argument if it is a command that has its own `--help`, for the hint after a usage error.
pub(crate) fn command_of(first: Option<&OsString>) -> Option<&str> {
    let commands = ["serve", "echo", "broadcast", "bench", "connect"];
    first?.to_str().filter(|word| commands.contains(word))
}

/// Returns the flag that sets the field `name` of [`Config`], if it is a limit.
pub(crate) fn flag_of_limit(name: &str) -> Option<&'static str> {
    Limit::of_field(name).map(|limit| limit.flag)
}

/// The flags of a server, except those that set limits.
static FLAGS: &[Flag<ServeArgs>] = &[
    Flag::with_value(Some("-l"), "--listen", ServeArgs::listen).repeatable(),
    Flag::with_value(Some("-r"), "--route", ServeArgs::route).repeatable(),
    Flag::with_value(None, "--host", ServeArgs::host).repeatable(),
    Flag::with_value(None, "--origin", ServeArgs::origin).repeatable(),
    Flag::with_value(None, "--subprotocol", ServeArgs::subprotocol).repeatable(),
    Flag::with_value(None, REPLAY, |serve, text| {
        serve.replay = Some(units::replay(text)?);
        Ok(())
    }),
    Flag::switch(None, "--no-page", |serve| serve.no_page = true),
    Flag::with_value(None, METRICS, ServeArgs::metrics),
    Flag::with_value(None, "--log-format", ServeArgs::log_format),
    Flag::with_value(None, "--trusted-proxy", ServeArgs::trusted_proxy).repeatable(),
    Flag::with_value(None, FORWARDED_HEADER, ServeArgs::forwarded_header),
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
    #[cfg(feature = "tls")]
    Flag::with_value(None, tls::CERT, ServeArgs::tls_cert).repeatable(),
    #[cfg(feature = "tls")]
    Flag::with_value(None, tls::KEY, ServeArgs::tls_key).repeatable(),
    #[cfg(feature = "tls")]
    Flag::with_value(None, tls::CLIENT_CA, ServeArgs::tls_client_ca),
    #[cfg(feature = "tls")]
    Flag::switch(None, tls::CLIENT_OPTIONAL, ServeArgs::tls_client_optional),
    #[cfg(feature = "tls")]
    Flag::with_value(None, tls::MIN, ServeArgs::tls_min),
    #[cfg(feature = "tls")]
    Flag::switch(None, tls::SELF_SIGNED, ServeArgs::tls_self_signed),
    #[cfg(feature = "redis")]
    Flag::with_value(None, redis::REDIS, ServeArgs::redis),
    #[cfg(feature = "redis")]
    Flag::with_value(None, redis::PREFIX, ServeArgs::redis_prefix),
    #[cfg(feature = "redis")]
    Flag::with_value(None, redis::PASSWORD_FILE, ServeArgs::redis_password_file),
    #[cfg(feature = "redis")]
    Flag::with_value(None, redis::GRACE, ServeArgs::broker_grace),
    #[cfg(feature = "redis")]
    Flag::with_value(None, redis::OUTBOX, ServeArgs::broker_outbox),
    #[cfg(feature = "redis")]
    Flag::with_value(
        None,
        redis::MESSAGE_BYTES_MAX,
        ServeArgs::broker_message_bytes_max,
    ),
];

const METRICS: &str = "--metrics";
const REPLAY: &str = "--replay";

/// A flag of a server, from [`FLAGS`] or [`LIMITS`].
#[derive(Clone, Copy)]
enum ServerFlag {
    Flag(&'static Flag<ServeArgs>),
    Limit(&'static Limit),
}

impl ServerFlag {
    /// Returns all flags of a server except `--help` and `--version`.
    fn all() -> impl Iterator<Item = Self> {
        let flags = FLAGS.iter().map(Self::Flag);
        flags.chain(LIMITS.iter().map(Self::Limit))
    }

    fn find(flag: &str) -> Option<Self> {
        let row = flag::find(FLAGS, flag).map(Self::Flag);
        row.or_else(|| Limit::find(flag).map(Self::Limit))
    }

    fn spec(self) -> FlagSpec {
        match self {
            Self::Flag(flag) => flag.spec(),
            Self::Limit(limit) => limit.spec(),
        }
    }

    /// Applies the flag with the value `text`, which is empty for a flag without a value.
    ///
    /// # Errors
    /// The reason for a [`UsageError::invalid_value`].
    fn set(self, serve: &mut ServeArgs, text: &str) -> Result<(), String> {
        match self {
            Self::Flag(flag) => flag.set(serve, text),
            Self::Limit(limit) => Ok(limit.set(&mut serve.config, text)?),
        }
    }
}

/// The arguments of a server parsed so far.
#[derive(Default)]
struct ServeArgs {
    command: ServerCommand,
    /// Number of flags and positional arguments, without the values of flags.
    args_read: usize,
    listen: Vec<Listen>,
    sockets: SocketOptions,
    #[cfg(feature = "tls")]
    tls: tls::TlsArgs,
    #[cfg(feature = "redis")]
    redis: redis::RedisArgs,
    routes: Vec<(String, Route)>,
    replay: Option<Replay>,
    hosts: Vec<Host>,
    origins: Vec<Origin>,
    subprotocols: Vec<String>,
    metrics: Option<String>,
    log_format: LogFormat,
    no_page: bool,
    config: Config,
    /// Long names of the flags on the command line.
    given: Vec<&'static str>,
    /// Long names of the flags that were set by environment variables.
    by_variable: Vec<&'static str>,
    ignored_variables: Vec<String>,
    /// Whether the environment may have sockets of a parent process, which the arguments do not describe.
    may_inherit: bool,
}

impl ServeArgs {
    /// Returns whether a route is a broadcast.
    fn has_broadcast(&self) -> bool {
        (self.routes.iter()).any(|(_, route)| *route == Route::Broadcast)
    }

    /// Parses a positional argument, which must be the first argument and a command.
    fn read_command(&mut self, word: &str) -> Result<(), UsageError> {
        if self.args_read > 0 {
            return Err(UsageError(format!(
                "unexpected argument {word:?} (the command comes first, an address after -l)"
            )));
        }
        self.args_read += 1;
        self.command = match word {
            "serve" => ServerCommand::Serve,
            "echo" => ServerCommand::Echo,
            "broadcast" => ServerCommand::Broadcast,
            _ => {
                return Err(UsageError(format!(
                    "unknown command {word:?} (expected serve, echo, broadcast, bench, connect or help)"
                )));
            }
        };
        Ok(())
    }

    /// Parses a flag with its value.
    fn read_flag(&mut self, flag: &str, parser: &mut Parser) -> Result<(), UsageError> {
        tls::check_feature(flag, flag)?;
        redis::check_feature(flag, flag)?;
        let row = ServerFlag::find(flag)
            .ok_or_else(|| unknown_flag(flag, ServerFlag::all().map(|row| row.spec().long)))?;
        let text = row.spec().read(flag, parser, &mut self.given)?;
        row.set(self, &text)
            .map_err(|reason| UsageError::invalid_value(flag, &text, reason))
    }

    /// Applies `--listen`. Like the other functions that apply a flag, returns the reason for a usage error.
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

    /// Applies `--route`.
    fn route(&mut self, text: &str) -> Result<(), String> {
        if let ServerCommand::Echo | ServerCommand::Broadcast = self.command {
            let reason = "cannot be used with this command, which has one handler for every path; use wsloop serve";
            return Err(reason.to_owned());
        }
        let (path, route) = route::parse(text)?;
        if self.routes.iter().any(|(other, _)| *other == path) {
            return Err(format!("has the path {path:?}, which already has a route"));
        }
        if self.routes.len() == ROUTES_MAX {
            return Err(format!("exceeds the maximum of {ROUTES_MAX} routes"));
        }
        self.routes.push((path, route));
        Ok(())
    }

    /// Applies `--host`.
    fn host(&mut self, text: &str) -> Result<(), String> {
        self.hosts.push(host::parse(text)?);
        check_star(self.hosts.len(), self.hosts.contains(&Host::Any))
    }

    /// Applies `--origin`.
    fn origin(&mut self, text: &str) -> Result<(), String> {
        self.origins.push(origin::parse(text)?);
        check_star(self.origins.len(), self.origins.contains(&Origin::Any))
    }

    /// Applies `--subprotocol`.
    fn subprotocol(&mut self, text: &str) -> Result<(), String> {
        // The names of headers are tokens, as those of subprotocols are.
        if HeaderName::try_from(text).is_err() {
            return Err("is not a token: letters, digits and some punctuation".to_owned());
        }
        self.subprotocols.push(text.to_owned());
        Ok(())
    }

    /// Applies `--metrics`.
    fn metrics(&mut self, text: &str) -> Result<(), String> {
        if text.contains('*') {
            return Err("is not an exact path: it contains *".to_owned());
        }
        route::check_path(text)?;
        self.metrics = Some(text.to_owned());
        Ok(())
    }

    /// Applies `--trusted-proxy`.
    fn trusted_proxy(&mut self, text: &str) -> Result<(), String> {
        let network = text.parse::<Network>();
        let network = network.map_err(|error| error.to_string())?;
        self.config.trusted_proxies.push(network);
        Ok(())
    }

    /// Applies `--forwarded-header`.
    fn forwarded_header(&mut self, text: &str) -> Result<(), String> {
        let all = [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];
        let header = all.into_iter().find(|one| one.name() == text);
        self.config.forwarded_header = header.ok_or("is neither x-forwarded-for nor forwarded")?;
        Ok(())
    }

    /// Applies `--log-format`.
    fn log_format(&mut self, text: &str) -> Result<(), String> {
        self.log_format = match text {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err("is neither text nor json".to_owned()),
        };
        Ok(())
    }

    /// Checks the arguments together and fills in defaults.
    fn finish(mut self) -> Result<Serve, UsageError> {
        if self.routes.is_empty() {
            self.routes = self.command.routes();
        }
        effect::check(&mut self)?;
        #[cfg(feature = "tls")]
        let tls = tls::finish(&self)?;
        #[cfg(feature = "redis")]
        let redis = redis::finish(&self)?;
        let Self {
            command: _,
            args_read: _,
            listen,
            sockets,
            #[cfg(feature = "tls")]
                tls: _,
            #[cfg(feature = "redis")]
                redis: _,
            routes,
            replay,
            hosts,
            origins,
            subprotocols,
            metrics,
            log_format,
            no_page,
            config,
            given,
            by_variable,
            ignored_variables,
            may_inherit: _,
        } = self;
        let metrics_error = |path: &str, reason| {
            let name = variables::flag_or_variable(METRICS, &by_variable);
            Err(UsageError::invalid_value(&name, path, reason))
        };
        // The metrics of a listener of their own share no path with the routes and the page.
        let shared = metrics
            .as_deref()
            .filter(|_| !listen.iter().any(|one| one.is_metrics));
        if let Some(path) = shared
            && routes.iter().any(|(other, _)| other == path)
        {
            let reason = "is also the path of a route; choose another path";
            return metrics_error(path, reason);
        }
        if !no_page && shared == Some("/") {
            let reason = "is the path of the built-in page; choose another path or add --no-page";
            return metrics_error("/", reason);
        }
        let config = limits::finish(config, &given, &by_variable)?;
        let has_connections_max = [given, by_variable]
            .concat()
            .contains(&limits::CONNECTIONS_MAX);
        Ok(Serve {
            listen,
            sockets,
            #[cfg(feature = "tls")]
            tls,
            #[cfg(feature = "redis")]
            redis,
            routes,
            replay,
            hosts,
            origins,
            subprotocols,
            metrics,
            log_format,
            page: !no_page,
            config,
            has_connections_max,
            ignored_variables,
        })
    }
}

/// Returns an error if `*`, which allows all, is not the only value of its flag.
fn check_star(values: usize, has_star: bool) -> Result<(), String> {
    if values > 1 && has_star {
        return Err("cannot be used with another value, because * allows all".to_owned());
    }
    Ok(())
}

/// The command of a server. It selects the help text and the default routes.
#[derive(Clone, Copy, Default)]
enum ServerCommand {
    /// No command: the same as `serve`, but with the short help text.
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

    /// Returns the routes for a command line without `-r`.
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

const FORWARDED_HEADER: &str = "--forwarded-header";

/// Maximum number of routes. Routing compares a request with each route in turn.
const ROUTES_MAX: usize = 1000;

/// Returns the value of a flag.
fn value(parser: &mut Parser, flag: &str) -> Result<String, UsageError> {
    let value = parser
        .value()
        .map_err(|_| UsageError(format!("{flag} needs a value")))?;
    value.into_string().map_err(|value| {
        UsageError::invalid_value(flag, &value.to_string_lossy(), "is not valid UTF-8")
    })
}

/// Returns an error if a flag without a value was given one, as in `--no-page=1`.
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

/// Returns a positional argument as a string.
fn utf8(word: OsString) -> Result<String, UsageError> {
    word.into_string()
        .map_err(|word| UsageError(format!("{:?} is not valid UTF-8", word.to_string_lossy())))
}

/// Returns the error for an unknown flag. Suggests a flag that starts with it.
fn unknown_flag(flag: &str, mut known: impl Iterator<Item = &'static str>) -> UsageError {
    let meant = known.find(|known| flag.len() > "--x".len() && known.starts_with(flag));
    let meant = meant.map_or(String::new(), |known| format!(" (did you mean {known}?)"));
    UsageError(format!("unknown flag {flag:?}{meant}"))
}

#[cfg(all(test, feature = "bench", feature = "connect"))]
mod tests;
