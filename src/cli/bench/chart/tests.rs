use super::*;

#[test]
fn numbers_have_three_significant_digits() {
    let durations = [
        (0.064, "64 ns"),
        (1.0, "1 \u{b5}s"),
        (12.34, "12.3 \u{b5}s"),
        (999.7, "1 ms"),
        (1234.0, "1.23 ms"),
        (500_000.0, "500 ms"),
        (10e6, "10 s"),
        (3600e6, "3600 s"),
    ];
    for (micros, text) in durations {
        assert_eq!(duration(micros), text);
    }
    let amounts = [
        (0.0, "0"),
        (2.5, "2.5"),
        (20_000.0, "20k"),
        (1.25e6, "1.25M"),
    ];
    for (number, text) in amounts {
        assert_eq!(short_amount(number), text);
    }
}

#[test]
fn a_long_run_is_drawn_with_the_highest_values_of_joined_intervals() {
    let interval = |nth: u32| Interval {
        start: f64::from(nth),
        end: f64::from(nth + 1),
        messages: 2,
        latencies: (nth != 1).then_some([f64::from(nth); 5]),
    };
    let few: Vec<_> = (0..600).map(interval).collect();
    assert_eq!(join(&few), (few.clone(), 1));
    assert_eq!(join(&[]), (Vec::new(), 1));
    let many: Vec<_> = (0..1801).map(interval).collect();
    let (joined, count) = join(&many);
    assert_eq!((joined.len(), count), (451, 4));
    let expected = Interval {
        start: 0.0,
        end: 4.0,
        messages: 8,
        latencies: Some([3.0; 5]),
    };
    assert_eq!((joined[0], joined[450]), (expected, many[1800]));
}
