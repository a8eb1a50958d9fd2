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
use wsloop::{
    ClientCertificates, Config, Context, Handler, HttpResponse, Id, Message, Request, Server, Tls,
    Upgrade,
};

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

/// Answers each message with what is known about TLS, in `on_upgrade` and now.
#[derive(Default)]
struct Describer {
    in_upgrade: String,
}

impl Handler for Describer {
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_>,
        id: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        self.in_upgrade = described(cx, id);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        let text = format!("{} {}", self.in_upgrade, described(cx, id));
        let _ = cx.send(id, &text);
    }
}

fn described(cx: &Context<'_>, id: Id) -> String {
    let Some(tls) = cx.tls(id) else {
        return "plain".to_owned();
    };
    let chain = tls.client_certificates().unwrap_or_default();
    let lens: Vec<_> = chain.iter().map(|certificate| certificate.len()).collect();
    format!(
        "{:?}/{:?}/{:?}/{}/{lens:?}",
        tls.version().unwrap(),
        tls.cipher_suite().unwrap().suite(),
        tls.server_name(),
        tls.is_resumed()
    )
}

#[test]
fn a_handler_learns_the_version_the_name_and_the_certificates_of_the_client() {
    let signed = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let own = signed("localhost");
    // rustls accepts a certificate that is its own authority.
    let device = signed("device");
    let tls = Tls::builder()
        .certificate_pem(own.cert.pem(), own.signing_key.serialize_pem())
        .client_ca_pem(device.cert.pem(), ClientCertificates::Optional)
        .build()
        .unwrap();
    let mut server = Server::new(Config::default(), Describer::default()).unwrap();
    server.listen_tls("127.0.0.1:0", &tls).unwrap();
    let server = run(server);
    let describe = |client: &Arc<ClientConfig>, name: &'static str| {
        let socket = TcpStream::connect(server.addr).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let connection = ClientConnection::new(Arc::clone(client), name.try_into().unwrap());
        let stream = StreamOwned::new(connection.unwrap(), socket);
        let (mut client, _) = tungstenite::client(format!("wss://{name}/"), stream).unwrap();
        client.send(Sent::text("?")).unwrap();
        client.read().unwrap().into_text().unwrap().to_string()
    };
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    for version in VERSIONS {
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone());
        let anonymous = Arc::new(builder.clone().with_no_client_auth());
        let key = PrivateKeyDer::try_from(device.signing_key.serialize_der()).unwrap();
        let chain = vec![device.cert.der().clone()];
        let known = Arc::new(builder.with_client_auth_cert(chain, key).unwrap());
        let suite = match version.version {
            rustls::ProtocolVersion::TLSv1_3 => "TLS13_AES_256_GCM_SHA384",
            _ => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        };
        let len = device.cert.der().len();
        for (client, lens) in [(&anonymous, "[]".to_owned()), (&known, format!("[{len}]"))] {
            for is_resumed in [false, true] {
                let one = format!(
                    "{:?}/{suite}/Some(\"localhost\")/{is_resumed}/{lens}",
                    version.version
                );
                assert_eq!(describe(client, "LocalHost"), format!("{one} {one}"));
            }
        }
    }
    let plain = common::serve(Config::default(), Describer::default());
    let mut client = common::connect(plain.addr, "/");
    client.send(Sent::text("?")).unwrap();
    assert_eq!(client.read().unwrap(), Sent::text("plain plain"));
}
