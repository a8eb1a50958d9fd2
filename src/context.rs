//! The operations that a handler can use: [`Context`].

use crate::config::{ConfigError, LagPolicy, Replay, SessionLimits};
use crate::engine::Engine;
use crate::engine::session::{Kind, Phase};
use crate::engine::sources::Owner;
use crate::engine::timers::When;
use crate::error::SendStatus;
use crate::id::{Id, SourceId, TimerId};
use crate::proto::ToMessage;
use crate::stats::Stats;
use mio::Interest;
use mio::event::Source;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The operations that a handler can use in each of its events.
///
/// Operations on a session take its [`Id`]. If the session has ended, they have no effect, and queries return `None`,
/// `false` or zero. No operation blocks.
///
/// Outside of events, use [`Server::with_context`](crate::Server::with_context) on the loop's thread, and
/// [`Handle`](crate::Handle) on other threads.
pub struct Context<'a> {
    engine: &'a mut Engine,
    /// Number of the route whose handler uses this context; 0 without a router. Timers that the handler sets and sources
    /// that it registers are reported to that handler.
    scope: u32,
}

impl<'a> Context<'a> {
    #[inline]
    pub(crate) fn new(engine: &'a mut Engine) -> Self {
        Self { engine, scope: 0 }
    }

    /// Returns a context for one handler of a router. Timers and sources of this context are reported to that handler:
    /// [`on_timer`](crate::Handler::on_timer) and [`on_source`](crate::Handler::on_source) are called with the scope in
    /// which the timer was set or the source was registered.
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

    /// Returns whether the handler receives events of the session: `on_open` was called, and the session has not ended.
    pub(crate) fn has_events(&self, id: Id) -> bool {
        let session = self.engine.session(id);
        session.is_some_and(|session| session.kind == Kind::Opened && session.phase != Phase::Dead)
    }

    /// Returns a new scope, which no other handler has, within the scope of this context.
    pub(crate) fn new_scope(&mut self) -> u32 {
        self.engine.new_scope(self.scope)
    }

    /// Returns whether the scope of this context is `outer` or is within `outer`.
    pub(crate) fn is_within(&self, outer: u32) -> bool {
        self.engine.is_scope_within(self.scope, outer)
    }

    /// Sends a message to one session as one frame (RFC 6455 section 5.6), after everything that was sent or
    /// published to it before. If the unsent bytes of direct messages exceed
    /// [`Config::high_water_bytes`](crate::Config::high_water_bytes), and this message
    /// would make them exceed [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max), the result is
    /// [`OverLimit`](SendStatus::OverLimit) and the session is terminated. Otherwise the length is not limited.
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
    #[inline]
    pub fn send(&mut self, id: Id, message: impl ToMessage) -> SendStatus {
        self.engine.send(id, message.to_message())
    }

    /// Sends a ping with the first 125 bytes of `payload` (RFC 6455 section 5.5.2). Returns `false` if the session is
    /// not open or has more unsent bytes of direct messages than
    /// [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max).
    pub fn ping(&mut self, id: Id, payload: &[u8]) -> bool {
        self.engine.ping(id, payload)
    }

    /// Stops reading from the session until [`resume`](Self::resume), so that TCP makes the peer wait. Returns `false`
    /// without any effect if the session is not open or is paused already.
    ///
    /// While the session is paused, the handler receives none of its messages, pings and pongs. Input that the server
    /// has read already is processed after `resume`: at most
    /// [`Config::receive_buffer_bytes`](crate::Config::receive_buffer_bytes), and the part of one incomplete message.
    /// Messages can still be sent to the session.
    ///
    /// Automatic pings ([`Config::ping_interval`](crate::Config::ping_interval)) are still sent. Their pongs are not read, so
    /// [`Config::idle_timeout`](crate::Config::idle_timeout) does not close a paused session. The server notices the
    /// end of the peer's stream only after `resume`, but a reset of the connection at once. [`close`](Self::close) and
    /// [`stop`](Self::stop) resume the session, because the closing handshake needs the peer's Close. With
    /// [`Config::stop_spread`](crate::Config::stop_spread), a stop resumes each session when it closes the session.
    ///
    /// ```
    /// use wsloop::testing::Harness;
    /// use wsloop::{Config, handler_fn};
    ///
    /// // A worker that accepts one job at a time.
    /// let mut harness = Harness::new(Config::default(), handler_fn(|cx, id, _| cx.pause(id)));
    /// let id = harness.connect("/");
    /// harness.send(id, "job 1");
    /// harness.send(id, "job 2"); // waits
    /// assert!(harness.with_context(|cx| cx.resume(id)));
    /// ```
    pub fn pause(&mut self, id: Id) -> bool {
        self.engine.pause(id)
    }

