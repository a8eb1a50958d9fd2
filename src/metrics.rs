//! [`Metrics`], a handler that returns the server's counters in Prometheus' text format.

#[cfg(feature = "backplane")]
use crate::backplane::BackplaneStats;
use crate::context::Context;
use crate::handler::Handler;
use crate::id::Id;
use crate::page::NoWebSockets;
use crate::proto::{HttpResponse, Message, Request, Upgrade};
use crate::stats::{Stats, TurnTimes};
#[cfg(feature = "tls")]
use crate::tls::{Tls, TlsStats};
#[cfg(feature = "tls")]
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// Answers plain GET and HEAD requests with the server's [`Stats`] in version 0.0.4 of Prometheus' text format. Refuses
/// opening handshakes with 404. Enables the measurement of turns ([`Context::measure_turns`]).
///
/// The cost of a scrape grows with the number of sessions whose sockets accept nothing at the moment.
///
/// ```
/// use wsloop::Router;
/// use wsloop::handlers::{Echo, Metrics};
///
/// let router = Router::new().route("/echo", Echo::new()).route("/metrics", Metrics);
/// # let _ = router;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics;

#[cfg(feature = "tls")]
impl Metrics {
    /// Returns a handler that also reports the counters of TLS, and when the certificates of `tls` expire.
    ///
    /// ```no_run
    /// use wsloop::handlers::Metrics;
    /// use wsloop::{Router, Tls};
    ///
    /// # fn main() -> Result<(), wsloop::TlsError> {
    /// let tls = Tls::from_pem_files("/etc/tls/fullchain.pem", "/etc/tls/privkey.pem")?;
    /// let router = Router::new().route("/metrics", Metrics.with_tls(&tls));
    /// # let _ = router;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_tls(self, tls: &Tls) -> MetricsWithTls {
        MetricsWithTls {
            metrics: self,
            tls: tls.clone(),
        }
    }
}

/// [`Metrics`] with the counters of TLS and the expiry of certificates; see [`Metrics::with_tls`].
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
pub struct MetricsWithTls {
    metrics: Metrics,
    tls: Tls,
}

/// Formats the counters of the connection to the broker.
#[cfg(feature = "backplane")]
fn print_backplane(text: &mut Text, stats: &BackplaneStats) {
    let gauges = [
        (
            "broker_connected",
            "1 if the broker is connected and all topics are subscribed, 0 otherwise.",
            usize::from(stats.is_whole),
        ),
        (
            "broker_topics",
            "Topics that are subscribed at the broker, or have unsent publications.",
            stats.topics,
        ),
        (
            "broker_outbox_bytes",
            "Bytes of publications that wait to be written to the broker.",
            stats.outbox_bytes,
        ),
        (
            "broker_waiting_sessions",
            "Sessions that are not read because they publish, until the broker accepts more.",
            stats.waiting,
        ),
    ];
    for (name, help, value) in gauges {
        text.single(name, "gauge", help, value);
    }
    let counters = [
        (
            "broker_connections_total",
            "Connections to the broker since the start.",
            stats.connections,
        ),
        (
            "broker_gaps_total",
            "Connections to the broker that have ended: gaps in all topics.",
            stats.gaps,
        ),
        (
            "broker_members_told_total",
            "Sessions that were closed with 1013 or reported to the handler because of a gap.",
            stats.members_told,
        ),
        (
            "broker_publications_total",
            "Messages that were accepted for publication at the broker.",
            stats.publications,
        ),
        (
            "broker_batches_total",
            "Batches of messages that were passed on for publication: one for each topic and turn.",
            stats.batches,
        ),
        (
            "broker_unacknowledged_batches_total",
            "Batches that were written and never acknowledged: they may be lost.",
            stats.unacknowledged,
        ),
        (
            "broker_discarded_batches_total",
            "Batches that were dropped because the broker was away for too long.",
            stats.discarded,
        ),
        (
            "broker_refused_total",
            "Messages that were refused because they are too long or the outbox is full.",
            stats.refused,
        ),
        (
            "broker_messages_received_total",
            "Valid messages that the broker has delivered.",
            stats.messages_in,
        ),
        (
            "broker_invalid_total",
            "Publications from the broker that were dropped because they are invalid or too long.",
            stats.invalid,
        ),
    ];
    for (name, help, value) in counters {
        text.single(name, "counter", help, value);
    }
}

