//! The client's opening handshake on a non-blocking stream, from the request to the response.

use super::stream::{Handshake, HandshakeError, Stream};
#[cfg(feature = "tls-client")]
use super::tls::TlsError;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use wsloop::http::StatusCode;
use wsloop::proto::{ClientOpening, ClientOpeningError, HeadLimits, ServerResponse};

/// An opening handshake in progress. It has no timeout: the caller drops an attempt that takes too long.
pub(in super::super) struct Attempt {
    /// `None` after the response's head has been read or was malformed. After an I/O error, the stream remains here.
    stream: Option<Stream>,
    opening: ClientOpening,
    /// Unsent bytes of the request.
    request: Vec<u8>,
    /// Whether bytes of the response have been read.
    has_response: bool,
    /// The bytes read so far, if they are recorded.
    record: Option<Vec<u8>>,
}

/// Result of [`Attempt::advance`].
pub(in super::super) enum Progress<'b> {
    /// The handshake continues when the socket is readable or writable.
    Pending,
    /// The connection is open. Contains the stream, the response, and the bytes that were read after the response. The
    /// stream may have more to read.
    Opened(Stream, Box<ServerResponse>, &'b mut [u8]),
    /// The connection was not opened.
    Failed(Failure),
}

/// Why a connection was not opened.
#[derive(Debug)]
pub(in super::super) enum Failure {
    /// The TCP connection failed.
    Connect(io::Error),
    /// The TLS handshake failed.
    #[cfg(feature = "tls-client")]
    Tls(TlsError),
    /// The scheme of the URL is `ws`, and the server speaks TLS.
    NeedsTls,
    /// The stream ended before the end of the response's head.
    Ended,
    /// Reading the response failed.
    Read(io::Error),
    /// The status of the response is not 101. Contains the response, the bytes of its body that were read, and the
    /// stream with the rest of the body.
    Refused(Box<ServerResponse>, Vec<u8>, Stream),
    /// The response violates HTTP or RFC 6455.
    Malformed(ClientOpeningError),
}

impl Attempt {
    /// Creates an attempt on a stream whose connection may still be pending. Writes nothing:
    /// [`advance`](Self::advance) sends the request.
    pub(in super::super) fn new(stream: Stream, opening: ClientOpening) -> Self {
        let mut request = Vec::new();
        opening.encode_request(&mut request);
        Self {
            stream: Some(stream),
            opening,
            request,
            has_response: false,
            record: None,
        }
    }

    /// Returns what the TLS handshake has negotiated. `None` before its end, and without TLS.
    pub(in super::super) fn agreed(&self) -> Option<Handshake> {
        self.stream.as_ref()?.agreed()
    }

    /// Returns whether the TLS handshake has not ended.
    pub(in super::super) fn is_in_tls_handshake(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.is_tls() && stream.agreed().is_none())
    }

    /// Returns the unsent bytes of the request.
    #[cfg(feature = "connect")]
    pub(in super::super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Records the bytes that are read from now on.
    #[cfg(feature = "connect")]
    pub(in super::super) fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// Returns the recorded bytes of the response: its head, and what was read after the head.
    #[cfg(feature = "connect")]
    pub(in super::super) fn recorded(&self) -> Option<&[u8]> {
        self.record.as_deref()
    }

    /// Continues the handshake until the socket would block. Called when the socket is ready; `buf` is scratch memory
    /// for reading.
    pub(in super::super) fn advance<'b>(&mut self, buf: &'b mut [u8]) -> Progress<'b> {
        let Some(stream) = &mut self.stream else {
            return Progress::Pending;
        };
        match stream.handshake() {
            Ok(true) => {}
            Ok(false) => return Progress::Pending,
            Err(error) => return Progress::Failed(error.into()),
        }
        while !self.request.is_empty() {
            match stream.write(&self.request) {
                Ok(len) => drop(self.request.drain(..len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Progress::Pending,
                    ErrorKind::Interrupted => {}
                    // The reason, such as a demand for a client certificate, may have arrived before.
                    _ if stream.is_tls() => self.request.clear(),
                    _ => return Progress::Failed(Failure::Connect(error)),
                },
            }
        }
        // If this would block, reading goes on.
        let _ = stream.flush();
        let (answer, start, end) = loop {
            let len = match stream.read(buf) {
                Ok(0) => return Progress::Failed(Failure::Ended),
                Ok(len) => len,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Progress::Pending,
                    ErrorKind::Interrupted => continue,
                    _ => return Progress::Failed(Failure::Read(error)),
                },
            };
            // The first byte is that of a TLS alert. An HTTP response begins with "HTTP/".
            let has_response = std::mem::replace(&mut self.has_response, true);
            if !has_response && buf[0] == TLS_ALERT && !stream.is_tls() {
                return Progress::Failed(Failure::NeedsTls);
            }
            if let Some(record) = &mut self.record {
                record.extend_from_slice(&buf[..len]);
            }
            let mut input = &mut buf[..len];
            let answer = self
                .opening
                .receive_response(&mut input, &HeadLimits::default());
            let start = len - input.len();
            match answer {
                Ok(None) => {}
                Ok(Some(response)) => break (Ok(response), start, len),
                Err(error) => break (Err(error), start, len),
            }
        };
        let rest = &mut buf[start..end];
        let stream = self.stream.take().expect("advance has read from it");
        match answer {
            Ok(response) => Progress::Opened(stream, Box::new(response), rest),
            Err(ClientOpeningError::Status(response)) => {
                Progress::Failed(Failure::Refused(response, rest.to_owned(), stream))
            }
            Err(error) => Progress::Failed(Failure::Malformed(error)),
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        match error {
            #[cfg(feature = "tls-client")]
            HandshakeError::Connect(error) => Self::Connect(error),
            #[cfg(feature = "tls-client")]
            HandshakeError::Tls(error) => Self::Tls(error),
        }
    }
}

/// Describes the failure in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            #[cfg(feature = "tls-client")]
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::NeedsTls => {
                f.write_str("the server speaks TLS on this port; use wss:// instead of ws://")
            }
            Self::Ended => f.write_str("the server ended the stream instead of answering"),
            Self::Read(error) => write!(f, "no answer: {error}"),
            Self::Refused(response, _, _) => {
                let status = response.status();
                let reason = StatusCode::from_u16(status)
                    .ok()
                    .and_then(|status| status.canonical_reason())
                    .unwrap_or("");
                write!(f, "the server answered {status} {reason} instead of 101")
            }
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

/// RFC 8446 section 5.1: the type of a record that contains an alert.
const TLS_ALERT: u8 = 21;
