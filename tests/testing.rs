//! Tests of `wsloop::testing`, which runs a handler without sockets, and of `Box<dyn Handler>`, which must pass every
//! event to the handler in the box.

use mio::event::Source;
use mio::{Interest, Registry, Token};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use wsloop::handlers::{Broadcast, Echo};
use wsloop::page::Page;
use wsloop::testing::{Harness, Received, opening};
use wsloop::{
    Close, Config, Context, Error, Handler, HttpResponse, Id, LagPolicy, Message, Ready, Request,
    Router, SessionLimits, Side, Upgrade, handler_fn,
};

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

/// Returns what a client receives at the end of a clean close.
fn close_and_end(code: u16, reason: &str) -> [Received; 2] {
    [Received::Close(code, reason.to_owned()), Received::End]
}

mod clients {
    use super::*;

    #[test]
    fn text_is_echoed_as_text_and_binary_as_binary() {
        let mut harness = Harness::new(Config::default(), Echo::new());
        let id = harness.connect("/");
        harness.send(id, "ä");
        harness.send(id, vec![7; 300_000]);
        harness.ping(id, b"?");
        assert_eq!(
            harness.received(id),
            [
                text("ä"),
                Received::Binary(vec![7; 300_000]),
                Received::Pong(b"?".to_vec())
            ]
        );
        assert_eq!(harness.received(id), []);
    }

    #[test]
    fn a_close_is_answered_and_ends_the_session() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.close(id, 3000, "enough");
        assert_eq!(harness.received(id), close_and_end(3000, "enough"));
        assert_eq!(harness.count(), 0);
        assert_eq!(harness.handler().closes, [(3000, true, Side::Peer)]);
        harness.send(id, "too late");
        assert_eq!(harness.received(id), []);
    }

    #[test]
    fn hanging_up_is_not_a_clean_close() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.hang_up(id);
        assert_eq!(harness.handler().closes, [(1006, false, Side::Peer)]);
        assert_eq!(harness.received(id), []);
    }

    #[test]
    fn a_protocol_violation_is_answered_with_1002() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        // Not masked. RFC 6455 section 5.1: "a client MUST mask all frames that it sends to the server".
        harness.send_raw(id, b"\x81\x02hi");
        let received = harness.received(id);
        assert!(
            matches!(received[..], [Received::Close(1002, _), Received::End]),
            "{received:?}"
        );
        assert_eq!(harness.handler().closes, [(1002, false, Side::Us)]);
    }

    #[test]
    fn refusals_and_plain_http_are_complete_responses() {
        let router = Router::new()
            .route("/page", Page::bytes("text/html", b"<p>".as_slice()))
            .route("/chat", Broadcast)
            .allow_origin("https://example.org");
        let mut harness = Harness::new(Config::default(), router);
        let page = harness.get("/page?query");
        assert_eq!((page.status(), page.body()), (200, &b"<p>"[..]));
        assert_eq!(page.header("Content-Type"), Some("text/html"));
        assert_eq!(harness.get("/missing").status(), 404);
        assert_eq!(harness.open(opening("/chat")).unwrap_err().status(), 403);
        let with_origin = opening("/chat").with_header("origin", "https://example.org");
        assert!(harness.open(with_origin.unwrap()).is_ok());
        assert_eq!(harness.count(), 1);
    }

    #[test]
    fn above_connections_max_clients_get_503() {
        let config = Config {
            connections_max: 1,
            ..Config::default()
        };
        let mut harness = Harness::new(config, Echo::new());
        harness.connect("/");
        for _ in 0..40 {
            assert_eq!(harness.open(opening("/")).unwrap_err().status(), 503);
        }
    }
}

mod time {
    use super::*;

