//! A handler that acts at random in every event, and records in the model what the server accepted or reported.

use super::counters::Counters;
use super::model::{Model, Recipient, SessionModel, TOPICS};
use super::peer::ping_number;
use crate::config::{LagPolicy, Replay, SessionLimits};
use crate::context::Context;
use crate::error::{Close, Error, Limit, SendStatus};
use crate::handler::Handler;
use crate::handlers::Echo;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use crate::random::Random;
use crate::router::Router;
use crate::server::testing::shared::Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

/// The payload of a [`RandomHandler`]'s panics.
pub(super) struct InjectedPanic;

/// A handler that acts at random; see the module.
#[derive(Debug)]
pub(super) struct RandomHandler {
    random: Random,
    pub(super) model: Model,
    pub(super) counters: Counters,
    /// Number of actions that are left in this turn.
    pub(super) actions_left: usize,
    /// Of 40 messages, this many are large.
    pub(super) large_in_40: usize,
    /// Payload bytes of a large message.
    pub(super) large_len: usize,
    /// The first `topics` of [`TOPICS`] are used.
    pub(super) topics: usize,
    /// The handler panics in one of this many events. 0: never.
    pub(super) panic_one_in: usize,
    /// The handler may stop the server.
    pub(super) may_stop: bool,
    /// Whether the actions are performed in an event that a route has delivered. A timer fires on the route that set it, so
    /// actions outside of such an event set no timers.
    pub(super) is_in_event: bool,
    /// Ids of the last sessions that were opened. Some of these have ended, so that actions with stale ids are tested, too.
    recent_ids: Vec<Id>,
    /// Sessions that the handler has paused and not resumed. Some of these have ended.
    paused: BTreeSet<Id>,
    /// The idle timeout of sessions that have no other.
    idle_timeout: Option<Duration>,
    /// The limits of sessions that have others than those of `Config`.
    limits: BTreeMap<Id, SessionLimits>,
    handshake_timeout: Duration,
}

impl RandomHandler {
    pub(super) fn new(random: Random, model: Model, config: &crate::Config) -> Self {
        Self {
            random,
            model,
            counters: Counters::default(),
            actions_left: 0,
            large_in_40: 1,
            large_len: 0,
            topics: 1,
            panic_one_in: 0,
            may_stop: false,
            is_in_event: true,
            recent_ids: Vec::new(),
            paused: BTreeSet::new(),
            idle_timeout: config.idle_timeout,
            limits: BTreeMap::new(),
            handshake_timeout: config.handshake_timeout,
        }
    }

    /// Performs up to 3 actions, each on the `current` session or on a recent one.
    pub(super) fn act(&mut self, cx: &mut Context<'_>, current: Option<Id>) {
        for _ in 0..self.random.below(4) {
            if self.actions_left == 0 {
                return;
            }
            self.actions_left -= 1;
            let other = self.random.pick(&self.recent_ids);
            let id = match current {
                Some(id) if self.random.one_in(2) => id,
                _ => match other {
                    Some(id) => id,
                    None => return,
                },
            };
            self.act_once(cx, id);
        }
    }

    fn act_once(&mut self, cx: &mut Context<'_>, id: Id) {
        let topic = self.random.below(self.topics);
        match self.random.below(100) {
            0..=33 => self.send(cx, id),
            34..=60 => self.publish(cx, topic, None),
            61..=67 => self.publish(cx, topic, Some(id)),
            68..=79 => self.subscribe(cx, id, topic),
            80..=84 => self.unsubscribe(cx, id, topic),
            85 => self.close(cx, id),
            86 => self.terminate(cx, id),
            87 if self.random.one_in(2) => self.pause_or_resume(cx, id),
            87..=88 => assert!(!cx.ping(id, b"ours") || cx.is_open(id)),
            89..=93 if self.is_in_event => self.set_timer(cx),
            94..=95 => self.cancel_timer(cx),
            96..=97 => self.query(cx, id),
            98 if self.may_stop && self.random.one_in(8) => {
                self.counters.stops += 1;
                cx.stop();
            }
            98 => self.set_limits(cx, id),
            99 => self.set_replay(cx, topic),
            _ => {}
        }
    }

    fn set_limits(&mut self, cx: &mut Context<'_>, id: Id) {
        let idle_timeouts = [None, Some(None), Some(Some(100)), Some(Some(2_000))];
        let idle_timeout = self.random.pick(&idle_timeouts).flatten();
        let limits = SessionLimits {
            idle_timeout: idle_timeout.map(|timeout| timeout.map(Duration::from_millis)),
            ..SessionLimits::default()
        };
        assert_eq!(cx.set_limits(id, limits), Ok(()));
        // The idle timeout of a session that is closing has no effect any more.
        if cx.is_open(id) || !self.model.sessions.contains_key(&id) {
            self.limits.insert(id, limits);
            self.counters.limit_changes += 1;
        }
    }

