//! TLS on a non-blocking stream whose readiness is edge-triggered.

use super::client::{ClientIdentity, TlsClient};
use super::error::TlsError;
use crate::cli::client::{Handshake, HandshakeError};
use rustls::{ClientConnection, Error, HandshakeKind, ProtocolVersion};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// TLS on the stream `S`, which must be non-blocking. [`handshake`](Self::handshake) must succeed before the first read
/// and the first write.
///
/// - A read that does not fill the buffer has drained the stream, as a read of a TCP socket does: rustls has no plaintext
///   left. The end of the stream, or an error, may follow.
/// - A write is short only if the stream would block. Accepted bytes can be left in rustls as ciphertext.
///   [`flush`](Write::flush) writes them: call it whenever the stream is writable.
#[derive(Debug)]
pub(in crate::cli) struct TlsStream<S> {
    stream: S,
    tls: ClientConnection,
    identity: Arc<ClientIdentity>,
    /// When the handshake began: the stream accepted the first byte.
    started: Option<Instant>,
    /// Duration of the handshake. `None` until its end.
    handshake_time: Option<Duration>,
    /// Whether the first byte of the server has arrived.
    has_received: bool,
    /// An error that is returned after the plaintext that was received before it.
    failed: Option<Fault>,
}

/// An error that ends the connection.
#[derive(Debug)]
enum Fault {
    Stream(io::Error),
    Tls(TlsError),
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Stream(error) => error,
            Fault::Tls(error) => error.into(),
        }
    }
}

/// The result of one read of the stream.
struct Filled {
    /// Number of bytes read from the stream.
    ciphertext: usize,
    /// Number of bytes written to the buffer.
    plaintext: usize,
    /// Whether the stream had fewer bytes than were requested.
    is_drained: bool,
}

impl<S: Read + Write> TlsStream<S> {
    /// Creates a stream whose handshake has not started.
    ///
    /// # Errors
    /// Returns an error of the configuration.
    pub(in crate::cli) fn new(stream: S, client: &TlsClient) -> Result<Self, Error> {
        let (mut tls, identity) = client.connection()?;
        tls.set_buffer_limit(Some(CIPHERTEXT_BYTES_MAX));
        Ok(Self {
            stream,
            tls,
            identity,
            started: None,
            handshake_time: None,
            has_received: false,
            failed: None,
        })
    }

    pub(in crate::cli) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Continues the handshake until it has ended or the stream would block. Returns whether it has ended.
    ///
    /// # Errors
    /// The stream failed, or one side has rejected the other. An alert has been sent if that was possible.
    pub(in crate::cli) fn handshake(&mut self) -> Result<bool, HandshakeError> {
        if self.handshake_time.is_some() {
            return Ok(true);
        }
        loop {
            if let Err(error) = self.flush() {
                match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Ok(false),
                    _ if self.started.is_none() => return Err(HandshakeError::Connect(error)),
                    // Reads what has arrived: the server may have sent an alert before it closed the connection.
                    _ => {}
                }
            }
            let started = *self.started.get_or_insert_with(Instant::now);
            if !self.tls.is_handshaking() {
                self.handshake_time = Some(started.elapsed());
                return Ok(true);
            }
            let asked = self.identity.asked();
            let fault = match self.fill(&mut [], HANDSHAKE_READ_BYTES) {
                Ok(Filled { ciphertext: 0, .. }) => TlsError::Ended(asked),
                Ok(_) => match self.failed.take() {
                    None => continue,
                    Some(Fault::Stream(error)) => TlsError::Lost(error, asked),
                    Some(Fault::Tls(error)) => error,
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => TlsError::Lost(error, asked),
            };
            return Err(HandshakeError::Tls(fault));
        }
    }

    /// Returns the version and the parameters that the handshake has negotiated. `None` before its end.
    pub(in crate::cli) fn agreed(&self) -> Option<Handshake> {
        let time = self.handshake_time?;
        let cipher = self.tls.negotiated_cipher_suite()?.suite();
        Some(Handshake {
            version: match self.tls.protocol_version()? {
                ProtocolVersion::TLSv1_2 => "1.2",
                _ => "1.3",
            },
            cipher: cipher.as_str().unwrap_or("unknown"),
            has_alpn: self.tls.alpn_protocol().is_some(),
            is_resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
            time,
        })
    }

