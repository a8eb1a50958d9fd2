//! Errors of the opening handshake in the client role (RFC 6455 section 4.1): of the request that the caller describes,
//! and of the server's response.

use super::client::ServerResponse;
use super::head::HeadError;
use std::fmt;
use tungstenite::http::HeaderName;

/// Why a part of the client's request must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// RFC 7230 section 5.4: the host is not a host with an optional port.
    Host,
    /// RFC 7230 section 5.3.1 and RFC 6455 section 3: the target is not a path with an optional query, without a
    /// fragment.
    Target,
    /// Section 4.1 point 10: a subprotocol is not a token, or was offered before.
    Subprotocol,
    /// RFC 7230 section 3.2: a header's name is not a token.
    Name,
    /// A header's value is not printable ASCII.
    Value,
    /// The caller must not add this header. Either the protocol sets it, or it would offer an extension or announce a
    /// body, neither of which this client supports.
    Reserved(HeaderName),
}

/// A rule of the opening handshake that the server's response broke. Section 4.1: "the client MUST _Fail the WebSocket
/// Connection_". The points are those of section 4.1's list of checks of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOpeningError {
    /// RFC 7230 section 3: the lines of the head are invalid, or exceed a limit.
    Head(HeadError),
    /// RFC 7230 section 3.1.2: the status line is not a version, a status of three digits and an optional reason.
    StatusLine,
    /// RFC 7230 section 2.6: the version is HTTP/1.0, or has a major version other than 1.
    HttpVersion,
    /// Point 1: the status of the final response is not 101. The server redirects, reports an error, or serves plain
    /// HTTP at this target. The body of the response, if it has one, is left in the input.
    Status(Box<ServerResponse>),
    /// Point 2: Upgrade is missing, repeated, or has another value than "websocket".
    Upgrade,
    /// Point 3: Connection is missing, or does not contain the token "upgrade".
    Connection,
    /// Point 4: Sec-WebSocket-Accept is missing, repeated, or not the value derived from our key.
    Accept,
    /// Point 5: the server selected an extension. The client offers none.
    Extension,
    /// Point 6: the server selected a subprotocol that was not offered, or several.
    Subprotocol,
    /// tungstenite's parser rejects a response that meets all rules above. No such response is known.
    Unparsable,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host is malformed"),
            Self::Target => {
                f.write_str("the target is not a path with an optional query, or has a fragment")
            }
            Self::Subprotocol => f.write_str("a subprotocol is not a token, or was offered before"),
            Self::Name => f.write_str("a header's name is not a token"),
            Self::Value => f.write_str("a header's value is not printable ASCII"),
            Self::Reserved(name) => write!(f, "the header {name} is reserved for the protocol"),
        }
    }
}

impl std::error::Error for RequestError {}

impl fmt::Display for ClientOpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => error.fmt(f),
            Self::StatusLine => f.write_str("the status line is malformed"),
            Self::HttpVersion => f.write_str("the server does not use HTTP/1.1"),
            Self::Status(response) => {
                write!(
                    f,
                    "the server answered {} instead of 101",
                    response.status()
                )
            }
            Self::Upgrade => f.write_str("the Upgrade header is not exactly websocket"),
            Self::Connection => f.write_str("the Connection header does not contain upgrade"),
            Self::Accept => f.write_str("the Sec-WebSocket-Accept header does not match our key"),
            Self::Extension => f.write_str("the server uses an extension that was not offered"),
            Self::Subprotocol => f.write_str("the server uses a subprotocol that was not offered"),
            Self::Unparsable => f.write_str("the response is malformed"),
        }
    }
}

impl std::error::Error for ClientOpeningError {}

impl From<HeadError> for ClientOpeningError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}
