#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| wsloop_fuzz::differential(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("to be built by cargo fuzz; tests/fuzz/replay needs no more than cargo");
}
