//! Scenarios `skip-slow-members`, `large-publication` and `join-leave`: the latency of other clients while a topic has
//! members that do not read, publications of megabytes, or many joins and leaves.

use crate::Attack;
use crate::child::{Server, lower_priority};
use crate::connections::{self, Drain, IO_TIMEOUT};
use crate::report::{Report, millis};
use crate::victim::Victim;
use crate::wire;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `skip-slow-members`: a client publishes at full speed to 1 000 members that never read, with `--lag skip`.
/// The victim's maximum latency must not exceed 300 ms.
pub(crate) fn skip_slow_members(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let args = [
        "serve",
        "-r",
        "/chat=broadcast",
        "-r",
        "/echo=echo",
        "--lag",
        "skip",
    ];
    let server = Server::start(attack, &args)?;
    let count = 1_000;
    let bytes = attack.pick(56_000_000, 36_000_000);
    let members = connections::open_narrow(server.addr, count, "/chat")?;
    let publisher = connections::open(server.addr, "/chat")?;
    let drain = Drain::start(vec![publisher.try_clone()?]);
    let victim = Victim::start(&server)?;
    let block = wire::text(1).repeat(8 * 1024);
    let start = Instant::now();
    let sent = thread::spawn(move || {
        lower_priority();
        publish_for(&publisher, &block, bytes, Duration::from_secs(25))
    })
    .join()
    .expect("the thread does not panic")?;
    let seconds = start.elapsed().as_secs_f64();
    let waits = victim.stop()?;
    drain.stop()?;
    let title = format!(
        "{count} members, {:.0} MB of 1 B in {seconds:.0} s",
        sent as f64 / 1e6
    );
    report.note(format!("{title}, victim"), &waits);
    report.time(
        format!("{title}, victim max"),
        waits.max(),
        Duration::from_millis(300),
    );
    connections::reset(members)
}

/// Writes copies of `block` for up to `time`, until `bytes` bytes are written or exceeded. Returns the number of bytes
/// written.
fn publish_for(
    mut stream: &TcpStream,
    block: &[u8],
    bytes: usize,
    time: Duration,
) -> io::Result<usize> {
    let start = Instant::now();
    let mut sent = 0;
    while sent < bytes && start.elapsed() < time {
        match stream.write(&block[sent % block.len()..]) {
            Ok(len) => sent += len,
            // `Drain` has a copy of this descriptor, and has made the socket non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_micros(500));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Scenario `large-publication`: one large message to the members of a topic, which all read or all do not. The
/// victim's maximum latency must not exceed 60 ms.
pub(crate) fn large_publication(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let full = [
        (500, 900_000),
        (500, 1_100_000),
        (500, 16_000_000),
        (2_000, 900_000),
        (2_000, 1_100_000),
    ];
    let quick = [(200, 900_000), (200, 1_100_000), (50, 16_000_000)];
    for &(members, bytes) in attack.pick(&full[..], &quick[..]) {
        for is_read in [true, false] {
            publish_large(attack, report, members, bytes, is_read)?;
        }
    }
    Ok(())
}

fn publish_large(
    attack: &Attack,
    report: &mut Report,
    count: usize,
    bytes: usize,
    is_read: bool,
) -> io::Result<()> {
    let args = [
        "serve",
        "-r",
        "/chat=broadcast",
        "-r",
        "/echo=echo",
        "--lag-bytes-max",
        "64M",
    ];
    let server = Server::start(attack, &args)?;
    let members = if is_read {
        connections::open_many(server.addr, count, "/chat")?
    } else {
        connections::open_narrow(server.addr, count, "/chat")?
    };
    let publisher = connections::open(server.addr, "/chat")?;
    let victim = Victim::start(&server)?;
    thread::sleep(Duration::from_millis(200));
    let mut streams = vec![publisher.try_clone()?];
    let unread = if is_read {
        streams.extend(members);
        Vec::new()
    } else {
        members
    };
    let readers = streams.len() as u64;
    let drain = Drain::start(streams);
    let message = wire::text(bytes);
    let start = Instant::now();
    publish_for(&publisher, &message, message.len(), IO_TIMEOUT)?;
    let expected = readers * wire::server_frame_len(bytes) as u64;
    let has_all = drain.wait_for(expected, Duration::from_secs(60));
    let delivered = start.elapsed().as_secs_f64();
    thread::sleep(Duration::from_millis(300));
    let waits = victim.stop()?;
    let streams = drain.stop()?;
    let how = if is_read {
        "that read"
    } else {
        "that do not read"
    };
    let title = format!("{:.1} MB to {count} {how}", bytes as f64 / 1e6);
    let raw = millis(waits.raw_max());
    let title = format!("{title}, {delivered:.1} s, victim max (raw {raw})");
    report.time(&title, waits.max(), Duration::from_millis(60));
    if !has_all {
        report.row(format!("{title}, delivered"), "not all", "all", false);
    }
    connections::reset(unread)?;
    connections::reset(streams)
}

/// Scenario `join-leave`: a client publishes every 20 ms to 4 000 members (1 500 with `--quick`), first without, then
/// with joins and leaves of other members. In the second case the 99th percentile of the victim's latency must not
/// exceed 20 ms. In both, all publications must arrive.
pub(crate) fn join_leave(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let count = attack.pick(4_000, 1_500).min(attack.connections_max);
    let time = attack.pick(Duration::from_secs(8), Duration::from_millis(2_500));
    for (is_joining, max) in [(false, None), (true, Some(Duration::from_millis(20)))] {
        let args = ["serve", "-r", "/chat=broadcast", "-r", "/echo=echo"];
        let server = Server::start(attack, &args)?;
        let members = connections::open_many(server.addr, count, "/chat")?;
        let publisher = connections::open(server.addr, "/chat")?;
        let drain = Drain::start(members);
        let own = Drain::start(vec![publisher.try_clone()?]);
        let victim = Victim::start(&server)?;
        let until = Instant::now() + time;
        let joining = is_joining.then(|| {
            let addr = server.addr;
            thread::spawn(move || join_and_leave(addr, until))
        });
        // Does not wait until all members have received the previous publication.
        let mut published = 0;
        while Instant::now() < until {
            publish_for(&publisher, &wire::text(20), 26, IO_TIMEOUT)?;
            published += 1;
            thread::sleep(Duration::from_millis(20));
        }
        let changes = joining.map_or(Ok(0), |thread| {
            thread.join().expect("the thread does not panic")
        })?;
        let has_all = drain.wait_for(published * count as u64 * 22, IO_TIMEOUT);
        let waits = victim.stop()?;
        let title = format!("{count} members, {changes} joins and leaves");
        report.note(format!("{title}, victim"), &waits);
        if let Some(max) = max {
            report.time(format!("{title}, victim p99"), waits.percentile(99), max);
        }
        report.row(format!("{title}, delivered"), has_all, true, has_all);
        connections::reset(drain.stop()?)?;
        connections::reset(own.stop()?)?;
    }
    Ok(())
}

/// Joins the topic with many connections and resets all at once, repeatedly until `until`. Returns the number of joins.
fn join_and_leave(addr: std::net::SocketAddr, until: Instant) -> io::Result<usize> {
    lower_priority();
    let mut changes = 0;
    while Instant::now() < until {
        let members = connections::open_many(addr, JOINING, "/chat")?;
        changes += members.len();
        connections::reset(members)?;
    }
    Ok(changes)
}

/// Number of connections that join and leave together.
const JOINING: usize = 4_000;
