//! Tests of [`Server::listen_on_unix`]: a server on a Unix socket, embedded in a program.

mod common;

use common::unix::TempPath;
use common::{Raw, WAIT, http};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use tungstenite::Message as Sent;
use wsloop::{Config, Context, Handle, Handler, HttpResponse, Id, Message, Request, Server};

/// Answers every message with the peer address of its session.
struct PeerAddress;

impl Handler for PeerAddress {
    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
        let peer = format!("{:?}", cx.peer_addr(id));
        let _ = cx.send(id, &peer);
    }

    fn on_http(&mut self, _: &mut Context<'_>, _: Id, _: &Request) -> HttpResponse {
        HttpResponse::new(200, "a page\n")
    }
}

/// Runs a server on a thread. Returns its handle and a receiver of the result of `Server::run`.
fn run(
    mut server: Server<impl Handler + Send + 'static>,
) -> (Handle, mpsc::Receiver<std::io::Result<()>>) {
    let handle = server.handle();
    let (end_sender, end) = mpsc::channel();
    thread::spawn(move || end_sender.send(server.run()));
    (handle, end)
}

#[test]
fn websockets_and_http_are_served_beside_tcp() {
    let path = TempPath::new("both");
    let mut server = Server::new(Config::default(), PeerAddress).unwrap();
    server
        .listen_on_unix(UnixListener::bind(&path.0).unwrap())
        .unwrap();
    let tcp = server.listen("127.0.0.1:0").unwrap();
    assert_eq!(server.local_addrs().collect::<Vec<_>>(), [tcp]);
    let (handle, end) = run(server);

    let mut client = path.connect();
    client.send(Sent::text("address?")).unwrap();
    assert_eq!(client.read().unwrap(), Sent::text("None"));
    let mut over_tcp = Raw::open(tcp, "/");
    let own = over_tcp.0.local_addr().unwrap();
    over_tcp.send(common::frame(common::TEXT, b"address?"));
    assert_eq!(over_tcp.frame().1, format!("Some({own})").as_bytes());

    let request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
    let answer = path.http(request);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("a page\n"), "{answer}");
    assert_eq!(http(tcp, request).body, "a page\n");

    handle.stop().unwrap();
    let Sent::Close(Some(close)) = client.read().unwrap() else {
        panic!("a Close was expected");
    };
    assert_eq!(u16::from(close.code), 1001);
    assert!(client.read().is_err());
    assert_eq!(over_tcp.close_frame().0, 1001);
    drop((client, over_tcp));
    end.recv_timeout(WAIT).unwrap().unwrap();
}

#[test]
fn a_message_larger_than_the_socket_buffers_is_echoed() {
    let path = TempPath::new("large");
    let mut server = Server::new(Config::default(), wsloop::handlers::Echo::new()).unwrap();
    server
        .listen_on_unix(UnixListener::bind(&path.0).unwrap())
        .unwrap();
    let (handle, end) = run(server);
    let mut client = path.connect();
    let large = common::noise(8 * common::MIB);
    client.send(Sent::binary(large.clone())).unwrap();
    assert!(client.read().unwrap() == Sent::binary(large));
    drop(client);
    handle.stop().unwrap();
    end.recv_timeout(WAIT).unwrap().unwrap();
}
