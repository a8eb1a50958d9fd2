//! Tests of the events of a [`Handler`] and of the methods of a [`Context`], over real sockets: `on_upgrade`, one
//! `on_close` for each `on_open`, the reported end of a session, errors, timers, sources, and the properties of
//! sessions.

mod common;

use common::*;
use mio::Interest;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::CloseFrame;
use tungstenite::{HandshakeError, Message as Sent};
use wsloop::{
    Close, Config, Context, Handler, HttpResponse, Id, Message, Ready, Request, SendStatus, Server,
    SessionMap, Side, SourceId, TimerId, Upgrade, handler_fn,
};

mod upgrade {
    use super::*;
    use std::sync::mpsc;

    /// Accepts requests with a token, and returns the token in a header of the 101 response.
    #[derive(Default)]
    struct TokenCheck {
        /// What the handler saw in each session's request.
        seen: SessionMap<String>,
    }

    impl Handler for TokenCheck {
        fn on_upgrade(
            &mut self,
            cx: &mut Context<'_>,
            id: Id,
            request: &Request,
            upgrade: &mut Upgrade,
        ) -> Result<(), HttpResponse> {
            let Some(token) = request.header("X-Token") else {
                let refusal = HttpResponse::new(401, "a token is required\n");
                return Err(refusal.with_header("www-authenticate", "Token").unwrap());
            };
            let token = HeaderValue::from_str(&token.to_uppercase()).unwrap();
            upgrade.headers_mut().insert("x-welcome", token);
            if request.query() == Some("broken") {
                let value = HeaderValue::from_static("permessage-deflate");
                upgrade
                    .headers_mut()
                    .insert("sec-websocket-extensions", value);
            }
            assert!(!upgrade.select_subprotocol(request, "not offered"));
            upgrade.select_subprotocol(request, "v2");
            let offered: Vec<&str> = request.subprotocols().collect();
            let peer = cx.peer_addr(id).unwrap();
            let seen = format!("{} {offered:?} {peer} {}", request.path(), cx.is_open(id));
            self.seen.insert(id, seen);
            Ok(())
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            let _ = cx.send(id, &self.seen[id]);
        }
    }

    fn request(addr: SocketAddr, target: &str) -> ClientRequestBuilder {
        ClientRequestBuilder::new(format!("ws://{addr}{target}").parse().unwrap())
    }

    fn refusal(request: ClientRequestBuilder, addr: SocketAddr) -> (u16, String) {
        let Err(HandshakeError::Failure(tungstenite::Error::Http(response))) =
            tungstenite::client::client(request, tcp(addr))
        else {
            panic!("a refusal was expected");
        };
        let body = response.body().clone().unwrap_or_default();
        (response.status().as_u16(), String::from_utf8(body).unwrap())
    }

