//! The read phase: reads from streams, decodes frames, and passes messages and other events on (`events`).
//!
//! All sessions share one receive buffer. Only the payload of a long frame is read directly into the buffer in which
//! its message is assembled.
//!
//! A session is read until
//!
//! - a read returns less than was requested (the stream is empty, and the next byte causes an event) or would block,
//! - the session has used its share of the turn (it then goes to the end of the queue), or
//! - the session is paused or deferred.
//!
//! The share is limited in bytes and in messages. Bytes are counted as they are read, before decoding, so that endless
//! fragments cannot occupy the loop. Messages are counted because a tiny message costs as much as a longer one. Input
//! that was read and cannot be processed yet is stored in the session, and processed before the next read.
//!
//! Sessions in the middle of a long message have their own queue. It is read after the queue of the other sessions, so
//! that many long messages delay short ones by one turn at most. A read that is entirely payload of one frame is
//! charged at a fraction of its bytes, so that a long message is read in few turns.

use super::events::count_message;
use super::flush::{UNCLAIMED_BYTES_MAX, WRITE_WORK};
use crate::context::Context;
use crate::engine::Engine;
use crate::engine::session::{InputEnd, Phase, Unprocessed, id};
use crate::handler::Handler;
use std::io::{self, ErrorKind, Read};
use std::mem;

/// The bytes and messages that were read.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    bytes: usize,
    /// Messages and control frames.
    messages: usize,
}

/// The result of a read in the middle of a data frame.
#[derive(Clone, Copy, Debug)]
struct PayloadRead {
    bytes: usize,
    /// The part of `bytes` that does not count against the session's share.
    discount: usize,
    /// Messages of the session in this turn, including those of this read.
    messages: usize,
}

impl Engine {
    /// Visits each queued session once, and reads within its share, until the limit of the turn is reached. The
    /// remaining sessions stay at the front of the queue for the next turn. The limit lets the first sessions receive
    /// their answers before all others are read.
    pub(crate) fn read(&mut self, buf: &mut [u8], handler: &mut impl Handler) {
        // Sessions that move from the first queue to the second are read in this turn, too.
        let read = self.read_queued(self.read_queue.len(), buf, handler);
        if !self.long_read_queue.is_empty() {
            self.read_long_queued(read.bytes, buf, handler);
        }
    }

    /// Reads from one session before the queued ones, if it has something to read or to process.
    pub(super) fn read_first(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        if session.wants_input() {
            if session.is_in_long_message() {
                let published = self.topics.published_len();
                let read = self.read_long(slot, buf, handler);
                self.count_reads(1, read, published);
                return;
            }
            // If the session has an entry already, that entry is ignored unless the session is marked as queued again.
            session.is_read_queued = true;
            self.read_queue.push_front(slot as u32);
            self.read_queued(1, buf, handler);
        }
    }

    /// Reads from the first `count` sessions of the queue, until the limit of the turn is reached. Returns the bytes
    /// and messages.
    ///
    /// The common path of a message is inlined here, and rare paths are not, so that registers are saved once per turn:
    /// 79 instructions fewer per message of 20 B.
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

    /// Adds the reads of `sessions` sessions to the counters. `published` is `published_len` from before those reads.
    #[inline]
    fn count_reads(&mut self, sessions: usize, read: Amount, published: u64) {
        self.reading = None;
        self.stats.bytes_in += read.bytes as u64;
        #[cfg(feature = "tls")]
        {
            self.stats.bytes_in -= mem::take(&mut self.tls_read_work) as u64;
        }
        self.published.by_messages += self.topics.published_len() - published;
        self.read_work += sessions * WRITE_WORK + read.bytes * SMALL_MESSAGES_WORK;
    }

    /// Visits once each session that is in the middle of a long message, until the byte limit of the turn is reached.
    /// A visit reads within the session's share. The turn has read `bytes_read` bytes already.
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

