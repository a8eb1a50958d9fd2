//! The session log: one line when a session opens, one when it ends, one for each client that is refused.
//!
//! Any client can cause these lines, so their number and length are limited. Above [`SESSIONS_PER_SECOND`] and
//! [`FAULTS_PER_SECOND`], lines are suppressed and counted; one line reports the count when the second is over.
//!
//! Each line has its data twice: in the text, and in fields (`log`'s key-value pairs). In both, strings that a peer
//! sent are truncated to 64 bytes, with the mark `..`, and escaped. No logger so receives a line end, a control
//! character or a character that reorders text, however it writes fields. The escapes are Rust's (`\n`, `\u{202e}`,
//! `\\`), also in JSON: a program that decodes the JSON and prints the value is as safe as one that prints the line. A
//! short string without such characters is in the field as the peer sent it.

use super::session::{self, Ending, Session};
use crate::error::{self, Error, Side};
use crate::proto::{HttpResponse, Request};
use std::fmt::{self, Display};

/// Writes the session log and counts the lines of this second.
#[derive(Debug, Default)]
pub(crate) struct SessionLog {
    /// Start of this second, in milliseconds of the loop's clock.
    second_start: u64,
    faults: Tally,
    sessions: Tally,
}

/// Lines of one kind in this second.
#[derive(Debug, Default)]
struct Tally {
    /// Lines that were logged.
    lines: u32,
    /// Bytes of those lines, with [`FIELDS_BYTES`] for each.
    bytes: usize,
    suppressed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A client was refused or broke a rule of the protocol.
    Fault,
    /// A session opened or ended.
    Session,
}

impl Kind {
    /// Returns the kind of the line about the end of a session, or of a connection that did not become a WebSocket.
    fn of(error: Option<&Error>, is_opened: bool, bytes_in: u64) -> Self {
        match error {
            Some(Error::Protocol(_)) => Self::Fault,
            // Browsers open connections that they may need and may never use.
            Some(Error::Limit(error::Limit::HandshakeTimeout)) if bytes_in == 0 => Self::Session,
            #[cfg(feature = "tls")]
            Some(Error::Tls(_) | Error::NotTls) => Self::Fault,
            Some(
                Error::Limit(_)
                | Error::Response(_)
                | Error::Shutdown
                | Error::ProxyHeader
                | Error::HandlerPanicked,
            ) if !is_opened => Self::Fault,
            Some(_) | None => Self::Session,
        }
    }
}

/// Maximum lines and bytes of one kind per second.
#[derive(Debug)]
struct Limit {
    lines: u32,
    bytes: usize,
}

impl SessionLog {
    /// Logs that a session is open.
    pub(crate) fn opened(&mut self, session: &Session, path: &str, now: u64) {
        if !log::log_enabled!(log::Level::Info) || !self.admit(Kind::Session, now) {
            return;
        }
        let peer = session.peer;
        let text = format!("{peer} connected, path {}", quoted(path));
        log::info!(event = "connected", peer:%, path = field(path); "{text}");
        self.charge(Kind::Session, &text);
    }

