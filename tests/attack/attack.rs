//! Attacks a running wsloop from outside and checks what the attack costs everybody else.
//!
//! Each scenario starts a server process of its own, does over loopback what a hostile or unlucky peer would do, and
//! adds rows to one table: scenario, measured, wanted, ok or FAILED. `tests/attack/run` builds both programs and runs
//! this one; its header has the usage.
//!
//! - A *victim* is a connection that sends 20 bytes to /echo every millisecond, whatever is outstanding (open loop).
//!   Latency is counted from the time when a message was due, without the time for which the server or the victim was
//!   ready to run and waited for a processor: that is the machine's other work, the attack's threads included. "raw" is
//!   the maximum with that time.
//! - *Memory* is the resident set (`Rss` in /proc/PID/smaps_rollup), in MB of 10^6 bytes, at the latest 10 s after the
//!   attack has ended. A row ends as soon as the wanted value is reached; `--patient` waits and prints the values after
//!   1 s and 10 s. "Aged" means that 6 000 ordinary connections came and went before.
//! - Threads that attack run at a lower priority than the server and the victim, so that a machine with two cores
//!   measures the server. A scenario that measures latency is run a second time if it fails, because a shared machine
//!   stalls at times; the second result counts.
//!
//! What a scenario sends is bounded in count, bytes and time. Only processes that this program started are signalled.

mod broadcast;
mod child;
mod clock;
mod connections;
mod floods;
mod handshakes;
mod logs;
mod memory;
mod queues;
mod report;
mod victim;
mod wire;

use report::Report;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What all scenarios share.
struct Attack {
    /// The server's binary.
    binary: PathBuf,
    /// Smaller counts.
    is_quick: bool,
    /// Memory is printed after 1 s and 10 s, whatever it is.
    is_patient: bool,
    /// Connections that this process may hold.
    connections_max: usize,
}

impl Attack {
    /// `full`, or `quick` with `--quick`.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

type Run = fn(&Attack, &mut Report) -> io::Result<()>;

struct Scenario {
    name: &'static str,
    run: Run,
    /// It is run again if it failed: a shared machine stalls at times.
    is_timed: bool,
}

const SCENARIOS: [Scenario; 20] = [
    once("memory-cut-messages", memory::cut_messages),
    once("memory-aged", memory::aged),
    once("memory-heads", memory::heads),
    once("memory-queues", queues::outbound),
    once("memory-paths", queues::paths),
    timed("skip-slow-members", broadcast::skip_slow_members),
    timed("large-publication", broadcast::large_publication),
    once("stopped-handshakes", clock::handshakes),
    once("stopped-idle", clock::idle),
    once("stopped-write", clock::write),
    once("stopped-log-reader", clock::log_reader),
    once("silent-connections", handshakes::silent),
    once("stalled-log", logs::stalled),
    once("json-log", logs::bounded),
    timed("tiny-frames", floods::tiny_frames),
    once("unread-backlog", floods::unread_backlog),
    once("terminated-kernel-memory", floods::kernel_memory),
    timed("subprotocols", handshakes::offers),
    timed("join-leave", broadcast::join_leave),
    once("closed-stderr", logs::closed_stderr),
];

const fn once(name: &'static str, run: Run) -> Scenario {
    Scenario {
        name,
        run,
        is_timed: false,
    }
}

const fn timed(name: &'static str, run: Run) -> Scenario {
    Scenario {
        name,
        run,
        is_timed: true,
    }
}

fn main() -> ExitCode {
    let usage = "usage: attack --binary PATH [--quick] [--patient] [--list] [--only NAME]...";
    let mut binary = None;
    let (mut is_quick, mut is_patient) = (false, false);
    let mut only = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--binary" => binary = words.next().map(PathBuf::from),
            "--only" => only.extend(words.next()),
            "--quick" => is_quick = true,
            "--patient" => is_patient = true,
            "--list" => {
                SCENARIOS
                    .iter()
                    .for_each(|scenario| println!("{}", scenario.name));
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("{usage}");
                return ExitCode::from(2);
            }
        }
    }
    let is_selected =
        |name: &str| only.is_empty() || only.iter().any(|part| name.starts_with(&**part));
    let Some(binary) =
        binary.filter(|_| SCENARIOS.iter().any(|scenario| is_selected(scenario.name)))
    else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024) as usize;
    let attack = Attack {
        binary,
        is_quick,
        is_patient,
        connections_max: descriptors.saturating_sub(200),
    };
    let start = Instant::now();
    let mut report = Report::new();
    for scenario in SCENARIOS
        .iter()
        .filter(|scenario| is_selected(scenario.name))
    {
        report.begin(scenario.name);
        run(scenario, &attack, &mut report);
        if scenario.is_timed && report.has_failed() {
            report.begin_retry();
            run(scenario, &attack, &mut report);
        }
        report.end();
    }
    println!("{:.0} s", start.elapsed().as_secs_f64());
    report.exit_code()
}

fn run(scenario: &Scenario, attack: &Attack, report: &mut Report) {
    if let Err(error) = (scenario.run)(attack, report) {
        report.row("cannot be measured", error, "a measurement", false);
    }
}
