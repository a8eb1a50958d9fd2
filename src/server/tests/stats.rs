//! The counters of [`Stats`](crate::Stats) match the events of a scripted run.

use super::script::{Bench, Peer, client_frame};
use crate::config::{Config, LagPolicy};

/// Returns the named counts that are not zero.
fn counted(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
    counts.filter(|(_, count)| *count > 0).collect()
}

fn messages_out(bench: &Bench, peer: &Peer) -> u64 {
    bench.engine.session(peer.id).unwrap().messages_out
}

#[test]
fn an_echo_counts_once_in_each_direction() {
    let mut bench = Bench::echo(Config::default());
    let (peer, _other) = (bench.open(), bench.open());
    let opened = bench.engine.stats();
    assert_eq!((opened.connections, opened.connections_open), (2, 2));
    peer.send_text("hi");
    peer.send_text("you");
    bench.turn();
    let stats = bench.engine.stats();
    assert_eq!((stats.messages_in, stats.messages_out), (2, 2));
    assert_eq!(stats.bytes_in - opened.bytes_in, 8 + 9);
    assert_eq!(stats.bytes_out - opened.bytes_out, 4 + 5);
    let session = bench.engine.session(peer.id).unwrap();
    assert_eq!((session.messages_in, session.messages_out), (2, 2));
    peer.send_bytes(&client_frame(0x88, &4321_u16.to_be_bytes()));
    peer.end_stream();
    bench.turns(3);
    let stats = bench.engine.stats();
    assert_eq!((stats.connections, stats.connections_open), (2, 1));
    assert_eq!(counted(stats.closes()), [("4000-4999", 1)]);
    assert!(stats.turns.is_none(), "turn times are not requested");
}

#[test]
fn a_publication_counts_once_for_each_member() {
    let mut bench = Bench::broadcast(Config::default());
    let members: Vec<Peer> = (0..3).map(|_| bench.open()).collect();
    members[0].send_text("to all");
    bench.turn();
    assert!(bench.engine.unsubscribe(members[1].id, "chat"));
    members[0].send_text("to two");
    bench.turn();
    assert_eq!(bench.engine.stats().messages_out, 5);
    assert!(bench.engine.unsubscribe(members[2].id, "chat"));
    assert_eq!(messages_out(&bench, &members[1]), 1);
    assert_eq!(messages_out(&bench, &members[2]), 2);
}

#[test]
fn skipped_messages_are_not_counted_as_sent() {
    let mut bench = Bench::broadcast(Config {
        lag_bytes_max: 20_000,
        lag_policy: LagPolicy::Skip,
        ..Config::default()
    });
    let (fast, slow) = (bench.open(), bench.open());
    slow.set_writable_bytes(0);
    for _ in 0..100 {
        fast.send_text(&"x".repeat(1000));
        bench.turn();
    }
    let stats = bench.engine.stats();
    assert_eq!(stats.members_lagging, 1);
    let unsent = bench.engine.buffered_amount(slow.id);
    assert!(unsent > 20_000 && stats.backlog_bytes == unsent);
    slow.set_writable_bytes(usize::MAX);
    bench.turns(3);
    let arrived = slow.take_texts().len() as u64;
    let stats = bench.engine.stats();
    assert!(arrived < 100);
    assert_eq!(stats.messages_skipped, 100 - arrived);
    assert_eq!(stats.messages_out, 100 + arrived);
    assert_eq!((stats.members_lagging, stats.backlog_bytes), (0, 0));
    assert!(bench.engine.unsubscribe(slow.id, "chat"));
    assert_eq!(messages_out(&bench, &slow), arrived);
}

#[test]
fn a_refusal_is_counted_by_its_reason() {
    let mut bench = Bench::echo(Config {
        connections_max: 2,
        ..Config::default()
    });
    let _stays = bench.open();
    let wrong = bench.connect();
    let _late = bench.connect();
    bench.turn();
    assert_eq!(
        counted(bench.engine.stats().refused()),
        [("connections_max", 1)]
    );
    wrong.send_bytes(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    wrong.end_stream();
    bench.turns(3);
    let plain = bench.connect();
    plain.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    plain.end_stream();
    bench.turns(3);
    let stats = bench.engine.stats();
    assert_eq!(
        counted(stats.refused()),
        [("protocol", 1), ("connections_max", 1)]
    );
    assert_eq!((stats.http_requests, stats.connections), (1, 1));
}
