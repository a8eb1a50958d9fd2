//! Regression tests: one for each fault that a review or an attack test has found. The comment of each test describes the
//! fault, in the past tense; the name states what holds now.
//!
//! A publication is stored once, in the log of its topic. The queue of a member refers to *ranges* of that log.

use super::script::{Bench, Peer, client_frame};
use crate::config::{Config, LagPolicy};
use crate::context::Context;
use crate::engine::deadlines::Deadline;
use crate::error::SendStatus;
use crate::handler::Handler;
use crate::handlers::Echo;
use crate::id::Id;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use crate::router::Router;
use crate::server::testing::{Harness, Received};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A session was written to once per turn, and one vectored write has at most 64 slices. A member of 200 topics needs 200
/// slices per turn, so its unsent bytes grew, and no limit counted them.
#[test]
fn a_member_of_many_topics_with_a_fast_socket_does_not_lag() {
    let mut bench = Bench::new(Config::default(), |_, _, _| {});
    let member = bench.open();
    let topics: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        assert!(bench.engine.subscribe(member.id, topic));
    }
    let payload = [7; 6 * 1024];
    for _ in 0..50 {
        for topic in &topics {
            bench.engine.publish(topic, Message::binary(&payload));
        }
        bench.turn();
        let unsent = bench.engine.buffered_amount(member.id);
        assert!(unsent < 2 << 20, "{unsent}");
    }
    bench.turns(20);
    assert_eq!(member.take_frames().len(), 50 * 200);
}

/// The lag of a member counted payload bytes only, not the memory of the queue's entries. A member of several topics that read
/// nothing was therefore not found lagging until its queue took several times the limit.
#[test]
fn the_overhead_of_queued_ranges_counts_as_lag() {
    for policy in [LagPolicy::Disconnect, LagPolicy::Skip] {
        let config = Config {
            lag_policy: policy,
            lag_bytes_max: 1 << 20,
            ..Config::default()
        };
        let mut bench = Bench::new(config, |_, _, _| {});
        let member = bench.open();
        for topic in ["a", "b"] {
            bench.engine.subscribe(member.id, topic);
        }
        member.set_writable_bytes(0);
        let mut segments_max = 0;
        for _ in 0..20_000 {
            for topic in ["a", "b"] {
                bench.engine.publish(topic, Message::text("twelve bytes"));
            }
            bench.turn();
            let Some(session) = bench.engine.session(member.id) else {
                break;
            };
            segments_max = segments_max.max(session.outbound.segments());
        }
        assert!(segments_max < 10_000, "{segments_max}");
        let events = bench.take_events();
        if policy == LagPolicy::Skip {
            assert!(events.iter().any(|event| event.starts_with("skip")));
            assert!(bench.engine.is_open(member.id));
        } else {
            assert!(!bench.engine.is_open(member.id));
        }
    }
}

/// Unsent publications of a member counted against `backlog_bytes_max`, so that a direct message to the member was refused and
/// ended its session.
#[test]
fn a_direct_message_is_not_refused_because_of_queued_publications() {
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let member = bench.open();
    for topic in ["a", "b"] {
        bench.engine.subscribe(member.id, topic);
    }
    member.set_writable_bytes(0);
    for _ in 0..20_000 {
        for topic in ["a", "b"] {
            bench.engine.publish(topic, Message::text("x"));
        }
        bench.turn();
    }
    let status = bench.engine.send(member.id, Message::text("direct"));
    assert_ne!(status, SendStatus::OverLimit);
    assert!(bench.engine.is_open(member.id));
}

