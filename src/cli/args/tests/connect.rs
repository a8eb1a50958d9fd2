//! `wsloop connect`: defaults, flags, and flags that contradict each other.

use super::super::connect::flags::FLAGS;
use super::*;

const URL: &str = "ws://127.0.0.1:9/";

/// Parses `connect URL` followed by `args`.
fn connect(args: &[&str]) -> Connect {
    connect_of(&[&["connect", URL], args].concat())
}

fn error_after_url(args: &[&str]) -> String {
    error(&[&["connect", URL], args].concat())
}

fn default() -> Connect {
    Connect {
        endpoint: connect_of(&["connect", URL]).endpoint,
        headers: vec![],
        subprotocols: vec![],
        tls: ClientTls::default(),
        execute: vec![],
        stay: Stay::Answered,
        ping: None,
        is_binary: false,
        is_plain: false,
        is_verbose: false,
        message_bytes_max: 64 << 20,
        connect_timeout: SECOND * 10,
        close_timeout: SECOND * 10,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn only_the_url_is_required_and_its_scheme_is_optional() {
    assert_eq!(connect(&[]), default());
    for host in ["127.0.0.1", "[::1]:80/a?b=c", "localhost:9"] {
        let full = format!("ws://{host}");
        let endpoint = connect_of(&["connect", host]).endpoint;
        assert_eq!(endpoint, connect_of(&["connect", &full]).endpoint);
    }
}

#[test]
fn every_flag_sets_its_field_and_nothing_else() {
    fn header(connect: &mut Connect, name: &str, value: &str) {
        connect.headers.push((name.to_owned(), value.to_owned()));
    }
    type Change = fn(&mut Connect);
    let table: [(&[&str], Change); 21] = [
        (&["-H", "A: b:c ", "--header=D:"], |c| {
            header(c, "A", "b:c");
            header(c, "D", "");
        }),
        (&["-s", "a", "--subprotocol", "b"], |c| {
            c.subprotocols = vec!["a".to_owned(), "b".to_owned()];
        }),
        (&["-H", "host: A:9", "-H", "A:b"], |c| {
            c.headers = vec![
                ("host".to_owned(), "A:9".to_owned()),
                ("A".to_owned(), "b".to_owned()),
            ];
        }),
        (&["--plain"], |c| c.is_plain = true),
        (&["-v"], |c| c.is_verbose = true),
        (&["--verbose"], |c| c.is_verbose = true),
        (&["-o", "https://a"], |c| header(c, "Origin", "https://a")),
        (&["--origin=null"], |c| header(c, "Origin", "null")),
        (&["-x", "", "--execute", "b c"], |c| {
            c.execute = vec![String::new(), "b c".to_owned()];
        }),
        (&["-w", "0.5"], |c| c.stay = Stay::For(SECOND / 2)),
        (&["--wait", "0"], |c| c.stay = Stay::For(Duration::ZERO)),
        (&["-n"], |c| c.stay = Stay::Forever),
        (&["--no-close"], |c| c.stay = Stay::Forever),
        (&["--ping", "1s"], |c| c.ping = Some(SECOND)),
        (&["--binary"], |c| c.is_binary = true),
        (&["--message-bytes-max", "1G"], |c| {
            c.message_bytes_max = 1 << 30;
        }),
        (&["--message-bytes-max=1"], |c| c.message_bytes_max = 1),
        (&["--connect-timeout", "1ms"], |c| {
            c.connect_timeout = SECOND / 1000;
        }),
        (&["--close-timeout", "1m"], |c| {
            c.close_timeout = SECOND * 60
        }),
        (&["-n", "-x", "a"], |c| {
            c.stay = Stay::Forever;
            c.execute = vec!["a".to_owned()];
        }),
        (&["-w1", "-xa"], |c| {
            c.stay = Stay::For(SECOND);
            c.execute = vec!["a".to_owned()];
        }),
    ];
    for (args, change) in table {
        let mut expected = default();
        change(&mut expected);
        assert_eq!(connect(args), expected, "{args:?}");
    }
}

#[test]
fn the_request_has_the_given_headers_and_subprotocols() {
    let args = ["-H", "Cookie: a=b", "-o", "https://a", "-s", "x", "-s", "y"];
    let mut request = Vec::new();
    let opening = connect(&args).opening([0; 16]).unwrap();
    opening.encode_request(&mut request);
    let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
    for line in [
        "\r\ncookie: a=b\r\n",
        "\r\norigin: https://a\r\n",
        "\r\nsec-websocket-protocol: x, y\r\n",
        "\r\nhost: 127.0.0.1:9\r\n",
    ] {
        assert!(request.contains(line), "{line:?} {request}");
    }
    let request = |args: &[&str]| {
        let mut request = Vec::new();
        let connect = connect_of(&[&["connect"], args].concat());
        let opening = connect.opening([0; 16]).unwrap();
        opening.encode_request(&mut request);
        String::from_utf8(request).unwrap().to_ascii_lowercase()
    };
    let named = request(&["a:b@10.0.0.1", "-H", "Host: example.com"]);
    assert!(named.contains("\r\nhost: example.com\r\n"), "{named}");
    assert!(
        named.contains("\r\nauthorization: basic ytpi\r\n"),
        "{named}"
    );
    let own = request(&["a:b@10.0.0.1", "-H", "authorization: Bearer x"]);
    assert!(own.contains("\r\nauthorization: bearer x\r\n"), "{own}");
    assert_eq!(own.matches("authorization").count(), 1, "{own}");
}

#[test]
fn an_error_names_the_invalid_argument() {
    let table: [(&[&str], &str); 20] = [
        (
            &["hello"],
            "unexpected argument \"hello\" (connect takes one URL",
        ),
        (&["-H", "Cookie"], "-H \"Cookie\" is not NAME:VALUE"),
        (&["-H", "a b:c"], "-H \"a b:c\" is invalid: a header's name"),
        (
            &["-H", "a:\u{1}"],
            "-H \"a:\\u{1}\" is invalid: a header's value",
        ),
        (&["-H", "Host:a b"], "-H \"Host:a b\" is invalid: the host"),
        (
            &["-H", "Host:a", "-H", "host:b"],
            "-H \"host:b\" is a second Host",
        ),
        (
            &["-s", "a b"],
            "-s \"a b\" is invalid: a subprotocol is not a token",
        ),
        (
            &["-s", "a", "-s", "a"],
            "-s \"a\" is invalid: a subprotocol",
        ),
        (&["-o", "a", "-o", "b"], "--origin is given twice"),
        (&["-o", "ä"], "-o \"ä\" is invalid"),
        (&["-x"], "-x needs a value"),
        (&["-w", "x"], "-w \"x\" is not a duration"),
        (&["-w", "25h"], "-w \"25h\" is not from 1ms to 24h"),
        (&["--ping", "0"], "--ping \"0\" is not from 1ms to 24h"),
        (
            &["--plain", "-x", "a"],
            "--plain cannot be used with --execute",
        ),
        (
            &["-H", "origin: a", "-o", "b"],
            "--origin cannot be used with --header Origin",
        ),
        (&["-n", "-w", "1"], "--wait cannot be used with --no-close"),
        (
            &["--message-bytes-max", "0"],
            "--message-bytes-max \"0\" is not from 1 to 1G",
        ),
        (
            &["--binary=yes"],
            "--binary takes no value, but has \"yes\"",
        ),
        (
            &["--pin", "1"],
            "unknown flag \"--pin\" (did you mean --ping?)",
        ),
    ];
    for (args, expected) in table {
        let error = error_after_url(args);
        assert!(error.starts_with(expected), "{args:?}: {error}");
    }
    assert!(error(&["connect", "-n"]).starts_with("connect needs a URL"));
}

/// Returns the entry of a flag in the help text, on one line.
fn entry(flag: &str) -> String {
    let is_of = |line: &str| line.starts_with("  -") || line.starts_with("      --");
    let mut lines = help::CONNECT
        .lines()
        .skip_while(|line| !is_of(line) || !line.contains(flag));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("{flag} has no entry"));
    let more = lines.take_while(|line| line.starts_with("                "));
    let words = std::iter::once(first).chain(more);
    let words = words.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_help_has_every_flag_and_its_default() {
    let mut defaults = 0;
    for flag in &FLAGS {
        let entry = entry(flag.long);
        if let Some(short) = flag.short {
            let both = format!("{short}, {}", flag.long);
            assert!(entry.contains(&both), "{entry}");
        }
        if let Some((_, value)) = entry.split_once("default ") {
            let value = value.split([' ', ';', ',', ':']).next().unwrap();
            assert_eq!(connect(&[flag.long, value]), default(), "{entry}");
            defaults += 1;
        }
    }
    assert_eq!(defaults, 3);
}

#[test]
fn every_flag_in_the_help_exists() {
    let words = help::CONNECT.split(|c: char| c.is_whitespace() || ",;.:()".contains(c));
    for word in words.filter(|word| word.starts_with("--")) {
        let is_known = FLAGS.iter().any(|flag| flag.long == word);
        assert!(
            is_known || ["--help", "--version"].contains(&word),
            "{word}"
        );
    }
}
