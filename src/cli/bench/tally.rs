//! What is counted while a load runs, and the figures that come of it.

use hdrhistogram::Histogram;

/// Counts from one moment on. Times are in nanoseconds of the run's clock.
pub(super) struct Tally {
    started: u64,
    pub(super) messages: u64,
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) latencies: Histogram<u64>,
    rates: Vec<f64>,
    /// When the last rate was taken, and the messages until then.
    sampled: (u64, u64),
}

/// What went wrong, from the first connection to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) connect: u64,
    pub(super) read: u64,
    pub(super) write: u64,
    /// Connections that owed an answer and said nothing for too long.
    pub(super) timeout: u64,
    /// Messages with another content, if that is compared, and messages that nobody asked for.
    pub(super) mismatch: u64,
    /// Messages that were due and did not come.
    pub(super) missing: u64,
}

/// A finished tally.
pub(super) struct Totals {
    pub(super) seconds: f64,
    pub(super) messages: u64,
    pub(super) sent: u64,
    pub(super) bytes: u64,
    pub(super) latency: Latency,
    pub(super) rate: Spread,
}

/// How far values lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) avg: f64,
    pub(super) stdev: f64,
    pub(super) max: f64,
    /// Of a hundred values, how many are within one standard deviation of the average.
    pub(super) within_stdev_percent: f64,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) spread: Spread,
    /// In the order of [`PERCENTILES`].
    pub(super) percentiles: [f64; PERCENTILES.len()],
}

pub(super) const PERCENTILES: [f64; 5] = [50.0, 75.0, 90.0, 99.0, 99.9];

/// A rate is taken this often.
pub(super) const SAMPLE_INTERVAL: u64 = 100_000_000;

impl Errors {
    pub(super) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Tally {
    /// Begins to count; `sent` messages are on their way already.
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

    /// When the next rate is to be taken.
    pub(super) fn next_sample(&self) -> u64 {
        self.sampled.0 + SAMPLE_INTERVAL
    }

    /// Takes the rate since the last time.
    pub(super) fn sample(&mut self, now: u64) {
        let (then, messages) = self.sampled;
        let seconds = seconds(now - then);
        if seconds > 0.0 {
            self.rates.push((self.messages - messages) as f64 / seconds);
            self.sampled = (now, self.messages);
        }
    }

    /// Ends it; `unsent` of the messages sent have not left.
    pub(super) fn finish(mut self, now: u64, unsent: u64) -> Totals {
        // A last piece that is short would be a rate of few messages.
        if self.rates.is_empty() || now - self.sampled.0 > SAMPLE_INTERVAL / 2 {
            self.sample(now);
        }
        Totals {
            seconds: seconds(now - self.started),
            messages: self.messages,
            sent: self.sent.saturating_sub(unsent),
            bytes: self.bytes,
            latency: Latency::of(&self.latencies),
            rate: Spread::of(&self.rates),
        }
    }
}

/// For nanoseconds, up to an hour, kept to three digits.
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
        // Negative is zero, and fractions of a nanosecond are none.
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
    fn the_spread_of_values_is_that_of_the_textbook() {
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((spread.avg, spread.stdev, spread.max), (5.0, 2.0, 9.0));
        assert_eq!(spread.within_stdev_percent, 75.0);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn latencies_are_told_in_microseconds() {
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
    fn a_run_of_no_sample_has_its_whole_as_its_rate() {
        let mut tally = Tally::new(0, 0);
        tally.messages = 10;
        assert_eq!(tally.finish(SAMPLE_INTERVAL / 10, 0).rate.avg, 1000.0);
    }
}
