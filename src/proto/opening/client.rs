//! The opening handshake in the client role (RFC 6455 section 4.1): encodes the request and checks the server's
//! response. Redirects, cookies and authentication are left to the caller, which receives the head of every response
//! other than 101 ([`ClientOpeningError::Status`]).

use super::client_error::{ClientOpeningError, RequestError};
use super::fields::{self, Occurrence};
use super::head::{Head, HeadKind, HeadLimits};
use super::host::is_host;
use super::response::printable;
use crate::buffer::Buffer;
use crate::buffer::BufferPool;
use tungstenite::handshake::client::{self, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http::Uri;
use tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};

/// An opening handshake in the client role. Call [`encode_request`](Self::encode_request) once, then
/// [`receive_response`](Self::receive_response) until it returns a response or an error.
///
/// ```
/// use wsloop::proto::{ClientOpening, HeadLimits};
///
/// let mut opening = ClientOpening::new("example.com", "/chat", *b"the sample nonce").unwrap();
/// let mut request = Vec::new();
/// opening.encode_request(&mut request);
/// assert!(request.starts_with(b"GET /chat HTTP/1.1\r\nHost: example.com\r\n"));
///
/// let mut bytes = *b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// let mut input = &mut bytes[..];
/// let response = opening.receive_response(&mut input, &HeadLimits::default()).unwrap().unwrap();
/// assert_eq!(response.status(), 101);
/// ```
#[derive(Debug)]
pub struct ClientOpening {
    request: client::Request,
    key: String,
    subprotocols: Vec<String>,
    head: Head,
    /// Bytes of the heads of the interim (1xx) responses that have arrived.
    interim_bytes: usize,
}

/// The head of a server's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResponse {
    status: u16,
    headers: HeaderMap,
}

impl ClientOpening {
    /// Returns an opening handshake that requests `target`, a path with an optional query, from `host`, a host with an
    /// optional port. Section 4.1 point 7: `key` MUST be selected randomly for each connection.
    ///
    /// # Errors
    /// [`RequestError::Host`] or [`RequestError::Target`] if `host` or `target` is malformed.
    pub fn new(host: &str, target: &str, key: [u8; 16]) -> Result<Self, RequestError> {
        if !is_host(host.as_bytes()) {
            return Err(RequestError::Host);
        }
        let is_path = target.starts_with('/') && !target.contains('#') && target.is_ascii();
        let uri = Uri::try_from(target)
            .ok()
            .filter(|_| is_path)
            .ok_or(RequestError::Target)?;
        let key = fields::encode_key(key);
        let mut request = client::Request::new(());
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, printable(host).ok_or(RequestError::Host)?);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_str(&key).expect("base64 is ASCII"),
        );
        Ok(Self {
            request,
            key,
            subprotocols: Vec::new(),
            head: Head::new(),
            interim_bytes: 0,
        })
    }

    /// Offers another subprotocol, with a lower preference than those offered before.
    ///
    /// # Errors
    /// The name is not a token, or was offered before.
    pub fn with_subprotocol(mut self, name: &str) -> Result<Self, RequestError> {
        if !fields::is_token(name.as_bytes())
            || self.subprotocols.iter().any(|offered| offered == name)
        {
            return Err(RequestError::Subprotocol);
        }
        self.subprotocols.push(name.to_owned());
        let value = printable(&self.subprotocols.join(", "))
            .expect("tokens, commas and spaces are printable");
        self.request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, value);
        Ok(self)
    }

    /// Adds a header, such as Origin, Cookie or Authorization.
    ///
    /// # Errors
    /// The name is not a token, the value is not printable ASCII, or the header is one that this type sets (such as
    /// Host), Sec-WebSocket-Extensions, Content-Length or Transfer-Encoding.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let name = HeaderName::try_from(name).map_err(|_| RequestError::Name)?;
        let value = printable(value).ok_or(RequestError::Value)?;
        if RESERVED.contains(&name) {
            return Err(RequestError::Reserved(name));
        }
        self.request.headers_mut().append(name, value);
        Ok(self)
    }

    /// Appends the request to `out`.
    pub fn encode_request(&self, out: &mut Vec<u8>) {
        let (bytes, _) =
            generate_request(self.request.clone()).expect("new has set all required headers");
        out.extend_from_slice(&bytes);
    }

    /// Consumes bytes from `input` up to and including the blank line that ends the head of the response. `Ok(None)`
    /// means that all bytes were consumed, and more are needed. The bytes after the head, which are the first frames,
    /// stay in `input`. Interim responses (1xx other than 101, such as 100 or 103) are skipped. They count against
    /// `head_bytes_max`, together with the final response.
    ///
    /// # Errors
    /// The first rule that the response broke. The opening handshake has failed.
    ///
    /// # Panics
    /// If called again after a response or an error.
    pub fn receive_response(
        &mut self,
        input: &mut &mut [u8],
        limits: &HeadLimits,
    ) -> Result<Option<ServerResponse>, ClientOpeningError> {
        loop {
            let limits = HeadLimits {
                head_bytes_max: limits.head_bytes_max.saturating_sub(self.interim_bytes),
                ..*limits
            };
            let Some(head) = self.head.receive(
                input,
                &limits,
                HeadKind::Response,
                check_status_line,
                &BufferPool::default(),
            )?
            else {
                return Ok(None);
            };
            let len = head.len();
            let response = ServerResponse::parse(head)?;
            match response.status {
                101 => {
                    self.check_accepted(&response.headers)?;
                    return Ok(Some(response));
                }
                // RFC 7231 section 6.2: "A client MUST be able to parse one or more 1xx responses received prior to
                // a final response, even if the client does not expect one."
                100..=199 => {
                    self.head = Head::new();
                    self.interim_bytes += len;
                }
                _ => return Err(ClientOpeningError::Status(Box::new(response))),
            }
        }
    }

    /// Checks a 101 response: section 4.1, points 2 to 6 of the list of checks.
    fn check_accepted(&self, headers: &HeaderMap) -> Result<(), ClientOpeningError> {
        match fields::occurrence(headers, &UPGRADE) {
            Occurrence::Once(value) if value.eq_ignore_ascii_case(b"websocket") => {}
            Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
                return Err(ClientOpeningError::Upgrade);
            }
        }
        if !fields::list_contains(headers, &CONNECTION, "upgrade") {
            return Err(ClientOpeningError::Connection);
        }
        let accept = derive_accept_key(self.key.as_bytes());
        match fields::occurrence(headers, &SEC_WEBSOCKET_ACCEPT) {
            Occurrence::Once(value) if value == accept.as_bytes() => {}
            Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
                return Err(ClientOpeningError::Accept);
            }
        }
        // An empty header selects no extension.
        let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
        if extensions.iter().any(|line| !line.is_empty()) {
            return Err(ClientOpeningError::Extension);
        }
        match fields::occurrence(headers, &SEC_WEBSOCKET_PROTOCOL) {
            Occurrence::Missing => Ok(()),
            Occurrence::Once(value)
                if self
                    .subprotocols
                    .iter()
                    .any(|name| name.as_bytes() == value) =>
            {
                Ok(())
            }
            Occurrence::Once(_) | Occurrence::Repeated => Err(ClientOpeningError::Subprotocol),
        }
    }
}

