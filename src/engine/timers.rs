//! Timers that handlers have set, in the order of due times. Setting, cancelling and taking a timer is O(log n).
//!
//! The due times of an interval are computed exactly, so that the rounding to milliseconds does not add up.

use crate::id::{Id, TimerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The due times of a timer: argument of [`Context::set_timer`](crate::Context::set_timer) and
/// [`Context::set_session_timer`](crate::Context::set_session_timer). A `Duration` converts to `After`.
///
/// ```
/// use std::time::Duration;
/// use wsloop::{Context, When};
///
/// fn set_timers(cx: &mut Context<'_>) {
///     cx.set_timer(Duration::from_secs(5), 1);
///     cx.set_timer(When::Every(Duration::from_millis(10)), 2); // 100 Hz
///     cx.set_timer(When::At(cx.now() + Duration::from_secs(60)), 3);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Once, not earlier than this time from now. With zero, in the next turn.
    After(Duration),
    /// Once, not earlier than this time of [`Context::now`](crate::Context::now). If it has passed, in the next turn.
    At(Instant),
    /// Repeatedly, until the timer is cancelled: the first time after one period, then at multiples of it since then,
    /// without drift. If the loop is late by more than a period, the missed times are skipped. At least 1 ms: a shorter
    /// period counts as 1 ms.
    Every(Duration),
}

impl From<Duration> for When {
    fn from(after: Duration) -> Self {
        Self::After(after)
    }
}

/// All timers of a server.
#[derive(Debug)]
pub(crate) struct Timers {
    timers: BTreeMap<TimerId, Timer>,
    /// The current id of each interval, by the sequence number with which it was set. Each repetition has a new id.
    intervals: BTreeMap<u64, TimerId>,
    /// The timers of sessions, by session.
    by_session: BTreeSet<(Id, TimerId)>,
    /// Number of ids that were made since the start. Distinguishes timers with the same due time.
    sequence: u64,
    /// The sequence number from which on timers were set in this turn: those are not due in it.
    sequence_end: u64,
    /// Time 0 of the loop's clock.
    epoch: Instant,
    /// Whether a test controls the time. Otherwise the time is that since `epoch`.
    is_simulated: bool,
}

/// The data that a timer was set with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    /// The handler's key, which `on_timer` receives.
    pub(crate) key: u64,
    /// The route that set the timer; see [`Context`](crate::Context).
    pub(crate) scope: u32,
    /// The session that the timer belongs to.
    pub(crate) session: Option<Id>,
    interval: Option<Interval>,
}

/// A repeated timer.
#[derive(Clone, Copy, Debug)]
struct Interval {
    /// The sequence number with which the interval was set.
    number: u64,
    period: Duration,
    /// The exact due time since time 0. The timer's id has the next whole millisecond.
    due: Duration,
}

impl Timers {
    /// Returns no timers. `clock` is the instant of time 0, or `None` if a test controls the time.
    pub(crate) fn new(clock: Option<Instant>) -> Self {
        Self {
            timers: BTreeMap::new(),
            intervals: BTreeMap::new(),
            by_session: BTreeSet::new(),
            sequence: 0,
            sequence_end: 0,
            epoch: clock.unwrap_or_else(Instant::now),
            is_simulated: clock.is_none(),
        }
    }

    /// Returns the instant of the time `now`, in milliseconds of the loop's clock.
    pub(crate) fn instant(&self, now: u64) -> Instant {
        self.epoch + Duration::from_millis(now)
    }

    /// Sets a timer, which belongs to `session` if there is one. A duration counts from the current time, not from the
    /// time at the start of the turn (`turn_now`, in milliseconds), and due times are rounded up, so that a timer is
    /// never early.
    pub(crate) fn set(
        &mut self,
        when: When,
        key: u64,
        scope: u32,
        session: Option<Id>,
        turn_now: u64,
    ) -> TimerId {
        let mut timer = Timer {
            key,
            scope,
            session,
            interval: None,
        };
        let due = match when {
            // A timer of zero is due at `turn_now`, and so in the next turn: no need to read the clock.
            When::After(Duration::ZERO) => Duration::from_millis(turn_now),
            When::After(after) => self.elapsed(turn_now).saturating_add(after),
            When::At(at) => {
                let due = at.saturating_duration_since(self.epoch);
                due.max(Duration::from_millis(turn_now))
            }
            When::Every(period) => {
                let period = period.max(PERIOD_MIN);
                let due = self.elapsed(turn_now).saturating_add(period);
                timer.interval = Some(Interval {
                    number: self.sequence,
                    period,
                    due,
                });
                due
            }
        };
        self.insert(timer, due)
    }

