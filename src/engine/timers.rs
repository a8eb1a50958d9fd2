//! The handler's timers, in the order of due times.

use crate::id::TimerId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    timers: BTreeMap<TimerId, Timer>,
    /// The number of timers that were set.
    sequence: u64,
    /// The number of timers that were set before this turn: only those can be due in it.
    sequence_end: u64,
    /// Where the loop's milliseconds begin; `None`: they come from a test.
    clock: Option<Instant>,
}

/// What a timer was set with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) key: u64,
    /// See [`Context`](crate::Context).
    pub(crate) scope: u32,
}

impl Timers {
    pub(crate) fn new(clock: Option<Instant>) -> Self {
        Self {
            timers: BTreeMap::new(),
            sequence: 0,
            sequence_end: 0,
            clock,
        }
    }

    /// Sets a timer. It is due `after` from now, never earlier: from the clock as it is now, not as it was at the start of
    /// this turn (`turn_now`, in milliseconds), and rounded up.
    pub(crate) fn set(&mut self, after: Duration, key: u64, scope: u32, turn_now: u64) -> TimerId {
        let due = match self.clock {
            // The next turn's `now` is not below `turn_now`, so a timer of zero needs no clock.
            Some(clock) if !after.is_zero() => millis_up(clock.elapsed().saturating_add(after)),
            Some(_) | None => turn_now.saturating_add(millis_up(after)),
        };
        let timer = TimerId {
            due,
            sequence: self.sequence,
        };
        self.sequence += 1;
        self.timers.insert(timer, Timer { key, scope });
        timer
    }

    /// Cancels a timer. Returns `false` if it was due already.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.remove(&timer).is_some()
    }

    /// Begins a turn. Timers that are set from now on are not due in it, so that a handler cannot hold the loop.
    pub(crate) fn begin_turn(&mut self) {
        self.sequence_end = self.sequence;
    }

    /// Removes a timer that is due at `now`, of those that were set before this turn.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Timer> {
        // A timer that was set in this turn is due at `now` at the earliest, behind all that were due before.
        let first = self.timers.first_entry()?;
        let is_due = first.key().due <= now && first.key().sequence < self.sequence_end;
        is_due.then(|| first.remove())
    }

    /// Milliseconds until the next timer is due.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let (timer, _) = self.timers.first_key_value()?;
        Some(timer.due.saturating_sub(now))
    }
}

fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_late_in_a_turn_is_not_early() {
        let clock = Instant::now();
        let mut timers = Timers::new(Some(clock));
        while clock.elapsed() < Duration::from_millis(5) {}
        // The turn began at 0.
        let set_at = clock.elapsed();
        let timer = timers.set(Duration::from_millis(10), 7, 0, 0);
        assert!(Duration::from_millis(timer.due) >= set_at + Duration::from_millis(10));
        timers.begin_turn();
        assert!(timers.take_due(timer.due - 1).is_none());
        assert_eq!(timers.take_due(timer.due).unwrap().key, 7);
    }
}
