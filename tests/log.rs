//! Tests of the binary's log on stderr: its format, and what happens when its reader stalls, ends, or does not exist.
//! In all these cases the server continues to serve, stops in time, and counts the dropped lines in the log.

#![cfg(feature = "serve")]

mod common;

use common::process::{self, WSLOOP};
use common::*;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running server with a given stderr. It is killed when this value is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

/// Starts `wsloop ARGS` on a free port, with environment variables.
fn start(stderr: impl Into<Stdio>, variables: &[(&str, &str)], args: &[&str]) -> Server {
    let mut command = Command::new(WSLOOP);
    command
        .args(args)
        .args(["--no-page", "-l", "127.0.0.1:0"])
        .env_remove("RUST_LOG")
        .envs(variables.iter().copied());
    announced(command.stderr(stderr))
}

/// Starts a command and waits until it announces its address.
fn announced(command: &mut Command) -> Server {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut announcement = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut announcement).unwrap();
    let url = announcement.strip_prefix("listening on ws://");
    let addr = url.and_then(|url| url.trim_end().strip_suffix('/'));
    Server {
        addr: addr.expect(&announcement).parse().unwrap(),
        child,
    }
}

impl Server {
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success());
    }

    /// Sends SIGTERM and waits for the end of the process. Panics if its exit code is not 0 or this takes longer than
    /// `max`.
    fn stop_within(&mut self, max: Duration) {
        let start = Instant::now();
        self.signal("TERM");
        assert_eq!(code(&mut self.child), Some(0));
        let elapsed = start.elapsed();
        assert!(elapsed <= max, "stopping took {elapsed:?}");
    }

    /// Opens a session and closes it, `count` times.
    fn open_and_close(&self, count: usize) {
        for _ in 0..count {
            let mut raw = Raw::open(self.addr, "/echo");
            raw.send(close_frame(1000, ""));
            assert_eq!(raw.close_frame().0, 1000);
            raw.expect_end();
        }
    }

    /// Sends `count` messages of 5 bytes on one session and reads their echoes.
    fn echo(&self, raw: &mut Raw, count: usize) {
        const AT_ONCE: usize = 100;
        let question = frame(TEXT, b"hello").repeat(AT_ONCE);
        for _ in 0..count / AT_ONCE {
            raw.send(&question);
            for _ in 0..AT_ONCE {
                assert_eq!(raw.frame(), (TEXT, b"hello".to_vec()));
            }
        }
    }

    /// Returns the CPU time of all threads, in hundredths of a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The second field is the name in brackets; utime and stime are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Returns the resident memory, in bytes.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<usize>().unwrap() * KIB
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process. Returns its exit code, or `None` if a signal ended it.
fn code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    eventually(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

/// Runs `wsloop ARGS`, which must end by itself. Returns its exit code.
fn code_of(stderr: impl Into<Stdio>, variables: &[(&str, &str)], args: &[&str]) -> Option<i32> {
    let mut command = Command::new(WSLOOP);
    command.args(args).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(stderr).spawn().unwrap();
    let code = code_or_kill(&mut child);
    code.unwrap_or_else(|| panic!("{args:?} did not end in time"))
}

/// Waits for the end of a process. Returns its exit code, or `None` if it did not end within [`WAIT`] and was killed.
fn code_or_kill(child: &mut Child) -> Option<Option<i32>> {
    let start = Instant::now();
    while start.elapsed() < WAIT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        thread::sleep(Duration::from_millis(3));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Reads all lines until the last writer has closed the pipe.
fn lines(reader: PipeReader) -> Vec<String> {
    let lines = BufReader::new(reader).lines();
    lines.map(|line| line.unwrap()).collect()
}

/// Returns a full pipe.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    // The thread blocks when the pipe is full, and ends when the reader is closed.
    thread::spawn(move || {
        let line = [&[b'.'; 1023][..], b"\n"].concat();
        while filler.write_all(&line).is_ok() {}
    });
    // If the thread has not filled the pipe by then, it continues while the process writes.
    thread::sleep(Duration::from_millis(100));
    (reader, writer)
}

/// Opens a device on which every write fails with ENOSPC.
fn full_device() -> fs::File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Returns the number of dropped lines, summed over the reports of them in the log.
fn dropped(lines: &[String]) -> usize {
    let count = |line: &String| {
        let (_, rest) = line.split_once("dropped ")?;
        let (count, _) = rest.split_once(" log lines: ")?;
        count.parse::<usize>().ok()
    };
    lines.iter().filter_map(count).sum()
}

/// Maximum time of a stop, including the maximum time that it waits for the log to be written.
const STOP_MAX: Duration = Duration::from_secs(4);

/// A filter that selects the lines about messages only.
const MESSAGES_ONLY: (&str, &str) = ("RUST_LOG", "debug/ of 5 bytes");

mod format {
    use super::*;

    fn lines_with(variables: &[(&str, &str)]) -> Vec<String> {
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, variables, &["echo"]);
        server.echo(&mut Raw::open(server.addr, "/"), 100);
        server.open_and_close(1);
        server.stop_within(STOP_MAX);
        lines(reader)
    }

    /// Returns whether the line is `[TIME LEVEL] MESSAGE` without escape sequences, with the level padded to 5
    /// characters.
    fn is_plain(line: &str) -> bool {
        let time_has = |at: usize, char: u8| line.as_bytes()[at] == char;
        line.starts_with("[20")
            && [
                (11, b'T'),
                (14, b':'),
                (17, b':'),
                (20, b'Z'),
                (21, b' '),
                (27, b']'),
            ]
            .iter()
            .all(|&(at, char)| time_has(at, char))
            && !line.contains('\x1b')
    }

    #[test]
    fn a_pipe_gets_plain_lines_with_time_and_level() {
        for line in lines_with(&[("TERM", "xterm")]) {
            assert!(is_plain(&line), "{line:?}");
        }
    }

    #[test]
    fn rust_log_filters_by_level_target_and_text() {
        let count = |lines: &[String], part: &str| {
            let lines = lines.iter().filter(|line| line.contains(part));
            lines.count()
        };
        let counts = |filter: &str| {
            let lines = lines_with(&[("RUST_LOG", filter)]);
            (count(&lines, " of 5 bytes"), count(&lines, " connected"))
        };
        assert_eq!(counts("info"), (0, 2));
        assert_eq!(counts("warn"), (0, 0));
        assert_eq!(counts("debug"), (100, 2));
        assert_eq!(counts("wsloop=debug"), (100, 2));
        assert_eq!(counts("other=debug"), (0, 0));
        assert_eq!(counts("debug/ of 5 bytes"), (100, 0));
    }

    #[test]
    fn an_invalid_part_of_rust_log_is_reported_in_the_log() {
        let lines = lines_with(&[("RUST_LOG", "a=b=c,wsloop=debug")]);
        assert!(
            lines[0].contains("RUST_LOG") && lines[0].contains("a=b=c"),
            "{lines:?}"
        );
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.contains(" of 5 bytes"))
                .count(),
            100
        );
    }

    #[test]
    fn rust_log_style_and_clicolor_force_colour_a_pipe() {
        for variable in [("RUST_LOG_STYLE", "always"), ("CLICOLOR_FORCE", "1")] {
            for line in lines_with(&[variable]) {
                assert!(line.starts_with("\x1b[90m[\x1b[0m20"), "{line:?}");
                let level = "Z \x1b[32mINFO \x1b[0m\x1b[90m]\x1b[0m ";
                assert!(line.contains(level), "{line:?}");
            }
        }
        for line in lines_with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]) {
            assert!(is_plain(&line), "{line:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_terminal_gets_colours_unless_variables_forbid_them() {
        let screen = |variables: &[(&str, &str)]| {
            let mut script = Command::new("script");
            // The process fails because of the address. The test checks the warning about the variable before that.
            let line = format!("{WSLOOP} echo -l unix:/dev/null");
            script
                .args(["-qec", &line, "/dev/null"])
                .env("WSLOOP_NO_SUCH_FLAG", "1")
                .env("TERM", "xterm")
                .env_remove("RUST_LOG")
                .env_remove("NO_COLOR")
                .envs(variables.iter().copied());
            match script.stdin(Stdio::null()).output() {
                Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
                Err(_) => {
                    eprintln!("skipped: the program `script` is missing");
                    None
                }
            }
        };
        let Some(coloured) = screen(&[]) else { return };
        assert!(coloured.contains("\x1b[33mWARN \x1b[0m"), "{coloured:?}");
        for variable in [
            ("NO_COLOR", "1"),
            ("TERM", "dumb"),
            ("CLICOLOR", "0"),
            ("RUST_LOG_STYLE", "never"),
        ] {
            let plain = screen(&[variable]).unwrap();
            assert!(plain.contains(" WARN ] "), "{plain:?}");
            assert!(!plain.contains('\x1b'), "{plain:?}");
        }
    }
}

