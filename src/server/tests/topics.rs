//! Topics: framed once, sent in one write, in order, bounded by the slowest member allowed, given back.

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
fn everyone_gets_everything_in_one_write_the_sender_included() {
    let mut bench = Bench::broadcast(small());
    let members: Vec<Peer> = (0..5).map(|_| bench.open()).collect();
    for (index, member) in members.iter().enumerate() {
        member.text(&format!("{index}a"));
        member.say(&client_frame(0x82, format!("{index}b").as_bytes()));
    }
    bench.turn();
    let first = members[0].take();
    for member in &members[1..] {
        assert_eq!(member.take(), first, "all see the same order");
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
        "a log that everyone has read is given back"
    );
}

#[test]
fn a_publication_to_many_takes_turns_and_what_comes_meanwhile_leaves_with_it() {
    let mut bench = Bench::new(small(), |cx, id, message| {
        if message.is_text() {
            cx.publish("room", message);
        } else {
            let _ = cx.send(id, message);
        }
    });
    bench.handler.topic = Some("room");
    let members: Vec<Peer> = (0..40).map(|_| bench.open()).collect();
    let writes = |members: &[Peer]| -> Vec<usize> {
        let calls = members.iter().map(|member| member.wire.lock().write_calls);
        calls.collect()
    };
    let before = writes(&members);
    members[0].text("one");
    bench.turn();
    let reached = |members: &[Peer]| {
        let now = writes(members);
        now.iter()
            .zip(&before)
            .filter(|(now, before)| now > before)
            .count()
    };
    assert_eq!(reached(&members), 16);
    assert_eq!(bench.engine.next_in(), Some(0));
    members[1].text("two");
    members[39].say(&client_frame(0x82, b"an echo"));
    bench.turn();
    assert_eq!(
        reached(&members),
        16 + 16 + 1,
        "who echoes need not wait for the lap"
    );
    bench.turns(2);
    assert!(!bench.engine.has_work());
    let calls: usize = writes(&members).iter().sum::<usize>() - before.iter().sum::<usize>();
    // Those who were reached before the second was published are written to again.
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
fn a_topic_that_is_always_busy_does_not_keep_another_from_its_members() {
    let mut bench = Bench::new(small(), |cx, _, message| {
        cx.publish("busy", message);
    });
    let busy: Vec<Peer> = (0..50).map(|_| bench.open()).collect();
    let other = bench.open();
    for member in &busy {
        bench.engine.subscribe(member.id, "busy");
    }
    bench.engine.subscribe(other.id, "other");
    busy[0].text("x");
    bench.turn();
    bench.engine.publish("other", Message::text("y"));
    for _ in 0..2 {
        busy[0].text("x");
        bench.turn();
    }
    assert_eq!(other.take_frames().len(), 1);
}

/// A reader's finding: a lap that begins anew with each publication never ended, and the log with it.
#[test]
fn publications_that_nobody_s_message_causes_are_bounded_while_everyone_keeps_up() {
    let mut bench = Bench::new(small(), |_, _, _| {});
    let members: Vec<Peer> = (0..60).map(|_| bench.open()).collect();
    for member in &members {
        bench.engine.subscribe(member.id, "room");
    }
    let text = "x".repeat(16 * 1024);
    for _ in 0..300 {
        // As a timer, a host or another thread does, while nobody says anything.
        bench.engine.publish("room", Message::text(&text));
        bench.turn();
        let held = bench.engine.topics.capacity();
        // Seven frames fill 7/8 of a chunk.
        assert!(held <= (1 << 20) * 8 / 7 + 2 * CHUNK_BYTES, "{held}");
    }
    bench.turns(60);
    assert!(
        members
            .iter()
            .all(|member| member.take_frames().len() == 300)
    );
}

/// A reader's finding: 16 members a turn, and megabytes of what others say, starved a room.
#[test]
fn what_others_say_takes_no_more_of_a_turn_than_publications_do() {
    let mut bench = Bench::new(Config::default(), |cx, id, message| {
        let _ = cx.send(id, message);
    });
    let (members, talkers): (Vec<Peer>, Vec<Peer>) = (0..60)
        .map(|_| bench.open())
        .partition(|peer| peer.id.slot < 40);
    for member in &members {
        bench.engine.subscribe(member.id, "room");
    }
    for busy in [false, true] {
        bench.engine.publish("room", Message::text("x"));
        if busy {
            talkers
                .iter()
                .for_each(|talker| talker.text(&"y".repeat(2000)));
        }
        bench.turn();
        let reached = members
            .iter()
            .filter(|member| !member.take_frames().is_empty());
        assert_eq!(reached.count(), if busy { 40 } else { 16 });
        bench.turns(3);
        members.iter().for_each(|member| drop(member.take()));
    }
}

/// A reader's finding: what was claimed to be sent something behind it was no lag, whatever there was of it.
#[test]
fn a_member_that_is_sent_something_after_each_publication_is_judged_all_the_same() {
    for policy in [LagPolicy::Disconnect, LagPolicy::Skip] {
        let mut bench = Bench::new(small(), |_, _, _| {});
        bench.engine.set_lag_policy("room", Some(policy));
        let member = bench.open();
        bench.engine.subscribe(member.id, "room");
        member.set_room(0);
        let mut owed = 0;
        for _ in 0..100 {
            bench
                .engine
                .publish("room", Message::text(&"x".repeat(1000)));
            let _ = bench.engine.send(member.id, Message::text("behind it"));
            bench.turn();
            owed = owed.max(bench.engine.buffered_amount(member.id));
        }
        assert!(owed < 25_000, "{owed}");
        member.set_room(usize::MAX);
        bench.turns(5);
        let (opcode, payload) = member.take_frames().pop().unwrap();
        let was_told = (opcode, &payload[..2]) == (0x88, &1013_u16.to_be_bytes());
        assert_eq!(was_told, policy == LagPolicy::Disconnect);
        let has_skipped = bench.events().iter().any(|event| event.starts_with("skip"));
        assert_eq!(has_skipped, policy == LagPolicy::Skip);
    }
}

#[test]
fn a_member_that_keeps_up_is_not_behind_for_being_sent_something_in_between() {
    let mut bench = Bench::new(small(), |_, _, _| {});
    let member = bench.open();
    bench.engine.subscribe(member.id, "room");
    for _ in 0..3 {
        for _ in 0..30 {
            bench
                .engine
                .publish("room", Message::text(&"x".repeat(1000)));
        }
        let _ = bench.engine.send(member.id, Message::text("behind it"));
        bench.engine.publish("room", Message::text("the last"));
        bench.turns(2);
        assert_eq!(member.take_frames().len(), 32);
    }
}

#[test]
fn direct_sends_keep_their_place_between_publications() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        for round in 0..3 {
            cx.publish("room", &format!("p{round}"));
            let _ = cx.send(id, &format!("d{round}"));
        }
        cx.publish("room", "p3");
    });
    bench.handler.topic = Some("room");
    let (sender, other) = (bench.open(), bench.open());
    for room in [usize::MAX, 0] {
        sender.set_room(room);
        sender.text("go");
        bench.turns(2);
        sender.set_room(usize::MAX);
        bench.turn();
        assert_eq!(
            sender.take_texts(),
            ["p0", "d0", "p1", "d1", "p2", "d2", "p3"],
            "room {room}"
        );
        assert_eq!(other.take_texts(), ["p0", "p1", "p2", "p3"]);
    }
}