/// A session could be a member of an unlimited number of topics.
#[test]
fn memberships_of_a_session_are_limited() {
    let config = Config {
        memberships_max: 3,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let member = bench.open();
    for topic in ["a", "b", "c"] {
        assert!(bench.engine.subscribe(member.id, topic));
    }
    assert!(!bench.engine.subscribe(member.id, "d"));
    assert_eq!(bench.engine.topics.count(), 3);
    assert!(bench.engine.unsubscribe(member.id, "a"));
    assert!(bench.engine.subscribe(member.id, "d"));
}

/// More than 64 slices need two writes. Although the stream had accepted all of the first write, the session waited for it
/// to become writable. That event never came, and the session ended at its write timeout.
#[test]
fn more_slices_than_one_write_carries_do_not_block_a_session() {
    let mut bench = Bench::new(Config::default(), |_, _, _| {});
    let member = bench.open_member("t");
    for _ in 0..65 {
        bench.engine.publish("t", Message::binary(&[1; 70_000]));
    }
    // The stream is writable all the time, so the poll, which is edge-triggered, reports nothing.
    bench.turn_without_events();
    bench.turn_without_events();
    let session = bench.engine.session(member.id).unwrap();
    assert!(!session.is_blocked && session.outbound.is_empty());
    let deadline = bench.engine.deadlines.kind(member.id.slot as usize);
    assert_eq!(deadline, Some(Deadline::Quiet));
    assert_eq!(member.take_frames().len(), 65);
}

/// A publication is written to the members one after another, over several turns. Each join or leave meanwhile made all
/// members be checked for lag again. A member was then found lagging, or skipped the newest message, although nothing had been
/// published since the last check. The test also asserts that direct messages cause no check.
#[test]
fn a_member_is_checked_for_lag_only_when_something_new_is_published() {
    let config = Config {
        lag_bytes_max: 10_000,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let members: Vec<Peer> = (0..40).map(|_| bench.open()).collect();
    let other = bench.open();
    for member in &members {
        bench.engine.subscribe(member.id, "t");
    }
    let slow = &members[0];
    slow.set_writable_bytes(100);
    bench.engine.publish("t", Message::binary(&[1; 9_000]));
    bench.turns(10);
    // This publication exceeds the limit, but the check counts only earlier publications, which are below it.
    bench.engine.publish("t", Message::binary(&[1; 9_000]));
    for _ in 0..10 {
        assert!(bench.engine.subscribe(other.id, "t"));
        bench.turn();
        assert!(bench.engine.unsubscribe(other.id, "t"));
        bench.turn();
        let status = bench.engine.send(slow.id, Message::text("direct"));
        assert_eq!(status, SendStatus::Queued);
        bench.turn();
    }
    assert!(bench.engine.is_open(slow.id));
    bench.engine.publish("t", Message::binary(&[1; 10]));
    bench.turns(10);
    assert!(!bench.engine.is_open(slow.id));
}

/// When more than 1 MiB was published, all members were written to in the same turn.
#[test]
fn a_large_publication_to_many_members_is_spread_over_turns() {
    let mut bench = Bench::new(Config::default(), |cx, _, message| {
        cx.publish("t", message);
    });
    let members: Vec<Peer> = (0..50).map(|_| bench.open_member("t")).collect();
    let sender = bench.open();
    let mut frame = vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0];
    frame.extend(vec![0; 2 << 20]);
    sender.send_bytes(&frame);
    let mut written_max = 0;
    let mut written = 0;
    for _ in 0..400 {
        bench.turn();
        let now: usize = members
            .iter()
            .map(|peer| peer.wire.lock().written.len())
            .sum();
        written_max = written_max.max(now - written);
        written = now;
    }
    assert_eq!(written, 50 * (10 + (2 << 20)));
    // A turn may spend as much work on publications as on its reads, which is more than the minimum budget of 128 KiB here.
    assert!(written_max <= 24 << 20, "{written_max}");
}

/// A session that publishes faster than the members read is not read until they have caught up. Other sessions are read.
#[test]
fn a_fast_publisher_waits_for_the_members_and_other_sessions_do_not_wait() {
    let mut bench = Bench::new(Config::default(), |cx, id, message| {
        if message.len() > 100 {
            cx.publish("t", message);
        } else {
            let _ = cx.send(id, message);
        }
    });
    let members: Vec<Peer> = (0..60).map(|_| bench.open_member("t")).collect();
    let (sender, victim) = (bench.open(), bench.open());
    sender.send_bytes(&client_frame(0x82, &[0; 60_000]).repeat(200));
    for _ in 0..400 {
        victim.send_text("here?");
        bench.turn();
        assert_eq!(victim.take_texts(), ["here?"], "an echo in the same turn");
        let retained = bench.engine.topics.capacity();
        assert!(retained < 3 << 20, "{retained}");
    }
    bench.turns(2_000);
    assert!(members.iter().all(|peer| peer.take_frames().len() == 200));
    assert_eq!(sender.unread_bytes(), 0);
}

/// A turn was bounded in bytes only: 4 MiB of tiny frames are 700 000 handler calls.
#[test]
fn a_turn_is_bounded_in_messages() {
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&counted);
    let mut bench = Bench::new(Config::default(), move |_, _, _| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let peers: Vec<Peer> = (0..64).map(|_| bench.open()).collect();
    for peer in &peers {
        peer.send_bytes(&client_frame(0x82, b"").repeat(20_000));
    }
    let mut before = 0;
    for _ in 0..200 {
        bench.turn();
        let now = counted.load(std::sync::atomic::Ordering::Relaxed);
        // The limit is 16 384 messages. The last session may exceed it by its own limit, 512.
        assert!(now - before <= 17_000, "{}", now - before);
        before = now;
    }
    assert_eq!(before, 64 * 20_000, "nothing is lost");
}

/// After a violation whose Close was queued behind unsent bytes, input was read and discarded without limit.
#[test]
fn after_a_violation_behind_a_backlog_discarded_input_is_bounded() {
    let config = Config {
        message_bytes_max: 100_000,
        ..Config::default()
    };
    let max = config.message_bytes_max + 2 * config.receive_buffer_bytes;
    let mut bench = Bench::echo(config);
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("backlog");
    bench.turn();
    peer.send_bytes(&[0xFF; 10]);
    for _ in 0..100 {
        peer.send_bytes(&[0; 50_000]);
        bench.turn();
    }
    let read = 100 * 50_000 - peer.unread_bytes();
    assert!(read <= max, "{read}");
    assert_eq!(bench.engine.len(), 1, "the session ends at write_timeout");
}

/// Connections that sent no request filled `handshakes_max`, and new connections were refused until their timeouts.
#[test]
fn the_oldest_connection_without_a_request_is_evicted() {
    let config = Config {
        handshakes_max: 10,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let silent: Vec<Peer> = (0..10).map(|_| bench.connect()).collect();
    bench.turn();
    // The request of this connection has arrived and been polled, but not read.
    silent[0].send_bytes(super::script::REQUEST.as_bytes());
    bench.engine.mark(
        silent[0].id,
        crate::engine::Readiness {
            is_readable: true,
            ..Default::default()
        },
    );
    for number in 0..30 {
        let peer = bench.open();
        assert!(bench.engine.is_open(peer.id), "{number}");
    }
    assert!(bench.engine.is_open(silent[0].id));
    let gone = silent.iter().filter(|peer| peer.wire.lock().is_dropped);
    assert!(gone.count() >= 1);
}

/// Connections that sent no request also filled `connections_max`. At this limit, a connection is evicted only if it has sent
/// no request for a second.
#[test]
fn silent_connections_are_evicted_at_connections_max() {
    let config = Config {
        connections_max: 2,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let (silent, _open) = (bench.connect(), bench.open());
    let early = bench.connect();
    bench.turn();
    assert!(early.take_written().starts_with(b"HTTP/1.1 503"));
    bench.turn_at(1_000);
    let peer = bench.open();
    assert!(bench.engine.is_open(peer.id));
    assert!(silent.wire.lock().is_dropped);
}

/// Clients that were answered with an error and did not end their streams filled `connections_max` for `close_timeout`.
#[test]
fn a_connection_that_was_answered_gives_its_place_to_a_new_one() {
    let config = Config {
        connections_max: 2,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let lingering = [bench.connect(), bench.connect()];
    for peer in &lingering {
        peer.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    bench.turn();
    for peer in &lingering {
        assert!(peer.take_written().starts_with(b"HTTP/1.1 4"));
    }
    let peer = bench.open();
    assert!(bench.engine.is_open(peer.id));
    assert!(lingering[0].wire.lock().is_dropped && !lingering[1].wire.lock().is_dropped);
    let second = bench.open();
    assert!(bench.engine.is_open(second.id) && lingering[1].wire.lock().is_dropped);
    // Both sessions are open.
    let refused = bench.connect();
    bench.turn();
    assert!(refused.take_written().starts_with(b"HTTP/1.1 503"));
}

/// Deadlines expired before input that had already arrived was read: a process that had been suspended answered 408 to
/// requests that had arrived in time.
#[test]
fn input_that_arrived_before_a_deadline_counts_even_if_the_turn_is_late() {
    let config = Config {
        idle_timeout: Some(Duration::from_secs(10)),
        write_timeout: Duration::from_secs(3),
        ..Config::default()
    };
    let mut bench = Bench::new(config, |cx, id, message| {
        let payload = vec![1; message.len() * 100_000];
        if !payload.is_empty() {
            let _ = cx.send(id, &payload);
        }
    });
    // The busy sessions are read first, and their 40 * 512 messages are more than one read phase handles (16 384). So the phase
    // ends before the input of the other sessions is read, and their deadlines are due next.
    let busy: Vec<Peer> = (0..40).map(|_| bench.open()).collect();
    let (quiet, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(1_000);
    slow.send_text("x".repeat(10).as_str());
    bench.turn_at(1_000);
    assert!(bench.engine.session(slow.id).unwrap().is_blocked);
    let waiting: Vec<Peer> = (0..50).map(|_| bench.connect()).collect();
    // The process is suspended for 15 s. Meanwhile the following input arrives.
    for peer in &busy {
        peer.send_bytes(&client_frame(0x82, b"").repeat(512));
    }
    for peer in &waiting {
        peer.send_bytes(super::script::REQUEST.as_bytes());
    }
    quiet.send_text("");
    slow.set_writable_bytes(500_000);
    bench.turn_at(16_000);
    for peer in &waiting {
        assert!(peer.take_written().starts_with(b"HTTP/1.1 101"));
    }
    assert!(bench.engine.is_open(quiet.id), "a message has arrived");
    assert!(bench.engine.is_open(slow.id), "500 000 bytes are accepted");
}

/// A nested router overwrote the route stored in the session, and the outer router used that value as an index into its own
/// routes.
#[test]
fn a_nested_router_uses_its_own_routes() {
    struct Named(&'static str);
    impl Handler for Named {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            cx.subscribe(id, self.0);
            cx.set_timer(Duration::from_millis(5), 1);
            let _ = cx.send(id, self.0);
        }
        fn on_timer(&mut self, cx: &mut Context<'_>, _: u64) {
            cx.publish(self.0, format!("timer of {}", self.0));
        }
    }
    let inner = Router::new()
        .route("/in/a", Named("a"))
        .route("/in/b", Named("b"))
        .route("/in/c", Named("c"));
    let outer = Router::new()
        .route("/out", Named("out"))
        .route("/in/*", inner);
    let mut harness = Harness::new(Config::default(), outer);
    for name in ["in/c", "out", "in/a", "in/b"] {
        let id = harness.connect(&format!("/{name}"));
        harness.send(id, "hello");
        let name = name.rsplit('/').next().unwrap();
        let text = |text: String| Received::Text(text);
        assert_eq!(harness.received(id), [text(name.to_owned())]);
        harness.advance(Duration::from_millis(5));
        let expected = format!("timer of {name}");
        assert_eq!(
            harness.received(id),
            [text(expected)],
            "the timer reaches the route that set it"
        );
        assert_eq!(harness.get("/in/d").status(), 404);
        harness.close(id, 1000, "");
    }
}

/// A panic in `on_drain` lost the queue of sessions to be flushed (tested in `second_review_low`). A panic in `on_message` lost
/// the input that had been read and not yet processed.
#[test]
fn a_handler_panic_ends_only_the_session_of_the_event() {
    struct Panics;
    impl Handler for Panics {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            assert_ne!(message.as_text(), Some("panic"));
            let _ = cx.send(id, message);
        }
        fn on_upgrade(
            &mut self,
            _: &mut Context<'_>,
            _: Id,
            request: &Request,
            _: &mut Upgrade,
        ) -> Result<(), HttpResponse> {
            assert_ne!(request.path(), "/panic");
            Ok(())
        }
    }
    let mut harness = Harness::new(Config::default(), Panics);
    let ids: Vec<Id> = (0..5).map(|_| harness.connect("/")).collect();
    harness.send(ids[0], "before");
    let mut frames = client_frame(0x81, b"panic");
    frames.extend(client_frame(0x81, b"lost"));
    let panicked = catch_unwind(AssertUnwindSafe(|| harness.send_raw(ids[1], &frames)));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| harness.connect("/panic")));
    assert!(panicked.is_err());
    for id in [ids[0], ids[2], ids[3], ids[4]] {
        harness.send(id, "after");
        assert!(
            harness
                .received(id)
                .contains(&Received::Text("after".into()))
        );
    }
    assert_eq!(harness.received(ids[1]), [Received::End]);
    assert_eq!(harness.count(), 4);
}

/// After a panic in `on_close`, the session was never removed from its slot.
#[test]
fn a_session_whose_on_close_panics_is_freed() {
    struct Panics;
    impl Handler for Panics {
        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
        fn on_close(&mut self, _: &mut Context<'_>, _: Id, close: &crate::Close<'_>) {
            assert_ne!(close.code, 4000);
        }
    }
    let mut harness = Harness::new(Config::default(), Panics);
    let (first, second) = (harness.connect("/"), harness.connect("/"));
    let panicked = catch_unwind(AssertUnwindSafe(|| harness.close(first, 4000, "")));
    assert!(panicked.is_err());
    harness.close(second, 1000, "");
    assert_eq!(harness.count(), 0);
    let third = harness.connect("/");
    assert!(harness.with_context(|cx| cx.is_open(third)));
}

/// The whole path of a request was retained, up to 16 KiB for each idle connection.
#[test]
fn a_long_path_is_not_retained() {
    let mut harness = Harness::new(Config::default(), Echo::new());
    let short = harness.connect(&format!("/{}", "s".repeat(511)));
    let long = harness.connect(&format!("/{}", "l".repeat(12_000)));
    let path = |harness: &mut Harness<Echo>, id| harness.with_context(|cx| cx.path(id));
    assert_eq!(path(&mut harness, short).map(|path| path.len()), Some(512));
    assert_eq!(path(&mut harness, long), None);
}

/// The server assumed after a short read that no more input was available. But TCP urgent data, or a descriptor passed over a
/// Unix socket, also shortens a read. The bytes after it were never read.
#[test]
fn a_short_read_after_urgent_data_does_not_end_reading() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    // `is_end` is also reported for urgent data: a short read then does not mean that the stream is empty.
    bench.engine.mark(
        peer.id,
        crate::engine::Readiness {
            is_end: true,
            ..Default::default()
        },
    );
    peer.wire.lock().call_bytes_max = 10;
    peer.send_text("before the mark, and behind it");
    let is_readable = true;
    bench.engine.mark(
        peer.id,
        crate::engine::Readiness {
            is_readable,
            ..Default::default()
        },
    );
    bench.turn_without_events();
    assert_eq!(peer.unread_bytes(), 0);
    // The writes were short as well, so the rest of the reply is sent in another turn.
    peer.wire.lock().call_bytes_max = usize::MAX;
    bench.turn();
    assert_eq!(peer.take_texts(), ["before the mark, and behind it"]);
}