mod stalled_reader {
    use super::*;

    /// Regression: after some 250 connections the loop blocked in a write to stderr.
    #[test]
    fn a_stalled_reader_of_stderr_blocks_neither_the_loop_nor_the_shutdown() {
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, &[], &["echo"]);
        server.open_and_close(1000);
        server.stop_within(STOP_MAX);
        drop(reader);
    }

    #[test]
    fn a_stalled_reader_of_a_json_log_blocks_neither_the_loop_nor_the_shutdown() {
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, &[], &["echo", "--log-format", "json"]);
        server.open_and_close(1000);
        server.stop_within(STOP_MAX);
        drop(reader);
    }

    #[test]
    fn lines_dropped_because_of_a_stalled_reader_are_counted_in_a_later_line() {
        const MESSAGES: usize = 20_000;
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, &[MESSAGES_ONLY], &["echo"]);
        let mut raw = Raw::open(server.addr, "/");
        server.echo(&mut raw, MESSAGES);
        // The reader resumes. The report of dropped lines is written although no other line follows.
        let reading = process::lines(reader);
        let mut lines = Vec::new();
        while dropped(&lines) == 0 {
            lines.push(reading.recv_timeout(WAIT).unwrap());
        }
        let report = lines.last().unwrap();
        assert!(report.contains(" WARN "), "{report}");
        assert!(
            report.ends_with("log lines: stderr was not read"),
            "{report}"
        );
        server.echo(&mut raw, 100);
        drop(raw);
        server.stop_within(STOP_MAX);
        lines.extend(reading);
        let shown = lines.iter().filter(|line| line.contains(" of 5 bytes"));
        let shown = shown.count();
        assert_eq!(shown + dropped(&lines), MESSAGES + 100, "{shown} shown");
        assert_eq!(shown + 1, lines.len());
    }

    #[test]
    fn the_count_of_dropped_lines_is_an_object_in_a_json_log() {
        let (reader, writer) = io::pipe().unwrap();
        let args = ["echo", "--log-format", "json"];
        let mut server = start(writer, &[MESSAGES_ONLY], &args);
        let mut raw = Raw::open(server.addr, "/");
        server.echo(&mut raw, 20_000);
        drop(raw);
        let reading = thread::spawn(|| lines(reader));
        thread::sleep(SHORT);
        server.stop_within(STOP_MAX);
        let lines = reading.join().unwrap();
        let mut notices = 0;
        for line in &lines {
            let object: serde_json::Value = serde_json::from_str(line).expect(line);
            notices += usize::from(object["level"] == "WARN");
        }
        assert_eq!(notices, 1);
        assert!(dropped(&lines) > 0);
    }

    #[test]
    fn memory_for_queued_lines_is_bounded_however_often_the_reader_stalls() {
        let (reader, writer) = io::pipe().unwrap();
        let server = start(writer, &[("RUST_LOG", "debug")], &["echo"]);
        let mut raw = Raw::open(server.addr, "/");
        server.echo(&mut raw, 100);
        let before = server.memory();
        let mut lines = BufReader::new(reader).lines();
        for _ in 0..5 {
            server.echo(&mut raw, 20_000);
            let more = server.memory().saturating_sub(before);
            assert!(more <= 300 * KIB, "{} KiB more", more / KIB);
            // Reads up to the report of dropped lines, and stalls again.
            while !lines.next().unwrap().unwrap().contains("dropped") {}
        }
    }

    #[test]
    fn a_stalled_reader_does_not_delay_an_exit_with_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let table: [(&[&str], i32); 4] = [
            (&["echo", "-l", &addr], 1),
            (&["connect", &format!("ws://{addr}/"), "-x", "a"], 1),
            (&["bench", "-d", "1", "ws://127.0.0.1:1/"], 1),
            (&["--colour"], 2),
        ];
        // The listener accepts no connection, so `connect` runs into its timeout.
        drop(taken.set_nonblocking(true));
        for (args, expected) in table {
            let args: Vec<&str> = match args[0] {
                "connect" => [args, &["--connect-timeout", "100ms"]].concat(),
                _ => args.to_vec(),
            };
            let (reader, writer) = full_pipe();
            assert_eq!(code_of(writer, &[], &args), Some(expected), "{args:?}");
            drop(reader);
        }
    }

    /// Any process that shares an open stderr can make it non-blocking for all of them.
    #[test]
    fn a_non_blocking_stderr_loses_no_line() {
        const MESSAGES: usize = 2_000;
        let (writer, reader) = mio::unix::pipe::new().unwrap();
        reader.set_nonblocking(false).unwrap();
        let mut server = start(OwnedFd::from(writer), &[MESSAGES_ONLY], &["echo"]);
        let mut raw = Raw::open(server.addr, "/");
        // More lines than a pipe holds, and fewer than the server queues.
        server.echo(&mut raw, MESSAGES);
        let worked = server.cpu_ticks();
        thread::sleep(Duration::from_millis(500));
        let worked = server.cpu_ticks() - worked;
        assert!(
            worked < 10,
            "{worked} hundredths of a second of CPU time while idle"
        );
        drop(raw);
        let reading =
            thread::spawn(|| BufReader::new(reader).lines().map_while(Result::ok).count());
        server.stop_within(STOP_MAX);
        assert_eq!(reading.join().unwrap(), MESSAGES);
    }
}

