//! `wsloop connect` as a process with a script for stdin, against the server of the same binary and against servers
//! that misbehave: what it prints, what it says on stderr, and its exit code.

#![cfg(feature = "connect")]

mod common;

use common::process::{Process, WSLOOP, output};
use common::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A client whose stdin is open until it is dropped.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Talk {
    fn start(addr: SocketAddr, path: &str, args: &[&str]) -> Self {
        let mut child = command(addr, path, args).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes.as_ref()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.unwrap().success());
    }

    /// What it still prints, what it said on stderr, and its exit code. stdin stays open.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, out, err)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(addr: SocketAddr, path: &str, args: &[&str]) -> Command {
    let mut command = Command::new(WSLOOP);
    command
        .arg("connect")
        .args(args)
        .arg(format!("ws://{addr}{path}"))
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Says all of `input` and then nothing more.
fn run(addr: SocketAddr, path: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(addr, path, args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // The client may have heard enough.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// As [`run`], of a run that ends well: what it prints.
fn printed(addr: SocketAddr, path: &str, args: &[&str], input: impl AsRef<[u8]>) -> Vec<u8> {
    let output = run(addr, path, args, input.as_ref());
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*err), (Some(0), ""), "{args:?}");
    output.stdout
}

/// As [`run`], of a run that fails: what it prints, and what it says about it.
fn failed(addr: SocketAddr, path: &str, args: &[&str], input: &[u8]) -> (String, String) {
    let output = run(addr, path, args, input);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    let err = err.strip_prefix("wsloop: ").expect(&err).to_owned();
    (String::from_utf8(output.stdout).unwrap(), err)
}

/// A server of one client, which does what `act` does with the stream after the opening handshake.
fn open_server(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    bare_server(|mut stream| {
        let request = head(&mut stream);
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .expect(&request);
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        act(stream);
    })
}

/// The same before the opening handshake.
fn bare_server(act: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        act(stream);
    });
    addr
}

/// A request's head; its names in lower case.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    };
    head.lines().map(lower).collect()
}

/// The first byte, the masking key and the payload of a client's next frame.
fn client_frame(stream: &mut TcpStream) -> (u8, [u8; 4], Vec<u8>) {
    let mut start = [0; 2];
    stream.read_exact(&mut start).unwrap();
    assert!(start[1] & 0x80 != 0, "a client's frame is masked");
    let mut len = usize::from(start[1] & 0x7F);
    if len == 126 {
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes).unwrap();
        len = usize::from(u16::from_be_bytes(bytes));
    }
    let mut key = [0; 4];
    stream.read_exact(&mut key).unwrap();
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).unwrap();
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    (start[0], key, payload)
}

