//! All topics: by name, each with its log, its members' cursors and its lag policy.
//!
//! Publishing frames the message once, into the topic's log, whatever the number of members. The loop claims for
//! each member what lies between its cursor and the log's end, in laps around the members: a lap costs messages +
//! members, and may take several turns; who comes late in it gets what was published meanwhile with the rest.
//! A topic lives while it has members or somebody's queue still owes bytes of its log.

use super::log::Log;
use crate::buffer::BufferPool;
use crate::config::LagPolicy;
use crate::proto::Message;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

/// A topic's place in [`Topics`]; only valid while the topic lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicKey(u32);

/// The topics of one server.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    names: HashMap<Arc<str>, TopicKey>,
    topics: Slab<Topic>,
    /// By name and not in [`Topic`], so that a policy outlives the members.
    policies: HashMap<Arc<str>, LagPolicy>,
    /// Whose lap is not over, in the order of their turns.
    dirty: VecDeque<TopicKey>,
    /// May have chunks, or themselves, to give back.
    loose: Vec<TopicKey>,
    /// Bytes published since no topic was dirty.
    dirty_len: usize,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    log: Log,
    members: Vec<Member>,
    /// Whose turn it is in the lap, and how many are to come before it is over.
    next: usize,
    due: usize,
    /// Messages published to it.
    published: u64,
    policy: Option<LagPolicy>,
    is_dirty: bool,
    is_loose: bool,
}

/// A session in a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// The session's slot.
    pub(crate) slot: usize,
    /// Up to where the session's queue has claimed the log.
    pub(crate) cursor: u64,
}

impl Topic {
    /// Members have come, gone or changed places: if a lap is under way, all of them are to come in it again, which
    /// costs those who have claimed next to nothing.
    fn begin_lap_anew(&mut self) {
        if self.due > 0 {
            self.due = self.members.len();
        }
    }
}

impl Topics {
    /// The topic of that name, if it lives.
    pub(crate) fn find(&self, name: &str) -> Option<TopicKey> {
        self.names.get(name).copied()
    }

    /// The topic of that name, made if there is none.
    pub(crate) fn find_or_insert(&mut self, name: &str) -> TopicKey {
        if let Some(key) = self.find(name) {
            return key;
        }
        let name: Arc<str> = name.into();
        let topic = Topic {
            name: Arc::clone(&name),
            log: Log::default(),
            members: Vec::new(),
            next: 0,
            due: 0,
            published: 0,
            policy: self.policies.get(&name).copied(),
            is_dirty: false,
            is_loose: false,
        };
        let key = TopicKey(
            u32::try_from(self.topics.insert(topic)).expect("topics are fewer than sessions"),
        );
        self.names.insert(name, key);
        key
    }

    /// The topic's name.
    pub(crate) fn name(&self, key: TopicKey) -> &Arc<str> {
        &self.topic(key).name
    }

    /// Gives the topic of that name a lag policy of its own, now and whenever it comes to life; `None` takes it
    /// back.
    pub(crate) fn set_policy(&mut self, name: &str, policy: Option<LagPolicy>) {
        match policy {
            Some(policy) => {
                self.policies.insert(name.into(), policy);
            }
            None => {
                self.policies.remove(name);
            }
        }
        if let Some(key) = self.find(name) {
            self.topic_mut(key).policy = policy;
        }
    }

    /// The topic's own lag policy.
    pub(crate) fn policy(&self, key: TopicKey) -> Option<LagPolicy> {
        self.topic(key).policy
    }

    /// Adds a member that has yet to receive nothing; its index among the members.
    pub(crate) fn join(&mut self, key: TopicKey, slot: usize) -> usize {
        let topic = self.topic_mut(key);
        topic.members.push(Member {
            slot,
            cursor: topic.log.end(),
        });
        topic.begin_lap_anew();
        topic.members.len() - 1
    }

    /// Removes the member at `index`; the last member takes its index, and is returned if there is one.
    pub(crate) fn leave(&mut self, key: TopicKey, index: usize) -> Option<Member> {
        let topic = self.topic_mut(key);
        topic.members.swap_remove(index);
        let moved = topic.members.get(index).copied();
        topic.begin_lap_anew();
        self.loosen(key);
        moved
    }

    /// How many members the topic has.
    pub(crate) fn member_count(&self, key: TopicKey) -> usize {
        self.topic(key).members.len()
    }

    /// The member at `index`.
    pub(crate) fn member(&self, key: TopicKey, index: usize) -> Member {
        self.topic(key).members[index]
    }

    /// Frames `message` once, for all members; how many there are. Without members nothing is kept.
    pub(crate) fn publish(
        &mut self,
        key: TopicKey,
        message: Message<'_>,
        buffers: &mut BufferPool,
    ) -> usize {
        let topic = &mut self.topics[key.0 as usize];
        if topic.members.is_empty() {
            return 0;
        }
        let header = message.server_header();
        topic
            .log
            .append(header.as_slice(), message.as_bytes(), buffers);
        topic.published += 1;
        topic.due = topic.members.len();
        self.dirty_len += header.as_slice().len() + message.len();
        if !mem::replace(&mut topic.is_dirty, true) {
            self.dirty.push_back(key);
        }
        topic.members.len()
    }