    #[test]
    fn the_handler_sees_the_request_and_alters_the_101() {
        let server = serve(Config::default(), TokenCheck::default());
        let request = request(server.addr, "/door?key=1")
            .with_header("X-Token", "anna")
            .with_sub_protocol("v1")
            .with_sub_protocol("v2");
        let (mut client, response) =
            tungstenite::client::client(request, tcp(server.addr)).unwrap();
        assert_eq!(response.headers()["x-welcome"], "ANNA");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v2");
        let local = client.get_ref().local_addr().unwrap();
        assert_eq!(
            ask(&mut client, "what did you see?"),
            format!(r#"/door ["v1", "v2"] {local} false"#)
        );
    }

    #[test]
    fn the_handler_refuses_with_a_status_a_header_and_a_body() {
        let (handler, events) = watch(TokenCheck::default());
        let server = serve(Config::default(), handler);
        assert_eq!(
            refusal(request(server.addr, "/"), server.addr),
            (401, "a token is required\n".to_owned())
        );
        let response = http(server.addr, &upgrade_request("/"));
        assert_eq!(response.header("www-authenticate"), Some("Token"));
        drop(server);
        assert_eq!(events.rest(), [], "neither on_open nor on_close");
    }

    #[test]
    fn a_101_that_the_handler_has_made_invalid_is_a_500_and_an_error() {
        let (handler, events) = watch(TokenCheck::default());
        let server = serve(Config::default(), handler);
        let request = request(server.addr, "/?broken").with_header("X-Token", "anna");
        assert_eq!(refusal(request, server.addr).0, 500);
        assert!(events.error().contains("sec-websocket-extensions"));
        drop(server);
        assert_eq!(events.rest(), []);
    }

    #[test]
    fn plain_http_is_answered_by_the_handler() {
        struct Front;
        impl Handler for Front {
            fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

            fn on_http(&mut self, cx: &mut Context<'_>, id: Id, request: &Request) -> HttpResponse {
                let path = cx.path(id).unwrap();
                HttpResponse::new(
                    200,
                    format!("{path} {:?} {}", request.query(), request.host()),
                )
            }
        }
        let server = serve(Config::default(), Front);
        let response = http(server.addr, "GET /a/b?c=d HTTP/1.1\r\nHost: me:1\r\n\r\n");
        assert_eq!(response.body, r#"/a/b Some("c=d") me:1"#);
    }

    /// Records which methods are called. Terminates sessions on `/terminated`.
    struct Calls(mpsc::Sender<&'static str>);

    impl Calls {
        fn record(&self, method: &'static str) {
            self.0.send(method).unwrap();
        }
    }

    impl Handler for Calls {
        fn on_upgrade(
            &mut self,
            cx: &mut Context<'_>,
            id: Id,
            request: &Request,
            _: &mut Upgrade,
        ) -> Result<(), HttpResponse> {
            self.record("on_upgrade");
            // Both are due at once, in the next turn.
            cx.set_timer(Duration::ZERO, 0);
            cx.set_session_timer(id, Duration::ZERO, 0);
            assert_eq!(cx.send(id, "too early"), SendStatus::Closed);
            assert!(!cx.subscribe(id, "too early"));
            if request.path() == "/terminated" {
                cx.terminate(id);
            }
            Ok(())
        }

        fn on_open(&mut self, _: &mut Context<'_>, _: Id) {
            self.record("on_open");
        }

        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {
            self.record("on_message");
        }

        fn on_close(&mut self, _: &mut Context<'_>, _: Id, _: &Close<'_>) {
            self.record("on_close");
        }

        fn on_timer(&mut self, _: &mut Context<'_>, _: u64) {
            self.record("on_timer");
        }

        fn on_session_timer(&mut self, _: &mut Context<'_>, _: Id, _: u64) {
            self.record("on_session_timer");
        }
    }

    /// Sends an opening handshake with a message and a Close behind it. Returns the methods that are called, and the bytes
    /// that the client receives.
    fn calls(path: &str) -> (Vec<&'static str>, Vec<u8>) {
        let (sender, receiver) = mpsc::channel();
        let server = serve(Config::default(), Calls(sender));
        let mut raw = Raw::new(server.addr);
        let mut bytes = upgrade_request(path).into_bytes();
        bytes.extend(frame(TEXT, b"at once"));
        bytes.extend(close_frame(1000, ""));
        raw.send(bytes);
        let mut received = Vec::new();
        // A reset ends the stream as well.
        let _ = raw.0.read_to_end(&mut received);
        drop(server);
        (receiver.into_iter().collect(), received)
    }

    #[test]
    fn nothing_is_called_between_on_upgrade_and_on_open() {
        let (calls, received) = calls("/");
        assert_eq!(calls[..3], ["on_upgrade", "on_open", "on_message"]);
        assert!(calls.contains(&"on_timer"), "{calls:?}");
        assert!(received.starts_with(b"HTTP/1.1 101 "));
    }

    #[test]
    fn a_session_that_on_upgrade_terminates_has_neither_on_open_nor_on_close() {
        let (mut calls, received) = calls("/terminated");
        calls.retain(|call| *call != "on_timer");
        assert_eq!(calls, ["on_upgrade"]);
        assert_eq!(received, []);
    }
}

mod ends {
    use super::*;
    use std::sync::mpsc;

    /// Executes the command in a text message. Echoes every other message.
    fn obey_text(cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        match message.as_text() {
            Some("close") => assert!(cx.close(id, 4002, "enough")),
            Some("close without a code") => assert!(cx.close(id, 1005, "not sent")),
            Some("close wrongly") => {
                for code in [0, 999, 1004, 1006, 1015, 5000] {
                    assert!(!cx.close(id, code, ""), "{code}");
                }
                let _ = cx.send(id, "still here");
            }
            Some("terminate") => cx.terminate(id),
            Some("send, close, send") => {
                let _ = cx.send(id, "before");
                assert!(cx.close(id, 4003, ""));
                assert!(!cx.is_open(id));
                assert_eq!(cx.send(id, "after"), SendStatus::Closed);
                assert!(!cx.close(id, 4004, ""), "the session is closing");
                assert!(!cx.ping(id, b""));
            }
            _ => drop(cx.send(id, message)),
        }
    }

    fn server() -> (Running, Events) {
        let (handler, events) = watch(handler_fn(obey_text));
        let config = Config {
            message_bytes_max: MIB,
            ..Config::default()
        };
        (serve(config, handler), events)
    }

    #[test]
    fn a_clients_close_is_reported_with_code_and_reason() {
        let (server, events) = server();
        let mut client = connect(server.addr, "/");
        let frame = CloseFrame {
            code: 4001.into(),
            reason: "bye".into(),
        };
        client.close(Some(frame)).unwrap();
        assert_eq!(closed(client), (4001, "bye".to_owned()));
        assert_eq!(events.end(), end(4001, "bye", true, Side::Peer));
    }

    #[test]
    fn a_clients_close_without_a_code_is_1005() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(CLOSE, b""));
        assert_eq!(raw.frame(), (CLOSE, vec![]));
        raw.expect_end();
        drop(raw);
        assert_eq!(events.end(), end(1005, "", true, Side::Peer));
    }

    #[test]
    fn our_close_is_clean_when_it_is_answered() {
        let (server, events) = server();
        let mut client = connect(server.addr, "/");
        client.send(Sent::text("close")).unwrap();
        assert_eq!(closed(client), (4002, "enough".to_owned()));
        assert_eq!(events.end(), end(4002, "enough", true, Side::Us));
    }

    #[test]
    fn our_close_may_have_no_code() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"close without a code"));
        assert_eq!(raw.frame(), (CLOSE, vec![]));
        raw.send(frame(CLOSE, b""));
        raw.expect_end();
        drop(raw);
        let end = events.end();
        assert_eq!((end.code, end.is_clean, end.by), (1005, true, Side::Us));
    }

    #[test]
    fn a_code_that_must_not_be_sent_closes_nothing() {
        let (server, _events) = server();
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "close wrongly"), "still here");
    }

    #[test]
    fn our_close_that_is_not_answered_is_not_clean() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"close"));
        assert_eq!(raw.close_frame(), (4002, "enough".to_owned()));
        drop(raw);
        assert_eq!(events.end(), end(4002, "enough", false, Side::Us));
    }

    #[test]
    fn messages_sent_before_a_close_arrive_and_none_after_it() {
        let (server, events) = server();
        let mut client = connect(server.addr, "/");
        client.send(Sent::text("send, close, send")).unwrap();
        assert_eq!(text(&mut client), "before");
        assert_eq!(closed(client), (4003, String::new()));
        assert_eq!(events.end(), end(4003, "", true, Side::Us));
    }

    #[test]
    fn a_client_that_disconnects_without_a_close_is_1006() {
        let (server, events) = server();
        drop(Raw::open(server.addr, "/"));
        assert_eq!(events.end(), end(1006, "", false, Side::Peer));
    }

    #[test]
    fn a_reset_is_1006_and_an_error() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"an echo"));
        reset(raw);
        assert!(events.error().contains("reset"));
        assert_eq!(events.end(), end(1006, "", false, Side::Peer));
    }

    #[test]
    fn a_client_that_half_closes_gets_its_echoes_and_is_1006() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        let large = noise(MIB);
        raw.send(frame(BINARY, &large));
        raw.send(frame(TEXT, b"last"));
        raw.shut_write();
        assert!(raw.frame() == (BINARY, large));
        assert_eq!(raw.frame(), (TEXT, b"last".to_vec()));
        raw.expect_end();
        assert_eq!(events.end(), end(1006, "", false, Side::Peer));
    }

    #[test]
    fn terminate_sends_no_close() {
        let (server, events) = server();
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"terminate"));
        raw.expect_end_or_reset();
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
    }

    #[test]
    fn a_violation_is_an_error_and_then_a_close_by_us_with_its_code() {
        for (stream, code, reason) in [
            (
                b"\x81\x01a".to_vec(),
                1002,
                "a client's frame is not masked",
            ),
            (frame(TEXT, b"\xFF"), 1007, "a text message is not UTF-8"),
            (
                frame_header(BINARY, MIB as u64 + 1),
                1009,
                "the message is too big",
            ),
        ] {
            let (server, events) = server();
            let mut raw = Raw::open(server.addr, "/");
            raw.send(stream);
            assert_eq!(raw.close_frame(), (code, reason.to_owned()));
            drop(raw);
            let Seen::Open(id) = events.next() else {
                panic!("the first event must be Open");
            };
            assert_eq!(events.next(), Seen::Error(Some(id), reason.to_owned()));
            let end = end(code, reason, false, Side::Us);
            assert_eq!(events.next(), Seen::Close(id, end));
        }
    }

    #[test]
    fn in_on_close_the_session_has_its_path_and_refuses_messages() {
        struct Last(mpsc::Sender<String>);
        impl Handler for Last {
            fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

            fn on_close(&mut self, cx: &mut Context<'_>, id: Id, _: &Close<'_>) {
                let (path, peer) = (cx.path(id), cx.peer_addr(id));
                let sent = cx.send(id, "too late");
                let answer = format!(
                    "{path:?} {} {sent:?} {} {:?}",
                    peer.is_some(),
                    cx.count(),
                    cx.ids()
                );
                self.0.send(answer).unwrap();
            }
        }
        let (sender, answer) = mpsc::channel();
        let server = serve(Config::default(), Last(sender));
        drop(Raw::open(server.addr, "/last"));
        assert_eq!(
            answer.recv_timeout(WAIT).unwrap(),
            r#"Some("/last") true Closed 0 []"#
        );
        drop(server);
    }

    #[test]
    fn every_on_open_has_one_on_close_whatever_clients_do() {
        let (server, events) = server();
        let mut is_opened = 0;
        for i in 0..200 {
            is_opened += usize::from(come_and_go(server.addr, i));
        }
        // One more session, which is open when the server stops.
        let mut client = connect(server.addr, "/");
        ask(&mut client, "are you well?");
        drop(server);
        let mut open = Vec::new();
        let (mut opens, mut closes) = (0, 0);
        for seen in events.rest() {
            match seen {
                Seen::Open(id) => {
                    assert!(!open.contains(&id), "{id} opens once");
                    open.push(id);
                    opens += 1;
                }
                Seen::Close(id, _) => {
                    let at = open.iter().position(|open| *open == id);
                    open.remove(at.unwrap_or_else(|| panic!("{id} was open")));
                    closes += 1;
                }
                _ => {}
            }
        }
        assert_eq!((opens, closes), (is_opened + 1, is_opened + 1));
    }

    /// Connects and disconnects in one of ten ways, selected by `way` modulo ten. Returns whether the session was open.
    fn come_and_go(addr: SocketAddr, way: usize) -> bool {
        let ways = 10;
        if way % ways < 2 {
            let mut raw = Raw::new(addr);
            raw.send(&upgrade_request("/").as_bytes()[..way % ways * 40]);
            return false;
        }
        let mut raw = Raw::open(addr, "/");
        match way % ways {
            2 => {
                raw.send(close_frame(1000, ""));
                assert_eq!(raw.close_frame().0, 1000);
                raw.expect_end();
            }
            3 => raw.send(close_frame(1000, "and away")),
            4 => {}
            5 => {
                raw.send(frame(TEXT, b"an echo"));
                reset(raw);
            }
            6 => {
                raw.shut_write();
                raw.expect_end();
            }
            7 => raw.send(&frame(TEXT, b"in the middle of a frame")[..9]),
            8 => {
                raw.send(b"\x81\x01a");
                assert_eq!(raw.close_frame().0, 1002);
            }
            9 => {
                raw.send(frame(TEXT, b"terminate"));
                raw.expect_end_or_reset();
            }
            way => unreachable!("{way} is less than {ways}"),
        }
        true
    }

    /// Closes with unread bytes, which resets the connection.
    fn reset(raw: Raw) {
        assert_eq!(raw.0.peek(&mut [0]).unwrap(), 1);
        drop(raw);
    }

    #[test]
    fn the_disconnect_of_a_client_that_does_not_read_is_noticed_at_once() {
        let (server, events) = server();
        let raw = Raw::open(server.addr, "/");
        let message = frame(BINARY, &noise(64 * KIB));
        write_until_blocked(&raw.0, |_| message.clone());
        drop(raw);
        // The event arrives within 10 s, before the write timeout of 30 s.
        assert_eq!(events.end(), end(1006, "", false, Side::Peer));
        drop(server);
    }
}