    fn pause_or_resume(&mut self, cx: &mut Context<'_>, id: Id) {
        let was_paused = self.paused.remove(&id) && cx.is_open(id);
        assert_eq!(cx.resume(id), was_paused);
        if !was_paused && cx.is_open(id) {
            assert!(cx.pause(id));
            assert!(!cx.pause(id));
            self.paused.insert(id);
            self.counters.pauses += 1;
        }
    }

    /// Resumes all sessions, so that the ends of their streams are noticed.
    pub(super) fn resume_all(&mut self, cx: &mut Context<'_>) {
        for id in mem::take(&mut self.paused) {
            assert_eq!(cx.resume(id), cx.is_open(id));
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, id: Id) {
        let was_open = cx.is_open(id);
        let len = self.len();
        let message = self.model.message(Recipient::Session(id), len);
        match with_message(&message, |message| cx.send(id, message)) {
            SendStatus::Closed => assert!(!cx.is_open(id), "closed, and still open"),
            SendStatus::OverLimit => {
                assert!(was_open && !cx.is_open(id), "OverLimit, and not terminated");
                self.counters.overflows += 1;
            }
            SendStatus::Queued | SendStatus::OverHighWater => {
                assert!(was_open);
                self.model.record_send(id, message);
            }
        }
    }

    fn publish(&mut self, cx: &mut Context<'_>, topic: usize, except: Option<Id>) {
        let len = self.len();
        let message = self.model.message(Recipient::Topic(topic), len);
        let members = &mut self.model.members[topic];
        members.retain(|id| cx.is_open(*id));
        let count = with_message(&message, |message| match except {
            None => cx.publish(TOPICS[topic], message),
            Some(id) => cx.publish_except(id, TOPICS[topic], message),
        });
        let is_excepted = except.is_some_and(|id| members.contains(&id));
        self.counters.exceptions += u64::from(is_excepted && count > 0);
        assert_eq!(
            count,
            members.len() - usize::from(is_excepted),
            "publish returns the number of members"
        );
        self.model.record_publication(topic, message, except);
    }

    /// Returns the payload length of a message. Most are small; a few are large.
    fn len(&mut self) -> usize {
        match self.random.below(40) {
            small if small >= self.large_in_40 + 4 => self.random.below(130),
            middling if middling >= self.large_in_40 => 2_000,
            _ => self.large_len,
        }
    }

    /// Panics in some events, as an application with a bug does, before or after the other actions of the event.
    fn maybe_panic(&mut self) {
        if self.panic_one_in > 0 && self.random.one_in(self.panic_one_in) {
            self.counters.panics += 1;
            // Unlike `panic!`, this prints no message.
            std::panic::resume_unwind(Box::new(InjectedPanic));
        }
    }

    fn subscribe(&mut self, cx: &mut Context<'_>, id: Id, topic: usize) {
        let members = &mut self.model.members[topic];
        members.retain(|id| cx.is_open(*id));
        let is_new = cx.is_open(id) && !members.contains(&id);
        let has_unsent = cx.buffered_amount(id) > 0;
        let before = cx.stats().messages_out;
        assert_eq!(cx.subscribe(id, TOPICS[topic]), is_new);
        let replayed = (cx.stats().messages_out - before) as usize;
        if is_new {
            self.model.record_join(topic, id, replayed, has_unsent);
        }
        self.counters.replays += replayed as u64;
        let members = &self.model.members[topic];
        assert_eq!(cx.subscribers(TOPICS[topic]), members.len());
    }

    fn unsubscribe(&mut self, cx: &mut Context<'_>, id: Id, topic: usize) {
        let was_member = self.model.members[topic].remove(&id) && cx.is_open(id);
        assert_eq!(cx.unsubscribe(id, TOPICS[topic]), was_member);
        if was_member {
            self.model.open_session(id).has_left_topic = true;
        }
    }

    fn set_replay(&mut self, cx: &mut Context<'_>, topic: usize) {
        let setting = match self.random.below(5) {
            0 => None,
            1 | 2 => Some(Replay::Messages(self.random.below(30))),
            _ => Some(Replay::Bytes(self.random.below(20_000))),
        };
        cx.set_replay(TOPICS[topic], setting);
        self.model.record_replay(topic, setting);
    }

    fn close(&mut self, cx: &mut Context<'_>, id: Id) {
        let was_open = cx.is_open(id);
        assert_eq!(cx.close(id, 4000, "enough"), was_open);
        assert!(!cx.is_open(id));
    }

    fn terminate(&mut self, cx: &mut Context<'_>, id: Id) {
        self.counters.terminations += u64::from(cx.is_open(id));
        cx.terminate(id);
        assert!(!cx.is_open(id));
    }

    fn set_timer(&mut self, cx: &mut Context<'_>) {
        let (after, key) = (self.random.below(50), self.random.below(1000) as u64);
        let timer = cx.set_timer(Duration::from_millis(after as u64), key);
        let due = self.model.now + after as u64;
        self.model.timers.insert((due, timer.number), (timer, key));
    }

    fn cancel_timer(&mut self, cx: &mut Context<'_>) {
        let set = self.model.timers.iter();
        let set: Vec<_> = set.map(|(place, (timer, _))| (*place, *timer)).collect();
        if let Some((place, timer)) = self.random.pick(&set) {
            assert!(cx.cancel_timer(timer));
            assert!(!cx.cancel_timer(timer));
            self.model.timers.remove(&place);
        }
    }

    /// Checks that queries return the values of the session that the id names, or nothing.
    fn query(&mut self, cx: &mut Context<'_>, id: Id) {
        for (name, members) in TOPICS.iter().zip(&mut self.model.members) {
            members.retain(|id| cx.is_open(*id));
            assert_eq!(
                cx.members(name).into_iter().collect::<BTreeSet<_>>(),
                *members
            );
            assert_eq!(cx.is_subscribed(id, name), members.contains(&id));
        }
        let topics = cx.topics(id);
        assert!(topics.iter().all(|topic| cx.is_subscribed(id, topic)));
        assert_eq!(cx.count(), self.model.open_count);
        assert!(
            cx.ids()
                .iter()
                .all(|id| self.is_between_open_and_close(*id))
        );
        if self.is_between_open_and_close(id) {
            assert_eq!(cx.path(id).as_deref(), Some("/chat"));
        }
    }

    /// Returns whether the session is between `on_open` and `on_close`.
    fn is_between_open_and_close(&self, id: Id) -> bool {
        let session = self.model.sessions.get(&id);
        session.is_some_and(|session| !session.is_closed)
    }

    /// Records that input of a session arrived. Returns the model of the session.
    fn record_input(&mut self, cx: &Context<'_>, id: Id) -> &mut SessionModel {
        let now = self.model.now;
        assert!(!cx.is_open(id) || !self.paused.contains(&id), "paused");
        let session = self.model.open_session(id);
        // Input after our Close does not postpone the idle timeout.
        if cx.is_open(id) {
            session.last_input_at = now;
        }
        session
    }
}

impl Handler for RandomHandler {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        assert!(!self.model.sessions.contains_key(&id) && !cx.is_open(id));
        self.act(cx, Some(id));
        self.maybe_panic();
        if self.random.one_in(15) {
            return Err(HttpResponse::new(403, "not you\n"));
        }
        Ok(())
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, _: &Request) -> HttpResponse {
        assert!(!self.model.sessions.contains_key(&id));
        self.act(cx, Some(id));
        HttpResponse::new(200, "a page\n")
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.model.record_open(id);
        self.counters.sessions += 1;
        self.recent_ids.push(id);
        if self.recent_ids.len() > RECENT_IDS_MAX {
            self.recent_ids.remove(0);
        }
        let topic = self.random.below(2);
        self.subscribe(cx, id, topic);
        for _ in 0..self.random.below(1 + self.topics / 4) {
            let topic = self.random.below(self.topics);
            self.subscribe(cx, id, topic);
        }
        self.act(cx, Some(id));
    }

