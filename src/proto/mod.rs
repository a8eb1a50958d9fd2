//! RFC 6455 with no socket, no clock, no log, no global: bytes and limits are arguments, events and replies are results.
//! Server and client role.
//!
//! - [`Connection`]: one connection's state, from the first byte of the opening handshake to the last of the
//!   closing one.
//! - `opening`: requests and responses, and what can be wrong with them.
//! - `frame`, `mask`, `receiver`, `assembly`, `utf8`, `close`: sections 5.2, 5.3, 5.4, 5.6, 8.1 and 7.4.

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
pub use message::{Message, ReceivedMessage};
pub use opening::{
    ClientOpening, ClientOpeningError, Head, HeadError, HeadLimits, HttpResponse, OpeningError,
    Request, RequestError, ResponseError, ServerResponse, Upgrade,
};

/// Parts of the core that are measured by themselves (`benches/micro.rs`).
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    use super::frame::{Header, Role};
    use super::mask::apply_mask;
    use super::utf8::Utf8Progress;

    /// Bytes of the client's frame header at the start of `input`, decoded and checked.
    pub fn decode_header(input: &[u8]) -> Option<usize> {
        let header = Header::decode(input, Role::Server, |_, _| Ok(()));
        header.ok().flatten().map(|header| header.len)
    }

    /// Unmasks `payload` in place.
    pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
        apply_mask(payload, mask, 0);
    }

    /// Whether `text` is UTF-8, checked as one piece of a message that is not known to be ASCII.
    pub fn check_utf8(text: &[u8]) -> bool {
        Utf8Progress::default()
            .check(text, text.len(), false)
            .is_ok()
    }
}