    /// Returns the current time since time 0.
    fn elapsed(&self, turn_now: u64) -> Duration {
        if self.is_simulated {
            Duration::from_millis(turn_now)
        } else {
            self.epoch.elapsed()
        }
    }

    fn insert(&mut self, timer: Timer, due: Duration) -> TimerId {
        let id = TimerId {
            due: millis_up(due),
            sequence: self.sequence,
        };
        self.sequence += 1;
        if let Some(interval) = timer.interval {
            self.intervals.insert(interval.number, id);
        }
        if let Some(session) = timer.session {
            self.by_session.insert((session, id));
        }
        self.timers.insert(id, timer);
        id
    }

    /// Cancels a timer. Returns `false` if the timer is not set any more.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        let current = self.intervals.remove(&timer.sequence).unwrap_or(timer);
        let Some(timer) = self.timers.remove(&current) else {
            return false;
        };
        if let Some(session) = timer.session {
            self.by_session.remove(&(session, current));
        }
        true
    }

    /// Cancels all timers of a session. O(log n) for each.
    pub(crate) fn cancel_all_of(&mut self, session: Id) {
        let first = TimerId {
            due: 0,
            sequence: 0,
        };
        while let Some(&(owner, timer)) = self.by_session.range((session, first)..).next()
            && owner == session
        {
            self.by_session.remove(&(owner, timer));
            if let Some(interval) = self.timers.remove(&timer).and_then(|timer| timer.interval) {
                self.intervals.remove(&interval.number);
            }
        }
    }

    /// Begins a turn. Timers that are set from now on are not due in it, so that a handler cannot hold the loop.
    pub(crate) fn begin_turn(&mut self) {
        self.sequence_end = self.sequence;
    }

    /// Returns the first timer, if it is due at `now` and was set before this turn. It is removed, or, if it is an
    /// interval, set to its next due time after `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Timer> {
        // A timer that was set in this turn is due at `now` at the earliest, behind all that were due before.
        let first = self.timers.first_entry()?;
        if first.key().due > now || first.key().sequence >= self.sequence_end {
            return None;
        }
        let (id, mut timer) = first.remove_entry();
        if let Some(session) = timer.session {
            self.by_session.remove(&(session, id));
        }
        if let Some(interval) = &mut timer.interval {
            interval.advance(now);
            let due = interval.due;
            self.insert(timer, due);
        }
        Some(timer)
    }

    /// Returns the milliseconds until the next timer is due, or `None` if no timer is set.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let (timer, _) = self.timers.first_key_value()?;
        Some(timer.due.saturating_sub(now))
    }

    /// Returns whether no timer is set, and no memory of earlier ones is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.intervals.is_empty() && self.by_session.is_empty()
    }
}

impl Interval {
    /// Sets `due` to the first multiple of the period after `now`, in milliseconds.
    fn advance(&mut self, now: u64) {
        let late = Duration::from_millis(now).saturating_sub(self.due);
        let missed = late.as_nanos() / self.period.as_nanos();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let step = self.period.saturating_mul(missed.saturating_add(1));
        self.due = self.due.saturating_add(step);
    }
}

