//! All topics. Each has a name, a log, its members with their cursors, and an optional lag policy.
//!
//! A publication is framed once, into the topic's log, for any number of members. When a member's session is flushed,
//! it *claims* the published bytes: its cursor advances to the end of the log, and the range of bytes between the old
//! and the new cursor is added to the session's queue. [`Topics::next_unclaimed`] returns the sessions with unclaimed
//! bytes, round-robin. A round can take several turns of the loop. A member that is visited late in a round also claims
//! what was published since the round began.
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

/// Index of a topic in [`Topics`]. Valid only while the topic exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicKey(u32);

/// The topics of one server: see the module.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    names: HashMap<Arc<str>, TopicKey>,
    topics: Slab<Topic>,
    /// By name, because a policy stays set while the topic does not exist.
    policies: HashMap<Arc<str>, LagPolicy>,
    /// Topics that may have unclaimed bytes, in the order in which they are visited.
    dirty: VecDeque<TopicKey>,
    /// Topics to check for chunks that can be released, and for removal.
    trim_candidates: Vec<TopicKey>,
    /// The maximum number of topics since the tables were last shrunk.
    count_max: usize,
    /// See [`Topics::unclaimed_len`].
    unclaimed_len: usize,
    /// See [`Topics::published_len`].
    published_len: u64,
    /// See [`Topics::newest_len`].
    newest_len: usize,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    log: Log,
    members: Vec<Member>,
    /// Index of the member that [`Topics::next_unclaimed`] visits next.
    next_member: usize,
    /// The number of members without unclaimed bytes.
    caught_up: usize,
    /// All members have claimed all bytes before this position. Recomputed when a claim removes the last cursor of a
    /// chunk, and when a member leaves.
    unclaimed_from: u64,
    policy: Option<LagPolicy>,
    /// Whether the topic is in [`Topics::dirty`].
    is_dirty: bool,
    /// Whether the topic is in [`Topics::trim_candidates`].
    is_trim_candidate: bool,
}

/// A session's membership in a topic.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// The session's slot.
    slot: u32,
    /// Bytes of the log between the end of the member's last claim and `cursor`, which the member does not receive.
    /// [`u32::MAX`] if there are more. See [`Claim::gap`].
    gap: u32,
    /// Position in the log up to which the session has claimed.
    cursor: u64,
    /// The number of messages before `cursor`.
    messages: u64,
}

/// A range of a log that a session has claimed, and the number of messages in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) messages: u64,
    /// Bytes of the log between the session's previous claim and this one, which the session does not receive: what was
    /// published while it was not a member, and publications from which it was excepted. [`u32::MAX`] if there are more.
    /// If the previous claim is unsent, the log may retain these bytes for the sake of the two claims around them.
    pub(crate) gap: u32,
}

/// A member whose index in a topic's list of members has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The session's slot.
    pub(crate) slot: usize,
}

impl Topic {
    /// Returns whether no member has unclaimed bytes.
    fn all_caught_up(&self) -> bool {
        self.caught_up == self.members.len()
    }

    /// Recomputes `unclaimed_from`. Returns by how many bytes it has advanced.
    fn update_unclaimed(&mut self) -> usize {
        let from = if self.all_caught_up() {
            self.log.end()
        } else {
            self.log.unclaimed_from().max(self.unclaimed_from)
        };
        (from - mem::replace(&mut self.unclaimed_from, from)) as usize
    }
}

