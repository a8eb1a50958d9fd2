//! Formats messages and status lines. A program that reads a pipe gets plain lines; a terminal gets a prompt, colours,
//! and escaped control characters.

use std::io::{self, IsTerminal};
use std::time::Duration;

/// Collects the formatted output of a turn in `out` and `err`. Writes nothing: the session passes both to the printer.
pub(super) struct Screen {
    style: Style,
    /// Output for stdout.
    pub(super) out: Vec<u8>,
    /// Output for stderr.
    pub(super) err: Vec<u8>,
    /// Whether the cursor is in a line that begins with the prompt.
    is_prompted: bool,
}

/// How output is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Whether stdout is a terminal.
    pub(super) is_terminal: bool,
    /// Whether a prompt is shown: stdin and stdout are a terminal, and lines are read from stdin.
    pub(super) has_prompt: bool,
    pub(super) has_colour: bool,
    /// Whether binary messages are written unchanged instead of in hexadecimal. Ignored if stdout is a terminal.
    pub(super) is_raw: bool,
}

impl Style {
    /// Returns the style for the stdin, stdout and environment of this process.
    pub(super) fn detect(reads_stdin: bool, is_raw: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        // no-color.org: "when present and not an empty string (regardless of its value)".
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            is_terminal,
            has_prompt: is_terminal && reads_stdin && io::stdin().is_terminal(),
            has_colour: is_terminal && !is_plain,
            is_raw,
        }
    }
}

