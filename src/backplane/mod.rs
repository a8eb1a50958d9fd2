//! Topics that several servers share: publications pass through a broker, which every server is connected to.
//!
//! [`Server::set_backplane`](crate::Server::set_backplane) connects a server to a broker. From then on
//! [`Context::publish`](crate::Context::publish) sends each message to the broker, and the members of the topic receive
//! what comes back from there: on every server the same messages in the same order.
//! [`Context::publish_local`](crate::Context::publish_local) reaches only the members on this server. What is promised, and
//! what is not: [`guide::processes`](crate::guide::processes).
//!
//! The trait [`Backplane`] is the connection to one broker. `wsloop::redis::Redis` (cargo feature `redis`) implements it
//! for Redis and Valkey, [`memory::Broker`] for tests. What does not depend on the broker is in the engine: which topics
//! are subscribed, when a gap is reported, which sessions wait.

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod memory;
mod outbox;
pub(crate) mod payload;
pub(crate) mod rooms;

pub use outbox::{Outbox, WrittenEntry};

use crate::engine::sources::{Owner, Ready, Sources};
use crate::id::SourceId;
use mio::Interest;
use mio::event::Source;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// The connection of a server to a broker. The server calls it; an implementation never blocks.
///
/// A server calls [`next_event`](Self::next_event) until it returns `None`, at the start of a turn, if the source is
/// ready, [`next_at`](Self::next_at) has passed, or the last call did not return `None`. Then the turn runs, in which
/// [`subscribe`](Self::subscribe), [`unsubscribe`](Self::unsubscribe) and [`publish`](Self::publish) are called any number
/// of times, and [`flush`](Self::flush) once after them.
///
/// # What an implementation guarantees
///
/// - The broker receives the calls in their order. In particular, a publication never overtakes an earlier subscription.
/// - Each publication reaches the broker at most once. One whose last byte was written is never written again. If the
///   connection ends before the broker has acknowledged it, it counts as `unacknowledged` in
///   [`BackplaneEvent::Disconnected`].
/// - Publications of which not all bytes were written stay in the outbox when the connection ends, and are written after the
///   subscriptions that the server makes when it receives the next [`BackplaneEvent::Connected`].
/// - Every end of the connection is reported, once, as is a connection on which the broker no longer answers or no longer
///   delivers messages. The implementation connects again on its own.
pub trait Backplane: Send {
    /// Sets the maximum bytes of a payload. Called once, before the other methods, with the longest payload that this server
    /// publishes. A longer one that arrives is not received, but reported as [`BackplaneEvent::TooLong`]. The default method
    /// ignores it.
    fn set_payload_bytes_max(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Continues: connects, writes and reads without blocking. Returns the next event; `None` if there is none until the
    /// source is ready or the time of [`next_at`](Self::next_at) has come.
    fn next_event(&mut self, cx: &mut BackplaneContext<'_>) -> Option<BackplaneEvent<'_>>;

    /// Subscribes to a topic. Called only while connected. [`BackplaneEvent::Subscribed`] follows.
    fn subscribe(&mut self, topic: &str);

    /// Ends the subscription to a topic. Called only while connected.
    fn unsubscribe(&mut self, topic: &str);

    /// Appends a publication to the outbox. Called in every state. `payload` is not empty.
    fn publish(&mut self, topic: &str, payload: &[u8]);

    /// Writes what is queued, until the broker accepts no more. An error is returned by the next
    /// [`next_event`](Self::next_event) as [`BackplaneEvent::Disconnected`].
    fn flush(&mut self, cx: &mut BackplaneContext<'_>);

    /// Returns the number of bytes of publications that were not written yet.
    fn outbox_bytes(&self) -> usize;

    /// Drops the publications of which nothing was written. Returns their number.
    fn discard_outbox(&mut self) -> u64;

    /// Returns the time at which [`next_event`](Self::next_event) is to be called even without an event of the source.
    fn next_at(&self) -> Option<Instant>;
}

/// What has happened on the connection to the broker.
#[derive(Debug)]
pub enum BackplaneEvent<'a> {
    /// The connection is established, and the broker has accepted this client. No topic is subscribed. The server
    /// subscribes to its topics before the next [`Backplane::flush`].
    Connected,
    /// The broker has confirmed the subscription to a topic: every later publication arrives.
    Subscribed {
        /// The topic.
        topic: &'a str,
    },
    /// A publication to a subscribed topic, from this server or another client of the broker.
    Message {
        /// The topic.
        topic: &'a str,
        /// The bytes, which are not trusted.
        payload: &'a [u8],
    },
    /// A publication to a subscribed topic that was skipped, because its payload exceeds the maximum: a foreign publisher,
    /// or a server with other settings.
    TooLong {
        /// The topic.
        topic: &'a str,
        /// The length of the payload.
        bytes: u64,
    },
    /// The broker has processed publications of this server: the oldest ones that were not acknowledged yet.
    Acknowledged {
        /// Their number.
        publications: u64,
    },
    /// An attempt to connect has failed, or the connection has ended. There may be a gap in each subscribed topic.
    Disconnected {
        /// The reason.
        error: BackplaneError,
        /// Number of publications that were written and not acknowledged: other servers may have received them or not.
        unacknowledged: u64,
    },
}

/// Why there is no connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackplaneError {
    reason: String,
    is_permanent: bool,
}

impl BackplaneError {
    /// Returns an error that another attempt may not have.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_permanent: false,
        }
    }

    /// Returns an error that every attempt will have until a person changes something: a wrong password, or a version of
    /// the broker that is too old. A server whose first attempt fails with it stops with this error.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_permanent: true,
        }
    }

    /// Returns whether another attempt is useless.
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

