//! All limits and timeouts of a server: [`Config`]. This module only holds and checks the values; the modules that they
//! concern enforce them.

use crate::network::Network;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// The limits and timeouts of one server. [`guide::limits`](crate::guide::limits) shows which to set, and to what.
///
/// Fields with `bytes` in their names are in bytes. Timeouts are from 1 ms to 7 days; fractions of a millisecond are
/// ignored. [`check`](Self::check), which [`Server::new`](crate::Server::new) calls, reports values that are out of
/// range or contradict each other.
///
/// ```
/// use wsloop::Config;
///
/// let config = Config { message_bytes_max: 64 * 1024, ..Config::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Maximum payload of a message in bytes, all fragments together. Default 16 MiB, at least 1. A longer message is
    /// answered with Close 1009 (RFC 6455 section 7.4.1) when its frame header arrives, before its payload. The
    /// default is lower than tungstenite's 64 MiB and npm ws' 100 MiB, so that a small machine can hold a few
    /// messages of that size.
    pub message_bytes_max: usize,

    /// Maximum frames of a message. Default 131 072, at least 1. More are answered with Close 1008. It limits the
    /// work that empty fragments cause (RFC 6455 section 10.4). The default allows 16 MiB in fragments of 128 bytes.
    pub fragments_max: u32,

    /// Maximum bytes of a request's head: request line and headers together. Default 16 KiB, which is enough for the
    /// cookies that browsers send; at least 256. A longer head is answered with HTTP 431 (RFC 6585 section 5). Also the
    /// maximum of a header of the PROXY protocol (`ListenOptions::proxy_protocol`), above which the connection is closed.
    pub head_bytes_max: usize,

    /// Maximum header fields of a request. Default 100, from 1 to 124 (the parser's maximum). More are answered with
    /// HTTP 431.
    pub headers_max: usize,

    /// Maximum time from accept until the request's head is complete. Default 10 s. Bytes that arrive do not extend
    /// it. A request that takes longer is answered with HTTP 408 (RFC 7231 section 6.5.7). A connection of which no byte of
    /// a request has arrived is closed without an answer, because browsers open connections in advance.
    pub handshake_timeout: Duration,

    /// Time without any byte from the peer after which a session is closed with 1001, up to a 64th of the time later.
    /// Default 120 s. `None`: no limit.
    pub idle_timeout: Option<Duration>,

    /// Time without any byte from the peer after which a ping is sent: after half of `idle_timeout` if that is less.
    /// Default 25 s: proxies and address translators, many of which close connections that are silent for 60 s, see a
    /// ping and its pong in time, and only peers that no longer answer reach the timeout. Without an `idle_timeout`,
    /// pings are repeated until the peer answers. From 1 ms to 7 days; `None`: no pings.
    pub ping_interval: Option<Duration>,

    /// Maximum duration of each of two waits: first, after the server's Close, for the peer's Close; second, for the
    /// end of the peer's stream, after both Closes, after the Close that answers a violation, or after an HTTP
    /// response. Default 5 s. Each wait starts when the operating system has accepted the server's last bytes. When
    /// this time has passed, the server closes the socket.
    pub close_timeout: Duration,

    /// Maximum time for a peer to accept 64 KiB, or as many bytes as are unsent when the time starts, if that is less.
    /// When this time has passed, the session is terminated. Default 30 s. The time starts when the socket accepts no
    /// more bytes, and again after each 64 KiB. If the session is closing, the peer must accept all unsent bytes within
    /// this time.
    pub write_timeout: Duration,

    /// Unsent bytes of a session above which the server stops reading from it, so that TCP makes the peer wait, until
    /// they have fallen to `low_water_bytes`. Default 1 MiB. Direct messages and publications both count. In a queue of
    /// several entries, each entry counts 128 bytes more, for its own memory. Consecutive publications of one topic
    /// share an entry.
    pub high_water_bytes: usize,

    /// Unsent bytes at which a session that has exceeded `high_water_bytes` is read again, and
    /// [`Handler::on_drain`](crate::Handler::on_drain) is called. Default 256 KiB, below `high_water_bytes`.
    pub low_water_bytes: usize,

    /// Maximum unsent bytes of a session from direct sends. Default 18 MiB: the high-water mark, one message of
    /// `message_bytes_max`, and a margin of 1 MiB, for example for a prefix that the handler adds. At least
    /// `high_water_bytes`. A send that would exceed this limit is refused and the session is terminated, so that no
    /// message is dropped silently. A session at or below its high-water mark accepts one more message of any length.
    pub backlog_bytes_max: usize,

    /// Maximum unsent published bytes of one member, of all its topics together, plus 128 bytes for each queue entry, and
    /// up to 128 KiB for bytes of a topic between two unsent entries that the member does not receive, because it was not
    /// a member then or was excepted ([`Context::publish_except`](crate::Context::publish_except)).
    /// Checked when the server flushes a new publication to the member: it first writes what the socket accepts; if
    /// more than `lag_bytes_max` of older publications remains unsent, the lag policy applies. A member that reads fast
    /// enough never exceeds the limit, however much one turn publishes. Default 8 MiB, which is some seconds of a busy
    /// feed. At least 1. See [`LagPolicy`].
    pub lag_bytes_max: usize,

    /// What happens to a member above `lag_bytes_max`. Default [`LagPolicy::Disconnect`]; a topic can have its own
    /// ([`Context::set_lag_policy`](crate::Context::set_lag_policy)).
    pub lag_policy: LagPolicy,

    /// Maximum bytes of one TCP session that the kernel accepts before it has sent them. Default `None`: the kernel's
    /// own limit, which on Linux grows to 4 MB. From 1 to 2 147 483 647. The kernel accepts no more bytes until it has
    /// sent some; the rest stays in the session's queue, where the limits above apply to it.
    ///
    /// With [`LagPolicy::Skip`], a small value such as 4 KiB makes a slow client current: publications in the kernel's
    /// buffer cannot be skipped ([`guide::slow`](crate::guide::slow#freshness)). It also limits the kernel's memory for
    /// clients that do not read. No limit is the default because a small one costs throughput: the server has to write
    /// more often.
    ///
    /// On Linux and Android this is the option TCP_NOTSENT_LOWAT, which does not count bytes that are sent and not yet
    /// acknowledged. The kernel can exceed it by one segment, which has up to 64 KiB if the peer's receive window is
    /// large. On other systems it is the size of the send buffer (SO_SNDBUF), which includes unacknowledged bytes and
    /// therefore also limits the throughput of long paths. The option is set on listeners, and accepted connections
    /// inherit it, also those that another process accepts from the same listener. Unix sockets are not limited. Needs
    /// a Unix system and the cargo feature `socket-options`.
    pub kernel_unsent_bytes_max: Option<u32>,

    /// Maximum bytes that all topics together retain for members that join later ([`Replay`]), plus 1 KiB and the length
    /// of the name for each topic that retains messages. Default 16 MiB: some thousand topics with their last 20 messages
    /// of 200 bytes. When it is exceeded, the topic that was published to least recently loses all that it retains. A
    /// publication that is longer than this limit is not retained, and its topic loses what it has retained before. The
    /// memory is at most twice as large, because logs have unused capacity. Publications that members have not received
    /// yet are not included; `lag_bytes_max` limits them.
    pub replay_bytes_max: usize,

    /// Maximum topics of a session. Default 1 024. [`Context::subscribe`](crate::Context::subscribe) returns `false`
    /// for more. Each membership takes about 40 bytes, and each topic about 300.
    pub memberships_max: usize,

    /// Maximum connections at once, including those in their opening handshake. Default: the process's descriptor
    /// limit minus 32 (see [`descriptors_max`]); at least 1. For one more, the server closes a connection to which an
    /// HTTP response was sent and whose peer has not ended the stream yet; else the oldest connection that is at least
    /// 1 s old and has sent no complete request. If there is none, it answers the new connection with HTTP 503
    /// (RFC 7231 section 6.6.4); up to 16 connections at a time are held open until they have received that response.
    /// Internal listeners accept 4 connections more ([`ListenOptions::internal`](crate::ListenOptions::internal)).
    pub connections_max: usize,

    /// Maximum connections at once without a complete request. Default 4 096, the largest common listen backlog; at
    /// least 1. For one more, the oldest of them is closed, so that clients that send nothing cannot block others.
    /// Connections that were accepted after the last poll are not closed, because their requests may have arrived:
    /// for one turn there can be 256 more for each listener.
    pub handshakes_max: usize,

    /// Networks of the proxies whose [`forwarded_header`](Self::forwarded_header) is believed. Default: none. If the
    /// peer of a connection is in one of these networks, the client's address is the rightmost address in that header
    /// that is in none of these networks. [`Context::peer_addr`](crate::Context::peer_addr), the log and the limits per
    /// address use the client's address as soon as the request has arrived. The search goes from right to left. It ends
    /// at an element that is not an address, with the address to the right of this element, or with the proxy's address
    /// if there is none.
    ///
    /// List proxies only: clients in such a network can choose the address under which they appear. See
    /// [`guide::proxies`](crate::guide::proxies). Needs the cargo feature `client-addresses`.
    pub trusted_proxies: Vec<Network>,

    /// The header in which [`trusted_proxies`](Self::trusted_proxies) name the client. Default
    /// [`ForwardedHeader::XForwardedFor`], which more proxies write. The other header is ignored, because a proxy that
    /// writes one of them passes on the other as the client has sent it.
    pub forwarded_header: ForwardedHeader,

    /// Maximum connections at once of one client address: an IPv4 address, or the first 64 bits of an IPv6 address,
    /// because a provider assigns at least those to a customer. Default `None`: no limit, because the clients behind
    /// a proxy that is not trusted, or behind a carrier's address translation, share an address; at least 1. One more
    /// connection is answered with HTTP 503. Unix sockets have no address and are not limited. Needs the cargo feature
    /// `client-addresses`.
    pub connections_per_address_max: Option<usize>,

    /// Maximum requests per second of one client address (as in `connections_per_address_max`): opening handshakes and
    /// plain requests together, each counted when its connection is accepted or, behind a trusted proxy, when the
    /// request has arrived. Default `None`: no limit; from 1 to 1 000 000. A client that has made no request for a
    /// second can make this many at once. One more is answered with HTTP 429 (RFC 6585 section 4) and `Retry-After: 1`.
    /// Needs the cargo feature `client-addresses`.
    pub handshakes_per_address_max: Option<u32>,

    /// Time over which a graceful stop spreads the Closes of the open sessions, evenly, so that the clients of a large
    /// server do not all connect to the next one in the same second. Default 0: all sessions are closed at once.
    /// Sessions that are not closed yet continue meanwhile, but the listeners are closed already. With a backplane, the
    /// Close of a session that has published waits for its messages to come back, for at most another second.
    pub stop_spread: Duration,

    /// Maximum time that a graceful stop waits for peers to answer Close 1001, from the last Close on. Default 10 s;
    /// zero is allowed. When this time has passed, the remaining sessions are terminated.
    pub shutdown_grace: Duration,

    /// Size of the receive buffer that all sessions share. Default 80 KiB, at least 1 024. A message that fits into
    /// it is not copied, and messages of 64 KiB are common; 256 KiB did not make messages of 1 MiB faster.
    pub receive_buffer_bytes: usize,

    /// Maximum bytes read from one session in a turn, before the other sessions are read. Default 256 KiB, at
    /// least 1. The rest is read in the next turn. A read that returns only payload of one frame counts as an eighth of
    /// its bytes, because payload takes less time per byte than small frames do.
    pub read_budget_bytes: usize,

    /// Maximum queued commands of other threads ([`Handle`](crate::Handle)). Default 4 096, at least 1. A caller with
    /// one more gets [`HandleError::Full`](crate::HandleError::Full).
    pub handle_commands_max: usize,

    /// Maximum bytes of payloads, topic names, reasons and closures in queued commands of other threads
    /// ([`Handle`](crate::Handle)). Default 16 MiB. A `String` or `Vec<u8>` that is moved into a command counts its
    /// capacity, because that memory is retained. A closure counts its own size, without the memory that it owns on the
    /// heap. A caller that exceeds the limit gets [`HandleError::Full`](crate::HandleError::Full). A message that is
    /// longer than the limit is always refused.
    pub handle_bytes_max: usize,
}

