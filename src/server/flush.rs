//! The flush phase: everything that a turn produced for one peer leaves in one write.
//!
//! First the topics that were published to: each member claims what lies between its cursor and the log's end.
//! A member that keeps up, and is owed nothing else, is written to straight from the log and queues nothing. After
//! some members the turn goes on, and the next one continues with those who follow: what arrives meanwhile is read
//! between, instead of after the last of them, and what is published meanwhile reaches them in the same write.
//! Then every session that owes something, once; what a stream does not take waits for it to say so.

use super::deadlines::{Deadline, Millis};
use super::engine::{Engine, KEPT};
use super::session::{Ending, InputEnd, Phase, Session, Stream, id};
use crate::buffer::BufferPool;
use crate::config::LagPolicy;
use crate::handler::{Context, Error, Handler, Id, Side};
use crate::outbound::{TopicKey, Topics, fill};
use crate::proto::Stage;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::sync::Arc;

impl<S: Stream> Engine<S> {
    /// Writes what is owed, once around, but of publications only as much as a turn should: as much as was read in it,
    /// so that neither keeps the other from the loop, and all of them when that is what bounds the logs.
    pub(crate) fn flush(&mut self, handler: &mut impl Handler) {
        let read = mem::take(&mut self.turn_work);
        if self.topics.dirty_len() > PUBLISHED_BYTES_MAX {
            self.flush_all(handler);
        } else {
            self.flush_within(read.max(CLAIMS_PER_TURN), handler);
        }
    }

    /// Writes what is owed, once around.
    pub(super) fn flush_all(&mut self, handler: &mut impl Handler) {
        self.flush_within(usize::MAX, handler);
    }

    #[inline(never)]
    fn flush_within(&mut self, budget: usize, handler: &mut impl Handler) {
        self.claim_published(budget, handler);
        let mut queue = mem::take(&mut self.flush_queue);
        for id in queue.drain(..) {
            let Some(session) = self.session_mut(id) else {
                continue;
            };
            session.is_flush_queued = false;
            if session.phase != Phase::Dead {
                self.flush_session(id.slot as usize, handler);
            }
        }
        if self.flush_queue.is_empty() {
            // Kept for its allocation, unless a burst made it large.
            queue.shrink_to(KEPT);
            self.flush_queue = queue;
        }
        self.topics.trim(&mut self.buffers);
    }

    /// Gives members what was published to their topics since their last claims, unless they are too far behind, until
    /// the budget is spent.
    fn claim_published(&mut self, mut budget: usize, handler: &mut impl Handler) {
        let mut lagging = Vec::new();
        while budget > 0
            && let Some((topic, index)) = self.topics.next_due()
        {
            self.judge(topic, index, &mut lagging);
            let unclaimed = self.topics.unclaimed(topic, index);
            if unclaimed > 0 {
                self.claim_for_member(topic, index);
                budget = budget.saturating_sub(unclaimed.max(CLAIM_MIN));
            }
        }
        self.topics.take_turns();
        // Later, because both can change who is a member.
        for lag in lagging {
            match lag {
                Lag::Skipped {
                    id,
                    topic,
                    messages,
                } => {
                    log::debug!("{id} skipped {messages} messages of {topic:?}");
                    handler.on_skip(&mut Context::new(self), id, &topic, messages);
                }
                // Slots are freed only in the reap phase, so the slot is still this session's.
                Lag::Disconnect { id } => self.disconnect_lagging(id.slot as usize),
            }
        }
    }

    /// Whether a member is too far behind. It is by what it still owes of earlier turns: one that keeps up is not,
    /// however much one turn publishes, nor whether it has claimed that already (to be sent something else behind it).
    fn judge(&mut self, topic: TopicKey, index: usize, lagging: &mut Vec<Lag>) {
        let Self {
            sessions,
            topics,
            deadlines,
            config,
            stats,
            ..
        } = self;
        let slot = topics.member(topic, index).slot;
        let session = &mut sessions[slot];
        debug_assert!(session.phase == Phase::Live);
        let is_behind = session.outbound.log_len() > config.lag_bytes_max
            && deadlines.kind(slot) == Some(Deadline::Write);
        if !is_behind {
            return;
        }
        let id = id(slot, session.generation);
        match topics.policy(topic).unwrap_or(config.lag_policy) {
            // It claims all the same: should a handler close it before that is done, nothing is missing.
            LagPolicy::Disconnect => lagging.push(Lag::Disconnect { id }),
            LagPolicy::Skip => {
                let messages = session.outbound.skip(topic, topics);
                if messages > 0 {
                    session.skipped(topic, messages);
                    stats.messages_out -= messages;
                    stats.messages_skipped += messages;
                    lagging.push(Lag::Skipped {
                        id,
                        topic: Arc::clone(topics.name(topic)),
                        messages,
                    });
                }
            }
        }
    }

