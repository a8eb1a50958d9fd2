//! Pings at even times, one at a time, and how long their answers took. Time comes as an argument.

use std::time::{Duration, Instant};

pub(super) struct Pings {
    interval: Duration,
    next: Instant,
    count: u32,
    /// When the one that is not answered was sent.
    sent: Option<Instant>,
}

/// What is to be done when a ping is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send one with this payload.
    Send(String),
    /// The last one is not answered, for so long.
    Unanswered(Duration),
}

impl Pings {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: now,
            count: 0,
            sent: None,
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

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

    /// How long the answer took, if this is it: RFC 6455 section 5.5.3 has pongs that nobody asked for.
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
    fn one_ping_is_under_way_and_its_answer_is_measured() {
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
