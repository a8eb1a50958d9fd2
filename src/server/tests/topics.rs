//! Publications to topics: each message is framed once, a member's messages are sent in one write and in order, the log of a
//! topic is bounded by the lag limit, and its memory is released when all members have received it.

use super::script::{Bench, Peer, client_frame};
use crate::config::{Config, LagPolicy};
use crate::outbound::CHUNK_BYTES;
use crate::proto::Message;
use std::io::ErrorKind;

fn small() -> Config {
    Config {
        lag_bytes_max: 20_000,
        ..Config::default()
    }
}

#[test]
fn all_members_and_the_sender_receive_a_turns_publications_in_one_write() {
    let mut bench = Bench::broadcast(small());
    let members: Vec<Peer> = (0..5).map(|_| bench.open()).collect();
    for (index, member) in members.iter().enumerate() {
        member.send_text(&format!("{index}a"));
        member.send_bytes(&client_frame(0x82, format!("{index}b").as_bytes()));
    }
    bench.turn();
    let first = members[0].take_written();
    for member in &members[1..] {
        assert_eq!(member.take_written(), first, "all see the same order");
    }
    assert!(
        members
            .iter()
            .all(|member| member.wire.lock().write_calls == 1)
    );
    assert_eq!(super::script::server_frames(&first).len(), 10);
    assert_eq!(
        bench.engine.topics.capacity(),
        0,
        "a log that all members have received is released"
    );
}

