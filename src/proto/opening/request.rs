//! Requests to a server: opening handshakes (RFC 6455 section 4.2.1), and plain GET and HEAD requests. An error in the
//! request line or in a header line is reported at the latest when that line has arrived. A missing or repeated field,
//! or a malformed value, is reported when the blank line has arrived. Whether a valid request is accepted is left to
//! the application.

use super::cookies;
use super::error::OpeningError;
use super::extensions::is_extension;
use super::fields::{self, Occurrence};
use super::head::{Head, HeadKind, HeadLimits};
use super::host::is_host;
use super::query::{self, Plus};
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use std::borrow::Cow;
use std::mem;
use std::str;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;
use tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, ORIGIN, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use tungstenite::http::uri::Uri;

/// A complete, valid request: an opening handshake that meets section 4.2.1, or a plain GET or HEAD.
#[derive(Clone, Debug)]
pub struct Request {
    parsed: server::Request,
    kind: RequestKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestKind {
    Get,
    Head,
    Upgrade,
}

impl Head {
    /// Consumes bytes from `input` up to and including the blank line that ends a request's head. `Ok(None)` means that
    /// all bytes were consumed, and more are needed. The bytes after the head stay in `input`.
    ///
    /// # Errors
    /// The first rule that the request broke. See [`HeadLimits`] for the limits.
    ///
    /// # Panics
    /// If called again after a request or an error.
    ///
    /// ```
    /// use wsloop::proto::{Head, HeadLimits};
    ///
    /// let mut bytes = *b"GET /chat?topic=1 HTTP/1.1\r\nHost: example.com\r\n\r\nand more";
    /// let mut input = &mut bytes[..];
    /// let request = Head::new().receive_request(&mut input, &HeadLimits::default()).unwrap().unwrap();
    /// assert_eq!((request.path(), request.query()), ("/chat", Some("topic=1")));
    /// assert!(!request.is_upgrade());
    /// assert_eq!(input, b"and more");
    /// ```
    pub fn receive_request(
        &mut self,
        input: &mut &mut [u8],
        limits: &HeadLimits,
    ) -> Result<Option<Request>, OpeningError> {
        self.receive_request_with(input, limits, &BufferPool::default())
    }

    /// As [`receive_request`](Self::receive_request), with a buffer from `buffers` for a large head.
    pub(in crate::proto) fn receive_request_with(
        &mut self,
        input: &mut &mut [u8],
        limits: &HeadLimits,
        buffers: &BufferPool,
    ) -> Result<Option<Request>, OpeningError> {
        let head = self.receive(
            input,
            limits,
            HeadKind::Request,
            check_request_line,
            buffers,
        )?;
        head.map(Request::parse).transpose()
    }
}

impl Request {
    /// Parses a head whose lines and request line were checked.
    fn parse(mut head: Buffer) -> Result<Self, OpeningError> {
        let version = read_as_http_1_1(&mut head);
        let is_1_0 = version == b'0';
        let method = head.split(|&byte| byte == b' ').next();
        let method_len = method.map_or(0, <[u8]>::len);
        let (is_get, is_head) = (method == Some(b"GET"), method == Some(b"HEAD"));
        // tungstenite's parser rejects every method but GET. So "HEAD /" is overwritten with "HGET /", and parsed from
        // its second byte on.
        let Some(start) = method_len.checked_sub(b"GET".len()) else {
            return Err(OpeningError::Method);
        };
        head[start..method_len].copy_from_slice(b"GET");
        let parsed = match server::Request::try_parse(&head[start..]) {
            Ok(Some((_, parsed))) => parsed,
            _ if is_get || is_head => return Err(OpeningError::Unparsable),
            _ => return Err(OpeningError::Method),
        };
        if !is_get && !is_head {
            check_body_length(parsed.headers(), is_1_0)?;
            return Err(OpeningError::Method);
        }
        check_host(parsed.headers(), is_1_0)?;
        check_no_body(parsed.headers())?;
        let kind = match (is_upgrade_attempt(parsed.headers()), is_head) {
            (false, false) => RequestKind::Get,
            (false, true) => RequestKind::Head,
            (true, true) => return Err(OpeningError::UpgradeMethod),
            // RFC 6455 section 4.2.1 point 1: "an HTTP/1.1 or higher GET request".
            (true, false) if is_1_0 => return Err(OpeningError::HttpVersion),
            (true, false) => {
                check_upgrade(parsed.headers())?;
                RequestKind::Upgrade
            }
        };
        Ok(Self { parsed, kind })
    }

