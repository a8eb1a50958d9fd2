//! The order of publications as [`Context::publish`](crate::Context::publish) documents it, publications to all members
//! but one, queries of memberships, and the bytes that a log retains for members which receive only parts of it.

use super::script::{Bench, Peer};
use crate::config::{Config, LagPolicy};
use crate::id::Id;
use crate::outbound::CHUNK_BYTES;
use crate::proto::Message;

/// Returns a bench with members of the topic `chat`.
fn chat<const N: usize>(config: Config) -> (Bench, [Peer; N]) {
    let mut bench = Bench::new(config, |_, _, _| {});
    let members = [(); N].map(|()| bench.open_member("chat"));
    (bench, members)
}

fn publish(bench: &mut Bench, text: &str) -> usize {
    bench.engine.publish("chat", Message::text(text))
}

fn publish_except(bench: &mut Bench, id: Id, text: &str) -> usize {
    bench.engine.publish_except(id, "chat", Message::text(text))
}

#[test]
fn publications_of_two_topics_stay_in_order_across_a_direct_message() {
    let (mut bench, [anna]) = chat(Config::default());
    bench.engine.subscribe(anna.id, "news");
    bench.engine.publish("news", Message::text("news 1"));
    let _ = bench.engine.send(anna.id, Message::text("direct"));
    bench.engine.publish("chat", Message::text("chat 2"));
    bench.turn();
    assert_eq!(anna.take_texts(), ["news 1", "direct", "chat 2"]);
}

/// The documentation promises no order here. This is the order that results: that of the memberships.
#[test]
fn publications_of_two_topics_without_a_direct_message_between_may_change_places() {
    let (mut bench, [anna]) = chat(Config::default());
    bench.engine.subscribe(anna.id, "news");
    bench.engine.publish("news", Message::text("news 1"));
    bench.engine.publish("chat", Message::text("chat 2"));
    bench.turn();
    assert_eq!(anna.take_texts(), ["chat 2", "news 1"]);
}

#[test]
fn a_session_receives_what_is_published_before_its_close() {
    let (mut bench, [anna, bert]) = chat(Config::default());
    publish(&mut bench, "1");
    bench.engine.close(anna.id, 1000, "");
    bench.engine.terminate(bert.id);
    assert_eq!(publish(&mut bench, "2"), 0);
    bench.turn();
    let close = 1000_u16.to_be_bytes().to_vec();
    assert_eq!(anna.take_frames(), [(0x81, b"1".to_vec()), (0x88, close)]);
    assert!(bert.take_written().is_empty());
}

#[test]
fn the_excepted_member_receives_the_publications_before_and_after() {
    let (mut bench, [anna, bert, cleo]) = chat(Config::default());
    assert_eq!(publish(&mut bench, "1"), 3);
    assert_eq!(publish_except(&mut bench, anna.id, "2"), 2);
    assert_eq!(publish_except(&mut bench, anna.id, "3"), 2);
    assert_eq!(publish(&mut bench, "4"), 3);
    assert_eq!(publish_except(&mut bench, bert.id, "5"), 2);
    bench.turns(2);
    assert_eq!(anna.take_texts(), ["1", "4", "5"]);
    assert_eq!(bert.take_texts(), ["1", "2", "3", "4"]);
    assert_eq!(cleo.take_texts(), ["1", "2", "3", "4", "5"]);
    assert_eq!(bench.engine.stats().messages_out, 3 + 2 + 2 + 3 + 2);
    assert_eq!(bench.engine.topics.capacity(), 0);
    assert_eq!(bench.engine.topics.unclaimed_len(), 0);
    assert!(!bench.engine.has_work());
}

/// The publication before the excepted one is claimed at once. Nothing else would flush the session then.
#[test]
fn a_publication_directly_before_reaches_the_excepted_member_in_the_same_turn() {
    let (mut bench, [anna, bert]) = chat(Config::default());
    publish(&mut bench, "before");
    publish_except(&mut bench, anna.id, "excepted");
    bench.turn();
    assert_eq!(anna.take_texts(), ["before"]);
    assert_eq!(bert.take_texts(), ["before", "excepted"]);
}

