//! [`Server`]: the event loop with its poll, listeners, clock and handler.
//!
//! A turn of the loop consists of a poll and the phases accept, read, expire, flush and reap. Events of the poll only
//! mark sessions; the phases act. The engine owns the sessions. The order of the phases is in `turn`, and each phase is
//! in the file named after it (accept: `listener`). This file connects the phases to mio and to the clock.
//!
//! The *host* is the program that embeds the server. Its handlers can register event sources of their own with the
//! server's poll ([`Context::register`]); `sources` calls the handlers when these are ready.

mod events;
mod expire;
mod flush;
mod handle;
mod listener;
#[cfg(any(feature = "proxy-protocol", feature = "tls"))]
pub(crate) mod prologue;
mod read;
mod reap;
mod sources;
pub mod testing;
mod turn;

pub use handle::{Handle, HandleError};
pub use listener::ListenOptions;

use crate::config::Config;
use crate::context::Context;
use crate::engine::sources::{FIRST_SOURCE_TOKEN, Ready};
use crate::engine::{Engine, Readiness, earlier};
use crate::handler::Handler;
use crate::id::Id;
use crate::stats::Stats;
use crate::stream::Stream;
use flush::UNCLAIMED_BYTES_MAX;
use listener::{ACCEPTS_PER_TURN, Accepted, BACKLOG_ACCEPTS_MAX, Listener, ListeningSocket};
use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
#[cfg(unix)]
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
    /// Whether the last turn has left commands in the inbox. The waker does not report those again.
    has_commands: bool,
    /// The receive buffer of all sessions.
    buf: Vec<u8>,
    /// Time 0 of the loop's clock.
    clock: Instant,
    state: State,
}

/// The poll, the listeners and the sources of the host.
struct Polling {
    poll: Poll,
    events: Events,
    listeners: Vec<Listener>,
    /// The connection to the broker.
    #[cfg(feature = "backplane")]
    backplane: Option<Box<dyn crate::backplane::Backplane>>,
    /// Whether the last poll may have left events behind. If the host polls this poll's descriptor edge-triggered, the
    /// host's poll does not report those events again.
    has_more_events: bool,
}

/// Whether a server continues, returned by [`Server::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "after `Stopped`, further turns have no effect"]
#[non_exhaustive]
pub enum Turn {
    /// Call [`Server::turn`] again.
    Running,
    /// The server has stopped: it has no listener and no session.
    Stopped,
}

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `on_start` was not called yet.
    New,
    Running,
    Stopped,
}

impl<H: Handler> Server<H> {
    /// Returns a server without listeners.
    ///
    /// # Errors
    /// `InvalidInput` if [`Config::check`] finds an error, or the system's error if the poll cannot be created.
    pub fn new(config: Config, handler: H) -> io::Result<Self> {
        config
            .check()
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        let clock = Instant::now();
        Ok(Self {
            polling: Polling {
                poll,
                events: Events::with_capacity(EVENTS_PER_POLL),
                listeners: Vec::new(),
                #[cfg(feature = "backplane")]
                backplane: None,
                has_more_events: false,
            },
            handle: Handle::new(waker, config.handle_commands_max, config.handle_bytes_max),
            has_commands: false,
            buf: vec![0; config.receive_buffer_bytes],
            engine: Engine::new(config, Some(clock), Some(registry)),
            handler,
            clock,
            state: State::New,
        })
    }

    /// Listens on an address, or on the first of several addresses that can be bound. Returns the address with the
    /// actual port.
    ///
    /// The length of the backlog is the default of mio. For another length, use [`listen_on`](Self::listen_on).
    ///
    /// # Errors
    /// The system's error for the last address, with the address in the text.
    pub fn listen(&mut self, addr: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        self.listen_with(addr, &ListenOptions::new())
    }

    /// As [`listen`](Self::listen), with options.
    ///
    /// # Errors
    /// As `listen`.
    pub fn listen_with(
        &mut self,
        addr: impl ToSocketAddrs,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let mut last = io::Error::new(ErrorKind::InvalidInput, "no address to listen on");
        for addr in addr.to_socket_addrs()? {
            match TcpListener::bind(addr) {
                Ok(socket) => return self.add_tcp_listener(socket, options),
                Err(error) => {
                    last =
                        io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"));
                }
            }
        }
        Err(last)
    }

    /// Listens on an address as [`listen`](Self::listen) does, and demands TLS on each connection: `wss://`.
    ///
    /// # Errors
    /// As `listen`.
    #[cfg(feature = "tls")]
    pub fn listen_tls(
        &mut self,
        addr: impl ToSocketAddrs,
        tls: &crate::Tls,
    ) -> io::Result<SocketAddr> {
        self.listen_with(addr, &ListenOptions::new().tls(tls))
    }

