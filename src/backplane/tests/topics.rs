//! What is subscribed, published and delivered, at a broker that does not fail.

use super::*;
use crate::backplane::payload;
use crate::config::Replay;
use crate::context::Context;
use crate::proto::Message;
use crate::server::testing::opening;
use std::time::Duration;

#[test]
fn members_on_all_servers_receive_the_same_order() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let a = one.connect("/chat");
    let b = two.connect("/chat");
    let other = two.connect("/other");
    for round in 0..3 {
        one.send(a, format!("a{round}"));
        two.send(b, format!("b{round}"));
    }
    let expected = ["a0", "b0", "a1", "b1", "a2", "b2"];
    assert_eq!(texts(&mut one, a), expected);
    assert_eq!(texts(&mut two, b), expected);
    assert!(texts(&mut two, other).is_empty());
}

#[test]
fn binary_empty_and_long_messages_arrive_unchanged() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let a = one.connect("/");
    let b = two.connect("/");
    for len in [0, 1, 125, 126, 65_535, 65_536, 262_144, 300_000, 1 << 20] {
        one.send(a, Message::binary(&vec![7; len]));
        one.send(a, "x".repeat(len));
        two.run();
        let expected = [
            Received::Binary(vec![7; len]),
            Received::Text("x".repeat(len)),
        ];
        assert_eq!(two.received(b), expected);
        assert_eq!(one.received(a), expected);
    }
}

#[test]
fn a_publication_comes_back_only_from_the_broker() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let a = one.connect("/");
    broker.hold();
    one.send(a, "x");
    assert!(texts(&mut one, a).is_empty());
    broker.release();
    assert_eq!(texts(&mut one, a), ["x"]);
}

#[test]
fn the_publications_of_a_turn_to_one_topic_are_one_batch() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let b = two.connect("/a");
    one.with_context(|cx| {
        for number in 0..100 {
            cx.publish("/a", format!("{number}"));
            cx.publish("/b", "x");
        }
    });
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.batches), (200, 2));
    let received = texts(&mut two, b);
    assert_eq!(
        received,
        (0..100).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    // The server that has published has no members, and retains nothing.
    assert_eq!(stats.topics, 0);
}

#[test]
fn long_batches_are_divided() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let b = two.connect("/a");
    one.with_context(|cx| {
        for _ in 0..10 {
            cx.publish("/a", "x".repeat(100_000));
        }
    });
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.publications, stats.batches), (10, 5));
    assert_eq!(texts(&mut two, b).len(), 10);
}

#[test]
fn plain_text_of_another_client_is_a_text_message_and_junk_is_dropped() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let a = one.connect("/chat");
    assert_eq!(broker.publish("/chat", b"hi"), 1);
    for junk in [
        &[0xff][..],
        &[0x81],
        &[0x81, 0x80, 0, 0, 0, 0],
        &[0x82, 1, b'x', 0x81, 1, 0xff],
        &[0x84],
    ] {
        broker.publish("/chat", junk);
    }
    broker.publish("/chat", &vec![b'x'; (1 << 20) + 1]);
    broker.publish("/chat", "\u{fc}".as_bytes());
    assert_eq!(texts(&mut one, a), ["hi", "\u{fc}"]);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.messages_in, stats.invalid), (2, 6));
}

#[test]
fn a_topic_is_unsubscribed_a_second_after_its_last_member_has_left() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let a = one.connect("/chat");
    let b = one.connect("/chat");
    one.close(a, 1000, "");
    one.advance(Duration::from_secs(5));
    assert_eq!(broker.publish("/chat", b"1"), 1);
    one.close(b, 1000, "");
    one.advance(Duration::from_millis(900));
    assert_eq!(broker.publish("/chat", b"2"), 1);
    // A page that is reloaded.
    let c = one.connect("/chat");
    one.advance(Duration::from_millis(900));
    assert_eq!(broker.publish("/chat", b"3"), 1);
    assert_eq!(texts(&mut one, c), ["3"]);
    one.close(c, 1000, "");
    one.advance(Duration::from_millis(1001));
    assert_eq!(broker.publish("/chat", b"4"), 0);
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!(stats.topics, 0);
}