    /// Reads from a session to the end of the current frame, within its share, and queues the session again if there
    /// is more to read. Returns the bytes and messages.
    #[inline(never)]
    fn read_long(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) -> Amount {
        #[cfg(feature = "backplane")]
        if self.defer_known_publisher(slot) {
            return Amount::default();
        }
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
            #[cfg(feature = "tls")]
            {
                read.bytes += self.take_tls_work(slot);
            }
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

    /// Reads from a session, if it is marked as queued, within its share, and queues the session again if there is more
    /// to read. Returns the bytes and messages.
    #[inline(always)]
    fn read_session(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) -> Amount {
        let mut read = Amount::default();
        let Some(mut session) = self.sessions.get_mut(slot) else {
            return read;
        };
        if !mem::take(&mut session.is_read_queued) {
            return read;
        }
        #[cfg(feature = "backplane")]
        let buf = {
            if self.defer_known_publisher(slot) {
                return read;
            }
            let len = self.read_bytes_max(slot, buf.len());
            session = &mut self.sessions[slot];
            &mut buf[..len]
        };
        self.reading = Some(slot as u32);
        // Bytes that do not count against the session's share.
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
                            // The same check as in `touch`, without another access to the session.
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
                            // The stream is empty. If input is stored, `store_unprocessed` has queued the session.
                            return read;
                        }
                    }
                    Err(error) => self.read_failed(slot, error),
                }
            }
            #[cfg(feature = "tls")]
            {
                read.bytes += self.take_tls_work(slot);
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

    /// Reads once in the middle of a data frame. `messages` is the number of messages of the session in this turn so
    /// far.
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
        let space_len = space.len();
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
        session.count_read(len, space_len);
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

    /// Returns the cost of the session's last reads in addition to their bytes: that of tiny TLS records, and of records
    /// without data. If the reads have caused an answer of TLS, queues the session for the flush phase.
    #[cfg(feature = "tls")]
    fn take_tls_work(&mut self, slot: usize) -> usize {
        let session = &mut self.sessions[slot];
        let Some(tls) = session.stream.tls_mut() else {
            return 0;
        };
        let work = tls.take_work();
        self.tls_read_work += work;
        // In TLS 1.2, the refusal of a renegotiation.
        if tls.has_unsent() && !session.is_blocked {
            self.queue_flush(slot);
        }
        work
    }

    /// Called when a read has returned the end of the stream.
    #[inline(never)]
    pub(super) fn end_of_input(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        session.is_readable = false;
        session.input_end = InputEnd::Read;
        self.end_of_stream(slot);
    }

    /// Called when a read has returned an error.
    #[inline(never)]
    pub(super) fn read_failed(&mut self, slot: usize, error: io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock => self.sessions[slot].is_readable = false,
            ErrorKind::Interrupted => {}
            #[cfg(feature = "tls")]
            ErrorKind::InvalidData => match error.downcast::<rustls::Error>() {
                Ok(error) => self.tls_failed(slot, error),
                Err(error) => self.stream_failed(slot, error),
            },
            _ => self.stream_failed(slot, error),
        }
    }

    /// Processes input that was stored before, unless the session is still paused or deferred. Before the protocol,
    /// reads the header of the PROXY protocol, and continues the handshake of TLS. Returns the number of messages.
    #[inline(never)]
    pub(super) fn process_unprocessed(&mut self, slot: usize, handler: &mut impl Handler) -> usize {
        let session = &mut self.sessions[slot];
        #[cfg(any(feature = "proxy-protocol", feature = "tls"))]
        if session.phase == Phase::Prologue {
            return self.read_prologue(slot, handler);
        }
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
            self.buffers.put(bytes);
        } else {
            let start = bytes.len() - rest;
            self.sessions[slot].extra_mut().unprocessed = Unprocessed { bytes, start };
            self.queue_read(slot);
        }
        messages
    }

    /// Processes input of a live session, and stores the part that is to be processed later. Returns `messages` plus
    /// the number of processed messages.
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

    /// Stores input that is to be processed later, and queues the session unless it is paused or deferred.
    #[inline(never)]
    fn store_unprocessed(&mut self, slot: usize, rest: &[u8]) {
        let mut bytes = self.buffers.take(rest.len());
        bytes.extend_from_slice(rest);
        self.sessions[slot].extra_mut().unprocessed = Unprocessed { bytes, start: 0 };
        self.queue_read(slot);
    }

    /// Processes input until all of it is consumed, the session has used its share of messages, or the session is
    /// paused or deferred. `input` must not be empty, and the session must be live, not paused and not deferred.
    /// Returns the number of bytes at the end of `input` that are to be processed later, and `messages` plus the number
    /// of processed messages.
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
            let message_bytes_max = self.limit_sets.message_bytes_max(session.limits);
            match session
                .connection
                .receive_whole(&mut input, message_bytes_max)
            {
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
            #[cfg(feature = "backplane")]
            self.defer_shared_publisher(slot);
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

    /// Processes input that `receive_whole` has not consumed: consumes one event, all of `input`, or
    /// `FRAGMENTS_PER_CALL` fragments. Returns the rest of `input`, and the cost of the call, in messages, in
    /// addition to the one that the caller counts for each call.
    #[inline(never)]
    fn process_any<'i>(
        &mut self,
        slot: usize,
        mut input: &'i mut [u8],
        handler: &mut impl Handler,
    ) -> (&'i mut [u8], usize) {
        let Self {
            sessions,
            limit_sets,
            replies,
            buffers,
            ..
        } = self;
        replies.clear();
        let session = &mut sessions[slot];
        let limits = limit_sets.protocol(session.limits);
        let connection = &mut session.connection;
        match connection.receive_with(&mut input, &limits, buffers, replies) {
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

    /// Defers a session that has published while too many bytes are unclaimed: the session is not read until members
    /// have caught up, so that TCP's flow control slows the peer down. `before` is the number of unclaimed bytes before
    /// the session's message was processed.
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

    /// Processes `len` bytes that were read directly into the buffer in which a message is assembled.
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
                #[cfg(feature = "backplane")]
                self.defer_shared_publisher(slot);
            }
            Ok(None) => {}
            Err(error) => self.violation(slot, error),
        }
    }
}

