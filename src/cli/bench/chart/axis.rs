//! Scales, and the values at which they have ticks.

/// Maps values to coordinates.
pub(super) struct Axis {
    scale: Scale,
    /// The values at both ends.
    low: f64,
    high: f64,
    /// The coordinates of both ends.
    start: f64,
    end: f64,
    ticks: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// Returns a logarithmic axis that contains all values, and ends at ticks. Values below [`VALUE_MIN`] are placed
    /// there.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = bounds(values.map(|value| value.max(VALUE_MIN))).unwrap_or((2.0, 5.0));
        let mut steps: Vec<f64> = STEPS_ALL
            .map(|exponent| 10.0_f64.powi(exponent))
            .flat_map(|power| [power, 2.0 * power, 5.0 * power])
            .collect();
        // One tick below the lowest value, and one at or above the highest.
        let first = steps.partition_point(|step| *step < low / ROUNDING).max(1) - 1;
        let last = steps.partition_point(|step| *step * ROUNDING < high);
        // With two ticks, values that hardly differ could all be at an end: one more on either side.
        let (first, last) = if last < first + 2 {
            (first.saturating_sub(1), last + 1)
        } else {
            (first, last)
        };
        let last = last.clamp(first + 2, steps.len() - 1);
        steps = steps[first..=last].to_vec();
        let (low, high) = (steps[0], steps[steps.len() - 1]);
        if steps.len() > TICKS_MAX {
            steps.retain(|step| {
                let exponent = step.log10();
                (exponent - exponent.round()).abs() < 1e-6
            });
        }
        Self {
            scale: Scale::Logarithmic,
            low,
            high,
            start,
            end,
            ticks: steps,
        }
    }

    /// Returns a linear axis from 0 that contains all values and ends at a tick.
    pub(super) fn linear(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let high = values.fold(0.0, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high / 4.0);
        let count = (high / step / ROUNDING).ceil().max(1.0);
        let high = step * count;
        Self {
            scale: Scale::Linear,
            low: 0.0,
            high,
            start,
            end,
            ticks: multiples(step, high),
        }
    }

    /// Returns a linear axis from 0 to exactly `seconds`, with ticks at round numbers of its [`TimeUnit`].
    pub(super) fn time(seconds: f64, start: f64, end: f64) -> Self {
        let unit = TimeUnit::of(seconds).seconds();
        let step = unit * step(seconds / unit / 10.0);
        Self {
            scale: Scale::Linear,
            low: 0.0,
            high: seconds,
            start,
            end,
            ticks: multiples(step, seconds),
        }
    }

    /// Returns the coordinate of a value.
    pub(super) fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => {
                (value.max(VALUE_MIN) / self.low).log10() / (self.high / self.low).log10()
            }
        };
        self.start + (self.end - self.start) * part
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        self.ticks.iter().copied()
    }

    pub(super) fn is_logarithmic(&self) -> bool {
        self.scale == Scale::Logarithmic
    }
}

/// The unit of an axis of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TimeUnit {
    Seconds,
    Minutes,
    Hours,
}

