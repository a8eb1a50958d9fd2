//! Connects the engine's sessions and topics with the connection to a broker ([`Backplane`]). The state at the broker is in
//! [`SharedTopics`].
//!
//! The events of the broker are processed at the start of a turn. The publications of the turn are passed to the backplane
//! before the flush phase. They are delivered only when they come back from the broker, so that their order is the same on
//! every server.

use super::session::{Phase, id};
use super::{Engine, Stop};
use crate::backplane::gap::Gap;
use crate::backplane::last_messages::LastMessages;
use crate::backplane::payload;
use crate::backplane::shared_topics::{
    Destination, NAME_BYTES_MAX, NOT_READY, Refused, SharedTopics,
};
use crate::backplane::{
    Backplane, BackplaneContext, BackplaneError, BackplaneEvent, BackplaneOptions, BackplaneStats,
};
use crate::context::Context;
use crate::engine::sources::Ready;
use crate::handler::Handler;
use crate::id::Id;
use crate::outbound::TopicKey;
use crate::proto::{Message, Stage};
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

/// The engine's state of shared topics.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) topics: SharedTopics,
    /// Members to which a gap is to be reported.
    gap: Gap,
    /// Sessions whose Close in a stop waits for the broker.
    last_messages: LastMessages,
    /// The permanent error of an attempt to connect, before the first connection. The server stops with it.
    fatal: Option<BackplaneError>,
}

impl Engine {
    /// Shares all topics through a backplane from now on. Returns the maximum bytes of a payload.
    pub(crate) fn share_topics(&mut self, options: BackplaneOptions) -> usize {
        let origin = RandomState::new().hash_one(()).to_be_bytes();
        let mut topics = SharedTopics::new(options, origin, self.now);
        let (with_members, retained) = self.topics.used();
        for topic in with_members {
            topics.first_member_joined(self.topics.name(topic), topic);
        }
        for name in retained {
            topics.retain(name, self.now);
        }
        let payload_bytes_max = topics.payload_bytes_max();
        self.shared = Some(Box::new(Shared {
            topics,
            gap: Gap::default(),
            last_messages: LastMessages::default(),
            fatal: None,
        }));
        payload_bytes_max
    }

    /// Processes the events of the broker, within the budget of a turn.
    ///
    /// # Errors
    /// A permanent error before the first connection, with which the server is to stop.
    pub(crate) fn receive_shared(
        &mut self,
        backplane: &mut dyn Backplane,
        handler: &mut dyn Handler,
    ) -> Result<(), BackplaneError> {
        let instant = self.instant();
        let Some(shared) = &mut self.shared else {
            return Ok(());
        };
        let topics = &mut shared.topics;
        if topics.is_due() || backplane.next_at().is_some_and(|at| at <= instant) {
            self.receive_events(backplane, instant);
        }
        let now = self.now;
        let Self { shared, topics, .. } = self;
        let shared = shared.as_mut().expect("it was there above");
        if let Some(error) = shared.fatal.take() {
            return Err(error);
        }
        shared
            .topics
            .unsubscribe_abandoned(now, |name| topics.is_retained(name));
        if shared.topics.becomes_whole(now) {
            shared.gap.end(now);
        }
        if shared.topics.grace_ends(now) {
            self.grace_is_over(backplane);
        }
        self.report_gap(handler);
        Ok(())
    }

    fn receive_events(&mut self, backplane: &mut dyn Backplane, instant: Instant) {
        let mut work = 0;
        loop {
            let Self {
                sources,
                shared: Some(shared),
                ..
            } = self
            else {
                return;
            };
            shared.topics.has_more_events = work >= EVENTS_WORK_MAX;
            if shared.topics.has_more_events {
                break;
            }
            let mut cx = BackplaneContext::new(sources, &mut shared.topics.ready, instant);
            let Some(event) = backplane.next_event(&mut cx) else {
                break;
            };
            work += EVENT_WORK;
            match event {
                BackplaneEvent::Connected => shared.topics.connected(self.now),
                BackplaneEvent::Subscribed { topic } => shared.topics.subscribed(topic),
                BackplaneEvent::Message { topic, payload } => {
                    work += payload.len();
                    self.deliver_shared(topic, payload);
                }
                BackplaneEvent::TooLong { topic, bytes } => {
                    let error = format!("{bytes} B, more than the maximum");
                    shared.topics.count_invalid(topic, &error);
                }
                BackplaneEvent::Acknowledged { publications } => {
                    shared.topics.acknowledged(publications);
                }
                BackplaneEvent::Disconnected {
                    error,
                    unacknowledged,
                } => self.disconnected(error, unacknowledged),
            }
        }
        if let Some(shared) = &mut self.shared {
            shared.topics.ready = NOT_READY;
            shared.topics.read_outbox(backplane);
        }
    }

