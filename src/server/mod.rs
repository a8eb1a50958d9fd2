//! The server: one poll, its listeners, and the turn.
//!
//! One turn: poll, accept, read, expire, flush, reap. Events only mark; phases do. What a phase does with
//! sessions is in `engine` and the files named after the phases; here is what they need of mio and of the clock.

mod core;
mod deadlines;
mod engine;
mod expire;
mod flush;
mod handle;
mod listener;
mod paths;
mod read;
mod reap;
mod session;
mod session_log;
mod socket;
pub mod testing;

pub use handle::{Handle, HandleError};

use crate::config::Config;
use crate::handler::{Context, Core, Handler, Id};
use crate::stats::Stats;
use engine::{Engine, Readiness, Stop};
use listener::{ACCEPTS_PER_TURN, LAST_ACCEPTS_MAX, Listener};
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token, Waker};
use socket::{ListeningSocket, Socket};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// A WebSocket server on the thread that runs it.
///
/// ```no_run
/// use wsloop::{Config, Server, handler_fn};
///
/// # fn main() -> std::io::Result<()> {
/// let mut server = Server::new(Config::default(), handler_fn(|cx, id, message| cx.send(id, message)))?;
/// let addr = server.listen("127.0.0.1:0")?;
/// println!("listening on ws://{addr}/");
/// server.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Server<H: Handler> {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    engine: Engine<Socket>,
    handler: H,
    handle: Handle,
    /// The one receive buffer.
    buf: Vec<u8>,
    /// Sources of the host, by their keys, that were ready in this turn.
    ready_sources: Vec<usize>,
    /// The last poll may have left events behind, of which nobody tells again: the host's poll, if this one's
    /// descriptor is in it edge-triggered, has told once of all.
    has_more_events: bool,
    clock: Instant,
    life: Life,
}

/// Whether a server goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after `Stopped` there is nothing left to turn"]
pub enum Turn {
    /// Call [`Server::turn`] again.
    Running,
    /// The server has stopped: no listener, no session.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// `on_start` is to be called.
    New,
    Running,
    /// The listeners are closed.
    Stopping,
    Stopped,
}