/// An unmasked frame of at most 125 bytes.
fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// Reads what the client sends until it is gone.
fn drain(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

mod talking {
    use super::*;

    #[test]
    fn lines_are_answered_before_the_end() {
        let server = Process::start(&["serve"]);
        assert_eq!(printed(server.addr, "/echo", &[], "hi\n"), b"hi\n");
        assert_eq!(printed(server.addr, "/echo", &[], ""), b"");
        let crlf = "a\r\nb\n\nlast without an end";
        let lines = b"a\nb\n\nlast without an end\n";
        assert_eq!(printed(server.addr, "/echo", &[], crlf), lines);
        assert_eq!(printed(server.addr, "/broadcast", &[], "hi\n"), b"hi\n");
    }

    #[test]
    fn the_answer_to_a_line_comes_while_stdin_is_open() {
        let server = Process::start(&["echo"]);
        let mut talk = Talk::start(server.addr, "/", &[]);
        for line in ["first\n", "second\n"] {
            talk.write(line);
            assert_eq!(talk.line(), line);
        }
        talk.stdin = None;
        assert_eq!(talk.end(), (Some(0), String::new(), String::new()));
    }

    #[test]
    fn what_others_say_in_a_room_is_printed() {
        let server = Process::start(&["broadcast"]);
        let mut talk = Talk::start(server.addr, "/room", &["-n"]);
        talk.write("here\n");
        assert_eq!(talk.line(), "here\n");
        let other = printed(server.addr, "/room", &["-x", "and me"], "");
        assert_eq!(other, b"and me\n");
        assert_eq!(talk.line(), "and me\n");
    }

    #[test]
    fn much_more_than_all_buffers_hold_comes_back_whole() {
        let server = Process::start(&["echo"]);
        let lines: Vec<u8> = (0..400_000)
            .flat_map(|line| format!("line {line} of many\n").into_bytes())
            .collect();
        assert!(printed(server.addr, "/", &[], &lines) == lines);
    }

    #[test]
    fn a_file_is_stdin_too() {
        let server = Process::start(&["echo"]);
        let file = std::fs::File::open(file!()).unwrap();
        let mut command = command(server.addr, "/", &[]);
        let output = command.stdin(file).output().unwrap();
        assert!(output.stdout == std::fs::read(file!()).unwrap());
        assert_eq!(output.status.code(), Some(0));
    }

    #[test]
    fn a_very_long_line_is_one_message() {
        let server = Process::start(&["echo"]);
        let mut line = vec![b'x'; 12 * MIB];
        line.push(b'\n');
        assert!(printed(server.addr, "/", &[], &line) == line);
        let (out, err) = failed(
            server.addr,
            "/",
            &["--message-bytes-max", "9"],
            b"a\n0123456789\n",
        );
        assert_eq!(out, "a\n");
        assert!(
            err.starts_with("line 2 of stdin is longer than the 9 bytes"),
            "{err}"
        );
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let server = Process::start(&["echo"]);
        let (out, err) = failed(server.addr, "/", &[], b"good\nb\xFFd\nnever\n");
        assert_eq!(out, "good\n");
        assert!(err.starts_with("line 2 of stdin is not UTF-8"), "{err}");
        assert_eq!(err.lines().count(), 1);
    }

    #[test]
    fn binary_is_hexadecimal_or_as_it_is() {
        let server = Process::start(&["echo"]);
        let bytes = b"a\n\x00\xFF\r\n";
        assert_eq!(printed(server.addr, "/", &["--binary"], bytes), bytes);
        assert_eq!(printed(server.addr, "/", &["--binary"], b""), b"");
        let frames = server_frame(BINARY, b"\x00\xFFa");
        let addr = open_server(move |mut stream| {
            stream.write_all(&frames).unwrap();
            stream.write_all(&server_frame(BINARY, b"")).unwrap();
            stream.write_all(&server_frame(CLOSE, b"\x03\xE8")).unwrap();
            drain(stream);
        });
        assert_eq!(printed(addr, "/", &["-n"], ""), b"00ff61\n\n");
    }

    #[test]
    fn ipv6_and_names_are_reached() {
        let server = Process::start(&["echo", "-l", "[::1]:0"]);
        let second = server.out.recv_timeout(WAIT).unwrap();
        let second = second.strip_prefix("listening on ws://").unwrap();
        let second: SocketAddr = second.trim_end_matches('/').parse().unwrap();
        assert!(server.addr.is_ipv6() && second.is_ipv4());
        // A name may stand for ::1, too, where nobody listens on this port.
        let name = format!("localhost:{}/", second.port());
        for url in [format!("ws://{}", server.addr), second.to_string(), name] {
            let (code, out, err) = output(&["connect", "-x", "hi", &url]);
            assert_eq!((code, &*out, &*err), (Some(0), "hi\n", ""), "{url}");
        }
    }
}

mod flags {
    use super::*;

    #[test]
    fn execute_sends_and_ends_with_the_answers() {
        let server = Process::start(&["echo"]);
        let started = Instant::now();
        let out = printed(server.addr, "/", &["-x", "a", "-x", "b c"], "not read\n");
        assert_eq!(out, b"a\nb c\n");
        assert!(started.elapsed() < Duration::from_secs(2));
        let late = open_server(|mut stream| {
            client_frame(&mut stream);
            thread::sleep(SHORT);
            stream.write_all(&server_frame(TEXT, b"late")).unwrap();
            let (first, _, payload) = client_frame(&mut stream);
            assert_eq!((first, &*payload), (CLOSE, &b"\x03\xE8"[..]));
            stream.write_all(&server_frame(CLOSE, &payload)).unwrap();
        });
        assert_eq!(printed(late, "/", &["-x", "a"], ""), b"late\n");
    }

    #[test]
    fn wait_stays_for_its_time() {
        let server = Process::start(&["echo"]);
        for (args, input) in [(&["-x", "a", "-w", "300ms"][..], ""), (&["-w0.3"], "a\n")] {
            let started = Instant::now();
            assert_eq!(printed(server.addr, "/", args, input), b"a\n");
            assert!(started.elapsed() >= Duration::from_millis(300), "{args:?}");
        }
    }

    #[test]
    fn no_close_stays_until_the_server_or_a_signal_ends_it() {
        let server = Process::start(&["echo"]);
        let mut talk = Talk::start(server.addr, "/", &["-n"]);
        talk.write("a\n");
        talk.stdin = None;
        assert_eq!(talk.line(), "a\n");
        thread::sleep(SHORT);
        assert_eq!(talk.child.try_wait().unwrap(), None);
        talk.signal("TERM");
        assert_eq!(talk.end(), (Some(0), String::new(), String::new()));
    }

    #[test]
    fn ping_tells_round_trips_and_missing_ones() {
        let server = Process::start(&["echo"]);
        let args = ["--ping", "50ms", "-w", "300ms"];
        let output = run(server.addr, "/", &args, b"a\n");
        assert_eq!(
            (output.status.code(), &*output.stdout),
            (Some(0), &b"a\n"[..])
        );
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.lines().count() >= 2, "{err}");
        for line in err.lines() {
            let time = line.strip_prefix("pong after ").unwrap();
            let time: f64 = time.strip_suffix(" ms").unwrap().parse().unwrap();
            assert!(time > 0.0, "{err}");
        }
        let silent = open_server(|mut stream| {
            while client_frame(&mut stream).0 != CLOSE {}
            stream.write_all(&server_frame(CLOSE, b"\x03\xE8")).unwrap();
        });
        let output = run(silent, "/", &args, b"");
        assert_eq!(output.status.code(), Some(0));
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.starts_with("no pong for 0."), "{err}");
    }

    #[test]
    fn headers_subprotocols_and_origin_are_sent() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = bare_server(move |mut stream| {
            sender.send(head(&mut stream)).unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        let args = [
            "-H",
            "X-A: b",
            "-s",
            "chat",
            "-s",
            "talk",
            "-o",
            "https://a",
        ];
        let (_, err) = failed(addr, "/path?q", &args, b"");
        assert_eq!(err, "the server answered 400 Bad Request instead of 101\n");
        let head = receiver.recv_timeout(WAIT).unwrap();
        assert!(head.starts_with("GET /path?q HTTP/1.1\n"), "{head}");
        for line in [
            "\nx-a: b\n",
            "\norigin: https://a\n",
            "\nsec-websocket-protocol: chat, talk\n",
        ] {
            assert!(head.contains(line), "{line:?}: {head}");
        }
    }

    #[test]
    fn every_frame_has_another_masking_key() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |mut stream| {
            loop {
                let (first, key, payload) = client_frame(&mut stream);
                sender.send(key).unwrap();
                if first == CLOSE {
                    break stream.write_all(&server_frame(CLOSE, &payload)).unwrap();
                }
            }
        });
        printed(addr, "/", &[], "a\n".repeat(50));
        let mut keys: Vec<_> = receiver.iter().collect();
        assert_eq!(keys.len(), 51);
        keys.sort_unstable();
        keys.dedup();
        assert!(keys.len() >= 50, "{keys:?}");
    }
}

