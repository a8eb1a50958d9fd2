//! A line that is being typed: its text, the cursor, and the part that is visible. Knows keys, and no terminal.
//!
//! The line has one row on the screen, in which a long line scrolls. So a change redraws one row, however long the line
//! is, and the row survives output above it.

use super::super::screen::escaped;
use super::history::History;
use super::keys::{self, Key};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// An editor of lines.
pub(super) struct Editor {
    /// Input whose keys were not processed yet.
    unread: Vec<u8>,
    line: String,
    /// Position in `line`, in bytes.
    cursor: usize,
    /// Position in `line` of the first visible character.
    start: usize,
    /// What was deleted last.
    deleted: String,
    history: History,
    /// Maximum length of a line.
    line_bytes_max: usize,
    /// Whether text was dropped because the line would have become longer than `line_bytes_max`.
    is_too_long: bool,
}

/// A result of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// A line, without its line end.
    Line(String),
    /// A line that is longer than the maximum. It is dropped.
    TooLong,
    /// Ctrl-L.
    ClearScreen,
    /// Ctrl-D in an empty line.
    End,
}

/// The visible part of a line, for a terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) text: String,
    /// Columns before the cursor.
    pub(super) column: usize,
}

impl Editor {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Self {
            unread: Vec::new(),
            line: String::new(),
            cursor: 0,
            start: 0,
            deleted: String::new(),
            history: History::default(),
            line_bytes_max,
            is_too_long: false,
        }
    }

    pub(super) fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// Returns the line that is being typed.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Adds input of the terminal. Calls `on_entered` for each result of its keys.
    pub(super) fn push(&mut self, bytes: &[u8], on_entered: &mut dyn FnMut(Entered)) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut rest = &unread[..];
        while let Some((key, len)) = keys::first(rest) {
            rest = &rest[len..];
            if let Some(entered) = self.press(key) {
                on_entered(entered);
            }
        }
        self.unread = rest.to_owned();
    }

    fn press(&mut self, key: Key<'_>) -> Option<Entered> {
        match key {
            Key::Text(text) => self.insert(text),
            Key::Literal(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Invalid => self.insert("\u{FFFD}"),
            Key::Enter => return Some(self.enter()),
            Key::EndOfInput if self.line.is_empty() => return Some(Entered::End),
            Key::Interrupt => return Some(Entered::End),
            Key::ClearScreen => return Some(Entered::ClearScreen),
            Key::Left => self.cursor = self.left(),
            Key::Right => self.cursor = self.right(),
            Key::WordLeft => self.cursor = self.word_left(is_word),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => {
                if let Some(line) = self.history.older(&self.line) {
                    self.line = line.to_owned();
                    self.show_end();
                }
            }
            Key::Down => {
                if let Some(line) = self.history.newer() {
                    self.line = line.to_owned();
                    self.show_end();
                }
            }
            Key::Backspace => drop(self.remove(self.left(), self.cursor)),
            Key::Delete | Key::EndOfInput => drop(self.remove(self.cursor, self.right())),
            Key::DeleteWordLeft => self.cut(self.word_left(is_word), self.cursor),
            Key::DeleteToSpace => {
                let start = self.word_left(|c| !c.is_whitespace());
                self.cut(start, self.cursor);
            }
            Key::DeleteWordRight => self.cut(self.cursor, self.word_right()),
            Key::DeleteToStart => self.cut(0, self.cursor),
            Key::DeleteToEnd => self.cut(self.cursor, self.line.len()),
            Key::Yank => {
                let deleted = std::mem::take(&mut self.deleted);
                self.insert(&deleted);
                self.deleted = deleted;
            }
            Key::Other => {}
        }
        None
    }

    fn insert(&mut self, text: &str) {
        if self.line.len() + text.len() > self.line_bytes_max {
            self.is_too_long = true;
            return;
        }
        self.line.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    fn enter(&mut self) -> Entered {
        let line = std::mem::take(&mut self.line);
        self.show_end();
        if std::mem::take(&mut self.is_too_long) {
            return Entered::TooLong;
        }
        self.history.add(&line);
        Entered::Line(line)
    }

    /// Moves the cursor to the end of a line that has replaced another one.
    fn show_end(&mut self) {
        self.cursor = self.line.len();
        self.start = 0;
    }

    /// Removes and returns text. The cursor is at its start or end before, and where it was afterwards.
    fn remove(&mut self, start: usize, end: usize) -> String {
        self.cursor = start;
        self.line.drain(start..end).collect()
    }

    /// Removes text that [`Key::Yank`] can insert.
    fn cut(&mut self, start: usize, end: usize) {
        if start < end {
            self.deleted = self.remove(start, end);
        }
    }

    /// Returns the position of the character before the cursor.
    fn left(&self) -> usize {
        let mut before = self.line[..self.cursor].graphemes(true);
        self.cursor - before.next_back().map_or(0, str::len)
    }

    /// Returns the position after the character at the cursor.
    fn right(&self) -> usize {
        let mut after = self.line[self.cursor..].graphemes(true);
        self.cursor + after.next().map_or(0, str::len)
    }

    /// Returns the start of the word before the cursor.
    fn word_left(&self, is_word: fn(char) -> bool) -> usize {
        let before = &self.line[..self.cursor];
        let before = before.trim_end_matches(|c| !is_word(c));
        before.trim_end_matches(is_word).len()
    }

    /// Returns the end of the word after the cursor.
    fn word_right(&self) -> usize {
        let after = &self.line[self.cursor..];
        let after = after.trim_start_matches(|c| !is_word(c));
        self.line.len() - after.trim_start_matches(is_word).len()
    }

    /// Returns the visible part of the line, which has at most `columns`. Two dots stand for text before it. Scrolls if
    /// the cursor is not visible.
    pub(super) fn row(&mut self, columns: usize) -> Row {
        // The last column is for the cursor after the text.
        let columns = columns.max(COLUMNS_MIN) - 1;
        let is_hidden = self.start > self.cursor
            || !self.line.is_char_boundary(self.start)
            || self.start < self.columns_left(columns - DOTS.len());
        let fits = |end: usize| fitting(&self.line[..end], columns) == end;
        if fits(self.line.len()) || (is_hidden && fits(self.cursor)) {
            self.start = 0;
        } else if is_hidden {
            // To the middle, so that the text does not move with each key.
            self.start = self.columns_left(columns / 2);
        }
        let dots = if self.start > 0 { DOTS } else { "" };
        let rest = &self.line[self.start..];
        let rest = &rest[..fitting(rest, columns - dots.len())];
        let mut row = Row {
            text: dots.to_owned(),
            column: dots.len() + width(&self.line[self.start..self.cursor]),
        };
        for character in rest.graphemes(true) {
            row.text.push_str(&shown(character));
        }
        row
    }

    /// Returns the start of the text before the cursor that has at most `columns`.
    fn columns_left(&self, columns: usize) -> usize {
        let (mut start, mut sum) = (self.cursor, 0);
        for character in self.line[..self.cursor].graphemes(true).rev() {
            sum += shown(character).width();
            if sum > columns {
                break;
            }
            start -= character.len();
        }
        start
    }
}

/// Returns the text of an entered line for a terminal, on one row unless it is longer than the terminal is wide. Of a
/// long line, shows the beginning and the length.
pub(super) fn shown_line(line: &str) -> String {
    let mut end = line.len().min(LINE_BYTES_SHOWN_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let text: String = line[..end].graphemes(true).map(shown).collect();
    if end < line.len() {
        return format!("{text}.. ({} bytes)", line.len());
    }
    text
}

/// Returns the length of the beginning of `text` that has at most `columns`.
fn fitting(text: &str, columns: usize) -> usize {
    let (mut len, mut sum) = (0, 0);
    for character in text.graphemes(true) {
        sum += shown(character).width();
        if sum > columns {
            break;
        }
        len += character.len();
    }
    len
}

fn width(text: &str) -> usize {
    text.graphemes(true)
        .map(|character| shown(character).width())
        .sum()
}

/// Returns a character as it is shown: control characters are escaped, line ends and tabs too.
fn shown(character: &str) -> String {
    match character {
        "\t" => "\\t".to_owned(),
        "\n" => "\\n".to_owned(),
        "\r\n" => "\\r\\n".to_owned(),
        character => escaped(character),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Stands for text that is not visible.
const DOTS: &str = "..";

/// Below, the row is as if the terminal had so many columns: it wraps, and stays readable.
const COLUMNS_MIN: usize = 16;

/// Maximum number of bytes of an entered line that are shown.
const LINE_BYTES_SHOWN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "\x1b[D";

    /// Presses keys. Returns the results, of which [`Entered::Line`] is the line.
    fn press(editor: &mut Editor, keys: &str) -> Vec<Entered> {
        let mut all = Vec::new();
        editor.push(keys.as_bytes(), &mut |entered| all.push(entered));
        all
    }

    fn entered(keys: &str) -> Vec<Entered> {
        press(&mut Editor::new(100), keys)
    }

    fn line(text: &str) -> Entered {
        Entered::Line(text.to_owned())
    }

    #[test]
    fn keys_edit_the_line() {
        let table = [
            ("a\r\rb c\n", vec!["a", "", "b c"]),
            ("helo\x1b[Dl\r", vec!["hello"]),
            ("bc\x01a\x05d\r", vec!["abcd"]),
            ("abc\x02\x02\x04\r", vec!["ac"]),
            ("abc\x1b[H\x1b[3~\x7f\r", vec!["bc"]),
            ("one two three\x17\x17four\r", vec!["one four"]),
            ("one.two\x1b\x7f|\x1bb\x1b[1;5Dx\r", vec!["xone.|"]),
            ("one two\x01\x1bd\x1bf!\r", vec![" two!"]),
            ("end start\x17\x01\x19 \x05\x15x\x19\r", vec!["xstart end "]),
            ("abcd\x02\x02\x0b\x01\x19\r", vec!["cdab"]),
            ("a\tb\x16\x1b[1m\r", vec!["a\tb\x1b[1m"]),
            (
                "\u{e4}o\u{308}\u{1f469}\u{200d}\u{1f680}\x7f\x7fx\r",
                vec!["\u{e4}x"],
            ),
            ("\x1b[5~\x07\x1b[99;99u\r", vec![""]),
            ("a\rb\rc\x1b[A\x1b[A\x10\r\x10\r", vec!["a", "b", "a", "a"]),
            ("a\rtyped\x1b[A\x1b[B\x1b[B!\r", vec!["a", "typed!"]),
        ];
        for (keys, lines) in table {
            let lines: Vec<_> = lines.into_iter().map(line).collect();
            assert_eq!(entered(keys), lines, "{keys:?}");
            // One byte at a time.
            let (mut editor, mut all) = (Editor::new(100), Vec::new());
            for byte in keys.as_bytes() {
                editor.push(&[*byte], &mut |entered| all.push(entered));
            }
            assert_eq!(all, lines, "{keys:?}");
        }
    }

    #[test]
    fn ctrl_d_ends_the_input_only_in_an_empty_line() {
        assert_eq!(entered("\x04"), [Entered::End]);
        assert_eq!(entered("ab\x04\x02\x04\x7f\x04"), [Entered::End]);
        assert_eq!(entered("ab\x03"), [Entered::End]);
    }

    #[test]
    fn a_line_above_the_maximum_is_dropped_and_the_next_one_is_not() {
        let mut editor = Editor::new(3);
        assert_eq!(press(&mut editor, "abc\r"), [line("abc")]);
        let keys = "abc\x02d\r\x1b[A\r";
        assert_eq!(press(&mut editor, keys), [Entered::TooLong, line("abc")]);
    }

    fn row(editor: &mut Editor, columns: usize) -> (String, usize) {
        let row = editor.row(columns);
        (row.text, row.column)
    }

    #[test]
    fn a_long_line_scrolls_with_the_cursor() {
        let mut editor = Editor::new(1000);
        let mut is = |keys: &str, text: &str, column| {
            press(&mut editor, keys);
            assert_eq!(row(&mut editor, 21), (text.to_owned(), column), "{keys:?}");
        };
        is("abcdefghijklmnopqrst", "abcdefghijklmnopqrst", 20);
        is("u", "..lmnopqrstu", 12);
        is("vwx", "..lmnopqrstuvwx", 15);
        is("yzABC", "..lmnopqrstuvwxyzABC", 20);
        is("D", "..uvwxyzABCD", 12);
        is(LEFT, "..uvwxyzABCD", 11);
        is("\x01", "abcdefghijklmnopqrst", 0);
        is("\x1b[C", "abcdefghijklmnopqrst", 1);
        is("\x05", "..uvwxyzABCD", 12);
        is(
            "\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02",
            "abcdefghijklmnopqrst",
            19,
        );
        is("\x0b\x7f\x7f", "abcdefghijklmnopq", 17);
        is("\x15", "", 0);
    }

    #[test]
    fn wide_combining_and_control_characters_have_their_columns() {
        let mut editor = Editor::new(1000);
        press(&mut editor, "\u{65e5}\u{672c}e\u{301}\t\x16\x1b");
        let text = "\u{65e5}\u{672c}e\u{301}\\t\\u{1b}";
        assert_eq!(row(&mut editor, 40), (text.to_owned(), 13));
        press(&mut editor, "\x02\x02\x02");
        assert_eq!(row(&mut editor, 40), (text.to_owned(), 4));
    }

    /// Any keys leave the cursor visible, in a row that fits.
    #[test]
    fn the_cursor_is_always_visible() {
        let keys = [
            "a",
            "word ",
            "\u{65e5}",
            "e\u{301}",
            "\u{301}",
            "\t",
            LEFT,
            "\x1b[C",
            "\x01",
            "\x05",
            "\x7f",
            "\x04x",
            "\x17",
            "\x15",
            "\x0b",
            "\x19",
            "\x1bb",
            "\x1bf",
            "\x10",
            "\x0e",
            "\r",
            "\u{1f469}\u{200d}",
            "\u{1f680}",
            "0123456789012345678901234567890123456789",
        ];
        let mut state = 1_u64;
        let mut editor = Editor::new(300);
        for step in 0..30_000 {
            // Knuth's MMIX generator.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = keys[(state >> 33) as usize % keys.len()];
            press(&mut editor, key);
            if state >> 62 == 0 {
                continue;
            }
            let columns = 16 + (state >> 50) as usize % 30;
            let Row { text, column } = editor.row(columns);
            assert!(
                width(&text) < columns && column < columns,
                "{step} {key:?} {text:?}"
            );
            assert!(editor.line.is_char_boundary(editor.cursor), "{step}");
        }
    }

    #[test]
    fn of_a_long_entered_line_the_beginning_and_the_length_are_shown() {
        assert_eq!(shown_line("a\tb\n"), "a\\tb\\n");
        let long = "\u{e4}".repeat(600);
        let expected = format!("{}.. (1200 bytes)", "\u{e4}".repeat(512));
        assert_eq!(shown_line(&long), expected);
    }
}
