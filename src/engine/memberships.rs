//! Sessions as members of topics: join, leave, publish, claim.
//!
//! A publication is stored once, in the log of its topic. To *claim* means to append the unclaimed part of that log to
//! a session's queue, as a range and without a copy. A session claims when it is flushed, and before anything is queued
//! that must follow the publication.

use super::Engine;
use super::session::{Membership, Session};
use crate::config::{LagPolicy, Replay};
use crate::id::Id;
use crate::outbound::{Claim, GAP_MAX, TopicKey, Topics};
use crate::proto::Message;
use std::sync::Arc;

impl Engine {
    /// See [`Context::subscribe`](crate::Context::subscribe).
    pub(crate) fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.join(id, topic, None)
    }

    /// See [`Context::subscribe_with_replay`](crate::Context::subscribe_with_replay).
    pub(crate) fn subscribe_with_replay(&mut self, id: Id, topic: &str, replay: Replay) -> bool {
        self.join(id, topic, Some(replay))
    }

    /// Makes the session a member, and queues what the topic retains for replay. `replay`: what the topic retains from
    /// now on, if that was not set by name.
    fn join(&mut self, id: Id, topic: &str, replay: Option<Replay>) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        let memberships = self.sessions[slot].memberships();
        if memberships.len() >= self.config.memberships_max {
            log::debug!(
                "{id} cannot join topic {topic:?}: it is a member of {} topics (memberships_max)",
                memberships.len()
            );
            return false;
        }
        #[cfg(feature = "backplane")]
        if !self.may_share(topic) {
            log::debug!("{id} cannot join a topic whose name has {} B", topic.len());
            return false;
        }
        let found = self.topics.find(topic);
        if found.is_some_and(|topic| memberships.iter().any(|one| one.topic == topic)) {
            return false;
        }
        let topic = found.unwrap_or_else(|| {
            let path = self.sessions[slot].path;
            let path = path.and_then(|key| self.paths.whole_path(key));
            // `Broadcast` names a topic after the path of its members. Such a name shares the path's memory.
            let name = path.filter(|path| **path == *topic);
            self.topics.insert(name.unwrap_or_else(|| topic.into()))
        });
        if let Some(replay) = replay {
            self.topics.set_replay_while_it_exists(topic, replay);
        }
        let unsent_to = self.sessions[slot].outbound.unsent_to(topic);
        // What the log has released is not retained for the sake of this session.
        let unsent_to = unsent_to.map(|to| to.max(self.topics.log_start(topic)));
        let replayed = self.claim_replay(slot, topic, unsent_to);
        let unsent_to = unsent_to.filter(|_| replayed.is_none());
        let index = self.topics.join(topic, slot, unsent_to);
        #[cfg(feature = "backplane")]
        if self.topics.member_count(topic) == 1 {
            self.share_topic(topic);
        }
        self.lag_policy = Some(Self::apply_lag_policy);
        let memberships = &mut self.sessions[slot].extra_mut().memberships;
        if memberships.is_empty() {
            // Most members have only one membership.
            memberships.reserve_exact(1);
        }
        memberships.push(Membership { topic, index });
        match replayed {
            Some(claim) => self.queue_replay(slot, topic, claim),
            // Earlier publications were claimed, and no retained message fits.
            None if self.sessions[slot].has_unchecked_claims => self.queue_flush(slot),
            None => {}
        }
        true
    }

    /// Returns the newest messages that a topic retains and that fit into the lag limit of a new member. Queues what was
    /// published to the session before. `unsent_to`: see [`Outbound::unsent_to`](crate::outbound::Outbound::unsent_to).
    fn claim_replay(
        &mut self,
        slot: usize,
        topic: TopicKey,
        unsent_to: Option<u64>,
    ) -> Option<Claim> {
        let all = self.topics.replay(topic, usize::MAX, unsent_to)?;
        self.claim_before_message(slot);
        // As many bytes as a member may have unsent. A peer can make its session join many times in a turn, and a flush
        // writes all that exceeds the limit at once.
        let len_max = self.config.lag_bytes_max;
        let unsent = self.sessions[slot].outbound.log_cost_before_range();
        let mut len_max = len_max.saturating_sub(unsent);
        // The gap counts as well. If it and all messages behind it do not fit, dropping messages makes it longer.
        let behind_unsent = unsent_to.map_or(0, |unsent_to| all.to.saturating_sub(unsent_to));
        if behind_unsent > len_max as u64 {
            len_max = len_max.saturating_sub(behind_unsent.min(GAP_MAX.into()) as usize);
        }
        self.topics.replay(topic, len_max, unsent_to)
    }

    /// Queues what a topic has retained for a new member, after everything that was sent or published to the session.
    #[inline(never)]
    fn queue_replay(&mut self, slot: usize, topic: TopicKey, claim: Claim) {
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            stats,
            ..
        } = self;
        let session = &mut sessions[slot];
        session.messages_out += claim.messages;
        stats.messages_out += claim.messages;
        session
            .outbound
            .push_range(topic, claim, topics, turn_buffer, buffers);
        // Together with earlier claims, which it does not limit, the claim may exceed the lag limit.
        session.has_unchecked_claims = true;
        self.queue_flush(slot);
    }

    /// See [`Context::unsubscribe`](crate::Context::unsubscribe).
    pub(crate) fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        let Some(topic) = self.topics.find(topic) else {
            return false;
        };
        let Some(session) = self.session(id) else {
            return false;
        };
        let mut memberships = session.memberships().iter();
        let Some(position) = memberships.position(|one| one.topic == topic) else {
            return false;
        };
        let slot = id.slot as usize;
        self.claim_before_message(slot);
        let memberships = &mut self.sessions[slot].extra_mut().memberships;
        let membership = memberships.swap_remove(position);
        self.leave(membership);
        self.queue_flush(slot);
        true
    }

    /// See [`Context::publish`](crate::Context::publish).
    pub(crate) fn publish(&mut self, topic: &str, message: Message<'_>) -> usize {
        #[cfg(feature = "backplane")]
        if self.shared.is_some() {
            return self.publish_shared(topic, message, None);
        }
        self.publish_local(topic, message)
    }

    /// See `Context::publish_local`.
    pub(crate) fn publish_local(&mut self, topic: &str, message: Message<'_>) -> usize {
        match self.find_to_publish(topic) {
            Some(topic) => self.publish_to(topic, message, None),
            None => 0,
        }
    }

    /// Publishes to all members of the topic, except the one at the index `except`, which must have no unclaimed bytes.
    pub(crate) fn publish_to(
        &mut self,
        topic: TopicKey,
        message: Message<'_>,
        except: Option<usize>,
    ) -> usize {
        let members = self
            .topics
            .publish(topic, message, except, &mut self.buffers);
        self.stats.messages_out += members as u64;
        members
    }

    /// See [`Context::publish_except`](crate::Context::publish_except).
    pub(crate) fn publish_except(&mut self, id: Id, topic: &str, message: Message<'_>) -> usize {
        #[cfg(feature = "backplane")]
        if self.shared.is_some() {
            let is_member = self.is_subscribed(id, topic);
            let members = self.publish_shared(topic, message, Some(id));
            return members.saturating_sub(usize::from(is_member));
        }
        match self.find_to_publish(topic) {
            Some(topic) => self.publish_to_others(id, topic, message),
            None => 0,
        }
    }

    /// Publishes to all members of the topic except the session `id`.
    pub(crate) fn publish_to_others(
        &mut self,
        id: Id,
        topic: TopicKey,
        message: Message<'_>,
    ) -> usize {
        let index = self.member_index(id, topic);
        if let Some(index) = index
            && self.topics.unclaimed(topic, index) > 0
        {
            // A claim takes all unclaimed bytes, so that the message cannot be excepted between two others.
            let slot = id.slot as usize;
            self.claim_before_message(slot);
            self.queue_flush(slot);
        }
        self.publish_to(topic, message, index)
    }

    /// Returns the topic of that name, if a publication to it has an effect. Creates the topic if only its replay was set.
    pub(crate) fn find_to_publish(&mut self, topic: &str) -> Option<TopicKey> {
        let found = self.topics.find(topic);
        found.or_else(|| self.topics.insert_for_replay(topic))
    }

    /// See [`Context::is_subscribed`](crate::Context::is_subscribed).
    pub(crate) fn is_subscribed(&self, id: Id, topic: &str) -> bool {
        let topic = self.topics.find(topic);
        topic.is_some_and(|topic| self.member_index(id, topic).is_some())
    }

    /// See [`Context::topics`](crate::Context::topics).
    pub(crate) fn topics(&self, id: Id) -> Vec<Arc<str>> {
        let memberships = self.session(id).map_or(&[][..], Session::memberships);
        let names = memberships.iter().map(|one| self.topics.name(one.topic));
        names.cloned().collect()
    }

    /// See [`Context::members`](crate::Context::members).
    pub(crate) fn members(&self, topic: &str) -> Vec<Id> {
        let topic = self.topics.find(topic);
        let slots = topic.map(|topic| self.topics.member_slots(topic));
        slots
            .into_iter()
            .flatten()
            .map(|slot| self.id_of(slot))
            .collect()
    }

    /// Returns the session's index among the members of the topic. O(memberships).
    fn member_index(&self, id: Id, topic: TopicKey) -> Option<usize> {
        let mut memberships = self.session(id)?.memberships().iter();
        let membership = memberships.find(|one| one.topic == topic)?;
        Some(membership.index)
    }

    /// See [`Context::subscribers`](crate::Context::subscribers).
    pub(crate) fn subscribers(&self, topic: &str) -> usize {
        self.topics
            .find(topic)
            .map_or(0, |topic| self.topics.member_count(topic))
    }

    /// See [`Context::set_lag_policy`](crate::Context::set_lag_policy).
    pub(crate) fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.topics.set_policy(topic, policy);
    }

    /// See [`Context::set_replay`](crate::Context::set_replay).
    pub(crate) fn set_replay(&mut self, topic: &str, replay: Option<Replay>) {
        self.topics.set_replay(topic, replay);
        #[cfg(feature = "backplane")]
        if replay.is_some() {
            self.share_retained_topic(topic);
        }
    }

    /// Returns whether a member may skip messages of the topic. `default` is the policy of topics without their own.
    pub(crate) fn may_skip(topics: &Topics, topic: TopicKey, default: LagPolicy) -> bool {
        topics.policy(topic).unwrap_or(default) == LagPolicy::Skip
    }

    /// Returns whether the session's topics have publications that the session has not claimed. O(memberships).
    pub(crate) fn has_unclaimed(&self, slot: usize) -> bool {
        self.topics.is_dirty()
            && self.sessions[slot]
                .memberships()
                .iter()
                .any(|one| self.topics.unclaimed(one.topic, one.index) > 0)
    }

    /// Claims the publications of all the session's topics: appends them to the session's queue. Returns the number of
    /// bytes.
    pub(crate) fn claim_all(&mut self, slot: usize) -> usize {
        // A clean `topics` means that every member has claimed everything.
        if !self.topics.is_dirty() {
            return 0;
        }
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            ..
        } = self;
        let session = &mut sessions[slot];
        let Some(extra) = &session.extra else {
            return 0;
        };
        let mut len = 0;
        for &Membership { topic, index } in &extra.memberships {
            if let Some(claim) = topics.claim(topic, index) {
                len += (claim.to - claim.from) as usize;
                session.messages_out += claim.messages;
                session
                    .outbound
                    .push_range(topic, claim, topics, turn_buffer, buffers);
            }
        }
        len
    }

    /// Claims outside of a flush, before something is queued that must follow the publications: a message, or the end
    /// of a membership. The next flush then checks the member's lag.
    pub(crate) fn claim_before_message(&mut self, slot: usize) {
        if self.claim_all(slot) > 0 {
            self.sessions[slot].has_unchecked_claims = true;
        }
    }

    /// Ends all memberships of the session. Earlier publications are claimed first, and so are still sent.
    pub(super) fn leave_topics(&mut self, slot: usize) {
        if !self.sessions[slot].memberships().is_empty() {
            self.claim_all(slot);
            self.forget_topics(slot);
        }
    }

    /// Ends all memberships of the session. Unclaimed publications are not sent to the session.
    pub(super) fn forget_topics(&mut self, slot: usize) {
        if self.sessions[slot].memberships().is_empty() {
            return;
        }
        while let Some(membership) = self.sessions[slot].extra_mut().memberships.pop() {
            self.leave(membership);
        }
    }

    /// Removes a member from a topic. The caller has removed the membership from the member's session. The topic moves
    /// its last member to the free index, so the membership of the moved member's session is updated.
    fn leave(&mut self, membership: Membership) {
        let Membership { topic, index } = membership;
        let moved = self.topics.leave(topic, index);
        #[cfg(feature = "backplane")]
        if self.topics.member_count(topic) == 0 {
            self.abandon_topic(topic);
        }
        let Some(moved) = moved else {
            return;
        };
        let memberships = &mut self.sessions[moved.slot].extra_mut().memberships;
        let moved = memberships.iter_mut().find(|one| one.topic == topic);
        moved.expect("a member's session has its membership").index = index;
    }
}
