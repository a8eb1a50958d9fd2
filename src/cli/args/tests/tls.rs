//! The flags of TLS.

use super::*;

/// Returns the arguments of a server with a certificate, followed by `more`.
#[cfg(feature = "tls")]
fn with_certificate<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["-l=tls:8443", "--tls-cert=c", "--tls-key=k"], more].concat()
}

#[cfg(feature = "tls")]
fn tls(args: &[&str]) -> TlsSettings {
    serve(args).tls.expect("TLS")
}

#[cfg(feature = "tls")]
fn files(args: &[&str]) -> Vec<(String, String)> {
    match tls(args).certificates {
        Certificates::Files(files) => files,
        Certificates::SelfSigned(names) => panic!("{names:?}"),
    }
}

#[cfg(feature = "tls")]
#[test]
fn certificates_and_keys_are_pairs_in_their_order() {
    let pairs = |pairs: &[(&str, &str)]| {
        let owned = |(one, other): &(&str, &str)| ((*one).to_owned(), (*other).to_owned());
        pairs.iter().map(owned).collect::<Vec<_>>()
    };
    let table: [(&[&str], _); 4] = [
        (&["--tls-cert", "a", "--tls-key", "b"], &[("a", "b")][..]),
        (&["--tls-cert=a"], &[("a", "a")]),
        (&["--tls-cert=a", "--tls-cert=b"], &[("a", "a"), ("b", "b")]),
        (
            &["--tls-cert=a", "--tls-cert=b", "--tls-key=c", "--tls-key=d"],
            &[("a", "c"), ("b", "d")],
        ),
    ];
    for (args, expected) in table {
        let args = [&["-l", "tls:8443"], args].concat();
        assert_eq!(files(&args), pairs(expected), "{args:?}");
    }
    assert!(serve(&[]).tls.is_none());
}

#[cfg(feature = "tls")]
#[test]
fn versions_and_client_certificates_are_settings() {
    let settings = |more: &[&str]| {
        let tls = tls(&with_certificate(more));
        (tls.client_ca, tls.is_client_optional, tls.is_13_only)
    };
    let ca = || Some("ca".to_owned());
    assert_eq!(settings(&[]), (None, false, false));
    assert_eq!(settings(&["--tls-min=1.2"]), (None, false, false));
    assert_eq!(settings(&["--tls-min=1.3"]), (None, false, true));
    assert_eq!(settings(&["--tls-client-ca=ca"]), (ca(), false, false));
    let optional = ["--tls-client-optional", "--tls-client-ca", "ca"];
    assert_eq!(settings(&optional), (ca(), true, false));
}

#[cfg(feature = "tls-self-signed")]
#[test]
fn a_self_signed_certificate_is_for_the_hosts_of_the_server() {
    let names = |more: &[&str]| match tls(&[&["--tls-self-signed"], more].concat()).certificates {
        Certificates::SelfSigned(names) => names.join(" "),
        Certificates::Files(files) => panic!("{files:?}"),
    };
    let local = "localhost 127.0.0.1 ::1";
    assert_eq!(names(&["-l=tls:8443"]), local);
    let args = [
        "-l=tls:127.0.0.1:1",
        "-l=tls:LOCALHOST:2",
        "-l=tls:[::1]:3",
        "-l=tls:0.0.0.0:4",
        "-l=tls:unix:x",
        "-l=proxy:[::]:5",
        "--host=*",
    ];
    assert_eq!(names(&args), local);
    let args = [
        "-l=tls:192.0.2.1:1",
        "--host=Example.org:80",
        "--host=example.org",
        "--host=[2001:db8::1]:8443",
    ];
    let expected = format!("{local} 192.0.2.1 example.org 2001:db8::1");
    assert_eq!(names(&args), expected);
}

