//! RFC 7230 section 3: the request line and the header lines. An invalid character is reported when that byte arrives,
//! any other invalid line when the line is complete.

use super::super::head::HeadError::*;
use super::super::{Head as RequestHead, HeadLimits, OpeningError};
use super::{check, every_way, request_within};
use OpeningError::*;

/// Checks that each of these incomplete requests fails when its last byte arrives, and not earlier.
fn check_fails_at_last_byte(table: &[(&str, &[u8], OpeningError)]) {
    for (name, bytes, expected) in table {
        let (result, taken) = request_within(name, bytes, HeadLimits::default());
        assert_eq!(result, Some(Err(expected.clone())), "{name}");
        assert_eq!(
            taken,
            bytes.len(),
            "{name}: the error is reported at the last byte"
        );
    }
}

#[test]
fn a_request_line_is_a_method_a_target_and_a_version() {
    let table: &[(&str, &str, Result<&str, OpeningError>)] = &[
        ("a path", "GET /a/b HTTP/1.1", Ok("get /a/b at h")),
        (
            "a path and a query",
            "GET /a?b=/c?d HTTP/1.1",
            Ok("get /a?b=/c?d at h"),
        ),
        (
            "two slashes",
            "GET //evil/a HTTP/1.1",
            Ok("get //evil/a at h"),
        ),
        (
            "an empty line before it",
            "\r\nGET / HTTP/1.1",
            Ok("get / at h"),
        ),
        (
            "an empty line before HEAD",
            "\r\nHEAD /a HTTP/1.1",
            Ok("head /a at h"),
        ),
        ("http", "GET http://x:1/a HTTP/1.1", Ok("get /a at x:1")),
        (
            "https without path",
            "HEAD https://x HTTP/1.1",
            Ok("head / at x"),
        ),
        (
            "ws with a query only",
            "GET ws://x?q HTTP/1.1",
            Ok("get /?q at x"),
        ),
        ("wss in capitals", "GET WSS://x/ HTTP/1.1", Ok("get / at x")),
        (
            "two empty lines",
            "\r\n\r\nGET / HTTP/1.1",
            Err(Head(NotHttp)),
        ),
        ("a space before it", " GET / HTTP/1.1", Err(Head(NotHttp))),
        ("one word", "GET", Err(RequestLine)),
        ("HTTP/0.9", "GET /", Err(RequestLine)),
        ("HTTP/0.9 with a space", "GET / ", Err(RequestLine)),
        (
            "two spaces before the target",
            "GET  / HTTP/1.1",
            Err(RequestLine),
        ),
        (
            "two spaces before the version",
            "GET /  HTTP/1.1",
            Err(RequestLine),
        ),
        (
            "a space after the version",
            "GET / HTTP/1.1 ",
            Err(RequestLine),
        ),
        (
            "a space in the target",
            "GET /a b HTTP/1.1",
            Err(RequestLine),
        ),
        (
            "a tab instead of a space",
            "GET\t/ HTTP/1.1",
            Err(Head(NotHttp)),
        ),
        (
            "a tab before the version",
            "GET /\tHTTP/1.1",
            Err(RequestLine),
        ),
        (
            "the version in lower case",
            "GET / http/1.1",
            Err(RequestLine),
        ),
        (
            "a version of three digits",
            "GET / HTTP/1.10",
            Err(RequestLine),
        ),
        ("a version without minor", "GET / HTTP/1", Err(RequestLine)),
        ("a version of letters", "GET / HTTP/x.y", Err(RequestLine)),
        (
            "another protocol",
            "DESCRIBE rtsp://a RTSP/1.0",
            Err(RequestLine),
        ),
        ("HTTP/1.0", "GET / HTTP/1.0", Ok("get / at h")),
        ("HTTP/1.0 and HEAD", "HEAD / HTTP/1.0", Ok("head / at h")),
        ("HTTP/1.2", "GET / HTTP/1.2", Ok("get / at h")),
        (
            "HTTP/1.9 and HEAD",
            "HEAD /1.9 HTTP/1.9",
            Ok("head /1.9 at h"),
        ),
        (
            "HTTP/1.2 after an empty line",
            "\r\nGET /a HTTP/1.2",
            Ok("get /a at h"),
        ),
        ("HTTP/3.1", "GET / HTTP/3.1", Err(HttpVersion)),
        ("HTTP/0.2", "GET / HTTP/0.2", Err(HttpVersion)),
        ("HTTP/1.:", "GET / HTTP/1.:", Err(RequestLine)),
        ("HTTP/0.9 spelled out", "GET / HTTP/0.9", Err(HttpVersion)),
        ("HTTP/2.0", "PRI * HTTP/2.0", Err(HttpVersion)),
        ("POST", "POST / HTTP/1.1", Err(Method)),
        ("OPTIONS", "OPTIONS * HTTP/1.1", Err(Method)),
        ("CONNECT", "CONNECT h:443 HTTP/1.1", Err(Method)),
        ("get in lower case", "get / HTTP/1.1", Err(Method)),
        (
            "a method that begins with GET",
            "GETS / HTTP/1.1",
            Err(Method),
        ),
        ("an empty method", "/ HTTP/1.1", Err(Head(NotHttp))),
        ("asterisk-form", "GET * HTTP/1.1", Err(Target)),
        ("authority-form", "GET h:80 HTTP/1.1", Err(Target)),
        ("a relative path", "GET a/b HTTP/1.1", Err(Target)),
        ("a query without a path", "GET ?a HTTP/1.1", Err(Target)),
        ("an unknown scheme", "GET ftp://x/a HTTP/1.1", Err(Target)),
        (
            "a scheme without host",
            "GET http:///a HTTP/1.1",
            Err(Target),
        ),
        (
            "a scheme with a port only",
            "GET http://:80/ HTTP/1.1",
            Err(Target),
        ),
        (
            "a port that is not a number",
            "HEAD wss://a:x?b HTTP/1.1",
            Err(Target),
        ),
        (
            "user information",
            "GET http://good@evil/ HTTP/1.1",
            Err(Target),
        ),
        ("raw UTF-8", "GET /\u{e4} HTTP/1.1", Err(Target)),
        ("an angle bracket", "GET /<a> HTTP/1.1", Err(Target)),
        ("a fragment", "GET /a#b HTTP/1.1", Err(TargetFragment)),
        (
            "an empty fragment",
            "GET /a?b# HTTP/1.1",
            Err(TargetFragment),
        ),
        (
            "a fragment in an absolute target",
            "GET ws://x/#a HTTP/1.1",
            Err(TargetFragment),
        ),
    ];
    for (name, line, expected) in table {
        check(&[(
            name,
            &format!("{line}\r\nHost: h\r\n\r\n"),
            expected.clone(),
        )]);
    }
}

