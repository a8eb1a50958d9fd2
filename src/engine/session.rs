//! One session: a stream, its protocol connection, its unsent output, and where it is on its way to the end.
//!
//! A session knows nothing of other sessions, of topics' members, of timeouts or of the handler; `Engine` does.

use super::paths::PathKey;
use crate::buffer::Buffer;
use crate::error::{Close, Error, Side};
use crate::id::Id;
use crate::outbound::{Outbound, TopicKey};
use crate::proto::{CODE_ABNORMAL, Connection, Stage};
use crate::stream::Stream;
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// See the module. There can be many: an idle session is this struct, its link among the deadlines, and nothing on the
/// heap.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
    pub(crate) outbound: Outbound,
    /// What few sessions have, or only for a while.
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) messages_in: u64,
    /// Messages sent, and publications claimed.
    pub(crate) messages_out: u64,
    /// See [`Id`].
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// The request's path, among the engine's.
    pub(crate) path: Option<PathKey>,
    /// When the session was opened, in seconds of the loop's clock.
    pub(crate) opened_at: u32,
    /// The low bits of `bytes_out` when the write deadline was set.
    pub(crate) stall_mark: u32,
    /// When the idle deadline was last postponed; see `Engine::touch`.
    pub(crate) touched_at: u32,
    pub(crate) kind: Kind,
    pub(crate) phase: Phase,
    pub(crate) input_end: InputEnd,
    /// A hint: a read may return something.
    pub(crate) is_readable: bool,
    /// The stream takes nothing until the poll reports that it is writable.
    pub(crate) is_blocked: bool,
    /// Above the high-water mark and not yet below the low one: the session is not read.
    pub(crate) is_paused: bool,
    /// The session published while too much was unclaimed: it is not read until members have caught up.
    pub(crate) is_deferred: bool,
    /// Publications were claimed between two flushes, to be followed by a direct message, and the lag was not checked.
    pub(crate) has_unchecked_claims: bool,
    pub(crate) is_read_queued: bool,
    pub(crate) is_flush_queued: bool,
}

/// What a connection has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its request has not arrived; it counts against `handshakes_max`.
    Requesting,
    /// Its request was answered in HTTP, or it ended before that.
    Answered,
    /// It exceeds a limit, and was accepted only to be answered 503.
    Surplus,
    /// It is a WebSocket: `on_open` was called, so `on_close` will be.
    Opened,
    /// It was a WebSocket and has ended: that was logged, and `on_error` was called if there was an error. `on_close` will be.
    Ended,
    /// It has ended, and nothing more is reported of it.
    Reported,
}

/// A session's way to its end, on the side of the socket. The WebSocket's is in `Connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The protocol goes on.
    Live,
    /// The protocol has ended; what is queued is still sent. Input is discarded.
    Finishing,
    /// Our direction is shut. Input is discarded, so that closing the socket on unread bytes does not reset the connection
    /// before the peer has read our last bytes. Once [`Extra::discard_left`] bytes were discarded, here or while finishing,
    /// the stream is not read any more, and a deadline ends the session.
    Draining,
    /// In the reap queue.
    Dead,
}

/// Where the end of a session's input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// Not in sight.
    Unknown,
    /// A short read does not mean that the stream is empty: the poll has reported the end, or urgent data, beside data.
    Announced,
    /// It was read.
    Read,
}

/// See [`Session::extra`].
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) memberships: Vec<Membership>,
    pub(crate) state: Option<Box<dyn Any + Send>>,
    pub(crate) unprocessed: Unprocessed,
    /// Bytes of input that may still be discarded after the end of the protocol.
    pub(crate) discard_left: usize,
    pub(crate) ending: Option<Ending>,
}

/// Input that was read and not processed, because the session was paused, deferred or out of budget in the middle of it.
#[derive(Debug, Default)]
pub(crate) struct Unprocessed {
    pub(crate) bytes: Buffer,
    /// The first of these bytes are processed.
    pub(crate) start: usize,
}

/// A topic that the session is a member of, and its index among the members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) topic: TopicKey,
    pub(crate) index: usize,
}

/// How a session ended, as far as it is decided.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) is_clean: bool,
    pub(crate) by: Side,
    pub(crate) error: Option<Error>,
}

impl Ending {
    /// Without a Close.
    pub(crate) fn abnormal(by: Side, error: Option<Error>) -> Self {
        Self {
            code: CODE_ABNORMAL,
            reason: String::new(),
            is_clean: false,
            by,
            error,
        }
    }

    /// What the handler is given.
    pub(crate) fn close(&self) -> Close<'_> {
        Close {
            code: self.code,
            reason: &self.reason,
            is_clean: self.is_clean,
            by: self.by,
        }
    }
}

