//! The target for TLS: a [`Server`] on loopback, and rustls' client, whose records the fuzzer's bytes alter, repeat, omit
//! and precede by others, in the handshake and after it. Server and client run on one thread.
//!
//! Whatever the client sends, the messages that the handler receives are the first of those that the client sealed: none
//! is altered, repeated or invented. Without an alteration, all of them arrive, and all answers.

use crate::input::Cursor;
use crate::wire::{self, BINARY};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wsloop::proto::Role;
use wsloop::{Close, Config, Context, Handler, Id, ListenOptions, Message, Server, Tls, rustls};

/// Runs the scenario that `data` encodes.
pub fn tls(data: &[u8]) {
    let mut cursor = Cursor(data);
    let settings = cursor.byte();
    let version = [&version::TLS12, &version::TLS13][usize::from(settings & 1)];
    let receive_buffer_bytes = [80 * 1024, 1024][usize::from(settings >> 1 & 1)];
    let mut scenario = Scenario::new(version, receive_buffer_bytes);
    if settings & 4 != 0 {
        scenario.exchange();
    }
    let mut steps = 0;
    while !cursor.is_empty() && steps < STEPS_MAX {
        scenario.step(&mut cursor);
        steps += 1;
    }
    scenario.end();
}

struct Scenario {
    server: Server<Recorder>,
    client: ClientConnection,
    stream: TcpStream,
    /// Records that the client has sealed and not sent.
    records: Vec<u8>,
    /// Messages that the client has sealed, or will after the handshake.
    sent: Vec<Vec<u8>>,
    /// Bytes that the client has opened.
    received: Vec<u8>,
    /// The client's records were altered, or it has ended its direction.
    is_altered: bool,
    /// The client has found an error, or the end of the stream.
    is_over: bool,
}

impl Scenario {
    fn new(version: &'static SupportedProtocolVersion, receive_buffer_bytes: usize) -> Self {
        let config = Config {
            receive_buffer_bytes,
            handshake_timeout: DAY,
            idle_timeout: None,
            close_timeout: DAY,
            write_timeout: DAY,
            shutdown_grace: DAY,
            ..Config::default()
        };
        let mut server = Server::new(config, Recorder::default()).expect("the limits make sense");
        let options = ListenOptions::new().tls(&server_tls());
        let (listener, address) = listener();
        server
            .listen_on_with(listener, &options)
            .expect("a listening socket");
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nonblocking(true).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(client_config(version), name).expect("a client");
        client.set_buffer_limit(None);
        let mut scenario = Self {
            server,
            client,
            stream,
            records: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
            is_altered: false,
            is_over: false,
        };
        scenario.seal(&wire_request());
        scenario
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let (what, argument) = (cursor.byte(), usize::from(cursor.byte()));
        let at = |len: usize| argument * len.div_ceil(256) % len.max(1);
        match what % 12 {
            0 | 1 => {
                let len = argument * [1, 1, 10, 200][usize::from(what >> 6)];
                let payload: Vec<u8> = (0..len).map(|at| (at + self.sent.len()) as u8).collect();
                self.seal(&wire::peers_frame(0x80 | BINARY, &payload, Role::Server));
                self.sent.push(payload);
            }
            2 => {
                if !self.client.is_handshaking() && !self.is_over {
                    let _ = self.client.refresh_traffic_keys();
                    self.take_records();
                }
            }
            3 => {
                let index = at(self.records.len());
                if let Some(byte) = self.records.get_mut(index) {
                    *byte ^= 1 << (what >> 4 & 7);
                    self.is_altered = true;
                }
            }
            4 => {
                let start = at(self.records.len());
                let end = (start + usize::from(cursor.byte())).min(self.records.len());
                self.is_altered |= start < end;
                self.records.drain(start..end);
            }
            5 => {
                let repeated = self.records.clone();
                self.is_altered |= !repeated.is_empty();
                self.records.extend(repeated);
            }
            6 => {
                let start = at(self.records.len());
                let bytes = cursor.bytes(argument % 64).to_vec();
                self.is_altered |= !bytes.is_empty();
                self.records.splice(start..start, bytes);
            }
            7 => {
                // A record of the client's choice, which is not sealed.
                let bytes = cursor.bytes(argument % 64);
                let len = (bytes.len() as u16).to_be_bytes();
                self.records
                    .extend([20 + (what >> 4), 3, 3, len[0], len[1]]);
                self.records.extend(bytes);
                self.is_altered = true;
            }
            8 => {
                let end = at(self.records.len());
                self.send(end);
                self.turn();
            }
            9 | 10 => self.exchange(),
            _ => {
                if what & 0x80 != 0 && !self.client.is_handshaking() {
                    self.client.send_close_notify();
                    self.take_records();
                    self.is_altered = true;
                }
                self.turn();
            }
        }
    }

    fn seal(&mut self, plain: &[u8]) {
        if !self.is_over {
            self.client
                .writer()
                .write_all(plain)
                .expect("there is no limit");
            self.take_records();
        }
    }

