//! Limits per client address: what a client above them receives, and that each connection is counted exactly once. The
//! addresses of clients behind trusted proxies.

use super::script::{Bench, Peer, REQUEST, ScriptedStream, Wire, client_frame};
use crate::config::{Config, ForwardedHeader};
use crate::network::Network;
use crate::server::testing::shared::Shared;
use crate::stream::Stream;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn limited(connections: Option<usize>, handshakes: Option<u32>) -> Config {
    Config {
        connections_per_address_max: connections,
        handshakes_per_address_max: handshakes,
        ..Config::default()
    }
}

/// Adds a connection from `from` that sends an opening handshake, and runs a turn. Returns the connection and the
/// response.
fn request(bench: &mut Bench, from: &str) -> (Peer, String) {
    let peer = bench.connect_from(address(from));
    peer.send_bytes(REQUEST.as_bytes());
    bench.turn();
    let written = String::from_utf8_lossy(&peer.take_written()).into_owned();
    (peer, written)
}

/// As [`request`], but ends the connection. Returns the status of the response.
fn status(bench: &mut Bench, from: &str) -> String {
    let (peer, written) = request(bench, from);
    peer.end_stream();
    bench.turn();
    written[9..12].to_owned()
}

fn refused(bench: &Bench, reason: &str) -> u64 {
    let stats = bench.engine.stats();
    let mut refused = stats.refused();
    refused.find(|(name, _)| *name == reason).unwrap().1
}

#[test]
fn connections_above_the_limit_of_their_address_are_answered_with_503() {
    let mut bench = Bench::echo(limited(Some(2), None));
    let (first, written) = request(&mut bench, "192.0.2.1:1");
    assert!(written.starts_with("HTTP/1.1 101 "), "{written}");
    // A connection counts from accept on, also without a request.
    let second = bench.connect_from(address("192.0.2.1:2"));
    assert_eq!(status(&mut bench, "192.0.2.1:3"), "503");
    assert_eq!(status(&mut bench, "[::ffff:192.0.2.1]:3"), "503");
    assert_eq!(status(&mut bench, "192.0.2.2:1"), "101");
    assert_eq!(refused(&bench, "connections_per_address_max"), 2);
    let events = bench.take_events();
    assert!(
        events.contains(&"error 2 connections_per_address_max reached".to_owned()),
        "{events:?}"
    );
    second.end_stream();
    bench.turn();
    assert_eq!(status(&mut bench, "192.0.2.1:4"), "101");
    first.send_text("still open");
    bench.turn();
    assert_eq!(first.take_texts(), ["still open"]);
}

#[test]
fn ipv6_addresses_count_by_their_first_64_bits() {
    let mut bench = Bench::echo(limited(Some(1), None));
    let _first = request(&mut bench, "[2001:db8::1]:1");
    assert_eq!(status(&mut bench, "[2001:db8::ffff:0:0:1]:1"), "503");
    assert_eq!(status(&mut bench, "[2001:db8:0:1::1]:1"), "101");
}

#[test]
fn requests_above_the_rate_of_their_address_are_answered_with_429() {
    let mut bench = Bench::echo(limited(None, Some(2)));
    bench.turn_at(5_000);
    for _ in 0..2 {
        assert_eq!(status(&mut bench, "192.0.2.1:1"), "101");
    }
    let (peer, written) = request(&mut bench, "192.0.2.1:1");
    assert!(
        written.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{written}"
    );
    assert!(written.contains("\r\nretry-after: 1\r\n"), "{written}");
    assert!(written.ends_with("too many requests from this address\n"));
    peer.end_stream();
    assert_eq!(status(&mut bench, "192.0.2.2:1"), "101");
    assert_eq!(refused(&bench, "handshakes_per_address_max"), 1);
    bench.turn_at(5_499);
    assert_eq!(status(&mut bench, "192.0.2.1:1"), "429");
    bench.turn_at(5_500);
    assert_eq!(status(&mut bench, "192.0.2.1:1"), "101");
    assert_eq!(status(&mut bench, "192.0.2.1:1"), "429");
}

