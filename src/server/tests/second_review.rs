//! Regression tests: one for each fault that a second review has found. The comment of each test describes the fault,
//! in the past tense; the name states what holds now.
//!
//! A publication is stored once, in the log of its topic. To *claim* publications means to append ranges of that log to a
//! member's queue.

use super::script::{Bench, Peer, client_frame};
use crate::config::{Config, LagPolicy};
use crate::handler::Handler;
use crate::id::Id;
use crate::outbound::WALKED_FRAMES;
use crate::proto::Message;
use std::time::Duration;

/// When a member lagged while a large publication was partly sent to it, the unsent rest was copied for this member: 20
/// members took 20 times the memory of the message, and each copy delayed other sessions.
fn check_that_the_rest_of_a_large_message_is_shared(policy: LagPolicy) {
    let config = Config {
        lag_policy: policy,
        ..Config::default()
    };
    // Lengths below and above the size at which a frame gets a chunk of its own, and one above the default lag limit.
    for len in [20_000, 100_000, 200_000, 16 << 20] {
        let mut bench = Bench::new(config.clone(), |_, _, _| {});
        let members: Vec<Peer> = (0..20).map(|_| bench.open()).collect();
        for member in &members {
            bench.engine.subscribe(member.id, "t");
            member.set_writable_bytes(1_000);
        }
        bench.engine.publish("t", Message::binary(&vec![1; len]));
        bench.turns(40);
        for member in &members {
            member.set_writable_bytes(0);
        }
        let retained = |bench: &Bench| {
            let sessions = members
                .iter()
                .filter_map(|peer| bench.engine.session(peer.id));
            let owned: usize = sessions.map(|session| session.outbound.capacity()).sum();
            owned + bench.engine.topics.capacity()
        };
        let limit = retained(&bench) + 2 * (config.lag_bytes_max + len);
        for _ in 0..config.lag_bytes_max / len + 2 {
            bench.engine.publish("t", Message::binary(&vec![2; len]));
            bench.turns(40);
        }
        let now = retained(&bench);
        assert!(
            now <= limit,
            "{policy:?}, {len}: {now} bytes retained, {limit} allowed"
        );
    }
}

#[test]
fn the_rest_of_a_large_message_is_not_copied_for_each_lagging_member() {
    check_that_the_rest_of_a_large_message_is_shared(LagPolicy::Disconnect);
}

#[test]
fn the_rest_of_a_large_message_is_not_copied_for_each_member_that_skips() {
    check_that_the_rest_of_a_large_message_is_shared(LagPolicy::Skip);
}

/// A session that leaves a topic claims the unsent publications. It did so without a check for lag, so the queue of a
/// session that joined and left again and again grew without limit.
#[test]
fn a_member_that_leaves_topics_is_still_found_lagging() {
    let config = Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let member = bench.open();
    member.set_writable_bytes(0);
    for _ in 0..200 {
        bench.engine.subscribe(member.id, "group");
        bench.engine.publish("group", Message::binary(&[1; 60_000]));
        bench.engine.unsubscribe(member.id, "group");
        bench.turn();
        let unsent = bench.engine.buffered_amount(member.id);
        assert!(
            unsent < 3 << 20,
            "{unsent} bytes unsent, the limit is 1 MiB"
        );
    }
}

/// A member was not checked for lag if its stream became writable in each turn that published.
#[test]
fn a_member_that_reads_a_little_in_each_turn_is_found_lagging() {
    let config = Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let member = bench.open_member("t");
    for _ in 0..100 {
        member.set_writable_bytes(30_000);
        bench.engine.publish("t", Message::binary(&[1; 500_000]));
        bench.turn();
        let unsent = bench.engine.buffered_amount(member.id);
        assert!(
            unsent < 4 << 20,
            "{unsent} bytes unsent, the limit is 1 MiB"
        );
    }
}

/// A publication of more than 1 MiB by a timer or by the host program was written to all members in one turn.
#[test]
fn a_large_publication_by_a_timer_is_spread_over_turns() {
    let mut bench = Bench::new(Config::default(), |_, _, _| {});
    let members: Vec<Peer> = (0..50).map(|_| bench.open_member("t")).collect();
    bench.handler.on_other_event = Some(Box::new(|cx| {
        cx.publish("t", Message::binary(&vec![1; 1_100_000]));
    }));
    bench
        .engine
        .set_timer(Duration::from_millis(1).into(), 1, 0);
    let (mut written, mut written_max) = (0, 0);
    for now in 1..100 {
        bench.turn_at(now);
        let total: usize = members
            .iter()
            .map(|peer| peer.wire.lock().written.len())
            .sum();
        written_max = written_max.max(total - written);
        written = total;
    }
    assert!(written_max <= 24 << 20, "{written_max}");
}

