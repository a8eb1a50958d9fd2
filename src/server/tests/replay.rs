//! Messages that topics retain for members that join later: what a member receives and in which order, and how much
//! memory is retained.

use super::script::{Bench, Peer};
use crate::config::{Config, LagPolicy, Replay};
use crate::proto::Message;

fn bench(config: Config) -> Bench {
    Bench::new(config, |_, _, _| {})
}

/// Returns a bench in which the topic `chat` has the setting.
fn chat(replay: Replay) -> Bench {
    let mut bench = bench(Config::default());
    bench.engine.set_replay("chat", Some(replay));
    bench
}

fn publish(bench: &mut Bench, text: &str) -> usize {
    bench.engine.publish("chat", Message::text(text))
}

fn turns_until_idle(bench: &mut Bench) {
    bench.turn();
    while bench.engine.has_work() {
        bench.turn();
    }
}

/// Returns what a session that joins `chat` now receives in the next turns.
fn texts_of_a_late_member(bench: &mut Bench) -> Vec<String> {
    let late = bench.open_member("chat");
    turns_until_idle(bench);
    let texts = late.take_texts();
    bench.engine.terminate(late.id);
    bench.turn();
    texts
}

#[test]
fn a_member_receives_the_last_messages_before_everything_later() {
    let mut bench = chat(Replay::Messages(3));
    let early = bench.open_member("chat");
    for text in ["1", "2", "3", "4"] {
        assert_eq!(publish(&mut bench, text), 1);
        bench.turn();
    }
    let late = bench.open();
    let _ = bench.engine.send(late.id, Message::text("before"));
    assert!(bench.engine.subscribe(late.id, "chat"));
    assert!(!bench.engine.subscribe(late.id, "chat"), "once");
    let _ = bench.engine.send(late.id, Message::text("after"));
    publish(&mut bench, "5");
    bench.turns(2);
    assert_eq!(late.take_texts(), ["before", "2", "3", "4", "after", "5"]);
    assert_eq!(early.take_texts(), ["1", "2", "3", "4", "5"]);
    let stats = bench.engine.stats();
    // Five publications to the first member, three and one to the second, and two direct messages.
    assert_eq!(stats.messages_out, 5 + 3 + 1 + 2);
}

#[test]
fn a_member_that_joins_between_the_publications_of_a_turn_misses_and_doubles_none() {
    let mut bench = chat(Replay::Messages(100));
    let early = bench.open_member("chat");
    let mut late = Vec::new();
    for number in 0..20 {
        publish(&mut bench, &number.to_string());
        if number % 5 == 0 {
            let member = bench.connect();
            member.send_bytes(super::script::REQUEST.as_bytes());
            bench.turn();
            member.take_written();
            publish(&mut bench, "x");
            assert!(bench.engine.subscribe(member.id, "chat"));
            late.push(member);
        }
    }
    bench.turns(3);
    let all = early.take_texts();
    assert_eq!(all.len(), 24);
    for member in late {
        assert_eq!(member.take_texts(), all);
    }
}

#[test]
fn a_topic_without_members_retains_what_is_published() {
    let mut bench = chat(Replay::Messages(2));
    for text in ["1", "2", "3"] {
        assert_eq!(publish(&mut bench, text), 0);
        bench.turn();
    }
    assert!(!bench.engine.has_work());
    assert_eq!(texts_of_a_late_member(&mut bench), ["2", "3"]);
    publish(&mut bench, "4");
    assert_eq!(texts_of_a_late_member(&mut bench), ["3", "4"]);
    assert_eq!(bench.engine.topics.count(), 1);
    bench.engine.set_replay("chat", None);
    assert_eq!(bench.engine.stats().replay_bytes, 0);
    bench.turn();
    assert_eq!(
        (bench.engine.topics.count(), bench.engine.topics.capacity()),
        (0, 0)
    );
    publish(&mut bench, "5");
    assert!(texts_of_a_late_member(&mut bench).is_empty());
}

#[test]
fn bytes_are_counted_with_frame_headers_and_only_whole_messages_are_replayed() {
    // Two frames of 2 + 10 bytes fit, three do not.
    for (bytes, count) in [(35, 2), (36, 3), (11, 0), (12, 1), (0, 0)] {
        let mut bench = chat(Replay::Bytes(bytes));
        for number in 0..9 {
            publish(&mut bench, &format!("message  {number}"));
        }
        let expected: Vec<_> = (9 - count..9)
            .map(|number| format!("message  {number}"))
            .collect();
        assert_eq!(texts_of_a_late_member(&mut bench), expected, "{bytes}");
        // Nothing is replayed that is older than a message that is too long.
        publish(&mut bench, &"long".repeat(20));
        assert!(texts_of_a_late_member(&mut bench).is_empty(), "{bytes}");
        publish(&mut bench, "message 10");
        assert_eq!(
            texts_of_a_late_member(&mut bench).len(),
            count.min(1),
            "{bytes}"
        );
    }
}

