//! The trait that an application implements: [`Handler`].

use crate::context::Context;
use crate::engine::sources::Ready;
use crate::error::{Close, Error};
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};

/// The events of a server's sessions. Only [`on_message`](Handler::on_message) is required.
///
/// `on_open` and `on_close` are always called in pairs, in this order, also when the server is dropped (unless its
/// thread is panicking). All other calls about a session come between them, with two exceptions: `on_upgrade` and
/// `on_http` come before `on_open` or instead of it, and `on_error` is also called for clients that were refused.
///
/// All methods are called on the thread that runs the server, one at a time. A slow handler delays all sessions. A
/// panic unwinds out of [`Server::turn`](crate::Server::turn).
///
/// ```
/// use wsloop::testing::{Harness, Received};
/// use wsloop::{Close, Config, Context, Handler, Id, Message, SessionMap};
///
/// /// Counts the messages of each session, and answers with the count.
/// #[derive(Default)]
/// struct Count {
///     counts: SessionMap<u64>,
/// }
///
/// impl Handler for Count {
///     fn on_open(&mut self, _: &mut Context<'_>, id: Id) {
///         self.counts.insert(id, 0);
///     }
///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
///         let count = &mut self.counts[id];
///         *count += 1;
///         let _ = cx.send(id, &count.to_string());
///     }
///     fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
///         println!("{:?} sent {:?} messages and ended with {}", cx.peer_addr(id), self.counts[id], close.code);
///         self.counts.remove(id);
///     }
/// }
///
/// let mut harness = Harness::new(Config::default(), Count::default());
/// let id = harness.connect("/");
/// harness.send(id, "a");
/// harness.send(id, "b");
/// assert_eq!(harness.received(id), ["1", "2"].map(|text| Received::Text(text.to_owned())));
/// ```
pub trait Handler {
    /// Called when a whole message has arrived (RFC 6455 section 6.2). It has at most [`Config::message_bytes_max`]
    /// bytes; a text is valid UTF-8. `message` borrows a buffer of the loop: copy it to store it. After
    /// [`Context::close`], messages that the peer has sent before its own Close are still delivered here, but no
    /// message can be sent to the session.
    ///
    /// [`Config::message_bytes_max`]: crate::Config::message_bytes_max
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>);

    /// Returns the handler that this handler wraps, if there is one. Every method that this handler does not implement
    /// calls the same method of the wrapped handler. The default is `None`: there is no wrapped handler, and such
    /// events are ignored, or have the default response.
    ///
    /// A method that this handler does implement decides itself whether to call the wrapped handler. For a session that
    /// is accepted, `on_upgrade` must call it: a [`Router`](crate::Router) selects the session's route there, and
    /// panics in `on_open` of a session without a route.
    ///
    /// If the innermost handler is a [`Router`](crate::Router), events of timers and sources of its routes reach those
    /// routes directly: a handler around the router receives only the events of its own timers and sources, even if the
    /// keys are the same.
    ///
    /// ```
    /// use wsloop::handlers::Echo;
    /// use wsloop::testing::{Harness, Received, opening};
    /// use wsloop::{Config, Context, Handler, HttpResponse, Id, Message, Request, Upgrade};
    ///
    /// /// Refuses clients without the right token. All other events go to `app`.
    /// struct Login<H> {
    ///     token: &'static str,
    ///     app: H,
    /// }
    ///
    /// impl<H: Handler> Handler for Login<H> {
    ///     fn inner(&mut self) -> Option<&mut dyn Handler> {
    ///         Some(&mut self.app)
    ///     }
    ///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
    ///         self.app.on_message(cx, id, message);
    ///     }
    ///     fn on_upgrade(
    ///         &mut self,
    ///         cx: &mut Context<'_>,
    ///         id: Id,
    ///         request: &Request,
    ///         upgrade: &mut Upgrade,
    ///     ) -> Result<(), HttpResponse> {
    ///         if request.header("x-token") != Some(self.token) {
    ///             return Err(HttpResponse::new(401, "the header x-token is required\n"));
    ///         }
    ///         self.app.on_upgrade(cx, id, request, upgrade)
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Config::default(), Login { token: "t", app: Echo::new() });
    /// assert_eq!(harness.open(opening("/")).unwrap_err().status(), 401);
    /// let id = harness.open(opening("/").with_header("x-token", "t").unwrap()).unwrap();
    /// harness.send(id, "hi");
    /// assert_eq!(harness.received(id), [Received::Text("hi".into())]);
    /// ```
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        None
    }

    /// Called once, before the first turn. Set timers here.
    fn on_start(&mut self, cx: &mut Context<'_>) {
        if let Some(inner) = self.inner() {
            inner.on_start(cx);
        }
    }

    /// Called once, when the server begins to stop ([`Context::stop`]), before it closes the sessions. A message that
    /// is sent or published here arrives before the session's Close, unless a second call of `stop` ends all sessions
    /// immediately. Before this call, a stop that is not immediate accepts the connections in the backlogs of the
    /// listeners. None are accepted after it. Not called if the server is dropped without a stop.
    fn on_stop(&mut self, cx: &mut Context<'_>) {
        if let Some(inner) = self.inner() {
            inner.on_stop(cx);
        }
    }

    /// Called for a valid opening handshake (RFC 6455 section 4.2.1). `upgrade` is the 101 response before it is sent
    /// (section 4.2.2): add headers or choose a subprotocol. The session is not open yet, but its path and its
    /// address can be used. The default accepts every client.
    ///
    /// Check the `Origin` (section 10.2) or a token (section 10.5) here.
    ///
    /// After `Ok`, `on_open` is called at once: no other method of the handler is called in between, and bytes that the
    /// client has sent after its request are processed later. There are two exceptions, in which neither `on_open` nor
    /// `on_close` follows: this method has called [`Context::terminate`] for this session, or it has made the 101
    /// response invalid, which is answered with 500 and reported to `on_error`. For a wrapped handler there is a third
    /// exception: the handler around it can refuse the client after the wrapped handler has returned `Ok`. So count and
    /// subscribe sessions in `on_open`.
    ///
    /// # Errors
    /// The response that refuses the client. Neither `on_open` nor `on_close` follows.
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        match self.inner() {
            Some(inner) => inner.on_upgrade(cx, id, request, upgrade),
            None => Ok(()),
        }
    }

    /// Called for a GET or HEAD request that does not attempt a WebSocket upgrade. Returns the response; the default
    /// is 426. The server itself answers invalid opening handshakes (400, 405, 426, 431, 505) and other methods
    /// (405).
    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        match self.inner() {
            Some(inner) => inner.on_http(cx, id, request),
            None => HttpResponse::new(426, "this path serves WebSockets only\n"),
        }
    }

    /// Called when a session opens. Its 101 is queued; messages sent from here on follow the 101.
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        if let Some(inner) = self.inner() {
            inner.on_open(cx, id);
        }
    }

    /// Called when a ping has arrived (RFC 6455 section 5.5.2), with a `payload` of at most 125 bytes. Its pong is
    /// already queued, unless [`Context::close`] was called before. While the socket accepts nothing, only the newest
    /// pong is retained.
    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        if let Some(inner) = self.inner() {
            inner.on_ping(cx, id, payload);
        }
    }

    /// Called when a pong has arrived, solicited or not (RFC 6455 section 5.5.3), with a `payload` of at most 125
    /// bytes. Answers to automatic pings ([`Config::ping_interval`](crate::Config::ping_interval)) are empty.
    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        if let Some(inner) = self.inner() {
            inner.on_pong(cx, id, payload);
        }
    }

    /// Called when the unsent bytes of a session have exceeded [`Config::high_water_bytes`] and then fallen to
    /// [`Config::low_water_bytes`]. Continue to send here.
    ///
    /// [`Config::high_water_bytes`]: crate::Config::high_water_bytes
    /// [`Config::low_water_bytes`]: crate::Config::low_water_bytes
    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        if let Some(inner) = self.inner() {
            inner.on_drain(cx, id);
        }
    }

    /// Called when a member of `topic` had more than [`Config::lag_bytes_max`] unsent bytes and has skipped
    /// `messages` whole messages ([`LagPolicy::Skip`](crate::LagPolicy::Skip)). The publication that caused the skip
    /// is still delivered to the member; a message sent here follows that publication. Do not send on each call: the
    /// member does not read, and its queue would grow.
    ///
    /// [`Config::lag_bytes_max`]: crate::Config::lag_bytes_max
    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        if let Some(inner) = self.inner() {
            inner.on_skip(cx, id, topic, messages);
        }
    }

    /// Called when a member of `topic` may have missed messages because the connection to the broker has ended
    /// ([`backplane`](crate::backplane)), and the member's lag policy for the topic is
    /// [`LagPolicy::Skip`](crate::LagPolicy::Skip). Called when all topics are subscribed again, once for each member and
    /// topic, even if the connection has ended several times before. Other members are closed with 1013 instead.
    #[cfg(feature = "backplane")]
    fn on_gap(&mut self, cx: &mut Context<'_>, id: Id, topic: &str) {
        if let Some(inner) = self.inner() {
            inner.on_gap(cx, id, topic);
        }
    }

    /// Called when a session has ended; its socket is closed directly afterwards. After a closing handshake, a session
    /// ends when the peer has ended the stream (RFC 6455 section 7.1.1), or after [`Config::close_timeout`]. The
    /// session's path and address are still available. Messages can no longer be sent to it.
    ///
    /// [`Config::close_timeout`]: crate::Config::close_timeout
    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        if let Some(inner) = self.inner() {
            inner.on_close(cx, id, close);
        }
    }

    /// Called when a session, a connection attempt or a listener has failed. For a listener, `id` is `None`. For a
    /// session that was open, `on_close` follows.
    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        if let Some(inner) = self.inner() {
            inner.on_error(cx, id, error);
        }
    }

    /// Called when a timer of [`Context::set_timer`] is due: once, or each time if the timer is an interval.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        if let Some(inner) = self.inner() {
            inner.on_timer(cx, key);
        }
    }

    /// Called when a timer of [`Context::set_session_timer`] is due: once, or each time if the timer is an interval.
    /// Called only between `on_open` and `on_close`.
    fn on_session_timer(&mut self, cx: &mut Context<'_>, id: Id, key: u64) {
        if let Some(inner) = self.inner() {
            inner.on_session_timer(cx, id, key);
        }
    }

    /// Called when a source of [`Context::register`] is ready. Readiness is edge-triggered: read or write until
    /// `WouldBlock`, or no further call follows.
    fn on_source(&mut self, cx: &mut Context<'_>, key: u64, ready: Ready) {
        if let Some(inner) = self.inner() {
            inner.on_source(cx, key, ready);
        }
    }

    /// Called when a source of [`Context::register_for_session`] is ready. Readiness is edge-triggered: read or write
    /// until `WouldBlock`, or no further call follows. Called only between `on_open` and `on_close`.
    fn on_session_source(&mut self, cx: &mut Context<'_>, id: Id, key: u64, ready: Ready) {
        if let Some(inner) = self.inner() {
            inner.on_session_source(cx, id, key, ready);
        }
    }
}

