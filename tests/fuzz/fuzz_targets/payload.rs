#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsloop_fuzz::payload(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!(
        "build this target with cargo fuzz, or run tests/fuzz/replay, which needs only cargo"
    );
}
