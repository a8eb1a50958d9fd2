//! Scenario `slow-feed`: how old are the messages of a feed when a client reads them that is slower than the feed?

use crate::Attack;
use crate::child::Server;
use crate::connections::{self, Drain};
use crate::report::Report;
use crate::wire;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `slow-feed`: 100 messages of 100 bytes per second are published with `--lag skip`, to a member that reads
/// 1 000 bytes per second. Without a limit, the kernel accepts all messages, and the member reads them ever later. With a
/// limit of 512 unsent bytes, the newest message that the member reads must be at most 2 s old.
pub(crate) fn slow_reader(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let time = attack.pick(Duration::from_secs(75), Duration::from_secs(10));
    let limits = ["off", "64K", "16K", "4K", "1K", "512"];
    let servers = limits.map(|limit| {
        let mut args = vec!["serve", "-r", "/feed=broadcast"];
        args.extend(["--lag", "skip", "--lag-bytes-max", "1"]);
        args.extend(["--kernel-unsent-bytes-max", limit]);
        Server::start(attack, &args)
    });
    let servers = servers.into_iter().collect::<io::Result<Vec<_>>>()?;
    // At the same time, because each takes only a few ms of processor time.
    let readings = thread::scope(|scope| {
        let feeds: Vec<_> = servers
            .iter()
            .map(|server| scope.spawn(|| feed(server, time)))
            .collect();
        feeds
            .into_iter()
            .map(|feed| feed.join().expect("the thread does not panic"))
            .collect::<io::Result<Vec<_>>>()
    })?;
    for (limit, reading) in limits.iter().zip(readings) {
        let is_small = limit.parse::<u32>().is_ok();
        let age_max = Duration::from_secs(2);
        report.row(
            format!("1 KB/s of 10 KB/s for {time:?}, limit {limit}, age at the end"),
            format!(
                "{:.1} s (max {:.1} s), {} of {} read",
                reading.last.as_secs_f64(),
                reading.late_max.as_secs_f64(),
                reading.count,
                time.as_millis() / PERIOD.as_millis(),
            ),
            if is_small { "<= 2 s" } else { "-" },
            !is_small || reading.last <= age_max,
        );
    }
    Ok(())
}

/// What a member has read.
struct Reading {
    /// Age of the last message when it was read.
    last: Duration,
    /// Maximum age of the messages that were read in the second half of the time.
    late_max: Duration,
    /// Number of messages.
    count: usize,
}

/// Publishes for `time`, and returns what the slow member has read meanwhile.
fn feed(server: &Server, time: Duration) -> io::Result<Reading> {
    let member = connections::open_narrowest(server.addr, "/feed")?;
    let publisher = connections::open(server.addr, "/feed")?;
    // The publisher is a member, too.
    let drain = Drain::start(vec![publisher.try_clone()?]);
    let start = Instant::now();
    let reading = thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&publisher, start, time));
        let reading = read_slowly(&member, start, time);
        publishing.join().expect("the thread does not panic")?;
        reading
    });
    drain.stop()?;
    reading
}

/// Publishes a message every [`PERIOD`]. Each contains its time in microseconds since `start`.
fn publish(mut publisher: &TcpStream, start: Instant, time: Duration) -> io::Result<()> {
    let mut due = Duration::ZERO;
    while due < time {
        thread::sleep(due.saturating_sub(start.elapsed()));
        let payload = format!("{:0>MESSAGE_BYTES$}", start.elapsed().as_micros());
        publisher.write_all(&wire::frame(wire::FIN | wire::TEXT, payload.as_bytes()))?;
        due += PERIOD;
    }
    Ok(())
}

/// Reads [`BYTES_PER_SECOND`] for `time`.
fn read_slowly(mut member: &TcpStream, start: Instant, time: Duration) -> io::Result<Reading> {
    let mut reading = Reading {
        last: Duration::ZERO,
        late_max: Duration::ZERO,
        count: 0,
    };
    let frame_len = wire::server_frame_len(MESSAGE_BYTES);
    let mut bytes = Vec::new();
    let mut total = 0;
    loop {
        let due = Duration::from_micros(total * 1_000_000 / BYTES_PER_SECOND);
        if due >= time {
            return Ok(reading);
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        let mut piece = [0; 100];
        let len = member.read(&mut piece)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        total += len as u64;
        bytes.extend_from_slice(&piece[..len]);
        while bytes.len() >= frame_len {
            let payload = bytes[frame_len - MESSAGE_BYTES..frame_len].to_vec();
            bytes.drain(..frame_len);
            let sent = String::from_utf8(payload)
                .ok()
                .and_then(|payload| payload.parse().ok())
                .ok_or_else(|| io::Error::other("a message was damaged"))?;
            reading.count += 1;
            reading.last = start.elapsed().saturating_sub(Duration::from_micros(sent));
            if start.elapsed() > time / 2 {
                reading.late_max = reading.late_max.max(reading.last);
            }
        }
    }
}

/// Bytes of a published message.
const MESSAGE_BYTES: usize = 100;

/// Time between two publications.
const PERIOD: Duration = Duration::from_millis(10);

const BYTES_PER_SECOND: u64 = 1_000;
