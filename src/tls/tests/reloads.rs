//! Tests reloads and replacements of certificates.

use super::files::Dir;
use super::*;
use rustls::version::{TLS12, TLS13};
use std::thread;

struct Files {
    dir: Dir,
    tls: Tls,
}

impl Files {
    fn new(name: &str, issued: &Issued) -> Self {
        let dir = Dir::new(name);
        let certificate = dir.write("cert.pem", issued.pem());
        let key = dir.write("key.pem", issued.key_pem());
        let tls = Tls::from_pem_files(certificate, key).unwrap();
        Self { dir, tls }
    }

    fn write(&self, issued: &Issued) {
        self.dir.write("cert.pem", issued.pem());
        self.dir.write("key.pem", issued.key_pem());
    }

    fn is_with(&self, issued: &Issued) -> bool {
        let connected = Client::new().connect(&self.tls, "example.org");
        connected.unwrap().is_with(issued)
    }
}

fn issue() -> Issued {
    Issued::by_itself(params(&["example.org"]))
}

#[test]
fn a_reload_uses_new_files_for_new_connections() {
    let [old, new] = [issue(), issue()];
    let files = Files::new("reload", &old);
    let before = files.tls.clone();
    assert!(!files.tls.reload().unwrap().is_changed());
    files.write(&new);
    assert!(files.is_with(&old));
    let reload = files.tls.reload().unwrap();
    assert!(reload.is_changed());
    assert_eq!(reload.before[0].der(), old.der());
    assert_eq!(reload.after[0].der(), new.der());
    assert!(files.is_with(&new));
    assert_eq!(before.certificates()[0].der(), new.der());
}

#[cfg(unix)]
#[test]
fn a_reload_does_not_wait_for_a_pipe_in_place_of_a_file() {
    let issued = issue();
    for name in ["cert.pem", "key.pem"] {
        let files = Files::new("pipe", &issued);
        let path = files.dir.write(name, "");
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let error = files.tls.reload().unwrap_err().to_string();
        let expected = format!(
            "{path:?} cannot be read: it is not a regular file, and a reload would wait for it"
        );
        assert_eq!(error, expected);
        assert!(files.is_with(&issued));
    }
}

#[test]
fn an_open_session_continues_after_a_reload() {
    let [old, new] = [issue(), issue()];
    let files = Files::new("open", &old);
    let mut open = Client::new().connect(&files.tls, "example.org").unwrap();
    files.write(&new);
    files.tls.reload().unwrap();
    open.client.writer().write_all(b"more").unwrap();
    let mut bytes = Vec::new();
    open.client.write_tls(&mut bytes).unwrap();
    open.server.read_tls(&mut &*bytes).unwrap();
    open.server.process_new_packets().unwrap();
    let mut text = [0; 4];
    open.server.reader().read_exact(&mut text).unwrap();
    assert_eq!(text, *b"more");
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let [old, new] = [issue(), issue()];
    let files = Files::new("failed", &old);
    let half = &new.pem()[..300];
    for (certificate, key, expected) in [
        (&*new.pem(), &*old.key_pem(), "does not belong"),
        (&old.pem(), &new.key_pem(), "does not belong"),
        (half, &new.key_pem(), "not valid PEM"),
        ("", &new.key_pem(), "no certificate"),
        (&new.pem(), "", "no private key"),
        (&new.pem(), &new.key_pem()[..100], "not valid PEM"),
    ] {
        files.dir.write("cert.pem", certificate);
        files.dir.write("key.pem", key);
        let error = files.tls.reload().err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(files.is_with(&old));
    }
    std::fs::remove_file(files.dir.path().join("cert.pem")).unwrap();
    assert!(files.tls.reload().is_err() && files.is_with(&old));
    files.write(&new);
    assert!(files.tls.reload().is_ok() && files.is_with(&new));
}

#[test]
fn a_reload_with_one_bad_pair_of_several_changes_none() {
    let dir = Dir::new("several");
    let old = [issue(), Issued::by_itself(params(&["example.com"]))];
    let mut builder = Tls::builder();
    for (index, one) in old.iter().enumerate() {
        let both = dir.write(&index.to_string(), one.pem() + &one.key_pem());
        builder = builder.certificate_files(&both, &both);
    }
    let tls = builder.build().unwrap();
    let new = issue();
    dir.write("0", new.pem() + &new.key_pem());
    dir.write("1", "");
    assert!(tls.reload().is_err());
    let connected = Client::new().connect(&tls, "example.org").unwrap();
    assert!(connected.is_with(&old[0]));
}

