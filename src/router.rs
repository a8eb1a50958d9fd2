//! From request paths to handlers.

use crate::context::Context;
use crate::error::{Close, Error};
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use std::fmt;
use std::ops::Range;

/// Several handlers behind one server, each for its request paths.
///
/// A pattern is a path, or a path whose last segment is `*`: `/chat/*` matches `/chat/` and everything below,
/// not `/chat`; `/*` matches everything. A path that matches several is served by the exact one, else by the
/// longest. The query is no part of the path. What matches nothing is answered 404.
///
/// ```
/// use wsloop::handlers::{Broadcast, Echo};
/// use wsloop::Router;
///
/// let router = Router::new().route("/chat", Broadcast).route("/*", Echo::new());
/// # let _ = router;
/// ```
///
/// Timers come back to the handler that set them. Topics are shared: a handler may publish to another's. A handler may be a
/// router itself. [`on_source`](Handler::on_source) is called for all routes.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// Which route serves the session in each slot.
    sessions: Vec<Served>,
    /// Empty: all are allowed.
    origins: Vec<String>,
    watches: Vec<(usize, Watch)>,
}

/// What is called when a source of the host's is ready.
type Watch = Box<dyn FnMut(&mut Context<'_>) + Send>;

struct Route {
    pattern: Pattern,
    handler: Box<dyn Handler + Send>,
    /// The scopes of this route's timers: its own, which is the first, and those of routers inside its handler. Empty
    /// before the start.
    scopes: Range<u32>,
}

/// A session that a route serves. The low bits of its number tell it from an earlier one in the same slot, of which only an
/// error before its request can be reported; in 4 bytes, because each session has one.
#[derive(Clone, Copy, Debug)]
struct Served {
    number: u16,
    route: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// Everything that begins so; ends in a slash.
    Below(String),
}

impl Router {
    /// No routes: everything is 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    ///
    /// # Panics
    /// If `pattern` does not begin with a slash, has a `*` elsewhere than as its last segment, or was added
    /// before.
    #[must_use]
    pub fn route(self, pattern: &str, handler: impl Handler + Send + 'static) -> Self {
        self.route_boxed(pattern, Box::new(handler))
    }

    /// Apart from `route`, so that there is one copy of it and not one for each type of handler.
    fn route_boxed(mut self, pattern: &str, handler: Box<dyn Handler + Send>) -> Self {
        let pattern = Pattern::parse(pattern);
        assert!(
            self.routes.iter().all(|route| route.pattern != pattern),
            "route {pattern:?} was added before"
        );
        assert!(
            self.routes.len() < usize::from(u16::MAX),
            "65 535 routes at most"
        );
        self.routes.push(Route {
            pattern,
            handler,
            scopes: 0..0,
        });
        self
    }

    /// Lets in only WebSocket clients whose `Origin` (RFC 6454) is `origin`, `scheme://host[:port]`, or another
    /// one allowed so, compared without regard to case. All others, and those without an `Origin`, are refused
    /// with 403. Plain HTTP is not concerned. Without this, all origins are allowed.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }

    /// Calls `ready` when the source that was registered under `key` (`Server::register`) is ready. A timer set
    /// there comes back to no route.
    pub fn watch(&mut self, key: usize, ready: impl FnMut(&mut Context<'_>) + Send + 'static) {
        self.watches.push((key, Box::new(ready)));
    }

    fn allows(&self, request: &Request) -> bool {
        let is_listed = |origin: &str| {
            self.origins
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(origin))
        };
        let mut origins = request.headers().get_all("origin").iter();
        let is_allowed = origins
            .next()
            .is_some_and(|origin| origin.to_str().is_ok_and(is_listed));
        self.origins.is_empty() || is_allowed && origins.next().is_none()
    }

    fn find(&self, path: &str) -> Option<usize> {
        let matching = self
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.pattern.matches(path));
        matching
            .max_by_key(|(_, route)| route.pattern.rank())
            .map(|(index, _)| index)
    }

    /// Records which route serves the session.
    fn serve(&mut self, id: Id, route: usize) {
        let slot = id.slot as usize;
        if self.sessions.len() <= slot {
            if self.sessions.capacity() == 0 {
                self.sessions.reserve(SLOTS_RESERVED);
            }
            self.sessions.resize(slot + 1, NOBODY);
        }
        self.sessions[slot] = Served {
            number: id.number as u16,
            // There are no more routes than that.
            route: route as u16,
        };
    }

    /// The route that serves the session, if it asked for one.
    fn served(&self, id: Id) -> Option<usize> {
        let served = self.sessions.get(id.slot as usize)?;
        let is_served = served.number == id.number as u16 && served.route != NOBODY.route;
        is_served.then_some(usize::from(served.route))
    }

    /// The handler of a session, and the context in which it acts.
    #[inline]
    fn of<'r, 'c>(
        &'r mut self,
        cx: &'c mut Context<'_>,
        id: Id,
    ) -> (&'r mut dyn Handler, Context<'c>) {
        let served = self.sessions.get(id.slot as usize);
        let served = served.filter(|served| served.number == id.number as u16);
        // The route of `NOBODY` is out of bounds.
        let route = served.and_then(|served| self.routes.get_mut(usize::from(served.route)));
        let route = route.expect("its upgrade or request came first");
        (&mut *route.handler, cx.scoped(route.scopes.start))
    }
}

