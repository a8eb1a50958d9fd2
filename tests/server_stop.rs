//! Tests of the graceful stop, over real sockets: the server stops listening, sends Close 1001 to every client, waits
//! for their answers up to `shutdown_grace`, and `Server::run` returns.

mod common;

use common::*;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::Message as Sent;
use wsloop::handlers::{Broadcast, Echo};
use wsloop::{Config, HandleError, Message, Server, Side, Turn, handler_fn};

/// Returns a config whose timeouts are longer than any test.
fn with_long_timeouts() -> Config {
    Config {
        shutdown_grace: Duration::from_secs(600),
        close_timeout: Duration::from_secs(600),
        ..Config::default()
    }
}

/// Returns whether the server refuses a new connection.
fn is_refused(server: &Running) -> bool {
    match TcpStream::connect_timeout(&server.addr, WAIT) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            true
        }
    }
}

#[test]
fn every_client_gets_1001_and_run_returns() {
    let (handler, events) = watch(Echo::new());
    let server = serve(with_long_timeouts(), handler);
    let clients: Vec<Client> = (0..20).map(|_| connect(server.addr, "/")).collect();
    server.handle.stop().unwrap();
    for client in clients {
        let (code, reason) = closed(client);
        assert_eq!((code, &*reason), (1001, "the server is shutting down"));
    }
    server.join();
    let ends: Vec<Seen> = events
        .rest()
        .into_iter()
        .filter(|seen| matches!(seen, Seen::Close(..)))
        .collect();
    assert_eq!(ends.len(), 20);
    for seen in ends {
        let Seen::Close(_, seen) = seen else { continue };
        assert_eq!(
            seen,
            end(1001, "the server is shutting down", true, Side::Us)
        );
    }
}

#[test]
fn without_clients_run_returns_at_once() {
    let server = serve(with_long_timeouts(), Echo::new());
    server.handle.stop().unwrap();
    server.join();
}

#[test]
fn during_a_graceful_stop_connections_are_refused() {
    let server = serve(with_long_timeouts(), Echo::new());
    let mut raw = Raw::open(server.addr, "/");
    assert!(!is_refused(&server));
    server.handle.stop().unwrap();
    assert_eq!(raw.close_frame().0, 1001);
    assert!(is_refused(&server));
    raw.send(close_frame(1001, ""));
    raw.expect_end();
    drop(raw);
    server.join();
}

#[test]
fn a_client_that_does_not_answer_is_disconnected_after_the_grace() {
    let config = Config {
        shutdown_grace: SHORT,
        ..with_long_timeouts()
    };
    let (handler, events) = watch(Echo::new());
    let server = serve(config, handler);
    let mut raw = Raw::open(server.addr, "/");
    server.handle.stop().unwrap();
    assert_eq!(raw.close_frame().0, 1001);
    raw.expect_end_or_reset();
    server.join();
    assert_eq!(
        events.end(),
        end(1001, "the server is shutting down", false, Side::Us)
    );
}

#[test]
fn a_client_that_neither_reads_nor_answers_is_disconnected_after_the_grace() {
    let config = Config {
        shutdown_grace: SHORT,
        ..with_long_timeouts()
    };
    let server = serve(config, Echo::new());
    let raw = Raw::open(server.addr, "/");
    let message = frame(BINARY, &noise(64 * KIB));
    write_until_blocked(&raw.0, |_| message.clone());
    server.handle.stop().unwrap();
    server.join();
}

#[test]
fn a_second_stop_ends_at_once() {
    let (handler, events) = watch(Echo::new());
    let server = serve(with_long_timeouts(), handler);
    let mut raw = Raw::open(server.addr, "/");
    server.handle.stop().unwrap();
    assert_eq!(raw.close_frame().0, 1001);
    server.handle.stop().unwrap();
    server.join();
    raw.expect_end_or_reset();
    assert!(!events.end().is_clean);
}

#[test]
fn two_stops_in_one_turn_end_at_once() {
    let (handler, events) = watch(handler_fn(|cx, _, _| {
        cx.stop();
        cx.stop();
    }));
    let server = serve(with_long_timeouts(), handler);
    let mut raw = Raw::open(server.addr, "/");
    raw.send(frame(TEXT, b"stop, stop"));
    server.join();
    raw.expect_end_or_reset();
    assert_eq!(events.end(), end(1006, "", false, Side::Us));
    assert_eq!(events.rest(), []);
}

#[test]
fn a_handler_can_stop_the_server() {
    let server = serve(with_long_timeouts(), handler_fn(|cx, _, _| cx.stop()));
    let mut client = connect(server.addr, "/");
    client.send(Sent::text("stop")).unwrap();
    assert_eq!(closed(client).0, 1001);
    server.join();
}

#[test]
fn a_pending_handshake_is_answered_with_503_and_a_silent_connection_is_closed() {
    let server = serve(with_long_timeouts(), Echo::new());
    let mut client = connect(server.addr, "/");
    let mut silent = Raw::new(server.addr);
    let mut half = Raw::new(server.addr);
    half.send("GET / HTTP/1.1\r\nHo");
    // After this echo the server has accepted both connections.
    ask(&mut client, "tick");
    server.handle.stop().unwrap();
    let response = half.response();
    assert_eq!(response.status, 503);
    assert!(response.body.contains("shutting down"));
    silent.expect_end();
    drop((silent, half));
    assert_eq!(closed(client).0, 1001);
    server.join();
}

