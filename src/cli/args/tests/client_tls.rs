//! The flags of TLS, which `bench` and `connect` share.

use super::*;

#[cfg(not(feature = "tls-client"))]
#[test]
fn without_tls_each_flag_and_the_scheme_name_the_cargo_feature() {
    for command in ["bench", "connect"] {
        let table: [&[&str]; 5] = [
            &["wss://127.0.0.1/"],
            &["ws://127.0.0.1/", "--ca", "a"],
            &["ws://127.0.0.1/", "--cert", "a"],
            &["ws://127.0.0.1/", "--key", "a"],
            &["ws://127.0.0.1/", "--insecure"],
        ];
        for args in table {
            let error = error(&[&[command], args].concat());
            let expected = "needs TLS; rebuild the binary with the cargo feature \"tls-client\"";
            assert!(error.ends_with(expected), "{args:?}: {error}");
        }
    }
}

#[cfg(feature = "tls-client")]
#[test]
fn the_files_of_tls_are_parsed() {
    let url = "wss://127.0.0.1/";
    let args = ["--cert", "a", "--key", "b"];
    let expected = ClientTls {
        cert: Some("a".into()),
        key: Some("b".into()),
        ..ClientTls::default()
    };
    let bench = bench_of(&[&["bench", url, "--tls-resume"], &args[..]].concat());
    assert_eq!((bench.tls, bench.is_tls_resumed), (expected.clone(), true));
    let connect = connect_of(&[&["connect", url], &args[..]].concat());
    assert_eq!(connect.tls, expected);
    assert_eq!(connect.endpoint.tls_name.as_deref(), Some("127.0.0.1"));
    let insecure = connect_of(&["connect", "wss://a.example:1/", "--insecure"]);
    assert!(insecure.tls.is_insecure);
    assert_eq!(insecure.endpoint.host, "a.example:1");
    let ca = connect_of(&["connect", "--ca", "c", "wss://u:p@a.example/"]);
    assert_eq!(ca.tls.ca.as_deref(), Some("c"));
    assert_eq!(ca.endpoint.text, "wss://a.example/");
}

#[cfg(feature = "tls-client")]
#[test]
fn contradictions_in_the_flags_of_tls_are_errors() {
    let wss = "wss://127.0.0.1/";
    let needs_wss = |flag| format!("{flag} needs a URL with wss://");
    let table: [(&[&str], String); 7] = [
        (&["ws://127.0.0.1/", "--ca", "a"], needs_wss("--ca")),
        (&["ws://127.0.0.1/", "--insecure"], needs_wss("--insecure")),
        (&["ws://127.0.0.1/", "--cert", "a"], needs_wss("--cert")),
        (&["ws://127.0.0.1/", "--key", "a"], needs_wss("--key")),
        (
            &[wss, "--ca", "a", "--insecure"],
            "--ca cannot be used with --insecure, which accepts every certificate".into(),
        ),
        (
            &[wss, "--key", "a"],
            "--key needs the certificate of the key; add --cert FILE".into(),
        ),
        (&[wss, "--ca", ""], "--ca \"\" is no file".into()),
    ];
    for command in ["bench", "connect"] {
        for (args, expected) in &table {
            assert_eq!(error(&[&[command], *args].concat()), *expected);
        }
    }
    let resume = ["bench", "ws://127.0.0.1/", "--tls-resume"];
    assert_eq!(error(&resume), needs_wss("--tls-resume"));
    let unix = ["connect", "unix:/run/a", "--insecure"];
    assert_eq!(error(&unix), needs_wss("--insecure"));
}
