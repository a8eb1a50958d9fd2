//! Vectors of the opening handshake, each played in every way that its bytes can be cut in two, one byte at a
//! time, and with bytes trailing. How they are cut changes neither the result nor what is left in the input.

mod cost;
mod host;
mod lines;
mod offers;
mod request;
mod response;
mod upgrade;

use super::{Head, HeadLimits, OpeningError, Request};
use std::fmt::Debug;

/// Gives the input's bytes to a fresh head at each call of the outer function.
type Receiver<R> = Box<dyn FnMut(&mut &mut [u8]) -> Option<R>>;

/// Plays `bytes` in every way; the result, and how many bytes it took.
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
            "{name}, with bytes trailing"
        );
    }
    expected
}

fn play<R: Debug>(pieces: &[&[u8]], mut receive: Receiver<R>) -> (Option<R>, usize) {
    let mut taken = 0;
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        let result = receive(&mut input);
        assert!(piece.ends_with(input), "what is left is what was there");
        taken += piece.len() - input.len();
        if result.is_some() {
            return (result, taken);
        }
        assert!(input.is_empty(), "all is taken when more is needed");
    }
    (None, taken)
}

/// A request in every way, with these limits.
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

/// Plays a table of complete requests.
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

/// A request that must be accepted.
fn request(text: &str) -> Request {
    let mut bytes = text.as_bytes().to_vec();
    Head::new()
        .receive_request(&mut &mut bytes[..], &HeadLimits::default())
        .unwrap()
        .unwrap()
}

fn summary(request: &Request) -> String {
    let kind = match (request.is_upgrade(), request.is_head()) {
        (true, false) => "upgrade",
        (false, true) => "head",
        (false, false) => "get",
        (true, true) => unreachable!("a HEAD is no upgrade"),
    };
    let query = request
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{kind} {}{query} at {}", request.path(), request.host())
}

/// Section 1.2's request of a client.
const RFC_EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
