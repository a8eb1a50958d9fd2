//! All sessions and what they share: the loop without its poll. It is driven by phases (`read`, `expire`,
//! `flush`, `reap`, each in its own file) and by handlers (`core`); it knows streams, not sockets, and is told
//! the time, so that a simulation can drive it as well as the server. Here is what more than one of those need:
//! how a session comes, is found, is queued for a phase, and goes.

use super::deadlines::{Deadline, Deadlines, Millis};
use super::journal::Journal;
use super::paths::Paths;
use super::session::{Ending, InputEnd, Membership, Phase, Session, Stream, id};
use crate::buffer::BufferPool;
use crate::config::Config;
use crate::handler::{Error, Id, Side, TimerId};
use crate::outbound::{TopicKey, Topics};
use crate::proto::{HeadLimits, HttpResponse, Limits, Stage};
use crate::stats::{Refusal, Stats};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

/// See the module.
pub(crate) struct Engine<S> {
    pub(super) config: Config,
    pub(super) limits: Limits,
    pub(super) sessions: Slab<Session<S>>,
    pub(super) topics: Topics,
    pub(super) buffers: BufferPool,
    pub(super) paths: Paths,
    pub(super) deadlines: Deadlines,
    pub(super) timers: BTreeMap<TimerId, Timer>,
    pub(super) timer_sequence: u64,
    pub(super) timer_scope: u16,
    /// Milliseconds of the loop's clock, as of this turn.
    pub(super) now: u64,
    generation: u32,
    /// Sessions whose request has not arrived.
    pub(super) handshakes: usize,
    /// Sessions between `on_open` and `on_close`.
    pub(super) open: usize,
    /// Connections over the limit that are being told so.
    pub(super) refusals: usize,
    pub(super) read_queue: VecDeque<Id>,
    pub(super) flush_queue: Vec<Id>,
    /// What was read since the last flush, measured as publications are there.
    pub(super) turn_work: usize,
    pub(super) reap_queue: Vec<Id>,
    /// What the protocol owes after one call of `receive`; kept for its allocation.
    pub(super) replies: Vec<u8>,
    pub(super) journal: Journal,
    /// Totals; what changes by itself is filled in when they are asked for.
    pub(super) stats: Stats,
    pub(super) stop: Stop,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub(super) key: u64,
    pub(super) scope: u16,
}

/// A timer that is due.
pub(super) struct DueTimer {
    pub(super) key: u64,
}

/// How far the server is in stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is not.
    No,
    /// Asked for; the loop has yet to begin.
    Asked,
    /// Closing everybody, until the time given.
    Until(u64),
    /// At once.
    Now,
}

impl<S: Stream> Engine<S> {
    pub(crate) fn new(config: Config) -> Self {
        let limits = Limits {
            message_bytes_max: config.message_bytes_max,
            fragments_max: config.fragments_max,
            head: HeadLimits {
                head_bytes_max: config.head_bytes_max,
                headers_max: config.headers_max,
            },
        };
        let half_idle = config.idle_timeout.map(|idle| {
            let half = millis(idle) / 2;
            // `touch` may leave a deadline standing for a 64th, so that is added: never early.
            half + half.div_ceil(TOUCH_FRACTION)
        });
        let durations = [
            Some(millis(config.handshake_timeout)),
            half_idle,
            half_idle,
            Some(millis(config.write_timeout)),
            Some(millis(config.close_timeout)),
        ];
        Self {
            config,
            limits,
            sessions: Slab::with_capacity(KEPT),
            topics: Topics::default(),
            buffers: BufferPool::new(),
            paths: Paths::default(),
            deadlines: Deadlines::new(durations, KEPT),
            timers: BTreeMap::new(),
            timer_sequence: 0,
            timer_scope: 0,
            now: 0,
            generation: 0,
            handshakes: 0,
            open: 0,
            refusals: 0,
            read_queue: VecDeque::with_capacity(KEPT),
            flush_queue: Vec::with_capacity(KEPT),
            turn_work: 0,
            reap_queue: Vec::with_capacity(KEPT),
            replies: Vec::new(),
            journal: Journal::default(),
            stats: Stats::default(),
            stop: Stop::No,
        }
    }

