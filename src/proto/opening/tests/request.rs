//! RFC 6455 section 4.2.1: requests with a complete head that are accepted, and others that are rejected, with their
//! errors and the responses.

use super::super::OpeningError;
use super::super::head::HeadError::*;
use super::{RFC_EXAMPLE, check, request};
use OpeningError::*;

/// Returns the RFC's example with the line that begins with `from` replaced by `to`, which may be several lines or
/// none.
fn altered(from: &str, to: &str) -> String {
    let start = RFC_EXAMPLE.find(from).expect("a line of the example");
    let end = start + RFC_EXAMPLE[start..].find("\r\n").expect("every line ends") + 2;
    format!("{}{to}{}", &RFC_EXAMPLE[..start], &RFC_EXAMPLE[end..])
}

#[test]
fn real_clients_are_accepted() {
    let chrome = "GET /ws?token=a%20b HTTP/1.1\r\nHost: localhost:8080\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
        Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like \
        Gecko) Chrome/131.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: http://localhost:8080\r\n\
        Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: \
        en-US,en;q=0.9\r\nCookie: session=0123456789abcdef; theme=dark\r\nSec-WebSocket-Key: \
        x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Extensions: permessage-deflate; \
        client_max_window_bits\r\n\r\n";
    let firefox = "GET /chat HTTP/1.1\r\nHost: 127.0.0.1:8181\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; \
        rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\nSec-WebSocket-Version: 13\r\nOrigin: \
        http://127.0.0.1:8181\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Key: \
        wDqumtseNBJdhkihL6PW7w==\r\nConnection: keep-alive, Upgrade\r\nCookie: a=b; name=j\u{fc}rgen\r\n\
        Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\nPragma: no-cache\r\n\
        Cache-Control: no-cache\r\nUpgrade: websocket\r\n\r\n";
    let npm_ws = "GET / HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGVmYXVsdC1rZXktMTIzNA==\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate; \
        client_max_window_bits\r\nHost: 127.0.0.1:6080\r\n\r\n";
    let curl = "GET /echo HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.11.1\r\nAccept: */*\r\nUpgrade: \
        websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: 5m7Bzmd5vvlDGAYnd7MWMA==\r\nConnection: \
        Upgrade\r\n\r\n";
    check(&[
        (
            "the RFC's example",
            RFC_EXAMPLE,
            Ok("upgrade /chat at server.example.com"),
        ),
        (
            "Chrome",
            chrome,
            Ok("upgrade /ws?token=a%20b at localhost:8080"),
        ),
        ("Firefox", firefox, Ok("upgrade /chat at 127.0.0.1:8181")),
        ("npm ws", npm_ws, Ok("upgrade / at 127.0.0.1:6080")),
        ("curl ws://", curl, Ok("upgrade /echo at localhost:8080")),
        (
            "curl http://",
            "GET /healthz HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.11.1\r\nAccept: */*\r\n\r\n",
            Ok("get /healthz at localhost:8080"),
        ),
        (
            "curl -I",
            "HEAD / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.11.1\r\nAccept: */*\r\n\r\n",
            Ok("head / at localhost"),
        ),
        (
            "curl --http2, which requests h2c and accepts HTTP/1.1",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            Ok("get / at a"),
        ),
    ]);
}

#[test]
fn host_is_required_exactly_once() {
    let table: &[(&str, &str, Result<&str, OpeningError>)] = &[
        ("a name", "Host: a", Ok("get / at a")),
        (
            "IPv6 and a port",
            "Host: [::1]:8080",
            Ok("get / at [::1]:8080"),
        ),
        ("missing", "X: a", Err(HostMissing)),
        ("twice", "Host: a\r\nHost: b", Err(HostRepeated)),
        (
            "twice the same",
            "Host: a\r\nX: y\r\nhost: a",
            Err(HostRepeated),
        ),
        ("empty", "Host:", Err(HostInvalid)),
        ("blank", "Host: \t ", Err(HostInvalid)),
        ("a port only", "Host: :80", Err(HostInvalid)),
        ("two names", "Host: a b", Err(HostInvalid)),
        ("a path", "Host: a/b", Err(HostInvalid)),
        ("user information", "Host: a@b", Err(HostInvalid)),
        ("not ASCII", "Host: \u{e4}", Err(HostInvalid)),
    ];
    for (name, fields, expected) in table {
        check(&[(
            name,
            &format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n"),
            expected.clone(),
        )]);
    }
    check(&[
        (
            "absolute, without Host",
            "GET ws://a/ HTTP/1.1\r\n\r\n",
            Err(HostMissing),
        ),
        (
            "absolute, twice",
            "GET ws://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            Err(HostRepeated),
        ),
        (
            "absolute, another",
            "GET ws://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            Ok("get / at a"),
        ),
    ]);
}

