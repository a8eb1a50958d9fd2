//! The read phase: from readable streams, through the protocol, to the handler.
//!
//! All sessions share one receive buffer; the payload of a long frame is read into the place where its message is
//! assembled. A session is read until a read comes back short (then the stream is empty:
//! the next byte is a new event), until it would block, until it has had its share of the turn (then it goes to the back of
//! the queue), or until it is paused or deferred. The share is counted in bytes and in messages: bytes below the decoder, so
//! that fragments without end do not hold the loop, and messages, because a tiny one costs as much as a longer one. Input
//! that was read and cannot be processed yet is stored with the session, and processed first when it goes on.
//!
//! Sessions in the middle of a long message wait in a queue of their own, which is read after the others, so that many long
//! messages do not delay short ones by more than a turn. There, a read that is all payload of one frame counts little, so
//! that a message is read in few turns.

use super::flush::{UNCLAIMED_BYTES_MAX, WRITE_WORK};
use crate::context::Context;
use crate::engine::Engine;
use crate::engine::deadlines::{Deadline, Millis};
use crate::engine::session::{Ending, InputEnd, Kind, Phase, Session, Unprocessed, id};
use crate::error::{Error, Side};
use crate::handler::Handler;
use crate::proto::{
    CODE_ABNORMAL, CloseFrame, Event, HttpResponse, Message, ProtocolError, Request, Upgrade,
};
use crate::stats::{Refusal, Stats};
use std::io::{self, ErrorKind, Read};
use std::mem;

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    bytes: usize,
    /// Messages and control frames.
    messages: usize,
}

/// A read while a data frame was under way.
#[derive(Clone, Copy, Debug)]
struct PayloadRead {
    bytes: usize,
    /// Bytes that do not count against the share of the session.
    discount: usize,
    /// Messages of the session so far.
    messages: usize,
}

impl Engine {
    /// Reads from each session that was marked, once, or until the turn has read enough: the others keep their places for
    /// the next turn, so that the first need not wait for all to be answered.
    pub(crate) fn read(&mut self, buf: &mut [u8], handler: &mut impl Handler) {
        // Sessions that the first queue puts into the second one are read in this turn, too.
        let read = self.read_queued(self.read_queue.len(), buf, handler);
        if !self.long_read_queue.is_empty() {
            self.read_long_queued(read.bytes, buf, handler);
        }
    }

    /// Reads from one session before those that are queued, if there is something to read or to process.
    pub(super) fn read_first(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if session.wants_input() {
            if session.is_in_long_message() {
                let published = self.topics.published_len();
                let read = self.read_long(slot, buf, handler);
                self.count_reads(1, read, published);
                return;
            }
            // If the session is queued already, that entry counts only if the session is queued again.
            session.is_read_queued = true;
            self.read_queue.push_front(slot as u32);
            self.read_queued(1, buf, handler);
        }
    }

    /// Reads from the first `count` sessions of the queue, or until the turn has read enough. Returns what was read.
    ///
    /// What most messages need is inlined here, and what they do not need is not, so that registers are saved once in a
    /// turn: 79 instructions less per message of 20 B.
    #[inline(never)]
    fn read_queued(&mut self, count: usize, buf: &mut [u8], handler: &mut impl Handler) -> Amount {
        let published = self.topics.published_len();
        let mut count_left = count;
        let mut read = Amount::default();
        while count_left > 0 && read.bytes < TURN_BYTES_MAX && read.messages < TURN_MESSAGES_MAX {
            count_left -= 1;
            let Some(slot) = self.read_queue.pop_front() else {
                break;
            };
            let share = self.read_session(slot as usize, buf, handler);
            read.bytes += share.bytes;
            read.messages += share.messages;
        }
        self.read_queue.reclaim_half();
        self.count_reads(count - count_left, read, published);
        read
    }

