//! Scenarios `tiny-frames` (latency under a flood of small frames), `unread-backlog` (input after a protocol violation)
//! and `terminated-kernel-memory` (unsent bytes in the kernel after the write timeout has disconnected peers).

use crate::Attack;
use crate::child::{Server, lower_priority};
use crate::connections::{self, Drain, IO_TIMEOUT};
use crate::report::{Report, megabytes};
use crate::victim::Victim;
use crate::wire::{self, CONTINUATION, FIN, PING, PONG, TEXT};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `tiny-frames`: 256 connections (128 with `--quick`) send small frames as fast as the server reads them, and
/// read all replies. The 99th percentile of the victim's latency must not exceed 100 ms.
pub(crate) fn tiny_frames(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let count = attack.pick(256, 128);
    let time = attack.pick(Duration::from_secs(6), Duration::from_millis(1_200));
    let kinds = [
        ("empty pongs", wire::frame(FIN | PONG, b"").repeat(10_000)),
        ("empty pings", wire::frame(FIN | PING, b"").repeat(10_000)),
        ("1 B fragments", fragments(10_000)),
        ("fragment and ping", fragment_and_ping(5_000)),
        ("2 B texts", wire::text(2).repeat(10_000)),
    ];
    for (what, block) in kinds {
        let server = Server::start(attack, &["serve"])?;
        let streams = connections::open_many(server.addr, count, "/echo")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let flooding = thread::spawn(move || {
            lower_priority();
            flood(&streams, &block, &until)
        });
        let victim = Victim::start(&server)?;
        thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        let bytes = flooding.join().expect("the thread does not panic")?;
        let waits = victim.stop()?;
        let title = format!(
            "{count} x {what}, {:.0} MB/s",
            bytes as f64 / 1e6 / time.as_secs_f64()
        );
        report.note(format!("{title}, victim"), &waits);
        report.time(
            format!("{title}, victim p99"),
            waits.percentile(99),
            Duration::from_millis(100),
        );
    }
    Ok(())
}

/// Returns a text message of `count` fragments of one byte.
fn fragments(count: usize) -> Vec<u8> {
    let middle = wire::frame(CONTINUATION, b"x").repeat(count - 2);
    [
        wire::frame(TEXT, b"x"),
        middle,
        wire::frame(FIN | CONTINUATION, b"x"),
    ]
    .concat()
}

/// Returns a text message of `count` fragments of one byte, with a ping after each fragment but the last.
fn fragment_and_ping(count: usize) -> Vec<u8> {
    let ping = wire::frame(FIN | PING, b"");
    let middle = [wire::frame(CONTINUATION, b"x"), ping.clone()]
        .concat()
        .repeat(count - 2);
    [
        wire::frame(TEXT, b"x"),
        ping,
        middle,
        wire::frame(FIN | CONTINUATION, b"x"),
    ]
    .concat()
}

