//! Tests of the programs in `tests/examples`, over real sockets: tungstenite's client uses each program as the
//! program's own documentation describes.

mod common;

#[path = "examples/chat.rs"]
#[allow(dead_code, reason = "main is not called")]
mod chat;
#[cfg(unix)]
#[path = "examples/host.rs"]
#[allow(dead_code, reason = "main is not called")]
mod host;
#[path = "examples/json.rs"]
#[allow(dead_code, reason = "main is not called")]
mod json;
#[path = "examples/prices.rs"]
#[allow(dead_code, reason = "main is not called")]
mod prices;
#[path = "examples/proxy.rs"]
#[allow(dead_code, reason = "main is not called")]
mod proxy;
#[path = "examples/token.rs"]
#[allow(dead_code, reason = "main is not called")]
mod token;
#[path = "examples/worker.rs"]
#[allow(dead_code, reason = "main is not called")]
mod worker;

use common::*;
use tungstenite::Message as Sent;
use tungstenite::client::IntoClientRequest;
use wsloop::Config;

mod chats {
    use super::*;

    /// A path of more than 512 bytes is not retained, so it cannot be the name of a topic. Such a request once made the
    /// handler panic.
    #[test]
    fn a_path_that_is_too_long_for_a_topic_is_refused() {
        let server = serve_made(chat::config(), chat::router);
        let path = format!("/chat/{}?name=anna", "x".repeat(600));
        match try_connect(server.addr, &path) {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 414),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_reach_the_members_of_the_topic_and_later_ones() {
        let server = serve_made(chat::config(), chat::router);
        let mut anna = connect(server.addr, "/chat/garden?name=anna");
        assert_eq!(text(&mut anna), "* anna is here");
        let mut bert = connect(server.addr, "/chat/garden?x=y&name=bert");
        assert_eq!(text(&mut bert), "* anna is here", "an earlier line");
        assert_eq!(text(&mut bert), "* bert is here");
        assert_eq!(text(&mut anna), "* bert is here");
        let mut carl = connect(server.addr, "/chat/cellar?name=carl");
        assert_eq!(text(&mut carl), "* carl is here");

        assert_eq!(ask(&mut anna, "hello"), "anna: hello");
        assert_eq!(text(&mut bert), "anna: hello");
        assert_eq!(ask(&mut bert, "/name bertha"), "* bert is now bertha");
        assert_eq!(text(&mut anna), "* bert is now bertha");
        assert_eq!(ask(&mut anna, "/names"), "* here: anna, bertha");
        assert_eq!(
            ask(&mut anna, "/name <b>"),
            "* a name has 1 to 20 letters and digits"
        );
        assert_eq!(ask(&mut carl, "/names"), "* here: carl");

        // `on_close` is called when both sides have ended the stream.
        bert.close(None).unwrap();
        while bert.read().is_ok() {}
        drop(bert);
        assert_eq!(text(&mut anna), "* bertha has left");
        // Carl's client has received no line of the other topic: the next line is its own.
        assert_eq!(ask(&mut carl, "echo?"), "carl: echo?");
    }

    #[test]
    fn a_request_without_a_valid_name_gets_400() {
        let server = serve_made(chat::config(), chat::router);
        for path in [
            "/chat/garden",
            "/chat/garden?name=",
            "/chat/garden?name=a%20b",
        ] {
            assert_eq!(refusal(try_connect(server.addr, path)).0, 400, "{path}");
        }
    }

    #[test]
    fn a_binary_message_ends_the_session_with_1003() {
        let server = serve_made(chat::config(), chat::router);
        let mut client = connect(server.addr, "/chat/garden?name=anna");
        assert_eq!(text(&mut client), "* anna is here");
        client.send(Sent::binary(vec![0])).unwrap();
        assert_eq!(closed(client), (1003, "text only".to_owned()));
    }
}

#[cfg(feature = "socket-options")]
mod price_feed {
    use super::*;
    use prices::Prices;
    use std::time::Duration;
    use wsloop::testing::{Harness, Received};

    /// Returns the number of a table.
    fn tick(table: &str) -> u64 {
        let first = table.lines().next().expect("a table has lines");
        let tick = first
            .strip_prefix("tick ")
            .expect("the first line is the tick");
        tick.parse().unwrap()
    }

