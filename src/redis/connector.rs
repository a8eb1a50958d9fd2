//! Finds the addresses of the server, and connects to them in turn.

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

/// Where a socket connects to.
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
    /// Begins to connect.
    pub(super) fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => TcpStream::connect(*address).map(Stream::Tcp),
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }
}

/// Returns whether a socket that was reported as writable is connected.
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
        // Without it, a publication waits until the one before is acknowledged by TCP. A failure costs this delay.
        let _ = stream.set_nodelay(true);
    }
    Ok(true)
}

/// Resolves the name of the server. That blocks, so it is done on a thread, which ends with the answer.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// The answer of the thread. A thread that answers late is not started again: its answer is used by the next attempt.
    answer: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
}

impl Resolver {
    /// Returns the addresses; `None` if they are not known yet, so that [`answer`](Self::answer) is to be called.
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

    /// Returns the answer of the thread, if there is one.
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
            // The receiver is gone if the server has ended.
            let _ = sender.send(answer);
        })?;
    Ok(receiver)
}
