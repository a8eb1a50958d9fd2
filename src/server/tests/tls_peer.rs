//! Peers that speak TLS: rustls' client above the scripted stream, and records that rustls' client would not send.

use super::script::{Bench, Peer, REQUEST, ScriptedStream, Wire, server_frames};
use crate::server::testing::shared::Shared;
use crate::stream::Stream;
use crate::tls::Tls;
use crate::tls::stream::TlsStream;
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

pub(super) use rustls::version::{TLS12, TLS13};

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Returns the key and the certificate of the server. Both are the same in every process, so that the lengths of all
/// messages are, too.
pub(super) fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    // RFC 8410 section 7: an Ed25519 key in PKCS #8, and its 32 bytes.
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    key.extend([7; 32]);
    let key = PrivatePkcs8KeyDer::from(key);
    let pair = KeyPair::try_from(&key).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(1));
    let certificate = params.self_signed(&pair).unwrap();
    (certificate.der().clone(), PrivateKeyDer::from(key))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(default_provider())))
}

/// Returns the configuration of a server with both versions, without tickets.
pub(super) fn server_config() -> ServerConfig {
    let (certificate, key) = certificate();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.send_tls13_tickets = 0;
    config
}

/// Returns the configuration of a client that trusts the server.
pub(super) fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    client_config_with(version, provider())
}

fn client_config_with(
    version: &'static SupportedProtocolVersion,
    provider: Arc<CryptoProvider>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate().0).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_secret_extraction = true;
    config
}

/// Returns a client with the same cipher in both versions, which [`Sealer`] knows.
pub(super) fn chacha_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    };
    client_config_with(version, Arc::new(provider))
}

pub(super) fn client(config: ClientConfig) -> ClientConnection {
    let mut client =
        ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    client.set_buffer_limit(None);
    client
}

/// The server's side of TLS, for all connections of a test.
pub(super) struct Acceptor {
    tls: Tls,
    scratch: Arc<std::sync::Mutex<crate::tls::stream::Scratch>>,
}

impl Acceptor {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self {
            tls: Tls::from_config(Arc::new(config)),
            scratch: Arc::default(),
        }
    }

    /// Returns the server's side of TLS above `socket`.
    pub(super) fn stream(&self, socket: Stream) -> Stream {
        let scratch = Arc::clone(&self.scratch);
        let stream = TlsStream::new(socket, self.tls.current(), scratch).unwrap();
        Stream::Tls(Box::new(stream))
    }
}

impl Default for Acceptor {
    fn default() -> Self {
        Self::new(server_config())
    }
}

/// A peer that speaks TLS.
pub(super) struct TlsPeer {
    pub(super) peer: Peer,
    pub(super) tls: ClientConnection,
    /// Opened bytes that the peer has received.
    pub(super) received: Vec<u8>,
    /// The error of the client, such as an alert of the server.
    pub(super) error: Option<rustls::Error>,
    /// The server has sent close_notify.
    pub(super) is_end: bool,
}

/// Adds a connection of a TLS listener, whose peer is only the scripted stream.
pub(super) fn connect_raw(bench: &mut Bench, acceptor: &Acceptor) -> Peer {
    connect_raw_with(bench, acceptor, None, false)
}

/// Adds a connection from an address. A header of the PROXY protocol precedes TLS if `is_proxied`.
pub(super) fn connect_raw_with(
    bench: &mut Bench,
    acceptor: &Acceptor,
    address: Option<SocketAddr>,
    is_proxied: bool,
) -> Peer {
    let wire = Shared::new(Wire::default());
    let stream = acceptor.stream(Stream::memory(ScriptedStream(wire.clone())));
    bench.connect_stream(stream, wire, address, is_proxied)
}

impl TlsPeer {
    /// Adds a connection. Its ClientHello is not sent.
    pub(super) fn connect(bench: &mut Bench, config: ClientConfig) -> Self {
        Self::connect_to(bench, &Acceptor::default(), config)
    }

    pub(super) fn connect_to(bench: &mut Bench, acceptor: &Acceptor, config: ClientConfig) -> Self {
        Self::over(connect_raw(bench, acceptor), config)
    }

