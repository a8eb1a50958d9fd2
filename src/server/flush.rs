//! The flush phase: everything that a turn produced for one peer leaves in one write.
//!
//! Flushing a session claims what all its topics have for it, and then writes until the stream takes no more or the
//! session has had its share ([`SLICE_BYTES_MAX`]). First come the sessions that were sent something in this turn. Then,
//! within a budget, those with so many unsent bytes that they are written in slices, and the members of topics with
//! unclaimed publications, in turns; the rest follow in later turns, and what arrives meanwhile is read between. A
//! publication to many members, or a large one, so delays nobody else by more than a turn.

use crate::buffer::BufferPool;
use crate::context::Context;
use crate::engine::deadlines::Deadline;
use crate::engine::operations::write_slices;
use crate::engine::session::{Phase, Session};
use crate::engine::{Engine, Published};
use crate::handler::Handler;
use crate::outbound::{Topics, TurnBuffer};
use crate::proto::Stage;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::sync::Arc;

impl Engine {
    /// Flushes each session that was sent something, and of the others as many as a turn should: their work is capped at
    /// the turn's read work, so that neither keeps the other from the loop.
    pub(crate) fn flush(&mut self, handler: &mut impl Handler) {
        self.flush_sent(handler);
        self.clear_turn_buffer();
        let budget = mem::take(&mut self.read_work).max(PUBLICATION_WORK_MIN);
        if !self.bulk_queue.is_empty() || self.topics.is_dirty() {
            self.flush_bulk(budget, handler);
            self.bulk_queue.reclaim_half();
        }
        self.bound_unclaimed(handler);
        self.topics.trim(&mut self.buffers);
        if self.topics.unclaimed_len() <= UNCLAIMED_BYTES_MAX / 2 {
            self.resume_deferred();
        }
    }

    /// Flushes each session that was sent something, up to the turn's limit. What most sessions need is inlined here, so that
    /// registers are saved once in a turn.
    #[inline(never)]
    fn flush_sent(&mut self, handler: &mut impl Handler) {
        let mut work = 0;
        for _ in 0..self.flush_queue.len() {
            if work >= TURN_WORK_MAX {
                break;
            }
            let Some(slot) = self.flush_queue.pop_front() else {
                break;
            };
            work += self.flush_queued(slot, handler);
        }
        self.flush_queue.reclaim_half();
    }

    /// Leaves nothing in the turn's buffer: it is for this turn alone.
    fn clear_turn_buffer(&mut self) {
        let Self {
            sessions,
            flush_queue,
            bulk_queue,
            reap_queue,
            turn_buffer,
            buffers,
            ..
        } = self;
        if turn_buffer.is_in_use() {
            // Sessions that the turn has not come to yet, or that have ended.
            let queued = flush_queue.iter().chain(bulk_queue.iter());
            let ended = reap_queue.iter().map(|id| &id.slot);
            for slot in queued.chain(ended) {
                if let Some(session) = sessions.get_mut(*slot as usize) {
                    session.outbound.make_owned(turn_buffer, buffers);
                }
            }
        }
        turn_buffer.clear();
    }

    /// Flushes sessions with many unsent bytes and members with unclaimed publications, one of each in turns, until the
    /// budget is spent.
    fn flush_bulk(&mut self, mut budget: usize, handler: &mut impl Handler) {
        let mut queued = self.bulk_queue.len();
        while budget > 0 {
            let mut work = 0;
            if let Some(left) = queued.checked_sub(1)
                && let Some(slot) = self.bulk_queue.pop_front()
            {
                queued = left;
                work += self.flush_queued(slot, handler);
            }
            if let Some((slot, _)) = self.topics.next_unclaimed() {
                work += self.flush_session(slot, handler);
            }
            if work == 0 {
                return;
            }
            budget = budget.saturating_sub(work);
        }
    }

    /// Flushes members until what was published by others than handlers of messages (timers, the host) is claimed as far as
    /// it exceeds the lag limit. A session that publishes too much is not read meanwhile; these cannot be deferred. The
    /// newest message does not count, so that a single large one is written by as many members per turn as any other.
    fn bound_unclaimed(&mut self, handler: &mut impl Handler) {
        let total = self.topics.published_len();
        let Published {
            total: before,
            by_messages,
            by_others,
        } = self.published;
        let mut by_others = by_others + (total - before - by_messages);
        if self.topics.unclaimed_len() <= UNCLAIMED_BYTES_MAX {
            by_others = 0;
        }
        let limit = UNCLAIMED_BYTES_MAX.max(self.config.lag_bytes_max) + self.topics.newest_len();
        if by_others > limit as u64 {
            while self.topics.unclaimed_len() > limit
                && let Some((slot, _)) = self.topics.next_unclaimed()
            {
                self.flush_session(slot, handler);
            }
            by_others = 0;
        }
        self.published = Published {
            total: self.topics.published_len(),
            by_messages: 0,
            by_others,
        };
    }

    /// Members have caught up: the sessions that published are read again.
    fn resume_deferred(&mut self) {
        while let Some(id) = self.deferred.pop() {
            if let Some(session) = self.session_mut(id) {
                session.is_deferred = false;
                self.queue_read(id.slot as usize);
            }
        }
    }

