//! Redis 7 or later, or Valkey, as the broker of a [`backplane`](crate::backplane).
//!
//! [`Redis`] has one connection, in the poll of its server. It publishes and subscribes on this connection (Pub/Sub, in the
//! protocol RESP3). The channel of a topic is [a prefix](Settings::prefix) followed by the topic. Nothing is stored on the
//! broker.
//!
//! Besides the channels with the prefix, the user at the broker needs the permissions `+hello +publish +subscribe
//! +unsubscribe +client|list +client|kill`. With the last two, a new connection ends the previous one, of which the broker may
//! still have unprocessed bytes. Without them, the last publications of the previous connection may follow newer ones.
//!
//! In this module, *server* is the WebSocket server, and *broker* is Redis or Valkey.
//!
//! # A connection that does not answer
//!
//! The connection ends if a publication or a subscription is not answered within 5 s, or if a probe does not come back within
//! 5 s; both times are longer by what the bytes in transit need at 64 KB/s. A probe is a publication to a channel to which
//! only this connection is subscribed. It is sent when nothing was delivered for 5 s. So a broker that has stopped, a cut
//! cable, and a broker that answers but does not deliver are detected within 10 s. A pause of 3 s does not end the
//! connection. The first attempt to connect again follows after 25 to 50 ms, later attempts after up to 400 ms, and after an
//! error that an operator must correct after 1 to 2 s.
//!
//! Answers follow what the broker has sent before. On a link that transfers less than about 200 KB/s, a message of 1 MiB from
//! another server can delay them for more than 5 s, and so end the connection.
//!
//! # Replicas
//!
//! A primary server that has become a replica closes no connection and accepts publications, but these do not reach the clients
//! of the new primary server. So the role of the broker is checked every 10 s, and a change ends the connection.

mod backoff;
mod command;
mod connector;
mod input;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod liveness;
mod protocol;
mod refusal;
mod resp;
mod settings;

pub use settings::{Settings, UrlError};

use crate::backplane::{Backplane, BackplaneContext, BackplaneError, BackplaneEvent};
use crate::id::SourceId;
use crate::stream::Stream;
use backoff::Backoff;
use connector::{Address, Resolver};
use mio::Interest;
use protocol::Protocol;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::time::{Duration, Instant};

/// The connection of a server to Redis or Valkey, for [`Server::set_backplane`](crate::Server::set_backplane).
pub struct Redis {
    protocol: Protocol,
    link: Link,
    resolver: Resolver,
    backoff: Backoff,
    random: RandomState,
    /// Counts attempts and connections, so that [`Redis::random`] returns another number for each.
    random_number: u64,
}

/// The state of the socket, from the wait before an attempt to the connection.
enum Link {
    /// Waits for the time of the next attempt.
    Waiting { until: Instant },
    /// Waits for the thread that resolves the host.
    Resolving {
        check_at: Instant,
        deadline: Instant,
    },
    /// Waits until an address accepts the connection.
    Connecting {
        socket: Socket,
        address: Address,
        deadline: Instant,
        /// The addresses that were not tried yet.
        rest: VecDeque<Address>,
    },
    /// The socket is connected.
    Connected {
        socket: Socket,
        /// Whether a read may succeed.
        is_readable: bool,
        /// Whether a write may succeed.
        is_writable: bool,
        /// The error of a write. Bytes that were received before are processed first.
        write_error: Option<io::Error>,
        /// The time of a turn that has left work to the next turn, which is then due at once.
        unfinished_since: Option<Instant>,
        /// When the greeting was complete.
        established_at: Option<Instant>,
    },
}

/// A socket that is registered in the server's poll.
struct Socket {
    stream: Stream,
    source: SourceId,
}

/// A [`BackplaneEvent`] with ranges of the input in place of its texts and bytes.
enum Step {
    Protocol(protocol::Step),
    Disconnected {
        error: BackplaneError,
        unacknowledged: u64,
    },
}

impl Redis {
    /// Returns a client that connects when its server runs.
    pub fn new(settings: Settings) -> Self {
        Self {
            protocol: Protocol::new(settings),
            link: Link::Waiting {
                until: Instant::now(),
            },
            resolver: Resolver::default(),
            backoff: Backoff::default(),
            random: RandomState::new(),
            random_number: 0,
        }
    }