    fn claim_for_member(&mut self, topic: TopicKey, index: usize) {
        let Self {
            sessions,
            topics,
            buffers,
            stats,
            ..
        } = self;
        let slot = topics.member(topic, index).slot;
        let session = &mut sessions[slot];
        let Some((from, to)) = topics.claim(topic, index) else {
            return;
        };
        let keeps_up =
            session.outbound.is_empty() && !session.is_blocked && session.memberships().len() == 1;
        let written = if keeps_up {
            write_log(session, topics, topic, from, to, &mut stats.bytes_out)
        } else {
            Ok(0)
        };
        let rest = from + *written.as_ref().unwrap_or(&0) as u64;
        if rest < to {
            session.outbound.push_log(topic, rest, to, topics, buffers);
            if keeps_up && written.is_ok() {
                self.stalled(slot);
            }
            self.queue_flush(slot);
        }
    }

    fn flush_session(&mut self, slot: usize, handler: &mut impl Handler) {
        let Self {
            sessions,
            topics,
            buffers,
            stats,
            ..
        } = self;
        let session = &mut sessions[slot];
        if !session.is_blocked && !session.outbound.is_empty() {
            match write(session, topics, buffers, &mut stats.bytes_out) {
                Ok(Written::All) => {}
                Ok(Written::Some) => self.stalled(slot),
                Ok(Written::Budget) => self.queue_flush(slot),
                Err(error) => {
                    let by = match error.kind() {
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Side::Peer,
                        _ => Side::Us,
                    };
                    self.kill(slot, Ending::abnormal(by, Some(Error::Io(error))));
                    return;
                }
            }
        }
        let is_empty = self.sessions[slot].outbound.is_empty();
        if is_empty {
            self.all_sent(slot);
        }
        self.resume_if_low(slot, handler);
    }

    /// The stream takes no more: the peer has until the write deadline to make room, and has to take
    /// [`PROGRESS_BYTES_MIN`] to put that off. Once the session is on its way to the end, nothing does.
    pub(super) fn stalled(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        session.is_blocked = true;
        let is_set = self.deadlines.kind(slot) == Some(Deadline::Write);
        let is_ending = session.phase != Phase::Live || session.connection.stage() != Stage::Open;
        let taken = (session.bytes_out as u32).wrapping_sub(session.stall_mark);
        if is_set && (is_ending || taken < PROGRESS_BYTES_MIN) {
            return;
        }
        session.stall_mark = session.bytes_out as u32;
        self.deadlines
            .set(slot, Deadline::Write, self.now as Millis);
    }

    /// Nothing is owed any more: what was waiting for that follows.
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
                    self.deadlines.set(slot, next, self.now as Millis);
                }
            }
            Phase::Finishing
                if session.input_end == InputEnd::Read
                    || session.stream.shutdown_write().is_err() =>
            {
                self.kill(slot, Ending::abnormal(Side::Peer, None));
            }
            Phase::Finishing => {
                // As much as one largest message, which would have been read anyway, and a receive buffer.
                let left = self
                    .config
                    .message_bytes_max
                    .saturating_add(self.config.receive_buffer_bytes);
                session.phase = Phase::Draining;
                session.extra_mut().drain_left = left;
                if self.deadlines.kind(slot) != Some(Deadline::Close) {
                    self.deadlines
                        .set(slot, Deadline::Close, self.now as Millis);
                }
                self.queue_read(slot);
            }
            Phase::Draining | Phase::Dead => {}
        }
    }

    /// A paused session that has fallen to its low-water mark is read again.
    fn resume_if_low(&mut self, slot: usize, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if !session.is_paused {
            // A publication can bring a session over the mark as well as a send.
            session.is_paused = session.outbound.cost() > self.config.high_water_bytes;
            return;
        }
        if session.outbound.cost() > self.config.low_water_bytes {
            return;
        }
        session.is_paused = false;
        self.queue_read(slot);
        if self.sessions[slot].phase == Phase::Live
            && self.sessions[slot].connection.stage() == Stage::Open
        {
            let id = self.id_of(slot);
            handler.on_drain(&mut Context::new(self), id);
        }
    }

    /// A member is further behind its topics than allowed, and not allowed to skip.
    fn disconnect_lagging(&mut self, slot: usize) {
        let error = Some(Error::Limit("lag_bytes_max"));
        self.leave_topics(slot);
        let Self {
            sessions,
            topics,
            buffers,
            ..
        } = self;
        let session = &mut sessions[slot];
        // A handler may have closed it meanwhile; then its Close stands behind the log, and leaving the topics
        // was enough.
        if session.phase == Phase::Live && session.connection.stage() == Stage::Open {
            session.outbound.cut_at_log(topics, buffers);
            self.close_slot(slot, 1013, "too far behind", error);
        }
    }
}

