//! Entry point of the binary. Passes the arguments to `cli::run` and returns its exit code.

// `println!` and `eprintln!` panic if they cannot write, and a panic aborts the process. The binary prints through
// `cli::stderr` and `cli::write_stdout` instead.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

#[cfg(all(unix, feature = "mimalloc"))]
mod allocator;
#[cfg(unix)]
mod cli;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    #[cfg(feature = "mimalloc")]
    allocator::set_up();
    cli::run(std::env::args_os().skip(1))
}

#[cfg(not(unix))]
compile_error!(
    "the binary needs Unix (signals, Unix sockets); the library does not: build it with `default-features = false`"
);
#[cfg(not(unix))]
fn main() {}