    /// Checks that each message arrives whole, once, in order and from its sender: the payload has the sender's id and the
    /// number of the message.
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let session = self.record_input(cx, id);
        let text = std::str::from_utf8(message.as_bytes()).unwrap();
        let expected = format!("{id}:{}:", session.messages_in);
        assert!(text.starts_with(&expected), "{expected} but {text}");
        let is_whole = text.ends_with(']') && text.matches('[').count() == 1;
        assert!(is_whole, "{text}");
        session.messages_in += 1;
        self.counters.messages_in += 1;
        self.maybe_panic();
        self.act(cx, Some(id));
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let session = self.record_input(cx, id);
        // A ping that arrives after our Close is not answered.
        if cx.is_open(id) {
            session.last_ping = Some(ping_number(payload));
        }
        self.act(cx, Some(id));
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, _: &[u8]) {
        self.record_input(cx, id);
        self.act(cx, Some(id));
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.model.open_session(id);
        self.counters.drains += 1;
        self.act(cx, Some(id));
        self.maybe_panic();
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let topic = TOPICS.iter().position(|name| *name == topic).unwrap();
        assert_eq!(self.model.policies[topic], LagPolicy::Skip);
        self.model.open_session(id).skipped[topic] += messages;
        self.counters.skips += messages;
        self.act(cx, Some(id));
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        assert!(!cx.is_open(id));
        self.model.record_close(id, close.by);
        self.maybe_panic();
        self.act(cx, Some(id));
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let id = id.expect("there are no listeners");
        let now = self.model.now;
        if let Some(session) = self.model.sessions.get_mut(&id) {
            session.has_failed = true;
        }
        match error {
            Error::Limit(Limit::HandshakeTimeout) => {
                let waited = now - self.model.connected_at[&id];
                assert!(waited >= self.handshake_timeout.as_millis() as u64, "early");
                self.counters.timeouts += 1;
            }
            Error::Limit(Limit::IdleTimeout) => {
                let waited = now - self.model.open_session(id).last_input_at;
                let limits = self.limits.get(&id).copied().unwrap_or_default();
                let timeout = limits.idle_timeout.unwrap_or(self.idle_timeout);
                let timeout = timeout.expect("it was set").as_millis() as u64;
                assert!(waited >= timeout, "early");
                self.counters.timeouts += 1;
            }
            Error::Limit(_) => self.counters.limits += 1,
            Error::Protocol(_) => self.counters.violations += 1,
            Error::Io(_) => self.counters.failures += 1,
            Error::Shutdown => self.counters.limits += 1,
            Error::HandlerPanicked => assert!(self.counters.panics > 0),
            Error::Response(_) | Error::ProxyHeader => panic!("{error}"),
            #[cfg(feature = "tls")]
            Error::Tls(_) | Error::NotTls => self.counters.tls_failures += 1,
        }
        self.maybe_panic();
        // A connection without a session has no route, so its timers would reach no handler.
        self.is_in_event = self.model.sessions.contains_key(&id);
        self.act(cx, Some(id));
        self.is_in_event = true;
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        self.model.expire_timer(key);
        self.act(cx, None);
        self.maybe_panic();
    }
}

