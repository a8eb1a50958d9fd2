//! Soak test: mixed load with faults against the binary, for a limited time. No message may be lost, and at the end the
//! server's memory and descriptors must be those of the start.
//!
//! `cargo bench --bench soak` runs for 60 seconds, `cargo bench --bench soak -- SECONDS SEED` for other times, with the
//! seed that an earlier run has printed. Needs Linux (/proc). The exit code is 1 if a check fails.
//!
//! Three threads, each with many clients on non-blocking sockets:
//!
//! - echo clients with small messages, which end their connections in all possible ways,
//! - echo clients with messages of up to 4 MiB, slow readers, and aborts in the middle of a frame,
//! - members of a topic, which join, publish, fall behind and leave.
//!
//! Every echo is compared with the message sent. One member of the topic, the witness, reads all the time and never
//! leaves. The order in which it reads the messages is the reference. Every other member must read the same messages in
//! the same order without a gap. The first is the first message published after the member joined. The last is at least
//! the last message that the witness had read when the member left. A member that the server disconnects with 1013 (too
//! far behind) may miss messages at the end.
//!
//! A message is *delivered* if its echo arrived or the witness read it, and *ended* if its sender disconnected on purpose
//! without waiting for it. All other messages are lost, and the run fails.

mod broadcast;
mod conversation;
mod member;
mod random;
mod server;
mod wire;

use random::Random;
use server::Server;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let seconds = numbers.first().copied().unwrap_or(60).max(1);
    let seed = numbers.get(1).copied().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("it is after 1970").as_nanos() as u64 % 1_000_000
    });
    println!("soak of {seconds} s, seed {seed}");
    let mut server = Server::start();
    let descriptors_unused = server.descriptors();

    // A warm-up with the same load, so that allocations that happen only once are not counted as growth.
    let warm_up = (seconds / 4).clamp(5, 30);
    let warm_up = run(&server, warm_up, seed ^ 1, "warm-up");
    let start = server.usage_at_rest(descriptors_unused);
    let totals = run(&server, seconds, seed, "");
    let end = server.usage_at_rest(descriptors_unused);
    let peak = totals.peak_rss.load(Relaxed);
    let code = server.stop();

    totals.print();
    println!(
        "RSS: start {}, peak {}, end {} KiB",
        start.rss, peak, end.rss
    );
    println!(
        "descriptors: unused {descriptors_unused}, start {}, end {}; exit code {code:?}",
        start.descriptors, end.descriptors
    );
    let rules = [
        (warm_up.lost() == 0, "messages were lost in the warm-up"),
        (
            totals.lost() == 0,
            "messages that were sent are unaccounted for, or there were faults",
        ),
        (
            totals.sent.load(Relaxed) > 0 && totals.refused.load(Relaxed) > 0,
            "no message was sent, or no client was refused",
        ),
        (
            seconds < LAG_SECONDS_MIN || totals.lagged.load(Relaxed) > 0,
            "no member of the topic was disconnected with 1013",
        ),
        (
            start.descriptors == descriptors_unused && end.descriptors == start.descriptors,
            "the number of open descriptors differs from that before the load",
        ),
        (
            end.rss <= start.rss + RSS_GROWTH_KIB_MAX,
            "resident memory has grown by more than 1024 KiB",
        ),
        (code == Some(0), "the server did not end with exit code 0"),
    ];
    let broken: Vec<&str> = rules
        .iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, rule)| *rule)
        .collect();
    for rule in &broken {
        println!("FAILED: {rule} (seed {seed})");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

/// Runs the three loads for `seconds`, and prints a line of progress every 10 s.
fn run(server: &Server, seconds: u64, seed: u64, name: &str) -> Totals {
    let totals = Totals::default();
    let is_over = AtomicBool::new(false);
    let loads: [fn(&mut Load<'_>); 3] = [
        conversation::small,
        conversation::large,
        broadcast::broadcast,
    ];
    thread::scope(|scope| {
        let threads: Vec<_> = loads
            .into_iter()
            .enumerate()
            .map(|(at, load)| {
                let mut context = Load {
                    address: &server.address,
                    totals: &totals,
                    is_over: &is_over,
                    random: Random::new(seed.wrapping_add(at as u64)),
                };
                scope.spawn(move || load(&mut context))
            })
            .collect();
        let start = Instant::now();
        let mut next_line = 10;
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            totals.peak_rss.fetch_max(server.rss(), Relaxed);
            let elapsed = start.elapsed().as_secs();
            if elapsed >= seconds {
                is_over.store(true, Relaxed);
            }
            if elapsed >= next_line {
                println!(
                    "{next_line:>5} s {name} {}, RSS {} KiB",
                    totals.line(),
                    server.rss()
                );
                next_line += 10;
            }
        }
    });
    totals
}

/// Counters shared by all threads.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) sent: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// Messages that may be lost because their sender disconnected on purpose.
    pub(crate) ended: AtomicU64,
    /// Messages that members of the topic other than the witness have read.
    pub(crate) received_by_members: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Expected refusals: requests answered with an HTTP error, violations answered with 1002, members closed with
    /// 1013.
    pub(crate) refused: AtomicU64,
    /// Members closed with 1013.
    pub(crate) lagged: AtomicU64,
    /// Deviations from the expected behaviour, each printed when it is found.
    faults: AtomicU64,
    peak_rss: AtomicU64,
}

impl Totals {
    /// Returns the number of faults, plus the number of messages that are neither delivered nor ended.
    fn lost(&self) -> u64 {
        let accounted = self.delivered.load(Relaxed) + self.ended.load(Relaxed);
        self.faults.load(Relaxed) + self.sent.load(Relaxed).abs_diff(accounted)
    }

    /// Formats the counters for a line of progress.
    fn line(&self) -> String {
        format!(
            "{} connections, {} sent, {} delivered, {} refused, {} faults",
            self.connections.load(Relaxed),
            self.sent.load(Relaxed),
            self.delivered.load(Relaxed),
            self.refused.load(Relaxed),
            self.faults.load(Relaxed),
        )
    }

    fn print(&self) {
        let of = |count: &AtomicU64| count.load(Relaxed);
        println!("connections {}", of(&self.connections));
        println!(
            "messages: sent {} ({} MiB), delivered {}, ended with their sender {}, unaccounted for {}",
            of(&self.sent),
            of(&self.bytes) >> 20,
            of(&self.delivered),
            of(&self.ended),
            self.lost(),
        );
        println!(
            "messages read by the topic's members: {}",
            of(&self.received_by_members)
        );
        println!(
            "refused: {} (of these, members closed with 1013: {})",
            of(&self.refused),
            of(&self.lagged)
        );
    }

    /// Prints a fault and counts it.
    pub(crate) fn fault(&self, what: &str) {
        println!("  fault: {what}");
        self.faults.fetch_add(1, Relaxed);
    }
}

/// The state that all clients of one thread share.
pub(crate) struct Load<'a> {
    pub(crate) address: &'a str,
    pub(crate) totals: &'a Totals,
    is_over: &'a AtomicBool,
    pub(crate) random: Random,
}

impl Load<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }
}

/// Maximum growth of the resident set between start and end. The figure of an idle process varies a little.
const RSS_GROWTH_KIB_MAX: u64 = 1024;

/// Minimum duration of a run in which a member must be closed with 1013. In a shorter run, possibly no member falls behind
/// far enough.
const LAG_SECONDS_MIN: u64 = 30;

/// Maximum time in which a client that waits for the server reads and writes no byte. After that, it reports a fault.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(20);

/// Time that a thread sleeps if none of its sockets could be read or written.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);