    /// Returns a random number for the current [`random_number`](Self::random_number).
    fn random(&self) -> u64 {
        self.random.hash_one(self.random_number)
    }

    /// Does all that can be done without waiting, or until there is an event. Returns the event.
    fn step(&mut self, cx: &mut BackplaneContext<'_>) -> Option<Step> {
        let ready = cx.take_ready();
        if let Link::Connected {
            is_readable,
            is_writable,
            ..
        } = &mut self.link
        {
            *is_readable |= ready.is_readable;
            *is_writable |= ready.is_writable;
        }
        let now = cx.now();
        match &mut self.link {
            Link::Waiting { until } => {
                if now < *until {
                    return None;
                }
                self.start_attempt(cx)
            }
            Link::Resolving { check_at, deadline } => {
                if now < *check_at && now < *deadline {
                    return None;
                }
                *check_at = now + RESOLVER_INTERVAL;
                let is_late = now >= *deadline;
                match self.resolver.answer() {
                    Ok(Some(addresses)) => self.connect(cx, addresses, None),
                    Ok(None) if is_late => {
                        let error = io::Error::new(ErrorKind::TimedOut, "there is no answer");
                        Some(self.resolution_failed(cx, &error))
                    }
                    Ok(None) => None,
                    Err(error) => Some(self.resolution_failed(cx, &error)),
                }
            }
            Link::Connecting {
                socket, deadline, ..
            } => {
                let result = match connector::is_connected(&socket.stream) {
                    Ok(false) if now >= *deadline => Err(ErrorKind::TimedOut.into()),
                    other => other,
                };
                match result {
                    Ok(true) => self.connected(cx),
                    Ok(false) => None,
                    Err(error) => self.connect_next(cx, error),
                }
            }
            Link::Connected { .. } => self.exchange(cx),
        }
    }

    fn start_attempt(&mut self, cx: &mut BackplaneContext<'_>) -> Option<Step> {
        match self.resolver.resolve(&self.protocol.settings().endpoint) {
            Ok(Some(addresses)) => self.connect(cx, addresses, None),
            Ok(None) => {
                self.link = Link::Resolving {
                    check_at: cx.now() + RESOLVER_INTERVAL,
                    deadline: cx.now() + RESOLVER_TIMEOUT,
                };
                None
            }
            Err(error) => Some(self.resolution_failed(cx, &error)),
        }
    }

    fn resolution_failed(&mut self, cx: &mut BackplaneContext<'_>, error: &io::Error) -> Step {
        let broker = self.protocol.settings();
        let error =
            BackplaneError::new(format!("the host of {broker} cannot be resolved: {error}"));
        self.end(cx, error)
    }

