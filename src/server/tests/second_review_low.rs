//! Regression tests: one for each minor fault that a second review has found, and for each property that no test covered.
//! "No test failed when ..." describes a deliberate fault that the test now detects.

use super::script::{Bench, NoEnvironment, Peer, REQUEST, client_frame};
use crate::buffer::BufferPool;
use crate::config::Config;
use crate::context::Context;
use crate::engine::session::Phase;
use crate::engine::sources::Ready;
use crate::engine::{Engine, Readiness};
use crate::error::Error;
use crate::handler::Handler;
use crate::id::Id;
use crate::outbound::Topics;
use crate::proto::Message;
use crate::router::Router;
use crate::server::testing::Harness;
use crate::server::testing::shared::Shared;
use crate::server::turn::{self, Environment};
use mio::Interest;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The tables of topics did not shrink when topics were removed, unless the last topic was removed: 60 000 removed topics left
/// 10 MB.
#[test]
fn tables_of_removed_topics_are_released_while_one_topic_stays() {
    let mut buffers = BufferPool::new();
    for batch in [1, 100, 60_000] {
        let mut topics = Topics::default();
        let stays = topics.find_or_insert("stays");
        topics.join(stays, 0, None);
        let keys: Vec<_> = (0..60_000)
            .map(|number| {
                let key = topics.find_or_insert(&format!("/{number}"));
                topics.join(key, 1, None);
                key
            })
            .collect();
        assert!(topics.table_bytes() > 1_000_000);
        for keys in keys.chunks(batch) {
            for key in keys {
                topics.leave(*key, 0);
            }
            topics.trim(&mut buffers);
        }
        assert_eq!((topics.count(), topics.find("stays")), (1, Some(stays)));
        let bytes = topics.table_bytes();
        assert!(bytes < 100_000, "{bytes} bytes of tables for one topic");
    }
}

/// A panic in `on_error` replaced the recorded end of the session: `on_close` was called with 1006 instead of 1002, and the
/// end was logged twice.
#[test]
fn a_panic_in_on_error_does_not_change_how_the_session_ended() {
    #[derive(Default)]
    struct Panics {
        errors: usize,
        closes: Vec<(u16, String)>,
    }
    impl Handler for Panics {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_error(&mut self, _: &mut Context<'_>, _: Option<Id>, _: &Error) {
            self.errors += 1;
            panic!("in on_error");
        }
        fn on_close(&mut self, _: &mut Context<'_>, _: Id, close: &crate::Close<'_>) {
            self.closes.push((close.code, close.reason.to_owned()));
        }
    }
    let mut harness = Harness::new(Config::default(), Panics::default());
    let id = harness.connect("/");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        harness.send_raw(id, &client_frame(0x83, b"reserved opcode"));
        harness.advance(Duration::from_secs(20));
    }));
    assert!(panicked.is_err());
    assert_eq!(harness.count(), 1, "`on_close` has not been called");
    harness.advance(Duration::from_secs(20));
    assert_eq!(harness.count(), 0);
    let Panics { errors, closes } = harness.handler();
    assert_eq!(*errors, 1, "the error is reported once");
    assert_eq!(closes.len(), 1);
    assert_eq!(closes[0].0, 1002);
    assert_ne!(closes[0].1, "");
}

/// A ready source was reported to the outermost router only. Timers that a route set in that event reached no route.
#[test]
fn the_sources_and_timers_of_a_nested_route_reach_it_only() {
    #[derive(Default)]
    struct Seen(Vec<u64>);
    impl Handler for Shared<Seen> {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_start(&mut self, cx: &mut Context<'_>) {
            let any = "127.0.0.1:0".parse().unwrap();
            let mut source = mio::net::UdpSocket::bind(any).unwrap();
            cx.register(&mut source, 7, Interest::READABLE).unwrap();
        }
        fn on_source(&mut self, cx: &mut Context<'_>, key: u64, ready: Ready) {
            assert_eq!(ready, Ready::READABLE);
            self.lock().0.push(key);
            cx.set_timer(Duration::from_millis(5), 100);
        }
        fn on_timer(&mut self, _: &mut Context<'_>, key: u64) {
            self.lock().0.push(key);
        }
    }
    /// Registers a source with the same key, and passes its events on as a handler that has no `on_source`.
    struct Outer {
        router: Router,
        seen: Vec<u64>,
    }
    impl Handler for Outer {
        fn inner(&mut self) -> Option<&mut dyn Handler> {
            Some(&mut self.router)
        }
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            self.router.on_message(cx, id, message);
        }
        fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
            if key == 1 {
                self.seen.push(key);
            } else {
                self.router.on_timer(cx, key);
            }
        }
    }
    let (route, other) = (Shared::new(Seen::default()), Shared::new(Seen::default()));
    let inner = Router::new()
        .route("/in/a", route.clone())
        .route("/in/b", other.clone());
    let outer = Outer {
        router: Router::new().route("/in/*", inner),
        seen: Vec::new(),
    };
    let mut harness = Harness::new(Config::default(), outer);
    harness.with_context(|cx| {
        cx.set_timer(Duration::from_millis(1), 1);
        // No handler around the router takes this key, so it is logged and ignored.
        cx.set_timer(Duration::from_millis(1), 2);
    });
    harness.source_is_ready(7, Ready::READABLE);
    harness.advance(Duration::from_millis(5));
    assert_eq!(harness.handler().seen, [1]);
    assert_eq!(route.lock().0, [7, 100]);
    assert_eq!(other.lock().0, [7, 100]);
}