    /// Returns the path of the target as it was sent, with its percent-encoding. "/" if the target has none.
    pub fn path(&self) -> &str {
        self.parsed.uri().path()
    }

    /// Returns the path with its percent sequences decoded. Invalid sequences stay as they are, and bytes that are not
    /// UTF-8 become U+FFFD. Allocates only if there is something to decode. O(length).
    ///
    /// The decoded path is for text such as the name of a topic. It can contain any character, and a "/" in it may have
    /// been "%2F": for routes and permissions, and for paths of files, use [`path`](Self::path), as a
    /// [`Router`](crate::Router) does.
    ///
    /// ```
    /// use wsloop::proto::{Head, HeadLimits};
    ///
    /// let mut bytes = *b"GET /tea%20%26%20cake HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// let request = Head::new().receive_request(&mut &mut bytes[..], &HeadLimits::default()).unwrap().unwrap();
    /// assert_eq!((request.path(), &*request.decoded_path()), ("/tea%20%26%20cake", "/tea & cake"));
    /// ```
    pub fn decoded_path(&self) -> Cow<'_, str> {
        query::decode(self.path(), Plus::Plus)
    }

    /// Returns the query: the part of the target after the "?".
    pub fn query(&self) -> Option<&str> {
        self.parsed.uri().query()
    }

