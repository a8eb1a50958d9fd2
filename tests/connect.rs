//! Runs `wsloop connect` as a process with scripted input, against the server of the same binary and against servers
//! that misbehave. Checks stdout, stderr and the exit code.

#![cfg(feature = "connect")]

mod common;

use common::process::{Process, WSLOOP, output};
use common::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running client. Its stdin stays open until `stdin` is dropped.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(addr: SocketAddr, path: &str, args: &[&str]) -> Self {
        let mut child = command(addr, path, args).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Writes to stdin.
    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes.as_ref()).unwrap();
    }

    /// Waits for the next line of stdout.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Sends a signal to the client.
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the exit of the client, with stdin open. Returns its exit code, the rest of stdout, and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, out, err)
    }
}

impl Drop for Client {
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

/// Runs a client to its end, with `input` on stdin followed by the end of file.
fn run(addr: SocketAddr, path: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(addr, path, args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // The client may exit before it has read everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Like [`run`], for a client that must succeed. Returns stdout.
fn printed(addr: SocketAddr, path: &str, args: &[&str], input: impl AsRef<[u8]>) -> Vec<u8> {
    let output = run(addr, path, args, input.as_ref());
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*err), (Some(0), ""), "{args:?}");
    output.stdout
}

/// Like [`run`], for a client that must fail. Returns stdout, and stderr without the prefix "wsloop: ".
fn failed(addr: SocketAddr, path: &str, args: &[&str], input: &[u8]) -> (String, String) {
    let output = run(addr, path, args, input);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    let err = err.strip_prefix("wsloop: ").expect(&err).to_owned();
    (String::from_utf8(output.stdout).unwrap(), err)
}

/// Starts a server for one client. It answers the opening handshake and passes the stream to `act`.
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

/// Starts a server for one client. It passes the stream to `act` without an opening handshake.
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

/// Reads the head of a request. Returns it with header names in lower case.
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

/// Reads a frame of the client. Returns its first byte, its masking key and its unmasked payload.
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

/// Returns an unmasked frame. The payload has at most 125 bytes.
fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// Reads and drops the client's bytes until the stream ends.
fn drain(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

mod messages {
    use super::*;

    #[test]
    fn answers_are_printed_before_the_client_ends() {
        let server = Process::start(&["serve"]);
        assert_eq!(printed(server.addr, "/echo", &[], "hi\n"), b"hi\n");
        assert_eq!(printed(server.addr, "/echo", &[], ""), b"");
        let crlf = "a\r\nb\n\nlast without an end";
        let lines = b"a\nb\n\nlast without an end\n";
        assert_eq!(printed(server.addr, "/echo", &[], crlf), lines);
        assert_eq!(printed(server.addr, "/broadcast", &[], "hi\n"), b"hi\n");
    }

    #[test]
    fn an_answer_is_printed_while_stdin_is_open() {
        let server = Process::start(&["echo"]);
        let mut client = Client::start(server.addr, "/", &[]);
        for line in ["first\n", "second\n"] {
            client.write(line);
            assert_eq!(client.line(), line);
        }
        client.stdin = None;
        assert_eq!(client.end(), (Some(0), String::new(), String::new()));
    }

    #[test]
    fn messages_of_other_clients_are_printed() {
        let server = Process::start(&["broadcast"]);
        let mut client = Client::start(server.addr, "/topic", &["-n"]);
        client.write("here\n");
        assert_eq!(client.line(), "here\n");
        let other = printed(server.addr, "/topic", &["-x", "and me"], "");
        assert_eq!(other, b"and me\n");
        assert_eq!(client.line(), "and me\n");
    }

    #[test]
    fn input_larger_than_all_buffers_is_echoed_completely() {
        let server = Process::start(&["echo"]);
        let lines: Vec<u8> = (0..400_000)
            .flat_map(|line| format!("line {line} of many\n").into_bytes())
            .collect();
        assert!(printed(server.addr, "/", &[], &lines) == lines);
    }

    #[test]
    fn stdin_may_be_a_file() {
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
    fn the_number_of_a_line_that_is_not_utf8_is_reported() {
        let server = Process::start(&["echo"]);
        let (out, err) = failed(server.addr, "/", &[], b"good\nb\xFFd\nnever\n");
        assert_eq!(out, "good\n");
        assert!(err.starts_with("line 2 of stdin is not UTF-8"), "{err}");
        assert_eq!(err.lines().count(), 1);
    }

    #[test]
    fn binary_messages_are_printed_in_hexadecimal_or_unchanged() {
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
    fn ipv6_addresses_and_host_names_are_accepted() {
        let server = Process::start(&["echo", "-l", "[::1]:0"]);
        let second = server.out.recv_timeout(WAIT).unwrap();
        let second = second.strip_prefix("listening on ws://").unwrap();
        let second: SocketAddr = second.trim_end_matches('/').parse().unwrap();
        assert!(server.addr.is_ipv6() && second.is_ipv4());
        // localhost may also resolve to ::1, where no server listens on this port.
        let name = format!("localhost:{}/", second.port());
        for url in [format!("ws://{}", server.addr), second.to_string(), name] {
            let (code, out, err) = output(&["connect", "-x", "hi", &url]);
            assert_eq!((code, &*out, &*err), (Some(0), "hi\n", ""), "{url}");
        }
    }

    #[test]
    fn a_port_is_that_of_loopback_and_a_unix_socket_has_a_path_of_its_own() {
        let dir = std::env::temp_dir().join(format!("wsloop-connect-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = format!("unix:{}", dir.join("ws:1.sock").display());
        let mut command = Command::new(WSLOOP);
        command.args(["serve", "-r", "/echo=echo", "-r", "/=reply:root"]);
        command.args(["-l", "127.0.0.1:0", "-l", &socket]);
        let server = Process::announced(command);
        let announced = server.out.recv_timeout(WAIT).unwrap();
        let announced = announced.strip_prefix("listening on ").unwrap();
        let port = server.addr.port();
        for (url, answer) in [
            (port.to_string(), "root"),
            (format!("{port}/echo"), "hi"),
            (format!(":{port}/echo?a=b"), "hi"),
            (socket.clone(), "root"),
            (format!("{socket}:/echo"), "hi"),
            (format!("{announced}:/echo"), "hi"),
        ] {
            let (code, out, err) = output(&["connect", "-x", "hi", &url]);
            assert_eq!(
                (code, out.trim_end(), &*err),
                (Some(0), answer, ""),
                "{url}"
            );
        }
        drop(server);
        let missing = format!("unix:{}:/a", dir.join("none").display());
        let (code, _, err) = output(&["connect", &missing]);
        assert_eq!(code, Some(1), "{err}");
        let start = format!(
            "wsloop: cannot connect to {}: ",
            &missing[..missing.len() - 3]
        );
        assert!(err.starts_with(&start), "{err}");
        let _ = std::fs::remove_dir_all(&dir);
    }

    /// Regression test: the Close followed the last line immediately, and such answers were lost.
    #[test]
    fn answers_that_take_time_are_printed_after_the_end_of_stdin() {
        let addr = open_server(|mut stream| {
            for answer in [&b"1"[..], b"2"] {
                let (first, _, _) = client_frame(&mut stream);
                assert_eq!(first, TEXT);
                thread::sleep(SHORT);
                stream.write_all(&server_frame(TEXT, answer)).unwrap();
            }
            let (first, _, payload) = client_frame(&mut stream);
            assert_eq!(first, CLOSE);
            stream.write_all(&server_frame(CLOSE, &payload)).unwrap();
        });
        assert_eq!(printed(addr, "/", &[], "a\nb\n"), b"1\n2\n");
    }

    #[test]
    fn missing_answers_are_reported_and_are_no_failure() {
        let answer_to = |answered: usize, expected: &str| {
            let addr = open_server(move |mut stream| {
                // A greeting is no answer.
                stream.write_all(&server_frame(TEXT, b"hi")).unwrap();
                let mut frames = 0;
                loop {
                    let (first, _, payload) = client_frame(&mut stream);
                    if first == CLOSE {
                        break stream.write_all(&server_frame(CLOSE, &payload)).unwrap();
                    }
                    frames += 1;
                    if frames <= answered {
                        stream.write_all(&server_frame(TEXT, b"a")).unwrap();
                    }
                }
            });
            let started = Instant::now();
            let mut client = Client::start(addr, "/", &[]);
            assert_eq!(client.line(), "hi\n");
            client.write("1\n2\n3\n");
            client.stdin = None;
            let (code, out, err) = client.end();
            assert!(started.elapsed() >= Duration::from_secs(2));
            assert_eq!((code, out), (Some(0), "a\n".repeat(answered)));
            assert_eq!(err, expected);
        };
        answer_to(0, "no message arrived in 2 s (--wait TIME waits longer)\n");
        answer_to(
            2,
            "no more messages arrived in 2 s: 2 after 3 were sent (--wait TIME waits longer)\n",
        );
    }
}

mod flags {
    use super::*;

    #[test]
    fn execute_sends_messages_and_ends_after_their_answers() {
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
    fn wait_stays_connected_for_the_given_time() {
        let server = Process::start(&["echo"]);
        for (args, input) in [(&["-x", "a", "-w", "300ms"][..], ""), (&["-w0.3"], "a\n")] {
            let started = Instant::now();
            assert_eq!(printed(server.addr, "/", args, input), b"a\n");
            assert!(started.elapsed() >= Duration::from_millis(300), "{args:?}");
        }
    }

    #[test]
    fn no_close_stays_connected_until_a_signal() {
        let server = Process::start(&["echo"]);
        let mut client = Client::start(server.addr, "/", &["-n"]);
        client.write("a\n");
        client.stdin = None;
        assert_eq!(client.line(), "a\n");
        thread::sleep(SHORT);
        assert_eq!(client.child.try_wait().unwrap(), None);
        client.signal("TERM");
        assert_eq!(client.end(), (Some(0), String::new(), String::new()));
    }

    #[test]
    fn ping_prints_round_trips_and_missing_pongs() {
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
    fn the_host_and_credentials_are_sent_and_verbose_shows_both_heads() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = bare_server(move |mut stream| {
            sender.send(head(&mut stream)).unwrap();
            stream
                .write_all(b"HTTP/1.1 401 Nope\r\nX-Odd: yes\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        let url = format!("aladdin:open%20sesame@{addr}");
        let args = ["connect", "-v", "-H", "Host: example.com:1", &url];
        let (code, _, err) = output(&args);
        assert_eq!(code, Some(1), "{err}");
        let head = receiver.recv_timeout(WAIT).unwrap();
        assert!(head.contains("\nhost: example.com:1\n"), "{head}");
        let basic = "\nauthorization: Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==\n";
        assert!(head.contains(basic), "{head}");
        let err = err.to_lowercase();
        for part in [
            &format!("* trying {addr}\n> get / http/1.1\n"),
            "\n> host: example.com:1\n",
            "\n> authorization: basic (hidden)\n",
            "\n>\n< http/1.1 401 nope\n< x-odd: yes\n< content-length: 0\n<\nwsloop: the server",
        ] {
            assert!(err.contains(part), "{part:?}: {err}");
        }
        assert!(!err.contains("sesame") && !err.contains("ywxh"), "{err}");
        let (code, _, err) = output(&["connect", "ws://u:secret/x@127.0.0.1:1/"]);
        assert_eq!(code, Some(2));
        assert!(!err.contains("secret"), "{err}");
    }

    #[test]
    fn an_ignored_subprotocol_is_reported() {
        let addr = open_server(|mut stream| {
            client_frame(&mut stream);
            stream.write_all(&server_frame(TEXT, b"a")).unwrap();
            let (_, _, payload) = client_frame(&mut stream);
            stream.write_all(&server_frame(CLOSE, &payload)).unwrap();
        });
        let output = run(addr, "/", &["-s", "chat"], b"hi\n");
        let err = String::from_utf8(output.stderr).unwrap();
        let expected = (Some(0), "the server chose no subprotocol\n");
        assert_eq!((output.status.code(), &*err), expected);
    }

    #[test]
    fn every_frame_has_a_different_masking_key() {
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
        printed(addr, "/", &["-w0"], "a\n".repeat(50));
        let mut keys: Vec<_> = receiver.iter().collect();
        assert_eq!(keys.len(), 51);
        keys.sort_unstable();
        keys.dedup();
        // Two of 51 random keys may be equal by chance.
        assert!(keys.len() >= 50, "{keys:?}");
    }
}

mod ends {
    use super::*;

    #[test]
    fn the_status_and_body_of_a_refusal_are_printed() {
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
        let first = "the server answered 302 Found instead of 101; Location: ws://b/\n\
                     \\u{1b}[2Jbody\nxxx";
        assert!(err.starts_with(first), "{err}");
        assert!(
            err.ends_with("xxx\n(truncated)\n") && err.len() < 5000,
            "{err}"
        );
    }

    #[test]
    fn a_server_without_websockets_is_reported_in_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let (_, err) = failed(closed, "/", &[], b"");
        assert!(
            err.starts_with(&format!("cannot connect to {closed}: ")),
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
    fn a_name_without_addresses_is_a_failure_and_no_usage_error() {
        let (code, _, err) = output(&["connect", "ws://wsloop.invalid/"]);
        assert_eq!(code, Some(1), "{err}");
        let start = "wsloop: cannot resolve the host name \"wsloop.invalid\": ";
        assert!(err.starts_with(start) && err.lines().count() == 1, "{err}");
    }

    #[test]
    fn an_unanswered_request_times_out() {
        let silent = bare_server(drain);
        let (_, err) = failed(silent, "/", &["--connect-timeout", "200ms"], b"hi\n");
        assert_eq!(err, format!("no answer from {silent} in 0.2 s\n"));
    }

    #[test]
    fn an_unanswered_close_times_out() {
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
            let (_, err) = failed(addr, "/", &["-w0", "--close-timeout", "300ms"], b"hi\n");
            assert_eq!(err, "the server did not answer our Close in 0.3 s\n");
        }
    }

    #[test]
    fn the_servers_close_is_answered_and_is_an_error_unless_its_code_is_1000_or_absent() {
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
            let mut client = Client::start(addr, "/", &[]);
            assert_eq!(client.line(), "first\n");
            let (code, _, err) = client.end();
            let expected = expected.map(|line| (1, format!("wsloop: {line}")));
            let (expected_code, expected) = expected.unwrap_or_default();
            assert_eq!((code, err), (Some(expected_code), expected));
        }
    }

    #[test]
    fn a_stream_that_ends_without_a_close_is_an_error() {
        let addr = open_server(|mut stream| {
            stream.write_all(&server_frame(TEXT, b"last")).unwrap();
        });
        let mut client = Client::start(addr, "/", &[]);
        assert_eq!(client.line(), "last\n");
        let (code, _, err) = client.end();
        assert_eq!(code, Some(1));
        assert_eq!(err, "wsloop: the server ended the stream without a Close\n");
    }

    #[test]
    fn a_violation_of_the_protocol_is_reported_and_closed_with_1002() {
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
    fn a_received_message_above_the_limit_is_an_error() {
        let server = Process::start(&["serve", "-r", "/*=reply:0123456789"]);
        let (_, err) = failed(server.addr, "/", &["--message-bytes-max", "9"], b"a\n");
        let start = "the server sent a message of more than the 9 bytes";
        assert!(err.starts_with(start), "{err}");
    }

    #[test]
    fn a_message_above_the_limit_is_not_sent() {
        let server = Process::start(&["echo"]);
        let args = ["--message-bytes-max", "3", "-x", "hello"];
        let (out, err) = failed(server.addr, "/", &args, b"");
        assert_eq!(out, "");
        let start = "a message of --execute has 5 bytes, more than the 3";
        assert!(err.starts_with(start), "{err}");
    }

    /// Regression test: the exit code was 0 although most of stdin and the client's Close were unsent.
    #[test]
    fn a_server_that_closes_without_reading_all_messages_is_an_error() {
        let addr = open_server(|mut stream| {
            // During this second the client's messages fill the socket buffers, because the server never reads.
            thread::sleep(Duration::from_secs(1));
            stream.write_all(&server_frame(0x88, &[3, 0xE8])).unwrap();
            thread::sleep(Duration::from_secs(4));
        });
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let args = ["--close-timeout", "1"];
        let mut client = Client::start(addr, "/", &args);
        let mut stdin = client.stdin.take().unwrap();
        let writing = thread::spawn(move || {
            // More than all buffers hold: the write fails when the client has exited.
            for _ in 0..40_000 {
                if stdin.write_all(&line).is_err() {
                    break;
                }
            }
        });
        let (code, _, err) = client.end();
        writing.join().unwrap();
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("without reading all queued messages"), "{err}");
    }

    #[test]
    fn ctrl_c_closes_with_1000_and_a_second_one_exits_immediately() {
        let echo = Process::start(&["echo"]);
        let mut client = Client::start(echo.addr, "/", &[]);
        client.write("a\n");
        assert_eq!(client.line(), "a\n");
        client.signal("INT");
        assert_eq!(client.end(), (Some(0), String::new(), String::new()));
        assert!(echo.logged("disconnected").contains("1000"));

        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |mut stream| {
            stream.write_all(&server_frame(TEXT, b"open")).unwrap();
            sender.send(client_frame(&mut stream)).unwrap();
            drain(stream);
        });
        let mut client = Client::start(addr, "/", &["--close-timeout", "1h"]);
        assert_eq!(client.line(), "open\n");
        client.signal("INT");
        let (first, _, payload) = receiver.recv_timeout(WAIT).unwrap();
        assert_eq!((first, &*payload), (CLOSE, &b"\x03\xE8"[..]));
        client.signal("INT");
        let (code, _, err) = client.end();
        assert_eq!(code, Some(1));
        assert_eq!(
            err,
            "wsloop: interrupted before the server answered our Close\n"
        );
    }

    #[test]
    fn two_signals_that_arrive_together_end_at_once() {
        let addr = open_server(|mut stream| {
            stream.write_all(&server_frame(TEXT, b"open")).unwrap();
            drain(stream);
        });
        let mut client = Client::start(addr, "/", &["--close-timeout", "1h"]);
        assert_eq!(client.line(), "open\n");
        for name in ["STOP", "TERM", "INT", "CONT"] {
            client.signal(name);
        }
        assert_eq!(client.end().0, Some(1));
    }

    #[test]
    fn the_shutdown_of_a_server_is_reported_with_code_1001() {
        let mut echo = Process::start(&["echo"]);
        let mut client = Client::start(echo.addr, "/", &[]);
        client.write("a\n");
        assert_eq!(client.line(), "a\n");
        echo.signal("TERM");
        let (code, _, err) = client.end();
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
    fn while_stdout_is_blocked_the_server_is_not_read_and_signals_are_handled() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let addr = open_server(move |stream| {
            let frame = [&b"\x81\x7E\x27\x10"[..], &[b'x'; 10_000]].concat();
            let (frames, _) = write_until_blocked(&stream, |_| frame.clone());
            sender.send(frames * frame.len()).unwrap();
            drain(stream);
        });
        let client = Client::start(addr, "/", &["-n"]);
        let bytes = receiver.recv_timeout(WAIT).unwrap();
        assert!(bytes < 20 * MIB, "{bytes}");
        client.signal("INT");
        thread::sleep(SHORT);
        client.signal("INT");
        let mut client = client;
        let mut code = None;
        eventually(|| {
            code = client.child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(1));
    }

    #[test]
    fn stdin_is_not_read_without_limit_while_the_server_does_not_read() {
        let addr = open_server(|stream| {
            thread::sleep(WAIT);
            drop(stream);
        });
        let mut client = Client::start(addr, "/", &[]);
        let stdin = client.stdin.take().unwrap();
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
            assert!(taken < 20 * MIB, "stdin is read without limit");
        }
        assert!(taken > MIB / 4, "{taken}");
    }

    #[test]
    fn a_closed_stdout_is_no_failure() {
        let server = Process::start(&["echo"]);
        let mut client = Client::start(server.addr, "/", &[]);
        client.write("a\n");
        assert_eq!(client.line(), "a\n");
        let stdin = client.stdin.take();
        // Takes the child out of the client: dropping the client then closes stdout, and does not kill the child.
        let mut child = std::mem::replace(&mut client.child, Command::new("true").spawn().unwrap());
        drop(client);
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

/// Runs the client in a pseudo-terminal, with `script` of util-linux.
#[cfg(target_os = "linux")]
mod terminal {
    use super::*;

    /// A client in a pseudo-terminal of 80 columns.
    struct Terminal {
        script: Child,
        stdin: ChildStdin,
        stdout: BufReader<std::process::ChildStdout>,
        /// Everything that the terminal has received.
        all: Vec<u8>,
    }

    impl Terminal {
        /// Starts a client with environment variables. `None` if the system has no `script`.
        fn start(env: &str, args: &str, addr: SocketAddr) -> Option<Self> {
            Self::run(&format!(
                "exec env {env} {WSLOOP} connect {args} ws://{addr}/"
            ))
        }

        /// Runs a command line of `/bin/sh`. Ctrl-C reaches the shell too, and shells differ in what they do then: a
        /// line replaces the shell with `exec`, or traps the signal.
        fn run(line: &str) -> Option<Self> {
            let line = format!("stty cols 80; {line}");
            let mut script = Command::new("script");
            script
                .args(["-qec", &line, "/dev/null"])
                .env("TERM", "xterm")
                .env("SHELL", "/bin/sh")
                .env_remove("NO_COLOR")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            let Ok(mut script) = script.spawn() else {
                eprintln!("skipped: the command `script` is not installed");
                return None;
            };
            Some(Self {
                stdin: script.stdin.take().unwrap(),
                stdout: BufReader::new(script.stdout.take().unwrap()),
                script,
                all: Vec::new(),
            })
        }

        /// Reads until the output ends with `part`, or ends.
        fn until(&mut self, part: &str) {
            let mut byte = [0];
            while !self.all.ends_with(part.as_bytes()) {
                if self.stdout.read(&mut byte).unwrap() == 0 {
                    break;
                }
                self.all.push(byte[0]);
            }
        }

        /// Types `keys` and waits for output.
        fn type_until(&mut self, keys: &str, part: &str) {
            self.stdin.write_all(keys.as_bytes()).unwrap();
            self.until(part);
        }

        /// Waits for the end of the client. Returns its exit code and everything that the terminal has received.
        fn end(mut self) -> (Option<i32>, String) {
            self.until("(never shown)");
            drop(self.stdin);
            let code = self.script.wait().unwrap().code();
            (code, String::from_utf8(self.all).unwrap())
        }
    }

    /// An empty prompt, with the cursor after it.
    const PROMPT: &str = "\r\x1b[K> \r\x1b[2C";

    #[test]
    fn a_terminal_shows_a_prompt_and_colours() {
        let server = Process::start(&["echo"]);
        let screen = |env: &str, prompt: &str| {
            let mut terminal = Terminal::start(env, "--plain", server.addr)?;
            terminal.until("> ");
            terminal.type_until("hello\x1bx\n", "< hello\\u{1b}x");
            terminal.until(prompt);
            terminal.type_until("\x04", "disconnected");
            let (code, all) = terminal.end();
            assert_eq!(code, Some(0), "{all:?}");
            Some(all)
        };
        let Some(all) = screen("A=b", "> ") else {
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
        let plain = screen("NO_COLOR=1", "> ").unwrap();
        assert!(plain.contains("\r\x1b[K< hello\\u{1b}x\r\n> "), "{plain:?}");
        assert!(!plain.contains("\x1b[3"), "{plain:?}");
        // Without escape sequences, lines are not edited.
        let dumb = screen("TERM=dumb", "> ").unwrap();
        assert!(!dumb.contains(PROMPT), "{dumb:?}");
    }

    /// Regression test: the terminal dropped the rest of the line silently.
    #[test]
    fn a_line_that_a_plain_terminal_has_cut_is_not_sent() {
        let server = Process::start(&["echo"]);
        let Some(mut terminal) = Terminal::start("A=b", "--plain", server.addr) else {
            return;
        };
        terminal.until("> ");
        let long = "x".repeat(5000);
        terminal.stdin.write_all(long.as_bytes()).unwrap();
        terminal.stdin.write_all(b"\n").unwrap();
        let (code, all) = terminal.end();
        assert_eq!(code, Some(1));
        let error = "line 1 of stdin was not sent: the terminal cuts lines at 4095 bytes";
        assert!(all.contains(error) && !all.contains("< x"), "{all:?}");
    }

    #[cfg(feature = "line-editing")]
    mod editing {
        use super::*;

        #[test]
        fn a_line_is_edited_and_found_again_in_the_history() {
            let server = Process::start(&["echo"]);
            let Some(mut terminal) = Terminal::start("NO_COLOR=1", "", server.addr) else {
                return;
            };
            terminal.until(PROMPT);
            terminal.type_until("hllo", "> hllo\r\x1b[6C");
            terminal.type_until("\x1b[D\x1b[D\x1b[D", "> hllo\r\x1b[3C");
            terminal.type_until("e", "> hello\r\x1b[4C");
            terminal.type_until("\r", "< hello\r\n");
            terminal.until(PROMPT);
            terminal.type_until("\x1b[A", "> hello\r\x1b[7C");
            terminal.type_until(" \u{65e5}\u{672c}", "\r\x1b[12C");
            terminal.type_until("\x7f\r", "< hello \u{65e5}\r\n");
            terminal.until(PROMPT);
            terminal.type_until("\x04", "disconnected (code 1000)\r\n");
            let (code, all) = terminal.end();
            assert_eq!(code, Some(0), "{all:?}");
            assert!(all.contains("> hello\r\n"), "{all:?}");
        }

        #[test]
        fn a_line_longer_than_a_terminal_allows_is_sent_whole() {
            let server = Process::start(&["serve", "-r", "/*=echo"]);
            let Some(mut terminal) = Terminal::start("NO_COLOR=1", "", server.addr) else {
                return;
            };
            terminal.until(PROMPT);
            // Typed ahead, faster than it is read, in one piece with the next line.
            let long = "0123456789".repeat(10_000);
            let answer = format!("< {long}\r\n");
            terminal.type_until(&format!("{long}\rshort\r"), &answer);
            terminal.until("< short\r\n");
            terminal.type_until("\x04", "disconnected (code 1000)\r\n");
            let (_, all) = terminal.end();
            assert!(all.contains(".. (100000 bytes)\r\n"));
        }

        #[test]
        fn an_incoming_message_is_shown_above_the_line_that_is_being_typed() {
            let server = Process::start(&["broadcast"]);
            let Some(mut terminal) = Terminal::start("NO_COLOR=1", "", server.addr) else {
                return;
            };
            terminal.until(PROMPT);
            terminal.type_until("half", "> half\r\x1b[6C");
            assert_eq!(printed(server.addr, "/", &["-x", "news"], ""), b"news\n");
            terminal.until("\r\x1b[K< news\r\n\r\x1b[K> half\r\x1b[6C");
            terminal.type_until(" a line\r", "< half a line\r\n");
            terminal.until(PROMPT);
            // Ctrl-C, which the terminal turns into a signal.
            terminal.type_until("x", "> x\r\x1b[3C");
            terminal.type_until("\x03", "disconnected (code 1000)\r\n");
            let (code, all) = terminal.end();
            assert_eq!(code, Some(0));
            assert!(all.contains("> x (not sent)\r\n"), "{all:?}");
        }

        #[test]
        fn the_line_survives_a_stop_and_a_new_size_of_the_terminal() {
            let server = Process::start(&["echo"]);
            if Command::new("bash").arg("--version").output().is_err() {
                eprintln!("skipped: bash is not installed");
                return;
            }
            let shell = "exec env PS1='ready: ' bash --norc --noprofile -i";
            let Some(mut terminal) = Terminal::run(shell) else {
                return;
            };
            terminal.until("ready: ");
            let connect = format!("NO_COLOR=1 {WSLOOP} connect ws://{}/\r", server.addr);
            terminal.type_until(&connect, PROMPT);
            terminal.type_until("half", "> half\r\x1b[6C");
            terminal.type_until("\x1a", "ready: ");
            terminal.type_until("stty -a | grep -o '.icanon'; stty cols 30\r", "ready: ");
            terminal.type_until("fg\r", "> half\r\x1b[6C");
            // 30 columns less the prompt and the cursor: a 28th character does not fit.
            let keys = "234567890123456789012345";
            terminal.type_until(keys, "> ..3456789012345\r\x1b[17C");
            terminal.type_until("\r", &format!("< half{keys}\r\n"));
            terminal.until(PROMPT);
            terminal.type_until("\x04", "ready: ");
            terminal.type_until("exit\r", "(never shown)");
            let (_, all) = terminal.end();
            assert!(
                all.contains("Stopped") && all.contains(" icanon"),
                "{all:?}"
            );
        }

        #[test]
        fn the_modes_of_the_terminal_are_restored() {
            let server = Process::start(&["echo"]);
            for keys in ["\x04", "\x03"] {
                let connect = format!("{WSLOOP} connect ws://{}/", server.addr);
                let line = format!("trap : INT; stty -a; {connect}; stty -a");
                let Some(mut terminal) = Terminal::run(&line) else {
                    return;
                };
                terminal.until(PROMPT);
                terminal.stdin.write_all(keys.as_bytes()).unwrap();
                let (_, all) = terminal.end();
                let modes: Vec<_> = all.lines().filter(|line| line.contains("icanon")).collect();
                assert_eq!(modes.len(), 2, "{all:?}");
                assert_eq!(modes[0], modes[1]);
                assert!(!modes[0].contains("-icanon"));
            }
        }
    }
}
