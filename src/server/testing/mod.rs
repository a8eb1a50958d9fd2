//! A test harness for handlers: the server's own engine over in-memory pipes, with a clock that the test advances.
//!
//! A handler behaves here as it does on sockets, because the same code runs each turn (one pass of the server's event
//! loop). Nothing sleeps: time advances only with [`Harness::advance`].
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
//! // An hour without messages takes no real time. The clients answer pings, so `idle_timeout` closes none of them.
//! harness.advance(Duration::from_secs(3600));
//! assert_eq!(harness.count(), 2);
//!
//! harness.close(anna, 1000, "bye");
//! assert_eq!(harness.count(), 1);
//! ```
//!
//! The harness has no listeners, no [`Handle`](crate::Handle) for other threads and no kernel buffers of limited
//! size: a pipe accepts any number of bytes until its client is [stalled](Harness::stall). A test that needs any of
//! these runs a [`Server`](crate::Server) on port 0.

mod pipe;
pub(crate) mod shared;

use super::turn::{self, Environment};
use crate::config::Config;
use crate::context::Context;
use crate::engine::Engine;
use crate::engine::sources::Ready;
use crate::handler::Handler;
use crate::id::Id;
use crate::proto::{
    ClientOpening, ClientOpeningError, Connection, HeadLimits, Message, ServerResponse, ToMessage,
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
/// Each call that acts on the server or on a client, except [`stall`](Self::stall) and
/// [`handler_mut`](Self::handler_mut), runs turns until neither the server nor a client has anything left to do at the
/// current time. So all replies have arrived when the call returns.
///
/// The clients behave as browsers do: they read everything that arrives, answer each ping and Close, and end the stream
/// after the server has ended it.
pub struct Harness<H: Handler> {
    engine: Engine,
    handler: H,
    buf: Vec<u8>,
    /// Milliseconds since the harness was created.
    now: u64,
    /// A sorted map, so that a test runs the clients in the same order every time.
    clients: BTreeMap<Id, Client>,
    /// Clients whose streams have ended on both sides, with what they have received. Not run any more.
    ended: BTreeMap<Id, Client>,
    has_stopped: bool,
    #[cfg(feature = "backplane")]
    backplane: Option<Box<dyn crate::backplane::Backplane>>,
}

/// A message, control frame or end of stream that a client received. Returned by [`Harness::received`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, also an automatic one ([`Config::ping_interval`]). The client has answered it.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A Close: its code, 1005 if it has none, and its reason. The client has answered it, unless this Close is
    /// itself the answer to one from the client.
    Close(u16, String),
    /// The end of the stream. If no Close precedes it, the session was terminated.
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

/// An HTTP response other than 101: the answer to a plain GET, or to an opening handshake that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    head: ServerResponse,
    body: Vec<u8>,
}

/// Returns the opening handshake of a client that requests `target`, a path with an optional query, from the host
/// `localhost`. Subprotocols and headers can be added to it; [`Harness::open`] sends it.
///
/// # Panics
/// If `target` is not a valid request path.
pub fn opening(target: &str) -> ClientOpening {
    ClientOpening::new("localhost", target, [0; 16]).expect("the target is a path")
}

impl<H: Handler> Harness<H> {
    /// Creates a server without clients at time zero and calls [`Handler::on_start`].
    ///
    /// # Panics
    /// If [`Config::check`] returns an error.
    pub fn new(config: Config, handler: H) -> Self {
        config.check().expect("invalid Config");
        let mut harness = Self {
            buf: vec![0; config.receive_buffer_bytes],
            engine: Engine::new(config, None, None),
            handler,
            now: 0,
            clients: BTreeMap::new(),
            ended: BTreeMap::new(),
            has_stopped: false,
            #[cfg(feature = "backplane")]
            backplane: None,
        };
        let Self {
            engine, handler, ..
        } = &mut harness;
        handler.on_start(&mut Context::new(engine));
        harness.settle();
        harness
    }

