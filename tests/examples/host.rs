//! The server inside another mio poll: a program with an event loop of its own runs the turns of the server. The
//! program's own source here is a UDP socket, whose datagrams are published to the clients with the path `/`.
//!
//! ```text
//! cargo run --example host -- 127.0.0.1:8080 127.0.0.1:8081
//! ```

use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use wsloop::handlers::Broadcast;
use wsloop::{Config, Server, Turn};

fn main() -> io::Result<()> {
    let mut addrs = std::env::args().skip(1);
    let addr = addrs.next().unwrap_or("127.0.0.1:8080".to_owned());
    let udp = addrs.next().unwrap_or("127.0.0.1:8081".to_owned());
    let udp = udp.parse().map_err(io::Error::other)?;
    let mut host = Host::new(&addr, udp)?;
    println!("listening on ws://{}/", host.addr()?);
    println!(
        "publishing the datagrams that arrive on {}",
        host.udp_addr()?
    );
    while host.pass()? == Turn::Running {}
    Ok(())
}

/// The program: its poll, its UDP socket and the server.
pub(crate) struct Host {
    poll: Poll,
    events: Events,
    udp: UdpSocket,
    pub(crate) server: Server<Broadcast>,
}

impl Host {
    pub(crate) fn new(addr: &str, udp: SocketAddr) -> io::Result<Self> {
        let mut server = Server::new(Config::default(), Broadcast)?;
        server.listen(addr)?;
        let poll = Poll::new()?;
        let mut udp = UdpSocket::bind(udp)?;
        let fd = server.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), SERVER, Interest::READABLE)?;
        poll.registry()
            .register(&mut udp, UDP, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(64),
            udp,
            server,
        })
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.server
            .local_addrs()
            .next()
            .ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Waits for events and handles them.
    pub(crate) fn pass(&mut self) -> io::Result<Turn> {
        // The server's deadlines and timers do not make its descriptor readable, so the poll must end in time for them.
        let timeout = self.server.next_timeout();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if self.events.iter().any(|event| event.token() == UDP) {
            let mut datagram = [0; 65_536];
            // Read until the socket would block: readiness is edge-triggered.
            while let Ok(len) = self.udp.recv(&mut datagram) {
                // The topic of `Broadcast` is the path.
                self.server
                    .with_context(|cx| cx.publish("/", &datagram[..len]));
            }
        }
        // Runs a turn after every wake-up, whatever its reason. A turn without work costs one poll that does not sleep.
        self.server.turn(Some(std::time::Duration::ZERO))
    }

    /// Returns the address of the UDP socket.
    pub(crate) fn udp_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

const SERVER: Token = Token(0);
const UDP: Token = Token(1);
