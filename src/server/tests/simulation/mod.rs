//! A randomized simulation of the server: the engine with edge-triggered simulated sockets, a simulated clock, and peers and a
//! handler that act at random. After every turn, at the end of every session and at the end of every run, `check` compares
//! the engine and the bytes that the peers received with a model: what the server accepted for sending and reported to the
//! handler.
//!
//! Property: no message is lost, reordered, altered or sent to a wrong peer without a report; no session waits for an event
//! that will not come; all memory is within its limits, and is released at the end.
//!
//! A run is determined by its seed, and a failure prints the seed. `WSLOOP_SEED=<seed> cargo test --lib simulation::<test>`
//! replays it. `WSLOOP_SEEDS=<count>` sets the number of seeds for each test.

mod check;
mod counters;
mod handler;
mod model;
mod peer;
mod run;
mod socket;
#[cfg(feature = "tls")]
mod tls;

use counters::Counters;
use run::Simulation;

/// Probabilities and limits of a run. Every profile allows every kind of event except those that it sets to "never".
#[derive(Clone, Copy, Debug)]
struct Profile {
    /// A client connects in one of this many turns.
    connect_one_in: usize,
    /// One of this many clients reads slowly.
    slow_one_in: usize,
    /// Maximum bytes that a slow client reads at a time.
    slow_read_bytes_max: usize,
    /// A client sends fewer messages than this at once.
    burst_messages: usize,
    /// Each client has a fault in one of this many turns.
    fault_one_in: usize,
    /// The clock advances to the next deadline, or to one millisecond before it, in one of this many turns.
    deadline_one_in: usize,
    /// Maximum actions of the handler in a turn.
    actions: usize,
    /// Of 40 messages that the handler sends, this many are large.
    large_in_40: usize,
    /// Payload bytes of a large message.
    large_len: usize,
    /// Number of topics that the handler uses.
    topics: usize,
    /// Maximum connections at once.
    connections: usize,
    /// [`Config::lag_bytes_max`](crate::Config::lag_bytes_max). 0: a small random value in each run.
    lag_bytes_max: usize,
    /// The handler panics in one of this many events. 0: never.
    panic_one_in: usize,
    /// The process is suspended for some seconds before one of this many turns. 0: never.
    suspend_one_in: usize,
    /// The handler may stop the server in one of this many runs.
    stop_one_in: usize,
    /// One of this many clients speaks TLS. 0: none.
    #[cfg(feature = "tls")]
    tls_one_in: usize,
}

/// The base of all profiles.
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
    suspend_one_in: 0,
    stop_one_in: 4,
    #[cfg(feature = "tls")]
    tls_one_in: 2,
};

#[test]
fn all_kinds_of_events_may_happen() {
    simulate("all_kinds_of_events_may_happen", MIXED);
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
fn messages_may_arrive_in_bursts() {
    let bursts = Profile {
        burst_messages: 60,
        actions: 200,
        ..MIXED
    };
    simulate("messages_may_arrive_in_bursts", bursts);
}

#[test]
fn connections_may_be_short_lived() {
    let churn = Profile {
        connect_one_in: 1,
        fault_one_in: 40,
        ..MIXED
    };
    simulate("connections_may_be_short_lived", churn);
}

#[test]
fn members_may_leave_and_stop_reading() {
    let leavers = Profile {
        slow_read_bytes_max: 10,
        burst_messages: 60,
        actions: 200,
        large_in_40: 8,
        fault_one_in: 100,
        ..MIXED
    };
    simulate("members_may_leave_and_stop_reading", leavers);
}

#[test]
fn sockets_may_fail() {
    let faults = Profile {
        fault_one_in: 20,
        // The sessions are short, and each kind of event must occur.
        large_in_40: 4,
        ..MIXED
    };
    simulate("sockets_may_fail", faults);
}

#[test]
fn turns_may_fall_exactly_on_deadlines() {
    let edges = Profile {
        deadline_one_in: 2,
        ..MIXED
    };
    simulate("turns_may_fall_exactly_on_deadlines", edges);
}

#[test]
fn the_server_may_be_stopped() {
    let stops = Profile {
        stop_one_in: 1,
        // The runs are short, and each kind of event must occur.
        slow_one_in: 1,
        large_in_40: 4,
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

/// A publication to many members is written to them one after another, over several turns (a round). Meanwhile, members join
/// and leave.
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

/// A slow member lags by more than one vectored write can carry, and a large publication is written to it over several turns.
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
fn the_process_may_be_suspended() {
    let suspensions = Profile {
        suspend_one_in: 60,
        ..MIXED
    };
    simulate("the_process_may_be_suspended", suspensions);
}

#[test]
#[cfg(feature = "tls")]
fn all_clients_may_speak_tls() {
    let tls = Profile {
        tls_one_in: 1,
        fault_one_in: 60,
        ..MIXED
    };
    simulate("all_clients_may_speak_tls", tls);
}

/// Runs the profile with the seed in `WSLOOP_SEED`. Without it, runs as many seeds as `WSLOOP_SEEDS` states, by default
/// [`SEEDS`], and checks that they caused every kind of event.
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
    // The default number of seeds is enough for every kind of event. The profile with long logs is exempt, because its members
    // rarely lag.
    if seeds >= SEEDS && profile.lag_bytes_max == 0 {
        counters.check(profile.panic_one_in > 0);
    }
}

/// Prints the seed when its run panics.
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

/// Default number of seeds: 10 s for all the tests of this module on two slow cores.
const SEEDS: u64 = 12;