    /// Counts what was read from `sessions` sessions since `published` bytes were published.
    #[inline]
    fn count_reads(&mut self, sessions: usize, read: Amount, published: u64) {
        self.reading = None;
        self.stats.bytes_in += read.bytes as u64;
        self.published.by_messages += self.topics.published_len() - published;
        self.read_work += sessions * WRITE_WORK + read.bytes * SMALL_MESSAGES_WORK;
    }

    /// Reads from each session that is in the middle of a long message, once, or until the turn has read enough, of which
    /// `bytes_read` bytes are read already.
    #[inline(never)]
    fn read_long_queued(&mut self, bytes_read: usize, buf: &mut [u8], handler: &mut impl Handler) {
        let published = self.topics.published_len();
        let bytes_max = TURN_BYTES_MAX
            .saturating_sub(bytes_read)
            .max(LONG_TURN_BYTES_MIN);
        let (mut sessions, mut read) = (0, Amount::default());
        for _ in 0..self.long_read_queue.len() {
            if read.bytes >= bytes_max {
                break;
            }
            let Some(slot) = self.long_read_queue.pop_front() else {
                break;
            };
            let session = self.sessions.get_mut(slot as usize);
            if session.is_some_and(|session| mem::take(&mut session.is_read_queued)) {
                let share = self.read_long(slot as usize, buf, handler);
                read.bytes += share.bytes;
                read.messages += share.messages;
                sessions += 1;
            }
        }
        self.long_read_queue.reclaim_half();
        self.count_reads(sessions, read, published);
    }

    /// Reads from a session to the end of its message, within its share, and queues it again if there is more. Returns what
    /// was read.
    #[inline(never)]
    fn read_long(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) -> Amount {
        self.reading = Some(slot as u32);
        let (mut read, mut discount) = (Amount::default(), 0);
        while read.bytes - discount < self.config.read_budget_bytes {
            let session = &self.sessions[slot];
            if !session.may_read() || session.connection.payload_missing() == 0 {
                break;
            }
            let payload = self.read_payload(slot, buf, read.messages, handler);
            read.bytes += payload.bytes;
            read.messages = payload.messages;
            discount += payload.discount;
        }
        let session = &mut self.sessions[slot];
        if session.wants_input() && !mem::replace(&mut session.is_read_queued, true) {
            let queue = if session.is_in_long_message() {
                &mut self.long_read_queue
            } else {
                &mut self.read_queue
            };
            queue.push_back(slot as u32);
        }
        read
    }

    /// Reads from a session, if it is marked as queued, within its share, and queues it again if there is more. Returns what
    /// was read.
    #[inline(always)]
    fn read_session(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) -> Amount {
        let mut read = Amount::default();
        let Some(mut session) = self.sessions.get_mut(slot) else {
            return read;
        };
        if !mem::take(&mut session.is_read_queued) {
            return read;
        }
        self.reading = Some(slot as u32);
        // Bytes that do not count against the share.
        let mut discount = 0;
        let mut has_share = true;
        if session.extra.is_some() {
            read.messages = self.process_unprocessed(slot, handler);
            has_share = read.messages < SESSION_MESSAGES_MAX;
            session = &mut self.sessions[slot];
        }
        while has_share && session.may_read() {
            if session.connection.payload_missing() > 0 {
                if session.is_in_long_message() {
                    session.is_read_queued = true;
                    self.long_read_queue.push_back(slot as u32);
                    return read;
                }
                let payload = self.read_payload(slot, buf, read.messages, handler);
                read.bytes += payload.bytes;
                read.messages = payload.messages;
                discount += payload.discount;
            } else {
                match session.stream.read(buf) {
                    Ok(0) => self.end_of_input(slot),
                    Ok(len) => {
                        read.bytes += len;
                        let may_return_more = session.count_read(len, buf.len());
                        if session.phase == Phase::Live {
                            // As `touch` does, without another look at the session.
                            if session.touched_at != self.touch_period {
                                self.touch(slot);
                            }
                            read.messages = self.process_or_store(
                                slot,
                                &mut buf[..len],
                                read.messages,
                                handler,
                            );
                        } else {
                            session.discard(len);
                        }
                        if !may_return_more {
                            // The stream is empty. If input is stored, the session is queued.
                            return read;
                        }
                    }
                    Err(error) => self.read_failed(slot, error),
                }
            }
            has_share = read.bytes - discount < self.config.read_budget_bytes
                && read.messages < SESSION_MESSAGES_MAX;
            session = &mut self.sessions[slot];
        }
        if session.is_readable {
            self.queue_read(slot);
        }
        read
    }

