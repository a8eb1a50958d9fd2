//! The record layer of TLS 1.3 (RFC 8446 section 5) for one connection, after rustls has completed the handshake.
//!
//! rustls' own layer needs 2.5 KB more per connection: expanded keys (1.1 KB), buffers for messages and the state of the
//! handshake. This layer retains the keys unexpanded and expands them in each call, which takes 0.15 us with AES. It opens
//! and seals in place. ring encrypts and decrypts. rustls derives the new keys after a KeyUpdate ([`KernelConnection`]).
//!
//! This layer accepts what rustls accepts, with three exceptions: a KeyUpdate that is divided among records or is not alone
//! in its record, a handshake record without content (RFC 8446 section 5.1 forbids it), and a header whose type or version
//! is not that of RFC 8446 section 5.2 (rustls does not check it). `tests/record.rs` compares the two layers.

use super::stream::{Processed, RECORD_PLAIN_BYTES_MAX, RECORDS_PER_READ, Slices};
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeType,
    InvalidMessage, PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

/// Keys and counters of both directions.
pub(super) struct Records {
    kernel: KernelConnection<ServerConnectionData>,
    receive: Direction,
    send: Direction,
    /// The peer has asked for a KeyUpdate, which precedes the next bytes that are sent.
    must_send_key_update: bool,
    /// Number of KeyUpdates that the peer may still send before it sends data.
    key_updates_left: u8,
}

/// The key and the counter of one direction.
pub(super) struct Direction {
    pub(super) secrets: ConnectionTrafficSecrets,
    /// Number of records since the last change of the key.
    pub(super) sequence: u64,
}

/// An expanded key with its IV.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
}