    /// Returns the decoded names and values of the query's pairs, in order, as HTML forms encode them
    /// (`application/x-www-form-urlencoded`): pairs are separated by "&", and "+" is a space. Empty pairs are skipped;
    /// a pair without "=" has an empty value. Invalid percent sequences stay as they are, and bytes that are not UTF-8
    /// become U+FFFD. Allocates only if there is something to decode.
    ///
    /// ```
    /// use wsloop::proto::{Head, HeadLimits};
    ///
    /// let mut bytes = *b"GET /?name=J%C3%B6rg+Lee&topic=tea&topic=cake HTTP/1.1\r\nHost: example.com\r\n\r\n";
    /// let request = Head::new().receive_request(&mut &mut bytes[..], &HeadLimits::default()).unwrap().unwrap();
    /// let topics: Vec<_> = request.query_pairs().filter(|(name, _)| name == "topic").map(|(_, topic)| topic).collect();
    /// assert_eq!(topics, ["tea", "cake"]);
    /// assert_eq!(request.query_value("name").as_deref(), Some("Jörg Lee"));
    /// assert_eq!(request.query_value("age"), None);
    /// ```
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query::pairs(self.query().unwrap_or_default())
    }

    /// Returns the value of the first of the [`query_pairs`](Self::query_pairs) with this name. O(length of the query).
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs()
            .find_map(|(one, value)| (one == name).then_some(value))
    }

    /// Returns the target as it was sent: a path, or an absolute URI.
    pub fn uri(&self) -> &Uri {
        self.parsed.uri()
    }

    /// Returns all headers. Their names are in lower case.
    pub fn headers(&self) -> &HeaderMap {
        self.parsed.headers()
    }

    /// Returns the value of a header, of its first line if it has several. `None` also if the value is not UTF-8.
    /// `name` may be in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.parsed.headers().get(name)?;
        str::from_utf8(value.as_bytes()).ok()
    }

    /// Returns the names and values of the cookies (RFC 6265 section 4.2), in order, of all `Cookie` lines. Names are
    /// case-sensitive. Values are as they were sent: with quotes, if a server has set them so, and without decoding.
    /// What is not `name=value`, and what is not UTF-8, is skipped.
    ///
    /// ```
    /// use wsloop::proto::{Head, HeadLimits};
    ///
    /// let mut bytes = *b"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: theme=dark; session=31d4d96e\r\n\r\n";
    /// let request = Head::new().receive_request(&mut &mut bytes[..], &HeadLimits::default()).unwrap().unwrap();
    /// assert_eq!(request.cookie("session"), Some("31d4d96e"));
    /// assert_eq!(request.cookies().collect::<Vec<_>>(), [("theme", "dark"), ("session", "31d4d96e")]);
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        cookies::cookies(self.parsed.headers())
    }

    /// Returns the value of the first of the [`cookies`](Self::cookies) with this name: if several have it, that with
    /// the longest path (RFC 6265 section 5.4). O(length of the `Cookie` lines).
    ///
    /// A browser also sends its cookies when a page of another site opens the connection: check the origin, too
    /// ([`Router::allow_origin`](crate::Router::allow_origin)).
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies()
            .find_map(|(one, value)| (one == name).then_some(value))
    }

    /// Returns the host and port that the client asks for, as sent: from an absolute target, else from `Host`. Empty only
    /// for a plain HTTP/1.0 request without `Host`, which no browser sends.
    pub fn host(&self) -> &str {
        // RFC 7230 section 5.5: "If the request-target is in absolute-form, the effective request URI is the same as
        // the request-target."
        match self.parsed.uri().authority() {
            Some(authority) => authority.as_str(),
            // check_host found it, and it is ASCII.
            None => self.header("host").unwrap_or_default(),
        }
    }

    /// Returns the origin of the page that opens the connection. Browsers always send it. Other clients can send
    /// anything.
    pub fn origin(&self) -> Option<&str> {
        self.header("origin")
    }

    /// Returns whether this is a valid opening handshake. `false` for a plain HTTP request.
    pub fn is_upgrade(&self) -> bool {
        self.kind == RequestKind::Upgrade
    }

    /// Returns whether this is a HEAD request, whose response has no body.
    pub fn is_head(&self) -> bool {
        self.kind == RequestKind::Head
    }

    /// Returns the subprotocols that the client offers, in its order of preference. An opening handshake has at most
    /// 64, each a different token.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        fields::list(self.parsed.headers(), &SEC_WEBSOCKET_PROTOCOL)
            .filter_map(|name| str::from_utf8(name).ok())
    }

    /// Returns the validated key of an opening handshake. Panics if this is a plain HTTP request.
    pub(super) fn key(&self) -> &[u8] {
        assert!(self.is_upgrade(), "only an opening handshake has a key");
        self.parsed.headers()[&SEC_WEBSOCKET_KEY].as_bytes()
    }
}

/// Checks RFC 7230 section 3.1.1's `method SP request-target SP HTTP-version`, without the CRLF.
fn check_request_line(line: &[u8]) -> Result<(), OpeningError> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(OpeningError::RequestLine);
    };
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = version else {
        return Err(OpeningError::RequestLine);
    };
    if target.is_empty() || !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(OpeningError::RequestLine);
    }
    // The version is checked first, so that HTTP/2's preface "PRI * HTTP/2.0" is answered with an error about the
    // version. Its method and target are invalid, too.
    if *major != b'1' {
        return Err(OpeningError::HttpVersion);
    }
    // RFC 7230 section 3.1.1: "The request method is case-sensitive." Another method is an error that depends on the
    // headers, too.
    match method {
        b"GET" | b"HEAD" => check_target(target),
        _ => Ok(()),
    }
}

/// RFC 7230 section 2.6: with a higher minor version, "the recipient SHOULD process the message as if it was in the
/// highest minor version within that major version to which the recipient is conformant". tungstenite's parser
/// accepts no other version than 1.1, so the version is overwritten. Returns the digit of the minor version.
fn read_as_http_1_1(head: &mut [u8]) -> u8 {
    // check_request_line found that the line ends with the minor version. The first CR is the end of that line.
    let line_len = head
        .iter()
        .position(|&byte| byte == b'\r')
        .expect("a head has a first line, which ends with CRLF");
    mem::replace(&mut head[line_len - 1], b'1')
}

