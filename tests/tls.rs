//! Tests the server with TLS over real sockets, with a client of rustls.

mod common;

use common::{KIB, MIB, WAIT, run};
use rustls::pki_types::PrivateKeyDer;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message as Sent, WebSocket};
use wsloop::handlers::Echo;
use wsloop::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
};
use wsloop::{Config, Handler, Server, Tls};

type Client = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

/// A certificate for `localhost`, and the configurations of a server that has it and of a client that trusts it.
struct Pair {
    server: ServerConfig,
    client: ClientConfig,
}

fn pair(versions: &[&'static rustls::SupportedProtocolVersion]) -> Pair {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Pair { server, client }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

fn serve(pair: &Pair, config: Config, handler: impl Handler + Send + 'static) -> common::Running {
    let mut server = Server::new(config, handler).unwrap();
    let tls = Tls::from_config(Arc::new(pair.server.clone()));
    server.listen_tls("127.0.0.1:0", &tls).unwrap();
    run(server)
}

fn tls_to(pair: &Pair, addr: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(pair.client.clone()), name).unwrap();
    StreamOwned::new(connection, socket)
}

fn connect(pair: &Pair, addr: SocketAddr) -> Client {
    let mut config = WebSocketConfig::default();
    config.max_frame_size = None;
    config.max_message_size = None;
    let (client, _) =
        client_with_config("wss://localhost/", tls_to(pair, addr), Some(config)).unwrap();
    client
}

#[test]
fn messages_of_all_sizes_are_echoed_in_both_versions() {
    for version in VERSIONS {
        let pair = pair(&[version]);
        let server = serve(&pair, Config::default(), Echo::new());
        let mut client = connect(&pair, server.addr);
        for len in [
            0,
            1,
            125,
            126,
            1000,
            16 * KIB - 4,
            16 * KIB,
            64 * KIB,
            100_000,
            MIB,
            9 * MIB,
        ] {
            let message = Sent::binary(vec![len as u8; len]);
            client.send(message.clone()).unwrap();
            assert_eq!(client.read().unwrap(), message, "{len} {version:?}");
        }
        client.close(None).unwrap();
        while client.read().is_ok() {}
    }
}

/// The client sends records of 32 bytes, so that a read of the socket returns more records than one call opens. Bytes that
/// arrive before the last of these records is opened must be read, although their event has been handled.
#[test]
fn a_message_in_tiny_records_is_received_to_its_end_while_others_are_served() {
    for version in VERSIONS {
        let mut pair = pair(&[version]);
        let server = serve(&pair, Config::default(), Echo::new());
        let mut other = connect(&pair, server.addr);
        pair.client.max_fragment_size = Some(32);
        let mut client = connect(&pair, server.addr);
        let message = Sent::binary(vec![7; MIB]);
        let expected = message.clone();
        let echoed = std::thread::spawn(move || {
            client.send(message).unwrap();
            assert!(client.read().unwrap() == expected, "{version:?}");
        });
        while !echoed.is_finished() {
            other.send(Sent::text("how long?")).unwrap();
            assert_eq!(other.read().unwrap(), Sent::text("how long?"));
        }
        echoed.join().unwrap();
    }
}
