//! A seeded simulation of the loop: sessions over sockets that are told of once, a clock in the hand, peers and a
//! handler that do anything. After every turn and at the end of every session `check` says what must hold.
//!
//! A failure prints its seed; `WSLOOP_SEED=<seed> cargo test --lib simulation::<test>` replays it, and
//! `WSLOOP_SEEDS=<count>` runs more than the default number.

mod check;
mod counters;
mod handler;
mod model;
mod peer;
mod random;
mod run;
mod socket;

use counters::Counters;
use run::Simulation;

/// What a run has more or less of. Everything can happen in every one.
#[derive(Clone, Copy, Debug)]
struct Profile {
    /// A client connects in one turn of these.
    connect_one_in: usize,
    /// One client in these reads slowly.
    slow_one_in: usize,
    /// Bytes that a slow reader takes at a time, at most.
    slow_read_bytes_max: usize,
    /// Messages that a client sends at once, fewer than this.
    burst_messages: usize,
    /// A client meets a fault in one turn of these.
    fault_one_in: usize,
    /// The clock goes to the next deadline, or to just before it, in one turn of these.
    deadline_one_in: usize,
    /// What the handler does in a turn, at most.
    actions: usize,
    /// Large messages that the handler sends, in 40.
    large_in_40: usize,
    /// The length of those.
    large_len: usize,
    /// Topics that the handler uses.
    topics: usize,
    /// Connections at once.
    connections: usize,
    /// The limit of unsent published bytes; 0: small, and another in each run.
    lag_bytes_max: usize,
    /// The handler panics in one event of these; 0: never.
    panic_one_in: usize,
    /// The process stands still for some seconds in one turn of these; 0: never.
    pause_one_in: usize,
    /// The handler may stop the server in one run of these.
    stop_one_in: usize,
}

const MIXED: Profile = Profile {
    connect_one_in: 3,
    slow_one_in: 2,
    slow_read_bytes_max: 9_000,
    burst_messages: 6,
    fault_one_in: 200,
    deadline_one_in: 8,
    actions: 60,
    large_in_40: 1,
    large_len: 20_000,
    topics: 4,
    connections: 30,
    lag_bytes_max: 0,
    panic_one_in: 0,
    pause_one_in: 0,
    stop_one_in: 4,
};

#[test]
fn anything_may_happen() {
    simulate("anything_may_happen", MIXED);
}

#[test]
fn readers_may_be_slow() {
    let slow = Profile {
        slow_one_in: 1,
        slow_read_bytes_max: 3_000,
        ..MIXED
    };
    simulate("readers_may_be_slow", slow);
}

#[test]
fn messages_may_come_in_bursts() {
    let bursts = Profile {
        burst_messages: 60,
        actions: 200,
        ..MIXED
    };
    simulate("messages_may_come_in_bursts", bursts);
}

#[test]
fn connections_may_come_and_go() {
    let churn = Profile {
        connect_one_in: 1,
        fault_one_in: 40,
        ..MIXED
    };
    simulate("connections_may_come_and_go", churn);
}

#[test]
fn members_may_leave_and_read_no_more() {
    let leavers = Profile {
        slow_read_bytes_max: 10,
        burst_messages: 60,
        actions: 200,
        large_in_40: 8,
        fault_one_in: 100,
        ..MIXED
    };
    simulate("members_may_leave_and_read_no_more", leavers);
}

#[test]
fn sockets_may_fail() {
    let faults = Profile {
        fault_one_in: 20,
        ..MIXED
    };
    simulate("sockets_may_fail", faults);
}

#[test]
fn deadlines_may_be_met_to_the_millisecond() {
    let edges = Profile {
        deadline_one_in: 2,
        ..MIXED
    };
    simulate("deadlines_may_be_met_to_the_millisecond", edges);
}

#[test]
fn the_server_may_be_stopped() {
    let stops = Profile {
        stop_one_in: 1,
        ..MIXED
    };
    simulate("the_server_may_be_stopped", stops);
}

#[test]
fn sessions_may_be_members_of_many_topics() {
    let many = Profile {
        topics: model::TOPICS.len(),
        actions: 200,
        slow_read_bytes_max: 3_000,
        ..MIXED
    };
    simulate("sessions_may_be_members_of_many_topics", many);
}

/// A round of the members takes several turns, and members come and go meanwhile.
#[test]
fn members_may_join_and_leave_during_a_round() {
    let rounds = Profile {
        connections: 90,
        connect_one_in: 1,
        slow_one_in: 8,
        actions: 150,
        topics: 2,
        ..MIXED
    };
    simulate("members_may_join_and_leave_during_a_round", rounds);
}

/// More chunks than one write carries, and publications that are written in slices.
#[test]
fn logs_may_be_long() {
    let long = Profile {
        connect_one_in: 20,
        connections: 6,
        burst_messages: 20,
        actions: 150,
        large_in_40: 16,
        large_len: 140_000,
        slow_read_bytes_max: 4 << 20,
        topics: 2,
        lag_bytes_max: 32 << 20,
        ..MIXED
    };
    simulate("logs_may_be_long", long);
}

#[test]
fn handlers_may_panic() {
    let panics = Profile {
        panic_one_in: 300,
        ..MIXED
    };
    simulate("handlers_may_panic", panics);
}

#[test]
fn the_process_may_stand_still() {
    let pauses = Profile {
        pause_one_in: 60,
        ..MIXED
    };
    simulate("the_process_may_stand_still", pauses);
}

/// Runs the seed that the environment names, or as many as it says.
fn simulate(name: &'static str, profile: Profile) {
    let variable = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().expect("a number"))
    };
    if let Some(seed) = variable("WSLOOP_SEED") {
        Simulation::new(seed, profile).run().print(name);
        return;
    }
    let mut counters = Counters::default();
    let seeds = variable("WSLOOP_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let note = SeedNote { seed, name };
        counters += Simulation::new(seed, profile).run();
        drop(note);
    }
    counters.print(name);
    // Each profile has more of one thing; together all of them have everything.
    if seeds >= SEEDS && profile.lag_bytes_max == 0 {
        counters.check(profile.panic_one_in > 0);
    }
}

/// Names the seed when its run panics.
struct SeedNote {
    seed: u64,
    name: &'static str,
}

impl Drop for SeedNote {
    fn drop(&mut self) {
        let Self { seed, name } = self;
        if std::thread::panicking() {
            eprintln!("replay with: WSLOOP_SEED={seed} cargo test --lib simulation::{name}");
        }
    }
}

/// Seeds by default: 10 s for all the tests here, on two slow cores.
const SEEDS: u64 = 12;
