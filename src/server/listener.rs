//! Listeners and the accept phase.
//!
//! mio is edge-triggered: if accept fails because no descriptor is free, no further event reports the connections that
//! are in the backlog already. So a listener stays pending until accept would block. After a failure, accept is retried
//! every 100 ms, and when a session was reaped.

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::admission::Entrance;
use crate::error::Error;
use crate::handler::Handler;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::stream::{Scratch, TlsStream};
use mio::event::Source;
use mio::net::TcpListener;
#[cfg(unix)]
use mio::net::UnixListener;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::{Arc, Mutex};

/// Options of a listener; see [`Server::listen_with`](crate::Server::listen_with).
#[derive(Clone, Debug, Default)]
pub struct ListenOptions {
    is_proxied: bool,
    #[cfg(feature = "tls")]
    tls: Option<crate::Tls>,
    tag: u8,
    is_internal: bool,
}

impl ListenOptions {
    /// Returns the options that [`Server::listen`](crate::Server::listen) uses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that each connection begins with a header of the PROXY protocol, version 1 or 2. The source address in
    /// the header is the client's address for [`Context::peer_addr`](crate::Context::peer_addr), the log and the limits
    /// per address. If the header names no address (`LOCAL`, `UNKNOWN`), the address of the socket is used.
    ///
    /// A connection that does not begin with a valid header is closed without an answer
    /// ([`Error::ProxyHeader`](crate::Error::ProxyHeader)). The header must arrive within
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout) together with the request, and can have at most
    /// [`Config::head_bytes_max`](crate::Config::head_bytes_max) bytes. Its extensions (TLVs) are ignored.
    ///
    /// Any peer that can connect to such a listener can choose its own address: make the listener accessible to the
    /// proxy only.
    ///
    /// ```no_run
    /// use wsloop::{Config, ListenOptions, Server, handlers::Echo};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Echo::new())?;
    /// server.listen_with("127.0.0.1:9700", &ListenOptions::new().proxy_protocol())?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn proxy_protocol(mut self) -> Self {
        self.is_proxied = true;
        self
    }

    /// Demands TLS on each connection, with the certificates and settings of `tls`. With the PROXY protocol, its header
    /// comes before TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: &crate::Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Sets a number for the connections of the listener, 0 by default, which a handler can read
    /// ([`Context::listener_tag`](crate::Context::listener_tag)). So a handler can answer the requests of an internal
    /// listener differently, as `wsloop serve -l metrics:ADDR` does.
    ///
    /// ```
    /// use wsloop::handlers::{Echo, Metrics};
    /// use wsloop::{Config, Context, Handler, HttpResponse, Id, ListenOptions, Message, Request, Server};
    ///
    /// const INTERNAL: u8 = 1;
    ///
    /// struct Both(Echo);
    ///
    /// impl Handler for Both {
    ///     fn inner(&mut self) -> Option<&mut dyn Handler> {
    ///         Some(&mut self.0)
    ///     }
    ///     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
    ///         self.0.on_message(cx, id, message);
    ///     }
    ///     fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
    ///         if cx.listener_tag(id) == INTERNAL {
    ///             return Metrics.on_http(cx, id, request);
    ///         }
    ///         HttpResponse::new(404, "not found\n")
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Both(Echo::new()))?;
    /// server.listen("127.0.0.1:0")?;
    /// server.listen_with("127.0.0.1:0", &ListenOptions::new().tag(INTERNAL))?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: u8) -> Self {
        self.tag = tag;
        self
    }

    /// Exempts the connections of the listener from the limits that clients can exhaust, for health checks and metrics:
    /// an orchestrator that got 503 or 429 would restart a server that is full and works. The connections are not
    /// counted for the address of their socket, not even if it is that of a trusted proxy
    /// ([`connections_per_address_max`](crate::Config::connections_per_address_max),
    /// [`handshakes_per_address_max`](crate::Config::handshakes_per_address_max)). They count for
    /// [`connections_max`](crate::Config::connections_max), but if it is reached, internal listeners accept 4 connections
    /// more; above, they answer with 503 as other listeners do. Make such a listener accessible to internal clients only.
    ///
    /// ```no_run
    /// use wsloop::{Config, ListenOptions, Server, handlers::Metrics};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = Server::new(Config::default(), Metrics)?;
    /// server.listen_with("127.0.0.1:9700", &ListenOptions::new().internal())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }
}