mod properties {
    use super::*;

    /// Answers questions about the session and the server.
    fn answer(cx: &mut Context<'_>, id: Id, message: Message<'_>) {
        let answer = match message.as_text().unwrap() {
            "peer" => cx.peer_addr(id).unwrap().to_string(),
            "path" => cx.path(id).unwrap().to_string(),
            "count" => cx.count().to_string(),
            "ids" => {
                let ids = cx.ids();
                assert!(ids.contains(&id) && ids.iter().all(|id| cx.is_open(*id)));
                ids.len().to_string()
            }
            "buffered" => {
                assert_eq!(cx.buffered_amount(id), 0);
                let _ = cx.send(id, "12345");
                cx.buffered_amount(id).to_string()
            }
            "ping" => cx.ping(id, b"are you there?").to_string(),
            other => panic!("unknown question {other:?}"),
        };
        let _ = cx.send(id, &answer);
    }

    #[test]
    fn the_address_and_the_path_of_a_session_are_available() {
        let server = serve(Config::default(), handler_fn(answer));
        let mut client = connect(server.addr, "/some/path?and=query");
        let local = client.get_ref().local_addr().unwrap().to_string();
        assert_eq!(ask(&mut client, "peer"), local);
        assert_eq!(ask(&mut client, "path"), "/some/path");
    }

