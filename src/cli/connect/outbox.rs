//! The queue of unsent frames. Frames are sent in order. At most two unsent pongs are retained, the oldest and the
//! newest.
//!
//! The outbox does not limit the size of messages. The session stops adding messages when [`Outbox::len`] is too large.

use std::io::{self, ErrorKind, Write};

/// Unsent frames.
#[derive(Default)]
pub(super) struct Outbox {
    /// Whether the stream has accepted bytes that it has not sent: with TLS, they are left inside as ciphertext.
    is_unflushed: bool,
    /// Frames, of which the first `written` bytes are sent.
    frames: Vec<u8>,
    written: usize,
    /// Position in `frames` of the end of the last pong. At most `written` if that pong is sent.
    pong_end: usize,
    /// The waiting pong, or empty. It is appended to `frames` when the last pong in `frames` is sent. RFC 6455 section
    /// 5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to previous Ping
    /// frame(s), the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame." A
    /// server that sends pings without reading therefore cannot fill the memory of the client.
    pong: Vec<u8>,
}

impl Outbox {
    /// Returns the number of unsent bytes.
    pub(super) fn len(&self) -> usize {
        self.frames.len() - self.written + self.pong.len()
    }

    /// Returns whether everything is sent.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_unflushed
    }

    /// Returns the buffer to append whole frames to. Pongs must be added with [`queue_pong`](Self::queue_pong) instead.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    /// Queues a pong. It replaces a pong that is not in `frames` yet.
    pub(super) fn queue_pong(&mut self, frame: &[u8]) {
        self.pong.clear();
        self.pong.extend_from_slice(frame);
        self.append_pong_if_due();
    }

    /// Appends the waiting pong, if any. Called before a Close is appended, because no frame may follow a Close.
    pub(super) fn append_pong(&mut self) {
        self.frames.append(&mut self.pong);
    }

    /// Drops all unsent frames.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes until everything is sent or the socket would block. Returns the number of bytes written.
    ///
    /// # Errors
    /// Returns an error of the stream.
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
        self.is_unflushed = match stream.flush() {
            Ok(()) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error),
        };
        self.discard_written();
        Ok(total)
    }

    /// Appends the waiting pong if the previous pong is sent.
    fn append_pong_if_due(&mut self) {
        if self.written >= self.pong_end && !self.pong.is_empty() {
            self.frames.append(&mut self.pong);
            self.pong_end = self.frames.len();
        }
    }

    /// Releases the memory of sent frames. Moves the unsent bytes only if at least half of the bytes are sent, so that
    /// each byte is moved a constant number of times on average.
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

/// Maximum capacity that is retained for later frames when the outbox is nearly empty.
const RETAINED_BYTES_MAX: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that accepts `writable` bytes and then would block.
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
    fn frames_are_sent_in_order_by_writes_of_any_size() {
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
    fn bytes_inside_the_stream_are_unsent() {
        /// Accepts everything, and sends it when it is `ready`.
        struct Buffered {
            is_ready: bool,
        }
        impl Write for Buffered {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                Ok(buf.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                match self.is_ready {
                    true => Ok(()),
                    false => Err(ErrorKind::WouldBlock.into()),
                }
            }
        }
        let mut outbox = Outbox::default();
        let mut stream = Buffered { is_ready: false };
        assert!(outbox.is_empty());
        outbox.frames().extend_from_slice(b"message");
        outbox.write(&mut stream).unwrap();
        assert_eq!((outbox.len(), outbox.is_empty()), (0, false));
        stream.is_ready = true;
        outbox.write(&mut stream).unwrap();
        assert!(outbox.is_empty());
    }

    #[test]
    fn of_several_unanswered_pings_the_first_and_the_last_are_answered() {
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
    fn the_memory_of_a_long_message_is_released() {
        let (mut outbox, mut socket) = (Outbox::default(), socket());
        outbox.frames().resize(10 * RETAINED_BYTES_MAX, 0);
        socket.writable = usize::MAX;
        outbox.write(&mut socket).unwrap();
        assert!(outbox.frames.capacity() <= RETAINED_BYTES_MAX);
    }
}
