//! Decides which characters are printed unchanged in output for people, and escapes the others.

use std::fmt::{self, Display, Write};

/// Returns whether a terminal displays `c`, instead of executing or hiding it.
///
/// These are not printable: control characters (C0, DEL, C1), characters that change the direction of text (U+202A to
/// U+202E, U+2066 to U+2069), line separators (U+2028, U+2029), characters without a width (U+200B to U+200F, U+FEFF),
/// combining marks, and others in Unicode's categories format, private use and unassigned. Uses the standard library's
/// table: printable are the characters that `{:?}` does not escape, and quotes and backslashes.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c => c.escape_debug().len() == 1,
    }
}

/// Displays a value with all non-printable characters escaped in Rust's notation (`\n`, `\u{1b}`). Backslashes and
/// quotes are not escaped: the text is a log message, in which quoted parts have already been escaped with `{:?}`.
pub(super) struct Printable<T>(pub(super) T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Writes text to the formatter, with non-printable characters escaped.
struct Escaping<'f, 'b>(&'f mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Fast path for printable ASCII, which is nearly all of a log.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        for c in text.chars() {
            if is_printable(c) {
                self.0.write_char(c)?;
            } else {
                write!(self.0, "{}", c.escape_debug())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns characters that a terminal executes or hides.
    fn executed_or_hidden() -> impl Iterator<Item = char> {
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
        ranges.into_iter().flatten()
    }

    #[test]
    fn control_bidi_and_invisible_characters_are_not_printable() {
        for c in executed_or_hidden() {
            assert!(!is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn letters_and_signs_are_printable() {
        for c in "aZ~ \"\\'\u{fc}\u{df}\u{20ac}\u{4e2d}\u{e2a}\u{5d0}\u{1f600}".chars() {
            assert!(is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn quotes_and_backslashes_stay_when_text_is_made_printable() {
        let text = "a\"\\u{1b}\"\x1b[1m\n\u{202e}\u{fc}";
        let expected = "a\"\\u{1b}\"\\u{1b}[1m\\n\\u{202e}\u{fc}";
        assert_eq!(Printable(text).to_string(), expected);
    }
}
