//! One session: a stream, the protocol state of its connection, its unsent output, and its progress toward its end.
//!
//! A session has no access to other sessions, to topics, to timeouts or to the handler. `Engine` has access to all of
//! them, and coordinates them.

use super::limit_sets::LimitSet;
use super::paths::PathKey;
use super::session_list::Link;
use crate::buffer::Buffer;
use crate::error::{Close, Error, Side};
use crate::id::Id;
use crate::outbound::{Outbound, TopicKey};
use crate::proto::{CODE_ABNORMAL, Connection, Stage};
use crate::stream::Stream;
use slab::Slab;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of one connection, from accept to reap. An idle session without [`Extra`] consists of this struct and its
/// link in the deadline queues. It owns no further memory, so that a server can have many idle sessions.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: Stream,
    pub(crate) connection: Connection,
    pub(crate) outbound: Outbound,
    /// State that few sessions have, or that a session has only for a while. `None` until it is needed.
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) messages_in: u64,
    /// Messages queued for the peer: direct messages, and publications that were claimed (appended to the session's
    /// queue). Publications that were skipped later are not included.
    pub(crate) messages_out: u64,
    /// Number of the connection, as in [`Id`].
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// Path of the request, once it has arrived. Stored in `Engine::paths`.
    pub(crate) path: Option<PathKey>,
    /// Time of `on_open`, in seconds of the loop's clock.
    pub(crate) opened_at: u32,
    /// The low 32 bits of the value of `bytes_out` at which the write deadline is postponed.
    pub(crate) progress_at: u32,
    /// Touch period in which the idle deadline was last postponed; see `Engine::touch`.
    pub(crate) touched_at: u32,
    /// The session's limits. Stored in `Engine::limit_sets`.
    pub(crate) limits: LimitSet,
    /// Number that the listener's options give to its connections.
    pub(crate) listener_tag: u8,
    pub(crate) kind: Kind,
    pub(crate) address_state: AddressState,
    pub(crate) phase: Phase,
    pub(crate) input_end: InputEnd,
    /// A hint: a read may return something.
    pub(crate) is_readable: bool,
    /// The stream accepts no bytes until the poll reports that it is writable.
    pub(crate) is_blocked: bool,
    /// The session's queue has exceeded the high-water mark and has not returned to the low-water mark. The stream is
    /// not read meanwhile.
    pub(crate) is_above_high_water: bool,
    /// The handler has paused the session. The stream is not read until the handler resumes it; see
    /// [`Context::pause`](crate::Context::pause).
    pub(crate) is_paused_by_handler: bool,
    /// The session published while more than `UNCLAIMED_BYTES_MAX` published bytes were unclaimed. The stream is not
    /// read until the members of the topics have claimed enough of them.
    /// In a server with a broker also: the session waits for the broker (`SharedTopics::is_blocked`), or for its Close.
    pub(crate) is_deferred: bool,
    /// A stop closes the session when its last messages have come back from the broker. Reading does not resume before that.
    #[cfg(feature = "backplane")]
    pub(crate) awaits_close: bool,
    /// Whether a message of the session was published to a shared topic.
    #[cfg(feature = "backplane")]
    pub(crate) is_publisher: bool,
    /// Publications were claimed before the flush, because a direct message or the end of a membership had to follow
    /// them. The next flush checks the lag limit for them.
    pub(crate) has_unchecked_claims: bool,
    /// The session is queued for the read phase. Entries of unmarked sessions in `Engine::read_queue` are ignored.
    pub(crate) is_read_queued: bool,
    /// The session is queued for the flush phase. Entries of unmarked sessions in `Engine::flush_queue` are ignored.
    pub(crate) is_flush_queued: bool,
}

