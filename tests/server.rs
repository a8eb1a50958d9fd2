//! Tests of messages, HTTP and the opening handshake over real sockets, with the handlers of the library ([`Echo`],
//! [`Reply`], [`Broadcast`], [`Page`] and [`Router`]).

mod common;

use common::*;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use tungstenite::Message as Sent;
use wsloop::handlers::{Broadcast, Echo, Reply};
use wsloop::page::Page;
use wsloop::{Config, Router};

mod echo {
    use super::*;

    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 65_535, 65_536, MIB, 16 * MIB];

    #[test]
    fn binary_messages_of_every_length_are_echoed_unchanged() {
        let server = serve(Config::default(), Echo::new());
        let mut client = connect(server.addr, "/");
        for len in LENGTHS {
            let bytes = noise(len);
            client.send(Sent::binary(bytes.clone())).unwrap();
            let Sent::Binary(echo) = client.read().unwrap() else {
                panic!("expected a binary echo");
            };
            assert!(echo == bytes, "{len} bytes");
        }
    }

    #[test]
    fn text_messages_of_every_length_are_echoed_unchanged() {
        let server = serve(Config::default(), Echo::new());
        let mut client = connect(server.addr, "/");
        for len in LENGTHS {
            let words: String = "grün, €, 𝄞 ".chars().cycle().take(len).collect();
            // Cuts the text to `len` bytes, or fewer if a character would be cut, and pads it with `x`.
            let mut end = len;
            while !words.is_char_boundary(end) {
                end -= 1;
            }
            let words = format!("{}{}", &words[..end], "x".repeat(len - end));
            assert_eq!(words.len(), len);
            assert!(ask(&mut client, &words) == words, "{len} bytes");
        }
    }

    #[test]
    fn pipelined_messages_are_echoed_in_order() {
        let server = serve(Config::default(), Echo::new());
        let mut client = Raw::open(server.addr, "/");
        let texts: Vec<String> = (0..2000).map(|i| format!("message {i}")).collect();
        let burst: Vec<u8> = texts
            .iter()
            .flat_map(|text| frame(TEXT, text.as_bytes()))
            .collect();
        client.send(burst);
        for text in texts {
            assert_eq!(client.frame(), (TEXT, text.into_bytes()));
        }
    }

    #[test]
    fn large_pipelined_messages_are_echoed_in_order() {
        let server = serve(Config::default(), Echo::new());
        let mut client = Raw::open(server.addr, "/");
        let mut writer = client.0.try_clone().unwrap();
        let payload = |i: u8| [vec![i], noise(MIB)].concat();
        let writing = thread::spawn(move || {
            for i in 0..40 {
                writer.write_all(&frame(BINARY, &payload(i))).unwrap();
            }
        });
        for i in 0..40 {
            assert!(client.frame() == (BINARY, payload(i)), "message {i}");
        }
        writing.join().unwrap();
    }

    #[test]
    fn small_and_large_messages_are_echoed_in_order() {
        let server = serve(Config::default(), Echo::new());
        let mut client = Raw::open(server.addr, "/");
        let mut writer = client.0.try_clone().unwrap();
        // A frame of which at least 32 KiB are missing is read directly into the buffer of its message (possible for
        // 70 000 bytes only). The other lengths are processed in the receive buffer.
        let payload = |i: usize| vec![i as u8; [1, 300, 16_384, 70_000, 5][i % 5]];
        let writing = thread::spawn(move || {
            let burst: Vec<u8> = (0..300).flat_map(|i| frame(BINARY, &payload(i))).collect();
            writer.write_all(&burst).unwrap();
        });
        for i in 0..300 {
            assert!(client.frame() == (BINARY, payload(i)), "message {i}");
        }
        writing.join().unwrap();
    }

    #[test]
    fn a_ping_is_answered_with_its_payload() {
        let server = serve(Config::default(), Echo::new());
        let mut client = connect(server.addr, "/");
        for payload in [vec![], b"hello".to_vec(), noise(125)] {
            client.send(Sent::Ping(payload.clone().into())).unwrap();
            assert_eq!(client.read().unwrap(), Sent::Pong(payload.into()));
        }
    }

    #[test]
    fn pings_between_fragments_are_answered_before_the_message() {
        let server = serve(Config::default(), Echo::new());
        let mut client = Raw::open(server.addr, "/");
        // Each frame is sent after the answer to the previous one.
        client.send(frame(0x01, b"a fragmented "));
        client.send(frame(PING, b"1"));
        assert_eq!(client.frame(), (PONG, b"1".to_vec()));
        client.send(frame(0x00, b"mess"));
        client.send(frame(PING, b"2"));
        assert_eq!(client.frame(), (PONG, b"2".to_vec()));
        client.send(frame(0x80, b"age"));
        assert_eq!(client.frame(), (TEXT, b"a fragmented message".to_vec()));
        // All frames in one write.
        let all = [
            frame(0x02, b"ab"),
            frame(PING, b"3"),
            frame(0x00, b""),
            frame(PONG, b"unsolicited"),
            frame(0x80, b"c"),
        ];
        client.send(all.concat());
        assert_eq!(client.frame(), (PONG, b"3".to_vec()));
        assert_eq!(client.frame(), (BINARY, b"abc".to_vec()));
    }

    #[test]
    fn a_character_may_be_cut_by_fragments() {
        let server = serve(Config::default(), Echo::new());
        let mut client = Raw::open(server.addr, "/");
        let bytes = "𝄞".as_bytes();
        client.send(frame(0x01, &bytes[..1]));
        client.send(frame(0x00, &bytes[1..3]));
        client.send(frame(0x80, &bytes[3..]));
        assert_eq!(client.frame(), (TEXT, bytes.to_vec()));
    }

    #[test]
    fn the_prefix_is_added_to_text_and_not_to_binary() {
        let server = serve(Config::default(), Echo::with_prefix("You sent: "));
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "hello"), "You sent: hello");
        assert_eq!(ask(&mut client, ""), "You sent: ");
        client.send(Sent::binary(b"hello".to_vec())).unwrap();
        assert_eq!(client.read().unwrap(), Sent::binary(b"hello".to_vec()));
        let long = "x".repeat(100 * KIB);
        assert!(ask(&mut client, &long) == format!("You sent: {long}"));
        assert_eq!(ask(&mut client, "short again"), "You sent: short again");
    }

    #[test]
    fn many_clients_get_their_own_answers() {
        let server = serve(Config::default(), Echo::new());
        let mut clients: Vec<Client> = (0..100).map(|_| connect(server.addr, "/")).collect();
        for round in 0..5 {
            for (i, client) in clients.iter_mut().enumerate() {
                client.send(Sent::text(format!("{round} {i}"))).unwrap();
            }
            for (i, client) in clients.iter_mut().enumerate() {
                assert_eq!(text(client), format!("{round} {i}"));
            }
        }
    }
}

