//! Separates greetings from answers. A greeting is a message that a server sends to a new connection and that answers
//! nothing; counted as the answer to the first message, it would make every latency that of another message.
//!
//! Messages that arrive before the load starts are greetings; they are read in `connect` and do not get here. A later
//! greeting is found by its content: an echo or a broadcast returns the messages that were sent, so the messages of a
//! connection before the first of those are greetings. Until that message arrives, they are held. If it does not arrive
//! within a limited time, the server answers with other content, and the held messages are answers. With
//! `--skip-greeting`, the number decides instead of the content.
//!
//! Times are nanoseconds passed as arguments.

use super::connection::Received;
use std::collections::VecDeque;

/// What is known about the greetings of all connections.
pub(super) struct Greetings {
    /// By the index of the connection.
    states: Vec<State>,
    /// Maximum time for which messages are held, in nanoseconds.
    hold_time: u64,
    /// When the messages of a connection cease to be held, in the order of these times. An entry remains when the
    /// expected message arrives earlier.
    deadlines: VecDeque<(u64, usize)>,
    /// Whether any connection has received the expected message after holding was possible.
    has_matched: bool,
    /// Number of greetings, including those before the load.
    skipped: u64,
}

enum State {
    /// With `--skip-greeting`: this many messages are still to be skipped.
    Skipping(u64),
    /// All messages so far differ from the expected one. They are held.
    Undecided(Vec<Held>),
    /// All further messages are answers.
    Answers,
}

/// Messages of a connection that were held, or that are answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) index: usize,
    pub(super) messages: u64,
    /// When they arrived.
    pub(super) received: u64,
}

impl Greetings {
    /// `skip` is the number of `--skip-greeting`, `before` the number of messages that each connection has received
    /// before the load. `timeout` is that of `--timeout` in nanoseconds: messages are held for half of it at most.
    pub(super) fn new(skip: Option<u64>, before: &[u64], timeout: u64) -> Self {
        let state = |before: &u64| match skip {
            Some(skip) => State::Skipping(skip.saturating_sub(*before)),
            None => State::Undecided(Vec::new()),
        };
        Self {
            states: before.iter().map(state).collect(),
            hold_time: HOLD_TIME.min(timeout / 2),
            deadlines: VecDeque::new(),
            has_matched: false,
            skipped: before.iter().sum(),
        }
    }

    /// Returns the number of messages that were skipped.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Called when messages have arrived. Removes greetings and held messages from `received`: the rest are answers.
    pub(super) fn remove_from(&mut self, received: &mut Received, index: usize, now: u64) {
        let state = &mut self.states[index];
        let dropped = match state {
            State::Answers => return,
            State::Skipping(left) => {
                let dropped = received.messages.min(*left);
                *left -= dropped;
                if *left == 0 {
                    *state = State::Answers;
                }
                self.skipped += dropped;
                dropped
            }
            State::Undecided(held) => {
                let dropped = received.leading;
                if received.messages > dropped {
                    self.skipped += dropped + held.iter().map(|held| held.messages).sum::<u64>();
                    self.has_matched = true;
                    *state = State::Answers;
                } else if dropped > 0 {
                    if held.is_empty() {
                        self.deadlines.push_back((now + self.hold_time, index));
                    }
                    held.push(Held {
                        index,
                        messages: dropped,
                        received: now,
                    });
                }
                dropped
            }
        };
        received.messages -= dropped;
        // Beyond the leading messages, it is not known which of them differ.
        received.mismatched -= dropped.min(received.leading);
        received.mismatched = received.mismatched.min(received.messages);
        received.leading -= dropped.min(received.leading);
    }

    /// Returns when messages next cease to be held.
    pub(super) fn next_release(&self) -> Option<u64> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Returns whether messages may cease to be held later than `now`.
    pub(super) fn is_holding(&self, now: u64) -> bool {
        self.next_release().is_some_and(|release| now < release)
    }

    /// Appends to `released` the messages that have been held for the maximum time: they are answers. If no connection
    /// has received the expected message by then, holds none from now on, appends those of all connections, and returns
    /// `true`: the server is one that answers with other content.
    pub(super) fn release(&mut self, now: u64, released: &mut Vec<Held>) -> bool {
        while let Some(&(deadline, index)) = self.deadlines.front() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_front();
            if self.take(index, released) && !self.has_matched {
                for index in 0..self.states.len() {
                    self.take(index, released);
                }
                self.deadlines.clear();
                return true;
            }
        }
        false
    }

    /// Ends holding for a connection. Returns whether messages were held.
    fn take(&mut self, index: usize, released: &mut Vec<Held>) -> bool {
        let State::Undecided(held) = &self.states[index] else {
            return false;
        };
        released.extend(held);
        let has_held = !held.is_empty();
        self.states[index] = State::Answers;
        has_held
    }

    /// Drops what is held for a lost connection.
    pub(super) fn remove(&mut self, index: usize) {
        self.states[index] = State::Answers;
    }
}

