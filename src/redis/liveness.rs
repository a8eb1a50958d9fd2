//! Detects a connection on which the broker does not answer, or does not deliver.

use std::fmt;
use std::time::{Duration, Instant};

/// Since when something is awaited of the broker.
#[derive(Debug)]
pub(super) struct Liveness {
    /// The last progress of replies, or when the oldest awaited one became awaited.
    reply_since: Option<Instant>,
    /// As `reply_since`, for confirmations of subscriptions.
    confirmation_since: Option<Instant>,
    /// When the awaited probe was written.
    delivery_since: Option<Instant>,
    /// When the socket accepted no byte any more.
    write_since: Option<Instant>,
    /// The last push.
    pushed_at: Instant,
}

/// What the broker has not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    Reply,
    Confirmation,
    Delivery,
    Write,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reply => "has not replied to a command in time",
            Self::Confirmation => "has not confirmed a subscription in time",
            Self::Delivery => {
                "has not delivered a probe in time: it answers, but messages do not arrive"
            }
            Self::Write => "has accepted no bytes in time",
        })
    }
}

impl Liveness {
    /// Returns the state of a connection that is established `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reply_since: None,
            confirmation_since: None,
            delivery_since: None,
            write_since: None,
            pushed_at: now,
        }
    }

    /// A command that causes a reply was written.
    pub(super) fn reply_awaited(&mut self, now: Instant) {
        self.reply_since.get_or_insert(now);
    }

    /// A reply has arrived.
    pub(super) fn replied(&mut self, now: Instant, is_more_awaited: bool) {
        self.reply_since = is_more_awaited.then_some(now);
    }

    /// A subscription was written.
    pub(super) fn confirmation_awaited(&mut self, now: Instant) {
        self.confirmation_since.get_or_insert(now);
    }

    /// A confirmation has arrived.
    pub(super) fn confirmed(&mut self, now: Instant, is_more_awaited: bool) {
        self.confirmation_since = is_more_awaited.then_some(now);
    }

    /// A probe was written.
    pub(super) fn delivery_awaited(&mut self, now: Instant) {
        self.delivery_since.get_or_insert(now);
    }

    /// A push, or a part of one, has arrived. It proves what a probe would.
    pub(super) fn pushed(&mut self, now: Instant) {
        self.pushed_at = now;
        self.delivery_since = None;
    }

    /// The socket has accepted bytes.
    pub(super) fn wrote(&mut self) {
        self.write_since = None;
    }

    /// The socket accepts no byte.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.write_since.get_or_insert(now);
    }

    /// Returns when a probe is due, if none is awaited.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.delivery_since {
            None => Some(self.pushed_at + PROBE_INTERVAL),
            Some(_) => None,
        }
    }

    /// Returns when the connection becomes stale, and why, unless something arrives. `unanswered_bytes` were written and
    /// not answered.
    pub(super) fn stale_at(&self, unanswered_bytes: usize) -> Option<(Instant, Stale)> {
        let awaited = [
            (self.reply_since, Stale::Reply),
            (self.confirmation_since, Stale::Confirmation),
            (self.delivery_since, Stale::Delivery),
            (self.write_since, Stale::Write),
        ];
        let (since, stale) = awaited
            .into_iter()
            .filter_map(|(since, stale)| Some((since?, stale)))
            .min_by_key(|(since, _)| *since)?;
        let transfer = Duration::from_millis(unanswered_bytes as u64 / SLOWEST_BYTES_PER_MS);
        Some((since + PATIENCE + transfer, stale))
    }
}

/// How long the broker may take to reply, confirm, deliver or accept bytes, without any progress. Longer than a pause of 3 s
/// by `CLIENT PAUSE`, a slow fork or a lost packet of TCP; shorter than people wait for a message before they reload.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Silence of pushes after which a probe is sent. With [`PATIENCE`], a connection that has become useless is detected within
/// 10 s even if there are no publications. An idle server sends 12 probes a minute.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The slowest connection that is not stale: 64 bytes in a millisecond, so 64 KB/s. What was written and not answered may
/// still be in transit, so the patience is longer by the time that it needs: 4 s for the window of 256 KiB, 16 s for one
/// publication of 1 MiB.
const SLOWEST_BYTES_PER_MS: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_awaited_answer_decides_when_the_connection_is_stale() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.stale_at(0), None);
        assert_eq!(liveness.probe_at(), Some(at(5000)));

        liveness.reply_awaited(at(100));
        liveness.reply_awaited(at(200));
        liveness.confirmation_awaited(at(300));
        assert_eq!(liveness.stale_at(0), Some((at(5100), Stale::Reply)));
        assert_eq!(liveness.stale_at(64_000), Some((at(6100), Stale::Reply)));
        liveness.replied(at(400), true);
        assert_eq!(liveness.stale_at(0), Some((at(5300), Stale::Confirmation)));
        liveness.confirmed(at(500), false);
        assert_eq!(liveness.stale_at(0), Some((at(5400), Stale::Reply)));
        liveness.replied(at(600), false);
        assert_eq!(liveness.stale_at(0), None);

        liveness.delivery_awaited(at(5000));
        liveness.blocked(at(6000));
        assert_eq!(liveness.probe_at(), None);
        assert_eq!(liveness.stale_at(0), Some((at(10_000), Stale::Delivery)));
        liveness.pushed(at(7000));
        assert_eq!(liveness.probe_at(), Some(at(12_000)));
        assert_eq!(liveness.stale_at(0), Some((at(11_000), Stale::Write)));
        liveness.wrote();
        assert_eq!(liveness.stale_at(0), None);
    }
}