#[test]
fn a_large_publication_replaces_many_small_ones() {
    let mut bench = chat(Replay::Bytes(100_000));
    let early = bench.open_member("chat");
    for number in 0..20_000 {
        publish(&mut bench, &format!("{number:05}"));
    }
    publish(&mut bench, &"x".repeat(99_000));
    bench.turns(9);
    early.take_written();
    let late = texts_of_a_late_member(&mut bench);
    // The header of the large frame has ten bytes, those of the others two.
    assert_eq!(late.len(), (100_000 - 99_010) / 7 + 1);
    assert_eq!(late[0], format!("{:05}", 20_000 - (late.len() - 1)));
}

#[test]
fn a_changed_setting_takes_effect_at_once() {
    let mut bench = chat(Replay::Messages(10));
    for number in 0..20 {
        publish(&mut bench, &number.to_string());
    }
    bench.engine.set_replay("chat", Some(Replay::Messages(3)));
    assert_eq!(texts_of_a_late_member(&mut bench), ["17", "18", "19"]);
    bench.engine.set_replay("chat", Some(Replay::Bytes(8)));
    assert_eq!(texts_of_a_late_member(&mut bench), ["18", "19"]);
    bench.engine.set_replay("chat", Some(Replay::Messages(4)));
    publish(&mut bench, "20");
    assert_eq!(texts_of_a_late_member(&mut bench), ["18", "19", "20"]);
    bench.engine.set_replay("chat", Some(Replay::Messages(0)));
    assert!(texts_of_a_late_member(&mut bench).is_empty());
    publish(&mut bench, "21");
    bench.turn();
    assert_eq!(bench.engine.topics.count(), 0);
}

#[test]
fn a_setting_of_a_topic_that_exists_retains_later_publications() {
    let mut bench = bench(Config::default());
    let member = bench.open_member("chat");
    publish(&mut bench, "1");
    bench.engine.set_replay("chat", Some(Replay::Messages(10)));
    publish(&mut bench, "2");
    bench.turn();
    assert_eq!(member.take_texts(), ["1", "2"]);
    assert_eq!(texts_of_a_late_member(&mut bench), ["2"]);
}

#[test]
fn a_setting_of_a_subscription_ends_with_the_topic() {
    let mut bench = bench(Config::default());
    let join = |bench: &mut Bench| {
        let member = bench.open();
        let replay = Replay::Messages(1);
        assert!(
            bench
                .engine
                .subscribe_with_replay(member.id, "chat", replay)
        );
        bench.turn();
        member
    };
    let first = join(&mut bench);
    publish(&mut bench, "1");
    publish(&mut bench, "2");
    bench.engine.terminate(first.id);
    bench.turn();
    assert_eq!(join(&mut bench).take_texts(), ["2"]);
    // A setting by name has precedence, and stays.
    bench.engine.set_replay("chat", Some(Replay::Messages(2)));
    join(&mut bench);
    publish(&mut bench, "3");
    assert_eq!(join(&mut bench).take_texts(), ["2", "3"]);
    bench.engine.set_replay("chat", None);
    let mut bench = super::replay::bench(Config::default());
    let only = join(&mut bench);
    bench.engine.terminate(only.id);
    bench.turn();
    assert_eq!(bench.engine.topics.count(), 0, "nothing was retained");
    let closed = join(&mut bench);
    bench.engine.close(closed.id, 1000, "");
    let replay = Replay::Messages(1);
    assert!(
        !bench
            .engine
            .subscribe_with_replay(closed.id, "chat", replay)
    );
}

#[test]
fn an_excepted_publication_is_retained_even_if_the_publisher_is_the_only_member() {
    let mut bench = chat(Replay::Messages(5));
    let anna = bench.open_member("chat");
    let text = Message::text;
    assert_eq!(bench.engine.publish_except(anna.id, "chat", text("1")), 0);
    publish(&mut bench, "2");
    assert_eq!(bench.engine.publish_except(anna.id, "chat", text("3")), 0);
    assert_eq!(bench.engine.publish_except(anna.id, "chat", text("4")), 0);
    publish(&mut bench, "5");
    bench.turns(2);
    assert_eq!(anna.take_texts(), ["2", "5"]);
    assert_eq!(bench.engine.topics.unclaimed_len(), 0);
    assert_eq!(
        texts_of_a_late_member(&mut bench),
        ["1", "2", "3", "4", "5"]
    );
}

