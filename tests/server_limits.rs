//! Tests of the limits of [`Config`] over real sockets: the answer that a client gets at and above the limit, the error
//! that the handler gets, and that memory stays bounded and no accepted message is lost.

mod common;

use common::*;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use tungstenite::Message as Sent;
use wsloop::handlers::{Broadcast, Echo};
use wsloop::{Config, Context, Handler, Id, LagPolicy, Message, SendStatus, Side, handler_fn};

mod connections {
    use super::*;

    #[test]
    fn above_connections_max_clients_get_503_until_one_disconnects() {
        let config = Config {
            connections_max: 3,
            ..Config::default()
        };
        let (handler, events) = watch(Echo::new());
        let server = serve(config, handler);
        let mut clients: Vec<Client> = (0..3).map(|_| connect(server.addr, "/")).collect();
        for _ in 0..5 {
            let response = http(server.addr, &upgrade_request("/"));
            assert_eq!(response.status, 503);
            assert_eq!(events.error(), "connections_max reached");
        }
        for client in &mut clients {
            assert_eq!(ask(client, "still here"), "still here");
        }
        clients.pop();
        events.end();
        let mut next = connect(server.addr, "/");
        assert_eq!(ask(&mut next, "hello"), "hello");
        assert_eq!(http(server.addr, &upgrade_request("/")).status, 503);
    }

    #[test]
    fn connections_without_a_request_count_towards_connections_max() {
        let config = Config {
            connections_max: 2,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        // Less than 1 s old, so the server does not close it in favour of a new connection.
        let _silent = Raw::new(server.addr);
        let _client = connect(server.addr, "/");
        assert_eq!(http(server.addr, &upgrade_request("/")).status, 503);
    }

    /// Up to 16 refused connections stay open until the peer has read the 503. Further ones are closed at once.
    #[test]
    fn more_than_16_refusals_at_once_do_not_disturb_open_sessions() {
        let config = Config {
            connections_max: 1,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let mut client = connect(server.addr, "/");
        let refused: Vec<Raw> = (0..60).map(|_| Raw::new(server.addr)).collect();
        let mut answered = 0;
        for mut raw in refused {
            let mut start = [0; 12];
            match raw.0.read_exact(&mut start) {
                Ok(()) => {
                    assert_eq!(&start, b"HTTP/1.1 503");
                    answered += 1;
                }
                // A connection that is closed at once can be reset before the client has read the 503.
                Err(error) => assert!(matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                )),
            }
        }
        assert!(answered > 0);
        assert_eq!(ask(&mut client, "still here"), "still here");
    }

    #[test]
    fn above_handshakes_max_the_oldest_connection_without_a_request_is_closed() {
        let config = Config {
            handshakes_max: 2,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let mut silent: Vec<Raw> = (0..20).map(|_| Raw::new(server.addr)).collect();
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "hello"), "hello");
        // The newest connection is still open, the oldest one is closed.
        let mut newest = silent.pop().unwrap();
        newest.send(upgrade_request("/"));
        assert_eq!(newest.response_head().status, 101);
        silent[0].expect_end();
    }
}

mod requests {
    use super::*;

    fn with_short_timeout() -> Config {
        Config {
            handshake_timeout: 2 * SHORT,
            ..Config::default()
        }
    }

    #[test]
    fn a_connection_without_a_byte_is_closed_without_an_answer() {
        let (handler, events) = watch(Echo::new());
        let server = serve(with_short_timeout(), handler);
        Raw::new(server.addr).expect_end();
        assert_eq!(events.error(), "handshake_timeout reached");
    }

    #[test]
    fn a_request_that_does_not_arrive_whole_is_408() {
        let (handler, events) = watch(Echo::new());
        let server = serve(with_short_timeout(), handler);
        for start in [
            "G",
            "GET / HTTP/1.1\r\nHost: ex",
            upgrade_request("/").trim_end(),
        ] {
            let response = http(server.addr, start);
            assert_eq!(response.status, 408);
            assert_eq!(events.error(), "handshake_timeout reached");
        }
    }