/// Connections that were accepted in one accept phase evicted each other before the poll could report that their
/// requests had arrived.
#[test]
fn requests_that_have_arrived_are_not_evicted_before_they_are_polled() {
    let config = Config {
        handshakes_max: 10,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let peers: Vec<Peer> = (0..100)
        .map(|_| {
            let peer = bench.connect();
            peer.send_bytes(super::script::REQUEST.as_bytes());
            peer
        })
        .collect();
    bench.turns(3);
    let open = peers
        .iter()
        .filter(|peer| bench.engine.is_open(peer.id))
        .count();
    assert_eq!(open, 100);
}

/// When a server stopped, the connections in its listen backlog above `handshakes_max` were closed before the poll had
/// reported their requests.
#[test]
fn requests_in_the_backlog_of_a_stopping_server_are_answered() {
    use super::script::{REQUEST, ScriptedStream, Wire};
    use crate::engine::{Engine, Readiness};
    use crate::server::testing::shared::Shared;
    use crate::server::turn::{self, Environment};
    use crate::stream::Stream;
    use std::collections::VecDeque;
    /// A listener whose backlog is accepted when the server stops.
    struct Backlog {
        waiting: usize,
        accepted: Vec<(Id, Shared<Wire>)>,
    }
    impl Environment for Backlog {
        fn accept(&mut self, engine: &mut Engine, _: &mut impl Handler, is_last: bool) {
            for _ in 0..if is_last { self.waiting } else { 0 } {
                let wire = Shared::new(Wire {
                    reads: VecDeque::from([Ok(REQUEST.as_bytes().to_vec())]),
                    ..Wire::default()
                });
                self.waiting -= 1;
                let id = engine.insert(Stream::memory(ScriptedStream(wire.clone())), None);
                self.accepted.push((id.unwrap(), wire));
            }
        }
        fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> std::io::Result<bool> {
            for (id, _) in &self.accepted {
                let is_readable = true;
                engine.mark(
                    *id,
                    Readiness {
                        is_readable,
                        ..Readiness::default()
                    },
                );
            }
            Ok(false)
        }
        fn deregister(&mut self, _: &mut Stream) {}
    }
    let mut bench = Bench::echo(Config::default());
    let mut backlog = Backlog {
        waiting: 6_000,
        accepted: Vec::new(),
    };
    bench.engine.stop();
    let mut buf = vec![0; 80 * 1024];
    bench.engine.begin_turn(1);
    turn::turn(
        &mut bench.engine,
        &mut buf,
        &mut bench.handler,
        &mut backlog,
    )
    .unwrap();
    for now in 2..20 {
        bench.engine.begin_turn(now);
        turn::turn(
            &mut bench.engine,
            &mut buf,
            &mut bench.handler,
            &mut backlog,
        )
        .unwrap();
    }
    let answered = backlog
        .accepted
        .iter()
        .filter(|(_, wire)| wire.lock().written.starts_with(b"HTTP/1.1 101"))
        .count();
    assert_eq!(answered, 6_000);
}

/// To count skipped messages, the frames of a log were parsed again for each queued range. This took minutes for a
/// member of two topics with alternating publications, because each of its ranges has only one message.
#[test]
fn skipped_messages_of_many_ranges_are_counted_without_parsing_frames() {
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
    let before = WALKED_FRAMES.get();
    // Each range counts 128 bytes in addition to its message, so some 64 000 ranges exceed the limit of 8 MiB.
    let mut published = 0;
    while bench.engine.stats().messages_skipped == 0 {
        for topic in ["a", "b"] {
            bench.engine.publish(topic, Message::text("x"));
            published += 1;
        }
        bench.turn();
        assert!(published < 100_000);
    }
    // A log has marks at distances of about `MARK_BYTES`, 4096 bytes. A mark is the start of a frame, with the number of
    // frames before it. So only the frames after a mark are parsed, fewer than 4096 for each of the two topics.
    assert!(WALKED_FRAMES.get() - before <= 2 * 4096);
}

/// Each client was read to the end of its message before the next client, so a short message waited behind messages of
/// 1 MiB: 250 ms with 64 clients.
#[test]
fn a_short_message_does_not_wait_for_long_ones() {
    let mut bench = Bench::echo(Config::default());
    let long = client_frame(0x82, &vec![1; 1 << 20]);
    let attackers: Vec<Peer> = (0..64).map(|_| bench.open()).collect();
    let short = bench.open();
    for attacker in &attackers {
        attacker.send_bytes(&long);
    }
    // The server has started to read the long messages. Most of them are not complete.
    bench.turns(4);
    let are_under_way = attackers.iter().filter(|peer| peer.unread_bytes() > 0);
    assert!(are_under_way.count() >= 40);
    short.send_bytes(&client_frame(0x81, b"short"));
    bench.turn();
    assert_eq!(short.take_texts(), ["short"]);
    // Each long message is echoed, too.
    bench.turns(60);
    for attacker in &attackers {
        assert_eq!(attacker.unread_bytes(), 0);
        assert!(attacker.wire.lock().written.len() > 1 << 20);
    }
}

/// When a member was disconnected for lag, the Close followed directly after the rest of a partly sent publication. A
/// direct message between this rest and the first publication that was not sent at all was dropped.
#[test]
fn a_direct_message_before_the_first_missing_publication_is_sent() {
    let config = Config {
        lag_bytes_max: 10_000,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |_, _, _| {});
    let member = bench.open_member("t");
    member.set_writable_bytes(1_000);
    bench.engine.publish("t", Message::binary(&[1; 20_000]));
    bench.turn();
    let _ = bench.engine.send(member.id, Message::text("direct"));
    for _ in 0..3 {
        bench.engine.publish("t", Message::binary(&[2; 20_000]));
        bench.turn();
    }
    member.set_writable_bytes(usize::MAX);
    bench.turns(3);
    let frames = member.take_frames();
    let kinds: Vec<(u8, usize)> = frames
        .iter()
        .map(|(kind, payload)| (*kind, payload.len()))
        .collect();
    assert_eq!(kinds[..2], [(0x82, 20_000), (0x81, 6)]);
    assert_eq!(kinds[2].0, 0x88, "the Close follows");
}