#[test]
fn a_session_that_joins_again_receives_the_messages_again() {
    let mut bench = chat(Replay::Messages(2));
    publish(&mut bench, "1");
    let member = bench.open();
    for writable_bytes in [usize::MAX, 0] {
        member.set_writable_bytes(writable_bytes);
        for _ in 0..3 {
            assert!(bench.engine.subscribe(member.id, "chat"));
            assert!(bench.engine.unsubscribe(member.id, "chat"));
        }
        bench.turn();
        member.set_writable_bytes(usize::MAX);
        bench.turns(2);
        assert_eq!(member.take_texts(), ["1", "1", "1"]);
    }
    assert!(bench.engine.is_open(member.id));
}

#[test]
fn a_member_receives_at_most_its_lag_limit() {
    let config = Config {
        lag_bytes_max: 10_000,
        ..Config::default()
    };
    let mut bench = bench(config);
    bench.engine.set_replay("chat", Some(Replay::Messages(100)));
    for number in 0..100 {
        publish(&mut bench, &format!("{number}{}", "x".repeat(1000)));
    }
    let late = bench.open();
    late.set_writable_bytes(0);
    assert!(bench.engine.subscribe(late.id, "chat"));
    publish(&mut bench, "live");
    bench.turns(3);
    late.set_writable_bytes(usize::MAX);
    bench.turns(3);
    let texts = late.take_texts();
    assert_eq!(texts.len(), 9 + 1);
    assert!(texts[0].starts_with("91x"), "{}", texts[0]);
    assert_eq!(texts[9], "live");
    assert!(bench.engine.is_open(late.id));
    // A message that exceeds the limit alone is not replayed, nor is what precedes it.
    publish(&mut bench, &"y".repeat(20_000));
    assert!(texts_of_a_late_member(&mut bench).is_empty());
}

#[test]
fn a_replay_that_lags_is_skipped_with_a_report_or_ends_with_1013() {
    for policy in [LagPolicy::Disconnect, LagPolicy::Skip] {
        let config = Config {
            lag_bytes_max: 2_000,
            lag_policy: policy,
            ..Config::default()
        };
        let mut bench = bench(config);
        bench.engine.set_replay("chat", Some(Replay::Bytes(1_500)));
        for number in 0..100 {
            publish(&mut bench, &format!("{number:08}"));
        }
        let late = bench.open();
        late.set_writable_bytes(25);
        assert!(bench.engine.subscribe(late.id, "chat"));
        for number in 100..400 {
            publish(&mut bench, &format!("{number:08}"));
            bench.turn();
        }
        late.set_writable_bytes(usize::MAX);
        bench.turns(3);
        let mut frames = late.take_frames();
        let skipped: usize = bench
            .take_events()
            .iter()
            .filter_map(|event| event.strip_prefix("skip 0 chat "))
            .map(|count| count.parse::<usize>().unwrap())
            .sum();
        if policy == LagPolicy::Disconnect {
            assert_eq!(frames.pop().unwrap().0, 0x88);
            // Two messages and a part of the third were sent.
            assert_eq!(frames.len(), 3);
            assert_eq!(skipped, 0);
        } else {
            assert_eq!(frames.len() + skipped, 400);
            assert_eq!(frames.last().unwrap().1, b"00000399");
        }
        assert_eq!(frames[0].1, b"00000000");
    }
}

/// The second entry of a queue makes the first one count 128 bytes as well, which was not foreseen: a member that could not
/// read was closed because of the replays alone.
#[test]
fn replays_of_several_topics_do_not_make_a_session_lag() {
    for published in [0, 1, 40, 400] {
        for lag_bytes_max in (1..2_000).step_by(7) {
            let config = Config {
                lag_bytes_max,
                ..Config::default()
            };
            let mut bench = bench(config);
            for topic in ["a", "b", "c"] {
                bench.engine.set_replay(topic, Some(Replay::Messages(50)));
                for _ in 0..50 {
                    bench.engine.publish(topic, Message::text("12345678"));
                }
            }
            let late = bench.open_member("other");
            late.set_writable_bytes(0);
            // Counts before the replays, although the member has not claimed it yet.
            if published > 0 && published + 132 < lag_bytes_max {
                let text = "x".repeat(published);
                bench.engine.publish("other", Message::text(&text));
            }
            for topic in ["a", "b", "c"] {
                assert!(bench.engine.subscribe(late.id, topic));
            }
            bench.turn();
            assert!(bench.engine.is_open(late.id), "{lag_bytes_max} {published}");
            let unsent = bench.engine.buffered_amount(late.id);
            assert!(unsent + 6 * 128 > lag_bytes_max.min(1_500), "{unsent}");
        }
    }
}

