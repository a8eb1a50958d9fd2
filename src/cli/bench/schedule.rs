//! When messages are sent, what is awaited, and how long it took: arithmetic on numbers of connections, counts and
//! nanoseconds that are handed in. No socket and no clock.

use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// A load, by its kind.
pub(super) enum Schedule {
    Window(Window),
    Pace(Pace),
    Rounds(Rounds),
}

impl Schedule {
    /// `messages` came to a connection: gives how many of them nobody asked for.
    pub(super) fn record_received(
        &mut self,
        index: usize,
        messages: u64,
        now: u64,
        latencies: &mut Histogram<u64>,
    ) -> u64 {
        match self {
            Self::Window(window) => window.record_received(index, messages, now, latencies),
            Self::Pace(pace) => pace.record_received(index, messages, now, latencies),
            Self::Rounds(rounds) => rounds.record_received(index, messages, now, latencies),
        }
    }

    /// Messages that a connection waits for.
    pub(super) fn awaited(&self, index: usize) -> u64 {
        match self {
            Self::Window(window) => window.awaited(index),
            Self::Pace(pace) => pace.awaited(index),
            Self::Rounds(rounds) => rounds.awaited(index),
        }
    }

    /// A connection is gone: gives how many messages it waited for.
    pub(super) fn remove(&mut self, index: usize) -> u64 {
        match self {
            Self::Window(window) => {
                let awaited = window.awaited(index);
                window.cancel(index, awaited);
                awaited
            }
            Self::Pace(pace) => {
                let awaited = pace.awaited(index);
                pace.cancel(index, awaited);
                awaited
            }
            Self::Rounds(rounds) => rounds.remove(index),
        }
    }

    /// The newest messages of a connection are not sent after all.
    pub(super) fn cancel(&mut self, index: usize, messages: u64) {
        match self {
            Self::Window(window) => window.cancel(index, messages),
            Self::Pace(pace) => pace.cancel(index, messages),
            Self::Rounds(_) => debug_assert!(messages == 0, "a load of rounds ends after one"),
        }
    }
}

/// Closed loop: each answer is followed by the next message.
pub(super) struct Window {
    pub(super) in_flight: u64,
    /// For each connection, what it waits for, oldest first: messages that were sent together share their time.
    batches: Vec<VecDeque<Batch>>,
}

struct Batch {
    sent: u64,
    messages: u64,
}

impl Window {
    pub(super) fn new(connections: usize, in_flight: u64) -> Self {
        Self {
            in_flight,
            batches: (0..connections).map(|_| VecDeque::new()).collect(),
        }
    }

    pub(super) fn send(&mut self, index: usize, messages: u64, now: u64) {
        self.batches[index].push_back(Batch {
            sent: now,
            messages,
        });
    }

    fn record_received(
        &mut self,
        index: usize,
        mut messages: u64,
        now: u64,
        latencies: &mut Histogram<u64>,
    ) -> u64 {
        let batches = &mut self.batches[index];
        while messages > 0
            && let Some(batch) = batches.front_mut()
        {
            let answered = messages.min(batch.messages);
            latencies.saturating_record_n(now.saturating_sub(batch.sent), answered);
            messages -= answered;
            batch.messages -= answered;
            if batch.messages == 0 {
                batches.pop_front();
            }
        }
        messages
    }

    fn awaited(&self, index: usize) -> u64 {
        self.batches[index].iter().map(|batch| batch.messages).sum()
    }

    fn cancel(&mut self, index: usize, mut messages: u64) {
        let batches = &mut self.batches[index];
        while messages > 0
            && let Some(batch) = batches.back_mut()
        {
            let cancelled = messages.min(batch.messages);
            messages -= cancelled;
            batch.messages -= cancelled;
            if batch.messages == 0 {
                batches.pop_back();
            }
        }
    }
}

/// Open loop: message `k` of the run is due at `k / rate` seconds, on connection `k` modulo their number, whatever
/// the server does. Its latency counts from when it was due, not from when it could be sent: a server that stalls
/// is charged for every message that had to wait (the correction for coordinated omission), to the end of the run and
/// beyond: see [`record_unanswered`](Self::record_unanswered).
pub(super) struct Pace {
    rate: u64,
    started: u64,
    /// Messages of the run that were due so far.
    due: u64,
    /// For each connection, messages sent and answered.
    counts: Vec<(u64, u64)>,
}

impl Pace {
    /// Begins now; `rate` is a second's messages over all connections.
    pub(super) fn new(connections: usize, rate: u64, now: u64) -> Self {
        Self {
            rate,
            started: now,
            due: 0,
            counts: vec![(0, 0); connections],
        }
    }

    /// When a message of the run is due. In two parts, since the product of the whole would not fit.
    fn due_at(&self, message: u64) -> u64 {
        let (seconds, rest) = (message / self.rate, message % self.rate);
        self.started + seconds * SECOND + rest * SECOND / self.rate
    }

