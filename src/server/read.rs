//! The read phase: from readable streams, through the protocol, to the handler.
//!
//! All sessions share one receive buffer; the payload of a long frame is read into the place where its message is
//! assembled. A session is read until a read comes back short (then the socket is
//! drained: the next byte is a new event), until it would block, until its budget for the turn is spent (then
//! it goes to the back of the queue), or until it is paused, or the turn has published enough. The budget counts bytes,
//! below the decoder, so that fragments without end do not hold the loop; but a read that is all payload of one long
//! frame counts little, so that a large message comes in one go. A session that is paused in the middle of the buffer keeps
//! the rest as its stash and begins with it when it goes on.

use super::deadlines::{Deadline, Millis};
use super::engine::Engine;
use super::flush::{CLAIM_MIN, PUBLISHED_BYTES_MAX};
use super::session::{Ending, InputEnd, Phase, Stream};
use crate::handler::{Context, Error, Handler, Side};
use crate::proto::{
    CODE_ABNORMAL, CloseFrame, Event, HttpResponse, Message, ProtocolError, Request, Upgrade,
};
use crate::stats::Refusal;
use std::io::ErrorKind;
use std::mem;

impl<S: Stream> Engine<S> {
    /// Reads from every session that was marked, once around, or until the turn has read enough: the others keep their
    /// places for the next, so that the first need not wait for all to be answered.
    pub(crate) fn read(&mut self, buf: &mut [u8], handler: &mut impl Handler) {
        let mut left = TURN_BYTES_MAX;
        for _ in 0..self.read_queue.len() {
            if left == 0 {
                return;
            }
            let Some(id) = self.read_queue.pop_front() else {
                return;
            };
            let Some(session) = self.session_mut(id) else {
                continue;
            };
            session.is_read_queued = false;
            let slot = id.slot as usize;
            let len = self.read_session(slot, buf, handler);
            left = left.saturating_sub(len);
            self.turn_work += CLAIM_MIN + len * SMALL_MESSAGES_WORK;
            self.queue_read(slot);
            if self.topics.dirty_len() > PUBLISHED_BYTES_MAX {
                self.flush_all(handler);
            }
        }
    }

