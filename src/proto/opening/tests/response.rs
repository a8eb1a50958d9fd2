//! RFC 6455 section 4.1: the client's request, and which responses a client accepts.

use super::super::head::HeadError::*;
use super::super::{ClientOpening, ClientOpeningError, Head, HeadLimits, RequestError, Upgrade};
use super::{every_way, request};
use ClientOpeningError::*;

const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// The selected subprotocol, if any, or the error.
type Expected = Result<Option<&'static str>, ClientOpeningError>;

fn opening() -> ClientOpening {
    ClientOpening::new("server.example.com", "/chat", *b"the sample nonce")
        .and_then(|opening| opening.with_subprotocol("chat"))
        .and_then(|opening| opening.with_subprotocol("superchat"))
        .and_then(|opening| opening.with_header("Origin", "http://example.com"))
        .unwrap()
}

/// Receives a response in every way. Returns the selected subprotocol, or the error.
fn answer(name: &str, text: &str) -> Result<Option<String>, ClientOpeningError> {
    let (result, _) = every_way(name, text.as_bytes(), &|| {
        let mut opening = opening();
        Box::new(move |input| {
            let result = opening
                .receive_response(input, &HeadLimits::default())
                .transpose()?;
            Some(result.map(|response| response.subprotocol().map(str::to_owned)))
        })
    });
    result.unwrap_or_else(|| panic!("{name}: incomplete"))
}

#[test]
fn the_request_is_the_rfcs_example() {
    let mut out = b"before".to_vec();
    opening().encode_request(&mut out);
    let text = String::from_utf8(out).unwrap();
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[0], "beforeGET /chat HTTP/1.1");
    assert_eq!(
        lines[lines.len() - 2..],
        ["", ""],
        "the blank line is the last"
    );
    // The order of the headers is not specified. Sorting moves the two empty strings to the start.
    lines[1..].sort_unstable();
    assert_eq!(
        lines[3..],
        [
            "Connection: Upgrade",
            "Host: server.example.com",
            "Origin: http://example.com",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: chat, superchat",
            "Sec-WebSocket-Version: 13",
            "Upgrade: websocket",
        ]
    );
}

#[test]
fn client_and_server_accept_each_other() {
    let mut client = opening();
    let mut bytes = Vec::new();
    client.encode_request(&mut bytes);
    let request = Head::new()
        .receive_request(&mut &mut bytes[..], &HeadLimits::default())
        .unwrap()
        .unwrap();
    let mut upgrade = Upgrade::new(&request);
    assert!(upgrade.select_subprotocol(&request, "superchat"));
    let mut bytes = Vec::new();
    upgrade.encode(&request, &mut bytes).unwrap();
    bytes.extend_from_slice(b"\x81\x00");
    let mut input = &mut bytes[..];
    let response = client
        .receive_response(&mut input, &HeadLimits::default())
        .unwrap()
        .unwrap();
    assert_eq!(
        (response.status(), response.subprotocol()),
        (101, Some("superchat"))
    );
    assert_eq!(response.headers().len(), 4);
    assert_eq!(input, b"\x81\x00");
}