/// What a connection has become. Selects the count of `Engine` in which the session is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request has not arrived. The connection counts against `handshakes_max`.
    Requesting,
    /// The request was answered in HTTP, or the connection ended before that.
    Answered,
    /// The connection does not count against `connections_max`: it exceeds a limit and is only answered with 503, or it
    /// was evicted.
    Surplus,
    /// The connection is a WebSocket: `on_open` was called, so `on_close` will be called.
    Opened,
    /// A WebSocket that has ended. The end was logged, and `on_error` was called if there was an error. `on_close`
    /// follows.
    Ended,
    /// The session has ended, and this was reported to the handler.
    Reported,
}

/// Whether the connection counts against the limits of its client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressState {
    /// The connection does not count: no limit is set, the peer has no address, or the connection is refused.
    Uncounted,
    /// `Engine::addresses` counts the connection for the address of [`Session::peer`].
    Counted,
    /// [`Session::peer`] is a proxy. The connection will count for the address of the client that the proxy names.
    Awaited,
}

/// Progress of the socket toward its end. `Connection` has the stages of the WebSocket protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The protocol is running.
    Live,
    /// The protocol has ended. Queued bytes are still sent, and input is discarded.
    Finishing,
    /// Everything is sent, and our direction is shut down. Input is read and discarded, because closing a socket with
    /// unread input resets the connection, perhaps before the peer has read our last bytes. After
    /// [`Extra::discard_left`] bytes in `Finishing` and `Draining`, the stream is not read any more, and a deadline
    /// ends the session.
    Draining,
    /// The session has ended and is in the reap queue.
    Dead,
    /// Before `Live`: the header of the PROXY protocol has not arrived completely, or the TLS handshake is not complete.
    /// The bytes of the header are in [`Extra::unprocessed`].
    Prologue,
}

/// What is known about the end of a session's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEnd {
    /// Nothing. A short read means that the stream is empty.
    Unknown,
    /// The poll has reported the end of the stream or urgent data, or the stream is a Unix socket. A short read does
    /// not mean that the stream is empty.
    Announced,
    /// A read has returned the end of the stream.
    Read,
    /// As `Unknown`, for a stream with TLS. A short read does not mean that the stream is empty;
    /// `TlsStream::is_drained` returns whether it is.
    #[cfg(feature = "tls")]
    UnknownInTls,
}

/// State of a session that most sessions do not have; see [`Session::extra`].
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) memberships: Vec<Membership>,
    pub(crate) unprocessed: Unprocessed,
    /// The timers and the event sources that belong to the session.
    pub(crate) first_timer: Link,
    pub(crate) first_source: Link,
    /// Maximum bytes of input that will still be read and discarded after the end of the protocol.
    pub(crate) discard_left: usize,
    /// How the session ends, once that is known.
    pub(crate) ending: Option<Ending>,
}

/// Input that was read and not processed, because the session was paused, deferred or out of budget in the middle of
/// it, or because the header of the PROXY protocol is incomplete.
#[derive(Debug, Default)]
pub(crate) struct Unprocessed {
    pub(crate) bytes: Buffer,
    /// Number of bytes at the start of `bytes` that are processed.
    pub(crate) start: usize,
}

/// A topic that the session is a member of, and the session's index among the topic's members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    pub(crate) topic: TopicKey,
    pub(crate) index: usize,
}

/// How a session ended, or will end.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) is_clean: bool,
    pub(crate) by: Side,
    pub(crate) error: Option<Error>,
}

impl Ending {
    /// Returns an ending without a Close: code 1006, not clean.
    pub(crate) fn abnormal(by: Side, error: Option<Error>) -> Self {
        Self {
            code: CODE_ABNORMAL,
            reason: String::new(),
            is_clean: false,
            by,
            error,
        }
    }

