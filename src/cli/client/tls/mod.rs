//! TLS of a client: the trusted authorities and the client's certificate from files, and a stream that encrypts.
//!
//! - `client`: what all connections of a command share. `verifier`: which certificates are accepted. `tickets`: resumes
//!   sessions.
//! - `stream`: one connection. `error`: why a connection failed, in words.

mod client;
mod error;
mod stream;
mod tickets;
mod verifier;

pub(in crate::cli) use client::TlsClient;
pub(in crate::cli) use error::TlsError;
pub(super) use stream::TlsStream;
