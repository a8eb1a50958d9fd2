//! Runs `wsloop connect` and `wsloop bench` with `wss://` URLs as processes, against servers that speak TLS, violate its
//! protocol, or do not speak TLS.

#![cfg(all(feature = "bench", feature = "connect", feature = "tls-client"))]

mod common;

use common::process::{Process, WSLOOP};
use common::tls::*;
use common::*;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

/// Runs `wsloop` to its end, with `input` on stdin.
fn run_with(args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(WSLOOP)
        .args(args)
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // The client may exit before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `wsloop connect -x hi`, and checks that the server returns "hi". Returns stderr.
fn greeted(url: &str, args: &[&str]) -> String {
    let output = run_with(&[&["connect", "-x", "hi", url], args].concat(), &[], b"");
    let err = text(&output.stderr);
    let result = (output.status.code(), text(&output.stdout));
    assert_eq!(result, (Some(0), "hi\n".to_owned()), "{url}: {err}");
    err
}

/// Runs `wsloop connect -x hi`, and checks that it fails. Returns stderr without the prefix "wsloop: ".
fn failure(url: &str, args: &[&str]) -> String {
    let output = run_with(&[&["connect", "-x", "hi", url], args].concat(), &[], b"");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{url}: {err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    err.strip_prefix("wsloop: ")
        .expect(&err)
        .trim_end()
        .to_owned()
}

fn url(addr: SocketAddr) -> String {
    format!("wss://{addr}/")
}

mod certificates {
    use super::*;

    #[test]
    fn a_server_of_a_given_authority_is_accepted_by_name_and_by_address() {
        let authority = Authority::new();
        let names = ["localhost", "127.0.0.1"];
        let ca = ["--ca", &authority.file];
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let addr = tls_echo(authority.issue(&names).config_of(versions));
            assert_eq!(greeted(&url(addr), &ca), "");
            let by_name = format!("wss://localhost:{}/", addr.port());
            assert_eq!(greeted(&by_name, &ca), "");
        }
    }

    #[test]
    fn the_authorities_of_the_system_are_those_of_the_variables() {
        let authority = Authority::new();
        let addr = tls_echo(authority.issue(&["127.0.0.1"]).config());
        let url = url(addr);
        let variables = [("SSL_CERT_FILE", &*authority.file)];
        let output = run_with(&["connect", "-x", "hi", &url], &variables, b"");
        assert_eq!(text(&output.stdout), "hi\n", "{}", text(&output.stderr));
        // `--ca` replaces the authorities of the variables, as with curl.
        let other = Authority::new();
        let args = ["connect", "-x", "hi", "--ca", &other.file, &url];
        let err = text(&run_with(&args, &variables, b"").stderr);
        assert!(err.contains("unknown authority"), "{err}");
        let none = authority.write("none", "");
        let variables = [("SSL_CERT_FILE", &*none), ("SSL_CERT_DIR", "")];
        let err = text(&run_with(&["connect", "-x", "hi", &url], &variables, b"").stderr);
        assert!(
            err.contains("no certificates of authorities") && err.contains("--ca"),
            "{err}"
        );
    }

    #[test]
    fn an_invalid_certificate_is_refused_with_its_reason() {
        let authority = Authority::new();
        let ca = ["--ca", &authority.file];
        let (first, second) = (
            rcgen::date_time_ymd(2020, 1, 1),
            rcgen::date_time_ymd(2021, 2, 3),
        );
        let far = rcgen::date_time_ymd(2999, 1, 1);
        let expired = authority.issue_with(&["127.0.0.1"], |params| {
            (params.not_before, params.not_after) = (first, second);
        });
        let future = authority.issue_with(&["127.0.0.1"], |params| {
            (params.not_before, params.not_after) = (far, rcgen::date_time_ymd(2999, 2, 1));
        });
        let client_only = authority.issue_with(&["127.0.0.1"], |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        let start = "the TLS handshake failed: the server's certificate ";
        let table: [(Identity, &str); 8] = [
            (expired, "expired on Wed, 03 Feb 2021 00:00:00 GMT"),
            (
                future,
                "is not valid before Tue, 01 Jan 2999 00:00:00 GMT; check the clock of this machine",
            ),
            (
                authority.issue(&["a.example", "*.b.example", "127.0.0.2"]),
                "is for a.example, *.b.example, 127.0.0.2, and not for 127.0.0.1",
            ),
            (
                authority.issue(&["a", "b", "c", "d", "e", "f", "g"]),
                "is for a, b, c, d, e and 2 more names, and not for 127.0.0.1",
            ),
            (
                authority.issue(&[]),
                "is for no name, and not for 127.0.0.1",
            ),
            (client_only, "is not for servers"),
            (
                Authority::new().issue(&["127.0.0.1"]),
                "is issued by an unknown authority; trust it with --ca FILE, or accept every certificate with --insecure",
            ),
            (
                Identity::self_signed(&["127.0.0.1"]),
                "is issued by an unknown authority; trust it with --ca FILE, or accept every certificate with --insecure",
            ),
        ];
        for (identity, expected) in table {
            for versions in [&[&TLS12][..], &[&TLS13]] {
                let addr = tls_echo(identity.config_of(versions));
                assert_eq!(failure(&url(addr), &ca), format!("{start}{expected}"));
                let warning = greeted(&url(addr), &["--insecure"]);
                assert_eq!(
                    warning,
                    "wsloop: --insecure: every certificate is accepted\n"
                );
            }
        }
    }

    #[test]
    fn a_self_signed_certificate_is_trusted_as_its_own_authority() {
        let authority = Authority::new();
        for is_ca in [true, false] {
            let identity = Identity::self_signed_with(&["127.0.0.1", "a.example"], |params| {
                if !is_ca {
                    params.is_ca = rcgen::IsCa::NoCa;
                }
            });
            let file = authority.write("self.pem", &identity.pem.0);
            for versions in [&[&TLS12][..], &[&TLS13]] {
                let addr = tls_echo(identity.config_of(versions));
                assert_eq!(greeted(&url(addr), &["--ca", &file]), "");
                let by_name = format!("wss://localhost:{}/", addr.port());
                let err = failure(&by_name, &["--ca", &file]);
                assert!(
                    err.ends_with("is for 127.0.0.1, a.example, and not for localhost"),
                    "{err}"
                );
            }
        }
        let expired = Identity::self_signed_with(&["127.0.0.1"], |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 2, 3);
        });
        let file = authority.write("self.pem", &expired.pem.0);
        let err = failure(&url(tls_echo(expired.config())), &["--ca", &file]);
        assert!(
            err.ends_with("expired on Wed, 03 Feb 2021 00:00:00 GMT"),
            "{err}"
        );
    }

    #[test]
    fn sni_is_the_host_of_the_url_and_absent_for_an_address() {
        let authority = Authority::new();
        let (send, names) = mpsc::channel();
        let config = authority.issue(&["localhost", "127.0.0.1"]).config();
        let addr = tls_server(config, move |mut tls| {
            let _ = tls.conn.complete_io(&mut tls.sock);
            send.send(tls.conn.server_name().map(str::to_owned))
                .unwrap();
            let _ = echo(tls);
        });
        let by_name = format!("wss://LOCALHOST:{}/", addr.port());
        for (url, args, expected) in [
            (&by_name, &["-H", "Host: a.example"][..], Some("localhost")),
            (&url(addr), &[], None),
        ] {
            greeted(url, &[&["--ca", &authority.file], args].concat());
            assert_eq!(names.recv().unwrap().as_deref(), expected);
        }
    }

    #[test]
    fn a_client_certificate_is_sent_if_the_server_asks_for_it() {
        let authority = Authority::new();
        let file = |name: &str, text: &str| authority.write(name, text);
        let (cert, key) = authority.issue(&["me"]).pem;
        let (own_cert, own_key) = (file("cert", &cert), file("key", &key));
        let both = file("both", &format!("{key}{cert}"));
        let (cert, key) = Identity::self_signed(&["me"]).pem;
        let other = file("other", &format!("{cert}{key}"));
        let server = authority.issue(&["127.0.0.1"]);
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let addr = tls_echo(server.config_for_clients_of(&authority, versions));
            let ca = ["--ca", &*authority.file];
            for args in [
                &["--cert", &own_cert, "--key", &own_key][..],
                &["--cert", &both],
            ] {
                assert_eq!(greeted(&url(addr), &[&ca, args].concat()), "");
            }
            let err = failure(&url(addr), &ca);
            let expected = "the server demands a client certificate: --cert FILE";
            assert!(err.contains(expected), "{err}");
            let err = failure(&url(addr), &[&ca[..], &["--cert", &other]].concat());
            assert!(
                err.contains("the server does not accept the client certificate"),
                "{err}"
            );
        }
    }

    #[test]
    fn unusable_files_are_reported() {
        let authority = Authority::new();
        let file = |name: &str, text: &[u8]| authority.write(name, text);
        let identity = authority.issue(&["127.0.0.1"]);
        let (cert, key) = (&identity.pem.0, &identity.pem.1);
        let cert_file = file("cert", cert.as_bytes());
        let key_file = file("key", key.as_bytes());
        let other_key = file("other-key", authority.issue(&["b"]).pem.1.as_bytes());
        let der = file("der", &identity.chain[0]);
        let damaged = file("damaged", cert.replacen("MII", "MIJ", 1).as_bytes());
        let table: [(&[&str], String); 9] = [
            (
                &["--ca", "/no/file"],
                "cannot read --ca \"/no/file\": ".into(),
            ),
            (&["--ca", "/"], "cannot read --ca \"/\": ".into()),
            (
                &["--ca", &key_file],
                format!("--ca {key_file:?} contains no certificate"),
            ),
            (
                &["--ca", &der],
                format!("--ca {der:?} contains no certificate in PEM format"),
            ),
            (
                &["--ca", &damaged],
                format!("--ca {damaged:?} contains a certificate that cannot be used: "),
            ),
            (
                &["--cert", "/no/file"],
                "cannot read --cert \"/no/file\": ".into(),
            ),
            (
                &["--cert", &cert_file],
                format!(
                    "--cert {cert_file:?} contains no private key in PEM format; add --key FILE"
                ),
            ),
            (
                &["--cert", &cert_file, "--key", &cert_file],
                format!("--key {cert_file:?} contains no private key"),
            ),
            (
                &["--cert", &cert_file, "--key", &other_key],
                format!("--key {other_key:?} is not the key of --cert {cert_file:?}"),
            ),
        ];
        for (args, expected) in table {
            let err = failure("wss://127.0.0.1:9/", args);
            assert!(err.starts_with(&expected), "{args:?}: {err}");
            let args = [&["bench", "wss://127.0.0.1:9/"], args].concat();
            let output = run_with(&args, &[], b"");
            assert_eq!(output.status.code(), Some(1));
            assert_eq!(text(&output.stderr), format!("wsloop: {err}\n"));
        }
    }
}

