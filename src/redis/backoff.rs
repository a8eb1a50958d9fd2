//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The delay before the next attempt.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: DELAY_MIN }
    }
}

impl Backoff {
    /// Returns the delay, and doubles the one after it. `random` is a number of 32 random bits: half of the delay is
    /// random, so that the servers of one broker do not connect at the same time.
    pub(super) fn delay(&mut self, is_permanent: bool, random: u32) -> Duration {
        let delay = match is_permanent {
            true => PERMANENT_DELAY,
            false => self.next,
        };
        self.next = (self.next * 2).min(DELAY_MAX);
        delay / 2 + delay.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// A connection has been established for that long.
    pub(super) fn was_established_for(&mut self, duration: Duration) {
        if duration >= STABLE {
            *self = Self::default();
        }
    }
}

const DELAY_MIN: Duration = Duration::from_millis(50);

/// Short enough that topics are whole again within half a second after a restart, however long the server was away. A
/// thousand servers make 3 300 attempts a second with it, a small part of what one server accepts.
const DELAY_MAX: Duration = Duration::from_millis(400);

/// The delay after an error that a person must correct. Each attempt may be logged by the broker.
const PERMANENT_DELAY: Duration = Duration::from_secs(2);

/// A connection that ends earlier does not reset the delay: a server that accepts clients and ends them at once is not asked
/// more often than one that does not accept them.
const STABLE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_and_half_of_it_is_random() {
        let mut backoff = Backoff::default();
        let ms = |backoff: &mut Backoff, random| backoff.delay(false, random).as_millis();
        let delays = [(); 6].map(|()| ms(&mut backoff, u32::MAX));
        assert_eq!(delays, [50, 100, 200, 400, 400, 400]);
        assert_eq!(ms(&mut backoff, 0), 200);
        assert_eq!(backoff.delay(true, 0), Duration::from_secs(1));
        backoff.was_established_for(STABLE - Duration::from_millis(1));
        assert_eq!(ms(&mut backoff, u32::MAX), 400);
        backoff.was_established_for(STABLE);
        assert_eq!(ms(&mut backoff, 0), 25);
    }
}
