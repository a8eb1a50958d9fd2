//! Schedules, with times passed by the test.

use super::*;
use crate::cli::bench::tally;

const MS: u64 = 1_000_000;

/// Returns a percentile in milliseconds, exact to 0.1 %.
fn at(latencies: &Histogram<u64>, percent: f64) -> f64 {
    latencies.value_at_percentile(percent) as f64 / MS as f64
}

fn is_near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= expected * 0.002
}

/// Returns the connections on which messages have become due, and their numbers.
fn due(pace: &mut Pace, now: u64) -> Vec<(usize, u64)> {
    let mut due = Vec::new();
    pace.send_due(now, |index, messages| due.push((index, messages)));
    due
}

#[test]
fn answers_of_a_window_are_measured_from_the_oldest_send() {
    let mut latencies = tally::latencies();
    let mut window = Window::new(2, 3);
    window.send(0, 3, 0);
    assert_eq!(window.awaited(0), 3);
    assert_eq!(window.record_received(0, 2, 10 * MS, &mut latencies), 0);
    window.send(0, 2, 10 * MS);
    assert_eq!(window.record_received(0, 3, 40 * MS, &mut latencies), 0);
    assert_eq!((window.awaited(0), latencies.len()), (0, 5));
    // 10, 10, 30, 30, 40.
    for (percent, expected) in [(40.0, 10.0), (60.0, 30.0), (80.0, 30.0), (100.0, 40.0)] {
        let value = at(&latencies, percent);
        assert!(is_near(value, expected), "{percent}%: {value}");
    }
}

#[test]
fn surplus_answers_and_cancelled_messages_of_a_window_are_not_counted() {
    let mut latencies = tally::latencies();
    let mut window = Window::new(1, 4);
    assert_eq!(window.record_received(0, 2, 0, &mut latencies), 2);
    window.send(0, 4, 0);
    window.send(0, 3, 1);
    window.cancel(0, 5);
    assert_eq!(window.awaited(0), 2);
    assert_eq!(window.record_received(0, 5, 2, &mut latencies), 3);
    assert_eq!(latencies.len(), 2);
}

#[test]
fn messages_are_due_at_equal_intervals_on_each_connection_in_turn() {
    let mut pace = Pace::new(3, 100, 7 * MS);
    assert_eq!(due(&mut pace, 7 * MS), [(0, 1)]);
    assert_eq!(due(&mut pace, 16 * MS), []);
    assert_eq!(pace.next_due(), 17 * MS);
    assert_eq!(due(&mut pace, 17 * MS), [(1, 1)]);
    // 3.5 intervals after the next message was due. All delayed messages are due now.
    assert_eq!(due(&mut pace, 62 * MS), [(2, 2), (0, 1), (1, 1)]);
    assert_eq!(pace.next_due(), 67 * MS);
}

#[test]
fn rounding_loses_no_message_in_a_day_at_any_rate() {
    for rate in [1, 3, 7, 999, 1_000_003, 1_000_000_000] {
        let mut pace = Pace::new(1, rate, 0);
        let day = 86_400 * SECOND;
        assert_eq!(due(&mut pace, day), [(0, 86_400 * rate + 1)], "{rate}");
        assert_eq!(due(&mut pace, day), []);
        assert!(pace.next_due() > day);
    }
}