mod handshakes {
    use super::*;

    #[test]
    fn the_verbose_output_describes_the_connection() {
        let authority = Authority::new();
        let ca = ["--ca", &*authority.file, "-v"];
        let mut config = authority.issue(&["127.0.0.1"]).config_of(&[&TLS12]);
        let err = greeted(&url(tls_echo(config.clone())), &ca);
        assert!(err.contains("\n* TLS 1.2, TLS_ECDHE_ECDSA_WITH_"), "{err}");
        assert!(err.contains(", no ALPN, full handshake in "), "{err}");
        assert!(err.contains(" ms\n> GET / HTTP/1.1\n"), "{err}");
        config = authority.issue(&["127.0.0.1", "b.example"]).config();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let err = greeted(&url(tls_echo(config)), &ca);
        let start = err.find("* TLS 1.3, TLS_AES_").expect(&err);
        assert!(
            err[start..].contains(", ALPN http/1.1, full handshake in "),
            "{err}"
        );
    }

    #[test]
    fn a_failure_has_its_reason() {
        let authority = Authority::new();
        let alert = |level, description| vec![0x15, 3, 3, 0, 2, level, description];
        let aborted = |reason: &str| format!("the TLS handshake failed: {reason}");
        let plain = "the server does not speak TLS on this port; use ws:// instead of wss://";
        let table: [(Vec<u8>, String); 9] = [
            (
                alert(2, 70),
                aborted("the server accepts neither TLS 1.2 nor 1.3"),
            ),
            (
                alert(2, 40),
                aborted(
                    "the server accepts no cipher suite, or no other parameter, of this client",
                ),
            ),
            (
                alert(2, 120),
                aborted("the server does not accept http/1.1 as protocol (ALPN)"),
            ),
            (
                alert(2, 112),
                aborted("the server has no certificate for the host of the URL (SNI)"),
            ),
            (
                alert(2, 80),
                aborted("the server sent the alert InternalError"),
            ),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), aborted(plain)),
            (
                b"SSH-2.0-x\r\n".to_vec(),
                aborted("the server does not speak TLS on this port"),
            ),
            (
                vec![],
                aborted(
                    "the server ended the connection; if it does not speak TLS, use ws:// instead of wss://",
                ),
            ),
            (
                vec![0x16, 3, 3, 0, 4, 2, 0, 0, 9],
                aborted(
                    "the server ended the connection; if it does not speak TLS, use ws:// instead of wss://",
                ),
            ),
        ];
        for (answer, expected) in table {
            let addr = tcp_server(move |mut tcp| {
                let _ = tcp.read(&mut [0; 4096]);
                let _ = tcp.write_all(&answer);
            });
            assert_eq!(failure(&url(addr), &["--ca", &authority.file]), expected);
        }
    }

    #[test]
    fn a_scheme_that_does_not_match_the_server_is_reported() {
        let authority = Authority::new();
        let plain = Process::start(&["echo"]);
        let err = failure(&url(plain.addr), &["--ca", &authority.file]);
        assert!(err.ends_with("use ws:// instead of wss://"), "{err}");
        let addr = tls_echo(authority.issue(&["127.0.0.1"]).config());
        let expected = "the server speaks TLS on this port; use wss:// instead of ws://";
        assert_eq!(failure(&format!("ws://{addr}/"), &[]), expected);
        let args = ["bench", "-c", "1", &format!("ws://{addr}/")];
        let err = text(&run_with(&args, &[], b"").stderr);
        assert!(err.trim_end().ends_with(expected), "{err}");
    }

    #[test]
    fn a_server_for_http2_only_is_refused() {
        let authority = Authority::new();
        let mut config = authority.issue(&["127.0.0.1"]).config();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let err = failure(&url(tls_echo(config)), &["--ca", &authority.file]);
        assert!(
            err.ends_with("the server does not accept http/1.1 as protocol (ALPN)"),
            "{err}"
        );
    }

    #[test]
    fn a_silent_server_is_reported_after_the_timeout() {
        let authority = Authority::new();
        let addr = tcp_server(|mut tcp| drop(std::io::copy(&mut tcp, &mut std::io::sink())));
        let ca = ["--ca", &*authority.file];
        let err = failure(
            &url(addr),
            &[&ca[..], &["--connect-timeout", "300ms"]].concat(),
        );
        let expected = format!("no answer from {addr} in 0.3 s; the TLS handshake has not ended");
        assert_eq!(err, expected);
        let url = url(addr);
        let args = [&["bench", "-c", "2", "--timeout", "300ms", &url], &ca[..]].concat();
        let err = text(&run_with(&args, &[], b"").stderr);
        assert!(
            err.contains("took longer than the 300ms of --timeout"),
            "{err}"
        );
    }

    #[test]
    fn a_refused_request_is_printed() {
        let authority = Authority::new();
        let (send, ends) = mpsc::channel();
        let addr = tls_server(authority.issue(&["127.0.0.1"]).config(), move |mut tls| {
            let _ = tls.read(&mut [0; 4096]);
            let _ = tls.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nforbidden");
            let _ = tls.flush();
            send.send(std::io::copy(&mut tls, &mut std::io::sink()))
                .unwrap();
        });
        let args = ["connect", "--ca", &authority.file, &url(addr)];
        let err = text(&run_with(&args, &[], b"").stderr);
        assert_eq!(
            err,
            "wsloop: the server answered 403 Forbidden instead of 101\nforbidden\n"
        );
        ends.recv().unwrap().expect("close_notify");
    }
}