impl<H: Handler> Server<H> {
    /// A server without listeners.
    ///
    /// # Errors
    /// `InvalidInput` if `config` makes no sense ([`Config::check`]), or what the system says to a new poll.
    pub fn new(config: Config, handler: H) -> io::Result<Self> {
        config
            .check()
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            listeners: Vec::new(),
            handle: Handle::new(waker, config.handle_commands_max, config.handle_bytes_max),
            buf: vec![0; config.receive_buffer_bytes],
            engine: Engine::new(config),
            handler,
            ready_sources: Vec::new(),
            has_more_events: false,
            clock: Instant::now(),
            life: Life::New,
        })
    }

    /// Listens on an address, or on the first that works of several; the address with its real port.
    ///
    /// The backlog is mio's; for another, use [`listen_on`](Self::listen_on).
    ///
    /// # Errors
    /// What the system says, with the address.
    pub fn listen(&mut self, addr: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let mut last = io::Error::new(ErrorKind::InvalidInput, "no address to listen on");
        for addr in addr.to_socket_addrs()? {
            match TcpListener::bind(addr) {
                Ok(socket) => return self.add_tcp_listener(socket),
                Err(error) => {
                    last =
                        io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"));
                }
            }
        }
        Err(last)
    }

    /// Listens on a socket that is bound and listening already.
    ///
    /// # Errors
    /// What the system says to making it non-blocking or registering it.
    pub fn listen_on(&mut self, socket: std::net::TcpListener) -> io::Result<SocketAddr> {
        socket.set_nonblocking(true)?;
        self.add_tcp_listener(TcpListener::from_std(socket))
    }

    /// Listens on a Unix socket that is bound and listening already. Its sessions have no address
    /// ([`Context::peer_addr`]), and its file is the caller's to remove.
    ///
    /// ```no_run
    /// use std::os::unix::net::UnixListener;
    /// use wsloop::{Config, Server, handlers::Echo};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Echo::new())?;
    /// server.listen_on_unix(UnixListener::bind("/run/app/ws")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the system says to making it non-blocking or registering it.
    pub fn listen_on_unix(&mut self, socket: std::os::unix::net::UnixListener) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.add_listener(ListeningSocket::Unix(UnixListener::from_std(socket)))
    }

    fn add_tcp_listener(&mut self, socket: TcpListener) -> io::Result<SocketAddr> {
        let addr = socket.local_addr()?;
        self.add_listener(ListeningSocket::Tcp(socket))?;
        Ok(addr)
    }

    fn add_listener(&mut self, mut socket: ListeningSocket) -> io::Result<()> {
        if let Life::Stopping | Life::Stopped = self.life {
            return Err(io::Error::other("the server is stopping"));
        }
        let token = Token(LISTENERS + self.listeners.len());
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener::new(socket)?);
        Ok(())
    }

    /// The addresses that the server listens on, with their real ports. Unix sockets are not among them.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.addr)
    }

    /// Adds a source of the host's to the poll, edge-triggered: when it is readable, [`Handler::on_source`] is
    /// called with `key` (below 65 536). The source stays the host's, who keeps it and reads it; when it is dropped, it is
    /// out of the poll.
    ///
    /// # Errors
    /// What the system says, or `InvalidInput` for a larger key.
    pub fn register(&mut self, source: &mut impl Source, key: usize) -> io::Result<()> {
        if key >= SOURCES_MAX {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the key of a source is below 65 536",
            ));
        }
        self.poll
            .registry()
            .register(source, Token(SOURCES + key), Interest::READABLE)
    }

    /// For talking to the server from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Acts as a handler would, between two turns. What it queues leaves at the next, for which
    /// [`next_timeout`](Self::next_timeout) is zero.
    pub fn with_context<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.engine.begin_turn(millis_since(self.clock));
        act(&mut Context::new(&mut self.engine))
    }

    /// How many sessions are between `on_open` and `on_close`.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// What the loop has counted since it began.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Turns until the server has stopped.
    ///
    /// # Errors
    /// What the system says to polling; everything else concerns one connection or listener and goes to
    /// [`Handler::on_error`].
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn(None)? == Turn::Running {}
        Ok(())
    }

    /// One pass: sleeps until there is something to do, at most `timeout` (`None`: without end), and does it. See
    /// [`guide::turn`](crate::guide::turn).
    ///
    /// # Errors
    /// What the system says to polling.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        if self.life == Life::Stopped {
            return Ok(Turn::Stopped);
        }
        if self.life == Life::New {
            self.life = Life::Running;
            self.engine.begin_turn(millis_since(self.clock));
            self.handler.on_start(&mut Context::new(&mut self.engine));
        }
        let sleep = [timeout, self.next_timeout()].into_iter().flatten().min();
        self.poll_events(sleep)?;
        let start = self.clock.elapsed();
        self.engine.begin_turn(start.as_millis() as u64);
        self.mark_events();
        self.handle.drain(&mut self.engine);
        for key in self.ready_sources.drain(..) {
            self.handler
                .on_source(&mut Context::new(&mut self.engine), key);
        }
        self.accept(ACCEPTS_PER_TURN);
        let Self {
            engine,
            handler,
            buf,
            poll,
            ..
        } = self;
        engine.read(buf, handler);
        engine.expire(handler);
        engine.flush(handler);
        // Closing the descriptor would do as well, but then a stream that is not closed yet, as one with a
        // duplicate elsewhere, would go on to give events.
        let reaped = engine.reap(handler, |stream| drop(poll.registry().deregister(stream)));
        if reaped > 0 {
            self.listeners.iter_mut().for_each(Listener::retry);
        }
        self.stop_if_asked()?;
        if self.engine.measures_turns() {
            self.engine.count_turn(self.clock.elapsed() - start);
        }
        Ok(if self.life == Life::Stopped {
            Turn::Stopped
        } else {
            Turn::Running
        })
    }

    /// How long the server can sleep before it has something to do of itself; `None`: until an event. For hosts
    /// that poll [`as_raw_fd`](AsRawFd::as_raw_fd) in a loop of their own.
    pub fn next_timeout(&self) -> Option<Duration> {
        let now = millis_since(self.clock);
        let late = now - self.engine.now();
        let engine = self.engine.next_in().map(|wait| wait.saturating_sub(late));
        let listeners = self
            .listeners
            .iter()
            .filter_map(|listener| listener.next_in(now));
        let has_events = self.has_more_events || !self.ready_sources.is_empty();
        let at_once = (self.life == Life::New || has_events).then_some(0);
        let wait = listeners.chain(engine).chain(at_once).min()?;
        // The clock has a fraction of a millisecond that `now` has not: to sleep for less than `wait` would be to
        // wake up just before.
        Some(Duration::from_millis(wait))
    }

    fn poll_events(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {
                self.has_more_events = self.events.iter().count() == EVENTS_PER_TURN;
                Ok(())
            }
            // A signal: there are no events, and the turn does what is due.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                self.has_more_events = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn mark_events(&mut self) {
        let Self {
            events,
            listeners,
            engine,
            ready_sources,
            ..
        } = self;
        for event in &*events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= SOURCES => ready_sources.push(token - SOURCES),
                Token(token) if token >= LISTENERS => {
                    if let Some(listener) = listeners.get_mut(token - LISTENERS) {
                        listener.mark();
                    }
                }
                token => {
                    let readiness = Readiness {
                        // An error is met, and told apart, by reading.
                        is_readable: event.is_readable()
                            || event.is_read_closed()
                            || event.is_error(),
                        is_writable: event.is_writable(),
                        is_end: event.is_read_closed() || event.is_error(),
                    };
                    engine.mark_token(token.0, readiness);
                }
            }
        }
    }

    /// Takes connections from every listener, `budget` from each.
    fn accept(&mut self, budget: usize) {
        let Self {
            listeners,
            engine,
            handler,
            poll,
            ..
        } = self;
        for listener in listeners {
            listener.accept(budget, engine, handler, |engine, stream, peer| {
                let Some(id) = engine.insert(stream, peer) else {
                    return;
                };
                let token = Token(token_of(id));
                let stream = engine.stream_mut(id).expect("inserted the line above");
                let registered = poll.registry().register(
                    stream,
                    token,
                    Interest::READABLE | Interest::WRITABLE,
                );
                if let Err(error) = registered {
                    engine.fail(id, error);
                }
            });
        }
    }

    fn stop_if_asked(&mut self) -> io::Result<()> {
        match self.engine.stop_state() {
            Stop::No => return Ok(()),
            Stop::Asked => {
                self.serve_the_last()?;
                if self.engine.stop_state() != Stop::Asked {
                    // A handler has asked again: at once, in the next turn.
                    return Ok(());
                }
                log::info!("stopping: {} sessions are told 1001", self.engine.count());
                self.close_listeners();
                self.life = Life::Stopping;
                self.engine.begin_stop();
            }
            Stop::Until(end) if end <= self.engine.now() => {
                log::warn!("{} sessions did not end in time", self.engine.len());
                self.engine.terminate_all();
            }
            Stop::Until(_) => {}
            Stop::Now => {
                self.close_listeners();
                self.engine.terminate_all();
                let Self {
                    engine,
                    handler,
                    poll,
                    ..
                } = self;
                engine.reap(handler, |stream| drop(poll.registry().deregister(stream)));
            }
        }
        if self.engine.len() == 0 {
            self.life = Life::Stopped;
            self.handle.shut();
        }
        Ok(())
    }

    /// Takes all who wait in a backlog, and answers what has arrived from them and from others: to close a listener
    /// is to reset those who wait, whose systems told them that they are connected. Who comes between the last accept
    /// and the close is reset all the same, unless the system hands them to another listener of the same port
    /// (net.ipv4.tcp_migrate_req on Linux).
    fn serve_the_last(&mut self) -> io::Result<()> {
        self.listeners.iter_mut().for_each(Listener::mark);
        self.accept(LAST_ACCEPTS_MAX);
        self.poll_events(Some(Duration::ZERO))?;
        self.mark_events();
        self.engine.read(&mut self.buf, &mut self.handler);
        Ok(())
    }

    fn close_listeners(&mut self) {
        for mut listener in self.listeners.drain(..) {
            drop(self.poll.registry().deregister(&mut listener.socket));
        }
    }
}

