//! A handler that does anything at any time, and writes down in its ledger what it was promised.

use super::ledger::{Account, Addressee, Ledger, TOPICS};
use super::peer::ping_number;
use super::random::Random;
use super::tally::Tally;
use crate::config::LagPolicy;
use crate::context::Context;
use crate::error::{Close, Error, Limit, SendStatus};
use crate::handler::Handler;
use crate::handlers::Echo;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use crate::router::Router;
use crate::server::testing::shared::Shared;
use std::time::Duration;

/// What a [`Chaos`] panics with.
pub(super) struct Bug;

/// See the module.
#[derive(Debug)]
pub(super) struct Chaos {
    random: Random,
    pub(super) ledger: Ledger,
    pub(super) tally: Tally,
    /// Actions that are left to this turn.
    pub(super) actions_left: usize,
    /// Large messages, in 40, and their length.
    pub(super) large_in_40: usize,
    pub(super) large_len: usize,
    /// Of [`TOPICS`], those that are used.
    pub(super) topics: usize,
    /// See [`Profile`](super::Profile).
    pub(super) panic_one_in: usize,
    /// The handler may stop the server.
    pub(super) may_stop: bool,
    /// The handler acts in one of its events: a timer that it sets comes back to it.
    pub(super) is_in_event: bool,
    /// Sessions that it has met lately, those that are gone as well: names outlive sessions.
    known: Vec<Id>,
    idle_timeout: Option<Duration>,
    handshake_timeout: Duration,
}

impl Chaos {
    pub(super) fn new(random: Random, ledger: Ledger, config: &crate::Config) -> Self {
        Self {
            random,
            ledger,
            tally: Tally::default(),
            actions_left: 0,
            large_in_40: 1,
            large_len: 0,
            topics: 1,
            panic_one_in: 0,
            may_stop: false,
            is_in_event: true,
            known: Vec::new(),
            idle_timeout: config.idle_timeout,
            handshake_timeout: config.handshake_timeout,
        }
    }

