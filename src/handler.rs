//! The seam between the loop and the application: [`Handler`] is what an application implements, [`Context`] is
//! what it may do.
//!
//! A handler queues; it never writes, closes or re-enters: everything that it asks for happens in the phases of
//! the turn that follow. Neither knows sockets or time; the loop stands behind the `Core` trait.

use crate::config::LagPolicy;
use crate::proto::{HttpResponse, Message, ProtocolError, Request, Upgrade};
use crate::stats::Stats;
use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A session, by a name that is never used again: its slot in the loop and a generation.
///
/// An `Id` outlives its session; then what is asked for it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.generation)
    }
}

/// What an application does. Only [`on_message`](Handler::on_message) is required.
///
/// `on_open` and `on_close` come in pairs, always, in this order, also when the server is dropped; every other
/// event of a session comes between them, but for `on_upgrade` and `on_http`, which come before or instead, and
/// `on_error`, which tells of clients that were refused as well.
pub trait Handler {
    /// A whole message arrived. It borrows the loop's memory: copy what is to be kept. After [`Context::close`]
    /// messages still come, those that were on their way, until the peer has answered; sends are refused then.
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>);

    /// The loop is about to make its first turn: the place to set timers.
    fn on_start(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// A client asks for a WebSocket. `upgrade` is the 101 before it leaves: add headers, choose a subprotocol.
    /// The session is not open yet, but [`Context::set_state`] and its address work.
    ///
    /// # Errors
    /// A response with any other status refuses the client.
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

    /// A session is open.
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        let _ = (cx, id);
    }

    /// A ping arrived; its pong is already on its way.
    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let _ = (cx, id, payload);
    }

    /// A pong arrived, asked for or not.
    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let _ = (cx, id, payload);
    }

    /// A session that was over its high-water mark has fallen to its low one: send on.
    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        let _ = (cx, id);
    }

    /// A member of `topic` was too far behind and has skipped `messages` whole messages
    /// ([`LagPolicy::Skip`]).
    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let _ = (cx, id, topic, messages);
    }

    /// A session has ended, its socket included: after both Closes that is when the peer has ended the stream, or
    /// `Config::close_timeout` has passed. Its [`Context::state`], path and address can still be asked for; sends are refused.
    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        let _ = (cx, id, close);
    }

    /// Something failed: a session (its `on_close` follows, if it was opened), or a listener (`id` is `None`).
    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let _ = (cx, id, error);
    }

    /// A timer of [`Context::set_timer`] is due.
    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        let _ = (cx, key);
    }

    /// A source of `Server::register` is ready.
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

/// How a session ended, RFC 6455 section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// The close code (section 7.4): the one received, or ours if we began or failed the connection; 1005 if the
    /// Close had none, 1006 if there was no Close.
    pub code: u16,
    /// The reason beside that code.
    pub reason: &'a str,
    /// Whether both Closes were exchanged.
    pub is_clean: bool,
    /// Who began.
    pub by: Side,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This server: `Context::close`, a limit, a deadline, a violation that we found.
    Us,
    /// The client: a Close, an end of stream, a reset.
    Peer,
}

/// What [`Context::send`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused message is lost, and over high water more should wait for on_drain"]
pub enum SendStatus {
    /// The message went out or is queued.
    Queued,
    /// The message is queued, and the session now owes its peer more than the high-water mark: wait for
    /// `on_drain` before sending more.
    OverHighWater,
    /// The message is not sent: the session is closing or gone, or owes too much already (then it is
    /// terminated).
    Refused,
}

/// What failed.
#[derive(Debug)]
pub enum Error {
    /// The peer broke a rule of the protocol.
    Protocol(ProtocolError),
    /// A socket failed.
    Io(io::Error),
    /// A response that `Handler::on_upgrade` altered breaks the protocol; the client got a 500.
    Response(crate::proto::ResponseError),
    /// A limit was reached or a deadline passed, by its name in `Config`; or "shutdown".
    Limit(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Response(error) => error.fmt(f),
            Self::Limit(name) => write!(f, "{name} reached"),
        }
    }
}

impl std::error::Error for Error {}

/// A timer that is set; see [`Context::set_timer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    /// When it is due, in milliseconds of the loop's clock.
    pub(crate) due: u64,
    pub(crate) sequence: u64,
}

