//! Tests with hostile peers before the connection is open: malformed opening handshakes (RFC 6455 section 4.2.1) and
//! malformed HTTP requests (RFC 7230). Each is refused with the right status, by a complete response, and then the
//! stream ends.

#![cfg(feature = "serve")]

mod common;
mod hostile_common;

use common::*;
use hostile_common::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of a name, the bytes of a request, and the status of the response.
type Table<'a> = Vec<(String, Vec<u8>, u16)>;

/// Reads a complete response up to the end of the stream, and checks its length and its `Connection` header.
fn refusal(name: &str, raw: &Raw, is_head: bool) -> Response {
    let answer = String::from_utf8(rest(&raw.0)).expect("a response is text");
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{name}: no complete head: {answer:?}"));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .unwrap_or_else(|| panic!("{name}: {answer:?}"));
    let response = Response {
        status: status[..3].parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    };
    let len = response
        .header("content-length")
        .unwrap_or_else(|| panic!("{name}: no length"));
    let len_sent = if is_head {
        body.is_empty()
    } else {
        len == body.len().to_string()
    };
    assert!(
        len_sent,
        "{name}: a length of {len}, a body of {}",
        body.len()
    );
    let connection = response.header("connection").unwrap_or_default();
    assert!(
        connection.split(", ").any(|option| option == "close"),
        "{name}: {connection}"
    );
    response
}

/// Sends each request in three ways, each on a new connection: whole, in two writes, and followed by a MiB of noise.
/// Checks the response of each, and that the server closes its descriptors.
fn check(server: &Wsloop, table: &Table<'_>) {
    let descriptors = server.descriptors();
    let garbage = noise(MIB);
    for (name, request, expected) in table {
        let is_head = request.starts_with(b"HEAD ");
        let check = |raw: Raw, way: &str| {
            let response = refusal(name, &raw, is_head);
            assert_eq!(
                response.status, *expected,
                "{name}, {way}: {}",
                response.body
            );
            match expected {
                405 => assert!(
                    response.header("allow").unwrap_or_default().contains("GET"),
                    "{name}"
                ),
                426 => assert_eq!(
                    response.header("sec-websocket-version"),
                    Some("13"),
                    "{name}"
                ),
                _ => {}
            }
        };
        let mut raw = Raw::new(server.addr);
        raw.send(request);
        check(raw, "whole");
        let mut raw = Raw::new(server.addr);
        let (first, second) = request.split_at(request.len() / 2);
        raw.send(first);
        raw.send(second);
        check(raw, "in two pieces");
        let mut raw = Raw::new(server.addr);
        raw.send(request);
        let writing = write_behind(&raw, garbage.clone());
        check(raw, "followed by a MiB");
        writing.join().unwrap();
        server.expect_descriptors(descriptors);
    }
}

/// Runs [`check`] as an [`AttackTest`], which also measures memory and the latency of another client.
fn check_under_attack(table: &Table<'_>) {
    AttackTest::default().run(|server| check(server, table));
}

fn row(
    name: impl Into<String>,
    request: impl Into<Vec<u8>>,
    status: u16,
) -> (String, Vec<u8>, u16) {
    (name.into(), request.into(), status)
}

/// Returns an opening handshake with another request line.
fn with_request_line(line: &str) -> String {
    let request = upgrade_request("/echo");
    let (_, rest) = request.split_once("\r\n").unwrap();
    format!("{line}\r\n{rest}")
}

/// Returns an opening handshake with the line of a header replaced by `lines`, or removed if `lines` is empty.
fn with_header(name: &str, lines: &str) -> String {
    let request = upgrade_request("/echo");
    let start = request
        .find(&format!("\r\n{name}:"))
        .expect("a header of the request")
        + 2;
    let end = start + request[start..].find("\r\n").unwrap() + 2;
    format!("{}{lines}{}", &request[..start], &request[end..])
}

/// Returns an opening handshake with additional headers.
fn with_more(lines: &str) -> String {
    with_header("Host", &format!("Host: localhost\r\n{lines}"))
}