    /// Shares all topics with other servers and harnesses, as
    /// [`Server::set_backplane`](crate::Server::set_backplane) does. Only a
    /// [broker in memory](crate::backplane::memory::Broker) works in a harness, which polls no sockets.
    ///
    /// # Panics
    /// If an option is out of range, or if the backplane returns a permanent error before the first connection.
    #[cfg(feature = "backplane")]
    pub fn set_backplane(
        &mut self,
        mut backplane: impl crate::backplane::Backplane + 'static,
        options: crate::backplane::BackplaneOptions,
    ) {
        options.check().expect("invalid BackplaneOptions");
        backplane.set_payload_bytes_max(self.engine.share_topics(options));
        self.backplane = Some(Box::new(backplane));
        self.settle();
    }

    /// Runs turns until nothing is left to do, for example after another harness has published something at the same
    /// broker.
    #[cfg(feature = "backplane")]
    pub fn run(&mut self) {
        self.settle();
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns a mutable reference to the handler. Runs no turn.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Calls `act` with the handler and a [`Context`] between two turns, then runs turns until nothing is left to do.
    /// Returns the result of `act`.
    pub fn with_handler<R>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> R {
        let result = act(&mut self.handler, &mut Context::new(&mut self.engine));
        self.settle();
        result
    }

    /// Calls `act` with a [`Context`] between two turns, then runs turns until nothing is left to do. Returns the
    /// result of `act`.
    pub fn with_context<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.with_handler(|_, cx| act(cx))
    }

    /// Returns the number of sessions for which `on_open` was called and `on_close` was not.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// Returns whether the server has stopped after [`Context::stop`]. It accepts no clients then: connecting one
    /// panics.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// Advances the clock by `time`, rounded down to whole milliseconds. Runs the server at the time of each timer and
    /// deadline that is due meanwhile, in their order, and at the end.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time.as_millis() as u64;
        while !self.has_stopped
            && let Some(due) = self.next_in().map(|wait| self.now + wait)
            && due <= end
        {
            self.now = due;
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// Connects a client that requests `target`, a path with an optional query. Returns the id of its session.
    ///
    /// # Panics
    /// If the handler or a limit refuses the client, or if the server has stopped.
    pub fn connect(&mut self, target: &str) -> Id {
        match self.open(opening(target)) {
            Ok(id) => id,
            Err(response) => panic!("{target} was refused: {response:?}"),
        }
    }

    /// Connects a client with the given opening handshake; see [`opening`]. Returns the id of its session.
    ///
    /// # Errors
    /// Returns the HTTP response if the handshake is refused.
    ///
    /// # Panics
    /// If the server has stopped, or if the handler terminates the connection before it is answered: in
    /// [`on_upgrade`](Handler::on_upgrade) or [`on_open`](Handler::on_open).
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

    /// Sends a plain GET request for `target`. Returns the response, which is that of [`Handler::on_http`] unless the
    /// server refuses the client because of a limit or a stop.
    ///
    /// # Panics
    /// If `target` is not a valid request path, if the server has stopped, or if the handler terminates the connection.
    pub fn get(&mut self, target: &str) -> Response {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.request(request.into_bytes(), opening(target))
            .expect_err("only an opening handshake opens a session")
    }

    fn request(&mut self, bytes: Vec<u8>, mut opening: ClientOpening) -> Result<Id, Response> {
        assert!(!self.has_stopped, "cannot connect: the server has stopped");
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
            Ok(None) => panic!("the connection was terminated before its request was answered"),
            Err(error) => panic!("the server sent no valid HTTP response: {error}"),
        };
        let rest = input.to_vec();
        if let Some(head) = head {
            wire.lock().is_client_gone = true;
            self.settle();
            // The caller does not get its id.
            if let Some(id) = id {
                self.ended.remove(&id);
            }
            return Err(Response { head, body: rest });
        }
        wire.lock().to_client = rest;
        let id = id.expect("only a connection with a session receives 101");
        // A server cannot check that masking keys are unpredictable, so a constant key is enough.
        self.client(id).connection = Some(Connection::client_open(|| [1, 2, 3, 4]));
        self.settle();
        Ok(id)
    }

