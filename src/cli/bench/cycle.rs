//! A frame that is repeated as often as needed.
//!
//! All messages of a run are identical, so the bytes that a connection sends, and those that it should receive, repeat
//! with the length of a frame. The state of a connection in that stream is one number, its position in the frame; no
//! frame is built or copied per message.

use wsloop::Message;
use wsloop::proto::Connection;

/// A frame, repeated.
pub(super) struct Cycle {
    /// Copies of the frame: as many as fit in [`CYCLE_BYTES_TARGET`], at least one.
    bytes: Vec<u8>,
    /// Length of one frame in bytes.
    period: usize,
}

impl Cycle {
    /// Creates the masked frames that a client sends. RFC 6455 section 5.3: "When preparing a masked frame, the client
    /// MUST pick a fresh masking key from the set of allowed 32-bit values." All frames have the same key instead, for
    /// speed. A fresh key protects intermediaries from content that an attacker chooses; here the content is fixed.
    pub(super) fn of_requests(message: Message<'_>) -> Self {
        Self::new(Connection::client_open(|| MASKING_KEY), message)
    }

    /// Creates the unmasked frames that a server sends.
    pub(super) fn of_answers(message: Message<'_>) -> Self {
        Self::new(Connection::server_open(), message)
    }

    fn new(mut connection: Connection, message: Message<'_>) -> Self {
        let mut bytes = Vec::with_capacity(message.len() + HEADER_BYTES_MAX);
        connection.send(message, &mut bytes);
        let period = bytes.len();
        let copies = (CYCLE_BYTES_TARGET / period).max(1);
        Self {
            bytes: bytes.repeat(copies),
            period,
        }
    }

    /// Returns the length of one frame in bytes.
    pub(super) fn period(&self) -> usize {
        self.period
    }

    /// Returns the bytes from a position in the frame to the end of the last copy. `position` is less than the
    /// [`period`](Self::period).
    pub(super) fn bytes_from(&self, position: usize) -> &[u8] {
        debug_assert!(position < self.period);
        &self.bytes[position..]
    }

    /// Returns one frame.
    pub(super) fn frame(&self) -> &[u8] {
        &self.bytes[..self.period]
    }
}

/// Returns the payload of all messages, `size` bytes: ASCII for a text message, invalid UTF-8 for a binary message.
pub(super) fn payload(size: usize, is_binary: bool) -> Vec<u8> {
    let byte = |index: usize| {
        let step = index % 61;
        let step = u8::try_from(step).expect("a remainder of 61 is below 61");
        if is_binary {
            // The factor is odd, so the 61 products modulo 256 differ.
            step.wrapping_mul(37) ^ 0xFF
        } else {
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ 12345678"[index % 61]
        }
    };
    (0..size).map(byte).collect()
}

/// The masking key of the example in RFC 6455 section 5.7. It is not zero, so that unmasking changes the bytes.
pub(super) const MASKING_KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Maximum length of a cycle, unless one frame is longer. Most reads and writes end before the end of a cycle of this
/// length, and it fits in a CPU cache.
const CYCLE_BYTES_TARGET: usize = 64 * 1024;

/// Maximum length of a frame header: 2 bytes, 8 of extended length and 4 of masking key.
const HEADER_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_contains_whole_frames() {
        for size in [0, 1, 20, 125, 126, 65_535, 65_536, 200_000] {
            let payload = payload(size, true);
            let message = Message::binary(&payload);
            for cycle in [Cycle::of_requests(message), Cycle::of_answers(message)] {
                assert!(cycle.bytes.len() % cycle.period() == 0);
                assert!(
                    cycle.bytes.len() <= CYCLE_BYTES_TARGET || cycle.bytes.len() == cycle.period()
                );
                assert!(
                    cycle.bytes_from(1).ends_with(cycle.frame()) || size > CYCLE_BYTES_TARGET / 2
                );
            }
        }
        let cycle = Cycle::of_answers(Message::text("abc"));
        assert_eq!(cycle.frame(), b"\x81\x03abc");
        assert!(cycle.bytes_from(2).starts_with(b"abc\x81\x03abc"));
        let cycle = Cycle::of_requests(Message::text("Hello"));
        assert_eq!(
            cycle.frame(),
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
    }

    #[test]
    fn text_payloads_are_utf8_and_binary_payloads_are_not() {
        assert_eq!(payload(3, false), b"abc");
        assert!(std::str::from_utf8(&payload(1000, false)).is_ok());
        assert!(std::str::from_utf8(&payload(1000, true)).is_err());
    }
}
