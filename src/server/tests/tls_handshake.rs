//! Handshakes of TLS: divided, failing, late, stopped in the middle, above the limits, and behind the PROXY protocol.

use super::script::{Bench, Peer, REQUEST, client_frame};
#[cfg(feature = "proxy-protocol")]
use super::tls_peer::connect_raw_with;
use super::tls_peer::{
    Acceptor, TLS12, TLS13, TlsPeer, VERSIONS, client_config, connect_raw, server_config,
};
use crate::config::Config;
use crate::tls::client_tickets::ClientTickets;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, cipher_suite, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::{AlertDescription, ClientConfig, Error, ServerConfig};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Steps of a connection: what the client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    HalfHello,
    Hello,
    HalfFinished,
    Finished,
    HalfRequest,
}

const STEPS: [Step; 6] = [
    Step::Nothing,
    Step::HalfHello,
    Step::Hello,
    Step::HalfFinished,
    Step::Finished,
    Step::HalfRequest,
];

/// Adds a connection and advances it to `step`.
fn advance(bench: &mut Bench, acceptor: &Acceptor, config: ClientConfig, step: Step) -> TlsPeer {
    let mut peer = TlsPeer::connect_to(bench, acceptor, config);
    let hello = peer.take_records();
    let hello_len = match step {
        Step::Nothing => 0,
        Step::HalfHello => hello.len() / 2,
        _ => hello.len(),
    };
    if hello_len > 0 {
        peer.peer.send_bytes(&hello[..hello_len]);
    }
    bench.turn();
    if hello_len < hello.len() || step == Step::Hello {
        return peer;
    }
    peer.receive();
    let finished = peer.take_records();
    let finished_len = match step {
        Step::HalfFinished => finished.len() / 2,
        _ => finished.len(),
    };
    peer.peer.send_bytes(&finished[..finished_len]);
    bench.turn();
    peer.receive();
    if step == Step::HalfRequest {
        peer.send(&REQUEST.as_bytes()[..40]);
        bench.turn();
    }
    peer
}

fn failures(bench: &Bench) -> Vec<(&'static str, u64)> {
    let stats = bench.engine.stats();
    let failures = stats.tls.failures().filter(|(_, count)| *count > 0);
    failures.collect()
}

#[test]
fn the_flights_of_the_client_may_be_split_at_every_byte() {
    let acceptor = Acceptor::default();
    for version in VERSIONS {
        let mut split = [1, 0];
        let mut lens = [usize::MAX; 2];
        // Each split of the first flight, and then each of the second.
        for flight in 0..2 {
            split[flight] = 1;
            while split[flight] < lens[flight] {
                let mut bench = Bench::echo(Config::default());
                let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, client_config(version));
                for one in 0..2 {
                    let records = peer.take_records();
                    lens[one] = records.len();
                    let at = if one == flight { split[one] } else { 0 };
                    for part in [&records[..at], &records[at..]] {
                        if !part.is_empty() {
                            peer.peer.send_bytes(part);
                            bench.turns(2);
                        }
                    }
                    peer.receive();
                }
                peer.complete(&mut bench);
                let session = bench.engine.session(peer.peer.id).unwrap();
                assert!(session.extra.is_none(), "an idle session owns no memory");
                split[flight] += 1;
            }
            split[flight] = 0;
        }
    }
}

#[test]
fn the_flights_of_the_client_may_arrive_byte_by_byte_and_those_of_the_server_be_read_so() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::connect(&mut bench, client_config(version));
        peer.peer.set_writable_bytes(0);
        peer.tls_write(REQUEST.as_bytes());
        for _ in 0..10_000 {
            for byte in peer.take_records() {
                peer.peer.send_bytes(&[byte]);
                bench.turn();
            }
            peer.peer.set_writable_bytes(1);
            bench.turn();
            peer.receive();
            if peer.received.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        assert!(
            peer.received.starts_with(b"HTTP/1.1 101 "),
            "{:?}",
            peer.error
        );
    }
}