/// Calls `act` with the innermost of the handlers that `handler` wraps, or with `handler` if it wraps none.
///
/// The innermost handler is a router if an event of a timer or a source has a scope other than `handler`'s own: the
/// event belongs to one of its routes. Handlers in between do not receive the event, because it could have the key of
/// one of their own events.
pub(crate) fn with_innermost(handler: &mut dyn Handler, act: &mut dyn FnMut(&mut dyn Handler)) {
    match handler.inner() {
        Some(inner) => with_innermost(inner, act),
        None => act(handler),
    }
}

/// Returns a handler that calls a closure for each message. The closure's return value is ignored.
///
/// ```
/// use wsloop::{Config, Server, handler_fn};
///
/// let handler = handler_fn(|cx, id, message| cx.send(id, message));
/// let server = Server::new(Config::default(), handler);
/// assert!(server.is_ok());
/// ```
pub fn handler_fn<F, R>(on_message: F) -> HandlerFn<F>
where
    F: FnMut(&mut Context<'_>, Id, Message<'_>) -> R,
{
    HandlerFn(on_message)
}

/// The handler that [`handler_fn`] returns.
#[derive(Clone, Copy, Debug)]
pub struct HandlerFn<F>(F);

impl<F, R> Handler for HandlerFn<F>
where
    F: FnMut(&mut Context<'_>, Id, Message<'_>) -> R,
{
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        (self.0)(cx, id, message);
    }
}