/// Found by fuzzing: a ping overtook what was published before it in the same turn.
#[test]
fn a_ping_keeps_its_place_between_publications() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.publish("room", "before");
        cx.ping(id, b"p");
        cx.publish("room", "after");
    });
    bench.handler.topic = Some("room");
    let peer = bench.open();
    peer.text("go");
    bench.turns(2);
    let expected = [(0x81, "before"), (0x89, "p"), (0x81, "after")];
    assert_eq!(
        peer.take_frames(),
        expected.map(|(first, payload)| (first, payload.as_bytes().to_vec()))
    );
}

#[test]
fn a_member_of_several_topics_gets_each_in_order() {
    let mut bench = Bench::new(small(), |cx, _, _| {
        for round in 0..3 {
            cx.publish("a", &format!("a{round}"));
            cx.publish("b", &format!("b{round}"));
        }
    });
    let member = bench.open();
    assert!(bench.engine.subscribe(member.id, "a"));
    assert!(bench.engine.subscribe(member.id, "b"));
    assert!(!bench.engine.subscribe(member.id, "b"), "once is enough");
    member.text("go");
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
fn a_subscription_begins_with_the_next_publication_and_ends_after_the_last() {
    let mut bench = Bench::echo(small());
    let member = bench.open();
    assert_eq!(bench.engine.publish("t", Message::text("nobody")), 0);
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
        "a topic without members is given back"
    );
}

