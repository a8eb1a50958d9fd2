//! One open connection: writes frames and reads answers. It knows its stream, but no clock and no other connection.

use super::answers::{Answers, Counted};
use super::cycle::Cycle;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use wsloop::proto::ProtocolError;

/// A connection after its opening handshake. The stream must be non-blocking.
pub(super) struct LoadConnection<S> {
    stream: S,
    answers: Answers,
    /// Queued messages that are not completely written, including a partly written one.
    unsent: u64,
    /// Bytes already written of the first unsent message.
    position: usize,
    /// Unsent control frames (pongs, a Close). They are written between two messages.
    control: Vec<u8>,
    /// Whether the last write was short. If so, nothing is written until [`unblock`](Self::unblock) is called.
    is_blocked: bool,
}

/// Counters of one or more reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    /// How many of `messages` differ from the message that was sent.
    pub(super) mismatched: u64,
    /// How many of `mismatched` precede the first message that equals the sent one; all of them if none does.
    pub(super) leading: u64,
}

impl Received {
    fn add(&mut self, counted: Counted) {
        if self.leading == self.messages {
            self.leading += counted.leading;
        }
        self.messages += counted.messages;
        self.mismatched += counted.mismatched;
    }
}

/// Why a connection was lost during the run.
#[derive(Debug)]
pub(super) enum Lost {
    Read(io::Error),
    Write(io::Error),
    /// The stream ended without a Close.
    Ended,
    /// The server sent a Close.
    Closed,
    /// The server violated RFC 6455.
    Protocol(ProtocolError),
    /// The server has sent pings and does not read the pongs.
    UnreadPongs,
}

