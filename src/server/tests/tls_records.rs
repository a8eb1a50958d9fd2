//! Records of TLS: the same script as without TLS, memory, floods, and what handlers do.

use super::script::{Bench, Peer, REQUEST, client_frame};
use super::tls_peer::{
    ALERT, Acceptor, DATA, HANDSHAKE, Sealer, TLS12, TLS13, TlsPeer, VERSIONS, chacha_config,
    client_config,
};
use crate::config::{Config, LagPolicy};
use crate::server::testing::shared::Shared;
use rustls::{AlertDescription, Error, SupportedProtocolVersion};
use std::time::{Duration, Instant};

/// What a session has caused.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effects {
    messages: Vec<Vec<u8>>,
    events: Vec<String>,
    received: Vec<u8>,
}

/// Creates a bench that echoes and records messages.
fn recording(config: Config) -> (Bench, Shared<Vec<Vec<u8>>>) {
    let messages = Shared::new(Vec::new());
    let recorded = messages.clone();
    let bench = Bench::new(config, move |cx, id, message| {
        recorded.lock().push(message.as_bytes().to_vec());
        let _ = cx.send(id, message);
    });
    (bench, messages)
}

fn script() -> Vec<u8> {
    [
        REQUEST.as_bytes(),
        &client_frame(0x81, b"hello"),
        &client_frame(0x89, b"ping"),
        &client_frame(0x02, &[7; 130]),
        &client_frame(0x80, b"more"),
        &client_frame(0x88, &[3, 232, b'b']),
    ]
    .concat()
}

/// Sends the script without TLS.
fn plain(config: &Config) -> Effects {
    let (mut bench, messages) = recording(config.clone());
    let peer = bench.connect();
    peer.send_bytes(&script());
    bench.turns(3);
    peer.end_stream();
    bench.turns(2);
    let messages = std::mem::take(&mut *messages.lock());
    Effects {
        messages,
        events: bench.take_events(),
        received: peer.take_written(),
    }
}

/// Sends the script with TLS. `split` is applied to the bytes before they are sealed, `split_sealed` to the records, and
/// `stall` is the number of bytes behind the handshake after which the socket accepts nothing for a while.
fn sealed(
    version: &'static SupportedProtocolVersion,
    config: &Config,
    split: usize,
    split_sealed: usize,
    stall: Option<usize>,
) -> (Effects, usize, usize) {
    let (mut bench, messages) = recording(config.clone());
    let mut peer = TlsPeer::connect(&mut bench, client_config(version));
    peer.exchange(&mut bench);
    let script = script();
    let (one, other) = script.split_at(split.min(script.len()));
    let records = [peer.seal(one), peer.seal(other)].concat();
    let mut written = usize::MAX;
    if let Some(stall) = stall {
        peer.peer.set_writable_bytes(stall);
        written = 0;
    }
    let (one, other) = records.split_at(split_sealed.min(records.len()));
    for part in [one, other] {
        if !part.is_empty() {
            peer.peer.send_bytes(part);
            bench.turns(2);
        }
    }
    if written == 0 {
        written = peer.peer.wire.lock().written.len();
        peer.peer.set_writable_bytes(usize::MAX);
    }
    peer.exchange(&mut bench);
    assert!(peer.is_end, "close_notify precedes the end");
    peer.peer.end_stream();
    bench.turns(2);
    assert_eq!(bench.engine.len(), 0);
    let messages = std::mem::take(&mut *messages.lock());
    let effects = Effects {
        messages,
        events: bench.take_events(),
        received: peer.received,
    };
    (effects, records.len(), written)
}

#[test]
fn a_script_has_the_same_effects_with_tls_however_it_is_split_and_stalled() {
    let small = Config {
        receive_buffer_bytes: 1024,
        read_budget_bytes: 1,
        ..Config::default()
    };
    for config in [Config::default(), small] {
        let expected = plain(&config);
        assert_eq!(expected.messages.len(), 2);
        for version in VERSIONS {
            for split in 0..=script().len() {
                let (effects, ..) = sealed(version, &config, split, 0, None);
                assert_eq!(effects, expected, "split at {split}");
            }
            let mut split = 0;
            loop {
                let (effects, len, _) = sealed(version, &config, 0, split, None);
                assert_eq!(effects, expected, "records split at {split}");
                split += 1;
                if split > len {
                    break;
                }
            }
            let mut stall = 0;
            loop {
                let (effects, _, written) = sealed(version, &config, 0, 0, Some(stall));
                assert_eq!(effects, expected, "stalled at {stall}");
                if written < stall {
                    break;
                }
                stall += 1;
            }
            assert!(stall > expected.received.len());
        }
    }
}

