//! TLS between the engine and the socket of one session.
//!
//! [`TlsStream`] implements the contract of [`Stream`]: `read` returns opened bytes, `write` accepts bytes and seals
//! them. rustls' unbuffered connection does the handshake, and all of TLS 1.2; the records of TLS 1.3 are opened and sealed
//! by [`Records`]. This file moves bytes between them and the socket, and owns what neither of them can take at the
//! moment:
//!
//! - `input`: sealed bytes that were read and not opened, usually a part of a record
//! - `plain`: opened bytes for which the caller's buffer was too small
//! - `output`: sealed bytes that the socket has not accepted. A sealed byte must be sent, so sealed bytes count as
//!   written. Nothing is sealed while some are left, so there are at most [`SEAL_BYTES_MAX`] and the records' headers.
//!
//! An idle stream owns none of the three. Records are opened and sealed in buffers that all streams of a listener share
//! ([`Scratch`]).

use super::record::{HANDSHAKE, HEADER_BYTES, Records};
use super::rustls_layer::Rustls;
use super::server_name;
use crate::stream::{Stream, Transport};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, SupportedCipherSuite};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

/// The stream of a session that speaks TLS.
pub(crate) struct TlsStream {
    socket: Stream,
    layer: Layer,
    scratch: Arc<Mutex<Scratch>>,
    /// Sealed bytes that were read and not opened.
    input: Vec<u8>,
    /// Opened bytes that were not returned.
    plain: Vec<u8>,
    /// Sealed bytes that the socket has not accepted.
    output: Vec<u8>,
    /// The name of the host that the client has asked for, and the client's certificates, if it has sent either.
    identity: Option<Box<Identity>>,
    /// The error that the next read returns.
    failure: Option<Box<rustls::Error>>,
    /// Work of the last reads that their lengths do not show, in bytes.
    work: u32,
    state: State,
    /// `input` may contain whole records: the last read has opened as many as a read may.
    has_records: bool,
    /// The last read has emptied the socket, so that further bytes cause an event.
    is_socket_drained: bool,
    /// The poll has reported the end of the stream or urgent data. A short read does not mean that the socket is empty.
    is_end_announced: bool,
    /// The peer has sent close_notify, which ends its bytes.
    is_end_read: bool,
    /// Our close_notify is sealed.
    is_end_written: bool,
    /// The handshake has continued an earlier session.
    is_resumed: bool,
    /// The last write was short. The next one seals one record first, so that less is left if it is short, too.
    was_short: bool,
}

/// What opens and seals records.
enum Layer {
    /// In the handshake, and in TLS 1.2.
    Rustls(Box<Rustls>),
    /// In TLS 1.3.
    Records(Box<Records>),
    /// After a failure.
    None,
}

/// See [`TlsStream::identity`].
#[derive(Debug, Default)]
struct Identity {
    server_name: Option<Box<str>>,
    client_certificates: Option<Box<[CertificateDer<'static>]>>,
}

/// Progress of a TLS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes are returned unchanged. [`TlsStream::begin`] begins the handshake.
    Before,
    /// The handshake has begun, and no byte of the peer has arrived.
    Hello,
    Handshake,
    Open,
    /// TLS has failed. The alert may be in `output`. Input is returned unchanged, to be discarded.
    Failed,
    /// The peer does not speak TLS. Bytes pass unchanged in both directions.
    Plain,
}

/// The result of [`TlsStream::handshake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// More bytes of the peer are needed.
    Incomplete,
    Complete,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum HandshakeFailure {
    /// The first byte begins no TLS record. The stream passes bytes unchanged from here on.
    NotTls {
        is_http: bool,
    },
    Tls(rustls::Error),
    /// The read failed.
    Io(io::Error),
    /// The peer has ended its direction.
    End,
}

/// Buffers that all streams of a listener share: their bytes are used up before the call that filled them returns.
/// Allocated at the first use.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Input, which rustls opens here.
    sealed_in: Vec<u8>,
    /// The bytes of several slices, to be sealed by rustls.
    plain_out: Vec<u8>,
    sealed_out: Vec<u8>,
}

/// The result of processing input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Processed {
    /// Number of bytes of the input that were used up.
    pub(super) consumed: usize,
    /// Number of records that were opened: with rustls, only those with application data.
    pub(super) records: usize,
    /// Number of records of a handshake.
    pub(super) parts: usize,
    /// Number of them that have changed the key.
    pub(super) key_updates: usize,
    /// The rest of the input may contain whole records.
    pub(super) has_more: bool,
    /// The peer has sent close_notify.
    pub(super) is_end: bool,
}

