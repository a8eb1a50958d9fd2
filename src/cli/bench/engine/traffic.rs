//! What is done to one connection: send, write, read, count, lose.

use super::super::member::{Lost, Received};
use super::super::sending::Sending;
use super::{Engine, Phase, nanos};

impl Engine<'_> {
    pub(super) fn send(&mut self, index: usize, messages: u64, now: u64) {
        let Some(member) = &mut self.members[index] else {
            return;
        };
        if self.sending.awaited(index) == 0 {
            self.heard[index] = now;
        }
        if let Sending::Window(window) = &mut self.sending {
            window.send(index, messages, now);
        }
        self.tally.sent += messages;
        member.owe(messages);
        self.write(index);
    }

    pub(super) fn unblock(&mut self, index: usize) {
        if let Some(member) = &mut self.members[index] {
            member.unblock();
            self.write(index);
        }
    }

    fn write(&mut self, index: usize) {
        if let Some(member) = &mut self.members[index]
            && let Err(lost) = member.write(self.requests)
        {
            self.lose(index, &lost);
        }
    }

    pub(super) fn read(&mut self, index: usize, is_ended: bool) {
        let Some(member) = &mut self.members[index] else {
            return;
        };
        let mut received = Received::default();
        let result = member.read(&mut self.buf, self.expected, is_ended, &mut received);
        if received.bytes > 0 {
            self.count(index, received);
        }
        match result {
            Ok(true) => {}
            Ok(false) => self.again.push(index),
            Err(lost) => {
                // The answer to a Close.
                self.write(index);
                self.lose(index, &lost);
            }
        }
    }

    /// What arrived counts, and in a closed loop so much is sent again.
    fn count(&mut self, index: usize, received: Received) {
        let now = self.clock.now();
        self.heard[index] = now;
        self.tally.bytes += received.bytes;
        let messages = received.messages;
        let latencies = &mut self.tally.latencies;
        let surplus = self.sending.answered(index, messages, now, latencies);
        self.tally.messages += messages - surplus;
        if surplus > 0 {
            self.errors.mismatch += surplus;
            self.first_error
                .get_or_insert_with(|| "a message came that nobody asked for".to_owned());
        }
        if self.bench.verify && received.others > 0 {
            self.errors.mismatch += received.others;
            self.first_error
                .get_or_insert_with(|| "a message differs from the one that was sent".to_owned());
        }
        let again = match (&self.sending, self.phase) {
            (_, Phase::Drain { .. }) | (Sending::Pace(_) | Sending::Rounds(_), _) => 0,
            (Sending::Window(_), Phase::WarmUp { .. } | Phase::Measure { .. }) => {
                messages - surplus
            }
        };
        if again > 0 {
            self.send(index, again, now);
        } else {
            // A pong may be owed.
            self.write(index);
        }
    }

    fn lose(&mut self, index: usize, lost: &Lost) {
        if self.members[index].take().is_none() {
            return;
        }
        self.live -= 1;
        match lost {
            Lost::Write(_) => self.errors.write += 1,
            Lost::Read(_) | Lost::Ended | Lost::Closed | Lost::Protocol(_) => self.errors.read += 1,
        }
        self.charge(index, self.sending.awaited(index), self.clock.now());
        self.errors.missing += self.sending.lost(index);
        self.first_error.get_or_insert_with(|| lost.to_string());
    }

    /// Gives up on what nothing was heard of for too long.
    pub(super) fn expire(&mut self, now: u64) {
        let timeout = nanos(self.bench.timeout);
        let silent = || format!("nothing came for {:?}", self.bench.timeout);
        if let Sending::Rounds(rounds) = &mut self.sending {
            if !rounds.is_complete() && now.saturating_sub(rounds.heard) >= timeout {
                // They may be well, and others have swallowed the messages: the next round will tell.
                let (waiting, missing) = rounds.abandon();
                self.errors.timeout += waiting;
                self.errors.missing += missing;
                self.first_error.get_or_insert_with(silent);
            }
            return;
        }
        for index in 0..self.members.len() {
            let awaited = self.sending.awaited(index);
            let is_silent = awaited > 0 && now.saturating_sub(self.heard[index]) >= timeout;
            if is_silent && self.members[index].take().is_some() {
                self.live -= 1;
                self.errors.timeout += 1;
                self.errors.missing += self.sending.lost(index);
                self.first_error.get_or_insert_with(silent);
            }
        }
    }
}
