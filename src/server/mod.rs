//! The server: one poll, its listeners, and the turn.
//!
//! One turn: poll, accept, read, expire, flush, reap. Events only mark; phases act. Sessions are the engine's, and the phases
//! are in the files named after them; this file has what they need of mio and of the clock.

mod expire;
mod flush;
mod handle;
mod listener;
mod read;
mod reap;
pub mod testing;
mod turn;

pub use handle::{Handle, HandleError};

use crate::config::Config;
use crate::context::Context;
use crate::engine::{Engine, Readiness, earlier};
use crate::handler::Handler;
use crate::id::Id;
use crate::stats::Stats;
use crate::stream::Stream;
use flush::UNCLAIMED_BYTES_MAX;
use listener::{ACCEPTS_PER_TURN, LAST_ACCEPTS_MAX, Listener, ListeningSocket};
use mio::event::{Event, Source};
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};
use turn::Environment;

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
    polling: Polling,
    engine: Engine,
    handler: H,
    handle: Handle,
    /// Whether the last turn has left commands in the inbox. No wake-up follows for those.
    has_commands: bool,
    /// The one receive buffer.
    buf: Vec<u8>,
    clock: Instant,
    life: Life,
}

/// The poll and what is registered there besides sessions.
struct Polling {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// Keys of the host's sources that were ready in this turn.
    ready_sources: VecDeque<usize>,
    /// The last poll may have left events behind, which the host is not told of again: its poll, if this one's descriptor is
    /// in it edge-triggered, has reported all of them at once.
    has_more_events: bool,
}

/// Whether a server goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after `Stopped` there is nothing left to turn"]
#[non_exhaustive]
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
        let clock = Instant::now();
        Ok(Self {
            polling: Polling {
                poll,
                events: Events::with_capacity(EVENTS_PER_POLL),
                listeners: Vec::new(),
                ready_sources: VecDeque::new(),
                has_more_events: false,
            },
            handle: Handle::new(waker, config.handle_commands_max, config.handle_bytes_max),
            has_commands: false,
            buf: vec![0; config.receive_buffer_bytes],
            engine: Engine::new(config, Some(clock)),
            handler,
            clock,
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
        if self.life == Life::Stopped || self.engine.is_stopping() {
            return Err(io::Error::other("the server is stopping"));
        }
        let Polling {
            poll, listeners, ..
        } = &mut self.polling;
        let token = Token(LISTENERS + listeners.len());
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)?;
        listeners.push(Listener::new(socket)?);
        Ok(())
    }

    /// The addresses that the server listens on, with their real ports. Unix sockets are not among them.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.polling.listeners.iter();
        listeners.filter_map(|listener| listener.addr)
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
        let registry = self.polling.poll.registry();
        registry.register(source, Token(SOURCES + key), Interest::READABLE)
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
        let sleep = earlier(timeout, self.next_timeout());
        let mut start = Duration::ZERO;
        let clock = || {
            start = self.clock.elapsed();
            start.as_millis() as u64
        };
        turn::begin(&mut self.engine, sleep, clock, &mut self.polling)?;
        // While members have too much unclaimed, commands wait, and their senders get `HandleError::Full`.
        self.has_commands = self.handle.drain(&mut self.engine, |engine| {
            engine.topics.unclaimed_len() <= UNCLAIMED_BYTES_MAX
        });
        while let Some(key) = self.polling.ready_sources.pop_front() {
            self.handler
                .on_source(&mut Context::new(&mut self.engine), key);
        }
        let has_stopped = turn::turn(
            &mut self.engine,
            &mut self.buf,
            &mut self.handler,
            &mut self.polling,
        )?;
        if self.engine.measures_turns() {
            self.engine.count_turn(self.clock.elapsed() - start);
        }
        if has_stopped {
            self.life = Life::Stopped;
            self.handle.shut();
            return Ok(Turn::Stopped);
        }
        Ok(Turn::Running)
    }

    /// How long the server can sleep before it has something to do of itself; `None`: until an event. For hosts
    /// that poll [`as_raw_fd`](AsRawFd::as_raw_fd) in a loop of their own.
    pub fn next_timeout(&self) -> Option<Duration> {
        let now = millis_since(self.clock);
        let late = now - self.engine.now();
        let engine = self.engine.next_in().map(|wait| wait.saturating_sub(late));
        let polling = self.polling.next_in(now);
        let at_once = (self.life == Life::New || self.has_commands).then_some(0);
        let wait = earlier(earlier(engine, polling), at_once)?;
        // The clock has a fraction of a millisecond that `now` has not: to sleep for less than `wait` would be to
        // wake up just before.
        Some(Duration::from_millis(wait))
    }
}

