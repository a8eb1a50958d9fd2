//! The server under attack as a child process: starting it, signalling it, and reading its counters from /proc.

use crate::Attack;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server process that listens on a free port of 127.0.0.1. Dropping this value kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts the binary with these arguments, and discards its log.
    pub(crate) fn start(attack: &Attack, args: &[&str]) -> io::Result<Self> {
        Self::spawn(attack, args, Stdio::null())
    }

    /// Starts the binary, and returns its log as a pipe. The pipe fills up unless the caller reads it.
    pub(crate) fn with_log(attack: &Attack, args: &[&str]) -> io::Result<(Self, ChildStderr)> {
        let mut server = Self::spawn(attack, args, Stdio::piped())?;
        let log = server.child.stderr.take().expect("stderr is piped");
        Ok((server, log))
    }

    fn spawn(attack: &Attack, args: &[&str], stderr: Stdio) -> io::Result<Self> {
        let mut child = Command::new(&attack.binary)
            .args(args)
            .args(["-l", "127.0.0.1:0"])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        let mut announcement = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut server = Self {
            child,
            addr: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
        };
        BufReader::new(stdout).read_line(&mut announcement)?;
        let addr = announcement
            .trim()
            .strip_prefix("listening on ws://")
            .and_then(|url| url.strip_suffix('/'))
            .and_then(|addr| addr.parse().ok());
        server.addr =
            addr.ok_or_else(|| io::Error::other(format!("no announcement: {announcement:?}")))?;
        Ok(server)
    }

    /// Sends the signal with this name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status()?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| io::Error::other(kill))
    }

    /// Waits until the process exits. Returns `None` if it still runs after `time`.
    pub(crate) fn wait_for_exit(&mut self, time: Duration) -> io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || start.elapsed() > time {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the resident set in bytes. smaps_rollup is exact; VmRSS in /proc/PID/status is not, because the kernel
    /// sums per-core counters there.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let rollup = self.proc("smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("no Rss in smaps_rollup"))
    }

    /// Returns the processor time used so far, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let schedstat = self.proc("schedstat")?;
        let nanos = schedstat
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse().ok());
        nanos
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::other("no time in schedstat"))
    }

    /// Returns a counter of the time for which the server was runnable but waited for a processor.
    pub(crate) fn run_delay(&self) -> io::Result<RunDelay> {
        let path = format!("/proc/{}/schedstat", self.child.id());
        Ok(RunDelay(File::open(path)?))
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Waits until the server has used no processor time for 60 ms.
    ///
    /// # Errors
    /// The server was still busy after 60 s.
    pub(crate) fn wait_until_idle(&self) -> io::Result<()> {
        let start = Instant::now();
        let mut used = self.cpu()?;
        while start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(60));
            let now = self.cpu()?;
            if now == used {
                return Ok(());
            }
            used = now;
        }
        Err(io::Error::other("the server is still busy after 60 s"))
    }

    /// Returns the number of sockets on this server's port with unsent bytes in the kernel, and the sum of these bytes.
    /// Sockets that the server has closed are included.
    pub(crate) fn unsent(&self) -> io::Result<(usize, u64)> {
        let port = format!(":{:04X}", self.addr.port());
        let table = fs::read_to_string("/proc/net/tcp")?;
        let queues = table.lines().filter_map(|line| {
            // sl, local address, remote address, state, tx_queue:rx_queue
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next()?;
            let (state, queues) = (fields.nth(1)?, fields.next()?);
            let (unsent, _) = queues.split_once(':')?;
            let is_ours = local.ends_with(&port) && state != LISTEN;
            is_ours.then(|| u64::from_str_radix(unsent, 16).ok())?
        });
        let queues: Vec<u64> = queues.filter(|unsent| *unsent > 0).collect();
        Ok((queues.len(), queues.iter().sum()))
    }

    fn proc(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counter of the total time for which a thread was runnable but waited for a processor that ran something else.
pub(crate) struct RunDelay(File);

impl RunDelay {
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/schedstat")?))
    }

    pub(crate) fn read(&self) -> io::Result<Duration> {
        let mut buf = [0; 128];
        let len = self.0.read_at(&mut buf, 0)?;
        let text = String::from_utf8_lossy(&buf[..len]);
        let nanos = text.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
        nanos
            .map(Duration::from_nanos)
            .ok_or_else(|| io::Error::other("no delay in schedstat"))
    }
}

/// A stderr that cannot be written to.
#[derive(Clone, Copy)]
pub(crate) enum Stderr {
    /// Descriptor 2 is closed.
    Closed,
    /// /dev/full: each write fails with ENOSPC.
    Full,
    /// A pipe with a closed reading end.
    Broken,
}

/// Runs the binary until it exits. Returns its exit code, or `None` if a signal ended it.
///
/// # Errors
/// The program has not exited after 10 s; it is killed.
pub(crate) fn exit_code(attack: &Attack, args: &[&str], stderr: Stderr) -> io::Result<Option<i32>> {
    let mut command = match stderr {
        Stderr::Closed => {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", r#"exec "$0" "$@" 2>&-"#])
                .arg(&attack.binary);
            shell
        }
        Stderr::Full => {
            let mut command = Command::new(&attack.binary);
            command.stderr(OpenOptions::new().write(true).open("/dev/full")?);
            command
        }
        Stderr::Broken => {
            let mut command = Command::new(&attack.binary);
            command.stderr(io::pipe()?.1);
            command
        }
    };
    let mut child = command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if start.elapsed() > Duration::from_secs(10) {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("the program has not exited after 10 s"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lowers the priority of the calling thread, so that the attack does not take processor time from the server and the
/// victim.
pub(crate) fn lower_priority() {
    let thread = fs::read_link("/proc/thread-self").ok();
    let id = thread.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    if let Some(id) = id {
        // Ignored if it fails: the lower priority only reduces noise.
        let _ = Command::new("renice")
            .args(["-n", "10", "-p", &id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Starts a thread that reads a pipe to its end and returns the bytes.
pub(crate) fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error only ends the reading: the server was killed.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// TCP_LISTEN in the state column of /proc/net/tcp.
const LISTEN: &str = "0A";
