//! The state of the event loop: all sessions, the queues of each phase, topics, deadlines, timers and counters.
//!
//! An [`Engine`] has no poll or handler. Only `timers` reads a clock, when a timer is set, if [`Engine::new`] was
//! given one. The caller passes in the time and the readiness of streams, so that a simulation can drive an engine as
//! well as the server. The phases of a turn (`server`) and the methods of
//! [`Context`](crate::Context) act on the engine.
//!
//! This file finds sessions, and queues them for a phase. The other files:
//!
//! - `admission`: inserts new connections, and evicts or refuses connections above the limits
//! - `addresses`: counts connections and requests by the address of the client
//! - `date`: the header `Date` of HTTP responses
//! - `session`: the state of one session; `paths`: the request paths of all sessions
//! - `endings`: every way in which a session ends
//! - `memberships`: join, leave, publish, claim
//! - `operations`: everything else that a handler can request
//! - `limit_sets`: the limits of sessions
//! - `deadlines`, `timers`: what is due when
//! - `round_trips`: the round-trip times of automatic pings
//! - `sources`: the event sources of handlers
//! - `session_list`: the list of the timers, or of the sources, of one session
//! - `slot_queue`: the queues of slots for the read and flush phases
//! - `session_log`: log lines about sessions, rate-limited

mod addresses;
pub(crate) mod admission;
#[cfg(feature = "backplane")]
mod backplane;
#[cfg(feature = "http-date")]
mod date;
pub(crate) mod deadlines;
mod endings;
pub(crate) mod limit_sets;
mod memberships;
pub(crate) mod operations;
pub(crate) mod paths;
mod round_trips;
pub(crate) mod session;
mod session_list;
pub(crate) mod session_log;
mod slot_queue;
pub(crate) mod sources;
pub(crate) mod timers;

use crate::buffer::BufferPool;
use crate::config::{Config, ConfigError, SessionLimits};
use crate::handler::Handler;
use crate::id::Id;
use crate::outbound::{Topics, TurnBuffer};
use crate::proto::{HeadLimits, Limits};
use crate::stats::Stats;
use crate::stream::Stream;
use addresses::Addresses;
use deadlines::{Deadline, Deadlines, IdleClass, Millis};
use limit_sets::LimitSets;
use mio::Registry;
use paths::Paths;
use round_trips::RoundTrips;
use session::{InputEnd, Kind, Session, id};
use session_log::SessionLog;
use slab::Slab;
use slot_queue::SlotQueue;
use sources::Sources;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem;
use std::time::{Duration, Instant};
use timers::Timers;

