//! The errors of certificates, keys and settings of TLS.

use super::certificates::TlsCertificate;
use std::fmt;
use std::io;

/// An error of certificates or settings that [`Tls`](crate::Tls) cannot use. The message names the file, what is wrong with
/// it, and what to do.
#[derive(Debug)]
pub struct TlsError {
    /// The file or the PEM in memory, as text. Empty if the error is about neither.
    place: String,
    kind: TlsErrorKind,
}

/// What is wrong: see [`TlsError::kind`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// A file cannot be read.
    Read(io::Error),
    /// A file is larger than 1 MiB.
    TooLarge,
    /// The data is DER or PKCS#12 and not PEM.
    Binary,
    /// The PEM is malformed, or ends within a section: perhaps the file was being written.
    InvalidPem,
    /// The PEM has no certificate.
    NoCertificate,
    /// The PEM has no private key.
    NoPrivateKey,
    /// The private key is encrypted with a password.
    EncryptedKey,
    /// The private key is malformed, or of a type that is not supported.
    UnsupportedKey,
    /// A certificate is malformed, or is not of version 3 of X.509.
    InvalidCertificate,
    /// The private key does not belong to the certificate: perhaps only one of the two files has been renewed yet. The
    /// string names the file of the certificate.
    KeyMismatch(String),
    /// The private key belongs to a certificate that is not the first of the chain. The number is its position, counted
    /// from 1.
    ChainOrder(usize),
    /// On a reload: this certificate has expired or is not valid yet, and the one that it would replace is valid.
    NotValidNow(TlsCertificate),
    /// The builder has no certificate.
    NoPairs,
    /// [`Tls::reload`](crate::Tls::reload) was called while the configuration is one of rustls, which has no files.
    NotReloadable,
    /// rustls rejects the settings.
    Rustls(rustls::Error),
}

impl TlsError {
    /// Returns an error about a file or a PEM in memory.
    pub(super) fn at(place: &impl ToString, kind: TlsErrorKind) -> Self {
        let place = place.to_string();
        Self { place, kind }
    }

    /// Returns an error that is about no file.
    pub(super) fn of(kind: TlsErrorKind) -> Self {
        let place = String::new();
        Self { place, kind }
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> &TlsErrorKind {
        &self.kind
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match &self.kind {
            TlsErrorKind::Read(error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "{place} cannot be read: {error}; give the server's user read access to it and to its directories"
            ),
            TlsErrorKind::Read(error) => write!(f, "{place} cannot be read: {error}"),
            TlsErrorKind::TooLarge => {
                write!(
                    f,
                    "{place} is larger than 1 MiB, which no certificate or key is"
                )
            }
            TlsErrorKind::Binary => write!(
                f,
                "{place} is DER or PKCS#12 and not PEM; convert it, for example with `openssl x509 -inform der`, `openssl pkey -inform der` or `openssl pkcs12`"
            ),
            TlsErrorKind::InvalidPem => write!(
                f,
                "{place} is not valid PEM, or is incomplete; if it was being written, try again"
            ),
            TlsErrorKind::NoCertificate => write!(
                f,
                "{place} has no certificate; expected PEM with `BEGIN CERTIFICATE`"
            ),
            TlsErrorKind::NoPrivateKey => write!(
                f,
                "{place} has no private key; expected PEM with `BEGIN PRIVATE KEY`, `BEGIN RSA PRIVATE KEY` or `BEGIN EC PRIVATE KEY`"
            ),
            TlsErrorKind::EncryptedKey => write!(
                f,
                "{place} has an encrypted private key, which is not supported; decrypt it, for example with `openssl pkey`"
            ),
            TlsErrorKind::UnsupportedKey => write!(
                f,
                "{place} has a private key that is malformed or not supported; expected RSA with 2048 to 4096 bits, ECDSA P-256 or P-384, or Ed25519"
            ),
            TlsErrorKind::InvalidCertificate => write!(
                f,
                "{place} has a malformed certificate, or one that is not of version 3 of X.509; make a new one"
            ),
            TlsErrorKind::KeyMismatch(certificate) => write!(
                f,
                "{place} has a private key that does not belong to the certificate in {certificate}; if one of them was being written, try again"
            ),
            TlsErrorKind::ChainOrder(position) => write!(
                f,
                "{place} has the certificate of the private key at position {position}; put it first, and each other certificate after the one that it has issued"
            ),
            TlsErrorKind::NotValidNow(certificate) => {
                let (what, time) = if certificate.is_expired() {
                    ("expired", certificate.not_after_time())
                } else {
                    ("is not valid before", certificate.not_before_time())
                };
                write!(
                    f,
                    "{place} has a certificate that {what} {time}, and the one in use is valid; check the clock and the renewal"
                )
            }
            TlsErrorKind::NoPairs => f.write_str("TLS needs a certificate and its private key"),
            TlsErrorKind::NotReloadable => f.write_str(
                "a configuration of rustls cannot be reloaded; replace it with Tls::replace_config",
            ),
            TlsErrorKind::Rustls(error) => {
                write!(f, "these settings of TLS cannot be used: {error}")
            }
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            TlsErrorKind::Read(error) => Some(error),
            TlsErrorKind::Rustls(error) => Some(error),
            _ => None,
        }
    }
}

/// For programs whose `main` returns [`io::Result`].
impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match &error.kind {
            TlsErrorKind::Read(error) => error.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
