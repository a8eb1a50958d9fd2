//! Counters of TLS handshakes and failures.

use rustls::Error;

/// Counters of TLS handshakes and failures on all listeners of a server; see [`Stats`](crate::Stats).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsStats {
    /// Number of completed handshakes.
    pub handshakes: u64,
    /// Number of these handshakes that resumed an earlier session with a ticket.
    pub resumed: u64,
    failures: [u64; Failure::NAMES.len()],
}

impl TlsStats {
    /// Returns each reason with its number of failures:
    ///
    /// - `not_tls`: the first byte does not begin TLS
    /// - `incompatible`: no common version, cipher suite or other parameter
    /// - `alpn`: the client offers protocols, but not HTTP/1.1
    /// - `client_certificate`: the client's certificate is missing or not accepted
    /// - `alert`: the client has sent an alert, in the handshake or later, for example because it does not trust the
    ///   server's certificate
    /// - `closed`: the connection has ended before the end of the handshake
    /// - `timeout`: [`Config::handshake_timeout`](crate::Config::handshake_timeout) has passed before the end of the
    ///   handshake
    /// - `invalid`: the client has violated the TLS protocol, in the handshake or later
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::NAMES.into_iter().zip(self.failures)
    }

    pub(crate) fn count(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    pub(crate) fn count_failure(&mut self, error: &Error) {
        self.count(match error {
            Error::PeerIncompatible(_) => Failure::Incompatible,
            Error::NoApplicationProtocol => Failure::Alpn,
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => {
                Failure::ClientCertificate
            }
            Error::AlertReceived(_) => Failure::Alert,
            _ => Failure::Invalid,
        });
    }
}

/// The reason of a failure of TLS. The variants are in the order of [`Failure::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NotTls,
    Incompatible,
    Alpn,
    ClientCertificate,
    Alert,
    Closed,
    Timeout,
    Invalid,
}

impl Failure {
    const NAMES: [&'static str; 8] = [
        "not_tls",
        "incompatible",
        "alpn",
        "client_certificate",
        "alert",
        "closed",
        "timeout",
        "invalid",
    ];
}