/// Maximum time for which messages are held, in nanoseconds: more than an echo takes over the longest routes of the
/// Internet, and short enough for a run against a server that answers with other content.
const HOLD_TIME: u64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// `leading` messages that differ, then `equal` expected ones, then `different` ones.
    fn received(leading: u64, equal: u64, different: u64) -> Received {
        Received {
            bytes: 0,
            messages: leading + equal + different,
            mismatched: leading + different,
            leading: if equal == 0 {
                leading + different
            } else {
                leading
            },
        }
    }

    /// Returns the messages that count as answers, and how many of them differ.
    fn answers(greetings: &mut Greetings, index: usize, mut received: Received) -> (u64, u64) {
        greetings.remove_from(&mut received, index, 7);
        (received.messages, received.mismatched)
    }

    #[test]
    fn messages_before_the_first_expected_one_are_greetings() {
        let mut all = Greetings::new(None, &[0, 2, 0], 10 * SECOND);
        assert_eq!(answers(&mut all, 0, received(2, 1, 3)), (4, 3));
        assert_eq!(answers(&mut all, 1, received(1, 0, 0)), (0, 0));
        assert_eq!(answers(&mut all, 1, received(2, 0, 0)), (0, 0));
        assert_eq!(answers(&mut all, 1, received(0, 1, 0)), (1, 0));
        assert_eq!(answers(&mut all, 2, received(0, 5, 0)), (5, 0));
        assert_eq!(all.skipped(), 2 + 2 + 3);
        // After the first expected message, others are answers with other content.
        assert_eq!(answers(&mut all, 1, received(2, 0, 0)), (2, 2));
        let mut released = Vec::new();
        assert!(!all.release(SECOND, &mut released) && released.is_empty());
    }

    #[test]
    fn messages_are_answers_if_no_expected_one_follows() {
        let mut all = Greetings::new(None, &[0, 0, 0], 10 * SECOND);
        assert_eq!(all.next_release(), None);
        assert_eq!(answers(&mut all, 2, received(1, 0, 0)), (0, 0));
        assert_eq!(answers(&mut all, 0, received(3, 0, 0)), (0, 0));
        let deadline = all.next_release().unwrap();
        assert_eq!(deadline, 7 + HOLD_TIME);
        let mut released = Vec::new();
        assert!(!all.release(deadline - 1, &mut released) && released.is_empty());
        assert!(all.release(deadline, &mut released));
        let held = |index, messages| Held {
            index,
            messages,
            received: 7,
        };
        assert_eq!(released, [held(2, 1), held(0, 3)]);
        // Nothing is held from now on, on no connection.
        assert_eq!(all.next_release(), None);
        assert_eq!(answers(&mut all, 1, received(2, 0, 0)), (2, 2));
        assert_eq!(all.skipped(), 0);
    }

    #[test]
    fn one_connection_with_other_content_does_not_end_the_search_on_the_others() {
        let mut all = Greetings::new(None, &[0, 0, 0], SECOND / 10);
        assert_eq!(answers(&mut all, 0, received(0, 1, 0)), (1, 0));
        assert_eq!(answers(&mut all, 1, received(1, 0, 0)), (0, 0));
        let mut released = Vec::new();
        assert!(!all.release(7 + SECOND / 20, &mut released));
        assert_eq!(released.len(), 1);
        assert_eq!(answers(&mut all, 2, received(1, 1, 0)), (1, 0));
    }

    #[test]
    fn a_number_of_greetings_decides_instead_of_their_content() {
        let mut all = Greetings::new(Some(3), &[0, 2, 5], SECOND);
        assert_eq!(answers(&mut all, 0, received(2, 0, 0)), (0, 0));
        // An expected message as greeting, and an answer with other content.
        assert_eq!(answers(&mut all, 0, received(0, 1, 1)), (1, 1));
        assert_eq!(answers(&mut all, 1, received(2, 0, 0)), (1, 1));
        assert_eq!(answers(&mut all, 2, received(1, 0, 0)), (1, 1));
        assert_eq!((all.skipped(), all.next_release()), (7 + 3 + 1, None));
        let mut none = Greetings::new(Some(0), &[0], SECOND);
        assert_eq!(answers(&mut none, 0, received(1, 1, 0)), (2, 1));
    }

    #[test]
    fn what_is_held_for_a_lost_connection_is_dropped() {
        let mut all = Greetings::new(None, &[0], SECOND);
        assert_eq!(answers(&mut all, 0, received(1, 0, 0)), (0, 0));
        all.remove(0);
        let mut released = Vec::new();
        assert!(!all.release(SECOND, &mut released) && released.is_empty());
    }
}
