//! Tests the selection of certificates by name, ALPN, versions, client certificates and resumption.

use super::*;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, PeerIncompatible, ProtocolVersion};

#[test]
fn the_certificate_is_selected_by_name() {
    let [default, wild, exact, deep] = [
        &["example.org", "127.0.0.1"][..],
        &["*.example.org"],
        &["www.example.org", "Example.COM"],
        &["*.a.example.org"],
    ]
    .map(|names| Issued::by_itself(params(names)));
    let mut builder = Tls::builder();
    for one in [&default, &wild, &exact, &deep] {
        builder = builder.certificate_pem(one.pem(), one.key_pem());
    }
    let tls = builder.build().unwrap();
    for (name, expected) in [
        ("example.org", &default),
        ("EXAMPLE.org", &default),
        ("a.example.org", &wild),
        ("A.Example.Org", &wild),
        ("www.example.org", &exact),
        ("WWW.EXAMPLE.ORG", &exact),
        ("example.com", &exact),
        ("b.a.example.org", &deep),
        // A wildcard stands for one label.
        ("c.b.a.example.org", &default),
        ("www.example.com", &default),
        ("org", &default),
        ("example.net", &default),
        ("xexample.org", &default),
        // A client sends no name if it connects to an address.
        ("127.0.0.1", &default),
        ("192.0.2.1", &default),
        ("::1", &default),
    ] {
        let connected = Client::new().connect(&tls, name).unwrap();
        assert!(connected.is_with(expected), "{name}");
    }
    let connected = Client::new().without_sni().connect(&tls, "www.example.org");
    assert!(connected.unwrap().is_with(&default));
}

/// rustls' verification of names decides which certificates are valid.
#[test]
fn the_selected_certificate_is_valid_for_the_name_if_any_is() {
    let names = [
        &["other.test"][..],
        &["*.example.org", "example.org"],
        &["*.b.example.org"],
        &["a.b.c.d", "*.c.d", "*.d"],
    ];
    let all = names.map(|names| Issued::by_itself(params(names)));
    let mut builder = Tls::builder();
    for one in &all {
        builder = builder.certificate_pem(one.pem(), one.key_pem());
    }
    let tls = builder.build().unwrap();
    let is_valid = |der: &[u8], name: &str| {
        let der = CertificateDer::from(der.to_vec());
        let name = ServerName::try_from(name).unwrap();
        verify_server_name(&ParsedCertificate::try_from(&der).unwrap(), &name).is_ok()
    };
    let labels = ["a", "b", "c", "d", "example", "org", "x"];
    let mut names = vec![String::new()];
    for _ in 0..4 {
        let longer = names.iter().flat_map(|name| {
            labels.map(|label| match &**name {
                "" => label.to_owned(),
                name => format!("{label}.{name}"),
            })
        });
        names = longer.collect();
        // Tests only a part of all names, because each handshake costs 1 ms.
        let is_near = |name: &&String| name.ends_with("e.org") || name.ends_with("c.d");
        for name in names.iter().filter(is_near) {
            let connected = Client::new().connect(&tls, name).unwrap();
            let expected = all.iter().any(|one| is_valid(one.der(), name));
            assert_eq!(is_valid(connected.certificate(), name), expected, "{name}");
        }
    }
}

#[test]
fn the_first_of_two_certificates_for_a_name_is_used() {
    let [first, second] = [(); 2].map(|()| Issued::by_itself(params(&["example.org"])));
    let tls = Tls::builder()
        .certificate_pem(first.pem(), first.key_pem())
        .certificate_pem(second.pem(), second.key_pem())
        .build()
        .unwrap();
    for name in ["example.org", "example.net"] {
        assert!(Client::new().connect(&tls, name).unwrap().is_with(&first));
    }
}

#[test]
fn the_type_of_the_key_is_one_that_the_client_supports() {
    let rsa = KeyPair::from_pem_and_sign_algo(RSA, &rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = Issued::with_key(params(&["example.org"]), rsa);
    let ecdsa = Issued::by_itself(params(&["example.org"]));
    let tls = Tls::builder()
        .certificate_pem(ecdsa.pem(), ecdsa.key_pem())
        .certificate_pem(rsa.pem(), rsa.key_pem())
        .build()
        .unwrap();
    let only_rsa = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut provider = ring::default_provider();
        let all = provider.signature_verification_algorithms;
        provider.signature_verification_algorithms.mapping = all
            .mapping
            .iter()
            .filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"))
            .copied()
            .collect::<Vec<_>>()
            .leak();
        Client::build(provider, versions, None)
    };
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for name in ["example.org", "192.0.2.1"] {
            let connected = Client::with_versions(versions).connect(&tls, name);
            assert!(connected.unwrap().is_with(&ecdsa));
            let connected = only_rsa(versions).connect(&tls, name);
            assert!(connected.unwrap().is_with(&rsa));
        }
    }
    let failure = only_rsa(&[&TLS13])
        .connect(&ecdsa.tls(), "example.org")
        .err()
        .unwrap();
    assert_eq!(
        failure.client,
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure))
    );
}