/// The bytes that were published between two memberships count while the first one has unsent bytes. A replay did not
/// foresee them.
#[test]
fn a_replay_behind_unsent_bytes_of_the_same_topic_does_not_make_a_session_lag() {
    for lag_bytes_max in [200, 500, 1_000, 1_500, 3_000, 200_000, 400_000] {
        for (missed, retained) in [(1, 5), (50, 5), (50, 50), (5_000, 50), (50_000, 10_000)] {
            let config = Config {
                lag_bytes_max,
                ..Config::default()
            };
            let mut bench = bench(config);
            bench
                .engine
                .set_replay("chat", Some(Replay::Messages(retained)));
            let member = bench.open_member("chat");
            member.set_writable_bytes(0);
            publish(&mut bench, "unsent");
            bench.turn();
            assert!(bench.engine.unsubscribe(member.id, "chat"));
            for _ in 0..missed {
                publish(&mut bench, "12345678");
            }
            assert!(bench.engine.subscribe(member.id, "chat"));
            bench.turn();
            let case = (lag_bytes_max, missed, retained);
            assert!(bench.engine.is_open(member.id), "{case:?}");
        }
    }
}

/// Each join queued another replay, and a flush writes at once what exceeds the lag limit: hundreds of megabytes in a turn
/// for a peer that reads fast.
#[test]
fn a_peer_that_joins_often_in_a_turn_receives_at_most_its_lag_limit() {
    let config = Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |cx, id, _| {
        cx.unsubscribe(id, "chat");
        assert!(cx.subscribe(id, "chat"));
    });
    bench
        .engine
        .set_replay("chat", Some(Replay::Bytes(500_000)));
    for _ in 0..100 {
        publish(&mut bench, &"x".repeat(10_000));
    }
    let hostile = bench.open();
    for _ in 0..100 {
        hostile.send_text("again");
    }
    bench.turn();
    let written = hostile.take_written().len();
    assert!(written <= 256 * 1024, "{written}");
    turns_until_idle(&mut bench);
    let written = written + hostile.take_written().len();
    assert!(written > 1 << 19 && written <= 1 << 20, "{written}");
    assert!(bench.engine.is_open(hostile.id));
}

/// Each join queued another replay, without limit.
#[test]
fn a_peer_that_does_not_read_and_joins_often_has_at_most_its_lag_limit_unsent() {
    let config = Config {
        lag_bytes_max: 100_000,
        ..Config::default()
    };
    let mut bench = Bench::new(config, |cx, id, _| {
        cx.unsubscribe(id, "chat");
        cx.publish("chat", "y".repeat(500));
        cx.subscribe(id, "chat");
    });
    bench.engine.set_replay("chat", Some(Replay::Messages(50)));
    let hostile = bench.open();
    hostile.set_writable_bytes(0);
    let mut unsent = 0;
    for _ in 0..100 {
        hostile.send_text("again");
        bench.turn();
        unsent = unsent.max(bench.engine.buffered_amount(hostile.id));
        assert!(bench.engine.topics.capacity() <= 4 << 17);
    }
    assert!(unsent > 50_000 && unsent <= 100_000, "{unsent}");
    // A replay does not make it lag. A publication does.
    assert!(bench.engine.is_open(hostile.id));
    publish(&mut bench, &"z".repeat(60_000));
    bench.turn();
    publish(&mut bench, "last");
    bench.turn();
    assert!(!bench.engine.is_open(hostile.id));
}

/// Returns the bytes of memory that all logs own, in relation to what is counted.
fn check_memory(bench: &Bench) -> usize {
    let (capacity, counted) = (
        bench.engine.topics.capacity(),
        bench.engine.stats().replay_bytes,
    );
    assert!(
        capacity <= 2 * counted,
        "{capacity} bytes, {counted} counted"
    );
    assert!(counted <= bench.engine.config.replay_bytes_max);
    capacity
}

