//! [`Gap`]: the members that have to learn that they may have missed messages.

use crate::id::Id;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

/// Members that may have missed messages, and were neither closed nor reported to the handler yet.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// Sessions to close.
    closes: VecDeque<Id>,
    /// The time of the first Close, and the milliseconds from it to the last one. `None` until all topics are subscribed again
    /// or the grace period has ended.
    schedule: Option<(u64, u64)>,
    /// The number of sessions in `closes` at the first Close.
    count: usize,
    /// Members to report to [`Handler::on_gap`](crate::Handler::on_gap): their lag policy lets them skip messages.
    skips: VecDeque<(Id, Arc<str>)>,
    /// Whether all topics are subscribed again.
    is_over: bool,
}

impl Gap {
    /// Adds members. A member that waits since an earlier gap is reported once.
    pub(crate) fn add(&mut self, closes: Vec<Id>, skips: Vec<(Id, Arc<str>)>) {
        self.closes = merged(mem::take(&mut self.closes), closes);
        self.skips = merged(mem::take(&mut self.skips), skips);
        self.schedule = None;
        self.is_over = false;
    }

    /// Begins to report the gap to all members, because all topics are subscribed again.
    pub(crate) fn end(&mut self, now: u64) {
        self.is_over = true;
        self.start_closes(now, GAP_SPREAD_MILLIS);
    }

    /// Begins to close the sessions, at regular intervals within `spread` milliseconds.
    pub(crate) fn start_closes(&mut self, now: u64, spread: u64) {
        self.count = self.closes.len();
        self.schedule = Some((now, spread));
    }

    /// Returns the number of sessions that are still to be closed.
    pub(crate) fn close_count(&self) -> usize {
        self.closes.len()
    }

    /// Returns the time of the next Close.
    fn next_close_at(&self) -> Option<u64> {
        let (start, spread) = self.schedule?;
        let closed = self.count - self.closes.len();
        (!self.closes.is_empty()).then(|| start + spread * closed as u64 / self.count as u64)
    }

    /// Removes and returns the next session to close, if its time has come.
    pub(crate) fn next_close(&mut self, now: u64) -> Option<Id> {
        let id = match self.next_close_at() {
            Some(at) if at <= now => self.closes.pop_front(),
            Some(_) | None => None,
        };
        release_empty(&mut self.closes);
        id
    }

    /// Removes and returns the next member and topic for `on_gap`.
    pub(crate) fn next_skip(&mut self) -> Option<(Id, Arc<str>)> {
        let skip = self.is_over.then(|| self.skips.pop_front()).flatten();
        release_empty(&mut self.skips);
        skip
    }

    /// Returns the milliseconds until the gap is to be reported to the next member.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        if self.is_over && !self.skips.is_empty() {
            return Some(0);
        }
        Some(self.next_close_at()?.saturating_sub(now))
    }
}

/// Returns the elements of both, sorted and without duplicates.
fn merged<T: Ord>(old: VecDeque<T>, new: Vec<T>) -> VecDeque<T> {
    let mut all = Vec::from(old);
    all.extend(new);
    all.sort_unstable();
    all.dedup();
    all.into()
}

fn release_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}

/// When all topics are subscribed again, their members are closed within this time, so that not all clients reconnect at
/// once.
const GAP_SPREAD_MILLIS: u64 = 5000;