/// Checks that the alert arrives, that the shutdown follows, and that further input is discarded without a reset.
fn check_alert(
    bench: &mut Bench,
    peer: &mut TlsPeer,
    alert: AlertDescription,
    failure: &'static str,
) {
    peer.exchange(bench);
    assert_eq!(peer.error, Some(Error::AlertReceived(alert)));
    assert!(peer.peer.wire.lock().is_write_shut);
    assert!(
        !peer.peer.wire.lock().is_dropped,
        "not closed with unread input"
    );
    peer.peer.send_bytes(b"more");
    bench.turns(2);
    assert_eq!(peer.peer.unread_bytes(), 0);
    peer.peer.end_stream();
    bench.turn();
    assert!(peer.peer.wire.lock().is_dropped);
    assert_eq!(failures(bench), [(failure, 1)]);
    assert!(bench.take_events()[0].starts_with("error 0 TLS"));
    assert_eq!(bench.engine.len(), 0);
}

#[test]
fn a_client_without_http_1_1_gets_an_alert() {
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut config = server_config();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = Acceptor::new(config);
        let mut config = client_config(version);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, config);
        let alert = AlertDescription::NoApplicationProtocol;
        check_alert(&mut bench, &mut peer, alert, "alpn");
    }
}

#[test]
fn a_client_without_a_common_cipher_gets_an_alert() {
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        ..default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let mut bench = Bench::echo(Config::default());
    let server = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..default_provider()
    };
    let server = ServerConfig::builder_with_provider(Arc::new(server))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(server_config().cert_resolver);
    let acceptor = Acceptor::new(server);
    let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, config);
    let alert = AlertDescription::HandshakeFailure;
    check_alert(&mut bench, &mut peer, alert, "incompatible");
}

/// Returns a server that demands a certificate of the client.
fn demanding_acceptor() -> Acceptor {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(super::tls_peer::certificate().0).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(default_provider()),
    );
    let (certificate, key) = super::tls_peer::certificate();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Acceptor::new(config)
}

#[test]
fn a_client_without_the_required_certificate_gets_an_alert() {
    let acceptor = demanding_acceptor();
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, client_config(version));
        let alert = AlertDescription::CertificateRequired;
        check_alert(&mut bench, &mut peer, alert, "client_certificate");
    }
}

#[test]
fn a_client_that_does_not_trust_the_certificate_ends_the_handshake() {
    for version in VERSIONS {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let mut bench = Bench::echo(Config::default());
        let mut peer = TlsPeer::connect(&mut bench, config);
        peer.exchange(&mut bench);
        assert!(matches!(peer.error, Some(Error::InvalidCertificate(_))));
        // Its alert has arrived.
        assert!(peer.peer.wire.lock().is_write_shut);
        peer.peer.end_stream();
        bench.turn();
        assert_eq!(failures(&bench), [("alert", 1)]);
        assert_eq!(bench.engine.len(), 0);
    }
}

#[test]
fn a_handshake_message_above_the_maximum_gets_an_alert() {
    let acceptor = demanding_acceptor();
    for version in VERSIONS {
        for (count, alert) in [
            // It is its own authority.
            (1, None),
            (100, Some(AlertDescription::DecodeError)),
        ] {
            let mut bench = Bench::echo(Config::default());
            let (certificate, key) = super::tls_peer::certificate();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate; count], key)
                .unwrap();
            config.resumption = rustls::client::Resumption::disabled();
            let mut peer = TlsPeer::connect_to(&mut bench, &acceptor, config);
            match alert {
                Some(alert) => check_alert(&mut bench, &mut peer, alert, "invalid"),
                None => {
                    peer.exchange(&mut bench);
                    assert_eq!(peer.error, None);
                }
            }
        }
    }
}

#[test]
fn an_older_version_gets_an_alert() {
    let mut bench = Bench::echo(Config::default());
    let mut peer = TlsPeer::connect(&mut bench, client_config(&TLS12));
    let mut hello = peer.take_records();
    // The version in the ClientHello, and the extension supported_versions, whose type is changed to an unknown one.
    assert_eq!(hello[9..11], [3, 3]);
    hello[10] = 2;
    let versions = hello.windows(4).position(|bytes| bytes == [0, 43, 0, 3]);
    if let Some(at) = versions {
        hello[at] = 0x7A;
    }
    peer.peer.send_bytes(&hello);
    bench.turns(2);
    // Fatal, protocol_version.
    assert_eq!(peer.peer.take_written()[5..], [2, 70]);
    assert!(peer.peer.wire.lock().is_write_shut);
    assert_eq!(failures(&bench), [("incompatible", 1)]);
}