    #[test]
    fn timers_fire_at_their_time_and_in_order() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        harness.with_context(|cx| {
            cx.set_timer(Duration::from_secs(3), 3);
            cx.set_timer(Duration::from_secs(1), 1);
            cx.set_timer(Duration::from_secs(2), 2);
        });
        harness.advance(Duration::from_millis(999));
        assert!(harness.handler().timers.is_empty());
        harness.advance(Duration::from_millis(1));
        assert_eq!(harness.handler().timers, [1]);
        harness.advance(Duration::from_secs(10));
        assert_eq!(harness.handler().timers, [1, 2, 3]);
    }

    #[test]
    fn a_client_that_answers_pings_is_never_idle() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.advance(Duration::from_secs(300));
        assert_eq!(harness.count(), 1);
        let pings = harness.received(id);
        assert!(pings.len() >= 4, "{pings:?}");
        assert!(pings.iter().all(|ping| *ping == Received::Ping(vec![])));
    }

    #[test]
    fn a_stalled_client_is_disconnected_after_the_write_timeout() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.stall(id);
        let _ = harness.with_context(|cx| cx.send(id, "never read"));
        harness.advance(Duration::from_secs(29));
        assert_eq!(harness.count(), 1);
        harness.advance(Duration::from_secs(1));
        assert_eq!(harness.handler().closes, [(1006, false, Side::Us)]);
    }

    #[test]
    #[should_panic(expected = "still has work after")]
    fn a_handler_that_causes_work_without_end_is_detected() {
        struct AlwaysDue;
        impl Handler for AlwaysDue {
            fn on_start(&mut self, cx: &mut Context<'_>) {
                cx.set_timer(Duration::ZERO, 0);
            }
            fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
            fn on_timer(&mut self, cx: &mut Context<'_>, _: u64) {
                cx.set_timer(Duration::ZERO, 0);
            }
        }
        drop(Harness::new(Config::default(), AlwaysDue));
    }
}

mod limits_of_sessions {
    use super::*;

    fn message(max: usize) -> SessionLimits {
        SessionLimits {
            message_bytes_max: Some(max),
            ..SessionLimits::default()
        }
    }

    fn idle(timeout: Option<Duration>) -> SessionLimits {
        SessionLimits {
            idle_timeout: Some(timeout),
            ..SessionLimits::default()
        }
    }

