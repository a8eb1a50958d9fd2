//! The load of the TLS tables, for what `wsloop bench` does not measure. It does not verify certificates and signatures,
//! so that a handshake costs the client less than the server. Prints one line of JSON.
//!
//! - `tls_load handshakes PORT PID full|resumed tls|upgrade SECONDS`: opens and closes connections, 32 at a time, after
//!   0.3 s without measurement; `resumed` first collects tickets in full handshakes. `tls` waits for a ticket of the server after the handshake, `upgrade` for the response to a
//!   WebSocket request instead. The client then sends close_notify and FIN, and waits until the server closes.
//! - `tls_load sessions PORT COUNT BYTES tls|plain`: opens sessions, echoes one message in each, prints `open`, and holds
//!   them until stdin ends.
//! - `tls_load storm PORT COUNT`: 50 sessions echo 20 B, 2 000 times per second in total, while COUNT other clients, whose
//!   TCP connections are open already, send their ClientHello at once and then open WebSocket sessions.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, NamedGroup,
    SignatureScheme, StreamOwned,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CONCURRENT_HANDSHAKES: usize = 32;
const WARMUP: Duration = Duration::from_millis(300);
/// Tickets that are collected before sessions are resumed. Most servers send a new one in each resumed handshake.
const TICKETS_AT_START: usize = 3000;
const PACED_SESSIONS: usize = 50;
const PACE: Duration = Duration::from_micros(500);
/// Time of the paced echoes before the handshakes begin.
const QUIET: Duration = Duration::from_millis(1000);
/// Handshakes that take longer have failed.
const STORM_MAX: Duration = Duration::from_secs(30);
const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["handshakes", port, pid, kind, until, seconds] => handshakes(
            number(port),
            pid,
            kind == "resumed",
            until == "upgrade",
            Duration::from_secs_f64(seconds.parse().expect("seconds")),
        ),
        ["sessions", port, count, bytes, layer] => {
            sessions(number(port), number(count), number(bytes), layer == "tls")
        }
        ["storm", port, count] => storm(number(port), number(count)),
        _ => panic!("see the source for the usage"),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    let Ok(number) = word.parse() else {
        panic!("{word} is not a number in the range");
    };
    number
}

fn handshakes(port: u16, pid: &str, is_resumed: bool, is_upgraded: bool, duration: Duration) {
    let tickets = is_resumed.then(|| Arc::new(Tickets::default()));
    let config = client_config(tickets.clone());
    let poll = Poll::new();
    let connect = |index| {
        let client = Client::connect(port, &config, is_upgraded);
        poll.add(client.stream.as_raw_fd(), index);
        client
    };
    let mut clients: Vec<Client> = (0..CONCURRENT_HANDSHAKES as u64).map(connect).collect();
    for client in &mut clients {
        client.progress().expect("a server");
    }
    let mut started = Instant::now();
    let mut is_collecting = is_resumed;
    let mut measured: Option<(Instant, f64)> = None;
    let (mut count, mut resumed, mut facts) = (0_u64, 0_u64, String::new());
    'run: loop {
        let ready = poll.wait(2000);
        assert!(
            !ready.is_empty(),
            "the server did not send what was expected within 2 s"
        );
        for index in ready {
            let client = &mut clients[index as usize];
            match client.progress().expect("a server that does not fail") {
                Progress::Incomplete => continue,
                Progress::Complete => {
                    client.close().expect("a socket");
                    continue;
                }
                Progress::Ended => {}
            }
            assert!(
                client.is_complete,
                "the server has closed before the end of the handshake"
            );
            count += 1;
            resumed += u64::from(client.tls.handshake_kind() == Some(HandshakeKind::Resumed));
            if facts.is_empty() {
                facts = client.facts();
            }
            *client = connect(index);
            client.progress().expect("a server");
            if is_collecting {
                let tickets = tickets.as_deref().expect("they are collected");
                is_collecting = !tickets.use_if(TICKETS_AT_START);
                started = Instant::now();
                continue;
            }
            match measured {
                None if started.elapsed() > WARMUP => {
                    measured = Some((Instant::now(), cpu_seconds(pid)));
                    (count, resumed) = (0, 0);
                }
                Some((since, cpu)) if since.elapsed() > duration => {
                    let (elapsed, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds(pid) - cpu);
                    println!(
                        "{{\"handshakes\": {count}, \"resumed\": {resumed}, \"per_second\": {:.0}, \"cpu_us\": {:.3}, \
                         \"cpu_share\": {:.3}, \"facts\": \"{facts}\"}}",
                        count as f64 / elapsed,
                        cpu * 1e6 / count as f64,
                        cpu / elapsed,
                    );
                    break 'run;
                }
                _ => {}
            }
        }
    }
}

