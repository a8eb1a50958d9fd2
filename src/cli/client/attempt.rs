//! One connection up to the end of its opening handshake.

use mio::net::TcpStream;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use wsloop::http::StatusCode;
use wsloop::proto::{ClientOpening, ClientOpeningError, HeadLimits, ServerResponse};

/// A connection that is not open yet.
pub(in super::super) struct Attempt {
    /// Taken when it is over.
    stream: Option<TcpStream>,
    opening: ClientOpening,
    /// What of the request is not written.
    request: Vec<u8>,
}

/// What came of looking at an attempt.
pub(in super::super) enum Progress<'b> {
    Pending,
    /// The stream, in which there may be more to read, the server's answer, and what came behind it.
    Opened(TcpStream, Box<ServerResponse>, &'b mut [u8]),
    Failed(Failure),
}

/// Why a connection was not opened.
#[derive(Debug)]
pub(in super::super) enum Failure {
    /// Nobody listens there, or nobody can be reached.
    Connect(io::Error),
    /// The stream ended before the answer's head did.
    Ended,
    Read(io::Error),
    /// The server said something else: plain HTTP, whose body begins with these bytes and goes on in the stream.
    Refused(Box<ServerResponse>, Vec<u8>, TcpStream),
    Malformed(ClientOpeningError),
}

impl Attempt {
    pub(in super::super) fn new(stream: TcpStream, opening: ClientOpening) -> Self {
        let mut request = Vec::new();
        opening.encode_request(&mut request);
        Self {
            stream: Some(stream),
            opening,
            request,
        }
    }

    /// Writes and reads what can be.
    pub(in super::super) fn advance<'b>(&mut self, buf: &'b mut [u8]) -> Progress<'b> {
        let Some(stream) = &mut self.stream else {
            return Progress::Pending;
        };
        while !self.request.is_empty() {
            match stream.write(&self.request) {
                Ok(len) => drop(self.request.drain(..len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Progress::Pending,
                    ErrorKind::Interrupted => {}
                    _ => return Progress::Failed(Failure::Connect(error)),
                },
            }
        }
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

/// In one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
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
