//! The client's stream and its side of the opening handshake, and random nonces and masking keys: shared by `wsloop bench` and
//! `wsloop connect`.

mod attempt;
mod random;
mod stream;
#[cfg(feature = "tls-client")]
mod tls;

pub(super) use attempt::{Attempt, Failure, Progress};
#[cfg(feature = "connect")]
pub(super) use random::MaskingKeys;
pub(super) use random::nonce;
#[cfg(feature = "tls-client")]
use stream::HandshakeError;
pub(super) use stream::{Address, Handshake, Stream};
#[cfg(feature = "tls-client")]
pub(super) use tls::TlsClient;

/// A binary without TLS has no value of this type.
#[cfg(not(feature = "tls-client"))]
pub(super) enum TlsClient {}

#[cfg(not(feature = "tls-client"))]
impl TlsClient {
    /// Never called: a URL that demands TLS is an invalid argument.
    pub(super) fn new(_: &str, _: &super::args::ClientTls, _: usize) -> Result<Self, String> {
        unreachable!("the scheme wss was refused")
    }

    #[cfg(feature = "bench")]
    pub(super) fn start_resuming(&self) {
        match *self {}
    }
}