    #[test]
    fn count_and_ids_include_open_sessions_only() {
        let (handler, events) = watch(handler_fn(answer));
        let server = serve(Config::default(), handler);
        let mut client = connect(server.addr, "/");
        let others: Vec<Raw> = (0..9).map(|_| Raw::open(server.addr, "/")).collect();
        let _silent = Raw::new(server.addr);
        assert_eq!(ask(&mut client, "count"), "10");
        assert_eq!(ask(&mut client, "ids"), "10");
        drop(others);
        for _ in 0..9 {
            events.end();
        }
        assert_eq!(ask(&mut client, "count"), "1");
        assert_eq!(ask(&mut client, "ids"), "1");
    }

    #[test]
    fn buffered_amount_includes_frame_headers() {
        let server = serve(Config::default(), handler_fn(answer));
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "buffered"), "12345");
        assert_eq!(text(&mut client), "7");
        assert_eq!(ask(&mut client, "buffered"), "12345", "from zero again");
        assert_eq!(text(&mut client), "7");
    }

    #[test]
    fn pings_and_pongs_are_passed_to_the_handler() {
        let (handler, events) = watch(handler_fn(answer));
        let server = serve(Config::default(), handler);
        let mut client = connect(server.addr, "/");
        client.send(Sent::Ping(b"hello".to_vec().into())).unwrap();
        assert_eq!(client.read().unwrap(), Sent::Pong(b"hello".to_vec().into()));
        client.send(Sent::text("ping")).unwrap();
        let payload = b"are you there?".to_vec();
        assert_eq!(client.read().unwrap(), Sent::Ping(payload.clone().into()));
        assert_eq!(text(&mut client), "true");
        client.flush().unwrap();
        assert!(matches!(events.next(), Seen::Open(_)));
        assert_eq!(events.next(), Seen::Ping(b"hello".to_vec()));
        assert_eq!(events.next(), Seen::Pong(payload));
    }
}

