//! Acts on the events of the protocol that the read phase has found: passes messages and requests to the handler,
//! answers pings and requests, and ends sessions at a Close, a violation or the end of the stream.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::deadlines::Deadline;
use crate::engine::session::{Ending, Kind, Phase, Session, id};
use crate::error::{Error, Side};
use crate::handler::Handler;
use crate::proto::{
    CODE_ABNORMAL, CloseFrame, Event, HttpResponse, Message, ProtocolError, Request, Upgrade,
};
use crate::stats::{Refusal, Stats};

impl Engine {
    /// Acts on an event of the protocol, and calls the handler.
    pub(super) fn dispatch(&mut self, slot: usize, event: Event<'_>, handler: &mut impl Handler) {
        let id = self.id_of(slot);
        match event {
            Event::Message(message) => {
                self.deliver(slot, message.as_message(), handler);
                if let Some(buffer) = message.into_buffer() {
                    self.buffers.put_message(buffer);
                }
            }
            Event::Ping(payload) => {
                // `replies` has the pong, unless our Close was sent before.
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
            Event::Pong(payload) => {
                self.pong_received(slot, &payload);
                handler.on_pong(&mut Context::new(self), id, &payload);
            }
            Event::Close(frame) => self.close_received(slot, frame),
            Event::Request(request) => self.answer(slot, &request, handler),
        }
    }

    /// Passes a message to the handler.
    fn deliver(&mut self, slot: usize, message: Message<'_>, handler: &mut impl Handler) {
        let session = &mut self.sessions[slot];
        count_message(session, &mut self.stats, message);
        let id = id(slot, session.number);
        handler.on_message(&mut Context::new(self), id, message);
    }

    /// Passes a request to the handler, which accepts the opening handshake or returns an HTTP response.
    fn answer(&mut self, slot: usize, request: &Request, handler: &mut impl Handler) {
        let id = self.id_of(slot);
        if self.awaits_address(slot) && !self.identify_by_request(slot, request) {
            return;
        }
        let path = self.paths.acquire(request.path());
        self.sessions[slot].path = Some(path);
        if !request.is_upgrade() {
            self.stats.http_requests += 1;
            let response = handler.on_http(&mut Context::new(self), id, request);
            // The only status of a plain HTTP response that an operator must see in the log: it depends on the
            // configuration of this server or of a proxy before it.
            let level = match response.status() {
                MISDIRECTED => log::Level::Info,
                _ => log::Level::Debug,
            };
            if response.status() >= 400 {
                self.log_declined(slot, request, &response, level);
            }
            self.refuse_live(slot, &response, request.is_head(), None);
            return;
        }
        if self.refuses_new_sessions() {
            let response =
                HttpResponse::new(503, "the server is draining: it accepts no new sessions\n");
            self.stats.count_refusal(Refusal::Shutdown);
            self.refuse(slot, &response, false, Some(Error::Shutdown));
            return;
        }
        let mut upgrade = Upgrade::new(request);
        if let Err(response) =
            handler.on_upgrade(&mut Context::new(self), id, request, &mut upgrade)
        {
            self.stats.count_refusal(Refusal::Handler);
            self.log_declined(slot, request, &response, log::Level::Info);
            self.refuse_live(slot, &response, false, None);
            return;
        }
        let Self {
            sessions, replies, ..
        } = self;
        let session = &mut sessions[slot];
        if session.phase != Phase::Live {
            // The handler has terminated the session.
            return;
        }
        // The handler may have closed another session, which uses the same scratch buffer.
        replies.clear();
        if let Err(error) = session.connection.accept(request, &upgrade, replies) {
            log::error!(
                "answered the opening handshake of {} with 500: the handler made the 101 response invalid: {error}",
                session.peer
            );
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
        self.set_idle_deadline(slot, Deadline::Quiet);
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

    fn log_declined(
        &mut self,
        slot: usize,
        request: &Request,
        response: &HttpResponse,
        level: log::Level,
    ) {
        let (session, now) = (&self.sessions[slot], self.now);
        self.session_log
            .declined(session, request, response, level, now);
    }

    /// Refuses the connection, unless the handler has terminated it meanwhile.
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

    /// Called when the peer's Close arrives. If the peer has begun the closing handshake, `replies` has our Close.
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

    /// Called when a message that the fast path (`Connection::receive_whole`) has consumed violates the protocol.
    /// Generates the Close, which the fast path does not.
    #[cold]
    pub(super) fn fail_protocol(&mut self, slot: usize, error: ProtocolError) {
        self.replies.clear();
        let connection = &mut self.sessions[slot].connection;
        let error = connection.fail(error, &mut self.replies);
        self.violation(slot, error);
    }

    /// Called when the peer has violated the protocol. `replies` has the Close or the HTTP response that answers it,
    /// and is empty if our Close was sent before.
    pub(super) fn violation(&mut self, slot: usize, error: ProtocolError) {
        let code = error.close_code().unwrap_or(CODE_ABNORMAL);
        let reason = error.to_string();
        let error = Some(Error::Protocol(error));
        if self.sessions[slot].kind != Kind::Opened {
            self.stats.count_refusal(Refusal::Protocol);
        }
        // The violation replaces the ending that was recorded if we had begun to close.
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

    /// Called at the peer's end of stream. Unsent bytes of an opened or finishing session are still sent, because the
    /// peer may still read.
    pub(super) fn end_of_stream(&mut self, slot: usize) {
        let ending = Ending::abnormal(Side::Peer, None);
        match self.sessions[slot].phase {
            Phase::Live if self.sessions[slot].kind == Kind::Opened => {
                // No message can be completed any more. The memory of an incomplete one is released now, because
                // sending the unsent bytes may take as long as the write timeout.
                self.sessions[slot].connection.abandon();
                self.replies.clear();
                self.finish(slot, ending);
            }
            Phase::Finishing => {}
            Phase::Prologue | Phase::Live | Phase::Draining => self.end_now(slot, ending),
            Phase::Dead => {}
        }
    }
}

/// Counts and logs a message that is passed to the handler.
#[inline]
pub(super) fn count_message(session: &mut Session, stats: &mut Stats, message: Message<'_>) {
    session.messages_in += 1;
    stats.messages_in += 1;
    log::debug!(
        "received from {}: {} message of {} bytes",
        session.peer,
        if message.is_text() { "text" } else { "binary" },
        message.len()
    );
}

/// RFC 9110 section 15.5.20: the status of a request for a host that is not served.
const MISDIRECTED: u16 = 421;
