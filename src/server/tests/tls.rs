//! TLS below the sessions: the handshake, records, ends and failures.

use super::script::{Bench, Peer, REQUEST, client_frame};
use super::tls_peer::{
    Acceptor, DATA, HANDSHAKE, Sealer, TLS13, TlsPeer, VERSIONS, chacha_config, client_config,
    connect_raw,
};
use crate::config::Config;
use crate::engine::Readiness;
use crate::server::tests::script::NoEnvironment;
use rustls::Error;

/// Opens a session, and returns a sealer for its records.
fn open_sealed(
    bench: &mut Bench,
    version: &'static rustls::SupportedProtocolVersion,
) -> (Peer, Sealer) {
    let peer = TlsPeer::open(bench, chacha_config(version));
    let (peer, mut sealer) = peer.into_sealer();
    sealer.is_tls13 = version.version == TLS13.version;
    (peer, sealer)
}

fn small_buffer() -> Config {
    Config {
        receive_buffer_bytes: 1024,
        ..Config::default()
    }
}

/// Reports once that the stream is readable. No later poll does.
fn report_readable(bench: &mut Bench, peer: &Peer, is_end: bool) {
    let readiness = Readiness {
        is_readable: true,
        is_writable: false,
        is_end,
        is_error: false,
    };
    bench.engine.mark(peer.id, readiness);
}

#[test]
fn sessions_of_both_versions_echo() {
    for version in VERSIONS {
        for config in [Config::default(), small_buffer()] {
            let mut bench = Bench::echo(config);
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            for len in [0, 1, 1000, 20_000, 300_000] {
                let payload = vec![len as u8; len];
                peer.send(&client_frame(0x82, &payload));
                peer.exchange(&mut bench);
                assert!(peer.take_frames() == [(0x82, payload)], "{len}");
            }
            peer.send(&client_frame(0x88, &[3, 232]));
            peer.exchange(&mut bench);
            assert_eq!(peer.take_frames(), [(0x88, vec![3, 232])]);
            assert!(peer.is_end, "the Close precedes close_notify");
            assert!(peer.peer.wire.lock().is_write_shut);
            peer.peer.end_stream();
            bench.turn();
            assert!(peer.peer.wire.lock().is_dropped);
            assert_eq!(bench.take_events()[1..], [r#"close 0 1000 "" true Peer"#]);
        }
    }
}

/// rustls finds the messages of a handshake in the buffer that contained them.
#[test]
fn a_part_of_a_handshake_message_before_an_answer_does_not_panic() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let (peer, mut sealer) = open_sealed(&mut bench, version);
        let message = sealer.seal(DATA, &client_frame(0x81, b"hello"), 0);
        let part = sealer.seal(HANDSHAKE, &[1, 0], 0);
        peer.send_bytes(&[message, part].concat());
        bench.turns(3);
        assert!(!peer.take_written().is_empty());
        peer.end_stream();
        bench.turns(3);
        assert!(peer.wire.lock().is_dropped);
    }
}

#[test]
fn a_part_of_a_handshake_message_before_an_error_does_not_panic() {
    let part = [22, 3, 1, 0, 2, 1, 0xFF];
    let others: [&[u8]; 4] = [
        &[21, 3, 3, 0, 2, 1, 0],
        &[23, 3, 3, 0, 1, 0],
        &[99; 20],
        &[22, 3, 1, 0, 2, 0xFF, 0xFF],
    ];
    for other in others {
        for at_once in [true, false] {
            let mut bench = Bench::echo(Config::default());
            let peer = connect_raw(&mut bench, &Acceptor::default());
            peer.send_bytes(&part);
            if !at_once {
                bench.turn();
            }
            peer.send_bytes(other);
            bench.turns(3);
            assert!(peer.wire.lock().is_write_shut, "{other:?}");
        }
    }
}

/// A read opens at most 128 records.
#[test]
fn the_input_may_end_with_the_last_record_that_one_read_opens() {
    for version in VERSIONS {
        for count in [127, 128, 129, 255, 256, 257] {
            let mut bench = Bench::echo(Config::default());
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            let records: Vec<u8> = (0..count)
                .flat_map(|_| peer.seal(&client_frame(0x81, b"x")))
                .collect();
            peer.peer.send_bytes(&records);
            peer.exchange(&mut bench);
            assert_eq!(peer.take_frames().len(), count);
            assert_eq!(bench.take_events(), ["open 0"], "{count} records");
        }
    }
}