#[test]
fn invalid_bytes_in_the_handshake_end_it() {
    for version in VERSIONS {
        for step in [Step::HalfHello, Step::Hello, Step::HalfFinished] {
            let mut bench = Bench::echo(Config::default());
            let acceptor = Acceptor::default();
            let mut peer = advance(&mut bench, &acceptor, client_config(version), step);
            peer.peer.send_bytes(&[99; 400]);
            bench.turns(2);
            peer.receive();
            assert!(peer.peer.wire.lock().is_write_shut, "{step:?}");
            assert!(!peer.peer.wire.lock().is_dropped);
            peer.peer.end_stream();
            bench.turn();
            assert_eq!(bench.engine.len(), 0);
            assert_eq!(failures(&bench), [("invalid", 1)], "{step:?}");
        }
    }
}

#[test]
fn a_stream_that_ends_in_the_handshake_ends_the_session() {
    for version in VERSIONS {
        for step in STEPS {
            let mut bench = Bench::echo(Config::default());
            let acceptor = Acceptor::default();
            let peer = advance(&mut bench, &acceptor, client_config(version), step);
            peer.peer.end_stream();
            bench.turns(2);
            assert!(peer.peer.wire.lock().is_dropped, "{step:?}");
            let is_open = matches!(step, Step::Finished | Step::HalfRequest);
            let expected: &[_] = if is_open { &[] } else { &[("closed", 1)] };
            assert_eq!(failures(&bench), expected);
        }
    }
}

#[test]
fn plain_http_is_answered_with_400_and_other_bytes_are_not() {
    for split in 1..REQUEST.len() {
        let mut bench = Bench::echo(Config::default());
        let peer = connect_raw(&mut bench, &Acceptor::default());
        for part in [&REQUEST[..split], &REQUEST[split..]] {
            peer.send_bytes(part.as_bytes());
            bench.turns(2);
        }
        let answer = String::from_utf8(peer.take_written()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("wss://"), "{answer}");
        assert!(peer.wire.lock().is_write_shut && !peer.wire.lock().is_dropped);
        assert_eq!(peer.unread_bytes(), 0);
        peer.end_stream();
        bench.turn();
        assert_eq!(bench.engine.len(), 0);
        assert_eq!(failures(&bench), [("not_tls", 1)]);
    }
    // A ClientHello of SSL 2, and noise.
    let others: [&[u8]; 3] = [
        b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10",
        &[0; 30],
        &[255; 3000],
    ];
    for bytes in others {
        let mut bench = Bench::echo(Config::default());
        let peer = connect_raw(&mut bench, &Acceptor::default());
        peer.send_bytes(bytes);
        bench.turns(2);
        assert_eq!(peer.take_written(), b"");
        assert!(peer.wire.lock().is_dropped);
    }
}

#[test]
fn the_handshake_timeout_includes_tls_and_the_request() {
    for version in VERSIONS {
        for step in STEPS {
            let mut bench = Bench::echo(Config::default());
            let acceptor = Acceptor::default();
            let mut peer = advance(&mut bench, &acceptor, client_config(version), step);
            bench.turn_at(9_999);
            assert!(!peer.peer.wire.lock().is_write_shut);
            bench.turn_at(10_000);
            peer.receive();
            if step == Step::HalfRequest {
                assert!(peer.received.starts_with(b"HTTP/1.1 408 "));
                assert!(peer.is_end);
                bench.turn_at(15_000);
            }
            assert!(peer.peer.wire.lock().is_dropped, "{step:?}");
            assert_eq!(bench.take_events(), ["error 0 handshake_timeout reached"]);
            let is_open = matches!(step, Step::Finished | Step::HalfRequest);
            let expected: &[_] = if is_open { &[] } else { &[("timeout", 1)] };
            assert_eq!(failures(&bench), expected);
        }
    }
}

#[test]
fn unsent_messages_of_the_handshake_do_not_postpone_its_timeout() {
    let mut config = server_config();
    // Sent after the client's part of the handshake, as the last message of TLS 1.2 is.
    config.send_tls13_tickets = 2;
    let acceptor = Acceptor::new(config);
    for version in VERSIONS {
        let mut bench = Bench::echo(Config::default());
        let mut peer = advance(&mut bench, &acceptor, client_config(version), Step::Hello);
        peer.receive();
        let records = peer.take_records();
        peer.peer.set_writable_bytes(10);
        peer.peer.send_bytes(&records);
        bench.turn();
        let session = bench.engine.session(peer.peer.id).unwrap();
        assert!(session.stream.has_unsent());
        bench.turn_at(9_999);
        assert!(!peer.peer.wire.lock().is_dropped);
        bench.turn_at(10_000);
        assert!(peer.peer.wire.lock().is_dropped);
    }
}