/// A header in which proxies name the client; see [`Config::forwarded_header`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: a list of addresses, each with or without a port.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the parameter `for` of each element.
    Forwarded,
}

impl ForwardedHeader {
    /// Returns the name of the header, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// What happens to a member that has more unsent published bytes than [`Config::lag_bytes_max`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LagPolicy {
    /// The server drops the member's publications of which no byte was sent, and all output queued after the first of
    /// them. Then it sends Close 1013 (try again later).
    Disconnect,
    /// The member skips whole messages up to the newest; [`Handler::on_skip`](crate::Handler::on_skip) reports
    /// their number.
    Skip,
}

/// The messages that a topic retains for members that join later
/// ([`Context::set_replay`](crate::Context::set_replay)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replay {
    /// The last messages, at most this many.
    Messages(usize),
    /// The last messages that together have at most this many bytes, each with a frame header of 2 to 10 bytes.
    Bytes(usize),
}

/// Limits of a session that replace those of [`Config`]. A field that is `None` replaces nothing.
///
/// Used for the sessions of a route ([`Router::route_with`](crate::Router::route_with)) or for one session
/// ([`Context::set_limits`](crate::Context::set_limits)). A server can have 15 different sets of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Replaces [`Config::message_bytes_max`]: at least 1. A handler that sends such messages back needs a
    /// [`Config::backlog_bytes_max`] for them.
    pub message_bytes_max: Option<usize>,
    /// Replaces [`Config::idle_timeout`]: from 1 ms to 7 days. `Some(None)`: no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// Replaces [`Config::lag_policy`] for this session as a member of topics. The policy of a topic
    /// ([`Context::set_lag_policy`](crate::Context::set_lag_policy)) takes precedence over both.
    pub lag_policy: Option<LagPolicy>,
}

