//! Draws the results of a run as an SVG image for reports: key figures, latency percentiles and throughput over time,
//! and the distribution of the latencies.
//!
//! The image needs no font, script or style sheet from elsewhere. It has a white background and is readable on light and
//! dark pages. It shows the URL without its query, and no headers, which may contain secrets.
//!
//! The crate plotters would draw the axes and lines; the text and the layout would remain here. It adds 119 KB to the
//! binary, a tenth of it, and four crates; this module adds 33 KB.

mod axis;
mod file;
mod svg;

use super::report::{self, Report};
use super::tally::Errors;
use super::timeline::{Interval, PERCENTILES, Timeline};
use crate::cli::args::Load;
use axis::{Axis, TimeUnit};
pub(super) use file::ChartFile;
use hdrhistogram::Histogram;
use svg::{Anchor, Style, Svg};

/// Returns the chart of a run.
pub(super) fn draw(report: &Report<'_>, timeline: &Timeline) -> String {
    let (intervals, joined) = join(timeline.intervals());
    let (name, what) = match report.bench.load {
        Load::InFlight(_) | Load::Rate(_) => ("Latency", "messages"),
        Load::Broadcast { .. } => ("Duration of a round", "rounds"),
    };
    let length = duration(timeline.interval_seconds() * 1e6);
    let every = match (intervals.len(), joined) {
        (0 | 1, _) => String::new(),
        (_, 1) => format!(", intervals of {length}"),
        (_, joined) => format!(", highest of {joined} intervals of {length}"),
    };
    let mut svg = Svg::new(WIDTH, HEIGHT, &title(report), &parameters(report));
    header(&mut svg, report);
    let panels = [0.0, 1.0, 2.0].map(|nth| Panel {
        top: PANELS_TOP + nth * PANEL_HEIGHT,
    });
    panels[0].latencies(&mut svg, &format!("{name} over time{every}"), &intervals);
    let target = match report.bench.load {
        Load::Rate(rate) => Some(rate as f64),
        Load::InFlight(_) | Load::Broadcast { .. } => None,
    };
    panels[1].throughput(&mut svg, &intervals, target);
    panels[2].distribution(
        &mut svg,
        &format!("{name} by percentile"),
        what,
        timeline.latencies(),
    );
    svg.finish()
}

/// Draws the title, the parameters, the key figures and the problems.
fn header(svg: &mut Svg, report: &Report<'_>) {
    svg.text(LEFT_EDGE, 36.0, &title(report), Style::TITLE, Anchor::Start);
    svg.text(
        LEFT_EDGE,
        60.0,
        &parameters(report),
        Style::NOTE,
        Anchor::Start,
    );
    let totals = &report.totals;
    let [p50, _, p90, p99, p99_9] = totals.latency.percentiles;
    let has_latency = totals.latency.spread.max > 0.0;
    let time = |micros| {
        if has_latency {
            duration(micros)
        } else {
            "-".to_owned()
        }
    };
    let figures = [
        ("messages/s", short_amount(report.messages_per_second())),
        ("p50", time(p50)),
        ("p90", time(p90)),
        ("p99", time(p99)),
        ("p99.9", time(p99_9)),
        ("max", time(totals.latency.spread.max)),
    ];
    let step = (RIGHT_EDGE - LEFT_EDGE) / figures.len() as f64;
    for (nth, (name, value)) in figures.iter().enumerate() {
        let x = LEFT_EDGE + nth as f64 * step;
        svg.text(x, 96.0, value, Style::FIGURE, Anchor::Start);
        let name = match report.bench.load {
            Load::Broadcast { .. } if nth > 0 => format!("{name} of the rounds"),
            Load::InFlight(_) | Load::Rate(_) | Load::Broadcast { .. } => (*name).to_owned(),
        };
        svg.text(x, 115.0, &name, Style::NOTE, Anchor::Start);
    }
    let problems = problems(report);
    if !problems.is_empty() {
        // A few late answers are normal: those that were pending when the measurement ended.
        let is_wrong = totals.never > 0 || report::list(&report.errors).is_some();
        let style = if is_wrong {
            Style::PROBLEM
        } else {
            Style::NOTE
        };
        svg.text(LEFT_EDGE, 142.0, &problems, style, Anchor::Start);
    }
}

fn title(report: &Report<'_>) -> String {
    let url = &report.bench.url;
    let path = url.target.split('?').next().unwrap_or("/");
    let query = if path.len() < url.target.len() {
        "?\u{2026}"
    } else {
        ""
    };
    let scheme = match url.tls_name {
        Some(_) => "wss",
        None => "ws",
    };
    let whole = format!("wsloop bench {scheme}://{}{path}{query}", url.host);
    if whole.chars().count() <= TITLE_CHARS_MAX {
        return whole;
    }
    let start: String = whole.chars().take(TITLE_CHARS_MAX - 1).collect();
    start + "\u{2026}"
}

