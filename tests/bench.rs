//! Runs `wsloop bench` as a process, against the server of the same binary and against servers that misbehave. Checks
//! that its figures are consistent with each other and that it reports errors. No test compares a figure with the
//! speed of the machine.

#![cfg(feature = "bench")]

mod common;

use common::process::{Process, WSLOOP, output};
use common::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

/// Runs a load to its end. Returns the exit code, stdout and stderr.
fn bench(addr: SocketAddr, args: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("ws://{addr}/");
    output(&[&["bench", &url], args].concat())
}

/// Runs a load that must succeed. Returns its JSON report.
fn measured(addr: SocketAddr, args: &[&str]) -> Json {
    let quick = ["--json", "--warmup", "100ms"];
    let (code, out, err) = bench(addr, &[&quick, args].concat());
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    Json(out)
}

/// The JSON report. A value is found by a path of keys: each key is searched after the one before it.
struct Json(String);

impl Json {
    /// Returns the text of a string, number or null.
    fn raw(&self, path: &[&str]) -> &str {
        let mut rest = self.0.trim_end();
        for key in path {
            let key = format!("\"{key}\":");
            let (_, after) = rest
                .split_once(&key)
                .unwrap_or_else(|| panic!("{key} {rest}"));
            rest = after;
        }
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        &rest[..end]
    }

    fn number(&self, path: &[&str]) -> f64 {
        self.raw(path)
            .parse()
            .unwrap_or_else(|_| panic!("{path:?} in {}", self.0))
    }

    fn count(&self, path: &[&str]) -> u64 {
        self.raw(path)
            .parse()
            .unwrap_or_else(|_| panic!("{path:?} in {}", self.0))
    }

    /// Returns the number of errors of each kind, in the order of the keys.
    fn errors(&self) -> [u64; 6] {
        ["connect", "read", "write", "timeout", "mismatch", "missing"]
            .map(|kind| self.count(&["errors", kind]))
    }
}

mod echo {
    use super::*;

    #[test]
    fn counts_are_consistent_with_each_other() {
        let server = Process::start(&["echo"]);
        let sizes = [("0", 2), ("20", 22), ("200", 204), ("70000", 70_010)];
        for (size, frame_bytes) in sizes {
            let args = ["-c", "5", "-p", "4", "-d", "300ms", "-s", size, "--verify"];
            let json = measured(server.addr, &args);
            let (messages, sent) = (json.count(&["messages"]), json.count(&["sent"]));
            assert!(messages > 0 && messages <= sent, "{}", json.0);
            assert!(sent - messages <= 5 * 4, "{}", json.0);
            let [late, never, greetings] =
                ["late", "never", "greetings"].map(|key| json.count(&[key]));
            assert_eq!(sent, messages + late + never, "{}", json.0);
            assert_eq!((never, greetings), (0, 0), "{}", json.0);
            assert_eq!(json.errors(), [0; 6], "{}", json.0);
            // The difference: frames that are partly read at the start or the end of the measurement.
            let bytes = json.count(&["bytes_received"]);
            let all = messages * frame_bytes;
            assert!(bytes.abs_diff(all) <= 5 * frame_bytes, "{}", json.0);
            assert_eq!(json.count(&["connections"]), 5);
            assert_eq!(json.count(&["connect", "count"]), 5);
            assert_eq!(json.raw(&["server"]), "null");
            assert_eq!(json.raw(&["mode"]), "\"echo\"");
            let seconds = json.number(&["duration_seconds"]);
            let rate = json.number(&["messages_per_second"]);
            assert!((rate * seconds - messages as f64).abs() < 1.0, "{}", json.0);
        }
    }

