//! A [`Redis`] in a poll of its own, and brokers for it: a real one, and a proxy in front of it.

use crate::backplane::{Backplane, BackplaneContext, BackplaneEvent};
use crate::engine::sources::{FIRST_SOURCE_TOKEN, Ready, Sources};
use crate::redis::{Redis, Settings};
use mio::{Events, Poll};
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A client and its poll.
pub(super) struct Driver {
    poll: Poll,
    sources: Sources,
    ready: Ready,
    pub(super) redis: Redis,
    /// Number of calls of the poll.
    pub(super) turns: usize,
}

/// A [`BackplaneEvent`] with copies of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Connected,
    Subscribed(String),
    Message(String, Vec<u8>),
    TooLong(String, u64),
    Acknowledged(u64),
    Disconnected {
        reason: String,
        is_permanent: bool,
        unacknowledged: u64,
    },
}

impl From<BackplaneEvent<'_>> for Event {
    fn from(event: BackplaneEvent<'_>) -> Self {
        match event {
            BackplaneEvent::Connected => Self::Connected,
            BackplaneEvent::Subscribed { topic } => Self::Subscribed(topic.into()),
            BackplaneEvent::Message { topic, payload } => {
                Self::Message(topic.into(), payload.into())
            }
            BackplaneEvent::TooLong { topic, bytes } => Self::TooLong(topic.into(), bytes),
            BackplaneEvent::Acknowledged { publications } => Self::Acknowledged(publications),
            BackplaneEvent::Disconnected {
                error,
                unacknowledged,
            } => Self::Disconnected {
                reason: error.to_string(),
                is_permanent: error.is_permanent(),
                unacknowledged,
            },
        }
    }
}

impl Driver {
    pub(super) fn new(settings: Settings) -> Self {
        let poll = Poll::new().unwrap();
        let sources = Sources::new(Some(poll.registry().try_clone().unwrap()));
        let ready = Ready {
            is_readable: false,
            is_writable: false,
        };
        Self {
            poll,
            sources,
            ready,
            redis: Redis::new(settings),
            turns: 0,
        }
    }

    /// Connects to the URL.
    pub(super) fn connect(url: &str) -> Self {
        let mut driver = Self::new(url.parse().unwrap());
        driver.until(Duration::from_secs(3), |event| *event == Event::Connected);
        driver
    }

    /// Runs a turn of at most `timeout`. Returns its events.
    pub(super) fn turn(&mut self, timeout: Duration) -> Vec<Event> {
        let mut polled = Events::with_capacity(16);
        let next_at = self.redis.next_at();
        let timeout = next_at.map_or(timeout, |at| {
            let until = at.saturating_duration_since(Instant::now());
            // Rounded up, as in the server: a timeout that is rounded down ends too early.
            timeout.min(until + Duration::from_millis(1))
        });
        self.poll.poll(&mut polled, Some(timeout)).unwrap();
        self.turns += 1;
        let mut is_ready = false;
        for event in &polled {
            assert!(event.token().0 >= FIRST_SOURCE_TOKEN);
            self.sources.mark(
                event.token(),
                Ready {
                    is_readable: event.is_readable(),
                    is_writable: event.is_writable(),
                },
            );
        }
        while let Some((_, ready)) = self.sources.next_ready() {
            self.ready.is_readable |= ready.is_readable;
            self.ready.is_writable |= ready.is_writable;
            is_ready = true;
        }
        let now = Instant::now();
        let mut events = Vec::new();
        if is_ready || self.redis.next_at().is_some_and(|at| at <= now) {
            let mut cx = BackplaneContext::new(&mut self.sources, &mut self.ready, now);
            while let Some(event) = self.redis.next_event(&mut cx) {
                events.push(event.into());
            }
        }
        events
    }

    pub(super) fn flush(&mut self) {
        let now = Instant::now();
        let mut cx = BackplaneContext::new(&mut self.sources, &mut self.ready, now);
        self.redis.flush(&mut cx);
    }

