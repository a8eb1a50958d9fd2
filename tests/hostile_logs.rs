//! Tests of the log at its default level, with hostile peers: a refusal is one line with the peer and the violated
//! rule; text from a peer is escaped and cut; and lines about many refusals are suppressed and counted.

#![cfg(feature = "serve")]

mod common;
mod hostile_common;

use common::*;
use hostile_common::*;
use std::time::{Duration, Instant};

/// Stops the server and returns the lines of its log that contain `peer`. Checks that no line contains unescaped
/// special characters or is too long.
fn lines_of(server: Wsloop, peer: &str) -> Vec<String> {
    server.terminate();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log:?}");
    for line in &log {
        assert!(line.chars().all(is_harmless), "{line:?}");
        // The peer's text is cut to 64 bytes, of which each can become 6 bytes when it is escaped (7 in JSON). The
        // rest is the server's own text.
        assert!(line.len() <= 700, "{} bytes: {line:?}", line.len());
    }
    log.into_iter().filter(|line| line.contains(peer)).collect()
}

/// Returns whether the character is visible in a terminal: neither a control character nor a hidden one.
fn is_harmless(char: char) -> bool {
    let is_hidden = matches!(
        char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}'
    );
    !char.is_control() && !is_hidden
}

#[test]
fn a_refusal_is_one_line_with_the_peer_and_the_rule() {
    let with = |line: &str| upgrade_request("/").replace("Host:", &format!("{line}\r\nHost:"));
    let long = "x".repeat(20 * KIB);
    let table = [
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), "only HTTP/1.1"),
        ("POST / HTTP/1.1\r\n\r\n".to_owned(), "only GET and HEAD"),
        (
            "GET /\x1b[2J\x1b[1;31mroot HTTP/1.1\r\n".to_owned(),
            "control character",
        ),
        (
            "GET /\n2026-01-01 ERROR all is lost\n HTTP/1.1\r\n".to_owned(),
            "LF",
        ),
        (with("X: \x1b]0;title\x07"), "control character"),
        (with("Origin: a\r\nOrigin: b"), "Origin"),
        (with("Content-Length: 5"), "body"),
        (with("Sec-WebSocket-Extensions: \u{202e};;"), "Extensions"),
        (with(&format!("X: {long}")), "too many bytes"),
        (format!("GET /{long} HTTP/1.1\r\n"), "too many bytes"),
        ("\x16\x03\x01".to_owned(), "is TLS"),
        ("\x01\x03\x01".to_owned(), "not HTTP"),
        (
            upgrade_request("/").replace("13", "8"),
            "Sec-WebSocket-Version",
        ),
    ];
    for (request, rule) in &table {
        let server = Wsloop::start(&["serve"]);
        let mut raw = Raw::new(server.addr);
        let peer = raw.0.local_addr().unwrap().to_string();
        raw.send(request);
        raw.response();
        drop(raw);
        let lines = lines_of(server, &peer);
        assert_eq!(lines.len(), 1, "{request:.100?}: {lines:?}");
        assert!(lines[0].contains(rule), "{rule}: {}", lines[0]);
    }
}

#[test]
fn a_violation_is_one_line_with_the_peer_and_the_rule() {
    let table = [
        (vec![0xC1, 0x80], "reserved bits"),
        (vec![TEXT, 0], "not masked"),
        (frame(TEXT, b"\x1b[31m\xff"), "UTF-8"),
        (frame(CLOSE, b"\x03\xe8\x1b[31m\xff"), "UTF-8"),
        (close_frame(1005, "\x1b[31m\n2026-01-01 ERROR"), "1005"),
        (frame_header(TEXT, 1 << 40), "too big"),
    ];
    for (bytes, rule) in &table {
        let server = Wsloop::start(&["serve"]);
        let mut raw = Raw::open(server.addr, "/echo");
        let peer = raw.0.local_addr().unwrap().to_string();
        raw.send(bytes);
        raw.close_frame();
        raw.expect_end();
        drop(raw);
        let lines = lines_of(server, &peer);
        // The other line is the one about the new session.
        let violations: Vec<_> = lines
            .iter()
            .filter(|line| !line.contains(" connected"))
            .collect();
        assert_eq!((lines.len(), violations.len()), (2, 1), "{lines:?}");
        assert!(violations[0].contains(rule), "{rule}: {}", violations[0]);
    }
}