    /// Begins to connect to the first address that does not fail at once. Ends the attempt if there is none.
    fn connect(
        &mut self,
        cx: &mut BackplaneContext<'_>,
        addresses: VecDeque<Address>,
        last_error: Option<BackplaneError>,
    ) -> Option<Step> {
        let (mut rest, mut last_error) = (addresses, last_error);
        while let Some(address) = rest.pop_front() {
            let registered = address.connect().and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let source = cx.register(&mut stream, interest)?;
                Ok(Socket { stream, source })
            });
            match registered {
                Ok(socket) => {
                    self.link = Link::Connecting {
                        socket,
                        address,
                        deadline: cx.now() + CONNECT_TIMEOUT,
                        rest,
                    };
                    return None;
                }
                Err(error) => last_error = Some(connect_error(&address, &error)),
            }
        }
        let error = last_error.unwrap_or_else(|| BackplaneError::new("the broker has no address"));
        Some(self.end(cx, error))
    }

    /// Tries the next address after an error.
    fn connect_next(&mut self, cx: &mut BackplaneContext<'_>, error: io::Error) -> Option<Step> {
        let waiting = Link::Waiting { until: cx.now() };
        let Link::Connecting {
            mut socket,
            address,
            rest,
            ..
        } = mem::replace(&mut self.link, waiting)
        else {
            return None;
        };
        socket.deregister(cx);
        self.connect(cx, rest, Some(connect_error(&address, &error)))
    }

    /// Called when the socket is connected: begins the greeting.
    fn connected(&mut self, cx: &mut BackplaneContext<'_>) -> Option<Step> {
        let waiting = Link::Waiting { until: cx.now() };
        let Link::Connecting { socket, .. } = mem::replace(&mut self.link, waiting) else {
            return None;
        };
        self.link = Link::Connected {
            socket,
            is_readable: true,
            is_writable: true,
            write_error: None,
            unfinished_since: None,
            established_at: None,
        };
        self.random_number += 1;
        let random = self.random();
        self.protocol.connected(cx.now(), random);
        self.exchange(cx)
    }

    /// Writes and reads until there is an event, the socket is not ready, or it was read [`READS_MAX`] times.
    fn exchange(&mut self, cx: &mut BackplaneContext<'_>) -> Option<Step> {
        let now = cx.now();
        self.set_unfinished(None);
        let mut reads = 0;
        let mut is_last_read = false;
        loop {
            // This function is called for each event. To write once, it writes after the last event of the received bytes.
            match self.protocol.next(now) {
                Ok(Some(step)) => return Some(self.after_step(step, now)),
                Ok(None) => {}
                Err(error) => return Some(self.end(cx, error)),
            }
            self.write(now);
            if reads == READS_MAX {
                self.set_unfinished(Some(now));
                return None;
            }
            match self.read(now) {
                Ok(true) => {
                    reads += 1;
                    continue;
                }
                Ok(false) => {}
                Err(error) => return Some(self.end(cx, error)),
            }
            match self.protocol.check(now) {
                // A probe may have become due.
                Ok(()) if self.can_write() => {}
                Ok(()) => return None,
                Err(error) if is_last_read => return Some(self.end(cx, error)),
                Err(_) => {
                    // If this process was stopped for seconds, the answer may be in the socket, not yet reported by the poll.
                    is_last_read = true;
                    self.set_readable();
                }
            }
        }
    }

    fn set_readable(&mut self) {
        if let Link::Connected { is_readable, .. } = &mut self.link {
            *is_readable = true;
        }
    }

    fn set_unfinished(&mut self, since: Option<Instant>) {
        if let Link::Connected {
            unfinished_since, ..
        } = &mut self.link
        {
            *unfinished_since = since;
        }
    }

    /// Returns the step. If it establishes the connection, stores the time.
    fn after_step(&mut self, step: protocol::Step, now: Instant) -> Step {
        if let (protocol::Step::Connected, Link::Connected { established_at, .. }) =
            (&step, &mut self.link)
        {
            *established_at = Some(now);
        }
        Step::Protocol(step)
    }

    fn can_write(&self) -> bool {
        let is_writable = matches!(
            self.link,
            Link::Connected {
                is_writable: true,
                ..
            }
        );
        is_writable && self.protocol.has_output()
    }

    /// Writes until everything is written or the socket accepts no more. Stores an error, so that bytes that were received
    /// are read first.
    fn write(&mut self, now: Instant) {
        let Link::Connected {
            socket,
            is_readable,
            is_writable,
            write_error,
            unfinished_since,
            ..
        } = &mut self.link
        else {
            return;
        };
        while *is_writable && self.protocol.has_output() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.protocol.output(&mut slices);
            match socket.stream.write_vectored(&slices[..count]) {
                Ok(0) => *write_error = Some(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    // The current time, not the start of the turn: after a turn of 5 s, the answer would already be late.
                    self.protocol.written(bytes, Instant::now());
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.protocol.blocked(now),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => *write_error = Some(error),
            }
            *is_writable = false;
            if write_error.is_some() {
                *is_readable = true;
                *unfinished_since = Some(now);
            }
        }
    }

    /// Reads once. Returns whether bytes were read.
    fn read(&mut self, now: Instant) -> Result<bool, BackplaneError> {
        let Link::Connected {
            socket,
            is_readable,
            write_error,
            ..
        } = &mut self.link
        else {
            return Ok(false);
        };
        while *is_readable {
            match socket.stream.read(self.protocol.space()) {
                Ok(0) => return Err(BackplaneError::new("the broker has ended the connection")),
                // `is_readable` remains set after a short read: the same event may have announced the end of the stream.
                Ok(bytes) => {
                    self.protocol.received(bytes, now);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => *is_readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ended(&error)),
            }
        }
        match write_error.take() {
            Some(error) => Err(ended(&error)),
            None => Ok(false),
        }
    }

    /// Ends the connection or the attempt, and schedules the next attempt.
    fn end(&mut self, cx: &mut BackplaneContext<'_>, error: BackplaneError) -> Step {
        let now = cx.now();
        self.random_number += 1;
        let random = self.random() as u32;
        match mem::replace(&mut self.link, Link::Waiting { until: now }) {
            Link::Waiting { .. } | Link::Resolving { .. } => {}
            Link::Connecting { mut socket, .. } => socket.deregister(cx),
            Link::Connected {
                mut socket,
                established_at,
                ..
            } => {
                socket.deregister(cx);
                if let Some(at) = established_at {
                    self.backoff
                        .was_established_for(now.saturating_duration_since(at));
                }
            }
        }
        let delay = self.backoff.delay(error.is_permanent(), random);
        self.link = Link::Waiting { until: now + delay };
        Step::Disconnected {
            error,
            unacknowledged: self.protocol.disconnected(),
        }
    }
}