mod traffic {
    use super::*;

    /// Sends `input` to a server and returns what the client prints.
    fn printed(addr: SocketAddr, authority: &Authority, args: &[&str], input: &[u8]) -> Vec<u8> {
        let url = url(addr);
        let output = run_with(
            &[&["connect", "--ca", &authority.file, &url], args].concat(),
            &[],
            input,
        );
        assert_eq!(
            (output.status.code(), &*text(&output.stderr)),
            (Some(0), "")
        );
        output.stdout
    }

    #[test]
    fn long_and_many_messages_are_returned() {
        let authority = Authority::new();
        let long: Vec<u8> = (0..MIB).map(|byte| (byte % 251) as u8).collect();
        let lines: Vec<u8> = (0..50_000)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect();
        for versions in [&[&TLS12][..], &[&TLS13]] {
            let addr = tls_echo(authority.issue(&["127.0.0.1"]).config_of(versions));
            assert!(printed(addr, &authority, &["--binary"], &long) == long);
            assert!(printed(addr, &authority, &[], &lines) == lines);
        }
    }

    #[test]
    fn every_byte_may_arrive_alone_and_keys_may_change() {
        let authority = Authority::new();
        for bytes_max in [1, 7] {
            let config = authority.issue(&["127.0.0.1"]).config_of(&[&TLS13]);
            let addr = tls_server(config, move |mut tls| {
                tls.sock.bytes_max = bytes_max;
                let mut socket = tungstenite::accept(tls).unwrap();
                while let Ok(message) = socket.read() {
                    if message.is_text() {
                        // The client must answer with a key update of its own.
                        socket.get_mut().conn.refresh_traffic_keys().unwrap();
                        socket.send(message).unwrap();
                    }
                }
            });
            let lines: Vec<u8> = (0..200)
                .flat_map(|line| format!("line {line}\n").into_bytes())
                .collect();
            assert!(printed(addr, &authority, &[], &lines) == lines);
        }
    }