/// Converts to milliseconds, rounded up.
fn millis_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Minimum period of an interval: the resolution of the loop's clock.
const PERIOD_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn session(number: u64) -> Id {
        Id { slot: 3, number }
    }

    /// Takes all timers that are due at `now`. Returns their keys.
    fn due(timers: &mut Timers, now: u64) -> Vec<u64> {
        timers.begin_turn();
        std::iter::from_fn(|| timers.take_due(now).map(|timer| timer.key)).collect()
    }

    #[test]
    fn a_timer_that_is_set_late_in_a_turn_is_not_early() {
        let clock = Instant::now();
        let mut timers = Timers::new(Some(clock));
        while clock.elapsed() < millis(5) {}
        // The turn began at 0.
        let set_at = clock.elapsed();
        let timer = timers.set(millis(10).into(), 7, 0, None, 0);
        assert!(millis(timer.due) >= set_at + millis(10));
        assert_eq!(due(&mut timers, timer.due - 1), []);
        assert_eq!(due(&mut timers, timer.due), [7]);
    }

    #[test]
    fn an_interval_does_not_drift_if_the_loop_is_late() {
        // 60 Hz: the period is not a whole number of milliseconds.
        let mut timers = Timers::new(None);
        let period = Duration::from_secs(1) / 60;
        timers.set(When::Every(period), 1, 0, None, 0);
        let mut calls = 0;
        let mut now = 0;
        while now < 100_000 {
            now += timers.next_in(now).unwrap() + now % 7;
            calls += due(&mut timers, now).len();
        }
        assert!((5_999..=6_001).contains(&calls), "{calls}");
    }

    #[test]
    fn missed_times_of_an_interval_are_skipped() {
        let mut timers = Timers::new(None);
        let interval = timers.set(When::Every(millis(10)), 1, 0, None, 5);
        assert_eq!(timers.next_in(5), Some(10));
        assert_eq!(due(&mut timers, 15), [1]);
        // Late by more than three periods: one call, and the next at a multiple of the period.
        assert_eq!(due(&mut timers, 58), [1]);
        assert_eq!(timers.next_in(58), Some(7));
        assert_eq!(due(&mut timers, 65), [1]);
        assert!(timers.cancel(interval));
        assert!(!timers.cancel(interval));
        assert!(timers.is_empty());
    }

    #[test]
    fn an_interval_can_be_cancelled_when_it_is_due() {
        let mut timers = Timers::new(None);
        let interval = timers.set(When::Every(Duration::ZERO), 1, 0, None, 0);
        timers.begin_turn();
        assert_eq!(timers.take_due(1).unwrap().key, 1);
        assert!(timers.take_due(1).is_none(), "once in a turn");
        assert!(timers.cancel(interval));
        assert!(timers.is_empty());
    }

    #[test]
    fn an_absolute_time_is_met_and_a_past_one_is_due_in_the_next_turn() {
        let mut timers = Timers::new(None);
        let soon = timers.instant(20) + Duration::from_micros(1);
        timers.set(When::At(soon), 1, 0, None, 10);
        let past = timers.instant(3);
        timers.set(When::At(past), 2, 0, None, 10);
        assert_eq!(due(&mut timers, 10), [2]);
        assert_eq!(timers.next_in(10), Some(11));
        assert_eq!(due(&mut timers, 21), [1]);
    }

    #[test]
    fn the_timers_of_a_session_are_cancelled_together() {
        let mut timers = Timers::new(None);
        for number in [1, 2] {
            timers.set(millis(5).into(), number, 0, Some(session(number)), 0);
            timers.set(When::Every(millis(2)), number, 0, Some(session(number)), 0);
        }
        timers.set(millis(9).into(), 9, 0, None, 0);
        assert_eq!(due(&mut timers, 2), [1, 2]);
        timers.cancel_all_of(session(1));
        assert_eq!(due(&mut timers, 5), [2, 2]);
        timers.cancel_all_of(session(2));
        assert_eq!(due(&mut timers, 9), [9]);
        assert!(timers.is_empty());
    }

    #[test]
    fn enormous_durations_do_not_overflow() {
        let mut timers = Timers::new(None);
        for when in [When::After(Duration::MAX), When::Every(Duration::MAX)] {
            let timer = timers.set(when, 1, 0, None, u64::MAX / 2);
            assert_eq!(due(&mut timers, u64::MAX - 1), []);
            assert!(timers.cancel(timer));
        }
        timers.set(When::Every(Duration::from_millis(1)), 1, 0, None, 0);
        assert_eq!(due(&mut timers, u64::MAX), [1]);
    }
}
