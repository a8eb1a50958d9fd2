//! One open connection: frames to write, answers to read. It knows its stream, and neither time nor the others.

use super::answers::{Answers, Counted};
use super::cycle::Cycle;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use wsloop::proto::ProtocolError;

/// A connection after its opening handshake.
pub(super) struct LoadConnection<S> {
    stream: S,
    answers: Answers,
    /// Messages not wholly written, the one under way included.
    unsent: u64,
    /// Bytes of the message under way that are written.
    position: usize,
    /// Pongs, and a Close: they leave between two messages.
    control: Vec<u8>,
    /// The socket takes no more for now.
    is_blocked: bool,
}

/// What some reads gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    /// Those of them that are not the message that was sent.
    pub(super) mismatched: u64,
}

/// Why a connection ended before its time.
#[derive(Debug)]
pub(super) enum Lost {
    Read(io::Error),
    Write(io::Error),
    /// The stream ended without a Close.
    Ended,
    /// With a Close.
    Closed,
    Protocol(ProtocolError),
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

    /// Has `messages` more to send.
    pub(super) fn queue(&mut self, messages: u64) {
        self.unsent += messages;
    }

    /// Messages not wholly written.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Drops the messages that are not begun; gives how many.
    pub(super) fn cancel_unstarted(&mut self) -> u64 {
        let begun = u64::from(self.position > 0);
        let cancelled = self.unsent - begun;
        self.unsent = begun;
        cancelled
    }

    /// The socket may take bytes again.
    pub(super) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Takes bytes that came with the end of the opening handshake.
    pub(super) fn receive(&mut self, input: &mut [u8], expected: &Cycle) -> Result<Counted, Lost> {
        self.answers
            .receive(input, expected, &mut self.control)
            .map_err(Lost::Protocol)
    }

    /// Reads what there is, at most [`READS_PER_TURN_MAX`] times; `false`: there may be more. A read that does not fill `buf`
    /// took all there was, unless the stream's end is behind it.
    ///
    /// # Errors
    /// The connection is over; `received` has what came before.
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
            received.messages += counted.messages;
            received.mismatched += counted.mismatched;
            if counted.is_closed {
                return Err(Lost::Closed);
            }
            if len < buf.len() && !is_ended {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes what is owed, as far as the socket takes it: one call for all the messages that a cycle holds.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn write(&mut self, requests: &Cycle) -> Result<(), Lost> {
        while !self.is_blocked {
            if self.position == 0 && !self.control.is_empty() {
                let written = write(&mut self.stream, &self.control)?;
                self.is_blocked = written < self.control.len();
                self.control.drain(..written);
                continue;
            }
            if self.unsent == 0 {
                break;
            }
            let mut bytes = requests.bytes_from(self.position);
            // A pong waits for the end of one message, not of all that are owed.
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

    /// Says goodbye, if there is room for it; no answer is awaited.
    pub(super) fn close(&mut self) {
        // Section 5.5.1 of RFC 6455: a Close with the code 1000, masked with zeros.
        if self.position == 0 && self.control.is_empty() {
            let _ = write(&mut self.stream, b"\x88\x82\0\0\0\0\x03\xE8");
        }
    }
}

/// Zero if the socket takes nothing for now.
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
        }
    }
}

/// Of one connection, before others have their turn.
const READS_PER_TURN_MAX: usize = 16;

#[cfg(test)]
mod tests;