#[test]
fn peers_without_an_address_are_not_limited() {
    let mut bench = Bench::echo(limited(Some(1), Some(1)));
    for _ in 0..5 {
        bench.open();
    }
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn an_address_above_its_limit_evicts_no_connection_of_another() {
    let mut bench = Bench::echo(Config {
        connections_max: 3,
        ..limited(Some(1), None)
    });
    let waiting =
        ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"].map(|from| bench.connect_from(address(from)));
    // All are old enough to be evicted at connections_max.
    bench.turn_at(5_000);
    assert_eq!(status(&mut bench, "192.0.2.1:2"), "503");
    assert_eq!(refused(&bench, "connections_per_address_max"), 1);
    assert_eq!(refused(&bench, "connections_max"), 0);
    // Another address does evict the oldest, which then does not count for its address any more.
    assert_eq!(status(&mut bench, "192.0.2.4:1"), "101");
    assert!(waiting[0].wire.lock().is_dropped);
    bench.turn();
    assert_eq!(status(&mut bench, "192.0.2.1:3"), "101");
    bench.turn();
    assert_eq!(bench.engine.connections_by_address(), Some(2));
}

#[test]
fn an_evicted_connection_counts_for_its_address_no_longer() {
    let mut bench = Bench::echo(Config {
        handshakes_max: 1,
        ..limited(Some(2), None)
    });
    let _one = bench.connect_from(address("192.0.2.1:1"));
    bench.turn();
    let _two = bench.connect_from(address("192.0.2.2:1"));
    // The first is evicted, and not reaped yet.
    assert_eq!(bench.engine.connections_by_address(), Some(1));
    let _three = bench.connect_from(address("192.0.2.1:2"));
    let _four = bench.connect_from(address("192.0.2.1:3"));
    bench.turns(3);
    assert_eq!(
        bench.engine.connections_by_address(),
        Some(bench.engine.len() as u64)
    );
}

/// Opens connections of one address, ends each in another way, and expects that none is counted at the end.
#[test]
fn a_connection_is_counted_until_it_has_ended_in_whatever_way() {
    type End = fn(&mut Bench, &Peer);
    let ends: [(&str, End); 10] = [
        ("the peer's Close", |_, peer| {
            peer.send_bytes(&client_frame(0x88, &[]));
            peer.end_stream();
        }),
        ("our Close", |bench, peer| {
            bench.engine.close(peer.id, 1000, "");
            peer.send_bytes(&client_frame(0x88, &1000_u16.to_be_bytes()));
            peer.end_stream();
        }),
        ("a Close without an answer", |bench, peer| {
            bench.engine.close(peer.id, 1000, "");
        }),
        ("terminate", |bench, peer| bench.engine.terminate(peer.id)),
        ("terminate twice", |bench, peer| {
            bench.engine.terminate(peer.id);
            bench.engine.terminate(peer.id);
        }),
        ("the end of the stream", |_, peer| peer.end_stream()),
        ("a reset", |_, peer| {
            peer.fail_read(ErrorKind::ConnectionReset)
        }),
        ("a violation", |_, peer| {
            peer.send_bytes(&client_frame(0x83, &[]))
        }),
        ("nothing", |_, _| {}),
        ("a stalled peer", |_, peer| {
            peer.set_writable_bytes(0);
            peer.send_text("an answer");
        }),
    ];
    for (name, end) in ends {
        let mut bench = Bench::echo(Config {
            idle_timeout: Some(Duration::from_secs(40)),
            ..limited(Some(1), None)
        });
        let (peer, written) = request(&mut bench, "192.0.2.1:1");
        assert!(written.starts_with("HTTP/1.1 101 "), "{written}");
        assert_eq!(status(&mut bench, "192.0.2.1:2"), "503", "{name}");
        assert_eq!(bench.engine.connections_by_address(), Some(1), "{name}");
        end(&mut bench, &peer);
        for second in 0..200 {
            bench.turn_at(bench.now + second % 3 * 1000);
        }
        assert_eq!(bench.engine.len(), 0, "{name}");
        assert_eq!(bench.engine.connections_by_address(), Some(0), "{name}");
        assert_eq!(status(&mut bench, "192.0.2.1:3"), "101", "{name}");
    }
}

#[test]
fn connections_without_a_websocket_are_counted_until_they_have_ended() {
    let mut bench = Bench::echo(limited(Some(1), None));
    let requests = [
        "",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\n",
    ];
    for request in requests {
        let peer = bench.connect_from(address("192.0.2.1:1"));
        peer.send_bytes(request.as_bytes());
        if request.is_empty() {
            peer.wire.lock().reads.clear();
        }
        assert_eq!(status(&mut bench, "192.0.2.1:2"), "503", "{request}");
        for _ in 0..30 {
            bench.turn_at(bench.now + 1000);
        }
        assert_eq!(bench.engine.connections_by_address(), Some(0), "{request}");
    }
    let _open = request(&mut bench, "192.0.2.1:1");
    bench.engine.stop();
    bench.turn();
    bench.engine.stop();
    bench.turns(3);
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn a_flood_from_one_address_has_16_slots_at_most() {
    let mut bench = Bench::echo(limited(Some(3), Some(100)));
    let mut flood = |now, count| {
        bench.turn_at(now);
        let statuses = (0..count).map(|_| {
            let wire = Shared::new(Wire::default());
            let stream = Stream::memory(ScriptedStream(wire.clone()));
            bench.engine.insert(stream, address("192.0.2.1:1"));
            wire
        });
        let wires: Vec<_> = statuses.collect();
        bench.turn();
        let count_of = |start: &[u8]| {
            let is_meant = |wire: &&Shared<Wire>| wire.lock().written.starts_with(start);
            wires.iter().filter(is_meant).count()
        };
        let counts = [count_of(b"HTTP/1.1 503 "), count_of(b"HTTP/1.1 429 ")];
        (counts, bench.engine.len())
    };
    // 3 are admitted, and 16 are being refused.
    assert_eq!(flood(2_000, 1_000), ([97, 900], 19));
    assert_eq!(flood(2_100, 1_000), ([10, 990], 19));
    assert_eq!(refused(&bench, "connections_per_address_max"), 107);
    assert_eq!(refused(&bench, "handshakes_per_address_max"), 1_890);
    assert_eq!(status(&mut bench, "192.0.2.2:1"), "101");
}

/// Returns a configuration that trusts 10/8 and Unix sockets.
fn trusting(config: Config) -> Config {
    Config {
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), Network::UNIX],
        ..config
    }
}