impl Screen {
    pub(super) const PROMPT: &str = "> ";

    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            out: Vec::new(),
            err: Vec::new(),
            is_prompted: false,
        }
    }

    /// Formats a text message.
    pub(super) fn text(&mut self, text: &str) {
        if self.style.is_terminal {
            self.line(CYAN, "< ", &escaped(text));
        } else {
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'\n');
        }
    }

    /// Formats a binary message: hexadecimal digits, or the bytes themselves with `is_raw`. A terminal shows the first
    /// 1024 bytes and the length.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        if self.style.is_terminal {
            let shown = &bytes[..bytes.len().min(HEX_BYTES_SHOWN_MAX)];
            let dots = if shown.len() < bytes.len() { ".." } else { "" };
            let mut line = Vec::new();
            hex(shown, &mut line);
            let hex = String::from_utf8(line).expect("hexadecimal digits are ASCII");
            let line = format!("{hex}{dots} ({} bytes)", bytes.len());
            self.line(MAGENTA, "< ", &line);
        } else if self.style.is_raw {
            self.out.extend_from_slice(bytes);
        } else {
            hex(bytes, &mut self.out);
            self.out.push(b'\n');
        }
    }

    /// Formats a status line for a terminal. A pipe gets none.
    pub(super) fn note(&mut self, text: &str) {
        if self.style.is_terminal {
            self.line(GREEN, "", &escaped(text));
        }
    }

    /// Formats the time between a ping and its pong.
    pub(super) fn round_trip(&mut self, time: Duration) {
        self.info(&format!("pong after {:.3} ms", time.as_secs_f64() * 1e3));
    }

    /// Formats the time that a ping has been unanswered.
    pub(super) fn no_pong(&mut self, time: Duration) {
        self.info(&format!("no pong for {:.3} s", time.as_secs_f64()));
    }

    /// Formats a line that is no message: for stdout if stdout is a terminal, else for stderr.
    pub(super) fn info(&mut self, text: &str) {
        if self.style.is_terminal {
            self.line(GREEN, "", text);
        } else {
            self.err.extend_from_slice(text.as_bytes());
            self.err.push(b'\n');
        }
    }

    /// Called when a line was entered, which moves the cursor below the prompt.
    pub(super) fn line_entered(&mut self) {
        self.is_prompted = false;
    }

    /// Returns whether the prompt is visible.
    #[cfg(feature = "line-editing")]
    pub(super) fn is_prompted(&self) -> bool {
        self.is_prompted
    }

    /// Shows the prompt and a row of text after it, with the cursor after `column` columns of the text. Replaces the line
    /// of the prompt if it is visible.
    #[cfg(feature = "line-editing")]
    pub(super) fn show_row(&mut self, row: &str, column: usize) {
        let column = Self::PROMPT.len() + column;
        let shown = format!("\r\x1b[K{}{row}\r\x1b[{column}C", Self::PROMPT);
        self.out.extend_from_slice(shown.as_bytes());
        self.is_prompted = true;
    }

    /// Shows a line that was entered, in place of the line of the prompt.
    #[cfg(feature = "line-editing")]
    pub(super) fn entered(&mut self, line: &str) {
        self.erase_prompt();
        for part in [Self::PROMPT, line, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// Clears the screen, and moves the cursor to its start.
    #[cfg(feature = "line-editing")]
    pub(super) fn clear(&mut self) {
        self.out.extend_from_slice(b"\x1b[H\x1b[2J");
        self.is_prompted = false;
    }

    /// Shows the prompt if it is not visible. Called when all output of a turn is formatted.
    pub(super) fn show_prompt(&mut self) {
        if self.style.has_prompt && !self.is_prompted {
            self.out.extend_from_slice(Self::PROMPT.as_bytes());
            self.is_prompted = true;
        }
    }

    /// Erases the line of the prompt if it is visible. A partly typed line is erased from the screen, but it stays in
    /// the terminal's input buffer and is sent with the next Enter.
    pub(super) fn erase_prompt(&mut self) {
        if self.is_prompted {
            self.out.extend_from_slice(b"\r\x1b[K");
            self.is_prompted = false;
        }
    }

    fn line(&mut self, colour: &str, prefix: &str, text: &str) {
        self.erase_prompt();
        let (start, end) = if self.style.has_colour {
            (colour, DEFAULT)
        } else {
            ("", "")
        };
        for part in [start, prefix, text, end, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }
}

/// Escapes control characters other than LF and tab in Rust's notation (`\u{1b}`), so that a server cannot control the
/// terminal. Also escapes characters that change the direction of text, and line separators. Other characters that are
/// not [printable](crate::cli::escape::is_printable) by themselves are parts of words and emojis, and stay.
pub(super) fn escaped(text: &str) -> String {
    let is_harmless = |c: char| match c {
        '\n' | '\t' => true,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        c => !c.is_control(),
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    escaped
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Maximum number of bytes of a binary message that a terminal shows.
const HEX_BYTES_SHOWN_MAX: usize = 1024;

const CYAN: &str = "\x1b[36m";
const MAGENTA: &str = "\x1b[35m";
const GREEN: &str = "\x1b[32m";
const DEFAULT: &str = "\x1b[39m";

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Style = Style {
        is_terminal: false,
        has_prompt: false,
        has_colour: false,
        is_raw: false,
    };

    const TERMINAL: Style = Style {
        is_terminal: true,
        has_prompt: true,
        has_colour: false,
        is_raw: true,
    };

    fn shown(style: Style, show: impl FnOnce(&mut Screen)) -> String {
        let mut screen = Screen::new(style);
        show(&mut screen);
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn controls_and_changes_of_direction_are_escaped_and_words_are_not() {
        let table = [
            ("a\tb\nc", "a\tb\nc"),
            ("\x1b[2J\r\x7f\u{9b}", r"\u{1b}[2J\r\u{7f}\u{9b}"),
            ("\u{202e}cba\u{2066}", r"\u{202e}cba\u{2066}"),
            ("a\u{2028}b\u{2029}", r"a\u{2028}b\u{2029}"),
            (
                "e\u{301} \u{5d0} 👩\u{200d}🚀",
                "e\u{301} \u{5d0} 👩\u{200d}🚀",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn a_pipe_gets_messages_and_nothing_else() {
        let all = |screen: &mut Screen| {
            screen.note("connected");
            screen.show_prompt();
            screen.text("a\x1b[2J\nb");
            screen.binary(b"\x00\xFFa");
            screen.round_trip(Duration::from_micros(1234));
            screen.no_pong(Duration::from_secs(2));
            screen.erase_prompt();
        };
        assert_eq!(shown(PIPE, all), "a\x1b[2J\nb\n00ff61\n");
        let mut screen = Screen::new(PIPE);
        all(&mut screen);
        let expected = "pong after 1.234 ms\nno pong for 2.000 s\n";
        assert_eq!(screen.err, expected.as_bytes());
        let raw = Style {
            is_raw: true,
            ..PIPE
        };
        let raw = shown(raw, |screen| {
            screen.binary(b"a\n");
            screen.binary(b"b");
        });
        assert_eq!(raw, "a\nb");
    }

    #[test]
    fn a_terminal_gets_a_prompt_below_the_messages() {
        let session = |screen: &mut Screen| {
            screen.note("connected");
            screen.show_prompt();
            screen.show_prompt();
            screen.line_entered();
            screen.show_prompt();
            screen.text("a\x1b[2J\r\n\tb");
            screen.text("c");
            screen.show_prompt();
            screen.binary(b"\x01\x02");
            screen.round_trip(Duration::from_millis(1));
            screen.show_prompt();
            screen.erase_prompt();
            screen.erase_prompt();
        };
        let plain = "connected\n> > \r\x1b[K< a\\u{1b}[2J\\r\n\tb\n< c\n> \r\x1b[K< 0102 (2 bytes)\n\
                     pong after 1.000 ms\n> \r\x1b[K";
        assert_eq!(shown(TERMINAL, session), plain);
        let coloured = Style {
            has_colour: true,
            has_prompt: false,
            ..TERMINAL
        };
        let text = |screen: &mut Screen| screen.text("a");
        assert_eq!(shown(coloured, text), "\x1b[36m< a\x1b[39m\n");
    }

    #[test]
    fn a_terminal_gets_the_beginning_of_a_long_binary_message() {
        let line = shown(TERMINAL, |screen| screen.binary(&[0xAB; 1025]));
        assert_eq!(line, format!("< {}.. (1025 bytes)\n", "ab".repeat(1024)));
    }
}
