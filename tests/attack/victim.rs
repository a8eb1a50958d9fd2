//! The well-behaved client: how long others' traffic makes it wait.

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

/// An echo of 20 bytes, due every millisecond, whatever is outstanding.
pub(crate) struct Victim {
    is_over: Arc<AtomicBool>,
    sending: JoinHandle<io::Result<()>>,
    receiving: JoinHandle<io::Result<Waits>>,
}

/// What a victim waited.
pub(crate) struct Waits {
    /// Without the waits for a processor, in ascending order.
    adjusted: Vec<Duration>,
    /// With them, the longest.
    raw_max: Duration,
}

/// A message that was sent.
struct Sent {
    due: Instant,
    /// How long the sending thread waited for a processor when it was due.
    delay: Duration,
    /// How long the server had waited for a processor before, in all.
    server_delay: Duration,
}

impl Victim {
    /// Opens a connection to /echo and begins.
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

    /// Waits for the last echo.
    ///
    /// # Errors
    /// An echo did not arrive.
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

/// Reads the echo of each message that was sent; the wait for each.
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
    pub(crate) fn max(&self) -> Duration {
        self.adjusted.last().copied().unwrap_or(Duration::MAX)
    }

    /// The longest wait, waits for a processor included.
    pub(crate) fn raw_max(&self) -> Duration {
        self.raw_max
    }

    /// What so many in a hundred waited at most.
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

/// An echo that takes longer never comes.
const ECHO_TIMEOUT: Duration = Duration::from_secs(60);
