//! A non-blocking stream of a client.

use super::TlsClient;
#[cfg(feature = "tls-client")]
use super::tls::{TlsError, TlsStream};
use mio::event::Source;
use mio::net::TcpStream;
#[cfg(feature = "connect")]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// The socket address of a server.
#[derive(Debug)]
pub(in super::super) enum Address {
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    #[cfg(feature = "connect")]
    Unix(String),
}

/// A connection to a server, which may be pending.
#[derive(Debug)]
pub(in super::super) enum Stream {
    Tcp(TcpStream),
    #[cfg(feature = "connect")]
    Unix(UnixStream),
    #[cfg(feature = "tls-client")]
    Tls(Box<TlsStream<TcpStream>>),
}

/// The version and the parameters that a TLS handshake has negotiated.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Handshake {
    /// "1.2" or "1.3".
    pub(in super::super) version: &'static str,
    /// rustls' name of the cipher suite.
    pub(in super::super) cipher: &'static str,
    /// Whether the server selected http/1.1. If not, the server does not support ALPN.
    pub(in super::super) has_alpn: bool,
    /// Whether the session of an earlier connection was resumed.
    pub(in super::super) is_resumed: bool,
    /// Time from the end of the TCP handshake to the end of the TLS handshake.
    pub(in super::super) time: Duration,
}

impl Handshake {
    /// Returns the name of the cipher suite in the registry of IANA.
    pub(in super::super) fn cipher(&self) -> String {
        self.cipher.replacen("TLS13_", "TLS_", 1)
    }
}

/// Describes the handshake in one line.
impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpn = if self.has_alpn {
            "ALPN http/1.1"
        } else {
            "no ALPN"
        };
        let kind = if self.is_resumed { "resumed" } else { "full" };
        write!(
            f,
            "TLS {}, {}, {alpn}, {kind} handshake in {:.1} ms",
            self.version,
            self.cipher(),
            self.time.as_secs_f64() * 1000.0
        )
    }
}

/// Why a stream cannot be used.
#[derive(Debug)]
pub(in super::super) enum HandshakeError {
    /// The connection failed.
    #[cfg(feature = "tls-client")]
    Connect(io::Error),
    /// The TLS handshake failed.
    #[cfg(feature = "tls-client")]
    Tls(TlsError),
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
    /// Starts to connect, with TLS if `tls` is given. The path of a Unix socket is used without TLS.
    ///
    /// # Errors
    /// The connection was refused, or the system creates no socket.
    pub(in super::super) fn connect(
        address: &Address,
        tls: Option<&TlsClient>,
    ) -> io::Result<Self> {
        match address {
            Address::Tcp(socket) => {
                let stream = TcpStream::connect(*socket)?;
                // Frames are written whole, so Nagle's algorithm would only delay them.
                let _ = stream.set_nodelay(true);
                match tls {
                    None => Ok(Self::Tcp(stream)),
                    #[cfg(feature = "tls-client")]
                    Some(client) => match TlsStream::new(stream, client) {
                        Ok(stream) => Ok(Self::Tls(Box::new(stream))),
                        Err(error) => Err(io::Error::other(error)),
                    },
                    #[cfg(not(feature = "tls-client"))]
                    Some(client) => match *client {},
                }
            }
            #[cfg(feature = "connect")]
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// Continues the TLS handshake until it has ended or the socket would block. Returns whether it has ended; without
    /// TLS, always true. The first read and the first write must follow the end of the handshake.
    ///
    /// # Errors
    /// The connection or the handshake failed.
    pub(in super::super) fn handshake(&mut self) -> Result<bool, HandshakeError> {
        match self {
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.handshake(),
            _ => Ok(true),
        }
    }

    /// Returns what the TLS handshake has negotiated. `None` before its end, and without TLS.
    pub(in super::super) fn agreed(&self) -> Option<Handshake> {
        match self {
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.agreed(),
            _ => None,
        }
    }

    /// Returns whether the stream is encrypted.
    pub(in super::super) fn is_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls-client")]
            Self::Tls(_) => true,
            _ => false,
        }
    }

    /// Ends TLS before the stream is dropped. Does nothing without TLS.
    pub(in super::super) fn end(&mut self) {
        match self {
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.end(),
            _ => {}
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream,
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.stream(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream.read(buf),
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            #[cfg(feature = "connect")]
            Self::Unix(stream) => stream.write(buf),
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.write(buf),
        }
    }

    /// Writes accepted bytes that are left in the stream, as ciphertext of TLS can be. See [`TlsStream`].
    fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(feature = "tls-client")]
            Self::Tls(stream) => stream.flush(),
            _ => Ok(()),
        }
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