    /// Sends `len` bytes in one frame or in fragments of 5 bytes. Returns whether they are echoed.
    fn is_accepted(
        harness: &mut Harness<impl Handler>,
        id: Id,
        len: usize,
        fragmented: bool,
    ) -> bool {
        if fragmented {
            let mut left = len;
            let mut first = 0x02;
            while left > 0 {
                let fragment = left.min(5);
                left -= fragment;
                let fin = if left == 0 { 0x80 } else { 0 };
                let frame = [
                    &[fin | first, 0x80 | fragment as u8, 0, 0, 0, 0],
                    &[b'x'; 5][..fragment],
                ];
                harness.send_raw(id, &frame.concat());
                first = 0;
            }
        } else {
            harness.send(id, &*vec![b'x'; len]);
        }
        match &harness.received(id)[..] {
            [Received::Binary(bytes)] => bytes.len() == len,
            [Received::Close(1009, _), Received::End] => false,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_route_has_its_own_maximum_of_a_message() {
        let config = Config {
            message_bytes_max: 100,
            ..Config::default()
        };
        let inner =
            Router::new()
                .route("/in/a", Echo::new())
                .route_with("/in/b", message(7), Echo::new());
        let router = Router::new()
            .route("/*", Echo::new())
            .route_with("/small", message(10), Echo::new())
            .route_with("/large", message(100_000), Echo::new())
            .route_with("/in/*", message(20), inner);
        let mut harness = Harness::new(config, router);
        let table = [
            ("/", 100),
            ("/small", 10),
            ("/large", 100_000),
            ("/in/a", 20),
            ("/in/b", 7),
        ];
        for (path, max) in table {
            for fragmented in [false, true].into_iter().filter(|is| !is || max <= 100) {
                let id = harness.connect(path);
                assert!(is_accepted(&mut harness, id, max, fragmented), "{path}");
                assert!(
                    !is_accepted(&mut harness, id, max + 1, fragmented),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn each_route_has_its_own_idle_timeout() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for default in [seconds(60), None] {
            let config = Config {
                idle_timeout: default,
                ping_interval: None,
                ..Config::default()
            };
            let router = Router::new()
                .route("/default", Echo::new())
                .route_with("/short", idle(seconds(2)), Echo::new())
                .route_with("/long", idle(seconds(600)), Echo::new())
                .route_with("/never", idle(None), Echo::new());
            let mut harness = Harness::new(config, router);
            let paths = ["/short", "/default", "/long", "/never"];
            let timeouts = [seconds(2), default, seconds(600), None];
            let ids = paths.map(|path| harness.connect(path));
            for second in 0..700 {
                for (id, timeout) in ids.into_iter().zip(timeouts) {
                    let is_open = harness.with_context(|cx| cx.is_open(id));
                    let (earliest, latest) = timeout.map_or((u64::MAX, u64::MAX), |timeout| {
                        // Each half can be longer by a 64th of the shortest half.
                        (
                            timeout.as_secs(),
                            timeout.as_secs() + timeout.as_secs() / 32 + 1,
                        )
                    });
                    assert!(is_open || second >= earliest, "{timeout:?} {second}");
                    assert!(!is_open || second <= latest, "{timeout:?} {second}");
                }
                harness.advance(Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn a_busy_session_with_a_short_idle_timeout_stays_open_and_is_pinged_when_silent() {
        let router =
            Router::new().route_with("/*", idle(Some(Duration::from_millis(1000))), Echo::new());
        let mut harness = Harness::new(Config::default(), router);
        let id = harness.connect("/");
        for _ in 0..100 {
            harness.advance(Duration::from_millis(400));
            harness.send(id, "busy");
            assert_eq!(harness.received(id), [text("busy")]);
        }
        harness.advance(Duration::from_secs(10));
        let pings = harness.received(id).len();
        assert!((18..=20).contains(&pings), "{pings}");
        assert_eq!(harness.count(), 1);
        assert_eq!(harness.with_context(|cx| cx.rtt(id)), Some(Duration::ZERO));
    }

    #[test]
    fn each_route_has_its_own_lag_policy_and_that_of_a_topic_takes_precedence() {
        let skip = SessionLimits {
            lag_policy: Some(LagPolicy::Skip),
            ..SessionLimits::default()
        };
        let config = Config {
            lag_bytes_max: 100,
            ..Config::default()
        };
        for (topic_policy, expected) in [
            (None, [1013, 0]),
            (Some(LagPolicy::Disconnect), [1013, 1013]),
            (Some(LagPolicy::Skip), [0, 0]),
        ] {
            let router = Router::new()
                .route("/disconnect", InTopic)
                .route_with("/skip", skip, InTopic);
            let mut harness = Harness::new(config.clone(), router);
            harness.with_context(|cx| cx.set_lag_policy("topic", topic_policy));
            let ids = ["/disconnect", "/skip"].map(|path| harness.connect(path));
            ids.iter().for_each(|id| harness.stall(*id));
            for _ in 0..10 {
                harness.with_context(|cx| cx.publish("topic", "x".repeat(90)));
            }
            ids.iter().for_each(|id| harness.resume(*id));
            let codes = ids.map(|id| {
                let closes = harness.received(id).into_iter().find_map(|one| match one {
                    Received::Close(code, _) => Some(code),
                    _ => None,
                });
                closes.unwrap_or(0)
            });
            assert_eq!(codes, expected, "{topic_policy:?}");
        }
    }

    #[test]
    fn limits_can_be_set_and_reset_while_a_session_is_open() {
        let config = Config {
            idle_timeout: None,
            ..Config::default()
        };
        let mut harness = Harness::new(config, Echo::new());
        let [id, silent] = [(); 2].map(|()| harness.connect("/"));
        let set = |harness: &mut Harness<Echo>, id, limits| {
            harness.with_context(|cx| cx.set_limits(id, limits).unwrap());
        };
        // In the middle of a message, the new limit is that of the next frame.
        harness.send_raw(id, b"\x02\x85\0\0\0\0xxx");
        set(&mut harness, id, message(4));
        harness.send_raw(id, b"xx");
        harness.advance(Duration::from_secs(1));
        assert_eq!(harness.received(id), []);
        set(&mut harness, id, SessionLimits::default());
        harness.send_raw(id, b"\x80\x81\0\0\0\0y");
        assert_eq!(harness.received(id), [Received::Binary(b"xxxxxy".to_vec())]);

        harness.advance(Duration::from_secs(1_000));
        harness.received(silent);
        set(&mut harness, silent, idle(Some(Duration::from_secs(2))));
        harness.advance(Duration::from_secs(10));
        assert!(harness.received(silent).len() >= 8, "pings");
        set(&mut harness, silent, SessionLimits::default());
        harness.advance(Duration::from_secs(100));
        let pings = harness.received(silent).len();
        assert!((2..=4).contains(&pings), "{pings} pings, one each 25 s");
        set(&mut harness, silent, idle(Some(Duration::from_secs(2))));
        harness.stall(silent);
        let _ = harness.with_context(|cx| cx.send(silent, "blocked"));
        set(&mut harness, silent, idle(Some(Duration::from_secs(4))));
        harness.resume(silent);
        harness.advance(Duration::from_secs(5));
        assert!(harness.received(silent).len() >= 2, "a text, pings");
        assert_eq!(harness.count(), 2);
    }

    #[test]
    fn limits_out_of_range_and_a_sixteenth_set_are_errors() {
        let router = (1..=20).fold(Router::new(), |router, n| {
            router.route_with(&format!("/{n}"), message(n), Echo::new())
        });
        let mut harness = Harness::new(Config::default(), router);
        for n in 1..=20 {
            for _ in 0..2 {
                match harness.open(opening(&format!("/{n}"))) {
                    Ok(_) => assert!(n <= 15, "{n}"),
                    Err(response) => {
                        assert_eq!((response.status(), n > 15), (500, true), "{n}");
                        let body = std::str::from_utf8(response.body()).unwrap();
                        assert_eq!(body, "a server has at most 15 different SessionLimits\n");
                    }
                }
            }
        }
        let id = harness.connect("/15");
        for (limits, rule) in [
            (message(0), "message_bytes_max must be at least 1"),
            (
                idle(Some(Duration::ZERO)),
                "idle_timeout must be from 1 ms to 7 days",
            ),
            (
                idle(Some(Duration::from_secs(8 * 24 * 3600))),
                "idle_timeout must be from 1 ms to 7 days",
            ),
            (
                message(16),
                "a server has at most 15 different SessionLimits",
            ),
        ] {
            let error = harness.with_context(|cx| cx.set_limits(id, limits));
            assert_eq!(error.unwrap_err().to_string(), rule);
        }
        assert!(is_accepted(&mut harness, id, 15, false));
        assert!(!is_accepted(&mut harness, id, 16, false));
        // The session has ended.
        assert_eq!(
            harness.with_context(|cx| cx.set_limits(id, message(3))),
            Ok(())
        );
    }

    #[test]
    #[should_panic(expected = "message_bytes_max must be at least 1")]
    fn a_route_with_a_limit_out_of_range_panics() {
        let _ = Router::new().route_with("/", message(0), Echo::new());
    }

    /// Subscribes each session to the topic "topic".
    struct InTopic;

    impl Handler for InTopic {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            cx.subscribe(id, "topic");
        }
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    }
}

mod the_end {
    use super::*;
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    /// Calls a function in `on_stop`. All sessions are members of the topic "all".
    struct Stopping<F>(F);

    impl<F: FnMut(&mut Context<'_>)> Handler for Stopping<F> {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            cx.subscribe(id, "all");
        }
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let _ = cx.send(id, message);
        }
        fn on_stop(&mut self, cx: &mut Context<'_>) {
            (self.0)(cx);
        }
    }

    fn stop(harness: &mut Harness<impl Handler>) {
        harness.with_context(|cx| cx.stop());
    }

    fn closed_for_stop() -> Vec<Received> {
        close_and_end(1001, "the server is shutting down").to_vec()
    }

    #[test]
    fn while_draining_new_sessions_get_503_and_open_ones_continue() {
        struct Health;
        impl Handler for Health {
            fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
                let _ = cx.send(id, message);
            }
            fn on_http(&mut self, cx: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
                HttpResponse::new(if cx.is_draining() { 503 } else { 200 }, "")
            }
        }
        let mut harness = Harness::new(Config::default(), Health);
        let id = harness.connect("/");
        assert_eq!(harness.get("/").status(), 200);
        harness.with_context(|cx| cx.drain());
        harness.with_context(|cx| cx.drain());
        for _ in 0..3 {
            let response = harness.open(opening("/")).unwrap_err();
            assert_eq!(response.status(), 503);
            assert_eq!(response.header("connection"), Some("close"));
            assert_eq!(harness.get("/").status(), 503);
        }
        let refused = harness.with_context(|cx| cx.stats().refused().collect::<Vec<_>>());
        assert!(refused.contains(&("shutdown", 3)), "{refused:?}");
        harness.send(id, "hello");
        assert_eq!(harness.received(id), [text("hello")]);
        harness.advance(Duration::from_secs(3600));
        assert_eq!(harness.count(), 1);
        harness.received(id);
        stop(&mut harness);
        assert_eq!(harness.received(id), closed_for_stop());
        assert!(harness.has_stopped());
    }

    #[test]
    fn the_closes_of_a_stop_are_spread_over_stop_spread() {
        let config = Config {
            stop_spread: Duration::from_secs(4),
            shutdown_grace: Duration::from_secs(1),
            ..Config::default()
        };
        let mut harness = Harness::new(config, Recorder::default());
        let ids = [(); 4].map(|()| harness.connect("/"));
        harness.stall(ids[3]);
        stop(&mut harness);
        for closed in 1..=4 {
            let open = harness.with_context(|cx| cx.ids().len());
            assert_eq!(open, 4 - closed, "after {closed} s");
            if closed < 4 {
                assert_eq!(harness.received(ids[closed - 1]), closed_for_stop());
                assert_eq!(harness.open(opening("/")).unwrap_err().status(), 503);
                harness.advance(Duration::from_millis(999));
                assert_eq!(harness.with_context(|cx| cx.ids().len()), 4 - closed);
                harness.advance(Duration::from_millis(1));
            }
        }
        // The grace begins with the last Close.
        harness.advance(Duration::from_millis(999));
        assert!(!harness.has_stopped());
        harness.advance(Duration::from_millis(1));
        assert!(harness.has_stopped());
    }

    #[test]
    fn a_spread_stop_ends_when_the_last_session_has_ended() {
        let config = Config {
            stop_spread: Duration::from_secs(60),
            ..Config::default()
        };
        let mut harness = Harness::new(config.clone(), Echo::new());
        let ids = [(); 5].map(|()| harness.connect("/"));
        stop(&mut harness);
        harness.send(ids[4], "still served");
        assert_eq!(harness.received(ids[4]), [text("still served")]);
        for id in &ids[1..] {
            harness.close(*id, 1000, "");
        }
        assert!(harness.has_stopped());

        let mut empty = Harness::new(config.clone(), Recorder::default());
        stop(&mut empty);
        assert!(empty.has_stopped());

        let mut twice = Harness::new(config, Recorder::default());
        let ids = [(); 3].map(|()| twice.connect("/"));
        stop(&mut twice);
        stop(&mut twice);
        assert!(twice.has_stopped());
        assert_eq!(twice.received(ids[2]), [Received::End]);
    }

    #[test]
    fn more_sessions_than_milliseconds_are_closed_in_slices() {
        let config = Config {
            stop_spread: Duration::from_millis(3),
            ..Config::default()
        };
        let mut harness = Harness::new(config, Recorder::default());
        for _ in 0..10 {
            harness.connect("/");
        }
        stop(&mut harness);
        let mut counts = vec![harness.count()];
        while !harness.has_stopped() {
            harness.advance(Duration::from_millis(1));
            counts.push(harness.count());
        }
        assert_eq!(counts, [9, 6, 3, 0]);
    }

    #[test]
    fn messages_of_on_stop_arrive_before_the_close() {
        let mut harness = Harness::new(
            Config::default(),
            Stopping(|cx: &mut Context<'_>| {
                cx.publish("all", "we are closing");
                for id in cx.ids() {
                    let _ = cx.send(id, "good night");
                }
                // A session that was closed here keeps its own code.
                let first = cx.ids()[0];
                cx.close(first, 4000, "you first");
            }),
        );
        let ids = [(); 3].map(|()| harness.connect("/"));
        stop(&mut harness);
        assert!(harness.has_stopped());
        let mut closes: Vec<u16> = ids
            .map(|id| match &harness.received(id)[..] {
                [first, second, Received::Close(code, _), Received::End] => {
                    assert_eq!(
                        [first, second],
                        [&text("we are closing"), &text("good night")]
                    );
                    *code
                }
                other => panic!("{other:?}"),
            })
            .to_vec();
        closes.sort();
        assert_eq!(closes, [1001, 1001, 4000]);
    }

    #[test]
    fn every_route_gets_on_stop_once_and_its_own_timers() {
        struct Route(&'static str, Rc<RefCell<Vec<String>>>);
        impl Handler for Route {
            fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
            fn on_stop(&mut self, cx: &mut Context<'_>) {
                self.1.borrow_mut().push(format!("{} stop", self.0));
                cx.set_timer(Duration::from_secs(1), 0);
            }
            fn on_timer(&mut self, _: &mut Context<'_>, _: u64) {
                self.1.borrow_mut().push(format!("{} timer", self.0));
            }
        }
        let log = Rc::default();
        let inner = Router::new().route("/b", Route("b", Rc::clone(&log)));
        let router = Router::new()
            .route("/a", Route("a", Rc::clone(&log)))
            .route("/*", inner);
        let mut harness = Harness::new(Config::default(), router);
        let id = harness.connect("/a");
        harness.stall(id);
        stop(&mut harness);
        harness.advance(Duration::from_secs(2));
        assert_eq!(*log.borrow(), ["a stop", "b stop", "a timer", "b timer"]);
    }

    #[test]
    fn on_stop_is_called_once_whatever_happens() {
        let calls = Rc::new(RefCell::new(0));
        // A second stop in `on_stop`, a panic in it, and two stops in one turn.
        for case in 0..3 {
            *calls.borrow_mut() = 0;
            let count = Rc::clone(&calls);
            let on_stop = move |cx: &mut Context<'_>| {
                *count.borrow_mut() += 1;
                match case {
                    0 => cx.stop(),
                    1 => panic!("in on_stop"),
                    _ => {}
                }
            };
            let mut harness = Harness::new(Config::default(), Stopping(on_stop));
            let id = harness.connect("/");
            let stopped = catch_unwind(AssertUnwindSafe(|| {
                harness.with_context(|cx| {
                    cx.stop();
                    if case == 2 {
                        cx.stop();
                    }
                });
            }));
            assert_eq!(stopped.is_err(), case == 1);
            harness.advance(Duration::ZERO);
            assert!(harness.has_stopped(), "case {case}");
            assert_eq!(*calls.borrow(), 1, "case {case}");
            let expected = match case {
                1 => closed_for_stop(),
                _ => vec![Received::End],
            };
            assert_eq!(harness.received(id), expected, "case {case}");
        }
    }

    #[test]
    fn a_graceful_stop_sends_1001() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.with_context(|cx| cx.stop());
        assert_eq!(
            harness.received(id),
            close_and_end(1001, "the server is shutting down")
        );
        assert!(harness.has_stopped());
        assert_eq!(harness.handler().closes, [(1001, true, Side::Us)]);
        harness.advance(Duration::from_secs(60));
    }

    #[test]
    fn a_graceful_stop_ends_after_shutdown_grace() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.stall(id);
        harness.with_context(|cx| cx.stop());
        harness.advance(Duration::from_secs(9));
        assert!(!harness.has_stopped());
        assert_eq!(harness.open(opening("/")).unwrap_err().status(), 503);
        harness.advance(Duration::from_secs(1));
        assert!(harness.has_stopped());
    }

    #[test]
    fn a_second_stop_terminates_all_sessions_at_once() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.with_context(|cx| {
            cx.stop();
            cx.stop();
        });
        assert!(harness.has_stopped());
        assert_eq!(harness.received(id), [Received::End]);
    }

    #[test]
    fn a_dropped_harness_calls_on_close_for_open_sessions() {
        let log = Log::default();
        let mut harness = Harness::new(Config::default(), NameRecorder(log.clone()));
        harness.connect("/");
        drop(harness);
        assert_eq!(log.borrow().last(), Some(&"on_close".to_owned()));
    }
}

mod pressure {
    use super::*;

