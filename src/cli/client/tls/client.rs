//! The configuration that all connections of a command share.

use super::tickets::Tickets;
use super::verifier::{AnyCertificate, GivenAuthorities};
use crate::cli::args::ClientTls;
use crate::cli::stderr;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Creates the TLS connections to one server.
#[derive(Debug)]
pub(in crate::cli) struct TlsClient {
    config: Arc<ClientConfig>,
    identity: Arc<ClientIdentity>,
    /// `None` if no session is resumed.
    #[cfg_attr(
        not(feature = "bench"),
        expect(dead_code, reason = "only a load resumes sessions")
    )]
    tickets: Option<Arc<Tickets>>,
    name: ServerName<'static>,
}

/// The certificate of the client, if it has one.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    certified: Option<Arc<CertifiedKey>>,
    /// Whether a server has asked for a certificate.
    is_wanted: AtomicBool,
}

/// Whether a server has asked for a client certificate, and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Asked {
    /// The server has not asked.
    No,
    /// The server has asked, and the client has no certificate.
    Missing,
    /// The server has asked, and the client has sent its certificate.
    Shown,
}

impl TlsClient {
    /// Reads the files. `name` is the host name or IP address that the server's certificate must have. Prints a warning
    /// if every certificate is accepted. At most `tickets_max` sessions are stored, for connections that begin after
    /// [`start_resuming`](Self::start_resuming). 0: no session is resumed.
    ///
    /// # Errors
    /// A file cannot be used. The message has one line, and names the file and the reason.
    pub(in crate::cli) fn new(
        name: &str,
        settings: &ClientTls,
        tickets_max: usize,
    ) -> Result<Self, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("the host {name:?} cannot be the name of a certificate"))?;
        let provider = Arc::new(ring::default_provider());
        let identity = Arc::new(ClientIdentity::read(settings, &provider)?);
        let verifier = verifier(settings, &provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::<ClientIdentity>::clone(&identity));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tickets = (tickets_max > 0).then(|| Arc::new(Tickets::new(tickets_max)));
        config.resumption = match &tickets {
            None => Resumption::disabled(),
            Some(tickets) => Resumption::store(Arc::<Tickets>::clone(tickets)),
        };
        Ok(Self {
            config: Arc::new(config),
            identity,
            tickets,
            name,
        })
    }

    /// Lets connections that are created from now on resume the sessions of earlier connections.
    #[cfg(feature = "bench")]
    pub(in crate::cli) fn start_resuming(&self) {
        if let Some(tickets) = &self.tickets {
            tickets.start_resuming();
        }
    }

    /// Returns a new connection, and the identity that it sends if the server asks for one.
    pub(super) fn connection(
        &self,
    ) -> Result<(ClientConnection, Arc<ClientIdentity>), rustls::Error> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        Ok((connection, Arc::clone(&self.identity)))
    }
}

fn verifier(
    settings: &ClientTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if settings.is_insecure {
        stderr::print("wsloop: --insecure: every certificate is accepted\n");
        return Ok(Arc::new(AnyCertificate::new(provider)));
    }
    let given = match &settings.ca {
        Some(file) => certificates("--ca", file)?,
        None => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca {
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|error| {
                format!("--ca {file:?} contains a certificate that cannot be used: {error}")
            })?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let reason = system.errors.first();
            let reason = reason.map_or(String::new(), |error| format!(" ({error})"));
            return Err(format!(
                "the system has no certificates of authorities{reason}; use --ca FILE or --insecure"
            ));
        }
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(GivenAuthorities::new(verifier, given)))
}

impl ClientIdentity {
    /// Reads `--cert` and `--key`.
    fn read(settings: &ClientTls, provider: &CryptoProvider) -> Result<Self, String> {
        let certified = match &settings.cert {
            Some(cert) => Some(certified_key(cert, settings.key.as_deref(), provider)?),
            None => None,
        };
        Ok(Self {
            certified: certified.map(Arc::new),
            is_wanted: AtomicBool::new(false),
        })
    }

    pub(super) fn asked(&self) -> Asked {
        match (self.is_wanted.load(Ordering::Relaxed), &self.certified) {
            (false, _) => Asked::No,
            (true, None) => Asked::Missing,
            (true, Some(_)) => Asked::Shown,
        }
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.is_wanted.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

/// Reads a certificate and its key. `key_file` is `None` if `cert_file` contains both.
fn certified_key(
    cert_file: &str,
    key_file: Option<&str>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain = certificates("--cert", cert_file)?;
    let (flag, file) = match key_file {
        Some(file) => ("--key", file),
        None => ("--cert", cert_file),
    };
    let text = read(flag, file)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = text.windows(17).any(|part| part == b"BEGIN ENCRYPTED P");
        let hint = match (key_file, is_encrypted) {
            (_, true) => "; it is encrypted: decrypt it with `openssl pkey`",
            (None, false) => "; add --key FILE",
            (Some(_), false) => "",
        };
        format!(
            "{flag} {file:?} contains no private key in PEM format{}{hint}",
            detail(&error)
        )
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{flag} {file:?} is not the key of --cert {cert_file:?}")
        }
        error => format!("{flag} {file:?} contains a key that cannot be used: {error}"),
    })
}

/// Reads the certificates of a PEM file; at least one.
fn certificates(flag: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(flag, file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!(
            "{flag} {file:?} contains no certificate in PEM format"
        )),
        Err(error) => Err(format!(
            "{flag} {file:?} contains no certificate in PEM format{}",
            detail(&error)
        )),
    }
}

/// Returns the details of an error in a PEM file, in parentheses. Empty if there are none.
fn detail(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => String::new(),
        error => format!(" ({error})"),
    }
}

fn read(flag: &str, file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("cannot read {flag} {file:?}: {error}"))
}