#[test]
fn a_body_is_never_accepted() {
    let table: &[(&str, &str, Result<&str, OpeningError>)] = &[
        (
            "length 0",
            "Content-Length: 0",
            Ok("upgrade /chat at server.example.com"),
        ),
        ("length 5", "Content-Length: 5", Err(ContentLength)),
        ("length 00", "Content-Length: 00", Err(ContentLength)),
        ("length +0", "Content-Length: +0", Err(ContentLength)),
        ("length -1", "Content-Length: -1", Err(ContentLength)),
        ("no length", "Content-Length:", Err(ContentLength)),
        ("a list", "Content-Length: 0, 0", Err(ContentLength)),
        (
            "twice 0",
            "Content-Length: 0\r\nContent-Length: 0",
            Err(ContentLength),
        ),
        (
            "chunked",
            "Transfer-Encoding: chunked",
            Err(TransferEncoding),
        ),
        (
            "identity",
            "transfer-encoding: identity",
            Err(TransferEncoding),
        ),
        ("empty", "Transfer-Encoding:", Err(TransferEncoding)),
        (
            "both",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            Err(TransferEncoding),
        ),
    ];
    for (name, field, expected) in table {
        let upgrade = altered("Origin", &format!("{field}\r\n"));
        check(&[(name, &upgrade, expected.clone())]);
        let get = format!("GET /chat HTTP/1.1\r\nHost: server.example.com\r\n{field}\r\n\r\n");
        let expected = expected
            .as_ref()
            .map(|_| "get /chat at server.example.com")
            .map_err(Clone::clone);
        check(&[(name, &get, expected)]);
    }
}