#[test]
fn a_valid_certificate_is_not_replaced_by_one_that_is_not_valid_now() {
    let old = issue();
    let files = Files::new("expired", &old);
    for (params, expected) in [
        (
            expired(),
            "has a certificate that expired 2001-02-03 00:00:00 UTC",
        ),
        (
            not_yet_valid(),
            "has a certificate that is not valid before 3000-01-01 00:00:00 UTC",
        ),
    ] {
        files.write(&Issued::by_itself(params));
        let error = files.tls.reload().err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("cert.pem"), "{error}");
        assert!(files.is_with(&old));
    }
    // An expired certificate can be replaced by another expired one.
    let [old, new] = [(); 2].map(|()| Issued::by_itself(expired()));
    let files = Files::new("both-expired", &old);
    files.write(&new);
    assert!(files.tls.reload().is_ok() && files.is_with(&new));
}

#[test]
fn tickets_stay_valid_over_reloads_and_replacements() {
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let [old, new] = [issue(), issue()];
        let files = Files::new("tickets", &old);
        let client = Client::with_versions(versions);
        let connect = || client.connect(&files.tls, "example.org").unwrap();
        assert!(!connect().is_resumed());
        files.write(&new);
        files.tls.reload().unwrap();
        assert!(connect().is_resumed());
        let builder = Tls::builder().certificate_pem(old.pem(), old.key_pem());
        files.tls.replace(builder).unwrap();
        assert!(connect().is_resumed());
    }
}

#[test]
fn tickets_end_with_a_change_of_the_accepted_clients() {
    let ca = Issued::by_itself(ca_params("ca"));
    let other = Issued::by_itself(ca_params("other"));
    let server = issue();
    let client = Client::with_certificate(&Issued::by(&ca, params(&["client"])));
    let dir = Dir::new("clients");
    let path = dir.write("ca.pem", ca.pem());
    let builder = |need| {
        Tls::builder()
            .certificate_pem(server.pem(), server.key_pem())
            .client_ca_file(&path, need)
    };
    let tls = builder(ClientCertificates::Required).build().unwrap();
    assert!(!client.connect(&tls, "example.org").unwrap().is_resumed());
    tls.reload().unwrap();
    assert!(client.connect(&tls, "example.org").unwrap().is_resumed());
    dir.write("ca.pem", other.pem());
    tls.reload().unwrap();
    // The ticket would resume a session of a client that is no longer accepted.
    assert!(client.connect(&tls, "example.org").is_err());

    dir.write("ca.pem", ca.pem());
    let tls = builder(ClientCertificates::Optional).build().unwrap();
    let anonymous = Client::new();
    assert!(anonymous.connect(&tls, "example.org").is_ok());
    tls.replace(builder(ClientCertificates::Required)).unwrap();
    assert!(anonymous.connect(&tls, "example.org").is_err());
}

#[test]
fn a_replacement_has_other_certificates_and_files() {
    let [old, new] = [issue(), issue()];
    let tls = old.tls();
    let other = Files::new("replacement", &new);
    let bad = Tls::builder().certificate_pem(old.pem(), new.key_pem());
    assert!(tls.replace(bad).is_err());
    assert_eq!(tls.certificates()[0].der(), old.der());
    let path = |name| other.dir.path().join(name);
    let builder = Tls::builder().certificate_files(path("cert.pem"), path("key.pem"));
    assert!(tls.replace(builder).unwrap().is_changed());
    other.write(&old);
    let reload = tls.reload().unwrap();
    assert_eq!(reload.before[0].der(), new.der());
    assert_eq!(reload.after[0].der(), old.der());
}

#[test]
fn a_configuration_of_rustls_is_used_as_it_is_and_is_not_reloadable() {
    let [one, other] = [issue(), issue()];
    let is_with = |tls: &Tls, issued| {
        let connected = Client::new().connect(tls, "example.org");
        connected.unwrap().is_with(issued)
    };
    let tls = Tls::from_config(one.tls().current());
    assert!(is_with(&tls, &one) && tls.certificates().is_empty());
    let error = tls.reload().err().unwrap();
    assert!(matches!(error.kind(), TlsErrorKind::NotReloadable));
    tls.replace_config(other.tls().current());
    assert!(is_with(&tls, &other));
    let issued = issue();
    let builder = Tls::builder().certificate_pem(issued.pem(), issued.key_pem());
    assert_eq!(tls.replace(builder).unwrap().before.len(), 0);
    assert!(tls.reload().is_ok());
}

#[test]
fn reloads_and_connections_on_several_threads_see_whole_configurations() {
    let [one, two] = [issue(), issue()];
    let files = Files::new("threads", &one);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let _ = files.tls.reload();
                }
            });
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(files.is_with(&one) || files.is_with(&two));
                }
            });
        }
        for issued in [&two, &one, &two] {
            files.write(issued);
        }
    });
    files.tls.reload().unwrap();
    assert!(files.is_with(&two));
}
