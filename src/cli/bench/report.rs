//! The report for people, in the format of wrk.

use super::connect::TlsHandshakes;
use super::tally::{Errors, Latency, PERCENTILES, Totals};
use crate::cli::args::{Bench, Load};
use std::fmt::Write;

/// Results of a run that measured something.
pub(super) struct Report<'b> {
    pub(super) bench: &'b Bench,
    pub(super) connect: Connect,
    /// `None` without TLS.
    pub(super) tls: Option<TlsHandshakes>,
    pub(super) totals: Totals,
    /// Number of messages that were skipped as greetings.
    pub(super) greetings: u64,
    pub(super) errors: Errors,
    pub(super) first_error: Option<String>,
    pub(super) server: ServerUsage,
}

/// Usage of the server's process.
pub(super) enum ServerUsage {
    /// `--pid` was not given.
    NotRequested,
    Measured(Server),
    /// The process exited before the end of the run.
    ProcessExited,
}

/// Results of the opening handshakes.
pub(super) struct Connect {
    /// Number of connections that were opened.
    pub(super) count: usize,
    /// From the start of the first connection attempt to the end of the last successful opening handshake.
    pub(super) seconds: f64,
    pub(super) latency: Latency,
}

/// CPU time and resident memory, in bytes, of the server's process.
pub(super) struct Server {
    /// CPU time used during the measurement.
    pub(super) cpu_nanos: u64,
    /// Memory before the first connection attempt.
    pub(super) rss_before: u64,
    /// Memory when all connections were open and no message had been sent.
    pub(super) rss_connected: u64,
    /// Memory after the last message, with all connections open.
    pub(super) rss_after: u64,
}

impl Report<'_> {
    pub(super) fn messages_per_second(&self) -> f64 {
        ratio(self.totals.messages as f64, self.totals.seconds)
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        ratio(self.totals.bytes as f64, self.totals.seconds)
    }
}

impl Connect {
    pub(super) fn per_second(&self) -> f64 {
        ratio(self.count as f64, self.seconds)
    }
}

impl Server {
    pub(super) fn cpu_us_per_message(&self, totals: &Totals) -> f64 {
        ratio(self.cpu_nanos as f64 / 1000.0, totals.messages as f64)
    }

    /// Returns the growth of the memory from before the first connection to after the last message, divided by the
    /// number of connections.
    pub(super) fn bytes_per_connection(&self, connections: usize) -> f64 {
        ratio(
            self.rss_after as f64 - self.rss_before as f64,
            connections as f64,
        )
    }
}

/// Returns `amount / whole`, or 0 if `whole` is 0.
fn ratio(amount: f64, whole: f64) -> f64 {
    if whole > 0.0 { amount / whole } else { 0.0 }
}

/// Returns the report as text.
pub(super) fn print(report: &Report<'_>) -> String {
    let mut out = String::new();
    write(&mut out, report).expect("writing to a String does not fail");
    out
}

