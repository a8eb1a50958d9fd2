//! One session: a stream, its protocol connection, what it owes its peer, and where it is on its way to the end.
//!
//! A session knows nothing of other sessions, topics' members, deadlines or the handler; `engine` does.

use crate::buffer::Buffer;
use crate::handler::{Close, Error, Id, Side};
use crate::outbound::{Outbound, TopicKey};
use crate::proto::{CODE_ABNORMAL, Connection};
use std::any::Any;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a session reads from and writes to: non-blocking, `WouldBlock` when there is nothing to do.
pub(crate) trait Stream: Read + Write {
    /// Tells the peer that nothing more will come; what it sends is still read.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// See the module. The fields are ordered by who uses them, and sized to be many: an idle session is this
/// struct, its link among the deadlines, and nothing on the heap.
#[derive(Debug)]
pub(crate) struct Session<S> {
    pub(super) stream: S,
    pub(super) connection: Connection,
    pub(super) outbound: Outbound,
    /// What few sessions have, or only for a while.
    pub(super) extra: Option<Box<Extra>>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) messages_in: u64,
    /// Without those published to topics that the session is still a member of.
    pub(super) messages_out: u64,
    pub(super) peer: Peer,
    /// The request's path, among the engine's.
    pub(super) path: Option<PathKey>,
    pub(super) generation: u32,
    /// In seconds of the loop's clock: when it was opened.
    pub(super) opened_at: u32,
    /// The low bits of `bytes_out` when the write deadline was set.
    pub(super) stall_mark: u32,
    pub(super) route: u16,
    pub(super) phase: Phase,
    /// Its request is awaited, and counted as such.
    pub(super) is_handshaking: bool,
    /// It is over a limit, taken only to be told so.
    pub(super) is_refusal: bool,
    /// `on_open` was called, so `on_close` is owed.
    pub(super) was_opened: bool,
    /// A hint: a read may give something.
    pub(super) is_readable: bool,
    pub(super) input_end: InputEnd,
    /// The stream takes nothing until it says so.
    pub(super) is_blocked: bool,
    /// Over high water and not yet under low: not read.
    pub(super) is_paused: bool,
    pub(super) is_read_queued: bool,
    pub(super) is_flush_queued: bool,
}

/// A session's way to its end, on the side of the socket. The WebSocket's is in `Connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The protocol goes on.
    Live,
    /// The protocol has ended; what is owed is still sent.
    Finishing,
    /// The write side is shut. What arrives is discarded, so that closing the socket on unread bytes does not
    /// reset the connection and take the last words from the peer; once nothing of the bound is left
    /// ([`Extra::drain_left`]), it is not even read, and the close deadline ends the session.
    Draining,
    /// In the reap queue.
    Dead,
}

/// Where the end of a session's input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// Not in sight.
    Unknown,
    /// The poll has announced it beside data, so a short read is not the last.
    Announced,
    /// It was read.
    Read,
}

/// See [`Session::extra`].
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) memberships: Vec<Membership>,
    pub(super) state: Option<Box<dyn Any + Send>>,
    /// Read but not yet processed, because the session was paused in the middle.
    pub(super) stash: Buffer,
    /// Bytes that may still be discarded, while draining.
    pub(super) drain_left: usize,
    pub(super) ending: Option<Ending>,
}

/// A topic that the session is a member of, and its index among the members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) topic: TopicKey,
    /// The topic's count of messages when the session became a member, and those that it has skipped since.
    pub(super) not_sent: u64,
    pub(super) index: usize,
}

/// Where a path is kept; see `paths`.
pub(super) type PathKey = super::paths::PathKey;

/// How a session ended, as far as it is decided.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) is_clean: bool,
    pub(super) by: Side,
    pub(super) error: Option<Error>,
}

impl Ending {
    /// Without a Close.
    pub(super) fn abnormal(by: Side, error: Option<Error>) -> Self {
        Self {
            code: CODE_ABNORMAL,
            reason: String::new(),
            is_clean: false,
            by,
            error,
        }
    }

    /// What the handler is told.
    pub(super) fn close(&self) -> Close<'_> {
        Close {
            code: self.code,
            reason: &self.reason,
            is_clean: self.is_clean,
            by: self.by,
        }
    }
}

impl<S: Stream> Session<S> {
    /// A session whose request has not arrived.
    pub(super) fn new(stream: S, peer: Option<SocketAddr>, generation: u32) -> Self {
        Self {
            stream,
            connection: Connection::server(),
            outbound: Outbound::default(),
            extra: None,
            bytes_in: 0,
            bytes_out: 0,
            messages_in: 0,
            messages_out: 0,
            peer: peer.into(),
            path: None,
            generation,
            opened_at: 0,
            stall_mark: 0,
            route: 0,
            phase: Phase::Live,
            is_handshaking: true,
            is_refusal: false,
            was_opened: false,
            // The poll tells at the first turn after the registration, so no read is tried in vain.
            is_readable: false,
            input_end: InputEnd::Unknown,
            is_blocked: false,
            is_paused: false,
            is_read_queued: false,
            is_flush_queued: false,
        }
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn memberships(&self) -> &[Membership] {
        self.extra.as_ref().map_or(&[], |extra| &extra.memberships)
    }

    /// A member has skipped so many messages of a topic.
    pub(super) fn skipped(&mut self, topic: TopicKey, messages: u64) {
        let memberships = &mut self.extra_mut().memberships;
        if let Some(membership) = memberships.iter_mut().find(|one| one.topic == topic) {
            membership.not_sent += messages;
        }
    }

    /// Takes note of how the session ends; what was noted first stays.
    pub(super) fn end_with(&mut self, ending: Ending) {
        let noted = &mut self.extra_mut().ending;
        if noted.is_none() {
            *noted = Some(ending);
        }
    }

    /// Whether something was read and not yet processed.
    pub(super) fn has_stash(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| !extra.stash.is_empty())
    }

    /// Whether its stream should be read.
    pub(super) fn may_read(&self) -> bool {
        match self.phase {
            Phase::Live => self.is_readable && !self.is_paused && !self.has_stash(),
            Phase::Finishing => self.is_readable,
            Phase::Draining => {
                let left = self.extra.as_ref().map_or(0, |extra| extra.drain_left);
                self.is_readable && left > 0
            }
            Phase::Dead => false,
        }
    }

    /// Whether a turn has something to read or to process.
    pub(super) fn wants_input(&self) -> bool {
        let has_stash = self.phase == Phase::Live && !self.is_paused && self.has_stash();
        has_stash || self.may_read()
    }
}

/// A peer's address in 20 bytes instead of `SocketAddr`'s 32; an IPv6 scope and flow are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
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
    pub(super) fn address(self) -> Option<SocketAddr> {
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
pub(super) fn id(slot: usize, generation: u32) -> Id {
    // A slab of 2^32 sessions would not fit the descriptors of any system.
    Id {
        slot: slot as u32,
        generation,
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket::Socket;
    use super::*;

    #[test]
    fn a_session_is_small_enough_to_be_many() {
        let stream = size_of::<Socket>();
        let session = size_of::<Session<Socket>>();
        assert!(
            session - stream.next_multiple_of(8) <= 160,
            "{session} bytes, the stream {stream}"
        );
    }
}