/// Creates a bench whose handler answers each message with the address of its client.
fn reporting(config: Config) -> Bench {
    Bench::new(config, |cx, id, _| {
        let address = cx.peer_addr(id);
        let text = address.map_or("none".to_owned(), |address| address.to_string());
        let _ = cx.send(id, &text);
    })
}

/// Adds a connection from `from` that sends an opening handshake with more header lines, and runs a turn.
fn request_with(bench: &mut Bench, from: Option<SocketAddr>, lines: &str) -> Peer {
    let peer = bench.connect_from(from);
    let (request_line, headers) = REQUEST.split_once("\r\n").unwrap();
    peer.send_bytes(format!("{request_line}\r\n{lines}{headers}").as_bytes());
    bench.turn();
    peer
}

/// As [`request_with`]. Returns the address that the handler sees.
fn seen(bench: &mut Bench, from: Option<SocketAddr>, lines: &str) -> String {
    let peer = request_with(bench, from, lines);
    assert!(peer.take_written().starts_with(b"HTTP/1.1 101 "));
    peer.send_text("");
    bench.turn();
    peer.take_texts().pop().unwrap()
}

#[test]
fn the_client_of_a_trusted_proxy_is_the_one_that_the_proxy_names() {
    let mut bench = reporting(trusting(Config::default()));
    let proxy = address("10.0.0.1:9");
    let table = [
        (proxy, "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1:0"),
        (
            proxy,
            "x-forwarded-for: 198.51.100.9, 192.0.2.1:7, 10.0.0.2\r\n",
            "192.0.2.1:7",
        ),
        (
            proxy,
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n",
            "192.0.2.1:0",
        ),
        (proxy, "X-Forwarded-For: unknown\r\n", "10.0.0.1:9"),
        (proxy, "Forwarded: for=192.0.2.1\r\n", "10.0.0.1:9"),
        (proxy, "", "10.0.0.1:9"),
        (
            address("[::ffff:10.0.0.1]:9"),
            "X-Forwarded-For: 192.0.2.1\r\n",
            "192.0.2.1:0",
        ),
        (None, "X-Forwarded-For: 2001:db8::1\r\n", "[2001:db8::1]:0"),
        (None, "", "none"),
        // Not trusted.
        (
            address("192.0.2.9:9"),
            "X-Forwarded-For: 192.0.2.1\r\n",
            "192.0.2.9:9",
        ),
        (
            address("11.0.0.1:9"),
            "X-Forwarded-For: 10.0.0.1\r\n",
            "11.0.0.1:9",
        ),
    ];
    for (from, lines, expected) in table {
        assert_eq!(seen(&mut bench, from, lines), expected, "{from:?} {lines}");
    }
    let mut bench = reporting(Config {
        forwarded_header: ForwardedHeader::Forwarded,
        ..trusting(Config::default())
    });
    let lines = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=\"[2001:db8::1]:7\";proto=https\r\n";
    assert_eq!(seen(&mut bench, proxy, lines), "[2001:db8::1]:7");
    // By default no proxy is trusted.
    let mut bench = reporting(Config::default());
    let lines = "X-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(seen(&mut bench, proxy, lines), "10.0.0.1:9");
    assert_eq!(seen(&mut bench, None, lines), "none");
}