    #[test]
    fn empty_records_and_one_record_per_byte_are_read() {
        let authority = Authority::new();
        let addr = tls_server(authority.issue(&["127.0.0.1"]).config(), |tls| {
            let mut socket = tungstenite::accept(tls).unwrap();
            let tls = socket.get_mut();
            for byte in [&b"\x82\x7E\x03\xE8"[..], &[b'x'; 1000], b"\x88\x02\x03\xE8"].concat() {
                tls.write_all(&[byte]).unwrap();
            }
            let _ = std::io::copy(tls, &mut std::io::sink());
        });
        let expected = "78".repeat(1000) + "\n";
        assert_eq!(printed(addr, &authority, &["-n"], b""), expected.as_bytes());
    }
}

mod closing {
    use super::*;

    /// Starts a server that passes each stream to `act` after the opening handshake.
    fn open_server(
        authority: &Authority,
        act: impl Fn(&mut Tls) + Send + Sync + 'static,
    ) -> String {
        let config = authority.issue(&["127.0.0.1"]).config();
        url(tls_server(config, move |tls| {
            let mut socket = tungstenite::accept(tls).unwrap();
            act(socket.get_mut());
        }))
    }

    #[test]
    fn the_client_sends_close_notify_before_fin() {
        let authority = Authority::new();
        let (send, ends) = mpsc::channel();
        let config = authority.issue(&["127.0.0.1"]).config();
        let addr = tls_server(config, move |tls| send.send(echo(tls)).unwrap());
        let ca = ["--ca", &*authority.file];
        greeted(&url(addr), &ca);
        ends.recv().unwrap().expect("close_notify");
        let url = url(addr);
        let load = ["bench", "-c", "1", "-d", "100ms", "--warmup", "0", &url];
        let output = run_with(&[&load[..], &ca].concat(), &[], b"");
        assert_eq!(text(&output.stderr), "");
        ends.recv().unwrap().expect("close_notify");
    }

