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
/// An `Id` outlives its session; then what is asked for it has no effect. It may travel to other threads
/// ([`Handle`](crate::Handle)) and is shown as `#slot.generation`.
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
    /// ([`LagPolicy::Skip`]). It still gets the publication that came then, and what is sent to it now comes after that
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

/// How a session ended, RFC 6455 sections 7.1.4 to 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// The close code (section 7.4): the one received, or ours if we began or failed the connection; 1005
    /// ([`CODE_NONE`](crate::proto::CODE_NONE)) if the Close had none, 1006
    /// ([`CODE_ABNORMAL`](crate::proto::CODE_ABNORMAL)) if there was no Close.
    pub code: u16,
    /// The reason beside that code, at most 123 bytes if it came from the peer; often empty.
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

/// What [`Context::send`] came to. [`guide::slow`](crate::guide::slow) says what to do about it.
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
    /// A limit was reached or a deadline passed, by its name in [`Config`](crate::Config); or "shutdown".
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
/// with `None` or zero. Nothing here blocks.
///
/// Outside of events, on the loop's thread, there is [`Server::with_context`](crate::Server::with_context); on other
/// threads [`Handle`](crate::Handle).
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

    /// Sends a message to one session, after all that was sent to it or published to it before, as one frame (RFC 6455
    /// section 5.6). It may be of any length; what bounds it is what the session owes already
    /// ([`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max)).
    ///
    /// ```
    /// use wsloop::{Message, SendStatus};
    ///
    /// let mut server = wsloop::Server::new(Default::default(), wsloop::handler_fn(|cx, id, message| {
    ///     let _ = cx.send(id, "text");
    ///     let _ = cx.send(id, b"binary");
    ///     if cx.send(id, message) == SendStatus::OverHighWater {
    ///         // `on_drain` will tell when there is room again.
    ///     }
    /// }));
    /// # let _ = server;
    /// ```
    pub fn send<'m>(&mut self, id: Id, message: impl Into<Message<'m>>) -> SendStatus {
        self.core.send(id, message.into())
    }

    /// Sends a ping with at most 125 bytes of `payload`, the rest is cut (RFC 6455 section 5.5.2); `false` if the
    /// session is not open, or owes more than [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max).
    pub fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        self.core.ping(id, payload)
    }

    /// Bytes queued for the session and not yet taken by the operating system, frame headers included, and those of its
    /// topics that it has still to get.
    pub fn buffered_amount(&self, id: Id) -> usize {
        self.core.buffered_amount(id)
    }

    /// Begins the closing handshake, after all that is queued (RFC 6455 section 7.1.2), and ends the session's
    /// memberships. The reason is cut to 123 bytes, between characters; the code 1005 sends a Close without code and
    /// reason. `false`, and nothing happens, if the session is not open, or `code` is another that may not be sent
    /// ([`is_code_allowed`](crate::proto::is_code_allowed)).
    pub fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        self.core.close(id, code, reason)
    }

    /// Ends the session without a closing handshake; what is queued is lost. `on_close` follows with code 1006, in the
    /// reap phase of this turn.
    pub fn terminate(&mut self, id: Id) {
        self.core.terminate(id);
    }

    /// Makes the session a member of `topic`, which needs no making: any text is a topic's name, and a topic without
    /// members costs nothing. It gets what is published from now on. `false` if it is one already or is not open.
    pub fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.core.subscribe(id, topic)
    }

    /// Ends the session's membership; what was published before still arrives. `false` if it was no member.
    pub fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        self.core.unsubscribe(id, topic)
    }

    /// Sends a message to every member of `topic`, framed once; how many members there are. Without any, nothing is
    /// done. What happens to members that do not keep up is [`LagPolicy`].
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.core.publish(topic, message.into())
    }

    /// How many members `topic` has.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.core.subscribers(topic)
    }

    /// Gives a topic its own lag policy instead of [`Config::lag_policy`](crate::Config::lag_policy), whether it has
    /// members yet or not, until it is taken back with `None`.
    pub fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.core.set_lag_policy(topic, policy);
    }

    /// Calls [`Handler::on_timer`] with `key` once, `after` from now, rounded up to milliseconds (a turn has one now):
    /// never early. Several timers may have the same key. Zero is the next turn.
    pub fn set_timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.core.set_timer(after, key, self.scope)
    }

    /// Takes a timer back; `false` if it was due already.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.core.cancel_timer(timer)
    }

    /// The client's address: behind a proxy, the proxy's. IPv6 scope and flow are not kept. `None` also for Unix sockets,
    /// which have none.
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.core.peer_addr(id)
    }

    /// The path of the session's request as it was sent, percent-encoding and all, without the query. Sessions on the
    /// same path share it.
    pub fn path(&self, id: Id) -> Option<Arc<str>> {
        self.core.path(id)
    }

    /// How many sessions are between `on_open` and `on_close`, those that are closing included.
    pub fn count(&self) -> usize {
        self.core.count()
    }

    /// The sessions that are open, in no order. It walks over all: for a message to many there is
    /// [`publish`](Self::publish).
    pub fn ids(&self) -> Vec<Id> {
        self.core.ids()
    }

    /// Whether the session is open: messages can be sent to it. It is not in `on_upgrade`, and not any more after
    /// [`close`](Self::close) or the peer's Close.
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

    /// Stops the server gracefully: it listens no more, every session gets Close 1001, and after
    /// [`Config::shutdown_grace`](crate::Config::shutdown_grace) those that are left are terminated. At a second call, at
    /// once.
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