    /// Reads once while a data frame is under way, of a session of which `messages` were processed so far.
    #[inline(never)]
    fn read_payload(
        &mut self,
        slot: usize,
        buf: &mut [u8],
        messages: usize,
        handler: &mut impl Handler,
    ) -> PayloadRead {
        let session = &mut self.sessions[slot];
        let missing = session.connection.payload_missing();
        let space = if missing >= IN_PLACE_BYTES_MIN as u64 && session.phase == Phase::Live {
            let connection = &mut session.connection;
            connection.assembly_space_with(IN_PLACE_BYTES_MIN, &mut self.buffers)
        } else {
            None
        };
        let is_in_place = space.is_some();
        let space = space.unwrap_or(buf);
        let room = space.len();
        let mut payload = PayloadRead {
            bytes: 0,
            discount: 0,
            messages,
        };
        let len = match session.stream.read(space) {
            Ok(len) if len > 0 => len,
            Ok(_) => {
                self.end_of_input(slot);
                return payload;
            }
            Err(error) => {
                self.read_failed(slot, error);
                return payload;
            }
        };
        session.count_read(len, room);
        payload.bytes = len;
        if len as u64 <= missing {
            payload.discount = len - len.div_ceil(PAYLOAD_DISCOUNT);
        }
        if session.phase == Phase::Live {
            self.touch(slot);
            if is_in_place {
                self.process_in_place(slot, len, handler);
            } else {
                payload.messages = self.process_or_store(slot, &mut buf[..len], messages, handler);
            }
        } else {
            session.discard(len);
        }
        payload
    }

    /// Acts on a read that has found the end of the stream.
    #[inline(never)]
    fn end_of_input(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        session.is_readable = false;
        session.input_end = InputEnd::Read;
        self.end_of_stream(slot);
    }