impl TlsStream {
    /// Returns a stream that passes bytes unchanged until [`begin`](Self::begin) is called.
    ///
    /// # Errors
    /// rustls' error if it cannot use the configuration.
    pub(crate) fn new(
        socket: Stream,
        config: Arc<ServerConfig>,
        scratch: Arc<Mutex<Scratch>>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            socket,
            layer: Layer::Rustls(Box::new(Rustls::new(config)?)),
            scratch,
            input: Vec::new(),
            plain: Vec::new(),
            output: Vec::new(),
            identity: None,
            is_resumed: false,
            failure: None,
            work: 0,
            state: State::Before,
            has_records: false,
            is_socket_drained: false,
            is_end_announced: false,
            is_end_read: false,
            is_end_written: false,
            was_short: false,
        })
    }

    /// Returns the stream below TLS.
    pub(crate) fn socket(&self) -> &Stream {
        &self.socket
    }

    /// As [`socket`](Self::socket).
    pub(crate) fn socket_mut(&mut self) -> &mut Stream {
        &mut self.socket
    }

    /// Returns whether the handshake has not begun.
    pub(crate) fn is_before_handshake(&self) -> bool {
        self.state == State::Before
    }

    /// Returns whether bytes of the caller can be sent to the peer in a form that it understands.
    pub(crate) fn can_send(&self) -> bool {
        matches!(self.state, State::Open | State::Plain)
    }

    /// Returns whether sealed bytes wait for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.output.is_empty()
    }

    /// Returns the number of sealed bytes that wait for the socket.
    pub(crate) fn unsent_len(&self) -> usize {
        self.output.len()
    }

    /// Returns whether a read would return nothing before the next event of the socket.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_socket_drained && !self.holds_input()
    }

    /// Returns whether a read would return something without a read of the socket.
    pub(crate) fn holds_input(&self) -> bool {
        self.has_records || self.is_end_read || !self.plain.is_empty() || self.failure.is_some()
    }

    /// Called when the poll has reported the end of the stream or urgent data.
    pub(crate) fn announce_end(&mut self) {
        self.is_end_announced = true;
    }

    /// Returns the work of reads since the last call, in bytes, in addition to what the reads have returned.
    pub(crate) fn take_work(&mut self) -> usize {
        mem::take(&mut self.work) as usize
    }

    /// Returns whether the handshake is complete, and TLS has not failed.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Returns the version, once the handshake is complete.
    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        match &self.layer {
            Layer::Rustls(rustls) => rustls.connection.protocol_version(),
            Layer::Records(records) => Some(records.version()),
            Layer::None => None,
        }
    }

    /// Returns the cipher suite, once the handshake is complete.
    pub(crate) fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        match &self.layer {
            Layer::Rustls(rustls) => rustls.connection.negotiated_cipher_suite(),
            Layer::Records(records) => Some(records.cipher_suite()),
            Layer::None => None,
        }
    }

    /// Returns whether the handshake has continued an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Returns the name of the host that the client has asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.identity.as_ref()?.server_name.as_deref()
    }

    /// Returns the certificates of the client, its own first.
    pub(crate) fn client_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.identity.as_ref()?.client_certificates.as_deref()
    }

    /// Returns the capacities of `input`, `plain` and `output`.
    #[cfg(test)]
    pub(crate) fn capacities(&self) -> [usize; 3] {
        [&self.input, &self.plain, &self.output].map(Vec::capacity)
    }

    /// Begins the handshake. `input` was read from this stream before.
    pub(crate) fn begin(&mut self, input: &[u8]) {
        debug_assert!(self.state == State::Before);
        self.state = State::Hello;
        self.input = input.to_vec();
        self.has_records = !input.is_empty();
    }

    /// Reads once, and continues the handshake.
    pub(crate) fn handshake(&mut self) -> Result<Handshake, HandshakeFailure> {
        let scratch = Arc::clone(&self.scratch);
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = slice(
            &mut scratch.sealed_in,
            RECORD_BYTES_MAX.max(self.input.len()),
        );
        let len = match self.fill(sealed) {
            Ok(0) => return Err(HandshakeFailure::End),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Handshake::Incomplete);
            }
            Err(error) => return Err(HandshakeFailure::Io(error)),
        };
        if self.state == State::Hello {
            // The ClientHello is in a record of the handshake.
            if sealed[0] != HANDSHAKE {
                self.state = State::Plain;
                self.input = Vec::new();
                let is_http = sealed[0].is_ascii_uppercase();
                return Err(HandshakeFailure::NotTls { is_http });
            }
            self.state = State::Handshake;
        }
        server_name::forget();
        // No data precedes the end of the handshake, and what follows it is opened by the next read.
        let opened = self.open(&mut sealed[..len], |_| {});
        if let Some(name) = server_name::take() {
            self.identity.get_or_insert_default().server_name = Some(name);
        }
        let is_complete = match opened {
            Ok(()) => self.complete().inspect_err(|_| self.fail()),
            Err(error) => Err(error),
        };
        // If this fails, a later write fails, too.
        let _ = self.flush();
        match is_complete {
            Ok(true) => Ok(Handshake::Complete),
            Ok(false) => Ok(Handshake::Incomplete),
            Err(error) => Err(HandshakeFailure::Tls(error)),
        }
    }

    /// Records the end of the handshake, and replaces rustls if the version is 1.3. Returns whether the handshake is
    /// complete.
    fn complete(&mut self) -> Result<bool, rustls::Error> {
        let Layer::Rustls(rustls) = &self.layer else {
            return Ok(false);
        };
        let connection = &rustls.connection;
        if connection.is_handshaking() {
            return Ok(false);
        }
        self.is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        if let Some(certificates) = connection.peer_certificates() {
            self.identity.get_or_insert_default().client_certificates = Some(certificates.into());
        }
        if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && let Layer::Rustls(rustls) = mem::replace(&mut self.layer, Layer::None)
        {
            let (secrets, kernel) = rustls.connection.dangerous_into_kernel_connection()?;
            self.layer = Layer::Records(Box::new(Records::new(secrets, kernel)));
        }
        self.state = State::Open;
        Ok(true)
    }

    /// Moves the unopened input to the front of `sealed`, and reads behind it unless the input may contain whole records.
    /// Returns the number of bytes, or 0 at the end of the stream.
    fn fill(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        let (unopened, space) = sealed.split_at_mut(self.input.len());
        let mut len = 0;
        if self.has_records {
            // An event since the last read of the socket has been used up by this one.
            self.is_socket_drained = false;
        } else {
            debug_assert!(!space.is_empty());
            len = self.read_socket(space)?;
            if len == 0 {
                return Ok(0);
            }
        }
        unopened.copy_from_slice(&self.input);
        Ok(unopened.len() + len)
    }

    fn read_socket(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buf);
        self.is_socket_drained = match &read {
            Ok(len) => {
                *len < buf.len() && self.socket.is_drained_by_short_read() && !self.is_end_announced
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        read
    }

    /// Opens the records in `sealed`, passes their bytes to `deliver`, and stores the rest of `sealed`. If rustls finds an
    /// error, its alert is in `output`, and nothing can be sent or received any more.
    fn open(&mut self, sealed: &mut [u8], deliver: impl FnMut(&[u8])) -> Result<(), rustls::Error> {
        let result = match &mut self.layer {
            Layer::Rustls(rustls) => rustls.process(sealed, &mut self.output, deliver),
            Layer::Records(records) => records.process(sealed, &mut self.output, deliver),
            Layer::None => Err(rustls::Error::HandshakeNotComplete),
        };
        let is_handshake = self.state != State::Open;
        let Processed {
            consumed,
            records,
            parts,
            key_updates,
            has_more,
            is_end,
        } = match result {
            Ok(processed) => processed,
            Err(error) => {
                let work = if is_handshake {
                    HANDSHAKE_WORK
                } else {
                    RECORD_WORK
                };
                self.work = self.work.saturating_add(work as u32);
                self.fail();
                return Err(error);
            }
        };
        let work = if is_handshake {
            // The copies of a message that is incomplete, and the next message of the server if it is complete.
            let copies = sealed.len() / COPIED_BYTES_PER_WORK + PART_WORK * (1 + parts);
            copies + HANDSHAKE_WORK * usize::from(consumed > 0)
        } else {
            RECORD_WORK * (usize::from(consumed > 0) + records) + KEY_UPDATE_WORK * key_updates
        };
        self.work = self.work.saturating_add(work as u32);
        self.is_end_read |= is_end;
        let rest = if is_end { &[] } else { &sealed[consumed..] };
        self.has_records = has_more && !rest.is_empty();
        if rest.len() >= RECORD_BYTES_MAX && !self.has_records {
            // A handshake message of many records.
            if let Layer::Rustls(rustls) = &mut self.layer {
                rustls.fail_oversized(rest, &mut self.output);
            }
            self.fail();
            return Err(rustls::InvalidMessage::HandshakePayloadTooLarge.into());
        }
        // An idle stream owns no memory here.
        if rest.is_empty() {
            self.input = Vec::new();
        } else {
            self.input = rest.to_vec();
        }
        Ok(())
    }

    /// Called after an error. Opened bytes remain.
    fn fail(&mut self) {
        self.state = State::Failed;
        self.layer = Layer::None;
        self.discard_input();
    }

    fn discard_input(&mut self) {
        self.has_records = false;
        self.input = Vec::new();
    }

    /// Copies opened bytes that were stored.
    fn take_plain(&mut self, buf: &mut [u8]) -> usize {
        let len = self.plain.len().min(buf.len());
        buf[..len].copy_from_slice(&self.plain[..len]);
        if len == self.plain.len() {
            self.plain = Vec::new();
        } else {
            self.plain.drain(..len);
        }
        // An event since the last read of the socket has been used up by this one.
        self.is_socket_drained = false;
        len
    }

    /// Seals as many bytes of `slices` as the socket accepts, and up to [`SEAL_BYTES_MAX`] more. Returns their number.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let scratch = Arc::clone(&self.scratch);
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch {
            plain_out,
            sealed_out,
            ..
        } = &mut *scratch;
        let mut count = 0;
        let mut plain = Slices::new(slices);
        self.flush()?;
        while !plain.is_empty() {
            let len_max = if self.was_short {
                RECORD_PLAIN_BYTES_MAX
            } else {
                SEAL_BYTES_MAX
            };
            sealed_out.clear();
            count += match &mut self.layer {
                Layer::Records(records) => {
                    let sealed = records.seal(&mut plain, len_max, sealed_out);
                    sealed.map_err(io::Error::other)?
                }
                Layer::Rustls(rustls) => {
                    let plain = plain.take(len_max, plain_out);
                    rustls.seal(plain, &mut self.input, sealed_out)?;
                    plain.len()
                }
                Layer::None => return Err(ErrorKind::BrokenPipe.into()),
            };
            // The socket becomes writable again only after a write that would block, so an interrupted one is repeated.
            let written = loop {
                match self.socket.write(sealed_out) {
                    Ok(len) => break len,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break 0,
                    Err(error) => return Err(error),
                }
            };
            self.was_short = written < sealed_out.len();
            if self.was_short {
                self.output = sealed_out[written..].to_vec();
                break;
            }
        }
        Ok(count)
    }

    /// Seals close_notify, the end of our bytes, unless it was sealed before. Writes sealed bytes.
    ///
    /// # Errors
    /// `WouldBlock` if some remain, or the error of the socket.
    pub(crate) fn write_end(&mut self) -> io::Result<()> {
        if self.state == State::Open && !mem::replace(&mut self.is_end_written, true) {
            match &mut self.layer {
                Layer::Records(records) => records.seal_end(&mut self.output),
                Layer::Rustls(rustls) => rustls.seal_end(&mut self.input, &mut self.output),
                Layer::None => {}
            }
            // What the peer sends from here on is discarded as it is: rustls would answer an error with an alert.
            self.discard_input();
        }
        self.flush()
    }
}

