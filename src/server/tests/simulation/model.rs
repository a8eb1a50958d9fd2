//! The model: for each session, the messages that the server accepted for sending and the events that the handler received.
//! `check` compares it with what the peers sent and received. The model is updated only by what a handler can observe, never
//! from the engine's state.

use crate::config::{Config, LagPolicy, Replay};
use crate::error::Side;
use crate::id::{Id, TimerId};
use crate::outbound::SEGMENT_COST;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Names of the topics. Most profiles use the first four.
pub(super) const TOPICS: [&str; 40] = [
    "a", "b", "c", "d", "t04", "t05", "t06", "t07", "t08", "t09", "t10", "t11", "t12", "t13",
    "t14", "t15", "t16", "t17", "t18", "t19", "t20", "t21", "t22", "t23", "t24", "t25", "t26",
    "t27", "t28", "t29", "t30", "t31", "t32", "t33", "t34", "t35", "t36", "t37", "t38", "t39",
];

/// The model of a run; see the module.
#[derive(Debug)]
pub(super) struct Model {
    /// Time of the turn in milliseconds.
    pub(super) now: u64,
    /// Ids of all connections that the engine accepted, and the times at which it did so.
    pub(super) connected_at: BTreeMap<Id, u64>,
    /// Every session whose `on_open` was called.
    pub(super) sessions: BTreeMap<Id, SessionModel>,
    /// Members of each of [`TOPICS`]. Sessions that are no longer open are removed before each use.
    pub(super) members: [BTreeSet<Id>; TOPICS.len()],
    /// Lag policy of each of [`TOPICS`].
    pub(super) policies: [LagPolicy; TOPICS.len()],
    /// What each of [`TOPICS`] retains for members that join later.
    pub(super) retained: [Retained; TOPICS.len()],
    /// [`Config::replay_bytes_max`]
    replay_bytes_max: usize,
    /// [`Config::lag_bytes_max`]
    lag_bytes_max: usize,
    /// Pending timers and their keys, by due time and number: in the order in which they are due.
    pub(super) timers: BTreeMap<(u64, u64), (TimerId, u64)>,
    /// Number of sessions between `on_open` and `on_close`.
    pub(super) open_count: usize,
    /// Sequence number of the newest message.
    sequence: u64,
    /// Bytes published in this turn.
    published_bytes: usize,
    /// Maximum bytes published in one turn so far.
    pub(super) published_bytes_max: usize,
}

/// The model of one session.
#[derive(Debug)]
pub(super) struct SessionModel {
    /// `on_close` was called.
    pub(super) is_closed: bool,
    /// All messages that were accepted for sending to this session, in the order of the calls.
    pub(super) accepted: Vec<AcceptedMessage>,
    /// Number of skipped messages that `on_skip` reported, by topic.
    pub(super) skipped: [u64; TOPICS.len()],
    /// Number of messages received from the peer.
    pub(super) messages_in: u64,
    /// Time of the newest message, ping or pong that arrived while the session was open.
    pub(super) last_input_at: u64,
    /// Number of the newest ping that arrived while the session was open.
    pub(super) last_ping: Option<usize>,
    /// `on_error` was called.
    pub(super) has_failed: bool,
    /// The session was ended by the peer's Close or by the end of the peer's stream, and by nothing else before.
    pub(super) is_ended_by_peer: bool,
    /// The session has left a topic.
    pub(super) has_left_topic: bool,
}

/// The messages that a topic retains for members that join later.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) setting: Option<Replay>,
    /// Oldest first.
    messages: VecDeque<AcceptedMessage>,
    /// Sequence number of the last publication.
    published_at: u64,
}

/// A message that was accepted for sending. The payload is derived from the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedMessage {
    pub(super) to: Recipient,
    pub(super) sequence: u64,
    pub(super) len: usize,
}

/// The recipient of a message. It is part of the payload, so that a message that reaches a wrong peer is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    Session(Id),
    /// An index into [`TOPICS`].
    Topic(usize),
}

