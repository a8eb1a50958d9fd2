//! Opens a connection to one of a server's addresses and performs the opening handshake.

use super::{SERVER, SIGNALS, chunked, describe, heads, screen};
use crate::cli::args::{self, Connect, Place};
use crate::cli::client::{self, Address, Attempt, Failure, Handshake, Progress, Stream, TlsClient};
use crate::cli::stderr;
use mio::{Events, Interest, Poll};
use signal_hook_mio::v1_0::Signals;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};
use wsloop::proto::ServerResponse;

/// An open connection.
pub(super) struct Dialled {
    /// Registered for reading and writing. It may have unread input for which no event will arrive.
    pub(super) stream: Stream,
    pub(super) response: Box<ServerResponse>,
    /// Bytes read after the response.
    pub(super) rest: Vec<u8>,
}

/// Returns the addresses of a server. Blocks while a host name is resolved.
///
/// # Errors
/// Returns why the name cannot be resolved.
pub(super) fn addresses(place: &Place) -> Result<Vec<Address>, String> {
    match place {
        Place::Tcp { name, port } => {
            let sockets = args::resolve(name, *port)?;
            Ok(sockets.into_iter().map(Address::Tcp).collect())
        }
        Place::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
    }
}

/// Tries the addresses in their order, until one accepts the connection and responds in time. Only the
/// first response counts: if it refuses the handshake, no other address is tried.
///
/// # Errors
/// Returns why there is no connection: one line, or several if the response has a body.
pub(super) fn dial(
    connect: &Connect,
    tls: Option<&TlsClient>,
    addresses: &[Address],
    poll: &mut Poll,
    signals: &mut Signals,
) -> Result<Dialled, String> {
    let deadline = Instant::now() + connect.connect_timeout;
    let mut reason = "the host has no address".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        // Divides the remaining time evenly among the remaining addresses, so that an address that never responds
        // leaves time for the next ones.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        reason = match try_one(connect, tls, address, Instant::now() + share, poll, signals)? {
            Ok(dialled) => return Ok(dialled),
            Err(AddressError::Unreachable(error)) => {
                format!("cannot connect to {address}: {error}")
            }
            Err(AddressError::TimedOut {
                is_in_tls_handshake,
            }) => {
                // Rounds to two decimal places, because the share is a quotient such as 3.333333333 s.
                let seconds = (share.as_secs_f64() * 100.0).round() / 100.0;
                let line = format!("no answer from {address} in {seconds} s");
                if is_in_tls_handshake {
                    line + "; the TLS handshake has not ended"
                } else {
                    line
                }
            }
        };
    }
    Err(reason)
}

/// A failure of one address, after which the next one is tried.
enum AddressError {
    /// The connection failed.
    Unreachable(io::Error),
    /// No response before the deadline.
    TimedOut { is_in_tls_handshake: bool },
}