#[cfg(feature = "tls-self-signed")]
#[test]
fn contradictions_are_rejected() {
    let table: [(&[&str], &str); 16] = [
        (
            &["-l=tls:8443"],
            "a listener with tls: needs a certificate; add --tls-cert FILE and --tls-key FILE, or --tls-self-signed to try TLS out",
        ),
        (
            &["-l=tls:8443", "--tls-key=k"],
            "--tls-key needs a certificate; add --tls-cert FILE or remove --tls-key",
        ),
        (
            &["--tls-cert=c"],
            "--tls-cert needs a listener with TLS; add -l tls:PORT or remove --tls-cert",
        ),
        (
            &["-l=8443", "--tls-cert=c", "--tls-key=k"],
            "--tls-cert needs a listener with TLS; add -l tls:PORT or remove --tls-cert",
        ),
        (
            &["--tls-self-signed"],
            "--tls-self-signed needs a listener with TLS; add -l tls:PORT or remove --tls-self-signed",
        ),
        (
            &["-l=tls:8443", "--tls-self-signed", "--tls-cert=c"],
            "--tls-cert and --tls-self-signed exclude each other; remove one",
        ),
        (
            &["-l=tls:8443", "--tls-self-signed", "--tls-key=k"],
            "--tls-key needs a certificate; add --tls-cert FILE or remove --tls-key",
        ),
        (
            &["-l=tls:8443", "--tls-cert=a", "--tls-cert=b", "--tls-key=k"],
            "--tls-key has another number of values (1) than --tls-cert (2); give a key for each certificate in the same order, or none if the keys are in the files of the certificates",
        ),
        (
            &["-l=tls:8443", "--tls-cert=a", "--tls-key=b", "--tls-key=k"],
            "--tls-key has another number of values (2) than --tls-cert (1); give a key for each certificate in the same order, or none if the keys are in the files of the certificates",
        ),
        (
            &["--tls-min=1.3"],
            "--tls-min needs a certificate; add --tls-cert FILE or remove --tls-min",
        ),
        (
            &["-l=tls:8443", "--tls-client-ca=c"],
            "--tls-client-ca needs a certificate; add --tls-cert FILE or remove --tls-client-ca",
        ),
        (
            &["--tls-client-optional"],
            "--tls-client-optional needs a CA; add --tls-client-ca FILE or remove --tls-client-optional",
        ),
        (
            &["-l=tls:8443", "--tls-min=1.1"],
            "--tls-min \"1.1\" is neither 1.2 nor 1.3",
        ),
        (
            &["--tls-cert="],
            "--tls-cert \"\" is not the path of a file",
        ),
        (&["-l=tls:8443", "-l=8443"], "-l \"8443\" is given twice"),
        (
            &["--tls-client-ca=a", "--tls-client-ca=b"],
            "--tls-client-ca is given twice",
        ),
    ];
    for (args, expected) in table {
        assert_eq!(error(args), expected, "{args:?}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn variables_are_named_in_errors_and_passed_sockets_can_use_a_certificate() {
    let parse = |variables: &[(&str, &str)], args: &[&str]| {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        match parse(args.iter().map(OsString::from), variables) {
            Ok(Command::Serve(serve)) => serve.tls.ok_or_else(String::new),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let cert = ("WSLOOP_TLS_CERT", "a b");
    let key = ("WSLOOP_TLS_KEY", "k");
    let error = parse(&[cert], &[]).unwrap_err();
    assert!(
        error.starts_with("WSLOOP_TLS_CERT needs a listener"),
        "{error}"
    );
    let error = parse(&[cert, key], &["-l=tls:1"]).unwrap_err();
    assert!(
        error.starts_with(
            "WSLOOP_TLS_KEY has another number of values (1) than WSLOOP_TLS_CERT (2);"
        ),
        "{error}"
    );
    let error = parse(&[key], &["-l=tls:1"]).unwrap_err();
    assert!(
        error.starts_with("WSLOOP_TLS_KEY needs a certificate"),
        "{error}"
    );
    assert!(parse(&[cert], &["-l=tls:1"]).is_ok());
    // The names of passed sockets are read later, so one of them can be for TLS.
    assert!(parse(&[cert, ("LISTEN_FDS", "1")], &[]).is_ok());
    assert!(parse(&[cert, ("LISTEN_FDS", "1")], &["-l=8080"]).is_ok());
}

#[test]
fn flags_of_a_missing_feature_name_the_feature() {
    for (flag, is_built, feature) in [
        ("--tls-cert", cfg!(feature = "tls"), "tls"),
        ("--tls-min", cfg!(feature = "tls"), "tls"),
        (
            "--tls-self-signed",
            cfg!(feature = "tls-self-signed"),
            "tls-self-signed",
        ),
    ] {
        let name = super::super::variables::name_of(flag);
        let variable = |value: &str| parse([], [(OsString::from(&name), value.into())]);
        assert!(variable("").is_ok());
        let missing = |name| {
            format!("{name} needs TLS; rebuild the binary with the cargo feature {feature:?}")
        };
        assert_eq!(error(&[flag]) == missing(flag), !is_built);
        let error = variable("1").unwrap_err().to_string();
        assert_eq!(error == missing(&name), !is_built);
    }
}

#[cfg(feature = "tls-self-signed")]
#[test]
fn the_commands_in_the_guide_are_valid() {
    let guide = include_str!("../../../guide/tls.md");
    let commands = guide
        .lines()
        .filter_map(|line| line.strip_prefix("wsloop "));
    let mut count = 0;
    for command in commands {
        let words: Vec<_> = command.split(' ').collect();
        assert!(serve(&words).tls.is_some(), "{command}");
        count += 1;
    }
    assert_eq!(count, 3);
}