/// Slots for which memory is reserved with the first session: 160 KB, of which no page is resident before its slot is used.
/// Smaller vectors, which growing leaves behind, stay in the caches of allocators.
const SLOTS_RESERVED: usize = 40 * 1024;

/// In a slot whose sessions have asked for nothing.
const NOBODY: Served = Served {
    number: 0,
    route: u16::MAX,
};

impl Pattern {
    fn parse(pattern: &str) -> Self {
        assert!(
            pattern.starts_with('/'),
            "route {pattern:?} must begin with a slash"
        );
        let (parsed, rest) = match pattern.strip_suffix("/*") {
            Some(above) => (Self::Below(format!("{above}/")), above),
            None => (Self::Exact(pattern.to_owned()), pattern),
        };
        assert!(
            !rest.contains('*'),
            "route {pattern:?} may have a * only as its last segment"
        );
        parsed
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    /// The exact one before the longest.
    fn rank(&self) -> (bool, usize) {
        match self {
            Self::Exact(exact) => (true, exact.len()),
            Self::Below(prefix) => (false, prefix.len()),
        }
    }
}

// An event that is added to the trait and forgotten here would never reach a route.
#[deny(clippy::missing_trait_methods)]
impl Handler for Router {
    fn on_start(&mut self, cx: &mut Context<'_>) {
        for route in &mut self.routes {
            let first = cx.new_scope();
            route.handler.on_start(&mut cx.scoped(first));
            // Scopes are numbered in order: those of routers inside lie between.
            route.scopes = first..cx.new_scope();
        }
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        let index = self.find(request.path()).ok_or_else(not_found)?;
        if !self.allows(request) {
            return Err(HttpResponse::new(403, "this origin is not allowed\n"));
        }
        self.serve(id, index);
        let (handler, mut cx) = self.of(cx, id);
        handler.on_upgrade(&mut cx, id, request, upgrade)
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        let Some(index) = self.find(request.path()) else {
            return not_found();
        };
        self.serve(id, index);
        let (handler, mut cx) = self.of(cx, id);
        handler.on_http(&mut cx, id, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_open(&mut cx, id);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_message(&mut cx, id, message);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_ping(&mut cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_pong(&mut cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_drain(&mut cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_skip(&mut cx, id, topic, messages);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        let (handler, mut cx) = self.of(cx, id);
        handler.on_close(&mut cx, id, close);
    }

    /// A session's goes to its handler, once it has one; a listener's goes to all.
    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        match id {
            Some(id) => {
                if self.served(id).is_some() {
                    let (handler, mut cx) = self.of(cx, id);
                    handler.on_error(&mut cx, Some(id), error);
                }
            }
            None => {
                for route in &mut self.routes {
                    let mut cx = cx.scoped(route.scopes.start);
                    route.handler.on_error(&mut cx, None, error);
                }
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        let scope = cx.scope();
        let mut routes = self.routes.iter_mut();
        if let Some(route) = routes.find(|route| route.scopes.contains(&scope)) {
            route.handler.on_timer(cx, key);
        }
    }

    /// Calls what watches the source, and `on_source` of all routes: a router inside may watch it.
    fn on_source(&mut self, cx: &mut Context<'_>, key: usize) {
        for (_, ready) in self
            .watches
            .iter_mut()
            .filter(|(watched, _)| *watched == key)
        {
            ready(cx);
        }
        for route in &mut self.routes {
            let mut cx = cx.scoped(route.scopes.start);
            route.handler.on_source(&mut cx, key);
        }
    }
}

fn not_found() -> HttpResponse {
    HttpResponse::new(404, "nothing is served at this path\n")
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(|route| &route.pattern))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::Echo;

    fn router(patterns: &[&str]) -> Router {
        patterns.iter().fold(Router::new(), |router, pattern| {
            router.route(pattern, Echo::new())
        })
    }

    #[test]
    fn the_exact_route_wins_then_the_longest() {
        let router = router(&["/*", "/chat/*", "/chat/a", "/chat/a/*"]);
        for (path, index) in [
            ("/", 0),
            ("/x", 0),
            ("/chat", 0),
            ("/chat/", 1),
            ("/chat/b", 1),
            ("/chat/a", 2),
            ("/chat/a/b", 3),
        ] {
            assert_eq!(router.find(path), Some(index), "{path}");
        }
    }

    #[test]
    fn a_path_that_matches_nothing_is_not_found() {
        let router = router(&["/chat", "/news/*"]);
        for path in ["/", "/chat/", "/chatter", "/news", "/Chat"] {
            assert_eq!(router.find(path), None, "{path}");
        }
    }

    #[test]
    #[should_panic(expected = "only as its last segment")]
    fn a_star_in_the_middle_is_a_mistake() {
        drop(router(&["/a/*/b"]));
    }

    #[test]
    #[should_panic(expected = "was added before")]
    fn a_route_is_added_once() {
        drop(router(&["/a", "/a"]));
    }
}