mod ends {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_status_and_body() {
        let server = Process::start(&["serve", "-r", "/chat=echo"]);
        let (out, err) = failed(server.addr, "/other", &[], b"hi\n");
        let first = "the server answered 404 Not Found instead of 101\n";
        assert!(out.is_empty() && err.starts_with(first), "{err}");
        assert_eq!(err.lines().count(), 2, "{err}");
        let endless = bare_server(|mut stream| {
            head(&mut stream);
            let answer = b"HTTP/1.1 302 Found\r\nLocation: ws://b/\r\n\r\n\x1b[2Jbody\r\n";
            stream.write_all(answer).unwrap();
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
        });
        let (_, err) = failed(endless, "/", &[], b"");
        let first = "the server answered 302 Found instead of 101; it points to ws://b/\n\
                     \\u{1b}[2Jbody\nxxx";
        assert!(err.starts_with(first), "{err}");
        assert!(
            err.ends_with("xxx\n(and more)\n") && err.len() < 5000,
            "{err}"
        );
    }

    #[test]
    fn what_is_no_websocket_server_is_told_in_one_line() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = taken.local_addr().unwrap();
        drop(taken);
        let (_, err) = failed(nobody, "/", &[], b"");
        assert!(
            err.starts_with(&format!("cannot connect to {nobody}: ")),
            "{err}"
        );
        let ends = bare_server(drop);
        let (_, err) = failed(ends, "/", &[], b"");
        assert!(
            err.contains("the server ended the stream") || err.contains("no answer"),
            "{err}"
        );
        let garbage = bare_server(|mut stream| {
            head(&mut stream);
            stream.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
        });
        let (_, err) = failed(garbage, "/", &[], b"");
        assert_eq!(err.lines().count(), 1, "{err}");
    }

    #[test]
    fn a_server_that_does_not_answer_the_request_is_given_up() {
        let silent = bare_server(drain);
        let (_, err) = failed(silent, "/", &["--connect-timeout", "200ms"], b"hi\n");
        assert_eq!(err, format!("no answer from {silent} in 0.2 s\n"));
    }

    #[test]
    fn a_server_that_does_not_answer_the_close_is_given_up() {
        for pings in [false, true] {
            let addr = open_server(move |mut stream| {
                let other = stream.try_clone().unwrap();
                thread::spawn(|| drain(other));
                while pings && stream.write_all(&server_frame(PING, b"")).is_ok() {
                    thread::sleep(Duration::from_millis(10));
                }
                if !pings {
                    thread::sleep(WAIT);
                }
            });
            let (_, err) = failed(addr, "/", &["--close-timeout", "300ms"], b"hi\n");
            assert_eq!(err, "the server did not answer our Close in 0.3 s\n");
        }
    }

    #[test]
    fn the_servers_close_is_answered_and_told_unless_it_is_1000() {
        let table: [(&[u8], Option<&str>); 4] = [
            (b"\x03\xE8bye", None),
            (b"", None),
            (b"\x03\xE9", Some("the server closed with code 1001\n")),
            (
                b"\x0F\xA1a\x1b\nb",
                Some("the server closed with code 4001: a\\u{1b}\\nb\n"),
            ),
        ];
        for (payload, expected) in table {
            let addr = open_server(move |mut stream| {
                stream.write_all(&server_frame(TEXT, b"first")).unwrap();
                stream.write_all(&server_frame(CLOSE, payload)).unwrap();
                let (first, _, answer) = client_frame(&mut stream);
                assert_eq!((first, &*answer), (CLOSE, payload));
            });
            let mut talk = Talk::start(addr, "/", &[]);
            assert_eq!(talk.line(), "first\n");
            let (code, _, err) = talk.end();
            let expected = expected.map(|line| (1, format!("wsloop: {line}")));
            let (expected_code, expected) = expected.unwrap_or_default();
            assert_eq!((code, err), (Some(expected_code), expected));
        }
    }

    #[test]
    fn a_stream_that_ends_without_a_close_is_told() {
        let addr = open_server(|mut stream| {
            stream.write_all(&server_frame(TEXT, b"last")).unwrap();
        });
        let mut talk = Talk::start(addr, "/", &[]);
        assert_eq!(talk.line(), "last\n");
        let (code, _, err) = talk.end();
        assert_eq!(code, Some(1));
        assert_eq!(err, "wsloop: the server ended the stream without a Close\n");
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_told_and_closed_with_1002() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |mut stream| {
            stream.write_all(b"\xF1\x00").unwrap();
            sender.send(client_frame(&mut stream)).unwrap();
        });
        let (_, err) = failed(addr, "/", &["-n"], b"");
        assert_eq!(
            err,
            "the server broke the protocol: reserved bits are set\n"
        );
        let (first, _, payload) = receiver.recv_timeout(WAIT).unwrap();
        assert_eq!((first, &payload[..2]), (CLOSE, &b"\x03\xEA"[..]));
    }

    #[test]
    fn a_message_over_the_limit_is_told() {
        let server = Process::start(&["serve", "-r", "/*=reply:0123456789"]);
        let (_, err) = failed(server.addr, "/", &["--message-bytes-max", "9"], b"a\n");
        let start = "the server sent a message of more than the 9 bytes";
        assert!(err.starts_with(start), "{err}");
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let server = Process::start(&["echo"]);
        let args = ["--message-bytes-max", "3", "-x", "hello"];
        let (out, err) = failed(server.addr, "/", &args, b"");
        assert_eq!(out, "");
        let start = "a message to send has 5 bytes, more than the 3";
        assert!(err.starts_with(start), "{err}");
    }

    /// A reader's finding: the end was a clean one, though most of stdin and our Close had never left.
    #[test]
    fn a_server_that_closes_and_takes_nothing_leaves_messages_unsent() {
        let addr = open_server(|mut stream| {
            // Until nothing more fits on the way. It stays, and reads nothing.
            thread::sleep(Duration::from_secs(1));
            stream.write_all(&server_frame(0x88, &[3, 0xE8])).unwrap();
            thread::sleep(Duration::from_secs(4));
        });
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let args = ["--close-timeout", "1"];
        let mut talk = Talk::start(addr, "/", &args);
        let mut stdin = talk.stdin.take().unwrap();
        let writing = thread::spawn(move || {
            // Until it has gone away.
            for _ in 0..40_000 {
                if stdin.write_all(&line).is_err() {
                    break;
                }
            }
        });
        let (code, _, err) = talk.end();
        writing.join().unwrap();
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("did not take all"), "{err}");
    }

    #[test]
    fn ctrl_c_closes_with_1000_and_a_second_one_ends_at_once() {
        let echo = Process::start(&["echo"]);
        let mut talk = Talk::start(echo.addr, "/", &[]);
        talk.write("a\n");
        assert_eq!(talk.line(), "a\n");
        talk.signal("INT");
        assert_eq!(talk.end(), (Some(0), String::new(), String::new()));
        assert!(echo.logged("disconnected").contains("1000"));

        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |mut stream| {
            stream.write_all(&server_frame(TEXT, b"open")).unwrap();
            sender.send(client_frame(&mut stream)).unwrap();
            drain(stream);
        });
        let mut talk = Talk::start(addr, "/", &["--close-timeout", "1h"]);
        assert_eq!(talk.line(), "open\n");
        talk.signal("INT");
        let (first, _, payload) = receiver.recv_timeout(WAIT).unwrap();
        assert_eq!((first, &*payload), (CLOSE, &b"\x03\xE8"[..]));
        talk.signal("INT");
        let (code, _, err) = talk.end();
        assert_eq!(code, Some(1));
        assert_eq!(
            err,
            "wsloop: interrupted before the server answered our Close\n"
        );
    }

    #[test]
    fn a_server_that_goes_away_says_so() {
        let mut echo = Process::start(&["echo"]);
        let mut talk = Talk::start(echo.addr, "/", &[]);
        talk.write("a\n");
        assert_eq!(talk.line(), "a\n");
        echo.signal("TERM");
        let (code, _, err) = talk.end();
        assert_eq!(code, Some(1));
        assert!(
            err.starts_with("wsloop: the server closed with code 1001"),
            "{err}"
        );
        assert_eq!(echo.code(), Some(0));
    }
}