#[test]
fn a_draining_server_accepts_connections_and_refuses_sessions() {
    let server = serve(with_long_timeouts(), Echo::new());
    let mut client = connect(server.addr, "/");
    // The request of this connection is complete only after the drain has begun.
    let mut half = Raw::new(server.addr);
    half.send("GET / HTTP/1.1\r\nHo");
    ask(&mut client, "tick");
    server.handle.drain().unwrap();
    ask(&mut client, "tick");
    half.send(&upgrade_request("/")["GET / HTTP/1.1\r\nHo".len()..]);
    let new = http(server.addr, &upgrade_request("/"));
    for response in [new, half.response()] {
        assert_eq!(response.status, 503);
        assert_eq!(response.header("connection"), Some("close"));
        assert!(response.body.contains("draining"), "{}", response.body);
    }
    let plain = http(server.addr, "GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(plain.status, 426);
    assert_eq!(ask(&mut client, "hello"), "hello");
    drop(half);
    server.handle.stop().unwrap();
    assert_eq!(closed(client).0, 1001);
    server.join();
}

#[test]
fn queued_messages_arrive_before_the_close() {
    let answer = "x".repeat(8 * MIB);
    let expected = answer.clone();
    let handler = handler_fn(move |cx, id, _: Message<'_>| {
        let _ = cx.send(id, &answer);
        cx.stop();
    });
    let server = serve(with_long_timeouts(), handler);
    let mut client = connect(server.addr, "/");
    assert!(ask(&mut client, "everything, please") == expected);
    assert_eq!(closed(client).0, 1001);
    server.join();
}

#[test]
fn publications_arrive_before_the_close() {
    let server = serve(with_long_timeouts(), Broadcast);
    let mut clients: Vec<Client> = (0..5).map(|_| connect(server.addr, "/")).collect();
    for i in 0..100 {
        server.handle.publish("/", &*i.to_string()).unwrap();
    }
    server.handle.stop().unwrap();
    for client in &mut clients {
        for i in 0..100 {
            assert_eq!(text(client), i.to_string());
        }
    }
    for client in clients {
        assert_eq!(closed(client).0, 1001);
    }
    server.join();
}

#[test]
fn messages_that_arrive_after_our_close_get_no_answer() {
    let server = serve(with_long_timeouts(), Echo::new());
    let mut raw = Raw::open(server.addr, "/");
    server.handle.stop().unwrap();
    assert_eq!(raw.close_frame().0, 1001);
    raw.send([frame(TEXT, b"too late"), close_frame(1000, "")].concat());
    raw.expect_end();
    drop(raw);
    server.join();
}

#[test]
fn a_session_that_is_already_closing_ends_with_its_own_code() {
    let (handler, events) = watch(handler_fn(|cx, id, _| {
        assert!(cx.close(id, 4000, "you first"));
        cx.stop();
    }));
    let server = serve(with_long_timeouts(), handler);
    let mut client = connect(server.addr, "/");
    client.send(Sent::text("close, then stop")).unwrap();
    assert_eq!(closed(client), (4000, "you first".to_owned()));
    server.join();
    assert_eq!(events.end(), end(4000, "you first", true, Side::Us));
}

#[test]
fn the_handle_of_a_stopped_server_returns_an_error() {
    let server = serve(with_long_timeouts(), Echo::new());
    let handle = server.handle.clone();
    handle.stop().unwrap();
    server.join();
    assert_eq!(handle.stop(), Err(HandleError::Stopped));
    assert_eq!(handle.publish("topic", "x"), Err(HandleError::Stopped));
}

#[test]
fn a_server_that_is_dropped_ends_every_session() {
    let (handler, events) = watch(Echo::new());
    let mut server = Server::new(with_long_timeouts(), handler).unwrap();
    let addr = server.listen("127.0.0.1:0").unwrap();
    let connecting = thread::spawn(move || [(); 3].map(|()| Raw::open(addr, "/")));
    let start = Instant::now();
    while server.count() < 3 {
        assert_eq!(server.turn(Some(SHORT)).unwrap(), Turn::Running);
        assert!(start.elapsed() < WAIT, "the sessions did not open in time");
    }
    drop(server);
    for mut raw in connecting.join().unwrap() {
        raw.expect_end_or_reset();
    }
    let seen = events.rest();
    let opens = seen.iter().filter(|seen| matches!(seen, Seen::Open(_)));
    assert_eq!((seen.len(), opens.count()), (6, 3));
    for event in &seen[3..] {
        let Seen::Close(_, how) = event else {
            panic!("{event:?}")
        };
        assert_eq!(*how, end(1006, "", false, Side::Us));
    }
}

#[test]
fn clients_in_the_listen_backlog_are_served_before_they_get_1001() {
    let mut server = Server::new(with_long_timeouts(), Echo::new()).unwrap();
    let addr = server.listen("127.0.0.1:0").unwrap();
    // The clients send before the first turn of the server.
    let clients: Vec<Raw> = (0..100)
        .map(|_| {
            let mut raw = Raw::new(addr);
            raw.send(upgrade_request("/"));
            raw.send(frame(TEXT, b"hello"));
            raw
        })
        .collect();
    server.handle().stop().unwrap();
    let server = run(server);
    for mut raw in clients {
        assert_eq!(raw.response_head().status, 101);
        assert_eq!(raw.frame(), (TEXT, b"hello".to_vec()));
        assert_eq!(raw.close_frame().0, 1001);
        raw.send(close_frame(1001, ""));
        raw.expect_end();
    }
    server.join();
}