#[test]
fn an_opening_handshake_must_follow_every_rule() {
    const OK: Result<&str, OpeningError> = Ok("upgrade /chat at server.example.com");
    // Name, beginning of a line of the RFC's example, replacement of that line, expected result.
    let table: &[(&str, &str, &str, Result<&str, OpeningError>)] = &[
        ("HEAD", "GET", "HEAD /chat HTTP/1.1\r\n", Err(UpgradeMethod)),
        (
            "Upgrade in capitals",
            "Upgrade",
            "UPGRADE: WebSocket\r\n",
            OK,
        ),
        ("no Upgrade", "Upgrade", "", Err(UpgradeMissing)),
        (
            "another Upgrade",
            "Upgrade",
            "Upgrade: h2c\r\n",
            Err(UpgradeNotWebSocket),
        ),
        (
            "an empty Upgrade",
            "Upgrade",
            "Upgrade:\r\n",
            Err(UpgradeNotWebSocket),
        ),
        (
            "a list in Upgrade",
            "Upgrade",
            "Upgrade: websocket, foo\r\n",
            Err(UpgradeNotWebSocket),
        ),
        (
            "two Upgrades",
            "Upgrade",
            "Upgrade: websocket\r\nUpgrade: websocket\r\n",
            Err(UpgradeNotWebSocket),
        ),
        (
            "a longer word",
            "Upgrade",
            "Upgrade: websockets\r\n",
            Err(UpgradeNotWebSocket),
        ),
        (
            "Connection in lower case",
            "Connection",
            "connection: upgrade\r\n",
            OK,
        ),
        (
            "Connection as a list",
            "Connection",
            "Connection: keep-alive, Upgrade\r\n",
            OK,
        ),
        (
            "Connection without spaces",
            "Connection",
            "Connection: keep-alive,Upgrade,x\r\n",
            OK,
        ),
        (
            "Connection with tabs",
            "Connection",
            "Connection: keep-alive\t,\tUpgrade\t\r\n",
            OK,
        ),
        (
            "Connection with empty elements",
            "Connection",
            "Connection: ,, upgrade ,\r\n",
            OK,
        ),
        (
            "Connection on two lines",
            "Connection",
            "Connection: keep-alive\r\nConnection: Upgrade\r\n",
            OK,
        ),
        ("no Connection", "Connection", "", Err(ConnectionNotUpgrade)),
        (
            "Connection: close",
            "Connection",
            "Connection: close\r\n",
            Err(ConnectionNotUpgrade),
        ),
        (
            "words, no list",
            "Connection",
            "Connection: keep-alive Upgrade\r\n",
            Err(ConnectionNotUpgrade),
        ),
        (
            "a longer token",
            "Connection",
            "Connection: upgraded\r\n",
            Err(ConnectionNotUpgrade),
        ),
        (
            "a quoted token",
            "Connection",
            "Connection: \"upgrade\"\r\n",
            Err(ConnectionNotUpgrade),
        ),
        (
            "no version",
            "Sec-WebSocket-Version",
            "",
            Err(WebSocketVersion),
        ),
        (
            "version 8",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version: 8\r\n",
            Err(WebSocketVersion),
        ),
        (
            "version 013",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version: 013\r\n",
            Err(WebSocketVersion),
        ),
        (
            "versions 13, 8",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version: 13, 8\r\n",
            Err(WebSocketVersion),
        ),
        (
            "an empty version",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version:\r\n",
            Err(WebSocketVersion),
        ),
        (
            "two versions",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n",
            Err(WebSocketVersion),
        ),
        ("no key", "Sec-WebSocket-Key", "", Err(KeyMissing)),
        (
            "an empty key",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key:\r\n",
            Err(KeyInvalid),
        ),
        (
            "a short key",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n",
            Err(KeyInvalid),
        ),
        (
            "18 bytes",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA\r\n",
            Err(KeyInvalid),
        ),
        (
            "a key whose last 4 bits are not 0",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n",
            Err(KeyInvalid),
        ),
        (
            "two keys",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            Err(KeyRepeated),
        ),
        ("HTTP/1.2", "GET", "GET /chat HTTP/1.2\r\n", OK),
        (
            "HTTP/1.0",
            "GET",
            "GET /chat HTTP/1.0\r\n",
            Err(HttpVersion),
        ),
        (
            "a Connection that is not all ASCII",
            "Connection",
            "Connection: x-\u{e4}, Upgrade\r\n",
            OK,
        ),
        (
            "no extension",
            "Origin",
            "Sec-WebSocket-Extensions:\r\n",
            OK,
        ),
        (
            "a subprotocol twice",
            "Origin",
            "Sec-WebSocket-Protocol: chat\r\n",
            Err(Subprotocols),
        ),
        ("no Origin", "Origin", "", OK),
        (
            "two Origins",
            "Origin",
            "Origin: http://a\r\nOrigin: http://b\r\n",
            Err(OriginRepeated),
        ),
    ];
    for (name, from, to, expected) in table {
        check(&[(name, &altered(from, to), expected.clone())]);
    }
}

