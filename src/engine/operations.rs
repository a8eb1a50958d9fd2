//! The operations of [`Context`](crate::Context) apart from those on topics: send, ping, close, timers, state,
//! statistics.
//!
//! An operation only queues bytes or marks a session; the following phases of the turn write and free. The exception is
//! [`Engine::send`], which writes a large message at once if nothing is queued before it, to save a copy.

use super::deadlines::{Deadline, Millis};
use super::session::{Ending, Phase, Session, extra_of, id, living};
use super::sources::Owner;
use super::timers::{Call, When};
use super::{Engine, Stop};
use crate::error::{Error, Limit, SendStatus, Side};
use crate::id::{Id, SourceId, TimerId};
use crate::proto::{CODE_NONE, Message, Stage, is_code_allowed};
use crate::stats::Stats;
use crate::stream::Stream;
use mio::Interest;
use mio::event::Source;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// See [`Context::send`](crate::Context::send).
    #[inline]
    pub(crate) fn send(&mut self, id: Id, message: Message<'_>) -> SendStatus {
        // Fast path with the same result as `send_any`: a short message to a session whose unsent bytes, if any, were
        // all queued in this turn.
        if let Some(session) = self.sessions.get_mut(id.slot as usize)
            && session.number == id.number
            && session.extra.is_none()
            && !session.is_above_high_water
            && session.is_open()
            && message.len() < WRITE_THROUGH_BYTES
            && let Some(header) = message.short_header()
            && let Some(unsent) =
                session
                    .outbound
                    .push_in_turn(header, message.as_bytes(), &mut self.turn_buffer)
        {
            session.messages_out += 1;
            self.stats.messages_out += 1;
            if !mem::replace(&mut session.is_flush_queued, true) {
                self.flush_queue.push_back(id.slot);
            }
            if unsent <= self.config.high_water_bytes {
                return SendStatus::Queued;
            }
            session.is_above_high_water = true;
            return SendStatus::OverHighWater;
        }
        self.send_any(id, message)
    }

    #[inline(never)]
    fn send_any(&mut self, id: Id, message: Message<'_>) -> SendStatus {
        let Some(slot) = self.open_slot(id) else {
            return SendStatus::Closed;
        };
        let session = &self.sessions[slot];
        let unsent = session.outbound.owned_cost();
        // Below the high-water mark, one more message is always accepted, however large.
        let is_over = unsent > self.config.high_water_bytes;
        if is_over && unsent + message.len() > self.config.backlog_bytes_max {
            // A refused message leaves a gap in the conversation, so nothing may be sent after it.
            self.end_now(
                slot,
                Ending::abnormal(Side::Us, Some(Error::Limit(Limit::BacklogBytesMax))),
            );
            return SendStatus::OverLimit;
        }
        if session.extra.is_some() {
            self.claim_before_message(slot);
        }
        let header = message.server_header();
        let session = &mut self.sessions[slot];
        if message.len() >= WRITE_THROUGH_BYTES
            && session.outbound.is_empty()
            && !session.is_blocked
        {
            if let Err(error) = self.write_through(slot, header.as_slice(), message.as_bytes()) {
                self.stream_failed(slot, error);
                return SendStatus::Closed;
            }
        } else {
            session.outbound.push(
                header.as_slice(),
                message.as_bytes(),
                &mut self.turn_buffer,
                &mut self.buffers,
            );
        }
        self.sessions[slot].messages_out += 1;
        self.stats.messages_out += 1;
        self.queue_flush(slot);
        self.pause_if_over(slot)
    }

    /// See [`Context::ping`](crate::Context::ping).
    pub(crate) fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        let session = &self.sessions[slot];
        if session.outbound.owned_cost() > self.config.backlog_bytes_max {
            return false;
        }
        self.ping_slot(slot, payload);
        true
    }

    /// Queues a ping for an open session, after earlier publications.
    pub(crate) fn ping_slot(&mut self, slot: usize, payload: &[u8]) {
        self.claim_before_message(slot);
        let session = &mut self.sessions[slot];
        self.replies.clear();
        session.connection.ping(payload, &mut self.replies);
        session
            .outbound
            .push(&self.replies, &[], &mut self.turn_buffer, &mut self.buffers);
        self.queue_flush(slot);
    }

    /// See [`Context::buffered_amount`](crate::Context::buffered_amount).
    pub(crate) fn buffered_amount(&self, id: Id) -> usize {
        let Some(session) = self.session(id) else {
            return 0;
        };
        let memberships = session.memberships().iter();
        let unclaimed = memberships.map(|one| self.topics.unclaimed(one.topic, one.index));
        session.outbound.len() + unclaimed.sum::<usize>()
    }

    /// See [`Context::close`](crate::Context::close).
    pub(crate) fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        if code != CODE_NONE && !is_code_allowed(code) {
            return false;
        }
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        self.close_slot(slot, code, reason, None);
        true
    }

    /// See [`Context::pause`](crate::Context::pause).
    pub(crate) fn pause(&mut self, id: Id) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        !mem::replace(&mut self.sessions[slot].is_paused_by_handler, true)
    }

    /// See [`Context::resume`](crate::Context::resume).
    pub(crate) fn resume(&mut self, id: Id) -> bool {
        let Some(slot) = self.open_slot(id) else {
            return false;
        };
        if !mem::take(&mut self.sessions[slot].is_paused_by_handler) {
            return false;
        }
        if let Some(Deadline::Quiet | Deadline::Idle) = self.deadlines.kind(slot) {
            self.set_idle_deadline(slot, Deadline::Quiet);
        }
        self.queue_read(slot);
        true
    }

    /// See [`Context::terminate`](crate::Context::terminate).
    pub(crate) fn terminate(&mut self, id: Id) {
        if self.session(id).is_some() {
            self.end_now(id.slot as usize, Ending::abnormal(Side::Us, None));
        }
    }

    /// See [`Context::set_timer`](crate::Context::set_timer). The timer carries `scope`, which a router uses to find
    /// the route that set it.
    pub(crate) fn set_timer(&mut self, when: When, key: u64, scope: u32) -> TimerId {
        let call = Call {
            key,
            scope,
            session: None,
        };
        self.timers.set(when, call, None, self.now)
    }

    /// See [`Context::set_session_timer`](crate::Context::set_session_timer).
    pub(crate) fn set_session_timer(
        &mut self,
        id: Id,
        when: When,
        key: u64,
        scope: u32,
    ) -> Option<TimerId> {
        let now = self.now;
        let session = living(&mut self.sessions, id)?;
        let call = Call {
            key,
            scope,
            session: Some(id),
        };
        let first = &mut session.extra_mut().first_timer;
        Some(self.timers.set(when, call, Some(first), now))
    }

    /// See [`Context::cancel_timer`](crate::Context::cancel_timer).
    pub(crate) fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let extra = extra_of(&mut self.sessions, self.timers.session(timer));
        let first = extra.map(|extra| &mut extra.first_timer);
        self.timers.cancel(timer, first)
    }

    /// See [`Context::register`](crate::Context::register) and
    /// [`register_for_session`](crate::Context::register_for_session).
    pub(crate) fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        owner: Owner,
        interest: Interest,
    ) -> io::Result<SourceId> {
        let first = match owner.session {
            None => None,
            Some(id) => {
                let session = living(&mut self.sessions, id)
                    .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the session has ended"))?;
                Some(&mut session.extra_mut().first_source)
            }
        };
        self.sources.register(source, owner, first, interest)
    }

    /// See [`Context::deregister`](crate::Context::deregister).
    pub(crate) fn deregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
    ) -> io::Result<()> {
        let extra = extra_of(&mut self.sessions, self.sources.session(id));
        let first = extra.map(|extra| &mut extra.first_source);
        self.sources.deregister(source, id, first)
    }

    /// See [`Context::peer_addr`](crate::Context::peer_addr).
    pub(crate) fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.session(id)?.peer.address()
    }

    /// See [`Context::tls`](crate::Context::tls).
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self, id: Id) -> Option<crate::TlsSession<'_>> {
        crate::TlsSession::new(self.session(id)?.stream.tls()?)
    }

    /// See [`Context::listener_tag`](crate::Context::listener_tag).
    pub(crate) fn listener_tag(&self, id: Id) -> u8 {
        self.session(id).map_or(0, |session| session.listener_tag)
    }

    /// Sets the number of the listener that has accepted a connection.
    pub(crate) fn set_listener_tag(&mut self, id: Id, tag: u8) {
        if let Some(session) = living(&mut self.sessions, id) {
            session.listener_tag = tag;
        }
    }

    /// See [`Context::rtt`](crate::Context::rtt).
    pub(crate) fn rtt(&self, id: Id) -> Option<Duration> {
        self.session(id)?;
        let millis = self.round_trips.newest(id.slot as usize)?;
        Some(Duration::from_millis(u64::from(millis)))
    }

    /// See [`Context::path`](crate::Context::path).
    pub(crate) fn path(&self, id: Id) -> Option<Arc<str>> {
        self.paths.whole_path(self.session(id)?.path?)
    }

    /// See [`Context::ids`](crate::Context::ids).
    pub(crate) fn ids(&self) -> Vec<Id> {
        let open = |(slot, session): (usize, &Session)| {
            session.is_open().then(|| id(slot, session.number))
        };
        self.sessions.iter().filter_map(open).collect()
    }

    /// See [`Context::is_open`](crate::Context::is_open).
    pub(crate) fn is_open(&self, id: Id) -> bool {
        self.open_slot(id).is_some()
    }

    /// See [`Context::stats`](crate::Context::stats).
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.connections_open = self.count();
        stats.replay_bytes = self.topics.replay_len();
        #[cfg(feature = "backplane")]
        {
            stats.backplane = self.backplane_stats();
        }
        // A session whose socket accepts nothing has this deadline.
        for slot in self.deadlines.slots(Deadline::Write) {
            let session = &self.sessions[slot];
            stats.backlog_bytes += session.outbound.len();
            stats.members_lagging += session.memberships().len();
        }
        stats
    }

    /// See [`Context::measure_turns`](crate::Context::measure_turns).
    pub(crate) fn measure_turns(&mut self) {
        self.stats.turns.get_or_insert_default();
    }

    /// See [`Context::stop`](crate::Context::stop).
    pub(crate) fn stop(&mut self) {
        self.stop = match self.stop {
            Stop::No => Stop::Asked,
            Stop::Asked | Stop::Spreading(_) | Stop::Until(_) | Stop::Now => Stop::Now,
        };
    }

    /// See [`Context::drain`](crate::Context::drain).
    pub(crate) fn refuse_new_sessions(&mut self) {
        if !mem::replace(&mut self.refuses_new_sessions, true) {
            let sessions = self.count();
            log::info!(
                "draining: new WebSockets are refused with 503; {sessions} sessions continue"
            );
        }
    }

    /// Writes a large message directly from the caller's memory, and queues the bytes that the stream does not accept.
    fn write_through(&mut self, slot: usize, header: &[u8], payload: &[u8]) -> io::Result<()> {
        let session = &mut self.sessions[slot];
        let slices = [IoSlice::new(header), IoSlice::new(payload)];
        let len = write_slices(&mut session.stream, &slices)?;
        session.bytes_out += len as u64;
        self.stats.bytes_out += len as u64;
        let payload_len = len.saturating_sub(header.len());
        if len < header.len() + payload.len() || session.stream.has_unsent() {
            session.outbound.push(
                &header[len - payload_len..],
                &payload[payload_len..],
                &mut self.turn_buffer,
                &mut self.buffers,
            );
            self.mark_blocked(slot);
        }
        Ok(())
    }

    /// Records that the stream accepts no more bytes, and sets the write deadline.
    pub(crate) fn mark_blocked(&mut self, slot: usize) {
        self.sessions[slot].is_blocked = true;
        self.expect_progress(slot);
    }

    /// Sets the write deadline, or postpones it if the peer has accepted [`PROGRESS_BYTES`] since the deadline was set,
    /// or what was unsent then, if it was less. (The queue of a member that skips may never be empty, because the newest
    /// message follows.) The deadline of a session that is closing or finishing is not postponed.
    pub(crate) fn expect_progress(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        let is_set = self.deadlines.kind(slot) == Some(Deadline::Write);
        let is_ending = session.phase != Phase::Live || session.connection.stage() != Stage::Open;
        // TLS has sealed more than the peer has accepted.
        let sealed = session.stream.unsent_len();
        let written = (session.bytes_out as u32).wrapping_sub(sealed as u32);
        let has_progress = written.wrapping_sub(session.progress_at) as i32 >= 0;
        if is_set && (is_ending || !has_progress) {
            return;
        }
        let unsent = session.outbound.len() + sealed;
        session.progress_at = written.wrapping_add(unsent.min(PROGRESS_BYTES) as u32);
        self.deadlines
            .set(slot, Deadline::Write, self.now as Millis);
    }

    /// Pauses reading of a session above the high-water mark. Reading resumes at the low-water mark.
    fn pause_if_over(&mut self, slot: usize) -> SendStatus {
        let session = &mut self.sessions[slot];
        if session.outbound.cost() <= self.config.high_water_bytes {
            return SendStatus::Queued;
        }
        session.is_above_high_water = true;
        SendStatus::OverHighWater
    }
}

/// Writes once, and retries a write that was interrupted. Returns the number of bytes, 0 if the write would block.
pub(crate) fn write_slices(stream: &mut Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        // For a single slice, `write` saves the kernel the copy of the vector of slices.
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

/// A message of at least this size is written directly from the caller's memory if nothing is queued before it. To copy
/// 16 KiB takes about 1 us. A write takes about 4 us, but the message needs one in the flush phase anyway.
const WRITE_THROUGH_BYTES: usize = 16 * 1024;

/// Bytes that a peer must accept within the write timeout to postpone its deadline: 2 KiB per second at the default
/// timeout of 30 s. If one byte were enough, a peer that accepts a byte now and then could hold its backlog indefinitely.
const PROGRESS_BYTES: usize = 64 * 1024;
