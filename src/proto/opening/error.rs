//! Errors of a client's request: one variant for each MUST of RFC 6455 section 4.2.1 and RFC 7230, with the status of
//! its response. Every error is answered with a complete HTTP response, after which the connection is closed.

use super::head::HeadError;
use super::response::HttpResponse;
use std::fmt;
use tungstenite::http::header::ALLOW;

/// A rule of the opening handshake that the client broke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningError {
    /// RFC 7230 section 3: the lines of the head are invalid (400), or exceed a limit (431).
    Head(HeadError),
    /// RFC 7230 section 3.1.1: the request line is not a method, a target and a version with one space between each. An
    /// HTTP/0.9 request, which has no version, causes this error, too. 400.
    RequestLine,
    /// The version has a major version other than 1. (The preface of HTTP/2 without TLS, "PRI * HTTP/2.0", causes this
    /// error.) Or an opening handshake has the version HTTP/1.0; section 4.2.1 point 1: "an HTTP/1.1 or higher GET
    /// request". 505.
    HttpVersion,
    /// Section 4.2.1 point 1: the method is neither GET nor (for plain HTTP) HEAD. 405 with `Allow`.
    Method,
    /// RFC 7230 section 5.3: the target is neither a path nor an absolute http, https, ws or wss URI with a host. 400.
    Target,
    /// Section 3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
    /// 400.
    TargetFragment,
    /// RFC 7230 section 5.4: a server MUST answer 400 to a request without Host.
    HostMissing,
    /// RFC 7230 section 5.4: a server MUST answer 400 to more than one Host.
    HostRepeated,
    /// RFC 7230 section 5.4: a server MUST answer 400 to an invalid Host. An empty Host counts as invalid.
    HostInvalid,
    /// A GET or HEAD announces a body with Transfer-Encoding. A server that mistakes a body for frames or for the next
    /// request allows a client behind a proxy to smuggle requests. 400. With another method, only a Transfer-Encoding
    /// that RFC 9112 section 6.3 does not allow: in HTTP/1.0, or with another last coding than `chunked`.
    TransferEncoding,
    /// The request announces a body, as with `TransferEncoding`: there is a Content-Length other than 0, or more than
    /// one. 400.
    ContentLength,
    /// RFC 9112 section 6.3: a request with another method than GET and HEAD has an invalid or repeated Content-Length,
    /// or one beside Transfer-Encoding. 400.
    ContentLengthInvalid,
    /// Section 4.1 point 2: "The method of the request MUST be GET", but it is HEAD. 405 with `Allow: GET`.
    UpgradeMethod,
    /// Section 4.2.1 point 3: "An |Upgrade| header field containing the value "websocket"". It is missing. 400.
    UpgradeMissing,
    /// Section 4.2.1 point 3: Upgrade has another value than "websocket", or further values. 400.
    UpgradeNotWebSocket,
    /// Section 4.2.1 point 4: "A |Connection| header field that includes the token "Upgrade"". It is missing, or does
    /// not include the token. 400.
    ConnectionNotUpgrade,
    /// Sections 4.2.1 point 6 and 4.4: "A |Sec-WebSocket-Version| header field, with a value of 13". It is missing,
    /// repeated, or has another value. 426 with the supported version.
    WebSocketVersion,
    /// Section 4.2.1 point 5: Sec-WebSocket-Key is missing. 400.
    KeyMissing,
    /// Section 11.3.1: Sec-WebSocket-Key MUST NOT appear more than once. 400.
    KeyRepeated,
    /// Section 4.2.1 point 5: the key is not "a base64-encoded value that, when decoded, is 16 bytes in length". 400.
    KeyInvalid,
    /// RFC 6454 section 7.3: a user agent MUST NOT send more than one Origin header. With several it is not clear which
    /// one to trust. 400.
    OriginRepeated,
    /// Section 9.1: Sec-WebSocket-Extensions is not a list of well-formed extensions. Unknown extensions are allowed, and
    /// so is an empty list, which some clients send. 400.
    Extensions,
    /// Section 4.1 point 10: Sec-WebSocket-Protocol is not a list of at least one token, or a token is repeated, but
    /// the elements "MUST all be unique strings". 400.
    Subprotocols,
    /// More than 16 extensions are offered. 431, for the reason given at `TooManySubprotocols`.
    TooManyExtensions,
    /// More than 64 subprotocols are offered. RFC 7230 section 3.2.5: "A server that receives a request header field,
    /// or set of fields, larger than it wishes to process MUST respond with an appropriate 4xx (Client Error) status
    /// code. Ignoring such header fields would increase the server's vulnerability to request smuggling attacks." 431.
    TooManySubprotocols,
    /// tungstenite's parser rejects a request that meets all rules above. No such request is known. 400.
    Unparsable,
}