/// Tries one address.
///
/// # Errors
/// The inner error is a failure of this address. The outer one ends the search: a refused handshake, a malformed
/// response, a signal, or an error of the system.
fn try_one(
    connect: &Connect,
    tls: Option<&TlsClient>,
    address: &Address,
    deadline: Instant,
    poll: &mut Poll,
    signals: &mut Signals,
) -> Result<Result<Dialled, AddressError>, String> {
    if connect.is_verbose {
        stderr::print(&format!("* trying {address}\n"));
    }
    let mut stream = match Stream::connect(address, tls) {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(AddressError::Unreachable(error))),
    };
    poll.registry()
        .register(&mut stream, SERVER, Interest::READABLE | Interest::WRITABLE)
        .map_err(describe)?;
    let opening = connect
        .opening(client::nonce())
        .map_err(|error| error.to_string())?;
    let mut attempt = Attempt::new(stream, opening);
    let request = heads::request(attempt.request());
    if connect.is_verbose {
        attempt.record();
        if tls.is_none() {
            stderr::print(&request);
        }
    }
    let mut is_agreed = false;
    let mut buf = vec![0; BUF_BYTES];
    while wait(poll, signals, deadline)? {
        let progress = attempt.advance(&mut buf);
        if connect.is_verbose
            && !is_agreed
            && let Some(agreed) = agreed(&attempt, &progress)
        {
            is_agreed = true;
            stderr::print(&format!("* {agreed}\n{request}"));
        }
        if let Some(received) = attempt.recorded()
            && let Some(rest_len) = rest_len(&progress)
        {
            stderr::print(&heads::response(received, rest_len));
        }
        match progress {
            Progress::Pending => {}
            Progress::Opened(stream, response, rest) => {
                return Ok(Ok(Dialled {
                    stream,
                    response,
                    rest: rest.to_owned(),
                }));
            }
            Progress::Failed(Failure::Connect(error)) => {
                return Ok(Err(AddressError::Unreachable(error)));
            }
            Progress::Failed(failure) => {
                let line = screen::escaped(&failure.to_string());
                let Failure::Refused(response, body, mut stream) = failure else {
                    return Err(line);
                };
                let body = read_body(body, &response, &mut stream, poll, signals)?;
                stream.end();
                return Err(refusal(line, &response, &body));
            }
        }
    }
    Ok(Err(AddressError::TimedOut {
        is_in_tls_handshake: attempt.is_in_tls_handshake(),
    }))
}

/// Returns what the TLS handshake has negotiated, if it has ended.
fn agreed(attempt: &Attempt, progress: &Progress<'_>) -> Option<Handshake> {
    match progress {
        Progress::Pending => attempt.agreed(),
        Progress::Opened(stream, _, _) => stream.agreed(),
        Progress::Failed(Failure::Refused(_, _, stream)) => stream.agreed(),
        Progress::Failed(_) => attempt.agreed(),
    }
}

/// Returns the number of bytes that were read after the head of the response. `None` if there is no response yet.
fn rest_len(progress: &Progress<'_>) -> Option<usize> {
    match progress {
        Progress::Pending => None,
        Progress::Opened(_, _, rest) => Some(rest.len()),
        Progress::Failed(Failure::Refused(_, rest, _)) => Some(rest.len()),
        Progress::Failed(_) => Some(0),
    }
}

/// Waits until the socket is ready. Returns false if the deadline passes first.
///
/// # Errors
/// A signal arrived, or the poll failed.
fn wait(poll: &mut Poll, signals: &mut Signals, deadline: Instant) -> Result<bool, String> {
    let mut events = Events::with_capacity(8);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.map_err(describe)?,
        }
        for event in &events {
            if event.token() == SIGNALS && signals.pending().count() > 0 {
                return Err("interrupted before the connection was open".to_owned());
            }
        }
        if events.iter().any(|event| event.token() == SERVER) {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Reads the body of a refused handshake: to its end, to the maximum length that is printed, or for one second.
fn read_body(
    mut raw: Vec<u8>,
    response: &ServerResponse,
    stream: &mut Stream,
    poll: &mut Poll,
    signals: &mut Signals,
) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut buf = [0; 1024];
    loop {
        let (body, is_whole) = body_of(response, &raw);
        // The raw length is limited as well: with small chunks, most bytes are chunk headers.
        if is_whole || body.len() > BODY_BYTES_SHOWN_MAX || raw.len() > 16 * BODY_BYTES_SHOWN_MAX {
            return Ok(body);
        }
        match stream.read(&mut buf) {
            Ok(0) => return Ok(body),
            Ok(len) => raw.extend_from_slice(&buf[..len]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !wait(poll, signals, deadline)? {
                    return Ok(body);
                }
            }
            // The part of the body before the error is printed.
            Err(_) => return Ok(body),
        }
    }
}

