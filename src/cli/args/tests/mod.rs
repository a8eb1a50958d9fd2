//! Command lines as tables: what they ask for, or the words of the error.

mod bench;
mod commands;
mod connect;
mod errors;
mod flags;
mod help_texts;
mod sockets;
mod variables;

use super::url::Url;
use super::*;
use std::time::Duration;
use wsloop::LagPolicy;

fn parse_words(words: &[&str]) -> Result<Command, UsageError> {
    parse(words.iter().map(OsString::from), [])
}

fn serve(words: &[&str]) -> Serve {
    match parse_words(words) {
        Ok(Command::Serve(serve)) => serve,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn bench_of(words: &[&str]) -> Bench {
    match parse_words(words) {
        Ok(Command::Bench(bench)) => *bench,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn connect_of(words: &[&str]) -> Connect {
    match parse_words(words) {
        Ok(Command::Connect(connect)) => *connect,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn config(words: &[&str]) -> Config {
    serve(words).config
}

fn error(words: &[&str]) -> String {
    let error = parse_words(words)
        .expect_err(&format!("{words:?}"))
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
