//! All topics. Each has a name, a log, its members with their cursors, and an optional lag policy.
//!
//! A publication is framed once, into the topic's log, for any number of members. When a member's session is flushed,
//! it *claims* the published bytes: its cursor advances to the end of the log, and the range of bytes between the old
//! and the new cursor is added to the session's queue. [`Topics::next_unclaimed`] returns the sessions with unclaimed
//! bytes, round-robin. A round can take several turns of the loop. A member that is visited late in a round also claims
//! what was published since the round began.
//!
//! A queued range *holds* its bytes: they stay in the log until they are sent or dropped from the queue.
//!
//! A topic with [`Replay`] retains its newest frames for members that join later. All topics together retain at most
//! [`Topics::replay_max`] bytes. Above this limit, the topic that was published to least recently releases all frames
//! that it retains.
//!
//! A topic exists while it has members, while it retains messages for replay, or while a queue holds bytes of its log.

use super::log::Log;
use super::recency::Recency;
use crate::buffer::BufferPool;
use crate::config::{LagPolicy, Replay};
use crate::names::Names;
use crate::proto::Message;
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

/// Index of a topic in [`Topics`]. Valid only while the topic exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicKey(u32);

impl TopicKey {
    #[cfg(test)]
    pub(super) fn new(index: u32) -> Self {
        Self(index)
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The topics of one server.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// The indices of topics, by name.
    names: Names,
    topics: Slab<Topic>,
    /// Settings by the name of the topic, because they stay when the topic is removed.
    settings: HashMap<Arc<str>, Settings>,
    /// The topics that retain messages for replay.
    replayed: Recency,
    /// The sum of [`Topic::replay_cost`].
    replay_len: usize,
    /// Maximum of `replay_len`.
    replay_max: usize,
    /// Topics that may have unclaimed bytes, in the order in which they are visited.
    dirty: VecDeque<TopicKey>,
    /// Topics to check for chunks that can be released, and for removal.
    trim_candidates: Vec<TopicKey>,
    /// The method [`trim_all`](Self::trim_all), once there was a topic. It is called through this pointer, so that the
    /// linker removes its code from programs without topics: 3 KB.
    trim_all: Option<fn(&mut Self, &mut BufferPool)>,
    /// The highest number of topics since the tables were last shrunk.
    count_max: usize,
    /// See [`Topics::unclaimed_len`].
    unclaimed_len: usize,
    /// See [`Topics::published_len`].
    published_len: u64,
    /// See [`Topics::newest_len`].
    newest_len: usize,
}

/// The settings of a topic's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settings {
    policy: Option<LagPolicy>,
    replay: Option<Replay>,
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
    /// A position up to which all members have claimed. It can be lower than the lowest cursor, because cursors are
    /// counted per chunk, and because it is recomputed only when a claim removes the last cursor of a chunk, and when a
    /// member leaves.
    unclaimed_from: u64,
    policy: Option<LagPolicy>,
    replay: Option<Box<Window>>,
    /// Whether the topic is in [`Topics::dirty`].
    is_dirty: bool,
    /// Whether the topic is in [`Topics::trim_candidates`].
    is_trim_candidate: bool,
}

/// The frames that a topic retains for replay: those from `from` to the end of its log.
#[derive(Debug)]
struct Window {
    setting: Replay,
    from: u64,
    /// The number of frames.
    messages: u64,
}

