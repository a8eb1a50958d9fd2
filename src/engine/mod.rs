//! All sessions and what they share: the loop without its poll, its clock and its handler.
//!
//! The phases of a turn (`server`) and what handlers ask for (`context`) act on an [`Engine`]. It is told the time and
//! which streams are ready, so that a simulation can drive it as well as the server. This file has what more than one of
//! those need: how a session comes, is found, and is queued for a phase. How it ends is in `endings`; its topics are in
//! `memberships`; the rest of what a handler can ask for is in `operations`.

pub(crate) mod deadlines;
mod endings;
mod memberships;
pub(crate) mod operations;
pub(crate) mod paths;
pub(crate) mod session;
pub(crate) mod session_log;
mod slot_queue;
mod timers;

use crate::buffer::BufferPool;
use crate::config::Config;
use crate::error::{Error, Limit};
use crate::id::Id;
use crate::outbound::{Topics, TurnBuffer};
use crate::proto::{HeadLimits, HttpResponse, Limits};
use crate::stats::{Refusal, Stats};
use crate::stream::{Stream, Transport};
use deadlines::{Deadline, Deadlines, Millis};
use paths::Paths;
use session::{InputEnd, Kind, Session, id};
use session_log::SessionLog;
use slab::Slab;
use slot_queue::SlotQueue;
use std::collections::VecDeque;
use std::io::Write;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use timers::Timers;

/// See the module.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) sessions: Slab<Session>,
    pub(crate) topics: Topics,
    pub(crate) buffers: BufferPool,
    pub(crate) turn_buffer: TurnBuffer,
    pub(crate) paths: Paths,
    pub(crate) deadlines: Deadlines,
    pub(crate) timers: Timers,
    pub(crate) session_log: SessionLog,
    /// Totals; current figures are filled in when they are asked for.
    pub(crate) stats: Stats,
    /// Milliseconds of the loop's clock, as of this turn.
    pub(crate) now: u64,
    /// A session postpones its idle deadline once in a period of so many milliseconds.
    touch_millis: u32,
    /// The period of this turn.
    pub(crate) touch_period: u32,
    /// The number of the newest connection that was accepted before the last poll.
    accepted_before_poll: u64,
    /// Connections accepted: the number of the newest.
    accepted: u64,
    counts: Counts,
    /// Slots of sessions with input to read or to process. An entry counts if the session in that slot is marked as queued: a
    /// slot can have another session meanwhile, and so another entry.
    pub(crate) read_queue: SlotQueue,
    /// Sessions that are to be read in the middle of a long message, after those of `read_queue`.
    pub(crate) long_read_queue: SlotQueue,
    /// The same for sessions with unsent bytes, most of them queued in this turn.
    pub(crate) flush_queue: SlotQueue,
    /// Sessions with so many unsent bytes that they are flushed in slices, with the turn's budget for publications.
    pub(crate) bulk_queue: SlotQueue,
    /// Sessions that are not read until members have caught up.
    pub(crate) deferred: Vec<Id>,
    /// Sessions that have ended.
    pub(crate) reap_queue: VecDeque<Id>,
    /// The session whose input is being processed. Still set at the start of a turn if the handler panicked in it.
    pub(crate) reading: Option<u32>,
    /// The work of this turn's reads, measured as that of publications.
    pub(crate) read_work: usize,
    /// Bytes published before the last flush, and by messages since then (see `flush`).
    pub(crate) published: Published,
    /// What the protocol answers within one call of `receive`; retained for its allocation.
    pub(crate) replies: Vec<u8>,
    pub(crate) stop: Stop,
    /// The next scope of timers; see [`Context`](crate::Context).
    next_scope: u32,
}

/// How many sessions there are of some kinds.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// [`Kind::Requesting`]
    requesting: usize,
    /// [`Kind::Surplus`]
    surplus: usize,
    /// Between `on_open` and `on_close`.
    open: usize,
}

/// By whom bytes were published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    /// In all, until the last flush.
    pub(crate) total: u64,
    /// Since then, by handlers of messages: their sessions can be deferred.
    pub(crate) by_messages: u64,
    /// By anything else (timers, sources, commands of the host) and perhaps still unclaimed.
    pub(crate) by_others: u64,
}