    #[test]
    fn single_bytes_do_not_extend_the_handshake_timeout() {
        let server = serve(with_short_timeout(), Echo::new());
        let mut raw = Raw::new(server.addr);
        raw.send("GET / HTTP/1.1\r\nHost: here\r\n");
        let mut writer = raw.0.try_clone().unwrap();
        let trickling = thread::spawn(move || {
            // An endless header name, until the test shuts the connection down.
            while writer.write_all(b"x").is_ok() {
                thread::park_timeout(SHORT / 10);
            }
        });
        assert_eq!(raw.response_head().status, 408);
        raw.0.shutdown(Shutdown::Both).unwrap();
        trickling.join().unwrap();
    }

    #[test]
    fn the_handshake_timeout_does_not_apply_to_open_sessions() {
        let server = serve(with_short_timeout(), Echo::new());
        let mut early = connect(server.addr, "/");
        // When this later connection gets 408, the timeout of the first one has passed, too.
        assert_eq!(http(server.addr, "GET").status, 408);
        assert_eq!(ask(&mut early, "still here"), "still here");
    }

    #[test]
    fn a_head_of_too_many_bytes_is_431() {
        let config = Config {
            head_bytes_max: 1024,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let with_bytes = |len: usize| {
            let request = upgrade_request("/");
            let cookie = "c".repeat(len - request.len() - "Cookie: \r\n".len());
            request.replace("Host:", &format!("Cookie: {cookie}\r\nHost:"))
        };
        let mut raw = Raw::new(server.addr);
        raw.send(with_bytes(1024));
        assert_eq!(raw.response_head().status, 101, "exactly the limit");
        assert_eq!(http(server.addr, &with_bytes(1025)).status, 431);
        // The answer arrives although the client sends much more.
        assert_eq!(http(server.addr, &with_bytes(MIB)).status, 431);
    }

    #[test]
    fn a_head_of_too_many_headers_is_431() {
        let server = serve(Config::default(), Echo::new());
        let with_headers = |count: usize| {
            // The request has five headers already.
            let more: String = (5..count).map(|i| format!("X-{i}: y\r\n")).collect();
            upgrade_request("/").replace("Host:", &format!("{more}Host:"))
        };
        let mut raw = Raw::new(server.addr);
        raw.send(with_headers(100));
        assert_eq!(raw.response_head().status, 101, "exactly the limit");
        assert_eq!(http(server.addr, &with_headers(101)).status, 431);
    }
}

mod messages {
    use super::*;

    fn small() -> Config {
        Config {
            message_bytes_max: 1000,
            fragments_max: 10,
            ..Config::default()
        }
    }

    #[test]
    fn one_byte_too_many_is_1009_before_the_payload_arrives() {
        let server = serve(small(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(BINARY, &[7; 1000]));
        assert_eq!(raw.frame(), (BINARY, vec![7; 1000]), "exactly the limit");
        raw.send(frame_header(BINARY, 1001));
        assert_eq!(raw.close_frame().0, 1009);
        raw.expect_end();
    }

    #[test]
    fn the_limit_applies_to_the_sum_of_all_fragments() {
        let server = serve(small(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(0x02, &[7; 600]));
        raw.send(frame_header(0x80, 401));
        assert_eq!(raw.close_frame().0, 1009);
        raw.expect_end();
    }

    #[test]
    fn the_largest_possible_length_reserves_no_memory() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame_header(BINARY, i64::MAX as u64));
        assert_eq!(raw.close_frame().0, 1009);
        raw.expect_end();
    }

    #[test]
    fn the_payload_of_a_message_that_is_too_big_does_not_prevent_the_1009_from_arriving() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let len = 16 * MIB + 1;
        raw.send(frame_header(BINARY, len as u64));
        raw.send(noise(len));
        assert_eq!(raw.close_frame().0, 1009);
        raw.expect_end();
    }

