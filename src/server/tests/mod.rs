//! Unit tests of the turn: the engine with in-memory streams and a clock that the tests set. No sockets, no sleeps.
//!
//! `script` has the streams and the test bench. `findings`, `second_review` and `second_review_low` are regression tests; the
//! other files are named after their subjects. `simulation` runs random input against a model.

mod addresses;
mod deadlines;
mod faults;
mod findings;
mod pressure;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod script;
mod second_review;
mod second_review_low;
mod simulation;
mod stats;
mod topics;
