//! Entry point of the binary. Passes the arguments to `cli::run` and returns its exit code.

// `println!` and `eprintln!` panic if they cannot write, and a panic aborts the process (`panic = "abort"` in
// Cargo.toml). The binary prints with functions that return or ignore write errors instead: those of `cli::stderr`,
// `cli::write_stdout`, and `write_all` in `cli::connect` and `cli::bench`.
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
