//! The client's side of TLS for a simulated peer. The cryptography is random, but the lengths of all messages are not, so
//! that a run is determined by its seed.

use super::super::tls_peer::{TLS12, TLS13, client, client_config};
use crate::random::Random;
use rustls::ClientConnection;
use std::fmt;
use std::io::{Read, Write};

/// The client's side of TLS.
pub(super) struct TlsClient {
    connection: ClientConnection,
    /// The client has found an error, or received an alert.
    pub(super) has_failed: bool,
    /// Bytes were sent that are no valid records, or a record was altered.
    pub(super) has_sent_garbage: bool,
    /// close_notify was sent.
    is_ended: bool,
    /// Maximum bytes of a record of a short message.
    record_len_max: usize,
}

impl TlsClient {
    pub(super) fn new(random: &mut Random) -> Self {
        let version = if random.one_in(2) { &TLS12 } else { &TLS13 };
        let mut config = client_config(version);
        if random.one_in(4) {
            config.max_fragment_size = Some(32 + random.below(200));
        }
        Self {
            connection: client(config),
            has_failed: false,
            has_sent_garbage: false,
            is_ended: false,
            record_len_max: usize::MAX,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_handshaking() && !self.has_failed
    }

    /// Seals bytes, or stores them until the end of the handshake.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !self.has_failed && !self.is_ended {
            let len_max = match bytes.len() {
                0..2000 => self.record_len_max,
                _ => usize::MAX,
            };
            for part in bytes.chunks(len_max) {
                self.connection.writer().write_all(part).unwrap();
            }
        }
    }

    /// Returns and removes what the client wants to send.
    pub(super) fn take_records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).unwrap();
        }
        records
    }

    /// Opens what the server has sent, and appends it to `received`.
    pub(super) fn receive(&mut self, mut sealed: &[u8], received: &mut Vec<u8>) {
        while !sealed.is_empty() && !self.has_failed {
            let len = self.connection.read_tls(&mut sealed).unwrap();
            assert!(len > 0, "bytes behind close_notify");
            match self.connection.process_new_packets() {
                Ok(state) => {
                    let start = received.len();
                    received.resize(start + state.plaintext_bytes_to_read(), 0);
                    let mut reader = self.connection.reader();
                    reader.read_exact(&mut received[start..]).unwrap();
                }
                // An alert. A client whose part of the handshake was altered also finds the keys to be wrong.
                Err(error) => {
                    assert!(self.has_sent_garbage, "{error}");
                    self.has_failed = true;
                }
            }
        }
    }

    /// Changes the size of the records.
    pub(super) fn fragment(&mut self, random: &mut Random) {
        self.record_len_max = match random.below(3) {
            0 => usize::MAX,
            _ => 1 + random.below(40),
        };
    }

    /// Asks the server to change its key, too. Has no effect in TLS 1.2.
    pub(super) fn update_key(&mut self) {
        if self.is_open() && !self.is_ended {
            let _ = self.connection.refresh_traffic_keys();
        }
    }

    /// Sends close_notify.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
        self.connection.send_close_notify();
    }

    /// Returns bytes that are no valid records.
    pub(super) fn garbage(&mut self, random: &mut Random) -> Vec<u8> {
        let len = 1 + random.below(300);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        if random.one_in(2) {
            // A record that cannot be opened, whole or in part.
            let content_type = 20 + random.below(5) as u8;
            let declared = (len.saturating_sub(random.below(8))) as u16;
            let header = [&[content_type, 3, 3][..], &declared.to_be_bytes()].concat();
            bytes.splice(0..0, header);
        }
        bytes
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("is_handshaking", &self.connection.is_handshaking())
            .field("has_failed", &self.has_failed)
            .field("has_sent_garbage", &self.has_sent_garbage)
            .field("is_ended", &self.is_ended)
            .finish_non_exhaustive()
    }
}
