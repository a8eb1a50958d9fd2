//! The server's counters: totals since its start, and a few current values.
//!
//! Counting costs the loop one addition per message. Durations of turns cost one read of the clock per turn, and are
//! measured only after [`Context::measure_turns`](crate::Context::measure_turns).

use std::time::Duration;

/// A snapshot of a server's counters, from [`Context::stats`](crate::Context::stats).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions between `on_open` and `on_close`.
    pub connections_open: usize,
    /// Sessions that were opened.
    pub connections: u64,
    /// Plain GET and HEAD requests that `Handler::on_http` has answered, with any status.
    pub http_requests: u64,
    /// Text and binary messages that were passed to `Handler::on_message`.
    pub messages_in: u64,
    /// Messages that were queued or written: each message sent to a session, and each publication once per member,
    /// each retained message once per session that joined later, without the messages that members have skipped.
    pub messages_out: u64,
    /// Messages that members have skipped ([`LagPolicy::Skip`](crate::LagPolicy::Skip)).
    pub messages_skipped: u64,
    /// Bytes read from sockets, requests and frame headers included. The bytes of a turn are added at the end of its
    /// read phase.
    pub bytes_in: u64,
    /// Bytes that sockets have accepted, responses and frame headers included.
    pub bytes_out: u64,
    /// Automatic pings that were answered; see [`Context::rtt`](crate::Context::rtt).
    pub rtts: u64,
    /// Sum of the round-trip times of those pings.
    pub rtt_sum: Duration,
    /// Unsent bytes of sessions whose sockets accept nothing at the moment; publications count once for each member.
    pub backlog_bytes: usize,
    /// Memberships of sessions whose sockets accept nothing at the moment: a session in three topics counts three
    /// times.
    pub members_lagging: usize,
    /// Bytes that topics retain for members that join later ([`Replay`](crate::Replay)), as counted against
    /// [`Config::replay_bytes_max`](crate::Config::replay_bytes_max).
    pub replay_bytes: usize,
    /// Counters of TLS handshakes and failures.
    #[cfg(feature = "tls")]
    pub tls: crate::tls::TlsStats,
    /// Counters of the connection to the broker; `None` without a backplane.
    #[cfg(feature = "backplane")]
    pub backplane: Option<crate::backplane::BackplaneStats>,
    /// Durations of turns, from the poll's return to the end of the reap phase, if they are measured.
    pub turns: Option<TurnTimes>,
    pub(crate) refused: [u64; Refusal::NAMES.len()],
    pub(crate) closes: [u64; CLOSES.len()],
}

impl Stats {
    /// Returns the number of refused connections by reason: `protocol` (the server itself answered the request with
    /// 4xx or 505), `handler` (refused by `Handler::on_upgrade`), `response` (a handler altered the 101 so that it
    /// violates the protocol), `shutdown` (the server drains or stops), `proxy_header` (no valid header of the PROXY
    /// protocol), or the name of a limit of [`Config`](crate::Config).
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::NAMES.into_iter().zip(self.refused)
    }

    /// Returns the number of ended sessions by the close code that `Handler::on_close` was given (RFC 6455 section
    /// 7.4): each registered code, `3000-3999`, `4000-4999` (which peers can choose freely), and `other`.
    pub fn closes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLOSES.into_iter().zip(self.closes)
    }

    pub(crate) fn count_refusal(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }

    pub(crate) fn count_close(&mut self, code: u16) {
        let index = match code {
            1000..=1015 => usize::from(code - 1000),
            3000..=3999 => 16,
            4000..=4999 => 17,
            _ => 18,
        };
        self.closes[index] += 1;
    }

    pub(crate) fn count_round_trip(&mut self, time: Duration) {
        self.rtts += 1;
        self.rtt_sum += time;
    }

    pub(crate) fn count_turn(&mut self, time: Duration) {
        if let Some(turns) = &mut self.turns {
            turns.count(time);
        }
    }
}