impl Model {
    pub(super) fn new(policies: [LagPolicy; TOPICS.len()], config: &Config) -> Self {
        Self {
            now: 0,
            connected_at: BTreeMap::new(),
            sessions: BTreeMap::new(),
            members: [const { BTreeSet::new() }; TOPICS.len()],
            policies,
            retained: [const { Retained::new() }; TOPICS.len()],
            replay_bytes_max: config.replay_bytes_max,
            lag_bytes_max: config.lag_bytes_max,
            timers: BTreeMap::new(),
            open_count: 0,
            sequence: 0,
            published_bytes: 0,
            published_bytes_max: 0,
        }
    }

    /// Starts a turn at the time `now`.
    pub(super) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        self.published_bytes = 0;
    }

    /// Returns the model of a session. Panics unless the session is between `on_open` and `on_close`.
    pub(super) fn open_session(&mut self, id: Id) -> &mut SessionModel {
        let session = self.sessions.get_mut(&id);
        let session = session.expect("an event of a session that was never opened");
        assert!(!session.is_closed, "an event after on_close");
        session
    }

    /// Records `on_open`. Panics if the id was used before.
    pub(super) fn record_open(&mut self, id: Id) {
        let session = SessionModel {
            is_closed: false,
            accepted: Vec::new(),
            skipped: [0; TOPICS.len()],
            messages_in: 0,
            last_input_at: self.now,
            last_ping: None,
            has_failed: false,
            is_ended_by_peer: false,
            has_left_topic: false,
        };
        let before = self.sessions.insert(id, session);
        assert!(before.is_none(), "an id was used again");
        self.open_count += 1;
    }

    /// Records `on_close`, and removes the session from its topics. Panics unless the session is open.
    pub(super) fn record_close(&mut self, id: Id, by: Side) {
        let session = self.open_session(id);
        session.is_closed = true;
        session.is_ended_by_peer = by == Side::Peer && !session.has_failed;
        self.open_count -= 1;
        for members in &mut self.members {
            members.remove(&id);
        }
    }

    /// Creates a message of `len` payload bytes, or more if the recipient and the sequence number need more.
    pub(super) fn message(&mut self, to: Recipient, len: usize) -> AcceptedMessage {
        self.sequence += 1;
        let sequence = self.sequence;
        let len = len.max(payload_start(to, sequence).len());
        AcceptedMessage { to, sequence, len }
    }

    /// Records that a direct message was accepted.
    pub(super) fn record_send(&mut self, id: Id, message: AcceptedMessage) {
        self.open_session(id).accepted.push(message);
    }

    /// Records a publication, as a message to every member but `except`.
    pub(super) fn record_publication(
        &mut self,
        topic: usize,
        message: AcceptedMessage,
        except: Option<Id>,
    ) {
        self.published_bytes += message.len + HEADER_BYTES_MAX;
        self.published_bytes_max = self.published_bytes_max.max(self.published_bytes);
        for id in self.members[topic].clone() {
            if Some(id) != except {
                self.record_send(id, message);
            }
        }
        let retained = &mut self.retained[topic];
        if retained.setting.is_some() {
            retained.messages.push_back(message);
            retained.published_at = message.sequence;
            self.release_retained(topic);
        }
    }

    /// Records that what a topic retains was set. `None`: the setting was removed.
    pub(super) fn record_replay(&mut self, topic: usize, setting: Option<Replay>) {
        self.retained[topic].setting = setting;
        self.release_retained(topic);
    }

    /// Records a join, with which the session receives the newest `count` messages that the topic retains: as many as the
    /// lag limit allows. Panics if there are too few. `has_unsent`: the session had unsent bytes before, so that it may
    /// receive fewer.
    pub(super) fn record_join(&mut self, topic: usize, id: Id, count: usize, has_unsent: bool) {
        self.members[topic].insert(id);
        let retained = &self.retained[topic].messages;
        let mut len = 0;
        let allowed = retained.iter().rev().take_while(|message| {
            len += message.frame_len();
            len + SEGMENT_COST <= self.lag_bytes_max
        });
        let allowed = allowed.count();
        assert!(
            count == allowed || has_unsent && count < allowed,
            "{count} messages replayed of {allowed}"
        );
        let replayed: Vec<_> = retained.range(retained.len() - count..).copied().collect();
        self.published_bytes += len;
        self.published_bytes_max = self.published_bytes_max.max(self.published_bytes);
        self.open_session(id).accepted.extend(replayed);
    }

    /// Releases messages until the topic is within its setting, and all topics are within `replay_bytes_max`.
    fn release_retained(&mut self, topic: usize) {
        let bytes_max = self.replay_bytes_max;
        let retained = &mut self.retained[topic];
        let is_within = |retained: &Retained| match retained.setting {
            None => retained.messages.is_empty(),
            Some(Replay::Messages(count)) => retained.messages.len() <= count,
            Some(Replay::Bytes(bytes)) => retained.len() <= bytes,
        };
        while !is_within(retained) || retained.cost(topic) > bytes_max {
            retained.messages.pop_front();
        }
        loop {
            let topics = self.retained.iter().enumerate();
            let costs = topics.map(|(topic, retained)| retained.cost(topic));
            if costs.sum::<usize>() <= bytes_max {
                return;
            }
            let filled = self.retained.iter_mut();
            let filled = filled.filter(|retained| !retained.messages.is_empty());
            let oldest = filled.min_by_key(|retained| retained.published_at);
            oldest.expect("one exceeds the limit").messages.clear();
        }
    }

    /// Records `on_timer`. Panics if the timer is early, or not the first of the pending timers.
    pub(super) fn expire_timer(&mut self, key: u64) {
        let first = self.timers.pop_first();
        let ((due, _), (_, expected)) = first.expect("a timer that was not set");
        assert_eq!(expected, key, "a timer fired out of order");
        assert!(due <= self.now, "a timer fired early");
    }
}

