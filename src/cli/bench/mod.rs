//! `wsloop bench`: puts a load on a WebSocket server and tells how it fared, as wrk does for HTTP.
//!
//! - `connect`: the connections and their opening handshakes.
//! - `engine`: the loop; `schedule`: when what is sent, and what is awaited; `connection`: one connection's bytes.
//! - `cycle`, `answers`: all messages are alike, so that sending and receiving is copying and comparing a cycle.
//! - `tally`, `process`: what is counted; `report`, `json`, `progress`: what is told.

mod answers;
mod connect;
mod connection;
mod cycle;
mod engine;
mod json;
mod process;
mod progress;
mod report;
mod schedule;
mod tally;

use super::args::{Bench, Load};
use super::stderr;
use connect::Opened;
use cycle::Cycle;
use engine::{End, Engine};
use mio::{Interest, Poll, Token};
use process::Process;
use report::{Connect, Report, Server, ServerUsage};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use wsloop::Message;

/// What a load leaves to say.
pub(super) struct Output {
    /// For stdout.
    pub(super) text: String,
    /// Content was compared, and some of it was another.
    pub(super) is_wrong: bool,
}

/// Runs the load; a note about an early end goes to stderr.
///
/// # Errors
/// Why nothing was measured.
pub(super) fn run(bench: &Bench) -> Result<Output, String> {
    measure(bench).map(|report| Output {
        text: if bench.json {
            json::print(&report)
        } else {
            report::print(&report)
        },
        is_wrong: bench.verify && report.errors.mismatch > 0,
    })
}

fn measure(bench: &Bench) -> Result<Report<'_>, String> {
    let process = process(bench)?;
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
    let address = address(&bench.url.sockets)?;

    let rss_before = rss(process.as_ref());
    let opened =
        connect::open(bench, address, &mut poll, &mut signals, &expected).map_err(describe)?;
    if opened.is_interrupted {
        return Err("interrupted while connecting: nothing was measured".to_owned());
    }
    if opened.connections.is_empty() {
        let reason = opened
            .first_error
            .as_deref()
            .unwrap_or("no reason is known");
        return Err(format!("no connection to {}: {reason}", bench.url.text));
    }
    let connect = connect(&opened);
    settle(bench);
    let rss_connected = rss(process.as_ref());

    let engine = Engine::new(bench, process.as_ref(), &requests, &expected, opened);
    let mut outcome = engine.run(&mut poll, &mut signals).map_err(describe)?;
    let rss_after = rss(process.as_ref());
    for connection in &mut outcome.connections {
        connection.close();
    }
    let because = outcome.first_error.as_deref();
    let Some(totals) = outcome.totals.filter(|totals| totals.messages > 0) else {
        let reason = match outcome.end {
            End::Time => "no message came back",
            End::Signal => "interrupted before anything came back",
            End::Lost => "no connection was left to send on",
        };
        let because = because.map_or(String::new(), |error| format!(": {error}"));
        return Err(format!("nothing was measured: {reason}{because}"));
    };
    if outcome.end == End::Lost {
        stderr::print(&format!(
            "wsloop: ended early: no connection was left to send on: {}\n",
            because.unwrap_or("no reason is known")
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
    Ok(Report {
        bench,
        connect,
        totals,
        errors: outcome.errors,
        first_error: outcome.first_error,
        server,
    })
}

fn process(bench: &Bench) -> Result<Option<Process>, String> {
    let Some(id) = bench.pid else {
        return Ok(None);
    };
    match Process::new(id) {
        Ok(process) => Ok(Some(process)),
        Err(error) => Err(format!("--pid {id} cannot be watched: {error}")),
    }
}

/// `None`, too, once it has ended.
fn rss(process: Option<&Process>) -> Option<u64> {
    process?.rss_bytes().ok()
}

/// The first address that somebody listens on. With only one there is nothing to find out.
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

fn connect(opened: &Opened) -> Connect {
    Connect {
        count: opened.connections.len(),
        seconds: opened.seconds,
        latency: opened.latency,
    }
}

/// A server may enter the last ones in its rooms after it has answered them, and its memory is to be that of all.
fn settle(bench: &Bench) {
    let is_broadcast = matches!(bench.load, Load::Broadcast { .. });
    if is_broadcast || bench.pid.is_some() {
        std::thread::sleep(SETTLE_TIME);
    }
}

fn describe(error: io::Error) -> String {
    error.to_string()
}

/// Nanoseconds since the start of something.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("584 years have not passed")
    }
}

/// The signals' token, which no connection has.
const SIGNALS: Token = Token(usize::MAX - 1);

/// The same on every system that has them.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// For a server on one of several addresses.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

const SETTLE_TIME: Duration = Duration::from_millis(50);