#[test]
fn input_that_arrives_while_opened_bytes_wait_is_read_after_them() {
    for version in VERSIONS {
        let mut bench = Bench::new(small_buffer(), |cx, id, message| {
            if message.as_bytes() == b"pause" {
                cx.pause(id);
            }
            let _ = cx.send(id, message);
        });
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        let long = "x".repeat(3000);
        let both = [
            client_frame(0x81, b"pause"),
            client_frame(0x81, long.as_bytes()),
        ];
        peer.send(&both.concat());
        report_readable(&mut bench, &peer.peer, false);
        bench.turn_with(0, &mut NoEnvironment);
        peer.send(&client_frame(0x81, b"last"));
        report_readable(&mut bench, &peer.peer, false);
        bench.turn_with(0, &mut NoEnvironment);
        assert!(bench.engine.resume(peer.peer.id));
        for _ in 0..10 {
            bench.turn_with(0, &mut NoEnvironment);
        }
        peer.receive();
        let texts: Vec<_> = peer
            .take_frames()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(
            texts,
            [b"pause".to_vec(), long.into_bytes(), b"last".to_vec()]
        );
    }
}

#[test]
fn the_end_of_the_stream_behind_a_part_of_a_record_is_read() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        let record = peer.seal(&client_frame(0x81, b"x"));
        peer.peer.send_bytes(&record[..10]);
        peer.peer.end_stream();
        report_readable(&mut bench, &peer.peer, true);
        for _ in 0..3 {
            bench.turn_with(0, &mut NoEnvironment);
        }
        assert!(peer.peer.wire.lock().is_dropped);
        assert_eq!(bench.take_events()[1..], [r#"close 0 1006 "" false Peer"#]);
    }
}

#[test]
fn urgent_data_in_the_handshake_does_not_occupy_the_loop() {
    let mut bench = Bench::echo(Config::default());
    let peer = connect_raw(&mut bench, &Acceptor::default());
    peer.send_bytes(&[22, 3, 1]);
    report_readable(&mut bench, &peer, true);
    for _ in 0..3 {
        bench.turn_with(0, &mut NoEnvironment);
    }
    assert!(!bench.engine.has_work());
    assert!(!peer.wire.lock().is_dropped);
}

#[test]
fn the_write_timeout_also_holds_if_only_sealed_bytes_are_unsent() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(10);
        peer.send(&client_frame(0x81, b"hello"));
        bench.turn();
        // The default write_timeout is 30 s. A byte now and then is no progress.
        for second in 1..30 {
            peer.peer.set_writable_bytes(usize::from(second % 10 == 0));
            bench.turn_at(second * 1000);
        }
        assert!(!peer.peer.wire.lock().is_dropped);
        bench.turn_at(30_000);
        assert!(peer.peer.wire.lock().is_dropped);
        let events = bench.take_events();
        assert_eq!(events[1], "error 0 write_timeout reached");
    }
}

#[test]
fn progress_with_sealed_bytes_postpones_the_write_timeout() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(0);
        peer.send(&client_frame(0x82, &vec![0; 500_000]));
        bench.turns(5);
        for half_minute in 1..5 {
            // More than the bytes that postpone the deadline.
            peer.peer.set_writable_bytes(70_000);
            bench.turn_at(half_minute * 29_000);
        }
        assert!(!peer.peer.wire.lock().is_dropped);
        peer.peer.set_writable_bytes(usize::MAX);
        bench.turns(10);
        peer.receive();
        assert_eq!(peer.take_frames()[0].1.len(), 500_000);
    }
}

#[test]
fn nothing_is_written_after_our_close_notify() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let (peer, mut sealer) = open_sealed(&mut bench, version);
        peer.send_bytes(&sealer.seal(DATA, &client_frame(0x88, &[3, 232]), 0));
        bench.turn();
        assert!(peer.wire.lock().is_write_shut);
        peer.send_bytes(&sealer.seal(DATA, b"late", 0));
        peer.send_bytes(&sealer.seal(HANDSHAKE, &[24, 0, 0, 1, 1], 0));
        peer.send_bytes(&[99; 100]);
        bench.turns(3);
        peer.end_stream();
        bench.turns(3);
        assert!(peer.wire.lock().is_dropped);
        assert_eq!(bench.take_events()[1..], [r#"close 0 1000 "" true Peer"#]);
    }
}