#[test]
fn a_last_value_takes_a_few_hundred_bytes() {
    let mut bench = bench(Config::default());
    let names: Vec<_> = (0..300).map(|number| format!("price {number}")).collect();
    let member = bench.open();
    for (number, name) in names.iter().enumerate() {
        bench.engine.set_replay(name, Some(Replay::Messages(1)));
        if number % 2 == 0 {
            bench.engine.subscribe(member.id, name);
        }
    }
    for round in 0..100 {
        for name in &names {
            bench
                .engine
                .publish(name, Message::text(&format!("{round} EUR")));
        }
        bench.turns(2);
        member.take_written();
        let each = check_memory(&bench) / 300;
        assert!(each <= 600, "{each} bytes for each value");
    }
    let late = bench.open_member("price 7");
    bench.turn();
    assert_eq!(late.take_texts(), ["99 EUR"]);
}

/// Long windows slide over chunks, which are released and shrunk.
#[test]
fn the_memory_of_a_log_is_at_most_twice_what_is_retained() {
    for (replay, len) in [
        (Replay::Bytes(1 << 20), 900),
        (Replay::Bytes(1 << 20), 5),
        (Replay::Bytes(300_000), 70_000),
        (Replay::Messages(3), 200_000),
        (Replay::Messages(20), 300),
        (Replay::Messages(1), 0),
        (Replay::Bytes(100), 20),
    ] {
        let mut bench = chat(replay);
        let early = bench.open_member("chat");
        let mut published = Vec::new();
        for number in 0..(3 << 20) / (len + 200) {
            let text = format!("{number}:{}", "x".repeat(number % (2 * len + 1)));
            publish(&mut bench, &text);
            published.push(text);
            if number % 7 == 0 {
                bench.turns(2);
                early.take_written();
                check_memory(&bench);
            }
        }
        turns_until_idle(&mut bench);
        check_memory(&bench);
        let late = texts_of_a_late_member(&mut bench);
        assert!(!late.is_empty());
        assert!(
            published.ends_with(&late),
            "{replay:?} {len}: {} of {}",
            late.len(),
            published.len()
        );
        if let Replay::Messages(count) = replay {
            assert_eq!(late.len(), count);
        }
    }
}

#[test]
fn the_topic_that_was_published_to_least_recently_loses_its_messages_first() {
    let config = Config {
        replay_bytes_max: 3 * 1200,
        ..Config::default()
    };
    let mut bench = bench(config);
    let texts = |bench: &mut Bench, name: &str| {
        let late = bench.open_member(name);
        bench.turn();
        let texts = late.take_texts();
        bench.engine.terminate(late.id);
        bench.turn();
        texts
    };
    for name in ["a", "b", "c", "d"] {
        bench.engine.set_replay(name, Some(Replay::Messages(2)));
    }
    // Each topic counts 1 024 + 1 + 14 bytes: three fit.
    for name in ["a", "b", "c", "a", "d"] {
        bench.engine.publish(name, Message::text("twelve bytes"));
    }
    bench.turn();
    assert_eq!(bench.engine.topics.count(), 3);
    check_memory(&bench);
    assert_eq!(texts(&mut bench, "a").len(), 2);
    assert_eq!(texts(&mut bench, "b").len(), 0);
    assert_eq!(texts(&mut bench, "c").len(), 1);
    // As large as all together: all others lose their messages.
    let len = 3600 - 1025;
    let large = "x".repeat(len - 4);
    bench.engine.publish("d", Message::text(&large));
    assert_eq!(bench.engine.stats().replay_bytes, 3600);
    assert_eq!(texts(&mut bench, "a").len(), 0);
    assert_eq!(texts(&mut bench, "d"), [large.as_str()]);
    // Longer than that: nothing is retained, not even what precedes it.
    let member = bench.open_member("c");
    bench.engine.publish("c", Message::text("small"));
    let larger = format!("{large}x");
    assert_eq!(bench.engine.publish("c", Message::text(&larger)), 1);
    bench.turn();
    assert_eq!(member.take_texts(), ["small", &larger]);
    assert_eq!(bench.engine.stats().replay_bytes, 0);
    assert_eq!(texts(&mut bench, "c").len(), 0);
}

#[test]
fn without_a_budget_nothing_is_retained() {
    let config = Config {
        replay_bytes_max: 0,
        ..Config::default()
    };
    let mut bench = bench(config);
    bench.engine.set_replay("chat", Some(Replay::Messages(2)));
    let member = bench.open_member("chat");
    publish(&mut bench, "1");
    bench.turn();
    assert_eq!(member.take_texts(), ["1"]);
    bench.engine.terminate(member.id);
    bench.turn();
    publish(&mut bench, "2");
    bench.turn();
    assert_eq!(bench.engine.topics.count(), 0);
}