/// What a handler may do, in any of its events.
///
/// What concerns a session takes its [`Id`]; for one that is gone it has no effect, and questions are answered
/// with `None` or zero.
pub struct Context<'a> {
    core: &'a mut dyn Core,
    scope: u16,
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut dyn Core) -> Self {
        Self {
            core,
            scope: NO_SCOPE,
        }
    }

    /// The same, for a handler inside another that has several: timers that it sets carry `scope`.
    pub(crate) fn scoped(&mut self, scope: u16) -> Context<'_> {
        Context {
            core: self.core,
            scope,
        }
    }

    /// The scope of the timer that is due.
    pub(crate) fn timer_scope(&self) -> u16 {
        self.core.timer_scope()
    }

    /// Sends a message to one session, after all that was sent to it or published to it before.
    pub fn send<'m>(&mut self, id: Id, message: impl Into<Message<'m>>) -> SendStatus {
        self.core.send(id, message.into())
    }

    /// Sends a ping with at most 125 bytes of `payload`; `false` if the session is not open.
    pub fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        self.core.ping(id, payload)
    }

    /// Bytes queued for the session and not yet taken by the operating system, frame headers included.
    pub fn buffered_amount(&self, id: Id) -> usize {
        self.core.buffered_amount(id)
    }

    /// Begins the closing handshake, after all that is queued. The reason is cut to 123 bytes; the code 1005 sends
    /// a Close without code and reason. `false`, and nothing happens, if the session is not open, or `code` is
    /// another that may not be sent ([`is_code_allowed`](crate::proto::is_code_allowed)).
    pub fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        self.core.close(id, code, reason)
    }

    /// Ends the session without a closing handshake; what is queued is lost.
    pub fn terminate(&mut self, id: Id) {
        self.core.terminate(id);
    }

    /// Makes the session a member of `topic`; `false` if it is one already or is not open.
    pub fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.core.subscribe(id, topic)
    }

    /// Ends the session's membership; what was published before still arrives. `false` if it was no member.
    pub fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        self.core.unsubscribe(id, topic)
    }

    /// Sends a message to every member of `topic`, framed once; how many members there are.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.core.publish(topic, message.into())
    }

    /// How many members `topic` has.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.core.subscribers(topic)
    }

    /// Gives a topic its own lag policy instead of `Config::lag_policy`, whether it has members yet or not, until it
    /// is taken back with `None`.
    pub fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.core.set_lag_policy(topic, policy);
    }

    /// Calls `Handler::on_timer` with `key` once, `after` from now (a turn has one now, in milliseconds).
    pub fn set_timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.core.set_timer(after, key, self.scope)
    }

    /// Takes a timer back; `false` if it was due already.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.core.cancel_timer(timer)
    }

    /// The client's address. IPv6 scope and flow are not kept. `None` also for streams without one.
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.core.peer_addr(id)
    }

    /// The path of the session's request, without the query.
    pub fn path(&self, id: Id) -> Option<Arc<str>> {
        self.core.path(id)
    }

    /// How many sessions are between `on_open` and `on_close`, those that are closing included.
    pub fn count(&self) -> usize {
        self.core.count()
    }

    /// The sessions that are open, in no order.
    pub fn ids(&self) -> Vec<Id> {
        self.core.ids()
    }

    /// Whether the session is open.
    pub fn is_open(&self, id: Id) -> bool {
        self.core.is_open(id)
    }

    /// Keeps a value with the session, in place of the one before; it is dropped after `on_close`.
    pub fn set_state<T: Any + Send>(&mut self, id: Id, state: T) {
        self.core.set_state(id, Box::new(state));
    }

    /// The value kept with the session, if it is a `T`.
    pub fn state<T: Any + Send>(&mut self, id: Id) -> Option<&mut T> {
        self.core.state(id)?.downcast_mut()
    }

    /// What the loop has counted since it began.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// From now on the loop measures the time of its turns ([`Stats::turns`]), which costs it a look at the clock each.
    pub fn measure_turns(&mut self) {
        self.core.measure_turns();
    }

    /// Stops the server gracefully; at a second call, at once.
    pub fn stop(&mut self) {
        self.core.stop();
    }

    pub(crate) fn route(&self, id: Id) -> u16 {
        self.core.route(id)
    }

    pub(crate) fn set_route(&mut self, id: Id, route: u16) {
        self.core.set_route(id, route);
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// The scope of a timer that no handler inside another has set.
pub(crate) const NO_SCOPE: u16 = u16::MAX;

/// What stands behind a [`Context`]; the loop implements it. Each method is documented there.
pub(crate) trait Core {
    fn send(&mut self, id: Id, message: Message<'_>) -> SendStatus;
    fn ping(&mut self, id: Id, payload: &[u8]) -> bool;
    fn buffered_amount(&self, id: Id) -> usize;
    fn close(&mut self, id: Id, code: u16, reason: &str) -> bool;
    fn terminate(&mut self, id: Id);
    fn subscribe(&mut self, id: Id, topic: &str) -> bool;
    fn unsubscribe(&mut self, id: Id, topic: &str) -> bool;
    fn publish(&mut self, topic: &str, message: Message<'_>) -> usize;
    fn subscribers(&self, topic: &str) -> usize;
    fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>);
    fn set_timer(&mut self, after: Duration, key: u64, scope: u16) -> TimerId;
    fn cancel_timer(&mut self, timer: TimerId) -> bool;
    fn timer_scope(&self) -> u16;
    fn peer_addr(&self, id: Id) -> Option<SocketAddr>;
    fn path(&self, id: Id) -> Option<Arc<str>>;
    fn count(&self) -> usize;
    fn ids(&self) -> Vec<Id>;
    fn is_open(&self, id: Id) -> bool;
    fn set_state(&mut self, id: Id, state: Box<dyn Any + Send>);
    fn state(&mut self, id: Id) -> Option<&mut (dyn Any + Send)>;
    fn stats(&self) -> Stats;
    fn measure_turns(&mut self);
    fn stop(&mut self);
    /// Which of a router's handlers serves the session.
    fn route(&self, id: Id) -> u16;
    fn set_route(&mut self, id: Id, route: u16);
}
