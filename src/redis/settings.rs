//! [`Settings`]: the broker's address, the user there, and the prefix of the channels.

use std::fmt;
#[cfg(unix)]
use std::os::unix::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::str::FromStr;

/// The address of the broker to which a [`Redis`](super::Redis) connects, its user there, and the prefix of the channels.
///
/// Parsed from a URL:
///
/// - `redis://[user[:password]@]host[:port]`, where the host is a name, an IPv4 address or an IPv6 address in brackets,
///   and the default port is 6379;
/// - `unix:/path`, or `redis+unix://[user[:password]@]/path`, in which the path may be percent-encoded.
///
/// User and password may be percent-encoded. A password without a user is that of the user `default`.
///
/// The only database that a `redis://` URL may name is 0, as in `redis://localhost/0`. All databases have the same channels,
/// so use [`prefix`](Self::prefix) to separate services. TLS (`rediss://`) is not supported.
///
/// ```
/// use wsloop::redis::Settings;
///
/// # fn read_secret() -> String { String::from("secret") }
/// let settings: Settings = "redis://alice@redis.example:6380".parse()?;
/// let settings = settings.password(read_secret()).prefix("shop:");
/// assert_eq!(settings.to_string(), "redis://redis.example:6380"); // never the user or the password
/// # Ok::<(), wsloop::redis::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) endpoint: Endpoint,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) prefix: String,
}

/// The address of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A host without brackets, and a port.
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Settings {
    /// Sets the user, in place of the one in the URL.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password, in place of the one in the URL. A URL in the arguments of a program is visible in the list of
    /// processes.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the prefix: the channel of a topic is the prefix followed by the topic. Servers with the same prefix share
    /// their topics. Default: `wsloop:`. Use a short one, because it is part of each message to and from the broker.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
}

impl FromStr for Settings {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once(':').ok_or(UrlError::Scheme)?;
        match scheme {
            "redis" => parse_tcp(rest),
            "unix" => unix_endpoint(rest).map(Self::from),
            "redis+unix" => parse_unix(rest),
            "rediss" => Err(UrlError::Tls),
            _ => Err(UrlError::Scheme),
        }
    }
}

impl From<Endpoint> for Settings {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            user: None,
            password: None,
            prefix: DEFAULT_PREFIX.into(),
        }
    }
}

/// Displays the URL without user and password.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(host, port) if host.contains(':') => write!(f, "redis://[{host}]:{port}"),
            Endpoint::Tcp(host, port) => write!(f, "redis://{host}:{port}"),
            #[cfg(unix)]
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Shows whether there is a password, but not the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .field("prefix", &self.prefix)
            .finish()
    }
}

/// Why a text is not a valid URL for [`Settings`]. Displayed as the rest of a sentence that begins with the name of the
/// setting, such as "has no port from 1 to 65535". Never contains a part of the URL, in which there may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// The URL begins with none of `redis://`, `unix:` and `redis+unix://`.
    Scheme,
    /// The URL begins with `rediss://`, which means TLS.
    Tls,
    /// There is no host, or it has invalid characters.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The path is neither empty, `/` nor `/0`.
    Database,
    /// The URL has a query or a fragment: a `?` or a `#` that is not percent-encoded.
    Query,
    /// A `%` in user, password or path is not followed by two hexadecimal digits, or they decode to invalid UTF-8.
    Encoding,
    /// The path of the Unix socket is empty or relative, or the system has no Unix sockets.
    Path,
    /// The path of the Unix socket is longer than the system allows.
    PathLength,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "does not begin with redis://, unix: or redis+unix://",
            Self::Tls => {
                "begins with rediss://, but TLS to the broker is not supported: use redis:// in a private network or \
                 through a tunnel, or unix:"
            }
            Self::Host => "has no valid host; an IPv6 address needs brackets, as in redis://[::1]:6379",
            Self::Port => "has no port from 1 to 65535",
            Self::Database => {
                "has a path; a number of a database has no effect on channels, so set a prefix instead"
            }
            Self::Query => "has a query or a fragment; encode ? as %3F and # as %23 in a password",
            Self::Encoding => {
                "has a % that is not followed by two hexadecimal digits, or bytes that are not UTF-8; encode % as %25"
            }
            Self::Path if cfg!(unix) => "has no absolute path, as in unix:/run/redis.sock",
            Self::Path => "needs a system with Unix sockets",
            Self::PathLength => "has a longer path than the system allows for Unix sockets (107 bytes on Linux)",
        })
    }
}