/// The sessions and everything that they share.
pub(crate) struct Engine {
    pub(crate) config: Config,
    /// The limits of sessions, from `config` or from the handler.
    pub(crate) limit_sets: LimitSets,
    pub(crate) sessions: Slab<Session>,
    pub(crate) topics: Topics,
    /// The topics at the broker, if there is one.
    #[cfg(feature = "backplane")]
    pub(crate) shared: Option<Box<backplane::Shared>>,
    pub(crate) buffers: BufferPool,
    pub(crate) turn_buffer: TurnBuffer,
    pub(crate) paths: Paths,
    pub(crate) deadlines: Deadlines,
    pub(crate) round_trips: RoundTrips,
    pub(crate) timers: Timers,
    pub(crate) sources: Sources,
    pub(crate) session_log: SessionLog,
    /// Totals. [`Engine::stats`] adds the current values.
    pub(crate) stats: Stats,
    /// The time at the start of this turn, in milliseconds of the loop's clock.
    pub(crate) now: u64,
    /// Length of a touch period in milliseconds. A session postpones its idle deadline at most once per period.
    touch_millis: u32,
    /// Number of the current touch period.
    pub(crate) touch_period: u32,
    /// Number of the newest connection that was accepted before the last poll.
    accepted_before_poll: u64,
    /// Connections inserted since the start, and so the number of the newest one.
    accepted: u64,
    counts: Counts,
    /// `None` without a limit per address.
    addresses: Option<Box<Addresses>>,
    /// Slots of sessions with input to read or to process. An entry is valid only if the session in its slot is marked
    /// as queued (`is_read_queued`): the session that was queued may have ended, and its slot may have been reused.
    pub(crate) read_queue: SlotQueue,
    /// Slots of sessions in the middle of a long message. They are read after those of `read_queue`.
    pub(crate) long_read_queue: SlotQueue,
    /// Slots of sessions with unsent bytes, most of them queued in this turn. An entry is valid only if the session in
    /// its slot is marked as queued (`is_flush_queued`).
    pub(crate) flush_queue: SlotQueue,
    /// Slots of sessions with many unsent bytes. They are flushed in slices, within the limit of work that the flush
    /// phase spends on publications and on this queue (see `flush`).
    pub(crate) large_queue: SlotQueue,
    /// Sessions that published while too many bytes were unclaimed. They are not read until members have caught up.
    pub(crate) deferred: Vec<Id>,
    /// [`Engine::apply_lag_policy`], once there was a member. It is called through this pointer, so that the linker
    /// removes its code from programs without topics: 3 KB.
    pub(crate) lag_policy: Option<fn(&mut Self, usize, &mut dyn Handler)>,
    /// Sessions that have ended. The reap phase frees them.
    pub(crate) reap_queue: VecDeque<Id>,
    /// Sessions that were open when a stop began that closes them one after the other, except those that it has closed
    /// already. Some may have ended.
    unclosed: Vec<Id>,
    /// Slot of the session whose input is being processed. Still set at the start of a turn if the handler panicked.
    pub(crate) reading: Option<u32>,
    /// Cost of TLS handshakes that this turn may still spend, expressed in bytes.
    #[cfg(feature = "tls")]
    pub(crate) handshake_work_left: usize,
    /// Time that this turn may still spend on them.
    #[cfg(feature = "tls")]
    pub(crate) handshake_time_left: Duration,
    /// Cost of TLS records, expressed in bytes, that the read phase has added to its bytes. It is subtracted from the bytes
    /// that the statistics count.
    #[cfg(feature = "tls")]
    pub(crate) tls_read_work: usize,
    /// Work of this turn's reads, in the unit in which the flush phase measures its work (bytes).
    pub(crate) read_work: usize,
    /// Bytes that were published, by origin (see `flush`).
    pub(crate) published: Published,
    /// Scratch buffer for bytes that the protocol layer produces: control frames and HTTP responses.
    pub(crate) replies: Vec<u8>,
    pub(crate) stop: Stop,
    /// Whether `on_stop` was called.
    pub(crate) is_stop_announced: bool,
    /// Whether opening handshakes are refused with 503.
    refuses_new_sessions: bool,
    /// The scope that contains each scope of timers and sources, from scope 1 on; see [`Context`](crate::Context).
    scope_parents: Vec<u32>,
}

/// Numbers of sessions by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Sessions of [`Kind::Requesting`].
    requesting: usize,
    /// Sessions of [`Kind::Surplus`].
    surplus: usize,
    /// Sessions of [`Kind::Opened`] and [`Kind::Ended`]: between `on_open` and `on_close`.
    open: usize,
}

/// Bytes that were published, by origin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Published {
    /// All bytes published before the end of the last flush phase.
    pub(crate) total: u64,
    /// Bytes that handlers have published since then while input was processed. The sessions of that input can be
    /// deferred.
    pub(crate) by_messages: u64,
    /// Bytes published by anything else (timers, sources, other threads, the embedding program) and perhaps still
    /// unclaimed.
    pub(crate) by_others: u64,
}

/// Progress of the server's stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The server is not stopping.
    No,
    /// A stop was requested. The turn has not begun it yet.
    Asked,
    /// Sessions are closed one after the other; see [`Engine::close_due`].
    Spreading(Spread),
    /// All sessions are closing. Those that remain at this time (milliseconds of the loop's clock) are terminated.
    Until(u64),
    /// All sessions are terminated at once.
    Now,
}

