//! Tests of TLS without sockets.
//!
//! - `handshakes`, `reloads`: handshakes in memory between a client of rustls and a server with the current configuration
//!   of a [`Tls`]
//! - `files`: certificates and keys that can be read, and errors of others
//! - `record`: the record layer of TLS 1.3

mod files;
mod handshakes;
mod record;
mod reloads;

use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConnection, SignatureScheme,
};
use std::io::{Read, Write};

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
    params: CertificateParams,
}

impl Issued {
    /// Returns a certificate that is its own issuer.
    pub(crate) fn by_itself(params: CertificateParams) -> Self {
        Self::with_key(params, KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(params: CertificateParams, key: KeyPair) -> Self {
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            key,
            params,
        }
    }

    /// Returns a certificate that `issuer` has issued.
    pub(crate) fn by(issuer: &Self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self {
            certificate,
            key,
            params,
        }
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    fn tls(&self) -> Tls {
        Tls::from_pem(self.pem(), self.key_pem()).unwrap()
    }
}

/// Returns the parameters of a certificate for names and addresses.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(&[name]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let names = &mut params.distinguished_name;
    names.push(rcgen::DnType::CommonName, name);
    params
}

fn expired() -> CertificateParams {
    let mut params = params(&["example.org"]);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    params
}

fn not_yet_valid() -> CertificateParams {
    let mut params = params(&["example.org"]);
    params.not_before = rcgen::date_time_ymd(3000, 1, 1);
    params.not_after = rcgen::date_time_ymd(3001, 1, 1);
    params
}

/// A client that accepts every certificate, so that a test can check which certificate the server sends.
struct Client {
    config: ClientConfig,
}

impl Client {
    fn new() -> Self {
        Self::with_versions(rustls::ALL_VERSIONS)
    }

    fn with_versions(versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        Self::build(ring::default_provider(), versions, None)
    }

    fn with_certificate(issued: &Issued) -> Self {
        Self::build(
            ring::default_provider(),
            rustls::ALL_VERSIONS,
            Some((issued.pem(), issued.key_pem())),
        )
    }

    fn build(
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
        certificate: Option<(String, String)>,
    ) -> Self {
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll(provider)));
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { config }
    }

    fn alpn(mut self, protocols: &[&str]) -> Self {
        let bytes = |protocol: &&str| protocol.as_bytes().to_vec();
        self.config.alpn_protocols = protocols.iter().map(bytes).collect();
        self
    }

    fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    /// Performs a handshake and sends a byte in each direction, with which the client also receives a ticket. Returns both
    /// sides.
    fn connect(&self, tls: &Tls, name: &str) -> Result<Connected, Failure> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        let mut server = ServerConnection::new(tls.current()).unwrap();
        client.writer().write_all(b"c").unwrap();
        server.writer().write_all(b"s").unwrap();
        loop {
            let mut is_done = true;
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &*bytes;
            while !rest.is_empty() {
                is_done = false;
                server.read_tls(&mut rest).unwrap();
                if let Err(error) = server.process_new_packets() {
                    let mut alert = Vec::new();
                    server.write_tls(&mut alert).unwrap();
                    client.read_tls(&mut &*alert).unwrap();
                    return Err(Failure {
                        server: Some(error),
                        client: client.process_new_packets().err(),
                    });
                }
            }
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &*bytes;
            while !rest.is_empty() {
                is_done = false;
                client.read_tls(&mut rest).unwrap();
                if let Err(error) = client.process_new_packets() {
                    return Err(Failure {
                        server: None,
                        client: Some(error),
                    });
                }
            }
            if is_done {
                break;
            }
        }
        let mut byte = [0];
        assert!(server.reader().read_exact(&mut byte).is_ok() && byte == *b"c");
        assert!(client.reader().read_exact(&mut byte).is_ok() && byte == *b"s");
        Ok(Connected { client, server })
    }
}

struct Connected {
    client: ClientConnection,
    server: ServerConnection,
}

impl Connected {
    /// Returns whether the server sent the certificate of `issued`.
    fn is_with(&self, issued: &Issued) -> bool {
        self.certificate() == issued.der()
    }

    /// Returns the certificate that the server sent.
    fn certificate(&self) -> &[u8] {
        &self.client.peer_certificates().unwrap()[0]
    }

    fn is_resumed(&self) -> bool {
        self.server.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}

/// The errors of a handshake.
#[derive(Debug)]
struct Failure {
    server: Option<rustls::Error>,
    client: Option<rustls::Error>,
}

/// Accepts every certificate.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// An RSA key in PKCS#8, because ring cannot make one.
const RSA: &str = include_str!("rsa.pem");
