//! Tests of the log records about sessions that an embedded server passes to the program's own logger: the text of each
//! record and its key-value fields.

mod common;

use common::*;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::{Mutex, MutexGuard, Once};
use wsloop::handlers::Echo;
use wsloop::{Config, Context, Handler, HttpResponse, Id, Message, Request, Upgrade};

/// A logger that stores the text and the fields of each record in [`LINES`].
struct Recorder;

type Line = (String, Vec<(String, String)>);

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

fn lines() -> MutexGuard<'static, Vec<Line>> {
    LINES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Log for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        struct Fields(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for Fields {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let mut fields = Fields(Vec::new());
        record.key_values().visit(&mut fields).unwrap();
        lines().push((record.args().to_string(), fields.0));
    }

    fn flush(&self) {}
}

fn set_logger() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&Recorder).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// Runs a session on `path` that ends with code 4000 and `reason`. Returns the records about it.
fn lines_about(path: &str, reason: &str) -> Vec<Line> {
    set_logger();
    let server = serve(Config::default(), Echo::new());
    let mut raw = Raw::open(server.addr, path);
    let peer = raw.0.local_addr().unwrap().to_string();
    raw.send(close_frame(4000, reason));
    raw.close_frame();
    raw.expect_end();
    drop(server);
    let lines = lines();
    let is_about = |line: &&Line| line.0.starts_with(&peer);
    lines.iter().filter(is_about).cloned().collect()
}

/// Regression: loggers other than the binary's got raw line breaks, and paths of any length.
#[test]
fn fields_are_escaped_and_cut_as_the_text_is() {
    let path = format!("/{}", "p".repeat(10_000));
    let lines = lines_about(&path, "a\nb\u{202e}\u{9b}\\\"");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (text, fields) in &lines {
        assert!(text.len() < 300, "{text}");
        let path = fields.iter().find(|(key, _)| key == "path").unwrap();
        assert_eq!(path.1, format!("/{}..", "p".repeat(63)));
    }
    let fields = &lines[1].1;
    let reason = fields.iter().find(|(key, _)| key == "reason").unwrap();
    assert_eq!(reason.1, r#"a\nb\u{202e}\u{9b}\\""#);
    assert!(
        lines[1].0.contains(r#" "a\nb\u{202e}\u{9b}\\\"","#),
        "{lines:?}"
    );
}

#[test]
fn every_value_in_the_text_is_also_a_field() {
    let lines = lines_about("/a", "");
    let keys = |line: &Line| -> Vec<String> { line.1.iter().map(|(key, _)| key.clone()).collect() };
    assert_eq!(keys(&lines[0]), ["event", "peer", "path"]);
    let expected = [
        "event",
        "peer",
        "path",
        "code",
        "reason",
        "clean",
        "by",
        "messages_in",
        "bytes_in",
        "messages_out",
        "bytes_out",
        "seconds",
        "error",
    ];
    assert_eq!(keys(&lines[1]), expected);
}

/// Refuses each WebSocket with an empty response.
struct Silent;

impl Handler for Silent {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: Id,
        _: &Request,
        _: &mut Upgrade,
    ) -> Result<(), HttpResponse> {
        Err(HttpResponse::new(403, ""))
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Id, _: Message<'_>) {}
}

/// Regression test: the line ended after the status.
#[test]
fn a_refusal_without_a_reason_has_the_name_of_its_status() {
    set_logger();
    let server = serve(Config::default(), Silent);
    let mut raw = Raw::new(server.addr);
    raw.send(upgrade_request("/silent"));
    assert_eq!(raw.response_head().status, 403);
    drop(server);
    let lines = lines();
    let line = lines
        .iter()
        .find(|line| line.0.contains("/silent"))
        .unwrap();
    assert!(line.0.ends_with(": 403 Forbidden"), "{line:?}");
    let reason = ("reason".to_owned(), "Forbidden".to_owned());
    assert!(line.1.contains(&reason), "{line:?}");
}
