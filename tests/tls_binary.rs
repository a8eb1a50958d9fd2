//! The server binary with TLS, as a process: announcements, certificates by name, reloads, warnings and metrics.

#![cfg(all(feature = "serve", feature = "tls"))]

mod common;

use common::process::{self, Process, WSLOOP};
use common::unix::TempPath;
use common::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tungstenite::{Message as Sent, WebSocket};
use wsloop::rustls;

/// A CA that issues the certificates of a test, and the directory of their files.
struct Ca {
    dir: TempPath,
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = TempPath::new(name);
        fs::create_dir(&dir.0).unwrap();
        fs::write(dir.0.join("ca.pem"), certificate.pem()).unwrap();
        Self {
            dir,
            params,
            key,
            der: certificate.der().clone(),
        }
    }

    /// Returns a path in the directory.
    fn path(&self, file: &str) -> String {
        self.dir.0.join(file).to_str().unwrap().to_owned()
    }

    /// Writes NAME.pem and NAME.key with a certificate for `names` and `days` from now, which can be negative.
    fn issue(&self, name: &str, names: &[&str], days: i64) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let distance = Duration::from_secs(days.unsigned_abs() * 86_400);
        params.not_after = match days < 0 {
            true => SystemTime::now() - distance,
            false => SystemTime::now() + distance,
        }
        .into();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Returns a client that trusts the CA. With `name`, the client has the certificate in NAME.pem.
    fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(self.path(&format!("{name}.pem")));
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
                let chain = vec![chain.unwrap()];
                builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
            }
        })
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir.0);
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Starts `wsloop ARGS` and waits for its first URL. Returns the process and the URL.
fn start(args: &[&str]) -> (Process, String) {
    let mut command = Command::new(WSLOOP);
    let mut process = Process::new(command.args(args));
    let url = next_url(&process);
    let addr = url.split_once("://").map(|(_, rest)| rest);
    if let Some(addr) = addr.and_then(|addr| addr.split_once('/')) {
        process.addr = addr.0.parse().unwrap();
    }
    (process, url)
}

fn next_url(process: &Process) -> String {
    let line = process.out.recv_timeout(WAIT).expect("an announcement");
    let (_, url) = line.split_once(" on ").expect(&line);
    url.to_owned()
}

fn tls(process: &Process, client: &Arc<ClientConfig>, name: &str) -> Tls {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let socket = TcpStream::connect(process.addr).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    StreamOwned::new(connection, socket)
}

/// Connects to `wss://NAME/`.
fn connect_tls(
    process: &Process,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<WebSocket<Tls>, String> {
    let stream = tls(process, client, name);
    match tungstenite::client(format!("wss://{name}/"), stream) {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(error.to_string()),
    }
}

fn check_echo(socket: &mut WebSocket<Tls>, text: &str) {
    socket.send(Sent::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Sent::text(text));
}

/// Returns the certificate that the server sent.
fn certificate(socket: &WebSocket<Tls>) -> CertificateDer<'static> {
    let chain = socket.get_ref().conn.peer_certificates();
    chain.unwrap()[0].clone().into_owned()
}