/// Forwards to a handler that is chosen at run time, such as a `Box<dyn Handler>`.
///
/// ```
/// use wsloop::handlers::{Broadcast, Echo};
/// use wsloop::{Config, Handler, Server};
///
/// # let is_chat = true;
/// let handler: Box<dyn Handler> = if is_chat { Box::new(Broadcast) } else { Box::new(Echo::new()) };
/// let server = Server::new(Config::default(), handler);
/// assert!(server.is_ok());
/// ```
// Without the lint, an event that is added to the trait but not forwarded here would not reach the boxed handler: the
// default method passes it to `inner`, or drops it.
#[deny(clippy::missing_trait_methods)]
impl<H: Handler + ?Sized> Handler for Box<H> {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        (**self).on_message(cx, id, message);
    }

    fn inner(&mut self) -> Option<&mut dyn Handler> {
        (**self).inner()
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        (**self).on_start(cx);
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        (**self).on_stop(cx);
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        (**self).on_upgrade(cx, id, request, upgrade)
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        (**self).on_http(cx, id, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        (**self).on_open(cx, id);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        (**self).on_ping(cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        (**self).on_pong(cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        (**self).on_drain(cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        (**self).on_skip(cx, id, topic, messages);
    }

    #[cfg(feature = "backplane")]
    fn on_gap(&mut self, cx: &mut Context<'_>, id: Id, topic: &str) {
        (**self).on_gap(cx, id, topic);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        (**self).on_close(cx, id, close);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        (**self).on_error(cx, id, error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        (**self).on_timer(cx, key);
    }

    fn on_session_timer(&mut self, cx: &mut Context<'_>, id: Id, key: u64) {
        (**self).on_session_timer(cx, id, key);
    }

    fn on_source(&mut self, cx: &mut Context<'_>, key: u64, ready: Ready) {
        (**self).on_source(cx, key, ready);
    }

    fn on_session_source(&mut self, cx: &mut Context<'_>, id: Id, key: u64, ready: Ready) {
        (**self).on_session_source(cx, id, key, ready);
    }
}
