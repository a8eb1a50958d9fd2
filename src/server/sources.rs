//! The event sources of handlers: calls the handler for each source that the poll has reported as ready, at the start of
//! a turn.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::sources::{Owner, Ready};
use crate::handler::{Handler, with_innermost};

impl Engine {
    /// Calls the handler for each source that the poll has reported.
    pub(super) fn call_ready_sources(&mut self, handler: &mut impl Handler) {
        while let Some((owner, ready)) = self.sources.next_ready() {
            #[cfg(feature = "backplane")]
            if owner == crate::backplane::OWNER {
                self.backplane_is_ready(ready);
                continue;
            }
            let mut cx = Context::new(self);
            let mut cx = cx.scoped(owner.scope);
            // Without an inner handler, which most programs have, this is a direct call.
            let inner = match owner.scope {
                0 => None,
                _ => handler.inner(),
            };
            match inner {
                Some(inner) => with_innermost(inner, &mut |inner| {
                    call_source(inner, &mut cx, &owner, ready);
                }),
                None => call_source(handler, &mut cx, &owner, ready),
            }
        }
    }
}

/// Calls the handler for a source that is ready.
fn call_source<H: Handler + ?Sized>(
    handler: &mut H,
    cx: &mut Context<'_>,
    owner: &Owner,
    ready: Ready,
) {
    match owner.session {
        None => handler.on_source(cx, owner.key, ready),
        Some(id) if cx.has_events(id) => handler.on_session_source(cx, id, owner.key, ready),
        Some(_) => {}
    }
}