    #[test]
    fn too_many_fragments_are_1008() {
        let server = serve(small(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let fragments = |more: usize| {
            let mut message = frame(0x01, b"a");
            message.extend(frame(0x00, b"").repeat(more));
            message
        };
        raw.send([fragments(8), frame(0x80, b"b")].concat());
        assert_eq!(raw.frame(), (TEXT, b"ab".to_vec()), "exactly the limit");
        raw.send([fragments(9), frame(0x80, b"b")].concat());
        assert_eq!(raw.close_frame().0, 1008);
        raw.expect_end();
    }
}

mod idle {
    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    fn config(pings: bool) -> Config {
        Config {
            idle_timeout: Some(IDLE),
            ping_interval: pings.then_some(IDLE),
            ..Config::default()
        }
    }

    #[test]
    fn a_client_that_answers_pings_is_not_idle() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(true), handler);
        let mut client = connect(server.addr, "/");
        // Three pings take longer than the idle timeout.
        for _ in 0..3 {
            assert_eq!(client.read().unwrap(), Sent::Ping(vec![].into()));
            client.flush().unwrap();
            events.find(|seen| (*seen == Seen::Pong(vec![])).then_some(()));
        }
        client.send(Sent::text("still here")).unwrap();
        let mut answer = client.read().unwrap();
        while answer.is_ping() {
            answer = client.read().unwrap();
        }
        assert_eq!(answer, Sent::text("still here"));
    }

