//! Entry point of the binary. Passes the arguments to `cli::run` and returns its exit code.

// `println!` and `eprintln!` panic if they cannot write, and a panic aborts the process (`panic = "abort"` in
// Cargo.toml). The binary prints with functions that return or ignore write errors instead: those of `cli::stderr`,
// `cli::write_stdout`, and `write_all` in `cli::connect` and `cli::bench`.
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
