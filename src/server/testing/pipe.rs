//! An in-memory pipe between the engine and a client. The client behaves as a browser does: it reads what arrives, answers
//! pings and Closes, and ends the stream after the server has ended it. A pipe stores any number of bytes.

use super::Received;
use super::shared::Shared;
use crate::engine::Readiness;
use crate::proto::{Connection, Event, HeadLimits, Limits};
use crate::stream::Transport;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;

/// A client, at its end of a pipe.
pub(super) struct Client {
    pub(super) wire: Shared<Wire>,
    /// `None` until the client has received a 101 response.
    pub(super) connection: Option<Connection>,
    pub(super) received: Vec<Received>,
}

impl Client {
    pub(super) fn new(wire: Shared<Wire>) -> Self {
        Self {
            wire,
            connection: None,
            received: Vec::new(),
        }
    }

    /// Reads and answers what has arrived. Returns whether there was anything to read: bytes, or the end of the stream.
    pub(super) fn read(&mut self) -> bool {
        let mut wire = self.wire.lock();
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if wire.is_stalled || wire.is_client_gone {
            return false;
        }
        let mut bytes = mem::take(&mut wire.to_client);
        let mut input = &mut bytes[..];
        while let Some(event) = connection
            .receive(&mut input, &LIMITS, &mut wire.to_server)
            .expect("the server violated the protocol")
        {
            self.received.push(match event {
                Event::Message(message) => message.as_message().into(),
                Event::Ping(payload) => Received::Ping(payload.into_owned()),
                Event::Pong(payload) => Received::Pong(payload.into_owned()),
                Event::Close(frame) => Received::Close(frame.code, frame.reason),
                Event::Request(_) => unreachable!("a client receives no requests"),
            });
        }
        // RFC 6455 section 7.1.1: the client waits for the server to close the stream first.
        if wire.is_server_gone {
            self.received.push(Received::End);
            wire.is_client_gone = true;
        }
        !bytes.is_empty() || wire.is_server_gone
    }
}

/// Bytes in transit between a client and the server, and the state of both directions.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    /// The client has ended its side: the end of the stream follows `to_server`.
    pub(super) is_client_gone: bool,
    /// The server has ended its side: the end of the stream follows `to_client`.
    pub(super) is_server_gone: bool,
    /// The server has dropped the stream.
    pub(super) is_dropped: bool,
    /// The client does not read, and writes of the server would block.
    pub(super) is_stalled: bool,
}

impl Wire {
    /// Returns whether neither side will do anything with the pipe any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_dropped && self.is_client_gone
    }

    /// Returns what a poll would report to the server now.
    pub(super) fn readiness(&self) -> Readiness {
        Readiness {
            is_readable: !self.to_server.is_empty() || self.is_client_gone,
            is_writable: !self.is_stalled,
            is_end: self.is_client_gone,
            is_error: false,
        }
    }
}

/// The server's end of a pipe: the stream that a session owns.
#[derive(Debug)]
pub(super) struct Pipe(pub(super) Shared<Wire>);

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        if wire.to_server.is_empty() && !wire.is_client_gone {
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = wire.to_server.len().min(buf.len());
        buf[..len].copy_from_slice(&wire.to_server[..len]);
        wire.to_server.drain(..len);
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        if wire.is_stalled {
            return Err(ErrorKind::WouldBlock.into());
        }
        let start = wire.to_client.len();
        slices
            .iter()
            .for_each(|slice| wire.to_client.extend_from_slice(slice));
        Ok(wire.to_client.len() - start)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Pipe {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.lock().is_server_gone = true;
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut wire = self.0.lock();
        wire.is_server_gone = true;
        wire.is_dropped = true;
    }
}

/// No limits for messages: clients trust the server under test. The limits for heads are unused, because
/// `Harness::request` parses the response with limits of its own.
const LIMITS: Limits = Limits {
    message_bytes_max: usize::MAX,
    fragments_max: u32::MAX,
    head: HeadLimits {
        head_bytes_max: 0,
        headers_max: 0,
    },
};
