//! HTTP/1.1 responses other than the 101. Each is complete and announces its length, and the connection is closed after
//! it. There is no `Date` header, because `proto` has no clock.

use std::borrow::Cow;
use std::fmt;
use tungstenite::http::StatusCode;
use tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};

/// A complete HTTP response. It always has `Connection: close`, and `Content-Length` if a response with its status has
/// a body.
///
/// ```
/// use wsloop::proto::HttpResponse;
///
/// let mut out = Vec::new();
/// HttpResponse::new(404, "nothing here\n").encode(false, &mut out);
/// assert!(out.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
/// assert!(out.ends_with(b"\r\n\r\nnothing here\n"));
/// ```
#[derive(Clone, Debug)]
pub struct HttpResponse {
    status: StatusCode,
    /// In the order in which they are sent. Not a `HeaderMap`, which is made for more headers and for lookups.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Cow<'static, [u8]>,
}

/// Why a response of the application must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// RFC 7230 section 3.2: a header's name is not a token.
    Name,
    /// A header's value is not printable ASCII. RFC 7230 section 3.2.6 allows other bytes only as obsolete text. CR and
    /// LF would begin another header.
    Value,
    /// The application has added, changed, repeated or removed a header that only the protocol may set, or one that a
    /// response of this kind must not have.
    Reserved(HeaderName),
    /// RFC 6455 section 4.2.2 point 5: the response selects a subprotocol that the client did not offer, or more than
    /// one.
    Subprotocol,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("a header's name is not a token"),
            Self::Value => f.write_str("a header's value is not printable ASCII"),
            Self::Reserved(name) => write!(f, "the header {name} is reserved for the protocol"),
            Self::Subprotocol => f.write_str("the subprotocol is not one that was offered"),
        }
    }
}

impl std::error::Error for ResponseError {}

impl HttpResponse {
    /// Returns a response with a body of UTF-8 text.
    ///
    /// # Panics
    /// If `status` is not in 200 to 599. A response with a status below 200 is not final (RFC 7231 section 6.2).
    pub fn new(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::bytes(status, "text/plain; charset=utf-8", body)
    }

    /// Returns a response with a body of bytes of the media type `content_type`.
    ///
    /// # Panics
    /// If `status` is not in 200 to 599, or if `content_type` is not printable ASCII.
    pub fn bytes(
        status: u16,
        content_type: &'static str,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Self {
        assert!(
            (200..=599).contains(&status),
            "{status} is no status of a final response"
        );
        let status = StatusCode::from_u16(status).expect("it is in 200 to 599");
        let response = Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
        .and_static(CONTENT_TYPE, content_type);
        if status != StatusCode::UPGRADE_REQUIRED {
            return response;
        }
        // RFC 7231 section 6.5.15: "The server MUST send an Upgrade header field in a 426 response", and RFC 6455
        // section 4.4 demands the supported versions.
        response
            .and_static(UPGRADE, "websocket")
            .and_static(SEC_WEBSOCKET_VERSION, "13")
    }

    /// Adds a header. If there is a header of the same name, both are sent, except that Content-Type, Upgrade and
    /// Sec-WebSocket-Version are replaced.
    ///
    /// # Errors
    /// The name is not a token, the value is not printable ASCII, or the header is Content-Length,
    /// Transfer-Encoding or Connection, which are set by [`encode`](Self::encode).
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, ResponseError> {
        let name = HeaderName::try_from(name).map_err(|_| ResponseError::Name)?;
        let value = printable(value).ok_or(ResponseError::Value)?;
        if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
            return Err(ResponseError::Reserved(name));
        }
        if [CONTENT_TYPE, UPGRADE, SEC_WEBSOCKET_VERSION].contains(&name) {
            self.set(name, value);
        } else {
            self.headers.push((name, value));
        }
        Ok(self)
    }

    /// Appends a header that the response does not have yet, and whose value is known to be printable.
    pub(crate) fn and_static(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    /// Sets a header, and removes others of the same name.
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value));
    }

    /// Sets a header whose value is known to be printable.
    pub(crate) fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.set(name, value);
        self
    }

    /// Returns the status, 200 to 599.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Returns the name of the status, such as `Forbidden`. Empty if it has none.
    pub(crate) fn reason_phrase(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("")
    }

    /// Returns the body. It is not sent in a response to HEAD, nor with status 204 or 304.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the value of a header, of its first line if it has several. `None` for headers that
    /// [`encode`](Self::encode) sets.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header?.1.to_str().ok()
    }

    /// Appends the response to `out`. With `head_only`, for a response to HEAD, the head is the same and the body is
    /// omitted.
    pub fn encode(&self, head_only: bool, out: &mut Vec<u8>) {
        // RFC 7230 section 3.3: "All 1xx, 204 and 304 responses do not include a message body"; and 3.3.2: "A
        // server MUST NOT send a Content-Length header field in any response with a status code of 1xx or 204".
        let has_body =
            self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED;
        encode_status_line(self.status, out);
        let headers = self.headers.iter().map(|(name, value)| (name, value));
        encode_headers(
            headers.filter(|(name, _)| has_body || **name != CONTENT_TYPE),
            out,
        );
        // RFC 7230 section 6.7: "A sender of Upgrade MUST also send an "Upgrade" connection option".
        out.extend_from_slice(if self.headers.iter().any(|(name, _)| *name == UPGRADE) {
            b"connection: close, upgrade\r\n"
        } else {
            b"connection: close\r\n"
        });
        if has_body {
            out.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if has_body && !head_only {
            out.extend_from_slice(&self.body);
        }
    }
}