#[test]
fn alpn_is_http_1_1_or_absent() {
    let issued = Issued::by_itself(params(&["example.org"]));
    let tls = issued.tls();
    for (offered, selected) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("http/1.1")),
    ] {
        let connected = Client::new().alpn(offered).connect(&tls, "example.org");
        let connected = connected.unwrap();
        let found = connected.server.alpn_protocol();
        assert_eq!(found, selected.map(str::as_bytes), "{offered:?}");
    }
    for offered in [&["h2"][..], &["http/1.0", "h2"], &["HTTP/1.1"]] {
        let failure = Client::new().alpn(offered).connect(&tls, "example.org");
        let failure = failure.err().unwrap();
        assert_eq!(failure.server, Some(Error::NoApplicationProtocol));
        let alert = AlertDescription::NoApplicationProtocol;
        assert_eq!(failure.client, Some(Error::AlertReceived(alert)));
    }
}

#[test]
fn tls_1_2_is_spoken_unless_1_3_is_the_minimum() {
    let issued = Issued::by_itself(params(&["example.org"]));
    let both = issued.tls();
    let only_13 = Tls::builder()
        .certificate_pem(issued.pem(), issued.key_pem())
        .tls13_only()
        .build()
        .unwrap();
    for (tls, client, expected) in [
        (&both, &[&TLS12, &TLS13][..], Some(ProtocolVersion::TLSv1_3)),
        (&both, &[&TLS12], Some(ProtocolVersion::TLSv1_2)),
        (&both, &[&TLS13], Some(ProtocolVersion::TLSv1_3)),
        (&only_13, &[&TLS12, &TLS13], Some(ProtocolVersion::TLSv1_3)),
        (&only_13, &[&TLS12], None),
    ] {
        match Client::with_versions(client).connect(tls, "example.org") {
            Ok(connected) => assert_eq!(connected.server.protocol_version(), expected),
            Err(failure) => {
                assert_eq!(expected, None);
                let incompatible = PeerIncompatible::SupportedVersionsExtensionRequired;
                let tls12 = PeerIncompatible::Tls12NotOfferedOrEnabled;
                assert!(
                    failure.server == Some(Error::PeerIncompatible(incompatible))
                        || failure.server == Some(Error::PeerIncompatible(tls12)),
                    "{failure:?}"
                );
                let alert = AlertDescription::ProtocolVersion;
                assert_eq!(failure.client, Some(Error::AlertReceived(alert)));
            }
        }
    }
}

#[test]
fn there_is_no_early_data_and_no_session_is_stored() {
    let config = Issued::by_itself(params(&["example.org"])).tls().current();
    assert_eq!(config.max_early_data_size, 0);
    assert!(!config.session_storage.can_cache());
}

#[test]
fn every_type_and_encoding_of_a_key_is_used() {
    let generate = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let keys = [
        KeyPair::from_pem_and_sign_algo(RSA, &rcgen::PKCS_RSA_SHA256).unwrap(),
        generate(&rcgen::PKCS_ECDSA_P256_SHA256),
        generate(&rcgen::PKCS_ECDSA_P384_SHA384),
        generate(&rcgen::PKCS_ED25519),
    ];
    for (index, key) in keys.into_iter().enumerate() {
        let issued = Issued::with_key(params(&["example.org"]), key);
        assert!(issued.key_pem().contains("BEGIN PRIVATE KEY"));
        let tls = issued.tls();
        assert!(Client::new().connect(&tls, "example.org").is_ok());
        // The private key in PKCS#8 contains the same key in PKCS#1 or SEC1.
        let label = match index {
            0 => "RSA PRIVATE KEY",
            1 => "EC PRIVATE KEY",
            _ => continue,
        };
        let inner = octet_string(issued.key.serialized_der());
        let key = format!(
            "-----BEGIN {label}-----\n{}-----END {label}-----\n",
            base64(inner)
        );
        let tls = Tls::from_pem(issued.pem(), &key).unwrap();
        assert!(Client::new().connect(&tls, "example.org").is_ok());
        // `openssl ecparam -genkey` writes the parameters of the curve before the key.
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert!(Tls::from_pem(issued.pem(), parameters.to_owned() + &key).is_ok());
    }
}

/// Returns the key in PKCS#1 or SEC1 that a key in PKCS#8 contains: the contents of an octet string. Finds it by its tag
/// and a plausible length: more than 1000 bytes for RSA, and more than 100 for P-256.
fn octet_string(pkcs8: &[u8]) -> &[u8] {
    let long = pkcs8.windows(5).position(|bytes| {
        let [tag, len, high, low, inner] = bytes else {
            return false;
        };
        let rest = usize::from(*high) << 8 | usize::from(*low);
        (*tag, *len, *inner) == (4, 0x82, 0x30) && rest > 1000
    });
    if let Some(start) = long {
        return &pkcs8[start + 4..];
    }
    let start = pkcs8
        .windows(3)
        .position(|bytes| bytes[0] == 4 && bytes[1] > 100 && bytes[2] == 0x30);
    let start = start.unwrap() + 2;
    &pkcs8[start..start + usize::from(pkcs8[start - 1])]
}