#[test]
fn paths_and_reasons_are_escaped_and_cut() {
    for reason in hostile_reasons() {
        let server = Wsloop::start(&["serve", "-r", "/*=echo"]);
        let lines = lines_of_a_session(server, &reason);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("code 4000"), "{}", lines[1]);
    }
}

/// Returns reasons of at most 123 bytes with control characters, characters that change the direction of text, and
/// invisible characters.
fn hostile_reasons() -> Vec<String> {
    let all: Vec<char> = ('\0'..=char::MAX)
        .filter(|&char| !is_harmless(char))
        .collect();
    let mut reasons: Vec<String> = all.chunks(15).map(String::from_iter).collect();
    reasons.truncate(9);
    reasons.extend([
        "\x1b[2J\r\n[2026-01-01T00:00:00Z ERROR] forged".to_owned(),
        "\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}".repeat(8),
        "\u{fc}".repeat(61),
        "\"\\\n".repeat(20),
    ]);
    reasons
}

/// Runs a session on a long path that ends with code 4000 and `reason`. Returns the lines of the log about it.
fn lines_of_a_session(server: Wsloop, reason: &str) -> Vec<String> {
    let mut raw = Raw::open(server.addr, &long_path());
    let peer = raw.0.local_addr().unwrap().to_string();
    raw.send(close_frame(4000, reason));
    assert_eq!(raw.close_frame(), (4000, reason.to_owned()));
    raw.expect_end();
    drop(raw);
    lines_of(server, &peer)
}

fn long_path() -> String {
    format!("/%1b[31m{}", "p".repeat(15 * KIB))
}

/// Regression: fields contained all 16 KB of a path, and unescaped C1 control characters and U+202E of a reason.
#[test]
fn paths_and_reasons_are_escaped_and_cut_in_json_too() {
    for reason in hostile_reasons() {
        let server = Wsloop::start(&["echo", "--log-format", "json"]);
        let lines = lines_of_a_session(server, &reason);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in lines {
            let object: serde_json::Value = serde_json::from_str(&line).expect(&line);
            for (key, value) in object.as_object().unwrap() {
                // Checks the decoded values, because other programs print them to terminals.
                let text = value.as_str().unwrap_or_default();
                assert!(text.chars().all(is_harmless), "{key}: {text:?}");
                assert!(text.len() <= 400, "{key}: {text:?}");
            }
            let path = object["path"].as_str().unwrap();
            assert!(path.starts_with("/%1b[31mppp") && path.ends_with("ppp.."));
            assert_eq!(path.len(), 64 + "..".len());
        }
    }
}

#[test]
fn a_field_without_special_characters_is_logged_as_the_peer_sent_it() {
    let server = Wsloop::start(&["echo", "--log-format", "json"]);
    let reason = "gr\u{fc}\u{df} 'dich' \"\u{e2a}\u{1f600}\"";
    let mut raw = Raw::open(server.addr, "/a\"b'c");
    raw.send(close_frame(4000, reason));
    raw.close_frame();
    raw.expect_end();
    let line = server.logged("\"code\":4000");
    let object: serde_json::Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(object["path"], "/a\"b'c");
    assert_eq!(object["reason"], reason);
    server.expect_clean_exit();
}

/// Regression: a flood of long paths and reasons caused 43 MB of log in a second.
#[test]
fn a_flood_of_long_paths_and_reasons_logs_no_more_than_200_kb_a_second() {
    let (path, reason) = (long_path(), "\x01".repeat(123));
    for format in ["text", "json"] {
        let server = Wsloop::start(&["echo", "--log-format", format]);
        let start = Instant::now();
        let mut sessions = 0;
        while start.elapsed() < Duration::from_secs(2) {
            let mut raws: Vec<Raw> = (0..50).map(|_| Raw::open(server.addr, &path)).collect();
            for raw in &mut raws {
                raw.send(close_frame(4000, &reason));
                assert_eq!(raw.close_frame().0, 4000);
            }
            sessions += raws.len();
        }
        // The limit applies to each second of the session log. The first of these seconds begins with the first line,
        // each later one with the first line after the end of the second before. So N seconds and a fraction can have
        // lines in N + 1 of them, and the lines about the last sessions can be in one more.
        let seconds = start.elapsed().as_secs() as usize + 2;
        server.terminate();
        let (_, log) = server.end();
        let bytes: usize = log.iter().map(|line| line.len() + 1).sum();
        println!(
            "{format}: {sessions} sessions, {} lines, {bytes} bytes",
            log.len()
        );
        assert!(
            sessions > 500,
            "{sessions} sessions are too few for this test"
        );
        assert!(bytes <= 200_000 * seconds, "{bytes} bytes in {seconds} s");
        assert!(bytes >= 100_000, "only {bytes} bytes are logged");
    }
}