#[test]
fn messages_before_an_invalid_record_are_delivered_and_its_alert_arrives() {
    for version in VERSIONS {
        for (len, config) in [
            (5, Config::default()),
            (5000, small_buffer()),
            (15_000, Config::default()),
        ] {
            let mut bench = Bench::new(config, |cx, id, message| {
                // Written at once, and not in the flush phase.
                let _ = cx.send(id, vec![0; 20_000]);
                cx.publish("seen", message);
            });
            let witness = bench.open_member("seen");
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            let mut records = peer.seal(&client_frame(0x82, &vec![7; len]));
            records.extend(peer.seal(b"more").iter().map(|byte| byte ^ 1).skip(5));
            peer.peer.send_bytes(&records);
            bench.turns(10);
            peer.receive();
            assert_eq!(witness.take_frames(), [(0x82, vec![7; len])]);
            assert!(
                matches!(peer.error, Some(Error::AlertReceived(_))),
                "{:?}",
                peer.error
            );
            assert!(peer.peer.wire.lock().is_write_shut);
            peer.peer.end_stream();
            bench.turn();
            let events = bench.take_events();
            assert!(events[2].starts_with("error 1 TLS"), "{events:?}");
        }
    }
}

#[test]
fn handshakes_that_fail_count_against_the_budget_of_the_turn() {
    let mut bench = Bench::echo(Config::default());
    let acceptor = Acceptor::default();
    let peers: Vec<_> = (0..14)
        .map(|_| {
            let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, client_config(&TLS13));
            let mut records = peer.take_records();
            records.extend([99; 20]);
            peer.peer.send_bytes(&records);
            peer
        })
        .collect();
    for answered in [4, 8, 12, 14] {
        bench.turn();
        let count = peers
            .iter()
            .filter(|peer| !peer.peer.wire.lock().written.is_empty())
            .count();
        assert_eq!(count, answered);
    }
}

/// 3 000 records with one byte of a ClientHello each take as long as a handshake.
#[test]
fn parts_of_handshake_messages_count_against_the_budget_of_the_turn() {
    let mut bench = Bench::echo(Config::default());
    let acceptor = Acceptor::default();
    let hello = [&[1, 0, 62, 128][..], &[3; 2996]].concat();
    let records: Vec<u8> = hello
        .iter()
        .flat_map(|byte| [HANDSHAKE, 3, 1, 0, 1, *byte])
        .collect();
    let mut peers: Vec<_> = (0..16)
        .map(|_| connect_raw(&mut bench, &acceptor))
        .collect();
    for peer in &peers {
        peer.send_bytes(&records);
    }
    for _ in 0..30 {
        let before = peers.len();
        bench.turn();
        peers.retain(|peer| peer.unread_bytes() > 0);
        assert!(
            before - peers.len() <= 4,
            "{} of them",
            before - peers.len()
        );
    }
    assert!(peers.is_empty(), "{} are not read", peers.len());
}

#[test]
fn the_counters_of_bytes_are_those_of_the_messages() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        let message = client_frame(0x81, b"x");
        for _ in 0..3 {
            let records: Vec<u8> = (0..200).flat_map(|_| peer.seal(&message)).collect();
            peer.peer.send_bytes(&records);
            peer.exchange(&mut bench);
        }
        let expected = (REQUEST.len() + 600 * message.len()) as u64;
        assert_eq!(bench.engine.stats().bytes_in, expected);
        let session = bench.engine.session(peer.peer.id).unwrap();
        assert_eq!(session.bytes_in, expected);
    }
}

#[test]
fn the_work_of_tiny_records_counts_in_the_turn_that_opens_them() {
    let mut bench = Bench::echo(Config::default());
    let mut peers: Vec<_> = (0..200)
        .map(|_| TlsPeer::open(&mut bench, client_config(&TLS13)))
        .collect();
    let frame = client_frame(0x81, &[b'x'; 110]);
    for peer in &mut peers {
        let records: Vec<u8> = frame.iter().flat_map(|byte| peer.seal(&[*byte])).collect();
        peer.peer.send_bytes(&records);
    }
    bench.turn();
    let unread = |peer: &&TlsPeer| peer.peer.unread_bytes() > 0;
    let left = peers.iter().filter(unread).count();
    assert!((100..150).contains(&left), "{left} sessions are not read");
    bench.turns(2);
    assert_eq!(peers.iter().filter(unread).count(), 0);
}

#[test]
fn a_key_update_may_follow_the_handshake_at_once() {
    let mut bench = Bench::echo(Config::default());
    let mut peer = TlsPeer::connect(&mut bench, client_config(&TLS13));
    peer.send(b"");
    bench.turn();
    peer.receive();
    let mut records = peer.take_records();
    for _ in 0..3 {
        peer.tls.refresh_traffic_keys().unwrap();
        records.extend(peer.take_records());
    }
    records.extend(peer.seal(REQUEST.as_bytes()));
    peer.peer.send_bytes(&records);
    peer.exchange(&mut bench);
    assert!(
        peer.received.starts_with(b"HTTP/1.1 101 "),
        "{:?}",
        peer.error
    );
}
