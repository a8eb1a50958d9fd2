//! Streams with short, interrupted and failing calls, and the ways in which a session ends: close, violation, refusal,
//! reset, end of stream, stop.

use super::script::{Bench, REQUEST, client_frame, server_frames};
use crate::config::Config;
use crate::proto::Message;
use std::io::ErrorKind;

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn reads_and_writes_of_one_byte_do_not_change_the_result() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.wire.lock().call_bytes_max = 1;
    peer.send_bytes(REQUEST.as_bytes());
    peer.send_text("hello");
    peer.send_bytes(&client_frame(0x89, b"p"));
    peer.send_bytes(&client_frame(0x88, &close_frame(1000, "bye")));
    peer.end_stream();
    bench.turns(800);
    let written = peer.take_written();
    let head_len = written
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    let frames = server_frames(&written[head_len..]);
    let expected = [
        (0x81, b"hello".to_vec()),
        (0x8A, b"p".to_vec()),
        (0x88, close_frame(1000, "bye")),
    ];
    assert_eq!(frames, expected);
    assert_eq!(
        bench.take_events(),
        ["open 0", r#"close 0 1000 "bye" true Peer"#]
    );
    assert!(peer.wire.lock().is_dropped);
}

#[test]
fn an_interrupted_read_is_retried() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.fail_read(ErrorKind::Interrupted);
    peer.send_text("hello");
    bench.turn();
    assert_eq!(peer.take_texts(), ["hello"]);
}

#[test]
fn several_messages_in_one_read_are_answered_in_one_write() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.send_bytes(
        &[
            client_frame(0x81, b"a"),
            client_frame(0x82, b"b"),
            client_frame(0x81, b"c"),
        ]
        .concat(),
    );
    bench.turn();
    assert_eq!(peer.wire.lock().write_calls, 1);
    assert_eq!(
        peer.take_frames(),
        [
            (0x81, b"a".to_vec()),
            (0x82, b"b".to_vec()),
            (0x81, b"c".to_vec())
        ]
    );
}

#[test]
fn the_unsent_rest_of_a_large_message_is_queued() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    let large = "x".repeat(60_000);
    peer.set_writable_bytes(10_001);
    peer.send_text(&large);
    peer.send_text("small");
    bench.turns(2);
    assert_eq!(bench.engine.stream_mut(peer.id).map(|_| ()), Some(()));
    peer.set_writable_bytes(usize::MAX);
    bench.turns(2);
    assert_eq!(peer.take_texts(), [large, "small".to_owned()]);
}

#[test]
fn a_reset_in_the_middle_of_a_frame_is_reported_as_1006() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.send_bytes(&client_frame(0x81, b"hello")[..7]);
    peer.fail_read(ErrorKind::ConnectionReset);
    bench.turns(2);
    let events = bench.take_events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[1].starts_with("error 0 "), "{events:?}");
    assert_eq!(events[2], r#"close 0 1006 "" false Peer"#);
    assert_eq!(bench.engine.len(), 0);
}

#[test]
fn a_write_that_fails_ends_the_session_once() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.wire.lock().write_error = Some(ErrorKind::BrokenPipe);
    peer.send_text("a");
    peer.send_text("b");
    bench.turns(3);
    let closes = bench
        .take_events()
        .iter()
        .filter(|event| event.starts_with("close 0 1006"))
        .count();
    assert_eq!(closes, 1);
}

#[test]
fn a_peer_that_half_closes_still_receives_its_replies() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.send_text("last");
    peer.end_stream();
    bench.turns(2);
    assert_eq!(peer.take_texts(), ["last"]);
    assert_eq!(bench.take_events()[1..], [r#"close 0 1006 "" false Peer"#]);
}

#[test]
fn after_the_closing_handshake_the_server_shuts_its_write_side_and_waits_for_the_end() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.send_bytes(&client_frame(0x88, &close_frame(1001, "")));
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, close_frame(1001, ""))]);
    assert!(peer.wire.lock().is_write_shut);
    assert!(!peer.wire.lock().is_dropped);
    peer.end_stream();
    bench.turns(2);
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(
        bench.take_events(),
        ["open 0", r#"close 0 1001 "" true Peer"#]
    );
}

#[test]
fn our_close_answered_by_the_peer_is_a_clean_close_by_us() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        assert!(cx.close(id, 4000, "enough"));
        assert!(!cx.close(id, 4001, "twice"));
        assert_eq!(cx.send(id, "late"), crate::SendStatus::Closed);
    });
    let peer = bench.open();
    peer.send_text("go");
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, close_frame(4000, "enough"))]);
    peer.send_bytes(&client_frame(0x88, &close_frame(4000, "")));
    peer.end_stream();
    bench.turns(2);
    assert_eq!(
        bench.take_events(),
        ["open 0", r#"close 0 4000 "enough" true Us"#]
    );
}

#[test]
fn a_violation_is_answered_and_a_bounded_amount_of_later_input_is_discarded() {
    let mut bench = Bench::echo(Config {
        message_bytes_max: 300_000,
        ..Config::default()
    });
    let peer = bench.open();
    peer.send_bytes(&client_frame(0x83, b""));
    peer.send_text("ignored");
    bench.turn();
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].1[..2], 1002_u16.to_be_bytes());
    // The server discards `message_bytes_max` and a receive buffer, 300 000 + 81 920 bytes. One more read may exceed that.
    peer.send_bytes(&[0; 1_000_000]);
    bench.turns(20);
    assert!(
        (500_000..700_000).contains(&peer.unread_bytes()),
        "{}",
        peer.unread_bytes()
    );
    bench.turn_at(5_000);
    assert!(
        peer.wire.lock().is_dropped,
        "a peer that does not stop sending is terminated"
    );
    let events = bench.take_events();
    assert_eq!(events[1], "error 0 opcode 3 is reserved");
    assert_eq!(events[2], r#"close 0 1002 "opcode 3 is reserved" false Us"#);
}

