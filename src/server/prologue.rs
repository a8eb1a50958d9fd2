//! The prologue of a session: the part of the read phase that precedes HTTP. It consists of the header of the PROXY
//! protocol and the TLS handshake, in this order, as far as the listener demands them.
//!
//! Until the prologue is complete, the session has the phase `Prologue` and extra state, so that the fast paths of the read
//! phase do not apply to it. Sessions of listeners that demand neither execute no instruction for the prologue.
//!
//! A TLS handshake takes as long as hundreds of messages, so a turn continues only a few ([`HANDSHAKE_WORK_PER_TURN`],
//! [`HANDSHAKE_TIME_PER_TURN`]).

use crate::engine::Engine;
#[cfg(feature = "proxy-protocol")]
use crate::engine::session::Unprocessed;
use crate::engine::session::{Ending, Phase};
use crate::error::{Error, Side};
use crate::handler::Handler;
#[cfg(feature = "tls")]
use crate::proto::HttpResponse;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol;
#[cfg(feature = "proxy-protocol")]
use crate::stats::Refusal;
#[cfg(feature = "tls")]
use crate::tls::Failure;
#[cfg(feature = "tls")]
use crate::tls::stream::{HANDSHAKE_WORK, Handshake, HandshakeFailure};
#[cfg(feature = "tls")]
use std::io::ErrorKind;
#[cfg(feature = "proxy-protocol")]
use std::io::Read;
#[cfg(feature = "proxy-protocol")]
use std::mem;
#[cfg(feature = "tls")]
use std::time::Duration;

impl Engine {
    /// Called for a new connection of a listener that demands the header of the PROXY protocol (`is_proxied`), TLS, or
    /// both.
    pub(crate) fn expect_prologue(&mut self, slot: usize, is_proxied: bool) {
        let session = &mut self.sessions[slot];
        session.phase = Phase::Prologue;
        session.extra_mut();
        #[cfg(feature = "tls")]
        if let Some(tls) = session.stream.tls_mut()
            && !is_proxied
        {
            tls.begin(&[]);
        }
        #[cfg(not(feature = "tls"))]
        debug_assert!(is_proxied);
    }