    /// Resumes reading from a session that [`pause`](Self::pause) has paused, in the next read phase. Restarts the idle
    /// timeout. Returns `false` if the session was not paused.
    pub fn resume(&mut self, id: Id) -> bool {
        self.engine.resume(id)
    }

    /// Replaces limits of [`Config`](crate::Config) for one session. The fields of `limits` that are `None` return to
    /// the limits of `Config`, also if an earlier call or the route ([`Router::route_with`](crate::Router::route_with))
    /// has replaced them.
    ///
    /// A call in [`Handler::on_upgrade`](crate::Handler::on_upgrade) applies to the whole session. A later call, for
    /// example after a login, applies from the next frame on, and an idle timeout that it changes starts again.
    ///
    /// # Errors
    /// If a limit is out of range, or if the server has 15 other [`SessionLimits`] already: each different set of
    /// values counts, as long as the server runs. The limits of the session are unchanged then.
    ///
    /// ```
    /// use wsloop::testing::{Harness, Received};
    /// use wsloop::{Config, Context, Handler, Id, Message, SessionLimits};
    ///
    /// /// Accepts messages of up to 8 bytes until the client has sent the password.
    /// struct Login;
    ///
    /// impl Handler for Login {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
    ///         let limits = SessionLimits { message_bytes_max: Some(8), ..SessionLimits::default() };
    ///         cx.set_limits(id, limits).expect("the only set of limits");
    ///     }
    ///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
    ///         if message.as_text() == Some("password") {
    ///             cx.set_limits(id, SessionLimits::default()).expect("the limits of Config");
    ///         }
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Config::default(), Login);
    /// let (guest, user) = (harness.connect("/"), harness.connect("/"));
    /// harness.send(user, "password");
    /// for id in [guest, user] {
    ///     harness.send(id, "a longer message");
    /// }
    /// assert!(matches!(harness.received(guest)[0], Received::Close(1009, _)));
    /// assert_eq!(harness.received(user), []);
    /// ```
    pub fn set_limits(&mut self, id: Id, limits: SessionLimits) -> Result<(), ConfigError> {
        self.engine.set_limits(id, limits)
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
    /// phase, normally that of this turn. Its code is 1006, unless another code was recorded before, for example by
    /// [`close`](Self::close).
    pub fn terminate(&mut self, id: Id) {
        self.engine.terminate(id);
    }

    /// Makes the session a member of `topic`. A topic needs no creation: any text is a name, and a topic without
    /// members, unsent bytes, retained messages and settings takes no memory. The member receives the messages that the
    /// topic retains ([`set_replay`](Self::set_replay)), and then those that are published from now on.
    /// Returns `false` if the session is a member already, is not open, or is a member of
    /// [`Config::memberships_max`](crate::Config::memberships_max) topics.
    pub fn subscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.subscribe(id, topic)
    }

    /// Makes the session a member as [`subscribe`](Self::subscribe) does, and sets what the topic retains for members
    /// that join later. The setting lasts as long as the topic exists: while the topic has members or retains messages.
    /// If
    /// [`set_replay`](Self::set_replay) was called for the topic's name, that setting takes precedence.
    ///
    /// Use this method if clients choose the names of topics: a setting of `set_replay` takes memory for the name until
    /// the setting is removed, even without the topic.
    pub fn subscribe_with_replay(&mut self, id: Id, topic: &str, replay: Replay) -> bool {
        self.engine.subscribe_with_replay(id, topic, replay)
    }

    /// Ends the session's membership of `topic`. Messages that were published before are still sent to it. Returns
    /// `false` if the session was not a member.
    pub fn unsubscribe(&mut self, id: Id, topic: &str) -> bool {
        self.engine.unsubscribe(id, topic)
    }

    /// Sends a message to every member of `topic`, and returns the number of members. The message is framed once. Costs
    /// O(1) here; flushing costs O(messages + members) per turn. Members that do not read: see [`LagPolicy`].
    ///
    /// # Order
    ///
    /// - All members receive the publications of one topic in the order of the calls.
    /// - A session receives publications, direct messages ([`send`](Self::send)), pings ([`ping`](Self::ping)) and the
    ///   Close ([`close`](Self::close)) in the order of the calls. [`terminate`](Self::terminate) drops what is unsent.
    /// - Publications of different topics to one session can change places, unless a direct message, a ping or the Close
    ///   was queued for this session between the two calls.
    /// - A session receives what is published after [`subscribe`](Self::subscribe) and before
    ///   [`unsubscribe`](Self::unsubscribe) or [`close`](Self::close), also within a turn.
    #[cfg_attr(
        feature = "backplane",
        doc = "\n# With a backplane\n\nThe message is sent to the broker and delivered when it comes back, in a later turn, to \
               the sessions that are members then. The order of a topic's messages is that of the broker. Direct messages \
               that are sent after the call can arrive before the publication. Returns the number of members on this \
               server, or 0 if the message is refused: see \
               [`BackplaneOptions`](crate::backplane::BackplaneOptions)."
    )]
    pub fn publish(&mut self, topic: &str, message: impl ToMessage) -> usize {
        self.engine.publish(topic, message.to_message())
    }

    /// Sends a message only to the members of `topic` on this server, without the broker. Does the same as
    /// [`publish`](Self::publish) on a server without a [backplane](crate::backplane). With one, the message can arrive before
    /// messages that were published earlier.
    #[cfg(feature = "backplane")]
    pub fn publish_local(&mut self, topic: &str, message: impl ToMessage) -> usize {
        self.engine.publish_local(topic, message.to_message())
    }

    /// Returns whether the server has had no connection to the broker on which all topics were subscribed for longer than
    /// [`BackplaneOptions::grace`](crate::backplane::BackplaneOptions::grace). `false` without a backplane. While it is
    /// `true`, a readiness check should fail, and [`Broadcast`](crate::handlers::Broadcast) refuses new sessions with 503.
    #[cfg(feature = "backplane")]
    pub fn is_backplane_away(&self) -> bool {
        self.engine.is_backplane_away()
    }

    /// Sends a message to every member of `topic` except the session `id`, and returns the number of members that it is
    /// sent to. Does the same as [`publish`](Self::publish) if the session is not a member. Costs O(topics of the
    /// session) more than `publish`.
    ///
    /// The session still receives all other publications. While the session has unsent publications, a message from
    /// which it is excepted counts up to 128 KiB against its [`Config::lag_bytes_max`](crate::Config::lag_bytes_max),
    /// because the topic's log may have to retain the message.
    ///
    /// ```
    /// use wsloop::testing::{Harness, Received};
    /// use wsloop::{Config, Context, Handler, Id, Message};
    ///
    /// struct Chat;
    ///
    /// impl Handler for Chat {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
    ///         cx.publish("chat", format!("{id} joins"));
    ///         cx.subscribe(id, "chat");
    ///     }
    ///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
    ///         cx.publish_except(id, "chat", message);
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Config::default(), Chat);
    /// let (anna, bert) = (harness.connect("/"), harness.connect("/"));
    /// harness.received(anna);
    /// harness.send(anna, "hello");
    /// assert_eq!(harness.received(anna), []);
    /// assert_eq!(harness.received(bert), [Received::Text("hello".into())]);
    /// ```
    pub fn publish_except(&mut self, id: Id, topic: &str, message: impl ToMessage) -> usize {
        self.engine.publish_except(id, topic, message.to_message())
    }

    /// Returns the members of `topic`, in no particular order. All of them are open. O(members): to send to all members,
    /// use [`publish`](Self::publish); for their number, [`subscribers`](Self::subscribers).
    pub fn members(&self, topic: &str) -> Vec<Id> {
        self.engine.members(topic)
    }

    /// Returns the names of the topics of which the session is a member, in no particular order. O(topics of the
    /// session). Empty for a session that is closing or has ended: its memberships end with the first Close, before
    /// `on_close`.
    pub fn topics(&self, id: Id) -> Vec<Arc<str>> {
        self.engine.topics(id)
    }

    /// Returns whether the session is a member of `topic`. O(topics of the session).
    pub fn is_subscribed(&self, id: Id, topic: &str) -> bool {
        self.engine.is_subscribed(id, topic)
    }

    /// Returns the number of members of `topic`.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.engine.subscribers(topic)
    }

    /// Sets the lag policy of a topic, instead of [`Config::lag_policy`](crate::Config::lag_policy) and that of the
    /// member's [`SessionLimits`]. `None` resets the topic to those policies. The topic need not have members.
    pub fn set_lag_policy(&mut self, topic: &str, policy: Option<LagPolicy>) {
        self.engine.set_lag_policy(topic, policy);
    }

    /// Sets what `topic` retains for members that join later: the last lines of a chat, the last value of a price.
    /// `None`, the default, resets it and releases what is retained. The topic need not have members: it retains what is
    /// published while it has none, too.
    ///
    /// A session that subscribes receives the retained messages at once: after everything that was sent or published to
    /// it before, before everything that is sent or published to it later, and none of them twice. A publication from which
    /// a member was excepted ([`publish_except`](Self::publish_except)) is retained as well. Each call of
    /// [`subscribe`](Self::subscribe) that returns `true` replays them, also to a session that was a member before.
    ///
    /// The messages are stored once, in the topic's log, and are not copied for a new member. All topics together retain
    /// at most [`Config::replay_bytes_max`](crate::Config::replay_bytes_max). The replayed messages count as unsent
    /// publications. A session receives only the newest messages with which its unsent publications, 128 bytes for each
    /// queue entry included, do not exceed [`Config::lag_bytes_max`](crate::Config::lag_bytes_max): so a replay alone
    /// does not make a session lag, and a client that joins many topics at once receives a limited number of bytes.
    ///
    /// Costs O(1), and O(messages) if it releases some.
    ///
    /// ```
    /// use wsloop::testing::{Harness, Received};
    /// use wsloop::{Config, Context, Handler, Id, Message, Replay};
    ///
    /// struct Chat;
    ///
    /// impl Handler for Chat {
    ///     fn on_start(&mut self, cx: &mut Context<'_>) {
    ///         cx.set_replay("chat", Some(Replay::Messages(2)));
    ///     }
    ///     fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
    ///         cx.subscribe(id, "chat");
    ///         let _ = cx.send(id, "welcome");
    ///     }
    ///     fn on_message(&mut self, cx: &mut Context<'_>, _: Id, message: Message<'_>) {
    ///         cx.publish("chat", message);
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Config::default(), Chat);
    /// let first = harness.connect("/");
    /// for text in ["a", "b", "c"] {
    ///     harness.send(first, text);
    /// }
    /// let late = harness.connect("/");
    /// let texts = ["b", "c", "welcome"].map(|text| Received::Text(text.into()));
    /// assert_eq!(harness.received(late), texts);
    /// ```
    pub fn set_replay(&mut self, topic: &str, replay: Option<Replay>) {
        self.engine.set_replay(topic, replay);
    }

    /// Sets a timer: [`Handler::on_timer`](crate::Handler::on_timer) is called with `key`, once after a `Duration`, or
    /// as [`When`] states: at a time, or repeatedly. Times are rounded up to milliseconds; a timer is never early.
    /// Several timers can have the same key. Costs O(log timers).
    pub fn set_timer(&mut self, when: impl Into<When>, key: u64) -> TimerId {
        self.engine.set_timer(when.into(), key, self.scope)
    }

    /// Sets a timer that belongs to a session: [`Handler::on_session_timer`](crate::Handler::on_session_timer) is
    /// called with the session's id and `key`. When the session ends, its timers are cancelled. Returns `None` if the
    /// session has ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::testing::{Harness, Received};
    /// use wsloop::{Config, Context, Handler, Id, Message};
    ///
    /// /// Closes sessions that send no login within ten seconds.
    /// struct Login;
    ///
    /// impl Handler for Login {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
    ///         cx.set_session_timer(id, Duration::from_secs(10), 0);
    ///     }
    ///     fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    ///     fn on_session_timer(&mut self, cx: &mut Context<'_>, id: Id, _: u64) {
    ///         cx.close(id, 1008, "no login");
    ///     }
    /// }
    ///
    /// let mut harness = Harness::new(Config::default(), Login);
    /// let id = harness.connect("/");
    /// harness.advance(Duration::from_secs(10));
    /// assert_eq!(harness.received(id)[0], Received::Close(1008, "no login".into()));
    /// ```
    pub fn set_session_timer(
        &mut self,
        id: Id,
        when: impl Into<When>,
        key: u64,
    ) -> Option<TimerId> {
        self.engine
            .set_session_timer(id, when.into(), key, self.scope)
    }

    /// Returns the time at the start of this turn, in whole milliseconds since the start of the server. In a
    /// [`Harness`](crate::testing::Harness), the time that the test has advanced to.
    pub fn now(&self) -> Instant {
        self.engine.instant()
    }

    /// Cancels a timer. Returns `false` if the timer is no longer set: it was cancelled before, its session has ended,
    /// or it was not repeated and its event was called already.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.engine.cancel_timer(timer)
    }

    /// Adds an event source to the server's poll: any mio socket, pipe or signal source.
    /// [`Handler::on_source`](crate::Handler::on_source) is called with `key` when the source becomes ready for
    /// `interest`. Behind a [`Router`](crate::Router), the handler that has registered the source is called. The
    /// handler owns the source, and reads and writes it. Several sources can have the same key.
    ///
    /// Call [`deregister`](Self::deregister) before the source is dropped: a dropped source causes no events, but its
    /// entry in the table of sources (48 bytes) stays.
    ///
    /// # Errors
    /// The system's error, or `OutOfMemory` if 2^32 - 1 sources are registered (65 535 on 32-bit targets).
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        key: u64,
        interest: Interest,
    ) -> io::Result<SourceId> {
        let owner = Owner {
            key,
            scope: self.scope,
            session: None,
        };
        self.engine.register(source, owner, interest)
    }

    /// Adds an event source that belongs to a session, such as the upstream connection of a proxy:
    /// [`Handler::on_session_source`](crate::Handler::on_session_source) is called with the session's id and `key`.
    /// When the session ends, further events of the source are ignored, and it needs no
    /// [`deregister`](Self::deregister) if it is dropped. To register it again, for example for another session,
    /// deregister it in [`Handler::on_close`](crate::Handler::on_close) at the latest.
    ///
    /// # Errors
    /// As [`register`](Self::register); `NotFound` if the session has ended.
    pub fn register_for_session(
        &mut self,
        id: Id,
        source: &mut (impl Source + ?Sized),
        key: u64,
        interest: Interest,
    ) -> io::Result<SourceId> {
        let owner = Owner {
            key,
            scope: self.scope,
            session: Some(id),
        };
        self.engine.register(source, owner, interest)
    }

    /// Changes the interest of a registered source. An event follows if the source is ready for `interest` already.
    ///
    /// # Errors
    /// The system's error; `NotFound` if the source was deregistered, or its session has ended.
    pub fn reregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
        interest: Interest,
    ) -> io::Result<()> {
        self.engine.sources.reregister(source, id, interest)
    }

    /// Removes a source from the server's poll. Events that the poll has reported already are dropped.
    ///
    /// # Errors
    /// The system's error; `NotFound` if the source was deregistered, or its session has ended.
    pub fn deregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
    ) -> io::Result<()> {
        self.engine.deregister(source, id)
    }

    /// Returns the client's address. Behind a proxy, this is the address of the proxy, unless the proxy names the
    /// client and is believed: in a header of the request
    /// ([`Config::trusted_proxies`](crate::Config::trusted_proxies)), or in a header of the PROXY protocol
    /// (`ListenOptions::proxy_protocol`). The port is 0 if the proxy names none. IPv6 scope and flow are zero. Returns
    /// `None` for a Unix socket, unless a proxy names the client.
    pub fn peer_addr(&self, id: Id) -> Option<SocketAddr> {
        self.engine.peer_addr(id)
    }

    /// Returns the number that the options of the session's listener give to its connections
    /// ([`ListenOptions::tag`](crate::ListenOptions::tag)). Returns 0 if they give none, or if there is no such session.
    pub fn listener_tag(&self, id: Id) -> u8 {
        self.engine.listener_tag(id)
    }

    /// Returns the time between the newest automatic ping
    /// ([`Config::ping_interval`](crate::Config::ping_interval)) that the peer has answered and its pong, in whole
    /// milliseconds. It includes the time that either side took to read: the server measures from the start of one turn to
    /// the start of another. `None` if the peer has not answered one yet.
    ///
    /// Only peers that are silent for [`Config::ping_interval`](crate::Config::ping_interval) get automatic pings.
    /// Measure busy peers with [`ping`](Self::ping). A pong after the rest of the idle timeout is not counted, and the
    /// result is `None` after it. The pong to a ping that was sent during a [`pause`](Self::pause) is not counted either.
    /// An unsolicited pong changes nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wsloop::testing::Harness;
    /// use wsloop::{Config, handlers::Echo};
    ///
    /// let mut harness = Harness::new(Config::default(), Echo::new());
    /// let id = harness.connect("/");
    /// assert_eq!(harness.with_context(|cx| cx.rtt(id)), None);
    /// harness.advance(Duration::from_secs(100));
    /// assert_eq!(harness.with_context(|cx| cx.rtt(id)), Some(Duration::ZERO)); // no time passes on the way
    /// ```
    pub fn rtt(&self, id: Id) -> Option<Duration> {
        self.engine.rtt(id)
    }

    /// Returns the facts about a session's TLS connection: its version, the host name that the client has sent (SNI), and
    /// the client's certificates. `None` if the session does not use TLS. Can be called in `on_upgrade` and `on_http`, too.
    ///
    /// ```no_run
    /// # use wsloop::{Context, Handler, HttpResponse, Id, Message, Request, Upgrade};
    /// struct Members;
    ///
    /// impl Handler for Members {
    ///     fn on_upgrade(
    ///         &mut self,
    ///         cx: &mut Context<'_>,
    ///         id: Id,
    ///         _: &Request,
    ///         _: &mut Upgrade,
    ///     ) -> Result<(), HttpResponse> {
    ///         match cx.tls(id).and_then(|tls| tls.client_certificates()) {
    ///             Some([own, ..]) if is_member(own) => Ok(()),
    ///             _ => Err(HttpResponse::new(403, "members only\n")),
    ///         }
    ///     }
    ///     fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    /// }
    /// # fn is_member(_: &[u8]) -> bool { true }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(&self, id: Id) -> Option<crate::TlsSession<'_>> {
        self.engine.tls(id)
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

    /// Returns whether the session is open, so that messages can be sent to it. A session is not open in `on_upgrade`,
    /// nor after [`close`](Self::close) or the peer's Close.
    pub fn is_open(&self, id: Id) -> bool {
        self.engine.is_open(id)
    }

    /// Returns the server's counters. O(sessions whose sockets accept nothing at the moment).
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Starts to measure the duration of each turn ([`Stats::turns`]), which costs one read of the clock per turn.
    pub fn measure_turns(&mut self) {
        self.engine.measure_turns();
    }

    /// Refuses new sessions from now on, as the first step of a shutdown without lost requests: opening handshakes are
    /// answered with 503, and open sessions continue. The listeners stay open and plain HTTP requests are still passed
    /// to [`Handler::on_http`](crate::Handler::on_http), so that a health check can report the state
    /// ([`is_draining`](Self::is_draining)). When load balancers have noticed, call [`stop`](Self::stop). Further calls
    /// have no effect.
    ///
    /// ```
    /// use wsloop::testing::{Harness, opening};
    /// use wsloop::{Config, handlers::Echo};
    ///
    /// let mut harness = Harness::new(Config::default(), Echo::new());
    /// harness.connect("/");
    /// harness.with_context(|cx| cx.drain());
    /// assert_eq!(harness.open(opening("/")).unwrap_err().status(), 503);
    /// assert_eq!(harness.count(), 1);
    /// ```
    pub fn drain(&mut self) {
        self.engine.refuse_new_sessions();
    }

    /// Returns whether [`drain`](Self::drain) or [`stop`](Self::stop) was called.
    pub fn is_draining(&self) -> bool {
        self.engine.is_draining()
    }

    /// Stops the server gracefully: [`Handler::on_stop`](crate::Handler::on_stop) is called, the listeners are closed,
    /// and every session gets Close 1001, all at once or spread over
    /// [`Config::stop_spread`](crate::Config::stop_spread), which also describes a wait for the backplane. Sessions that have
    /// not ended within [`Config::shutdown_grace`](crate::Config::shutdown_grace) after the last Close are terminated. A
    /// second call terminates all sessions immediately.
    pub fn stop(&mut self) {
        self.engine.stop();
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