impl SessionLimits {
    /// Checks that no limit is out of range.
    ///
    /// # Errors
    /// [`ConfigError`] names the first such limit and its rule.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.message_bytes_max == Some(0) {
            return Err(ConfigError(MESSAGE_BYTES_RULE));
        }
        let is_valid = |timeout| (DURATION_MIN..=DURATION_MAX).contains(&timeout);
        match self.idle_timeout.flatten() {
            Some(timeout) if !is_valid(timeout) => Err(ConfigError(IDLE_TIMEOUT_RULE)),
            Some(_) | None => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * MIB,
            fragments_max: 131_072,
            head_bytes_max: 16 * KIB,
            headers_max: 100,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(120)),
            ping_interval: Some(Duration::from_secs(25)),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            high_water_bytes: MIB,
            low_water_bytes: 256 * KIB,
            backlog_bytes_max: 18 * MIB,
            lag_bytes_max: 8 * MIB,
            lag_policy: LagPolicy::Disconnect,
            kernel_unsent_bytes_max: None,
            replay_bytes_max: 16 * MIB,
            memberships_max: 1024,
            connections_max: descriptors_max().saturating_sub(DESCRIPTORS_RESERVE).max(1),
            handshakes_max: 4096,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            connections_per_address_max: None,
            handshakes_per_address_max: None,
            stop_spread: Duration::ZERO,
            shutdown_grace: Duration::from_secs(10),
            receive_buffer_bytes: 80 * KIB,
            read_budget_bytes: 256 * KIB,
            handle_commands_max: 4096,
            handle_bytes_max: 16 * MIB,
        }
    }
}

