//! The command-line program: parses arguments, runs the selected command, prints results and errors, and returns the
//! exit code. The server itself is in the library.

mod args;
#[cfg(feature = "bench")]
mod bench;
#[cfg(any(feature = "bench", feature = "connect"))]
mod client;
#[cfg(feature = "connect")]
mod connect;
mod descriptors;
mod escape;
mod help;
mod json;
mod listen;
mod logging;
#[cfg(feature = "redis")]
mod redis;
mod serve;
mod stderr;
mod thread;
#[cfg(feature = "tls")]
mod tls;

use args::Command;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs the command that `args` select; `args` does not contain the program's name.
///
/// Returns exit code 0 on success, 1 if the command failed, 2 if the arguments or the environment variables are
/// invalid. Waits up to a second until everything printed on stderr is written.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let code = execute(args.into_iter().collect());
    stderr::flush();
    code
}

fn execute(args: Vec<OsString>) -> ExitCode {
    match args::parse(args.clone(), std::env::vars_os()) {
        Ok(Command::Serve(serve)) => match serve::run(serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                logging::print_failure(&error);
                ExitCode::FAILURE
            }
        },
        #[cfg(feature = "bench")]
        Ok(Command::Bench(bench)) => match bench::run(&bench) {
            Ok(report) => {
                let mut code = print(&report.text);
                if let Some(error) = report.chart_error {
                    code = fail(&error);
                }
                // `--verify` was given, and a received message was unexpected or differed from the one sent.
                if report.is_wrong {
                    ExitCode::FAILURE
                } else {
                    code
                }
            }
            Err(error) => fail(&error),
        },
        #[cfg(feature = "connect")]
        Ok(Command::Connect(connect)) => match connect::run(&connect) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Ok(Command::Help(text)) => print(text),
        Ok(Command::Version) => print(concat!("wsloop ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            let command = args::command_of(args.first());
            let command = command.map_or(String::new(), |command| format!("{command} "));
            stderr::print(&format!("wsloop: {error}\nTry 'wsloop {command}--help'.\n"));
            ExitCode::from(2)
        }
    }
}

/// Prints an error on stderr. Returns the exit code for a failed command.
fn fail(error: &str) -> ExitCode {
    stderr::print(&format!("wsloop: {error}\n"));
    ExitCode::FAILURE
}

/// Prints text on stdout. Returns the exit code.
fn print(text: &str) -> ExitCode {
    match write_stdout(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Writes text to stdout and flushes stdout. A closed pipe (EPIPE) is not an error: the reader has exited, as `head`
/// does when it needs no more input.
fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(
            error.kind(),
            format!("cannot write to stdout: {error}"),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}
