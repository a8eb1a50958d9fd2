//! The admission of new connections: they are inserted, or refused with 503 or 429 above the limits. Connections that
//! have not sent a complete request are evicted in favour of new ones.

use super::Engine;
use super::addresses::{AddressKey, AddressLimit, Addresses, IS_AVAILABLE};
use super::deadlines::{Deadline, Millis};
use super::session::{AddressState, Ending, Kind, Peer, Phase, Session, id};
use crate::config::Config;
use crate::error::{Error, Limit, Side};
use crate::forwarded::client_address;
use crate::id::Id;
use crate::proto::{HttpResponse, Request};
use crate::stats::Refusal;
use crate::stream::{Stream, Transport};
use std::io::Write;
use std::net::SocketAddr;
use tungstenite::http::header::RETRY_AFTER;

/// The options of the listener of a new connection that its admission depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entrance {
    /// A header of the PROXY protocol precedes the request.
    pub(crate) is_proxied: bool,
    /// See [`ListenOptions::internal`](crate::ListenOptions::internal).
    pub(crate) is_internal: bool,
}

impl Engine {
    /// Evicts connections without a request, the oldest first, until there are at most `handshakes_max` or none can be
    /// evicted. Called after the poll of a turn. The poll has reported the requests that have arrived, so that the
    /// connections that the previous turn accepted can be evicted, too, if they have sent none.
    pub(crate) fn evict_excess_handshakes(&mut self) {
        while self.has_excess_handshakes() && self.evict(AdmissionError::HandshakesMax, 0) {}
    }

    /// Returns whether more than `handshakes_max` connections are without a request.
    pub(super) fn has_excess_handshakes(&self) -> bool {
        self.counts.requesting > self.config.handshakes_max
    }

    /// Inserts a new connection. At `handshakes_max` and `connections_max`, the oldest connection without a request is
    /// evicted first. The new connection is refused, with 503 or 429, if none can be evicted at `connections_max`, if
    /// the server is stopping, or if the client's address has reached a limit. A refused connection is inserted, too,
    /// and remains until the peer has read the response. If there are [`SURPLUS_MAX`] such connections already,
    /// including those that were evicted in this turn, the new connection gets the response and is closed at once, and
    /// the result is `None`.
    pub(crate) fn insert(&mut self, stream: Stream, peer: Option<SocketAddr>) -> Option<Id> {
        self.insert_with(stream, peer, Entrance::default())
    }

    /// Inserts a new connection as [`insert`](Self::insert) does, from a listener with these options.
    pub(crate) fn insert_with(
        &mut self,
        mut stream: Stream,
        peer: Option<SocketAddr>,
        entrance: Entrance,
    ) -> Option<Id> {
        let Entrance {
            is_proxied,
            is_internal,
        } = entrance;
        // A connection of an internal listener has the address of its socket and is not counted for it, unless a header
        // of the PROXY protocol names another client.
        let is_proxy = is_proxied || !is_internal && self.is_trusted_proxy(peer.into());
        let has_client = !is_proxy && !is_internal;
        let error = self.admit(has_client.then_some(peer.into()), is_internal);
        if let Some(error) = error
            && self.counts.surplus >= SURPLUS_MAX
        {
            self.stats.count_refusal(error.refusal());
            log::debug!(
                "answered a new connection with {} and closed it: {}; {SURPLUS_MAX} others are being refused",
                error.response().status(),
                error.as_error()
            );
            let mut response = Vec::new();
            error.response().encode(false, &mut response);
            #[cfg(feature = "http-date")]
            super::date::insert(&mut response);
            // Closing a socket with unread input (the request) sends a reset, which can make the peer's system discard
            // the response. Waiting for the peer would require a descriptor.
            let _ = stream.write(&response);
            let _ = stream.shutdown_write();
            return None;
        }
        self.accepted += 1;
        let slot = self
            .sessions
            .insert(Session::new(stream, peer, self.accepted));
        self.counts.requesting += 1;
        if let Some(error) = error {
            self.set_kind(slot, Kind::Surplus);
            self.stats.count_refusal(error.refusal());
            self.refuse(slot, &error.response(), false, Some(error.as_error()));
        } else {
            if is_proxy {
                self.sessions[slot].address_state = AddressState::Awaited;
            } else if has_client {
                self.count_address(slot);
            }
            #[cfg(any(feature = "proxy-protocol", feature = "tls"))]
            if is_proxied || self.sessions[slot].stream.is_tls() {
                self.expect_prologue(slot, is_proxied);
            }
            self.deadlines
                .set(slot, Deadline::Handshake, self.now as Millis);
        }
        Some(id(slot, self.accepted))
    }

