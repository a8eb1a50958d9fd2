//! Listeners: the accept phase, which loses no client that waits in a backlog.
//!
//! mio is edge-triggered: after an accept that failed for want of descriptors no further event comes while
//! clients wait. So a listener stays pending until accept says that it would block; a failed one is tried again
//! when a session was reaped, and after a while anyway.

use crate::context::Context;
use crate::engine::Engine;
use crate::error::Error;
use crate::handler::Handler;
use crate::stream::Stream;
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// A listening socket that is registered with the poll.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: ListeningSocket,
    /// Its real one; `None` for a Unix socket.
    pub(super) addr: Option<SocketAddr>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The backlog was empty: the next client is a new event.
    Drained,
    /// Clients may wait in the backlog.
    Pending,
    /// Accept failed; clients may wait. Try again at this time, or when a session is reaped.
    Failed { retry_at: u64 },
    /// To be tried again after a failure, which was told and is not told again before the backlog was empty.
    Retrying,
}

impl Listener {
    pub(super) fn new(socket: ListeningSocket) -> io::Result<Self> {
        let addr = socket.addr()?;
        Ok(Self {
            socket,
            addr,
            state: State::Pending,
        })
    }

    /// The poll said that clients wait.
    pub(super) fn mark(&mut self) {
        if self.state == State::Drained {
            self.state = State::Pending;
        }
    }

    /// A descriptor has become free.
    pub(super) fn retry(&mut self) {
        if let State::Failed { .. } = self.state {
            self.state = State::Retrying;
        }
    }

    /// How long until the listener is to be tried, in milliseconds; `None`: when the poll says so.
    pub(super) fn next_in(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Drained => None,
            State::Pending | State::Retrying => Some(0),
            State::Failed { retry_at } => Some(retry_at.saturating_sub(now)),
        }
    }

    /// Takes connections until none waits, or `budget` is spent.
    pub(super) fn accept<H: Handler>(
        &mut self,
        budget: usize,
        engine: &mut Engine,
        handler: &mut H,
        mut register: impl FnMut(&mut Engine, Stream, Option<SocketAddr>),
    ) {
        if self.next_in(engine.now()) != Some(0) {
            return;
        }
        self.retry();
        for _ in 0..budget {
            match self.socket.accept() {
                Ok((stream, peer)) => register(engine, stream, peer),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.state = State::Drained;
                        return;
                    }
                    // The client went away while it waited; the next one may be there.
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

    /// EMFILE, ENFILE, ENOBUFS, ENOMEM, and what else accept(2) may say: nothing to do but to wait.
    fn failed<H: Handler>(&mut self, error: io::Error, engine: &mut Engine, handler: &mut H) {
        let is_news = self.state == State::Pending;
        self.state = State::Failed {
            retry_at: engine.now() + RETRY_MILLIS,
        };
        if is_news {
            log::warn!(
                "cannot accept on {}: {error}; clients wait in the backlog",
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
    Unix(UnixListener),
}

impl ListeningSocket {
    /// The next connection that waits, and its peer's address if it has one.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // What a turn produced leaves in one write, so there is nothing for Nagle to gather. A failure
                // here means that the connection is gone already, which the first read will tell.
                drop(stream.set_nodelay(true));
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }

    /// Where it listens, with its real port; `None` for a Unix socket.
    pub(super) fn addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
        }
    }

    /// For the log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |addr| addr.to_string()),
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
        match self {
            Self::Tcp(source) => source.register(registry, token, interests),
            Self::Unix(source) => source.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(source) => source.reregister(registry, token, interests),
            Self::Unix(source) => source.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(source) => source.deregister(registry),
            Self::Unix(source) => source.deregister(registry),
        }
    }
}

/// Connections that one turn takes from one listener before the others, and the sessions, have their turn.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

/// Connections that are taken from a listener before it is closed: those that a full backlog holds, and not without
/// end while others come.
pub(super) const LAST_ACCEPTS_MAX: usize = 65_536;

/// Between two tries of a listener whose accept fails: no spin, and no client waits noticeably longer.
const RETRY_MILLIS: u64 = 100;
