//! The opening handshake (RFC 6455 sections 1.3, 4.1 and 4.2) in both roles, without I/O: received bytes are arguments,
//! the bytes to send are results. The bytes after the blank line, which belong to the first frames, are left in the
//! input.
//!
//! A server passes received bytes to [`Head::receive_request`], and answers with [`Upgrade`] or [`HttpResponse`]. A
//! client uses [`ClientOpening`].
//!
//! - `head`: collects the bytes of a request or response up to the blank line, and has the limits on them.
//! - `fields`: the grammar of tokens, token lists and the key. `host`: the grammar of a host and port. `extensions`:
//!   the grammar of an extension.
//! - `query`: percent-decoding of a target. `cookies`: the pairs of the `Cookie` field.
//! - `request`: the checks of a request (section 4.2.1). `error`: the errors of these checks, with HTTP statuses.
//! - `upgrade`: the 101 response (section 4.2.2). `response`: all other HTTP responses.
//! - `client`: the client's request, and the checks of the server's response (section 4.1). `client_error`: the errors
//!   of both.
//!
//! tungstenite parses a head (once, when it is complete), encodes heads and derives `Sec-WebSocket-Accept`. This module
//! makes the checks that tungstenite leaves to its caller: line ends, the request line, Host, bodies, token lists,
//! repeated fields, limits.

mod client;
mod client_error;
mod cookies;
mod error;
mod extensions;
mod fields;
mod head;
mod host;
mod query;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod upgrade;

pub use client::{ClientOpening, ServerResponse};
pub use client_error::{ClientOpeningError, RequestError};
pub use error::OpeningError;
pub(crate) use fields::is_token;
pub use head::{Head, HeadError, HeadLimits};
pub(crate) use host::is_host;
pub use request::Request;
pub use response::{HttpResponse, ResponseError};
pub use upgrade::Upgrade;