    /// Listens on a socket that is bound and listening already. Returns its address.
    ///
    /// # Errors
    /// The system's error if the socket cannot be made non-blocking or registered.
    pub fn listen_on(&mut self, socket: std::net::TcpListener) -> io::Result<SocketAddr> {
        self.listen_on_with(socket, &ListenOptions::new())
    }

    /// As [`listen_on`](Self::listen_on), with options.
    ///
    /// # Errors
    /// As `listen_on`.
    pub fn listen_on_with(
        &mut self,
        socket: std::net::TcpListener,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        socket.set_nonblocking(true)?;
        self.add_tcp_listener(TcpListener::from_std(socket), options)
    }

    /// Listens on a Unix socket that is bound and listening already. [`Context::peer_addr`] returns `None` for its
    /// sessions. The server does not remove the socket's file.
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
    /// The system's error if the socket cannot be made non-blocking or registered.
    #[cfg(unix)]
    pub fn listen_on_unix(&mut self, socket: std::os::unix::net::UnixListener) -> io::Result<()> {
        self.listen_on_unix_with(socket, &ListenOptions::new())
    }

    /// As [`listen_on_unix`](Self::listen_on_unix), with options.
    ///
    /// # Errors
    /// As `listen_on_unix`.
    #[cfg(unix)]
    pub fn listen_on_unix_with(
        &mut self,
        socket: std::os::unix::net::UnixListener,
        options: &ListenOptions,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.add_listener(
            ListeningSocket::Unix(mio::net::UnixListener::from_std(socket)),
            options,
        )
    }

    fn add_tcp_listener(
        &mut self,
        socket: TcpListener,
        options: &ListenOptions,
    ) -> io::Result<SocketAddr> {
        let addr = socket.local_addr()?;
        self.add_listener(ListeningSocket::Tcp(socket), options)?;
        Ok(addr)
    }