    /// Logs that the handler has refused a request, and the first line of its response, or the name of its status if it
    /// is empty.
    pub(crate) fn declined(
        &mut self,
        session: &Session,
        request: &Request,
        response: &HttpResponse,
        level: log::Level,
        now: u64,
    ) {
        if !log::log_enabled!(level) || !self.admit(Kind::Fault, now) {
            return;
        }
        let peer = session.peer;
        let (path, host, origin) = (request.path(), request.host(), request.origin());
        let status = response.status();
        let line = response.body().split(|&byte| byte == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        let reason = match line.trim() {
            "" => response.reason_phrase().to_owned(),
            line => field(line),
        };
        let from = origin.map_or(String::new(), |origin| {
            format!(", origin {}", quoted(origin))
        });
        let text = format!(
            "{peer} refused, path {}, host {}{from}: {status} {reason}",
            quoted(path),
            quoted(host)
        );
        log::log!(
            level, event = "refused", peer:%, path = field(path), host = field(host), origin = origin.map(field),
            status:%, reason; "{text}"
        );
        self.charge(Kind::Fault, &text);
    }

    /// Logs how a session ended, or why a connection did not become a WebSocket.
    pub(crate) fn ended(
        &mut self,
        session: &Session,
        path: Option<&str>,
        ending: &Ending,
        now: u64,
    ) {
        let is_opened = session.kind == session::Kind::Opened;
        let kind = Kind::of(ending.error.as_ref(), is_opened, session.bytes_in);
        let is_fault = kind == Kind::Fault;
        let level = if is_opened || is_fault {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        if !log::log_enabled!(level) || !self.admit(kind, now) {
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
        let error = ending.error.as_ref();
        let error = error.map(described);
        let because = error
            .as_ref()
            .map_or(String::new(), |why| format!(": {why}"));
        let path_field = path.map(field);
        if !is_opened {
            let (event, how) = if is_fault {
                ("refused", "refused")
            } else {
                ("gone", "ended without becoming a WebSocket")
            };
            let amounts = if has_tls_failed(ending) {
                // The bytes of a TLS handshake are not counted.
                String::new()
            } else {
                format!(", {bytes_in} B in, {bytes_out} B out")
            };
            let text = format!("{peer} {how}{amounts}{because}");
            log::log!(
                level, event, peer:%, path = path_field, bytes_in, bytes_out, error; "{text}"
            );
            self.charge(kind, &text);
            return;
        }
        let seconds = now / 1000 - u64::from(session.opened_at);
        let Ending { code, is_clean, .. } = ending;
        let reason = Some(field(&ending.reason)).filter(|reason| !reason.is_empty());
        let by = match ending.by {
            Side::Us => "us",
            Side::Peer => "peer",
        };
        let text = format!(
            "{peer} {}, {messages_in} messages and {bytes_in} B in, {messages_out} messages and \
             {bytes_out} B out, {seconds} s{because}",
            disconnected(path.unwrap_or_default(), ending)
        );
        log::log!(
            level,
            event = "disconnected", peer:%, path = path_field, code, reason, clean = is_clean, by,
            messages_in, bytes_in, messages_out, bytes_out, seconds, error; "{text}"
        );
        self.charge(kind, &text);
    }

    /// Logs how many lines were suppressed, if the second is over.
    pub(crate) fn report_if_due(&mut self, now: u64) {
        if now >= self.second_start + SECOND {
            self.report_suppressed();
        }
    }

    fn report_suppressed(&mut self) {
        let faults = std::mem::take(&mut self.faults.suppressed);
        if faults > 0 {
            log::warn!(
                "suppressed {faults} lines about refused clients and protocol violations: more than {} in a second",
                FAULTS_PER_SECOND
            );
        }
        let sessions = std::mem::take(&mut self.sessions.suppressed);
        if sessions > 0 {
            log::info!(
                "suppressed {sessions} connect/disconnect lines: more than {} in a second",
                SESSIONS_PER_SECOND
            );
        }
    }

    /// Returns the time until suppressed lines are to be reported, in milliseconds, or `None` if no line was
    /// suppressed.
    pub(crate) fn next_in(&self, now: u64) -> Option<u64> {
        let suppressed = self.faults.suppressed + self.sessions.suppressed;
        (suppressed > 0).then(|| (self.second_start + SECOND).saturating_sub(now))
    }

    /// Returns whether another line may be logged. If not, counts it as suppressed.
    fn admit(&mut self, kind: Kind, now: u64) -> bool {
        if now >= self.second_start + SECOND {
            self.report_if_due(now);
            self.second_start = now;
            for tally in [&mut self.faults, &mut self.sessions] {
                (tally.lines, tally.bytes) = (0, 0);
            }
        }
        let (tally, limit) = self.tally(kind);
        let is_admitted = tally.lines < limit.lines && tally.bytes < limit.bytes;
        tally.suppressed += u64::from(!is_admitted);
        is_admitted
    }

    /// Counts a line that was logged.
    fn charge(&mut self, kind: Kind, text: &str) {
        let (tally, _) = self.tally(kind);
        tally.lines += 1;
        tally.bytes += text.len() + FIELDS_BYTES;
    }

    fn tally(&mut self, kind: Kind) -> (&mut Tally, &'static Limit) {
        match kind {
            Kind::Fault => (&mut self.faults, &FAULTS_PER_SECOND),
            Kind::Session => (&mut self.sessions, &SESSIONS_PER_SECOND),
        }
    }
}

impl Drop for SessionLog {
    /// Reports the lines that were suppressed in the last second of the server.
    fn drop(&mut self) {
        self.report_suppressed();
    }
}

fn has_tls_failed(ending: &Ending) -> bool {
    match ending.error {
        #[cfg(feature = "tls")]
        Some(Error::Tls(_) | Error::NotTls) => true,
        Some(_) | None => false,
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines or {} KB", self.lines, self.bytes / 1000)
    }
}

/// Returns the text of an error, with the name of the limit that is exceeded at its end.
fn described(error: &Error) -> String {
    let text = escaped(&error.to_string());
    match error.protocol_limit() {
        Some(limit) => format!("{text} ({limit})"),
        None => text,
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

/// Truncates and escapes a string that a peer sent, and puts it in quotes: for the text of a line.
fn quoted(text: &str) -> String {
    let (text, mark) = cut(text);
    format!("{text:?}{mark}")
}

/// Truncates and escapes a string that a peer sent: for a field. Quotes in it are not escaped.
fn field(text: &str) -> String {
    let (text, mark) = cut(text);
    escaped(text) + mark
}

/// Escapes text as `{:?}` does, but without quotes around it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            escaped.push('"');
        }
        let quoted = format!("{part:?}");
        escaped.push_str(&quoted[1..quoted.len() - 1]);
    }
    escaped
}

/// Truncates `text` to [`QUOTED_BYTES_MAX`] bytes, at the boundary of a character. Returns a mark if something was cut.
fn cut(text: &str) -> (&str, &'static str) {
    let mut end = text.len().min(QUOTED_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mark = if end < text.len() { ".." } else { "" };
    (&text[..end], mark)
}

/// Maximum lines about refused clients and violations of the protocol: enough to diagnose a fault.
const FAULTS_PER_SECOND: Limit = Limit {
    lines: 100,
    bytes: 20_000,
};

/// Maximum lines about sessions: those of some 450 clients that connect and disconnect within a second.
const SESSIONS_PER_SECOND: Limit = Limit {
    lines: 1000,
    bytes: 180_000,
};

/// Bytes that a line counts in addition to its text: the time, the level and, in the JSON of the binary, the field
/// names.
const FIELDS_BYTES: usize = 110;

/// A second in milliseconds.
const SECOND: u64 = 1000;

/// Maximum bytes of a string from a peer in a line, before they are escaped.
const QUOTED_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_from_a_peer_are_truncated_and_escaped() {
        assert_eq!(quoted("a\n\"b\x1b[1m"), r#""a\n\"b\u{1b}[1m""#);
        assert_eq!(field("a\n\"b\x1b[1m\\"), r#"a\n"b\u{1b}[1m\\"#);
        let long = "ü".repeat(50);
        assert_eq!(quoted(&long), format!("\"{}\"..", "ü".repeat(32)));
        assert_eq!(field(&long), format!("{}..", "ü".repeat(32)));
        assert_eq!(field(&format!("a{long}")), format!("a{}..", "ü".repeat(31)));
        assert_eq!(field("'a' \"\" ü\u{1f600}"), "'a' \"\" ü\u{1f600}");
    }

    /// Covers C0, DEL, C1, characters that reorder text, line separators and characters without width.
    #[test]
    fn control_and_invisible_characters_are_escaped() {
        let ranges = [
            '\0'..='\x1f',
            '\x7f'..='\u{9f}',
            '\u{ad}'..='\u{ad}',
            '\u{61c}'..='\u{61c}',
            '\u{180e}'..='\u{180e}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
            '\u{fff9}'..='\u{fffb}',
            '\u{e0001}'..='\u{e007f}',
        ];
        for c in ranges.into_iter().flatten() {
            for text in [format!("a{c}"), format!("{c}a"), format!("\"{c}")] {
                assert!(quoted(&text).is_ascii() && field(&text).is_ascii(), "{c:?}");
                assert!(!field(&text).contains(|c: char| c.is_control()), "{c:?}");
            }
        }
    }

    fn admits(session_log: &mut SessionLog, kind: Kind, now: u64, text: &str) -> bool {
        let is_admitted = session_log.admit(kind, now);
        if is_admitted {
            session_log.charge(kind, text);
        }
        is_admitted
    }

    /// Regression test: sessions that a limit or the handler had ended were counted as violations.
    #[test]
    fn only_refused_clients_and_violations_are_faults() {
        use crate::error::Limit;
        use crate::proto::ProtocolError;
        let io = || Error::Io(std::io::ErrorKind::BrokenPipe.into());
        // Error; whether it is a fault of an open session, and of a connection that did not become one.
        let table = [
            (
                Some(Error::Protocol(ProtocolError::FrameNotMasked)),
                true,
                true,
            ),
            (Some(Error::Limit(Limit::LagBytesMax)), false, true),
            (Some(Error::Limit(Limit::IdleTimeout)), false, true),
            (Some(Error::Shutdown), false, true),
            (Some(Error::HandlerPanicked), false, true),
            (Some(io()), false, false),
            (None, false, false),
        ];
        for (error, of_open, of_other) in table {
            for (is_opened, is_fault) in [(true, of_open), (false, of_other)] {
                let expected = if is_fault { Kind::Fault } else { Kind::Session };
                let kind = Kind::of(error.as_ref(), is_opened, 0);
                assert_eq!(kind, expected, "{error:?}");
            }
        }
    }

    #[test]
    fn a_connection_that_was_never_used_is_no_fault_at_the_handshake_timeout() {
        let error = Error::Limit(error::Limit::HandshakeTimeout);
        for (bytes_in, expected) in [(0, Kind::Session), (1, Kind::Fault)] {
            assert_eq!(Kind::of(Some(&error), false, bytes_in), expected);
        }
    }

    #[test]
    fn an_exceeded_limit_is_named_also_if_the_protocol_found_it() {
        use crate::error::Limit;
        use crate::proto::{HeadError, OpeningError, ProtocolError};
        let opening = |error| ProtocolError::Opening(OpeningError::Head(error));
        let table = [
            (ProtocolError::MessageTooBig, "(message_bytes_max)"),
            (ProtocolError::TooManyFragments, "(fragments_max)"),
            (opening(HeadError::TooLong), "(head_bytes_max)"),
            (opening(HeadError::TooManyHeaders), "(headers_max)"),
        ];
        for (error, name) in table {
            let expected = format!("{error} {name}");
            assert_eq!(described(&Error::Protocol(error)), expected);
        }
        let error = Error::Protocol(opening(HeadError::BareCr));
        assert_eq!(described(&error), error.to_string());
        let error = Error::Limit(Limit::IdleTimeout);
        assert_eq!(described(&error), "idle_timeout reached");
    }

    #[test]
    fn lines_above_the_limit_are_suppressed_and_counted() {
        let mut session_log = SessionLog::default();
        let mut logged = |kind| {
            let lines = (0..2_000).filter(|_| admits(&mut session_log, kind, 5_000, ""));
            lines.count()
        };
        assert_eq!(logged(Kind::Fault), 100);
        assert_eq!(logged(Kind::Session), 1_000);
        assert_eq!(
            (
                session_log.faults.suppressed,
                session_log.sessions.suppressed
            ),
            (1_900, 1_000)
        );
        assert_eq!(session_log.next_in(5_300), Some(700));
        session_log.report_if_due(5_999);
        assert_eq!(session_log.faults.suppressed, 1_900);
        session_log.report_if_due(6_000);
        assert_eq!(
            (
                session_log.faults.suppressed,
                session_log.sessions.suppressed
            ),
            (0, 0)
        );
        assert_eq!(session_log.next_in(6_000), None);
        for kind in [Kind::Fault, Kind::Session] {
            assert!(admits(&mut session_log, kind, 6_000, ""));
        }
    }

    #[test]
    fn long_lines_are_limited_by_bytes() {
        let mut session_log = SessionLog::default();
        let text = "x".repeat(890);
        for (kind, expected) in [(Kind::Fault, 20), (Kind::Session, 180)] {
            let lines = (0..500).filter(|_| admits(&mut session_log, kind, 5_000, &text));
            assert_eq!(lines.count(), expected);
        }
        assert_eq!(session_log.next_in(5_300), Some(700));
    }
}
