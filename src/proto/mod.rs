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
