//! Every way in which a session ends.
//!
//! | method | called when | last bytes | next state |
//! |---|---|---|---|
//! | `close_slot` | we begin the closing handshake | Close | waits for the peer's Close |
//! | `finish` | the protocol has ended: both Closes, a violation, an HTTP answer, the peer's end of stream | the answer of the protocol, if any | `Finishing`: sends unsent bytes |
//! | `refuse` | the connection does not become a WebSocket | an HTTP response | as `finish` |
//! | `drain` | a finishing session has sent everything | - | `Draining`: our direction is shut down; waits for the peer's end of stream |
//! | `end_now` | the socket has failed, a deadline has passed, the session is terminated or evicted | - | `Dead`: the reap phase frees the session |
//!
//! The handler receives the first reason that was recorded for the end of a session. The exception is a violation of
//! the protocol during a closing handshake that we have begun: the handler receives the violation.

use super::deadlines::{Deadline, Millis};
use super::session::{Ending, InputEnd, Kind, Phase, id};
use super::{Engine, Spread, Stop};
use crate::error::{Error, Limit, Side};
use crate::id::Id;
use crate::proto::{HttpResponse, Stage};
use crate::stream::Transport;
use std::io::{self, ErrorKind};
use std::mem;

impl Engine {
    /// Ends a session at once, and queues it for the reap phase, which reports the end to the handler and frees the
    /// slot. Until then, the session has no memberships and no deadline. Has no effect on a session that has ended.
    pub(crate) fn end_now(&mut self, slot: usize, ending: Ending) {
        let session = &mut self.sessions[slot];
        // Nothing was sent that the client could miss. Without close_notify, it would report a truncated stream.
        #[cfg(feature = "tls")]
        if session.kind == Kind::Requesting
            && session.outbound.is_empty()
            && let Some(tls) = session.stream.tls_mut()
        {
            let _ = tls.write_end();
        }
        // First, so that the allocations below can reuse the memory that this releases.
        session.connection.abandon();
        session.end_with(ending);
        if mem::replace(&mut session.phase, Phase::Dead) != Phase::Dead {
            self.reap_queue.push_back(id(slot, session.number));
            self.end_handshake(slot);
            self.deadlines.clear(slot);
            self.forget_topics(slot);
        }
    }

