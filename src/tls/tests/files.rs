//! Tests which certificates and keys can be read, the errors of others, and the fields of certificates.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory that is removed on drop.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let name = format!("wsloop-tls-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the message of the error for a certificate and a key.
fn message(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> String {
    Tls::from_pem(certificate, key).err().unwrap().to_string()
}

#[test]
fn certificates_and_keys_are_read_from_files() {
    let dir = Dir::new("files");
    let issued = Issued::by_itself(params(&["example.org"]));
    let certificate = dir.write("cert.pem", issued.pem());
    let key = dir.write("key.pem", issued.key_pem());
    let both = dir.write("both.pem", issued.key_pem() + &issued.pem());
    for tls in [
        Tls::from_pem_files(&certificate, &key),
        Tls::from_pem_files(&both, &both),
        Tls::from_pem_files(&both, &key),
    ] {
        let connected = Client::new().connect(&tls.unwrap(), "example.org");
        assert!(connected.unwrap().is_with(&issued));
    }
    // Text around the sections, as `openssl s_client` and some CAs write it.
    let text = format!("subject: x\r\n{}\ntext", issued.pem().replace('\n', "\r\n"));
    assert!(Tls::from_pem(text, issued.key_pem()).is_ok());
}

#[test]
fn an_error_of_a_file_names_the_file_and_what_to_do() {
    let dir = Dir::new("errors");
    let issued = Issued::by_itself(params(&["example.org"]));
    let good = dir.write("good.pem", issued.pem());
    let key = dir.write("key.pem", issued.key_pem());
    let cases = [
        (dir.path().join("absent.pem"), "No such file"),
        (dir.path().to_owned(), "cannot be read"),
        (dir.write("empty.pem", ""), "has no certificate"),
        (dir.write("der.pem", issued.der()), "is DER or PKCS#12"),
        (
            dir.write("big.pem", vec![b'x'; (1 << 20) + 1]),
            "is larger than 1 MiB",
        ),
        (
            dir.write("half.pem", &issued.pem()[..200]),
            "is not valid PEM, or is incomplete",
        ),
    ];
    for (path, expected) in &cases {
        let error = Tls::from_pem_files(path, &key).err().unwrap().to_string();
        assert!(error.starts_with(&format!("{path:?} ")), "{error}");
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    let error = Tls::from_pem_files(&good, &good).err().unwrap();
    assert!(matches!(error.kind(), TlsErrorKind::NoPrivateKey));
    assert!(
        error
            .to_string()
            .starts_with(&format!("{good:?} has no private key"))
    );
    let error = std::io::Error::from(Tls::from_pem_files("/absent", &key).err().unwrap());
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);

    let error = Tls::builder().build().err().unwrap();
    assert!(matches!(error.kind(), TlsErrorKind::NoPairs));
}

#[cfg(target_os = "linux")]
#[test]
fn an_endless_file_is_rejected() {
    let error = Tls::from_pem_files("/dev/zero", "/dev/zero").err().unwrap();
    assert!(matches!(error.kind(), TlsErrorKind::TooLarge));
}

#[test]
fn unusable_keys_are_rejected() {
    let issued = Issued::by_itself(params(&["example.org"]));
    let other = Issued::by_itself(params(&["example.org"]));
    let pkcs8 =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,9D\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (key, expected) in [
        ("", "the PEM of key 1 has no private key"),
        (&*issued.pem(), "the PEM of key 1 has no private key"),
        (pkcs8, "the PEM of key 1 has an encrypted private key"),
        (older, "the PEM of key 1 has an encrypted private key"),
        (garbage, "that is malformed or not supported"),
        ("\u{30}\u{82}\u{1}", "the PEM of key 1 is DER or PKCS#12"),
        (
            &other.key_pem(),
            "does not belong to the certificate in the PEM of certificate 1",
        ),
    ] {
        // The first bytes of DER are no UTF-8.
        let key: Vec<u8> = key
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect();
        let error = message(issued.pem(), key);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn unusable_certificates_are_rejected() {
    let ca = Issued::by_itself(ca_params("ca"));
    let issued = Issued::by(&ca, params(&["example.org"]));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (
            issued.key_pem(),
            "the PEM of certificate 1 has no certificate",
        ),
        (garbage.to_owned(), "has a malformed certificate"),
        (issued.pem() + garbage, "has a malformed certificate"),
        (
            ca.pem() + &issued.pem(),
            "the certificate of the private key at position 2",
        ),
    ];
    for (certificate, expected) in cases {
        let error = message(certificate, issued.key_pem());
        assert!(error.contains(expected), "{error}");
    }
    let builder = || Tls::builder().certificate_pem(issued.pem() + &ca.pem(), issued.key_pem());
    for (pem, expected) in [
        ("", "the PEM of the client CA has no certificate"),
        (
            garbage,
            "the PEM of the client CA has a malformed certificate",
        ),
    ] {
        let error = builder().client_ca_pem(pem, ClientCertificates::Optional);
        let error = error.build().err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_certificate_that_is_not_valid_now_is_accepted_at_start() {
    for (params, is_expired) in [(expired(), true), (not_yet_valid(), false)] {
        let tls = Issued::by_itself(params).tls();
        let certificate = &tls.certificates()[0];
        assert!(!certificate.is_valid_now());
        assert_eq!(certificate.is_expired(), is_expired);
        assert!(Client::new().connect(&tls, "example.org").is_ok());
    }
}

#[test]
fn certificates_display_their_names_and_expiry() {
    for (names, expected) in [
        (&[][..], "a certificate without names, valid until "),
        (&["example.org"], "example.org, valid until "),
        (&["127.0.0.1"], "127.0.0.1, valid until "),
        (
            &["::1", "example.org"],
            "example.org and 1 more name, valid until ",
        ),
        (&["a", "b", "*.c.d"], "a and 2 more names, valid until "),
    ] {
        let mut params = params(names);
        params.not_after = rcgen::date_time_ymd(2101, 2, 3);
        let issued = Issued::by_itself(params);
        let tls = issued.tls();
        let certificate = &tls.certificates()[0];
        assert_eq!(
            certificate.to_string(),
            format!("{expected}2101-02-03 00:00:00 UTC")
        );
        assert_eq!(certificate.der(), issued.der());
        assert_eq!(certificate.expiry_seconds(), 4_136_832_000);
        assert!(certificate.is_valid_now());
        let hash = certificate.fingerprint();
        assert_eq!(hash.len(), 32 * 3 - 1);
        assert!(!format!("{tls:?}").contains("PRIVATE"));
    }
}

#[test]
fn the_debug_output_of_a_builder_has_no_key() {
    let issued = Issued::by_itself(params(&["example.org"]));
    let builder = Tls::builder().certificate_pem(issued.pem(), issued.key_pem());
    let debug = format!("{builder:?}");
    assert!(
        debug.contains("the PEM of key 1") && debug.len() < 300,
        "{debug}"
    );
}
