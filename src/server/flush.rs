//! The flush phase: writes the output of a turn, usually with one write per session.
//!
//! Flushing a session first *claims* the unclaimed publications of its topics: appends them to the session's queue (see
//! `engine::memberships`). Then it writes until the stream accepts no more bytes, or until the session has written its
//! share ([`SLICE_BYTES_MAX`], plus the bytes that were claimed).
//!
//! The phase first flushes the sessions to which something was sent in this turn. Then it alternates, within a budget,
//! between sessions with many unsent bytes and members with unclaimed publications. The rest follow in later turns,
//! with read phases between. So a large publication, or one to many members, delays the other sessions by one turn at
//! most.
//!
//! This is also where limits on publications are enforced: the lag of a member (`lag_bytes_max`) and the unclaimed
//! bytes of all members ([`UNCLAIMED_BYTES_MAX`]).
//!
//! Work is measured in bytes: those written, and [`WRITE_WORK`] or [`CLAIM_WORK`] for a visit to a session.

use crate::buffer::BufferPool;
use crate::context::Context;
use crate::engine::deadlines::Deadline;
use crate::engine::operations::write_slices;
use crate::engine::session::{Kind, Phase, Session};
use crate::engine::{Engine, Published};
use crate::handler::Handler;
use crate::id::Id;
use crate::outbound::{Topics, TurnBuffer};
use crate::proto::Stage;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::sync::Arc;

impl Engine {
    /// Runs the phase. The work on publications and large queues is limited to the work of the turn's reads (but is at
    /// least [`PUBLICATION_WORK_MIN`]), so that neither reading nor publishing starves the other.
    pub(crate) fn flush(&mut self, handler: &mut impl Handler) {
        self.flush_sent(handler);
        self.clear_turn_buffer();
        let budget = mem::take(&mut self.read_work).max(PUBLICATION_WORK_MIN);
        if !self.large_queue.is_empty() || self.topics.is_dirty() {
            self.flush_large(budget, handler);
            self.large_queue.reclaim_half();
        }
        self.enforce_unclaimed_limit(handler);
        self.topics.trim(&mut self.buffers);
        if self.topics.unclaimed_len() <= UNCLAIMED_BYTES_MAX / 2 {
            self.resume_deferred();
        }
    }

    /// Flushes each session to which something was sent in this turn, until [`TURN_WORK_MAX`] is reached. The common
    /// case is inlined here, so that registers are saved once per turn and not once per session.
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

    /// Empties the buffer of this turn's messages. Sessions with unsent messages in it get copies.
    fn clear_turn_buffer(&mut self) {
        let Self {
            sessions,
            flush_queue,
            large_queue,
            reap_queue,
            turn_buffer,
            buffers,
            ..
        } = self;
        if turn_buffer.is_in_use() {
            // Only sessions that were not flushed in this turn, or have ended, can have messages there.
            let queued = flush_queue.iter().chain(large_queue.iter());
            let ended = reap_queue.iter().map(|id| &id.slot);
            for slot in queued.chain(ended) {
                if let Some(session) = sessions.get_mut(*slot as usize) {
                    session.outbound.make_owned(turn_buffer, buffers);
                }
            }
        }
        turn_buffer.clear();
    }

