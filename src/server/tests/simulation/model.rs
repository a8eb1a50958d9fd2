//! What the handler was promised, session by session: the other side of the account that `check` settles with what
//! the peers received. It knows nothing of the engine but what a handler is told.

use crate::config::LagPolicy;
use crate::error::Side;
use crate::id::{Id, TimerId};
use std::collections::{BTreeMap, BTreeSet};

/// The topics of every run. Most runs use the first four.
pub(super) const TOPICS: [&str; 40] = [
    "a", "b", "c", "d", "t04", "t05", "t06", "t07", "t08", "t09", "t10", "t11", "t12", "t13",
    "t14", "t15", "t16", "t17", "t18", "t19", "t20", "t21", "t22", "t23", "t24", "t25", "t26",
    "t27", "t28", "t29", "t30", "t31", "t32", "t33", "t34", "t35", "t36", "t37", "t38", "t39",
];

/// See the module.
#[derive(Debug)]
pub(super) struct Model {
    /// As of this turn.
    pub(super) now: u64,
    /// Every connection that was taken, and when.
    pub(super) connected_at: BTreeMap<Id, u64>,
    /// Every session whose `on_open` was called.
    pub(super) sessions: BTreeMap<Id, SessionModel>,
    /// Who is in each of [`TOPICS`]; those that are no longer open count no more.
    pub(super) members: [BTreeSet<Id>; TOPICS.len()],
    pub(super) policies: [LagPolicy; TOPICS.len()],
    /// Timers that are set, and their keys.
    pub(super) timers: BTreeMap<TimerId, u64>,
    /// How many sessions are between `on_open` and `on_close`.
    pub(super) open_count: usize,
    sequence: u64,
    /// Bytes published in this turn, and in the turn with the most.
    published_bytes: usize,
    pub(super) published_bytes_max: usize,
}

/// One session's.
#[derive(Debug)]
pub(super) struct SessionModel {
    pub(super) is_closed: bool,
    /// All that was accepted for sending, in the order of the calls.
    pub(super) accepted: Vec<AcceptedMessage>,
    /// What `on_skip` told, by topic.
    pub(super) skipped: [u64; TOPICS.len()],
    /// How many messages came from the peer.
    pub(super) messages_in: u64,
    pub(super) last_input_at: u64,
    /// The number of the newest ping that came while the session was open.
    pub(super) last_ping: Option<usize>,
    pub(super) has_failed: bool,
    /// The peer's Close or the end of its stream came before anything else ended the session.
    pub(super) is_ended_by_peer: bool,
    /// It has left a topic.
    pub(super) has_left_topic: bool,
}

/// One message that was accepted for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedMessage {
    pub(super) to: Recipient,
    pub(super) sequence: u64,
    pub(super) len: usize,
}

/// Whom a message names, so that it is known wherever it turns up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    Session(Id),
    /// By its place in [`TOPICS`].
    Topic(usize),
}

impl Model {
    pub(super) fn new(policies: [LagPolicy; TOPICS.len()]) -> Self {
        Self {
            now: 0,
            connected_at: BTreeMap::new(),
            sessions: BTreeMap::new(),
            members: [const { BTreeSet::new() }; TOPICS.len()],
            policies,
            timers: BTreeMap::new(),
            open_count: 0,
            sequence: 0,
            published_bytes: 0,
            published_bytes_max: 0,
        }
    }

    pub(super) fn begin_turn(&mut self, now: u64) {
        self.now = now;
        self.published_bytes = 0;
    }

    /// The session's, which is open: it was opened and not closed.
    pub(super) fn open_session(&mut self, id: Id) -> &mut SessionModel {
        let session = self.sessions.get_mut(&id);
        let session = session.expect("an event of a session that was never opened");
        assert!(!session.is_closed, "an event after on_close");
        session
    }

    /// The session is opened, for the first and only time.
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
        assert!(before.is_none(), "a name is never used again");
        self.open_count += 1;
    }

    /// The session is closed, once, and is in no topic any more.
    pub(super) fn record_close(&mut self, id: Id, by: Side) {
        let session = self.open_session(id);
        session.is_closed = true;
        session.is_ended_by_peer = by == Side::Peer && !session.has_failed;
        self.open_count -= 1;
        for members in &mut self.members {
            members.remove(&id);
        }
    }

    /// A new message of `len` bytes, or more if it takes more to name `to`.
    pub(super) fn message(&mut self, to: Recipient, len: usize) -> AcceptedMessage {
        self.sequence += 1;
        let sequence = self.sequence;
        let len = len.max(name(to, sequence).len());
        AcceptedMessage { to, sequence, len }
    }

    /// A direct message was accepted.
    pub(super) fn record_send(&mut self, id: Id, message: AcceptedMessage) {
        self.open_session(id).accepted.push(message);
    }

    /// A publication was made; it is owed to every member.
    pub(super) fn record_publication(&mut self, topic: usize, message: AcceptedMessage) {
        self.published_bytes += message.len + HEADER_BYTES_MAX;
        self.published_bytes_max = self.published_bytes_max.max(self.published_bytes);
        for id in self.members[topic].clone() {
            self.record_send(id, message);
        }
    }

    /// A timer is due: not early, none before it left out.
    pub(super) fn expire_timer(&mut self, key: u64) {
        let first = self.timers.pop_first();
        let (timer, expected) = first.expect("a timer that was not set");
        assert_eq!(expected, key, "timers are due in their order");
        assert!(timer.due <= self.now, "a timer is early");
    }
}

impl AcceptedMessage {
    /// The whole payload, every byte of which says what it belongs to.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = name(self.to, self.sequence).into_bytes();
        let padding = b'a' + (self.sequence % 26) as u8;
        payload.resize(self.len, padding);
        payload
    }

    /// Every other message is binary.
    pub(super) fn is_text(&self) -> bool {
        self.sequence.is_multiple_of(2)
    }

    /// The topic it was published to.
    pub(super) fn topic(&self) -> Option<usize> {
        match self.to {
            Recipient::Session(_) => None,
            Recipient::Topic(topic) => Some(topic),
        }
    }
}

fn name(to: Recipient, sequence: u64) -> String {
    match to {
        Recipient::Session(id) => format!("{id}:{sequence}:"),
        Recipient::Topic(topic) => format!("{}:{sequence}:", TOPICS[topic]),
    }
}

/// The longest header of a server's frame.
pub(super) const HEADER_BYTES_MAX: usize = 10;