impl Retained {
    const fn new() -> Self {
        Self {
            setting: None,
            messages: VecDeque::new(),
            published_at: 0,
        }
    }

    /// Returns the bytes of the frames.
    fn len(&self) -> usize {
        self.messages.iter().map(AcceptedMessage::frame_len).sum()
    }

    /// Returns what the topic counts against [`Config::replay_bytes_max`].
    fn cost(&self, topic: usize) -> usize {
        match self.len() {
            0 => 0,
            len => len + TOPICS[topic].len() + 1024,
        }
    }
}

impl AcceptedMessage {
    /// Returns the bytes of the frame, header and payload.
    fn frame_len(&self) -> usize {
        let header = match self.len {
            0..=125 => 2,
            126..=65_535 => 4,
            _ => 10,
        };
        header + self.len
    }

    /// Returns the whole payload: recipient, sequence number, and padding that depends on the sequence number.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = payload_start(self.to, self.sequence).into_bytes();
        let padding = b'a' + (self.sequence % 26) as u8;
        payload.resize(self.len, padding);
        payload
    }

    /// Returns whether the message is text. Every other message is binary.
    pub(super) fn is_text(&self) -> bool {
        self.sequence.is_multiple_of(2)
    }

    /// Returns the topic that the message was published to; `None` for a direct message.
    pub(super) fn topic(&self) -> Option<usize> {
        match self.to {
            Recipient::Session(_) => None,
            Recipient::Topic(topic) => Some(topic),
        }
    }
}

/// Returns the start of a payload, which identifies the message.
fn payload_start(to: Recipient, sequence: u64) -> String {
    match to {
        Recipient::Session(id) => format!("{id}:{sequence}:"),
        Recipient::Topic(topic) => format!("{}:{sequence}:", TOPICS[topic]),
    }
}

/// Length of the longest frame header that a server sends.
pub(super) const HEADER_BYTES_MAX: usize = 10;
