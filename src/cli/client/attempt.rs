//! One connection up to the end of its opening handshake.

use super::cycle::Cycle;
use super::member::Member;
use crate::cli::args::Url;
use mio::net::TcpStream;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{ErrorKind, Read, Write};
use wsloop::http::StatusCode;
use wsloop::proto::{ClientOpening, ClientOpeningError, HeadLimits};

/// A connection that is not open yet.
pub(super) struct Attempt {
    /// Taken when it is open.
    stream: Option<TcpStream>,
    opening: ClientOpening,
    /// What of the request is not written.
    request: Vec<u8>,
    started: u64,
}

/// What came of looking at an attempt.
pub(super) enum Progress {
    Waits,
    /// There may be more to read.
    Opened(Member<TcpStream>),
    Failed(String),
}

impl Attempt {
    pub(super) fn new(stream: TcpStream, url: &Url, now: u64) -> Self {
        let opening = ClientOpening::new(&url.host, &url.target, nonce(now))
            .expect("the URL was checked with the same function");
        let mut request = Vec::new();
        opening.encode_request(&mut request);
        Self {
            stream: Some(stream),
            opening,
            request,
            started: now,
        }
    }

    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Writes and reads what can be.
    pub(super) fn advance(&mut self, buf: &mut [u8], expected: &Cycle) -> Progress {
        let Some(stream) = &mut self.stream else {
            return Progress::Waits;
        };
        while !self.request.is_empty() {
            match stream.write(&self.request) {
                Ok(len) => drop(self.request.drain(..len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Progress::Waits,
                    ErrorKind::Interrupted => {}
                    _ => return Progress::Failed(format!("cannot connect: {error}")),
                },
            }
        }
        loop {
            let len = match stream.read(buf) {
                Ok(0) => {
                    let reason = "the server ended the stream instead of answering";
                    return Progress::Failed(reason.to_owned());
                }
                Ok(len) => len,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Progress::Waits,
                    ErrorKind::Interrupted => continue,
                    _ => return Progress::Failed(format!("no answer: {error}")),
                },
            };
            let mut input = &mut buf[..len];
            let answer = self
                .opening
                .receive_response(&mut input, &HeadLimits::default());
            match answer {
                Ok(None) => {}
                Ok(Some(_)) => break self.opened(input, expected),
                Err(error) => return Progress::Failed(refusal(&error, input)),
            }
        }
    }

    fn opened(&mut self, input: &mut [u8], expected: &Cycle) -> Progress {
        let stream = self.stream.take().expect("advance has read from it");
        let mut member = Member::new(stream);
        match member.take(input, expected) {
            Ok(counted) if counted.is_closed => {
                Progress::Failed("the server closed the connection at once".to_owned())
            }
            Ok(_) => Progress::Opened(member),
            Err(lost) => Progress::Failed(lost.to_string()),
        }
    }
}

/// Why the server's answer is none; with the first line of what it says to a refusal.
fn refusal(error: &ClientOpeningError, body: &[u8]) -> String {
    let ClientOpeningError::Status(response) = error else {
        return error.to_string();
    };
    let status = response.status();
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("");
    let body = String::from_utf8_lossy(&body[..body.len().min(BODY_SHOWN)]);
    let line = body.lines().next().unwrap_or("").trim();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    let separator = if line.is_empty() { "" } else { ": " };
    format!("the server answered {status} {reason} instead of 101{separator}{line}")
}

/// RFC 6455 section 4.1 point 7: 16 bytes selected randomly for each connection.
fn nonce(now: u64) -> [u8; 16] {
    let random = RandomState::new();
    let halves = [random.hash_one(now), random.hash_one(!now)];
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&halves[0].to_ne_bytes());
    nonce[8..].copy_from_slice(&halves[1].to_ne_bytes());
    nonce
}

/// Of a refusal's body, in bytes.
const BODY_SHOWN: usize = 200;