/// The schedule of a stop in which not all sessions are closed at once: session `n` of `count` at `start` plus `n` times
/// `duration` divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Time of the first Close in milliseconds of the loop's clock.
    start: u64,
    /// Milliseconds.
    duration: u64,
    /// Number of sessions at the start.
    count: u64,
}

impl Spread {
    /// Returns the time of the next Close if `left` sessions are not closed yet.
    fn next_at(self, left: usize) -> u64 {
        let closed = self.count - left as u64;
        self.start + (closed * self.duration).div_ceil(self.count.max(1))
    }
}

/// Readiness of a stream, as reported by the poll.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer has ended its side of the stream, or a read may stop before the stream is empty (urgent data), or the
    /// stream has failed.
    pub(crate) is_end: bool,
    /// The stream has failed. `is_end` is set, too.
    pub(crate) is_error: bool,
}

impl Engine {
    /// Returns an engine without sessions at time 0. `clock` is the instant of time 0, or `None` if a test controls the
    /// time. `registry` is that of the server's poll, or `None` if a test reports the readiness of sources.
    pub(crate) fn new(
        mut config: Config,
        clock: Option<Instant>,
        registry: Option<Registry>,
    ) -> Self {
        config.connections_max = config.connections_max.min(deadlines::CONNECTIONS_MAX);
        let limits = Limits {
            message_bytes_max: config.message_bytes_max,
            fragments_max: config.fragments_max,
            head: HeadLimits {
                head_bytes_max: config.head_bytes_max,
                headers_max: config.headers_max,
            },
        };
        let waits = idle_waits(config.idle_timeout, config.ping_interval);
        let touch_millis = waits.map_or(1, |(quiet, _)| quiet / TOUCH_FRACTION).max(1);
        let (quiet, idle) = waits.map(|waits| lengthened(waits, touch_millis)).unzip();
        let duration = |kind| match kind {
            Deadline::Handshake => Some(millis(config.handshake_timeout)),
            Deadline::Quiet => quiet,
            Deadline::Idle => idle,
            Deadline::Write => Some(millis(config.write_timeout)),
            Deadline::Close => Some(millis(config.close_timeout)),
        };
        Self {
            deadlines: Deadlines::new(duration),
            topics: Topics::new(config.replay_bytes_max),
            #[cfg(feature = "backplane")]
            shared: None,
            addresses: Addresses::new(&config),
            config,
            limit_sets: LimitSets::new(limits),
            sessions: Slab::with_capacity(SLOTS_RETAINED),
            buffers: BufferPool::new(),
            turn_buffer: TurnBuffer::new(),
            paths: Paths::default(),
            round_trips: RoundTrips::default(),
            timers: Timers::new(clock),
            sources: Sources::new(registry),
            session_log: SessionLog::default(),
            stats: Stats::default(),
            now: 0,
            touch_millis,
            touch_period: 0,
            accepted_before_poll: 0,
            accepted: 0,
            counts: Counts::default(),
            read_queue: SlotQueue::with_capacity(SLOTS_RETAINED),
            long_read_queue: SlotQueue::with_capacity(0),
            flush_queue: SlotQueue::with_capacity(SLOTS_RETAINED),
            large_queue: SlotQueue::with_capacity(0),
            deferred: Vec::new(),
            lag_policy: None,
            reap_queue: VecDeque::with_capacity(SLOTS_RETAINED),
            reading: None,
            #[cfg(feature = "tls")]
            handshake_work_left: 0,
            #[cfg(feature = "tls")]
            handshake_time_left: Duration::ZERO,
            #[cfg(feature = "tls")]
            tls_read_work: 0,
            read_work: 0,
            published: Published::default(),
            replies: Vec::new(),
            stop: Stop::No,
            is_stop_announced: false,
            refuses_new_sessions: false,
            unclosed: Vec::new(),
            scope_parents: Vec::new(),
        }
    }

