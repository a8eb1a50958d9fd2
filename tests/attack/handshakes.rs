//! Scenarios `silent-connections` (connections without a request must not prevent other handshakes) and `subprotocols`
//! (processor time of requests with thousands of offers).

use crate::Attack;
use crate::child::Server;
use crate::connections;
use crate::report::Report;
use crate::wire;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Scenario `silent-connections`: more connections that send nothing than `handshakes_max` allows (4 096). All new
/// clients must get a 101, first while these connections are open, then while 800 of them per second are replaced.
pub(crate) fn silent(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve"])?;
    let count = 4_300.min(attack.connections_max);
    let mut silent = (0..count)
        .map(|_| connections::connect(server.addr))
        .collect::<io::Result<VecDeque<TcpStream>>>()?;
    server.wait_until_idle()?;
    let clients = (0..450)
        .filter(|_| connections::open(server.addr, "/echo").is_ok())
        .count();
    report.row(
        format!("450 new clients with {count} silent connections open"),
        format!("{clients} x 101"),
        "450 x 101",
        clients == 450,
    );
    // Replaces 800 silent connections per second, in groups of ten, and opens a new client after each group.
    let (start, mut begun, mut asked, mut served) = (Instant::now(), 0, 0, 0);
    while start.elapsed() < Duration::from_secs(5) {
        for _ in 0..10 {
            connections::reset(silent.pop_front())?;
            silent.push_back(connections::connect(server.addr)?);
        }
        begun += 10;
        asked += 1;
        served += usize::from(connections::open(server.addr, "/echo").is_ok());
        let due = start + Duration::from_secs(1) * begun / 800;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    report.row(
        format!("{asked} new clients during {begun} replacements in 5 s"),
        format!("{served} x 101"),
        format!("{asked} x 101"),
        served == asked,
    );
    Ok(())
}

/// Scenario `subprotocols`: the server's processor time for a request with thousands of offered subprotocols or
/// extensions, as a multiple of that of a short request. It must not exceed 4. A head of the same size without offers
/// costs about 3.
pub(crate) fn offers(attack: &Attack, report: &mut Report) -> io::Result<()> {
    let server = Server::start(attack, &["serve"])?;
    let ordinary = wire::request("/echo");
    let subprotocols = list("Sec-WebSocket-Protocol", 3_500, |number| {
        // Distinct names of three characters: four bytes each with the comma.
        let digit =
            |number: usize| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[number % 36]);
        [digit(number / 1_296), digit(number / 36), digit(number)]
            .iter()
            .collect()
    });
    let extensions = list("Sec-WebSocket-Extensions", 7_900, |_| "x".to_owned());
    // A head of the same size without offers.
    let cookie = wire::request_with("/echo", &format!("Cookie: {}\r\n", "c".repeat(15_000)));
    let rounds = attack.pick(6, 3);
    let requests = [&ordinary, &cookie, &subprotocols, &extensions];
    let mut costs = [Duration::MAX; 4];
    // The minimum over the rounds, because other load on the machine only increases a figure.
    for _ in 0..rounds {
        for (cost, request) in costs.iter_mut().zip(requests) {
            *cost = (*cost).min(cpu_each(&server, request, 200)?);
        }
    }
    let micros = |cost: Duration| format!("{:.0} us", cost.as_secs_f64() * 1e6);
    report.note("a short request", micros(costs[0]));
    report.note("a head of 15 KB without offers", micros(costs[1]));
    for (cost, title) in costs[2..]
        .iter()
        .zip(["3500 subprotocols", "7900 extensions"])
    {
        let ratio = cost.as_secs_f64() / costs[0].as_secs_f64();
        report.row(
            title,
            format!("{}, {ratio:.1} x", micros(*cost)),
            "<= 4 x",
            ratio <= 4.0,
        );
    }
    Ok(())
}

fn list(name: &str, count: usize, item: impl Fn(usize) -> String) -> Vec<u8> {
    let items: Vec<String> = (0..count).map(item).collect();
    wire::request_with("/echo", &format!("{name}: {}\r\n", items.join(",")))
}

/// Returns the server's mean processor time for one connection with this request, for any response status.
fn cpu_each(server: &Server, request: &[u8], count: u32) -> io::Result<Duration> {
    server.wait_until_idle()?;
    let before = server.cpu()?;
    for _ in 0..count {
        let stream = connections::connect(server.addr)?;
        (&stream).write_all(request)?;
        connections::status(&stream)?;
        connections::reset([stream])?;
    }
    server.wait_until_idle()?;
    Ok((server.cpu()? - before) / count)
}
