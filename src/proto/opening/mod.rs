//! The opening handshake (RFC 6455 sections 1.3, 4.1 and 4.2) as bytes in and bytes out, for both roles. It ends
//! where the first frame begins; what arrived after the head is never touched.
//!
//! - `head`: the bytes up to the blank line, each looked at once, shared by requests and responses.
//! - `fields`: token lists, the base64 of a key; `host` and `extensions`: what those may look like.
//! - `request`: section 4.2.1, what a server demands of a request; `error`: what it answers when it is not met.
//! - `upgrade`: section 4.2.2, the 101; `response`: every other answer, which is plain HTTP.
//! - `client`: section 4.1, the request that we send and what we demand of the 101; `client_error`: what is
//!   wrong when it is not met.
//!
//! tungstenite parses (once, when the blank line is there), prints heads and derives `Sec-WebSocket-Accept`.
//! Around it stand the checks that it leaves to its caller: line ends, the request line, Host, bodies, token
//! lists, repeated fields, bounds.

mod client;
mod client_error;
mod error;
mod extensions;
mod fields;
mod head;
mod host;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod upgrade;

pub use client::{ClientOpening, ServerResponse};
pub use client_error::{ClientOpeningError, RequestError};
pub use error::OpeningError;
pub use head::{Head, HeadError, HeadLimits};
pub use request::Request;
pub use response::{HttpResponse, ResponseError};
pub use upgrade::Upgrade;