    /// Returns the argument of `on_close`.
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
    /// Returns a session whose request has not arrived.
    pub(crate) fn new(stream: Stream, peer: Option<SocketAddr>, number: u64) -> Self {
        Self {
            input_end: match &stream {
                #[cfg(feature = "tls")]
                Stream::Tls(_) => InputEnd::UnknownInTls,
                _ if stream.is_drained_by_short_read() => InputEnd::Unknown,
                _ => InputEnd::Announced,
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
            progress_at: 0,
            touched_at: 0,
            limits: LimitSet::default(),
            listener_tag: 0,
            kind: Kind::Requesting,
            address_state: AddressState::Uncounted,
            phase: Phase::Live,
            // If input has arrived already, the first poll after the registration reports it. A read before that poll
            // would probably return `WouldBlock`.
            is_readable: false,
            is_blocked: false,
            is_above_high_water: false,
            is_paused_by_handler: false,
            is_deferred: false,
            #[cfg(feature = "backplane")]
            awaits_close: false,
            #[cfg(feature = "backplane")]
            is_publisher: false,
            has_unchecked_claims: false,
            is_read_queued: false,
            is_flush_queued: false,
        }
    }

    /// Returns whether messages can be sent to the session.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Live && self.connection.stage() == Stage::Open
    }

    /// Returns the extra state, which is allocated if the session has none.
    pub(crate) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Releases the extra state if nothing is in it.
    #[cfg(any(feature = "proxy-protocol", feature = "tls"))]
    pub(crate) fn release_empty_extra(&mut self) {
        if let Some(extra) = &self.extra {
            let Extra {
                memberships,
                unprocessed,
                first_timer,
                first_source,
                discard_left,
                ending,
            } = &**extra;
            if memberships.is_empty()
                && unprocessed.bytes.is_empty()
                && (*first_timer, *first_source) == Default::default()
                && *discard_left == 0
                && ending.is_none()
            {
                self.extra = None;
            }
        }
    }

    /// Returns the topics that the session is a member of.
    pub(crate) fn memberships(&self) -> &[Membership] {
        self.extra.as_ref().map_or(&[], |extra| &extra.memberships)
    }

    /// Records how the session ends, unless an ending was recorded before.
    pub(crate) fn end_with(&mut self, ending: Ending) {
        let recorded = &mut self.extra_mut().ending;
        if recorded.is_none() {
            *recorded = Some(ending);
        }
    }

    /// Counts a read that has returned `len` bytes into a buffer of `buf_len`. Returns `false` if the stream is certainly
    /// empty, and all work of the read is known.
    #[inline]
    pub(crate) fn count_read(&mut self, len: usize, buf_len: usize) -> bool {
        self.bytes_in += len as u64;
        // A short read means that the stream is empty, unless more is known.
        let is_known = len < buf_len && self.input_end == InputEnd::Unknown;
        self.is_readable = len == buf_len || !is_known && self.may_have_more();
        !is_known
    }

    /// Returns whether the stream may have more input after a short read.
    #[inline(never)]
    fn may_have_more(&self) -> bool {
        match self.input_end {
            InputEnd::Announced => true,
            InputEnd::Unknown | InputEnd::Read => false,
            #[cfg(feature = "tls")]
            InputEnd::UnknownInTls => self.stream.tls().is_some_and(|tls| !tls.is_drained()),
        }
    }

    /// Counts input that was discarded after the end of the protocol.
    #[inline(never)]
    pub(crate) fn discard(&mut self, len: usize) {
        match self.phase {
            Phase::Finishing | Phase::Draining => {
                let left = &mut self.extra_mut().discard_left;
                *left = left.saturating_sub(len);
            }
            Phase::Prologue | Phase::Live | Phase::Dead => {}
        }
    }