    #[test]
    fn on_skip_reports_the_number_of_skipped_messages() {
        let config = Config {
            lag_bytes_max: 10,
            lag_policy: LagPolicy::Skip,
            ..Config::default()
        };
        let mut harness = Harness::new(config, Recorder::default());
        let id = harness.connect("/");
        harness.with_context(|cx| cx.subscribe(id, "news"));
        harness.stall(id);
        for number in 0..10 {
            harness.with_context(|cx| cx.publish("news", format!("message {number}")));
        }
        harness.resume(id);
        let received = harness.received(id);
        let skipped = harness.handler().skipped;
        assert!(skipped > 0);
        assert_eq!(received.len() as u64 + skipped, 10);
        assert_eq!(received.last(), Some(&text("message 9")));
    }

    #[test]
    fn on_drain_is_called_when_the_client_reads_again() {
        let mut harness = Harness::new(Config::default(), Recorder::default());
        let id = harness.connect("/");
        harness.stall(id);
        let status = harness.with_context(|cx| cx.send(id, vec![0; 2 << 20]));
        assert_eq!(status, wsloop::SendStatus::OverHighWater);
        assert_eq!(harness.handler().drains, 0);
        harness.resume(id);
        assert_eq!(harness.handler().drains, 1);
    }
}

/// Records the events that the tests check.
#[derive(Default)]
struct Recorder {
    closes: Vec<(u16, bool, Side)>,
    timers: Vec<u64>,
    drains: usize,
    skipped: u64,
}

impl Handler for Recorder {
    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

