//! The binary: arguments in, exit code out. What it does is in `cli`.

// Both panic if they cannot write, and a panic aborts: `cli::stderr` prints instead.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "mimalloc")]
mod allocator;
mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "mimalloc")]
    allocator::set_up();
    cli::run(std::env::args_os().skip(1))
}
