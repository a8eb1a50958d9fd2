//! TLS for listeners: `wss://`.
//!
//! - Configuration: [`TlsBuilder`] reads PEM (`certificates`, `der`) and builds a `ServerConfig` of rustls, with a
//!   [`resolver`] that selects the certificate. [`Tls`] holds the current one and replaces it on a reload.
//! - Connections: [`stream`] moves bytes between a session and its socket. `rustls_layer` does the handshake and TLS 1.2,
//!   [`record`] the records of TLS 1.3.
//!
//! Nothing here registers sockets, measures time or ends sessions: `server` does.

mod builder;
mod certificates;
pub(crate) mod client_tickets;
mod der;
mod error;
mod record;
mod resolver;
mod rustls_layer;
mod server_name;
mod session;
mod stats;
pub(crate) mod stream;

pub use builder::{ClientCertificates, TlsBuilder};
pub use certificates::TlsCertificate;
pub use error::{TlsError, TlsErrorKind};
pub use session::TlsSession;
pub(crate) use stats::Failure;
pub use stats::TlsStats;

use builder::{Loaded, Tickets};
use rustls::ServerConfig;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Certificates and settings of TLS listeners; see [`Server::listen_tls`](crate::Server::listen_tls). Clones share
/// their state, and can be used by any thread.
///
/// ```no_run
/// use wsloop::{Config, Server, Tls, handlers::Echo};
///
/// # fn main() -> std::io::Result<()> {
/// let tls = Tls::from_pem_files("/etc/tls/fullchain.pem", "/etc/tls/privkey.pem")?;
/// let mut server = Server::new(Config::default(), Echo::new())?;
/// server.listen_tls("0.0.0.0:8443", &tls)?;
/// server.run()
/// # }
/// ```
///
/// [`reload`](Self::reload) reads renewed certificates while the server runs, for example in a
/// [timer](crate::Context::set_timer) or after SIGHUP.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    current: RwLock<Current>,
    /// Locked for a whole reload, which reads files. Meanwhile, new connections can read `current`.
    source: Mutex<Source>,
}

/// The configuration for new connections.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    certificates: Arc<[TlsCertificate]>,
}

/// Where the configuration comes from.
enum Source {
    Builder(TlsBuilder, Tickets),
    /// A configuration of rustls.
    Config,
}