    /// Flushes sessions with many unsent bytes and members with unclaimed publications, alternately, until the budget
    /// is spent.
    fn flush_large(&mut self, mut budget: usize, handler: &mut impl Handler) {
        let mut queued = self.large_queue.len();
        while budget > 0 {
            let mut work = 0;
            if let Some(left) = queued.checked_sub(1)
                && let Some(slot) = self.large_queue.pop_front()
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

    /// Limits the unclaimed bytes that timers, sources and the embedding program have published: above the limit,
    /// flushes members without a budget until the unclaimed bytes have fallen to the limit. A session that publishes
    /// too much is deferred instead, and commands of other threads stay in their inbox, but timers, sources and the
    /// embedding program cannot be deferred.
    ///
    /// The limit is [`UNCLAIMED_BYTES_MAX`] or `lag_bytes_max`, whichever is larger, and the newest message, so that a
    /// single large message is written within the budget, as any other.
    fn enforce_unclaimed_limit(&mut self, handler: &mut impl Handler) {
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
        let limit = UNCLAIMED_BYTES_MAX
            .max(self.config.lag_bytes_max)
            .saturating_add(self.topics.newest_len());
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

    /// Resumes reading of the sessions that were deferred, now that members have caught up.
    fn resume_deferred(&mut self) {
        while let Some(id) = self.deferred.pop() {
            self.resume_reading(id);
        }
    }

    /// Resumes reading of one session that was deferred. Has no effect if it has ended, or if a stop is about to close it.
    pub(crate) fn resume_reading(&mut self, id: Id) {
        if let Some(session) = self.session_mut(id) {
            #[cfg(feature = "backplane")]
            if session.awaits_close {
                return;
            }
            session.is_deferred = false;
            self.queue_read(id.slot as usize);
        }
    }

    /// Flushes a session that was popped from a queue, if it is marked as queued. Returns the work.
    #[inline(always)]
    fn flush_queued(&mut self, slot: u32, handler: &mut impl Handler) -> usize {
        let slot = slot as usize;
        let Some(session) = self.sessions.get_mut(slot) else {
            return CLAIM_WORK;
        };
        if !mem::take(&mut session.is_flush_queued) {
            return CLAIM_WORK;
        }
        // Fast path: all unsent bytes are messages of this turn, and the stream accepts them. Otherwise `flush_session`
        // continues.
        if session.phase == Phase::Live
            && !(session.is_blocked | session.is_above_high_water | session.has_unchecked_claims)
            && !self.topics.is_dirty()
            && let Some(span) = session.outbound.turn_span()
        {
            let bytes = self.turn_buffer.bytes(span);
            let len = match session.stream.write_unsealed(bytes) {
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

    /// Claims unclaimed publications and writes. If there are unclaimed publications, or some were claimed since the
    /// last flush (`has_unchecked_claims`), enforces the lag limit first. Returns the work.
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
            self.enforce_lag_limit(slot, handler);
            // A handler may have ended the session. Such a session has no memberships, so nothing is claimed.
            self.sessions[slot].has_unchecked_claims = false;
            // The limit of this flush grows by what is claimed, so that the queue of a member whose stream accepts
            // everything never grows.
            len_max += self.claim_all(slot);
        }
        self.write_session(slot, len_max);
        let session = &self.sessions[slot];
        if session.outbound.is_empty() && !session.stream.has_unsent() {
            self.all_sent(slot);
        }
        self.resume_if_low(slot, handler);
        let work = if was_blocked { CLAIM_WORK } else { WRITE_WORK };
        work + (self.sessions[slot].bytes_out - before) as usize
    }

    /// Continues after a failed write: flushes the session if the write would block or was interrupted, ends it
    /// otherwise.
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
                self.stream_failed(slot, error);
                CLAIM_WORK
            }
        }
    }

    /// Applies the lag policy to a member with new publications, if more than
    /// [`Config::lag_bytes_max`](crate::Config::lag_bytes_max) of earlier publications is unsent, and remains so after
    /// an attempt to write.
    fn enforce_lag_limit(&mut self, slot: usize, handler: &mut impl Handler) {
        let lag_max = self.config.lag_bytes_max;
        let excess = |engine: &Self| {
            let cost = engine.sessions[slot].outbound.log_cost();
            cost.saturating_sub(lag_max)
        };
        let before = excess(self);
        if before > 0 {
            self.write_session(slot, before.max(SLICE_BYTES_MAX));
            if excess(self) > 0
                && self.sessions[slot].phase == Phase::Live
                && let Some(apply) = self.lag_policy
            {
                apply(self, slot, handler);
            }
        }
    }

    /// Writes queued bytes until the stream accepts no more or has accepted `len_max` bytes. If the stream accepts no
    /// more, sets the write deadline. Postpones a deadline that is set if enough bytes were sent (see
    /// `expect_progress`).
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
            if session.stream.has_unsent() && !session.is_blocked && session.phase != Phase::Dead {
                return self.write_sealed(slot);
            }
            if session.is_blocked && !session.outbound.is_empty() {
                // A member that skipped all its messages had nothing unsent, and so no write deadline.
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
            Ok(Written::Short) => self.mark_blocked(slot),
            Ok(Written::Slice) => {
                if self.deadlines.kind(slot) == Some(Deadline::Write) {
                    self.expect_progress(slot);
                }
                self.queue_flush(slot);
            }
            Err(error) => self.stream_failed(slot, error),
        }
    }