#[test]
fn a_server_stops_at_every_step_of_a_handshake() {
    for version in VERSIONS {
        for step in STEPS {
            for is_terminated in [false, true] {
                let mut bench = Bench::echo(Config::default());
                let acceptor = Acceptor::default();
                let mut peer = advance(&mut bench, &acceptor, client_config(version), step);
                bench.engine.stop();
                if is_terminated {
                    bench.engine.stop();
                }
                bench.turns(2);
                peer.receive();
                if step == Step::HalfRequest && !is_terminated {
                    assert!(peer.received.starts_with(b"HTTP/1.1 503 "));
                    peer.peer.end_stream();
                    bench.turn();
                }
                assert!(bench.has_stopped, "{step:?}");
                assert!(peer.peer.wire.lock().is_dropped);
            }
            let mut bench = Bench::echo(Config::default());
            let acceptor = Acceptor::default();
            let mut peer = advance(&mut bench, &acceptor, client_config(version), step);
            bench.engine.refuse_new_sessions();
            if step == Step::Finished {
                peer.send(REQUEST.as_bytes());
                peer.exchange(&mut bench);
                assert!(peer.received.starts_with(b"HTTP/1.1 503 "));
            }
        }
    }
}

#[test]
fn a_session_may_be_terminated_at_every_step_of_a_handshake() {
    for version in VERSIONS {
        for step in STEPS {
            let mut bench = Bench::echo(Config::default());
            let peer = advance(
                &mut bench,
                &Acceptor::default(),
                client_config(version),
                step,
            );
            bench.engine.terminate(peer.peer.id);
            bench.turn();
            assert!(peer.peer.wire.lock().is_dropped);
            assert_eq!(bench.engine.len(), 0);
        }
    }
}

#[test]
fn connections_above_the_limits_are_closed_without_an_answer() {
    let mut bench = Bench::echo(Config {
        connections_max: 1,
        ..Config::default()
    });
    let acceptor = Acceptor::default();
    let mut open = TlsPeer::connect_to(&mut bench, &acceptor, client_config(&TLS13));
    open.complete(&mut bench);
    for _ in 0..3 {
        let peer = connect_raw(&mut bench, &acceptor);
        bench.turn();
        assert_eq!(peer.take_written(), b"");
        assert!(peer.wire.lock().is_dropped);
    }
    // In one turn, more than may wait for their peers.
    let peers: Vec<Peer> = (0..16)
        .map(|_| connect_raw(&mut bench, &acceptor))
        .collect();
    let wire = crate::server::testing::shared::Shared::new(super::script::Wire::default());
    let stream = super::script::ScriptedStream(wire.clone());
    let stream = acceptor.stream(crate::stream::Stream::memory(stream));
    assert_eq!(bench.engine.insert(stream, None), None);
    assert!(wire.lock().is_dropped && wire.lock().written.is_empty());
    bench.turn();
    assert!(peers.iter().all(|peer| peer.wire.lock().is_dropped));
    open.send(&client_frame(0x81, b"still there"));
    open.exchange(&mut bench);
    assert_eq!(open.take_frames(), [(0x81, b"still there".to_vec())]);
}

#[test]
fn the_oldest_handshake_is_evicted_at_handshakes_max() {
    for step in [Step::Nothing, Step::HalfHello, Step::Hello, Step::Finished] {
        let mut bench = Bench::echo(Config {
            handshakes_max: 2,
            ..Config::default()
        });
        let acceptor = Acceptor::default();
        let peers: Vec<_> = (0..3)
            .map(|_| advance(&mut bench, &acceptor, client_config(&TLS13), step))
            .collect();
        bench.turn();
        let dropped: Vec<_> = peers
            .iter()
            .map(|peer| peer.peer.wire.lock().is_dropped)
            .collect();
        assert_eq!(dropped, [true, false, false], "{step:?}");
    }
}

