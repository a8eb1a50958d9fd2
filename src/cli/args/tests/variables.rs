//! Environment variables `WSLOOP_*`.

use super::super::variables::name_of;
use super::*;

pub(super) fn parse_with(variables: &[(&str, &str)], args: &[&str]) -> Result<Command, UsageError> {
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    parse(args.iter().map(OsString::from), variables)
}

pub(super) fn serve_with(variables: &[(&str, &str)], args: &[&str]) -> Serve {
    match parse_with(variables, args) {
        Ok(Command::Serve(serve)) => serve,
        other => panic!("{variables:?} {args:?}: {other:?}"),
    }
}

pub(super) fn error_with(variables: &[(&str, &str)], args: &[&str]) -> String {
    let error = parse_with(variables, args).expect_err(&format!("{variables:?} {args:?}"));
    error.to_string()
}

#[test]
fn every_flag_has_a_variable_that_does_the_same() {
    for row in ServerFlag::all() {
        let FlagSpec {
            long, takes_value, ..
        } = row.spec();
        if super::super::tls::check_feature(long, long).is_err() {
            continue;
        }
        let (value, more): (_, &[&str]) = match long {
            "--listen" => ("unix:x", &[]),
            "--route" => ("/x=echo: a, b ", &[]),
            "--origin" => ("https://example.org", &[]),
            "--trusted-proxy" => ("10.0.0.0/8", &[]),
            "--forwarded-header" => ("forwarded", &["--trusted-proxy=::1"]),
            "--host" => ("example.org", &[]),
            "--unix-mode" => ("600", &["-l", "unix:y"]),
            "--replay-bytes-max" => ("9", &["--replay=9"]),
            "--lag" => ("skip", &[]),
            "--metrics" => ("/m", &[]),
            "--log-format" => ("json", &[]),
            "--tls-cert" => ("x", &["-l=tls:1"]),
            "--tls-key" | "--tls-client-ca" => ("x", &["-l=tls:1", "--tls-cert=y"]),
            "--tls-client-optional" => ("1", &["-l=tls:1", "--tls-cert=y", "--tls-client-ca=z"]),
            "--tls-min" => ("1.3", &["-l=tls:1", "--tls-cert=y"]),
            "--tls-self-signed" => ("1", &["-l=tls:1"]),
            "--redis" => ("unix:/x", &[]),
            "--redis-prefix" | "--redis-password-file" | "--broker-grace" => {
                ("9", &["--redis=unix:/x"])
            }
            "--broker-outbox" => ("9M", &["--redis=unix:/x"]),
            "--broker-message-bytes-max" => ("9", &["--redis=unix:/x"]),
            "--low-water-bytes" | "--tcp-keepalive" => ("7", &[]),
            "--backlog-bytes-max" => ("100M", &[]),
            "--head-bytes-max" => ("300", &[]),
            _ if takes_value => ("9", &[]),
            _ => ("1", &[]),
        };
        let flag = if takes_value {
            format!("{long}={value}")
        } else {
            long.to_owned()
        };
        let name = name_of(long);
        let by_flag = serve(&[&[&*flag], more].concat());
        let by_variable = serve_with(&[(&name, value)], more);
        assert_eq!(format!("{by_variable:?}"), format!("{by_flag:?}"), "{name}");
        // A listener with TLS needs one of two flags.
        if !["--tls-cert", "--tls-self-signed"].contains(&long) {
            let without = serve(more);
            assert_ne!(format!("{by_flag:?}"), format!("{without:?}"), "{flag}");
        }
    }
    assert_eq!(name_of("--idle-timeout"), "WSLOOP_IDLE_TIMEOUT");
}

#[test]
fn a_flag_overrides_its_variable() {
    let variables = [
        ("WSLOOP_LISTEN", "1 2"),
        ("WSLOOP_FRAGMENTS_MAX", "2"),
        ("WSLOOP_HEADERS_MAX", "not even a number"),
        ("WSLOOP_REUSE_PORT", "0"),
    ];
    let args = [
        "-l3",
        "--headers-max=3",
        "--reuse-port",
        "--low-water-bytes=1",
    ];
    let serve = serve_with(&variables, &args);
    assert_eq!(serve.listen, [Listen::parse("3").unwrap()]);
    assert_eq!(serve.config.headers_max, 3);
    assert_eq!(serve.config.fragments_max, 2);
    assert!(serve.sockets.is_port_shared);
}