/// How far the server is in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is not stopping.
    No,
    /// Asked for; the turn has yet to begin it.
    Asked,
    /// Sessions are closing, until the time given.
    Until(u64),
    /// Sessions are terminated.
    Now,
}

/// What the poll reported of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer has ended its side of the stream, or a read may stop before the stream is empty (urgent data).
    pub(crate) is_end: bool,
}

impl Engine {
    /// An engine at time 0. `clock` is where the milliseconds begin, or `None` if they come from a test.
    pub(crate) fn new(config: Config, clock: Option<Instant>) -> Self {
        let limits = Limits {
            message_bytes_max: config.message_bytes_max,
            fragments_max: config.fragments_max,
            head: HeadLimits {
                head_bytes_max: config.head_bytes_max,
                headers_max: config.headers_max,
            },
        };
        let half_idle = config.idle_timeout.map(|idle| millis(idle) / 2);
        let touch_millis = half_idle.map_or(1, |half| half / TOUCH_FRACTION).max(1);
        // `touch` may leave a deadline unchanged for this long, so it is added: never early.
        let half_idle = half_idle.map(|half| half + touch_millis);
        let duration = |kind| match kind {
            Deadline::Handshake => Some(millis(config.handshake_timeout)),
            Deadline::Quiet | Deadline::Idle => half_idle,
            Deadline::Write => Some(millis(config.write_timeout)),
            Deadline::Close => Some(millis(config.close_timeout)),
        };
        Self {
            deadlines: Deadlines::new(duration, KEPT),
            config,
            limits,
            sessions: Slab::with_capacity(KEPT),
            topics: Topics::default(),
            buffers: BufferPool::new(),
            turn_buffer: TurnBuffer::new(),
            paths: Paths::default(),
            timers: Timers::new(clock),
            session_log: SessionLog::default(),
            stats: Stats::default(),
            now: 0,
            touch_millis,
            touch_period: 0,
            accepted_before_poll: 0,
            accepted: 0,
            counts: Counts::default(),
            read_queue: SlotQueue::with_capacity(KEPT),
            long_read_queue: SlotQueue::with_capacity(0),
            flush_queue: SlotQueue::with_capacity(KEPT),
            bulk_queue: SlotQueue::with_capacity(0),
            deferred: Vec::new(),
            reap_queue: VecDeque::with_capacity(KEPT),
            reading: None,
            read_work: 0,
            published: Published::default(),
            replies: Vec::new(),
            stop: Stop::No,
            next_scope: 0,
        }
    }

