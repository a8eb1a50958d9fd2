//! The operations that a handler can use: [`Context`].

use crate::config::LagPolicy;
use crate::engine::Engine;
use crate::error::SendStatus;
use crate::id::{Id, TimerId};
use crate::proto::Message;
use crate::stats::Stats;
use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The operations that a handler can use in each of its events.
///
/// Operations on a session take its [`Id`]. If the session has ended, they have no effect, and queries return `None`,
/// `false` or zero. No operation blocks.
///
/// Outside of events, use [`Server::with_context`](crate::Server::with_context) on the loop's thread, and
/// [`Handle`](crate::Handle) on other threads.
pub struct Context<'a> {
    engine: &'a mut Engine,
    /// Number of the route whose handler uses this context; 0 without a router. Timers that the handler sets are
    /// reported to that handler.
    scope: u32,
}

impl<'a> Context<'a> {
    #[inline]
    pub(crate) fn new(engine: &'a mut Engine) -> Self {
        Self { engine, scope: 0 }
    }

    /// Returns a context for one handler of a router. In [`on_timer`](crate::Handler::on_timer) the scope is that in
    /// which the timer was set.
    #[inline]
    pub(crate) fn scoped(&mut self, scope: u32) -> Context<'_> {
        Context {
            engine: self.engine,
            scope,
        }
    }

    pub(crate) fn scope(&self) -> u32 {
        self.scope
    }

    /// Returns a scope that no other handler has.
    pub(crate) fn new_scope(&mut self) -> u32 {
        self.engine.new_scope()
    }

    /// Sends a message to one session as one frame (RFC 6455 section 5.6), after everything that was sent or
    /// published to it before. If the unsent bytes of direct messages exceed
    /// [`Config::high_water_bytes`](crate::Config::high_water_bytes), and this message
    /// would make them exceed [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max), the result is
    /// `Refused` and the session is terminated. Otherwise the length is not limited.
    ///
    /// ```
    /// use wsloop::{Message, SendStatus};
    ///
    /// let mut server = wsloop::Server::new(Default::default(), wsloop::handler_fn(|cx, id, message| {
    ///     let _ = cx.send(id, "text");
    ///     let _ = cx.send(id, b"binary");
    ///     if cx.send(id, message) == SendStatus::OverHighWater {
    ///         // `on_drain` is called when the unsent bytes have fallen to the low-water mark.
    ///     }
    /// }));
    /// # let _ = server;
    /// ```
    pub fn send<'m>(&mut self, id: Id, message: impl Into<Message<'m>>) -> SendStatus {
        self.engine.send(id, message.into())
    }

    /// Sends a ping with the first 125 bytes of `payload` (RFC 6455 section 5.5.2). Returns `false` if the session is
    /// not open or has more unsent bytes of direct messages than
    /// [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max).
    pub fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        self.engine.ping(id, payload)
    }

    /// Returns the number of unsent bytes of the session: bytes that the operating system has not accepted yet, frame
    /// headers and unsent publications included.
    pub fn buffered_amount(&self, id: Id) -> usize {
        self.engine.buffered_amount(id)
    }

    /// Begins the closing handshake (RFC 6455 section 7.1.2): queues a Close behind everything that is queued
    /// already, and ends the session's memberships. The reason is cut to 123 bytes at a character boundary. Code 1005
    /// sends a Close without code and reason. Returns `false` without any effect if the session is not open, or if
    /// `code` may not be sent ([`is_code_allowed`](crate::proto::is_code_allowed)).
    pub fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        self.engine.close(id, code, reason)
    }

    /// Ends the session without a closing handshake and drops its unsent bytes. `on_close` is called in the next reap
    /// phase, normally that of this turn, with code 1006, or with the code of an ending that was recorded before, for
    /// example by
    /// [`close`](Self::close).
    pub fn terminate(&mut self, id: Id) {
        self.engine.terminate(id);
    }

    /// Makes the session a member of `topic`. A topic needs no creation: any text is a name, and a topic without
    /// members, unsent bytes and policy takes no memory. The member receives messages that are published from now on.
    /// Returns `false` if the session is a member already, is not open, or is a member of
    /// [`Config::memberships_max`](crate::Config::memberships_max) topics.
    pub fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.subscribe(id, topic)
    }

    /// Ends the session's membership of `topic`. Messages that were published before are still sent to it. Returns
    /// `false` if the session was not a member.
    pub fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.unsubscribe(id, topic)
    }

    /// Sends a message to every member of `topic`, and returns the number of members. The message is framed once. Costs
    /// O(1) here; flushing costs O(messages + members) per turn. Members that do not read: see [`LagPolicy`].
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.engine.publish(topic, message.into())
    }

    /// Returns the number of members of `topic`.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.engine.subscribers(topic)
    }

    /// Sets the lag policy of a topic, instead of [`Config::lag_policy`](crate::Config::lag_policy). `None` resets
    /// it. The topic need not have members.
    pub fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.engine.set_lag_policy(topic, policy);
    }

    /// Sets a timer: [`Handler::on_timer`](crate::Handler::on_timer) is called once with `key`, not earlier than
    /// `after` from now, rounded up to milliseconds. With zero it is called in the next turn. Several timers can have
    /// the same key.
    pub fn set_timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.engine.set_timer(after, key, self.scope)
    }

    /// Cancels a timer. Returns `false` if `on_timer` was already called for it, or if it was cancelled before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.engine.cancel_timer(timer)
    }

    /// Returns the client's address. Behind a proxy, that is the proxy's address, or if the proxy is
    /// [trusted](crate::Config::trusted_proxies) the address that it names, with port 0 if it names none. IPv6 scope
    /// and flow are zero. Returns `None` for Unix sockets, unless a trusted proxy names the client.
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.engine.peer_addr(id)
    }

    /// Returns the path of the session's request as it was sent: percent-encoded, without the query. Returns `None`
    /// if the path is longer than 512 bytes: only its first 512 bytes are retained, for the log.
    /// ([`Handler::on_upgrade`](crate::Handler::on_upgrade) is given the whole path.) Sessions with the same path
    /// share the text.
    pub fn path(&self, id: Id) -> Option<Arc<str>> {
        self.engine.path(id)
    }

    /// Returns the number of sessions between `on_open` and `on_close`, including those that are closing.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// Returns the ids of all open sessions, in no particular order. Costs O(sessions): to send to many sessions, use
    /// [`publish`](Self::publish).
    pub fn ids(&self) -> Vec<Id> {
        self.engine.ids()
    }

    /// Returns whether the session is open, so that messages can be sent to it. It is not open in `on_upgrade`, nor
    /// after
    /// [`close`](Self::close) or the peer's Close.
    pub fn is_open(&self, id: Id) -> bool {
        self.engine.is_open(id)
    }

    /// Stores a value with the session, and drops the previous one. The value is dropped after `on_close`.
    pub fn set_state<T: Any + Send>(&mut self, id: Id, state: T) {
        self.engine.set_state(id, Box::new(state));
    }

    /// Returns the value that is stored with the session, if it is a `T`.
    pub fn state<T: Any + Send>(&mut self, id: Id) -> Option<&mut T> {
        self.engine.state(id)?.downcast_mut()
    }

    /// Returns the server's counters.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Starts to measure the duration of each turn ([`Stats::turns`]), which costs one read of the clock per turn.
    pub fn measure_turns(&mut self) {
        self.engine.measure_turns();
    }

    /// Stops the server gracefully: its listeners are closed, and every session gets Close 1001. Sessions that are
    /// left after
    /// [`Config::shutdown_grace`](crate::Config::shutdown_grace) are terminated. A second call terminates all
    /// immediately.
    pub fn stop(&mut self) {
        self.engine.stop();
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