#[cfg(feature = "proxy-protocol")]
#[test]
fn a_header_of_the_proxy_protocol_may_precede_tls() {
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.9 4660 443\r\n";
    let acceptor = Acceptor::default();
    for version in VERSIONS {
        let mut split = 1;
        loop {
            let mut bench = Bench::new(Config::default(), |cx, id, _| {
                let address = cx.peer_addr(id).unwrap().to_string();
                let _ = cx.send(id, &address);
            });
            let proxy = Some("10.0.0.1:9".parse().unwrap());
            let peer = connect_raw_with(&mut bench, &acceptor, proxy, true);
            let mut peer = TlsPeer::over(peer, client_config(version));
            let all = [&header[..], &peer.take_records()].concat();
            if split > all.len() {
                break;
            }
            for part in [&all[..split], &all[split..]] {
                if !part.is_empty() {
                    peer.peer.send_bytes(part);
                    bench.turns(2);
                }
            }
            peer.complete(&mut bench);
            peer.send(&client_frame(0x81, b""));
            peer.exchange(&mut bench);
            assert_eq!(peer.take_frames(), [(0x81, b"192.0.2.1:4660".to_vec())]);
            split += 1;
        }
    }
}

#[cfg(all(feature = "proxy-protocol", feature = "client-addresses"))]
#[test]
fn a_client_above_the_limit_of_its_address_is_closed_before_tls() {
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.9 4660 443\r\n";
    let acceptor = Acceptor::default();
    let mut bench = Bench::echo(Config {
        connections_per_address_max: Some(1),
        ..Config::default()
    });
    let proxy = Some("10.0.0.1:9".parse().unwrap());
    for is_refused in [false, true] {
        let peer = connect_raw_with(&mut bench, &acceptor, proxy, true);
        let mut peer = TlsPeer::over(peer, client_config(&TLS13));
        let all = [&header[..], &peer.take_records()].concat();
        peer.peer.send_bytes(&all);
        bench.turns(3);
        assert_eq!(peer.peer.take_written().is_empty(), is_refused);
        assert_eq!(peer.peer.wire.lock().is_dropped, is_refused);
    }
}

/// A turn continues at most 4 handshakes, so that an open session is not delayed by all of them.
#[test]
fn an_open_session_is_answered_in_each_turn_while_5000_clients_handshake() {
    let mut bench = Bench::echo(Config {
        handshakes_max: 10_000,
        ..Config::default()
    });
    let acceptor = Acceptor::default();
    let mut open = TlsPeer::connect_to(&mut bench, &acceptor, client_config(&TLS13));
    open.complete(&mut bench);
    let config = client_config(&TLS13);
    let mut hello = TlsPeer::connect_to(&mut bench, &acceptor, config);
    let hello = hello.take_records();
    let peers: Vec<_> = (0..5000)
        .map(|_| {
            let peer = connect_raw(&mut bench, &acceptor);
            peer.send_bytes(&hello);
            peer
        })
        .collect();
    let mut turns = 0;
    while peers.iter().any(|peer| peer.wire.lock().written.is_empty()) {
        open.send(&client_frame(0x81, b"x"));
        bench.turn();
        open.receive();
        assert_eq!(open.take_frames().len(), 1, "in turn {turns}");
        turns += 1;
    }
    assert_eq!(turns, 5000_usize.div_ceil(4));
}

/// Otherwise a client could renew its ticket without end, and its certificate would never be verified again.
#[test]
fn tickets_of_resumed_sessions_do_not_postpone_the_next_check_of_the_client() {
    const HOUR: u64 = 3600;
    for version in VERSIONS {
        let tickets = Arc::new(ClientTickets::new(Ticketer::new().unwrap()));
        let mut config = server_config();
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::<ClientTickets>::clone(&tickets);
        let acceptor = Acceptor::new(config);
        let mut config = client_config(version);
        config.resumption = rustls::client::Resumption::in_memory_sessions(10);
        let mut bench = Bench::echo(Config::default());
        for (hours, is_resumed) in [(0, false), (5, true), (11, true), (12, false), (23, true)] {
            tickets.passed.store(hours * HOUR, Ordering::Relaxed);
            let mut peer = advance(&mut bench, &acceptor, config.clone(), Step::Hello);
            // Another client connects between the two flights.
            let other = client_config(version);
            advance(&mut bench, &acceptor, other, Step::Finished);
            peer.complete(&mut bench);
            let tls = bench.engine.session(peer.peer.id).unwrap().stream.tls();
            assert_eq!(
                tls.unwrap().is_resumed(),
                is_resumed,
                "after {hours} h, {version:?}"
            );
        }
    }
}
