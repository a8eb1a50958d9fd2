//! Tests the stream on a scripted link to a server of rustls, which splits and blocks at every byte.

use super::*;
use crate::cli::args::ClientTls;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ConnectionTrafficSecrets, ServerConfig, ServerConnection, SupportedProtocolVersion};

/// The link to a server. It transports at most `bytes_max` bytes per call, and blocks after each call until
/// [`unblock`](Link::unblock) if `is_blocking`.
struct Link {
    server: ServerConnection,
    config: Arc<ServerConfig>,
    /// Bytes for the client.
    to_client: Vec<u8>,
    /// Plaintext that the server has received.
    received: Vec<u8>,
    bytes_max: usize,
    is_blocking: bool,
    can_read: bool,
    can_write: bool,
    has_ended: bool,
}

impl Link {
    fn unblock(&mut self) {
        (self.can_read, self.can_write) = (true, true);
    }

    /// Lets the server process its input, and collects its output.
    fn serve(&mut self) {
        let Ok(state) = self.server.process_new_packets() else {
            // The client has sent an alert.
            return;
        };
        let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
        self.server.reader().read_exact(&mut plaintext).unwrap();
        self.received.extend(plaintext);
        self.collect_output();
    }

    fn collect_output(&mut self) {
        while self.server.wants_write() {
            self.server.write_tls(&mut self.to_client).unwrap();
        }
    }

