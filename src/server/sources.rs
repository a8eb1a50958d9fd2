//! The event sources of handlers: calls the handler for each source that the poll has reported as ready, at the start of
//! a turn.

use crate::context::Context;
use crate::engine::Engine;
use crate::handler::Handler;

impl Engine {
    /// Calls the handler for each source that the poll has reported.
    pub(super) fn call_ready_sources(&mut self, handler: &mut impl Handler) {
        while let Some((owner, ready)) = self.sources.next_ready() {
            let mut cx = Context::new(self);
            let mut cx = cx.scoped(owner.scope);
            match owner.session {
                None => handler.on_source(&mut cx, owner.key, ready),
                Some(id) if cx.has_events(id) => {
                    handler.on_session_source(&mut cx, id, owner.key, ready);
                }
                Some(_) => {}
            }
        }
    }
}
