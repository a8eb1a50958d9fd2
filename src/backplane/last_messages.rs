//! [`LastMessages`]: sessions that a stop closes when the messages that they have published last have come back.

use crate::id::Id;
use std::collections::VecDeque;

/// The sessions that a stop is about to close, and that have published.
///
/// If such a session were closed at once, its client would not receive its last messages. It would publish them again at
/// another server, and all members would receive them twice.
#[derive(Debug, Default)]
pub(crate) struct LastMessages {
    /// Sessions with batches that the broker has not acknowledged, in the order in which they were added.
    unacknowledged: VecDeque<Waiting>,
    /// The other sessions, and when they are to be closed, in the order of these times.
    acknowledged: VecDeque<(u64, Id)>,
}

#[derive(Debug)]
struct Waiting {
    id: Id,
    /// The session's last message is in one of this number of batches, counted from the start of the server.
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

    /// Returns the milliseconds until a session is to be closed, even if the broker acknowledges nothing.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let acknowledged = self.acknowledged.front().map(|(close_at, _)| *close_at);
        let deadline = self.unacknowledged.front().map(|waiting| waiting.deadline);
        let next = acknowledged.into_iter().chain(deadline).min()?;
        Some(next.saturating_sub(now))
    }
}

/// Maximum milliseconds that a Close waits for the broker.
const ACKNOWLEDGEMENT_MILLIS_MAX: u64 = 1000;

/// Milliseconds from the acknowledgement of a session's last message to its Close. Redis 7.0 delivers a publication before it
/// acknowledges it, later versions after that, at once. Then a long publication may take some more reads.
const DELIVERY_MILLIS: u64 = 20;
