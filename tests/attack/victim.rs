//! The victim: a well-behaved client that measures the server's latency during an attack.

use crate::child::{RunDelay, Server};
use crate::connections;
use crate::report::millis;
use crate::wire;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A client that sends 20 bytes every millisecond, regardless of outstanding echoes (open loop), from one thread, and
/// reads the echoes in another.
pub(crate) struct Victim {
    is_over: Arc<AtomicBool>,
    sending: JoinHandle<io::Result<()>>,
    receiving: JoinHandle<io::Result<Waits>>,
}

/// The latencies that a victim has measured.
pub(crate) struct Waits {
    /// Latencies without the time for which the server or the victim waited for a processor, in ascending order.
    adjusted: Vec<Duration>,
    /// Maximum latency including that time.
    raw_max: Duration,
}

/// A message that was sent.
struct Sent {
    /// When the message was to be sent.
    due: Instant,
    /// How long the sending thread waited for a processor before it sent the message.
    delay: Duration,
    /// How long the server had waited for a processor in total when the message was sent.
    server_delay: Duration,
}

impl Victim {
    /// Opens a connection to /echo and starts both threads.
    pub(crate) fn start(server: &Server) -> io::Result<Self> {
        let stream = connections::open(server.addr, "/echo")?;
        let reader = stream.try_clone()?;
        reader.set_read_timeout(Some(ECHO_TIMEOUT))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let (sender, receiver) = mpsc::channel();
        let (at_send, at_receive) = (server.run_delay()?, server.run_delay()?);
        let sending = thread::spawn(move || send(&stream, &until, sender, &at_send));
        let receiving = thread::spawn(move || receive(&reader, &receiver, &at_receive));
        Ok(Self {
            is_over,
            sending,
            receiving,
        })
    }

    /// Stops sending, waits for the remaining echoes, and returns the latencies.
    ///
    /// # Errors
    /// An echo did not arrive within 60 s.
    pub(crate) fn stop(self) -> io::Result<Waits> {
        self.is_over.store(true, Ordering::Relaxed);
        let waits = self.receiving.join().expect("the thread does not panic");
        self.sending.join().expect("the thread does not panic")?;
        let mut waits = waits?;
        waits.adjusted.sort_unstable();
        Ok(waits)
    }
}

fn send(
    mut stream: &TcpStream,
    is_over: &AtomicBool,
    sent: Sender<Sent>,
    server_delay: &RunDelay,
) -> io::Result<()> {
    let message = wire::text(MESSAGE_BYTES);
    let own_delay = RunDelay::of_this_thread()?;
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let before = own_delay.read()?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = sent.send(Sent {
            due,
            delay: own_delay.read()? - before,
            server_delay: server_delay.read()?,
        });
        stream.write_all(&message)?;
        due += PERIOD;
    }
    Ok(())
}

/// Reads the echo of each message that was sent, and returns the latency of each.
fn receive(
    mut stream: &TcpStream,
    sent: &Receiver<Sent>,
    server_delay: &RunDelay,
) -> io::Result<Waits> {
    let mut waits = Waits {
        adjusted: Vec::new(),
        raw_max: Duration::ZERO,
    };
    let mut frame = [0; MESSAGE_BYTES + 2];
    let own_delay = RunDelay::of_this_thread()?;
    for message in sent {
        let before = own_delay.read()?;
        stream.read_exact(&mut frame).map_err(|error| {
            let number = waits.adjusted.len();
            io::Error::other(format!("the victim's echo {number} is lost: {error}"))
        })?;
        let wait = Instant::now().saturating_duration_since(message.due);
        let server_wait = server_delay.read()? - message.server_delay;
        let delay = message.delay + server_wait + (own_delay.read()? - before);
        waits.adjusted.push(wait.saturating_sub(delay));
        waits.raw_max = waits.raw_max.max(wait);
    }
    let _ = stream.shutdown(Shutdown::Both);
    Ok(waits)
}

impl Waits {
    /// Returns the maximum latency, without waits for a processor.
    pub(crate) fn max(&self) -> Duration {
        self.adjusted.last().copied().unwrap_or(Duration::MAX)
    }

    /// Returns the maximum latency, including waits for a processor.
    pub(crate) fn raw_max(&self) -> Duration {
        self.raw_max
    }

    /// Returns the latency that `percent` percent of the messages did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let at = (self.adjusted.len() * percent).div_ceil(100).max(1) - 1;
        self.adjusted.get(at).copied().unwrap_or(Duration::MAX)
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, max] = [self.percentile(50), self.percentile(99), self.max()].map(millis);
        let raw = millis(self.raw_max());
        write!(formatter, "p50 {median}, p99 {p99}, max {max} (raw {raw})")
    }
}

const MESSAGE_BYTES: usize = 20;

const PERIOD: Duration = Duration::from_millis(1);

/// An echo that takes longer is considered lost.
const ECHO_TIMEOUT: Duration = Duration::from_secs(60);