/// Calls `act` with the message as an argument for [`Context::send`] or [`Context::publish`].
fn with_message<R>(
    accepted: &super::model::AcceptedMessage,
    act: impl FnOnce(Message<'_>) -> R,
) -> R {
    let payload = accepted.payload();
    if accepted.is_text() {
        act(Message::text(std::str::from_utf8(&payload).unwrap()))
    } else {
        act(Message::binary(&payload))
    }
}

/// Maximum length of `recent_ids`.
const RECENT_IDS_MAX: usize = 40;

/// Returns the handler behind two routers, one nested in the other, so that the simulation tests the routers, too.
pub(super) fn behind_routers(random_handler: &Shared<RandomHandler>) -> RoutedHandler {
    let inner = Router::new()
        .route("/other", Echo::new())
        .route("/chat", Forward(random_handler.clone()));
    let router = Router::new()
        .route("/nothing", Echo::new())
        .route("/", Forward(random_handler.clone()))
        .route("/*", inner);
    let random_handler = random_handler.clone();
    RoutedHandler {
        router,
        random_handler,
    }
}

/// A [`RandomHandler`] behind two routers; see [`behind_routers`].
pub(super) struct RoutedHandler {
    router: Router,
    random_handler: Shared<RandomHandler>,
}

/// Forwards every event to a handler that the simulation also has access to.
struct Forward(Shared<RandomHandler>);

impl Handler for Forward {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.0.lock().on_upgrade(cx, id, request, upgrade)
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        self.0.lock().on_http(cx, id, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.0.lock().on_open(cx, id);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.0.lock().on_message(cx, id, message);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.0.lock().on_ping(cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.0.lock().on_pong(cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.0.lock().on_drain(cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        self.0.lock().on_skip(cx, id, topic, messages);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        self.0.lock().on_close(cx, id, close);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        self.0.lock().on_error(cx, id, error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        self.0.lock().on_timer(cx, key);
    }

    fn on_session_timer(&mut self, cx: &mut Context<'_>, id: Id, key: u64) {
        self.0.lock().on_session_timer(cx, id, key);
    }
}

impl Handler for RoutedHandler {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.router)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.router.on_message(cx, id, message);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let is_session = |id| self.random_handler.lock().model.sessions.contains_key(&id);
        if id.is_some_and(is_session) {
            self.router.on_error(cx, id, error);
        } else {
            // A connection without a session has no route.
            self.random_handler.lock().on_error(cx, id, error);
        }
    }
}