    /// Checks the limits for a new connection, and evicts one without a request if a limit of all connections is
    /// reached. `client` is `None` if the client's address is not known yet or not limited. Returns the reason to refuse
    /// the new connection, or `None` if it is admitted.
    fn admit(&mut self, client: Option<Peer>, is_internal: bool) -> Option<AdmissionError> {
        // In the state `Stop::Asked`, `is_stopping` is `false`: the connections in the backlog were established before
        // the stop begins, and are admitted.
        if self.is_stopping() {
            return Some(AdmissionError::Shutdown);
        }
        // First, so that an address above its limits cannot evict the connections of others.
        if let Some(client) = client
            && let Err(error) = self.check_address(client)
        {
            return Some(error);
        }
        // A new connection takes precedence over an old one without a request, which may never send any. Otherwise
        // silent connections, which cost a client nothing, would lock out all others until the handshake timeout.
        if self.counts.requesting >= self.config.handshakes_max {
            self.evict(AdmissionError::HandshakesMax, 0);
        }
        let additional = if is_internal {
            INTERNAL_ADDITIONAL_MAX
        } else {
            0
        };
        let connections_max = self.config.connections_max.saturating_add(additional);
        if self.sessions.len() - self.counts.surplus >= connections_max
            && !self.end_answered()
            && !self.evict(AdmissionError::ConnectionsMax, EVICTION_AGE_MILLIS_MIN)
        {
            return Some(AdmissionError::ConnectionsMax);
        }
        None
    }

    /// Ends the oldest connection whose whole HTTP response was sent and that only waits for the end of the peer's
    /// stream. Only the [`EVICTION_CANDIDATES_MAX`] oldest connections that wait for their peers to close are examined.
    /// Returns whether a connection was ended.
    fn end_answered(&mut self) -> bool {
        let is_answered = |slot: &usize| {
            let session = &self.sessions[*slot];
            session.kind == Kind::Answered && session.phase == Phase::Draining
        };
        let oldest = self.deadlines.slots(Deadline::Close);
        let Some(slot) = oldest.take(EVICTION_CANDIDATES_MAX).find(is_answered) else {
            return false;
        };
        self.end_for_another(slot, None);
        true
    }

    /// Ends the oldest connection that has neither sent a request nor has input to be read, if it is at least `age_min`
    /// milliseconds old. Only the [`EVICTION_CANDIDATES_MAX`] oldest connections without a request are examined. A
    /// connection that was accepted after the last poll is skipped: the poll has not reported yet whether its request
    /// has arrived. Returns whether a connection was ended.
    fn evict(&mut self, reason: AdmissionError, age_min: u32) -> bool {
        let now = self.now as Millis;
        // Unread input may be the request.
        let is_silent = |slot: &usize| {
            let session = &self.sessions[*slot];
            !session.is_read_queued && session.number <= self.accepted_before_poll
        };
        let oldest = self.deadlines.slots(Deadline::Handshake);
        let Some(slot) = oldest.take(EVICTION_CANDIDATES_MAX).find(is_silent) else {
            return false;
        };
        let set_at = self.deadlines.set_at(slot, Deadline::Handshake);
        if set_at.is_none_or(|set_at| now.wrapping_sub(set_at) < age_min) {
            return false;
        }
        self.stats.count_refusal(reason.refusal());
        self.end_for_another(slot, Some(reason.as_error()));
        true
    }