#[test]
fn a_publication_to_many_members_is_spread_over_turns_and_joined_by_later_ones() {
    let mut bench = Bench::new(small(), |cx, id, message| {
        if message.is_text() {
            cx.publish("chat", message);
        } else {
            let _ = cx.send(id, message);
        }
    });
    bench.handler.topic = Some("chat");
    let members: Vec<Peer> = (0..40).map(|_| bench.open()).collect();
    let writes = |members: &[Peer]| -> Vec<usize> {
        let calls = members.iter().map(|member| member.wire.lock().write_calls);
        calls.collect()
    };
    let before = writes(&members);
    members[0].send_text("one");
    bench.turn();
    let reached = |members: &[Peer]| {
        let now = writes(members);
        now.iter()
            .zip(&before)
            .filter(|(now, before)| now > before)
            .count()
    };
    // The minimum budget of a turn for publications is 16 small writes.
    assert_eq!(reached(&members), 16);
    assert_eq!(bench.engine.next_in(), Some(0));
    members[1].send_text("two");
    members[39].send_bytes(&client_frame(0x82, b"an echo"));
    bench.turn();
    assert_eq!(
        reached(&members),
        16 + 16 + 1,
        "the member that receives an echo is flushed in this turn"
    );
    bench.turns(2);
    assert!(!bench.engine.has_work());
    let calls: usize = writes(&members).iter().sum::<usize>() - before.iter().sum::<usize>();
    // The first 16 members were written to before the second publication, so they need a second write.
    assert_eq!(calls, 40 + 16);
    for (index, member) in members.iter().enumerate() {
        let texts: Vec<Vec<u8>> = member
            .take_frames()
            .into_iter()
            .map(|frame| frame.1)
            .collect();
        let expected: &[&[u8]] = match index {
            39 => &[b"one", b"two", b"an echo"],
            _ => &[b"one", b"two"],
        };
        assert_eq!(texts, expected, "member {index}");
    }
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn a_busy_topic_does_not_delay_another_topic() {
    let mut bench = Bench::new(small(), |cx, _, message| {
        cx.publish("busy", message);
    });
    let busy: Vec<Peer> = (0..50).map(|_| bench.open()).collect();
    let other = bench.open();
    for member in &busy {
        bench.engine.subscribe(member.id, "busy");
    }
    bench.engine.subscribe(other.id, "other");
    busy[0].send_text("x");
    bench.turn();
    bench.engine.publish("other", Message::text("y"));
    for _ in 0..2 {
        busy[0].send_text("x");
        bench.turn();
    }
    assert_eq!(other.take_frames().len(), 1);
}

/// A publication is written to the members one after another, over several turns. Each new publication started this pass again
/// at the first member, so the pass never reached the last members, and the log grew without limit.
#[test]
fn publications_from_outside_retain_a_bounded_log_while_no_member_lags() {
    let mut bench = Bench::new(small(), |_, _, _| {});
    let members: Vec<Peer> = (0..60).map(|_| bench.open()).collect();
    for member in &members {
        bench.engine.subscribe(member.id, "chat");
    }
    let text = "x".repeat(16 * 1024);
    for _ in 0..300 {
        // Published as by a timer, the host program or another thread: no session sends anything.
        bench.engine.publish("chat", Message::text(&text));
        bench.turn();
        let retained = bench.engine.topics.capacity();
        // At most about 1 MiB may wait to be sent. Seven frames fit into a chunk of the log and fill 7/8 of it.
        assert!(
            retained <= (1 << 20) * 8 / 7 + 2 * CHUNK_BYTES,
            "{retained}"
        );
    }
    bench.turns(60);
    assert!(
        members
            .iter()
            .all(|member| member.take_frames().len() == 300)
    );
}

/// A turn wrote to 16 members of a topic, no matter how much it read, so that megabytes of input from other sessions starved
/// the members.
#[test]
fn read_work_does_not_starve_publications() {
    let mut bench = Bench::new(Config::default(), |cx, id, message| {
        let _ = cx.send(id, message);
    });
    let (members, senders): (Vec<Peer>, Vec<Peer>) = (0..60)
        .map(|_| bench.open())
        .partition(|peer| peer.id.slot < 40);
    for member in &members {
        bench.engine.subscribe(member.id, "chat");
    }
    for busy in [false, true] {
        bench.engine.publish("chat", Message::text("x"));
        if busy {
            senders
                .iter()
                .for_each(|sender| sender.send_text(&"y".repeat(2000)));
        }
        bench.turn();
        let reached = members
            .iter()
            .filter(|member| !member.take_frames().is_empty());
        assert_eq!(reached.count(), if busy { 40 } else { 16 });
        bench.turns(3);
        members
            .iter()
            .for_each(|member| drop(member.take_written()));
    }
}

/// To preserve the order, a direct message to a member is queued after all earlier publications. Publications that were queued
/// for this reason did not count as lag, so their number was unlimited.
#[test]
fn lag_is_checked_although_direct_messages_follow_each_publication() {
    for policy in [LagPolicy::Disconnect, LagPolicy::Skip] {
        let mut bench = Bench::new(small(), |_, _, _| {});
        bench.engine.set_lag_policy("chat", Some(policy));
        let member = bench.open();
        bench.engine.subscribe(member.id, "chat");
        member.set_writable_bytes(0);
        let mut unsent = 0;
        for _ in 0..100 {
            bench
                .engine
                .publish("chat", Message::text(&"x".repeat(1000)));
            let _ = bench.engine.send(member.id, Message::text("behind it"));
            bench.turn();
            unsent = unsent.max(bench.engine.buffered_amount(member.id));
        }
        assert!(unsent < 25_000, "{unsent}");
        member.set_writable_bytes(usize::MAX);
        bench.turns(5);
        let (opcode, payload) = member.take_frames().pop().unwrap();
        let is_disconnected = (opcode, &payload[..2]) == (0x88, &1013_u16.to_be_bytes());
        assert_eq!(is_disconnected, policy == LagPolicy::Disconnect);
        let has_skipped = bench
            .take_events()
            .iter()
            .any(|event| event.starts_with("skip"));
        assert_eq!(has_skipped, policy == LagPolicy::Skip);
    }
}

#[test]
fn direct_messages_between_publications_do_not_make_a_fast_member_lag() {
    let mut bench = Bench::new(small(), |_, _, _| {});
    let member = bench.open();
    bench.engine.subscribe(member.id, "chat");
    for _ in 0..3 {
        for _ in 0..30 {
            bench
                .engine
                .publish("chat", Message::text(&"x".repeat(1000)));
        }
        let _ = bench.engine.send(member.id, Message::text("behind it"));
        bench.engine.publish("chat", Message::text("the last"));
        bench.turns(2);
        assert_eq!(member.take_frames().len(), 32);
    }
}

#[test]
fn direct_messages_stay_in_order_with_publications() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        for round in 0..3 {
            cx.publish("chat", format!("p{round}"));
            let _ = cx.send(id, format!("d{round}"));
        }
        cx.publish("chat", "p3");
    });
    bench.handler.topic = Some("chat");
    let (sender, other) = (bench.open(), bench.open());
    for writable_bytes in [usize::MAX, 0] {
        sender.set_writable_bytes(writable_bytes);
        sender.send_text("go");
        bench.turns(2);
        sender.set_writable_bytes(usize::MAX);
        bench.turn();
        assert_eq!(
            sender.take_texts(),
            ["p0", "d0", "p1", "d1", "p2", "d2", "p3"],
            "writable_bytes {writable_bytes}"
        );
        assert_eq!(other.take_texts(), ["p0", "p1", "p2", "p3"]);
    }
}