    fn send(&mut self, plaintext: &[u8]) {
        self.server.writer().write_all(plaintext).unwrap();
        self.collect_output();
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.bytes_max).min(self.to_client.len());
        if !self.can_read || len == 0 && !self.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.can_read = !self.is_blocking;
        buf[..len].copy_from_slice(&self.to_client[..len]);
        self.to_client.drain(..len);
        Ok(len)
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if !self.can_write {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.can_write = !self.is_blocking;
        let len = buf.len().min(self.bytes_max);
        let mut rest = &buf[..len];
        while !rest.is_empty() {
            self.server.read_tls(&mut rest).unwrap();
            self.serve();
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn stream(version: &'static SupportedProtocolVersion, bytes_max: usize) -> TlsStream<Link> {
    let certified = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    let link = Link {
        server: ServerConnection::new(Arc::clone(&config)).unwrap(),
        config,
        to_client: Vec::new(),
        received: Vec::new(),
        bytes_max,
        is_blocking: bytes_max != usize::MAX,
        can_read: true,
        can_write: true,
        has_ended: false,
    };
    let settings = ClientTls {
        is_insecure: true,
        ..ClientTls::default()
    };
    let client = TlsClient::new("a.example", &settings, 0).unwrap();
    TlsStream::new(link, &client).unwrap()
}

/// Performs the handshake. Unblocks the link whenever the stream would block, as a poll loop waits for readiness.
fn open(version: &'static SupportedProtocolVersion, bytes_max: usize) -> TlsStream<Link> {
    let mut stream = stream(version, bytes_max);
    for _ in 0..20_000 {
        stream.stream.unblock();
        if stream.handshake().unwrap() {
            return stream;
        }
    }
    panic!("the handshake stalls");
}

/// Reads until the stream would block or ends, with buffers of `len` bytes. Unblocks the link before each read that
/// would block, until that brings nothing.
fn read_all(stream: &mut TlsStream<Link>, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    let mut all = Vec::new();
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return all,
            Ok(len) => {
                all.extend_from_slice(&buf[..len]);
                if len < buf.len() {
                    // A short read has drained the stream.
                    assert!(stream.tls.reader().read(&mut buf).is_err());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stream.stream.to_client.is_empty() {
                    return all;
                }
                stream.stream.unblock();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn nothing_is_lost_when_each_call_transports_few_bytes_and_then_blocks() {
    let data: Vec<u8> = (0..40_000_u32).map(|byte| (byte % 251) as u8).collect();
    for version in [&TLS12, &TLS13] {
        for bytes_max in [1, 2, 5, 1000] {
            let mut stream = open(version, bytes_max);
            let mut sent = 0;
            while sent < data.len() {
                stream.stream.unblock();
                match stream.write(&data[sent..]) {
                    Ok(len) => sent += len,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            while stream.flush().is_err() {
                stream.stream.unblock();
            }
            assert!(stream.stream.received == data);
            stream.stream.send(&data);
            assert!(read_all(&mut stream, 300) == data);
        }
    }
}

#[test]
fn a_read_is_short_only_if_nothing_is_left() {
    let data: Vec<u8> = (0..300_000_u32).map(|byte| (byte % 251) as u8).collect();
    for len in [1, 7, 1024, 16 * 1024, 20_000, 64 * 1024, 256 * 1024] {
        let mut stream = open(&TLS13, usize::MAX);
        for chunk in data.chunks(5000) {
            stream.stream.send(chunk);
        }
        assert!(read_all(&mut stream, len) == data, "{len}");
    }
}

#[test]
fn many_small_records_and_empty_ones_are_read() {
    let mut stream = open(&TLS13, usize::MAX);
    let mut expected = Vec::new();
    for byte in 0..=255 {
        stream.stream.send(&[byte]);
        stream.stream.send(&[]);
        expected.push(byte);
    }
    assert_eq!(read_all(&mut stream, 64 * 1024), expected);
}

#[test]
fn a_write_is_short_only_if_the_stream_would_block() {
    let mut stream = open(&TLS13, usize::MAX);
    let data = vec![7; 1_000_000];
    assert_eq!(stream.write(&data).unwrap(), data.len());
    assert!(stream.stream.received == data);
    stream.stream.is_blocking = true;
    let accepted = stream.write(&data).unwrap();
    assert!(accepted < data.len() && stream.tls.wants_write());
    let error = stream.write(&data[accepted..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
}

#[test]
fn a_key_update_is_answered_when_the_stream_accepts_bytes_again() {
    let mut stream = open(&TLS13, usize::MAX);
    stream.stream.can_write = false;
    stream.stream.server.refresh_traffic_keys().unwrap();
    stream.stream.send(b"a");
    assert_eq!(read_all(&mut stream, 100), b"a");
    // rustls answers with the next data.
    assert_eq!(stream.write(b"b").unwrap(), 1);
    assert!(stream.flush().is_err() && stream.stream.received.is_empty());
    stream.stream.unblock();
    stream.flush().unwrap();
    assert_eq!(stream.stream.received, b"b");
}

/// Returns `count` sealed session tickets of TLS 1.3 (RFC 8446 section 4.6.1), each in a record of its own. Of all messages
/// without data, session tickets are the only ones whose number rustls does not limit.
fn tickets(server: ServerConnection, count: u64) -> Vec<u8> {
    let (sequence, secrets) = server.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("the first cipher suite of rustls is not TLS13_AES_256_GCM_SHA384");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let mut records = Vec::new();
    for number in sequence..sequence + count {
        let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
        for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        // The ticket's lifetime, ticket_age_add, nonce, ticket and extensions, and the content type of the record.
        let mut record =
            b"\x04\x00\x00\x0E\x00\x00\x0E\x10\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x16".to_vec();
        let header = [23, 3, 3, 0, 16 + record.len() as u8];
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut record)
            .unwrap();
        records.extend(header);
        records.extend(record);
    }
    records
}

#[test]
fn records_without_data_and_without_end_are_an_error() {
    for (count, is_error) in [(10_000, false), (100_000, true)] {
        let mut stream = open(&TLS13, usize::MAX);
        assert_eq!(read_all(&mut stream, 100), b"");
        let new = ServerConnection::new(Arc::clone(&stream.stream.config)).unwrap();
        let server = std::mem::replace(&mut stream.stream.server, new);
        stream.stream.to_client = tickets(server, count);
        let error = stream.read(&mut [0; 64 * 1024]).unwrap_err();
        if is_error {
            let expected = "the server sends TLS records without data";
            assert_eq!(error.to_string(), expected);
        } else {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
    }
}

#[test]
fn the_end_follows_the_data_before_it() {
    for is_truncated in [false, true] {
        let mut stream = open(&TLS13, usize::MAX);
        stream.stream.send(b"last");
        if !is_truncated {
            stream.stream.server.send_close_notify();
            stream.stream.collect_output();
        }
        stream.stream.has_ended = true;
        let mut buf = [0; 100];
        assert_eq!(stream.read(&mut buf).unwrap(), 4);
        for _ in 0..2 {
            match stream.read(&mut buf) {
                Ok(len) => assert!(len == 0 && !is_truncated),
                Err(error) => {
                    assert!(is_truncated && error.kind() == ErrorKind::UnexpectedEof);
                }
            }
        }
    }
}

#[test]
fn an_error_follows_the_data_before_it() {
    let mut stream = open(&TLS13, usize::MAX);
    stream.stream.send(b"good");
    stream.stream.to_client.extend(b"\x17\x03\x03\x00\x20");
    stream.stream.to_client.extend([7; 32]);
    let mut buf = [0; 100];
    assert_eq!(stream.read(&mut buf).unwrap(), 4);
    let error = stream.read(&mut buf).unwrap_err();
    assert_eq!(error.to_string(), "a TLS record is damaged");
}

#[test]
fn the_end_of_tls_is_sent_once_and_what_was_received_is_dropped() {
    let mut stream = open(&TLS13, usize::MAX);
    stream.stream.send(b"unread");
    stream.end();
    stream.end();
    assert!(stream.stream.to_client.is_empty());
    let state = stream.stream.server.process_new_packets().unwrap();
    assert!(state.peer_has_closed());
}
