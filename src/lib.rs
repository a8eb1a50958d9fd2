//! A WebSocket server on one thread and one [`mio`] poll loop, to embed or to run.
//!
//! ```
//! use wsloop::{Config, Context, Handler, Id, Message, Server};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
//!         if let Some(text) = message.as_text() {
//!             let _ = cx.send(id, &text.to_uppercase());
//!         }
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let mut server = Server::new(Config::default(), Shout)?;
//! server.listen("127.0.0.1:0")?;
//! # server.handle().stop().unwrap();
//! server.run()?; // until `Context::stop` or `Handle::stop`
//! # Ok(())
//! # }
//! ```
//!
//! # The house
//!
//! Arrows point down only: each layer knows those below it and none above.
//!
//! | layer | what it knows |
//! |---|---|
//! | `cli` (feature `cli`) | people: arguments, signals, exit codes |
//! | [`Router`], [`handlers`], [`page`] | applications: plain users of the [`Handler`] trait |
//! | [`Server`], [`Handle`] | sockets and time: the poll, listeners, sessions, deadlines, the turn |
//! | [`Handler`], [`Context`] | messages and sessions' names: the seam between loop and application |
//! | `outbound` | what a session still owes its peer: owned bytes, ranges of topic logs |
//! | [`proto`] | RFC 6455: bytes in, events and owed bytes out; no socket, clock, log or global |
//!
//! # One turn of the loop
//!
//! Events only mark; phases do: **poll** tells which sockets are ready. **Accept** takes new connections. **Read**
//! reads from each ready session into the one receive buffer, up to its budget; messages that lie whole in the
//! buffer are unmasked in place and borrowed by [`Handler::on_message`]. **Expire** acts on deadlines and timers.
//! **Flush** writes: all that the turn produced for one peer leaves in one call. **Reap** frees what has ended and
//! calls [`Handler::on_close`].
//!
//! A handler queues; it never writes or closes. The exception is for speed alone and shows in nothing else: a
//! message of 16 KiB or more, sent to a session that is owed nothing, is offered to the socket straight from where
//! it lies, and only what the socket does not take is copied.
//!
//! # Topics
//!
//! A topic is a log. [`Context::publish`] frames a message once, into the log; each member has a position in it. At
//! the end of the turn each member is written, in one call, what lies between its position and the end. So a turn
//! costs messages + members, and a member that is slow costs its lag once, however many are slow. Publications to
//! one topic, and direct sends to the same session between them, arrive in the order of the calls; between two
//! topics there is no order. What happens to a member that is too far behind is [`LagPolicy`].
//!
//! # Limits
//!
//! Every queue, buffer, count and wait has a bound in [`Config`], with its unit, default, reason, and what happens
//! at the edge. Whatever a peer does wrong is answered (a Close with the right code, an HTTP status), and the answer
//! is given time to arrive before the socket is closed.

mod bulk;
mod config;
mod handler;
pub mod handlers;
mod metrics;
mod outbound;
pub mod page;
pub mod proto;
mod router;
mod server;
mod spares;
mod stats;

pub use config::{Config, ConfigError, LagPolicy, descriptors_max};
pub use handler::{
    Close, Context, Error, Handler, HandlerFn, Id, SendStatus, Side, TimerId, handler_fn,
};
pub use proto::{HttpResponse, Message, Request, Upgrade};
pub use router::Router;
pub use server::{Handle, HandleError, Server, Turn, testing};
pub use stats::{Stats, TurnTimes};

/// The types of requests' and responses' parts: `HeaderMap`, `Uri` and others of the `http` crate.
pub use tungstenite::http;

use std::io;
use std::net::ToSocketAddrs;

/// Serves WebSockets on `addr`, on this thread, with the default limits, until the process ends.
///
/// ```no_run
/// wsloop::serve("127.0.0.1:8080", |cx, id, message| cx.send(id, message))?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the system says to listening on `addr`, or to polling.
pub fn serve<R>(
    addr: impl ToSocketAddrs,
    on_message: impl FnMut(&mut Context<'_>, Id, Message<'_>) -> R,
) -> io::Result<()> {
    let mut server = Server::new(Config::default(), handler_fn(on_message))?;
    server.listen(addr)?;
    server.run()
}

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