impl ServerResponse {
    /// Parses a head whose lines and status line were checked.
    fn parse(mut head: Buffer) -> Result<Self, ClientOpeningError> {
        // RFC 7230 section 2.6: a higher minor version is processed as HTTP/1.1, the highest that tungstenite's parser
        // accepts. check_status_line has checked that the line begins with "HTTP/1." and a digit.
        head[b"HTTP/1.".len()] = b'1';
        let Ok(Some((_, parsed))) = client::Response::try_parse(&head) else {
            return Err(ClientOpeningError::Unparsable);
        };
        let (parts, _) = parsed.into_parts();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
        })
    }

    /// Returns the status. It is 101 if [`ClientOpening::receive_response`] returned this response, and another one if
    /// [`ClientOpeningError::Status`] contains it.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns all headers. Their names are in lower case.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the value of a header, of its first line if it has several. `None` if there is no such header, or if the
    /// value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }

    /// Returns the subprotocol that the server has selected, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.header("sec-websocket-protocol")
    }
}

/// Checks RFC 7230 section 3.1.2's `HTTP-version SP status-code SP reason-phrase`. The reason may be empty. Then the
/// space before it may be missing, because some servers omit it.
fn check_status_line(line: &[u8]) -> Result<(), ClientOpeningError> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        major,
        b'.',
        minor,
        b' ',
        code @ ..,
    ] = line
    else {
        return Err(ClientOpeningError::StatusLine);
    };
    let ([b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']
    | [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..]) = code
    else {
        return Err(ClientOpeningError::StatusLine);
    };
    match (major, minor) {
        (b'1', b'1'..=b'9') => Ok(()),
        (b'0'..=b'9', b'0'..=b'9') => Err(ClientOpeningError::HttpVersion),
        (_, _) => Err(ClientOpeningError::StatusLine),
    }
}

/// Headers that the caller must not add: those that this module sets, Sec-WebSocket-Extensions, because this client
/// supports no extension, and those that announce a body.
const RESERVED: [HeaderName; 9] = [
    HOST,
    CONNECTION,
    UPGRADE,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
];
