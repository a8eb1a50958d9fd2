//! Which handler the events of timers and sources reach: the one that has set the timer or registered the source, whatever
//! routers and wrappers are around it.

use crate::config::Config;
use crate::context::Context;
use crate::engine::sources::Ready;
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::Message;
use crate::router::Router;
use crate::server::testing::Harness;
use mio::Interest;
use mio::net::UdpSocket;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The name of the handler, and the event.
type Seen = Rc<RefCell<Vec<(&'static str, &'static str)>>>;

/// Sets timers and registers sources under the same keys as every other `Owner`, and records their events.
struct Owner<H> {
    name: &'static str,
    seen: Seen,
    inner: Option<H>,
}

impl<H> Owner<H> {
    fn record(&self, event: &'static str) {
        self.seen.borrow_mut().push((self.name, event));
    }
}

fn source() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

impl<H: Handler> Handler for Owner<H> {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        self.inner.as_mut().map(|inner| inner as &mut dyn Handler)
    }
    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_timer(Duration::from_millis(1), 0);
        cx.register(&mut source(), 0, Interest::READABLE).unwrap();
        if let Some(inner) = &mut self.inner {
            inner.on_start(cx);
        }
    }
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        cx.set_session_timer(id, Duration::from_millis(1), 0);
        cx.register_for_session(id, &mut source(), 0, Interest::READABLE)
            .unwrap();
        if let Some(inner) = &mut self.inner {
            inner.on_open(cx, id);
        }
    }
    fn on_timer(&mut self, _: &mut Context<'_>, _: u64) {
        self.record("timer");
    }
    fn on_session_timer(&mut self, _: &mut Context<'_>, _: Id, _: u64) {
        self.record("session timer");
    }
    fn on_source(&mut self, _: &mut Context<'_>, _: u64, _: Ready) {
        self.record("source");
    }
    fn on_session_source(&mut self, _: &mut Context<'_>, _: Id, _: u64, _: Ready) {
        self.record("session source");
    }
}

/// Runs the handler with one session until each timer was due and each source was ready. Returns the sorted events.
fn events(handler: impl Handler, seen: &Seen) -> Vec<(&'static str, &'static str)> {
    let mut harness = Harness::new(Config::default(), handler);
    let id = harness.connect("/a/a");
    harness.advance(Duration::from_millis(1));
    harness.source_is_ready(0, Ready::READABLE);
    harness.session_source_is_ready(id, 0, Ready::READABLE);
    let mut events = seen.take();
    events.sort_unstable();
    events
}

/// A wrapper with timers or sources of its own received those of the routes as well: a route's events were lost.
#[test]
fn a_wrapper_does_not_receive_the_events_of_the_routes_inside_it() {
    let seen = Seen::default();
    let leaf = |name| Owner::<Router> {
        name,
        seen: seen.clone(),
        inner: None,
    };
    let wrapper = |name, inner| Owner {
        name,
        seen: seen.clone(),
        inner: Some(inner),
    };
    let routes = || {
        let router = Router::new().route("/a/a", leaf("leaf"));
        router.route("/other", leaf("other"))
    };
    let all = ["session source", "session timer", "source", "timer"];
    let expected = |names: &[&'static str]| {
        let mut events: Vec<_> = names
            .iter()
            .flat_map(|name| all.map(|event| (*name, event)))
            .collect();
        events.extend([("other", "source"), ("other", "timer")]);
        events.sort_unstable();
        events
    };
    assert_eq!(
        events(wrapper("outer", routes()), &seen),
        expected(&["leaf", "outer"])
    );
    let boxed: Box<dyn Handler> = Box::new(wrapper("outer", routes()));
    assert_eq!(events(boxed, &seen), expected(&["leaf", "outer"]));
    let nested = Router::new().route("/a/*", wrapper("outer", routes()));
    assert_eq!(events(nested, &seen), expected(&["leaf", "outer"]));
    let inner = wrapper("inner", routes());
    let twice = wrapper("outer", Router::new().route("/a/*", inner));
    assert_eq!(events(twice, &seen), expected(&["inner", "leaf", "outer"]));
}

#[test]
fn timers_and_sources_that_the_host_sets_for_a_session_do_not_reach_its_route() {
    let seen = Seen::default();
    let app: Owner<Router> = Owner {
        name: "app",
        seen: Rc::clone(&seen),
        inner: None,
    };
    let mut harness = Harness::new(Config::default(), Router::new().route("/a", app));
    let id = harness.connect("/a");
    harness.advance(Duration::from_millis(10));
    seen.borrow_mut().clear();
    let mut of_host = source();
    harness.with_context(|cx| {
        cx.set_session_timer(id, Duration::from_millis(1), 7);
        cx.register_for_session(id, &mut of_host, 7, Interest::READABLE)
            .unwrap();
    });
    harness.advance(Duration::from_millis(10));
    harness.session_source_is_ready(id, 7, Ready::READABLE);
    assert_eq!(*seen.borrow(), []);
    harness.session_source_is_ready(id, 0, Ready::READABLE);
    assert_eq!(*seen.borrow(), [("app", "session source")]);
}