mod timers {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    /// Sends the number of ticks to every session, every [`TICK`].
    struct Clock {
        ticks: u64,
    }

    impl Handler for Clock {
        fn on_start(&mut self, cx: &mut Context<'_>) {
            cx.set_timer(TICK, 0);
        }

        fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}

        fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
            assert_eq!(key, self.ticks);
            self.ticks += 1;
            for id in cx.ids() {
                let _ = cx.send(id, self.ticks.to_string());
            }
            cx.set_timer(TICK, self.ticks);
        }
    }

    #[test]
    fn a_timer_can_send_to_clients_that_send_nothing() {
        let server = serve(Config::default(), Clock { ticks: 0 });
        let mut clients: Vec<Client> = (0..3).map(|_| connect(server.addr, "/")).collect();
        for client in &mut clients {
            let first: u64 = text(client).parse().unwrap();
            for tick in first + 1..first + 6 {
                assert_eq!(text(client), tick.to_string());
            }
        }
    }

    /// Sets timers out of order, and cancels one of them. Sends the key of each timer that fires.
    #[derive(Default)]
    struct OutOfOrder {
        cancelled: Option<TimerId>,
        asked_by: Option<Id>,
    }

    impl Handler for OutOfOrder {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            self.asked_by = Some(id);
            cx.set_timer(3 * TICK, 3);
            cx.set_timer(TICK, 1);
            self.cancelled = Some(cx.set_timer(2 * TICK, 2));
            cx.set_timer(Duration::ZERO, 0);
            cx.set_timer(3 * TICK, 4);
        }

        fn on_timer(&mut self, cx: &mut Context<'_>, key: u64) {
            if key == 0 {
                let timer = self.cancelled.take().unwrap();
                assert!(cx.cancel_timer(timer));
                assert!(!cx.cancel_timer(timer), "already cancelled");
            }
            let _ = cx.send(self.asked_by.unwrap(), key.to_string());
        }
    }

    #[test]
    fn timers_fire_in_order_and_can_be_cancelled() {
        let server = serve(Config::default(), OutOfOrder::default());
        let mut client = connect(server.addr, "/");
        client.send(Sent::text("go")).unwrap();
        let due: Vec<String> = (0..4).map(|_| text(&mut client)).collect();
        assert_eq!(due, ["0", "1", "3", "4"]);
    }
}