impl Tls {
    /// Returns a builder, for several certificates, client certificates and other settings.
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// Uses a certificate and its private key from PEM files; see [`TlsBuilder::certificate_files`].
    ///
    /// # Errors
    /// As [`TlsBuilder::build`].
    pub fn from_pem_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        Self::builder().certificate_files(certificate, key).build()
    }

    /// Uses a certificate and its private key from PEM in memory; see [`TlsBuilder::certificate_files`].
    ///
    /// # Errors
    /// As [`TlsBuilder::build`].
    pub fn from_pem(
        certificate: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        Self::builder().certificate_pem(certificate, key).build()
    }

    /// Uses a configuration of rustls; [`rustls`](crate::rustls) is the version to use.
    ///
    /// ALPN should be `http/1.1` or empty. If `h2` precedes `http/1.1`, clients that offer both get HTTP/2, which this
    /// library does not support. These settings of the configuration are not used as they are:
    ///
    /// - The resolver of certificates is wrapped, so that [`TlsSession::server_name`] can return the name.
    /// - `enable_secret_extraction` is set, for the record layer of TLS 1.3.
    /// - `max_fragment_size` has no effect in TLS 1.3 after the handshake.
    /// - Early data is discarded, so `max_early_data_size` should be 0, the default.
    pub fn from_config(config: Arc<ServerConfig>) -> Self {
        Self::new(Current::new(&config, [].into()), Source::Config)
    }

    fn from_loaded(builder: TlsBuilder, loaded: Loaded) -> Self {
        let Loaded {
            config,
            certificates,
            tickets,
        } = loaded;
        let current = Current::new(&config, certificates);
        Self::new(current, Source::Builder(builder, tickets))
    }

    fn new(current: Current, source: Source) -> Self {
        let current = RwLock::new(current);
        let source = Mutex::new(source);
        Self {
            shared: Arc::new(Shared { current, source }),
        }
    }

    /// Reads all files again, and uses their contents for new connections. Open sessions continue. Returns the
    /// certificates before and after.
    ///
    /// Tickets that clients hold remain valid, unless the CAs of client certificates have changed.
    ///
    /// Blocks while the files are read. If they are on a slow disk, call this on another thread than the server's.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), wsloop::TlsError> {
    /// # let tls = wsloop::Tls::from_pem_files("/etc/tls/fullchain.pem", "/etc/tls/privkey.pem")?;
    /// match tls.reload() {
    ///     Ok(reload) if reload.is_changed() => println!("now {}", reload.after[0]),
    ///     Ok(_) => println!("the files have not changed"),
    ///     Err(error) => println!("the previous certificate remains in use: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`TlsBuilder::build`]; or a path is now that of a pipe or a device, which could block the caller; or a certificate
    /// has expired or is not valid yet, and the one that it would replace is valid; or the configuration is one of rustls
    /// ([`from_config`](Self::from_config)). After an error, all certificates and settings remain in use.
    pub fn reload(&self) -> Result<TlsReload, TlsError> {
        let mut source = self.source();
        let Source::Builder(builder, tickets) = &mut *source else {
            return Err(TlsError::of(TlsErrorKind::NotReloadable));
        };
        builder.check_load_does_not_wait()?;
        let loaded = builder.load(Some(tickets))?;
        let before = self.now();
        for (index, (old, new)) in before
            .certificates
            .iter()
            .zip(&*loaded.certificates)
            .enumerate()
        {
            if old.is_valid_now() && !new.is_valid_now() {
                let kind = TlsErrorKind::NotValidNow(new.clone());
                return Err(TlsError::at(builder.place(index), kind));
            }
        }
        *tickets = loaded.tickets;
        Ok(self.set(Current::new(&loaded.config, loaded.certificates)))
    }

    /// Replaces all certificates and settings by those of a builder, for new connections. Later reloads read the files
    /// of this builder. Tickets remain valid as after a [`reload`](Self::reload). Certificates that are not valid now are
    /// accepted, as [`TlsBuilder::build`] accepts them.
    ///
    /// # Errors
    /// As [`TlsBuilder::build`]. After an error, all certificates and settings remain in use.
    pub fn replace(&self, builder: TlsBuilder) -> Result<TlsReload, TlsError> {
        let mut source = self.source();
        let loaded = match &*source {
            Source::Builder(_, tickets) => builder.load(Some(tickets))?,
            Source::Config => builder.load(None)?,
        };
        *source = Source::Builder(builder, loaded.tickets);
        Ok(self.set(Current::new(&loaded.config, loaded.certificates)))
    }

    /// Replaces all certificates and settings by a configuration of rustls, for new connections; see
    /// [`from_config`](Self::from_config). Tickets are those of the configuration.
    pub fn replace_config(&self, config: Arc<ServerConfig>) {
        let mut source = self.source();
        *source = Source::Config;
        self.set(Current::new(&config, [].into()));
    }

    /// Returns the certificates that are in use, in the order of the builder. Returns none if the configuration is one
    /// of rustls, whose certificates cannot be listed.
    pub fn certificates(&self) -> Arc<[TlsCertificate]> {
        self.now().certificates
    }

    /// Returns the configuration for the next connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        // The value is only ever replaced as a whole, so a panic of another thread cannot have left it incomplete.
        let current = self.shared.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner).config)
    }

    fn now(&self) -> Current {
        let current = self.shared.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, after: Current) -> TlsReload {
        let current = self.shared.current.write();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        let reload = TlsReload {
            before: Arc::clone(&current.certificates),
            after: Arc::clone(&after.certificates),
        };
        *current = after;
        reload
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Source> {
        let source = self.shared.source.lock();
        source.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.certificates())
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(config: &ServerConfig, certificates: Arc<[TlsCertificate]>) -> Self {
        Self {
            config: server_name::recorded(config),
            certificates,
        }
    }
}

/// The certificates before and after [`Tls::reload`] or [`Tls::replace`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsReload {
    /// The certificates that were in use.
    pub before: Arc<[TlsCertificate]>,
    /// The certificates that are in use now.
    pub after: Arc<[TlsCertificate]>,
}

impl TlsReload {
    /// Returns whether a certificate of the server has changed. `false` does not mean that nothing has changed: new
    /// intermediate certificates and CAs of clients are in use, too.
    pub fn is_changed(&self) -> bool {
        self.before != self.after
    }
}

#[cfg(test)]
pub(crate) mod tests;
