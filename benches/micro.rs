//! Micro-benchmarks of the protocol core (frame headers, unmasking, UTF-8, opening handshakes, messages) and of turns of
//! the event loop over loopback sockets.
//!
//!     cargo bench --features internals --bench micro [-- FILTER]
//!
//! The times of turns include the system calls, and the clients' reads.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use wsloop::handlers::{Broadcast, Echo};
use wsloop::proto::{Connection, Event, HeadLimits, Limits, internals};
use wsloop::{Config, Handler, Message, Server, Turn, Upgrade};

fn main() {
    divan::main();
}

const KIB: usize = 1024;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Returns a masked text frame with `len` bytes of ASCII.
fn text_frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=65_535 => {
            frame.push(0xFE);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xFF);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let mut payload = vec![b'x'; len];
    internals::unmask(&mut payload, MASK);
    frame.extend(payload);
    frame
}

#[divan::bench(args = [20, 1000, 100_000])]
fn header_decode(bencher: Bencher<'_, '_>, payload: usize) {
    let frame = text_frame(payload);
    bencher.bench(|| internals::decode_header(black_box(&frame)));
}

#[divan::bench(args = [20, KIB, 64 * KIB, 1024 * KIB])]
fn unmask(bencher: Bencher<'_, '_>, len: usize) {
    let mut payload = vec![b'x'; len];
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| internals::unmask(black_box(&mut payload), MASK));
}

#[divan::bench(args = [20, KIB, 64 * KIB, 1024 * KIB])]
fn utf8_ascii(bencher: Bencher<'_, '_>, len: usize) {
    check_utf8(bencher, "x", len);
}

#[divan::bench(args = [20, KIB, 64 * KIB, 1024 * KIB])]
fn utf8_greek(bencher: Bencher<'_, '_>, len: usize) {
    check_utf8(bencher, "\u{03BB}", len);
}

fn check_utf8(bencher: Bencher<'_, '_>, character: &str, len: usize) {
    let text = character.repeat(len / character.len());
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| assert!(internals::check_utf8(black_box(text.as_bytes()))));
}

const LIMITS: Limits = Limits {
    message_bytes_max: 16 << 20,
    fragments_max: 1 << 17,
    head: HeadLimits {
        head_bytes_max: 16 * KIB,
        headers_max: 100,
    },
};

/// Receives 64 KiB of messages of `len` bytes, at least one message, in pieces of 80 KiB, the size of the server's receive
/// buffer. All messages but the one of 1 MiB arrive in one piece.
#[divan::bench(args = [20, KIB, 64 * KIB, 1024 * KIB])]
fn receive(bencher: Bencher<'_, '_>, len: usize) {
    let frame = text_frame(len);
    let count = (64 * KIB / frame.len()).max(1);
    let stream = frame.repeat(count);
    let mut connection = Connection::server_open();
    let mut out = Vec::new();
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| stream.clone())
        .bench_local_refs(|stream| {
            let mut received = 0;
            for piece in stream.chunks_mut(80 * KIB) {
                let mut input = piece;
                while let Some(event) = connection
                    .receive(&mut input, &LIMITS, &mut out)
                    .expect("it is well-formed")
                {
                    received += usize::from(matches!(event, Event::Message(_)));
                }
            }
            assert_eq!(received, count);
        });
}

