//! Every limit of `Config` over real sockets: what a client sees at the edge, what the handler is told, and that
//! memory stays bounded while nothing that was accepted is lost.

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
    fn past_the_limit_is_503_until_one_leaves() {
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
        assert_eq!(ask(&mut next, "room"), "room");
        assert_eq!(http(server.addr, &upgrade_request("/")).status, 503);
    }

    #[test]
    fn those_without_a_request_count_as_connections() {
        let config = Config {
            connections_max: 2,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let _silent = Raw::new(server.addr);
        let _client = connect(server.addr, "/");
        assert_eq!(http(server.addr, &upgrade_request("/")).status, 503);
    }

    #[test]
    fn more_refused_at_once_than_answers_in_reserve_harm_nobody() {
        let config = Config {
            connections_max: 1,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let mut client = connect(server.addr, "/");
        let refused: Vec<Raw> = (0..60).map(|_| Raw::new(server.addr)).collect();
        let mut told = 0;
        for mut raw in refused {
            let mut start = [0; 12];
            match raw.0.read_exact(&mut start) {
                Ok(()) => {
                    assert_eq!(&start, b"HTTP/1.1 503");
                    told += 1;
                }
                // Dropped without a word.
                Err(error) => assert!(matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                )),
            }
        }
        assert!(told > 0);
        assert_eq!(ask(&mut client, "still here"), "still here");
    }

    #[test]
    fn above_handshakes_max_the_oldest_without_a_request_makes_room() {
        let config = Config {
            handshakes_max: 2,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let mut silent: Vec<Raw> = (0..20).map(|_| Raw::new(server.addr)).collect();
        let mut client = connect(server.addr, "/");
        assert_eq!(ask(&mut client, "room"), "room");
        // The newest is still there, the oldest is not.
        let mut newest = silent.pop().unwrap();
        newest.say(upgrade_request("/"));
        assert_eq!(newest.response_head().status, 101);
        silent[0].at_end();
    }
}

mod requests {
    use super::*;

    fn impatient() -> Config {
        Config {
            handshake_timeout: 2 * SHORT,
            ..Config::default()
        }
    }

    #[test]
    fn a_request_that_does_not_come_is_408() {
        let (handler, events) = watch(Echo::new());
        let server = serve(impatient(), handler);
        for start in [
            "",
            "GET / HTTP/1.1\r\nHost: he",
            upgrade_request("/").trim_end(),
        ] {
            let response = http(server.addr, start);
            assert_eq!(response.status, 408);
            assert_eq!(events.error(), "handshake_timeout reached");
        }
    }

    #[test]
    fn bytes_that_trickle_in_do_not_extend_it() {
        let server = serve(impatient(), Echo::new());
        let mut raw = Raw::new(server.addr);
        raw.say("GET / HTTP/1.1\r\nHost: here\r\n");
        let mut writer = raw.0.try_clone().unwrap();
        let trickling = thread::spawn(move || {
            // The name of a header that does not end, until the test has seen enough.
            while writer.write_all(b"x").is_ok() {
                thread::park_timeout(SHORT / 10);
            }
        });
        assert_eq!(raw.response_head().status, 408);
        raw.0.shutdown(Shutdown::Both).unwrap();
        trickling.join().unwrap();
    }

    #[test]
    fn an_open_session_is_past_that_deadline() {
        let server = serve(impatient(), Echo::new());
        let mut early = connect(server.addr, "/");
        // One that is refused in the meantime tells that the time has passed.
        assert_eq!(http(server.addr, "").status, 408);
        assert_eq!(ask(&mut early, "still here"), "still here");
    }

    #[test]
    fn a_head_of_too_many_bytes_is_431() {
        let config = Config {
            head_bytes_max: 1024,
            ..Config::default()
        };
        let server = serve(config, Echo::new());
        let fits = |len: usize| {
            let request = upgrade_request("/");
            let cookie = "c".repeat(len - request.len() - "Cookie: \r\n".len());
            request.replace("Host:", &format!("Cookie: {cookie}\r\nHost:"))
        };
        let mut raw = Raw::new(server.addr);
        raw.say(fits(1024));
        assert_eq!(raw.response_head().status, 101, "exactly the limit");
        assert_eq!(http(server.addr, &fits(1025)).status, 431);
        // The answer is not lost although much more follows.
        assert_eq!(http(server.addr, &fits(MIB)).status, 431);
    }

    #[test]
    fn a_head_of_too_many_headers_is_431() {
        let server = serve(Config::default(), Echo::new());
        let with_headers = |count: usize| {
            // The request has five.
            let more: String = (5..count).map(|i| format!("X-{i}: y\r\n")).collect();
            upgrade_request("/").replace("Host:", &format!("{more}Host:"))
        };
        let mut raw = Raw::new(server.addr);
        raw.say(with_headers(100));
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
        raw.say(frame(BINARY, &[7; 1000]));
        assert_eq!(raw.frame(), (BINARY, vec![7; 1000]), "exactly the limit");
        raw.say(frame_header(BINARY, 1001));
        assert_eq!(raw.close_frame().0, 1009);
        raw.at_end();
    }

    #[test]
    fn fragments_count_together() {
        let server = serve(small(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.say(frame(0x02, &[7; 600]));
        raw.say(frame_header(0x80, 401));
        assert_eq!(raw.close_frame().0, 1009);
        raw.at_end();
    }

    #[test]
    fn the_largest_length_there_is_reserves_nothing() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        raw.say(frame_header(BINARY, i64::MAX as u64));
        assert_eq!(raw.close_frame().0, 1009);
        raw.at_end();
    }

    #[test]
    fn the_payload_of_one_that_is_too_big_does_not_take_the_1009_away() {
        let server = serve(Config::default(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let len = 16 * MIB + 1;
        raw.say(frame_header(BINARY, len as u64));
        raw.say(noise(len));
        assert_eq!(raw.close_frame().0, 1009);
        raw.at_end();
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
        raw.say([fragments(8), frame(0x80, b"b")].concat());
        assert_eq!(raw.frame(), (TEXT, b"ab".to_vec()), "exactly the limit");
        raw.say([fragments(9), frame(0x80, b"b")].concat());
        assert_eq!(raw.close_frame().0, 1008);
        raw.at_end();
    }
}

mod idle {
    use super::*;

    const IDLE: Duration = Duration::from_secs(1);

    fn config(auto_ping: bool) -> Config {
        Config {
            idle_timeout: Some(IDLE),
            auto_ping,
            ..Config::default()
        }
    }

    #[test]
    fn who_answers_the_pings_stays() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(true), handler);
        let mut client = connect(server.addr, "/");
        // More than the idle timeout in all.
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
    fn who_does_not_answer_is_pinged_once_and_told_1001() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(true), handler);
        let mut raw = Raw::open(server.addr, "/");
        assert_eq!(raw.frame(), (PING, vec![]));
        let (code, reason) = raw.close_frame();
        assert_eq!(code, 1001);
        raw.say(close_frame(1001, ""));
        raw.at_end();
        drop(raw);
        assert_eq!(events.error(), "idle_timeout reached");
        assert_eq!(events.end(), end(1001, &reason, true, Side::Us));
    }

    #[test]
    fn without_pings_silence_alone_is_1001() {
        let server = serve(config(false), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        assert_eq!(raw.close_frame().0, 1001);
    }

    #[test]
    fn half_a_frame_is_no_silence() {
        let server = serve(config(false), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        // Byte by byte, for longer than the idle timeout in all.
        for byte in frame(TEXT, b"abcd") {
            raw.is_silent(IDLE / 5);
            raw.say([byte]);
        }
        assert_eq!(raw.frame(), (TEXT, b"abcd".to_vec()));
    }

    #[test]
    fn who_does_not_answer_the_close_is_cut_off() {
        let config = Config {
            close_timeout: SHORT,
            ..config(false)
        };
        let (handler, events) = watch(Echo::new());
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        let (code, reason) = raw.close_frame();
        assert_eq!(code, 1001);
        raw.is_gone();
        assert_eq!(events.end(), end(1001, &reason, false, Side::Us));
    }
}

mod backpressure {
    use super::*;

    const MESSAGE: usize = 64 * KIB;

    fn numbered(i: usize) -> Vec<u8> {
        let mut payload = vec![0xA5; MESSAGE];
        payload[..8].copy_from_slice(&(i as u64).to_be_bytes());
        payload
    }

    fn config() -> Config {
        Config {
            // Less than what one turn may read, so that a pause has to come in the middle of a turn.
            high_water_bytes: 128 * KIB,
            low_water_bytes: 32 * KIB,
            ..Config::default()
        }
    }

    #[test]
    fn who_does_not_read_is_not_read_and_loses_nothing() {
        let owed_max = Arc::new(AtomicUsize::new(0));
        let owed = Arc::clone(&owed_max);
        let handler = handler_fn(move |cx, id, message: Message<'_>| {
            let status = cx.send(id, message);
            owed.fetch_max(cx.buffered_amount(id), Ordering::Relaxed);
            assert_ne!(status, SendStatus::Refused);
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
        let owed_max = owed_max.load(Ordering::Relaxed);
        // High water, and the message that went over it.
        assert!(owed_max <= 128 * KIB + MESSAGE + 10, "{owed_max}");
        assert!(owed_max > 128 * KIB, "it came to that");
    }

    /// Fills the connection, writes `last`, and only then reads every echo.
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
        raw.at_end();
    }

    #[test]
    fn a_violation_behind_a_flood_comes_after_every_echo() {
        let server = serve(config(), Echo::new());
        let mut raw = flood(&server, b"\x81\x01a".to_vec());
        assert_eq!(raw.close_frame().0, 1002);
        raw.at_end();
    }

    #[test]
    fn who_floods_and_half_closes_gets_every_echo() {
        let (handler, events) = watch(Echo::new());
        let server = serve(config(), handler);
        let mut raw = Raw::open(server.addr, "/");
        let payload = noise(MIB);
        let messages: Vec<u8> = frame(BINARY, &payload).repeat(4);
        // So much fits on the way: the server has all of it, or its socket.
        raw.say(messages);
        raw.shut_write();
        for i in 0..4 {
            assert!(raw.frame() == (BINARY, payload.clone()), "echo {i}");
        }
        raw.at_end();
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
    fn pings_without_reading_are_pushed_back_or_merged() {
        let server = serve(config(), Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        // Fills the way back, so that pongs cannot leave.
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
                    assert!(payload > last_pong, "pongs keep the order of the pings");
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
        // The newest ping is answered in any case, if need be after the message.
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
        // Until the server has cut it off.
        while raw.0.write_all(&message).is_ok() {}
        assert_eq!(events.error(), "write_timeout reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        drop(server);
    }

    /// The system would hold the socket's buffer, megabytes of it, for a peer that reads nothing, long after the session is
    /// gone. A reset frees that buffer. Without the feature `serve`, the connection is closed in the ordinary way.
    #[cfg(feature = "serve")]
    #[test]
    fn after_a_write_stall_the_connection_is_reset() {
        let config = Config {
            write_timeout: SHORT,
            ..config()
        };
        let (handler, events) = watch(handler_fn(|cx, id, _| cx.send(id, &vec![1; 64 * MIB])));
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        raw.say(frame(TEXT, b"go"));
        assert_eq!(events.error(), "write_timeout reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        let mut rest = Vec::new();
        let error = raw.0.read_to_end(&mut rest);
        let error = error.expect_err("an orderly end, behind all that was in the socket's buffer");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(rest.len() < 64 * MIB);
        drop(server);
    }

    #[test]
    fn a_peer_that_reads_slowly_is_no_stall() {
        let config = Config {
            write_timeout: 5 * SHORT,
            ..config()
        };
        let server = serve(config, Echo::new());
        let mut raw = Raw::open(server.addr, "/");
        let mut writer = raw.0.try_clone().unwrap();
        let count = 1600; // 100 MiB, more than any socket's buffers.
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
    fn a_send_past_the_hard_limit_is_refused_and_ends_the_session() {
        let config = Config {
            backlog_bytes_max: MIB,
            ..config()
        };
        let (handler, events) = watch(handler_fn(|cx, id, _| {
            let payload = numbered(0);
            let mut statuses = (0..10_000).map(|_| cx.send(id, &payload));
            assert!(statuses.any(|status| status == SendStatus::Refused));
            assert!(!cx.is_open(id));
        }));
        let server = serve(config, handler);
        let mut raw = Raw::open(server.addr, "/");
        raw.say(frame(TEXT, b"go"));
        assert_eq!(events.error(), "backlog_bytes_max reached");
        assert_eq!(events.end(), end(1006, "", false, Side::Us));
        drop(server);
    }

    /// Sends so many messages to whoever asks, as fast as they leave.
    struct Feed {
        next: usize,
    }

    const FEED: usize = 1000;

    impl Feed {
        fn push(&mut self, cx: &mut Context<'_>, id: Id) {
            while self.next < FEED {
                let status = cx.send(id, &numbered(self.next));
                self.next += 1;
                match status {
                    SendStatus::Queued => {}
                    SendStatus::OverHighWater => return,
                    status => panic!("{status:?}, and it was over high water before"),
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
        raw.say(frame(TEXT, b"go"));
        for i in 0..FEED {
            assert!(raw.frame() == (BINARY, numbered(i)), "message {i}");
        }
    }
}

mod lag {
    use super::*;

    /// Publishes what it gets and tells the sender how many listen.
    struct Stage;

    impl Handler for Stage {
        fn on_open(&mut self, cx: &mut Context<'_>, id: Id) {
            if cx.path(id).as_deref() == Some("/listen") {
                assert!(cx.subscribe(id, "stage"));
            }
        }

        fn on_message(&mut self, cx: &mut Context<'_>, id: Id, message: Message<'_>) {
            let listeners = cx.publish("stage", message);
            let _ = cx.send(id, &listeners.to_string());
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
        assert!(payload == numbered(number), "message {number} is whole");
        number
    }

    fn config(lag_policy: LagPolicy) -> Config {
        Config {
            lag_bytes_max: MIB,
            lag_policy,
            ..Config::default()
        }
    }

    /// Publishes one more; how many listen.
    fn publish(speaker: &mut Client, i: u64) -> usize {
        speaker.send(Sent::binary(numbered(i))).unwrap();
        text(speaker).parse().unwrap()
    }

    #[test]
    fn who_is_too_far_behind_gets_what_it_can_and_1013() {
        let (handler, events) = watch(Stage);
        let server = serve(config(LagPolicy::Disconnect), handler);
        let mut speaker = connect(server.addr, "/speak");
        let mut slow = Raw::open(server.addr, "/listen");
        let mut quick = Raw::open(server.addr, "/listen");
        let mut published = 0;
        while publish(&mut speaker, published) == 2 {
            assert_eq!(number(quick.frame()), published);
            published += 1;
            assert!(published < 4000, "somewhere it is too far");
        }
        assert_eq!(
            number(quick.frame()),
            published,
            "the other is not disturbed"
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
        slow.say(frame(CLOSE, &close));
        slow.at_end();
        drop(slow);
        assert_eq!(events.error(), "lag_bytes_max reached");
        assert_eq!(events.end(), end(1013, "too far behind", true, Side::Us));
        drop(server);
    }

    #[test]
    fn who_may_skip_misses_whole_messages_that_are_counted() {
        let (handler, events) = watch(Stage);
        let server = serve(config(LagPolicy::Skip), handler);
        let mut speaker = connect(server.addr, "/speak");
        let mut slow = Raw::open(server.addr, "/listen");
        let mut published = 0;
        let mut skipped = 0;
        while skipped == 0 {
            assert_eq!(publish(&mut speaker, published), 1);
            published += 1;
            assert!(published < 4000, "somewhere it is too far");
            // Between two answers all that was told is known.
            skipped = events.skipped();
        }
        // The newest is what the skip was for.
        let mut numbers = vec![number(slow.frame())];
        while *numbers.last().unwrap() != published - 1 {
            numbers.push(number(slow.frame()));
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(numbers.len() as u64 + skipped, published);
    }

    #[test]
    fn a_broadcaster_that_does_not_read_is_not_read() {
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
fn limits_that_make_no_sense_are_refused_at_once() {
    let config = Config {
        handshake_timeout: Duration::ZERO,
        ..Config::default()
    };
    let error = wsloop::Server::new(config, Echo::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("handshake_timeout"));
}