mod reply {
    use super::*;

    #[test]
    fn every_message_of_a_burst_gets_its_own_reply() {
        let json = r#"{"a":1,"b":2}"#;
        let server = serve(Config::default(), Reply::new(json));
        let mut client = Raw::open(server.addr, "/");
        let mut burst: Vec<u8> = (1..=4)
            .flat_map(|i| frame(TEXT, format!("HelloWorld{i}").as_bytes()))
            .collect();
        burst.extend(frame(BINARY, &[0; 10]));
        client.send(burst);
        for _ in 0..5 {
            assert_eq!(client.frame(), (TEXT, json.as_bytes().to_vec()));
        }
        // No further reply: the answer to a ping is the next frame.
        client.send(frame(PING, b""));
        assert_eq!(client.frame(), (PONG, vec![]));
    }
}

mod broadcast {
    use super::*;

    #[test]
    fn every_member_gets_every_message_in_the_same_order() {
        let server = serve(Config::default(), Broadcast);
        let mut clients: Vec<Client> = (0..8).map(|_| connect(server.addr, "/chat")).collect();
        for round in 0..20 {
            for (i, client) in clients.iter_mut().enumerate() {
                client.send(Sent::text(format!("{i} {round}"))).unwrap();
            }
        }
        let received: Vec<Vec<String>> = clients
            .iter_mut()
            .map(|client| (0..160).map(|_| text(client)).collect())
            .collect();
        for i in 0..8 {
            assert_eq!(received[i], received[0], "client {i} and client 0 differ");
            let own: Vec<&String> = received[0]
                .iter()
                .filter(|text| text.starts_with(&format!("{i} ")))
                .collect();
            let sent: Vec<String> = (0..20).map(|round| format!("{i} {round}")).collect();
            assert_eq!(own, sent.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_clients_of_the_same_path_get_a_broadcast() {
        let server = serve(Config::default(), Broadcast);
        let mut here = connect(server.addr, "/here");
        let mut with_query = connect(server.addr, "/here?a=query");
        let mut there = connect(server.addr, "/there");
        assert_eq!(ask(&mut here, "for us"), "for us");
        assert_eq!(text(&mut with_query), "for us");
        // The first message on the other path is its own.
        assert_eq!(ask(&mut there, "alone"), "alone");
    }

    #[test]
    fn text_stays_text_and_binary_stays_binary() {
        let server = serve(Config::default(), Broadcast);
        let mut sender = connect(server.addr, "/");
        let mut listener = connect(server.addr, "/");
        let large = noise(300 * KIB);
        for message in [
            Sent::text("ä"),
            Sent::binary(vec![0xFF]),
            Sent::binary(large),
        ] {
            sender.send(message.clone()).unwrap();
            assert!(sender.read().unwrap() == message);
            assert!(listener.read().unwrap() == message);
        }
    }

    #[test]
    fn a_new_member_gets_only_later_messages() {
        let server = serve(Config::default(), Broadcast);
        let mut first = connect(server.addr, "/");
        assert_eq!(ask(&mut first, "early"), "early");
        let mut second = connect(server.addr, "/");
        assert_eq!(ask(&mut first, "late"), "late");
        assert_eq!(text(&mut second), "late");
        drop(second);
        assert_eq!(ask(&mut first, "still here"), "still here");
    }
}

mod http {
    use super::*;

    fn routed() -> Running {
        let page = Page::bytes("text/html", &b"<p>hello</p>"[..]);
        let router = Router::sendable()
            .route("/echo", Echo::new())
            .route("/chat/*", Broadcast)
            .route("/page", page);
        serve(Config::default(), router)
    }

    fn get(addr: SocketAddr, path: &str) -> Response {
        http(addr, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
    }

    #[test]
    fn an_unknown_path_is_404_for_pages_and_websockets() {
        let server = routed();
        assert_eq!(get(server.addr, "/nothing").status, 404);
        assert_eq!(http(server.addr, &upgrade_request("/chat")).status, 404);
        let Err(tungstenite::Error::Http(response)) = try_connect(server.addr, "/nothing") else {
            panic!("the handshake must be refused");
        };
        assert_eq!(response.status(), 404);
    }

    #[test]
    fn a_get_of_a_websocket_path_is_426_with_the_supported_protocol() {
        let server = routed();
        let response = get(server.addr, "/echo");
        assert_eq!(response.status, 426);
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
        assert!(response.header("connection").unwrap().contains("close"));
    }

    #[test]
    fn other_methods_are_405_with_the_allowed_methods() {
        let server = routed();
        for method in ["POST", "PUT", "OPTIONS", "DELETE"] {
            let request = format!("{method} /page HTTP/1.1\r\nHost: here\r\n\r\n");
            let response = http(server.addr, &request);
            assert_eq!(response.status, 405, "{method}");
            assert_eq!(response.header("allow"), Some("GET, HEAD"));
        }
    }

    #[test]
    fn get_of_a_page_has_a_body_and_head_has_none() {
        let server = routed();
        let response = get(server.addr, "/page");
        assert_eq!((response.status, &*response.body), (200, "<p>hello</p>"));
        assert_eq!(response.header("content-type"), Some("text/html"));
        let mut raw = Raw::new(server.addr);
        raw.send("HEAD /page HTTP/1.1\r\nHost: here\r\n\r\n");
        let head = raw.response_head();
        raw.expect_end();
        assert_eq!(head.head, response.head);
    }

    #[test]
    fn an_opening_handshake_for_a_page_is_404() {
        let server = routed();
        assert_eq!(http(server.addr, &upgrade_request("/page")).status, 404);
    }

    #[test]
    fn a_wildcard_route_serves_the_paths_below_it() {
        let server = routed();
        let mut client = connect(server.addr, "/chat/topic");
        assert_eq!(ask(&mut client, "hello"), "hello");
    }

    #[test]
    fn a_foreign_origin_is_403() {
        let router = Router::sendable()
            .route("/*", Echo::new())
            .allow_origin("https://example.org");
        let server = serve(Config::default(), router);
        let with_origin = |origin: &str| {
            let request = upgrade_request("/");
            request.replace("Host:", &format!("Origin: {origin}\r\nHost:"))
        };
        assert_eq!(http(server.addr, &upgrade_request("/")).status, 403);
        let foreign = with_origin("https://example.com");
        assert_eq!(http(server.addr, &foreign).status, 403);
        let mut raw = Raw::new(server.addr);
        raw.send(with_origin("https://example.org"));
        assert_eq!(raw.response_head().status, 101);
    }

    #[test]
    fn a_large_page_arrives_complete() {
        let body = "0123456789".repeat(MIB);
        let page = Page::bytes("text/plain", body.clone().into_bytes());
        let server = serve(Config::default(), page);
        assert!(get(server.addr, "/").body == body);
    }

    #[test]
    fn the_answer_to_a_request_with_a_large_body_is_not_lost() {
        let server = routed();
        let head = format!("POST /page HTTP/1.1\r\nHost: here\r\nContent-Length: {MIB}\r\n\r\n");
        for _ in 0..20 {
            let mut raw = Raw::new(server.addr);
            raw.send([head.as_bytes(), &noise(MIB)].concat());
            assert_eq!(raw.response().status, 405);
        }
    }
}

mod opening {
    use super::*;

    #[test]
    fn the_response_is_that_of_the_rfcs_example() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::new(server.addr);
        raw.send(upgrade_request("/"));
        let response = raw.response_head();
        assert_eq!(response.status, 101);
        let accept = response.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(response.header("sec-websocket-extensions"), None);
    }

    #[test]
    fn frames_in_the_same_segment_as_the_request_are_answered_after_the_101() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::new(server.addr);
        let early = [
            upgrade_request("/").into_bytes(),
            frame(TEXT, b"early"),
            frame(PING, b"p"),
            close_frame(1000, "and gone"),
        ];
        raw.send(early.concat());
        assert_eq!(raw.response_head().status, 101);
        assert_eq!(raw.frame(), (TEXT, b"early".to_vec()));
        assert_eq!(raw.frame(), (PONG, b"p".to_vec()));
        assert_eq!(raw.close_frame(), (1000, "and gone".to_owned()));
        raw.expect_end();
    }

    #[test]
    fn a_request_may_arrive_one_byte_at_a_time() {
        let server = serve(Config::default(), Echo::new());
        let mut barrier = connect(server.addr, "/");
        let mut raw = Raw::new(server.addr);
        for byte in [upgrade_request("/").as_bytes(), &frame(TEXT, b"slow")].concat() {
            raw.send([byte]);
            // An echo on another connection ensures that the server has read the byte before the next one is sent.
            ask(&mut barrier, "tick");
        }
        assert_eq!(raw.response_head().status, 101);
        assert_eq!(raw.frame(), (TEXT, b"slow".to_vec()));
    }

    #[test]
    fn a_request_may_be_cut_anywhere() {
        let server = serve(Config::default(), Echo::new());
        let stream = [upgrade_request("/").as_bytes(), &frame(TEXT, b"cut")].concat();
        let mut clients: Vec<Raw> = (0..stream.len())
            .map(|cut| {
                let mut raw = Raw::new(server.addr);
                raw.send(&stream[..cut]);
                raw
            })
            .collect();
        // After this echo the server has read all first parts.
        ask(&mut connect(server.addr, "/"), "tick");
        for (cut, raw) in clients.iter_mut().enumerate() {
            raw.send(&stream[cut..]);
        }
        for raw in &mut clients {
            assert_eq!(raw.response_head().status, 101);
            assert_eq!(raw.frame(), (TEXT, b"cut".to_vec()));
        }
    }

    #[test]
    fn an_invalid_opening_handshake_is_refused_with_the_reason() {
        let server = serve(Config::default(), Echo::new());
        let good = upgrade_request("/");
        let cases = [
            ("no Host", good.replace("Host: localhost\r\n", ""), 400),
            ("two Hosts", good.replace("Host:", "Host: a\r\nHost:"), 400),
            ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 505),
            (
                "version 12",
                good.replace("Version: 13", "Version: 12"),
                426,
            ),
            ("a short key", good.replace("dGhl", ""), 400),
            ("no key", good.replace("Sec-WebSocket-Key", "X"), 400),
            ("another upgrade", good.replace("websocket", "h2c"), 400),
            (
                "no Connection",
                good.replace("Connection: Upgrade\r\n", ""),
                400,
            ),
            ("a bare LF", good.replace("\r\nUpgrade", "\nUpgrade"), 400),
            (
                "a body",
                good.replace("Host:", "Content-Length: 5\r\nHost:"),
                400,
            ),
            (
                "TLS",
                "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03".to_owned(),
                400,
            ),
        ];
        for (what, request, status) in cases {
            let response = http(server.addr, &request);
            assert_eq!(response.status, status, "{what}: {}", response.body);
            assert!(
                response.body.ends_with('\n'),
                "{what}: the body must be a line with the reason"
            );
        }
    }

    #[test]
    fn the_connection_header_may_list_other_options_with_upgrade() {
        let server = serve(Config::default(), Echo::new());
        for connection in [
            "keep-alive, Upgrade",
            "keep-alive,\tupgrade",
            "a\r\nConnection: UPGRADE",
        ] {
            let mut raw = Raw::new(server.addr);
            let line = format!("Connection: {connection}\r\n");
            raw.send(upgrade_request("/").replace("Connection: Upgrade\r\n", &line));
            assert_eq!(raw.response_head().status, 101, "{connection:?}");
        }
    }
}

mod violations {
    use super::*;