fn write(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let Report {
        bench,
        connect,
        totals,
        errors,
        ..
    } = report;
    writeln!(
        out,
        "Running {} test @ {}",
        seconds(bench.duration.as_secs_f64()),
        bench.url.text
    )?;
    writeln!(out, "  1 thread(s) and {} connections", connect.count)?;
    writeln!(
        out,
        "  {:<12} {:>10} {:>10} {:>10} {:>10}",
        "Thread Stats", "Avg", "Stdev", "Max", "+/- Stdev"
    )?;
    let name = match bench.load {
        Load::InFlight(_) | Load::Rate(_) => "Latency",
        Load::Broadcast { .. } => "Round",
    };
    row(out, name, &totals.latency.spread, time)?;
    row(out, "Msg/s", &totals.rate, amount)?;
    if bench.show_percentiles {
        writeln!(out, "  {name} Distribution")?;
        for (percent, value) in PERCENTILES.iter().zip(totals.latency.percentiles) {
            writeln!(out, "  {:>6} {:>10}", format!("{percent}%"), time(value))?;
        }
    }
    writeln!(
        out,
        "  {} messages in {:.2}s, {} read",
        totals.messages,
        totals.seconds,
        bytes(totals.bytes as f64)
    )?;
    writeln!(
        out,
        "  {} connections in {:.3}s, {}/s, {} each",
        connect.count,
        connect.seconds,
        amount(connect.per_second()),
        time(connect.latency.spread.avg)
    )?;
    if let Some(tls) = &report.tls {
        writeln!(
            out,
            "  TLS {}, {}, {} full handshakes, {} resumed, {} each",
            tls.last.version,
            tls.last.cipher(),
            connect.count - tls.resumed,
            tls.resumed,
            time(tls.latency.spread.avg)
        )?;
    }
    if report.greetings > 0 {
        writeln!(out, "  Greetings skipped: {}", report.greetings)?;
    }
    // In a closed loop, each connection has answers outstanding when the measurement ends.
    if let (Load::Rate(_), late @ 1..) = (&bench.load, totals.late) {
        writeln!(out, "  Answered late, after the measurement: {late}")?;
    }
    if totals.never > 0 {
        writeln!(out, "  Never answered: {}", totals.never)?;
    }
    write_errors(out, errors, report.first_error.as_deref())?;
    if let ServerUsage::ProcessExited = report.server {
        writeln!(
            out,
            "  Server: the process exited before the end of the run"
        )?;
    }
    if let ServerUsage::Measured(server) = &report.server {
        writeln!(
            out,
            "  Server: {:.3}us CPU per message, {:.2}s CPU",
            server.cpu_us_per_message(totals),
            server.cpu_nanos as f64 / 1e9
        )?;
        writeln!(
            out,
            "  Server memory: {} before, {} connected, {} after, {:.0}B per connection",
            bytes(server.rss_before as f64),
            bytes(server.rss_connected as f64),
            bytes(server.rss_after as f64),
            server.bytes_per_connection(connect.count)
        )?;
    }
    writeln!(out, "Messages/sec: {:>12.2}", report.messages_per_second())?;
    writeln!(
        out,
        "Transfer/sec: {:>12}",
        bytes(report.bytes_per_second())
    )
}

fn row(
    out: &mut String,
    name: &str,
    spread: &super::tally::Spread,
    unit: fn(f64) -> String,
) -> std::fmt::Result {
    writeln!(
        out,
        "    {name:<10} {:>10} {:>10} {:>10} {:>10}",
        unit(spread.avg),
        unit(spread.stdev),
        unit(spread.max),
        format!("{:.2}%", spread.within_stdev_percent)
    )
}

/// Writes the error counts that are not zero, and the description of the first error. Writes nothing if all are zero.
fn write_errors(out: &mut String, errors: &Errors, first: Option<&str>) -> std::fmt::Result {
    let Some(some) = list(errors) else {
        return Ok(());
    };
    writeln!(out, "  Errors: {some}")?;
    match first {
        Some(first) => writeln!(out, "  First error: {first}"),
        None => Ok(()),
    }
}

/// Lists the error counts that are not zero. Returns `None` if all are zero.
pub(super) fn list(errors: &Errors) -> Option<String> {
    let Errors {
        connect,
        read,
        write,
        timeout,
        mismatch,
        missing,
    } = *errors;
    let all = [
        ("connect", connect),
        ("read", read),
        ("write", write),
        ("timeout", timeout),
        ("mismatch", mismatch),
        ("missing", missing),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    (!some.is_empty()).then(|| some.join(", "))
}

/// Formats microseconds in us, ms or s.
pub(super) fn time(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.2}us")
    } else if micros < 1_000_000.0 {
        format!("{:.2}ms", micros / 1000.0)
    } else {
        format!("{:.2}s", micros / 1_000_000.0)
    }
}

/// Formats a number with the decimal prefixes k and M, as wrk does.
pub(super) fn amount(number: f64) -> String {
    if number < 1000.0 {
        format!("{number:.2}")
    } else if number < 1_000_000.0 {
        format!("{:.2}k", number / 1000.0)
    } else {
        format!("{:.2}M", number / 1_000_000.0)
    }
}

/// Formats bytes with binary prefixes, under the names KB, MB and GB that wrk uses for powers of 1024.
pub(super) fn bytes(number: f64) -> String {
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    let unit = units
        .iter()
        .rev()
        .find(|(_, shift)| number >= (1_u64 << shift) as f64);
    match unit {
        Some((name, shift)) => format!("{:.2}{name}", number / (1_u64 << shift) as f64),
        None => format!("{number:.0}B"),
    }
}

/// Formats seconds with the fewest digits: 10s, 0.5s.
fn seconds(seconds: f64) -> String {
    format!("{seconds}s")
}

#[cfg(test)]
mod tests;