    #[test]
    fn tables_are_pushed_without_a_request() {
        let server = serve(prices::config(), Prices::new(3, Duration::from_millis(5)));
        let mut client = connect(server.addr, "/prices");
        let first = text(&mut client);
        assert_eq!(first.lines().count(), 4);
        assert_eq!(tick(&text(&mut client)), tick(&first) + 1);
    }

    #[test]
    fn a_member_that_does_not_read_skips_to_the_newest() {
        // A table of 10 000 prices has more than 100 KB: some hundred tables fill the buffers of any socket.
        let (feed, events) = watch(Prices::new(10_000, Duration::from_millis(1)));
        let server = serve(prices::config(), feed);
        let mut slow = connect(server.addr, "/prices");
        let mut keen = connect(server.addr, "/prices");
        let mut newest = 0;
        for _ in 0..400 {
            newest = tick(&text(&mut keen));
        }
        assert!(events.find(|seen| match seen {
            Seen::Skip(_, messages) => Some(*messages > 0),
            _ => None,
        }));
        let mut missing = 0;
        let mut last = tick(&text(&mut slow));
        while last <= newest {
            let table = text(&mut slow);
            assert_eq!(
                table.lines().count(),
                10_001,
                "each received table is complete"
            );
            missing += tick(&table).checked_sub(last + 1).expect("ticks grow");
            last = tick(&table);
        }
        assert!(missing > 0);
    }

    /// A client whose link accepts nothing for 400 tables receives a few old ones, which were in the kernels' buffers, and
    /// then new ones: old tables would arrive for a long time if the server's kernel held all of them.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_client_on_a_slow_link_receives_few_old_tables() {
        use socket2::{Domain, Socket, Type};

        let feed = Prices::new(20, Duration::from_millis(1));
        let server = serve(prices::config(), feed);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Set before connecting, so that the client's kernel never announces a larger window.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.addr.into()).unwrap();
        let url = format!("ws://{}/prices", server.addr);
        let (mut slow, _) = tungstenite::client(url, std::net::TcpStream::from(socket)).unwrap();
        let mut keen = connect(server.addr, "/prices");
        let first = tick(&text(&mut keen));
        let mut newest = first;
        while newest < first + 400 {
            newest = tick(&text(&mut keen));
        }
        let mut old = 0;
        while tick(slow.read().unwrap().to_text().unwrap()) < newest {
            old += 1;
        }
        assert!(old < 100, "{old} of 400 tables are old");
    }

    #[test]
    fn skipped_tables_are_counted() {
        let feed = Prices::new(1000, Duration::from_millis(100));
        let mut harness = Harness::new(prices::config(), feed);
        let id = harness.connect("/prices");
        harness.stall(id);
        harness.advance(Duration::from_secs(10));
        harness.resume(id);
        let received = harness.received(id);
        let skipped = harness.handler().skipped;
        assert!(skipped > 50, "{skipped}");
        assert_eq!(received.len() as u64 + skipped, 100);
        let Some(Received::Text(table)) = received.last() else {
            panic!("the last message is a table");
        };
        assert_eq!(tick(table), 100);
    }
}

mod requests {
    use super::*;
    use serde_json::{Value, json};

    fn call(client: &mut Client, request: &Value) -> Value {
        serde_json::from_str(&ask(client, &request.to_string())).unwrap()
    }

    #[test]
    fn each_answer_carries_the_id_of_its_request() {
        let server = serve(json::config(), json::Calculator);
        let mut client = connect(server.addr, "/");
        assert_eq!(
            call(
                &mut client,
                &json!({"id": 7, "method": "add", "params": [1, 2]})
            ),
            json!({"id": 7, "result": 3.0})
        );
        assert_eq!(
            ask(
                &mut client,
                r#"{"id":"a","method":"divide","params":[1,0]}"#
            ),
            r#"{"error":"division by zero","id":"a"}"#
        );
        for id in 0..100 {
            let request = json!({"id": id, "method": "divide", "params": [id, 2]});
            client.send(Sent::text(request.to_string())).unwrap();
        }
        for id in 0..100 {
            let answer: Value = serde_json::from_str(&text(&mut client)).unwrap();
            assert_eq!(answer, json!({"id": id, "result": f64::from(id) / 2.0}));
        }
    }

