//! A WebSocket server on one thread and one `mio` poll loop.

mod config;
mod handler;
pub mod handlers;
mod outbound;
pub mod proto;
mod router;
mod server;

pub use config::{Config, ConfigError, LagPolicy, descriptors_max};
pub use handler::{
    Close, Context, Error, Handler, HandlerFn, Id, SendStatus, Side, TimerId, handler_fn,
};
pub use proto::{HttpResponse, Message, Request, Upgrade};
pub use router::Router;
pub use server::{Handle, HandleError, Server, Turn};

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