    /// Ends a session whose stream has failed. A reset or a broken pipe counts as an end by the peer.
    pub(crate) fn stream_failed(&mut self, slot: usize, error: io::Error) {
        let by = match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Side::Peer,
            _ => Side::Us,
        };
        self.end_now(slot, Ending::abnormal(by, Some(Error::Io(error))));
    }

    /// Ends the session whose input was being processed when the handler panicked.
    pub(super) fn end_panicked(&mut self, slot: usize) {
        if self.sessions.contains(slot) {
            self.end_now(
                slot,
                Ending::abnormal(Side::Us, Some(Error::HandlerPanicked)),
            );
        }
    }

    /// Ends a session whose write deadline has passed. Resets the connection, so that the kernel discards unsent bytes.
    pub(crate) fn end_stalled(&mut self, slot: usize) {
        self.sessions[slot].stream.reset_on_close();
        self.end_now(
            slot,
            Ending::abnormal(Side::Us, Some(Error::Limit(Limit::WriteTimeout))),
        );
    }

    /// Ends the protocol of a session: queues `replies` as the last bytes, and then only sends unsent bytes. Input is
    /// discarded from here on.
    pub(crate) fn finish(&mut self, slot: usize, ending: Ending) {
        debug_assert!(matches!(
            self.sessions[slot].phase,
            Phase::Prologue | Phase::Live
        ));
        self.end_handshake(slot);
        self.leave_topics(slot);
        // A message of the maximum size, which the peer may be sending, and a receive buffer.
        let session = &mut self.sessions[slot];
        let discard_left = self
            .limit_sets
            .message_bytes_max(session.limits)
            .saturating_add(self.config.receive_buffer_bytes);
        session.end_with(ending);
        session.extra_mut().discard_left = discard_left;
        // Nothing may follow the Close, so a pending pong is queued before it.
        session.outbound.queue_pong(&mut self.buffers);
        #[cfg(feature = "http-date")]
        if self.replies.starts_with(b"HTTP/") && !self.timers.is_simulated() {
            super::date::insert(&mut self.replies);
        }
        session
            .outbound
            .push(&self.replies, &[], &mut self.turn_buffer, &mut self.buffers);
        session.phase = Phase::Finishing;
        // An HTTP response can be large.
        self.replies.clear();
        self.replies.shrink_to(REPLIES_BYTES_RETAINED);
        self.expect_close(slot);
        self.queue_flush(slot);
    }

    /// Answers a connection with an HTTP response, whether or not a valid request has arrived, and finishes the
    /// session. `is_head`: the request is a HEAD, so that no body is sent.
    pub(crate) fn refuse(
        &mut self,
        slot: usize,
        response: &HttpResponse,
        is_head: bool,
        error: Option<Error>,
    ) {
        let ending = Ending {
            reason: response.status().to_string(),
            ..Ending::abnormal(Side::Us, error)
        };
        // Before the end of its handshake, TLS cannot send a response.
        #[cfg(feature = "tls")]
        if let Some(tls) = self.sessions[slot].stream.tls()
            && !tls.can_send()
        {
            return self.end_now(slot, ending);
        }
        self.replies.clear();
        self.sessions[slot]
            .connection
            .refuse(response, is_head, &mut self.replies);
        self.finish(slot, ending);
    }

    /// Ends a session whose TLS has failed. The alert is sent, and unsent bytes are discarded.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_failed(&mut self, slot: usize, error: rustls::Error) {
        self.stats.tls.count_failure(&error);
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            ..
        } = self;
        let session = &mut sessions[slot];
        let ending = Ending::abnormal(Side::Us, Some(Error::Tls(error)));
        match session.phase {
            Phase::Prologue | Phase::Live => {
                session.connection.abandon();
                session.outbound.clear(topics, turn_buffer, buffers);
                self.replies.clear();
                self.finish(slot, ending);
                // `finish` may have queued a pong, or the claimed publications of a member.
                let Self {
                    sessions,
                    topics,
                    turn_buffer,
                    buffers,
                    ..
                } = self;
                sessions[slot].outbound.clear(topics, turn_buffer, buffers);
            }
            Phase::Finishing | Phase::Draining => self.end_now(slot, ending),
            Phase::Dead => {}
        }
    }

    /// Begins the closing handshake of a session, which must be open: a second call would extend the close timeout.
    /// Publications up to this point are sent before the Close.
    pub(crate) fn close_slot(
        &mut self,
        slot: usize,
        code: u16,
        reason: &str,
        error: Option<Error>,
    ) {
        debug_assert!(self.sessions[slot].is_open());
        self.leave_topics(slot);
        let session = &mut self.sessions[slot];
        // The peer's Close must be read.
        session.is_paused_by_handler = false;
        session.is_deferred = false;
        self.replies.clear();
        session.connection.close(code, reason, &mut self.replies);
        session.outbound.queue_pong(&mut self.buffers);
        session
            .outbound
            .push(&self.replies, &[], &mut self.turn_buffer, &mut self.buffers);
        session.end_with(Ending {
            code,
            reason: reason.to_owned(),
            is_clean: false,
            by: Side::Us,
            error,
        });
        self.expect_close(slot);
        self.queue_flush(slot);
        self.queue_read(slot);
    }

    /// Closes a member with more than `lag_bytes_max` of unsent publications that may not be skipped. The first
    /// publication of which no byte is sent and everything queued after it are discarded. The Close follows the rest.
    pub(crate) fn close_lagging(&mut self, slot: usize) {
        self.forget_topics(slot);
        let Self {
            sessions,
            topics,
            turn_buffer,
            buffers,
            ..
        } = self;
        let outbound = &mut sessions[slot].outbound;
        outbound.cut_at_log(topics, turn_buffer, buffers);
        let error = Some(Error::Limit(Limit::LagBytesMax));
        self.close_slot(slot, 1013, "too far behind", error);
    }

    /// Shuts down our direction of a finishing session that has sent everything, and waits for the peer's end of
    /// stream. TLS sends its close_notify first.
    pub(crate) fn drain(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        debug_assert!(session.phase == Phase::Finishing && session.outbound.is_empty());
        #[cfg(feature = "tls")]
        if let Some(tls) = session.stream.tls_mut()
            && let Err(error) = tls.write_end()
            && error.kind() == ErrorKind::WouldBlock
        {
            return self.mark_blocked(slot);
        }
        let session = &mut self.sessions[slot];
        if session.input_end == InputEnd::Read || session.stream.shutdown_write().is_err() {
            self.end_now(slot, Ending::abnormal(Side::Peer, None));
            return;
        }
        session.phase = Phase::Draining;
        if self.deadlines.kind(slot) != Some(Deadline::Close) {
            self.deadlines
                .set(slot, Deadline::Close, self.now as Millis);
        }
        self.queue_read(slot);
    }

    /// Sets the deadline of a session that is closing or finishing: the peer must accept all unsent bytes within the
    /// write timeout, which is not postponed any more; the close timeout follows.
    fn expect_close(&mut self, slot: usize) {
        let is_blocked = self.sessions[slot].is_blocked;
        let last = if is_blocked {
            Deadline::Write
        } else {
            Deadline::Close
        };
        self.deadlines.set(slot, last, self.now as Millis);
    }

    /// Stops counting a session as one whose request has not arrived.
    fn end_handshake(&mut self, slot: usize) {
        if self.sessions[slot].kind == Kind::Requesting {
            self.set_kind(slot, Kind::Answered);
        }
    }

    /// Returns whether a byte of the request may have arrived. If not, no response is sent: browsers open connections in
    /// advance, and read from such a connection after they have sent their next request. They would take an earlier
    /// response for the answer to it.
    pub(crate) fn has_request_begun(&self, slot: usize) -> bool {
        let session = &self.sessions[slot];
        session.phase != Phase::Prologue
            && (session.is_read_queued || session.connection.has_begun())
    }

    /// Begins the graceful stop that was requested: closes each open session with code 1001, at once or spread over
    /// `stop_spread`, answers each connection whose request is incomplete with 503, and closes the others.
    pub(crate) fn begin_stop(&mut self) {
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let session = &self.sessions[slot];
            if !matches!(session.phase, Phase::Prologue | Phase::Live) {
                continue;
            }
            match session.connection.stage() {
                Stage::Open => self.unclosed.push(id(slot, session.number)),
                Stage::Opening if !self.has_request_begun(slot) => {
                    self.end_now(slot, Ending::abnormal(Side::Us, None));
                }
                Stage::Opening => {
                    let response = HttpResponse::new(503, "the server is shutting down\n");
                    self.stats.count_refusal(crate::stats::Refusal::Shutdown);
                    self.refuse(slot, &response, false, Some(Error::Shutdown));
                }
                Stage::Closing | Stage::Closed | Stage::Ended => {}
            }
        }
        // Taken from the end, so that the first slots are closed first.
        self.unclosed.reverse();
        self.stop = Stop::Spreading(Spread {
            start: self.now,
            duration: self.config.stop_spread.as_millis() as u64,
            count: self.unclosed.len() as u64,
        });
        self.close_due();
    }

    /// Closes the sessions that are due in a stop that closes them one after the other. Sessions that have published to a
    /// broker are closed when it has returned their messages. `shutdown_grace` begins after the last Close.
    pub(crate) fn close_due(&mut self) {
        let Stop::Spreading(spread) = self.stop else {
            return;
        };
        while spread.next_at(self.unclosed.len()) <= self.now
            && let Some(id) = self.unclosed.pop()
        {
            #[cfg(feature = "backplane")]
            if let Some(slot) = self.open_slot(id)
                && self.wait_for_last_messages(slot)
            {
                continue;
            }
            self.close_going_away(id);
        }
        #[cfg(feature = "backplane")]
        if !self.close_returned() {
            return;
        }
        if self.unclosed.is_empty() {
            self.unclosed = Vec::new();
            self.stop = Stop::Until(self.now + self.config.shutdown_grace.as_millis() as u64);
        }
    }

    /// Closes a session with code 1001, if it is still open.
    pub(super) fn close_going_away(&mut self, id: Id) {
        if let Some(slot) = self.open_slot(id) {
            self.close_slot(slot, 1001, "the server is shutting down", None);
        }
    }

    /// Ends every session at once, without a closing handshake.
    pub(crate) fn terminate_all(&mut self) {
        self.stop = Stop::Now;
        self.unclosed = Vec::new();
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.end_now(slot, Ending::abnormal(Side::Us, None));
        }
    }
}

/// Maximum capacity of the scratch buffer for replies that is retained.
const REPLIES_BYTES_RETAINED: usize = 16 * 1024;