/// A client joins topic after topic, and publishes to each.
#[test]
fn endless_topics_retain_a_bounded_number_of_bytes() {
    let config = Config {
        replay_bytes_max: 1 << 20,
        ..Config::default()
    };
    let mut bench = bench(config);
    let client = bench.open();
    let mut tables_max = 0;
    for number in 0..20_000_usize {
        let name = format!("/chat/{number}");
        let replay = Replay::Messages(20);
        assert!(bench.engine.subscribe_with_replay(client.id, &name, replay));
        bench
            .engine
            .publish(&name, Message::text(&"x".repeat(number % 300)));
        assert!(bench.engine.unsubscribe(client.id, &name));
        if number % 16 == 0 {
            bench.turn();
            client.take_written();
            check_memory(&bench);
            tables_max = tables_max.max(bench.engine.topics.table_bytes());
        }
    }
    assert!(bench.engine.topics.count() <= 1024);
    assert!(tables_max < 1 << 20, "{tables_max}");
    assert!(bench.engine.is_open(client.id));
}

#[test]
fn a_replay_is_not_copied_and_is_retained_once_for_all_members() {
    let mut bench = chat(Replay::Bytes(1 << 20));
    for number in 0..100 {
        publish(&mut bench, &format!("{number}{}", "x".repeat(10_000)));
        bench.turn();
    }
    let before = check_memory(&bench);
    let late: Vec<Peer> = (0..8)
        .map(|_| {
            let peer = bench.open();
            peer.set_writable_bytes(100);
            assert!(bench.engine.subscribe(peer.id, "chat"));
            peer
        })
        .collect();
    bench.turns(2);
    assert_eq!(bench.engine.topics.capacity(), before);
    for number in 100..300 {
        publish(&mut bench, &format!("{number}{}", "x".repeat(10_000)));
        bench.turn();
    }
    for peer in &late {
        peer.set_writable_bytes(usize::MAX);
    }
    turns_until_idle(&mut bench);
    for peer in &late {
        let texts = peer.take_texts();
        assert_eq!(texts.len(), 300);
        let is_next = |(number, text): (usize, &String)| text.starts_with(&format!("{number}x"));
        assert!(texts.iter().enumerate().all(is_next));
    }
    check_memory(&bench);
}

/// With more than 256 unsent segments, what a topic had released counted as retained for the session.
#[test]
fn the_last_values_of_many_topics_are_all_replayed() {
    for topics in [255, 257, 1_000] {
        let mut bench = bench(Config::default());
        let names: Vec<String> = (0..topics).map(|index| format!("price {index}")).collect();
        for name in &names {
            bench.engine.set_replay(name, Some(Replay::Messages(1)));
            bench
                .engine
                .publish(name, Message::text(&"x".repeat(140_000)));
            bench.engine.publish(name, Message::text("42"));
            bench.turn();
        }
        let late = bench.open();
        for name in &names {
            assert!(bench.engine.subscribe(late.id, name));
        }
        turns_until_idle(&mut bench);
        assert_eq!(late.take_texts(), vec!["42"; topics]);
    }
}

/// The same without replay: a session with little unsent was closed with 1013.
#[test]
fn a_session_with_many_unsent_segments_that_joins_old_topics_does_not_lag() {
    let mut bench = bench(Config::default());
    let names: Vec<String> = (0..100).map(|index| format!("old {index}")).collect();
    let early = bench.open();
    for name in &names {
        bench.engine.subscribe(early.id, name);
        bench
            .engine
            .publish(name, Message::text(&"x".repeat(140_000)));
        bench.turn();
        early.take_written();
    }
    let stalled = bench.open_member("a");
    assert!(bench.engine.subscribe(stalled.id, "b"));
    stalled.set_writable_bytes(0);
    for index in 0..300 {
        let topic = if index % 2 == 0 { "a" } else { "b" };
        bench.engine.publish(topic, Message::text("1"));
        let _ = bench.engine.send(stalled.id, Message::text("x"));
        turns_until_idle(&mut bench);
    }
    for name in &names {
        assert!(bench.engine.subscribe(stalled.id, name));
    }
    for name in &names {
        bench.engine.publish(name, Message::text("1"));
        turns_until_idle(&mut bench);
    }
    assert!(bench.engine.is_open(stalled.id));
}
