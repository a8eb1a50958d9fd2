//! Characters that output for people shows as they are, and those that it escapes.

use std::fmt::{self, Display, Write};

/// Returns whether a terminal shows `c` and neither obeys nor hides it. Control characters (C0, DEL, C1) are not
/// printable, nor are those that turn the direction of text (U+202A to U+202E, U+2066 to U+2069), line separators
/// (U+2028, U+2029), those without a width (U+200B to U+200F, U+FEFF), combining marks, and others that Unicode counts
/// as format, private or unassigned.
///
/// It decides as `{:?}` does, from the standard library's table.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        c => c.escape_debug().len() == 1,
    }
}

/// Displays a value with all that is not printable in Rust's notation (`\n`, `\u{1b}`). Backslashes and quotes stay as
/// they are: this is for text whose quoted parts are escaped already.
pub(super) struct Printable<T>(pub(super) T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Passes text on, escaped.
struct Escaping<'f, 'b>(&'f mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly all of a log.
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

    /// What no log must pass on: to a terminal that obeys it, or to a reader who does not see it.
    fn dangerous() -> impl Iterator<Item = char> {
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
        for c in dangerous() {
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
