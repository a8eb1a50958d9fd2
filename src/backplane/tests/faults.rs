//! Gaps: cuts, a broker that is away, a broker that accepts nothing.

use super::*;
use crate::config::LagPolicy;
use crate::context::Context;
use crate::proto::Message;
use crate::router::Router;
use crate::server::testing::opening;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn after_a_gap_all_members_are_closed_with_1013_within_five_seconds() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let ids: Vec<_> = (0..10).map(|_| one.connect("/chat")).collect();
    assert!(broker.cut(0));
    one.advance(Duration::from_millis(99));
    for id in &ids {
        assert!(texts(&mut one, *id).is_empty());
    }
    let mut closed = Vec::new();
    for _ in 0..11 {
        one.advance(Duration::from_millis(500));
        let done = ids.iter().filter(|id| {
            texts(&mut one, **id)
                .first()
                .is_some_and(|text| text == CLOSE)
        });
        closed.push(done.count());
    }
    assert_eq!(closed.iter().sum::<usize>(), 10, "{closed:?}");
    assert!(closed.iter().all(|count| *count <= 2), "{closed:?}");
    // A client that joins after the gap is not closed.
    let late = one.connect("/chat");
    one.advance(Duration::from_secs(10));
    one.send(late, "x");
    assert_eq!(texts(&mut one, late), ["x"]);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!(
        (stats.gaps, stats.connections, stats.members_notified),
        (1, 2, 10)
    );
}

#[test]
fn members_that_join_during_the_gap_are_not_closed() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let early = one.connect("/chat");
    broker.stop();
    one.run();
    let late = one.connect("/chat");
    one.advance(Duration::from_secs(1));
    broker.start();
    one.advance(Duration::from_secs(10));
    assert_eq!(texts(&mut one, early)[0], CLOSE);
    one.send(late, "x");
    assert_eq!(texts(&mut one, late), ["x"]);
}

#[test]
fn after_the_grace_period_members_are_closed_at_once_and_new_ones_refused_with_503() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let ids: Vec<_> = (0..3000).map(|_| one.connect("/chat")).collect();
    broker.stop();
    one.run();
    one.advance(Duration::from_millis(4999));
    assert!(one.open(opening("/chat")).is_ok());
    assert!(!one.with_context(|cx| cx.is_backplane_away()));
    one.advance(Duration::from_millis(1));
    for id in ids {
        assert_eq!(texts(&mut one, id)[0], CLOSE);
    }
    assert!(one.with_context(|cx| cx.is_backplane_away()));
    assert_eq!(one.open(opening("/chat")).unwrap_err().status(), 503);
    assert_eq!(one.count(), 0);
    broker.start();
    one.advance(Duration::from_secs(1));
    assert!(!one.with_context(|cx| cx.is_backplane_away()));
    let id = one.connect("/chat");
    one.send(id, "x");
    assert_eq!(texts(&mut one, id), ["x"]);
}

struct Skips(Vec<(Id, String)>);

impl Handler for Skips {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        cx.subscribe(id, "a");
        cx.subscribe(id, "b");
    }
    fn on_message(&mut self, cx: &mut Context<'_>, _: Id, message: Message<'_>) {
        cx.publish("a", message);
    }
    fn on_gap(&mut self, cx: &mut Context<'_>, id: Id, topic: &str) {
        assert_eq!(cx.publish_local("empty", "x"), 0);
        self.0.push((id, topic.to_owned()));
    }
}

#[test]
fn members_that_may_skip_messages_are_reported_once_for_each_gap_and_topic() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Skips(Vec::new()));
    let ids = [(); 3].map(|()| one.connect("/"));
    let gone = one.connect("/");
    broker.stop();
    one.run();
    one.hang_up(gone);
    one.advance(Duration::from_secs(20));
    assert_eq!(one.handler().0, []);
    broker.start();
    one.advance(Duration::from_secs(20));
    let mut reported = std::mem::take(&mut one.handler_mut().0);
    reported.sort();
    let expected: Vec<_> = ids
        .iter()
        .flat_map(|id| ["a", "b"].map(|topic| (*id, topic.to_owned())))
        .collect();
    assert_eq!(reported, expected);
    one.send(ids[0], "x");
    assert_eq!(texts(&mut one, ids[1]), ["x"]);
}

#[test]
fn a_second_cut_before_on_gap_was_called_causes_no_second_call() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Skips(Vec::new()));
    let id = one.connect("/");
    broker.hold();
    broker.cut(0);
    one.advance(Duration::from_millis(200));
    assert_eq!(broker.connections(), 2);
    // Not subscribed again yet.
    broker.cut(1);
    broker.release();
    one.advance(Duration::from_millis(200));
    assert_eq!(one.handler().0.len(), 2);
    one.send(id, "x");
    assert_eq!(texts(&mut one, id), ["x"]);
}

