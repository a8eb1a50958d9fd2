//! The expire phase: deadlines that have passed, and the handler's timers. A turn has one `now`.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::deadlines::{Deadline, Millis};
use crate::engine::session::Ending;
use crate::error::{Error, Limit, Side};
use crate::handler::Handler;
use crate::proto::HttpResponse;
use crate::stats::Refusal;

impl Engine {
    /// Acts on deadlines and timers that are due. What has arrived before a deadline is acted upon counts, however late the
    /// loop is (a process that was stopped, a host that was busy): it is read first, and what the stream takes is written.
    pub(crate) fn expire(&mut self, buf: &mut [u8], handler: &mut impl Handler) {
        for _ in 0..EXPIRED_PER_TURN_MAX {
            let now = self.now as Millis;
            let Some((slot, deadline)) = self.deadlines.first_due(now) else {
                break;
            };
            self.catch_up(slot, buf, handler);
            if self.deadlines.is_due(slot, deadline, now) {
                self.deadlines.clear(slot);
                self.expired(slot, deadline);
            }
        }
        self.session_log.sum_up(self.now);
        while let Some(timer) = self.timers.take_due(self.now) {
            handler.on_timer(&mut Context::new(self).scoped(timer.scope), timer.key);
        }
    }

    /// Does for one session what the other phases have not come to yet.
    fn catch_up(&mut self, slot: usize, buf: &mut [u8], handler: &mut impl Handler) {
        let id = self.id_of(slot);
        self.read_first(slot, buf, handler);
        if self.deadlines.kind(slot) == Some(Deadline::Write)
            && let Some(session) = self.session_mut(id)
        {
            // The stream may accept bytes that the poll has not reported: Linux reports a socket as writable only when a third
            // of its send buffer is free, which is about a megabyte.
            session.is_blocked = false;
            self.flush_session(slot, handler);
        }
    }

    fn expired(&mut self, slot: usize, deadline: Deadline) {
        match deadline {
            Deadline::Handshake => {
                self.stats.count_refusal(Refusal::HandshakeTimeout);
                let response = HttpResponse::new(408, "the request did not arrive in time\n");
                let error = Some(Error::Limit(Limit::HandshakeTimeout));
                self.refuse(slot, &response, false, error);
            }
            Deadline::Quiet => {
                self.deadlines.set(slot, Deadline::Idle, self.now as Millis);
                if self.config.auto_ping {
                    self.ping_slot(slot, &[]);
                }
            }
            Deadline::Idle => {
                if self.sessions[slot].is_open() {
                    let error = Some(Error::Limit(Limit::IdleTimeout));
                    self.close_slot(slot, 1001, "nothing arrived for too long", error);
                }
            }
            Deadline::Write => self.kill_stalled(slot),
            Deadline::Close => {
                let ending = Ending::abnormal(Side::Us, None);
                self.kill(slot, ending);
            }
        }
    }
}

/// Deadlines that one turn acts on: some milliseconds of work, if each session has a request to be read first.
const EXPIRED_PER_TURN_MAX: usize = 256;
