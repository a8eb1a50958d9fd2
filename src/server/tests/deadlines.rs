//! Deadlines of sessions and timers of the handler. The tests set the time.

use super::script::{Bench, Peer, client_frame};
use crate::config::{Config, LagPolicy, SessionLimits};
use crate::proto::Message;
use std::time::Duration;

#[test]
fn a_request_that_arrives_byte_by_byte_is_refused_at_the_handshake_timeout() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.connect();
    for second in 0..10 {
        peer.send_bytes(b"G");
        bench.turn_at(second * 1000);
        assert_eq!(peer.take_written(), b"");
        peer.wire.lock().reads.clear();
    }
    bench.turn_at(10_000);
    assert!(
        peer.take_written().starts_with(b"HTTP/1.1 408 "),
        "at 10 s, the default handshake_timeout"
    );
    // The peer does not end its stream, so the session ends at close_timeout, 5 s.
    bench.turn_at(14_999);
    assert!(!peer.wire.lock().is_dropped);
    bench.turn_at(15_000);
    assert!(peer.wire.lock().is_dropped);
}

#[test]
fn a_silent_peer_is_pinged_after_half_a_short_idle_timeout_and_closed_if_it_does_not_answer() {
    let mut bench = Bench::echo(Config {
        idle_timeout: Some(Duration::from_secs(64)),
        ping_interval: Some(Duration::from_secs(40)),
        ..Config::default()
    });
    let peer = bench.open();
    // Each half of the timeout is extended by 1/64 of the first, so that the deadline is never early.
    bench.turn_at(32_000);
    assert_eq!(peer.take_written(), b"");
    bench.turn_at(32_500);
    assert_eq!(peer.take_frames(), [(0x89, vec![])]);
    bench.turn_at(65_000);
    assert_eq!(peer.take_frames()[0].1[..2], 1001_u16.to_be_bytes());
    bench.turn_at(70_000);
    let events = bench.take_events();
    assert_eq!(events[1], "error 0 idle_timeout reached");
    assert_eq!(
        events[2],
        r#"close 0 1001 "nothing arrived for too long" false Us"#
    );
}

#[test]
fn by_default_a_silent_peer_is_pinged_after_25_s_and_closed_after_120_s() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    bench.turn_at(25_000);
    assert_eq!(peer.take_written(), b"");
    bench.turn_at(25_400);
    assert_eq!(peer.take_frames(), [(0x89, vec![])]);
    bench.turn_at(120_000);
    assert_eq!(peer.take_written(), b"");
    bench.turn_at(120_800);
    assert_eq!(peer.take_frames()[0].1[..2], 1001_u16.to_be_bytes());
}

#[test]
fn without_an_idle_timeout_pings_are_repeated_and_the_session_stays_open() {
    let mut bench = Bench::echo(Config {
        idle_timeout: None,
        ping_interval: Some(Duration::from_secs(10)),
        ..Config::default()
    });
    let peer = bench.open();
    for second in [11, 22, 33, 44, 55] {
        bench.turn_at(second * 1_000);
        assert_eq!(peer.take_frames(), [(0x89, vec![])], "{second}");
    }
    peer.send_bytes(&client_frame(EMPTY_PONG, b""));
    bench.turn_at(55_020);
    assert_eq!(rtt(&bench, &peer), Some(20));
    bench.turn_at(65_100);
    assert_eq!(peer.take_frames(), []);
    bench.turn_at(66_000);
    assert_eq!(peer.take_frames(), [(0x89, vec![])]);
    assert_eq!(bench.take_events(), ["open 0"]);
}

#[test]
fn a_session_with_an_idle_timeout_of_its_own_is_pinged_after_the_interval_or_half_of_the_timeout() {
    let mut bench = Bench::echo(Config {
        ping_interval: Some(Duration::from_secs(10)),
        ..Config::default()
    });
    let open = |bench: &mut Bench, seconds| {
        let peer = bench.open();
        let limits = SessionLimits {
            idle_timeout: Some(Some(Duration::from_secs(seconds))),
            ..SessionLimits::default()
        };
        bench.engine.set_limits(peer.id, limits).unwrap();
        peer
    };
    let (short, long) = (open(&mut bench, 6), open(&mut bench, 60));
    bench.turn_at(3_100);
    assert_eq!(short.take_frames(), [(0x89, vec![])]);
    bench.turn_at(9_999);
    assert_eq!(long.take_written(), b"");
    bench.turn_at(10_200);
    assert_eq!(long.take_frames(), [(0x89, vec![])]);
}