    /// A few actions, on the session at hand or on any other.
    pub(super) fn act(&mut self, cx: &mut Context<'_>, at_hand: Option<Id>) {
        for _ in 0..self.random.below(4) {
            if self.actions_left == 0 {
                return;
            }
            self.actions_left -= 1;
            let other = self.random.pick(&self.known);
            let id = match at_hand {
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
            34..=67 => self.publish(cx, topic),
            68..=79 => self.subscribe(cx, id, topic),
            80..=84 => self.unsubscribe(cx, id, topic),
            85 => self.close(cx, id),
            86 => self.terminate(cx, id),
            87..=88 => assert!(!cx.ping(id, b"ours") || cx.is_open(id)),
            89..=93 if self.is_in_event => self.set_timer(cx),
            94..=95 => self.cancel_timer(cx),
            96..=97 => self.ask(cx, id),
            98 if self.may_stop && self.random.one_in(8) => {
                self.tally.stops += 1;
                cx.stop();
            }
            _ => {}
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, id: Id) {
        let was_open = cx.is_open(id);
        let len = self.len();
        let message = self.ledger.message(Addressee::Session(id), len);
        match with_message(&message, |message| cx.send(id, message)) {
            SendStatus::Refused => {
                assert!(!cx.is_open(id), "refused, and not terminated");
                self.tally.overflows += u64::from(was_open);
            }
            SendStatus::Queued | SendStatus::OverHighWater => {
                assert!(was_open);
                self.ledger.owe(id, message);
            }
        }
    }

    fn publish(&mut self, cx: &mut Context<'_>, topic: usize) {
        let len = self.len();
        let message = self.ledger.message(Addressee::Topic(topic), len);
        self.ledger.members[topic].retain(|id| cx.is_open(*id));
        let count = with_message(&message, |message| cx.publish(TOPICS[topic], message));
        assert_eq!(
            count,
            self.ledger.members[topic].len(),
            "everyone who is in it is a member"
        );
        self.ledger.owe_members(topic, message);
    }

    /// Bytes of a message: most are small, few are larger than what is written straight to a socket.
    fn len(&mut self) -> usize {
        match self.random.below(40) {
            small if small >= self.large_in_40 + 4 => self.random.below(130),
            middling if middling >= self.large_in_40 => 2_000,
            _ => self.large_len,
        }
    }

    /// Panics at times, behind the ledger's back or in front of it, as an application with a bug does.
    fn maybe_panic(&mut self) {
        if self.panic_one_in > 0 && self.random.one_in(self.panic_one_in) {
            self.tally.panics += 1;
            // Without a message on stderr.
            std::panic::resume_unwind(Box::new(Bug));
        }
    }

    fn subscribe(&mut self, cx: &mut Context<'_>, id: Id, topic: usize) {
        let members = &mut self.ledger.members[topic];
        members.retain(|id| cx.is_open(*id));
        let is_new = cx.is_open(id) && !members.contains(&id);
        assert_eq!(cx.subscribe(id, TOPICS[topic]), is_new);
        if is_new {
            members.insert(id);
        }
        assert_eq!(cx.subscribers(TOPICS[topic]), members.len());
    }

    fn unsubscribe(&mut self, cx: &mut Context<'_>, id: Id, topic: usize) {
        let was_member = self.ledger.members[topic].remove(&id) && cx.is_open(id);
        assert_eq!(cx.unsubscribe(id, TOPICS[topic]), was_member);
        if was_member {
            self.ledger.open(id).has_left = true;
        }
    }

    fn close(&mut self, cx: &mut Context<'_>, id: Id) {
        let was_open = cx.is_open(id);
        assert_eq!(cx.close(id, 4000, "enough"), was_open);
        assert!(!cx.is_open(id));
    }

    fn terminate(&mut self, cx: &mut Context<'_>, id: Id) {
        self.tally.terminations += u64::from(cx.is_open(id));
        cx.terminate(id);
        assert!(!cx.is_open(id));
    }

    fn set_timer(&mut self, cx: &mut Context<'_>) {
        let (after, key) = (self.random.below(50), self.random.below(1000) as u64);
        let timer = cx.set_timer(Duration::from_millis(after as u64), key);
        assert_eq!(timer.due, self.ledger.now + after as u64);
        self.ledger.timers.insert(timer, key);
    }

    fn cancel_timer(&mut self, cx: &mut Context<'_>) {
        let set: Vec<_> = self.ledger.timers.keys().copied().collect();
        if let Some(timer) = self.random.pick(&set) {
            assert!(cx.cancel_timer(timer));
            assert!(!cx.cancel_timer(timer));
            self.ledger.timers.remove(&timer);
        }
    }

    /// Questions are answered of the session that was meant, or not at all.
    fn ask(&mut self, cx: &mut Context<'_>, id: Id) {
        assert_eq!(cx.count(), self.ledger.open_count);
        assert!(cx.ids().iter().all(|id| self.is_between(*id)));
        // In its own `on_close` a session can still be asked.
        let is_own = |state: &mut Id| *state == id;
        assert!(cx.state::<Id>(id).is_none_or(is_own));
        if self.is_between(id) {
            assert_eq!(cx.path(id).as_deref(), Some("/room"));
            assert!(cx.state::<Id>(id).is_some());
        }
    }

    /// Whether the session is between `on_open` and `on_close`.
    fn is_between(&self, id: Id) -> bool {
        let account = self.ledger.accounts.get(&id);
        account.is_some_and(|account| !account.is_closed)
    }

    fn hear(&mut self, cx: &Context<'_>, id: Id) -> &mut Account {
        let now = self.ledger.now;
        let account = self.ledger.open(id);
        // What comes after our Close does not count.
        if cx.is_open(id) {
            account.last_heard_at = now;
        }
        account
    }
}

impl Handler for Chaos {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        assert!(!self.ledger.accounts.contains_key(&id) && !cx.is_open(id));
        self.act(cx, Some(id));
        self.maybe_panic();
        if self.random.one_in(15) {
            return Err(HttpResponse::new(403, "not you\n"));
        }
        Ok(())
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, _: &Request) -> HttpResponse {
        assert!(!self.ledger.accounts.contains_key(&id));
        self.act(cx, Some(id));
        HttpResponse::new(200, "a page\n")
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.ledger.begin(id);
        self.tally.sessions += 1;
        self.known.push(id);
        if self.known.len() > KNOWN_MAX {
            self.known.remove(0);
        }
        cx.set_state(id, id);
        let topic = self.random.below(2);
        self.subscribe(cx, id, topic);
        for _ in 0..self.random.below(1 + self.topics / 4) {
            let topic = self.random.below(self.topics);
            self.subscribe(cx, id, topic);
        }
        self.act(cx, Some(id));
    }

    /// Messages come whole, once, in their order, from the one who sent them: each says who and its number.
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let account = self.hear(cx, id);
        let text = std::str::from_utf8(message.as_bytes()).unwrap();
        let expected = format!("{id}:{}:", account.heard);
        assert!(text.starts_with(&expected), "{expected} but {text}");
        let is_whole = text.ends_with(']') && text.matches('[').count() == 1;
        assert!(is_whole, "{text}");
        account.heard += 1;
        self.tally.messages_in += 1;
        self.maybe_panic();
        self.act(cx, Some(id));
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        let account = self.hear(cx, id);
        // After our Close it is not answered.
        if cx.is_open(id) {
            account.pinged = Some(ping_number(payload));
        }
        self.act(cx, Some(id));
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, _: &[u8]) {
        self.hear(cx, id);
        self.act(cx, Some(id));
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.ledger.open(id);
        self.tally.drains += 1;
        self.act(cx, Some(id));
        self.maybe_panic();
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        let topic = TOPICS.iter().position(|name| *name == topic).unwrap();
        assert_eq!(self.ledger.policies[topic], LagPolicy::Skip);
        self.ledger.open(id).skipped[topic] += messages;
        self.tally.skips += messages;
        self.act(cx, Some(id));
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        assert!(!cx.is_open(id));
        assert_eq!(cx.state::<Id>(id), Some(&mut { id }));
        self.ledger.end(id, close.by);
        self.maybe_panic();
        self.act(cx, Some(id));
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let id = id.expect("there are no listeners");
        let now = self.ledger.now;
        if let Some(account) = self.ledger.accounts.get_mut(&id) {
            account.has_failed = true;
        }
        match error {
            Error::Limit(Limit::HandshakeTimeout) => {
                let waited = now - self.ledger.connected_at[&id];
                assert!(waited >= self.handshake_timeout.as_millis() as u64, "early");
                self.tally.timeouts += 1;
            }
            Error::Limit(Limit::IdleTimeout) => {
                let waited = now - self.ledger.open(id).last_heard_at;
                let timeout = self.idle_timeout.expect("it was set").as_millis() as u64;
                assert!(waited >= timeout, "early");
                self.tally.timeouts += 1;
            }
            Error::Limit(_) => self.tally.limits += 1,
            Error::Protocol(_) => self.tally.violations += 1,
            Error::Io(_) => self.tally.failures += 1,
            Error::Shutdown => self.tally.limits += 1,
            Error::HandlerPanicked => assert!(self.tally.panics > 0),
            Error::Response(_) => panic!("{error}"),
        }
        self.maybe_panic();
        // Of a connection that no route has, timers would come back to nobody.
        self.is_in_event = self.ledger.accounts.contains_key(&id);
        self.act(cx, Some(id));
        self.is_in_event = true;
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        self.ledger.take_timer(key);
        self.act(cx, None);
        self.maybe_panic();
    }
}