/// Between UNSUBSCRIBE and the next SUBSCRIBE a message could be missing.
#[test]
fn nothing_is_delivered_before_the_newest_subscription_is_confirmed() {
    let broker = Broker::new();
    let mut one = server(&broker);
    broker.hold();
    let a = one.connect("/chat");
    one.close(a, 1000, "");
    one.advance(Duration::from_secs(2));
    let b = one.connect("/chat");
    // SUBSCRIBE, UNSUBSCRIBE, SUBSCRIBE.
    broker.process(0);
    broker.publish("/chat", b"1");
    broker.process(0);
    broker.publish("/chat", b"2");
    broker.process(0);
    broker.publish("/chat", b"3");
    assert_eq!(texts(&mut one, b), ["3"]);
}

#[test]
fn the_excepted_session_does_not_receive_the_message() {
    let broker = Broker::new();
    struct Chat;
    impl Handler for Chat {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            cx.subscribe(id, "chat");
        }
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            cx.publish_except(id, "chat", message);
            cx.publish("chat", "to all");
        }
    }
    let mut servers = [(); 2].map(|()| server_with(&broker, Config::default(), Chat));
    // Both servers have sessions with the same ids.
    let ids: Vec<_> = servers
        .iter_mut()
        .map(|server| (server.connect("/"), server.connect("/")))
        .collect();
    assert_eq!(ids[0], ids[1]);
    servers[0].send(ids[0].0, "x");
    assert_eq!(texts(&mut servers[0], ids[0].0), ["to all"]);
    assert_eq!(texts(&mut servers[0], ids[0].1), ["x", "to all"]);
    assert_eq!(texts(&mut servers[1], ids[1].0), ["x", "to all"]);
    assert_eq!(texts(&mut servers[1], ids[1].1), ["x", "to all"]);
}

#[test]
fn publish_local_reaches_only_this_server() {
    let broker = Broker::new();
    let [mut one, mut two] = [server(&broker), server(&broker)];
    let a = one.connect("/chat");
    let b = two.connect("/chat");
    assert_eq!(one.with_context(|cx| cx.publish_local("/chat", "here")), 1);
    assert_eq!(one.with_context(|cx| cx.publish("/chat", "everywhere")), 1);
    assert_eq!(texts(&mut one, a), ["here", "everywhere"]);
    assert_eq!(texts(&mut two, b), ["everywhere"]);
}

#[test]
fn a_message_that_is_too_long_to_publish_closes_its_sender_with_1009() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let [a, b] = [(); 2].map(|()| one.connect("/chat"));
    one.send(a, "x".repeat((1 << 20) + 1));
    let close = "Close(1009, \"the message is too long to publish\")";
    assert_eq!(texts(&mut one, a)[0], close);
    assert!(texts(&mut one, b).is_empty());
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!(stats.refused, 1);
}

#[test]
fn retained_messages_are_those_that_came_back() {
    let broker = Broker::new();
    let replay = Broadcast.with_replay(Replay::Messages(2));
    let mut one = server_with(&broker, Config::default(), replay);
    let a = one.connect("/chat");
    for text in ["1", "2", "3"] {
        one.send(a, text);
    }
    one.close(a, 1000, "");
    // Stays subscribed as long as it retains messages.
    one.advance(Duration::from_secs(60));
    assert_eq!(broker.publish("/chat", b"4"), 1);
    let b = one.connect("/chat");
    assert_eq!(texts(&mut one, b), ["3", "4"]);
}

#[test]
fn a_topic_that_retains_messages_by_name_is_subscribed_without_members() {
    let broker = Broker::new();
    let mut one = Harness::new(Config::default(), Broadcast);
    one.with_context(|cx| cx.set_replay("/early", Some(Replay::Messages(1))));
    one.set_backplane(broker.connect(), BackplaneOptions::default());
    one.with_context(|cx| cx.set_replay("/late", Some(Replay::Messages(1))));
    one.advance(Duration::from_secs(10));
    for topic in ["/early", "/late"] {
        assert_eq!(broker.publish(topic, b"x"), 1);
        let id = one.connect(topic);
        assert_eq!(texts(&mut one, id), ["x"]);
    }
    one.with_context(|cx| cx.set_replay("/early", None));
}

#[test]
fn members_from_before_the_backplane_are_members_at_the_broker() {
    let broker = Broker::new();
    let mut one = Harness::new(Config::default(), Broadcast);
    let a = one.connect("/chat");
    one.set_backplane(broker.connect(), BackplaneOptions::default());
    broker.publish("/chat", b"x");
    assert_eq!(texts(&mut one, a), ["x"]);
}

