//! Soak: a bounded run of mixed load with faults against the binary. Nothing that was sent may be unaccounted for,
//! and at the end the server must be where it was at the start.
//!
//! `cargo bench --bench soak` runs for 60 seconds; `cargo bench --bench soak -- 600` for 600, and with a second
//! number, which the run before has printed, with the same seed. Linux only, for /proc.
//!
//! Three threads, each with a load of clients on non-blocking sockets: **conversation** (many short conversations with an
//! echo, in small messages, and every way to end one), **bulk** (messages of up to 4 MiB, slow readers, aborts in
//! the middle of a frame), **topic** (members that join a broadcast, publish, fall behind and leave).
//!
//! Every echo is compared with what was sent. In the topic one member, the witness, reads all the time and never
//! leaves: what every other member reads must lie in the witness's order without a gap, from what was published
//! after it had joined to what the witness had when it left, unless it was told 1013. A message that was sent is
//! *delivered* (its echo came back; the witness saw it), or *ended* (its sender went away on purpose without waiting
//! for it); what is neither is lost, and the run fails.

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

    // The allocator's and the kernel's first costs are no growth: the same load, for a while, comes before.
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
        (warm_up.lost() == 0, "something was lost in the warm-up"),
        (
            totals.lost() == 0,
            "something that was sent is unaccounted for",
        ),
        (
            totals.sent.load(Relaxed) > 0 && totals.refused.load(Relaxed) > 0,
            "the load was none",
        ),
        (
            seconds < LAG_SECONDS_MIN || totals.lagged.load(Relaxed) > 0,
            "no member of the topic was told 1013",
        ),
        (
            start.descriptors == descriptors_unused && end.descriptors == start.descriptors,
            "descriptors did not come back",
        ),
        (
            end.rss <= start.rss + RSS_GROWTH_KIB_MAX,
            "memory did not come back",
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

/// Runs the three loads for so long, with a line of progress every 10 s.
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

/// Counts, over all threads.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) sent: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// Sent, and its sender went away on purpose.
    pub(crate) ended: AtomicU64,
    /// What members of the topic have read.
    pub(crate) received_by_members: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Requests answered with an error in HTTP, violations answered with 1002, members told 1013: as it should be.
    pub(crate) refused: AtomicU64,
    pub(crate) lagged: AtomicU64,
    /// Told one by one.
    faults: AtomicU64,
    peak_rss: AtomicU64,
}

impl Totals {
    fn lost(&self) -> u64 {
        let accounted = self.delivered.load(Relaxed) + self.ended.load(Relaxed);
        self.faults.load(Relaxed) + self.sent.load(Relaxed).abs_diff(accounted)
    }

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
            "refused: {} (of these members told 1013: {})",
            of(&self.refused),
            of(&self.lagged)
        );
    }

    pub(crate) fn fault(&self, what: &str) {
        println!("  fault: {what}");
        self.faults.fetch_add(1, Relaxed);
    }
}

/// What a thread's clients share.
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

/// What the end may have more of memory than the start: a heap's top is never quite the same.
const RSS_GROWTH_KIB_MAX: u64 = 1024;

/// A run that is shorter than this may be over before a member is too far behind.
const LAG_SECONDS_MIN: u64 = 30;

/// Without any byte for so long, a client gives up.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(20);

/// When no socket moves.
pub(crate) const PAUSE: Duration = Duration::from_micros(300);