#[test]
fn sends_stay_in_order_with_excepted_publications() {
    let (mut bench, [anna, bert]) = chat(Config::default());
    for round in 0..3 {
        for peer in [&anna, &bert] {
            let text = format!("{round} to {}", peer.id.slot);
            let _ = bench.engine.send(peer.id, Message::text(&text));
        }
        publish_except(&mut bench, anna.id, &format!("{round} from 0"));
    }
    bench.turns(2);
    assert_eq!(anna.take_texts(), ["0 to 0", "1 to 0", "2 to 0"]);
    assert_eq!(
        bert.take_texts(),
        [
            "0 to 1", "0 from 0", "1 to 1", "1 from 0", "2 to 1", "2 from 0"
        ]
    );
}

#[test]
fn a_publication_to_everyone_but_the_only_member_is_not_stored() {
    let (mut bench, [anna]) = chat(Config::default());
    publish(&mut bench, "1");
    assert_eq!(publish_except(&mut bench, anna.id, "2"), 0);
    bench.turn();
    assert_eq!(anna.take_texts(), ["1"]);
    assert_eq!(publish_except(&mut bench, anna.id, "3"), 0);
    assert_eq!(bench.engine.topics.capacity(), 0);
    assert!(!bench.engine.has_work());
    publish(&mut bench, "4");
    bench.turn();
    assert_eq!(anna.take_texts(), ["4"]);
}

#[test]
fn a_session_that_is_not_a_member_is_not_excepted() {
    let (mut bench, [anna, bert]) = chat(Config::default());
    let other = bench.open();
    assert_eq!(publish_except(&mut bench, other.id, "1"), 2);
    assert_eq!(
        bench
            .engine
            .publish_except(anna.id, "no such topic", Message::text("x")),
        0
    );
    bench.engine.terminate(anna.id);
    bench.turn();
    bert.take_written();
    // The id of a session that has ended, whose slot is in use again.
    let next = bench.open_member("chat");
    assert_eq!(next.id.slot, anna.id.slot);
    assert_eq!(publish_except(&mut bench, anna.id, "2"), 2);
    bench.turn();
    for peer in [&bert, &next] {
        assert_eq!(peer.take_texts(), ["2"]);
    }
}

#[test]
fn members_may_leave_around_excepted_publications() {
    let (mut bench, [anna, bert, cleo]) = chat(Config::default());
    publish_except(&mut bench, anna.id, "1");
    // The excepted member is the only one without unclaimed bytes, and then the only member.
    bench.engine.unsubscribe(bert.id, "chat");
    bench.engine.terminate(cleo.id);
    assert_eq!(bench.engine.topics.unclaimed_len(), 0);
    assert_eq!(publish(&mut bench, "2"), 1);
    bench.turns(2);
    assert_eq!(anna.take_texts(), ["2"]);
    assert_eq!(bert.take_texts(), ["1"]);
    publish_except(&mut bench, anna.id, "3");
    assert!(bench.engine.unsubscribe(anna.id, "chat"));
    bench.turns(2);
    assert!(anna.take_texts().is_empty());
    assert_eq!(bench.engine.topics.count(), 0);
}

