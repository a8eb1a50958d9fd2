//! Scenarios `memory-queues` (the server must return the memory of outbound queues and topic logs) and `memory-paths`
//! (memory per idle connection must not depend on the length of its path).

use crate::Attack;
use crate::child::Server;
use crate::connections::{self, Drain};
use crate::memory::reset_and_measure;
use crate::report::{Report, megabytes};
use crate::wire;
use std::io::{self, Write};
use std::time::Duration;

/// Scenario `memory-queues`: echo clients that do not read their echoes, and topic members that do not read
/// publications. Both then reset their connections.
pub(crate) fn outbound(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let sizes = attack.pick(&[20, 1024, 30_000, 200_000][..], &[20, 30_000]);
    for &size in sizes {
        // Small messages cost processor time rather than memory, so fewer connections send them.
        let count = if size < 1024 {
            attack.pick(40, 10)
        } else {
            attack.pick(150, 20)
        };
        let server = Server::start(attack, &["serve"])?;
        let streams = connections::open_narrow(server.addr, count, "/echo")?;
        let block = wire::text(size).repeat((64 * 1024 / size).max(1));
        connections::fill(&streams, &block, 8_000_000)?;
        server.wait_until_idle()?;
        let peak = megabytes(server.resident()?);
        reset_and_measure(
            attack,
            report,
            &server,
            streams,
            &format!("{count} echo peers, {size} B, peak {peak}"),
        )?;
    }
    for &size in sizes {
        topics(attack, report, size)?;
    }
    Ok(())
}

/// Fills topics with four members each that do not read, and one publisher that does.
fn topics(attack: &Attack, report: &mut Report, size: usize) -> io::Result<()> {
    let topics = attack.pick(12, 3);
    let args = [
        "serve",
        "-r",
        "/chat/*=broadcast",
        "-r",
        "/echo=echo",
        "--lag-bytes-max",
        "16M",
    ];
    let server = Server::start(attack, &args)?;
    let (mut members, mut publishers) = (Vec::new(), Vec::new());
    for topic in 0..topics {
        let path = format!("/chat/{topic}");
        members.extend(connections::open_narrow(server.addr, 4, &path)?);
        publishers.push(connections::open(server.addr, &path)?);
    }
    let readers: io::Result<Vec<_>> = publishers.iter().map(|stream| stream.try_clone()).collect();
    let drain = Drain::start(readers?);
    let block = wire::text(size).repeat((64 * 1024 / size).max(1));
    // Less than `--lag-bytes-max`, so that the server disconnects no member.
    connections::fill(
        &publishers,
        &block,
        if size < 1024 { 6_000_000 } else { 10_000_000 },
    )?;
    server.wait_until_idle()?;
    let peak = megabytes(server.resident()?);
    members.extend(drain.stop()?);
    drop(publishers);
    let title = format!("{topics} topics, {size} B, peak {peak}");
    reset_and_measure(attack, report, &server, members, &title)
}

/// Scenario `memory-paths`: idle connections, each with a different path. Each may cost at most 1 024 bytes.
pub(crate) fn paths(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let count = attack.pick(4_000, 1_000).min(attack.connections_max);
    // `broadcast` answers 414 to a path longer than 512 bytes.
    let lengths = [
        (
            "echo",
            attack.pick(&[100, 1_000, 12_000][..], &[100, 12_000]),
        ),
        ("broadcast", &[100, 200]),
    ];
    for (handler, lengths) in lengths {
        for &len in lengths {
            let route = format!("/*={handler}");
            let server = Server::start(attack, &["serve", "-r", &route])?;
            // Allocations that only the first connections cause are not part of the cost per connection.
            connections::echo_and_close(server.addr, 100)?;
            server.wait_until_idle()?;
            std::thread::sleep(Duration::from_millis(1_200));
            let before = server.resident()?;
            let streams = connections::open_each(server.addr, count, |number| {
                wire::request(&wire::path(number, len))
            })?;
            // Each connection receives one message of 20 bytes: its echo, or its own publication as the only member.
            for mut stream in &streams {
                stream.write_all(&wire::text(20))?;
            }
            let drain = Drain::start(streams);
            drain.wait_for(22 * count as u64, connections::IO_TIMEOUT);
            let streams = drain.stop()?;
            server.wait_until_idle()?;
            std::thread::sleep(Duration::from_millis(1_200));
            let each = server.resident()?.saturating_sub(before) / count as u64;
            let title = format!("{count} idle, {handler}, path of {len} B");
            report.row(&title, format!("{each} B each"), "<= 1024 B", each <= 1024);
            reset_and_measure(attack, report, &server, streams, &title)?;
        }
    }
    Ok(())
}
