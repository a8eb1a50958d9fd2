//! What the log says of sessions: one line when one opens, one when it ends. Any stranger can cause them, so they are
//! bounded in number: past so many in a second ([`FAULTS_PER_SECOND`], [`LINES_PER_SECOND`]) they are counted, and the
//! count is told when the second is over. Peers' words are quoted, escaped and cut.

use super::session::{Ending, Kind, Session};
use crate::error::{Error, Side};
use std::fmt::Display;

/// Counts the lines that strangers caused.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    second_start: u64,
    /// Refusals and violations.
    faults: Tally,
    /// Sessions that open and end.
    lines: Tally,
}

/// Lines of one kind in this second.
#[derive(Debug, Default)]
struct Tally {
    shown: u32,
    suppressed: u64,
}

impl Journal {
    /// A session is open.
    pub(crate) fn opened(&mut self, session: &Session, path: &str, now: u64) {
        if !log::log_enabled!(log::Level::Info) || !self.admit(now, false) {
            return;
        }
        let peer = session.peer;
        log::info!(event = "connected", peer:%, path; "{peer} connected, path {}", quoted(path));
    }

    /// The handler has refused an opening handshake.
    pub(crate) fn declined(
        &mut self,
        session: &Session,
        path: &str,
        status: impl Display,
        now: u64,
    ) {
        if !log::log_enabled!(log::Level::Info) || !self.admit(now, true) {
            return;
        }
        let peer = session.peer;
        log::info!(
            event = "refused", peer:%, path, status:%;
            "{peer} refused, path {}: {status}", quoted(path)
        );
    }

    /// A session, or what did not become one, has ended. The line says so in words, and in fields (`log`'s key-value
    /// pairs) for loggers that print them.
    pub(crate) fn ended(
        &mut self,
        session: &Session,
        path: Option<&str>,
        ending: &Ending,
        now: u64,
    ) {
        let is_fault = matches!(
            ending.error,
            Some(
                Error::Protocol(_)
                    | Error::Limit(_)
                    | Error::Response(_)
                    | Error::Shutdown
                    | Error::HandlerPanicked
            )
        );
        let level = if session.kind == Kind::Opened || is_fault {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        if !log::log_enabled!(level) || !self.admit(now, is_fault) {
            return;
        }
        let Session {
            peer,
            bytes_in,
            bytes_out,
            messages_in,
            messages_out,
            ..
        } = session;
        let why = ending.error.as_ref().map(Error::to_string);
        let because = why
            .as_deref()
            .map_or(String::new(), |why| format!(": {why}"));
        if session.kind != Kind::Opened {
            let event = if is_fault { "refused" } else { "gone" };
            let how = if is_fault {
                "refused"
            } else {
                "ended before its opening handshake"
            };
            log::log!(
                level, event, peer:%, path, bytes_in, bytes_out, error = why;
                "{peer} {how}, {bytes_in} B in, {bytes_out} B out{because}"
            );
            return;
        }
        let seconds = now / 1000 - u64::from(session.opened_at);
        let Ending {
            code,
            reason,
            is_clean,
            ..
        } = ending;
        let by = match ending.by {
            Side::Us => "us",
            Side::Peer => "peer",
        };
        log::log!(
            level,
            event = "disconnected", peer:%, path, code, reason, clean = is_clean, by, messages_in, bytes_in,
            messages_out, bytes_out, seconds, error = why;
            "{peer} {}, {messages_in} messages and {bytes_in} B in, {messages_out} messages and {bytes_out} B out, \
             {seconds} s{because}",
            disconnected(path.unwrap_or_default(), ending)
        );
    }

    /// Tells how many lines were suppressed, once the second is over.
    pub(crate) fn sum_up(&mut self, now: u64) {
        if now < self.second_start + SECOND {
            return;
        }
        let faults = std::mem::take(&mut self.faults.suppressed);
        if faults > 0 {
            log::warn!("{faults} more were refused or broke a rule, and are not shown one by one");
        }
        let lines = std::mem::take(&mut self.lines.suppressed);
        if lines > 0 {
            log::info!("{lines} more lines on who came and went are not shown");
        }
    }

    /// How long until there is something to sum up, in milliseconds.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let suppressed = self.faults.suppressed + self.lines.suppressed;
        (suppressed > 0).then(|| (self.second_start + SECOND).saturating_sub(now))
    }

    fn admit(&mut self, now: u64, is_fault: bool) -> bool {
        if now >= self.second_start + SECOND {
            self.sum_up(now);
            self.second_start = now;
            self.faults.shown = 0;
            self.lines.shown = 0;
        }
        let (tally, max) = if is_fault {
            (&mut self.faults, FAULTS_PER_SECOND)
        } else {
            (&mut self.lines, LINES_PER_SECOND)
        };
        let is_admitted = tally.shown < max;
        if is_admitted {
            tally.shown += 1;
        } else {
            tally.suppressed += 1;
        }
        is_admitted
    }
}

fn disconnected(path: &str, ending: &Ending) -> String {
    let path = quoted(path);
    let code = ending.code;
    let reason = match &*ending.reason {
        "" => String::new(),
        reason => format!(" {}", quoted(reason)),
    };
    let clean = if ending.is_clean {
        "clean"
    } else {
        "not clean"
    };
    let by = match ending.by {
        Side::Us => "us",
        Side::Peer => "the peer",
    };
    format!("disconnected from {path}, code {code}{reason}, {clean}, by {by}")
}

/// What a peer sent, for the log: quoted, escaped and cut.
fn quoted(text: &str) -> String {
    let mut end = text.len().min(QUOTED_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < text.len() { ".." } else { "" };
    format!("{:?}{more}", &text[..end])
}

/// Enough to see what is going on; at 200 bytes a line, 20 KB a second of log at most.
const FAULTS_PER_SECOND: u32 = 100;

/// Five hundred who come and go in a second are all shown; at 200 bytes a line, 200 KB a second of log at most.
const LINES_PER_SECOND: u32 = 1000;

/// In milliseconds.
const SECOND: u64 = 1000;

/// Bytes of a peer's words that the log shows.
const QUOTED_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_quoted_escaped_and_cut() {
        assert_eq!(quoted("a\n\"b\x1b[1m"), r#""a\n\"b\u{1b}[1m""#);
        assert_eq!(quoted(&"ü".repeat(50)), format!("\"{}\"..", "ü".repeat(32)));
    }

    #[test]
    fn a_flood_is_counted_and_not_shown_line_by_line() {
        let mut journal = Journal::default();
        let faults = (0..2_000).filter(|_| journal.admit(5_000, true)).count();
        assert_eq!((faults, journal.faults.suppressed), (100, 1_900));
        let lines = (0..2_000).filter(|_| journal.admit(5_000, false)).count();
        assert_eq!((lines, journal.lines.suppressed), (1_000, 1_000));
        assert_eq!(journal.next_in(5_300), Some(700));
        journal.sum_up(5_999);
        assert_eq!(journal.faults.suppressed, 1_900);
        journal.sum_up(6_000);
        assert_eq!(
            (journal.faults.suppressed, journal.lines.suppressed),
            (0, 0)
        );
        assert_eq!(journal.next_in(6_000), None);
        assert!(journal.admit(6_000, true) && journal.admit(6_000, false));
    }
}
