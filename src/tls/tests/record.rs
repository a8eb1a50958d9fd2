//! Compares [`Records`] with the record layer of rustls: the same records of a client, valid and invalid, must have the same
//! effect on both layers.

use crate::tls::record::{
    ALERT, APPLICATION_DATA, Direction, HANDSHAKE, HEADER_BYTES, KEY_RECORDS_MAX, KEY_UPDATE,
    Records, open,
};
use crate::tls::rustls_layer::{Rustls, encode};
use crate::tls::stream::{Processed, Slices};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use std::io::IoSlice;
use std::sync::{Arc, LazyLock};

/// A client that can seal any record: only its keys.
struct Client {
    kernel: KernelConnection<ClientConnectionData>,
    send: Direction,
    receive: Direction,
}

/// The server, with one of the two record layers.
enum Server {
    Records(Box<Records>),
    Rustls(Box<Rustls>),
}

/// The effect of input on a server.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effect {
    data: Vec<u8>,
    is_end: bool,
    is_error: bool,
    /// The content types and contents of the records that the server has sent.
    answers: Vec<(u8, Vec<u8>)>,
}

static CERTIFICATE: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), key.serialize_der())
});

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Completes a handshake in memory. The server then uses [`Records`] if `is_own`, otherwise the layer of rustls.
fn handshake(suite: CipherSuite, is_own: bool) -> (Client, Server) {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|one| one.suite() == suite);
    let provider = Arc::new(provider);
    let (certificate, key) = &*CERTIFICATE;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.clone()],
            PrivateKeyDer::try_from(key.clone()).unwrap(),
        )
        .unwrap();
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let mut server = Rustls::new(Arc::new(config)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = "localhost".try_into().unwrap();
    let mut client = UnbufferedClientConnection::new(Arc::new(config), name).unwrap();

    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while server.connection.is_handshaking() {
        step_client(&mut client, &mut to_client, &mut to_server);
        let Processed { consumed, .. } = server
            .process(&mut to_server, &mut to_client, |_| {})
            .unwrap();
        to_server.drain(..consumed);
    }
    let (secrets, kernel) = client.dangerous_into_kernel_connection().unwrap();
    let client = Client {
        kernel,
        send: Direction::new(secrets.tx),
        receive: Direction::new(secrets.rx),
    };
    let server = if is_own {
        let (secrets, kernel) = server
            .connection
            .dangerous_into_kernel_connection()
            .unwrap();
        Server::Records(Box::new(Records::new(secrets, kernel)))
    } else {
        Server::Rustls(Box::new(server))
    };
    (client, server)
}

/// Lets the client process `input` and append what it sends to `output`.
fn step_client(client: &mut UnbufferedClientConnection, input: &mut Vec<u8>, output: &mut Vec<u8>) {
    loop {
        let UnbufferedStatus { discard, state } = client.process_tls_records(input);
        let mut is_done = false;
        match state.unwrap() {
            ConnectionState::EncodeTlsData(data) => encode(data, output),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => is_done = true,
            state => panic!("{state:?}"),
        }
        input.drain(..discard);
        if is_done {
            return;
        }
    }
}

impl Client {
    /// Appends a record with any content.
    fn seal(&mut self, content_type: u8, content: &[u8], sealed: &mut Vec<u8>) {
        let key = self.send.key();
        self.send.seal(&key, content_type, sealed, |sealed| {
            sealed.extend_from_slice(content)
        });
    }

    /// Opens the records of the server, and returns their types and contents.
    fn open(&mut self, mut sealed: Vec<u8>) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        let mut start = 0;
        while start < sealed.len() {
            let key = self.receive.key();
            let opened = open(&mut sealed[start..], &key, self.receive.sequence);
            let opened = opened.unwrap().unwrap();
            start += opened.record_len;
            self.receive.sequence += 1;
            let record = (opened.content_type, opened.content.to_vec());
            if record.0 == HANDSHAKE {
                assert_eq!(record.1, [KEY_UPDATE, 0, 0, 1, 0]);
                (self.receive.sequence, self.receive.secrets) =
                    self.kernel.update_rx_secret().unwrap();
            }
            records.push(record);
        }
        records
    }

    /// Changes the client's key, after the client has sealed a KeyUpdate.
    fn update(&mut self) {
        (self.send.sequence, self.send.secrets) = self.kernel.update_tx_secret().unwrap();
    }
}