    /// Ends a connection in favour of a new one. The slot and the descriptor are freed at the end of the turn; until
    /// then, the connection does not count against a limit.
    fn end_for_another(&mut self, slot: usize, error: Option<Error>) {
        self.end_now(slot, Ending::abnormal(Side::Us, error));
        self.set_kind(slot, Kind::Surplus);
        self.release_address(slot);
    }

    fn is_trusted_proxy(&self, peer: Peer) -> bool {
        let mut trusted = self.config.trusted_proxies.iter();
        IS_AVAILABLE && trusted.any(|network| network.contains_peer(peer.ip()))
    }

    /// Returns whether the client's address must still be read from the request, because the peer is a trusted proxy.
    pub(crate) fn awaits_address(&self, slot: usize) -> bool {
        IS_AVAILABLE && self.sessions[slot].address_state == AddressState::Awaited
    }

    /// Determines the client's address of a session whose peer is a trusted proxy, from its request. Returns `false` if
    /// that address has reached a limit: the request is then answered with 503 or 429.
    pub(crate) fn identify_by_request(&mut self, slot: usize, request: &Request) -> bool {
        let Config {
            trusted_proxies,
            forwarded_header,
            ..
        } = &self.config;
        let client = client_address(request.headers(), *forwarded_header, trusted_proxies);
        if client.is_some() {
            self.sessions[slot].peer = client.into();
        }
        self.admit_client(slot, request.is_head())
    }

    /// Sets the client's address to `client`, which a header of the PROXY protocol names; `None` leaves the address of
    /// the socket. If that address is a trusted proxy's, the client's address is read from the request later. Returns
    /// `false` if the address has reached a limit, as [`identify_by_request`](Self::identify_by_request) does.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn identify_by_proxy_header(
        &mut self,
        slot: usize,
        client: Option<SocketAddr>,
    ) -> bool {
        if client.is_some() {
            self.sessions[slot].peer = client.into();
        }
        self.is_trusted_proxy(self.sessions[slot].peer) || self.admit_client(slot, false)
    }

    /// Checks the limits of the client's address, which is known now, and counts the connection. Above a limit, the
    /// connection is answered with 503 or 429, and the result is `false`.
    fn admit_client(&mut self, slot: usize, is_head: bool) -> bool {
        let session = &mut self.sessions[slot];
        debug_assert!(session.address_state == AddressState::Awaited);
        session.address_state = AddressState::Uncounted;
        match self.check_address(self.sessions[slot].peer) {
            Ok(()) => {
                self.count_address(slot);
                true
            }
            Err(error) => {
                self.stats.count_refusal(error.refusal());
                self.refuse(slot, &error.response(), is_head, Some(error.as_error()));
                false
            }
        }
    }

    /// Checks the limits of a client's address for one more connection, with its request.
    fn check_address(&mut self, peer: Peer) -> Result<(), AdmissionError> {
        let now = self.now;
        let Some(addresses) = self.addresses() else {
            return Ok(());
        };
        AddressKey::of(peer).map_or(Ok(()), |key| {
            addresses.check(key, now).map_err(|limit| match limit {
                AddressLimit::Connections => AdmissionError::ConnectionsPerAddressMax,
                AddressLimit::Handshakes => AdmissionError::HandshakesPerAddressMax,
            })
        })
    }

    /// Counts a connection for its client's address until [`release_address`](Self::release_address) is called.
    fn count_address(&mut self, slot: usize) {
        let session = &self.sessions[slot];
        debug_assert!(session.address_state != AddressState::Counted);
        let key = AddressKey::of(session.peer);
        if let Some(addresses) = self.addresses()
            && let Some(key) = key
        {
            addresses.add(key);
            self.sessions[slot].address_state = AddressState::Counted;
        }
    }

    /// Stops counting a connection for its client's address, if it is counted.
    pub(super) fn release_address(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        if session.address_state != AddressState::Counted {
            return;
        }
        session.address_state = AddressState::Uncounted;
        let (key, now) = (AddressKey::of(session.peer), self.now);
        if let Some(addresses) = self.addresses()
            && let Some(key) = key
        {
            addresses.remove(key, now);
        }
    }

    /// Returns the tables of connections and requests by address, if one of the limits is set.
    fn addresses(&mut self) -> Option<&mut Addresses> {
        let addresses = self.addresses.as_deref_mut();
        addresses.filter(|_| IS_AVAILABLE)
    }

    /// Returns the number of connections that are counted by address.
    #[cfg(test)]
    pub(crate) fn connections_by_address(&self) -> Option<u64> {
        self.addresses
            .as_ref()
            .map(|addresses| addresses.connections())
    }
}

