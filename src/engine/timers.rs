//! Timers that handlers have set, in the order of due times. Setting, cancelling and taking a timer is O(log n)
//! amortized: the queue entry of a cancelled timer is removed later. A binary heap and a table need a third of the code
//! of sorted maps.
//!
//! The due times of an interval are computed exactly, so that the rounding to milliseconds does not add up.

use super::session_list::{self, Link, Listed, Neighbours};
use crate::id::{Id, TimerId};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
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
    /// Repeatedly, until the timer is cancelled: after one period, two periods, and so on, counted from the call, so
    /// that delays do not add up. If the loop is late by more than a period, the missed times are skipped. A period
    /// below 1 ms counts as 1 ms.
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
    timers: Slab<Timer>,
    /// The due times of all timers, and of some that were cancelled. The first due time is never that of a cancelled
    /// timer.
    queue: BinaryHeap<Reverse<Due>>,
    /// Number of due times that were queued since the start. Distinguishes timers with the same due time.
    sequence: u64,
    /// The first sequence number of this turn. Due times from this number on are not due in this turn.
    sequence_end: u64,
    /// Time 0 of the loop's clock.
    epoch: Instant,
    /// Whether a test controls the time. Otherwise the time is that since `epoch`.
    is_simulated: bool,
}

/// A due time of a timer. Ordered by time, then by sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    /// In milliseconds of the loop's clock.
    at: u64,
    sequence: u64,
    /// Index of the timer in [`Timers::timers`].
    index: u32,
}

/// A timer that is set.
#[derive(Debug)]
struct Timer {
    call: Call,
    /// The sequence number with which the timer was set, as in [`TimerId`].
    number: u64,
    /// The sequence number of its next due time. An interval has a new one after each call.
    sequence: u64,
    /// The neighbours in the list of the timers of its session.
    neighbours: Neighbours,
    interval: Option<Interval>,
}

/// Which event of which handler a timer causes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The handler's key, which `on_timer` receives.
    pub(crate) key: u64,
    /// The route that set the timer; see [`Context`](crate::Context).
    pub(crate) scope: u32,
    /// The session that the timer belongs to.
    pub(crate) session: Option<Id>,
}

/// A repeated timer.
#[derive(Clone, Copy, Debug)]
struct Interval {
    period: Duration,
    /// The exact due time since time 0. The queued due time is rounded up to a whole millisecond.
    due: Duration,
}

impl Listed for Timer {
    fn neighbours_mut(&mut self) -> &mut Neighbours {
        &mut self.neighbours
    }
}

