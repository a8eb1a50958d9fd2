//! Testing a handler without a socket: the server's own engine, over pipes in memory and a clock that the test
//! holds. What a handler does here it does on a socket, and nothing sleeps.
//!
//! ```
//! use std::time::Duration;
//! use wsloop::testing::{Harness, Received};
//! use wsloop::{Config, handlers::Broadcast};
//!
//! let mut harness = Harness::new(Config::default(), Broadcast);
//! let anna = harness.connect("/chat");
//! let bert = harness.connect("/chat");
//! harness.send(anna, "hello");
//! assert_eq!(harness.received(bert), [Received::Text("hello".into())]);
//!
//! // An hour of silence takes no time; clients answer pings, so nobody is idle.
//! harness.advance(Duration::from_secs(3600));
//! assert_eq!(harness.count(), 2);
//!
//! harness.close(anna, 1000, "bye");
//! assert_eq!(harness.count(), 1);
//! ```
//!
//! Not here: listeners, a [`Handle`](crate::Handle) for other threads, and the sizes of a kernel's buffers (a pipe
//! takes everything until its client is [stalled](Harness::stall)). For those there is a [`Server`](crate::Server)
//! on port 0.

mod pipe;
pub(crate) mod shared;

use super::turn::{self, Environment};
use crate::config::Config;
use crate::context::Context;
use crate::engine::Engine;
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{
    ClientOpening, ClientOpeningError, Connection, HeadLimits, Message, ServerResponse,
};
use crate::stream::Stream;
use pipe::{Client, Pipe, Wire};
use shared::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A server without sockets, and its clients.
///
/// Each call ends when the server has nothing more to do at the present time. The clients behave as browsers do:
/// they read what arrives, answer pings and Closes, and end the stream when the server has.
pub struct Harness<H: Handler> {
    engine: Engine,
    handler: H,
    buf: Vec<u8>,
    /// Milliseconds since the start.
    now: u64,
    /// In the order of their names, so that a test runs the same way every time.
    clients: BTreeMap<Id, Client>,
    has_stopped: bool,
}

/// What a client received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, the automatic ones included; it was answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A Close, its code (1005 if it had none) and reason; it was answered, or is the answer.
    Close(u16, String),
    /// The end of the stream. Without a Close before it, the session was terminated.
    End,
}

impl From<Message<'_>> for Received {
    fn from(message: Message<'_>) -> Self {
        match message.as_text() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Binary(message.as_bytes().to_owned()),
        }
    }
}

/// A response in plain HTTP: to a plain GET, or to an opening handshake that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    head: ServerResponse,
    body: Vec<u8>,
}

/// The opening handshake of a client that asks for `target`, a path perhaps with a query, at localhost. Subprotocols
/// and headers can be added.
///
/// # Panics
/// If `target` is no path.
pub fn opening(target: &str) -> ClientOpening {
    ClientOpening::new("localhost", target, [0; 16]).expect("the target is a path")
}

impl<H: Handler> Harness<H> {
    /// A server without clients, at time zero; [`Handler::on_start`] has been called.
    ///
    /// # Panics
    /// If `config` makes no sense ([`Config::check`]).
    pub fn new(config: Config, handler: H) -> Self {
        config.check().expect("the limits make sense");
        let mut harness = Self {
            buf: vec![0; config.receive_buffer_bytes],
            engine: Engine::new(config, None),
            handler,
            now: 0,
            clients: BTreeMap::new(),
            has_stopped: false,
        };
        let Self {
            engine, handler, ..
        } = &mut harness;
        handler.on_start(&mut Context::new(engine));
        harness.settle();
        harness
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Acts as a handler would, between two turns.
    pub fn with_context<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let result = act(&mut Context::new(&mut self.engine));
        self.settle();
        result
    }

    /// How many sessions are between `on_open` and `on_close`.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// Whether the server was asked to stop and has done so. Then no client can come.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// Lets time pass, whole milliseconds of it: timers and deadlines come when they are due, one after the other.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time.as_millis() as u64;
        while !self.has_stopped
            && let Some(due) = self.engine.next_in().map(|wait| self.now + wait)
            && due <= end
        {
            self.now = due;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// A client that asks for `target`, a path perhaps with a query, and is let in.
    ///
    /// # Panics
    /// If it is refused.
    pub fn connect(&mut self, target: &str) -> Id {
        match self.open(opening(target)) {
            Ok(id) => id,
            Err(response) => panic!("{target} was refused: {response:?}"),
        }
    }

    /// A client with an opening handshake of its own; see [`opening`].
    ///
    /// # Errors
    /// The response that refused it.
    ///
    /// ```
    /// use wsloop::page::Page;
    /// use wsloop::testing::{Harness, opening};
    ///
    /// let mut harness = Harness::new(Default::default(), Page::bytes("text/plain", b"hello\n".as_slice()));
    /// let opening = opening("/?a=b").with_header("origin", "https://example.org").unwrap();
    /// assert_eq!(harness.open(opening).unwrap_err().status(), 404);
    /// assert_eq!(harness.get("/").body(), b"hello\n");
    /// ```
    pub fn open(&mut self, opening: ClientOpening) -> Result<Id, Response> {
        let mut request = Vec::new();
        opening.encode_request(&mut request);
        self.request(request, opening)
    }

    /// A plain GET of `target`, as [`Handler::on_http`] answers it.
    pub fn get(&mut self, target: &str) -> Response {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.request(request.into_bytes(), opening(target))
            .expect_err("what is no opening handshake opens nothing")
    }

    fn request(&mut self, bytes: Vec<u8>, mut opening: ClientOpening) -> Result<Id, Response> {
        assert!(!self.has_stopped, "nobody listens: the server has stopped");
        let wire = Shared::new(Wire {
            to_server: bytes,
            ..Wire::default()
        });
        let stream = Stream::memory(Pipe(wire.clone()));
        let id = self.engine.insert(stream, Some(CLIENT));
        if let Some(id) = id {
            self.clients.insert(id, Client::new(wire.clone()));
        }
        self.settle();
        let mut answer = mem::take(&mut wire.lock().to_client);
        let mut input = &mut answer[..];
        let head = match opening.receive_response(&mut input, &HeadLimits::default()) {
            Ok(Some(_)) => None,
            Err(ClientOpeningError::Status(head)) => Some(*head),
            other => panic!("that is no answer: {other:?}"),
        };
        let rest = input.to_vec();
        if let Some(head) = head {
            wire.lock().is_client_gone = true;
            self.settle();
            return Err(Response { head, body: rest });
        }
        wire.lock().to_client = rest;
        let id = id.expect("only a session is answered 101");
        // A server does not ask how well a masking key was chosen.
        self.client(id).connection = Some(Connection::client_open(|| [1, 2, 3, 4]));
        self.settle();
        Ok(id)
    }

    /// The client sends a message; without effect once it has closed.
    pub fn send<'m>(&mut self, id: Id, message: impl Into<Message<'m>>) {
        self.act(id, |connection, out| connection.send(message.into(), out));
    }