impl Server {
    /// Processes input until the server consumes no more of it, or an error occurs. Returns the effect.
    fn process(&mut self, input: &mut [u8], client: &mut Client) -> Effect {
        let mut effect = Effect::default();
        let mut sealed = Vec::new();
        let mut start = 0;
        loop {
            let deliver = |data: &[u8]| effect.data.extend_from_slice(data);
            let input = &mut input[start..];
            let processed = match self {
                Self::Records(records) => records.process(input, &mut sealed, deliver),
                Self::Rustls(rustls) => rustls.process(input, &mut sealed, deliver),
            };
            match processed {
                Ok(processed) => {
                    start += processed.consumed;
                    effect.is_end |= processed.is_end;
                    if processed.consumed == 0 || effect.is_end {
                        break;
                    }
                }
                Err(_) => {
                    effect.is_error = true;
                    break;
                }
            }
        }
        effect.answers = client.open(sealed);
        effect
    }

    /// Returns the sealed bytes of `slices`.
    fn send(&mut self, slices: &[&[u8]]) -> Vec<u8> {
        let mut sealed = Vec::new();
        match self {
            Self::Records(records) => {
                let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                let mut slices = Slices::new(&slices);
                while !slices.is_empty() {
                    records.seal(&mut slices, 64 * 1024, &mut sealed).unwrap();
                }
            }
            Self::Rustls(rustls) => {
                let no_input = &mut [];
                rustls
                    .seal(&slices.concat(), no_input, &mut sealed)
                    .unwrap();
            }
        }
        sealed
    }
}

/// Records of the client: content type, content, and a change after sealing.
type Script = [(u8, Vec<u8>, Change)];

#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    /// XORs this byte of the sealed record with 1.
    Flip(usize),
    /// The client changes its key after this record.
    Update,
}

/// Runs a script with both layers, and compares the effects. Returns the effect on [`Records`]. Does not compare what the
/// servers send after an error: for some errors, rustls sends no alert or a more general one, and if the client has requested
/// a KeyUpdate, rustls sends it before the alert.
fn compare(suite: CipherSuite, script: &Script) -> Effect {
    let [own, rustls] = [true, false].map(|is_own| {
        let (mut client, mut server) = handshake(suite, is_own);
        let mut input = Vec::new();
        for (content_type, content, change) in script {
            let start = input.len();
            client.seal(*content_type, content, &mut input);
            match change {
                Change::None => {}
                Change::Flip(at) => {
                    let len = input.len() - start;
                    input[start + at % len] ^= 1;
                }
                Change::Update => client.update(),
            }
        }
        let mut effect = server.process(&mut input, &mut client);
        if !effect.is_error {
            // If the client has requested a KeyUpdate, it precedes the answer.
            let sealed = server.send(&[b"an", b"swer"]);
            effect.answers.extend(client.open(sealed));
        }
        effect
    });
    assert_eq!(
        (own.is_error, own.is_end, &own.data),
        (rustls.is_error, rustls.is_end, &rustls.data),
        "{script:?}"
    );
    if !own.is_error {
        assert_eq!(own.answers, rustls.answers, "{script:?}");
    }
    own
}

fn data(bytes: impl Into<Vec<u8>>) -> (u8, Vec<u8>, Change) {
    (APPLICATION_DATA, bytes.into(), Change::None)
}

fn key_update(request: u8) -> (u8, Vec<u8>, Change) {
    (
        HANDSHAKE,
        vec![KEY_UPDATE, 0, 0, 1, request],
        Change::Update,
    )
}

#[test]
fn data_of_all_sizes_passes_in_both_directions() {
    for suite in SUITES {
        for len in [0, 1, 2, 15, 16, 17, 125, 1000, 16_383, 16_384] {
            let effect = compare(suite, &[data(vec![7; len]), data("end")]);
            assert_eq!(effect.data.len(), len + 3);
            assert_eq!(effect.answers, [(APPLICATION_DATA, b"answer".to_vec())]);
        }
    }
}