impl Records {
    pub(super) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ServerConnectionData>,
    ) -> Self {
        Self {
            kernel,
            receive: Direction::new(secrets.rx),
            send: Direction::new(secrets.tx),
            must_send_key_update: false,
            key_updates_left: KEY_UPDATES_MAX,
        }
    }

    pub(super) fn version(&self) -> ProtocolVersion {
        self.kernel.protocol_version()
    }

    pub(super) fn cipher_suite(&self) -> SupportedCipherSuite {
        self.kernel.negotiated_cipher_suite()
    }

    /// Opens the records in `input`, and passes their data to `deliver`, until a record is incomplete or
    /// [`RECORDS_PER_READ`] are opened. If a record is invalid, appends an alert to `output`. If the error is an alert of
    /// the peer, there is no alert to send.
    pub(super) fn process(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<Processed, Error> {
        let mut processed = Processed::default();
        let mut key = self.receive.key();
        loop {
            if processed.records == RECORDS_PER_READ {
                processed.has_more = true;
                break;
            }
            let unread = &mut input[processed.consumed..];
            let opened = match open(unread, &key, self.receive.sequence) {
                Ok(Some(opened)) => opened,
                Ok(None) => break,
                Err(error) => return Err(self.failed(error, output)),
            };
            processed.consumed += opened.record_len;
            processed.records += 1;
            self.receive.sequence += 1;
            match (opened.content_type, opened.content) {
                (APPLICATION_DATA, data) => {
                    self.key_updates_left = KEY_UPDATES_MAX;
                    deliver(data);
                }
                (ALERT, &[_, CLOSE_NOTIFY]) => {
                    processed.is_end = true;
                    break;
                }
                (ALERT, &[WARNING, USER_CANCELED]) => {}
                // RFC 8446 section 6: "All the alerts listed in Section 6.2 MUST be sent with AlertLevel=fatal and MUST be
                // treated as error alerts when received regardless of the AlertLevel in the message."
                (ALERT, &[_, description]) => {
                    return Err(Error::AlertReceived(AlertDescription::from(description)));
                }
                (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, request @ 0..=1]) => {
                    let Some(left) = self.key_updates_left.checked_sub(1) else {
                        let error = PeerMisbehaved::TooManyKeyUpdateRequests;
                        return Err(self.failed(error.into(), output));
                    };
                    self.key_updates_left = left;
                    processed.key_updates += 1;
                    (self.receive.sequence, self.receive.secrets) =
                        self.kernel.update_rx_secret()?;
                    key = self.receive.key();
                    self.must_send_key_update |= request == 1;
                }
                // RFC 8446 section 4.6.3: "If an implementation receives any other value, it MUST terminate the connection
                // with an "illegal_parameter" alert."
                (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, _]) => {
                    let description = AlertDescription::IllegalParameter;
                    self.seal_alert(FATAL, description.into(), output);
                    return Err(InvalidMessage::InvalidKeyUpdate.into());
                }
                (HANDSHAKE, &[KEY_UPDATE, ..]) => {
                    return Err(self.failed(InvalidMessage::InvalidKeyUpdate.into(), output));
                }
                (HANDSHAKE, &[message, ..]) => {
                    let error = Error::InappropriateHandshakeMessage {
                        expect_types: vec![HandshakeType::KeyUpdate],
                        got_type: message.into(),
                    };
                    return Err(self.failed(error, output));
                }
                (ALERT, _) => {
                    let error = InvalidMessage::MissingData("AlertMessagePayload");
                    return Err(self.failed(error.into(), output));
                }
                _ => return Err(self.failed(InvalidMessage::InvalidContentType.into(), output)),
            }
        }
        Ok(processed)
    }

    /// Seals the next `len_max` bytes of `plain`, or all that are left, and appends the records to `sealed`. A KeyUpdate
    /// precedes them if the peer has asked for one or the key has reached its limit. Returns the number of bytes that were
    /// sealed.
    pub(super) fn seal(
        &mut self,
        plain: &mut Slices<'_, '_>,
        len_max: usize,
        sealed: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut key = self.send.key();
        let mut len = 0;
        while len < len_max && !plain.is_empty() {
            if self.must_send_key_update || self.send.sequence >= KEY_RECORDS_MAX {
                self.must_send_key_update = false;
                let update = [KEY_UPDATE, 0, 0, 1, 0];
                self.send
                    .seal(&key, HANDSHAKE, sealed, |sealed| sealed.extend(update));
                (self.send.sequence, self.send.secrets) = self.kernel.update_tx_secret()?;
                key = self.send.key();
            }
            self.send.seal(&key, APPLICATION_DATA, sealed, |sealed| {
                len += plain.append_to(sealed, RECORD_PLAIN_BYTES_MAX.min(len_max - len));
            });
        }
        Ok(len)
    }

    /// Appends an alert to `sealed`.
    pub(super) fn seal_alert(&mut self, level: u8, description: u8, sealed: &mut Vec<u8>) {
        let key = self.send.key();
        self.send.seal(&key, ALERT, sealed, |sealed| {
            sealed.extend([level, description])
        });
    }

    /// Appends close_notify to `sealed`.
    pub(super) fn seal_end(&mut self, sealed: &mut Vec<u8>) {
        self.seal_alert(WARNING, CLOSE_NOTIFY, sealed);
    }

    /// Appends the alert for an error to `output`. Returns the error.
    fn failed(&mut self, error: Error, output: &mut Vec<u8>) -> Error {
        let description = match error {
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InvalidMessage(
                InvalidMessage::InvalidKeyUpdate | InvalidMessage::MissingData(_),
            ) => AlertDescription::DecodeError,
            _ => AlertDescription::UnexpectedMessage,
        };
        self.seal_alert(FATAL, description.into(), output);
        error
    }
}

impl Direction {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        Self { secrets, sequence }
    }

    /// Expands the key.
    pub(super) fn key(&self) -> Key {
        let (algorithm, key, iv) = match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => unreachable!("TLS 1.3 has no other algorithm that ring has"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .expect("rustls' keys have the length of the algorithm");
        Key {
            key: LessSafeKey::new(key),
            iv: iv
                .as_ref()
                .try_into()
                .expect("an IV has the length of a nonce"),
        }
    }

    /// Appends one record to `sealed`. `append` appends its content, which is then sealed in place.
    pub(super) fn seal(
        &mut self,
        key: &Key,
        content_type: u8,
        sealed: &mut Vec<u8>,
        append: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = sealed.len();
        let content = start + HEADER_BYTES;
        sealed.extend_from_slice(&[APPLICATION_DATA, 3, 3, 0, 0]);
        append(sealed);
        sealed.push(content_type);
        let len = sealed.len() - content + aead::MAX_TAG_LEN;
        let len_bytes = u16::try_from(len)
            .expect("a record has at most 16 KiB")
            .to_be_bytes();
        sealed[start + 3..content].copy_from_slice(&len_bytes);
        let (header, content) = sealed[start..].split_at_mut(HEADER_BYTES);
        let tag = key
            .key
            .seal_in_place_separate_tag(key.nonce(self.sequence), Aad::from(header), content)
            .expect("a record is shorter than the limit of the algorithm");
        sealed.extend_from_slice(tag.as_ref());
        self.sequence += 1;
    }
}