    #[test]
    fn invalid_requests_get_an_error_response() {
        let server = serve(json::config(), json::Calculator);
        let mut client = connect(server.addr, "/");
        for (request, error) in [
            (json!({}), "params must be an array of numbers"),
            (
                json!({"method": "add", "params": ["1"]}),
                "params must be an array of numbers",
            ),
            (json!({"method": "pow", "params": [1]}), "unknown method"),
            (
                json!({"method": "divide", "params": [1]}),
                "divide needs two params",
            ),
        ] {
            let answer = call(&mut client, &request);
            assert_eq!(answer, json!({"id": null, "error": error}), "{request}");
        }
    }

    #[test]
    fn a_message_that_is_not_json_ends_the_session() {
        let server = serve(json::config(), json::Calculator);
        let mut client = connect(server.addr, "/");
        client.send(Sent::text("{")).unwrap();
        assert_eq!(closed(client).0, 1007);
    }
}

mod tokens {
    use super::*;
    use std::net::SocketAddr;
    use token::Users;

    fn server() -> Running {
        serve(
            Config::default(),
            Users::new(&[("anna", "s3cret"), ("bert", "other")]),
        )
    }

    /// Connects with one additional header. Returns the client and the subprotocol that the server selected.
    fn with_header(
        addr: SocketAddr,
        name: &'static str,
        value: &str,
    ) -> tungstenite::Result<(Client, Option<String>)> {
        let mut request = format!("ws://{addr}/").into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        match tungstenite::client(request, tcp(addr)) {
            Ok((client, response)) => {
                let selected = response.headers().get("sec-websocket-protocol");
                let selected = selected.map(|value| value.to_str().unwrap().to_owned());
                Ok((client, selected))
            }
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("no answer"),
        }
    }

    #[test]
    fn a_program_is_accepted_by_its_authorization_header() {
        let server = server();
        for value in ["Bearer s3cret", "bearer s3cret"] {
            let (mut client, selected) = with_header(server.addr, "authorization", value).unwrap();
            assert_eq!((ask(&mut client, "?"), selected), ("anna".to_owned(), None));
        }
    }

    #[test]
    fn a_browser_is_accepted_by_a_subprotocol_that_is_not_sent_back() {
        let server = server();
        let (mut client, selected) =
            with_header(server.addr, "sec-websocket-protocol", "whoami, token.other").unwrap();
        assert_eq!(ask(&mut client, "?"), "bert");
        assert_eq!(selected.as_deref(), Some("whoami"));
    }

    #[test]
    fn requests_without_a_known_token_get_401_with_a_challenge() {
        let server = server();
        for (name, value) in [
            ("x-nothing", ""),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "Bearer s3cre"),
            ("authorization", "Bearer s3crets"),
            ("authorization", "Bearer S3cret"),
            ("authorization", "Basic s3cret"),
            ("sec-websocket-protocol", "whoami, token.s3cre"),
        ] {
            let (status, challenge) = refusal(with_header(server.addr, name, value));
            assert_eq!(status, 401, "{name}: {value}");
            assert_eq!(challenge.as_deref(), Some("Bearer realm=\"wsloop\""));
        }
    }
}

mod workers {
    use super::*;

    #[test]
    fn answers_come_from_the_worker_thread() {
        let (server, worker) = worker::server("127.0.0.1:0").unwrap();
        let server = run(server);
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "91"), "91 = 7 x 13");
        assert_eq!(ask(&mut client, "1000000007"), "1000000007 is prime");
        // A client that disconnects before its answer does not affect the other sessions.
        let mut hasty = connect(server.addr, "/");
        hasty.send(Sent::text("1000003")).unwrap();
        drop(hasty);
        assert_eq!(ask(&mut client, "6"), "6 = 2 x 3");
        client.send(Sent::text("no number")).unwrap();
        assert_eq!(closed(client).0, 1008);
        server.handle.stop().unwrap();
        server.join();
        worker.join().unwrap();
    }

    #[test]
    fn questions_beyond_the_channels_capacity_are_answered_busy_at_once() {
        let (server, _worker) = worker::server("127.0.0.1:0").unwrap();
        let server = run(server);
        let mut client = connect(server.addr, "/");
        // The worker computes for a while on the first question, and 64 wait in the channel. Each further question is
        // answered with `busy`.
        for _ in 0..80 {
            client.send(Sent::text("10000000000037")).unwrap();
        }
        assert_eq!(text(&mut client), "busy");
    }
}

mod proxies {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Starts the proxy and returns it with the listener of its upstream.
    fn start() -> (Running, TcpListener) {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = upstream.local_addr().unwrap();
        (serve(Config::default(), proxy::Proxy::new(addr)), upstream)
    }

