//! Measures the server's resident memory per open connection: idle after one echo of 20 bytes, and idle after one echo of
//! 256 KiB, with 10 000 connections. Prints both figures, and exits with 1 if either exceeds its limit.
//!
//! `cargo bench --bench memory` measures 10 000 connections, `cargo bench --bench memory -- 2000` another number. With
//! `--tls`, the connections use TLS 1.3 (`cargo bench --features full --bench memory -- --tls 5000`). This process and the
//! server each need that many descriptors (`ulimit -n`). Linux only (/proc).

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Maximum bytes per idle connection after an echo of 20 bytes.
const AFTER_SMALL_MAX: usize = 200;

/// Maximum bytes per idle connection after an echo of 256 KiB.
const AFTER_LARGE_MAX: usize = 1024;

/// Maximum bytes that TLS adds to both: the keys of both directions, the secrets of the next ones, and the state of the
/// stream.
const TLS_MAX: usize = 1200;

/// Time without traffic before a measurement: longer than the server retains used buffers, which is one second.
const IDLE_MIN: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let connections = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(10_000);
    let is_tls = std::env::args().any(|word| word == "--tls");
    let server = Server::start(is_tls);
    let extra = if is_tls { TLS_MAX } else { 0 };
    let (small_max, large_max) = (AFTER_SMALL_MAX + extra, AFTER_LARGE_MAX + extra);
    // A warm-up, so that allocations that happen only once are not counted per connection.
    let warm_up: Vec<Connection> = (0..100).map(|_| server.connect()).collect();
    for mut stream in warm_up {
        echo(&mut stream, 20);
        echo(&mut stream, 256 * 1024);
    }
    let start = server.idle_resident_bytes();
    let mut streams: Vec<Connection> = (0..connections).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| echo(stream, 20));
    let after_small = server.idle_resident_bytes().saturating_sub(start) / connections;
    streams
        .iter_mut()
        .for_each(|stream| echo(stream, 256 * 1024));
    let after_large = server.idle_resident_bytes().saturating_sub(start) / connections;
    drop(streams);

    println!("{connections} connections, resident bytes of the server per connection:");
    println!("  idle after one 20 B echo     {after_small:>6}  (at most {small_max})");
    println!("  idle after one 256 KiB echo  {after_large:>6}  (at most {large_max})");
    ExitCode::from(u8::from(after_small > small_max || after_large > large_max))
}

/// The server binary as a child process on a free port. Dropping this value kills it.
struct Server {
    process: Child,
    address: String,
    /// `None` without TLS.
    tls: Option<Arc<ClientConfig>>,
}

/// A connection to the server.
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Server {
    fn start(is_tls: bool) -> Self {
        let certificate = is_tls.then(Certificate::new);
        let mut args = vec!["echo".to_owned(), "-l".to_owned()];
        match &certificate {
            None => args.push("127.0.0.1:0".to_owned()),
            Some(certificate) => args.extend([
                "tls:127.0.0.1:0".to_owned(),
                format!("--tls-cert={}", certificate.file.display()),
            ]),
        }
        let mut process = Command::new(env!("CARGO_BIN_EXE_wsloop"))
            .args(args)
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
            .trim_start_matches("listening on wss://")
            .trim_start_matches("listening on ws://")
            .trim_end_matches('/')
            .to_owned();
        // The server has read the file when it announces its address.
        let tls = certificate.map(|certificate| Arc::new(certificate.client_config()));
        Self {
            process,
            address,
            tls,
        }
    }

    /// Opens a WebSocket connection.
    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP option");
        let mut connection = match &self.tls {
            None => Connection::Plain(stream),
            Some(config) => {
                let name = "localhost".try_into().expect("a host name");
                let tls = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
                Connection::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        };
        let stream = connection.stream();
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
        connection
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
fn echo(connection: &mut Connection, len: usize) {
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
    match connection {
        // A large message is written in a thread, because its echo begins before it is sent completely.
        Connection::Plain(stream) if len > 16 * 1024 => {
            let mut writer = stream.try_clone().expect("a descriptor");
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&frame).expect("the message is sent"));
                stream.read_exact(&mut answer).expect("the echo arrives");
            });
        }
        // TLS needs one thread for both directions. The buffers of the sockets have space for the echo.
        Connection::Plain(_) | Connection::Tls(_) => {
            let stream = connection.stream();
            stream.write_all(&frame).expect("the message is sent");
            stream.read_exact(&mut answer).expect("the echo arrives");
        }
    }
    assert!(answer[header_len..].iter().all(|byte| *byte == b'x'));
}

/// A self-signed certificate for `localhost`, in a file with its key. Dropping this value removes the file.
struct Certificate {
    file: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let file = std::env::temp_dir().join(format!("wsloop-memory-{}.pem", std::process::id()));
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        std::fs::write(&file, pem).expect("a file for temporary data");
        Self {
            file,
            der: made.cert.into(),
        }
    }

    /// Returns the configuration of a client that trusts the certificate, and does not resume sessions.
    fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring supports TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