impl Read for TlsStream {
    /// Returns opened bytes. `Interrupted` if there were records without bytes; more may follow.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.plain.is_empty() {
            return Ok(self.take_plain(buf));
        }
        if let Some(error) = self.failure.take() {
            return Err(io::Error::new(ErrorKind::InvalidData, *error));
        }
        if self.is_end_read {
            return Ok(0);
        }
        match self.state {
            State::Open if self.is_end_written => return self.read_socket(buf),
            State::Open => {}
            State::Before | State::Plain | State::Failed => return self.read_socket(buf),
            State::Hello | State::Handshake => return Err(ErrorKind::WouldBlock.into()),
        }
        let scratch = Arc::clone(&self.scratch);
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let len_max = buf
            .len()
            .clamp(RECORD_BYTES_MAX, READ_BYTES_MAX)
            .max(self.input.len());
        let sealed = slice(&mut scratch.sealed_in, len_max);
        let len = self.fill(sealed)?;
        if len == 0 {
            return Ok(0);
        }
        let mut filled = 0;
        let mut plain = Vec::new();
        let opened = self.open(&mut sealed[..len], |bytes| {
            let len = bytes.len().min(buf.len() - filled);
            buf[filled..filled + len].copy_from_slice(&bytes[..len]);
            filled += len;
            plain.extend_from_slice(&bytes[len..]);
        });
        self.plain = plain;
        // The answer to a key update, or an alert. If this fails, a later write fails, too.
        let _ = self.flush();
        match opened {
            Err(error) if filled == 0 => Err(io::Error::new(ErrorKind::InvalidData, error)),
            Err(error) => {
                self.failure = Some(Box::new(error));
                Ok(filled)
            }
            Ok(()) if filled > 0 => Ok(filled),
            Ok(()) if self.is_end_read => Ok(0),
            Ok(()) if self.is_drained() => Err(ErrorKind::WouldBlock.into()),
            Ok(()) => Err(ErrorKind::Interrupted.into()),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Returns the number of bytes that were sealed. Some of them may wait for the socket
    /// ([`has_unsent`](TlsStream::has_unsent)); a number that is smaller than that of all bytes means that some do.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.state {
            State::Open => self.seal(slices),
            State::Plain => self.socket.write_vectored(slices),
            // The next read returns the error. Until then, bytes are discarded.
            State::Failed if self.failure.is_some() => match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(slices.iter().map(|slice| slice.len()).sum()),
            },
            State::Before | State::Hello | State::Handshake | State::Failed => {
                Err(ErrorKind::BrokenPipe.into())
            }
        }
    }

    /// Writes sealed bytes. `WouldBlock` if some remain.
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.output.len() {
                break Ok(());
            }
            match self.socket.write(&self.output[sent..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if sent == self.output.len() {
            self.output = Vec::new();
        } else {
            self.output.drain(..sent);
        }
        result
    }
}