#[test]
fn a_peer_that_answers_pings_is_never_idle() {
    let mut bench = Bench::echo(Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    });
    let peer = bench.open();
    let mut pings = 0;
    for second in 1..100 {
        bench.turn_at(second * 1000);
        for (first, payload) in peer.take_frames() {
            assert_eq!((first, &payload[..]), (0x89, &b""[..]));
            pings += 1;
            peer.send_bytes(&client_frame(0x8A, b""));
        }
    }
    // A ping is due half of the timeout and 1/64 of that half (5.08 s) after the last input. Turns run once a second, so a
    // ping is sent after 6 s and its pong is read one second later: one ping every 7 s.
    assert_eq!(pings, 14);
    assert_eq!(bench.take_events(), ["open 0"]);
}

/// A bench with one session, to which an automatic ping was sent at the returned time.
fn pinged() -> (Bench, Peer, u64) {
    let mut bench = Bench::echo(Config {
        idle_timeout: Some(Duration::from_secs(64)),
        ..Config::default()
    });
    let peer = bench.open();
    bench.turn_at(32_500);
    assert_eq!(peer.take_frames(), [(0x89, vec![])]);
    (bench, peer, 32_500)
}

fn rtt(bench: &Bench, peer: &Peer) -> Option<u128> {
    bench.engine.rtt(peer.id).map(|time| time.as_millis())
}

const EMPTY_PONG: u8 = 0x8A;

#[test]
fn the_round_trip_of_an_automatic_ping_is_measured() {
    let (mut bench, peer, now) = pinged();
    assert_eq!(rtt(&bench, &peer), None);
    // A message that crossed the ping, and half of the pong.
    peer.send_text("crossed");
    bench.turn_at(now + 20);
    let pong = client_frame(EMPTY_PONG, b"");
    peer.send_bytes(&pong[..3]);
    bench.turn_at(now + 30);
    assert_eq!(rtt(&bench, &peer), None);
    peer.send_bytes(&pong[3..]);
    bench.turn_at(now + 45);
    assert_eq!(rtt(&bench, &peer), Some(45));
    let stats = bench.engine.stats();
    assert_eq!((stats.rtts, stats.rtt_sum), (1, Duration::from_millis(45)));
    // The next one replaces it.
    bench.turn_at(now + 40_000);
    assert_eq!(rtt(&bench, &peer), Some(45));
    peer.send_bytes(&pong);
    bench.turn_at(now + 40_007);
    assert_eq!(rtt(&bench, &peer), Some(7));
}

#[test]
fn unsolicited_and_late_pongs_give_no_round_trip() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    let pong = client_frame(EMPTY_PONG, b"");
    peer.send_bytes(&pong.repeat(3));
    bench.turn_at(50_000);
    assert_eq!(rtt(&bench, &peer), None);

    let (mut bench, peer, now) = pinged();
    peer.send_bytes(&client_frame(EMPTY_PONG, b"other"));
    bench.turn_at(now + 10);
    assert_eq!(rtt(&bench, &peer), None);
    peer.send_bytes(&pong);
    bench.turn_at(now + 11);
    assert_eq!(rtt(&bench, &peer), Some(11));
    peer.send_bytes(&pong.repeat(1000));
    bench.turn_at(now + 5000);
    assert_eq!(rtt(&bench, &peer), Some(11));

    // A peer that sends messages for an hour, and then the pong.
    let (mut bench, peer, now) = pinged();
    for second in 1..3600 {
        peer.send_text("busy");
        bench.turn_at(now + second * 1000);
    }
    peer.send_bytes(&pong);
    bench.turn_at(now + 3_600_000);
    assert_eq!(rtt(&bench, &peer), None);
    assert_eq!(bench.engine.stats().rtts, 0);
}

