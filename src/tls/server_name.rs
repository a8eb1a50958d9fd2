//! The name of the host that a client asks for (SNI). rustls passes it only to the resolver of certificates.

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The name in the ClientHello that this thread has processed last.
    static NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// A resolver that stores the name, and asks another one.
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

/// Returns the configuration with a resolver that stores the name for [`take`], and with keys that the record layer can
/// have.
pub(super) fn recorded(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.enable_secret_extraction = true;
    config.cert_resolver = Arc::new(Recorder(config.cert_resolver));
    Arc::new(config)
}

/// Forgets the name of an earlier ClientHello.
pub(super) fn forget() {
    NAME.set(None);
}

/// Returns the name in the ClientHello that this thread has processed since [`forget`].
pub(super) fn take() -> Option<Box<str>> {
    NAME.take()
}