impl TimeUnit {
    pub(super) fn of(seconds: f64) -> Self {
        if seconds <= 180.0 {
            Self::Seconds
        } else if seconds <= 3.0 * 3600.0 {
            Self::Minutes
        } else {
            Self::Hours
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    fn seconds(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Minutes => 60.0,
            Self::Hours => 3600.0,
        }
    }

    /// Formats a tick, which is given in seconds.
    pub(super) fn label(self, seconds: f64) -> String {
        // Digits beyond are errors of rounding: the smallest step is that of a run of 1 ms.
        let text = format!("{:.5}", seconds / self.seconds());
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Returns the smallest step of 1, 2 or 5 times a power of ten that is not below `least`.
fn step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    let found = steps.into_iter().find(|step| *step * ROUNDING >= least);
    found.unwrap_or(10.0 * power)
}

/// Returns 0 and the multiples of `step` up to `high`.
fn multiples(step: f64, high: f64) -> Vec<f64> {
    let count = (high / step * ROUNDING).floor() as u32;
    (0..=count).map(|nth| f64::from(nth) * step).collect()
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// A value that differs from a tick by less than this factor is at the tick.
const ROUNDING: f64 = 1.0 + 1e-9;

/// Smallest value of a logarithmic axis.
const VALUE_MIN: f64 = 0.01;

/// Exponents of the ticks of a logarithmic axis: from 10 ns to 3 hours, in microseconds.
const STEPS_ALL: std::ops::RangeInclusive<i32> = -2..=10;

/// With more ticks at 1, 2 and 5, only powers of ten are shown.
const TICKS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<f64> {
        let round = |tick: f64| (tick * 1e6).round() / 1e6;
        axis.ticks().map(round).collect()
    }

    #[test]
    fn a_logarithmic_axis_contains_its_values() {
        let table: [(&[f64], &[f64]); 6] = [
            (&[], &[1.0, 2.0, 5.0]),
            (&[30.0, 90.0], &[20.0, 50.0, 100.0]),
            (&[50.0], &[10.0, 20.0, 50.0, 100.0]),
            (&[0.0], &[0.01, 0.02, 0.05]),
            (&[7.0, 90_000.0], &[10.0, 100.0, 1e3, 1e4, 1e5]),
            (&[3.6e9], &[1e9, 2e9, 5e9, 1e10]),
        ];
        for (values, expected) in table {
            let axis = Axis::logarithmic(values.iter().copied(), 100.0, 0.0);
            assert_eq!(ticks(&axis), expected, "{values:?}");
            for value in values {
                assert!((0.0..=100.0).contains(&axis.place(*value)), "{values:?}");
            }
        }
        let axis = Axis::logarithmic([1.5, 100.0].into_iter(), 100.0, 0.0);
        let places = [1.0, 10.0, 100.0].map(|value| axis.place(value).round());
        assert_eq!(places, [100.0, 50.0, 0.0]);
    }

    #[test]
    fn a_linear_axis_starts_at_zero_and_ends_at_a_tick() {
        let table: [(&[f64], &[f64]); 4] = [
            (&[], &[0.0, 0.5, 1.0]),
            (&[0.0], &[0.0, 0.5, 1.0]),
            (&[87.0, 3.0], &[0.0, 50.0, 100.0]),
            (&[1000.0], &[0.0, 500.0, 1000.0]),
        ];
        for (values, expected) in table {
            let axis = Axis::linear(values.iter().copied(), 100.0, 0.0);
            assert_eq!(ticks(&axis), expected, "{values:?}");
        }
        let axis = Axis::linear([200.0].into_iter(), 100.0, 0.0);
        assert_eq!((axis.place(0.0), axis.place(100.0)), (100.0, 50.0));
    }

    #[test]
    fn times_have_round_ticks_in_their_unit() {
        let table = [
            (0.3, "seconds", "0 0.05 0.1 0.15 0.2 0.25 0.3"),
            (10.0, "seconds", "0 1 2 3 4 5 6 7 8 9 10"),
            (
                0.001,
                "seconds",
                "0 0.0001 0.0002 0.0003 0.0004 0.0005 0.0006 0.0007 0.0008 0.0009 0.001",
            ),
            (600.0, "minutes", "0 1 2 3 4 5 6 7 8 9 10"),
            (86_400.0, "hours", "0 5 10 15 20"),
        ];
        for (seconds, name, expected) in table {
            let unit = TimeUnit::of(seconds);
            let labels: Vec<_> = Axis::time(seconds, 0.0, 1.0)
                .ticks()
                .map(|tick| unit.label(tick))
                .collect();
            assert_eq!((unit.name(), labels.join(" ").as_str()), (name, expected));
        }
    }
}
