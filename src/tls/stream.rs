//! TLS between the engine and the socket of one session.
//!
//! To seal is to encrypt and authenticate bytes in a record; to open is the reverse. [`TlsStream`] implements the contract
//! of [`Stream`]: `read` returns opened bytes, `write` accepts bytes and seals them. rustls' unbuffered connection does the
//! handshake, and all of TLS 1.2; [`Records`] opens and seals the records of TLS 1.3. This file moves bytes between these
//! two and the socket, and stores the bytes for which the next step has no space yet:
//!
//! - `input`: sealed bytes that were read and not opened, usually a part of a record
//! - `plain`: opened bytes for which the caller's buffer was too small
//! - `output`: sealed bytes that the socket has not accepted. A sealed byte must be sent, so sealed bytes count as
//!   written. No data is sealed while some are left, so they are at most [`SEAL_BYTES_MAX`] and the headers and tags of the
//!   records, and an alert or close_notify.
//!
//! The three are empty and without capacity while a stream is idle. Records are opened and sealed in buffers that all
//! streams of a listener share ([`Scratch`]).

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
    /// The name and the certificates that the client has sent. `None` if it has sent neither.
    identity: Option<Box<Identity>>,
    /// The error that the next read returns.
    failure: Option<Box<rustls::Error>>,
    /// Cost of opening records since [`take_work`](Self::take_work), in addition to the number of bytes that the reads
    /// have returned. Expressed in bytes, as the limits of a turn are.
    work: u32,
    state: State,
    /// `input` may contain whole records, because the last call has not opened all that it has read.
    has_records: bool,
    /// The last read has emptied the socket, so that further bytes cause an event.
    is_socket_drained: bool,
    /// The poll has reported the end of the stream or urgent data. From then on, a short read does not mean that the
    /// socket is empty.
    is_end_announced: bool,
    /// The peer has sent close_notify: no data follows.
    is_end_read: bool,
    /// Our close_notify is sealed.
    is_end_written: bool,
    /// The handshake has resumed an earlier session.
    is_resumed: bool,
    /// The socket has accepted only a part of the last write. The next write begins with a single record, so that fewer
    /// bytes are left if the socket accepts only a part again.
    was_short: bool,
}

/// The implementation that opens and seals records.
enum Layer {
    /// In the handshake, and in all of TLS 1.2.
    Rustls(Box<Rustls>),
    /// In TLS 1.3 after the handshake.
    Records(Box<Records>),
    /// After a failure.
    None,
}

/// What the client has sent about the two ends.
#[derive(Debug, Default)]
struct Identity {
    /// The name of the host (SNI).
    server_name: Option<Box<str>>,
    client_certificates: Option<Box<[CertificateDer<'static>]>>,
}

/// Progress of a TLS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before TLS, for the header of the PROXY protocol. Bytes are returned unchanged. [`TlsStream::begin`] begins the
    /// handshake.
    Before,
    /// The handshake has begun, and its first byte has not been processed.
    Hello,
    /// The first byte begins a record of the handshake.
    Handshake,
    /// The handshake is complete.
    Open,
    /// TLS has failed. The alert may be in `output`. Input is returned unchanged, and the caller discards it.
    Failed,
    /// The peer does not speak TLS. Bytes pass unchanged in both directions, so that it can get a response.
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
    /// The first byte does not begin a record of a handshake. The stream passes bytes unchanged from now on.
    NotTls {
        /// The first byte is an upper-case letter, as in `GET`.
        is_http: bool,
    },
    Tls(rustls::Error),
    /// The read failed.
    Io(io::Error),
    /// The peer has ended its direction.
    End,
}

/// Buffers that all streams of a listener share. No call leaves bytes for the next one in them. Allocated at the first
/// use, and not released.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Input. Records are opened in place.
    sealed_in: Vec<u8>,
    /// The bytes of several slices, to be sealed by rustls, which accepts only one.
    plain_out: Vec<u8>,
    /// Sealed records, to be written to the socket.
    sealed_out: Vec<u8>,
}