/// A member of a topic: a session and how far it has claimed.
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
    /// Returns whether all members have claimed all bytes.
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

    /// Returns the position from which on frames are retained for replay. The end of the log if none are.
    fn replay_from(&self) -> u64 {
        self.replay
            .as_ref()
            .map_or(self.log.end(), |window| window.from)
    }

    /// Returns what the topic counts against [`Topics::replay_max`]: the bytes of the frames that it retains for replay,
    /// its name, and [`REPLAY_TOPIC_COST`]; 0 if it retains none.
    fn replay_cost(&self) -> usize {
        match (self.log.end() - self.replay_from()) as usize {
            0 => 0,
            len => len + self.name.len() + REPLAY_TOPIC_COST,
        }
    }

    /// Releases the oldest frames that are retained for replay, until the rest is within the topic's setting and has at
    /// most `len_max` bytes. After a publication, usually releases one frame.
    fn fit_replay(&mut self, len_max: usize) {
        let Self { log, replay, .. } = self;
        let Some(window) = replay else {
            return;
        };
        let (messages_max, len_max) = match window.setting {
            Replay::Messages(messages) => (messages as u64, len_max),
            Replay::Bytes(bytes) => (u64::MAX, len_max.min(bytes)),
        };
        if messages_max == 0 || len_max == 0 {
            window.clear(log);
            return;
        }
        while window.messages > messages_max {
            window.release_first(log);
        }
        let exceeds = |window: &Window| log.end() - window.from > len_max as u64;
        for _ in 0..RELEASED_SINGLY_MAX {
            if !exceeds(window) {
                return;
            }
            window.release_first(log);
        }
        if exceeds(window) {
            window.from = log.frame_boundary(log.end() - len_max as u64);
            window.messages = log.messages() - log.messages_before(window.from);
        }
    }
}

impl Window {
    /// Releases the oldest frame.
    fn release_first(&mut self, log: &Log) {
        self.from = log.frame_end(self.from);
        self.messages -= 1;
    }

    /// Releases all frames.
    fn clear(&mut self, log: &Log) {
        self.from = log.end();
        self.messages = 0;
    }
}

impl Topics {
    /// Returns an empty table. `replay_max`: see the module.
    pub(crate) fn new(replay_max: usize) -> Self {
        Self {
            replay_max,
            ..Self::default()
        }
    }

    /// Returns the topic of that name, if it exists.
    pub(crate) fn find(&self, name: &str) -> Option<TopicKey> {
        self.names.get(name).map(TopicKey)
    }

    /// Returns the topic of that name. Creates it if it does not exist.
    #[cfg(test)]
    pub(crate) fn find_or_insert(&mut self, name: &str) -> TopicKey {
        self.find(name).unwrap_or_else(|| self.insert(name.into()))
    }

    /// Creates a topic. No topic of that name may exist.
    pub(crate) fn insert(&mut self, name: Arc<str>) -> TopicKey {
        let Settings { policy, replay } = self.settings(&name);
        let topic = Topic {
            name: Arc::clone(&name),
            log: Log::default(),
            // Many topics have one member.
            members: Vec::with_capacity(1),
            next_member: 0,
            caught_up: 0,
            unclaimed_from: 0,
            policy,
            replay: replay.map(|setting| {
                Box::new(Window {
                    setting,
                    from: 0,
                    messages: 0,
                })
            }),
            is_dirty: false,
            is_trim_candidate: false,
        };
        let index = u32::try_from(self.topics.insert(topic));
        let index = index.expect("memory holds fewer than 2^32 topics");
        self.names.insert(name, index);
        self.count_max = self.count_max.max(self.topics.len());
        self.trim_all = Some(Self::trim_all);
        TopicKey(index)
    }

    /// Returns the topic's name.
    pub(crate) fn name(&self, key: TopicKey) -> &Arc<str> {
        &self.topic(key).name
    }

    /// Sets the lag policy of the topic of that name, whether the topic exists now or is created later. `None` removes
    /// the policy.
    pub(crate) fn set_policy(&mut self, name: &str, policy: Option<LagPolicy>) {
        let settings = self.settings(name);
        self.set(name, Settings { policy, ..settings });
        if let Some(key) = self.find(name) {
            self.topic_mut(key).policy = policy;
        }
    }

    /// Returns the topic's lag policy, if one was set.
    pub(crate) fn policy(&self, key: TopicKey) -> Option<LagPolicy> {
        self.topic(key).policy
    }

