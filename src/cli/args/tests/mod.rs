//! Tables of command lines with the expected command or error message.

mod bench;
#[cfg(any(feature = "bench", feature = "connect"))]
mod client_tls;
mod commands;
mod connect;
mod errors;
mod flags;
mod help_texts;
mod redis;
mod sockets;
mod tls;
mod variables;

use super::url::Url;
use super::*;
use std::time::Duration;
use wsloop::{LagPolicy, Replay};

fn parse_args(args: &[&str]) -> Result<Command, UsageError> {
    parse(args.iter().map(OsString::from), [])
}

fn serve(args: &[&str]) -> Serve {
    match parse_args(args) {
        Ok(Command::Serve(serve)) => serve,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn bench_of(args: &[&str]) -> Bench {
    match parse_args(args) {
        Ok(Command::Bench(bench)) => *bench,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn connect_of(args: &[&str]) -> Connect {
    match parse_args(args) {
        Ok(Command::Connect(connect)) => *connect,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    serve(args).config
}

fn error(args: &[&str]) -> String {
    let error = parse_args(args)
        .expect_err(&format!("{args:?}"))
        .to_string();
    assert!(!error.contains(['\n', '\r', '\x1b']), "{error:?}");
    error
}

fn routes(serve: &Serve) -> Vec<(&str, &Route)> {
    serve
        .routes
        .iter()
        .map(|(path, route)| (path.as_str(), route))
        .collect()
}