/// Found by fuzzing: a ping was sent before messages that had been published earlier in the same turn.
#[test]
fn a_ping_stays_in_order_with_publications() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.publish("chat", "before");
        cx.ping(id, b"p");
        cx.publish("chat", "after");
    });
    bench.handler.topic = Some("chat");
    let peer = bench.open();
    peer.send_text("go");
    bench.turns(2);
    let expected = [(0x81, "before"), (0x89, "p"), (0x81, "after")];
    assert_eq!(
        peer.take_frames(),
        expected.map(|(first, payload)| (first, payload.as_bytes().to_vec()))
    );
}

#[test]
fn a_member_of_several_topics_receives_each_topic_in_order() {
    let mut bench = Bench::new(small(), |cx, _, _| {
        for round in 0..3 {
            cx.publish("a", format!("a{round}"));
            cx.publish("b", format!("b{round}"));
        }
    });
    let member = bench.open();
    assert!(bench.engine.subscribe(member.id, "a"));
    assert!(bench.engine.subscribe(member.id, "b"));
    assert!(!bench.engine.subscribe(member.id, "b"), "once is enough");
    member.send_text("go");
    bench.turn();
    let texts = member.take_texts();
    let of = |topic: &str| {
        texts
            .iter()
            .filter(|text| text.starts_with(topic))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["a0", "a1", "a2"]);
    assert_eq!(of("b"), ["b0", "b1", "b2"]);
    assert_eq!(member.wire.lock().write_calls, 1);
}

#[test]
fn a_member_receives_the_publications_between_subscribe_and_unsubscribe() {
    let mut bench = Bench::echo(small());
    let member = bench.open();
    assert_eq!(bench.engine.publish("t", Message::text("zero")), 0);
    bench.engine.subscribe(member.id, "t");
    assert_eq!(bench.engine.publish("t", Message::text("one")), 1);
    assert!(bench.engine.unsubscribe(member.id, "t"));
    assert!(!bench.engine.unsubscribe(member.id, "t"));
    assert_eq!(bench.engine.publish("t", Message::text("two")), 0);
    bench.engine.subscribe(member.id, "t");
    bench.engine.publish("t", Message::text("three"));
    bench.turn();
    assert_eq!(member.take_texts(), ["one", "three"]);
    bench.engine.unsubscribe(member.id, "t");
    bench.turn();
    assert_eq!(
        bench.engine.topics.count(),
        0,
        "a topic without members is removed"
    );
}

