//! The report for programs: one JSON object on one line, with the same keys in every run.
//!
//! The values of two keys may be null: `server` without `--pid` or if the process exited during the run, and `tls` if the
//! scheme of the URL is `ws`.

use super::report::{Report, Server, ServerUsage};
use super::tally::{Latency, Spread};
use crate::cli::args::Load;
use crate::cli::json::string;

/// Returns the report as a line of JSON with a line end.
pub(super) fn print(report: &Report<'_>) -> String {
    let (bench, totals, errors) = (report.bench, &report.totals, report.errors);
    let connections = report.connect.count;
    let (mode, in_flight, senders, burst) = match bench.load {
        Load::InFlight(in_flight) => ("echo", in_flight, connections, 1),
        Load::Rate(_) => ("echo", 0, connections, 1),
        Load::Broadcast { senders, burst } => ("broadcast", 0, senders.min(connections), burst),
    };
    let errors = object(&[
        ("connect", errors.connect.to_string()),
        ("read", errors.read.to_string()),
        ("write", errors.write.to_string()),
        ("timeout", errors.timeout.to_string()),
        ("mismatch", errors.mismatch.to_string()),
        ("missing", errors.missing.to_string()),
    ]);
    let connect = object(&[
        ("count", connections.to_string()),
        ("seconds", float(report.connect.seconds)),
        ("per_second", float(report.connect.per_second())),
        ("latency_us", latency(&report.connect.latency)),
    ]);
    let tls = match &report.tls {
        Some(tls) => object(&[
            ("version", string(tls.last.version)),
            ("cipher", string(&tls.last.cipher())),
            ("resumed", tls.resumed.to_string()),
            ("handshake_us", latency(&tls.latency)),
        ]),
        None => "null".to_owned(),
    };
    let server = match &report.server {
        ServerUsage::Measured(server) => server_object(server, report),
        ServerUsage::NotRequested | ServerUsage::ProcessExited => "null".to_owned(),
    };
    let mut text = object(&[
        ("url", string(&bench.url.text)),
        ("mode", string(mode)),
        ("connections", connections.to_string()),
        ("duration_seconds", float(totals.seconds)),
        ("size", bench.size.to_string()),
        ("in_flight", in_flight.to_string()),
        ("senders", senders.to_string()),
        ("burst", burst.to_string()),
        ("messages", totals.messages.to_string()),
        ("sent", totals.sent.to_string()),
        ("late", totals.late.to_string()),
        ("never", totals.never.to_string()),
        ("greetings", report.greetings.to_string()),
        ("bytes_received", totals.bytes.to_string()),
        ("errors", errors),
        ("messages_per_second", float(report.messages_per_second())),
        (
            "transfer_bytes_per_second",
            float(report.bytes_per_second()),
        ),
        ("latency_us", latency(&totals.latency)),
        ("rate", object(&spread(&totals.rate))),
        ("connect", connect),
        ("tls", tls),
        ("server", server),
    ]);
    text.push('\n');
    text
}

fn server_object(server: &Server, report: &Report<'_>) -> String {
    let cpu = server.cpu_us_per_message(&report.totals);
    let per_connection = server.bytes_per_connection(report.connect.count);
    object(&[
        ("cpu_us_per_message", float(cpu)),
        ("cpu_seconds", float(server.cpu_nanos as f64 / 1e9)),
        ("rss_before_bytes", server.rss_before.to_string()),
        ("rss_connected_bytes", server.rss_connected.to_string()),
        ("rss_after_bytes", server.rss_after.to_string()),
        ("bytes_per_connection", float(per_connection)),
    ])
}

fn latency(latency: &Latency) -> String {
    let [p50, p75, p90, p99, p99_9] = latency.percentiles.map(float);
    let [avg, stdev, max] = spread(&latency.spread);
    object(&[
        avg,
        stdev,
        max,
        ("p50", p50),
        ("p75", p75),
        ("p90", p90),
        ("p99", p99),
        ("p99_9", p99_9),
    ])
}

fn spread(spread: &Spread) -> [(&'static str, String); 3] {
    [
        ("avg", float(spread.avg)),
        ("stdev", float(spread.stdev)),
        ("max", float(spread.max)),
    ]
}

/// Returns a JSON object with the entries in their order. The values must be JSON, the keys need no escaping.
fn object(entries: &[(&str, String)]) -> String {
    let entries = entries
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// Returns a number as JSON. Six decimal places are a microsecond of times in seconds, and finer than a nanosecond of
/// times in microseconds.
fn float(number: f64) -> String {
    debug_assert!(number.is_finite(), "JSON has no other numbers");
    format!("{number:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_preserve_the_order_of_entries() {
        let entries = [("b", "1".to_owned()), ("a", object(&[]))];
        assert_eq!(object(&entries), r#"{"b":1,"a":{}}"#);
    }
}
