//! The event sources of handlers: calls the handler for each source that the poll has reported as ready, at the start of
//! a turn.

use crate::context::Context;
use crate::engine::Engine;
use crate::handler::{Handler, with_innermost};

impl Engine {
    /// Calls the handler for each source that the poll has reported.
    pub(super) fn call_ready_sources(&mut self, handler: &mut impl Handler) {
        while let Some((owner, ready)) = self.sources.next_ready() {
            let mut cx = Context::new(self);
            let mut cx = cx.scoped(owner.scope);
            let mut call = |handler: &mut dyn Handler| match owner.session {
                None => handler.on_source(&mut cx, owner.key, ready),
                Some(id) if cx.has_events(id) => {
                    handler.on_session_source(&mut cx, id, owner.key, ready);
                }
                Some(_) => {}
            };
            match owner.scope {
                0 => call(handler),
                _ => with_innermost(handler, &mut call),
            }
        }
    }
}
