//! A stop: the Closes of sessions that have published wait for the broker.

use super::*;
use std::time::Duration;

/// The Close of a stop, which the client answers, as [`texts`] returns it.
const GOING_AWAY: [&str; 2] = ["Close(1001, \"the server is shutting down\")", "End"];

fn stop(harness: &mut Harness<Broadcast>) {
    harness.with_context(|cx| cx.stop());
    harness.run();
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
    let mut one = server(&broker);
    let sender = one.connect("/chat");
    broker.hold();
    one.send(sender, "a");
    stop(&mut one);
    one.advance(Duration::from_millis(999));
    assert!(texts(&mut one, sender).is_empty());
    one.advance(Duration::from_millis(1));
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

#[test]
fn a_stop_does_not_wait_for_a_broker_that_is_away() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let sender = one.connect("/chat");
    broker.hold();
    one.send(sender, "a");
    broker.stop();
    one.run();
    stop(&mut one);
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

#[test]
fn a_broker_that_goes_away_during_a_stop_ends_the_wait() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let sender = one.connect("/chat");
    broker.hold();
    one.send(sender, "a");
    stop(&mut one);
    broker.stop();
    one.advance(Duration::from_millis(20));
    assert_eq!(texts(&mut one, sender), GOING_AWAY);
}

#[test]
fn messages_that_were_read_in_the_last_turn_before_a_stop_come_back() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let ids: Vec<_> = (0..50).map(|_| one.connect("/chat")).collect();
    for id in &ids {
        one.send(*id, "x");
        one.received(*id);
    }
    broker.hold();
    for id in &ids {
        one.send(*id, "y");
    }
    one.with_context(|cx| {
        cx.publish("/chat", "from a timer");
        cx.stop();
    });
    one.run();
    broker.release();
    one.run();
    one.advance(Duration::from_millis(20));
    for id in ids {
        let received = texts(&mut one, id);
        let ys = received.iter().filter(|text| *text == "y").count();
        assert_eq!(ys, 50, "{received:?}");
        assert_eq!(received[received.len() - 2..], GOING_AWAY);
    }
}

#[test]
fn a_second_stop_waits_for_nothing() {
    let broker = Broker::new();
    let mut one = server(&broker);
    let sender = one.connect("/chat");
    broker.hold();
    one.send(sender, "a");
    stop(&mut one);
    stop(&mut one);
    assert!(one.has_stopped());
}