    #[test]
    fn an_end_without_a_close_is_a_failure() {
        let authority = Authority::new();
        let ca = ["--ca", &*authority.file];
        let truncated = open_server(&authority, |tls| {
            tls.sock.tcp.shutdown(std::net::Shutdown::Both).unwrap()
        });
        let expected = "the connection was lost: the stream ended without close_notify of TLS; data may be missing";
        assert_eq!(failure(&truncated, &ca), expected);
        let ended = open_server(&authority, |tls| {
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        });
        assert_eq!(
            failure(&ended, &ca),
            "the server ended the stream without a Close"
        );
        for url in [truncated, ended] {
            let args = [&["bench", "-c", "1", "-d", "1s", &url], &ca[..]].concat();
            let output = run_with(&args, &[], b"");
            assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        }
    }

    #[test]
    fn after_both_closes_no_close_notify_is_needed() {
        let authority = Authority::new();
        let url = open_server(&authority, |tls| {
            tls.write_all(b"\x81\x02hi\x88\x02\x03\xE8").unwrap();
            // The Close of the client.
            let _ = tls.read(&mut [0; 100]);
        });
        let args = ["connect", "-n", "--ca", &authority.file, &url];
        let output = run_with(&args, &[], b"");
        assert_eq!(
            (output.status.code(), &*text(&output.stdout)),
            (Some(0), "hi\n")
        );
    }