#[test]
fn a_listener_with_tls_serves_websockets_and_the_page() {
    let ca = Ca::new("serves");
    ca.issue("a", &["localhost"], 90);
    let (cert, key) = (ca.path("a.pem"), ca.path("a.key"));
    let args = ["echo", "-l", "tls:127.0.0.1:0", "-l", "127.0.0.1:0"];
    let args = [&args[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    let (process, url) = start(&args);
    assert_eq!(url, format!("wss://{}/", process.addr));
    assert!(next_url(&process).starts_with("ws://127.0.0.1:"));
    let line = process.logged("TLS certificate: ");
    assert!(line.contains("localhost, valid until "), "{line}");
    process.logged(&format!("page is at https://{}/", process.addr));
    let client = ca.client(None);
    check_echo(
        &mut connect_tls(&process, &client, "localhost").unwrap(),
        "hello",
    );
    let mut stream = tls(&process, &client, "localhost");
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    let page = String::from_utf8_lossy(&page);
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("<title>wsloop</title>"));
    // The browser's page sends its origin, with https.
    let request = upgrade_request("/").replace(
        "\r\n\r\n",
        &format!("\r\nOrigin: https://{}\r\n\r\n", process.addr),
    );
    let mut stream = tls(&process, &client, "localhost");
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}

#[test]
fn every_form_of_a_listener_is_announced() {
    let ca = Ca::new("forms");
    ca.issue("a", &["localhost"], 90);
    let both = ca.path("both.pem");
    let read = |file| fs::read(ca.path(file)).unwrap();
    fs::write(&both, [read("a.pem"), read("a.key")].concat()).unwrap();
    let unix = format!("tls:unix:{}", ca.path("socket"));
    let args = [
        "echo",
        "-l=tls:127.0.0.1:0",
        "-l=metrics:tls:127.0.0.1:0",
        "-l",
        &unix,
        "--tls-cert",
        &both,
    ];
    let (process, url) = start(&args);
    assert!(url.starts_with("wss://127.0.0.1:"));
    assert!(next_url(&process).starts_with("https://127.0.0.1:"));
    assert_eq!(
        next_url(&process),
        format!("wss+unix:{}", ca.path("socket"))
    );
    if cfg!(feature = "proxy-protocol") {
        let args = ["echo", "-l=proxy:tls:127.0.0.1:0", "--tls-cert", &both];
        let (process, url) = start(&args);
        assert_eq!(url, format!("wss://{}/ (PROXY protocol)", process.addr));
        let mut socket = TcpStream::connect(process.addr).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        socket
            .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 443\r\n")
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(ca.client(None), name).unwrap();
        let stream = StreamOwned::new(connection, socket);
        let (mut client, _) = tungstenite::client("wss://localhost/", stream).unwrap();
        check_echo(&mut client, "behind a proxy");
        process.logged("192.0.2.7:1000");
    }
}

#[test]
fn certificates_are_selected_by_name() {
    let ca = Ca::new("names");
    ca.issue("a", &["a.test"], 90);
    ca.issue("b", &["*.b.test"], 90);
    let [a, a_key, b, b_key] = ["a.pem", "a.key", "b.pem", "b.key"].map(|file| ca.path(file));
    let (process, _) = start(&[
        "echo",
        "-l=tls:127.0.0.1:0",
        "--host=*",
        "--tls-cert",
        &a,
        "--tls-cert",
        &b,
        "--tls-key",
        &a_key,
        "--tls-key",
        &b_key,
    ]);
    let client = ca.client(None);
    for name in ["a.test", "x.b.test", "X.B.Test"] {
        check_echo(&mut connect_tls(&process, &client, name).unwrap(), name);
    }
    let error = connect_tls(&process, &client, "c.test").unwrap_err();
    assert!(error.contains("a.test"), "{error}");
}

#[test]
fn client_certificates_and_the_version_are_demanded() {
    let ca = Ca::new("clients");
    ca.issue("a", &["localhost"], 90);
    ca.issue("client", &["client"], 90);
    let [cert, key, authority] = ["a.pem", "a.key", "ca.pem"].map(|file| ca.path(file));
    let args = [
        "echo",
        "-l=tls:127.0.0.1:0",
        "--tls-min=1.3",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-client-ca",
        &authority,
    ];
    let with = ca.client(Some("client"));
    let without = ca.client(None);
    let (process, _) = start(&args);
    check_echo(
        &mut connect_tls(&process, &with, "localhost").unwrap(),
        "with",
    );
    assert!(connect_tls(&process, &without, "localhost").is_err());
    let line = process.logged(" refused");
    assert!(line.contains(" refused: TLS failed: "), "{line}");
    let (process, _) = start(&[&args[..], &["--tls-client-optional"]].concat());
    for client in [&with, &without] {
        let mut socket = connect_tls(&process, client, "localhost").unwrap();
        check_echo(&mut socket, "optional");
        let version = socket.get_ref().conn.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn sighup_reloads_the_certificates_and_open_sessions_continue() {
    let ca = Ca::new("sighup");
    ca.issue("a", &["localhost"], 30);
    let (cert, key) = (ca.path("a.pem"), ca.path("a.key"));
    let args = ["echo", "-l=tls:127.0.0.1:0", "--metrics=/metrics"];
    let args = [&args[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    let (mut process, _) = start(&args);
    let client = ca.client(None);
    let mut open = connect_tls(&process, &client, "localhost").unwrap();
    let old = certificate(&open);

    process.signal("HUP");
    process.logged("reloaded TLS certificate, unchanged: localhost, valid until ");

    ca.issue("a", &["localhost"], 90);
    process.signal("HUP");
    let line = process.logged("reloaded TLS certificate: localhost, valid until ");
    assert!(line.contains("; before: localhost, valid until "), "{line}");
    // Without a ticket, so that the server sends its certificate.
    let renewed = connect_tls(&process, &ca.client(None), "localhost").unwrap();
    let new = certificate(&renewed);
    assert!(new != old && *new == *CertificateDer::from_pem_file(&cert).unwrap());
    check_echo(&mut open, "still open");
    let mut resumed = connect_tls(&process, &client, "localhost").unwrap();
    check_echo(&mut resumed, "resumed");
    let kind = resumed.get_ref().conn.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));

    // A half-written pair, a broken file, and one that is absent.
    let last = fs::read_to_string(&cert).unwrap();
    ca.issue("b", &["localhost"], 90);
    fs::copy(ca.path("b.pem"), &cert).unwrap();
    for part in [
        "does not belong to the certificate",
        "is not valid PEM",
        "cannot be read: No such file",
    ] {
        process.signal("HUP");
        let line = process.logged("TLS certificates not reloaded");
        assert!(line.contains(part) && line.contains("/a."), "{line}");
        let socket = connect_tls(&process, &ca.client(None), "localhost").unwrap();
        assert!(certificate(&socket) == new);
        if part.starts_with("does") {
            fs::write(&cert, &last[..last.len() / 2]).unwrap();
        } else if part.starts_with("is") {
            fs::remove_file(&cert).unwrap();
        }
    }
    check_echo(&mut open, "still open");
    process.signal("TERM");
    while open.read().is_ok() {}
    assert_eq!(process.code(), Some(0));
}

#[test]
fn without_files_of_certificates_sighup_ends_the_process_as_it_does_by_default() {
    // Processes inherit an ignored signal, for example from nohup.
    if is_hangup_ignored() {
        eprintln!("skipped: SIGHUP is ignored here");
        return;
    }
    let mut plain = Process::start(&["echo"]);
    plain.signal("HUP");
    assert_eq!(plain.code(), None);
    if cfg!(feature = "tls-self-signed") {
        let (mut process, _) = start(&["echo", "-l=tls:127.0.0.1:0", "--tls-self-signed"]);
        process.signal("HUP");
        assert_eq!(process.code(), None);
    }
}

/// Returns whether this process ignores SIGHUP. Returns `false` on a system without Linux's `/proc`.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 1 == 1)
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_ends_the_process() {
    let ca = Ca::new("unusable");
    ca.issue("a", &["localhost"], 90);
    ca.issue("b", &["localhost"], 90);
    let [a, b_key, absent] = ["a.pem", "b.key", "absent.pem"].map(|file| ca.path(file));
    let listen = "-l=tls:127.0.0.1:0";
    for (args, expected) in [
        (
            &["--tls-cert", &absent][..],
            format!("{absent:?} cannot be read: No such file"),
        ),
        (&["--tls-cert", &a], format!("{a:?} has no private key")),
        (
            &["--tls-cert", &a, "--tls-key", &b_key],
            format!("{b_key:?} has a private key that does not belong to the certificate in {a:?}"),
        ),
    ] {
        let (code, out, error) = process::output(&[&["echo", listen], args].concat());
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(error.starts_with(&format!("wsloop: {expected}")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn certificates_that_expire_are_logged_and_in_the_metrics() {
    let ca = Ca::new("expiry");
    ca.issue("old", &["old.test"], -1);
    ca.issue("soon", &["soon.test", "*.soon.test"], 13);
    ca.issue("late", &["late.test"], 15);
    let files = ["old", "soon", "late"].map(|name| {
        [
            format!("--tls-cert={}", ca.path(&format!("{name}.pem"))),
            format!("--tls-key={}", ca.path(&format!("{name}.key"))),
        ]
    });
    let files: Vec<_> = files.iter().flatten().map(|flag| &**flag).collect();
    let args = ["echo", "-l=metrics:127.0.0.1:0", "-l=tls:127.0.0.1:0"];
    let (process, _) = start(&[&args[..], &files].concat());
    let line = process.logged("TLS certificate has expired");
    assert!(line.contains("old.test, valid until "), "{line}");
    let line = process.logged("TLS certificate expires within 14 days");
    assert!(
        line.contains("soon.test and 1 more name, valid until "),
        "{line}"
    );
    let line = process.log.recv_timeout(WAIT).unwrap();
    assert!(!line.contains("late.test"), "{line}");

    let text = http(
        process.addr,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .body;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.unwrap().as_secs()).unwrap();
    for (name, days) in [("old", -1), ("soon", 13), ("late", 15)] {
        let start =
            format!("wsloop_tls_certificate_expiry_timestamp_seconds{{name=\"{name}.test\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        let value: i64 = value.expect(&text).parse().unwrap();
        assert!((value - now - days * 86_400).abs() < 60, "{text}");
    }
}

#[cfg(feature = "tls-self-signed")]
#[test]
fn a_self_signed_certificate_is_for_the_hosts_of_the_server() {
    let args = ["echo", "-l=tls:127.0.0.1:0", "--tls-self-signed"];
    let (process, _) = start(&[&args[..], &["--host=Example.org:8443"]].concat());
    let line = process.logged("SHA-256 fingerprint is ");
    let (_, fingerprint) = line.rsplit_once(' ').unwrap();
    assert_eq!(fingerprint.split(':').count(), 32, "{line}");
    assert!(line.contains("localhost and 3 more names"), "{line}");
    let line = process.log.recv_timeout(WAIT).unwrap();
    assert!(line.contains("page is at https://"), "{line}");
    let ca = Ca::new("self-signed");
    let error = connect_tls(&process, &ca.client(None), "localhost").unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn the_flags_have_variables() {
    let ca = Ca::new("variables");
    ca.issue("a", &["localhost"], 90);
    let mut command = Command::new(WSLOOP);
    command
        .env("WSLOOP_LISTEN", "tls:127.0.0.1:0 127.0.0.1:0")
        .env("WSLOOP_TLS_CERT", ca.path("a.pem"))
        .env("WSLOOP_TLS_KEY", ca.path("a.key"))
        .env("WSLOOP_TLS_MIN", "1.3");
    let process = Process::new(&mut command);
    assert!(next_url(&process).starts_with("wss://"));
}

/// Returns the blocks of shell commands in the guide that contain `part`.
fn guide(part: &str) -> Vec<&'static str> {
    let guide = include_str!("../src/guide/tls.md");
    let blocks = guide.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks.filter(|block| block.contains(part)).collect()
}

/// Runs a shell script in a directory, with that directory first in the path of commands.
fn shell(script: &str, dir: &str, variables: &[(&str, &str)]) {
    let path = format!("{dir}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).current_dir(dir);
    let output = command
        .env("PATH", path)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{stderr}");
}

/// The guide's commands need openssl. Without it, this test does nothing; `src/cli/args/tests/tls.rs` tests the arguments
/// of the guide's `wsloop` commands.
#[test]
fn the_certificates_that_the_guide_makes_are_used() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let ca = Ca::new("guide");
    let dir = ca.path("");
    let blocks = guide("openssl ");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        shell(block, &dir, &[]);
    }
    let [cert, key, authority] = ["server.pem", "server.key", "ca.pem"].map(|file| ca.path(file));
    let flags = ["--tls-cert", &cert, "--tls-key", &key];
    let more = ["--tls-client-ca", &authority];
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let (process, _) = start(&[&["echo", "-l=tls:127.0.0.1:0"], &flags[..]].concat());
    let client = Arc::new(builder().with_no_client_auth());
    for name in ["localhost", "127.0.0.1"] {
        check_echo(&mut connect_tls(&process, &client, name).unwrap(), name);
    }
    let args = [&["echo", "-l=tls:127.0.0.1:0"], &flags[..], &more].concat();
    let (process, _) = start(&args);
    assert!(connect_tls(&process, &client, "localhost").is_err());
    let chain = vec![CertificateDer::from_pem_file(ca.path("device.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(ca.path("device.key")).unwrap();
    let device = Arc::new(builder().with_client_auth_cert(chain, key).unwrap());
    check_echo(
        &mut connect_tls(&process, &device, "localhost").unwrap(),
        "device",
    );
}

#[test]
fn the_deploy_hook_of_the_guide_reloads_the_certificate() {
    let ca = Ca::new("hook");
    let lineage = ca.path("live");
    let etc = ca.path("etc");
    for dir in [&lineage, &etc] {
        fs::create_dir(dir).unwrap();
    }
    let renew = || {
        ca.issue("a", &["localhost"], 90);
        fs::copy(ca.path("a.pem"), format!("{lineage}/fullchain.pem")).unwrap();
        fs::copy(ca.path("a.key"), format!("{lineage}/privkey.pem")).unwrap();
    };
    let hook = guide("renewal-hooks")[0]
        .replace("/etc/wsloop/", &format!("{etc}/"))
        .replace("-g ssl-cert ", "");
    let run = |pid: u32| {
        let systemctl = format!("#!/bin/sh\n[ \"$*\" = 'reload wsloop' ] && kill -HUP {pid}\n");
        fs::write(ca.path("systemctl"), systemctl).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(ca.path("systemctl"), executable).unwrap();
        shell(&hook, &ca.path(""), &[("RENEWED_LINEAGE", &lineage)]);
    };
    renew();
    fs::copy(
        format!("{lineage}/fullchain.pem"),
        format!("{etc}/fullchain.pem"),
    )
    .unwrap();
    fs::copy(
        format!("{lineage}/privkey.pem"),
        format!("{etc}/privkey.pem"),
    )
    .unwrap();
    let (cert, key) = (format!("{etc}/fullchain.pem"), format!("{etc}/privkey.pem"));
    let args = [
        "echo",
        "-l=tls:127.0.0.1:0",
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let (process, _) = start(&args);
    renew();
    run(process.child.id());
    process.logged("reloaded TLS certificate: localhost, valid until ");
    let socket = connect_tls(&process, &ca.client(None), "localhost").unwrap();
    let renewed = CertificateDer::from_pem_file(ca.path("a.pem")).unwrap();
    assert!(certificate(&socket) == renewed);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}