    /// Writes bytes that the stream has accepted and that wait for the socket.
    #[inline(never)]
    fn write_sealed(&mut self, slot: usize) {
        match self.sessions[slot].stream.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Until the request has arrived, the deadline of the handshake stays.
                if self.sessions[slot].kind == Kind::Requesting {
                    self.sessions[slot].is_blocked = true;
                } else {
                    self.mark_blocked(slot);
                }
            }
            Err(error) => self.stream_failed(slot, error),
        }
    }

    /// Skips the member's unsent messages of topics with [`LagPolicy::Skip`](crate::LagPolicy::Skip). Closes the
    /// session if more than [`Config::lag_bytes_max`](crate::Config::lag_bytes_max) of its other topics is unsent.
    pub(crate) fn apply_lag_policy(&mut self, slot: usize, handler: &mut dyn Handler) {
        let lag_max = self.config.lag_bytes_max;
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            config,
            limit_sets,
            stats,
            ..
        } = self;
        let session = &mut sessions[slot];
        let policy = limit_sets.lag_policy(session.limits);
        let policy = policy.unwrap_or(config.lag_policy);
        let skipped = session.outbound.skip(
            |topics, topic| Self::may_skip(topics, topic, policy),
            topics,
            turn_buffer,
            buffers,
        );
        // Topics whose messages may be skipped are not counted. Of these, only the rest of a partially sent message is
        // left in the queue.
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
            log::debug!(
                "{id} skipped {messages} messages of topic {topic:?}: more than {lag_max} B unsent (lag_bytes_max)"
            );
            handler.on_skip(&mut Context::new(self), id, &topic, messages);
        }
        if is_over && self.sessions[slot].is_open() {
            self.close_lagging(slot);
        }
    }

    /// Called when the session has no unsent bytes: replaces the write deadline, or continues the end of the session.
    fn all_sent(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        match session.phase {
            Phase::Live => {
                if self.deadlines.kind(slot) == Some(Deadline::Write) {
                    match session.connection.stage() {
                        Stage::Open => self.set_idle_deadline(slot, Deadline::Quiet),
                        Stage::Opening | Stage::Closing | Stage::Closed | Stage::Ended => {
                            self.deadlines.set(slot, Deadline::Close, self.now as u32);
                        }
                    }
                }
            }
            Phase::Finishing => self.drain(slot),
            Phase::Prologue | Phase::Draining | Phase::Dead => {}
        }
    }

    /// Resumes reading of a paused session at its low-water mark, and calls `on_drain`. Pauses a session that is above
    /// its high-water mark.
    fn resume_if_low(&mut self, slot: usize, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if !session.is_above_high_water {
            // Publications count as well as direct messages.
            session.is_above_high_water = session.outbound.cost() > self.config.high_water_bytes;
            return;
        }
        if session.outbound.cost() > self.config.low_water_bytes {
            return;
        }
        session.is_above_high_water = false;
        self.queue_read(slot);
        if self.sessions[slot].is_open() {
            let id = self.id_of(slot);
            handler.on_drain(&mut Context::new(self), id);
        }
    }
}

/// The result of writing a session's queue.
enum Written {
    /// Nothing is unsent.
    All,
    /// The stream accepts no more until it is writable again: it has accepted less than it was offered, or a part of
    /// what it has accepted waits for the socket.
    Short,
    /// The stream has accepted `len_max` bytes, and may accept more.
    Slice,
}

/// Writes queued bytes until the stream accepts less than it was offered or has accepted `len_max` bytes.
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
        if session.stream.has_unsent() {
            return Ok(Written::Short);
        }
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

/// Maximum bytes that one flush of a session writes, in addition to the bytes that it claims: about 100 us. For a
/// member above `lag_bytes_max`, the flush first writes its excess, or this many bytes if the excess is smaller.
const SLICE_BYTES_MAX: usize = 256 * 1024;

/// Maximum work of one turn for the sessions to which something was sent in this turn: some 2 000 small writes, 5 to
/// 10 ms. The remaining sessions follow in the next turn.
const TURN_WORK_MAX: usize = 16 * 1024 * 1024;

/// Work of a write in addition to its bytes: the fixed cost of a write takes as long as writing this many bytes.
pub(super) const WRITE_WORK: usize = 8 * 1024;

/// Work of visiting a session without a write.
const CLAIM_WORK: usize = 256;

/// Minimum budget of one turn for publications and large queues: the work of 16 small writes.
const PUBLICATION_WORK_MIN: usize = 16 * WRITE_WORK;

/// Unclaimed bytes of publications above which sessions that publish are deferred: they are not read until at most half
/// as many bytes are unclaimed.
pub(super) const UNCLAIMED_BYTES_MAX: usize = 1024 * 1024;

/// Maximum slices of one vectored write.
const SLICES_MAX: usize = 64;