    /// Begins a turn at `now`, in milliseconds of a clock that never goes back.
    pub(crate) fn begin_turn(&mut self, now: u64) {
        debug_assert!(self.now <= now);
        self.now = now;
        self.buffers.begin_turn(now);
    }

    /// Takes a new connection; over a limit it is answered 503, and over the reserve for waiting until that has
    /// arrived, it is dropped behind the answer (`None`).
    pub(crate) fn insert(&mut self, mut stream: S, peer: Option<SocketAddr>) -> Option<Id> {
        let refused = self.refused_by();
        if let Some(limit) = refused
            && self.refusals >= REFUSALS_MAX
        {
            self.stats.count_refusal(Refusal::of_limit(limit));
            log::debug!("dropped a connection: {limit}, and no room even to wait for its end");
            let mut response = Vec::new();
            no_room().encode(false, &mut response);
            // It may be lost to a reset, with the request unread; there is nothing more to be done for it.
            let _ = stream.write(&response);
            let _ = stream.shutdown_write();
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        let slot = self
            .sessions
            .insert(Session::new(stream, peer, self.generation));
        self.handshakes += 1;
        if let Some(limit) = refused {
            self.refusals += 1;
            self.sessions[slot].is_refusal = true;
            self.refuse(slot, &no_room(), false, Some(Error::Limit(limit)));
        } else {
            self.deadlines
                .set(slot, Deadline::Handshake, self.now as Millis);
        }
        Some(id(slot, self.generation))
    }

    /// The limit that stands against a new connection.
    fn refused_by(&self) -> Option<&'static str> {
        // Those who come while a stop is asked for have waited since before, and are counted as others are.
        if let Stop::Until(_) | Stop::Now = self.stop {
            Some("shutdown")
        } else if self.sessions.len() - self.refusals >= self.config.connections_max {
            Some("connections_max")
        } else if self.handshakes >= self.config.handshakes_max {
            Some("handshakes_max")
        } else {
            None
        }
    }

    /// Marks what the poll said of a session; one that is gone is ignored.
    pub(crate) fn mark(&mut self, id: Id, readiness: Readiness) {
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let slot = id.slot as usize;
        if readiness.is_end && session.input_end == InputEnd::Unknown {
            session.input_end = InputEnd::Announced;
        }
        if readiness.is_readable {
            session.is_readable = true;
            self.queue_read(slot);
        }
        let session = &mut self.sessions[slot];
        if readiness.is_writable && mem::replace(&mut session.is_blocked, false) {
            self.queue_flush(slot);
        }
    }

    /// Whether the next turn has something to do before any event.
    pub(crate) fn has_work(&self) -> bool {
        !self.read_queue.is_empty()
            || !self.flush_queue.is_empty()
            || !self.reap_queue.is_empty()
            || self.topics.is_dirty()
            || matches!(self.stop, Stop::Asked | Stop::Now)
    }