    /// Ends TLS: sends close_notify, unless the stream would block, and discards input. If input were left unread, the
    /// system would end the TCP connection with a reset, and the server could lose the last bytes.
    pub(in crate::cli) fn end(&mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
        let mut ciphertext = take_scratch();
        for _ in 0..DRAINING_READS_MAX {
            match self.stream.read(&mut ciphertext) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        SCRATCH.set(ciphertext);
    }

    /// Reads from the stream once, at most `asked` bytes, and decrypts complete records into `buf`. Plaintext that does
    /// not fit stays in rustls: at most one record if `asked` is at most the length of `buf`. An error of TLS is stored
    /// in `failed`.
    ///
    /// # Errors
    /// Returns an error of the stream, also if it would block.
    fn fill(&mut self, buf: &mut [u8], asked: usize) -> io::Result<Filled> {
        let mut scratch = take_scratch();
        let asked = asked.min(scratch.len());
        let result = loop {
            match self.stream.read(&mut scratch[..asked]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let filled = result.map(|len| Filled {
            ciphertext: len,
            plaintext: self.decrypt(&scratch[..len], buf),
            is_drained: len < asked,
        });
        SCRATCH.set(scratch);
        filled
    }

    /// Decrypts the records that `ciphertext` completes; it is empty at the end of the stream. Returns the number of
    /// bytes written to `buf`.
    fn decrypt(&mut self, mut ciphertext: &[u8], buf: &mut [u8]) -> usize {
        if ciphertext.is_empty() {
            // Informs rustls of the end of the stream.
            let _ = self.tls.read_tls(&mut ciphertext);
            return 0;
        }
        if !self.has_received && !matches!(ciphertext[0], ALERT | HANDSHAKE) {
            let is_http = HTTP.starts_with(&ciphertext[..ciphertext.len().min(HTTP.len())]);
            self.failed = Some(Fault::Tls(TlsError::NotTls { is_http }));
            return 0;
        }
        self.has_received = true;
        let mut plaintext = 0;
        while !ciphertext.is_empty() {
            match self.tls.read_tls(&mut ciphertext) {
                // Nothing follows close_notify.
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.failed = Some(Fault::Stream(error));
                    break;
                }
            }
            let result = self.tls.process_new_packets();
            if let Ok(len) = self.tls.reader().read(&mut buf[plaintext..]) {
                plaintext += len;
            }
            if let Err(error) = result {
                let asked = self.identity.asked();
                self.failed = Some(Fault::Tls(TlsError::Protocol(error, asked)));
                break;
            }
        }
        // Writes an alert, or in TLS 1.2 the refusal of a renegotiation. (The answer to a KeyUpdate waits for the next data.)
        let _ = self.flush();
        plaintext
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        let mut is_drained = false;
        let mut silent = 0;
        loop {
            match self.tls.reader().read(&mut buf[len..]) {
                Ok(more) if more > 0 => len += more,
                // The server's close_notify.
                Ok(_) if len < buf.len() => return Ok(len),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && len == 0 => {
                    return Err(TlsError::Truncated.into());
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(len),
                Ok(_) | Err(_) => {}
            }
            if len == buf.len() || len > 0 && (is_drained || self.failed.is_some()) {
                return Ok(len);
            }
            if let Some(fault) = self.failed.take() {
                return Err(fault.into());
            }
            if silent > SILENT_BYTES_MAX {
                return Err(TlsError::Silent.into());
            }
            let asked = buf.len() - len;
            match self.fill(&mut buf[len..], asked) {
                Ok(filled) => {
                    len += filled.plaintext;
                    silent += filled.ciphertext;
                    is_drained = filled.is_drained;
                }
                Err(error) if len == 0 => return Err(error),
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.failed = Some(Fault::Stream(error));
                    }
                    return Ok(len);
                }
            }
        }
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut len = 0;
        loop {
            match self.flush() {
                Ok(()) if len < buf.len() => len += self.tls.writer().write(&buf[len..])?,
                Err(error) if len == 0 || error.kind() != ErrorKind::WouldBlock => {
                    return Err(error);
                }
                Ok(()) | Err(_) => return Ok(len),
            }
        }
    }

    /// Writes the ciphertext that is left in rustls.
    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {
                    self.started.get_or_insert_with(Instant::now);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

thread_local! {
    /// Buffer for ciphertext that is read, shared by all streams of a thread: empty, or of [`READ_BYTES`].
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn take_scratch() -> Vec<u8> {
    let mut scratch = SCRATCH.take();
    scratch.resize(READ_BYTES, 0);
    scratch
}

/// Maximum ciphertext that rustls retains. Twice its default, so that a message of 64 KiB, with its header, needs one
/// system call.
const CIPHERTEXT_BYTES_MAX: usize = 128 * 1024;

/// Maximum ciphertext without plaintext in one call of `read`. Without this limit, a server that sends session tickets
/// without end could prevent the call from returning. One record has at most 16 KiB.
const SILENT_BYTES_MAX: usize = 1024 * 1024;

/// Maximum bytes of one read: four records.
const READ_BYTES: usize = 64 * 1024;

/// Maximum bytes of one read in the handshake. The server's first data can follow the handshake in the same read, and
/// rustls stores at most 16 KiB of plaintext that was not read.
const HANDSHAKE_READ_BYTES: usize = 16 * 1024;

/// Maximum number of reads in [`TlsStream::end`].
const DRAINING_READS_MAX: usize = 16;

/// Types of the first record of a server (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// The first bytes of an HTTP response.
const HTTP: &[u8] = b"HTTP/";

#[cfg(test)]
mod tests;