impl<S: Read + Write> LoadConnection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            answers: Answers::default(),
            unsent: 0,
            position: 0,
            control: Vec::new(),
            is_blocked: false,
        }
    }

    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Adds `messages` to those to be sent. Writes nothing.
    pub(super) fn queue(&mut self, messages: u64) {
        self.unsent += messages;
    }

    /// Returns the number of queued messages that are not completely written.
    #[cfg(test)]
    fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Returns the number of queued messages of which no byte is written.
    pub(super) fn unstarted(&self) -> u64 {
        self.unsent - u64::from(self.position > 0)
    }

    /// Cancels the messages of which no byte is written, and returns their number.
    pub(super) fn cancel_unstarted(&mut self) -> u64 {
        let cancelled = self.unstarted();
        self.unsent -= cancelled;
        cancelled
    }

    /// Called when the socket is writable again.
    pub(super) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Processes received bytes, such as those that arrived together with the response of the opening handshake.
    ///
    /// # Errors
    /// The server violated the protocol, or more than [`CONTROL_BYTES_MAX`] of pongs are unsent.
    pub(super) fn receive(&mut self, input: &mut [u8], expected: &Cycle) -> Result<Counted, Lost> {
        let counted = self
            .answers
            .receive(input, expected, &mut self.control)
            .map_err(Lost::Protocol)?;
        if self.control.len() > CONTROL_BYTES_MAX {
            return Err(Lost::UnreadPongs);
        }
        Ok(counted)
    }

    /// Reads until the socket would block, at most [`READS_PER_TURN_MAX`] times, and adds to `received`. Returns
    /// whether the socket is drained; if not, the caller must call again without waiting for an event. Writes pongs when
    /// more than [`CONTROL_BYTES_BATCH`] are queued.
    ///
    /// A read that does not fill `buf` drains the socket, except that the end of the stream may follow. `is_ended` is
    /// set when an event has reported the end or an error: then the end is read as well.
    ///
    /// # Errors
    /// The connection is lost. `received` includes what was read before.
    pub(super) fn read(
        &mut self,
        buf: &mut [u8],
        expected: &Cycle,
        is_ended: bool,
        received: &mut Received,
    ) -> Result<bool, Lost> {
        for _ in 0..READS_PER_TURN_MAX {
            let len = match self.stream.read(buf) {
                Ok(0) => return Err(Lost::Ended),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Lost::Read(error)),
            };
            received.bytes += len as u64;
            let counted = self.receive(&mut buf[..len], expected)?;
            received.add(counted);
            if counted.is_closed {
                return Err(Lost::Closed);
            }
            if self.control.len() > CONTROL_BYTES_BATCH {
                self.write_control()?;
            }
            if self.control.len() > CONTROL_BYTES_BATCH {
                // The socket is full. Other connections are served before the next read.
                return Ok(false);
            }
            if len < buf.len() && !is_ended {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes queued messages and control frames until all are written or the socket would block. One system call
    /// writes at most as many messages as a cycle contains.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn write(&mut self, requests: &Cycle) -> Result<(), Lost> {
        if !self.is_blocked {
            self.is_blocked = !flush(&mut self.stream)?;
        }
        while !self.is_blocked {
            self.write_control()?;
            if self.unsent == 0 || self.is_blocked {
                break;
            }
            let mut bytes = requests.bytes_from(self.position);
            // A control frame follows the current message, not all queued messages.
            let messages = if self.control.is_empty() {
                self.unsent
            } else {
                1
            };
            if let Ok(messages) = usize::try_from(messages) {
                let left = messages.saturating_mul(requests.period()) - self.position;
                bytes = &bytes[..left.min(bytes.len())];
            }
            let written = write(&mut self.stream, bytes)?;
            self.is_blocked = written < bytes.len();
            let end = self.position + written;
            self.unsent -= (end / requests.period()) as u64;
            self.position = end % requests.period();
        }
        Ok(())
    }

    /// Writes the queued control frames, unless a message is partly written.
    ///
    /// # Errors
    /// The connection is lost.
    fn write_control(&mut self) -> Result<(), Lost> {
        if self.position == 0 && !self.control.is_empty() && !self.is_blocked {
            let written = write(&mut self.stream, &self.control)?;
            self.is_blocked = written < self.control.len();
            self.control.drain(..written);
        }
        Ok(())
    }

    /// Sends a Close without waiting for the answer. Sends none if a frame is partly written or control frames are
    /// queued; errors are ignored.
    pub(super) fn close(&mut self) {
        // RFC 6455 section 5.5.1: a Close with the code 1000, masked with zeros.
        if self.position == 0 && self.control.is_empty() {
            let _ = write(&mut self.stream, b"\x88\x82\0\0\0\0\x03\xE8");
        }
    }
}

/// Sends the bytes that the stream has accepted and not sent, which are ciphertext of TLS. Returns whether all are sent.
fn flush(stream: &mut impl Write) -> Result<bool, Lost> {
    match stream.flush() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(Lost::Write(error)),
    }
}

/// Writes once. Returns the number of bytes written, 0 if the socket would block.
fn write(stream: &mut impl Write, bytes: &[u8]) -> Result<usize, Lost> {
    loop {
        match stream.write(bytes) {
            Ok(0) => return Err(Lost::Write(ErrorKind::WriteZero.into())),
            Ok(len) => return Ok(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Lost::Write(error)),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "reading failed: {error}"),
            Self::Write(error) => write!(f, "writing failed: {error}"),
            Self::Ended => f.write_str("the server ended the stream without a Close"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Protocol(error) => write!(f, "the server broke the protocol: {error}"),
            Self::UnreadPongs => write!(
                f,
                "the server sends pings and does not read the pongs: {} KiB are unsent",
                CONTROL_BYTES_MAX / 1024
            ),
        }
    }
}

/// Maximum unsent bytes of pongs. It exceeds [`CONTROL_BYTES_BATCH`] by the pongs for one read of 256 KiB of the smallest
/// pings, of which each has 2 bytes and its pong 6. So a connection exceeds the limit only if the server does not read.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// When more bytes of pongs are queued, they are written before the next read.
const CONTROL_BYTES_BATCH: usize = 256 * 1024;

/// Maximum number of reads of one connection before the others are served.
const READS_PER_TURN_MAX: usize = 16;

#[cfg(test)]
mod tests;