#[test]
fn a_new_session_in_the_slot_has_no_round_trip() {
    let (mut bench, peer, now) = pinged();
    peer.send_bytes(&client_frame(EMPTY_PONG, b""));
    bench.turn_at(now + 1);
    assert_eq!(rtt(&bench, &peer), Some(1));
    bench.engine.terminate(peer.id);
    bench.turn();
    assert_eq!(rtt(&bench, &peer), None);
    let next = bench.open();
    assert_eq!(next.id.slot, peer.id.slot);
    assert_eq!(rtt(&bench, &next), None);
    next.send_bytes(&client_frame(EMPTY_PONG, b""));
    bench.turn();
    assert_eq!(rtt(&bench, &next), None);
}

#[test]
fn a_pause_during_a_ping_gives_no_round_trip() {
    let (mut bench, peer, now) = pinged();
    assert!(bench.engine.pause(peer.id));
    peer.send_bytes(&client_frame(EMPTY_PONG, b""));
    bench.turn_at(now + 10);
    bench.turn_at(now + 200_000);
    assert!(bench.engine.resume(peer.id));
    bench.turn();
    assert_eq!(rtt(&bench, &peer), None);
    assert!(bench.engine.is_open(peer.id));
}

#[test]
fn without_automatic_pings_an_idle_session_is_closed_no_earlier_than_the_timeout() {
    let config = Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ping_interval: None,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let peer = bench.open();
    for at in [50, 100, 150, 200] {
        peer.send_bytes(&client_frame(0x8A, b""));
        bench.turn_at(at);
    }
    for at in [5_000, 5_200, 5_300, 10_199] {
        bench.turn_at(at);
        assert_eq!(
            peer.take_written(),
            b"",
            "the last byte arrived at 200 ms, so the timeout is not before 10 200 ms"
        );
    }
    bench.turn_at(10_500);
    assert_eq!(peer.take_frames()[0].0, 0x88);
}

#[test]
fn without_an_idle_timeout_and_pings_a_silent_session_waits_for_nothing() {
    let mut bench = Bench::echo(Config {
        idle_timeout: None,
        ping_interval: None,
        ..Config::default()
    });
    let peer = bench.open();
    bench.turn_at(1_000_000_000);
    assert_eq!(peer.take_written(), b"");
    assert_eq!(bench.engine.next_in(), None);
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_terminated() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        cx.close(id, 1000, "");
    });
    let peer = bench.open();
    peer.send_text("go");
    bench.turn_at(1_000);
    bench.turn_at(5_999);
    assert_eq!(bench.engine.len(), 1);
    bench.turn_at(6_000);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(bench.take_events()[1], r#"close 0 1000 "" false Us"#);
}

#[test]
fn a_stalled_write_terminates_the_session_and_progress_restarts_the_timeout() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.set_writable_bytes(10);
    peer.send_text(&"x".repeat(200_000));
    bench.turns(5);
    bench.turn_at(1_000);
    bench.turn_at(29_000);
    // At least 64 KiB must be accepted to restart the timeout, 30 s.
    peer.set_writable_bytes(100_000);
    bench.turn_at(29_500);
    bench.turn_at(59_499);
    assert_eq!(
        bench.engine.len(),
        1,
        "the peer accepted more than 64 KiB at 29 500 ms"
    );
    bench.turn_at(59_500);
    assert_eq!(bench.engine.len(), 0);
    assert_eq!(bench.take_events()[1], "error 0 write_timeout reached");
}

#[test]
fn a_peer_that_reads_one_byte_a_second_reaches_the_write_timeout() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text(&"x".repeat(1_000));
    for second in 0..30 {
        bench.turn_at(second * 1000);
        assert_eq!(bench.engine.len(), 1);
        peer.set_writable_bytes(1);
    }
    bench.turn_at(30_000);
    assert_eq!(bench.engine.len(), 0);
}