    fn take_records(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.records).expect("a vector");
        }
    }

    /// Sends the first `len` bytes of the records.
    fn send(&mut self, len: usize) {
        let mut rest: Vec<u8> = self.records.drain(..len).collect();
        for _ in 0..WRITES_MAX {
            match self.stream.write(&rest) {
                _ if rest.is_empty() => return,
                Ok(len) => drop(rest.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                // The server has closed the connection.
                Err(_) => return,
            }
            self.receive();
        }
        panic!("the server reads nothing");
    }

    fn turn(&mut self) {
        let _ = self.server.turn(Some(Duration::ZERO)).expect("a poll");
    }

    fn receive(&mut self) {
        let mut buf = [0; 16 * 1024];
        loop {
            let len = match self.stream.read(&mut buf) {
                Ok(0) => {
                    self.is_over = true;
                    return;
                }
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_over = true;
                    return;
                }
            };
            let mut sealed = &buf[..len];
            while !sealed.is_empty() && !self.is_over {
                if self.client.read_tls(&mut sealed).expect("a slice") == 0 {
                    return;
                }
                match self.client.process_new_packets() {
                    Ok(state) => {
                        let start = self.received.len();
                        let len = state.plaintext_bytes_to_read();
                        self.received.resize(start + len, 0);
                        let read = self.client.reader().read_exact(&mut self.received[start..]);
                        read.expect("as many as rustls has announced");
                    }
                    Err(error) => {
                        assert!(self.is_altered, "{error}");
                        self.is_over = true;
                    }
                }
            }
        }
    }

    /// Sends everything, and receives the answers.
    fn exchange(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET_TURNS {
            let before = self.received.len();
            self.take_records();
            let len = self.records.len();
            self.send(len);
            self.turn();
            self.receive();
            let is_quiet = self.received.len() == before
                && self.server.next_timeout() != Some(Duration::ZERO)
                && !self.client.wants_write();
            quiet = if is_quiet { quiet + 1 } else { 0 };
        }
    }

    fn end(mut self) {
        self.exchange();
        let received = &self.server.handler().messages;
        assert!(
            self.sent.starts_with(received),
            "messages that the client did not send"
        );
        if !self.is_altered {
            assert_eq!(received.len(), self.sent.len(), "all messages arrive");
            let head = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            let answers: Vec<u8> = self
                .sent
                .iter()
                .flat_map(|payload| wire::peers_frame(0x80 | BINARY, payload, Role::Client))
                .collect();
            let frames = &self.received[head.expect("a response") + 4..];
            assert!(frames == answers, "all answers arrive");
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        for _ in 0..TURNS_MAX {
            self.turn();
            self.receive();
            if self.server.count() == 0 && self.is_over {
                break;
            }
        }
        assert_eq!(self.server.count(), 0, "the session ends with the stream");
        let Recorder { opened, closed, .. } = self.server.handler();
        assert_eq!(opened, closed);
    }
}

/// Echoes and records messages.
#[derive(Default)]
struct Recorder {
    messages: Vec<Vec<u8>>,
    opened: usize,
    closed: usize,
}

impl Handler for Recorder {
    fn on_open(&mut self, _: &mut Context<'_>, _: Id) {
        self.opened += 1;
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.messages.push(message.as_bytes().to_vec());
        let _ = cx.send(id, message);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Id, _: &Close<'_>) {
        self.closed += 1;
    }
}

fn wire_request() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .to_vec()
}

/// Returns a listening socket that all scenarios share, so that the system does not run out of ports.
fn listener() -> (TcpListener, SocketAddr) {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket option");
        listener
    });
    // Discards connections of the previous scenario that its server did not accept.
    while listener.accept().is_ok() {}
    let address = listener.local_addr().expect("an address");
    (listener.try_clone().expect("a descriptor"), address)
}

/// Returns the certificate and the key of the server: Ed25519, made by openssl for `localhost`.
fn certificate() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let certificate = include_bytes!("tls_certificate.der");
    let key = include_bytes!("tls_key.der");
    (
        CertificateDer::from(&certificate[..]),
        PrivatePkcs8KeyDer::from(&key[..]),
    )
}

fn server_tls() -> Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    let make = || {
        let (certificate, key) = certificate();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS12, &version::TLS13])
            .expect("the provider has both")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .expect("a pair");
        Tls::from_config(Arc::new(config))
    };
    TLS.get_or_init(make).clone()
}

fn client_config(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate().0).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("the provider has it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Maximum steps of a scenario.
const STEPS_MAX: usize = 200;

/// Number of turns without bytes after which both sides wait.
const QUIET_TURNS: usize = 3;

/// Maximum attempts to write what the client sends.
const WRITES_MAX: usize = 100_000;

/// Maximum turns until the session ends after the end of the stream.
const TURNS_MAX: usize = 2_000;
