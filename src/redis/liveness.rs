//! Detects a connection on which the broker no longer answers or no longer delivers.

use std::fmt;
use std::time::{Duration, Instant};

/// The times since which replies, confirmations, deliveries and writes are awaited. `None`: not awaited.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When the last reply arrived or, if none has arrived since, when the oldest awaited one became awaited.
    reply_since: Option<Instant>,
    /// As `reply_since`, for confirmations of subscriptions.
    confirmation_since: Option<Instant>,
    /// When the awaited probe was written.
    delivery_since: Option<Instant>,
    /// When the socket stopped accepting bytes.
    write_since: Option<Instant>,
    /// When the last push arrived.
    pushed_at: Instant,
}

/// Why a connection is stale: what the broker has not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// Replied to a command.
    Reply,
    /// Confirmed a subscription.
    Confirmation,
    /// Delivered a probe.
    Delivery,
    /// Accepted bytes.
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
    /// Returns the state of a connection that begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reply_since: None,
            confirmation_since: None,
            delivery_since: None,
            write_since: None,
            pushed_at: now,
        }
    }

    /// Called when a command that causes a reply was written.
    pub(super) fn reply_awaited(&mut self, now: Instant) {
        self.reply_since.get_or_insert(now);
    }

    /// Called when a reply has arrived.
    pub(super) fn replied(&mut self, now: Instant, is_more_awaited: bool) {
        self.reply_since = is_more_awaited.then_some(now);
    }

    /// Called when a subscription was written.
    pub(super) fn confirmation_awaited(&mut self, now: Instant) {
        self.confirmation_since.get_or_insert(now);
    }

    /// Called when a confirmation has arrived.
    pub(super) fn confirmed(&mut self, now: Instant, is_more_awaited: bool) {
        self.confirmation_since = is_more_awaited.then_some(now);
    }

    /// Called when a probe was written.
    pub(super) fn delivery_awaited(&mut self, now: Instant) {
        self.delivery_since.get_or_insert(now);
    }

    /// Called when a push, or a part of one, has arrived. It proves that the broker delivers, as the probe would.
    pub(super) fn pushed(&mut self, now: Instant) {
        self.pushed_at = now;
        self.delivery_since = None;
    }

    /// Called when the socket has accepted bytes.
    pub(super) fn wrote(&mut self) {
        self.write_since = None;
    }

    /// Called when the socket accepts no byte.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.write_since.get_or_insert(now);
    }

    /// Returns when the next probe is due; `None` while one is awaited.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        match self.delivery_since {
            None => Some(self.pushed_at + PROBE_INTERVAL),
            Some(_) => None,
        }
    }

    /// Returns when the connection becomes stale, and why, unless the broker does what is awaited before. `unanswered_bytes`:
    /// number of bytes that were written and not answered.
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
        Some((since + RESPONSE_TIMEOUT + transfer, stale))
    }
}

/// Maximum time without progress while a reply, a confirmation, a delivery or a write is awaited. Longer than a pause of 3 s by
/// `CLIENT PAUSE`, a slow fork or a lost packet of TCP; shorter than people wait for a message before they reload a page.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without a push after which a probe is sent. Together with [`RESPONSE_TIMEOUT`], a connection that no longer delivers
/// is detected within 10 s, even if there are no publications. An idle server sends 12 probes a minute.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Minimum rate of a connection in bytes per millisecond: 64 KB/s. Bytes that were written and not answered may still be in
/// transit, so [`RESPONSE_TIMEOUT`] is extended by the time that they need at this rate: 4 s for 256 KiB, the maximum of
/// unanswered bytes, and 16 s for a single publication of 1 MiB.
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
