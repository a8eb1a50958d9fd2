//! [`SharedTopics`]: the topics that this server shares through a broker, with their subscriptions and the publications of
//! the current turn.
//!
//! This module has no access to the engine's sessions and topics; `engine::backplane` connects them with it.
//!
//! A topic is subscribed at the broker when the first session on this server joins it, and unsubscribed
//! [`UNSUBSCRIBE_DELAY_MILLIS`] after the last member has left. Publications are collected by topic in *batches*, which are
//! passed to the [`Backplane`] at the end of the turn.

use super::payload::{self, OVERHEAD_BYTES_MAX, Origin};
use super::{Backplane, BackplaneError, BackplaneOptions, BackplaneStats};
use crate::engine::sources::Ready;
use crate::id::Id;
use crate::names::Names;
use crate::outbound::TopicKey;
use crate::proto::Message;
use slab::Slab;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

/// The topics that this server shares with others.
#[derive(Debug)]
pub(crate) struct SharedTopics {
    pub(crate) options: BackplaneOptions,
    /// Identifies this server in its publications.
    origin: Origin,
    link: Link,
    names: Names,
    topics: Slab<SharedTopic>,
    /// Topics with a batch.
    dirty: Vec<u32>,
    /// Subscriptions to begin and to end at the end of the turn, in the order of the calls.
    changes: VecDeque<Change>,
    /// Topics whose last member has left, and when they are to be unsubscribed, in the order of these times.
    abandoned: VecDeque<(u64, u32)>,
    /// Number of subscriptions that were requested and not confirmed.
    confirmations_missing: usize,
    /// Bytes of all batches.
    batch_bytes: usize,
    /// The last value of [`Backplane::outbox_bytes`].
    outbox_bytes: usize,
    /// Batches that are neither acknowledged nor lost, including those of this turn.
    batches_pending: u64,
    /// Sessions that are not read because they have published while [`is_blocked`](Self::is_blocked) returned `true`.
    waiting: Vec<Id>,
    /// Whether the session whose message is being processed has published and is to wait.
    pub(crate) is_publisher_to_wait: bool,
    /// Whether this server had closed the session whose messages are being processed. Then they are not published: the client
    /// sends messages again that did not come back.
    pub(crate) is_publisher_closed: bool,
    /// Readiness of the backplane's sources that the backplane has not read.
    pub(crate) ready: Ready,
    /// Whether the turn's budget was spent before the backplane returned all events.
    pub(crate) has_more_events: bool,
    /// Whether a refused publication was logged since the broker was last connected.
    is_refusal_logged: bool,
    /// The errors that were logged since the broker was last connected. More than one, because attempts can fail for two
    /// reasons in turn, for example behind a proxy.
    logged_errors: Vec<BackplaneError>,
    pub(crate) stats: BackplaneStats,
}

/// The state of the connection to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// There is no connection. `since`: when the server started, or when the last connection on which all topics were
    /// subscribed ended. `is_first`: whether there was no such connection yet.
    Away {
        since: u64,
        is_first: bool,
        is_grace_over: bool,
    },
    /// Connected, but some topics are not subscribed yet, or publications that waited for the connection are not
    /// acknowledged. `held`: the number of these publications.
    Subscribing {
        since: u64,
        is_first: bool,
        is_grace_over: bool,
        held: u64,
        /// Confirmations that are missing of the subscriptions that were made when the connection was established. Topics
        /// that sessions join later do not count: while many are joined, there would always be one that is not confirmed.
        missing: usize,
    },
    /// Connected, and all topics are subscribed.
    Whole,
}

#[derive(Debug)]
struct SharedTopic {
    name: Arc<str>,
    /// The key of the topic in the engine's table; `None` while no session on this server is a member.
    local: Option<TopicKey>,
    subscription: Subscription,
    /// Number of SUBSCRIBEs that were not confirmed.
    unconfirmed: u32,
    /// The payload with the messages of this turn: the topic's batch.
    batch: Vec<u8>,
    /// Positions at which the batch is divided into several publications; see [`BATCH_BYTES_MAX`].
    ends: Vec<usize>,
    /// Number of messages in the batch.
    messages: u64,
    /// Number of entries in [`SharedTopics::abandoned`].
    abandonments: u32,
    /// Number of entries in [`SharedTopics::changes`].
    changes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscription {
    None,
    Requested,
    Confirmed,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Subscribe(u32),
    Unsubscribe(u32),
}

/// Where a publication of the broker is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the members of a topic.
    Members(TopicKey),
    /// The topic has no members. It may retain the messages for replay.
    NoMembers,
    /// The newest SUBSCRIBE is not confirmed. The publication belongs to an earlier subscription, and later ones may be
    /// missing, so it is dropped.
    NotSubscribed,
}