/// Reads that are entirely payload are charged at one over this number of their bytes. Even with this discount, payload
/// takes less time per charged byte than frames. A message of 1 MiB that is read at once costs a tenth less than one
/// that is read in four parts with other sessions between, because of the processor's caches.
const PAYLOAD_DISCOUNT: usize = 8;

/// Minimum missing bytes of a frame for a read directly into the buffer of the message. Fewer bytes are read into the
/// receive buffer, together with the bytes that follow them, and copied. That takes less time than another read.
const IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// Cost, in messages, of a call of `receive_with` that returns no event, in addition to the one that is counted for
/// each call. Such a call has consumed all input, or 64 fragments.
const FRAGMENTS_WORK: usize = 31;

/// Work of reading one byte of small messages, in the unit of the flush phase: reading one byte takes as long as
/// writing this many bytes of a publication.
const SMALL_MESSAGES_WORK: usize = 8;

/// Maximum bytes that one turn reads, of all sessions together: some milliseconds of work.
const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that one turn may always read of sessions in the middle of long messages, so that shorter messages cannot
/// starve long ones.
const LONG_TURN_BYTES_MIN: usize = 1024 * 1024;

/// Maximum messages that one turn processes, of all sessions together: 2 to 3 ms for tiny messages.
const TURN_MESSAGES_MAX: usize = 16 * 1024;

/// Maximum messages of one session in a turn: about 80 us for tiny messages.
const SESSION_MESSAGES_MAX: usize = 512;