impl Topics {
    /// Returns the topic of that name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<TopicKey> {
        self.names.get(name).copied()
    }

    /// Returns the topic of that name. Creates it if it does not exist.
    #[cfg(test)]
    pub(crate) fn find_or_insert(&mut self, name: &str) -> TopicKey {
        self.find(name).unwrap_or_else(|| self.insert(name.into()))
    }

    /// Creates a topic. No topic of that name may exist.
    pub(crate) fn insert(&mut self, name: Arc<str>) -> TopicKey {
        let topic = Topic {
            name: Arc::clone(&name),
            log: Log::default(),
            // Many topics have one member.
            members: Vec::with_capacity(1),
            next_member: 0,
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

    /// Returns the topic's name.
    pub(crate) fn name(&self, key: TopicKey) -> &Arc<str> {
        &self.topic(key).name
    }

    /// Sets the lag policy of the topic of that name, whether the topic exists now or is created later. `None` removes
    /// the policy.
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

    /// Returns the topic's lag policy, if one was set.
    pub(crate) fn policy(&self, key: TopicKey) -> Option<LagPolicy> {
        self.topic(key).policy
    }

    /// Adds a member, which will receive later publications. `unsent_to`: where the unsent part of the log ends that is
    /// in the session's queue from an earlier membership. Returns the member's index in the list of members.
    pub(crate) fn join(&mut self, key: TopicKey, slot: usize, unsent_to: Option<u64>) -> usize {
        let topic = self.topic_mut(key);
        topic.members.push(Member {
            slot: slot as u32,
            gap: unsent_to.map_or(0, |to| saturate(topic.log.end() - to)),
            cursor: topic.log.end(),
            messages: topic.log.messages(),
        });
        topic.caught_up += 1;
        topic.members.len() - 1
    }

    /// Removes the member at `index`. The last member of the list moves to `index`, and is returned, unless it is the
    /// removed one.
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

    /// Returns the slots of the topic's members, in no particular order.
    pub(crate) fn member_slots(&self, key: TopicKey) -> impl Iterator<Item = usize> {
        let members = self.topic(key).members.iter();
        members.map(|member| member.slot as usize)
    }

    /// Returns the number of the topic's members.
    pub(crate) fn member_count(&self, key: TopicKey) -> usize {
        self.topic(key).members.len()
    }

    /// Appends `message` as one frame to the topic's log, for all members but the one at index `except`, which must have
    /// no unclaimed bytes. Returns the number of these members. Appends nothing if there are none.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        key: TopicKey,
        message: Message<'_>,
        except: Option<usize>,
        buffers: &mut BufferPool,
    ) -> usize {
        let topic = &mut self.topics[key.0 as usize];
        let receivers = topic.members.len() - usize::from(except.is_some());
        if receivers == 0 {
            return 0;
        }
        let header = message.server_header();
        let start = topic.log.end();
        topic
            .log
            .append(header.as_slice(), message.as_bytes(), buffers);
        let len = header.as_slice().len() + message.len();
        let mut caught_up = mem::take(&mut topic.caught_up);
        if let Some(index) = except {
            let member = &mut topic.members[index];
            debug_assert_eq!(member.cursor, start);
            member.cursor = topic.log.end();
            member.messages = topic.log.messages();
            member.gap = member.gap.saturating_add(saturate(len as u64));
            caught_up -= 1;
            topic.caught_up = 1;
        }
        if caught_up > 0 {
            topic.log.add_cursors(start, caught_up as u32);
        }
        self.unclaimed_len += len;
        self.published_len += len as u64;
        self.newest_len = len;
        if !mem::replace(&mut topic.is_dirty, true) {
            self.dirty.push_back(key);
        }
        receivers
    }

    /// Claims all unclaimed bytes of the member at `index`. `None` if it has none.
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
        let gap = mem::take(&mut member.gap);
        topic.caught_up += 1;
        if topic.log.remove_cursor(from) {
            self.unclaimed_len -= topic.update_unclaimed();
            self.add_trim_candidate(key);
        }
        Some(Claim {
            from,
            to: end,
            messages,
            gap,
        })
    }

    /// Returns the number of unclaimed bytes of the member at `index`.
    pub(crate) fn unclaimed(&self, key: TopicKey, index: usize) -> usize {
        let topic = self.topic(key);
        (topic.log.end() - topic.members[index].cursor) as usize
    }

    /// Returns the number of bytes that some member may not have claimed, in all logs. In each log, counting begins
    /// at the first chunk with a cursor, or at the position up to which all members were last known to have claimed,
    /// if that is later.
    pub(crate) fn unclaimed_len(&self) -> usize {
        self.unclaimed_len
    }

    /// Returns the number of bytes published since the start.
    pub(crate) fn published_len(&self) -> u64 {
        self.published_len
    }

    /// Returns the number of bytes of the newest published frame.
    pub(crate) fn newest_len(&self) -> usize {
        self.newest_len
    }

    /// Returns whether a member may have unclaimed bytes.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Returns the slot of the next session with unclaimed bytes, and their number in one of its topics. `None` if no
    /// member has unclaimed bytes.
    ///
    /// One member of a topic is visited, then one member of the next topic, so that a topic that always has unclaimed
    /// bytes does not delay the others.
    pub(crate) fn next_unclaimed(&mut self) -> Option<(usize, usize)> {
        while let Some(key) = self.dirty.pop_front() {
            let topic = self.topic_mut(key);
            if topic.all_caught_up() {
                topic.is_dirty = false;
                self.add_trim_candidate(key);
                continue;
            }
            let end = topic.log.end();
            // At least one member has unclaimed bytes, so the loop ends.
            let member = loop {
                let index = if topic.next_member < topic.members.len() {
                    topic.next_member
                } else {
                    0
                };
                topic.next_member = index + 1;
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

    /// Returns the bytes `from..to` of a topic's log, one slice for each chunk.
    pub(crate) fn slices(&self, key: TopicKey, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        self.topic(key).log.slices(from, to)
    }

    /// Returns the first of [`slices`](Self::slices). The range must not be empty.
    pub(super) fn first_slice(&self, key: TopicKey, from: u64, to: u64) -> &[u8] {
        self.topic(key).log.first_slice(from, to)
    }

    /// See [`Log::frame_boundary`].
    pub(super) fn frame_boundary(&self, key: TopicKey, position: u64) -> u64 {
        self.topic(key).log.frame_boundary(position)
    }

    /// Returns the number of messages in `from..to`. Both positions must be boundaries of frames.
    pub(super) fn messages(&self, key: TopicKey, from: u64, to: u64) -> u64 {
        let log = &self.topic(key).log;
        log.messages_before(to) - log.messages_before(from)
    }

    /// See [`Log::hold`].
    pub(super) fn hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.hold(from, to);
    }

    /// See [`Log::extend_hold`].
    pub(super) fn extend_hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.extend_hold(from, to);
    }

    /// See [`Log::release`].
    pub(super) fn release(&mut self, key: TopicKey, from: u64, new_from: u64, to: u64) {
        if self.topic_mut(key).log.release(from, new_from, to) {
            self.add_trim_candidate(key);
        }
    }

    /// Releases the chunks that are not needed any more, and removes the topics without members and unsent bytes.
    pub(crate) fn trim(&mut self, buffers: &mut BufferPool) {
        if self.trim_candidates.is_empty() {
            return;
        }
        while let Some(key) = self.trim_candidates.pop() {
            let topic = self.topic_mut(key);
            topic.is_trim_candidate = false;
            topic.log.trim(buffers);
            // A topic in `dirty` becomes a candidate again when it is removed from `dirty`.
            if topic.members.is_empty() && topic.log.is_empty() && !topic.is_dirty {
                let topic = self.topics.remove(key.0 as usize);
                self.names.remove(&topic.name);
            }
        }
        self.shrink();
        if self.trim_candidates.capacity() > TRIM_CANDIDATES_RETAINED {
            self.trim_candidates = Vec::new();
        }
    }

    /// Releases unused memory of the tables if less than a quarter of the topics' table is in use.
    ///
    /// The table of topics shrinks down to the highest place in use, because a key is a place: a topic that was
    /// created late and stays retains the places of topics that were created before it. New topics use those places
    /// first.
    ///
    /// To shrink visits every place, so it is done only when half of the topics have gone since the last time: a
    /// constant number of places per removed topic, unless topics in the highest places are removed one by one.
    fn shrink(&mut self) {
        let count = self.topics.len();
        if count == 0 && self.names.capacity() > 0 {
            self.names = HashMap::new();
            self.topics = Slab::new();
            self.count_max = 0;
        } else if count < self.topics.capacity() / 4
            && count <= self.count_max / 2
            && self.topics.capacity() > TABLE_ENTRIES_RETAINED
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

    /// Returns the bytes of memory that all logs own.
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

    /// Returns the number of topics.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.topics.len()
    }
}

/// Converts to 32 bits. A larger number becomes [`u32::MAX`].
fn saturate(len: u64) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Entries of the table of topics that are retained while there is a topic: about 10 KB.
const TABLE_ENTRIES_RETAINED: usize = 64;

/// Maximum capacity of the list of trim candidates that is retained after a burst.
const TRIM_CANDIDATES_RETAINED: usize = 256;
