//! `wsloop bench`: generates load on a WebSocket server and measures throughput and latency, as wrk does for HTTP.
//!
//! One thread with one poll loop drives all connections. A run opens the connections, sends through a warm-up and a
//! measured period, waits for the last answers, and prints a report.
//!
//! - `connect`: opens the connections and completes their opening handshakes.
//! - `engine`: the poll loop and the phases of a run.
//! - `schedule`: decides when messages are sent, counts the expected answers, and measures latencies.
//! - `connection`: reads and writes the frames of one connection.
//! - `cycle`, `answers`: all messages of a run are identical. Sending copies from a repeated frame, and receiving
//!   compares with it.
//! - `tally`, `process`: counters and statistics of a run; CPU time and memory of the server's process.
//! - `greetings`: messages that answer nothing.
//! - `timeline`: the figures of each interval.
//! - `report`, `json`, `chart`, `progress`: print the results as text or JSON, draw them as SVG, and show the rate while
//!   the load runs.

mod answers;
mod chart;
mod connect;
mod connection;
mod cycle;
mod engine;
mod greetings;
mod json;
mod process;
mod progress;
mod report;
mod schedule;
mod tally;
mod timeline;

use super::args::{self, Bench};
use super::client::{Stream, TlsClient};
use super::stderr;
use chart::ChartFile;
use connect::Opened;
use connection::LoadConnection;
use cycle::Cycle;
use engine::{End, Engine};
use mio::{Interest, Poll, Token};
use process::Process;
use report::{Connect, Report, Server, ServerUsage};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use timeline::Timeline;
use wsloop::Message;

/// Result of a run that measured something.
pub(super) struct Output {
    /// The report, to be printed on stdout.
    pub(super) text: String,
    /// Whether `--verify` was given and at least one received message was unexpected or differed from the one sent.
    pub(super) is_wrong: bool,
    /// Why the chart could not be written.
    pub(super) chart_error: Option<String>,
}

/// Runs the load and returns its report. If a signal arrives, or all sending connections are lost, the report contains
/// what was measured until then; the loss is also printed on stderr.
///
/// # Errors
/// Returns the reason why nothing was measured, in one line: the file of `--chart` cannot be written, no connection, a
/// signal while connecting, no message received, or a system call that failed.
pub(super) fn run(bench: &Bench) -> Result<Output, String> {
    let chart_file = bench.chart.as_deref().map(ChartFile::open).transpose()?;
    let (report, timeline) = measure(bench)?;
    let chart_error = match (chart_file, timeline) {
        (Some(file), Some(timeline)) => file.write(&chart::draw(&report, &timeline)).err(),
        (Some(_), None) | (None, _) => None,
    };
    Ok(Output {
        text: if bench.json {
            json::print(&report)
        } else {
            report::print(&report)
        },
        is_wrong: bench.verify && report.errors.mismatch > 0,
        chart_error,
    })
}