mod last_lines {
    use super::*;

    #[test]
    fn all_lines_are_written_before_the_process_ends() {
        const CLIENTS: usize = 200;
        for _ in 0..5 {
            let (reader, writer) = io::pipe().unwrap();
            let mut server = start(writer, &[], &["echo"]);
            let reading = thread::spawn(|| lines(reader));
            let clients: Vec<Client> = (0..CLIENTS).map(|_| connect(server.addr, "/")).collect();
            server.signal("TERM");
            for client in clients {
                assert_eq!(closed(client).0, 1001);
            }
            assert_eq!(code(&mut server.child), Some(0));
            let lines = reading.join().unwrap();
            let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
            assert_eq!(
                (count(" connected"), count(" disconnected")),
                (CLIENTS, CLIENTS)
            );
        }
    }

    /// Regression: a server that stopped within a second of a flood did not report the number of suppressed lines.
    #[test]
    fn lines_that_were_suppressed_in_the_last_second_are_counted_at_the_end() {
        const SESSIONS: usize = 3000;
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, &[], &["echo"]);
        let reading = thread::spawn(|| lines(reader));
        server.open_and_close(SESSIONS);
        server.stop_within(STOP_MAX);
        let lines = reading.join().unwrap();
        let shown = lines.iter().filter(|line| line.contains("connected"));
        let suppressed = lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once("] suppressed ")?;
            let (count, _) = rest.split_once(" connect/disconnect lines")?;
            count.parse::<usize>().ok()
        });
        assert_eq!(shown.count() + suppressed.sum::<usize>(), 2 * SESSIONS);
    }

    #[test]
    fn a_shutdown_waits_for_a_slow_reader_of_the_log() {
        let (reader, writer) = io::pipe().unwrap();
        let mut server = start(writer, &[MESSAGES_ONLY], &["echo"]);
        // More than the pipe holds, and less than the queue, so that no line is dropped even if the thread that writes them is
        // late.
        server.echo(&mut Raw::open(server.addr, "/"), 1_200);
        server.signal("TERM");
        thread::sleep(Duration::from_millis(300));
        let lines = lines(reader);
        assert_eq!((lines.len(), dropped(&lines)), (1_200, 0));
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        assert!(
            (70 << 10..120 << 10).contains(&bytes),
            "{bytes} B do not test it"
        );
        assert_eq!(code(&mut server.child), Some(0));
    }

    #[test]
    fn an_error_is_an_object_in_a_json_log_whatever_the_value_of_rust_log() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let (reader, writer) = io::pipe().unwrap();
        let args = ["echo", "-l", &addr, "--log-format", "json"];
        assert_eq!(code_of(writer, &[("RUST_LOG", "off")], &args), Some(1));
        let lines = lines(reader);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(object["level"], "ERROR");
        let message = object["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("cannot listen on {addr}: ")));
    }

    #[test]
    fn an_error_is_printed_after_all_lines_of_the_log() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        for _ in 0..20 {
            let (reader, writer) = io::pipe().unwrap();
            let variables = [("WSLOOP_NO_SUCH_FLAG", "1")];
            assert_eq!(code_of(writer, &variables, &["echo", "-l", &addr]), Some(1));
            let lines = lines(reader);
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].contains("WSLOOP_NO_SUCH_FLAG"), "{lines:?}");
            assert!(lines[1].starts_with("wsloop: "), "{lines:?}");
        }
    }
}