/// The deadline was cleared only when the queue was empty, and the queue of a member that skips seldom is.
#[test]
fn a_member_that_skips_and_reads_what_it_can_have_unsent_stays_open() {
    let mut bench = Bench::new(
        Config {
            lag_policy: LagPolicy::Skip,
            lag_bytes_max: 20_000,
            ..Config::default()
        },
        |_, _, _| {},
    );
    let peer = bench.open_member("prices");
    peer.set_writable_bytes(0);
    let message = "x".repeat(10_000);
    // 10 KB/s are published, and the member reads 1 KB/s, in all far less than 64 KiB in each 30 s.
    for second in 1..200 {
        bench.engine.publish("prices", Message::text(&message));
        peer.set_writable_bytes(1_000);
        bench.turn_at(second * 1_000);
        assert_eq!(bench.engine.len(), 1, "{second} s");
        peer.take_written();
    }
    // It reads no more.
    for second in 200..=231 {
        bench.engine.publish("prices", Message::text(&message));
        bench.turn_at(second * 1_000);
    }
    assert_eq!(bench.engine.len(), 0);
}

#[test]
fn a_closing_session_with_a_slow_reader_ends_at_the_write_timeout() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        let _ = cx.send(id, "x".repeat(300_000));
        cx.close(id, 1000, "");
    });
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("go");
    for second in 0..30 {
        bench.turn_at(second * 1000);
        assert_eq!(bench.engine.len(), 1);
        peer.set_writable_bytes(10_000);
    }
    // While a session is closing, accepted bytes do not restart `write_timeout`. So the session has 30 s for its whole
    // backlog, although the peer accepted 290 000 bytes meanwhile.
    bench.turn_at(30_500);
    assert_eq!(bench.engine.len(), 0);
}

#[test]
fn a_closing_session_has_the_close_deadline_once_its_backlog_is_sent() {
    let mut bench = Bench::new(Config::default(), |cx, id, _| {
        let _ = cx.send(id, "x".repeat(1_000));
        cx.close(id, 1000, "");
    });
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("go");
    bench.turn_at(0);
    bench.turn_at(20_000);
    assert_eq!(
        bench.engine.len(),
        1,
        "close_timeout does not apply while bytes are unsent"
    );
    peer.set_writable_bytes(usize::MAX);
    bench.turn_at(20_001);
    bench.turn_at(25_000);
    assert_eq!(bench.engine.len(), 1);
    bench.turn_at(25_001);
    assert_eq!(bench.engine.len(), 0);
}

#[test]
fn a_timer_of_zero_set_by_a_timer_fires_in_the_next_turn() {
    let mut bench = Bench::echo(Config::default());
    bench.handler.on_other_event = Some(Box::new(|cx| {
        cx.set_timer(Duration::ZERO, 7);
    }));
    bench.engine.set_timer(Duration::ZERO.into(), 7, 0);
    bench.turn();
    assert_eq!(bench.take_events(), ["timer 7"]);
    assert_eq!(bench.engine.next_in(), Some(0));
    bench.turn();
    assert_eq!(bench.take_events(), ["timer 7"]);
}

#[test]
fn the_idle_deadline_is_restored_after_a_stall() {
    let mut bench = Bench::echo(Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ..Config::default()
    });
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("x");
    bench.turn_at(1_000);
    peer.set_writable_bytes(usize::MAX);
    bench.turn_at(20_000);
    assert_eq!(peer.take_texts(), ["x"]);
    bench.turn_at(25_200);
    assert_eq!(peer.take_frames()[0].0, 0x89);
}

#[test]
fn timers_fire_once_in_order_and_can_be_cancelled() {
    let mut bench = Bench::echo(Config::default());
    let millis = Duration::from_millis;
    bench.engine.set_timer(millis(20).into(), 2, 0);
    let third = bench.engine.set_timer(millis(30).into(), 3, 0);
    bench.engine.set_timer(millis(10).into(), 1, 0);
    bench
        .engine
        .set_timer(Duration::from_micros(1).into(), 0, 0);
    assert_eq!(bench.engine.next_in(), Some(1));
    bench.turn_at(25);
    assert_eq!(bench.take_events(), ["timer 0", "timer 1", "timer 2"]);
    assert!(bench.engine.cancel_timer(third));
    assert!(!bench.engine.cancel_timer(third));
    bench.turn_at(100);
    assert_eq!(bench.take_events(), [""; 0]);
}