#[test]
fn publications_wait_while_the_broker_is_away_and_their_senders_are_not_read() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let a = one.connect("/chat");
    broker.stop();
    one.run();
    for number in 0..10 {
        one.send(a, format!("{number}"));
    }
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.waiting), (1, 1));
    one.advance(Duration::from_secs(1));
    broker.start();
    one.advance(Duration::from_millis(100));
    // The publication that waited comes back before the Close.
    assert_eq!(texts(&mut one, a)[..2], ["0", CLOSE]);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!(
        (stats.unacknowledged, stats.discarded, stats.refused),
        (0, 0, 0)
    );
}

/// The client sends such messages again, because they did not come back.
#[test]
fn messages_that_arrive_after_the_close_of_their_session_are_not_published() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let a = one.connect("/chat");
    let b = two.connect("/chat");
    broker.stop();
    one.run();
    for number in 0..10 {
        one.send(a, format!("{number}"));
    }
    one.advance(Duration::from_secs(6));
    assert_eq!(texts(&mut one, a)[0], CLOSE);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.discarded), (1, 1));
    two.advance(Duration::from_secs(6));
    assert_eq!(texts(&mut two, b)[0], CLOSE);
    broker.start();
    one.advance(Duration::from_secs(1));
    two.advance(Duration::from_secs(1));
    let b = two.connect("/chat");
    let c = one.connect("/chat");
    one.send(c, "x");
    assert_eq!(texts(&mut two, b), ["x"]);
}

#[test]
fn written_publications_are_never_repeated_and_are_counted() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let a = one.connect("/chat");
    let b = two.connect("/chat");
    broker.hold();
    one.send(a, "written");
    broker.cut(0);
    broker.release();
    one.advance(Duration::from_secs(1));
    assert!(texts(&mut two, b).is_empty());
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.unacknowledged), (1, 1));
}

#[test]
fn the_outbox_is_bounded_and_its_excess_is_refused() {
    let broker = Broker::new();
    broker.stop();
    let mut one = server(&broker);
    let sent = one.with_context(|cx| {
        (0..20)
            .map(|_| cx.publish("/chat", "x".repeat(1 << 20)))
            .count()
    });
    assert_eq!(sent, 20);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.refused), (7, 13));
    assert!(stats.outbox_bytes <= 8 << 20);
    // A session that publishes is closed.
    let a = one.connect("/chat");
    one.send(a, "x".repeat(1 << 20));
    let close = "Close(1013, \"too many messages wait for the broker\")";
    assert_eq!(texts(&mut one, a)[0], close);
    // After the grace period, they are dropped.
    one.advance(Duration::from_secs(6));
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.outbox_bytes, stats.discarded), (0, 7));
}

#[test]
fn waiting_sessions_can_be_closed_and_do_not_become_idle() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Broadcast);
    let [a, b] = [(); 2].map(|()| one.connect("/chat"));
    broker.stop();
    one.run();
    for id in [a, b] {
        one.send(id, "x");
        one.send(id, "y");
    }
    one.advance(Duration::from_secs(3600));
    assert_eq!(one.count(), 2);
    assert!(one.with_context(|cx| cx.close(a, 4000, "")));
    assert_eq!(texts(&mut one, a)[0], "Close(4000, \"\")");
    assert_eq!(one.count(), 1);
    broker.start();
    one.advance(Duration::from_secs(1));
    assert_eq!(texts(&mut one, b).last().unwrap(), "y");
}

#[test]
fn a_gap_releases_what_is_retained_for_replay() {
    let broker = Broker::new();
    let replay = Broadcast.with_replay(crate::config::Replay::Messages(5));
    let mut one = server_with(&broker, Config::default(), replay);
    let a = one.connect("/chat");
    one.send(a, "before");
    broker.cut(0);
    one.advance(Duration::from_secs(6));
    one.connect("/chat");
    broker.publish("/chat", b"after");
    one.run();
    let b = one.connect("/chat");
    assert_eq!(texts(&mut one, b), ["after"]);
}

#[test]
fn a_stop_ends_while_the_broker_is_away() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let a = one.connect("/chat");
    broker.stop();
    one.send(a, "x");
    one.send(a, "y");
    one.with_context(|cx| cx.stop());
    // For the messages that wait, a second.
    one.advance(Duration::from_secs(1));
    assert!(one.has_stopped());
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.discarded), (1, 1));
}

/// The input of a whole read stayed in memory for each client that had not published before.
#[test]
fn little_is_read_of_clients_that_begin_to_publish_while_the_broker_is_away() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Broadcast);
    let ids = [(); 10].map(|()| one.connect("/chat"));
    broker.stop();
    one.run();
    // Frames of 100 B, masked with the key 0.
    let frame = [&[0x82, 0x80 | 94, 0, 0, 0, 0][..], &[7; 94]].concat();
    let input = frame.repeat(600);
    for id in ids {
        one.send_raw(id, &input);
        assert!(one.unread_bytes(id) >= input.len() - 4096);
    }
    broker.start();
    one.advance(Duration::from_millis(200));
    for id in ids {
        assert_eq!(one.unread_bytes(id), 0);
    }
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.refused), (6000, 0));
}

