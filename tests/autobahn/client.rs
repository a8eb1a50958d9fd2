//! A client for Autobahn's fuzzingserver, with the client role of the protocol core ([`wsloop::proto`]). It runs every
//! case, echoes every message, and then makes the fuzzingserver write its report.
//!
//! Usage: `cargo run --example autobahn-client -- 127.0.0.1:9001`. `tests/autobahn/run` starts the fuzzingserver,
//! runs this client and checks the report.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use wsloop::proto::{ClientOpening, Connection, Event, HeadLimits, Limits};

const LIMITS: Limits = Limits {
    message_bytes_max: 64 * 1024 * 1024,
    fragments_max: 1 << 20,
    head: HeadLimits {
        head_bytes_max: 16 * 1024,
        headers_max: 100,
    },
};

fn main() -> ExitCode {
    let Some(server) = std::env::args().nth(1) else {
        eprintln!("usage: autobahn-client HOST:PORT");
        return ExitCode::from(2);
    };
    match run(&server) {
        Ok(cases) => {
            println!("{cases} cases were run");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all cases. Returns their number.
fn run(server: &str) -> io::Result<usize> {
    let mut count = 0;
    session(server, "/getCaseCount", |text| {
        count = text.parse().unwrap_or(0)
    })?;
    for case in 1..=count {
        ended(session(
            server,
            &format!("/runCase?case={case}&agent=wsloop-client"),
            |_| {},
        ))?;
    }
    session(
        server,
        "/updateReports?agent=wsloop-client&shutdownOnComplete=true",
        |_| {},
    )?;
    Ok(count)
}

/// Runs one connection until its end: echoes every message, and passes each text to `on_text`.
fn session(server: &str, target: &str, mut on_text: impl FnMut(&str)) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let mut opening = ClientOpening::new(server, target, random()).map_err(io::Error::other)?;
    let mut out = Vec::new();
    opening.encode_request(&mut out);
    let mut connection = None;
    let mut buf = vec![0; 64 * 1024];
    loop {
        stream.write_all(&out)?;
        out.clear();
        let len = stream.read(&mut buf)?;
        if len == 0 {
            return Ok(());
        }
        let mut input = &mut buf[..len];
        if connection.is_none() {
            let response = opening
                .receive_response(&mut input, &LIMITS.head)
                .map_err(io::Error::other)?;
            connection = response.map(|_| Connection::client_open(random));
        }
        let Some(connection) = &mut connection else {
            continue;
        };
        loop {
            match connection.receive(&mut input, &LIMITS, &mut out) {
                Ok(Some(Event::Message(message))) => {
                    let message = message.as_message();
                    if let Some(text) = message.as_text() {
                        on_text(text);
                    }
                    connection.send(message, &mut out);
                }
                Ok(Some(Event::Ping(_) | Event::Pong(_) | Event::Close(_) | Event::Request(_))) => {
                }
                Ok(None) => break,
                // After a violation, our Close is in `out`, and the server ends the stream.
                Err(_) => break,
            }
        }
    }
}

/// Accepts a reset as the end of a case: after some cases the fuzzingserver closes its socket with unread bytes.
fn ended(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Returns unpredictable bytes. [`RandomState`] has different keys at every call, derived from random numbers of
/// the operating system.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for piece in bytes.chunks_mut(8) {
        let number = RandomState::new().hash_one(0).to_ne_bytes();
        piece.copy_from_slice(&number[..piece.len()]);
    }
    bytes
}
