//! RFC 6455 sections 9.1 and 4.1 point 10: well-formed and malformed offers of extensions and subprotocols.

use super::super::OpeningError;
use super::{RFC_EXAMPLE, check, request};
use tungstenite::http::header::SEC_WEBSOCKET_EXTENSIONS;

const ACCEPTED: &str = "upgrade /chat at server.example.com";

/// Returns the RFC's example with the header `name`, one line for each of `values`, and without other offers.
fn offer(name: &str, values: &[&str]) -> String {
    let lines: String = values
        .iter()
        .map(|value| format!("{name}: {value}\r\n"))
        .collect();
    RFC_EXAMPLE
        .replace("Sec-WebSocket-Protocol: chat, superchat\r\n", "")
        .replace(
            "Upgrade: websocket\r\n",
            &format!("Upgrade: websocket\r\n{lines}"),
        )
}

/// Checks the result of a request for each element of `table`, which has the lines of the header `name`.
fn check_offers(name: &str, table: &[&[&str]], expected: Result<&str, OpeningError>) {
    for values in table {
        let text = offer(name, values);
        check(&[(&values.join(" / "), &text, expected.clone())]);
    }
}

#[test]
fn any_well_formed_extension_is_ignored() {
    check_offers(
        "Sec-WebSocket-Extensions",
        &[
            &[],
            &[""],
            &[","],
            &["", " , "],
            &["permessage-deflate"],
            &["permessage-deflate; client_max_window_bits"],
            &["permessage-deflate; server_no_context_takeover; client_max_window_bits=15"],
            &["permessage-deflate;client_max_window_bits=\"15\""],
            &["permessage-deflate; client_max_window_bits, permessage-deflate"],
            &["x-webkit-deflate-frame"],
            &["a; b=\"c\""],
            &["a; b=\"\\c\\d\""],
            &["a\t;\tb = c ; d\t=\t\"e\""],
            &["a", "b; c", "d,e; f=g"],
            &["a, , b"],
            &[",,a,\t,"],
            &["a", ""],
            &["", ",", "a"],
        ],
        Ok(ACCEPTED),
    );
}

#[test]
fn a_malformed_extension_is_rejected() {
    check_offers(
        "Sec-WebSocket-Extensions",
        &[
            &[";"],
            &[";;,="],
            &["="],
            &["a", ";"],
            &["foo;"],
            &["a;, b"],
            &["a;;b"],
            &[";a"],
            &["foo bar"],
            &["a=b"],
            &["\"a\""],
            &["foo; a b"],
            &["foo; a="],
            &["foo; =a"],
            &["foo; ="],
            &["foo; a==b"],
            &["foo; a=b=c"],
            &["foo; a=b c"],
            &["foo; \"a\"=b"],
            &["foo; a=\"\""],
            &["foo; a=\""],
            &["foo; a=\"b"],
            &["foo; a=b\""],
            &["foo; a=\"b c\""],
            &["foo; a=\"b;c\""],
            &["foo; a=\"b,c\""],
            &["foo; a=\"b", "c\""],
            &["foo; a=\"b\"c"],
            &["foo; a=\"b\"\"c\""],
            &["foo; a=\"\\\""],
            &["foo; a=\"\\\"\""],
            &["foo; a=\"\\\\\""],
            &["foo; a=\"\\,\""],
            &["\u{e4}"],
            &["foo; \u{e4}"],
            &["foo; a=\u{e4}"],
            &["foo; a=\"\u{e4}\""],
            &["foo", "\u{e4}"],
        ],
        Err(OpeningError::Extensions),
    );
}

#[test]
fn a_plain_request_may_carry_any_offer() {
    for field in [
        "Sec-WebSocket-Extensions: ;;,=",
        "Sec-WebSocket-Protocol: a, a, \u{e4}",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        check(&[(field, &text, Ok("get / at a"))]);
    }
}

#[test]
fn lists_of_different_tokens_are_accepted() {
    check_offers(
        "Sec-WebSocket-Protocol",
        &[
            &[],
            &["chat"],
            &["chat, Chat"],
            &["chat,superchat", "soap"],
            &["v1.json.example.com"],
            &["a, , b"],
            &[",\ta\t,"],
            &["", "a"],
            &["!#$%&'*+-.^_`|~"],
        ],
        Ok(ACCEPTED),
    );
}

#[test]
fn malformed_and_repeated_subprotocols_are_rejected() {
    check_offers(
        "Sec-WebSocket-Protocol",
        &[
            &[""],
            &[",", ""],
            &["chat, chat"],
            &["chat", "chat"],
            &["a, b, c, b"],
            &["a b"],
            &["a\tb"],
            &["a, b c"],
            &["a/b"],
            &["http://a"],
            &["\"a\""],
            &["a;b"],
            &["a=b"],
            &["(a)"],
            &["a@b"],
            &["\u{e4}"],
            &["a, \u{e4}"],
            &["a", "\u{e4}"],
        ],
        Err(OpeningError::Subprotocols),
    );
}

#[test]
fn headers_returns_offers_as_they_were_sent() {
    let request = request(&offer("Sec-WebSocket-Extensions", &["a; b", "c"]));
    let lines = request.headers().get_all(SEC_WEBSOCKET_EXTENSIONS);
    assert_eq!(lines.iter().collect::<Vec<_>>(), ["a; b", "c"]);
}

#[test]
fn too_many_offers_are_rejected_and_the_response_names_the_header() {
    let lists = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        // All in one line, and each in a line of its own.
        [vec![names.join(", ")], names]
    };
    for (name, count_max, error) in [
        (
            "Sec-WebSocket-Extensions",
            16,
            OpeningError::TooManyExtensions,
        ),
        (
            "Sec-WebSocket-Protocol",
            64,
            OpeningError::TooManySubprotocols,
        ),
    ] {
        for (count, expected) in [
            (count_max, Ok(ACCEPTED)),
            (count_max + 1, Err(error.clone())),
        ] {
            for list in lists(count) {
                let values: Vec<&str> = list.iter().map(String::as_str).collect();
                check_offers(name, &[&values], expected.clone());
            }
        }
        let response = error.response();
        assert_eq!(response.status(), 431);
        let body = String::from_utf8_lossy(response.body());
        assert!(body.contains(name), "{body}");
        // `headers_max` limits the number of lines, but one line can contain thousands of offers.
        let text = offer(name, &[&lists(2000)[0][0]]);
        check(&[("thousands", &text, Err(error))]);
    }
}
