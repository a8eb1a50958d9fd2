//! The 101 response (RFC 6455 section 4.2.2). It is created from a request, may be changed by the application, and is
//! checked before it is encoded.

use super::fields::{self, Occurrence};
use super::request::Request;
use super::response::{ResponseError, encode_headers, encode_status_line, is_printable};
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::StatusCode;
use tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE,
};

/// A 101 response that is not encoded yet.
///
/// ```
/// use wsloop::proto::{Head, HeadLimits, Upgrade};
///
/// let mut bytes = *b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
///     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
///     Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// let request = Head::new().receive_request(&mut &mut bytes[..], &HeadLimits::default()).unwrap().unwrap();
/// let mut upgrade = Upgrade::new(&request);
/// assert!(upgrade.select_subprotocol(&request, "superchat"));
/// let mut out = Vec::new();
/// upgrade.encode(&request, &mut out).unwrap();
/// assert!(out.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
/// ```
#[derive(Clone, Debug)]
pub struct Upgrade {
    headers: HeaderMap,
}

impl Upgrade {
    /// Returns the 101 response to `request`, without a subprotocol or extensions.
    ///
    /// # Panics
    /// If the request is not [an opening handshake](Request::is_upgrade).
    pub fn new(request: &Request) -> Self {
        assert!(
            request.is_upgrade(),
            "only an opening handshake is answered with 101"
        );
        let accept =
            HeaderValue::try_from(derive_accept_key(request.key())).expect("base64 is ASCII");
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.append(UPGRADE, HeaderValue::from_static("websocket"));
        headers.append(SEC_WEBSOCKET_ACCEPT, accept);
        Self { headers }
    }

    /// Returns the headers that will be sent.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the headers, which the caller may change. [`encode`](Self::encode) fails if a header violates RFC 6455
    /// or RFC 7230.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Selects one of the subprotocols that `request` offers. Returns `false`, and changes nothing, if `name` was not
    /// offered. Names are compared exactly, including case.
    pub fn select_subprotocol(&mut self, request: &Request, name: &str) -> bool {
        let value = match HeaderValue::from_str(name) {
            Ok(value) if request.subprotocols().any(|offered| offered == name) => value,
            Ok(_) | Err(_) => return false,
        };
        self.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
        true
    }

    /// Selects the first of the subprotocols that `request` offers: the client's favourite. Returns `false` if it offers
    /// none. Browsers refuse a 101 without a subprotocol if they have offered some.
    pub fn select_first_subprotocol(&mut self, request: &Request) -> bool {
        let first = request.subprotocols().next();
        first.is_some_and(|name| self.select_subprotocol(request, name))
    }

    /// Removes the subprotocol that was selected, if there is one.
    pub fn select_no_subprotocol(&mut self) {
        self.headers_mut().remove(SEC_WEBSOCKET_PROTOCOL);
    }

    /// Returns the subprotocol that was selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
    }

    /// Appends the 101 to `out`. `request` must be the request that was passed to [`new`](Self::new).
    ///
    /// # Errors
    /// The first header that violates RFC 6455 or RFC 7230. Nothing was appended to `out`.
    pub fn encode(&self, request: &Request, out: &mut Vec<u8>) -> Result<(), ResponseError> {
        self.check(request)?;
        if !self.headers.values().all(is_printable) {
            return Err(ResponseError::Value);
        }
        encode_status_line(StatusCode::SWITCHING_PROTOCOLS, out);
        encode_headers(&self.headers, out);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), ResponseError> {
        let headers = self.headers();
        // Section 4.2.2 point 5: Upgrade, Connection and Sec-WebSocket-Accept, with these values.
        let accept = derive_accept_key(request.key());
        check_once(headers, UPGRADE, |value| {
            value.eq_ignore_ascii_case(b"websocket")
        })?;
        check_once(headers, CONNECTION, |value| {
            value.eq_ignore_ascii_case(b"upgrade")
        })?;
        check_once(headers, SEC_WEBSOCKET_ACCEPT, |value| {
            value == accept.as_bytes()
        })?;
        // Section 4.1: "If the response includes a |Sec-WebSocket-Extensions| header field and this header field
        // indicates the use of an extension that was not present in the client's handshake (...), the client MUST _Fail
        // the WebSocket Connection_." This server supports no extension.
        // RFC 7230 sections 3.3.1 and 3.3.2: "A server MUST NOT send a Transfer-Encoding header field in any
        // response with a status code of 1xx", nor Content-Length.
        for name in [SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH, TRANSFER_ENCODING] {
            if headers.contains_key(&name) {
                return Err(ResponseError::Reserved(name));
            }
        }
        // Section 11.3.4: Sec-WebSocket-Protocol "MUST NOT appear more than once in an HTTP response". Section 4.2.2:
        // its value is one of those in the request.
        match fields::occurrence(headers, &SEC_WEBSOCKET_PROTOCOL) {
            Occurrence::Missing => Ok(()),
            Occurrence::Once(value)
                if request.subprotocols().any(|name| name.as_bytes() == value) =>
            {
                Ok(())
            }
            Occurrence::Once(_) | Occurrence::Repeated => Err(ResponseError::Subprotocol),
        }
    }
}

fn check_once(
    headers: &HeaderMap,
    name: HeaderName,
    is_right: impl Fn(&[u8]) -> bool,
) -> Result<(), ResponseError> {
    match fields::occurrence(headers, &name) {
        Occurrence::Once(value) if is_right(value) => Ok(()),
        Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
            Err(ResponseError::Reserved(name))
        }
    }
}