/// Writes copies of `block` to all connections and reads their input until `is_over` is set. Returns the number of bytes
/// written.
fn flood(streams: &[TcpStream], block: &[u8], is_over: &AtomicBool) -> io::Result<u64> {
    streams
        .iter()
        .try_for_each(|stream| stream.set_nonblocking(true))?;
    let mut sent = vec![0; streams.len()];
    let mut buf = vec![0; 64 * 1024];
    while !is_over.load(Ordering::Relaxed) {
        let mut is_idle = true;
        for (mut stream, sent) in streams.iter().zip(&mut sent) {
            if let Ok(1..) = stream.read(&mut buf) {
                is_idle = false;
            }
            let begin = *sent % block.len();
            match stream.write(&block[begin..block.len().min(begin + 32 * 1024)]) {
                Ok(len) => {
                    *sent += len;
                    is_idle = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if is_idle {
            thread::sleep(Duration::from_micros(500));
        }
    }
    Ok(sent.iter().map(|sent| *sent as u64).sum())
}

/// Scenario `unread-backlog`: a peer that does not read violates the protocol and continues to send. The server
/// must not read more than 64 MB from it within 5 s.
pub(crate) fn unread_backlog(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve", "--metrics", "/metrics"])?;
    let stream = connections::open_narrow(server.addr, 1, "/echo")?.remove(0);
    // Sends messages until the server has unsent bytes that its socket does not accept. They must stay below the
    // high-water mark, above which the server would stop reading.
    let message = wire::text(200_000);
    for _ in 0..100 {
        (&stream).write_all(&message)?;
        server.wait_until_idle()?;
        if backlog(server.addr)? > 0 {
            break;
        }
    }
    let backlog = backlog(server.addr)?;
    // RFC 6455 section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    (&stream).write_all(&[FIN | TEXT, 1, b'x'])?;
    let block = wire::text(1024).repeat(512);
    stream.set_nonblocking(true)?;
    let (start, mut taken) = (Instant::now(), 0_u64);
    let mut is_cut = false;
    while start.elapsed() < Duration::from_secs(5) && taken < TAKEN_MAX && !is_cut {
        match (&stream).write(&block) {
            Ok(len) => taken += len as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(_) => is_cut = true,
        }
    }
    let how = if is_cut {
        "disconnected"
    } else {
        "not disconnected"
    };
    let title = format!(
        "violation with {backlog} B unsent, {how} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    report.row(
        title,
        format!("reads {}", megabytes(taken)),
        "<= 64 MB",
        taken <= 64_000_000,
    );
    Ok(())
}

/// Returns `wsloop_backlog_bytes` from the server's metrics: the sum of unsent bytes.
fn backlog(addr: SocketAddr) -> io::Result<u64> {
    let mut stream = connections::connect(addr)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("wsloop_backlog_bytes "));
    line.and_then(|bytes| bytes.parse().ok())
        .ok_or_else(|| io::Error::other("no wsloop_backlog_bytes in the metrics"))
}

/// Scenario `terminated-kernel-memory`: the write timeout disconnects members that do not read. Two seconds later no
/// socket may hold unsent bytes in the kernel. The server has read all that the members sent; with unread input, the
/// kernel would reset the connections by itself.
pub(crate) fn kernel_memory(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let args = [
        "serve",
        "-r",
        "/chat=broadcast",
        "--write-timeout",
        "2s",
        "--lag-bytes-max",
        "64M",
    ];
    let server = Server::start(attack, &args)?;
    let idle = server.descriptors()?;
    let count = attack.pick(150, 40);
    let members = connections::open_many(server.addr, count, "/chat")?;
    let publisher = connections::open(server.addr, "/chat")?;
    let drain = Drain::start(vec![publisher.try_clone()?]);
    let message = wire::text(1_000_000);
    connections::fill(&[publisher], &message, 6 * message.len())?;
    drain.wait_for(6 * wire::server_frame_len(1_000_000) as u64, IO_TIMEOUT);
    connections::reset(drain.stop()?)?;
    let (sockets, before) = server.unsent()?;
    report.note(
        format!("{count} peers, {sockets} sockets with unsent bytes before"),
        megabytes(before),
    );
    let start = Instant::now();
    while server.descriptors()? > idle && start.elapsed() < IO_TIMEOUT {
        thread::sleep(Duration::from_millis(20));
    }
    let open = server.descriptors()?.saturating_sub(idle);
    report.row(
        "disconnected by the write timeout",
        count.saturating_sub(open),
        count,
        open == 0,
    );
    thread::sleep(Duration::from_secs(2));
    let (sockets, bytes) = server.unsent()?;
    report.row(
        format!("{sockets} sockets with unsent bytes 2 s later"),
        megabytes(bytes),
        "0.0 MB",
        sockets == 0,
    );
    connections::reset(members)
}

/// Maximum bytes sent in `unread_backlog`, for a server that never stops reading.
const TAKEN_MAX: u64 = 2_000_000_000;
