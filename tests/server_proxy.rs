//! Clients behind proxies, over sockets: trusted headers, the PROXY protocol, and the limits per address.

#![cfg(feature = "client-addresses")]

mod common;

use common::{Raw, TEXT, close_frame, frame, serve, upgrade_request};
use std::net::SocketAddr;
use wsloop::{Config, Context, Handler, Id, Message};

/// Answers every message with the client's address.
struct ClientAddress;

impl Handler for ClientAddress {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        let client = cx.peer_addr(id);
        let client = client.map_or("none".to_owned(), |addr| addr.to_string());
        let _ = cx.send(id, &client);
    }
}

/// Returns an opening handshake with another header line.
fn request_with(line: &str) -> String {
    upgrade_request("/").replacen("\r\n", &format!("\r\n{line}\r\n"), 1)
}

/// Sends `bytes` and returns the status of the response.
fn status(addr: SocketAddr, bytes: &str) -> (Raw, u16) {
    let mut client = Raw::new(addr);
    client.send(bytes);
    let status = client.response_head().status;
    (client, status)
}

/// Asks an open session for the client's address.
fn client_of(session: &mut Raw) -> String {
    session.send(frame(TEXT, b"?"));
    String::from_utf8(session.frame().1).unwrap()
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let config = Config {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        connections_per_address_max: Some(1),
        ..Config::default()
    };
    let server = serve(config, ClientAddress);
    let first = request_with("X-Forwarded-For: 198.51.100.9, 192.0.2.1:7, 127.0.0.2");
    let (mut session, code) = status(server.addr, &first);
    assert_eq!(
        (code, client_of(&mut session).as_str()),
        (101, "192.0.2.1:7")
    );
    assert_eq!(status(server.addr, &first).1, 503);
    let second = request_with("X-Forwarded-For: 2001:db8::1");
    let (mut other, code) = status(server.addr, &second);
    assert_eq!(
        (code, client_of(&mut other).as_str()),
        (101, "[2001:db8::1]:0")
    );
    session.send(close_frame(1000, ""));
    session.close_frame();
    drop(session);
    common::eventually(|| status(server.addr, &first).1 == 101);
}

#[test]
fn connections_above_the_limits_of_their_address_are_refused() {
    let config = Config {
        connections_per_address_max: Some(2),
        ..Config::default()
    };
    let server = serve(config, ClientAddress);
    let sessions = [(); 2].map(|()| Raw::open(server.addr, "/"));
    for _ in 0..30 {
        let mut refused = Raw::new(server.addr);
        assert_eq!(refused.response().status, 503);
        refused.expect_end_or_reset();
    }
    drop(sessions);
    common::eventually(|| status(server.addr, &upgrade_request("/")).1 == 101);

    let config = Config {
        handshakes_per_address_max: Some(3),
        ..Config::default()
    };
    let server = serve(config, ClientAddress);
    let statuses = [(); 4].map(|()| status(server.addr, &upgrade_request("/")).1);
    assert_eq!(statuses, [101, 101, 101, 429]);
    let refused = Raw::new(server.addr).response();
    assert_eq!(refused.header("retry-after"), Some("1"));
    common::eventually(|| status(server.addr, &upgrade_request("/")).1 == 101);
}

#[cfg(feature = "proxy-protocol")]
mod proxy_protocol {
    use super::*;
    use common::unix::TempPath;
    use common::{WAIT, run, tcp};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;
    use wsloop::{ListenOptions, Server};

    const V1: &str = "PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n";

    #[test]
    fn connections_of_a_marked_listener_begin_with_a_header() {
        let path = TempPath::new("proxy");
        let options = ListenOptions::new().proxy_protocol();
        let mut server = Server::new(Config::default(), ClientAddress).unwrap();
        let plain = server.listen("127.0.0.1:0").unwrap();
        let marked = server.listen_with("127.0.0.1:0", &options).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let marked_too = server.listen_on_with(socket, &options).unwrap();
        let socket = UnixListener::bind(&path.0).unwrap();
        server.listen_on_unix_with(socket, &options).unwrap();
        let server = run(server);
        assert_eq!(server.addr, plain);

        for addr in [marked, marked_too] {
            let (mut session, code) = status(addr, &format!("{V1}{}", upgrade_request("/")));
            assert_eq!(
                (code, client_of(&mut session).as_str()),
                (101, "192.0.2.1:4660")
            );
            let mut without = Raw::new(addr);
            without.send(upgrade_request("/"));
            without.expect_end_or_reset();
        }
        let (mut session, _) = status(plain, &upgrade_request("/"));
        assert!(client_of(&mut session).starts_with("127.0.0.1:"));
        assert_eq!(
            status(plain, &format!("{V1}{}", upgrade_request("/"))).1,
            400
        );

        let mut over_unix = UnixStream::connect(&path.0).unwrap();
        over_unix.set_read_timeout(Some(WAIT)).unwrap();
        let request = format!("{V1}{}", upgrade_request("/"));
        over_unix.write_all(request.as_bytes()).unwrap();
        over_unix.write_all(&frame(TEXT, b"?")).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"192.0.2.1:4660") {
            let mut bytes = [0; 1024];
            let len = over_unix.read(&mut bytes).unwrap();
            assert_ne!(len, 0, "{}", answer.escape_ascii());
            answer.extend_from_slice(&bytes[..len]);
        }
    }

    #[test]
    fn a_header_may_arrive_byte_by_byte() {
        let options = ListenOptions::new().proxy_protocol();
        let mut server = Server::new(Config::default(), ClientAddress).unwrap();
        let marked = server.listen_with("127.0.0.1:0", &options).unwrap();
        let _server = run(server);
        let mut session = Raw(tcp(marked));
        for byte in V1.bytes() {
            session.send([byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        session.send(upgrade_request("/"));
        assert_eq!(session.response_head().status, 101);
        assert_eq!(client_of(&mut session), "192.0.2.1:4660");
    }
}