    /// Sends a message from the client. Has no effect once the client has sent or received a Close.
    ///
    /// # Panics
    /// If no client of this harness has this id. The same holds for all methods that take the id of a client. The id of
    /// a client whose session has ended remains valid.
    pub fn send(&mut self, id: Id, message: impl ToMessage) {
        self.act(id, |connection, out| {
            connection.send(message.to_message(), out)
        });
    }

    /// Sends a ping from the client, with at most the first 125 bytes of `payload`. Has no effect once the client has
    /// sent or received a Close.
    pub fn ping(&mut self, id: Id, payload: &[u8]) {
        self.act(id, |connection, out| connection.ping(payload, out));
    }

    /// Starts the closing handshake from the client (RFC 6455 section 7.1.2).
    ///
    /// # Panics
    /// If `code` is not allowed in a Close frame ([`is_code_allowed`](crate::proto::is_code_allowed)) and is not 1005.
    pub fn close(&mut self, id: Id, code: u16, reason: &str) {
        self.act(id, |connection, out| connection.close(code, reason, out));
    }

    /// Sends arbitrary bytes from the client, such as frames that violate the protocol.
    pub fn send_raw(&mut self, id: Id, bytes: &[u8]) {
        self.act(id, |_, out| {
            out.extend_from_slice(bytes);
            true
        });
    }

    /// Ends the client's stream without a Close. The client receives nothing afterwards.
    pub fn hang_up(&mut self, id: Id) {
        self.client(id).wire.lock().is_client_gone = true;
        self.settle();
    }

    /// Stops the client from reading until [`resume`](Self::resume). Meanwhile every write of the server to this client
    /// would block.
    pub fn stall(&mut self, id: Id) {
        self.client(id).wire.lock().is_stalled = true;
    }

    /// Lets a stalled client read again.
    pub fn resume(&mut self, id: Id) {
        self.client(id).wire.lock().is_stalled = false;
        self.settle();
    }

    /// Returns and removes everything that the client received since the last call, in order.
    pub fn received(&mut self, id: Id) -> Vec<Received> {
        mem::take(&mut self.client(id).received)
    }

    /// Reports that a source that was registered with `key` is ready, as the poll of a [`Server`](crate::Server) does,
    /// and runs turns until nothing is left to do. The handler's [`on_source`](Handler::on_source) is called. No source
    /// is polled in a harness, so any value that implements `Source` can stand for a real one.
    ///
    /// # Panics
    /// If no handler has registered a source with this key.
    pub fn source_is_ready(&mut self, key: u64, ready: Ready) {
        let is_registered = self.engine.sources.mark_key(key, None, ready);
        assert!(is_registered, "no source has the key {key}");
        self.settle();
    }

    /// As [`source_is_ready`](Self::source_is_ready), for a source of a session: calls
    /// [`on_session_source`](Handler::on_session_source).
    ///
    /// # Panics
    /// If no handler has registered a source of this session with this key.
    pub fn session_source_is_ready(&mut self, id: Id, key: u64, ready: Ready) {
        let is_registered = self.engine.sources.mark_key(key, Some(id), ready);
        assert!(is_registered, "no source of {id} has the key {key}");
        self.settle();
    }

    fn client(&mut self, id: Id) -> &mut Client {
        let client = self.clients.get_mut(&id);
        let client = client.or_else(|| self.ended.get_mut(&id));
        client.unwrap_or_else(|| panic!("no client of this harness has the id {id}"))
    }

    fn act(&mut self, id: Id, act: impl FnOnce(&mut Connection, &mut Vec<u8>) -> bool) {
        let client = self.client(id);
        if let Some(connection) = &mut client.connection {
            act(connection, &mut client.wire.lock().to_server);
        }
        self.settle();
    }

