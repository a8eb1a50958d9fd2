//! [`TlsBuilder`]: certificates and settings from which a configuration of rustls is made.

use super::Tls;
use super::certificates::{Pair, Pem, TlsCertificate};
use super::client_tickets::ClientTickets;
use super::error::{TlsError, TlsErrorKind};
use super::resolver::Resolver;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// Collects certificates and settings for a [`Tls`]; see [`Tls::builder`].
///
/// The DNS names in the certificates select the one for a client, by the host name that it sends (SNI). `*.example.org`
/// stands for one label: it selects for `a.example.org`, but neither for `example.org` nor for `a.b.example.org`. An exact
/// name takes precedence over a wildcard. Of several certificates for a name, the first whose key has a type that the client
/// supports is used, so a server can have an ECDSA and an RSA certificate for the same names. The first certificate is the
/// default: for clients that send no name, such as those that connect to an IP address, or an unknown one.
///
/// The versions are TLS 1.2 and 1.3. ALPN is `http/1.1`: a client that offers only other protocols, such as `h2`, is refused
/// with an alert, and a client without ALPN is accepted. Clients can resume sessions with a ticket, which they get in each
/// handshake and may store for 12 h. The server stores no sessions. There is no early data (0-RTT), because an attacker can
/// replay it.
///
/// ```no_run
/// use wsloop::{ClientCertificates, Tls};
///
/// # fn main() -> std::io::Result<()> {
/// let tls = Tls::builder()
///     .certificate_files("/etc/tls/example.org.pem", "/etc/tls/example.org.key")
///     .certificate_files("/etc/tls/example.com.pem", "/etc/tls/example.com.key")
///     .client_ca_file("/etc/tls/devices-ca.pem", ClientCertificates::Required)
///     .tls13_only()
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TlsBuilder {
    pairs: Vec<Pair>,
    clients: Option<(Pem, ClientCertificates)>,
    is_13_only: bool,
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// A client without a certificate is refused in the handshake.
    Required,
    /// A client can have none. One with an invalid certificate is refused in the handshake.
    Optional,
}

