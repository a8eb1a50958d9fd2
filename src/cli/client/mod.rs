//! What `wsloop bench` and `wsloop connect` share: the client's side up to the end of the opening handshake.

mod attempt;
mod random;

pub(super) use attempt::{Attempt, Failure, Progress};
pub(super) use random::{MaskingKeys, nonce};
