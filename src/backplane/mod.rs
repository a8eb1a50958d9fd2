//! Topics that several servers share: publications pass through a broker, to which every server is connected.
//!
//! [`Server::set_backplane`](crate::Server::set_backplane) connects a server to a broker. From then on
//! [`Context::publish`](crate::Context::publish) sends each message to the broker, and members of the topic receive the
//! message when the broker delivers it: on every server the same messages in the same order.
//! [`Context::publish_local`](crate::Context::publish_local) reaches only the members on this server. The chapter
//! [`guide::processes`](crate::guide::processes) lists what is promised and what is not.
//!
//! A *gap* is the end of a connection to the broker: messages of other servers may be missing in all topics.
//!
//! The trait [`Backplane`] is the connection to one broker. `wsloop::redis::Redis` (cargo feature `redis`) implements it
//! for Redis and Valkey, [`memory::MemoryBackplane`] for tests. The engine decides everything that does not depend on the
//! kind of broker: which topics are subscribed, when a gap is reported, which sessions wait.

pub(crate) mod gap;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub(crate) mod last_messages;
pub mod memory;
mod outbox;
pub(crate) mod payload;
pub(crate) mod shared_topics;

pub use outbox::{Outbox, WrittenEntry};

use crate::engine::sources::{Owner, Ready, Sources};
use crate::id::SourceId;
use mio::Interest;
use mio::event::Source;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// The connection of a server to a broker. The server calls its methods, none of which may block.
///
/// At the start of a turn, the server calls [`next_event`](Self::next_event) if a registered source is ready, if the time of
/// [`next_at`](Self::next_at) has come, or if the last call returned an event. It repeats the call until it returns `None`
/// or the turn's budget is spent. Near the end of the turn, the server calls [`subscribe`](Self::subscribe),
/// [`unsubscribe`](Self::unsubscribe) and [`publish`](Self::publish) any number of times, and then
/// [`flush`](Self::flush) once. It omits `flush` in a turn without these calls if the outbox is empty.
///
/// # What an implementation guarantees
///
/// - The broker receives subscriptions and publications in the order of the calls: a publication never overtakes an earlier
///   subscription.
/// - Each publication reaches the broker at most once. A publication whose last byte was written is never written again. If
///   the connection ends before the broker has acknowledged it, it counts as `unacknowledged` in
///   [`BackplaneEvent::Disconnected`].
/// - Publications of which not all bytes were written stay in the outbox when the connection ends, and are written after the
///   subscriptions that the server makes when it receives the next [`BackplaneEvent::Connected`].
/// - Every end of the connection is reported, once. The implementation itself ends a connection on which the broker no
///   longer answers or no longer delivers messages.
/// - After the end of a connection or a failed attempt, the implementation connects again.
pub trait Backplane: Send {
    /// Sets the maximum bytes of a payload. Called once, before the other methods, with the longest payload that this server
    /// publishes. If a longer one arrives, the implementation may skip it and return [`BackplaneEvent::TooLong`]. The
    /// default method does nothing.
    fn set_payload_bytes_max(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Connects, writes and reads, without blocking. Returns the next event; `None` if there is no event before a source is
    /// ready or the time of [`next_at`](Self::next_at) has come.
    fn next_event(&mut self, cx: &mut BackplaneContext<'_>) -> Option<BackplaneEvent<'_>>;

    /// Subscribes to a topic. Called only while connected. [`BackplaneEvent::Subscribed`] follows.
    fn subscribe(&mut self, topic: &str);

    /// Ends the subscription to a topic. Called only while connected.
    fn unsubscribe(&mut self, topic: &str);

    /// Appends a publication to the outbox. Called in every state. `payload` is not empty.
    fn publish(&mut self, topic: &str, payload: &[u8]);

    /// Writes queued bytes until the socket accepts no more. An error is reported by the next call of
    /// [`next_event`](Self::next_event), as [`BackplaneEvent::Disconnected`].
    fn flush(&mut self, cx: &mut BackplaneContext<'_>);

    /// Returns the number of bytes of publications that were not completely written.
    fn outbox_bytes(&self) -> usize;

    /// Drops the publications of which no byte was written. Returns their number.
    fn discard_outbox(&mut self) -> u64;

    /// Returns the time at which [`next_event`](Self::next_event) is to be called even without an event of the source.
    fn next_at(&self) -> Option<Instant>;
}

/// An event of the connection to the broker.
#[derive(Debug)]
pub enum BackplaneEvent<'a> {
    /// The connection is established, and the broker has accepted this client. No topic is subscribed yet. The server
    /// subscribes to its topics before it calls [`Backplane::flush`] again.
    Connected,
    /// The broker has confirmed the subscription to a topic: every later publication arrives. Confirmations arrive in the
    /// order of the subscriptions.
    Subscribed {
        /// The topic.
        topic: &'a str,
    },
    /// A publication to a subscribed topic, from this server or another client of the broker.
    Message {
        /// The topic.
        topic: &'a str,
        /// The bytes. The implementation need not check them: the server does.
        payload: &'a [u8],
    },
    /// A publication to a subscribed topic that was skipped because its payload exceeds the maximum of
    /// [`Backplane::set_payload_bytes_max`]. It is from another program, or from a server with a higher maximum.
    TooLong {
        /// The topic.
        topic: &'a str,
        /// The length of the payload.
        bytes: u64,
    },
    /// The broker has processed the oldest publications of this server that were not acknowledged yet. If this server is
    /// subscribed to their topics, they were delivered to it before this event, or are delivered within milliseconds: a stop
    /// relies on it.
    Acknowledged {
        /// Their number.
        publications: u64,
    },
    /// An attempt to connect has failed, or the connection has ended. There may be a gap in each subscribed topic.
    Disconnected {
        /// The reason.
        error: BackplaneError,
        /// Number of publications that were written and not acknowledged. The broker may have delivered them or not.
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
    /// Returns a temporary error: the next attempt may succeed.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_permanent: false,
        }
    }

    /// Returns an error with which every attempt fails until an operator changes something: a wrong password, or a version
    /// of the broker that is too old. A server that has never been connected to the broker stops with this error. Later,
    /// the attempts continue.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_permanent: true,
        }
    }

    /// Returns whether the error is [`permanent`](Self::permanent).
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