impl Polling {
    fn mark_events(&mut self, engine: &mut Engine) {
        let Self {
            events,
            listeners,
            ready_sources,
            ..
        } = self;
        for event in &*events {
            match event.token() {
                Token(token) if token <= SESSION_TOKENS => {
                    mark_token(engine, token, readiness(event));
                }
                WAKER => {}
                Token(token) if token >= SOURCES => ready_sources.push_back(token - SOURCES),
                Token(token) => {
                    if let Some(listener) = listeners.get_mut(token - LISTENERS) {
                        listener.mark();
                    }
                }
            }
        }
    }

    /// Milliseconds until a listener is to be tried, or a poll will return more events.
    fn next_in(&self, now: u64) -> Option<u64> {
        let listeners = self.listeners.iter();
        let listeners = listeners.filter_map(|listener| listener.next_in(now));
        let has_events = self.has_more_events || !self.ready_sources.is_empty();
        listeners.chain(has_events.then_some(0)).min()
    }
}

impl Environment for Polling {
    fn accept(&mut self, engine: &mut Engine, handler: &mut impl Handler, is_last: bool) {
        let Self {
            listeners, poll, ..
        } = self;
        let budget = if is_last {
            listeners.iter_mut().for_each(Listener::mark);
            LAST_ACCEPTS_MAX
        } else {
            ACCEPTS_PER_TURN
        };
        for listener in listeners {
            listener.accept(budget, engine, handler, |engine, stream, peer| {
                accept(engine, poll.registry(), stream, peer);
            });
        }
    }

    fn poll_once(&mut self, engine: &mut Engine, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {
                self.has_more_events = self.events.iter().count() == EVENTS_PER_POLL;
                self.mark_events(engine);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.has_more_events = true,
            Err(error) => return Err(error),
        }
        Ok(self.has_more_events)
    }

    fn deregister(&mut self, stream: &mut Stream) {
        drop(self.poll.registry().deregister(stream));
    }

    fn retry_accept(&mut self) {
        self.listeners.iter_mut().for_each(Listener::retry);
    }

    fn close_listeners(&mut self) {
        for mut listener in self.listeners.drain(..) {
            drop(self.poll.registry().deregister(&mut listener.socket));
        }
    }
}

/// Inserts a connection, and registers its stream for everything, once.
fn accept(engine: &mut Engine, registry: &Registry, stream: Stream, peer: Option<SocketAddr>) {
    let Some(id) = engine.insert(stream, peer) else {
        return;
    };
    let stream = engine.stream_mut(id).expect("inserted the line above");
    let registered = registry.register(stream, Token(token_of(id)), INTERESTS);
    if let Err(error) = registered {
        engine.fail(id, error);
    }
}

impl<H: Handler> AsRawFd for Server<H> {
    /// The poll's own descriptor, readable when the server has events: for a host's poll (with mio, as a `SourceFd`,
    /// behind mio's feature `os-ext`). See also [`Server::next_timeout`].
    fn as_raw_fd(&self) -> RawFd {
        self.polling.poll.as_raw_fd()
    }
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.polling.listeners)
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

/// A session's token: its slot below, as much of its number as fits above.
fn token_of(id: Id) -> usize {
    let number = (id.number as usize) << SLOT_BITS;
    (number | id.slot as usize) & SESSION_TOKENS
}

/// Returns what an event reports. The tests are joined by `|`, of which compilers make fewer branches than of `||`.
#[inline]
fn readiness(event: &Event) -> Readiness {
    let is_end = event.is_error() | event.is_priority() | event.is_read_closed();
    Readiness {
        // An error is met, and told apart, by reading.
        is_readable: event.is_readable() | is_end,
        is_writable: event.is_writable(),
        is_end,
    }
}

/// Marks the session of that token. An event of one that is gone, whose slot may have another now, is ignored.
#[inline]
fn mark_token(engine: &mut Engine, token: usize, readiness: Readiness) {
    let slot = token & ((1 << SLOT_BITS) - 1);
    let bits = token >> SLOT_BITS;
    engine.mark_slot(slot, readiness, |number| {
        number as usize & (SESSION_TOKENS >> SLOT_BITS) == bits
    });
}

fn millis_since(clock: Instant) -> u64 {
    clock.elapsed().as_millis() as u64
}

/// What each session is registered for. Where the system tells of urgent data, that is asked for as well: it cuts a read
/// short although more follows.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTERESTS: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Events that one poll returns.
const EVENTS_PER_POLL: usize = 1024;

/// Tokens: sessions have the lower half, of which the slot takes so many bits.
const SLOT_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
const SESSION_TOKENS: usize = usize::MAX >> 1;
const LISTENERS: usize = SESSION_TOKENS + 1;
const SOURCES: usize = LISTENERS + (1 << 16);
const SOURCES_MAX: usize = 1 << 16;
const WAKER: Token = Token(usize::MAX);

#[cfg(test)]
mod tests;
