//! The command line: what people type, and what they are report. Everything else is the library's.

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
mod serve;
mod stderr;
mod thread;

use args::Command;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Carries out a command line without the program's name.
///
/// The exit code is 0 after a graceful end, 1 when the work failed, 2 when the command line was wrong.
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
                let code = print(&report.text);
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

fn fail(error: &str) -> ExitCode {
    stderr::print(&format!("wsloop: {error}\n"));
    ExitCode::FAILURE
}

/// Prints on stdout.
fn print(text: &str) -> ExitCode {
    match write_stdout(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Writes text to stdout. A reader that is gone is no error.
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