/// Describes the load in one line.
fn parameters(report: &Report<'_>) -> String {
    let bench = report.bench;
    let connections = match report.connect.count {
        count if count < bench.connections => {
            format!("{count} of {} connections", bench.connections)
        }
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let kind = if bench.is_binary { "binary" } else { "text" };
    let size = size(bench.size);
    let load = match bench.load {
        Load::InFlight(in_flight) => format!("{in_flight} in flight on each"),
        Load::Rate(rate) => format!("{rate} messages/s on schedule"),
        Load::Broadcast { senders, burst } => {
            let senders = senders.min(report.connect.count);
            format!("broadcast by {senders} senders, bursts of {burst}")
        }
    };
    let measured = duration(report.totals.seconds * 1e6);
    let warmup = match bench.warmup.as_secs_f64() {
        0.0 => "without warm-up".to_owned(),
        seconds => format!("after {} of warm-up", duration(seconds * 1e6)),
    };
    format!("{connections}, {load}, {kind} of {size}; {measured} {warmup}")
}

/// Returns the errors and the missing answers in one line, or an empty string.
fn problems(report: &Report<'_>) -> String {
    let (totals, Errors { missing, .. }) = (&report.totals, report.errors);
    let mut parts = Vec::new();
    if let (Load::Rate(_), late @ 1..) = (&report.bench.load, totals.late) {
        parts.push(format!("{late} answered late"));
    }
    if totals.never > 0 {
        parts.push(format!("{} never answered", totals.never));
    }
    let mut errors = report.errors;
    // What is missing is mostly what was never answered.
    if missing == totals.never {
        errors.missing = 0;
    }
    if let Some(errors) = report::list(&errors) {
        parts.push(format!("errors: {errors}"));
    }
    parts.join("; ")
}

/// The place of one of the three diagrams.
#[derive(Clone, Copy)]
struct Panel {
    top: f64,
}

impl Panel {
    /// Draws the percentiles of each interval.
    fn latencies(self, svg: &mut Svg, title: &str, intervals: &[Interval]) {
        let all = intervals
            .iter()
            .filter_map(|interval| interval.latencies)
            .flatten();
        let values = Axis::logarithmic(all, self.bottom(), self.plot_top());
        let times = self.frame(svg, title, &values, intervals);
        let names = PERCENTILES.map(|percent| format!("p{percent}"));
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .chain([MAXIMUM_NAME])
            .collect();
        self.legend(svg, &names);
        // The median is drawn last, above the others.
        for nth in (0..COLOURS.len()).rev() {
            let points = intervals.iter().flat_map(|interval| {
                let value = interval.latencies.map(|all| values.place(all[nth]));
                let places = if intervals.len() == 1 {
                    vec![interval.start, interval.end]
                } else {
                    vec![(interval.start + interval.end) / 2.0]
                };
                let point = |time| value.map(|y| (times.place(time), y));
                places.into_iter().map(point).collect::<Vec<_>>()
            });
            line(svg, points, COLOURS[nth], intervals.len());
        }
    }

    /// Draws the messages per second of each interval, and the rate of `--rate`.
    fn throughput(self, svg: &mut Svg, intervals: &[Interval], target: Option<f64>) {
        let rates = intervals.iter().map(Interval::messages_per_second);
        let values = Axis::linear(rates.chain(target), self.bottom(), self.plot_top());
        let title = "Throughput over time, messages per second";
        let times = self.frame(svg, title, &values, intervals);
        if let Some(target) = target {
            let y = values.place(target);
            svg.dashed(LEFT, y, RIGHT, y);
            let label = format!("--rate {target}");
            svg.text(RIGHT, self.top + 20.0, &label, Style::NOTE, Anchor::End);
        }
        // Steps, because a rate is that of a whole interval.
        let points: Vec<_> = intervals
            .iter()
            .flat_map(|interval| {
                let y = values.place(interval.messages_per_second());
                [interval.start, interval.end].map(|time| (times.place(time), y))
            })
            .collect();
        if !points.is_empty() {
            svg.area(&points, self.bottom(), COLOURS[0]);
            svg.line(&points, COLOURS[0]);
        }
    }

    /// Draws the latency of each percentile. The distance from 100 % is logarithmic, so that 90, 99 and 99.9 % have the
    /// same distance from each other.
    fn distribution(self, svg: &mut Svg, title: &str, what: &str, latencies: &Histogram<u64>) {
        let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        let count = latencies.len().max(1) as f64;
        // The last message of n has the percentile 1 - 1/n.
        let nines = count.log10().clamp(1.0, NINES_MAX);
        let quantile = |nines: f64| 1.0 - 10.0_f64.powf(-nines);
        let steps = if latencies.is_empty() { 0 } else { STEPS };
        let mut points: Vec<_> = (0..steps)
            .map(|step| nines * f64::from(step) / f64::from(STEPS - 1))
            .map(|nines| (nines, micros(quantile(nines))))
            .collect();
        if let Some(last) = points.last().copied()
            && nines < NINES_MAX
        {
            points.push((last.0, latencies.max() as f64 / 1000.0));
        }
        let all = points.iter().map(|(_, value)| *value);
        let values = Axis::logarithmic(all, self.bottom(), self.plot_top());
        let x = |place: f64| LEFT + (RIGHT - LEFT) * place / nines;
        svg.text(
            LEFT_EDGE,
            self.top + 20.0,
            title,
            Style::HEADING,
            Anchor::Start,
        );
        self.value_ticks(svg, &values, latencies.is_empty());
        let ticks = [
            (0.0, "0"),
            (0.5_f64, "50"),
            (0.9, "90"),
            (0.99, "99"),
            (0.999, "99.9"),
        ];
        let more = [
            (0.9999, "99.99"),
            (0.99999, "99.999"),
            (0.999_999, "99.9999"),
        ];
        for (quantile, label) in ticks.into_iter().chain(more) {
            let place = -(1.0 - quantile).log10();
            if place <= nines + 1e-6 {
                self.tick(svg, x(place), &format!("{label} %"));
            }
        }
        self.axis_line(svg);
        self.x_label(
            svg,
            &format!("percentage of the {what} that were at least as fast"),
        );
        let curve = points
            .iter()
            .map(|(nines, value)| Some((x(*nines), values.place(*value))));
        line(svg, curve, "#52606d", usize::MAX);
        if latencies.is_empty() {
            return;
        }
        for (percent, colour) in PERCENTILES.iter().zip(COLOURS) {
            let quantile = percent / 100.0;
            let place = -(1.0 - quantile).log10();
            if place <= nines + 1e-6 {
                let (x, y) = (x(place), values.place(micros(quantile)));
                svg.dot(x, y, 4.0, colour);
                let label = duration(micros(quantile));
                // Below the curve, which rises to the right, if there is room.
                let (dy, anchor) = if y + 22.0 < self.bottom() {
                    (17.0, Anchor::Start)
                } else if x < LEFT + 70.0 {
                    (-10.0, Anchor::Start)
                } else {
                    (-10.0, Anchor::End)
                };
                svg.text(x + 5.0, y + dy, &label, Style::VALUE, anchor);
            }
        }
    }

    /// Draws the title, the axes and their ticks. Returns the axis of time.
    fn frame(self, svg: &mut Svg, title: &str, values: &Axis, intervals: &[Interval]) -> Axis {
        let end = intervals.last().map_or(1.0, |last| last.end);
        let unit = TimeUnit::of(end);
        let times = Axis::time(end, LEFT, RIGHT);
        svg.text(
            LEFT_EDGE,
            self.top + 20.0,
            title,
            Style::HEADING,
            Anchor::Start,
        );
        self.value_ticks(svg, values, intervals.is_empty());
        for tick in times.ticks() {
            self.tick(svg, times.place(tick), &unit.label(tick));
        }
        self.axis_line(svg);
        self.x_label(svg, &format!("time in {}", unit.name()));
        times
    }

    fn value_ticks(self, svg: &mut Svg, values: &Axis, is_empty: bool) {
        if is_empty {
            let y = (self.plot_top() + self.bottom()) / 2.0;
            let x = (LEFT + RIGHT) / 2.0;
            svg.text(x, y, "no messages", Style::NOTE, Anchor::Middle);
            return;
        }
        for tick in values.ticks() {
            let y = values.place(tick);
            svg.grid(LEFT, y, RIGHT, y);
            let label = if values.is_logarithmic() {
                duration(tick)
            } else {
                short_amount(tick)
            };
            svg.text(LEFT - 8.0, y + 4.0, &label, Style::NOTE, Anchor::End);
        }
    }

    fn tick(self, svg: &mut Svg, x: f64, label: &str) {
        svg.axis(x, self.bottom(), x, self.bottom() + 5.0);
        let y = self.bottom() + 19.0;
        svg.text(x, y, label, Style::NOTE, Anchor::Middle);
    }

    fn axis_line(self, svg: &mut Svg) {
        svg.axis(LEFT, self.bottom(), RIGHT, self.bottom());
    }

    fn x_label(self, svg: &mut Svg, label: &str) {
        let y = self.bottom() + 37.0;
        svg.text(RIGHT, y, label, Style::NOTE, Anchor::End);
    }

    fn legend(self, svg: &mut Svg, names: &[&str]) {
        let y = self.top + 20.0;
        let left = RIGHT - names.len() as f64 * LEGEND_WIDTH + LEGEND_WIDTH / 3.0;
        for (nth, (name, colour)) in names.iter().zip(COLOURS).enumerate() {
            let x = left + nth as f64 * LEGEND_WIDTH;
            svg.dot(x, y - 4.5, 4.5, colour);
            svg.text(x + 10.0, y, name, Style::NOTE, Anchor::Start);
        }
    }

    fn plot_top(self) -> f64 {
        self.top + 38.0
    }

    fn bottom(self) -> f64 {
        self.top + PANEL_HEIGHT - 54.0
    }
}

/// Draws a line through points. `None` is a gap. A point between two gaps is drawn as a dot, and so is every point if
/// there are few.
fn line(
    svg: &mut Svg,
    points: impl Iterator<Item = Option<(f64, f64)>>,
    colour: &str,
    count: usize,
) {
    let points: Vec<_> = points.collect();
    for part in points.split(Option::is_none) {
        let part: Vec<_> = part.iter().flatten().copied().collect();
        if part.len() > 1 {
            svg.line(&part, colour);
        }
        if part.len() == 1 || count <= DOTS_MAX {
            for (x, y) in &part {
                svg.dot(*x, *y, 2.4, colour);
            }
        }
    }
}

/// Joins intervals so that there are at most [`INTERVALS_MAX`], and returns how many were joined into each. A joined
/// interval has the highest values of its percentiles: no peak is lost.
fn join(intervals: &[Interval]) -> (Vec<Interval>, usize) {
    let joined = intervals.len().div_ceil(INTERVALS_MAX).max(1);
    let join = |group: &[Interval]| {
        let mut whole = group[0];
        for next in &group[1..] {
            whole.end = next.end;
            whole.messages += next.messages;
            whole.latencies = match (whole.latencies, next.latencies) {
                (Some(a), Some(b)) => Some(std::array::from_fn(|nth| a[nth].max(b[nth]))),
                (a, b) => a.or(b),
            };
        }
        whole
    };
    (intervals.chunks(joined).map(join).collect(), joined)
}

/// Formats microseconds with three significant digits, without trailing zeros.
fn duration(micros: f64) -> String {
    let (value, unit) = if micros < 0.9995 {
        (micros * 1e3, "ns")
    } else if micros < 999.5 {
        (micros, "\u{b5}s")
    } else if micros < 999.5e3 {
        (micros / 1e3, "ms")
    } else {
        (micros / 1e6, "s")
    };
    format!("{} {unit}", significant(value))
}

/// Formats a number with the decimal prefixes k and M and three significant digits, without trailing zeros.
fn short_amount(number: f64) -> String {
    if number < 1e3 {
        significant(number)
    } else if number < 1e6 {
        significant(number / 1e3) + "k"
    } else {
        significant(number / 1e6) + "M"
    }
}

/// Formats bytes with binary prefixes and three significant digits.
fn size(bytes: usize) -> String {
    let number = bytes as f64;
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", significant(number / 1024.0)),
        1_048_576.. => format!("{} MiB", significant(number / 1_048_576.0)),
    }
}

