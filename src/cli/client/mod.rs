//! The client's side of the opening handshake, and random nonces and masking keys: shared by `wsloop bench` and
//! `wsloop connect`.

mod attempt;
mod random;

pub(super) use attempt::{Attempt, Failure, Progress};
#[cfg(feature = "connect")]
pub(super) use random::MaskingKeys;
pub(super) use random::nonce;
