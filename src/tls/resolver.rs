//! Selects the certificate for a connection by the host name that the client sends (SNI).
//!
//! `ResolvesServerCertUsingSni` of rustls supports neither wildcards nor a default certificate. A default is needed for
//! clients that send an unknown name, or none because they connect to an IP address.

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a server by name. The first one is the default.
#[derive(Debug)]
pub(super) struct Resolver {
    keys: Vec<Arc<CertifiedKey>>,
    /// Indices in `keys` by name, without the `*.` of wildcards.
    exact: HashMap<String, Vec<usize>>,
    wildcards: HashMap<String, Vec<usize>>,
    /// The first certificate, and those with the same names: usually another type of key.
    default: Vec<usize>,
}

impl Resolver {
    /// Returns a resolver for certificates, at least one, with their keys and their names in lower case.
    pub(super) fn new(certificates: Vec<(Arc<CertifiedKey>, Vec<String>)>) -> Self {
        let mut this = Self {
            keys: Vec::new(),
            exact: HashMap::new(),
            wildcards: HashMap::new(),
            default: Vec::new(),
        };
        let first_names = certificates.first().map(|(_, names)| names.clone());
        for (index, (key, names)) in certificates.into_iter().enumerate() {
            if index == 0 || first_names.as_ref() == Some(&names) {
                this.default.push(index);
            }
            this.keys.push(key);
            for name in names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut this.wildcards, parent.to_owned()),
                    None => (&mut this.exact, name),
                };
                names.entry(name).or_default().push(index);
            }
        }
        this
    }

    /// Returns the certificate for a name. Of several, returns the first one whose key can sign with one of `schemes`, those
    /// of the client. If there is none, returns the first one, and the handshake fails with an alert.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let found = name.and_then(|name| self.by_name(name));
        let found = found.unwrap_or(&self.default);
        let mut keys = found.iter().filter_map(|index| self.keys.get(*index));
        let first = keys.clone().next();
        let usable = keys.find(|key| key.key.choose_scheme(schemes).is_some());
        usable.or(first).cloned()
    }

    fn by_name(&self, name: &str) -> Option<&Vec<usize>> {
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        self.exact.get(&*name).or_else(|| {
            // A wildcard stands for exactly one label.
            let (_, parent) = name.split_once('.')?;
            self.wildcards.get(parent)
        })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}
