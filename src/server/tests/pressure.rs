//! Backpressure and budgets: a session whose peer does not read is not read either, no accepted message is lost, and one
//! busy session does not delay the others.

use super::script::{Bench, Peer, client_frame};
use crate::config::Config;
use crate::engine::Readiness;
use crate::error::SendStatus;
use std::time::Duration;

fn small() -> Config {
    Config {
        high_water_bytes: 10_000,
        low_water_bytes: 2_000,
        backlog_bytes_max: 30_000,
        message_bytes_max: 20_000,
        receive_buffer_bytes: 4096,
        ..Config::default()
    }
}

#[test]
fn a_session_above_high_water_is_not_read_until_it_is_below_low_water() {
    let mut bench = Bench::echo(small());
    let peer = bench.open();
    peer.set_writable_bytes(0);
    for index in 0..100 {
        peer.send_text(&format!("{index:>500}"));
    }
    bench.turns(20);
    let unread = peer.unread_bytes();
    assert!(
        (35_000..42_000).contains(&unread),
        "{unread} of 50 800 bytes are left in the socket"
    );
    assert_eq!(bench.take_events(), ["open 0"]);
    peer.set_writable_bytes(7_000);
    bench.turns(5);
    assert_eq!(peer.unread_bytes(), unread, "still above low_water_bytes");
    peer.set_writable_bytes(usize::MAX);
    bench.turns(200);
    let texts = peer.take_texts();
    assert_eq!(texts.len(), 100);
    assert!(
        texts
            .iter()
            .enumerate()
            .all(|(index, text)| text.trim() == index.to_string())
    );
    assert!(bench.take_events().contains(&"drain 0".to_owned()));
}

#[test]
fn input_read_before_a_pause_is_answered_after_it() {
    // Each of the small messages in one read is answered with a large one.
    let mut bench = Bench::new(small(), |cx, id, message| {
        let text = message.as_text().unwrap();
        let _ = cx.send(id, format!("{text}{}", "x".repeat(3_000)));
    });
    let peer = bench.open();
    let burst: Vec<u8> = (0..100)
        .flat_map(|index| client_frame(0x81, format!("{index:03}").as_bytes()))
        .collect();
    peer.set_writable_bytes(0);
    peer.send_bytes(&burst);
    bench.turns(3);
    assert_eq!(peer.take_written(), b"");
    peer.set_writable_bytes(usize::MAX);
    bench.turns(100);
    let texts = peer.take_texts();
    assert_eq!(texts.len(), 100);
    assert!(
        texts
            .iter()
            .enumerate()
            .all(|(index, text)| text.starts_with(&format!("{index:03}x")))
    );
    assert_eq!(
        bench
            .take_events()
            .iter()
            .filter(|event| event.starts_with("close"))
            .count(),
        0
    );
}

#[test]
fn a_send_above_backlog_bytes_max_is_refused_and_ends_the_session() {
    let mut bench = Bench::new(small(), |cx, id, _| {
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(cx.send(id, "x".repeat(6_000)));
        }
        use crate::SendStatus::*;
        assert_eq!(
            statuses,
            [
                Queued,
                OverHighWater,
                OverHighWater,
                OverHighWater,
                OverLimit,
                Closed
            ]
        );
    });
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("go");
    bench.turns(2);
    let events = bench.take_events();
    assert_eq!(
        events[1..],
        [
            "error 0 backlog_bytes_max reached",
            r#"close 0 1006 "" false Us"#
        ]
    );
}

#[test]
fn a_peer_that_sends_pings_and_does_not_read_has_one_pong_queued() {
    let mut bench = Bench::echo(small());
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_bytes(&client_frame(0x89, b"first"));
    bench.turn();
    for index in 0..1000 {
        peer.send_bytes(&client_frame(0x89, format!("{index:>100}").as_bytes()));
        bench.turn();
    }
    assert!(bench.engine.buffered_amount(peer.id) < 200);
    peer.set_writable_bytes(usize::MAX);
    bench.turns(2);
    let pongs = peer.take_frames();
    assert_eq!(pongs[0], (0x8A, b"first".to_vec()));
    assert_eq!(
        pongs[1..],
        [(0x8A, format!("{:>100}", 999).into_bytes())],
        "only the newest ping is answered"
    );
}

#[test]
fn every_ping_of_a_peer_that_reads_is_answered() {
    let mut bench = Bench::echo(small());
    let peer = bench.open();
    let burst: Vec<u8> = (0..10)
        .flat_map(|index| client_frame(0x89, &[index]))
        .collect();
    peer.send_bytes(&burst);
    bench.turn();
    assert_eq!(
        peer.take_frames(),
        (0..10).map(|index| (0x8A, vec![index])).collect::<Vec<_>>()
    );
}

