//! Connections of listeners that expect the PROXY protocol.

use super::script::{Bench, Peer, REQUEST, client_frame};
use crate::config::Config;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.9 4660 80\r\n";
const V1_SEEN: &str = "192.0.2.1:4660";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn v2() -> Vec<u8> {
    let tlv = [0x04, 0, 3, 1, 2, 3];
    let address = [192, 0, 2, 2, 10, 0, 0, 9, 0x12, 0x34, 0, 80];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12"[..], &address, &tlv].concat()
}

fn proxy() -> Option<SocketAddr> {
    Some("10.0.0.1:9".parse().unwrap())
}

fn connect(bench: &mut Bench) -> Peer {
    bench.connect_with(proxy(), true)
}

/// Creates a bench whose handler answers each message with the address of its client.
fn reporting(config: Config) -> Bench {
    Bench::new(config, |cx, id, _| {
        let address = cx.peer_addr(id);
        let text = address.map_or("none".to_owned(), |address| address.to_string());
        let _ = cx.send(id, &text);
    })
}

/// Returns the answer to a request and a message: the 101, and the frames behind it.
fn answer(peer: &Peer) -> (String, String) {
    let written = peer.take_written();
    let end = written.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, frames) = written.split_at(end.expect("a response") + 4);
    let texts: Vec<_> = super::script::server_frames(frames)
        .into_iter()
        .map(|(_, payload)| String::from_utf8(payload).unwrap())
        .collect();
    (
        String::from_utf8_lossy(&head[..12]).into_owned(),
        texts.join(" "),
    )
}

fn refused(bench: &Bench) -> Vec<(&'static str, u64)> {
    let stats = bench.engine.stats();
    let refused = stats.refused().filter(|(_, count)| *count > 0);
    refused.collect()
}

#[test]
fn the_header_may_be_split_from_the_request_at_every_byte() {
    let v2 = v2();
    let table = [
        (V1, V1_SEEN),
        (&v2[..], "192.0.2.2:4660"),
        (LOCAL, "10.0.0.1:9"),
        (b"PROXY UNKNOWN\r\n", "10.0.0.1:9"),
    ];
    for (header, expected) in table {
        let message = client_frame(0x81, b"");
        let all = [header, REQUEST.as_bytes(), &message].concat();
        // The first at 0: everything in one read.
        for split in 0..=all.len() {
            let mut bench = reporting(Config::default());
            let peer = connect(&mut bench);
            for part in [&all[..split], &all[split..]] {
                if !part.is_empty() {
                    peer.send_bytes(part);
                    bench.turn();
                }
            }
            let expected = ("HTTP/1.1 101".to_owned(), expected.to_owned());
            assert_eq!(answer(&peer), expected, "{split}");
            let session = bench.engine.session(peer.id).unwrap();
            assert!(session.extra.is_none(), "an idle session owns no memory");
            assert_eq!(session.bytes_in as usize, all.len());
        }
        let mut bench = reporting(Config::default());
        let peer = connect(&mut bench);
        for byte in all {
            peer.send_bytes(&[byte]);
            bench.turn();
        }
        assert_eq!(answer(&peer).1, expected);
    }
}

