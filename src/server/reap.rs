//! The reap phase: deregisters the sessions that have ended, calls `on_close`, and frees their slots.
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

    /// Reports to the log and to the handler how the session ended. Has no effect if the end was reported before, in a
    /// turn in which the handler panicked.
    fn report(&mut self, id: Id, handler: &mut impl Handler) {
        let Self {
            sessions,
            paths,
            session_log,
            now,
            ..
        } = self;
        let session = &mut sessions[id.slot as usize];
        debug_assert!(session.phase == Phase::Dead);
        let kind = session.kind;
        if kind == Kind::Reported {
            return;
        }
        let ending = &mut session.extra_mut().ending;
        let ending = ending.get_or_insert_with(|| Ending::abnormal(Side::Us, None));
        let mut ending = mem::replace(ending, Ending::abnormal(Side::Us, None));
        let path = session.path.map(|key| paths.path(key));
        session_log.ended(session, path, &ending, *now);
        if let Some(error) = ending.error.take() {
            handler.on_error(&mut Context::new(self), Some(id), &error);
        }
        self.set_kind(id.slot as usize, Kind::Reported);
        if kind == Kind::Opened {
            self.stats.count_close(ending.code);
            handler.on_close(&mut Context::new(self), id, &ending.close());
        }
    }
}