    /// Reads once, and continues the handshake or parses the header. If the header completes the prologue, processes the
    /// input behind it. Returns the number of messages that were processed.
    #[inline(never)]
    pub(super) fn read_prologue(&mut self, slot: usize, handler: &mut impl Handler) -> usize {
        if !self.sessions[slot].is_readable {
            return 0;
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.sessions[slot].stream.tls()
            && !tls.is_before_handshake()
        {
            self.continue_handshake(slot);
            if self.sessions[slot].phase == Phase::Live {
                self.sessions[slot].release_empty_extra();
            }
            return 0;
        }
        #[cfg(feature = "proxy-protocol")]
        self.read_proxy_header(slot);
        if self.sessions[slot].phase != Phase::Live {
            return 0;
        }
        let messages = self.process_unprocessed(slot, handler);
        self.sessions[slot].release_empty_extra();
        messages
    }

    /// Reads once, and continues the TLS handshake. If this turn has spent [`HANDSHAKE_WORK_PER_TURN`] or
    /// [`HANDSHAKE_TIME_PER_TURN`] already, does nothing: the session stays readable, so the caller queues it again.
    #[cfg(feature = "tls")]
    fn continue_handshake(&mut self, slot: usize) {
        if self.handshake_work_left == 0 || self.handshake_time_left.is_zero() {
            return;
        }
        let session = &mut self.sessions[slot];
        let Some(tls) = session.stream.tls_mut() else {
            return;
        };
        let begin = self.timers.elapsed(self.now);
        let result = tls.handshake();
        let taken = self.timers.elapsed(self.now).saturating_sub(begin);
        self.handshake_time_left = self.handshake_time_left.saturating_sub(taken);
        self.handshake_work_left = self.handshake_work_left.saturating_sub(tls.take_work());
        session.is_readable = !tls.is_drained();
        let is_resumed = tls.is_resumed();
        if !tls.has_unsent() {
            session.is_blocked = false;
        } else if !session.is_blocked {
            self.queue_flush(slot);
        }
        let session = &mut self.sessions[slot];
        match result {
            Ok(Handshake::Incomplete) => {}
            Ok(Handshake::Complete) => {
                session.phase = Phase::Live;
                self.stats.tls.handshakes += 1;
                self.stats.tls.resumed += u64::from(is_resumed);
            }
            Err(HandshakeFailure::NotTls { is_http }) => {
                self.stats.tls.count(Failure::NotTls);
                if is_http {
                    let response = HttpResponse::new(
                        400,
                        "this port expects TLS: use https:// or wss:// instead of http:// or ws://\n",
                    );
                    self.refuse(slot, &response, false, Some(Error::NotTls));
                } else {
                    self.end_now(slot, Ending::abnormal(Side::Us, Some(Error::NotTls)));
                }
            }
            Err(HandshakeFailure::Tls(error)) => self.tls_failed(slot, error),
            Err(HandshakeFailure::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(HandshakeFailure::Io(error)) => {
                self.stats.tls.count(Failure::Closed);
                self.stream_failed(slot, error);
            }
            Err(HandshakeFailure::End) => {
                self.stats.tls.count(Failure::Closed);
                self.end_of_input(slot);
            }
        }
    }

    /// Reads once. If the bytes do not begin a header, ends the session.
    #[cfg(feature = "proxy-protocol")]
    fn read_proxy_header(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        let mut buf = [0; READ_BYTES];
        match session.stream.read(&mut buf) {
            Ok(0) => self.end_of_input(slot),
            Ok(len) => {
                session.count_read(len, buf.len());
                self.stats.bytes_in += len as u64;
                self.receive_proxy_header(slot, &buf[..len]);
            }
            Err(error) => self.read_failed(slot, error),
        }
    }

    /// Appends input to the part of the header that has arrived before, and parses the header. When it is complete, sets
    /// the phase to `Live` or begins the TLS handshake, or refuses the session if the client's address has reached a
    /// limit.
    #[cfg(feature = "proxy-protocol")]
    fn receive_proxy_header(&mut self, slot: usize, input: &[u8]) {
        let session = &mut self.sessions[slot];
        let mut bytes = mem::take(&mut session.extra_mut().unprocessed.bytes);
        if bytes.is_empty() {
            bytes = self.buffers.take(input.len());
        }
        bytes.extend_from_slice(input);
        match proxy_protocol::parse(&bytes, self.config.head_bytes_max) {
            Ok(Some(header)) => {
                session.phase = Phase::Live;
                let is_admitted = self.identify_by_proxy_header(slot, header.client);
                #[cfg(feature = "tls")]
                if is_admitted && let Some(tls) = self.sessions[slot].stream.tls_mut() {
                    tls.begin(&bytes[header.len..]);
                    self.buffers.put(bytes);
                    let session = &mut self.sessions[slot];
                    session.phase = Phase::Prologue;
                    // Input behind the header is in `tls` now, and no event reports it.
                    session.is_readable = true;
                    return;
                }
                if is_admitted && header.len < bytes.len() {
                    self.sessions[slot].extra_mut().unprocessed = Unprocessed {
                        bytes,
                        start: header.len,
                    };
                } else {
                    self.buffers.put(bytes);
                }
            }
            Ok(None) => session.extra_mut().unprocessed = Unprocessed { bytes, start: 0 },
            Err(proxy_protocol::InvalidHeader) => {
                self.buffers.put(bytes);
                self.stats.count_refusal(Refusal::ProxyHeader);
                self.end_now(slot, Ending::abnormal(Side::Us, Some(Error::ProxyHeader)));
            }
        }
    }
}

/// Maximum bytes of a read: enough for a header of the PROXY protocol, and usually for the HTTP request behind it.
#[cfg(feature = "proxy-protocol")]
const READ_BYTES: usize = 1024;

/// Maximum cost of the TLS handshakes that one turn continues, expressed in bytes: that of 4 of them, 0.5 ms. While 5 000
/// clients connect at the same time, open sessions wait half as long as with 16 handshakes in a turn, and as many
/// handshakes are completed in a second.
#[cfg(feature = "tls")]
pub(crate) const HANDSHAKE_WORK_PER_TURN: usize = 4 * HANDSHAKE_WORK;

/// Time after which a turn continues no further handshake. One handshake can take milliseconds: with an RSA key of 4096
/// bits (4 ms), or with a long chain of client certificates (7 ms). Not measured if time is simulated.
#[cfg(feature = "tls")]
pub(crate) const HANDSHAKE_TIME_PER_TURN: Duration = Duration::from_millis(4);