fn capacities(bench: &Bench, peer: &Peer) -> [usize; 3] {
    let session = bench.engine.session(peer.id).unwrap();
    session.stream.tls().unwrap().capacities()
}

#[test]
fn an_idle_session_owns_no_buffer_after_traffic() {
    for receive_buffer_bytes in [1024, 80 * 1024] {
        for version in VERSIONS {
            let mut bench = Bench::echo(Config {
                receive_buffer_bytes,
                ..Config::default()
            });
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            for len in [1, 1 << 10, 1 << 14, 1 << 16, 1 << 20, 9 << 20] {
                // The second time, the peer stalls.
                for stall in [false, true] {
                    let payload = vec![len as u8; len];
                    let records = peer.seal(&client_frame(0x82, &payload));
                    if stall {
                        peer.peer.set_writable_bytes(100);
                    }
                    // A part of a record, before and after the rest.
                    peer.peer.send_bytes(&records[..3]);
                    bench.turn();
                    let [input, ..] = capacities(&bench, &peer.peer);
                    assert_eq!(input, 3);
                    peer.peer.send_bytes(&records[3..records.len() - 1]);
                    bench.turns(300);
                    peer.peer.send_bytes(&records[records.len() - 1..]);
                    bench.turns(300);
                    if stall && len > 100 {
                        let [.., output] = capacities(&bench, &peer.peer);
                        assert!((1..90_000).contains(&output), "{output} sealed bytes");
                        peer.peer.set_writable_bytes(usize::MAX);
                    }
                    peer.peer.set_writable_bytes(usize::MAX);
                    peer.exchange(&mut bench);
                    assert!(peer.take_frames() == [(0x82, payload)], "{len}");
                    assert_eq!(capacities(&bench, &peer.peer), [0; 3], "{len}");
                    let session = bench.engine.session(peer.peer.id).unwrap();
                    assert!(session.extra.is_none());
                }
            }
        }
    }
}

/// Opens a session, and returns a sealer for its records.
fn open_sealed(bench: &mut Bench, version: &'static SupportedProtocolVersion) -> (Peer, Sealer) {
    let peer = TlsPeer::open(bench, chacha_config(version));
    let (peer, mut sealer) = peer.into_sealer();
    sealer.is_tls13 = version.version == TLS13.version;
    (peer, sealer)
}

#[test]
fn a_record_that_is_too_long_ends_the_session() {
    for version in VERSIONS {
        for (len, is_valid) in [(1 << 14, true), ((1 << 14) + 1, false)] {
            let mut bench = Bench::echo(Config::default());
            let (peer, mut sealer) = open_sealed(&mut bench, version);
            let frame = client_frame(0x82, &vec![0; len - 8]);
            peer.send_bytes(&sealer.seal(DATA, &frame, 0));
            bench.turns(3);
            assert_eq!(frame.len(), len);
            assert_eq!(peer.wire.lock().is_write_shut, !is_valid);
            peer.end_stream();
            bench.turns(2);
            let error = "error 0 TLS";
            let has_failed = bench.take_events()[1].starts_with(error);
            assert_eq!(has_failed, !is_valid, "{len}");
        }
    }
}

#[test]
fn padding_is_removed_and_counts_against_the_length() {
    let mut bench = Bench::echo(Config::default());
    let (peer, mut sealer) = open_sealed(&mut bench, &TLS13);
    let frame = client_frame(0x81, b"x");
    let space = (1 << 14) - frame.len();
    for padding in [0, 1, 1000, space] {
        peer.send_bytes(&sealer.seal(DATA, &frame, padding));
        bench.turns(2);
        assert!(!peer.take_written().is_empty(), "{padding}");
    }
    peer.send_bytes(&sealer.seal(DATA, &frame, space + 1));
    bench.turns(2);
    assert!(peer.wire.lock().is_write_shut);
}

#[test]
fn empty_records_cost_their_work() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let (peer, mut sealer) = open_sealed(&mut bench, version);
        let other = bench.open();
        let records: Vec<u8> = (0..100_000)
            .flat_map(|_| sealer.seal(DATA, b"", 0))
            .collect();
        peer.send_bytes(&records);
        other.send_text("hello");
        let unread = peer.unread_bytes();
        bench.turn();
        assert_eq!(other.take_texts(), ["hello"]);
        // TLS 1.2 ends the session after 32 of them.
        if version.version == TLS13.version {
            assert!(unread - peer.unread_bytes() < 200_000);
            bench.turns(1000);
            peer.send_bytes(&sealer.seal(DATA, &client_frame(0x81, b"x"), 0));
            bench.turns(2);
            assert!(!peer.take_written().is_empty());
        } else {
            bench.turns(100);
            assert!(peer.wire.lock().is_write_shut);
        }
    }
}

