//! The reap phase: for each session that has ended, calls `on_error` and `on_close`, frees the slot, and removes the
//! stream from the poll.
//!
//! No other phase frees a slot, so a slot that a phase has checked stays valid until the phase is over.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::session::{Ending, Kind, Phase};
use crate::error::Side;
use crate::handler::Handler;
use crate::id::Id;
use crate::stream::Stream;
use std::mem;

impl Engine {
    /// Reports and frees every session that has ended, including those that a handler ends meanwhile. `deregister`
    /// removes a stream from the poll. Returns the number of sessions.
    pub(crate) fn reap(
        &mut self,
        handler: &mut impl Handler,
        mut deregister: impl FnMut(&mut Stream),
    ) -> usize {
        let mut reaped = 0;
        // The entry is popped last. If the handler panics, the session is freed in the next turn.
        while let Some(&id) = self.reap_queue.front() {
            self.report(id, handler);
            let mut stream = self.remove(id.slot as usize);
            deregister(&mut stream);
            self.reap_queue.pop_front();
            reaped += 1;
        }
        if reaped > 0 {
            self.topics.trim(&mut self.buffers);
            self.shrink();
        }
        // Even if nothing was reaped in this turn: the last topic may have been trimmed in it.
        if self.sessions.is_empty() {
            self.buffers.release();
        }
        reaped
    }

    /// Reports to the log and to the handler how the session ended, once. If the handler panics, the next call
    /// reports what was not reported yet.
    fn report(&mut self, id: Id, handler: &mut impl Handler) {
        let slot = id.slot as usize;
        match self.sessions[slot].kind {
            Kind::Opened => self.report_error(id, Kind::Ended, handler),
            Kind::Requesting | Kind::Answered | Kind::Surplus => {
                self.report_error(id, Kind::Reported, handler);
            }
            Kind::Ended | Kind::Reported => {}
        }
        let session = &mut self.sessions[slot];
        if session.kind == Kind::Ended {
            let ending = session.ending_mut();
            let ending = mem::replace(ending, Ending::abnormal(Side::Us, None));
            self.set_kind(slot, Kind::Reported);
            self.stats.count_close(ending.code);
            handler.on_close(&mut Context::new(self), id, &ending.close());
        }
    }

    /// Logs how the session ended, and reports the error if there was one. The session's kind is `next` from then on.
    fn report_error(&mut self, id: Id, next: Kind, handler: &mut impl Handler) {
        let slot = id.slot as usize;
        let Self {
            sessions,
            paths,
            session_log,
            now,
            ..
        } = self;
        let session = &mut sessions[slot];
        debug_assert!(session.phase == Phase::Dead);
        let path = session.path.map(|key| paths.path(key));
        let ending = session.ending_mut();
        let mut ending = mem::replace(ending, Ending::abnormal(Side::Us, None));
        session_log.ended(session, path, &ending, *now);
        let error = ending.error.take();
        *session.ending_mut() = ending;
        self.set_kind(slot, next);
        if let Some(error) = error {
            handler.on_error(&mut Context::new(self), Some(id), &error);
        }
    }
}