mod failing_stderr {
    use super::*;

    fn check_serving(mut server: Server) {
        server.open_and_close(300);
        let worked = server.cpu_ticks();
        thread::sleep(Duration::from_millis(500));
        let worked = server.cpu_ticks() - worked;
        assert!(
            worked < 10,
            "{worked} hundredths of a second of CPU time while idle"
        );
        server.stop_within(STOP_MAX);
    }

    #[test]
    fn the_server_survives_the_end_of_the_reader() {
        let (reader, writer) = io::pipe().unwrap();
        let server = start(writer, &[], &["echo"]);
        server.open_and_close(1);
        drop(reader);
        check_serving(server);
    }

    #[test]
    fn the_server_survives_the_end_of_the_reader_with_lines_queued() {
        let (reader, writer) = io::pipe().unwrap();
        let server = start(writer, &[("RUST_LOG", "debug")], &["echo"]);
        server.echo(&mut Raw::open(server.addr, "/"), 5_000);
        drop(reader);
        check_serving(server);
    }

    #[test]
    fn the_server_survives_a_full_device_as_stderr() {
        check_serving(start(full_device(), &[], &["echo"]));
    }

    #[test]
    fn the_server_survives_a_closed_stderr() {
        let mut command = Command::new("sh");
        let line = r#"exec "$0" echo -l 127.0.0.1:0 2>&-"#;
        command.args(["-c", line, WSLOOP]).env_remove("RUST_LOG");
        check_serving(announced(&mut command));
    }