impl<H: Handler> AsRawFd for Server<H> {
    /// The poll's own descriptor, readable when the server has events: for a host's poll (with mio, as a `SourceFd`,
    /// behind mio's feature `os-ext`). See also [`Server::next_timeout`].
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Drop for Server<H> {
    /// Ends every session, so that each `on_open` has its `on_close`.
    fn drop(&mut self) {
        self.handle.shut();
        // A handler that panicked is in no state to be called again.
        if !std::thread::panicking() {
            self.engine.terminate_all();
            self.engine.reap(&mut self.handler, |_| {});
        }
    }
}

/// A session's token: its slot below, as much of its generation as fits above.
fn token_of(id: Id) -> usize {
    let generation = (id.generation as usize) << SLOT_BITS;
    (generation | id.slot as usize) & SESSION_TOKENS
}

impl Engine<Socket> {
    fn mark_token(&mut self, token: usize, readiness: Readiness) {
        let slot = token & ((1 << SLOT_BITS) - 1);
        let Some(id) = self.id_at(slot) else { return };
        if token_of(id) == token {
            self.mark(id, readiness);
        }
    }
}

fn millis_since(clock: Instant) -> u64 {
    clock.elapsed().as_millis() as u64
}

/// Events that one poll returns: more wait for the next.
const EVENTS_PER_TURN: usize = 1024;

/// Tokens: sessions have the lower half, of which the slot takes so many bits.
const SLOT_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
const SESSION_TOKENS: usize = usize::MAX >> 1;
const LISTENERS: usize = SESSION_TOKENS + 1;
const SOURCES: usize = LISTENERS + (1 << 16);
const SOURCES_MAX: usize = 1 << 16;
const WAKER: Token = Token(usize::MAX);

#[cfg(test)]
mod tests;
