//! A stop: the Closes of sessions that have published wait for the broker.

use super::*;
use crate::config::LagPolicy;
use std::time::Duration;

/// The Close of a stop, which the client answers, as [`texts`] returns it.
const GOING_AWAY: [&str; 2] = ["Close(1001, \"the server is shutting down\")", "End"];

fn stop(harness: &mut Harness<Broadcast>) {
    harness.with_context(|cx| cx.stop());
    harness.run();
}

/// Returns a server that is about to stop, and its only session, whose message "a" the broker has not processed.
fn stopping_with_a_message_in_transit(broker: &Broker) -> (Harness<Broadcast>, Id) {
    let mut one = server(broker);
    let sender = one.connect("/chat");
    broker.hold();
    one.send(sender, "a");
    stop(&mut one);
    (one, sender)
}

#[test]
fn a_stop_closes_a_sender_when_its_last_messages_have_come_back() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let (sender, other) = (one.connect("/chat"), one.connect("/chat"));
    broker.hold();
    one.send(sender, "a");
    one.send(sender, "b");
    stop(&mut one);
    assert_eq!(texts(&mut one, other), GOING_AWAY);
    one.send(sender, "not read any more");
    one.advance(Duration::from_millis(500));
    assert!(texts(&mut one, sender).is_empty());
    broker.release();
    one.run();
    assert_eq!(texts(&mut one, sender), ["a", "b"]);
    one.advance(Duration::from_millis(20));
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
    assert_eq!(broker.processed().len(), 2);
    assert!(one.has_stopped());
}

#[test]
fn a_stop_waits_a_second_for_the_broker() {
    let broker = Broker::new();
    let (mut one, sender) = stopping_with_a_message_in_transit(&broker);
    one.advance(Duration::from_millis(999));
    assert!(texts(&mut one, sender).is_empty());
    one.advance(Duration::from_millis(1));
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

/// A message that is published after the Close of its sender would be published again by the client.
#[test]
fn messages_that_wait_for_a_broker_that_is_away_are_dropped_with_the_close_of_their_sender() {
    for (returns_after, is_returned) in [(500, true), (1500, false)] {
        let broker = Broker::new();
        let mut one = server(&broker);
        let sender = one.connect("/chat");
        let stalled = one.connect("/other");
        one.stall(stalled);
        broker.stop();
        one.run();
        one.send(sender, "a");
        stop(&mut one);
        one.advance(Duration::from_millis(returns_after));
        broker.start();
        one.advance(Duration::from_millis(1600 - returns_after));
        let expected = match is_returned {
            // The gap is reported first.
            true => vec!["a", CLOSE, "End"],
            false => GOING_AWAY.to_vec(),
        };
        assert_eq!(texts(&mut one, sender), expected);
        // A client that does not answer its Close: the server continues to run.
        assert!(!one.has_stopped());
        assert_eq!(broker.processed().len(), usize::from(is_returned));
    }
}

#[test]
fn a_stop_does_not_wait_after_the_grace_period() {
    let broker = Broker::new();
    let config = Config {
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    };
    let mut one = server_with(&broker, config, Broadcast);
    let sender = one.connect("/chat");
    broker.stop();
    one.run();
    one.send(sender, "a");
    one.advance(Duration::from_secs(6));
    stop(&mut one);
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

#[test]
fn a_broker_that_goes_away_during_a_stop_ends_the_wait() {
    let broker = Broker::new();
    let (mut one, sender) = stopping_with_a_message_in_transit(&broker);
    broker.stop();
    one.advance(Duration::from_millis(20));
    // What was written is lost, and nothing is left to wait for.
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

/// The number of batches was counted when they were sent, so that a batch of the last turn was not waited for.
#[test]
fn what_is_published_in_the_turn_of_the_stop_comes_back() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let sender = one.connect("/chat");
    one.send(sender, "x");
    assert_eq!(texts(&mut one, sender), ["x"]);
    broker.hold();
    one.with_context(|cx| {
        cx.publish("/chat", "y");
        cx.stop();
    });
    one.advance(Duration::from_millis(500));
    assert!(texts(&mut one, sender).is_empty());
    broker.release();
    one.advance(Duration::from_millis(20));
    assert_eq!(texts(&mut one, sender), ["y", GOING_AWAY[0], GOING_AWAY[1]]);
}

/// The session waited for the outbox as well, was read again when the outbox was nearly empty, and published messages that did
/// not come back before its Close.
#[test]
fn a_session_that_awaits_its_close_is_not_read_when_the_outbox_becomes_empty() {
    let broker = Broker::new();
    let mut one = Harness::new(Config::default(), Broadcast);
    let options = BackplaneOptions {
        outbox_bytes_max: 64 << 10,
        message_bytes_max: 20_000,
        ..BackplaneOptions::default()
    };
    one.set_backplane(broker.connect(), options);
    let sender = one.connect("/chat");
    one.run();
    broker.stall();
    for _ in 0..3 {
        one.send(sender, "x".repeat(19_000));
    }
    let stats = one.with_context(|cx| cx.stats().backplane.unwrap());
    assert_eq!(stats.waiting, 1);
    stop(&mut one);
    broker.hold();
    broker.resume();
    one.run();
    one.send(sender, "late");
    one.run();
    let published = stats.publications as usize;
    broker.release();
    one.advance(Duration::from_millis(20));
    let received = texts(&mut one, sender);
    assert_eq!(received.len(), published + 2, "{:?}", received.last());
    assert_eq!(broker.processed().len(), stats.batches as usize);
}

#[test]
fn a_second_stop_waits_for_nothing() {
    let broker = Broker::new();
    let (mut one, _) = stopping_with_a_message_in_transit(&broker);
    stop(&mut one);
    assert!(one.has_stopped());
}