impl Config {
    /// Checks that no limit is out of range or contradicts another.
    ///
    /// # Errors
    /// [`ConfigError`] names the first such limit and its rule.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.message_bytes_max >= 1, MESSAGE_BYTES_RULE),
            (self.fragments_max >= 1, "fragments_max must be at least 1"),
            (
                self.head_bytes_max >= 256,
                "head_bytes_max must be at least 256",
            ),
            (
                (1..=HEADERS_MAX).contains(&self.headers_max),
                "headers_max must be from 1 to 124",
            ),
            (
                self.low_water_bytes < self.high_water_bytes,
                "low_water_bytes must be below high_water_bytes",
            ),
            (
                self.high_water_bytes <= self.backlog_bytes_max,
                "backlog_bytes_max must be at least high_water_bytes",
            ),
            (self.lag_bytes_max >= 1, "lag_bytes_max must be at least 1"),
            (
                // Zero means "no limit" to Linux. Sockets' options are signed.
                self.kernel_unsent_bytes_max
                    .is_none_or(|bytes| (1..=i32::MAX as u32).contains(&bytes)),
                "kernel_unsent_bytes_max must be from 1 to 2147483647",
            ),
            (
                self.kernel_unsent_bytes_max.is_none()
                    || cfg!(all(unix, feature = "socket-options")),
                "kernel_unsent_bytes_max needs a Unix system and the cargo feature socket-options",
            ),
            (
                self.connections_max >= 1,
                "connections_max must be at least 1",
            ),
            (
                self.handshakes_max >= 1,
                "handshakes_max must be at least 1",
            ),
            (
                self.connections_per_address_max != Some(0),
                "connections_per_address_max must be at least 1",
            ),
            (
                self.handshakes_per_address_max
                    .is_none_or(|rate| (1..=REQUESTS_PER_SECOND_MAX).contains(&rate)),
                "handshakes_per_address_max must be from 1 to 1000000",
            ),
            (
                cfg!(feature = "client-addresses")
                    || self.connections_per_address_max.is_none()
                        && self.handshakes_per_address_max.is_none()
                        && self.trusted_proxies.is_empty(),
                CLIENT_ADDRESSES_RULE,
            ),
            (
                self.receive_buffer_bytes >= 1024,
                "receive_buffer_bytes must be at least 1024",
            ),
            (
                self.read_budget_bytes >= 1,
                "read_budget_bytes must be at least 1",
            ),
            (
                self.handle_commands_max >= 1,
                "handle_commands_max must be at least 1",
            ),
        ];
        for (holds, rule) in rules {
            if !holds {
                return Err(ConfigError(rule));
            }
        }
        let durations = [
            (
                Some(self.handshake_timeout),
                "handshake_timeout must be from 1 ms to 7 days",
            ),
            (self.idle_timeout, IDLE_TIMEOUT_RULE),
            (
                self.ping_interval,
                "ping_interval must be from 1 ms to 7 days",
            ),
            (
                Some(self.close_timeout),
                "close_timeout must be from 1 ms to 7 days",
            ),
            (
                Some(self.write_timeout),
                "write_timeout must be from 1 ms to 7 days",
            ),
            (
                Some(self.stop_spread.max(DURATION_MIN)),
                "stop_spread must be at most 7 days",
            ),
            (
                Some(self.shutdown_grace.max(DURATION_MIN)),
                "shutdown_grace must be at most 7 days",
            ),
        ];
        for (duration, rule) in durations {
            if duration.is_some_and(|duration| !(DURATION_MIN..=DURATION_MAX).contains(&duration)) {
                return Err(ConfigError(rule));
            }
        }
        Ok(())
    }
}