#[cfg(feature = "tls")]
impl Handler for MetricsWithTls {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.metrics)
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

    fn on_http(&mut self, cx: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
        let stats = cx.stats();
        let text = print(&stats) + &print_handshakes(&stats.tls) + &print_expiry(&self.tls);
        HttpResponse::bytes(200, CONTENT_TYPE, text.into_bytes())
    }
}

/// Formats the counters of handshakes.
#[cfg(feature = "tls")]
fn print_handshakes(stats: &TlsStats) -> String {
    let mut text = Text(String::new());
    text.single(
        "tls_handshakes_total",
        "counter",
        "Handshakes of TLS that were completed.",
        stats.handshakes,
    );
    text.single(
        "tls_resumed_total",
        "counter",
        "Completed handshakes of TLS that continued an earlier session.",
        stats.resumed,
    );
    let name = "tls_failures_total";
    text.family(
        name,
        "counter",
        "Connections whose TLS failed, in the handshake or later, by reason.",
    );
    for (reason, count) in stats.failures() {
        text.labelled(name, "reason", reason, count);
    }
    text.0
}

/// Formats the expiry of certificates by their first names. If certificates have the same name, for example one for each
/// type of key, reports the one that expires first, because Prometheus allows one sample for a set of labels.
#[cfg(feature = "tls")]
fn print_expiry(tls: &Tls) -> String {
    let mut expiry = BTreeMap::<_, i64>::new();
    for certificate in &*tls.certificates() {
        let seconds = certificate.expiry_seconds();
        let name = certificate.first_name().unwrap_or_default();
        let first = expiry.entry(name).or_insert(seconds);
        *first = seconds.min(*first);
    }
    let mut text = Text(String::new());
    let name = "tls_certificate_expiry_timestamp_seconds";
    text.family(
        name,
        "gauge",
        "Expiry of the TLS certificate with this name, in seconds since 1970.",
    );
    for (first_name, seconds) in expiry {
        text.labelled(name, "name", first_name, seconds);
    }
    text.0
}

impl Handler for Metrics {
    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.measure_turns();
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        request: &Request,
        upgrade: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        NoWebSockets.on_upgrade(cx, id, request, upgrade)
    }

    fn on_http(&mut self, cx: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
        HttpResponse::bytes(200, CONTENT_TYPE, print(&cx.stats()).into_bytes())
    }
}

