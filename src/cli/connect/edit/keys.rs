//! Splits the input of a terminal into keys: text, control characters, and the escape sequences of xterm, rxvt and the
//! Linux console.

/// A key, or text between other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'b> {
    /// One or more characters, without control characters other than tab.
    Text(&'b str),
    /// The character after Ctrl-V, which may be a control character.
    Literal(char),
    /// Bytes that are not UTF-8.
    Invalid,
    Enter,
    /// Ctrl-D.
    EndOfInput,
    /// Ctrl-C, if the terminal does not turn it into a signal.
    Interrupt,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    Backspace,
    Delete,
    DeleteWordLeft,
    DeleteWordRight,
    /// Ctrl-W deletes back to a space, as in shells.
    DeleteToSpace,
    DeleteToStart,
    DeleteToEnd,
    /// Inserts what was deleted last.
    Yank,
    ClearScreen,
    /// A key without a function.
    Other,
}

/// Returns the first key in `bytes`, and its length. `None` if `bytes` is empty, or is the beginning of a key.
pub(super) fn first(bytes: &[u8]) -> Option<(Key<'_>, usize)> {
    let key = match *bytes.first()? {
        b'\x1b' => return escape(bytes),
        b'\x16' => return literal(bytes),
        b'\t' | b' '..=b'~' | 0x80.. => return text(bytes),
        b'\r' | b'\n' => Key::Enter,
        b'\x01' => Key::Home,
        b'\x02' => Key::Left,
        b'\x03' => Key::Interrupt,
        b'\x04' => Key::EndOfInput,
        b'\x05' => Key::End,
        b'\x06' => Key::Right,
        b'\x08' | b'\x7f' => Key::Backspace,
        b'\x0b' => Key::DeleteToEnd,
        b'\x0c' => Key::ClearScreen,
        b'\x0e' => Key::Down,
        b'\x10' => Key::Up,
        b'\x15' => Key::DeleteToStart,
        b'\x17' => Key::DeleteToSpace,
        b'\x19' => Key::Yank,
        _ => Key::Other,
    };
    Some((key, 1))
}

fn text(bytes: &[u8]) -> Option<(Key<'_>, usize)> {
    let is_text = |&byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let len = bytes.iter().position(|byte| !is_text(byte));
    let run = &bytes[..len.unwrap_or(bytes.len())];
    let error = match std::str::from_utf8(run) {
        Ok(text) => return Some((Key::Text(text), run.len())),
        Err(error) => error,
    };
    if let Ok(text) = std::str::from_utf8(&run[..error.valid_up_to()])
        && !text.is_empty()
    {
        return Some((Key::Text(text), text.len()));
    }
    match error.error_len() {
        Some(len) => Some((Key::Invalid, len)),
        // The rest of the character may follow.
        None if len.is_none() => None,
        None => Some((Key::Invalid, run.len())),
    }
}

/// Ctrl-V and the character that follows.
fn literal(bytes: &[u8]) -> Option<(Key<'_>, usize)> {
    let rest = bytes.get(1..).filter(|rest| !rest.is_empty())?;
    if rest[0].is_ascii() {
        return Some((Key::Literal(rest[0].into()), 2));
    }
    match text(rest)? {
        (Key::Text(text), _) => {
            let first = text.chars().next()?;
            Some((Key::Literal(first), 1 + first.len_utf8()))
        }
        (_, len) => Some((Key::Invalid, 1 + len)),
    }
}

fn escape(bytes: &[u8]) -> Option<(Key<'_>, usize)> {
    let key = match *bytes.get(1)? {
        b'[' => return control_sequence(bytes),
        // SS3: the cursor keys in application mode.
        b'O' => return Some((named(*bytes.get(2)?, b""), 3)),
        // With Alt, or after Esc.
        b'b' => Key::WordLeft,
        b'f' => Key::WordRight,
        b'd' => Key::DeleteWordRight,
        b'\x08' | b'\x7f' => Key::DeleteWordLeft,
        b' '..=b'~' => Key::Other,
        // Esc alone, before a control character or another escape sequence.
        _ => return Some((Key::Other, 1)),
    };
    Some((key, 2))
}

/// ECMA-48 section 5.4: ESC `[`, parameters from 0x30 to 0x3F, intermediate bytes from 0x20 to 0x2F, a final byte from
/// 0x40 to 0x7E.
fn control_sequence(bytes: &[u8]) -> Option<(Key<'_>, usize)> {
    let rest = &bytes[2..];
    // The function keys of the Linux console.
    if rest.first() == Some(&b'[') {
        return rest.get(1).map(|_| (Key::Other, 4));
    }
    let is_parameter = |byte: &u8| matches!(byte, b' '..=b'?');
    match rest.iter().position(|byte| !is_parameter(byte)) {
        Some(end) if matches!(rest[end], b'@'..=b'~') => {
            Some((named(rest[end], &rest[..end]), 2 + end + 1))
        }
        // Not a control sequence: a control character in it, for example.
        Some(end) => Some((Key::Other, 2 + end)),
        None if rest.len() >= PARAMETERS_MAX => Some((Key::Other, bytes.len())),
        None => None,
    }
}