#[test]
fn a_refused_request_receives_the_whole_response_and_on_open_is_not_called() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.turn();
    assert!(peer.take_written().starts_with(b"HTTP/1.1 426 "));
    peer.end_stream();
    bench.turns(2);
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(bench.take_events(), [""; 0]);
}

#[test]
fn a_connection_that_ends_before_its_request_causes_no_event() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.send_bytes(b"GET / HT");
    peer.end_stream();
    bench.turns(2);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(bench.take_events(), [""; 0]);
}

#[test]
fn terminate_drops_queued_messages_and_closes_once() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        let _ = cx.send(id, "never sent");
        cx.terminate(id);
        cx.terminate(id);
    });
    let peer = bench.open();
    peer.send_text("go");
    bench.turns(2);
    assert_eq!(peer.take_written(), b"");
    assert_eq!(
        bench.take_events(),
        ["open 0", r#"close 0 1006 "" false Us"#]
    );
}

#[test]
fn an_id_of_an_ended_session_does_not_reach_a_later_session_in_the_same_slot() {
    let mut bench = Bench::echo(Config::default());
    let first = bench.open();
    first.end_stream();
    bench.turns(2);
    let second = bench.open();
    assert_eq!(first.id.slot, second.id.slot);
    assert_eq!(
        bench.engine.send(first.id, Message::text("for the first")),
        crate::SendStatus::Closed
    );
    bench.engine.terminate(first.id);
    assert!(!bench.engine.close(first.id, 1000, ""));
    bench.turn();
    assert_eq!(second.take_written(), b"");
    assert!(!second.wire.lock().is_dropped);
}

#[test]
fn connections_above_the_limit_receive_503_and_are_not_counted() {
    let mut bench = Bench::echo(Config {
        connections_max: 2,
        ..Config::default()
    });
    let open = [bench.open(), bench.open()];
    let refused = bench.connect();
    refused.send_bytes(REQUEST.as_bytes());
    bench.turns(2);
    assert!(refused.take_written().starts_with(b"HTTP/1.1 503 "));
    refused.end_stream();
    open[0].end_stream();
    bench.turns(2);
    assert!(refused.wire.lock().is_dropped);
    bench.open();
}

#[test]
fn a_graceful_stop_closes_all_sessions_with_1001_and_waits_for_them() {
    let mut bench = Bench::echo(Config::default());
    let (open, opening, silent) = (bench.open(), bench.connect(), bench.connect());
    opening.send_bytes(b"GET /");
    bench.turn();
    bench.engine.stop();
    bench.engine.begin_stop();
    bench.turn();
    assert_eq!(open.take_frames()[0].1[..2], 1001_u16.to_be_bytes());
    assert!(opening.take_written().starts_with(b"HTTP/1.1 503 "));
    assert_eq!(
        silent.take_written(),
        b"",
        "the browser may send its next request there"
    );
    assert!(silent.wire.lock().is_dropped);
    open.send_bytes(&client_frame(0x88, &close_frame(1001, "")));
    open.end_stream();
    opening.end_stream();
    bench.turns(2);
    assert_eq!(bench.engine.len(), 0);
    let closed = r#"close 0 1001 "the server is shutting down" true Us"#;
    assert!(bench.take_events().iter().any(|event| event == closed));
}

#[test]
fn the_end_of_stream_in_the_turn_of_the_handshake_deadline_ends_the_session_once() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    bench.turn_at(5_000);
    peer.end_stream();
    bench.turn_at(10_000);
    bench.turn_at(20_000);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(peer.take_written(), b"");
}

#[test]
fn a_close_during_the_upgrade_of_another_session_puts_no_byte_before_the_101() {
    let mut bench = Bench::echo(Config::default());
    let old = bench.open();
    bench.handler.on_other_event = Some(Box::new(|cx| {
        for id in cx.ids() {
            cx.close(id, 4001, "logged in elsewhere");
        }
    }));
    let new = bench.connect();
    new.send_bytes(REQUEST.as_bytes());
    bench.turn();
    assert!(new.take_written().starts_with(b"HTTP/1.1 101 "));
    let expected = (0x88, close_frame(4001, "logged in elsewhere"));
    assert_eq!(old.take_frames(), [expected]);
}

#[test]
fn the_buffer_of_a_large_http_response_is_released() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    bench.turn();
    let response = crate::HttpResponse::new(403, "x".repeat(1_000_000));
    bench
        .engine
        .refuse(peer.id.slot as usize, &response, false, None);
    peer.end_stream();
    // The response is longer than the share of one session in a turn, so it is written over several turns.
    bench.turns(6);
    assert_eq!(bench.engine.len(), 0);
    assert!(bench.engine.replies.capacity() < 100_000);
}

#[test]
fn close_refuses_reserved_codes_and_1005_sends_an_empty_close() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        for code in [0, 1004, 1006, 1015, 5000] {
            assert!(!cx.close(id, code, ""), "{code}");
        }
        assert!(cx.close(id, 1005, "unsaid"));
    });
    let peer = bench.open();
    peer.send_text("go");
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, vec![])]);
}
