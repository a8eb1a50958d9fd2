//! [`Backoff`]: the delay before the next attempt to connect.

use std::time::Duration;

/// Computes the delay before each attempt.
#[derive(Debug)]
pub(super) struct Backoff {
    /// The next delay, before randomisation.
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: DELAY_MIN }
    }
}

impl Backoff {
    /// Returns the delay before the next attempt, and doubles the one after that, up to [`DELAY_MAX`]. `random` has 32 random
    /// bits: the delay is between half and all of the nominal one, so that the servers of one broker do not connect at the
    /// same time.
    pub(super) fn delay(&mut self, is_permanent: bool, random: u32) -> Duration {
        let delay = match is_permanent {
            true => PERMANENT_DELAY,
            false => self.next,
        };
        self.next = (self.next * 2).min(DELAY_MAX);
        delay / 2 + delay.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Called when a connection that was established for `duration` has ended.
    pub(super) fn was_established_for(&mut self, duration: Duration) {
        if duration >= STABLE {
            *self = Self::default();
        }
    }
}

/// The first delay.
const DELAY_MIN: Duration = Duration::from_millis(50);

/// The longest delay. All topics are to be subscribed again within half a second after the broker has returned, however long
/// it was away. A thousand servers make 3 300 attempts a second, a small part of what one broker accepts.
const DELAY_MAX: Duration = Duration::from_millis(400);

/// The delay after an error that an operator must correct. Longer, because the broker may log each attempt.
const PERMANENT_DELAY: Duration = Duration::from_secs(2);

/// Minimum duration of a connection that resets the delay. A broker that accepts connections and ends them at once gets no
/// more attempts than one that does not accept any.
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