    /// Sets what the topic of that name retains for replay, whether the topic exists now or is created later. `None`
    /// removes the setting, and releases what is retained.
    pub(crate) fn set_replay(&mut self, name: &str, replay: Option<Replay>) {
        let settings = self.settings(name);
        self.set(name, Settings { replay, ..settings });
        if let Some(key) = self.find(name) {
            self.set_topic_replay(key, replay);
        }
    }

    /// Sets what the topic retains for replay as long as it exists, unless this was set by name.
    pub(crate) fn set_replay_while_it_exists(&mut self, key: TopicKey, replay: Replay) {
        if self.settings(&self.topic(key).name).replay.is_none() {
            self.set_topic_replay(key, Some(replay));
        }
    }

    fn settings(&self, name: &str) -> Settings {
        self.settings.get(name).copied().unwrap_or_default()
    }

    fn set(&mut self, name: &str, settings: Settings) {
        if settings == Settings::default() {
            self.settings.remove(name);
        } else {
            self.settings.insert(name.into(), settings);
        }
    }

    fn set_topic_replay(&mut self, key: TopicKey, replay: Option<Replay>) {
        let topic = &mut self.topics[key.0 as usize];
        match (&mut topic.replay, replay) {
            (Some(window), Some(setting)) if window.setting == setting => return,
            (Some(window), Some(setting)) => window.setting = setting,
            (none @ None, Some(setting)) => {
                *none = Some(Box::new(Window {
                    setting,
                    from: topic.log.end(),
                    messages: 0,
                }));
            }
            (Some(window), None) => window.setting = Replay::Messages(0),
            (None, None) => return,
        }
        let before = topic.replay_cost();
        self.fit_replay(key, before, false);
        if replay.is_none() {
            self.topic_mut(key).replay = None;
        }
    }

    /// Creates the topic of that name, which does not exist, if replay was set for the name.
    pub(crate) fn insert_for_replay(&mut self, name: &str) -> Option<TopicKey> {
        let is_set = self.settings(name).replay.is_some();
        is_set.then(|| self.insert(name.into()))
    }

    /// Returns the newest frames that the topic retains for replay, at most `len_max` bytes, as the claim of a member that
    /// joins. `None` if there are none. `unsent_to`: see [`join`](Self::join).
    pub(crate) fn replay(
        &self,
        key: TopicKey,
        len_max: usize,
        unsent_to: Option<u64>,
    ) -> Option<Claim> {
        let topic = self.topic(key);
        let Topic { log, .. } = topic;
        let (from, to) = (topic.replay_from(), log.end());
        let from = if (to - from) as usize > len_max {
            log.frame_boundary(to - len_max as u64)
        } else {
            from
        };
        (from < to).then(|| Claim {
            from,
            to,
            messages: log.messages() - log.messages_before(from),
            gap: unsent_to.map_or(0, |unsent_to| saturate(from.saturating_sub(unsent_to))),
        })
    }

    /// Releases what the topic retains for replay. It continues to retain later messages.
    #[cfg(feature = "backplane")]
    pub(crate) fn release_replay(&mut self, key: TopicKey) {
        let topic = &mut self.topics[key.0 as usize];
        let before = topic.replay_cost();
        if let Some(window) = &mut topic.replay {
            window.clear(&topic.log);
            self.fit_replay(key, before, false);
        }
    }

    /// Returns whether the topic `name` retains messages, or is set to retain later ones.
    #[cfg(feature = "backplane")]
    pub(crate) fn is_retained(&self, name: &str) -> bool {
        let topic = self.find(name).map(|key| self.topic(key));
        topic.is_some_and(|topic| topic.replay_cost() > 0) || self.settings(name).replay.is_some()
    }

    /// Returns the topics with members, and the names that retain messages.
    #[cfg(feature = "backplane")]
    pub(crate) fn used(&self) -> (Vec<TopicKey>, Vec<&Arc<str>>) {
        let topics = self.topics.iter();
        let with_members = topics.filter(|(_, topic)| !topic.members.is_empty());
        let settings = self.settings.iter();
        let retained = settings.filter(|(_, settings)| settings.replay.is_some());
        (
            with_members
                .map(|(index, _)| TopicKey(index as u32))
                .collect(),
            retained.map(|(name, _)| name).collect(),
        )
    }