    /// What the member at `index` has not claimed yet, claimed now; `None` if that is nothing.
    pub(crate) fn claim(&mut self, key: TopicKey, index: usize) -> Option<(u64, u64)> {
        let topic = self.topic_mut(key);
        let end = topic.log.end();
        let from = mem::replace(&mut topic.members[index].cursor, end);
        (from < end).then_some((from, end))
    }

    /// How many bytes the member at `index` has not claimed yet.
    pub(crate) fn unclaimed(&self, key: TopicKey, index: usize) -> usize {
        let topic = self.topic(key);
        (topic.log.end() - topic.members[index].cursor) as usize
    }

    /// How many messages were published to the topic while it had members.
    pub(crate) fn published(&self, key: TopicKey) -> u64 {
        self.topic(key).published
    }

    /// Bytes published since everything that was published had been claimed.
    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty_len
    }

    /// Whether a member may have something to claim.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next member to claim for, as its topic and index; `None`: everybody has claimed everything.
    pub(crate) fn next_due(&mut self) -> Option<(TopicKey, usize)> {
        while let Some(&key) = self.dirty.front() {
            let topic = self.topic_mut(key);
            if let Some(due) = topic.due.checked_sub(1) {
                topic.due = due;
                // Who was last may have left.
                let index = if topic.next < topic.members.len() {
                    topic.next
                } else {
                    0
                };
                topic.next = index + 1;
                return Some((key, index));
            }
            topic.is_dirty = false;
            self.dirty.pop_front();
            self.loosen(key);
        }
        self.dirty_len = 0;
        None
    }

    /// Lets another topic be the next one, if several are dirty.
    pub(crate) fn take_turns(&mut self) {
        if self.dirty.len() > 1 {
            self.dirty.rotate_left(1);
        }
    }

    /// The bytes `from..to` of a log, in pieces.
    pub(crate) fn slices(&self, key: TopicKey, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        self.topic(key).log.slices(from, to)
    }

    pub(super) fn frame_boundary(&self, key: TopicKey, position: u64) -> u64 {
        self.topic(key).log.frame_boundary(position)
    }

    pub(super) fn frames(&self, key: TopicKey, from: u64, to: u64) -> u64 {
        self.topic(key).log.frames(from, to)
    }

    pub(super) fn pin(&mut self, key: TopicKey, position: u64) {
        self.topic_mut(key).log.pin(position);
    }

    pub(super) fn unpin(&mut self, key: TopicKey, position: u64) {
        self.topic_mut(key).log.unpin(position);
        self.loosen(key);
    }

    pub(super) fn hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.hold(from, to);
    }

    /// Takes back a hold of `from..to`, but for `kept..to`.
    pub(super) fn release(&mut self, key: TopicKey, from: u64, kept: u64, to: u64) {
        self.topic_mut(key).log.release(from, kept, to);
        self.loosen(key);
    }

    /// Moves a pin within a queue's range that ends at `end`, where the pin is taken back.
    pub(super) fn move_pin(&mut self, key: TopicKey, from: u64, to: u64, end: u64) {
        self.topic_mut(key).log.unpin(from);
        if to < end {
            self.topic_mut(key).log.pin(to);
        }
        self.loosen(key);
    }

    /// Gives back what nobody needs any more: chunks, and topics without members. To be called when everything
    /// published has been claimed; a topic that is dirty again waits for the next call.
    pub(crate) fn trim(&mut self, buffers: &mut BufferPool) {
        for key in mem::take(&mut self.loose) {
            let topic = self.topic_mut(key);
            topic.is_loose = false;
            if topic.is_dirty {
                continue;
            }
            topic.log.trim(buffers);
            if topic.members.is_empty() && topic.log.is_empty() {
                let topic = self.topics.remove(key.0 as usize);
                self.names.remove(&topic.name);
            }
        }
        if self.names.is_empty() && self.names.capacity() > 0 {
            self.names.shrink_to_fit();
            self.topics.shrink_to_fit();
        }
    }

    fn loosen(&mut self, key: TopicKey) {
        if !mem::replace(&mut self.topic_mut(key).is_loose, true) {
            self.loose.push(key);
        }
    }

    fn topic(&self, key: TopicKey) -> &Topic {
        &self.topics[key.0 as usize]
    }

    fn topic_mut(&mut self, key: TopicKey) -> &mut Topic {
        &mut self.topics[key.0 as usize]
    }

    /// Bytes held by all logs, as the allocator sees them.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.topics
            .iter()
            .map(|(_, topic)| topic.log.capacity())
            .sum()
    }

    /// How many topics live.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.topics.len()
    }
}