    fn on_close(&mut self, _: &mut Context<'_>, _: Id, close: &Close<'_>) {
        self.closes.push((close.code, close.is_clean, close.by));
    }

    fn on_timer(&mut self, _: &mut Context<'_>, key: u64) {
        self.timers.push(key);
    }

    fn on_drain(&mut self, _: &mut Context<'_>, _: Id) {
        self.drains += 1;
    }

    fn on_skip(&mut self, _: &mut Context<'_>, _: Id, _: &str, messages: u64) {
        self.skipped += messages;
    }
}

type Log = Rc<RefCell<Vec<String>>>;

/// Records the name of every event.
struct NameRecorder(Log);

impl NameRecorder {
    fn record(&self, event: &str) {
        self.0.borrow_mut().push(event.to_owned());
    }
}

/// A source for a harness, which polls none.
struct Unpolled;

impl Source for Unpolled {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        unreachable!("a harness has no poll")
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        unreachable!("a harness has no poll")
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        unreachable!("a harness has no poll")
    }
}

// A new event of `Handler` must be added here, so that the test of the boxed handler covers it.
#[deny(clippy::missing_trait_methods)]
impl Handler for NameRecorder {
    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.record("on_start");
        cx.set_timer(Duration::from_secs(1), 0);
        cx.register(&mut Unpolled, 5, Interest::READABLE).unwrap();
    }

    fn inner(&mut self) -> Option<&mut dyn Handler> {
        None
    }

    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.record("on_upgrade");
        if request.path() == "/no" {
            return Err(HttpResponse::new(403, "no\n"));
        }
        upgrade
            .headers_mut()
            .insert("x-seen", "yes".parse().unwrap());
        Ok(())
    }

    fn on_http(&mut self, _: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
        self.record("on_http");
        HttpResponse::new(200, "from the handler itself\n")
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.record("on_open");
        cx.subscribe(id, "news");
        cx.set_session_timer(id, Duration::from_secs(1), 0);
        cx.register_for_session(id, &mut Unpolled, 6, Interest::WRITABLE)
            .unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_>, _: Id, message: Message<'_>) {
        self.record("on_message");
        cx.publish("news", message);
    }

    fn on_ping(&mut self, _: &mut Context<'_>, _: Id, _: &[u8]) {
        self.record("on_ping");
    }

    fn on_pong(&mut self, _: &mut Context<'_>, _: Id, _: &[u8]) {
        self.record("on_pong");
    }

    fn on_drain(&mut self, _: &mut Context<'_>, _: Id) {
        self.record("on_drain");
    }

    fn on_skip(&mut self, _: &mut Context<'_>, _: Id, _: &str, _: u64) {
        self.record("on_skip");
    }

    #[cfg(feature = "backplane")]
    fn on_gap(&mut self, _: &mut Context<'_>, _: Id, _: &str) {
        self.record("on_gap");
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Id, _: &Close<'_>) {
        self.record("on_close");
    }

    fn on_error(&mut self, _: &mut Context<'_>, _: Option<Id>, _: &Error) {
        self.record("on_error");
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u64) {
        self.record("on_timer");
    }

    fn on_session_timer(&mut self, _: &mut Context<'_>, _: Id, _: u64) {
        self.record("on_session_timer");
    }

    fn on_source(&mut self, _: &mut Context<'_>, _: u64, _: Ready) {
        self.record("on_source");
    }

    fn on_session_source(&mut self, _: &mut Context<'_>, _: Id, _: u64, _: Ready) {
        self.record("on_session_source");
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        self.record("on_stop");
    }
}