    /// Begins a turn, usually after a poll; also called before `on_start` and `Server::with_context`. `now` is in
    /// milliseconds of a monotonic clock.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        debug_assert!(self.now <= now);
        self.now = now;
        self.accepted_before_poll = self.accepted;
        // The upper bit distinguishes every period from 0, the value of a new session.
        self.touch_period = (now / u64::from(self.touch_millis)) as u32 | 1 << 31;
        self.buffers.begin_turn(now);
        self.timers.begin_turn();
        #[cfg(feature = "tls")]
        {
            self.handshake_work_left = crate::server::prologue::HANDSHAKE_WORK_PER_TURN;
            self.handshake_time_left = crate::server::prologue::HANDSHAKE_TIME_PER_TURN;
            // A handler may have panicked in the middle of a read.
            self.tls_read_work = 0;
        }
        if let Some(slot) = self.reading.take() {
            self.end_panicked(slot as usize);
        }
    }

    /// Records the readiness of a session's stream. Ignored if the session has ended.
    #[cfg(test)]
    pub(crate) fn mark(&mut self, id: Id, readiness: Readiness) {
        self.mark_slot(id.slot as usize, readiness, |number| number == id.number);
    }

    /// Records the readiness of the stream in a slot. Ignored unless `is_meant` returns `true` for the number of the
    /// session there: the slot may have been reused since the poll.
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
        if readiness.is_end {
            if session.input_end != InputEnd::Read {
                session.input_end = InputEnd::Announced;
            }
            #[cfg(feature = "tls")]
            if let Some(tls) = session.stream.tls_mut() {
                tls.announce_end();
            }
            if readiness.is_error && session.is_paused() {
                // The read phase, which finds the errors of other sessions, does not read this one.
                let error = session.stream.take_error();
                let error = error.unwrap_or_else(|| ErrorKind::ConnectionReset.into());
                return self.stream_failed(slot, error);
            }
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

    /// Returns whether the next turn has work even if no event arrives.
    pub(crate) fn has_work(&self) -> bool {
        !self.read_queue.is_empty()
            || !self.long_read_queue.is_empty()
            || !self.flush_queue.is_empty()
            || !self.large_queue.is_empty()
            || !self.reap_queue.is_empty()
            || self.topics.is_dirty()
            || self.reading.is_some()
            || self.sources.has_ready()
            || self.has_excess_handshakes()
            || matches!(self.stop, Stop::Asked | Stop::Now)
    }

    /// Returns the time until the engine has work, in milliseconds; `None`: only an event can bring work.
    pub(crate) fn next_in(&self) -> Option<u64> {
        if self.has_work() {
            return Some(0);
        }
        let deadline = self.deadlines.next_in(self.now as Millis).map(u64::from);
        let timer = self.timers.next_in(self.now);
        let stop = match self.stop {
            Stop::Spreading(spread) if !self.unclosed.is_empty() => {
                let next = spread.next_at(self.unclosed.len());
                Some(next.saturating_sub(self.now))
            }
            // All remaining Closes wait for the broker: `next_shared_in` has their time.
            Stop::Spreading(_) => None,
            Stop::Until(end) => Some(end.saturating_sub(self.now)),
            Stop::No | Stop::Asked | Stop::Now => None,
        };
        let session_log = self.session_log.next_in(self.now);
        let buffers = self.buffers.next_in();
        #[cfg(feature = "backplane")]
        let deadline = earlier(deadline, self.next_shared_in());
        let first = earlier(deadline, timer);
        earlier(earlier(first, stop), earlier(session_log, buffers))
    }

    /// Returns whether a session's deadline is due in this turn.
    pub(crate) fn has_due_deadline(&self) -> bool {
        self.deadlines.first_due(self.now as Millis).is_some()
    }

    /// Returns the progress of the server's stop.
    pub(crate) fn stop_state(&self) -> Stop {
        self.stop
    }

    /// Returns whether the stop has begun, so that no connection is accepted any more.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.stop, Stop::Spreading(_) | Stop::Until(_) | Stop::Now)
    }

    /// Returns whether opening handshakes are refused with 503.
    pub(crate) fn refuses_new_sessions(&self) -> bool {
        self.refuses_new_sessions
    }

    /// Returns whether new sessions are refused, or a stop was requested.
    pub(crate) fn is_draining(&self) -> bool {
        self.refuses_new_sessions || self.stop != Stop::No
    }

    /// Returns the time at the start of this turn, in milliseconds of the loop's clock.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Returns the instant of the start of this turn.
    pub(crate) fn instant(&self) -> Instant {
        self.timers.instant(self.now)
    }

    /// Returns the id of the session in `slot`.
    #[cfg(test)]
    pub(crate) fn id_at(&self, slot: usize) -> Option<Id> {
        self.sessions
            .get(slot)
            .map(|session| id(slot, session.number))
    }

    /// Returns the session's stream, unless the session has been reaped.
    pub(crate) fn stream_mut(&mut self, id: Id) -> Option<&mut Stream> {
        self.session_mut(id).map(|session| &mut session.stream)
    }

    /// Returns the number of sessions in any state, from accept to reap.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the number of sessions between `on_open` and `on_close`.
    pub(crate) fn count(&self) -> usize {
        self.counts.open
    }

    /// Returns whether the duration of turns is measured.
    pub(crate) fn measures_turns(&self) -> bool {
        self.stats.turns.is_some()
    }

    /// Adds the duration of a turn to the statistics.
    pub(crate) fn count_turn(&mut self, time: Duration) {
        self.stats.count_turn(time);
    }

    /// Returns the numbers of sessions of `Kind::Requesting`, of `Kind::Surplus`, and of `Kind::Opened` and `Kind::Ended`
    /// together.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> [usize; 3] {
        let Counts {
            requesting,
            surplus,
            open,
        } = self.counts;
        [requesting, surplus, open]
    }

    /// Returns a new scope for timers and sources, inside the scope `parent`. Each route of a [`Router`](crate::Router)
    /// has its own, so that a timer reaches the route that set it. The scope 0 contains all others.
    pub(crate) fn new_scope(&mut self, parent: u32) -> u32 {
        self.scope_parents.push(parent);
        self.scope_parents.len() as u32
    }

    /// Returns whether `scope` is `outer`, or inside it.
    pub(crate) fn is_scope_within(&self, mut scope: u32, outer: u32) -> bool {
        while scope > outer {
            // A scope is created after the one that contains it.
            scope = self.scope_parents[scope as usize - 1];
        }
        scope == outer
    }

    /// Returns the session, unless it has been reaped. The session may have ended in this turn.
    #[inline]
    pub(crate) fn session(&self, id: Id) -> Option<&Session> {
        self.sessions
            .get(id.slot as usize)
            .filter(|session| session.number == id.number)
    }

    /// Returns a mutable reference to the session, unless it has been reaped. The session may have ended in this turn.
    #[inline]
    pub(crate) fn session_mut(&mut self, id: Id) -> Option<&mut Session> {
        self.sessions
            .get_mut(id.slot as usize)
            .filter(|session| session.number == id.number)
    }

    /// Returns the session's slot if messages can be sent to the session.
    #[inline]
    pub(crate) fn open_slot(&self, id: Id) -> Option<usize> {
        let session = self.session(id)?;
        session.is_open().then_some(id.slot as usize)
    }

    /// Returns the id of the session in `slot`.
    ///
    /// # Panics
    /// If the slot is free.
    #[inline]
    pub(crate) fn id_of(&self, slot: usize) -> Id {
        id(slot, self.sessions[slot].number)
    }

    /// Queues a session for the read phase, if it has something to read or to process and is not queued yet.
    #[inline]
    pub(crate) fn queue_read(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.wants_input() && !mem::replace(&mut session.is_read_queued, true) {
            self.read_queue.push_back(slot as u32);
        }
    }

    /// Queues a session for the flush phase, unless it is queued.
    #[inline]
    pub(crate) fn queue_flush(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if !mem::replace(&mut session.is_flush_queued, true) {
            let queue = if session.outbound.len() > LARGE_BYTES_MIN {
                &mut self.large_queue
            } else {
                &mut self.flush_queue
            };
            queue.push_back(slot as u32);
        }
    }

    /// Changes the kind of a session, and updates the counts.
    pub(crate) fn set_kind(&mut self, slot: usize, kind: Kind) {
        let old = mem::replace(&mut self.sessions[slot].kind, kind);
        if let Some(count) = self.counts.of(old) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(kind) {
            *count += 1;
        }
    }

    /// Postpones the idle deadline of an open session from which something was received, at most once per touch period
    /// (a 64th of the duration of `Quiet`).
    #[inline(never)]
    pub(crate) fn touch(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.touched_at == self.touch_period {
            return;
        }
        session.touched_at = self.touch_period;
        if self.config.ping_interval.is_some()
            && let Some(sent_at) = self.deadlines.set_at(slot, Deadline::Idle)
        {
            self.round_trips.answer_began(slot, sent_at);
        }
        match self.deadlines.kind(slot) {
            Some(Deadline::Quiet | Deadline::Idle) => {
                self.set_idle_deadline(slot, Deadline::Quiet);
            }
            Some(Deadline::Handshake | Deadline::Write | Deadline::Close) | None => {}
        }
    }

    /// Sets the deadline of one part of the session's idle timeout: `Quiet` or `Idle`.
    pub(crate) fn set_idle_deadline(&mut self, slot: usize, kind: Deadline) {
        let idle = self.limit_sets.idle(self.sessions[slot].limits);
        self.deadlines
            .set_idle(slot, kind, idle, self.now as Millis);
    }

    /// Returns the idle timeout of a session.
    pub(crate) fn idle_timeout(&self, slot: usize) -> Option<Duration> {
        let own = self.limit_sets.idle_timeout(self.sessions[slot].limits);
        own.unwrap_or(self.config.idle_timeout)
    }

    /// See [`Context::set_limits`](crate::Context::set_limits).
    pub(crate) fn set_limits(&mut self, id: Id, limits: SessionLimits) -> Result<(), ConfigError> {
        limits.check()?;
        let Some(session) = self.session(id) else {
            return Ok(());
        };
        let old = session.limits;
        let Self {
            limit_sets,
            deadlines,
            touch_millis,
            config,
            ..
        } = self;
        let set = limit_sets.add(limits, |limits| {
            let Some(timeout) = limits.idle_timeout else {
                return IdleClass::default();
            };
            let waits = idle_waits(timeout, config.ping_interval);
            if let Some((quiet, _)) = waits {
                // A longer period would make the deadline late by much. With a shorter one, the deadlines that were set
                // before are later than needed.
                *touch_millis = (quiet / TOUCH_FRACTION).clamp(1, *touch_millis);
            }
            deadlines.add_idle(waits.map(|waits| lengthened(waits, *touch_millis)))
        })?;
        let slot = id.slot as usize;
        self.sessions[slot].limits = set;
        if self.limit_sets.idle(old) != self.limit_sets.idle(set) {
            match self.deadlines.kind(slot) {
                Some(Deadline::Quiet | Deadline::Idle) => {
                    self.set_idle_deadline(slot, Deadline::Quiet);
                }
                // The old idle timeout was `None`.
                None if self.sessions[slot].is_open() => {
                    self.set_idle_deadline(slot, Deadline::Quiet);
                }
                Some(Deadline::Handshake | Deadline::Write | Deadline::Close) | None => {}
            }
        }
        Ok(())
    }

    /// Called for a pong. An automatic ping is empty, so the pong that answers it is empty, too.
    pub(crate) fn pong_received(&mut self, slot: usize, payload: &[u8]) {
        let idle = self.limit_sets.idle(self.sessions[slot].limits);
        if payload.is_empty()
            && let Some(max) = self.deadlines.idle_wait(idle)
            && let Some(time) = self.round_trips.pong(slot, self.now as Millis, max)
        {
            self.stats
                .count_round_trip(Duration::from_millis(u64::from(time)));
        }
    }

    /// Removes a session that has ended, and frees its slot. Returns its stream.
    pub(crate) fn remove(&mut self, slot: usize) -> Stream {
        self.set_kind(slot, Kind::Reported);
        self.release_address(slot);
        self.deadlines.clear(slot);
        self.round_trips.clear(slot);
        let mut session = self.sessions.remove(slot);
        if let Some(extra) = &mut session.extra {
            self.timers.cancel_all(&mut extra.first_timer);
            self.sources.remove_all(&mut extra.first_source);
        }
        session
            .outbound
            .clear(&mut self.topics, &mut self.turn_buffer, &mut self.buffers);
        if let Some(path) = session.path {
            self.paths.release(path);
        }
        session.stream
    }

    /// Releases the memory of free slots if more than three quarters are free, for example after a burst of
    /// connections.
    pub(crate) fn shrink(&mut self) {
        let capacity = self.sessions.capacity();
        if capacity > SLOTS_RETAINED && self.sessions.len() < capacity / 4 {
            self.sessions.shrink_to_fit();
            self.sessions
                .reserve(SLOTS_RETAINED.saturating_sub(self.sessions.len()));
            self.deadlines.shrink_to(self.sessions.capacity());
            self.round_trips.shrink_to(self.sessions.capacity());
            self.read_queue.shrink_to(SLOTS_RETAINED);
            self.long_read_queue.shrink_to(SLOTS_RETAINED);
            self.flush_queue.shrink_to(SLOTS_RETAINED);
            self.large_queue.shrink_to(SLOTS_RETAINED);
            self.reap_queue.shrink_to(SLOTS_RETAINED);
            self.deferred.shrink_to(SLOTS_RETAINED);
        }
    }
}