/// Checks the target, RFC 7230 section 5.3: in origin-form or absolute-form. The other forms, "*" and an authority
/// alone, belong to methods that are not supported.
fn check_target(target: &[u8]) -> Result<(), OpeningError> {
    if target.contains(&b'#') {
        return Err(OpeningError::TargetFragment);
    }
    // URIs are ASCII (RFC 3986), but the `http` crate accepts UTF-8.
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(OpeningError::Target);
    }
    let Ok(uri) = Uri::try_from(target) else {
        return Err(OpeningError::Target);
    };
    let is_served = match uri.scheme() {
        None => target[0] == b'/',
        Some(scheme) => ["http", "https", "ws", "wss"]
            .iter()
            .any(|name| scheme.as_str().eq_ignore_ascii_case(name)),
    };
    // RFC 7230 section 2.7.1: "A sender MUST NOT generate an "http" URI with an empty host identifier", nor with user
    // information, which can make one host look like another. is_host rejects both: it allows no "@".
    let has_host = uri
        .authority()
        .is_none_or(|authority| is_host(authority.as_str().as_bytes()));
    if is_served && has_host {
        Ok(())
    } else {
        Err(OpeningError::Target)
    }
}

/// RFC 7230 section 5.4: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request
/// message that lacks a Host header field and to any request message that contains more than one Host header
/// field or a Host header field with an invalid field-value." This includes requests with an absolute target. HTTP/1.0
/// has no Host.
fn check_host(headers: &HeaderMap, is_1_0: bool) -> Result<(), OpeningError> {
    match fields::occurrence(headers, &HOST) {
        Occurrence::Missing if is_1_0 => Ok(()),
        Occurrence::Missing => Err(OpeningError::HostMissing),
        Occurrence::Repeated => Err(OpeningError::HostRepeated),
        Occurrence::Once(value) if is_host(value) => Ok(()),
        Occurrence::Once(_) => Err(OpeningError::HostInvalid),
    }
}

/// Rejects every request with a body: neither an opening handshake nor a GET or HEAD needs one. If a proxy and this
/// server disagreed on the length of a body, one of them would mistake the body for frames or for the next request.
fn check_no_body(headers: &HeaderMap) -> Result<(), OpeningError> {
    if headers.contains_key(&TRANSFER_ENCODING) {
        return Err(OpeningError::TransferEncoding);
    }
    match fields::occurrence(headers, &CONTENT_LENGTH) {
        Occurrence::Missing | Occurrence::Once(b"0") => Ok(()),
        Occurrence::Once(_) | Occurrence::Repeated => Err(OpeningError::ContentLength),
    }
}