mod pressure {
    use super::*;

    #[test]
    fn while_nobody_reads_stdout_the_server_is_not_read_and_signals_are_heard() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |stream| {
            let frame = [&b"\x81\x7E\x27\x10"[..], &[b'x'; 10_000]].concat();
            let (frames, _) = write_until_blocked(&stream, |_| frame.clone());
            sender.send(frames * frame.len()).unwrap();
            drain(stream);
        });
        let talk = Talk::start(addr, "/", &["-n"]);
        let bytes = receiver.recv_timeout(WAIT).unwrap();
        assert!(bytes < 20 * MIB, "{bytes}");
        talk.signal("INT");
        thread::sleep(SHORT);
        talk.signal("INT");
        let mut talk = talk;
        let mut code = None;
        eventually(|| {
            code = talk.child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(1));
    }

    #[test]
    fn a_server_that_does_not_read_does_not_fill_the_memory() {
        let addr = open_server(|stream| {
            thread::sleep(WAIT);
            drop(stream);
        });
        let mut talk = Talk::start(addr, "/", &[]);
        let stdin = talk.stdin.take().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut stdin = stdin;
            while stdin.write_all(&[b'x'; 999]).is_ok() && stdin.write_all(b"\n").is_ok() {
                if sender.send(1000).is_err() {
                    break;
                }
            }
        });
        let mut taken = 0;
        while let Ok(bytes) = receiver.recv_timeout(SHORT) {
            taken += bytes;
            assert!(taken < 20 * MIB, "stdin is read without end");
        }
        assert!(taken > MIB / 4, "{taken}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let server = Process::start(&["echo"]);
        let mut talk = Talk::start(server.addr, "/", &[]);
        talk.write("a\n");
        assert_eq!(talk.line(), "a\n");
        let stdin = talk.stdin.take();
        let mut child = std::mem::replace(&mut talk.child, Command::new("true").spawn().unwrap());
        drop(talk);
        let mut stdin = stdin.unwrap();
        stdin.write_all(b"b\n").unwrap();
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!((child.wait().unwrap().code(), &*err), (Some(0), ""));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_a_failure() {
        let server = Process::start(&["echo"]);
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = command(server.addr, "/", &["-x", "a"]);
        let output = command.stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.starts_with("wsloop: cannot write to stdout: "), "{err}");
    }
}

