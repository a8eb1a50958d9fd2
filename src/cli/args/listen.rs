//! Listeners and their socket options: parses TCP addresses, paths of Unix sockets, and the values of socket flags.

use super::{Address, flag, units};
use std::fmt;
use std::time::Duration;

/// A listener to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) at: ListenAddress,
    /// Whether connections begin with a header of the PROXY protocol.
    pub(crate) is_proxied: bool,
    /// Whether connections speak TLS, after that header.
    pub(crate) is_tls: bool,
    /// Whether the listener answers requests for metrics and checks only.
    pub(crate) is_metrics: bool,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Tcp(Address),
    /// The path of a Unix socket.
    Unix(String),
}

/// Options of listening sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// Permissions of the files of Unix sockets. `None`: 777 without the bits of the umask.
    pub(crate) unix_mode: Option<u32>,
    /// Whether other processes can listen on the same TCP ports (`SO_REUSEPORT`).
    pub(crate) is_port_shared: bool,
    /// Time without traffic after which a peer is probed (`TCP_KEEPIDLE`), in whole seconds. `None`: no probes.
    pub(crate) tcp_keepalive: Option<Duration>,
    /// Time for which sent data can remain unacknowledged (`TCP_USER_TIMEOUT`). `None`: the system's default.
    pub(crate) tcp_user_timeout: Option<Duration>,
}

impl Listen {
    /// Parses `unix:PATH` or a TCP address, optionally after the prefixes `proxy:`, `tls:` and `metrics:` in any order.
    ///
    /// # Errors
    /// The reason for a [`UsageError::invalid_value`](super::UsageError).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut is_proxied, mut is_tls, mut is_metrics) = (false, false, false);
        let mut address = text;
        loop {
            let (option, rest) = match address.split_once(':') {
                Some(("proxy", rest)) => (&mut is_proxied, rest),
                Some(("tls", rest)) => (&mut is_tls, rest),
                Some(("metrics", rest)) => (&mut is_metrics, rest),
                Some(_) | None => break,
            };
            // A repeated prefix is parsed as the name of a host.
            if *option {
                break;
            }
            *option = true;
            address = rest;
        }
        if is_proxied && cfg!(not(feature = "proxy-protocol")) {
            return Err(NO_PROXY_PROTOCOL.to_owned());
        }
        if is_tls && cfg!(not(feature = "tls")) {
            return Err(NO_TLS.to_owned());
        }
        let at = ListenAddress::parse(address)?;
        Ok(Self {
            at,
            is_proxied,
            is_tls,
            is_metrics,
        })
    }

    /// Returns the listener of a server without `-l` and without inherited sockets.
    pub(crate) fn default_address() -> Self {
        Self::parse(LISTEN_DEFAULT).expect("an address with a port")
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self.at, ListenAddress::Unix(_))
    }

    /// Returns whether a server cannot open both listeners, because they have the same port or path, as far as this is known
    /// without resolving names. Port 0 never conflicts, because it selects a free port for each listener.
    pub(super) fn conflicts_with(&self, other: &Self) -> bool {
        match (&self.at, &other.at) {
            (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => one.conflicts_with(other),
            (ListenAddress::Unix(one), ListenAddress::Unix(other)) => one == other,
            (ListenAddress::Tcp(_), ListenAddress::Unix(_))
            | (ListenAddress::Unix(_), ListenAddress::Tcp(_)) => false,
        }
    }
}

/// Displays the argument of `-l`, with its prefixes in one order.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_given, prefix) in [
            (self.is_metrics, "metrics:"),
            (self.is_proxied, "proxy:"),
            (self.is_tls, "tls:"),
        ] {
            if is_given {
                f.write_str(prefix)?;
            }
        }
        match &self.at {
            ListenAddress::Tcp(address) => f.write_str(&address.text),
            ListenAddress::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl ListenAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            return Address::parse(text).map(Self::Tcp);
        };
        if path.is_empty() {
            return Err(
                "has no path; expected unix:PATH, such as unix:/run/wsloop.sock".to_owned(),
            );
        }
        if path.len() > PATH_BYTES_MAX {
            let bytes = path.len();
            return Err(format!(
                "has a path of {bytes} bytes; the path of a Unix socket has at most {PATH_BYTES_MAX}"
            ));
        }
        Ok(Self::Unix(path.into()))
    }
}

/// Parses the permissions of a file in octal, from 0 to 777.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = units::is_digits(text).then(|| u32::from_str_radix(text, 8));
    match mode {
        Some(Ok(mode)) if mode <= 0o777 => Ok(mode),
        Some(_) | None => Err("is not an octal mode from 0 to 777, such as 660".to_owned()),
    }
}