/// Encodes bytes in base64, in lines.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (index, chunk) in bytes.chunks(3).enumerate() {
        let number = (0..3).fold(0, |number, index| {
            number << 8 | usize::from(*chunk.get(index).unwrap_or(&0))
        });
        for place in 0..4 {
            text.push(match place <= chunk.len() {
                true => char::from(ALPHABET[number >> (18 - 6 * place) & 63]),
                false => '=',
            });
        }
        if index % 16 == 15 {
            text.push('\n');
        }
    }
    text + "\n"
}

#[test]
fn client_certificates_are_required_or_optional() {
    let server = Issued::by_itself(params(&["example.org"]));
    let [ca, other_ca] = ["ca", "other"].map(|name| Issued::by_itself(ca_params(name)));
    let good = Issued::by(&ca, params(&["client"]));
    let wrong = Issued::by(&other_ca, params(&["client"]));
    let old = Issued::by(&ca, expired());
    for need in [ClientCertificates::Required, ClientCertificates::Optional] {
        let tls = Tls::builder()
            .certificate_pem(server.pem(), server.key_pem())
            .client_ca_pem(ca.pem(), need)
            .build()
            .unwrap();
        let connected = Client::with_certificate(&good).connect(&tls, "example.org");
        let chain = connected.unwrap();
        let chain = chain.server.peer_certificates().unwrap();
        assert_eq!(*chain[0], *good.der());
        for (client, alert) in [
            (&wrong, AlertDescription::UnknownCA),
            (&old, AlertDescription::CertificateExpired),
        ] {
            let failure = Client::with_certificate(client).connect(&tls, "example.org");
            let failure = failure.err().unwrap();
            assert_eq!(failure.client, Some(Error::AlertReceived(alert)));
        }
        let without = Client::new().connect(&tls, "example.org");
        match need {
            ClientCertificates::Optional => {
                let connected = without.unwrap();
                assert!(connected.server.peer_certificates().is_none());
            }
            ClientCertificates::Required => {
                let alert = AlertDescription::CertificateRequired;
                let failure = without.err().unwrap();
                assert_eq!(failure.server, Some(Error::NoCertificatesPresented));
                assert_eq!(failure.client, Some(Error::AlertReceived(alert)));
            }
        }
    }
}

#[test]
fn one_ticket_resumes_a_session() {
    let issued = Issued::by_itself(params(&["example.org"]));
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let tls = issued.tls();
        let client = Client::with_versions(versions);
        let connect = || client.connect(&tls, "example.org").unwrap();
        let first = connect();
        assert!(!first.is_resumed());
        if versions == [&TLS13] {
            assert_eq!(first.client.tls13_tickets_received(), 1);
        }
        assert!(connect().is_resumed());
        // The other server has other ticket keys.
        let other = client.connect(&issued.tls(), "example.org").unwrap();
        assert!(!other.is_resumed());
    }
}

#[test]
fn a_resumed_session_has_the_certificate_of_the_client() {
    let ca = Issued::by_itself(ca_params("ca"));
    let server = Issued::by_itself(params(&["example.org"]));
    let client = Client::with_certificate(&Issued::by(&ca, params(&["client"])));
    let tls = Tls::builder()
        .certificate_pem(server.pem(), server.key_pem())
        .client_ca_pem(ca.pem(), ClientCertificates::Required)
        .build()
        .unwrap();
    for is_resumed in [false, true] {
        let connected = client.connect(&tls, "example.org").unwrap();
        assert_eq!(connected.is_resumed(), is_resumed);
        assert!(connected.server.peer_certificates().is_some());
    }
    let tickets = format!("{:?}", tls.current().ticketer);
    assert!(
        tickets.starts_with("ClientTickets"),
        "clients with certificates have tickets that end"
    );
}

#[test]
fn a_chain_of_many_records_is_sent() {
    let ca = Issued::by_itself(ca_params("ca"));
    let names: Vec<_> = (0..900).map(|n| format!("host-{n}.example.org")).collect();
    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    let issued = Issued::by(&ca, params(&names));
    let chain = issued.pem() + &ca.pem();
    assert!(issued.der().len() > 16 << 10);
    let tls = Tls::from_pem(chain, issued.key_pem()).unwrap();
    let connected = Client::new().connect(&tls, "host-899.example.org").unwrap();
    assert!(connected.is_with(&issued));
    assert_eq!(connected.client.peer_certificates().unwrap().len(), 2);
    assert_eq!(tls.certificates()[0].dns_names().len(), 900);
}
