//! A proxy from WebSockets to TCP that runs in the server's loop: each session has an upstream connection of its own.
//! Messages of the client go to the upstream as bytes, and bytes from the upstream go to the client as binary messages.
//!
//! ```text
//! cargo run --example proxy -- 127.0.0.1:8080 127.0.0.1:5900
//! ```
//!
//! Neither side can make the proxy store more than a bounded number of bytes. While the upstream accepts nothing, the
//! session is paused, so TCP makes the client wait. While the client accepts nothing, the upstream is not read.

use mio::Interest;
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use wsloop::{Close, Config, Context, Handler, Id, Message, Ready, SendStatus, Server, SessionMap};

fn main() -> io::Result<()> {
    let mut addrs = std::env::args().skip(1);
    let addr = addrs.next().unwrap_or("127.0.0.1:8080".to_owned());
    let upstream = addrs.next().unwrap_or("127.0.0.1:9000".to_owned());
    let upstream = upstream.parse().map_err(io::Error::other)?;
    let mut server = Server::new(Config::default(), Proxy::new(upstream))?;
    println!("listening on ws://{}/", server.listen(addr)?);
    server.run()
}

/// Connects each session to the upstream server at `addr`.
pub(crate) struct Proxy {
    addr: SocketAddr,
    upstreams: SessionMap<Upstream>,
}

struct Upstream {
    stream: TcpStream,
    /// Bytes of the client that the upstream has not accepted yet: at most those of one message.
    unsent: VecDeque<u8>,
}

impl Proxy {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            upstreams: SessionMap::new(),
        }
    }

    fn connect(&self, cx: &mut Context<'_>, id: Id) -> io::Result<Upstream> {
        let mut stream = TcpStream::connect(self.addr)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        cx.register_for_session(id, &mut stream, 0, both)?;
        let unsent = VecDeque::new();
        Ok(Upstream { stream, unsent })
    }

    /// Writes to the upstream until it would block. Pauses the session while bytes are unsent, and resumes it
    /// afterwards.
    fn write(&mut self, cx: &mut Context<'_>, id: Id) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        while !upstream.unsent.is_empty() {
            match upstream.stream.write(upstream.unsent.as_slices().0) {
                Ok(len) => drop(upstream.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_later(&error) => {
                    cx.pause(id);
                    return;
                }
                Err(error) => return self.fail(cx, id, &error),
            }
        }
        cx.resume(id);
    }

    /// Reads from the upstream until it would block, or until the session's unsent bytes exceed the high-water mark. In
    /// the latter case `on_drain` continues.
    fn read(&mut self, cx: &mut Context<'_>, id: Id) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        let mut buf = [0; 16 * 1024];
        loop {
            match upstream.stream.read(&mut buf) {
                Ok(0) => {
                    self.upstreams.remove(id);
                    cx.close(id, 1000, "the upstream has closed");
                    return;
                }
                Ok(len) => match cx.send(id, &buf[..len]) {
                    SendStatus::Queued => {}
                    _ => return,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_later(&error) => return,
                Err(error) => return self.fail(cx, id, &error),
            }
        }
    }

    fn fail(&mut self, cx: &mut Context<'_>, id: Id, error: &io::Error) {
        self.upstreams.remove(id);
        cx.close(id, 1011, &format!("upstream: {error}"));
    }
}

impl Handler for Proxy {
    fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
        match self.connect(cx, id) {
            Ok(upstream) => drop(self.upstreams.insert(id, upstream)),
            Err(error) => self.fail(cx, id, &error),
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        if let Some(upstream) = self.upstreams.get_mut(id) {
            upstream.unsent.extend(message.as_bytes());
            self.write(cx, id);
        }
    }

    fn on_session_source(&mut self, cx: &mut Context<'_>, id: Id, _: u64, ready: Ready) {
        if ready.is_writable {
            self.write(cx, id);
        }
        if ready.is_readable {
            self.read(cx, id);
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
        self.read(cx, id);
    }

    fn on_close(&mut self, _: &mut Context<'_>, id: Id, _: &Close<'_>) {
        // Closes the connection to the upstream.
        self.upstreams.remove(id);
    }
}

/// Returns whether to try again at the next event: nothing can be read or written now, or the connection is not
/// established yet.
fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
