//! Support for the tests with hostile peers: [`Wsloop`] runs the real binary as a process and measures it from
//! outside (memory, descriptors, CPU time, log), and [`AttackTest`] runs an attack on it while a well-behaved client
//! measures the latency of its echoes.
//!
//! Every wait is bounded by [`WAIT`].

#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::common::{KIB, MIB, Raw, TEXT, WAIT, close_frame, frame};
use socket2::SockRef;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const WSLOOP: &str = env!("CARGO_BIN_EXE_wsloop");

/// A running server process. It is killed when this value is dropped.
pub(crate) struct Wsloop {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// The lines of stderr so far.
    log: Arc<Mutex<Vec<String>>>,
    /// The thread that reads stderr.
    log_reader: Option<JoinHandle<()>>,
}

impl Wsloop {
    /// Starts `wsloop ARGS` on a free port, with the default log level.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(WSLOOP);
        command.args(args).args(["-l", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    /// Starts `wsloop ARGS` with a limit on open descriptors.
    pub(crate) fn with_descriptors_max(descriptors: usize, args: &[&str]) -> Self {
        let line = format!(r#"ulimit -n {descriptors}; exec "$0" "$@" -l 127.0.0.1:0"#);
        let mut command = Command::new("sh");
        command.args(["-c", &line, WSLOOP]).args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).split(b'\n');
        let logged = Arc::clone(&log);
        let log_reader = thread::spawn(move || {
            for line in lines {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                lock(&logged).push(line);
            }
        });
        let mut announcement = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut announcement).unwrap();
        let addr = announcement
            .strip_prefix("listening on ws://")
            .and_then(|rest| rest.trim_end().strip_suffix('/'));
        let addr = addr.unwrap_or_else(|| panic!("no announcement: {:?}", lock(&log)));
        Self {
            addr: addr.parse().unwrap(),
            child,
            log,
            log_reader: Some(log_reader),
        }
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// Returns the peak of the resident memory, in bytes.
    pub(crate) fn memory_peak(&self) -> usize {
        self.status("VmHWM:")
    }

    /// Returns the virtual memory, in bytes. It includes memory that is reserved and was never written to.
    pub(crate) fn virtual_memory(&self) -> usize {
        self.status("VmSize:")
    }

    /// Returns a size from `/proc/PID/status`, in bytes.
    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<usize>().unwrap() * KIB
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Returns the CPU time of the process. The kernel counts in hundredths of a second.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // The second field is the name in brackets; utime and stime are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    /// Returns the lines of the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until a line of the log contains `part`, and returns this line.
    pub(crate) fn logged(&self, part: &str) -> String {
        let mut found = None;
        within(
            WAIT,
            || {
                found = lock(&self.log)
                    .iter()
                    .find(|line| line.contains(part))
                    .cloned();
                found.is_some()
            },
            || format!("no line of the log contains {part:?}"),
        );
        found.unwrap()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end of the process. Returns its exit code, or `None` if a signal killed it, and the complete log.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut status = None;
        within(
            WAIT,
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || "the process did not end in time".to_owned(),
        );
        self.log_reader.take().unwrap().join().unwrap();
        (status.unwrap().code(), self.log())
    }

    /// Sends SIGTERM and expects exit code 0 and no panic in the log.
    pub(crate) fn expect_clean_exit(self) {
        self.terminate();
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{:?}", tail(&log));
        assert!(
            !log.iter().any(|line| line.contains("panicked")),
            "{:?}",
            tail(&log)
        );
    }

    /// Waits until the number of open descriptors is `expected`.
    pub(crate) fn expect_descriptors(&self, expected: usize) {
        within(
            WAIT,
            || self.descriptors() == expected,
            || format!("{} descriptors instead of {expected}", self.descriptors()),
        );
    }
}

impl Drop for Wsloop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the last five lines.
fn tail(log: &[String]) -> &[String] {
    &log[log.len().saturating_sub(5)..]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Polls a condition every few milliseconds until it holds. Panics with `message` after `time`.
pub(crate) fn within(
    time: Duration,
    mut is_done: impl FnMut() -> bool,
    message: impl FnOnce() -> String,
) {
    let start = Instant::now();
    while !is_done() {
        if start.elapsed() > time {
            panic!("{}", message());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// The arguments and the memory limits of an attack.
pub(crate) struct AttackTest<'a> {
    /// The server's arguments. There must be an echo at `/echo`.
    pub(crate) args: &'a [&'a str],
    /// Maximum growth of the resident memory at the end, in bytes.
    pub(crate) growth_max: usize,
    /// Maximum growth of the resident memory during the attack, in bytes.
    pub(crate) peak_growth_max: usize,
}

/// Maximum time after the end of an attack until its memory is released.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// The default of [`AttackTest::growth_max`]: memory that an allocator may retain after a few hundred small allocations
/// are freed, because other allocations lie between them.
pub(crate) const GROWTH_MAX: usize = MIB;

impl Default for AttackTest<'_> {
    fn default() -> Self {
        Self {
            args: &["serve"],
            growth_max: GROWTH_MAX,
            peak_growth_max: 4 * MIB,
        }
    }
}

impl AttackTest<'_> {
    /// Starts a server, runs the attack on it, and then checks that
    /// - the descriptors are as many as before,
    /// - the memory is within the limits of this test,
    /// - the server stops cleanly,
    /// - a well-behaved client was served during the attack, with half of its echoes within [`MEDIAN_MAX`] and all of
    ///   them within [`LATENCY_MAX`].
    ///
    /// The machine itself can stall: if only the last check fails, the attack is repeated once. Attacks run one at a
    /// time, so that measurements of one do not include the work of another.
    pub(crate) fn run(&self, attack: impl Fn(&Wsloop)) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one_at_a_time = lock(&ONE_AT_A_TIME);
        let Err(late) = self.attempt(&attack) else {
            return;
        };
        eprintln!("repeating the attack: {late}");
        if let Err(late) = self.attempt(&attack) {
            panic!("{late}");
        }
    }

    /// Returns an error if only the well-behaved client's latency was too high. Panics if another check fails.
    fn attempt(&self, attack: impl Fn(&Wsloop)) -> Result<(), String> {
        let server = Wsloop::start(self.args);
        warm_up(&server);
        let probe = ProbeClient::open(&server);
        let (memory, descriptors) = (server.memory(), server.descriptors());
        attack(&server);
        server.expect_descriptors(descriptors);
        let peak = server.memory_peak();
        assert!(
            peak <= memory + self.peak_growth_max,
            "{} KiB at the peak, {} before",
            peak / KIB,
            memory / KIB
        );
        within(
            RELEASE_MAX,
            || server.memory() <= memory + self.growth_max,
            || {
                format!(
                    "{} KiB in the end, {} before",
                    server.memory() / KIB,
                    memory / KIB
                )
            },
        );
        let latency = probe.check_latency();
        server.expect_clean_exit();
        latency
    }
}

/// Lets the server allocate what it retains permanently: buffers for connections, requests and messages.
fn warm_up(server: &Wsloop) {
    let descriptors = server.descriptors();
    for _ in 0..3 {
        let mut clients: Vec<Raw> = (0..20).map(|_| Raw::open(server.addr, "/echo")).collect();
        for raw in &mut clients {
            raw.send(frame(TEXT, &[b'w'; 64 * KIB]));
        }
        for raw in &mut clients {
            assert_eq!(raw.frame().1.len(), 64 * KIB);
        }
    }
    server.expect_descriptors(descriptors);
}

/// A well-behaved client that repeatedly measures the latency of an echo, in its own thread.
struct ProbeClient {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

/// Maximum latency of an echo. The time in which the server or the client was ready to run and waited for a processor
/// is subtracted, because it depends on the other work of the machine. The kernel reports it in `schedstat`; if it
/// does not, nothing is subtracted.
const LATENCY_MAX: Duration = Duration::from_millis(250);

/// Maximum median latency of the echoes.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

impl ProbeClient {
    fn open(server: &Wsloop) -> Self {
        let mut raw = Raw::open(server.addr, "/echo");
        let schedstat = server.proc("schedstat");
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let queued = || {
                waited_for_processor(&schedstat)
                    + waited_for_processor("/proc/thread-self/schedstat")
            };
            let mut latencies = Vec::new();
            while !until.load(Ordering::Relaxed) || latencies.len() < 20 {
                let question = format!("question {}", latencies.len());
                let (queued_before, sent) = (queued(), Instant::now());
                raw.send(frame(TEXT, question.as_bytes()));
                assert_eq!(raw.frame(), (TEXT, question.into_bytes()));
                let elapsed = sent.elapsed();
                latencies.push(elapsed.saturating_sub(queued() - queued_before));
                thread::sleep(Duration::from_millis(2));
            }
            raw.send(close_frame(1000, ""));
            assert_eq!(raw.close_frame().0, 1000);
            latencies
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }

