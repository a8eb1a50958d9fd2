//! Messages for failures of TLS.

use super::client::Asked;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};
use std::error;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

/// A failure of TLS, or of the stream below it in the handshake.
#[derive(Debug)]
pub(in crate::cli) enum TlsError {
    /// The server has sent an alert, or this client has found an error.
    Protocol(Error, Asked),
    /// The server's first byte does not begin a TLS record. `is_http`: it begins an HTTP response.
    NotTls { is_http: bool },
    /// The stream ended during the handshake.
    Ended(Asked),
    /// The stream failed during the handshake.
    Lost(io::Error, Asked),
    /// The server has sent 1 MiB of records without data.
    Silent,
    /// The stream ended after the handshake, without close_notify.
    Truncated,
}

impl error::Error for TlsError {}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            TlsError::Truncated => io::ErrorKind::UnexpectedEof,
            TlsError::Protocol(..)
            | TlsError::NotTls { .. }
            | TlsError::Ended(_)
            | TlsError::Lost(..)
            | TlsError::Silent => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error, asked) => write_protocol(f, error, *asked),
            Self::NotTls { is_http } => {
                f.write_str("the server does not speak TLS on this port")?;
                if *is_http {
                    f.write_str("; use ws:// instead of wss://")?;
                }
                Ok(())
            }
            Self::Ended(asked) => {
                f.write_str("the server ended the connection; ")?;
                f.write_str(guess(*asked))
            }
            Self::Lost(error, asked) => write!(f, "{error}; {}", guess(*asked)),
            Self::Silent => f.write_str("the server sends TLS records without data"),
            Self::Truncated => {
                f.write_str("the stream ended without close_notify of TLS; data may be missing")
            }
        }
    }
}

/// Returns the probable reason of a server that ends the connection during the handshake without an alert.
fn guess(asked: Asked) -> &'static str {
    match asked {
        Asked::No => "if it does not speak TLS, use ws:// instead of wss://",
        Asked::Missing => "it has asked for a client certificate: --cert FILE",
        Asked::Shown => "it may not accept the client certificate",
    }
}

fn write_protocol(f: &mut fmt::Formatter<'_>, error: &Error, asked: Asked) -> fmt::Result {
    match error {
        Error::InvalidCertificate(error) => {
            f.write_str("the server's certificate ")?;
            write_certificate(f, error)
        }
        Error::AlertReceived(alert) => write_alert(f, *alert, asked),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => f.write_str(NO_VERSION),
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
            f.write_str(NO_ALPN)
        }
        Error::DecryptError => f.write_str("a TLS record is damaged"),
        error => write!(f, "{error}"),
    }
}

fn write_alert(f: &mut fmt::Formatter<'_>, alert: AlertDescription, asked: Asked) -> fmt::Result {
    use AlertDescription as Alert;
    match (alert, asked) {
        (Alert::CertificateRequired, _)
        | (
            Alert::HandshakeFailure
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied,
            Asked::Missing,
        ) => f.write_str("the server demands a client certificate: --cert FILE"),
        (
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure,
            Asked::Shown,
        ) => write!(
            f,
            "the server does not accept the client certificate ({alert:?})"
        ),
        (Alert::ProtocolVersion, _) => f.write_str(NO_VERSION),
        (Alert::HandshakeFailure, _) => {
            f.write_str("the server accepts no cipher suite, or no other parameter, of this client")
        }
        (Alert::NoApplicationProtocol, _) => f.write_str(NO_ALPN),
        (Alert::UnrecognisedName, _) => {
            f.write_str("the server has no certificate for the host of the URL (SNI)")
        }
        (alert, _) => write!(f, "the server sent the alert {alert:?}"),
    }
}

/// Writes what is wrong with the certificate, as the predicate of a sentence about the certificate.
fn write_certificate(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            write!(f, "expired on {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let date = date(*not_before);
            write!(f, "is not valid before {date}; check the clock of this machine")
        }
        CertificateError::UnknownIssuer => f.write_str(
            "is issued by an unknown authority; trust it with --ca FILE, or accept every certificate with --insecure",
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let shown = presented.iter().take(NAMES_SHOWN_MAX);
            let names: Vec<_> = shown.map(|name| name_of(name)).collect();
            let mut names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            match presented.len().saturating_sub(NAMES_SHOWN_MAX) {
                0 => {}
                1 => names.push_str(" and 1 more name"),
                more => names.push_str(&format!(" and {more} more names")),
            }
            write!(f, "is for {names}, and not for {}", expected.to_str())
        }
        CertificateError::InvalidPurposeContext { .. } => f.write_str("is not for servers"),
        error => write!(f, "cannot be verified: {error}"),
    }
}

/// Returns the name or address in webpki's text for a name, such as `DnsName("a.example")`.
fn name_of(description: &str) -> &str {
    let (_, name) = description.split_once('(').unwrap_or(("", description));
    name.trim_end_matches(')').trim_matches('"')
}

fn date(time: UnixTime) -> String {
    // The years 1970 to 9999 have a date in HTTP.
    let seconds = time.as_secs().min(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Maximum names of a certificate in a message: a certificate can have thousands.
const NAMES_SHOWN_MAX: usize = 5;
const NO_VERSION: &str = "the server accepts neither TLS 1.2 nor 1.3";
const NO_ALPN: &str = "the server does not accept http/1.1 as protocol (ALPN)";