/// Why a publication was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Longer than [`BackplaneOptions::message_bytes_max`].
    TooLong,
    /// [`BackplaneOptions::outbox_bytes_max`] is reached.
    Full,
}

impl SharedTopics {
    /// Returns a table without topics. `now`: see [`Engine::now`](crate::engine::Engine::now).
    pub(crate) fn new(options: BackplaneOptions, origin: Origin, now: u64) -> Self {
        Self {
            options,
            origin,
            link: Link::Away {
                since: now,
                is_first: true,
                is_grace_over: false,
            },
            names: Names::default(),
            topics: Slab::new(),
            dirty: Vec::new(),
            changes: VecDeque::new(),
            abandoned: VecDeque::new(),
            confirmations_missing: 0,
            batch_bytes: 0,
            outbox_bytes: 0,
            batches_pending: 0,
            waiting: Vec::new(),
            is_publisher_to_wait: false,
            is_publisher_closed: false,
            ready: NOT_READY,
            // The first call starts the connection.
            has_more_events: true,
            is_refusal_logged: false,
            logged_errors: Vec::new(),
            stats: BackplaneStats::default(),
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns whether the backplane may have events without waiting for [`Backplane::next_at`].
    pub(crate) fn is_due(&self) -> bool {
        self.ready != NOT_READY || self.has_more_events
    }

    /// Returns the counters.
    pub(crate) fn stats(&self) -> BackplaneStats {
        BackplaneStats {
            is_whole: self.link == Link::Whole,
            topics: self.topics.len(),
            ..self.stats
        }
    }

    /// Returns the maximum bytes of a payload at the broker.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        BATCH_BYTES_MAX.max(self.options.message_bytes_max) + OVERHEAD_BYTES_MAX
    }

    /// Returns whether the broker has been away for longer than the grace period.
    pub(crate) fn is_away(&self) -> bool {
        match self.link {
            Link::Away { is_grace_over, .. } | Link::Subscribing { is_grace_over, .. } => {
                is_grace_over
            }
            Link::Whole => false,
        }
    }

    /// Returns whether there is no connection, and the grace period is over.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(
            self.link,
            Link::Away {
                is_grace_over: true,
                ..
            }
        )
    }

    /// Returns whether sessions that publish are to wait: the broker is not connected, or the outbox is half full.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.link, Link::Away { .. })
            || self.outbox_bytes + self.batch_bytes > self.options.outbox_bytes_max / 2
    }

    /// Called when a session has joined a topic that had no members.
    pub(crate) fn first_member_joined(&mut self, name: &Arc<str>, local: TopicKey) {
        if name.len() <= NAME_BYTES_MAX {
            let index = self.find_or_insert(name);
            self.topics[index as usize].local = Some(local);
            self.subscribe(index);
        }
    }

    /// Called when a topic is to retain messages for replay. Subscribes to the topic, even if it has no members.
    pub(crate) fn retain(&mut self, name: &Arc<str>, now: u64) {
        if name.len() <= NAME_BYTES_MAX {
            let index = self.find_or_insert(name);
            if self.topics[index as usize].local.is_none() {
                self.subscribe(index);
                self.abandon(index, now);
            }
        }
    }

    /// Called when the last member of a topic has left.
    pub(crate) fn last_member_left(&mut self, name: &str, now: u64) {
        if let Some(index) = self.names.get(name)
            && self.topics[index as usize].local.take().is_some()
        {
            self.abandon(index, now);
        }
    }

    /// Requests the subscription to a topic, if the broker is connected and none is requested or confirmed.
    fn subscribe(&mut self, index: u32) {
        let topic = &self.topics[index as usize];
        if topic.subscription == Subscription::None && self.is_connected() {
            self.request(index);
        }
    }

    /// Schedules the end of the subscription to a topic, in [`UNSUBSCRIBE_DELAY_MILLIS`], unless a session joins before.
    fn abandon(&mut self, index: u32, now: u64) {
        self.topics[index as usize].abandonments += 1;
        self.abandoned
            .push_back((now + UNSUBSCRIBE_DELAY_MILLIS, index));
    }

    /// Ends the subscriptions of topics that have had no member for [`UNSUBSCRIBE_DELAY_MILLIS`], unless `is_retained`
    /// returns `true` for the name: then the topic's messages are retained for replay, and none may be missing.
    pub(crate) fn unsubscribe_abandoned(&mut self, now: u64, is_retained: impl Fn(&str) -> bool) {
        while let Some((due, index)) = self.abandoned.front().copied()
            && due <= now
        {
            self.abandoned.pop_front();
            let topic = &mut self.topics[index as usize];
            topic.abandonments -= 1;
            // The entry remains when a member joins. If all members leave again, a newer entry is due later.
            if topic.local.is_some() || topic.abandonments > 0 {
                continue;
            }
            if is_retained(&topic.name) {
                self.abandon(index, now);
                continue;
            }
            match topic.subscription {
                Subscription::None => self.remove_if_unused(index),
                Subscription::Requested | Subscription::Confirmed => {
                    topic.subscription = Subscription::None;
                    topic.changes += 1;
                    self.changes.push_back(Change::Unsubscribe(index));
                }
            }
        }
    }

    /// Adds a message to the batch of a topic. Returns the topic on this server, if it has members.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        message: Message<'_>,
        except: Option<Id>,
    ) -> Result<Option<TopicKey>, Refused> {
        if message.len() > self.options.message_bytes_max || name.len() > NAME_BYTES_MAX {
            self.stats.refused += 1;
            return Err(Refused::TooLong);
        }
        let pending = self.outbox_bytes + self.batch_bytes;
        if pending + message.len() + OVERHEAD_BYTES_MAX > self.options.outbox_bytes_max {
            self.stats.refused += 1;
            if !mem::replace(&mut self.is_refusal_logged, true) {
                log::warn!(
                    "publications are refused: {pending} B wait for the broker (outbox_bytes_max)"
                );
            }
            return Err(Refused::Full);
        }
        let index = match self.names.get(name) {
            Some(index) => index,
            None => self.find_or_insert(&Arc::from(name)),
        };
        let topic = &mut self.topics[index as usize];
        let before = topic.batch.len();
        let is_first = topic.messages == 0;
        let is_divided =
            !is_first && before - topic.ends.last().unwrap_or(&0) + message.len() > BATCH_BYTES_MAX;
        if is_first {
            self.dirty.push(index);
        }
        if is_divided {
            topic.ends.push(before);
        }
        if is_first || is_divided {
            self.batches_pending += 1;
            self.stats.batches += 1;
        }
        let except = except.map(|id| (self.origin, id));
        payload::append(&mut topic.batch, message, except);
        topic.messages += 1;
        self.batch_bytes += topic.batch.len() - before;
        self.stats.publications += 1;
        Ok(topic.local)
    }

    /// Passes the subscriptions and publications of the turn to the backplane.
    pub(crate) fn send(&mut self, backplane: &mut dyn Backplane) {
        for change in mem::take(&mut self.changes) {
            match change {
                Change::Subscribe(index) => {
                    let topic = &mut self.topics[index as usize];
                    topic.changes -= 1;
                    backplane.subscribe(&topic.name);
                }
                Change::Unsubscribe(index) => {
                    let topic = &mut self.topics[index as usize];
                    topic.changes -= 1;
                    backplane.unsubscribe(&topic.name);
                    self.remove_if_unused(index);
                }
            }
        }
        let mut dirty = mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let topic = &mut self.topics[index as usize];
            let mut batch = mem::take(&mut topic.batch);
            let mut from = 0;
            for to in mem::take(&mut topic.ends).into_iter().chain([batch.len()]) {
                backplane.publish(&topic.name, &batch[from..to]);
                from = to;
            }
            topic.messages = 0;
            batch.clear();
            // A topic with members often has publications in the next turn, too.
            if batch.capacity() <= BATCH_BYTES_RETAINED && topic.local.is_some() {
                topic.batch = batch;
            }
            self.remove_if_unused(index);
        }
        if dirty.capacity() <= DIRTY_RETAINED {
            self.dirty = dirty;
        }
        self.batch_bytes = 0;
    }

    /// Returns whether [`send`](Self::send) has something to do.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.dirty.is_empty() || !self.changes.is_empty()
    }

    /// Updates the number of bytes that wait in the backplane.
    pub(crate) fn read_outbox(&mut self, backplane: &dyn Backplane) {
        self.outbox_bytes = backplane.outbox_bytes();
        self.stats.outbox_bytes = self.outbox_bytes;
    }

    /// Called when the connection is established: subscribes to all topics.
    pub(crate) fn connected(&mut self, now: u64) {
        let (since, is_first, is_grace_over) = match self.link {
            Link::Away {
                since,
                is_first,
                is_grace_over,
            } => (since, is_first, is_grace_over),
            // The backplane has not reported the end of the previous connection.
            Link::Subscribing { .. } | Link::Whole => (now, false, false),
        };
        self.logged_errors = Vec::new();
        self.is_refusal_logged = false;
        self.stats.connections += 1;
        self.link = Link::Subscribing {
            since,
            is_first,
            is_grace_over,
            held: self.batches_pending,
            missing: 0,
        };
        // A topic with an entry in `abandoned` lost its last member less than a second ago, or retains messages.
        let wanted = self.topics.iter();
        let wanted = wanted.filter(|(_, topic)| topic.local.is_some() || topic.abandonments > 0);
        for index in wanted.map(|(index, _)| index as u32).collect::<Vec<_>>() {
            self.request(index);
        }
        if let Link::Subscribing { missing, .. } = &mut self.link {
            *missing = self.confirmations_missing;
        }
        let seconds = seconds(now - since);
        match is_first {
            true => log::info!("connected to the broker"),
            false => log::info!(
                "connected to the broker again after {seconds}; topics to subscribe to: {}, bytes to publish: {}",
                self.confirmations_missing,
                self.outbox_bytes
            ),
        }
    }

    /// Called when a subscription is confirmed.
    pub(crate) fn subscribed(&mut self, name: &str) {
        let Some(index) = self.names.get(name) else {
            return;
        };
        let topic = &mut self.topics[index as usize];
        if topic.unconfirmed == 0 {
            return;
        }
        topic.unconfirmed -= 1;
        self.confirmations_missing -= 1;
        if let Link::Subscribing { missing, .. } = &mut self.link {
            *missing = missing.saturating_sub(1);
        }
        if topic.unconfirmed == 0 && topic.subscription == Subscription::Requested {
            topic.subscription = Subscription::Confirmed;
        }
        self.remove_if_unused(index);
    }

    /// Called when the broker has acknowledged batches.
    pub(crate) fn acknowledged(&mut self, batches: u64) {
        self.batches_pending = self.batches_pending.saturating_sub(batches);
        if let Link::Subscribing { held, .. } = &mut self.link {
            *held = held.saturating_sub(batches);
        }
    }

    /// Returns the number of batches that were acknowledged or lost.
    pub(crate) fn batches_done(&self) -> u64 {
        self.stats.batches - self.batches_pending
    }

    /// Returns whether messages of this server may come back from the broker soon. If the broker is connected and has
    /// acknowledged all of them, the last one may still be incomplete.
    pub(crate) fn may_return_messages(&self) -> bool {
        self.is_connected() || self.batches_pending > 0 && !self.is_given_up()
    }

    /// Returns `true` once for each connection: when the topics that were requested at its start are subscribed, and the
    /// publications that waited for the connection are acknowledged.
    pub(crate) fn becomes_whole(&mut self, now: u64) -> bool {
        let Link::Subscribing {
            since,
            is_first,
            held: 0,
            missing: 0,
            ..
        } = self.link
        else {
            return false;
        };
        self.link = Link::Whole;
        if !is_first {
            log::info!(
                "all topics are subscribed again, {} after the gap began",
                seconds(now - since)
            );
        }
        true
    }

    /// Called when the connection has ended or an attempt to connect has failed. Returns `true` if the connection was
    /// established, so that members may miss messages.
    pub(crate) fn disconnected(
        &mut self,
        error: BackplaneError,
        unacknowledged: u64,
        now: u64,
    ) -> bool {
        self.stats.unacknowledged += unacknowledged;
        self.batches_pending = self.batches_pending.saturating_sub(unacknowledged);
        let link = self.link;
        self.link = match link {
            Link::Away { .. } => {
                if self.is_to_be_logged(&error) {
                    log::warn!("{error}; trying again until it succeeds");
                }
                return false;
            }
            Link::Subscribing {
                since,
                is_first,
                is_grace_over,
                ..
            } => Link::Away {
                since,
                is_first,
                is_grace_over,
            },
            Link::Whole => Link::Away {
                since: now,
                is_first: false,
                is_grace_over: false,
            },
        };
        log::warn!(
            "{error}; a gap in all {} topics; {unacknowledged} batches of messages may be lost",
            self.topics.len()
        );
        self.is_to_be_logged(&error);
        self.stats.gaps += 1;
        self.confirmations_missing = 0;
        for Change::Subscribe(index) | Change::Unsubscribe(index) in mem::take(&mut self.changes) {
            self.topics[index as usize].changes -= 1;
        }
        for (_, topic) in &mut self.topics {
            topic.subscription = Subscription::None;
            topic.unconfirmed = 0;
        }
        let unused = self.topics.iter().map(|(index, _)| index as u32);
        for index in unused.collect::<Vec<_>>() {
            self.remove_if_unused(index);
        }
        true
    }

    /// Returns whether the error is one of the first [`LOGGED_ERRORS_MAX`] different errors since the broker was last connected,
    /// and was not logged since then. Stores it in this case.
    fn is_to_be_logged(&mut self, error: &BackplaneError) -> bool {
        let is_new =
            self.logged_errors.len() < LOGGED_ERRORS_MAX && !self.logged_errors.contains(error);
        if is_new {
            self.logged_errors.push(error.clone());
        }
        is_new
    }

    /// Returns the grace period, at most 49 days.
    fn grace_millis(&self) -> u64 {
        let millis = u32::try_from(self.options.grace.as_millis());
        millis.unwrap_or(u32::MAX).into()
    }

    /// Returns `true` once, when the broker has been away for longer than the grace period.
    pub(crate) fn grace_ends(&mut self, now: u64) -> bool {
        let grace = self.grace_millis();
        match &mut self.link {
            Link::Away {
                since,
                is_grace_over,
                ..
            }
            | Link::Subscribing {
                since,
                is_grace_over,
                ..
            } if !*is_grace_over && now - *since >= grace => {
                *is_grace_over = true;
                true
            }
            Link::Away { .. } | Link::Subscribing { .. } | Link::Whole => false,
        }
    }

    /// Counts and logs a publication from the broker that is dropped.
    pub(crate) fn count_invalid(&mut self, topic: &str, reason: &str) {
        self.stats.invalid += 1;
        // Only some of them, so that a client of the broker cannot fill the log.
        if self.stats.invalid.is_power_of_two() {
            log::warn!(
                "dropped an invalid publication to topic {topic:?}: {reason} (number {})",
                self.stats.invalid
            );
        }
    }

    /// Drops the batches that wait in the backplane. Returns their number.
    pub(crate) fn discard_outbox(&mut self, backplane: &mut dyn Backplane) -> u64 {
        let batches = backplane.discard_outbox();
        self.stats.discarded += batches;
        self.batches_pending = self.batches_pending.saturating_sub(batches);
        if let Link::Subscribing { held, .. } = &mut self.link {
            *held = (*held).min(self.batches_pending);
        }
        self.read_outbox(backplane);
        batches
    }

    /// Drops the batches that wait in the backplane because the server stops, and logs their number.
    pub(crate) fn discard_in_stop(&mut self, backplane: &mut dyn Backplane) {
        let batches = self.discard_outbox(backplane);
        if batches > 0 {
            log::warn!(
                "stopped while {batches} batches of messages waited for the broker: they are dropped"
            );
        }
    }

    /// Returns where a publication to a topic is to be delivered.
    pub(crate) fn destination(&self, name: &str) -> Destination {
        let index = self.names.get(name);
        let topic = index.map(|index| &self.topics[index as usize]);
        match topic.filter(|topic| topic.subscription == Subscription::Confirmed) {
            Some(topic) => topic
                .local
                .map_or(Destination::NoMembers, Destination::Members),
            None => Destination::NotSubscribed,
        }
    }

    /// Returns the names of all topics in the table: among them all that have members or retained messages.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter().map(|(_, topic)| &topic.name)
    }

    /// Adds a session that waits for the broker.
    pub(crate) fn wait(&mut self, id: Id) {
        self.waiting.push(id);
        self.stats.waiting += 1;
    }

    /// Returns the sessions that wait, if they may continue: the broker is connected, and at most a quarter of the outbox is
    /// in use.
    pub(crate) fn resumed(&mut self) -> Vec<Id> {
        let is_low = self.outbox_bytes + self.batch_bytes <= self.options.outbox_bytes_max / 4;
        if self.waiting.is_empty() || !self.is_connected() || !is_low {
            return Vec::new();
        }
        self.stats.waiting = 0;
        mem::take(&mut self.waiting)
    }

    /// Returns the milliseconds until there is something to do: events to read, publications to send, the end of the grace
    /// period, or a topic to unsubscribe.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        if self.has_unsent() || self.has_more_events || self.ready != NOT_READY {
            return Some(0);
        }
        let abandoned = self.abandoned.front().map(|(due, _)| *due);
        let grace = match self.link {
            Link::Away {
                since,
                is_grace_over: false,
                ..
            }
            | Link::Subscribing {
                since,
                is_grace_over: false,
                ..
            } => Some(since + self.grace_millis()),
            Link::Away { .. } | Link::Subscribing { .. } | Link::Whole => None,
        };
        let next = abandoned.into_iter().chain(grace).min()?;
        Some(next.saturating_sub(now))
    }

    /// Returns whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
        match self.link {
            Link::Away { .. } => false,
            Link::Subscribing { .. } | Link::Whole => true,
        }
    }

    /// Requests a subscription.
    fn request(&mut self, index: u32) {
        let topic = &mut self.topics[index as usize];
        topic.subscription = Subscription::Requested;
        topic.unconfirmed += 1;
        topic.changes += 1;
        self.confirmations_missing += 1;
        self.changes.push_back(Change::Subscribe(index));
    }

    fn find_or_insert(&mut self, name: &Arc<str>) -> u32 {
        if let Some(index) = self.names.get(name) {
            return index;
        }
        let index = self.topics.insert(SharedTopic {
            name: Arc::clone(name),
            local: None,
            subscription: Subscription::None,
            unconfirmed: 0,
            batch: Vec::new(),
            ends: Vec::new(),
            messages: 0,
            abandonments: 0,
            changes: 0,
        }) as u32;
        self.names.insert(Arc::clone(name), index);
        index
    }

    /// Removes a topic that nothing refers to.
    fn remove_if_unused(&mut self, index: u32) {
        let topic = &self.topics[index as usize];
        let is_unused = topic.local.is_none()
            && topic.subscription == Subscription::None
            && topic.unconfirmed == 0
            && topic.messages == 0
            && topic.abandonments == 0
            && topic.changes == 0;
        if is_unused {
            let topic = self.topics.remove(index as usize);
            self.names.remove(&topic.name);
            if self.topics.is_empty() {
                self.topics = Slab::new();
                self.names.shrink_to(0);
            }
        }
    }
}