impl Transport for TlsStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("socket", &self.socket)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Bytes of several slices, of which some are taken.
pub(super) struct Slices<'a, 's> {
    slices: &'a [IoSlice<'s>],
    /// Number of bytes of the first slice that are taken.
    start: usize,
}

impl<'a, 's> Slices<'a, 's> {
    pub(super) fn new(slices: &'a [IoSlice<'s>]) -> Self {
        Self { slices, start: 0 }
    }

    /// Returns whether all bytes are taken.
    pub(super) fn is_empty(&self) -> bool {
        self.slices.iter().map(|slice| slice.len()).sum::<usize>() == self.start
    }

    /// Appends the next `len_max` bytes to `buf`, or all that are left. Returns their number.
    pub(super) fn append_to(&mut self, buf: &mut Vec<u8>, len_max: usize) -> usize {
        let mut left = len_max;
        while let [first, others @ ..] = self.slices {
            let first = &first[self.start..];
            let len = first.len().min(left);
            buf.extend_from_slice(&first[..len]);
            left -= len;
            if len < first.len() {
                self.start += len;
                break;
            }
            (self.slices, self.start) = (others, 0);
        }
        len_max - left
    }

    /// Returns the next `len_max` bytes, or all that are left. Copies them to `buf`.
    fn take<'b>(&mut self, len_max: usize, buf: &'b mut Vec<u8>) -> &'b [u8] {
        buf.clear();
        self.append_to(buf, len_max);
        buf
    }
}

