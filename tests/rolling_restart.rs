//! A rolling restart: a second server comes to the same port (`--reuse-port`), the first gets SIGTERM, and no echo is
//! lost on the way.
//!
//! What that means: each client sends numbered messages, several ahead, and connects again whenever it is told 1001.
//! What it had sent and not seen answered before that Close it sends again on the new connection, as the server
//! answers nothing behind its Close. So every number is answered in the end; on one connection the answers are those
//! that were asked for, in order, with none left out; and no connection is refused, as one of the two listens at
//! every moment.
//!
//! Two things are counted and not hidden. Who is connected and has not sent its request when its server is told to
//! stop gets a 503, and connects again. And one gap is the system's: a client that comes between a listener's last
//! accept and its close is reset, though it was told that it is connected. It connects again. (Linux hands it to the
//! other listener if net.ipv4.tcp_migrate_req is 1.)

#![cfg(all(feature = "serve", target_os = "linux"))]

mod common;

use common::process::{Process, WSLOOP};
use common::*;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use tungstenite::{Error, HandshakeError, Message as Sent};

const CLIENTS: usize = 16;

/// Messages under way on each connection.
const AHEAD: usize = 8;

/// Restarts, one after the other, while the same clients go on.
const RESTARTS: usize = 5;

/// What all clients saw together.
#[derive(Default)]
struct Tally {
    answers: AtomicUsize,
    /// Sent again, having had no answer before a Close.
    resent: AtomicUsize,
    closes_1001: AtomicUsize,
    /// Requests answered 503.
    refusals_503: AtomicUsize,
    /// Connections that the system reset before they were open.
    reset: AtomicUsize,
}

#[test]
fn no_echo_is_lost_and_no_connection_is_refused() {
    let mut server = Process::start(&["echo", "--reuse-port"]);
    let addr = server.addr;
    let tally = Arc::new(Tally::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (tally, is_over) = (Arc::clone(&tally), Arc::clone(&is_over));
            thread::spawn(move || client(addr, &tally, &is_over))
        })
        .collect();
    let short_sessions = {
        let (tally, is_over) = (Arc::clone(&tally), Arc::clone(&is_over));
        thread::spawn(move || short_sessions(addr, &tally, &is_over))
    };
    for _ in 0..RESTARTS {
        under_way(&tally);
        let mut command = Command::new(WSLOOP);
        command.args(["echo", "--reuse-port", "-l", &addr.to_string()]);
        // Its announcement says that it listens: only now may the other leave.
        let next = Process::announced(command);
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        server = next;
    }
    under_way(&tally);
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let visits = short_sessions.join().unwrap();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    eprintln!(
        "{} echoes, {} Closes with 1001, {} messages sent again, {visits} short visits, {} told 503, {} reset",
        count(&tally.answers),
        count(&tally.closes_1001),
        count(&tally.resent),
        count(&tally.refusals_503),
        count(&tally.reset),
    );
    assert!(count(&tally.closes_1001) >= CLIENTS, "nobody was told");
}

/// Waits until every client could have had some answers.
fn under_way(tally: &Tally) {
    let before = tally.answers.load(Ordering::Relaxed);
    eventually(|| tally.answers.load(Ordering::Relaxed) > before + CLIENTS * AHEAD * 10);
}

/// Sends numbers and takes echoes, over as many connections as it takes, and ends when all that it sent is answered.
fn client(addr: SocketAddr, tally: &Tally, is_over: &AtomicBool) {
    let mut next = 0;
    // Sent, on whatever connection, and not answered.
    let mut open: VecDeque<usize> = VecDeque::new();
    'connection: loop {
        let mut socket = connect_until(addr, tally);
        let mut sent = 0;
        loop {
            while sent < AHEAD && (sent < open.len() || !is_over.load(Ordering::Relaxed)) {
                if sent == open.len() {
                    open.push_back(next);
                    next += 1;
                } else {
                    tally.resent.fetch_add(1, Ordering::Relaxed);
                }
                // What cannot be sent is open, and the reason is read below.
                let _ = socket.send(Sent::text(open[sent].to_string()));
                sent += 1;
            }
            if open.is_empty() {
                socket.close(None).unwrap();
                while socket.read().is_ok() {}
                return;
            }
            match socket.read() {
                Ok(Sent::Text(answer)) => {
                    let expected = open.pop_front().unwrap();
                    assert_eq!(answer.as_str(), expected.to_string(), "lost or mixed up");
                    sent -= 1;
                    tally.answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Sent::Close(Some(close))) => {
                    assert_eq!(u16::from(close.code), 1001);
                    tally.closes_1001.fetch_add(1, Ordering::Relaxed);
                    // Answers the Close, and sees the end of the stream.
                    let error = socket.read().unwrap_err();
                    assert!(matches!(error, Error::ConnectionClosed), "{error}");
                    continue 'connection;
                }
                other => panic!("neither an echo nor a Close with 1001: {other:?}"),
            }
        }
    }
}

/// Clients that connect, have one echo and leave, so that some are on their way in at every moment; how many.
fn short_sessions(addr: SocketAddr, tally: &Tally, is_over: &AtomicBool) -> usize {
    let mut visits = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut socket = connect_until(addr, tally);
        let _ = socket.send(Sent::text("hello"));
        match socket.read() {
            Ok(Sent::Text(answer)) => assert_eq!(answer.as_str(), "hello"),
            // It came at the last moment, and is told so.
            Ok(Sent::Close(Some(close))) => assert_eq!(u16::from(close.code), 1001),
            other => panic!("neither an echo nor a Close with 1001: {other:?}"),
        }
        let _ = socket.close(None);
        while socket.read().is_ok() {}
        visits += 1;
    }
    visits
}

/// Connects, again if the server is about to stop, or if the system resets the connection before it is open.
fn connect_until(addr: SocketAddr, tally: &Tally) -> Client {
    loop {
        // A refusal is not borne: it would mean that nobody listens.
        let stream = match TcpStream::connect_timeout(&addr, WAIT) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                tally.reset.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(error) => panic!("a connection was refused: {error}"),
        };
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        match tungstenite::client(format!("ws://{addr}/"), stream) {
            Ok((socket, _)) => return socket,
            Err(HandshakeError::Failure(Error::Io(error))) if is_reset(error.kind()) => {
                tally.reset.fetch_add(1, Ordering::Relaxed);
            }
            Err(HandshakeError::Failure(Error::Http(response))) if response.status() == 503 => {
                tally.refusals_503.fetch_add(1, Ordering::Relaxed);
            }
            Err(HandshakeError::Failure(error)) => panic!("the opening handshake failed: {error}"),
            Err(HandshakeError::Interrupted(_)) => panic!("the server did not answer"),
        }
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