    /// Runs turns until an event for which `is_last` returns `true`. Returns all events.
    pub(super) fn until(
        &mut self,
        timeout: Duration,
        mut is_last: impl FnMut(&Event) -> bool,
    ) -> Vec<Event> {
        let deadline = Instant::now() + timeout;
        let mut all = Vec::new();
        while Instant::now() < deadline {
            all.extend(self.turn(Duration::from_millis(100)));
            // The caller's subscriptions belong to this turn, so it flushes after them.
            if all.iter().any(&mut is_last) {
                return all;
            }
            self.flush();
        }
        panic!("not within {timeout:?}, but: {all:?}");
    }

    /// Runs turns for this time. Returns the events.
    pub(super) fn during(&mut self, duration: Duration) -> Vec<Event> {
        let deadline = Instant::now() + duration;
        let mut all = Vec::new();
        while Instant::now() < deadline {
            all.extend(self.turn(deadline.saturating_duration_since(Instant::now())));
            self.flush();
        }
        all
    }

    /// Subscribes, and waits for the confirmation.
    pub(super) fn subscribe(&mut self, topic: &str) {
        self.redis.subscribe(topic);
        self.flush();
        let expected = Event::Subscribed(topic.into());
        self.until(Duration::from_secs(3), |event| *event == expected);
    }

    pub(super) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.redis.publish(topic, payload);
        self.flush();
    }

    /// Waits for the end of the connection or of the attempt. Returns the reason, whether the error is permanent, and the
    /// number of unacknowledged publications.
    pub(super) fn disconnection(&mut self, timeout: Duration) -> (String, bool, u64) {
        let is_disconnection = |event: &Event| matches!(event, Event::Disconnected { .. });
        let events = self.until(timeout, is_disconnection);
        match events.into_iter().find(is_disconnection) {
            Some(Event::Disconnected {
                reason,
                is_permanent,
                unacknowledged,
            }) => (reason, is_permanent, unacknowledged),
            _ => unreachable!(),
        }
    }
}

/// A process of the broker in a directory of its own, on a free port of the loopback address and on a Unix socket.
pub(super) struct RedisServer {
    directory: PathBuf,
    pub(super) port: u16,
    extra: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a broker with the further arguments `extra`.
    pub(super) fn start(extra: &[&str]) -> Self {
        let port = free_port();
        let name = format!("wsloop-redis-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut server = Self {
            directory,
            port,
            extra: extra.iter().map(|word| String::from(*word)).collect(),
            process: None,
        };
        server.restart();
        server
    }

    /// Kills the broker if it runs, and starts it with the same port.
    pub(super) fn restart(&mut self) {
        self.kill();
        let process = Command::new(program())
            .args(["--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--unixsocket", &self.socket().display().to_string()])
            .args(["--dir", &self.directory.display().to_string()])
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program()));
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address()).is_err() {
            assert!(Instant::now() < deadline, "the server does not start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn unix_url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Kills the process (SIGKILL).
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Sends a signal to the process.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Sends a command with `redis-cli`. Returns the answer.
    pub(super) fn cli(&self, words: &[&str]) -> String {
        let cli = Path::new(&program()).with_file_name(match program().contains("valkey") {
            true => "valkey-cli",
            false => "redis-cli",
        });
        let output = Command::new(cli)
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().into()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns the broker's program: the value of the variable `REDIS_SERVER`, or `redis-server`.
fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into())
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A proxy in front of a broker. It can end connections on the client's side alone.
pub(super) struct Proxy {
    pub(super) port: u16,
    /// Both sides of each connection.
    connections: Arc<Mutex<Vec<[TcpStream; 2]>>>,
}

impl Proxy {
    pub(super) fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<Mutex<Vec<_>>>::default();
        let all = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(upstream).unwrap();
                copy(&client, &server);
                copy(&server, &client);
                all.lock().unwrap().push([client, server]);
            }
        });
        Self { port, connections }
    }

    /// Ends all connections on the client's side. The broker does not notice.
    pub(super) fn cut_clients(&self) {
        for [client, _] in &*self.connections.lock().unwrap() {
            // A connection that was cut before is not connected.
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

/// Copies from one socket to the other until the end of the stream. The end is not passed on.
fn copy(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || io::copy(&mut from, &mut to));
}
