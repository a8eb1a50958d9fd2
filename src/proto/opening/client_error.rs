//! What can be wrong with the client's side of an opening handshake: with the request that we are asked to make,
//! and with the answer (RFC 6455 section 4.1).

use super::client::ServerResponse;
use super::head::HeadError;
use std::fmt;
use tungstenite::http::HeaderName;

/// What of a request that we make may not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// RFC 7230 section 5.4: a host, and perhaps a port.
    Host,
    /// RFC 7230 section 5.3.1 and RFC 6455 section 3: a path, perhaps with a query, without a fragment.
    Target,
    /// Section 4.1 point 10: a subprotocol is a token, and none is there twice.
    Subprotocol,
    /// RFC 7230 section 3.2: a header's name is a token.
    Name,
    /// A header's value is printable ASCII.
    Value,
    /// This header is set by the protocol.
    Reserved(HeaderName),
}

/// What is wrong with a server's answer: section 4.1, "the client MUST _Fail the WebSocket Connection_".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientOpeningError {
    /// RFC 7230 section 3: the lines of the head.
    Head(HeadError),
    /// RFC 7230 section 3.1.2: version, three digits, and perhaps a reason.
    StatusLine,
    /// RFC 7230 section 2.6: HTTP/1.0, or a major version other than 1.
    HttpVersion,
    /// Point 1: the final answer is not 101. A redirect, a refusal, or a server of something else. Its body, if any,
    /// follows in the input.
    Status(Box<ServerResponse>),
    /// Point 2: no Upgrade, several, or something else than websocket.
    Upgrade,
    /// Point 3: no Connection that contains upgrade.
    Connection,
    /// Point 4: no Sec-WebSocket-Accept, several, or not the one of our key.
    Accept,
    /// Point 5: an extension, and we have offered none.
    Extension,
    /// Point 6: a subprotocol that we have not offered, or several.
    Subprotocol,
    /// tungstenite refuses what all rules above allow. No such response is known.
    Unparsable,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host is not a host"),
            Self::Target => f.write_str("the target is not a path without a fragment"),
            Self::Subprotocol => f.write_str("a subprotocol is not a token, or was offered before"),
            Self::Name => f.write_str("a header's name is not a token"),
            Self::Value => f.write_str("a header's value is not printable ASCII"),
            Self::Reserved(name) => write!(f, "the header {name} is set by the protocol"),
        }
    }
}

impl std::error::Error for RequestError {}

impl fmt::Display for ClientOpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => error.fmt(f),
            Self::StatusLine => f.write_str("the status line is not HTTP's"),
            Self::HttpVersion => f.write_str("the server does not speak HTTP/1.1"),
            Self::Status(response) => {
                write!(
                    f,
                    "the server answered {} instead of 101",
                    response.status()
                )
            }
            Self::Upgrade => f.write_str("the Upgrade header is not exactly websocket"),
            Self::Connection => f.write_str("the Connection header does not contain upgrade"),
            Self::Accept => f.write_str("the Sec-WebSocket-Accept header does not answer our key"),
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
