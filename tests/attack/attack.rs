//! Attacks a wsloop server process over loopback, and checks the server's memory, the latency of other clients, its
//! deadlines and its logs.
//!
//! Each scenario starts its own server process, behaves like a hostile or broken peer, and adds rows to one table with
//! the columns scenario, measured, wanted, and ok or FAILED. The exit code is 1 if a row failed. `tests/attack/run`
//! builds both programs and runs this one; the usage is in the header of that script.
//!
//! - The *victim* is a well-behaved connection that sends 20 bytes to /echo every millisecond and does not wait for the
//!   echo before it sends again (open loop). Latency runs from the time at which a message was due until its echo
//!   arrives. Subtracted is the time for which the server or the victim was runnable but waited for a processor, because
//!   other processes and the attacking threads cause it. "raw" is the maximum without this subtraction.
//! - *Memory* is the resident set (`Rss` in /proc/PID/smaps_rollup), in MB of 10^6 bytes. The server has 10 s after the
//!   end of the attack (4 s with `--quick`) to return memory; the measurement ends as soon as the wanted value is
//!   reached. With `--patient` the program always waits, and prints the values after 1 s and after 10 s. "Aged" means
//!   that 6 000 connections were opened, echoed a message and were closed before the attack.
//! - Attacking threads run at a lower priority than the server and the victim, so that on a machine with two cores the
//!   figures are those of the server. A scenario that measures latency runs a second time if it fails, because a shared
//!   machine stalls at times; only the second result counts.
//!
//! Every scenario is bounded in connections, bytes and time. The program sends signals only to processes that it started.

mod broadcast;
mod child;
mod clock;
mod connections;
mod feed;
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

/// The settings of a run, shared by all scenarios.
struct Attack {
    /// Path of the server's binary.
    binary: PathBuf,
    /// `--quick`: smaller counts and shorter times.
    is_quick: bool,
    /// `--patient`: measures memory after 1 s and after 10 s, even if the wanted value is reached earlier.
    is_patient: bool,
    /// Maximum connections per scenario: this process's descriptor limit less 200, which remain for other purposes.
    connections_max: usize,
}

impl Attack {
    /// Returns `quick` with `--quick`, otherwise `full`.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

type Run = fn(&Attack, &mut Report) -> io::Result<()>;

/// An attack with the checks of its effects.
struct Scenario {
    /// The name for `--only` and in the table.
    name: &'static str,
    run: Run,
    /// The scenario measures latency, so it runs a second time if it fails: a shared machine stalls at times.
    is_timed: bool,
}

const SCENARIOS: [Scenario; 21] = [
    once("memory-cut-messages", memory::cut_messages),
    once("memory-aged", memory::aged),
    once("memory-heads", memory::heads),
    once("memory-queues", queues::outbound),
    once("memory-paths", queues::paths),
    timed("skip-slow-members", broadcast::skip_slow_members),
    timed("slow-feed", feed::slow_reader),
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
