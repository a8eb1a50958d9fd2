//! The client's side of the opening handshake (RFC 6455 section 4.1): the request, and what is demanded of the
//! answer. Redirects, cookies and authentication are the caller's, who gets the head of every other answer.

use super::client_error::{ClientOpeningError, RequestError};
use super::fields::{self, Occurrence};
use super::head::{Head, HeadKind, HeadLimits};
use super::host::is_host;
use super::response::printable;
use crate::buffer::{Buffer, BufferPool};
use tungstenite::handshake::client::{self, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http::Uri;
use tungstenite::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};

/// An opening handshake that we begin: first [`encode_request`](Self::encode_request), then
/// [`receive_response`](Self::receive_response) until it gives the answer.
///
/// ```
/// use wsloop::proto::{ClientOpening, HeadLimits};
///
/// let mut opening = ClientOpening::new("example.com", "/chat", *b"the sample nonce").unwrap();
/// let mut request = Vec::new();
/// opening.encode_request(&mut request);
/// assert!(request.starts_with(b"GET /chat HTTP/1.1\r\nHost: example.com\r\n"));
///
/// let mut answer = *b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// let mut input = &mut answer[..];
/// let response = opening.receive_response(&mut input, &HeadLimits::default()).unwrap().unwrap();
/// assert_eq!(response.status(), 101);
/// ```
#[derive(Debug)]
pub struct ClientOpening {
    request: client::Request,
    key: String,
    subprotocols: Vec<String>,
    head: Head,
    /// Bytes of the interim answers so far.
    interim_bytes: usize,
}

/// The head of a server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerResponse {
    status: u16,
    headers: HeaderMap,
}

impl ClientOpening {
    /// The request for `target`, a path perhaps with a query, at `host`, perhaps with a port. Section 4.1 point 7:
    /// `key` MUST be selected randomly for each connection.
    ///
    /// # Errors
    /// One of the two is not what it says.
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

    /// Offers one more subprotocol, after those before it.
    ///
    /// # Errors
    /// It is not a token, or was offered before.
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
    /// The name is not a token, the value is not printable ASCII, or the header belongs to the protocol.
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
            generate_request(self.request.clone()).expect("new has set all it asks for");
        out.extend_from_slice(&bytes);
    }

    /// Takes bytes from `input` up to and including the blank line that ends the answer's head; `Ok(None)`: all
    /// were taken and more are needed. What follows the head stays in `input`: the first frames. Interim answers,
    /// such as 100 or 103, are skipped; they and the answer together are bounded by `head_bytes_max`.
    ///
    /// # Errors
    /// The first rule that the server broke. The opening handshake has failed.
    ///
    /// # Panics
    /// If it is called again after a response or an error.
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

    /// Section 4.1, what a client demands of a 101, points 2 to 6.
    fn check_accepted(&self, headers: &HeaderMap) -> Result<(), ClientOpeningError> {
        match fields::occurrence(headers, UPGRADE.as_str()) {
            Occurrence::Once(value) if value.eq_ignore_ascii_case(b"websocket") => {}
            Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
                return Err(ClientOpeningError::Upgrade);
            }
        }
        if !fields::list_contains(headers, CONNECTION.as_str(), "upgrade") {
            return Err(ClientOpeningError::Connection);
        }
        let accept = derive_accept_key(self.key.as_bytes());
        match fields::occurrence(headers, SEC_WEBSOCKET_ACCEPT.as_str()) {
            Occurrence::Once(value) if value == accept.as_bytes() => {}
            Occurrence::Missing | Occurrence::Once(_) | Occurrence::Repeated => {
                return Err(ClientOpeningError::Accept);
            }
        }
        // An empty field indicates none.
        let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
        if extensions.iter().any(|line| !line.is_empty()) {
            return Err(ClientOpeningError::Extension);
        }
        match fields::occurrence(headers, SEC_WEBSOCKET_PROTOCOL.as_str()) {
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
        // RFC 7230 section 2.6: a higher minor version is read as the one that we know, and tungstenite's parser too.
        // check_status_line saw "HTTP/1." and a digit.
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

    /// The status: 101, or in [`ClientOpeningError::Status`] any other.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of a header, of its first line if it has several; `None` also if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }

    /// The subprotocol that the server has selected.
    pub fn subprotocol(&self) -> Option<&str> {
        self.header("sec-websocket-protocol")
    }
}

/// RFC 7230 section 3.1.2: `HTTP-version SP status-code SP reason-phrase`. The reason may be empty, and servers
/// leave out the space before it then.
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

/// The headers that have their own place in the request, and those of a body that it has not.
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