/// A limit that is out of range or contradicts another. Displayed as its name and rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(&'static str);

impl ConfigError {
    pub(crate) const TOO_MANY_SETS: Self = Self("a server has at most 15 different SessionLimits");
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Returns the maximum number of descriptors of this process: on Linux the soft limit RLIMIT_NOFILE from
/// `/proc/self/limits`, elsewhere 256, the smallest common default.
pub fn descriptors_max() -> usize {
    // One read of a file in /proc returns up to a page; this file has 1.4 KB. Reading bytes into an array instead of
    // text into a string makes a small program 2 KB smaller.
    let mut limits = [0; 4096];
    let len = File::open("/proc/self/limits")
        .and_then(|mut file| file.read(&mut limits))
        .unwrap_or(0);
    let soft = limits[..len].split(|&byte| byte == b'\n').find_map(|line| {
        let limits = line.strip_prefix(b"Max open files")?.trim_ascii_start();
        limits.split(u8::is_ascii_whitespace).next()
    });
    match soft {
        Some(b"unlimited") => usize::MAX,
        Some(number) => std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok())
            .unwrap_or(DESCRIPTORS_FALLBACK),
        None => DESCRIPTORS_FALLBACK,
    }
}

const CLIENT_ADDRESSES_RULE: &str = "connections_per_address_max, handshakes_per_address_max and trusted_proxies need \
                                     the cargo feature client-addresses";