#[test]
fn several_values_are_separated_by_blanks_and_routes_by_line_ends() {
    let variables = [
        ("WSLOOP_LISTEN", " 0\t[::1]:0  unix:x\n"),
        ("WSLOOP_ORIGIN", "null https://example.org"),
        ("WSLOOP_TRUSTED_PROXY", "unix 10.0.0.0/8"),
        (
            "WSLOOP_ROUTE",
            "\n  /a=echo:You sent: \n/b=reply:{\"a\": 1, \"b\": 2}\n\n",
        ),
    ];
    let serve = serve_with(&variables, &["serve"]);
    let expected = ["0", "[::1]:0", "unix:x"].map(|text| Listen::parse(text).unwrap());
    assert_eq!(serve.listen, expected);
    let origins = ["null", "https://example.org"].map(|text| Origin::Listed(text.to_owned()));
    assert_eq!(serve.origins, origins);
    let networks = ["unix", "10.0.0.0/8"].map(|text| text.parse().unwrap());
    assert_eq!(serve.config.trusted_proxies, networks);
    let echo = Route::Echo {
        prefix: "You sent: ".to_owned(),
    };
    let reply = Route::Reply {
        text: "{\"a\": 1, \"b\": 2}".to_owned(),
    };
    assert_eq!(routes(&serve), [("/a", &echo), ("/b", &reply)]);
}

#[test]
fn an_empty_variable_is_ignored() {
    let variables = [
        ("WSLOOP_LISTEN", ""),
        ("WSLOOP_NO_PAGE", ""),
        ("WSLOOP_LAG", ""),
    ];
    let plain = serve(&[]);
    assert_eq!(
        format!("{:?}", serve_with(&variables, &[])),
        format!("{plain:?}")
    );
}

#[test]
fn a_switch_is_on_or_off() {
    for (value, is_on) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("on", true),
        ("0", false),
        ("false", false),
        ("no", false),
        ("off", false),
    ] {
        let serve = serve_with(&[("WSLOOP_NO_PAGE", value)], &[]);
        assert_eq!(serve.page, !is_on, "{value}");
    }
    assert_eq!(
        error_with(&[("WSLOOP_NO_PAGE", "2")], &[]),
        "WSLOOP_NO_PAGE \"2\" is neither on (1, true, yes, on) nor off (0, false, no, off)"
    );
}