impl fmt::Display for BackplaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for BackplaneError {}

/// What a [`Backplane`] uses of its server: the poll, and the time.
#[derive(Debug)]
pub struct BackplaneContext<'a> {
    sources: &'a mut Sources,
    ready: &'a mut Ready,
    now: Instant,
}

impl<'a> BackplaneContext<'a> {
    pub(crate) fn new(sources: &'a mut Sources, ready: &'a mut Ready, now: Instant) -> Self {
        Self {
            sources,
            ready,
            now,
        }
    }

    /// Returns the time at the start of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns what the registered sources have become ready for since the last call: a hint, as in mio. A new source is
    /// not ready before its first event.
    pub fn take_ready(&mut self) -> Ready {
        std::mem::replace(
            self.ready,
            Ready {
                is_readable: false,
                is_writable: false,
            },
        )
    }

    /// Adds a source to the server's poll, edge-triggered.
    ///
    /// # Errors
    /// As [`Context::register`](crate::Context::register).
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<SourceId> {
        self.sources.register(source, OWNER, None, interest)
    }

    /// Removes a source from the server's poll. Call it before the source is dropped.
    ///
    /// # Errors
    /// As [`Context::deregister`](crate::Context::deregister).
    pub fn deregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
    ) -> io::Result<()> {
        self.sources.deregister(source, id, None)
    }
}

/// Settings of [`Server::set_backplane`](crate::Server::set_backplane) that do not depend on the broker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackplaneOptions {
    /// How long the broker may be away before members are told. Then the members of topics with
    /// [`LagPolicy::Disconnect`](crate::LagPolicy::Disconnect) are closed with 1013 (RFC 6455 and its registry: "try again
    /// later"), the outbox is dropped, and [`Context::is_backplane_away`](crate::Context::is_backplane_away) returns
    /// `true`. If the broker returns earlier, the members are closed once all topics are subscribed again, spread over 5 s.
    /// Default: 5 s, more than a restart of Redis takes.
    pub grace: Duration,
    /// Maximum bytes of publications that wait for the broker. Sessions that publish are not read while more than half of
    /// it is in use, or while the broker is away. What other sources publish above the maximum (timers, other threads) is
    /// refused and counted, and a session that cannot be stopped in time is closed with 1013. Default: 8 MiB. Minimum: the
    /// larger of 64 KiB and twice `message_bytes_max`.
    pub outbox_bytes_max: usize,
    /// Maximum bytes of a message that is published. A session that sends a longer one to a topic is closed with 1009. The
    /// servers of one broker should use the same value: a longer message from another server is dropped and counted.
    /// Default: 1 MiB, because the broker sends a copy to each server.
    pub message_bytes_max: usize,
}

impl Default for BackplaneOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            outbox_bytes_max: 8 << 20,
            message_bytes_max: 1 << 20,
        }
    }
}

impl BackplaneOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// A text that names the first field that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let outbox_min = OUTBOX_BYTES_MIN.max(self.message_bytes_max.saturating_mul(2));
        if self.message_bytes_max == 0 {
            return Err("message_bytes_max must not be 0".to_owned());
        }
        if self.outbox_bytes_max < outbox_min {
            return Err(format!(
                "outbox_bytes_max is {}, which is less than {outbox_min}: 64 KiB, or twice message_bytes_max",
                self.outbox_bytes_max
            ));
        }
        Ok(())
    }
}

/// Counters of a server's backplane, in [`Stats::backplane`](crate::Stats::backplane).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackplaneStats {
    /// Whether the server is connected to the broker, and all topics are subscribed.
    pub is_whole: bool,
    /// Connections to the broker since the start.
    pub connections: u64,
    /// Connections that have ended. Each is a gap in all topics.
    pub gaps: u64,
    /// Sessions that were told of a gap: closed with 1013, or reported to `Handler::on_gap`.
    pub members_told: u64,
    /// Messages that were published to the broker, including those that still wait.
    pub publications: u64,
    /// Publications at the broker that these messages were gathered in: one for each topic and turn.
    pub batches: u64,
    /// Batches that were written to a connection that has ended before the broker acknowledged them.
    pub unacknowledged: u64,
    /// Batches that were dropped because the broker was away for longer than [`BackplaneOptions::grace`].
    pub discarded: u64,
    /// Messages that were refused: longer than [`BackplaneOptions::message_bytes_max`], or with
    /// [`BackplaneOptions::outbox_bytes_max`] reached.
    pub refused: u64,
    /// Messages that the broker has delivered.
    pub messages_in: u64,
    /// Publications from the broker that were dropped because they were invalid.
    pub invalid: u64,
    /// Bytes that wait for the broker.
    pub outbox_bytes: usize,
    /// Topics that this server knows at the broker.
    pub topics: usize,
    /// Sessions that are not read because they have published while the broker accepts nothing.
    pub waiting: usize,
}

/// Minimum of [`BackplaneOptions::outbox_bytes_max`].
const OUTBOX_BYTES_MIN: usize = 64 * 1024;

/// The owner of the backplane's sources. No handler has this scope.
pub(crate) const OWNER: Owner = Owner {
    key: 0,
    scope: u32::MAX,
    session: None,
};

#[cfg(test)]
mod tests;
