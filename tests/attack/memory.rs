//! Scenarios `memory-cut-messages`, `memory-aged` and `memory-heads`: the server must return memory to the system after
//! connections with incomplete messages or request heads are gone.

use crate::Attack;
use crate::child::Server;
use crate::connections;
use crate::report::{Report, megabytes};
use crate::wire::{self, BINARY, CONTINUATION, FIN, TEXT};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Maximum resident bytes of the server with no connection open.
pub(crate) const ALL_GONE_MAX: u64 = 6_000_000;

/// Maximum resident bytes of the server with one connection open.
pub(crate) const ONE_LEFT_MAX: u64 = 8_000_000;

/// Bytes received of each message: sizes below and above each threshold that an allocator or the server may have.
const MESSAGE_SIZES: [usize; 12] = [
    100, 900, 1_500, 4_000, 5_000, 16_000, 31_000, 33_000, 70_000, 100_000, 130_000, 140_000,
];

/// Bytes received of each request head.
const HEAD_SIZES: [usize; 5] = [100, 1_000, 3_900, 4_100, 15_000];

/// Scenario `memory-cut-messages`: connections send the first bytes of a message and are reset.
pub(crate) fn cut_messages(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let sizes = attack.pick(&MESSAGE_SIZES[..], &[900, 31_000, 33_000, 140_000]);
    for &size in sizes {
        let count = connection_count(attack, size);
        for age in [Age::Fresh, Age::Aged] {
            let title = format!("{count} x {size} B, {}", age.name());
            let server = Server::start(attack, &["serve"])?;
            age.prepare(attack, &server)?;
            let streams = connections::open_many(server.addr, count, "/echo")?;
            send_incomplete(&streams, size)?;
            reset_and_measure(attack, report, &server, streams, &title)?;
        }
    }
    let (count, size) = (connection_count(attack, 31_000), 31_000);
    // All connections are reset at once, without a measurement while one is still open.
    let server = Server::start(attack, &["serve"])?;
    let streams = connections::open_many(server.addr, count, "/echo")?;
    send_incomplete(&streams, size)?;
    server.wait_until_idle()?;
    connections::reset(streams)?;
    measure_resident(
        attack,
        report,
        &server,
        format!("{count} x {size} B, all reset at once"),
        ALL_GONE_MAX,
    )?;
    // The same bytes in fragments, which the server assembles.
    let server = Server::start(attack, &["serve"])?;
    let streams = connections::open_many(server.addr, count, "/echo")?;
    send_incomplete_fragments(&streams, size)?;
    reset_and_measure(
        attack,
        report,
        &server,
        streams,
        &format!("{count} x {size} B in 10 fragments"),
    )?;
    // Every 16th connection stays open. If its buffer shared pages with others, the allocator would retain those pages.
    let server = Server::start(attack, &["serve"])?;
    let streams = connections::open_many(server.addr, count, "/echo")?;
    send_incomplete(&streams, size)?;
    server.wait_until_idle()?;
    let (left, closed): (Vec<_>, Vec<_>) =
        (0..).zip(streams).partition(|(number, _)| number % 16 == 0);
    connections::reset(closed.into_iter().map(|(_, stream)| stream))?;
    let held = (left.len() * size) as u64;
    measure_resident(
        attack,
        report,
        &server,
        format!(
            "{count} x {size} B, {} left with {}",
            left.len(),
            megabytes(held)
        ),
        ALL_GONE_MAX + 2 * held,
    )?;
    Ok(())
}

/// Scenario `memory-aged`: incomplete messages of 100 000 bytes, sent to a server that has served 6 000 connections.
pub(crate) fn aged(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve"])?;
    Age::Aged.prepare(attack, &server)?;
    let count = attack.pick(2_000, 1_000);
    let streams = connections::open_many(server.addr, count, "/echo")?;
    send_incomplete(&streams, 100_000)?;
    reset_and_measure(
        attack,
        report,
        &server,
        streams,
        &format!("{count} x 100000 B, aged"),
    )
}