#[test]
fn a_get_is_a_plain_request_unless_it_has_upgrade_websocket_a_key_or_a_version() {
    let table: &[(&str, &str, Result<&str, OpeningError>)] = &[
        ("no Upgrade", "Connection: Upgrade", Ok("get / at a")),
        ("another Upgrade", "Upgrade: h2c", Ok("get / at a")),
        (
            "a subprotocol alone",
            "Sec-WebSocket-Protocol: chat",
            Ok("get / at a"),
        ),
        (
            "websocket in a list",
            "Upgrade: h2c, WebSocket",
            Err(UpgradeNotWebSocket),
        ),
        (
            "websocket on a second line",
            "Upgrade: h2c\r\nUpgrade: websocket",
            Err(UpgradeNotWebSocket),
        ),
        (
            "websocket alone",
            "Upgrade: websocket",
            Err(ConnectionNotUpgrade),
        ),
        (
            "a handshake of a draft of 2010",
            "Upgrade: WebSocket\r\nConnection: Upgrade",
            Err(WebSocketVersion),
        ),
        ("a key alone", "Sec-WebSocket-Key: x", Err(UpgradeMissing)),
        (
            "a version alone",
            "Sec-WebSocket-Version: 13",
            Err(UpgradeMissing),
        ),
    ];
    for (name, fields, expected) in table {
        check(&[(
            name,
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"),
            expected.clone(),
        )]);
    }
}

#[test]
fn headers_are_found_by_name() {
    let request = request(
        "GET ws://u/p?q HTTP/1.1\r\nHost: h\r\nOrigin: http://o\r\nX: \u{e4}\r\nSec-WebSocket-Protocol: a, b,\r\n\
         Sec-WebSocket-Protocol:\t,c\t, d\r\nA: 1\r\na: 2\r\n\r\n",
    );
    assert_eq!(
        (request.header("ORIGIN"), request.origin()),
        (Some("http://o"), Some("http://o"))
    );
    assert_eq!(
        (
            request.header("x"),
            request.header("A"),
            request.header("b")
        ),
        (Some("\u{e4}"), Some("1"), None)
    );
    assert_eq!(
        request.subprotocols().collect::<Vec<_>>(),
        ["a", "b", "c", "d"]
    );
    assert_eq!(
        (request.uri().to_string().as_str(), request.host()),
        ("ws://u/p?q", "u")
    );
    assert_eq!(request.headers().get_all("a").iter().count(), 2);
}

#[test]
fn every_error_response_is_complete_and_states_the_error() {
    let table: &[(OpeningError, &str, &[&str])] = &[
        (Head(NotHttp), "400 Bad Request", &[]),
        (Head(ControlByte(0x1b)), "400 Bad Request", &[]),
        (Head(TooLong), "431 Request Header Fields Too Large", &[]),
        (
            Head(TooManyHeaders),
            "431 Request Header Fields Too Large",
            &[],
        ),
        (Method, "405 Method Not Allowed", &["allow: GET, HEAD"]),
        (UpgradeMethod, "405 Method Not Allowed", &["allow: GET"]),
        (HttpVersion, "505 HTTP Version Not Supported", &[]),
        (
            WebSocketVersion,
            "426 Upgrade Required",
            &["sec-websocket-version: 13", "upgrade: websocket"],
        ),
        (HostMissing, "400 Bad Request", &[]),
        (KeyInvalid, "400 Bad Request", &[]),
        (Extensions, "400 Bad Request", &[]),
        (Subprotocols, "400 Bad Request", &[]),
    ];
    for (error, status, fields) in table {
        let mut out = Vec::new();
        error.response().encode(false, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut head_only = Vec::new();
        error.response().encode(true, &mut head_only);
        assert_eq!(head_only, format!("{head}\r\n\r\n").as_bytes());
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some(format!("HTTP/1.1 {status}").as_str()));
        assert_eq!(error.status().to_string(), status[..3]);
        assert_eq!(body, format!("{error}\n"));
        let lines: Vec<&str> = lines.collect();
        assert!(
            lines.contains(&format!("content-length: {}", body.len()).as_str()),
            "{text}"
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("connection: close")),
            "{text}"
        );
        for field in *fields {
            assert!(lines.contains(field), "{text}");
        }
    }
}