    /// Acts on a read that has returned an error.
    #[inline(never)]
    fn read_failed(&mut self, slot: usize, error: io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock => self.sessions[slot].is_readable = false,
            ErrorKind::Interrupted => {}
            kind => {
                let by = if kind == ErrorKind::ConnectionReset {
                    Side::Peer
                } else {
                    Side::Us
                };
                self.kill(slot, Ending::abnormal(by, Some(Error::Io(error))));
            }
        }
    }

    /// Processes input that was read before, if the session may go on. Returns the number of messages.
    #[inline(never)]
    fn process_unprocessed(&mut self, slot: usize, handler: &mut impl Handler) -> usize {
        let session = &mut self.sessions[slot];
        if session.phase != Phase::Live || !session.may_process() {
            return 0;
        }
        let Some(extra) = &mut session.extra else {
            return 0;
        };
        let Unprocessed { mut bytes, start } = mem::take(&mut extra.unprocessed);
        if bytes.is_empty() {
            return 0;
        }
        let (rest, messages) = self.process(slot, &mut bytes[start..], 0, handler);
        if rest == 0 {
            self.buffers.give(bytes);
        } else {
            let start = bytes.len() - rest;
            self.sessions[slot].extra_mut().unprocessed = Unprocessed { bytes, start };
            self.queue_read(slot);
        }
        messages
    }

    /// Processes what was read of a live session, and stores what is to be processed later. Returns `messages` and those
    /// that were processed.
    #[inline(always)]
    fn process_or_store(
        &mut self,
        slot: usize,
        input: &mut [u8],
        messages: usize,
        handler: &mut impl Handler,
    ) -> usize {
        let (rest, messages) = self.process(slot, input, messages, handler);
        if rest > 0 {
            self.store_unprocessed(slot, &input[input.len() - rest..]);
        }
        messages
    }

    /// Stores input that is to be processed later, and queues the session if that can be in the next turn.
    #[inline(never)]
    fn store_unprocessed(&mut self, slot: usize, rest: &[u8]) {
        let mut bytes = self.buffers.take(rest.len());
        bytes.extend_from_slice(rest);
        self.sessions[slot].extra_mut().unprocessed = Unprocessed { bytes, start: 0 };
        self.queue_read(slot);
    }

    /// Processes input, which is not empty, of a live session that may process it, until all is taken, the session has had
    /// its share of messages, or it is paused or deferred. Returns how many bytes at the end of `input` are to be processed
    /// later, and `messages` with those that were processed.
    #[inline(always)]
    fn process(
        &mut self,
        slot: usize,
        mut input: &mut [u8],
        mut messages: usize,
        handler: &mut impl Handler,
    ) -> (usize, usize) {
        loop {
            let session = &mut self.sessions[slot];
            messages += 1;
            let unclaimed = self.topics.unclaimed_len();
            match session.connection.receive_whole(&mut input, &self.limits) {
                Some(Ok(message)) => {
                    count_message(session, &mut self.stats, message);
                    let id = id(slot, session.number);
                    handler.on_message(&mut Context::new(self), id, message);
                }
                Some(Err(error)) => {
                    self.fail_protocol(slot, error);
                    return (0, messages);
                }
                None => {
                    let work;
                    (input, work) = self.process_any(slot, input, handler);
                    messages += work;
                }
            }
            self.defer_publisher(slot, unclaimed);
            if input.is_empty() {
                return (0, messages);
            }
            let session = &self.sessions[slot];
            if session.phase != Phase::Live {
                return (0, messages);
            }
            if !session.may_process() || messages >= SESSION_MESSAGES_MAX {
                return (input.len(), messages);
            }
        }
    }

    /// Processes what is not a message of one frame that is whole: takes an event, or all of `input`. Returns the rest of
    /// `input`, and how many messages the call costs beside the one.
    #[inline(never)]
    fn process_any<'i>(
        &mut self,
        slot: usize,
        mut input: &'i mut [u8],
        handler: &mut impl Handler,
    ) -> (&'i mut [u8], usize) {
        let Self {
            sessions,
            limits,
            replies,
            buffers,
            ..
        } = self;
        replies.clear();
        let connection = &mut sessions[slot].connection;
        match connection.receive_with(&mut input, limits, buffers, replies) {
            Ok(Some(event)) => {
                self.dispatch(slot, event, handler);
                (input, 0)
            }
            Ok(None) => (input, FRAGMENTS_WORK),
            Err(error) => {
                self.violation(slot, error);
                (&mut [], 0)
            }
        }
    }

    /// Defers a session whose message was published while members have too much unclaimed already: it is not read until they
    /// have caught up, so that TCP pushes back. `before` is what was unclaimed before that message.
    #[inline]
    fn defer_publisher(&mut self, slot: usize, before: usize) {
        let unclaimed = self.topics.unclaimed_len();
        if unclaimed > UNCLAIMED_BYTES_MAX && unclaimed > before {
            self.defer(slot);
        }
    }

    #[cold]
    fn defer(&mut self, slot: usize) {
        let id = self.id_of(slot);
        let session = &mut self.sessions[slot];
        if session.phase == Phase::Live && !mem::replace(&mut session.is_deferred, true) {
            self.deferred.push(id);
        }
    }

    /// Processes `len` bytes that were read into the place where a message is assembled.
    fn process_in_place(&mut self, slot: usize, len: usize, handler: &mut impl Handler) {
        let Self {
            sessions, replies, ..
        } = self;
        replies.clear();
        let unclaimed = self.topics.unclaimed_len();
        match sessions[slot].connection.received_in_place(len, replies) {
            Ok(Some(event)) => {
                self.dispatch(slot, event, handler);
                self.defer_publisher(slot, unclaimed);
            }
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
                        &mut self.turn_buffer,
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
    fn deliver(&mut self, slot: usize, message: Message<'_>, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        count_message(session, &mut self.stats, message);
        let id = id(slot, session.number);
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
            self.session_log
                .declined(session, request.path(), status, now);
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
            self.stats.count_refusal(Refusal::Response);
            self.refuse(slot, &response, false, Some(Error::Response(error)));
            return;
        }
        session
            .outbound
            .push(replies, &[], &mut self.turn_buffer, &mut self.buffers);
        session.opened_at = (self.now / 1000) as u32;
        self.stats.connections += 1;
        self.set_kind(slot, Kind::Opened);
        self.deadlines
            .set(slot, Deadline::Quiet, self.now as Millis);
        self.queue_flush(slot);
        let Self {
            sessions,
            session_log,
            now,
            ..
        } = self;
        session_log.opened(&sessions[slot], request.path(), *now);
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

    /// The peer broke a rule, in a message that was taken already.
    #[cold]
    fn fail_protocol(&mut self, slot: usize, error: ProtocolError) {
        self.replies.clear();
        let connection = &mut self.sessions[slot].connection;
        let error = connection.fail(error, &mut self.replies);
        self.violation(slot, error);
    }

    /// The peer broke a rule; the Close or the HTTP refusal that answers it is in `replies`.
    fn violation(&mut self, slot: usize, error: ProtocolError) {
        let code = error.close_code().unwrap_or(CODE_ABNORMAL);
        let reason = error.to_string();
        let error = Some(Error::Protocol(error));
        if self.sessions[slot].kind != Kind::Opened {
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
            Phase::Live if self.sessions[slot].kind == Kind::Opened => {
                // No message can be completed any more; the backlog may take as long as the write timeout.
                self.sessions[slot].connection.abandon();
                self.replies.clear();
                self.finish(slot, ending);
            }
            Phase::Finishing => {}
            Phase::Live | Phase::Draining => self.kill(slot, ending),
            Phase::Dead => {}
        }
    }
}

/// Counts and logs a message that is given to the handler.
#[inline]
fn count_message(session: &mut Session, stats: &mut Stats, message: Message<'_>) {
    session.messages_in += 1;
    stats.messages_in += 1;
    log::debug!(
        "{} {} of {} bytes",
        session.peer,
        if message.is_text() { "text" } else { "binary" },
        message.len()
    );
}

/// Reads that can only be payload are charged at this fraction: even so they take less time than frames.
/// A message of 1 MiB that is read in one go, not in four with others between, costs a tenth less: the caches.
const PAYLOAD_DISCOUNT: usize = 8;

/// A message that lacks less is read with what follows it: to copy that takes less time than another read.
const IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// What a call that ends without a message costs, in messages: the next bytes are awaited, or it took 64 fragments.
const FRAGMENTS_WORK: usize = 31;

/// How many bytes of one publication take as long to write as a byte of small messages to read.
const SMALL_MESSAGES_WORK: usize = 8;

/// Bytes that one turn reads of all sessions together: some milliseconds of work.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that one turn reads at least of sessions in the middle of long messages, so that shorter ones do not stop them.
const LONG_TURN_BYTES_MIN: usize = 1024 * 1024;

/// Messages that one turn processes of all sessions together: 2 to 3 ms for tiny ones.
const TURN_MESSAGES_MAX: usize = 16 * 1024;

/// Messages that are processed of one session before the others have their turn: some 80 us for tiny ones.
const SESSION_MESSAGES_MAX: usize = 512;
