//! Support for the tests with real sockets: a server on its own thread ([`serve`], [`Running`]), a record of the events
//! of its handler ([`watch`]), tungstenite's client ([`connect`]), and a client that writes bytes and reads frames
//! ([`Raw`]).
//!
//! Every wait is limited to [`WAIT`], which is far longer than any expected wait. So a test that hangs fails.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[cfg(feature = "serve")]
pub(crate) mod process;
#[cfg(feature = "tls-client")]
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod unix;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message as Sent, WebSocket};
use wsloop::{Close, Config, Context, Error, Handle, Handler, Id, Message, Server, Side};

/// Maximum time that a test waits for an event, a frame or a process.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// A timeout that a test configures and waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// A server that runs on its own thread and is stopped when this value is dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: Handle,
    /// The result of `Server::run`. Disconnected without a value if the server's thread panicked.
    end: Receiver<std::io::Result<()>>,
    has_ended: bool,
}

/// Runs a server on a free port of the loopback address.
pub(crate) fn serve(config: Config, handler: impl Handler + Send + 'static) -> Running {
    let mut server = Server::new(config, handler).unwrap();
    server.listen("127.0.0.1:0").unwrap();
    run(server)
}

/// As [`serve`], with a handler that is created on the server's thread and so need not be `Send`.
pub(crate) fn serve_made<H: Handler>(
    config: Config,
    make_handler: impl FnOnce() -> H + Send + 'static,
) -> Running {
    run_made(move || {
        let mut server = Server::new(config, make_handler()).unwrap();
        server.listen("127.0.0.1:0").unwrap();
        server
    })
}

/// Runs a server that already listens.
pub(crate) fn run(server: Server<impl Handler + Send + 'static>) -> Running {
    run_made(move || server)
}

/// Creates a server that already listens on a thread, and runs it there.
fn run_made<H: Handler>(make_server: impl FnOnce() -> Server<H> + Send + 'static) -> Running {
    let (start_sender, start) = mpsc::channel();
    let (end_sender, end) = mpsc::channel();
    thread::spawn(move || {
        let mut server = make_server();
        let addr = server.local_addrs().next().unwrap();
        start_sender.send((addr, server.handle())).unwrap();
        let result = server.run();
        drop(server);
        let _ = end_sender.send(result);
    });
    let (addr, handle) = start.recv_timeout(WAIT).expect("the server starts");
    Running {
        addr,
        handle,
        end,
        has_ended: false,
    }
}

impl Running {
    /// Waits until `Server::run` returns. The test must have stopped the server.
    pub(crate) fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        self.has_ended = true;
        match self.end.recv_timeout(WAIT) {
            Ok(result) => result.expect("polling does not fail"),
            Err(RecvTimeoutError::Timeout) => panic!("the server did not stop in time"),
            Err(RecvTimeoutError::Disconnected) => panic!("the server's thread panicked"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a panic of the test, a second panic would abort the process.
        if self.has_ended || thread::panicking() {
            let _ = self.handle.stop();
            return;
        }
        // The first stop is graceful. The second one terminates all sessions at once.
        let _ = self.handle.stop();
        let _ = self.handle.stop();
        self.wait();
    }
}

/// An event of a handler, recorded by [`Watched`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Open(Id),
    Close(Id, End),
    Error(Option<Id>, String),
    Skip(Id, u64),
    Drain(Id),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// How a session ended: the fields of [`Close`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) is_clean: bool,
    pub(crate) by: Side,
}

pub(crate) fn end(code: u16, reason: &str, is_clean: bool, by: Side) -> End {
    End {
        code,
        reason: reason.to_owned(),
        is_clean,
        by,
    }
}

/// A handler that passes each event to `inner` and records those of [`Seen`].
pub(crate) struct Watched<H> {
    inner: H,
    events: Sender<Seen>,
}

/// The events that a [`Watched`] handler has recorded and the test has not read.
pub(crate) struct Events(Receiver<Seen>);

/// Returns a handler that records its events, and the receiver of the events.
pub(crate) fn watch<H>(inner: H) -> (Watched<H>, Events) {
    let (events, receiver) = mpsc::channel();
    (Watched { inner, events }, Events(receiver))
}

impl Events {
    /// Waits for the next event.
    pub(crate) fn next(&self) -> Seen {
        self.0.recv_timeout(WAIT).expect("no further event in time")
    }

    /// Reads events until `found` returns `Some`, and returns its value.
    pub(crate) fn find<T>(&self, found: impl Fn(&Seen) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(&self.next()) {
                return found;
            }
        }
    }

    /// Reads events until a session has ended, and returns how it ended.
    pub(crate) fn end(&self) -> End {
        self.find(|seen| match seen {
            Seen::Close(_, end) => Some(end.clone()),
            _ => None,
        })
    }

    /// Reads events until an error of a session or listener, and returns its text.
    pub(crate) fn error(&self) -> String {
        self.find(|seen| match seen {
            Seen::Error(_, error) => Some(error.clone()),
            _ => None,
        })
    }

    /// Reads all events recorded so far, without waiting. Returns the number of skipped messages in them.
    pub(crate) fn skipped(&self) -> u64 {
        let skips = self.0.try_iter().map(|seen| match seen {
            Seen::Skip(_, messages) => messages,
            _ => 0,
        });
        skips.sum()
    }

    /// Waits until the server has been dropped. Returns all unread events.
    pub(crate) fn rest(&self) -> Vec<Seen> {
        let mut rest = Vec::new();
        loop {
            match self.0.recv_timeout(WAIT) {
                Ok(seen) => rest.push(seen),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the server was not dropped in time"),
            }
        }
    }
}