impl TlsBuilder {
    /// Adds a certificate with its private key, from PEM files that [`Tls::reload`] reads again.
    ///
    /// The first file has the certificate, and then those of its issuers (`fullchain.pem` of certbot). The second has
    /// the private key: PKCS#8, PKCS#1 or SEC1, not encrypted; RSA with 2048 to 4096 bits, ECDSA P-256 or P-384, or
    /// Ed25519. Both can be the same file.
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let certificate = Pem::File(certificate.into());
        let key = Pem::File(key.into());
        self.pairs.push(Pair { certificate, key });
        self
    }

    /// Adds a certificate with its private key, from PEM in memory, as
    /// [`certificate_files`](Self::certificate_files) does from files.
    pub fn certificate_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let number = self.pairs.len() + 1;
        let pem = |what: &str, bytes: &[u8]| Pem::Memory {
            name: format!("the PEM of {what} {number}"),
            bytes: bytes.into(),
        };
        self.pairs.push(Pair {
            certificate: pem("certificate", certificate.as_ref()),
            key: pem("key", key.as_ref()),
        });
        self
    }

    /// Asks clients for a certificate that one of the CAs in a PEM file has issued, directly or through intermediates
    /// that the client sends. Replaces CAs from an earlier call. [`Tls::reload`] reads the file again.
    ///
    /// A client's certificate is checked in full handshakes only. A client that resumes a session sends no certificate, and
    /// gets a new ticket: if it reconnects within the lifetime of its ticket, it is accepted after its certificate has
    /// expired. A reload with other CAs makes all tickets invalid. Revocation lists are not supported; for these, pass a
    /// configuration of rustls to [`Tls::from_config`].
    pub fn client_ca_file(mut self, path: impl Into<PathBuf>, need: ClientCertificates) -> Self {
        self.clients = Some((Pem::File(path.into()), need));
        self
    }

    /// Asks clients for a certificate of the CAs in PEM, as [`client_ca_file`](Self::client_ca_file) does from a file.
    pub fn client_ca_pem(mut self, pem: impl AsRef<[u8]>, need: ClientCertificates) -> Self {
        let name = "the PEM of the client CA".to_owned();
        let bytes = pem.as_ref().into();
        self.clients = Some((Pem::Memory { name, bytes }, need));
        self
    }

    /// Refuses TLS 1.2. The default is 1.2 and 1.3; older versions are not supported.
    pub fn tls13_only(mut self) -> Self {
        self.is_13_only = true;
        self
    }

    /// Reads the files and checks the certificates and settings. A certificate that has expired or is not valid yet is
    /// accepted, as nginx and HAProxy do, so that a server with a wrong clock starts, too. To detect such a certificate, call
    /// [`TlsCertificate::is_valid_now`] on each of [`Tls::certificates`].
    ///
    /// # Errors
    /// No certificate was added, a file cannot be read or used, or a key does not belong to its certificate. The message
    /// names the file.
    pub fn build(self) -> Result<Tls, TlsError> {
        let loaded = self.load(None)?;
        Ok(Tls::from_loaded(self, loaded))
    }

    /// Returns the file or the PEM in memory of a certificate.
    pub(super) fn place(&self, index: usize) -> &Pem {
        &self.pairs[index].certificate
    }

    /// Checks that [`load`](Self::load) cannot wait for another process: a server that reloads its files serves no client
    /// meanwhile.
    pub(super) fn check_load_does_not_wait(&self) -> Result<(), TlsError> {
        let pairs = self.pairs.iter();
        let files = pairs.flat_map(|pair| [&pair.certificate, &pair.key]);
        let clients = self.clients.iter().map(|(pem, _)| pem);
        files
            .chain(clients)
            .try_for_each(Pem::check_read_does_not_wait)
    }

    /// Builds the configuration. Retains the ticket keys of `previous` if the CAs of client certificates are the same, and
    /// certificates are required as before. Otherwise a client that is no longer accepted could resume its session.
    pub(super) fn load(&self, previous: Option<&Tickets>) -> Result<Loaded, TlsError> {
        if self.pairs.is_empty() {
            return Err(TlsError::of(TlsErrorKind::NoPairs));
        }
        let rustls = |error| TlsError::of(TlsErrorKind::Rustls(error));
        let provider = Arc::new(default_provider());
        let versions: &[_] = if self.is_13_only {
            &[&TLS13]
        } else {
            &[&TLS13, &TLS12]
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(rustls)?;
        let mut certificates = Vec::new();
        let mut keys = Vec::new();
        for pair in &self.pairs {
            let (key, certificate) = pair.load(&provider)?;
            keys.push((Arc::new(key), certificate.dns_names().to_vec()));
            certificates.push(certificate);
        }
        let (builder, clients) = match &self.clients {
            None => (builder.with_no_client_auth(), None),
            Some((pem, need)) => {
                let authorities = pem.certificates()?;
                let invalid = |_| TlsError::at(pem, TlsErrorKind::InvalidCertificate);
                let mut roots = RootCertStore::empty();
                for authority in &authorities {
                    roots.add(authority.clone()).map_err(invalid)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match need {
                    ClientCertificates::Required => verifier.build(),
                    ClientCertificates::Optional => verifier.allow_unauthenticated().build(),
                };
                let general = |error: rustls::server::VerifierBuilderError| {
                    rustls(rustls::Error::General(error.to_string()))
                };
                let builder = builder.with_client_cert_verifier(verifier.map_err(general)?);
                (builder, Some((authorities, *need)))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(keys)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets are stateless. Browsers and libraries use one connection for a WebSocket, so a second ticket would be
        // unused. A ticket has about 200 bytes, and the client's certificate in addition.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let tickets = match previous {
            Some(previous) if previous.clients == clients => previous.clone(),
            Some(_) | None => {
                let mut producer = Ticketer::new().map_err(rustls)?;
                if clients.is_some() {
                    producer = Arc::new(ClientTickets::new(producer));
                }
                Tickets { producer, clients }
            }
        };
        config.ticketer = Arc::clone(&tickets.producer);
        Ok(Loaded {
            config,
            certificates: certificates.into(),
            tickets,
        })
    }
}

/// A configuration of rustls, with the certificates and the ticket keys in it.
pub(super) struct Loaded {
    pub(super) config: ServerConfig,
    pub(super) certificates: Arc<[TlsCertificate]>,
    pub(super) tickets: Tickets,
}

/// The keys of tickets, and the clients for which they are used. If other clients are accepted, the keys are replaced.
#[derive(Clone)]
pub(super) struct Tickets {
    producer: Arc<dyn ProducesTickets>,
    /// The CAs of client certificates, and whether a certificate is required.
    clients: Option<(Vec<CertificateDer<'static>>, ClientCertificates)>,
}
