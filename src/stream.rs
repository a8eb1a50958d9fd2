//! The stream of one session: a TCP or Unix socket, or a transport in memory for tests.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

/// A non-blocking byte stream. `read` and `write` return `WouldBlock` if no byte can be read or written now.
pub(crate) trait Transport: Read + Write {
    /// Shuts down our direction of the stream. Input can still be read.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// The stream that a session reads from and writes to.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A stream without a socket. Boxed twice, because a boxed trait object has two words, which would enlarge every
    /// `Stream`.
    Memory(Box<Memory>),
}

/// See [`Stream::Memory`].
pub(crate) struct Memory {
    transport: Box<dyn Transport + Send>,
}

impl Stream {
    /// Returns a stream without a socket.
    pub(crate) fn memory(transport: impl Transport + Send + 'static) -> Self {
        Self::Memory(Box::new(Memory {
            transport: Box::new(transport),
        }))
    }

    /// Returns whether a read that returns less than was requested has emptied the stream, so that the next byte causes
    /// an event.
    ///
    /// This holds for TCP. A read of a Unix socket stops where ancillary data was sent (unix(7)), even if more bytes
    /// follow.
    pub(crate) fn is_drained_by_short_read(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Memory(_) => true,
            Self::Unix(_) => false,
        }
    }

    /// Returns the pending error of the stream, if the system has one.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
            Self::Memory(_) => Ok(None),
        }
        .unwrap_or_else(Some)
    }

    /// Makes closing the socket reset the connection, so that the kernel discards unsent bytes at once instead of
    /// holding them for a peer that accepts nothing. Has no effect without the feature `socket-options`, and on
    /// streams other than TCP.
    pub(crate) fn reset_on_close(&self) {
        #[cfg(feature = "socket-options")]
        if let Self::Tcp(stream) = self {
            // A failure means that the connection has ended already.
            drop(socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Memory(memory) => memory.transport.read(buf),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Memory(memory) => memory.transport.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Memory(memory) => memory.transport.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Memory(memory) => memory.transport.shutdown_write(),
        }
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Unix(stream) => stream.register(registry, token, interests),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Unix(stream) => stream.reregister(registry, token, interests),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Unix(stream) => stream.deregister(registry),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