#[test]
fn the_path_the_query_and_the_cookies_are_decoded() {
    let cookies = "Cookie: a=1; b=\"2\"\r\nx: y\r\nCookie: a=3; \u{e9}=\u{e9}\r\n";
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{cookies}\r\n");
    for target in ["/%e2%82%ac/+?a=%20+&b", "http://a/%e2%82%ac/+?a=%20+&b"] {
        let request = request(&head(target));
        assert_eq!(request.decoded_path(), "/\u{20ac}/+", "{target}");
        let pairs: Vec<_> = request.query_pairs().collect();
        assert_eq!(pairs, [("a".into(), "  ".into()), ("b".into(), "".into())]);
        assert_eq!(request.query_value("b").as_deref(), Some(""));
        assert_eq!(request.query_value("c"), None);
        let cookies: Vec<_> = request.cookies().collect();
        assert_eq!(
            cookies,
            [("a", "1"), ("b", "\"2\""), ("a", "3"), ("\u{e9}", "\u{e9}")]
        );
        assert_eq!(
            (request.cookie("a"), request.cookie("A")),
            (Some("1"), None)
        );
    }
    for target in ["/", "/?", "http://a", "http://a?"] {
        let request = request(&head(target));
        assert_eq!(request.decoded_path(), "/", "{target}");
        assert_eq!(request.query_pairs().count(), 0, "{target}");
        assert_eq!(request.query_value(""), None, "{target}");
    }
    // A head of the default maximum length: every byte is looked at a few times at most, and nothing grows.
    for piece in ["&", "=", "+", "%", "%41", "%ff", "a&"] {
        let long = piece.repeat(15_000 / piece.len());
        let request = request(&head(&format!("/{long}?{long}")[..15_000]));
        let len: usize = request
            .query_pairs()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(len <= request.query().map_or(0, str::len), "{piece}");
        assert!(
            request.decoded_path().len() <= request.path().len(),
            "{piece}"
        );
    }
}

#[test]
fn a_request_in_http_1_0_needs_no_host() {
    check(&[
        (
            "HAProxy's default",
            "OPTIONS / HTTP/1.0\r\n\r\n",
            Err(Method),
        ),
        (
            "ab",
            "GET /a HTTP/1.0\r\nUser-Agent: ApacheBench/2.3\r\n\r\n",
            Ok("get /a at "),
        ),
        (
            "nginx",
            "GET /a HTTP/1.0\r\nHost: b\r\nConnection: close\r\n\r\n",
            Ok("get /a at b"),
        ),
        (
            "two",
            "GET /a HTTP/1.0\r\nHost: b\r\nHost: b\r\n\r\n",
            Err(HostRepeated),
        ),
        (
            "an invalid one",
            "GET /a HTTP/1.0\r\nHost: b/\r\n\r\n",
            Err(HostInvalid),
        ),
        ("HTTP/1.1", "GET /a HTTP/1.1\r\n\r\n", Err(HostMissing)),
    ]);
}

#[test]
fn an_invalid_length_with_another_method_is_400_and_a_valid_one_405() {
    let lengths = [
        ("", Method),
        ("Content-Length: 3\r\n", Method),
        ("Transfer-Encoding: chunked\r\n", Method),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: Chunked\r\n",
            Method,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", TransferEncoding),
        ("Transfer-Encoding: nonsense\r\n", TransferEncoding),
        ("Transfer-Encoding:\r\n", TransferEncoding),
        ("Content-Length:\r\n", ContentLengthInvalid),
        ("Content-Length: -1\r\n", ContentLengthInvalid),
        ("Content-Length: +3\r\n", ContentLengthInvalid),
        ("Content-Length: 0x3\r\n", ContentLengthInvalid),
        ("Content-Length: 3, 3\r\n", ContentLengthInvalid),
        (
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            ContentLengthInvalid,
        ),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            ContentLengthInvalid,
        ),
    ];
    for (lines, expected) in lengths {
        for method in ["POST", "PUT", "get", "OPTIONS"] {
            let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            check(&[(&text, &text, Err(expected.clone()))]);
        }
    }
    // RFC 9112 section 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header
    // field MUST treat the message as if the framing is faulty".
    check(&[(
        "HTTP/1.0",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(TransferEncoding),
    )]);
    // Too short to be read as GET by the parser of the headers.
    check(&[(
        "a short method",
        "A / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        Err(Method),
    )]);
}
