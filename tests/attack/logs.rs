//! Scenarios `stalled-log` (the log is a pipe that no process reads), `json-log` (rate, line length and characters of the
//! log under hostile input) and `closed-stderr` (exit codes if error messages cannot be written).

use crate::Attack;
use crate::child::{self, Server, Stderr};
use crate::connections;
use crate::report::Report;
use crate::wire;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `stalled-log`: no process reads the log pipe. The server must serve 2 000 connections, answer a further echo
/// within 200 ms, and exit with code 0 within 4 s of SIGTERM.
pub(crate) fn stalled(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let (mut server, _log) = Server::with_log(attack, &["serve", "--shutdown-grace", "2s"])?;
    let start = Instant::now();
    let mut served = 0;
    while served < 2_000 && short_connection(server.addr, "/echo", "bye").is_ok() {
        served += 1;
    }
    let took = start.elapsed().as_secs_f64();
    report.row(
        "2000 short connections",
        format!("{served} in {took:.1} s"),
        "2000",
        served == 2_000,
    );
    let start = Instant::now();
    let is_echoed = short_connection(server.addr, "/echo", "bye").is_ok();
    let wait = if is_echoed {
        start.elapsed()
    } else {
        Duration::from_secs(60)
    };
    report.time(
        "latency of an echo afterwards",
        wait,
        Duration::from_millis(200),
    );
    server.signal("TERM")?;
    let start = Instant::now();
    let status = server.wait_for_exit(Duration::from_secs(4))?;
    let measured = match status {
        Some(status) => format!("{status} after {:.1} s", start.elapsed().as_secs_f64()),
        None => "still running".to_owned(),
    };
    let is_ok = status.is_some_and(|status| status.success());
    report.row("SIGTERM", measured, "exit 0 in 4 s", is_ok);
    Ok(())
}

/// Opens a connection, exchanges one echo, closes with this reason, and reads until the server has ended the stream.
fn short_connection(addr: SocketAddr, path: &str, reason: &str) -> io::Result<()> {
    let mut stream = connections::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(&wire::request(path))?;
    if connections::status(&stream)? != 101 {
        return Err(io::Error::other("no 101"));
    }
    stream.write_all(&wire::text(20))?;
    stream.read_exact(&mut [0; 22])?;
    stream.write_all(&wire::close(1000, reason))?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Scenario `json-log`: peers with request targets of 15 800 bytes connect as often as they can, and others send close
/// reasons with control characters. Checks the log in both formats, JSON and text.
pub(crate) fn bounded(attack: &Attack, report: &mut Report) -> io::Result<()> {
    for format in ["json", "text"] {
        let (server, log) =
            Server::with_log(attack, &["serve", "-r", "/*=echo", "--log-format", format])?;
        let reader = child::read_all(log);
        let path = wire::path(0, 15_800);
        let request = wire::request(&path);
        let time = attack.pick(Duration::from_secs(4), Duration::from_millis(1_500));
        let (start, mut connects) = (Instant::now(), 0);
        while start.elapsed() < time {
            let streams = connections::open_each(server.addr, 100, |_| request.clone())?;
            connects += streams.len();
            connections::reset(streams)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        // Waits until the log's rate limit starts a new second, so that it does not suppress the following lines.
        thread::sleep(Duration::from_millis(1_200));
        for reason in HOSTILE {
            short_connection(server.addr, "/echo", reason)?;
        }
        thread::sleep(Duration::from_millis(200));
        drop(server);
        let log = reader.join().expect("the thread does not panic");
        check_log(
            report,
            format,
            &log,
            &format!(
                "{format}, {:.0} connects a second",
                connects as f64 / seconds
            ),
            seconds,
        );
    }
    Ok(())
}

fn check_log(report: &mut Report, format: &str, log: &[u8], title: &str, seconds: f64) {
    // The rate limit applies to each second of the session log. The first of these seconds begins with the first line,
    // each later one with the first line after the end of the second before. So a run of N seconds and a fraction can
    // have lines in N + 1 of them.
    let rate = log.len() as f64 / (seconds + 1.0) / 1_000.0;
    report.row(
        title,
        format!("{rate:.0} KB/s"),
        "<= 200 KB/s",
        rate <= 200.0,
    );
    let text = String::from_utf8_lossy(log);
    let longest = text.lines().map(str::len).max().unwrap_or(0);
    report.row(
        format!("{format}, longest line"),
        format!("{longest} B"),
        "<= 1100 B",
        longest <= 1_100,
    );
    let is_raw = |character: char| {
        character.is_control() && character != '\n'
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}')
    };
    let raw = text.chars().filter(|character| is_raw(*character)).count();
    report.row(
        format!("{format}, raw control characters"),
        raw,
        0,
        raw == 0,
    );
    // The close reasons must be in the log, with the control characters escaped.
    let has_reasons = text.contains("before");
    report.row(
        format!("{format}, the reasons are in the log"),
        has_reasons,
        true,
        has_reasons,
    );
    if format == "json" {
        let is_object = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.is_object())
        };
        let bad = text.lines().filter(|line| !is_object(line)).count();
        report.row("json, lines that are not an object", bad, 0, bad == 0);
    }
}

/// Close reasons with characters that a terminal or a line-based reader interprets.
const HOSTILE: [&str; 5] = [
    "before\u{9b}31mafter",
    "before\u{85}after",
    "before\u{202e}after",
    "before\u{2028}after",
    "before\u{1b}[2Jafter\r\n",
];

/// Scenario `closed-stderr`: if stderr cannot be written to, failing commands must still exit with their usual code, 1 or
/// 2, and must not be ended by a signal.
pub(crate) fn closed_stderr(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?.to_string();
    let url = format!("ws://127.0.0.1:{}/", free_port()?);
    let commands: [(&str, &[&str], i32); 4] = [
        ("a bad argument", &["serve", "--no-such-flag"], 2),
        ("an address in use", &["serve", "-l", &addr], 1),
        ("connect, refused", &["connect", "-x", "hi", &url], 1),
        (
            "bench, refused",
            &["bench", "-c", "1", "-d", "100ms", "--warmup", "0", &url],
            1,
        ),
    ];
    for (what, args, wanted) in commands {
        for (how, stderr) in [
            ("closed", Stderr::Closed),
            ("a full device", Stderr::Full),
            ("a pipe without a reader", Stderr::Broken),
        ] {
            let code = child::exit_code(attack, args, stderr)?;
            let measured = code.map_or("a signal".to_owned(), |code| format!("exit {code}"));
            report.row(
                format!("{what}, stderr {how}"),
                measured,
                format!("exit {wanted}"),
                code == Some(wanted),
            );
        }
    }
    Ok(())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
