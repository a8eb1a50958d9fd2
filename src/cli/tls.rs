//! Loads and reloads the certificates of a server, and logs when they expire.

use super::args::{Certificates, Serve};
use super::listen::Listener;
use std::io;
use std::time::{Duration, SystemTime};
use wsloop::{ClientCertificates, Tls, TlsCertificate};

/// The certificates and TLS settings of a server.
pub(super) struct ServerTls {
    pub(super) tls: Tls,
    /// Whether SIGHUP reloads the certificates. If they are not from files, SIGHUP has its default effect: it ends the
    /// process.
    pub(super) is_reloadable: bool,
}

/// Loads the certificates. Logs their names and expiry. Returns `None` if the flags demand no TLS.
///
/// # Errors
/// A file cannot be read or used. The message names it.
pub(super) fn load(serve: &Serve) -> io::Result<Option<ServerTls>> {
    let Some(settings) = &serve.tls else {
        return Ok(None);
    };
    let mut builder = Tls::builder();
    match &settings.certificates {
        Certificates::Files(pairs) => {
            for (certificate, key) in pairs {
                builder = builder.certificate_files(certificate, key);
            }
        }
        #[cfg(feature = "tls-self-signed")]
        Certificates::SelfSigned(names) => {
            let (certificate, key) = self_signed(names).map_err(io::Error::other)?;
            builder = builder.certificate_pem(certificate, key);
        }
        #[cfg(not(feature = "tls-self-signed"))]
        Certificates::SelfSigned(_) => unreachable!("the flag was rejected"),
    }
    if let Some(path) = &settings.client_ca {
        let need = match settings.is_client_optional {
            true => ClientCertificates::Optional,
            false => ClientCertificates::Required,
        };
        builder = builder.client_ca_file(path, need);
    }
    if settings.is_13_only {
        builder = builder.tls13_only();
    }
    let tls = builder.build()?;
    let is_self_signed = matches!(settings.certificates, Certificates::SelfSigned(_));
    for certificate in &*tls.certificates() {
        if is_self_signed {
            let fingerprint = certificate.fingerprint();
            log::info!(
                "made a certificate for {certificate}; no client trusts it; its SHA-256 fingerprint is {fingerprint}"
            );
        } else {
            log::info!("TLS certificate: {certificate}");
        }
    }
    warn_of_expiry(&tls);
    Ok(Some(ServerTls {
        tls,
        is_reloadable: !is_self_signed,
    }))
}

/// Checks that there are certificates if and only if there are listeners with TLS. The flags were checked before, without
/// the sockets that a parent process has passed.
///
/// # Errors
/// There are certificates without a listener, or a listener without a certificate.
pub(super) fn check(tls: Option<&ServerTls>, listeners: &[Listener]) -> io::Result<()> {
    let is_listening = listeners.iter().any(|listener| listener.is_tls);
    match (tls, is_listening) {
        (None, true) => Err(io::Error::other(
            "an inherited socket with TLS needs a certificate; add --tls-cert FILE and --tls-key FILE",
        )),
        (Some(_), false) => Err(io::Error::other(
            "no listener uses the certificates; add -l tls:PORT, or set FileDescriptorName=tls in the systemd socket unit",
        )),
        (None, false) | (Some(_), true) => Ok(()),
    }
}

/// Reads the files again. Logs each certificate with the one before, or why the previous ones remain in use.
pub(super) fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(reload) => {
            for (before, after) in reload.before.iter().zip(&*reload.after) {
                if before == after {
                    log::info!("reloaded TLS certificate, unchanged: {after}");
                } else {
                    log::info!("reloaded TLS certificate: {after}; before: {before}");
                }
            }
            warn_of_expiry(tls);
        }
        Err(error) => {
            log::error!("TLS certificates not reloaded, the previous ones remain in use: {error}");
            warn_of_expiry(tls);
        }
    }
}

/// Logs a warning for each certificate that is not valid now, or that expires within 14 days ([`EXPIRY_NEAR`]).
pub(super) fn warn_of_expiry(tls: &Tls) {
    for certificate in &*tls.certificates() {
        if let Some(what) = warning(certificate, SystemTime::now()) {
            log::warn!("TLS certificate {what}: {certificate}");
        }
    }
}

/// Returns the warning about the validity of a certificate at the time `now`, as the predicate of a sentence.
fn warning(certificate: &TlsCertificate, now: SystemTime) -> Option<&'static str> {
    if certificate.not_after() < now {
        Some("has expired, and clients refuse it; renew it, and send SIGHUP")
    } else if certificate.not_before() > now {
        Some("is not valid yet, and clients refuse it; check the clock")
    } else if certificate.not_after() < now + EXPIRY_NEAR {
        Some("expires within 14 days; renew it, and send SIGHUP")
    } else {
        None
    }
}

/// Returns a new certificate and its key in PEM.
#[cfg(feature = "tls-self-signed")]
fn self_signed(names: &[String]) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = rcgen::DnType::CommonName;
    params.distinguished_name.push(name, "wsloop, self-signed");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    // Browsers refuse certificates that are valid for more than 398 or 825 days. The clock of a client can be slow, so the
    // validity begins a day before.
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Interval at which the expiry of the certificates is checked.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Time before the expiry of a certificate from which on warnings are logged. certbot renews 30 days before.
const EXPIRY_NEAR: Duration = Duration::from_secs(14 * 24 * 3600);