/// Calls `act` with the message as a handler would name it.
fn with_message<R>(owed: &super::ledger::Owed, act: impl FnOnce(Message<'_>) -> R) -> R {
    let payload = owed.payload();
    if owed.is_text() {
        act(Message::text(std::str::from_utf8(&payload).unwrap()))
    } else {
        act(Message::binary(&payload))
    }
}

/// Sessions that the handler remembers.
const KNOWN_MAX: usize = 40;

/// The handler behind two routers, one inside the other.
pub(super) fn routed(chaos: &Shared<Chaos>) -> Routed {
    let inner = Router::new()
        .route("/other", Echo::new())
        .route("/room", Forward(chaos.clone()));
    let router = Router::new()
        .route("/nothing", Echo::new())
        .route("/", Forward(chaos.clone()))
        .route("/*", inner);
    let chaos = chaos.clone();
    Routed { router, chaos }
}

/// See [`routed`].
pub(super) struct Routed {
    router: Router,
    chaos: Shared<Chaos>,
}

/// Passes everything on to a handler that the simulation has as well.
struct Forward(Shared<Chaos>);

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
}

impl Handler for Routed {
    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.router.on_start(cx);
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.router.on_upgrade(cx, id, request, upgrade)
    }

    fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
        self.router.on_http(cx, id, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.router.on_open(cx, id);
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.router.on_message(cx, id, message);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.router.on_ping(cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.router.on_pong(cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.router.on_drain(cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        self.router.on_skip(cx, id, topic, messages);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        self.router.on_close(cx, id, close);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        let is_session = |id| self.chaos.lock().ledger.accounts.contains_key(&id);
        if id.is_some_and(is_session) {
            self.router.on_error(cx, id, error);
        } else {
            // No route has it.
            self.chaos.lock().on_error(cx, id, error);
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
        self.router.on_timer(cx, key);
    }
}