impl Key {
    /// Returns the nonce of a record. RFC 8446 section 5.3: "The padded sequence number is XORed with either the static
    /// client_write_iv or server_write_iv".
    fn nonce(&self, sequence: u64) -> Nonce {
        let mut nonce = self.iv;
        let (_, end) = nonce.split_at_mut(aead::NONCE_LEN - 8);
        for (byte, counter) in end.iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// An opened record.
pub(super) struct Opened<'i> {
    pub(super) content_type: u8,
    pub(super) content: &'i [u8],
    /// Length of the sealed record with its header.
    pub(super) record_len: usize,
}

/// Opens the first record of `input` in place. `None` if it is incomplete.
pub(super) fn open<'i>(
    input: &'i mut [u8],
    key: &Key,
    sequence: u64,
) -> Result<Option<Opened<'i>>, Error> {
    let Some(&[outer_type, _, _, high, low]) = input.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    // RFC 8446 section 5.2: "opaque_type: The outer opaque_type field of a TLSCiphertext record is always set to the value
    // 23 (application_data)". After the handshake, every record is a TLSCiphertext.
    if outer_type != APPLICATION_DATA {
        return Err(InvalidMessage::InvalidContentType.into());
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    // Section 5.2: "The length MUST NOT exceed 2^14 + 256 bytes. An endpoint that receives a record that exceeds this length
    // MUST terminate the connection with a "record_overflow" alert."
    if len > RECORD_PLAIN_BYTES_MAX + 256 {
        return Err(Error::PeerSentOversizedRecord);
    }
    let record_len = HEADER_BYTES + len;
    let Some(record) = input.get_mut(..record_len) else {
        return Ok(None);
    };
    let (header, sealed) = record.split_at_mut(HEADER_BYTES);
    let opened = key
        .key
        .open_in_place(key.nonce(sequence), Aad::from(header), sealed)
        .map_err(|_| Error::DecryptError)?;
    // Section 5.4: "the receiving implementation scans the field from the end toward the beginning until it finds a non-zero
    // octet. This non-zero octet is the content type of the message." Section 5.1: without one, "unexpected_message".
    let Some(type_at) = opened.iter().rposition(|&byte| byte != 0) else {
        return Err(InvalidMessage::InvalidContentType.into());
    };
    // Section 5.4: "The presence of padding does not change the overall record size limitations: the full encoded
    // TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets."
    if opened.len() > RECORD_PLAIN_BYTES_MAX + 1 {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok(Some(Opened {
        content_type: opened[type_at],
        content: &opened[..type_at],
        record_len,
    }))
}

/// Bytes of a record's header: the outer content type, the version and the length.
pub(super) const HEADER_BYTES: usize = 5;

// Content types, RFC 8446 section 5.1.
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Handshake type, section 4.
pub(super) const KEY_UPDATE: u8 = 24;

// Alerts, section 6.
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Maximum records that are sealed with one key, before a KeyUpdate. Section 5.5: "For AES-GCM, up to 2^24.5 full-size
/// records (about 24 million) may be encrypted on a given connection". Tests use a small number, to reach it.
pub(super) const KEY_RECORDS_MAX: u64 = if cfg!(test) { 100 } else { 1 << 24 };

/// Maximum KeyUpdates of the peer without data between them. The value is that of rustls. Each KeyUpdate costs some
/// microseconds.
const KEY_UPDATES_MAX: u8 = 32;