    /// Returns whether the session has input that was read and is not processed yet.
    pub(crate) fn has_unprocessed(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| !extra.unprocessed.bytes.is_empty())
    }

    /// Returns whether messages may be processed: the session is neither above the high-water mark nor paused nor
    /// deferred.
    pub(crate) fn may_process(&self) -> bool {
        !(self.is_above_high_water | self.is_paused_by_handler | self.is_deferred)
    }

    /// Returns whether the session's input is not read for an unknown time.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused_by_handler || self.is_deferred
    }

    /// Returns how the session ended. Records an abnormal ending if none was recorded.
    pub(crate) fn ending_mut(&mut self) -> &mut Ending {
        let ending = &mut self.extra_mut().ending;
        ending.get_or_insert_with(|| Ending::abnormal(Side::Us, None))
    }

    /// Returns whether a frame is being received of whose payload at least [`LONG_BYTES_MIN`] bytes have not arrived.
    pub(crate) fn is_in_long_message(&self) -> bool {
        self.connection.payload_missing() >= LONG_BYTES_MIN && self.phase == Phase::Live
    }

    /// Returns whether the stream should be read.
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
                // See `server::prologue`, which reads the stream itself.
                Phase::Prologue => false,
                Phase::Live => self.may_process() && !self.has_unprocessed(),
                Phase::Finishing | Phase::Draining => self
                    .extra
                    .as_ref()
                    .is_some_and(|extra| extra.discard_left > 0),
                Phase::Dead => false,
            }
    }

    /// Returns whether the read phase has something to read or to process.
    #[inline]
    pub(crate) fn wants_input(&self) -> bool {
        if self.extra.is_none() {
            return self.is_readable && self.phase == Phase::Live && self.may_process();
        }
        let can_process = self.phase == Phase::Live && self.may_process() && self.has_unprocessed();
        let has_prologue = self.phase == Phase::Prologue && self.is_readable;
        can_process || has_prologue || self.may_read()
    }
}

/// The client's address, or its proxy's as long as the client's is not known, in 20 bytes, without the scope and the
/// flow of IPv6. A `SocketAddr` has 32 bytes.
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
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(ip, _) => Some(IpAddr::V4(ip)),
            Self::V6(ip, _) => Some(IpAddr::V6(ip)),
        }
    }

    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(ip, port) => Some(SocketAddr::new(IpAddr::V4(ip), port)),
            Self::V6(ip, port) => Some(SocketAddr::new(IpAddr::V6(ip), port)),
        }
    }
}

/// The address with its port, which is 0 and omitted if a proxy has named only the address.
impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            Some(address) if address.port() == 0 => address.ip().fmt(f),
            Some(address) => address.fmt(f),
            None => f.write_str("a peer without address"),
        }
    }
}

/// Returns the session, unless it has ended.
pub(super) fn living(sessions: &mut Slab<Session>, id: Id) -> Option<&mut Session> {
    sessions
        .get_mut(id.slot as usize)
        .filter(|session| session.number == id.number && session.phase != Phase::Dead)
}

/// Returns the extra state of the session that a timer or source belongs to, if it belongs to one. The timer must be set,
/// or the source registered: their session has not been removed.
pub(crate) fn extra_of(sessions: &mut Slab<Session>, owner: Option<Id>) -> Option<&mut Extra> {
    owner.map(|id| sessions[id.slot as usize].extra_mut())
}

/// Returns the id of the session in `slot`.
pub(crate) fn id(slot: usize, number: u64) -> Id {
    // No system has descriptors for 2^32 sessions.
    Id {
        slot: slot as u32,
        number,
    }
}

/// Minimum missing bytes of a frame's payload for which a session is read after the sessions with shorter messages.
/// Reading fewer bytes takes no longer than processing a receive buffer of short messages.
const LONG_BYTES_MIN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_whose_port_is_not_known_is_shown_without_port() {
        for (text, expected) in [
            ("192.0.2.1:0", "192.0.2.1"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[2001:db8::1]:0", "2001:db8::1"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            let peer = Peer::from(Some(text.parse::<SocketAddr>().unwrap()));
            assert_eq!(peer.to_string(), expected);
        }
    }

    #[test]
    fn a_session_without_its_stream_has_at_most_160_bytes() {
        let session = size_of::<Session>();
        assert!(
            session - size_of::<Stream>() <= 160,
            "{session} bytes, the stream {}",
            size_of::<Stream>()
        );
    }
}
