//! Vectors of the opening handshake. Each is received whole, in every possible split into two pieces, one byte at a
//! time, and with further bytes behind it. The split changes neither the result nor the number of consumed bytes.
//! Section numbers without another RFC are those of RFC 6455.

mod cost;
mod host;
mod lines;
mod offers;
mod request;
mod response;
mod upgrade;

use super::{Head, HeadLimits, OpeningError, Request};
use std::fmt::Debug;

/// Receives a piece of input. Returns the result when it is known.
type Receiver<R> = Box<dyn FnMut(&mut &mut [u8]) -> Option<R>>;

/// Receives `bytes` in every way, each time with a new receiver from `fresh`. Returns the result and the number of
/// consumed bytes.
fn every_way<R: Debug + PartialEq>(
    name: &str,
    bytes: &[u8],
    fresh: &dyn Fn() -> Receiver<R>,
) -> (Option<R>, usize) {
    let expected = play(&[bytes], fresh());
    let cuts = (0..=bytes.len())
        .map(|at| bytes.split_at(at))
        .map(|(first, rest)| vec![first, rest]);
    for pieces in cuts.chain([bytes.chunks(1).collect()]) {
        let cut = pieces.first().map_or(0, |first| first.len());
        assert_eq!(
            play(&pieces, fresh()),
            expected,
            "{name}, in {} pieces, the first of {cut}",
            pieces.len()
        );
    }
    if expected.0.is_some() {
        let trailing = [bytes, b"\x81\x85\x01\x02\x03\x04 more\r\n\r\n"].concat();
        assert_eq!(
            play(&[&trailing], fresh()),
            expected,
            "{name}, with bytes behind it"
        );
    }
    expected
}

/// Receives `pieces`. Returns the result and the number of consumed bytes.
fn play<R: Debug>(pieces: &[&[u8]], mut receive: Receiver<R>) -> (Option<R>, usize) {
    let mut taken = 0;
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        let result = receive(&mut input);
        assert!(piece.ends_with(input), "the rest of the input is unchanged");
        taken += piece.len() - input.len();
        if result.is_some() {
            return (result, taken);
        }
        assert!(
            input.is_empty(),
            "all bytes are consumed if more are needed"
        );
    }
    (None, taken)
}

/// Receives a request in every way, with these limits. Returns its summary or error, `None` if the request is
/// incomplete, and the number of consumed bytes.
fn request_within(
    name: &str,
    bytes: &[u8],
    limits: HeadLimits,
) -> (Option<Result<String, OpeningError>>, usize) {
    every_way(name, bytes, &|| {
        let mut head = Head::new();
        Box::new(move |input| {
            let result = head.receive_request(input, &limits).transpose()?;
            Some(result.map(|request| summary(&request)))
        })
    })
}

/// Checks a table of complete requests: name, request, expected summary or error.
fn check(table: &[(&str, &str, Result<&str, OpeningError>)]) {
    for (name, text, expected) in table {
        let (result, taken) = request_within(name, text.as_bytes(), HeadLimits::default());
        let result = result.unwrap_or_else(|| panic!("{name}: incomplete"));
        assert_eq!(
            result.as_deref().map_err(Clone::clone),
            expected.clone(),
            "{name}"
        );
        if result.is_ok() {
            assert_eq!(
                taken,
                text.len(),
                "{name}: the head ends with its blank line"
            );
        }
    }
}

/// Parses a request that must be valid.
fn request(text: &str) -> Request {
    let mut bytes = text.as_bytes().to_vec();
    Head::new()
        .receive_request(&mut &mut bytes[..], &HeadLimits::default())
        .unwrap()
        .unwrap()
}

/// Returns the kind, path, query and host of a request, such as "get /a?b at example.com".
fn summary(request: &Request) -> String {
    let kind = match (request.is_upgrade(), request.is_head()) {
        (true, false) => "upgrade",
        (false, true) => "head",
        (false, false) => "get",
        (true, true) => unreachable!("a HEAD request is not an opening handshake"),
    };
    let query = request
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{kind} {}{query} at {}", request.path(), request.host())
}

/// The client's request in RFC 6455 section 1.2.
const RFC_EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