/// A connection that a listener has accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Stream,
    /// The address of the peer if the connection is TCP.
    pub(super) peer: Option<SocketAddr>,
    pub(super) entrance: Entrance,
    /// The number of the listener's options.
    pub(super) tag: u8,
}

/// A listening socket that is registered with the poll.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: ListeningSocket,
    /// The address with the actual port; `None` for a Unix socket.
    pub(super) addr: Option<SocketAddr>,
    options: ListenOptions,
    #[cfg(feature = "tls")]
    tls_scratch: Arc<Mutex<Scratch>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The backlog was empty at the last accept. The next connection causes an event.
    Drained,
    /// The backlog may have connections.
    Pending,
    /// Accept has failed, and the backlog may have connections. Accept is retried at this time, or when a session is
    /// reaped.
    Failed { retry_at: u64 },
    /// Accept is to be called again. The failure was reported. Further failures are not reported until the backlog has
    /// been empty.
    Retrying,
}

impl Listener {
    /// Returns a listener in the state `Pending`, because connections may have arrived before its registration.
    pub(super) fn new(socket: ListeningSocket, options: &ListenOptions) -> io::Result<Self> {
        let addr = socket.addr()?;
        Ok(Self {
            socket,
            addr,
            options: options.clone(),
            #[cfg(feature = "tls")]
            tls_scratch: Arc::default(),
            state: State::Pending,
        })
    }

    /// Called when the poll reports connections.
    pub(super) fn mark(&mut self) {
        if self.state == State::Drained {
            self.state = State::Pending;
        }
    }

    /// Called when a descriptor may have become free: ends the wait after a failure.
    pub(super) fn retry(&mut self) {
        if let State::Failed { .. } = self.state {
            self.state = State::Retrying;
        }
    }