#[test]
fn members_that_leave_do_not_disturb_the_others() {
    let mut bench = Bench::broadcast(small());
    let members: Vec<Peer> = (0..6).map(|_| bench.open()).collect();
    members[5].set_room(0);
    members[0].text("before");
    bench.turn();
    for gone in [0, 3, 5] {
        members[gone].end();
    }
    bench.turns(3);
    members[1].text("after");
    bench.turn();
    for index in [1, 2, 4] {
        assert_eq!(
            members[index].take_texts(),
            ["before", "after"],
            "member {index}"
        );
    }
    assert_eq!(bench.engine.subscribers("room"), 3);
    members[5].set_room(usize::MAX);
    bench.turns(2);
    assert_eq!(bench.engine.len(), 3);
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn a_slow_member_costs_its_lag_once_and_gets_everything_in_order() {
    let mut bench = Bench::broadcast(Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    });
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_room(0);
    for index in 0..500 {
        fast.text(&format!("{index:>1000}"));
        bench.turn();
    }
    assert_eq!(fast.take_texts().len(), 500);
    let held = bench.engine.topics.capacity();
    assert!((500_000..700_000).contains(&held), "{held}");
    assert_eq!(bench.engine.buffered_amount(slow.id), 500 * 1004);
    slow.wire.lock().piece_max = 7_777;
    slow.set_room(usize::MAX);
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
fn a_member_too_far_behind_is_told_1013_after_the_message_that_was_cut() {
    let mut bench = Bench::broadcast(small());
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_room(1_500);
    for index in 0..50 {
        fast.text(&format!("{index:>1000}"));
        bench.turn();
    }
    let held = bench.engine.topics.capacity();
    assert_eq!(held, 0, "a member that is given up pins nothing");
    slow.set_room(usize::MAX);
    bench.turns(2);
    let frames = slow.take_frames();
    assert_eq!(frames.len(), 3, "one whole, one that was cut, the Close");
    assert!(String::from_utf8_lossy(&frames[1].1).ends_with(" 1"));
    assert_eq!(frames[2].0, 0x88);
    assert_eq!(frames[2].1[..2], 1013_u16.to_be_bytes());
    assert_eq!(fast.take_texts().len(), 50);
    slow.end();
    bench.turns(2);
    let events = bench.events();
    assert_eq!(
        events[2..],
        [
            "error 1 lag_bytes_max reached",
            r#"close 1 1013 "too far behind" false Us"#
        ]
    );
}

#[test]
fn a_member_that_may_skip_misses_whole_messages_and_is_told_how_many() {
    let mut bench = Bench::broadcast(small());
    bench.engine.set_lag_policy("room", Some(LagPolicy::Skip));
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_room(1_500);
    for index in 0..400 {
        fast.text(&format!("{index:>1000}"));
        bench.turn();
    }
    assert!(bench.engine.topics.capacity() <= 2 * CHUNK_BYTES);
    slow.set_room(usize::MAX);
    bench.turns(3);
    let texts: Vec<usize> = slow
        .take_texts()
        .iter()
        .map(|text| text.trim().parse().unwrap())
        .collect();
    assert_eq!(texts[..2], [0, 1], "the message that was cut is finished");
    assert_eq!(*texts.last().unwrap(), 399, "the newest arrives");
    assert!(texts.is_sorted());
    let skipped: u64 = bench
        .events()
        .iter()
        .filter_map(|event| event.strip_prefix("skip 1 room ")?.parse::<u64>().ok())
        .sum();
    assert_eq!(
        texts.len() as u64 + skipped,
        400,
        "what is missing was counted"
    );
    assert_eq!(fast.take_texts().len(), 400);
}

#[test]
fn a_member_that_keeps_up_is_not_behind_however_much_one_turn_publishes() {
    let mut bench = Bench::new(small(), |cx, _, _| {
        for _ in 0..100 {
            cx.publish("room", &"x".repeat(1000));
        }
    });
    bench.handler.topic = Some("room");
    let member = bench.open();
    member.text("go");
    bench.turn();
    assert_eq!(member.take_texts().len(), 100);
}

#[test]
fn a_publisher_that_does_not_read_is_not_read_either() {
    let config = Config {
        high_water_bytes: 10_000,
        low_water_bytes: 2_000,
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = Bench::broadcast(config);
    let (talker, listener) = (bench.open(), bench.open());
    talker.set_room(0);
    for _ in 0..100 {
        talker.text(&"x".repeat(1000));
        bench.turn();
    }
    let heard = listener.take_texts().len();
    assert!((10..20).contains(&heard), "{heard}");
    talker.set_room(usize::MAX);
    bench.turns(200);
    assert_eq!(talker.take_texts().len(), 100);
}

#[test]
fn close_follows_what_was_published_before_it() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.publish("room", "farewell");
        cx.close(id, 1000, "");
        cx.publish("room", "too late");
    });
    bench.handler.topic = Some("room");
    let (leaver, other) = (bench.open(), bench.open());
    leaver.text("go");
    bench.turn();
    let frames = leaver.take_frames();
    assert_eq!(frames[0], (0x81, b"farewell".to_vec()));
    assert_eq!((frames.len(), frames[1].0), (2, 0x88));
    assert_eq!(other.take_texts(), ["farewell", "too late"]);
}

