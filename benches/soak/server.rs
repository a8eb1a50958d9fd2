//! The server binary as a child process: starts it, measures it through /proc, and stops it with SIGTERM.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The server's process. Dropping this value kills it.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

/// The system resources of the process.
pub(crate) struct Usage {
    /// Resident set in KiB.
    pub(crate) rss: u64,
    pub(crate) descriptors: usize,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_wsloop"))
            .args([
                "serve",
                "-l",
                "127.0.0.1:0",
                "-r",
                "/echo=echo",
                "-r",
                "/chat=broadcast",
            ])
            .args(["--lag-bytes-max", "512K"])
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

    /// Returns the resident set in KiB (VmRSS).
    pub(crate) fn rss(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(path).expect("Linux's /proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number
            .and_then(|number| number.parse().ok())
            .expect("VmRSS is a number")
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(path).expect("Linux's /proc").count()
    }

    /// Waits until the server has only `descriptors` open descriptors, which means that no client is connected, or for
    /// [`SETTLE_MAX`]. Returns the resources of the server's process.
    pub(crate) fn usage_at_rest(&self, descriptors: usize) -> Usage {
        let deadline = Instant::now() + SETTLE_MAX;
        while self.descriptors() != descriptors && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        Usage {
            rss: self.rss(),
            descriptors: self.descriptors(),
        }
    }

    /// Sends SIGTERM and waits for the end of the process. Returns its exit code, or `None` if a signal ended it or it still
    /// runs after [`SETTLE_MAX`].
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let kill = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        assert!(kill.is_ok_and(|status| status.success()), "kill(1) works");
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Maximum wait for the end of all connections or of the process: longer than the server's longest timeout for a
/// connection that ends, the write timeout of 30 s.
const SETTLE_MAX: Duration = Duration::from_secs(40);