    /// Flushes a session that was taken from a queue. Returns the work.
    #[inline(always)]
    fn flush_queued(&mut self, slot: u32, handler: &mut impl Handler) -> usize {
        let slot = slot as usize;
        let Some(session) = self.sessions.get_mut(slot) else {
            return CLAIM_WORK;
        };
        if !mem::take(&mut session.is_flush_queued) {
            return CLAIM_WORK;
        }
        // Most sessions have sent a few messages in this turn, which the stream accepts. Otherwise `flush_session` goes on.
        if session.phase == Phase::Live
            && !(session.is_blocked | session.is_paused | session.has_unchecked_claims)
            && !self.topics.is_dirty()
            && let Some(span) = session.outbound.turn_span()
        {
            let len = match session.stream.write(self.turn_buffer.bytes(span)) {
                Ok(len) => len,
                Err(error) => return self.flush_after_error(slot, error, handler),
            };
            session.bytes_out += len as u64;
            self.stats.bytes_out += len as u64;
            let is_all = len == span.len();
            session
                .outbound
                .advance_in_turn(span, len, &mut self.turn_buffer);
            if is_all {
                return WRITE_WORK + len;
            }
        }
        self.flush_session(slot, handler)
    }

    /// Claims what the session's topics have for it, and writes. Returns the work, measured in bytes.
    #[inline(never)]
    pub(super) fn flush_session(&mut self, slot: usize, handler: &mut impl Handler) -> usize {
        let session = &self.sessions[slot];
        if session.phase == Phase::Dead {
            return CLAIM_WORK;
        }
        let before = session.bytes_out;
        let was_blocked = session.is_blocked;
        let mut len_max = SLICE_BYTES_MAX;
        if self.has_unclaimed(slot) || session.has_unchecked_claims {
            self.bound_lag(slot, handler);
            // A handler may have ended the session; then it has no memberships.
            self.sessions[slot].has_unchecked_claims = false;
            // What is claimed now is written now, if the stream takes it: the queue of a member that keeps up never grows.
            len_max += self.claim_all(slot);
        }
        self.write_session(slot, len_max);
        if self.sessions[slot].outbound.is_empty() {
            self.all_sent(slot);
        }
        self.resume_if_low(slot, handler);
        let work = if was_blocked { CLAIM_WORK } else { WRITE_WORK };
        work + (self.sessions[slot].bytes_out - before) as usize
    }

    /// Flushes a session whose stream has returned an error, which may only mean that nothing was written.
    #[inline(never)]
    fn flush_after_error(
        &mut self,
        slot: usize,
        error: io::Error,
        handler: &mut impl Handler,
    ) -> usize {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => self.flush_session(slot, handler),
            _ => {
                self.write_failed(slot, error);
                CLAIM_WORK
            }
        }
    }

    /// Applies the lag policy to a member for which something new was published, if more than
    /// [`Config::lag_bytes_max`](crate::Config::lag_bytes_max) is unsent from before after its stream has accepted what it
    /// can.
    fn bound_lag(&mut self, slot: usize, handler: &mut impl Handler) {
        let lag_max = self.config.lag_bytes_max;
        let excess = |engine: &Self| {
            let cost = engine.sessions[slot].outbound.log_cost();
            cost.saturating_sub(lag_max)
        };
        let before = excess(self);
        if before > 0 {
            self.write_session(slot, before.max(SLICE_BYTES_MAX));
            if excess(self) > 0 && self.sessions[slot].phase == Phase::Live {
                self.apply_lag_policy(slot, handler);
            }
        }
    }

    /// Writes what is queued, until the stream takes no more or has taken `len_max` bytes.
    fn write_session(&mut self, slot: usize, len_max: usize) {
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            stats,
            ..
        } = self;
        let session = &mut sessions[slot];
        if session.is_blocked || session.outbound.is_empty() || session.phase == Phase::Dead {
            session.outbound.make_owned(turn_buffer, buffers);
            if session.is_blocked && !session.outbound.is_empty() {
                // A member that has skipped everything had nothing unsent for a while, and so no write deadline.
                self.expect_progress(slot);
            }
            return;
        }
        let before = session.bytes_out;
        let written = write(session, len_max, topics, turn_buffer, buffers);
        stats.bytes_out += session.bytes_out - before;
        session.outbound.make_owned(turn_buffer, buffers);
        match written {
            Ok(Written::All) => {}
            Ok(Written::Short) => self.stalled(slot),
            Ok(Written::Slice) => {
                if self.deadlines.kind(slot) == Some(Deadline::Write) {
                    self.expect_progress(slot);
                }
                self.queue_flush(slot);
            }
            Err(error) => self.write_failed(slot, error),
        }
    }

    /// Lets a member skip what it may skip, and disconnects it if more than
    /// [`Config::lag_bytes_max`](crate::Config::lag_bytes_max) of other topics is unsent.
    #[inline(never)]
    fn apply_lag_policy(&mut self, slot: usize, handler: &mut impl Handler) {
        let lag_max = self.config.lag_bytes_max;
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            config,
            stats,
            ..
        } = self;
        let session = &mut sessions[slot];
        let policy = config.lag_policy;
        let skipped = session.outbound.skip(
            |topics, topic| Self::may_skip(topics, topic, policy),
            topics,
            turn_buffer,
            buffers,
        );
        // Of topics that may skip, only the rest of a message whose first bytes are sent is left.
        let is_over = session
            .outbound
            .log_cost_of(|topic| !Self::may_skip(topics, topic, policy))
            > lag_max;
        let mut by_topic: Vec<(Arc<str>, u64)> = Vec::new();
        for one in skipped {
            session.messages_out -= one.messages;
            stats.messages_out -= one.messages;
            stats.messages_skipped += one.messages;
            let name = topics.name(one.topic);
            match by_topic.iter_mut().find(|(known, _)| known == name) {
                Some((_, messages)) => *messages += one.messages,
                None => by_topic.push((Arc::clone(name), one.messages)),
            }
        }
        let id = self.id_of(slot);
        for (topic, messages) in by_topic {
            log::debug!("{id} skipped {messages} messages of {topic:?}");
            handler.on_skip(&mut Context::new(self), id, &topic, messages);
        }
        if is_over && self.sessions[slot].is_open() {
            self.close_lagging(slot);
        }
    }

    /// Nothing is unsent any more: what was waiting for that follows.
    fn all_sent(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        match session.phase {
            Phase::Live => {
                if self.deadlines.kind(slot) == Some(Deadline::Write) {
                    let next = match session.connection.stage() {
                        Stage::Open => Deadline::Quiet,
                        Stage::Opening | Stage::Closing | Stage::Closed | Stage::Ended => {
                            Deadline::Close
                        }
                    };
                    self.deadlines.set(slot, next, self.now as u32);
                }
            }
            Phase::Finishing => self.drain(slot),
            Phase::Draining | Phase::Dead => {}
        }
    }

    /// Resumes reading of a paused session that has fallen to its low-water mark.
    fn resume_if_low(&mut self, slot: usize, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if !session.is_paused {
            // A publication can bring a session above the mark as well as a send.
            session.is_paused = session.outbound.cost() > self.config.high_water_bytes;
            return;
        }
        if session.outbound.cost() > self.config.low_water_bytes {
            return;
        }
        session.is_paused = false;
        self.queue_read(slot);
        if self.sessions[slot].is_open() {
            let id = self.id_of(slot);
            handler.on_drain(&mut Context::new(self), id);
        }
    }
}