    /// How long the next poll may sleep, in milliseconds; `None`: until an event.
    pub(crate) fn next_in(&self) -> Option<u64> {
        if self.has_work() {
            return Some(0);
        }
        let deadline = self.deadlines.next_in(self.now as Millis).map(u64::from);
        let timer = self
            .timers
            .first_key_value()
            .map(|(timer, _)| timer.due.saturating_sub(self.now));
        let stop = match self.stop {
            Stop::Until(end) => Some(end.saturating_sub(self.now)),
            Stop::No | Stop::Asked | Stop::Now => None,
        };
        let journal = self.journal.next_in(self.now);
        let buffers = self.buffers.next_in();
        [deadline, timer, stop, journal, buffers]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes a timer that is due, of those set before the one numbered `sequence_end`.
    pub(super) fn take_due_timer(&mut self, sequence_end: u64) -> Option<DueTimer> {
        let first = self.timers.first_entry()?;
        if first.key().due > self.now || first.key().sequence >= sequence_end {
            return None;
        }
        let Timer { key, scope } = first.remove();
        self.timer_scope = scope;
        Some(DueTimer { key })
    }

    /// The number of the next timer to be set.
    pub(super) fn timer_sequence(&self) -> u64 {
        self.timer_sequence
    }

    /// How far the server is in stopping.
    pub(crate) fn stop_state(&self) -> Stop {
        self.stop
    }

    /// Milliseconds of the loop's clock, as of this turn.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The name of the session in `slot`.
    pub(crate) fn id_at(&self, slot: usize) -> Option<Id> {
        self.sessions
            .get(slot)
            .map(|session| id(slot, session.generation))
    }

    /// A session's stream.
    pub(crate) fn stream_mut(&mut self, id: Id) -> Option<&mut S> {
        self.session_mut(id).map(|session| &mut session.stream)
    }

    /// How many sessions there are, in any state.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether the times of turns are asked for.
    pub(crate) fn measures_turns(&self) -> bool {
        self.stats.turns.is_some()
    }

    /// A turn took so long.
    pub(crate) fn count_turn(&mut self, time: Duration) {
        self.stats.count_turn(time);
    }

    /// Begins the graceful stop that was asked for: Close 1001 to everyone.
    pub(crate) fn begin_stop(&mut self) {
        self.stop = Stop::Until(self.now + self.config.shutdown_grace.as_millis() as u64);
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let session = &self.sessions[slot];
            if session.phase != Phase::Live {
                continue;
            }
            match session.connection.stage() {
                Stage::Open => {
                    self.close_slot(slot, 1001, "the server is shutting down", None);
                }
                Stage::Opening => {
                    let response = HttpResponse::new(503, "the server is shutting down\n");
                    self.refuse(slot, &response, false, Some(Error::Limit("shutdown")));
                }
                Stage::Closing | Stage::Closed | Stage::Ended => {}
            }
        }
    }

