//! The handshake, and the records of TLS 1.2, with rustls' unbuffered connection.

use super::client_tickets;
use super::record::{HANDSHAKE, HEADER_BYTES};
use super::stream::{Processed, RECORDS_PER_READ};
use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A connection of rustls, and its position in the input.
pub(super) struct Rustls {
    pub(super) connection: UnbufferedServerConnection,
    /// Number of bytes at the start of the input that rustls has opened and not consumed: parts of a handshake message.
    /// rustls stores no input, and needs them at the same place when the rest of the message arrives.
    opened_len: usize,
    /// When the client's certificate was verified, if the ClientHello has a valid ticket: see [`client_tickets`].
    verified_at: Option<u64>,
}

impl Rustls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            opened_len: 0,
            verified_at: None,
        })
    }

    /// Opens the records in `input`, and passes their bytes to `deliver`, until a record is incomplete,
    /// [`RECORDS_PER_READ`] are opened, or the handshake is complete. Appends the messages and alerts of rustls to `output`.
    ///
    /// Passes one record at a time to rustls, so that another layer can open the records after the handshake, and so that
    /// the number of bytes is known that rustls has opened and not consumed.
    pub(super) fn process(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<Processed, rustls::Error> {
        let mut processed = Processed::default();
        let was_handshaking = self.connection.is_handshaking();
        let mut opened = self.opened_len;
        client_tickets::set_verified_at(self.verified_at);
        while opened < input.len() && !processed.has_more && !processed.is_end {
            let record_len = record_len(&input[opened..]);
            // rustls checks the header of an incomplete record, too.
            let end = record_len.map_or(input.len(), |len| opened + len);
            self.process_record(&mut input[..end], output, &mut deliver, &mut processed)?;
            let Some(len) = record_len else {
                break;
            };
            opened += len;
            processed.parts += usize::from(was_handshaking);
            processed.has_more = processed.records >= RECORDS_PER_READ
                || was_handshaking && !self.connection.is_handshaking();
        }
        self.opened_len = opened - processed.consumed;
        self.verified_at = client_tickets::take_verified_at();
        Ok(processed)
    }

    /// Opens the last record of `input`. The records before it are opened already.
    fn process_record(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
        deliver: &mut impl FnMut(&[u8]),
        processed: &mut Processed,
    ) -> Result<(), rustls::Error> {
        loop {
            let UnbufferedStatus { mut discard, state } = self
                .connection
                .process_tls_records(&mut input[processed.consumed..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        processed.records += 1;
                        discard += record.discard;
                        deliver(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, output),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => processed.is_end = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    is_done = true;
                }
                Ok(ConnectionState::Closed) => {
                    processed.is_end = true;
                    is_done = true;
                }
                // An attacker can replay early data, so the configurations of `TlsBuilder` do not accept it. If another
                // configuration does, the data is discarded.
                Ok(ConnectionState::ReadEarlyData(mut data)) => {
                    while let Some(record) = data.next_record() {
                        discard += record?.discard;
                    }
                }
                Ok(_) => is_done = true,
                Err(error) => {
                    self.encode_alert(output);
                    return Err(error);
                }
            }
            processed.consumed += discard;
            if is_done {
                return Ok(());
            }
        }
    }

    /// Ends the handshake because a message in it is too long. `input` begins with the parts of the message that rustls has
    /// opened. Appends the alert to `output`.
    pub(super) fn fail_oversized(&mut self, input: &[u8], output: &mut Vec<u8>) {
        // rustls sends an alert only for an error that it finds itself: here, the header of a record that is too long.
        let header = [HANDSHAKE, 3, 3, 0xFF, 0xFF];
        let mut input = [&input[..self.opened_len], &header].concat();
        let _ = self.process_record(&mut input, output, &mut |_| {}, &mut Processed::default());
    }

    /// Appends the alert of rustls after an error.
    fn encode_alert(&mut self, output: &mut Vec<u8>) {
        // While rustls has something to send, it does not access its input, so the input can be empty here. Without
        // `wants_write`, it would access the part of a message that it has opened.
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) =
                self.connection.process_tls_records(&mut []).state
        {
            encode(data, output);
        }
    }

    /// Seals `plain`, after pending messages of rustls. Appends the records to `sealed`. `input` is the input that was not
    /// consumed, which rustls accesses in every call.
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        input: &mut [u8],
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.write(input, sealed, |traffic, sealed| {
            traffic.encrypt(plain, sealed)
        })
    }

    /// Seals close_notify, after pending messages of rustls. Appends the records to `sealed`. `input` as in
    /// [`seal`](Self::seal).
    pub(super) fn seal_end(&mut self, input: &mut [u8], sealed: &mut Vec<u8>) {
        // A failure means that TLS has failed, or that the peer has sent close_notify and was answered: nothing can be sent.
        let _ = self.write(input, sealed, |traffic, sealed| {
            traffic.queue_close_notify(sealed)
        });
    }

    /// Appends pending messages of rustls to `sealed`, and then the records that `seal` writes. Calls `seal` with an empty
    /// buffer first, which returns the number of bytes that it needs.
    fn write(
        &mut self,
        input: &mut [u8],
        sealed: &mut Vec<u8>,
        mut seal: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        loop {
            let input = &mut input[..self.opened_len];
            match self.connection.process_tls_records(input).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, sealed),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let needed = match seal(&mut traffic, &mut []) {
                        Err(EncryptError::InsufficientSize(needed)) => needed.required_size,
                        Ok(_) => return Ok(()),
                        // The keys of TLS 1.2 are used up, after 2^24 records with AES.
                        Err(error) => return Err(io::Error::other(error)),
                    };
                    let start = sealed.len();
                    sealed.resize(start + needed, 0);
                    let len = seal(&mut traffic, &mut sealed[start..]);
                    let len = len.map_err(io::Error::other)?;
                    sealed.truncate(start + len);
                    return Ok(());
                }
                // rustls reports the peer's close_notify once. The next state allows writing.
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) => return Err(ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }
}

/// Returns the length of the first record of `input`. `None` if it is incomplete.
fn record_len(input: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low] = input.first_chunk()?;
    let len = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (len <= input.len()).then_some(len)
}

/// Appends a pending message of rustls.
pub(super) fn encode<Data>(mut data: EncodeTlsData<'_, Data>, output: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) else {
        return;
    };
    let start = output.len();
    output.resize(start + needed.required_size, 0);
    data.encode(&mut output[start..])
        .expect("the space has the size that rustls needs");
}
