//! The load of benches/scale-out: topics that span servers, over plain WebSockets or Socket.IO.
//!
//!     scale-out-load rounds|paced|flood KEY=VALUE...
//!
//! `rounds`: in each topic, each sender writes a burst at once, and the next round begins when all members of the topic have
//! received all of it. `paced`: a thread sends single messages at a rate, to one topic after the other, whatever comes back;
//! prints latencies. `flood`: senders write as much as the servers read.
//!
//! Prints one line of JSON. Every received message is compared with what was sent.

mod link;

use link::{Link, Protocol};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

struct Options {
    mode: String,
    protocol: Protocol,
    ports: Vec<u16>,
    topics: usize,
    /// Members of each topic on each server.
    members: usize,
    /// Senders in each topic, on one server after the other.
    senders: usize,
    burst: usize,
    size: usize,
    rate: f64,
    warmup: Duration,
    seconds: Duration,
    /// Processes whose CPU time is measured.
    pids: Vec<u32>,
}

/// Progress of a topic in the mode `rounds`.
struct Topic {
    senders: Vec<usize>,
    members: usize,
    missing: usize,
}

struct Run {
    options: Options,
    poll: Poll,
    links: Vec<Link>,
    topics: Vec<Topic>,
    burst: Vec<u8>,
    text: Vec<u8>,
    published: u64,
    delivered: u64,
    ended: u64,
    started: Instant,
    latencies: Vec<u64>,
}

/// The state at the beginning or end of what is measured.
struct Mark {
    at: Instant,
    published: u64,
    delivered: u64,
    cpu: Vec<f64>,
}

