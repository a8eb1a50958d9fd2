//! All topics: by name, each with its log, its members' cursors and its lag policy.
//!
//! Publishing frames the message once, into the topic's log, whatever the number of members. A member claims the bytes
//! between its cursor and the log's end when its session is flushed. [`Topics::next_unclaimed`] yields the sessions that
//! have something to claim, round-robin; a round may take several turns, and a member that is visited late in it claims
//! what was published meanwhile as well.
//!
//! A topic exists while it has members, or while a queue refers to bytes of its log.

use super::log::Log;
use crate::buffer::BufferPool;
use crate::config::LagPolicy;
use crate::proto::Message;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

/// A topic's place in [`Topics`]; only valid while the topic exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicKey(u32);

/// The topics of one server.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    names: HashMap<Arc<str>, TopicKey>,
    topics: Slab<Topic>,
    /// By name and not in [`Topic`], so that a policy outlives the members.
    policies: HashMap<Arc<str>, LagPolicy>,
    /// Topics of which some member has unclaimed bytes, in the order in which they are visited.
    dirty: VecDeque<TopicKey>,
    /// Topics to check for chunks to release, or for removal.
    trim_candidates: Vec<TopicKey>,
    /// The maximum number of topics since the tables were last shrunk.
    count_max: usize,
    /// See [`Topics::unclaimed_len`].
    unclaimed_len: usize,
    /// See [`Topics::published_len`].
    published_len: u64,
    /// Bytes of the frame that was published last.
    newest_len: usize,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    log: Log,
    members: Vec<Member>,
    /// The member that is visited next.
    next: usize,
    /// Members without unclaimed bytes.
    caught_up: usize,
    /// All members have claimed what lies before this position.
    unclaimed_from: u64,
    policy: Option<LagPolicy>,
    is_dirty: bool,
    is_trim_candidate: bool,
}

/// A session in a topic.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// The session's slot.
    slot: u32,
    /// The position up to which the session has claimed the log.
    cursor: u64,
    /// The number of messages before that position.
    messages: u64,
}

/// Bytes of a log that a session has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) messages: u64,
}

/// A member whose index among the members of a topic has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The session's slot.
    pub(crate) slot: usize,
}

impl Topic {
    fn is_clean(&self) -> bool {
        self.caught_up == self.members.len()
    }

    /// Recomputes from where bytes are unclaimed. Returns by how many fewer they are.
    fn update_unclaimed(&mut self) -> usize {
        let from = if self.is_clean() {
            self.log.end()
        } else {
            self.log.unclaimed_from().max(self.unclaimed_from)
        };
        (from - mem::replace(&mut self.unclaimed_from, from)) as usize
    }
}