/// The result of processing input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Processed {
    /// Number of bytes of the input that were consumed. The rest is passed again, with further input behind it.
    pub(super) consumed: usize,
    /// Number of records that were opened. With rustls, only those with application data.
    pub(super) records: usize,
    /// Number of records of the handshake.
    pub(super) parts: usize,
    /// Number of the opened records that are a KeyUpdate.
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

    /// Returns whether `write` can send bytes to the peer: sealed, or unchanged if the peer does not speak TLS.
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

    /// Returns whether a read would return `WouldBlock` until the next event of the socket.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_socket_drained && !self.holds_input()
    }

    /// Returns whether a read can return bytes, the end or an error without reading from the socket.
    pub(crate) fn holds_input(&self) -> bool {
        self.has_records || self.is_end_read || !self.plain.is_empty() || self.failure.is_some()
    }

    /// Called when the poll has reported the end of the stream or urgent data. Short reads of the socket no longer mean
    /// that it is empty.
    pub(crate) fn announce_end(&mut self) {
        self.is_end_announced = true;
    }

    /// Returns the cost of opening records since the last call, in addition to the number of bytes that reads have
    /// returned. Expressed in bytes.
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

    /// Returns whether the handshake has resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Returns the name of the host that the client has sent (SNI).
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

    /// Begins the handshake. `input` are bytes that the caller has read from this stream already, behind the header of the
    /// PROXY protocol.
    pub(crate) fn begin(&mut self, input: &[u8]) {
        debug_assert!(self.state == State::Before);
        self.state = State::Hello;
        self.input = input.to_vec();
        self.has_records = !input.is_empty();
    }

    /// Reads from the socket at most once, and continues the handshake.
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
        // No data arrives before the end of the handshake. Records behind it are opened by the next read.
        let opened = self.open(&mut sealed[..len], |_| {});
        if let Some(name) = server_name::take() {
            self.identity.get_or_insert_default().server_name = Some(name);
        }
        let is_complete = match opened {
            Ok(()) => self.complete().inspect_err(|_| self.fail()),
            Err(error) => Err(error),
        };
        // Writes the messages of the handshake, or an alert. If this fails, a later write fails, too.
        let _ = self.flush();
        match is_complete {
            Ok(true) => Ok(Handshake::Complete),
            Ok(false) => Ok(Handshake::Incomplete),
            Err(error) => Err(HandshakeFailure::Tls(error)),
        }
    }

    /// Returns whether the handshake is complete. If it is, stores its results, and replaces rustls by [`Records`] if the
    /// version is 1.3.
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

    /// Copies `input` to the front of `sealed`, and reads from the socket behind it, unless `input` may contain whole
    /// records. Returns the number of bytes in `sealed`, or 0 at the end of the stream.
    fn fill(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        let (unopened, space) = sealed.split_at_mut(self.input.len());
        let mut len = 0;
        if self.has_records {
            // The caller may act on an event that occurred after the last read of the socket, and this call does not read
            // from the socket.
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

    /// Opens the records in `sealed`, passes their bytes to `deliver`, and stores the rest of `sealed` in `input`. After
    /// an error, the alert for the peer, if there is one, is in `output`, and no more bytes can be sent or received.
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
            // A handshake message of several records that is incomplete: the limit of the memory that it can use.
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

    /// Called after an error of TLS. Opened bytes in `plain` and sealed bytes in `output` remain.
    fn fail(&mut self) {
        self.state = State::Failed;
        self.layer = Layer::None;
        self.discard_input();
    }

    fn discard_input(&mut self) {
        self.has_records = false;
        self.input = Vec::new();
    }

    /// Moves bytes of `plain` to `buf`. Returns their number.
    fn take_plain(&mut self, buf: &mut [u8]) -> usize {
        let len = self.plain.len().min(buf.len());
        buf[..len].copy_from_slice(&self.plain[..len]);
        if len == self.plain.len() {
            self.plain = Vec::new();
        } else {
            self.plain.drain(..len);
        }
        // As in `fill`.
        self.is_socket_drained = false;
        len
    }

    /// Seals and writes bytes of `slices`, until the socket does not accept all sealed bytes; the rest of these is stored
    /// in `output`. Returns the number of bytes that were sealed: at most [`SEAL_BYTES_MAX`] more than the socket has
    /// accepted.
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
            // The poll reports that the socket is writable again only after a write that would block, so an interrupted
            // write is repeated.
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

    /// Seals close_notify, which ends our direction, unless it was sealed before. Writes the bytes of `output`.
    ///
    /// # Errors
    /// `WouldBlock` if bytes of `output` remain, or the error of the socket.
    pub(crate) fn write_end(&mut self) -> io::Result<()> {
        if self.state == State::Open && !mem::replace(&mut self.is_end_written, true) {
            match &mut self.layer {
                Layer::Records(records) => records.seal_end(&mut self.output),
                Layer::Rustls(rustls) => rustls.seal_end(&mut self.input, &mut self.output),
                Layer::None => {}
            }
            // From now on, reads return input unopened, and the caller discards it. Opening it could cause an alert, which
            // must not follow close_notify.
            self.discard_input();
        }
        self.flush()
    }
}

impl Read for TlsStream {
    /// Returns opened bytes. The error is `Interrupted` if no data was opened although the socket may have more input, and
    /// `InvalidData` with a [`rustls::Error`] if TLS has failed.
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
        // Writes an alert, if there is one. (The answer to a KeyUpdate waits for the next data.) If this fails, a later write
        // fails, too.
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

    /// Returns the number of bytes that were sealed. Sealed bytes may wait for the socket
    /// ([`has_unsent`](TlsStream::has_unsent)); they do if the number is less than the length of all slices.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.state {
            State::Open => self.seal(slices),
            State::Plain => self.socket.write_vectored(slices),
            // The next read returns the error. Until then, bytes are accepted and discarded, so that the error of TLS is
            // reported and not one of the write.
            State::Failed if self.failure.is_some() => match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(slices.iter().map(|slice| slice.len()).sum()),
            },
            State::Before | State::Hello | State::Handshake | State::Failed => {
                Err(ErrorKind::BrokenPipe.into())
            }
        }
    }

    /// Writes the bytes of `output` to the socket. The error is `WouldBlock` if some remain.
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
/// 6.2.3). Also the limit of the records that contain an incomplete handshake message.
const RECORD_BYTES_MAX: usize = HEADER_BYTES + RECORD_PLAIN_BYTES_MAX + 2048;