#[test]
fn an_answer_is_divided_into_records_of_16_kib() {
    for suite in SUITES {
        for (is_own, len) in [(true, 40_000), (true, 200_000), (false, 40_000)] {
            let (mut client, mut server) = handshake(suite, is_own);
            let bytes: Vec<u8> = (0..len).map(|n: u32| n as u8).collect();
            let (first, second) = bytes.split_at(20_001);
            let sealed = server.send(&[first, b"", second]);
            let records = client.open(sealed);
            let lens: Vec<_> = records.iter().map(|(_, content)| content.len()).collect();
            assert!(lens.iter().all(|&len| len <= 16_384), "{lens:?}");
            assert!(lens.len() <= bytes.len() / 16_384 + 1, "{lens:?}");
            let contents: Vec<_> = records
                .into_iter()
                .flat_map(|(_, content)| content)
                .collect();
            assert!(contents == bytes);
        }
    }
}

#[test]
fn key_updates_change_the_keys_of_the_sides_that_they_concern() {
    for suite in SUITES {
        let script = [
            data("a"),
            key_update(0),
            data("b"),
            key_update(1),
            data("c"),
        ];
        let effect = compare(suite, &script);
        assert_eq!(effect.data, b"abc");
        // One KeyUpdate answers several requests.
        let effect = compare(
            suite,
            &[key_update(1), key_update(1), data("d"), key_update(1)],
        );
        assert_eq!(effect.answers.len(), 2, "{effect:?}");
    }
}

#[test]
fn a_flood_of_key_updates_is_an_error() {
    let script: Vec<_> = (0..40).map(|_| key_update(0)).collect();
    let effect = compare(SUITES[0], &script);
    assert_eq!(effect.answers, [(ALERT, vec![2, 10])]);
    // KeyUpdates with data between them are not a flood.
    let script: Vec<_> = (0..80)
        .map(|n| if n % 2 == 0 { key_update(0) } else { data("x") })
        .collect();
    assert!(!compare(SUITES[0], &script).is_error);
}

#[test]
fn a_key_update_with_an_unknown_request_is_an_illegal_parameter() {
    for request in [2, 3, 24, 255] {
        let effect = compare(SUITES[0], &[data("a"), key_update(request)]);
        assert_eq!(effect.answers, [(ALERT, vec![2, 47])], "{request}");
    }
}

#[test]
fn close_notify_ends_the_input() {
    for suite in SUITES {
        let end = (ALERT, vec![1, 0], Change::None);
        let effect = compare(suite, &[data("a"), end.clone(), data("b")]);
        assert_eq!((&*effect.data, effect.is_end), (&b"a"[..], true));
        assert!(compare(suite, &[end]).is_end);
    }
}

#[test]
fn alerts_are_errors_except_user_canceled() {
    for (level, description, is_error) in
        [(1, 90, false), (2, 40, true), (1, 40, true), (2, 90, true)]
    {
        let alert = (ALERT, vec![level, description], Change::None);
        let effect = compare(SUITES[0], &[data("a"), alert, data("b")]);
        assert_eq!(effect.is_error, is_error, "{level} {description}");
        assert!(
            !is_error || effect.answers.is_empty(),
            "an alert is not answered"
        );
    }
}

#[test]
fn each_changed_byte_is_an_error() {
    for suite in SUITES {
        let changed = |at| (APPLICATION_DATA, b"data".to_vec(), Change::Flip(at));
        for at in HEADER_BYTES..HEADER_BYTES + 4 + 1 + 16 {
            let effect = compare(suite, &[data("a"), changed(at), data("b")]);
            assert_eq!(
                (effect.is_error, &*effect.data),
                (true, &b"a"[..]),
                "byte {at}"
            );
            assert_eq!(effect.answers, [(ALERT, vec![2, 20])]);
        }
        // rustls does not check the first three bytes of a header. (The other two are its length: a longer record would be
        // incomplete, and a shorter one would move the next header.)
        for at in 0..3 {
            let (mut client, mut server) = handshake(suite, true);
            let mut input = Vec::new();
            client.seal(APPLICATION_DATA, b"data", &mut input);
            input[at] ^= 1;
            assert!(
                server.process(&mut input, &mut client).is_error,
                "byte {at}"
            );
        }
    }
}

