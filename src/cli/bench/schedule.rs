//! Decides when messages are sent, counts the answers that are expected, and records latencies.
//!
//! Connections are indices, and times are nanoseconds passed as arguments: this module has no socket and no clock.

use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// The kind of load and its state.
pub(super) enum Schedule {
    /// `--in-flight`
    Window(Window),
    /// `--rate`
    Pace(Pace),
    /// `--mode broadcast`
    Rounds(Rounds),
}

impl Schedule {
    /// Called when `messages` have arrived on a connection. Records their latencies. Returns how many of them were not
    /// expected.
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

    /// Returns the number of messages that a connection expects.
    pub(super) fn awaited(&self, index: usize) -> u64 {
        match self {
            Self::Window(window) => window.awaited(index),
            Self::Pace(pace) => pace.awaited(index),
            Self::Rounds(rounds) => rounds.awaited(index),
        }
    }

    /// Removes a connection. Returns the number of messages that it expected.
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

    /// Called when the newest `messages` scheduled on a connection will not be sent: their answers are no longer
    /// expected.
    pub(super) fn cancel(&mut self, index: usize, messages: u64) {
        match self {
            Self::Window(window) => window.cancel(index, messages),
            Self::Pace(pace) => pace.cancel(index, messages),
            // The expected messages of a round were received, or were counted as missing when it was abandoned.
            Self::Rounds(_) => {}
        }
    }
}

/// Closed loop: each connection has `in_flight` messages without an answer, and sends the next message when an answer
/// arrives.
pub(super) struct Window {
    pub(super) in_flight: u64,
    /// For each connection, the messages without an answer, oldest first.
    batches: Vec<VecDeque<Batch>>,
}

/// Messages that were sent at the same time and are not answered.
struct Batch {
    /// When they were sent.
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

    /// Called when `messages` are sent on a connection.
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

/// Open loop: message `k` of the run is due `k / rate` seconds after the start, on connection `k` modulo the number of
/// connections, no matter how many answers are missing.
///
/// The latency of a message counts from the time when it was due, not from the time when it was sent. If the server
/// stalls, all messages that had to wait have a longer latency (the correction for coordinated omission). Messages
/// without an answer at the end of the run are included: see [`record_unanswered`](Self::record_unanswered).
pub(super) struct Pace {
    /// Messages per second, over all connections.
    rate: u64,
    started: u64,
    /// Number of messages of the run that have become due.
    due: u64,
    /// For each connection, the numbers of messages scheduled and answered.
    counts: Vec<(u64, u64)>,
}

impl Pace {
    /// Starts at `now`. `rate` is in messages per second over all connections.
    pub(super) fn new(connections: usize, rate: u64, now: u64) -> Self {
        Self {
            rate,
            started: now,
            due: 0,
            counts: vec![(0, 0); connections],
        }
    }

    /// Returns when message number `message` of the run is due. Seconds and remainder are computed separately because
    /// `message * SECOND` could overflow.
    fn due_at(&self, message: u64) -> u64 {
        let (seconds, rest) = (message / self.rate, message % self.rate);
        self.started + seconds * SECOND + rest * SECOND / self.rate
    }

    /// Returns when the next message is due.
    pub(super) fn next_due(&self) -> u64 {
        self.due_at(self.due)
    }

    /// Calls `send` with each connection on which messages have become due, in round-robin order, and their number.
    pub(super) fn send_due(&mut self, now: u64, mut send: impl FnMut(usize, u64)) {
        let elapsed = now.saturating_sub(self.started);
        let (seconds, rest) = (elapsed / SECOND, elapsed % SECOND);
        // The first message is due at the start, hence + 1. Rounding may delay a message until the next call.
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

    /// Records the latencies of the newest `messages` of a connection, which will not be answered: for each of them the
    /// time since it was due. Without this, a stall at the end of the run would not be visible.
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

/// Broadcast in rounds: some connections send, and when all connections have received all messages, the next round
/// starts. The recorded latency is that of a round, from the first send to the last message received.
pub(super) struct Rounds {
    /// The connections with an index below this one send.
    senders: usize,
    /// Messages that each sender sends per round.
    burst: u64,
    /// For each connection, the number of messages received in this round. `None` for a removed connection.
    received: Vec<Option<u64>>,
    /// Number of messages that each connection must receive in this round.
    expected: u64,
    /// Number of connections that have not received all messages of this round.
    waiting: usize,
    /// When the round started.
    started: u64,
    /// When a message of the round last arrived, or the start of the round.
    pub(super) last_received: u64,
}

impl Rounds {
    /// Creates the state before the first round, in which a round counts as complete.
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

    /// Starts a round. Calls `send` with each connection that must send, and the number of messages.
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
        let live = self.received.iter_mut().flatten();
        self.waiting = live.map(|received| *received = 0).count();
        if self.expected == 0 {
            self.waiting = 0;
        }
    }

    /// Returns whether any connection that sends has not been removed.
    pub(super) fn has_senders(&self) -> bool {
        self.received[..self.senders].iter().any(Option::is_some)
    }

    /// Returns whether all connections have received all messages of the round.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting == 0
    }

    /// Ends the round although messages are missing. Returns the number of connections that lack messages, and the
    /// number of missing messages.
    pub(super) fn abandon(&mut self) -> (u64, u64) {
        let waiting = self.waiting as u64;
        let live = self.received.iter_mut().flatten();
        let missing = live
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

/// Nanoseconds per second.
pub(super) const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
