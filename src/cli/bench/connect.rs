//! Opens the connections, each with its opening handshake: as fast as the server accepts them, or at `--connect-rate`.

use super::connection::{LoadConnection, Received};
use super::cycle::Cycle;
use super::schedule::SECOND;
use super::tally::{self, Latency};
use super::{Clock, SIGNALS, Signals};
use crate::cli::args::Bench;
use crate::cli::client::{self, Address, Attempt, Failure, Handshake, Progress, Stream, TlsClient};
use crate::cli::escape::is_printable;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Result of [`open`].
pub(super) struct Opened {
    /// The open connections. Each is registered with its index as token.
    pub(super) connections: Vec<LoadConnection<Stream>>,
    /// For each connection, the number of messages received before the load: greetings.
    pub(super) greetings: Vec<u64>,
    /// Number of connections that were requested and are not open.
    pub(super) errors: u64,
    /// Reason of the first failure.
    pub(super) first_error: Option<String>,
    /// Number of opening handshakes in which the server selected no subprotocol.
    pub(super) without_subprotocol: u64,
    /// Time from the start of the first attempt to the last successful opening handshake.
    pub(super) seconds: f64,
    /// Time from the start of an attempt to the end of its opening handshake.
    pub(super) latency: Latency,
    /// `None` without TLS.
    pub(super) tls: Option<TlsHandshakes>,
    /// Whether a signal arrived before all connections were open.
    pub(super) is_interrupted: bool,
}

/// The TLS handshakes of the connections that were opened.
#[derive(Clone, Debug)]
pub(super) struct TlsHandshakes {
    /// The handshake of the connection that was opened last.
    pub(super) last: Handshake,
    /// Number of connections that resumed the session of an earlier one.
    pub(super) resumed: usize,
    /// Time from the end of the TCP handshake to the end of the TLS handshake.
    pub(super) latency: Latency,
}

/// A connection and its state.
enum Slot {
    /// `started` is the time when the TCP connection was requested.
    Opening {
        attempt: Box<Attempt>,
        started: u64,
    },
    /// `greetings` is the number of messages received.
    Open {
        connection: LoadConnection<Stream>,
        greetings: u64,
    },
    Failed,
}

/// Opens the connections that `bench` requests. Returns [`SETTLE_TIME`] after each of them is open or has failed, or
/// when a signal arrives. `expected` repeats the message that the server will send; the parser of each connection needs
/// it. Messages that arrive before the load starts are greetings, and are not reported as mismatches.
///
/// # Errors
/// Returns an error of the poll. A connection that fails is counted instead.
pub(super) fn open(
    bench: &Bench,
    address: SocketAddr,
    tls: Option<&TlsClient>,
    poll: &mut Poll,
    signals: &mut Signals,
    expected: &Cycle,
) -> io::Result<Opened> {
    // Reserves descriptors for reading /proc later, because the connections may use up all others.
    let reserved: Vec<_> = (0..RESERVED_DESCRIPTORS)
        .map(|_| poll.registry().try_clone())
        .collect();
    let mut connecting = Connecting {
        bench,
        address,
        tls,
        expected,
        clock: Clock::start(),
        slots: Vec::new(),
        handshakes: 0,
        planned: bench.connections,
        first_error: None,
        without_subprotocol: 0,
        latencies: tally::latencies(),
        tls_latencies: tally::latencies(),
        last_tls: None,
        resumed: 0,
        last_open: 0,
        buf: vec![0; 64 * 1024],
    };
    let is_interrupted = connecting.run(poll, signals)?;
    drop(reserved);
    connecting.finish(poll, is_interrupted)
}

/// The connections that are being opened. Times are in nanoseconds since the start of `clock`.
struct Connecting<'b> {
    bench: &'b Bench,
    address: SocketAddr,
    tls: Option<&'b TlsClient>,
    expected: &'b Cycle,
    clock: Clock,
    /// The connections started so far. Each is registered with its index as token.
    slots: Vec<Slot>,
    /// Number of slots in [`Slot::Opening`].
    handshakes: usize,
    /// Number of connections to attempt: those requested, or fewer when the process runs out of descriptors.
    planned: usize,
    first_error: Option<String>,
    without_subprotocol: u64,
    latencies: hdrhistogram::Histogram<u64>,
    /// Times of the TLS handshakes.
    tls_latencies: hdrhistogram::Histogram<u64>,
    last_tls: Option<Handshake>,
    /// Number of TLS handshakes that resumed a session.
    resumed: usize,
    /// When the last opening handshake completed.
    last_open: u64,
    buf: Vec<u8>,
}