#[test]
fn a_response_must_follow_every_rule() {
    // Name, text in `ANSWER`, replacement of that text, expected result.
    let table: &[(&str, &str, &str, Expected)] = &[
        ("unchanged", "", "", Ok(Some("chat"))),
        ("no reason", " Switching Protocols", "", Ok(Some("chat"))),
        (
            "an empty reason",
            " Switching Protocols",
            " ",
            Ok(Some("chat")),
        ),
        (
            "a reason that is not ASCII",
            "Switching",
            "\u{e4}",
            Ok(Some("chat")),
        ),
        (
            "no subprotocol",
            "Sec-WebSocket-Protocol: chat\r\n",
            "",
            Ok(None),
        ),
        ("another subprotocol", ": chat", ": mqtt", Err(Subprotocol)),
        (
            "the case of a subprotocol",
            ": chat",
            ": Chat",
            Err(Subprotocol),
        ),
        (
            "a list of subprotocols",
            ": chat",
            ": chat, superchat",
            Err(Subprotocol),
        ),
        (
            "two subprotocols",
            ": chat",
            ": chat\r\nSec-WebSocket-Protocol: chat",
            Err(Subprotocol),
        ),
        (
            "Upgrade in capitals",
            ": websocket",
            ": WEBSOCKET",
            Ok(Some("chat")),
        ),
        ("no Upgrade", "Upgrade: websocket\r\n", "", Err(Upgrade)),
        ("another Upgrade", ": websocket", ": h2c", Err(Upgrade)),
        (
            "a list in Upgrade",
            ": websocket",
            ": websocket, h2c",
            Err(Upgrade),
        ),
        (
            "two Upgrades",
            ": websocket",
            ": websocket\r\nUpgrade: websocket",
            Err(Upgrade),
        ),
        (
            "Connection as a list",
            ": Upgrade",
            ":keep-alive,\tupgrade",
            Ok(Some("chat")),
        ),
        (
            "Connection on two lines",
            ": Upgrade",
            ": x\r\nConnection: upgrade",
            Ok(Some("chat")),
        ),
        (
            "no Connection",
            "Connection: Upgrade\r\n",
            "",
            Err(Connection),
        ),
        (
            "another Connection",
            ": Upgrade",
            ": close",
            Err(Connection),
        ),
        (
            "no accept",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "",
            Err(Accept),
        ),
        ("another accept", "s3pP", "S3pP", Err(Accept)),
        ("a list in accept", "xOo=", "xOo=, x", Err(Accept)),
        (
            "two accepts",
            "xOo=",
            "xOo=\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            Err(Accept),
        ),
        (
            "an extension",
            ": chat",
            ": chat\r\nSec-WebSocket-Extensions: permessage-deflate",
            Err(Extension),
        ),
        (
            "an extension not ASCII",
            ": chat",
            ": chat\r\nSec-WebSocket-Extensions: \u{e4}",
            Err(Extension),
        ),
        ("HTTP/1.2", "HTTP/1.1", "HTTP/1.2", Ok(Some("chat"))),
        ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", Err(HttpVersion)),
        ("HTTP/2.0", "HTTP/1.1", "HTTP/2.0", Err(HttpVersion)),
        ("no version", "HTTP/1.1 ", "", Err(StatusLine)),
        (
            "an empty line before it",
            "HTTP",
            "\r\nHTTP",
            Err(Head(NotHttp)),
        ),
        ("two spaces", "HTTP/1.1 ", "HTTP/1.1  ", Err(StatusLine)),
        ("four digits", "101", "1010", Err(StatusLine)),
        ("two digits", "101", "10", Err(StatusLine)),
        ("a leading zero", "101", "011", Err(StatusLine)),
        ("letters", "101", "1O1", Err(StatusLine)),
        (
            "a CR in the reason",
            "Switching",
            "\rSwitching",
            Err(Head(BareCr)),
        ),
        ("a bare LF", "Upgrade\r\n", "Upgrade\n", Err(Head(BareLf))),
        (
            "a folded line",
            ": chat",
            ":\r\n chat",
            Err(Head(FoldedLine)),
        ),
        ("binary", "HTTP", "\0", Err(Head(NotHttp))),
    ];
    for (name, from, to, expected) in table {
        let result = answer(name, &ANSWER.replacen(from, to, 1));
        assert_eq!(
            result.as_ref().map(Option::as_deref).map_err(Clone::clone),
            expected.clone(),
            "{name}"
        );
    }
}

#[test]
fn any_other_status_is_an_error_that_carries_the_head() {
    for status in [200, 302, 404, 426, 599] {
        let text =
            format!("HTTP/1.1 {status} Some Reason\r\nLocation: /x\r\nContent-Length: 4\r\n\r\n");
        let Err(Status(response)) = answer("a status", &text) else {
            panic!("{status} is not 101")
        };
        assert_eq!(
            (response.status(), response.header("location")),
            (status, Some("/x"))
        );
        assert_eq!(
            Status(response).to_string(),
            format!("the server answered {status} instead of 101")
        );
    }
}

