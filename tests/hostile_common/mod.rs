//! What the tests with hostile peers share: the real binary as a process that is watched from outside (memory,
//! descriptors, work, log), and a siege: an attack on it while a well-behaved client is served.
//!
//! Every wait is bounded by [`WAIT`].

#![allow(dead_code, reason = "each file of tests uses its part of it")]

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

/// The binary, running. It is killed when it is dropped.
pub(crate) struct Wsloop {
    child: Child,
    pub(crate) addr: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    logging: Option<JoinHandle<()>>,
}

impl Wsloop {
    /// Starts it on a free port, with the default level of logging.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(WSLOOP);
        command.args(args).args(["-l", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    /// Starts it with so many descriptors.
    pub(crate) fn starved(descriptors: usize, args: &[&str]) -> Self {
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
        let logging = thread::spawn(move || {
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
            logging: Some(logging),
        }
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The most that it ever was.
    pub(crate) fn memory_peak(&self) -> usize {
        self.status("VmHWM:")
    }

    /// Virtual memory, in bytes: also what is reserved and was never written to.
    pub(crate) fn reserved(&self) -> usize {
        self.status("VmSize:")
    }

    fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<usize>().unwrap() * KIB
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// How long it has worked. The kernel counts in hundredths of a second.
    pub(crate) fn work(&self) -> Duration {
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

    /// Lines of the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until a line of the log contains `part`.
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
            || format!("nothing with {part:?} in the log"),
        );
        found.unwrap()
    }

    /// Asks it to end.
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

    /// Waits for the end; the exit code, or `None` if a signal killed it, and all of its log.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let mut status = None;
        within(
            WAIT,
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || "it does not end".to_owned(),
        );
        self.logging.take().unwrap().join().unwrap();
        (status.unwrap().code(), self.log())
    }

    /// It must still be there, and end well when it is asked to.
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

    /// As many descriptors as before, soon.
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

fn tail(log: &[String]) -> &[String] {
    &log[log.len().saturating_sub(5)..]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Asks every few milliseconds until the answer is yes.
pub(crate) fn within(
    time: Duration,
    mut is_so: impl FnMut() -> bool,
    otherwise: impl FnOnce() -> String,
) {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > time {
            panic!("{}", otherwise());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// A server under attack. One at a time, so that it is the attack that is measured.
pub(crate) struct AttackTest<'a> {
    /// The server's arguments; there is an echo at `/echo`.
    pub(crate) args: &'a [&'a str],
    /// What its memory may have grown by in the end.
    pub(crate) growth_max: usize,
    /// What it may have grown by meanwhile.
    pub(crate) peak_growth_max: usize,
}

/// How long after the end of an attack memory may take to come back.
const RETURN_MAX: Duration = Duration::from_secs(3);

/// What an allocator keeps of a few hundred small things that came and went between others.
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
    /// Attacks the server. Afterwards its memory and descriptors are as before, it ends well, and a well-behaved
    /// client has been served all the time: half of its echoes within [`MEDIAN_MAX`], all of them within
    /// [`LATENCY_MAX`]. As a machine can stall all the same, a second attempt counts if only this last point
    /// failed.
    pub(crate) fn run(&self, attack: impl Fn(&Wsloop)) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one_at_a_time = lock(&ONE_AT_A_TIME);
        let Err(late) = self.attempt(&attack) else {
            return;
        };
        eprintln!("once more, because {late}");
        if let Err(late) = self.attempt(&attack) {
            panic!("{late}");
        }
    }

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
            RETURN_MAX,
            || server.memory() <= memory + self.growth_max,
            || {
                format!(
                    "{} KiB in the end, {} before",
                    server.memory() / KIB,
                    memory / KIB
                )
            },
        );
        let verdict = probe.leave();
        server.expect_clean_exit();
        verdict
    }
}

/// Brings the server to what it keeps for good: buffers for connections, requests and messages.
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

/// A client that does nothing wrong, and asks all the time how long an echo takes.
struct ProbeClient {
    is_over: Arc<AtomicBool>,
    asking: Option<JoinHandle<Vec<Duration>>>,
}

/// The longest that it may wait for an echo. What the server, or the client itself, was ready to run and waited for
/// a processor is not counted: it tells of the machine's other work (`schedstat`; 0 if the kernel does not say).
const LATENCY_MAX: Duration = Duration::from_millis(250);

/// What half of its echoes take at most.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

impl ProbeClient {
    fn open(server: &Wsloop) -> Self {
        let mut raw = Raw::open(server.addr, "/echo");
        let schedstat = server.proc("schedstat");
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let asking = thread::spawn(move || {
            let queued = || {
                waited_for_processor(&schedstat)
                    + waited_for_processor("/proc/thread-self/schedstat")
            };
            let mut waits = Vec::new();
            while !until.load(Ordering::Relaxed) || waits.len() < 20 {
                let question = format!("question {}", waits.len());
                let (queued_before, asked) = (queued(), Instant::now());
                raw.send(frame(TEXT, question.as_bytes()));
                assert_eq!(raw.frame(), (TEXT, question.into_bytes()));
                let elapsed = asked.elapsed();
                waits.push(elapsed.saturating_sub(queued() - queued_before));
                thread::sleep(Duration::from_millis(2));
            }
            raw.send(close_frame(1000, ""));
            assert_eq!(raw.close_frame().0, 1000);
            waits
        });
        Self {
            is_over,
            asking: Some(asking),
        }
    }

    fn end(&mut self) -> Option<thread::Result<Vec<Duration>>> {
        self.is_over.store(true, Ordering::Relaxed);
        Some(self.asking.take()?.join())
    }

    /// Whether it was served in time; if not, how late.
    fn leave(mut self) -> Result<(), String> {
        let waits = self.end().expect("nobody has ended it before");
        let mut waits = waits.expect("the well-behaved client was served");
        waits.sort_unstable();
        let (median, max) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        if median <= MEDIAN_MAX && max <= LATENCY_MAX {
            return Ok(());
        }
        Err(format!(
            "a well-behaved client waited {median:?} in the middle, {max:?} at most"
        ))
    }
}

impl Drop for ProbeClient {
    /// Before the server is killed, which would be one more failure.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn waited_for_processor(schedstat: &str) -> Duration {
    let times = fs::read_to_string(schedstat).unwrap_or_default();
    let nanos = times.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// A connection that ends with a reset, when it is dropped.
pub(crate) fn reset_when_dropped(raw: &Raw) {
    SockRef::from(&raw.0)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Everything until the end of the stream, which must not be a reset.
pub(crate) fn rest(stream: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    (&*stream)
        .read_to_end(&mut rest)
        .expect("an end and not a reset");
    rest
}

/// Writes in a thread of its own, as long as the server takes it.
pub(crate) fn write_behind(raw: &Raw, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = raw.0.try_clone().unwrap();
    thread::spawn(move || {
        // The server has no duty to take what comes after its last word.
        let _ = stream.write_all(&bytes);
    })
}

/// Whether the stream has ended, by a reset or not; what still comes is thrown away.
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

/// Lets the kernel hold little for a peer that does not read.
pub(crate) fn small_window(raw: &Raw) {
    SockRef::from(&raw.0).set_recv_buffer_size(4 * KIB).unwrap();
}
