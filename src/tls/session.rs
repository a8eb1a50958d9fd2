//! The facts about a session's TLS connection that handlers can read.

use super::stream::TlsStream;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, SupportedCipherSuite};

/// The TLS connection of a session; see [`Context::tls`](crate::Context::tls).
#[derive(Clone, Copy, Debug)]
pub struct TlsSession<'a> {
    stream: &'a TlsStream,
}

impl<'a> TlsSession<'a> {
    /// Returns `None` before the end of the handshake, and after TLS has failed.
    pub(crate) fn new(stream: &'a TlsStream) -> Option<Self> {
        stream.is_open().then_some(Self { stream })
    }

    /// Returns the version of TLS: 1.2 or 1.3. It is known for each session that a handler sees.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.stream.version()
    }

    /// Returns the cipher suite. It is known for each session that a handler sees.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.stream.cipher_suite()
    }

    /// Returns the host name that the client has sent (SNI), in lower case. `None` if the client has sent no name, for
    /// example because it connects to an IP address.
    pub fn server_name(&self) -> Option<&'a str> {
        self.stream.server_name()
    }

    /// Returns whether the client has resumed an earlier session with a ticket. The client's certificate is then that of the
    /// earlier session, and was not checked again: it can have expired since.
    pub fn is_resumed(&self) -> bool {
        self.stream.is_resumed()
    }

    /// Returns the client's certificates, its own first and then those of its issuers. `None` if the server does not ask
    /// for them, or the client has sent none. The handshake has verified that the client has the private key, and that a CA
    /// of [`TlsBuilder::client_ca_file`](crate::TlsBuilder::client_ca_file) has issued its certificate.
    pub fn client_certificates(&self) -> Option<&'a [CertificateDer<'static>]> {
        self.stream.client_certificates()
    }
}