mod sources {
    use super::*;

    /// Sends the bytes that arrive on its socket `source` to every session.
    struct Relay {
        source: mio::net::TcpStream,
        key: u64,
    }

    impl Handler for Relay {
        fn on_start(&mut self, cx: &mut Context<'_>) {
            cx.register(&mut self.source, self.key, Interest::READABLE)
                .unwrap();
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let _ = cx.send(id, message);
        }

        fn on_source(&mut self, cx: &mut Context<'_>, key: u64, ready: Ready) {
            assert_eq!((key, ready.is_readable), (self.key, true));
            let mut buf = [0; 64];
            // The source is edge-triggered, so it is read until it would block.
            while let Ok(len @ 1..) = self.source.read(&mut buf) {
                for id in cx.ids() {
                    let _ = cx.send(id, &buf[..len]);
                }
            }
        }
    }

    #[test]
    fn a_registered_source_wakes_the_handler() {
        for key in [0, u64::MAX] {
            let (mut other, source) = socket_pair();
            let mut server = Server::new(Config::default(), Relay { source, key }).unwrap();
            server.listen("127.0.0.1:0").unwrap();
            let server = run(server);
            let mut client = connect(server.addr, "/");
            for word in ["one", "two", "three"] {
                other.write_all(word.as_bytes()).unwrap();
                assert_eq!(
                    client.read().unwrap(),
                    Sent::binary(word.as_bytes().to_vec())
                );
            }
            assert_eq!(ask(&mut client, "and still an echo"), "and still an echo");
        }
    }

