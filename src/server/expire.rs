//! The expire phase: acts on deadlines that have passed, and calls the handler for timers that are due.
//!
//! A deadline or timer is due if its time is not later than the start of the turn. A timer that is set during a turn
//! is not due in that turn. Due timers are called in the order of their times.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::deadlines::{Deadline, Millis};
use crate::engine::session::{Ending, extra_of};
use crate::error::{Error, Limit, Side};
use crate::handler::{Handler, with_innermost};
use crate::id::Id;
use crate::proto::HttpResponse;
use crate::stats::Refusal;

impl Engine {
    /// Acts on deadlines and timers that are due.
    ///
    /// Before a deadline takes effect, the session's input is read. If the write deadline is set then, unsent bytes
    /// are written as far as the stream accepts them. So a session whose peer has met the deadline does not end
    /// because the loop is late, for example after the process was suspended.
    pub(crate) fn expire(&mut self, buf: &mut [u8], handler: &mut impl Handler) {
        for _ in 0..EXPIRED_PER_TURN_MAX {
            let now = self.now as Millis;
            let Some((slot, deadline)) = self.deadlines.first_due(now) else {
                break;
            };
            self.read_and_write_pending(slot, buf, handler);
            if self.deadlines.is_due(slot, deadline, now) {
                self.deadlines.clear(slot);
                self.expired(slot, deadline);
            }
        }
        self.session_log.report_if_due(self.now);
        while let Some((call, due)) = self.timers.first_due(self.now) {
            let extra = extra_of(&mut self.sessions, call.session);
            let first = extra.map(|extra| &mut extra.first_timer);
            self.timers.take(due, self.now, first);
            let mut cx = Context::new(self);
            let mut cx = cx.scoped(call.scope);
            // Without an inner handler, which most programs have, this is a direct call.
            let inner = match call.scope {
                0 => None,
                _ => handler.inner(),
            };
            match inner {
                Some(inner) => with_innermost(inner, &mut |inner| {
                    call_timer(inner, &mut cx, call.session, call.key);
                }),
                None => call_timer(handler, &mut cx, call.session, call.key),
            }
        }
    }

    /// Reads and processes a session's input, and writes its unsent bytes if the write deadline is set, in case the
    /// other phases have not reached this session.
    fn read_and_write_pending(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) {
        let id = self.id_of(slot);
        self.read_first(slot, buf, handler);
        if self.deadlines.kind(slot) == Some(Deadline::Write)
            && let Some(session) = self.session_mut(id)
        {
            // The stream may accept bytes although the poll has not reported it: Linux reports a socket as writable
            // only when a third of its send buffer is free, about a megabyte.
            session.is_blocked = false;
            self.flush_session(slot, handler);
        }
    }

    /// Acts on a deadline that has passed.
    fn expired(&mut self, slot: usize, deadline: Deadline) {
        match deadline {
            Deadline::Handshake => {
                self.stats.count_refusal(Refusal::HandshakeTimeout);
                #[cfg(feature = "tls")]
                if self.sessions[slot]
                    .stream
                    .tls()
                    .is_some_and(|tls| !tls.can_send())
                {
                    self.stats.tls.count(crate::tls::Failure::Timeout);
                }
                let error = Some(Error::Limit(Limit::HandshakeTimeout));
                if self.has_request_begun(slot) {
                    let response = HttpResponse::new(408, "the request did not arrive in time\n");
                    self.refuse(slot, &response, false, error);
                } else {
                    self.end_now(slot, Ending::abnormal(Side::Us, error));
                }
            }
            Deadline::Quiet => {
                let next = if self.sessions[slot].is_paused() {
                    Deadline::Quiet
                } else {
                    Deadline::Idle
                };
                self.set_idle_deadline(slot, next);
                if self.config.ping_interval.is_some() {
                    self.ping_slot(slot, &[]);
                }
            }
            // The peer may have sent something that is not read.
            Deadline::Idle if self.sessions[slot].is_paused() => {
                self.set_idle_deadline(slot, Deadline::Quiet);
            }
            // There is no idle timeout: only pings have an interval.
            Deadline::Idle if self.idle_timeout(slot).is_none() => {
                self.set_idle_deadline(slot, Deadline::Idle);
                self.ping_slot(slot, &[]);
            }
            Deadline::Idle => {
                if self.sessions[slot].is_open() {
                    let error = Some(Error::Limit(Limit::IdleTimeout));
                    self.close_slot(slot, 1001, "nothing arrived for too long", error);
                }
            }
            Deadline::Write => self.end_stalled(slot),
            Deadline::Close => {
                let ending = Ending::abnormal(Side::Us, None);
                self.end_now(slot, ending);
            }
        }
    }
}

/// Calls the handler for a timer that is due.
fn call_timer<H: Handler + ?Sized>(
    handler: &mut H,
    cx: &mut Context<'_>,
    session: Option<Id>,
    key: u64,
) {
    match session {
        None => handler.on_timer(cx, key),
        Some(id) if cx.has_events(id) => handler.on_session_timer(cx, id, key),
        Some(_) => {}
    }
}

/// Maximum deadlines that one turn acts on: some milliseconds of work if each session has a request to be read first.
const EXPIRED_PER_TURN_MAX: usize = 256;
