//! Reads certificates and keys in PEM from files or memory, and checks that they belong together.

use super::der::{Fields, Time};
use super::error::{TlsError, TlsErrorKind};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// The certificate of a server, which is the first of its chain; see [`Tls::certificates`](crate::Tls::certificates). As
/// text, it is its first name and its expiry: `example.org and 2 more names, valid until 2027-02-20 06:00:00 UTC`.
/// Two certificates are equal if their DER is.
#[derive(Clone)]
pub struct TlsCertificate {
    der: CertificateDer<'static>,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_before: Time,
    not_after: Time,
}

impl TlsCertificate {
    /// Reads the fields of a certificate. Returns `None` if it is malformed.
    fn read(der: &CertificateDer<'static>) -> Option<Self> {
        let fields = Fields::read(der)?;
        Some(Self {
            der: der.clone(),
            dns_names: fields.dns_names,
            addresses: fields.addresses,
            not_before: fields.not_before,
            not_after: fields.not_after,
        })
    }

    /// Returns the DNS names in the certificate (`subjectAltName`) in lower case, such as `example.org` and
    /// `*.example.org`. The common name is not included, because clients ignore it.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Returns the IP addresses in the certificate (`subjectAltName`).
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the start of the certificate's validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before.system_time()
    }

    /// Returns the expiry of the certificate.
    pub fn not_after(&self) -> SystemTime {
        self.not_after.system_time()
    }

    /// Returns whether the certificate has expired, by the clock of the system.
    pub fn is_expired(&self) -> bool {
        self.not_after() < SystemTime::now()
    }

    /// Returns whether the certificate is valid now, by the clock of the system.
    pub fn is_valid_now(&self) -> bool {
        self.not_before() <= SystemTime::now() && !self.is_expired()
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the SHA-256 hash of the certificate, as browsers and `openssl x509 -fingerprint -sha256` show it:
    /// `AB:CD:...`.
    pub fn fingerprint(&self) -> String {
        let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let hash = suite
            .tls13()
            .map(|suite| suite.common.hash_provider.hash(&self.der));
        let bytes = hash.iter().flat_map(|hash| hash.as_ref());
        let bytes: Vec<_> = bytes.map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    pub(super) fn not_before_time(&self) -> Time {
        self.not_before
    }

    pub(super) fn not_after_time(&self) -> Time {
        self.not_after
    }

    /// Returns the expiry in seconds since 1970.
    pub(crate) fn expiry_seconds(&self) -> i64 {
        self.not_after.unix_seconds()
    }

    /// Returns the first DNS name, or if there is none the first address.
    pub(crate) fn first_name(&self) -> Option<String> {
        let address = self.addresses.first().map(IpAddr::to_string);
        self.dns_names.first().cloned().or(address)
    }
}

impl PartialEq for TlsCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for TlsCertificate {}

impl fmt::Display for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first_name() {
            Some(name) => f.write_str(&name)?,
            None => f.write_str("a certificate without names")?,
        }
        match (self.dns_names.len() + self.addresses.len()).saturating_sub(1) {
            0 => {}
            1 => f.write_str(" and 1 more name")?,
            more => write!(f, " and {more} more names")?,
        }
        write!(f, ", valid until {}", self.not_after)
    }
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCertificate")
            .field("dns_names", &self.dns_names)
            .field("addresses", &self.addresses)
            .field("not_before", &self.not_before.to_string())
            .field("not_after", &self.not_after.to_string())
            .finish_non_exhaustive()
    }
}

/// The source of PEM data.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Memory { name: String, bytes: Arc<[u8]> },
}

