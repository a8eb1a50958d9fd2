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
//! server.run()?; // returns after `Context::stop` or `Handle::stop`
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] has chapters: [the first hour](guide::first_hour), the [architecture](guide::architecture),
//! [one turn of the loop](guide::turn), [how a message is received and sent](guide::message),
//! [memory per connection](guide::memory), [choosing limits](guide::limits), [slow clients](guide::slow),
//! [other threads](guide::threads), [other event loops](guide::embedding), [testing a handler](guide::testing),
//! [operating the binary](guide::operating), [TLS](guide::tls), [deploying it](guide::deployment),
//! [proxies](guide::proxies), [whole programs](guide::programs).
//!
//! # In short
//!
//! - The methods of a [`Handler`] are called for the events of sessions; a [`Context`] has the operations on sessions.
//!   Both are used on one thread, so there are no locks.
//! - A turn of the loop has phases: poll, accept, read, expire, flush, reap. The messages and Closes that a handler
//!   sends are queued, and written in the flush phase; a message of 16 KiB or more is written at once if nothing is
//!   queued before it. Short messages of one turn to one peer leave in one write.
//! - A [`Message`] borrows a buffer of the loop until the handler returns.
//! - A topic is a log; its members are the sessions that are subscribed to it. [`Context::publish`] frames a message
//!   once: a turn with M publications to N members costs M frames and about N writes, not M x N.
//! - A session is one connection, from accept to its end. Every queue, buffer, count and wait has a limit, nearly all
//!   of them in [`Config`]. A violation by a peer is answered with a Close code or an HTTP status, and the answer has
//!   time to arrive before the socket is closed.
//! - Other threads use a [`Handle`].
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `serve` | yes | the server binary; enables `client-addresses`, `http-date`, `simd` and `socket-options` |
//! | `connect`, `bench` | yes | the binary's commands of that name |
//! | `mimalloc` | yes | the binary's allocator, which returns memory after a burst |
//! | `socket-options` | with `serve` | [`Config::kernel_unsent_bytes_max`]; a reset, which frees the kernel's memory, for peers that accept nothing |
//! | `client-addresses` | with `serve` | [limits per client address](Config::connections_per_address_max), [trusted proxies](Config::trusted_proxies) |
//! | `http-date` | with `serve` | the header `Date` in HTTP responses |
//! | `proxy-protocol` | yes | listeners for proxies that send the PROXY protocol (`ListenOptions::proxy_protocol`); enables `client-addresses` |
//! | `simd` | with `serve` | UTF-8 checked with vector instructions |
//! | `tls` | no | listeners that speak TLS (`Server::listen_tls`), with rustls and ring; needs a C compiler |
//! | `tls-self-signed` | no | the binary's flag `--tls-self-signed` |
//!
//! Without default features the library depends on `mio`, `tungstenite` (its parts without sockets), `slab` and `log` only.
//! It logs through [`log`]: at level info when a session opens and when it ends, at level debug each message. The loop calls
//! the logger directly, so choose a logger that does not block.

// A library does not print. Besides, `println!` and `eprintln!` panic if they cannot write.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "backplane")]
pub mod backplane;
mod buffer;
mod config;
mod context;
mod engine;
mod error;
mod forwarded;
pub mod guide;
mod handler;
pub mod handlers;
mod id;
mod metrics;
mod names;
mod network;
mod outbound;
pub mod page;
pub mod proto;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
#[cfg(test)]
mod random;
#[cfg(feature = "redis")]
pub mod redis;
mod router;
mod server;
mod session_map;

mod stats;
mod stream;
#[cfg(feature = "tls")]
mod tls;

pub use config::{
    Config, ConfigError, ForwardedHeader, LagPolicy, Replay, SessionLimits, descriptors_max,
};
pub use context::Context;
pub use engine::sources::Ready;
pub use engine::timers::When;
pub use error::{Close, Error, Limit, SendStatus, Side};
pub use handler::{Handler, HandlerFn, handler_fn};
pub use id::{Id, SourceId, TimerId};
pub use network::{Network, NetworkError};
pub use proto::{HttpResponse, Message, OwnedMessage, Request, ToMessage, Upgrade};
pub use router::{RouteHandler, Router};
pub use server::{Handle, HandleError, ListenOptions, Server, Turn, testing};
pub use session_map::SessionMap;
pub use stats::{Stats, TurnTimes};
#[cfg(feature = "tls")]
pub use tls::{
    ClientCertificates, Tls, TlsBuilder, TlsCertificate, TlsError, TlsErrorKind, TlsReload,
    TlsSession, TlsStats,
};

/// mio 1, whose sources [`Context::register`] takes: depend on the same major version, or use this export. Sources such as
/// `mio::unix::SourceFd` need mio's feature `os-ext`, which a program enables in its own dependency on mio.
pub use mio;

/// rustls 0.23, whose configurations [`Tls::from_config`] takes: depend on the same version, or use this export.
#[cfg(feature = "tls")]
pub use rustls;

/// The `http` crate, which has the types of the parts of requests and responses: `HeaderMap`, `Uri` and others.
pub use tungstenite::http;

use std::io;
use std::net::ToSocketAddrs;

/// Serves WebSockets on `addr`, on this thread, with the default limits. The closure `on_message` is called for each
/// message; its return value is ignored. Returns after `on_message` has called [`Context::stop`].
///
/// ```no_run
/// wsloop::serve("127.0.0.1:8080", |cx, id, message| cx.send(id, message))?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Errors of the operating system from listening on `addr` or from polling.
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
