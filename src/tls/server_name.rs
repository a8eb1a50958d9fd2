//! Obtains the host name that a client sends (SNI). rustls' unbuffered connection does not return it; only the resolver
//! of certificates receives it.

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The name in the ClientHello that this thread has processed last.
    static NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// A resolver that stores the name, and passes the call to another resolver.
#[derive(Debug)]
struct Recorder(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Recorder {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        NAME.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

/// Returns the configuration with two changes: the resolver stores the name for [`take`], and the secrets can be extracted
/// for the record layer of TLS 1.3.
pub(super) fn recorded(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.enable_secret_extraction = true;
    config.cert_resolver = Arc::new(Recorder(config.cert_resolver));
    Arc::new(config)
}

/// Removes the name of an earlier ClientHello.
pub(super) fn forget() {
    NAME.set(None);
}

/// Returns the name in the ClientHello that this thread has processed since [`forget`].
pub(super) fn take() -> Option<Box<str>> {
    NAME.take()
}