impl<H> Watched<H> {
    fn record(&self, seen: Seen) {
        // Fails if the test has dropped its `Events`.
        let _ = self.events.send(seen);
    }
}

impl<H: Handler> Handler for Watched<H> {
    fn inner(&mut self) -> Option<&mut dyn Handler> {
        Some(&mut self.inner)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        self.inner.on_message(cx, id, message);
    }

    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        self.record(Seen::Open(id));
        self.inner.on_open(cx, id);
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.record(Seen::Ping(payload.to_owned()));
        self.inner.on_ping(cx, id, payload);
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, id: Id, payload: &[u8]) {
        self.record(Seen::Pong(payload.to_owned()));
        self.inner.on_pong(cx, id, payload);
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.record(Seen::Drain(id));
        self.inner.on_drain(cx, id);
    }

    fn on_skip(&mut self, cx: &mut Context<'_>, id: Id, topic: &str, messages: u64) {
        self.record(Seen::Skip(id, messages));
        self.inner.on_skip(cx, id, topic, messages);
    }

    fn on_close(&mut self, cx: &mut Context<'_>, id: Id, close: &Close<'_>) {
        let &Close {
            code,
            reason,
            is_clean,
            by,
            ..
        } = close;
        self.record(Seen::Close(id, end(code, reason, is_clean, by)));
        self.inner.on_close(cx, id, close);
    }

    fn on_error(&mut self, cx: &mut Context<'_>, id: Option<Id>, error: &Error) {
        self.record(Seen::Error(id, error.to_string()));
        self.inner.on_error(cx, id, error);
    }
}

/// Connects. Reads and writes of the stream fail after [`WAIT`].
pub(crate) fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Returns two connected sockets. The second one can be registered with a server's poll.
pub(crate) fn socket_pair() -> (TcpStream, mio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (source, _) = listener.accept().unwrap();
    source.set_nonblocking(true).unwrap();
    (ours, mio::net::TcpStream::from_std(source))
}

/// tungstenite's client.
pub(crate) type Client = WebSocket<TcpStream>;

/// Connects tungstenite's client. Panics if the opening handshake fails.
pub(crate) fn connect(addr: SocketAddr, path: &str) -> Client {
    try_connect(addr, path).unwrap()
}

/// Connects tungstenite's client, without limits on the size of messages.
pub(crate) fn try_connect(addr: SocketAddr, path: &str) -> tungstenite::Result<Client> {
    let config = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    let request = format!("ws://{addr}{path}");
    match tungstenite::client::client_with_config(request, tcp(addr), Some(config)) {
        Ok((client, _)) => Ok(client),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
        Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("the server did not answer"),
    }
}

/// Reads the next message, which must be a text. Panics if it is another message, or a ping, pong or Close.
pub(crate) fn text(client: &mut Client) -> String {
    match client.read().unwrap() {
        Sent::Text(text) => text.as_str().to_owned(),
        other => panic!("a text was expected, not {other:?}"),
    }
}

/// Sends a text and returns the next text that arrives. With an echo server this is also a barrier: when the echo
/// arrives, the server has read everything that other clients sent before this call. Those bytes arrived at its sockets
/// earlier, and the server reads the sockets in the order in which they became readable.
pub(crate) fn ask(client: &mut Client, question: &str) -> String {
    client.send(Sent::text(question)).unwrap();
    text(client)
}

/// Reads the next message, which must be a Close, answers it, and expects the end of the stream. Returns the code and
/// the reason.
pub(crate) fn closed(mut client: Client) -> (u16, String) {
    let Sent::Close(Some(frame)) = client.read().unwrap() else {
        panic!("a Close with a code was expected");
    };
    match client.read() {
        Err(tungstenite::Error::ConnectionClosed) => {}
        other => panic!("the end of the stream was expected, not {other:?}"),
    }
    (frame.code.into(), frame.reason.as_str().to_owned())
}

