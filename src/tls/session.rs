//! What handlers can learn about TLS.

use super::stream::TlsStream;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, SupportedCipherSuite};

/// The TLS connection of a session; see [`Context::tls`](crate::Context::tls).
#[derive(Clone, Copy, Debug)]
pub struct TlsSession<'a> {
    stream: &'a TlsStream,
}

impl<'a> TlsSession<'a> {
    /// Returns `None` before the end of the handshake.
    pub(crate) fn new(stream: &'a TlsStream) -> Option<Self> {
        stream.is_open().then_some(Self { stream })
    }

    /// Returns the version of TLS: 1.2 or 1.3.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.stream.version()
    }

    /// Returns the cipher suite.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.stream.cipher_suite()
    }

    /// Returns the name of the host that the client has asked for (SNI), in lower case. `None` if it has sent none, for
    /// example because it connects to an IP address.
    pub fn server_name(&self) -> Option<&'a str> {
        self.stream.server_name()
    }

    /// Returns whether the session continues an earlier one, with a ticket. A client certificate is then that of the
    /// earlier session.
    pub fn is_resumed(&self) -> bool {
        self.stream.is_resumed()
    }

    /// Returns the certificates that the client has sent, its own first, if the server asks for them. They are verified:
    /// they belong to the client, and an accepted authority has signed them.
    pub fn client_certificates(&self) -> Option<&'a [CertificateDer<'static>]> {
        self.stream.client_certificates()
    }
}
