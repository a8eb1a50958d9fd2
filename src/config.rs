//! Every limit of the server: unit, default, reason, and what happens at the edge.
//!
//! Limits are plain numbers; nothing here acts. `usize` limits are bytes or counts as their names say.

use std::time::Duration;

/// The limits and deadlines of one server. [`guide::limits`](crate::guide::limits) says which to set, and to what.
///
/// Sizes are in bytes. Times are from 1 ms to 7 days, to the millisecond. [`check`](Self::check) says what does not go
/// together.
///
/// ```
/// use wsloop::Config;
///
/// let config = Config { message_bytes_max: 64 * 1024, ..Config::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of payload in one message, all its fragments together. Default 16 MiB (tungstenite 64, npm ws
    /// 100): a small host holds a few of the largest at once. At least 1. Past it: close 1009 (RFC 6455 section 7.4.1),
    /// judged from the frame header, before the payload arrives.
    pub message_bytes_max: usize,

    /// Frames in one message. Default 131 072: a 16 MiB message in fragments of 128 bytes, and Autobahn's 4 MiB in
    /// 65 537 frames. Bounds the work that empty fragments cost (RFC 6455 section 10.4). At least 1. Past it: close
    /// 1008.
    pub fragments_max: u32,

    /// Bytes of a request's head, request line and headers together. Default 16 KiB: browsers' cookies fit.
    /// At least 256. Past it: HTTP 431 (RFC 6585 section 5).
    pub head_bytes_max: usize,

    /// Header fields in a request's head. Default 100, from 1 to 124 (what the parser holds). Past it: HTTP 431.
    pub headers_max: usize,

    /// From accept to the whole request head. Default 10 s. Bytes that trickle in do not extend it. Past it:
    /// HTTP 408 (RFC 7231 section 6.5.7).
    pub handshake_timeout: Duration,

    /// A connection from which nothing arrived for so long is closed with 1001. Default 120 s. `None`: never.
    pub idle_timeout: Option<Duration>,

    /// Whether a ping is sent when half of `idle_timeout` has passed in silence, so that only peers which no
    /// longer answer become idle. Default true.
    pub auto_ping: bool,

    /// From our last words (a Close, an answer in HTTP), taken by the operating system, to the peer's Close and end
    /// of stream. Default 5 s. Past it: the socket is closed without more ado.
    pub close_timeout: Duration,

    /// How long a peer may take less than 64 KiB of what it is owed, and leave some; for a session that is closing,
    /// how long it may take over all of it. Default 30 s. Past it: terminated.
    pub write_timeout: Duration,

    /// A session that owes its peer more than this is not read, so that TCP pushes back, until it owes less
    /// than `low_water_bytes`. Default 1 MiB. What lies between publications to different topics, or between them and
    /// direct messages, counts 128 bytes a piece more, which is what it costs to keep.
    pub high_water_bytes: usize,

    /// See `high_water_bytes`, and below it. Default 256 KiB. Reaching it again is what
    /// [`Handler::on_drain`](crate::Handler::on_drain) reports.
    pub low_water_bytes: usize,

    /// The most that a session may owe its peer from direct sends; at or under high water one more message is always
    /// taken, however large. Default 18 MiB: high water plus one largest message, and a MiB for what an answer
    /// adds to it. At least `high_water_bytes`. A send past it is refused and the connection is terminated: nothing is
    /// dropped in silence.
    pub backlog_bytes_max: usize,

    /// Maximum unsent published bytes of one member, of all its topics together, plus 128 bytes for each stretch of one topic
    /// between other output. Checked when something new is published to the member: if more than this is left unsent
    /// from before, after its socket has taken what it can. A member that keeps up never exceeds it, however much one
    /// turn publishes. Default 8 MiB: seconds of a busy feed. At least 1. Above it: [`LagPolicy`].
    pub lag_bytes_max: usize,

    /// What happens to a member above `lag_bytes_max`. Default [`LagPolicy::Disconnect`]; a topic can have its own
    /// ([`Context::set_lag_policy`](crate::Context::set_lag_policy)).
    pub lag_policy: LagPolicy,

    /// Topics that one session can be a member of. Default 1 024; each membership takes about 40 bytes, and a topic of its
    /// own about 300. Above it [`Context::subscribe`](crate::Context::subscribe) returns `false`.
    pub memberships_max: usize,

    /// Connections at once, those in their opening handshake included. Default: the process's descriptor limit
    /// less a reserve of 32 (see [`descriptors_max`]). At least 1. Above it the oldest connection that has not sent its request
    /// for a second is closed to make room; if there is none, the new one is answered HTTP 503 (RFC 7231 section
    /// 6.6.4), and the server waits for 16 at a time to read that.
    pub connections_max: usize,

    /// Connections at once whose request has not arrived yet. Default 4 096, the largest common listen backlog.
    /// At least 1. Above it the oldest of them is closed: clients that send nothing cannot keep others out.
    pub handshakes_max: usize,

    /// How long a graceful stop waits for peers to answer the Close 1001. Default 10 s; zero is allowed. Past it:
    /// terminated.
    pub shutdown_grace: Duration,

    /// Bytes of the one receive buffer, shared by all sessions. Default 80 KiB: a message that fits is not copied,
    /// and messages of 64 KiB are common; 256 KiB did not make those of 1 MiB faster. At least 1 024.
    pub receive_buffer_bytes: usize,

    /// Bytes read from one session in one turn before the others have theirs; in the middle of a frame that is longer than
    /// what a read brings, eight count as one. Default 256 KiB. At least 1. Past it: the rest is read in the next turn.
    pub read_budget_bytes: usize,

    /// Commands from other threads ([`Handle`](crate::Handle)) that wait for the loop. Default 4 096. At least 1. Past
    /// it: the caller gets [`HandleError::Full`](crate::HandleError::Full).
    pub handle_commands_max: usize,

    /// Bytes of payloads, topics' names and reasons from other threads ([`Handle`](crate::Handle)) that wait for the
    /// loop. Default 16 MiB; a larger message is never taken. Past it: the caller gets
    /// [`HandleError::Full`](crate::HandleError::Full).
    pub handle_bytes_max: usize,
}