/// Formats a duration for the log. Floating-point numbers would add much code to the binary.
fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

pub(crate) const NOT_READY: Ready = Ready {
    is_readable: false,
    is_writable: false,
};

/// Maximum errors of the connection that are logged between two connections.
const LOGGED_ERRORS_MAX: usize = 4;

/// Milliseconds between the end of a topic's last membership and its UNSUBSCRIBE. A page that is reloaded leaves and joins
/// again within this time. Also the interval at which a topic without members is checked for retained messages.
const UNSUBSCRIBE_DELAY_MILLIS: u64 = 1000;

/// Bytes above which a batch is divided into several publications: the broker holds a copy of a publication for each server,
/// and a long publication delays those of other topics. A longer message is a publication of its own.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Maximum bytes of a topic's name. A handler may take names from clients, and the broker's confirmation of a very long one
/// would exceed the limit of what is read from the broker.
pub(crate) const NAME_BYTES_MAX: usize = 4 * 1024;

/// Maximum capacity of a topic's batch buffer that is retained for the next turn.
const BATCH_BYTES_RETAINED: usize = 4 * 1024;

/// Maximum capacity of [`SharedTopics::dirty`] that is retained for the next turn.
const DIRTY_RETAINED: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_fail_alternately_for_two_reasons_are_logged_twice() {
        let mut topics = SharedTopics::new(BackplaneOptions::default(), [0; 8], 0);
        let logged = (0..100)
            .filter(|number| {
                topics.is_to_be_logged(&BackplaneError::new(format!("reason {}", number % 2)))
            })
            .count();
        assert_eq!(logged, 2);
        let logged = (0..100)
            .filter(|number| {
                topics.is_to_be_logged(&BackplaneError::new(format!("reason {number}")))
            })
            .count();
        assert_eq!(logged, LOGGED_ERRORS_MAX - 2);
        topics.connected(1);
        assert!(topics.is_to_be_logged(&BackplaneError::new("reason 0")));
    }
}
