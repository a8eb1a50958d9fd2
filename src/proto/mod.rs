//! RFC 6455 with no socket, no clock, no log, no global: bytes and limits come as arguments, events and owed
//! bytes go back. Server and client role.
//!
//! - [`Connection`]: one connection's state, from the first byte of the opening handshake to the last of the
//!   closing one.
//! - `opening`: requests, responses and what can be wrong with them.
//! - `frame`, `receiver`, `utf8`, `close`: sections 5.2, 5.4, 8.1 and 7.4.

mod close;
mod connection;
mod error;
mod frame;
mod mask;
mod message;
mod opening;
mod receiver;
mod utf8;

pub use close::{CODE_ABNORMAL, CODE_NONE, CloseFrame, REASON_BYTES_MAX, is_code_allowed};
pub use connection::{Connection, Event, Limits, Stage};
pub use error::ProtocolError;
pub use frame::{HeaderBytes, Role};
pub use message::Message;
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
    use super::utf8::Utf8Carry;

    /// Bytes of the client's frame header at the start of `input`, decoded and checked.
    pub fn decode_header(input: &[u8]) -> Option<usize> {
        let header = Header::decode(input, Role::Server, |_, _| Ok(()));
        header.ok().flatten().map(|header| header.len)
    }

    /// Unmasks `payload` in place.
    pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
        apply_mask(payload, mask, 0);
    }

    /// Appends `piece` to `text` as incremental UTF-8; whether it can be.
    pub fn append_utf8(piece: &[u8], text: &mut String) -> bool {
        Utf8Carry::default().append(piece, text).is_ok()
    }
}