#[test]
fn errors_are_reported_at_the_invalid_byte_or_at_the_end_of_the_line() {
    check_fails_at_last_byte(&[
        ("a TLS hello", b"\x16", Head(Tls)),
        ("its first byte later", b"A\x16", Head(NotHttp)),
        ("NUL", b"\0", Head(NotHttp)),
        ("a byte above 127", b"\x80", Head(NotHttp)),
        ("a quoted word", b"\"", Head(NotHttp)),
        ("a TLS hello after an empty line", b"\r\n\x16", Head(Tls)),
        ("a second empty line", b"\r\n\r\n", Head(NotHttp)),
        ("a frame instead of a request", b"\x81", Head(NotHttp)),
        ("letters and then a frame", b"AB\x85", Head(NotHttp)),
        ("an LF as the first byte", b"\n", Head(BareLf)),
        ("a CR and something else", b"\rG", Head(BareCr)),
        ("NUL in the target", b"GET /\0", Head(ControlByte(0))),
        ("DEL in the target", b"GET /\x7f", Head(ControlByte(0x7f))),
        (
            "an LF after the request line",
            b"GET / HTTP/1.1\n",
            Head(BareLf),
        ),
        (
            "a CR in the request line",
            b"GET / HTTP/1.1\r ",
            Head(BareCr),
        ),
        ("two CRs", b"GET / HTTP/1.1\r\r", Head(BareCr)),
        ("a malformed request line", b"GET /\r\n", RequestLine),
        ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n", HttpVersion),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\n", HttpVersion),
        ("POST", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", Method),
        ("a fragment", b"GET /#a HTTP/1.1\r\n", TargetFragment),
        ("an invalid target", b"GET * HTTP/1.1\r\n", Target),
        (
            "an LF after a field",
            b"GET / HTTP/1.1\r\nHost: a\n",
            Head(BareLf),
        ),
        (
            "an LF as the blank line",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            Head(BareLf),
        ),
        (
            "a CR in a value",
            b"GET / HTTP/1.1\r\nHost: a\rX",
            Head(BareCr),
        ),
        (
            "NUL in a value",
            b"GET / HTTP/1.1\r\nHost: a\0",
            Head(ControlByte(0)),
        ),
        (
            "ESC in a name",
            b"GET / HTTP/1.1\r\nHo\x1b",
            Head(ControlByte(0x1b)),
        ),
        (
            "a folded line",
            b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n",
            Head(FoldedLine),
        ),
        (
            "a line folded with a tab",
            b"GET / HTTP/1.1\r\nHost: a\r\n\tb: c\r\n",
            Head(FoldedLine),
        ),
        (
            "a space before the first name",
            b"GET / HTTP/1.1\r\n Host: a\r\n",
            Head(FoldedLine),
        ),
        ("no colon", b"GET / HTTP/1.1\r\nHost a\r\n", Head(NoColon)),
        ("no name", b"GET / HTTP/1.1\r\n: a\r\n", Head(FieldName)),
        (
            "a space before the colon",
            b"GET / HTTP/1.1\r\nHost : a\r\n",
            Head(SpaceBeforeColon),
        ),
        (
            "a tab before the colon",
            b"GET / HTTP/1.1\r\nHost\t: a\r\n",
            Head(SpaceBeforeColon),
        ),
        (
            "only a space before the colon",
            b"GET / HTTP/1.1\r\nA: b\r\n : c\r\n",
            Head(FoldedLine),
        ),
        (
            "a space in a name",
            b"GET / HTTP/1.1\r\nHo st: a\r\n",
            Head(FieldName),
        ),
        (
            "a name that is not ASCII",
            b"GET / HTTP/1.1\r\nH\xc3\xb6st: a\r\n",
            Head(FieldName),
        ),
    ]);
}