    /// Reads from a session within its budget; how many bytes.
    fn read_session(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) -> usize {
        self.process_stash(slot, handler);
        let mut budget = self.config.read_budget_bytes;
        let mut read = 0;
        while budget > 0 && self.sessions[slot].may_read() {
            let session = &mut self.sessions[slot];
            let payload_missing = session.connection.payload_missing();
            let space =
                if payload_missing >= IN_PLACE_BYTES_MIN as u64 && session.phase == Phase::Live {
                    let connection = &mut session.connection;
                    connection.assembly_space_with(IN_PLACE_BYTES_MIN, &mut self.buffers)
                } else {
                    None
                };
            let is_in_place = space.is_some();
            let space = space.unwrap_or(buf);
            let room = space.len();
            match session.stream.read(space) {
                Ok(0) => {
                    session.is_readable = false;
                    session.input_end = InputEnd::Read;
                    self.end_of_stream(slot);
                }
                Ok(len) => {
                    session.bytes_in += len as u64;
                    self.stats.bytes_in += len as u64;
                    read += len;
                    let is_payload = len as u64 <= payload_missing;
                    let cost = if is_payload {
                        len.div_ceil(PAYLOAD_DISCOUNT)
                    } else {
                        len
                    };
                    budget = budget.saturating_sub(cost);
                    // A short read means drained, unless the end is known to stand behind it.
                    session.is_readable = len == room || session.input_end == InputEnd::Announced;
                    if is_in_place {
                        self.touch(slot);
                        self.process_in_place(slot, len, handler);
                    } else {
                        self.take_input(slot, &mut buf[..len], handler);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => session.is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let by = if error.kind() == ErrorKind::ConnectionReset {
                        Side::Peer
                    } else {
                        Side::Us
                    };
                    self.kill(slot, Ending::abnormal(by, Some(Error::Io(error))));
                }
            }
        }
        read
    }

    fn process_stash(&mut self, slot: usize, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if session.is_paused {
            return;
        }
        let Some(extra) = &mut session.extra else {
            return;
        };
        let mut stash = mem::take(&mut extra.stash);
        if !stash.is_empty() {
            self.process(slot, &mut stash, handler);
            self.buffers.give(stash);
        }
    }

    /// What was read goes to the protocol, or nowhere once that has ended.
    fn take_input(&mut self, slot: usize, input: &mut [u8], handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        match session.phase {
            Phase::Live => {
                self.touch(slot);
                self.process(slot, input, handler);
            }
            Phase::Finishing | Phase::Dead => {}
            Phase::Draining => {
                let left = &mut session.extra_mut().drain_left;
                *left = left.saturating_sub(input.len());
            }
        }
    }

    fn process(&mut self, slot: usize, mut input: &mut [u8], handler: &mut impl Handler) {
        while !input.is_empty() {
            let Self {
                sessions,
                limits,
                replies,
                buffers,
                ..
            } = self;
            let session = &mut sessions[slot];
            if session.phase != Phase::Live {
                return;
            }
            // What one turn publishes is bounded within a session's input too.
            let is_full = self.topics.dirty_len() > PUBLISHED_BYTES_MAX;
            if session.is_paused || is_full {
                let mut stash = buffers.take(input.len());
                stash.extend_from_slice(input);
                session.extra_mut().stash = stash;
                return;
            }
            replies.clear();
            match session.connection.receive_whole(&mut input, limits) {
                Some(Ok(message)) => {
                    self.deliver(slot, message, handler);
                    continue;
                }
                Some(Err(error)) => {
                    let error = session.connection.fail(error, replies);
                    self.violation(slot, error);
                    return;
                }
                None => {}
            }
            let received = session
                .connection
                .receive_with(&mut input, limits, buffers, replies);
            match received {
                Ok(Some(event)) => self.dispatch(slot, event, handler),
                Ok(None) => return,
                Err(error) => self.violation(slot, error),
            }
        }
    }

    /// Processes `len` bytes that were read into the place where a message is assembled.
    fn process_in_place(&mut self, slot: usize, len: usize, handler: &mut impl Handler) {
        let Self {
            sessions, replies, ..
        } = self;
        replies.clear();
        match sessions[slot].connection.received_in_place(len, replies) {
            Ok(Some(event)) => self.dispatch(slot, event, handler),
            Ok(None) => {}
            Err(error) => self.violation(slot, error),
        }
    }

    fn dispatch(&mut self, slot: usize, event: Event<'_>, handler: &mut impl Handler) {
        let id = self.id_of(slot);
        match event {
            Event::Message(message) => {
                self.deliver(slot, message.as_message(), handler);
                if let Some(buffer) = message.into_buffer() {
                    self.buffers.give_message(buffer);
                }
            }
            Event::Ping(payload) => {
                if !self.replies.is_empty() {
                    let session = &mut self.sessions[slot];
                    session.outbound.push_pong(
                        &self.replies,
                        session.is_blocked,
                        &mut self.buffers,
                    );
                    self.queue_flush(slot);
                }
                handler.on_ping(&mut Context::new(self), id, &payload);
            }
            Event::Pong(payload) => handler.on_pong(&mut Context::new(self), id, &payload),
            Event::Close(frame) => self.close_received(slot, frame),
            Event::Request(request) => self.answer(slot, &request, handler),
        }
    }

    /// Hands a message to the handler.
    #[inline(always)]
    fn deliver(&mut self, slot: usize, message: Message<'_>, handler: &mut impl Handler) {
        log::debug!(
            "{} {} of {} bytes",
            self.sessions[slot].peer,
            if message.is_text() { "text" } else { "binary" },
            message.len()
        );
        self.sessions[slot].messages_in += 1;
        self.stats.messages_in += 1;
        let id = self.id_of(slot);
        handler.on_message(&mut Context::new(self), id, message);
    }

    /// A request is accepted or answered in HTTP, as the handler says.
    fn answer(&mut self, slot: usize, request: &Request, handler: &mut impl Handler) {
        let id = self.id_of(slot);
        let path = self.paths.acquire(request.path());
        self.sessions[slot].path = Some(path);
        if !request.is_upgrade() {
            self.stats.http_requests += 1;
            let response = handler.on_http(&mut Context::new(self), id, request);
            self.refuse_live(slot, &response, request.is_head(), None);
            return;
        }
        let mut upgrade = Upgrade::new(request);
        if let Err(response) =
            handler.on_upgrade(&mut Context::new(self), id, request, &mut upgrade)
        {
            self.stats.count_refusal(Refusal::Handler);
            let status = response.status();
            let (session, now) = (&self.sessions[slot], self.now);
            self.journal.declined(session, request.path(), status, now);
            self.refuse_live(slot, &response, false, None);
            return;
        }
        let Self {
            sessions, replies, ..
        } = self;
        let session = &mut sessions[slot];
        if session.phase != Phase::Live {
            return;
        }
        // The handler may have closed another session, with the same scratch.
        replies.clear();
        if let Err(error) = session.connection.accept(request, &upgrade, replies) {
            log::error!("the handler altered the 101 for {}: {error}", session.peer);
            let response =
                HttpResponse::new(500, "the server could not answer the opening handshake\n");
            self.refuse(slot, &response, false, Some(Error::Response(error)));
            return;
        }
        session.outbound.push(replies, &[], &mut self.buffers);
        session.was_opened = true;
        session.opened_at = (self.now / 1000) as u32;
        self.open += 1;
        self.stats.connections += 1;
        self.end_handshake(slot);
        self.deadlines
            .set(slot, Deadline::Quiet, self.now as Millis);
        self.queue_flush(slot);
        let Self {
            sessions,
            journal,
            now,
            ..
        } = self;
        journal.opened(&sessions[slot], request.path(), *now);
        handler.on_open(&mut Context::new(self), id);
    }

    /// Refuses, unless the handler has terminated the session meanwhile.
    fn refuse_live(
        &mut self,
        slot: usize,
        response: &HttpResponse,
        is_head: bool,
        error: Option<Error>,
    ) {
        if self.sessions[slot].phase == Phase::Live {
            self.refuse(slot, response, is_head, error);
        }
    }

    /// The peer's Close: an answer to ours, or the beginning, whose answer is in `replies`.
    fn close_received(&mut self, slot: usize, frame: CloseFrame) {
        let CloseFrame { code, reason } = frame;
        let begun_by_us = self.sessions[slot]
            .extra
            .as_mut()
            .and_then(|extra| extra.ending.as_mut());
        if let Some(ending) = begun_by_us {
            ending.is_clean = true;
        }
        self.finish(
            slot,
            Ending {
                code,
                reason,
                is_clean: true,
                by: Side::Peer,
                error: None,
            },
        );
    }

    /// The peer broke a rule; the Close or the HTTP refusal that answers it is in `replies`.
    fn violation(&mut self, slot: usize, error: ProtocolError) {
        let code = error.close_code().unwrap_or(CODE_ABNORMAL);
        let reason = error.to_string();
        let error = Some(Error::Protocol(error));
        if !self.sessions[slot].was_opened {
            self.stats.count_refusal(Refusal::Protocol);
        }
        // If our own Close was under way, the failure is still how it ended.
        if let Some(extra) = &mut self.sessions[slot].extra {
            extra.ending = None;
        }
        self.finish(
            slot,
            Ending {
                code,
                reason,
                is_clean: false,
                by: Side::Us,
                error,
            },
        );
    }

    /// The peer has ended its side. What it is owed is still sent: it may read on.
    fn end_of_stream(&mut self, slot: usize) {
        let ending = Ending::abnormal(Side::Peer, None);
        match self.sessions[slot].phase {
            Phase::Live if self.sessions[slot].was_opened => {
                self.replies.clear();
                self.finish(slot, ending);
            }
            Phase::Finishing => {}
            Phase::Live | Phase::Draining => self.kill(slot, ending),
            Phase::Dead => {}
        }
    }
}

/// How many bytes that can only be payload are worth a byte that may be a frame's: even at this rate they take less time.
/// A message of 1 MiB that is read in one go, not in four with others between, costs a tenth less: the caches.
const PAYLOAD_DISCOUNT: usize = 8;

/// Minimum bytes that are read in place. To copy less takes no longer than another read, and the buffer of a message of
/// which less has arrived lies in the allocator's heap, where what is initialised ahead of its arrival costs memory.
const IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// How many bytes of one publication take as long to write as a byte of small messages to read.
const SMALL_MESSAGES_WORK: usize = 8;

/// What one turn reads of all sessions together: some milliseconds of work.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
