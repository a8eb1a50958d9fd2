//! Resolves the addresses of the broker, and begins to connect to them.

use super::settings::Endpoint;
use crate::stream::Stream;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

/// An address to which a socket connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Begins to connect; see [`is_connected`].
    pub(super) fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => TcpStream::connect(*address).map(Stream::Tcp),
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }
}

/// Returns whether the socket is connected, or the error of its attempt. Sets the option `TCP_NODELAY` if it is.
pub(super) fn is_connected(stream: &Stream) -> io::Result<bool> {
    if let Some(error) = stream.take_error() {
        return Err(error);
    }
    let peer = match stream {
        Stream::Tcp(stream) => stream.peer_addr().map(drop),
        #[cfg(unix)]
        Stream::Unix(stream) => stream.peer_addr().map(drop),
        _ => Ok(()),
    };
    match peer {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
        Err(error) => return Err(error),
    }
    if let Stream::Tcp(stream) = stream {
        // Without this option, a publication waits until TCP has acknowledged the one before. A failure to set it costs this
        // delay.
        let _ = stream.set_nodelay(true);
    }
    Ok(true)
}

/// Resolves the host of the broker, which blocks, on a thread that ends with the answer.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// The channel of the running thread. If an attempt ends before the thread has answered, the next attempt waits for the
    /// same thread.
    answer: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    /// Returns the addresses; `None` if a thread resolves them, whose result [`answer`](Self::answer) returns.
    pub(super) fn resolve(&mut self, endpoint: &Endpoint) -> io::Result<Option<VecDeque<Address>>> {
        let (host, port) = match endpoint {
            Endpoint::Tcp(host, port) => (host, *port),
            #[cfg(unix)]
            Endpoint::Unix(path) => return Ok(Some([Address::Unix(path.clone())].into())),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port);
            return Ok(Some([Address::Tcp(address)].into()));
        }
        if self.answer.is_none() {
            self.answer = Some(start_thread(host.clone(), port)?);
        }
        self.answer()
    }

    /// Returns the answer of the thread; `None` if it has not answered yet.
    pub(super) fn answer(&mut self) -> io::Result<Option<VecDeque<Address>>> {
        let Some(receiver) = &self.answer else {
            return Ok(None);
        };
        let answer = match receiver.try_recv() {
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Disconnected) => Err(io::Error::other("its thread has failed")),
            Ok(answer) => answer,
        };
        self.answer = None;
        let addresses: VecDeque<_> = answer?.into_iter().map(Address::Tcp).collect();
        match addresses.is_empty() {
            true => Err(io::Error::new(ErrorKind::NotFound, "it has no address")),
            false => Ok(Some(addresses)),
        }
    }
}

fn start_thread(host: String, port: u16) -> io::Result<Receiver<io::Result<Vec<SocketAddr>>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("wsloop-resolver".into())
        .spawn(move || {
            let answer = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            // The receiver was dropped if the server has ended.
            let _ = sender.send(answer);
        })?;
    Ok(receiver)
}