impl Connecting<'_> {
    /// Runs until all attempts have ended or a signal arrives. Returns whether a signal arrived.
    fn run(&mut self, poll: &mut Poll, signals: &mut Signals) -> io::Result<bool> {
        let mut events = Events::with_capacity(1024);
        let mut next_scan = 0;
        loop {
            let mut wait = self.start_due(poll);
            if self.handshakes == 0 && self.slots.len() >= self.planned {
                let settled = self.last_open + SETTLE_TIME.as_nanos() as u64;
                let now = self.clock.now();
                // If no connection is open, `last_open` is 0.
                if now >= settled || self.last_open == 0 {
                    return Ok(false);
                }
                // The poll sleeps for whole milliseconds, rounded up.
                wait = Duration::from_nanos(settled - now);
            }
            match poll.poll(&mut events, Some(wait.min(SCAN_INTERVAL))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if event.token() == SIGNALS {
                    if signals.pending().count() > 0 {
                        return Ok(true);
                    }
                    continue;
                }
                self.ready(event.token().0);
            }
            let now = self.clock.now();
            if now >= next_scan {
                next_scan = now + SCAN_INTERVAL.as_nanos() as u64;
                self.expire(now);
            }
        }
    }

    /// Starts the connections that are due. Returns the maximum time to wait for events.
    fn start_due(&mut self, poll: &Poll) -> Duration {
        for _ in 0..STARTS_PER_TURN_MAX {
            let index = self.slots.len();
            if index >= self.planned || self.handshakes >= HANDSHAKES_MAX {
                return SCAN_INTERVAL;
            }
            let now = self.clock.now();
            if let Some(rate) = self.bench.connect_rate {
                let due = (u128::from(SECOND) * index as u128 / u128::from(rate)) as u64;
                if due > now {
                    return Duration::from_nanos(due - now);
                }
            }
            match self.start_one(poll, index, now) {
                Ok(slot) => {
                    self.handshakes += 1;
                    self.slots.push(slot);
                }
                Err(error) => {
                    if is_out_of_descriptors(&error) {
                        self.planned = index;
                    }
                    self.slots.push(Slot::Failed);
                    let open = self.slots.len() - 1;
                    self.first_error
                        .get_or_insert_with(|| describe(&error, open));
                }
            }
        }
        Duration::ZERO
    }

    /// Starts a TCP connection.
    fn start_one(&self, poll: &Poll, index: usize, now: u64) -> io::Result<Slot> {
        let mut stream = Stream::connect(&Address::Tcp(self.address), self.tls)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)?;
        let opening = self
            .bench
            .opening(client::nonce())
            .expect("the URL and the headers were checked with the same functions");
        Ok(Slot::Opening {
            attempt: Box::new(Attempt::new(stream, opening)),
            started: now,
        })
    }

    /// Called when the socket of a connection is ready.
    fn ready(&mut self, index: usize) {
        let Self {
            slots,
            buf,
            expected,
            ..
        } = self;
        match &mut slots[index] {
            Slot::Opening { attempt, started } => match attempt.advance(buf) {
                Progress::Pending => {}
                Progress::Opened(stream, response, rest) => {
                    self.handshakes -= 1;
                    let agreed = stream.agreed();
                    self.without_subprotocol += u64::from(response.subprotocol().is_none());
                    let mut connection = LoadConnection::new(stream);
                    match connection.receive(rest, expected) {
                        Ok(counted) if counted.is_closed => {
                            let reason = "the server closed right after the opening handshake";
                            self.fail(index, reason.to_owned());
                        }
                        Ok(counted) => {
                            self.last_open = self.clock.now();
                            let latency = self.last_open - *started;
                            self.latencies.saturating_record(latency);
                            if let Some(agreed) = agreed {
                                let nanos = u64::try_from(agreed.time.as_nanos());
                                self.tls_latencies
                                    .saturating_record(nanos.unwrap_or(u64::MAX));
                                self.resumed += usize::from(agreed.is_resumed);
                                self.last_tls = Some(agreed);
                            }
                            slots[index] = Slot::Open {
                                connection,
                                greetings: counted.messages,
                            };
                            self.ready(index);
                        }
                        Err(lost) => self.fail(index, lost.to_string()),
                    }
                }
                Progress::Failed(failure) => {
                    self.handshakes -= 1;
                    self.fail(index, refusal(&failure));
                }
            },
            Slot::Open {
                connection,
                greetings,
            } => {
                // No message has been sent yet. Messages of the server are greetings, and pings are answered. `is_ended` is `true`, so that the stream is read until it would block or ends: it
                // is not known here which event has arrived.
                let mut greeting = Received::default();
                let read = connection.read(buf, expected, true, &mut greeting);
                *greetings += greeting.messages;
                connection.unblock();
                // No message is queued: only pongs are written, so the choice of cycle does not matter.
                match read.and_then(|is_read| connection.write(expected).map(|()| is_read)) {
                    Ok(true) => {}
                    // The read budget, 1 MiB, is spent.
                    Ok(false) => self.fail(
                        index,
                        "the server sent too much data before it received a message".to_owned(),
                    ),
                    Err(lost) => self.fail(index, lost.to_string()),
                }
            }
            Slot::Failed => {}
        }
    }

    fn fail(&mut self, index: usize, reason: String) {
        self.slots[index] = Slot::Failed;
        self.first_error.get_or_insert(reason);
    }

    /// Fails the opening handshakes that have taken longer than `--timeout`.
    fn expire(&mut self, now: u64) {
        let timeout = self.bench.timeout.as_nanos() as u64;
        for index in 0..self.slots.len() {
            if let Slot::Opening { started, .. } = self.slots[index]
                && now - started >= timeout
            {
                self.handshakes -= 1;
                let reason = format!(
                    "the opening handshake took longer than the {:?} of --timeout",
                    self.bench.timeout
                );
                self.fail(index, reason);
            }
        }
    }

    /// Returns the open connections. If others have failed, registers the open ones again with their new index.
    fn finish(self, poll: &Poll, is_interrupted: bool) -> io::Result<Opened> {
        let has_gaps = self
            .slots
            .iter()
            .any(|slot| !matches!(slot, Slot::Open { .. }));
        let mut connections = Vec::with_capacity(self.slots.len());
        let mut all_greetings = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let Slot::Open {
                mut connection,
                greetings,
            } = slot
            else {
                continue;
            };
            if has_gaps {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let token = Token(connections.len());
                poll.registry()
                    .reregister(connection.stream(), token, interest)?;
            }
            connections.push(connection);
            all_greetings.push(greetings);
        }
        let latency = Latency::of(&self.tls_latencies);
        let resumed = self.resumed;
        Ok(Opened {
            tls: self.last_tls.map(|last| TlsHandshakes {
                last,
                resumed,
                latency,
            }),
            errors: (self.bench.connections - connections.len()) as u64,
            first_error: self.first_error,
            without_subprotocol: self.without_subprotocol,
            seconds: tally::seconds(self.last_open),
            latency: Latency::of(&self.latencies),
            is_interrupted,
            connections,
            greetings: all_greetings,
        })
    }
}

