//! The part of the read phase that precedes the WebSocket protocol: the header of the PROXY protocol.
//!
//! Until the header is complete, the session has the phase `Prologue` and extra state, so that the fast paths of the
//! read phase do not apply to it. Sessions of listeners that do not demand the header execute no instruction for it.

use crate::engine::Engine;
use crate::engine::session::{Ending, Phase, Unprocessed};
use crate::error::{Error, Side};
use crate::handler::Handler;
use crate::proxy_protocol;
use crate::stats::Refusal;
use std::io::Read;
use std::mem;

impl Engine {
    /// Called for a new connection of a listener that demands the header.
    pub(crate) fn expect_proxy_header(&mut self, slot: usize) {
        let session = &mut self.sessions[slot];
        session.phase = Phase::Prologue;
        session.extra_mut();
    }

    /// Reads once. If the header is complete afterwards, sets the phase to `Live` and processes the input after the
    /// header. If the bytes do not begin a header, ends the session. Returns the number of messages that were
    /// processed.
    #[inline(never)]
    pub(super) fn read_prologue(&mut self, slot: usize, handler: &mut impl Handler) -> usize {
        let session = &mut self.sessions[slot];
        let mut buf = [0; READ_BYTES];
        if !session.is_readable {
            return 0;
        }
        match session.stream.read(&mut buf) {
            Ok(0) => self.end_of_input(slot),
            Ok(len) => {
                session.count_read(len, buf.len());
                self.stats.bytes_in += len as u64;
                self.receive_proxy_header(slot, &buf[..len]);
            }
            Err(error) => self.read_failed(slot, error),
        }
        if self.sessions[slot].phase != Phase::Live {
            return 0;
        }
        let messages = self.process_unprocessed(slot, handler);
        self.sessions[slot].release_empty_extra();
        messages
    }

    /// Appends input to the part of the header that has arrived before, and parses it. When the header is complete,
    /// sets the phase to `Live`, or refuses the session if its client's address has reached a limit.
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

/// Maximum bytes of a read: enough for a header, and usually for the request.
const READ_BYTES: usize = 1024;