/// A timer of zero that a handler set in the read phase fired in the same turn, although the documentation states the next
/// turn.
#[test]
fn a_timer_of_zero_is_due_in_the_next_turn() {
    let mut bench = Bench::new(Config::default(), |cx, _, _| {
        cx.set_timer(Duration::ZERO, 9);
    });
    let peer = bench.open();
    peer.send_text("set");
    bench.take_events();
    bench.turn();
    assert_eq!(
        bench.take_events(),
        [""; 0],
        "not in the turn that set the timer"
    );
    assert_eq!(bench.engine.next_in(), Some(0));
    bench.turn();
    assert_eq!(bench.take_events(), ["timer 9"]);
    // A timer of zero that is set between two turns fires in the turn that follows.
    bench.engine.set_timer(Duration::ZERO.into(), 10, 0);
    bench.turn();
    assert_eq!(bench.take_events(), ["timer 10"]);
}

/// After the peer had ended its stream, the received part of an incomplete message was retained until the backlog was sent.
#[test]
fn an_incomplete_message_is_dropped_when_the_peer_ends_its_stream() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("backlog");
    let mut frame = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0xF0, 0, 0, 0, 0, 0, 0];
    frame.extend(vec![0; 10 << 20]);
    peer.send_bytes(&frame);
    peer.end_stream();
    bench.turns(200);
    let session = bench.engine.session(peer.id).unwrap();
    assert_eq!(session.phase, Phase::Finishing);
    assert_eq!(
        session.connection.payload_missing(),
        0,
        "the incomplete message is released"
    );
    peer.set_writable_bytes(usize::MAX);
    bench.turn();
    assert_eq!(peer.take_texts(), ["backlog"]);
}

/// No test failed when the flush phase took all sessions from its queue at its start, so that a panic in `on_drain` lost the
/// sessions that followed.
#[test]
fn a_panic_in_on_drain_does_not_stop_the_flush_of_other_sessions() {
    struct Panics;
    impl Handler for Panics {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let _ = cx.send(id, message);
        }
        fn on_drain(&mut self, _: &mut Context<'_>, _: Id) {
            panic!("in on_drain");
        }
    }
    let config = Config {
        high_water_bytes: 2_000,
        low_water_bytes: 1_000,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let (slow, other) = (bench.open(), bench.open());
    slow.set_writable_bytes(0);
    let _ = bench.engine.send(slow.id, Message::binary(&[1; 5_000]));
    bench.turns(3);
    slow.set_writable_bytes(usize::MAX);
    let mut buf = vec![0; 80 * 1024];
    let mut panics = 0;
    for _ in 0..30 {
        other.send_text("echo");
        bench.engine.begin_turn(0);
        let mark = |engine: &mut Engine, peer: &Peer| {
            let readiness = Readiness {
                is_readable: true,
                is_writable: true,
                is_end: false,
                is_error: false,
            };
            engine.mark(peer.id, readiness);
        };
        mark(&mut bench.engine, &slow);
        mark(&mut bench.engine, &other);
        let turned = catch_unwind(AssertUnwindSafe(|| {
            turn::turn(&mut bench.engine, &mut buf, &mut Panics, &mut NoEnvironment).unwrap()
        }));
        panics += usize::from(turned.is_err());
    }
    assert_eq!(panics, 1);
    assert_eq!(other.take_texts().len(), 30);
}

