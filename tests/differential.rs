//! Differential test: random streams of frames are passed to wsloop's protocol core ([`wsloop::proto`]) and to
//! tungstenite, and the results are compared. `common/frames.rs` generates the streams, and `common/compare.rs`
//! defines what must be equal.
//!
//! A failure prints its seed. `WSLOOP_SEED=<seed>` runs this seed alone, and `WSLOOP_SEEDS=<count>` sets the number of
//! seeds.

#[path = "common/compare.rs"]
mod compare;
#[path = "common/frames.rs"]
mod frames;

use compare::{Tally, compare};
use frames::{Given, Seeded};

#[test]
fn the_protocol_core_and_tungstenite_agree_on_random_streams() {
    let variable = |name| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().expect("a number"))
    };
    let mut tally = Tally::default();
    if let Some(seed) = variable("WSLOOP_SEED") {
        compare_seeded(seed, &mut tally);
        return;
    }
    let seeds = variable("WSLOOP_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let note = SeedNote(seed);
        compare_seeded(seed, &mut tally);
        drop(note);
    }
    println!("{tally:#?}");
    // Fewer seeds may not produce every fault and every allowed difference.
    if seeds >= SEEDS {
        tally.check();
    }
}

/// The fuzz target `differential` in `tests/fuzz` also calls [`compare`] with [`Given`] bytes instead of a seed.
#[test]
fn choices_can_come_from_a_fuzzers_bytes() {
    let mut tally = Tally::default();
    for byte in 0..=255_u8 {
        let bytes: Vec<u8> = (0..400).map(|at| byte.wrapping_mul(at as u8)).collect();
        compare(&mut Given(&bytes), &mut tally);
    }
    assert!(tally.events > 0);
}

/// Prints the command that repeats a seed if the run of this seed panics.
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("replay with: WSLOOP_SEED={seed} cargo test --test differential");
        }
    }
}

fn compare_seeded(seed: u64, tally: &mut Tally) {
    compare(&mut Seeded::new(seed), tally);
}

/// The default number of seeds, which takes some seconds.
const SEEDS: u64 = 25_000;