    /// Returns the position of the first byte that the topic's log retains.
    pub(crate) fn log_start(&self, key: TopicKey) -> u64 {
        self.topic(key).log.start()
    }

    /// Returns the number of bytes that are retained for replay, as counted against [`Topics::replay_max`].
    pub(crate) fn replay_len(&self) -> usize {
        self.replay_len
    }

    /// Releases frames that are retained for replay, until the topic is within its setting, and all topics together are
    /// within their maximum. Called after a change of the topic. `before`: the topic's `replay_cost` before the change.
    /// `is_published`: the change is a publication.
    fn fit_replay(&mut self, key: TopicKey, before: usize, is_published: bool) {
        let topic = &mut self.topics[key.0 as usize];
        let overhead = topic.name.len() + REPLAY_TOPIC_COST;
        // With this maximum, one topic alone never exceeds `replay_max`.
        topic.fit_replay(self.replay_max.saturating_sub(overhead));
        let after = topic.replay_cost();
        self.replay_len = self.replay_len - before + after;
        if after == 0 {
            self.replayed.remove(key);
        } else if is_published {
            self.replayed.touch(key);
        }
        self.add_trim_candidate(key);
        while self.replay_len > self.replay_max
            && let Some(oldest) = self.replayed.oldest()
        {
            let topic = &mut self.topics[oldest.0 as usize];
            self.replay_len -= topic.replay_cost();
            if let Some(window) = &mut topic.replay {
                window.clear(&topic.log);
            }
            self.replayed.remove(oldest);
            self.add_trim_candidate(oldest);
        }
    }

    /// Adds a member, which will receive later publications. `unsent_to`: the end of the last range of this log in the
    /// session's queue, from an earlier membership; see [`Outbound::unsent_to`](super::Outbound::unsent_to). Returns
    /// the member's index in the list of members.
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