/// What happens to a topic's member that is further behind than [`Config::lag_bytes_max`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LagPolicy {
    /// Close 1013 (try again later), and nothing is sent after the gap but that Close.
    Disconnect,
    /// The member skips whole messages up to the newest; [`Handler::on_skip`](crate::Handler::on_skip) tells how many.
    Skip,
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
            shutdown_grace: Duration::from_secs(10),
            receive_buffer_bytes: 80 * KIB,
            read_budget_bytes: 256 * KIB,
            handle_commands_max: 4096,
            handle_bytes_max: 16 * MIB,
        }
    }
}

impl Config {
    /// Whether the limits make sense together.
    ///
    /// # Errors
    /// [`ConfigError`] names the first limit that does not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (
                self.message_bytes_max >= 1,
                "message_bytes_max must be at least 1",
            ),
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
            (
                self.idle_timeout,
                "idle_timeout must be from 1 ms to 7 days",
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

/// A limit that makes no sense, by its name and rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(&'static str);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}

/// How many descriptors this process may open: the soft limit RLIMIT_NOFILE as Linux tells it in `/proc/self/limits`,
/// elsewhere 256, the smallest common default.
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

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What tungstenite's request parser holds.
const HEADERS_MAX: usize = tungstenite::handshake::headers::MAX_HEADERS;

/// Standard streams, the poll, the waker, listeners, a log file, and what the host itself opens.
const DESCRIPTORS_RESERVE: usize = 32;

const DESCRIPTORS_FALLBACK: usize = 256;

const DURATION_MIN: Duration = Duration::from_millis(1);

/// Deadlines are kept as wrapping milliseconds in 32 bits (`server::deadlines`), which tell times apart that lie
/// less than 24 days from each other.
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
