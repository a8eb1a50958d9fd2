//! All limits and timeouts of a server: [`Config`]. This module only holds and checks the values; the modules that they
//! concern enforce them.

use std::time::Duration;

/// The limits and timeouts of one server. [`guide::limits`](crate::guide::limits) shows which to set, and to what.
///
/// Fields with `bytes` in their names are in bytes. Timeouts are from 1 ms to 7 days; fractions of a
/// millisecond are ignored.
/// [`check`](Self::check), which
/// [`Server::new`](crate::Server::new) calls, reports values that contradict each other.
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
    /// cookies that browsers send; at least 256. A longer head is answered with HTTP 431 (RFC 6585 section 5).
    pub head_bytes_max: usize,

    /// Maximum header fields of a request. Default 100, from 1 to 124 (the parser's maximum). More are answered with
    /// HTTP 431.
    pub headers_max: usize,

    /// Maximum time from accept until the request's head is complete. Default 10 s. Bytes that arrive do not extend
    /// it. A request that takes longer is answered with HTTP 408 (RFC 7231 section 6.5.7).
    pub handshake_timeout: Duration,

    /// Time without any byte from the peer after which a session is closed with 1001. Default 120 s. `None`: no limit.
    pub idle_timeout: Option<Duration>,

    /// Whether a ping is sent when half of `idle_timeout` has passed without a byte from the peer, so that only peers
    /// that no longer answer reach the timeout. Default true.
    pub auto_ping: bool,

    /// Maximum duration of each of two waits: first, after the server's Close, for the peer's Close; second, for the
    /// end of the peer's stream, after both Closes, after the Close that answers a violation, or after an HTTP
    /// response. Default 5 s. Each wait starts when the operating system has accepted the server's last bytes. When
    /// this time has passed, the server closes the socket.
    pub close_timeout: Duration,

    /// Maximum time for a peer to accept the next 64 KiB of its unsent bytes, or all of them if there are fewer. When
    /// this time has passed, the session is terminated. Default 30 s. The time starts again after each 64 KiB. If the
    /// session is closing, the peer must accept all unsent bytes within this time.
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
    /// `high_water_bytes`. A send that would exceed it is refused and the session is terminated, so that no message
    /// is dropped silently. A session at or below its high-water mark accepts one more message of any length.
    pub backlog_bytes_max: usize,

    /// Maximum unsent published bytes of one member, of all its topics together, plus 128 bytes for each queue entry.
    /// Checked when the server flushes a new publication to the member: it first writes what the socket accepts; if
    /// more than `lag_bytes_max` of older publications remains unsent, the lag policy applies. A member that reads fast
    /// enough never exceeds the limit, however much one turn publishes. Default 8 MiB, which is some seconds of a busy
    /// feed. At least 1. See [`LagPolicy`].
    pub lag_bytes_max: usize,

    /// What happens to a member above `lag_bytes_max`. Default [`LagPolicy::Disconnect`]; a topic can have its own
    /// ([`Context::set_lag_policy`](crate::Context::set_lag_policy)).
    pub lag_policy: LagPolicy,

    /// Maximum topics of a session. Default 1 024. [`Context::subscribe`](crate::Context::subscribe) returns `false`
    /// for more. Each membership takes about 40 bytes, and each topic about 300.
    pub memberships_max: usize,

    /// Maximum connections at once, including those in their opening handshake. Default: the process's descriptor
    /// limit minus 32 (see [`descriptors_max`]); at least 1. For one more, the server closes the oldest connection
    /// that is at least 1 s old and has sent no complete request. If there is none, it answers the new connection
    /// with HTTP 503 (RFC 7231 section 6.6.4); up to 16 connections at a time are held open until they have received
    /// that response.
    pub connections_max: usize,

    /// Maximum connections at once without a complete request. Default 4 096, the largest common listen backlog; at
    /// least 1. For one more, the oldest of them is closed, so that clients that send nothing cannot block others.
    /// Connections that were accepted after the last poll are not closed, because their requests may have arrived:
    /// for one turn there can be 256 more for each listener.
    pub handshakes_max: usize,

    /// Time over which a graceful stop spreads the Closes of the open sessions, evenly, so that the clients of a large
    /// server do not all connect to the next one in the same second. Default 0: all sessions are closed at once.
    /// Sessions that are not closed yet continue meanwhile, but the listeners are closed already.
    pub stop_spread: Duration,

    /// Maximum time that a graceful stop waits for peers to answer Close 1001, from the last Close on. Default 10 s;
    /// zero is allowed. Then the remaining sessions are terminated.
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

    /// Maximum bytes of payloads, topic names and reasons in queued commands of other threads
    /// ([`Handle`](crate::Handle)). Default 16 MiB. A caller that exceeds it gets
    /// [`HandleError::Full`](crate::HandleError::Full); a message that is longer than this is always refused.
    pub handle_bytes_max: usize,
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

/// Limits of a session that replace those of [`Config`]. A field that is `None` replaces nothing.
///
/// Set for the sessions of a route ([`Router::route_with`](crate::Router::route_with)) or for one session
/// ([`Context::set_limits`](crate::Context::set_limits)). A server can have 15 different sets of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Replaces [`Config::message_bytes_max`]: at least 1. An echo of longer messages needs a
    /// [`Config::backlog_bytes_max`] that fits them.
    pub message_bytes_max: Option<usize>,
    /// Replaces [`Config::idle_timeout`]: from 1 ms to 7 days. `Some(None)`: no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// Replaces [`Config::lag_policy`] when the session lags as a member. The policy of a topic
    /// ([`Context::set_lag_policy`](crate::Context::set_lag_policy)) takes precedence over it.
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
            auto_ping: true,
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            high_water_bytes: MIB,
            low_water_bytes: 256 * KIB,
            backlog_bytes_max: 18 * MIB,
            lag_bytes_max: 8 * MIB,
            lag_policy: LagPolicy::Disconnect,
            memberships_max: 1024,
            connections_max: descriptors_max().saturating_sub(DESCRIPTORS_RESERVE).max(1),
            handshakes_max: 4096,
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
                self.connections_max >= 1,
                "connections_max must be at least 1",
            ),
            (
                self.handshakes_max >= 1,
                "handshakes_max must be at least 1",
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
    let Ok(limits) = std::fs::read_to_string("/proc/self/limits") else {
        return DESCRIPTORS_FALLBACK;
    };
    let soft = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?
            .split_whitespace()
            .next()
    });
    match soft {
        Some("unlimited") => usize::MAX,
        Some(number) => number.parse().unwrap_or(DESCRIPTORS_FALLBACK),
        None => DESCRIPTORS_FALLBACK,
    }
}

const MESSAGE_BYTES_RULE: &str = "message_bytes_max must be at least 1";
const IDLE_TIMEOUT_RULE: &str = "idle_timeout must be from 1 ms to 7 days";

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Maximum header fields that tungstenite's request parser accepts.
const HEADERS_MAX: usize = tungstenite::handshake::headers::MAX_HEADERS;

/// Descriptors that are not for connections: standard streams, the poll, the waker, listeners, a log file, and those
/// that the embedding program opens.
const DESCRIPTORS_RESERVE: usize = 32;

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
    fn the_descriptor_limit_is_read() {
        assert!(descriptors_max() >= 8);
    }
}
