//! Streams that cut, interrupt, end and fail; and how sessions end.

use super::script::{Bench, REQUEST, client_frame, server_frames};
use crate::config::Config;
use crate::proto::Message;
use std::io::ErrorKind;

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn one_byte_at_a_time_in_and_out_nothing_changes() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.wire.lock().piece_max = 1;
    peer.say(REQUEST.as_bytes());
    peer.text("hello");
    peer.say(&client_frame(0x89, b"p"));
    peer.say(&client_frame(0x88, &close_frame(1000, "bye")));
    peer.end();
    bench.turns(800);
    let written = peer.take();
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
        bench.events(),
        ["open 0", r#"close 0 1000 "bye" true Peer"#]
    );
    assert!(peer.wire.lock().is_dropped);
}

#[test]
fn an_interrupted_read_is_tried_again() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.fail_read(ErrorKind::Interrupted);
    peer.text("hello");
    bench.turn();
    assert_eq!(peer.take_texts(), ["hello"]);
}

#[test]
fn several_messages_in_one_read_are_answered_in_one_write() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.say(
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
fn a_large_message_is_written_through_and_its_rest_queued() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    let large = "x".repeat(60_000);
    peer.set_room(10_001);
    peer.text(&large);
    peer.text("small");
    bench.turns(2);
    assert_eq!(bench.engine.stream_mut(peer.id).map(|_| ()), Some(()));
    peer.set_room(usize::MAX);
    bench.turns(2);
    assert_eq!(peer.take_texts(), [large, "small".to_owned()]);
}

#[test]
fn a_reset_in_the_middle_of_a_frame_is_an_abnormal_close() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.say(&client_frame(0x81, b"hello")[..7]);
    peer.fail_read(ErrorKind::ConnectionReset);
    bench.turns(2);
    let events = bench.events();
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
    peer.text("a");
    peer.text("b");
    bench.turns(3);
    let closes = bench
        .events()
        .iter()
        .filter(|event| event.starts_with("close 0 1006"))
        .count();
    assert_eq!(closes, 1);
}

#[test]
fn a_peer_that_ends_its_side_still_gets_its_answers() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.text("last");
    peer.end();
    bench.turns(2);
    assert_eq!(peer.take_texts(), ["last"]);
    assert_eq!(bench.events()[1..], [r#"close 0 1006 "" false Peer"#]);
}

#[test]
fn after_the_closing_handshake_the_write_side_is_shut_and_the_end_awaited() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.say(&client_frame(0x88, &close_frame(1001, "")));
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, close_frame(1001, ""))]);
    assert!(peer.wire.lock().is_shut);
    assert!(!peer.wire.lock().is_dropped);
    peer.end();
    bench.turns(2);
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(bench.events(), ["open 0", r#"close 0 1001 "" true Peer"#]);
}

#[test]
fn our_close_and_the_peers_make_a_clean_end_begun_by_us() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        assert!(cx.close(id, 4000, "enough"));
        assert!(!cx.close(id, 4001, "twice"));
        assert_eq!(cx.send(id, "late"), crate::SendStatus::Refused);
    });
    let peer = bench.open();
    peer.text("go");
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, close_frame(4000, "enough"))]);
    peer.say(&client_frame(0x88, &close_frame(4000, "")));
    peer.end();
    bench.turns(2);
    assert_eq!(
        bench.events(),
        ["open 0", r#"close 0 4000 "enough" true Us"#]
    );
}

#[test]
fn a_violation_is_answered_and_what_follows_is_discarded_up_to_a_bound() {
    let mut bench = Bench::echo(Config {
        message_bytes_max: 300_000,
        ..Config::default()
    });
    let peer = bench.open();
    peer.say(&client_frame(0x83, b""));
    peer.text("ignored");
    bench.turn();
    let frames = peer.take_frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].1[..2], 1002_u16.to_be_bytes());
    peer.say(&[0; 1_000_000]);
    bench.turns(20);
    assert!(
        (500_000..700_000).contains(&peer.unread()),
        "{}",
        peer.unread()
    );
    bench.turn_at(5_000);
    assert!(
        peer.wire.lock().is_dropped,
        "a peer that sends on and on is cut off"
    );
    let events = bench.events();
    assert_eq!(events[1], "error 0 opcode 3 is reserved");
    assert_eq!(events[2], r#"close 0 1002 "opcode 3 is reserved" false Us"#);
}

#[test]
fn a_refused_request_gets_its_whole_answer_and_no_open() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.turn();
    assert!(peer.take().starts_with(b"HTTP/1.1 426 "));
    peer.end();
    bench.turns(2);
    assert!(peer.wire.lock().is_dropped);
    assert_eq!(bench.events(), [""; 0]);
}

