//! The TLS flags of `wsloop bench` and `wsloop connect`.

use super::UsageError;

/// Settings of a TLS client: how it verifies the server's certificate, and its own certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientTls {
    /// PEM file with the certificates of the only trusted authorities. `None`: those of the system are trusted.
    pub(crate) ca: Option<String>,
    /// Whether every certificate is accepted.
    pub(crate) is_insecure: bool,
    /// PEM file with the client's certificate, followed by those of its issuers. `None`: the client has no certificate.
    pub(crate) cert: Option<String>,
    /// PEM file with the private key of `cert`. `None`: `cert` contains the key.
    pub(crate) key: Option<String>,
}

impl ClientTls {
    /// Applies `--ca FILE`.
    ///
    /// # Errors
    /// The reason for a usage error.
    pub(super) fn set_ca(&mut self, file: &str) -> Result<(), String> {
        set(&mut self.ca, file)
    }

    /// Applies `--cert FILE`.
    ///
    /// # Errors
    /// The reason for a usage error.
    pub(super) fn set_cert(&mut self, file: &str) -> Result<(), String> {
        set(&mut self.cert, file)
    }

    /// Applies `--key FILE`.
    ///
    /// # Errors
    /// The reason for a usage error.
    pub(super) fn set_key(&mut self, file: &str) -> Result<(), String> {
        set(&mut self.key, file)
    }

    /// Checks all flags on the command line, `given`, together. `is_wss` is whether the scheme of the URL is `wss`.
    ///
    /// # Errors
    /// The binary lacks TLS, or flags contradict each other or the URL.
    pub(super) fn check(&self, given: &[&str], is_wss: bool) -> Result<(), UsageError> {
        if let Some(flag) = FLAGS.iter().find(|flag| given.contains(flag)) {
            if cfg!(not(feature = "tls-client")) {
                return Err(UsageError(format!("{flag} {NO_TLS}")));
            }
            if !is_wss {
                return Err(UsageError(format!("{flag} needs a URL with wss://")));
            }
        }
        if self.ca.is_some() && self.is_insecure {
            let reason = "--ca cannot be used with --insecure, which accepts every certificate";
            return Err(UsageError(reason.to_owned()));
        }
        if self.key.is_some() && self.cert.is_none() {
            let reason = "--key needs the certificate of the key; add --cert FILE";
            return Err(UsageError(reason.to_owned()));
        }
        Ok(())
    }
}

fn set(field: &mut Option<String>, file: &str) -> Result<(), String> {
    if file.is_empty() {
        return Err("is no file".to_owned());
    }
    *field = Some(file.to_owned());
    Ok(())
}

/// The reason to reject TLS in a binary without it.
pub(super) const NO_TLS: &str =
    "needs TLS; rebuild the binary with the cargo feature \"tls-client\"";

/// All flags that need TLS.
const FLAGS: [&str; 5] = ["--ca", "--insecure", "--cert", "--key", "--tls-resume"];
