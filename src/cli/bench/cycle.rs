//! One frame, again and again. All messages of a run are alike, so what a connection sends, and what it should
//! receive, is a cycle; where it stands is a number, and nothing is built or copied for a message.

use wsloop::Message;
use wsloop::proto::Connection;

/// A frame, repeated.
pub(super) struct Cycle {
    bytes: Vec<u8>,
    /// Bytes of one frame.
    period: usize,
}

impl Cycle {
    /// Messages as a client sends them. Section 5.3 of RFC 6455 asks for a fresh masking key in each frame; this is
    /// one for all of them, for speed, which is good enough where nothing is hidden from anybody.
    pub(super) fn of_requests(message: Message<'_>) -> Self {
        Self::new(Connection::client_open(|| MASKING_KEY), message)
    }

    /// Messages as a server sends them.
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

    /// Bytes of one frame.
    pub(super) fn period(&self) -> usize {
        self.period
    }

    /// From a place in a frame to the end of that or a later frame.
    pub(super) fn bytes_from(&self, position: usize) -> &[u8] {
        debug_assert!(position < self.period);
        &self.bytes[position..]
    }

    /// One frame.
    pub(super) fn frame(&self) -> &[u8] {
        &self.bytes[..self.period]
    }
}

/// What a load is made of: letters for a text; bytes that are no UTF-8 for a binary message.
pub(super) fn payload(size: usize, is_binary: bool) -> Vec<u8> {
    let byte = |index: usize| {
        let step = index % 61;
        let step = u8::try_from(step).expect("a remainder of 61 is below 61");
        if is_binary {
            // An odd factor: all steps differ.
            step.wrapping_mul(37) ^ 0xFF
        } else {
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ 12345678"[index % 61]
        }
    };
    (0..size).map(byte).collect()
}

/// The example of RFC 6455 section 5.7: not zero, so that there is something to unmask.
pub(super) const MASKING_KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Enough that a cycle seldom begins anew within a read or write, and little enough for a cache.
const CYCLE_BYTES_TARGET: usize = 64 * 1024;

/// Of a frame.
const HEADER_BYTES_MAX: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_whole_frames() {
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
    fn texts_are_text_and_binaries_are_not() {
        assert_eq!(payload(3, false), b"abc");
        assert!(std::str::from_utf8(&payload(1000, false)).is_ok());
        assert!(std::str::from_utf8(&payload(1000, true)).is_err());
    }
}