#[test]
fn members_that_leave_do_not_affect_other_members() {
    let mut bench = Bench::broadcast(small());
    let members: Vec<Peer> = (0..6).map(|_| bench.open()).collect();
    members[5].set_writable_bytes(0);
    members[0].send_text("before");
    bench.turn();
    for gone in [0, 3, 5] {
        members[gone].end_stream();
    }
    bench.turns(3);
    members[1].send_text("after");
    bench.turn();
    for index in [1, 2, 4] {
        assert_eq!(
            members[index].take_texts(),
            ["before", "after"],
            "member {index}"
        );
    }
    assert_eq!(bench.engine.subscribers("chat"), 3);
    members[5].set_writable_bytes(usize::MAX);
    bench.turns(2);
    assert_eq!(bench.engine.len(), 3);
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn unsent_publications_of_a_slow_member_are_retained_once_and_sent_in_order() {
    let mut bench = Bench::broadcast(Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    });
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(0);
    for index in 0..500 {
        fast.send_text(&format!("{index:>1000}"));
        bench.turn();
    }
    assert_eq!(fast.take_texts().len(), 500);
    let retained = bench.engine.topics.capacity();
    assert!((500_000..700_000).contains(&retained), "{retained}");
    assert_eq!(bench.engine.buffered_amount(slow.id), 500 * 1004);
    slow.wire.lock().call_bytes_max = 7_777;
    slow.set_writable_bytes(usize::MAX);
    bench.turns(100);
    let texts = slow.take_texts();
    assert_eq!(texts.len(), 500);
    assert!(
        texts
            .iter()
            .enumerate()
            .all(|(index, text)| text.trim() == index.to_string())
    );
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn a_lagging_member_receives_1013_after_the_partly_sent_message() {
    let mut bench = Bench::broadcast(small());
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(1_500);
    for index in 0..50 {
        fast.send_text(&format!("{index:>1000}"));
        bench.turn();
    }
    let retained = bench.engine.topics.capacity();
    assert_eq!(
        retained, 0,
        "a member that is being disconnected retains no log"
    );
    slow.set_writable_bytes(usize::MAX);
    bench.turns(2);
    let frames = slow.take_frames();
    assert_eq!(
        frames.len(),
        3,
        "a whole message, the partly sent message, the Close"
    );
    assert!(String::from_utf8_lossy(&frames[1].1).ends_with(" 1"));
    assert_eq!(frames[2].0, 0x88);
    assert_eq!(frames[2].1[..2], 1013_u16.to_be_bytes());
    assert_eq!(fast.take_texts().len(), 50);
    slow.end_stream();
    bench.turns(2);
    let events = bench.take_events();
    assert_eq!(
        events[2..],
        [
            "error 1 lag_bytes_max reached",
            r#"close 1 1013 "too far behind" false Us"#
        ]
    );
}

#[test]
fn a_member_that_skips_misses_whole_messages_and_their_number_is_reported() {
    let mut bench = Bench::broadcast(small());
    bench.engine.set_lag_policy("chat", Some(LagPolicy::Skip));
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(1_500);
    for index in 0..400 {
        fast.send_text(&format!("{index:>1000}"));
        bench.turn();
    }
    assert!(bench.engine.topics.capacity() <= 2 * CHUNK_BYTES);
    slow.set_writable_bytes(usize::MAX);
    bench.turns(3);
    let texts: Vec<usize> = slow
        .take_texts()
        .iter()
        .map(|text| text.trim().parse().unwrap())
        .collect();
    assert_eq!(texts[..2], [0, 1], "the partly sent message is completed");
    assert_eq!(*texts.last().unwrap(), 399, "the newest arrives");
    assert!(texts.is_sorted());
    let skipped: u64 = bench
        .take_events()
        .iter()
        .filter_map(|event| event.strip_prefix("skip 1 chat ")?.parse::<u64>().ok())
        .sum();
    assert_eq!(
        texts.len() as u64 + skipped,
        400,
        "every missing message was reported"
    );
    assert_eq!(fast.take_texts().len(), 400);
}

#[test]
fn a_fast_member_does_not_lag_however_much_one_turn_publishes() {
    let mut bench = Bench::new(small(), |cx, _, _| {
        for _ in 0..100 {
            cx.publish("chat", "x".repeat(1000));
        }
    });
    bench.handler.topic = Some("chat");
    let member = bench.open();
    member.send_text("go");
    bench.turn();
    assert_eq!(member.take_texts().len(), 100);
}

#[test]
fn a_publisher_that_does_not_read_is_not_read() {
    let config = Config {
        high_water_bytes: 10_000,
        low_water_bytes: 2_000,
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = Bench::broadcast(config);
    let (sender, listener) = (bench.open(), bench.open());
    sender.set_writable_bytes(0);
    for _ in 0..100 {
        sender.send_text(&"x".repeat(1000));
        bench.turn();
    }
    let delivered = listener.take_texts().len();
    assert!((10..20).contains(&delivered), "{delivered}");
    sender.set_writable_bytes(usize::MAX);
    bench.turns(200);
    assert_eq!(sender.take_texts().len(), 100);
}

#[test]
fn a_close_follows_the_messages_published_before_it() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.publish("chat", "farewell");
        cx.close(id, 1000, "");
        cx.publish("chat", "too late");
    });
    bench.handler.topic = Some("chat");
    let (leaver, other) = (bench.open(), bench.open());
    leaver.send_text("go");
    bench.turn();
    let frames = leaver.take_frames();
    assert_eq!(frames[0], (0x81, b"farewell".to_vec()));
    assert_eq!((frames.len(), frames[1].0), (2, 0x88));
    assert_eq!(other.take_texts(), ["farewell", "too late"]);
}

