//! Certificates, and servers that speak TLS, made with rustls and independent of the server under test.

use super::WAIT;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// An authority that issues certificates, and a directory for files, which is removed when this value is dropped.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    dir: PathBuf,
    /// File with the certificate of the authority.
    pub(crate) file: String,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The certificate and the key as PEM.
    pub(crate) pem: (String, String),
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            pem: self.pem.clone(),
        }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("wsloop-tls-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = format!("Test Authority {count}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut authority = Self {
            issuer: Issuer::new(params, key),
            der: certificate.der().clone(),
            dir,
            file: String::new(),
        };
        authority.file = authority.write("ca.pem", certificate.pem());
        authority
    }

    /// Writes a file. Returns its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Issues a certificate for host names and IP addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    /// Issues a certificate whose parameters `change` has changed.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(&certificate, &key)
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.dir));
    }
}

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pem: (certificate.pem(), key.serialize_pem()),
        }
    }

    /// Returns a certificate that is its own issuer, as `openssl req -x509` makes it.
    pub(crate) fn self_signed(names: &[&str]) -> Self {
        Self::self_signed_with(names, |_| {})
    }

    pub(crate) fn self_signed_with(
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self::new(&params.self_signed(&key).unwrap(), &key)
    }

    /// Returns the configuration of a server.
    pub(crate) fn config(&self) -> ServerConfig {
        self.config_of(rustls::DEFAULT_VERSIONS)
    }

    /// Returns the configuration of a server with some versions of TLS.
    pub(crate) fn config_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap()
    }

    /// Returns the configuration of a server that demands a certificate of an authority.
    pub(crate) fn config_for_clients_of(
        &self,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder(authority.roots());
        ServerConfig::builder_with_protocol_versions(versions)
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap()
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The server's side of a TLS connection. The first read or write performs the handshake.
pub(crate) type Tls = StreamOwned<ServerConnection, Link>;

/// A TCP stream that writes and reads at most `bytes_max` bytes per call.
pub(crate) struct Link {
    pub(crate) tcp: TcpStream,
    pub(crate) bytes_max: usize,
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.bytes_max);
        self.tcp.read(&mut buf[..len])
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tcp.write(&buf[..buf.len().min(self.bytes_max)])
    }

    /// rustls writes once after an error: all that it has, with the alert at the end.
    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match (self.bytes_max, bufs) {
            (usize::MAX, bufs) => self.tcp.write_vectored(bufs),
            (_, [first, ..]) => self.write(first),
            (_, []) => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a server that runs `act` for each connection, on its own thread.
pub(crate) fn tls_server(
    config: ServerConfig,
    act: impl Fn(Tls) + Send + Sync + 'static,
) -> SocketAddr {
    let config = Arc::new(config);
    tcp_server(move |tcp| {
        let bytes_max = usize::MAX;
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        act(StreamOwned::new(connection, Link { tcp, bytes_max }));
    })
}

/// As [`tls_server`], without TLS.
pub(crate) fn tcp_server(act: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let act = Arc::new(act);
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            tcp.set_read_timeout(Some(WAIT)).unwrap();
            tcp.set_nodelay(true).unwrap();
            let act = Arc::clone(&act);
            thread::spawn(move || act(tcp));
        }
    });
    addr
}

/// Starts a WebSocket server that returns each message.
pub(crate) fn tls_echo(config: ServerConfig) -> SocketAddr {
    tls_server(config, |tls| drop(echo(tls)))
}

/// Returns each message of a WebSocket until it is closed, and then ends TLS. Returns an error as the client's end of
/// TLS: `UnexpectedEof` if the client has not sent close_notify.
pub(crate) fn echo(tls: Tls) -> io::Result<()> {
    let Ok(mut socket) = tungstenite::accept(tls) else {
        return Err(io::Error::other("no opening handshake"));
    };
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            break;
        }
    }
    let tls = socket.get_mut();
    tls.conn.send_close_notify();
    let _ = tls.flush();
    // Writes nothing more: a client that has ended the connection answers it with a reset.
    loop {
        let state = tls.conn.process_new_packets();
        if state.is_ok_and(|state| state.peer_has_closed()) {
            return Ok(());
        }
        let _ = io::copy(&mut tls.conn.reader(), &mut io::sink());
        if tls.conn.read_tls(&mut tls.sock)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
