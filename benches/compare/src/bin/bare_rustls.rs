//! The reference for handshakes: `bare_rustls PORT CERTIFICATE KEY` accepts connections, does the handshake of TLS with rustls'
//! `ServerConnection` on one thread with epoll, and closes a connection when its client does. It has no deadline and no
//! limit, and discards data.

#[path = "../tls.rs"]
mod tls;

use rustls::{ServerConfig, ServerConnection};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

struct Connection {
    stream: TcpStream,
    tls: ServerConnection,
}

/// The listener's token; the other tokens are indices of connections.
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, certificate, key] = &arguments[..] else {
        panic!("usage: bare_rustls PORT CERTIFICATE KEY");
    };
    let config = Arc::new(tls::server_config(certificate, key));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free");
    unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    listener.set_nonblocking(true).expect("a socket option");
    println!("listening");
    std::io::stdout().flush().expect("stdout is there");
    let epoll = unsafe { libc::epoll_create1(0) };
    register(epoll, listener.as_raw_fd(), LISTENER);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    loop {
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            if event.u64 == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let connection = Connection::new(stream, &config);
                    let index = free.pop().unwrap_or(connections.len());
                    register(epoll, connection.stream.as_raw_fd(), index as u64);
                    if index == connections.len() {
                        connections.push(None);
                    }
                    connections[index] = Some(connection);
                }
                continue;
            }
            let index = event.u64 as usize;
            if let Some(connection) = &mut connections[index]
                && !connection.progress()
            {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn register(epoll: RawFd, fd: RawFd, token: u64) {
    let events = libc::EPOLLIN as u32;
    let mut event = libc::epoll_event { events, u64: token };
    unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
}

impl Connection {
    fn new(stream: TcpStream, config: &Arc<ServerConfig>) -> Self {
        stream.set_nonblocking(true).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        let tls = ServerConnection::new(Arc::clone(config)).expect("a configuration");
        Self { stream, tls }
    }

    /// Reads once, and writes the answer. Returns whether the connection remains open.
    fn progress(&mut self) -> bool {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let Ok(state) = self.tls.process_new_packets() else {
            return false;
        };
        // The messages of a handshake fit into the socket's buffer.
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.stream).is_err() {
                return false;
            }
        }
        !state.peer_has_closed()
    }
}