    #[test]
    fn bytes_go_both_ways_and_each_end_ends_the_other() {
        let (server, listener) = start();
        for closes_first in [false, true] {
            let mut client = connect(server.addr, "/");
            client.send(Sent::text("hello ")).unwrap();
            client.send(Sent::binary("there")).unwrap();
            let (mut upstream, _) = listener.accept().unwrap();
            let mut hello = [0; 11];
            upstream.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, b"hello there");
            upstream.write_all(b"hi").unwrap();
            assert_eq!(client.read().unwrap(), Sent::binary("hi"));
            if closes_first {
                drop(upstream);
                assert_eq!(closed(client), (1000, "the upstream has closed".to_owned()));
            } else {
                drop(client);
                assert_eq!(upstream.read(&mut hello).unwrap(), 0);
            }
        }
    }

    /// Without `pause`, the proxy stored everything that the client sent: 300 MiB.
    #[test]
    fn a_stalled_upstream_blocks_the_client() {
        let (server, listener) = start();
        let mut raw = Raw::open(server.addr, "/");
        let (upstream, _) = listener.accept().unwrap();
        let message = frame(BINARY, &vec![7; 64 * KIB]);
        let (messages, rest) = write_until_blocked(&raw.0, |_| message.clone());
        // The buffers of four sockets, and one message in the proxy.
        assert!(messages < 40 * MIB / (64 * KIB), "{messages} messages");
        // When the upstream reads again, nothing is lost.
        let reading = std::thread::spawn(move || read_all(upstream));
        raw.send(rest);
        raw.send(frame(0x88, &1000_u16.to_be_bytes()));
        assert_eq!(reading.join().unwrap(), messages * 64 * KIB);
    }

    /// Reads to the end of the stream. Returns the number of bytes.
    fn read_all(mut stream: TcpStream) -> usize {
        let mut buf = vec![0; MIB];
        let mut total = 0;
        loop {
            match stream.read(&mut buf).unwrap() {
                0 => return total,
                len => total += len,
            }
        }
    }

    #[test]
    fn a_client_that_does_not_read_stops_the_reading_of_the_upstream() {
        let (server, listener) = start();
        let mut client = connect(server.addr, "/");
        let (upstream, _) = listener.accept().unwrap();
        let (pieces, rest) = write_until_blocked(&upstream, |_| vec![7; 64 * KIB]);
        let sent = pieces * 64 * KIB - rest.len();
        assert!(sent < 40 * MIB, "{sent} bytes");
        let mut received = 0;
        while received < sent {
            received += client.read().unwrap().len();
        }
        assert_eq!(received, sent);
        drop(upstream);
        assert_eq!(closed(client).0, 1000);
    }

    #[test]
    fn an_upstream_that_refuses_is_reported_with_1011() {
        let (server, listener) = start();
        drop(listener);
        let (code, reason) = closed(connect(server.addr, "/"));
        assert_eq!(code, 1011);
        assert!(reason.contains("refused"), "{reason}");
    }
}

#[cfg(unix)]
mod hosts {
    use super::*;

    #[test]
    fn datagrams_of_the_host_reach_every_client() {
        let mut host = host::Host::new("127.0.0.1:0", "127.0.0.1:0".parse().unwrap()).unwrap();
        let (addr, udp) = (host.addr().unwrap(), host.udp_addr().unwrap());
        let handle = host.server.handle();
        let clients = std::thread::spawn(move || {
            let mut clients = [connect(addr, "/"), connect(addr, "/")];
            // A member once its first message has come back.
            for client in &mut clients {
                client.send(Sent::text("joined")).unwrap();
                assert_eq!(text(client), "joined");
            }
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"rain", udp).unwrap();
            for client in &mut clients {
                while client.read().unwrap() != Sent::binary("rain") {}
            }
            handle.stop().unwrap();
        });
        while host.pass().unwrap() == wsloop::Turn::Running {}
        clients.join().unwrap();
    }
}

/// Returns the status of a refused opening handshake, and its `WWW-Authenticate` header.
fn refusal<T>(result: tungstenite::Result<T>) -> (u16, Option<String>) {
    match result {
        Err(tungstenite::Error::Http(response)) => {
            let challenge = response.headers().get("www-authenticate");
            let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), challenge)
        }
        Err(error) => panic!("expected a refusal in HTTP, not {error}"),
        Ok(_) => panic!("expected a refusal, but the handshake succeeded"),
    }
}