#[test]
fn renegotiation_is_refused() {
    let mut bench = Bench::echo(Config::default());
    let (peer, mut sealer) = open_sealed(&mut bench, &TLS12);
    // A minimal ClientHello.
    let mut hello = vec![1, 0, 0, 41, 3, 3];
    hello.extend([0; 32]);
    hello.extend([0, 0, 2, 0xC0, 0x2B, 1, 0]);
    peer.set_writable_bytes(0);
    peer.send_bytes(&sealer.seal(HANDSHAKE, &hello, 0));
    bench.turns(2);
    peer.set_writable_bytes(usize::MAX);
    bench.turn();
    // The warning no_renegotiation.
    assert_eq!(peer.take_written()[0], ALERT);
    assert!(!peer.wire.lock().is_write_shut);
    peer.send_bytes(&sealer.seal(DATA, &client_frame(0x81, b"x"), 0));
    bench.turn();
    assert_eq!(peer.take_written()[0], DATA);
    peer.send_bytes(&sealer.seal(HANDSHAKE, &hello, 0));
    bench.turn();
    assert!(peer.wire.lock().is_write_shut, "the second time");
}

#[test]
fn a_flood_of_key_updates_causes_neither_much_output_nor_long_turns() {
    let mut bench = Bench::echo(Config::default());
    let mut peer = TlsPeer::open(&mut bench, client_config(&TLS13));
    peer.peer.set_writable_bytes(0);
    let mut records = Vec::new();
    // As many as are allowed without data between them.
    for _ in 0..300 {
        for _ in 0..32 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        records.extend(peer.seal(&client_frame(0x8A, b"")));
    }
    peer.peer.send_bytes(&records);
    let mut longest = Duration::ZERO;
    let mut turns = 0;
    while peer.peer.unread_bytes() > 0 {
        let start = Instant::now();
        bench.turn();
        longest = longest.max(start.elapsed());
        turns += 1;
    }
    println!("{turns} turns, the longest took {longest:?}");
    // A turn opens at most 128 of them. The first ones are read together with those after them.
    assert!(turns >= 60, "{turns}");
    let [.., output] = capacities(&bench, &peer.peer);
    assert!(output < 100, "{output} sealed bytes");
    peer.peer.set_writable_bytes(usize::MAX);
    peer.send(&client_frame(0x81, b"hello"));
    peer.exchange(&mut bench);
    assert_eq!(peer.take_frames(), [(0x81, b"hello".to_vec())]);
    // One more than allowed.
    for _ in 0..33 {
        peer.tls.refresh_traffic_keys().unwrap();
    }
    peer.exchange(&mut bench);
    let alert = AlertDescription::UnexpectedMessage;
    assert_eq!(peer.error, Some(Error::AlertReceived(alert)));
}

#[test]
fn records_of_one_byte_delay_other_sessions_by_few_turns() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut floods: Vec<_> = (0..50)
            .map(|_| TlsPeer::open(&mut bench, client_config(version)))
            .collect();
        let other = bench.open();
        let frames = client_frame(0x82, &[0; 1000]);
        for flood in &mut floods {
            let records: Vec<u8> = frames
                .iter()
                .flat_map(|byte| flood.seal(&[*byte]))
                .collect();
            flood.peer.send_bytes(&records);
        }
        // A turn opens some 8 000 records, and at most 512 of one session.
        other.send_text("x");
        let mut longest = Duration::ZERO;
        for _ in 0..4 {
            let start = Instant::now();
            bench.turn();
            longest = longest.max(start.elapsed());
        }
        assert_eq!(other.take_texts().len(), 1);
        println!("{version:?}: the longest turn took {longest:?}");
        bench.turns(10);
        for flood in &mut floods {
            flood.receive();
            assert_eq!(flood.take_frames().len(), 1);
        }
    }
}