    /// Begins a turn after a poll, at `now`, in milliseconds of a clock that never goes back.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        debug_assert!(self.now <= now);
        self.now = now;
        self.accepted_before_poll = self.accepted;
        // Not zero, which is a session's before the first time.
        self.touch_period = (now / u64::from(self.touch_millis)) as u32 | 1 << 31;
        self.buffers.begin_turn(now);
        self.timers.begin_turn();
        if let Some(slot) = self.reading.take() {
            self.kill_panicked(slot as usize);
        }
    }

    /// Ends the oldest connections without a request above `handshakes_max`, after a poll: those that the turn before has
    /// accepted count from then on.
    pub(crate) fn evict_excess_handshakes(&mut self) {
        while self.has_excess_handshakes() && self.evict(NoRoom::HandshakesMax, 0) {}
    }

    fn has_excess_handshakes(&self) -> bool {
        self.counts.requesting > self.config.handshakes_max
    }

    /// Adds a new connection. Above a limit, the oldest one without a request makes room; if there is none, the new one is
    /// answered 503, and once too many of those wait for the peer to read that, dropped behind the answer (`None`).
    pub(crate) fn insert(&mut self, mut stream: Stream, peer: Option<SocketAddr>) -> Option<Id> {
        let refusal = self.make_room();
        if let Some(refusal) = refusal
            && self.counts.surplus >= SURPLUS_MAX
        {
            self.stats.count_refusal(refusal.counted());
            log::debug!("dropped a connection: {}", refusal.error());
            let mut response = Vec::new();
            no_room().encode(false, &mut response);
            // A reset may overtake the answer, because the request is unread. Nothing better can be done.
            let _ = stream.write(&response);
            let _ = stream.shutdown_write();
            return None;
        }
        self.accepted += 1;
        let slot = self
            .sessions
            .insert(Session::new(stream, peer, self.accepted));
        self.counts.requesting += 1;
        if let Some(refusal) = refusal {
            self.set_kind(slot, Kind::Surplus);
            self.stats.count_refusal(refusal.counted());
            self.refuse(slot, &no_room(), false, Some(refusal.error()));
        } else {
            self.deadlines
                .set(slot, Deadline::Handshake, self.now as Millis);
        }
        Some(id(slot, self.accepted))
    }

    /// Makes room for a new connection, if that is possible; the reason to refuse it, if not.
    fn make_room(&mut self) -> Option<NoRoom> {
        // Connections accepted while a stop is asked for have waited since before, and are counted as others are.
        if let Stop::Until(_) | Stop::Now = self.stop {
            return Some(NoRoom::Shutdown);
        }
        // A connection without a request is worth less than a new one: it may never send any. Otherwise silent
        // connections, which cost their owner nothing, would lock everybody out until their timeouts.
        if self.counts.requesting >= self.config.handshakes_max {
            self.evict(NoRoom::HandshakesMax, 0);
        }
        if self.sessions.len() - self.counts.surplus >= self.config.connections_max
            && !self.evict(NoRoom::ConnectionsMax, EVICTED_AFTER_MILLIS)
        {
            return Some(NoRoom::ConnectionsMax);
        }
        None
    }

    /// Ends the oldest connection without a request, if it is at least `age_min` milliseconds old and has not sent
    /// anything that waits to be read. A connection that was accepted after the last poll is not ended: the poll has not
    /// reported yet whether its request has arrived. Returns whether there was one.
    fn evict(&mut self, reason: NoRoom, age_min: u32) -> bool {
        let now = self.now as Millis;
        // Input that waits may be the request.
        let is_silent = |slot: &usize| {
            let session = &self.sessions[*slot];
            !session.is_read_queued && session.number <= self.accepted_before_poll
        };
        let oldest = self.deadlines.slots(Deadline::Handshake);
        let Some(slot) = oldest.take(CANDIDATES_MAX).find(is_silent) else {
            return false;
        };
        let set_at = self.deadlines.set_at(slot, Deadline::Handshake);
        if set_at.is_none_or(|set_at| now.wrapping_sub(set_at) < age_min) {
            return false;
        }
        self.stats.count_refusal(reason.counted());
        self.kill(
            slot,
            session::Ending::abnormal(crate::error::Side::Us, Some(reason.error())),
        );
        // Its slot and descriptor are freed at the end of the turn; until then it does not count.
        self.set_kind(slot, Kind::Surplus);
        true
    }

    /// Records what the poll reported of a session; one that is gone is ignored.
    #[cfg(test)]
    pub(crate) fn mark(&mut self, id: Id, readiness: Readiness) {
        self.mark_slot(id.slot as usize, readiness, |number| number == id.number);
    }

    /// Records what the poll reported of the session in a slot, if it is the one that is meant, by its number.
    #[inline]
    pub(crate) fn mark_slot(
        &mut self,
        slot: usize,
        readiness: Readiness,
        is_meant: impl Fn(u64) -> bool,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if !is_meant(session.number) {
            return;
        }
        if readiness.is_end && session.input_end == InputEnd::Unknown {
            session.input_end = InputEnd::Announced;
        }
        if readiness.is_readable {
            session.is_readable = true;
            if session.wants_input() && !mem::replace(&mut session.is_read_queued, true) {
                self.read_queue.push_back(slot as u32);
            }
        }
        if readiness.is_writable && session.is_blocked {
            session.is_blocked = false;
            self.queue_flush(slot);
        }
    }

    /// Whether the next turn has something to do before any event.
    pub(crate) fn has_work(&self) -> bool {
        !self.read_queue.is_empty()
            || !self.long_read_queue.is_empty()
            || !self.flush_queue.is_empty()
            || !self.bulk_queue.is_empty()
            || !self.reap_queue.is_empty()
            || self.topics.is_dirty()
            || self.reading.is_some()
            || self.has_excess_handshakes()
            || matches!(self.stop, Stop::Asked | Stop::Now)
    }

    /// How long the next poll may sleep, in milliseconds; `None`: until an event.
    pub(crate) fn next_in(&self) -> Option<u64> {
        if self.has_work() {
            return Some(0);
        }
        let deadline = self.deadlines.next_in(self.now as Millis).map(u64::from);
        let timer = self.timers.next_in(self.now);
        let stop = match self.stop {
            Stop::Until(end) => Some(end.saturating_sub(self.now)),
            Stop::No | Stop::Asked | Stop::Now => None,
        };
        let session_log = self.session_log.next_in(self.now);
        let buffers = self.buffers.next_in();
        let first = earlier(deadline, timer);
        earlier(earlier(first, stop), earlier(session_log, buffers))
    }

    /// Whether a session's deadline is due in this turn.
    pub(crate) fn has_due_deadline(&self) -> bool {
        self.deadlines.first_due(self.now as Millis).is_some()
    }

    /// How far the server is in stopping.
    pub(crate) fn stop_state(&self) -> Stop {
        self.stop
    }

    /// Whether the stop has begun: no connection is accepted any more.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stop, Stop::Until(_) | Stop::Now)
    }

    /// Milliseconds of the loop's clock, as of this turn.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The name of the session in `slot`.
    #[cfg(test)]
    pub(crate) fn id_at(&self, slot: usize) -> Option<Id> {
        self.sessions
            .get(slot)
            .map(|session| id(slot, session.number))
    }

    /// A session's stream.
    pub(crate) fn stream_mut(&mut self, id: Id) -> Option<&mut Stream> {
        self.session_mut(id).map(|session| &mut session.stream)
    }

    /// The number of sessions, in any state.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The number of sessions between `on_open` and `on_close`.
    pub(crate) fn count(&self) -> usize {
        self.counts.open
    }

    /// Whether the duration of turns is measured.
    pub(crate) fn measures_turns(&self) -> bool {
        self.stats.turns.is_some()
    }

    /// Counts a turn by its duration.
    pub(crate) fn count_turn(&mut self, time: Duration) {
        self.stats.count_turn(time);
    }

    /// How many sessions await their request, exceed a limit, and are open.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> [usize; 3] {
        let Counts {
            requesting,
            surplus,
            open,
        } = self.counts;
        [requesting, surplus, open]
    }

    /// A scope for timers that no other route has.
    pub(crate) fn new_scope(&mut self) -> u32 {
        self.next_scope += 1;
        self.next_scope
    }

    /// The session of that name, unless it is gone.
    #[inline]
    pub(crate) fn session(&self, id: Id) -> Option<&Session> {
        self.sessions
            .get(id.slot as usize)
            .filter(|session| session.number == id.number)
    }

    #[inline]
    pub(crate) fn session_mut(&mut self, id: Id) -> Option<&mut Session> {
        self.sessions
            .get_mut(id.slot as usize)
            .filter(|session| session.number == id.number)
    }

    /// The slot of a session that messages can be sent to.
    #[inline]
    pub(crate) fn open_slot(&self, id: Id) -> Option<usize> {
        let session = self.session(id)?;
        session.is_open().then_some(id.slot as usize)
    }

    #[inline]
    pub(crate) fn id_of(&self, slot: usize) -> Id {
        id(slot, self.sessions[slot].number)
    }

    /// Queues a session for the read phase, if there is something to read or to process.
    #[inline]
    pub(crate) fn queue_read(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.wants_input() && !mem::replace(&mut session.is_read_queued, true) {
            self.read_queue.push_back(slot as u32);
        }
    }

    /// Queues a session for the flush phase.
    #[inline]
    pub(crate) fn queue_flush(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if !mem::replace(&mut session.is_flush_queued, true) {
            let queue = if session.outbound.len() > BULK_BYTES_MIN {
                &mut self.bulk_queue
            } else {
                &mut self.flush_queue
            };
            queue.push_back(slot as u32);
        }
    }

    /// Changes what a connection has become, and the counts with it.
    pub(crate) fn set_kind(&mut self, slot: usize, kind: Kind) {
        let old = mem::replace(&mut self.sessions[slot].kind, kind);
        if let Some(count) = self.counts.of(old) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(kind) {
            *count += 1;
        }
    }

    /// Postpones the idle deadline of an open session, at most once in a 64th of its duration.
    #[inline(never)]
    pub(crate) fn touch(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.touched_at == self.touch_period {
            return;
        }
        session.touched_at = self.touch_period;
        match self.deadlines.kind(slot) {
            Some(Deadline::Quiet | Deadline::Idle) => {
                self.deadlines
                    .set(slot, Deadline::Quiet, self.now as Millis);
            }
            Some(Deadline::Handshake | Deadline::Write | Deadline::Close) | None => {}
        }
    }

    /// Removes a session, which has ended, from its slot. Returns its stream.
    pub(crate) fn remove(&mut self, slot: usize) -> Stream {
        self.set_kind(slot, Kind::Reported);
        self.deadlines.clear(slot);
        let mut session = self.sessions.remove(slot);
        session
            .outbound
            .clear(&mut self.topics, &mut self.turn_buffer, &mut self.buffers);
        if let Some(path) = session.path {
            self.paths.release(path);
        }
        session.stream
    }

    /// Releases memory after a burst of sessions.
    pub(crate) fn shrink(&mut self) {
        let capacity = self.sessions.capacity();
        if capacity > KEPT && self.sessions.len() < capacity / 4 {
            self.sessions.shrink_to_fit();
            self.sessions
                .reserve(KEPT.saturating_sub(self.sessions.len()));
            self.deadlines.shrink_to(self.sessions.capacity());
            self.read_queue.shrink_to(KEPT);
            self.long_read_queue.shrink_to(KEPT);
            self.flush_queue.shrink_to(KEPT);
            self.bulk_queue.shrink_to(KEPT);
            self.reap_queue.shrink_to(KEPT);
            self.deferred.shrink_to(KEPT);
        }
    }
}

