//! Runs the server binary as a process and reads what it prints.

use super::{WAIT, eventually};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

pub(crate) const WSLOOP: &str = env!("CARGO_BIN_EXE_wsloop");

/// A running server. It is killed when this value is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// The unread lines of stdout.
    pub(crate) out: Receiver<String>,
    /// The unread lines of stderr.
    pub(crate) log: Receiver<String>,
    /// The address of the first listener. 0.0.0.0:0 before the process has announced it.
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// Starts `wsloop ARGS` on a free port and waits until it announces the address.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(WSLOOP);
        command.args(args).args(["-l", "127.0.0.1:0"]);
        Self::announced(command)
    }

    /// Starts a command and waits until it announces its first address.
    pub(crate) fn announced(mut command: Command) -> Self {
        let mut process = Self::new(&mut command);
        let announcement = process.out.recv_timeout(WAIT).expect("an announcement");
        let url = announcement.strip_prefix("listening on ws://");
        let addr = url.and_then(|url| url.strip_suffix('/'));
        process.addr = addr.expect(&announcement).parse().unwrap();
        process
    }

    /// Starts a command, without `RUST_LOG`, and does not wait for an announcement.
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        Self {
            child,
            out,
            log,
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }

    /// Sends a signal to this process.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end of the process. Returns its exit code, or `None` if a signal killed it.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Reads the log until a line contains `part`, and returns this line.
    pub(crate) fn logged(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(WAIT).expect("another line");
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines in a thread until the pipe ends.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            // Fails if the test has dropped the receiver.
            let _ = send.send(line.unwrap());
        }
    });
    receive
}

/// Runs `wsloop ARGS` until it exits. Returns its exit code, its stdout and its stderr.
pub(crate) fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(WSLOOP);
    let mut process = Process::new(command.args(args));
    let code = process.code();
    let all = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect();
    (code, all(&process.out), all(&process.log))
}