    /// Appends `message` as one frame to the topic's log, for all members except the member at index `except`, which
    /// must have no unclaimed bytes. Returns the number of members that will receive the message. If there are none,
    /// appends the frame only if the topic retains messages for replay.
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
        if receivers == 0 && topic.replay.is_none() {
            return 0;
        }
        let has_replay = topic.replay.is_some();
        let replay_cost = if has_replay { topic.replay_cost() } else { 0 };
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
        if let Some(window) = &mut topic.replay {
            window.messages += 1;
            if receivers == 0 {
                // No member has unclaimed bytes: the topic has none, or only the excepted one.
                topic.unclaimed_from = topic.log.end();
                self.fit_replay(key, replay_cost, true);
                return 0;
            }
        }
        self.unclaimed_len += len;
        self.published_len += len as u64;
        self.newest_len = len;
        if !mem::replace(&mut topic.is_dirty, true) {
            self.dirty.push_back(key);
        }
        if has_replay {
            self.fit_replay(key, replay_cost, true);
        }
        receivers
    }

    /// Claims all unclaimed bytes of the member at `index`. Returns `None` if the member has none.
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

    /// Returns an upper bound of the number of bytes that not all members have claimed, in all logs. The bound is the
    /// sum of the bytes of each log from `Topic::unclaimed_from` on, which can include bytes that all members have
    /// claimed.
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

    /// Returns the slot of the next session with unclaimed bytes, and the number of its unclaimed bytes in the visited
    /// topic. Returns `None` if no member has unclaimed bytes.
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

    /// Returns the bytes `from..to` of a topic's log, as slices: one for each chunk of the log.
    pub(crate) fn slices(&self, key: TopicKey, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        self.topic(key).log.slices(from, to)
    }

    /// Returns the first of [`slices`](Self::slices). The range must not be empty.
    pub(super) fn first_slice(&self, key: TopicKey, from: u64, to: u64) -> &[u8] {
        self.topic(key).log.first_slice(from, to)
    }

    /// Returns the position of the first frame that begins at or after `position`; see [`Log::frame_boundary`].
    pub(super) fn frame_boundary(&self, key: TopicKey, position: u64) -> u64 {
        self.topic(key).log.frame_boundary(position)
    }

    /// Returns the number of messages in `from..to`. Both positions must be boundaries of frames.
    pub(super) fn messages(&self, key: TopicKey, from: u64, to: u64) -> u64 {
        let log = &self.topic(key).log;
        log.messages_before(to) - log.messages_before(from)
    }

    /// Retains the bytes `from..to` of the log until they are released; see [`Log::hold`].
    pub(super) fn hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.hold(from, to);
    }

    /// Extends a hold that ends at `from`, so that it ends at `to`; see [`Log::extend_hold`].
    pub(super) fn extend_hold(&mut self, key: TopicKey, from: u64, to: u64) {
        self.topic_mut(key).log.extend_hold(from, to);
    }

    /// Shortens a hold of `from..to` to `new_from..to`; see [`Log::release`].
    pub(super) fn release(&mut self, key: TopicKey, from: u64, new_from: u64, to: u64) {
        if self.topic_mut(key).log.release(from, new_from, to) {
            self.add_trim_candidate(key);
        }
    }

    /// Releases the chunks that are no longer needed, and removes the topics without members, unsent bytes and retained
    /// frames.
    pub(crate) fn trim(&mut self, buffers: &mut BufferPool) {
        if let Some(trim_all) = self.trim_all
            && !self.trim_candidates.is_empty()
        {
            trim_all(self, buffers);
        }
    }

    fn trim_all(&mut self, buffers: &mut BufferPool) {
        while let Some(key) = self.trim_candidates.pop() {
            let topic = self.topic_mut(key);
            topic.is_trim_candidate = false;
            topic.log.trim(topic.replay_from(), buffers);
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
    /// A key is an index into the table of topics, so the table shrinks only down to the highest index in use. As long
    /// as a topic with a high index exists, the unused entries below it are not released. New topics use those entries
    /// first.
    ///
    /// Shrinking the table visits all of its entries. Therefore it is done only when half of the topics have been
    /// removed since the last time. Amortized, that is a constant number of visited entries per removed topic, unless
    /// the topics at the highest indices are removed one by one.
    fn shrink(&mut self) {
        let count = self.topics.len();
        if count == 0 && self.names.capacity() > 0 {
            self.names.shrink_to(0);
            self.topics = Slab::new();
            self.replayed.shrink_to(0);
            self.count_max = 0;
        } else if count < self.topics.capacity() / 4
            && count <= self.count_max / 2
            && self.topics.capacity() > TABLE_ENTRIES_RETAINED
        {
            // The map is not checked on its own, because its `capacity` does not include the entries of removed names.
            self.names.shrink_to(2 * count);
            self.topics.shrink_to_fit();
            self.replayed.shrink_to(self.topics.capacity());
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

    /// Returns the bytes of the tables of topics.
    #[cfg(test)]
    pub(crate) fn table_bytes(&self) -> usize {
        self.topics.capacity() * size_of::<Topic>()
            + self.names.capacity() * size_of::<(Arc<str>, u32)>()
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

/// Maximum frames that are released one by one after a publication. A large publication can replace many more frames.
/// Then a search finds the first frame to retain, which takes as long as about 100 single steps.
const RELEASED_SINGLY_MAX: usize = 100;

/// Bytes that a topic counts in addition to its retained frames and its name, if it retains any: its memory in the
/// tables, and the unused capacity of its log. Because these bytes are counted, many topics with short messages cannot
/// take more than twice the maximum.
const REPLAY_TOPIC_COST: usize = 1024;

/// Entries of the table of topics that are retained while there is a topic: about 10 KB.
const TABLE_ENTRIES_RETAINED: usize = 64;

/// Maximum capacity of the list of trim candidates that is retained after a burst.
const TRIM_CANDIDATES_RETAINED: usize = 256;
