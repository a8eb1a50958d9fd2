//! The stream of one session: a TCP or Unix socket, TLS on one of these, or a transport in memory for tests.

#[cfg(feature = "tls")]
use crate::tls::stream::TlsStream;
use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
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
    #[cfg(unix)]
    Unix(UnixStream),
    /// A stream without a socket. Boxed twice, because a boxed trait object has two words, which would enlarge every
    /// `Stream`.
    Memory(Box<Memory>),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
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
    /// This holds for TCP with epoll and kqueue. On Windows, mio reports further bytes only after a read that would
    /// block. A read of a Unix socket stops where ancillary data was sent (unix(7)), even if more bytes follow. A read of a
    /// TLS stream can stop at the end of a record; see [`TlsStream::is_drained`].
    pub(crate) fn is_drained_by_short_read(&self) -> bool {
        match self {
            Self::Tcp(_) => cfg!(unix),
            Self::Memory(_) => true,
            #[cfg(unix)]
            Self::Unix(_) => false,
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }

    /// Returns whether the listener demands TLS.
    #[cfg(any(feature = "proxy-protocol", feature = "tls"))]
    pub(crate) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls().is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Returns the TLS stream. `None` if the listener does not demand TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&TlsStream> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Tcp(_) | Self::Memory(_) => None,
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// As [`tls`](Self::tls).
    #[cfg(feature = "tls")]
    pub(crate) fn tls_mut(&mut self) -> Option<&mut TlsStream> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Tcp(_) | Self::Memory(_) => None,
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Returns whether bytes that `write` has accepted wait for the socket, as sealed bytes of a [`TlsStream`] can. `flush`
    /// writes them.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Self::Tls(tls) = self {
            return tls.has_unsent();
        }
        false
    }

    /// Returns the number of bytes that wait for the socket; see [`has_unsent`](Self::has_unsent).
    pub(crate) fn unsent_len(&self) -> usize {
        #[cfg(feature = "tls")]
        if let Self::Tls(tls) = self {
            return tls.unsent_len();
        }
        0
    }

    /// Writes to a stream without TLS. For a stream with TLS, returns `WouldBlock`, so that a fast path leaves the bytes to
    /// the general one.
    #[inline]
    pub(crate) fn write_unsealed(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
            _ => self.write(bytes),
        }
    }

    /// Returns the pending error of the stream, if the system has one.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.take_error(),
            Self::Memory(_) => Ok(None),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => return tls.socket().take_error(),
        }
        .unwrap_or_else(Some)
    }

    /// Makes closing the socket reset the connection, so that the kernel discards unsent bytes at once instead of
    /// holding them for a peer that accepts nothing. Has no effect without the feature `socket-options`, on Windows, and
    /// on streams other than TCP.
    pub(crate) fn reset_on_close(&self) {
        #[cfg(all(unix, feature = "socket-options"))]
        if let Self::Tcp(stream) = self.socket() {
            // A failure means that the connection has ended already.
            drop(socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
        }
    }

    /// Returns the stream below TLS, or this one.
    #[cfg(all(unix, feature = "socket-options"))]
    fn socket(&self) -> &Self {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.socket(),
            stream => stream,
        }
    }

    /// Returns the socket, or `Unsupported` for a stream without one.
    fn source(&mut self) -> io::Result<&mut dyn Source> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            #[cfg(unix)]
            Self::Unix(stream) => Ok(stream),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.socket_mut().source(),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buf),
            Self::Memory(memory) => memory.transport.read(buf),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(windows)]
            Self::Tcp(stream) => write_until_blocked(stream, &[IoSlice::new(bytes)]),
            #[cfg(not(windows))]
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
            Self::Memory(memory) => memory.transport.write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            #[cfg(windows)]
            Self::Tcp(stream) => write_until_blocked(stream, slices),
            #[cfg(not(windows))]
            Self::Tcp(stream) => stream.write_vectored(slices),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write_vectored(slices),
            Self::Memory(memory) => memory.transport.write_vectored(slices),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.write_vectored(slices),
        }
    }

    /// Writes bytes that were accepted and wait for the socket. `WouldBlock` if some remain.
    fn flush(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Self::Tls(tls) = self {
            return tls.flush();
        }
        Ok(())
    }
}

impl Transport for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Memory(memory) => memory.transport.shutdown_write(),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.shutdown_write(),
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
        self.source()?.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source()?.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source()?.deregister(registry)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

/// Writes until the stream has accepted everything or would block. The server assumes that a stream is full after a short
/// write. On Windows, mio reports that there is space again only after a write that would block.
#[cfg(any(windows, test))]
fn write_until_blocked(stream: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut total = 0;
    for slice in slices {
        let mut rest = &slice[..];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(0) => return Ok(total),
                Ok(len) => {
                    total += len;
                    rest = &rest[len..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another error is not returned here, because the poll reports it, too.
                Err(_) if total > 0 => return Ok(total),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io::ErrorKind;

    type Written = Result<usize, ErrorKind>;

    /// A stream with the results of its next writes.
    struct Script(VecDeque<Written>);

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let result = self.0.pop_front().expect("no further write");
            Ok(result?.min(bytes.len()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_short_write_is_continued_until_all_is_written_or_the_stream_is_blocked() {
        use ErrorKind::{ConnectionReset, Interrupted, WouldBlock};
        let table: &[(&[Written], Written)] = &[
            (&[Ok(9), Ok(9)], Ok(7)),
            (&[Ok(1), Ok(1), Ok(1), Ok(9)], Ok(7)),
            (&[Ok(3), Ok(2), Err(WouldBlock)], Ok(5)),
            (&[Ok(1), Err(Interrupted), Ok(2), Ok(4)], Ok(7)),
            (&[Err(WouldBlock)], Err(WouldBlock)),
            (&[Ok(2), Err(ConnectionReset)], Ok(2)),
            (&[Err(ConnectionReset)], Err(ConnectionReset)),
            (&[Ok(2), Ok(0)], Ok(2)),
        ];
        for (writes, expected) in table {
            let mut stream = Script(writes.iter().copied().collect());
            let slices = [
                IoSlice::new(b"abc"),
                IoSlice::new(b""),
                IoSlice::new(b"defg"),
            ];
            let written = write_until_blocked(&mut stream, &slices);
            assert_eq!(written.map_err(|error| error.kind()), *expected);
            assert!(stream.0.is_empty(), "{writes:?}");
        }
    }
}
