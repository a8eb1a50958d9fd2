//! [`Router`]: dispatches sessions to handlers by the path of the request.

mod access;

use crate::config::SessionLimits;
use crate::context::Context;
use crate::engine::sources::Ready;
use crate::error::{Close, Error};
use crate::handler::{Handler, with_innermost};
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use access::Access;
use std::any::Any;
use std::fmt;

/// A handler that combines several handlers, each for the request paths that match its pattern.
///
/// A pattern is a path, or a path whose last segment is `*`. `/chat/*` matches `/chat/` and every path below it, but
/// not `/chat`; `/*` matches every path. If a path matches several patterns, an exact one takes precedence, then the
/// longest. The query is not part of the path. A request that matches no pattern is answered with 404.
///
/// ```
/// use wsloop::handlers::{Broadcast, Echo};
/// use wsloop::Router;
///
/// let router = Router::new().route("/chat", Broadcast).route("/*", Echo::new());
/// # let _ = router;
/// ```
///
/// `on_timer` and `on_source` are called for the handler that has set the timer or registered the source. A timer or
/// source of the embedding program ([`Server::with_context`](crate::Server::with_context)) belongs to no route. To
/// handle it, wrap the router in a handler of your own ([`Handler::inner`]), as in
/// [`guide::embedding`](crate::guide::embedding). All handlers share the same topics. A handler may itself be a router.
///
/// The handlers of [`Router::new`] can share state of their thread in an `Rc`. A server that is created on one thread
/// and run on another needs [`Router::sendable`].
pub struct Router<R: ?Sized = dyn RouteHandler> {
    routes: Vec<Route<R>>,
    /// The route of the session in each slot.
    sessions: Vec<SessionRoute>,
    access: Access,
}