impl OpeningError {
    /// Returns the HTTP status of the response.
    pub fn status(&self) -> u16 {
        match self {
            // RFC 6585 section 5: 431 can be used "both when the set of request header fields in total is too large,
            // and when a single header field is at fault".
            Self::Head(HeadError::TooLong | HeadError::TooManyHeaders)
            | Self::TooManyExtensions
            | Self::TooManySubprotocols => 431,
            Self::Method | Self::UpgradeMethod => 405,
            Self::WebSocketVersion => 426,
            Self::HttpVersion => 505,
            Self::Head(
                HeadError::NotHttp
                | HeadError::Tls
                | HeadError::ControlByte(_)
                | HeadError::BareCr
                | HeadError::BareLf
                | HeadError::FoldedLine
                | HeadError::NoColon
                | HeadError::SpaceBeforeColon
                | HeadError::FieldName,
            )
            | Self::RequestLine
            | Self::Target
            | Self::TargetFragment
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::TransferEncoding
            | Self::ContentLength
            | Self::ContentLengthInvalid
            | Self::UpgradeMissing
            | Self::UpgradeNotWebSocket
            | Self::ConnectionNotUpgrade
            | Self::KeyMissing
            | Self::KeyRepeated
            | Self::KeyInvalid
            | Self::OriginRepeated
            | Self::Extensions
            | Self::Subprotocols
            | Self::Unparsable => 400,
        }
    }

    /// Returns the complete response: the status, the fields that the status demands, and the error as a line of text.
    pub fn response(&self) -> HttpResponse {
        let response = HttpResponse::new(self.status(), format!("{self}\n"));
        // `HttpResponse::new` adds the fields that a 426 demands. A 405 demands one that depends on the error.
        if self.status() != 405 {
            return response;
        }
        // RFC 7231 section 6.5.5: "The origin server MUST generate an Allow header field in a 405 response".
        let methods = if *self == Self::UpgradeMethod {
            "GET"
        } else {
            "GET, HEAD"
        };
        response.and_static(ALLOW, methods)
    }
}

impl fmt::Display for OpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(error) => return error.fmt(f),
            Self::RequestLine => "the request line is not a method, a target and a version",
            Self::HttpVersion => "only HTTP/1.1 is served here",
            Self::Method => "only GET and HEAD are served here",
            Self::Target => "the request target is neither a path nor an absolute URI",
            Self::TargetFragment => "the request target has a fragment",
            Self::HostMissing => "the Host header is missing",
            Self::HostRepeated => "there is more than one Host header",
            Self::HostInvalid => "the Host header is malformed",
            Self::TransferEncoding => "a request with Transfer-Encoding is not accepted",
            Self::ContentLength => "a request with a body is not accepted",
            Self::ContentLengthInvalid => "the Content-Length header is invalid",
            Self::UpgradeMethod => "a WebSocket opening handshake is a GET",
            Self::UpgradeMissing => "the Upgrade header is missing",
            Self::UpgradeNotWebSocket => "the Upgrade header is not exactly websocket",
            Self::ConnectionNotUpgrade => "the Connection header does not contain upgrade",
            Self::WebSocketVersion => "the Sec-WebSocket-Version header is not exactly 13",
            Self::KeyMissing => "the Sec-WebSocket-Key header is missing",
            Self::KeyRepeated => "there is more than one Sec-WebSocket-Key header",
            Self::KeyInvalid => "the Sec-WebSocket-Key header is not 16 bytes in base64",
            Self::OriginRepeated => "there is more than one Origin header",
            Self::Extensions => "the Sec-WebSocket-Extensions header is not a list of extensions",
            Self::Subprotocols => {
                "the Sec-WebSocket-Protocol header is not a list of different tokens"
            }
            Self::TooManyExtensions => {
                "the Sec-WebSocket-Extensions header offers more than 16 extensions"
            }
            Self::TooManySubprotocols => {
                "the Sec-WebSocket-Protocol header offers more than 64 subprotocols"
            }
            Self::Unparsable => "the request is malformed",
        })
    }
}

impl std::error::Error for OpeningError {}

impl From<HeadError> for OpeningError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}