#[test]
fn a_member_that_is_reset_in_the_turn_of_a_publication_does_not_affect_it() {
    let mut bench = Bench::broadcast(small());
    let (reset, other) = (bench.open(), bench.open());
    reset.fail_read(ErrorKind::ConnectionReset);
    other.send_text("hello");
    bench.turn();
    assert_eq!(other.take_texts(), ["hello"]);
    assert_eq!(bench.engine.len(), 1);
}

#[test]
fn terminating_a_member_before_a_publication_does_not_affect_it() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.terminate(id);
        cx.publish("chat", "kicked");
    });
    bench.handler.topic = Some("chat");
    let (kicked, other) = (bench.open(), bench.open());
    kicked.send_text("x");
    bench.turn();
    assert_eq!(other.take_texts(), ["kicked"]);
    assert_eq!(kicked.take_written(), b"");
}

#[test]
fn the_bytes_that_one_session_publishes_in_a_turn_are_bounded() {
    let config = Config {
        read_budget_bytes: 1 << 20,
        receive_buffer_bytes: 1 << 20,
        lag_bytes_max: 64 << 20,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |cx, _, _| {
        cx.publish("chat", "x".repeat(10_000));
    });
    bench.handler.topic = Some("chat");
    let (sender, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(0);
    sender.send_bytes(&client_frame(0x81, b"1").repeat(1_000));
    bench.turn();
    let retained = bench.engine.topics.capacity();
    assert!((1_000_000..2_000_000).contains(&retained), "{retained}");
    bench.turns(20);
    assert_eq!(sender.take_texts().len(), 1_000);
}

#[test]
fn a_closing_member_that_does_not_read_retains_only_its_unsent_messages() {
    let mut bench = Bench::broadcast(Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    });
    let (sender, leaver) = (bench.open(), bench.open());
    leaver.set_writable_bytes(0);
    for index in 0..300 {
        sender.send_text(&format!("{index:>1000}"));
        bench.turn();
    }
    // The leaver sends a Close while all messages to it are unsent.
    leaver.send_bytes(&client_frame(0x88, &1000_u16.to_be_bytes()));
    bench.turn();
    let retained = bench.engine.topics.capacity();
    for _ in 0..5_000 {
        sender.send_text(&"x".repeat(1000));
        bench.turn();
    }
    let grown = bench.engine.topics.capacity() - retained;
    assert!(grown < 100_000, "{grown} bytes more than its {retained}");
    leaver.set_writable_bytes(usize::MAX);
    bench.turns(20);
    let frames = leaver.take_frames();
    assert_eq!((frames.len(), frames[300].0), (301, 0x88));
    assert!(frames[299].1.ends_with(b" 299"));
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn a_lagging_member_that_a_handler_closes_first_misses_nothing() {
    let mut bench = Bench::new(small(), |cx, _, message| {
        cx.publish("may skip", message);
        cx.publish("may not", message);
    });
    bench
        .engine
        .set_lag_policy("may skip", Some(LagPolicy::Skip));
    let (sender, skipper, closed) = (bench.open(), bench.open(), bench.open());
    bench.engine.subscribe(skipper.id, "may skip");
    bench.engine.subscribe(closed.id, "may not");
    let id = closed.id;
    bench.handler.on_other_event = Some(Box::new(move |cx| {
        cx.close(id, 4000, "");
    }));
    skipper.set_writable_bytes(0);
    closed.set_writable_bytes(0);
    let mut published = 0;
    while !bench
        .take_events()
        .iter()
        .any(|event| event.starts_with("skip"))
    {
        sender.send_text(&"x".repeat(1000));
        bench.turn();
        published += 1;
    }
    closed.set_writable_bytes(usize::MAX);
    bench.turns(3);
    let frames = closed.take_frames();
    assert_eq!((frames.len(), frames[published].0), (published + 1, 0x88));
}
