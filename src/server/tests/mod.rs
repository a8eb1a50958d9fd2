//! Unit tests of the turn (one pass of the event loop): the engine with in-memory streams and a clock that the tests set. No
//! sockets, no sleeps.
//!
//! `script` has the streams and the test bench. Three files are regression tests, one for each fault: `findings` (found by the
//! first review and by attack tests), `second_review` (by the second review), and `second_review_low` (its minor faults). The
//! other files are named after their subjects. `simulation` runs random input against a model.

#[cfg(feature = "client-addresses")]
mod addresses;
mod deadlines;
mod faults;
mod findings;
mod pressure;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod publications;
mod replay;
mod scopes;
mod script;
mod second_review;
mod second_review_low;
mod simulation;
mod stats;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_handshake;
#[cfg(feature = "tls")]
mod tls_peer;
#[cfg(feature = "tls")]
mod tls_records;
mod topics;