impl Timers {
    /// Returns an empty table. `clock` is the instant of time 0, or `None` if a test controls the time.
    pub(crate) fn new(clock: Option<Instant>) -> Self {
        Self {
            timers: Slab::new(),
            queue: BinaryHeap::new(),
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

    /// Sets a timer. A duration counts from the current time, not from the time at the start of the turn (`turn_now`,
    /// in milliseconds), and due times are rounded up, so that a timer is never early. `first` is the first timer of
    /// the session that the timer belongs to.
    pub(crate) fn set(
        &mut self,
        when: When,
        call: Call,
        first: Option<&mut Link>,
        turn_now: u64,
    ) -> TimerId {
        let mut interval = None;
        let due = match when {
            // A duration of zero is due at `turn_now`, and so in the next turn. The clock need not be read.
            When::After(Duration::ZERO) => Duration::from_millis(turn_now),
            When::After(after) => self.elapsed(turn_now).saturating_add(after),
            When::At(at) => {
                let due = at.saturating_duration_since(self.epoch);
                due.max(Duration::from_millis(turn_now))
            }
            When::Every(period) => {
                let period = period.max(PERIOD_MIN);
                let due = self.elapsed(turn_now).saturating_add(period);
                interval = Some(Interval { period, due });
                due
            }
        };
        let index = self.timers.insert(Timer {
            call,
            number: self.sequence,
            sequence: self.sequence,
            neighbours: Neighbours::default(),
            interval,
        });
        let index = u32::try_from(index).expect("memory holds fewer than 2^32 timers");
        if let Some(first) = first {
            session_list::push_first(&mut self.timers, index, first);
        }
        let number = self.enqueue(millis_up(due), index);
        TimerId { index, number }
    }

    /// Returns whether time is simulated, as in a test harness.
    #[cfg(feature = "http-date")]
    pub(crate) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// Returns the current time since time 0.
    pub(crate) fn elapsed(&self, turn_now: u64) -> Duration {
        if self.is_simulated {
            Duration::from_millis(turn_now)
        } else {
            self.epoch.elapsed()
        }
    }

    /// Queues a due time of a timer. Returns its sequence number.
    fn enqueue(&mut self, at: u64, index: u32) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        self.queue.push(Reverse(Due {
            at,
            sequence,
            index,
        }));
        sequence
    }

    /// Returns the session of a timer, if the timer is set and has one.
    pub(crate) fn session(&self, id: TimerId) -> Option<Id> {
        let timer = self.timers.get(id.index as usize)?;
        timer.call.session.filter(|_| timer.number == id.number)
    }

    /// Cancels a timer. `first` is the first timer of its session, if it has one. Returns `false` if the timer is not
    /// set any more.
    pub(crate) fn cancel(&mut self, id: TimerId, first: Option<&mut Link>) -> bool {
        let timer = self.timers.get(id.index as usize);
        if timer.is_none_or(|timer| timer.number != id.number) {
            return false;
        }
        self.remove(id.index, first);
        self.drop_cancelled();
        true
    }

    /// Cancels all timers in the list of a session. O(log n) for each.
    pub(crate) fn cancel_all(&mut self, first: &mut Link) {
        if *first == Link::default() {
            return;
        }
        while session_list::pop_first(&mut self.timers, first).is_some() {}
        self.drop_cancelled();
    }

    fn remove(&mut self, index: u32, first: Option<&mut Link>) {
        let timer = self.timers.remove(index as usize);
        if let Some(first) = first {
            session_list::unlink(&mut self.timers, timer.neighbours, first);
        }
    }

    /// Removes due times of cancelled timers: those at the front of the queue, and all if they are the majority.
    fn drop_cancelled(&mut self) {
        let Self { timers, queue, .. } = self;
        let is_set = |due: &Due| {
            let timer = timers.get(due.index as usize);
            timer.is_some_and(|timer| timer.sequence == due.sequence)
        };
        if queue.len() > 2 * timers.len() + CANCELLED_MAX {
            // `BinaryHeap::retain` would compile to more code, because it preserves the part of the heap that is in
            // order.
            let dues = mem::replace(queue, BinaryHeap::with_capacity(2 * timers.len()));
            for due in dues.into_vec() {
                if is_set(&due.0) {
                    queue.push(due);
                }
            }
        }
        while queue.peek().is_some_and(|Reverse(due)| !is_set(due)) {
            queue.pop();
        }
        if timers.is_empty() {
            *timers = Slab::new();
        }
    }

    /// Begins a turn. Timers that are set from now on are not due in it, so that a handler cannot hold the loop.
    pub(crate) fn begin_turn(&mut self) {
        self.sequence_end = self.sequence;
    }

    /// Returns the first timer, if it is due at `now` and was set before this turn.
    pub(crate) fn first_due(&self, now: u64) -> Option<(Call, DueTimer)> {
        // Timers that were set in this turn cannot hide earlier ones: they are due at `now` at the earliest, and have
        // higher sequence numbers.
        let Reverse(due) = self.queue.peek()?;
        let is_due = due.at <= now && due.sequence < self.sequence_end;
        is_due.then(|| (self.timers[due.index as usize].call, DueTimer(due.index)))
    }

    /// Removes the first timer, which is due at `now`, or, if it is an interval, queues its next due time after `now`.
    /// `first` is the first timer of its session, if it has one.
    pub(crate) fn take(&mut self, due: DueTimer, now: u64, first: Option<&mut Link>) {
        let DueTimer(index) = due;
        self.queue.pop();
        let timer = &mut self.timers[index as usize];
        match &mut timer.interval {
            Some(interval) => {
                interval.advance(now);
                let at = millis_up(interval.due);
                let sequence = self.enqueue(at, index);
                self.timers[index as usize].sequence = sequence;
            }
            None => self.remove(index, first),
        }
        self.drop_cancelled();
    }

    /// Returns the milliseconds until the next timer is due, or `None` if no timer is set.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let Reverse(due) = self.queue.peek()?;
        Some(due.at.saturating_sub(now))
    }