    /// When the next message is due.
    pub(super) fn next_due(&self) -> u64 {
        self.due_at(self.due)
    }

    /// Tells for each connection in turn how many messages have become due on it.
    pub(super) fn send_due(&mut self, now: u64, mut send: impl FnMut(usize, u64)) {
        let elapsed = now.saturating_sub(self.started);
        let (seconds, rest) = (elapsed / SECOND, elapsed % SECOND);
        // The first one is due at the start; rounding may hold one back until the next call.
        let due = seconds * self.rate + rest * self.rate / SECOND + 1;
        let connections = self.counts.len() as u64;
        let new = due.saturating_sub(self.due);
        for offset in 0..new.min(connections) {
            let index = ((self.due + offset) % connections) as usize;
            let messages = (new - offset).div_ceil(connections);
            self.counts[index].0 += messages;
            send(index, messages);
        }
        self.due += new;
    }

    fn record_received(
        &mut self,
        index: usize,
        messages: u64,
        now: u64,
        latencies: &mut Histogram<u64>,
    ) -> u64 {
        let connections = self.counts.len() as u64;
        let accepted = messages.min(self.awaited(index));
        for _ in 0..accepted {
            let message = self.counts[index].1 * connections + index as u64;
            latencies.saturating_record(now.saturating_sub(self.due_at(message)));
            self.counts[index].1 += 1;
        }
        messages - accepted
    }

    /// The newest messages of a connection have no answer, and will have none: each counts with the time that it has
    /// waited for one.
    pub(super) fn record_unanswered(
        &self,
        index: usize,
        messages: u64,
        now: u64,
        latencies: &mut Histogram<u64>,
    ) {
        let connections = self.counts.len() as u64;
        let (sent, _) = self.counts[index];
        for nth in sent - messages..sent {
            let due = self.due_at(nth * connections + index as u64);
            latencies.saturating_record(now.saturating_sub(due));
        }
    }

    fn awaited(&self, index: usize) -> u64 {
        let (sent, answered) = self.counts[index];
        sent - answered
    }

    fn cancel(&mut self, index: usize, messages: u64) {
        self.counts[index].0 -= messages;
    }
}

/// Broadcast: some connections send, all receive all, and then the next round begins. Its latency is that of a
/// round, from the first message sent to the last one received.
pub(super) struct Rounds {
    senders: usize,
    burst: u64,
    /// For each connection, what it has of this round; `None` if it is gone.
    received: Vec<Option<u64>>,
    /// What each connection must receive in this round.
    expected: u64,
    /// Connections that have not received all.
    waiting: usize,
    started: u64,
    /// When something last arrived.
    pub(super) last_received: u64,
}

impl Rounds {
    /// Before the first round.
    pub(super) fn new(connections: usize, senders: usize, burst: u64) -> Self {
        Self {
            senders,
            burst,
            received: vec![Some(0); connections],
            expected: 0,
            waiting: 0,
            started: 0,
            last_received: 0,
        }
    }

    /// Begins a round; tells who sends how many messages.
    pub(super) fn start(&mut self, now: u64, mut send: impl FnMut(usize, u64)) {
        self.started = now;
        self.last_received = now;
        self.expected = 0;
        for index in 0..self.senders {
            if self.received[index].is_some() {
                self.expected += self.burst;
                send(index, self.burst);
            }
        }
        let members = self.received.iter_mut().flatten();
        self.waiting = members.map(|received| *received = 0).count();
        if self.expected == 0 {
            self.waiting = 0;
        }
    }

    /// Whether somebody is left who sends.
    pub(super) fn has_senders(&self) -> bool {
        self.received[..self.senders].iter().any(Option::is_some)
    }

    /// Whether everyone has received all.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    /// Gives up on what has not come: how many connections wait, and for how many messages.
    pub(super) fn abandon(&mut self) -> (u64, u64) {
        let waiting = self.waiting as u64;
        let members = self.received.iter_mut().flatten();
        let missing = members
            .map(|received| self.expected - std::mem::replace(received, self.expected))
            .sum();
        self.waiting = 0;
        (waiting, missing)
    }

    fn record_received(
        &mut self,
        index: usize,
        messages: u64,
        now: u64,
        latencies: &mut Histogram<u64>,
    ) -> u64 {
        let Some(received) = &mut self.received[index] else {
            return messages;
        };
        let accepted = messages.min(self.expected - *received);
        *received += accepted;
        if accepted > 0 {
            self.last_received = now;
            if *received == self.expected {
                self.waiting -= 1;
                if self.waiting == 0 {
                    latencies.saturating_record(now.saturating_sub(self.started));
                }
            }
        }
        messages - accepted
    }

    fn awaited(&self, index: usize) -> u64 {
        self.received[index].map_or(0, |received| self.expected - received)
    }

    fn remove(&mut self, index: usize) -> u64 {
        let awaited = self.awaited(index);
        self.received[index] = None;
        if awaited > 0 {
            self.waiting -= 1;
        }
        awaited
    }
}

/// In nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
