//! Scenarios `stopped-*`: deadlines expire while the server process cannot run (stopped, or blocked on its log), although
//! the peer's input arrived in time. The server must process this input before it acts on expired deadlines.

use crate::Attack;
use crate::child::Server;
use crate::connections::{self, Drain};
use crate::report::Report;
use crate::wire::{self, FIN, PONG};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `stopped-handshakes`: complete requests arrive while the server is stopped for longer than its handshake
/// timeout. All must be answered with 101.
pub(crate) fn handshakes(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let (timeout, stop) = handshake_times(attack);
    let server = Server::start(attack, &["serve", "--handshake-timeout", timeout])?;
    let streams = connect_silent(&server, REQUESTS)?;
    server.signal("STOP")?;
    send_requests(&streams)?;
    thread::sleep(stop);
    server.signal("CONT")?;
    check_answers(
        report,
        &streams,
        &format!("stopped {:.1} s", stop.as_secs_f64()),
    );
    Ok(())
}

/// Scenario `stopped-log-reader`: like [`handshakes`], but the server gets no signal; its log pipe is not read for longer
/// than its handshake timeout. All requests must be answered with 101.
pub(crate) fn log_reader(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let (timeout, stop) = handshake_times(attack);
    let (server, log) = Server::with_log(attack, &["serve", "--handshake-timeout", timeout])?;
    let streams = connect_silent(&server, REQUESTS)?;
    send_requests(&streams)?;
    thread::sleep(stop);
    let reader = crate::child::read_all(log);
    check_answers(
        report,
        &streams,
        &format!("log not read for {:.1} s", stop.as_secs_f64()),
    );
    drop(server);
    reader.join().expect("the thread does not panic");
    Ok(())
}

fn handshake_times(attack: &Attack) -> (&'static str, Duration) {
    attack.pick(
        ("10s", Duration::from_millis(10_500)),
        ("3s", Duration::from_millis(3_500)),
    )
}

/// Opens connections that send nothing, and waits until the server has accepted them.
fn connect_silent(server: &Server, count: usize) -> io::Result<Vec<TcpStream>> {
    let streams: io::Result<Vec<_>> = (0..count)
        .map(|_| connections::connect(server.addr))
        .collect();
    server.wait_until_idle()?;
    streams
}

fn send_requests(streams: &[TcpStream]) -> io::Result<()> {
    streams
        .iter()
        .try_for_each(|mut stream| stream.write_all(&wire::request("/echo")))
}

fn check_answers(report: &mut Report, streams: &[TcpStream], title: &str) {
    let served = streams
        .iter()
        .filter(|stream| matches!(connections::status(stream), Ok(101)))
        .count();
    let count = streams.len();
    report.row(
        format!("{title}, {count} complete requests"),
        format!("{served} x 101"),
        format!("{count} x 101"),
        served == count,
    );
}

/// Scenario `stopped-idle`: a pong and a message arrive while the server is stopped. The idle timeout has expired when
/// the server continues. No connection may be closed with 1001.
pub(crate) fn idle(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let (timeout, stop) = attack.pick(
        ("10s", Duration::from_secs(7)),
        ("3s", Duration::from_millis(2_500)),
    );
    let server = Server::start(attack, &["serve", "--idle-timeout", timeout])?;
    let count = attack.pick(2_000, 500);
    let streams = connections::open_many(server.addr, count, "/echo")?;
    // The server sends an empty ping (2 bytes) when half of the idle timeout is over.
    for mut stream in &streams {
        stream.read_exact(&mut [0; 2])?;
    }
    server.signal("STOP")?;
    let answer = [wire::frame(FIN | PONG, b""), wire::text(20)].concat();
    streams
        .iter()
        .try_for_each(|mut stream| stream.write_all(&answer))?;
    thread::sleep(stop);
    server.signal("CONT")?;
    let is_echoed = |mut stream: &TcpStream| {
        let mut frame = [0; 22];
        // 0x81: a text frame, the echo. A Close has 0x88.
        stream.read_exact(&mut frame).is_ok() && frame[0] == 0x81
    };
    let echoed = streams.iter().filter(|stream| is_echoed(stream)).count();
    report.row(
        format!(
            "stopped {:.1} s with a pong and a message in the socket",
            stop.as_secs_f64()
        ),
        format!("{} x 1001", count - echoed),
        "0 x 1001",
        echoed == count,
    );
    Ok(())
}

/// Scenario `stopped-write`: while the server is stopped for longer than its write timeout, each peer reads what the
/// kernel has buffered (about 4 MB). The server must count this as progress and disconnect no peer.
pub(crate) fn write(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve", "--write-timeout", "3s"])?;
    let count = attack.pick(20, 5);
    let streams = connections::open_many(server.addr, count, "/echo")?;
    let message = wire::text(1_000_000);
    connections::fill(&streams, &message, 40 * message.len())?;
    // No peer has read since `fill` returned, so the write timeout is running.
    server.signal("STOP")?;
    let start = Instant::now();
    let mut taken = vec![0; count];
    while start.elapsed() < Duration::from_secs(4) {
        for (stream, taken) in streams.iter().zip(&mut taken) {
            *taken += read_available(stream).0;
        }
        thread::sleep(Duration::from_millis(10));
    }
    server.signal("CONT")?;
    // From here on the peers read everything. A peer that was disconnected sees a reset or the end of the stream.
    let drain = Drain::start(streams);
    let least = taken.iter().min().copied().unwrap_or(0);
    let before = taken.iter().sum::<u64>();
    thread::sleep(attack.pick(Duration::from_secs(4), Duration::from_secs(2)));
    let more = drain.bytes();
    let streams = drain.stop()?;
    let cut = streams
        .iter()
        .filter(|stream| read_available(stream).1)
        .count();
    report.row(
        format!(
            "stopped 4.0 s, each of {count} read {:.1} MB",
            least as f64 / 1e6
        ),
        format!(
            "{cut} disconnected, {:.0} of {:.0} MB",
            more as f64 / 1e6,
            (before + more) as f64 / 1e6
        ),
        "0 disconnected",
        cut == 0,
    );
    Ok(())
}

/// Reads until the socket has no more input. Returns the number of bytes, and whether the stream has ended.
fn read_available(mut stream: &TcpStream) -> (u64, bool) {
    let mut buf = [0; 64 * 1024];
    let mut len = 0;
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return (len, true),
            Ok(more) => len += more as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (len, false),
            Err(_) => return (len, true),
        }
    }
}

/// Connections with a pending request: about three times as many as one poll of the server returns events (1 024).
const REQUESTS: usize = 3_000;