/// There was always one subscription that was not confirmed yet, until the grace period was over.
#[test]
fn topics_become_whole_while_sessions_join_others() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let early = one.connect("/early");
    broker.cut(0);
    broker.hold();
    one.advance(Duration::from_millis(200));
    assert_eq!(broker.connections(), 2);
    for number in 0..100 {
        // Each time, one subscription is confirmed and another one requested.
        one.connect(&format!("/{number}"));
        broker.process(1);
        one.advance(Duration::from_millis(100));
    }
    assert_eq!(texts(&mut one, early)[0], CLOSE);
    assert!(!one.with_context(|cx| cx.is_backplane_away()));
    assert_eq!(one.count(), 100);
}

#[test]
fn after_the_grace_period_only_sessions_can_wait_with_a_message() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Broadcast);
    let a = one.connect("/chat");
    broker.stop();
    one.run();
    one.advance(Duration::from_secs(3600));
    assert_eq!(one.with_context(|cx| cx.publish("/chat", "an hour old")), 0);
    one.send(a, "from a session");
    broker.start();
    one.advance(Duration::from_secs(1));
    assert_eq!(texts(&mut one, a), ["from a session"]);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.refused, stats.discarded), (1, 0));
}

#[test]
fn what_is_published_when_the_last_session_of_a_stop_ends_is_sent() {
    struct Farewell;
    impl Handler for Farewell {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_close(&mut self, cx: &mut Context<'_>, _: Id, _: &crate::Close<'_>) {
            cx.publish("/chat", "left");
        }
    }
    let broker = Broker::new();
    let mut one = server_with(&broker, Config::default(), Farewell);
    let mut two = server(&broker);
    one.connect("/");
    let b = two.connect("/chat");
    one.with_context(|cx| cx.stop());
    assert!(one.has_stopped());
    assert_eq!(texts(&mut two, b), ["left"]);
}

#[test]
fn the_longest_grace_period_is_accepted() {
    let broker = Broker::new();
    let mut one = Harness::new(Config::default(), Broadcast);
    let options = BackplaneOptions {
        grace: Duration::MAX,
        ..BackplaneOptions::default()
    };
    one.set_backplane(broker.connect(), options);
    let a = one.connect("/chat");
    broker.stop();
    one.advance(Duration::from_secs(60));
    assert_eq!(texts(&mut one, a), [""; 0]);
    broker.start();
    one.advance(Duration::from_secs(1));
    assert_eq!(texts(&mut one, a)[0], CLOSE);
}

#[test]
fn publishers_wait_above_half_of_the_outbox_and_continue_once_it_is_empty() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let [a, b, listener] = [(); 3].map(|()| one.connect("/chat"));
    broker.stall();
    let waiting =
        |one: &mut Harness<Broadcast>| one.with_context(|cx| cx.stats().backplane.unwrap().waiting);
    // 4 MiB are half of the outbox.
    for number in 0..3 {
        one.send(a, "x".repeat(1 << 20));
        assert_eq!(waiting(&mut one), 0, "{number}");
    }
    one.send(b, "x".repeat((1 << 20) - 1000));
    assert_eq!(waiting(&mut one), 0);
    one.send(b, "x".repeat(2000));
    assert_eq!(waiting(&mut one), 1);
    one.send(a, "not read");
    assert_eq!(waiting(&mut one), 2);
    // It has not published, and is read.
    one.ping(listener, b"");
    assert_eq!(one.received(listener), [Received::Pong(Vec::new())]);
    broker.resume();
    one.run();
    assert_eq!(waiting(&mut one), 0);
    let lengths: Vec<_> = texts(&mut one, listener).iter().map(String::len).collect();
    let mib = 1 << 20;
    assert_eq!(lengths, [mib, mib, mib, mib - 1000, 2000, 8]);
}

/// All members have one topic, behind different routes. One of the routes is a router itself.
#[test]
fn a_gap_is_reported_to_the_route_whose_session_is_the_member() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let seen = Reports::default();
    let route = |name| Reporter(name, seen.clone());
    let nested = Router::new()
        .route("/c/1", route("one"))
        .route("/c/2", route("two"));
    let router = Router::new()
        .route("/a", route("a"))
        .route("/b", route("b"))
        .route("/c/*", nested);
    let mut one = server_with(&broker, config, router);
    let ids = ["/a", "/c/2", "/c/1"].map(|path| one.connect(path));
    broker.stop();
    one.run();
    broker.start();
    one.advance(Duration::from_secs(1));
    let mut reports = seen.take();
    reports.sort_unstable();
    let expected = [("a", ids[0]), ("one", ids[2]), ("two", ids[1])];
    assert_eq!(reports, expected);
}

/// The names of routes, and the sessions of which a gap was reported to them.
type Reports = Rc<RefCell<Vec<(&'static str, Id)>>>;

struct Reporter(&'static str, Reports);

impl Handler for Reporter {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        cx.subscribe(id, "all");
    }
    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    fn on_gap(&mut self, _: &mut Context<'_>, id: Id, topic: &str) {
        assert_eq!(topic, "all");
        self.1.borrow_mut().push((self.0, id));
    }
}