#[test]
fn a_busy_peer_uses_its_budget_and_does_not_delay_another() {
    let config = Config {
        read_budget_bytes: 8192,
        receive_buffer_bytes: 4096,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let (busy, quiet) = (bench.open(), bench.open());
    for _ in 0..100 {
        busy.send_text(&"x".repeat(4_000));
    }
    quiet.send_text("me too");
    bench.turn();
    assert_eq!(quiet.take_texts(), ["me too"]);
    assert!(
        busy.unread_bytes() >= 390_000,
        "the budget is a few messages"
    );
    assert!(
        bench.engine.has_work(),
        "the poll must not sleep while input is unread"
    );
    // The rest is read in the following turns.
    bench.turns(60);
    assert_eq!(busy.unread_bytes(), 0);
    assert_eq!(busy.take_texts().len(), 100);
}

#[test]
fn payload_is_read_up_to_eight_times_the_budget() {
    let config = Config {
        read_budget_bytes: 8192,
        receive_buffer_bytes: 4096,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let (sender, longer, quiet) = (bench.open(), bench.open(), bench.open());
    let pieces = |peer: &Peer, len: usize| {
        let frame = client_frame(0x82, &vec![b'x'; len]);
        frame.chunks(4096).for_each(|piece| peer.send_bytes(piece));
    };
    pieces(&sender, 32_000);
    pieces(&longer, 100_000);
    quiet.send_text("me too");
    bench.turn();
    assert_eq!(sender.take_frames()[0].1.len(), 32_000);
    assert_eq!(quiet.take_texts(), ["me too"]);
    // One read in the first pass over the sessions. Then come reads that are entirely payload. Only an eighth of their bytes
    // is charged to the budget, so it allows 16 reads, and at most one more, because it is checked before each read.
    let read = 100_014 - longer.unread_bytes();
    assert!((17 * 4096..=18 * 4096).contains(&read), "{read}");
    bench.turns(3);
    assert_eq!(longer.take_frames()[0].1.len(), 100_000);
}

#[test]
fn endless_fragments_are_read_within_the_budget_of_a_turn() {
    let config = Config {
        read_budget_bytes: 4096,
        receive_buffer_bytes: 4096,
        fragments_max: u32::MAX,
        ..Config::default()
    };
    let mut bench = Bench::echo(config);
    let peer = bench.open();
    peer.send_bytes(&client_frame(0x01, b""));
    peer.send_bytes(&client_frame(0x00, b"").repeat(10_000));
    bench.turn();
    let left: usize = peer
        .wire
        .lock()
        .reads
        .iter()
        .map(|read| read.as_ref().unwrap().len())
        .sum();
    assert!(left > 60_000 - 3 * 4096, "{left}");
}

#[test]
fn idle_sessions_own_no_buffers() {
    let mut bench = Bench::echo(Config::default());
    let peer = bench.open();
    peer.send_text(&"x".repeat(50_000));
    peer.send_bytes(&client_frame(0x01, b"fragment"));
    peer.send_bytes(&client_frame(0x80, b"fragment"));
    bench.turns(4);
    assert_eq!(peer.take_texts().len(), 2);
    let session = bench.engine.session(peer.id).unwrap();
    assert!(session.outbound.is_empty() && session.extra.is_none());
    assert_eq!(session.outbound.capacity(), 0);
}

#[test]
fn a_queued_pong_is_sent_before_the_close_and_nothing_after_it() {
    let mut bench = Bench::echo(small());
    let peer = bench.open();
    peer.set_writable_bytes(0);
    peer.send_text("fill");
    bench.turn();
    peer.send_bytes(&client_frame(0x89, b"late"));
    bench.turn();
    peer.send_bytes(&client_frame(0x88, &1000_u16.to_be_bytes()));
    bench.turn();
    peer.set_writable_bytes(usize::MAX);
    bench.turns(2);
    let kinds: Vec<u8> = peer.take_frames().iter().map(|frame| frame.0).collect();
    assert_eq!(kinds, [0x81, 0x8A, 0x88]);
}

#[test]
fn a_message_above_backlog_bytes_max_is_accepted_while_the_queue_is_short() {
    let config = Config {
        message_bytes_max: 1 << 20,
        ..small()
    };
    let mut bench = Bench::echo(config);
    let peer = bench.open();
    peer.set_writable_bytes(100);
    peer.send_text("little");
    peer.send_text(&"x".repeat(1 << 20));
    bench.turns(300);
    peer.set_writable_bytes(usize::MAX);
    bench.turns(5);
    assert_eq!(peer.take_texts().len(), 2);
}

#[test]
fn the_bytes_read_in_one_turn_are_bounded_and_complete_messages_answered() {
    const LEN: usize = 200_000;
    let mut bench = Bench::echo(Config::default());
    let peers: Vec<Peer> = (0..50).map(|_| bench.open()).collect();
    let large = client_frame(0x82, &vec![7; LEN]);
    peers.iter().for_each(|peer| peer.send_bytes(&large));
    let answered = [0; 4].map(|_| {
        bench.turn();
        let has_answer = |peer: &&Peer| peer.take_written().len() == 10 + LEN;
        peers.iter().filter(has_answer).count()
    });
    // A turn reads at most 4 MiB. The first turn reads 80 KiB from each session, which is almost all of that, but long messages
    // may always have 1 MiB: that completes 9 messages. Later turns read 4 MiB each.
    assert_eq!(answered, [9, 36, 5, 0]);
    assert!(!bench.engine.has_work());
}

/// Returns a bench whose handler echoes each message, and pauses the session at the message "pause".
fn pausing(config: Config) -> Bench {
    Bench::new(config, |cx, id, message| {
        if message.as_text() == Some("pause") {
            assert!(cx.pause(id));
            assert!(!cx.pause(id), "paused already");
        }
        let _ = cx.send(id, message);
    })
}

#[test]
fn a_paused_session_is_not_read_and_its_messages_arrive_after_resume() {
    let mut bench = pausing(small());
    let peer = bench.open();
    let mut burst = client_frame(0x81, b"pause");
    for index in 0..1000 {
        burst.extend(client_frame(0x81, format!("{index:>500}").as_bytes()));
    }
    peer.send_bytes(&burst);
    bench.turns(20);
    // One receive buffer was read. The rest waits in the socket, as much as the peer may send.
    assert_eq!(peer.unread_bytes(), burst.len() - 4096);
    assert_eq!(peer.take_texts(), ["pause"]);
    assert!(bench.engine.send(peer.id, "still sent".into()) == SendStatus::Queued);
    bench.turns(2);
    assert_eq!(peer.take_texts(), ["still sent"]);
    assert!(bench.engine.resume(peer.id));
    assert!(!bench.engine.resume(peer.id), "not paused");
    bench.turns(300);
    let texts = peer.take_texts();
    assert_eq!(texts.len(), 1000);
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(text.trim(), index.to_string());
    }
}

#[test]
fn a_pause_in_the_middle_of_a_long_message_stops_its_reading() {
    let mut bench = pausing(Config {
        message_bytes_max: 400_000,
        backlog_bytes_max: 500_000,
        ..small()
    });
    let peer = bench.open();
    let long = vec![b'x'; 300_000];
    peer.send_bytes(&client_frame(0x81, &long)[..100_000]);
    bench.turns(20);
    assert!(bench.engine.pause(peer.id));
    peer.send_bytes(&client_frame(0x81, &long)[100_000..]);
    let unread = peer.unread_bytes();
    bench.turns(20);
    assert_eq!(peer.unread_bytes(), unread);
    bench.engine.resume(peer.id);
    bench.turns(200);
    assert_eq!(peer.take_texts(), [String::from_utf8(long).unwrap()]);
}

#[test]
fn a_paused_session_gets_pings_and_is_not_closed_as_idle() {
    let mut bench = pausing(Config {
        idle_timeout: Some(Duration::from_secs(10)),
        ..small()
    });
    let peer = bench.open();
    assert!(bench.engine.pause(peer.id));
    for second in 1..100 {
        bench.turn_at(second * 1000);
    }
    let pings = peer.take_frames();
    assert!((15..=20).contains(&pings.len()), "{pings:?}");
    assert!(bench.engine.is_open(peer.id));
    // The idle timeout starts again. A session that was paused in its second half is not closed either.
    bench.engine.resume(peer.id);
    for second in 100..107 {
        bench.turn_at(second * 1000);
    }
    assert!(bench.engine.is_open(peer.id));
    assert!(bench.engine.pause(peer.id));
    for second in 107..200 {
        bench.turn_at(second * 1000);
    }
    assert!(bench.engine.is_open(peer.id));
    bench.engine.resume(peer.id);
    for second in 200..215 {
        bench.turn_at(second * 1000);
    }
    assert!(!bench.engine.is_open(peer.id), "idle after resume");
}

#[test]
fn close_and_stop_resume_a_paused_session() {
    for stops in [false, true] {
        let mut bench = pausing(small());
        let peer = bench.open();
        peer.send_text("pause");
        bench.turn();
        peer.send_text("before the Close");
        peer.send_bytes(&client_frame(0x88, &1000_u16.to_be_bytes()));
        if stops {
            bench.engine.stop();
        } else {
            assert!(bench.engine.close(peer.id, 1000, ""));
            assert!(!bench.engine.pause(peer.id), "closing");
        }
        bench.turns(3);
        peer.send_bytes(b"");
        bench.turns(3);
        let close = format!("close 0 {} ", if stops { 1001 } else { 1000 });
        let events = bench.take_events();
        let is_close = |event: &String| event.starts_with(&close) && event.contains("true");
        assert!(events.iter().any(is_close), "{events:?}");
    }
}

#[test]
fn a_paused_session_whose_connection_is_reset_ends_at_once() {
    let mut bench = pausing(small());
    let peer = bench.open();
    assert!(bench.engine.pause(peer.id));
    peer.send_text("never read");
    bench.turn();
    bench.engine.mark(
        peer.id,
        Readiness {
            is_readable: true,
            is_end: true,
            is_error: true,
            ..Readiness::default()
        },
    );
    bench.turn();
    let events = bench.take_events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[1].starts_with("error 0 "), "{events:?}");
    assert!(events[2].starts_with("close 0 1006 "), "{events:?}");
    assert!(!bench.engine.resume(peer.id), "the session has ended");
}