/// A message that is sealed is neither skipped nor sent twice.
#[test]
fn members_that_read_slowly_skip_whole_messages() {
    for version in VERSIONS {
        for policy in [LagPolicy::Skip, LagPolicy::Disconnect] {
            let mut bench = Bench::broadcast(Config {
                lag_bytes_max: 10_000,
                lag_policy: policy,
                ..Config::default()
            });
            let mut slow = TlsPeer::open(&mut bench, client_config(version));
            let sender = bench.open();
            slow.peer.set_writable_bytes(0);
            for number in 0..200 {
                sender.send_text(&format!("{number:>500}"));
                if number % 10 == 0 {
                    slow.peer.set_writable_bytes(700);
                }
                bench.turn();
            }
            slow.peer.set_writable_bytes(usize::MAX);
            slow.exchange(&mut bench);
            let frames = slow.take_frames();
            let mut texts: Vec<_> = frames
                .iter()
                .filter(|(first, _)| *first == 0x81)
                .map(|(_, text)| {
                    let text = std::str::from_utf8(text).unwrap();
                    text.trim().parse::<u32>().unwrap()
                })
                .collect();
            assert!(texts.is_sorted_by(|one, next| one < next));
            let events = bench.take_events();
            let skipped: usize = events
                .iter()
                .filter_map(|event| event.strip_prefix("skip 0 chat "))
                .map(|count| count.parse::<usize>().unwrap())
                .sum();
            if policy == LagPolicy::Skip {
                assert!(skipped > 100);
                assert_eq!(texts.len() + skipped, 200);
                assert_eq!(texts.pop(), Some(199));
            } else {
                assert_eq!(frames.last().unwrap().0, 0x88);
            }
        }
    }
}

#[test]
fn a_peer_above_high_water_is_read_after_on_drain() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config {
            high_water_bytes: 10_000,
            low_water_bytes: 2_000,
            backlog_bytes_max: 300_000,
            receive_buffer_bytes: 1024,
            ..Config::default()
        });
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(0);
        for index in 0..100 {
            peer.send(&client_frame(0x81, format!("{index:>5000}").as_bytes()));
        }
        bench.turns(50);
        assert!(peer.peer.unread_bytes() > 300_000);
        while !bench.take_events().contains(&"drain 0".to_owned()) {
            peer.peer.set_writable_bytes(1000);
            bench.turn();
        }
        peer.peer.set_writable_bytes(usize::MAX);
        peer.exchange(&mut bench);
        let frames = peer.take_frames();
        assert_eq!(frames.len(), 100);
        for (index, (_, text)) in frames.iter().enumerate() {
            assert_eq!(*text, format!("{index:>5000}").into_bytes());
        }
        assert_eq!(capacities(&bench, &peer.peer), [0; 3]);
    }
}

#[test]
fn handlers_may_end_sessions_or_panic_in_the_middle_of_records() {
    for version in VERSIONS {
        for (text, code) in [
            ("close", Some(4000_u16)),
            ("terminate", None),
            ("panic", None),
        ] {
            let mut bench = Bench::new(Config::default(), |cx, id, message| {
                match message.as_text().unwrap() {
                    "close" => drop(cx.close(id, 4000, "enough")),
                    "terminate" => cx.terminate(id),
                    "panic" => std::panic::resume_unwind(Box::new(())),
                    _ => drop(cx.send(id, message)),
                }
            });
            let acceptor = Acceptor::default();
            let mut other = TlsPeer::connect_to(&mut bench, &acceptor, client_config(version));
            other.complete(&mut bench);
            let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, client_config(version));
            peer.complete(&mut bench);
            let mut records = Vec::new();
            for text in ["one", text, "two"] {
                records.extend(peer.seal(&client_frame(0x81, text.as_bytes())));
            }
            peer.peer.send_bytes(&records);
            let turn = std::panic::AssertUnwindSafe(|| bench.turn());
            let turned = std::panic::catch_unwind(turn);
            assert_eq!(turned.is_err(), text == "panic");
            bench.turns(2);
            peer.receive();
            let frames = peer.take_frames();
            if let Some(code) = code {
                assert_eq!(frames[0], (0x81, b"one".to_vec()));
                assert_eq!(frames[1].1[..2], code.to_be_bytes());
                assert!(!peer.is_end, "the peer's Close is expected");
                peer.send(&client_frame(0x88, &code.to_be_bytes()));
                peer.exchange(&mut bench);
                assert!(peer.is_end);
            } else {
                assert!(peer.peer.wire.lock().is_dropped);
            }
            other.send(&client_frame(0x81, b"still there"));
            other.exchange(&mut bench);
            assert_eq!(other.take_frames(), [(0x81, b"still there".to_vec())]);
        }
    }
}