    fn add_listener(
        &mut self,
        mut socket: ListeningSocket,
        options: &ListenOptions,
    ) -> io::Result<()> {
        if self.state == State::Stopped || self.engine.is_stopping() {
            return Err(io::Error::other("the server is stopping"));
        }
        #[cfg(all(unix, feature = "socket-options"))]
        if let Some(bytes) = self.engine.config.kernel_unsent_bytes_max {
            socket.limit_unsent_bytes(bytes)?;
        }
        let Polling {
            poll, listeners, ..
        } = &mut self.polling;
        let token = Token(LISTENERS + listeners.len());
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)?;
        listeners.push(Listener::new(socket, options)?);
        Ok(())
    }

    /// Shares all topics with the other servers at a broker. Call it once, before the first turn.
    /// [`Context::publish`] then sends messages to the broker, and members receive them when the broker delivers them: see
    /// [`backplane`](crate::backplane).
    ///
    /// If an attempt to connect fails with a
    /// [permanent](crate::backplane::BackplaneError::is_permanent) error before the first connection is established,
    /// [`turn`](Self::turn) and [`run`](Self::run) return this error.
    ///
    /// # Errors
    /// `InvalidInput` if an option is out of range; `AlreadyExists` if there is a backplane.
    #[cfg(feature = "backplane")]
    pub fn set_backplane(
        &mut self,
        mut backplane: impl crate::backplane::Backplane + 'static,
        options: crate::backplane::BackplaneOptions,
    ) -> io::Result<()> {
        options
            .check()
            .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        if self.polling.backplane.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.engine.begin_turn(millis_since(self.clock));
        backplane.set_payload_bytes_max(self.engine.share_topics(options));
        self.polling.backplane = Some(Box::new(backplane));
        Ok(())
    }

    /// Returns the TCP addresses that the server listens on, with the actual ports.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.polling.listeners.iter();
        listeners.filter_map(|listener| listener.addr)
    }

    /// Returns a handle with which other threads can act on the server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns a mutable reference to the handler.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Calls `act` with the handler and a [`Context`], between two turns, and returns its result. For a handler that
    /// is a [`Router`](crate::Router), see also [`Router::with_route`](crate::Router::with_route).
    ///
    /// ```
    /// use wsloop::{Config, Context, Handler, Id, Message, Server};
    ///
    /// struct Board {
    ///     price: u64,
    /// }
    /// impl Handler for Board {
    ///     fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
    /// }
    /// impl Board {
    ///     fn set_price(&mut self, cx: &mut Context<'_>, price: u64) {
    ///         self.price = price;
    ///         cx.publish("prices", &price.to_string());
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Board { price: 0 })?;
    /// server.with_handler(|board, cx| board.set_price(cx, 42));
    /// assert_eq!(server.handler().price, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_handler<R>(&mut self, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> R {
        self.engine.begin_turn(millis_since(self.clock));
        act(&mut self.handler, &mut Context::new(&mut self.engine))
    }

    /// Calls `act` with a [`Context`], between two turns, and returns its result. Messages that `act` queues are
    /// written in the next turn; until then, [`next_timeout`](Self::next_timeout) is zero.
    pub fn with_context<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.with_handler(|_, cx| act(cx))
    }

    /// Returns the number of sessions between `on_open` and `on_close`.
    pub fn count(&self) -> usize {
        self.engine.count()
    }

    /// Returns the server's counters. O(sessions whose sockets accept nothing at the moment).
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Runs turns until the server has stopped.
    ///
    /// # Errors
    /// The system's error if a poll fails. Errors of one connection or listener are passed to [`Handler::on_error`].
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn(None)? == Turn::Running {}
        Ok(())
    }

    /// Runs one turn of the loop: waits until there is work, for at most `timeout` (`None`: no limit), and does it. See
    /// [`guide::turn`](crate::guide::turn).
    ///
    /// # Errors
    /// The system's error if the poll fails.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        if self.state == State::Stopped {
            return Ok(Turn::Stopped);
        }
        if self.state == State::New {
            self.state = State::Running;
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
        // While there are too many published bytes that not all members have claimed (see `flush`), commands stay in
        // the inbox. Once the inbox is full, senders get `HandleError::Full`.
        // Set first: if a closure of a command panics, the next turn executes the others.
        self.has_commands = true;
        self.has_commands = self.handle.execute(&mut self.engine, |engine| {
            engine.topics.unclaimed_len() <= UNCLAIMED_BYTES_MAX
        });
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
            self.state = State::Stopped;
            self.handle.close_inbox();
            return Ok(Turn::Stopped);
        }
        Ok(Turn::Running)
    }

    /// Returns the time until the server has work without an event, for example a timer; `None`: only an event can
    /// bring work. For a host that polls the server's descriptor ([`AsRawFd`]) in its own loop: call [`turn`](Self::turn)
    /// when the descriptor is readable or this time has passed.
    pub fn next_timeout(&self) -> Option<Duration> {
        let now = millis_since(self.clock);
        let late = now - self.engine.now();
        let engine = self.engine.next_in().map(|wait| wait.saturating_sub(late));
        let polling = self.polling.next_in(now);
        #[cfg(feature = "backplane")]
        let polling = earlier(polling, self.backplane_in());
        let at_once = (self.state == State::New || self.has_commands).then_some(0);
        let wait = earlier(earlier(engine, polling), at_once)?;
        // `now` is rounded down to milliseconds. `wait` is not reduced by the fraction: to wake up a fraction of a
        // millisecond too early would cost another turn.
        Some(Duration::from_millis(wait))
    }
}

#[cfg(feature = "backplane")]
impl<H: Handler> Server<H> {
    /// Returns the milliseconds until the backplane is to be called.
    fn backplane_in(&self) -> Option<u64> {
        let at = self.polling.backplane.as_ref()?.next_at()?;
        let wait = at.saturating_duration_since(Instant::now());
        Some(wait.as_micros().div_ceil(1000) as u64)
    }
}

impl Polling {
    fn mark_events(&mut self, engine: &mut Engine) {
        let Self {
            events, listeners, ..
        } = self;
        for event in &*events {
            match event.token() {
                Token(token) if token <= SESSION_TOKENS => {
                    mark_token(engine, token, readiness(event));
                }
                WAKER => {}
                Token(token) if token >= FIRST_SOURCE_TOKEN => {
                    engine.sources.mark(event.token(), ready(event));
                }
                Token(token) => {
                    if let Some(listener) = listeners.get_mut(token - LISTENERS) {
                        listener.mark();
                    }
                }
            }
        }
    }

    /// Returns the milliseconds until a listener is to be tried or more events are to be polled; `None`: no such work.
    fn next_in(&self, now: u64) -> Option<u64> {
        let listeners = self.listeners.iter();
        let listeners = listeners.filter_map(|listener| listener.next_in(now));
        listeners.chain(self.has_more_events.then_some(0)).min()
    }
}

