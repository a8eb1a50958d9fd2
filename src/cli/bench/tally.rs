//! Counters of a run, and the statistics computed from them.

use hdrhistogram::Histogram;

/// Counters of one phase of a run. Times are in nanoseconds of the run's clock.
pub(super) struct Tally {
    started: u64,
    /// Expected messages received.
    pub(super) messages: u64,
    /// Messages queued for sending, including those that were unanswered when the previous phase ended.
    pub(super) sent: u64,
    /// Bytes received, including frame headers and control frames.
    pub(super) bytes: u64,
    /// Latencies in nanoseconds: one per message, or one per round in a broadcast.
    pub(super) latencies: Histogram<u64>,
    /// Received messages per second, one value per [`SAMPLE_INTERVAL`].
    rates: Vec<f64>,
    /// Time of the last sample, and the value of `messages` at that time.
    sampled: (u64, u64),
}

/// Numbers of errors, from the first connection attempt to the end of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    /// Connections that could not be opened.
    pub(super) connect: u64,
    /// Connections lost while reading, including those that the server closed.
    pub(super) read: u64,
    /// Connections lost while writing.
    pub(super) write: u64,
    /// Connections that expected an answer and received nothing for `--timeout`. In a broadcast, a connection counts
    /// once per round.
    pub(super) timeout: u64,
    /// Messages with a different type or content (with `--verify`), and messages that were not expected.
    pub(super) mismatch: u64,
    /// Expected messages that did not arrive.
    pub(super) missing: u64,
}

/// Result of a finished tally.
pub(super) struct Totals {
    pub(super) seconds: f64,
    pub(super) messages: u64,
    /// Messages of which at least one byte was written.
    pub(super) sent: u64,
    /// How many of `sent` were answered after the measurement.
    pub(super) late: u64,
    /// How many of `sent` had no answer at the end of the run. In a broadcast, messages that members did not receive.
    pub(super) never: u64,
    pub(super) bytes: u64,
    pub(super) latency: Latency,
    /// Received messages per second.
    pub(super) rate: Spread,
}

/// Average, standard deviation and maximum of a set of values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) avg: f64,
    pub(super) stdev: f64,
    pub(super) max: f64,
    /// Percentage of the values within one standard deviation of the average.
    pub(super) within_stdev_percent: f64,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) spread: Spread,
    /// In the order of [`PERCENTILES`].
    pub(super) percentiles: [f64; PERCENTILES.len()],
}

pub(super) const PERCENTILES: [f64; 5] = [50.0, 75.0, 90.0, 99.0, 99.9];

/// Nanoseconds between two samples of the message rate.
pub(super) const SAMPLE_INTERVAL: u64 = 100_000_000;

impl Tally {
    /// Starts counting at `now`. `sent` is the number of messages that were sent before and are not answered.
    pub(super) fn new(now: u64, sent: u64) -> Self {
        Self {
            started: now,
            messages: 0,
            sent,
            bytes: 0,
            latencies: latencies(),
            rates: Vec::new(),
            sampled: (now, 0),
        }
    }

    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Returns when the next sample of the rate is due.
    pub(super) fn next_sample(&self) -> u64 {
        self.sampled.0 + SAMPLE_INTERVAL
    }

    /// Samples the message rate since the last sample.
    pub(super) fn sample(&mut self, now: u64) {
        let (then, messages) = self.sampled;
        let seconds = seconds(now - then);
        if seconds > 0.0 {
            self.rates.push((self.messages - messages) as f64 / seconds);
            self.sampled = (now, self.messages);
        }
    }

    /// Ends counting. `unstarted` is the number of messages in `sent` of which no byte is written.
    pub(super) fn finish(mut self, now: u64, unstarted: u64) -> Totals {
        // A last interval shorter than half of SAMPLE_INTERVAL is ignored: a rate over so few messages would distort
        // the standard deviation.
        if self.rates.is_empty() || now - self.sampled.0 > SAMPLE_INTERVAL / 2 {
            self.sample(now);
        }
        Totals {
            seconds: seconds(now - self.started),
            messages: self.messages,
            sent: self.sent.saturating_sub(unstarted),
            late: 0,
            never: 0,
            bytes: self.bytes,
            latency: Latency::of(&self.latencies),
            rate: Spread::of(&self.rates),
        }
    }
}

/// Returns an empty histogram for latencies in nanoseconds: from 64 ns to an hour, with three significant digits.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(64, 3_600_000_000_000, 3).expect("the bounds are in order")
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let count = values.len() as f64;
        let avg = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - avg).powi(2)).sum();
        let stdev = (squares / count).sqrt();
        let near = values.iter().filter(|value| (**value - avg).abs() <= stdev);
        Self {
            avg,
            stdev,
            max: values.iter().copied().fold(0.0, f64::max),
            within_stdev_percent: near.count() as f64 * 100.0 / count,
        }
    }
}

impl Latency {
    pub(super) fn of(latencies: &Histogram<u64>) -> Self {
        if latencies.is_empty() {
            return Self::default();
        }
        let (avg, stdev) = (latencies.mean(), latencies.stdev());
        // The casts saturate at zero and drop fractions of a nanosecond.
        let near = latencies.count_between((avg - stdev) as u64, (avg + stdev) as u64);
        Self {
            spread: Spread {
                avg: avg / 1000.0,
                stdev: stdev / 1000.0,
                max: latencies.max() as f64 / 1000.0,
                within_stdev_percent: near as f64 * 100.0 / latencies.len() as f64,
            },
            percentiles: PERCENTILES
                .map(|percent| latencies.value_at_percentile(percent) as f64 / 1000.0),
        }
    }
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_and_standard_deviation_are_those_of_the_population() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((spread.avg, spread.stdev, spread.max), (5.0, 2.0, 9.0));
        assert_eq!(spread.within_stdev_percent, 75.0);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn latencies_are_in_microseconds() {
        let mut latencies = latencies();
        latencies.saturating_record_n(1_000_000, 99);
        latencies.saturating_record_n(9_000_000, 1);
        let latency = Latency::of(&latencies);
        let is_near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(is_near(latency.spread.avg, 1080.0), "{latency:?}");
        assert!(is_near(latency.spread.max, 9000.0), "{latency:?}");
        assert!(is_near(latency.percentiles[0], 1000.0), "{latency:?}");
        assert!(is_near(latency.percentiles[4], 9000.0), "{latency:?}");
        assert_eq!(latency.spread.within_stdev_percent, 99.0);
    }

    #[test]
    fn a_tally_counts_from_its_start_and_samples_its_rate() {
        let mut tally = Tally::new(SAMPLE_INTERVAL, 32);
        for step in 2..=5 {
            tally.messages += 100;
            assert_eq!(tally.next_sample(), step * SAMPLE_INTERVAL);
            tally.sample(step * SAMPLE_INTERVAL);
        }
        tally.sent += 400;
        let totals = tally.finish(5 * SAMPLE_INTERVAL + SAMPLE_INTERVAL / 4, 2);
        assert_eq!((totals.messages, totals.sent), (400, 430));
        assert_eq!(totals.seconds, 0.425);
        assert_eq!((totals.rate.avg, totals.rate.stdev), (1000.0, 0.0));
    }

    #[test]
    fn the_rate_of_a_run_without_a_sample_is_that_of_the_whole_run() {
        let mut tally = Tally::new(0, 0);
        tally.messages = 10;
        assert_eq!(tally.finish(SAMPLE_INTERVAL / 10, 0).rate.avg, 1000.0);
    }
}