#[test]
fn skipped_messages_are_counted_without_the_excepted_ones() {
    let config = Config {
        lag_bytes_max: 2_000,
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let (mut bench, [anna, bert]) = chat(config);
    anna.set_writable_bytes(0);
    for round in 0..30 {
        publish_except(&mut bench, anna.id, &format!("from anna {round}"));
        publish(&mut bench, &format!("to all {round}"));
        bench.turn();
    }
    anna.set_writable_bytes(usize::MAX);
    bench.turns(2);
    let skipped: usize = bench
        .take_events()
        .iter()
        .filter_map(|event| event.strip_prefix("skip 0 chat "))
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    let received = anna.take_texts();
    assert_eq!(received.last().unwrap(), "to all 29");
    assert!(received.iter().all(|text| text.starts_with("to all")));
    assert!(skipped > 0);
    assert_eq!(received.len() + skipped, 30);
    assert_eq!(bert.take_texts().len(), 60);
}

/// A peer that does not read, and that receives only short parts of a log, made the log retain a chunk for each part.
fn the_log_is_bounded(mut between_two_parts: impl FnMut(&mut Bench, &Peer)) {
    let config = Config {
        lag_bytes_max: 1 << 20,
        ..Config::default()
    };
    let (mut bench, [hostile, _other]) = chat(config);
    hostile.set_writable_bytes(0);
    let mut retained_max = 0;
    for _ in 0..500 {
        publish(&mut bench, "x");
        between_two_parts(&mut bench, &hostile);
        bench.turn();
        retained_max = retained_max.max(bench.engine.topics.capacity());
    }
    assert!(retained_max > 0);
    assert!(
        retained_max <= 2 * (1 << 20) + 2 * CHUNK_BYTES,
        "{retained_max}"
    );
    assert!(!bench.engine.is_open(hostile.id), "it lags");
}

#[test]
fn excepted_publications_of_a_peer_that_does_not_read_do_not_stay_in_the_log() {
    let large = "y".repeat(100_000);
    the_log_is_bounded(|bench, hostile| {
        publish_except(bench, hostile.id, &large);
    });
}

#[test]
fn publications_while_a_peer_that_does_not_read_is_no_member_do_not_stay_in_the_log() {
    let large = "y".repeat(100_000);
    the_log_is_bounded(|bench, hostile| {
        bench.engine.unsubscribe(hostile.id, "chat");
        publish(bench, &large);
        bench.engine.subscribe(hostile.id, "chat");
    });
}

#[test]
fn a_member_that_reads_does_not_lag_whatever_it_publishes() {
    let config = Config {
        lag_bytes_max: 1_000,
        ..Config::default()
    };
    let (mut bench, [anna, bert]) = chat(config);
    for _ in 0..50 {
        publish(&mut bench, "a");
        publish_except(&mut bench, anna.id, &"y".repeat(30_000));
        publish(&mut bench, "b");
        publish_except(&mut bench, anna.id, &"y".repeat(30_000));
        bench.turns(2);
        assert_eq!(anna.take_texts(), ["a", "b"]);
        assert_eq!(bert.take_texts().len(), 4);
    }
    assert!(bench.engine.is_open(anna.id));
}

#[test]
fn memberships_can_be_queried_from_both_sides() {
    let (mut bench, [anna, bert]) = chat(Config::default());
    bench.engine.subscribe(anna.id, "news");
    let sorted = |mut names: Vec<std::sync::Arc<str>>| {
        names.sort();
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(sorted(bench.engine.topics(anna.id)), ["chat", "news"]);
    assert_eq!(sorted(bench.engine.topics(bert.id)), ["chat"]);
    let mut members = bench.engine.members("chat");
    members.sort();
    assert_eq!(members, [anna.id, bert.id]);
    assert_eq!(bench.engine.members("news"), [anna.id]);
    assert!(bench.engine.members("other").is_empty());
    assert!(bench.engine.is_subscribed(anna.id, "news"));
    assert!(!bench.engine.is_subscribed(bert.id, "news"));
    assert!(!bench.engine.is_subscribed(bert.id, "other"));
    bench.engine.close(anna.id, 1000, "");
    assert!(bench.engine.topics(anna.id).is_empty());
    assert_eq!(bench.engine.members("chat"), [bert.id]);
    assert!(!bench.engine.is_subscribed(anna.id, "chat"));
    bench.engine.terminate(bert.id);
    assert!(bench.engine.members("chat").is_empty());
    assert!(bench.engine.topics(bert.id).is_empty());
    bench.turn();
    assert!(bench.engine.topics(bert.id).is_empty());
}