    /// A handler with a source for each session: sends what arrives on it, and reports writability.
    #[derive(Default)]
    struct Upstreams {
        /// The end that the handler registers, and the other end, which the test controls by messages.
        pairs: SessionMap<(mio::net::TcpStream, std::net::TcpStream, Option<SourceId>)>,
    }

    impl Handler for Upstreams {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            let (far, mut near) = socket_pair();
            let interest = Interest::READABLE;
            let source = cx.register_for_session(id, &mut near, 9, interest).unwrap();
            self.pairs.insert(id, (near, far, Some(source)));
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let (near, far, source) = &mut self.pairs[id];
            match message.as_text().unwrap() {
                "deregister" => {
                    let source = source.take().unwrap();
                    cx.deregister(near, source).unwrap();
                    let error = cx.deregister(near, source).unwrap_err();
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                    let error = cx.reregister(near, source, Interest::READABLE);
                    assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::NotFound);
                }
                "writable" => {
                    let source = source.unwrap();
                    cx.reregister(near, source, Interest::WRITABLE).unwrap();
                }
                text => far.write_all(text.as_bytes()).unwrap(),
            }
        }

        fn on_session_source(&mut self, cx: &mut Context<'_>, id: Id, key: u64, ready: Ready) {
            assert_eq!(key, 9);
            if ready.is_writable {
                let _ = cx.send(id, "writable");
            }
            let mut buf = [0; 64];
            while let Ok(len @ 1..) = self.pairs[id].0.read(&mut buf) {
                let _ = cx.send(id, &buf[..len]);
            }
        }

        fn on_close(&mut self, cx: &mut Context<'_>, id: Id, _: &Close<'_>) {
            let mut pair = self.pairs.remove(id).unwrap();
            let error = cx.register_for_session(id, &mut pair.0, 9, Interest::READABLE);
            assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn sources_of_sessions_are_registered_and_dropped_from_handlers() {
        let server = serve(Config::default(), Upstreams::default());
        // Sessions use the slots and the sources of earlier ones.
        for _ in 0..3 {
            let mut first = connect(server.addr, "/");
            let mut second = connect(server.addr, "/");
            first.send(Sent::text("to the first")).unwrap();
            assert_eq!(first.read().unwrap(), Sent::binary("to the first"));
            second.send(Sent::text("to the second")).unwrap();
            assert_eq!(second.read().unwrap(), Sent::binary("to the second"));
            // An event follows, because the source is writable already.
            assert_eq!(ask(&mut first, "writable"), "writable");
            first.send(Sent::text("deregister")).unwrap();
            first.send(Sent::text("unseen")).unwrap();
            second.send(Sent::text("again")).unwrap();
            assert_eq!(second.read().unwrap(), Sent::binary("again"));
            first.send(Sent::Ping("".into())).unwrap();
            assert_eq!(first.read().unwrap(), Sent::Pong("".into()));
        }
    }
}

#[test]
fn a_closure_is_a_handler() {
    let handler = handler_fn(|cx, id, message: Message<'_>| cx.send(id, message));
    let server = serve(Config::default(), handler);
    assert_eq!(ask(&mut connect(server.addr, "/"), "hello"), "hello");
}

#[test]
fn the_id_of_an_ended_session_has_no_effect() {
    struct Memory(Vec<Id>);
    impl Handler for Memory {
        fn on_open(&mut self, _: &mut Context<'_>, id: Id) {
            self.0.push(id);
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            let first = self.0[0];
            assert!(!cx.is_open(first));
            assert_eq!(cx.send(first, "anyone?"), SendStatus::Closed);
            assert!(!cx.close(first, 1000, ""));
            cx.terminate(first);
            assert!(!cx.subscribe(first, "topic"));
            assert_eq!(cx.buffered_amount(first), 0);
            assert_eq!((cx.path(first), cx.peer_addr(first)), (None, None));
            let _ = cx.send(id, "fine");
        }
    }
    let (handler, events) = watch(Memory(Vec::new()));
    let server = serve(Config::default(), handler);
    drop(Raw::open(server.addr, "/"));
    events.end();
    // This session reuses the slot of the ended one.
    assert_eq!(ask(&mut connect(server.addr, "/"), "go"), "fine");
}