    /// Sends `stream` on an open connection. Returns the code and reason of the Close that answers it, which must be
    /// the last frame.
    fn close_after(stream: &[u8]) -> (u16, String) {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.send(stream);
        let close = raw.close_frame();
        raw.expect_end();
        close
    }

    #[test]
    fn each_violation_is_answered_with_its_close_code() {
        for (what, stream, code) in [
            ("not masked", b"\x81\x01a".to_vec(), 1002),
            ("a reserved bit", frame(0xC1, b"a"), 1002),
            ("a reserved opcode", frame(0x83, b"a"), 1002),
            ("a fragmented ping", frame(0x09, b"a"), 1002),
            ("a long ping", frame_header(PING, 126), 1002),
            ("a stray continuation", frame(0x80, b"a"), 1002),
            (
                "a message in a message",
                [frame(0x01, b"a"), frame(TEXT, b"b")].concat(),
                1002,
            ),
            (
                "a length that is not minimal",
                vec![0x81, 0xFE, 0, 1, 0, 0, 0, 0, 0],
                1002,
            ),
            ("a Close payload of one byte", frame(CLOSE, b"a"), 1002),
            ("a reserved close code", close_frame(1005, ""), 1002),
            ("text that is not UTF-8", frame(TEXT, b"\xFF"), 1007),
            (
                "a reason that is not UTF-8",
                frame(CLOSE, b"\x03\xE8\xFF"),
                1007,
            ),
        ] {
            println!("{what}");
            let (got, reason) = close_after(&stream);
            assert_eq!(got, code, "{what}: {reason}");
            assert!(!reason.is_empty(), "{what}: no reason");
        }
    }

