//! TLS for `wsloop connect` and `wsloop bench`.
//!
//! - `client`: the configuration that all connections of a command share, from files
//! - `verifier`: which certificates of servers are accepted
//! - `tickets`: stores sessions to resume
//! - `stream`: one connection
//! - `error`: messages for failures

mod client;
mod error;
mod stream;
mod tickets;
mod verifier;

pub(in crate::cli) use client::TlsClient;
pub(in crate::cli) use error::TlsError;
pub(super) use stream::TlsStream;