impl Backplane for Redis {
    fn set_payload_bytes_max(&mut self, bytes: usize) {
        self.protocol.set_payload_bytes_max(bytes);
    }

    fn next_event(&mut self, cx: &mut BackplaneContext<'_>) -> Option<BackplaneEvent<'_>> {
        Some(match self.step(cx)? {
            Step::Disconnected {
                error,
                unacknowledged,
            } => BackplaneEvent::Disconnected {
                error,
                unacknowledged,
            },
            Step::Protocol(step) => self.protocol.event(step),
        })
    }

    fn subscribe(&mut self, topic: &str) {
        self.protocol.subscribe(topic);
    }

    fn unsubscribe(&mut self, topic: &str) {
        self.protocol.unsubscribe(topic);
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.protocol.publish(topic, payload);
    }

    fn flush(&mut self, cx: &mut BackplaneContext<'_>) {
        self.protocol.flush();
        self.write(cx.now());
    }

    fn outbox_bytes(&self) -> usize {
        self.protocol.outbox_bytes()
    }

    fn discard_outbox(&mut self) -> u64 {
        self.protocol.discard_outbox()
    }

    fn next_at(&self) -> Option<Instant> {
        match &self.link {
            Link::Waiting { until } => Some(*until),
            Link::Resolving { check_at, deadline } => Some(*check_at.min(deadline)),
            Link::Connecting { deadline, .. } => Some(*deadline),
            Link::Connected {
                unfinished_since: Some(since),
                ..
            } => Some(*since),
            Link::Connected { .. } => self.protocol.deadline(),
        }
    }
}

impl Socket {
    fn deregister(&mut self, cx: &mut BackplaneContext<'_>) {
        // After a failure, the socket is not in the poll either.
        let _ = cx.deregister(&mut self.stream, self.source);
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("settings", self.protocol.settings())
            .finish_non_exhaustive()
    }
}

fn connect_error(address: &Address, error: &io::Error) -> BackplaneError {
    BackplaneError::new(format!("cannot connect to {address}: {error}"))
}

fn ended(error: &io::Error) -> BackplaneError {
    BackplaneError::new(format!("the connection to the broker has ended: {error}"))
}

/// Maximum time for an address to accept the connection. TCP repeats its first packet after 1 s, so one packet may be lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval at which the result of the thread that resolves the host is checked. The thread cannot wake the poll.
const RESOLVER_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum time for the thread to resolve the host. Resolvers ask a second name server after 5 s.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(8);

/// Maximum reads of 64 KiB in a row without an event. The next turn continues, so that a long message does not delay the
/// sessions.
const READS_MAX: usize = 4;

/// Maximum blocks of the outbox in one write. More than the blocks of 256 KiB, the maximum in transit.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests;