#[test]
fn an_incomplete_request_is_not_an_error() {
    for text in [
        "",
        "\r",
        "\r\n",
        "G",
        "PRI * HTTP/2.0\r",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
    ] {
        assert_eq!(
            request_within(text, text.as_bytes(), HeadLimits::default()),
            (None, text.len()),
            "{text:?}"
        );
    }
}

#[test]
fn a_value_may_contain_tabs_and_bytes_above_127_and_be_empty() {
    check(&[
        (
            "spaces and tabs around it",
            "GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "no space",
            "GET / HTTP/1.1\r\nhOST:a\r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "UTF-8",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "a tab inside",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\tc\r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "empty",
            "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "a colon",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b: c\r\n\r\n",
            Ok("get / at a"),
        ),
        (
            "every token character",
            "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09aZ: b\r\n\r\n",
            Ok("get / at a"),
        ),
    ]);
}

#[test]
fn a_head_request_is_recognised_by_its_first_word() {
    let beginnings = ["", "H", "HEAD", "GET HEAD ", "\r\n", "\r\nHEAD", "HEAD\r"];
    let table: &[(&str, bool)] = &[
        ("HEAD ", true),
        ("HEAD / HTT", true),
        ("\r\nHEAD ", true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r", true),
    ];
    for (text, expected) in beginnings.map(|text| (text, false)).iter().chain(table) {
        for pieces in [vec![text.as_bytes()], text.as_bytes().chunks(1).collect()] {
            let mut head = RequestHead::new();
            for piece in pieces {
                let mut bytes = piece.to_vec();
                let result = head.receive_request(&mut &mut bytes[..], &HeadLimits::default());
                assert!(matches!(result, Ok(None)), "{text:?}");
            }
            assert_eq!(head.is_head(), *expected, "{text:?}");
        }
    }
}

/// RFC 7231 section 4.3.2: "the server MUST NOT send a message body in the response", whatever the response.
#[test]
fn a_head_request_is_recognised_after_an_error() {
    let table: &[(&str, bool)] = &[
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        ("HEAD / HTTP/1.1\r\n\r\n", true),
        ("\r\nHEAD / HTTP/1.1\r\n\r\n", true),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            true,
        ),
        ("HEAD / HTTP/1.1\r\nHost : a\r\n", true),
        ("HEAD / HTTP/1.1\r\n\n", true),
        ("HEAD / HTTP/2.0\r\n", true),
        ("HEAD /#a HTTP/1.1\r\n", true),
        ("HEAD /\r\n", true),
        ("HEAD \0", true),
        ("HEAD\0", false),
        ("HEAD\r\n", false),
        ("HEADER / HTTP/1.1\r\n\r\n", false),
        ("head / HTTP/1.1\r\n\r\n", false),
        ("\r\n\r\nHEAD", false),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: HEAD \r\n\r\n", false),
        ("POST HEAD HTTP/1.1\r\n\r\n", false),
    ];
    for (text, expected) in table {
        let (is_head, _) = every_way(text, text.as_bytes(), &|| {
            let mut head = RequestHead::new();
            Box::new(move |input| {
                let result = head.receive_request(input, &HeadLimits::default());
                result.transpose().map(|_| head.is_head())
            })
        });
        assert_eq!(is_head, Some(*expected), "{text:?}");
    }
}

#[test]
fn a_head_request_is_recognised_after_exceeding_a_limit() {
    let limits = HeadLimits {
        head_bytes_max: 32,
        headers_max: 1,
    };
    for text in [
        "HEAD /0123456789012345678901234567890123456789",
        "HEAD / HTTP/1.1\r\nA:\r\nB:\r\n",
    ] {
        let mut head = RequestHead::new();
        let mut bytes = text.as_bytes().to_vec();
        let error = head.receive_request(&mut &mut bytes[..], &limits);
        assert_eq!(error.unwrap_err().status(), 431);
        assert!(head.is_head(), "{text}");
    }
}