    /// The client sends a ping with at most 125 bytes of `payload`; without effect once it has closed.
    pub fn ping(&mut self, id: Id, payload: &[u8]) {
        self.act(id, |connection, out| connection.ping(payload, out));
    }

    /// The client begins the closing handshake (RFC 6455 section 7.1.2).
    ///
    /// # Panics
    /// If `code` may not be sent ([`is_code_allowed`](crate::proto::is_code_allowed)) and is not 1005.
    pub fn close(&mut self, id: Id, code: u16, reason: &str) {
        self.act(id, |connection, out| connection.close(code, reason, out));
    }

    /// The client sends these bytes, whatever they are: frames of the test's own.
    pub fn send_raw(&mut self, id: Id, bytes: &[u8]) {
        self.act(id, |_, out| {
            out.extend_from_slice(bytes);
            true
        });
    }

    /// The client ends the stream without a Close.
    pub fn hang_up(&mut self, id: Id) {
        self.client(id).wire.lock().is_client_gone = true;
        self.settle();
    }

    /// The client reads nothing, and nothing more fits into its pipe, until it [resumes](Self::resume).
    pub fn stall(&mut self, id: Id) {
        self.client(id).wire.lock().is_stalled = true;
    }

    /// The client reads again.
    pub fn resume(&mut self, id: Id) {
        self.client(id).wire.lock().is_stalled = false;
        self.settle();
    }

    /// What the client received since this was last asked.
    pub fn received(&mut self, id: Id) -> Vec<Received> {
        mem::take(&mut self.client(id).received)
    }

    /// A source that a host would register under `key` ([`Server::register`](crate::Server::register)) is ready.
    pub fn source_is_ready(&mut self, key: usize) {
        self.handler
            .on_source(&mut Context::new(&mut self.engine), key);
        self.settle();
    }

    fn client(&mut self, id: Id) -> &mut Client {
        let client = self.clients.get_mut(&id);
        client.unwrap_or_else(|| panic!("{id} is no client of this harness"))
    }

    fn act(&mut self, id: Id, act: impl FnOnce(&mut Connection, &mut Vec<u8>) -> bool) {
        let client = self.client(id);
        if let Some(connection) = &mut client.connection {
            act(connection, &mut client.wire.lock().to_server);
        }
        self.settle();
    }

    /// Turns until nobody has anything to do at the present time.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.has_stopped || !self.turn() && self.engine.next_in() != Some(0) {
                return;
            }
        }
        panic!("the server does not come to rest: is a timer of zero set again each time?");
    }

    /// A turn of the server's, then of the clients'; whether one of those had something to read.
    fn turn(&mut self) -> bool {
        let Self {
            engine,
            handler,
            clients,
            ..
        } = self;
        let now = self.now;
        let mut pipes = Pipes(clients);
        self.has_stopped = turn::begin(engine, None, || now, &mut pipes)
            .and_then(|()| turn::turn(engine, &mut self.buf, handler, &mut pipes))
            .expect("a poll of pipes does not fail");
        let mut has_read = false;
        for client in clients.values_mut() {
            has_read |= client.read();
        }
        has_read
    }
}

impl<H: Handler> Drop for Harness<H> {
    /// Ends every session, so that each `on_open` has its `on_close`.
    fn drop(&mut self) {
        // A test that fails needs no more of the handler.
        if !std::thread::panicking() {
            self.engine.terminate_all();
            self.engine.reap(&mut self.handler, |_| {});
        }
    }
}

impl<H: Handler> fmt::Debug for Harness<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("now", &Duration::from_millis(self.now))
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The status, never 101.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The value of a header, of its first line if it has several. The name may be in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A poll of the clients' pipes. There are no listeners.
struct Pipes<'a>(&'a BTreeMap<Id, Client>);

impl Environment for Pipes<'_> {
    fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> io::Result<bool> {
        for (id, client) in self.0 {
            let readiness = client.wire.lock().readiness();
            engine.mark_slot(id.slot as usize, readiness, |number| number == id.number);
        }
        Ok(false)
    }
}

/// Every client's address, from the block for documentation (RFC 5737).
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

/// Far more turns than there are of work at any one time.
const TURNS_MAX: usize = 100_000;