/// Maximum bytes of plaintext in a record: 2^14.
pub(super) const RECORD_PLAIN_BYTES_MAX: usize = 16 * 1024;

/// Maximum bytes that one call reads from the socket.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Maximum bytes of plaintext that are sealed before they are written to the socket. Limits the sealed bytes that wait for
/// the socket, which have headers and tags in addition.
const SEAL_BYTES_MAX: usize = 4 * RECORD_PLAIN_BYTES_MAX;

/// Maximum records that one read opens: 0.1 to 0.2 ms if they are tiny.
pub(super) const RECORDS_PER_READ: usize = 128;

/// Cost of opening a record in addition to that of its bytes, expressed in bytes.
const RECORD_WORK: usize = 512;

/// Cost of a handshake message of the client and the answer of the server, expressed in bytes: 0.1 to 0.2 ms.
pub(crate) const HANDSHAKE_WORK: usize = 64 * 1024;

/// Cost of a record that contains a part of a handshake message, expressed in bytes: 0.1 us, and up to 0.6 us if it is
/// encrypted.
const PART_WORK: usize = 128;

/// Bytes of an incomplete handshake message that are copied in the time that one byte of cost stands for.
const COPIED_BYTES_PER_WORK: usize = 16;

/// Cost of a KeyUpdate in addition to that of its record, expressed in bytes: the new key takes 3 to 9 us.
const KEY_UPDATE_WORK: usize = 8 * 1024;