impl Counts {
    fn of(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Requesting => Some(&mut self.requesting),
            Kind::Surplus => Some(&mut self.surplus),
            Kind::Opened | Kind::Ended => Some(&mut self.open),
            Kind::Answered | Kind::Reported => None,
        }
    }
}

/// Why there is no room for a new connection.
#[derive(Clone, Copy, Debug)]
enum NoRoom {
    Shutdown,
    HandshakesMax,
    ConnectionsMax,
}

impl NoRoom {
    fn error(self) -> Error {
        match self {
            Self::Shutdown => Error::Shutdown,
            Self::HandshakesMax => Error::Limit(Limit::HandshakesMax),
            Self::ConnectionsMax => Error::Limit(Limit::ConnectionsMax),
        }
    }

    fn counted(self) -> Refusal {
        match self {
            Self::Shutdown => Refusal::Shutdown,
            Self::HandshakesMax => Refusal::HandshakesMax,
            Self::ConnectionsMax => Refusal::ConnectionsMax,
        }
    }
}

fn no_room() -> HttpResponse {
    HttpResponse::new(503, "the server has no room for another connection\n")
}

/// Returns the earlier of two times, of which each may be never (`None`).
#[inline]
pub(crate) fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A duration of `Config`, which bounds it to 7 days.
pub(crate) fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

/// Slots, and entries of each queue, that are never released.
pub(crate) const KEPT: usize = 1024;

/// Connections above a limit that wait for the peer to read their 503. Each needs a descriptor: half of the default
/// reserve of descriptors.
const SURPLUS_MAX: usize = 16;

/// Connections at the head of the queue that are looked at for one to evict.
const CANDIDATES_MAX: usize = 64;

/// At `connections_max`, a connection without a request has this long before a new one may take its place: a request that
/// follows its connection over a slow link arrives within a second.
const EVICTED_AFTER_MILLIS: u32 = 1000;

/// From here on a queue is flushed in slices, after the small ones: it takes as long as ten small ones.
const BULK_BYTES_MIN: usize = 64 * 1024;

/// An idle deadline is moved at most once in this fraction of its duration: a busy session moves its link in the queue
/// once a second and not with each message.
const TOUCH_FRACTION: Millis = 64;