    /// Checks a publication that the broker has delivered, and sends its messages to the members on this server.
    fn deliver_shared(&mut self, name: &str, payload: &[u8]) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let origin = shared.topics.origin();
        match payload::check(payload, shared.topics.options.message_bytes_max) {
            Ok(messages) => shared.topics.stats.messages_in += messages as u64,
            Err(error) => return shared.topics.count_invalid(name, &error.to_string()),
        }
        let topic = match shared.topics.destination(name) {
            Destination::Members(topic) => topic,
            Destination::NoMembers => match self.find_to_publish(name) {
                Some(topic) => topic,
                None => return,
            },
            Destination::NotSubscribed => return,
        };
        for one in payload::publications(payload) {
            match one.except {
                Some((server, id)) if server == origin => {
                    self.publish_to_others(id, topic, one.message)
                }
                Some(_) | None => self.publish_to(topic, one.message, None),
            };
        }
    }

    /// Called when the connection has ended or an attempt to connect has failed.
    fn disconnected(&mut self, error: BackplaneError, unacknowledged: u64) {
        let now = self.now;
        let Some(shared) = &mut self.shared else {
            return;
        };
        if error.is_permanent() && shared.topics.stats.connections == 0 {
            shared.fatal = Some(error);
            return;
        }
        if shared.topics.disconnected(error, unacknowledged, now) {
            self.begin_gap();
            // The grace period does not begin again.
            if let Some(shared) = &mut self.shared
                && shared.topics.is_away()
            {
                shared.gap.start_closes(now, 0);
            }
        }
    }

    /// Adds the members of all shared topics to the gap: they may miss messages. Drops the messages that the topics retain for
    /// replay, because members that join later would not notice that some are missing.
    fn begin_gap(&mut self) {
        let default = self.config.lag_policy;
        let Self {
            shared: Some(shared),
            topics,
            sessions,
            limit_sets,
            ..
        } = self
        else {
            return;
        };
        let (mut closes, mut skips) = (Vec::new(), Vec::new());
        for name in shared.topics.names() {
            let Some(topic) = topics.find(name) else {
                continue;
            };
            for slot in topics.member_slots(topic) {
                let session = &sessions[slot];
                let policy = limit_sets.lag_policy(session.limits).unwrap_or(default);
                let id = id(slot, session.number);
                if Self::may_skip(topics, topic, policy) {
                    skips.push((id, Arc::clone(name)));
                } else {
                    closes.push(id);
                }
            }
            topics.release_replay(topic);
        }
        shared.gap.add(closes, skips);
    }

    /// Called when the grace period has ended: drops the outbox, and begins to close all members of shared topics.
    fn grace_is_over(&mut self, backplane: &mut dyn Backplane) {
        self.begin_gap();
        let now = self.now;
        let Some(shared) = &mut self.shared else {
            return;
        };
        let batches = shared.topics.discard_outbox(backplane);
        log::warn!(
            "the broker has been away for {:?}: closing {} members with 1013, {batches} batches of messages are dropped",
            shared.topics.options.grace,
            shared.gap.close_count()
        );
        shared.gap.start_closes(now, 0);
    }

    /// Reports the gap: closes the sessions whose time has come, and calls `on_gap` for members that may skip messages.
    fn report_gap(&mut self, handler: &mut dyn Handler) {
        let now = self.now;
        for _ in 0..GAP_REPORTS_PER_TURN {
            let Some(shared) = &mut self.shared else {
                return;
            };
            if let Some(id) = shared.gap.next_close(now) {
                let is_closed = self.close(id, CODE_TRY_AGAIN, GAP);
                self.count_gap_report(is_closed);
            } else if let Some((id, topic)) = shared.gap.next_skip() {
                let is_member = self.is_subscribed(id, &topic);
                self.count_gap_report(is_member);
                if is_member {
                    handler.on_gap(&mut Context::new(self), id, &topic);
                }
            } else {
                return;
            }
        }
    }

    fn count_gap_report(&mut self, is_reported: bool) {
        if let Some(shared) = &mut self.shared {
            shared.topics.stats.members_notified += u64::from(is_reported);
        }
    }

    /// Passes the publications of the turn to the backplane. Resumes the sessions that wait, if publishers may continue.
    pub(crate) fn send_shared(&mut self, backplane: &mut dyn Backplane) {
        let instant = self.instant();
        let Self {
            sources,
            shared: Some(shared),
            ..
        } = self
        else {
            return;
        };
        let topics = &mut shared.topics;
        // A message that is published after the Close of its sender would be published again by the client.
        if matches!(self.stop, Stop::Until(_)) && !topics.is_connected() {
            topics.discard_in_stop(backplane);
        }
        let has_unsent = topics.has_unsent();
        if has_unsent {
            topics.send(backplane);
        }
        if has_unsent || backplane.outbox_bytes() > 0 {
            let mut cx = BackplaneContext::new(sources, &mut topics.ready, instant);
            backplane.flush(&mut cx);
            topics.read_outbox(backplane);
        }
        for id in topics.resumed() {
            self.resume_reading(id);
        }
    }

    /// Called when the server has stopped: sends what `on_close` and `on_stop` have published in the last turn, and drops the
    /// batches that cannot be written at once.
    pub(crate) fn end_sharing(&mut self, backplane: &mut dyn Backplane) {
        self.send_shared(backplane);
        if let Some(shared) = &mut self.shared {
            shared.topics.discard_in_stop(backplane);
        }
    }

    /// Publishes to all members of a topic on all servers. Returns the number of members on this server.
    pub(crate) fn publish_shared(
        &mut self,
        name: &str,
        message: Message<'_>,
        except: Option<Id>,
    ) -> usize {
        let Some(shared) = &mut self.shared else {
            return 0;
        };
        if self.reading.is_some() && shared.topics.is_publisher_closed {
            return 0;
        }
        // Sessions wait for the broker. Nothing else can, and its messages would be old when the broker returns.
        if self.reading.is_none() && shared.topics.is_given_up() {
            shared.topics.stats.refused += 1;
            return 0;
        }
        match shared.topics.publish(name, message, except) {
            Ok(topic) => {
                if let Some(slot) = self.reading {
                    shared.topics.is_publisher_to_wait |= shared.topics.is_blocked();
                    self.sessions[slot as usize].is_publisher = true;
                }
                topic.map_or(0, |topic| self.topics.member_count(topic))
            }
            Err(refused) => {
                if let Some(slot) = self.reading
                    && self.sessions[slot as usize].is_open()
                {
                    let (code, reason) = match refused {
                        Refused::TooLong => (CODE_TOO_BIG, "the message is too long to publish"),
                        Refused::Full => (CODE_TRY_AGAIN, "too many messages wait for the broker"),
                    };
                    shared.topics.is_publisher_closed = true;
                    self.close_slot(slot as usize, code, reason, None);
                }
                0
            }
        }
    }

    /// Makes the session wait if the handler has published during its last message while publishers are to wait
    /// ([`SharedTopics::is_blocked`]).
    #[inline]
    pub(crate) fn defer_shared_publisher(&mut self, slot: usize) {
        if let Some(shared) = &mut self.shared
            && mem::take(&mut shared.topics.is_publisher_to_wait)
        {
            self.wait_for_broker(slot);
        }
    }

    /// Makes a session wait if it has ever published, and publishers are to wait. Returns whether it waits. Called before a
    /// session is read.
    #[inline]
    pub(crate) fn defer_known_publisher(&mut self, slot: usize) -> bool {
        let Some(shared) = &mut self.shared else {
            return false;
        };
        shared.topics.is_publisher_closed =
            self.sessions[slot].connection.stage() == Stage::Closing;
        if !self.sessions[slot].is_publisher || !shared.topics.is_blocked() {
            return false;
        }
        self.wait_for_broker(slot)
    }

    /// Returns how many bytes of the receive buffer one read of a session may fill. While publishers are to wait, few: the
    /// session may publish its first message, and then retains the rest of what was read.
    #[inline]
    pub(crate) fn read_bytes_max(&self, slot: usize, buf_len: usize) -> usize {
        let is_blocked = (self.shared.as_ref()).is_some_and(|shared| shared.topics.is_blocked());
        if !is_blocked {
            return buf_len;
        }
        // The buffer must have space for a record.
        #[cfg(feature = "tls")]
        if self.sessions[slot].stream.is_tls() {
            return buf_len;
        }
        #[cfg(not(feature = "tls"))]
        let _ = slot;
        buf_len.min(BLOCKED_READ_BYTES)
    }

    /// Stops reading from a session until publishers may continue. Returns `false` if the session is closing: its
    /// messages are ignored, and the peer's Close is to be read.
    #[cold]
    fn wait_for_broker(&mut self, slot: usize) -> bool {
        let id = self.id_of(slot);
        let session = &mut self.sessions[slot];
        if !session.is_open() || session.phase != Phase::Live {
            return false;
        }
        if !mem::replace(&mut session.is_deferred, true)
            && let Some(shared) = &mut self.shared
        {
            shared.topics.wait(id);
        }
        true
    }

    /// Called when a stop is about to close the session. Returns whether the Close is delayed until the session's publications
    /// have come back: [`close_returned`](Self::close_returned) then closes the session. The session is not read meanwhile.
    pub(crate) fn wait_for_last_messages(&mut self, slot: usize) -> bool {
        let id = self.id_of(slot);
        let Some(shared) = &mut self.shared else {
            return false;
        };
        let session = &mut self.sessions[slot];
        if !session.is_publisher || !shared.topics.may_return_messages() {
            return false;
        }
        session.is_deferred = true;
        session.awaits_close = true;
        let batches = shared.topics.stats.batches;
        shared.last_messages.add(id, batches, self.now);
        true
    }

    /// Closes the sessions whose last messages have come back. Returns whether no session waits any more.
    pub(crate) fn close_returned(&mut self) -> bool {
        while let Some(shared) = &mut self.shared {
            let done = shared.topics.batches_done();
            match shared.last_messages.next(done, self.now) {
                Some(id) => self.close_going_away(id),
                None => return shared.last_messages.is_empty(),
            }
        }
        true
    }

    /// Returns the milliseconds until there is something to do for the shared topics.
    pub(crate) fn next_shared_in(&self) -> Option<u64> {
        let shared = self.shared.as_ref()?;
        let gap = shared.gap.next_in(self.now);
        let topics = shared.topics.next_in(self.now);
        let close = shared.last_messages.next_in(self.now);
        gap.into_iter().chain(topics).chain(close).min()
    }

    /// See [`Context::is_backplane_away`].
    pub(crate) fn is_backplane_away(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.topics.is_away())
    }

    /// Returns whether the name of a topic is short enough for the broker, if there is one.
    pub(crate) fn may_share(&self, name: &str) -> bool {
        self.shared.is_none() || name.len() <= NAME_BYTES_MAX
    }

    /// Called when a session has joined the topic as its first member.
    pub(crate) fn share_topic(&mut self, topic: TopicKey) {
        if let Some(shared) = &mut self.shared {
            let name = self.topics.name(topic);
            shared.topics.first_member_joined(name, topic);
        }
    }

    /// Called when a topic is to retain messages for replay, with or without members.
    pub(crate) fn share_retained_topic(&mut self, name: &str) {
        if let Some(shared) = &mut self.shared {
            shared.topics.retain(&Arc::from(name), self.now);
        }
    }

    /// Called when the poll has reported the backplane's source.
    pub(crate) fn backplane_is_ready(&mut self, ready: Ready) {
        if let Some(shared) = &mut self.shared {
            let known = &mut shared.topics.ready;
            known.is_readable |= ready.is_readable;
            known.is_writable |= ready.is_writable;
        }
    }

    /// Returns the counters of the backplane.
    pub(crate) fn backplane_stats(&self) -> Option<BackplaneStats> {
        let shared = self.shared.as_ref()?;
        Some(shared.topics.stats())
    }

    /// Called when the topic's last member has left.
    pub(crate) fn abandon_topic(&mut self, topic: TopicKey) {
        if let Some(shared) = &mut self.shared {
            let name = self.topics.name(topic);
            shared.topics.last_member_left(name, self.now);
        }
    }
}

/// Maximum members to which a gap is reported in one turn, which takes some milliseconds.
const GAP_REPORTS_PER_TURN: usize = 1024;

/// Budget of a turn for events of the broker, in bytes of payload. Each event costs another [`EVENT_WORK`].
const EVENTS_WORK_MAX: usize = 256 * 1024;
/// Cost of an event besides its payload, in bytes.
const EVENT_WORK: usize = 64;

/// Maximum bytes of a read while publishers are to wait. Otherwise, thousands of clients that begin to publish would make the
/// server retain as many times the receive buffer.
const BLOCKED_READ_BYTES: usize = 4 * 1024;

/// "Try again later", in the registry of close codes that RFC 6455 section 7.4.2 has set up.
const CODE_TRY_AGAIN: u16 = 1013;
/// RFC 6455 section 7.4.1: "a message that is too big for it to process".
const CODE_TOO_BIG: u16 = 1009;
/// Reason of the Close after a gap.
const GAP: &str = "messages may be missing";