fn main() {
    let mut run = Run::new(Options::parse());
    // The servers subscribe meanwhile.
    thread::sleep(Duration::from_millis(700));
    let (start, end) = run.measure();
    let seconds = end.at.duration_since(start.at).as_secs_f64();
    let cpu = start.cpu.iter().zip(&end.cpu).map(|(from, to)| to - from);
    let cpu: Vec<_> = cpu.map(|seconds| format!("{seconds:.9}")).collect();
    let latencies = &mut run.latencies;
    latencies.sort_unstable();
    let percentile = |part: f64| {
        let index = (latencies.len() as f64 * part) as usize;
        latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    println!(
        "{{\"seconds\": {seconds:.6}, \"published\": {}, \"delivered\": {}, \"ended\": {}, \"cpu\": [{}], \"p50_us\": {:.1}, \
         \"p99_us\": {:.1}}}",
        end.published - start.published,
        end.delivered - start.delivered,
        run.ended,
        cpu.join(", "),
        percentile(0.5),
        percentile(0.99),
    );
}

impl Options {
    fn parse() -> Self {
        let mut args = std::env::args().skip(1);
        let mode = args.next().expect("the first argument is the mode");
        let given: HashMap<String, String> = args
            .map(|arg| {
                let (key, value) = arg.split_once('=').expect("KEY=VALUE");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let number = |key: &str, default: f64| -> f64 {
            let given = given.get(key);
            given.map_or(default, |value| value.parse().expect("a number"))
        };
        let list = |key: &str| -> Vec<u32> {
            let given = given.get(key).map_or("", String::as_str).split(',');
            let given = given.filter(|value| !value.is_empty());
            given
                .map(|value| value.parse().expect("a number"))
                .collect()
        };
        Self {
            mode,
            protocol: match given.get("protocol").map(String::as_str) {
                Some("socketio") => Protocol::SocketIo,
                _ => Protocol::Plain,
            },
            ports: list("ports").into_iter().map(|port| port as u16).collect(),
            topics: number("topics", 1.0) as usize,
            members: number("members", 1.0) as usize,
            senders: number("senders", 1.0) as usize,
            burst: number("burst", 1.0) as usize,
            size: number("size", 64.0) as usize,
            rate: number("rate", 1000.0),
            warmup: Duration::from_secs_f64(number("warmup", 0.3)),
            seconds: Duration::from_secs_f64(number("seconds", 1.0)),
            pids: list("pids"),
        }
    }
}

impl Run {
    fn new(options: Options) -> Self {
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(options.size).collect();
        let burst = options.protocol.message(&text).repeat(options.burst);
        let mut run = Self {
            poll: Poll::new().expect("a poll"),
            links: Vec::new(),
            topics: Vec::new(),
            text,
            burst,
            published: 0,
            delivered: 0,
            ended: 0,
            started: Instant::now(),
            latencies: Vec::new(),
            options,
        };
        for topic in 0..run.options.topics {
            let first = run.links.len();
            for _ in 0..run.options.members {
                for port in run.options.ports.clone() {
                    run.connect(port, topic);
                }
            }
            let senders: Vec<_> = (first..run.links.len()).take(run.options.senders).collect();
            for sender in &senders {
                run.links[*sender].is_sender = true;
            }
            run.topics.push(Topic {
                senders,
                members: run.links.len() - first,
                missing: 0,
            });
        }
        run
    }

    fn connect(&mut self, port: u16, topic: usize) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut link = Link::connect(address, self.options.protocol, topic);
        let interest = match self.options.mode.as_str() {
            "flood" => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        let registry = self.poll.registry();
        let token = Token(self.links.len());
        registry
            .register(&mut link.stream, token, interest)
            .expect("a registration");
        self.links.push(link);
    }

    fn measure(&mut self) -> (Mark, Mark) {
        self.started = Instant::now();
        let measured_from = self.started + self.options.warmup;
        let until = measured_from + self.options.seconds;
        match self.options.mode.as_str() {
            "rounds" => (0..self.topics.len()).for_each(|topic| self.begin_round(topic)),
            "paced" => self.start_pacing(until),
            _ => {}
        }
        let mut events = Events::with_capacity(1024);
        let mut start = None;
        loop {
            self.poll
                .poll(&mut events, Some(Duration::from_millis(20)))
                .expect("a poll");
            for event in &events {
                let index = event.token().0;
                if event.is_readable() {
                    self.read(index);
                }
                if event.is_writable() && self.options.mode == "flood" {
                    self.flood(index);
                }
            }
            let now = Instant::now();
            if start.is_none() && now >= measured_from {
                start = Some(self.mark());
                self.latencies.clear();
            }
            if now >= until {
                return (start.expect("the warm-up is over"), self.mark());
            }
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            published: self.published,
            delivered: self.delivered,
            cpu: self
                .options
                .pids
                .iter()
                .map(|pid| cpu_seconds(*pid))
                .collect(),
        }
    }

    fn begin_round(&mut self, topic: usize) {
        let topic = &mut self.topics[topic];
        let published = topic.senders.len() * self.options.burst;
        topic.missing = published * topic.members;
        self.published += published as u64;
        for sender in &topic.senders {
            let written = self.links[*sender].stream.write(&self.burst);
            assert_eq!(
                written.ok(),
                Some(self.burst.len()),
                "a burst is written at once"
            );
        }
    }

    fn read(&mut self, index: usize) {
        let mut received = 0;
        let link = &mut self.links[index];
        let topic = link.topic;
        let is_paced = self.options.mode == "paced";
        let (text, latencies, started) = (&self.text, &mut self.latencies, self.started);
        let is_open = link.read(|payload| {
            received += 1;
            if is_paced {
                let now = started.elapsed().as_nanos() as u64;
                let sent = str::from_utf8(&payload[..16]).ok();
                let sent = sent.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                latencies.push(now - sent.expect("the time at which it was sent"));
            } else {
                assert!(payload == text, "a message differs from what was sent");
            }
        });
        self.delivered += received as u64;
        if !is_open {
            assert_eq!(
                self.options.mode, "flood",
                "a server has ended a connection"
            );
            self.ended += 1;
        }
        if self.options.mode == "rounds" {
            let missing = &mut self.topics[topic].missing;
            *missing = missing
                .checked_sub(received)
                .expect("no message arrives twice");
            if received > 0 && *missing == 0 {
                self.begin_round(topic);
            }
        }
    }

    fn flood(&mut self, index: usize) {
        if !self.links[index].is_sender {
            return;
        }
        // Bounded, so that the other connections are served.
        for _ in 0..16 {
            match self.links[index].write_some(&self.burst) {
                true => self.published += self.options.burst as u64,
                false => return,
            }
        }
    }

    /// Starts a thread that sends until the end, to one topic after the other.
    fn start_pacing(&mut self, until: Instant) {
        let topics = self.topics.iter();
        let mut streams: Vec<TcpStream> = topics
            .map(|topic| self.links[topic.senders[0]].clone_stream())
            .collect();
        let (rate, started) = (self.options.rate, self.started);
        let (protocol, mut text) = (self.options.protocol, self.text.clone());
        thread::spawn(move || {
            let topics = streams.len();
            for number in 0.. {
                let due = started + Duration::from_secs_f64(f64::from(number) / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if due >= until {
                    return;
                }
                let time = format!("{:016x}", started.elapsed().as_nanos());
                text[..16].copy_from_slice(time.as_bytes());
                let message = protocol.message(&text);
                let written = streams[number as usize % topics].write(&message);
                assert_eq!(
                    written.ok(),
                    Some(message.len()),
                    "a message is written at once"
                );
            }
        });
        // Counted by what arrives.
        self.published = 0;
    }
}

/// Returns the CPU time of all threads of a process, as counted by the scheduler.
fn cpu_seconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let nanoseconds = tasks.map(|task| {
        let text = fs::read_to_string(task.expect("a task").path().join("schedstat"));
        let text = text.unwrap_or_default();
        let first = text.split(' ').next().unwrap_or_default();
        first.parse::<u64>().unwrap_or(0)
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}
