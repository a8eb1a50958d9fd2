//! Unit tests of the turn (one pass of the event loop): the engine with in-memory streams and a clock that the tests set. No
//! sockets, no sleeps.
//!
//! `script` has the streams and the test bench. Three files are regression tests, named after the review that found the
//! faults: `findings` (the first), `second_review` (the second), and `second_review_low` (minor faults of the second). The
//! other files are named after their subjects. `simulation` runs random input against a model.

mod deadlines;
mod faults;
mod findings;
mod pressure;
mod script;
mod second_review;
mod second_review_low;
mod simulation;
mod stats;
mod topics;