/// Parses and answers an opening handshake with additional header fields. The cases other than "" and "browser"
/// have fields of 12 to 16 KB, close to the maximum size of a head. The server accepts or refuses the request.
#[divan::bench(args = ["", "browser", "subprotocols", "extensions", "connection", "headers"])]
fn opening(bencher: Bencher<'_, '_>, fields: &str) {
    let request = request_with(&match fields {
        "browser" => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                      Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://example.com\r\n\
                      User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n\
                      Accept-Encoding: gzip, deflate\r\nAccept-Language: en\r\nCache-Control: no-cache\r\n"
            .to_owned(),
        "subprotocols" => {
            let names: Vec<String> = (0..3000).map(|number| format!("{number:x}")).collect();
            format!("Sec-WebSocket-Protocol: {}\r\n", names.join(","))
        }
        "extensions" => format!("Sec-WebSocket-Extensions: a{}\r\n", ",a".repeat(7900)),
        "connection" => format!("Connection: a{}\r\n", ",a".repeat(7900)),
        "headers" => format!("X-Header: {}\r\n", "x".repeat(145)).repeat(95),
        _ => String::new(),
    });
    bencher
        .with_inputs(|| request.clone())
        .bench_local_refs(|request| {
            let (mut connection, mut out) = (Connection::server(), Vec::new());
            if let Ok(event) = connection.receive(&mut &mut request[..], &LIMITS, &mut out) {
                let Some(Event::Request(request)) = event else {
                    panic!("the request is incomplete");
                };
                let upgrade = Upgrade::new(&request);
                connection
                    .accept(&request, &upgrade, &mut out)
                    .expect("an unchanged 101 is valid");
            }
            assert!(out.starts_with(b"HTTP/1.1 "));
        });
}

fn request_with(fields: &str) -> Vec<u8> {
    format!(
        "GET /chat HTTP/1.1\r\nHost: x\r\n{fields}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// A server that runs on the calling thread, and connected clients.
struct Scene<H: Handler> {
    server: Server<H>,
    clients: Vec<TcpStream>,
}

impl<H: Handler> Scene<H> {
    fn new(handler: H, clients: usize) -> Self {
        let mut server = Server::new(Config::default(), handler).expect("the defaults make sense");
        let addr = server.listen("127.0.0.1:0").expect("loopback has a port");
        let clients = (0..clients).map(|_| connect(&mut server, addr)).collect();
        Self { server, clients }
    }
}

fn turn<H: Handler>(server: &mut Server<H>) {
    let turn = server.turn(Some(Duration::ZERO)).expect("a turn");
    assert_eq!(turn, Turn::Running);
}

fn connect<H: Handler>(server: &mut Server<H>, addr: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(addr).expect("the backlog is not full");
    client.set_nodelay(true).expect("a socket option");
    client
        .write_all(&request_with(""))
        .expect("the socket is empty");
    client.set_nonblocking(true).expect("a socket option");
    let mut answer = [0; 1024];
    let mut len = 0;
    while !answer[..len].ends_with(b"\r\n\r\n") {
        turn(server);
        len += client.read(&mut answer[len..]).unwrap_or(0);
    }
    client.set_nonblocking(false).expect("a socket option");
    client
}

/// Reads `len` bytes from each client.
fn read(clients: &mut [TcpStream], len: usize) {
    let mut bytes = vec![0; len];
    for client in clients {
        client
            .read_exact(&mut bytes)
            .expect("the server has sent these bytes");
    }
}

/// Runs a turn in which `ready` of 100 sessions echo a message of 20 bytes. Includes the clients' writes and reads.
#[divan::bench(args = [1, 10, 100])]
fn turn_with_ready_sessions(bencher: Bencher<'_, '_>, ready: usize) {
    let mut scene = Scene::new(Echo::new(), 100);
    let frame = text_frame(20);
    bencher.counter(ItemsCount::new(ready)).bench_local(|| {
        for client in &mut scene.clients[..ready] {
            client.write_all(&frame).expect("the socket is empty");
        }
        turn(&mut scene.server);
        read(&mut scene.clients[..ready], 22);
    });
}

/// Publishes one message of 64 bytes to `members` sessions and runs the turns that send it. Includes the clients' reads.
#[divan::bench(args = [1, 10, 100, 1000])]
fn publish_to_members(bencher: Bencher<'_, '_>, members: usize) {
    let mut scene = Scene::new(Broadcast, members);
    let payload = [b'x'; 64];
    bencher.counter(ItemsCount::new(members)).bench_local(|| {
        let message = Message::binary(&payload);
        let reached = scene.server.with_context(|cx| cx.publish("/chat", message));
        assert_eq!(reached, members);
        while scene.server.next_timeout() == Some(Duration::ZERO) {
            turn(&mut scene.server);
        }
        read(&mut scene.clients, 66);
    });
}