#[test]
fn connections_without_a_request_are_not_logged() {
    // `--no-page`, because the line about the page at the start contains the same address as the peers' lines.
    let server = Wsloop::start(&["serve", "--no-page"]);
    for _ in 0..50 {
        // Like the connections of a port scan or of a load balancer's health check.
        drop(Raw::new(server.addr));
        http(
            server.addr,
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
    }
    let lines = lines_of(server, "127.0.0.1");
    assert!(lines.is_empty(), "{lines:?}");
}

/// Runs an attack 2 000 times and checks the log:
/// - In each second at most 100 lines contain `rule`, and at most 1 000 further lines are about connects and
///   disconnects.
/// - The logged and the suppressed lines with `rule` together are 2 000.
fn check_flood(args: &[&str], rule: &str, attack: impl Fn(&Wsloop)) {
    const COUNT: usize = 2000;
    const FAULTS_PER_SECOND: usize = 100;
    const CONNECTIONS_PER_SECOND: usize = 1000;
    let server = Wsloop::start(args);
    let lines_before = server.log().len();
    let start = Instant::now();
    for _ in 0..COUNT {
        attack(&server);
    }
    // The limit applies to each second of the session log. The first of these seconds begins with the first line, each
    // later one with the first line after the end of the second before. So N seconds and a fraction can have lines in
    // N + 1 of them. The assertions below allow one more, for lines that are logged during the wait.
    let seconds = start.elapsed().as_secs() as usize + 1;
    within(
        Duration::from_secs(4),
        || logged_count(&server.log(), rule) + suppressed_count(&server.log()) >= COUNT,
        || {
            let log = server.log();
            format!(
                "{} logged, {} suppressed",
                logged_count(&log, rule),
                suppressed_count(&log)
            )
        },
    );
    let lines = server.log().len() - lines_before;
    server.terminate();
    let (code, log) = server.end();
    assert_eq!(code, Some(0));
    let (logged, suppressed) = (logged_count(&log, rule), suppressed_count(&log));
    let counts = format!("{lines} lines in {seconds} s: {logged} logged, {suppressed} suppressed");
    println!("{rule}: {counts}");
    assert_eq!(logged + suppressed, COUNT, "{counts}");
    assert!(logged > 0 && suppressed > 0, "{counts}");
    assert!(logged <= FAULTS_PER_SECOND * (seconds + 1), "{counts}");
    let lines_max = (FAULTS_PER_SECOND + CONNECTIONS_PER_SECOND) * (seconds + 1);
    assert!(lines <= lines_max, "{counts}");
}

/// Returns the number of lines that contain `rule`.
fn logged_count(log: &[String], rule: &str) -> usize {
    log.iter().filter(|line| line.contains(rule)).count()
}

/// Returns the number of suppressed lines, summed over the reports of them in the log.
fn suppressed_count(log: &[String]) -> usize {
    let count = |line: &String| {
        let (_, text) = line.split_once("] suppressed ")?;
        let (count, _) = text.split_once(" lines about refused clients and protocol violations")?;
        count.parse::<usize>().ok()
    };
    log.iter().filter_map(count).sum()
}

#[test]
fn lines_about_a_flood_of_refusals_are_suppressed_and_counted() {
    check_flood(&["serve"], "only HTTP/1.1", |server| {
        assert_eq!(http(server.addr, "GET / HTTP/2.0\r\n\r\n").status, 505);
    });
}

#[test]
fn lines_about_a_flood_of_violations_are_suppressed_and_counted() {
    check_flood(&["serve"], "reserved bits", |server| {
        let mut raw = Raw::open(server.addr, "/echo");
        raw.send([0xFF, 0xFF]);
        assert_eq!(raw.close_frame().0, 1002);
        raw.expect_end();
    });
}

#[test]
fn lines_about_a_flood_above_connections_max_are_suppressed_and_counted() {
    let args = ["serve", "--connections-max", "1"];
    let held = std::cell::RefCell::new(None);
    check_flood(&args, "--connections-max", |server| {
        let mut held = held.borrow_mut();
        held.get_or_insert_with(|| Raw::open(server.addr, "/echo"));
        assert_eq!(http(server.addr, "").status, 503);
    });
}