impl Environment for Polling {
    fn accept(&mut self, engine: &mut Engine, handler: &mut impl Handler, is_last: bool) {
        let Self {
            listeners, poll, ..
        } = self;
        let budget = if is_last {
            listeners.iter_mut().for_each(Listener::mark);
            BACKLOG_ACCEPTS_MAX
        } else {
            ACCEPTS_PER_TURN
        };
        for listener in listeners {
            listener.accept(budget, engine, handler, |engine, accepted| {
                accept(engine, poll.registry(), accepted);
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

    #[cfg(feature = "backplane")]
    fn backplane(&mut self) -> Option<&mut dyn crate::backplane::Backplane> {
        match &mut self.backplane {
            Some(backplane) => Some(&mut **backplane),
            None => None,
        }
    }

    fn close_listeners(&mut self) {
        for mut listener in self.listeners.drain(..) {
            drop(self.poll.registry().deregister(&mut listener.socket));
        }
    }
}

/// Inserts a connection, and registers its stream once for both directions.
fn accept(engine: &mut Engine, registry: &Registry, accepted: Accepted) {
    let Accepted {
        stream,
        peer,
        entrance,
        tag,
    } = accepted;
    let Some(id) = engine.insert_with(stream, peer, entrance) else {
        return;
    };
    engine.set_listener_tag(id, tag);
    let stream = engine.stream_mut(id).expect("inserted the line above");
    let registered = registry.register(stream, Token(token_of(id)), INTERESTS);
    if let Err(error) = registered {
        engine.stream_failed(id.slot as usize, error);
    }
}

#[cfg(unix)]
impl<H: Handler> AsRawFd for Server<H> {
    /// Returns the descriptor of the server's poll, which is readable when the server has events. A host can add this
    /// descriptor to its own poll (with mio: as a `SourceFd`, which needs mio's feature `os-ext`). See also
    /// [`Server::next_timeout`].
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
    /// Ends every session, so that `on_close` is called for each session for which `on_open` was.
    fn drop(&mut self) {
        self.handle.close_inbox();
        // A handler that has panicked may be in an inconsistent state, and is not called again.
        if !std::thread::panicking() {
            self.engine.terminate_all();
            self.engine.reap(&mut self.handler, |_| {});
        }
    }
}

/// Returns a session's token: the slot in the low bits, and above it as many low bits of the number as fit. The number
/// distinguishes the session from earlier ones in the same slot.
fn token_of(id: Id) -> usize {
    let number = (id.number as usize) << SLOT_BITS;
    (number | id.slot as usize) & SESSION_TOKENS
}

/// Converts an event of mio to a [`Readiness`]. The conditions are joined by `|`, which compilers turn into fewer
/// branches than `||`.
#[inline]
fn readiness(event: &Event) -> Readiness {
    let is_end = event.is_error() | event.is_priority() | event.is_read_closed();
    Readiness {
        // A read returns the stream's error or its end.
        is_readable: event.is_readable() | is_end,
        is_writable: event.is_writable(),
        is_end,
        is_error: event.is_error(),
    }
}

/// Converts an event of a handler's source. After an error or the end of the stream, both directions are tried.
fn ready(event: &Event) -> Ready {
    let is_end = event.is_error() || event.is_read_closed() || event.is_write_closed();
    Ready {
        is_readable: event.is_readable() || event.is_priority() || is_end,
        is_writable: event.is_writable() || is_end,
    }
}

/// Marks the session with that token. An event of a session that has been reaped is ignored, even if its slot is
/// reused.
#[inline]
fn mark_token(engine: &mut Engine, token: usize, readiness: Readiness) {
    let slot = token & ((1 << SLOT_BITS) - 1);
    let bits = token >> SLOT_BITS;
    engine.mark_slot(slot, readiness, |number| {
        number as usize & (SESSION_TOKENS >> SLOT_BITS) == bits
    });
}

/// Returns the time since `clock` in milliseconds, rounded down.
fn millis_since(clock: Instant) -> u64 {
    clock.elapsed().as_millis() as u64
}

/// Interests with which each session is registered: both directions, and urgent data where the system reports it. A
/// read stops short at urgent data, so that a short read then does not mean that the stream is empty.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTERESTS: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Maximum events that one poll returns.
const EVENTS_PER_POLL: usize = 1024;

// Tokens. The lower half of their range belongs to sessions, the upper half to listeners, the host's sources and the
// waker.

/// Bits of a session's token that are the slot.
const SLOT_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
/// The largest token of a session, and the mask of such tokens.
const SESSION_TOKENS: usize = usize::MAX >> 1;
/// The token of the first listener.
const LISTENERS: usize = SESSION_TOKENS + 1;
const WAKER: Token = Token(usize::MAX);

#[cfg(test)]
mod tests;
