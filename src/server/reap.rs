//! The reap phase: the only place where a session is deregistered, its slot freed and `on_close` called.

use super::engine::{Engine, KEPT};
use super::session::{Ending, Phase, Stream};
use crate::handler::{Context, Handler, Id, Side};

impl<S: Stream> Engine<S> {
    /// Frees every session that has ended; `deregister` takes its stream out of the poll. How many there were.
    pub(crate) fn reap(
        &mut self,
        handler: &mut impl Handler,
        mut deregister: impl FnMut(&mut S),
    ) -> usize {
        let mut reaped = 0;
        while let Some(id) = self.reap_queue.pop() {
            let slot = id.slot as usize;
            self.report(id, handler);
            let Self {
                sessions,
                topics,
                buffers,
                ..
            } = self;
            let mut session = sessions.remove(slot);
            session.outbound.clear(topics, buffers);
            deregister(&mut session.stream);
            self.deadlines.clear(slot);
            self.refusals -= usize::from(session.is_refusal);
            if let Some(path) = session.path {
                self.paths.release(path);
            }
            reaped += 1;
        }
        if reaped > 0 {
            self.topics.trim(&mut self.buffers);
            self.give_back();
        }
        // Also if the last topic was trimmed only now, in a turn without an end.
        if self.sessions.is_empty() {
            self.buffers.release();
        }
        reaped
    }

    /// Tells the log and the handler how the session ended.
    fn report(&mut self, id: Id, handler: &mut impl Handler) {
        let Self {
            sessions,
            paths,
            journal,
            now,
            ..
        } = self;
        let session = &mut sessions[id.slot as usize];
        debug_assert!(session.phase == Phase::Dead);
        let noted = session.extra.as_mut().and_then(|extra| extra.ending.take());
        let mut ending = noted.unwrap_or_else(|| Ending::abnormal(Side::Us, None));
        let path = session.path.map(|key| &**paths.path(key));
        journal.ended(session, path, &ending, *now);
        let was_opened = session.was_opened;
        if let Some(error) = ending.error.take() {
            handler.on_error(&mut Context::new(self), Some(id), &error);
        }
        if was_opened {
            self.open -= 1;
            self.stats.count_close(ending.code);
            handler.on_close(&mut Context::new(self), id, &ending.close());
        }
    }

    /// Gives memory back after a burst of sessions.
    fn give_back(&mut self) {
        let capacity = self.sessions.capacity();
        if capacity > KEPT && self.sessions.len() < capacity / 4 {
            self.sessions.shrink_to_fit();
            self.sessions
                .reserve(KEPT.saturating_sub(self.sessions.len()));
            self.deadlines.shrink_to(self.sessions.capacity());
            self.read_queue.shrink_to(KEPT);
            self.reap_queue.shrink_to(KEPT);
        }
    }
}
