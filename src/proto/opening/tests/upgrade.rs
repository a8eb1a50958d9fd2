//! RFC 6455 section 4.2.2: the 101 response, and changes by the application that make the response invalid.

use super::super::{ResponseError, Upgrade};
use super::{RFC_EXAMPLE, request};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;
use tungstenite::http::HeaderMap;
use tungstenite::http::header::{HeaderName, HeaderValue};

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn encoded(text: &str, alter: impl Fn(&mut Upgrade)) -> Result<String, ResponseError> {
    let request = request(text);
    let mut upgrade = Upgrade::new(&request);
    alter(&mut upgrade);
    let mut out = b"before".to_vec();
    let result = upgrade.encode(&request, &mut out);
    let text = String::from_utf8(out)
        .unwrap()
        .strip_prefix("before")
        .unwrap()
        .to_owned();
    assert_eq!(
        result.is_err(),
        text.is_empty(),
        "after an error nothing is appended"
    );
    result.map(|()| text)
}

#[test]
fn the_rfcs_example_is_answered_as_in_the_rfc() {
    assert_eq!(
        encoded(RFC_EXAMPLE, |_| {}).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn the_101_has_the_bytes_of_tungstenites() {
    let (_, request) = server::Request::try_parse(RFC_EXAMPLE.as_bytes())
        .unwrap()
        .unwrap();
    let mut expected = Vec::new();
    server::write_response(&mut expected, &server::create_response(&request).unwrap()).unwrap();
    assert_eq!(encoded(RFC_EXAMPLE, |_| {}).unwrap().as_bytes(), expected);
}

#[test]
fn a_request_that_tungstenite_would_reject_gets_the_same_101() {
    let expected = encoded(RFC_EXAMPLE, |_| {}).unwrap();
    for connection in [
        "Connection: keep-alive\r\nConnection: Upgrade",
        "Connection: keep-alive,\tUpgrade",
        "Connection: x-\u{e4}\r\nConnection: upgrade",
        "Connection: x-\u{e4}, upgrade",
    ] {
        let text = RFC_EXAMPLE.replace("Connection: Upgrade", connection);
        assert_eq!(encoded(&text, |_| {}).unwrap(), expected, "{connection}");
    }
}

#[test]
fn only_an_offered_subprotocol_is_selected() {
    let request = request(RFC_EXAMPLE);
    let mut upgrade = Upgrade::new(&request);
    for name in ["", "Chat", "chat, superchat", "other", "chat\r\n", "\u{e4}"] {
        assert!(!upgrade.select_subprotocol(&request, name), "{name:?}");
        assert_eq!(upgrade.headers().get("sec-websocket-protocol"), None);
    }
    for name in ["superchat", "chat"] {
        assert!(upgrade.select_subprotocol(&request, name));
        assert!(!upgrade.select_subprotocol(&request, "other"));
        let mut out = Vec::new();
        upgrade.encode(&request, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("sec-websocket-protocol").count(), 1, "{text}");
        assert!(
            text.contains(&format!("sec-websocket-protocol: {name}\r\n")),
            "{text}"
        );
    }
}

#[derive(Debug)]
enum Edit {
    Set(&'static str, &'static str),
    Add(&'static str, &'static str),
    Remove(&'static str),
}

impl Edit {
    fn apply(&self, headers: &mut HeaderMap) {
        match *self {
            Self::Set(name, text) => _ = headers.insert(name, value(text)),
            Self::Add(name, text) => _ = headers.append(name, value(text)),
            Self::Remove(name) => _ = headers.remove(name),
        }
    }
}

#[test]
fn an_invalid_101_is_not_encoded() {
    use Edit::*;
    let reserved = |name| Err(ResponseError::Reserved(HeaderName::from_static(name)));
    let subprotocol = || Err(ResponseError::Subprotocol);
    let table: &[(Edit, Result<(), ResponseError>)] = &[
        (Set("x", "y"), Ok(())),
        (Set("upgrade", "WebSocket"), Ok(())),
        (Set("connection", "upgrade"), Ok(())),
        (
            Remove("sec-websocket-accept"),
            reserved("sec-websocket-accept"),
        ),
        (
            Set("sec-websocket-accept", "x"),
            reserved("sec-websocket-accept"),
        ),
        (
            Add("sec-websocket-accept", ACCEPT),
            reserved("sec-websocket-accept"),
        ),
        (Remove("upgrade"), reserved("upgrade")),
        (Set("upgrade", "h2c"), reserved("upgrade")),
        (Add("upgrade", "websocket"), reserved("upgrade")),
        (Remove("connection"), reserved("connection")),
        (Add("connection", "close"), reserved("connection")),
        (Set("content-length", "0"), reserved("content-length")),
        (
            Set("transfer-encoding", "chunked"),
            reserved("transfer-encoding"),
        ),
        (
            Set("sec-websocket-extensions", "permessage-deflate"),
            reserved("sec-websocket-extensions"),
        ),
        (Set("sec-websocket-protocol", "chat"), Ok(())),
        (Set("sec-websocket-protocol", "mqtt"), subprotocol()),
        (Set("sec-websocket-protocol", ""), subprotocol()),
        (
            Set("sec-websocket-protocol", "chat, superchat"),
            subprotocol(),
        ),
        (Set("x", "\u{e4}"), Err(ResponseError::Value)),
    ];
    for (edit, expected) in table {
        let result = encoded(RFC_EXAMPLE, |upgrade| edit.apply(upgrade.headers_mut()));
        assert_eq!(&result.map(|_| ()), expected, "{edit:?}");
    }
}

#[test]
fn a_101_with_two_subprotocols_is_not_encoded() {
    let result = encoded(RFC_EXAMPLE, |upgrade| {
        Edit::Add("sec-websocket-protocol", "chat").apply(upgrade.headers_mut());
        Edit::Add("sec-websocket-protocol", "chat").apply(upgrade.headers_mut());
    });
    assert_eq!(result, Err(ResponseError::Subprotocol));
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap()
}

#[test]
#[should_panic(expected = "only an opening handshake")]
fn a_plain_request_is_not_answered_with_101() {
    Upgrade::new(&request("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
}
