//! Memory that does not come back: messages and request heads that are cut (A1).

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

/// With no connection open.
pub(crate) const ALL_GONE_MAX: u64 = 6_000_000;

/// With one connection open.
pub(crate) const ONE_LEFT_MAX: u64 = 8_000_000;

/// Sizes on both sides of every threshold that an allocator or the server may have.
const MESSAGE_SIZES: [usize; 12] = [
    100, 900, 1_500, 4_000, 5_000, 16_000, 31_000, 33_000, 70_000, 100_000, 130_000, 140_000,
];

const HEAD_SIZES: [usize; 5] = [100, 1_000, 3_900, 4_100, 15_000];

/// Messages of which only the first bytes arrive, on connections that are reset.
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
    // The case of the table, without a survivor in between.
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
    // Fragments: the message is assembled.
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
    // What is left pins pages of every allocator; nothing is demanded.
    let server = Server::start(attack, &["serve"])?;
    let streams = connections::open_many(server.addr, count, "/echo")?;
    send_incomplete(&streams, size)?;
    server.wait_until_idle()?;
    let (left, closed): (Vec<_>, Vec<_>) =
        (0..).zip(streams).partition(|(number, _)| number % 16 == 0);
    connections::reset(closed.into_iter().map(|(_, stream)| stream))?;
    server.wait_until_idle()?;
    let title = format!(
        "{count} x {size} B, {} left with {}",
        left.len(),
        megabytes((left.len() * size) as u64)
    );
    let after = [1, 9].map(|seconds| {
        thread::sleep(attack.pick(Duration::from_secs(seconds), Duration::ZERO));
        server.resident().map_or("?".to_owned(), megabytes)
    });
    report.note(title, after.join(" .. "));
    Ok(())
}

/// Large cut messages after 6 000 ordinary connections, all but one gone.
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

/// Request heads of which only the first bytes arrive.
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

/// How many connections send `size` bytes each: 500 MB together at most.
fn connection_count(attack: &Attack, size: usize) -> usize {
    let bytes_max = attack.pick(500_000_000, 60_000_000);
    attack
        .pick(15_000, 2_000)
        .min(bytes_max / size)
        .min(attack.connections_max)
}

/// Sends the first `size` bytes of a message of 1 MiB.
fn send_incomplete(streams: &[TcpStream], size: usize) -> io::Result<()> {
    let mut bytes = wire::header(FIN | BINARY, 1024 * 1024);
    bytes.resize(bytes.len() + size, b'x');
    streams
        .iter()
        .try_for_each(|mut stream| stream.write_all(&bytes))
}

/// Sends `size` bytes of a message in ten fragments, and not its last.
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

/// What the server did before.
#[derive(Clone, Copy)]
enum Age {
    Fresh,
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

/// Resets all connections but the last, then the last, and adds a row for each.
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

/// Adds a row with the resident set once it is no larger than wanted, or after 10 s.
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