    /// Ends the client's thread. Returns the latencies of its echoes, or `None` if the thread was ended before.
    fn end(&mut self) -> Option<thread::Result<Vec<Duration>>> {
        self.is_over.store(true, Ordering::Relaxed);
        Some(self.thread.take()?.join())
    }

    /// Ends the client. Returns an error with its latencies if they exceed the limits.
    fn check_latency(mut self) -> Result<(), String> {
        let latencies = self.end().expect("only this method and drop call `end`");
        let mut latencies = latencies.expect("the well-behaved client was served");
        latencies.sort_unstable();
        let (median, max) = (
            latencies[latencies.len() / 2],
            latencies[latencies.len() - 1],
        );
        if median <= MEDIAN_MAX && max <= LATENCY_MAX {
            return Ok(());
        }
        Err(format!(
            "a well-behaved client's echoes took {median:?} (median) and {max:?} (maximum)"
        ))
    }
}

impl Drop for ProbeClient {
    /// Ends the thread before the server is killed, which would make the thread panic as well.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Returns the time in which a process or thread was ready to run and waited for a processor.
fn waited_for_processor(schedstat: &str) -> Duration {
    let times = fs::read_to_string(schedstat).unwrap_or_default();
    let nanos = times.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Configures a connection to end with a reset when it is dropped.
pub(crate) fn reset_when_dropped(raw: &Raw) {
    SockRef::from(&raw.0)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Reads until the end of the stream, which must not be a reset. Returns the bytes.
pub(crate) fn rest(stream: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    (&*stream)
        .read_to_end(&mut rest)
        .expect("an end and not a reset");
    rest
}

/// Writes bytes in a thread, until all are written or the connection ends.
pub(crate) fn write_behind(raw: &Raw, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = raw.0.try_clone().unwrap();
    thread::spawn(move || {
        // An error is ignored: the server need not read bytes after its last response or Close.
        let _ = stream.write_all(&bytes);
    })
}

/// Waits for the end of the stream, by a reset or not, and discards what arrives before.
pub(crate) fn wait_for_end(stream: &TcpStream) {
    let mut scratch = [0; 16 * KIB];
    loop {
        match (&*stream).read(&mut scratch) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("neither an end nor a reset: {error}"),
        }
    }
}

/// Sets a small receive buffer, so that the kernel buffers little for a peer that does not read.
pub(crate) fn small_window(raw: &Raw) {
    SockRef::from(&raw.0).set_recv_buffer_size(4 * KIB).unwrap();
}