    /// Returns whether no timer is set, and no due time of a cancelled timer is queued.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty() && self.queue.is_empty()
    }
}

/// The first timer, which is due; see [`Timers::first_due`].
#[derive(Debug)]
pub(crate) struct DueTimer(u32);

impl Interval {
    /// Sets `due` to the first multiple of the period after `now`, in milliseconds.
    fn advance(&mut self, now: u64) {
        let late = Duration::from_millis(now).saturating_sub(self.due);
        let missed = nanos(late) / nanos(self.period);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let step = self.period.saturating_mul(missed.saturating_add(1));
        self.due = self.due.saturating_add(step);
    }
}

/// Converts to milliseconds, rounded up.
fn millis_up(time: Duration) -> u64 {
    let whole = time.as_secs().saturating_mul(1000);
    whole.saturating_add(time.subsec_nanos().div_ceil(1_000_000).into())
}

/// Converts to nanoseconds. More than 584 years become `u64::MAX`.
fn nanos(time: Duration) -> u64 {
    let whole = time.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(time.subsec_nanos().into())
}

/// Minimum period of an interval: the resolution of the loop's clock.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// Due times of cancelled timers that are queued in addition to one for each timer that is set: 6 KB.
const CANCELLED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Sets a timer without a session.
    fn set(timers: &mut Timers, when: impl Into<When>, key: u64, now: u64) -> TimerId {
        let call = Call {
            key,
            scope: 0,
            session: None,
        };
        timers.set(when.into(), call, None, now)
    }

    /// Takes all timers that are due at `now`. Returns their keys. `lists`: the first timers of the sessions, by number.
    fn due_with(timers: &mut Timers, now: u64, lists: &mut [Link]) -> Vec<u64> {
        timers.begin_turn();
        let mut keys = Vec::new();
        while let Some((call, due)) = timers.first_due(now) {
            let first = call
                .session
                .map(|session| &mut lists[session.number as usize]);
            timers.take(due, now, first);
            keys.push(call.key);
        }
        keys
    }

    fn due(timers: &mut Timers, now: u64) -> Vec<u64> {
        due_with(timers, now, &mut [])
    }

    #[test]
    fn a_timer_that_is_set_late_in_a_turn_is_not_early() {
        let clock = Instant::now();
        let mut timers = Timers::new(Some(clock));
        while clock.elapsed() < millis(5) {}
        // The turn began at 0.
        let set_at = clock.elapsed();
        set(&mut timers, millis(10), 7, 0);
        let at = timers.queue.peek().unwrap().0.at;
        assert!(millis(at) >= set_at + millis(10));
        assert_eq!(due(&mut timers, at - 1), []);
        assert_eq!(due(&mut timers, at), [7]);
    }

    #[test]
    fn an_interval_does_not_drift_if_the_loop_is_late() {
        // 60 Hz: the period is not a whole number of milliseconds.
        let mut timers = Timers::new(None);
        let period = Duration::from_secs(1) / 60;
        set(&mut timers, When::Every(period), 1, 0);
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
        let interval = set(&mut timers, When::Every(millis(10)), 1, 5);
        assert_eq!(timers.next_in(5), Some(10));
        assert_eq!(due(&mut timers, 15), [1]);
        // Late by more than three periods: one call, and the next at a multiple of the period.
        assert_eq!(due(&mut timers, 58), [1]);
        assert_eq!(timers.next_in(58), Some(7));
        assert_eq!(due(&mut timers, 65), [1]);
        assert!(timers.cancel(interval, None));
        assert!(!timers.cancel(interval, None));
        assert!(timers.is_empty());
    }

    #[test]
    fn an_interval_can_be_cancelled_when_it_is_due() {
        let mut timers = Timers::new(None);
        let interval = set(&mut timers, When::Every(Duration::ZERO), 1, 0);
        assert_eq!(due(&mut timers, 1), [1], "once in a turn");
        assert!(timers.cancel(interval, None));
        assert!(timers.is_empty());
    }

    #[test]
    fn an_absolute_time_is_met_and_a_past_one_is_due_in_the_next_turn() {
        let mut timers = Timers::new(None);
        let soon = timers.instant(20) + Duration::from_micros(1);
        set(&mut timers, When::At(soon), 1, 10);
        let past = timers.instant(3);
        set(&mut timers, When::At(past), 2, 10);
        assert_eq!(due(&mut timers, 10), [2]);
        assert_eq!(timers.next_in(10), Some(11));
        assert_eq!(due(&mut timers, 21), [1]);
    }

    #[test]
    fn the_timers_of_a_session_are_cancelled_together() {
        let mut timers = Timers::new(None);
        let mut lists = [Link::default(); 3];
        for number in [1, 2] {
            let call = Call {
                key: number,
                scope: 0,
                session: Some(Id { slot: 3, number }),
            };
            let first = &mut lists[number as usize];
            timers.set(When::After(millis(5)), call, Some(first), 0);
            let id = timers.set(When::Every(millis(2)), call, Some(first), 0);
            assert_eq!(timers.session(id), call.session);
            let cancelled = timers.set(When::After(millis(1)), call, Some(first), 0);
            assert!(timers.cancel(cancelled, Some(first)));
            assert_eq!(timers.session(cancelled), None);
        }
        set(&mut timers, millis(9), 9, 0);
        assert_eq!(due_with(&mut timers, 2, &mut lists), [1, 2]);
        timers.cancel_all(&mut lists[1]);
        assert_eq!(due_with(&mut timers, 5, &mut lists), [2, 2]);
        timers.cancel_all(&mut lists[2]);
        assert_eq!(lists, [Link::default(); 3]);
        assert_eq!(due(&mut timers, 9), [9]);
        assert!(timers.is_empty());
    }

    #[test]
    fn cancelled_timers_take_no_memory() {
        let mut timers = Timers::new(None);
        // One timer that is due first, and one that is due last.
        set(&mut timers, millis(1), 1, 0);
        set(&mut timers, millis(1_000_000), 2, 0);
        for round in 0..100_000 {
            let timer = set(&mut timers, millis(1_000 + round % 7), 3, 0);
            assert!(timers.cancel(timer, None));
        }
        assert!(timers.queue.len() <= 3 + 2 * CANCELLED_MAX);
        assert!(timers.queue.capacity() <= 4 * CANCELLED_MAX);
        assert!(timers.timers.capacity() <= 8);
        assert_eq!(due(&mut timers, 1), [1]);
        assert_eq!(due(&mut timers, 1_000_000), [2]);
        assert!(timers.is_empty());
    }

    /// Compares random timers with a sorted list.
    #[test]
    fn timers_are_due_in_order_and_once() {
        let mut timers = Timers::new(None);
        let mut model: Vec<(u64, u64, TimerId)> = Vec::new();
        let mut random = 1_u64;
        for (now, key) in (0..20_000_u64).zip(0..) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let after = random >> 57;
            let timer = set(&mut timers, millis(after), key, now);
            model.push((now + after, key, timer));
            if random >> 40 & 3 == 0 {
                let index = (random >> 20) as usize % model.len();
                let (.., timer) = model.remove(index);
                assert!(timers.cancel(timer, None));
                assert!(!timers.cancel(timer, None));
            }
            model.sort_unstable_by_key(|(due, key, _)| (*due, *key));
            let count = model.partition_point(|(due, ..)| *due <= now);
            let expected: Vec<u64> = model.drain(..count).map(|(_, key, _)| key).collect();
            assert_eq!(due(&mut timers, now), expected);
        }
    }

    #[test]
    fn enormous_durations_do_not_overflow() {
        let mut timers = Timers::new(None);
        for when in [When::After(Duration::MAX), When::Every(Duration::MAX)] {
            let timer = set(&mut timers, when, 1, u64::MAX / 2);
            assert_eq!(due(&mut timers, u64::MAX - 1), []);
            assert!(timers.cancel(timer, None));
        }
        set(&mut timers, When::Every(Duration::from_millis(1)), 1, 0);
        assert_eq!(due(&mut timers, u64::MAX), [1]);
    }
}