/// What came of writing.
enum Written {
    /// Nothing is unsent.
    All,
    /// The stream takes no more.
    Short,
    /// The stream took a slice, and may take more.
    Slice,
}

/// Writes what is queued, until the stream takes less than it was offered or has taken `len_max` bytes.
fn write(
    session: &mut Session,
    len_max: usize,
    topics: &mut Topics,
    turn_buffer: &mut TurnBuffer,
    buffers: &mut BufferPool,
) -> io::Result<Written> {
    session.outbound.queue_pong(buffers);
    let mut left = len_max;
    loop {
        let (len, offered) = match session.outbound.as_single_slice(topics, turn_buffer) {
            Some(bytes) => {
                let bytes = &bytes[..bytes.len().min(left)];
                let len = write_slices(&mut session.stream, &[IoSlice::new(bytes)])?;
                (len, bytes.len())
            }
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let (filled, offered) =
                    session
                        .outbound
                        .gather(topics, turn_buffer, &mut slices, left);
                let len = write_slices(&mut session.stream, &slices[..filled])?;
                (len, offered)
            }
        };
        session.outbound.advance(len, topics, turn_buffer, buffers);
        session.bytes_out += len as u64;
        left -= len;
        if session.outbound.is_empty() {
            return Ok(Written::All);
        }
        if len < offered {
            return Ok(Written::Short);
        }
        if left == 0 {
            return Ok(Written::Slice);
        }
    }
}

/// Bytes that one flush of a session writes at most, besides what it claims: some 100 us.
const SLICE_BYTES_MAX: usize = 256 * 1024;

/// The work on sessions that were sent something in this turn, at most, but for a last slice; the others follow in the
/// next: some 2 000 small writes, 5 to 10 ms.
const TURN_WORK_MAX: usize = 16 * 1024 * 1024;

/// What a write costs beside its bytes, in bytes: writing anything takes as long as writing so many more.
pub(super) const WRITE_WORK: usize = 8 * 1024;

/// What it costs to visit a session whose stream takes nothing.
const CLAIM_WORK: usize = 256;

/// The work on publications and large queues that one turn does at least: 16 small writes, or as much as takes about as
/// long.
const PUBLICATION_WORK_MIN: usize = 16 * WRITE_WORK;

/// Unclaimed bytes of publications that logs may hold, before the sessions that go on publishing are not read any more
/// until the members have caught up.
pub(super) const UNCLAIMED_BYTES_MAX: usize = 1024 * 1024;

/// Slices of one write.
const SLICES_MAX: usize = 64;