#[test]
fn an_invalid_value_error_names_the_variable() {
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let table: [(Variables<'_>, &[&str], &str); 9] = [
        (
            &[("WSLOOP_LISTEN", "80 x")],
            &[],
            "WSLOOP_LISTEN \"x\" has no port; expected PORT, HOST:PORT or [::1]:PORT",
        ),
        (
            &[("WSLOOP_LISTEN", "80 80")],
            &[],
            "WSLOOP_LISTEN \"80\" is given twice",
        ),
        (
            &[("WSLOOP_IDLE_TIMEOUT", "soon")],
            &["echo"],
            "WSLOOP_IDLE_TIMEOUT \"soon\" is not a duration, such as 30, 0.5, 500ms, 2m or 1h",
        ),
        (
            &[("WSLOOP_ROUTE", "/=echo")],
            &["echo"],
            "WSLOOP_ROUTE \"/=echo\" cannot be used with this command, which has one handler for every \
             path; use wsloop serve",
        ),
        (
            &[("WSLOOP_LOW_WATER_BYTES", "2M")],
            &["--high-water-bytes=1M"],
            "WSLOOP_LOW_WATER_BYTES must be below --high-water-bytes",
        ),
        (
            &[("WSLOOP_METRICS", "/")],
            &[],
            "WSLOOP_METRICS \"/\" is also the path of a route; choose another path",
        ),
        (
            &[("WSLOOP_METRICS", "/"), ("WSLOOP_ROUTE", "/a=echo")],
            &[],
            "WSLOOP_METRICS \"/\" is the path of the built-in page; choose another path or add --no-page",
        ),
        (
            &[("WSLOOP_METRICS", "/*")],
            &[],
            "WSLOOP_METRICS \"/*\" is not an exact path: it contains *",
        ),
        // The first in the order of the tables, not of the variables.
        (
            &[("WSLOOP_LAG", "x"), ("WSLOOP_HEADERS_MAX", "y")],
            &[],
            "WSLOOP_HEADERS_MAX \"y\" is not a whole number",
        ),
    ];
    for (variables, args, expected) in table {
        assert_eq!(error_with(variables, args), expected);
    }
}

#[test]
fn unknown_variables_are_collected_and_other_prefixes_are_ignored() {
    let variables = [
        ("WSLOOP_SERVICE_HOST", "10.0.0.1"),
        ("WSLOOP_listen", "x"),
        ("WSLOOP_IDLE-TIMEOUT", "x"),
        ("WSLOOP_HELP", "1"),
        ("WSLOOP_", "x"),
        ("WSLOOP", "x"),
        ("IDLE_TIMEOUT", "x"),
        ("wsloop_idle_timeout", "x"),
    ];
    let mut serve = serve_with(&variables, &[]);
    serve.ignored_variables.sort();
    let names = [
        "WSLOOP_",
        "WSLOOP_HELP",
        "WSLOOP_IDLE-TIMEOUT",
        "WSLOOP_SERVICE_HOST",
        "WSLOOP_listen",
    ];
    let expected =
        names.map(|name| format!("{name} belongs to no flag; see 'wsloop serve --help'"));
    assert_eq!(serve.ignored_variables, expected);
    assert_eq!(serve.config, Config::default());
}

#[test]
fn a_variable_without_effect_is_no_error_and_is_named_with_what_it_needs() {
    let variables = [
        ("WSLOOP_UNIX_MODE", "660"),
        ("WSLOOP_REPLAY_BYTES_MAX", "1M"),
        ("WSLOOP_FORWARDED_HEADER", "forwarded"),
        ("WSLOOP_LAG", "skip"),
        ("WSLOOP_IDLE_TIMEOUT", "9"),
    ];
    let expected = [
        "WSLOOP_UNIX_MODE needs a Unix socket; add -l unix:PATH or remove WSLOOP_UNIX_MODE",
        "WSLOOP_FORWARDED_HEADER needs a trusted proxy; add --trusted-proxy NETWORK or remove WSLOOP_FORWARDED_HEADER",
        "WSLOOP_LAG needs a broadcast; add -r PATH=broadcast or remove WSLOOP_LAG",
        "WSLOOP_REPLAY_BYTES_MAX needs --replay; add --replay N or remove WSLOOP_REPLAY_BYTES_MAX",
    ];
    assert_eq!(
        serve_with(&variables, &["echo"]).ignored_variables,
        expected
    );
    let effective = [
        "broadcast",
        "-lunix:x",
        "--replay=1",
        "--trusted-proxy=unix",
    ];
    let serve = serve_with(&variables, &effective);
    assert!(serve.ignored_variables.is_empty(), "{serve:?}");
    // A flag overrides its variable, and then has no effect.
    let error = error_with(&variables, &["echo", "--unix-mode=600"]);
    assert!(error.starts_with("--unix-mode needs"), "{error}");
}

#[test]
fn flags_for_sockets_that_may_be_inherited_are_no_error() {
    let inherited = [("LISTEN_FDS", "1")];
    for flag in [
        "--tcp-keepalive=9",
        "--tcp-user-timeout=9",
        "--kernel-unsent-bytes-max=1K",
        "--connections-per-address-max=9",
    ] {
        serve_with(&inherited, &["-lunix:x", flag]);
    }
    serve_with(&inherited, &["-l80", "--trusted-proxy=unix"]);
    for args in [["-lunix:x", "--reuse-port"], ["-l80", "--unix-mode=600"]] {
        let error = error_with(&inherited, &args);
        assert!(error.contains(" needs a "), "{error}");
    }
}

#[test]
fn limits_not_given_are_derived_from_variables_as_from_flags() {
    let config = serve_with(&[("WSLOOP_HIGH_WATER_BYTES", "2M")], &[]).config;
    assert_eq!(config.backlog_bytes_max, 19 << 20);
    let variables = [
        ("WSLOOP_HIGH_WATER_BYTES", "2M"),
        ("WSLOOP_BACKLOG_BYTES_MAX", "3M"),
    ];
    assert_eq!(
        serve_with(&variables, &[]).config.backlog_bytes_max,
        3 << 20
    );
    assert!(serve_with(&[("WSLOOP_CONNECTIONS_MAX", "5")], &[]).has_connections_max);
    assert!(serve(&["--connections-max=5"]).has_connections_max);
    assert!(!serve(&[]).has_connections_max);
}

#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(b"a\xFF".to_vec());
    let error = parse([], [("WSLOOP_LAG".into(), bad)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "WSLOOP_LAG \"a\u{FFFD}\" is not valid UTF-8"
    );
}

#[test]
fn bench_connect_and_help_ignore_variables() {
    let variables = [("WSLOOP_LAG", "x"), ("WSLOOP_LISTEN", "x")];
    for args in [
        &["bench", "ws://127.0.0.1/"][..],
        &["connect", "ws://127.0.0.1/"],
        &["--help"],
        &["serve", "-V"],
    ] {
        assert!(parse_with(&variables, args).is_ok(), "{args:?}");
    }
}