impl Pem {
    fn read(&self) -> Result<Vec<Section>, TlsError> {
        let fail = |kind| TlsError::at(self, kind);
        let read;
        let bytes = match self {
            Self::File(path) => {
                read = read_file(path).map_err(|error| fail(TlsErrorKind::Read(error)))?;
                &*read
            }
            Self::Memory { bytes, .. } => bytes,
        };
        if bytes.len() > FILE_BYTES_MAX {
            return Err(fail(TlsErrorKind::TooLarge));
        }
        // DER begins with the tag of a sequence, 0x30. A length above 127 begins with a byte above 0x7f, which is not ASCII.
        if let [0x30, 0x80..=0xff, ..] = bytes {
            return Err(fail(TlsErrorKind::Binary));
        }
        // Without this check, the error for an encrypted key would be that there is no key, or that base64 is invalid.
        if ENCRYPTED.iter().any(|mark| contains(bytes, mark)) {
            return Err(fail(TlsErrorKind::EncryptedKey));
        }
        <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes)
            .map(|section| section.map_err(|_| fail(TlsErrorKind::InvalidPem)))
            .collect()
    }

    /// Returns an error if a read could wait for another process, as one of a pipe or a terminal does.
    pub(super) fn check_read_does_not_wait(&self) -> Result<(), TlsError> {
        match self {
            Self::File(path)
                if fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) =>
            {
                let error = io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is not a regular file, and a reload would wait for it",
                );
                Err(TlsError::at(self, TlsErrorKind::Read(error)))
            }
            // The read returns other errors.
            Self::File(_) | Self::Memory { .. } => Ok(()),
        }
    }

    /// Returns the certificates; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let sections = self.read()?;
        let certificates: Vec<_> = sections
            .into_iter()
            .filter_map(|(kind, der)| CertificateDer::from_pem(kind, der))
            .collect();
        if certificates.is_empty() {
            return Err(TlsError::at(self, TlsErrorKind::NoCertificate));
        }
        Ok(certificates)
    }

    /// Returns the first private key.
    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let sections = self.read()?;
        sections
            .into_iter()
            .find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
            .ok_or_else(|| TlsError::at(self, TlsErrorKind::NoPrivateKey))
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Memory { name, .. } => f.write_str(name),
        }
    }
}

/// Displays no bytes, which can be those of a private key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type Section = (SectionKind, Vec<u8>);

/// A certificate with its chain, and its private key. Both can be in the same PEM.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
}

impl Pair {
    /// Reads the pair and checks that the key belongs to the certificate. Logs a warning if a certificate in the chain is
    /// not the issuer of the one before it.
    pub(super) fn load(
        &self,
        provider: &CryptoProvider,
    ) -> Result<(CertifiedKey, TlsCertificate), TlsError> {
        let chain = self.certificate.certificates()?;
        let key = self.key.private_key()?;
        let fail = |kind| TlsError::at(&self.certificate, kind);
        let fail_key = |kind| TlsError::at(&self.key, kind);
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| fail_key(TlsErrorKind::UnsupportedKey))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let owner = pair.cert.iter().position(|one| {
                    let alone = CertifiedKey::new(vec![one.clone()], Arc::clone(&pair.key));
                    alone.keys_match().is_ok()
                });
                return Err(match owner {
                    Some(index) => fail(TlsErrorKind::ChainOrder(index + 1)),
                    None => fail_key(TlsErrorKind::KeyMismatch(self.certificate.to_string())),
                });
            }
            Err(_) => return Err(fail(TlsErrorKind::InvalidCertificate)),
        }
        let malformed = || fail(TlsErrorKind::InvalidCertificate);
        let fields: Option<Vec<_>> = pair.cert.iter().map(|der| Fields::read(der)).collect();
        let fields = fields.ok_or_else(malformed)?;
        // Not an error, and the chain is sent as it is: clients of TLS 1.3 should accept any order (RFC 8446 section 4.4.2), and
        // others may have the issuer already.
        let wrong = fields
            .windows(2)
            .position(|two| two[0].issuer != two[1].subject);
        if let Some(index) = wrong {
            log::warn!(
                "certificate {} in {} is not the issuer of the one before it; some clients will not trust the chain",
                index + 2,
                self.certificate
            );
        }
        let certificate = pair.cert.first().and_then(TlsCertificate::read);
        let certificate = certificate.ok_or_else(malformed)?;
        Ok((pair, certificate))
    }
}

/// Reads a file, up to one byte above the maximum: an endless file, such as a device, must not fill the memory.
fn read_file(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(FILE_BYTES_MAX as u64 + 1);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Strings in the PEM of an encrypted private key: PKCS#8, and the older form of OpenSSL.
const ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"Proc-Type: 4,ENCRYPTED",
];

/// Maximum size of a file or a PEM in memory. A chain has some kilobytes; the file of all root certificates of a system has
/// 250 KB.
const FILE_BYTES_MAX: usize = 1 << 20;