/// Scenario `memory-heads`: connections send the first bytes of a request and are reset.
pub(crate) fn heads(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let sizes = attack.pick(&HEAD_SIZES[..], &[3_900, 4_100]);
    let count = attack.pick(4_000, 2_000).min(attack.connections_max);
    for &size in sizes {
        for age in [Age::Fresh, Age::Aged] {
            let title = format!("{count} x {size} B, {}", age.name());
            let server = Server::start(attack, &["serve", "--handshake-timeout", "60s"])?;
            age.prepare(attack, &server)?;
            let head = wire::incomplete_request(size);
            let mut streams = Vec::with_capacity(count);
            for _ in 0..count {
                let stream = connections::connect(server.addr)?;
                (&stream).write_all(&head)?;
                streams.push(stream);
            }
            reset_and_measure(attack, report, &server, streams, &title)?;
        }
    }
    Ok(())
}

/// Returns the number of connections that send `size` bytes each: at most 500 MB in total (60 MB with `--quick`).
fn connection_count(attack: &Attack, size: usize) -> usize {
    let bytes_max = attack.pick(500_000_000, 60_000_000);
    attack
        .pick(15_000, 2_000)
        .min(bytes_max / size)
        .min(attack.connections_max)
}

/// Sends the first `size` payload bytes of a message of 1 MiB on each connection.
fn send_incomplete(streams: &[TcpStream], size: usize) -> io::Result<()> {
    let mut bytes = wire::header(FIN | BINARY, 1024 * 1024);
    bytes.resize(bytes.len() + size, b'x');
    streams
        .iter()
        .try_for_each(|mut stream| stream.write_all(&bytes))
}

/// Sends `size` payload bytes in ten fragments on each connection, without the final fragment.
fn send_incomplete_fragments(streams: &[TcpStream], size: usize) -> io::Result<()> {
    let fragment = vec![b'x'; size / 10];
    let fragments = (0..10).map(|number| match number {
        0 => wire::frame(TEXT, &fragment),
        _ => wire::frame(CONTINUATION, &fragment),
    });
    let bytes = fragments.collect::<Vec<_>>().concat();
    streams
        .iter()
        .try_for_each(|mut stream| stream.write_all(&bytes))
}

/// The server's history before the attack.
#[derive(Clone, Copy)]
enum Age {
    /// No connections.
    Fresh,
    /// 6 000 connections that were opened, echoed a message and were closed.
    Aged,
}

impl Age {
    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Aged => "aged",
        }
    }

    fn prepare(self, attack: &Attack, server: &Server) -> io::Result<()> {
        match self {
            Self::Fresh => Ok(()),
            Self::Aged => {
                connections::echo_and_close(server.addr, 6_000.min(attack.connections_max))?;
                server.wait_until_idle()
            }
        }
    }
}

/// Resets all connections but the last and adds a row with the resident set, then does the same for the last one.
pub(crate) fn reset_and_measure(
    attack: &Attack,
    report: &mut Report,
    server: &Server,
    mut streams: Vec<TcpStream>,
    title: &str,
) -> io::Result<()> {
    server.wait_until_idle()?;
    let last = streams.pop();
    connections::reset(streams)?;
    measure_resident(
        attack,
        report,
        server,
        format!("{title}, one left"),
        ONE_LEFT_MAX,
    )?;
    connections::reset(last)?;
    measure_resident(
        attack,
        report,
        server,
        format!("{title}, all gone"),
        ALL_GONE_MAX,
    )
}

/// Adds a row with the resident set: as soon as it is at most `max`, or after 10 s (4 s with `--quick`). With
/// `--patient`, adds the values after 1 s and after 10 s, and compares the latter with `max`.
pub(crate) fn measure_resident(
    attack: &Attack,
    report: &mut Report,
    server: &Server,
    title: impl Display,
    max: u64,
) -> io::Result<()> {
    let start = Instant::now();
    let wanted = format!("<= {} MB", max / 1_000_000);
    if attack.is_patient {
        let after = |seconds| {
            thread::sleep(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
            server.resident()
        };
        let (soon, late) = (after(1)?, after(10)?);
        let measured = format!("{} .. {}", megabytes(soon), megabytes(late));
        report.row(title, measured, wanted, late <= max);
        return Ok(());
    }
    let time_max = attack.pick(Duration::from_secs(10), Duration::from_secs(4));
    let mut resident = server.resident()?;
    while resident > max && start.elapsed() < time_max {
        thread::sleep(Duration::from_millis(50));
        resident = server.resident()?;
    }
    let measured = format!(
        "{} after {:.1} s",
        megabytes(resident),
        start.elapsed().as_secs_f64()
    );
    report.row(title, measured, wanted, resident <= max);
    Ok(())
}
