//! New connections: inserted, or refused with 503 above the limits. Connections that have not sent a request are
//! evicted in favour of new ones.

use super::Engine;
use super::deadlines::{Deadline, Millis};
use super::session::{Ending, Kind, Session, id};
use crate::error::{Error, Limit, Side};
use crate::id::Id;
use crate::proto::HttpResponse;
use crate::stats::Refusal;
use crate::stream::{Stream, Transport};
use std::io::Write;
use std::net::SocketAddr;

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
    /// evicted. If none can be evicted at `connections_max`, or the server is stopping, the new connection is answered
    /// with 503, and remains until the peer has read that answer. Returns `None` if there are [`SURPLUS_MAX`] such
    /// connections already, including those that were evicted in this turn: the new connection then gets the 503 and is
    /// closed at once.
    pub(crate) fn insert(&mut self, mut stream: Stream, peer: Option<SocketAddr>) -> Option<Id> {
        let error = self.admit();
        if let Some(error) = error
            && self.counts.surplus >= SURPLUS_MAX
        {
            self.stats.count_refusal(error.refusal());
            log::debug!(
                "answered a new connection with 503 and closed it: {}; {SURPLUS_MAX} others are being refused",
                error.as_error()
            );
            let mut response = Vec::new();
            error.response().encode(false, &mut response);
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
            self.deadlines
                .set(slot, Deadline::Handshake, self.now as Millis);
        }
        Some(id(slot, self.accepted))
    }

    /// Checks the limits for a new connection, and evicts one without a request if a limit is reached. Returns the
    /// reason to refuse the new connection, or `None` if it is admitted.
    fn admit(&mut self) -> Option<AdmissionError> {
        // In `Stop::Asked`, connections come from the backlog. They were established before the stop begins, and are
        // admitted.
        if self.is_stopping() {
            return Some(AdmissionError::Shutdown);
        }
        // A new connection takes precedence over an old one without a request, which may never send any. Otherwise
        // silent connections, which cost a client nothing, would lock out all others until the handshake timeout.
        if self.counts.requesting >= self.config.handshakes_max {
            self.evict(AdmissionError::HandshakesMax, 0);
        }
        if self.sessions.len() - self.counts.surplus >= self.config.connections_max
            && !self.evict(AdmissionError::ConnectionsMax, EVICTION_AGE_MILLIS_MIN)
        {
            return Some(AdmissionError::ConnectionsMax);
        }
        None
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
        self.end_now(slot, Ending::abnormal(Side::Us, Some(reason.as_error())));
        // The slot and the descriptor are freed at the end of the turn. Until then, the connection must not count
        // against a limit.
        self.set_kind(slot, Kind::Surplus);
        true
    }
}

/// The reason to refuse a new connection, or to end an older one in its favour.
#[derive(Clone, Copy, Debug)]
enum AdmissionError {
    Shutdown,
    HandshakesMax,
    ConnectionsMax,
}

impl AdmissionError {
    fn as_error(self) -> Error {
        match self {
            Self::Shutdown => Error::Shutdown,
            Self::HandshakesMax => Error::Limit(Limit::HandshakesMax),
            Self::ConnectionsMax => Error::Limit(Limit::ConnectionsMax),
        }
    }

    fn refusal(self) -> Refusal {
        match self {
            Self::Shutdown => Refusal::Shutdown,
            Self::HandshakesMax => Refusal::HandshakesMax,
            Self::ConnectionsMax => Refusal::ConnectionsMax,
        }
    }

    fn response(self) -> HttpResponse {
        let body = match self {
            Self::Shutdown => "the server is shutting down\n",
            Self::HandshakesMax | Self::ConnectionsMax => {
                "the server has reached its limit of connections; try again later\n"
            }
        };
        HttpResponse::new(503, body)
    }
}

/// Maximum connections above a limit that remain until the peer has read the 503. Each has a descriptor. 16 is half of
/// the descriptors that the default of `connections_max` leaves unused.
const SURPLUS_MAX: usize = 16;

/// Maximum connections, the oldest first, that are examined to find one to evict.
const EVICTION_CANDIDATES_MAX: usize = 64;

/// Minimum age in milliseconds of a connection without a request for it to be evicted at `connections_max`. A client on
/// a slow link sends its request within a second of connecting.
const EVICTION_AGE_MILLIS_MIN: u32 = 1000;