#[test]
fn close_notify_without_a_close_is_an_abnormal_end_after_which_unsent_messages_are_sent() {
    for version in VERSIONS {
        for has_fin in [false, true] {
            let mut bench = Bench::echo(Config::default());
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            peer.peer.set_writable_bytes(0);
            let mut records = peer.seal(&client_frame(0x82, &[1; 30_000]));
            peer.tls.send_close_notify();
            records.extend(peer.take_records());
            peer.peer.send_bytes(&records);
            if has_fin {
                peer.peer.end_stream();
            }
            bench.turns(3);
            peer.peer.set_writable_bytes(usize::MAX);
            bench.turns(3);
            peer.receive();
            assert_eq!(peer.take_frames(), [(0x82, vec![1; 30_000])]);
            assert!(peer.is_end);
            assert!(peer.peer.wire.lock().is_dropped);
            assert_eq!(bench.take_events()[1..], [r#"close 0 1006 "" false Peer"#]);
        }
    }
}

#[test]
fn what_follows_close_notify_is_not_retained() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(0);
        peer.tls.send_close_notify();
        let mut records = peer.seal(&client_frame(0x82, &[1; 30_000]));
        records.extend([23, 3, 3, 64, 0]);
        records.extend([7; 1000]);
        peer.peer.send_bytes(&records);
        bench.turns(3);
        assert_eq!(capacities(&bench, &peer.peer)[0], 0);
    }
}

/// The first write that is short leaves up to 64 KiB.
#[test]
fn a_peer_that_reads_less_than_a_record_at_a_time_leaves_one_sealed_record() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(0);
        let payload = vec![7; 1 << 20];
        peer.send(&client_frame(0x82, &payload));
        bench.turns(50);
        let [.., output] = capacities(&bench, &peer.peer);
        assert!((60_000..90_000).contains(&output), "{output} sealed bytes");
        peer.peer.set_writable_bytes(output + 1000);
        bench.turns(3);
        for _ in 0..20 {
            let [.., output] = capacities(&bench, &peer.peer);
            assert!((1..17_000).contains(&output), "{output} sealed bytes");
            peer.peer.set_writable_bytes(15_000);
            bench.turns(3);
        }
        peer.peer.set_writable_bytes(usize::MAX);
        peer.exchange(&mut bench);
        assert!(peer.take_frames() == [(0x82, payload)]);
    }
}

/// A message of which many bytes are missing is read with a larger buffer than its end.
#[test]
fn tiny_records_that_a_large_buffer_has_received_are_opened_with_a_small_one() {
    for version in VERSIONS {
        for kib in [33, 36, 40, 50, 70] {
            let mut bench = Bench::echo(Config {
                receive_buffer_bytes: 1024,
                ..Config::default()
            });
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            let payload = vec![7; kib << 10];
            let frame = client_frame(0x82, &payload);
            peer.send(&frame[..100]);
            bench.turns(3);
            let records: Vec<u8> = frame[100..]
                .chunks(50)
                .flat_map(|part| peer.seal(part))
                .collect();
            peer.peer.send_bytes(&records);
            peer.exchange(&mut bench);
            assert!(peer.take_frames() == [(0x82, payload)]);
        }
    }
}

#[test]
fn an_end_without_close_notify_is_clean_only_after_both_closes() {
    for version in VERSIONS {
        for has_closed in [false, true] {
            let mut bench = Bench::echo(Config::default());
            let mut peer = TlsPeer::open(&mut bench, client_config(version));
            if has_closed {
                peer.send(&client_frame(0x88, &[3, 232]));
            }
            peer.peer.end_stream();
            bench.turns(3);
            assert!(peer.peer.wire.lock().is_dropped);
            let expected = match has_closed {
                true => r#"close 0 1000 "" true Peer"#,
                false => r#"close 0 1006 "" false Peer"#,
            };
            assert_eq!(bench.take_events()[1..], [expected]);
        }
    }
}

#[test]
fn a_peer_that_never_reads_close_notify_ends_at_the_write_timeout() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.send(&client_frame(0x88, &[3, 232]));
        // The Close, and not all of close_notify.
        peer.peer.set_writable_bytes(40);
        bench.turn();
        assert!(!peer.peer.wire.lock().is_write_shut);
        bench.turn_at(29_999);
        assert!(!peer.peer.wire.lock().is_dropped);
        bench.turn_at(30_000);
        assert!(peer.peer.wire.lock().is_dropped);
        assert_eq!(bench.take_events()[1..], [r#"close 0 1000 "" true Peer"#]);
    }
}

#[test]
fn a_peer_that_does_not_end_its_stream_is_closed_after_the_close_timeout() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::open(&mut bench, client_config(version));
        peer.send(&client_frame(0x88, &[3, 232]));
        peer.exchange(&mut bench);
        assert!(peer.is_end && peer.peer.wire.lock().is_write_shut);
        bench.turn_at(4_999);
        assert!(!peer.peer.wire.lock().is_dropped);
        bench.turn_at(5_000);
        assert!(peer.peer.wire.lock().is_dropped);
    }
}