impl Session {
    /// A session whose request has not arrived.
    pub(crate) fn new(stream: Stream, peer: Option<SocketAddr>, number: u64) -> Self {
        Self {
            input_end: if stream.is_drained_by_short_read() {
                InputEnd::Unknown
            } else {
                InputEnd::Announced
            },
            stream,
            connection: Connection::server(),
            outbound: Outbound::default(),
            extra: None,
            bytes_in: 0,
            bytes_out: 0,
            messages_in: 0,
            messages_out: 0,
            number,
            peer: peer.into(),
            path: None,
            opened_at: 0,
            stall_mark: 0,
            touched_at: 0,
            kind: Kind::Requesting,
            phase: Phase::Live,
            // The poll reports it at the first turn after the registration, so no read is tried in vain.
            is_readable: false,
            is_blocked: false,
            is_paused: false,
            is_deferred: false,
            has_unchecked_claims: false,
            is_read_queued: false,
            is_flush_queued: false,
        }
    }

    /// Whether messages can be sent to it.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Live && self.connection.stage() == Stage::Open
    }

    pub(crate) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn memberships(&self) -> &[Membership] {
        self.extra.as_ref().map_or(&[], |extra| &extra.memberships)
    }

    /// Records how the session ends, unless that was recorded before.
    pub(crate) fn end_with(&mut self, ending: Ending) {
        let recorded = &mut self.extra_mut().ending;
        if recorded.is_none() {
            *recorded = Some(ending);
        }
    }

    /// Counts a read that has returned `len` bytes, when it was offered `room`. Returns whether another one may return
    /// something.
    #[inline]
    pub(crate) fn count_read(&mut self, len: usize, room: usize) -> bool {
        self.bytes_in += len as u64;
        // A short read means that the stream is empty, unless its end is known to follow.
        self.is_readable = len == room || self.input_end == InputEnd::Announced;
        self.is_readable
    }

    /// Counts input that was discarded after the end of the protocol.
    #[inline(never)]
    pub(crate) fn discard(&mut self, len: usize) {
        match self.phase {
            Phase::Finishing | Phase::Draining => {
                let left = &mut self.extra_mut().discard_left;
                *left = left.saturating_sub(len);
            }
            Phase::Live | Phase::Dead => {}
        }
    }

    /// Whether something was read and not yet processed.
    pub(crate) fn has_unprocessed(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| !extra.unprocessed.bytes.is_empty())
    }

    /// Whether its messages may be processed now.
    pub(crate) fn may_process(&self) -> bool {
        !(self.is_paused | self.is_deferred)
    }

    /// How the session ended; abnormal if that was not recorded.
    pub(crate) fn ending_mut(&mut self) -> &mut Ending {
        let ending = &mut self.extra_mut().ending;
        ending.get_or_insert_with(|| Ending::abnormal(Side::Us, None))
    }

    /// Whether the rest of a frame that is to be read is long.
    pub(crate) fn is_in_long_message(&self) -> bool {
        self.connection.payload_missing() >= LONG_BYTES_MIN && self.phase == Phase::Live
    }

    /// Whether its stream should be read.
    #[inline]
    pub(crate) fn may_read(&self) -> bool {
        if !self.is_readable {
            return false;
        }
        if self.extra.is_none() {
            return self.phase == Phase::Live && self.may_process();
        }
        self.is_readable
            && match self.phase {
                Phase::Live => self.may_process() && !self.has_unprocessed(),
                Phase::Finishing | Phase::Draining => self
                    .extra
                    .as_ref()
                    .is_some_and(|extra| extra.discard_left > 0),
                Phase::Dead => false,
            }
    }

    /// Whether a turn has something to read or to process.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        if self.extra.is_none() {
            return self.is_readable && self.phase == Phase::Live && self.may_process();
        }
        let can_process = self.phase == Phase::Live && self.may_process() && self.has_unprocessed();
        can_process || self.may_read()
    }
}

/// A peer's address in 20 bytes instead of `SocketAddr`'s 32, without IPv6 scope and flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Unknown,
    V4(Ipv4Addr, u16),
    V6(Ipv6Addr, u16),
}

impl From<Option<SocketAddr>> for Peer {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::Unknown,
            Some(SocketAddr::V4(address)) => Self::V4(*address.ip(), address.port()),
            Some(SocketAddr::V6(address)) => Self::V6(*address.ip(), address.port()),
        }
    }
}

impl Peer {
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(ip, port) => Some(SocketAddr::new(IpAddr::V4(ip), port)),
            Self::V6(ip, port) => Some(SocketAddr::new(IpAddr::V6(ip), port)),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => f.write_str("a peer without address"),
        }
    }
}

/// The name of the session in `slot`.
pub(crate) fn id(slot: usize, number: u64) -> Id {
    // No system has descriptors for 2^32 sessions.
    Id {
        slot: slot as u32,
        number,
    }
}

/// Minimum bytes that are missing of a frame for the session to be read after those with shorter messages: less than a
/// receive buffer takes about as long as many short messages.
const LONG_BYTES_MIN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small_enough_to_be_many() {
        let session = size_of::<Session>();
        assert!(
            session - size_of::<Stream>() <= 160,
            "{session} bytes, the stream {}",
            size_of::<Stream>()
        );
    }
}