const MESSAGE_BYTES_RULE: &str = "message_bytes_max must be at least 1";
const IDLE_TIMEOUT_RULE: &str = "idle_timeout must be from 1 ms to 7 days";

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Maximum header fields that tungstenite's request parser accepts.
const HEADERS_MAX: usize = tungstenite::handshake::headers::MAX_HEADERS;

/// Maximum of `handshakes_per_address_max`: far more requests than one thread answers in a second, and few enough that
/// the products in `engine::addresses` do not overflow.
const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;

/// Descriptors that are not for connections: standard streams, the poll, the waker, listeners, a log file, and those
/// that the embedding program opens.
const DESCRIPTORS_RESERVE: usize = 32;

/// Descriptor limit that is assumed if the system's cannot be read.
const DESCRIPTORS_FALLBACK: usize = 256;

const DURATION_MIN: Duration = Duration::from_millis(1);

/// Maximum of each timeout. Deadlines are stored as wrapping milliseconds in 32 bits (`engine::deadlines`), which order
/// times correctly that are less than 24 days apart.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense_together() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_named() {
        let config = Config {
            low_water_bytes: 2,
            high_water_bytes: 2,
            ..Config::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "low_water_bytes must be below high_water_bytes"
        );
        let config = Config {
            idle_timeout: Some(Duration::ZERO),
            ..Config::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "idle_timeout must be from 1 ms to 7 days"
        );
        let config = Config {
            headers_max: 125,
            ..Config::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "headers_max must be from 1 to 124"
        );
    }

    #[test]
    fn the_limit_of_unsent_bytes_in_the_kernel_needs_its_feature() {
        let check = |bytes| {
            let config = Config {
                kernel_unsent_bytes_max: Some(bytes),
                ..Config::default()
            };
            config.check().map_err(|error| error.to_string())
        };
        let range = "kernel_unsent_bytes_max must be from 1 to 2147483647";
        for bytes in [0, 1 << 31, u32::MAX] {
            assert_eq!(check(bytes).unwrap_err(), range);
        }
        for bytes in [1, 4096, i32::MAX as u32] {
            if cfg!(all(unix, feature = "socket-options")) {
                assert_eq!(check(bytes), Ok(()));
            } else {
                let expected = "kernel_unsent_bytes_max needs a Unix system and the cargo feature socket-options";
                assert_eq!(check(bytes).unwrap_err(), expected);
            }
        }
    }

    #[test]
    fn limits_per_address_and_trusted_proxies_need_their_feature() {
        let configs = [
            Config {
                connections_per_address_max: Some(1),
                ..Config::default()
            },
            Config {
                handshakes_per_address_max: Some(1),
                ..Config::default()
            },
            Config {
                trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
                ..Config::default()
            },
        ];
        for config in configs {
            let expected = if cfg!(feature = "client-addresses") {
                Ok(())
            } else {
                Err(ConfigError(CLIENT_ADDRESSES_RULE))
            };
            assert_eq!(config.check(), expected, "{config:?}");
        }
    }

    #[test]
    fn the_descriptor_limit_is_read() {
        assert!(descriptors_max() >= 8);
    }
}
