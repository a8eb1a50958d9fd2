//! Brokers that cannot be reached, and programs that are not a working broker.

use super::driver::{Driver, Event};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Starts a fake broker that handles each connection with `serve`. Returns its address.
fn serve(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    address
}

/// Starts a fake broker that sends `answer` after the first read, and then reads until the end.
fn answering(answer: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let mut buf = [0; 4096];
        if stream.read(&mut buf).is_ok_and(|len| len > 0) {
            let _ = stream.write_all(answer.as_bytes());
        }
        while stream.read(&mut buf).is_ok_and(|len| len > 0) {}
    })
}

fn disconnection(url: &str, timeout: Duration) -> (String, bool, u64) {
    Driver::new(url.parse().unwrap()).disconnection(timeout)
}

#[test]
fn a_server_that_cannot_be_the_broker_is_a_permanent_error() {
    let table = [
        (
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `sEcret`\r\n",
            "Redis 7 or Valkey is needed",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "neither Redis nor Valkey",
        ),
        ("-DENIED protected mode\r\n", "set a password"),
    ];
    for (answer, remedy) in table {
        let url = format!("redis://:sEcret@{}", answering(answer));
        let (reason, is_permanent, _) = disconnection(&url, 3 * SECOND);
        assert!(is_permanent && reason.contains(remedy), "{reason}");
        assert!(!reason.contains("sEcret"), "{reason}");
    }
}

#[test]
fn a_broker_that_answers_but_delivers_no_message_is_not_used() {
    let address = answering(
        "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+id\r\n:7\r\n\
         >3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n:0\r\n",
    );
    let (reason, is_permanent, _) = disconnection(&format!("redis://{address}"), 7 * SECOND);
    assert!(
        !is_permanent && reason.contains("do not arrive"),
        "{reason}"
    );
}

#[test]
fn attempts_that_fail_are_reported_and_repeated_with_delays() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let directory = std::env::temp_dir().display().to_string();
    let table = [
        (
            format!("redis://127.0.0.1:{port}"),
            "cannot connect to 127.0.0.1",
        ),
        (format!("redis://[::1]:{port}"), "cannot connect to [::1]"),
        (format!("redis://localhost:{port}"), "cannot connect to"),
        (
            format!("unix:{directory}/wsloop-no-such-socket"),
            "cannot connect to unix:/",
        ),
        ("redis://a..b".into(), "cannot be resolved"),
    ];
    for (url, expected) in table {
        let mut driver = Driver::new(url.parse().unwrap());
        let start = Instant::now();
        for _ in 0..4 {
            let (reason, is_permanent, unacknowledged) = driver.disconnection(9 * SECOND);
            assert!(reason.contains(expected), "{url}: {reason}");
            assert_eq!((is_permanent, unacknowledged), (false, 0), "{url}");
        }
        // Three delays, of 25, 50 and 100 ms at least.
        assert!(start.elapsed() >= Duration::from_millis(175), "{url}");
        assert!(driver.turns < 1000, "{url}: {}", driver.turns);
    }
}

#[test]
fn a_broker_that_ends_each_connection_is_tried_at_growing_intervals() {
    let address = serve(drop);
    let mut driver = Driver::new(format!("redis://{address}").parse().unwrap());
    let events = driver.during(2 * SECOND);
    let ends = events.len();
    assert!(
        events
            .iter()
            .all(|event| matches!(event, Event::Disconnected { .. }))
    );
    // 25 to 50 ms, 50 to 100, 100 to 200, then 200 to 400 ms each.
    assert!((6..=13).contains(&ends), "{ends}");
}

/// Reads the greeting of a client. Returns the channel of its probe.
fn read_greeting(stream: &mut TcpStream) -> String {
    let mut greeting = Vec::new();
    let mut buf = [0; 4096];
    while !greeting.ends_with(b"probe\r\n") {
        let len = stream.read(&mut buf).unwrap();
        assert!(len > 0);
        greeting.extend_from_slice(&buf[..len]);
    }
    let greeting = String::from_utf8(greeting).unwrap();
    let at = greeting.find("wsloop:probe:").unwrap();
    greeting[at..at + 29].into()
}

/// Returns the broker's answers to a greeting.
fn welcome(channel: &str) -> String {
    let hello = "%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+id\r\n:7\r\n";
    let probe = format!(">3\r\n$7\r\nmessage\r\n$29\r\n{channel}\r\n$5\r\nprobe\r\n");
    format!("{hello}>3\r\n$9\r\nsubscribe\r\n$29\r\n{channel}\r\n:1\r\n{probe}:1\r\n")
}

#[test]
fn an_end_that_arrives_with_the_last_message_is_reported_at_once() {
    let address = serve(|mut stream| {
        let channel = read_greeting(&mut stream);
        let last = ">3\r\n$7\r\nmessage\r\n$9\r\nwsloop:/a\r\n$1\r\nx\r\n";
        let all = welcome(&channel) + last;
        stream.write_all(all.as_bytes()).unwrap();
    });
    for _ in 0..20 {
        let mut driver = Driver::new(format!("redis://{address}").parse().unwrap());
        let is_end = |event: &Event| matches!(event, Event::Disconnected { .. });
        let events = driver.until(SECOND, is_end);
        let message = Event::Message("/a".into(), b"x".into());
        assert_eq!(events[..2], [Event::Connected, message]);
    }
}

#[test]
fn a_message_of_64_mb_is_skipped_in_many_turns() {
    const BYTES: usize = 64 << 20;
    let address = serve(|mut stream| {
        let channel = read_greeting(&mut stream);
        let begin = format!(">3\r\n$7\r\nmessage\r\n$9\r\nwsloop:/a\r\n${BYTES}\r\n");
        let begin = welcome(&channel) + &begin;
        let _ = stream.write_all(begin.as_bytes());
        let zeros = vec![0; 1 << 20];
        for _ in 0..BYTES >> 20 {
            let _ = stream.write_all(&zeros);
        }
        let next = "\r\n>3\r\n$7\r\nmessage\r\n$9\r\nwsloop:/a\r\n$1\r\nx\r\n";
        let _ = stream.write_all(next.as_bytes());
        let _ = stream.read(&mut [0]);
    });
    let mut driver = Driver::new(format!("redis://{address}").parse().unwrap());
    let message = Event::Message("/a".into(), b"x".into());
    let events = driver.until(60 * SECOND, |event| *event == message);
    let too_long = Event::TooLong("/a".into(), BYTES as u64);
    assert_eq!(events, [Event::Connected, too_long, message]);
    assert!(driver.turns > BYTES / (4 * 64 * 1024), "{}", driver.turns);
}