/// Decodes the body from the bytes after the head, and returns whether it is complete (RFC 9112, section 6.3).
fn body_of(response: &ServerResponse, raw: &[u8]) -> (Vec<u8>, bool) {
    let coding = response.header("transfer-encoding");
    if coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return chunked::decode(raw);
    }
    let length = response.header("content-length");
    let length = length.and_then(|length| length.parse().ok());
    let len = raw.len().min(length.unwrap_or(usize::MAX));
    (raw[..len].to_owned(), length == Some(len))
}

/// Appends the Location header and the body of a response to `text`, with control characters escaped.
fn refusal(mut text: String, response: &ServerResponse, body: &[u8]) -> String {
    if let Some(location) = response.header("location") {
        text.push_str("; Location: ");
        text.push_str(&screen::escaped(location));
    }
    let is_cut = body.len() > BODY_BYTES_SHOWN_MAX;
    let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_SHOWN_MAX)]);
    for line in body.trim_end().lines() {
        text.push('\n');
        text.push_str(&screen::escaped(line));
    }
    if is_cut {
        text.push_str("\n(truncated)");
    }
    text
}

/// Maximum number of bytes of a body that are printed: more than a person is likely to read.
const BODY_BYTES_SHOWN_MAX: usize = 4096;

/// Maximum time to read a body. A body without a length ends with the stream, which may stay open.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Size of the read buffer: the maximum length of a response's head, so that one read usually suffices.
const BUF_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use wsloop::proto::{ClientOpening, ClientOpeningError, HeadLimits};

    fn response(head: &str) -> Box<ServerResponse> {
        let mut opening = ClientOpening::new("localhost", "/", [0; 16]).unwrap();
        let mut head = head.as_bytes().to_owned();
        match opening.receive_response(&mut &mut head[..], &HeadLimits::default()) {
            Err(ClientOpeningError::Status(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn control_characters_in_the_body_of_a_refusal_are_escaped() {
        let plain = response("HTTP/1.1 403 Forbidden\r\n\r\n");
        let table: [(&[u8], &str); 4] = [
            (b"", "no"),
            (b"\r\n", "no"),
            (b"not\r\nyou\x1b[2J\n", "no\nnot\nyou\\u{1b}[2J"),
            (b"\xFF", "no\n\u{FFFD}"),
        ];
        for (body, expected) in table {
            assert_eq!(refusal("no".to_owned(), &plain, body), expected);
        }
        let long = refusal("no".to_owned(), &plain, &[b'x'; BODY_BYTES_SHOWN_MAX + 1]);
        assert_eq!(
            long.len(),
            "no\n".len() + BODY_BYTES_SHOWN_MAX + "\n(truncated)".len()
        );
    }

    #[test]
    fn the_length_or_the_last_chunk_ends_a_body() {
        let head = |header: &str| response(&format!("HTTP/1.1 403 Forbidden\r\n{header}\r\n"));
        let table: [(&str, &[u8], &[u8], bool); 6] = [
            ("Content-Length: 3\r\n", b"no", b"no", false),
            ("Content-Length: 3\r\n", b"no!", b"no!", true),
            ("Content-Length: 3\r\n", b"no! and more", b"no!", true),
            ("", b"no", b"no", false),
            (
                "Transfer-Encoding: Chunked\r\n",
                b"2\r\nno\r\n",
                b"no",
                false,
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                b"2\r\nno\r\n0\r\n\r\n",
                b"no",
                true,
            ),
        ];
        for (header, raw, body, is_whole) in table {
            assert_eq!(
                body_of(&head(header), raw),
                (body.to_owned(), is_whole),
                "{header}"
            );
        }
    }

    #[test]
    fn the_target_of_a_redirect_is_printed() {
        let response = response("HTTP/1.1 301 Moved\r\nLocation: ws://b/\r\n\r\n");
        let text = refusal("moved".to_owned(), &response, b"");
        assert_eq!(text, "moved; Location: ws://b/");
    }
}
