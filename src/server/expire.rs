//! The expire phase: deadlines that are due, and the handler's timers. One `now` a turn.

use super::deadlines::{Deadline, Millis};
use super::engine::Engine;
use super::session::{Ending, Phase, Stream};
use crate::handler::{Context, Error, Handler, Side};
use crate::proto::{HttpResponse, Stage};

impl<S: Stream> Engine<S> {
    /// Acts on every deadline and timer that is due.
    pub(crate) fn expire(&mut self, handler: &mut impl Handler) {
        while let Some((slot, deadline)) = self.deadlines.take_due(self.now as Millis) {
            self.expired(slot, deadline);
        }
        self.session_log.sum_up(self.now);
        // A timer that is set for now meanwhile waits a turn, so that a handler cannot hold the loop.
        let sequence_end = self.timer_sequence();
        while let Some(timer) = self.take_due_timer(sequence_end) {
            handler.on_timer(&mut Context::new(self), timer.key);
        }
    }

    fn expired(&mut self, slot: usize, deadline: Deadline) {
        match deadline {
            Deadline::Handshake => {
                let response = HttpResponse::new(408, "the request did not arrive in time\n");
                self.refuse(
                    slot,
                    &response,
                    false,
                    Some(Error::Limit("handshake_timeout")),
                );
            }
            Deadline::Quiet => {
                self.deadlines.set(slot, Deadline::Idle, self.now as Millis);
                if self.config.auto_ping {
                    self.ping_slot(slot, &[]);
                }
            }
            Deadline::Idle => self.idle(slot),
            Deadline::Write => {
                self.kill(
                    slot,
                    Ending::abnormal(Side::Us, Some(Error::Limit("write_timeout"))),
                );
            }
            Deadline::Close => self.kill(slot, Ending::abnormal(Side::Us, None)),
        }
    }

    fn idle(&mut self, slot: usize) {
        let session = &self.sessions[slot];
        if session.phase == Phase::Live && session.connection.stage() == Stage::Open {
            self.close_slot(
                slot,
                1001,
                "nothing arrived for too long",
                Some(Error::Limit("idle_timeout")),
            );
        }
    }
}