#[test]
fn a_stall_increases_the_latency_of_every_message_due_in_it() {
    // 100 messages per second. The server answers each after 1 ms, but stalls from 100 ms to 1100 ms.
    let mut latencies = tally::latencies();
    let mut pace = Pace::new(1, 100, 0);
    for message in 0..10 {
        let now = message * 10 * MS;
        assert_eq!(due(&mut pace, now), [(0, 1)]);
        assert_eq!(pace.record_received(0, 1, now + MS, &mut latencies), 0);
    }
    // The load generator is late as well. The time of sending does not matter.
    assert_eq!(due(&mut pace, 1090 * MS), [(0, 100)]);
    assert_eq!(pace.awaited(0), 100);
    assert_eq!(pace.record_received(0, 100, 1100 * MS, &mut latencies), 0);
    assert_eq!(latencies.len(), 110);
    // Not a single latency of 1 s and ten of 1 ms, but 1000, 990, 980 and so on down to 10 ms.
    assert!(is_near(latencies.max() as f64, 1000.0 * MS as f64));
    let (middle, few) = (at(&latencies, 50.0), at(&latencies, 9.0));
    assert!((440.0..=460.0).contains(&middle), "{middle}");
    assert!(is_near(few, 1.0), "{few}");
}

#[test]
fn surplus_answers_of_a_pace_are_returned() {
    let mut latencies = tally::latencies();
    let mut pace = Pace::new(2, 10, 0);
    assert_eq!(due(&mut pace, 100 * MS), [(0, 1), (1, 1)]);
    assert_eq!(pace.record_received(1, 3, 101 * MS, &mut latencies), 2);
    assert!(is_near(latencies.max() as f64, MS as f64));
    pace.cancel(0, 1);
    assert_eq!(pace.record_received(0, 1, 101 * MS, &mut latencies), 1);
}

fn start(rounds: &mut Rounds, now: u64) -> Vec<(usize, u64)> {
    let mut sent = Vec::new();
    rounds.start(now, |index, messages| sent.push((index, messages)));
    sent
}

#[test]
fn a_round_ends_when_all_connections_have_received_all_messages() {
    let mut latencies = tally::latencies();
    let mut rounds = Rounds::new(3, 2, 4);
    assert!(rounds.is_complete());
    assert_eq!(start(&mut rounds, 10 * MS), [(0, 4), (1, 4)]);
    for (index, now) in [(0, 11), (1, 12), (2, 13)] {
        assert!(!rounds.is_complete());
        assert_eq!(
            rounds.record_received(index, 3, now * MS, &mut latencies),
            0
        );
        assert_eq!(
            rounds.record_received(index, 5, now * MS, &mut latencies),
            0
        );
    }
    assert!(rounds.is_complete());
    assert_eq!(latencies.len(), 1);
    assert!(is_near(latencies.max() as f64, 3.0 * MS as f64));
    // A surplus message.
    assert_eq!(rounds.record_received(0, 1, 14 * MS, &mut latencies), 1);
}

#[test]
fn missing_messages_of_a_round_are_counted() {
    let mut latencies = tally::latencies();
    let mut rounds = Rounds::new(3, 1, 10);
    start(&mut rounds, 0);
    rounds.record_received(0, 10, 1, &mut latencies);
    rounds.record_received(1, 7, 1, &mut latencies);
    assert_eq!(rounds.abandon(), (2, 3 + 10));
    assert!(rounds.is_complete());
    start(&mut rounds, 5);
    assert_eq!(rounds.awaited(1), 10);
    assert_eq!(rounds.remove(2), 10);
    assert_eq!(rounds.remove(1), 10);
    assert!(!rounds.is_complete() && rounds.has_senders());
    assert_eq!(rounds.remove(0), 10);
    assert!(rounds.is_complete() && !rounds.has_senders());
    assert_eq!(latencies.len(), 0);
}

#[test]
fn the_next_round_does_not_wait_for_messages_of_a_lost_sender() {
    let mut latencies = tally::latencies();
    let mut rounds = Rounds::new(3, 3, 1);
    start(&mut rounds, 0);
    rounds.remove(1);
    rounds.abandon();
    assert_eq!(start(&mut rounds, 0), [(0, 1), (2, 1)]);
    assert_eq!(rounds.record_received(0, 2, 1, &mut latencies), 0);
    assert_eq!(rounds.record_received(2, 2, 1, &mut latencies), 0);
    assert!(rounds.is_complete());
}