impl Counts {
    /// Returns the count of sessions of `kind`, if they are counted.
    fn of(&mut self, kind: Kind) -> Option<&mut usize> {
        match kind {
            Kind::Requesting => Some(&mut self.requesting),
            Kind::Surplus => Some(&mut self.surplus),
            Kind::Opened | Kind::Ended => Some(&mut self.open),
            Kind::Answered | Kind::Reported => None,
        }
    }
}

/// Returns the earlier of two times. `None` means never.
#[inline]
pub(crate) fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Converts a duration of `Config` to milliseconds. [`Config::check`] limits durations to 7 days, which fit.
pub(crate) fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

/// Returns the durations of `Quiet` and `Idle`: a ping is due after `ping_interval`, or after half of `idle_timeout` if
/// that is less; the rest of `idle_timeout` follows. Without an `idle_timeout`, each wait is `ping_interval`.
fn idle_waits(
    idle_timeout: Option<Duration>,
    ping_interval: Option<Duration>,
) -> Option<(Millis, Millis)> {
    let interval = ping_interval.map(millis);
    let Some(timeout) = idle_timeout.map(millis) else {
        return interval.map(|interval| (interval, interval));
    };
    let half = timeout / 2;
    let quiet = interval.map_or(half, |interval| interval.min(half));
    Some((quiet, timeout - quiet))
}

/// Adds a touch period to both durations: `touch` may leave a deadline unchanged for that long, and a deadline must never
/// be early.
fn lengthened((quiet, idle): (Millis, Millis), touch_millis: Millis) -> (Millis, Millis) {
    (quiet + touch_millis, idle + touch_millis)
}

/// Capacity, in sessions, that the slots and the read, flush and reap queues reserve at the start. The slots and all
/// queues retain up to this capacity when they shrink.
pub(crate) const SLOTS_RETAINED: usize = 1024;

/// Unsent bytes above which a session is flushed in slices, after the other sessions. To write this many bytes takes as
/// long as ten small writes.
const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Touch periods in the duration of an idle deadline. So a busy session moves its link in the deadline queue about
/// once a second at the default timeout, not with each message.
const TOUCH_FRACTION: Millis = 64;
