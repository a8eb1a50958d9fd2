//! What a handler can do: [`Context`].

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

/// What a handler may do, in any of its events.
///
/// What concerns a session takes its [`Id`]; for one that is gone it has no effect, and questions are answered
/// with `None` or zero. Nothing here blocks.
///
/// Outside of events, on the loop's thread, there is [`Server::with_context`](crate::Server::with_context); on other
/// threads [`Handle`](crate::Handle).
pub struct Context<'a> {
    engine: &'a mut Engine,
    /// Which of a router's handlers this context is for: the timers that it sets come back to it.
    scope: u32,
}

impl<'a> Context<'a> {
    #[inline]
    pub(crate) fn new(engine: &'a mut Engine) -> Self {
        Self { engine, scope: 0 }
    }

    /// The same for one handler of a router. In [`on_timer`](crate::Handler::on_timer) the scope is that in which the timer
    /// was set.
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
        self.engine.send(id, message.into())
    }

    /// Sends a ping with at most 125 bytes of `payload`, the rest is cut (RFC 6455 section 5.5.2); `false` if the
    /// session is not open, or owes more than [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max).
    pub fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        self.engine.ping(id, payload)
    }

    /// Bytes queued for the session and not yet taken by the operating system, frame headers included, and those of its
    /// topics that it has still to get.
    pub fn buffered_amount(&self, id: Id) -> usize {
        self.engine.buffered_amount(id)
    }

    /// Begins the closing handshake, after all that is queued (RFC 6455 section 7.1.2), and ends the session's
    /// memberships. The reason is cut to 123 bytes, between characters; the code 1005 sends a Close without code and
    /// reason. `false`, and nothing happens, if the session is not open, or `code` is another that may not be sent
    /// ([`is_code_allowed`](crate::proto::is_code_allowed)).
    pub fn close(&mut self, id: Id, code: u16, reason: &str) -> bool {
        self.engine.close(id, code, reason)
    }

    /// Ends the session without a closing handshake; what is queued is lost. `on_close` follows with code 1006, in the
    /// reap phase of this turn.
    pub fn terminate(&mut self, id: Id) {
        self.engine.terminate(id);
    }

    /// Makes the session a member of `topic`. A topic needs no creation: any text is a name, and a topic without members
    /// costs nothing. The member receives what is published from now on. Returns `false` if the session is a member already,
    /// is not open, or is a member of [`Config::memberships_max`](crate::Config::memberships_max) topics.
    pub fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.subscribe(id, topic)
    }

    /// Ends the session's membership; what was published before still arrives. `false` if it was no member.
    pub fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.unsubscribe(id, topic)
    }

    /// Sends a message to every member of `topic`, framed once; how many members there are. Without any, nothing is
    /// done. What happens to members that do not keep up is [`LagPolicy`].
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> usize {
        self.engine.publish(topic, message.into())
    }

    /// How many members `topic` has.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.engine.subscribers(topic)
    }

    /// Gives a topic its own lag policy instead of [`Config::lag_policy`](crate::Config::lag_policy), whether it has
    /// members yet or not, until it is taken back with `None`.
    pub fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.engine.set_lag_policy(topic, policy);
    }

    /// Calls [`Handler::on_timer`](crate::Handler::on_timer) with `key` once, `after` from now, rounded up to milliseconds:
    /// never early. Several timers may have the same key. Zero is the next turn.
    pub fn set_timer(&mut self, after: Duration, key: u64) -> TimerId {
        self.engine.set_timer(after, key, self.scope)
    }

    /// Cancels a timer. Returns `false` if it was due already.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.engine.cancel_timer(timer)
    }

    /// The client's address: behind a proxy, the proxy's. IPv6 scope and flow are not kept. `None` also for Unix sockets,
    /// which have none.
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.engine.peer_addr(id)
    }

    /// The path of the session's request as it was sent, percent-encoded and without the query. `None` if it is longer than
    /// 512 bytes: only the start of such a path is retained, for the log
    /// ([`Handler::on_upgrade`](crate::Handler::on_upgrade) is given all of it). Sessions with the same path share it.
    pub fn path(&self, id: Id) -> Option<Arc<str>> {
        self.engine.path(id)
    }

    /// How many sessions are between `on_open` and `on_close`, those that are closing included.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// The sessions that are open, in no order. It walks over all: for a message to many there is
    /// [`publish`](Self::publish).
    pub fn ids(&self) -> Vec<Id> {
        self.engine.ids()
    }

    /// Whether the session is open: messages can be sent to it. It is not in `on_upgrade`, and not any more after
    /// [`close`](Self::close) or the peer's Close.
    pub fn is_open(&self, id: Id) -> bool {
        self.engine.is_open(id)
    }

    /// Keeps a value with the session, in place of the one before; it is dropped after `on_close`.
    pub fn set_state<T: Any + Send>(&mut self, id: Id, state: T) {
        self.engine.set_state(id, Box::new(state));
    }

    /// The value kept with the session, if it is a `T`.
    pub fn state<T: Any + Send>(&mut self, id: Id) -> Option<&mut T> {
        self.engine.state(id)?.downcast_mut()
    }

    /// What the loop has counted since it began.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// From now on the loop measures the time of its turns ([`Stats::turns`]), which costs it a look at the clock each.
    pub fn measure_turns(&mut self) {
        self.engine.measure_turns();
    }

    /// Stops the server gracefully: it listens no more, every session gets Close 1001, and after
    /// [`Config::shutdown_grace`](crate::Config::shutdown_grace) those that are left are terminated. At a second call, at
    /// once.
    pub fn stop(&mut self) {
        self.engine.stop();
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