    /// Returns a client above a connection of a TLS listener.
    pub(super) fn over(peer: Peer, config: ClientConfig) -> Self {
        Self {
            peer,
            tls: client(config),
            received: Vec::new(),
            error: None,
            is_end: false,
        }
    }

    /// Adds a connection and completes both handshakes. The 101 response is removed from what was received.
    pub(super) fn open(bench: &mut Bench, config: ClientConfig) -> Self {
        let mut peer = Self::connect(bench, config);
        peer.complete(bench);
        peer
    }

    /// Completes both handshakes.
    pub(super) fn complete(&mut self, bench: &mut Bench) {
        self.send(REQUEST.as_bytes());
        self.exchange(bench);
        let response = std::mem::take(&mut self.received);
        assert!(
            response.starts_with(b"HTTP/1.1 101 "),
            "{} {:?}",
            response.escape_ascii(),
            self.error
        );
        self.peer.wire.lock().write_calls = 0;
    }

    /// Seals bytes and sends them.
    pub(super) fn send(&mut self, plain: &[u8]) {
        let records = self.seal(plain);
        if !records.is_empty() {
            self.peer.send_bytes(&records);
        }
    }

    /// Stores bytes to be sealed once the handshake is complete.
    pub(super) fn tls_write(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).unwrap();
    }

    /// Returns what the client wants to send, with `plain` at its end.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls_write(plain);
        self.take_records()
    }

    /// Returns what the client wants to send.
    pub(super) fn take_records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Opens what the server has written.
    pub(super) fn receive(&mut self) {
        let sealed = self.peer.take_written();
        let mut sealed = &sealed[..];
        while !sealed.is_empty() && self.error.is_none() {
            self.tls.read_tls(&mut sealed).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.is_end |= state.peer_has_closed();
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut plain).unwrap();
                    self.received.extend(plain);
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Runs turns and passes bytes in both directions, until neither side sends anything.
    pub(super) fn exchange(&mut self, bench: &mut Bench) {
        for _ in 0..EXCHANGES_MAX {
            let records = self.take_records();
            if !records.is_empty() {
                self.peer.send_bytes(&records);
            }
            bench.turn();
            self.receive();
            if !self.tls.wants_write() && !bench.engine.has_work() {
                return;
            }
        }
        panic!("endless exchange");
    }

    /// Returns and removes the frames that were received.
    pub(super) fn take_frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        server_frames(&std::mem::take(&mut self.received))
    }

    /// Ends rustls' part. Records are sealed by hand from here on.
    pub(super) fn into_sealer(self) -> (Peer, Sealer) {
        let secrets = self.tls.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets.tx else {
            panic!("another cipher");
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).unwrap();
        let sealer = Sealer {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
            is_tls13: true,
        };
        (self.peer, sealer)
    }
}

/// Seals any content as a record of the client, with ChaCha20-Poly1305.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    pub(super) is_tls13: bool,
}

impl Sealer {
    /// Returns a record with `padding` bytes of padding, which TLS 1.2 does not have.
    pub(super) fn seal(&mut self, content_type: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut sealed = content.to_vec();
        let (header, aad) = if self.is_tls13 {
            sealed.push(content_type);
            sealed.resize(sealed.len() + padding, 0);
            let len = (sealed.len() as u16 + 16).to_be_bytes();
            let header = vec![23, 3, 3, len[0], len[1]];
            (header.clone(), header)
        } else {
            let len = (content.len() as u16).to_be_bytes();
            let mut aad = self.sequence.to_be_bytes().to_vec();
            aad.extend([content_type, 3, 3, len[0], len[1]]);
            let len = (content.len() as u16 + 16).to_be_bytes();
            (vec![content_type, 3, 3, len[0], len[1]], aad)
        };
        self.sequence += 1;
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
            .unwrap();
        [header, sealed].concat()
    }
}

pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Maximum turns until neither side sends anything: enough for some megabytes.
const EXCHANGES_MAX: usize = 10_000;