/// Parses a duration of whole seconds, the unit of `TCP_KEEPIDLE`, from 1 s to 9 h. 0 and `off` are `None`. The maximum
/// of Linux is 32 767 s, a little more than 9 h.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn seconds_or_off(text: &str) -> Result<Option<Duration>, String> {
    match units::duration_or_off(text)? {
        Some(time) if time.subsec_nanos() != 0 || time > KEEPALIVE_MAX => {
            Err("is not whole seconds from 1s to 9h, or off".to_owned())
        }
        time => Ok(time),
    }
}

/// Parses a duration from 1 ms to 24 h. 0 and `off` are `None`.
///
/// # Errors
/// The reason for a [`UsageError::invalid_value`](super::UsageError).
pub(super) fn time_or_off(text: &str) -> Result<Option<Duration>, String> {
    match units::duration_or_off(text)? {
        Some(_) => flag::time(text).map(Some),
        None => Ok(None),
    }
}

/// The reason to reject `proxy:ADDR`, or an inherited socket with the name `proxy`, in a binary without the PROXY
/// protocol.
pub(crate) const NO_PROXY_PROTOCOL: &str =
    "needs the PROXY protocol; rebuild the binary with the cargo feature \"proxy-protocol\"";

/// The reason to reject `tls:ADDR`, or an inherited socket with the name `tls`, in a binary without TLS.
pub(crate) const NO_TLS: &str = "needs TLS; rebuild the binary with the cargo feature \"tls\"";

pub(super) const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

/// Maximum length of the path of a Unix socket: that of `sun_path` in the system's `sockaddr_un`, without the final NUL.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