/// Formats the statistics: <https://prometheus.io/docs/instrumenting/exposition_formats/>
fn print(stats: &Stats) -> String {
    let mut text = Text(String::with_capacity(TEXT_BYTES));
    #[cfg(feature = "backplane")]
    if let Some(backplane) = &stats.backplane {
        print_backplane(&mut text, backplane);
    }
    text.family(
        "build_info",
        "gauge",
        "Version of wsloop, as a label; the value is always 1.",
    );
    text.labelled("build_info", "version", env!("CARGO_PKG_VERSION"), 1);
    text.single(
        "connections_open",
        "gauge",
        "Open WebSocket sessions.",
        stats.connections_open,
    );
    let counters = [
        (
            "connections_total",
            "WebSocket sessions that were opened.",
            stats.connections,
        ),
        (
            "http_requests_total",
            "Plain HTTP requests that were answered.",
            stats.http_requests,
        ),
        (
            "messages_received_total",
            "Text and binary messages received.",
            stats.messages_in,
        ),
        (
            "messages_sent_total",
            "Messages queued for sending. A publication counts once for each member.",
            stats.messages_out,
        ),
        (
            "messages_skipped_total",
            "Published messages that were not sent to members that lagged behind.",
            stats.messages_skipped,
        ),
        (
            "received_bytes_total",
            "Bytes read from sockets.",
            stats.bytes_in,
        ),
        (
            "sent_bytes_total",
            "Bytes written to sockets.",
            stats.bytes_out,
        ),
    ];
    for (name, help, value) in counters {
        text.single(name, "counter", help, value);
    }
    text.single(
        "backlog_bytes",
        "gauge",
        "Unsent bytes of sessions whose sockets accept nothing at the moment.",
        stats.backlog_bytes,
    );
    text.single(
        "members_lagging",
        "gauge",
        "Members of topics whose sockets accept nothing at the moment.",
        stats.members_lagging,
    );
    text.single(
        "replay_bytes",
        "gauge",
        "Bytes that topics retain for members that join later.",
        stats.replay_bytes,
    );
    let name = "refused_total";
    text.family(
        name,
        "counter",
        "Connections that did not become WebSocket sessions, by reason.",
    );
    for (reason, count) in stats.refused() {
        text.labelled(name, "reason", reason, count);
    }
    let name = "closes_total";
    text.family(
        name,
        "counter",
        "WebSocket sessions that have ended, by close code.",
    );
    for (code, count) in stats.closes() {
        text.labelled(name, "code", code, count);
    }
    let name = "ping_rtt_seconds";
    text.family(
        name,
        "summary",
        "Time between an automatic ping and its pong.",
    );
    let sum = Seconds(stats.rtt_sum);
    text.line(format_args!("wsloop_{name}_sum {sum}"));
    text.line(format_args!("wsloop_{name}_count {}", stats.rtts));
    if let Some(turns) = &stats.turns {
        text.histogram(
            "turn_seconds",
            "Duration of a turn of the event loop.",
            turns,
        );
    }
    text.0
}

/// Output in Prometheus' text format.
struct Text(String);

impl Text {
    /// Writes the header of a metric.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP wsloop_{name} {help}"));
        self.line(format_args!("# TYPE wsloop_{name} {kind}"));
    }

    /// Writes a metric with one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(format_args!("wsloop_{name} {value}"));
    }

    /// Writes a sample with a label.
    fn labelled(&mut self, name: &str, label: &str, of: impl Display, value: impl Display) {
        self.line(format_args!("wsloop_{name}{{{label}=\"{of}\"}} {value}"));
    }

    /// Writes a histogram of durations, in seconds.
    fn histogram(&mut self, name: &str, help: &str, turns: &TurnTimes) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in turns.at_most() {
            self.labelled(&bucket, "le", Seconds(bound), count);
        }
        self.labelled(&bucket, "le", "+Inf", turns.count_all());
        let sum = Seconds(turns.sum());
        self.line(format_args!("wsloop_{name}_sum {sum}"));
        self.line(format_args!("wsloop_{name}_count {}", turns.count_all()));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A duration in seconds, exact, without trailing zeros. Not as a floating-point number, whose formatting adds 15 KB to the
