//! TLS for listeners: `wss://`.

mod record;
mod server_name;
mod session;
mod stats;
pub(crate) mod stream;

pub use session::TlsSession;
pub(crate) use stats::Failure;
pub use stats::TlsStats;

use rustls::ServerConfig;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Certificates and settings of TLS listeners; see [`Server::listen_tls`](crate::Server::listen_tls). Clones share
/// their state.
#[derive(Clone)]
pub struct Tls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Uses a configuration of rustls as it is.
    pub fn from_config(config: Arc<ServerConfig>) -> Self {
        Self {
            current: Arc::new(RwLock::new(server_name::recorded(&config))),
        }
    }

    /// Returns the configuration for the next connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        // The lock holds a whole value at any time, so that a panic elsewhere cannot have left half of one.
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