/// A member that is too far behind.
enum Lag {
    Skipped {
        id: Id,
        topic: Arc<str>,
        messages: u64,
    },
    Disconnect {
        id: Id,
    },
}

/// What came of a write.
enum Written {
    /// Nothing is owed any more.
    All,
    /// The stream took some, or nothing, and no more.
    Some,
    /// The stream took all that one write could carry, and more is owed.
    Budget,
}

/// Writes the first of what the session owes, in one call.
fn write<S: Stream>(
    session: &mut Session<S>,
    topics: &mut Topics,
    buffers: &mut BufferPool,
    bytes_out: &mut u64,
) -> io::Result<Written> {
    session.outbound.queue_pong(buffers);
    let (len, offered) = match session.outbound.in_one_piece() {
        Some(bytes) => {
            let len = write_slices(&mut session.stream, &[IoSlice::new(bytes)])?;
            (len, bytes.len())
        }
        None => {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = session.outbound.gather(topics, &mut slices);
            let offered = slices[..filled].iter().map(|slice| slice.len()).sum();
            (
                write_slices(&mut session.stream, &slices[..filled])?,
                offered,
            )
        }
    };
    session.outbound.advance(len, topics, buffers);
    session.bytes_out += len as u64;
    *bytes_out += len as u64;
    Ok(if session.outbound.is_empty() {
        Written::All
    } else if len < offered {
        Written::Some
    } else {
        Written::Budget
    })
}

/// Writes `from..to` of a log to a member that is owed nothing else; how much the stream took. An error is left
/// for the flush to meet again.
fn write_log<S: Stream>(
    session: &mut Session<S>,
    topics: &Topics,
    topic: TopicKey,
    from: u64,
    to: u64,
    bytes_out: &mut u64,
) -> io::Result<usize> {
    let mut pieces = topics.slices(topic, from, to);
    let len = if let (Some(piece), None) = (pieces.next(), pieces.next()) {
        // Almost always, and 64 slices need not be cleared for it.
        write_slices(&mut session.stream, &[IoSlice::new(piece)])?
    } else {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = fill(&mut slices, topics.slices(topic, from, to));
        write_slices(&mut session.stream, &slices[..filled])?
    };
    session.bytes_out += len as u64;
    *bytes_out += len as u64;
    Ok(len)
}

/// One write, again if interrupted; what would block took nothing.
pub(super) fn write_slices(stream: &mut impl Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        // A single slice buffers the kernel the copy of a vector.
        let result = match slices {
            [slice] => stream.write(slice),
            _ => stream.write_vectored(slices),
        };
        match result {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => return Ok(len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
    }
}

/// Of publications, what one turn gives to members at least: 16 small writes, or as much as takes about as long.
const CLAIMS_PER_TURN: usize = 16 * CLAIM_MIN;

/// What a member costs at least, in bytes: to write anything takes as long as to write so many more. A session that is
/// read costs as much, for it is likely to be answered.
pub(super) const CLAIM_MIN: usize = 8 * 1024;

/// What may be published before all of it is claimed, in the middle of a turn if need be: what the logs hold for those
/// who keep up is bounded by it, and what one session is read for.
pub(super) const PUBLISHED_BYTES_MAX: usize = 1024 * 1024;

/// What a peer that is behind has to take within the write deadline: 2 KiB a second at the default of 30 s. With
/// less, a peer that takes a byte now and then would hold its backlog for ever.
const PROGRESS_BYTES_MIN: u32 = 64 * 1024;

/// Slices of one write: with chunks of 128 KiB, more than any socket takes at once.
const SLICES_MAX: usize = 64;