/// Returns the key of a control sequence or of SS3.
fn named(end: u8, parameters: &[u8]) -> Key<'static> {
    // With Alt (3) or Ctrl (5), the cursor keys skip words.
    let skips_word = matches!(parameters, [.., b'3' | b'5']);
    match (end, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if skips_word => Key::WordRight,
        (b'C', _) => Key::Right,
        (b'D', _) if skips_word => Key::WordLeft,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        // rxvt: with Ctrl.
        (b'c', b"") => Key::WordRight,
        (b'd', b"") => Key::WordLeft,
        // The Enter of the numeric keypad in application mode.
        (b'M', b"") => Key::Enter,
        (_, _) => Key::Other,
    }
}

/// Maximum length of the parameters of a control sequence; no key has as many.
const PARAMETERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all keys in `bytes`, which must not end within a key.
    fn keys(mut bytes: &[u8]) -> Vec<Key<'_>> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            let (key, len) = first(bytes).unwrap_or_else(|| panic!("incomplete: {bytes:?}"));
            assert!(len > 0 && len <= bytes.len());
            keys.push(key);
            bytes = &bytes[len..];
        }
        keys
    }

    #[test]
    fn text_and_keys_are_split() {
        let table: [(&[u8], &[Key<'_>]); 16] = [
            (b"a\tb\r", &[Key::Text("a\tb"), Key::Enter]),
            (
                "\u{e4}\u{1f600}\n".as_bytes(),
                &[Key::Text("\u{e4}\u{1f600}"), Key::Enter],
            ),
            (b"a\xFFb", &[Key::Text("a"), Key::Invalid, Key::Text("b")]),
            (b"\xC3\n", &[Key::Invalid, Key::Enter]),
            (b"\x1b[A\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[1;5C\x1b[1;3D", &[Key::WordRight, Key::WordLeft]),
            (
                b"\x1b[H\x1bOF\x1b[7~\x1b[4~",
                &[Key::Home, Key::End, Key::Home, Key::End],
            ),
            (
                b"\x1b[3~\x7f\x08",
                &[Key::Delete, Key::Backspace, Key::Backspace],
            ),
            (
                b"\x1b[200~a\x1b[201~",
                &[Key::Other, Key::Text("a"), Key::Other],
            ),
            (b"\x1b[[Aa", &[Key::Other, Key::Text("a")]),
            (b"\x1bb\x1b\x7f", &[Key::WordLeft, Key::DeleteWordLeft]),
            (b"\x1b\x1b[A", &[Key::Other, Key::Up]),
            (b"\x1b\n", &[Key::Other, Key::Enter]),
            (b"\x1b\xC3\xA4", &[Key::Other, Key::Text("\u{e4}")]),
            (b"\x1b[1\n", &[Key::Other, Key::Enter]),
            (
                b"\x16\x1b\x16\xC3\xA4a",
                &[Key::Literal('\x1b'), Key::Literal('\u{e4}'), Key::Text("a")],
            ),
        ];
        for (bytes, expected) in table {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_key_is_no_key() {
        let table: [&[u8]; 9] = [
            b"",
            b"\x1b",
            b"\x1b[",
            b"\x1b[[",
            b"\x1b[1;5",
            b"\x1bO",
            b"\x16",
            b"\xC3",
            b"\xF0\x9F\x98",
        ];
        for bytes in table {
            assert_eq!(first(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn endless_parameters_are_dropped() {
        let bytes = [b"\x1b[".as_slice(), &[b'1'; PARAMETERS_MAX]].concat();
        assert_eq!(first(&bytes), Some((Key::Other, bytes.len())));
    }

    /// Any bytes are consumed, and no byte is part of two keys.
    #[test]
    fn all_bytes_are_consumed() {
        let alphabet = b"\x1b[O1;~A\x16\xC3\xA4\xFFa\n";
        let count = alphabet.len().pow(4);
        for number in 0..count {
            let digit = |place: u32| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let bytes = [digit(0), digit(1), digit(2), digit(3)];
            let mut rest = &bytes[..];
            while let Some((_, len)) = first(rest) {
                assert!(len > 0 && len <= rest.len(), "{bytes:?}");
                rest = &rest[len..];
            }
        }
    }
}
