//! A non-blocking stream of a client.

use mio::event::Source;
use mio::net::TcpStream;
#[cfg(feature = "connect")]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// The socket address of a server.
#[derive(Debug)]
pub(in super::super) enum Address {
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    #[cfg(feature = "connect")]
    Unix(String),
}

/// A connection to a server, perhaps still pending.
#[derive(Debug)]
pub(in super::super) enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "connect")]
    Unix(UnixStream),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => socket.fmt(f),
            #[cfg(feature = "connect")]
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Stream {
    /// Starts to connect.
    ///
    /// # Errors
    /// The connection was refused, or the system creates no socket.
    pub(in super::super) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(socket) => {
                let stream = TcpStream::connect(*socket)?;
                // Frames are written whole, so Nagle's algorithm would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Self::Tcp(stream))
            }
            #[cfg(feature = "connect")]
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interest)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interest)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}
