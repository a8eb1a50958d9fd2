//! The client's stream and its side of the opening handshake, and random nonces and masking keys: shared by `wsloop bench` and
//! `wsloop connect`.

mod attempt;
mod random;
mod stream;

pub(super) use attempt::{Attempt, Failure, Progress};
pub(super) use random::{MaskingKeys, nonce};
pub(super) use stream::{Address, Stream};