/// A client that writes any bytes and reads frames. It follows no rule of RFC 6455 by itself.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Connects and sends nothing.
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self(tcp(addr))
    }

    /// Connects and completes the opening handshake.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        let mut raw = Self::new(addr);
        raw.send(upgrade_request(path));
        assert_eq!(raw.response_head().status, 101);
        raw
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads the next frame, which must not be masked. Returns its first byte (FIN, RSV and opcode) and its payload.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.array();
        let len = match second {
            126 => usize::from(u16::from_be_bytes(self.array())),
            127 => usize::try_from(u64::from_be_bytes(self.array())).unwrap(),
            0..126 => usize::from(second),
            128.. => panic!("a server's frame is masked"),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).unwrap();
        (first, payload)
    }

    /// Reads the next frame, which must be a Close. Returns its code and reason. Sends no answer.
    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        let (first, payload) = self.frame();
        assert_eq!(first, CLOSE, "a Close was expected, not {payload:?}");
        let (code, reason) = payload.split_first_chunk().expect("a Close with a code");
        (
            u16::from_be_bytes(*code),
            String::from_utf8(reason.to_owned()).unwrap(),
        )
    }

    /// Expects the end of the stream, without further bytes and without a reset.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.0
            .read_to_end(&mut rest)
            .expect("an end and not a reset");
        assert!(
            rest.is_empty(),
            "{} unexpected bytes: {:?}..",
            rest.len(),
            &rest[..rest.len().min(32)]
        );
    }

    /// Expects that nothing arrives for `time`, and that the stream does not end.
    pub(crate) fn expect_silence(&mut self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
        let peeked = self.0.peek(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(peeked, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "{peeked:?}"
        );
        self.0.set_read_timeout(Some(WAIT)).unwrap();
    }

    /// Expects the end of the stream or a reset, without further bytes.
    pub(crate) fn expect_end_or_reset(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(rest, b"");
    }

    /// Ends this client's half of the stream (half-close).
    pub(crate) fn shut_write(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the head of a response: the status line and the headers.
    pub(crate) fn response_head(&mut self) -> Response {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.array::<1>());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .expect("an HTTP/1.1 response");
        Response {
            status: status[..3].parse().unwrap(),
            head,
            body: String::new(),
        }
    }

    /// Reads a complete response and expects the end of the stream after it.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.response_head();
        let len: usize = response
            .header("content-length")
            .expect("a length")
            .parse()
            .unwrap();
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).unwrap();
        response.body = String::from_utf8(body).unwrap();
        self.expect_end();
        response
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Returns the first value of a header. The case of `name` is ignored.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends a request and returns the complete response.
pub(crate) fn http(addr: SocketAddr, request: &str) -> Response {
    let mut raw = Raw::new(addr);
    raw.send(request);
    raw.response()
}

/// Returns an opening handshake with the key of the example in RFC 6455 section 1.3.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

// First bytes of frames: FIN and the opcode.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;

/// Returns a masked frame. `first` is its first byte: FIN, RSV and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_header(first, payload.len() as u64);
    // Masks eight bytes at a time, because tests are built with little optimization.
    let key = [KEY, KEY].concat();
    let key: [u8; 8] = key.try_into().expect("twice four bytes");
    let (eights, rest) = payload.as_chunks();
    for eight in eights {
        let masked = u64::from_ne_bytes(*eight) ^ u64::from_ne_bytes(key);
        frame.extend(masked.to_ne_bytes());
    }
    frame.extend(rest.iter().zip(key).map(|(byte, key)| byte ^ key));
    frame
}

const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Returns the header of a masked frame, including the masking key.
pub(crate) fn frame_header(first: u8, len: u64) -> Vec<u8> {
    let mut header = vec![first];
    match len {
        0..126 => header.push(0x80 | len as u8),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend((len as u16).to_be_bytes());
        }
        0x1_0000.. => {
            header.push(0x80 | 127);
            header.extend(len.to_be_bytes());
        }
    }
    header.extend(KEY);
    header
}

/// Returns a masked Close with a code and a reason.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(
        CLOSE,
        &[&code.to_be_bytes()[..], reason.as_bytes()].concat(),
    )
}

/// Returns pseudorandom bytes, the same ones at each call.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = Vec::with_capacity(len + 8);
    while noise.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    noise.truncate(len);
    noise
}

/// Writes `piece(0)`, `piece(1)` and so on until the connection accepts nothing for [`BLOCKED`]. Returns the number of
/// pieces, including the last one, and the unsent rest of the last one.
pub(crate) fn write_until_blocked(
    stream: &TcpStream,
    mut piece: impl FnMut(usize) -> Vec<u8>,
) -> (usize, Vec<u8>) {
    stream.set_write_timeout(Some(BLOCKED)).unwrap();
    for written in 0..PIECES_MAX {
        let bytes = piece(written);
        let mut sent = 0;
        while sent < bytes.len() {
            match (&*stream).write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    stream.set_write_timeout(Some(WAIT)).unwrap();
                    return (written + 1, bytes[sent..].to_owned());
                }
                Err(error) => panic!("the server ended the connection: {error}"),
            }
        }
    }
    panic!("the server accepted {PIECES_MAX} pieces from a peer that does not read");
}

/// Time without progress after which a write counts as blocked: the server accepts nothing more before the client reads.
const BLOCKED: Duration = Duration::from_millis(500);

const PIECES_MAX: usize = 4096;

/// Polls a condition until it holds. Panics after [`WAIT`].
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT, "the condition did not hold in time");
        thread::park_timeout(Duration::from_millis(1));
    }
}