/// The parts of the server that a [`Backplane`] uses: the poll, and the time.
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

    /// Returns the readiness that the poll has reported for the registered sources since the last call: a hint, as in mio. A
    /// new source is not ready before its first event. Call this method in every [`Backplane::next_event`]: readiness
    /// that was not read when `next_event` returns `None` is dropped.
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
    /// Maximum time without a connection on which all topics are subscribed. When it is exceeded, the members with
    /// [`LagPolicy::Disconnect`](crate::LagPolicy::Disconnect) are closed with 1013 (in the registry of close codes of RFC
    /// 6455: "try again later"), the outbox is dropped, and
    /// [`Context::is_backplane_away`](crate::Context::is_backplane_away) returns `true`. If the broker returns earlier, the
    /// members are closed when all topics are subscribed again, spread over 5 s. As long as there is no connection after
    /// this time, publications of timers, other threads and HTTP requests outside of a session's message are refused; a
    /// session waits with its message. Default: 5 s, more than a restart of Redis takes. Maximum: 49 days.
    pub grace: Duration,
    /// Maximum bytes of publications that wait to be written to the broker. While more than half of it is in use, or the
    /// broker is not connected, the server stops reading from each session that publishes; it continues when the broker is
    /// connected and at most a quarter is in use. A publication above the maximum is refused and counted: one from a timer
    /// or another thread, or of a session before the server stops reading from it. Such a session is closed with 1013.
    /// Default: 8 MiB. Minimum: the larger of 64 KiB and twice `message_bytes_max`.
    pub outbox_bytes_max: usize,
    /// Maximum bytes of a message that is published. A longer message is refused and counted, and the session whose message
    /// was being processed is closed with 1009. All servers at one broker should use the same value: a longer message from
    /// another server is dropped and counted. Default: 1 MiB, because the broker sends a copy to each server.
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
        if self.message_bytes_max == 0 || self.message_bytes_max > MESSAGE_BYTES_LIMIT {
            return Err(format!(
                "message_bytes_max is {}, and must be from 1 to {MESSAGE_BYTES_LIMIT}",
                self.message_bytes_max
            ));
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
    /// Whether the server is connected to the broker, all topics are subscribed, and the publications that waited for the
    /// connection are acknowledged.
    pub is_whole: bool,
    /// Connections to the broker since the start.
    pub connections: u64,
    /// Connections that have ended. Each is a gap in all topics.
    pub gaps: u64,
    /// Sessions that were closed with 1013 because of a gap, and calls of `Handler::on_gap`.
    pub members_notified: u64,
    /// Messages that were accepted for publication, including those that still wait to be written.
    pub publications: u64,
    /// Batches of these messages: one for each topic and turn, or several if it is longer than 256 KiB. Each is one
    /// publication at the broker.
    pub batches: u64,
    /// Batches that were written to a connection that has ended before the broker acknowledged them.
    pub unacknowledged: u64,
    /// Batches that were dropped because the broker was away for longer than [`BackplaneOptions::grace`], or when the server
    /// stopped.
    pub discarded: u64,
    /// Messages that were refused: longer than [`BackplaneOptions::message_bytes_max`], or above
    /// [`BackplaneOptions::outbox_bytes_max`].
    pub refused: u64,
    /// Valid messages that the broker has delivered, including those of this server.
    pub messages_in: u64,
    /// Publications from the broker that were dropped because they were invalid or too long.
    pub invalid: u64,
    /// Bytes of publications that wait to be written.
    pub outbox_bytes: usize,
    /// Topics that are subscribed at the broker, or have unsent publications.
    pub topics: usize,
    /// Sessions from which the server does not read, because they publish and the outbox is half full or the broker is not
    /// connected.
    pub waiting: usize,
}

/// Maximum of [`BackplaneOptions::message_bytes_max`]: 256 MiB. Redis accepts 512 MiB.
const MESSAGE_BYTES_LIMIT: usize = 256 << 20;

/// Minimum of [`BackplaneOptions::outbox_bytes_max`].
const OUTBOX_BYTES_MIN: usize = 64 * 1024;

/// The owner of the sources that a backplane registers. No handler has this scope.
pub(crate) const OWNER: Owner = Owner {
    key: 0,
    scope: u32::MAX,
    session: None,
};

#[cfg(test)]
mod tests;
