//! Schedules pings at a fixed interval and measures the time until each pong. At most one ping is unanswered at a time.
//! Time is an argument of all methods.

use std::time::{Duration, Instant};

/// The schedule of pings.
pub(super) struct Pings {
    interval: Duration,
    next: Instant,
    /// Number of pings sent. The payload of each ping is its number in decimal digits.
    count: u32,
    /// When the unanswered ping was sent.
    sent: Option<Instant>,
}

/// Action when a ping is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a ping with this payload.
    Send(String),
    /// Send nothing: the last ping has been unanswered for this time.
    Unanswered(Duration),
}

impl Pings {
    /// Creates a schedule. The first ping is due immediately.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: now,
            count: 0,
            sent: None,
        }
    }

    /// Returns when [`tick`](Self::tick) must be called next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns the action that is due at `now`, if any. The next action is due one interval later.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Due> {
        if now < self.next {
            return None;
        }
        self.next = now + self.interval;
        if let Some(sent) = self.sent {
            return Some(Due::Unanswered(now - sent));
        }
        self.count = self.count.wrapping_add(1);
        self.sent = Some(now);
        Some(Due::Send(self.payload()))
    }

    /// Called when a pong arrives. Returns the time since the ping that it answers. Returns `None` for any other pong:
    /// RFC 6455 section 5.5.3 allows unsolicited pongs.
    pub(super) fn pong(&mut self, payload: &[u8], now: Instant) -> Option<Duration> {
        if payload != self.payload().as_bytes() {
            return None;
        }
        Some(now - self.sent.take()?)
    }

    fn payload(&self) -> String {
        self.count.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_ping_is_unanswered_and_its_round_trip_is_measured() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pings = Pings::new(Duration::from_secs(1), start);
        assert_eq!(pings.pong(b"0", start), None);
        assert_eq!(pings.tick(start), Some(Due::Send("1".to_owned())));
        assert_eq!(pings.tick(at(999)), None);
        assert_eq!(pings.pong(b"unasked", at(3)), None);
        assert_eq!(pings.pong(b"1", at(5)), Some(Duration::from_millis(5)));
        assert_eq!(pings.pong(b"1", at(6)), None);
        assert_eq!(pings.tick(at(1000)), Some(Due::Send("2".to_owned())));
        let none = Due::Unanswered(Duration::from_secs(1));
        assert_eq!(pings.tick(at(2000)), Some(none));
        assert_eq!(pings.pong(b"1", at(2001)), None);
        assert_eq!(
            pings.pong(b"2", at(2500)),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(pings.next(), at(3000));
    }
}