impl std::error::Error for UrlError {}

/// Parses what follows `redis:`.
fn parse_tcp(rest: &str) -> Result<Settings, UrlError> {
    let (userinfo, rest) = split_userinfo(rest.strip_prefix("//").ok_or(UrlError::Scheme)?)?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, path),
        None => (rest, ""),
    };
    if !matches!(path, "" | "0") {
        return Err(UrlError::Database);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| UrlError::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(UrlError::Host),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(UrlError::Host),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '%') {
        return Err(UrlError::Host);
    }
    let port = match port {
        None => DEFAULT_PORT,
        // `FromStr` of numbers accepts a leading "+".
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or(UrlError::Port)?,
        Some(_) => return Err(UrlError::Port),
    };
    let mut settings = Settings::from(Endpoint::Tcp(host.into(), port));
    (settings.user, settings.password) = userinfo;
    Ok(settings)
}

/// Parses what follows `redis+unix:`.
fn parse_unix(rest: &str) -> Result<Settings, UrlError> {
    let (userinfo, path) = split_userinfo(rest.strip_prefix("//").ok_or(UrlError::Scheme)?)?;
    let mut settings = Settings::from(unix_endpoint(&decode(path)?)?);
    (settings.user, settings.password) = userinfo;
    Ok(settings)
}

#[cfg(unix)]
fn unix_endpoint(path: &str) -> Result<Endpoint, UrlError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(UrlError::Path);
    }
    if SocketAddr::from_pathname(path).is_err() {
        return Err(UrlError::PathLength);
    }
    Ok(Endpoint::Unix(path.into()))
}

#[cfg(not(unix))]
fn unix_endpoint(_: &str) -> Result<Endpoint, UrlError> {
    Err(UrlError::Path)
}

/// User and password.
type Userinfo = (Option<String>, Option<String>);

/// Splits `[user[:password]@]rest`. An empty user is no user.
fn split_userinfo(text: &str) -> Result<(Userinfo, &str), UrlError> {
    // The last @ ends the password, so an unencoded @ or / in a password is accepted.
    let Some((userinfo, rest)) = text.rsplit_once('@') else {
        return match text.contains(['?', '#']) {
            true => Err(UrlError::Query),
            false => Ok(((None, None), text)),
        };
    };
    if text.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (userinfo, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok(((user, password), rest))
}

/// Decodes the percent sequences of `text` (RFC 3986 section 2.1).
fn decode(text: &str) -> Result<String, UrlError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| UrlError::Encoding)
}

fn hex(digit: Option<u8>) -> Result<u8, UrlError> {
    let digit = digit.and_then(|digit| char::from(digit).to_digit(16));
    digit.map(|digit| digit as u8).ok_or(UrlError::Encoding)
}

const DEFAULT_PORT: u16 = 6379;