#[test]
fn clients_behind_a_proxy_are_limited_each_by_its_own_address() {
    let mut bench = Bench::echo(trusting(limited(Some(1), Some(3))));
    let proxy = address("10.0.0.1:9");
    let mut status = |from, client: &str| {
        let peer = request_with(&mut bench, from, &format!("X-Forwarded-For: {client}\r\n"));
        let written = peer.take_written();
        (peer, String::from_utf8_lossy(&written[9..12]).into_owned())
    };
    let (_first, of_first) = status(proxy, "192.0.2.1");
    let (_second, of_second) = status(proxy, "192.0.2.2");
    assert_eq!([of_first, of_second], ["101", "101"]);
    // Through another proxy and without one, the client is the same.
    assert_eq!(status(address("10.9.9.9:9"), "192.0.2.1").1, "503");
    assert_eq!(status(None, "192.0.2.1").1, "503");
    assert_eq!(status(proxy, "192.0.2.1").1, "429");
    assert_eq!(status(proxy, "10.0.0.2, 192.0.2.1").1, "429");
    assert_eq!(status(address("192.0.2.2:5"), "192.0.2.3").1, "503");
    assert_eq!(refused(&bench, "connections_per_address_max"), 3);
    assert_eq!(refused(&bench, "handshakes_per_address_max"), 2);
    assert_eq!(bench.engine.connections_by_address(), Some(2));
    bench.engine.terminate_all();
    bench.turn();
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn connections_of_a_proxy_count_for_no_address_before_their_requests() {
    let mut bench = Bench::echo(trusting(limited(Some(1), Some(1))));
    let proxy = address("10.0.0.1:9");
    let waiting = [(); 5].map(|()| bench.connect_from(proxy));
    bench.turn();
    assert_eq!(bench.engine.connections_by_address(), Some(0));
    waiting[0].end_stream();
    waiting[1].send_bytes(b"BAD\r\n");
    waiting[2].send_bytes(b"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    waiting[3].send_bytes(b"HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    bench.turn();
    let written = waiting[3].take_written();
    assert!(
        written.starts_with(b"HTTP/1.1 429 "),
        "{}",
        written.escape_ascii()
    );
    assert!(
        written.ends_with(b"\r\n\r\n"),
        "the answer to HEAD has no body"
    );
    bench.turn_at(10_000);
    assert_eq!(
        waiting[4].take_written(),
        b"",
        "no byte of a request has arrived"
    );
    for _ in 0..10 {
        bench.turn_at(bench.now + 1000);
    }
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn a_proxy_that_names_no_client_is_limited_as_a_client() {
    let mut bench = Bench::echo(trusting(limited(Some(1), None)));
    let proxy = address("10.0.0.1:9");
    let first = request_with(&mut bench, proxy, "");
    let second = request_with(&mut bench, proxy, "X-Forwarded-For: unknown\r\n");
    assert!(first.take_written().starts_with(b"HTTP/1.1 101 "));
    assert!(second.take_written().starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_connection_whose_handler_panics_is_counted_until_it_has_ended() {
    let mut bench = Bench::new(limited(Some(1), None), |_, _, _| panic!("a fault"));
    let (peer, _) = request(&mut bench, "192.0.2.1:1");
    peer.send_text("hi");
    let turn = catch_unwind(AssertUnwindSafe(|| bench.turn()));
    assert!(turn.is_err());
    assert_eq!(bench.engine.connections_by_address(), Some(1));
    bench.turns(2);
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn connections_of_an_internal_listener_exceed_connections_max_by_4_and_have_no_limit_per_address() {
    let config = Config {
        connections_max: 2,
        trusted_proxies: vec!["192.0.2.2".parse().unwrap()],
        ..limited(Some(1), Some(1))
    };
    let mut bench = Bench::echo(config);
    for client in ["192.0.2.1:1", "192.0.2.3:1"] {
        assert!(request(&mut bench, client).1.starts_with("HTTP/1.1 101 "));
    }
    let mut open = Vec::new();
    for expected in ["101", "101", "101", "101", "503"] {
        // One has the address of a trusted proxy, all others an address that has reached its limits.
        let from = if open.len() == 1 {
            "192.0.2.2:9"
        } else {
            "192.0.2.1:9"
        };
        let peer = bench.connect_internal(address(from));
        peer.send_bytes(REQUEST.as_bytes());
        bench.turn();
        let written = String::from_utf8_lossy(&peer.take_written()).into_owned();
        assert_eq!(&written[9..12], expected, "{written}");
        open.push(peer);
    }
    assert_eq!(bench.engine.connections_by_address(), Some(2));
    assert_eq!(refused(&bench, "connections_max"), 1);
    for peer in &open {
        peer.end_stream();
    }
    bench.turn();
    assert_eq!(status(&mut bench, "192.0.2.4:1"), "503");
    assert_eq!(bench.engine.connections_by_address(), Some(2));
}
