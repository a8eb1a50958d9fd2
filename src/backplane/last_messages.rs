//! [`LastMessages`]: sessions whose Close a stop delays until their last messages were delivered to them.

use crate::id::Id;
use std::collections::VecDeque;

/// The sessions that a stop is about to close, and that have published.
///
/// If such a session were closed at once, its client would not receive its last messages. It would publish them again at
/// another server, and all members would receive them twice.
#[derive(Debug, Default)]
pub(crate) struct LastMessages {
    /// Sessions that wait for the acknowledgement of all batches that existed when they were added, in that order.
    unacknowledged: VecDeque<Waiting>,
    /// Sessions whose batches were acknowledged or lost, with the time of the Close, in the order of these times.
    acknowledged: VecDeque<(u64, Id)>,
}

#[derive(Debug)]
struct Waiting {
    id: Id,
    /// [`BackplaneStats::batches`](super::BackplaneStats::batches) when the session was added: all its messages are in these
    /// batches.
    batches: u64,
    deadline: u64,
}

impl LastMessages {
    /// Adds a session from which the server does not read any more. `batches`: see [`Waiting::batches`].
    pub(crate) fn add(&mut self, id: Id, batches: u64, now: u64) {
        self.unacknowledged.push_back(Waiting {
            id,
            batches,
            deadline: now + ACKNOWLEDGEMENT_MILLIS_MAX,
        });
    }

    /// Removes and returns the next session to close, if its time has come. `acknowledged`: the number of batches that the
    /// broker has acknowledged, or that were lost.
    pub(crate) fn next(&mut self, acknowledged: u64, now: u64) -> Option<Id> {
        while let Some(waiting) = self.unacknowledged.front()
            && waiting.batches <= acknowledged
        {
            let close_at = waiting.deadline.min(now + DELIVERY_MILLIS);
            self.acknowledged.push_back((close_at, waiting.id));
            self.unacknowledged.pop_front();
        }
        if let Some((close_at, id)) = self.acknowledged.front().copied()
            && close_at <= now
        {
            self.acknowledged.pop_front();
            return Some(id);
        }
        let first = self.unacknowledged.front()?;
        if first.deadline > now {
            return None;
        }
        self.unacknowledged.pop_front().map(|waiting| waiting.id)
    }

    /// Returns whether no session waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty() && self.acknowledged.is_empty()
    }

    /// Returns the milliseconds until the next Close if no acknowledgement arrives before.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let acknowledged = self.acknowledged.front().map(|(close_at, _)| *close_at);
        let deadline = self.unacknowledged.front().map(|waiting| waiting.deadline);
        let next = acknowledged.into_iter().chain(deadline).min()?;
        Some(next.saturating_sub(now))
    }
}

/// Maximum milliseconds that a Close waits for acknowledgements. Then the session is closed without its last messages. A
/// broker that is reachable acknowledges within milliseconds, and a stop must not take long.
const ACKNOWLEDGEMENT_MILLIS_MAX: u64 = 1000;

/// Milliseconds between the acknowledgement and the Close. Since Redis 7.2, the acknowledgement precedes the publication, and
/// a read may end between them.
const DELIVERY_MILLIS: u64 = 20;