/// Why a connection was refused, in the order of [`Refusal::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Protocol,
    Handler,
    Response,
    Shutdown,
    ConnectionsMax,
    HandshakesMax,
    HandshakeTimeout,
    ConnectionsPerAddressMax,
    HandshakesPerAddressMax,
    #[cfg_attr(
        not(feature = "proxy-protocol"),
        expect(dead_code, reason = "no listener expects a header")
    )]
    ProxyHeader,
}

impl Refusal {
    const NAMES: [&'static str; 10] = [
        "protocol",
        "handler",
        "response",
        "shutdown",
        "connections_max",
        "handshakes_max",
        "handshake_timeout",
        "connections_per_address_max",
        "handshakes_per_address_max",
        "proxy_header",
    ];
}

/// A histogram of the durations of turns.
#[derive(Clone, Debug, Default)]
pub struct TurnTimes {
    sum: Duration,
    /// Number of turns in each bucket of `TURN_BOUNDS`: those that took at most the bucket's bound, and longer than the
    /// bound before. The last bucket has no bound.
    counts: [u64; TURN_BOUNDS.len() + 1],
}

impl TurnTimes {
    /// Returns the number of turns.
    pub fn count_all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns pairs of a duration and the number of turns that took at most that duration.
    pub fn at_most(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut total = 0;
        TURN_BOUNDS
            .into_iter()
            .zip(self.counts)
            .map(move |(micros, count)| {
                total += count;
                (Duration::from_micros(micros), total)
            })
    }

    fn count(&mut self, time: Duration) {
        let index = TURN_BOUNDS
            .iter()
            .position(|micros| time <= Duration::from_micros(*micros))
            .unwrap_or(TURN_BOUNDS.len());
        self.counts[index] += 1;
        self.sum += time;
    }
}

/// The names of close codes, and of ranges of close codes.
const CLOSES: [&str; 19] = [
    "1000",
    "1001",
    "1002",
    "1003",
    "1004",
    "1005",
    "1006",
    "1007",
    "1008",
    "1009",
    "1010",
    "1011",
    "1012",
    "1013",
    "1014",
    "1015",
    "3000-3999",
    "4000-4999",
    "other",
];

/// Upper bounds of the histogram's buckets, in microseconds. A turn with one small message takes some 10 microseconds,
/// a turn that reads 4 MiB some 1 000 or more.
const TURN_BOUNDS: [u64; 9] = [
    20, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 1_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Limit;

    #[test]
    fn closes_are_counted_by_code_and_by_range() {
        let mut stats = Stats::default();
        for code in [1000, 1000, 1006, 1015, 3000, 4999, 4000, 999, 2000, 5000] {
            stats.count_close(code);
        }
        let counted: Vec<_> = stats.closes().filter(|(_, count)| *count > 0).collect();
        let expected = [
            ("1000", 2),
            ("1006", 1),
            ("1015", 1),
            ("3000-3999", 1),
            ("4000-4999", 2),
            ("other", 3),
        ];
        assert_eq!(counted, expected);
    }

    #[test]
    fn refusals_have_the_names_of_their_limits() {
        let names = [
            (Refusal::ConnectionsMax, Limit::ConnectionsMax),
            (Refusal::HandshakesMax, Limit::HandshakesMax),
            (Refusal::HandshakeTimeout, Limit::HandshakeTimeout),
            (
                Refusal::ConnectionsPerAddressMax,
                Limit::ConnectionsPerAddressMax,
            ),
            (
                Refusal::HandshakesPerAddressMax,
                Limit::HandshakesPerAddressMax,
            ),
        ];
        for (refusal, limit) in names {
            assert_eq!(Refusal::NAMES[refusal as usize], limit.name());
        }
        assert_eq!(Refusal::NAMES[Refusal::Response as usize], "response");
        assert_eq!(Refusal::NAMES[Refusal::Shutdown as usize], "shutdown");
    }

    #[test]
    fn turns_are_counted_up_to_each_bound() {
        let mut turns = TurnTimes::default();
        for micros in [1, 20, 21, 1_000, 2_000_000] {
            turns.count(Duration::from_micros(micros));
        }
        let counts: Vec<_> = turns.at_most().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!(turns.count_all(), 5);
        assert_eq!(turns.sum(), Duration::from_micros(2_001_042));
    }
}