    /// Regression: `eprintln!` panics if stderr cannot be written, and a panic aborts the process.
    #[test]
    fn the_exit_code_is_1_or_2_even_if_stderr_cannot_be_written() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let table: [(&[&str], i32); 5] = [
            (&["--colour"], 2),
            (&["serve", "--colour"], 2),
            (&["echo", "-l", &addr], 1),
            (&["bench", "-d", "1", "ws://127.0.0.1:1/"], 1),
            (&["connect", "-x", "a", "ws://127.0.0.1:1/"], 1),
        ];
        for (args, expected) in table {
            assert_eq!(
                code_of(full_device(), &[], args),
                Some(expected),
                "{args:?}"
            );
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            assert_eq!(code_of(writer, &[], args), Some(expected), "{args:?}");
            let mut command = Command::new("sh");
            command.args(["-c", r#"exec "$0" "$@" 2>&- >/dev/null"#, WSLOOP]);
            let mut child = command.args(args).stdin(Stdio::null()).spawn().unwrap();
            assert_eq!(code(&mut child), Some(expected), "{args:?}");
        }
    }

    /// env_logger reports an invalid filter with `eprintln!`, which can panic, so it must never get an invalid filter.
    #[test]
    fn an_invalid_rust_log_does_not_abort_and_is_not_passed_to_a_parser_that_prints() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        let args = ["echo", "-l", &addr];
        let filters = [
            "a=b=c",
            "a==",
            "=loud",
            "wsloop=loud",
            "wsloop=debug=",
            "wsloop= debug x",
            "info/a/b",
            "a=b=c/d/e",
            "//",
            "off,a=b=c",
        ];
        for filter in filters {
            let variables = [("RUST_LOG", filter)];
            assert_eq!(
                code_of(full_device(), &variables, &args),
                Some(1),
                "{filter}"
            );
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            assert_eq!(code_of(writer, &variables, &args), Some(1), "{filter}");
            let mut command = Command::new("sh");
            command.args(["-c", r#"exec "$0" "$@" 2>&- >/dev/null"#, WSLOOP]);
            command.args(args).envs(variables).stdin(Stdio::null());
            let mut child = command.spawn().unwrap();
            assert_eq!(code(&mut child), Some(1), "{filter}");
            let (reader, writer) = io::pipe().unwrap();
            assert_eq!(code_of(writer, &variables, &args), Some(1), "{filter}");
            let lines = lines(reader);
            let is_log = |line: &String| line.starts_with("[20") || line.starts_with("wsloop: ");
            assert!(lines.iter().all(is_log), "{filter}: {lines:?}");
        }
    }

    #[test]
    fn a_stdout_that_cannot_be_written_is_an_error_with_its_reason() {
        let table: [&[&str]; 3] = [&["echo", "-l", "127.0.0.1:0"], &["--help"], &["--version"]];
        for args in table {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut command = Command::new(WSLOOP);
            command.args(args).stdin(Stdio::null());
            let mut child = command
                .stdout(full_device())
                .stderr(writer)
                .spawn()
                .unwrap();
            drop(command);
            assert_eq!(code(&mut child), Some(1), "{args:?}");
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert!(
                text.starts_with("wsloop: cannot write "),
                "{args:?}: {text}"
            );
            assert!(
                text.contains("to stdout: No space left"),
                "{args:?}: {text}"
            );
        }
    }
}
