//! Opens the connections: all at once, or so many a second, each with its opening handshake.

use super::connection::{LoadConnection, Received};
use super::cycle::Cycle;
use super::schedule::SECOND;
use super::tally::{self, Latency};
use super::{Clock, SIGNALS, Signals};
use crate::cli::args::Bench;
use crate::cli::client::{self, Attempt, Failure, Progress};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use wsloop::proto::ClientOpening;

/// The connections that are open, each registered under its index.
pub(super) struct Opened {
    pub(super) connections: Vec<LoadConnection<TcpStream>>,
    pub(super) errors: u64,
    /// Why the first of those that failed did so.
    pub(super) first_error: Option<String>,
    pub(super) seconds: f64,
    pub(super) latency: Latency,
    /// A signal came.
    pub(super) is_interrupted: bool,
}

enum Slot {
    Opening { attempt: Box<Attempt>, started: u64 },
    Open(LoadConnection<TcpStream>),
    Failed,
}

/// Opens what `bench` asks for and waits until each connection is open or has failed.
///
/// # Errors
/// What the system says to polling.
pub(super) fn open(
    bench: &Bench,
    address: SocketAddr,
    poll: &mut Poll,
    signals: &mut Signals,
    expected: &Cycle,
) -> io::Result<Opened> {
    // What /proc is read with later, should connections take all descriptors.
    let reserved: Vec<_> = (0..RESERVED_DESCRIPTORS)
        .map(|_| poll.registry().try_clone())
        .collect();
    let mut connecting = Connecting {
        bench,
        address,
        expected,
        clock: Clock::start(),
        slots: Vec::new(),
        handshakes: 0,
        planned: bench.connections,
        first_error: None,
        latencies: tally::latencies(),
        last_open: 0,
        buf: vec![0; 64 * 1024],
    };
    let is_interrupted = connecting.run(poll, signals)?;
    drop(reserved);
    connecting.finish(poll, is_interrupted)
}

struct Connecting<'b> {
    bench: &'b Bench,
    address: SocketAddr,
    expected: &'b Cycle,
    clock: Clock,
    slots: Vec<Slot>,
    handshakes: usize,
    /// Connections to begin in all; fewer than were asked for when descriptors run out.
    planned: usize,
    first_error: Option<String>,
    latencies: hdrhistogram::Histogram<u64>,
    last_open: u64,
    buf: Vec<u8>,
}

impl Connecting<'_> {
    /// `true`: a signal came.
    fn run(&mut self, poll: &mut Poll, signals: &mut Signals) -> io::Result<bool> {
        let mut events = Events::with_capacity(1024);
        let mut next_scan = 0;
        loop {
            let wait = self.start_due(poll);
            if self.handshakes == 0 && self.slots.len() >= self.planned {
                return Ok(false);
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

    /// Begins the connections that are due; gives how long to wait for events.
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

    fn start_one(&self, poll: &Poll, index: usize, now: u64) -> io::Result<Slot> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)?;
        let url = &self.bench.url;
        let opening = ClientOpening::new(&url.host, &url.target, client::nonce())
            .expect("the URL was checked with the same function");
        Ok(Slot::Opening {
            attempt: Box::new(Attempt::new(stream, opening)),
            started: now,
        })
    }

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
                Progress::Opened(stream, _, rest) => {
                    self.handshakes -= 1;
                    let mut connection = LoadConnection::new(stream);
                    match connection.receive(rest, expected) {
                        Ok(counted) if counted.is_closed => {
                            let reason = "the server closed the connection at once";
                            self.fail(index, reason.to_owned());
                        }
                        Ok(_) => {
                            self.last_open = self.clock.now();
                            let latency = self.last_open - *started;
                            self.latencies.saturating_record(latency);
                            slots[index] = Slot::Open(connection);
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
            Slot::Open(connection) => {
                // Nothing was asked for yet: a greeting is read and not counted, a ping is answered.
                let mut greeting = Received::default();
                let read = connection.read(buf, expected, true, &mut greeting);
                connection.unblock();
                // No message is owed, only pongs.
                match read.and_then(|is_read| connection.write(expected).map(|()| is_read)) {
                    Ok(true) => {}
                    Ok(false) => self.fail(index, "the greeting is too long".to_owned()),
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

    /// Gives up on those that take too long.
    fn expire(&mut self, now: u64) {
        let timeout = self.bench.timeout.as_nanos() as u64;
        for index in 0..self.slots.len() {
            if let Slot::Opening { started, .. } = self.slots[index]
                && now - started >= timeout
            {
                self.handshakes -= 1;
                self.fail(index, "the opening handshake took too long".to_owned());
            }
        }
    }

    fn finish(self, poll: &Poll, is_interrupted: bool) -> io::Result<Opened> {
        let has_gaps = self.slots.iter().any(|slot| !matches!(slot, Slot::Open(_)));
        let mut connections = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let Slot::Open(mut connection) = slot else {
                continue;
            };
            if has_gaps {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let token = Token(connections.len());
                poll.registry()
                    .reregister(connection.stream(), token, interest)?;
            }
            connections.push(connection);
        }
        let asked = self.bench.connections;
        Ok(Opened {
            errors: (asked - connections.len()) as u64,
            first_error: self.first_error,
            seconds: tally::seconds(self.last_open),
            latency: Latency::of(&self.latencies),
            is_interrupted,
            connections,
        })
    }
}

/// Why there is no connection; with the first line of what the server says to a refusal.
fn refusal(failure: &Failure) -> String {
    let Failure::Refused(_, body, _) = failure else {
        return failure.to_string();
    };
    let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_SHOWN_MAX)]);
    let line = body.lines().next().unwrap_or("").trim();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let separator = if line.is_empty() { "" } else { ": " };
    format!("{failure}{separator}{line}")
}

fn describe(error: &io::Error, open: usize) -> String {
    if is_out_of_descriptors(error) {
        format!("no descriptors after {open} connections; ulimit -n tells and raises the limit")
    } else {
        format!("cannot connect: {error}")
    }
}

/// EMFILE and ENFILE, the same number on every Unix.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Handshakes at once: a server's listen backlog is seldom longer.
const HANDSHAKES_MAX: usize = 4096;

/// Connections begun before the answers of others are read, so that what is measured is the server.
const STARTS_PER_TURN_MAX: usize = 32;

/// Of a refusal's body, in bytes.
const BODY_BYTES_SHOWN_MAX: usize = 200;

/// How often it is looked for handshakes that take too long.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// Descriptors: a folder and a file in it, twice over.
const RESERVED_DESCRIPTORS: usize = 4;
