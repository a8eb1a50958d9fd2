//! Floods: tiny frames (A11), input behind a violation (A12), and what is left in the kernel of peers that were cut
//! off (A8).

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

/// As many frames a second as the server takes, on 256 connections that read what they are sent.
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

/// A text message of so many fragments of one byte.
fn fragments(count: usize) -> Vec<u8> {
    let middle = wire::frame(CONTINUATION, b"x").repeat(count - 2);
    [
        wire::frame(TEXT, b"x"),
        middle,
        wire::frame(FIN | CONTINUATION, b"x"),
    ]
    .concat()
}

/// The same with a ping behind each fragment.
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

/// Writes the block again and again to all connections and reads what they are sent, until it is over; how many bytes
/// were written.
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

/// A peer that does not read breaks a rule, and goes on sending.
pub(crate) fn unread_backlog(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve", "--metrics", "/metrics"])?;
    let stream = connections::open_narrow(server.addr, 1, "/echo")?.remove(0);
    // Until the server has something that the socket does not take, and less than would make it stop reading.
    let message = wire::text(200_000);
    for _ in 0..100 {
        (&stream).write_all(&message)?;
        server.wait_until_idle()?;
        if backlog(server.addr)? > 0 {
            break;
        }
    }
    let backlog = backlog(server.addr)?;
    // A server must not be sent a frame without a mask.
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
    let how = if is_cut { "cut" } else { "not cut" };
    let title = format!(
        "violation behind {backlog} B, {how} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    report.row(
        title,
        format!("takes {}", megabytes(taken)),
        "<= 64 MB",
        taken <= 64_000_000,
    );
    Ok(())
}

/// The bytes that the server's metrics count as unsent.
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

/// Members that do not read are cut off by the write timeout. The server has read all that they sent: otherwise the
/// kernel resets the connection anyway.
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
        format!("{count} peers, before: {sockets} sockets"),
        megabytes(before),
    );
    let start = Instant::now();
    while server.descriptors()? > idle && start.elapsed() < IO_TIMEOUT {
        thread::sleep(Duration::from_millis(20));
    }
    let open = server.descriptors()?.saturating_sub(idle);
    report.row(
        "cut off by the write timeout",
        count.saturating_sub(open),
        count,
        open == 0,
    );
    thread::sleep(Duration::from_secs(2));
    let (sockets, bytes) = server.unsent()?;
    report.row(
        format!("{sockets} sockets unsent 2 s later"),
        megabytes(bytes),
        "0.0 MB",
        sockets == 0,
    );
    connections::reset(members)
}

/// What is sent to a server that takes everything.
const TAKEN_MAX: u64 = 2_000_000_000;
