//! What an application implements: [`Handler`].

use crate::context::Context;
use crate::error::{Close, Error};
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};

/// What an application does. Only [`on_message`](Handler::on_message) is required.
///
/// `on_open` and `on_close` come in pairs, always, in this order, also when the server is dropped; every other
/// event of a session comes between them, but for `on_upgrade` and `on_http`, which come before or instead, and
/// `on_error`, which tells of clients that were refused as well.
///
/// All are called on the thread that runs the server, one at a time; a handler that is slow is slow for everybody. A
/// panic unwinds out of [`Server::turn`](crate::Server::turn).
///
/// ```
/// use wsloop::testing::{Harness, Received};
/// use wsloop::{Close, Config, Context, Handler, Id, Message};
///
/// /// Counts what each session says, and tells it.
/// #[derive(Default)]
/// struct Count;
///
/// impl Handler for Count {
///     fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
///         cx.set_state(id, 0_u64);
///     }
///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
///         if let Some(count) = cx.state::<u64>(id) {
///             *count += 1;
///             let text = count.to_string();
///             let _ = cx.send(id, &text);
///         }
///     }
///     fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
///         println!("{:?} said {:?} things, and ended with {}", cx.peer_addr(id), cx.state::<u64>(id), close.code);
///     }
/// }
///
/// let mut harness = Harness::new(Config::default(), Count);
/// let id = harness.connect("/");
/// harness.send(id, "a");
/// harness.send(id, "b");
/// assert_eq!(harness.received(id), ["1", "2"].map(|text| Received::Text(text.to_owned())));
/// ```
pub trait Handler {
    /// A whole message arrived (RFC 6455 section 6.2), at most [`Config::message_bytes_max`] long, text of valid UTF-8.
    /// It borrows the loop's memory: copy what is to be kept. After [`Context::close`] messages still come, those that
    /// were on their way, until the peer has answered; sends are refused then.
    ///
    /// [`Config::message_bytes_max`]: crate::Config::message_bytes_max
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>);

    /// The loop is about to make its first turn: the place to set timers.
    fn on_start(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// A client asks for a WebSocket with an opening handshake that is in order (RFC 6455 section 4.2.1). `upgrade` is
    /// the 101 before it leaves (section 4.2.2): add headers, choose a subprotocol. The session is not open yet, but
    /// [`Context::set_state`], its path and its address work. By default everybody is let in.
    ///
    /// This is the place to ask who it is: for the `Origin` (section 10.2) or for a token (section 10.5).
    ///
    /// # Errors
    /// A response with any other status refuses the client; neither `on_open` nor `on_close` follows.
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        let _ = (cx, id, request, upgrade);
        Ok(())
    }

    /// A plain GET or HEAD, no opening handshake. The default is 426: here only WebSockets are served.
    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        let _ = (cx, id, request);
        HttpResponse::new(426, "this path serves WebSockets only\n")
    }

    /// A session is open: its 101 is on its way, and what is sent now follows it.
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let _ = (cx, id);
    }

    /// A ping arrived, with at most 125 bytes of `payload` (RFC 6455 section 5.5.2); its pong is already on its way.
    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let _ = (cx, id, payload);
    }

    /// A pong arrived, asked for or not (RFC 6455 section 5.5.3), with at most 125 bytes of `payload`. Pongs to the
    /// automatic pings ([`Config::auto_ping`](crate::Config::auto_ping)) are empty.
    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let _ = (cx, id, payload);
    }

    /// A session that was over its high-water mark ([`Config::high_water_bytes`]) has fallen to its low one: send on.
    ///
    /// [`Config::high_water_bytes`]: crate::Config::high_water_bytes
    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        let _ = (cx, id);
    }

    /// A member of `topic` was further behind than [`Config::lag_bytes_max`] and has skipped `messages` whole messages
    /// ([`LagPolicy::Skip`](crate::LagPolicy::Skip)). It still gets the publication that came then, and what is sent to it now comes after that
    /// one; but do not send each time: it piles up behind a client that does not read.
    ///
    /// [`Config::lag_bytes_max`]: crate::Config::lag_bytes_max
    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let _ = (cx, id, topic, messages);
    }

    /// A session has ended, its socket included: after both Closes that is when the peer has ended the stream (RFC 6455
    /// section 7.1.1), or [`Config::close_timeout`] has passed. Its [`Context::state`], path and address can still be
    /// asked for; sends are refused.
    ///
    /// [`Config::close_timeout`]: crate::Config::close_timeout
    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        let _ = (cx, id, close);
    }

    /// Something failed: a session (its `on_close` follows, if it was opened), or a listener (`id` is `None`).
    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let _ = (cx, id, error);
    }

    /// A timer of [`Context::set_timer`] is due. It comes once: set it again for the next time.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        let _ = (cx, key);
    }

    /// A source of [`Server::register`](crate::Server::register) is readable. Edge-triggered: read until `WouldBlock`.
    fn on_source(&mut self, cx: &mut Context<'_>, key: usize) {
        let _ = (cx, key);
    }
}

/// A handler from a closure that takes messages; what the closure returns is ignored.
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

/// See [`handler_fn`].
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

/// A handler that is chosen at run time: `Server<Box<dyn Handler>>` works as any other.
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
// An event that is added to the trait and forgotten here would end in the trait's default, and the handler inside
// would never hear of it.
#[deny(clippy::missing_trait_methods)]
impl<H: Handler + ?Sized> Handler for Box<H> {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        (**self).on_message(cx, id, message);
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        (**self).on_start(cx);
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

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        (**self).on_close(cx, id, close);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        (**self).on_error(cx, id, error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        (**self).on_timer(cx, key);
    }

    fn on_source(&mut self, cx: &mut Context<'_>, key: usize) {
        (**self).on_source(cx, key);
    }
}
