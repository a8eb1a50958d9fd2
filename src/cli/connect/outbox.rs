//! Frames on their way to the server, in order; of the pongs that wait, only the newest.

use std::io::{self, ErrorKind, Write};

/// Bytes that the socket has not taken yet.
#[derive(Default)]
pub(super) struct Outbox {
    frames: Vec<u8>,
    /// Of `frames`, those that are written.
    written: usize,
    /// Where the last pong among `frames` ends, unless it is written.
    pong_end: usize,
    /// A pong that waits until the one among `frames` is written. RFC 6455 section 5.5.3: "If an endpoint receives a
    /// Ping frame and has not yet sent Pong frame(s) in response to previous Ping frame(s), the endpoint MAY elect to
    /// send a Pong frame for only the most recently processed Ping frame." So a server that pings and does not read
    /// cannot fill our memory.
    pong: Vec<u8>,
}

impl Outbox {
    /// Bytes to write.
    pub(super) fn len(&self) -> usize {
        self.frames.len() - self.written + self.pong.len()
    }

    /// To append whole frames to, but no pong.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    pub(super) fn queue_pong(&mut self, frame: &[u8]) {
        self.pong.clear();
        self.pong.extend_from_slice(frame);
        self.append_pong_if_due();
    }

    /// The pong that waits goes before what is appended next, which is a Close, behind which nothing may follow.
    pub(super) fn append_pong(&mut self) {
        self.frames.append(&mut self.pong);
    }

    /// Nothing of it will be written.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes as much as the socket takes; how much that was.
    ///
    /// # Errors
    /// What the socket says.
    pub(super) fn write(&mut self, stream: &mut impl Write) -> io::Result<usize> {
        let before = self.written;
        let mut total = 0;
        while self.written < self.frames.len() {
            match stream.write(&self.frames[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.written += len;
                    total += len;
                    self.append_pong_if_due();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        debug_assert!(before <= self.written);
        self.discard_written();
        Ok(total)
    }

    fn append_pong_if_due(&mut self) {
        if self.written >= self.pong_end && !self.pong.is_empty() {
            self.frames.append(&mut self.pong);
            self.pong_end = self.frames.len();
        }
    }

    /// Gives the memory of what is written back, once that is worth moving the rest.
    fn discard_written(&mut self) {
        if self.written < self.frames.len() && self.written < self.frames.len() / 2 {
            return;
        }
        self.frames.drain(..self.written);
        self.pong_end = self.pong_end.saturating_sub(self.written);
        self.written = 0;
        if self.frames.capacity() > RETAINED_BYTES_MAX && self.frames.len() < RETAINED_BYTES_MAX / 2
        {
            self.frames.shrink_to(RETAINED_BYTES_MAX);
        }
    }
}

/// Room that is kept for what comes next.
const RETAINED_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes so many bytes and then blocks.
    struct Socket {
        writable: usize,
        written: Vec<u8>,
    }

    impl Write for Socket {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if self.writable == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let len = self.writable.min(buf.len());
            self.writable -= len;
            self.written.extend_from_slice(&buf[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn socket() -> Socket {
        Socket {
            writable: 0,
            written: Vec::new(),
        }
    }

    #[test]
    fn everything_arrives_once_and_in_order_however_little_is_taken() {
        for step in 1..20 {
            let (mut outbox, mut socket) = (Outbox::default(), socket());
            let mut expected = Vec::new();
            for byte in 0..100_u8 {
                let frame = vec![byte; usize::from(byte % 7)];
                outbox.frames().extend_from_slice(&frame);
                expected.extend_from_slice(&frame);
                socket.writable = step;
                outbox.write(&mut socket).unwrap();
                assert_eq!(outbox.len(), expected.len() - socket.written.len());
            }
            socket.writable = usize::MAX;
            outbox.write(&mut socket).unwrap();
            assert_eq!((outbox.len(), socket.written), (0, expected));
        }
    }

    #[test]
    fn of_many_pings_the_first_and_the_last_that_waited_are_answered() {
        let (mut outbox, mut socket) = (Outbox::default(), socket());
        outbox.frames().extend_from_slice(b"message");
        for pong in [b"p1", b"p2", b"p3"] {
            outbox.queue_pong(pong);
        }
        outbox.frames().extend_from_slice(b"more");
        socket.writable = 8;
        outbox.write(&mut socket).unwrap();
        outbox.queue_pong(b"p4");
        assert_eq!(socket.written, b"messagep");
        socket.writable = usize::MAX;
        outbox.write(&mut socket).unwrap();
        assert_eq!(socket.written, b"messagep1morep4");
    }

    #[test]
    fn nothing_follows_the_close() {
        let (mut outbox, mut socket) = (Outbox::default(), socket());
        outbox.queue_pong(b"p1");
        outbox.queue_pong(b"p2");
        outbox.append_pong();
        outbox.frames().extend_from_slice(b"close");
        socket.writable = usize::MAX;
        outbox.write(&mut socket).unwrap();
        assert_eq!(socket.written, b"p1p2close");
    }

    #[test]
    fn the_memory_of_a_long_message_comes_back() {
        let (mut outbox, mut socket) = (Outbox::default(), socket());
        outbox.frames().resize(10 * RETAINED_BYTES_MAX, 0);
        socket.writable = usize::MAX;
        outbox.write(&mut socket).unwrap();
        assert!(outbox.frames.capacity() <= RETAINED_BYTES_MAX);
    }
}