impl Topics {
    /// The topic of that name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<TopicKey> {
        self.names.get(name).copied()
    }

    /// The topic of that name, created if there is none.
    #[cfg(test)]
    pub(crate) fn find_or_insert(&mut self, name: &str) -> TopicKey {
        self.find(name).unwrap_or_else(|| self.insert(name.into()))
    }

    /// Creates a topic of that name, of which there is none.
    pub(crate) fn insert(&mut self, name: Arc<str>) -> TopicKey {
        let topic = Topic {
            name: Arc::clone(&name),
            log: Log::default(),
            // Many topics have one member.
            members: Vec::with_capacity(1),
            next: 0,
            caught_up: 0,
            unclaimed_from: 0,
            policy: self.policies.get(&name).copied(),
            is_dirty: false,
            is_trim_candidate: false,
        };
        let key = u32::try_from(self.topics.insert(topic));
        let key = TopicKey(key.expect("memory holds fewer than 2^32 topics"));
        self.names.insert(name, key);
        self.count_max = self.count_max.max(self.topics.len());
        key
    }

    /// The topic's name.
    pub(crate) fn name(&self, key: TopicKey) -> &Arc<str> {
        &self.topic(key).name
    }

    /// Gives the topic of that name a lag policy of its own, whether it exists now or later; `None` removes it.
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

    /// Adds a member that will receive what is published from now on. Returns its index among the members.
    pub(crate) fn join(&mut self, key: TopicKey, slot: usize) -> usize {
        let topic = self.topic_mut(key);
        topic.members.push(Member {
            slot: slot as u32,
            cursor: topic.log.end(),
            messages: topic.log.messages(),
        });
        topic.caught_up += 1;
        topic.members.len() - 1
    }

    /// Removes the member at `index`. The last member, if it is another, gets this index, and is returned.
    pub(crate) fn leave(&mut self, key: TopicKey, index: usize) -> Option<Moved> {
        let topic = self.topic_mut(key);
        let member = topic.members.swap_remove(index);
        if member.cursor == topic.log.end() {
            topic.caught_up -= 1;
        } else {
            topic.log.remove_cursor(member.cursor);
        }
        let claimed = topic.update_unclaimed();
        let moved = topic.members.get(index).map(|member| Moved {
            slot: member.slot as usize,
        });
        self.unclaimed_len -= claimed;
        self.add_trim_candidate(key);
        moved
    }

    /// The number of the topic's members.
    pub(crate) fn member_count(&self, key: TopicKey) -> usize {
        self.topic(key).members.len()
    }

    /// Frames `message` once, for all members. Returns their number. Without members nothing is retained.
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
        let start = topic.log.end();
        topic
            .log
            .append(header.as_slice(), message.as_bytes(), buffers);
        let caught_up = mem::take(&mut topic.caught_up);
        if caught_up > 0 {
            topic.log.add_cursors(start, caught_up as u32);
        }
        let len = header.as_slice().len() + message.len();
        self.unclaimed_len += len;
        self.published_len += len as u64;
        self.newest_len = len;
        if !mem::replace(&mut topic.is_dirty, true) {
            self.dirty.push_back(key);
        }
        topic.members.len()
    }

    /// Claims what the member at `index` has not claimed yet; `None` if that is nothing.
    pub(crate) fn claim(&mut self, key: TopicKey, index: usize) -> Option<Claim> {
        let topic = &mut self.topics[key.0 as usize];
        let member = &mut topic.members[index];
        let end = topic.log.end();
        if member.cursor == end {
            return None;
        }
        let from = mem::replace(&mut member.cursor, end);
        let messages = topic.log.messages();
        let messages = messages - mem::replace(&mut member.messages, messages);
        topic.caught_up += 1;
        if topic.log.remove_cursor(from) {
            self.unclaimed_len -= topic.update_unclaimed();
            self.add_trim_candidate(key);
        }
        Some(Claim {
            from,
            to: end,
            messages,
        })
    }

    /// The number of bytes that the member at `index` has not claimed yet.
    pub(crate) fn unclaimed(&self, key: TopicKey, index: usize) -> usize {
        let topic = self.topic(key);
        (topic.log.end() - topic.members[index].cursor) as usize
    }

    /// Bytes that logs retain because some member has not claimed them yet, to the chunk.
    pub(crate) fn unclaimed_len(&self) -> usize {
        self.unclaimed_len
    }

    /// Bytes published since the start.
    pub(crate) fn published_len(&self) -> u64 {
        self.published_len
    }

    /// Returns the bytes of the frame that was published last.
    pub(crate) fn newest_len(&self) -> usize {
        self.newest_len
    }

    /// Whether a member may have something to claim.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The slot of the next session that has something to claim, and how many bytes of one topic that is; `None`: all
    /// members have claimed everything.
    ///
    /// Topics are visited in turns of one member each, so that a topic that is always dirty does not delay another.
    pub(crate) fn next_unclaimed(&mut self) -> Option<(usize, usize)> {
        while let Some(key) = self.dirty.pop_front() {
            let topic = self.topic_mut(key);
            if topic.is_clean() {
                topic.is_dirty = false;
                self.add_trim_candidate(key);
                continue;
            }
            let end = topic.log.end();
            // One member at least is not caught up, so this ends.
            let member = loop {
                let index = if topic.next < topic.members.len() {
                    topic.next
                } else {
                    0
                };
                topic.next = index + 1;
                let member = topic.members[index];
                if member.cursor < end {
                    break member;
                }
            };
            self.dirty.push_back(key);
            return Some((member.slot as usize, (end - member.cursor) as usize));
        }
        None
    }

    /// The bytes `from..to` of a log, chunk by chunk.
    pub(crate) fn slices(&self, key: TopicKey, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        self.topic(key).log.slices(from, to)
    }

    /// The bytes `from..to` of a log, which are not empty, as far as they lie in one chunk.
    pub(super) fn first_slice(&self, key: TopicKey, from: u64, to: u64) -> &[u8] {
        self.topic(key).log.first_slice(from, to)
    }

    pub(super) fn frame_boundary(&self, key: TopicKey, position: u64) -> u64 {
        self.topic(key).log.frame_boundary(position)
    }

    /// The number of whole messages in `from..to`, both boundaries of frames.
    pub(super) fn messages(&self, key: TopicKey, from: u64, to: u64) -> u64 {
        let log = &self.topic(key).log;
        log.messages_before(to) - log.messages_before(from)
    }

    pub(super) fn hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.hold(from, to);
    }

    pub(super) fn extend_hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.extend_hold(from, to);
    }

    /// Shortens a hold of `from..to` to `kept..to`.
    pub(super) fn release(&mut self, key: TopicKey, from: u64, kept: u64, to: u64) {
        if self.topic_mut(key).log.release(from, kept, to) {
            self.add_trim_candidate(key);
        }
    }

    /// Releases chunks that no reader needs, and topics without members and unsent bytes.
    pub(crate) fn trim(&mut self, buffers: &mut BufferPool) {
        if self.trim_candidates.is_empty() {
            return;
        }
        while let Some(key) = self.trim_candidates.pop() {
            let topic = self.topic_mut(key);
            topic.is_trim_candidate = false;
            topic.log.trim(buffers);
            // A topic in the queue of dirty ones is a candidate again when it leaves that.
            if topic.members.is_empty() && topic.log.is_empty() && !topic.is_dirty {
                let topic = self.topics.remove(key.0 as usize);
                self.names.remove(&topic.name);
            }
        }
        self.shrink();
        if self.trim_candidates.capacity() > CANDIDATES_KEPT {
            self.trim_candidates = Vec::new();
        }
    }

    /// Releases the memory of tables that less than a quarter of is in use.
    ///
    /// The table of topics shrinks down to the highest place in use, because a key is a place: a topic that was created late
    /// and stays retains the places of topics that were created before it. New topics use those places first.
    ///
    /// To shrink visits every place, so it is done only when half of the topics have gone since the last time: a constant
    /// number of places per removed topic, unless topics in the highest places are removed one by one.
    fn shrink(&mut self) {
        let count = self.topics.len();
        if count == 0 && self.names.capacity() > 0 {
            self.names = HashMap::new();
            self.topics = Slab::new();
            self.count_max = 0;
        } else if count < self.topics.capacity() / 4
            && count <= self.count_max / 2
            && self.topics.capacity() > TABLE_KEPT
        {
            // The map's own `capacity` does not include the places of removed names.
            self.names.shrink_to(2 * count);
            self.topics.shrink_to_fit();
            self.count_max = count;
        }
    }

    fn add_trim_candidate(&mut self, key: TopicKey) {
        if !mem::replace(&mut self.topic_mut(key).is_trim_candidate, true) {
            self.trim_candidates.push(key);
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
        let logs = self.topics.iter().map(|(_, topic)| topic.log.capacity());
        logs.sum()
    }

    /// Bytes of the tables of topics.
    #[cfg(test)]
    pub(crate) fn table_bytes(&self) -> usize {
        self.topics.capacity() * size_of::<Topic>()
            + self.names.capacity() * size_of::<(Arc<str>, TopicKey)>()
    }

    /// The number of topics.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.topics.len()
    }
}

/// Places in the table of topics that are retained while there is a topic: some 10 KB.
const TABLE_KEPT: usize = 64;

/// The room for trim candidates that is retained; a burst may need more.
const CANDIDATES_KEPT: usize = 256;