/// Runs the load. See [`run`] for errors.
fn measure(bench: &Bench) -> Result<(Report<'_>, Option<Timeline>), String> {
    let process = process(bench)?;
    // Before signals are handled, so that Ctrl-C ends the process while a name is resolved.
    let addresses = args::resolve(&bench.url.name, bench.url.port)?;
    let payload = cycle::payload(bench.size, bench.is_binary);
    let message = if bench.is_binary {
        Message::binary(&payload)
    } else {
        Message::text(std::str::from_utf8(&payload).expect("letters are UTF-8"))
    };
    let (requests, expected) = (Cycle::of_requests(message), Cycle::of_answers(message));
    drop(payload);
    let mut poll = Poll::new().map_err(describe)?;
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(describe)?;
    poll.registry()
        .register(&mut signals, SIGNALS, Interest::READABLE)
        .map_err(describe)?;
    let address = address(&addresses)?;
    let tls = match &bench.url.tls_name {
        Some(name) if bench.is_tls_resumed => {
            Some(TlsClient::new(name, &bench.tls, bench.connections)?)
        }
        Some(name) => Some(TlsClient::new(name, &bench.tls, 0)?),
        None => None,
    };

    let rss_before = rss(process.as_ref());
    let mut open = || {
        connect::open(
            bench,
            address,
            tls.as_ref(),
            &mut poll,
            &mut signals,
            &expected,
        )
    };
    let mut opened = open().map_err(describe)?;
    if bench.is_tls_resumed && !opened.is_interrupted {
        // These connections have brought the sessions that the next ones resume.
        close(&mut opened.connections);
        drop(opened);
        if let Some(tls) = &tls {
            tls.start_resuming();
        }
        opened = open().map_err(describe)?;
    }
    if opened.is_interrupted {
        return Err("interrupted while connecting: nothing was measured".to_owned());
    }
    if opened.connections.is_empty() {
        let reason = opened.first_error.as_deref().unwrap_or("unknown reason");
        return Err(format!("no connection to {}: {reason}", bench.url.text));
    }
    if !bench.subprotocols.is_empty() && opened.without_subprotocol > 0 {
        stderr::print("wsloop: the server chose no subprotocol\n");
    }
    let connect = connect(&opened);
    let tls = opened.tls.clone();
    let rss_connected = rss(process.as_ref());

    let engine = Engine::new(bench, process.as_ref(), &requests, &expected, opened);
    let mut outcome = engine.run(&mut poll, &mut signals).map_err(describe)?;
    let rss_after = rss(process.as_ref());
    close(&mut outcome.connections);
    let because = outcome.first_error.as_deref();
    let Some(totals) = outcome.totals.filter(|totals| totals.messages > 0) else {
        let reason = match outcome.end {
            End::Time => "no message was received",
            End::Signal => "interrupted before a message was received",
            End::Lost => "all sending connections were lost",
        };
        let because = because.map_or(String::new(), |error| format!(": {error}"));
        return Err(format!("nothing was measured: {reason}{because}"));
    };
    if outcome.end == End::Lost {
        stderr::print(&format!(
            "wsloop: ended early: all sending connections were lost: {}\n",
            because.unwrap_or("unknown reason")
        ));
    }
    let server = match (rss_before, rss_connected, outcome.cpu_nanos, rss_after) {
        (Some(rss_before), Some(rss_connected), Some(cpu_nanos), Some(rss_after)) => {
            ServerUsage::Measured(Server {
                cpu_nanos,
                rss_before,
                rss_connected,
                rss_after,
            })
        }
        _ if process.is_some() => ServerUsage::ProcessExited,
        _ => ServerUsage::NotRequested,
    };
    let report = Report {
        bench,
        connect,
        tls,
        totals,
        greetings: outcome.greetings,
        errors: outcome.errors,
        first_error: outcome.first_error,
        server,
    };
    Ok((report, outcome.timeline))
}

fn process(bench: &Bench) -> Result<Option<Process>, String> {
    let Some(id) = bench.pid else {
        return Ok(None);
    };
    match Process::new(id) {
        Ok(process) => Ok(Some(process)),
        Err(error) => Err(format!("cannot monitor process --pid {id}: {error}")),
    }
}

/// Returns the resident memory of the server's process in bytes. `None` without `--pid`, and when the process has
/// exited.
fn rss(process: Option<&Process>) -> Option<u64> {
    process?.rss_bytes().ok()
}

/// Returns the first address that accepts a TCP connection, or the first of all if none does. A single address is
/// returned without a connection attempt.
fn address(sockets: &[SocketAddr]) -> Result<SocketAddr, String> {
    let [first, others @ ..] = sockets else {
        return Err("the host has no address".to_owned());
    };
    if others.is_empty() {
        return Ok(*first);
    }
    let is_open = |socket: &&SocketAddr| TcpStream::connect_timeout(socket, PROBE_TIMEOUT).is_ok();
    Ok(*sockets.iter().find(is_open).unwrap_or(first))
}

fn close(connections: &mut [LoadConnection<Stream>]) {
    for connection in connections {
        connection.close();
        connection.stream().end();
    }
}

fn connect(opened: &Opened) -> Connect {
    Connect {
        count: opened.connections.len(),
        seconds: opened.seconds,
        latency: opened.latency,
    }
}

fn describe(error: io::Error) -> String {
    error.to_string()
}

/// Counts nanoseconds since its start.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("584 years have not passed")
    }
}

/// Token of the signals. Connections have their index as token, which never becomes this large.
const SIGNALS: Token = Token(usize::MAX - 1);

/// These numbers are the same on every Unix.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Maximum time of a connection attempt to one of several addresses.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