/// A handler of a [`Router`]: every [`Handler`] without borrowed data.
pub trait RouteHandler: Handler + Any {
    #[doc(hidden)]
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<H: Handler + Any> RouteHandler for H {
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

struct Route<R: ?Sized> {
    pattern: Pattern,
    handler: Box<R>,
    limits: SessionLimits,
    /// The scope of this route's timers and sources, 0 before its first use. The scopes of the routes of a router
    /// inside the route's handler are within this scope.
    scope: u32,
}

impl<R: RouteHandler + ?Sized> Route<R> {
    /// Returns the route's scope, which is created by the first call. `cx` is the router's context.
    fn scope(&mut self, cx: &mut Context<'_>) -> u32 {
        if self.scope == 0 {
            self.scope = cx.new_scope();
        }
        self.scope
    }

    /// Passes an event to the handler to which its timer or source belongs. `cx` has the scope of the timer or source. In
    /// this route's scope, that is the route's handler, which `own` calls. Within this scope, it is a route of the router
    /// inside that handler; `inner` calls the router.
    fn call_in_scope(
        &mut self,
        cx: &mut Context<'_>,
        own: impl FnOnce(&mut R, &mut Context<'_>),
        inner: &mut dyn FnMut(&mut dyn Handler, &mut Context<'_>),
    ) {
        if cx.scope() == self.scope {
            return own(&mut self.handler, cx);
        }
        if !cx.is_within(self.scope) {
            log::warn!(
                "a timer or source of a session was set outside of all routes, and no handler around the router has \
                 an event for it: ignored"
            );
            return;
        }
        match self.handler.inner() {
            Some(handler) => with_innermost(handler, &mut |handler| inner(handler, cx)),
            // The route's handler is the router.
            None => own(&mut self.handler, cx),
        }
    }
}

/// The route of a session, in 4 bytes because each session has one. `number` is the low 16 bits of the session's
/// number. They distinguish it from an earlier session in the same slot whose entry is still there. 16 bits suffice:
/// only a session that fails before its request arrives has no entry of its own, and only `on_error` is called for such
/// a session.
#[derive(Clone, Copy, Debug)]
struct SessionRoute {
    number: u16,
    route: u16,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// Every path with this prefix, which ends in a slash.
    Below(String),
}

impl Router {
    /// Returns a router without routes, which answers every request with 404. Its handlers need not be `Send`.
    pub fn new() -> Self {
        Self::empty()
    }

    /// Adds a route: `handler` serves the requests whose path matches `pattern`.
    ///
    /// # Panics
    /// If `pattern` does not begin with a slash, has a `*` elsewhere than as its last segment, or was added before, or
    /// if the router has 65 535 routes.
    #[must_use]
    pub fn route(self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.route_boxed(pattern, SessionLimits::default(), Box::new(handler))
    }

    /// Adds a route as [`route`](Self::route) does, with limits for its sessions that replace those of
    /// [`Config`](crate::Config). The handler can replace them by others ([`Context::set_limits`]).
    ///
    /// A client is answered with 500 if the server has 15 other [`SessionLimits`] already when the client connects.
    ///
    /// ```
    /// use wsloop::handlers::{Broadcast, Echo};
    /// use wsloop::testing::{Harness, Received};
    /// use wsloop::{Config, LagPolicy, Router, SessionLimits};
    ///
    /// let upload = SessionLimits { message_bytes_max: Some(64 << 20), ..SessionLimits::default() };
    /// let prices = SessionLimits { lag_policy: Some(LagPolicy::Skip), idle_timeout: Some(None), ..Default::default() };
    /// let router = Router::new()
    ///     .route("/chat", Broadcast)
    ///     .route_with("/upload", upload, Echo::new())
    ///     .route_with("/prices", prices, Broadcast);
    /// let mut harness = Harness::new(Config { message_bytes_max: 10, ..Config::default() }, router);
    /// let (chat, upload) = (harness.connect("/chat"), harness.connect("/upload"));
    /// for id in [chat, upload] {
    ///     harness.send(id, "longer than ten");
    /// }
    /// assert!(matches!(harness.received(chat)[0], Received::Close(1009, _)));
    /// assert_eq!(harness.received(upload), [Received::Text("longer than ten".into())]);
    /// ```
    ///
    /// # Panics
    /// As [`route`](Self::route), or if a limit is out of range.
    #[must_use]
    pub fn route_with(
        self,
        pattern: &str,
        limits: SessionLimits,
        handler: impl Handler + 'static,
    ) -> Self {
        self.route_boxed(pattern, limits, Box::new(handler))
    }
}

impl Router<dyn RouteHandler + Send> {
    /// Returns a router without routes, as [`Router::new`] does, whose handlers must be `Send`. So the server can be
    /// sent to another thread before it runs.
    ///
    /// ```
    /// use std::thread;
    /// use wsloop::{Config, Router, Server, handlers::Echo};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Router::sendable().route("/echo", Echo::new()))?;
    /// # server.handle().stop().unwrap();
    /// thread::spawn(move || server.run()).join().unwrap()
    /// # }
    /// ```
    pub fn sendable() -> Self {
        Self::empty()
    }

    /// Adds a route: `handler` serves the requests whose path matches `pattern`.
    ///
    /// # Panics
    /// As the method of the same name of a router whose handlers need not be `Send`.
    #[must_use]
    pub fn route(self, pattern: &str, handler: impl Handler + Send + 'static) -> Self {
        self.route_boxed(pattern, SessionLimits::default(), Box::new(handler))
    }

    /// Adds a route with limits for its sessions.
    ///
    /// # Panics
    /// As the method of the same name of a router whose handlers need not be `Send`.
    #[must_use]
    pub fn route_with(
        self,
        pattern: &str,
        limits: SessionLimits,
        handler: impl Handler + Send + 'static,
    ) -> Self {
        self.route_boxed(pattern, limits, Box::new(handler))
    }
}

impl<R: RouteHandler + ?Sized> Router<R> {
    fn empty() -> Self {
        Self {
            routes: Vec::new(),
            sessions: Vec::new(),
            access: Access::default(),
        }
    }

    /// Implements `route` without the type of the handler, so that the code exists once and not for each type.
    fn route_boxed(mut self, pattern: &str, limits: SessionLimits, handler: Box<R>) -> Self {
        let pattern = Pattern::parse(pattern);
        if let Err(error) = limits.check() {
            panic!("route {pattern:?}: {error}");
        }
        assert!(
            self.routes.iter().all(|route| route.pattern != pattern),
            "route {pattern:?} was added before"
        );
        assert!(
            self.routes.len() < usize::from(u16::MAX),
            "a router has at most 65 535 routes"
        );
        self.routes.push(Route {
            pattern,
            handler,
            limits,
            scope: 0,
        });
        self
    }

    /// Allows WebSocket clients whose `Origin` (RFC 6454) is `origin`: `scheme://host[:port]`, compared without regard
    /// to case. Can be called for several origins.
    ///
    /// By default, all origins are allowed. After a call of this method, [`allow_no_origin`](Self::allow_no_origin) or
    /// [`allow_origins_of_hosts`](Self::allow_origins_of_hosts), all opening handshakes that none of the calls allows
    /// are refused with 403. Plain HTTP requests are not checked.
    ///
    /// # Panics
    /// If `origin` has a `*`, which is no wildcard here.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.access.allow_origin(origin);
        self
    }

    /// Allows WebSocket clients that send no `Origin`, which most programs do not. Browsers always send one. Other
    /// origins are then refused, as after [`allow_origin`](Self::allow_origin).
    ///
    /// ```
    /// use wsloop::handlers::Echo;
    /// use wsloop::testing::{Harness, opening};
    /// use wsloop::{Config, Router};
    ///
    /// let router = Router::new()
    ///     .route("/echo", Echo::new())
    ///     .allow_origin("https://example.org")
    ///     .allow_no_origin();
    /// let mut harness = Harness::new(Config::default(), router);
    /// assert!(harness.open(opening("/echo")).is_ok());
    /// let page = opening("/echo").with_header("origin", "https://example.com").unwrap();
    /// assert_eq!(harness.open(page).unwrap_err().status(), 403);
    /// ```
    #[must_use]
    pub fn allow_no_origin(mut self) -> Self {
        self.access.allow_no_origin();
        self
    }

    /// Allows WebSocket clients whose `Origin` has a host that was passed to [`allow_host`](Self::allow_host), with any
    /// scheme. Other origins are then refused, as after [`allow_origin`](Self::allow_origin); without a call of
    /// `allow_host`, all origins are.
    ///
    /// The scheme is not checked: a website cannot have another one than http and https, and apps with embedded pages have schemes of their
    /// own: Tauri sends `tauri://localhost`, Capacitor `capacitor://localhost`.
    #[must_use]
    pub fn allow_origins_of_hosts(mut self) -> Self {
        self.access.allow_origins_of_hosts();
        self
    }

    /// Allows requests for `host`: a name or an IP address (IPv6 in brackets), compared without regard to case. With a
    /// port, as in `localhost:8080`, only requests for that port. Can be called for several hosts.
    ///
    /// Once a host is allowed, all requests for other hosts, plain HTTP and opening handshakes, are answered with 421
    /// (RFC 9110 section 15.5.20). By default, all hosts are allowed.
    ///
    /// Call this method for a server that trusts every client that can reach its address, such as a server on
    /// 127.0.0.1. By DNS rebinding, a website gives its own name the address of the server, so that a browser lets the
    /// website's pages read the server's responses. Those requests have the website's name as their `Host`. This method
    /// does not refuse opening handshakes that pages of other websites send to the server's own name: their `Host` is
    /// the server's, and only their `Origin` differs.
    ///
    /// ```
    /// use wsloop::page::Page;
    /// use wsloop::Router;
    ///
    /// let router = Router::new()
    ///     .route("/", Page::new())
    ///     .allow_host("localhost")
    ///     .allow_host("127.0.0.1")
    ///     .allow_host("[::1]")
    ///     .allow_origins_of_hosts()
    ///     .allow_no_origin();
    /// # let _ = router;
    /// ```
    ///
    /// # Panics
    /// If `host` is not a name or an IP address with an optional port, or has a `*`, which is no wildcard here.
    #[must_use]
    pub fn allow_host(mut self, host: &str) -> Self {
        self.access.allow_host(host);
        self
    }

    /// Allows a subprotocol; call it once for each. From the first call on, the router selects for each session the first
    /// subprotocol that the client offers and that is allowed, unless the route's handler has selected another allowed
    /// one. A client that offers none of them is accepted without a subprotocol; browsers then end the connection.
    ///
    /// Without allowed subprotocols, the route's handler selects: [`Echo`](crate::handlers::Echo),
    /// [`Broadcast`](crate::handlers::Broadcast) and [`Reply`](crate::handlers::Reply) select the first that the client
    /// offers, other handlers none unless they call [`Upgrade::select_subprotocol`].
    ///
    /// ```
    /// use wsloop::Router;
    /// use wsloop::handlers::Echo;
    ///
    /// let router = Router::new().route("/", Echo::new()).allow_subprotocol("chat.v2").allow_subprotocol("chat");
    /// # let _ = router;
    /// ```
    ///
    /// # Panics
    /// If `name` is not a token (RFC 7230 section 3.2.6).
    #[must_use]
    pub fn allow_subprotocol(mut self, name: &str) -> Self {
        self.access.allow_subprotocol(name);
        self
    }

    /// Calls `act` with the handler of the route that was added with `pattern`, and returns the result of `act`.
    /// Returns `None` if there is no such route, or if its handler is not an `H`.
    ///
    /// Timers that `act` sets and sources that it registers with its context belong to the route.
    ///
    /// ```
    /// use wsloop::{Config, Context, Handler, Id, Message, Router, Server};
    ///
    /// struct Count(u64);
    /// impl Handler for Count {
    ///     fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {
    ///         self.0 += 1;
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Router::new().route("/count", Count(0)))?;
    /// let count = server.with_handler(|router, cx| {
    ///     router.with_route(cx, "/count", |count: &mut Count, _| count.0)
    /// });
    /// assert_eq!(count, Some(0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If `pattern` does not begin with a slash, or has a `*` elsewhere than as its last segment.
    pub fn with_route<H: Handler + 'static, T>(
        &mut self,
        cx: &mut Context<'_>,
        pattern: &str,
        act: impl FnOnce(&mut H, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let pattern = Pattern::parse(pattern);
        let mut routes = self.routes.iter_mut();
        let route = routes.find(|route| route.pattern == pattern)?;
        let scope = route.scope(cx);
        let handler = (*route.handler).as_any_mut().downcast_mut()?;
        Some(act(handler, &mut cx.scoped(scope)))
    }

    /// Returns the index of the route for `path`. O(routes).
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

    /// Records the route of a session.
    fn record_route(&mut self, id: Id, route: usize) {
        let slot = id.slot as usize;
        if self.sessions.len() <= slot {
            if self.sessions.capacity() == 0 {
                self.sessions.reserve(SLOTS_RESERVED);
            }
            self.sessions.resize(slot + 1, NO_ROUTE);
        }
        self.sessions[slot] = SessionRoute {
            number: id.number as u16,
            // `route_boxed` limits the number of routes.
            route: route as u16,
        };
    }

    /// Returns the route of the session, if its request has arrived and matches one.
    fn route_of(&self, id: Id) -> Option<usize> {
        let entry = self.sessions.get(id.slot as usize)?;
        let has_route = entry.number == id.number as u16 && entry.route != NO_ROUTE.route;
        has_route.then_some(usize::from(entry.route))
    }

    /// Returns the route in whose scope a timer was set or a source was registered.
    fn route_in_scope(&mut self, cx: &Context<'_>) -> Option<&mut Route<R>> {
        let mut routes = self.routes.iter_mut();
        routes.find(|route| route.scope != 0 && cx.is_within(route.scope))
    }

    /// Returns the handler of a session, and a context with the scope of the route's timers and sources.
    ///
    /// # Panics
    /// If neither `on_upgrade` nor `on_http` was called for the session.
    #[inline]
    fn handler_of<'r, 'c>(
        &'r mut self,
        cx: &'c mut Context<'_>,
        id: Id,
    ) -> (&'r mut R, Context<'c>) {
        let route = self.recorded_route(id);
        (&mut *route.handler, cx.scoped(route.scope))
    }

    /// Returns the route of a session whose request has arrived.
    #[inline]
    fn recorded_route(&mut self, id: Id) -> &mut Route<R> {
        let entry = self.sessions.get(id.slot as usize);
        let entry = entry.filter(|entry| entry.number == id.number as u16);
        // The route of `NO_ROUTE` is out of bounds.
        let route = entry.and_then(|entry| self.routes.get_mut(usize::from(entry.route)));
        route.expect("on_upgrade or on_http has recorded the session's route")
    }
}

/// Slots for which memory is reserved with the first session: 160 KB, of which no page is resident before one of its
/// slots is used. A vector that grows step by step would leave its earlier, smaller allocations in the allocator's free
/// lists.
const SLOTS_RESERVED: usize = 40 * 1024;

/// The entry of a slot that has had no session with a route.
const NO_ROUTE: SessionRoute = SessionRoute {
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

    /// Returns the precedence of the pattern: exact patterns first, then the longest prefix.
    fn rank(&self) -> (bool, usize) {
        match self {
            Self::Exact(exact) => (true, exact.len()),
            Self::Below(prefix) => (false, prefix.len()),
        }
    }
}

// The lint reports a method that is added to the trait and is missing here: routes would never receive its event.
#[deny(clippy::missing_trait_methods)]
impl<R: RouteHandler + ?Sized> Handler for Router<R> {
    /// Returns `None`: each event goes to one route.
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        None
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        for route in &mut self.routes {
            let scope = route.scope(cx);
            route.handler.on_start(&mut cx.scoped(scope));
        }
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        for route in &mut self.routes {
            route.handler.on_stop(&mut cx.scoped(route.scope));
        }
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.access.check_host(request)?;
        let index = self.find(request.path()).ok_or_else(not_found)?;
        self.access.check_origin(request)?;
        self.record_route(id, index);
        let limits = self.routes[index].limits;
        // Default limits are not set: in a router inside the handler of a route, they would replace that route's
        // limits.
        if limits != SessionLimits::default()
            && let Err(error) = cx.set_limits(id, limits)
        {
            return Err(HttpResponse::new(500, format!("{error}\n")));
        }
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_upgrade(&mut cx, id, request, upgrade)?;
        self.access.restrict_subprotocol(request, upgrade);
        Ok(())
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        if let Err(response) = self.access.check_host(request) {
            return response;
        }
        let Some(index) = self.find(request.path()) else {
            return not_found();
        };
        self.record_route(id, index);
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_http(&mut cx, id, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_open(&mut cx, id);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_message(&mut cx, id, message);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_ping(&mut cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_pong(&mut cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_drain(&mut cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_skip(&mut cx, id, topic, messages);
    }

    #[cfg(feature = "backplane")]
    fn on_gap(&mut self, cx: &mut Context<'_>, id: Id, topic: &str) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_gap(&mut cx, id, topic);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        let (handler, mut cx) = self.handler_of(cx, id);
        handler.on_close(&mut cx, id, close);
    }

    /// Passes an error of a session to the session's handler, if it has one, and an error of a listener to all
    /// handlers.
    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        match id {
            Some(id) => {
                if self.route_of(id).is_some() {
                    let (handler, mut cx) = self.handler_of(cx, id);
                    handler.on_error(&mut cx, Some(id), error);
                }
            }
            None => {
                for route in &mut self.routes {
                    let mut cx = cx.scoped(route.scope);
                    route.handler.on_error(&mut cx, None, error);
                }
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        match self.route_in_scope(cx) {
            Some(route) => route.call_in_scope(
                cx,
                |handler, cx| handler.on_timer(cx, key),
                &mut |handler, cx| handler.on_timer(cx, key),
            ),
            None => log::warn!(
                "timer {key} was set outside of all routes and no handler around the router has on_timer: ignored"
            ),
        }
    }

    fn on_session_timer(&mut self, cx: &mut Context<'_>, id: Id, key: u64) {
        let route = self.recorded_route(id);
        route.call_in_scope(
            cx,
            |handler, cx| handler.on_session_timer(cx, id, key),
            &mut |handler, cx| handler.on_session_timer(cx, id, key),
        );
    }

    fn on_source(&mut self, cx: &mut Context<'_>, key: u64, ready: Ready) {
        match self.route_in_scope(cx) {
            Some(route) => route.call_in_scope(
                cx,
                |handler, cx| handler.on_source(cx, key, ready),
                &mut |handler, cx| handler.on_source(cx, key, ready),
            ),
            None => log::warn!(
                "source {key} was registered outside of all routes and no handler around the router has \
                 on_source: ignored"
            ),
        }
    }

    fn on_session_source(&mut self, cx: &mut Context<'_>, id: Id, key: u64, ready: Ready) {
        let route = self.recorded_route(id);
        route.call_in_scope(
            cx,
            |handler, cx| handler.on_session_source(cx, id, key, ready),
            &mut |handler, cx| handler.on_session_source(cx, id, key, ready),
        );
    }
}

fn not_found() -> HttpResponse {
    HttpResponse::new(404, "nothing is served at this path\n")
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: ?Sized> fmt::Debug for Router<R> {
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
    fn an_exact_pattern_takes_precedence_then_the_longest() {
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
    fn a_path_that_matches_no_pattern_is_not_found() {
        let router = router(&["/chat", "/news/*"]);
        for path in ["/", "/chat/", "/chatter", "/news", "/Chat"] {
            assert_eq!(router.find(path), None, "{path}");
        }
    }

    #[test]
    #[should_panic(expected = "only as its last segment")]
    fn a_star_in_the_middle_panics() {
        drop(router(&["/a/*/b"]));
    }

    #[test]
    #[should_panic(expected = "was added before")]
    fn a_pattern_that_was_added_before_panics() {
        drop(router(&["/a", "/a"]));
    }
}