/// With util-linux' `script`, which gives a program a terminal.
#[cfg(target_os = "linux")]
mod terminal {
    use super::*;

    fn screen(env: &str, args: &str, addr: SocketAddr) -> Option<String> {
        let line = format!("env {env} {WSLOOP} connect {args} ws://{addr}/");
        let mut script = Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm");
        script.env_remove("NO_COLOR");
        script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let Ok(mut child) = script.spawn() else {
            eprintln!("not tested: there is no script");
            return None;
        };
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut all = Vec::new();
        let mut until = |all: &mut Vec<u8>, part: &str| {
            let mut byte = [0];
            while !String::from_utf8_lossy(all).ends_with(part) {
                if stdout.read(&mut byte).unwrap() == 0 {
                    break;
                }
                all.push(byte[0]);
            }
        };
        until(&mut all, "> ");
        stdin.write_all(b"hello\x1bx\n").unwrap();
        until(&mut all, "< hello\\u{1b}x");
        until(&mut all, "> ");
        stdin.write_all(b"\x04").unwrap();
        until(&mut all, "never");
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        Some(String::from_utf8(all).unwrap())
    }

    #[test]
    fn people_get_a_prompt_and_colours() {
        let server = Process::start(&["echo"]);
        let Some(all) = screen("A=b", "", server.addr) else {
            return;
        };
        for part in [
            "\x1b[32mconnected to ws://",
            "> ",
            "\r\x1b[K\x1b[36m< hello\\u{1b}x\x1b[39m\r\n> ",
            "disconnected (code 1000)",
        ] {
            assert!(all.contains(part), "{part:?}: {all:?}");
        }
        let plain = screen("NO_COLOR=1", "", server.addr).unwrap();
        assert!(plain.contains("\r\x1b[K< hello\\u{1b}x\r\n> "), "{plain:?}");
        assert!(!plain.contains("\x1b[3"), "{plain:?}");
    }
}