const KEEPALIVE_MAX: Duration = Duration::from_secs(9 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a listener without options.
    fn plain(at: ListenAddress) -> Listen {
        Listen {
            at,
            is_proxied: false,
            is_tls: false,
            is_metrics: false,
        }
    }

    #[test]
    fn addresses_and_unix_paths_are_parsed() {
        let longest = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX - 1));
        let table = [
            ("unix:/run/ws", "/run/ws"),
            ("unix:ws.sock", "ws.sock"),
            ("unix:a b:80", "a b:80"),
            ("unix:unix:", "unix:"),
            (&longest, &longest["unix:".len()..]),
        ];
        for (text, path) in table {
            let at = ListenAddress::Unix(path.into());
            assert_eq!(Listen::parse(text), Ok(plain(at)));
        }
        let at = ListenAddress::Tcp(Address::parse("[::1]:80").unwrap());
        assert_eq!(Listen::parse("[::1]:80"), Ok(plain(at)));
        assert_eq!(
            Listen::default_address(),
            Listen::parse("127.0.0.1:8080").unwrap()
        );
    }

    #[cfg(feature = "proxy-protocol")]
    #[test]
    fn the_prefix_proxy_selects_the_proxy_protocol() {
        for text in [
            "9700",
            "0.0.0.0:80",
            "[::1]:80",
            "unix:/run/ws",
            "unix:proxy:",
        ] {
            let listen = Listen::parse(text).unwrap();
            assert!(!listen.is_proxied && !listen.is_metrics);
            let is_proxied = true;
            let proxied = Listen {
                is_proxied,
                ..listen.clone()
            };
            assert_eq!(Listen::parse(&format!("proxy:{text}")), Ok(proxied));
            for both in ["proxy:metrics:", "metrics:proxy:"] {
                let expected = Listen {
                    is_proxied,
                    is_metrics: true,
                    ..listen.clone()
                };
                assert_eq!(Listen::parse(&format!("{both}{text}")), Ok(expected));
            }
        }
        for (text, expected) in [
            ("proxy:", "has no port"),
            ("proxy", "has no port"),
            ("proxy:unix:", "has no path"),
            // Parsed: `proxy` is the path.
            ("unix:proxy", ""),
            ("proxy:proxy:unix:/x", "is not an address"),
            ("PROXY:[::1]:80", "is not an address"),
        ] {
            let reason = Listen::parse(text).err().unwrap_or_default();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }

    #[test]
    fn the_prefix_metrics_selects_a_listener_for_metrics() {
        for text in [
            "9700",
            "0.0.0.0:80",
            "[::1]:80",
            "unix:/run/ws",
            "unix:metrics:",
        ] {
            let listen = Listen::parse(text).unwrap();
            assert!(!listen.is_metrics);
            let is_metrics = true;
            let expected = Listen {
                is_metrics,
                ..listen
            };
            assert_eq!(Listen::parse(&format!("metrics:{text}")), Ok(expected));
        }
        for (text, expected) in [
            ("metrics:", "has no port"),
            ("metrics", "has no port"),
            ("metrics:unix:", "has no path"),
            ("metrics:65536", "above 65535"),
            ("metrics:/metrics", "has no port"),
            ("metrics:metrics:unix:/x", "is not an address"),
            ("METRICS:[::1]:80", "is not an address"),
            ("http://127.0.0.1:9700/metrics", "is not an address"),
        ] {
            let reason = Listen::parse(text).err().unwrap_or_default();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_prefix_tls_selects_a_listener_with_tls() {
        for text in [
            "8443",
            "0.0.0.0:443",
            "[::1]:0",
            "unix:/run/ws",
            "unix:tls:",
        ] {
            let plain = Listen::parse(text).unwrap();
            assert!(!plain.is_tls);
            let expected = |is_proxied| Listen {
                is_tls: true,
                is_proxied,
                ..plain.clone()
            };
            let parse = |prefix: &str| Listen::parse(&format!("{prefix}{text}"));
            assert_eq!(parse("tls:"), Ok(expected(false)));
            if cfg!(feature = "proxy-protocol") {
                assert_eq!(parse("proxy:tls:"), Ok(expected(true)));
                assert_eq!(parse("tls:proxy:"), Ok(expected(true)));
            }
        }
        for (text, expected) in [
            ("tls:", "has no port"),
            ("tls", "has no port"),
            ("tls:unix:", "has no path"),
            ("tls:tls:unix:/x", "is not an address"),
            ("TLS:[::1]:80", "is not an address"),
        ] {
            let reason = Listen::parse(text).err().unwrap_or_default();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
        let [tls, plain] = ["tls:8443", "8443"].map(|text| Listen::parse(text).unwrap());
        assert!(tls.conflicts_with(&plain));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_listener_with_tls_needs_its_feature() {
        for text in ["tls:8443", "proxy:tls:8443"] {
            let reason = Listen::parse(text).unwrap_err();
            assert!(reason.contains("the cargo feature"), "{reason}");
        }
    }

    #[cfg(not(feature = "proxy-protocol"))]
    #[test]
    fn a_listener_with_the_proxy_protocol_needs_its_feature() {
        for text in ["proxy:9700", "metrics:proxy:9700"] {
            let reason = Listen::parse(text).unwrap_err();
            assert!(
                reason.contains("cargo feature \"proxy-protocol\""),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_listener_is_displayed_as_its_argument() {
        for text in [
            "80",
            "ws.example:80",
            "unix:x",
            "metrics:80",
            "metrics:unix:x",
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
        #[cfg(all(feature = "proxy-protocol", feature = "tls"))]
        assert_eq!(
            Listen::parse("tls:proxy:metrics:80").unwrap().to_string(),
            "metrics:proxy:tls:80"
        );
    }

    #[test]
    fn empty_and_overlong_unix_paths_are_rejected() {
        let long = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX));
        let table = [
            ("unix:", "has no path"),
            ("unix", "has no port"),
            ("UNIX:/x", "is not an address"),
            (&long, "at most 107"),
        ];
        for (text, expected) in table {
            let reason = Listen::parse(text).unwrap_err();
            assert!(
                reason.contains(expected) || cfg!(not(target_os = "linux")),
                "{text:?}: {reason}"
            );
        }
    }

    #[test]
    fn a_mode_is_octal() {
        for (text, expected) in [("660", 0o660), ("0660", 0o660), ("0", 0), ("777", 0o777)] {
            assert_eq!(mode(text), Ok(expected));
        }
        for text in [
            "",
            "1000",
            "668",
            "0o660",
            "-660",
            "+660",
            "rw",
            "77777777777777",
        ] {
            let reason = mode(text).unwrap_err();
            assert!(reason.contains("octal"), "{text:?}: {reason}");
        }
    }

    #[test]
    fn socket_times_are_bounded_and_can_be_off() {
        let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
        let table = [
            ("1", seconds(1)),
            ("2m", seconds(120)),
            ("9h", seconds(32_400)),
            ("off", Ok(None)),
            ("0", Ok(None)),
        ];
        for (text, expected) in table {
            assert_eq!(seconds_or_off(text), expected, "{text:?}");
            assert_eq!(time_or_off(text), expected, "{text:?}");
        }
        assert_eq!(time_or_off("1ms"), Ok(Some(Duration::from_millis(1))));
        for text in ["500ms", "1.5", "10h"] {
            let reason = seconds_or_off(text).unwrap_err();
            assert!(reason.contains("from 1s to 9h"), "{text:?}: {reason}");
        }
        for text in ["0.5ms", "25h"] {
            let reason = time_or_off(text).unwrap_err();
            assert!(reason.contains("from 1ms to 24h"), "{text:?}: {reason}");
        }
    }
}