/// Checks the length of a request with another method. RFC 9112 section 6.3: "If a Transfer-Encoding header field is
/// present in a request and the chunked transfer coding is not the final encoding, (...) the server MUST respond with
/// the 400 (Bad Request) status code", and so it must to an invalid Content-Length. HTTP/1.0 has no Transfer-Encoding,
/// and a message with both "ought to be handled as an error".
fn check_body_length(headers: &HeaderMap, is_1_0: bool) -> Result<(), OpeningError> {
    let coding = fields::list(headers, &TRANSFER_ENCODING).last();
    if headers.contains_key(&TRANSFER_ENCODING)
        && (is_1_0 || !coding.is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")))
    {
        return Err(OpeningError::TransferEncoding);
    }
    match fields::occurrence(headers, &CONTENT_LENGTH) {
        Occurrence::Missing => Ok(()),
        Occurrence::Once(len)
            if coding.is_none() && !len.is_empty() && len.iter().all(u8::is_ascii_digit) =>
        {
            Ok(())
        }
        Occurrence::Once(_) | Occurrence::Repeated => Err(OpeningError::ContentLengthInvalid),
    }
}

/// Returns whether the client attempts to open a WebSocket, correctly or not. A request with only `Upgrade: h2c` is a
/// plain request: RFC 7230 section 6.7 allows a server to answer it without the upgrade.
fn is_upgrade_attempt(headers: &HeaderMap) -> bool {
    fields::list_contains(headers, &UPGRADE, "websocket")
        || headers.contains_key(&SEC_WEBSOCKET_KEY)
        || headers.contains_key(&SEC_WEBSOCKET_VERSION)
}

/// Checks an opening handshake: section 4.2.1, points 3 to 6, that there is at most one Origin, and the extensions and
/// subprotocols that are offered.
fn check_upgrade(headers: &HeaderMap) -> Result<(), OpeningError> {
    match fields::occurrence(headers, &UPGRADE) {
        Occurrence::Missing => return Err(OpeningError::UpgradeMissing),
        Occurrence::Once(value) if value.eq_ignore_ascii_case(b"websocket") => {}
        Occurrence::Once(_) | Occurrence::Repeated => {
            return Err(OpeningError::UpgradeNotWebSocket);
        }
    }
    if !fields::list_contains(headers, &CONNECTION, "upgrade") {
        return Err(OpeningError::ConnectionNotUpgrade);
    }
    match fields::occurrence(headers, &SEC_WEBSOCKET_VERSION) {
        Occurrence::Once(b"13") => {}
        Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
            return Err(OpeningError::WebSocketVersion);
        }
    }
    match fields::occurrence(headers, &SEC_WEBSOCKET_KEY) {
        Occurrence::Missing => return Err(OpeningError::KeyMissing),
        Occurrence::Repeated => return Err(OpeningError::KeyRepeated),
        Occurrence::Once(key) if fields::is_key(key) => {}
        Occurrence::Once(_) => return Err(OpeningError::KeyInvalid),
    }
    match fields::occurrence(headers, &ORIGIN) {
        Occurrence::Missing | Occurrence::Once(_) => {}
        Occurrence::Repeated => return Err(OpeningError::OriginRepeated),
    }
    check_extensions(headers)?;
    check_subprotocols(headers)
}

/// Checks the offered extensions, section 9.1: `extension-list = 1#extension`. Accepts at most [`EXTENSIONS_MAX`], and an
/// empty list, because some clients send one.
fn check_extensions(headers: &HeaderMap) -> Result<(), OpeningError> {
    let offers = fields::list(headers, &SEC_WEBSOCKET_EXTENSIONS);
    for (count, offer) in offers.enumerate() {
        if count == EXTENSIONS_MAX {
            return Err(OpeningError::TooManyExtensions);
        }
        if !is_extension(offer) {
            return Err(OpeningError::Extensions);
        }
    }
    Ok(())
}

/// Checks the offered subprotocols. Section 4.3: `Sec-WebSocket-Protocol-Client = 1#token`. Section 4.1 point 10: "MUST
/// all be unique strings". Accepts at most [`SUBPROTOCOLS_MAX`].
fn check_subprotocols(headers: &HeaderMap) -> Result<(), OpeningError> {
    let (mut names, mut are_unique) = (Vec::new(), true);
    for name in fields::list(headers, &SEC_WEBSOCKET_PROTOCOL) {
        if names.len() == SUBPROTOCOLS_MAX {
            return Err(OpeningError::TooManySubprotocols);
        }
        if !fields::is_token(name) {
            return Err(OpeningError::Subprotocols);
        }
        // Each with each other: at most 16 us for a head of 16 KiB. A program without the code that sorts them is 4 KB
        // smaller.
        are_unique &= !names.contains(&name);
        names.push(name);
    }
    let is_empty = names.is_empty() && headers.contains_key(&SEC_WEBSOCKET_PROTOCOL);
    if are_unique && !is_empty {
        Ok(())
    } else {
        Err(OpeningError::Subprotocols)
    }
}

/// Maximum extensions in an opening handshake. Browsers offer one. Without this limit a head of 16 KiB could contain
/// thousands, and to check them would cost 20 times as much as an ordinary opening handshake.
const EXTENSIONS_MAX: usize = 16;

/// Maximum subprotocols in an opening handshake. Browsers offer those that the page names: a few versions of a
/// subprotocol, or a subprotocol and an access token. Without this limit a head of 16 KiB could contain thousands, and
/// to check them would cost 100 times as much as an ordinary opening handshake.
const SUBPROTOCOLS_MAX: usize = 64;
