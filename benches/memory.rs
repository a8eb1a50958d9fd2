//! Measures the server's resident memory per open connection: idle after one echo of 20 bytes, and idle after one echo of
//! 256 KiB, with 10 000 connections. Prints both figures, and exits with 1 if either exceeds its limit.
//!
//! `cargo bench --bench memory` measures 10 000 connections, `cargo bench --bench memory -- 2000` another number. This
//! process and the server each need that many descriptors (`ulimit -n`). Linux only (/proc).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// Maximum bytes per idle connection after an echo of 20 bytes.
const AFTER_SMALL_MAX: usize = 200;

/// Maximum bytes per idle connection after an echo of 256 KiB.
const AFTER_LARGE_MAX: usize = 1024;

/// Time without traffic before a measurement: longer than the server retains used buffers, which is one second.
const IDLE_MIN: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let connections = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(10_000);
    let server = Server::start();
    // A warm-up, so that allocations that happen only once are not counted per connection.
    let warm_up: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for mut stream in warm_up {
        echo(&mut stream, 20);
        echo(&mut stream, 256 * 1024);
    }
    let start = server.idle_resident_bytes();
    let mut streams: Vec<TcpStream> = (0..connections).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| echo(stream, 20));
    let after_small = server.idle_resident_bytes().saturating_sub(start) / connections;
    streams
        .iter_mut()
        .for_each(|stream| echo(stream, 256 * 1024));
    let after_large = server.idle_resident_bytes().saturating_sub(start) / connections;
    drop(streams);

    println!("{connections} connections, resident bytes of the server per connection:");
    println!("  idle after one 20 B echo     {after_small:>6}  (at most {AFTER_SMALL_MAX})");
    println!("  idle after one 256 KiB echo  {after_large:>6}  (at most {AFTER_LARGE_MAX})");
    ExitCode::from(u8::from(
        after_small > AFTER_SMALL_MAX || after_large > AFTER_LARGE_MAX,
    ))
}

/// The server binary as a child process on a free port. Dropping this value kills it.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_wsloop"))
            .args(["echo", "-l", "127.0.0.1:0"])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server announces its address");
        let address = line
            .trim()
            .trim_start_matches("listening on ws://")
            .trim_end_matches('/')
            .to_owned();
        Self { process, address }
    }

    /// Opens a WebSocket connection.
    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP option");
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream
            .write_all(request.as_bytes())
            .expect("the request is sent");
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the 101 arrives");
            response.push(byte[0]);
        }
        assert!(response.starts_with(b"HTTP/1.1 101 "));
        stream
    }

    /// Returns the resident set of the idle server in bytes. Waits first until the server has freed the buffers that it retains
    /// for reuse, because they are no part of what an idle connection costs, and until the figure does not change any more.
    fn idle_resident_bytes(&self) -> usize {
        std::thread::sleep(IDLE_MIN);
        let mut last = self.resident_bytes();
        loop {
            std::thread::sleep(IDLE_MIN / 4);
            let now = self.resident_bytes();
            if now == last {
                return now;
            }
            last = now;
        }
    }

    /// Returns the resident set in bytes (VmRSS).
    fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("Linux's /proc");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS is always there");
        let kibibytes: usize = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("a number");
        kibibytes * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a text message of `len` bytes, masked with the key 0, and checks its echo.
fn echo(stream: &mut TcpStream, len: usize) {
    let mut frame = vec![0x81, 0];
    match len {
        0..=125 => frame[1] = 0x80 | len as u8,
        126..=65535 => {
            frame[1] = 0x80 | 126;
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame[1] = 0x80 | 127;
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let header_len = frame.len();
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + len, b'x');
    let mut answer = vec![0; header_len + len];
    let mut writer = stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        // Large messages are written in a thread, because their echo begins before they are sent completely.
        if len > 16 * 1024 {
            scope.spawn(|| writer.write_all(&frame).expect("the message is sent"));
        } else {
            writer.write_all(&frame).expect("the message is sent");
        }
        stream.read_exact(&mut answer).expect("the echo arrives");
    });
    assert!(answer[header_len..].iter().all(|byte| *byte == b'x'));
}