/// Returns the CPU time of all threads of a process, as counted by the scheduler.
fn cpu_seconds(pid: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the server's process");
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e9
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn sessions(port: u16, count: usize, bytes: usize, is_tls: bool) {
    let config = client_config(None);
    let message = frame(bytes);
    let mut echoed = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..count {
        let stream = tcp(port);
        let mut session: Box<dyn Stream> = if is_tls {
            Box::new(StreamOwned::new(new_tls(&config), stream))
        } else {
            Box::new(stream)
        };
        open(&mut session);
        session.write_all(&message).expect("a server that reads");
        session.flush().expect("a server that reads");
        // The server's header has four bytes less, because it has no masking key.
        echoed.resize(message.len() - 4, 0);
        session.read_exact(&mut echoed).expect("an echo");
        sessions.push(session);
    }
    println!("open");
    let _ = io::stdin().read_line(&mut String::new());
}

/// Returns a binary message with a masking key of 0.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x82];
    match bytes {
        0..126 => frame.push(0x80 | bytes as u8),
        126..65536 => {
            frame.push(0x80 | 126);
            frame.extend((bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((bytes as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.resize(frame.len() + bytes, b'x');
    frame
}

fn open(session: &mut impl Stream) {
    session.write_all(REQUEST).expect("a server that reads");
    session.flush().expect("a server that reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        session.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "not accepted");
}

fn storm(port: u16, count: usize) {
    let config = client_config(None);
    let message = frame(20);
    let mut paced: Vec<StreamOwned<ClientConnection, TcpStream>> = (0..PACED_SESSIONS)
        .map(|_| {
            let mut session = StreamOwned::new(new_tls(&config), tcp(port));
            open(&mut session);
            session
        })
        .collect();
    for session in &mut paced {
        session.write_all(&message).expect("a server that reads");
        session.read_exact(&mut [0; 22]).expect("an echo");
        session.sock.set_nonblocking(true).expect("a socket option");
    }
    let (is_storm, is_end) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pacer = scope.spawn(|| pace(paced, &message, &is_storm, &is_end));
        let mut clients: Vec<Client> = (0..count)
            .map(|_| Client::connect(port, &config, true))
            .collect();
        for client in &mut clients {
            client.prepare();
        }
        let poll = Poll::new();
        for (index, client) in clients.iter().enumerate() {
            poll.add(client.stream.as_raw_fd(), index as u64);
        }
        std::thread::sleep(QUIET);
        is_storm.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let mut failed = 0;
        for client in &mut clients {
            failed += usize::from(client.progress().is_err());
        }
        let mut opened = 0;
        while opened + failed < count && started.elapsed() < STORM_MAX {
            for index in poll.wait(100) {
                let client = &mut clients[index as usize];
                match client.progress() {
                    Ok(Progress::Incomplete) => {}
                    Ok(Progress::Complete) => opened += 1,
                    Ok(Progress::Ended) | Err(_) => {
                        failed += 1;
                        poll.remove(client.stream.as_raw_fd());
                    }
                }
            }
        }
        is_storm.store(false, Ordering::Relaxed);
        let elapsed = started.elapsed();
        std::thread::sleep(Duration::from_millis(100));
        is_end.store(true, Ordering::Relaxed);
        let (quiet, during, unanswered, has_priority) = pacer.join().expect("the pacer");
        println!(
            "{{\"opened\": {opened}, \"seconds\": {:.3}, \"storm\": {}, \"quiet\": {}, \"unanswered\": {unanswered}, \
             \"has_priority\": {has_priority}}}",
            elapsed.as_secs_f64(),
            latencies(during),
            latencies(quiet),
        );
    });
}

/// Sends a message every [`PACE`], to one session after the other, whether or not earlier ones are answered, and measures
/// from the time at which each was due. Returns the latencies of messages that were due before and during the storm, the
/// number of those without an answer, and whether this thread has taken precedence over the storm's.
fn pace(
    mut sessions: Vec<StreamOwned<ClientConnection, TcpStream>>,
    message: &[u8],
    is_storm: &AtomicBool,
    is_end: &AtomicBool,
) -> (Vec<f64>, Vec<f64>, usize, bool) {
    let priority = libc::sched_param { sched_priority: 10 };
    let has_priority = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) } == 0;
    let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK) };
    let every = libc::timespec {
        tv_sec: 0,
        tv_nsec: PACE.as_nanos() as i64,
    };
    let setting = libc::itimerspec {
        it_interval: every,
        it_value: every,
    };
    unsafe { libc::timerfd_settime(timer, 0, &setting, std::ptr::null_mut()) };
    let poll = Poll::new();
    poll.add(timer, PACED_SESSIONS as u64);
    for (index, session) in sessions.iter().enumerate() {
        poll.add(session.sock.as_raw_fd(), index as u64);
    }
    let mut pending: Vec<VecDeque<(Instant, bool)>> = vec![VecDeque::new(); sessions.len()];
    let (mut quiet, mut during) = (Vec::new(), Vec::new());
    let mut due = Instant::now() + PACE;
    let mut next = 0;
    let mut end: Option<Instant> = None;
    loop {
        for index in poll.wait(10) {
            let Some(session) = sessions.get_mut(index as usize) else {
                let mut expirations = 0_u64;
                unsafe { libc::read(timer, (&raw mut expirations).cast(), 8) };
                continue;
            };
            let mut echo = [0; 22];
            while session.read_exact_or_block(&mut echo) {
                let Some((due, is_storm)) = pending[index as usize].pop_front() else {
                    panic!("more answers than messages");
                };
                let list = if is_storm { &mut during } else { &mut quiet };
                list.push(due.elapsed().as_secs_f64() * 1000.0);
            }
        }
        if end.is_none() && is_end.load(Ordering::Relaxed) {
            end = Some(Instant::now() + Duration::from_secs(2));
        }
        if let Some(end) = end {
            let unanswered = pending.iter().map(VecDeque::len).sum();
            if unanswered == 0 || Instant::now() > end {
                return (quiet, during, unanswered, has_priority);
            }
            continue;
        }
        while due <= Instant::now() {
            let index = next % sessions.len();
            next += 1;
            pending[index].push_back((due, is_storm.load(Ordering::Relaxed)));
            sessions[index]
                .write_all(message)
                .expect("a server that reads");
            due += PACE;
        }
    }
}

trait ReadOrBlock {
    /// Reads a whole message. Returns `false` if none has arrived. A message of 22 B is never divided: it is in one record.
    fn read_exact_or_block(&mut self, buf: &mut [u8]) -> bool;
}

impl ReadOrBlock for StreamOwned<ClientConnection, TcpStream> {
    fn read_exact_or_block(&mut self, buf: &mut [u8]) -> bool {
        match self.read(buf) {
            Ok(len) if len == buf.len() => true,
            Ok(len) => panic!("{len} bytes instead of an echo"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

fn latencies(mut list: Vec<f64>) -> String {
    list.sort_by(f64::total_cmp);
    let at = |part: f64| list[((list.len() as f64 * part) as usize).min(list.len() - 1)];
    format!(
        "{{\"count\": {}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"max_ms\": {:.3}}}",
        list.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// A client that opens a connection and, for `handshakes`, closes it.
struct Client {
    stream: TcpStream,
    tls: ClientConnection,
    is_upgraded: bool,
    is_requested: bool,
    /// What has been waited for has arrived.
    is_complete: bool,
    response: Vec<u8>,
    /// Sealed bytes that were made in advance.
    prepared: Vec<u8>,
}

#[derive(PartialEq)]
enum Progress {
    Incomplete,
    /// Returned once.
    Complete,
    Ended,
}

impl Client {
    fn connect(port: u16, config: &Arc<ClientConfig>, is_upgraded: bool) -> Self {
        let stream = tcp(port);
        stream.set_nonblocking(true).expect("a socket option");
        Self {
            stream,
            tls: new_tls(config),
            is_upgraded,
            is_requested: false,
            is_complete: false,
            response: Vec::new(),
            prepared: Vec::new(),
        }
    }

    /// Makes the ClientHello, which the next call of `progress` sends.
    fn prepare(&mut self) {
        self.tls.write_tls(&mut self.prepared).expect("a vector");
    }

    fn progress(&mut self) -> io::Result<Progress> {
        let mut progress = Progress::Incomplete;
        self.stream.write_all(&std::mem::take(&mut self.prepared))?;
        loop {
            if self.is_upgraded && !self.is_requested && !self.tls.is_handshaking() {
                self.is_requested = true;
                self.tls.writer().write_all(REQUEST)?;
            }
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.stream)?;
            }
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Ok(Progress::Ended),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(progress),
                // After our close_notify, a server may close without reading it.
                Err(_) if self.is_complete => return Ok(Progress::Ended),
                Err(error) => return Err(error),
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                let start = self.response.len();
                self.response
                    .resize(start + state.plaintext_bytes_to_read(), 0);
                self.tls.reader().read_exact(&mut self.response[start..])?;
            }
            let is_complete = if self.is_upgraded {
                self.response.ends_with(b"\r\n\r\n")
            } else {
                self.tls.tls13_tickets_received() > 0
            };
            if is_complete && !self.is_complete {
                self.is_complete = true;
                progress = Progress::Complete;
            }
        }
    }

    fn facts(&self) -> String {
        format!(
            "{:?}, {:?}, {:?}, {} ticket(s)",
            self.tls.protocol_version().expect("a complete handshake"),
            self.tls
                .negotiated_cipher_suite()
                .expect("a complete handshake")
                .suite(),
            self.tls
                .negotiated_key_exchange_group()
                .expect("a complete handshake")
                .name(),
            self.tls.tls13_tickets_received(),
        )
    }

    /// Sends close_notify and FIN.
    fn close(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }
}

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn new_tls(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a configuration")
}

fn client_config(tickets: Option<Arc<Tickets>>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that the provider supports")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAll))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match tickets {
        Some(tickets) => Resumption::store(tickets),
        None => Resumption::disabled(),
    };
    Arc::new(config)
}

/// Tickets of one server, without a limit. rustls' own store has at most eight.
#[derive(Debug, Default)]
struct Tickets {
    unused: Mutex<VecDeque<Tls13ClientSessionValue>>,
    is_used: AtomicBool,
}

impl Tickets {
    /// Allows the use of the tickets if there are at least `count`. Returns whether there are.
    fn use_if(&self, count: usize) -> bool {
        let is_enough = self.unused.lock().expect("no panic").len() >= count;
        self.is_used.store(is_enough, Ordering::Relaxed);
        is_enough
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.unused.lock().expect("no panic").push_back(value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if !self.is_used.load(Ordering::Relaxed) {
            return None;
        }
        self.unused.lock().expect("no panic").pop_front()
    }
}

#[derive(Debug)]
struct AcceptAll;

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// An epoll instance.
struct Poll(RawFd);

impl Poll {
    fn new() -> Self {
        Self(unsafe { libc::epoll_create1(0) })
    }

    fn add(&self, fd: RawFd, token: u64) {
        let events = libc::EPOLLIN as u32;
        let mut event = libc::epoll_event { events, u64: token };
        unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
    }

    fn remove(&self, fd: RawFd) {
        unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Returns the tokens of readable descriptors.
    fn wait(&self, milliseconds: i32) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        let len = events.len() as i32;
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), len, milliseconds) };
        let events = &events[..count.max(0) as usize];
        events.iter().map(|event| event.u64).collect()
    }
}