#[test]
fn a_connection_without_a_header_is_closed_without_an_answer() {
    let texts: [&[u8]; 5] = [
        REQUEST.as_bytes(),
        b"G",
        b"PROXY TCP4 192.0.2.1 10.0.0.9 4660\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ];
    for text in texts {
        let mut bench = Bench::echo(Config::default());
        let peer = connect(&mut bench);
        peer.send_bytes(text);
        bench.turn();
        assert!(peer.wire.lock().is_dropped, "{}", text.escape_ascii());
        assert_eq!(peer.take_written(), b"");
        assert_eq!(refused(&bench), [("proxy_header", 1)]);
        let expected = ["error 0 no valid header of the PROXY protocol"];
        assert_eq!(bench.take_events(), expected);
    }
    // After a header, another one is not a request.
    let mut bench = Bench::echo(Config::default());
    let peer = connect(&mut bench);
    peer.send_bytes(&[V1, V1, REQUEST.as_bytes()].concat());
    bench.turn();
    assert!(peer.take_written().starts_with(b"HTTP/1.1 400 "));
    assert_eq!(refused(&bench), [("protocol", 1)]);
}

#[test]
fn a_header_on_another_listener_is_not_accepted() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect_from(proxy());
    peer.send_bytes(&[V1, REQUEST.as_bytes()].concat());
    bench.turn();
    assert!(peer.take_written().starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn the_header_and_the_request_must_arrive_within_the_handshake_timeout() {
    for text in [&b""[..], &V1[..5], V1, &[V1, b"GET "].concat()] {
        let mut bench = Bench::echo(Config::default());
        let peer = connect(&mut bench);
        if !text.is_empty() {
            peer.send_bytes(text);
        }
        bench.turn_at(9_999);
        assert_eq!(peer.take_written(), b"");
        bench.turn_at(10_000);
        let written = peer.take_written();
        if text.ends_with(b"GET ") {
            assert!(written.starts_with(b"HTTP/1.1 408 "));
        } else {
            assert_eq!(written, b"", "no byte of a request has arrived");
        }
        assert_eq!(refused(&bench), [("handshake_timeout", 1)]);
        peer.end_stream();
        bench.turn();
        assert!(peer.wire.lock().is_dropped);
    }
}

#[test]
fn a_connection_may_end_before_its_header() {
    for length in [0, 1, V1.len() - 1, V1.len()] {
        for is_reset in [false, true] {
            let mut bench = Bench::echo(Config::default());
            let peer = connect(&mut bench);
            if length > 0 {
                peer.send_bytes(&V1[..length]);
            }
            if is_reset {
                peer.fail_read(ErrorKind::ConnectionReset);
            } else {
                peer.end_stream();
            }
            bench.turns(2);
            assert!(peer.wire.lock().is_dropped, "{length}");
            assert_eq!(refused(&bench), []);
            assert_eq!(bench.engine.len(), 0);
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_headers() {
    let mut bench = Bench::echo(Config::default());
    let [silent, partial] = [(); 2].map(|()| connect(&mut bench));
    partial.send_bytes(&V1[..9]);
    bench.turn();
    bench.engine.stop();
    bench.turns(2);
    for peer in [&silent, &partial] {
        assert_eq!(peer.take_written(), b"");
        assert!(peer.wire.lock().is_dropped);
    }
    assert!(bench.has_stopped);
}

#[test]
fn a_connection_without_a_header_is_evicted_as_one_without_a_request() {
    let mut bench = Bench::echo(Config {
        handshakes_max: 1,
        ..Config::default()
    });
    let first = connect(&mut bench);
    first.send_bytes(&V1[..9]);
    bench.turn();
    let _second = connect(&mut bench);
    bench.turn();
    assert!(first.wire.lock().is_dropped);
    assert_eq!(refused(&bench), [("handshakes_max", 1)]);
}

#[test]
fn the_clients_that_headers_name_are_limited_by_address() {
    let mut bench = Bench::echo(Config {
        connections_per_address_max: Some(1),
        handshakes_per_address_max: Some(2),
        ..Config::default()
    });
    let mut status = |header: &[u8]| {
        let peer = connect(&mut bench);
        peer.send_bytes(&[header, REQUEST.as_bytes()].concat());
        bench.turn();
        let written = peer.take_written();
        (peer, String::from_utf8_lossy(&written[9..12]).into_owned())
    };
    let (first, of_first) = status(V1);
    assert_eq!(of_first, "101");
    assert_eq!(status(&v2()).1, "101");
    assert_eq!(status(V1).1, "503");
    assert_eq!(status(V1).1, "429");
    // The proxy itself is limited as a client.
    let _local = status(LOCAL);
    assert_eq!(status(LOCAL).1, "503");
    first.end_stream();
    bench.turn_at(1_000);
    let peer = connect(&mut bench);
    peer.send_bytes(V1);
    bench.turn();
    assert_eq!(bench.engine.connections_by_address(), Some(3));
    for _ in 0..20 {
        bench.turn_at(bench.now + 1_000);
    }
    bench.engine.terminate_all();
    bench.turn();
    assert_eq!(bench.engine.connections_by_address(), Some(0));
}

#[test]
fn a_client_above_its_limit_is_answered_before_its_request_arrives() {
    let mut bench = Bench::echo(Config {
        connections_per_address_max: Some(1),
        ..Config::default()
    });
    let peers = [(); 2].map(|()| connect(&mut bench));
    for peer in &peers {
        peer.send_bytes(V1);
    }
    bench.turn();
    assert_eq!(peers[0].take_written(), b"");
    assert!(peers[1].take_written().starts_with(b"HTTP/1.1 503 "));
    // The rest of its input is discarded.
    peers[1].send_bytes(REQUEST.as_bytes());
    peers[1].end_stream();
    bench.turn();
    assert!(peers[1].wire.lock().is_dropped);
}

#[test]
fn the_request_names_the_client_if_the_header_names_a_trusted_proxy() {
    let mut bench = reporting(Config {
        trusted_proxies: vec!["192.0.2.1".parse().unwrap()],
        connections_per_address_max: Some(1),
        ..Config::default()
    });
    let request = REQUEST.replacen("Host:", "X-Forwarded-For: 198.51.100.7\r\nHost:", 1);
    let peer = connect(&mut bench);
    let message = client_frame(0x81, b"");
    peer.send_bytes(&[V1, request.as_bytes(), &message].concat());
    bench.turn();
    assert_eq!(answer(&peer).1, "198.51.100.7:0");
    // The other header names a client that is not trusted.
    let other = connect(&mut bench);
    other.send_bytes(&[&v2()[..], request.as_bytes(), &message].concat());
    bench.turn();
    assert_eq!(answer(&other).1, "192.0.2.2:4660");
}

#[test]
fn input_behind_the_header_may_be_more_than_a_session_processes_in_a_turn() {
    let mut bench = Bench::echo(Config::default());
    let peer = connect(&mut bench);
    let messages = client_frame(0x81, b"a").repeat(1_500);
    peer.send_bytes(&[V1, REQUEST.as_bytes(), &messages].concat());
    bench.turn();
    let other = bench.open();
    other.send_text("b");
    bench.turns(4);
    assert_eq!(answer(&peer).1.split(' ').count(), 1_500);
    assert_eq!(other.take_texts(), ["b"]);
}

#[test]
fn a_handler_may_end_a_connection_while_input_behind_the_header_is_processed() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| cx.terminate(id));
    let peer = connect(&mut bench);
    let messages = client_frame(0x81, b"a").repeat(3);
    peer.send_bytes(&[V1, REQUEST.as_bytes(), &messages].concat());
    bench.turn();
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(
        bench.take_events(),
        ["open 0", "close 0 1006 \"\" false Us"]
    );
}

#[test]
fn a_session_behind_a_proxy_is_pinged_and_closed_as_others_are() {
    let mut bench = Bench::echo(Config {
        idle_timeout: Some(Duration::from_secs(20)),
        ..Config::default()
    });
    let peer = connect(&mut bench);
    peer.send_bytes(&[V1, REQUEST.as_bytes()].concat());
    bench.turn();
    peer.take_written();
    bench.turn_at(11_000);
    assert_eq!(peer.take_frames(), [(0x89, vec![])]);
    for second in 12..40 {
        bench.turn_at(second * 1_000);
    }
    assert_eq!(peer.take_frames()[0].0, 0x88);
    assert!(peer.wire.lock().is_dropped);
}
