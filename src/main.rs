//! Entry point of the binary. Passes the arguments to `cli::run` and returns its exit code.

// `println!` and `eprintln!` panic if they cannot write, and a panic aborts the process. The binary prints through
// `cli::stderr` and `cli::write_stdout` instead.
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
