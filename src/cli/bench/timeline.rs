//! The figures of each interval of a run: messages and latency percentiles.

use super::tally::{self, Tally, seconds};
use hdrhistogram::Histogram;

/// Figures of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interval {
    /// Start and end in seconds since the start of the tally.
    pub(super) start: f64,
    pub(super) end: f64,
    /// Messages received.
    pub(super) messages: u64,
    /// Latencies in microseconds, in the order of [`PERCENTILES`], and the maximum. `None` if none was recorded.
    pub(super) latencies: Option<[f64; PERCENTILES.len() + 1]>,
}

/// Percentiles of an interval.
pub(super) const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

impl Interval {
    pub(super) fn messages_per_second(&self) -> f64 {
        self.messages as f64 / (self.end - self.start)
    }
}

/// Computes the figures of intervals as differences between the states of a [`Tally`]. Recording a latency costs
/// nothing more; the end of an interval costs about 0.1 ms.
pub(super) struct Differences {
    /// State of the tally at the end of the last interval: time, messages and latencies.
    at: u64,
    messages: u64,
    latencies: Histogram<u64>,
}

impl Differences {
    pub(super) fn new() -> Self {
        Self {
            at: 0,
            messages: 0,
            latencies: tally::latencies(),
        }
    }

    /// Returns the nanoseconds since the end of the last interval, or since the start of a tally that is newer.
    pub(super) fn elapsed(&self, now: u64, tally: &Tally) -> u64 {
        now.saturating_sub(self.at.max(tally.started()))
    }

    /// Ends an interval at `now`, which is later than its start. It starts with the tally if the tally is newer than
    /// the last interval.
    pub(super) fn next(&mut self, now: u64, tally: &Tally) -> Interval {
        if self.at < tally.started() {
            (self.at, self.messages) = (tally.started(), 0);
            self.latencies.reset();
        }
        let current = tally.latencies.clone();
        let mut new = current.clone();
        new.subtract(&self.latencies)
            .expect("a tally only adds to its latencies");
        let interval = Interval {
            start: seconds(self.at - tally.started()),
            end: seconds(now - tally.started()),
            messages: tally.messages - self.messages,
            latencies: (!new.is_empty()).then(|| {
                let micros = |nanos: u64| nanos as f64 / 1000.0;
                let [p50, p90, p99, p99_9] =
                    PERCENTILES.map(|percent| micros(new.value_at_percentile(percent)));
                [p50, p90, p99, p99_9, micros(new.max())]
            }),
        };
        (self.at, self.messages, self.latencies) = (now, tally.messages, current);
        interval
    }
}

/// Collects the intervals of the measurement, for a chart.
pub(super) struct Timeline {
    /// Length of an interval in nanoseconds.
    length: u64,
    differences: Differences,
    intervals: Vec<Interval>,
    /// The latencies of the whole measurement.
    latencies: Histogram<u64>,
}

impl Timeline {
    /// `duration` is that of the measurement in nanoseconds.
    pub(super) fn new(duration: u64) -> Self {
        Self {
            length: interval_of(duration),
            differences: Differences::new(),
            intervals: Vec::new(),
            latencies: tally::latencies(),
        }
    }

    /// Removes all intervals: the measurement starts again.
    pub(super) fn clear(&mut self) {
        self.intervals.clear();
    }

    /// Ends an interval if it has its length.
    pub(super) fn sample(&mut self, now: u64, tally: &Tally) {
        // A sample is taken up to a few microseconds early or late.
        if self.differences.elapsed(now, tally) + tally::SAMPLE_INTERVAL / 2 >= self.length {
            self.intervals.push(self.differences.next(now, tally));
        }
    }

    /// Called at the end of the measurement. Ends the last interval. One shorter than half of the others is omitted: its rate would be that of few messages.
    pub(super) fn finish(&mut self, now: u64, tally: &Tally) {
        let elapsed = self.differences.elapsed(now, tally);
        if elapsed >= self.length / 2 || self.intervals.is_empty() && elapsed > 0 {
            self.intervals.push(self.differences.next(now, tally));
        }
        self.latencies = tally.latencies.clone();
    }

    pub(super) fn set_latencies(&mut self, latencies: &Histogram<u64>) {
        self.latencies = latencies.clone();
    }

    pub(super) fn latencies(&self) -> &Histogram<u64> {
        &self.latencies
    }

    pub(super) fn interval_seconds(&self) -> f64 {
        seconds(self.length)
    }

    pub(super) fn intervals(&self) -> &[Interval] {
        &self.intervals
    }
}

/// Returns the length of the intervals of a measurement: a second, or less in a measurement of less than 20 s, so that
/// a chart has at least 20 of them if the shortest interval allows.
fn interval_of(duration: u64) -> u64 {
    let samples = (duration / 20 / tally::SAMPLE_INTERVAL).clamp(1, 10);
    samples * tally::SAMPLE_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::schedule::SECOND;

    #[test]
    fn an_interval_has_the_messages_and_latencies_since_the_last_one() {
        let mut tally = Tally::new(SECOND, 0);
        let mut differences = Differences::new();
        tally.messages = 10;
        tally.latencies.saturating_record_n(1_000_000, 10);
        assert_eq!(differences.elapsed(2 * SECOND, &tally), SECOND);
        let first = differences.next(2 * SECOND, &tally);
        assert_eq!((first.start, first.end, first.messages), (0.0, 1.0, 10));
        tally.messages = 14;
        tally.latencies.saturating_record_n(9_000_000, 4);
        let second = differences.next(4 * SECOND, &tally);
        assert_eq!((second.start, second.end, second.messages), (1.0, 3.0, 4));
        assert_eq!(second.messages_per_second(), 2.0);
        let [p50, .., max] = second.latencies.unwrap();
        assert!((p50 / 9000.0 - 1.0).abs() < 0.002 && p50 <= max, "{p50}");
        // Nothing arrives, then the tally is replaced.
        let third = differences.next(5 * SECOND, &tally);
        assert_eq!((third.messages, third.latencies), (0, None));
        let mut tally = Tally::new(6 * SECOND, 0);
        tally.messages = 1;
        let fourth = differences.next(7 * SECOND, &tally);
        assert_eq!((fourth.start, fourth.end, fourth.messages), (0.0, 1.0, 1));
    }

    #[test]
    fn intervals_are_a_second_or_a_twentieth_of_a_short_run() {
        let millis = |duration| interval_of(duration) / 1_000_000;
        let table = [(0, 100), (300, 100), (2000, 100), (10_000, 500)];
        for (duration, expected) in table {
            assert_eq!(millis(duration * 1_000_000), expected, "{duration}");
        }
        assert_eq!((millis(20 * SECOND), millis(86_400 * SECOND)), (1000, 1000));
    }

    #[test]
    fn a_run_shorter_than_an_interval_has_one() {
        let mut tally = Tally::new(0, 0);
        let mut timeline = Timeline::new(SECOND / 100);
        tally.messages = 3;
        timeline.sample(SECOND / 100, &tally);
        assert_eq!(timeline.intervals().len(), 0);
        timeline.finish(SECOND / 100, &tally);
        timeline.finish(SECOND / 100 + 1, &tally);
        assert_eq!(timeline.intervals().len(), 1);
    }
}