#[test]
fn invalid_contents_are_errors() {
    let invalid: &[(u8, &[u8])] = &[
        (HANDSHAKE, &[]),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 2, 0, 0]),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0]),
        // A Finished, and a ClientHello: TLS 1.3 has no renegotiation.
        (HANDSHAKE, &[20, 0, 0, 4, 1, 2, 3, 4]),
        (HANDSHAKE, &[1, 0, 0, 4, 1, 2, 3, 4]),
        // ChangeCipherSpec.
        (20, &[1]),
        // Only zeros: no content type.
        (0, &[0; 9]),
        (24, b"heartbeat"),
        (255, b"x"),
        (ALERT, &[]),
        (ALERT, &[1]),
        (ALERT, &[1, 0, 0]),
    ];
    for (content_type, content) in invalid {
        let record = (*content_type, content.to_vec(), Change::None);
        let (mut client, mut server) = handshake(SUITES[0], true);
        let mut input = Vec::new();
        client.seal(record.0, &record.1, &mut input);
        let effect = server.process(&mut input, &mut client);
        assert!(effect.is_error, "{record:?}");
        assert!(
            matches!(&*effect.answers, [(ALERT, alert)] if alert[0] == 2),
            "{record:?}"
        );
        // RFC 8446 section 5.1: "Implementations MUST NOT send zero-length fragments of Handshake types". rustls ignores
        // such records, so they are not compared.
        if !content.is_empty() || record.0 != HANDSHAKE {
            assert!(compare(SUITES[0], &[record]).is_error);
        }
    }
}

/// RFC 8446 section 4.1.2: "If a server has negotiated TLS 1.3 and receives a ClientHello at any other time, it MUST
/// terminate the connection with an "unexpected_message" alert." Section 6.2: a message that cannot be decoded is a
/// "decode_error".
#[test]
fn the_alert_distinguishes_unexpected_messages_from_malformed_ones() {
    const UNEXPECTED_MESSAGE: u8 = 10;
    const DECODE_ERROR: u8 = 50;
    let table: &[(u8, &[u8], u8)] = &[
        (HANDSHAKE, &[1, 0, 0, 4, 1, 2, 3, 4], UNEXPECTED_MESSAGE),
        (HANDSHAKE, &[20, 0, 0, 4, 1, 2, 3, 4], UNEXPECTED_MESSAGE),
        (HANDSHAKE, &[], UNEXPECTED_MESSAGE),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 2, 0, 0], DECODE_ERROR),
        (HANDSHAKE, &[KEY_UPDATE, 0, 0, 1], DECODE_ERROR),
        (ALERT, &[1], DECODE_ERROR),
        (ALERT, &[1, 0, 0], DECODE_ERROR),
        (20, &[1], UNEXPECTED_MESSAGE),
    ];
    for (content_type, content, alert) in table {
        let (mut client, mut server) = handshake(SUITES[0], true);
        let mut input = Vec::new();
        client.seal(*content_type, content, &mut input);
        let effect = server.process(&mut input, &mut client);
        assert_eq!(
            effect.answers,
            [(ALERT, vec![2, *alert])],
            "{content_type} {content:?}"
        );
    }
}

#[test]
fn padding_is_removed() {
    // `seal` appends a content type to its content: here 0, which is the last byte of the padding. The content contains the
    // data, its content type, and the other bytes of the padding.
    for suite in SUITES {
        let mut padded = b"padded".to_vec();
        padded.push(APPLICATION_DATA);
        padded.extend([0; 40]);
        let effect = compare(suite, &[(0, padded, Change::None), data("!")]);
        assert_eq!(effect.data, b"padded!");
    }
}

#[test]
fn records_above_the_maximum_are_errors() {
    // With the content type, 2^14 + 1 bytes are allowed.
    for (len, is_error) in [
        (16_384, false),
        (16_385, true),
        (16_384 + 255, true),
        (17_000, true),
    ] {
        let effect = compare(SUITES[1], &[data(vec![1; len]), data("b")]);
        assert_eq!(effect.is_error, is_error, "{len}");
    }
    // Padding counts.
    let mut padded = vec![1; 16_000];
    padded.push(APPLICATION_DATA);
    padded.extend([0; 600]);
    let effect = compare(SUITES[1], &[(0, padded, Change::None)]);
    assert!(effect.is_error);
}