const REQUIRED: [(&str, &str); 5] = [
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

#[test]
fn a_required_header_that_is_missing_empty_doubled_or_wrong_is_refused() {
    let mut table = Table::new();
    for (name, value) in REQUIRED {
        let status = if name == "Sec-WebSocket-Version" {
            426
        } else {
            400
        };
        let mut add = |what: &str, lines: String| {
            table.push(row(
                format!("{name} {what}"),
                with_header(name, &lines),
                status,
            ));
        };
        add("is missing", String::new());
        add("is empty", format!("{name}:\r\n"));
        add("is blank", format!("{name}: \t \r\n"));
        // `Connection` is a list, so two lines are legal (see the next test).
        if name != "Connection" {
            add(
                "is doubled",
                format!("{name}: {value}\r\n{name}: {value}\r\n"),
            );
            add(
                "is doubled in another case",
                format!("{name}: {value}\r\n{}: {value}\r\n", name.to_uppercase()),
            );
            add(
                "is there and empty",
                format!("{name}: {value}\r\n{name}:\r\n"),
            );
        }
        add("is quoted", format!("{name}: \"{value}\"\r\n"));
    }
    let wrong: &[(&str, &[&str], u16)] = &[
        (
            "Host",
            &[
                "a b", "a/b", "a@b", ":80", "[::1", "a:x", "a, b", "\u{e4}", "a:65536",
            ],
            400,
        ),
        (
            "Upgrade",
            &[
                "h2c",
                "websockets",
                "web socket",
                "websocket, h2c",
                "websocket/13",
            ],
            400,
        ),
        (
            "Connection",
            &[
                "close",
                "keep-alive",
                "upgraded",
                "keep-alive Upgrade",
                "Upgrade;q=1",
            ],
            400,
        ),
        (
            "Sec-WebSocket-Key",
            &[
                "x",
                "dGhlIHNhbXBsZQ==",
                "AAAAAAAAAAAAAAAAAAAAAAAA",
                "dGhlIHNhbXBsZSBub25jZR==",
                "dGhlIHNhbXBsZSBub25jZQ=",
                "dGhlIHNhbXBsZSBub25j-Q==",
                "dGhlIHNhbXBsZSBub25jZQ==, a",
            ],
            400,
        ),
        (
            "Sec-WebSocket-Version",
            &["8", "0", "14", "013", "13.0", "-13", "13, 8", "\u{b9}3"],
            426,
        ),
    ];
    for (name, values, status) in wrong {
        for value in *values {
            table.push(row(
                format!("{name}: {value}"),
                with_header(name, &format!("{name}: {value}\r\n")),
                *status,
            ));
        }
    }
    table.push(row(
        "two Origins",
        with_more("Origin: http://a\r\nOrigin: http://b\r\n"),
        400,
    ));
    check_under_attack(&table);
}

#[test]
fn unusual_but_legal_handshakes_are_accepted() {
    let table = [
        (
            "absolute-form",
            with_request_line("GET http://localhost/echo HTTP/1.1"),
        ),
        (
            "absolute-form with ws",
            with_request_line("GET ws://localhost:80/echo?a=b HTTP/1.1"),
        ),
        (
            "a higher minor version",
            with_request_line("GET /echo HTTP/1.2"),
        ),
        (
            "no extension",
            upgrade_request("/echo").replace("Host:", "Sec-WebSocket-Extensions:\r\nHost:"),
        ),
        (
            "an empty line first",
            format!("\r\n{}", upgrade_request("/echo")),
        ),
        (
            "two Connections",
            with_header(
                "Connection",
                "Connection: Upgrade\r\nConnection: Upgrade\r\n",
            ),
        ),
        (
            "Connection as a list",
            with_header("Connection", "connection:keep-alive,\tupgrade\r\n"),
        ),
        (
            "Upgrade in capitals",
            with_header("Upgrade", "UPGRADE:WebSocket\t\r\n"),
        ),
        ("a body of nothing", with_more("Content-Length: 0\r\n")),
        (
            "a header that is not ASCII",
            with_more("Cookie: j\u{fc}rgen\r\n"),
        ),
        (
            "an extension",
            with_more("Sec-WebSocket-Extensions: permessage-deflate; a=\"b\"\r\n"),
        ),
        (
            "subprotocols",
            with_more("Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n"),
        ),
        ("100 headers", with_more(&"X: y\r\n".repeat(95))),
    ];
    AttackTest::default().run(|server| {
        for (name, request) in &table {
            let mut raw = Raw::new(server.addr);
            // The first message may arrive in the same segment.
            raw.send([request.as_bytes(), &frame(TEXT, b"hello")].concat());
            let response = raw.response_head();
            assert_eq!(response.status, 101, "{name}");
            let accept = response.header("sec-websocket-accept");
            assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{name}");
            let selected = response.header("sec-websocket-protocol");
            assert_eq!(selected, (*name == "subprotocols").then_some("a"), "{name}");
            for header in ["sec-websocket-extensions", "content-length"] {
                assert_eq!(response.header(header), None, "{name}");
            }
            assert_eq!(raw.frame(), (TEXT, b"hello".to_vec()), "{name}");
        }
    });
}

#[test]
fn malformed_header_lines_are_refused() {
    let mut table = vec![
        row("no colon", with_more("nonsense\r\n"), 400),
        row("an empty name", with_more(": value\r\n"), 400),
        row("a name that is no token", with_more("X(Y): value\r\n"), 400),
        row(
            "a name that is not ASCII",
            with_more("J\u{fc}: value\r\n"),
            400,
        ),
        row("a space in a name", with_more("X Y: value\r\n"), 400),
        row(
            "a folded line before all headers",
            upgrade_request("/echo").replace("Host", " folded\r\nHost"),
            400,
        ),
        row(
            "all ends bare LF",
            upgrade_request("/echo").replace("\r\n", "\n"),
            400,
        ),
        row(
            "all ends bare CR",
            upgrade_request("/echo").replace("\r\n", "\r"),
            400,
        ),
        row(
            "LF and CR",
            upgrade_request("/echo").replace("\r\n", "\n\r"),
            400,
        ),
        row(
            "two CR",
            upgrade_request("/echo").replace("\r\n", "\r\r\n"),
            400,
        ),
        row(
            "a bare LF as the blank line",
            upgrade_request("/echo").replace("\r\n\r\n", "\r\n\n"),
            400,
        ),
        row(
            "a bare CR as the blank line",
            upgrade_request("/echo").replace("\r\n\r\n", "\r\n\r!"),
            400,
        ),
        row(
            "a bare LF in a value",
            with_more("X: a\nUpgrade: websocket\r\n"),
            400,
        ),
        row(
            "a bare CR in a value",
            with_more("X: a\rUpgrade: websocket\r\n"),
            400,
        ),
        row(
            "a bare LF after the request line",
            with_request_line("GET /echo HTTP/1.1\n"),
            400,
        ),
    ];
    for (name, value) in REQUIRED {
        let mut add = |what: &str, line: String| {
            table.push(row(
                format!("{name}, {what}"),
                with_header(name, &line),
                400,
            ));
        };
        add("folded", format!("{name}:\r\n {value}\r\n"));
        add("folded with a tab", format!("{name}: {value}\r\n\t\r\n"));
        add("a space before the colon", format!("{name} : {value}\r\n"));
        add("a tab before the colon", format!("{name}\t: {value}\r\n"));
        add("a space before the name", format!(" {name}: {value}\r\n"));
        add("no colon", format!("{name} {value}\r\n"));
        add("ended by a bare LF", format!("{name}: {value}\n"));
        add("ended by a bare CR", format!("{name}: {value}\r"));
        add(
            "with NUL behind its value",
            format!("{name}: {value}\0\r\n"),
        );
        add("with NUL in its name", format!("{name}\0: {value}\r\n"));
    }
    check_under_attack(&table);
}

#[test]
fn a_control_byte_anywhere_is_refused() {
    let mut table = Table::new();
    for byte in (0..0x20).chain([0x7f]).map(char::from) {
        let mut add = |part: &str, request: String| {
            table.push(row(format!("{byte:?} in {part}"), request, 400));
        };
        add(
            "the method",
            with_request_line(&format!("G{byte}ET /echo HTTP/1.1")),
        );
        add(
            "the target",
            with_request_line(&format!("GET /ec{byte}ho HTTP/1.1")),
        );
        add(
            "the version",
            with_request_line(&format!("GET /echo HTTP/{byte}1.1")),
        );
        add("a name", with_more(&format!("X{byte}Y: value\r\n")));
        // RFC 7230 section 3.2: a tab in a value is white space.
        if byte != '\t' {
            add("a value", with_more(&format!("X: va{byte}lue\r\n")));
        }
    }
    check_under_attack(&table);
}

#[test]
fn malformed_request_lines_are_refused() {
    let table: &[(&str, u16)] = &[
        ("GET /", 400),
        ("GET", 400),
        ("GET  /echo HTTP/1.1", 400),
        ("GET /echo  HTTP/1.1", 400),
        ("GET /echo HTTP/1.1 ", 400),
        (" GET /echo HTTP/1.1", 400),
        ("GET /ec ho HTTP/1.1", 400),
        ("GET\t/echo\tHTTP/1.1", 400),
        ("GET /echo http/1.1", 400),
        ("GET /echo HTTP/1.10", 400),
        ("GET /echo HTTP/11", 400),
        ("GET /echo HTTP/1", 400),
        ("GET /echo HTTP/a.b", 400),
        ("GET /echo HTTPS/1.1", 400),
        ("GET /echo RTSP/1.0", 400),
        ("GET /echo HTTP/0.9", 505),
        ("GET /echo HTTP/1.0", 505),
        ("GET /echo HTTP/2.0", 505),
        ("GET /echo HTTP/3.0", 505),
        ("GET * HTTP/1.1", 400),
        ("GET localhost:80 HTTP/1.1", 400),
        ("GET echo HTTP/1.1", 400),
        ("GET ?echo HTTP/1.1", 400),
        ("GET /echo#there HTTP/1.1", 400),
        ("GET /echo# HTTP/1.1", 400),
        ("GET /echo?a#b HTTP/1.1", 400),
        ("GET ws://localhost/echo#a HTTP/1.1", 400),
        ("GET http:///echo HTTP/1.1", 400),
        ("GET http://good@evil/echo HTTP/1.1", 400),
        ("GET ftp://localhost/echo HTTP/1.1", 400),
        ("GET javascript:alert(1) HTTP/1.1", 400),
        ("GET /<echo> HTTP/1.1", 400),
        ("GET /\u{e4} HTTP/1.1", 400),
        ("GET /%zz/../../missing HTTP/1.1", 404),
        ("GET /missing HTTP/1.1", 404),
        ("GET //echo HTTP/1.1", 404),
        ("GET /echo/ HTTP/1.1", 404),
        ("GET /%65cho HTTP/1.1", 404),
        ("GET /healthz HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 405),
        ("OPTIONS /echo HTTP/1.1", 405),
        ("CONNECT localhost:80 HTTP/1.1", 405),
        ("POST /echo HTTP/1.1", 405),
        ("PUT /echo HTTP/1.1", 405),
        ("DELETE /echo HTTP/1.1", 405),
        ("PATCH /echo HTTP/1.1", 405),
        ("TRACE /echo HTTP/1.1", 405),
        ("HEAD /echo HTTP/1.1", 405),
        ("get /echo HTTP/1.1", 405),
        ("GETS /echo HTTP/1.1", 405),
        ("WEBSOCKET /echo HTTP/1.1", 405),
    ];
    let mut table: Table<'_> = table
        .iter()
        .map(|(line, status)| row(*line, with_request_line(line), *status))
        .collect();
    table.push(row("no header at all", "GET /echo HTTP/1.1\r\n\r\n", 400));
    table.push(row("HTTP/0.9 alone", "GET /echo\r\n", 400));
    table.push(row(
        "a plain GET",
        "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        426,
    ));
    table.push(row(
        "a plain HEAD",
        "HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
        426,
    ));
    table.push(row(
        "a plain HEAD of nothing",
        "HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        404,
    ));
    check_under_attack(&table);
}

#[test]
fn other_protocols_are_refused() {
    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(505)].concat();
    let frame_first = [
        &frame(TEXT, b"hello")[..],
        upgrade_request("/echo").as_bytes(),
    ]
    .concat();
    check_under_attack(&vec![
        row(
            "HTTP/2 preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            505,
        ),
        row("TLS hello", tls_hello, 400),
        row(
            "SSLv2 hello",
            b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10".to_vec(),
            400,
        ),
        row("SSH", "SSH-2.0-OpenSSH_9.9\r\n", 400),
        row("SMTP", "EHLO localhost\r\n", 400),
        row("Redis", "*1\r\n$4\r\nPING\r\n", 400),
        row("PROXY", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 400),
        row(
            "PROXY, version 2",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(),
            400,
        ),
        row("SOCKS 4", b"\x04\x01\0\x50\x7f\0\0\x01\0\0".to_vec(), 400),
        row("SOCKS 5", b"\x05\x01\0".to_vec(), 400),
        row("PostgreSQL", b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(), 400),
        row("a frame before the handshake", frame_first, 400),
        row("empty lines", "\r\n\r\n\r\n", 400),
        row("NULs", vec![0; 64], 400),
        row(
            "noise",
            noise(1000)
                .into_iter()
                .map(|byte| byte | 0x80)
                .collect::<Vec<_>>(),
            400,
        ),
        row("JSON", "{\"a\": 1}\r\n", 400),
        row(
            "the draft of 2010",
            "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
            Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Key2: 12998 5 Y3 1  .P00\r\n\r\n^n:ds[4U",
            426,
        ),
    ]);
}

#[test]
fn a_smuggled_body_is_refused() {
    let smuggled = "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut table = Table::new();
    for fields in [
        "Content-Length: 5",
        "Content-Length: 00",
        "Content-Length: +0",
        "Content-Length: -1",
        "Content-Length: 0x0",
        "Content-Length: 18446744073709551616",
        "Content-Length:",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-length: 6",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ] {
        for body in ["", "HELLO", "5\r\nHELLO\r\n0\r\n\r\n", smuggled] {
            let upgrade = with_more(&format!("{fields}\r\n"));
            table.push(row(
                format!("{fields}, then {body:?}"),
                format!("{upgrade}{body}"),
                400,
            ));
        }
        let get = format!("GET /echo HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\nHELLO");
        table.push(row(format!("a GET, {fields}"), get, 400));
    }
    // Only the first request of a pipeline is answered.
    table.push(row("a pipeline", smuggled.repeat(3), 426));
    check_under_attack(&table);
}

#[test]
fn malformed_extensions_and_subprotocols_are_refused() {
    let mut table = Table::new();
    for value in [
        ";",
        "=",
        "a;",
        ";a",
        "a;;b",
        "a b",
        "a=b",
        "\"a\"",
        "a; b c",
        "a; b=",
        "a; =b",
        "a; b==c",
        "a; b=c d",
        "a; \"b\"=c",
        "a; b=\"",
        "a; b=\"\"",
        "a; b=\"c",
        "a; b=\"c d\"",
        "a; b=\"c;d\"",
        "a; b=\"c\"d",
        "a; b=\"\\\"",
        "\u{e4}",
        "a; b=\u{e4}",
        "a/b",
        "permessage-deflate; client_max_window_bits=\"1 5\"",
    ] {
        let line = format!("Sec-WebSocket-Extensions: {value}\r\n");
        table.push(row(line.trim_end(), with_more(&line), 400));
    }
    for value in [
        "",
        ",",
        "a, a",
        "a b",
        "a/b",
        "http://a",
        "\"a\"",
        "a;b",
        "a=b",
        "(a)",
        "a@b",
        "\u{e4}",
        "a, \u{e4}",
    ] {
        let line = format!("Sec-WebSocket-Protocol: {value}\r\n");
        table.push(row(line.trim_end(), with_more(&line), 400));
    }
    let twice = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b, a\r\n";
    table.push(row("a subprotocol on two lines", with_more(twice), 400));
    check_under_attack(&table);
}

#[test]
fn request_heads_that_are_too_long_are_431() {
    let long = "x".repeat(20 * KIB);
    check_under_attack(&vec![
        row("a value", with_more(&format!("Cookie: {long}\r\n")), 431),
        row("a name", with_more(&format!("{long}: x\r\n")), 431),
        row(
            "a target",
            with_request_line(&format!("GET /{long} HTTP/1.1")),
            431,
        ),
        row(
            "a method",
            with_request_line(&format!("{long} / HTTP/1.1")),
            431,
        ),
        row(
            "a version",
            with_request_line(&format!("GET / HTTP/{long}")),
            431,
        ),
        row(
            "spaces",
            with_more(&format!("X: {}\r\n", " ".repeat(20 * KIB))),
            431,
        ),
        row(
            "lines",
            with_more(&format!("X: {}\r\n", "y".repeat(200)).repeat(90)),
            431,
        ),
        row("101 headers", with_more(&"X: y\r\n".repeat(96)), 431),
        row("1000 headers", with_more(&"X: y\r\n".repeat(995)), 431),
        row("101 empty headers", with_more(&"X:\r\n".repeat(96)), 431),
    ]);
}

#[test]
fn endless_request_heads_are_431() {
    let table: &[(&str, &str, &str)] = &[
        ("a first word", "", "A"),
        ("a target", "GET /", "a"),
        ("a version", "GET / ", "1"),
        ("a name", "GET / HTTP/1.1\r\n", "X"),
        ("a value", "GET / HTTP/1.1\r\nX: ", "y"),
        ("spaces", "GET / HTTP/1.1\r\nX:", " "),
        ("headers", "GET / HTTP/1.1\r\n", "X: y\r\n"),
    ];
    AttackTest::default().run(|server| {
        for (name, start, more) in table {
            let mut raw = Raw::new(server.addr);
            raw.send(start);
            let is_refused = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let mut stream = raw.0.try_clone().unwrap();
                let is_refused = &is_refused;
                scope.spawn(move || {
                    let more = more.repeat(16 * KIB / more.len());
                    while !is_refused.load(Ordering::Relaxed) {
                        if std::io::Write::write_all(&mut stream, more.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
                let mut answer = raw.response_head();
                let len = answer.header("content-length").unwrap().parse().unwrap();
                let mut body = vec![0; len];
                std::io::Read::read_exact(&mut raw.0, &mut body).unwrap();
                answer.body = String::from_utf8(body).unwrap();
                is_refused.store(true, Ordering::Relaxed);
                assert_eq!(answer.status, 431, "{name}: {}", answer.body);
                raw.expect_end();
            });
        }
    });
}

#[test]
fn another_origin_is_403() {
    let args = ["serve", "--origin", "https://example.org"];
    let mut table = Table::new();
    for origin in [
        "https://example.com",
        "http://example.org",
        "https://example.org.evil",
        "https://example.org/",
        "null",
        "",
    ] {
        table.push(row(
            origin,
            with_more(&format!("Origin: {origin}\r\n")),
            403,
        ));
    }
    table.push(row("none", upgrade_request("/echo"), 403));
    // Not an `AttackTest`: its probe client sends no Origin and would be refused.
    let server = Wsloop::start(&args);
    check(&server, &table);
    let mut raw = Raw::new(server.addr);
    raw.send(with_more("Origin: https://Example.org\r\n"));
    assert_eq!(raw.response_head().status, 101);
    server.expect_clean_exit();
}