    #[test]
    fn a_client_that_does_not_answer_the_ping_gets_1001() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(true), handler);
        let mut raw = Raw::open(server.addr, "/");
        assert_eq!(raw.frame(), (PING, vec![]));
        let (code, reason) = raw.close_frame();
        assert_eq!(code, 1001);
        raw.send(close_frame(1001, ""));
        raw.expect_end();
        drop(raw);
        assert_eq!(events.error(), "idle_timeout reached");
        assert_eq!(events.end(), end(1001, &reason, true, Side::Us));
    }

    #[test]
    fn without_automatic_pings_a_silent_client_gets_1001() {
        let server = serve(config(false), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        assert_eq!(raw.close_frame().0, 1001);
    }

    #[test]
    fn a_part_of_a_frame_resets_the_idle_timeout() {
        let server = serve(config(false), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        // One byte at a time: the frame takes longer than the idle timeout.
        for byte in frame(TEXT, b"abcd") {
            raw.expect_silence(IDLE / 5);
            raw.send([byte]);
        }
        assert_eq!(raw.frame(), (TEXT, b"abcd".to_vec()));
    }

    #[test]
    fn a_client_that_does_not_answer_the_close_is_disconnected() {
        let config = Config {
            close_timeout: SHORT,
            ..config(false)
        };
        let (handler, events) = watch(Echo::new());
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        let (code, reason) = raw.close_frame();
        assert_eq!(code, 1001);
        raw.expect_end_or_reset();
        assert_eq!(events.end(), end(1001, &reason, false, Side::Us));
    }
}

mod backpressure {
    use super::*;

    const MESSAGE: usize = 64 * KIB;

    /// Returns a payload of [`MESSAGE`] bytes that begins with its number.
    fn numbered(i: usize) -> Vec<u8> {
        let mut payload = vec![0xA5; MESSAGE];
        payload[..8].copy_from_slice(&(i as u64).to_be_bytes());
        payload
    }

    fn config() -> Config {
        Config {
            // Both marks are below `read_budget_bytes` (256 KiB), so that reading pauses in the middle of a turn.
            high_water_bytes: 128 * KIB,
            low_water_bytes: 32 * KIB,
            ..Config::default()
        }
    }

    #[test]
    fn a_client_that_does_not_read_is_not_read_from_and_loses_nothing() {
        let queued_max = Arc::new(AtomicUsize::new(0));
        let queued = Arc::clone(&queued_max);
        let handler = handler_fn(move |cx, id, message: Message<'_>| {
            let status = cx.send(id, message);
            queued.fetch_max(cx.buffered_amount(id), Ordering::Relaxed);
            assert_ne!(status, SendStatus::OverLimit);
        });
        let server = serve(config(), handler);
        let mut raw = Raw::open(server.addr, "/");
        let (count, rest) = write_until_blocked(&raw.0, |i| frame(BINARY, &numbered(i)));
        let mut writer = raw.0.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&rest).unwrap();
            writer.write_all(&frame(TEXT, b"the last")).unwrap();
        });
        for i in 0..count {
            assert!(raw.frame() == (BINARY, numbered(i)), "echo {i} of {count}");
        }
        assert_eq!(raw.frame(), (TEXT, b"the last".to_vec()));
        writing.join().unwrap();
        let queued_max = queued_max.load(Ordering::Relaxed);
        // At most the high-water mark and the message that exceeded it.
        assert!(queued_max <= 128 * KIB + MESSAGE + 10, "{queued_max}");
        assert!(
            queued_max > 128 * KIB,
            "{queued_max}: the high-water mark was not exceeded"
        );
    }

    /// Sends messages without reading until the connection is blocked, then writes `last` in a thread and reads every
    /// echo.
    fn flood(server: &Running, last: Vec<u8>) -> Raw {
        let mut raw = Raw::open(server.addr, "/");
        let (count, rest) = write_until_blocked(&raw.0, |i| frame(BINARY, &numbered(i)));
        let mut writer = raw.0.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&rest).unwrap();
            writer.write_all(&last).unwrap();
            writer
        });
        for i in 0..count - 1 {
            assert!(raw.frame() == (BINARY, numbered(i)), "echo {i} of {count}");
        }
        writing.join().unwrap();
        assert!(raw.frame() == (BINARY, numbered(count - 1)));
        raw
    }

    #[test]
    fn a_close_behind_a_flood_comes_after_every_echo() {
        let server = serve(config(), Echo::new());
        let mut raw = flood(&server, close_frame(1000, "that was all"));
        assert_eq!(raw.close_frame(), (1000, "that was all".to_owned()));
        raw.expect_end();
    }

    #[test]
    fn a_violation_behind_a_flood_comes_after_every_echo() {
        let server = serve(config(), Echo::new());
        let mut raw = flood(&server, b"\x81\x01a".to_vec());
        assert_eq!(raw.close_frame().0, 1002);
        raw.expect_end();
    }

    #[test]
    fn a_client_that_floods_and_half_closes_gets_every_echo() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(), handler);
        let mut raw = Raw::open(server.addr, "/");
        let payload = noise(MIB);
        let messages: Vec<u8> = frame(BINARY, &payload).repeat(4);
        // `send` returns before an echo is read: the server's queue and the socket buffers hold 4 MiB together.
        raw.send(messages);
        raw.shut_write();
        for i in 0..4 {
            assert!(raw.frame() == (BINARY, payload.clone()), "echo {i}");
        }
        raw.expect_end();
        assert_eq!(events.end(), end(1006, "", false, Side::Peer));
    }

    #[test]
    fn others_are_served_while_one_does_not_read() {
        let server = serve(config(), Echo::new());
        let raw = Raw::open(server.addr, "/");
        write_until_blocked(&raw.0, |i| frame(BINARY, &numbered(i)));
        let mut other = connect(server.addr, "/");
        for _ in 0..100 {
            assert_eq!(ask(&mut other, "hello"), "hello");
        }
    }

    #[test]
    fn pings_of_a_client_that_does_not_read_wait_or_share_a_pong() {
        let server = serve(config(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        // Fills the socket buffers in both directions, so that the server cannot write pongs.
        let (count, rest) = write_until_blocked(&raw.0, |i| frame(BINARY, &numbered(i)));
        let mut writer = raw.0.try_clone().unwrap();
        let writing = thread::spawn(move || {
            writer.write_all(&rest).unwrap();
            for i in 0..10_000 {
                let payload = format!("{i:0>100}");
                writer.write_all(&frame(PING, payload.as_bytes())).unwrap();
            }
            writer.write_all(&frame(TEXT, b"the last")).unwrap();
        });
        let (mut echoes, mut last_pong) = (0, Vec::new());
        loop {
            match raw.frame() {
                (BINARY, payload) => {
                    assert!(payload == numbered(echoes));
                    echoes += 1;
                }
                (PONG, payload) => {
                    assert!(payload > last_pong, "pongs are in the order of the pings");
                    last_pong = payload;
                }
                (first, payload) => {
                    assert_eq!((first, payload), (TEXT, b"the last".to_vec()));
                    break;
                }
            }
        }
        writing.join().unwrap();
        assert_eq!(echoes, count);
        // The last ping is always answered, at the latest after the last message.
        if last_pong != format!("{:0>100}", 9999).as_bytes() {
            assert_eq!(raw.frame().1, format!("{:0>100}", 9999).as_bytes());
        }
    }

    #[test]
    fn a_write_stall_ends_the_session() {
        let config = Config {
            write_timeout: 2 * SHORT,
            ..config()
        };
        let (handler, events) = watch(Echo::new());
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        let message = frame(BINARY, &numbered(0));
        // Fails when the server has closed the connection.
        while raw.0.write_all(&message).is_ok() {}
        assert_eq!(events.error(), "write_timeout reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        drop(server);
    }

    /// Sends 1 MiB to a client that does not read and has a receive buffer of 4 KiB. Returns the number of bytes that
    /// remain in the session's queue.
    #[cfg(all(unix, feature = "socket-options"))]
    fn queued_of_1_mib(kernel_unsent_bytes_max: Option<u32>) -> usize {
        use socket2::{Domain, Socket, Type};

        let config = Config {
            kernel_unsent_bytes_max,
            high_water_bytes: 4 * MIB,
            ..Config::default()
        };
        let (queued, answer) = std::sync::mpsc::channel();
        let handler = handler_fn(move |cx: &mut Context<'_>, id: Id, message: Message<'_>| {
            if message.as_text() == Some("send") {
                let _ = cx.send(id, noise(MIB));
            } else {
                queued.send(cx.buffered_amount(id)).unwrap();
            }
        });
        let server = serve(config, handler);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Set before connecting, so that the client's kernel never announces a larger window.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.addr.into()).unwrap();
        let mut raw = Raw(socket.into());
        raw.send(upgrade_request("/"));
        assert_eq!(raw.response_head().status, 101);
        raw.send(frame(TEXT, b"send"));
        // So that a later turn receives the question. If the same turn receives it, more bytes are queued.
        thread::park_timeout(SHORT);
        raw.send(frame(TEXT, b"how many"));
        answer.recv_timeout(WAIT).unwrap()
    }

    #[cfg(all(feature = "socket-options", target_os = "linux"))]
    #[test]
    fn an_accepted_connection_has_the_limit_of_unsent_bytes_in_the_kernel() {
        assert_eq!(queued_of_1_mib(None), 0);
        for bytes in [1, 4096, 64 * 1024] {
            let queued = queued_of_1_mib(Some(bytes));
            // The rest is in the kernel: up to the limit, one segment and the client's receive buffer.
            let expected = MIB - bytes as usize - 64 * 1024..=MIB;
            assert!(expected.contains(&queued), "{bytes}: {queued}");
        }
    }

    #[cfg(all(unix, feature = "socket-options"))]
    #[test]
    fn a_limit_of_one_unsent_byte_in_the_kernel_loses_no_message_and_stops_none() {
        let config = Config {
            kernel_unsent_bytes_max: Some(1),
            ..config()
        };
        let server = serve(config, Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let mut writer = raw.0.try_clone().unwrap();
        let count = 200;
        let writing = thread::spawn(move || {
            for i in 0..count {
                writer.write_all(&frame(BINARY, &numbered(i))).unwrap();
            }
        });
        for i in 0..count {
            assert!(raw.frame() == (BINARY, numbered(i)), "echo {i}");
        }
        writing.join().unwrap();
        raw.send(frame(TEXT, b"still here"));
        assert_eq!(raw.frame(), (TEXT, b"still here".to_vec()));
    }

    /// After an orderly close, the kernel would retain the unsent bytes in the socket's send buffer, megabytes of them,
    /// long after the session has ended, because the peer does not read. A reset frees them. Without the feature
    /// `socket-options`, the connection is closed in the ordinary way.
    #[cfg(all(unix, feature = "socket-options"))]
    #[test]
    fn after_a_write_stall_the_connection_is_reset() {
        let config = Config {
            write_timeout: SHORT,
            ..config()
        };
        let (handler, events) = watch(handler_fn(|cx, id, _| cx.send(id, vec![1; 64 * MIB])));
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"go"));
        assert_eq!(events.error(), "write_timeout reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        let mut rest = Vec::new();
        let error = raw.0.read_to_end(&mut rest);
        let error = error.expect_err("an orderly end instead of a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(rest.len() < 64 * MIB);
        drop(server);
    }

    #[test]
    fn a_client_that_reads_slowly_is_not_stalled() {
        let config = Config {
            write_timeout: 5 * SHORT,
            ..config()
        };
        let server = serve(config, Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let mut writer = raw.0.try_clone().unwrap();
        let count = 1600; // 100 MiB, more than the buffers of any socket hold.
        let writing = thread::spawn(move || {
            for i in 0..count {
                writer.write_all(&frame(BINARY, &numbered(i))).unwrap();
            }
        });
        for i in 0..count {
            if i % 200 == 0 {
                thread::park_timeout(SHORT);
            }
            assert!(raw.frame() == (BINARY, numbered(i)), "echo {i}");
        }
        writing.join().unwrap();
    }

    #[test]
    fn a_send_above_backlog_bytes_max_is_refused_and_ends_the_session() {
        let config = Config {
            backlog_bytes_max: MIB,
            ..config()
        };
        let (handler, events) = watch(handler_fn(|cx, id, _| {
            let payload = numbered(0);
            let mut statuses = (0..10_000).map(|_| cx.send(id, &payload));
            assert!(statuses.any(|status| status == SendStatus::OverLimit));
            assert!(!cx.is_open(id));
        }));
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"go"));
        assert_eq!(events.error(), "backlog_bytes_max reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        drop(server);
    }

    /// Sends [`FEED`] messages to a client that sends a message. Stops at the high-water mark and continues in
    /// `on_drain`.
    struct Feed {
        next: usize,
    }

    const FEED: usize = 1000;

    impl Feed {
        fn push(&mut self, cx: &mut Context<'_>, id: Id) {
            while self.next < FEED {
                let status = cx.send(id, numbered(self.next));
                self.next += 1;
                match status {
                    SendStatus::Queued => {}
                    SendStatus::OverHighWater => return,
                    status => panic!("{status:?} below the high-water mark"),
                }
            }
        }
    }

    impl Handler for Feed {
        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, _: Message<'_>) {
            self.push(cx, id);
        }

        fn on_drain(&mut self, cx: &mut Context<'_>, id: Id) {
            assert!(cx.buffered_amount(id) <= 32 * KIB);
            self.push(cx, id);
        }
    }

    #[test]
    fn a_feed_that_waits_for_on_drain_is_complete() {
        let server = serve(config(), Feed { next: 0 });
        let mut raw = Raw::open(server.addr, "/");
        raw.send(frame(TEXT, b"go"));
        for i in 0..FEED {
            assert!(raw.frame() == (BINARY, numbered(i)), "message {i}");
        }
    }
}

mod lag {
    use super::*;

    /// Publishes each message to one topic, and answers with the number of members. Clients of `/receive` are members.
    struct Publisher;

    impl Handler for Publisher {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            if cx.path(id).as_deref() == Some("/receive") {
                assert!(cx.subscribe(id, "topic"));
            }
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let members = cx.publish("topic", message);
            let _ = cx.send(id, members.to_string());
        }
    }

    const LEN: usize = 256 * KIB;

    fn numbered(i: u64) -> Vec<u8> {
        [&i.to_be_bytes()[..], &vec![0x5A; LEN - 8]].concat()
    }

    fn number(frame: (u8, Vec<u8>)) -> u64 {
        let (first, payload) = frame;
        assert_eq!(first, BINARY);
        let number = u64::from_be_bytes(*payload.first_chunk().unwrap());
        assert!(payload == numbered(number), "message {number} is damaged");
        number
    }

    fn config(lag_policy: LagPolicy) -> Config {
        Config {
            lag_bytes_max: MIB,
            lag_policy,
            ..Config::default()
        }
    }

    /// Publishes message `i`. Returns the number of members.
    fn publish(sender: &mut Client, i: u64) -> usize {
        sender.send(Sent::binary(numbered(i))).unwrap();
        text(sender).parse().unwrap()
    }

    #[test]
    fn a_member_that_lags_gets_earlier_messages_and_then_1013() {
        let (handler, events) = watch(Publisher);
        let server = serve(config(LagPolicy::Disconnect), handler);
        let mut sender = connect(server.addr, "/send");
        let mut slow = Raw::open(server.addr, "/receive");
        let mut quick = Raw::open(server.addr, "/receive");
        let mut published = 0;
        while publish(&mut sender, published) == 2 {
            assert_eq!(number(quick.frame()), published);
            published += 1;
            assert!(published < 4000, "the member never exceeded lag_bytes_max");
        }
        assert_eq!(
            number(quick.frame()),
            published,
            "the other member gets every message"
        );
        let mut received = 0;
        let close = loop {
            match slow.frame() {
                (CLOSE, payload) => break payload,
                frame => assert_eq!(number(frame), received),
            }
            received += 1;
        };
        assert_eq!(close[..2], 1013_u16.to_be_bytes());
        assert!(received < published, "{received} of {published}");
        slow.send(frame(CLOSE, &close));
        slow.expect_end();
        drop(slow);
        assert_eq!(events.error(), "lag_bytes_max reached");
        assert_eq!(events.end(), end(1013, "too far behind", true, Side::Us));
        drop(server);
    }

    #[test]
    fn with_the_skip_policy_whole_messages_are_skipped_and_counted() {
        let (handler, events) = watch(Publisher);
        let server = serve(config(LagPolicy::Skip), handler);
        let mut sender = connect(server.addr, "/send");
        let mut slow = Raw::open(server.addr, "/receive");
        let mut published = 0;
        let mut skipped = 0;
        while skipped == 0 {
            assert_eq!(publish(&mut sender, published), 1);
            published += 1;
            assert!(published < 4000, "the member never exceeded lag_bytes_max");
            // When the sender has its answer, the handler's events of the previous publication are recorded.
            skipped = events.skipped();
        }
        // The newest message is never skipped.
        let mut numbers = vec![number(slow.frame())];
        while *numbers.last().unwrap() != published - 1 {
            numbers.push(number(slow.frame()));
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(numbers.len() as u64 + skipped, published);
    }

    #[test]
    fn a_broadcasting_client_that_does_not_read_is_not_read_from() {
        let server = serve(Config::default(), Broadcast);
        let mut raw = Raw::open(server.addr, "/");
        let (count, rest) = write_until_blocked(&raw.0, |i| frame(BINARY, &numbered(i as u64)));
        let mut writer = raw.0.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&rest).unwrap());
        for i in 0..count as u64 {
            assert_eq!(number(raw.frame()), i);
        }
        writing.join().unwrap();
    }
}

#[test]
fn an_invalid_config_is_an_error_of_server_new() {
    let config = Config {
        handshake_timeout: Duration::ZERO,
        ..Config::default()
    };
    let error = wsloop::Server::new(config, Echo::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("handshake_timeout"));
}
