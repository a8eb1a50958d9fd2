//! Memory of outbound queues, of topic logs and of paths (A1, A9).

use crate::Attack;
use crate::child::Server;
use crate::crowd::{self, Drain};
use crate::memory::gone;
use crate::report::{Report, megabytes};
use crate::wire;
use std::io::{self, Write};
use std::time::Duration;

/// Peers that do not read what they asked for, and members that do not read what others say.
pub(crate) fn outbound(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let sizes = attack.pick(&[20, 1024, 30_000, 200_000][..], &[20, 30_000]);
    for &size in sizes {
        // Small messages cost the server's time, not its memory.
        let count = if size < 1024 {
            attack.pick(40, 10)
        } else {
            attack.pick(150, 20)
        };
        let server = Server::start(attack, &["serve"])?;
        let streams = crowd::open_narrow(server.addr, count, "/echo")?;
        let block = wire::text(size).repeat((64 * 1024 / size).max(1));
        crowd::stuff(&streams, &block, 8_000_000)?;
        server.quiet()?;
        let peak = megabytes(server.resident()?);
        gone(
            attack,
            report,
            &server,
            streams,
            &format!("{count} echo peers, {size} B, peak {peak}"),
        )?;
    }
    for &size in sizes {
        rooms(attack, report, size)?;
    }
    Ok(())
}

/// Rooms whose members do not read, each with a publisher who does.
fn rooms(attack: &Attack, report: &mut Report, size: usize) -> io::Result<()> {
    let rooms = attack.pick(12, 3);
    let args = [
        "serve",
        "-r",
        "/room/*=broadcast",
        "-r",
        "/echo=echo",
        "--lag-bytes-max",
        "16M",
    ];
    let server = Server::start(attack, &args)?;
    let (mut members, mut publishers) = (Vec::new(), Vec::new());
    for room in 0..rooms {
        let path = format!("/room/{room}");
        members.extend(crowd::open_narrow(server.addr, 4, &path)?);
        publishers.push(crowd::open(server.addr, &path)?);
    }
    let readers: io::Result<Vec<_>> = publishers.iter().map(|stream| stream.try_clone()).collect();
    let drain = Drain::start(readers?);
    let block = wire::text(size).repeat((64 * 1024 / size).max(1));
    // Less than lag_bytes_max, so that no member is cut off.
    crowd::stuff(
        &publishers,
        &block,
        if size < 1024 { 6_000_000 } else { 10_000_000 },
    )?;
    server.quiet()?;
    let peak = megabytes(server.resident()?);
    members.extend(drain.stop()?);
    drop(publishers);
    let title = format!("{rooms} rooms, {size} B, peak {peak}");
    gone(attack, report, &server, members, &title)
}

/// Idle connections, each on a path of its own.
pub(crate) fn paths(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let count = attack.pick(4_000, 1_000).min(attack.connections_max);
    for handler in ["echo", "broadcast"] {
        for &len in attack.pick(&[100, 1_000, 12_000][..], &[100, 12_000]) {
            let route = format!("/*={handler}");
            let server = Server::start(attack, &["serve", "-r", &route])?;
            // What the first connections cost is not a path's.
            crowd::ordinary_day(server.addr, 100)?;
            server.quiet()?;
            std::thread::sleep(Duration::from_millis(1_200));
            let before = server.resident()?;
            let streams = crowd::open_each(server.addr, count, |number| {
                wire::request(&wire::path(number, len))
            })?;
            // Used once: an echo of 20 bytes, to the sender alone in its room.
            for mut stream in &streams {
                stream.write_all(&wire::text(20))?;
            }
            let drain = Drain::start(streams);
            drain.wait_for(22 * count as u64, crowd::WAIT);
            let streams = drain.stop()?;
            server.quiet()?;
            std::thread::sleep(Duration::from_millis(1_200));
            let each = server.resident()?.saturating_sub(before) / count as u64;
            let title = format!("{count} idle, {handler}, path of {len} B");
            report.row(&title, format!("{each} B each"), "<= 1024 B", each <= 1024);
            gone(attack, report, &server, streams, &title)?;
        }
    }
    Ok(())
}
