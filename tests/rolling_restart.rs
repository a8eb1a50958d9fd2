//! Test of a rolling restart: a second server starts on the same port (`--reuse-port`), the first one gets SIGTERM,
//! and no echo is lost.
//!
//! Each client sends numbered messages, with up to [`AHEAD`] unanswered, and connects again when it receives Close
//! 1001. A server answers nothing after its Close, so the client sends its unanswered messages again on the new
//! connection. The test checks that
//! - every number is answered,
//! - on each connection the answers are complete and in the order of the messages,
//! - no connection is refused, because at every moment one of the two servers listens.
//!
//! Two cases are allowed, and counted:
//! - A client that is connected but has not sent its request when its server stops gets a 503, and connects again.
//! - A client that connects between the last `accept` of a listener and its close is reset by the operating system,
//!   although its connection was established. It connects again. (Linux passes it to the other listener if
//!   `net.ipv4.tcp_migrate_req` is 1.)

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

/// Maximum unanswered messages on each connection.
const AHEAD: usize = 8;

/// The number of restarts, one after the other, with the same clients.
const RESTARTS: usize = 5;

/// Counters of all clients together.
#[derive(Default)]
struct Tally {
    answers: AtomicUsize,
    /// Messages sent again, because a Close arrived before their answer.
    resent: AtomicUsize,
    closes_1001: AtomicUsize,
    /// Requests answered with 503.
    refusals_503: AtomicUsize,
    /// Connections that the system reset before the opening handshake was complete.
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
        wait_for_answers(&tally);
        let mut command = Command::new(WSLOOP);
        command.args(["echo", "--reuse-port", "-l", &addr.to_string()]);
        // The new server listens when it has announced its address: only then may the old one stop.
        let next = Process::announced(command);
        server.signal("TERM");
        assert_eq!(server.code(), Some(0));
        server = next;
    }
    wait_for_answers(&tally);
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let sessions = short_sessions.join().unwrap();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    eprintln!(
        "{} echoes, {} Closes with 1001, {} messages sent again, {sessions} short sessions, {} answered 503, {} reset",
        count(&tally.answers),
        count(&tally.closes_1001),
        count(&tally.resent),
        count(&tally.refusals_503),
        count(&tally.reset),
    );
    assert!(
        count(&tally.closes_1001) >= CLIENTS,
        "fewer Closes with 1001 than clients"
    );
}

/// Waits until the clients have received ten times their maximum of unanswered messages.
fn wait_for_answers(tally: &Tally) {
    let before = tally.answers.load(Ordering::Relaxed);
    eventually(|| tally.answers.load(Ordering::Relaxed) > before + CLIENTS * AHEAD * 10);
}

/// Sends numbers and checks their echoes, over as many connections as necessary. Returns when `is_over` is set and
/// every number is answered.
fn client(addr: SocketAddr, tally: &Tally, is_over: &AtomicBool) {
    let mut next = 0;
    // Numbers sent on any connection and not answered.
    let mut unanswered: VecDeque<usize> = VecDeque::new();
    'connection: loop {
        let mut socket = connect_until(addr, tally);
        // How many of the unanswered numbers were sent on this connection.
        let mut sent = 0;
        loop {
            while sent < AHEAD && (sent < unanswered.len() || !is_over.load(Ordering::Relaxed)) {
                if sent == unanswered.len() {
                    unanswered.push_back(next);
                    next += 1;
                } else {
                    tally.resent.fetch_add(1, Ordering::Relaxed);
                }
                // An error is ignored: the number stays unanswered, and the read below returns the reason.
                let _ = socket.send(Sent::text(unanswered[sent].to_string()));
                sent += 1;
            }
            if unanswered.is_empty() {
                socket.close(None).unwrap();
                while socket.read().is_ok() {}
                return;
            }
            match socket.read() {
                Ok(Sent::Text(answer)) => {
                    let expected = unanswered.pop_front().unwrap();
                    assert_eq!(
                        answer.as_str(),
                        expected.to_string(),
                        "an answer is missing or out of order"
                    );
                    sent -= 1;
                    tally.answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Sent::Close(Some(close))) => {
                    assert_eq!(u16::from(close.code), 1001);
                    tally.closes_1001.fetch_add(1, Ordering::Relaxed);
                    // This read answers the Close and returns the end of the stream.
                    let error = socket.read().unwrap_err();
                    assert!(matches!(error, Error::ConnectionClosed), "{error}");
                    continue 'connection;
                }
                other => panic!("neither an echo nor a Close with 1001: {other:?}"),
            }
        }
    }
}

/// Opens sessions of one echo each, one after the other, so that restarts happen during opening handshakes. Returns the
/// number of sessions.
fn short_sessions(addr: SocketAddr, tally: &Tally, is_over: &AtomicBool) -> usize {
    let mut sessions = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut socket = connect_until(addr, tally);
        let _ = socket.send(Sent::text("hello"));
        match socket.read() {
            Ok(Sent::Text(answer)) => assert_eq!(answer.as_str(), "hello"),
            // The session was opened just before its server stopped.
            Ok(Sent::Close(Some(close))) => assert_eq!(u16::from(close.code), 1001),
            other => panic!("neither an echo nor a Close with 1001: {other:?}"),
        }
        let _ = socket.close(None);
        while socket.read().is_ok() {}
        sessions += 1;
    }
    sessions
}

/// Connects. Tries again if the server answers 503 because it stops, or if the system resets the connection before the
/// opening handshake is complete.
fn connect_until(addr: SocketAddr, tally: &Tally) -> Client {
    loop {
        // A refused connection fails the test: it means that neither server listens.
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