#[test]
fn a_peer_that_leaves_before_its_request_leaves_no_trace() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    peer.say(b"GET / HT");
    peer.end();
    bench.turns(2);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(bench.events(), [""; 0]);
}

#[test]
fn terminate_drops_what_is_queued_and_closes_once() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        let _ = cx.send(id, "never sent");
        cx.terminate(id);
        cx.terminate(id);
    });
    let peer = bench.open();
    peer.text("go");
    bench.turns(2);
    assert_eq!(peer.take(), b"");
    assert_eq!(bench.events(), ["open 0", r#"close 0 1006 "" false Us"#]);
}

#[test]
fn an_id_of_an_ended_session_does_not_reach_the_next_in_its_slot() {
    let mut bench = Bench::echo(Config::default());
    let first = bench.open();
    first.end();
    bench.turns(2);
    let second = bench.open();
    assert_eq!(first.id.slot, second.id.slot);
    assert_eq!(
        bench.engine.send(first.id, Message::text("for the first")),
        crate::SendStatus::Refused
    );
    bench.engine.terminate(first.id);
    assert!(!bench.engine.close(first.id, 1000, ""));
    bench.turn();
    assert_eq!(second.take(), b"");
    assert!(!second.wire.lock().is_dropped);
}

#[test]
fn connections_over_the_limit_are_told_503_and_take_no_place() {
    let mut bench = Bench::echo(Config {
        connections_max: 2,
        ..Config::default()
    });
    let kept = [bench.open(), bench.open()];
    let refused = bench.connect();
    refused.say(REQUEST.as_bytes());
    bench.turns(2);
    assert!(refused.take().starts_with(b"HTTP/1.1 503 "));
    refused.end();
    kept[0].end();
    bench.turns(2);
    assert!(refused.wire.lock().is_dropped);
    bench.open();
}

#[test]
fn a_graceful_stop_says_1001_to_everyone_and_waits() {
    let mut bench = Bench::echo(Config::default());
    let (open, opening) = (bench.open(), bench.connect());
    bench.engine.stop();
    bench.engine.begin_stop();
    bench.turn();
    assert_eq!(open.take_frames()[0].1[..2], 1001_u16.to_be_bytes());
    assert!(opening.take().starts_with(b"HTTP/1.1 503 "));
    open.say(&client_frame(0x88, &close_frame(1001, "")));
    open.end();
    opening.end();
    bench.turns(2);
    assert_eq!(bench.engine.len(), 0);
    let closed = r#"close 0 1001 "the server is shutting down" true Us"#;
    assert!(bench.events().iter().any(|event| event == closed));
}

#[test]
fn the_end_of_stream_in_the_turn_of_the_handshake_deadline_ends_the_session_once() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    bench.turn_at(5_000);
    peer.end();
    bench.turn_at(10_000);
    bench.turn_at(20_000);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(peer.take(), b"");
}

#[test]
fn a_session_closed_by_anothers_upgrade_leaves_nothing_before_the_101() {
    let mut bench = Bench::echo(Config::default());
    let old = bench.open();
    bench.handler.on_other = Some(Box::new(|cx| {
        for id in cx.ids() {
            cx.close(id, 4001, "logged in elsewhere");
        }
    }));
    let new = bench.connect();
    new.say(REQUEST.as_bytes());
    bench.turn();
    assert!(new.take().starts_with(b"HTTP/1.1 101 "));
    let expected = (0x88, close_frame(4001, "logged in elsewhere"));
    assert_eq!(old.take_frames(), [expected]);
}

#[test]
fn a_large_answer_in_http_is_not_kept() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    bench.turn();
    let response = crate::HttpResponse::new(403, "x".repeat(1_000_000));
    bench
        .engine
        .refuse(peer.id.slot as usize, &response, false, None);
    peer.end();
    // It leaves in slices.
    bench.turns(6);
    assert_eq!(bench.engine.len(), 0);
    assert!(bench.engine.replies.capacity() < 100_000);
}

#[test]
fn a_close_code_that_may_not_be_sent_is_refused_and_1005_is_an_empty_close() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        for code in [0, 1004, 1006, 1015, 5000] {
            assert!(!cx.close(id, code, ""), "{code}");
        }
        assert!(cx.close(id, 1005, "unsaid"));
    });
    let peer = bench.open();
    peer.text("go");
    bench.turn();
    assert_eq!(peer.take_frames(), [(0x88, vec![])]);
}