/// The prefix of the channels, so that topics do not mix with the channels of other programs.
const DEFAULT_PREFIX: &str = "wsloop:";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Settings {
        url.parse()
            .unwrap_or_else(|error| panic!("{url:?} {error}"))
    }

    #[test]
    fn urls_of_tcp_have_host_port_user_and_password() {
        let table = [
            ("redis://localhost", "localhost", 6379, None, None),
            ("redis://localhost/", "localhost", 6379, None, None),
            ("redis://10.0.0.1:7000/0", "10.0.0.1", 7000, None, None),
            ("redis://[::1]", "::1", 6379, None, None),
            ("redis://[2001:db8::1]:1", "2001:db8::1", 1, None, None),
            ("redis://:pw@h", "h", 6379, None, Some("pw")),
            ("redis://bob@h", "h", 6379, Some("bob"), None),
            ("redis://bob:@h", "h", 6379, Some("bob"), Some("")),
            ("redis://bob:pw@h:1", "h", 1, Some("bob"), Some("pw")),
            (
                "redis://b%40b:p%2F%3a@h",
                "h",
                6379,
                Some("b@b"),
                Some("p/:"),
            ),
            ("redis://b:p@w/x:y@h", "h", 6379, Some("b"), Some("p@w/x:y")),
            ("redis://b:%C3%A9@h", "h", 6379, Some("b"), Some("é")),
        ];
        for (url, host, port, user, password) in table {
            let settings = parse(url);
            assert_eq!(settings.endpoint, Endpoint::Tcp(host.into(), port), "{url}");
            assert_eq!(settings.user.as_deref(), user, "{url}");
            assert_eq!(settings.password.as_deref(), password, "{url}");
            assert_eq!(settings.prefix, "wsloop:", "{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn urls_of_unix_sockets_have_a_path() {
        let settings = parse("unix:/run/a%20b.sock");
        assert_eq!(settings.endpoint, Endpoint::Unix("/run/a%20b.sock".into()));
        let settings = parse("redis+unix://bob:pw@/run/a%20b.sock");
        assert_eq!(settings.endpoint, Endpoint::Unix("/run/a b.sock".into()));
        assert_eq!(settings.user.as_deref(), Some("bob"));
        assert_eq!(settings.password.as_deref(), Some("pw"));
        assert_eq!(
            parse("redis+unix:///r.sock").endpoint,
            Endpoint::Unix("/r.sock".into())
        );
        for url in [
            "unix:",
            "unix:r.sock",
            "unix:/",
            "unix:/a\0",
            "redis+unix://",
        ] {
            assert_eq!(url.parse::<Settings>(), Err(UrlError::Path), "{url:?}");
        }
        assert_eq!("redis+unix:/r".parse::<Settings>(), Err(UrlError::Scheme));
        let long = format!("unix:/{}", "a".repeat(200));
        assert_eq!(long.parse::<Settings>(), Err(UrlError::PathLength));
    }

    #[test]
    fn malformed_urls_are_rejected() {
        let table = [
            ("", UrlError::Scheme),
            ("localhost:6379", UrlError::Scheme),
            ("localhost", UrlError::Scheme),
            ("redis:localhost", UrlError::Scheme),
            ("REDIS://localhost", UrlError::Scheme),
            ("http://localhost", UrlError::Scheme),
            ("rediss://localhost", UrlError::Tls),
            ("redis://", UrlError::Host),
            ("redis://:6379", UrlError::Host),
            ("redis://bob:pw@", UrlError::Host),
            ("redis://::1", UrlError::Host),
            ("redis://[::1", UrlError::Host),
            ("redis://[localhost]", UrlError::Host),
            ("redis://[::1]6379", UrlError::Host),
            ("redis://a b", UrlError::Host),
            ("redis://h%41", UrlError::Host),
            ("redis://h:", UrlError::Port),
            ("redis://h:0", UrlError::Port),
            ("redis://h:65536", UrlError::Port),
            ("redis://h:+1", UrlError::Port),
            ("redis://h:x", UrlError::Port),
            ("redis://h/1", UrlError::Database),
            ("redis://h/0/", UrlError::Database),
            ("redis://h?db=1", UrlError::Query),
            ("redis://h/0#1", UrlError::Query),
            ("redis://:a#b@h", UrlError::Query),
            ("redis://:%@h", UrlError::Encoding),
            ("redis://:%2@h", UrlError::Encoding),
            ("redis://:%zz@h", UrlError::Encoding),
            ("redis://:%+1@h", UrlError::Encoding),
            ("redis://:%ff@h", UrlError::Encoding),
        ];
        for (url, error) in table {
            assert_eq!(url.parse::<Settings>(), Err(error), "{url:?}");
        }
    }

    #[test]
    fn the_password_is_neither_displayed_nor_debugged() {
        let settings = parse("redis://bob:sEcret@[::1]:7").prefix("p:");
        assert_eq!(settings.to_string(), "redis://[::1]:7");
        let debugged = format!("{settings:?}");
        assert!(debugged.contains("bob") && debugged.contains("p:"));
        assert!(!debugged.contains("sEcret"), "{debugged}");
        assert!(format!("{:?}", parse("redis://h")).contains("password: None"));
        let replaced = settings.user("eve").password("other");
        assert_eq!(replaced.user.as_deref(), Some("eve"));
        assert_eq!(replaced.password.as_deref(), Some("other"));
    }
}
