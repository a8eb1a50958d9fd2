//! Counts and verifies the messages received on one connection.
//!
//! While the input repeats the expected frame, it is compared byte by byte with a [`Cycle`], which counts and verifies
//! messages in one step. Anything else (a ping, a Close, fragments, different content) is parsed by `wsloop::proto`
//! until a message equals the expected one again.

use super::cycle::{Cycle, MASKING_KEY};
use wsloop::Message;
use wsloop::proto::{Connection, Event, HeadLimits, Limits, ProtocolError};

/// State of the input of one connection.
pub(super) enum Answers {
    /// All input since the last complete message equals the first `position` bytes of the expected frame.
    Matching { position: usize },
    /// The input differs from the expected frame. The parser has received all bytes since the last message.
    Parsing(Box<Connection>),
}

/// Result of [`Answers::receive`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Number of complete messages.
    pub(super) messages: u64,
    /// How many of `messages` differ from the message that was sent, in type or content.
    pub(super) mismatched: u64,
    /// How many of `mismatched` precede the first message that equals the sent one; all of them if none does.
    pub(super) leading: u64,
    /// Whether the server's Close was received. Input after the Close is ignored.
    pub(super) is_closed: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self::Matching { position: 0 }
    }
}

impl Answers {
    /// Processes all of `input`. Appends the replies that the protocol demands (pongs, a Close) to `out`.
    ///
    /// # Errors
    /// Returns the rule of RFC 6455 that the server violated. The Close that answers the violation is in `out`.
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
                    // At the end of the cycle, `differs` is false as well: the comparison starts again.
                    let differs = equal < input.len() && equal < cycle.len();
                    input = &mut input[equal..];
                    if differs {
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

    /// Returns a parser that has received the first `position` bytes of the expected frame.
    fn parse_from(
        position: usize,
        expected: &Cycle,
        out: &mut Vec<u8>,
    ) -> Result<Self, ProtocolError> {
        let mut parser = Box::new(Connection::client_open(|| MASKING_KEY));
        let mut seen = expected.frame()[..position].to_vec();
        let event = parser.receive(&mut &mut seen[..], &LIMITS, out)?;
        debug_assert!(event.is_none(), "`seen` is shorter than a frame");
        Ok(Self::Parsing(parser))
    }

    /// Counts a parsed message. One that equals the expected message ends parsing.
    fn count(&mut self, message: Message<'_>, expected: &Cycle, counted: &mut Counted) {
        let is_leading = counted.leading == counted.messages;
        counted.messages += 1;
        // The first byte of an unfragmented frame: FIN and the opcode.
        let first = if message.is_text() { 0x81 } else { 0x82 };
        let payload = message.as_bytes();
        let frame = expected.frame();
        if frame[0] == first && frame.ends_with(payload) && has_payload(frame, payload.len()) {
            *self = Self::default();
        } else {
            counted.mismatched += 1;
            counted.leading += u64::from(is_leading);
        }
    }
}

/// Returns whether the payload of an unmasked frame has `len` bytes.
fn has_payload(frame: &[u8], len: usize) -> bool {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.len() == header + len
}

/// Returns the length of the common prefix.
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

/// Bytes compared at once while searching for the first byte that differs.
const BLOCK: usize = 256;

/// Limits on the server's messages. They are far above what a measured server sends: memory is not scarce in a load
/// generator, and a message that is refused would end the connection.
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