/// Causes every event of a handler. Returns what the clients received, and the names of the handler's events.
fn every_event<H: Handler>(wrap: impl FnOnce(NameRecorder) -> H) -> (Vec<Received>, Vec<String>) {
    let config = Config {
        lag_bytes_max: 1,
        lag_policy: LagPolicy::Skip,
        high_water_bytes: 100,
        low_water_bytes: 10,
        ..Config::default()
    };
    let log = Log::default();
    let mut harness = Harness::new(config, wrap(NameRecorder(log.clone())));
    assert_eq!(harness.get("/").body(), b"from the handler itself\n");
    assert_eq!(harness.open(opening("/no")).unwrap_err().status(), 403);
    let sender = harness.connect("/");
    let stalled = harness.connect("/");
    harness.stall(stalled);
    for _ in 0..3 {
        harness.send(sender, "x".repeat(100));
    }
    harness.resume(stalled);
    harness.ping(sender, b"?");
    // An empty pong.
    harness.send_raw(sender, b"\x8A\x80\0\0\0\0");
    harness.advance(Duration::from_secs(1));
    harness.source_is_ready(5, Ready::READABLE);
    harness.session_source_is_ready(sender, 6, Ready::WRITABLE);
    #[cfg(feature = "backplane")]
    {
        let broker = wsloop::backplane::memory::Broker::new();
        harness.set_backplane(broker.connect(), Default::default());
        assert!(broker.cut(0));
        harness.advance(Duration::from_secs(1));
    }
    harness.send_raw(stalled, b"no frame");
    harness.close(sender, 1000, "");
    harness.with_context(|cx| cx.stop());
    let received = [harness.received(sender), harness.received(stalled)].concat();
    drop(harness);
    (received, log.take())
}

#[test]
fn a_boxed_handler_gets_every_event() {
    let (received, names) = every_event(|handler| handler);
    let mut events = names.clone();
    events.sort();
    events.dedup();
    assert_eq!(
        events,
        [
            "on_close",
            "on_drain",
            "on_error",
            #[cfg(feature = "backplane")]
            "on_gap",
            "on_http",
            "on_message",
            "on_open",
            "on_ping",
            "on_pong",
            "on_session_source",
            "on_session_timer",
            "on_skip",
            "on_source",
            "on_start",
            "on_stop",
            "on_timer",
            "on_upgrade"
        ]
    );
    let boxed = every_event(|handler| -> Box<dyn Handler> { Box::new(handler) });
    assert_eq!(boxed, (received, names));
}

#[test]
fn a_closure_can_be_tested_as_a_handler() {
    let mut harness = Harness::new(
        Config::default(),
        handler_fn(|cx, id, message| cx.send(id, message.len().to_string())),
    );
    let id = harness.connect("/");
    harness.send(id, "four");
    assert_eq!(harness.received(id), [text("4")]);
}