/// The rest of such a record is not awaited.
#[test]
fn the_length_in_a_header_has_a_maximum() {
    for (len, is_error) in [((1 << 14) + 256, false), ((1 << 14) + 257, true)] {
        let [high, low] = u16::to_be_bytes(len);
        // rustls allows the length of TLS 1.2.
        let (mut client, mut server) = handshake(SUITES[0], true);
        let mut header = [APPLICATION_DATA, 3, 3, high, low];
        let effect = server.process(&mut header, &mut client);
        assert_eq!(effect.is_error, is_error, "{len}");
        let alert = (ALERT, vec![2, 22]);
        assert!(!is_error || effect.answers == [alert]);
    }
}

#[test]
fn input_may_be_divided_at_each_byte() {
    let (mut client, mut server) = handshake(SUITES[2], true);
    let mut input = Vec::new();
    client.seal(APPLICATION_DATA, b"first", &mut input);
    client.seal(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], &mut input);
    client.update();
    client.seal(APPLICATION_DATA, b"second", &mut input);
    let (mut pending, mut found) = (Vec::new(), Vec::new());
    for byte in input {
        pending.push(byte);
        let Server::Records(records) = &mut server else {
            unreachable!("`handshake` returns this layer");
        };
        let mut output = Vec::new();
        let processed = records
            .process(&mut pending, &mut output, |data| {
                found.extend_from_slice(data)
            })
            .unwrap();
        assert!(output.is_empty());
        pending.drain(..processed.consumed);
    }
    assert_eq!((found, pending), (b"firstsecond".to_vec(), Vec::new()));
}

#[test]
fn the_key_changes_before_its_limit() {
    let (mut client, mut server) = handshake(SUITES[0], true);
    let mut updates = 0;
    for n in 0..3 * KEY_RECORDS_MAX {
        let sealed = server.send(&[&n.to_be_bytes()]);
        for (content_type, content) in client.open(sealed) {
            match content_type {
                HANDSHAKE => updates += 1,
                _ => assert_eq!(content, n.to_be_bytes()),
            }
        }
    }
    assert_eq!(updates, 2);
}

/// Regression test: after a part of a handshake message, rustls panics if its next call is without the input that contains
/// this part. The server made such a call when it wrote, so that any client could end the process.
#[test]
fn a_part_of_a_handshake_message_survives_a_write_of_the_server() {
    let (mut client, mut server) = handshake(SUITES[0], false);
    let Server::Rustls(rustls) = &mut server else {
        unreachable!("`handshake` returns this layer");
    };
    let (mut input, mut sealed, mut received) = (Vec::new(), Vec::new(), Vec::new());
    client.seal(HANDSHAKE, &[KEY_UPDATE, 0, 0], &mut input);
    let first = rustls.process(&mut input, &mut sealed, |_| {}).unwrap();
    input.drain(..first.consumed);
    rustls.seal(b"data", &mut input, &mut sealed).unwrap();
    client.seal(HANDSHAKE, &[1, 0], &mut input);
    client.update();
    client.seal(APPLICATION_DATA, b"hello", &mut input);
    client.seal(ALERT, &[1, 0], &mut input);
    rustls.seal(b"data", &mut input, &mut sealed).unwrap();
    let rest = rustls
        .process(&mut input, &mut sealed, |data| {
            received.extend_from_slice(data)
        })
        .unwrap();
    assert_eq!(
        (received, rest.is_end, rest.consumed),
        (b"hello".to_vec(), true, input.len())
    );
    assert_eq!(client.open(sealed).len(), 2);
}

/// Compares the layers with random scripts of data, KeyUpdates, alerts and damaged records.
#[test]
fn random_records_have_the_same_effect() {
    let mut state = 1_u64;
    let mut random = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % bound
    };
    for _ in 0..300 {
        let script: Vec<_> = (0..=random(6))
            .map(|_| match random(12) {
                0 => key_update(0),
                1 => key_update(1),
                2 => (ALERT, vec![1, 90], Change::None),
                3 if random(4) == 0 => (ALERT, vec![1, 0], Change::None),
                4 if random(4) == 0 => {
                    let len = random(40);
                    (
                        APPLICATION_DATA,
                        vec![1; len as usize],
                        Change::Flip(5 + random(9) as usize),
                    )
                }
                _ => {
                    let bits = random(15);
                    let len = random(1 << bits);
                    data(vec![len as u8; len as usize])
                }
            })
            .collect();
        compare(SUITES[random(3) as usize], &script);
    }
}
