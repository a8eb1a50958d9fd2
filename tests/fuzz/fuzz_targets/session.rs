#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: {
        // Rust's own start, which this binary does without, ignores SIGPIPE; here it is caught, to the same effect.
        let caught = std::sync::Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, caught)
            .expect("SIGPIPE can be caught");
    },
    |data: &[u8]| wsloop_fuzz::session(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("to be built by cargo fuzz; tests/fuzz/replay needs no more than cargo");
}