/// No test failed when fragments were not counted as work: an endless message of empty fragments occupied a turn for all the
/// bytes that a turn may read.
#[test]
fn a_turn_is_bounded_in_fragments() {
    let mut bench = Bench::new(Config::default(), |_, _, _| {});
    let peers: Vec<Peer> = (0..64).map(|_| bench.open()).collect();
    for peer in &peers {
        peer.send_bytes(&client_frame(0x02, b""));
        peer.send_bytes(&client_frame(0x00, b"").repeat(20_000));
    }
    bench.turn();
    let unprocessed = |peer: &Peer| {
        let session = bench.engine.session(peer.id).unwrap();
        let extra = session.extra.as_ref();
        let stored = extra.map_or(0, |extra| {
            extra.unprocessed.bytes.len() - extra.unprocessed.start
        });
        peer.unread_bytes() + stored
    };
    let left: usize = peers.iter().map(unprocessed).sum();
    let taken = (64 * 20_001 * 6 - left) / 6;
    // The limit of a session is 512 messages. 64 fragments count as 32 messages, so it processes 1 024 fragments.
    assert!(taken <= 64 * 1_100, "{taken} fragments in one turn");
}

/// No test failed when a large publication was written to a member at once: other sessions would wait until all of it was
/// written.
#[test]
fn a_large_publication_is_written_to_its_members_in_slices() {
    const FRAME_LEN: usize = 10 + (4 << 20);
    let mut bench = Bench::echo(Config::default());
    let members: Vec<Peer> = (0..3).map(|_| bench.open()).collect();
    let other = bench.open();
    for member in &members {
        bench.engine.subscribe(member.id, "t");
        member.set_writable_bytes(0);
    }
    bench
        .engine
        .publish("t", Message::binary(&vec![1; FRAME_LEN - 10]));
    bench.turns(3);
    for member in &members {
        member.set_writable_bytes(usize::MAX);
    }
    let mut turns = 0;
    while members
        .iter()
        .any(|peer| peer.wire.lock().written.len() < FRAME_LEN)
    {
        turns += 1;
        let before = written(&members);
        other.send_text("here?");
        bench.turn();
        assert_eq!(other.take_texts(), ["here?"], "an echo in the same turn");
        for (before, after) in before.iter().zip(written(&members)) {
            assert!(
                after - before <= 300_000,
                "{} bytes at once",
                after - before
            );
        }
        assert!(turns < 1_000);
    }
    for member in &members {
        assert_eq!(member.take_frames().len(), 1);
    }
}

fn written(peers: &[Peer]) -> Vec<usize> {
    let len = |peer: &Peer| peer.wire.lock().written.len();
    peers.iter().map(len).collect()
}

/// No test failed when a stopping server ran only one read phase: requests above the limit of one phase received 503.
#[test]
fn requests_above_the_limit_of_one_read_phase_are_answered_before_a_stop() {
    let config = Config {
        handshakes_max: 2_000,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    // The requests are 12 MiB. One phase reads 4 MiB.
    let padding = format!("Padding: {}\r\n\r\n", "x".repeat(12_000));
    let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{padding}"));
    let peers: Vec<Peer> = (0..1_000)
        .map(|_| {
            let peer = bench.connect();
            peer.send_bytes(request.as_bytes());
            peer
        })
        .collect();
    bench.engine.stop();
    bench.turns(3);
    let is_answered = |peer: &&Peer| peer.wire.lock().written.starts_with(b"HTTP/1.1 101");
    assert_eq!(peers.iter().filter(is_answered).count(), 1_000);
}

/// No test failed when a turn polled only before it read the clock, or polled only once: input that had arrived in time, but
/// was not among the events of that poll, was too late for its deadline.
#[test]
fn input_that_any_poll_of_a_turn_reports_counts_before_a_deadline() {
    /// An environment in which each poll reports the events of one peer.
    struct Batches(VecDeque<(Option<Peer>, bool)>);
    impl Environment for Batches {
        fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> io::Result<bool> {
            let (peer, has_more) = self.0.pop_front().unwrap();
            if let Some(peer) = peer {
                engine.mark(peer.id, peer.readiness());
            }
            Ok(has_more)
        }
    }
    let mut bench = Bench::echo(Config::default());
    let peers: Vec<Peer> = (0..5).map(|_| bench.connect()).collect();
    for peer in &peers {
        peer.send_bytes(REQUEST.as_bytes());
    }
    let peer = |index: usize| Some(peers[index].clone());
    // The third poll is interrupted by a signal. After the fourth, the process is suspended for a minute.
    let before_clock = [
        (peer(0), true),
        (peer(1), true),
        (None, true),
        (peer(2), false),
    ];
    let after_clock = [(peer(3), true), (peer(4), false)];
    let mut batches = Batches(before_clock.into_iter().chain(after_clock).collect());
    bench.turn_with(60_000, &mut batches);
    for peer in &peers {
        assert!(peer.take_written().starts_with(b"HTTP/1.1 101"));
    }
    assert!(batches.0.is_empty());
}