/// Returns the first `len` bytes of a buffer, which grows if it has fewer.
fn slice(buf: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buf.len() < len {
        buf.resize(len, 0);
    }
    &mut buf[..len]
}

/// Maximum bytes of a record: its header, a plaintext of 2^14 bytes, and the expansion that TLS 1.2 allows (RFC 5246 section
/// 6.2.3). Also the maximum of the messages of a handshake that are incomplete.
const RECORD_BYTES_MAX: usize = HEADER_BYTES + RECORD_PLAIN_BYTES_MAX + 2048;

/// Maximum bytes that one record contains.
pub(super) const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// Maximum bytes that one call reads from the socket.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Maximum bytes that are sealed for one write to the socket, and so, with the headers of the records, of the sealed bytes
/// that wait for the socket.
const SEAL_BYTES_MAX: usize = 4 * RECORD_PLAIN_BYTES_MAX;

/// Maximum records that one read opens: 0.1 to 0.2 ms if they are tiny.
pub(super) const RECORDS_PER_READ: usize = 128;

/// Work of opening a record, in addition to its bytes.
const RECORD_WORK: usize = 512;

/// Work of the next step of a handshake: 0.1 to 0.2 ms.
pub(crate) const HANDSHAKE_WORK: usize = 64 * 1024;

/// Work of a record of the handshake that completes no message: 0.1 us, and up to 0.6 us if it is encrypted.
const PART_WORK: usize = 128;

/// Bytes of an incomplete message that are copied in the time of one byte of work.
const COPIED_BYTES_PER_WORK: usize = 16;

/// Work of a KeyUpdate, in addition: 3 to 9 us for the new key.
const KEY_UPDATE_WORK: usize = 8 * 1024;