    #[test]
    fn bytes_after_a_violation_do_not_prevent_the_close_from_arriving() {
        for _ in 0..20 {
            let (code, _) = close_after(&[b"\x81\x01a", &noise(MIB)[..]].concat());
            assert_eq!(code, 1002);
        }
    }

    #[test]
    fn messages_before_a_violation_are_answered() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.send(
            [
                frame(TEXT, b"good"),
                frame(0x83, b"bad"),
                frame(TEXT, b"late"),
            ]
            .concat(),
        );
        assert_eq!(raw.frame(), (TEXT, b"good".to_vec()));
        assert_eq!(raw.close_frame().0, 1002);
        raw.expect_end();
    }
}

mod listeners {
    use super::*;
    use wsloop::{Context, Handler, HttpResponse, Id, ListenOptions, Message, Request, Server};

    /// Answers with the tag of the session's listener.
    struct Tag;

    impl Handler for Tag {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            let tag = cx.listener_tag(id).to_string();
            let _ = cx.send(id, &tag);
        }

        fn on_http(&mut self, cx: &mut Context<'_>, id: Id, _: &Request) -> HttpResponse {
            HttpResponse::new(200, cx.listener_tag(id).to_string())
        }
    }

    #[test]
    fn each_connection_has_the_tag_of_its_listener() {
        let mut server = Server::new(Config::default(), Tag).unwrap();
        let untagged = server.listen("127.0.0.1:0").unwrap();
        let tagged = [1, u8::MAX].map(|tag| {
            let options = ListenOptions::new().tag(tag);
            (server.listen_with("127.0.0.1:0", &options).unwrap(), tag)
        });
        let _server = run(server);
        for (addr, tag) in [(untagged, 0)].into_iter().chain(tagged) {
            let answer = ask(&mut connect(addr, "/"), "?");
            assert_eq!(answer, tag.to_string());
            let mut client = Raw::new(addr);
            client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(client.response().body, tag.to_string());
        }
    }
}
