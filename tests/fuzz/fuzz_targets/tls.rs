#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: {
        // Rust's runtime ignores SIGPIPE at start, but this binary has libFuzzer's `main`. Catching the signal has the
        // same effect: writes to a closed connection return an error.
        let caught = std::sync::Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, caught)
            .expect("SIGPIPE can be caught");
    },
    |data: &[u8]| wsloop_fuzz::tls(data)
);

#[cfg(not(fuzzing))]
fn main() {
    eprintln!(
        "build this target with cargo fuzz, or run tests/fuzz/replay, which needs only cargo"
    );
}