#[test]
fn interim_responses_are_skipped() {
    let table: &[(&str, Expected)] = &[
        ("HTTP/1.1 100 Continue\r\n\r\n", Ok(Some("chat"))),
        (
            "HTTP/1.1 100\r\n\r\nHTTP/1.2 199 x\r\n\r\n",
            Ok(Some("chat")),
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nUpgrade: h2c\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            Ok(Some("chat")),
        ),
        ("HTTP/1.0 100 Continue\r\n\r\n", Err(HttpVersion)),
        ("HTTP/1.1 099 Continue\r\n\r\n", Err(StatusLine)),
        ("HTTP/1.1 100 Continue\r\nX\r\n\r\n", Err(Head(NoColon))),
        ("HTTP/1.1 100 Continue\r\n\r\n\r\n", Err(Head(NotHttp))),
    ];
    for (interim, expected) in table {
        let result = answer(interim, &format!("{interim}{ANSWER}"));
        assert_eq!(
            result.as_ref().map(Option::as_deref).map_err(Clone::clone),
            expected.clone(),
            "{interim}"
        );
    }
    let refused = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n";
    assert!(matches!(answer(refused, refused), Err(Status(response)) if response.status() == 404));
}

#[test]
fn the_limit_applies_to_interim_and_final_responses_together() {
    const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let text = INTERIM.repeat(3) + ANSWER;
    let bounded = |head_bytes_max, text: &str| {
        let limits = HeadLimits {
            head_bytes_max,
            headers_max: 4,
        };
        let (result, taken) = every_way("interim", text.as_bytes(), &|| {
            let mut opening = opening();
            Box::new(move |input| {
                let result = opening.receive_response(input, &limits).transpose()?;
                Some(result.map(|response| response.status()))
            })
        });
        (result, taken)
    };
    assert_eq!(bounded(text.len(), &text), (Some(Ok(101)), text.len()));
    let too_long = Some(Err(Head(TooLong)));
    for max in [text.len() - 1, 3 * INTERIM.len(), 3 * INTERIM.len() - 1, 1] {
        assert_eq!(bounded(max, &text), (too_long.clone(), max));
    }
    // A server that sends only interim responses.
    assert_eq!(bounded(100, &INTERIM.repeat(9)), (too_long, 100));
}

#[test]
fn a_request_that_must_not_be_sent_is_an_error() {
    for target in [
        "", "a", "*", "?a", "/a b", "/a#b", "/\u{e4}", "/\r\n", "ws://a/",
    ] {
        assert_eq!(
            ClientOpening::new("a", target, [0; 16]).err(),
            Some(RequestError::Target),
            "{target:?}"
        );
    }
    for name in ["", "a b", "chat", "a,b", "a\r\n", "\u{e4}"] {
        assert_eq!(
            opening().with_subprotocol(name).err(),
            Some(RequestError::Subprotocol),
            "{name:?}"
        );
    }
    for (name, value, expected) in [
        ("X", "y", None),
        ("X Y", "y", Some(RequestError::Name)),
        ("X", "y\r\nz", Some(RequestError::Value)),
        ("X", "\u{e4}", Some(RequestError::Value)),
    ] {
        assert_eq!(
            opening().with_header(name, value).err(),
            expected,
            "{name:?}: {value:?}"
        );
    }
    for name in [
        "Host",
        "upgrade",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Protocol",
        "Content-Length",
    ] {
        assert!(
            matches!(
                opening().with_header(name, "x").err(),
                Some(RequestError::Reserved(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn a_request_with_additional_headers_is_accepted_by_a_server() {
    let opening = ClientOpening::new("[::1]:8080", "/a?b=c", [7; 16])
        .and_then(|opening| opening.with_header("Cookie", "a=b"))
        .and_then(|opening| opening.with_header("Cookie", "c=d"))
        .unwrap();
    let mut out = Vec::new();
    opening.encode_request(&mut out);
    let request = request(std::str::from_utf8(&out).unwrap());
    assert!(request.is_upgrade());
    assert_eq!(
        (request.path(), request.query(), request.host()),
        ("/a", Some("b=c"), "[::1]:8080")
    );
}