#[test]
fn a_member_reset_in_the_turn_of_a_publication_takes_nothing_with_it() {
    let mut bench = Bench::broadcast(small());
    let (reset, other) = (bench.open(), bench.open());
    reset.fail_read(ErrorKind::ConnectionReset);
    other.text("hello");
    bench.turn();
    assert_eq!(other.take_texts(), ["hello"]);
    assert_eq!(bench.engine.len(), 1);
}

#[test]
fn a_member_that_is_kicked_and_told_of_to_the_rest_takes_nothing_with_it() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        cx.terminate(id);
        cx.publish("room", "kicked");
    });
    bench.handler.topic = Some("room");
    let (kicked, other) = (bench.open(), bench.open());
    kicked.text("x");
    bench.turn();
    assert_eq!(other.take_texts(), ["kicked"]);
    assert_eq!(kicked.take(), b"");
}

#[test]
fn what_one_session_publishes_in_a_turn_is_bounded_and_the_rest_follows() {
    let config = Config {
        read_budget_bytes: 1 << 20,
        receive_buffer_bytes: 1 << 20,
        lag_bytes_max: 64 << 20,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |cx, _, _| {
        cx.publish("room", &"x".repeat(10_000));
    });
    bench.handler.topic = Some("room");
    let (talker, slow) = (bench.open(), bench.open());
    slow.set_room(0);
    talker.say(&client_frame(0x81, b"1").repeat(1_000));
    bench.turn();
    let held = bench.engine.topics.capacity();
    assert!((1_000_000..2_000_000).contains(&held), "{held}");
    bench.turns(20);
    assert_eq!(talker.take_texts().len(), 1_000);
}

#[test]
fn a_member_that_leaves_and_does_not_read_holds_what_it_is_owed_and_no_more() {
    let mut bench = Bench::broadcast(Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    });
    let (talker, leaver) = (bench.open(), bench.open());
    leaver.set_room(0);
    for index in 0..300 {
        talker.text(&format!("{index:>1000}"));
        bench.turn();
    }
    // It says goodbye, and is still owed everything.
    leaver.say(&client_frame(0x88, &1000_u16.to_be_bytes()));
    bench.turn();
    let held = bench.engine.topics.capacity();
    for _ in 0..5_000 {
        talker.text(&"x".repeat(1000));
        bench.turn();
    }
    let grown = bench.engine.topics.capacity() - held;
    assert!(grown < 100_000, "{grown} bytes more than its {held}");
    leaver.set_room(usize::MAX);
    bench.turns(20);
    let frames = leaver.take_frames();
    assert_eq!((frames.len(), frames[300].0), (301, 0x88));
    assert!(frames[299].1.ends_with(b" 299"));
    assert_eq!(bench.engine.topics.capacity(), 0);
}

#[test]
fn a_member_too_far_behind_that_a_handler_closes_first_misses_nothing() {
    let mut bench = Bench::new(small(), |cx, _, message| {
        cx.publish("may skip", message);
        cx.publish("may not", message);
    });
    bench
        .engine
        .set_lag_policy("may skip", Some(LagPolicy::Skip));
    let (talker, skipper, closed) = (bench.open(), bench.open(), bench.open());
    bench.engine.subscribe(skipper.id, "may skip");
    bench.engine.subscribe(closed.id, "may not");
    let id = closed.id;
    bench.handler.on_other = Some(Box::new(move |cx| {
        cx.close(id, 4000, "");
    }));
    skipper.set_room(0);
    closed.set_room(0);
    let mut said = 0;
    while !bench.events().iter().any(|event| event.starts_with("skip")) {
        talker.text(&"x".repeat(1000));
        bench.turn();
        said += 1;
    }
    closed.set_room(usize::MAX);
    bench.turns(3);
    let frames = closed.take_frames();
    assert_eq!((frames.len(), frames[said].0), (said + 1, 0x88));
}