/// The reason to refuse a new connection, or to end an older one in its favour.
#[derive(Clone, Copy, Debug)]
enum AdmissionError {
    Shutdown,
    HandshakesMax,
    ConnectionsMax,
    ConnectionsPerAddressMax,
    HandshakesPerAddressMax,
}

impl AdmissionError {
    fn as_error(self) -> Error {
        match self {
            Self::Shutdown => Error::Shutdown,
            Self::HandshakesMax => Error::Limit(Limit::HandshakesMax),
            Self::ConnectionsMax => Error::Limit(Limit::ConnectionsMax),
            Self::ConnectionsPerAddressMax => Error::Limit(Limit::ConnectionsPerAddressMax),
            Self::HandshakesPerAddressMax => Error::Limit(Limit::HandshakesPerAddressMax),
        }
    }

    fn refusal(self) -> Refusal {
        match self {
            Self::Shutdown => Refusal::Shutdown,
            Self::HandshakesMax => Refusal::HandshakesMax,
            Self::ConnectionsMax => Refusal::ConnectionsMax,
            Self::ConnectionsPerAddressMax => Refusal::ConnectionsPerAddressMax,
            Self::HandshakesPerAddressMax => Refusal::HandshakesPerAddressMax,
        }
    }

    fn response(self) -> HttpResponse {
        let (status, body) = match self {
            Self::Shutdown => (503, "the server is shutting down\n"),
            Self::HandshakesMax | Self::ConnectionsMax => (
                503,
                "the server has reached its limit of connections; try again later\n",
            ),
            Self::ConnectionsPerAddressMax => {
                (503, "there are too many connections from this address\n")
            }
            Self::HandshakesPerAddressMax => {
                (429, "there are too many requests from this address\n")
            }
        };
        let response = HttpResponse::new(status, body);
        match self {
            Self::HandshakesPerAddressMax => response.and_static(RETRY_AFTER, "1"),
            Self::Shutdown
            | Self::HandshakesMax
            | Self::ConnectionsMax
            | Self::ConnectionsPerAddressMax => response,
        }
    }
}

/// Maximum connections above a limit that remain until the peer has read the answer. Each has a descriptor. 16 is half
/// of the descriptors that the default of `connections_max` leaves unused.
const SURPLUS_MAX: usize = 16;

/// Maximum connections above `connections_max` that internal listeners accept: a scraper, the checks of liveness and
/// readiness, and one more. With [`SURPLUS_MAX`], they leave 12 of the descriptors that the default of `connections_max`
/// leaves unused, for listeners, the poll and standard streams.
const INTERNAL_ADDITIONAL_MAX: usize = 4;

/// Maximum connections, the oldest first, that are examined to find one to evict.
const EVICTION_CANDIDATES_MAX: usize = 64;

/// Minimum age in milliseconds of a connection without a request for it to be evicted at `connections_max`. A client on
/// a slow link sends its request within a second of connecting.
const EVICTION_AGE_MILLIS_MIN: u32 = 1000;