/// Appends the first line of a response.
pub(super) fn encode_status_line(status: StatusCode, out: &mut Vec<u8>) {
    // Not `as_str`, whose table of all numbers has 3 KB.
    out.extend_from_slice(format!("HTTP/1.1 {status}\r\n").as_bytes());
}

/// Appends one line for each header. The values must be [printable](is_printable): CR and LF would begin another line.
pub(super) fn encode_headers<'h>(
    headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>,
    out: &mut Vec<u8>,
) {
    for (name, value) in headers {
        debug_assert!(is_printable(value), "{name}");
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// Returns whether a header's value is visible ASCII, spaces and tabs.
pub(super) fn is_printable(value: &HeaderValue) -> bool {
    value.to_str().is_ok()
}

/// Returns `value` as a header's value if it is printable, `None` otherwise.
pub(super) fn printable(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok().filter(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(response: &HttpResponse, head_only: bool) -> String {
        let mut out = b"before".to_vec();
        response.encode(head_only, &mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_response_is_complete() {
        let plain = "content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 3\r\n\r\n";
        let table: &[(u16, bool, String)] = &[
            (200, false, format!("HTTP/1.1 200 OK\r\n{plain}yes")),
            (200, true, format!("HTTP/1.1 200 OK\r\n{plain}")),
            (
                503,
                false,
                format!("HTTP/1.1 503 Service Unavailable\r\n{plain}yes"),
            ),
            (
                204,
                false,
                "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".into(),
            ),
            (
                304,
                true,
                "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".into(),
            ),
        ];
        for (status, head_only, expected) in table {
            assert_eq!(
                &encoded(&HttpResponse::new(*status, "yes"), *head_only),
                expected
            );
        }
    }

    #[test]
    fn a_426_names_the_protocol_to_upgrade_to() {
        let response = HttpResponse::new(426, "no")
            .with_header("Upgrade", "websocket")
            .unwrap();
        let text = encoded(&response, false);
        assert_eq!(text.matches("upgrade: websocket\r\n").count(), 1, "{text}");
        assert!(text.contains("connection: close, upgrade\r\n"), "{text}");
        assert!(text.contains("sec-websocket-version: 13\r\n"), "{text}");
    }

    #[test]
    fn a_header_cannot_break_the_response() {
        let table: &[(&str, &str, Result<(), ResponseError>)] = &[
            ("X-A", "1", Ok(())),
            ("X-A", "", Ok(())),
            ("X-A", "a\tb", Ok(())),
            ("Content-Type", "text/html", Ok(())),
            ("X-A", "1\r\nX-B: 2", Err(ResponseError::Value)),
            ("X-A", "1\n", Err(ResponseError::Value)),
            ("X-A", "\0", Err(ResponseError::Value)),
            ("X-A", "\u{7f}", Err(ResponseError::Value)),
            ("X-A", "gr\u{fc}n", Err(ResponseError::Value)),
            ("", "1", Err(ResponseError::Name)),
            ("X A", "1", Err(ResponseError::Name)),
            ("X:A", "1", Err(ResponseError::Name)),
            ("X\r\nA", "1", Err(ResponseError::Name)),
            (
                "content-LENGTH",
                "1",
                Err(ResponseError::Reserved(CONTENT_LENGTH)),
            ),
            (
                "Transfer-Encoding",
                "chunked",
                Err(ResponseError::Reserved(TRANSFER_ENCODING)),
            ),
            (
                "Connection",
                "keep-alive",
                Err(ResponseError::Reserved(CONNECTION)),
            ),
        ];
        for (name, value, expected) in table {
            let result = HttpResponse::new(200, "").with_header(name, value);
            assert_eq!(
                &result.as_ref().map(|_| ()).map_err(Clone::clone),
                expected,
                "{name}: {value}"
            );
            if let Ok(response) = result {
                assert_eq!(response.header(name), Some(*value));
                assert!(
                    encoded(&response, false)
                        .contains(&format!("{}: {value}\r\n", name.to_lowercase()))
                );
            }
        }
    }

    #[test]
    fn a_header_set_twice_is_sent_twice_and_the_content_type_replaced() {
        let response = HttpResponse::bytes(200, "text/html", &b"<p>"[..])
            .with_header("Set-Cookie", "a=1")
            .and_then(|response| response.with_header("Set-Cookie", "b=2"))
            .and_then(|response| response.with_header("Content-Type", "text/css"))
            .unwrap();
        let text = encoded(&response, false);
        assert_eq!(text.matches("set-cookie").count(), 2, "{text}");
        assert_eq!(text.matches("content-type").count(), 1, "{text}");
        assert_eq!((response.status(), response.body()), (200, &b"<p>"[..]));
    }

    #[test]
    #[should_panic(expected = "no status of a final response")]
    fn a_101_is_not_a_plain_response() {
        HttpResponse::new(101, "");
    }
}