    #[test]
    fn a_damaged_record_is_reported_after_the_data_before_it() {
        let authority = Authority::new();
        let url = open_server(&authority, |tls| {
            tls.write_all(b"\x81\x02hi").unwrap();
            let mut damaged = b"\x17\x03\x03\x00\x20".to_vec();
            damaged.extend([7; 32]);
            tls.sock.tcp.write_all(&damaged).unwrap();
            let _ = std::io::copy(tls, &mut std::io::sink());
        });
        let args = ["connect", "-n", "--ca", &authority.file, &url];
        let output = run_with(&args, &[], b"");
        let expected = "wsloop: the connection was lost: a TLS record is damaged\n";
        assert_eq!(
            (&*text(&output.stdout), &*text(&output.stderr)),
            ("hi\n", expected)
        );
    }
}

mod load {
    use super::*;
    use serde_json::Value;

    /// Runs a load that must succeed. Returns its JSON report.
    fn measured(url: &str, args: &[&str]) -> Value {
        let quick = [
            "bench", "--json", "--warmup", "100ms", "-d", "300ms", "--verify", url,
        ];
        let output = run_with(&[&quick, args].concat(), &[], b"");
        let err = text(&output.stderr);
        assert_eq!((output.status.code(), &*err), (Some(0), ""));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (kind, count) in json["errors"].as_object().unwrap() {
            assert_eq!(count, 0, "{kind}: {json}");
        }
        assert_eq!(json["never"], 0, "{json}");
        json
    }