    /// Runs turns until neither the server nor a client has anything left to do at the current time.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.has_stopped || !self.turn() && self.next_in() != Some(0) {
                return;
            }
        }
        panic!(
            "the server still has work after {TURNS_MAX} turns: does a timer of zero set itself again?"
        );
    }

    /// Returns the bytes that a client has sent and the server has not read.
    #[cfg(all(test, feature = "backplane"))]
    pub(crate) fn unread_bytes(&mut self, id: Id) -> usize {
        self.client(id).wire.lock().to_server.len()
    }

    /// Returns the milliseconds until there is work.
    fn next_in(&self) -> Option<u64> {
        let engine = self.engine.next_in();
        #[cfg(feature = "backplane")]
        let engine = {
            let at = self.backplane.as_ref().and_then(|one| one.next_at());
            let now = self.engine.instant();
            let wait = at.map(|at| at.saturating_duration_since(now));
            let wait = wait.map(|wait| wait.as_micros().div_ceil(1000) as u64);
            engine.into_iter().chain(wait).min()
        };
        engine
    }

    /// Runs a turn of the server, then lets each client read. Returns whether a client had something to read.
    fn turn(&mut self) -> bool {
        let Self {
            engine,
            handler,
            clients,
            ended,
            ..
        } = self;
        let now = self.now;
        let mut pipes = Pipes {
            clients,
            #[cfg(feature = "backplane")]
            backplane: self.backplane.as_deref_mut(),
        };
        self.has_stopped = turn::begin(engine, None, || now, &mut pipes)
            .and_then(|()| turn::turn(engine, &mut self.buf, handler, &mut pipes))
            .expect("a poll of pipes does not fail");
        let mut has_read = false;
        let mut over = Vec::new();
        for (id, client) in clients.iter_mut() {
            has_read |= client.read();
            if client.wire.lock().is_over() {
                over.push(*id);
            }
        }
        for id in over {
            ended.extend(clients.remove_entry(&id));
        }
        has_read
    }
}

impl<H: Handler> Drop for Harness<H> {
    /// Terminates the sessions that are still open, so that `on_close` is called for them.
    fn drop(&mut self) {
        // While a failed test unwinds, a panic in the handler would be a second one and abort the process.
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
    /// Returns the status code, which is never 101.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Returns the value of a header, or of its first line if it has several. The name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// An environment without listeners, whose poll reports the readiness of the clients' pipes.
struct Pipes<'a> {
    clients: &'a BTreeMap<Id, Client>,
    #[cfg(feature = "backplane")]
    backplane: Option<&'a mut (dyn crate::backplane::Backplane + 'static)>,
}

impl Environment for Pipes<'_> {
    fn poll_once(&mut self, engine: &mut Engine, _: Option<Duration>) -> io::Result<bool> {
        for (id, client) in self.clients {
            let readiness = client.wire.lock().readiness();
            engine.mark_slot(id.slot as usize, readiness, |number| number == id.number);
        }
        Ok(false)
    }

    #[cfg(feature = "backplane")]
    fn backplane(&mut self) -> Option<&mut dyn crate::backplane::Backplane> {
        match &mut self.backplane {
            Some(backplane) => Some(&mut **backplane),
            None => None,
        }
    }
}

/// Address of every client, from a block that is reserved for documentation (RFC 5737).
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 50_000);

/// Maximum turns of one [`Harness::settle`]: far more than the work of any test needs.
const TURNS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::Echo;

    /// Each turn visited all clients that had ever connected.
    #[test]
    fn clients_that_have_ended_are_not_run_again_and_keep_what_they_received() {
        let mut harness = Harness::new(Config::default(), Echo::new());
        let (closed, gone, open) = (
            harness.connect("/"),
            harness.connect("/"),
            harness.connect("/"),
        );
        harness.get("/");
        harness.send(closed, "a");
        harness.close(closed, 1000, "");
        harness.hang_up(gone);
        assert_eq!(harness.clients.keys().collect::<Vec<_>>(), [&open]);
        assert_eq!(harness.received(closed)[0], Received::Text("a".to_owned()));
        harness.send(closed, "after the end");
        harness.hang_up(gone);
        assert_eq!(harness.received(gone), []);
    }
}
