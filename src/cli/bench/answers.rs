//! What comes back on one connection. As long as it is the expected frame again and again it is compared as bytes,
//! which counts and verifies it at once; anything else (a ping, a Close, fragments, another content) goes through
//! `wsloop::proto`, up to the next message that is as expected.

use super::cycle::{Cycle, MASKING_KEY};
use wsloop::Message;
use wsloop::proto::{Connection, Event, HeadLimits, Limits, ProtocolError};

/// Where a connection stands in what it receives.
pub(super) enum Answers {
    /// In the expected frame.
    Matching { position: usize },
    /// In something else; the parser has all bytes since the last message, or none.
    Parsing(Box<Connection>),
}

/// What was in the bytes received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Whole messages.
    pub(super) messages: u64,
    /// Those of them that are not the message that was sent.
    pub(super) mismatched: u64,
    /// The server's Close.
    pub(super) is_closed: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self::Matching { position: 0 }
    }
}

impl Answers {
    /// Takes all of `input`. What the protocol owes the server (pongs, a Close) is appended to `out`.
    ///
    /// # Errors
    /// The rule of RFC 6455 that the server broke.
    pub(super) fn receive(
        &mut self,
        mut input: &mut [u8],
        expected: &Cycle,
        out: &mut Vec<u8>,
    ) -> Result<Counted, ProtocolError> {
        let mut counted = Counted::default();
        while !input.is_empty() && !counted.is_closed {
            match self {
                Self::Matching { position } => {
                    let cycle = expected.bytes_from(*position);
                    let equal = equal_bytes(input, cycle);
                    let end = *position + equal;
                    counted.messages += (end / expected.period()) as u64;
                    *position = end % expected.period();
                    let is_other = equal < input.len() && equal < cycle.len();
                    input = &mut input[equal..];
                    if is_other {
                        *self = Self::parse_from(*position, expected, out)?;
                    }
                }
                Self::Parsing(parser) => match parser.receive(&mut input, &LIMITS, out)? {
                    None => {}
                    Some(Event::Message(message)) => {
                        self.count(message.as_message(), expected, &mut counted);
                    }
                    Some(Event::Close(_)) => counted.is_closed = true,
                    Some(Event::Ping(_) | Event::Pong(_)) => {}
                    Some(Event::Request(_)) => unreachable!("a server sends no request"),
                },
            }
        }
        Ok(counted)
    }

    /// A parser that has seen the part of the expected frame that has come.
    fn parse_from(
        position: usize,
        expected: &Cycle,
        out: &mut Vec<u8>,
    ) -> Result<Self, ProtocolError> {
        let mut parser = Box::new(Connection::client_open(|| MASKING_KEY));
        let mut seen = expected.frame()[..position].to_vec();
        let event = parser.receive(&mut &mut seen[..], &LIMITS, out)?;
        debug_assert!(event.is_none(), "it is less than a frame");
        Ok(Self::Parsing(parser))
    }

    fn count(&mut self, message: Message<'_>, expected: &Cycle, counted: &mut Counted) {
        counted.messages += 1;
        let first = if message.is_text() { 0x81 } else { 0x82 };
        let payload = message.as_bytes();
        let frame = expected.frame();
        if frame[0] == first && frame.ends_with(payload) && has_payload(frame, payload.len()) {
            *self = Self::default();
        } else {
            counted.mismatched += 1;
        }
    }
}

/// Whether an unmasked frame has so many bytes of payload.
fn has_payload(frame: &[u8], len: usize) -> bool {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.len() == header + len
}

/// How many bytes at the start of the two are the same.
fn equal_bytes(input: &[u8], cycle: &[u8]) -> usize {
    let len = input.len().min(cycle.len());
    let (input, cycle) = (&input[..len], &cycle[..len]);
    if input == cycle {
        return len;
    }
    let blocks = input.chunks(BLOCK).zip(cycle.chunks(BLOCK));
    let same = blocks.take_while(|(a, b)| a == b).count() * BLOCK;
    let rest = input[same..].iter().zip(&cycle[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

/// Bytes compared at once in the search for the one that differs.
const BLOCK: usize = 256;

/// The server may send what it likes, as long as it is WebSocket: the memory is ours, not a server's.
const LIMITS: Limits = Limits {
    message_bytes_max: 1 << 31,
    fragments_max: u32::MAX,
    head: HeadLimits {
        head_bytes_max: 16 * 1024,
        headers_max: 100,
    },
};

#[cfg(test)]
mod tests;
