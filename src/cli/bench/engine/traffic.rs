//! Operations on one connection: sending, reading, counting answers, and removing it when it fails or times out.

use super::super::connection::{LoadConnection, Lost, Received};
use super::super::greetings::Held;
use super::super::schedule::Schedule;
use super::{Engine, Phase, nanos};
use crate::cli::client::Stream;

impl Engine<'_> {
    /// Queues `messages` on a connection and writes as many as the socket accepts. Does nothing if the connection is
    /// lost.
    pub(super) fn send(&mut self, index: usize, messages: u64, now: u64) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        if self.schedule.awaited(index) == 0 {
            self.waiting_since[index] = now;
        }
        if let Schedule::Window(window) = &mut self.schedule {
            window.send(index, messages, now);
        }
        self.tally.sent += messages;
        connection.queue(messages);
        self.write(index);
    }

    /// Called when the connection's socket is writable.
    pub(super) fn unblock(&mut self, index: usize) {
        if let Some(connection) = &mut self.connections[index] {
            connection.unblock();
            self.write(index);
        }
    }

    fn write(&mut self, index: usize) {
        if let Some(connection) = &mut self.connections[index]
            && let Err(lost) = connection.write(self.requests)
        {
            self.lose(index, &lost);
        }
    }

    /// Reads from a connection and counts the received messages. `is_ended` is set when an event has reported the end
    /// of the stream or an error.
    pub(super) fn read(&mut self, index: usize, is_ended: bool) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let mut received = Received::default();
        let result = connection.read(&mut self.buf, self.expected, is_ended, &mut received);
        if received.bytes > 0 {
            self.count(index, received);
        }
        match result {
            Ok(true) => {}
            Ok(false) => self.unread.push(index),
            Err(lost) => {
                // Writes the Close that answers a Close or a violation.
                self.write(index);
                self.lose(index, &lost);
            }
        }
    }

    /// Counts the received bytes, and the received messages unless they are greetings.
    fn count(&mut self, index: usize, mut received: Received) {
        let now = self.clock.now();
        self.waiting_since[index] = now;
        self.tally.bytes += received.bytes;
        self.greetings.remove_from(&mut received, index, now);
        let answers = Held {
            index,
            messages: received.messages,
            received: now,
        };
        self.answer(answers, received.mismatched, now);
    }

    /// Counts messages as answers. `mismatched` of them differ from the one sent. With [`Schedule::Window`], sends one
    /// message for each answer.
    pub(super) fn answer(&mut self, answers: Held, mismatched: u64, now: u64) {
        let Held {
            index,
            messages,
            received,
        } = answers;
        let latencies = &mut self.tally.latencies;
        let surplus = self
            .schedule
            .record_received(index, messages, received, latencies);
        self.tally.messages += messages - surplus;
        if let Phase::Drain { .. } = self.phase {
            self.late += messages - surplus;
        }
        if surplus > 0 {
            self.errors.mismatch += surplus;
            self.first_error
                .get_or_insert_with(|| "received more messages than expected".to_owned());
        }
        if self.bench.verify && mismatched > 0 {
            self.errors.mismatch += mismatched;
            self.first_error.get_or_insert_with(|| {
                "received a message that differs from the one sent".to_owned()
            });
        }
        let again = match (&self.schedule, self.phase) {
            (_, Phase::Drain { .. }) | (Schedule::Pace(_) | Schedule::Rounds(_), _) => 0,
            (Schedule::Window(_), Phase::WarmUp { .. } | Phase::Measure { .. }) => {
                messages - surplus
            }
        };
        if again > 0 {
            self.send(index, again, now);
        } else {
            // Writes a queued pong, if any.
            self.write(index);
        }
    }

    /// Drops a connection that has failed and counts the error. The answers that it expected count as missing.
    fn lose(&mut self, index: usize, lost: &Lost) {
        let Some(mut connection) = self.connections[index].take() else {
            return;
        };
        connection.stream().end();
        self.live -= 1;
        self.greetings.remove(index);
        match lost {
            Lost::Write(_) | Lost::UnreadPongs => self.errors.write += 1,
            Lost::Read(_) | Lost::Ended | Lost::Closed | Lost::Protocol(_) => self.errors.read += 1,
        }
        self.abandon(index, &connection);
        self.first_error.get_or_insert_with(|| lost.to_string());
    }

    /// Counts what a removed connection expected as missing, and as unanswered unless it was not sent.
    fn abandon(&mut self, index: usize, connection: &LoadConnection<Stream>) {
        self.record_unanswered(index, self.schedule.awaited(index), self.clock.now());
        let awaited = self.schedule.remove(index);
        self.errors.missing += awaited;
        match self.schedule {
            Schedule::Window(_) | Schedule::Pace(_) => {
                let unstarted = connection.unstarted();
                self.tally.sent = self.tally.sent.saturating_sub(unstarted);
                self.unanswered += awaited.saturating_sub(unstarted);
            }
            Schedule::Rounds(_) => self.unanswered += awaited,
        }
    }

    /// Counts the connections that have expected an answer for `--timeout` without receiving anything. Drops them, or
    /// with [`Schedule::Rounds`] ends the round instead.
    pub(super) fn expire(&mut self, now: u64) {
        let timeout = nanos(self.bench.timeout);
        let silent = || {
            format!(
                "nothing was received for {:?} (--timeout)",
                self.bench.timeout
            )
        };
        if let Schedule::Rounds(rounds) = &mut self.schedule {
            if !rounds.is_complete() && now.saturating_sub(rounds.last_received) >= timeout {
                // No connection is dropped: the server may have lost messages although all connections work. If a
                // connection is dead, the next round times out as well.
                let (waiting, missing) = rounds.abandon();
                self.errors.timeout += waiting;
                self.errors.missing += missing;
                self.unanswered += missing;
                self.first_error.get_or_insert_with(silent);
                // Otherwise the next round would begin with the messages of this one.
                let cancelled = self.cancel_unstarted(now);
                self.tally.sent = self.tally.sent.saturating_sub(cancelled);
            }
            return;
        }
        for index in 0..self.connections.len() {
            let awaited = self.schedule.awaited(index);
            let is_silent = awaited > 0 && now.saturating_sub(self.waiting_since[index]) >= timeout;
            if is_silent && let Some(connection) = self.connections[index].take() {
                self.live -= 1;
                self.greetings.remove(index);
                self.errors.timeout += 1;
                self.abandon(index, &connection);
                self.first_error.get_or_insert_with(silent);
            }
        }
    }
}