    /// Returns the milliseconds until accept is to be called, or `None` if it is to be called after the next event.
    pub(super) fn next_in(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Drained => None,
            State::Pending | State::Retrying => Some(0),
            State::Failed { retry_at } => Some(retry_at.saturating_sub(now)),
        }
    }

    /// Accepts connections until the backlog is empty, or `budget` of them are accepted. Passes each to `register`.
    pub(super) fn accept<H: Handler>(
        &mut self,
        budget: usize,
        engine: &mut Engine,
        handler: &mut H,
        mut register: impl FnMut(&mut Engine, Accepted),
    ) {
        if self.next_in(engine.now()) != Some(0) {
            return;
        }
        self.retry();
        for _ in 0..budget {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    #[cfg(feature = "tls")]
                    let Some(stream) = self.with_tls(stream) else {
                        continue;
                    };
                    let accepted = Accepted {
                        stream,
                        peer,
                        entrance: Entrance {
                            is_proxied: self.options.is_proxied,
                            is_internal: self.options.is_internal,
                        },
                        tag: self.options.tag,
                    };
                    register(engine, accepted);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.state = State::Drained;
                        return;
                    }
                    // The client has disconnected while in the backlog. Others may follow.
                    ErrorKind::ConnectionAborted
                    | ErrorKind::ConnectionReset
                    | ErrorKind::Interrupted => {}
                    _ => {
                        self.failed(error, engine, handler);
                        return;
                    }
                },
            }
        }
    }

    /// Adds TLS to a connection if the listener demands it. Returns `None`, which closes the connection, if rustls cannot
    /// use the configuration that the program has made for it.
    #[cfg(feature = "tls")]
    fn with_tls(&self, stream: Stream) -> Option<Stream> {
        let Some(tls) = &self.options.tls else {
            return Some(stream);
        };
        match TlsStream::new(stream, tls.current(), Arc::clone(&self.tls_scratch)) {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                log::error!("closed a connection: rustls cannot use its configuration: {error}");
                None
            }
        }
    }

    /// Called when accept fails with EMFILE, ENFILE, ENOBUFS, ENOMEM or another error that concerns no single
    /// connection. Reports the first such error since the backlog was empty, and schedules a retry.
    fn failed<H: Handler>(&mut self, error: io::Error, engine: &mut Engine, handler: &mut H) {
        let is_first_failure = self.state == State::Pending;
        self.state = State::Failed {
            retry_at: engine.now() + RETRY_MILLIS,
        };
        if is_first_failure {
            log::warn!(
                "cannot accept connections on {}: {error}; clients wait in the backlog, and accept is retried every \
                 {RETRY_MILLIS} ms (too many open files: raise the limit of open files, or lower connections_max)",
                self.socket.name()
            );
            handler.on_error(&mut Context::new(engine), None, &Error::Io(error));
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl ListeningSocket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            #[cfg(unix)]
            Self::Unix(listener) => listener,
        }
    }

    /// Accepts a connection. Returns its stream, and the address of the peer if the connection is TCP.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // The output of a turn is written at once, so Nagle's algorithm could only delay it. A failure means
                // that the connection has ended already, which the first read reports.
                drop(stream.set_nodelay(true));
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }

    /// Limits the bytes that the kernel accepts before it has sent them, for each connection accepted later
    /// ([`Config::kernel_unsent_bytes_max`](crate::Config::kernel_unsent_bytes_max)). Accepted connections inherit the
    /// option from the listener, which saves a system call for each.
    ///
    /// # Errors
    /// The system's error, with the name of the limit.
    #[cfg(all(unix, feature = "socket-options"))]
    pub(super) fn limit_unsent_bytes(&self, bytes: u32) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => set_unsent_bytes_max(socket2::SockRef::from(listener), bytes)
                .map_err(|error| {
                    let text = format!("cannot set kernel_unsent_bytes_max to {bytes}: {error}");
                    io::Error::new(error.kind(), text)
                }),
            // A write to a Unix socket appends to the peer's receive queue: the kernel has nothing to send later.
            Self::Unix(_) => Ok(()),
        }
    }

    /// Returns the address with the actual port; `None` for a Unix socket.
    pub(super) fn addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    /// Returns the address or the path, for the log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |addr| addr.to_string()),
            #[cfg(unix)]
            Self::Unix(listener) => match listener.local_addr() {
                Ok(addr) => addr
                    .as_pathname()
                    .map_or("a Unix socket without path".to_owned(), |path| {
                        format!("unix:{}", path.to_string_lossy())
                    }),
                Err(error) => error.to_string(),
            },
        }
    }
}

impl Source for ListeningSocket {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

#[cfg(all(
    feature = "socket-options",
    any(target_os = "linux", target_os = "android")
))]
fn set_unsent_bytes_max(socket: socket2::SockRef<'_>, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

#[cfg(all(
    unix,
    feature = "socket-options",
    not(any(target_os = "linux", target_os = "android"))
))]
fn set_unsent_bytes_max(socket: socket2::SockRef<'_>, bytes: u32) -> io::Result<()> {
    socket.set_send_buffer_size(bytes as usize)
}

/// Maximum connections that one turn accepts from one listener, so that other listeners and the sessions are not
/// delayed.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

/// Maximum connections that are accepted from a listener before it is closed: a full backlog. The limit ends the phase
/// even if new connections arrive all the time.
pub(super) const BACKLOG_ACCEPTS_MAX: usize = 65_536;

/// Interval in milliseconds at which a failed accept is retried: long enough not to load the processor, and too short
/// for a client to notice.
const RETRY_MILLIS: u64 = 100;
