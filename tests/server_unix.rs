//! Tests of [`Server::listen_on_unix`]: a server on a Unix socket, embedded in a program.

#![cfg(unix)]

mod common;

use common::unix::TempPath;
use common::{Raw, WAIT, http};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
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

/// A read from a Unix socket stops after the bytes that were sent together with a descriptor (`SCM_RIGHTS`), even if
/// more bytes are queued. The server must read those as well, and must not retain the descriptor. The client is a
/// Python program, because no safe function of the standard library sends a descriptor.
#[test]
fn a_descriptor_from_a_client_is_discarded_and_the_bytes_after_it_are_read() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: it needs python3 to send a descriptor");
        return;
    }
    let path = TempPath::new("descriptor");
    let (pause_sender, pause) = mpsc::channel();
    let (resume, resumed) = mpsc::channel();
    // Blocks the loop in the middle of a turn until the client has sent everything.
    let handler = wsloop::handler_fn(move |cx, id, message| {
        if message.as_text() == Some("pause") {
            pause_sender.send(()).unwrap();
            resumed.recv_timeout(WAIT).unwrap();
        } else {
            let _ = cx.send(id, message);
        }
    });
    let mut server = Server::new(Config::default(), handler).unwrap();
    server
        .listen_on_unix(UnixListener::bind(&path.0).unwrap())
        .unwrap();
    let (handle, end) = run(server);

    let mut client = Command::new("python3")
        .args(["-c", DESCRIPTOR_CLIENT])
        .arg(&path.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut stdin = client.stdin.take().unwrap();
    pause.recv_timeout(WAIT).unwrap();
    stdin.write_all(b"send\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "sent");
    resume.send(()).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "echoed");
    assert_eq!(lines.next().unwrap().unwrap(), "dropped");
    assert!(client.wait().unwrap().success());
    handle.stop().unwrap();
    end.recv_timeout(WAIT).unwrap().unwrap();
}

/// Sends a message in two halves, and a descriptor with the first one: the writing end of a pipe. The reading end
/// reports the end of the file once no process has the writing end open.
const DESCRIPTOR_CLIENT: &str = r#"
import array, os, select, socket, sys

client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
client.connect(sys.argv[1])
client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    answer += client.recv(1)
client.sendall(b"\x81\x85\0\0\0\0pause")
sys.stdin.readline()

reading, writing = os.pipe()
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))]
client.sendmsg([b"\x81\x86\0\0\0\0hal"], rights)
client.sendall(b"ves")
os.close(writing)
print("sent", flush=True)

echo = b""
while len(echo) < 8:
    echo += client.recv(8)
print("echoed" if echo == b"\x81\x06halves" else echo, flush=True)
is_at_end = select.select([reading], [], [], 5)[0] and os.read(reading, 1) == b""
print("dropped" if is_at_end else "retained", flush=True)
"#;