#[test]
fn thousands_of_topics_return_their_memory() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let ids: Vec<_> = (0..3000)
        .map(|number| one.connect(&format!("/{number}")))
        .collect();
    for id in ids {
        one.send(id, "x");
        one.close(id, 1000, "");
    }
    one.advance(Duration::from_secs(2));
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!((stats.topics, stats.publications), (0, 3000));
}

#[test]
fn options_out_of_range_are_rejected() {
    let check = |outbox_bytes_max, message_bytes_max| {
        let options = BackplaneOptions {
            outbox_bytes_max,
            message_bytes_max,
            ..BackplaneOptions::default()
        };
        options.check()
    };
    assert_eq!(check(8 << 20, 1 << 20), Ok(()));
    assert_eq!(check(64 << 10, 32 << 10), Ok(()));
    let table = [
        ((64 << 10) - 1, 1),
        (100_000, 50_001),
        (8 << 20, 0),
        (usize::MAX, (256 << 20) + 1),
        (usize::MAX, usize::MAX),
    ];
    for (outbox, message) in table {
        assert!(check(outbox, message).is_err(), "{outbox} {message}");
    }
}

#[test]
fn the_first_byte_of_a_servers_payload_is_never_text() {
    let mut bytes = Vec::new();
    payload::append(&mut bytes, Message::text(""), None);
    assert!(std::str::from_utf8(&bytes).is_err());
}

#[test]
fn upgrades_are_accepted_before_the_first_connection_is_late() {
    let broker = Broker::new();
    broker.stop();
    let mut one = server(&broker);
    let a = one.connect("/chat");
    one.advance(Duration::from_secs(4));
    one.send(a, "early");
    broker.start();
    one.advance(Duration::from_secs(1));
    assert_eq!(texts(&mut one, a), ["early"]);
    assert!(one.open(opening("/chat")).is_ok());
}

#[test]
fn the_metrics_have_the_counters_of_the_broker() {
    let broker = Broker::new();
    let metrics = crate::handlers::Metrics;
    let router = crate::Router::new()
        .route("/metrics", metrics)
        .route("/chat", Broadcast);
    let mut one = server_with(&broker, Config::default(), router);
    let a = one.connect("/chat");
    one.send(a, "x");
    broker.cut(0);
    one.advance(Duration::from_secs(1));
    let response = one.get("/metrics");
    let text = std::str::from_utf8(response.body()).unwrap();
    for line in [
        "wsloop_broker_connected 1",
        "wsloop_broker_topics 1",
        "wsloop_broker_connections_total 2",
        "wsloop_broker_gaps_total 1",
        "wsloop_broker_members_notified_total 1",
        "wsloop_broker_publications_total 1",
        "wsloop_broker_messages_received_total 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    let mut without = Harness::new(Config::default(), crate::Router::new().route("/m", metrics));
    let response = without.get("/m");
    assert!(
        !std::str::from_utf8(response.body())
            .unwrap()
            .contains("broker")
    );
}

/// The broker's confirmation of a long name ended the connection, again and again.
#[test]
fn a_topic_with_a_name_above_the_maximum_is_refused() {
    struct ByName;
    impl Handler for ByName {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let topic = message.as_text().expect("text");
            let is_member = cx.subscribe(id, topic);
            let _ = cx.send(id, is_member.to_string());
            cx.publish(topic, "x");
        }
    }
    let broker = Broker::new();
    let mut one = server_with(&broker, Config::default(), ByName);
    let a = one.connect("/");
    one.send(a, "n".repeat(4096));
    assert_eq!(texts(&mut one, a), ["true", "x"]);
    one.send(a, "n".repeat(4097));
    let close = "Close(1009, \"the message is too long to publish\")";
    assert_eq!(texts(&mut one, a)[..2], ["false", close]);
}

/// SUBSCRIBE precedes PUBLISH on the one connection, also if an UNSUBSCRIBE is in transit.
#[test]
fn what_a_client_publishes_after_its_join_comes_back() {
    let broker = Broker::new();
    let mut one = server(&broker);
    broker.hold();
    let first = one.connect("/chat");
    one.send(first, "a");
    broker.release();
    assert_eq!(texts(&mut one, first), ["a"]);
    one.hang_up(first);
    for delay in [0, 999, 1000, 1001] {
        broker.hold();
        one.advance(Duration::from_millis(delay));
        let next = one.connect("/chat");
        one.send(next, "b");
        broker.release();
        assert_eq!(texts(&mut one, next), ["b"], "after {delay} ms");
        one.hang_up(next);
    }
}