    /// Ends every session at once.
    pub(crate) fn terminate_all(&mut self) {
        self.stop = Stop::Now;
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.kill(slot, Ending::abnormal(Side::Us, None));
        }
    }

    /// The session of that name, unless it is gone.
    pub(super) fn session(&self, id: Id) -> Option<&Session<S>> {
        self.sessions
            .get(id.slot as usize)
            .filter(|session| session.generation == id.generation)
    }

    pub(super) fn session_mut(&mut self, id: Id) -> Option<&mut Session<S>> {
        self.sessions
            .get_mut(id.slot as usize)
            .filter(|session| session.generation == id.generation)
    }

    /// The slot of a session that messages can be sent to.
    pub(super) fn open_slot(&self, id: Id) -> Option<usize> {
        let session = self.session(id)?;
        let is_open = session.phase == Phase::Live && session.connection.stage() == Stage::Open;
        is_open.then_some(id.slot as usize)
    }

    pub(super) fn id_of(&self, slot: usize) -> Id {
        id(slot, self.sessions[slot].generation)
    }

    pub(super) fn queue_read(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.wants_input() && !mem::replace(&mut session.is_read_queued, true) {
            self.read_queue.push_back(id(slot, session.generation));
        }
    }

    pub(super) fn queue_flush(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if !mem::replace(&mut session.is_flush_queued, true) {
            self.flush_queue.push(id(slot, session.generation));
        }
    }

    /// Ends a session at once; the reap phase does the rest. Nothing more is published to it or due for it, so
    /// that until then nobody meets it half alive.
    pub(super) fn kill(&mut self, slot: usize, ending: Ending) {
        let session = &mut self.sessions[slot];
        // First, so that what is allocated on the way to the end takes the room that this leaves.
        session.connection.abandon();
        session.end_with(ending);
        if mem::replace(&mut session.phase, Phase::Dead) != Phase::Dead {
            self.reap_queue.push(id(slot, session.generation));
            self.end_handshake(slot);
            self.deadlines.clear(slot);
            self.forget_topics(slot);
        }
    }

    /// Ends a session whose socket has failed.
    pub(crate) fn fail(&mut self, id: Id, error: io::Error) {
        self.kill(
            id.slot as usize,
            Ending::abnormal(Side::Us, Some(Error::Io(error))),
        );
    }

    /// Owes what `replies` hold as the protocol's last words, and lets the session finish.
    pub(super) fn finish(&mut self, slot: usize, ending: Ending) {
        debug_assert!(self.sessions[slot].phase == Phase::Live);
        self.end_handshake(slot);
        self.leave_topics(slot);
        let session = &mut self.sessions[slot];
        session.end_with(ending);
        // A pong that waited comes before the Close, after which nothing may follow.
        session.outbound.queue_pong(&mut self.buffers);
        session.outbound.push(&self.replies, &[], &mut self.buffers);
        session.phase = Phase::Finishing;
        // An answer in HTTP can be large.
        self.replies.clear();
        self.replies.shrink_to(REPLIES_BYTES_KEPT);
        self.expect_close(slot);
        self.queue_flush(slot);
    }

    /// Answers a request (or what did not become one) in HTTP, and lets the session finish.
    pub(super) fn refuse(
        &mut self,
        slot: usize,
        response: &HttpResponse,
        is_head: bool,
        error: Option<Error>,
    ) {
        match &error {
            Some(Error::Limit(name)) => self.stats.count_refusal(Refusal::of_limit(name)),
            Some(Error::Response(_)) => self.stats.count_refusal(Refusal::Response),
            // A violation is counted as such, and a handler's answer as what it answers.
            Some(Error::Protocol(_) | Error::Io(_)) | None => {}
        }
        self.replies.clear();
        self.sessions[slot]
            .connection
            .refuse(response, is_head, &mut self.replies);
        self.finish(
            slot,
            Ending {
                reason: response.status().to_string(),
                ..Ending::abnormal(Side::Us, error)
            },
        );
    }

    /// Begins the closing handshake of an open session.
    pub(super) fn close_slot(
        &mut self,
        slot: usize,
        code: u16,
        reason: &str,
        error: Option<Error>,
    ) {
        self.leave_topics(slot);
        let session = &mut self.sessions[slot];
        self.replies.clear();
        session.connection.close(code, reason, &mut self.replies);
        session.outbound.queue_pong(&mut self.buffers);
        session.outbound.push(&self.replies, &[], &mut self.buffers);
        session.end_with(Ending {
            code,
            reason: reason.to_owned(),
            is_clean: false,
            by: Side::Us,
            error,
        });
        self.expect_close(slot);
        self.queue_flush(slot);
    }

    /// The session's request has arrived, or never will.
    pub(super) fn end_handshake(&mut self, slot: usize) {
        if mem::replace(&mut self.sessions[slot].is_handshaking, false) {
            self.handshakes -= 1;
        }
    }

    /// Sends a ping to an open session, behind what was published to it before.
    pub(super) fn ping_slot(&mut self, slot: usize, payload: &[u8]) {
        self.claim_all(slot);
        let session = &mut self.sessions[slot];
        self.replies.clear();
        session.connection.ping(payload, &mut self.replies);
        session.outbound.push(&self.replies, &[], &mut self.buffers);
        self.queue_flush(slot);
    }

    /// The last deadlines: everything owed is to be taken within the write deadline, set here anew and for the
    /// last time; after that the close deadline follows.
    fn expect_close(&mut self, slot: usize) {
        let is_blocked = self.sessions[slot].is_blocked;
        let last = if is_blocked {
            Deadline::Write
        } else {
            Deadline::Close
        };
        self.deadlines.set(slot, last, self.now as Millis);
    }

    /// Puts the idle deadline of an open session off, at most once in a 64th of its length.
    pub(super) fn touch(&mut self, slot: usize) {
        let now = self.now as Millis;
        let is_fresh = |set_at: Millis| {
            let half_idle = self.config.idle_timeout.map_or(0, |idle| millis(idle) / 2);
            now.wrapping_sub(set_at) <= half_idle / TOUCH_FRACTION
        };
        match self.deadlines.kind(slot) {
            Some(Deadline::Quiet)
                if self
                    .deadlines
                    .set_at(slot, Deadline::Quiet)
                    .is_some_and(is_fresh) => {}
            Some(Deadline::Quiet | Deadline::Idle) => {
                self.deadlines.set(slot, Deadline::Quiet, now)
            }
            Some(Deadline::Handshake | Deadline::Write | Deadline::Close) | None => {}
        }
    }

    /// Moves what topics have for the session, and it has not claimed yet, into its queue.
    pub(super) fn claim_all(&mut self, slot: usize) {
        let Self {
            sessions,
            topics,
            buffers,
            ..
        } = self;
        // What was published before the last flush was claimed there.
        if !topics.is_dirty() {
            return;
        }
        let session = &mut sessions[slot];
        let Some(extra) = &session.extra else { return };
        for &Membership { topic, index, .. } in &extra.memberships {
            if let Some((from, to)) = topics.claim(topic, index) {
                session.outbound.push_log(topic, from, to, topics, buffers);
            }
        }
    }

    /// Ends all memberships of the session; what was published before stays owed.
    pub(super) fn leave_topics(&mut self, slot: usize) {
        if self.sessions[slot].memberships().is_empty() {
            return;
        }
        self.claim_all(slot);
        self.forget_topics(slot);
    }

    /// Ends all memberships of the session; what it has not claimed is not owed to it.
    fn forget_topics(&mut self, slot: usize) {
        if self.sessions[slot].memberships().is_empty() {
            return;
        }
        while let Some(membership) = self.sessions[slot].extra_mut().memberships.pop() {
            self.leave(slot, membership);
        }
    }

    /// Takes the session, which has forgotten the membership, out of a topic. What it is still owed of the topic
    /// stays, and not all that others are owed later.
    pub(super) fn leave(&mut self, slot: usize, membership: Membership) {
        let Membership {
            topic,
            not_sent,
            index,
        } = membership;
        let Self {
            sessions, topics, ..
        } = self;
        let session = &mut sessions[slot];
        // More can have been skipped than was published since it joined: what it was still owed when it left the topic
        // before. That was added then.
        let sent = topics.published(topic).wrapping_sub(not_sent);
        session.messages_out = session.messages_out.wrapping_add(sent);
        session.outbound.hold(topic, topics);
        let Some(moved) = self.topics.leave(topic, index) else {
            return;
        };
        let memberships = &mut self.sessions[moved.slot].extra_mut().memberships;
        let moved = memberships
            .iter_mut()
            .find(|membership| membership.topic == topic);
        moved
            .expect("a member's session knows its membership")
            .index = index;
    }

    pub(super) fn membership(&self, id: Id, topic: TopicKey) -> Option<usize> {
        self.session(id)?
            .memberships()
            .iter()
            .position(|membership| membership.topic == topic)
    }
}

/// What the poll said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer has ended its side of the stream.
    pub(crate) is_end: bool,
}

fn no_room() -> HttpResponse {
    HttpResponse::new(503, "the server has no room for another connection\n")
}

/// A duration of `Config`, which bounds it to 7 days.
pub(super) fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

/// Slots, and entries of each queue, that are never given back. They are allocated at the start, so that they lie
/// below what comes and goes, and do not keep an allocator from giving that back.
pub(super) const KEPT: usize = 1024;

/// A connection over the limits is told so with a 503, for which it needs a descriptor and a slot for a moment:
/// half of the default reserve of descriptors.
const REFUSALS_MAX: usize = 16;

/// What the scratch for replies keeps of its allocation.
const REPLIES_BYTES_KEPT: usize = 16 * 1024;

/// An idle deadline is moved at most once in this fraction of its length: a busy session moves its link in the
/// queue once a second and not once a message.
const TOUCH_FRACTION: Millis = 64;
