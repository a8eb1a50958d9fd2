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
        // A timer that sets another for now waits a turn, so that a handler cannot hold the loop.
        for _ in 0..TIMERS_PER_TURN {
            let Some(timer) = self.take_due_timer() else {
                return;
            };
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
                    Ending::abnormal(Side::Peer, Some(Error::Limit("write_timeout"))),
                );
            }
            Deadline::Close => self.kill(slot, Ending::abnormal(Side::Peer, None)),
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

/// Timers of the handler that one turn serves.
const TIMERS_PER_TURN: usize = 1024;