    #[test]
    fn messages_of_every_size_are_returned_and_the_handshakes_are_reported() {
        let authority = Authority::new();
        let ca = ["--ca", &*authority.file];
        let table = [
            (&TLS12, "1.2", ["-s", "20", "-p", "32"]),
            (&TLS13, "1.3", ["-s", "0", "-p", "1"]),
            (&TLS13, "1.3", ["-s", "20", "-p", "32"]),
            (&TLS13, "1.3", ["-s", "300000", "-p", "4"]),
        ];
        for (version, name, load) in table {
            let addr = tls_echo(authority.issue(&["127.0.0.1"]).config_of(&[version]));
            let json = measured(&url(addr), &[&ca[..], &load, &["-c", "5"]].concat());
            assert!(json["messages"].as_u64().unwrap() > 0, "{json}");
            let tls = &json["tls"];
            assert_eq!(
                (tls["version"].as_str(), tls["resumed"].as_u64()),
                (Some(name), Some(0))
            );
            assert!(tls["cipher"].as_str().unwrap().starts_with("TLS"), "{json}");
            let (tls, all) = (&tls["handshake_us"], &json["connect"]["latency_us"]);
            let (tls, all) = (tls["avg"].as_f64().unwrap(), all["avg"].as_f64().unwrap());
            assert!(0.0 < tls && tls < all, "{json}");
        }
        let plain = Process::start(&["echo"]);
        let json = measured(&format!("ws://{}/", plain.addr), &[]);
        assert!(json["tls"].is_null(), "{json}");
    }

    #[test]
    fn the_text_report_has_a_line_about_tls() {
        let authority = Authority::new();
        let addr = tls_echo(authority.issue(&["127.0.0.1"]).config());
        let args = [
            "bench",
            "-d",
            "100ms",
            "-c",
            "3",
            "--ca",
            &authority.file,
            &url(addr),
        ];
        let out = text(&run_with(&args, &[], b"").stdout);
        let line = out
            .lines()
            .find(|line| line.starts_with("  TLS 1.3, TLS_AES_"));
        assert!(
            line.is_some_and(|line| line.contains(", 3 full handshakes, 0 resumed, ")),
            "{out}"
        );
    }

    #[test]
    fn sessions_are_resumed_on_demand() {
        let authority = Authority::new();
        for version in [&TLS12, &TLS13] {
            let mut config = authority.issue(&["127.0.0.1"]).config_of(&[version]);
            config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
            config.send_tls13_tickets = 1;
            let (send, kinds) = mpsc::channel();
            let addr = tls_server(config, move |mut tls| {
                let _ = tls.conn.complete_io(&mut tls.sock);
                send.send(tls.conn.handshake_kind().unwrap()).unwrap();
                let _ = echo(tls);
            });
            // The rate is low enough that a connection could use the ticket of the one before.
            let load = ["-c", "20", "--connect-rate", "100", "--tls-resume"];
            let json = measured(
                &url(addr),
                &[&["--ca", &authority.file], &load[..]].concat(),
            );
            assert_eq!(json["tls"]["resumed"], 20, "{json}");
            let kinds: Vec<_> = kinds.try_iter().collect();
            let (first, second) = kinds.split_at(20);
            assert_eq!(first, [HandshakeKind::Full; 20]);
            assert_eq!(second, [HandshakeKind::Resumed; 20]);
        }
    }

    #[test]
    fn a_failed_handshake_is_counted_with_its_reason() {
        let authority = Authority::new();
        let addr = tls_echo(authority.issue(&["127.0.0.1"]).config());
        let args = ["bench", "-c", "3", "-d", "100ms", &url(addr)];
        let output = run_with(&args, &[("SSL_CERT_FILE", &Authority::new().file)], b"");
        let err = text(&output.stderr);
        let expected = format!(
            "wsloop: no connection to {}: the TLS handshake failed: ",
            args[5]
        );
        assert!(
            err.starts_with(&expected) && err.contains("unknown authority"),
            "{err}"
        );
    }

    #[test]
    fn hundreds_of_connections_are_open_at_the_same_time() {
        let authority = Authority::new();
        let addr = tls_echo(authority.issue(&["127.0.0.1"]).config());
        let args = ["--ca", &authority.file, "-c", "400", "--timeout", "60s"];
        let json = measured(&url(addr), &args);
        assert_eq!(json["connect"]["count"], 400);
    }
}
