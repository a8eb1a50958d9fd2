//! The errors that handlers are given, and the description of how a session ended.

use crate::proto::{HeadError, OpeningError, ProtocolError, ResponseError};
use std::fmt;
use std::io;

/// Why a session or a listener failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The peer violated the protocol.
    Protocol(ProtocolError),
    /// A socket failed.
    Io(io::Error),
    /// A response that `Handler::on_upgrade` altered violates the protocol. The client got a 500.
    Response(ResponseError),
    /// One of the limits of [`Config`](crate::Config) that [`Limit`] lists was exceeded. Messages and requests that
    /// are too large are [`Protocol`](Self::Protocol).
    Limit(Limit),
    /// The connection was refused because the server is draining ([`Handle::drain`](crate::Handle::drain)) or stopping.
    Shutdown,
    /// The connection did not begin with a valid header of the PROXY protocol, which its listener demands
    /// (`ListenOptions::proxy_protocol`).
    ProxyHeader,
    /// TLS failed, in its handshake or later. The peer was sent an alert, if there is one for the error.
    #[cfg(feature = "tls")]
    Tls(rustls::Error),
    /// The first byte of a connection on a listener with TLS does not begin TLS. If it is a letter that can begin an HTTP
    /// request, the client was sent a response 400 in plain HTTP.
    #[cfg(feature = "tls")]
    NotTls,
    /// The handler panicked while this session's input was processed. The rest of that input is lost, so the session
    /// was terminated.
    HandlerPanicked,
}

impl Error {
    /// Returns the name of the field of [`Config`](crate::Config) that the peer's input exceeded, if the protocol has
    /// found that.
    pub(crate) fn protocol_limit(&self) -> Option<&'static str> {
        let Self::Protocol(error) = self else {
            return None;
        };
        match error {
            ProtocolError::MessageTooBig => Some("message_bytes_max"),
            ProtocolError::TooManyFragments => Some("fragments_max"),
            ProtocolError::Opening(OpeningError::Head(HeadError::TooLong)) => {
                Some("head_bytes_max")
            }
            ProtocolError::Opening(OpeningError::Head(HeadError::TooManyHeaders)) => {
                Some("headers_max")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Response(error) => error.fmt(f),
            Self::Limit(limit) => write!(f, "{limit} reached"),
            Self::Shutdown => f.write_str("the server is draining or stopping"),
            Self::ProxyHeader => f.write_str("no valid header of the PROXY protocol"),
            #[cfg(feature = "tls")]
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            #[cfg(feature = "tls")]
            Self::NotTls => f.write_str("the client does not speak TLS"),
            Self::HandlerPanicked => f.write_str("the handler panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Protocol(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Response(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::Tls(error) => Some(error),
            #[cfg(feature = "tls")]
            Self::NotTls => None,
            Self::Limit(_) | Self::Shutdown | Self::ProxyHeader | Self::HandlerPanicked => None,
        }
    }
}

/// A limit or timeout of [`Config`](crate::Config) that ends or refuses a connection. Displayed as the name of the
/// field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Config::connections_max`](crate::Config::connections_max)
    ConnectionsMax,
    /// [`Config::handshakes_max`](crate::Config::handshakes_max)
    HandshakesMax,
    /// [`Config::connections_per_address_max`](crate::Config::connections_per_address_max)
    ConnectionsPerAddressMax,
    /// [`Config::handshakes_per_address_max`](crate::Config::handshakes_per_address_max)
    HandshakesPerAddressMax,
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout)
    HandshakeTimeout,
    /// [`Config::idle_timeout`](crate::Config::idle_timeout)
    IdleTimeout,
    /// [`Config::write_timeout`](crate::Config::write_timeout)
    WriteTimeout,
    /// [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max)
    BacklogBytesMax,
    /// [`Config::lag_bytes_max`](crate::Config::lag_bytes_max)
    LagBytesMax,
}

impl Limit {
    /// Returns the name of the field of [`Config`](crate::Config).
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionsMax => "connections_max",
            Self::HandshakesMax => "handshakes_max",
            Self::ConnectionsPerAddressMax => "connections_per_address_max",
            Self::HandshakesPerAddressMax => "handshakes_per_address_max",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::BacklogBytesMax => "backlog_bytes_max",
            Self::LagBytesMax => "lag_bytes_max",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a session ended, RFC 6455 sections 7.1.4 to 7.1.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close<'a> {
    /// The close code (section 7.4) of the side that began to close, or the server's code if the peer violated the
    /// protocol. 1005 ([`CODE_NONE`](crate::proto::CODE_NONE)): the Close had no code. 1006
    /// ([`CODE_ABNORMAL`](crate::proto::CODE_ABNORMAL)): neither side sent a Close.
    ///
    /// If the server has sent a Close and the peer has not answered, this is the server's code, and `is_clean` is
    /// false. Section 7.1.5 has 1006 in this case.
    pub code: u16,
    /// The reason that belongs to `code`, often empty. A reason from the peer has at most 123 bytes.
    pub reason: &'a str,
    /// Whether both Closes were exchanged.
    pub is_clean: bool,
    /// Which side ended the session first; [`Side`] lists the causes.
    pub by: Side,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This server: `Context::close` or `terminate`, a stop, a limit, a timeout, a violation that the server found, a
    /// handler that panicked, or a socket error that is not listed at `Peer`.
    Us,
    /// The client: a Close, an end of stream, a reset, a broken pipe at a write.
    Peer,
}

/// The result of [`Context::send`](crate::Context::send). See [`guide::slow`](crate::guide::slow).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message to a session that has ended is lost, and above the high-water mark further messages should wait for on_drain"]
#[non_exhaustive]
pub enum SendStatus {
    /// The message is queued, or was written at once.
    Queued,
    /// The message is queued, and the session has more unsent bytes than its high-water mark: wait for `on_drain`
    /// before sending more.
    OverHighWater,
    /// The message is not sent: the session is closing or has ended, or its socket failed while this message was
    /// written. `on_close` follows, or was called already.
    Closed,
    /// The message is not sent, and the session is terminated: its unsent bytes of direct messages exceed
    /// [`Config::high_water_bytes`](crate::Config::high_water_bytes), and the message would make them exceed
    /// [`Config::backlog_bytes_max`](crate::Config::backlog_bytes_max). Later sends return [`Closed`](Self::Closed).
    OverLimit,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_names_its_source() {
        let error = Error::Io(io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.source().unwrap().to_string(), "broken pipe");
        let error = Error::Protocol(ProtocolError::TextNotUtf8);
        assert!(error.source().is_some());
        assert!(Error::Limit(Limit::IdleTimeout).source().is_none());
    }

    #[test]
    fn a_limit_is_displayed_by_its_name() {
        let error = Error::Limit(Limit::BacklogBytesMax);
        assert_eq!(error.to_string(), "backlog_bytes_max reached");
    }
}