/// Describes a failure in one line. For an HTTP response other than 101, the description includes the first line of the
/// body.
fn refusal(failure: &Failure) -> String {
    let Failure::Refused(_, body, _) = failure else {
        return failure.to_string();
    };
    let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_SHOWN_MAX)]);
    let line = body.lines().next().unwrap_or("").trim();
    let line: String = line.chars().filter(|c| is_printable(*c)).collect();
    let separator = if line.is_empty() { "" } else { ": " };
    format!("{failure}{separator}{line}")
}

/// Describes an error of starting a connection. `open` is the number of connections started before.
fn describe(error: &io::Error, open: usize) -> String {
    if is_out_of_descriptors(error) {
        format!(
            "out of file descriptors after {open} connections; raise the limit with `ulimit -n`"
        )
    } else {
        format!("cannot connect: {error}")
    }
}

/// Returns whether the error is EMFILE or ENFILE. Their numbers are the same on every Unix.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Maximum number of concurrent opening handshakes. The listen backlog of a server is seldom longer.
const HANDSHAKES_MAX: usize = 4096;

/// Maximum number of connections started before events are polled again. Reading responses promptly makes the measured
/// latency that of the server.
const STARTS_PER_TURN_MAX: usize = 32;

/// Maximum length of the part of a response's body that an error message includes.
const BODY_BYTES_SHOWN_MAX: usize = 200;

/// Time between two searches for opening handshakes that have timed out.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Time from the last opening handshake to the start of the load. A server may subscribe a client to a topic, or send a
/// greeting, only after the 101 response. The server's memory is measured after this time, so that it includes all
/// connections.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// Number of descriptors reserved for reading /proc. Two are open at a time, a directory and a file in it; the others
/// are a margin.
const RESERVED_DESCRIPTORS: usize = 4;