    #[test]
    fn latencies_are_in_order() {
        let server = Process::start(&["echo"]);
        let json = measured(server.addr, &["-c", "3", "-d", "200ms", "--binary"]);
        let names = ["p50", "p75", "p90", "p99", "p99_9", "max"];
        let values = names.map(|name| json.number(&["latency_us", name]));
        assert!(values[0] > 0.0 && values.is_sorted(), "{}", json.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cpu_time_and_memory_of_the_server_are_reported() {
        let server = Process::start(&["echo"]);
        let pid = server.child.id().to_string();
        let json = measured(server.addr, &["-c", "3", "-d", "300ms", "--pid", &pid]);
        let cpu = json.number(&["server", "cpu_seconds"]);
        assert!(cpu > 0.0, "{}", json.0);
        let each = json.number(&["server", "cpu_us_per_message"]);
        let all = each * json.count(&["messages"]) as f64 / 1e6;
        assert!((all / cpu - 1.0).abs() < 0.1, "{}", json.0);
        assert!(
            json.count(&["server", "rss_before_bytes"]) > 0,
            "{}",
            json.0
        );
    }

    #[test]
    fn messages_are_sent_at_the_given_rate() {
        let server = Process::start(&["echo"]);
        let json = measured(server.addr, &["-c", "5", "--rate", "500", "-d", "1s"]);
        let per_second = json.count(&["sent"]) as f64 / json.number(&["duration_seconds"]);
        assert!((450.0..=550.0).contains(&per_second), "{}", json.0);
        assert_eq!(json.errors(), [0; 6], "{}", json.0);
    }

    #[test]
    fn the_text_report_has_the_lines_of_wrk() {
        let server = Process::start(&["echo"]);
        let args = ["-c", "4", "-d", "200ms", "--warmup", "0", "--latency"];
        let (code, out, err) = bench(server.addr, &args);
        assert_eq!((code, &*err), (Some(0), ""));
        let first = format!("Running 0.2s test @ ws://{}/\n", server.addr);
        assert!(out.starts_with(&first), "{out}");
        for part in [
            "  1 thread(s) and 4 connections\n",
            "    Latency ",
            "    Msg/s ",
            "\n     50% ",
            "\n   99.9% ",
            " messages in 0.",
            "\nMessages/sec: ",
            "\nTransfer/sec: ",
        ] {
            assert!(out.contains(part), "{part:?}: {out}");
        }
        assert!(!out.contains("Errors"), "{out}");
    }

    #[test]
    fn after_a_signal_the_results_so_far_are_printed() {
        let server = Process::start(&["echo"]);
        let mut command = Command::new(WSLOOP);
        let url = format!("ws://{}/", server.addr);
        command.args(["bench", &url, "-c", "2", "-d", "1h", "--warmup", "0"]);
        let mut load = Process::new(&mut command);
        for _ in 0..2 {
            server.logged("connected");
        }
        // Both connections are open. The pause lets the first answers arrive before the signal.
        thread::sleep(SHORT * 2);
        load.signal("INT");
        assert_eq!(load.code(), Some(0));
        let out: Vec<String> = load.out.iter().collect();
        assert!(
            out.iter().any(|line| line.starts_with("Messages/sec:")),
            "{out:?}"
        );
    }
}

mod broadcast {
    use super::*;

    #[test]
    fn every_member_receives_every_message() {
        let server = Process::start(&["broadcast"]);
        let table: [(&[&str], u64); 3] = [
            (&["-c", "7"], 7),
            (&["-c", "5", "--burst", "9", "-s", "300"], 5),
            (&["-c", "6", "--senders", "2", "--burst", "3"], 6),
        ];
        for (args, members) in table {
            let load = ["--mode", "broadcast", "-d", "200ms", "--verify"];
            let json = measured(server.addr, &[&load, args].concat());
            let (messages, sent) = (json.count(&["messages"]), json.count(&["sent"]));
            assert!(messages > 0, "{}", json.0);
            assert_eq!(messages, sent * members, "{}", json.0);
            assert_eq!(json.errors(), [0; 6], "{}", json.0);
        }
    }

    #[test]
    fn broadcast_messages_that_an_echo_server_does_not_send_are_missing() {
        let server = Process::start(&["echo"]);
        let args = [
            "--mode",
            "broadcast",
            "-c",
            "3",
            "-d",
            "300ms",
            "--warmup",
            "0",
            "--timeout",
            "100ms",
            "--json",
        ];
        let (code, out, _) = bench(server.addr, &args);
        assert_eq!(code, Some(0));
        let [.., timeout, _, missing] = Json(out).errors();
        // Each connection lacks the messages of the two others in each round.
        assert!(timeout > 0 && missing == 2 * timeout, "{timeout} {missing}");
    }
}

mod servers_that_misbehave {
    use super::*;

    /// Starts a server that answers the opening handshake of each connection and then calls `then` with its stream, on
    /// a thread per connection.
    pub(crate) fn misbehave(then: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let then = then.clone();
                thread::spawn(move || then(accepted(stream.unwrap())));
            }
        });
        addr
    }

    fn accepted(stream: TcpStream) -> TcpStream {
        stream.set_read_timeout(Some(WAIT)).unwrap();
        tungstenite::accept(stream).unwrap().into_inner()
    }

    /// Reads a masked message of 20 bytes and returns its payload, `None` at the end of the stream.
    pub(crate) fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
        let mut frame = [0; 26];
        stream.read_exact(&mut frame).ok()?;
        let (key, payload) = frame[2..].split_at(4);
        let key = key.iter().cycle();
        Some(
            payload
                .iter()
                .zip(key)
                .map(|(byte, key)| byte ^ key)
                .collect(),
        )
    }

    fn run(addr: SocketAddr, args: &[&str]) -> (Option<i32>, String, String) {
        let quick = ["-c", "2", "-d", "300ms", "--warmup", "0", "--json"];
        bench(addr, &[&quick, args].concat())
    }

    #[test]
    fn changed_content_is_reported_with_verify_only() {
        let addr = misbehave(|mut stream| {
            let mut count = 0_u64;
            while let Some(mut payload) = message(&mut stream) {
                count += 1;
                if count.is_multiple_of(3) {
                    payload[10] ^= 1;
                }
                if stream.write_all(&frame_of(TEXT, &payload)).is_err() {
                    return;
                }
            }
        });
        let (code, out, _) = run(addr, &["--verify"]);
        let json = Json(out);
        let (messages, mismatch) = (
            json.count(&["messages"]),
            json.count(&["errors", "mismatch"]),
        );
        assert!(code == Some(1) && messages > 10, "{}", json.0);
        // Every third message of both connections differs. Mismatches are also counted after the measurement.
        assert!(mismatch.abs_diff(messages / 3) <= 2, "{}", json.0);
        let (code, out, _) = run(addr, &[]);
        assert_eq!((code, Json(out).errors()), (Some(0), [0; 6]));
    }

    /// Regression test: latencies of messages answered after the measurement were not recorded.
    #[test]
    fn a_stall_at_the_end_increases_the_latency_of_all_waiting_messages() {
        for comes_back in [true, false] {
            let addr = misbehave(move |mut stream| {
                let mut count = 0;
                while let Some(payload) = message(&mut stream) {
                    count += 1;
                    if count == 60 && !comes_back {
                        let _ = stream.read_to_end(&mut Vec::new());
                        return;
                    }
                    if count == 60 {
                        thread::sleep(std::time::Duration::from_millis(600));
                    }
                    if stream.write_all(&frame_of(TEXT, &payload)).is_err() {
                        return;
                    }
                }
            });
            let load = ["-c", "1", "-d", "500ms", "--warmup", "0", "--timeout", "2s"];
            let rate = ["--rate", "200", "--json"];
            let (code, out, err) = bench(addr, &[&load[..], &rate].concat());
            let json = Json(out);
            assert_eq!(code, Some(0), "{err}");
            // 59 messages of 100 are answered at once. The stall starts at 300 ms and lasts 600 ms, so the others wait
            // from 600 ms (the first) down to 400 ms (the one due at 500 ms); longer if the server never answers.
            assert!(
                json.number(&["latency_us", "p50"]) < 200_000.0,
                "{}",
                json.0
            );
            assert!(
                json.number(&["latency_us", "p75"]) > 400_000.0,
                "{}",
                json.0
            );
            let sent = json.count(&["sent"]);
            assert!((90..=110).contains(&sent), "{}", json.0);
            let (late, never) = if comes_back {
                (sent - 59, 0)
            } else {
                (0, sent - 59)
            };
            assert_eq!(json.count(&["messages"]), 59, "{}", json.0);
            assert_eq!(json.count(&["late"]), late, "{}", json.0);
            assert_eq!(json.count(&["never"]), never, "{}", json.0);
            assert_eq!(json.errors()[5], never, "{}", json.0);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_usage_is_printed_for_a_process_that_exits_during_the_run() {
        let server = Process::start(&["echo"]);
        let mut other = Command::new("sleep").arg("0.3").spawn().unwrap();
        let pid = other.id().to_string();
        let flags = ["-c", "1", "-d", "600ms", "--warmup", "0", "--pid", &pid];
        let (code, out, _) = bench(server.addr, &flags);
        assert_eq!(code, Some(0), "{out}");
        let expected = "  Server: the process exited before the end of the run\n";
        assert!(
            out.contains(expected) && !out.contains("CPU per message"),
            "{out}"
        );
        other.wait().unwrap();
    }

    #[test]
    fn surplus_answers_are_counted_as_mismatches() {
        let addr = misbehave(|mut stream| {
            while let Some(payload) = message(&mut stream) {
                let twice = frame_of(TEXT, &payload).repeat(2);
                if stream.write_all(&twice).is_err() {
                    return;
                }
            }
        });
        let (code, out, _) = run(addr, &[]);
        let json = Json(out);
        assert_eq!(code, Some(0), "{}", json.0);
        assert!(json.count(&["errors", "mismatch"]) > 0, "{}", json.0);
    }

    #[test]
    fn pings_and_fragments_are_accepted_without_errors() {
        let addr = misbehave(|mut stream| {
            while let Some(payload) = message(&mut stream) {
                let parts = [
                    frame_of(PING, b"there?"),
                    frame_of(0x01, &payload[..7]),
                    frame_of(0x80, &payload[7..]),
                ];
                if stream.write_all(&parts.concat()).is_err() {
                    return;
                }
                // The pong.
                stream.read_exact(&mut [0; 12]).unwrap();
            }
        });
        let (code, out, _) = run(addr, &["--verify"]);
        let json = Json(out);
        assert_eq!((code, json.errors()), (Some(0), [0; 6]), "{}", json.0);
        assert!(json.count(&["messages"]) > 0, "{}", json.0);
    }

    #[test]
    fn the_run_ends_when_the_server_has_closed_all_connections() {
        let addr = misbehave(|mut stream| {
            for _ in 0..5 {
                let Some(payload) = message(&mut stream) else {
                    return;
                };
                stream.write_all(&frame_of(TEXT, &payload)).unwrap();
            }
            let _ = message(&mut stream);
            stream.write_all(b"\x88\x02\x03\xe9").unwrap();
        });
        let (code, out, err) = bench(addr, &["-c", "2", "-d", "1h", "--warmup", "0", "--json"]);
        let json = Json(out);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(json.count(&["messages"]), 10, "{}", json.0);
        assert_eq!(json.errors(), [0, 2, 0, 0, 0, 2], "{}", json.0);
        assert!(
            err.contains("ended early") && err.contains("closed"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }

    #[test]
    fn without_any_answer_nothing_is_measured() {
        let addr = misbehave(|mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let (code, out, err) = run(addr, &["--timeout", "100ms"]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(err.contains("nothing was measured"), "{err}");
        assert!(err.contains("nothing was received for 100ms"), "{err}");
    }

    /// Regression test: an assertion failed when the last round of a broadcast had timed out with messages unsent.
    #[test]
    fn a_round_that_times_out_with_unsent_messages_is_reported() {
        let addr = misbehave(|stream| {
            // Reads nothing until the client closes.
            let _ = stream.peek(&mut [0]);
            thread::sleep(WAIT);
        });
        // 40 MB per sender and round: more than the kernel buffers.
        let load = ["--mode", "broadcast", "-s", "1M", "--burst", "40"];
        let (code, out, err) = run(addr, &[&load[..], &["--timeout", "200ms"]].concat());
        assert_eq!((code, &*out), (Some(1), ""), "{err}");
        assert!(err.contains("nothing was measured"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }

    /// Regression test: an assertion failed when a server had sent more messages than it had received.
    #[test]
    fn a_round_that_ends_before_its_messages_are_sent_is_reported() {
        let addr = misbehave(|mut stream| {
            let message = frame_of(TEXT, &[b'x'; 20]);
            while stream.write_all(&message.repeat(100)).is_ok() {
                thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let load = ["--mode", "broadcast", "-s", "1M", "--burst", "40"];
        let (code, out, err) = run(addr, &load);
        assert_eq!(code, Some(0), "{err}");
        assert!(Json(out).errors()[4] > 0, "{err}");
    }

    /// Regression test: a connection was dropped if more than 340 KiB of pings arrived at once.
    #[test]
    fn a_megabyte_of_pings_is_answered() {
        let addr = misbehave(|mut stream| {
            let Some(payload) = message(&mut stream) else {
                return;
            };
            let mut writer = stream.try_clone().unwrap();
            let pings = thread::spawn(move || {
                writer.write_all(&b"\x89\0".repeat(512 * 1024)).unwrap();
                writer.write_all(&frame_of(TEXT, &payload)).unwrap();
            });
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
            pings.join().unwrap();
        });
        let load = ["-c", "1", "--warmup", "0", "--timeout", "1s", "--json"];
        let (code, out, err) = bench(addr, &load);
        assert_eq!(code, Some(0), "{err}");
        let json = Json(out);
        // The second message is not answered.
        assert_eq!(json.count(&["messages"]), 1, "{}", json.0);
        assert_eq!(json.errors(), [0, 0, 0, 1, 0, 1], "{}", json.0);
    }

    pub(crate) fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, u8::try_from(payload.len()).unwrap()], payload].concat()
    }
}

mod greetings {
    use super::servers_that_misbehave::{frame_of, message, misbehave};
    use super::*;
    use std::time::Duration;

    /// A server that greets each connection, and answers each message after `DELAY`. An answer has the content of the
    /// message, or that of `reply`.
    fn greeting(count: u64, after: Duration, reply: Option<&'static [u8]>) -> SocketAddr {
        misbehave(move |mut stream| {
            let mut writer = stream.try_clone().unwrap();
            thread::spawn(move || {
                thread::sleep(after);
                for nth in 0..count {
                    let text = format!("{{\"welcome\":{nth}}}");
                    if writer.write_all(&frame_of(TEXT, text.as_bytes())).is_err() {
                        return;
                    }
                }
            });
            while let Some(payload) = message(&mut stream) {
                thread::sleep(DELAY);
                let answer = frame_of(TEXT, reply.unwrap_or(&payload));
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        })
    }

    const DELAY: Duration = Duration::from_millis(200);

    /// Checks the figures of two connections with 1 message in flight: the messages in flight at the end show whether a
    /// greeting was taken for an answer. Then with a rate: each latency is that of another message if it was.
    fn check(addr: SocketAddr, greetings: u64, args: &[&str]) {
        let load = ["-c", "2", "-d", "700ms", "--json", "--warmup", "0"];
        let (code, out, err) = bench(addr, &[&load, args].concat());
        let json = Json(out);
        assert_eq!((code, json.errors()), (Some(0), [0; 6]), "{err}{}", json.0);
        assert_eq!(json.count(&["greetings"]), 2 * greetings, "{}", json.0);
        assert_eq!(json.count(&["late"]), 2, "{}", json.0);
        let (code, out, err) = bench(addr, &[&load[..], &["--rate", "8"], args].concat());
        let json = Json(out);
        assert_eq!((code, json.errors()), (Some(0), [0; 6]), "{err}{}", json.0);
        assert_eq!(json.count(&["greetings"]), 2 * greetings, "{}", json.0);
        let average = json.number(&["latency_us", "avg"]);
        assert!(average >= DELAY.as_micros() as f64, "{}", json.0);
    }

    #[test]
    fn those_before_the_load_are_skipped_whatever_the_answers_are() {
        // At the same time, because each spends its time waiting.
        thread::scope(|scope| {
            for count in 0..=3 {
                let echo = greeting(count, Duration::ZERO, None);
                scope.spawn(move || check(echo, count, &["--verify"]));
                let reply = greeting(count, Duration::ZERO, Some(b"an answer"));
                scope.spawn(move || check(reply, count, &[]));
            }
        });
    }

    /// The greetings arrive after the first message was sent, and before its answer.
    #[test]
    fn later_ones_are_found_by_their_content() {
        thread::scope(|scope| {
            for count in 1..=3 {
                let addr = greeting(count, Duration::from_millis(100), None);
                scope.spawn(move || check(addr, count, &["--verify"]));
            }
        });
    }

    #[test]
    fn a_number_of_greetings_is_skipped() {
        let after = Duration::from_millis(100);
        let addr = greeting(2, after, Some(b"an answer"));
        check(addr, 2, &["--skip-greeting", "2"]);
    }

    /// The first answers are held until it is clear that no echo follows.
    #[test]
    fn a_server_with_other_answers_is_measured_for_the_whole_duration() {
        let server = Process::start(&["serve", "-r", "/*=reply:no echo"]);
        for load in [&["-p", "3"][..], &["--rate", "500"]] {
            for warmup in ["0", "100ms"] {
                let args = ["-c", "3", "-d", "300ms", "--json", "--warmup", warmup];
                let (code, out, err) = bench(server.addr, &[&args, load].concat());
                assert_eq!((code, &*err), (Some(0), ""), "{args:?} {load:?}");
                let json = Json(out);
                assert_eq!(json.errors(), [0; 6], "{}", json.0);
                let [sent, messages, late, never, greetings] =
                    ["sent", "messages", "late", "never", "greetings"]
                        .map(|key| json.count(&[key]));
                assert!(messages > 100, "{}", json.0);
                assert_eq!(sent, messages + late, "{}", json.0);
                assert_eq!((never, greetings), (0, 0), "{}", json.0);
            }
        }
    }

    #[test]
    fn the_text_report_has_their_number() {
        let addr = greeting(2, Duration::ZERO, None);
        let args = ["-c", "1", "-d", "500ms", "--warmup", "0"];
        let (code, out, _) = bench(addr, &args);
        assert_eq!(code, Some(0));
        assert!(out.contains("\n  Greetings skipped: 2\n"), "{out}");
    }
}

mod opening_handshake {
    use super::*;
    use std::sync::mpsc;
    use tungstenite::handshake::server::{ErrorResponse, Request, Response};

    /// Starts a server that refuses requests without the expected headers, and echoes.
    fn demanding(authorization: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || {
                    let check = |request: &Request, mut response: Response| {
                        let has = |name: &str, value: &str| {
                            request
                                .headers()
                                .get(name)
                                .is_some_and(|found| found == value)
                        };
                        let expected = [
                            ("authorization", authorization),
                            ("origin", "https://a.example"),
                            ("sec-websocket-protocol", "v1, v2"),
                        ];
                        if expected.iter().all(|(name, value)| has(name, value)) {
                            let chosen = "v2".parse().unwrap();
                            response
                                .headers_mut()
                                .insert("sec-websocket-protocol", chosen);
                            return Ok(response);
                        }
                        let mut refusal = ErrorResponse::new(Some("no token".to_owned()));
                        *refusal.status_mut() = 401.try_into().unwrap();
                        Err(refusal)
                    };
                    let Ok(mut socket) = tungstenite::accept_hdr(stream.unwrap(), check) else {
                        return;
                    };
                    while let Ok(message) = socket.read() {
                        if !message.is_text() || socket.send(message).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        addr
    }

    #[test]
    fn headers_the_origin_and_subprotocols_are_sent() {
        let addr = demanding("Bearer a:b");
        let login = ["-H", "Authorization: Bearer a:b"];
        let page = ["-o", "https://a.example"];
        let subprotocols = ["--subprotocol", "v1", "--subprotocol", "v2"];
        let load = ["-c", "3", "-d", "200ms", "--verify"];
        let all = [&load[..], &login, &page, &subprotocols].concat();
        let json = measured(addr, &all);
        assert_eq!(json.errors(), [0; 6], "{}", json.0);
        let without = [&load[..], &page, &subprotocols].concat();
        let (code, out, err) = bench(addr, &without);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(err.contains("401 Unauthorized instead of 101"), "{err}");
    }

    #[test]
    fn an_offered_subprotocol_that_the_server_does_not_choose_is_reported() {
        let server = Process::start(&["echo", "--subprotocol", "v1"]);
        let load = ["-c2", "-d100ms", "--warmup=0"];
        for (offer, expected) in [
            (
                &["--subprotocol=v2"][..],
                "wsloop: the server chose no subprotocol\n",
            ),
            (&["--subprotocol=v2", "--subprotocol=v1"], ""),
            (&[], ""),
        ] {
            let (code, _, err) = bench(server.addr, &[&load[..], offer].concat());
            assert_eq!((code, &*err), (Some(0), expected), "{offer:?}");
        }
    }

    #[test]
    fn a_user_name_in_the_url_is_sent_and_shown_nowhere() {
        let addr = demanding("Basic dXNlcjpwYXNz");
        let url = format!("ws://user:pass@{addr}/");
        let args = [
            "bench",
            "-c1",
            "-d200ms",
            "--subprotocol=v1",
            "--subprotocol=v2",
        ];
        let page = ["-o", "https://a.example", &url];
        let (code, out, err) = output(&[&args[..], &page].concat());
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.contains(&format!("test @ ws://{addr}/\n")), "{out}");
        let wrong = url.replace("user", "other");
        let (code, _, err) = output(&[&args[..], &page[..2], &[&wrong]].concat());
        assert_eq!(code, Some(1));
        assert!(err.contains("401") && !err.contains("pass"), "{err}");
        let (code, _, err) = output(&["bench", "ws://user:pass@"]);
        assert_eq!(code, Some(2));
        assert!(
            err.contains("has no host") && !err.contains("pass"),
            "{err}"
        );
    }

    /// The line is on a terminal only. No test of this file has one; here, `script` provides it.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_rate_is_shown_each_second_on_a_terminal() {
        let server = Process::start(&["echo"]);
        let line = format!(
            "{WSLOOP} bench ws://{}/ -c 2 -d 2500ms --warmup 0 --json 2>&1 >/dev/null",
            server.addr
        );
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        let Ok(mut child) = command
            .env("TERM", "xterm")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            eprintln!("not tested: there is no program `script`");
            return;
        };
        let (sender, output) = mpsc::channel();
        let mut out = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = out.read_to_string(&mut text);
            let _ = sender.send(text);
        });
        let text = output.recv_timeout(WAIT).unwrap();
        assert!(child.wait().unwrap().success(), "{text:?}");
        let lines: Vec<_> = text.split("\r\x1b[K").collect();
        assert_eq!((lines[0], lines[lines.len() - 1]), ("", ""), "{text:?}");
        assert!(lines.len() > 2, "{text:?}");
        for line in &lines[1..lines.len() - 1] {
            let has = |part| line.contains(part);
            assert!(has("s of 2.5s: ") && has("messages/s, p99 "), "{text:?}");
        }
    }
}

mod chart {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// The name of a file that does not exist. It is removed at the end of the test.
    struct Name(PathBuf);

    impl Name {
        fn new(name: &str) -> Self {
            let file = format!("wsloop-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(file))
        }

        fn as_str(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn it_has_the_parameters_and_the_figures_and_no_secret() {
        let server = Process::start(&["echo"]);
        let broadcast = Process::start(&["broadcast"]);
        let name = Name::new("all <&.svg");
        fs::write(&name.0, "longer than nothing ".repeat(10_000)).unwrap();
        let table: [(SocketAddr, &[&str], &[&str]); 3] = [
            (
                server.addr,
                &["-c", "3", "-s", "64K", "-p", "2"],
                &[
                    "3 connections, 2 in flight on each, text of 64 KiB",
                    ">p99.9<",
                ],
            ),
            (
                server.addr,
                &["-c", "1", "--rate", "100", "--binary"],
                &[
                    "1 connection, 100 messages/s on schedule, binary of 20 B",
                    ">--rate 100<",
                ],
            ),
            (
                broadcast.addr,
                &["-c", "4", "--mode", "broadcast", "--senders", "2"],
                &[
                    "broadcast by 2 senders, bursts of 1",
                    "Duration of a round over time",
                ],
            ),
        ];
        for (addr, args, parts) in table {
            let url = format!("ws://{addr}/it%27s'&amp;?token=secret");
            let load = [
                "bench",
                &url,
                "-d",
                "300ms",
                "--warmup",
                "0",
                "-H",
                "X-A: secret",
            ];
            let file = ["--chart", name.as_str()];
            let (code, out, err) = output(&[&load[..], &file, args].concat());
            assert_eq!((code, &*err), (Some(0), ""), "{out}");
            let image = fs::read_to_string(&name.0).unwrap();
            let url = format!("ws://{addr}/it%27s&#39;&amp;amp;?\u{2026}<");
            for part in [&[&*url, "<polyline "][..], parts].concat() {
                assert!(image.contains(part), "{part:?}: {image}");
            }
            assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
            for part in ["secret", "longer", "NaN", "inf", "<script", "href"] {
                assert!(!image.contains(part), "{part:?}: {image}");
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_reported_before_the_load() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let dir = std::env::temp_dir();
        let (no_dir, dir) = (dir.join("wsloop no dir/a.svg"), dir.to_str().unwrap());
        for name in [no_dir.to_str().unwrap(), dir] {
            let (code, out, err) = bench(addr, &["--chart", name]);
            assert_eq!((code, &*out), (Some(1), ""));
            let expected = format!("wsloop: cannot write the chart to {name:?}: ");
            assert!(err.starts_with(&expected), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(listener.accept().is_err(), "a connection was opened");
        }
    }

    #[test]
    fn no_file_is_changed_if_nothing_was_measured() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let (new, old) = (Name::new("new.svg"), Name::new("old.svg"));
        fs::write(&old.0, "old").unwrap();
        for name in [&new, &old] {
            assert_eq!(bench(addr, &["--chart", name.as_str()]).0, Some(1));
        }
        assert!(!new.0.exists());
        assert_eq!(fs::read_to_string(&old.0).unwrap(), "old");
    }

    /// The report is printed nevertheless: the run may have taken hours.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_reported_after_the_report() {
        let server = Process::start(&["echo"]);
        let args = [
            "-c",
            "1",
            "-d",
            "100ms",
            "--warmup",
            "0",
            "--chart",
            "/dev/full",
        ];
        let (code, out, err) = bench(server.addr, &args);
        assert_eq!(code, Some(1));
        assert!(out.contains("Messages/sec: "), "{out}");
        assert!(
            err.starts_with("wsloop: cannot write the chart to \"/dev/full\": "),
            "{err}"
        );
    }
}

mod no_connection {
    use super::*;

    #[test]
    fn the_status_of_a_refused_handshake_is_reported() {
        let server = Process::start(&["serve", "-r", "/chat=broadcast"]);
        let (code, out, err) = bench(server.addr, &["-c", "2", "-d", "200ms"]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains("404 Not Found instead of 101"), "{err}");
    }

    #[test]
    fn a_closed_port_is_reported() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let (code, out, err) = bench(addr, &["-c", "2"]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(err.contains("cannot connect: "), "{err}");
    }

    #[test]
    fn a_host_without_addresses_is_a_failure_and_no_usage_error() {
        // RFC 1035 section 2.3.4: a label has at most 63 octets, so no resolver asks the network for this one.
        let (code, out, err) = output(&["bench", &format!("ws://{}/", "a".repeat(64))]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(
            err.starts_with("wsloop: cannot resolve the host name"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }

    #[test]
    fn an_unanswered_opening_handshake_times_out() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = silent.local_addr().unwrap();
        let (code, _, err) = bench(addr, &["-c", "2", "--timeout", "100ms"]);
        assert_eq!(code, Some(1));
        assert!(
            err.contains("handshake took longer than the 100ms"),
            "{err}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_does_not_exist_is_reported() {
        let args = ["--pid", "4294967295"];
        let (code, _, err) = bench("127.0.0.1:9".parse().unwrap(), &args);
        assert_eq!(code, Some(1));
        let expected = "cannot monitor process --pid 4294967295: ";
        assert!(err.contains(expected), "{err}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_enough_descriptors_the_run_uses_fewer_connections() {
        let server = Process::start(&["echo"]);
        let pid = server.child.id();
        let line = format!(
            "ulimit -n 40; exec \"$0\" bench ws://{}/ -c 100 -d 200ms --warmup 0 --pid {pid}",
            server.addr
        );
        let mut command = Command::new("sh");
        let mut load = Process::new(command.args(["-c", &line, WSLOOP]));
        assert_eq!(load.code(), Some(0));
        let out: Vec<String> = load.out.iter().collect();
        let has = |part: &str| out.iter().any(|line| line.contains(part));
        assert!(has("Errors: connect ") && has("ulimit -n"), "{out:?}");
        assert!(has("CPU per message"), "{out:?}");
    }
}