fn significant(value: f64) -> String {
    let places = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{value:.places$}");
    if places == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Size of the image: an A4 page without its margins, at 96 dpi, is 643 wide; scaled to that, text of 13 has 8.7.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = PANELS_TOP + 3.0 * PANEL_HEIGHT + 8.0;
const PANELS_TOP: f64 = 156.0;
const PANEL_HEIGHT: f64 = 276.0;
/// Edges of the text, and of the diagrams.
const LEFT_EDGE: f64 = 28.0;
const RIGHT_EDGE: f64 = WIDTH - 28.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = RIGHT_EDGE - 22.0;

/// Colours of the percentiles of an interval and of the maximum. Distinguishable with every kind of colour blindness
/// (Okabe and Ito), and dark enough on white.
const COLOURS: [&str; 5] = ["#0072b2", "#009e73", "#d58a00", "#d55e00", "#8f3f71"];
const MAXIMUM_NAME: &str = "max";

/// Width of an entry of the legend.
const LEGEND_WIDTH: f64 = 66.0;
/// A title of more characters would not fit.
const TITLE_CHARS_MAX: usize = 84;
/// Maximum number of points of a line; one for each pixel and a half.
const INTERVALS_MAX: usize = 600;
/// Maximum number of points that are drawn as dots as well.
const DOTS_MAX: usize = 40;
/// Points of the curve of the distribution.
const STEPS: u32 = 300;
/// The last percentile is 99.9999 %.
const NINES_MAX: f64 = 6.0;

#[cfg(test)]
mod tests;