/// smallest server.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs())?;
        let (mut fraction, mut digits) = (self.0.subsec_nanos(), 9);
        if fraction == 0 {
            return Ok(());
        }
        while fraction % 10 == 0 {
            (fraction, digits) = (fraction / 10, digits - 1);
        }
        write!(f, ".{fraction:0digits$}")
    }
}

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Capacity reserved for a response; larger than any.
const TEXT_BYTES: usize = 6 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_printed_exactly() {
        for (nanos, expected) in [
            (0, "0"),
            (1, "0.000000001"),
            (30_000_000, "0.03"),
            (1_000_000_000, "1"),
            (120_500_000_000, "120.5"),
            (1_234_567_890, "1.23456789"),
        ] {
            assert_eq!(Seconds(Duration::from_nanos(nanos)).to_string(), expected);
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_first_expiry_for_each_name_is_reported() {
        use crate::testing::{Harness, opening};
        use crate::tls::tests::{Issued, params};

        let mut builder = Tls::builder();
        for (names, year) in [
            (&["a.example.org", "b.example.org"][..], 2100),
            (&["a.example.org"], 2050),
            (&["*.c.d", "::1"], 2070),
            (&["::1"], 1960),
            (&[], 2060),
        ] {
            let mut params = params(names);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let issued = Issued::by_itself(params);
            builder = builder.certificate_pem(issued.pem(), issued.key_pem());
        }
        let tls = builder.build().unwrap();
        let metrics = Metrics.with_tls(&tls);
        let expected = "\
# HELP wsloop_tls_certificate_expiry_timestamp_seconds Expiry of the TLS certificate with this name, in seconds since 1970.
# TYPE wsloop_tls_certificate_expiry_timestamp_seconds gauge
wsloop_tls_certificate_expiry_timestamp_seconds{name=\"\"} 2840140800
wsloop_tls_certificate_expiry_timestamp_seconds{name=\"*.c.d\"} 3155760000
wsloop_tls_certificate_expiry_timestamp_seconds{name=\"::1\"} -315619200
wsloop_tls_certificate_expiry_timestamp_seconds{name=\"a.example.org\"} 2524608000
";
        assert_eq!(print_expiry(&tls), expected);
        let mut harness = Harness::new(Default::default(), metrics);
        let response = harness.get("/metrics");
        let text = std::str::from_utf8(response.body()).unwrap();
        assert!(text.starts_with("# HELP wsloop_build_info "));
        assert!(text.contains("wsloop_turn_seconds_count") && text.ends_with(expected));
        assert_eq!(harness.open(opening("/metrics")).unwrap_err().status(), 404);
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it() {
        let mut stats = Stats {
            connections_open: 3,
            backlog_bytes: 77,
            replay_bytes: 99,
            rtts: 2,
            rtt_sum: Duration::from_millis(30),
            turns: Some(TurnTimes::default()),
            ..Stats::default()
        };
        stats.count_close(1000);
        stats.count_turn(Duration::from_micros(30));
        let text = print(&stats);
        assert!(text.len() <= TEXT_BYTES, "{} bytes", text.len());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} below {family}");
            }
        }
        for line in [
            "wsloop_connections_open 3",
            "wsloop_backlog_bytes 77",
            "wsloop_replay_bytes 99",
            "wsloop_closes_total{code=\"1000\"} 1",
            "wsloop_closes_total{code=\"1001\"} 0",
            "wsloop_refused_total{reason=\"connections_max\"} 0",
            "wsloop_ping_rtt_seconds_sum 0.03",
            "wsloop_ping_rtt_seconds_count 2",
            "wsloop_turn_seconds_bucket{le=\"0.00002\"} 0",
            "wsloop_turn_seconds_bucket{le=\"0.0001\"} 1",
            "wsloop_turn_seconds_bucket{le=\"1\"} 1",
            "wsloop_turn_seconds_bucket{le=\"+Inf\"} 1",
            "wsloop_turn_seconds_sum 0.00003",
            "wsloop_turn_seconds_count 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        stats.turns = None;
        assert!(!print(&stats).contains("turn_seconds"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn handshakes_are_counted_by_their_results() {
        let mut stats = TlsStats::default();
        (stats.handshakes, stats.resumed) = (7, 3);
        stats.count(crate::tls::Failure::Alpn);
        let text = print_handshakes(&stats);
        for line in [
            "wsloop_tls_handshakes_total 7",
            "wsloop_tls_resumed_total 3",
            "wsloop_tls_failures_total{reason=\"alpn\"} 1",
            "wsloop_tls_failures_total{reason=\"alert\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
