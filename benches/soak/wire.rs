//! A client's end of a connection: a non-blocking socket, its unsent bytes, and decoding of the frames received. It does
//! not use the crate under test.

use crate::Load;
use crate::random::Random;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A client's socket with its buffers.
pub(crate) struct Wire {
    stream: TcpStream,
    /// Bytes to be written.
    pub(crate) to_write: Vec<u8>,
    /// Number of bytes at the start of `to_write` that are written.
    written: usize,
    /// Bytes received.
    read: Vec<u8>,
    /// Number of bytes at the start of `read` that are decoded.
    taken: usize,
    /// Status of the response to the opening handshake: `None` until the head has arrived, 0 if the head has no status.
    head: Option<u16>,
    is_write_shut: bool,
    pub(crate) end: Option<End>,
}

/// How the server ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the end of the stream (FIN).
    Stream,
    /// By a reset or another error.
    Reset,
}

impl Wire {
    pub(crate) fn new(load: &Load<'_>, request: &str) -> Self {
        let stream = TcpStream::connect(load.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP option");
        stream.set_nonblocking(true).expect("a socket option");
        load.totals.connections.fetch_add(1, Relaxed);
        Self {
            stream,
            to_write: request.as_bytes().to_vec(),
            written: 0,
            read: Vec::new(),
            taken: 0,
            head: None,
            is_write_shut: false,
            end: None,
        }
    }

    /// Returns the status of the response to the request, or `None` if it has not arrived.
    pub(crate) fn status(&self) -> Option<u16> {
        self.head
    }

    pub(crate) fn is_open(&self) -> bool {
        self.head == Some(101) && self.end.is_none()
    }

    /// Writes as much as one call to the socket accepts. Returns whether it has accepted any bytes.
    pub(crate) fn write(&mut self) -> bool {
        if self.to_write.is_empty() {
            return false;
        }
        let len = match self.stream.write(&self.to_write[self.written..]) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // The end is detected by reading, because replies to earlier frames may still arrive.
            Err(_) => self.to_write.len() - self.written,
        };
        self.written += len;
        if self.written == self.to_write.len() {
            self.to_write.clear();
            self.written = 0;
        }
        len > 0
    }

    /// Reads available input, up to `len_max` bytes and [`READ_BYTES_MAX`]. Returns whether there was input or the
    /// connection ended.
    pub(crate) fn read(&mut self, len_max: usize) -> bool {
        let mut left = len_max.min(READ_BYTES_MAX);
        let mut buf = [0; 16 * 1024];
        let mut has_read = false;
        while left > 0 && self.end.is_none() {
            let len = left.min(buf.len());
            match self.stream.read(&mut buf[..len]) {
                Ok(0) => self.end = Some(End::Stream),
                Ok(len) => {
                    left -= len;
                    self.read.extend_from_slice(&buf[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.end = Some(End::Reset),
            }
            has_read = true;
        }
        if self.head.is_none() {
            self.take_head();
        }
        has_read
    }

    fn take_head(&mut self) {
        let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { return };
        let status = self
            .read
            .get(9..12)
            .and_then(|code| str::from_utf8(code).ok());
        self.head = Some(status.and_then(|code| code.parse().ok()).unwrap_or(0));
        self.taken = end + 4;
    }

    /// Returns the first byte and the payload of the next frame, or `None` if it is incomplete.
    pub(crate) fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.head != Some(101) {
            return None;
        }
        let bytes = &self.read[self.taken..];
        let (start, len) = match *bytes {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 127, ..] => {
                let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
                (10, len as usize)
            }
            [_, 126, ..] | [_] | [] => {
                self.discard_read();
                return None;
            }
            [_, len, ..] => (2, usize::from(len)),
        };
        let Some(payload) = bytes.get(start..start + len) else {
            self.discard_read();
            return None;
        };
        let frame = (bytes[0], payload.to_vec());
        self.taken += start + len;
        Some(frame)
    }

    /// Removes decoded bytes from `read`.
    fn discard_read(&mut self) {
        self.read.drain(..self.taken);
        self.taken = 0;
    }

    pub(crate) fn shut_down_write(&mut self) {
        if !self.is_write_shut {
            self.is_write_shut = true;
            drop(self.stream.shutdown(Shutdown::Write));
        }
    }

    pub(crate) fn reset_when_dropped(&self) {
        drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }
}

/// Appends a masked frame.
pub(crate) fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], random: &mut Random) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = (random.next() as u32).to_ne_bytes();
    out.extend(key);
    let start = out.len();
    out.extend_from_slice(payload);
    for (byte, key) in out[start..].iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Returns the code in the payload of a Close, or 1005 if there is none.
pub(crate) fn close_code(payload: &[u8]) -> u16 {
    payload
        .first_chunk()
        .map_or(1005, |code| u16::from_be_bytes(*code))
}

/// Returns an opening handshake for this path.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Maximum bytes that one client reads before the other clients of its thread continue.
const READ_BYTES_MAX: usize = 512 * 1024;
