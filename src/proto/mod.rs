//! The WebSocket protocol (RFC 6455), server and client role, without I/O: there is no socket, clock, log or global
//! variable in this module. Received bytes and limits are arguments; events and the bytes to send are results.
//!
//! - [`Connection`]: the state of one connection up to the end of the closing handshake. In the server role it includes
//!   the opening handshake. In the client role, [`ClientOpening`] does the opening handshake before it.
//! - `opening`: requests and responses of the opening handshake, and their errors.
//! - `frame`: frame headers (section 5.2). `mask`: masking (section 5.3). `receiver` and `assembly`: messages of one
//!   frame or of fragments (sections 5.4 to 5.6). `utf8`: text in pieces (section 8.1). `close`: the body of a Close
//!   frame (sections 5.5.1 and 7.4).
//!
//! Extensions are not supported: none is negotiated, and a frame with a reserved bit fails the connection.

mod assembly;
mod close;
mod connection;
mod error;
mod frame;
mod mask;
mod message;
mod opening;
mod receiver;
mod utf8;

#[cfg(test)]
pub(crate) use utf8::CHECKED_BYTES;

pub use close::{CODE_ABNORMAL, CODE_NONE, CloseFrame, REASON_BYTES_MAX, is_code_allowed};
pub use connection::{Connection, Event, Limits, Stage};
pub use error::ProtocolError;
pub use frame::{HeaderBytes, Role};
pub(crate) use message::ShortHeader;
pub use message::{Message, OwnedMessage, ReceivedMessage, ToMessage};
pub use opening::{
    ClientOpening, ClientOpeningError, Head, HeadError, HeadLimits, HttpResponse, OpeningError,
    Request, RequestError, ResponseError, ServerResponse, Upgrade,
};
pub(crate) use opening::{is_host, is_token};

/// Returns whether `bytes` are UTF-8.
#[cfg(feature = "backplane")]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    utf8::from_utf8(bytes).is_some()
}

/// Functions of private modules, for the micro-benchmarks (`benches/micro.rs`).
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    use super::frame::{Header, Role};
    use super::mask::apply_mask;
    use super::utf8::Utf8Progress;

    /// Decodes and checks the header of a client's frame at the start of `input`. Returns its length in bytes.
    pub fn decode_header(input: &[u8]) -> Option<usize> {
        let header = Header::decode(input, Role::Server, |_, _| Ok(()));
        header.ok().flatten().map(|header| header.len)
    }

    /// Unmasks `payload` in place.
    pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
        apply_mask(payload, mask, 0);
    }

    /// Returns whether `text` is UTF-8. It is checked as one piece of a message, without the fast path for ASCII.
    pub fn check_utf8(text: &[u8]) -> bool {
        Utf8Progress::default()
            .check(text, text.len(), false)
            .is_ok()
    }
}
